//! A crash between an effect and its outcome: the next start looks at what is really there, before it begins anything.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::time::{HOUR, MINUTE};
use keyward::engine::Command;
use keyward::ports::{Clock, Log as _, Urgency};
use keyward::sim::clock::run;
use keyward::sim::world::{Life, World};
use serde_json::Value;

use super::simulated::{entries, guarded, places, renew, world};
use crate::harness::estate::{cid, iid, pid};

fn open_intents(world: &World) -> usize {
    run(&world.clock, world.store.recovered().open_intents(usize::MAX)).unwrap().unwrap().len()
}

/// Lives a minute, asks for a new account key and dies at the `nth` step after that.
fn dies_during_a_rollover(nth: u64) -> World {
    let mut world = world(guarded());
    let (clock, steps) = (world.clock.clone(), world.steps.clone());
    let died = world.live_handle(HOUR, |engine, _| async move {
        clock.sleep(MINUTE).await;
        steps.crash_after(nth);
        engine.ask(Command::Rollover { issuer: iid("le"), by: Arc::from("uid:0") }).await.unwrap();
    });
    assert_eq!(died, Life::Died);
    assert_eq!(open_intents(&world), 1);
    world
}

/// The entry that says what a restart found out, which comes before everything that adds authority.
fn reconciled(world: &World) -> Value {
    let all = entries(world);
    let at = all.iter().position(|e| e["data"]["code"] == "KW6036").expect("nothing was reconciled");
    let started = *places(&all, "daemon.start").last().unwrap();
    assert!(started < at);
    for action in ["gate.open", "certificate.issue", "certificate.request", "certificate.install"] {
        assert!(places(&all, action).iter().all(|a| *a < started || *a > at), "{action} before the reconciliation");
    }
    assert_eq!(open_intents(world), 0);
    all[at]["data"].clone()
}

#[test]
fn a_crash_before_or_after_the_change_of_an_account_key_is_told_apart() {
    for (nth, outcome) in [(1, "failure"), (2, "success")] {
        let mut world = dies_during_a_rollover(nth);
        assert_eq!(world.live(MINUTE), Life::Over);
        let data = reconciled(&world);
        assert_eq!((data["outcome"].as_str(), data["action"].as_str()), (Some(outcome), Some("issuer.rollover")));
        assert!(world.notifier.notices().iter().any(|n| n.code == "KW6036" && n.urgent == Urgency::Routine));
    }
}

#[test]
fn where_nobody_can_tell_a_person_is_told_and_the_others_go_on() {
    let mut world = dies_during_a_rollover(2);
    let now = world.clock.now();
    world.ca.behave(&iid("le"), |b| b.outages = vec![(now, now.plus(HOUR))]);
    world.live_with(MINUTE, |engine| async move {
        let _ = engine;
    });
    assert_eq!(reconciled(&world)["outcome"], "unknown");
    assert!(world.notifier.notices().iter().any(|n| n.code == "KW6036" && n.urgent == Urgency::Act));
    let mut world = dies_during_a_rollover(2);
    let mut without = guarded();
    without.issuers.clear();
    world.configure(without);
    assert_eq!(world.live(MINUTE), Life::Over);
    assert_eq!(reconciled(&world)["outcome"], "unknown");
}

#[test]
fn a_crash_at_any_step_of_an_issuance_leaves_no_intent_without_an_outcome() {
    let mut steps_met = 0;
    for nth in 1..200 {
        let mut world = world(guarded());
        world.steps.crash_after(nth);
        let died = world.live_dangerously(MINUTE * 5) == Life::Died;
        steps_met += usize::from(died);
        assert_eq!(world.live(MINUTE * 30), Life::Over);
        assert_eq!(open_intents(&world), 0, "step {nth}");
        assert_eq!(places(&entries(&world), "audit.reconcile").len(), 0, "step {nth}: attempts resolve their own");
        assert!(world.host.installed(&cid("portal")).is_some());
        if !died {
            break;
        }
    }
    assert!(steps_met > 8, "only {steps_met} steps were met");
}

#[test]
fn a_store_that_fails_at_any_commit_of_a_renewal_leaves_no_intent_without_an_outcome() {
    for nth in 0..12 {
        let mut world = world(guarded());
        let clock = world.clock.clone();
        world.live_handle(HOUR * 2, |engine, store| async move {
            clock.sleep(MINUTE).await;
            store.fail_after(nth);
            drop(engine.ask(renew()).await);
            clock.sleep(MINUTE).await;
            let open = engine.gate(&pid("approve")).is_open();
            assert!(!open || engine.overview().store_fault.is_none(), "commit {nth}");
            store.heal();
            clock.sleep(HOUR).await;
            assert!(engine.gate(&pid("approve")).is_open(), "commit {nth}: {:?}", engine.gate(&pid("approve")));
            assert_eq!(engine.overview().unresolved, 0);
        });
        assert_eq!(open_intents(&world), 0, "commit {nth}");
    }
}

#[test]
fn a_stop_during_the_reconciliation_is_obeyed() {
    let mut world = dies_during_a_rollover(1);
    assert_eq!(world.live(Duration::ZERO), Life::Over);
}
