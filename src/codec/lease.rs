//! Leases and permits as bytes, and the consumer's side of them: every rule is applied here, none is left to prose.
//!
//! ```text
//! text ─► signature of a pinned key ─► claims ─► rules of domain::lease ─► epoch kept durably, if higher ─► believed
//! ```
//! Refuses to know where the clocks are and where epochs are kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::time::Duration;

use super::canonical::Value;
use super::follow::{Follower, Keep};
use super::statement::{Keys, LONGEST_STATEMENT, NotOpened, open};
use crate::domain::id::{AudienceId, PathId};
use crate::domain::inventory::Environment;
use crate::domain::key::Digest;
use crate::domain::lease::{Expected, Grant, Lease, Machine, Moment, Permit, Place, Refused, VERSION, is_nonce};
use crate::domain::statement::Context;
use crate::domain::time::{Boottime, Timestamp};
use crate::domain::tree::{TreeHead, check_consistency};

/// Why a lease or a permit is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Nobody who is pinned says it.
    #[error(transparent)]
    Signature(#[from] NotOpened),
    /// What is signed is not understood.
    #[error("what is signed {0}")]
    Claims(&'static str),
    /// A rule does not hold.
    #[error(transparent)]
    Rule(#[from] Refused),
    /// What was seen before cannot be told, or what is seen now cannot be kept.
    #[error("the highest epoch that was seen cannot be kept: {0}")]
    Memory(String),
    /// It contradicts the audit log.
    #[error("it does not agree with the audit log as it was seen: {0}")]
    Log(String),
}

/// Where a consumer keeps the highest epoch of each guardian, beyond its own end: without it, a lease of an earlier run of
/// the guardian could be shown to a consumer that has just started.
pub trait Epochs {
    /// The highest epoch of this issuer.
    ///
    /// # Errors
    /// If it cannot be told: nothing there is `None`, something damaged is an error.
    fn highest(&self, issuer: &str) -> Result<Option<u64>, String>;
    /// Keeps a higher one: all or nothing, and durable on return.
    ///
    /// # Errors
    /// If it may not be durable.
    fn keep(&mut self, issuer: &str, epoch: u64) -> Result<(), String>;
}

/// Epochs beside each other in whatever keeps texts by name: [`crate::adapters`] has files for that.
#[derive(Clone, Debug)]
pub struct KeptEpochs<K>(pub K);

impl<K: Keep> Epochs for KeptEpochs<K> {
    fn highest(&self, issuer: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.0.load(issuer)? else { return Ok(None) };
        let number = text.strip_prefix("epoch ").and_then(|t| t.strip_suffix('\n')).and_then(|n| n.parse().ok());
        number.map(Some).ok_or_else(|| "what was kept is no epoch".to_owned())
    }

    fn keep(&mut self, issuer: &str, epoch: u64) -> Result<(), String> {
        self.0.store(issuer, &format!("epoch {epoch}\n"))
    }
}

/// Epochs that end with the process: for a consumer whose permits are fenced by a database, and for tests.
#[derive(Clone, Debug, Default)]
pub struct VolatileEpochs(BTreeMap<String, u64>);

impl Epochs for VolatileEpochs {
    fn highest(&self, issuer: &str) -> Result<Option<u64>, String> {
        Ok(self.0.get(issuer).copied())
    }

    fn keep(&mut self, issuer: &str, epoch: u64) -> Result<(), String> {
        self.0.insert(issuer.to_owned(), epoch);
        Ok(())
    }
}

/// What a consumer has seen: durable epochs, and since it runs the newest lease of each path and audience. Holds as many
/// of these as the consumer expects paths.
#[derive(Clone, Debug)]
pub struct Memory<E> {
    epochs: E,
    known: BTreeMap<String, u64>,
    last: BTreeMap<(String, PathId, AudienceId), Place>,
}

impl<E: Epochs> Memory<E> {
    /// Over what was kept.
    pub fn new(epochs: E) -> Self {
        Self { epochs, known: BTreeMap::new(), last: BTreeMap::new() }
    }

    fn highest(&mut self, issuer: &str) -> Result<u64, Rejected> {
        if let Some(known) = self.known.get(issuer) {
            return Ok(*known);
        }
        let kept = self.epochs.highest(issuer).map_err(Rejected::Memory)?.unwrap_or(0);
        self.known.insert(issuer.to_owned(), kept);
        Ok(kept)
    }

    /// A higher epoch is durable before anybody relies on it.
    fn remember(&mut self, grant: &Grant) -> Result<(), Rejected> {
        if self.highest(&grant.issuer)? < grant.epoch {
            self.epochs.keep(&grant.issuer, grant.epoch).map_err(Rejected::Memory)?;
            self.known.insert(grant.issuer.clone(), grant.epoch);
        }
        Ok(())
    }
}

/// Verifies a lease by every rule: signature of a pinned key, audience, path, environment, epoch, sequence, boot or nonce,
/// both clocks. A higher epoch is kept before this returns.
///
/// # Errors
/// [`Rejected`] says which does not hold; nothing that was kept changed.
pub fn verify<E: Epochs>(
    text: &[u8],
    keys: &Keys,
    expected: &Expected,
    now: Moment,
    memory: &mut Memory<E>,
) -> Result<Lease, Rejected> {
    let lease = read(text, keys)?;
    let line = (lease.grant.issuer.clone(), expected.path.clone(), expected.audience.clone());
    let highest = memory.highest(&lease.grant.issuer)?;
    lease.admit(expected, highest, memory.last.get(&line).copied(), now)?;
    memory.remember(&lease.grant)?;
    memory.last.insert(line, lease.grant.place());
    Ok(lease)
}

/// Verifies a permit by every rule but that it is spent once, which is the business of the decision's own transaction.
///
/// # Errors
/// As [`verify`].
pub fn verify_permit<E: Epochs>(
    text: &[u8],
    keys: &Keys,
    expected: &Expected,
    decision: &Digest,
    now: Moment,
    memory: &mut Memory<E>,
) -> Result<Permit, Rejected> {
    let permit = read_permit(text, keys)?;
    let highest = memory.highest(&permit.grant.issuer)?;
    permit.admit(expected, decision, highest, now)?;
    memory.remember(&permit.grant)?;
    Ok(permit)
}

/// That the audit log whose size and root the lease names is the one that was followed: neither forked nor rolled back.
/// `fetch` gives the consistency proof between two sizes, the smaller first.
///
/// # Errors
/// [`Rejected::Log`]; also if the lease names no log, or the log was never followed.
pub fn agrees<K: Keep>(
    lease: &Lease,
    follower: &Follower<K>,
    fetch: impl FnOnce(u64, u64) -> Result<Vec<Digest>, String>,
) -> Result<(), Rejected> {
    let no = |why: String| Rejected::Log(why);
    let (size, root) = lease.log.as_ref().ok_or_else(|| no("the lease names no size and root".into()))?;
    let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let own =
        TreeHead { size: *size, root: Digest(root.ok_or_else(|| no("the lease names a root that is none".into()))?) };
    let origin = &lease.grant.issuer;
    let seen = follower.last(origin).map_err(|e| no(e.to_string()))?;
    let seen = seen.ok_or_else(|| no(format!("no checkpoint of {origin} was seen yet")))?.head;
    let (old, new) = if own.size <= seen.size { (&own, &seen) } else { (&seen, &own) };
    let proof =
        if old.size == new.size || old.size == 0 { Vec::new() } else { fetch(old.size, new.size).map_err(no)? };
    check_consistency(old, new, &proof).map_err(|e| no(e.to_string()))
}

/// Keeps the newest lease, and answers at any moment whether the path is open. Shared by threads; asking neither waits
/// nor does any I/O.
#[derive(Debug)]
pub struct Holder<E> {
    keys: Keys,
    expected: Expected,
    memory: Mutex<Memory<E>>,
    newest: ArcSwapOption<Held>,
}

#[derive(Debug)]
struct Held {
    lease: Arc<Lease>,
    machine: Machine,
}

impl<E: Epochs> Holder<E> {
    /// Holds nothing yet: closed.
    pub fn new(keys: Keys, expected: Expected, epochs: E) -> Self {
        Self { keys, expected, memory: Mutex::new(Memory::new(epochs)), newest: ArcSwapOption::empty() }
    }

    /// Takes a lease, if every rule holds, in the place of the one before it.
    ///
    /// # Errors
    /// [`Rejected`]: what was held stays, and ends in its own time.
    pub fn take(&self, text: &[u8], now: Moment) -> Result<(), Rejected> {
        self.put(text, self.expected.clone(), now)
    }

    /// On another machine than the guardian's: takes the answer to `nonce`, which was sent at `asked`.
    ///
    /// # Errors
    /// As [`Holder::take`].
    pub fn take_answer(&self, text: &[u8], nonce: &str, asked: Boottime, now: Moment) -> Result<(), Rejected> {
        let machine = Machine::Other { nonce: nonce.to_owned(), asked };
        self.put(text, Expected { machine, ..self.expected.clone() }, now)
    }

    fn put(&self, text: &[u8], expected: Expected, now: Moment) -> Result<(), Rejected> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = verify(text, &self.keys, &expected, now, &mut memory)?;
        // Under the lock, so that an older one never comes after a newer one.
        self.newest.store(Some(Arc::new(Held { lease: Arc::new(lease), machine: expected.machine })));
        Ok(())
    }

    /// The guardian says that the path is closed, or the consumer wants it so. Whoever says it needs no signature: a
    /// lease that was held before, and every older one, never opens again.
    pub fn close(&self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = self.newest.swap(None) {
            let grant = &held.lease.grant;
            let line = (grant.issuer.clone(), grant.path.clone(), grant.audience.clone());
            let place = Place { epoch: grant.epoch, sequence: grant.sequence.saturating_add(1) };
            let last = memory.last.entry(line).or_insert(place);
            *last = (*last).max(place);
        }
    }

    /// Whether the path is open at this moment.
    #[must_use]
    pub fn is_open(&self, now: Moment) -> bool {
        self.newest.load().as_ref().is_some_and(|held| held.lease.grant.holds(&held.machine, now).is_ok())
    }

    /// The lease that is held, whether or not it is over.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Lease>> {
        self.newest.load().as_ref().map(|held| held.lease.clone())
    }
}

/// Reads a lease that a pinned key stands behind. No rule was applied yet: see [`verify`].
///
/// # Errors
/// [`Rejected::Signature`] and [`Rejected::Claims`].
pub fn read(text: &[u8], keys: &Keys) -> Result<Lease, Rejected> {
    let opened = open(text, Context::Lease, keys, LONGEST_STATEMENT)?;
    let claims = Claims::of(&opened.payload)?;
    let log = match claims.0.at("log") {
        None => None,
        Some(log) => Some((natural(log, "size")?, log.text("root").ok_or(MISSING)?.to_owned())),
    };
    let nonce = match claims.0.at("nonce") {
        None => None,
        Some(_) => {
            let text = claims.0.text("nonce").filter(|n| is_nonce(n));
            Some(text.ok_or(Rejected::Claims("has a nonce that is none"))?.to_owned())
        }
    };
    Ok(Lease { grant: claims.grant(&opened.issuer)?, inputs: claims.digest("inputs")?, log, nonce })
}

/// Reads a permit that a pinned key stands behind. No rule was applied yet: see [`verify_permit`].
///
/// # Errors
/// As [`read`].
pub fn read_permit(text: &[u8], keys: &Keys) -> Result<Permit, Rejected> {
    let opened = open(text, Context::Permit, keys, LONGEST_STATEMENT)?;
    let claims = Claims::of(&opened.payload)?;
    Ok(Permit { grant: claims.grant(&opened.issuer)?, decision: claims.digest("decision")? })
}

const MISSING: Rejected = Rejected::Claims("lacks a claim, or has one of another type");

struct Claims<'a>(Value<'a>);

impl<'a> Claims<'a> {
    fn of(payload: &'a [u8]) -> Result<Self, Rejected> {
        let value = Value::read(payload).map_err(|_| Rejected::Claims("is no canonical JSON"))?;
        // What a later version means is not guessed.
        if value.int("version") != Some(VERSION) {
            return Err(Rejected::Claims("is of another version than 1"));
        }
        Ok(Self(value))
    }

    fn digest(&self, key: &str) -> Result<Digest, Rejected> {
        self.0.text(key).and_then(Digest::parse).ok_or(MISSING)
    }

    fn boot(&self, key: &str) -> Result<Boottime, Rejected> {
        Ok(Boottime::from_boot(Duration::from_millis(natural(&self.0, key)?)))
    }

    fn time(&self, key: &str) -> Result<Timestamp, Rejected> {
        self.0.int(key).map(Timestamp::from_unix).ok_or(MISSING)
    }

    /// `issuer` is whose key it is: nobody speaks for another.
    fn grant(&self, issuer: &str) -> Result<Grant, Rejected> {
        let text = |key: &str| self.0.text(key).ok_or(MISSING);
        if text("issuer")? != issuer {
            return Err(Rejected::Claims("names another issuer than the one whose key signed it"));
        }
        let environment = [Environment::Production, Environment::Staging];
        let said = text("environment")?;
        Ok(Grant {
            issuer: issuer.to_owned(),
            audience: AudienceId::parse(text("audience")?).map_err(|_| MISSING)?,
            path: PathId::parse(text("path")?).map_err(|_| MISSING)?,
            environment: environment.into_iter().find(|e| e.as_str() == said).ok_or(MISSING)?,
            epoch: natural(&self.0, "epoch")?,
            sequence: natural(&self.0, "sequence")?,
            boot_id: text("boot_id")?.to_owned(),
            boot_now: self.boot("boot_now_ms")?,
            boot_expires: self.boot("boot_expires_ms")?,
            not_before: self.time("not_before")?,
            expires: self.time("expires")?,
        })
    }
}

fn natural(value: &Value<'_>, key: &str) -> Result<u64, Rejected> {
    value.int(key).and_then(|n| u64::try_from(n).ok()).ok_or(MISSING)
}
