//! The lists that are kept: a file for each URL in a directory of the state.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use core::time::Duration;

use rustix::fs::OFlags;

use crate::codec::crl::{Issue, LARGEST_FETCHED};
use crate::domain::key::Digest;
use crate::domain::revocation::MOST_LISTS;
use crate::domain::time::Timestamp;
use crate::ports::HostError;

/// A list that is over for so long is of no use any more: what it revoked has ended, or has another list.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(90 * 86_400);

/// Temporary names start like this; no list does.
const TEMPORARY: &str = ".new-";

/// The directory.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
    writing: Mutex<()>,
}

impl Shelf {
    /// Takes away what a crash left behind, and what is over for long; a directory that is not there is none yet.
    pub(super) fn new(directory: PathBuf, now: Timestamp) -> Self {
        for file in entries(&directory) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let over = || {
                let bytes = read(&file).ok().flatten()?;
                let next = Issue::read(&bytes).ok()?.next_update?;
                (next.plus(FORGOTTEN_AFTER) < now).then_some(())
            };
            if name.starts_with(TEMPORARY) || is_old(&file, now) && over().is_some() {
                // What cannot be removed now is met again at the next start.
                drop(fs::remove_file(&file));
            }
        }
        Self { directory, writing: Mutex::new(()) }
    }

    /// Held while a list takes the place of another.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of a URL, if one is kept.
    pub(super) fn read(&self, url: &str) -> Result<Option<Vec<u8>>, HostError> {
        let path = self.directory.join(name(url));
        read(&path).map_err(|e| HostError(format!("is kept in {}, which cannot be read: {e}", path.display())))
    }

    /// Keeps a list instead of the one before: whole and durable on return, or not at all.
    pub(super) fn put(&self, url: &str, list: &[u8]) -> Result<(), HostError> {
        let (name, directory) = (name(url), &self.directory);
        let (new, path) = (directory.join(format!("{TEMPORARY}{name}")), directory.join(&name));
        if !path.exists() && entries(directory).count() >= MOST_LISTS {
            return Err(HostError(format!("cannot be kept: {} holds {MOST_LISTS} lists already", directory.display())));
        }
        let written = (|| {
            match (DirBuilder::new().mode(0o700).create(directory), directory.parent()) {
                (Ok(()), Some(parent)) => File::open(parent)?.sync_all()?,
                (Err(e), _) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                (Ok(()) | Err(_), _) => {}
            }
            match fs::remove_file(&new) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(list)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(directory)?.sync_all()
        })();
        written.map_err(|e: io::Error| {
            drop(fs::remove_file(&new));
            HostError(format!("cannot be kept in {}: {e}; the state directory must be writable", path.display()))
        })
    }
}

/// The name of a URL's file: nothing of the URL itself, which somebody else chose.
fn name(url: &str) -> String {
    format!("{}.crl", Digest::of(url.as_bytes()))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Nothing was written there for long.
fn is_old(file: &Path, now: Timestamp) -> bool {
    let written = fs::symlink_metadata(file).and_then(|m| m.modified()).ok();
    let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let at = since.and_then(|span| i64::try_from(span.as_secs()).ok()).map(Timestamp::from_unix);
    at.is_some_and(|at| at.plus(FORGOTTEN_AFTER) < now)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // A link or a pipe in its place is none of ours.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(LARGEST_FETCHED).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST_FETCHED {
        return Err(io::Error::other(format!("it is larger than {LARGEST_FETCHED} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const URL: &str = "http://crl.example.com/../../1.crl";

    fn shelf(dir: &Path) -> Shelf {
        Shelf::new(dir.join("lists"), Timestamp::from_unix(1_790_000_000))
    }

    #[test]
    fn a_list_is_kept_whole_in_a_private_file_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let own = shelf(dir.path());
        assert_eq!(own.read(URL), Ok(None));
        assert!(!dir.path().join("lists").exists(), "nothing is made before there is a list");
        for list in [&b"one"[..], b"another"] {
            own.put(URL, list).unwrap();
            assert_eq!(own.read(URL), Ok(Some(list.to_vec())));
        }
        assert_eq!(own.read("http://crl.example.com/2.crl"), Ok(None));
        let kept: Vec<PathBuf> = entries(&dir.path().join("lists")).collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::metadata(&kept[0]).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("lists")).unwrap().mode() & 0o7777, 0o700);
        // A start takes away only what a crash left behind.
        fs::write(dir.path().join("lists/.new-x"), "half").unwrap();
        assert_eq!(shelf(dir.path()).read(URL), Ok(Some(b"another".to_vec())));
        assert_eq!(entries(&dir.path().join("lists")).count(), 1);
    }

    #[test]
    fn a_link_in_the_way_is_neither_read_nor_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let own = shelf(dir.path());
        own.put(URL, b"one").unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "safe").unwrap();
        let path = dir.path().join("lists").join(name(URL));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("lists").join(format!("{TEMPORARY}{}", name(URL))))
            .unwrap();
        assert!(own.read(URL).unwrap_err().0.contains("cannot be read"));
        own.put(URL, b"two").unwrap();
        assert_eq!(own.read(URL), Ok(Some(b"two".to_vec())));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
    }

    #[test]
    fn what_cannot_be_kept_says_where() {
        let own = Shelf::new("/proc/nothing/lists".into(), Timestamp::from_unix(0));
        assert!(own.put(URL, b"one").unwrap_err().0.contains("/proc/nothing/lists"));
    }
}
