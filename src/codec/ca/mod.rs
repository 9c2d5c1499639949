//! The bytes of a private CA (RFC 5280): what is to be signed, what was signed, requests, bundles, and the lint between.
//!
//! Pure: keys stay with their holder. [`leaf`], [`ca_certificate`] and [`revocation_list`] give the bytes that are to be
//! signed, [`lint`](lint()) reads them back as verifiers will, and [`assemble`] puts the signature behind them.
//!
//! Refuses to know who may have what: that is [`crate::domain::authority::decide`].

mod adopt;
mod bundle;
mod certificate;
mod lint;
mod list;
mod request;
mod strength;
mod strict;

pub use adopt::{Adopted, AdoptedList, adopt, adopt_list, is_revoked};
pub use bundle::{Bundle, MOST_ANCHORS};
pub use certificate::{ca_certificate, leaf};
pub use lint::{Flaw, lint};
pub use list::revocation_list;
pub use request::{LONGEST_REQUEST, Request, request};
pub use strength::{Weakness, algorithm, strength};

use crate::codec::write::Writer;
use crate::codec::x509::Parsed;
use crate::codec::{ParseError, tbs, verify};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::time::Validity;

/// Whoever signs: a CA's certificate and the algorithm of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    der: Box<[u8]>,
    /// The distinguished name, byte for byte: verifiers compare bytes.
    subject: Box<[u8]>,
    key_id: Box<[u8]>,
    key: Digest,
    algorithm: KeyAlgorithm,
    validity: Validity,
}

impl Above {
    /// From the issuer's certificate (DER).
    ///
    /// # Errors
    /// If it does not parse, is no CA that may sign, has no name or key identifier, or a key of another kind.
    pub fn new(der: &[u8]) -> Result<Self, ParseError> {
        let parsed = Parsed::new(der)?;
        let title = parsed.title();
        if !parsed.may_issue() {
            return Err(ParseError(format!(
                "{title:?} may not issue: its basic constraints do not say CA, or its key usage lacks keyCertSign"
            )));
        }
        if parsed.subject.len() <= 2 {
            return Err(ParseError::new(
                "a CA without a distinguished name cannot issue: verifiers find it by its name",
            ));
        }
        let Some(key_id) = parsed.subject_key.filter(|id| !id.is_empty()) else {
            return Err(ParseError(format!(
                "{title:?} has no subject key identifier, which every CA has (RFC 5280 section 4.2.1.2)"
            )));
        };
        let algorithm = algorithm(parsed.spki).map_err(|e| ParseError(format!("the key of {title:?} {e}")))?;
        Ok(Self {
            der: Box::from(der),
            subject: Box::from(parsed.subject),
            key_id: Box::from(key_id),
            key: Digest::of(parsed.spki),
            algorithm,
            validity: parsed.validity,
        })
    }

    /// Its certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn key(&self) -> Digest {
        self.key
    }

    /// The algorithm of its key, and so of what it signs.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// When it is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// Bytes that are to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToSign {
    /// A TBSCertificate or TBSCertList (DER).
    pub bytes: Vec<u8>,
    /// Of the key that will sign.
    pub algorithm: KeyAlgorithm,
}

impl ToSign {
    /// SHA-256 of the bytes, as intents name them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// The certificate or list (DER) with its signature: the contents of the BIT STRING.
#[must_use]
pub fn assemble(to_sign: &ToSign, signature: &[u8]) -> Vec<u8> {
    // The frame around the bytes takes less than 40.
    let size = to_sign.bytes.len().saturating_add(signature.len()).saturating_add(40);
    let mut w = Writer::with_capacity(size);
    w.sequence(|w| {
        w.raw(&to_sign.bytes);
        w.sequence(|w| w.raw(signature_algorithm(to_sign.algorithm)));
        w.whole_bits(signature);
    });
    w.into_bytes()
}

/// Whether this signature is good for these bytes under a public key (SubjectPublicKeyInfo, DER).
#[must_use]
pub fn is_signed(to_sign: &ToSign, signature: &[u8], signer: &[u8]) -> bool {
    let algorithm = signature_algorithm(to_sign.algorithm);
    strength::parts(signer).is_some_and(|key| verify::is_signature_of(algorithm, &to_sign.bytes, signature, key))
}

/// The contents of the AlgorithmIdentifier by which a key of this kind signs: one for each kind, so that nobody chooses.
/// An issuer that was made elsewhere may have an RSA key (RFC 4055 section 5).
fn signature_algorithm(algorithm: KeyAlgorithm) -> &'static [u8] {
    tbs::signature_algorithm(algorithm).unwrap_or(RSA_SHA256)
}

static RSA_SHA256: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 0x05, 0];

/// A key identifier: the leftmost 160 bits of SHA-256 of the key's bits (RFC 7093 section 2, method 1).
fn key_id(key: &[u8]) -> [u8; 20] {
    let mut id = [0_u8; 20];
    id.iter_mut().zip(Digest::of(key).0).for_each(|(slot, byte)| *slot = byte);
    id
}
