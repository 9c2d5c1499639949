//! The engine in a simulated world: one scenario a fact.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::audit::Phase;
use keyward::domain::inventory::{Credential, Estate};
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::policy::{Act, Lane, Policy, Rule};
use keyward::domain::time::{DAY, HOUR, MINUTE, Timestamp, Window};
use keyward::engine::Command;
use keyward::ports::Clock;
use keyward::sim::host::SimList;
use keyward::sim::world::{Life, World};

use crate::harness::estate::{add, cid, credential, estate, iid, managed, path, pid, served, start};

fn one(names: &[&str]) -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, credential("portal", managed(names, &["le"])));
    estate
}

fn entries(world: &World) -> Vec<serde_json::Value> {
    keyward::sim::clock::run(&world.clock, crate::harness::store::readable(&world.store.recovered())).unwrap()
}

#[test]
fn a_first_certificate_is_issued_installed_and_recorded() {
    let mut world = World::new(1, start(), one(&["review.example.com"]));
    assert_eq!(world.live(MINUTE), Life::Over);
    assert!(world.host.installed(&cid("portal")).is_some());
    assert_eq!((world.ca.tally(&iid("le")).orders, world.meter.renewals("success")), (1, 1));
    let entries = entries(&world);
    let codes: Vec<&str> = entries.iter().map(|e| e["data"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["KW2401", "KW2001", "KW2002", "KW2003", "KW2004", "KW2006", "KW2402"]);
    let intent = &entries[1];
    assert_eq!(intent["data"]["phase"], Phase::Intent.as_str());
    assert_eq!(intent["data"]["policy"]["decision"], "proceed");
    assert_eq!(entries[3]["data"]["intent_ref"], intent["id"], "the outcome names its intent");
}

#[test]
fn without_ari_it_renews_at_two_thirds_and_with_ari_inside_the_window() {
    for (ari, from, to) in [(false, 58, 61), (true, 59, 62)] {
        let mut world = World::new(1, start(), one(&["review.example.com"]));
        world.ca.behave(&iid("le"), |b| b.ari = ari);
        assert_eq!(world.live(DAY * from), Life::Over);
        assert_eq!(world.ca.tally(&iid("le")).orders, 1, "ari {ari}: not before day {from}");
        assert_eq!(world.live(DAY * (to - from)), Life::Over);
        let tally = world.ca.tally(&iid("le"));
        assert_eq!((tally.orders, tally.replacing), (2, u64::from(ari)), "ari {ari}: once, until day {to}");
    }
}

#[test]
fn a_window_in_the_past_means_renew_now_and_only_once() {
    let mut world = World::new(1, start(), one(&["review.example.com"]));
    world.ca.behave(&iid("le"), |b| {
        b.ari = true;
        b.revoked_from = Some(start().plus(DAY * 10));
    });
    world.live(DAY * 9);
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
    world.live(DAY * 5);
    assert_eq!(world.ca.tally(&iid("le")).orders, 2);
    world.live(DAY * 5);
    assert_eq!(world.ca.tally(&iid("le")).orders, 2);
}

#[test]
fn a_refused_replaces_is_tried_once_without_it_and_counted() {
    let mut world = World::new(1, start(), one(&["review.example.com"]));
    world.ca.behave(&iid("le"), |b| {
        b.ari = true;
        b.refuses_replaces = true;
    });
    world.live(DAY * 70);
    let tally = world.ca.tally(&iid("le"));
    assert_eq!((tally.orders, tally.replacing, tally.issued, tally.violations), (2, 0, 2, 0));
}

#[test]
fn a_crash_at_any_step_resumes_the_same_order_with_the_same_key() {
    let whole = {
        let mut world = World::new(1, start(), with_server());
        world.live(MINUTE);
        world.steps.taken()
    };
    assert!(whole > 15, "only {whole} steps");
    for lists in [true, false] {
        for n in 1..=whole {
            let mut world = World::new(1, start(), with_server());
            // A CA without a list gives an identical open order again, as Boulder does.
            world.ca.behave(&iid("le"), |b| (b.lists_orders, b.reuses_orders) = (lists, !lists));
            world.steps.crash_after(n);
            let first = world.live_dangerously(MINUTE);
            world.clock.pass(Duration::from_secs(20));
            assert_eq!(world.live(MINUTE), Life::Over, "step {n} ({first:?})");
            let tally = world.ca.tally(&iid("le"));
            assert_eq!((tally.orders, tally.issued), (1, 1), "step {n} ({first:?}): exactly one order");
            let installed = world.host.installed(&cid("portal"));
            assert!(installed.is_some(), "step {n}: installed");
            assert_eq!(world.host.slot_count(), 1, "step {n}: no stray key");
        }
    }
}

fn with_server() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, served("portal", managed(&["review.example.com", "www.example.com"], &["le"])));
    estate
}

#[test]
fn crashes_at_many_steps_in_a_row_lead_to_one_certificate_all_the_same() {
    for seed in 0..200 {
        let mut world = World::new(seed, start(), with_server());
        for life in 0..8_u64 {
            world.steps.crash_after(1 + keyward::sim::world::draw(seed, &[&life.to_be_bytes()], 12));
            world.live_dangerously(MINUTE);
            world.clock.pass(Duration::from_secs(5));
        }
        assert_eq!(world.live(HOUR), Life::Over);
        let tally = world.ca.tally(&iid("le"));
        assert_eq!((tally.orders, tally.issued), (1, 1), "seed {seed}");
        assert!(world.host.installed(&cid("portal")).is_some(), "seed {seed}");
    }
}

#[test]
fn a_lost_answer_to_new_order_or_finalize_makes_no_second_order() {
    for (new_order, finalize) in [(1, 0), (0, 1), (2, 2)] {
        let mut world = World::new(1, start(), one(&["review.example.com"]));
        world.ca.behave(&iid("le"), |b| (b.lose_new_order, b.lose_finalize) = (new_order, finalize));
        world.live(DAY);
        let tally = world.ca.tally(&iid("le"));
        assert_eq!((tally.orders, tally.issued), (1, 1), "lost {new_order} and {finalize}");
    }
}

#[test]
fn an_order_stuck_in_processing_is_put_aside_and_picked_up_when_it_moves() {
    let mut world = World::new(1, start(), one(&["review.example.com"]));
    world.ca.behave(&iid("le"), |b| b.stuck = true);
    world.live(HOUR * 2);
    assert!(world.host.installed(&cid("portal")).is_none());
    assert_eq!(world.ca.tally(&iid("le")).orders, 1, "waiting makes no second order");
    assert!(world.notifier.notices().iter().any(|n| n.code == "KW3009"));
}

#[test]
fn what_is_not_served_is_rolled_back_and_never_reissued() {
    let mut world = World::new(1, start(), with_server());
    assert_eq!(world.live(DAY), Life::Over);
    let old = world.host.installed(&cid("portal")).unwrap();
    world.host.ignore_reloads(&cid("portal"), true);
    world.live(DAY * 62);
    assert_eq!(world.host.installed(&cid("portal")), Some(old), "the old set is back");
    assert_eq!(world.ca.tally(&iid("le")).orders, 2);
    assert!(world.notifier.notices().iter().any(|n| n.code == "KW2206" && n.text.contains("rolled back")));
    world.host.ignore_reloads(&cid("portal"), false);
    world.live(DAY * 2);
    assert_eq!(world.ca.tally(&iid("le")).orders, 2, "the issued one is installed, nothing is issued again");
    assert_eq!(world.meter.renewals("success"), 2);
}

#[test]
fn a_failing_hook_never_reissues() {
    let mut world = World::new(1, start(), with_server());
    world.live(DAY);
    world.host.fail_reloads(&cid("portal"), true);
    world.live(DAY * 80);
    assert_eq!(world.ca.tally(&iid("le")).orders, 2);
    world.host.fail_reloads(&cid("portal"), false);
    world.live(DAY * 2);
    assert_eq!((world.ca.tally(&iid("le")).orders, world.meter.renewals("success")), (2, 2));
}

#[test]
fn after_two_tries_another_issuer_is_asked() {
    let mut estate = estate(&[("le", &LETS_ENCRYPT), ("zero", &[])]);
    add(&mut estate, credential("portal", managed(&["review.example.com"], &["le", "zero"])));
    let mut world = World::new(1, start(), estate);
    world.ca.behave(&iid("le"), |b| b.outages = vec![(start(), start().plus(DAY * 365))]);
    world.live(DAY);
    assert_eq!(world.ca.tally(&iid("zero")).issued, 1);
    assert!(world.host.installed(&cid("portal")).is_some());
}

#[test]
fn deleted_files_are_installed_again_without_a_new_order() {
    let mut world = World::new(1, start(), one(&["review.example.com"]));
    world.live(DAY);
    let before = world.host.installed(&cid("portal"));
    world.host.delete_files(&cid("portal"));
    world.live(DAY);
    assert_eq!(world.host.installed(&cid("portal")), before);
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
}

#[test]
fn a_deployment_window_holds_the_installation_but_not_the_renewal() {
    let mut estate = one(&["review.example.com"]);
    let mut own = managed(&["review.example.com"], &["le"]);
    // Sundays 02:00-04:00 UTC.
    let days = [false, false, false, false, false, false, true];
    own.windows = vec![Window { days, from_minute: 120, until_minute: 240, zone: jiff::tz::TimeZone::UTC }];
    add(&mut estate, credential("portal", own));
    let mut world = World::new(1, start(), estate);
    world.live(DAY);
    assert_eq!(world.host.installs(), 1, "the first installation waits for nothing");
    let mut issued_before_installed = false;
    for _ in 0..70 * 24 {
        world.live(HOUR);
        let (issued, installs) = (world.ca.tally(&iid("le")).issued, world.host.installs());
        issued_before_installed |= issued == 2 && installs == 1;
        if installs == 2 {
            let opened = world.clock.now();
            assert!(
                Window { days, from_minute: 120, until_minute: 300, zone: jiff::tz::TimeZone::UTC }.is_open(opened),
                "{opened}"
            );
            assert!(issued_before_installed);
            return;
        }
    }
    panic!("never installed");
}

#[test]
fn a_person_may_renew_early_and_may_spend_the_reserve() {
    let mut world = World::new(1, start(), one(&["review.example.com"]));
    world.live(DAY);
    for n in 2..=5 {
        let life = world.live_with(MINUTE, |engine| async move {
            World::ask_renewal(&engine, &cid("portal"), "uid:1000").unwrap();
        });
        assert_eq!((life, world.ca.tally(&iid("le")).orders), (Life::Over, n));
    }
    // The CA allows five for one exact set in a week: the sixth waits, and the CA never hears of it.
    world.live_with(MINUTE, |engine| async move { World::ask_renewal(&engine, &cid("portal"), "uid:1000").unwrap() });
    let tally = world.ca.tally(&iid("le"));
    assert_eq!((tally.orders, tally.violations), (5, 0));
    let who: Vec<_> =
        entries(&world).iter().filter(|e| e["data"]["code"] == "KW2001").map(|e| e["data"]["actor"].clone()).collect();
    assert_eq!(who[1]["subject"], "uid:1000");
}

#[test]
fn policy_that_wants_a_person_holds_the_order_and_records_why_once() {
    let mut estate = one(&["review.example.com"]);
    let rule = Rule::new("first-needs-review", [Act::Issue], Lane::ReviewRequired);
    estate.policy = Policy::new(vec![rule]);
    let mut world = World::new(1, start(), estate);
    world.live(DAY);
    assert_eq!(world.ca.tally(&iid("le")).orders, 0);
    let denied: Vec<_> = entries(&world).into_iter().filter(|e| e["data"]["code"] == "KW2007").collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["data"]["policy"]["rule"], "first-needs-review");
}

#[test]
fn a_gate_opens_when_all_is_served_and_closes_before_the_expiry() {
    let mut estate = with_server();
    path(&mut estate, "approve", &["portal"], HOUR * 2);
    let mut world = World::new(1, start(), estate);
    let states: Arc<std::sync::Mutex<Vec<bool>>> = Arc::default();
    let (clock, seen, ca) = (world.clock.clone(), states.clone(), world.ca.clone());
    ca.behave(&iid("le"), |b| b.lifetime = HOUR * 12);
    let watch = |engine: Arc<keyward::engine::Engine>| async move {
        seen.lock().unwrap().push(engine.gate(&pid("approve")).is_open());
        clock.sleep(MINUTE).await;
        seen.lock().unwrap().push(engine.gate(&pid("approve")).is_open());
        // The CA is gone from now on; two hours before the end the path must close.
        ca.behave(&iid("le"), |b| b.outages = vec![(start(), Timestamp::MAX)]);
        clock.sleep(HOUR * 10 - MINUTE * 10).await;
        seen.lock().unwrap().push(engine.gate(&pid("approve")).is_open());
        clock.sleep(MINUTE * 10).await;
        let verdict = engine.gate(&pid("approve"));
        assert_eq!(verdict.reasons[0].code, "KW4005");
        seen.lock().unwrap().push(verdict.is_open());
        assert_eq!(engine.gate(&pid("unknown")).reasons[0].code, "KW4010");
    };
    assert_eq!(world.live_with(HOUR * 11, watch), Life::Over);
    assert_eq!(*states.lock().unwrap(), [false, true, true, false]);
}

#[test]
fn a_renewal_under_a_revocation_list_never_closes_the_gate_and_mends_a_revoked_certificate() {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    let listed =
        Credential { crls: vec!["/sim/root.crl".into()], ..served("portal", managed(&["a.example.com"], &["le"])) };
    add(&mut estate, listed);
    path(&mut estate, "approve", &["portal"], HOUR);
    let mut world = World::new(1, start(), estate);
    let (clock, host) = (world.clock.clone(), world.host.clone());
    let list = |revoked: &[&Arc<str>]| SimList::Good {
        this_update: start(),
        next_update: start().plus(DAY),
        revoked: revoked.iter().map(ToString::to_string).collect(),
    };
    let act = |engine: Arc<keyward::engine::Engine>| async move {
        let own = || host.installed(&cid("portal")).map(|c| c.leaf.serial.clone()).unwrap();
        let look = || engine.command(Command::Look(cid("portal"))).unwrap();
        let codes = || engine.gate(&pid("approve")).reasons.iter().map(|r| r.code).collect::<Vec<_>>();
        clock.sleep(MINUTE).await;
        assert_eq!(codes(), ["KW4019", "KW4019"], "the file is missing, and nothing covers the certificate");
        host.set_list("/sim/root.crl", Some(list(&[])));
        look();
        clock.sleep(MINUTE * 10).await;
        assert_eq!(codes(), [""; 0]);
        let first = own();
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        for _ in 0..2_400 {
            clock.sleep(Duration::from_millis(25)).await;
            assert_eq!(codes(), [""; 0], "{:?}", engine.gate(&pid("approve")));
        }
        let second = own();
        assert_ne!(second, first);
        host.set_list("/sim/root.crl", Some(list(&[&first, &second])));
        look();
        clock.sleep(MINUTE).await;
        assert_eq!(codes(), ["KW4018"]);
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        clock.sleep(MINUTE * 10).await;
        assert_eq!(codes(), [""; 0]);
        host.set_list("/sim/root.crl", Some(SimList::Bad("is torn".into())));
        look();
        clock.sleep(MINUTE).await;
        assert_eq!(codes(), ["KW4019", "KW4019"]);
    };
    assert_eq!(world.live_with(HOUR, act), Life::Over);
    assert_eq!(world.ca.tally(&iid("le")).orders, 3);
}

#[test]
fn a_clock_step_closes_the_gate_and_starts_no_mass_renewal() {
    for step in [-3_600, 31_536_000] {
        let mut estate = with_server();
        path(&mut estate, "approve", &["portal"], HOUR);
        let mut world = World::new(1, start(), estate);
        let clock = world.clock.clone();
        let act = move |engine: Arc<keyward::engine::Engine>| async move {
            clock.sleep(MINUTE).await;
            assert!(engine.gate(&pid("approve")).is_open());
            clock.step(step);
            assert!(!engine.gate(&pid("approve")).is_open(), "at once, before any evaluation");
            clock.sleep(HOUR).await;
            let verdict = engine.gate(&pid("approve"));
            assert!(verdict.reasons.iter().any(|r| r.code == "KW4009"), "{verdict:?}");
        };
        assert_eq!(world.live_with(HOUR * 2, act), Life::Over);
        assert_eq!(world.ca.tally(&iid("le")).orders, 1, "step {step}");
    }
}

#[test]
fn a_store_that_cannot_be_written_stops_everything_and_heals() {
    let mut estate = with_server();
    path(&mut estate, "approve", &["portal"], HOUR);
    let mut world = World::new(1, start(), estate);
    let clock = world.clock.clone();
    let ca = world.ca.clone();
    let act = |engine: Arc<keyward::engine::Engine>| async move {
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("approve")).is_open());
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        clock.sleep(MINUTE).await;
        assert_eq!(ca.tally(&iid("le")).orders, 2);
    };
    assert_eq!(world.live_with(MINUTE * 3, act), Life::Over);
    world.store = Arc::new(world.store.recovered());
    let store = world.store.clone();
    let ports = world.ports();
    store.fail_after(1);
    let estate = with_server();
    let clock = world.clock.clone();
    let ca = world.ca.clone();
    keyward::sim::clock::run(&world.clock, async {
        let engine = keyward::engine::Engine::start(ports, Arc::new(estate)).await.unwrap();
        let act = async {
            World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
            clock.sleep(MINUTE).await;
            assert_eq!(ca.tally(&iid("le")).orders, 2, "nothing is ordered that cannot be recorded");
            assert!(engine.overview().store_fault.is_some());
            store.heal();
            World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
            clock.sleep(MINUTE).await;
            assert_eq!(ca.tally(&iid("le")).orders, 3);
        };
        engine.run(act).await.unwrap();
    })
    .unwrap();
}
