//! What the installed files hold: certificates and key of one slot in every [`Format`].
//!
//! Refuses material that does not fit together: no file is written from a key and a certificate of different pairs.

use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::adapters::deploy::files::read_bounded;
use crate::codec::{pem, pkcs12};
use crate::domain::certificate::Chain;
use crate::domain::inventory::{Format, Install, Layout};
use crate::domain::key::Digest;
use crate::ports::{HostError, PrivateKey};

/// No chain of the Web PKI has five elements; twice that is room for private ones.
const CHAIN_MAX: usize = 10;
/// A password is a line.
const PASSWORD_MAX: u64 = 1 << 10;

/// The certificates and, if any file needs it, the key.
pub(super) struct Material {
    certificates: Vec<CertificateDer<'static>>,
    key: Option<PrivateKey>,
}

/// Material with what one install adds to it.
pub(super) struct Rendering<'a> {
    material: &'a Material,
    password: Option<Zeroizing<String>>,
}

/// The formats of an install.
pub(super) fn formats(install: &Install) -> Vec<Format> {
    match &install.layout {
        Layout::Versioned { formats, .. } => formats.iter().copied().collect(),
        Layout::Plain { files } => files.keys().copied().collect(),
    }
}

impl Material {
    /// Parses a slot's chain and checks it against the slot's facts and key.
    pub(super) fn new(chain: &Chain, pem: &str, key: Option<PrivateKey>) -> Result<Self, HostError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .take(CHAIN_MAX + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| HostError(format!("the stored chain is no PEM: {e}")))?;
        if certificates.len() > CHAIN_MAX {
            return Err(HostError(format!("the stored chain has more than {CHAIN_MAX} certificates")));
        }
        if certificates.first().map(|leaf| Digest::of(leaf)) != Some(chain.leaf.fingerprint) {
            return Err(HostError("the stored chain does not start with the certificate that was accepted".to_owned()));
        }
        if let Some(key) = &key {
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.as_slice()));
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            // rustls wipes its copy of the key when it drops it.
            CertifiedKey::from_der(certificates.clone(), der.clone_key(), &provider).map_err(|e| {
                HostError(format!("the stored key and certificate do not belong together, nothing is installed: {e}"))
            })?;
        }
        Ok(Self { certificates, key })
    }

    /// Adds an install's PKCS#12 password.
    pub(super) fn for_install(&self, install: &Install) -> Result<Rendering<'_>, HostError> {
        let password = match (&install.pkcs12_password_file, formats(install).contains(&Format::Pkcs12)) {
            (_, false) => None,
            (Some(file), true) => Some(password(file)?),
            (None, true) => {
                return Err(HostError("pkcs12 needs a password file and none is configured".to_owned()));
            }
        };
        Ok(Rendering { material: self, password })
    }
}

impl Rendering<'_> {
    /// The content of a file.
    pub(super) fn render(&self, format: Format) -> Result<Zeroizing<Vec<u8>>, HostError> {
        let certificates = &self.material.certificates;
        let above = certificates.get(1..).unwrap_or_default();
        let leaf = certificates.get(..1).unwrap_or_default();
        match format {
            Format::Cert => Ok(pem(None, leaf)),
            Format::Chain => Ok(pem(None, above)),
            Format::Fullchain => Ok(pem(None, certificates)),
            Format::Key => Ok(pem(Some(self.key()?), &[])),
            Format::Combined => Ok(pem(Some(self.key()?), certificates)),
            Format::Pkcs12 => pkcs12(self.key()?, certificates, self.password()?),
        }
    }

    /// Whether `bytes` are a rendering of this material. PKCS#12 is salted, so there what it holds is compared.
    pub(super) fn is_rendered(&self, format: Format, bytes: &[u8]) -> bool {
        if format != Format::Pkcs12 {
            return self.render(format).is_ok_and(|wanted| wanted.as_slice() == bytes);
        }
        match (self.key(), self.password()) {
            (Ok(key), Ok(password)) => pkcs12_holds(bytes, key, &self.material.certificates, password),
            _ => false,
        }
    }

    fn key(&self) -> Result<&PrivateKey, HostError> {
        self.material
            .key
            .as_ref()
            .ok_or_else(|| HostError("the key was not fetched for a file that needs it".to_owned()))
    }

    fn password(&self) -> Result<&str, HostError> {
        let missing = || HostError("the password was not read for a file that needs it".to_owned());
        self.password.as_ref().map(|p| p.as_str()).ok_or_else(missing)
    }
}

/// Reads a password file: one line, its end trimmed.
fn password(file: &str) -> Result<Zeroizing<String>, HostError> {
    let bytes = read_bounded(Path::new(file), PASSWORD_MAX)?;
    let text = core::str::from_utf8(&bytes).map_err(|_| HostError(format!("{file} is no UTF-8 text")))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains(['\n', '\r', '\0']) {
        return Err(HostError(format!("{file} must hold the PKCS#12 password as its only line")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// A key, if any, then certificates, as PEM (RFC 7468).
fn pem(key: Option<&PrivateKey>, certificates: &[CertificateDer<'static>]) -> Zeroizing<Vec<u8>> {
    let key = key.map(|k| pem::private_key(&k.0));
    let rest = pem::certificates(certificates);
    // Reserved at once: a buffer that grows leaves unwiped copies of the key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(key.as_ref().map_or(0, |k| k.len()).saturating_add(rest.len())));
    out.extend_from_slice(key.as_ref().map_or(&[], |k| k.as_bytes()));
    out.extend_from_slice(rest.as_bytes());
    out
}

/// PKCS#12 with PBES2, AES-256-CBC and HMAC-SHA-256 throughout.
fn pkcs12(
    key: &PrivateKey,
    certificates: &[CertificateDer<'static>],
    password: &str,
) -> Result<Zeroizing<Vec<u8>>, HostError> {
    pkcs12::build(&key.0, certificates, password, "keyward")
        .map_err(|e| HostError(format!("cannot make the PKCS#12 file: {e}")))
}

fn pkcs12_holds(bytes: &[u8], key: &PrivateKey, certificates: &[CertificateDer<'static>], password: &str) -> bool {
    let same_key = |held: Option<Zeroizing<Vec<u8>>>| held.is_some_and(|held| *held == *key.0);
    pkcs12::parse(bytes, password).is_ok_and(|held| held.certificates == certificates && same_key(held.key))
}
