//! A revocation list taken apart (RFC 5280 section 5), strictly: what is not understood spoils it.

use std::borrow::Cow;

use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::scope::Scope;
use crate::codec::der::{self, Element, Reader};
use crate::codec::x509::Parsed;
use crate::codec::{ParseError, dn, intern, verify};
use crate::domain::certificate::{Certificate, display_name};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Extensions of one list or entry; real ones have at most five.
const MOST_EXTENSIONS: usize = 16;

pub(super) fn malformed() -> ParseError {
    ParseError::new("is no well-formed certificate revocation list")
}

/// What an extension of a list or of an entry means to whoever reads it.
pub(in crate::codec) type Rule = fn(&Extension<'_>) -> Result<(), ParseError>;

/// A list taken apart, borrowing from its DER. Its entries are read only once its signature is known to be good.
pub(in crate::codec) struct List<'a> {
    /// What is signed.
    pub(in crate::codec) tbs: &'a [u8],
    /// The signature's AlgorithmIdentifier, contents only.
    pub(in crate::codec) algorithm: &'a [u8],
    pub(in crate::codec) signature: &'a [u8],
    version: Version,
    /// The raw name, for comparing.
    pub(in crate::codec) issuer: &'a [u8],
    pub(in crate::codec) this_update: Timestamp,
    pub(in crate::codec) next_update: Option<Timestamp>,
    /// The entries, one after the other.
    pub(in crate::codec) entries: &'a [u8],
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
pub(in crate::codec) mod oid {
    pub(in crate::codec) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
    pub(in crate::codec) const REASON: &[u8] = &[0x55, 0x1d, 21];
    pub(in crate::codec) const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
    pub(in crate::codec) const DELTA: &[u8] = &[0x55, 0x1d, 27];
    pub(in crate::codec) const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
    pub(in crate::codec) const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
    pub(in crate::codec) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
}

impl<'a> List<'a> {
    pub(in crate::codec) fn read(der: &'a [u8], rule: Rule) -> Result<Self, ParseError> {
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

    /// What this extension of the list holds, if it has it.
    pub(super) fn extension(&self, id: &[u8]) -> Option<&'a [u8]> {
        let mut all = Reader::new(self.extensions?);
        // Every one of them was read before.
        core::iter::from_fn(|| extension(&mut all)).find(|e| e.id == id).map(|e| e.value)
    }

    /// Whether this issuer made the list, whose hash is `digest`; an error if the list only says so, or if it must not
    /// make any.
    pub(in crate::codec) fn is_by(&self, digest: Digest, issuer: &Certificate) -> Result<bool, ParseError> {
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
        let check = || verify::is_signature(self.algorithm, self.tbs, self.signature, &signer);
        if !intern::signature(digest, issuer.spki, check) {
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

    /// The serial number of the next entry, without leading zeros (section 5.1.2.6).
    pub(in crate::codec) fn entry(&self, entries: &mut Reader<'a>, rule: Rule) -> Result<&'a [u8], ParseError> {
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
    pub(super) fn title(&self) -> String {
        let name = X509Name::from_der(self.issuer).ok().and_then(|(_, name)| dn::text(&name).ok());
        name.unwrap_or_else(|| "a name that is not well formed".to_owned())
    }
}

/// An extension.
pub(in crate::codec) struct Extension<'a> {
    pub(in crate::codec) id: &'a [u8],
    pub(in crate::codec) is_critical: bool,
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
pub(super) fn list_extension(extension: &Extension<'_>) -> Result<(), ParseError> {
    match extension.id {
        // Which key signed it is found by trying, and the gate asks for the time of a list, not for its number.
        oid::AUTHORITY_KEY_ID | oid::CRL_NUMBER => Ok(()),
        oid::DELTA => Err(ParseError::new("is a delta list, which has only what is new; expected a complete list")),
        oid::ISSUING_DISTRIBUTION_POINT => Scope::read(extension.value).map(drop),
        _ => extension.unknown(),
    }
}

/// Section 5.3.
pub(super) fn entry_extension(extension: &Extension<'_>) -> Result<(), ParseError> {
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

pub(in crate::codec) fn time(element: &Element<'_>) -> Option<Timestamp> {
    if !is_time(element) {
        return None;
    }
    let (_, time) = ASN1Time::from_der(element.raw).ok()?;
    Some(Timestamp::from_unix(time.timestamp()))
}

pub(in crate::codec) fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

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
