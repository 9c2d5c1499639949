//! Latches: what closes a path until a person opens it.
//!
//! A path is latched because it flaps ([`crate::domain::standing`]), because the wall clock stepped
//! ([`crate::engine::gatekeep`]), or because the audit log was found broken: while it is in use, or at an earlier start, which
//! the store then tells ([`LatchOn::Log`]).

use core::time::Duration;
use std::sync::Arc;

use crate::domain::audit::{Actor, Draft, Target, TargetKind, bounded_text};
use crate::domain::gate::{BROKEN_LOG, CLOCK, COMPROMISED, FLAPPING};
use crate::domain::id::PathId;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::state::{Change, Latch, LatchOn};
use crate::domain::time::Timestamp;
use crate::engine::agenda::{Agenda, Task};
use crate::engine::looking::Looked;
use crate::engine::{Engine, Event};
use crate::ports::{Batch, Doing, Notice, StoreError, Urgency};

/// A part of the log is read again five times in each heartbeat: once a minute, and a year of heartbeats in two hours.
const INSPECTIONS_A_BEAT: u32 = 5;
/// And never more often than this.
const SHORTEST: Duration = Duration::from_secs(1);
/// The action of the entry about a key that was reported.
const COMPROMISE: &str = "key.compromised";
/// The action of the entry about a latch.
const LATCHED: &str = "gate.latch";
/// The rule of a log whose newest entry is of the future: that is the clock, not the log.
const CLOCK_BACK: &str = "KW6005";

impl Engine {
    pub(super) fn tell_latched(&self, path: &PathId, latch: &Latch) {
        let text = format!("{path} stays closed until a person opens it: {}", latch.text);
        let notice = Notice { about: path.to_string(), owner: None, code: "KW2303", text, urgent: Urgency::Act };
        self.ports.notifier.notify(notice);
    }

    pub(super) fn latch_entry(&self, path: &PathId, latch: &Latch) -> Draft {
        let mut draft = self.draft(LATCHED, "KW2303", Target::new(TargetKind::Path, path));
        draft.facts = vec![("reason", Json::shared(latch.code.clone())), ("text", Json::shared(latch.text.clone()))];
        draft
    }

    /// Every path stays closed until a person opens it. A latch for the same reason stays as it is; one for a lesser reason
    /// is replaced. Gives what is to be recorded, of what holds already.
    fn latch_all(&self, code: &'static str, text: &str) -> Vec<Draft> {
        let at = self.ports.clock.now();
        let latch = Latch { at, code: Arc::from(code), text: Arc::from(bounded_text(text)), by: None };
        let mut paths = Vec::new();
        {
            let mut guard = self.write();
            let desk = &mut *guard;
            for path in desk.estate.paths.keys() {
                let on = LatchOn::Path(path.clone());
                let stays = |old: &Latch| *old.code == *code || *old.code == *BROKEN_LOG;
                if desk.state.latches.get(&on).is_some_and(stays) {
                    continue;
                }
                // What only removes authority holds at once, durable or not.
                desk.state.latches.insert(on.clone(), latch.clone());
                desk.unsaved_latches.insert(on, latch.clone());
                paths.push(path.clone());
            }
        }
        paths.iter().for_each(|path| self.tell_latched(path, &latch));
        paths.iter().map(|path| self.latch_entry(path, &latch)).collect()
    }

    /// The same, closed and recorded; what cannot be recorded now waits.
    async fn latch_and_record(&self, code: &'static str, text: &str) {
        let entries = self.latch_all(code, text);
        if entries.is_empty() {
            return;
        }
        self.evaluate(None).await;
        let batch = Batch { changes: self.unsaved(), entries: entries.clone() };
        if self.commit(batch).await.is_err() {
            self.spool(entries);
            self.evaluate(None).await;
        }
    }

    /// Latches that hold and are not durable yet, as changes.
    pub(super) fn unsaved(&self) -> Vec<Change> {
        self.read().unsaved_latches.iter().map(change).collect()
    }

    /// An earlier start did not believe the log: what is open now was never told what that start found.
    pub(super) async fn latch_doubted(&self) -> Result<(), StoreError> {
        let doubt = {
            let desk = self.read();
            // Without a path it waits for one.
            desk.state.latches.get(&LatchOn::Log).filter(|_| !desk.estate.paths.is_empty()).cloned()
        };
        let Some(doubt) = doubt else { return Ok(()) };
        let code = if *doubt.code == *CLOCK_BACK { CLOCK } else { BROKEN_LOG };
        let entries = self.latch_all(code, &doubt.text);
        let mut changes = self.unsaved();
        changes.push(Change::Latch(LatchOn::Log, None));
        let mut draft = self.draft("gate.doubt", "KW4054", Target::new(TargetKind::Daemon, "keyward"));
        draft.facts = vec![("rule", Json::shared(doubt.code.clone())), ("since", Json::show(&doubt.at))];
        let entries = core::iter::once(draft).chain(entries).collect();
        self.commit(Batch { changes, entries }).await
    }

    pub(super) fn plan_inspection(&self, agenda: &mut Agenda, now: Timestamp) {
        let every = self.read().estate.heartbeat / INSPECTIONS_A_BEAT;
        agenda.set(Task::Inspect, now.plus(every.max(SHORTEST)));
    }

    pub(super) fn inspect(&self) -> Doing<'_, Event> {
        let from = self.read().inspected;
        Box::pin(async move { Event::Looked(Looked::Log(self.ports.store.inspect(from).await)) })
    }

    /// Takes in what a look at the log found. A place that is broken is looked at again until it is whole.
    pub(super) async fn note_log(&self, found: Result<u64, StoreError>, agenda: &mut Agenda) {
        self.plan_inspection(agenda, self.ports.clock.now());
        let error = match found {
            Ok(next) => {
                let mended = {
                    let mut desk = self.write();
                    desk.inspected = next;
                    desk.log_fault.take().is_some()
                };
                if mended {
                    self.evaluate(None).await;
                }
                return;
            }
            // A disk that does not answer says nothing about what is on it.
            Err(StoreError::Unavailable(_) | StoreError::InUse(_) | StoreError::Lost(_)) => return,
            Err(error @ (StoreError::Damaged(_) | StoreError::Distrusted { .. })) => error,
        };
        let text = error.to_string();
        self.write().log_fault = Some(text.clone());
        // Also for whoever puts another state directory in the place of this one.
        if let Err(error) = self.ports.store.doubt(Some((self.ports.clock.now(), error))).await {
            let text = format!("that the audit log is broken cannot be remembered over a restart: {error}");
            let notice = Notice { about: "audit".into(), owner: None, code: BROKEN_LOG, text, urgent: Urgency::Act };
            self.ports.notifier.notify(notice);
        }
        self.latch_and_record(BROKEN_LOG, &text).await;
    }

    /// A person reports a key as compromised: it is never good again, in no certificate. It only removes authority, so it
    /// holds at once, and its entry waits where it cannot be written.
    pub(super) async fn compromise(&self, spki: Digest, by: &str) {
        let on = LatchOn::Key(spki);
        if self.read().state.latches.contains_key(&on) {
            return;
        }
        let mut target = Target::new(TargetKind::Daemon, "keyward");
        target.spki = Some(spki);
        let mut draft = self.draft(COMPROMISE, "KW2305", target);
        let person = self.person(by);
        draft.by(&person);
        // The spool knows no target's key.
        draft.facts = vec![("spki", Json::Hash(spki))];
        let latch = compromised(draft.at, Some(Arc::from(person.commitment().to_string())));
        {
            let mut desk = self.write();
            desk.state.latches.insert(on.clone(), latch.clone());
            desk.unsaved_latches.insert(on, latch);
        }
        self.evaluate(None).await;
        let batch = Batch { changes: self.unsaved(), entries: vec![draft.clone()] };
        if self.commit(batch).await.is_err() {
            self.spool(vec![draft]);
            self.evaluate(None).await;
        }
    }

    /// A person opens a path that was latched: it opens when what it stands on is good.
    pub(super) async fn reopen(&self, path: &PathId, by: &str, why: &str) -> Result<(), StoreError> {
        let on = LatchOn::Path(path.clone());
        let (latch, broken) = {
            let desk = self.read();
            (desk.state.latches.get(&on).cloned(), desk.log_fault.clone())
        };
        let Some(latch) = latch else { return Ok(()) };
        if let Some(text) = broken.filter(|_| *latch.code == *BROKEN_LOG) {
            let text = format!("{path} is opened only once the log is whole again: {text}");
            return Err(StoreError::Distrusted { code: BROKEN_LOG, text });
        }
        let mut draft = self.draft("gate.reopen", "KW2304", Target::new(TargetKind::Path, path));
        draft.by(&self.person(by));
        draft.facts = vec![("reason", Json::shared(latch.code))];
        draft.private.push(("why", Arc::from(bounded_text(why))));
        let changes = vec![Change::Latch(on.clone(), None)];
        let publish = |desk: &mut crate::engine::Desk| {
            desk.unsaved_latches.remove(&on);
            if let Some(standing) = desk.standings.get_mut(path) {
                standing.forgive();
            }
        };
        self.commit_with(Batch { changes, entries: vec![draft] }, publish).await?;
        if !self.read().state.latches.values().any(|latch| *latch.code == *BROKEN_LOG) {
            // If that fails, the next start latches once more.
            drop(self.ports.store.doubt(None).await);
        }
        self.evaluate(None).await;
        Ok(())
    }
}

fn compromised(at: Timestamp, by: Option<Arc<str>>) -> Latch {
    Latch { at, code: Arc::from(COMPROMISED), text: Arc::from("a person reported it as compromised"), by }
}

/// The latch that a spooled entry tells of.
pub(super) fn latched(draft: &Draft) -> Option<(LatchOn, Latch)> {
    if draft.action == COMPROMISE {
        let spki = match draft.facts.iter().find(|(key, _)| *key == "spki") {
            Some((_, Json::Hash(spki))) => *spki,
            Some((_, told)) => Digest::parse(&text_of(told)?)?,
            None => return None,
        };
        let by = match &draft.actor {
            Actor::Human(by) => Some(by.clone()),
            Actor::Automation => None,
        };
        return Some((LatchOn::Key(spki), compromised(draft.at, by)));
    }
    if draft.action != LATCHED || draft.target.kind != TargetKind::Path {
        return None;
    }
    let fact = |wanted: &str| {
        let (_, value) = draft.facts.iter().find(|(key, _)| *key == wanted)?;
        match value {
            Json::Str(text) => Some(Arc::from(text.as_ref())),
            Json::Shared(text) => Some(text.clone()),
            Json::Null | Json::Bool(_) | Json::Int(_) | Json::Hash(_) | Json::Time(_) | Json::Arr(_) | Json::Obj(_) => {
                None
            }
        }
    };
    let on = LatchOn::Path(PathId::parse(&draft.target.id).ok()?);
    let text = fact("text").unwrap_or_else(|| Arc::from("an earlier run latched it"));
    Some((on, Latch { at: draft.at, code: fact("reason").unwrap_or_else(|| Arc::from(FLAPPING)), text, by: None }))
}

fn text_of(told: &Json) -> Option<Arc<str>> {
    match told {
        Json::Str(text) => Some(Arc::from(text.as_ref())),
        Json::Shared(text) => Some(text.clone()),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Hash(_) | Json::Time(_) | Json::Arr(_) | Json::Obj(_) => None,
    }
}

fn change((on, latch): (&LatchOn, &Latch)) -> Change {
    Change::Latch(on.clone(), Some(latch.clone()))
}
