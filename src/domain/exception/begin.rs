//! The last look before something is done: time, freezes, drift, and the approvals over the people as they are now.

use super::action::Argv;
use super::clock::{Deadline, Moment};
use super::eligible::Ground;
use super::event::{Change, Preflight};
use super::kind::{Kind, Stakes};
use super::people::{By, Nature, PersonId, Role};
use super::permit::Permit;
use super::refusal::Refusal;
use super::request::{Request, State};
use super::scope::{BadScope, Rollback, Scope};
use super::step::in_time;
use super::tally::tally;
use core::time::Duration;
use std::sync::Arc;

use crate::domain::key::Digest;

/// What was seen before it is done is at most this old: long enough to look at some hundred endpoints, short enough that
/// people have changed nothing since.
pub const PREFLIGHT_FRESH: Duration = Duration::from_secs(120);

/// Whether it may be begun now; the permit is the only one that there will ever be.
pub(super) fn begin(
    request: &Request,
    by: &By,
    preflight: &Preflight,
    ground: &Ground<'_>,
    now: &Moment,
) -> Result<(Change, Permit), Refusal> {
    if request.execution.is_some() {
        return Err(Refusal::Spent);
    }
    if request.state != State::Approved {
        return Err(Refusal::State { event: "begin", state: request.state.as_str() });
    }
    in_its_window(request, ground, now)?;
    at_least(&request.scope, !request.askers.is_empty(), ground)?;
    may_carry_out(by, ground)?;
    is_thawed(request, ground)?;
    if request.scope.at_stake() >= Stakes::T3 && request.scope.kind != Kind::BreakGlass {
        let unreviewed = ground.unreviewed.ok_or(Refusal::Unknown("which break-glass waits for its review"))?;
        if !unreviewed.is_empty() {
            return Err(Refusal::Unreviewed(unreviewed.to_vec()));
        }
    }
    is_as_planned(request, preflight, now)?;
    let tally = tally(request, by.person(), ground)?;
    if !tally.lacking.is_empty() {
        return Err(Refusal::NotEnough(tally.lacking));
    }
    let permit = Permit::issue(request, &tally, now);
    let change = Change::Begun {
        by: by.clone(),
        permit: permit.digest(),
        preflight: preflight.digest(),
        votes: permit.votes().to_vec(),
    };
    Ok((change, permit))
}

/// Whether a scope says of itself no less than is at stake: by what policy says of its assets, and by the programs that it
/// runs. The guardian may run those of the configuration; whatever a person names, and every other program, can do anything.
pub(super) fn at_least(scope: &Scope, by_person: bool, ground: &Ground<'_>) -> Result<(), BadScope> {
    let assets = scope.assets.keys().map(|name| ground.stakes.get(name).copied().unwrap_or(Stakes::T4));
    let back: &[Argv] = match &scope.rollback {
        Rollback::Run(programs) => programs,
        Rollback::Restore | Rollback::Impossible(_) => &[],
    };
    let mut programs = scope.action.programs().chain(back);
    let anything = programs.any(|program| by_person || !ground.programs.contains(program)).then_some(Stakes::T3);
    let floor = assets.chain(anything).fold(scope.floor(), Stakes::max);
    if scope.stakes < floor { Err(BadScope::BelowTheFloor { found: scope.stakes, floor }) } else { Ok(()) }
}

fn in_its_window(request: &Request, ground: &Ground<'_>, now: &Moment) -> Result<(), Refusal> {
    in_time(request, ground, now)?;
    let window = request.scope.window;
    if now.wall < window.not_before {
        return Err(Refusal::TooEarly(window.not_before));
    }
    match &request.ends {
        Some(ends) if ends.is_over(now) => Err(Refusal::Over(ends.wall)),
        Some(_) | None => Ok(()),
    }
}

/// The guardian, or a human who carries things out.
fn may_carry_out(by: &By, ground: &Ground<'_>) -> Result<(), Refusal> {
    let By::Person(id) = by else { return Ok(()) };
    let person = ground.people.get(id);
    let may = person.is_some_and(|p| p.nature == Nature::Human && p.roles.contains(&Role::Operator));
    let who = |id: &PersonId| Arc::from(id.as_str());
    let expected = "the guardian, or a human with the role of an operator";
    if may { Ok(()) } else { Err(Refusal::NotAllowed { who: who(id), event: "begin", expected }) }
}

/// What the request was told of freezes and what is known of them now both hold it, unless the scope names each of them.
fn is_thawed(request: &Request, ground: &Ground<'_>) -> Result<(), Refusal> {
    let known = ground.freezes.ok_or(Refusal::Unknown("which freezes are over it"))?;
    let over = request.freezes.union(known);
    let holding: std::collections::BTreeSet<_> =
        over.filter(|freeze| !request.scope.despite.contains(freeze)).copied().collect();
    if holding.is_empty() { Ok(()) } else { Err(Refusal::Frozen(holding)) }
}

/// The bytes are the same, and so is the world.
fn is_as_planned(request: &Request, seen: &Preflight, now: &Moment) -> Result<(), Refusal> {
    let hash = request.scope.hash();
    if seen.scope != hash {
        return Err(Refusal::OtherBytes { permitted: hash, found: seen.scope });
    }
    let old = Deadline::after(PREFLIGHT_FRESH, &seen.at).is_over(now);
    if old || seen.at.boot_id != now.boot_id || now.is_behind(&seen.at) {
        return Err(Refusal::Preflight { seen: seen.at.wall });
    }
    let shown = |digest: Option<&Option<Digest>>| match digest {
        Some(Some(digest)) => digest.short(),
        Some(None) => "nothing".to_owned(),
        None => "not looked at".to_owned(),
    };
    let scope = &request.scope;
    for name in scope.assets.keys().chain(seen.assets.keys()) {
        let (planned, found) = (scope.assets.get(name), seen.assets.get(name));
        if planned != found {
            return Err(Refusal::Drift { what: name.clone(), expected: shown(planned), found: shown(found) });
        }
    }
    let told = |value: Option<&Arc<str>>| value.map_or_else(|| "not looked at".to_owned(), ToString::to_string);
    for code in scope.preconditions.keys().chain(seen.preconditions.keys()) {
        let (planned, found) = (scope.preconditions.get(code), seen.preconditions.get(code));
        if planned != found {
            return Err(Refusal::Drift { what: code.clone(), expected: told(planned), found: told(found) });
        }
    }
    Ok(())
}
