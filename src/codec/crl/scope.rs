//! Which certificates a list is about, and where a certificate's list lies (RFC 5280 sections 5.2.5 and 4.2.1.13).

use std::sync::Arc;

use super::list::malformed;
use crate::codec::ParseError;
use crate::codec::der::{self, Reader};
use crate::domain::certificate::Certificate;

/// URIs in one extension; real ones have one to four.
const MOST_URIS: usize = 16;
/// Bytes of a URI: what browsers and servers take at least.
const LONGEST_URI: usize = 2_048;

/// [0], constructed: a DistributionPointName, and in it a fullName.
const NAME: u8 = 0xa0;
/// A GeneralName that is a URI.
const URI: u8 = 0x86;

/// What an issuing distribution point limits a list to. Without the extension a list is about everything that its issuer
/// issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::codec) struct Scope {
    kind: Kind,
    /// Only certificates that name one of these points.
    points: Option<Vec<String>>,
}

/// Which kind of certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Any,
    /// onlyContainsUserCerts.
    Users,
    /// onlyContainsCACerts.
    Cas,
}

impl Scope {
    /// From the extension's value. What leaves out reasons, or speaks for other issuers, is refused: what it does not say
    /// may well be revoked.
    pub(in crate::codec) fn read(value: &[u8]) -> Result<Self, ParseError> {
        let mut parts = Reader::inside(value, der::SEQUENCE).ok_or_else(malformed)?;
        let mut scope = Self::default();
        let mut before = None;
        while !parts.is_empty() {
            let part = parts.element().ok_or_else(malformed)?;
            let order = part.tag & 0x1f;
            // Each at most once, in their order.
            if before.is_some_and(|before| before >= order) {
                return Err(malformed());
            }
            before = Some(order);
            let set = match (part.tag, part.value) {
                (NAME, name) => {
                    scope.points = Some(full_name(name)?);
                    continue;
                }
                (0x81 | 0x82 | 0x84 | 0x85, [0]) => continue,
                (0x83, _) => true,
                (0x81 | 0x82 | 0x84 | 0x85, [0xff]) => true,
                _ => return Err(malformed()),
            };
            scope.kind = match part.tag {
                0x81 if set && scope.kind == Kind::Any => Kind::Users,
                0x82 if set && scope.kind == Kind::Any => Kind::Cas,
                // Both at once would be a list about nothing.
                0x81 | 0x82 => return Err(malformed()),
                _ => {
                    return Err(ParseError::new(
                        "is partial or indirect: its issuing distribution point limits it to some reasons, to attribute certificates, or lets it speak for other issuers; expected a list of the issuer's own for all reasons",
                    ));
                }
            };
        }
        Ok(scope)
    }

    /// Whether it is about this certificate of its issuer; the reason if not (section 6.3.3 step b).
    pub(super) fn covers(&self, certificate: &Certificate) -> Result<(), ParseError> {
        let listing = &certificate.listing;
        match self.kind {
            Kind::Users if listing.ca => {
                return Err(ParseError::new("is partial: it is not about certificates of CAs"));
            }
            Kind::Cas if !listing.ca => {
                return Err(ParseError::new("is partial: it is only about certificates of CAs"));
            }
            Kind::Any | Kind::Users | Kind::Cas => {}
        }
        match &self.points {
            Some(own) if !own.iter().any(|point| listing.points.iter().any(|p| **p == **point)) => {
                let named = own.first().map_or("no URI at all".to_owned(), |point| format!("{point:?}"));
                Err(ParseError(format!(
                    "is partial: it is only about certificates that name its distribution point, {named}"
                )))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The URIs of a DistributionPointName, which must be a fullName: a name relative to the issuer leads nowhere.
fn full_name(name: &[u8]) -> Result<Vec<String>, ParseError> {
    let mut name = Reader::new(name);
    let full = name.element().ok_or_else(malformed)?;
    name.end().ok_or_else(malformed)?;
    match full.tag {
        NAME => uris(Reader::new(full.value)).ok_or_else(malformed),
        0xa1 => Err(ParseError::new("is partial: its distribution point has no full name; expected a URI")),
        _ => Err(malformed()),
    }
}

fn uris(mut names: Reader<'_>) -> Option<Vec<String>> {
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.element()?;
        let plain = |value: &[u8]| value.len() <= LONGEST_URI && value.iter().all(u8::is_ascii_graphic);
        if name.tag == URI && plain(name.value) && found.len() < MOST_URIS {
            found.push(core::str::from_utf8(name.value).ok()?.to_owned());
        }
    }
    Some(found)
}

/// The URIs in a certificate's extension cRLDistributionPoints at which its own issuer keeps a list for all reasons. A
/// point with some reasons only, or with a list by somebody else, counts as none; so does all of a malformed extension.
pub(in crate::codec) fn points_in(value: &[u8]) -> Arc<[Arc<str>]> {
    let read = || {
        let mut points = Reader::inside(value, der::SEQUENCE)?;
        let mut found: Vec<Arc<str>> = Vec::new();
        while !points.is_empty() {
            let mut point = Reader::new(points.expect(der::SEQUENCE)?);
            let name = point.optional(NAME)?;
            let (reasons, issuer) = (point.optional(0x81)?, point.optional(0xa2)?);
            point.end()?;
            if let (Some(name), None, None) = (name, reasons, issuer) {
                let uris = full_name(name).unwrap_or_default();
                found.extend(uris.into_iter().map(Arc::from));
            }
        }
        found.truncate(MOST_URIS);
        Some(found)
    };
    read().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        [&[tag, u8::try_from(value.len()).unwrap()][..], &value].concat()
    }

    fn point(uris: &[&str], more: &[u8]) -> Vec<u8> {
        let names: Vec<u8> = uris.iter().flat_map(|uri| tlv(URI, &[uri.as_bytes()])).collect();
        tlv(der::SEQUENCE, &[&tlv(NAME, &[&tlv(NAME, &[&names])]), more])
    }

    fn found(points: &[&[u8]]) -> Vec<String> {
        points_in(&tlv(der::SEQUENCE, points)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_points_of_a_certificate_are_those_with_all_reasons_and_its_own_issuer() {
        let (own, other) = (point(&["http://a/1", "ldap://b/2"], &[]), point(&["http://c/3"], &[]));
        assert_eq!(found(&[&own, &other]), ["http://a/1", "ldap://b/2", "http://c/3"]);
        let some_reasons = point(&["http://a/1"], &tlv(0x81, &[&[1, 2]]));
        let somebody = point(&["http://a/1"], &tlv(0xa2, &[&tlv(0xa4, &[&[0x30, 0]])]));
        let relative = tlv(der::SEQUENCE, &[&tlv(NAME, &[&tlv(0xa1, &[])])]);
        let nameless = tlv(der::SEQUENCE, &[&tlv(0xa2, &[&tlv(0xa4, &[&[0x30, 0]])])]);
        for left_out in [some_reasons, somebody, relative, nameless] {
            assert_eq!(found(&[&left_out, &other]), ["http://c/3"]);
        }
        assert!(found(&[&other, &[0x30, 5]]).is_empty(), "a malformed extension names nothing");
        assert!(found(&[&point(&["http://a/\n"], &[])]).is_empty());
        let many: Vec<Vec<u8>> = (0..40).map(|n| point(&[&format!("http://a/{n}")], &[])).collect();
        let all: Vec<u8> = many.concat();
        let long = [&[0x30, 0x82][..], &u16::try_from(all.len()).unwrap().to_be_bytes(), &all].concat();
        assert_eq!(points_in(&long).len(), MOST_URIS);
    }

    #[test]
    fn flags_stand_once_and_in_their_order_and_never_both() {
        let read = |parts: &[&[u8]]| Scope::read(&tlv(der::SEQUENCE, parts));
        let (users, cas, off) = (&[0x81, 1, 0xff][..], &[0x82, 1, 0xff][..], &[0x81, 1, 0][..]);
        assert_eq!(read(&[]), Ok(Scope::default()));
        assert_eq!(read(&[off]), Ok(Scope::default()));
        assert_eq!(read(&[users]).unwrap().kind, Kind::Users);
        assert_eq!(read(&[off, cas]).unwrap().kind, Kind::Cas);
        for bad in [&[users, cas][..], &[users, users], &[cas, off], &[&[0x81, 1, 1]], &[&[0x81, 0]], &[&[0x86, 0]]] {
            assert!(read(bad).is_err_and(|e| e.0.contains("well-formed")), "{bad:02x?}");
        }
        for refused in [&[0x83, 2, 1, 2][..], &[0x84, 1, 0xff], &[0x85, 1, 0xff]] {
            assert!(read(&[refused]).is_err_and(|e| e.0.contains("partial or indirect")), "{refused:02x?}");
        }
    }
}
