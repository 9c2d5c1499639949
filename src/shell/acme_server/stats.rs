//! What happened: for tests that ask what a client really did, and for the demo's page.

use std::collections::{BTreeMap, VecDeque};

use super::fault::Endpoint;
use crate::domain::certificate::CertId;
use crate::domain::key::Digest;
use crate::domain::limits::LimitKind;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Timestamp, Validity};
use crate::ports::ChallengeKind;

/// An order that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecord {
    /// Its URL.
    pub url: String,
    /// The URL of its account.
    pub account: String,
    /// What was ordered.
    pub names: NameSet,
    /// The profile that the order named.
    pub profile: Option<String>,
    /// What it replaces.
    pub replaces: Option<CertId>,
    /// When.
    pub at: Timestamp,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRecord {
    /// The URL of its account.
    pub account: String,
    /// The URL of its order.
    pub order: String,
    /// The names in it.
    pub names: NameSet,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// Its id for renewal information.
    pub cert_id: CertId,
    /// When it is valid.
    pub validity: Validity,
    /// When it was issued.
    pub at: Timestamp,
}

/// A validation that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationRecord {
    /// How.
    pub kind: ChallengeKind,
    /// Which name.
    pub name: Name,
    /// What was wrong, if anything was.
    pub failure: Option<String>,
    /// When it ended.
    pub at: Timestamp,
}

/// An account key that was registered or changed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKeyRecord {
    /// The account's URL.
    pub account: String,
    /// The key's thumbprint (RFC 7638).
    pub thumbprint: String,
    /// When.
    pub at: Timestamp,
}

/// A request that went beyond a limit and was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViolationRecord {
    /// The account's URL.
    pub account: String,
    /// The limit.
    pub kind: LimitKind,
    /// What it is counted by.
    pub key: String,
    /// When.
    pub at: Timestamp,
}

/// The last of something, at most so many.
pub(super) struct Recent<T> {
    lines: VecDeque<T>,
    most: usize,
}

impl<T: Clone> Recent<T> {
    fn new(most: usize) -> Self {
        Self { lines: VecDeque::new(), most: most.max(1) }
    }

    pub(super) fn push(&mut self, line: T) {
        while self.lines.len() >= self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn all(&self) -> Vec<T> {
        self.lines.iter().cloned().collect()
    }
}

pub(super) struct Stats {
    pub(super) requests: BTreeMap<Endpoint, u64>,
    pub(super) orders: Recent<OrderRecord>,
    pub(super) certificates: Recent<CertificateRecord>,
    pub(super) validations: Recent<ValidationRecord>,
    pub(super) account_keys: Recent<AccountKeyRecord>,
    pub(super) violations: Recent<ViolationRecord>,
}

impl Stats {
    pub(super) fn new(most: usize) -> Self {
        Self {
            requests: BTreeMap::new(),
            orders: Recent::new(most),
            certificates: Recent::new(most),
            validations: Recent::new(most),
            account_keys: Recent::new(most),
            violations: Recent::new(most),
        }
    }

    pub(super) fn count(&mut self, endpoint: Endpoint) {
        let requests = self.requests.entry(endpoint).or_default();
        *requests = requests.saturating_add(1);
    }
}
