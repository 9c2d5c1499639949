//! The durable state, and the changes that make it.
//!
//! The store keeps exactly this; the engine holds the same in memory. Both apply the same [`Change`]s, so there is one
//! definition of what a change means. Refuses to know tables and files.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::certificate::CertId;
use crate::domain::directory::{Account, Order, RowId};
use crate::domain::execution::{Attempt, Failure, Generation};
use crate::domain::freeze::Freeze;
use crate::domain::id::{AttemptId, CredentialId, FreezeId, IssuerId, KeyId, PathId};
use crate::domain::key::Digest;
use crate::domain::limits::{AUTOMATIC_SPAN, BucketKey, Ledger};
use crate::domain::name::SetKey;
use crate::domain::register::{CaGeneration, GenerationId, Issued};
use crate::domain::rotation::{Piece, PieceId};
use crate::domain::time::{Boottime, Timestamp};
use crate::domain::upkeep::KeyRecord;

/// Everything that survives a restart. Records and attempts are shared with the changes that made them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Per credential.
    pub credentials: BTreeMap<CredentialId, Arc<CredentialRecord>>,
    /// Attempts in flight; at most one per credential.
    pub attempts: BTreeMap<AttemptId, Arc<Attempt>>,
    /// Per issuer.
    pub issuers: BTreeMap<IssuerId, IssuerRecord>,
    /// What was spent of the CAs' limits.
    pub ledger: Ledger,
    /// The clocks as last recorded.
    pub clock: Option<ClockMark>,
    /// What only a person may open again, and keys that are never good again.
    pub latches: BTreeMap<LatchOn, Latch>,
    /// What people froze, until it is thawed or its end is recorded.
    pub freezes: BTreeMap<FreezeId, Freeze>,
    /// The generations of private CAs.
    pub generations: BTreeMap<GenerationId, Arc<CaGeneration>>,
    /// What private CAs issued, by serial number in hexadecimal, until it expires.
    pub issued: BTreeMap<Arc<str>, Arc<Issued>>,
    /// Tracked keys that are no certificate's; also those that left the configuration, so that none comes back younger.
    pub keys: BTreeMap<KeyId, Arc<KeyRecord>>,
    /// What is known about the rotations of private CAs.
    pub pieces: BTreeMap<PieceId, Arc<Piece>>,
    /// Accounts of ACME directories.
    pub accounts: BTreeMap<RowId, Arc<Account>>,
    /// Their orders, until what was issued has expired.
    pub orders: BTreeMap<RowId, Arc<Order>>,
}

/// What is latched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LatchOn {
    /// An approval path: closed until a person opens it.
    Path(PathId),
    /// The audit log: it was not believed at an earlier start, and nobody has drawn the consequences yet.
    Log,
    /// A key, by the SHA-256 of its SubjectPublicKeyInfo: compromised, for ever.
    Key(Digest),
}

impl core::fmt::Display for LatchOn {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path/{path}"),
            Self::Log => f.write_str("log/audit"),
            Self::Key(spki) => write!(f, "key/{spki}"),
        }
    }
}

impl LatchOn {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/')? {
            ("path", id) => PathId::parse(id).ok().map(Self::Path),
            ("log", "audit") => Some(Self::Log),
            ("key", spki) => Digest::parse(spki).map(Self::Key),
            _ => None,
        }
    }
}

/// Why something is latched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latch {
    /// Since when.
    pub at: Timestamp,
    /// The code that says why.
    pub code: Arc<str>,
    /// One sentence of ours.
    pub text: Arc<str>,
    /// Who latched it, if it was a person.
    pub by: Option<Arc<str>>,
}

/// What is known of a managed credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialRecord {
    /// The generation that is installed.
    pub current: Option<Generation>,
    /// The one before it, for a rollback.
    pub previous: Option<Generation>,
    /// What the CA suggests for the current one.
    pub ari: Option<AriRecord>,
    /// Issuance failures in a row.
    pub failures: u32,
    /// The last failure; stays until a success.
    pub last_failure: Option<Failure>,
    /// Backoff: no new attempt before this.
    pub next_attempt: Option<Timestamp>,
    /// The last success: alerts go by this, never by the last attempt.
    pub last_success: Option<Timestamp>,
    /// Somebody asked for a renewal now.
    pub requested: Option<Request>,
    /// Public keys or certificates that failed to be served: not installed again by itself.
    pub rolled_back: Option<AttemptId>,
}

/// A person's wish to renew now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who.
    pub by: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// The CA's renewal information for one certificate (RFC 9773), with our own pick inside its window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AriRecord {
    /// The certificate it is about: never a name.
    pub cert_id: CertId,
    /// Start and end (exclusive) of the window, once a valid one was seen.
    pub window: Option<(Timestamp, Timestamp)>,
    /// The time picked inside the window; kept while the window stays the same.
    pub picked: Option<Timestamp>,
    /// When to ask again.
    pub next_poll: Timestamp,
    /// Why the CA suggests it, if it says so.
    pub explanation: Option<Arc<str>>,
}

/// What is known of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerRecord {
    /// Failures of its own fault in a row; the circuit breaker counts these.
    pub failures: u32,
    /// The breaker is open until then: no new order, a single trial after it.
    pub open_until: Option<Timestamp>,
    /// The last success.
    pub last_success: Option<Timestamp>,
    /// Terms of service last seen.
    pub terms: Option<Arc<str>>,
}

/// Both clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockMark {
    /// The wall clock's high-water mark.
    pub wall: Timestamp,
    /// Time since boot at that moment.
    pub boot: Boottime,
    /// Which boot.
    pub boot_id: Arc<str>,
}

/// One change of the state. Each is a whole new value of one row, so applying it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A credential's record is now this.
    Credential(CredentialId, Arc<CredentialRecord>),
    /// A credential left the configuration and its record is forgotten.
    Forget(CredentialId),
    /// An attempt is now this.
    Attempt(Arc<Attempt>),
    /// An attempt ended.
    AttemptEnded(AttemptId),
    /// An issuer's record is now this.
    Issuer(IssuerId, IssuerRecord),
    /// A bucket of the ledger is full again at this time.
    Bucket(BucketKey, Timestamp),
    /// Automation issued for this exact set at this time, which no other issuance of the set has
    /// ([`Ledger::counts_at`]).
    AutomaticIssuance(Arc<str>, Timestamp),
    /// The clocks.
    Clock(ClockMark),
    /// Something is latched, or not any more.
    Latch(LatchOn, Option<Latch>),
    /// Something is frozen, or not any more.
    Freeze(FreezeId, Option<Freeze>),
    /// A generation of a private CA is now this.
    Generation(GenerationId, Arc<CaGeneration>),
    /// A certificate of a private CA is now this; `None` once it expired long enough ago.
    Issued(Arc<str>, Option<Arc<Issued>>),
    /// A tracked key's record is now this.
    Key(KeyId, Arc<KeyRecord>),
    /// Something is known about the rotation of a private CA, or not any more.
    Piece(PieceId, Option<Arc<Piece>>),
    /// An account of an ACME directory is now this.
    Account(RowId, Option<Arc<Account>>),
    /// An order of an ACME directory is now this.
    Order(RowId, Option<Arc<Order>>),
}

impl State {
    /// Applies one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Credential(id, record) => put(&mut self.credentials, id, record.clone()),
            Change::Forget(id) => drop(self.credentials.remove(id)),
            Change::Attempt(attempt) => put(&mut self.attempts, &attempt.id, attempt.clone()),
            Change::AttemptEnded(id) => drop(self.attempts.remove(id)),
            Change::Issuer(id, record) => put(&mut self.issuers, id, record.clone()),
            Change::Bucket(key, full_at) => put(&mut self.ledger.full_at, key, *full_at),
            Change::AutomaticIssuance(set, at) => {
                note_automatic(self.ledger.automatic.entry(SetKey::from(set.clone())).or_default(), *at);
            }
            Change::Clock(mark) => self.clock = Some(mark.clone()),
            Change::Latch(on, Some(latch)) => put(&mut self.latches, on, latch.clone()),
            Change::Latch(on, None) => drop(self.latches.remove(on)),
            Change::Freeze(id, Some(freeze)) => put(&mut self.freezes, id, freeze.clone()),
            Change::Freeze(id, None) => drop(self.freezes.remove(id)),
            Change::Generation(id, generation) => put(&mut self.generations, id, generation.clone()),
            Change::Issued(serial, Some(issued)) => put(&mut self.issued, serial, issued.clone()),
            Change::Issued(serial, None) => drop(self.issued.remove(serial)),
            Change::Key(id, record) => put(&mut self.keys, id, record.clone()),
            Change::Piece(id, Some(piece)) => put(&mut self.pieces, id, piece.clone()),
            Change::Piece(id, None) => drop(self.pieces.remove(id)),
            Change::Account(id, Some(account)) => put(&mut self.accounts, id, account.clone()),
            Change::Account(id, None) => drop(self.accounts.remove(id)),
            Change::Order(id, Some(order)) => put(&mut self.orders, id, order.clone()),
            Change::Order(id, None) => drop(self.orders.remove(id)),
        }
    }

    /// The attempt in flight for a credential.
    #[must_use]
    pub fn attempt_for(&self, credential: &CredentialId) -> Option<&Arc<Attempt>> {
        self.attempts.values().find(|a| a.credential == *credential)
    }

    /// The record of a credential; an empty one if there is none yet.
    #[must_use]
    pub fn credential(&self, id: &CredentialId) -> Arc<CredentialRecord> {
        self.credentials.get(id).cloned().unwrap_or_default()
    }
}

/// Mostly the key is there already, and needs no copy.
fn put<K: Clone + Ord, V>(map: &mut BTreeMap<K, V>, key: &K, value: V) {
    match map.get_mut(key) {
        Some(old) => *old = value,
        None => drop(map.insert(key.clone(), value)),
    }
}

/// Adds an automatic issuance to those of the same set; what no longer counts goes.
pub(crate) fn note_automatic(times: &mut Vec<Timestamp>, at: Timestamp) {
    times.retain(|t| at.since(*t) < AUTOMATIC_SPAN && *t != at);
    times.push(at);
}

/// Ledger buckets that were full for this long may be dropped from the store: a missing bucket is a full one.
pub const FULL_BUCKETS_KEPT: Duration = Duration::from_secs(86_400);
