//! What the facts say about time: windows, clocks that step, crashes, and what ends by itself.

use std::sync::Arc;

use super::tables::submitted;
use super::world::*;
use crate::domain::exception::*;
use crate::domain::id::PathId;
use crate::domain::key::Digest;

use Channel::{Passkey, SshSignature};

#[test]
fn nothing_begins_before_or_after_its_time_or_by_a_clock_that_went_back() {
    let ready = || {
        let mut scope = scope(Kind::IssueElsewhere, Stakes::T3);
        scope.window.not_before = at(600);
        let mut world = World::of(scope);
        world.agree();
        world
    };
    let mut early = ready();
    assert_eq!(early.begin(By::Guardian), Err(Refusal::TooEarly(at(600))));
    let mut late = ready();
    late.pass(7_199);
    assert_eq!(late.begin(By::Guardian), Ok(()));
    let mut late = ready();
    late.pass(7_200);
    assert_eq!(late.begin(By::Guardian), Err(Refusal::Over(at(7_200))));
    // The wall clock was set back by an hour, after the last thing that was written: the boot clock still counts.
    let mut back = ready();
    back.pass(7_200);
    back.step_wall(-3_600);
    assert_eq!(back.begin(By::Guardian), Err(Refusal::Over(at(7_200))));
    // It was written later than the clock says now.
    let mut back = ready();
    back.pass(3_600);
    back.happen(Event::Escalated { step: 1 }).unwrap();
    back.step_wall(-60);
    assert_eq!(back.begin(By::Guardian), Err(Refusal::ClockBack { now: at(3_540), seen: at(3_600) }));
    // So too after a reboot, where the old boot clock says nothing any more.
    back.reboot(0);
    assert!(matches!(back.begin(By::Guardian), Err(Refusal::ClockBack { .. })));
    // As much as has passed since is missing still; when it is right again, it may begin.
    back.pass(100);
    assert!(matches!(back.begin(By::Guardian), Err(Refusal::ClockBack { .. })));
    back.step_wall(60);
    assert_eq!(back.begin(By::Guardian), Ok(()));
}

#[test]
fn a_deadline_stays_where_it_was_over_a_reboot_and_a_clock_set_back() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.agree();
    world.pass(3_600);
    world.reboot(0);
    // The first thing that is written after the reboot binds the deadline to the new boot clock.
    world.happen(Event::Escalated { step: 1 }).unwrap();
    world.pass(3_600);
    world.step_wall(-3_000);
    assert_eq!(world.happen(Event::Expired), Ok(()));
}

#[test]
fn after_a_crash_the_world_is_looked_at_first_and_nothing_is_done_twice() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    assert_eq!(world.request.after_restart(), None);
    world.agree();
    assert_eq!(world.request.after_restart(), None);
    world.begin(By::Guardian).unwrap();
    world.reboot(5);
    let event = world.request.after_restart().unwrap();
    world.happen(event).unwrap();
    assert_eq!(world.request.state, State::Unknown);
    let seen = Event::Verified { found: Found::AsBefore, evidence: Digest([1; 32]) };
    for event in [Event::Done, seen.clone(), Event::Closed(By::Person(who(RUNS))), Event::Reopened(id(5))] {
        assert!(matches!(world.happen(event), Err(Refusal::State { .. })));
    }
    assert_eq!(world.begin(By::Guardian), Err(Refusal::Spent));
    world.happen(Event::LookedAt).unwrap();
    world.happen(seen).unwrap();
    assert_eq!(world.begin(By::Guardian), Err(Refusal::Spent));
    // The permit of the life before is worth nothing.
    let (scope, permit) = (world.request.scope.clone(), world.permits.remove(0));
    assert!(matches!(permit.redeem(scope, &world.now), Err(Refusal::Over(_))));
}

#[test]
fn it_is_put_off_twice_and_never_past_the_last_safe_moment() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    let defer = |until: i64| Event::Deferred { by: who(ANN), until: at(until), reason: why() };
    assert_eq!(latest_deferral(&world.request), at(HOUR));
    for until in [0, -1, HOUR + 1] {
        assert_eq!(world.happen(defer(until)), Err(Refusal::Deferral { latest: at(HOUR) }));
    }
    world.happen(defer(600)).unwrap();
    assert_eq!(world.happen(Event::Resumed(By::Guardian)), Err(Refusal::NotYet(at(600))));
    world.pass(600);
    world.happen(Event::Resumed(By::Guardian)).unwrap();
    world.happen(defer(HOUR)).unwrap();
    world.happen(Event::Resumed(By::Person(who(BEA)))).unwrap();
    assert_eq!(world.happen(defer(HOUR)), Err(Refusal::TooManyDeferrals(2)));
    // Another round does not make it less.
    let scope = Box::new(Scope { evidence: Digest([3; 32]), ..world.request.scope.clone() });
    world.happen(Event::ScopeChanged { by: By::Guardian, scope, decide_by: at(HOUR) }).unwrap();
    assert_eq!(world.happen(defer(HOUR)), Err(Refusal::TooManyDeferrals(2)));
}

#[test]
fn break_glass_goes_over_no_portal_lasts_an_hour_and_owes_a_review() {
    let mut world = submitted(Kind::BreakGlass, Stakes::T4);
    assert!(matches!(world.approve(ANN, Passkey), Err(Refusal::NotYou { why: WhyNot::Channel { .. }, .. })));
    world.approve(ANN, SshSignature).unwrap();
    world.approve(ABE, SshSignature).unwrap();
    assert_eq!(world.request.state, State::Review, "two of one group");
    world.approve(BEA, SshSignature).unwrap();
    world.begin(By::Guardian).unwrap();
    // Before it is done and looked at there is nothing to review.
    let review = || Event::Reviewed { by: who(BOB), reason: why() };
    assert_eq!(world.happen(review()), Err(Refusal::Found(None)));
    world.happen(Event::Done).unwrap();
    assert_eq!(world.happen(review()), Err(Refusal::Found(None)));
    world.happen(Event::Verified { found: Found::AsApproved, evidence: Digest([1; 32]) }).unwrap();
    let overdue = |world: &World| unreviewed([&world.request], &world.now, &world.high).collect::<Vec<_>>();
    assert!(owes_review(&world.request) && overdue(&world).is_empty());
    world.pass(24 * 3_600 - 1);
    assert!(overdue(&world).is_empty());
    world.pass(1);
    assert_eq!(overdue(&world), [id(1)]);
    // A clock that is set back does not make it due later.
    world.step_wall(-20 * 3_600);
    assert_eq!(overdue(&world), [id(1)]);
    world.step_wall(20 * 3_600);
    for n in [ASKS, ANN, BOT, STRANGER] {
        let event = Event::Reviewed { by: who(n), reason: why() };
        assert!(matches!(world.happen(event), Err(Refusal::NotAllowed { .. })), "{}", who(n));
    }
    world.happen(review()).unwrap();
    assert!(overdue(&world).is_empty());
}

#[test]
fn while_break_glass_waits_for_its_review_nothing_grave_begins_but_break_glass() {
    let rows = [
        (Kind::IssueElsewhere, Stakes::T2, true),
        (Kind::IssueElsewhere, Stakes::T3, false),
        (Kind::Waiver, Stakes::T3, false),
        (Kind::BreakGlass, Stakes::T3, true),
    ];
    for (kind, stakes, begins) in rows {
        let mut world = submitted(kind, stakes);
        world.agree();
        world.unreviewed = vec![id(9)];
        assert_eq!(world.begin(By::Guardian).is_ok(), begins, "{kind} {stakes}");
    }
}

#[test]
fn times_that_are_too_long_are_refused_when_it_is_asked() {
    let now = moment(0, 1, 0);
    let path = |until: i64| Action::OpenPath { path: PathId::parse("approve").unwrap(), until: at(until) };
    let waive = |until: i64| Action::Waive { code: Arc::from("KW1"), target: Arc::from("key/a"), until: at(until) };
    let day = 24 * HOUR;
    let rows = [
        (Kind::BreakGlass, HOUR, path(HOUR), true),
        (Kind::BreakGlass, HOUR + 1, path(HOUR), false),
        (Kind::BreakGlass, HOUR, path(HOUR + 1), false),
        (Kind::FreezeOverride, day, issue(), true),
        (Kind::FreezeOverride, day + 1, issue(), false),
        (Kind::Waiver, HOUR, waive(90 * day), true),
        (Kind::Waiver, HOUR, waive(90 * day + 1), false),
        (Kind::Waiver, HOUR, waive(0), false),
        (Kind::NewName, 30 * day, issue(), true),
        (Kind::NewName, 30 * day + 1, issue(), false),
        (Kind::NewName, 0, issue(), false),
    ];
    for (kind, until, action, fits) in rows {
        let mut scope = Scope { action, ..scope(kind, Stakes::T3) };
        scope.window.valid_until = at(until);
        assert_eq!(scope.check(at(0), &now).is_ok(), fits, "{kind} until {until}: {:?}", scope.check(at(0), &now));
    }
    // A scope that is planned again is still of the day on which it was opened.
    let mut world = submitted(Kind::BreakGlass, Stakes::T3);
    world.pass(1_800);
    let mut longer = Box::new(world.request.scope.clone());
    longer.window.valid_until = at(HOUR + 1);
    let refused = world.happen(Event::ScopeChanged { by: By::Guardian, scope: longer, decide_by: at(HOUR) });
    assert!(matches!(refused, Err(Refusal::Scope(BadScope::TooLong { .. }))), "{refused:?}");
}

fn waived() -> World {
    let mut world = submitted(Kind::Waiver, Stakes::T3);
    world.agree();
    world.begin(By::Guardian).unwrap();
    world.happen(Event::Done).unwrap();
    assert!(!world.request.is_in_force(&world.now, &world.high), "nobody has looked yet");
    world.happen(Event::Verified { found: Found::AsApproved, evidence: Digest([1; 32]) }).unwrap();
    world.happen(Event::Closed(By::Person(who(RUNS)))).unwrap();
    assert!(world.request.is_in_force(&world.now, &world.high));
    world
}

#[test]
fn a_waiver_ends_by_itself_under_either_clock_and_can_be_taken_back() {
    let mut world = waived();
    world.pass(3 * 3_600 - 1);
    assert!(world.request.is_in_force(&world.now, &world.high));
    world.pass(1);
    assert!(!world.request.is_in_force(&world.now, &world.high));
    let mut world = waived();
    world.pass(3 * 3_600);
    world.step_wall(-3_600);
    assert!(!world.request.is_in_force(&world.now, &world.high), "the wall clock was set back");
    let mut world = waived();
    world.step_wall(-60);
    assert!(!world.request.is_in_force(&world.now, &world.high), "the clock cannot be believed");
    let mut world = waived();
    world.happen(Event::TakenBack { by: By::Person(who(BOB)), reason: why() }).unwrap();
    assert!(!world.request.is_in_force(&world.now, &world.high));
}

#[test]
fn a_renewal_of_a_waiver_is_a_request_of_its_own_with_a_count_that_all_see() {
    let world = waived();
    let again = |of: u8, count: u32| {
        let renews = Some(Renewal { of: id(of), count });
        opening(Scope { id: id(2), renews, ..scope(Kind::Waiver, Stakes::T3) })
    };
    let open = |opening: Opening, before: Option<&Request>| open(opening, before, &world.ground(), &world.now);
    let renewed = open(again(1, 1), Some(&world.request)).unwrap().request;
    assert_eq!((renewed.renewals(), renewed.state.as_str(), renewed.votes.len()), (1, "draft", 0));
    assert!(String::from_utf8(renewed.scope.canonical()).unwrap().contains(r#""renews":{"count":1,"of":"040G-2081"}"#));
    // It is found whether it is named or not; what is about something else, or was never in force, is not.
    let silent = Scope { renews: None, ..again(1, 1).scope };
    assert_eq!(renewed_by(&silent, [&renewed, &world.request]).map(Request::id), Some(id(1)));
    assert_eq!(renewed_by(&silent, [&renewed]), None);
    let other = Action::Waive { code: Arc::from("KW4811"), target: Arc::from("key/other"), until: at(3 * HOUR) };
    assert_eq!(renewed_by(&Scope { action: other, ..silent.clone() }, [&world.request]), None);
    // Another count, another request, none at all, or one that was never begun.
    let silent = Opening { scope: Scope { renews: None, ..again(1, 1).scope }, ..again(1, 1) };
    for (opening, before) in [
        (again(1, 2), Some(&world.request)),
        (again(3, 1), Some(&world.request)),
        (again(1, 1), None),
        (silent, Some(&world.request)),
        (again(2, 2), Some(&renewed)),
    ] {
        assert!(open(opening, before).is_err());
    }
}

#[test]
fn what_was_seen_before_is_fresh_and_of_this_boot_and_the_world_as_it_was_planned() {
    let ready = || {
        let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
        world.agree();
        world
    };
    let begun = |world: &mut World, preflight: Preflight| world.happen(Event::Begun { by: By::Guardian, preflight });
    for (age, fresh) in [(0, true), (119, true), (120, false), (3_000, false)] {
        let mut world = ready();
        let seen = preflight(&world.request.scope, &world.now);
        world.pass(age);
        assert_eq!(begun(&mut world, seen).is_ok(), fresh, "{age} s");
    }
    let mut world = ready();
    let ahead = Preflight { at: moment(60, 160, 0), ..preflight(&world.request.scope, &world.now) };
    let before = Preflight { at: moment(0, 100, 9), ..preflight(&world.request.scope, &world.now) };
    for seen in [ahead, before] {
        assert!(matches!(begun(&mut world, seen), Err(Refusal::Preflight { .. })));
    }
    let changes: [fn(&mut Preflight); 5] = [
        |seen| seen.assets.clear(),
        |seen| seen.assets.values_mut().for_each(|print| *print = Some(Digest([2; 32]))),
        |seen| _ = seen.assets.insert(Arc::from("credential/x"), None),
        |seen| seen.preconditions.clear(),
        |seen| _ = seen.preconditions.insert(Arc::from("issuer answers"), Arc::from("no")),
    ];
    for change in changes {
        let mut seen = preflight(&world.request.scope, &world.now);
        change(&mut seen);
        assert!(matches!(begun(&mut world, seen), Err(Refusal::Drift { .. })));
    }
    let seen = preflight(&world.request.scope, &world.now);
    assert_eq!(begun(&mut world, seen), Ok(()));
}
