//! Name constraints (RFC 5280 sections 4.2.1.10 and 6.1.4).
//!
//! DNS names, IP addresses and directory names are compared. A constraint on any other kind of name refuses every
//! certificate that has a name of that kind: what cannot be compared is closed.

use crate::codec::der::{self, Reader};
use crate::codec::x509::{GeneralName, Parsed};

/// Subtrees of one CA: real ones have some dozens, and each is compared with each of at most 1,000 names.
const MOST_SUBTREES: usize = 256;

/// What an issuer may issue for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameConstraints<'a> {
    permitted: Vec<GeneralName<'a>>,
    excluded: Vec<GeneralName<'a>>,
}

impl<'a> NameConstraints<'a> {
    /// Reads the extension's value, strictly: an unreadable constraint must not turn into none.
    pub(crate) fn read(value: &'a [u8]) -> Option<Self> {
        let mut r = Reader::inside(value, der::SEQUENCE)?;
        let permitted = r.optional(0xa0)?.map_or(Some(Vec::new()), subtrees)?;
        let excluded = r.optional(0xa1)?.map_or(Some(Vec::new()), subtrees)?;
        r.end()?;
        Some(Self { permitted, excluded })
    }

    /// The first name of the certificate that is not allowed, for people.
    pub(crate) fn violation(&self, certificate: &Parsed<'_>) -> Option<String> {
        let subject = GeneralName { tag: GeneralName::DIRECTORY, value: certificate.subject };
        // An empty subject is no directory name (section 4.1.2.6): `30 00`.
        let subject = (certificate.subject.len() > 2).then_some(subject);
        certificate.names.iter().copied().chain(subject).find(|name| !self.allows(*name)).map(|name| {
            match name.well_formed() {
                Some(text) => text.to_string(),
                None if name.tag == GeneralName::DIRECTORY => certificate.title(),
                None => String::from_utf8_lossy(name.value).chars().filter(|c| !c.is_control()).take(80).collect(),
            }
        })
    }

    fn allows(&self, name: GeneralName<'_>) -> bool {
        let mut same_kind = self.permitted.iter().filter(|c| c.tag == name.tag).peekable();
        let permitted = same_kind.peek().is_none() || same_kind.any(|c| within(name, *c));
        let excluded = self.excluded.iter().filter(|c| c.tag == name.tag).any(|c| touches(name, *c));
        permitted && !excluded
    }
}

/// GeneralSubtrees; `minimum` and `maximum` must be absent (section 4.2.1.10).
fn subtrees(bytes: &[u8]) -> Option<Vec<GeneralName<'_>>> {
    let mut r = Reader::new(bytes);
    let mut out = Vec::new();
    while !r.is_empty() {
        let mut subtree = Reader::new(r.expect(der::SEQUENCE)?);
        let base = subtree.element()?;
        subtree.end()?;
        let well_formed = base.tag != GeneralName::IP || matches!(base.value.len(), 8 | 32);
        if !well_formed || out.len() >= MOST_SUBTREES {
            return None;
        }
        out.push(GeneralName { tag: base.tag, value: base.value });
    }
    // The sequence has at least one element.
    (!out.is_empty()).then_some(out)
}

/// Whether the whole of `name` lies in a permitted subtree of its kind.
fn within(name: GeneralName<'_>, base: GeneralName<'_>) -> bool {
    match name.tag {
        GeneralName::DNS => dns_within(&lower(name.value), &lower(base.value)),
        GeneralName::IP => ip_within(name.value, base.value),
        GeneralName::DIRECTORY => directory_within(name.value, base.value),
        _ => false,
    }
}

/// Whether any part of `name` may lie in an excluded subtree of its kind.
fn touches(name: GeneralName<'_>, base: GeneralName<'_>) -> bool {
    match name.tag {
        GeneralName::DNS => {
            let (name, base) = (lower(name.value), lower(base.value));
            // `*.example.com` also stands for `excluded.example.com`.
            let by_wildcard = name.strip_prefix(b"*.").is_some_and(|parent| {
                let base = base.strip_prefix(b".").unwrap_or(&base);
                base.iter().position(|b| *b == b'.').and_then(|dot| base.get(dot.saturating_add(1)..)) == Some(parent)
            });
            by_wildcard || dns_within(&name, &base)
        }
        GeneralName::IP => ip_within(name.value, base.value),
        // Two encodings of one directory name need not be equal bytes, so that difference proves nothing here.
        _ => true,
    }
}

fn lower(name: &[u8]) -> Vec<u8> {
    name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase()
}

/// Zero or more labels added on the left; a base that starts with a dot wants at least one.
fn dns_within(name: &[u8], base: &[u8]) -> bool {
    match base.split_first() {
        None => true,
        Some((b'.', _)) => name.len() > base.len() && name.ends_with(base),
        Some(_) => name == base || name.strip_suffix(base).is_some_and(|front| front.ends_with(b".")),
    }
}

/// Address and mask, one after the other.
fn ip_within(address: &[u8], base: &[u8]) -> bool {
    let Some((network, mask)) = base.split_at_checked(address.len()) else { return false };
    mask.len() == address.len() && address.iter().zip(network).zip(mask).all(|((a, n), m)| (a & m) == (n & m))
}

/// The base's relative names come first in the name. Equal DER elements are equal bytes, so a prefix of the contents is
/// a prefix of the elements.
fn directory_within(name: &[u8], base: &[u8]) -> bool {
    let contents = |b| Reader::new(b).expect(der::SEQUENCE);
    match (contents(name), contents(base)) {
        (Some(name), Some(base)) => name.starts_with(base),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(text: &str) -> GeneralName<'_> {
        GeneralName { tag: GeneralName::DNS, value: text.as_bytes() }
    }

    #[test]
    fn a_dns_subtree_holds_its_base_and_what_is_left_of_it() {
        for (name, base, inside) in [
            ("example.com", "example.com", true),
            ("A.Example.COM.", "example.com", true),
            ("badexample.com", "example.com", false),
            ("example.com", ".example.com", false),
            ("a.example.com", ".example.com", true),
            ("*.example.com", "example.com", true),
            ("*.example.com", "a.example.com", false),
            ("anything.test", "", true),
        ] {
            assert_eq!(within(dns(name), dns(base)), inside, "{name} in {base}");
        }
    }

    #[test]
    fn a_wildcard_that_could_stand_for_an_excluded_name_is_excluded() {
        assert!(touches(dns("*.example.com"), dns("secret.example.com")));
        assert!(touches(dns("x.secret.example.com"), dns("secret.example.com")));
        assert!(!touches(dns("*.example.org"), dns("secret.example.com")));
    }

    #[test]
    fn an_address_is_compared_under_the_mask_of_its_own_family() {
        let net = [10, 0, 0, 0, 255, 0, 0, 0];
        assert!(ip_within(&[10, 1, 2, 3], &net) && !ip_within(&[11, 1, 2, 3], &net));
        assert!(!ip_within(&[0; 16], &net));
    }

    #[test]
    fn a_kind_that_cannot_be_compared_is_closed_when_constrained() {
        let uri = GeneralName { tag: 0x86, value: b"spiffe://x/y" };
        let free = NameConstraints::default();
        let bound = NameConstraints { permitted: vec![uri], excluded: vec![] };
        let barred = NameConstraints { permitted: vec![], excluded: vec![uri] };
        assert!(free.allows(uri) && !bound.allows(uri) && !barred.allows(uri));
        assert!(bound.allows(dns("example.com")));
    }

    #[test]
    fn a_constraint_with_a_minimum_or_bytes_too_many_is_malformed() {
        let good = [0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, b'x'];
        assert!(NameConstraints::read(&good).is_some());
        let minimum = [0x30, 10, 0xa0, 8, 0x30, 6, 0x82, 1, b'x', 0x80, 1, 1];
        let empty = [0x30, 2, 0xa0, 0];
        let tail = [0x30, 9, 0xa0, 5, 0x30, 3, 0x82, 1, b'x', 5, 0];
        for bad in [&minimum[..], &empty, &tail] {
            assert_eq!(NameConstraints::read(bad), None);
        }
    }
}
