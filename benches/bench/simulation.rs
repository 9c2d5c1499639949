//! A thousand certificates over ten simulated years, with failures and outages.

use std::time::{Duration, Instant};

use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::time::{DAY, HOUR, Timestamp};
use keyward::ports::Clock;
use keyward::sim::world::{Life, World, draw};

use crate::estate;
use crate::report::figure;

const CERTIFICATES: usize = 1_000;
const SEED: u64 = 7;

/// The scenario of the test `over_years_nothing_lapses_and_no_limit_is_exceeded`, at full size: certificates of 6, 47 and
/// 90 days, one order in twenty fails, the CA is away for up to 48 h about every forty days, Let's Encrypt's limits. The
/// audit entries are made and counted, but neither written nor hashed: nobody reads them.
pub fn years(years: u32) {
    let mut world = world(years);
    let began = Instant::now();
    for _ in 0..years {
        assert_eq!(world.live(DAY * 365), Life::Over, "the guardian is restarted every year");
    }
    let took = began.elapsed();
    let now = world.clock.now();
    for i in 0..CERTIFICATES {
        let chain = world.host.installed(&estate::cid(i)).expect("every certificate is installed");
        assert!(chain.leaf.validity.not_after > now, "certificate {i} has lapsed");
    }
    assert_eq!(world.host.lapses(), 0, "no certificate ever lapsed");
    let tally = world.ca.tally(&estate::issuer_id());
    assert_eq!(tally.violations, 0, "the CA refused no order for its limits");
    figure(&format!("{years} simulated years"), "s", took.as_secs_f64());
    eprintln!("{} issued, {} audit entries", tally.issued, world.store.entries_written());
}

fn world(years: u32) -> World {
    let mut estate = estate::empty(LETS_ENCRYPT.to_vec(), "https://ca.sim/directory");
    estate.probe_every = DAY * 7;
    estate.full_scan = DAY * 7;
    for i in 0..CERTIFICATES {
        let kind = ["d6", "d47", "d90"][i % 3];
        estate::add(&mut estate, i, &format!("{kind}.host-{i}.com"), "/sim");
    }
    let world = World::counting(SEED, Timestamp::parse("2026-11-22T00:00:00Z").expect("a time"), estate);
    world.ca.behave(&estate::issuer_id(), |b| {
        b.limits = LETS_ENCRYPT.to_vec();
        b.failing_permille = 50;
        b.outages = outages(years);
        for (prefix, lifetime) in [("d6.", HOUR * 160), ("d47.", DAY * 47), ("d90.", DAY * 90)] {
            b.lifetime_by_prefix.insert(prefix.to_owned(), lifetime);
        }
    });
    world
}

fn outages(years: u32) -> Vec<(Timestamp, Timestamp)> {
    let start = Timestamp::parse("2026-11-22T00:00:00Z").expect("a time");
    let outage = |n: u32| {
        let at = |what: &[u8], bound| Duration::from_secs(draw(SEED, &[what, &u64::from(n).to_be_bytes()], bound));
        let from = start.plus(DAY * 3 + DAY * 40 * n + at(b"start", 20 * 86_400));
        (from, from.plus(HOUR + at(b"length", 47 * 3_600)))
    };
    (0..years * 9).map(outage).collect()
}
