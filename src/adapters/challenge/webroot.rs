//! http-01 from files below another server's document root: `DIR/.well-known/acme-challenge/TOKEN`.
//!
//! The document root may belong to somebody else, even to somebody hostile: every step below it goes through a directory
//! descriptor and follows no link, a file is made under a random name with `O_EXCL` and then renamed, and nothing is
//! opened for writing that was there before.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, mkdirat, open, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{Presented, failed};
use crate::domain::execution::Fault;
use crate::ports::{ChallengeTask, Entropy, SolverError};

/// The directories below the document root (RFC 8555 section 8.3).
const BELOW: [&str; 2] = [".well-known", "acme-challenge"];

/// Where to write.
pub(super) struct Webroot {
    dir: PathBuf,
    entropy: Arc<dyn Entropy>,
    table: Presented<()>,
}

impl Webroot {
    pub(super) fn start(dir: PathBuf, entropy: Arc<dyn Entropy>) -> Result<Self, String> {
        if !dir.is_absolute() {
            return Err(format!("the document root {} is not an absolute path", dir.display()));
        }
        Ok(Self { dir, entropy, table: Presented::new() })
    }

    pub(super) async fn present(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        self.table.insert(task, ())?;
        let mut random = [0_u8; 8];
        self.entropy.fill(&mut random);
        // A token cannot start with a dot, so a temporary name is never a token.
        let temporary = format!(".{:016x}.tmp", u64::from_be_bytes(random));
        let (token, content) = (task.token.clone(), task.key_authorization.clone());
        self.blocking(move |dir| write(&dir, &temporary, &token, &content)).await
    }

    pub(super) async fn cleanup(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        self.table.remove(task);
        let (token, content) = (task.token.clone(), task.key_authorization.clone());
        self.blocking(move |dir| remove(&dir, &token, &content)).await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(PathBuf) -> Result<(), String> + Send + 'static,
    ) -> Result<(), SolverError> {
        let dir = self.dir.clone();
        let done = tokio::task::spawn_blocking(move || work(dir)).await;
        done.unwrap_or_else(|e| Err(format!("the work was broken off: {e}"))).map_err(|e| failed(Fault::Host, e))
    }
}

/// Opens the challenge directory without following a link below `dir`, and makes it if `make` says so.
fn challenge_directory(dir: &Path, make: Make) -> Result<Option<OwnedFd>, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = match (open(dir, flags, Mode::empty()), make) {
        (Ok(fd), _) => fd,
        (Err(Errno::NOENT), Make::No) => return Ok(None),
        (Err(e), _) => return Err(format!("the document root {} cannot be opened: {e}", dir.display())),
    };
    let mut path = dir.to_path_buf();
    for name in BELOW {
        path.push(name);
        // The umask decides who may read the directories: whoever sets one means it.
        if make == Make::Yes
            && let Err(e) = mkdirat(&at, name, Mode::from_raw_mode(0o755))
            && e != Errno::EXIST
        {
            return Err(format!("{} cannot be made: {e}", path.display()));
        }
        at = match (openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty()), make) {
            (Ok(fd), _) => fd,
            (Err(Errno::NOENT), Make::No) => return Ok(None),
            (Err(Errno::LOOP | Errno::NOTDIR), _) => {
                return Err(format!(
                    "{} is not a directory (a link is not followed); replace it by one",
                    path.display()
                ));
            }
            (Err(e), _) => return Err(format!("{} cannot be opened: {e}", path.display())),
        };
    }
    Ok(Some(at))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    Yes,
    No,
}

fn write(dir: &Path, temporary: &str, token: &str, content: &str) -> Result<(), String> {
    let place = |e: &dyn core::fmt::Display| {
        let [first, second] = BELOW;
        format!("the response cannot be written to {}/{first}/{second}/{token}: {e}", dir.display())
    };
    let at = challenge_directory(dir, Make::Yes)?.ok_or_else(|| place(&"it is gone"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&at, temporary, flags, Mode::from_raw_mode(0o600)).map_err(|e| place(&e))?;
    let written = (|| {
        let mut file = File::from(fd);
        file.write_all(content.as_bytes()).map_err(|e| place(&e))?;
        // Only now, when it is whole, may the web server's user read it; whatever the umask is.
        fchmod(&file, Mode::from_raw_mode(0o644)).map_err(|e| place(&e))?;
        // A rename replaces a link or FIFO of that name and follows none.
        renameat(&at, temporary, &at, token).map_err(|e| place(&e))
    })();
    if written.is_err() {
        // The first error is the one to tell; a temporary file left behind is 200 bytes.
        unlinkat(&at, temporary, AtFlags::empty()).unwrap_or_default();
    }
    written
}

fn remove(dir: &Path, token: &str, content: &str) -> Result<(), String> {
    let Some(at) = challenge_directory(dir, Make::No)? else { return Ok(()) };
    // NONBLOCK: a FIFO under this name must not hold us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = openat(&at, token, flags, Mode::empty()) else { return Ok(()) };
    if !fstat(&fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile) {
        return Ok(());
    }
    let mut seen = Vec::new();
    let limit = u64::try_from(content.len()).unwrap_or(u64::MAX).saturating_add(1);
    if File::from(fd).take(limit).read_to_end(&mut seen).is_err() || seen != content.as_bytes() {
        // Somebody else's by now.
        return Ok(());
    }
    match unlinkat(&at, token, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(format!("the response {token} cannot be removed from {}: {e}", dir.display())),
    }
}
