//! Signed statements: what the guardian says under its own key to programs that act on it.
//!
//! ```text
//! signed:  CONTEXT ‖ 0x0A ‖ PAYLOAD                       the payload is canonical JSON (RFC 8785), an object
//! text:    CONTEXT . KEY . base64url(PAYLOAD) . base64url(SIGNATURE)      one line, no padding
//! ```
//! The context stands first in what is signed, so that no statement of one kind passes for one of another. Refuses to know
//! keys and signatures: [`crate::ports::Signer`] signs, `codec::statement` verifies.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// An Ed25519 signature (RFC 8032 section 5.1.6) has so many bytes.
pub const SIGNATURE: usize = 64;

/// What kind of statement is meant; for ever one string each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// A path is open for an audience until a time.
    Lease,
    /// One decision may be committed until a time.
    Permit,
    /// What a gate answered to a nonce.
    Check,
    /// Why a verdict is as it is, with its inputs.
    Explanation,
}

impl Context {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Lease, Self::Permit, Self::Check, Self::Explanation];

    /// What is signed begins with this, and the text does too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "keyward-lease-v1",
            Self::Permit => "keyward-permit-v1",
            Self::Check => "keyward-check-v1",
            Self::Explanation => "keyward-explanation-v1",
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The bytes that are signed.
#[must_use]
pub fn signed_bytes(context: Context, payload: &[u8]) -> Vec<u8> {
    let name = context.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(name.len().saturating_add(payload.len()).saturating_add(1));
    bytes.extend_from_slice(name);
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    bytes
}

/// The statement as one text; `key` is the id of the key that signed.
#[must_use]
pub fn text(context: Context, key: u32, payload: &[u8], signature: &[u8; SIGNATURE]) -> String {
    let (payload, signature) = (URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(signature));
    format!("{context}.{key:08x}.{payload}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_context_is_the_beginning_of_another_with_its_newline() {
        for one in Context::ALL {
            for other in Context::ALL.iter().filter(|o| **o != one) {
                assert!(!signed_bytes(one, b"{}").starts_with(&signed_bytes(*other, b"")), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_text_is_one_line_of_four_parts() {
        let text = text(Context::Lease, 0x0a0b_0c0d, b"{\"a\":1}", &[0xff; SIGNATURE]);
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!(parts.first().copied(), Some("keyward-lease-v1"));
        assert_eq!(parts.get(1..3), Some(["0a0b0c0d", "eyJhIjoxfQ"].as_slice()));
        assert!(parts.len() == 4 && !text.contains(['\n', '=', '+', '/']));
    }
}
