//! Rotating keys by their hooks, step by step.

use core::future::Future;
use core::pin::Pin;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::domain::audit::{Draft, Outcome, Phase, bounded_text};
use crate::domain::freeze::Scope;
use crate::domain::frozen::in_force;
use crate::domain::id::{AttemptId, EntryId, FreezeId, KeyId};
use crate::domain::inventory::Environment;
use crate::domain::json::Json;
use crate::domain::state::Change;
use crate::domain::time::{Timestamp, human_span};
use crate::domain::tracked::{Begins, KeyState, Print, TrackedKey, Turnover};
use crate::domain::upkeep::{Done, KeyRecord, KeyVersion, Rotation, STUCK, Step, pause};
use crate::engine::Desk;
use crate::engine::keys::change::is_blocked;
use crate::engine::keys::{Denied, EVERY, Tracker, locked};
use crate::ports::{Batch, HostError, Urgency};

/// So many hooks at once.
const AT_ONCE: usize = 4;
/// The action of the entries about a step.
const STEP: &str = "key.step";

/// What a rotation would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Each step with its command, its words as they would be given.
    pub steps: Vec<(Step, Vec<String>)>,
    /// For so long the old key stays valid.
    pub overlap: core::time::Duration,
    /// What would hold it.
    pub held: Option<String>,
}

impl Tracker {
    /// What rotating would do; nothing is done.
    ///
    /// # Errors
    /// [`Denied`] says why it could not be.
    pub fn plan(&self, id: &KeyId) -> Result<Planned, Denied> {
        let key = self.key(id)?;
        let turnover = self.may_turn(&key)?;
        let command = |step: Step| turnover.hook.iter().cloned().chain([step.as_str().to_owned()]).collect();
        let held = held(&self.engine.read(), &key, self.now());
        Ok(Planned {
            steps: Step::ALL.iter().map(|(step, _)| (*step, command(*step))).collect(),
            overlap: turnover.overlap,
            held: held.map(|freeze| format!("freeze {freeze} is over it")),
        })
    }

    /// Begins a rotation; it goes on by itself.
    ///
    /// # Errors
    /// [`Denied`] says why nothing was begun.
    pub async fn rotate(&self, id: &KeyId, why: &str, by: Option<&str>) -> Result<AttemptId, Denied> {
        self.open()?;
        self.believe_clock()?;
        let reason = super::change::reason(why)?;
        let _book = self.book.lock().await;
        let key = self.key(id)?;
        self.may_turn(&key)?;
        let person = by.map(|by| self.engine.person(by));
        let rotation = AttemptId(self.engine.fresh_ulid());
        let done = Done {
            at: self.now(),
            reason: reason.clone(),
            by: person.as_ref().map(|p| Arc::from(p.commitment().to_string())),
            suspected: None,
        };
        let record = self.record(id).begun(rotation, &done);
        let mut draft = self.draft("key.rotate", "KW4905", &key, &record);
        draft.correlation = Some(rotation);
        draft.private.push(("reason", reason));
        if let Some(person) = &person {
            draft.by(person);
        }
        self.keep(id, record, draft).await?;
        Ok(rotation)
    }

    /// Gives up a rotation whose new key is not in use yet, or one that nobody can go on with, because its hook left the
    /// configuration.
    ///
    /// # Errors
    /// [`Denied`] says why it goes on.
    pub async fn abandon(&self, id: &KeyId, why: &str, by: &str) -> Result<(), Denied> {
        self.open()?;
        let reason = super::change::reason(why)?;
        let _book = self.book.lock().await;
        let key = self.key(id)?;
        let record = self.record(id);
        let orphan = key.turnover.is_none();
        let Some(rotation) = record.rotation.as_ref().filter(|r| orphan || r.step < Step::Retire) else {
            return Err(Denied::NotRotated(id.clone(), "no rotation is under way that could be given up".to_owned()));
        };
        if !orphan && rotation.step == Step::Finish && rotation.intent.is_some() {
            let text = "its last step is being done, and nobody knows yet which key is in use";
            return Err(Denied::NotRotated(id.clone(), text.to_owned()));
        }
        let mut entries = Vec::new();
        if let Some(intent) = rotation.intent {
            entries.push(self.cut_off(&key, &record, rotation, intent));
        }
        let after = record.abandoned();
        let mut draft = self.draft("key.abandon", "KW4910", &key, &after);
        draft.correlation = Some(rotation.id);
        draft.private.push(("reason", reason));
        draft.by(&self.engine.person(by));
        entries.push(draft);
        let changes = vec![Change::Key(id.clone(), Arc::new(after))];
        self.engine.commit(Batch { changes, entries }).await?;
        // What is left is wiped at the next start if it cannot be now.
        drop(self.probe.wipe(id).await);
        Ok(())
    }

    fn may_turn(&self, key: &TrackedKey) -> Result<Turnover, Denied> {
        let no = |why: &str| Err(Denied::NotRotated(key.id.clone(), why.to_owned()));
        let Some(turnover) = key.turnover.clone() else {
            return no(
                "it has no [key.rotation] with a hook; rotate it by hand, and looks will see it, or say so with \
                       `keyward key rotated`",
            );
        };
        if self.engine.read().estate.environment == Environment::Staging {
            return no("this is a dry run, which touches nothing");
        }
        let record = self.record(&key.id);
        if let Some(rotation) = &record.rotation {
            return match rotation.step {
                Step::Retire => no("the time of the last rotation, in which both keys are valid, is not over yet"),
                step @ (Step::Create | Step::Set | Step::Test | Step::Finish) => {
                    no(&format!("a rotation is under way, and its next step is {}", step.as_str()))
                }
            };
        }
        if let Some(old) = record.unretired(self.now()) {
            return no(&format!(
                "version {} is still accepted, and nobody retires it; do that by hand, and then say \
                 `keyward key destroy {} --previous`",
                old.number, key.id
            ));
        }
        match record.current.as_ref().map(|v| v.state) {
            None => Err(Denied::Unseen(key.id.clone(), "it was not looked at yet".to_owned())),
            // Whatever is wrong with the old one, a new one is better.
            Some(
                KeyState::Active
                | KeyState::Suspended
                | KeyState::Deactivated
                | KeyState::Compromised
                | KeyState::PreActivation
                | KeyState::Destroyed,
            ) => Ok(turnover),
        }
    }

    /// Has whatever step is due done, some at once.
    pub(super) async fn turn(&self) {
        let mut running: FuturesUnordered<Pin<Box<dyn Future<Output = KeyId> + Send + '_>>> = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut first = true;
        loop {
            if self.engine.read().last_cycle.is_some() && self.believe_clock().is_ok() {
                if core::mem::take(&mut first) {
                    self.wipe_leftovers().await;
                }
                self.begin_overdue().await;
                for key in self.steps_due(&busy).into_iter().take(AT_ONCE.saturating_sub(busy.len())) {
                    busy.insert(key.id.clone());
                    running.push(Box::pin(async move {
                        self.advance(&key).await;
                        key.id.clone()
                    }));
                }
            }
            let timer = self.engine.ports.clock.sleep(EVERY);
            if running.is_empty() {
                timer.await;
            } else if let Either::Left((Some(done), _)) = select(running.next(), timer).await {
                busy.remove(&done);
            }
        }
    }

    /// What rotations left behind that a crash cut off after their last use of it.
    async fn wipe_leftovers(&self) {
        let over: Vec<KeyId> = {
            let desk = self.engine.read();
            let goes_on = |id: &KeyId| {
                let record = desk.state.keys.get(id);
                record.and_then(|r| r.rotation.as_ref()).is_some_and(|r| r.step < Step::Retire)
            };
            desk.estate.keys.keys().filter(|id| !goes_on(id)).cloned().collect()
        };
        for id in over {
            self.wiped(&id).await;
        }
    }

    async fn wiped(&self, id: &KeyId) {
        if let Err(error) = self.probe.wipe(id).await
            && let Ok(key) = self.key(id)
        {
            self.notify(
                &key,
                "KW4911",
                Urgency::Act,
                format!("what the rotation of key {id} left is still there: {error}"),
            );
        }
    }

    /// Rotations that the guardian begins by itself.
    async fn begin_overdue(&self) {
        let now = self.now();
        let overdue: Vec<KeyId> = {
            let desk = self.engine.read();
            let due = |key: &&Arc<TrackedKey>| {
                let by_itself = key.turnover.as_ref().is_some_and(|t| t.begins == Begins::Overdue);
                let record = desk.state.keys.get(&key.id).filter(|r| r.rotation.is_none());
                let current = record.and_then(|r| r.current.as_ref()).filter(|v| v.state == KeyState::Active);
                by_itself
                    && current.is_some_and(|v| now >= key.overdue_at(v.created))
                    && held(&desk, key, now).is_none()
            };
            desk.estate.keys.values().filter(due).map(|key| key.id.clone()).collect()
        };
        for id in overdue {
            // What does not begin now is tried again, and whoever cannot write says so.
            drop(self.rotate(&id, "its cryptoperiod is over", None).await);
        }
    }

    fn steps_due(&self, busy: &BTreeSet<KeyId>) -> Vec<Arc<TrackedKey>> {
        let (now, boot) = (self.now(), self.engine.ports.clock.boottime());
        let desk = self.engine.read();
        // What cannot be recorded is not done.
        if desk.estate.environment == Environment::Staging || desk.store_fault.is_some() || desk.store_lost.is_some() {
            return Vec::new();
        }
        let mut unwritten = locked(&self.unwritten);
        unwritten.retain(|id, _| desk.state.keys.get(id).is_some_and(|r| r.rotation.is_some()));
        let rests = |id: &KeyId| unwritten.get(id).is_some_and(|(times, at)| boot.since(*at) < pause(*times));
        let due = |key: &&Arc<TrackedKey>| {
            let record = desk.state.keys.get(&key.id);
            let rotation = record.and_then(|r| r.rotation.as_ref());
            // What was begun goes on: a freeze does not leave a step half done.
            rotation.is_some_and(|r| {
                r.not_before.is_none_or(|at| now >= at)
                    && (r.intent.is_some()
                        || record.is_some_and(|r| hurries(&desk, r))
                        || held(&desk, key, now).is_none())
            }) && key.turnover.is_some()
                && !busy.contains(&key.id)
                && !rests(&key.id)
        };
        desk.estate.keys.values().filter(due).cloned().collect()
    }

    /// One step: announced, done, recorded.
    async fn advance(&self, key: &TrackedKey) {
        let Some(rotation) = self.announce(key).await else { return };
        let done = self.perform(key, &rotation).await;
        let finished = done.is_ok() && rotation.step >= Step::Finish;
        if self.conclude_step(key, &rotation, done).await && finished {
            self.wiped(&key.id).await;
        }
    }

    /// Makes the intent durable; one that a crash left open is gone on with.
    async fn announce(&self, key: &TrackedKey) -> Option<Rotation> {
        let _book = self.book.lock().await;
        let mut record = self.record(&key.id);
        let rotation = record.rotation.clone()?;
        if rotation.intent.is_some() {
            return Some(rotation);
        }
        let mut draft = self.step_draft(key, &record, &rotation, "KW4906");
        draft.phase = Phase::Intent;
        let rotation = Rotation { intent: Some(draft.id), not_before: None, ..rotation };
        record.rotation = Some(rotation.clone());
        self.keep(&key.id, record, draft).await.ok().map(|()| rotation)
    }

    async fn perform(&self, key: &TrackedKey, rotation: &Rotation) -> Result<Option<Print>, HostError> {
        if rotation.step == Step::Retire {
            self.still_used(key).await?;
        }
        let print = self.probe.step(key, rotation.step, rotation.id).await?;
        let mut record = self.record(&key.id);
        if let (Some(pending), Some(print)) = (&mut record.pending, print) {
            pending.print = Some(print);
        }
        if rotation.step == Step::Create && print.is_some() && record.current.as_ref().and_then(|v| v.print) == print {
            return Err(HostError("the hook made the same key again".to_owned()));
        }
        let seen = self.proved(key, rotation.step, &record).await?;
        Ok(seen.map(|look| look.print).or(print))
    }

    /// Records what came of a step. Says whether that is durable; if not, the step is done again.
    async fn conclude_step(
        &self,
        key: &TrackedKey,
        rotation: &Rotation,
        done: Result<Option<Print>, HostError>,
    ) -> bool {
        let _book = self.book.lock().await;
        let record = self.record(&key.id);
        // Given up meanwhile.
        if record.rotation.as_ref().map(|r| (r.id, r.step)) != Some((rotation.id, rotation.step)) {
            return false;
        }
        let (now, Some(intent)) = (self.now(), rotation.intent) else { return false };
        let overlap = key.turnover.as_ref().map(|t| t.overlap).unwrap_or_default();
        let (after, draft, told) = match done {
            Ok(print) => {
                let after = record.stepped(key.class, overlap, print, now);
                let mut draft = self.step_draft(key, &after, rotation, "KW4907");
                conclude(&mut draft, intent, Outcome::Success);
                (after, draft, told(key, rotation.step, overlap))
            }
            Err(error) => {
                let after = record.failed(now);
                let mut draft = self.step_draft(key, &record, rotation, "KW4908");
                conclude(&mut draft, intent, Outcome::Failure);
                draft.private.push(("text", Arc::from(bounded_text(&error.0))));
                let failures = after.rotation.as_ref().map_or(0, |r| r.failures);
                let urgent = if failures >= STUCK { Urgency::Act } else { Urgency::Routine };
                let text = format!("key {}: the step {} failed: {error}", key.id, rotation.step.as_str());
                (after, draft, Some(("KW4908", urgent, text)))
            }
        };
        let kept = self.keep(&key.id, after, draft).await.is_ok();
        self.note_written(&key.id, kept);
        if let Some((code, urgent, text)) = told.filter(|_| kept) {
            self.notify(key, code, urgent, text);
        }
        kept
    }

    fn note_written(&self, id: &KeyId, kept: bool) {
        let boot = self.engine.ports.clock.boottime();
        let mut unwritten = locked(&self.unwritten);
        if kept {
            unwritten.remove(id);
        } else {
            let times = unwritten.get(id).map_or(0, |(times, _)| *times);
            unwritten.insert(id.clone(), (times.saturating_add(1), boot));
        }
    }

    /// The entry about a step that was begun, and whose rotation ends before anybody knows what came of it.
    pub(super) fn cut_off(&self, key: &TrackedKey, record: &KeyRecord, rotation: &Rotation, intent: EntryId) -> Draft {
        let mut cut = self.step_draft(key, record, rotation, "KW4908");
        conclude(&mut cut, intent, Outcome::Unknown);
        cut
    }

    fn step_draft(&self, key: &TrackedKey, record: &KeyRecord, rotation: &Rotation, code: &'static str) -> Draft {
        let mut draft = self.draft(STEP, code, key, record);
        draft.correlation = Some(rotation.id);
        draft.facts.push(("step", Json::str(rotation.step.as_str())));
        draft.facts.push(("failures", Json::show(&rotation.failures)));
        draft
    }
}

fn conclude(draft: &mut Draft, intent: EntryId, outcome: Outcome) {
    draft.phase = Phase::Outcome;
    draft.outcome = Some(outcome);
    draft.intent = Some(intent);
}

fn told(key: &TrackedKey, step: Step, overlap: core::time::Duration) -> Option<(&'static str, Urgency, String)> {
    let text = match step {
        Step::Create | Step::Set | Step::Test => return None,
        Step::Finish => {
            format!(
                "key {} is rotated: the new one is in use, and the old one valid for {}",
                key.id,
                human_span(overlap)
            )
        }
        Step::Retire => format!("key {}: the old key is valid no more", key.id),
    };
    Some(("KW4909", Urgency::Routine, text))
}

/// Whether a key is to be retired that others may have: no freeze keeps it accepted.
fn hurries(desk: &Desk, record: &KeyRecord) -> bool {
    let blocked = |print: Print| is_blocked(&desk.state, &print.digest());
    let bad = |old: &KeyVersion| old.compromised.is_some() || old.print.is_some_and(blocked);
    record.retires() && record.previous.as_ref().is_some_and(bad)
}

/// The freeze over a key, if there is one.
fn held(desk: &Desk, key: &TrackedKey, now: Timestamp) -> Option<FreezeId> {
    let over = |scope: &Scope| match scope {
        Scope::All => true,
        Scope::Path(path) => key.paths.contains(path),
        Scope::Owner(owner) => key.owner.as_deref() == Some(owner),
        Scope::Label { key: label, value } => &**label == "env" && key.environment.as_deref() == Some(value),
        Scope::Issuer(_) => false,
    };
    in_force(&desk.state, now).find(|(_, freeze)| over(&freeze.scope)).map(|(id, _)| *id)
}
