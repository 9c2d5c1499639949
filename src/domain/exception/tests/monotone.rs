//! Invariant 7 over requests made up at random: whatever takes somebody or something away never makes anything possible.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::*;
use crate::domain::exception::*;
use crate::domain::key::Digest;

/// Somebody or something less.
#[derive(Clone, Debug)]
enum Less {
    Person(usize),
    Consent(usize),
    Role(usize),
    Group(usize, &'static str),
    Vote(usize),
    Deny,
    Author(usize),
    Rule,
    Freeze,
    Reject(usize),
}

fn less() -> impl Strategy<Value = Less> {
    let anybody = || 0..=CHIEF;
    prop_oneof![
        anybody().prop_map(Less::Person),
        anybody().prop_map(Less::Consent),
        anybody().prop_map(Less::Role),
        (anybody(), select(vec!["a", "b"])).prop_map(|(n, g)| Less::Group(n, g)),
        (0..5_usize).prop_map(Less::Vote),
        Just(Less::Deny),
        anybody().prop_map(Less::Author),
        Just(Less::Rule),
        Just(Less::Freeze),
        anybody().prop_map(Less::Reject),
    ]
}

fn take_away(world: &mut World, less: &Less) {
    let person = |world: &mut World, n: usize, change: &dyn Fn(&mut Person)| {
        world.people.get_mut(&who(n)).into_iter().for_each(change);
    };
    let rules = |world: &mut World, change: &dyn Fn(&mut Vec<Rule>)| {
        if let Rules::Known(set) = &mut world.rules {
            change(&mut set.rules);
        }
    };
    match less {
        Less::Person(n) => drop(world.people.remove(&who(*n))),
        Less::Consent(n) => person(world, *n, &|p| p.consent = Consent::MayNot(Arc::from("gone"))),
        Less::Role(n) => person(world, *n, &|p| _ = p.roles.remove(&Role::Approver)),
        Less::Group(n, name) => person(world, *n, &|p| _ = p.groups.remove(&group(name))),
        Less::Vote(n) if *n < world.request.votes.len() => drop(world.request.votes.remove(*n)),
        Less::Vote(_) => {}
        Less::Deny => rules(world, &|all| all.push(says("never", Says::Deny))),
        // Whoever names an author names those for whom they act.
        Less::Author(n) => {
            let theirs = [Some(*n), (*n == AGENT).then_some(BOB)];
            let theirs: BTreeSet<PersonId> = theirs.into_iter().flatten().map(who).collect();
            rules(world, &|all| all.iter_mut().for_each(|r| r.authors.extend(theirs.iter().cloned())));
        }
        // The first rule of all is not one more.
        Less::Rule => rules(world, &|all| all.extend((!all.is_empty()).then(|| approvers("more", &["b"], 1)))),
        Less::Freeze => _ = world.freezes.insert(freeze(9)),
        Less::Reject(n) => {
            // A no stands beside the yes of others, or in the place of one's own.
            let id = who(*n);
            world.request.votes.retain(|vote| vote.ballot.person != id);
            let ballot = world.ballot(*n, Verdict::Reject, Channel::Passkey);
            world.request.votes.push(Vote { ballot, at: at(1), hours: Hours::Business });
        }
    }
}

/// Whether it could be begun as things are.
fn may_begin(world: &World) -> bool {
    let preflight = preflight(&world.request.scope, &world.now);
    step(&world.request, &Event::Begun { by: By::Guardian, preflight }, &world.ground(), &world.now).is_ok()
}

/// Whether somebody's approval would be taken.
fn may_decide(world: &World) -> BTreeSet<PersonId> {
    let all = who_may_decide(&world.request, &world.ground(), &world.now);
    all.into_iter().filter(|(_, may)| may.is_ok()).map(|(id, _)| id).collect()
}

fn vote() -> impl Strategy<Value = (usize, Channel, Hours, u8)> {
    let channels = select(vec![Channel::Passkey, Channel::SshSignature]);
    (0..=CHIEF, channels, select(vec![Hours::Business, Hours::Out]), 0..8_u8)
}

fn world(stakes: Stakes, n: usize, votes: &[(usize, Channel, Hours, u8)]) -> World {
    let mut world = World::new(Kind::IssueElsewhere, stakes);
    world.rules = rules(n);
    world.request.state = State::Approved;
    for (n, channel, hours, over) in votes {
        let mut ballot = world.ballot(*n, Verdict::Approve, *channel);
        // Some are of another round, or over other bytes.
        match over {
            0 => ballot.round += 1,
            1 => ballot.scope = Digest([3; 32]),
            _ => {}
        }
        world.request.votes.push(Vote { ballot, at: at(1), hours: *hours });
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_taken_away_makes_nothing_possible(
        stakes in select(vec![Stakes::T1, Stakes::T2, Stakes::T3, Stakes::T4]),
        n in 0..RULES,
        votes in vec(vote(), 0..5),
        taken in vec(less(), 1..8),
    ) {
        let mut world = world(stakes, n, &votes);
        let (mut could, mut decided) = (may_begin(&world), may_decide(&world));
        for less in &taken {
            take_away(&mut world, less);
            let (can, decide) = (may_begin(&world), may_decide(&world));
            prop_assert!(could || !can, "{less:?} made it possible");
            // A vote less gives its voter their voice back, and nobody else one; a channel more than two persons used.
            if !matches!(less, Less::Vote(_) | Less::Reject(_)) {
                prop_assert!(decide.is_subset(&decided), "{less:?} let {decide:?} decide");
            }
            (could, decided) = (can, decide);
        }
    }

    /// Invariant 8: whoever agrees, rules that are not there, not known, broken or of another policy allow nothing.
    #[test]
    fn without_rules_that_can_be_believed_nothing_begins_whoever_agrees(
        stakes in select(vec![Stakes::T1, Stakes::T2, Stakes::T3, Stakes::T4]),
        n in 2..7_usize,
        votes in vec(vote(), 0..8),
    ) {
        let mut world = world(stakes, n, &votes);
        world.agree();
        prop_assert!(!may_begin(&world) && may_decide(&world).is_empty());
    }
}

#[test]
fn a_good_part_of_the_made_up_requests_may_begin() {
    // Else the properties above would compare nothing with nothing.
    let good = [(ANN, Channel::Passkey, Hours::Business, 7), (BEA, Channel::SshSignature, Hours::Business, 7)];
    for (stakes, _) in Stakes::ALL {
        for n in [0, 1, 7] {
            assert!(may_begin(&world(stakes, n, &good)), "{stakes} under rules {n}");
        }
    }
}
