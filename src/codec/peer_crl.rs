//! The certificate revocation lists (RFC 5280 section 5) by which peers of links are judged: complete lists of one CA, read
//! strictly, several in a file; those of credentials are [`crate::codec::crl`].
//!
//! Deltas, indirect lists and lists of only some certificates are refused as a whole: what they leave out would look like
//! "not revoked". Refuses to know the time, and whose list counts: that is [`crate::codec::peer`].

use std::collections::BTreeSet;

use crate::codec::pem;

use crate::codec::crl::{Extension, List, oid, without_zeros};
use crate::codec::der::{self, Reader};
use crate::codec::verify::is_signature;
use crate::codec::x509::Parsed;
use crate::codec::{ParseError, intern};
use crate::domain::key::Digest;
use crate::domain::time::Validity;

/// Bytes of a file: some 250,000 entries.
pub const LONGEST_FILE: usize = 8 << 20;
/// Lists in one file: far more than a chain has CAs.
const MOST_LISTS: usize = 64;

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
    let lists = pem::lists_in(bytes, MOST_LISTS)?;
    let lists = lists.iter().map(|list| Crl::read(list)).collect::<Result<Vec<_>, _>>()?;
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
        let list = List::read(bytes, complete)?;
        let next_update = list
            .next_update
            .ok_or_else(|| ParseError::new("is a revocation list that does not say when the next one comes"))?;
        let mut revoked = BTreeSet::new();
        let mut entries = Reader::new(list.entries);
        while !entries.is_empty() {
            revoked.insert(list.entry(&mut entries, complete)?.into());
        }
        Ok(Self {
            digest: Digest::of(bytes),
            issuer: list.issuer.into(),
            algorithm: list.algorithm.into(),
            tbs: list.tbs.into(),
            signature: list.signature.into(),
            validity: Validity { not_before: list.this_update, not_after: next_update },
            revoked,
        })
    }

    /// From this update to the next.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// How many certificates it says are revoked.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.revoked.len()
    }

    /// Whether this CA made the list: by name, signature and key usage.
    pub(crate) fn is_by(&self, ca: &Parsed<'_>) -> bool {
        *self.issuer == *ca.subject
            && ca.may_sign_lists()
            && intern::signature(self.digest, Digest::of(ca.spki), || {
                is_signature(&self.algorithm, &self.tbs, &self.signature, ca)
            })
    }

    /// Whether a certificate of this CA is on it.
    pub(crate) fn revokes(&self, certificate: &Parsed<'_>) -> bool {
        self.revoked.contains(without_zeros(certificate.serial))
    }
}

/// What is critical says that the list is not what it seems (sections 5.2 and 5.3); so does an issuing distribution point,
/// however it limits the list.
fn complete(extension: &Extension<'_>) -> Result<(), ParseError> {
    if extension.is_critical || extension.id == oid::DELTA || extension.id == oid::ISSUING_DISTRIBUTION_POINT {
        return Err(ParseError::new(
            "is a delta, an indirect list or one of only some certificates; expected a complete list of one CA",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::crl::time;
    use crate::codec::der::{GENERALIZED_TIME, UTC_TIME};

    fn read_time(tag: u8, text: &str) -> Option<String> {
        let mut bytes = vec![tag, u8::try_from(text.len()).unwrap()];
        bytes.extend(text.bytes());
        Reader::new(&bytes).element().and_then(|e| time(&e)).map(|t| t.to_string())
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
