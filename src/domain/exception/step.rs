//! The one function by which a request changes: an event comes, and is a transition or is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::begin::{at_least, begin};
use super::clock::{Deadline, Moment};
use super::eligible::{Ground, WhyNot, may_approve, may_reject};
use super::event::{Change, Event, Opening, Why};
use super::kind::Stakes;
use super::name::RequestId;
use super::people::{By, Nature, Person, PersonId, Role, principals};
use super::permit::{PERMIT_LIFE, Permit};
use super::refusal::Refusal;
use super::request::{Advice, Found, Request, State};
use super::scope::{BadScope, Scope};
use super::tally::tally;
use super::transition::Transition;
use super::vote::{Ballot, Verdict, Vote};
use crate::domain::time::Timestamp;

/// A person's reason has at most so many bytes: a page of text.
pub const LONGEST_REASON: usize = 2_048;
/// A request is put off at most so often.
pub const MOST_DEFERRALS: u8 = 2;
/// A request has at most so many votes in a round, freezes over it, or opinions about it: more than any quorum needs.
pub const MOST_VOICES: usize = 64;
/// After so many changes of its scope nobody knows any more what was asked for first.
pub const MOST_ROUNDS: u32 = 32;
/// A request has at most so many entries before nothing is written any more that need not be: each round with some freezes and
/// opinions (32 × 8), and what closes it still fits.
pub const MOST_ENTRIES: u32 = 256;
/// No escalation has more steps: some teams with some steps each, and incident command.
pub const MOST_STEPS: u32 = 64;

/// A request after an event, and the one entry that says so. Both are written in one transaction, or neither.
#[derive(Debug)]
pub struct Stepped {
    /// The request now.
    pub request: Request,
    /// What its entry says.
    pub transition: Transition,
    /// The permit, if it was begun: it is given away after the transaction, and there is no other.
    pub permit: Option<Permit>,
}

/// Opens a request: a draft that nobody is asked about yet. `renewed` is the request that it renews, if it does
/// ([`super::renewed_by`]).
///
/// # Errors
/// [`Refusal`] says what is wrong with it.
pub fn open(
    opening: Opening,
    renewed: Option<&Request>,
    ground: &Ground<'_>,
    now: &Moment,
) -> Result<Stepped, Refusal> {
    if let Some(found) = opening.follows {
        return Err(Refusal::Follows { expected: None, found: Some(found) });
    }
    draft(opening, renewed, ground, now)
}

fn draft(opening: Opening, renewed: Option<&Request>, ground: &Ground<'_>, now: &Moment) -> Result<Stepped, Refusal> {
    let now = &now.recorded();
    may_ask(&opening.requester, ground, "open")?;
    believed(now, ground.seen)?;
    reason(&opening.reason)?;
    if opening.scope.round != 1 {
        return Err(stale(&opening.scope, 1, opening.scope.round, opening.scope.hash()));
    }
    opening.scope.check(now.wall, now)?;
    let askers = asking(&opening.requester, ground);
    at_least(&opening.scope, !askers.is_empty(), ground)?;
    renews(&opening.scope, renewed)?;
    let request = Request::opened(&opening, &askers, now);
    let change = Change::Opened { opening: Box::new(opening), askers };
    let transition =
        Transition { request: request.id(), number: 0, at: now.clone(), from: None, to: State::Draft, change };
    Ok(Stepped { request, transition, permit: None })
}

/// Lets an event happen to a request, or says why not. Pure: the same arguments give the same answer.
///
/// # Errors
/// [`Refusal`] says why nothing happens; the request is as it was then.
pub fn step(request: &Request, event: &Event, ground: &Ground<'_>, now: &Moment) -> Result<Stepped, Refusal> {
    let now = &now.recorded();
    let ((to, change), permit) = if let Event::Begun { by, preflight } = event {
        let (change, permit) = begin(request, by, preflight, ground, now)?;
        ((State::Executing, change), Some(permit))
    } else {
        (judge(request, event, ground, now)?, None)
    };
    let (from, number) = (Some(request.state.clone()), request.entries);
    let transition = Transition { request: request.id(), number, at: now.clone(), from, to, change };
    Ok(Stepped { request: request.after(&transition), transition, permit })
}

type Judged = Result<(State, Change), Refusal>;

fn judge(request: &Request, event: &Event, ground: &Ground<'_>, now: &Moment) -> Judged {
    let not_here = || Refusal::State { event: event.name(), state: request.state.as_str() };
    let here = |fits: bool| if fits { Ok(()) } else { Err(not_here()) };
    let state = &request.state;
    let moved = |to: State, by: By, why: Why| Ok((to, Change::Moved { by, why }));
    let plain = |to: State| moved(to, By::Guardian, Why::Plain);
    match event {
        Event::Submitted(by) => {
            here(matches!(state, State::Draft | State::Review))?;
            submit(request, by, ground, now)
        }
        Event::Voted(ballot) => {
            here(state.is_before_people())?;
            vote(request, ballot, ground, now)
        }
        Event::Recommended { by, verdict, reason: why } => {
            here(state.is_before_people())?;
            recommend(request, Advice { by: by.clone(), verdict: *verdict, reason: why.clone() }, ground)
        }
        Event::Deferred { by, until, reason: why } => {
            here(*state == State::Review)?;
            defer(request, by, *until, why, ground, now)
        }
        Event::Resumed(by) => {
            let State::Deferred(until) = state else { return Err(not_here()) };
            match by {
                By::Guardian if !until.is_over(now) => Err(Refusal::NotYet(until.wall)),
                By::Guardian => plain(State::Review),
                By::Person(id) => {
                    may_reject(request, id, ground).map_err(|why| not_you(id, why))?;
                    moved(State::Review, by.clone(), Why::Plain)
                }
            }
        }
        Event::Withdrawn { by, reason: why } => {
            here(matches!(state, State::Draft | State::Review | State::Deferred(_)))?;
            may_take_back(request, by, ground, event.name())?;
            reason(why)?;
            moved(State::Withdrawn, by.clone(), Why::Reason(why.clone()))
        }
        Event::Superseded(by) => {
            here(matches!(state, State::Draft | State::Review | State::Deferred(_)))?;
            if *by == request.id() {
                return Err(Refusal::Nothing("a request does not take its own place"));
            }
            plain(State::Superseded(*by))
        }
        Event::ScopeChanged { by, scope, decide_by } => {
            here(state.is_before_execution())?;
            may_ask(by, ground, event.name())?;
            change_scope(request, by, scope, *decide_by, ground, now)
        }
        Event::Expired => {
            here(state.is_before_execution())?;
            if !request.deadline.is_over(now) {
                return Err(Refusal::NotOver(request.deadline.wall));
            }
            plain(State::Expired)
        }
        Event::Revoked { by, reason: why } => {
            here(*state == State::Approved)?;
            may_revoke(request, by, ground, event.name())?;
            reason(why)?;
            moved(State::Revoked, by.clone(), Why::Reason(why.clone()))
        }
        // Begun elsewhere, because it gives a permit.
        Event::Begun { .. } => Err(not_here()),
        Event::Done => {
            here(*state == State::Executing)?;
            plain(State::Verifying)
        }
        Event::Failed { code } => {
            here(*state == State::Executing)?;
            moved(State::Failed, By::Guardian, Why::Code(code.clone()))
        }
        Event::Crashed => {
            here(*state == State::Executing)?;
            plain(State::Unknown)
        }
        Event::LookedAt => {
            here(matches!(state, State::Failed | State::Unknown))?;
            is_used_up(request, now)?;
            plain(State::Verifying)
        }
        Event::Verified { found, evidence } => {
            here(*state == State::Verifying)?;
            still_short(request, MOST_ENTRIES.saturating_mul(2))?;
            Ok((State::Verifying, Change::Verified { found: *found, evidence: *evidence }))
        }
        Event::Closed(by) => {
            here(*state == State::Verifying)?;
            close(request, by, ground)?;
            moved(State::Closed, by.clone(), Why::Plain)
        }
        Event::Reopened(next) => {
            here(*state == State::Verifying)?;
            if *next == request.id() {
                return Err(Refusal::Nothing("it goes on as another request, with approvals of its own"));
            }
            plain(State::Reopened(*next))
        }
        Event::TakenBack { by, reason: why } => {
            here(request.execution.is_some() && request.ends.is_some() && request.taken_back.is_none())?;
            may_revoke(request, by, ground, event.name())?;
            reason(why)?;
            Ok((state.clone(), Change::TakenBack { by: by.clone(), reason: why.clone() }))
        }
        Event::Reviewed { by, reason: why } => {
            here(super::owes_review(request))?;
            // What is not done yet, or not looked at, cannot be judged.
            if request.verified.is_none() && !state.is_over() {
                return Err(Refusal::Found(None));
            }
            may_review(request, by, ground)?;
            reason(why)?;
            Ok((state.clone(), Change::Reviewed { by: by.clone(), reason: why.clone() }))
        }
        Event::FreezeLaid(freeze) => {
            here(!state.is_over())?;
            if request.freezes.contains(freeze) {
                return Err(Refusal::Nothing("that freeze is over it already"));
            }
            at_most("freezes", request.freezes.len())?;
            still_short(request, MOST_ENTRIES)?;
            Ok((state.clone(), Change::FreezeLaid(*freeze)))
        }
        Event::FreezeLifted(freeze) => {
            if !request.freezes.contains(freeze) {
                return Err(Refusal::Nothing("that freeze is not over it"));
            }
            // Twice as many: what came over it can always be lifted.
            still_short(request, MOST_ENTRIES.saturating_mul(2))?;
            Ok((state.clone(), Change::FreezeLifted(*freeze)))
        }
        Event::Escalated { step } => {
            here(state.is_before_people())?;
            if *step <= request.escalation || *step > MOST_STEPS {
                return Err(Refusal::Nothing("an escalation only goes further, and has an end"));
            }
            Ok((state.clone(), Change::Escalated(*step)))
        }
    }
}

fn submit(request: &Request, by: &By, ground: &Ground<'_>, now: &Moment) -> Judged {
    may_ask(by, ground, "submit")?;
    in_time(request, ground, now)?;
    let enough = tally(request, None, ground)?.lacking.is_empty();
    match (enough, &request.state) {
        (true, _) => Ok((State::Approved, Change::Submitted(by.clone()))),
        (false, State::Draft) => Ok((State::Review, Change::Submitted(by.clone()))),
        (false, _) => Err(Refusal::Nothing("people are asked already, and not enough have agreed")),
    }
}

fn vote(request: &Request, ballot: &Ballot, ground: &Ground<'_>, now: &Moment) -> Judged {
    let hash = request.scope.hash();
    if ballot.round != request.scope.round || ballot.scope != hash {
        return Err(stale(&request.scope, request.scope.round, ballot.round, ballot.scope));
    }
    let vote = Vote { ballot: ballot.clone(), at: now.wall, hours: ground.hours };
    let id = &ballot.person;
    if let Some(why) = &ballot.reason {
        reason(why)?;
    }
    if ballot.verdict == Verdict::Reject {
        may_reject(request, id, ground).map_err(|why| not_you(id, why))?;
        reason(ballot.reason.as_deref().unwrap_or_default())?;
        let to = if request.state == State::Approved { State::Revoked } else { State::Rejected };
        return Ok((to, Change::Voted(vote)));
    }
    in_time(request, ground, now)?;
    let may = may_approve(request, id, ground, now).map_err(|why| not_you(id, why))?;
    if !may.over.contains(&ballot.channel) {
        let why = WhyNot::Channel { found: ballot.channel, use_: may.over };
        return Err(not_you(id, why));
    }
    at_most("votes", request.votes.len())?;
    let mut counted = request.clone();
    counted.votes.push(vote.clone());
    let enough = tally(&counted, None, ground)?.lacking.is_empty();
    // What is approved stays so: one more voice may be needed because another does not count any more.
    let to = if enough || request.state == State::Approved { State::Approved } else { State::Review };
    Ok((to, Change::Voted(vote)))
}

fn recommend(request: &Request, advice: Advice, ground: &Ground<'_>) -> Judged {
    if !ground.people.contains_key(&advice.by) {
        return Err(not_you(&advice.by, WhyNot::Nobody));
    }
    reason(&advice.reason)?;
    at_most("recommendations", request.advice.len())?;
    still_short(request, MOST_ENTRIES)?;
    Ok((request.state.clone(), Change::Recommended(advice)))
}

fn defer(
    request: &Request,
    by: &PersonId,
    until: Timestamp,
    why: &Arc<str>,
    ground: &Ground<'_>,
    now: &Moment,
) -> Judged {
    may_reject(request, by, ground).map_err(|why| not_you(by, why))?;
    reason(why)?;
    in_time(request, ground, now)?;
    if request.deferrals >= MOST_DEFERRALS {
        return Err(Refusal::TooManyDeferrals(request.deferrals));
    }
    let latest = latest_deferral(request);
    if until <= now.wall || until > latest {
        return Err(Refusal::Deferral { latest });
    }
    let until = Deadline::at(until, now);
    Ok((State::Deferred(until.clone()), Change::Deferred { by: by.clone(), until, reason: why.clone() }))
}

/// Until when a request can be put off at the latest: a page offers nothing beyond.
#[must_use]
pub fn latest_deferral(request: &Request) -> Timestamp {
    request.decide_by.min(request.scope.window.valid_until)
}

fn change_scope(
    request: &Request,
    by: &By,
    scope: &Scope,
    decide_by: Timestamp,
    ground: &Ground<'_>,
    now: &Moment,
) -> Judged {
    in_time(request, ground, now)?;
    still_short(request, MOST_ENTRIES)?;
    let old = &request.scope;
    let mut scope = Scope { round: old.round, ..scope.clone() };
    if scope.id != old.id {
        return Err(Refusal::Follows { expected: Some(old.id), found: Some(scope.id) });
    }
    // Another kind, or another renewal, is another request: what it is and how often it was asked is judged when it is opened.
    if scope.kind != old.kind || scope.renews != old.renews || scope.action.lasting() != old.action.lasting() {
        let stays = "its kind, what it renews, and what it waives or opens stay; open another request";
        return Err(Refusal::Nothing(stays));
    }
    // Nor does planning again make less of it.
    if scope.at_stake() < old.at_stake() {
        return Err(BadScope::BelowTheFloor { found: scope.stakes, floor: old.at_stake() }.into());
    }
    if scope.hash() == old.hash() {
        return Err(Refusal::SameScope);
    }
    scope.check(request.opened.wall, now)?;
    let askers = asking(by, ground);
    at_least(&scope, !askers.is_empty() || !request.askers.is_empty(), ground)?;
    let to = if request.state == State::Draft { State::Draft } else { State::Review };
    if to == State::Review {
        if scope.round >= MOST_ROUNDS {
            return Err(Refusal::TooMany { what: "rounds", most: usize::try_from(MOST_ROUNDS).unwrap_or(usize::MAX) });
        }
        scope.round = scope.round.saturating_add(1);
    }
    Ok((to, Change::ScopeChanged { by: by.clone(), askers, scope: Box::new(scope), decide_by }))
}

fn close(request: &Request, by: &By, ground: &Ground<'_>) -> Result<(), Refusal> {
    let stakes = request.scope.at_stake();
    match request.verified {
        Some(Found::AsApproved | Found::AsBefore) => {}
        found @ (Some(Found::Partly) | None) => return Err(Refusal::Found(found)),
    }
    match by {
        By::Guardian if stakes >= Stakes::T3 => Err(Refusal::NeedsPerson(stakes)),
        By::Guardian => Ok(()),
        By::Person(id) => is_a(id, &[Role::Operator, Role::Approver, Role::Commander], ground, "close"),
    }
}

/// Whoever reviews had no part in it.
fn may_review(request: &Request, by: &PersonId, ground: &Ground<'_>) -> Result<(), Refusal> {
    is_a(by, &[Role::Operator, Role::Approver, Role::Commander], ground, "review")?;
    let carried_out = request.execution.as_ref().and_then(|execution| execution.by.person());
    let voted = request.votes.iter().map(|vote| &vote.ballot.person);
    let asked = request.requester.person().into_iter().chain(&request.askers);
    if principals(asked.chain(carried_out).chain(voted), ground.people).contains(by) {
        let expected = "somebody who neither asked for it, nor approved it, nor carried it out";
        return Err(Refusal::NotAllowed { who: Arc::from(by.as_str()), event: "review", expected });
    }
    Ok(())
}

fn may_ask(by: &By, ground: &Ground<'_>, event: &'static str) -> Result<(), Refusal> {
    let By::Person(id) = by else { return Ok(()) };
    let may = ground.people.get(id).is_some_and(|person| person.roles.contains(&Role::Requester));
    let expected = "the guardian, or somebody with the role of a requester";
    if may { Ok(()) } else { Err(Refusal::NotAllowed { who: Arc::from(id.as_str()), event, expected }) }
}

/// Who asks by this: an agent of somebody asks for them.
fn asking(by: &By, ground: &Ground<'_>) -> BTreeSet<PersonId> {
    principals(by.person(), ground.people).into_iter().cloned().collect()
}

/// The guardian, whoever asked, and incident command may take back a request.
fn may_take_back(request: &Request, by: &By, ground: &Ground<'_>, event: &'static str) -> Result<(), Refusal> {
    match by {
        By::Guardian => Ok(()),
        By::Person(id) if request.requester == *by && ground.people.contains_key(id) => Ok(()),
        By::Person(id) => is_a(id, &[Role::Commander], ground, event),
    }
}

/// And every approver who may reject it, what was approved.
fn may_revoke(request: &Request, by: &By, ground: &Ground<'_>, event: &'static str) -> Result<(), Refusal> {
    let rejects = by.person().is_some_and(|id| may_reject(request, id, ground).is_ok());
    if rejects { Ok(()) } else { may_take_back(request, by, ground, event) }
}

fn is_a(id: &PersonId, roles: &[Role], ground: &Ground<'_>, event: &'static str) -> Result<(), Refusal> {
    let fits = |person: &Person| person.nature == Nature::Human && roles.iter().any(|role| person.roles.contains(role));
    let expected = "a human with a role for that";
    if ground.people.get(id).is_some_and(fits) {
        Ok(())
    } else {
        Err(Refusal::NotAllowed { who: Arc::from(id.as_str()), event, expected })
    }
}

/// Whether anything may still be added to a request: its time is not over, and the clocks can be believed.
pub(super) fn in_time(request: &Request, ground: &Ground<'_>, now: &Moment) -> Result<(), Refusal> {
    if request.deadline.is_over(now) {
        return Err(Refusal::Over(request.deadline.wall));
    }
    believed(now, &request.mark)?;
    believed(now, ground.seen)
}

/// Whether the clocks can be believed: they are not behind what was seen before.
fn believed(now: &Moment, seen: &Moment) -> Result<(), Refusal> {
    if now.is_behind(seen) { Err(Refusal::ClockBack { now: now.wall, seen: seen.wall }) } else { Ok(()) }
}

/// Whether nobody can do anything with the permit any more: until then looking says nothing, because it may be done right
/// after. The wall clock is not asked: it could be set back again.
fn is_used_up(request: &Request, now: &Moment) -> Result<(), Refusal> {
    match &request.execution {
        Some(begun) if begun.at.boot_id == now.boot_id && now.boot < begun.at.boot.plus(PERMIT_LIFE) => {
            Err(Refusal::PermitLives(begun.at.wall.plus(PERMIT_LIFE)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether there is room in the log for what nobody has to say.
fn still_short(request: &Request, most: u32) -> Result<(), Refusal> {
    let too_many = || Refusal::TooMany { what: "entries", most: usize::try_from(most).unwrap_or(usize::MAX) };
    if request.entries < most { Ok(()) } else { Err(too_many()) }
}

fn renews(scope: &Scope, renewed: Option<&Request>) -> Result<(), Refusal> {
    let found = scope.renews.map(|renewal| renewal.of);
    let known = renewed.map(Request::id);
    // What asks for the same again while it knows of the one before has to say so.
    if found != known {
        return Err(Refusal::Follows { expected: known, found });
    }
    let (Some(renewal), Some(renewed)) = (scope.renews, renewed) else { return Ok(()) };
    let expected = renewed.renewals().saturating_add(1);
    let counts = renewal.count == expected && renewed.scope.kind == scope.kind && renewed.was_in_force();
    if counts { Ok(()) } else { Err(super::BadScope::Renewal { found: renewal.count, expected }.into()) }
}

pub(super) fn reason(text: &str) -> Result<(), Refusal> {
    let length = text.trim().len();
    if length == 0 || text.len() > LONGEST_REASON { Err(Refusal::Reason(text.len())) } else { Ok(()) }
}

fn at_most(what: &'static str, found: usize) -> Result<(), Refusal> {
    if found < MOST_VOICES { Ok(()) } else { Err(Refusal::TooMany { what, most: MOST_VOICES }) }
}

fn not_you(who: &PersonId, why: WhyNot) -> Refusal {
    Refusal::NotYou { who: Arc::from(who.as_str()), why }
}

fn stale(scope: &Scope, round: u32, found: u32, scope_found: crate::domain::key::Digest) -> Refusal {
    Refusal::Stale { round, found, scope: scope.hash(), scope_found }
}

/// The request that goes on from one that was reopened: a draft of its own, which nobody has approved.
///
/// # Errors
/// [`Refusal`] as of [`open`], and where it does not follow on one that was reopened as it.
pub fn open_after(
    before: &Request,
    opening: Opening,
    renewed: Option<&Request>,
    ground: &Ground<'_>,
    now: &Moment,
) -> Result<Stepped, Refusal> {
    let (expected, found): (Option<RequestId>, _) = (Some(before.id()), opening.follows);
    if found != expected || before.state != State::Reopened(opening.scope.id) {
        return Err(Refusal::Follows { expected, found });
    }
    draft(opening, renewed, ground, now)
}
