//! The life of a tracked key: its versions, their states, and the steps of its rotation.
//!
//! ```text
//! pre-activation ──▶ active ⇄ suspended        NIST SP 800-57 part 1 rev. 5, section 7; every state but
//!       │              │  ╲      │  ╲          destroyed may become compromised, and every state may
//!       │              ▼   ▼     ▼   ▼         become destroyed
//!       │          deactivated ──▶ compromised
//!       └──────────────┴──────────────┴──────▶ destroyed
//!
//! rotation:  create ─▶ set ─▶ test ─▶ finish ─(overlap)─▶ retire
//!            PENDING is made, put    it is CURRENT, the old   PREVIOUS is
//!            in place, and tried     one PREVIOUS             no more
//! ```
//! Overdue is no state: it follows from a version's age, and an overdue key is used on until its hard limit. Refuses to know
//! where keys are, and who does the steps.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::id::{AttemptId, EntryId};
use crate::domain::time::{HOUR, MINUTE, Timestamp};
use crate::domain::tracked::{KeyClass, KeyLook, KeyState, Print, Wrapped};

/// What is known of a tracked key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRecord {
    /// The version that counts.
    pub current: Option<KeyVersion>,
    /// The one before it.
    pub previous: Option<KeyVersion>,
    /// The one that a rotation makes.
    pub pending: Option<KeyVersion>,
    /// The rotation under way.
    pub rotation: Option<Rotation>,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// Its number, from 1 on; never given twice.
    pub number: u32,
    /// Its state.
    pub state: KeyState,
    /// Since when it is in that.
    pub since: Timestamp,
    /// Why, in the words of whoever did it.
    pub reason: Arc<str>,
    /// Who put it into that state, if it was a person (a pseudonym).
    pub by: Option<Arc<str>>,
    /// When it was made, as far as is known.
    pub created: Timestamp,
    /// What it is told apart by; `None` while nobody has seen it.
    pub print: Option<Print>,
    /// The certificate around a public key.
    pub wrapped: Option<Wrapped>,
    /// Until when it stays valid beside its successor.
    pub until: Option<Timestamp>,
    /// Since when others may have it.
    pub compromised: Option<Timestamp>,
}

/// A rotation under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The same for every try of every step: hooks are told it, so that they can tell a repetition.
    pub id: AttemptId,
    /// The step that is next.
    pub step: Step,
    /// The entry that announces it, if it was begun: nothing says yet what came of it.
    pub intent: Option<EntryId>,
    /// When it began.
    pub began: Timestamp,
    /// How often this step failed in a row.
    pub failures: u32,
    /// It is not tried before this.
    pub not_before: Option<Timestamp>,
    /// Who began it, if it was a person (a pseudonym).
    pub by: Option<Arc<str>>,
}

/// The steps of a rotation; the first four as AWS Secrets Manager has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The new key is made.
    Create,
    /// Whoever takes the key takes the new one too.
    Set,
    /// The new one works.
    Test,
    /// The new one is used from now on.
    Finish,
    /// Nobody takes the old one any more.
    Retire,
}

impl Step {
    /// Every step with its word, in their order.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Create, "create"),
        (Self::Set, "set"),
        (Self::Test, "test"),
        (Self::Finish, "finish"),
        (Self::Retire, "retire"),
    ];

    /// By its word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| *word == text).map(|(step, _)| *step)
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(step, _)| *step == self).map_or("", |(_, word)| word)
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let mut after = Self::ALL.iter().skip_while(|(step, _)| *step != self).skip(1);
        after.next().map(|(step, _)| *step)
    }
}

/// What puts a key into another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It is used from now on.
    Activate,
    /// It is not used for a while.
    Suspend,
    /// It is used again.
    Resume,
    /// It protects nothing new any more.
    Deactivate,
    /// Others may have it.
    Compromise,
    /// It is gone.
    Destroy,
}

impl Act {
    /// Every act with its word.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Activate, "activate"),
        (Self::Suspend, "suspend"),
        (Self::Resume, "resume"),
        (Self::Deactivate, "deactivate"),
        (Self::Compromise, "compromised"),
        (Self::Destroy, "destroy"),
    ];

    /// By its word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| *word == text).map(|(act, _)| *act)
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(act, _)| *act == self).map_or("", |(_, word)| word)
    }
}

/// Every transition there is (section 7); whatever is not here is refused.
pub const TRANSITIONS: [(KeyState, Act, KeyState); 15] = {
    use Act::{Activate, Compromise, Deactivate, Destroy, Resume, Suspend};
    use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActivation, Suspended};
    [
        (PreActivation, Activate, Active),
        (PreActivation, Compromise, Compromised),
        (PreActivation, Destroy, Destroyed),
        (Active, Suspend, Suspended),
        (Active, Deactivate, Deactivated),
        (Active, Compromise, Compromised),
        (Active, Destroy, Destroyed),
        (Suspended, Resume, Active),
        (Suspended, Deactivate, Deactivated),
        (Suspended, Compromise, Compromised),
        (Suspended, Destroy, Destroyed),
        (Deactivated, Compromise, Compromised),
        (Deactivated, Destroy, Destroyed),
        (Compromised, Destroy, Destroyed),
        // It stays gone; that others had it is known from then on, and it is blocked.
        (Destroyed, Compromise, Destroyed),
    ]
};

/// Why a key does not change its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMoved {
    /// There is no such transition.
    #[error("a key that is {} does not become other by `{}`", .0.as_str(), .1.as_str())]
    NoWay(KeyState, Act),
    /// Its class is destroyed at the end of its use.
    #[error("a {} key is destroyed at the end of its use, not deactivated (only its public half is)", .0.as_str())]
    MustGo(KeyClass),
    /// The time from which it is suspected is not of the past.
    #[error("it cannot be suspected since {0}, which is not over yet")]
    Future(Timestamp),
}

impl KeyVersion {
    /// A version that is in use from now on.
    #[must_use]
    pub fn active(number: u32, created: Timestamp, now: Timestamp, reason: impl Into<Arc<str>>) -> Self {
        Self {
            number,
            state: KeyState::Active,
            since: now,
            reason: reason.into(),
            by: None,
            created,
            print: None,
            wrapped: None,
            until: None,
            compromised: None,
        }
    }

    /// The version after an act.
    ///
    /// # Errors
    /// [`NotMoved`] says why it stays as it is.
    pub fn after(&self, act: Act, class: KeyClass, done: &Done) -> Result<Self, NotMoved> {
        if act == Act::Deactivate && class.facts().at_end == KeyState::Destroyed {
            return Err(NotMoved::MustGo(class));
        }
        if let Some(since) = done.suspected.filter(|since| *since > done.at) {
            return Err(NotMoved::Future(since));
        }
        let found = TRANSITIONS.iter().find(|(from, by, _)| *from == self.state && *by == act);
        let Some((.., state)) = found else { return Err(NotMoved::NoWay(self.state, act)) };
        let suspected = (act == Act::Compromise).then(|| done.suspected.unwrap_or(done.at));
        Ok(Self {
            state: *state,
            since: if *state == self.state { self.since } else { done.at },
            reason: done.reason.clone(),
            by: done.by.clone(),
            // What a person says is gone is accepted no more.
            until: self.until.filter(|_| !matches!(act, Act::Deactivate | Act::Destroy)),
            // Once suspected, the earliest time counts.
            compromised: match (self.compromised, suspected) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            ..self.clone()
        })
    }

    /// The state of its public half: what was destroyed still verifies what it signed.
    #[must_use]
    pub fn public_half(&self) -> KeyState {
        match self.state {
            _ if self.compromised.is_some() => KeyState::Compromised,
            KeyState::Destroyed => KeyState::Deactivated,
            state @ (KeyState::PreActivation
            | KeyState::Active
            | KeyState::Suspended
            | KeyState::Deactivated
            | KeyState::Compromised) => state,
        }
    }

    /// Not used any more: its class says whether it is kept.
    #[must_use]
    fn ended(&self, class: KeyClass, now: Timestamp, reason: &Arc<str>) -> Self {
        let at_end = match self.state {
            // What is worse stays so.
            KeyState::Compromised | KeyState::Destroyed => return Self { until: None, ..self.clone() },
            KeyState::PreActivation => KeyState::Destroyed,
            KeyState::Active | KeyState::Suspended | KeyState::Deactivated => class.facts().at_end,
        };
        Self { state: at_end, since: now, reason: reason.clone(), by: None, until: None, ..self.clone() }
    }
}

/// Who did something, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Arc<str>,
    /// Who, if it was a person (a pseudonym).
    pub by: Option<Arc<str>>,
    /// Since when others may have the key, if it is compromised.
    pub suspected: Option<Timestamp>,
}

/// What a look at a key says about its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// It was never seen before.
    First(KeyRecord),
    /// Its print is known from now on.
    Recognised(KeyRecord),
    /// The same key in another certificate that lasts longer.
    Renewed(KeyRecord),
    /// The same key in another certificate that does not last longer.
    Reissued(KeyRecord),
    /// Another key.
    Rekeyed(KeyRecord),
    /// The key before this one is there again.
    Returned(KeyRecord),
}

impl KeyRecord {
    /// The number that a new version gets.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        let all = [&self.current, &self.previous, &self.pending];
        all.into_iter().flatten().map(|v| v.number).max().unwrap_or(0).saturating_add(1)
    }

    /// All versions with their labels.
    pub fn versions(&self) -> impl Iterator<Item = (&'static str, &KeyVersion)> {
        let all = [("CURRENT", &self.current), ("PREVIOUS", &self.previous), ("PENDING", &self.pending)];
        all.into_iter().filter_map(|(label, version)| Some((label, version.as_ref()?)))
    }

    /// The version before the current one, as long as it is still accepted: until a rotation's `retire` is done, however long
    /// that takes, or until its time is over.
    #[must_use]
    pub fn beside(&self, now: Timestamp) -> Option<&KeyVersion> {
        let unretired = self.retires();
        self.previous.as_ref().filter(|old| unretired || old.until.is_some_and(|until| now < until))
    }

    /// The versions that are accepted.
    pub fn accepted(&self, now: Timestamp) -> impl Iterator<Item = &KeyVersion> {
        [self.current.as_ref(), self.beside(now)].into_iter().flatten()
    }

    /// Whether the next step is that nobody takes the old key any more.
    #[must_use]
    pub fn retires(&self) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| rotation.step == Step::Retire)
    }

    /// Its rotation stops before the old key is retired, because what is in its place is not what it made. Nobody retires the
    /// old one: it stays accepted until a person says that it is gone.
    #[must_use]
    fn stopped(&self) -> Self {
        if !self.retires() {
            return self.clone();
        }
        let previous = self.previous.clone().map(|old| KeyVersion { until: Some(Timestamp::MAX), ..old });
        Self { previous, rotation: None, ..self.clone() }
    }

    /// The version before the current one, if it is accepted and no rotation retires it.
    #[must_use]
    pub fn unretired(&self, now: Timestamp) -> Option<&KeyVersion> {
        self.beside(now).filter(|_| self.rotation.is_none())
    }

    /// Others may have the old key: their time together ends now.
    #[must_use]
    pub fn hastened(self, now: Timestamp) -> Self {
        if !self.retires() {
            return self;
        }
        let previous = self.previous.map(|old| KeyVersion { until: old.until.map(|until| until.min(now)), ..old });
        let rotation = self.rotation.map(|rotation| Rotation { not_before: Some(now), ..rotation });
        Self { previous, rotation, ..self }
    }

    /// What a look brings. `stated` is when the configuration says that the key was made: it counts for the first version
    /// only. A new key is as old as the evidence says, and never older than the one before it.
    #[must_use]
    pub fn seen(&self, look: &KeyLook, class: KeyClass, stated: Option<Timestamp>, now: Timestamp) -> News {
        let Some(current) = &self.current else {
            let created = stated.or(look.made).unwrap_or(now).min(now);
            let first = KeyVersion::active(self.next_number(), created, now, "first seen");
            let first = KeyVersion { print: Some(look.print), wrapped: look.wrapped, ..first };
            return News::First(Self { current: Some(first), ..self.clone() });
        };
        let same = |version: &Option<KeyVersion>| version.as_ref().and_then(|v| v.print) == Some(look.print);
        if same(&self.current) {
            return self.wrapped_anew(current, look);
        }
        let replaced: Arc<str> = Arc::from("another key is in its place");
        // What is known is told of whatever a rotation does.
        if same(&self.previous) {
            let back = self.previous.clone().map(|old| KeyVersion { until: None, ..old });
            let gone = current.ended(class, now, &replaced);
            return News::Returned(Self { current: back, previous: Some(gone), ..self.stopped() });
        }
        // While a rotation goes on its steps say what is in use; a new key that nobody has seen yet comes only by the last.
        let step = self.rotation.as_ref().map(|r| r.step).filter(|step| *step < Step::Retire);
        if step.is_some() && same(&self.pending) || step == Some(Step::Finish) && self.has_unseen() {
            return News::None;
        }
        if current.print.is_none() {
            let seen = KeyVersion { print: Some(look.print), wrapped: look.wrapped, ..current.clone() };
            return News::Recognised(Self { current: Some(seen), ..self.clone() });
        }
        let created = look.made.filter(|made| *made <= now && *made > current.created).unwrap_or(now);
        let new = KeyVersion::active(self.next_number(), created, now, "seen in place of the one before");
        let new = KeyVersion { print: Some(look.print), wrapped: look.wrapped, ..new };
        let after = self.stopped();
        // One that is still accepted is not forgotten for one that was never heard of again.
        let accepted = after.beside(now).cloned();
        let previous = accepted.or_else(|| Some(current.ended(class, now, &replaced)));
        News::Rekeyed(Self { current: Some(new), previous, ..after })
    }

    fn has_unseen(&self) -> bool {
        self.pending.as_ref().is_some_and(|p| p.print.is_none())
    }

    fn wrapped_anew(&self, current: &KeyVersion, look: &KeyLook) -> News {
        let Some(new) = look.wrapped.filter(|new| current.wrapped != Some(*new)) else { return News::None };
        let longer = current.wrapped.is_none_or(|old| new.ends > old.ends);
        let record = Self { current: Some(KeyVersion { wrapped: Some(new), ..current.clone() }), ..self.clone() };
        if longer { News::Renewed(record) } else { News::Reissued(record) }
    }

    /// A person says that the key was rotated just now.
    #[must_use]
    pub fn rotated(&self, class: KeyClass, done: &Done) -> Self {
        let new = KeyVersion::active(self.next_number(), done.at, done.at, done.reason.clone());
        let new = KeyVersion { by: done.by.clone(), ..new };
        let previous = self.current.as_ref().map(|old| old.ended(class, done.at, &done.reason));
        Self { current: Some(new), previous: previous.or_else(|| self.previous.clone()), ..self.clone() }
    }

    /// A rotation begins.
    #[must_use]
    pub fn begun(&self, id: AttemptId, done: &Done) -> Self {
        let new = KeyVersion::active(self.next_number(), done.at, done.at, done.reason.clone());
        let pending = KeyVersion { state: KeyState::PreActivation, by: done.by.clone(), ..new };
        let rotation = Rotation {
            id,
            step: Step::Create,
            intent: None,
            began: done.at,
            failures: 0,
            not_before: None,
            by: done.by.clone(),
        };
        Self { pending: Some(pending), rotation: Some(rotation), ..self.clone() }
    }

    /// A rotation is given up; nothing is in use that was not before it, and what was not retired yet stays accepted.
    #[must_use]
    pub fn abandoned(&self) -> Self {
        Self { pending: None, rotation: None, ..self.stopped() }
    }

    /// The step under way is done. `print` is what the new key is told apart by, as far as that was seen.
    #[must_use]
    pub fn stepped(&self, class: KeyClass, overlap: Duration, print: Option<Print>, now: Timestamp) -> Self {
        let Some(rotation) = &self.rotation else { return self.clone() };
        let mut next = self.clone();
        next.rotation = rotation.step.next().map(|step| Rotation {
            step,
            intent: None,
            failures: 0,
            not_before: None,
            ..rotation.clone()
        });
        if let (Some(pending), Some(print)) = (&mut next.pending, print) {
            pending.print = Some(print);
        }
        match rotation.step {
            Step::Create => {
                if let Some(pending) = &mut next.pending {
                    pending.created = now;
                }
            }
            Step::Set | Step::Test => {}
            Step::Finish => {
                // Nobody is to take a key any longer that others may have.
                let bad = self.current.as_ref().is_some_and(|old| old.compromised.is_some());
                let until = if bad { now } else { now.plus(overlap) };
                let new = next.pending.take();
                next.current = new.map(|new| KeyVersion { state: KeyState::Active, since: now, ..new });
                next.previous = self.current.clone().map(|old| KeyVersion { until: Some(until), ..old });
                next.rotation = next.rotation.map(|r| Rotation { not_before: Some(until), ..r });
            }
            Step::Retire => {
                let over: Arc<str> = Arc::from("its successor is in use, and their time together is over");
                next.previous = self.previous.as_ref().map(|old| old.ended(class, now, &over));
                next.rotation = None;
            }
        }
        next
    }

    /// The step under way failed; it is tried again later.
    #[must_use]
    pub fn failed(&self, now: Timestamp) -> Self {
        let rotation = self.rotation.as_ref().map(|rotation| {
            let failures = rotation.failures.saturating_add(1);
            Rotation { intent: None, failures, not_before: Some(now.plus(pause(failures))), ..rotation.clone() }
        });
        Self { rotation, ..self.clone() }
    }
}

/// How long after so many failures a step is tried again: one minute, doubling to an hour.
#[must_use]
pub fn pause(failures: u32) -> Duration {
    MINUTE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(HOUR)
}

/// After so many failures in a row of one step its owner is woken.
pub const STUCK: u32 = 3;

#[cfg(test)]
mod tests;
