//! The account directory: account keys and what the CA called the account. Owns durability and modes.
//!
//! Files of an issuer: `ID.key` (PKCS#8 PEM), `ID.next-key` (during a rollover), `ID.account.json`. Each is written to a
//! new file at 0600, flushed, renamed and the directory flushed before the caller goes on.

use core::time::Duration;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, RenameFlags};
use zeroize::Zeroizing;

use crate::domain::time::Timestamp;
use crate::ports::Entropy;

/// The directory. Only one daemon writes to it: the state directory's lock sees to that.
pub(super) struct AccountDir {
    path: PathBuf,
    entropy: Arc<dyn Entropy>,
}

/// Whether an existing file may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    /// No: an account key is never overwritten.
    Never,
    /// Yes.
    Always,
}

/// No file here is larger: a P-256 key in PEM has 241 bytes, the JSON a few hundred plus contacts.
const LARGEST: u64 = 64 * 1024;
/// A half-written file younger than this may belong to a writer of the same daemon that is still at it.
const UNFINISHED: Duration = Duration::from_secs(10 * 60);
/// Three files an issuer; whoever has more than 3,000 issuers has another directory.
const MOST_FILES: usize = 10_000;

impl AccountDir {
    /// Opens the directory, made at 0700 if missing.
    ///
    /// # Errors
    /// A clause that says why it cannot be used: it is no directory, belongs to someone else, or others may write to it.
    pub(super) fn open(path: &Path, entropy: Arc<dyn Entropy>, now: Timestamp) -> Result<Self, String> {
        match DirBuilder::new().mode(0o700).recursive(true).create(path) {
            Ok(()) => {}
            Err(e) => return Err(format!("cannot be made: {e}")),
        }
        let meta = fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
        let me = rustix::process::geteuid().as_raw();
        if !meta.is_dir() {
            return Err("is no directory".to_owned());
        }
        if meta.uid() != me {
            return Err(format!("belongs to user {}, expected {me}", meta.uid()));
        }
        if meta.mode() & 0o022 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(format!("has mode {mode:04o}, so others may write to it; run chmod 700 on it"));
        }
        let dir = Self { path: path.to_owned(), entropy };
        dir.sweep(now).map_err(|e| format!("cannot be cleared of unfinished files: {e}"))?;
        Ok(dir)
    }

    /// Removes what a crash left half written.
    fn sweep(&self, now: Timestamp) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)?.take(MOST_FILES) {
            let entry = entry?;
            let name = entry.file_name();
            let unfinished = name.to_str().is_some_and(|n| n.starts_with('.') && n.ends_with(".tmp"));
            if unfinished && now.since(Timestamp::from_unix(entry.metadata()?.mtime())) > UNFINISHED {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A file's whole content; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or must not be believed: a link, no regular file, another owner, or open to others.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(io::Error::other(format!("{} cannot be opened: {e}", path.display()))),
        };
        let meta = file.metadata()?;
        let refused = |why: String| Err(io::Error::other(format!("{} {why}", path.display())));
        if !meta.is_file() || meta.nlink() != 1 {
            return refused("is no regular file with a single name".to_owned());
        }
        let me = rustix::process::geteuid().as_raw();
        if meta.uid() != me {
            return refused(format!("belongs to user {}, expected {me}", meta.uid()));
        }
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o7777;
            return refused(format!(
                "has mode {mode:04o}, expected 0600: others may have read it; run chmod 600 on it"
            ));
        }
        if meta.len() > LARGEST {
            return refused(format!("has {} bytes, more than {LARGEST}", meta.len()));
        }
        // Filled without growing, so that no copy of a key stays behind in freed memory.
        let size = usize::try_from(meta.len()).unwrap_or(0);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Writes a file: durable on return.
    ///
    /// # Errors
    /// Any step failed; the file of this name, if there was one, is as it was. A failed flush is never tried again.
    pub(super) fn write(&self, name: &str, bytes: &[u8], replace: Replace) -> io::Result<()> {
        let mut random = [0_u8; 8];
        self.entropy.fill(&mut random);
        let tmp = self.path.join(format!(".{name}.{:016x}.tmp", u64::from_be_bytes(random)));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{} cannot be written: {e}", tmp.display()));
        let file = rustix::fs::open(&tmp, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|e| named(e.into()))?);
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| self.rename(&tmp, &self.path.join(name), replace));
        if let Err(error) = written {
            return Err(match fs::remove_file(&tmp) {
                Ok(()) => named(error),
                Err(left) => named(io::Error::other(format!("{error}; and it stays behind: {left}"))),
            });
        }
        self.flush()
    }

    /// Renames a file over another: durable on return.
    ///
    /// # Errors
    /// Nothing changed, or the change is not known to be durable.
    pub(super) fn promote(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        self.rename(&from, &to, Replace::Always).map_err(|e| {
            io::Error::new(e.kind(), format!("{} cannot be renamed to {}: {e}", from.display(), to.display()))
        })?;
        self.flush()
    }

    /// Removes a file if it is there: durable on return.
    ///
    /// # Errors
    /// It may still be there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Ok(()) => self.flush(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(io::Error::new(e.kind(), format!("{name} cannot be removed: {e}"))),
        }
    }

    /// When a file was last written.
    ///
    /// # Errors
    /// It is not there, or cannot be looked at.
    pub(super) fn modified(&self, name: &str) -> io::Result<Timestamp> {
        fs::symlink_metadata(self.path.join(name)).map(|m| Timestamp::from_unix(m.mtime()))
    }

    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> io::Result<()> {
        let here = rustix::fs::CWD;
        match replace {
            Replace::Always => fs::rename(from, to),
            Replace::Never => match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
                // File systems without this flag (NFS): the caller has looked before, and nobody else writes here.
                Err(rustix::io::Errno::INVAL) if !to.exists() => fs::rename(from, to),
                other => other.map_err(io::Error::from),
            },
        }
    }

    fn flush(&self) -> io::Result<()> {
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| io::Error::new(e.kind(), format!("{} cannot be flushed: {e}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Counting(std::sync::atomic::AtomicU8);
    impl Entropy for Counting {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    fn dir_in(path: &Path, now: Timestamp) -> AccountDir {
        AccountDir::open(&path.join("accounts"), Arc::new(Counting(0.into())), now).expect("open")
    }

    fn dir() -> (tempfile::TempDir, AccountDir) {
        let tmp = tempfile::tempdir().expect("tempdir");
        let dir = dir_in(tmp.path(), Timestamp::MIN);
        (tmp, dir)
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_once_it_is_old() {
        let (tmp, dir) = dir();
        let left = dir.path.join(".ca.key.0000000000000000.tmp");
        fs::write(&left, b"x").expect("write");
        dir_in(tmp.path(), Timestamp::MIN);
        assert!(left.exists());
        dir_in(tmp.path(), Timestamp::MAX);
        assert!(!left.exists());
    }

    #[test]
    fn what_was_written_is_read_back_at_mode_0600_and_nothing_else_stays() {
        let (_tmp, dir) = dir();
        assert_eq!(dir.read("ca.key").expect("read"), None);
        dir.write("ca.key", b"one", Replace::Never).expect("write");
        assert_eq!(dir.read("ca.key").expect("read").as_deref().map(Vec::as_slice), Some(&b"one"[..]));
        let mode = fs::metadata(dir.path.join("ca.key")).expect("meta").mode() & 0o7777;
        assert_eq!((mode, fs::read_dir(&dir.path).expect("list").count()), (0o600, 1));
    }

    #[test]
    fn a_key_is_never_overwritten_and_the_try_leaves_nothing_behind() {
        let (_tmp, dir) = dir();
        dir.write("ca.key", b"one", Replace::Never).expect("write");
        assert!(dir.write("ca.key", b"two", Replace::Never).is_err());
        assert_eq!(dir.read("ca.key").expect("read").as_deref().map(Vec::as_slice), Some(&b"one"[..]));
        assert_eq!(fs::read_dir(&dir.path).expect("list").count(), 1);
    }

    #[test]
    fn links_fifos_and_open_modes_are_refused() {
        let (tmp, dir) = dir();
        let foreign = tmp.path().join("foreign");
        fs::write(&foreign, b"x").expect("write");
        std::os::unix::fs::symlink(&foreign, dir.path.join("link.key")).expect("symlink");
        fs::hard_link(&foreign, dir.path.join("hard.key")).expect("link");
        fs::write(dir.path.join("open.key"), b"x").expect("write");
        fs::set_permissions(dir.path.join("open.key"), fs::Permissions::from_mode(0o640)).expect("chmod");
        rustix::fs::mknodat(rustix::fs::CWD, dir.path.join("fifo.key"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .expect("mkfifo");
        for name in ["link.key", "hard.key", "open.key", "fifo.key"] {
            assert!(dir.read(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let tmp = tempfile::tempdir().expect("tempdir");
        fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(AccountDir::open(tmp.path(), Arc::new(Counting(0.into())), Timestamp::MIN).is_err());
    }
}
