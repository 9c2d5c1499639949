//! What a person says about a key.

use std::sync::Arc;

use crate::domain::audit::Draft;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::state::{Change, LatchOn};
use crate::domain::time::Timestamp;
use crate::domain::tracked::{KeyState, TrackedKey};
use crate::domain::upkeep::{Act, Done, KeyRecord, KeyVersion};
use crate::engine::keys::{Denied, LONGEST_REASON, Tracker, locked};
use crate::ports::{Batch, Urgency};

/// A change that a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WishedChange {
    /// What.
    pub act: Act,
    /// Of which version.
    pub which: Which,
    /// Why, in their words.
    pub reason: String,
    /// Since when others may have it, if it is compromised.
    pub suspected: Option<Timestamp>,
}

/// A version by its label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The one in use.
    #[default]
    Current,
    /// The one before it.
    Previous,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The state now.
    pub state: KeyState,
    /// What a compromised key was used for since the suspected time, as far as is known.
    pub used: Vec<String>,
}

/// So many uses are named.
const MOST_NAMED: usize = 200;

impl Tracker {
    /// Puts a key into another state.
    ///
    /// # Errors
    /// [`Denied`] says why it stays as it is.
    pub async fn change(&self, id: &KeyId, wish: &WishedChange, by: &str) -> Result<Changed, Denied> {
        self.open()?;
        // What only removes authority waits for no clock.
        if !removes(wish.act) {
            self.believe_clock()?;
        }
        let reason = reason(&wish.reason)?;
        let _book = self.book.lock().await;
        let key = self.key(id)?;
        let record = self.record(id);
        let version = match wish.which {
            Which::Current => record.current.clone(),
            Which::Previous => record.previous.clone(),
        };
        let missing = match wish.which {
            Which::Current => Denied::Unseen(id.clone(), "it was not looked at yet".to_owned()),
            Which::Previous => Denied::NoVersion(id.clone()),
        };
        let version = version.ok_or(missing)?;
        let person = self.engine.person(by);
        let done = Done {
            at: self.now(),
            reason: reason.clone(),
            by: Some(Arc::from(person.commitment().to_string())),
            suspected: wish.suspected,
        };
        let after = version.after(wish.act, key.class, &done)?;
        let print = after.print;
        let state = after.state;
        let record = match wish.which {
            Which::Current => KeyRecord { current: Some(after.clone()), ..record },
            Which::Previous => KeyRecord { previous: Some(after.clone()), ..record },
        };
        let record = match (wish.act, wish.which) {
            (Act::Compromise, Which::Previous) => record.hastened(done.at),
            _ => record,
        };
        let mut draft = self.draft("key.state", "KW4901", &key, &record);
        draft.facts.push(("act", Json::str(wish.act.as_str())));
        draft.facts.push(("changed", Json::show(&after.number)));
        draft.facts.push(("suspected", Json::opt(after.compromised.as_ref().map(Json::show))));
        draft.private.push(("reason", reason));
        draft.by(&person);
        if wish.act != Act::Compromise {
            self.record_or_hold(&key, record, draft, wish.act).await?;
            return Ok(Changed { state, used: Vec::new() });
        }
        let used = self.used_since(&key, &after);
        // Blocked first: nothing waits for the disk.
        if let Some(print) = print {
            self.engine.compromise(print.digest(), by).await;
        }
        let told = format!("key {id}: others may have it; it is blocked, and what stands on it is closed");
        self.notify(&key, "KW4912", Urgency::Act, told);
        self.record_or_hold(&key, record, draft, wish.act).await?;
        Ok(Changed { state, used })
    }

    /// A person says that a key was rotated: only of what nobody can look at.
    ///
    /// # Errors
    /// [`Denied`] says why it does not count.
    pub async fn rotated(&self, id: &KeyId, why: &str, by: &str) -> Result<(), Denied> {
        self.open()?;
        self.believe_clock()?;
        let reason = reason(why)?;
        let _book = self.book.lock().await;
        let key = self.key(id)?;
        if !Self::is_manual(&key) {
            let text = "it is looked at, and another key in its place is what counts";
            return Err(Denied::NotRotated(id.clone(), text.to_owned()));
        }
        let person = self.engine.person(by);
        let done = Done {
            at: self.now(),
            reason: reason.clone(),
            by: Some(Arc::from(person.commitment().to_string())),
            suspected: None,
        };
        let record = self.record(id).rotated(key.class, &done);
        let mut draft = self.draft("key.rotated", "KW4902", &key, &record);
        draft.private.push(("reason", reason));
        draft.by(&person);
        Ok(self.keep(id, record, draft).await?)
    }

    /// What only removes authority holds at once, and is written as soon as it can be.
    async fn record_or_hold(&self, key: &TrackedKey, record: KeyRecord, draft: Draft, act: Act) -> Result<(), Denied> {
        if !removes(act) {
            return Ok(self.keep(&key.id, record, draft).await?);
        }
        self.engine.write().state.keys.insert(key.id.clone(), Arc::new(record.clone()));
        self.engine.evaluate(None).await;
        match self.keep(&key.id, record, draft.clone()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                locked(&self.unsaved).insert(key.id.clone(), draft);
                Err(Denied::Unrecorded(error))
            }
        }
    }

    /// Writes what holds and could not be written.
    pub(super) async fn save_unsaved(&self) {
        let all: Vec<(KeyId, Draft)> = locked(&self.unsaved).iter().map(|(id, d)| (id.clone(), d.clone())).collect();
        for (id, draft) in all {
            let _book = self.book.lock().await;
            let changes = vec![Change::Key(id.clone(), Arc::new(self.record(&id)))];
            if self.engine.commit(Batch { changes, entries: vec![draft] }).await.is_ok() {
                locked(&self.unsaved).remove(&id);
            }
        }
    }

    /// What a key was used for since the time from which others may have it, as far as is known here.
    fn used_since(&self, key: &TrackedKey, version: &KeyVersion) -> Vec<String> {
        let since = version.compromised.unwrap_or(version.created);
        let desk = self.engine.read();
        let mut used: Vec<String> = key
            .paths
            .iter()
            .map(|path| format!("path {path} stood on it since {}", since.max(version.created)))
            .collect();
        let Some(print) = version.print.map(|print| print.digest()) else { return used };
        let same = |other: &KeyVersion| other.print.is_some_and(|p| p.digest() == print);
        let others = desk.state.keys.iter().filter(|(id, _)| **id != key.id);
        used.extend(others.flat_map(|(id, record)| {
            let same = record.versions().filter(|(_, v)| same(v));
            same.map(move |(label, _)| format!("key {id} ({label}) is the same key"))
        }));
        for (id, sighting) in &desk.sightings {
            if let Some(element) = sighting.chain().and_then(|c| c.elements().find(|e| e.spki == print)) {
                used.push(format!("certificate {id} stands on it (serial {})", element.serial));
            }
        }
        used.extend(signed(&desk.state, print, since));
        if let Some(more) = used.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            used.truncate(MOST_NAMED);
            used.push(format!("and {more} more"));
        }
        used
    }

    /// Whether anything may be changed at all.
    pub(super) fn open(&self) -> Result<(), Denied> {
        self.engine.seal().map_or(Ok(()), |seal| Err(Denied::Sealed(seal)))
    }
}

/// The certificates that a CA's key has signed since then.
fn signed(state: &crate::domain::state::State, key: Digest, since: Timestamp) -> Vec<String> {
    let own = state.generations.iter().filter(|(_, g)| g.keys().any(|k| k.key == key));
    own.flat_map(|(id, _)| {
        let issued = state.issued.iter().filter(move |(_, i)| i.generation == *id && i.at >= since);
        issued.map(move |(serial, i)| format!("certificate {serial} was signed by {id} at {}", i.at))
    })
    .collect()
}

/// Whether an act only removes authority.
fn removes(act: Act) -> bool {
    match act {
        Act::Suspend | Act::Deactivate | Act::Compromise | Act::Destroy => true,
        Act::Activate | Act::Resume => false,
    }
}

/// A reason, if it is one.
pub(super) fn reason(text: &str) -> Result<Arc<str>, Denied> {
    let text = text.trim();
    let fits = (1..=LONGEST_REASON).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(Arc::from(text)) } else { Err(Denied::Reason) }
}

/// Whether a latch stands on a key.
pub(super) fn is_blocked(state: &crate::domain::state::State, key: &Digest) -> bool {
    state.latches.contains_key(&LatchOn::Key(*key))
}
