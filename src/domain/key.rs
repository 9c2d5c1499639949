//! Key algorithms and digests of public keys.
//!
//! Refuses to know a private key: those stay behind [`crate::ports::KeyStore`].

use core::fmt;

use aws_lc_rs::digest;

/// A SHA-256 digest: of a certificate (its fingerprint), of a SubjectPublicKeyInfo, of an audit entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(&digest::digest(&digest::SHA256, bytes))
    }

    /// SHA-256 of the parts one after the other.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        // A context is made on the heap: what is short is put together first, and hashed at once.
        let mut short = [0_u8; SHORT];
        if let Some(whole) = put_together(parts, &mut short) {
            return Self::of(whole);
        }
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        Self::from_hash(&context.finish())
    }

    fn from_hash(hash: &digest::Digest) -> Self {
        let mut out = [0_u8; 32];
        // SHA-256 gives 32 bytes, so the lengths always agree.
        out.copy_from_slice(hash.as_ref());
        Self(out)
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut out = [0_u8; 32];
        if text.len() != 64 {
            return None;
        }
        for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = *pair else { return None };
            *slot = (hex_digit(high)? << 4) | hex_digit(low)?;
        }
        Some(Self(out))
    }

    /// 64 hexadecimal digits in lower case, as ASCII.
    #[must_use]
    pub fn hex(&self) -> [u8; 64] {
        const HEX: [u8; 16] = *b"0123456789abcdef";
        let mut text = [b'0'; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            let digits = [byte >> 4, byte & 15].map(|d| HEX.get(usize::from(d)).copied().unwrap_or(b'0'));
            pair.copy_from_slice(&digits);
        }
        text
    }

    /// The first 16 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.hex();
        let short = text.get(..16).unwrap_or_default();
        core::str::from_utf8(short).unwrap_or_default().to_owned()
    }

    /// The first eight bytes as a number: a stable hash to draw jitter from.
    #[must_use]
    pub fn leading_u64(&self) -> u64 {
        self.0.iter().take(8).fold(0, |acc, b| (acc << 8) | u64::from(*b))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

/// Parts that are at most this long together are hashed from one buffer: two digests with a word beside them.
const SHORT: usize = 96;

/// The parts one after the other, if they fit.
fn put_together<'a>(parts: &[&[u8]], buffer: &'a mut [u8; SHORT]) -> Option<&'a [u8]> {
    let mut end = 0_usize;
    for part in parts {
        let begin = end;
        end = begin.checked_add(part.len())?;
        buffer.get_mut(begin..end)?.copy_from_slice(part);
    }
    buffer.get(..end)
}

/// Bytes as hexadecimal digits in lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|d| char::from_digit(u32::from(d), 16)).collect()
}

/// Bytes from hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    let bytes = pairs.map(|pair| match *pair {
        [high, low] => Some((hex_digit(high)? << 4) | hex_digit(low)?),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>().filter(|_| whole)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The algorithm and size of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256: the default, and what every public CA takes.
    #[default]
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// Ed25519 (RFC 8410); public CAs refuse it.
    Ed25519,
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
}

impl KeyAlgorithm {
    /// Every algorithm with its name in the configuration.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::P256, "p256"),
        (Self::P384, "p384"),
        (Self::Ed25519, "ed25519"),
        (Self::Rsa2048, "rsa2048"),
        (Self::Rsa3072, "rsa3072"),
        (Self::Rsa4096, "rsa4096"),
    ];

    /// By its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(algorithm, _)| *algorithm)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text_and_bad_text_is_refused() {
        let d = Digest::of(b"keyward");
        assert_eq!(Digest::parse(&d.to_string()), Some(d));
        assert_eq!(Digest::of_parts(&[b"key", b"ward"]), d);
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Digest::parse(bad), None);
        }
    }
}
