//! The state directory: who may write there, who holds it, and where the database lies in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::ports::StoreError;

/// The database's file name.
pub(super) const DATABASE: &str = "keyward.db";
/// The lock's file name.
const LOCK: &str = "lock";

/// Makes the directory if it is missing, and returns its path without links.
///
/// # Errors
/// [`StoreError::Damaged`] if others may replace what lies in it: then nothing in it can be believed.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, StoreError> {
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| unavailable("make", dir, &e))?;
        // The new name is in the parent, so that is what must reach the disk.
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            flush_directory(parent)?;
        }
    }
    let dir = fs::canonicalize(dir).map_err(|e| unavailable("find", dir, &e))?;
    let seen = fs::metadata(&dir).map_err(|e| unavailable("look at", &dir, &e))?;
    if !seen.is_dir() {
        return Err(StoreError::Damaged(format!("{} is no directory; name a directory", dir.display())));
    }
    check_owner(&dir, &seen)?;
    Ok(dir)
}

/// Whether nobody else may replace what lies in the directory of a file.
///
/// # Errors
/// [`StoreError::Damaged`] says how to mend it; [`StoreError::Unavailable`] if there is no such directory.
pub(super) fn check_parent(path: &Path) -> Result<(), StoreError> {
    let dir = parent(path);
    let seen = fs::metadata(dir).map_err(|e| unavailable("look at", dir, &e))?;
    check_owner(dir, &seen)
}

fn check_owner(dir: &Path, seen: &fs::Metadata) -> Result<(), StoreError> {
    let (shown, owner, mode) = (dir.display(), seen.uid(), seen.mode() & 0o7777);
    if mode & 0o022 != 0 {
        let text =
            format!("{shown} has mode {mode:04o}, so others may replace what lies in it; run chmod 0700 {shown}");
        return Err(StoreError::Damaged(text));
    }
    let own = rustix::process::geteuid().as_raw();
    if owner != own && owner != 0 {
        let text =
            format!("{shown} belongs to user {owner}, not to this process's user {own}; run chown {own} {shown}");
        return Err(StoreError::Damaged(text));
    }
    Ok(())
}

/// The exclusive hold on a state directory, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Lock {
    /// Closing it gives the lock free, so a killed process leaves none behind.
    _file: File,
}

impl Lock {
    /// Takes the lock, or says which process has it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the holder's process id.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK);
        let mut file = open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let shown = dir.display();
                let text = format!("{} holds {shown}; stop it, or use another state directory", holder(&mut file));
                return Err(StoreError::InUse(text));
            }
            Err(errno) => return Err(unavailable("lock", &path, &errno.into())),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|e| unavailable("write", &path, &e))?;
        Ok(Self { _file: file })
    }
}

/// The process that wrote its id into the lock file.
fn holder(file: &mut File) -> String {
    // A process id has at most 7 digits (the kernel's PID_MAX_LIMIT is 2²²), and the file ends with a newline.
    let mut text = String::new();
    let read = file.take(16).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "a process that has not yet written its id".to_owned(),
    }
}

/// The database's path, with the file made (mode 0600) if it was missing. SQLite gives its two companions the same mode.
///
/// # Errors
/// [`StoreError::Damaged`] if it is no plain file, or if only its write-ahead log is left.
pub(super) fn database(dir: &Path) -> Result<PathBuf, StoreError> {
    let path = dir.join(DATABASE);
    let is_new = fs::symlink_metadata(&path).is_err();
    let file = open(&path)?;
    let seen = file.metadata().map_err(|e| unavailable("look at", &path, &e))?;
    let wal = dir.join(format!("{DATABASE}-wal"));
    let wal_size = fs::metadata(&wal).map_or(0, |m| m.len());
    if seen.len() == 0 && wal_size > 0 {
        // SQLite would take the empty file for a new database and delete the log with the state in it.
        let (db, wal) = (path.display(), wal.display());
        let text = format!("{db} is empty while {wal} has {wal_size} bytes; restore both from a backup");
        if is_new {
            // Leave things as they were found.
            fs::remove_file(&path).map_err(|e| unavailable("remove", &path, &e))?;
        }
        return Err(StoreError::Damaged(text));
    }
    if seen.mode() & 0o7777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|e| unavailable("set the mode of", &path, &e))?;
    }
    flush_directory(dir)?;
    Ok(path)
}

/// Opens or makes a private file without following a link.
fn open(path: &Path) -> Result<File, StoreError> {
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(e) if rustix::io::Errno::from_io_error(&e) == Some(rustix::io::Errno::LOOP) => {
            return Err(StoreError::Damaged(format!("{} is a link; a plain file was expected", path.display())));
        }
        Err(e) => return Err(unavailable("open", path, &e)),
    };
    match file.metadata() {
        Ok(seen) if seen.is_file() => Ok(file),
        Ok(_) => Err(StoreError::Damaged(format!("{} is no plain file", path.display()))),
        Err(e) => Err(unavailable("look at", path, &e)),
    }
}

/// Makes a private file that appears whole or not at all, in place of what is there, and returns it open.
///
/// # Errors
/// [`StoreError::Unavailable`], [`StoreError::Damaged`] if a link is in the way.
pub(super) fn make_private(path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = open(&temporary)?;
    file.set_len(0)
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o600)))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .map_err(|e| unavailable("write", &temporary, &e))?;
    fs::rename(&temporary, path).map_err(|e| unavailable("make", path, &e))?;
    flush_directory(parent(path))?;
    Ok(file)
}

/// Opens a file that must be private: ours, closed to others, no link. `None` if there is none.
///
/// # Errors
/// [`StoreError::Damaged`] says how to mend it; [`StoreError::Unavailable`].
pub(super) fn open_private(path: &Path) -> Result<Option<File>, StoreError> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unavailable("look at", path, &e)),
        Ok(_) => {}
    }
    let file = open(path)?;
    let seen = file.metadata().map_err(|e| unavailable("look at", path, &e))?;
    let (shown, own, mode) = (path.display(), rustix::process::geteuid().as_raw(), seen.mode() & 0o7777);
    if seen.uid() != own {
        let text = format!(
            "{shown} belongs to user {}, not to this process's user {own}; run chown {own} {shown}",
            seen.uid()
        );
        return Err(StoreError::Damaged(text));
    }
    if mode & 0o077 != 0 {
        let text = format!("{shown} has mode {mode:04o}, so others may use it; run chmod 0600 {shown}");
        return Err(StoreError::Damaged(text));
    }
    Ok(Some(file))
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn flush_directory(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| unavailable("flush", dir, &e))
}

pub(super) fn unavailable(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot {what} {}: {error}", path.display()))
}
