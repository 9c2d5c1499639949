//! SPIFFE IDs: a workload's name inside a trust domain, and patterns of such names.

use core::fmt;
use std::sync::Arc;

/// A SPIFFE ID has at most this many bytes (SPIFFE-ID section 2.3).
const LONGEST: usize = 2_048;
/// A trust domain has at most this many bytes (SPIFFE-ID section 2.1).
const LONGEST_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";

/// The authority of SPIFFE IDs, for example `mesh.example` (SPIFFE-ID section 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses 1 to 255 of `a-z 0-9 - . _`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        ((1..=LONGEST_DOMAIN).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the domain itself, which its CAs may carry (X509-SVID section 3.1).
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A workload's SPIFFE ID: a trust domain and a path of one segment at least, with nothing that could be spelt otherwise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Parses `spiffe://DOMAIN/PATH` (SPIFFE-ID section 2).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (domain, path) = text.strip_prefix(SCHEME)?.split_once('/')?;
        let good = text.len() <= LONGEST && TrustDomain::parse(domain).is_some() && path.split('/').all(is_segment);
        good.then(|| Self(Arc::from(text)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's text.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// The path without its first slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SPIFFE-ID section 2.2.
fn is_segment(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    !matches!(text, "" | "." | "..") && text.bytes().all(plain)
}

/// Paths of SPIFFE IDs: `/ns/*/sa/web`, where `*` is one segment and a last `**` is one segment or more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPattern(Arc<str>);

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let path = text.strip_prefix('/').ok_or("does not begin with '/'")?;
        let last = path.split('/').count().saturating_sub(1);
        for (at, segment) in path.split('/').enumerate() {
            match segment {
                "*" => {}
                "**" if at == last => {}
                "**" => return Err("has '**' before its end"),
                plain if is_segment(plain) => {}
                _ => return Err("has a segment that is neither '*' nor made of A-Z, a-z, 0-9, '-', '.' and '_'"),
            }
        }
        Ok(Self(Arc::from(path)))
    }

    /// Whether the pattern covers this ID's path.
    #[must_use]
    pub fn covers(&self, id: &SpiffeId) -> bool {
        let mut path = id.path().split('/');
        for segment in self.0.split('/') {
            let Some(own) = path.next() else { return false };
            match segment {
                "**" => return true,
                "*" => {}
                plain if plain == own => {}
                _ => return false,
            }
        }
        path.next().is_none()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_whole_segments_only() {
        let id = SpiffeId::parse("spiffe://mesh.example/ns/prod/sa/web").unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("mesh.example", "ns/prod/sa/web"));
        for (pattern, covers) in [
            ("/ns/prod/sa/web", true),
            ("/ns/*/sa/web", true),
            ("/ns/**", true),
            ("/**", true),
            ("/*", false),
            ("/ns/*", false),
            ("/ns/prod/sa/we", false),
            ("/ns/prod/sa/web/*", false),
            ("/ns/prod/sa/web/**", false),
            ("/ns/Prod/sa/web", false),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap().covers(&id), covers, "{pattern}");
        }
        for bad in ["", "ns", "/", "/a//b", "/a/../b", "/**/a", "/a*", "/a/%41", "/a?b"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_trust_domain_is_no_url() {
        for bad in ["", "Mesh", "a b", "a/b", "a:1", "u@a", &"a".repeat(256)] {
            assert_eq!(TrustDomain::parse(bad), None, "{bad:?}");
        }
        assert_eq!(TrustDomain::parse("mesh.example").unwrap().uri(), "spiffe://mesh.example");
    }
}
