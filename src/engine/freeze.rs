//! Freezing and thawing. What a freeze blocks is [`crate::domain::frozen`]; here it is made, recorded and ended.
//!
//! ```text
//! asked for ──in force at once──▶ recorded (entry and state in one commit) ──▶ thawed by a person, or ended by its time
//!                   └──the commit fails──▶ in force all the same; entry in the spool, both written with it
//! ```
//! Freezing removes authority, so it waits for nothing (class B); thawing adds it, so it is recorded first (class A). The
//! end of a freeze is a time: it holds no longer from then on, whether that could be recorded yet or not.
//!
//! An action meets a freeze that was made after its plan right before its order, and right before its files are swapped.
//! What has not ordered yet is ended, and gives back what it took from the limits: planned anew after the thaw it takes
//! what counts then. What is at its CA already is followed to its certificate, which then waits in the key store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::audit::{Draft, Outcome, Target, TargetKind};
use crate::domain::execution::{Attempt, Stage};
use crate::domain::freeze::{Freeze, Scope};
use crate::domain::frozen::{Frozen, Over, frozen, in_force, is_known, over_issuer, over_path};
use crate::domain::held::HeldReason;
use crate::domain::id::{CredentialId, FreezeId, IssuerId, PathId};
use crate::domain::inventory::{ApprovalPath, Credential};
use crate::domain::json::Json;
use crate::domain::plan::{refunds, schedule_of};
use crate::domain::snapshot::{FreezeOver, closing_freezes};
use crate::domain::state::Change;
use crate::domain::time::{Timestamp, human_span};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::cycle::STORE_RETRY;
use crate::engine::inbox::Command;
use crate::engine::issue::Step;
use crate::engine::{Desk, Engine, Refusal, Seal};
use crate::ports::{Batch, StoreError, Urgency};

/// So many freezes are in force at most. People make them by hand; more than these are a mistake or a flood.
pub const MOST_FREEZES: usize = 64;
/// A reason has at most so many characters: a sentence or two, and where to read more.
pub const LONGEST_REASON: usize = 500;

/// The action of the entry with which a freeze begins.
const BEGIN: &str = "freeze.begin";
/// The codes of its beginning, its thaw, its end, and of what was stopped for one.
const BEGUN: &str = "KW4071";
const THAWED: &str = "KW4072";
const ENDED: &str = "KW4073";
const STOPPED: &str = "KW4074";

/// A freeze that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFreeze {
    /// Over what.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
}

/// Why nothing was frozen or thawed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFrozen {
    /// Nothing happens in a sealed guardian anyway.
    #[error("the guardian is sealed, so nothing is done anyway: {0}")]
    Sealed(Seal),
    /// Nothing is there that it would be over.
    #[error("nothing that is configured is {0}, so a freeze over it would block nothing")]
    Unknown(Scope),
    /// It would be over before it began.
    #[error("the freeze would end {until}, and it is {now} already")]
    Past {
        /// Its end.
        until: Timestamp,
        /// The daemon's time.
        now: Timestamp,
    },
    /// Longer than may be.
    #[error("the freeze would end {until}, in {}; at most {} are allowed", human_span(*.span), human_span(*.longest))]
    TooLong {
        /// Its end.
        until: Timestamp,
        /// From now.
        span: core::time::Duration,
        /// What is allowed.
        longest: core::time::Duration,
    },
    /// No reason, or more than one that anybody reads.
    #[error("a reason of 1 to {LONGEST_REASON} characters on one line was expected")]
    Reason,
    /// Too many are in force.
    #[error("{MOST_FREEZES} freezes are in force, and no more are taken")]
    TooMany,
    /// Nobody knows when it would end.
    #[error("the clock is not believed, so nobody could tell when the freeze ends; nothing is started meanwhile: {0}")]
    Clock(String),
    /// It was thawed, has ended, or never was.
    #[error("no freeze {0} is in force")]
    Gone(FreezeId),
}

impl NotFrozen {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sealed(seal) => seal.code,
            Self::Unknown(_) => "KW4075",
            Self::Past { .. } | Self::TooLong { .. } => "KW4076",
            Self::Reason => "KW4077",
            Self::Gone(_) => "KW4078",
            Self::TooMany => "KW4079",
            Self::Clock(_) => "KW4081",
        }
    }
}

/// A freeze that is in force, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeView {
    /// Which.
    pub id: FreezeId,
    /// The freeze, with the name of who made it.
    pub freeze: Freeze,
    /// Whether it is in the audit log already.
    pub recorded: bool,
    /// How many managed credentials it is over.
    pub covers: usize,
    /// The credentials of which something is due, and waits for it.
    pub holds: Vec<CredentialId>,
    /// The paths that it is over.
    pub paths: Vec<PathId>,
}

impl Desk {
    /// What freezes say about a credential's actions at `issuer` right now.
    pub(super) fn frozen(&self, credential: &Credential, issuer: &IssuerId, now: Timestamp) -> Option<Frozen> {
        if self.state.freezes.is_empty() {
            return None;
        }
        let schedule = credential.managed().and_then(|m| schedule_of(m, &self.state.credential(&credential.id)));
        frozen(&self.estate, &self.state, credential, Some(issuer), schedule.as_ref(), now)
    }

    /// The freeze that is wanted, if it may be made.
    fn weigh(&self, wanted: &WantedFreeze, by: Arc<str>, doubts: bool, now: Timestamp) -> Result<Freeze, NotFrozen> {
        let WantedFreeze { scope, reason: why, until } = wanted;
        let (reason, until, longest) = (reason(why)?, *until, self.estate.freezing.longest);
        if let Some(why) = self.clock.fault() {
            return Err(NotFrozen::Clock(why.to_owned()));
        }
        if doubts {
            return Err(NotFrozen::Clock("it stepped a moment ago".to_owned()));
        }
        if until <= now {
            return Err(NotFrozen::Past { until, now });
        }
        let span = now.until(until);
        if span > longest {
            return Err(NotFrozen::TooLong { until, span, longest });
        }
        if !is_known(scope, &self.estate) {
            return Err(NotFrozen::Unknown(scope.clone()));
        }
        if self.state.freezes.len() >= MOST_FREEZES {
            return Err(NotFrozen::TooMany);
        }
        Ok(Freeze { scope: scope.clone(), reason, by, since: now, until })
    }

    /// Tells at the gates which paths are closed by a freeze, before their verdicts say so.
    pub(super) fn close_frozen(&mut self, now: Timestamp) {
        let last = |path: &ApprovalPath| {
            closing_freezes(path, &self.state, &self.estate, now).max_by_key(|over| (over.until, over.id))
        };
        let closed = self.estate.paths.values().filter_map(|path| Some((path.id.clone(), last(path)?)));
        let closed: BTreeMap<PathId, FreezeOver> =
            if self.state.freezes.is_empty() { BTreeMap::new() } else { closed.collect() };
        if *self.frozen_paths != closed {
            self.frozen_paths = Arc::new(closed);
        }
    }

    fn view(&self, id: FreezeId, freeze: &Freeze) -> FreezeView {
        let over = Over::new(&freeze.scope, &self.estate);
        let managed = self.estate.credentials.values().filter_map(|c| Some((c, c.managed()?)));
        let covered = managed.filter(|(credential, managed)| {
            let current = self.state.credentials.get(&credential.id).and_then(|r| r.current.as_ref());
            over.is_over(credential, current.map(|g| &g.issuer).or(managed.issuers.first()))
        });
        let mine = |by: &[(FreezeId, Scope)]| by.iter().any(|(own, _)| *own == id);
        let holds = self.held.values().filter(|held| held.reason.frozen_by().is_some_and(mine));
        FreezeView {
            id,
            freeze: Freeze { by: self.people.name(&freeze.by), ..freeze.clone() },
            recorded: !self.unsaved_freezes.contains(&id),
            covers: covered.count(),
            holds: holds.map(|held| held.credential.clone()).collect(),
            paths: self
                .estate
                .paths
                .keys()
                .filter(|path| over_path(&freeze.scope, path, &self.estate))
                .cloned()
                .collect(),
        }
    }
}

impl Engine {
    /// Freezes at once, and has it recorded by the loop.
    ///
    /// # Errors
    /// [`NotFrozen`] says why nothing was done.
    pub async fn freeze(&self, wanted: &WantedFreeze, by: &str) -> Result<FreezeId, NotFrozen> {
        let (id, draft) = self.begin_freeze(wanted, by)?;
        match self.ask(Command::Freeze { id, draft: Box::new(draft.clone()) }).await {
            // Without an answer it waits for its turn still.
            Ok(()) | Err(Refusal::Silent) => {}
            // Where the loop has no time for it, the entry waits with the others that closed something.
            Err(Refusal::Busy(_) | Refusal::AuditUnavailable(_) | Refusal::Sealed(_)) => self.keep_unsaved(id, draft),
        }
        Ok(id)
    }

    /// What a freeze would be over, without freezing.
    ///
    /// # Errors
    /// [`NotFrozen`] says why it could not be made.
    pub fn preview_freeze(&self, wanted: &WantedFreeze, by: &str) -> Result<FreezeView, NotFrozen> {
        let (now, id) = (self.ports.clock.now(), FreezeId(self.fresh_ulid()));
        if let Some(seal) = self.seal() {
            return Err(NotFrozen::Sealed(seal));
        }
        let doubts = self.distrusts_clock();
        let desk = self.read();
        let freeze = desk.weigh(wanted, Arc::from(by), doubts, now)?;
        let view = desk.view(id, &freeze);
        // Nobody has a pseudonym for only looking.
        Ok(FreezeView { freeze, ..view })
    }

    pub(super) fn begin_freeze(&self, wanted: &WantedFreeze, by: &str) -> Result<(FreezeId, Draft), NotFrozen> {
        if let Some(seal) = self.seal() {
            return Err(NotFrozen::Sealed(seal));
        }
        let person = self.person(by);
        let id = FreezeId(self.fresh_ulid());
        let now = self.ports.clock.now();
        let doubts = self.distrusts_clock();
        let mut desk = self.write();
        // The state holds the pseudonym, like the entry.
        let freeze = desk.weigh(wanted, Arc::from(person.commitment().to_string()), doubts, now)?;
        desk.state.freezes.insert(id, freeze.clone());
        desk.unsaved_freezes.insert(id);
        desk.close_frozen(now);
        drop(desk);
        let mut draft = self.about(id, &freeze, BEGIN, BEGUN);
        draft.private.push(("reason", freeze.reason));
        draft.by(&person);
        Ok((id, draft))
    }

    /// Records a freeze that is in force already.
    pub(super) async fn record_freeze(&self, id: FreezeId, draft: Draft, agenda: &mut Agenda) {
        // The paths that close for it do so before the disk is asked.
        self.evaluate(None).await;
        let Some(freeze) = self.read().state.freezes.get(&id).cloned() else { return };
        let text = format!("{} is frozen until {} (freeze {id})", freeze.scope, freeze.until);
        let changes = vec![Change::Freeze(id, Some(freeze))];
        let saved = move |desk: &mut Desk| desk.unsaved_freezes.retain(|other| *other != id);
        if self.commit_with(Batch { changes, entries: vec![draft.clone()] }, saved).await.is_err() {
            self.keep_unsaved(id, draft);
            self.evaluate(None).await;
        }
        self.tell("freeze", BEGUN, Urgency::Routine, text);
        self.plan_thaw(agenda);
        // What waits for something else says so until it is planned again.
        self.replan_held(agenda, |reason| !matches!(reason, HeldReason::NotDue(_)));
    }

    /// Freezes that were asked for while nothing could be written, and that the process did not outlive: what waits in the
    /// spool tells of them.
    pub(super) async fn restore_freezes(&self) {
        let now = self.ports.clock.now();
        let waiting = self.read().spool.waiting(BEGIN);
        let known = self.known(&waiting).await;
        let mut desk = self.write();
        for draft in waiting.iter().filter(|draft| !known.contains(&draft.id)) {
            if let Some((id, freeze)) = of_draft(draft).filter(|(_, freeze)| freeze.is_in_force(now)) {
                desk.state.freezes.insert(id, freeze);
                desk.unsaved_freezes.insert(id);
            }
        }
    }

    /// Ends a freeze before its time. What it held is planned again, with all others that wait and by the same limits.
    pub(super) async fn thaw(&self, id: FreezeId, why: &str, by: &str, agenda: &mut Agenda) -> Result<(), StoreError> {
        let Some(freeze) = self.read().state.freezes.get(&id).cloned() else { return Ok(()) };
        let mut draft = self.about(id, &freeze, "freeze.thaw", THAWED);
        draft.private.push(("reason", Arc::from(why)));
        draft.by(&self.person(by));
        self.forget_freezes(Batch { changes: Vec::new(), entries: vec![draft] }, vec![id], agenda).await?;
        self.tell(
            "freeze",
            THAWED,
            Urgency::Routine,
            format!("{} is not frozen any more by freeze {id}", freeze.scope),
        );
        Ok(())
    }

    /// Records the freezes whose time is over.
    pub(super) async fn end_freezes(&self, agenda: &mut Agenda, now: Timestamp) {
        let over: Vec<(FreezeId, Freeze)> = {
            let desk = self.read();
            // By a time that is not believed nothing has ended; once it is, the whole agenda is made anew.
            if desk.clock.fault().is_some() {
                return;
            }
            let over = desk.state.freezes.iter().filter(|(_, freeze)| !freeze.is_in_force(now));
            over.map(|(id, freeze)| (*id, freeze.clone())).collect()
        };
        if !over.is_empty() {
            let entries = over.iter().map(|(id, freeze)| self.about(*id, freeze, "freeze.end", ENDED)).collect();
            let ids = over.iter().map(|(id, _)| *id).collect();
            if self.forget_freezes(Batch { changes: Vec::new(), entries }, ids, agenda).await.is_err() {
                agenda.set(Task::Thaw, now.plus(STORE_RETRY));
                return;
            }
            for (id, freeze) in over {
                self.tell("freeze", ENDED, Urgency::Routine, format!("the freeze {id} of {} has ended", freeze.scope));
            }
        }
        self.plan_thaw(agenda);
    }

    async fn forget_freezes(
        &self,
        mut batch: Batch,
        ids: Vec<FreezeId>,
        agenda: &mut Agenda,
    ) -> Result<(), StoreError> {
        batch.changes = ids.iter().map(|id| Change::Freeze(*id, None)).collect();
        let saved = move |desk: &mut Desk| desk.unsaved_freezes.retain(|id| !ids.contains(id));
        self.commit_with(batch, saved).await?;
        self.plan_thaw(agenda);
        self.replan_held(agenda, |reason| reason.frozen_by().is_some());
        self.evaluate(None).await;
        Ok(())
    }

    /// When the next freeze ends.
    pub(super) fn plan_thaw(&self, agenda: &mut Agenda) {
        match self.read().state.freezes.values().map(|freeze| freeze.until).min() {
            Some(at) => agenda.set(Task::Thaw, at),
            None => agenda.drop_task(&Task::Thaw),
        }
    }

    fn replan_held(&self, agenda: &mut Agenda, which: impl Fn(&HeldReason) -> bool) {
        let now = self.ports.clock.now();
        let desk = self.read();
        let held = desk.held.values().filter(|held| which(&held.reason));
        held.for_each(|held| agenda.by(Task::Plan(held.credential.clone()), now));
    }

    fn about(&self, id: FreezeId, freeze: &Freeze, action: &'static str, code: &'static str) -> Draft {
        // A path or an issuer has it in its history; whatever else is frozen is the guardian's.
        let target = match &freeze.scope {
            Scope::Path(path) => Target::new(TargetKind::Path, path),
            Scope::Issuer(issuer) => Target::new(TargetKind::Issuer, issuer),
            Scope::All | Scope::Owner(_) | Scope::Label { .. } => Target::new(TargetKind::Daemon, "keyward"),
        };
        let mut draft = self.draft(action, code, target);
        draft.facts = vec![
            ("freeze", Json::show(&id)),
            ("scope", Json::show(&freeze.scope)),
            ("since", Json::show(&freeze.since)),
            ("until", Json::show(&freeze.until)),
        ];
        draft
    }

    /// A freeze that could not be recorded is written with its entry, as soon as that can be.
    fn keep_unsaved(&self, id: FreezeId, draft: Draft) {
        self.write().unsaved_freezes.insert(id);
        self.spool(vec![draft]);
    }

    /// The changes of freezes that are in force and could not be written yet.
    pub(super) fn unsaved_freezes(&self) -> (Vec<FreezeId>, Vec<Change>) {
        let desk = self.read();
        let unsaved = desk.unsaved_freezes.iter().filter_map(|id| Some((*id, desk.state.freezes.get(id)?.clone())));
        unsaved.map(|(id, freeze)| (id, Change::Freeze(id, Some(freeze)))).unzip()
    }

    /// Ends an attempt that a freeze met before its order: nothing of it is left but what the log says. It gives back what
    /// it took, and what a person asked for is asked for still.
    pub(super) async fn stop_frozen(&self, attempt: &Attempt, found: &Frozen) -> Step {
        let mut draft = self.outcome(attempt, "certificate.issue", STOPPED, Outcome::Denied);
        draft.facts = facts(found);
        let now = self.ports.clock.now();
        let mut changes = vec![Change::AttemptEnded(attempt.id)];
        {
            let desk = self.read();
            let record = desk.state.credential(&attempt.credential);
            let issuer = desk.estate.issuers.get(&attempt.issuer);
            changes.extend(issuer.into_iter().flat_map(|i| refunds(attempt, i, &record, &desk.state.ledger, now)));
        }
        if let Err(error) = self.commit(Batch { changes, entries: vec![draft] }).await {
            return error.into();
        }
        self.destroy_unused(attempt).await;
        Step::Done
    }

    /// What is issued and must not be installed now waits in the key store; the planner takes it up again.
    pub(super) async fn wait_for_thaw(&self, attempt: &mut Arc<Attempt>, found: &Frozen) -> Step {
        Arc::make_mut(attempt).not_before = None;
        let mut draft = self.draft_for(attempt, "certificate.postpone", STOPPED);
        draft.facts = facts(found);
        let batch = Batch { changes: vec![Change::Attempt(attempt.clone())], entries: vec![draft] };
        self.commit(batch).await.map_or_else(Step::from, |()| Step::Done)
    }

    /// Ends attempts that were put aside before their order, or cut off there, and meet a freeze now: what they took from
    /// the limits long ago would not be what counts after it.
    pub(super) async fn end_frozen(&self, due: &[CredentialId], now: Timestamp, agenda: &mut Agenda) {
        let stopped: Vec<(Arc<Attempt>, Frozen)> = {
            let desk = self.read();
            if desk.state.freezes.is_empty() || desk.clock.fault().is_some() {
                return;
            }
            let idle = desk.state.attempts.values();
            let idle = idle
                .filter(|a| a.stage == Stage::Begun && !desk.running.contains(&a.id) && due.contains(&a.credential));
            let found = idle.filter_map(|attempt| {
                let credential = desk.estate.credentials.get(&attempt.credential)?;
                Some((attempt.clone(), desk.frozen(credential, &attempt.issuer, now)?))
            });
            found.collect()
        };
        for (attempt, found) in stopped {
            if matches!(self.stop_frozen(&attempt, &found).await, Step::Unrecorded) {
                agenda.set(Task::Plan(attempt.credential.clone()), now.plus(STORE_RETRY));
            }
        }
    }

    /// The freezes that are in force, the one that ends last first.
    #[must_use]
    pub fn freezes(&self) -> Vec<FreezeView> {
        let now = self.ports.clock.now();
        let desk = self.read();
        let mut all: Vec<FreezeView> = in_force(&desk.state, now).map(|(id, freeze)| desk.view(*id, freeze)).collect();
        all.sort_by_key(|view| core::cmp::Reverse((view.freeze.until, view.id)));
        all
    }

    /// How many freezes are in force.
    #[must_use]
    pub fn freezes_in_force(&self) -> usize {
        in_force(&self.read().state, self.ports.clock.now()).count()
    }

    /// How many freezes of each kind of scope are in force, and how many credentials they hold.
    #[must_use]
    pub fn frozen(&self) -> ([(&'static str, usize); 5], usize) {
        let now = self.ports.clock.now();
        let desk = self.read();
        let count = |kind| in_force(&desk.state, now).filter(|(_, freeze)| freeze.scope.kind() == kind).count();
        let held = desk.held.values().filter(|held| held.reason.frozen_by().is_some()).count();
        (Scope::KINDS.map(|kind| (kind, count(kind))), held)
    }

    /// Whether a freeze that can be thawed is there.
    ///
    /// # Errors
    /// [`NotFrozen::Gone`] if it is not, [`NotFrozen::Reason`] if there is no reason to thaw it.
    pub fn may_thaw(&self, id: FreezeId, why: &str) -> Result<Arc<str>, NotFrozen> {
        let why = reason(why)?;
        let now = self.ports.clock.now();
        let there = self.read().state.freezes.get(&id).is_some_and(|freeze| freeze.is_in_force(now));
        if there { Ok(why) } else { Err(NotFrozen::Gone(id)) }
    }

    /// The freeze that keeps everybody from an issuer's account, if there is one.
    #[must_use]
    pub fn issuer_frozen(&self, issuer: &IssuerId) -> Option<(FreezeId, Timestamp)> {
        over_issuer(&self.read().state, issuer, self.ports.clock.now())
    }
}

/// One line, trimmed.
fn reason(text: &str) -> Result<Arc<str>, NotFrozen> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= LONGEST_REASON && !text.chars().any(char::is_control);
    if fits { Ok(Arc::from(text)) } else { Err(NotFrozen::Reason) }
}

/// Of which freeze an entry is the beginning.
pub(super) fn begun_freeze(draft: &Draft) -> Option<FreezeId> {
    of_draft(draft).filter(|_| draft.action == BEGIN).map(|(id, _)| id)
}

/// What the entry of a beginning says.
fn of_draft(draft: &Draft) -> Option<(FreezeId, Freeze)> {
    let fact = |wanted: &str| {
        let value = draft.facts.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.canonical())?;
        serde_json::from_slice::<String>(&value).ok()
    };
    let time = |key| fact(key).as_deref().and_then(Timestamp::parse);
    let freeze = Freeze {
        scope: Scope::parse(&fact("scope")?).ok()?,
        reason: draft.private.iter().find(|(key, _)| *key == "reason").map(|(_, text)| text.clone())?,
        by: draft.actor.subject().map(Arc::from)?,
        since: time("since")?,
        until: time("until")?,
    };
    Some((FreezeId::parse(&fact("freeze")?)?, freeze))
}

fn facts(found: &Frozen) -> Vec<(&'static str, Json)> {
    vec![("freezes", Json::arr(found.by.iter().map(|(id, _)| Json::show(id)))), ("until", Json::show(&found.until))]
}
