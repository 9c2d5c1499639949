//! One turn of the cycle: plan for what is due, check the plan, decide about each action, make it durable, start it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::audit::{Actor, Draft, Outcome, Phase, Target, TargetKind};
use crate::domain::check::{Violation, check};
use crate::domain::execution::{Attempt, Stage, Trigger};
use crate::domain::id::{AttemptId, CredentialId, IssuerId, PathId};
use crate::domain::inventory::Credential;
use crate::domain::json::Json;
use crate::domain::limits::{Bookings, Spender};
use crate::domain::plan::{Action, ActionKind, Held, HeldReason, Issue, Plan, PlanInput, plan, rests, urgency};
use crate::domain::policy::{Act, Decision, History, Leave, Subject, decide};
use crate::domain::state::{Change, CredentialRecord, LatchOn};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::issue::Ending;
use crate::engine::{Crew, Desk, Engine, MOST_A_TURN, Waits};
use crate::ports::{Batch, Urgency};

/// After a commit failed, the same is tried again this much later; nothing happens in between.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(10);
/// What policy holds is looked at again this often, besides at every new configuration.
const POLICY_RETRY: Duration = Duration::from_secs(3_600);
/// A plan that its checker refuses is a defect of ours: nothing of it runs, and another is made after this.
const REFUSED_PLAN_RETRY: Duration = Duration::from_secs(60);

/// While others wait, each turn in which nothing could begin wakes twice as many of them as the one before it, up to this
/// power of two: a crowd whose CA has just failed is told so in a few turns, not eight by eight.
const MOST_DOUBLINGS: u32 = 10;

/// What is ready to start once its batch is durable.
struct Started {
    attempt: Arc<Attempt>,
    resumed: bool,
    /// Nothing is carried out without it.
    leave: Leave,
}

/// What is made durable before anything starts.
#[derive(Default)]
struct Opening {
    batch: Batch,
    /// What its orders take: each sees what the ones before it took.
    booked: Bookings,
}

impl Engine {
    /// Takes up everything that is due.
    pub(super) async fn take_up<'a>(
        &'a self,
        due: Vec<Task>,
        now: Timestamp,
        agenda: &mut Agenda,
        crew: &mut Crew<'a>,
    ) {
        let mut to_plan = Vec::new();
        for task in due {
            match task {
                Task::Evaluate => {
                    self.evaluate(None).await;
                    self.plan_evaluation(agenda, now);
                    self.ask_about_distrusted(agenda, now);
                }
                Task::Scan => self.scan(agenda, now),
                Task::Heartbeat => self.heartbeat(agenda, now).await,
                Task::Lists => self.fetch_lists(now, agenda, crew),
                Task::Thaw => self.end_freezes(agenda, now).await,
                // Taken up by the loop itself, before anything else.
                Task::Store => {}
                Task::Plan(credential) => to_plan.push(credential),
                look @ (Task::Inspect | Task::Look(_) | Task::Ari(_) | Task::Expand(_) | Task::Meta(_)) => {
                    self.begin_look(&look, crew);
                }
            }
        }
        if !to_plan.is_empty() {
            self.plan_and_start(&to_plan, now, agenda, crew).await;
        }
    }

    async fn plan_and_start<'a>(
        &'a self,
        due: &[CredentialId],
        now: Timestamp,
        agenda: &mut Agenda,
        crew: &mut Crew<'a>,
    ) {
        self.end_orphans(due, now, agenda).await;
        self.end_frozen(due, now, agenda).await;
        let (mut plan, refused) = self.make_plan(due, now);
        if let Some(violation) = refused {
            let text = format!("a plan was refused by its checker, nothing of it runs: {violation}");
            self.notify(&violation.credential, "KW1101", Urgency::Act, text);
            due.iter().for_each(|id| agenda.set(Task::Plan(id.clone()), now.plus(REFUSED_PLAN_RETRY)));
            return;
        }
        // The most urgent come first; the others have their turn at once after it.
        for later in plan.actions.drain(plan.actions.len().min(MOST_A_TURN)..) {
            agenda.set(Task::Plan(later.credential), now);
        }
        let mut opening = Opening::default();
        // Each has one entry, its intent.
        opening.batch.entries.reserve_exact(plan.actions.len());
        let mut started = Vec::with_capacity(plan.actions.len());
        let mut declined = Vec::new();
        for action in &plan.actions {
            match self.authorize(action, now, &mut opening) {
                Ok(one) => started.push(one),
                Err(held) => declined.push(held),
            }
        }
        let batch = opening.batch;
        if !(batch.changes.is_empty() && batch.entries.is_empty()) && self.commit(batch).await.is_err() {
            // Nothing is durable, so nothing happens; and what was declined is declined again then.
            due.iter().for_each(|id| agenda.set(Task::Plan(id.clone()), now.plus(STORE_RETRY)));
            return;
        }
        // What policy declined takes no place after all; and where none of those let through could begin, it is the turn
        // of others that wait behind them.
        let idle = started.is_empty() && plan.held.iter().any(|h| !waits_for_others(h));
        let room = idle || !declined.is_empty();
        self.note_held(plan.held.into_iter().chain(declined), agenda);
        let turns = {
            let mut desk = self.write();
            desk.idle_turns = if idle && !desk.waiting.is_empty() { desk.idle_turns.saturating_add(1) } else { 0 };
            desk.idle_turns
        };
        if room {
            self.wake_waiting(agenda, now, 1 << turns.saturating_sub(1).min(MOST_DOUBLINGS));
        }
        let mut desk = self.write();
        for Started { attempt, resumed, leave } in started {
            desk.running.insert(attempt.id);
            desk.held.remove(&attempt.credential);
            desk.waiting.remove(&attempt.credential);
            crew.futures.push(self.pursue(attempt, resumed, leave));
        }
    }

    /// Ends attempts whose credential left the configuration: nobody else would take them up again.
    async fn end_orphans(&self, due: &[CredentialId], now: Timestamp, agenda: &mut Agenda) {
        let orphans: Vec<Arc<Attempt>> = {
            let desk = self.read();
            // Mostly there is none that is not being carried out.
            if desk.state.attempts.keys().all(|id| desk.running.contains(id)) {
                return;
            }
            let managed = |id: &CredentialId| desk.estate.credentials.get(id).is_some_and(|c| c.managed().is_some());
            let left = due.iter().filter(|id| !managed(id)).filter_map(|id| desk.state.attempt_for(id));
            left.filter(|a| !desk.running.contains(&a.id)).cloned().collect()
        };
        for attempt in orphans {
            if self.abandon(&attempt).await.is_err() {
                agenda.set(Task::Plan(attempt.credential.clone()), now.plus(STORE_RETRY));
            }
        }
    }

    fn make_plan(&self, due: &[CredentialId], now: Timestamp) -> (Plan, Option<Violation>) {
        let desk = self.read();
        let input = plan_input(&desk, due, now);
        let plan = plan(&input);
        let refused = check(&plan, &input).err();
        (plan, refused)
    }

    /// When a credential whose attempt has ended is planned again: at once, but where it needs nothing now, the planner
    /// says until when.
    pub(super) fn plan_after(&self, id: &CredentialId, ending: Ending, now: Timestamp, agenda: &mut Agenda) {
        let pause = if ending == Ending::Recorded { Duration::ZERO } else { STORE_RETRY };
        let mut desk = self.write();
        let held = rests(&plan_input(&desk, &[], now), id).filter(|_| ending == Ending::Recorded);
        agenda.set(Task::Plan(id.clone()), held.as_ref().and_then(|h| h.until).unwrap_or(now.plus(pause)));
        if let Some(held) = held {
            desk.held.insert(id.clone(), held);
        }
    }

    fn note_held(&self, held: impl Iterator<Item = Held>, agenda: &mut Agenda) {
        let now = self.ports.clock.now();
        let mut desk = self.write();
        for held in held {
            if let Some(until) = held.until {
                agenda.by(Task::Plan(held.credential.clone()), until);
            }
            if waits_for_others(&held) {
                let issuers = desk.estate.credentials.get(&held.credential).and_then(|c| c.managed());
                let issuers = issuers.map(|managed| Arc::from(&*managed.issuers)).unwrap_or_default();
                let waits = Waits { urgency: urgency(&desk.state, &held.credential, now), issuers };
                desk.waiting.insert(held.credential.clone(), waits);
            } else {
                desk.waiting.remove(&held.credential);
            }
            desk.held.insert(held.credential.clone(), held);
        }
    }

    /// What waits for a free order in flight, or for an issuer's trial to end, is considered again: the most urgent only,
    /// `times` as many as could begin, because with thousands that wait to plan for all at the end of each attempt would
    /// take hours in all.
    pub(super) fn wake_waiting(&self, agenda: &mut Agenda, now: Timestamp, times: usize) {
        let desk = self.read();
        if desk.waiting.is_empty() {
            return;
        }
        // Apart by the issuers that they may go to: a crowd that waits for one must not stand before another.
        let mut crowds: BTreeMap<&[IssuerId], Vec<_>> = BTreeMap::new();
        for (id, Waits { urgency, issuers }) in &desk.waiting {
            crowds.entry(issuers).or_default().push((*urgency, id));
        }
        for (issuers, mut crowd) in crowds {
            let most = desk.estate.orders_in_flight.saturating_mul(issuers.len()).saturating_mul(times).max(1);
            if most < crowd.len() {
                crowd.select_nth_unstable(most);
                crowd.truncate(most);
            }
            crowd.into_iter().for_each(|(_, id)| agenda.by(Task::Plan(id.clone()), now));
        }
    }

    /// Asks policy, and writes what follows into the batch: an intent for what may go on, a denial for what may not.
    fn authorize(&self, action: &Action, now: Timestamp, opening: &mut Opening) -> Result<Started, Held> {
        let desk = self.read();
        let act = act_of(action, &desk);
        let decision = decision(&desk, &action.credential, act, issuer_of(action, &desk), now);
        let Ok(leave) = decision.leave() else {
            let fresh = desk.declined.get(&action.credential) != Some(&action.digest());
            drop(desk);
            if fresh {
                self.write().declined.insert(action.credential.clone(), action.digest());
                opening.batch.entries.push(self.denial(action, act, &decision));
            }
            let reason = HeldReason::Policy { rule: decision.rule, verdict: decision.verdict };
            return Err(Held { credential: action.credential.clone(), reason, until: Some(now.plus(POLICY_RETRY)) });
        };
        let started = match &action.kind {
            ActionKind::Issue(issue) => self.begin_issue(&desk, action, issue, (&decision, leave), now, opening),
            ActionKind::Reinstall(slot) => {
                self.begin_reinstall(&desk, action, *slot, (&decision, leave), now, &mut opening.batch)
            }
            ActionKind::Resume(id) => {
                let attempt = desk.state.attempts.get(id);
                let attempt = attempt.map(|a| Arc::new(Attempt { not_before: None, ..Attempt::clone(a) }));
                if let Some(attempt) = &attempt {
                    let mut draft = self.draft_for(attempt, "certificate.resume", "KW2005");
                    draft.policy = Some(Self::policy_part(&decision));
                    draft.facts.push(("stage", Json::str(attempt.stage.as_str())));
                    opening.batch.entries.push(draft);
                }
                attempt.map(|attempt| Started { attempt, resumed: true, leave })
            }
        };
        let gone = || Held { credential: action.credential.clone(), reason: HeldReason::Running, until: None };
        drop(desk);
        self.write().declined.remove(&action.credential);
        started.ok_or_else(gone)
    }

    fn begin_issue(
        &self,
        desk: &Desk,
        action: &Action,
        issue: &Issue,
        (decision, leave): (&Decision, Leave),
        now: Timestamp,
        Opening { batch, booked }: &mut Opening,
    ) -> Option<Started> {
        let managed = desk.estate.credentials.get(&action.credential)?.managed()?;
        let id = AttemptId(self.fresh_ulid());
        let mut intent = self.intent(action, id, "certificate.issue", "KW2001", decision);
        let detail = Some(issue.trigger.detail()).filter(|detail| !detail.is_empty());
        intent.facts = vec![
            ("detail", Json::opt(detail.map(|detail| Json::str(detail.to_owned())))),
            ("issuer", Json::shared(&issue.issuer)),
            ("names", Json::shared(&managed.names)),
            ("replaces", Json::opt(issue.replaces.as_ref().map(|id| Json::Shared(id.0.clone())))),
            ("spender", Json::str(if issue.spender == Spender::Human { "human" } else { "automation" })),
            ("trigger", Json::str(issue.trigger.as_str())),
        ];
        if let Trigger::Manual(by) = &issue.trigger {
            intent.actor = Actor::Human(by.clone());
        }
        let attempt = Arc::new(Attempt {
            id,
            credential: action.credential.clone(),
            issuer: issue.issuer.clone(),
            names: managed.names.clone(),
            trigger: issue.trigger.clone(),
            replaces: issue.replaces.clone(),
            began: now,
            intent: intent.id,
            stage: Stage::Begun,
            failures: 0,
            not_before: None,
        });
        // The attempt and the clocks come after them.
        batch.changes.reserve(issue.spends.len().saturating_add(2));
        let taken = issue.spends.iter();
        let taken = taken.map(|s| Change::Bucket(s.bucket.clone(), booked.take(&desk.state.ledger, s, now)));
        batch.changes.extend(taken);
        batch.changes.push(Change::Attempt(attempt.clone()));
        batch.entries.push(intent);
        Some(Started { attempt, resumed: false, leave })
    }

    fn begin_reinstall(
        &self,
        desk: &Desk,
        action: &Action,
        slot: AttemptId,
        (decision, leave): (&Decision, Leave),
        now: Timestamp,
        batch: &mut Batch,
    ) -> Option<Started> {
        let current = desk.state.credentials.get(&action.credential)?.current.as_ref()?;
        let mut intent = self.intent(action, slot, "certificate.install", "KW2004", decision);
        intent.target.serial = Some(current.serial.clone());
        let why: Arc<str> = Arc::from("the installed files are missing or damaged");
        intent.facts.push(("detail", Json::str(why.to_string())));
        let attempt = Arc::new(Attempt {
            id: slot,
            credential: action.credential.clone(),
            issuer: current.issuer.clone(),
            names: current.names.clone(),
            trigger: Trigger::Repair(why),
            replaces: None,
            began: now,
            intent: intent.id,
            stage: Stage::Issued,
            failures: 0,
            not_before: None,
        });
        batch.changes.push(Change::Attempt(attempt.clone()));
        batch.entries.push(intent);
        Some(Started { attempt, resumed: false, leave })
    }

    fn intent(
        &self,
        action: &Action,
        attempt: AttemptId,
        name: &'static str,
        code: &'static str,
        decision: &Decision,
    ) -> Draft {
        let target = Target::new(TargetKind::Credential, &action.credential);
        let mut draft = self.draft(name, code, target);
        draft.phase = Phase::Intent;
        draft.correlation = Some(attempt);
        draft.policy = Some(Self::policy_part(decision));
        draft
    }

    fn denial(&self, action: &Action, act: Act, decision: &Decision) -> Draft {
        let target = Target::new(TargetKind::Credential, &action.credential);
        let mut draft = self.draft("certificate.issue", "KW2007", target);
        draft.outcome = Some(Outcome::Denied);
        draft.policy = Some(Self::policy_part(decision));
        draft.facts = vec![("act", Json::str(act.as_str())), ("action", Json::show(&action.digest()))];
        let text = format!("{} is held by policy: {} ({})", act.as_str(), decision.rule, decision.verdict.as_str());
        self.notify(&action.credential, "KW2007", Urgency::Act, text);
        draft
    }
}

/// Whether only the end of another attempt can change it.
fn waits_for_others(held: &Held) -> bool {
    match &held.reason {
        HeldReason::InFlight => true,
        HeldReason::Issuers(_) => held.until.is_none(),
        HeldReason::NotDue(_)
        | HeldReason::Backoff
        | HeldReason::Running
        | HeldReason::AutomaticLimit
        | HeldReason::EndsEarlier
        | HeldReason::Window
        | HeldReason::Policy { .. }
        | HeldReason::Frozen(_)
        | HeldReason::Stopped(_) => false,
    }
}

pub(super) fn plan_input<'a>(desk: &'a Desk, due: &'a [CredentialId], now: Timestamp) -> PlanInput<'a> {
    PlanInput {
        estate: &desk.estate,
        state: &desk.state,
        sightings: &desk.sightings,
        running: &desk.running,
        due,
        stopped: desk.clock.fault(),
        now,
    }
}

/// What an action does to what is there: that a person asked for it, or that files are damaged, makes no other act of it.
pub(super) fn act_of(action: &Action, desk: &Desk) -> Act {
    let ordered = |trigger: &Trigger| {
        let managed = desk.estate.credentials.get(&action.credential).and_then(|c| c.managed());
        let current = desk.state.credentials.get(&action.credential).and_then(|record| record.current.as_ref());
        ordered(trigger, current.map(|current| managed.is_some_and(|managed| current.names == managed.names)))
    };
    match &action.kind {
        ActionKind::Issue(issue) => ordered(&issue.trigger),
        ActionKind::Reinstall(_) => Act::Reinstall,
        ActionKind::Resume(id) => match desk.state.attempts.get(id) {
            Some(attempt) if is_reinstalling(attempt, desk) => Act::Reinstall,
            Some(attempt) => ordered(&attempt.trigger),
            None => Act::Issue,
        },
    }
}

/// The act of an order; `same` says whether what is there, if anything is, has the same names.
pub(super) fn ordered(trigger: &Trigger, same: Option<bool>) -> Act {
    match (same, trigger.act()) {
        (None, _) => Act::Issue,
        (Some(false), _) => Act::Reissue,
        (Some(true), Act::Reinstall) => Act::Renew,
        (Some(true), act) => act,
    }
}

/// Whether an attempt installs again what was issued before, and orders nothing.
fn is_reinstalling(attempt: &Attempt, desk: &Desk) -> bool {
    let current = desk.state.credentials.get(&attempt.credential).and_then(|record| record.current.as_ref());
    attempt.trigger.act() == Act::Reinstall && current.is_some_and(|current| current.slot == attempt.id)
}

/// At which issuer it would be done, if any is asked.
fn issuer_of<'a>(action: &'a Action, desk: &'a Desk) -> Option<&'a IssuerId> {
    match &action.kind {
        ActionKind::Issue(issue) => Some(&issue.issuer),
        ActionKind::Resume(id) => desk.state.attempts.get(id).map(|attempt| &attempt.issuer),
        ActionKind::Reinstall(_) => {
            let record = desk.state.credentials.get(&action.credential);
            record.and_then(|record| record.current.as_ref()).map(|current| &current.issuer)
        }
    }
}

/// What policy says about an act on a credential now.
pub(super) fn decision(
    desk: &Desk,
    credential: &CredentialId,
    act: Act,
    issuer: Option<&IssuerId>,
    now: Timestamp,
) -> Decision {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let known = desk.estate.credentials.get(credential);
    let gone = || Subject::new(act, &NONE, 0);
    decide(&known.map_or_else(gone, |known| subject(desk, known, act, issuer, now)), &desk.estate.policy)
}

/// What policy looks at.
pub(super) fn subject<'a>(
    desk: &Desk,
    credential: &'a Credential,
    act: Act,
    issuer: Option<&IssuerId>,
    now: Timestamp,
) -> Subject<'a> {
    let policy = &desk.estate.policy;
    let record = desk.state.credentials.get(&credential.id).map(|record| &**record);
    let paths: Vec<&PathId> =
        desk.estate.paths.values().filter(|p| p.needs.contains(&credential.id)).map(|p| &p.id).collect();
    let recent = policy.setting().recent;
    let failed = record.filter(|r| r.last_failure.as_ref().is_some_and(|f| now.since(f.at) < recent));
    let boot = desk.evaluated.unwrap_or(Boottime::ZERO);
    let flaps = paths.iter().filter_map(|path| desk.standings.get(*path)).map(|standing| standing.closings(boot)).max();
    Subject {
        services: credential.endpoints.len(),
        owner: credential.owner.as_deref(),
        local: policy.local(now),
        failures: Some(failed.map_or(0, |record| record.failures)),
        flaps: Some(flaps.unwrap_or(0)),
        incidents: Some(incidents(desk, record, &paths)),
        issuer: issuer.map(|issuer| history(credential, record, issuer)),
        ..Subject::new(act, &credential.labels, paths.len())
    }
}

/// What is latched over a credential: its paths, its key, the log.
fn incidents(desk: &Desk, record: Option<&CredentialRecord>, paths: &[&PathId]) -> u32 {
    let spki = record.and_then(|record| record.current.as_ref()).map(|current| &current.spki);
    let over = |on: &LatchOn| match on {
        LatchOn::Path(path) => paths.contains(&path),
        LatchOn::Key(key) => Some(key) == spki,
        LatchOn::Log => true,
    };
    let unsaved = desk.unsaved_latches.keys().filter(|on| !desk.state.latches.contains_key(on));
    let count = desk.state.latches.keys().chain(unsaved).filter(|on| over(on)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The usual issuer issued what is in place; where nothing is yet, it is the first of those that are configured.
fn history(credential: &Credential, record: Option<&CredentialRecord>, issuer: &IssuerId) -> History {
    let configured = credential.managed().map_or(&[][..], |managed| &managed.issuers);
    let current = record.and_then(|record| record.current.as_ref()).map(|current| &current.issuer);
    if current.or(configured.first()) == Some(issuer) {
        return History::Usual;
    }
    let previous = record.and_then(|record| record.previous.as_ref()).map(|previous| &previous.issuer);
    if configured.contains(issuer) || previous == Some(issuer) { History::Known } else { History::New }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_judged_by_what_it_does_and_not_by_who_asks_for_it() {
        let asked = Trigger::Manual(Arc::from("uid:0"));
        let lost = Trigger::Repair(Arc::from("the files are damaged and the key store's slot is gone"));
        for (trigger, same, act) in [
            (&asked, None, Act::Issue),
            (&asked, Some(false), Act::Reissue),
            (&asked, Some(true), Act::Renew),
            (&lost, Some(true), Act::Renew),
            (&Trigger::Ari, Some(false), Act::Reissue),
            (&Trigger::Emergency, Some(true), Act::Renew),
        ] {
            assert_eq!(ordered(trigger, same), act, "{trigger:?}, {same:?}");
        }
    }
}
