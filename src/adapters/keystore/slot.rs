//! Slots on disk: directories and files that an attacker who can write beside them cannot turn against us.
//!
//! Everything goes through directory descriptors and never follows a link; what is found must be a plain file of ours
//! with one name and no access for others. A file appears whole or not at all: written under a temporary name at 0600,
//! flushed, renamed, and the directory flushed after it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::domain::id::{AttemptId, Ulid};
use crate::ports::HostError;

/// The private key, PKCS#8 PEM.
pub(super) const KEY: &str = "key.pem";
/// The signing request, DER.
pub(super) const CSR: &str = "csr.der";
/// The accepted chain, PEM, leaf first.
pub(super) const CHAIN: &str = "chain.pem";

/// Temporary names start like this; nothing else in a slot does.
const TEMPORARY: &str = ".new-";

/// Slots listed. An estate of 10,000 credentials keeps two or three slots for each.
const MOST_SLOTS: usize = 100_000;

/// Files that a slot may hold before we call it foreign.
const MOST_FILES: usize = 64;

const PRIVATE_DIR: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::from_raw_mode(0o600);

/// The key store's directory.
pub(super) struct Root {
    dir: OwnedFd,
    path: PathBuf,
}

/// One slot, locked until dropped.
pub(super) struct Slot {
    dir: OwnedFd,
    path: PathBuf,
}

/// Whether a file that exists already may be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    Yes,
    /// A key that is there is never overwritten.
    Never,
}

impl Root {
    /// Opens the directory, or makes it at 0700; it must be ours.
    pub(super) fn open(path: &Path) -> Result<Self, HostError> {
        match rustix::fs::mkdir(path, PRIVATE_DIR) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the key store", path, error)),
        }
        let dir = open_dir(CWD, path, path)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            let parent_fd = rustix::fs::openat(CWD, parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| failed("open", parent, e))?;
            rustix::fs::fsync(parent_fd).map_err(|e| failed("flush", parent, e))?;
        }
        Ok(Self { dir, path: path.to_owned() })
    }

    /// The slot if it exists.
    pub(super) fn slot(&self, id: AttemptId) -> Result<Option<Slot>, HostError> {
        let path = self.path.join(id.to_string());
        match rustix::fs::statat(&self.dir, id.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("look at", &path, error)),
            Ok(_) => {
                let dir = open_dir(&self.dir, Path::new(&id.to_string()), &path)?;
                rustix::fs::flock(&dir, FlockOperation::LockExclusive).map_err(|e| failed("lock", &path, e))?;
                Ok(Some(Slot { dir, path }))
            }
        }
    }

    /// The slot, made if it does not exist.
    pub(super) fn make(&self, id: AttemptId) -> Result<Slot, HostError> {
        match rustix::fs::mkdirat(&self.dir, id.to_string(), PRIVATE_DIR) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the slot", &self.path.join(id.to_string()), error)),
        }
        self.slot(id)?.ok_or_else(|| HostError(format!("slot {id} was removed while it was being made")))
    }

    /// Removes a slot with all its files, the key first; nothing happens if there is none.
    pub(super) fn remove(&self, id: AttemptId) -> Result<(), HostError> {
        let Some(slot) = self.slot(id)? else { return Ok(()) };
        let mut names = slot.names()?;
        names.sort_by_key(|name| name != KEY);
        for name in &names {
            rustix::fs::unlinkat(&slot.dir, name, AtFlags::empty())
                .map_err(|e| failed("remove", &slot.path.join(name), e))?;
        }
        slot.flush()?;
        match rustix::fs::unlinkat(&self.dir, id.to_string(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("remove", &slot.path, error)),
        }
        self.flush()
    }

    /// The slots that exist, oldest first. What is no slot by name or kind is not touched and not listed.
    pub(super) fn slots(&self) -> Result<Vec<AttemptId>, HostError> {
        let mut out = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(|e| failed("list", &self.path, e))? {
            let entry = entry.map_err(|e| failed("list", &self.path, e))?;
            let Some(id) = entry.file_name().to_str().ok().and_then(Ulid::parse) else { continue };
            if out.len() >= MOST_SLOTS {
                return Err(HostError(format!("{} holds more than {MOST_SLOTS} slots", self.path.display())));
            }
            if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                out.push(AttemptId(id));
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    pub(super) fn flush(&self) -> Result<(), HostError> {
        rustix::fs::fsync(&self.dir).map_err(|e| failed("flush", &self.path, e))
    }
}

impl Slot {
    /// A file's bytes, if it exists; refused unless it is a plain file of ours, with one name, closed to others.
    pub(super) fn read(&self, name: &str, most: u64) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(HostError(format!("{} is a symbolic link; expected a plain file", path.display())));
            }
            Err(error) => return Err(failed("open", &path, error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("look at", &path, e))?;
        if let Some(wrong) = wrong_file(&stat) {
            return Err(HostError(format!("{} {wrong}", path.display())));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > most {
            return Err(HostError(format!("{} is {size} bytes long, more than {most}", path.display())));
        }
        // Room for everything from the start: a buffer that grows leaves copies of the key behind.
        let room = usize::try_from(size).unwrap_or(0).saturating_add(64);
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        File::from(fd)
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|e| HostError(format!("cannot read {}: {e}", path.display())))?;
        Ok(Some(bytes))
    }

    /// Writes a file whole, at 0600 whatever the umask; durable once the slot is flushed.
    pub(super) fn write(&self, name: &str, bytes: &[u8], replace: Replace, random: u64) -> Result<(), HostError> {
        let path = self.path.join(name);
        let temporary = format!("{TEMPORARY}{random:016x}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, &temporary, flags, PRIVATE_FILE)
            .map_err(|e| failed("make a file beside", &path, e))?;
        let written = (|| -> std::io::Result<()> {
            rustix::fs::fchmod(&fd, PRIVATE_FILE)?;
            let mut file = File::from(fd);
            file.write_all(bytes)?;
            file.sync_data()?;
            let flags = match replace {
                Replace::Yes => RenameFlags::empty(),
                Replace::Never => RenameFlags::NOREPLACE,
            };
            Ok(rustix::fs::renameat_with(&self.dir, &temporary, &self.dir, name, flags)?)
        })();
        written.map_err(|error| {
            let text = format!("cannot write {}: {error}", path.display());
            // The failure to report is the first one; what is left behind is removed with the slot.
            match rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty()) {
                Ok(()) => HostError(text),
                Err(second) => HostError(format!("{text}; its temporary file could not be removed: {second}")),
            }
        })
    }

    /// Removes what a crash left half written.
    pub(super) fn tidy(&self) -> Result<(), HostError> {
        for name in self.names()?.iter().filter(|name| name.starts_with(TEMPORARY)) {
            rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())
                .map_err(|e| failed("remove", &self.path.join(name), e))?;
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), HostError> {
        rustix::fs::fsync(&self.dir).map_err(|e| failed("flush", &self.path, e))
    }

    fn names(&self) -> Result<Vec<String>, HostError> {
        let mut out = Vec::new();
        for entry in Dir::read_from(&self.dir).map_err(|e| failed("list", &self.path, e))? {
            let entry = entry.map_err(|e| failed("list", &self.path, e))?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) if out.len() < MOST_FILES => out.push(name.to_owned()),
                _ => return Err(HostError(format!("{} holds files that are not ours", self.path.display()))),
            }
        }
        Ok(out)
    }
}

/// Opens a directory that must be ours and no link, and closes it to others.
fn open_dir<Fd: std::os::fd::AsFd>(at: Fd, name: &Path, shown: &Path) -> Result<OwnedFd, HostError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => {
            HostError(format!("{} is a link or no directory; expected a directory of ours", shown.display()))
        }
        error => failed("open", shown, error),
    })?;
    let stat = rustix::fs::fstat(&dir).map_err(|e| failed("look at", shown, e))?;
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(HostError(format!(
            "{} belongs to user {}; expected user {own}, as whom this process runs",
            shown.display(),
            stat.st_uid
        )));
    }
    if stat.st_mode & 0o7777 != 0o700 {
        rustix::fs::fchmod(&dir, PRIVATE_DIR).map_err(|e| failed("set the mode of", shown, e))?;
    }
    Ok(dir)
}

/// What is wrong with a file that should hold our secrets.
fn wrong_file(stat: &Stat) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    let mode = stat.st_mode & 0o7777;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        Some("is no plain file".to_owned())
    } else if stat.st_uid != own {
        Some(format!("belongs to user {}; expected user {own}, as whom this process runs", stat.st_uid))
    } else if stat.st_nlink != 1 {
        Some(format!("has {} names (hard links); expected one", stat.st_nlink))
    } else if mode & 0o077 != 0 {
        Some(format!("has mode {mode:03o}, so others may have read it; expected 600: treat its key as exposed"))
    } else {
        None
    }
}

fn failed(what: &str, path: &Path, error: Errno) -> HostError {
    HostError(format!("cannot {what} {}: {}", path.display(), std::io::Error::from(error)))
}
