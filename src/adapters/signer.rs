//! The guardian's lease key: a private file beside the log's key, made at the first start, and the next one once it is
//! announced.
//!
//! ```text
//! lease.key ────────── signs ─────────────────────────────────────►   announce: lease.key.next is made
//! advance:  lease.key ─► lease.key.old, lease.key.next ─► lease.key, lease.key.old written over and removed
//!           a crash in between is taken to its end when the key is opened
//! ```

use core::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use crate::codec::note::{SignerKey, Signs};
use crate::codec::statement::SUFFIX;
use crate::ports::{Doing, Entropy, HostError, KeyStanding, Signature, Signer, SigningKey};

/// The key in use.
const FILE: &str = "lease.key";
/// The next one.
const NEXT: &str = "lease.key.next";
/// The one before, for the moment of its end.
const OLD: &str = "lease.key.old";
/// It has some 150 bytes; a name may have 255 more.
const LONGEST: u64 = 1_024;

/// The keys in memory and their files.
pub struct FileSigner {
    dir: PathBuf,
    issuer: Arc<str>,
    keys: ArcSwap<Pair>,
    entropy: Arc<dyn Entropy>,
    /// One change at a time.
    changing: Mutex<()>,
}

struct Pair {
    current: Arc<SignerKey>,
    next: Option<Arc<SignerKey>>,
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSigner({})", self.issuer)
    }
}

impl FileSigner {
    /// Opens the key of a state directory, and makes it if there is none; ends a rotation that was cut off. `issuer` is the
    /// origin of the audit log in it. Call it while the directory is held.
    ///
    /// # Errors
    /// A sentence that never holds any of the key: a file is no key, lies open to others, is another log's, or cannot be
    /// written.
    pub fn open(dir: &Path, issuer: &str, entropy: Arc<dyn Entropy>) -> Result<Self, HostError> {
        settle(dir)?;
        let name = format!("{issuer}{SUFFIX}");
        let own = |file: &str| match read(&dir.join(file))? {
            Some(key) if key.verifier().name() != name => Err(HostError(format!(
                "{} is the key {}, expected {name}: it belongs to another log; put the right one back, or remove it to \
                 have a new one made, which every consumer has to pin",
                dir.join(file).display(),
                key.verifier().name()
            ))),
            found => Ok(found.map(Arc::new)),
        };
        let current = match own(FILE)? {
            Some(key) => key,
            None => Arc::new(make(&dir.join(FILE), &name, &*entropy)?),
        };
        let keys = ArcSwap::from_pointee(Pair { current, next: own(NEXT)? });
        Ok(Self { dir: dir.to_owned(), issuer: Arc::from(issuer), keys, entropy, changing: Mutex::new(()) })
    }

    fn announced(&self) -> Result<String, HostError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = self.keys.load_full();
        let next = match &pair.next {
            Some(next) => next.clone(),
            None => Arc::new(make(&self.dir.join(NEXT), pair.current.verifier().name(), &*self.entropy)?),
        };
        let text = next.verifier().to_string();
        self.keys.store(Arc::new(Pair { current: pair.current.clone(), next: Some(next) }));
        Ok(text)
    }

    fn advanced(&self) -> Result<String, HostError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = self.keys.load_full();
        let next = pair.next.clone().ok_or_else(|| HostError("no next key is announced".into()))?;
        rename(&self.dir, FILE, OLD)?;
        settle(&self.dir)?;
        let text = next.verifier().to_string();
        self.keys.store(Arc::new(Pair { current: next, next: None }));
        Ok(text)
    }
}

impl Signer for FileSigner {
    fn issuer(&self) -> Arc<str> {
        self.issuer.clone()
    }

    fn keys(&self) -> Vec<SigningKey> {
        let pair = self.keys.load();
        let key = |key: &Arc<SignerKey>, standing| SigningKey { text: key.verifier().to_string(), standing };
        let next = pair.next.iter().map(|next| key(next, KeyStanding::Announced));
        core::iter::once(key(&pair.current, KeyStanding::InUse)).chain(next).collect()
    }

    fn sign(&self, bytes: &[u8]) -> Result<Signature, HostError> {
        let pair = self.keys.load();
        let signature = pair.current.sign_bytes(bytes).map_err(|e| HostError(format!("the lease key {e}")))?;
        Ok(Signature { key: pair.current.verifier().id(), bytes: signature })
    }

    fn announce(&self) -> Doing<'_, Result<String, HostError>> {
        // A few small files, once in a year: nobody is kept waiting by them.
        Box::pin(async move { self.announced() })
    }

    fn advance(&self) -> Doing<'_, Result<String, HostError>> {
        Box::pin(async move { self.advanced() })
    }
}

/// Takes a rotation to its end that has put the old key aside.
fn settle(dir: &Path) -> Result<(), HostError> {
    let there = |file: &str| fs::symlink_metadata(dir.join(file)).is_ok();
    if !there(OLD) {
        return Ok(());
    }
    if !there(FILE) {
        // Without a next one the old key is all there is.
        rename(dir, if there(NEXT) { NEXT } else { OLD }, FILE)?;
    }
    if there(OLD) { destroy(&dir.join(OLD)) } else { Ok(()) }
}

fn rename(dir: &Path, from: &str, to: &str) -> Result<(), HostError> {
    let done = fs::rename(dir.join(from), dir.join(to)).and_then(|()| File::open(dir)?.sync_all());
    done.map_err(|e| HostError(format!("{} cannot be renamed to {to}: {e}", dir.join(from).display())))
}

/// Written over first: a file system may keep the bytes of a file that is only removed.
fn destroy(path: &Path) -> Result<(), HostError> {
    let failed = |e: io::Error| HostError(format!("{} cannot be destroyed: {e}", path.display()));
    let mut file = OpenOptions::new().write(true).custom_flags(nofollow()).open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len().min(LONGEST);
    let zeroes = vec![0_u8; usize::try_from(size).unwrap_or(0)];
    file.rewind().and_then(|()| file.write_all(&zeroes)).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    File::open(parent(path)).and_then(|d| d.sync_all()).map_err(failed)
}

fn nofollow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a key's file at 0600; durable on return, and whole or not there.
fn make(path: &Path, name: &str, entropy: &dyn Entropy) -> Result<SignerKey, HostError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    entropy.fill(seed.as_mut_slice());
    let key =
        SignerKey::from_seed(name, Signs::Notes, seed).map_err(|e| HostError(format!("the name {name:?} {e}")))?;
    let said = |e: io::Error| HostError(format!("{} cannot be made: {e}", path.display()));
    let made = path.with_extension("new");
    // One that a crash left behind has signed nothing.
    drop(fs::remove_file(&made));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made).map_err(said)?;
    let text = key.to_secret_text();
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(said)?;
    fs::rename(&made, path).and_then(|()| File::open(parent(path))?.sync_all()).map_err(said)?;
    Ok(key)
}

/// Reads a key's file; `None` if there is none.
fn read(path: &Path) -> Result<Option<SignerKey>, HostError> {
    let said = |why: String| HostError(format!("the lease key {} {why}", path.display()));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(said(format!("cannot be opened: {e}"))),
    };
    let seen = file.metadata().map_err(|e| said(format!("cannot be looked at: {e}")))?;
    let (own, mode) = (rustix::process::geteuid().as_raw(), seen.mode() & 0o7777);
    if !seen.is_file() || seen.uid() != own || mode & 0o077 != 0 {
        let owner = seen.uid();
        return Err(said(format!(
            "has owner {owner} and mode {mode:04o}; expected a plain file of user {own} at 0600: whoever could read it may \
             have forged leases, so remove it, and pin the new one"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(1_024));
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| said(format!("cannot be read: {e}")))?;
    SignerKey::parse(&text).map(Some).map_err(|e| said(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::adapters::entropy::OsEntropy;
    use crate::codec::note::VerifierKey;

    fn open(dir: &Path) -> Result<FileSigner, HostError> {
        FileSigner::open(dir, "keyward/1", Arc::new(OsEntropy))
    }

    fn in_use(signer: &FileSigner) -> String {
        signer.keys().first().unwrap().text.clone()
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn now<T>(doing: Doing<'_, T>) -> T {
        futures_util::FutureExt::now_or_never(doing).unwrap()
    }

    #[test]
    fn the_key_is_made_once_at_0600_and_signs_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let key: VerifierKey = in_use(&first).parse().unwrap();
        assert_eq!(key.name(), "keyward/1/lease");
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().mode() & 0o7777, 0o600);
        let again = open(dir.path()).unwrap();
        let signed = again.sign(b"bytes").unwrap();
        assert!(
            signed.key == key.id()
                && key.has_signed(b"bytes", &signed.bytes)
                && !key.has_signed(b"byte", &signed.bytes)
        );
        assert_eq!(files(dir.path()), [FILE]);
    }

    #[test]
    fn a_rotation_announces_then_uses_then_destroys() {
        let dir = tempfile::tempdir().unwrap();
        let signer = open(dir.path()).unwrap();
        let old = in_use(&signer);
        assert!(now(signer.advance()).unwrap_err().0.contains("no next key is announced"));
        let next = now(signer.announce()).unwrap();
        assert_eq!(now(signer.announce()).unwrap(), next, "announced twice, it is the same");
        assert_eq!((in_use(&signer), signer.keys().len()), (old.clone(), 2));
        // A restart in between changes nothing.
        let signer = open(dir.path()).unwrap();
        assert_eq!((in_use(&signer), signer.keys().last().unwrap().text.clone()), (old.clone(), next.clone()));
        assert_eq!(now(signer.advance()).unwrap(), next);
        assert_eq!((in_use(&signer), signer.keys().len()), (next.clone(), 1));
        assert_eq!(in_use(&open(dir.path()).unwrap()), next);
        assert_eq!(files(dir.path()), [FILE]);
    }

    #[test]
    fn a_rotation_that_was_cut_off_anywhere_has_one_key_after_the_next_start() {
        let start = |steps: &[(&str, &str)]| {
            let dir = tempfile::tempdir().unwrap();
            let signer = open(dir.path()).unwrap();
            let (old, next) = (in_use(&signer), now(signer.announce()).unwrap());
            for (from, to) in steps {
                fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
            }
            let signer = open(dir.path()).unwrap();
            (in_use(&signer) == old, in_use(&signer) == next, files(dir.path()).len())
        };
        assert_eq!(start(&[]), (true, false, 2));
        assert_eq!(start(&[(FILE, OLD)]), (false, true, 1));
        assert_eq!(start(&[(FILE, OLD), (NEXT, FILE)]), (false, true, 1));
    }

    #[test]
    fn a_key_that_others_can_read_or_of_another_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let other = FileSigner::open(dir.path(), "keyward/2", Arc::new(OsEntropy)).unwrap_err();
        assert!(other.0.contains("belongs to another log"), "{other}");
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(dir.path()).unwrap_err().0.contains("at 0600"));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(FILE)).unwrap();
        assert!(open(dir.path()).is_err(), "no link is followed");
    }
}
