//! The private keys of CAs: P-256, P-384 and Ed25519, made, read and signed with.
//!
//! A key has no `Debug` of its contents; the library wipes it when it is dropped, and no error text holds any of it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

use super::{ParseError, tbs};
use crate::domain::key::{Digest, KeyAlgorithm};

/// A key pair that signs.
pub struct SigningKey {
    pair: Pair,
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigningKey({:?})", self.digest())
    }
}

impl SigningKey {
    /// Reads a private key (PKCS#8).
    ///
    /// # Errors
    /// If it is damaged, or of a kind that no private CA has.
    pub fn read(pkcs8: &[u8]) -> Result<Self, ParseError> {
        let (pair, algorithm) = pair(pkcs8).ok_or_else(|| {
            ParseError::new("is no private key that a CA can have: P-256, P-384 or Ed25519 as PKCS#8")
        })?;
        let public = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        };
        let spki = tbs::spki(algorithm, public).ok_or_else(|| ParseError::new("has no public key"))?;
        Ok(Self { pair, algorithm, spki })
    }

    /// Its kind.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Its SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of that.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// Signs: the contents of the signature's BIT STRING.
    ///
    /// # Errors
    /// If the library fails.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, ParseError> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), bytes).map(|s| s.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(bytes).as_ref().to_vec()),
        }
        .map_err(|_| ParseError::new("could not sign: the cryptographic library failed"))
    }
}

fn pair(pkcs8: &[u8]) -> Option<(Pair, KeyAlgorithm)> {
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8) {
        return Some((Pair::Ecdsa(pair), KeyAlgorithm::P256));
    }
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8) {
        return Some((Pair::Ecdsa(pair), KeyAlgorithm::P384));
    }
    // The older form of the file has no public key beside the private one.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
    Some((Pair::Ed25519(pair), KeyAlgorithm::Ed25519))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::keys;
    use crate::codec::pem::KeyForm;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey};

    #[test]
    fn each_kind_signs_what_its_public_key_verifies_and_others_are_refused() {
        for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519] {
            let pkcs8 = keys::generate(algorithm).unwrap();
            let key = SigningKey::read(&pkcs8).unwrap();
            assert_eq!((key.algorithm(), tbs::key_algorithm(key.spki())), (algorithm, Some(algorithm)));
            assert_eq!(key.digest(), keys::KeyPair::read(KeyForm::Pkcs8, &pkcs8).unwrap().spki());
            let (signature, public) = (key.sign(b"tbs").unwrap(), tbs::key_bits(key.spki()).unwrap());
            let verified = match &key.pair {
                Pair::Ecdsa(_) if algorithm == KeyAlgorithm::P256 => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public).verify(b"tbs", &signature)
                }
                Pair::Ecdsa(_) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, public).verify(b"tbs", &signature),
                Pair::Ed25519(_) => UnparsedPublicKey::new(&ED25519, public).verify(b"tbs", &signature),
            };
            assert!(verified.is_ok(), "{algorithm}");
        }
        let rsa = keys::generate(KeyAlgorithm::Rsa2048).unwrap();
        assert!(SigningKey::read(&rsa).unwrap_err().to_string().contains("P-256, P-384 or Ed25519"));
        assert!(SigningKey::read(b"").is_err());
    }
}
