//! Adversarial scenarios: what an outside reader tried to break, one fact each.

pub mod doors;

use core::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyward::domain::certificate::{Certificate, Chain, Trust};
use keyward::domain::gate::verdict;
use keyward::domain::inventory::{Care, Credential, Endpoint, Estate, Observation, Seen, Sighting, Source, Watch};
use keyward::domain::key::Digest;
use keyward::domain::limits::{LETS_ENCRYPT, Limit, LimitKind};
use keyward::domain::policy::{Lane, Policy, Rule};
use keyward::domain::snapshot::Evidence;
use keyward::domain::state::State;
use keyward::domain::time::{Boottime, DAY, HOUR, MINUTE, Timestamp, Validity, Window};
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock, Ports, Store};
use keyward::sim::world::{Life, World};

use crate::harness::estate::{add, cid, credential, estate, iid, managed, path, pid, served, start};
use doors::{Fickle, Files, Keys, Refusing, Slow};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn with_server() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, served("portal", managed(&["review.example.com"], &["le"])));
    estate.probe_every = MINUTE * 5;
    path(&mut estate, "approve", &["portal"], HOUR);
    estate
}

/// A life with other doors than the world's own, in which the daemon's beat turns the loop every five seconds.
fn live<A, F>(world: &World, ports: Ports, estate: Estate, span: Duration, act: A)
where
    A: FnOnce(Arc<Engine>) -> F,
    F: Future<Output = ()> + Send,
{
    keyward::sim::clock::run(&world.clock, async {
        let engine = Arc::new(Engine::start(ports, Arc::new(estate)).await.unwrap());
        let (clock, acting, beaten) = (world.clock.clone(), act(engine.clone()), engine.clone());
        let stop = async {
            let all = core::pin::pin!(futures_util::future::join(clock.sleep(span), acting));
            let beats = core::pin::pin!(async {
                loop {
                    clock.sleep(SECOND * 5).await;
                    beaten.command(Command::Beat).unwrap();
                }
            });
            let _: futures_util::future::Either<_, ((), _)> = futures_util::future::select(all, beats).await;
        };
        engine.run(stop).await.unwrap();
    })
    .unwrap();
}

fn disk(world: &World) -> State {
    keyward::sim::clock::run(&world.clock, Store::load(&*world.store)).unwrap().unwrap()
}

fn entries(world: &World) -> Vec<serde_json::Value> {
    let mut all = keyward::sim::clock::run(&world.clock, world.store.entries(None, 10_000)).unwrap().unwrap();
    all.reverse();
    all.iter().map(|e| serde_json::from_slice(&e.bytes).unwrap()).collect()
}

fn coded(world: &World, code: &str) -> usize {
    entries(world).iter().filter(|e| e["data"]["code"] == code).count()
}

fn chain(serial: &str, from: Timestamp, until: Timestamp) -> Arc<Chain> {
    let leaf = Certificate {
        fingerprint: Digest::of(serial.as_bytes()),
        spki: Digest::of(serial.as_bytes()),
        serial: serial.into(),
        subject: String::new(),
        issuer: String::new(),
        names: Default::default(),
        validity: Validity { not_before: from, not_after: until },
        cert_id: None,
        may_issue: false,
        purposes: keyward::domain::certificate::Purposes::ALL,
        listing: keyward::domain::certificate::Listing::default(),
        faults: keyward::domain::certificate::Faults::default(),
    };
    Arc::new(Chain { leaf: Arc::new(leaf), above: Vec::new(), trust: Trust::Anchored })
}

fn file(id: &str, at: &str) -> Credential {
    Credential {
        id: cid(id),
        owner: None,
        labels: Default::default(),
        care: Care::Observed(Source::File { path: at.into(), password_file: None }),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    }
}

// ---- clocks

#[test]
fn when_a_clock_step_is_taken_back_renewals_go_on_and_a_person_opens_the_gate() {
    for step in [31_536_000, -3_600, -31_536_000] {
        let world = World::new(1, start(), with_server());
        world.ca.behave(&iid("le"), |b| b.lifetime = DAY * 2);
        let (clock, ports) = (world.clock.clone(), world.ports());
        live(&world, ports, with_server(), HOUR * 30, |engine| async move {
            clock.sleep(MINUTE).await;
            assert!(engine.gate(&pid("approve")).is_open());
            clock.step(step);
            clock.sleep(MINUTE * 10).await;
            assert!(!engine.gate(&pid("approve")).is_open());
            clock.step(-step);
            clock.sleep(MINUTE * 10).await;
            let verdict = engine.gate(&pid("approve"));
            let codes: Vec<&str> = verdict.reasons.iter().map(|r| r.code).collect();
            assert_eq!((codes, engine.overview().clock_fault), (vec!["KW4009"], None), "step {step}: {verdict:?}");
            engine
                .command(Command::Reopen { path: pid("approve"), by: Arc::from("uid:0"), why: Arc::from("seen to") })
                .unwrap();
            clock.sleep(MINUTE * 2).await;
            let verdict = engine.gate(&pid("approve"));
            assert!(verdict.is_open(), "step {step}: {verdict:?}");
        });
        assert_eq!(world.ca.tally(&iid("le")).orders, 2, "step {step}: renewed at its time");
    }
}

#[test]
fn a_path_that_a_person_opens_while_the_clock_is_wrong_is_latched_again() {
    let world = World::new(1, start(), with_server());
    let (clock, ports) = (world.clock.clone(), world.ports());
    live(&world, ports, with_server(), HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        clock.step(3_600);
        clock.sleep(MINUTE).await;
        engine
            .command(Command::Reopen { path: pid("approve"), by: Arc::from("uid:0"), why: Arc::from("seen to") })
            .unwrap();
        clock.sleep(MINUTE).await;
        clock.step(-3_600);
        clock.sleep(MINUTE * 5).await;
        assert!(!engine.gate(&pid("approve")).is_open(), "it was opened before the time was right");
    });
    assert_eq!((coded(&world, "KW2303"), coded(&world, "KW2304")), (2, 1));
}

#[test]
fn what_was_seen_by_a_time_that_is_not_believed_hides_nothing_afterwards() {
    for (step, accepted) in [(31_536_000, false), (3_600, false), (-3_600, false), (1_800, true), (-1_800, true)] {
        let world = World::new(1, start(), with_server());
        let (clock, host, ports) = (world.clock.clone(), world.host.clone(), world.ports());
        live(&world, ports, with_server(), HOUR * 2, |engine| async move {
            clock.sleep(HOUR).await;
            clock.step(step);
            // Looks go on meanwhile.
            clock.sleep(MINUTE * 20).await;
            if accepted {
                engine.command(Command::AcceptClock { by: Arc::from("uid:0") }).unwrap();
            } else {
                clock.step(-step);
            }
            clock.sleep(MINUTE).await;
            let before = host.installs();
            host.delete_files(&cid("portal"));
            clock.sleep(MINUTE * 6).await;
            assert_eq!(host.installs(), before + 1, "step {step}: nobody saw that the files are gone");
        });
    }
}

#[test]
fn a_guardian_that_stood_still_forgets_what_it_saw_and_tells_of_it() {
    let world = World::new(1, start(), with_server());
    let (clock, host, ports) = (world.clock.clone(), world.host.clone(), world.ports());
    live(&world, ports, with_server(), HOUR, |engine| async move {
        clock.sleep(MINUTE * 2).await;
        assert!(engine.gate(&pid("approve")).is_open());
        let before = host.installs();
        // The next look would come three minutes later.
        host.delete_files(&cid("portal"));
        clock.pass(MINUTE);
        assert_eq!(engine.gate(&pid("approve")).reasons[0].code, "KW4008");
        clock.sleep(SECOND * 15).await;
        assert_eq!(host.installs(), before + 1, "everything was looked at again");
    });
    let all = entries(&world);
    let told = all.iter().find(|e| e["data"]["code"] == "KW4090").unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(told["data"]["action"], "daemon.standstill");
    let seconds: u64 = told["data"]["facts"]["seconds"].as_str().unwrap().parse().unwrap();
    assert!((60..70).contains(&seconds), "{told}");
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
}

#[test]
fn when_a_person_accepts_the_time_the_gate_stays_open_and_renewals_go_on() {
    for step in [1_800, -1_800] {
        let world = World::new(1, start(), with_server());
        world.ca.behave(&iid("le"), |b| b.lifetime = DAY * 2);
        let (clock, ports) = (world.clock.clone(), world.ports());
        live(&world, ports, with_server(), HOUR * 30, |engine| async move {
            clock.sleep(HOUR).await;
            clock.step(step);
            clock.sleep(MINUTE * 10).await;
            engine.command(Command::AcceptClock { by: Arc::from("uid:0") }).unwrap();
            for minute in 0..60 {
                clock.sleep(MINUTE).await;
                let verdict = engine.gate(&pid("approve"));
                assert!(verdict.is_open(), "step {step}, minute {minute}: {verdict:?}");
            }
        });
        assert_eq!(world.ca.tally(&iid("le")).orders, 2, "step {step}");
    }
}

#[test]
fn a_time_that_a_person_accepted_stays_accepted_after_a_restart() {
    let mut world = World::new(1, start().plus(DAY * 365), with_server());
    assert_eq!(world.live(MINUTE * 5), Life::Over);
    world.clock.step(-31_536_000);
    let (clock, store) = (world.clock.clone(), Arc::new(world.store.recovered()));
    world.store = store.clone();
    live(&world, world.ports(), with_server(), MINUTE, |engine| async move {
        assert!(engine.overview().clock_fault.is_some());
        engine.command(Command::AcceptClock { by: Arc::from("uid:0") }).unwrap();
        clock.sleep(SECOND).await;
        let mark = store.load().await.unwrap().clock.unwrap();
        assert!(mark.wall <= clock.now(), "a crash now would raise the fault again: {mark:?}");
    });
}

#[test]
fn a_clock_that_stepped_while_nobody_looked_is_noticed_within_the_same_boot() {
    let mut world = World::new(1, start(), with_server());
    assert_eq!(world.live(MINUTE * 5), Life::Over);
    world.clock.step(31_536_000);
    world.live_with(MINUTE, |engine| async move { assert!(engine.overview().clock_fault.is_some()) });
    assert_eq!(world.ca.tally(&iid("le")).orders, 1, "no mass renewal");
}

// ---- attempts and slots in flight

#[test]
fn an_attempt_of_a_credential_that_left_the_configuration_holds_nobody_up() {
    for restart in [false, true] {
        let mut both = estate(&[("le", &LETS_ENCRYPT)]);
        both.orders_in_flight = 1;
        let mut only = both.clone();
        add(&mut both, credential("gone", managed(&["gone.example.com"], &["le"])));
        add(&mut only, credential("other", managed(&["other.example.com"], &["le"])));
        let mut world = World::new(1, start(), both);
        world.ca.behave(&iid("le"), |b| b.stuck = true);
        let ca = world.ca.clone();
        let clock = world.clock.clone();
        let next = only.clone();
        world.live_with(HOUR, |engine| async move {
            clock.sleep(MINUTE * 10).await;
            ca.behave(&iid("le"), |b| b.stuck = false);
            if !restart {
                engine.command(Command::Estate(Arc::new(next))).unwrap();
            }
        });
        world.configure(only.clone());
        world.live(DAY);
        assert!(world.host.installed(&cid("other")).is_some(), "restart {restart}");
        assert_eq!(disk(&world).attempts.len(), 0, "restart {restart}: nothing is left in flight");
        assert_eq!(world.host.slot_count(), 1, "restart {restart}: no key is left behind");
    }
}

#[test]
fn orders_that_are_put_aside_leave_their_places_to_others() {
    let mut all = estate(&[("le", &LETS_ENCRYPT)]);
    all.orders_in_flight = 2;
    for name in ["a", "b", "c", "d", "e"] {
        add(&mut all, credential(name, managed(&[&format!("{name}.example.com")], &["le"])));
    }
    let mut world = World::new(1, start(), all);
    world.ca.behave(&iid("le"), |b| b.stuck = true);
    world.live(MINUTE * 4);
    // Two orders stay stuck for ever; everything that is ordered from now on goes well.
    world.ca.behave(&iid("le"), |b| b.stuck = false);
    world.live(HOUR * 6);
    let served = ["a", "b", "c", "d", "e"].iter().filter(|n| world.host.installed(&cid(n)).is_some()).count();
    assert!(served >= 3, "only {served}");
}

#[test]
fn two_credentials_with_the_same_names_get_a_certificate_each_without_a_failure() {
    // An RSA and an ECDSA certificate for one server, at a CA that gives an identical open order again.
    let mut twins = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut twins, credential("ecdsa", managed(&["review.example.com"], &["le"])));
    add(&mut twins, credential("rsa", managed(&["review.example.com"], &["le"])));
    let world = World::new(1, start(), twins.clone());
    world.ca.behave(&iid("le"), |b| (b.lists_orders, b.reuses_orders) = (false, true));
    let store = Arc::new(Slow { inner: world.store.clone(), clock: world.clock.clone(), pause: MS * 20 });
    live(&world, Ports { store, ..world.ports() }, twins, MINUTE * 5, |_| async {});
    assert!(world.host.installed(&cid("ecdsa")).is_some() && world.host.installed(&cid("rsa")).is_some());
    assert_eq!(world.meter.renewals("success"), 2);
    assert_eq!(world.notifier.notices().iter().filter(|n| n.code.starts_with("KW3")).count(), 0);
}

#[test]
fn two_automatic_issuances_in_one_second_are_two() {
    let mut triplets = estate(&[("le", &[])]);
    for name in ["one", "three", "two"] {
        add(&mut triplets, credential(name, managed(&["review.example.com"], &["le"])));
    }
    let world = World::new(1, start(), triplets.clone());
    let store = Arc::new(Slow { inner: world.store.clone(), clock: world.clock.clone(), pause: MS });
    live(&world, Ports { store, ..world.ports() }, triplets, HOUR, |_| async {});
    assert_eq!(world.ca.tally(&iid("le")).issued, 2, "the third waits for a person, or for a day");
    let ledger = disk(&world).ledger;
    let times: Vec<_> = ledger.automatic.values().flatten().collect();
    assert!(times.len() == 2 && times[0] != times[1] && times[0].until(*times[1]) <= SECOND * 2, "{times:?}");
}

#[test]
fn a_window_does_not_move_under_an_order_that_it_made_exempt() {
    let world = World::new(1, start(), with_server());
    world.ca.behave(&iid("le"), |b| b.ari = true);
    let issuer = Arc::new(Fickle::new(world.ca.clone(), world.clock.clone()));
    let (clock, ca, moving) = (world.clock.clone(), world.ca.clone(), issuer.clone());
    live(&world, Ports { issuer, ..world.ports() }, with_server(), DAY * 3, |engine| async move {
        let window = || engine.credential(&cid("portal")).unwrap().record.ari.unwrap().window.unwrap();
        clock.sleep(HOUR).await;
        ca.behave(&iid("le"), |b| b.stuck = true);
        World::ask_renewal(&engine, &cid("portal"), "uid:1000").unwrap();
        clock.sleep(HOUR).await;
        let before = window();
        moving.windows_move.store(true, Ordering::SeqCst);
        clock.sleep(DAY).await;
        assert!(engine.credential(&cid("portal")).unwrap().attempt.is_some());
        assert_eq!(window(), before);
    });
}

#[test]
fn renewals_do_not_lapse_behind_a_crowd_of_new_credentials() {
    let slow = [Limit { kind: LimitKind::Orders, capacity: 20, refill: HOUR, reserve: 0 }];
    let mut few = estate(&[("le", &slow)]);
    for n in 0..4 {
        add(&mut few, credential(&format!("z{n}"), managed(&[&format!("z{n}.example.com")], &["le"])));
    }
    let mut many = few.clone();
    for n in 0..400 {
        add(&mut many, credential(&format!("a{n:03}"), managed(&[&format!("a{n:03}.example.org")], &["le"])));
    }
    let mut world = World::new(1, start(), few);
    world.ca.behave(&iid("le"), |b| {
        b.lifetime_by_prefix.insert("z".into(), HOUR * 160);
    });
    world.live(DAY * 2);
    world.configure(many);
    world.live(DAY * 6);
    for n in 0..4 {
        let end = world.host.installed(&cid(&format!("z{n}"))).unwrap().leaf.validity.not_after;
        assert!(end > world.clock.now(), "z{n} lapsed {end}");
    }
}

#[test]
fn a_failing_request_spends_the_humans_reserve_once_and_is_tried_again_by_automation() {
    let world = World::new(1, start(), with_server());
    let (clock, ca) = (world.clock.clone(), world.ca.clone());
    live(&world, world.ports(), with_server(), DAY * 10, |engine| async move {
        clock.sleep(HOUR).await;
        ca.behave(&iid("le"), |b| b.failing_permille = 1_000);
        World::ask_renewal(&engine, &cid("portal"), "uid:1000").unwrap();
    });
    let intents: Vec<_> = entries(&world).into_iter().filter(|e| e["data"]["code"] == "KW2001").collect();
    let human = intents.iter().filter(|e| e.to_string().contains("\"spender\":\"human\"")).count();
    assert_eq!(human, 1, "of {}", intents.len());
    assert!(intents.len() > 3, "it is tried again: {}", intents.len());
}

#[test]
fn a_request_during_a_repair_is_not_forgotten() {
    let world = World::new(1, start(), with_server());
    let (clock, host) = (world.clock.clone(), world.host.clone());
    live(&world, world.ports(), with_server(), DAY, |engine| async move {
        clock.sleep(HOUR).await;
        host.delete_files(&cid("portal"));
        host.fail_reloads(&cid("portal"), true);
        clock.sleep(MINUTE * 10).await;
        World::ask_renewal(&engine, &cid("portal"), "uid:1000").unwrap();
        clock.sleep(MINUTE * 10).await;
        host.fail_reloads(&cid("portal"), false);
    });
    assert_eq!(world.ca.tally(&iid("le")).issued, 2);
}

// ---- keys and orders

#[test]
fn a_key_store_that_fails_for_a_moment_costs_no_order() {
    let world = World::new(1, start(), with_server());
    world.ca.behave(&iid("le"), |b| b.stuck = true);
    let keys = Arc::new(Keys::new(world.host.clone()));
    let ports = Ports { keys: keys.clone(), ..world.ports() };
    let clock = world.clock.clone();
    live(&world, ports, with_server(), HOUR * 2, |_| async move {
        clock.sleep(MINUTE).await;
        keys.prepare_fails.store(1, Ordering::SeqCst);
    });
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
    assert_eq!(disk(&world).attempts.len(), 1, "the order is still followed");
}

#[test]
fn rules_that_come_while_a_key_is_made_hold_for_its_order() {
    let world = World::new(1, start(), with_server());
    let mut keys = Keys::new(world.host.clone());
    keys.pause = Some((world.clock.clone(), MINUTE));
    let never = Rule::new("never", [], Lane::Prohibited);
    let forbidden = Estate { policy: Policy::new(vec![never]), ..with_server() };
    let clock = world.clock.clone();
    live(&world, Ports { keys: Arc::new(keys), ..world.ports() }, with_server(), HOUR, |engine| async move {
        clock.sleep(SECOND * 30).await;
        engine.command(Command::Estate(Arc::new(forbidden))).unwrap();
    });
    assert_eq!((coded(&world, "KW2001"), world.ca.tally(&iid("le")).orders), (1, 0));
    assert!(coded(&world, "KW2007") > 0, "and it is said");
}

#[test]
fn an_issued_certificate_that_cannot_be_read_for_a_moment_is_not_thrown_away() {
    let world = World::new(1, start(), with_server());
    let keys = Arc::new(Keys::new(world.host.clone()));
    keys.chain_fails.store(1, Ordering::SeqCst);
    live(&world, Ports { keys, ..world.ports() }, with_server(), HOUR * 2, |_| async {});
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
    assert!(world.host.installed(&cid("portal")).is_some());
}

#[test]
fn a_ca_that_stays_ready_is_not_hammered() {
    let world = World::new(1, start(), with_server());
    let ca = Arc::new(Fickle::new(world.ca.clone(), world.clock.clone()));
    ca.always_ready.store(true, Ordering::SeqCst);
    live(&world, Ports { issuer: ca.clone(), ..world.ports() }, with_server(), MINUTE * 6, |_| async {});
    let finalized = ca.finalized.load(Ordering::SeqCst);
    assert!(finalized < 200, "{finalized} times finalized");
}

// ---- loops

#[test]
fn files_that_vanish_at_once_are_not_installed_in_a_loop() {
    let world = World::new(1, start(), with_server());
    let prober = Arc::new(Files::new(world.host.clone(), world.clock.clone()));
    prober.nothing_stored.store(true, Ordering::SeqCst);
    live(&world, Ports { prober, ..world.ports() }, with_server(), HOUR, |_| async {});
    let installs = world.host.installs();
    assert!((2..40).contains(&installs), "{installs} installations in an hour");
}

#[test]
fn a_step_that_can_never_be_recorded_is_not_repeated_in_a_loop() {
    for code in ["KW2002", "KW2006"] {
        let world = World::new(1, start(), with_server());
        let store = Arc::new(Refusing { inner: world.store.clone(), clock: world.clock.clone(), code });
        live(&world, Ports { store, ..world.ports() }, with_server(), MINUTE * 10, |_| async {});
        let resumed = coded(&world, "KW2005");
        assert!((1..100).contains(&resumed), "{code}: {resumed} times in ten minutes");
    }
}

// ---- store

#[test]
fn a_gate_that_closed_because_nothing_could_be_written_opens_when_it_can_be() {
    let world = World::new(1, start(), with_server());
    let (clock, store) = (world.clock.clone(), world.store.clone());
    live(&world, world.ports(), with_server(), HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        store.fail_next(4);
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        clock.sleep(SECOND * 8).await;
        assert!(!engine.gate(&pid("approve")).is_open());
        clock.sleep(MINUTE).await;
        let verdict = engine.gate(&pid("approve"));
        assert!(verdict.is_open(), "{verdict:?}");
    });
}

#[test]
fn commits_that_overlap_lose_nothing() {
    let mut all = estate(&[("le", &LETS_ENCRYPT)]);
    for n in 0..8 {
        add(&mut all, credential(&format!("c{n}"), managed(&[&format!("c{n}.example.com")], &["le"])));
    }
    let world = World::new(1, start(), all.clone());
    world.ca.behave(&iid("le"), |b| b.outages = vec![(start(), Timestamp::MAX)]);
    let store = Arc::new(Slow { inner: world.store.clone(), clock: world.clock.clone(), pause: MS * 50 });
    let clock = world.clock.clone();
    live(&world, Ports { store, ..world.ports() }, all, MINUTE * 2, |engine| async move {
        clock.sleep(MINUTE).await;
        assert_eq!(engine.overview().issuers[&iid("le")].failures, 8, "in memory");
    });
    assert_eq!(disk(&world).issuers[&iid("le")].failures as usize, coded(&world, "KW3001"), "on the disk");
}

#[test]
fn a_renewal_window_that_comes_while_a_renewal_ends_does_not_undo_it() {
    let mut one = estate(&[("le", &[])]);
    add(&mut one, credential("portal", managed(&["review.example.com"], &["le"])));
    let world = World::new(1, start(), one.clone());
    world.ca.behave(&iid("le"), |b| b.lifetime = HOUR * 2);
    let issuer = Arc::new(Fickle::new(world.ca.clone(), world.clock.clone()));
    issuer.windows_move.store(true, Ordering::SeqCst);
    let store = Arc::new(Slow { inner: world.store.clone(), clock: world.clock.clone(), pause: SECOND * 20 });
    let ports = Ports { store, issuer, ..world.ports() };
    let (clock, on_disk) = (world.clock.clone(), world.store.clone());
    live(&world, ports, one, HOUR * 18, |engine| async move {
        clock.sleep(HOUR).await;
        for _ in 0..5_000 {
            clock.sleep(SECOND * 10).await;
            let memory = engine.credential(&cid("portal")).unwrap();
            let state = on_disk.load().await.unwrap();
            let (here, there) = (memory.record.current, state.credential(&cid("portal")).current.clone());
            // Between a commit and its answer the disk may be one step ahead, never behind.
            let (here, there) = (here.unwrap().installed_at, there.unwrap().installed_at);
            assert!(there >= here, "the disk has {there}, memory has {here}");
        }
    });
}

#[test]
fn a_store_that_takes_nothing_for_ten_minutes_ends_the_engine() {
    let world = World::new(1, start(), with_server());
    let (clock, store) = (world.clock.clone(), world.store.clone());
    let (ended, at) = keyward::sim::clock::run(&world.clock, async {
        let engine = Engine::start(world.ports(), Arc::new(with_server())).await.unwrap();
        let stop = async {
            clock.sleep(MINUTE).await;
            store.fail_after(0);
            World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
            clock.sleep(DAY).await;
        };
        let ended = engine.run(stop).await;
        (ended, clock.now())
    })
    .unwrap();
    assert!(ended.is_err());
    let lasted = start().until(at);
    assert!((MINUTE * 10..MINUTE * 13).contains(&lasted), "{lasted:?}");
}

// ---- reload, watches, sightings

#[test]
fn what_waits_for_a_window_goes_on_when_a_reload_removes_it() {
    let free = with_server();
    let mut held = free.clone();
    let mut portal = (*held.credentials[&cid("portal")]).clone();
    if let Care::Managed(managed) = &mut portal.care {
        // Every day, for the hour before the one in which the simulation starts.
        let minute = u16::try_from(start().unix().rem_euclid(86_400) / 60).unwrap();
        let (from_minute, until_minute) = ((minute + 22 * 60) % 1_440, (minute + 23 * 60) % 1_440);
        managed.windows = vec![Window { days: [true; 7], from_minute, until_minute, zone: jiff::tz::TimeZone::UTC }];
    }
    add(&mut held, portal);
    let world = World::new(1, start(), held.clone());
    let (clock, host) = (world.clock.clone(), world.host.clone());
    live(&world, world.ports(), held, HOUR * 2, |engine| async move {
        clock.sleep(MINUTE).await;
        World::ask_renewal(&engine, &cid("portal"), "uid:1000").unwrap();
        clock.sleep(HOUR).await;
        let view = engine.credential(&cid("portal")).unwrap();
        let opens = start().plus(HOUR * 22);
        assert_eq!(view.held.map(|h| h.reason), Some(keyward::domain::plan::HeldReason::Window));
        assert!(view.attempt.unwrap().not_before.unwrap() >= opens.minus(MINUTE), "people see when it goes on");
        assert_eq!(host.installs(), 1);
        engine.command(Command::Estate(Arc::new(free))).unwrap();
        clock.sleep(MINUTE).await;
        assert_eq!(host.installs(), 2, "nothing holds it any more");
    });
    assert_eq!((world.ca.tally(&iid("le")).orders, coded(&world, "KW2205")), (2, 1));
}

#[test]
fn a_reload_never_opens_a_path_whose_watched_files_are_bad() {
    let mut watching = estate(&[]);
    let watch = Watch { pattern: "/p/*".into(), password_file: None, owner: None, labels: Default::default() };
    watching.watches.insert(cid("peers"), Arc::new(watch));
    path(&mut watching, "approve", &["peers"], HOUR);
    let world = World::new(1, start(), watching.clone());
    let files = Arc::new(Files::new(world.host.clone(), world.clock.clone()));
    files.put("/p/old.pem", Seen::Present(chain("old", start().minus(DAY * 9), start().minus(DAY))));
    let (clock, again) = (world.clock.clone(), Arc::new(watching.clone()));
    live(&world, Ports { prober: files.clone(), ..world.ports() }, watching, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        assert!(!engine.gate(&pid("approve")).is_open());
        engine.command(Command::Estate(again)).unwrap();
        for _ in 0..1_000 {
            clock.sleep(MS * 10).await;
            assert!(!engine.gate(&pid("approve")).is_open(), "one of its files is expired");
        }
    });
}

#[test]
fn a_reload_does_not_close_a_path_whose_watched_files_are_good() {
    let mut watching = estate(&[]);
    let watch = Watch { pattern: "/p/*".into(), password_file: None, owner: None, labels: Default::default() };
    watching.watches.insert(cid("peers"), Arc::new(watch));
    path(&mut watching, "approve", &["peers"], HOUR);
    let world = World::new(1, start(), watching.clone());
    let files = Arc::new(Files::new(world.host.clone(), world.clock.clone()));
    files.put("/p/new.pem", Seen::Present(chain("new", start().minus(DAY * 9), start().plus(DAY * 9))));
    let (clock, again) = (world.clock.clone(), Arc::new(watching.clone()));
    live(&world, Ports { prober: files.clone(), ..world.ports() }, watching, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("approve")).is_open());
        engine.command(Command::Estate(again)).unwrap();
        for _ in 0..1_000 {
            clock.sleep(MS * 10).await;
            assert!(engine.gate(&pid("approve")).is_open(), "nothing changed");
        }
    });
}

#[test]
fn a_watch_drops_and_replaces_nothing_that_is_configured() {
    let mut mixed = estate(&[("le", &LETS_ENCRYPT)]);
    let watch = Watch { pattern: "/p/*".into(), password_file: None, owner: None, labels: Default::default() };
    mixed.watches.insert(cid("peers"), Arc::new(watch));
    add(&mut mixed, credential("peers.portal", managed(&["review.example.com"], &["le"])));
    add(&mut mixed, file("peers.db", "/etc/db.pem"));
    let world = World::new(1, start(), mixed.clone());
    let files = Arc::new(Files::new(world.host.clone(), world.clock.clone()));
    let good = chain("x", start().minus(DAY * 9), start().plus(DAY * 900));
    files.put("/p/portal", Seen::Present(good.clone()));
    files.put("/p/other", Seen::Present(good));
    let clock = world.clock.clone();
    live(&world, Ports { prober: files.clone(), ..world.ports() }, mixed, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        let portal = engine.credential(&cid("peers.portal")).unwrap();
        assert!(portal.credential.managed().is_some(), "a file's name does not take over a managed credential");
        assert!(engine.credential(&cid("peers.db")).is_some(), "what is configured stays");
        assert_eq!(engine.credentials().len(), 4, "both files are watched");
    });
}

#[test]
fn what_was_seen_under_an_old_definition_vouches_for_nothing() {
    let mut old = estate(&[]);
    path(&mut old, "approve", &["peer"], HOUR);
    let mut new = old.clone();
    add(&mut old, file("peer", "/etc/good.pem"));
    add(&mut new, file("peer", "/etc/gone.pem"));
    let world = World::new(1, start(), old.clone());
    let files = Arc::new(Files::new(world.host.clone(), world.clock.clone()));
    files.put("/etc/good.pem", Seen::Present(chain("x", start().minus(DAY), start().plus(DAY * 9))));
    let clock = world.clock.clone();
    live(&world, Ports { prober: files.clone(), ..world.ports() }, old, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("approve")).is_open());
        engine.command(Command::Estate(Arc::new(new))).unwrap();
        clock.sleep(MS * 5).await;
        assert!(!engine.gate(&pid("approve")).is_open(), "the new file was not looked at yet");
        clock.sleep(MINUTE).await;
        assert!(!engine.gate(&pid("approve")).is_open(), "the new file is missing");
    });
}

#[test]
fn an_endpoint_that_is_not_configured_any_more_closes_nothing() {
    let mut two = with_server();
    let one = with_server();
    let mut portal = (*two.credentials[&cid("portal")]).clone();
    let extra = Endpoint { host: "second.sim".into(), ..(*portal.endpoints[0]).clone() };
    portal.endpoints.push(Arc::new(extra));
    add(&mut two, portal);
    let world = World::new(1, start(), two.clone());
    world.ca.behave(&iid("le"), |b| b.lifetime = HOUR * 12);
    let clock = world.clock.clone();
    live(&world, world.ports(), two, HOUR * 15, |engine| async move {
        clock.sleep(HOUR).await;
        engine.command(Command::Estate(Arc::new(one))).unwrap();
        clock.sleep(HOUR * 13).await;
        let verdict = engine.gate(&pid("approve"));
        assert!(verdict.is_open(), "{verdict:?}");
    });
}

#[test]
fn a_watched_file_that_is_gone_closes_the_path_although_an_endpoint_still_serves() {
    let mut watching = estate(&[]);
    let mut peer = file("peer", "/etc/gone.pem");
    let endpoint = Arc::new(Endpoint {
        host: "peer.sim".into(),
        port: 443,
        sni: None,
        starttls: keyward::domain::inventory::StartTls::None,
    });
    peer.endpoints = vec![endpoint.clone()];
    add(&mut watching, peer);
    path(&mut watching, "approve", &["peer"], HOUR);
    let seen = |seen| Observation { at: start(), seen };
    let good = Seen::Present(chain("x", start().minus(DAY), start().plus(DAY * 9)));
    let sighting =
        Sighting { stored: Some(seen(Seen::Missing)), served: [(endpoint, seen(good))].into(), ..Sighting::default() };
    let evidence = Evidence {
        estate: &watching,
        state: &State::default(),
        sightings: &[(cid("peer"), sighting)].into(),
        keys: &std::collections::BTreeMap::new(),
        paths: &std::collections::BTreeMap::new(),
        clock_fault: None,
        store_fault: None,
        configuration_fault: None,
        unrecorded: None,
        now: start(),
        boot: Boottime::from_boot(SECOND),
    };
    let verdict = verdict(&watching.paths[&pid("approve")], &evidence);
    assert_eq!(verdict.reasons.first().map(|r| r.code), Some(keyward::domain::gate::MISSING));
}

#[test]
fn a_credential_that_left_and_came_back_is_still_asked_about_at_its_ca() {
    let full = with_server();
    let empty = estate(&[("le", &LETS_ENCRYPT)]);
    let world = World::new(1, start(), full.clone());
    world.ca.behave(&iid("le"), |b| {
        b.ari = true;
        b.revoked_from = Some(start().plus(DAY * 10));
    });
    let clock = world.clock.clone();
    let again = Arc::new(full.clone());
    live(&world, world.ports(), full, DAY * 12, |engine| async move {
        clock.sleep(DAY).await;
        engine.command(Command::Estate(Arc::new(empty))).unwrap();
        clock.sleep(HOUR).await;
        engine.command(Command::Estate(again)).unwrap();
    });
    assert_eq!(world.ca.tally(&iid("le")).orders, 2, "the CA said: renew now");
}
