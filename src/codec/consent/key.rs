//! The public keys that people consent with, and their signatures, whatever they were wrapped in.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey};

use super::Refused;
use crate::codec::{ca, tbs};
use crate::domain::key::KeyAlgorithm;

/// P-256 with SHA-256, P-384 with SHA-384, or Ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    curve: Curve,
    bits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    Ed25519,
}

impl Curve {
    pub(super) fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::P256 => KeyAlgorithm::P256,
            Self::P384 => KeyAlgorithm::P384,
            Self::Ed25519 => KeyAlgorithm::Ed25519,
        }
    }

    /// Bytes of one coordinate, and of each of a signature's two numbers.
    pub(super) fn width(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
        }
    }
}

impl PublicKey {
    /// From an uncompressed point, or the 32 bytes of Ed25519. For a point of small order anybody can sign, so a key is
    /// looked at as closely as one that is to be certified.
    pub(super) fn new(curve: Curve, bits: Vec<u8>) -> Result<Self, Refused> {
        let weak = |why: &dyn ToString| Refused::Weak(why.to_string());
        let spki = tbs::spki(curve.algorithm(), &bits).ok_or_else(|| weak(&"is of an unknown kind"))?;
        match ca::strength(&spki) {
            Ok(algorithm) if algorithm == curve.algorithm() => Ok(Self { curve, bits }),
            Ok(_) => Err(weak(&"is of another kind than it says")),
            Err(weakness) => Err(weak(&weakness)),
        }
    }

    pub(super) fn curve(&self) -> Curve {
        self.curve
    }

    /// The signature's 64 bytes, or its two numbers as [`fixed`] gives them.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        match self.curve {
            Curve::P256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.bits).verify(message, signature),
            Curve::P384 => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &self.bits).verify(message, signature),
            Curve::Ed25519 => UnparsedPublicKey::new(&ED25519, &self.bits).verify(message, signature),
        }
        .map_err(|_| Refused::Signature)
    }
}

/// Two positive numbers one after the other, each of `width` bytes. They come as the contents of a DER INTEGER or of an
/// `mpint` (RFC 4251 section 5), which are the same: two's complement in its shortest form.
pub(super) fn fixed(numbers: [&[u8]; 2], width: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(width.saturating_mul(2));
    for number in numbers {
        let magnitude = match number {
            [] | [0] => return None,
            [first, ..] if *first >= 0x80 => return None,
            [0, next, ..] if *next < 0x80 => return None,
            [0, rest @ ..] => rest,
            whole => whole,
        };
        let zeros = width.checked_sub(magnitude.len())?;
        out.extend(core::iter::repeat_n(0, zeros));
        out.extend_from_slice(magnitude);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form_and_is_positive() {
        let one = &[1_u8][..];
        assert_eq!(fixed([&[0, 0x80], one], 2), Some(vec![0, 0x80, 0, 1]));
        for bad in [&[][..], &[0], &[0x80], &[0xff, 1], &[0, 1], &[0, 0, 0x80], &[1, 2, 3], &[0, 0x80, 2, 3]] {
            assert_eq!(fixed([bad, one], 2), None, "{bad:?}");
            assert_eq!(fixed([one, bad], 2), None, "{bad:?}");
        }
    }
}
