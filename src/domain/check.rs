//! The plan checker: every plan must pass it before anything of it runs.
//!
//! It is written apart from what makes plans and uses none of it but the definitions of the rules themselves. Refuses to
//! mend: a plan that breaks a rule is a defect, and nothing of it happens.

use crate::domain::execution::{Stage, Trigger};
use crate::domain::frozen::{frozen, holds};
use crate::domain::id::{CredentialId, IssuerId};
use crate::domain::inventory::{Credential, Managed};
use crate::domain::limits::{Bookings, Spend, Spender, automatic_span};
use crate::domain::name::NameSet;
use crate::domain::plan::{
    ActionKind, Breaker, Issue, Plan, PlanInput, asked_since, breaker, lifetime, refused_until, schedule_of, slot_lost,
};
use crate::domain::state::CredentialRecord;
use crate::domain::time::{Timestamp, human_span};

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{credential}: {what}")]
pub struct Violation {
    /// Which credential.
    pub credential: CredentialId,
    /// Which rule.
    pub what: String,
}

/// Checks a plan against the rules, without using what made it. Nothing of a plan runs that breaks one.
///
/// # Errors
/// The first [`Violation`].
pub fn check(plan: &Plan, input: &PlanInput<'_>) -> Result<(), Violation> {
    let mut acted: Vec<&CredentialId> = plan.actions.iter().map(|action| &action.credential).collect();
    acted.sort_unstable();
    if let Some(twice) = acted.windows(2).find_map(|pair| pair.first().filter(|id| pair.last() == Some(*id))) {
        return Err(Violation { credential: CredentialId::clone(twice), what: "has two actions".into() });
    }
    let mut booked = Bookings::default();
    let mut orders = Orders::default();
    let mut planned: Vec<&NameSet> = Vec::new();
    for attempt in input.state.attempts.values().filter(|a| a.stage != Stage::Issued && input.running.contains(&a.id)) {
        orders.add(&attempt.issuer);
    }
    for (index, action) in plan.actions.iter().enumerate() {
        // For the last, nothing has to be noted.
        let more = index.saturating_add(1) < plan.actions.len();
        let fail = |what: String| Err(Violation { credential: action.credential.clone(), what });
        if input.stopped.is_some() {
            return fail("is acted on although everything is stopped".into());
        }
        let known = input.estate.credentials.get(&action.credential);
        let Some((credential, managed)) = known.and_then(|c| Some((c, c.managed()?))) else {
            return fail("is not managed".into());
        };
        if let Some(what) = check_freezes(plan.at, input, credential, managed, &action.kind) {
            return fail(what);
        }
        let own = input.state.attempts.values().find(|a| a.credential == action.credential);
        match &action.kind {
            ActionKind::Resume(id) => match own {
                Some(a) if a.id == *id && !input.running.contains(id) && a.not_before.is_none_or(|t| t <= plan.at) => {
                    if a.stage != Stage::Issued && orders.add(&a.issuer) > input.estate.orders_in_flight {
                        return fail(format!("is one order too many at {}", a.issuer));
                    }
                }
                _ => return fail("is resumed without an attempt that may go on".into()),
            },
            ActionKind::Reinstall(slot) => {
                let known = input.state.credentials.get(&action.credential).and_then(|r| r.current.as_ref());
                if own.is_some() || known.is_none_or(|g| g.slot != *slot) {
                    return fail("reinstalls what is not its current generation".into());
                }
            }
            ActionKind::Issue(issue) => {
                if own.is_some() {
                    return fail("has an attempt in flight already".into());
                }
                let record = input.state.credential(&action.credential);
                let flying = input.state.attempts.values().filter(|a| a.stage != Stage::Issued).map(|a| &a.names);
                let same = flying.chain(planned.iter().copied()).filter(|n| **n == managed.names).count();
                if let Err(what) = check_issue(plan.at, input, managed, &record, issue, same) {
                    return fail(what);
                }
                if orders.add(&issue.issuer) > input.estate.orders_in_flight {
                    return fail(format!("is one order too many at {}", issue.issuer));
                }
                let (ledger, spends) = (&input.state.ledger, &*issue.spends);
                let room = if more {
                    planned.push(&managed.names);
                    booked.book(ledger, spends, NOTHING, issue.spender, plan.at)
                } else {
                    booked.check(ledger, spends, issue.spender, plan.at)
                };
                if let Err(e) = room {
                    return fail(format!("exceeds the limit {} until {}", e.bucket.kind().as_str(), e.until));
                }
            }
        }
    }
    let mut held: Vec<&CredentialId> = plan.held.iter().map(|h| &h.credential).collect();
    held.sort_unstable();
    let lost = input.due.iter().find(|id| {
        let told = held.binary_search(id).is_ok() || acted.binary_search(id).is_ok();
        !told && input.estate.credentials.get(*id).is_some_and(|c| c.managed().is_some())
    });
    match lost {
        Some(id) => Err(Violation { credential: id.clone(), what: "is due, and neither acted on nor held".into() }),
        None => Ok(()),
    }
}

/// Nothing that a freeze holds is acted on.
fn check_freezes(
    at: Timestamp,
    input: &PlanInput<'_>,
    credential: &Credential,
    managed: &Managed,
    kind: &ActionKind,
) -> Option<String> {
    if input.state.freezes.is_empty() {
        return None;
    }
    let record = input.state.credential(&credential.id);
    let attempt = |id| input.state.attempts.get(id).filter(|attempt| holds(&attempt.stage));
    let issuer = match kind {
        ActionKind::Issue(issue) => Some(&issue.issuer),
        ActionKind::Resume(id) => Some(&attempt(id)?.issuer),
        ActionKind::Reinstall(_) => record.current.as_ref().map(|g| &g.issuer),
    };
    let schedule = schedule_of(managed, &record);
    let frozen = frozen(input.estate, input.state, credential, issuer, schedule.as_ref(), at)?;
    let (freeze, _) = frozen.by.first()?;
    Some(format!("is acted on although freeze {freeze} holds it until {}", frozen.until))
}

/// No spend that must be possible besides.
const NOTHING: &[Spend] = &[];

/// How many orders there are at each issuer; there are few issuers.
#[derive(Default)]
struct Orders<'a>(Vec<(&'a IssuerId, usize)>);

impl<'a> Orders<'a> {
    /// One more; gives how many there are then.
    fn add(&mut self, issuer: &'a IssuerId) -> usize {
        if let Some((_, count)) = self.0.iter_mut().find(|(own, _)| *own == issuer) {
            *count = count.saturating_add(1);
            return *count;
        }
        self.0.push((issuer, 1));
        1
    }
}

fn check_issue(
    at: Timestamp,
    input: &PlanInput<'_>,
    managed: &Managed,
    record: &CredentialRecord,
    issue: &Issue,
    same_set: usize,
) -> Result<(), String> {
    if !managed.issuers.contains(&issue.issuer) || !input.estate.issuers.contains_key(&issue.issuer) {
        return Err(format!("is ordered at {}, which it does not name", issue.issuer));
    }
    if let Some(until) = record.next_attempt.filter(|t| *t > at) {
        return Err(format!("is ordered {} too early", human_span(at.until(until))));
    }
    if let Some(until) = refused_until(managed, record, &issue.trigger, at) {
        return Err(format!("is ordered again before {until}, although the last one was refused for its end"));
    }
    if let Breaker::Open(until) = breaker(input.state.issuers.get(&issue.issuer), at)
        && !asked_since(record)
    {
        return Err(format!("is ordered at {} whose breaker is open until {until}", issue.issuer));
    }
    let manual = matches!(issue.trigger, Trigger::Manual(_));
    let human = issue.spender == Spender::Human;
    let request = record.requested.as_ref();
    let spent = request.is_some_and(|r| record.last_failure.as_ref().is_some_and(|f| f.at >= r.at));
    if (human && (!manual || spent)) || (manual && request.is_none()) {
        return Err("spends a human's reserve without a human's request".into());
    }
    let ledger = &input.state.ledger;
    if !human && ledger.check_automatic(managed.names.set(), automatic_span(lifetime(record)), same_set, at).is_err() {
        return Err("would be one automatic issuance too many for these names".into());
    }
    if issue.spends.is_empty()
        && issue.replaces.is_none()
        && !input.estate.issuers.get(&issue.issuer).is_none_or(|i| i.limits.is_empty())
    {
        return Err("takes nothing from the ledger and is not exempt".into());
    }
    let due = schedule_of(managed, record).is_none_or(|s| s.renew_at <= at);
    let changed = record.current.as_ref().is_some_and(|g| g.names != managed.names);
    let repair = matches!(issue.trigger, Trigger::Repair(_)) && slot_lost(record);
    if !(due || changed || manual || repair) {
        return Err("is ordered before it is due".into());
    }
    Ok(())
}
