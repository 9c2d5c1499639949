//! Certificate revocation lists (RFC 5280 section 5): bytes to facts about one chain.
//!
//! A list counts for the certificates of the chain whose issuer, the next certificate of the chain, signed it. Only complete
//! lists are taken: no delta lists, no indirect ones, and none with an issuing distribution point, because what such a
//! list leaves out may well be revoked. Every entry counts, whatever its reason, so a certificate on hold is revoked too.
//!
//! Refuses to know the time: whether a list is fresh is the gate's to say.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::{Error, PemObject as _};
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::codec::der::{self, Element, Reader};
use crate::codec::x509::Parsed;
use crate::codec::{ParseError, dn, intern, verify};
use crate::domain::certificate::{Certificate, Chain, display_name};
use crate::domain::inventory::CrlFacts;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Bytes of a file. An entry takes 20 at the very least and 40 as a rule, so this is room for 400,000 certificates and
/// never for a million.
pub const LARGEST: usize = 16 << 20;

/// Extensions of one list or entry; real ones have at most five.
const MOST_EXTENSIONS: usize = 16;

/// What the one list in `bytes` (PEM `X509 CRL` or DER) says about `chain`. The chain must come from [`verify::chain`],
/// which keeps the certificates of its issuers.
///
/// # Errors
/// What is not exactly one well-formed, complete list that an issuer of this chain signed.
pub fn facts(bytes: &[u8], chain: &Chain) -> Result<CrlFacts, ParseError> {
    let der = der_in(bytes)?;
    let list = List::read(&der, list_extension)?;
    let covered = list.covered(chain)?;
    Ok(CrlFacts {
        this_update: list.this_update,
        next_update: list.next_update,
        covers: covered.iter().map(|c| c.fingerprint).collect(),
        revokes: list.revoked(&covered)?,
    })
}

/// The DER of the only list in the file.
fn der_in(bytes: &[u8]) -> Result<CertificateRevocationListDer<'_>, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::new("is empty"));
    }
    if bytes.len() > LARGEST {
        return Err(ParseError(format!("is larger than {LARGEST} bytes")));
    }
    if bytes.first() == Some(&der::SEQUENCE) {
        return Ok(CertificateRevocationListDer::from(bytes));
    }
    let mut found = None;
    for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
        match list {
            Ok(_) if found.is_some() => {
                return Err(ParseError::new("holds more than one revocation list: put each into a file of its own"));
            }
            Ok(list) => found = Some(list),
            Err(Error::MissingSectionEnd { .. }) => {
                return Err(ParseError::new("has a PEM block without its END line: the file is torn"));
            }
            Err(Error::IllegalSectionStart { .. }) => return Err(ParseError::new("has a damaged PEM BEGIN line")),
            Err(_) => return Err(ParseError::new("has a PEM block that is not base64")),
        }
    }
    found.ok_or_else(|| ParseError::new("holds no revocation list: expected DER or a PEM block X509 CRL"))
}

fn malformed() -> ParseError {
    ParseError::new("is no well-formed certificate revocation list")
}

/// What an extension of a list or of an entry means to whoever reads it.
pub(super) type Rule = fn(&Extension<'_>) -> Result<(), ParseError>;

/// A list taken apart, borrowing from its DER. Its entries are read only once its signature is known to be good.
pub(super) struct List<'a> {
    /// What is signed.
    pub(super) tbs: &'a [u8],
    /// The signature's AlgorithmIdentifier, contents only.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    version: Version,
    /// The raw name, for comparing.
    pub(super) issuer: &'a [u8],
    pub(super) this_update: Timestamp,
    pub(super) next_update: Option<Timestamp>,
    /// The entries, one after the other.
    pub(super) entries: &'a [u8],
    /// The extensions, likewise.
    extensions: Option<&'a [u8]>,
}

/// Which syntax (section 5.1.2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Without any extensions.
    V1,
    V2,
}

/// Object identifiers, as the contents of their DER.
pub(super) mod oid {
    pub(super) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
    pub(super) const REASON: &[u8] = &[0x55, 0x1d, 21];
    pub(super) const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
    pub(in crate::codec) const DELTA: &[u8] = &[0x55, 0x1d, 27];
    pub(in crate::codec) const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
    pub(super) const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
    pub(super) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
}

impl<'a> List<'a> {
    pub(super) fn read(der: &'a [u8], rule: Rule) -> Result<Self, ParseError> {
        let list = Self::envelope(der).ok_or_else(malformed)?;
        if let Some(all) = list.extensions {
            if list.version == Version::V1 {
                return Err(malformed());
            }
            extensions(all, rule)?;
        }
        Ok(list)
    }

    /// The outer parts, strictly (section 5.1).
    fn envelope(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::inside(der, der::SEQUENCE)?;
        let tbs = outer.element().filter(|e| e.tag == der::SEQUENCE)?;
        let algorithm = outer.expect(der::SEQUENCE)?;
        let signature = outer.whole_bits()?;
        outer.end()?;
        let mut inner = Reader::new(tbs.value);
        let version = match inner.optional(der::INTEGER)? {
            None => Version::V1,
            Some([1]) => Version::V2,
            Some(_) => return None,
        };
        // Signed and unsigned copy must agree (section 5.1.1.2).
        inner.expect(der::SEQUENCE).filter(|own| *own == algorithm)?;
        let issuer = inner.element().filter(|e| e.tag == der::SEQUENCE)?.raw;
        let this_update = time(&inner.element()?)?;
        // Everything after it is optional, so each part is known by its tag alone.
        let mut next = following(&mut inner)?;
        let mut next_update = None;
        if let Some(element) = next.filter(is_time) {
            next_update = Some(time(&element)?);
            next = following(&mut inner)?;
        }
        let mut entries: &[u8] = &[];
        if let Some(element) = next.filter(|e| e.tag == der::SEQUENCE) {
            entries = element.value;
            next = following(&mut inner)?;
        }
        let mut extensions = None;
        if let Some(element) = next.filter(|e| e.tag == 0xa0) {
            extensions = Some(Reader::inside(element.value, der::SEQUENCE)?.rest());
            next = following(&mut inner)?;
        }
        if next.is_some() {
            return None;
        }
        let tbs = tbs.raw;
        Some(Self { tbs, algorithm, signature, version, issuer, this_update, next_update, entries, extensions })
    }

    /// The certificates of the chain that this list is about; without any, the reason why.
    fn covered<'c>(&self, chain: &'c Chain) -> Result<Vec<&'c Arc<Certificate>>, ParseError> {
        let (mut covered, mut why) = (Vec::new(), None);
        for (element, issuer) in chain.elements().zip(chain.above.iter()) {
            match self.is_by(issuer) {
                Ok(true) => covered.push(element),
                Ok(false) => {}
                Err(error) => why = why.or(Some(error)),
            }
        }
        if !covered.is_empty() {
            return Ok(covered);
        }
        Err(why.unwrap_or_else(|| {
            let issuers: Vec<String> = chain.above.iter().map(|c| format!("{:?}", display_name(c))).collect();
            let expected = match issuers.is_empty() {
                true => "the chain has no issuer".to_owned(),
                false => format!("expected a list of {}", issuers.join(" or ")),
            };
            ParseError(format!("was made by {:?}, who issued no certificate of this chain; {expected}", self.title()))
        }))
    }

    /// Whether this issuer made the list; an error if the list only says so, or if it must not make any.
    fn is_by(&self, issuer: &Certificate) -> Result<bool, ParseError> {
        let title = display_name(issuer);
        let Some(der) = intern::der(&issuer.fingerprint) else {
            return Err(ParseError(format!(
                "cannot be checked: the certificate of {title:?} is too large, or one of too many, to be kept"
            )));
        };
        let signer = Parsed::new(&der)?;
        if signer.subject != self.issuer {
            return Ok(false);
        }
        if !verify::is_signature(self.algorithm, self.tbs, self.signature, &signer) {
            return Err(ParseError(format!(
                "was not signed by the key of {title:?} that issued this chain, or with an algorithm that is not accepted (SHA-1, RSA below 2048 bits)"
            )));
        }
        if !signer.may_list() {
            return Err(ParseError(format!(
                "was signed by {title:?}, which may not sign revocation lists: it is no CA, or its key usage lacks cRLSign"
            )));
        }
        Ok(true)
    }

    /// Which of these certificates stand on the list. Every entry must be well formed, also those behind a match.
    fn revoked(&self, covered: &[&Arc<Certificate>]) -> Result<BTreeSet<Digest>, ParseError> {
        let wanted: Vec<(Vec<u8>, Digest)> =
            covered.iter().map(|c| Some((bytes_of(&c.serial)?, c.fingerprint))).collect::<Option<_>>().ok_or_else(
                || ParseError::new("cannot be searched: a serial number of the chain is not hexadecimal"),
            )?;
        let mut revoked = BTreeSet::new();
        let mut entries = Reader::new(self.entries);
        while !entries.is_empty() {
            let serial = self.entry(&mut entries, entry_extension)?;
            revoked.extend(wanted.iter().filter(|(own, _)| *own == serial).map(|(_, fingerprint)| *fingerprint));
        }
        Ok(revoked)
    }

    /// The serial number of the next entry, without leading zeros (section 5.1.2.6).
    pub(super) fn entry(&self, entries: &mut Reader<'a>, rule: Rule) -> Result<&'a [u8], ParseError> {
        let parts = |entries: &mut Reader<'a>| {
            let mut entry = Reader::new(entries.expect(der::SEQUENCE)?);
            let serial = entry.expect(der::INTEGER).filter(|s| !s.is_empty())?;
            entry.element().filter(is_time)?;
            let more = entry.optional(der::SEQUENCE)?;
            entry.end()?;
            Some((serial, more))
        };
        let (serial, more) = parts(entries).ok_or_else(malformed)?;
        match more {
            Some(_) if self.version == Version::V1 => return Err(malformed()),
            Some(all) => extensions(all, rule)?,
            None => {}
        }
        Ok(without_zeros(serial))
    }

    /// The issuer for people.
    fn title(&self) -> String {
        let name = X509Name::from_der(self.issuer).ok().and_then(|(_, name)| dn::text(&name).ok());
        name.unwrap_or_else(|| "a name that is not well formed".to_owned())
    }
}

/// An extension.
pub(super) struct Extension<'a> {
    pub(super) id: &'a [u8],
    pub(super) is_critical: bool,
    value: &'a [u8],
}

impl Extension<'_> {
    /// What is critical and unknown spoils the list (section 5.2 and 5.3).
    fn unknown(&self) -> Result<(), ParseError> {
        if !self.is_critical {
            return Ok(());
        }
        let id = Oid::new(Cow::Borrowed(self.id)).to_id_string();
        Err(ParseError(format!("has the critical extension {id}, which is unknown here")))
    }
}

/// Reads extensions (section 4.1): each once.
fn extensions(all: &[u8], read: Rule) -> Result<(), ParseError> {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut left = Reader::new(all);
    while !left.is_empty() {
        let extension = extension(&mut left).ok_or_else(malformed)?;
        if seen.len() >= MOST_EXTENSIONS || seen.contains(&extension.id) {
            return Err(ParseError(format!("has an extension twice, or more than {MOST_EXTENSIONS}")));
        }
        seen.push(extension.id);
        read(&extension)?;
    }
    Ok(())
}

fn extension<'a>(all: &mut Reader<'a>) -> Option<Extension<'a>> {
    let mut own = Reader::new(all.expect(der::SEQUENCE)?);
    let id = own.expect(der::OID).filter(|id| !id.is_empty())?;
    let is_critical = match own.optional(der::BOOLEAN)? {
        None | Some([0]) => false,
        Some([0xff]) => true,
        Some(_) => return None,
    };
    let value = own.expect(der::OCTET_STRING)?;
    own.end()?;
    Some(Extension { id, is_critical, value })
}

/// Section 5.2.
fn list_extension(extension: &Extension<'_>) -> Result<(), ParseError> {
    match extension.id {
        // Which key signed it is found by trying, and the gate asks for the time of a list, not for its number.
        oid::AUTHORITY_KEY_ID | oid::CRL_NUMBER => Ok(()),
        oid::DELTA => Err(ParseError::new("is a delta list, which has only what is new; expected a complete list")),
        oid::ISSUING_DISTRIBUTION_POINT if !is_complete(extension.value).ok_or_else(malformed)? => {
            Err(ParseError::new(
                "is partial or indirect: its issuing distribution point limits it to some certificates or reasons; expected a complete list of the issuer",
            ))
        }
        oid::ISSUING_DISTRIBUTION_POINT => Ok(()),
        _ => extension.unknown(),
    }
}

/// Whether an issuing distribution point (section 5.2.5) limits nothing. A name is a limit too: the list is only about
/// certificates that name the same point.
fn is_complete(value: &[u8]) -> Option<bool> {
    let mut parts = Reader::inside(value, der::SEQUENCE)?;
    let mut complete = true;
    while !parts.is_empty() {
        let part = parts.element()?;
        // The flags from onlyContainsUserCerts to onlyContainsAttributeCerts, written out although false.
        complete &= matches!(part.tag, 0x81 | 0x82 | 0x84 | 0x85) && part.value == [0];
    }
    Some(complete)
}

/// Section 5.3.
fn entry_extension(extension: &Extension<'_>) -> Result<(), ParseError> {
    match extension.id {
        // Whatever the reason and since when: it is revoked.
        oid::REASON | oid::INVALIDITY_DATE => Ok(()),
        oid::CERTIFICATE_ISSUER => {
            Err(ParseError::new("is indirect: an entry names another issuer; expected a list of the issuer's own"))
        }
        _ => extension.unknown(),
    }
}

/// The next element; `Some(None)` at the end.
fn following<'a>(reader: &mut Reader<'a>) -> Option<Option<Element<'a>>> {
    if reader.is_empty() { Some(None) } else { reader.element().map(Some) }
}

/// Whether it has the one form of a time (section 5.1.2.4 and 4.1.2.5): digits, seconds, `Z`.
fn is_time(element: &Element<'_>) -> bool {
    let digits = match element.tag {
        der::UTC_TIME => 12,
        der::GENERALIZED_TIME => 14,
        _ => return false,
    };
    matches!(element.value.split_last(), Some((b'Z', rest)) if rest.len() == digits && rest.iter().all(u8::is_ascii_digit))
}

pub(super) fn time(element: &Element<'_>) -> Option<Timestamp> {
    if !is_time(element) {
        return None;
    }
    let (_, time) = ASN1Time::from_der(element.raw).ok()?;
    Some(Timestamp::from_unix(time.timestamp()))
}

pub(super) fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// A serial as [`Certificate::serial`] has it, as bytes without leading zeros.
fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let padded = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    let pairs = padded.as_bytes().chunks(2).map(|pair| {
        // A sign is no digit, though the parser would take it.
        let digits = core::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>().map(|bytes| without_zeros(&bytes).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_compare_whatever_their_leading_zeros() {
        for (hex, der) in [
            ("0", &[0][..]),
            ("1", &[1]),
            ("ff", &[0, 0xff]),
            ("fff", &[0x0f, 0xff]),
            ("87654321", &[0, 0x87, 0x65, 0x43, 0x21]),
        ] {
            assert_eq!(bytes_of(hex).as_deref(), Some(without_zeros(der)), "{hex}");
        }
        assert_eq!(bytes_of("+1"), None);
        assert_eq!(bytes_of("xy"), None);
        assert_eq!(bytes_of("ä"), None);
    }

    #[test]
    fn a_time_is_digits_and_z() {
        let element = |tag, value: &'static [u8]| Element { tag, value, raw: &[] };
        assert!(is_time(&element(der::UTC_TIME, b"300601000000Z")));
        assert!(is_time(&element(der::GENERALIZED_TIME, b"20300601000000Z")));
        for (tag, value) in [
            (der::UTC_TIME, &b"3006010000Z"[..]),
            (der::UTC_TIME, b"300601000000+0100"),
            (der::GENERALIZED_TIME, b"20300601000000.5Z"),
            (der::GENERALIZED_TIME, b"300601000000Z"),
            (der::INTEGER, b"300601000000Z"),
        ] {
            assert!(!is_time(&element(tag, value)), "{value:?}");
        }
    }
}
