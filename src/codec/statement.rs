//! Signed statements, read: nothing of a payload is looked at before a pinned key stands behind it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ParseError;
use super::note::{SignerKey, Signs, VerifierKey};
use crate::domain::statement::{Context, SIGNATURE, signed_bytes};

/// A lease, permit or check is at most this long as text: an issuer of 255 bytes, ids of 63, and a checkpoint's root make
/// some 1,100.
pub const LONGEST_STATEMENT: usize = 4 * 1_024;
/// A consumer pins at most so many keys: one and its successor, for a few guardians.
pub const MOST_KEYS: usize = 16;
/// The name of a lease key is that of the guardian's log with this after it.
pub const SUFFIX: &str = "/lease";

/// The keys that a consumer believes: `NAME+ID+KEY`, as `keyward gate keys` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<VerifierKey>);

impl Keys {
    /// From one key a line; empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// If a line is no key, or no lease key, or there are none or too many.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let keys = lines.map(str::parse).collect::<Result<Vec<VerifierKey>, _>>()?;
        Self::new(keys)
    }

    /// From keys.
    ///
    /// # Errors
    /// As [`Keys::parse`].
    pub fn new(keys: Vec<VerifierKey>) -> Result<Self, ParseError> {
        if keys.is_empty() || keys.len() > MOST_KEYS {
            return Err(ParseError::new(format!("has {} keys; from 1 to {MOST_KEYS} are pinned", keys.len())));
        }
        let stranger = |k: &&VerifierKey| k.signs() != Signs::Notes || !k.name().ends_with(SUFFIX);
        if let Some(key) = keys.iter().find(stranger) {
            let name = key.name();
            return Err(ParseError::new(format!(
                "has the key {name}, which is no lease key: their names end in {SUFFIX}"
            )));
        }
        Ok(Self(keys))
    }
}

/// Why a text is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// Longer than any.
    #[error("it has {0} bytes; no statement is so long")]
    TooLong(usize),
    /// Another form.
    #[error("it {0}")]
    Malformed(&'static str),
    /// Of another kind.
    #[error("it is a {seen}, expected a {expected}")]
    Context {
        /// What it is.
        seen: Context,
        /// What is expected.
        expected: Context,
    },
    /// Signed by a key that is not pinned.
    #[error("it names the key {0:08x}, which is not pinned; `keyward gate keys` on the guardian prints its keys")]
    UnknownKey(u32),
    /// A pinned key is named, and has not signed this.
    #[error("its signature is not that of the key {0:08x}: it was forged or damaged")]
    Forged(u32),
}

/// A payload behind which a pinned key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Canonical JSON.
    pub payload: Vec<u8>,
    /// The issuer that the key belongs to.
    pub issuer: String,
}

/// Checks form, kind and signature, and gives the payload.
///
/// # Errors
/// [`NotOpened`] says which does not hold.
pub fn open(text: &[u8], context: Context, keys: &Keys, longest: usize) -> Result<Opened, NotOpened> {
    if text.len() > longest {
        return Err(NotOpened::TooLong(text.len()));
    }
    let text = core::str::from_utf8(text).map_err(|_| NotOpened::Malformed("is no text"))?;
    // A file ends with a newline.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut parts = text.split('.');
    let (Some(kind), Some(id), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NotOpened::Malformed("does not have the four parts CONTEXT.KEY.PAYLOAD.SIGNATURE"));
    };
    let seen = Context::ALL.into_iter().find(|c| c.as_str() == kind);
    let seen = seen.ok_or(NotOpened::Malformed("begins with no known context"))?;
    if seen != context {
        return Err(NotOpened::Context { seen, expected: context });
    }
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let id = Some(id).filter(|id| id.len() == 8 && id.bytes().all(lower));
    let id = id.and_then(|id| u32::from_str_radix(id, 16).ok());
    let id = id.ok_or(NotOpened::Malformed("has a key id that is not eight hexadecimal digits"))?;
    let payload =
        URL_SAFE_NO_PAD.decode(payload).map_err(|_| NotOpened::Malformed("has a payload that is no base64url"))?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok().and_then(|s| <[u8; SIGNATURE]>::try_from(s).ok());
    let signature = signature.ok_or(NotOpened::Malformed("has a signature that is not 64 bytes in base64url"))?;
    // Two keys may have the same id: 32 bits are no proof.
    let mut named = keys.0.iter().filter(|k| k.id() == id).peekable();
    if named.peek().is_none() {
        return Err(NotOpened::UnknownKey(id));
    }
    let bytes = signed_bytes(context, &payload);
    let key = named.find(|k| k.has_signed(&bytes, &signature)).ok_or(NotOpened::Forged(id))?;
    let issuer = key.name().strip_suffix(SUFFIX).unwrap_or_default().to_owned();
    Ok(Opened { payload, issuer })
}

/// Signs a statement: for tests and for whoever holds a key outside the guardian.
///
/// # Errors
/// As [`SignerKey::sign_bytes`].
pub fn sign(key: &SignerKey, context: Context, payload: &[u8]) -> Result<String, ParseError> {
    let signature = key.sign_bytes(&signed_bytes(context, payload))?;
    Ok(crate::domain::statement::text(context, key.verifier().id(), payload, &signature))
}
