//! What an ACME directory over a private CA has to remember: accounts and orders with their authorizations, as rows; and
//! who may have what.
//!
//! ```text
//! open ─► (waiting for a person ─►) processing ─► valid
//!   └──────────────┴───────────────────┴───────► invalid
//! ```
//! An open order is pending or ready as its authorizations and its age say. Refuses to know the protocol and the CA's keys.

mod judge;
mod text;

use core::fmt;
use std::sync::Arc;

pub use judge::{FirstTime, Grant, Judgement, Policy, Unfit, Uses, judge};

use crate::domain::certificate::CertId;
use crate::domain::id::{DirectoryId, ProfileId};
use crate::domain::name::{Name, NameSet};
use crate::domain::time::Timestamp;

/// The kinds of challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChallengeKind {
    /// RFC 8555 section 8.3.
    Http01,
    /// RFC 8737.
    TlsAlpn01,
    /// RFC 8555 section 8.4.
    Dns01,
}

impl ChallengeKind {
    /// Every kind with its name in ACME.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Http01, "http-01"), (Self::TlsAlpn01, "tls-alpn-01"), (Self::Dns01, "dns-01")];

    /// Its name in ACME.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// A row of a directory by its number: `corp/1f`. Numbers are never given twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// Of which directory.
    pub directory: DirectoryId,
    /// Its number.
    pub number: u64,
}

impl RowId {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (directory, number) = text.split_once('/')?;
        let plain = number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && !number.starts_with('0');
        let number = u64::from_str_radix(number, 16).ok().filter(|_| plain)?;
        Some(Self { directory: DirectoryId::parse(directory).ok()?, number })
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}", self.directory, self.number)
    }
}

/// An account (RFC 8555 section 7.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its public key in the canonical form of RFC 7638 section 3.
    pub key: Arc<str>,
    /// Its contacts, one a line.
    pub contacts: Option<Arc<str>>,
    /// Whether it still counts.
    pub standing: Standing,
    /// The key id of its external binding.
    pub grant: Option<Arc<str>>,
    /// When it was made.
    pub at: Timestamp,
}

/// Whether an account still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It does.
    Valid,
    /// Its owner gave it up.
    Deactivated,
}

impl Standing {
    /// Every standing with its name.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Valid, "valid"), (Self::Deactivated, "deactivated")];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(standing, _)| *standing == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(standing, _)| *standing)
    }
}

/// An order (RFC 8555 section 7.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The number of its account.
    pub account: u64,
    /// What is ordered.
    pub names: NameSet,
    /// By which profile of the CA.
    pub profile: ProfileId,
    /// What it replaces (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// When it was made.
    pub at: Timestamp,
    /// Until when it has to be finalized.
    pub expires: Timestamp,
    /// When a person allowed it: for a while the same account may order the same again.
    pub ruled: Option<Timestamp>,
    /// Where it is.
    pub stage: Stage,
    /// What has to be proved; each belongs to this order alone.
    pub authorizations: Vec<Authorization>,
    /// What went wrong, as the client is told: a JSON object.
    pub errors: Option<Arc<str>>,
}

/// Where an order is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Pending or ready.
    Open,
    /// A person has to decide, since this time; with the public key (DER) to certify.
    Waiting {
        /// SubjectPublicKeyInfo.
        spki: Arc<[u8]>,
        /// Since when.
        since: Timestamp,
    },
    /// The certificate is being made, since this time.
    Processing {
        /// SubjectPublicKeyInfo.
        spki: Arc<[u8]>,
        /// Since when.
        since: Timestamp,
    },
    /// There is a certificate.
    Valid {
        /// Its serial number in hexadecimal.
        serial: Arc<str>,
    },
    /// There will be none.
    Invalid,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting { .. } => "waiting",
            Self::Processing { .. } => "processing",
            Self::Valid { .. } => "valid",
            Self::Invalid => "invalid",
        }
    }

    /// The public key (DER) to certify, while that is needed.
    #[must_use]
    pub fn spki(&self) -> Option<&Arc<[u8]>> {
        match self {
            Self::Waiting { spki, .. } | Self::Processing { spki, .. } => Some(spki),
            Self::Open | Self::Valid { .. } | Self::Invalid => None,
        }
    }

    /// Since when it waits or is being made.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Waiting { since, .. } | Self::Processing { since, .. } => Some(*since),
            Self::Open | Self::Valid { .. } | Self::Invalid => None,
        }
    }

    /// The certificate's serial number.
    #[must_use]
    pub fn serial(&self) -> Option<&Arc<str>> {
        match self {
            Self::Valid { serial } => Some(serial),
            Self::Open | Self::Waiting { .. } | Self::Processing { .. } | Self::Invalid => None,
        }
    }

    /// From its parts, if they fit together.
    #[must_use]
    pub fn of(name: &str, spki: Option<Arc<[u8]>>, since: Option<Timestamp>, serial: Option<Arc<str>>) -> Option<Self> {
        match (name, spki, since, serial) {
            ("open", None, None, None) => Some(Self::Open),
            ("waiting", Some(spki), Some(since), None) => Some(Self::Waiting { spki, since }),
            ("processing", Some(spki), Some(since), None) => Some(Self::Processing { spki, since }),
            ("valid", None, None, Some(serial)) => Some(Self::Valid { serial }),
            ("invalid", None, None, None) => Some(Self::Invalid),
            _ => None,
        }
    }
}

/// An authorization (RFC 8555 section 7.1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// As it was ordered: with `*.` where the wildcard is meant.
    pub name: Name,
    /// Where it is.
    pub status: AuthorizationStatus,
    /// Until when it counts.
    pub expires: Timestamp,
    /// Ways to prove it.
    pub challenges: Vec<Challenge>,
}

/// Where an authorization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationStatus {
    /// Nothing is proved yet.
    Pending,
    /// It is proved.
    Valid,
    /// The proof failed.
    Invalid,
    /// Its owner gave it up.
    Deactivated,
}

impl AuthorizationStatus {
    /// Every status with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Pending, "pending"),
        (Self::Valid, "valid"),
        (Self::Invalid, "invalid"),
        (Self::Deactivated, "deactivated"),
    ];
}

/// A way to prove control of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Which one.
    pub kind: ChallengeKind,
    /// Random, base64url.
    pub token: Arc<str>,
    /// Where it is.
    pub status: ChallengeStatus,
    /// When it was found to be answered, or not to be.
    pub validated: Option<Timestamp>,
}

/// Where a challenge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeStatus {
    /// The client has not said that its response is there.
    Pending,
    /// It is being looked for.
    Processing,
    /// It was found.
    Valid,
    /// It was not.
    Invalid,
}

impl ChallengeStatus {
    /// Every status with its name.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Pending, "pending"),
        (Self::Processing, "processing"),
        (Self::Valid, "valid"),
        (Self::Invalid, "invalid"),
    ];
}

impl Order {
    /// Its authorizations as one text, for rows and entries: `NAME STATUS EXPIRES KIND:TOKEN:STATUS:VALIDATED …`, joined by
    /// `; `. Every part is of characters that are none of the separators.
    #[must_use]
    pub fn proofs(&self) -> String {
        text::write(&self.authorizations)
    }

    /// Reads what [`Self::proofs`] wrote.
    #[must_use]
    pub fn parse_proofs(text: &str) -> Option<Vec<Authorization>> {
        text::read(text)
    }
}
