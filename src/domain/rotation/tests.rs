//! Rotations, told as facts.

mod properties;
mod world;
mod years;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::world::{LEAF, SKEW, World, party};
use super::*;
use crate::domain::time::{HOUR, MINUTE};

/// A CA whose first generation signs and has leaves out, and a rotation that somebody asked for.
fn asked(renewal: Renewal) -> World {
    let mut world = World::new(3, DAY * 300, renewal);
    world.run(4);
    world.pass(MINUTE);
    world.evidence.asked = Some(world.order());
    world
}

/// Until the second generation is in this phase.
fn until(world: &mut World, number: u32, phase: Phase) {
    for _ in 0..40 {
        if world.standing.generation(number).is_some_and(|g| g.phase == phase) {
            return;
        }
        world.run(1);
        world.pass(MINUTE * 10);
        world.nobody_is_cut_off();
    }
    panic!("generation {number} never came to be {phase}: {:#?}", world.review());
}

fn step(world: &World, generation: u32, kind: Kind) -> Step {
    Step { generation, from: world.phase(generation), kind }
}

fn hold(world: &World, generation: u32, kind: Kind) -> Hold {
    gate(&world.standing, step(world, generation, kind), world.facts()).unwrap_err()
}

#[test]
fn timers_are_those_of_the_anchors() {
    let mut world = World::new(0, DAY * 300, Renewal::Both);
    world.run(3);
    let own = signer(&world.standing).unwrap();
    let ends = own.validity().not_after;
    assert_eq!((own.prepare_at(), own.activate_at()), (ends.minus(DAY * 30), ends.minus(DAY * 7)));
    let mut short = World::new(0, HOUR * 6, Renewal::Both);
    short.run(3);
    let own = signer(&short.standing).unwrap();
    let ends = own.validity().not_after;
    assert_eq!((own.prepare_at(), own.activate_at()), (ends.minus(HOUR * 3), ends.minus(HOUR)));
    let review = world.review();
    assert_eq!(review.proposals, Vec::new());
    assert_eq!(review.wake_at, Some(signer(&world.standing).unwrap().prepare_at()));
}

#[test]
fn what_is_left_in_the_world_shows_the_phase() {
    for renewal in [Renewal::Both, Renewal::Issuing] {
        let mut world = asked(renewal);
        let mut seen = BTreeSet::new();
        for _ in 0..30 {
            world.run(1);
            world.settle();
            let found = recompute(&world.artefacts);
            let phases = |s: &Standing| s.generations.iter().map(|g| (g.number, g.phase)).collect::<Vec<_>>();
            let mut want = phases(&world.standing);
            // An old generation ceases to sign when a newer one signs; what is left does not show the write after that.
            let signs = signer(&world.standing).map(|g| g.number);
            want.iter_mut()
                .filter(|(n, p)| *p == Phase::Signing && Some(*n) != signs)
                .for_each(|w| w.1 = Phase::Draining);
            assert_eq!(phases(&found), want);
            assert_eq!(bundle(&found, None), bundle(&world.standing, None));
            seen.extend(want);
            world.pass(MINUTE * 10);
        }
        for (number, phase) in [(2, Phase::Standby), (2, Phase::Staged), (2, Phase::Signing), (1, Phase::Destroyed)] {
            assert!(seen.contains(&(number, phase)), "{number} was never {phase}");
        }
        assert!(seen.contains(&(1, Phase::Draining)) && seen.contains(&(1, Phase::Retired)));
    }
}

#[test]
fn every_phase_can_be_rolled_back_and_the_old_one_signs_again() {
    let phases = [(2, Phase::Standby), (2, Phase::Staged), (2, Phase::Signing), (1, Phase::Draining)];
    for (number, phase) in phases {
        let mut world = asked(Renewal::Both);
        until(&mut world, number, phase);
        let order = world.order();
        world.evidence.rollbacks.insert(2, order);
        let trusted = bundle(&world.standing, None).unwrap().anchors;
        for _ in 0..3 {
            world.propose_and_take(0);
            assert_eq!(bundle(&world.standing, None).unwrap().anchors, trusted, "rolled back from {phase}");
            world.nobody_is_cut_off();
        }
        assert_eq!(signer(&world.standing).map(|g| g.number), Some(1), "rolled back from {phase}");
        // The one that was rolled back drains and goes; the next rotation has to be asked for.
        until(&mut world, 2, Phase::Destroyed);
        let held = world.review().held;
        assert!(held.iter().any(|h| matches!(h.hold, Hold::AfterRollback { number: 2, .. })), "{held:?}");
        world.pass(MINUTE);
        world.evidence.asked = Some(world.order());
        until(&mut world, 3, Phase::Signing);
    }
}

#[test]
fn a_retired_generation_cannot_be_rolled_back_to() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 1, Phase::Retired);
    let order = world.order();
    world.evidence.rollbacks.insert(2, order);
    assert_eq!(hold(&world, 2, Kind::Abandon), Hold::NoReplacement(2));
    assert_eq!(signer(&world.standing).map(|g| g.number), Some(2));
}

#[test]
fn an_observed_leaf_that_nobody_recorded_keeps_the_old_ca() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 1, Phase::Draining);
    world.pass(LEAF * 2 + SKEW);
    world.settle();
    let leaves = world.evidence.leaves.get_mut(&1).unwrap();
    (leaves.observed, leaves.latest) = (1, Some(world.now.plus(HOUR)));
    assert!(matches!(hold(&world, 1, Kind::Retire), Hold::Unexpired { generation: 1, count: 1, .. }));
    assert!(world.review().findings.iter().any(|f| matches!(f, Finding::Undrained { generation: 1, .. })));
    world.evidence.leaves.remove(&1);
    assert_eq!(hold(&world, 1, Kind::Retire), Hold::Uncounted(1));
    let drained = world.standing.generation(1).unwrap().times.draining.unwrap().plus(LEAF * 2 + SKEW);
    for (looked, good) in [(drained.minus(MINUTE), false), (world.now.plus(MINUTE), false), (drained, true)] {
        world.evidence.leaves.insert(1, Leaves { recorded: 0, observed: 0, latest: None, looked });
        assert_eq!(gate(&world.standing, step(&world, 1, Kind::Retire), world.facts()).is_ok(), good, "{looked}");
    }
}

#[test]
fn a_canary_counts_while_it_is_fresh_and_since_the_generation_is_in_the_bundle() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 2, Phase::Staged);
    world.pass(HOUR * 2);
    world.settle();
    let staged = world.standing.generation(2).unwrap().times.staged.unwrap();
    let now = world.now;
    let cases = [
        (Canary::Accepted(now.minus(HOUR)), None),
        (Canary::Accepted(now.minus(HOUR + MINUTE)), Some(Lack::Old(now.minus(HOUR + MINUTE)))),
        (Canary::Accepted(staged.minus(MINUTE)), Some(Lack::Canary)),
        (Canary::Accepted(now.plus(MINUTE)), Some(Lack::Canary)),
        (Canary::Refused(now), Some(Lack::Refused(now))),
    ];
    for (canary, lack) in cases {
        world.evidence.canaries.insert((party(1), 2), canary);
        match (gate(&world.standing, step(&world, 2, Kind::Activate), world.facts()), lack) {
            (Ok(_), None) => {}
            (Err(Hold::Missing(lacking)), Some(lack)) => assert!(lacking.len() == 1 && lacking[0].lack == lack),
            (other, lack) => panic!("{canary:?}: {other:?} instead of {lack:?}"),
        }
    }
}

#[test]
fn the_way_back_stays_open_while_somebody_may_need_it() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 1, Phase::Draining);
    world.pass(LEAF * 2 + SKEW);
    world.settle();
    gate(&world.standing, step(&world, 1, Kind::Retire), world.facts()).unwrap();
    let mut ordered = world.clone();
    ordered.evidence.rollbacks.insert(2, world.order());
    assert_eq!(hold(&ordered, 1, Kind::Retire), Hold::RollbackFirst(2));
    let mut lost = world.clone();
    lost.evidence.compromised.insert(2, world.order());
    assert_eq!(hold(&lost, 1, Kind::Retire), Hold::RollbackFirst(2));
    let mut behind = world.clone();
    behind.evidence.acknowledged.remove(&party(0));
    assert!(matches!(hold(&behind, 1, Kind::Retire), Hold::Missing(_)));
    let mut alone = world.clone();
    alone.standing.generations.retain(|g| g.number == 1);
    assert_eq!(hold(&alone, 1, Kind::Retire), Hold::NoReplacement(1));
}

#[test]
fn nothing_signs_before_it_has_a_revocation_list() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 2, Phase::Staged);
    world.settle();
    world.evidence.lists.remove(&2);
    assert_eq!(hold(&world, 2, Kind::Activate), Hold::NoList(2));
    assert_eq!(due(&world.standing, world.facts()), [Effect::List(2)]);
}

#[test]
fn of_two_writers_the_second_is_refused() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 2, Phase::Staged);
    let order = world.order();
    world.evidence.rollbacks.insert(2, order);
    world.settle();
    let slow = step(&world, 2, Kind::Abandon);
    world.take(step(&world, 2, Kind::Activate)).unwrap();
    let moved = Refused::Moved { generation: 2, expected: Phase::Staged, found: Phase::Signing };
    assert_eq!(apply(&world.standing, slow, world.facts()), Err(moved));
}

#[test]
fn a_retirement_is_final_only_when_sessions_are_dropped() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 1, Phase::Retired);
    world.publish();
    (0..3).for_each(|n| world.party_takes(&party(n), true));
    let Hold::Missing(lacking) = hold(&world, 1, Kind::Destroy) else { panic!("nothing holds it") };
    assert!(lacking.iter().all(|m| m.lack == Lack::Sessions) && lacking.len() == 3);
    // What was dropped before it left was there again a moment later.
    let early = world.standing.generation(1).unwrap().times.retired.unwrap().minus(MINUTE);
    (0..3).for_each(|n| _ = world.evidence.dropped.insert((party(n), 1), early));
    assert_eq!(hold(&world, 1, Kind::Destroy), Hold::Missing(lacking));
    let effects = due(&world.standing, world.facts());
    assert!(effects.contains(&Effect::DropSessions(party(1), 1)), "{effects:?}");
    world.settle();
    world.take(step(&world, 1, Kind::Destroy)).unwrap();
    let own = world.standing.generation(1).unwrap();
    let effects = due(&world.standing, world.facts());
    assert_eq!(effects, [Effect::DestroyKey(own.root.key), Effect::DestroyKey(own.issuing.key)]);
}

#[test]
fn an_issuing_ca_below_a_root_that_stays_has_to_be_revoked() {
    let mut world = asked(Renewal::Issuing);
    until(&mut world, 1, Phase::Retired);
    world.settle();
    world.evidence.revoked.clear();
    let certificate = world.standing.generation(1).unwrap().issuing.certificate;
    assert_eq!(hold(&world, 1, Kind::Destroy), Hold::NotRevoked { number: 1, certificate });
    assert!(due(&world.standing, world.facts()).contains(&Effect::Revoke(certificate)));
    world.settle();
    world.take(step(&world, 1, Kind::Destroy)).unwrap();
    let keys: Vec<Effect> = due(&world.standing, world.facts());
    assert_eq!(keys, [Effect::DestroyKey(world.standing.generation(1).unwrap().issuing.key)], "the root's key stays");
}

#[test]
fn a_compromise_makes_the_replacement_first_and_waits_for_a_person() {
    let mut world = asked(Renewal::Both);
    world.evidence.asked = None;
    world.issue();
    world.bad.insert(1);
    let order = world.order();
    world.evidence.compromised.insert(1, order);
    until(&mut world, 2, Phase::Standby);
    world.run(1);
    assert_eq!(world.phase(2), Phase::Staged);
    // One party is silent: without a person, it stops here.
    world.settle();
    world.evidence.canaries.remove(&(party(2), 2));
    let Hold::NotSignedOff(breaks) = hold(&world, 2, Kind::Activate) else { panic!("nothing holds it") };
    assert_eq!(breaks.parties, [party(2)].into());
    assert!(breaks.leaves > 0 && breaks.generations == [1].into(), "{breaks}");
    assert!(matches!(hold(&world, 1, Kind::Drain), Hold::NoReplacement(1)));
    let nobody = SignOff { by: Arc::from(""), at: world.now, shown: breaks.clone() };
    world.evidence.signed_off.push(nobody);
    assert!(matches!(hold(&world, 2, Kind::Activate), Hold::NotSignedOff(_)), "nobody signed it off");
    world.evidence.signed_off.push(SignOff { by: Arc::from("ada"), at: world.now, shown: breaks.clone() });
    let mut worse = world.clone();
    worse.evidence.acknowledged.remove(&party(1));
    assert!(matches!(hold(&worse, 2, Kind::Activate), Hold::NotSignedOff(_)), "party-1 was not shown");
    world.take(step(&world, 2, Kind::Activate)).unwrap();
    world.take(step(&world, 1, Kind::Drain)).unwrap();
    world.pass(MINUTE);
    world.look();
    // What breaks became worse: it has to be seen again.
    let mut worse = world.clone();
    worse.evidence.leaves.get_mut(&1).unwrap().observed = 7;
    assert!(matches!(hold(&worse, 1, Kind::Retire), Hold::NotSignedOff(_)));
    world.take(step(&world, 1, Kind::Retire)).unwrap();
    assert!(breaks.to_string().contains("these may refuse every new leaf: party-2"), "{breaks}");
}

#[test]
fn an_empty_bundle_is_refused_unless_asked_for_by_name() {
    let mut world = asked(Renewal::Both);
    world.evidence.asked = None;
    let order = |world: &World, ca: &str| {
        Some(DistrustAll { ca: CaId::parse(ca).unwrap(), by: Arc::from("ada"), at: world.now })
    };
    world.evidence.distrust = order(&world, "other");
    assert_eq!(hold(&world, 1, Kind::Drain), Hold::NoReplacement(1));
    world.evidence.distrust = order(&world, "mesh");
    world.take(step(&world, 1, Kind::Drain)).unwrap();
    world.take(step(&world, 1, Kind::Retire)).unwrap();
    assert_eq!(bundle(&world.standing, None), Err(EmptyBundle));
    let empty = bundle(&world.standing, world.evidence.distrust.as_ref()).unwrap();
    assert!(empty.anchors.is_empty() && empty.version == 2);
    assert_eq!(world.review().proposals, Vec::new());
}

#[test]
fn cross_signatures_go_both_ways_between_generations_that_may_sign() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 2, Phase::Staged);
    let cross = |world: &World, subject: u32, issuer: u32| {
        let of = |n| world.standing.generation(n).unwrap().root.validity;
        let validity = of(subject).intersection(&of(issuer));
        Cross { subject, issuer, certificate: Digest::of(format!("{subject}/{issuer}").as_bytes()), validity }
    };
    let early = cross_sign(&world.standing, cross(&world, 1, 2), world.facts());
    assert!(matches!(early, Err(Refused::Cross { .. })), "the new one is not to sign anything yet");
    let ends = cross(&world, 2, 1).validity.not_after;
    let long = Cross {
        validity: Validity { not_after: ends.plus(DAY), ..cross(&world, 2, 1).validity },
        ..cross(&world, 2, 1)
    };
    assert!(matches!(cross_sign(&world.standing, long, world.facts()), Err(Refused::Validity { .. })));
    world.standing = cross_sign(&world.standing, cross(&world, 2, 1), world.facts()).unwrap();
    assert_eq!(world.standing.crosses_for(2, ends).count(), 1);
    assert_eq!(world.standing.crosses_for(2, ends.plus(MINUTE)).count(), 0, "the leaf would outlive it");
    until(&mut world, 2, Phase::Signing);
    world.standing = cross_sign(&world.standing, cross(&world, 1, 2), world.facts()).unwrap();
    // The old root stays good through the new one until that cross-signature is revoked.
    until(&mut world, 1, Phase::Retired);
    let certificate = cross(&world, 1, 2).certificate;
    assert!(due(&world.standing, world.facts()).contains(&Effect::Revoke(certificate)));
    assert_eq!(world.standing.crosses_for(2, world.now).count(), 0, "its issuer is not trusted any more");
}

#[test]
fn a_plan_names_who_would_break_at_each_phase() {
    let mut world = asked(Renewal::Both);
    until(&mut world, 2, Phase::Staged);
    let anchors = |world: &World, numbers: &[u32]| {
        numbers.iter().map(|n| world.standing.generation(*n).unwrap().root.certificate).collect::<BTreeSet<_>>()
    };
    let trusts = [(party(0), anchors(&world, &[1, 2])), (party(1), anchors(&world, &[1]))];
    let ends = signer(&world.standing).unwrap().validity().not_after;
    let leaf = |holder: &str, ends| HeldLeaf { holder: Arc::from(holder), generation: 1, ends };
    let leaves = vec![leaf("renews", world.now.plus(LEAF)), leaf("forgotten", ends)];
    let foreseen = plan(&world.standing, &Inventory { trusts: trusts.into(), leaves }, world.facts());
    let at = |phase: Phase| foreseen.iter().find(|f| f.phase == phase).unwrap();
    let names: Vec<String> = at(Phase::Signing).breaks.iter().map(ToString::to_string).collect();
    assert!(names.len() == 2 && names[0].starts_with("party-1 (owner owner-1)"), "{names:?}");
    let left = &at(Phase::Retired).breaks;
    assert!(left.contains(&Break::LeftBehind(leaf("forgotten", ends))) && left.len() == 3, "{left:?}");
    let order: Vec<Phase> = foreseen.iter().map(|f| f.phase).collect();
    assert_eq!(order, [Phase::Signing, Phase::Draining, Phase::Retired, Phase::Destroyed]);
}

#[test]
fn a_generation_never_takes_up_a_name_or_a_key() {
    let mut world = asked(Renewal::Both);
    let old = world.standing.generation(1).unwrap().clone();
    let fresh = world.made(2, Renewal::Both);
    let issuing = |m: Member| New { issuing: m, ..fresh.clone() };
    let reused = [
        issuing(Member { key: old.issuing.key, ..fresh.issuing.clone() }),
        issuing(Member { name: old.root.name.clone(), ..fresh.issuing.clone() }),
        New { root: Member { key: old.root.key, ..fresh.root.clone() }, ..fresh.clone() },
        New { root: old.issuing.clone(), ..fresh.clone() },
        issuing(Member { key: fresh.root.key, ..fresh.issuing.clone() }),
    ];
    for new in reused {
        assert!(matches!(world.admit(new), Err(Refused::Reused { .. })));
    }
    let mut long = fresh.clone();
    long.issuing.validity.not_after = long.root.validity.not_after.plus(MINUTE);
    assert!(matches!(world.admit(long), Err(Refused::Validity { .. })));
    assert!(matches!(world.admit(New { number: 3, ..fresh.clone() }), Err(Refused::Number { got: 3, want: 2 })));
    world.admit(fresh).unwrap();
    assert!(matches!(world.admit(world.made(3, Renewal::Both)), Err(Refused::Held(Hold::UnderWay(2)))));
}

#[test]
fn names_of_phases_and_moves_survive_their_texts() {
    for (phase, name) in Phase::ALL {
        assert_eq!(Phase::parse(name), Some(phase));
    }
    for (kind, name) in Kind::ALL {
        assert_eq!(Kind::parse(name), Some(kind));
        assert!(kind.moves().iter().all(|(from, to)| kind.leads(*from) == Some(*to)));
    }
}
