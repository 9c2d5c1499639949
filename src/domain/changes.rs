//! What an entry tells of the state: the changes of its transaction, as a JSON merge patch (RFC 7396).
//!
//! The state is thought of as one JSON document, and each entry carries under `data.changes` the patch that leads to the
//! next one. So whoever applies the patches of all entries in order has the state's tables, with nothing but a JSON
//! library ([`crate::codec::replay`] does that here). Only what differs is written:
//!
//! ```json
//! {"attempt":{"01J…":{"stage":"ordered","url":"https://…"}},"bucket":{"le":{"orders":{"":1790000036}}}}
//! ```
//!
//! | member | by | holds |
//! |---|---|---|
//! | `account` | `DIRECTORY/NUMBER` | an account of an ACME directory |
//! | `attempt` | attempt id | an attempt in flight |
//! | `automatic` | set of names | times of the automatic issuances that count |
//! | `bucket` | issuer, limit, what is counted | when it is full again |
//! | `credential` | credential id | a record; its generations stand once each below `generation`, by their slots |
//! | `freeze` | freeze id | what people froze, until it is thawed or ends |
//! | `issuer` | issuer id | a record |
//! | `generation` | `CA/NUMBER` | a generation of a private CA |
//! | `issued` | serial number | a certificate of a private CA, until it expires |
//! | `key` | key id | a tracked key: its versions, and its rotation under way |
//! | `order` | `DIRECTORY/NUMBER` | an order of an ACME directory |
//! | `latch` | `path/ID`, `key/SPKI` or `log/audit` | what only a person opens again, and keys that are never good again |
//! | `rotation` | `CA/KIND/…` | what is known about the rotation of a private CA |
//!
//! Times are seconds since 1970 (a string beyond 2^53 - 1), sets of names are their keys, a free text is its commitment.
//! The clocks' marks are no part of the document: they say nothing that the times of the entries do not say, and are worth
//! no entry of their own. Refuses to know where entries are kept.

mod authority;
mod directory;
mod patch;
mod people;
mod upkeep;

use std::collections::BTreeMap;

use patch::Patch;

pub use crate::domain::before::{After, Before};
use crate::domain::directory::{Account, Order, RowId};
use crate::domain::execution::{Attempt, Failure, Generation, Stage};
use crate::domain::freeze::Freeze;
use crate::domain::id::{AttemptId, CredentialId, FreezeId, IssuerId, KeyId};
use crate::domain::key::Digest;
use crate::domain::private::Told;
use crate::domain::register::{CaGeneration, GenerationId, Issued};
use crate::domain::rotation::{Piece, PieceId};
use crate::domain::state::{
    AriRecord, Change, CredentialRecord, IssuerRecord, Latch, LatchOn, Request, note_automatic,
};
use crate::domain::time::{Timestamp, Validity};
use crate::domain::upkeep::KeyRecord;

/// The changes of a batch that go with its entry number `index` of `entries`, and those before them. They are shared out
/// evenly and in order, so that no entry of a large batch outgrows its limit, and that each of many intents carries about
/// the attempt that it announces.
#[must_use]
pub fn share(changes: &[Change], index: usize, entries: usize) -> (&[Change], &[Change]) {
    let border = |i: usize| changes.len().saturating_mul(i).checked_div(entries).unwrap_or(0);
    let (before, _) = changes.split_at_checked(border(index)).unwrap_or((changes, &[]));
    let own = changes.get(border(index)..border(index.saturating_add(1))).unwrap_or_default();
    (before, own)
}

/// Adds to `told` what `changes` do to the state, which has not seen them yet.
///
/// # Errors
/// If the state before cannot be read.
pub fn tell<B: Before>(told: &mut Told<'_>, changes: &[Change], before: &B) -> Result<(), B::Error> {
    let touched = Touched::by(changes, before)?;
    if touched.is_empty() {
        return Ok(());
    }
    let mut out = core::mem::take(&mut told.changes);
    out.clear();
    let mut patch = Patch { out: &mut out, told, written: false };
    patch.out.push(b'{');
    patch.object("account", |p| {
        for (id, new) in &touched.accounts {
            let old = before.account(id)?;
            p.entry(&id.to_string(), old.as_deref(), *new, directory::account);
        }
        Ok(())
    })?;
    patch.object("attempt", |p| {
        for (id, new) in &touched.attempts {
            let old = before.attempt(*id)?;
            p.entry(&id.to_string(), old.as_deref(), *new, attempt);
        }
        Ok(())
    })?;
    patch.object("automatic", |p| {
        for (names, times) in &touched.automatic {
            p.times(names, times);
        }
        Ok(())
    })?;
    patch.object("bucket", |p| {
        for (issuer, kinds) in &touched.buckets {
            p.object(issuer, |p| {
                for (kind, counted) in kinds {
                    p.object(kind, |p| {
                        counted.iter().for_each(|(key, full_at)| p.time(key, None, Some(*full_at)));
                        Ok(())
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    patch.object("credential", |p| {
        for (id, new) in &touched.credentials {
            let old = before.credential(id)?;
            p.entry(id.as_str(), old.as_deref(), *new, credential);
        }
        Ok(())
    })?;
    patch.object("freeze", |p| {
        for (id, new) in &touched.freezes {
            let old = before.freeze(*id)?;
            p.entry(&id.to_string(), old.as_deref(), *new, people::freeze);
        }
        Ok(())
    })?;
    patch.object("generation", |p| {
        for (id, new) in &touched.generations {
            let old = before.generation(id)?;
            p.entry(&id.to_string(), old.as_deref(), Some(*new), authority::generation);
        }
        Ok(())
    })?;
    patch.object("issued", |p| {
        for (serial, new) in &touched.issued {
            let old = before.issued(serial)?;
            p.entry(serial, old.as_deref(), *new, authority::issued);
        }
        Ok(())
    })?;
    patch.object("issuer", |p| {
        for (id, new) in &touched.issuers {
            let old = before.issuer(id)?;
            p.entry(id.as_str(), old.as_deref(), Some(*new), issuer);
        }
        Ok(())
    })?;
    patch.object("key", |p| {
        for (id, new) in &touched.keys {
            let old = before.key(id)?;
            p.entry(id.as_str(), old.as_deref(), Some(*new), upkeep::record);
        }
        Ok(())
    })?;
    patch.object("latch", |p| {
        for (on, new) in &touched.latches {
            let old = before.latch(on)?;
            p.entry(&on.to_string(), old.as_deref(), *new, people::latch);
        }
        Ok(())
    })?;
    patch.object("order", |p| {
        for (id, new) in &touched.orders {
            let old = before.order(id)?;
            p.entry(&id.to_string(), old.as_deref(), *new, directory::order);
        }
        Ok(())
    })?;
    patch.object("rotation", |p| {
        for (id, new) in &touched.pieces {
            let old = before.piece(id)?;
            p.entry(&id.to_string(), old.as_deref(), *new, authority::piece);
        }
        Ok(())
    })?;
    out.push(b'}');
    // Nothing differs: nothing to tell.
    if out.len() > 2 {
        told.changes = out;
    }
    Ok(())
}

/// What is touched, each once and with its last value, by the names and in the order of the document.
#[derive(Default)]
struct Touched<'a> {
    accounts: BTreeMap<&'a RowId, Option<&'a Account>>,
    attempts: BTreeMap<AttemptId, Option<&'a Attempt>>,
    automatic: BTreeMap<&'a str, Vec<Timestamp>>,
    buckets: BTreeMap<&'a str, BTreeMap<&'static str, BTreeMap<&'a str, Timestamp>>>,
    credentials: BTreeMap<&'a CredentialId, Option<&'a CredentialRecord>>,
    freezes: BTreeMap<FreezeId, Option<&'a Freeze>>,
    generations: BTreeMap<&'a GenerationId, &'a CaGeneration>,
    issued: BTreeMap<&'a str, Option<&'a Issued>>,
    issuers: BTreeMap<&'a IssuerId, &'a IssuerRecord>,
    keys: BTreeMap<&'a KeyId, &'a KeyRecord>,
    latches: BTreeMap<&'a LatchOn, Option<&'a Latch>>,
    orders: BTreeMap<&'a RowId, Option<&'a Order>>,
    pieces: BTreeMap<&'a PieceId, Option<&'a Piece>>,
}

impl<'a> Touched<'a> {
    fn by<B: Before>(changes: &'a [Change], before: &B) -> Result<Self, B::Error> {
        let mut touched = Self::default();
        for change in changes {
            match change {
                Change::Credential(id, record) => {
                    touched.credentials.insert(id, Some(record));
                }
                Change::Forget(id) => {
                    touched.credentials.insert(id, None);
                }
                Change::Attempt(attempt) => {
                    touched.attempts.insert(attempt.id, Some(attempt));
                }
                Change::AttemptEnded(id) => {
                    touched.attempts.insert(*id, None);
                }
                Change::Issuer(id, record) => {
                    touched.issuers.insert(id, record);
                }
                Change::Bucket(key, full_at) => {
                    let kinds = touched.buckets.entry(key.issuer().as_str()).or_default();
                    kinds.entry(key.kind().as_str()).or_default().insert(key.key(), *full_at);
                }
                Change::AutomaticIssuance(names, at) => {
                    if !touched.automatic.contains_key(&**names) {
                        touched.automatic.insert(names, before.automatic(names)?);
                    }
                    note_automatic(touched.automatic.entry(names).or_default(), *at);
                }
                Change::Latch(on, latch) => {
                    touched.latches.insert(on, latch.as_ref());
                }
                Change::Freeze(id, freeze) => {
                    touched.freezes.insert(*id, freeze.as_ref());
                }
                Change::Generation(id, generation) => {
                    touched.generations.insert(id, generation);
                }
                Change::Issued(serial, issued) => {
                    touched.issued.insert(serial, issued.as_deref());
                }
                Change::Key(id, record) => {
                    touched.keys.insert(id, record);
                }
                Change::Account(id, account) => {
                    touched.accounts.insert(id, account.as_deref());
                }
                Change::Order(id, order) => {
                    touched.orders.insert(id, order.as_deref());
                }
                Change::Piece(id, piece) => {
                    touched.pieces.insert(id, piece.as_deref());
                }
                // Not part of the document.
                Change::Clock(_) => {}
            }
        }
        Ok(touched)
    }

    fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.attempts.is_empty()
            && self.automatic.is_empty()
            && self.buckets.is_empty()
            && self.credentials.is_empty()
            && self.freezes.is_empty()
            && self.generations.is_empty()
            && self.issued.is_empty()
            && self.issuers.is_empty()
            && self.keys.is_empty()
            && self.latches.is_empty()
            && self.orders.is_empty()
            && self.pieces.is_empty()
    }
}

// In each of the following the members stand in the order of their names, and every field of the type is named, so that a
// new one cannot be forgotten.

fn attempt(p: &mut Patch<'_, '_>, old: Option<&Attempt>, new: &Attempt) {
    let Attempt { id: _, credential, issuer, names, trigger, replaces, began, intent, stage, failures, not_before } =
        new;
    let url = |stage: &Stage| match stage {
        Stage::Ordered { url } => Some(url.clone()),
        Stage::Begun | Stage::Issued => None,
    };
    p.time("began", old.map(|o| o.began), Some(*began));
    p.text("credential", old.map(|o| o.credential.as_str()), Some(credential.as_str()));
    p.detail(old.map(|o| &o.trigger), trigger);
    p.count("failures", old.map(|o| o.failures), *failures);
    p.plain("intent", old.map(|o| &o.intent), Some(intent), |id| id.0.text());
    p.text("issuer", old.map(|o| o.issuer.as_str()), Some(issuer.as_str()));
    p.names(old.map(|o| &o.names), names);
    p.time("not_before", old.and_then(|o| o.not_before), *not_before);
    p.text("replaces", old.and_then(|o| o.replaces.as_ref()).map(|c| &*c.0), replaces.as_ref().map(|c| &*c.0));
    p.text("stage", old.map(|o| o.stage.as_str()), Some(stage.as_str()));
    p.text("trigger", old.map(|o| o.trigger.as_str()), Some(trigger.as_str()));
    p.text("url", old.and_then(|o| url(&o.stage)).as_deref(), url(stage).as_deref());
}

fn credential(p: &mut Patch<'_, '_>, old: Option<&CredentialRecord>, new: &CredentialRecord) {
    let CredentialRecord {
        current: _,
        previous: _,
        ari: new_ari,
        failures,
        last_failure,
        next_attempt,
        last_success,
        requested,
        rolled_back,
    } = new;
    let ([old_current, old_previous], [current, previous]) = (labels(old), labels(Some(new)));
    p.member("ari", old.and_then(|o| o.ari.as_ref()), new_ari.as_ref(), ari);
    p.text("current", old_current.as_ref().map(|l| &*l.name), current.as_ref().map(|l| &*l.name));
    p.count("failures", old.map(|o| o.failures), *failures);
    p.inside("generation", |p| {
        let mut all: BTreeMap<&str, (Option<&Generation>, Option<&Generation>)> = BTreeMap::new();
        for label in [&old_current, &old_previous].into_iter().flatten() {
            all.entry(&label.name).or_default().0 = Some(label.generation);
        }
        for label in [&current, &previous].into_iter().flatten() {
            all.entry(&label.name).or_default().1 = Some(label.generation);
        }
        for (name, (old, new)) in all {
            p.entry(name, old, new, generation);
        }
    });
    p.member("last_failure", old.and_then(|o| o.last_failure.as_ref()), last_failure.as_ref(), failure);
    p.time("last_success", old.and_then(|o| o.last_success), *last_success);
    p.time("next_attempt", old.and_then(|o| o.next_attempt), *next_attempt);
    p.text("previous", old_previous.as_ref().map(|l| &*l.name), previous.as_ref().map(|l| &*l.name));
    p.member("requested", old.and_then(|o| o.requested.as_ref()), requested.as_ref(), request);
    p.plain("rolled_back", old.and_then(|o| o.rolled_back.as_ref()), rolled_back.as_ref(), |id| id.0.text());
}

/// A generation by the name under which it stands in the document: its slot. When it becomes the previous one it keeps
/// its name, and nothing but `current` and `previous` has to be written.
struct Label<'a> {
    name: String,
    generation: &'a Generation,
}

/// The current and the previous generation of a record.
fn labels(record: Option<&CredentialRecord>) -> [Option<Label<'_>>; 2] {
    let Some(record) = record else { return [None, None] };
    let current = record.current.as_ref();
    let previous = record.previous.as_ref().map(|generation| {
        let mut name = generation.slot.to_string();
        if current.is_some_and(|c| c.slot == generation.slot) {
            name.push('-');
        }
        Label { name, generation }
    });
    [current.map(|generation| Label { name: generation.slot.to_string(), generation }), previous]
}

fn generation(p: &mut Patch<'_, '_>, old: Option<&Generation>, new: &Generation) {
    let Generation {
        // It is named by that.
        slot: _,
        issuer,
        fingerprint,
        spki,
        serial,
        cert_id,
        validity: Validity { not_before, not_after },
        names,
        trigger,
        installed_at,
        verified_at,
        key_since,
    } = new;
    p.text("cert_id", old.and_then(|o| o.cert_id.as_ref()).map(|c| &*c.0), cert_id.as_ref().map(|c| &*c.0));
    p.detail(old.map(|o| &o.trigger), trigger);
    p.plain("fingerprint", old.map(|o| &o.fingerprint), Some(fingerprint), Digest::hex);
    p.time("installed_at", old.map(|o| o.installed_at), Some(*installed_at));
    p.text("issuer", old.map(|o| o.issuer.as_str()), Some(issuer.as_str()));
    // Only where a renewal kept it.
    let kept = |since: Timestamp, installed: Timestamp| Some(since).filter(|since| *since != installed);
    p.time("key_since", old.and_then(|o| kept(o.key_since, o.installed_at)), kept(*key_since, *installed_at));
    p.names(old.map(|o| &o.names), names);
    p.time("not_after", old.map(|o| o.validity.not_after), Some(*not_after));
    p.time("not_before", old.map(|o| o.validity.not_before), Some(*not_before));
    p.text("serial", old.map(|o| &*o.serial), Some(serial));
    p.plain("spki", old.map(|o| &o.spki), Some(spki), Digest::hex);
    p.text("trigger", old.map(|o| o.trigger.as_str()), Some(trigger.as_str()));
    p.time("verified_at", old.and_then(|o| o.verified_at), *verified_at);
}

fn ari(p: &mut Patch<'_, '_>, old: Option<&AriRecord>, new: &AriRecord) {
    let AriRecord { cert_id, window, picked, next_poll, explanation } = new;
    let from = |window: Option<(Timestamp, Timestamp)>| window.map(|w| w.0);
    let until = |window: Option<(Timestamp, Timestamp)>| window.map(|w| w.1);
    p.text("cert_id", old.map(|o| &*o.cert_id.0), Some(&*cert_id.0));
    p.private("explanation", old.and_then(|o| o.explanation.as_ref()), explanation.as_ref());
    p.time("from", from(old.and_then(|o| o.window)), from(*window));
    p.time("next_poll", old.map(|o| o.next_poll), Some(*next_poll));
    p.time("picked", old.and_then(|o| o.picked), *picked);
    p.time("until", until(old.and_then(|o| o.window)), until(*window));
}

fn failure(p: &mut Patch<'_, '_>, old: Option<&Failure>, new: &Failure) {
    let Failure { at, code, text, fault, issuer } = new;
    p.time("at", old.map(|o| o.at), Some(*at));
    p.text("code", old.map(|o| &*o.code), Some(code));
    p.text("fault", old.map(|o| o.fault.as_str()), Some(fault.as_str()));
    p.text("issuer", old.and_then(|o| o.issuer.as_ref()).map(IssuerId::as_str), issuer.as_ref().map(IssuerId::as_str));
    p.private("text", old.map(|o| &o.text), Some(text));
}

fn request(p: &mut Patch<'_, '_>, old: Option<&Request>, new: &Request) {
    let Request { by, at } = new;
    p.time("at", old.map(|o| o.at), Some(*at));
    p.text("by", old.map(|o| &*o.by), Some(by));
}

fn issuer(p: &mut Patch<'_, '_>, old: Option<&IssuerRecord>, new: &IssuerRecord) {
    let IssuerRecord { failures, open_until, last_success, terms } = new;
    p.count("failures", old.map(|o| o.failures), *failures);
    p.time("last_success", old.and_then(|o| o.last_success), *last_success);
    p.time("open_until", old.and_then(|o| o.open_until), *open_until);
    p.private("terms", old.and_then(|o| o.terms.as_ref()), terms.as_ref());
}
