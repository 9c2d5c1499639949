//! One small file per origin, each written whole or not at all: what a witness cosigned last, or what a follower saw last.
//!
//! A file has the name of the origin's hash. It is written beside its place at 0600, flushed, renamed, and the directory
//! flushed after it. Its first line holds the hash of the rest, so that a flipped bit is seen. One process at a time holds
//! the directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::codec::follow::Keep;
use crate::codec::note::LONGEST_NOTE;
use crate::domain::key::Digest;

/// What the first line begins with.
const HEAD: &str = "keyward-seen v1 ";
/// A note with its first line.
const LONGEST_FILE: usize = LONGEST_NOTE + 128;
/// The file that is locked.
const LOCK: &str = ".lock";

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// The old one is in place.
    #[error("{0}")]
    Unchanged(String),
    /// Which of them a restart will find is not known.
    #[error("{0}; whether it survives a power cut is not known")]
    Unknown(String),
}

/// A directory of them.
#[derive(Debug)]
pub struct SeenFiles {
    dir: PathBuf,
    /// Closing it gives the directory free.
    _lock: File,
}

impl SeenFiles {
    /// Opens the directory, made at 0700 if missing.
    ///
    /// # Errors
    /// A sentence: it belongs to somebody else, others may write there, or another process holds it.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let said = |what: &str, e: io::Error| format!("{} cannot be {what}: {e}", dir.display());
        if !dir.exists() {
            DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(|e| said("made", e))?;
            if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent).and_then(|d| d.sync_all()).map_err(|e| said("flushed into its parent", e))?;
            }
        }
        let seen = fs::metadata(dir).map_err(|e| said("looked at", e))?;
        let own = rustix::process::geteuid().as_raw();
        if !seen.is_dir() || seen.uid() != own || seen.mode() & 0o022 != 0 {
            let (owner, mode) = (seen.uid(), seen.mode() & 0o7777);
            return Err(format!(
                "{} has owner {owner} and mode {mode:04o}; expected a directory of user {own} that nobody else may write to: \
                 run chmod 0700 on it",
                dir.display()
            ));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock =
            rustix::fs::open(dir.join(LOCK), flags, Mode::RUSR | Mode::WUSR).map_err(|e| said("locked", e.into()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: File::from(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(format!("another process holds {}; stop it, or use another directory", dir.display()))
            }
            Err(e) => Err(said("locked", e.into())),
        }
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(Digest::of(origin.as_bytes()).to_string())
    }

    /// The text that was written last for an origin.
    ///
    /// # Errors
    /// If there is a file that cannot be read or is damaged.
    pub fn read(&self, origin: &str) -> Result<Option<String>, String> {
        let path = self.path(origin);
        let said = |why: String| format!("{} {why}", path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(said(format!("cannot be opened: {e}"))),
        };
        let most = u64::try_from(LONGEST_FILE).unwrap_or(u64::MAX);
        let mut text = String::new();
        file.take(most).read_to_string(&mut text).map_err(|e| said(format!("cannot be read: {e}")))?;
        let damaged = || said("is damaged: its first line is not the hash of the rest".into());
        let (head, rest) = text.split_once('\n').ok_or_else(damaged)?;
        let right = head.strip_prefix(HEAD) == Some(Digest::of(rest.as_bytes()).to_string().as_str());
        if right { Ok(Some(rest.to_owned())) } else { Err(damaged()) }
    }

    /// Replaces it; durable on return.
    ///
    /// # Errors
    /// [`NotWritten`] says whether the old one is still in place.
    pub fn write(&self, origin: &str, text: &str) -> Result<(), NotWritten> {
        let path = self.path(origin);
        // One writer per origin: whoever calls sees to that. What a crash left behind is written over.
        let tmp = path.with_extension("new");
        let whole = format!("{HEAD}{}\n{text}", Digest::of(text.as_bytes()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = rustix::fs::open(&tmp, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from).and_then(|fd| {
            let mut file = File::from(fd);
            file.write_all(whole.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|e| NotWritten::Unchanged(format!("{} cannot be written: {e}", tmp.display())))?;
        fs::rename(&tmp, &path)
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(|e| NotWritten::Unknown(format!("{} cannot be put in place: {e}", path.display())))
    }
}

impl Keep for SeenFiles {
    fn load(&self, origin: &str) -> Result<Option<String>, String> {
        self.read(origin)
    }

    fn store(&mut self, origin: &str, note: &str) -> Result<(), String> {
        self.write(origin, note).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_a_flipped_bit_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let files = SeenFiles::open(&dir.path().join("seen")).unwrap();
        assert_eq!(files.read("a"), Ok(None));
        files.write("a", "one\n").unwrap();
        files.write("a", "two\n").unwrap();
        files.write("b", "three\n").unwrap();
        assert_eq!((files.read("a"), files.read("b")), (Ok(Some("two\n".into())), Ok(Some("three\n".into()))));
        let path = files.path("a");
        let whole = fs::read(&path).unwrap();
        for n in 0..whole.len() {
            let mut bent = whole.clone();
            bent[n] ^= 1;
            fs::write(&path, bent).unwrap();
            assert!(files.read("a").is_err(), "byte {n}");
            fs::write(&path, &whole[..n]).unwrap();
            assert!(files.read("a").is_err(), "cut at {n}");
        }
    }

    #[test]
    fn one_process_holds_the_directory_and_others_may_not_write_there() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("seen");
        let first = SeenFiles::open(&own).unwrap();
        assert!(SeenFiles::open(&own).unwrap_err().contains("another process holds"));
        drop(first);
        SeenFiles::open(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(SeenFiles::open(&own).unwrap_err().contains("chmod 0700"));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let files = SeenFiles::open(dir.path()).unwrap();
        let foreign = dir.path().join("foreign");
        fs::write(&foreign, "x").unwrap();
        std::os::unix::fs::symlink(&foreign, files.path("a").with_extension("new")).unwrap();
        assert!(matches!(files.write("a", "one\n"), Err(NotWritten::Unchanged(_))));
        assert_eq!(fs::read_to_string(foreign).unwrap(), "x");
    }
}
