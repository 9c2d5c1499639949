//! Revocation lists as files in the state directory, one after the other replaced as a whole.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::ports::{Doing, HostError, Shelf};

/// A list is at most this long: what readers here take.
const LONGEST: u64 = 32 << 20;

/// A directory of its own, at 0755: what lies in it is public.
#[derive(Clone, Debug)]
pub struct FileShelf {
    dir: PathBuf,
}

impl FileShelf {
    /// Opens the directory, or makes it (its parent must exist).
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, HostError> {
        match fs::DirBuilder::new().mode(0o755).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(HostError(format!("{} cannot be made: {error}", dir.display())))
            }
            Ok(()) | Err(_) => Ok(Self { dir: dir.to_owned() }),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, HostError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        match !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain) {
            true => Ok(self.dir.join(name)),
            false => Err(HostError(format!("{name:?} is no name on this shelf"))),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HostError> {
        let path = self.path(name)?;
        let failed = |error: std::io::Error| HostError(format!("{} cannot be written: {error}", path.display()));
        let new = self.path(&format!("{name}.new"))?;
        let write = || {
            // What a crash left there is nobody's.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(failed)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        use std::io::Read as _;
        let path = self.path(name)?;
        let failed = |error: std::io::Error| HostError(format!("{} cannot be read: {error}", path.display()));
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, HostError> + Send + 'static,
    ) -> Doing<'_, Result<T, HostError>> {
        let own = self.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&own)).await;
            done.unwrap_or_else(|error| Err(HostError(format!("the shelf broke: {error}"))))
        })
    }
}

impl Shelf for FileShelf {
    fn put<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> Doing<'a, Result<(), HostError>> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.blocking(move |own| own.write(&name, &bytes))
    }

    fn get<'a>(&'a self, name: &'a str) -> Doing<'a, Result<Option<Vec<u8>>, HostError>> {
        let name = name.to_owned();
        self.blocking(move |own| own.read(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_there_replaces_what_was_and_names_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = FileShelf::open(&dir.path().join("pki")).unwrap();
        assert_eq!(shelf.read("a.crl").unwrap(), None);
        shelf.write("a.crl", b"one").unwrap();
        fs::write(dir.path().join("pki/a.crl.new"), b"left by a crash").unwrap();
        shelf.write("a.crl", b"two").unwrap();
        assert_eq!(shelf.read("a.crl").unwrap().as_deref(), Some(&b"two"[..]));
        for bad in ["", ".", "..", "../x", "a/b", "A", "a\0"] {
            assert!(shelf.write(bad, b"x").is_err() && shelf.read(bad).is_err(), "{bad:?}");
        }
    }
}
