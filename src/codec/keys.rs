//! Private keys: making them, reading them, and the signing request for exactly some names (RFC 2986).
//!
//! A key has no `Debug`, its bytes are wiped when dropped, and no error text holds any of them.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature as sig;
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData as _, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::{Zeroize as _, Zeroizing};

use crate::codec::ParseError;
use crate::codec::der::{self, Reader};
use crate::codec::pem::KeyForm;
use crate::codec::x509::{GeneralName, oid};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::{Name, NameSet};

/// A key pair in memory.
pub struct KeyPair {
    inner: rcgen::KeyPair,
}

impl Drop for KeyPair {
    fn drop(&mut self) {
        self.inner.zeroize();
    }
}

impl core::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyPair(…)")
    }
}

/// Makes a private key as PKCS#8 DER (version 1, which every reader knows). RSA takes up to seconds: not on a thread
/// that others wait for.
///
/// # Errors
/// If the cryptographic library fails.
pub fn generate(algorithm: KeyAlgorithm) -> Result<Zeroizing<Vec<u8>>, ParseError> {
    let failed = |_| ParseError(format!("no {algorithm} key could be made: the cryptographic library failed"));
    let random = SystemRandom::new();
    let ec = |curve| sig::EcdsaKeyPair::generate_pkcs8(curve, &random).map(|d| Zeroizing::new(d.as_ref().to_vec()));
    let rsa = |size| -> Result<Zeroizing<Vec<u8>>, aws_lc_rs::error::Unspecified> {
        let der: Pkcs8V1Der<'_> = sig::RsaKeyPair::generate(size)?.as_der()?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    };
    match algorithm {
        KeyAlgorithm::P256 => ec(&sig::ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed),
        KeyAlgorithm::P384 => ec(&sig::ECDSA_P384_SHA384_ASN1_SIGNING).map_err(failed),
        KeyAlgorithm::Ed25519 => {
            sig::Ed25519KeyPair::generate_pkcs8v1(&random).map(|d| Zeroizing::new(d.as_ref().to_vec())).map_err(failed)
        }
        KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048).map_err(failed),
        KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072).map_err(failed),
        KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096).map_err(failed),
    }
}

impl KeyPair {
    /// Reads a private key.
    ///
    /// # Errors
    /// If it is encrypted, of a kind that is not supported, or damaged.
    pub fn read(form: KeyForm, der: &[u8]) -> Result<Self, ParseError> {
        let key = match form {
            KeyForm::Pkcs8 => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der)),
            KeyForm::Sec1 => PrivateKeyDer::from(PrivateSec1KeyDer::from(der)),
            KeyForm::Pkcs1 => PrivateKeyDer::from(PrivatePkcs1KeyDer::from(der)),
            KeyForm::Encrypted => return Err(ParseError::new("the private key is encrypted")),
        };
        rcgen::KeyPair::try_from(&key)
            .map(|inner| Self { inner })
            .map_err(|_| ParseError::new("the private key is damaged or of a kind that is not supported"))
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> Digest {
        Digest::of(&self.inner.subject_public_key_info())
    }

    /// Its SubjectPublicKeyInfo (DER).
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.inner.subject_public_key_info()
    }

    /// Its algorithm; `None` for one that Keyward does not make.
    #[must_use]
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        let alg = self.inner.algorithm();
        if *alg == rcgen::PKCS_ECDSA_P256_SHA256 {
            Some(KeyAlgorithm::P256)
        } else if *alg == rcgen::PKCS_ECDSA_P384_SHA384 {
            Some(KeyAlgorithm::P384)
        } else if *alg == rcgen::PKCS_ED25519 {
            Some(KeyAlgorithm::Ed25519)
        } else if *alg == rcgen::PKCS_RSA_SHA256 {
            match modulus_bits(&self.inner.subject_public_key_info())? {
                2_048 => Some(KeyAlgorithm::Rsa2048),
                3_072 => Some(KeyAlgorithm::Rsa3072),
                4_096 => Some(KeyAlgorithm::Rsa4096),
                _ => None,
            }
        } else {
            None
        }
    }

    /// A signing request (DER) for exactly these names: empty subject, no key usage, no other wish.
    ///
    /// # Errors
    /// If there are no names or signing fails.
    pub fn signing_request(&self, names: &NameSet) -> Result<Vec<u8>, ParseError> {
        if names.is_empty() {
            return Err(ParseError::new("a signing request needs at least one name"));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names.iter().map(san).collect::<Result<_, _>>()?;
        let csr = params
            .serialize_request(&self.inner)
            .map_err(|_| ParseError::new("the signing request could not be signed"))?;
        Ok(csr.der().to_vec())
    }
}

/// The size of an RSA public key.
fn modulus_bits(spki: &[u8]) -> Option<usize> {
    let mut info = Reader::inside(spki, der::SEQUENCE)?;
    info.expect(der::SEQUENCE)?;
    let modulus = Reader::inside(info.whole_bits()?, der::SEQUENCE)?.expect(der::INTEGER)?;
    modulus.strip_prefix(&[0]).unwrap_or(modulus).len().checked_mul(8)
}

fn san(name: &Name) -> Result<SanType, ParseError> {
    match name {
        Name::Dns(text) => text
            .to_string()
            .try_into()
            .map(SanType::DnsName)
            .map_err(|_| ParseError(format!("{text} cannot stand in a certificate"))),
        Name::Ip(ip) => Ok(SanType::IpAddress(*ip)),
    }
}

/// The names and the SPKI digest of a signing request that we made.
///
/// # Errors
/// If it is damaged.
pub fn request_facts(csr: &[u8]) -> Result<(Digest, NameSet), ParseError> {
    request_parts(csr).ok_or_else(|| ParseError::new("is no signing request as Keyward makes them"))
}

fn request_parts(csr: &[u8]) -> Option<(Digest, NameSet)> {
    let mut info = Reader::new(Reader::inside(csr, der::SEQUENCE)?.expect(der::SEQUENCE)?);
    info.expect(der::INTEGER)?;
    info.expect(der::SEQUENCE)?;
    let spki = info.element().filter(|e| e.tag == der::SEQUENCE)?.raw;
    // [0] attributes → extensionRequest (RFC 2985 section 5.4.2) → SET → Extensions.
    let mut attribute = Reader::inside(info.expect(0xa0)?, der::SEQUENCE)?;
    info.end()?;
    attribute.expect(der::OID)?;
    let mut extensions = Reader::inside(attribute.expect(0x31)?, der::SEQUENCE)?;
    let mut names = Vec::new();
    while !extensions.is_empty() {
        let mut extension = Reader::new(extensions.expect(der::SEQUENCE)?);
        if extension.expect(der::OID)? == oid::SUBJECT_ALT_NAME {
            extension.optional(der::BOOLEAN)?;
            let mut list = Reader::inside(extension.expect(der::OCTET_STRING)?, der::SEQUENCE)?;
            while !list.is_empty() {
                let e = list.element()?;
                names.push(GeneralName { tag: e.tag, value: e.value }.well_formed()?);
            }
        }
    }
    Some((Digest::of(spki), NameSet::new(names)))
}
