//! The plan: what to do now, what is held and why, and when to look again.
//!
//! [`plan`] only computes; [`crate::domain::check`] is written separately and must accept every plan before anything of it
//! runs.
//! Refuses to know how an action is carried out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use crate::domain::breaker::{BREAKER_THRESHOLD, Breaker, breaker};
use crate::domain::certificate::CertId;
use crate::domain::execution::{Attempt, Fault, Stage, Trigger};
use crate::domain::frozen::{Frozen, frozen, holds, last_safe_moment};
pub use crate::domain::held::{Held, HeldReason, Out, OutWhy};
use crate::domain::id::{AttemptId, CredentialId, IssuerId};
use crate::domain::inventory::{Ari, Credential, Estate, Issuer, Managed, Seen, Sighting};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::limits::{
    Bookings, BucketKey, Exhausted, Ledger, Spend, Spender, automatic_span, failure_spends, order_spends,
};
use crate::domain::name::NameSet;
use crate::domain::renewal::{Rule, Schedule, schedule};
use crate::domain::state::{Change, CredentialRecord, State};
use crate::domain::successor::{held_until, is_refused};
use crate::domain::time::{DAY, Timestamp};

/// What a plan is made from. `due` names the credentials to consider; all others are left alone.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// What should be.
    pub estate: &'a Estate,
    /// What is durable.
    pub state: &'a State,
    /// What was seen.
    pub sightings: &'a BTreeMap<CredentialId, Sighting>,
    /// Attempts that are being carried out right now.
    pub running: &'a BTreeSet<AttemptId>,
    /// Which credentials to consider.
    pub due: &'a [CredentialId],
    /// Why nothing may be started at all (a clock fault), if so.
    pub stopped: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When it was made.
    pub at: Timestamp,
    /// The actions, most urgent first.
    pub actions: Vec<Action>,
    /// What is not done, and why.
    pub held: Vec<Held>,
}

/// One action: complete, so that the executor never chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// For which credential.
    pub credential: CredentialId,
    /// What.
    pub kind: ActionKind,
}

/// The kinds of action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Begin an attempt.
    Issue(Issue),
    /// Go on with an attempt that is durable but not running: after a restart, a backoff, or a window's opening.
    Resume(AttemptId),
    /// Install again what was issued already, because the stored files are missing or damaged.
    Reinstall(AttemptId),
}

/// A new attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// At which issuer.
    pub issuer: IssuerId,
    /// Why.
    pub trigger: Trigger,
    /// What it replaces, when the CA is told.
    pub replaces: Option<CertId>,
    /// What it takes from the ledger.
    pub spends: Vec<Spend>,
    /// Who spends.
    pub spender: Spender,
}

impl Action {
    /// SHA-256 over the canonical form: what an approval binds to.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let kind = match &self.kind {
            ActionKind::Issue(issue) => Json::obj([
                ("issue", Json::str(issue.trigger.act().as_str())),
                ("issuer", Json::str(issue.issuer.as_str().to_owned())),
                ("trigger", Json::str(issue.trigger.as_str())),
                ("replaces", Json::opt(issue.replaces.as_ref().map(Json::show))),
            ]),
            ActionKind::Resume(id) => Json::obj([("resume", Json::show(id))]),
            ActionKind::Reinstall(id) => Json::obj([("reinstall", Json::show(id))]),
        };
        let credential = Json::str(self.credential.as_str().to_owned());
        Digest::of(&Json::obj([("credential", credential), ("kind", kind)]).canonical())
    }
}

/// The time and rule of the next renewal of what is installed, if anything is.
#[must_use]
pub fn schedule_of(managed: &Managed, record: &CredentialRecord) -> Option<Schedule> {
    let current = record.current.as_ref()?;
    let ari = record.ari.as_ref().filter(|_| managed.renewal.ari == Ari::Ask);
    let picked = ari.filter(|a| Some(&a.cert_id) == current.cert_id.as_ref()).and_then(|a| a.picked);
    Some(schedule(&current.validity, &managed.renewal, picked, &current.fingerprint))
}

/// What a credential needs now.
enum Need {
    Issue(Trigger),
    Reinstall(AttemptId),
    Wait(HeldReason, Timestamp),
}

fn need<'a>(
    managed: &Managed,
    sighting: impl FnOnce() -> Option<&'a Sighting>,
    record: &CredentialRecord,
    now: Timestamp,
) -> Need {
    if let Some(request) = &record.requested {
        return Need::Issue(Trigger::Manual(request.by.clone()));
    }
    let Some(current) = &record.current else { return Need::Issue(Trigger::First) };
    if current.names != managed.names {
        let why = format!("names were {}, are now {}", current.names, managed.names);
        return Need::Issue(Trigger::Changed(Arc::from(why)));
    }
    let Some(schedule) = schedule_of(managed, record) else { return Need::Issue(Trigger::First) };
    let mut wait = (HeldReason::NotDue(schedule.rule), schedule.renew_at);
    if now >= schedule.renew_at {
        let trigger = match schedule.rule {
            _ if now >= schedule.emergency_at => Trigger::Emergency,
            Rule::Ari => Trigger::Ari,
            Rule::Lifetime => Trigger::Lifetime,
            Rule::Emergency => Trigger::Emergency,
        };
        match refused_until(managed, record, &trigger, now) {
            None => return Need::Issue(trigger),
            // That may take weeks, in which what is there is repaired as before.
            Some(until) => wait = (HeldReason::EndsEarlier, until),
        }
    }
    let damaged = match sighting().and_then(|s| s.stored.as_ref()).map(|o| &o.seen) {
        Some(Seen::Missing | Seen::Unparseable(_)) => !managed.installs.is_empty(),
        Some(Seen::Present(_) | Seen::Unreadable(_) | Seen::Unreachable(_)) | None => false,
    };
    match (damaged, slot_lost(record)) {
        (true, true) => {
            Need::Issue(Trigger::Repair(Arc::from("the files are damaged and the key store's slot is gone")))
        }
        (true, false) => Need::Reinstall(current.slot),
        (false, _) => Need::Wait(wait.0, wait.1),
    }
}

/// The code of the failure that says that what was issued is not in the key store any more.
pub const SLOT_LOST: &str = "KW2201";

pub(super) fn slot_lost(record: &CredentialRecord) -> bool {
    record.last_failure.as_ref().is_some_and(|f| &*f.code == SLOT_LOST)
}

/// Makes a plan for the credentials that are due. Pure; planning twice gives the same plan.
#[must_use]
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let mut book = Book::open(input);
    let empty = CredentialRecord::default();
    let mut wanted: Vec<(Urgency, &CredentialId, &CredentialRecord)> = Vec::with_capacity(input.due.len());
    wanted.extend(input.due.iter().map(|id| {
        let record = input.state.credentials.get(id).map_or(&empty, |record| &**record);
        (urgency_of(record, input.now), id, record)
    }));
    wanted.sort_by_key(|(urgency, id, _)| (*urgency, *id));
    wanted.dedup_by(|a, b| a.1 == b.1);
    book.left = wanted.len();
    let mut out = Plan { at: input.now, actions: Vec::new(), held: Vec::new() };
    for (_, id, record) in wanted {
        book.left = book.left.saturating_sub(1);
        let Some(credential) = input.estate.credentials.get(id) else { continue };
        let Some(managed) = credential.managed() else { continue };
        match consider(input, &mut book, credential, managed, record) {
            Ok(kind) => out.actions.push(Action { credential: id.clone(), kind }),
            Err((reason, until)) => out.held.push(Held { credential: id.clone(), reason, until }),
        }
    }
    out
}

/// Who goes first: people's requests, then what ends first. The less, the more urgent.
pub type Urgency = (bool, Timestamp);

/// What has nothing yet counts as if it ended after this: a crowd of new credentials must not keep a renewal waiting that
/// has less left, nor a crowd of renewals the new ones.
const FIRST_COUNTS_AS: Duration = DAY;

/// How urgent a credential is now.
#[must_use]
pub fn urgency(state: &State, id: &CredentialId, now: Timestamp) -> Urgency {
    state.credentials.get(id).map_or((true, now.plus(FIRST_COUNTS_AS)), |record| urgency_of(record, now))
}

fn urgency_of(record: &CredentialRecord, now: Timestamp) -> Urgency {
    let ends = record.current.as_ref().map(|g| g.validity.not_after);
    (record.requested.is_none(), ends.unwrap_or(now.plus(FIRST_COUNTS_AS)))
}

type Hold = (HeldReason, Option<Timestamp>);

/// What holds a credential that needs nothing now; `None` if a plan has to consider it. The answer is the same as that of
/// a plan.
#[must_use]
pub fn rests(input: &PlanInput<'_>, id: &CredentialId) -> Option<Held> {
    let managed = input.estate.credentials.get(id)?.managed()?;
    if input.stopped.is_some() || input.state.attempt_for(id).is_some() {
        return None;
    }
    match need(managed, || input.sightings.get(id), &input.state.credential(id), input.now) {
        Need::Wait(reason, until) => Some(Held { credential: id.clone(), reason, until: Some(until) }),
        Need::Issue(_) | Need::Reinstall(_) => None,
    }
}

fn consider<'a>(
    input: &PlanInput<'a>,
    book: &mut Book<'a>,
    credential: &Credential,
    managed: &'a Managed,
    record: &CredentialRecord,
) -> Result<ActionKind, Hold> {
    if let Some(why) = input.stopped {
        return Err((HeldReason::Stopped(why.to_owned()), None));
    }
    if let Some(attempt) = book.attempt(&credential.id) {
        return resume(input, book, credential, managed, attempt);
    }
    let frozen_at = |issuer: Option<&IssuerId>| is_frozen(input, credential, managed, record, issuer);
    match need(managed, || input.sightings.get(&credential.id), record, input.now) {
        Need::Wait(reason, until) => Err((reason, Some(until))),
        Need::Reinstall(slot) => {
            frozen_at(record.current.as_ref().map(|g| &g.issuer)).map_or(Ok(()), Err)?;
            match record.next_attempt.filter(|t| *t > input.now) {
                Some(until) => Err((HeldReason::Backoff, Some(until))),
                None => Ok(ActionKind::Reinstall(slot)),
            }
        }
        Need::Issue(trigger) => {
            frozen_at(None).map_or(Ok(()), Err)?;
            issue(input, book, credential, managed, record, trigger).map(ActionKind::Issue)
        }
    }
}

/// What a freeze says about a credential's actions at `issuer`.
fn is_frozen(
    input: &PlanInput<'_>,
    credential: &Credential,
    managed: &Managed,
    record: &CredentialRecord,
    issuer: Option<&IssuerId>,
) -> Option<Hold> {
    if input.state.freezes.is_empty() {
        return None;
    }
    let schedule = schedule_of(managed, record);
    let found = frozen(input.estate, input.state, credential, issuer, schedule.as_ref(), input.now);
    found.map(|Frozen { by, until }| (HeldReason::Frozen(by), Some(until)))
}

/// Whether a renewal is still before its last safe moment; what is not there yet has none.
fn can_wait(input: &PlanInput<'_>, credential: &Credential, managed: &Managed, record: &CredentialRecord) -> bool {
    let schedule = schedule_of(managed, record);
    schedule.is_none_or(|schedule| input.now < last_safe_moment(input.estate, &credential.id, &schedule))
}

/// Whether an attempt that is not running may go on. An installation waits for its window, but never past the emergency
/// point of what it replaces.
fn resume<'a>(
    input: &PlanInput<'a>,
    book: &mut Book<'a>,
    credential: &Credential,
    managed: &Managed,
    attempt: &'a Attempt,
) -> Result<ActionKind, Hold> {
    if input.running.contains(&attempt.id) {
        return Err((HeldReason::Running, None));
    }
    if holds(&attempt.stage) {
        let record = input.state.credential(&attempt.credential);
        is_frozen(input, credential, managed, &record, Some(&attempt.issuer)).map_or(Ok(()), Err)?;
    }
    if let Some(until) = attempt.not_before.filter(|t| *t > input.now) {
        return Err((HeldReason::Backoff, Some(until)));
    }
    if attempt.stage == Stage::Issued {
        let record = input.state.credentials.get(&attempt.credential).map(|record| &**record);
        if let Some(until) = window_hold(managed, record, input.now) {
            return Err((HeldReason::Window, Some(until)));
        }
    } else if book.count(&attempt.issuer) >= input.estate.orders_in_flight {
        return Err((HeldReason::InFlight, None));
    } else {
        book.flies(&attempt.issuer, &attempt.names);
    }
    Ok(ActionKind::Resume(attempt.id))
}

/// Until when the deployment windows hold an installation; `None` if it may go on now.
#[must_use]
pub fn window_hold(managed: &Managed, record: Option<&CredentialRecord>, now: Timestamp) -> Option<Timestamp> {
    if managed.windows.is_empty() || managed.windows.iter().any(|w| w.is_open(now)) {
        return None;
    }
    // With nothing in place yet there is nothing that a window could protect.
    let schedule = schedule_of(managed, record?)?;
    let opens = managed.windows.iter().filter_map(|w| w.next_open(now)).min()?;
    let until = opens.min(schedule.emergency_at);
    (until > now).then_some(until)
}

fn issue<'a>(
    input: &PlanInput<'a>,
    book: &mut Book<'a>,
    credential: &Credential,
    managed: &'a Managed,
    record: &CredentialRecord,
    trigger: Trigger,
) -> Result<Issue, Hold> {
    let spender = spender(&trigger, record);
    if let Some(until) = record.next_attempt.filter(|t| *t > input.now) {
        return Err((HeldReason::Backoff, Some(until)));
    }
    let ledger = &input.state.ledger;
    if spender == Spender::Automation {
        let (span, in_flight) = (automatic_span(lifetime(record)), book.same_set(&managed.names));
        let room = ledger.check_automatic(managed.names.set(), span, in_flight, input.now);
        room.map_err(|t| (HeldReason::AutomaticLimit, Some(t)))?;
    }
    let mut out: Vec<Out> = Vec::new();
    let mut first: Option<(Timestamp, Option<Exhausted>)> = None;
    let mut sooner = |until: Timestamp, exhausted: Option<Exhausted>| {
        if first.as_ref().is_none_or(|(first, _)| until < *first) {
            first = Some((until, exhausted));
        }
    };
    let (mut full, mut frozen) = (false, None);
    for id in candidates(managed, record) {
        let Some(issuer) = input.estate.issuers.get(id) else { continue };
        match book.breaker(id, input.now) {
            Breaker::Open(until) if !asked_since(record) => {
                out.push(Out { issuer: id.clone(), why: OutWhy::Rests(until) });
                sooner(until, None);
                continue;
            }
            Breaker::Open(_) | Breaker::Trial if book.count(id) > 0 => {
                out.push(Out { issuer: id.clone(), why: OutWhy::OnTrial });
                full = true;
                continue;
            }
            Breaker::Open(_) | Breaker::Trial | Breaker::Closed => {}
        }
        // A CA may give an identical open order again (as Boulder does), and one order is no good for two keys.
        if book.count(id) >= input.estate.orders_in_flight || book.flying.contains(&(id, &managed.names)) {
            full = true;
            continue;
        }
        if let Some((reason, until)) = is_frozen(input, credential, managed, record, Some(id)) {
            frozen = Some(reason);
            until.into_iter().for_each(|until| sooner(until, None));
            // What can wait, waits: a freeze is no reason to go to another CA. What cannot, goes to one that is not frozen.
            if can_wait(input, credential, managed, record) {
                break;
            }
            continue;
        }
        let replaces = replaces(record, id);
        let spends = spends(issuer, managed, record, replaces.as_ref(), input.now);
        let failures = failure_spends(&issuer.id, &issuer.limits, managed.names.iter());
        match book.book(&spends, failures, spender, input.now) {
            Ok(()) => {
                if book.left > 0 {
                    book.flies(&issuer.id, &managed.names);
                    book.planned.push(&managed.names);
                }
                return Ok(Issue { issuer: issuer.id.clone(), trigger, replaces, spends, spender });
            }
            Err(e) => {
                let (kind, key, until) = (e.bucket.kind(), e.bucket.key().clone(), e.until);
                out.push(Out { issuer: id.clone(), why: OutWhy::Limit { kind, key, until } });
                sooner(book.turn(&e), Some(e));
            }
        }
    }
    if full {
        return Err((HeldReason::InFlight, None));
    }
    let until = first.map(|(until, exhausted)| {
        exhausted.into_iter().for_each(|e| book.queue(e.bucket));
        until
    });
    Err((frozen.unwrap_or(HeldReason::Issuers(out)), until))
}

/// Until when nothing is ordered because the last certificate was refused for its end.
pub(super) fn refused_until(
    managed: &Managed,
    record: &CredentialRecord,
    trigger: &Trigger,
    now: Timestamp,
) -> Option<Timestamp> {
    record.last_failure.as_ref()?;
    let emergency_at = schedule_of(managed, record)?.emergency_at;
    held_until(record, trigger, managed.renewal.ari, managed.issuers.len(), emergency_at, now)
}

/// A person's request may spend the reserve once; when that has failed, automation tries it again within its own limits.
#[must_use]
pub fn spender(trigger: &Trigger, record: &CredentialRecord) -> Spender {
    let failed_at = record.last_failure.as_ref().map(|f| f.at);
    let fresh = record.requested.as_ref().is_some_and(|r| failed_at.is_none_or(|failed| failed < r.at));
    if matches!(trigger, Trigger::Manual(_)) && fresh { Spender::Human } else { Spender::Automation }
}

/// The issuers in the order to try them: as configured, but after a failure that another CA could mend, two tries each.
fn candidates<'a>(managed: &'a Managed, record: &CredentialRecord) -> impl Iterator<Item = &'a IssuerId> + use<'a> {
    let elsewhere = record.last_failure.as_ref().is_some_and(|f| matches!(f.fault, Fault::Issuer | Fault::Network));
    // The same CA would only issue for the same time again.
    let tries = if is_refused(record) { 1 } else { 2 };
    let turns = if elsewhere { usize::try_from(record.failures / tries).unwrap_or(0) } else { 0 };
    let len = managed.issuers.len().max(1);
    let (head, tail) = managed.issuers.split_at_checked(turns.checked_rem(len).unwrap_or(0)).unwrap_or((&[], &[]));
    tail.iter().chain(head)
}

/// A renewal names what it replaces only to the CA that issued it (RFC 9773 section 5), and not after a refusal.
fn replaces(record: &CredentialRecord, issuer: &IssuerId) -> Option<CertId> {
    let current = record.current.as_ref().filter(|g| g.issuer == *issuer)?;
    let ari = record.ari.as_ref()?;
    (Some(&ari.cert_id) == current.cert_id.as_ref() && ari.window.is_some()).then(|| ari.cert_id.clone())
}

/// What an order takes from the ledger: nothing inside the CA's own window when it is told what is replaced (the CA
/// exempts it), else a token of each limit.
fn spends(
    issuer: &Issuer,
    managed: &Managed,
    record: &CredentialRecord,
    replaces: Option<&CertId>,
    now: Timestamp,
) -> Vec<Spend> {
    if is_exempt(record, replaces, now) { Vec::new() } else { order_spends(&issuer.id, &issuer.limits, &managed.names) }
}

/// Inside the CA's own window, and the CA is told what is replaced: its limits do not count then (RFC 9773 section 5, and
/// Let's Encrypt's documentation).
fn is_exempt(record: &CredentialRecord, replaces: Option<&CertId>, at: Timestamp) -> bool {
    let window = record.ari.as_ref().and_then(|a| a.window);
    replaces.is_some() && window.is_some_and(|(start, end)| start <= at && at < end)
}

/// Whether a person asked after the last failure: then they know of it, and an issuer that rests gets one trial. The
/// tries that follow are the guardian's own again.
pub(super) fn asked_since(record: &CredentialRecord) -> bool {
    record.requested.as_ref().is_some_and(|r| record.last_failure.as_ref().is_none_or(|f| f.at <= r.at))
}

/// The running sums while a plan is made: what the actions so far will have taken.
struct Book<'a> {
    state: &'a State,
    booked: Bookings,
    /// By credential.
    in_flight: Vec<(&'a CredentialId, &'a Arc<Attempt>)>,
    /// Orders that are being carried out: a handful. One that is put aside takes no place: it may be stuck at its CA for
    /// weeks.
    flying: Vec<(&'a IssuerId, &'a NameSet)>,
    planned: Vec<&'a NameSet>,
    /// How many wait for a token of each bucket that has none.
    queues: Vec<(BucketKey, u32)>,
    /// How many are still to be considered: for the last, nothing has to be noted.
    left: usize,
}

/// The lifetime of what is installed.
pub(super) fn lifetime(record: &CredentialRecord) -> Option<Duration> {
    record.current.as_ref().map(|g| g.validity.lifetime())
}

impl<'a> Book<'a> {
    fn open(input: &PlanInput<'a>) -> Self {
        let mut in_flight: Vec<_> = input.state.attempts.values().map(|a| (&a.credential, a)).collect();
        in_flight.sort_unstable_by_key(|(credential, _)| *credential);
        let mut book = Self {
            state: input.state,
            booked: Bookings::default(),
            in_flight,
            flying: Vec::new(),
            planned: Vec::new(),
            queues: Vec::new(),
            left: 0,
        };
        let ordering = input.running.iter().filter_map(|id| input.state.attempts.get(id));
        ordering.filter(|a| a.stage != Stage::Issued).for_each(|a| book.flies(&a.issuer, &a.names));
        book
    }

    fn attempt(&self, credential: &CredentialId) -> Option<&'a Arc<Attempt>> {
        let found = self.in_flight.binary_search_by_key(&credential, |(own, _)| own);
        found.ok().and_then(|i| self.in_flight.get(i)).map(|(_, attempt)| *attempt)
    }

    fn flies(&mut self, issuer: &'a IssuerId, names: &'a NameSet) {
        self.flying.push((issuer, names));
    }

    fn count(&self, issuer: &IssuerId) -> usize {
        self.flying.iter().filter(|(own, _)| *own == issuer).count()
    }

    /// How many attempts for exactly these names are in flight or planned.
    fn same_set(&self, names: &NameSet) -> usize {
        let open = self.in_flight.iter().filter(|(_, a)| a.stage != Stage::Issued && a.names == *names).count();
        open.saturating_add(self.planned.iter().filter(|n| **n == names).count())
    }

    fn breaker(&self, issuer: &IssuerId, now: Timestamp) -> Breaker {
        breaker(self.state.issuers.get(issuer), now)
    }

    fn book(
        &mut self,
        spends: &[Spend],
        needs: impl Iterator<Item = Spend>,
        spender: Spender,
        now: Timestamp,
    ) -> Result<(), Exhausted> {
        let ledger = &self.state.ledger;
        if self.left > 0 {
            return self.booked.book(ledger, spends, needs, spender, now);
        }
        self.booked.check(ledger, spends, spender, now)?;
        self.booked.check(ledger, needs, spender, now)
    }

    /// When it is the turn of the next that waits for a token of this bucket: each of those before it, who are more
    /// urgent, takes one. Were all told the time of the first token, all would be planned again at it, for one to begin.
    fn turn(&self, exhausted: &Exhausted) -> Timestamp {
        let before = self.queues.iter().find(|(bucket, _)| *bucket == exhausted.bucket).map_or(0, |(_, n)| *n);
        exhausted.until.plus(exhausted.refill.saturating_mul(before))
    }

    fn queue(&mut self, bucket: BucketKey) {
        match self.queues.iter_mut().find(|(own, _)| *own == bucket) {
            Some((_, waiting)) => *waiting = waiting.saturating_add(1),
            None => self.queues.push((bucket, 1)),
        }
    }
}

/// The changes that book an order.
#[must_use]
pub fn ledger_changes(ledger: &Ledger, spends: &[Spend], now: Timestamp) -> Vec<Change> {
    spends.iter().map(|s| Change::Bucket(s.bucket.clone(), ledger.after(s, now))).collect()
}

/// What an attempt that ended without a certificate gives back to the ledger: what counts only at issuance.
#[must_use]
pub fn refunds(
    attempt: &Attempt,
    issuer: &Issuer,
    record: &CredentialRecord,
    ledger: &Ledger,
    now: Timestamp,
) -> Vec<Change> {
    if is_exempt(record, attempt.replaces.as_ref(), attempt.began) {
        return Vec::new();
    }
    let spends = order_spends(&issuer.id, &issuer.limits, &attempt.names);
    spends
        .iter()
        .filter_map(|s| Some(Change::Bucket(s.bucket.clone(), ledger.refunded(s, attempt.began, now)?)))
        .collect()
}
