//! What is to be signed, before it is bytes: leaves, certificates of CAs, revocation lists (RFC 5280).

use core::fmt;
use std::sync::Arc;

use super::Constraints;
use crate::domain::certificate::Purposes;
use crate::domain::name::NameSet;
use crate::domain::spiffe::{SpiffeId, TrustDomain};
use crate::domain::time::{Timestamp, Validity};

/// 20 bytes, positive, 158 of their bits drawn at random (RFC 5280 section 4.1.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SerialNumber([u8; 20]);

impl SerialNumber {
    /// From 20 random bytes: neither negative nor with a leading zero that DER would drop.
    #[must_use]
    pub fn new(mut random: [u8; 20]) -> Self {
        let [first, ..] = &mut random;
        *first = (*first & 0x7f) | 0x40;
        Self(random)
    }

    /// The contents of the INTEGER.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for SerialNumber {
    /// 40 hexadecimal digits in lower case, as [`crate::domain::certificate::Certificate::serial`] has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A leaf that is to be signed: everything that will stand in it but what its issuer adds (AKI, CRL and AIA locations).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Its validity, inside that of everything above it.
    pub validity: Validity,
    /// Host names and addresses.
    pub names: NameSet,
    /// Its only URI.
    pub spiffe: Option<SpiffeId>,
    /// What it is for.
    pub purposes: Purposes,
    /// Its SubjectPublicKeyInfo (DER).
    pub spki: Arc<[u8]>,
}

/// A CA's certificate that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Its validity.
    pub validity: Validity,
    /// The common name: no other CA certificate ever had it, because verifiers find issuers by name.
    pub common_name: String,
    /// The organization.
    pub organization: Option<Arc<str>>,
    /// The trust domain whose URI it carries (X509-SVID section 3.1).
    pub trust_domain: Option<TrustDomain>,
    /// How many CAs may follow below (RFC 5280 section 4.2.1.9); any number if `None`.
    pub path_length: Option<u8>,
    /// Its name constraints.
    pub constraints: Constraints,
    /// Its SubjectPublicKeyInfo (DER).
    pub spki: Arc<[u8]>,
}

/// A revocation list that is to be signed (RFC 5280 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Never repeated, never smaller than the one before (section 5.2.3).
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When it is worth nothing any more.
    pub next_update: Timestamp,
    /// What is revoked, sorted by serial number.
    pub revoked: Vec<Revoked>,
}

/// A revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The contents of its serial number's INTEGER.
    pub serial: Vec<u8>,
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a certificate is revoked (RFC 5280 section 5.3.1): what a person may say. `certificateHold` and `removeFromCRL` are
/// left out: what is revoked stays so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationReason {
    /// Nothing is said.
    #[default]
    Unspecified,
    /// The private key is in other hands.
    KeyCompromise,
    /// The key of the CA itself is.
    CaCompromise,
    /// The names in it changed.
    AffiliationChanged,
    /// It was replaced.
    Superseded,
    /// It is not needed any more.
    CessationOfOperation,
    /// It should not have been given.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Every reason, its name and its number in the standard.
    pub const ALL: [(Self, &'static str, u8); 7] = [
        (Self::Unspecified, "unspecified", 0),
        (Self::KeyCompromise, "key-compromise", 1),
        (Self::CaCompromise, "ca-compromise", 2),
        (Self::AffiliationChanged, "affiliation-changed", 3),
        (Self::Superseded, "superseded", 4),
        (Self::CessationOfOperation, "cessation-of-operation", 5),
        (Self::PrivilegeWithdrawn, "privilege-withdrawn", 9),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(reason, ..)| *reason == self).map_or("unspecified", |(_, name, _)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, _)| *name == text).map(|(reason, ..)| *reason)
    }

    /// Its number: the ENUMERATED of the reasonCode extension, and of RFC 8555 section 7.6.
    #[must_use]
    pub fn number(self) -> u8 {
        Self::ALL.iter().find(|(reason, ..)| *reason == self).map_or(0, |(.., number)| *number)
    }

    /// By its number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(.., n)| *n == number).map(|(reason, ..)| *reason)
    }
}
