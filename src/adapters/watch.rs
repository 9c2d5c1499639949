//! Watches directories for changed files (inotify), so that a change is looked at within a second instead of at the next
//! poll. Polling goes on beside it: network file systems tell nothing, and Kubernetes swaps links.
//!
//! Refuses to know what a file means: it names the directory that changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::{Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::ports::HostError;

/// At most this many directories are watched; the others are polled only. The kernel's default is 8,192 for a user.
const MOST_DIRECTORIES: usize = 2_048;

/// Watches until dropped.
pub struct DirectoryWatch {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl core::fmt::Debug for DirectoryWatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(&self.watched).finish()
    }
}

impl DirectoryWatch {
    /// Watches nothing yet. `changed` is called on a thread of its own with the directory in which something changed; it
    /// must not block.
    ///
    /// # Errors
    /// If the kernel gives no watch.
    pub fn new(changed: impl Fn(&Path) + Send + 'static) -> Result<Self, HostError> {
        let handler = move |event: Result<notify::Event, notify::Error>| {
            let Ok(event) = event else { return };
            // Reading a file is no change; our own probes would wake us for ever.
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            let directories: BTreeSet<&Path> = event.paths.iter().filter_map(|p| p.parent()).collect();
            directories.into_iter().for_each(&changed);
            // The directory itself was replaced or removed.
            event.paths.iter().for_each(|p| changed(p));
        };
        let watcher = RecommendedWatcher::new(handler, Config::default()).map_err(|e| HostError(e.to_string()))?;
        Ok(Self { watcher, watched: BTreeSet::new() })
    }

    /// Watches exactly these directories from now on; returns those that cannot be watched, which polling must cover.
    pub fn set(&mut self, directories: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        for gone in self.watched.difference(directories) {
            // A directory that was removed took its watch along.
            drop(self.watcher.unwatch(gone));
        }
        self.watched.retain(|d| directories.contains(d));
        let mut missed = Vec::new();
        for new in directories {
            let full = self.watched.len() >= MOST_DIRECTORIES;
            if self.watched.contains(new) {
                continue;
            }
            if !full && self.watcher.watch(new, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(new.clone());
            } else {
                missed.push(new.clone());
            }
        }
        missed
    }
}
