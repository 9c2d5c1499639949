//! What the outside may see: consistent views over the desk, computed when asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::assessment::Finding;
use crate::domain::certificate::Chain;
use crate::domain::execution::{Attempt, Generation, Trigger};
use crate::domain::gate::{CLOCK_TOLERANCE, Verdict};
use crate::domain::id::{AttemptId, CredentialId, IssuerId, PathId};
use crate::domain::inventory::{Credential, Environment, Estate, Sighting};
use crate::domain::plan::{ActionKind, Held, HeldReason, Issue, plan, schedule_of};
use crate::domain::policy::{Decision, Verdict as Ruling};
use crate::domain::renewal::Schedule;
use crate::domain::state::{CredentialRecord, IssuerRecord, Request};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::cycle::{decision, ordered, plan_input};
use crate::engine::looking::findings;
use crate::engine::{Desk, EVALUATION_DEADLINE, Engine, Seal};
use crate::ports::Store;

/// Everything about one credential at one moment.
#[derive(Clone, Debug)]
pub struct CredentialView {
    /// What it should be.
    pub credential: Arc<Credential>,
    /// What was seen.
    pub sighting: Sighting,
    /// What was done.
    pub record: CredentialRecord,
    /// When it renews.
    pub schedule: Option<Schedule>,
    /// The attempt in flight; what waits for its window says until when, as after a failure.
    pub attempt: Option<Attempt>,
    /// Why nothing is done now, and until when.
    pub held: Option<Held>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The paths that stand on it.
    pub paths: Vec<PathId>,
}

impl CredentialView {
    /// The chain that stands for the credential.
    #[must_use]
    pub fn chain(&self) -> Option<&Arc<Chain>> {
        self.sighting.chain()
    }

    /// The installed generation.
    #[must_use]
    pub fn current(&self) -> Option<&Generation> {
        self.record.current.as_ref()
    }
}

/// The guardian as a whole.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Production or staging.
    pub environment: Environment,
    /// Since when it runs.
    pub started: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// The last completed turn of the loop.
    pub last_cycle: Option<Boottime>,
    /// The loop turned, and is not overdue to turn again.
    pub alive: bool,
    /// Why the clock is not believed.
    pub clock_fault: Option<String>,
    /// Why nothing can be written.
    pub store_fault: Option<String>,
    /// Why the guardian runs sealed: alive, and doing nothing but say so.
    pub sealed: Option<Seal>,
    /// Entries about what was done already that wait to be written into the log.
    pub spooled: u64,
    /// Intents of this run whose outcome could not be written yet.
    pub unresolved: usize,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Per issuer.
    pub issuers: BTreeMap<IssuerId, IssuerRecord>,
}

/// What `renew --plan` shows: what would be done, and what would hold it.
#[derive(Clone, Debug)]
pub struct RenewalPreview {
    /// The order that would be made.
    pub issue: Option<Issue>,
    /// What would hold it.
    pub held: Option<HeldReason>,
    /// What policy says.
    pub decision: Decision,
    /// An attempt that would go on instead.
    pub attempt: Option<Attempt>,
}

impl RenewalPreview {
    /// Whether a request would lead to an order now.
    #[must_use]
    pub fn goes(&self) -> bool {
        self.decision.verdict == Ruling::Proceed && (self.issue.is_some() || self.attempt.is_some())
    }
}

impl Engine {
    /// Where state and audit log are.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        self.ports.store.clone()
    }

    /// The configuration in force, watched files included.
    #[must_use]
    pub fn estate(&self) -> Arc<Estate> {
        self.board().estate.clone()
    }

    /// The verdict over a path as it holds right now; an unknown path is closed.
    #[must_use]
    pub fn gate(&self, path: &PathId) -> Verdict {
        self.at_gate(path, |told| told.verdict.clone())
    }

    /// Since when a path is as it is.
    #[must_use]
    pub fn gate_since(&self, path: &PathId) -> Option<Timestamp> {
        self.at_gate(path, |told| told.since)
    }

    /// All verdicts as they hold right now, with since when each path is as it is.
    #[must_use]
    pub fn gates(&self) -> Vec<(Verdict, Option<Timestamp>)> {
        let told = |path| self.at_gate(path, |told| (told.verdict.clone(), told.since));
        self.estate().paths.keys().map(told).collect()
    }

    /// One credential.
    #[must_use]
    pub fn credential(&self, id: &CredentialId) -> Option<CredentialView> {
        let now = self.ports.clock.now();
        let desk = self.read();
        let credential = desk.estate.credentials.get(id)?;
        Some(view(&desk, credential, now))
    }

    /// All credentials at one moment, in the order of their ids.
    #[must_use]
    pub fn credentials(&self) -> Vec<CredentialView> {
        let now = self.ports.clock.now();
        let desk = self.read();
        desk.estate.credentials.values().map(|c| view(&desk, c, now)).collect()
    }

    /// Calls `each` with every credential at one moment, without copying the inventory: for scrapes.
    pub fn for_each_credential(&self, mut each: impl FnMut(&Credential, Option<&Sighting>, Option<&CredentialRecord>)) {
        let desk = self.read();
        for (id, credential) in &desk.estate.credentials {
            each(credential, desk.sightings.get(id), desk.state.credentials.get(id).map(|record| &**record));
        }
    }

    /// The watches that match no file, with what was found instead.
    #[must_use]
    pub fn empty_watches(&self) -> Vec<(CredentialId, Vec<Finding>)> {
        let now = self.ports.clock.now();
        let desk = self.read();
        let all = desk.estate.watches.keys().map(|id| (id.clone(), findings(&desk, id, now)));
        all.filter(|(_, found)| !found.is_empty()).collect()
    }

    /// The key slot of what is installed for a managed credential.
    #[must_use]
    pub fn installed(&self, id: &CredentialId) -> Option<AttemptId> {
        self.read().state.credentials.get(id)?.current.as_ref().map(|generation| generation.slot)
    }

    /// The guardian as a whole.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let boot = self.ports.clock.boottime();
        let desk = self.read();
        Overview {
            environment: desk.estate.environment,
            started: desk.started,
            now: self.ports.clock.now(),
            last_cycle: desk.last_cycle,
            alive: desk.sealed.is_some() || desk.wakes_by.is_some_and(|by| boot.since(by) <= EVALUATION_DEADLINE),
            clock_fault: desk.clock.fault().map(str::to_owned),
            store_fault: desk.store_fault.clone(),
            sealed: desk.sealed.clone(),
            spooled: desk.spool.len(),
            unresolved: desk.unresolved.len(),
            in_flight: desk.state.attempts.len(),
            issuers: desk
                .estate
                .issuers
                .keys()
                .map(|id| (id.clone(), desk.state.issuers.get(id).cloned().unwrap_or_default()))
                .collect(),
        }
    }

    /// Calls `each` with every limit of every issuer that has a bucket, and how many tokens are left in the emptiest.
    pub fn for_each_limit(&self, mut each: impl FnMut(&IssuerId, &'static str, u32)) {
        let now = self.ports.clock.now();
        let desk = self.read();
        for issuer in desk.estate.issuers.values() {
            for limit in issuer.limits.iter() {
                let buckets =
                    desk.state.ledger.full_at.keys().filter(|b| b.kind() == limit.kind && *b.issuer() == issuer.id);
                let least = buckets.map(|b| desk.state.ledger.remaining(b, limit, now)).min();
                each(&issuer.id, limit.kind.as_str(), least.unwrap_or(limit.capacity));
            }
        }
    }

    /// What a request to renew `id` by `by` would do right now, without doing it. `None` if it is not managed here.
    #[must_use]
    pub fn preview_renewal(&self, id: &CredentialId, by: &str) -> Option<RenewalPreview> {
        let now = self.ports.clock.now();
        let desk = self.read();
        desk.estate.credentials.get(id)?.managed()?;
        let attempt = desk.state.attempt_for(id).map(|attempt| Attempt::clone(attempt));
        let mut state = crate::domain::state::State { ledger: desk.state.ledger.clone(), ..Default::default() };
        let mut record = CredentialRecord::clone(&desk.state.credential(id));
        record.requested = Some(Request { by: Arc::from(by), at: now });
        record.next_attempt = None;
        state.credentials.insert(id.clone(), Arc::new(record));
        state.issuers = desk.state.issuers.clone();
        state.freezes = desk.state.freezes.clone();
        let due = [id.clone()];
        let made = plan(&crate::domain::plan::PlanInput { state: &state, ..plan_input(&desk, &due, now) });
        let issue = made.actions.into_iter().find_map(|a| match a.kind {
            ActionKind::Issue(issue) => Some(issue),
            ActionKind::Resume(_) | ActionKind::Reinstall(_) => None,
        });
        let first = || desk.estate.credentials.get(id)?.managed()?.issuers.first();
        let issuer = issue.as_ref().map(|issue| &issue.issuer).or_else(first);
        let names = desk.estate.credentials.get(id).and_then(|c| c.managed()).map(|managed| &managed.names);
        let current = desk.state.credentials.get(id).and_then(|record| record.current.as_ref());
        let act = ordered(&Trigger::Manual(Arc::from(by)), current.map(|current| Some(&current.names) == names));
        let decision = decision(&desk, id, act, issuer, now);
        Some(RenewalPreview { issue, held: made.held.into_iter().next().map(|h| h.reason), decision, attempt })
    }
}

fn view(desk: &Desk, credential: &Arc<Credential>, now: Timestamp) -> CredentialView {
    let id = &credential.id;
    let record = desk.state.credential(id);
    let held = desk.held.get(id).cloned();
    let waits = |held: &&Held| held.reason == HeldReason::Window || held.reason.frozen_by().is_some();
    let waits = held.as_ref().filter(waits).and_then(|h| h.until);
    let mut attempt = desk.state.attempt_for(id).map(|attempt| Attempt::clone(attempt));
    if let Some(attempt) = &mut attempt {
        attempt.not_before = attempt.not_before.or(waits);
    }
    CredentialView {
        sighting: desk.sightings.get(id).cloned().unwrap_or_default(),
        schedule: credential.managed().and_then(|m| schedule_of(m, &record)),
        attempt: attempt.map(|attempt| desk.people.named_attempt(attempt)),
        held,
        findings: findings(desk, id, now)
            .into_iter()
            .chain(desk.use_findings.get(id).into_iter().flatten().cloned())
            .collect(),
        paths: desk.estate.paths.values().filter(|p| p.needs.contains(id)).map(|p| p.id.clone()).collect(),
        credential: credential.clone(),
        record: desk.people.named(CredentialRecord::clone(&record)),
    }
}

/// How far the clocks may part; printed where the gate's rules are explained.
pub const CLOCKS_MAY_PART_BY: core::time::Duration = CLOCK_TOLERANCE;
