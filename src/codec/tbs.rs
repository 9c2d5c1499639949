//! What is about to be signed, read before it is: TBSCertificate and TBSCertList (RFC 5280 sections 4.1.2 and 5.1.2).
//!
//! Refuses to know who wants it signed, and with which key.

use super::ParseError;
use super::crl::{self, List};
use super::der::{self, Reader};
use super::write::Writer;
use super::x509::{Parsed, oid};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::time::{Timestamp, Validity};

/// A TBSCertificate has at most this many bytes: 64 KiB, the limit of certificates here, less what surrounds it.
pub const LARGEST_CERTIFICATE: usize = (64 << 10) - 64;
/// A TBSCertList has at most this many bytes: what is read of lists elsewhere, less what surrounds it.
pub const LARGEST_LIST: usize = crl::LARGEST - 1_024;

/// A certificate that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// AlgorithmIdentifier of the signature, contents only.
    pub algorithm: Vec<u8>,
    /// Its life.
    pub validity: Validity,
    /// What it may do.
    pub role: Role,
    /// The key identifier of its issuer.
    pub authority_key: Option<Vec<u8>>,
    /// SHA-256 of the SubjectPublicKeyInfo in it.
    pub spki: Digest,
}

/// What a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Neither signs certificates nor revocation lists.
    EndEntity,
    /// A CA: says so critically, and has the key usage keyCertSign.
    Ca,
}

/// A revocation list that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// AlgorithmIdentifier of the signature, contents only.
    pub algorithm: Vec<u8>,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// The key identifier of its issuer.
    pub authority_key: Option<Vec<u8>>,
}

/// Reads a TBSCertificate.
///
/// # Errors
/// What is malformed, or neither an end entity's nor a CA's.
pub fn certificate(tbs: &[u8]) -> Result<Certificate, ParseError> {
    if tbs.len() > LARGEST_CERTIFICATE {
        return Err(ParseError(format!("has {} bytes; at most {LARGEST_CERTIFICATE} are read", tbs.len())));
    }
    // Any other version knows no extensions, and so nothing that tells a CA from an end entity.
    version_three(tbs).ok_or_else(|| ParseError::new("is no TBSCertificate of version 3"))?;
    let algorithm = algorithm(tbs, 2).ok_or_else(|| ParseError::new("is no TBSCertificate"))?;
    let whole = enclose(tbs, algorithm);
    let parsed = Parsed::new(&whole)?;
    let usage = parsed.key_usage.unwrap_or(0);
    let signs_certificates = parsed.signs_certificates.unwrap_or(false);
    let signs_lists = usage & CRL_SIGN != 0;
    let role = match (parsed.basic.as_ref().is_some_and(|b| b.ca), signs_certificates) {
        (true, true) => Role::Ca,
        (false, false) if !signs_lists => Role::EndEntity,
        _ => {
            return Err(ParseError::new(
                "is neither a CA's certificate nor an end entity's: basicConstraints and keyUsage say two things",
            ));
        }
    };
    Ok(Certificate {
        algorithm: algorithm.to_vec(),
        validity: parsed.validity,
        role,
        authority_key: parsed.authority_key.map(<[u8]>::to_vec),
        spki: Digest::of(parsed.spki),
    })
}

/// The bit cRLSign of the first byte of keyUsage (RFC 5280 section 4.2.1.3).
const CRL_SIGN: u8 = 0b0000_0010;

/// Reads a TBSCertList.
///
/// # Errors
/// What is malformed, or does not say when the next one is due.
pub fn revocation_list(tbs: &[u8]) -> Result<RevocationList, ParseError> {
    if tbs.len() > LARGEST_LIST {
        return Err(ParseError(format!("has {} bytes; at most {LARGEST_LIST} are read", tbs.len())));
    }
    let algorithm = algorithm(tbs, 1).ok_or_else(|| ParseError::new("is no TBSCertList"))?;
    let whole = enclose(tbs, algorithm);
    let list = List::read(&whole, |_| Ok(()))?;
    let authority_key = list_authority_key(tbs);
    let next_update = list.next_update.ok_or_else(|| ParseError::new("is a list that does not say when it ends"))?;
    Ok(RevocationList {
        algorithm: algorithm.to_vec(),
        this_update: list.this_update,
        next_update,
        authority_key: authority_key.map(<[u8]>::to_vec),
    })
}

/// The algorithm of a SubjectPublicKeyInfo; `None` for one that no private CA has.
#[must_use]
pub fn key_algorithm(spki: &[u8]) -> Option<KeyAlgorithm> {
    let mut info = Reader::inside(spki, der::SEQUENCE)?;
    let algorithm = info.expect(der::SEQUENCE)?;
    let known = [(KeyAlgorithm::P256, P256_KEY), (KeyAlgorithm::P384, P384_KEY), (KeyAlgorithm::Ed25519, ED25519)];
    known.iter().find(|(_, der)| *der == algorithm).map(|(algorithm, _)| *algorithm)
}

/// The contents of the AlgorithmIdentifier of signatures with such a key; `None` for one that no private CA has.
#[must_use]
pub fn signature_algorithm(key: KeyAlgorithm) -> Option<&'static [u8]> {
    match key {
        KeyAlgorithm::P256 => Some(ECDSA_SHA256),
        KeyAlgorithm::P384 => Some(ECDSA_SHA384),
        KeyAlgorithm::Ed25519 => Some(ED25519),
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => None,
    }
}

/// The public key inside a SubjectPublicKeyInfo: what key identifiers are hashes of (RFC 5280 section 4.2.1.2, RFC 7093).
#[must_use]
pub fn key_bits(spki: &[u8]) -> Option<&[u8]> {
    let mut info = Reader::inside(spki, der::SEQUENCE)?;
    info.expect(der::SEQUENCE)?;
    info.whole_bits()
}

/// The SubjectPublicKeyInfo of a public key: an uncompressed point, or the 32 bytes of Ed25519. `None` as for
/// [`signature_algorithm`].
#[must_use]
pub fn spki(algorithm: KeyAlgorithm, key: &[u8]) -> Option<Vec<u8>> {
    let known = [(KeyAlgorithm::P256, P256_KEY), (KeyAlgorithm::P384, P384_KEY), (KeyAlgorithm::Ed25519, ED25519)];
    let (_, identifier) = known.iter().find(|(known, _)| *known == algorithm)?;
    let mut w = Writer::with_capacity(128);
    w.sequence(|w| {
        w.element(der::SEQUENCE, identifier);
        w.whole_bits(key);
    });
    Some(w.into_bytes())
}

/// The contents of an OCTET STRING, as tokens wrap a point (PKCS#11, CKA_EC_POINT).
#[must_use]
pub fn octets(der: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader::new(der);
    let inner = outer.expect(der::OCTET_STRING)?;
    outer.end()?;
    Some(inner)
}

/// A signature of two numbers of the same length (PKCS#11) as Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
#[must_use]
pub fn ecdsa_signature(raw: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = raw.split_at_checked(raw.len().checked_div(2)?)?;
    if r.is_empty() || r.len() != s.len() {
        return None;
    }
    let mut w = Writer::with_capacity(128);
    w.sequence(|w| [r, s].into_iter().for_each(|number| w.magnitude(number)));
    Some(w.into_bytes())
}

/// ecdsa-with-SHA256 (RFC 5758 section 3.2).
const ECDSA_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// ecdsa-with-SHA384.
const ECDSA_SHA384: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// id-Ed25519 (RFC 8410), key and signature alike.
const ED25519: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];
/// id-ecPublicKey with secp256r1 (RFC 5480).
const P256_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// id-ecPublicKey with secp384r1.
const P384_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 5, 0x2b, 0x81, 4, 0, 34];

fn version_three(tbs: &[u8]) -> Option<()> {
    let mut inner = Reader::inside(tbs, der::SEQUENCE)?;
    let version = Reader::new(inner.expect(0xa0)?).expect(der::INTEGER)?;
    (version == [2]).then_some(())
}

/// The AlgorithmIdentifier, which stands after so many elements.
fn algorithm(tbs: &[u8], after: usize) -> Option<&[u8]> {
    let mut inner = Reader::inside(tbs, der::SEQUENCE)?;
    for _ in 0..after {
        inner.element()?;
    }
    inner.expect(der::SEQUENCE)
}

/// Certificate or CertificateList with an empty signature, so that the readers of those can be asked.
fn enclose(tbs: &[u8], algorithm: &[u8]) -> Vec<u8> {
    let mut w = Writer::with_capacity(tbs.len().saturating_add(algorithm.len()).saturating_add(24));
    w.sequence(|w| {
        w.raw(tbs);
        w.element(der::SEQUENCE, algorithm);
        w.whole_bits(&[0]);
    });
    w.into_bytes()
}

/// The keyIdentifier of a list's authorityKeyIdentifier; the list is known to be well formed.
fn list_authority_key(tbs: &[u8]) -> Option<&[u8]> {
    let mut inner = Reader::inside(tbs, der::SEQUENCE)?;
    while !inner.is_empty() {
        let element = inner.element()?;
        if element.tag != 0xa0 {
            continue;
        }
        let mut extensions = Reader::inside(element.value, der::SEQUENCE)?;
        while !extensions.is_empty() {
            let mut extension = Reader::new(extensions.expect(der::SEQUENCE)?);
            let id = extension.expect(der::OID)?;
            extension.optional(der::BOOLEAN)?;
            let value = extension.expect(der::OCTET_STRING)?;
            if id == oid::AUTHORITY_KEY_ID {
                return Reader::inside(value, der::SEQUENCE)?.optional(0x80)?;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_numbers_of_a_signature_are_positive_and_short() {
        let cases: [(&[u8], &[u8]); 4] = [
            (&[1, 2, 3, 4], &[0x30, 8, 2, 2, 1, 2, 2, 2, 3, 4]),
            (&[0, 2, 0x80, 4], &[0x30, 8, 2, 1, 2, 2, 3, 0, 0x80, 4]),
            (&[0, 0, 0, 0x80], &[0x30, 7, 2, 1, 0, 2, 2, 0, 0x80]),
            (&[5, 6], &[0x30, 6, 2, 1, 5, 2, 1, 6]),
        ];
        for (raw, der) in cases {
            assert_eq!(ecdsa_signature(raw).as_deref(), Some(der), "{raw:?}");
        }
        assert_eq!((ecdsa_signature(&[]), ecdsa_signature(&[1, 2, 3])), (None, None));
        assert_eq!((octets(&[4, 2, 8, 9]), octets(&[4, 2, 8, 9, 0])), (Some(&[8, 9][..]), None));
    }

    #[test]
    fn what_is_no_tbs_is_refused() {
        for bad in [&b""[..], b"0\x00", b"0\x03\xa0\x01\x00", b"text", &[0x30, 0x80]] {
            assert!(certificate(bad).is_err() && revocation_list(bad).is_err(), "{bad:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::prelude::any::<Vec<u8>>()) {
            drop(certificate(&bytes));
            drop(revocation_list(&bytes));
            drop(ecdsa_signature(&bytes));
        }
    }
}
