//! The log's signing keys: a private file beside the database, made once with the log, and for a while after a rotation the
//! one before it.
//!
//! ```text
//! log.key ──────────────── signs ───────────────────────────────►      made with the log
//! rotation: log.key.next made, log.key.old = log.key and until when; then entry and checkpoint, signed by both, committed;
//!           then log.key.next becomes log.key                           a crash before the commit leaves nothing behind
//! until then both sign; at the first start after it an entry says so, and log.key.old is destroyed
//! ```

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::codec::note::{Note, Signature, SignerKey, Signs, VerifierKey};
use crate::domain::time::Timestamp;
use crate::ports::{Entropy, StoreError};

use super::{LogOptions, directory};

/// The key's file name.
const FILE: &str = "log.key";
/// The one before it, while both sign.
const OLD: &str = "log.key.old";
/// The next one, during a rotation.
const NEXT: &str = "log.key.next";
/// It has some 150 bytes; a name may have 255 more.
const LONGEST: u64 = 1_024;

/// The keys that sign.
#[derive(Debug)]
pub(super) struct LogKeys {
    /// The newest.
    pub(super) current: SignerKey,
    /// The one before it, and until when it signs too.
    pub(super) old: Option<(SignerKey, Timestamp)>,
}

impl LogKeys {
    /// The log's name.
    pub(super) fn origin(&self) -> &str {
        self.current.verifier().name()
    }

    /// The signatures of a checkpoint whose newest entry is of `at`.
    pub(super) fn sign(&self, text: &str, at: Timestamp) -> Vec<Signature> {
        let old = self.old.iter().filter(|(_, until)| at < *until).map(|(key, _)| key);
        core::iter::once(&self.current).chain(old).map(|key| key.sign(text, at)).collect()
    }

    /// Whether one of them stands behind a note.
    ///
    /// # Errors
    /// Why the newest does not.
    pub(super) fn verify(&self, note: &Note) -> Result<(), String> {
        let by_old = || self.old.as_ref().is_some_and(|(key, _)| key.verifier().verify(note).is_ok());
        match self.current.verifier().verify(note) {
            Err(why) if !by_old() => Err(why.to_string()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Reads the keys; their name is the log's origin. `None` if there is none. A rotation that was cut off is taken to its
/// end if `newest`, the newest checkpoint, was signed with the next key, else taken back.
///
/// # Errors
/// [`StoreError::Damaged`] if a file is none, lies open to others, or is the key of another origin than the configured
/// one; [`StoreError::Unavailable`].
pub(super) fn load(dir: &Path, options: &LogOptions, newest: Option<&str>) -> Result<Option<LogKeys>, StoreError> {
    settle(dir, newest)?;
    let Some((key, _)) = read(&dir.join(FILE))? else { return Ok(None) };
    let name = key.verifier().name();
    if let Some(origin) = options.origin.as_ref().filter(|origin| *origin != name) {
        return Err(StoreError::Damaged(format!(
            "the configuration names the audit log {origin:?}, and the log was begun as {name:?}: a log keeps its name; \
             set origin = {name:?} in [audit]"
        )));
    }
    let old = read(&dir.join(OLD))?.and_then(|(old, until)| Some((old, until?)));
    // A copy of the key itself is left by a rotation that was cut off.
    let old = old.filter(|(old, _)| old.verifier().key() != key.verifier().key());
    Ok(Some(LogKeys { current: key, old }))
}

/// A key's file, with the time after it if it has one.
fn read(path: &Path) -> Result<Option<(SignerKey, Option<Timestamp>)>, StoreError> {
    let Some(file) = directory::open_private(path)? else { return Ok(None) };
    let mut text = Zeroizing::new(String::with_capacity(1_024));
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| directory::unavailable("read", path, &e))?;
    let mut lines = text.lines();
    let key = SignerKey::parse(lines.next().unwrap_or_default()).map_err(|e| {
        StoreError::Damaged(format!("{}: the log's key {e}; put it back from a backup", path.display()))
    })?;
    let until = lines.next().and_then(|line| line.strip_prefix("until ")).and_then(|n| n.parse().ok());
    Ok(Some((key, until.map(Timestamp::from_unix))))
}

/// The next key and the copy of the present one, before the entry about them.
///
/// # Errors
/// [`StoreError::Unavailable`]; nothing has changed for a log that is read again.
pub(super) fn prepare(
    dir: &Path,
    keys: &LogKeys,
    until: Timestamp,
    entropy: &dyn Entropy,
) -> Result<SignerKey, StoreError> {
    let next = generate(keys.origin(), entropy)?;
    let old = Zeroizing::new(format!("{}\nuntil {}\n", keys.current.to_secret_text().as_str(), until.unix()));
    directory::make_private(&dir.join(OLD), old.as_bytes())?;
    directory::make_private(&dir.join(NEXT), format!("{}\n", next.to_secret_text().as_str()).as_bytes())?;
    Ok(next)
}

/// Ends or takes back what [`prepare`] began.
///
/// # Errors
/// As [`load`].
pub(super) fn settle(dir: &Path, newest: Option<&str>) -> Result<(), StoreError> {
    let (path, next) = (dir.join(FILE), dir.join(NEXT));
    let Some((key, _)) = read(&next)? else { return Ok(()) };
    let note: Option<Note> = newest.and_then(|note| note.parse().ok());
    if note.is_some_and(|note| key.verifier().verify(&note).is_ok()) {
        fs::rename(&next, &path).map_err(|e| directory::unavailable("put in place", &path, &e))?;
        directory::flush_directory(dir)
    } else {
        destroy(&dir.join(OLD))?;
        destroy(&next)
    }
}

/// Destroys the old key, whose time is over.
///
/// # Errors
/// [`StoreError::Unavailable`] if it may still be there.
pub(super) fn destroy_old(dir: &Path) -> Result<(), StoreError> {
    destroy(&dir.join(OLD))
}

/// Sets the end of the old key's time to the past. `false` if there is no old key.
///
/// # Errors
/// As [`load`].
pub(super) fn end_now(dir: &Path) -> Result<bool, StoreError> {
    let path = dir.join(OLD);
    let Some((old, _)) = read(&path)? else { return Ok(false) };
    let text = Zeroizing::new(format!("{}\nuntil 0\n", old.to_secret_text().as_str()));
    directory::make_private(&path, text.as_bytes())?;
    Ok(true)
}

/// Written over first: a file system may keep the bytes of a file that is only removed.
fn destroy(path: &Path) -> Result<(), StoreError> {
    let Some(mut file) = directory::open_private(path)? else { return Ok(()) };
    let failed = |e: std::io::Error| directory::unavailable("destroy", path, &e);
    let size = file.metadata().map_err(failed)?.len().min(LONGEST);
    let zeroes = vec![0_u8; usize::try_from(size).unwrap_or(0)];
    file.rewind().and_then(|()| file.write_all(&zeroes)).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    directory::flush_directory(path.parent().unwrap_or(Path::new(".")))
}

/// The public keys of a state directory that no daemon needs to hold: of the newest, and of the one before it while both
/// sign.
///
/// # Errors
/// As [`load`], also if there is none.
pub(super) fn public(dir: &Path) -> Result<Vec<String>, StoreError> {
    let path = dir.join(FILE);
    let missing =
        || StoreError::Unavailable(format!("{} is not there: the log begins with the first start", path.display()));
    let (key, _) = read(&path)?.ok_or_else(missing)?;
    let old = read(&dir.join(OLD))?.map(|(old, _)| old).filter(|old| old.verifier() != key.verifier());
    Ok(core::iter::once(key).chain(old).map(|key| key.verifier().to_string()).collect())
}

/// The public half of the key in a directory; `None` if there is none, or it may not be read, or is none.
pub(super) fn peek(dir: &Path) -> Option<VerifierKey> {
    let mut text = Zeroizing::new(String::new());
    File::open(dir.join(FILE)).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    SignerKey::parse(&text).ok().map(|key| key.verifier().clone())
}

/// A key for a new log, not yet written.
///
/// # Errors
/// [`StoreError::Damaged`] if the configured origin cannot be a key's name.
pub(super) fn draw(options: &LogOptions) -> Result<SignerKey, StoreError> {
    let origin = options.origin.clone().unwrap_or_else(|| own_origin(&*options.entropy));
    generate(&origin, &*options.entropy)
}

/// Writes a new log's key; durable on return.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub(super) fn write(dir: &Path, key: &SignerKey) -> Result<(), StoreError> {
    let mut text = key.to_secret_text();
    text.push('\n');
    directory::make_private(&dir.join(FILE), text.as_bytes()).map(|_| ())
}

fn generate(origin: &str, entropy: &dyn Entropy) -> Result<SignerKey, StoreError> {
    let mut seed = Zeroizing::new([0; 32]);
    entropy.fill(seed.as_mut_slice());
    SignerKey::from_seed(origin, Signs::Notes, seed)
        .map_err(|e| StoreError::Damaged(format!("the audit log's origin {origin:?} {e}")))
}

/// A name that no other installation has.
fn own_origin(entropy: &dyn Entropy) -> String {
    let mut random = [0; 8];
    entropy.fill(&mut random);
    format!("keyward/{:016x}", u64::from_be_bytes(random))
}
