//! Subject names: DNS names, wildcards and IP addresses, parsed once (RFC 8555 section 7.1.3, RFC 8738).
//!
//! Refuses to know Unicode: internationalised names come as A-labels (`xn--…`, RFC 5890).

use core::cmp::Ordering;
use core::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// Why a text is no subject name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// More than 253 characters (RFC 1035 section 2.3.4).
    #[error("is longer than 253 characters")]
    TooLong,
    /// A label of zero or more than 63 characters, or one that starts or ends with a hyphen.
    #[error("has a label that is empty, longer than 63 characters, or starts or ends with '-'")]
    Label,
    /// A character that host names may not hold.
    #[error("holds {0:?}; a host name is made of a-z, 0-9, '-' and '.' (write internationalised names as xn--…)")]
    Character(char),
    /// A `*` anywhere but as the whole first label, or before a single label.
    #[error("has a '*' that is not the whole first label of a name with two more labels")]
    Wildcard,
    /// One label only, or a last label of digits: no CA that follows the Baseline Requirements issues for it.
    #[error("is no fully qualified name")]
    NotQualified,
}

/// A subject alternative name of a server certificate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A DNS name in lower case without a final dot; may start with `*.`.
    Dns(Arc<str>),
    /// An IP address (RFC 8738).
    Ip(IpAddr),
}

impl Name {
    /// Parses a fully qualified DNS name, a wildcard, or an IP address; case and a final dot do not matter.
    ///
    /// # Errors
    /// [`NameError`] says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 253 {
            return Err(NameError::TooLong);
        }
        let host = text.strip_prefix("*.").unwrap_or(&text);
        if host.contains('*') || (host.len() < text.len() && !host.contains('.')) {
            return Err(NameError::Wildcard);
        }
        if let Some(c) = host.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))) {
            return Err(NameError::Character(c));
        }
        let bad = |l: &str| l.is_empty() || l.len() > 63 || l.starts_with('-') || l.ends_with('-');
        if host.split('.').any(bad) {
            return Err(NameError::Label);
        }
        let last = host.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || (!host.contains('.') && host != "localhost") {
            return Err(NameError::NotQualified);
        }
        Ok(Self::Dns(Arc::from(text)))
    }

    /// Whether this is `*.…`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(d) if d.starts_with("*."))
    }

    /// The name whose control an ACME server checks: a wildcard's base domain (RFC 8555 section 7.1.4), else itself.
    #[must_use]
    pub fn authorized(&self) -> Self {
        match self {
            Self::Dns(d) => d.strip_prefix("*.").map_or_else(|| self.clone(), |base| Self::Dns(Arc::from(base))),
            Self::Ip(_) => self.clone(),
        }
    }

    /// Its text, shared where it is kept as text.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        match self {
            Self::Dns(d) => d.clone(),
            Self::Ip(ip) => Arc::from(ip.to_string()),
        }
    }

    /// Whether a certificate for `self` may stand for `host`: equal, or a wildcard whose `*` is exactly one label
    /// (RFC 9525 section 6.3).
    #[must_use]
    pub fn covers(&self, host: &Self) -> bool {
        match (self, host) {
            (Self::Dns(own), Self::Dns(theirs)) => {
                own == theirs
                    || own.strip_prefix("*.").is_some_and(|base| {
                        theirs.split_once('.').is_some_and(|(first, rest)| first != "*" && rest == base)
                    })
            }
            (Self::Ip(own), Self::Ip(theirs)) => own == theirs,
            _ => false,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(d) => f.write_str(d),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The exact set of names of a certificate: sorted, without duplicates. The first name for people is the first DNS name.
/// Cheap to clone: it stands in the configuration, in attempts, in generations and in certificates.
#[derive(Clone)]
pub struct NameSet(Arc<Set>);

/// The text of a set of names, sorted by a hash of it first: names begin alike, and there may be tens of thousands of sets
/// in one map.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetKey {
    hash: u64,
    text: Arc<str>,
}

impl SetKey {
    /// The text, as [`NameSet::key`] gives it.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl<T: Into<Arc<str>>> From<T> for SetKey {
    fn from(text: T) -> Self {
        let text = text.into();
        Self { hash: hash(&text), text }
    }
}

impl fmt::Debug for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// FNV-1a: whoever chose names for the same hash would only make his own maps slow.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Set {
    names: Vec<Name>,
    key: SetKey,
    /// Made when first asked for: only whoever orders needs them.
    registered: OnceLock<Vec<Arc<str>>>,
}

impl NameSet {
    /// From any collection of names.
    pub fn new(names: impl IntoIterator<Item = Name>) -> Self {
        let mut names: Vec<Name> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        let key = match &*names {
            // Most certificates have one name, and its text is there already.
            [only] => only.text(),
            names => Arc::from(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        };
        Self(Arc::new(Set { names, key: SetKey::from(key), registered: OnceLock::new() }))
    }

    /// Parses the text of [`Self::key`].
    ///
    /// # Errors
    /// The first [`NameError`].
    pub fn parse_key(key: &str) -> Result<Self, NameError> {
        let names: Result<Vec<Name>, NameError> = key.split(',').filter(|t| !t.is_empty()).map(Name::parse).collect();
        names.map(Self::new)
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.names.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.names.is_empty()
    }

    /// Whether some name of the set covers `host`.
    #[must_use]
    pub fn covers(&self, host: &Name) -> bool {
        self.iter().any(|n| n.covers(host))
    }

    /// Whether every name of `other` is in this set or covered by it.
    #[must_use]
    pub fn covers_all(&self, other: &Self) -> bool {
        other.iter().all(|n| self.holds(n) || self.covers(n))
    }

    /// Whether the sets share an identifier.
    #[must_use]
    pub fn shares_one_with(&self, other: &Self) -> bool {
        self.iter().any(|n| other.holds(n))
    }

    fn holds(&self, name: &Name) -> bool {
        self.0.names.binary_search(name).is_ok()
    }

    /// The set as one text, names joined by commas: the key of a CA's limit per exact set of identifiers.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.0.key.text
    }

    /// The same, as what is kept by exact sets of identifiers is found by it.
    #[must_use]
    pub fn set(&self) -> &SetKey {
        &self.0.key
    }

    /// The registered domains (public suffix plus one label) of the names, each once; an IP address counts as itself.
    pub fn registered_domains(&self) -> &[Arc<str>] {
        self.0.registered.get_or_init(|| {
            let mut domains: Vec<Arc<str>> = self.iter().map(registered_domain).collect();
            domains.sort();
            domains.dedup();
            domains
        })
    }
}

fn registered_domain(name: &Name) -> Arc<str> {
    match name.authorized() {
        Name::Dns(host) => match psl::domain_str(&host) {
            Some(domain) if *domain != *host => Arc::from(domain),
            Some(_) | None => host,
        },
        Name::Ip(ip) => Arc::from(ip.to_string()),
    }
}

impl Default for NameSet {
    fn default() -> Self {
        Self::new([])
    }
}

impl PartialEq for NameSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.names == other.0.names
    }
}

impl Eq for NameSet {}

impl PartialOrd for NameSet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NameSet {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.names.cmp(&other.0.names)
    }
}

impl core::hash::Hash for NameSet {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.names.hash(state);
    }
}

impl fmt::Debug for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl From<&NameSet> for Arc<str> {
    /// The text for people, shared where it is that of the only name.
    fn from(names: &NameSet) -> Self {
        if names.len() == 1 { names.key().clone() } else { Self::from(names.to_string()) }
    }
}

impl fmt::Display for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            fmt::Display::fmt(name, f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap_or(Name::Dns(Arc::from("unparsed")))
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_rule_it_breaks() {
        let long = format!("{}.example", "a".repeat(64));
        for (text, error) in [
            ("", NameError::Empty),
            (&*"a.".repeat(130), NameError::TooLong),
            ("a..example", NameError::Label),
            ("-a.example", NameError::Label),
            (&*long, NameError::Label),
            ("exa_mple.com", NameError::Character('_')),
            ("$(id).example", NameError::Character('$')),
            ("../x.example", NameError::Character('/')),
            ("*.*.example.com", NameError::Wildcard),
            ("a.*.example.com", NameError::Wildcard),
            ("*.com", NameError::Wildcard),
            ("single", NameError::NotQualified),
            ("1.2.3", NameError::NotQualified),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn case_and_the_final_dot_do_not_matter() {
        assert_eq!(name("Review.Example.COM."), name("review.example.com"));
        assert_eq!(name("::1"), name("0:0:0:0:0:0:0:1"));
    }

    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let w = name("*.example.com");
        assert!(w.covers(&name("a.example.com")));
        for not in ["example.com", "a.b.example.com", "a.example.org"] {
            assert!(!w.covers(&name(not)), "{not}");
        }
        assert_eq!(w.authorized(), name("example.com"));
    }

    #[test]
    fn the_key_of_a_set_does_not_depend_on_order_and_parses_back() {
        let a = NameSet::new([name("b.example.com"), name("a.example.com"), name("192.0.2.1")]);
        let b = NameSet::new([name("192.0.2.1"), name("a.example.com"), name("b.example.com"), name("a.example.com")]);
        assert_eq!(a.key(), b.key());
        assert_eq!(NameSet::parse_key(a.key()), Ok(a));
    }

    #[test]
    fn the_registered_domain_follows_the_public_suffix_list() {
        let set = NameSet::new(["a.example.co.uk", "b.example.co.uk", "*.example.org", "192.0.2.1"].map(name));
        let domains = set.registered_domains().iter().map(|d| &**d);
        assert_eq!(domains.collect::<Vec<_>>(), ["192.0.2.1", "example.co.uk", "example.org"]);
    }
}
