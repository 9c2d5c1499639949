//! The nine invariants, over interleavings of steps, evidence, crashes, lost acknowledgements, orders and time.

use core::time::Duration;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::world::{World, party};
use crate::domain::rotation::*;
use crate::domain::time::{DAY, HOUR, MINUTE};

const PARTIES: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    /// The nth proposal is carried out.
    Propose(usize),
    /// A step that nobody proposed.
    Try(Kind, u32, Phase),
    /// A step that was proposed some time ago, by somebody who was slow.
    Stale(usize),
    /// A new generation with an old name or key.
    Reuse(u32),
    /// The nth effect is carried out.
    Effect(usize),
    /// A party takes the bundle, and is heard or not.
    Take(usize, bool),
    /// What a party acknowledged is lost.
    Lose(usize),
    /// A canary is probed.
    Probe(usize, u32),
    Look,
    Issue,
    Pass(Duration),
    Crash,
    /// Everybody does their part for so many rounds.
    Run(usize),
    Ask,
    RollBack(u32),
    Compromise(u32),
    SignOff,
    /// Everything is to be distrusted, with the name of this CA or another one.
    Distrust(bool),
    Cross(u32, u32),
}

fn calm() -> impl Strategy<Value = Op> {
    let kinds: Vec<Kind> = Kind::ALL.iter().map(|(kind, _)| *kind).collect();
    let phases: Vec<Phase> = Phase::ALL.iter().map(|(phase, _)| *phase).collect();
    let spans = vec![Duration::from_secs(1), MINUTE * 7, HOUR / 2, HOUR, HOUR * 3, DAY, DAY * 8, DAY * 40];
    prop_oneof![
        8 => (0..4_usize).prop_map(Op::Propose),
        6 => (select(kinds), 1..5_u32, select(phases)).prop_map(|(k, n, p)| Op::Try(k, n, p)),
        2 => (0..8_usize).prop_map(Op::Stale),
        1 => (1..5_u32).prop_map(Op::Reuse),
        6 => (0..6_usize).prop_map(Op::Effect),
        6 => (0..PARTIES, any::<bool>()).prop_map(|(n, heard)| Op::Take(n, heard)),
        2 => (0..PARTIES).prop_map(Op::Lose),
        4 => (0..PARTIES, 1..5_u32).prop_map(|(p, n)| Op::Probe(p, n)),
        3 => Just(Op::Look),
        5 => Just(Op::Issue),
        6 => select(spans).prop_map(Op::Pass),
        2 => Just(Op::Crash),
        8 => (1..6_usize).prop_map(Op::Run),
        3 => Just(Op::Ask),
        2 => (1..5_u32).prop_map(Op::RollBack),
        1 => (1..5_u32, 1..5_u32).prop_map(|(s, i)| Op::Cross(s, i)),
    ]
}

fn wild() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => calm(),
        1 => (1..4_u32).prop_map(Op::Compromise),
        2 => Just(Op::SignOff),
    ]
}

fn do_it(world: &mut World, op: &Op) {
    match op {
        Op::Propose(nth) => {
            world.propose_and_take(*nth);
        }
        Op::Try(kind, generation, from) => {
            drop(world.take(Step { generation: *generation, from: *from, kind: *kind }));
        }
        Op::Stale(nth) => {
            let steps = world.review().proposals.into_iter().filter_map(|p| match p.what {
                Proposed::Step(step) => Some(step),
                Proposed::Prepare { .. } => None,
            });
            world.remembered.extend(steps);
            if let Some(step) = world.remembered.get(*nth).copied() {
                drop(world.take(step));
            }
        }
        Op::Reuse(old) => {
            let number = world.standing.generations.last().map_or(1, |g| g.number + 1);
            let mut new = world.made(number, Renewal::Both);
            if let Some(g) = world.standing.generation(*old) {
                if number.is_multiple_of(2) {
                    new.issuing.key = g.root.key
                } else {
                    new.root.name = g.issuing.name.clone()
                }
                drop(world.admit(new));
            }
        }
        Op::Effect(nth) => {
            let effects = due(&world.standing, world.facts());
            if let Some(effect) = effects.get(nth.checked_rem(effects.len()).unwrap_or(0)) {
                world.carry_out(effect);
            }
        }
        Op::Take(n, heard) => world.party_takes(&party(*n), *heard),
        Op::Lose(n) => {
            world.evidence.acknowledged.remove(&party(*n));
        }
        Op::Probe(p, n) => world.probe(&party(*p), *n),
        Op::Look => world.look(),
        Op::Issue => {
            world.issue();
        }
        Op::Pass(span) => world.pass(*span),
        Op::Crash => world.crash(),
        Op::Run(rounds) => world.run(*rounds),
        Op::Ask => world.evidence.asked = Some(world.order()),
        Op::RollBack(n) => {
            let order = world.order();
            world.evidence.rollbacks.entry(*n).or_insert(order);
        }
        Op::Compromise(n) => {
            if world.standing.generation(*n).is_some() {
                world.bad.insert(*n);
                let order = world.order();
                world.evidence.compromised.entry(*n).or_insert(order);
            }
        }
        Op::SignOff => {
            let next = world.standing.generations.iter().rfind(|g| g.abandoned.is_none() && g.phase.is_trusted());
            if let Some(next) = next {
                let shown = breakage(&world.standing, next, world.facts());
                let off = SignOff { by: Arc::from("ada"), at: world.now, shown };
                world.evidence.signed_off.push(off);
            }
        }
        Op::Distrust(ours) => {
            let ca = crate::domain::id::CaId::parse(if *ours { "mesh" } else { "another" }).unwrap();
            // An order that was good is not taken back.
            world.evidence.distrust.get_or_insert(DistrustAll { ca, by: Arc::from("ada"), at: world.now });
        }
        Op::Cross(subject, issuer) => cross(world, *subject, *issuer),
    }
}

fn cross(world: &mut World, subject: u32, issuer: u32) {
    let of = |n| world.standing.generation(n).map(|g| g.root.validity);
    let (Some(one), Some(other)) = (of(subject), of(issuer)) else { return };
    let validity = one.intersection(&other);
    let certificate = crate::domain::key::Digest::of(format!("{subject} by {issuer} {}", world.now).as_bytes());
    let made = cross_sign(&world.standing, Cross { subject, issuer, certificate, validity }, world.facts());
    if let Ok(next) = made {
        assert!(world.may_sign.contains(&issuer), "(1) generation {issuer} cross-signs, and was never let through");
        assert!(!world.is_bad(issuer) && !world.is_bad(subject), "a compromised generation is cross-signed");
        world.artefacts.crosses = next.crosses.clone();
        world.standing = next;
    }
}

fn start(days: u64, issuing_only: bool) -> World {
    let renewal = if issuing_only { Renewal::Issuing } else { Renewal::Both };
    let mut world = World::new(PARTIES, DAY * u32::try_from(days).unwrap(), renewal);
    world.run(4);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// (1)–(8), and nobody is cut off as long as no key is compromised.
    #[test]
    fn a_rotation_keeps_its_rules_in_every_order_of_things(
        days in 2..30_u64, issuing_only in any::<bool>(), ops in vec(calm(), 1..80)
    ) {
        let mut world = start(days, issuing_only);
        for op in &ops {
            do_it(&mut world, op);
            world.nobody_is_cut_off();
        }
    }

    /// (1)–(9), with keys in other hands.
    #[test]
    fn a_compromise_skips_the_drain_and_nothing_else(
        days in 2..30_u64, issuing_only in any::<bool>(), ops in vec(wild(), 1..80)
    ) {
        let mut world = start(days, issuing_only);
        for op in &ops {
            do_it(&mut world, op);
        }
    }

    /// Nothing is ever stuck: whatever went before, once everybody does their part and somebody asks, a new generation
    /// signs and all older ones go.
    #[test]
    fn a_rotation_goes_to_its_end_once_everybody_does_their_part(
        days in 2..30_u64, issuing_only in any::<bool>(), ops in vec(wild(), 1..60)
    ) {
        let mut world = start(days, issuing_only);
        for op in &ops {
            do_it(&mut world, op);
        }
        world.pass(HOUR);
        world.run(40);
        world.pass(HOUR);
        world.evidence.asked = Some(world.order());
        let newest = world.standing.generations.last().map_or(0, |g| g.number);
        for _ in 0..60 {
            do_it(&mut world, &Op::SignOff);
            world.run(1);
            world.pass(HOUR / 4);
        }
        let signs = signer(&world.standing).map(|g| g.number);
        prop_assert!(signs.is_some_and(|n| n >= newest), "{signs:?} signs, {newest} was the newest: {:#?}", world.review());
        // Those that came since may be in any phase: short lives go on rotating.
        let old = world.standing.generations.iter().filter(|g| g.number < newest);
        let left = old.filter(|g| g.phase != Phase::Destroyed);
        let left: Vec<(u32, Phase)> = left.map(|g| (g.number, g.phase)).collect();
        prop_assert!(left.is_empty(), "{left:?} are left: {:#?}", world.review().held);
    }

    /// (4)
    #[test]
    fn one_silent_party_stops_a_rotation_for_ever_and_its_owner_is_told(
        silent in 0..PARTIES, spans in vec(1..2_000_u32, 1..30), how in 0..3_u8
    ) {
        // It lives for longer than all of the waiting, so that nothing but the party is missing.
        let mut world = start(4_000, false);
        world.evidence.asked = Some({ let mut order = world.order(); order.at = order.at.plus(MINUTE); order });
        world.propose_and_take(0);
        world.propose_and_take(0);
        prop_assert_eq!(world.phase(2), Phase::Staged);
        for hours in spans {
            world.settle();
            match how {
                0 => _ = world.evidence.acknowledged.remove(&party(silent)),
                1 => _ = world.evidence.canaries.remove(&(party(silent), 2)),
                _ => _ = world.evidence.canaries.insert((party(silent), 2), Canary::Refused(world.now)),
            }
            prop_assert!(!world.propose_and_take(0));
            prop_assert_eq!((world.phase(1), world.phase(2)), (Phase::Signing, Phase::Staged));
            let told = world.review().findings.into_iter().any(|f| {
                matches!(f, Finding::Missing(m) if m.party == party(silent) && *m.owner == format!("owner-{silent}"))
            });
            prop_assert!(told, "nobody was told");
            world.pass(HOUR * hours);
        }
    }

    /// An empty bundle comes only of an order that names this CA.
    #[test]
    fn everything_is_distrusted_by_name_only(ops in vec(prop_oneof![6 => wild(), 1 => any::<bool>().prop_map(Op::Distrust)], 1..60)) {
        let mut world = start(10, false);
        for op in &ops {
            do_it(&mut world, op);
            let ours = world.evidence.distrust.as_ref().is_some_and(|d| d.ca == world.standing.ca);
            let trusted = bundle(&world.standing, None).is_ok();
            prop_assert!(trusted || ours || world.published.is_none());
            prop_assert_eq!(bundle(&world.standing, world.evidence.distrust.as_ref()).is_ok(), trusted || ours);
        }
    }
}
