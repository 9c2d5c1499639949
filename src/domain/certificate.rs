//! What a certificate says, once parsed (RFC 5280), and the chain above it.
//!
//! Refuses to know encodings: `adapters/x509` turns bytes into these facts.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::key::Digest;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Timestamp, Validity};

/// A certificate's identity for ACME Renewal Information: base64url(AKI keyIdentifier) `.` base64url(serial), without
/// padding (RFC 9773 section 4.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertId(pub Arc<str>);

impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the DER encoding.
    pub fingerprint: Digest,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest,
    /// The serial number in lower-case hexadecimal, without leading zeros.
    pub serial: Arc<str>,
    /// The subject's distinguished name (RFC 4514 form).
    pub subject: String,
    /// The issuer's distinguished name (RFC 4514 form).
    pub issuer: String,
    /// DNS and IP subject alternative names that are well formed; others are left out.
    pub names: NameSet,
    /// The validity period.
    pub validity: Validity,
    /// Set if the certificate has an AKI key identifier (RFC 9773 needs one).
    pub cert_id: Option<CertId>,
    /// Basic constraints say CA, and key usage, if there is one, allows to sign certificates.
    pub may_issue: bool,
    /// What a TLS peer may use it for.
    pub purposes: Purposes,
    /// How its revocation would be told.
    pub listing: Listing,
    /// What is wrong with its key or its signature, whoever vouches for it.
    pub faults: Faults,
}

/// Why nobody should rely on a certificate although it is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// What is wrong with its key: the end of a sentence that begins with the key.
    pub key: Option<Arc<str>>,
    /// The digest that it is signed with, if collisions of that are found.
    pub signature: Option<&'static str>,
}

/// On which revocation lists a certificate stands, should it be revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Basic constraints say CA, whatever key usage says: it stands on lists for CAs (RFC 5280 section 5.2.5).
    pub ca: bool,
    /// The URIs of the distribution points at which its own issuer keeps a list for all reasons (section 4.2.1.13).
    pub points: Arc<[Arc<str>]>,
}

impl Listing {
    /// Those of the points that can be fetched: over HTTP without TLS, whose certificate would have to be judged first.
    pub fn fetchable(&self) -> impl Iterator<Item = &Arc<str>> {
        self.points.iter().filter(|point| point.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("http://")))
    }
}

/// What a TLS peer uses a certificate for (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To be a server: serverAuth.
    Server,
    /// To be a client: clientAuth.
    Client,
}

impl Purpose {
    /// Every purpose with its word in the configuration.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Server, "server"), (Self::Client, "client")];

    /// Its word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// The purposes that extended key usage and key usage allow together: without the former every one, and the latter, if
/// there is one, must allow to sign or to agree on a key (RFC 8446 section 4.4.2.2, RFC 5246 section 7.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purposes {
    /// Server.
    pub server: bool,
    /// Client.
    pub client: bool,
}

impl Purposes {
    /// All of them.
    pub const ALL: Self = Self { server: true, client: true };

    /// Whether this one is allowed.
    #[must_use]
    pub fn allow(self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Server => self.server,
            Purpose::Client => self.client,
        }
    }
}

/// A certificate and everything above it that was found, the anchor included when known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The end-entity certificate.
    pub leaf: Arc<Certificate>,
    /// Intermediates in order, then the trust anchor if one was found.
    pub above: Vec<Arc<Certificate>>,
    /// How far the chain was found to lead.
    pub trust: Trust,
}

/// What the check of a chain's signatures and anchor found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Every signature is good, every issuer may issue, and the last element is a configured or system root.
    Anchored,
    /// No configured or system root was reached, or a check on the way failed; the text says which and why.
    Untrusted(String),
}

impl Chain {
    /// Leaf first, anchor last.
    pub fn elements(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        core::iter::once(&self.leaf).chain(self.above.iter())
    }

    /// The element that ends first, the root included: a chain is only as long as its shortest part.
    #[must_use]
    pub fn weakest(&self) -> &Arc<Certificate> {
        self.elements().min_by_key(|c| c.validity.not_after).unwrap_or(&self.leaf)
    }

    /// The period in which every element is valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.elements().fold(self.leaf.validity, |acc, c| acc.intersection(&c.validity))
    }

    /// Every element but the anchor: who trusts it would not ask it about itself.
    pub fn below_anchor(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.elements().take(self.above.len())
    }

    /// Where the revocation lists for the elements below the anchor can be fetched. What a chain names that leads to no
    /// trusted root is nobody's word.
    #[must_use]
    pub fn list_points(&self) -> BTreeSet<Arc<str>> {
        match self.trust {
            Trust::Anchored => self.below_anchor().flat_map(|c| c.listing.fetchable().cloned()).collect(),
            Trust::Untrusted(_) => BTreeSet::new(),
        }
    }

    /// The first element that is not valid at `at`.
    #[must_use]
    pub fn out_of_time(&self, at: Timestamp) -> Option<&Arc<Certificate>> {
        self.elements().find(|c| !c.validity.contains(at))
    }
}

/// A short name for people: the first DNS name, else the first name, else the subject.
#[must_use]
pub fn display_name(certificate: &Certificate) -> String {
    let dns = certificate.names.iter().find(|n| matches!(n, Name::Dns(_)));
    dns.or_else(|| certificate.names.iter().next()).map_or_else(|| certificate.subject.clone(), ToString::to_string)
}
