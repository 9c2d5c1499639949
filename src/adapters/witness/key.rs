//! The private key of a witness: a file at 0600 that is made once and never overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use crate::codec::note::{SignerKey, Signs};
use crate::ports::Entropy;

/// A key's text has some 100 bytes and a name of 255 at most.
const LONGEST: u64 = 1_024;

/// Makes a key for a witness of this name; durable on return. Gives the public key's text.
///
/// # Errors
/// A sentence: the name cannot be one, the file is there already, or it cannot be written.
pub fn make(path: &Path, name: &str, entropy: &dyn Entropy) -> Result<String, String> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    entropy.fill(seed.as_mut_slice());
    let key = SignerKey::from_seed(name, Signs::Sightings, seed).map_err(|e| format!("the name {name:?} {e}"))?;
    let said = |e: std::io::Error| format!("{} cannot be made: {e}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(said)?;
    let text = key.to_secret_text();
    let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = written.and_then(|()| File::open(dir)?.sync_all()) {
        // Half a key helps nobody; the error that counts is the first.
        drop(fs::remove_file(path));
        return Err(said(error));
    }
    Ok(key.verifier().to_string())
}

/// Reads it.
///
/// # Errors
/// A sentence that never holds any of the key: it is not there, others may read it, or it is no key.
pub fn load(path: &Path) -> Result<SignerKey, String> {
    let said = |why: String| format!("the witness's key {} {why}", path.display());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => {
            return Err(said("is not there; make it: keyward witness init --name NAME".into()));
        }
        Err(e) => return Err(said(format!("cannot be opened: {e}"))),
    };
    let seen = file.metadata().map_err(|e| said(format!("cannot be looked at: {e}")))?;
    let (own, mode) = (rustix::process::geteuid().as_raw(), seen.mode() & 0o7777);
    if !seen.is_file() || seen.uid() != own || mode & 0o077 != 0 {
        let owner = seen.uid();
        return Err(said(format!(
            "has owner {owner} and mode {mode:04o}; expected a plain file of user {own} at 0600"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(1_024));
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| said(format!("cannot be read: {e}")))?;
    SignerKey::parse(&text).map_err(|e| said(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::entropy::OsEntropy;

    #[test]
    fn a_key_is_made_once_at_0600_and_read_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness.key");
        assert!(load(&path).unwrap_err().contains("keyward witness init"));
        let public = make(&path, "w.example/k", &OsEntropy).unwrap();
        let read = load(&path).unwrap();
        assert_eq!((read.verifier().to_string(), read.verifier().signs()), (public, Signs::Sightings));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(make(&path, "w.example/k", &OsEntropy).is_err(), "never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load(&path).unwrap_err().contains("at 0600"));
        assert!(make(&dir.path().join("other"), "a b", &OsEntropy).is_err());
        assert!(!dir.path().join("other").exists());
    }
}
