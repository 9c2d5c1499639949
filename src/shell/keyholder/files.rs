//! Private files: opened without following links, believed only if they are the holder's own.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use zeroize::Zeroizing;

/// What only one holder may have.
const LOCK: &str = "holder.lock";

/// The holder's directory, held.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens a directory, made if it is not there, that nobody else can look into; held until this is dropped.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let said = |what: &str, e: std::io::Error| format!("{} cannot be {what}: {e}", path.display());
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_directory(path.parent().unwrap_or(path))?,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(said("made", e)),
        }
        let seen = fs::symlink_metadata(path).map_err(|e| said("looked at", e))?;
        let own = rustix::process::geteuid().as_raw();
        if !seen.is_dir() || seen.uid() != own || seen.mode() & 0o077 != 0 {
            let (owner, mode) = (seen.uid(), seen.mode() & 0o7777);
            return Err(format!(
                "{} has owner {owner} and mode {mode:04o}; expected a directory of user {own} at 0700: chown {own} and chmod 700",
                path.display()
            ));
        }
        let path = fs::canonicalize(path).map_err(|e| said("found", e))?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nofollow());
        let lock = options.open(path.join(LOCK)).map_err(|e| said("locked", e))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| format!("another key holder runs in {}: {e}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names of what is in it.
    pub(super) fn names(&self) -> Result<Vec<String>, String> {
        let entries = fs::read_dir(&self.path).map_err(|e| format!("{} cannot be read: {e}", self.path.display()))?;
        let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
        names.collect::<Result<_, _>>().map_err(|e| format!("{} cannot be read: {e}", self.path.display()))
    }

    pub(super) fn sync(&self) -> Result<(), String> {
        sync_directory(&self.path)
    }

    /// Makes a file that is whole or not there, durable on return.
    pub(super) fn make(&self, name: &str, contents: &[u8]) -> Result<(), String> {
        let (path, new) = (self.join(name), self.join(&format!("{name}.new")));
        let said = |e: std::io::Error| format!("{} cannot be made: {e}", path.display());
        // One that a crash left behind was never used.
        drop(fs::remove_file(&new));
        let mut file = OpenOptions::new();
        let mut file =
            file.write(true).create_new(true).mode(0o600).custom_flags(nofollow()).open(&new).map_err(said)?;
        file.write_all(contents).and_then(|()| file.sync_all()).map_err(said)?;
        fs::rename(&new, &path).map_err(said)?;
        self.sync()
    }

    /// Writes over a file and removes it; nothing if it is not there. Whether the medium keeps what was written over is not
    /// for a program to say: what lies there is encrypted.
    pub(super) fn destroy(&self, name: &str) -> Result<(), String> {
        let path = self.join(name);
        let said = |e: std::io::Error| format!("{} cannot be destroyed: {e}", path.display());
        let mut file = match OpenOptions::new().write(true).custom_flags(nofollow()).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(said(e)),
        };
        let size = usize::try_from(file.metadata().map_err(said)?.len()).unwrap_or(0).min(1 << 20);
        let zeroes = vec![0_u8; size];
        file.rewind().and_then(|()| file.write_all(&zeroes)).and_then(|()| file.sync_all()).map_err(said)?;
        fs::remove_file(&path).map_err(said)?;
        self.sync()
    }

    /// Opens one of the holder's own files for reading and writing; `None` if there is none.
    pub(super) fn file(&self, name: &str) -> Result<Option<File>, String> {
        own_file(&self.join(name), OFlags::RDWR)
    }

    /// Reads one of them, at most `longest` bytes; `None` if there is none.
    pub(super) fn read(&self, name: &str, longest: u64) -> Result<Option<Zeroizing<String>>, String> {
        match own_file(&self.join(name), OFlags::RDONLY)? {
            Some(file) => contents(&self.join(name), file, longest).map(Some),
            None => Ok(None),
        }
    }
}

/// Reads a secret that only the holder, or only root, may read.
pub(super) fn secret(path: &Path, longest: u64) -> Result<Zeroizing<String>, String> {
    let file = own_file(path, OFlags::RDONLY)?.ok_or_else(|| format!("{} is not there", path.display()))?;
    contents(path, file, longest)
}

fn own_file(path: &Path, access: OFlags) -> Result<Option<File>, String> {
    let said = |why: String| format!("{} {why}", path.display());
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(said(format!("cannot be opened: {e}"))),
    };
    let seen = file.metadata().map_err(|e| said(format!("cannot be looked at: {e}")))?;
    let (own, mode) = (rustix::process::geteuid().as_raw(), seen.mode() & 0o7777);
    // A credential of systemd belongs to root and is readable by the service alone, by mode or by an access list.
    let theirs = seen.uid() == own || (seen.uid() == 0 && access == OFlags::RDONLY);
    if !seen.is_file() || !theirs || mode & 0o037 != 0 {
        let owner = seen.uid();
        return Err(said(format!(
            "has owner {owner} and mode {mode:04o}; expected a plain file of user {own} that others can neither read nor \
             write (0600)"
        )));
    }
    Ok(Some(file))
}

fn contents(path: &Path, mut file: File, longest: u64) -> Result<Zeroizing<String>, String> {
    let said = |why: &dyn core::fmt::Display| format!("{} cannot be read: {why}", path.display());
    let size = file.metadata().map_err(|e| said(&e))?.len();
    if size > longest {
        return Err(format!("{} has {size} bytes; at most {longest} are read", path.display()));
    }
    // With its size from the start, no part of a secret stays behind in a buffer that was too small.
    let room = usize::try_from(longest).unwrap_or(0).saturating_add(1);
    let mut text = Zeroizing::new(String::with_capacity(room));
    std::io::Read::by_ref(&mut file).take(longest).read_to_string(&mut text).map_err(|e| said(&e))?;
    Ok(text)
}

fn sync_directory(path: &Path) -> Result<(), String> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|e| format!("the directory {} cannot be written through: {e}", path.display()))
}

pub(super) fn nofollow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}
