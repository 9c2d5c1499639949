//! Years of one CA: it rotates over and over, workloads renew at half of their leaves' lives, parties take their time.

use super::world::{Leaf, World, party};
use crate::domain::key::Digest;
use crate::domain::rotation::*;
use crate::domain::time::{DAY, MINUTE, Timestamp};

// A leaf lives for 60 minutes and is renewed after 30: each workload has one tick to spare.
const TICK: core::time::Duration = MINUTE.saturating_mul(20);
const WORKLOADS: usize = 4;

/// How long a party takes to fetch a bundle: up to three days, each time another while.
fn delay(party: usize, version: u64) -> core::time::Duration {
    let drawn = Digest::of(format!("{party} {version}").as_bytes()).leading_u64();
    MINUTE * u32::try_from(drawn % (3 * 1_440)).unwrap()
}

fn years(renewal: Renewal, years: u32) -> World {
    let mut world = World::new(3, DAY * 30, renewal);
    world.run(4);
    let mut holds: Vec<Option<Leaf>> = vec![None; WORKLOADS];
    let mut published: Vec<(u64, Timestamp)> = Vec::new();
    let end = world.now.plus(DAY * 365 * years);
    for tick in 0_u32.. {
        if world.now >= end {
            break;
        }
        // The guardian looks once an hour, the workloads at each tick.
        if tick.is_multiple_of(3) {
            for effect in due(&world.standing, world.facts()) {
                world.carry_out(&effect);
            }
            world.look();
            world.propose_and_take(0);
        }
        if let Some(bundle) = &world.published
            && published.last().is_none_or(|(version, _)| *version != bundle.version)
        {
            published.push((bundle.version, world.now));
        }
        let (version, since) = *published.last().unwrap();
        for n in 0..3 {
            let has = world.evidence.acknowledged.get(&party(n)).is_some_and(|a| a.version == version);
            if !has && world.now >= since.plus(delay(n, version)) {
                world.party_takes(&party(n), true);
            }
        }
        for own in &mut holds {
            if own.as_ref().is_none_or(|l| l.validity.at_permille(500) <= world.now) && world.issue() {
                *own = world.leaves.last().cloned();
            }
            let good = own.as_ref().is_some_and(|l| l.validity.contains(world.now));
            assert!(good, "{}: a workload has no leaf that is good: {:#?}", world.now, world.review());
        }
        world.nobody_is_cut_off();
        let now = world.now;
        world.leaves.retain(|l| l.validity.not_after.plus(DAY) > now);
        world.pass(TICK);
    }
    world
}

#[test]
fn years_of_rotations_refuse_nobody() {
    for (renewal, count) in [(Renewal::Both, 2), (Renewal::Issuing, 1)] {
        let world = years(renewal, count);
        let signs = signer(&world.standing).unwrap().number;
        // A generation signs for at most 25 of its 30 days, and for more than half of them.
        assert!((14 * count..25 * count).contains(&signs), "{signs} generations in {count} years");
        let destroyed = world.standing.generations.iter().filter(|g| g.phase == Phase::Destroyed).count();
        assert!(destroyed + 4 >= usize::try_from(signs).unwrap(), "{destroyed} of {signs} are destroyed");
        let roots: std::collections::BTreeSet<Digest> = world.standing.generations.iter().map(|g| g.root.key).collect();
        assert_eq!(renewal == Renewal::Both, roots.len() == world.standing.generations.len());
    }
}
