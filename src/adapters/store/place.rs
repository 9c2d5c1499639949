//! Whether the files that are written are still the ones that a restart will find, and whether there is room.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::ports::{Batch, StoreError};

use super::directory;
use super::lockfile::LockFile;

/// Below this many free bytes nothing is written: a group, and what moves the write-ahead log into the database, are not to
/// take the last that there is.
const LEAST_FREE: u64 = 16 * 1_024 * 1_024;
/// What a change or an entry may need in the write-ahead log and in the database, where it shares its pages with others
/// of its group.
const ROW: u64 = 12 * 1_024;

/// The files by path and by what the path named at the start.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    files: Vec<(PathBuf, Identity)>,
}

type Identity = (u64, u64);

impl Place {
    /// Of an open database with its write-ahead log, and of the lock.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(super) fn of(database: &Path, lock: &LockFile) -> Result<Self, StoreError> {
        let dir = database.parent().unwrap_or(Path::new("/")).to_owned();
        let mut wal = database.as_os_str().to_owned();
        wal.push("-wal");
        let files = [database.to_owned(), wal.into(), lock.path().to_owned()].into_iter();
        let files = files
            .map(|path| match identity(&path) {
                Ok(identity) => Ok((path, identity)),
                Err(e) => Err(directory::unavailable("look at", &path, &e)),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { dir, files })
    }

    /// Whether each path still names its file.
    ///
    /// # Errors
    /// Says which does not.
    pub(super) fn check(&self) -> Result<(), String> {
        self.files.iter().try_for_each(|(path, known)| match identity(path) {
            Ok(found) if found == *known => Ok(()),
            Ok(_) => Err(format!("{} was replaced while it was in use", path.display())),
            Err(e) => Err(format!("{} is gone while it was in use: {e}", path.display())),
        })
    }

    /// Whether there is room for these batches.
    ///
    /// # Errors
    /// Says how much is missing.
    pub(super) fn room<'b>(&self, batches: impl Iterator<Item = &'b Batch>) -> Result<(), String> {
        let seen = rustix::fs::statvfs(&self.dir)
            .map_err(|e| format!("cannot see how much room {} has: {e}", self.dir.display()))?;
        let free = seen.f_bavail.saturating_mul(seen.f_frsize);
        let need = batches.fold(0, |sum: u64, batch| sum.saturating_add(need(batch))).max(LEAST_FREE);
        if free >= need {
            return Ok(());
        }
        let (dir, free, need) = (self.dir.display(), free / 1_024, need / 1_024);
        Err(format!("the disk of {dir} is full: {free} KiB are free and {need} KiB are wanted; make room"))
    }
}

fn need(batch: &Batch) -> u64 {
    let rows = batch.changes.len().saturating_add(batch.entries.len());
    let evidence = batch.entries.iter().flat_map(|draft| &draft.evidence);
    // In the write-ahead log and in the database.
    let bytes = evidence.fold(0, |sum: usize, e| sum.saturating_add(e.bytes.len())).saturating_mul(2);
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    number(rows).saturating_mul(ROW).saturating_add(number(bytes))
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|seen| (seen.dev(), seen.ino()))
}
