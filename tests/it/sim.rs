//! Years in seconds: what holds over decades, outages and failures.

use std::time::Duration;

use keyward::domain::inventory::Estate;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::question::Question;
use keyward::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use keyward::ports::{Batch, Clock, Log, Store, StoreError};
use keyward::sim::clock::run;
use keyward::sim::world::{Life, World, draw};

use crate::harness::estate::{add, cid, credential, estate, iid, managed, start};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// `n` certificates of 6, 47 and 90 days in turn, each under its own registered domain.
fn crowd(n: usize, seed: u64, issuers: &[&str]) -> World {
    crowd_in(World::new, n, seed, issuers)
}

fn crowd_in(world: fn(u64, Timestamp, Estate) -> World, n: usize, seed: u64, issuers: &[&str]) -> World {
    let with_limits: Vec<_> = issuers.iter().map(|i| (*i, &LETS_ENCRYPT[..])).collect();
    let mut estate = estate(&with_limits);
    for i in 0..n {
        let kind = ["d6", "d47", "d90"][i % 3];
        let name = format!("{kind}.host-{i}.com");
        add(&mut estate, credential(&format!("c{i}"), managed(&[&name], issuers)));
    }
    let world = world(seed, start(), estate);
    for issuer in issuers {
        world.ca.behave(&iid(issuer), |b| {
            b.limits = LETS_ENCRYPT.to_vec();
            b.failing_permille = 50;
            for (prefix, lifetime) in [("d6.", HOUR * 160), ("d47.", DAY * 47), ("d90.", DAY * 90)] {
                b.lifetime_by_prefix.insert(prefix.to_owned(), lifetime);
            }
        });
    }
    world
}

/// An outage of up to 48 h about every forty days.
fn outages(seed: u64, years: u64) -> Vec<(Timestamp, Timestamp)> {
    (0..years * 9)
        .map(|n| {
            let at = |what: &[u8], bound| Duration::from_secs(draw(seed, &[what, &n.to_be_bytes()], bound));
            let from = start().plus(DAY * 3 + DAY * 40 * u32::try_from(n).unwrap() + at(b"start", 20 * 86_400));
            (from, from.plus(HOUR + at(b"length", 47 * 3_600)))
        })
        .collect()
}

fn nothing_lapsed(world: &World, n: usize) {
    let now = world.clock.now();
    assert_eq!(world.host.lapses(), 0, "some set ended before its successor was there");
    for i in 0..n {
        let chain = world.host.installed(&cid(&format!("c{i}"))).unwrap_or_else(|| panic!("c{i} has nothing"));
        assert!(chain.leaf.validity.not_after > now, "c{i} lapsed {}", chain.leaf.validity.not_after);
    }
}

/// Lives in slices of half a day (a whole one in a debug build) and looks for lapses between them.
fn live_and_look(world: &mut World, n: usize, span: Duration) {
    // The first issuance of a crowd takes a while: 300 orders in three hours.
    assert_eq!(world.live(DAY), Life::Over);
    let end = world.clock.now().plus(span - DAY);
    while world.clock.now() < end {
        assert_eq!(world.live(DAY * 5), Life::Over);
        nothing_lapsed(world, n);
    }
}

#[test]
fn over_years_nothing_lapses_and_no_limit_is_exceeded() {
    // The release benchmark runs a thousand over ten years; a debug build proves the same with fewer.
    let (n, years) = if cfg!(debug_assertions) { (60, 2) } else { (1_000, 10) };
    // Nobody reads the log of so many years.
    let mut world = crowd_in(World::counting, n, 7, &["le"]);
    world.ca.behave(&iid("le"), |b| b.outages = outages(7, years));
    live_and_look(&mut world, n, YEAR * u32::try_from(years).unwrap());
    let tally = world.ca.tally(&iid("le"));
    assert_eq!(tally.violations, 0);
    assert!(tally.issued > u64::try_from(n).unwrap() * years * 30, "{tally:?}");
}

#[test]
fn with_renewal_windows_nothing_lapses_and_renewals_say_what_they_replace() {
    let mut world = crowd(30, 3, &["le"]);
    world.ca.behave(&iid("le"), |b| b.ari = true);
    live_and_look(&mut world, 30, DAY * 200);
    let tally = world.ca.tally(&iid("le"));
    assert!(tally.replacing * 10 > tally.orders * 8, "{tally:?}");
}

#[test]
fn a_ca_that_begins_to_offer_renewal_information_is_asked_for_it() {
    let mut world = crowd(1, 3, &["le"]);
    let (clock, ca) = (world.clock.clone(), world.ca.clone());
    let begins = |_| async move {
        clock.sleep(DAY * 10).await;
        ca.behave(&iid("le"), |b| b.ari = true);
    };
    // The simulated CA has windows only for what it issues from then on; what was issued before says so, for a week.
    assert_eq!(world.live_with(DAY * 18, begins), Life::Over);
    let state = run(&world.clock, world.store.recovered().load()).unwrap().unwrap();
    let record = state.credential(&cid("c0"));
    assert!(record.ari.as_ref().is_some_and(|ari| ari.window.is_some()), "{record:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut world = crowd(12, seed, &["le"]);
        world.live(DAY * 120);
        (world.store.log_digest(), world.store.entries_written())
    };
    assert_eq!(history(5), history(5));
    assert_ne!(history(5).0, history(6).0);
}

#[test]
fn counting_the_entries_changes_nothing_but_the_log() {
    let history = |world: fn(u64, Timestamp, Estate) -> World| {
        let mut world = crowd_in(world, 30, 7, &["le"]);
        world.ca.behave(&iid("le"), |b| b.outages = outages(7, 1));
        for _ in 0..8 {
            assert_eq!(world.live(DAY * 25), Life::Over);
        }
        // The first entry is refused, the next one is written again.
        world.store.fail_next(1);
        assert_eq!(world.live(DAY * 25), Life::Over);
        world
    };
    let (sealed, counted) = (history(World::new), history(World::counting));
    let state = |world: &World| {
        let store = world.store.recovered();
        run(&world.clock, store.load()).unwrap().unwrap()
    };
    let (is, should_be) = (state(&counted), state(&sealed));
    assert!(is == should_be && is.credentials.len() == 30, "{is:?}\n{should_be:?}");
    assert_eq!(counted.store.entries_written(), sealed.store.entries_written());
    assert_eq!(counted.ca.tally(&iid("le")), sealed.ca.tally(&iid("le")));
    assert!(sealed.ca.tally(&iid("le")).issued > 500, "{:?}", sealed.ca.tally(&iid("le")));
    assert_eq!(
        (counted.host.installs(), counted.host.slot_count()),
        (sealed.host.installs(), sealed.host.slot_count())
    );
    assert!(sealed.store.log_digest().is_some() && counted.store.log_digest().is_none());
}

#[test]
fn a_store_that_only_counts_says_that_it_has_no_log() {
    let mut world = crowd_in(World::counting, 1, 1, &["le"]);
    world.live(DAY);
    let store = world.store.recovered();
    let refused = |answer: Option<Result<(), StoreError>>| {
        let error = answer.unwrap().unwrap_err().to_string();
        assert!(error.contains("entries were counted, and none was kept"), "{error}");
    };
    let clock = &world.clock;
    refused(run(clock, async { store.entries(None, 1).await.map(drop) }));
    let note = run(clock, async { store.checkpoint().await }).unwrap().unwrap().unwrap();
    assert_eq!(note, format!("keyward/simulation\n{}\nnone\n", store.entries_written()), "a size, and no root");
    refused(run(clock, async { store.inclusion(0).await.map(drop) }));
    refused(run(clock, async { store.consistency(0).await.map(drop) }));
    refused(run(clock, async { store.query(Question::default()).await.map(drop) }));
    refused(run(clock, async { store.statistics().await.map(drop) }));
    world.store.crash();
    assert!(run(clock, store.commit(Batch::default())).unwrap().is_ok(), "the older handle killed nobody");
    store.crash();
    assert!(run(clock, store.commit(Batch::default())).unwrap().is_err(), "what was killed refuses");
}

#[test]
fn sixty_days_of_failure_keep_every_wait_between_a_minute_and_a_day() {
    let mut world = crowd(3, 1, &["le"]);
    world.ca.behave(&iid("le"), |b| {
        b.failing_permille = 1_000;
        b.retry_after = Some(Duration::from_secs(1_000_000_000));
    });
    let mut last: Option<Timestamp> = None;
    for _ in 0..60 * 24 {
        world.live(HOUR);
        let state = run(&world.clock, world.store.recovered().load()).unwrap().unwrap();
        for record in state.credentials.values() {
            let (failed, next) = (record.last_failure.as_ref().unwrap().at, record.next_attempt.unwrap());
            let wait = failed.until(next);
            assert!((MINUTE..=DAY).contains(&wait), "{wait:?}");
            last = last.max(Some(failed));
        }
    }
    let quiet = last.unwrap().until(world.clock.now());
    assert!(quiet <= DAY * 2, "it still tries: the last try was {quiet:?} ago");
    assert_eq!(world.ca.tally(&iid("le")).violations, 0);
}

#[test]
fn a_crowd_that_waits_for_a_stuck_ca_keeps_nobody_else_from_another() {
    let mut estate = estate(&[("stuck", &[]), ("zero", &[])]);
    for i in 0..120 {
        let issuer = if i < 60 { "stuck" } else { "zero" };
        let name = format!("host-{i}.com");
        add(&mut estate, credential(&format!("c{i}"), managed(&[&name], &[issuer])));
    }
    let mut world = World::new(4, start(), estate);
    world.ca.behave(&iid("stuck"), |b| b.stuck = true);
    world.live(HOUR);
    for i in 60..120 {
        assert!(world.host.installed(&cid(&format!("c{i}"))).is_some(), "c{i} waits behind the stuck CA");
    }
}

#[test]
fn a_dead_ca_for_a_week_is_survived_with_a_second_one() {
    let mut world = crowd(30, 9, &["le", "zero"]);
    let gone = start().plus(DAY * 30);
    world.ca.behave(&iid("le"), |b| b.outages = vec![(gone, gone.plus(DAY * 7))]);
    live_and_look(&mut world, 30, DAY * 60);
    assert!(world.ca.tally(&iid("zero")).issued > 0);
}
