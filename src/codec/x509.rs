//! Certificates (RFC 5280): bytes to facts.
//!
//! The envelope is read by x509-parser *and* by our strict reader, and must satisfy both; every extension that a verdict
//! rests on is read by the strict reader alone. What does not parse in full is no certificate.
//!
//! Refuses to know trust: that is [`crate::codec::verify`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;
use x509_parser::x509::X509Name;

use crate::codec::constraints::NameConstraints;
use crate::codec::crl::points_in;
use crate::codec::der::{self, Reader};
use crate::codec::{ParseError, dn, intern, pem};
use crate::domain::certificate::{CertId, Certificate, Faults, Listing, Purposes};
use crate::domain::key::Digest;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Timestamp, Validity};

/// Limits on what is decoded at all, checked before anything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of input.
    pub bytes: usize,
    /// Certificates in it.
    pub certificates: usize,
    /// Bytes of one certificate.
    pub each: usize,
}

impl Limits {
    /// A chain: 1 MiB is sixty times a long chain with comments, 64 certificates are ten times the longest path, 64 KiB
    /// is the longest certificate that TLS could carry in one message.
    pub const CHAIN: Self = Self { bytes: 1 << 20, certificates: 64, each: 64 << 10 };
    /// A bundle of roots: ten times what operating systems ship (about 150 roots in 250 KiB).
    pub const ROOTS: Self = Self { bytes: 4 << 20, certificates: 1_500, each: 64 << 10 };
}

/// Names in one certificate. Public CAs stop at 100; the largest seen in the wild hold some hundreds.
pub const MOST_NAMES: usize = 1_000;

/// The serial number's bytes. RFC 5280 section 4.1.2.2 allows 20; some old private CAs wrote more.
const LONGEST_SERIAL: usize = 64;

/// The certificates in `bytes`: PEM with anything around the blocks, or one DER certificate.
///
/// # Errors
/// Too much input, a torn or damaged block, no certificate, or bytes after a DER certificate.
pub fn certificates_from(bytes: &[u8], limits: &Limits) -> Result<Vec<CertificateDer<'static>>, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::new("is empty"));
    }
    if bytes.len() > limits.bytes {
        return Err(ParseError(format!("is larger than {} bytes", limits.bytes)));
    }
    let found = if bytes.first() == Some(&der::SEQUENCE) {
        Reader::inside(bytes, der::SEQUENCE)
            .ok_or_else(|| ParseError::new("is neither PEM nor one whole DER certificate"))?;
        vec![CertificateDer::from(bytes.to_vec())]
    } else {
        pem::certificates_in(bytes, limits.certificates)?
    };
    match found.iter().find(|der| der.len() > limits.each) {
        Some(long) => {
            Err(ParseError(format!("holds a certificate of {} bytes, more than {}", long.len(), limits.each)))
        }
        None => Ok(found),
    }
}

/// The facts of one DER certificate.
///
/// # Errors
/// Anything that is not exactly one well-formed certificate.
pub fn facts(der: &[u8]) -> Result<Certificate, ParseError> {
    Parsed::new(der)?.facts()
}

/// The names of a certificate that [`facts`] leaves out, for people: other kinds of name, or malformed ones.
///
/// # Errors
/// As [`facts`].
pub fn other_names(der: &[u8]) -> Result<Vec<String>, ParseError> {
    let parsed = Parsed::new(der)?;
    Ok(parsed.names.iter().filter(|n| n.well_formed().is_none()).map(GeneralName::describe).collect())
}

/// The SubjectPublicKeyInfo of a certificate (DER).
///
/// # Errors
/// As [`facts`].
pub fn public_key(der: &[u8]) -> Result<Vec<u8>, ParseError> {
    Parsed::new(der).map(|parsed| parsed.spki.to_vec())
}

/// The digest that a certificate is signed with, if it is one that signatures were forged with; what cannot be parsed is
/// signed with nothing.
#[must_use]
pub fn old_digest(der: &[u8]) -> Option<&'static str> {
    Parsed::new(der).ok().and_then(|parsed| parsed.old_digest())
}

/// The URIs of a certificate, in their order.
///
/// # Errors
/// As [`facts`].
pub fn uris(der: &[u8]) -> Result<Vec<String>, ParseError> {
    let parsed = Parsed::new(der)?;
    let uris = parsed.names.iter().filter(|n| n.tag == GeneralName::URI);
    Ok(uris.map(|n| String::from_utf8_lossy(n.value).into_owned()).collect())
}

/// Whether the certificate may be used by a TLS server (RFC 5280 section 4.2.1.12): no extended key usage at all, or
/// one that includes serverAuth or any.
///
/// # Errors
/// As [`facts`].
pub fn may_serve(der: &[u8]) -> Result<bool, ParseError> {
    Ok(Parsed::new(der)?
        .purposes
        .is_none_or(|all| all.iter().any(|p| *p == oid::SERVER_AUTH || *p == oid::ANY_PURPOSE)))
}

/// Object identifiers, as the contents of their DER.
pub(crate) mod oid {
    pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
    pub(crate) const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 31];
    pub(crate) const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 32];
    pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    pub(crate) const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 37, 0];
    pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
}

/// Signature algorithms with digests for which collisions are found.
const OLD_DIGESTS: [(&[u8], &str); 7] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 2], "MD2"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 3], "MD4"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], "MD5"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], "SHA-1"),
    (&[0x2b, 0x0e, 3, 2, 29], "SHA-1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 3], "SHA-1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], "SHA-1"),
];

/// A subject alternative name as it stands in a certificate (RFC 5280 section 4.2.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GeneralName<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
}

impl GeneralName<'_> {
    pub(crate) const DNS: u8 = 0x82;
    pub(crate) const URI: u8 = 0x86;
    pub(crate) const IP: u8 = 0x87;
    pub(crate) const DIRECTORY: u8 = 0xa4;

    /// The name, if it is a well-formed DNS name or IP address.
    pub(crate) fn well_formed(&self) -> Option<Name> {
        match self.tag {
            Self::DNS => {
                let text = core::str::from_utf8(self.value).ok()?;
                // An address written as a DNS name stands for no host.
                Name::parse(text).ok().filter(|n| matches!(n, Name::Dns(_)))
            }
            Self::IP => match self.value.len() {
                4 => <[u8; 4]>::try_from(self.value).ok().map(|b| Name::Ip(IpAddr::V4(Ipv4Addr::from(b)))),
                _ => <[u8; 16]>::try_from(self.value).ok().map(|b| Name::Ip(IpAddr::V6(Ipv6Addr::from(b)))),
            },
            _ => None,
        }
    }

    /// For people, at most 80 characters of it.
    pub(crate) fn describe(&self) -> String {
        let kind = match self.tag {
            0x81 => "email",
            Self::DNS => "DNS",
            Self::DIRECTORY => "directory name",
            Self::URI => "URI",
            Self::IP => "IP",
            _ => "other name",
        };
        let text: String = String::from_utf8_lossy(self.value)
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .take(80)
            .collect();
        format!("{kind} {text:?}")
    }
}

/// Basic constraints (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
}

/// A certificate taken apart, borrowing from its DER.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) der: &'a [u8],
    /// What is signed.
    pub(crate) tbs: &'a [u8],
    /// The signature's AlgorithmIdentifier, contents only.
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// Raw names, for comparing.
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    /// The whole SubjectPublicKeyInfo, its AlgorithmIdentifier's contents, and the key.
    pub(crate) spki: &'a [u8],
    pub(crate) key_algorithm: &'a [u8],
    pub(crate) key: &'a [u8],
    pub(crate) serial: &'a [u8],
    pub(crate) validity: Validity,
    issuer_name: X509Name<'a>,
    subject_name: X509Name<'a>,
    pub(crate) names: Vec<GeneralName<'a>>,
    pub(crate) basic: Option<BasicConstraints>,
    /// Whether key usage, if there is one, includes keyCertSign.
    pub(crate) signs_certificates: Option<bool>,
    /// The first eight bits of key usage, if there is one, the highest first (section 4.2.1.3).
    pub(crate) key_usage: Option<u8>,
    /// Whether key usage, if there is one, includes digitalSignature, keyEncipherment or keyAgreement.
    pub(crate) does_tls: Option<bool>,
    /// Extended key usage as OIDs.
    pub(crate) purposes: Option<Vec<&'a [u8]>>,
    pub(crate) constraints: Option<NameConstraints<'a>>,
    pub(crate) authority_key: Option<&'a [u8]>,
    pub(crate) subject_key: Option<&'a [u8]>,
    /// The URIs of its revocation lists; see [`Listing::points`].
    list_points: Arc<[Arc<str>]>,
    /// The first critical extension that is not among those read here.
    pub(crate) unknown_critical: Option<String>,
}

impl<'a> Parsed<'a> {
    /// Bits of [`Self::key_usage`].
    pub(crate) const DIGITAL_SIGNATURE: u8 = 0b1000_0000;
    const KEY_CERT_SIGN: u8 = 0b0000_0100;
    /// See [`Self::DIGITAL_SIGNATURE`].
    const CRL_SIGN: u8 = 0b0000_0010;

    pub(crate) fn new(der: &'a [u8]) -> Result<Self, ParseError> {
        if der.len() > Limits::CHAIN.each {
            return Err(ParseError(format!(
                "is a certificate of {} bytes, more than {}",
                der.len(),
                Limits::CHAIN.each
            )));
        }
        let mut parsed = Self::envelope(der)?;
        let (rest, x509) = X509CertificateParser::new()
            .with_deep_parse_extensions(false)
            .parse(der)
            .map_err(|_| ParseError::new("is no well-formed X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(ParseError::new("has bytes after the certificate"));
        }
        let seconds = |t: x509_parser::time::ASN1Time| Timestamp::from_unix(t.timestamp());
        let validity = x509.validity();
        parsed.validity = Validity { not_before: seconds(validity.not_before), not_after: seconds(validity.not_after) };
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for extension in x509.extensions() {
            let id = extension.oid.as_bytes();
            if seen.iter().any(|s| s == id) {
                return Err(ParseError(format!("has the extension {} twice", extension.oid)));
            }
            // At most a handful in practice; the bound keeps the search above from being quadratic.
            if seen.len() >= 64 {
                return Err(ParseError::new("has more than 64 extensions"));
            }
            seen.push(id.to_vec());
            match parsed.extension(id, extension.value) {
                Some(true) => {}
                Some(false) if extension.critical => {
                    parsed.unknown_critical.get_or_insert_with(|| extension.oid.to_id_string());
                }
                Some(false) => {}
                None => return Err(ParseError(format!("has a malformed extension {}", extension.oid))),
            }
            if parsed.names.len() > MOST_NAMES {
                return Err(ParseError(format!("has more than {MOST_NAMES} names")));
            }
        }
        let tbs = x509.tbs_certificate;
        (parsed.issuer_name, parsed.subject_name) = (tbs.issuer, tbs.subject);
        Ok(parsed)
    }

    /// The outer parts, strictly (RFC 5280 section 4.1).
    fn envelope(der: &'a [u8]) -> Result<Self, ParseError> {
        Self::envelope_parts(der).ok_or_else(|| ParseError::new("is no well-formed X.509 certificate"))
    }

    fn envelope_parts(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::inside(der, der::SEQUENCE)?;
        let tbs = outer.element().filter(|e| e.tag == der::SEQUENCE)?;
        let algorithm = outer.expect(der::SEQUENCE)?;
        let signature = outer.whole_bits()?;
        outer.end()?;
        let mut inner = Reader::new(tbs.value);
        inner.optional(0xa0)?;
        let serial = inner.expect(der::INTEGER).filter(|s| !s.is_empty() && s.len() <= LONGEST_SERIAL)?;
        // Signed and unsigned copy must agree (section 4.1.1.2).
        inner.expect(der::SEQUENCE).filter(|inner| *inner == algorithm)?;
        let issuer = inner.element().filter(|e| e.tag == der::SEQUENCE)?.raw;
        inner.expect(der::SEQUENCE)?;
        let subject = inner.element().filter(|e| e.tag == der::SEQUENCE)?.raw;
        let spki = inner.element().filter(|e| e.tag == der::SEQUENCE)?;
        let mut info = Reader::new(spki.value);
        let key_algorithm = info.expect(der::SEQUENCE)?;
        let key = info.whole_bits()?;
        info.end()?;
        inner.optional(0x81)?;
        inner.optional(0x82)?;
        inner.optional(0xa3)?;
        inner.end()?;
        Some(Self {
            der,
            tbs: tbs.raw,
            algorithm,
            signature,
            issuer,
            subject,
            spki: spki.raw,
            key_algorithm,
            key,
            serial,
            validity: Validity { not_before: Timestamp::MAX, not_after: Timestamp::MIN },
            issuer_name: X509Name::new(Vec::new(), &[]),
            subject_name: X509Name::new(Vec::new(), &[]),
            names: Vec::new(),
            basic: None,
            signs_certificates: None,
            key_usage: None,
            does_tls: None,
            purposes: None,
            constraints: None,
            authority_key: None,
            subject_key: None,
            list_points: Arc::default(),
            unknown_critical: None,
        })
    }

    /// Reads one extension: `Some(true)` if it is understood, `Some(false)` if it is not ours, `None` if malformed.
    fn extension(&mut self, id: &[u8], value: &'a [u8]) -> Option<bool> {
        match id {
            oid::BASIC_CONSTRAINTS => {
                let mut r = Reader::inside(value, der::SEQUENCE)?;
                let ca = match r.optional(der::BOOLEAN)? {
                    None | Some([0]) => false,
                    Some([0xff]) => true,
                    Some(_) => return None,
                };
                let path_len = match r.optional(der::INTEGER)? {
                    None => None,
                    Some(bytes) => Some(small_number(bytes)?),
                };
                r.end()?;
                self.basic = Some(BasicConstraints { ca, path_len });
            }
            oid::KEY_USAGE => {
                let mut r = Reader::new(value);
                let bits = r.expect(der::BIT_STRING)?;
                r.end()?;
                let (unused, bytes) = bits.split_first()?;
                let bits = bytes.first().filter(|_| *unused <= 7).copied().unwrap_or(0);
                self.key_usage = Some(bits);
                self.signs_certificates = Some(bits & Self::KEY_CERT_SIGN != 0);
                // Bits 0, 2 and 4.
                self.does_tls = Some(bits & 0b1010_1000 != 0);
            }
            oid::EXTENDED_KEY_USAGE => {
                let mut r = Reader::inside(value, der::SEQUENCE)?;
                let mut purposes = Vec::new();
                while !r.is_empty() {
                    purposes.push(r.expect(der::OID)?);
                }
                self.purposes = Some(purposes);
            }
            oid::SUBJECT_ALT_NAME => {
                let mut r = Reader::inside(value, der::SEQUENCE)?;
                // One more than allowed is enough to refuse it.
                while !r.is_empty() && self.names.len() <= MOST_NAMES {
                    let e = r.element()?;
                    self.names.push(GeneralName { tag: e.tag, value: e.value });
                }
            }
            oid::NAME_CONSTRAINTS => self.constraints = Some(NameConstraints::read(value)?),
            oid::AUTHORITY_KEY_ID => {
                let mut r = Reader::inside(value, der::SEQUENCE)?;
                self.authority_key = r.optional(0x80)?;
            }
            oid::SUBJECT_KEY_ID => {
                let mut r = Reader::new(value);
                self.subject_key = Some(r.expect(der::OCTET_STRING)?);
                r.end()?;
            }
            // A critical one wants lists to be asked in any case, which is the configuration's to say, so it is not ours.
            oid::CRL_DISTRIBUTION_POINTS => {
                self.list_points = points_in(value);
                return Some(false);
            }
            // Without a required policy every policy is acceptable (section 6.1.1), so there is nothing to check.
            oid::CERTIFICATE_POLICIES => {}
            _ => return Some(false),
        }
        Some(true)
    }

    /// Basic constraints say CA, and key usage, if there is one, allows to sign certificates.
    pub(crate) fn may_issue(&self) -> bool {
        self.basic.is_some_and(|b| b.ca) && self.signs_certificates.unwrap_or(true)
    }

    /// Basic constraints say CA, and key usage, if there is one, allows to sign revocation lists (section 6.3.3 step f).
    pub(crate) fn may_list(&self) -> bool {
        self.basic.is_some_and(|b| b.ca) && self.may_sign_lists()
    }

    /// Key usage, if there is one, includes cRLSign.
    pub(crate) fn may_sign_lists(&self) -> bool {
        self.key_usage.is_none_or(|bits| bits & Self::CRL_SIGN != 0)
    }

    fn purposes(&self) -> Purposes {
        let extended =
            |id: &[u8]| self.purposes.as_ref().is_none_or(|all| all.iter().any(|p| *p == id || *p == oid::ANY_PURPOSE));
        let usable = self.does_tls.unwrap_or(true);
        Purposes { server: usable && extended(oid::SERVER_AUTH), client: usable && extended(oid::CLIENT_AUTH) }
    }

    /// Its subject for people; the names if the subject is empty.
    pub(crate) fn title(&self) -> String {
        let subject = dn::text(&self.subject_name).unwrap_or_default();
        match self.names.iter().find_map(GeneralName::well_formed) {
            Some(name) if subject.is_empty() => name.to_string(),
            _ => subject,
        }
    }

    pub(crate) fn issuer_title(&self) -> String {
        dn::text(&self.issuer_name).unwrap_or_default()
    }

    /// MD2, MD4, MD5 or SHA-1 (RFC 3279 section 2.2).
    fn old_digest(&self) -> Option<&'static str> {
        let id = Reader::new(self.algorithm).expect(der::OID)?;
        OLD_DIGESTS.iter().find(|(oid, _)| *oid == id).map(|(_, name)| *name)
    }

    pub(crate) fn facts(&self) -> Result<Certificate, ParseError> {
        Ok(Certificate {
            fingerprint: Digest::of(self.der),
            spki: Digest::of(self.spki),
            serial: self.serial_hex().into(),
            subject: dn::text(&self.subject_name)?,
            issuer: dn::text(&self.issuer_name)?,
            names: NameSet::new(self.names.iter().filter_map(GeneralName::well_formed)),
            validity: self.validity,
            cert_id: self.cert_id(),
            may_issue: self.may_issue(),
            purposes: self.purposes(),
            listing: Listing { ca: self.basic.is_some_and(|b| b.ca), points: self.list_points.clone() },
            faults: Faults { key: intern::weakness(self.spki), signature: self.old_digest() },
        })
    }

    fn serial_hex(&self) -> String {
        let hex: String = self.serial.iter().map(|b| format!("{b:02x}")).collect();
        match hex.trim_start_matches('0') {
            "" => "0".to_owned(),
            trimmed => trimmed.to_owned(),
        }
    }

    /// RFC 9773 section 4.1: the serial as its DER contents, so a leading zero byte stays.
    fn cert_id(&self) -> Option<CertId> {
        let key = self.authority_key.filter(|k| !k.is_empty())?;
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(key), URL_SAFE_NO_PAD.encode(self.serial));
        Some(CertId(Arc::from(text)))
    }
}

/// A non-negative INTEGER; beyond 32 bits it saturates, which for a path length means no limit that matters.
fn small_number(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [] => None,
        [first, ..] if first & 0x80 != 0 => None,
        _ => Some(
            bytes.iter().try_fold(0_u32, |acc, b| acc.checked_mul(256)?.checked_add(u32::from(*b))).unwrap_or(u32::MAX),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9773 appendix A.
    const RFC_9773: &str = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
";

    #[test]
    fn the_example_of_rfc_9773_has_its_identifier() {
        let ders = certificates_from(RFC_9773.as_bytes(), &Limits::CHAIN).unwrap();
        let facts = facts(&ders[0]).unwrap();
        assert_eq!(facts.cert_id, Some(CertId(Arc::from("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"))));
        assert_eq!(&*facts.serial, "87654321");
        assert_eq!((facts.subject.as_str(), facts.issuer.as_str()), ("CN=example.com", "CN=Example CA"));
        assert_eq!(facts.validity.not_after, Timestamp::MIN, "the year 1 saturates");
        assert!(!facts.may_issue && facts.names.is_empty());
    }

    #[test]
    fn a_path_length_is_never_negative_and_saturates() {
        assert_eq!(small_number(&[0]), Some(0));
        assert_eq!(small_number(&[0, 0xff]), Some(255));
        assert_eq!(small_number(&[0x7f; 9]), Some(u32::MAX));
        assert_eq!(small_number(&[0x80]), None);
        assert_eq!(small_number(&[]), None);
    }

    #[test]
    fn an_address_written_as_a_dns_name_is_no_name() {
        let name = GeneralName { tag: GeneralName::DNS, value: b"192.0.2.1" };
        assert_eq!(name.well_formed(), None);
        let name = GeneralName { tag: GeneralName::IP, value: &[192, 0, 2, 1] };
        assert_eq!(name.well_formed().map(|n| n.to_string()).as_deref(), Some("192.0.2.1"));
    }
}
