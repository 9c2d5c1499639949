//! One attempt to issue and install one certificate, as durable steps.
//!
//! ```text
//! Begun ─► Ordered ─► Issued ─► (installed, served) ─► Done
//!   │         │          │
//!   └─────────┴──────────┴─► Failed   (an installed set is rolled back first)
//! ```
//! Every arrow is one durable commit. What a step does can be repeated: a restart looks at the stage and does the step
//! that leads out of it again. Key and CSR are durable in the key store before anything is sent, by the attempt's own id,
//! so they need no stage; neither do installed files, since installing the same slot again changes nothing. Refuses to
//! know how a step is done.

use std::sync::Arc;

use crate::domain::certificate::CertId;
use crate::domain::id::{AttemptId, CredentialId, EntryId, IssuerId};
use crate::domain::key::Digest;
use crate::domain::name::NameSet;
use crate::domain::policy::Act;
use crate::domain::time::{Timestamp, Validity};

/// Why a certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// There is none yet.
    First,
    /// The stored certificate does not cover what the configuration asks for (names, key type, issuer).
    Changed(Arc<str>),
    /// The CA suggested this time (RFC 9773).
    Ari,
    /// The fallback point of the lifetime has come.
    Lifetime,
    /// The emergency point has come.
    Emergency,
    /// The stored files are missing, damaged or expired.
    Repair(Arc<str>),
    /// A person asked.
    Manual(Arc<str>),
}

impl Trigger {
    /// What it does, for policy.
    #[must_use]
    pub fn act(&self) -> Act {
        match self {
            Self::First => Act::Issue,
            Self::Changed(_) => Act::Reissue,
            Self::Repair(_) => Act::Reinstall,
            Self::Ari | Self::Lifetime | Self::Emergency | Self::Manual(_) => Act::Renew,
        }
    }

    /// Stable name: a metric label and what the store keeps.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Changed(_) => "changed",
            Self::Ari => "ari",
            Self::Lifetime => "lifetime",
            Self::Emergency => "emergency",
            Self::Repair(_) => "repair",
            Self::Manual(_) => "manual",
        }
    }

    /// The detail that goes with the name, empty for most.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Changed(d) | Self::Repair(d) | Self::Manual(d) => d,
            Self::First | Self::Ari | Self::Lifetime | Self::Emergency => "",
        }
    }

    /// The trigger of that name and detail.
    #[must_use]
    pub fn parse(name: &str, detail: &str) -> Option<Self> {
        Some(match name {
            "first" => Self::First,
            "changed" => Self::Changed(Arc::from(detail)),
            "ari" => Self::Ari,
            "lifetime" => Self::Lifetime,
            "emergency" => Self::Emergency,
            "repair" => Self::Repair(Arc::from(detail)),
            "manual" => Self::Manual(Arc::from(detail)),
            _ => return None,
        })
    }
}

/// How far an attempt has come; what is named here is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The intent is committed. newOrder may have been sent: after a restart the CA is asked which orders there are
    /// before another is sent.
    Begun,
    /// The CA has the order at this URL.
    Ordered {
        /// The order's URL.
        url: Arc<str>,
    },
    /// The certificate and its chain are durable in the key store; what is left is to install it and to see it served.
    Issued,
}

impl Stage {
    /// Stable name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Ordered { .. } => "ordered",
            Self::Issued => "issued",
        }
    }

    /// The stage of that name; `url` is the order's.
    #[must_use]
    pub fn parse(name: &str, url: Option<&str>) -> Option<Self> {
        Some(match (name, url) {
            ("begun", _) => Self::Begun,
            ("ordered", Some(url)) => Self::Ordered { url: Arc::from(url) },
            ("issued", _) => Self::Issued,
            _ => return None,
        })
    }
}

/// One attempt. Exists only while it is in flight: its end is an audit entry and a change of the credential's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its id, and the name of its key slot.
    pub id: AttemptId,
    /// For which credential.
    pub credential: CredentialId,
    /// At which issuer.
    pub issuer: IssuerId,
    /// For these names.
    pub names: NameSet,
    /// Why.
    pub trigger: Trigger,
    /// What it replaces, when the CA may be told so (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// When it began.
    pub began: Timestamp,
    /// The intent entry.
    pub intent: EntryId,
    /// How far it has come.
    pub stage: Stage,
    /// How often the step out of the present stage has failed.
    pub failures: u32,
    /// Not before this time: backoff between tries.
    pub not_before: Option<Timestamp>,
}

/// A certificate that was issued here, by the slot that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The attempt that made it: the key slot.
    pub slot: AttemptId,
    /// The issuer.
    pub issuer: IssuerId,
    /// SHA-256 of the leaf.
    pub fingerprint: Digest,
    /// SHA-256 of the public key.
    pub spki: Digest,
    /// Serial number, hexadecimal.
    pub serial: Arc<str>,
    /// Its identity for ARI, if it has one.
    pub cert_id: Option<CertId>,
    /// The leaf's validity.
    pub validity: Validity,
    /// Its names.
    pub names: NameSet,
    /// Why it was issued.
    pub trigger: Trigger,
    /// Since when it is installed.
    pub installed_at: Timestamp,
    /// When every endpoint was last seen to serve it; `None` until then.
    pub verified_at: Option<Timestamp>,
    /// Since when its key is in use: as long as it is installed, or longer where a renewal kept the key.
    pub key_since: Timestamp,
}

/// Where the blame lies; decides who is told and whether another issuer helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Our request or configuration: repeating it changes nothing.
    Ours,
    /// The CA: another issuer may help.
    Issuer,
    /// The names' DNS or the host that should answer the challenge.
    Subject,
    /// The network between.
    Network,
    /// The local machine: files, hooks, servers.
    Host,
}

impl Fault {
    /// Stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Issuer => "issuer",
            Self::Subject => "subject",
            Self::Network => "network",
            Self::Host => "host",
        }
    }

    /// By its stable name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ours, Self::Issuer, Self::Subject, Self::Network, Self::Host].into_iter().find(|f| f.as_str() == text)
    }
}

/// A failure as it is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Stable code.
    pub code: Arc<str>,
    /// One sentence: what was seen, what was expected. Bounded.
    pub text: Arc<str>,
    /// Whose fault.
    pub fault: Fault,
    /// At which issuer, if one was involved.
    pub issuer: Option<IssuerId>,
}
