//! What only a person opens: a log that was broken, in use and over a restart.

use std::sync::Arc;

use keyward::domain::gate::{self, Verdict};
use keyward::domain::inventory::Reopening;
use keyward::domain::state::LatchOn;
use keyward::domain::time::{HOUR, MINUTE};
use keyward::engine::{Command, Engine, Refusal};
use keyward::ports::{Clock as _, Store as _, StoreError};
use keyward::sim::clock::run;
use keyward::sim::world::{Life, World};

use super::{SECOND, coded, codes, guarded, life, reopen};
use crate::harness::estate::{cid, pid, start};

fn world() -> World {
    let mut estate = guarded(Reopening::default());
    estate.heartbeat = MINUTE;
    World::new(1, start(), estate)
}

fn gates(engine: &Engine) -> [Verdict; 2] {
    ["sign-in", "approve"].map(|id| engine.gate(&pid(id)))
}

fn all_closed_for(engine: &Engine, code: &str) {
    for gate in gates(engine) {
        assert!(codes(&gate).contains(&code), "{gate:?}");
    }
}

fn all_open(engine: &Engine) {
    for gate in gates(engine) {
        assert!(gate.is_open(), "{gate:?}");
    }
}

#[test]
fn a_log_that_is_found_broken_in_use_closes_for_good_and_nobody_opens_before_it_is_whole() {
    let mut world = world();
    let clock = world.clock.clone();
    let ended = world.live_handle(HOUR, |engine, store| async move {
        clock.sleep(MINUTE).await;
        all_open(&engine);
        store.break_log();
        // Five times in a heartbeat of a minute.
        clock.sleep(SECOND * 13).await;
        all_closed_for(&engine, gate::BROKEN_LOG);
        let refused = engine.ask(reopen("approve")).await;
        let Err(Refusal::AuditUnavailable(StoreError::Distrusted { code, text })) = refused else {
            panic!("{refused:?}")
        };
        assert!(code == gate::BROKEN_LOG && text.contains("whole again"), "{text}");
        store.heal();
        clock.sleep(MINUTE * 10).await;
        all_closed_for(&engine, gate::BROKEN_LOG);
        engine.ask(reopen("approve")).await.unwrap();
        engine.ask(reopen("sign-in")).await.unwrap();
        clock.sleep(SECOND * 6).await;
        all_open(&engine);
    });
    assert_eq!(ended, Life::Over);
    assert_eq!((coded(&world, "KW2303"), coded(&world, "KW2304")), (2, 2));
    // What the look left outside the log is gone with the last latch.
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        all_open(&engine);
    });
}

#[test]
fn a_key_that_is_reported_while_nothing_can_be_recorded_is_compromised_over_a_restart_too() {
    let mut world = world();
    let clock = world.clock.clone();
    world.live_handle(HOUR, |engine, store| async move {
        clock.sleep(MINUTE).await;
        let spki = engine.credential(&cid("peer")).unwrap().sighting.chain().unwrap().leaf.spki;
        store.fail_after(0);
        let report = Command::Compromise { spki, by: Arc::from("uid:0") };
        engine.ask(report).await.unwrap();
        assert!(codes(&engine.gate(&pid("sign-in"))).contains(&gate::COMPROMISED));
        clock.sleep(MINUTE).await;
        store.crash();
    });
    assert_eq!(coded(&world, "KW2305"), 0);
    for _ in 0..2 {
        let clock = world.clock.clone();
        life(&mut world, HOUR, |engine| async move {
            clock.sleep(MINUTE).await;
            assert_eq!(codes(&engine.gate(&pid("sign-in"))), [gate::COMPROMISED]);
        });
        assert_eq!(coded(&world, "KW2305"), 1, "it is in the log by then, once");
    }
}

#[test]
fn what_an_earlier_start_did_not_believe_latches_every_path_until_it_is_opened() {
    let mut world = world();
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        all_open(&engine);
    });
    let error = StoreError::Distrusted { code: "KW6001", text: "entry 7 is not what was hashed".into() };
    run(&world.clock, world.store.doubt(Some((world.clock.now(), error)))).unwrap().unwrap();
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        all_closed_for(&engine, gate::BROKEN_LOG);
        assert!(gates(&engine)[0].reasons[0].text.contains("entry 7"), "{:?}", gates(&engine)[0]);
    });
    assert_eq!((coded(&world, "KW4054"), coded(&world, "KW2303")), (1, 2));
    let clock = world.clock.clone();
    life(&mut world, HOUR, |engine| async move {
        clock.sleep(MINUTE).await;
        all_closed_for(&engine, gate::BROKEN_LOG);
        engine.ask(reopen("sign-in")).await.unwrap();
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("sign-in")).is_open());
        assert_eq!(codes(&engine.gate(&pid("approve"))), [gate::BROKEN_LOG]);
    });
    let state = run(&world.clock, world.store.recovered().load()).unwrap().unwrap();
    assert_eq!(state.latches.keys().collect::<Vec<_>>(), [&LatchOn::Path(pid("approve"))]);
}
