//! What is kept in the state directory: the local key of prints, and a private directory for each rotation under way.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::take;
use crate::domain::id::KeyId;
use crate::ports::{Entropy, HostError, Prints};

/// The local key: 32 random bytes, as long as the digest of the HMAC (RFC 2104 section 3).
const LENGTH: usize = 32;
/// Its file.
const FILE: &str = "prints.key";

pub(super) struct Local {
    dir: PathBuf,
    entropy: Arc<dyn Entropy>,
    known: Mutex<Option<hmac::Key>>,
}

impl Local {
    pub(super) fn new(dir: &Path, entropy: Arc<dyn Entropy>) -> Self {
        Self { dir: dir.to_owned(), entropy, known: Mutex::default() }
    }

    /// The key of prints, made at its first use.
    pub(super) fn key(&self, prints: Prints) -> Result<hmac::Key, HostError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*known {
            return Ok(key.clone());
        }
        let path = self.dir.join(FILE);
        let key = match self.read_key(&path)? {
            Some(key) => key,
            None if prints == Prints::Made => {
                return Err(HostError(format!(
                    "{} is gone, and without it no key can be compared with what was seen before; put it back from a \
                     backup",
                    path.display()
                )));
            }
            None => self.make_key(&path)?,
        };
        *known = Some(key.clone());
        Ok(key)
    }

    fn read_key(&self, path: &Path) -> Result<Option<hmac::Key>, HostError> {
        let failed = |why: String| HostError(format!("{} {why}", path.display()));
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(format!("cannot be opened: {error}"))),
        };
        let meta = file.metadata().map_err(|e| failed(format!("cannot be read: {e}")))?;
        if meta.mode() & 0o077 != 0 || !meta.is_file() {
            return Err(failed(format!("has mode {:04o}, expected 0600: others may know it", meta.mode() & 0o7777)));
        }
        let mut bytes = Zeroizing::new([0_u8; LENGTH]);
        file.read_exact(&mut *bytes).map_err(|e| failed(format!("is no key of {LENGTH} bytes: {e}")))?;
        Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, &*bytes)))
    }

    fn make_key(&self, path: &Path) -> Result<hmac::Key, HostError> {
        let mut bytes = Zeroizing::new([0_u8; LENGTH]);
        self.entropy.fill(&mut *bytes);
        let new = self.dir.join(format!("{FILE}.new"));
        let write = || -> std::io::Result<()> {
            // What a crash left there was never used.
            remove(&new)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&*bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|e| HostError(format!("{} cannot be written: {e}", path.display())))?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &*bytes))
    }

    fn directory(&self, key: &KeyId) -> PathBuf {
        self.dir.join("rotations").join(key.as_str())
    }

    /// The file into which a hook writes the new key: there, empty at first, and nobody else's.
    pub(super) fn pending(&self, key: &KeyId) -> Result<PathBuf, HostError> {
        let dir = self.directory(key);
        let file = dir.join("pending");
        let make = || -> std::io::Result<()> {
            DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            File::open(&dir)?.sync_all()
        };
        make().map_err(|e| HostError(format!("{} cannot be made: {e}", file.display())))?;
        Ok(file)
    }

    /// What the hook left there; `None` if it is empty. It is durable from here on.
    pub(super) fn left(&self, key: &KeyId) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        let path = self.directory(key).join("pending");
        let failed = |e: std::io::Error| HostError(format!("{} cannot be read: {e}", path.display()));
        let file = match open_own(&path, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            file.set_permissions(mode).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        let value = take(file).map_err(failed)?;
        if value.len() > super::LONGEST {
            return Err(HostError(format!("{} is longer than {} bytes", path.display(), super::LONGEST)));
        }
        Ok((!value.trim_ascii().is_empty()).then_some(value))
    }

    /// Overwritten, then removed; what has another name too is only removed here.
    pub(super) fn wipe(&self, key: &KeyId) -> Result<(), HostError> {
        let dir = self.directory(key);
        let wipe = || -> std::io::Result<()> {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    let mut file = open_own(&entry.path(), OFlags::WRONLY)?;
                    let meta = file.metadata()?;
                    let zeros = [0_u8; 4_096];
                    // Under a second name it is not only ours: a hook may have put it in its place by a link.
                    let mut left = if meta.nlink() > 1 { 0 } else { meta.len() };
                    while left > 0 {
                        let part = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
                        file.write_all(zeros.get(..part).unwrap_or_default())?;
                        left = left.saturating_sub(u64::try_from(part).unwrap_or(left));
                    }
                    file.sync_all()?;
                }
                fs::remove_file(entry.path())?;
            }
            fs::remove_dir(&dir)?;
            File::open(self.dir.join("rotations"))?.sync_all()
        };
        wipe().map_err(|e| HostError(format!("{} cannot be wiped: {e}", dir.display())))
    }
}

/// Opens a regular file of ours: no link is followed, and a pipe in its place holds nobody.
fn open_own(path: &Path, flags: OFlags) -> std::io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other(format!("{} is no regular file", path.display()))),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
