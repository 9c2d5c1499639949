//! The certificate revocation lists (RFC 5280 section 5) by which peers of links are judged: complete lists of one CA, read
//! strictly, several in a file; those of credentials are [`crate::codec::crl`].
//!
//! Deltas, indirect lists and lists of only some certificates are refused as a whole: what they leave out would look like
//! "not revoked". Refuses to know the time, and whose list counts: that is [`crate::codec::peer`].

use std::collections::BTreeSet;

use rustls::pki_types::CertificateRevocationListDer;

use crate::codec::der::{self, Reader};
use crate::codec::verify::is_signature;
use crate::codec::x509::{Parsed, oid};
use crate::codec::{ParseError, intern};
use crate::domain::key::Digest;
use crate::domain::time::{Timestamp, Validity};

/// Bytes of a file: some 250,000 entries.
pub const LONGEST_FILE: usize = 8 << 20;
/// Lists in one file: far more than a chain has CAs.
const MOST_LISTS: usize = 64;

/// UTCTime and GeneralizedTime.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One list.
#[derive(Clone)]
pub struct Crl {
    /// SHA-256 of all of it.
    digest: Digest,
    issuer: Box<[u8]>,
    algorithm: Box<[u8]>,
    /// What is signed.
    tbs: Box<[u8]>,
    signature: Box<[u8]>,
    /// From this update to the next.
    validity: Validity,
    /// Serial numbers without leading zeros.
    revoked: BTreeSet<Box<[u8]>>,
}

impl core::fmt::Debug for Crl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Crl({} revoked until {})", self.revoked.len(), self.validity.not_after)
    }
}

/// The lists in `bytes`: PEM with anything around the blocks, or one in DER.
///
/// # Errors
/// Too much input, a torn or damaged block, no list, or one that says less than all.
pub fn lists_from(bytes: &[u8]) -> Result<Vec<Crl>, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::new("is empty"));
    }
    if bytes.len() > LONGEST_FILE {
        return Err(ParseError(format!("is larger than {LONGEST_FILE} bytes")));
    }
    if bytes.first() == Some(&der::SEQUENCE) {
        return Ok(vec![Crl::read(bytes)?]);
    }
    use rustls::pki_types::pem::PemObject as _;
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
        let list = list.map_err(|_| ParseError::new("has a PEM block that is torn or not base64"))?;
        if lists.len() >= MOST_LISTS {
            return Err(ParseError(format!("holds more than {MOST_LISTS} revocation lists")));
        }
        lists.push(Crl::read(&list)?);
    }
    if lists.is_empty() {
        return Err(ParseError::new("holds no revocation list: expected a PEM block X509 CRL"));
    }
    Ok(lists)
}

impl Crl {
    /// One list in DER.
    ///
    /// # Errors
    /// As [`lists_from`].
    pub fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let malformed = || ParseError::new("is no well-formed revocation list");
        let mut outer = Reader::inside(bytes, der::SEQUENCE).ok_or_else(malformed)?;
        let parts = (|| {
            let tbs = outer.element().filter(|e| e.tag == der::SEQUENCE)?;
            Some((tbs, outer.expect(der::SEQUENCE)?, outer.whole_bits()?, outer.end()?))
        })();
        let (tbs, algorithm, signature, ()) = parts.ok_or_else(malformed)?;
        let mut inner = Reader::new(tbs.value);
        let head = (|| {
            // Version 2 is 1; only it has extensions (section 5.1.2.1).
            let version = inner.optional(der::INTEGER)?;
            inner.expect(der::SEQUENCE).filter(|own| *own == algorithm)?;
            let issuer = inner.element().filter(|e| e.tag == der::SEQUENCE)?.raw;
            Some((matches!(version, None | Some([1])).then_some(())?, issuer, time(&mut inner)?))
        })();
        let ((), issuer, this_update) = head.ok_or_else(malformed)?;
        let next_update = time(&mut inner)
            .ok_or_else(|| ParseError::new("is a revocation list that does not say when the next one comes"))?;
        let mut revoked = BTreeSet::new();
        if let Some(entries) = inner.optional(der::SEQUENCE).ok_or_else(malformed)? {
            let mut entries = Reader::new(entries);
            while !entries.is_empty() {
                revoked.insert(entry(&mut entries).ok_or_else(malformed)??);
            }
        }
        if let Some(extensions) = inner.optional(0xa0).ok_or_else(malformed)? {
            each_extension(Reader::inside(extensions, der::SEQUENCE).ok_or_else(malformed)?)?;
        }
        inner.end().ok_or_else(malformed)?;
        Ok(Self {
            digest: Digest::of(bytes),
            issuer: issuer.into(),
            algorithm: algorithm.into(),
            tbs: tbs.raw.into(),
            signature: signature.into(),
            validity: Validity { not_before: this_update, not_after: next_update },
            revoked,
        })
    }

    /// From this update to the next.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether this CA made the list: by name, signature and key usage.
    pub(crate) fn is_by(&self, ca: &Parsed<'_>) -> bool {
        let may_sign = ca.key_usage.is_none_or(|bits| bits & Parsed::CRL_SIGN != 0);
        *self.issuer == *ca.subject
            && may_sign
            && intern::signature(self.digest, Digest::of(ca.spki), || {
                is_signature(&self.algorithm, &self.tbs, &self.signature, ca)
            })
    }

    /// Whether a certificate of this CA is on it.
    pub(crate) fn revokes(&self, certificate: &Parsed<'_>) -> bool {
        self.revoked.contains(without_zeros(certificate.serial))
    }
}

fn without_zeros(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|b| **b == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

/// A serial number, its date and its extensions.
fn entry(entries: &mut Reader<'_>) -> Option<Result<Box<[u8]>, ParseError>> {
    let mut entry = Reader::new(entries.expect(der::SEQUENCE)?);
    let serial = entry.expect(der::INTEGER)?;
    time(&mut entry)?;
    let extensions = entry.optional(der::SEQUENCE)?;
    entry.end()?;
    if let Some(Err(error)) = extensions.map(|e| each_extension(Reader::new(e))) {
        return Some(Err(error));
    }
    Some(Ok(without_zeros(serial).into()))
}

/// What is critical says that the list is not what it seems (sections 5.2 and 5.3).
fn each_extension(mut extensions: Reader<'_>) -> Result<(), ParseError> {
    while !extensions.is_empty() {
        let read = (|| {
            let mut extension = Reader::new(extensions.expect(der::SEQUENCE)?);
            let id = extension.expect(der::OID)?;
            let critical = extension.optional(der::BOOLEAN)?.is_some_and(|flag| flag != [0]);
            extension.expect(der::OCTET_STRING)?;
            extension.end()?;
            Some((id, critical))
        })();
        let (id, critical) = read.ok_or_else(|| ParseError::new("has a malformed extension"))?;
        if critical || id == oid::DELTA_CRL || id == oid::ISSUING_DISTRIBUTION_POINT {
            return Err(ParseError::new(
                "is a delta, an indirect list or one of only some certificates; expected a complete list of one CA",
            ));
        }
    }
    Ok(())
}

/// Whole seconds in UTC, as RFC 5280 section 4.1.2.5 wants them.
fn time(r: &mut Reader<'_>) -> Option<Timestamp> {
    let element = r.element()?;
    let text = core::str::from_utf8(element.value).ok()?;
    let digits = text.strip_suffix('Z').filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let full = match (element.tag, digits.len()) {
        (UTC_TIME, 12) if digits < "5" => format!("20{digits}"),
        (UTC_TIME, 12) => format!("19{digits}"),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| full.get(from..to);
    Timestamp::parse(&format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_time(tag: u8, text: &str) -> Option<String> {
        let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
        bytes.extend(text.bytes());
        time(&mut Reader::new(&bytes)).map(|t| t.to_string())
    }

    #[test]
    fn times_have_two_forms_and_no_others() {
        assert_eq!(read_time(UTC_TIME, "491231235959Z").as_deref(), Some("2049-12-31T23:59:59Z"));
        assert_eq!(read_time(UTC_TIME, "500101000000Z").as_deref(), Some("1950-01-01T00:00:00Z"));
        assert_eq!(read_time(GENERALIZED_TIME, "20500101000000Z").as_deref(), Some("2050-01-01T00:00:00Z"));
        for (tag, bad) in [
            (UTC_TIME, "4912312359Z"),
            (UTC_TIME, "491231235959+0100"),
            (GENERALIZED_TIME, "20500101000000.5Z"),
            (GENERALIZED_TIME, "20501301000000Z"),
            (der::OCTET_STRING, "491231235959Z"),
        ] {
            assert_eq!(read_time(tag, bad), None, "{bad}");
        }
    }

    #[test]
    fn serial_numbers_are_compared_as_numbers() {
        assert_eq!(without_zeros(&[0, 0x80, 0]), [0x80, 0]);
        assert!(without_zeros(&[0]).is_empty());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in [&b""[..], b"text", b"\x30\x00", b"-----BEGIN X509 CRL-----\nAAAA\n"] {
            assert!(lists_from(bad).is_err(), "{bad:?}");
        }
    }
}
