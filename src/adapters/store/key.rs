//! The log's signing key: a private file beside the database, made once with the log.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::codec::note::{SignerKey, Signs, VerifierKey};
use crate::ports::{Entropy, StoreError};

use super::{LogOptions, directory, trust};

/// The key's file name.
const FILE: &str = "log.key";
/// It has some 150 bytes; a name may have 255 more.
const LONGEST: u64 = 1_024;

/// Reads the key, or makes it if the log is new. Its name is the log's origin.
///
/// # Errors
/// [`StoreError::Distrusted`] if there is a log and no key; [`StoreError::Damaged`] if the file is none, lies open to
/// others, or is the key of another origin than the configured one; [`StoreError::Unavailable`].
pub(super) fn load(dir: &Path, options: &LogOptions, is_new: bool) -> Result<SignerKey, StoreError> {
    let path = dir.join(FILE);
    let shown = path.display();
    let Some(file) = directory::open_private(&path)? else {
        if is_new {
            return make(&path, options);
        }
        let text = format!("there is a log, and its key {shown} is missing; put it back from a backup");
        return Err(StoreError::Distrusted { code: trust::NO_KEY, text });
    };
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
        _ => Ok(key),
    }
}

/// The public half of the key in a directory; `None` if there is none, or it may not be read, or is none.
pub(super) fn peek(dir: &Path) -> Option<VerifierKey> {
    let mut text = Zeroizing::new(String::new());
    File::open(dir.join(FILE)).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    SignerKey::parse(&text).ok().map(|key| key.verifier().clone())
}

fn make(path: &Path, options: &LogOptions) -> Result<SignerKey, StoreError> {
    let origin = options.origin.clone().unwrap_or_else(|| own_origin(&*options.entropy));
    let mut seed = Zeroizing::new([0; 32]);
    options.entropy.fill(seed.as_mut_slice());
    let key = SignerKey::from_seed(&origin, Signs::Notes, seed)
        .map_err(|e| StoreError::Damaged(format!("the audit log's origin {origin:?} {e}")))?;
    directory::make_private(path, format!("{}\n", key.to_secret_text().as_str()).as_bytes())?;
    Ok(key)
}

/// A name that no other installation has.
fn own_origin(entropy: &dyn Entropy) -> String {
    let mut random = [0; 8];
    entropy.fill(&mut random);
    format!("keyward/{:016x}", u64::from_be_bytes(random))
}
