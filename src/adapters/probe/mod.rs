//! Looking at what is stored and what is served.
//!
//! Refuses to judge: a chain that is expired, untrusted or for other names is reported as it is. What is missing, what
//! cannot be read and what cannot be understood are three things.

mod files;
mod starttls;
mod tls;

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::codec::live_roots::LiveRoots;
use crate::codec::verify::Roots;
use crate::domain::certificate::Chain;
use crate::domain::inventory::{Care, Credential, CrlSeen, Endpoint, Install, Layout, Seen, Source};
use crate::ports::{Doing, HostError, Prober};

/// Files read at once. They come from the page cache; more would only wait for the same cores. A reader that hangs (a
/// dead network file system) keeps its place, so that hanging threads stay bounded too.
const FILES_AT_ONCE: usize = 16;

/// A file that takes longer than this is reported as unreadable.
const FILE_DEADLINE: Duration = Duration::from_secs(5);

/// Credentials whose revocation lists are read at once, one list after the other. A list of 16 MiB takes about 45 MiB while
/// it is decoded, so this many take 180 MiB at the very worst; a reader that hangs keeps its place here too.
const LISTS_AT_ONCE: usize = 4;

/// So long a credential waits for its turn there: four times the deadline, so that those before it may all be late.
const LISTS_TURN: Duration = Duration::from_secs(20);

/// Looks at files and endpoints. Cheap to clone.
#[derive(Clone)]
pub struct SystemProber {
    roots: LiveRoots,
    sandbox: Option<PathBuf>,
    files: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    tls: tls::Prober,
}

impl fmt::Debug for SystemProber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemProber")
    }
}

impl SystemProber {
    /// Judges trust by these roots: those of the system and of every issuer. With a `sandbox`, installed files are
    /// looked for below it, where the deployer puts them in a staging run.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(roots: LiveRoots, sandbox: Option<PathBuf>) -> Result<Self, HostError> {
        let tls = tls::Prober::new(roots.clone())?;
        let (files, lists) = (Semaphore::new(FILES_AT_ONCE), Semaphore::new(LISTS_AT_ONCE));
        Ok(Self { roots, sandbox, files: Arc::new(files), lists: Arc::new(lists), tls })
    }

    /// Runs file work on a thread that may block, within the deadline.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Roots) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let (roots, files) = (self.roots.now(), Arc::clone(&self.files));
        let run = async move {
            let place = files.acquire_owned().await.map_err(|_| HostError("the prober was stopped".to_owned()))?;
            worker(place, move || work(&roots)).await
        };
        tokio::time::timeout(FILE_DEADLINE, run).await.unwrap_or(Err(late()))
    }

    /// The same for revocation lists, where the deadline starts when their turn comes.
    async fn reading<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HostError> {
        let turn = tokio::time::timeout(LISTS_TURN, Arc::clone(&self.lists).acquire_owned()).await;
        let Ok(Ok(place)) = turn else {
            let text = format!("others were read for longer than {} s", LISTS_TURN.as_secs());
            return Err(HostError(text));
        };
        tokio::time::timeout(FILE_DEADLINE, worker(place, work)).await.unwrap_or(Err(late()))
    }

    async fn look(&self, work: impl FnOnce(&Roots) -> Seen + Send + 'static) -> Seen {
        self.blocking(work).await.unwrap_or_else(|error| Seen::Unreadable(error.0))
    }
}

/// Work on a thread that may block; it keeps its place until it is done, however long that takes.
async fn worker<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    let worker = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    worker.await.map_err(|_| HostError("the prober's worker was stopped".to_owned()))
}

fn late() -> HostError {
    HostError(format!("reading took longer than {} s", FILE_DEADLINE.as_secs()))
}

/// The set at the same paths below the sandbox.
fn below(sandbox: Option<&Path>, install: &Install) -> Install {
    let mut install = install.clone();
    let Some(sandbox) = sandbox else { return install };
    let moved = |path: &str| format!("{}/{}", sandbox.display(), path.trim_start_matches('/'));
    install.layout = match install.layout {
        Layout::Versioned { dir, formats } => Layout::Versioned { dir: moved(&dir), formats },
        Layout::Plain { files } => {
            Layout::Plain { files: files.into_iter().map(|(f, path)| (f, moved(&path))).collect() }
        }
    };
    install
}

impl Prober for SystemProber {
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen> {
        match &credential.care {
            Care::Observed(source) => self.source(source),
            // Without any, only the key store holds it; nothing is installed that could be looked at.
            Care::Managed(managed) => {
                let installs: Vec<Install> =
                    managed.installs.iter().map(|i| below(self.sandbox.as_deref(), i)).collect();
                Box::pin(self.look(move |roots| files::installed(&installs, roots)))
            }
        }
    }

    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen> {
        match source {
            Source::Endpoints => Box::pin(async { Seen::Missing }),
            Source::File { path, password_file } => {
                let (path, password_file) = (path.clone(), password_file.clone());
                Box::pin(self.look(move |roots| files::watched(&path, password_file.as_deref(), roots)))
            }
        }
    }

    fn matches<'a>(&'a self, pattern: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        let pattern = pattern.to_owned();
        Box::pin(async move { self.blocking(move |_| files::matches(&pattern)).await? })
    }

    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen> {
        Box::pin(self.tls.served(endpoint))
    }

    fn crls<'a>(&'a self, credential: &'a Credential, chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<String, CrlSeen>> {
        let (files, chain) = (credential.list_files().cloned().collect::<Vec<_>>(), Arc::clone(chain));
        Box::pin(async move {
            let each = move || files.into_iter().map(|f| (f.clone(), files::revocations(&f, &chain))).collect();
            let unread = |error: HostError| {
                let seen = CrlSeen::Unreadable(format!("cannot be read: {error}"));
                credential.list_files().map(|file| (file.clone(), seen.clone())).collect()
            };
            self.reading(each).await.unwrap_or_else(unread)
        })
    }
}
