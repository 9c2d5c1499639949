//! PKCS#12 (RFC 7292) with modern ciphers only: PBES2 with PBKDF2 and AES-256, HMAC-SHA-256 over the whole.
//!
//! The old ciphers (RC2, 3DES) are refused, and so is a file that would keep us busy deriving keys.

use p12_keystore::error::Error;
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12Archive, PrivateKey, PrivateKeyChain};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::codec::ParseError;
use crate::codec::der::{self, Reader};
use crate::codec::keys::KeyPair;
use crate::codec::pem::KeyForm;
use crate::codec::x509::{Limits, Parsed};
use crate::domain::key::Digest;

/// Rounds of key derivation in what we write: OpenSSL writes 2,048, Java 10,000, and OWASP asks for 600,000 where people
/// choose the password. Here it stands in a file beside the bundle, so the rounds defend little; Java's number is read
/// everywhere without a pause.
const ROUNDS: u32 = 10_000;

/// Rounds that a file may ask for in all, the check value aside (the library bounds that at one million): three parts
/// with OWASP's number. At under a microsecond each, two seconds.
const MOST_ROUNDS: u64 = 2_000_000;

/// What a file holds.
pub struct Bundle {
    /// The certificates; the one that belongs to the key stands first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The first private key as PKCS#8.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

impl core::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Bundle({} certificates)", self.certificates.len())
    }
}

/// Whether this is a PKCS#12 file, whatever else is wrong with it: a SEQUENCE (also of indefinite length, as old tools
/// write it) that starts with the version 3, where a certificate has another SEQUENCE.
#[must_use]
pub fn looks_like(bytes: &[u8]) -> bool {
    let after = |n: usize| bytes.get(n..).is_some_and(|rest| rest.starts_with(&[der::INTEGER, 1, 3]));
    let header = match bytes {
        [der::SEQUENCE, length @ 0x81..=0x84, ..] => usize::from(length & 0x7f).saturating_add(2),
        _ => 2,
    };
    bytes.first() == Some(&der::SEQUENCE) && after(header)
}

/// Opens a file with its password.
///
/// # Errors
/// Too large, too costly to open, a wrong password, old ciphers, or no certificate. The text never holds the password.
pub fn parse(bytes: &[u8], password: &str) -> Result<Bundle, ParseError> {
    if bytes.len() > Limits::CHAIN.bytes {
        return Err(ParseError(format!("is larger than {} bytes", Limits::CHAIN.bytes)));
    }
    if rounds_asked(bytes) > MOST_ROUNDS {
        return Err(ParseError(format!("asks for more than {MOST_ROUNDS} rounds of key derivation")));
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(|error| ParseError::new(explain(&error)))?;
    let key = archive.keys.first().map(|bag| Zeroizing::new(bag.key.as_der().to_vec()));
    let mut certificates: Vec<CertificateDer<'static>> =
        archive.certs.iter().map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect();
    if certificates.is_empty() {
        return Err(ParseError::new("is a PKCS#12 file without a certificate"));
    }
    if certificates.len() > Limits::CHAIN.certificates {
        return Err(ParseError(format!("holds more than {} certificates", Limits::CHAIN.certificates)));
    }
    let spki = key.as_ref().and_then(|der| KeyPair::read(KeyForm::Pkcs8, der).ok()).map(|pair| pair.spki());
    let of_key = |der: &CertificateDer<'_>| spki.is_some() && Parsed::new(der).ok().map(|p| Digest::of(p.spki)) == spki;
    let end_entity = |der: &CertificateDer<'_>| Parsed::new(der).is_ok_and(|p| !p.may_issue());
    let first = certificates.iter().position(of_key).or_else(|| certificates.iter().position(end_entity));
    if let Some(first) = first {
        let leaf = certificates.remove(first);
        certificates.insert(0, leaf);
    }
    Ok(Bundle { certificates, key })
}

/// Writes key (PKCS#8) and chain, leaf first, under a password and an alias.
///
/// # Errors
/// If the key or a certificate does not parse.
pub fn build<C: AsRef<[u8]>>(
    pkcs8: &[u8],
    chain: &[C],
    password: &str,
    alias: &str,
) -> Result<Zeroizing<Vec<u8>>, ParseError> {
    let failed = |error: Error| ParseError(format!("no PKCS#12 file could be made: {}", explain(&error)));
    let certificates =
        chain.iter().map(|der| Certificate::from_der(der.as_ref())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let key = PrivateKey::from_der(pkcs8).map_err(failed)?;
    // Any id that key and leaf share (RFC 7292 section 4.2); the key's digest says which it is.
    let id = KeyPair::read(KeyForm::Pkcs8, pkcs8)?.spki().0.to_vec();
    let mut store = KeyStore::new();
    store.add_entry(alias, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(id, key, certificates)));
    store
        .writer(password)
        .encryption_iterations(ROUNDS)
        .mac_iterations(ROUNDS)
        .write()
        .map(Zeroizing::new)
        .map_err(failed)
}

/// For people; never the library's text where that could quote the input.
fn explain(error: &Error) -> &'static str {
    match error {
        Error::MacError(_) => "the password is wrong, or the PKCS#12 file is damaged",
        Error::UnsupportedEncryptionScheme => {
            "is a PKCS#12 file with an old or unknown cipher; expected PBES2 with AES-256 (OpenSSL 3 writes it by default)"
        }
        Error::UnsupportedMacAlgorithm => "is a PKCS#12 file with an unknown check value; expected HMAC with SHA-2",
        Error::InvalidParameters => "is a PKCS#12 file that asks for more than 1000000 rounds of key derivation",
        Error::Pkcs5Error(_) | Error::UnpadError => "the password is wrong, or the PKCS#12 file is damaged",
        Error::IoError(_)
        | Error::DerError(_)
        | Error::InvalidVersion
        | Error::UnsupportedContentType
        | Error::UnsupportedCertificateType
        | Error::X509Error(_)
        | Error::InvalidLength
        | Error::InvalidData
        | Error::InvalidPrivateKey => "is no well-formed PKCS#12 file",
    }
}

/// 1.2.840.113549.1.5.12 as a DER element.
const PBKDF2: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// 1.3.6.1.4.1.11591.4.11 as a DER element: a derivation that costs memory, which nobody uses in PKCS#12.
const SCRYPT: [u8; 11] = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b];

/// The rounds of every PBKDF2 that stands in the file, found by its identifier wherever it is nested: the library bounds
/// each one, but not how many there are. What cannot be read counts as endless.
fn rounds_asked(bytes: &[u8]) -> u64 {
    bytes.windows(PBKDF2.len()).enumerate().fold(0_u64, |sum, (at, window)| {
        let own = if window == SCRYPT {
            u64::MAX
        } else if window == PBKDF2 {
            let after = bytes.get(at.saturating_add(PBKDF2.len())..).unwrap_or_default();
            rounds(after).unwrap_or(u64::MAX)
        } else {
            0
        };
        sum.saturating_add(own)
    })
}

/// PBKDF2-params (RFC 8018 appendix A.2): salt, then rounds.
fn rounds(parameters: &[u8]) -> Option<u64> {
    let mut r = Reader::new(Reader::new(parameters).expect(der::SEQUENCE)?);
    r.expect(der::OCTET_STRING)?;
    let number = r.expect(der::INTEGER)?;
    number.iter().try_fold(0_u64, |acc, b| acc.checked_mul(256)?.checked_add(u64::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_would_keep_us_busy_is_refused_before_any_work() {
        let part = |rounds: [u8; 4]| {
            let mut bytes = PBKDF2.to_vec();
            bytes.extend([0x30, 9, 4, 1, 0, 2, 4]);
            bytes.extend(rounds);
            bytes
        };
        let mut many = vec![0x30];
        (0..300).for_each(|_| many.extend(part([0, 0, 0x27, 0x10])));
        assert_eq!(rounds_asked(&many), 3_000_000);
        assert!(parse(&many, "x").is_err_and(|e| e.0.contains("rounds")));
        assert_eq!(rounds_asked(&SCRYPT), u64::MAX);
        assert_eq!(rounds_asked(&PBKDF2), u64::MAX, "torn parameters");
    }

    #[test]
    fn garbage_is_no_pkcs12() {
        for garbage in [&b""[..], b"\x30\x00", &[0x30; 4_096]] {
            assert!(parse(garbage, "secret").is_err_and(|e| !e.0.contains("secret")));
        }
    }
}
