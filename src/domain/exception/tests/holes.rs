//! Ways round the rules that once were there, each closed by what stands here.

use std::collections::BTreeSet;
use std::sync::Arc;

use core::time::Duration;

use super::tables::submitted;
use super::world::*;
use crate::domain::exception::*;
use crate::domain::key::Digest;

use Channel::{Passkey, SshSignature};

fn planned(world: &mut World, by: By, change: impl FnOnce(&mut Scope)) -> Result<(), Refusal> {
    let mut scope = Box::new(world.request.scope.clone());
    change(&mut scope);
    world.happen(Event::ScopeChanged { by, scope, decide_by: at(HOUR) })
}

fn below(refused: &Result<(), Refusal>) -> bool {
    matches!(refused, Err(Refusal::Scope(BadScope::BelowTheFloor { .. })))
}

fn program(scope: &mut Scope) {
    if let Action::Issue(issue) = &mut scope.action {
        issue.placing.reload = vec![vec![Arc::from("reload")]];
    }
}

fn done(world: &mut World, found: Found) {
    world.happen(Event::Done).unwrap();
    world.happen(Event::Verified { found, evidence: Digest([1; 32]) }).unwrap();
}

#[test]
fn planning_again_makes_nothing_less_of_what_is_at_stake() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T4);
    assert!(below(&planned(&mut world, By::Person(who(AGENT)), |scope| scope.stakes = Stakes::T1)));
    assert!(below(&planned(&mut world, By::Guardian, |scope| scope.stakes = Stakes::T3)));
}

#[test]
fn no_less_is_at_stake_than_policy_says_of_the_assets_and_all_of_it_where_it_says_nothing() {
    let world = World::new(Kind::IssueElsewhere, Stakes::T2);
    let asked = |asset: &str, stakes: Stakes, policy: Stakes| {
        let tiers = [(Arc::from("credential/portal"), policy)].into();
        let ground = Ground { stakes: &tiers, ..world.ground() };
        let scope = Scope { assets: [(Arc::from(asset), None)].into(), ..scope(Kind::NewName, stakes) };
        open(opening(scope), None, &ground, &world.now).is_ok()
    };
    assert!(asked("credential/portal", Stakes::T3, Stakes::T3));
    assert!(!asked("credential/portal", Stakes::T2, Stakes::T3));
    assert!(asked("credential/other", Stakes::T4, Stakes::T1) && !asked("credential/other", Stakes::T3, Stakes::T1));
    // Nor when it is planned again, or begun after policy said more.
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T2);
    let graver = |scope: &mut Scope| scope.assets = [(Arc::from("credential/grave"), None)].into();
    assert!(below(&planned(&mut world, By::Guardian, graver)));
    world.agree();
    world.stakes.insert(Arc::from("credential/portal"), Stakes::T3);
    assert!(below(&world.begin(By::Guardian)));
}

#[test]
fn a_program_is_grave_unless_it_is_configured_and_the_guardian_runs_it() {
    let configured: BTreeSet<Argv> = BTreeSet::from([vec![Arc::from("reload")]]);
    let world = World::new(Kind::IssueElsewhere, Stakes::T2);
    let undo = |scope: &mut Scope| scope.rollback = Rollback::Run(vec![vec![Arc::from("reload")]]);
    let replace = |scope: &mut Scope| {
        let key = crate::domain::id::KeyId::parse("api").unwrap();
        (scope.kind, scope.action) =
            (Kind::KeyReplacement, Action::ReplaceKey { key, version: 1, turnover: vec![Arc::from("reload")] });
    };
    let changes: [fn(&mut Scope); 3] = [program, undo, replace];
    for change in changes {
        for (by, programs, stakes, fits) in [
            (By::Guardian, &configured, Stakes::T2, true),
            (By::Guardian, &world.programs, Stakes::T2, false),
            (By::Guardian, &world.programs, Stakes::T3, true),
            (By::Person(who(ASKS)), &configured, Stakes::T2, false),
            (By::Person(who(ASKS)), &configured, Stakes::T3, true),
        ] {
            let mut scope = scope(Kind::IssueElsewhere, stakes);
            change(&mut scope);
            let ground = Ground { programs, ..world.ground() };
            let opened = open(Opening { requester: by.clone(), ..opening(scope) }, None, &ground, &world.now);
            assert_eq!(opened.is_ok(), fits, "{by} {stakes} {opened:?}");
        }
    }
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T2);
    world.programs = configured;
    assert!(below(&planned(&mut world, By::Guardian, program)), "a person asks for it");
}

#[test]
fn what_is_over_or_nearly_so_is_not_revived_by_planning_again() {
    let mut world = submitted(Kind::BreakGlass, Stakes::T3);
    world.pass(51 * 60);
    world.step_wall(-50 * 60);
    let again = |scope: &mut Scope| scope.evidence = Digest([3; 32]);
    assert!(matches!(planned(&mut world, By::Guardian, again), Err(Refusal::Over(_))));
    // Nor with a clock that nobody has seen before it was set back.
    let mut world = submitted(Kind::BreakGlass, Stakes::T3);
    world.pass(30 * 60);
    let before = world.request.deadline.clone();
    let back = Moment { wall: at(1), ..world.now.clone() };
    let ground = Ground { seen: &back, ..world.ground() };
    let scope = Box::new(Scope { evidence: Digest([3; 32]), ..world.request.scope.clone() });
    let event = Event::ScopeChanged { by: By::Guardian, scope, decide_by: at(HOUR) };
    let stepped = step(&world.request, &event, &ground, &back).unwrap();
    assert_eq!(stepped.request.deadline, before);
    assert_eq!(stepped.request.ends.unwrap().boot, before.boot);
}

#[test]
fn what_a_waiver_ends_by_is_counted_from_when_it_was_planned() {
    let mut scope = scope(Kind::Waiver, Stakes::T3);
    if let Action::Waive { until, .. } = &mut scope.action {
        *until = at(HOUR);
    }
    let ready = || {
        let mut world = World::of(scope.clone());
        world.agree();
        world
    };
    let mut world = ready();
    world.pass(3_000);
    // The wall clock went back before anybody had looked at it.
    let mut back = world.now.clone();
    back.wall = at(1);
    let event = Event::Begun { by: By::Guardian, preflight: preflight(&world.request.scope, &back) };
    let begun = step(&world.request, &event, &Ground { seen: &back, ..world.ground() }, &back).unwrap();
    let boot = world.request.opened.boot.plus(Duration::from_secs(3_600));
    assert_eq!(begun.request.ends.unwrap().boot, boot);
    let mut world = ready();
    world.pass(3_600);
    assert_eq!(world.begin(By::Guardian), Err(Refusal::Over(at(HOUR))));
}

#[test]
fn a_permit_is_over_with_its_request_and_with_what_it_puts_in_force() {
    let mut world = submitted(Kind::BreakGlass, Stakes::T3);
    world.agree();
    world.pass(50 * 60 - 10);
    let mut back = world.now.clone();
    back.wall = at(5);
    let event = Event::Begun { by: By::Guardian, preflight: preflight(&world.request.scope, &back) };
    let begun = step(&world.request, &event, &Ground { seen: &back, ..world.ground() }, &back).unwrap();
    let permit = begun.permit.unwrap();
    assert_eq!(permit.until().boot, world.request.deadline.boot);
    back.boot = back.boot.plus(Duration::from_secs(10));
    assert!(matches!(permit.redeem(begun.request.scope, &back), Err(Refusal::Over(_))));
}

#[test]
fn for_whom_somebody_acts_is_followed_to_the_end_and_as_it_is_now() {
    let why_not = |world: &World, n: usize| may_approve(&world.request, &who(n), &world.ground(), &world.now).err();
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    planned(&mut world, By::Person(who(TOOL)), |scope| scope.evidence = Digest([3; 32])).unwrap();
    assert_eq!(why_not(&world, BOB), Some(WhyNot::Requester));
    // Of authors too.
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    assert_eq!(why_not(&world, BOB), None);
    if let Rules::Known(set) = &mut world.rules {
        set.rules[0].authors.insert(who(TOOL));
    }
    assert_eq!(why_not(&world, BOB), Some(WhyNot::Author));
    // And for whom the requester turned out to act since.
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.people.get_mut(&who(ASKS)).unwrap().acts_for = Some(who(BEA));
    assert_eq!(why_not(&world, BEA), Some(WhyNot::Requester));
    // A circle has an end.
    world.people.get_mut(&who(BEA)).unwrap().acts_for = Some(who(ASKS));
    assert_eq!((why_not(&world, BEA), why_not(&world, BOB)), (Some(WhyNot::Requester), None));
    // Nor does whoever's agent asked review it.
    let mut world = submitted(Kind::BreakGlass, Stakes::T3);
    world.agree();
    world.begin(By::Guardian).unwrap();
    done(&mut world, Found::AsApproved);
    world.people.get_mut(&who(ASKS)).unwrap().acts_for = Some(who(RUNS));
    let review = |n: usize| Event::Reviewed { by: who(n), reason: why() };
    assert!(matches!(world.happen(review(RUNS)), Err(Refusal::NotAllowed { .. })));
    world.happen(review(BOB)).unwrap();
}

#[test]
fn what_is_waived_stays_what_it_was_opened_for() {
    let mut world = submitted(Kind::Waiver, Stakes::T3);
    for (code, target) in [("KW4811", "key/often"), ("KW4812", "key/api")] {
        let other = Action::Waive { code: Arc::from(code), target: Arc::from(target), until: at(3 * HOUR) };
        let refused = planned(&mut world, By::Guardian, |scope| scope.action = other);
        assert!(matches!(refused, Err(Refusal::Nothing(_))), "{refused:?}");
    }
    let same = Action::Waive { code: Arc::from("KW4811"), target: Arc::from("key/api"), until: at(2 * HOUR) };
    planned(&mut world, By::Guardian, |scope| scope.action = same).unwrap();
    let mut glass = submitted(Kind::BreakGlass, Stakes::T3);
    assert!(matches!(planned(&mut glass, By::Guardian, |scope| scope.action = issue()), Err(Refusal::Nothing(_))));
}

#[test]
fn over_a_reboot_the_latest_moment_of_all_is_what_clocks_are_held_against() {
    let mut world = submitted(Kind::Waiver, Stakes::T3);
    world.agree();
    world.reboot(60);
    world.pass(5_000);
    world.step_wall(-5_000);
    assert!(!world.now.is_behind(&world.request.mark));
    assert!(matches!(world.begin(By::Guardian), Err(Refusal::ClockBack { .. })));
    world.step_wall(5_000);
    world.begin(By::Guardian).unwrap();
    done(&mut world, Found::AsApproved);
    assert!(world.request.is_in_force(&world.now, &world.high));
    world.pass(600);
    world.step_wall(-590);
    assert!(!world.now.is_behind(&world.request.mark) && !world.request.is_in_force(&world.now, &world.high));
}

#[test]
fn one_person_does_not_speak_for_two_rules_that_have_no_group_in_common() {
    let rules = || known(vec![approvers("ants", &["a"], 1), approvers("bees", &["b"], 1)]);
    let both = BTreeSet::from([group("a"), group("b")]);
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    world.rules = rules();
    world.people.get_mut(&who(ANN)).unwrap().groups = both.clone();
    world.happen(Event::Submitted(By::Guardian)).unwrap();
    world.approve(ANN, Passkey).unwrap();
    assert_eq!(world.request.state, State::Review);
    let said = tally(&world.request, None, &world.ground()).unwrap().lacking;
    assert_eq!(said, [Lacking::Of { rule: Arc::from("ants and bees"), given: 1, needed: 2 }]);
    world.approve(ABE, Passkey).unwrap();
    assert_eq!(world.request.state, State::Approved);
    // Three rules, and two who are in all of their groups.
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    world.rules = known(["a", "b", "c"].map(|name| approvers(name, &[name], 1)).into());
    for n in [ANN, ABE, BEA] {
        world.people.get_mut(&who(n)).unwrap().groups = ["a", "b", "c"].map(group).into();
    }
    world.happen(Event::Submitted(By::Guardian)).unwrap();
    for (n, state) in [(ANN, State::Review), (ABE, State::Review), (BEA, State::Approved)] {
        world.approve(n, Passkey).unwrap();
        assert_eq!(world.request.state, state);
    }
    // More rules than can be weighed are refused, not skipped.
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    world.rules = known((0..=MOST_NEEDS).map(|_| approvers("again", &["a"], 1)).collect());
    let denied = Refusal::Denied(Denied::TooMany(MOST_NEEDS + 1));
    assert_eq!(world.happen(Event::Submitted(By::Guardian)), Err(denied));
}

#[test]
fn a_vote_with_a_stolen_key_does_not_come_back_when_its_owner_does() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.approve(ANN, Passkey).unwrap();
    world.people.get_mut(&who(ANN)).unwrap().consent = Consent::MayNot(Arc::from("stolen"));
    world.pass(60);
    world.people.get_mut(&who(ANN)).unwrap().consent = Consent::May { since: at(60) };
    assert!(matches!(world.begin(By::Guardian), Err(Refusal::NotEnough(_))));
    // And it is hers to say.
    world.approve(ANN, SshSignature).unwrap();
    assert_eq!(world.request.votes.len(), 1);
    world.begin(By::Guardian).unwrap();
}

#[test]
fn nobody_looks_while_the_permit_can_be_used() {
    for event in [Event::Crashed, Event::Failed { code: Arc::from("KW2001") }] {
        let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
        world.agree();
        world.begin(By::Guardian).unwrap();
        world.happen(event).unwrap();
        world.pass(59);
        // A wall clock that is ahead for a moment ends no permit for good.
        world.step_wall(600);
        assert!(matches!(world.happen(Event::LookedAt), Err(Refusal::PermitLives(_))));
        world.pass(1);
        world.happen(Event::LookedAt).unwrap();
        world.step_wall(-600);
        let (scope, permit) = (world.request.scope.clone(), world.permits.remove(0));
        assert!(permit.redeem(scope, &world.now).is_err());
    }
}

#[test]
fn what_could_not_be_found_out_of_freezes_and_reviews_holds_it() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    world.agree();
    let event = Event::Begun { by: By::Guardian, preflight: preflight(&world.request.scope, &world.now) };
    let begun = |ground: &Ground<'_>| step(&world.request, &event, ground, &world.now).is_ok();
    assert!(begun(&world.ground()));
    assert!(!begun(&Ground { freezes: None, ..world.ground() }));
    assert!(!begun(&Ground { unreviewed: None, ..world.ground() }));
}

#[test]
fn whoever_deleted_what_forbade_it_does_not_approve_it() {
    let mut world = submitted(Kind::IssueElsewhere, Stakes::T3);
    if let Rules::Known(set) = &mut world.rules {
        set.authors.insert(who(ANN));
    }
    assert!(matches!(world.approve(ANN, Passkey), Err(Refusal::NotYou { why: WhyNot::Author, .. })));
    world.approve(ABE, Passkey).unwrap();
}

#[test]
fn an_approval_of_all_beforehand_does_not_outdo_a_rule_about_less() {
    let kinds = BTreeSet::from([Kind::IssueElsewhere]);
    let routine = || says("routine", Says::Preapprove);
    let people = || approvers("people", &["a"], 1);
    let more = || BTreeSet::from([Kind::IssueElsewhere, Kind::NewName]);
    for (rules, state) in [
        (vec![routine(), people()], "approved"),
        (vec![routine(), Rule { kinds: kinds.clone(), ..people() }], "review"),
        (vec![routine(), Rule { least: Stakes::T2, ..people() }], "review"),
        (vec![Rule { kinds: kinds.clone(), ..routine() }, people()], "approved"),
        (vec![Rule { kinds: more(), ..routine() }, Rule { kinds: kinds.clone(), ..people() }], "review"),
        (vec![Rule { kinds: kinds.clone(), ..routine() }, Rule { least: Stakes::T2, ..people() }], "review"),
    ] {
        let mut world = World::new(Kind::IssueElsewhere, Stakes::T2);
        world.rules = known(rules);
        world.happen(Event::Submitted(By::Guardian)).unwrap();
        assert_eq!(world.request.state.as_str(), state, "{:?}", world.rules);
    }
}

#[test]
fn a_lifetime_differs_in_its_bytes_by_a_nanosecond() {
    let hash = |lifetime: Duration| {
        let mut scope = scope(Kind::IssueElsewhere, Stakes::T3);
        if let Action::Issue(issue) = &mut scope.action {
            issue.lifetime = Some(lifetime);
        }
        scope.hash()
    };
    assert_ne!(hash(Duration::from_secs(60)), hash(Duration::new(60, 1)));
}

#[test]
fn nobody_makes_the_log_grow_without_end() {
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    let most = usize::try_from(MOST_ENTRIES).unwrap();
    let mut taken = 0;
    for n in 0..most + 9 {
        let turn = |scope: &mut Scope| _ = scope.preconditions.insert(Arc::from("turn"), Arc::from(n.to_string()));
        taken += usize::from(planned(&mut world, By::Guardian, turn).is_ok());
    }
    assert_eq!(taken, most - 1);
    world.happen(Event::Submitted(By::Guardian)).unwrap();
    assert!(world.happen(Event::Recommended { by: who(BOT), verdict: Verdict::Approve, reason: why() }).is_err());
    assert!(world.happen(Event::FreezeLaid(freeze(1))).is_err());
    world.agree();
    world.begin(By::Guardian).unwrap();
    world.happen(Event::Done).unwrap();
    let look = || Event::Verified { found: Found::AsApproved, evidence: Digest([1; 32]) };
    let looks = (0..most + 9).filter(|_| world.happen(look()).is_ok()).count();
    assert!((1..most).contains(&looks), "{looks}");
    world.happen(Event::Closed(By::Person(who(RUNS)))).unwrap();
}

#[test]
fn what_is_said_of_the_last_safe_moment_and_of_the_request_before_is_held_against_the_facts() {
    let world = World::new(Kind::BreakGlass, Stakes::T3);
    assert_eq!(world.request.decide_by, world.request.scope.window.valid_until);
    let follows = Opening { follows: Some(id(9)), ..opening(scope(Kind::IssueElsewhere, Stakes::T3)) };
    assert!(matches!(open(follows, None, &world.ground(), &world.now), Err(Refusal::Follows { .. })));
    // What is approved because people have agreed is not called approved beforehand.
    let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
    world.hours = Hours::Out;
    world.happen(Event::Submitted(By::Guardian)).unwrap();
    world.approve(ANN, Passkey).unwrap();
    world.rules = rules(0);
    world.request.votes[0].hours = Hours::Business;
    let stepped = step(&world.request, &Event::Submitted(By::Guardian), &world.ground(), &world.now).unwrap();
    assert_eq!((stepped.request.state, stepped.transition.code()), (State::Approved, "request.submit"));
}
