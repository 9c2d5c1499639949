//! How the tracked keys are, for people and metrics.

use std::sync::Arc;

use crate::domain::assessment::Finding;
use crate::domain::id::KeyId;
use crate::domain::time::Timestamp;
use crate::domain::tracked::{KeySight, KeyState, TrackedKey};
use crate::domain::upkeep::{KeyRecord, KeyVersion};
use crate::engine::Desk;
use crate::engine::keys::{Denied, Tracker};

/// Everything about one key at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// As it is configured.
    pub key: Arc<TrackedKey>,
    /// Its versions, with the names of people.
    pub record: KeyRecord,
    /// What was seen.
    pub sight: KeySight,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What comes next.
    pub outlook: Outlook,
}

/// What comes next for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlook {
    /// Others may have it.
    Compromised,
    /// Its hard limit is over.
    Past(Timestamp),
    /// It is in no state to be used.
    Unfit,
    /// It is not known.
    Unseen,
    /// It is overdue since then, and its paths close at the other time.
    Overdue(Timestamp, Timestamp),
    /// All is well until then.
    Good(Timestamp),
}

impl Outlook {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compromised => "compromised",
            Self::Past(_) => "past its limit",
            Self::Unfit => "unfit",
            Self::Unseen => "unseen",
            Self::Overdue(..) => "overdue",
            Self::Good(_) => "good",
        }
    }
}

impl Tracker {
    /// Every key, the worst first.
    #[must_use]
    pub fn all(&self) -> Vec<KeyView> {
        let now = self.now();
        let desk = self.engine.read();
        let mut all: Vec<KeyView> = desk.estate.keys.values().map(|key| view(&desk, key, now)).collect();
        all.sort_by(|one, other| one.outlook.cmp(&other.outlook).then_with(|| one.key.id.cmp(&other.key.id)));
        all
    }

    /// One key.
    ///
    /// # Errors
    /// [`Denied::Unknown`].
    pub fn one(&self, id: &KeyId) -> Result<KeyView, Denied> {
        let key = self.key(id)?;
        Ok(view(&self.engine.read(), &key, self.now()))
    }
}

fn view(desk: &Desk, key: &Arc<TrackedKey>, now: Timestamp) -> KeyView {
    let mut record = desk.state.keys.get(&key.id).map(|r| KeyRecord::clone(r)).unwrap_or_default();
    for version in [&mut record.current, &mut record.previous, &mut record.pending].into_iter().flatten() {
        version.by = version.by.as_ref().map(|by| desk.people.name(by));
    }
    if let Some(rotation) = &mut record.rotation {
        rotation.by = rotation.by.as_ref().map(|by| desk.people.name(by));
    }
    let sight = desk.key_sights.get(&key.id).cloned().unwrap_or_default();
    let own = desk.key_findings.get(&key.id).into_iter().chain(desk.key_uses.get(&key.id));
    let outlook = outlook(key, record.current.as_ref(), now);
    KeyView { key: key.clone(), findings: own.flatten().cloned().collect(), outlook, record, sight }
}

fn outlook(key: &TrackedKey, current: Option<&KeyVersion>, now: Timestamp) -> Outlook {
    let Some(current) = current else { return Outlook::Unseen };
    let (due, end) = (key.overdue_at(current.created), key.ends_at(current.created));
    match current.state {
        _ if current.compromised.is_some() => Outlook::Compromised,
        KeyState::Active if now >= end => Outlook::Past(end),
        KeyState::Active if now >= due => Outlook::Overdue(due, end),
        KeyState::Active => Outlook::Good(due),
        KeyState::PreActivation
        | KeyState::Suspended
        | KeyState::Deactivated
        | KeyState::Compromised
        | KeyState::Destroyed => Outlook::Unfit,
    }
}
