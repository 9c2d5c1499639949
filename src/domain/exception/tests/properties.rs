//! The invariants, over interleavings of several people, rules, freezes, crashes and clocks that step. The world checks
//! them at every step; here are the interleavings, and proof that they reach every state.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::world::*;
use crate::domain::exception::*;
use crate::domain::key::Digest;

#[derive(Clone, Copy, Debug)]
enum Over {
    Now,
    RoundBefore,
    OtherBytes,
}

#[derive(Clone, Copy, Debug)]
enum Drift {
    None,
    Asset,
    Condition,
    Bytes,
    Old,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Gone,
    Back,
    Absent,
    NoConsent,
    NoRole,
    OtherGroup,
}

#[derive(Clone, Debug)]
enum Op {
    Submit(usize),
    Vote(usize, Verdict, Channel, Over),
    Agree,
    Recommend(usize),
    Defer(usize, i64),
    Resume(Option<usize>),
    Withdraw(Option<usize>),
    Revoke(Option<usize>),
    Supersede,
    Change(Option<usize>, u8),
    Expire,
    /// So much time passes that it is over, and that is noticed.
    RunOut,
    Begin(Option<usize>, Drift),
    Done,
    Fail,
    Crash,
    Look,
    Verify(Found),
    Close(Option<usize>),
    Reopen,
    TakeBack(usize),
    Review(usize),
    /// Told to the request, known to the world, or both.
    Freeze(u8, bool, bool),
    Thaw(u8),
    Escalate(u32),
    Pass(u64),
    StepWall(i64),
    Reboot(u64),
    Person(usize, Fate),
    Rules(usize),
    Hours(Hours),
    Unreviewed(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let maybe = || proptest::option::of(0..=STRANGER);
    // Mostly those whose voice may count.
    let anybody = || prop_oneof![3 => ANN..=RUNS, 2 => 0..=STRANGER];
    let asks = prop_oneof![Just(None), select(vec![Some(ASKS), Some(AGENT), Some(TOOL), Some(ANN)])];
    let carries_out = prop_oneof![2 => Just(None), 2 => Just(Some(RUNS)), 1 => maybe()];
    let channel = || select(vec![Channel::Passkey, Channel::SshSignature]);
    let verdict = prop_oneof![9 => Just(Verdict::Approve), 1 => Just(Verdict::Reject)];
    let over = prop_oneof![8 => Just(Over::Now), 1 => Just(Over::RoundBefore), 1 => Just(Over::OtherBytes)];
    let drift = prop_oneof![
        8 => Just(Drift::None),
        1 => select(vec![Drift::Asset, Drift::Condition, Drift::Bytes, Drift::Old]),
    ];
    let fates = vec![Fate::Gone, Fate::Back, Fate::Back, Fate::Absent, Fate::NoConsent, Fate::NoRole, Fate::OtherGroup];
    let found = select(vec![Found::AsApproved, Found::AsApproved, Found::AsBefore, Found::Partly]);
    let asking = prop_oneof![
        6 => anybody().prop_map(Op::Submit),
        28 => (anybody(), verdict, channel(), over).prop_map(|(n, v, c, o)| Op::Vote(n, v, c, o)),
        8 => Just(Op::Agree),
        2 => anybody().prop_map(Op::Recommend),
        14 => (anybody(), select(vec![-5, 60, 600, 3_599, 3_600, 9_999])).prop_map(|(n, s)| Op::Defer(n, s)),
        10 => maybe().prop_map(Op::Resume),
        1 => maybe().prop_map(Op::Withdraw),
        2 => maybe().prop_map(Op::Revoke),
        1 => Just(Op::Supersede),
        4 => (asks, 0..9_u8).prop_map(|(by, n)| Op::Change(by, n)),
        5 => Just(Op::Expire),
        2 => Just(Op::RunOut),
    ];
    let doing = prop_oneof![
        9 => (carries_out, drift).prop_map(|(by, drift)| Op::Begin(by, drift)),
        4 => Just(Op::Done),
        2 => Just(Op::Fail),
        2 => Just(Op::Crash),
        4 => Just(Op::Look),
        7 => found.prop_map(Op::Verify),
        6 => maybe().prop_map(Op::Close),
        2 => Just(Op::Reopen),
        2 => anybody().prop_map(Op::TakeBack),
        2 => anybody().prop_map(Op::Review),
    ];
    let around = prop_oneof![
        2 => (1..3_u8, any::<bool>(), any::<bool>()).prop_map(|(n, told, known)| Op::Freeze(n, told, known)),
        2 => (1..3_u8).prop_map(Op::Thaw),
        1 => (0..4_u32).prop_map(Op::Escalate),
        4 => select(vec![1, 1, 60, 60, 600, 4_000]).prop_map(Op::Pass),
        2 => select(vec![-9_000, -60, -2, -1, 1, 60, 3_000]).prop_map(Op::StepWall),
        1 => select(vec![0, 60, 2_000]).prop_map(Op::Reboot),
        5 => (anybody(), select(fates)).prop_map(|(n, fate)| Op::Person(n, fate)),
        3 => prop_oneof![6 => Just(0), 1 => 0..RULES].prop_map(Op::Rules),
        2 => select(vec![Hours::Business, Hours::Out]).prop_map(Op::Hours),
        1 => any::<bool>().prop_map(Op::Unreviewed),
    ];
    prop_oneof![4 => asking, 4 => doing, 3 => around]
}

/// What is asked, what is at stake, whether people are at work, and by which rules.
type Setting = (Kind, Stakes, Hours, usize);

fn setting() -> impl Strategy<Value = Setting> {
    let issue = select(vec![Stakes::T1, Stakes::T2, Stakes::T3, Stakes::T4]).prop_map(|s| (Kind::IssueElsewhere, s));
    let above =
        (select(vec![Kind::BreakGlass, Kind::Waiver, Kind::FreezeOverride]), select(vec![Stakes::T3, Stakes::T4]));
    let hours = select(vec![Hours::Business, Hours::Out]);
    (prop_oneof![3 => issue, 2 => above], hours, select(vec![0, 0, 1, 7]))
        .prop_map(|((kind, stakes), hours, rules)| (kind, stakes, hours, rules))
}

fn by(n: Option<usize>) -> By {
    n.map_or(By::Guardian, |n| By::Person(who(n)))
}

fn do_it(world: &mut World, op: &Op) {
    let happened = match op {
        Op::Submit(n) => world.happen(Event::Submitted(by(Some(*n)))),
        Op::Vote(n, verdict, channel, over) => {
            let mut ballot = world.ballot(*n, *verdict, *channel);
            match over {
                Over::Now => {}
                Over::RoundBefore => ballot.round = ballot.round.saturating_sub(1),
                Over::OtherBytes => ballot.scope = Digest([3; 32]),
            }
            world.happen(Event::Voted(ballot))
        }
        Op::Agree => {
            world.agree();
            Ok(())
        }
        Op::Recommend(n) => world.happen(Event::Recommended { by: who(*n), verdict: Verdict::Approve, reason: why() }),
        Op::Defer(n, seconds) => world.happen(Event::Deferred { by: who(*n), until: at(*seconds), reason: why() }),
        Op::Resume(n) => world.happen(Event::Resumed(by(*n))),
        Op::Withdraw(n) => world.happen(Event::Withdrawn { by: by(*n), reason: why() }),
        Op::Revoke(n) => world.happen(Event::Revoked { by: by(*n), reason: why() }),
        Op::Supersede => world.happen(Event::Superseded(id(2))),
        Op::Change(who, n) => {
            let mut scope = world.request.scope.clone();
            match n {
                0 => {}
                1 => scope.evidence = Digest([4; 32]),
                2 => scope.window.valid_until = at(45 * 60),
                3 => scope.stakes = Stakes::T1,
                4 => scope.window.valid_until = at(60 * 60),
                5 => scope.window.valid_until = at(20 * 3_600),
                6 => scope.assets = [(Arc::from("credential/grave"), None)].into(),
                7 => other_target(&mut scope.action),
                _ => scope.preconditions = BTreeMap::from([(Arc::from("issuer answers"), Arc::from("again"))]),
            }
            world.happen(Event::ScopeChanged { by: by(*who), scope: Box::new(scope), decide_by: at(2_000) })
        }
        Op::Expire => world.happen(Event::Expired),
        Op::RunOut => {
            world.pass(8_000);
            world.happen(Event::Expired)
        }
        Op::Begin(n, drift) => {
            let mut seen = preflight(&world.request.scope, &world.now);
            match drift {
                Drift::None => {}
                Drift::Asset => _ = seen.assets.insert(Arc::from("credential/portal"), None),
                Drift::Condition => seen.preconditions.clear(),
                Drift::Bytes => seen.scope = Digest([5; 32]),
                Drift::Old => seen.at.boot_id = Arc::from("another"),
            }
            let begun = world.happen(Event::Begun { by: by(*n), preflight: seen });
            assert!(matches!(drift, Drift::None) || begun.is_err(), "begun in spite of {drift:?}");
            begun
        }
        Op::Done => world.happen(Event::Done),
        Op::Fail => world.happen(Event::Failed { code: Arc::from("KW2001") }),
        Op::Crash => world.happen(Event::Crashed),
        Op::Look => {
            let looked = world.happen(Event::LookedAt);
            if !matches!(looked, Err(Refusal::PermitLives(_))) {
                return;
            }
            world.pass(60);
            world.happen(Event::LookedAt)
        }
        Op::Verify(found) => world.happen(Event::Verified { found: *found, evidence: Digest([6; 32]) }),
        Op::Close(n) => world.happen(Event::Closed(by(*n))),
        Op::Reopen => world.happen(Event::Reopened(id(3))),
        Op::TakeBack(n) => world.happen(Event::TakenBack { by: by(Some(*n)), reason: why() }),
        Op::Review(n) => world.happen(Event::Reviewed { by: who(*n), reason: why() }),
        Op::Freeze(n, told, known) => {
            if *known {
                world.freezes.insert(freeze(*n));
            }
            if *told { world.happen(Event::FreezeLaid(freeze(*n))) } else { Ok(()) }
        }
        Op::Thaw(n) => {
            world.freezes.remove(&freeze(*n));
            world.happen(Event::FreezeLifted(freeze(*n)))
        }
        Op::Escalate(step) => world.happen(Event::Escalated { step: *step }),
        Op::Pass(seconds) => {
            world.pass(*seconds);
            Ok(())
        }
        Op::StepWall(seconds) => {
            world.step_wall(*seconds);
            Ok(())
        }
        Op::Reboot(seconds) => {
            world.reboot(*seconds);
            world.request.after_restart().map_or(Ok(()), |event| world.happen(event))
        }
        Op::Person(n, fate) => {
            change(world, *n, *fate);
            Ok(())
        }
        Op::Rules(n) => {
            world.rules = rules(*n);
            Ok(())
        }
        Op::Hours(hours) => {
            world.hours = *hours;
            Ok(())
        }
        Op::Unreviewed(any) => {
            world.unreviewed = if *any { vec![id(4)] } else { Vec::new() };
            Ok(())
        }
    };
    // A refusal changes nothing and says why in a sentence.
    if let Err(refusal) = happened {
        let said = refusal.to_string();
        assert!(said.len() > 10 && !said.ends_with('.'), "{said:?}");
    }
    world.what_was_waived_ends();
}

/// Asks for something else: another waiver, or a program.
fn other_target(action: &mut Action) {
    if let Action::Waive { target, .. } = action {
        *target = Arc::from("key/other");
    } else if let Action::Issue(issue) = action {
        issue.placing.reload = vec![vec![Arc::from("sh")]];
    }
}

fn change(world: &mut World, n: usize, fate: Fate) {
    let id = who(n);
    // Whoever comes back is enrolled anew.
    let consent = Consent::May { since: world.high.wall };
    let people = &mut world.people;
    match fate {
        Fate::Gone => drop(people.remove(&id)),
        Fate::Back => drop(everybody().remove(&id).map(|person| people.insert(id, Person { consent, ..person }))),
        Fate::Absent | Fate::NoConsent | Fate::NoRole | Fate::OtherGroup => {
            let Some(person) = people.get_mut(&id) else { return };
            match fate {
                Fate::Absent => person.presence = Presence::Absent(None),
                Fate::NoConsent => person.consent = Consent::MayNot(Arc::from("suspended")),
                Fate::NoRole => _ = person.roles.remove(&Role::Approver),
                Fate::Gone | Fate::Back | Fate::OtherGroup => person.groups = [group("c")].into(),
            }
        }
    }
}

/// Where an interleaving begins: as a draft, in review, approved, or begun.
fn start() -> impl Strategy<Value = usize> {
    0..4_usize
}

fn run(setting: Setting, start: usize, ops: &[Op]) -> World {
    let mut world = World::new(setting.0, setting.1);
    (world.hours, world.rules) = (setting.2, rules(setting.3));
    let first = [Op::Submit(ASKS), Op::Agree, Op::Begin(None, Drift::None)];
    first.iter().take(start).chain(ops).for_each(|op| do_it(&mut world, op));
    world
}

proptest! {
    #![proptest_config(Config { cases: 1_024, ..Config::default() })]

    /// Invariants 1, 2, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15 and 16; the world names each where it checks it.
    #[test]
    fn whatever_happens_in_whatever_order_the_invariants_hold(setting in setting(), start in start(), ops in vec(op(), 1..60)) {
        run(setting, start, &ops);
    }

    /// Invariant 3: nobody does anything, and time passes as it likes.
    #[test]
    fn time_alone_approves_and_begins_nothing(
        setting in setting().prop_filter("somebody is asked", |(_, stakes, ..)| *stakes > Stakes::T1),
        first in vec(op(), 0..6),
        spans in vec((0..9_000_u64, -5_000..5_000_i64, any::<bool>(), 0..6_usize), 1..20),
    ) {
        let mut world = run(setting, 0, &[]);
        world.rules = rules(0);
        // Some of what comes before, but no approval.
        for op in first.iter().filter(|op| !matches!(op, Op::Vote(..) | Op::Agree | Op::Rules(_))) {
            do_it(&mut world, op);
        }
        for (span, wall, reboot, what) in spans {
            world.pass(span);
            world.step_wall(wall);
            if reboot {
                world.reboot(1);
            }
            let preflight = preflight(&world.request.scope, &world.now);
            let event = match what {
                0 => Event::Expired,
                1 => Event::Resumed(By::Guardian),
                2 => Event::Submitted(By::Guardian),
                3 => Event::Escalated { step: world.request.escalation + 1 },
                4 => Event::Begun { by: By::Guardian, preflight },
                _ => Event::LookedAt,
            };
            drop(world.happen(event));
            let never = matches!(world.request.state, State::Approved | State::Executing);
            prop_assert!(!never, "time alone made it {}", world.request.state);
        }
    }

    /// Invariant 11, by people who want nothing but to put it off.
    #[test]
    fn it_is_put_off_twice_at_most_and_decided_in_time_however_people_try(
        tries in vec((ANN..=BOB, 1..8_000_i64, 0..1_500_u64, any::<bool>()), 3..12),
    ) {
        let mut world = World::new(Kind::IssueElsewhere, Stakes::T3);
        world.happen(Event::Submitted(By::Guardian)).unwrap();
        let mut taken = 0;
        for (n, until, passes, wakes) in tries {
            let deferred = world.happen(Event::Deferred { by: who(n), until: at(until), reason: why() }).is_ok();
            prop_assert!(!deferred || until <= HOUR, "put off past the last safe moment");
            taken += u32::from(deferred);
            world.pass(passes);
            let by = if wakes { By::Person(who(n)) } else { By::Guardian };
            drop(world.happen(Event::Resumed(by)));
            // At the last safe moment nothing is put off any more.
            let over = world.now.wall >= at(HOUR);
            drop(over.then(|| world.happen(Event::Resumed(By::Guardian))));
            prop_assert!(!over || world.request.state == State::Review);
        }
        prop_assert!(taken <= 2);
    }

    /// Invariant 16, by clocks alone.
    #[test]
    fn a_waiver_is_over_when_either_clock_says_so(
        spans in vec((0..6_000_u64, -4_000..4_000_i64, any::<bool>()), 1..12),
    ) {
        let mut world = World::new(Kind::Waiver, Stakes::T3);
        world.agree();
        for event in [Event::Done, Event::Verified { found: Found::AsApproved, evidence: Digest([1; 32]) }] {
            drop(world.begin(By::Guardian));
            world.happen(event).unwrap();
        }
        prop_assert!(world.request.is_in_force(&world.now, &world.high));
        let (mut passed, mut wall, mut high) = (0, 0, 0);
        for (span, steps, stepped) in spans {
            world.pass(span);
            passed += span;
            if stepped {
                world.step_wall(steps);
                wall += steps;
            }
            let shown = i64::try_from(passed).unwrap() + wall;
            high = shown.max(high + i64::try_from(span).unwrap());
            // It lasts three hours from the beginning of the world, in which it began.
            let may = passed < 3 * 3_600 && (high - 2..3 * HOUR).contains(&shown);
            prop_assert_eq!(world.request.is_in_force(&world.now, &world.high), may);
            world.what_was_waived_ends();
        }
    }

    /// Invariant 5, the rest of it: of two who begin the same, one does.
    #[test]
    fn of_two_who_begin_one_does_and_its_permit_is_used_once(setting in setting(), late in 0..120_u64) {
        let mut world = World::new(setting.0, setting.1);
        world.agree();
        prop_assert_eq!(&world.request.state, &State::Approved);
        world.begin(By::Guardian).unwrap();
        prop_assert!(matches!(world.begin(By::Guardian), Err(Refusal::Spent)));
        let (scope, permit) = (world.request.scope.clone(), world.permits.remove(0));
        world.pass(late);
        prop_assert_eq!(permit.redeem(scope, &world.now).is_ok(), late < PERMIT_LIFE.as_secs());
    }
}

#[test]
fn the_interleavings_reach_every_state_many_times() {
    let mut runner = TestRunner::deterministic();
    let strategy = (setting(), start(), vec(op(), 1..60));
    let mut reached: BTreeMap<&'static str, u32> = BTreeMap::new();
    for _ in 0..600 {
        let (setting, start, ops) = strategy.new_tree(&mut runner).unwrap().current();
        for state in run(setting, start, &ops).seen {
            *reached.entry(state).or_default() += 1;
        }
    }
    let states = [
        "review",
        "deferred",
        "approved",
        "executing",
        "failed",
        "unknown",
        "verifying",
        "closed",
        "rejected",
        "expired",
        "withdrawn",
        "superseded",
        "revoked",
        "reopened",
    ];
    for state in states {
        assert!(reached.get(state).is_some_and(|n| *n >= 8), "{state} was hardly reached: {reached:?}");
    }
    assert!(reached["executing"] >= 100, "{reached:?}");
}
