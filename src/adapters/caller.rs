//! Who is at the other end of a Unix socket: what the kernel says about the process that connected.
//!
//! The kernel names user, group and process as they were when it connected (`SO_PEERCRED`). A descriptor of that process
//! (pidfd) is opened at once, and whatever is read of `/proc/PID` counts only if the descriptor says afterwards that the
//! process has not ended: until then nobody else can have its number. Refuses to know who may have what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use crate::domain::key::Digest;
use crate::domain::workload::Caller;

/// Programs are at most this long, or their digest is not told: a Chromium has 250 MB, and reading a GiB takes a second.
const LONGEST_PROGRAM: u64 = 1 << 30;
/// So many digests are remembered; beyond that it begins anew.
const MOST_PROGRAMS: usize = 256;
/// Bytes that are read at once.
const PIECE: usize = 256 * 1_024;

/// The process at the other end of a socket.
#[derive(Debug)]
pub struct PeerProcess {
    pid: u32,
    uid: u32,
    gid: u32,
    process: OwnedFd,
}

impl PeerProcess {
    /// Whoever connected.
    ///
    /// # Errors
    /// If it has ended, or the kernel does not name it: it is in another world of process numbers.
    pub fn of(stream: &UnixStream) -> Result<Self, String> {
        let told = stream.peer_cred().map_err(|e| format!("the kernel does not say who connected: {e}"))?;
        let (uid, gid) = (told.uid(), told.gid());
        let number = told.pid().filter(|pid| *pid > 0);
        let unknown = || "the process that connected has no number here: it is outside of our pid namespace".to_owned();
        let pid = number.and_then(Pid::from_raw).ok_or_else(unknown)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| {
            format!("the process that connected (pid {pid}, uid {uid}) cannot be held: {}", std::io::Error::from(e))
        })?;
        let pid = u32::try_from(pid.as_raw_nonzero().get()).map_err(|_| unknown())?;
        Ok(Self { pid, uid, gid, process })
    }

    /// Its user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether it has not ended. If that cannot be told, it has.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut end = [PollFd::new(&self.process, PollFlags::IN)];
        matches!(poll(&mut end, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }

    /// What is known of it now; its program is read only if the digest is wanted.
    ///
    /// # Errors
    /// If it has ended: what was read may be about another process.
    pub async fn look(&self, programs: &Arc<Programs>, digest: Want) -> Result<Caller, String> {
        let link = format!("/proc/{}/exe", self.pid);
        let (known, read) = (programs.clone(), link.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let path = own_path(&read);
            (path, if digest == Want::Digest { known.digest(&read) } else { None })
        });
        let (path, sha256) = reading.await.unwrap_or((None, None));
        if !self.is_alive() {
            return Err(format!("the process that connected (pid {}, uid {}) has ended", self.pid, self.uid));
        }
        Ok(Caller { pid: self.pid, uid: self.uid, gid: self.gid, path, sha256 })
    }
}

/// Whether a program's digest is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Path and ids are enough.
    Ids,
    /// The digest too.
    Digest,
}

/// The path of a program, if the file there is the one that runs: a process in other mounts may run another file under
/// that name, and a program that was replaced is not what stands there now.
fn own_path(link: &str) -> Option<Arc<str>> {
    let path = std::fs::read_link(link).ok()?;
    let path = path.to_str()?;
    // The first follows to the very file; the second must not follow anything.
    let (runs, here) = (std::fs::metadata(link).ok()?, std::fs::symlink_metadata(Path::new(path)).ok()?);
    let same = runs.dev() == here.dev() && runs.ino() == here.ino() && here.is_file();
    same.then(|| Arc::from(path))
}

/// Digests of programs that were read, by file and state of the file.
#[derive(Debug, Default)]
pub struct Programs(Mutex<BTreeMap<State, Digest>>);

/// Device, inode, size, and the times of the last change of contents and of anything.
type State = (u64, u64, u64, (i64, i64), (i64, i64));

impl Programs {
    fn digest(&self, link: &str) -> Option<Digest> {
        let mut file = File::open(link).ok()?;
        let before = state(&file)?;
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&before) {
            return Some(*known);
        }
        if before.2 > LONGEST_PROGRAM {
            return None;
        }
        let (mut context, mut piece) = (Context::new(&SHA256), vec![0; PIECE]);
        let mut left = LONGEST_PROGRAM;
        loop {
            let read = file.read(&mut piece).ok()?;
            if read == 0 {
                break;
            }
            left = left.checked_sub(u64::try_from(read).ok()?)?;
            context.update(piece.get(..read)?);
        }
        let digest = Digest(context.finish().as_ref().try_into().ok()?);
        // Changed meanwhile, it is neither the one nor the other.
        if state(&file)? != before {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_PROGRAMS {
            known.clear();
        }
        known.insert(before, digest);
        Some(digest)
    }
}

fn state(file: &File) -> Option<State> {
    let m = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((m.dev(), m.ino(), m.len(), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[tokio::test]
    async fn a_process_is_told_with_its_program_and_digest() {
        let (one, _other) = pair().await;
        let peer = PeerProcess::of(&one).unwrap();
        let programs = Arc::new(Programs::default());
        let own = std::fs::read_link("/proc/self/exe").unwrap();
        let caller = peer.look(&programs, Want::Digest).await.unwrap();
        assert_eq!(caller.path.as_deref(), own.to_str());
        assert_eq!(caller.sha256, Some(Digest::of(&std::fs::read(&own).unwrap())));
        assert_eq!((caller.pid, peer.is_alive()), (std::process::id(), true));
        assert_eq!(peer.look(&programs, Want::Ids).await.unwrap().sha256, None);
    }

    #[test]
    fn a_file_that_was_replaced_or_is_gone_has_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other, link) = (dir.path().join("one"), dir.path().join("other"), dir.path().join("link"));
        std::fs::write(&one, "1").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        assert_eq!(own_path(link.to_str().unwrap()).as_deref(), one.to_str());
        // As a link of /proc would be: to another file than the one that has the name.
        std::os::unix::fs::symlink(&link, &other).unwrap();
        assert_eq!(own_path(other.to_str().unwrap()), None);
        std::fs::remove_file(&one).unwrap();
        assert_eq!(own_path(link.to_str().unwrap()), None);
    }
}
