//! The log's signing key: a private file beside the database, made once with the log.

use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::codec::note::{SignerKey, Signs};
use crate::ports::{Entropy, StoreError};

use super::{LogOptions, directory};

/// The key's file name.
const FILE: &str = "log.key";
/// It has some 150 bytes; a name may have 255 more.
const LONGEST: u64 = 1_024;

/// Reads the key; its name is the log's origin. `None` if there is none.
///
/// # Errors
/// [`StoreError::Damaged`] if the file is none, lies open to others, or is the key of another origin than the configured
/// one; [`StoreError::Unavailable`].
pub(super) fn read(dir: &Path, options: &LogOptions) -> Result<Option<SignerKey>, StoreError> {
    let path = dir.join(FILE);
    let shown = path.display();
    let Some(file) = directory::open_private(&path)? else { return Ok(None) };
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| directory::unavailable("read", &path, &e))?;
    let key = SignerKey::parse(&text)
        .map_err(|e| StoreError::Damaged(format!("{shown}: the log's key {e}; put it back from a backup")))?;
    let name = key.verifier().name();
    match &options.origin {
        Some(origin) if origin != name => Err(StoreError::Damaged(format!(
            "the configuration names the audit log {origin:?}, and the log was begun as {name:?}: a log keeps its name; \
             set origin = {name:?} in [audit]"
        ))),
        _ => Ok(Some(key)),
    }
}

/// A key for a new log, not yet written.
///
/// # Errors
/// [`StoreError::Damaged`] if the configured origin cannot be a key's name.
pub(super) fn draw(options: &LogOptions) -> Result<SignerKey, StoreError> {
    let origin = options.origin.clone().unwrap_or_else(|| own_origin(&*options.entropy));
    let mut seed = Zeroizing::new([0; 32]);
    options.entropy.fill(seed.as_mut_slice());
    SignerKey::from_seed(&origin, Signs::Notes, seed)
        .map_err(|e| StoreError::Damaged(format!("the audit log's origin {origin:?} {e}")))
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

/// A name that no other installation has.
fn own_origin(entropy: &dyn Entropy) -> String {
    let mut random = [0; 8];
    entropy.fill(&mut random);
    format!("keyward/{:016x}", u64::from_be_bytes(random))
}
