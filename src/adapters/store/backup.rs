//! Copies of a state directory: made while a guardian runs, read back before they count, and put back only where nothing
//! lies.
//!
//! ```text
//! snapshot (VACUUM INTO, one read transaction) ─► keys, if wanted ─► flush ─► read back ─► manifest ─► rename
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::Note;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::ports::StoreError;

use super::connection::{self, Trouble};
use super::walk::{Found, walk};
use super::{checkpoint, directory, load, shard};

/// The manifest's file name; it is written last.
const MANIFEST: &str = "manifest.json";
/// A manifest with 100,000 files has some 15 MB.
const LONGEST_MANIFEST: u64 = 64 * 1_024 * 1_024;
/// What holds private keys, by names in the state directory.
const SECRETS: [&str; 8] =
    ["log.key", "log.key.old", "log.key.next", "lease.key", "lease.key.next", "prints.key", "keys", "accounts"];
/// Files are nested at most this deep there: `keys/SLOT/key`, and a little more.
const DEEPEST: usize = 6;
/// Far more files than the keys of 10,000 credentials make.
const MOST_FILES: usize = 200_000;

/// Whether private keys go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The log's key, the certificates' keys, the accounts' keys and the one that prints of keys are made with too.
    Included,
    /// None of them.
    LeftOut,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this file: 1.
    pub format: u32,
    /// The version that made it.
    pub keyward: String,
    /// When.
    pub made: String,
    /// Whether private keys are in it.
    pub with_keys: bool,
    /// Entries of the audit log.
    pub entries: u64,
    /// The first of them that is in it: those before it are frozen, and lie in shards.
    #[serde(default)]
    pub begins: u64,
    /// Credentials of which something is known.
    pub credentials: u64,
    /// The newest checkpoint: whoever keeps it elsewhere can tell whether this is the whole log of that day.
    pub checkpoint: Option<String>,
    /// Every file.
    pub files: Vec<Copied>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Below the backup's directory.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its bytes.
    pub sha256: String,
}

/// What a backup would hold: each file with its size.
///
/// # Errors
/// [`StoreError`] if the directory cannot be read.
pub fn plan(dir: &Path, secrets: Secrets) -> Result<Vec<(PathBuf, u64)>, StoreError> {
    let mut files = vec![dir.join(directory::DATABASE)];
    if secrets == Secrets::Included {
        files.extend(secret_files(dir)?);
    }
    let sized = |path: PathBuf| {
        let size = fs::metadata(&path).map_err(|e| directory::unavailable("look at", &path, &e))?.len();
        Ok((path, size))
    };
    files.into_iter().map(sized).collect()
}

/// Makes a backup of the state in `dir`, also while a guardian writes there, and reads it back.
///
/// # Errors
/// [`StoreError`]; then there is no directory `to`.
pub fn backup(dir: &Path, to: &Path, secrets: Secrets, now: Timestamp) -> Result<Manifest, StoreError> {
    let partial = begin(to)?;
    let done = fill(dir, &partial, secrets, now).and_then(|manifest| finish(&partial, to).map(|()| manifest));
    if done.is_err() {
        // What is half there must not be taken for a backup; if it cannot be removed, its name says what it is.
        fs::remove_dir_all(&partial).ok();
    }
    done
}

fn fill(dir: &Path, partial: &Path, secrets: Secrets, now: Timestamp) -> Result<Manifest, StoreError> {
    let database = partial.join(directory::DATABASE);
    snapshot(&dir.join(directory::DATABASE), &database)?;
    let mut files = vec![database.clone()];
    if secrets == Secrets::Included {
        // After the snapshot: a key that it names is there before it is named.
        for from in secret_files(dir)? {
            let to = partial.join(from.strip_prefix(dir).unwrap_or(&from));
            match copy(&from, &to) {
                Ok(()) => files.push(to),
                // A key that was no longer needed and is gone since.
                Err(_) if !from.exists() => {}
                Err(error) => return Err(error),
            }
        }
    }
    let read = read_back(&database)?;
    let copied = |path: PathBuf| sum(&path, partial);
    let manifest = Manifest {
        format: 1,
        keyward: env!("CARGO_PKG_VERSION").to_owned(),
        made: now.to_string(),
        with_keys: secrets == Secrets::Included,
        entries: read.entries,
        begins: read.begins,
        credentials: read.credentials,
        checkpoint: read.checkpoint,
        files: files.into_iter().map(copied).collect::<Result<_, _>>()?,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| StoreError::Unavailable(e.to_string()))?;
    write(&partial.join(MANIFEST), &mut text.as_slice())?;
    check(partial)
}

/// One read transaction, so that every table is of the same commit; the writer is not held up.
fn snapshot(from: &Path, to: &Path) -> Result<(), StoreError> {
    let connection = connection::open_reading(from)?;
    let made = || -> Result<(), Trouble> {
        // The copy is written by this connection, the original is not.
        connection.pragma_update(None, "query_only", false)?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        Ok(())
    };
    made().map_err(|e| connection::about(from, StoreError::from(e)))?;
    let file = File::open(to).map_err(|e| directory::unavailable("open", to, &e))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.sync_all())
        .map_err(|e| directory::unavailable("flush", to, &e))
}

/// Reads a backup: its files are those of its manifest, the entries are those that were hashed, and they have the root
/// of the newest checkpoint.
///
/// # Errors
/// [`StoreError::Damaged`] says what is not as it should be.
pub fn check(backup: &Path) -> Result<Manifest, StoreError> {
    let path = backup.join(MANIFEST);
    let mut text = Vec::new();
    let file = File::open(&path).map_err(|e| directory::unavailable("open", &path, &e))?;
    file.take(LONGEST_MANIFEST).read_to_end(&mut text).map_err(|e| directory::unavailable("read", &path, &e))?;
    let damaged = |text: String| StoreError::Damaged(format!("KW6320: the backup {}: {text}", backup.display()));
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| damaged(format!("its manifest cannot be read: {e}")))?;
    if manifest.format != 1 {
        return Err(damaged(format!("it has format {}, and this keyward knows 1: use a newer one", manifest.format)));
    }
    for said in &manifest.files {
        let path = backup.join(&said.path);
        if !is_inside(&said.path) {
            return Err(damaged(format!("its manifest names {:?}, which lies outside", said.path)));
        }
        let found = sum(&path, backup)?;
        if found != *said {
            return Err(damaged(format!("{} is not what was copied: its size or its SHA-256 differs", said.path)));
        }
    }
    let read = read_back(&backup.join(directory::DATABASE))?;
    let said = (manifest.entries, manifest.begins, manifest.credentials, &manifest.checkpoint);
    if (read.entries, read.begins, read.credentials, &read.checkpoint) != said {
        return Err(damaged("its database is not the one that the manifest describes".to_owned()));
    }
    Ok(manifest)
}

/// Puts a backup back into a directory that is not there yet, after reading it.
///
/// # Errors
/// [`StoreError`]; then there is no directory `to`.
pub fn restore(backup: &Path, to: &Path) -> Result<Manifest, StoreError> {
    let manifest = check(backup)?;
    let partial = begin(to)?;
    let copied = manifest.files.iter().try_for_each(|file| copy(&backup.join(&file.path), &partial.join(&file.path)));
    // Once more from the copy: what is put back is what was checked.
    let summed = copied.and_then(|()| {
        manifest.files.iter().try_for_each(|file| match sum(&partial.join(&file.path), &partial)? {
            found if found == *file => Ok(()),
            _ => Err(StoreError::Damaged(format!("KW6320: {} changed while it was copied", file.path))),
        })
    });
    match summed.and_then(|()| finish(&partial, to)) {
        Ok(()) => Ok(manifest),
        Err(error) => {
            fs::remove_dir_all(&partial).ok();
            Err(error)
        }
    }
}

/// What a database holds, read to the last entry.
struct ReadBack {
    entries: u64,
    begins: u64,
    credentials: u64,
    checkpoint: Option<String>,
}

fn read_back(path: &Path) -> Result<ReadBack, StoreError> {
    let damaged = |text: String| StoreError::Damaged(format!("KW6320: {}: {text}", path.display()));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| damaged(e.to_string()))?;
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| damaged(format!("it cannot be read: {e}")))?;
    if found != "ok" {
        return Err(damaged(found));
    }
    let newest = checkpoint::newest(&connection).map_err(|e| connection::about(path, StoreError::from(e)))?;
    let size = newest.as_ref().map_or(0, |row| row.size);
    let about = |trouble: Trouble| connection::about(path, StoreError::from(trouble));
    shard::check(&connection).map_err(about)?;
    let mut tree = shard::beginning(&connection).map_err(about)?.tree;
    let begins = tree.size();
    walk(&connection, begins..size, |sequence, found| match found {
        Found::Whole(_, leaf, _) => {
            tree.push(leaf, |_, _| {});
            Ok(())
        }
        Found::Doubtful(..) => Err(damaged(format!("entry {sequence} is not what was hashed"))),
        Found::Lost(why) => Err(damaged(format!("entry {sequence} cannot be read: {why}"))),
    })?;
    if let Some(row) = &newest {
        let said = row.note.parse::<Note>().and_then(|note| Checkpoint::of(&note));
        let said = said.map_err(|e| damaged(format!("the newest checkpoint {e}")))?.head;
        if said != tree.head() {
            return Err(damaged("the entries do not have the root of the newest checkpoint".to_owned()));
        }
    }
    let state = load::state(&mut connection).map_err(|e| connection::about(path, StoreError::from(e)))?;
    let credentials = u64::try_from(state.credentials.len()).unwrap_or(u64::MAX);
    Ok(ReadBack { entries: size, begins, credentials, checkpoint: newest.map(|row| row.note) })
}

/// Makes the directory that becomes `to` at the end.
fn begin(to: &Path) -> Result<PathBuf, StoreError> {
    if fs::symlink_metadata(to).is_ok() {
        let text = format!("{} is there already; nothing is overwritten: name a new directory", to.display());
        return Err(StoreError::Unavailable(text));
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = to.with_file_name(name);
    DirBuilder::new().mode(0o700).create(&partial).map_err(|e| directory::unavailable("make", &partial, &e))?;
    Ok(partial)
}

/// Everything is on the disk before the name is.
fn finish(partial: &Path, to: &Path) -> Result<(), StoreError> {
    directory::flush_directory(partial)?;
    fs::rename(partial, to).map_err(|e| directory::unavailable("make", to, &e))?;
    directory::flush_directory(directory::parent(to))
}

fn secret_files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for name in SECRETS {
        collect(&dir.join(name), DEEPEST, &mut files)?;
    }
    Ok(files)
}

/// Plain files below `path`; links are not followed.
fn collect(path: &Path, deep: usize, files: &mut Vec<PathBuf>) -> Result<(), StoreError> {
    let seen = match fs::symlink_metadata(path) {
        Ok(seen) => seen,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(directory::unavailable("look at", path, &e)),
    };
    if seen.is_file() {
        files.push(path.to_owned());
    }
    if !seen.is_dir() {
        return Ok(());
    }
    if deep == 0 || files.len() > MOST_FILES {
        let text = format!("{} has more files than a state directory has; move away what is foreign", path.display());
        return Err(StoreError::Unavailable(text));
    }
    let mut inside: Vec<PathBuf> = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(inside) => inside.into_iter().map(|entry| entry.path()).collect(),
        Err(e) => return Err(directory::unavailable("list", path, &e)),
    };
    inside.sort();
    inside.iter().try_for_each(|path| collect(path, deep.saturating_sub(1), files))
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(|e| directory::unavailable("open", from, &e))?;
    write(to, &mut source)
}

/// Writes a new private file and flushes it, and makes the private directories that it lies in.
fn write(to: &Path, source: &mut dyn io::Read) -> Result<(), StoreError> {
    let parent = directory::parent(to);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|e| directory::unavailable("make", parent, &e))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|e| directory::unavailable("make", to, &e))?;
    io::copy(source, &mut file)
        .and_then(|_| file.flush())
        .and_then(|()| file.sync_all())
        .map_err(|e| directory::unavailable("write", to, &e))?;
    directory::flush_directory(parent)
}

fn sum(path: &Path, base: &Path) -> Result<Copied, StoreError> {
    let failed = |e: io::Error| directory::unavailable("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut size, mut buffer) = (0_u64, vec![0; 64 * 1_024]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        context.update(part);
        size = size.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    let mut sha256 = Digest([0; 32]);
    sha256.0.copy_from_slice(context.finish().as_ref());
    let name = path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
    Ok(Copied { path: name, size, sha256: sha256.to_string() })
}

/// Whether a name of the manifest stays below the backup.
fn is_inside(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty() && path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}
