//! Freezing while nothing can be written: it holds at once, and is in the log and in the state as soon as it can be, even
//! if the guardian did not live to see that.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::time::{HOUR, MINUTE};
use keyward::engine::{Engine, WantedFreeze};
use keyward::ports::{Clock, Store};
use keyward::sim::clock::run;
use keyward::sim::store::MemoryStore;
use keyward::sim::world::{Life, World};

use super::{code, scope, three};
use crate::fault::simulated::entries;
use crate::harness::estate::start;

const SECOND: Duration = Duration::from_secs(1);

fn lived() -> World {
    let mut world = World::new(1, start(), three());
    world.store = Arc::new(MemoryStore::new());
    assert_eq!(world.live(MINUTE * 10), Life::Over);
    world
}

fn wanted(now: keyward::domain::time::Timestamp) -> WantedFreeze {
    WantedFreeze { scope: scope("label:app=portal"), reason: "the disk is full".into(), until: now.plus(HOUR * 3) }
}

fn durable(world: &World) -> Vec<String> {
    let state = run(&world.clock, Store::load(&world.store.recovered())).unwrap().unwrap();
    state.freezes.values().map(|f| format!("{}: {}", f.scope, f.reason)).collect()
}

#[test]
fn it_holds_at_once_and_is_written_when_the_disk_is_back() {
    let mut world = lived();
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>, store: Arc<MemoryStore>| async move {
        clock.sleep(MINUTE).await;
        store.fail_next(u64::MAX);
        let id = engine.freeze(&wanted(clock.now()), "uid:0").await.unwrap();
        let [freeze] = &engine.freezes()[..] else { panic!("it is not in force") };
        assert!(freeze.id == id && !freeze.recorded, "{freeze:?}");
        clock.sleep(MINUTE).await;
        store.heal();
        clock.sleep(MINUTE).await;
        assert!(engine.freezes()[0].recorded);
    };
    assert_eq!(world.live_handle(MINUTE * 10, act), Life::Over);
    assert_eq!(durable(&world), ["label:app=portal: the disk is full"]);
    let log = entries(&world);
    let begun: Vec<_> = log.iter().filter(|e| code(e) == "KW4071").collect();
    assert!(begun.len() == 1 && begun[0]["data"]["facts"]["spooled"] == true, "{begun:?}");
}

#[test]
fn it_outlives_a_guardian_that_dies_before_the_disk_is_back() {
    let mut world = lived();
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>, store: Arc<MemoryStore>| async move {
        clock.sleep(MINUTE).await;
        store.fail_next(u64::MAX);
        engine.freeze(&wanted(clock.now()), "uid:0").await.unwrap();
    };
    // The end cannot be written either.
    assert!(matches!(world.live_handle(MINUTE * 2, act), Life::Refused(_)));
    assert_eq!(durable(&world), [""; 0], "only the spool knows of it");
    world.store.heal();
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        assert_eq!(engine.freezes().len(), 1, "from the first moment on");
        clock.sleep(SECOND * 30).await;
        assert!(engine.freezes()[0].recorded);
        let held = engine.freezes()[0].freeze.reason.to_string();
        assert_eq!(held, "the disk is full");
    };
    assert_eq!(world.live_with(MINUTE * 5, act), Life::Over);
    assert_eq!(durable(&world), ["label:app=portal: the disk is full"]);
    assert_eq!(world.live(HOUR * 4), Life::Over);
    assert_eq!(durable(&world), [""; 0]);
    let log = entries(&world);
    let of = |wanted: &str| log.iter().filter(|e| code(e) == wanted).count();
    assert_eq!((of("KW4071"), of("KW4073")), (1, 1));
}

#[test]
fn a_commit_whose_answer_is_lost_is_told_once() {
    let mut world = lived();
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>, store: Arc<MemoryStore>| async move {
        clock.sleep(MINUTE).await;
        store.lose_answers(1);
        engine.freeze(&wanted(clock.now()), "uid:0").await.unwrap();
        clock.sleep(MINUTE).await;
        assert!(engine.freezes()[0].recorded);
    };
    assert_eq!(world.live_handle(MINUTE * 10, act), Life::Over);
    assert_eq!(durable(&world).len(), 1);
    assert_eq!(entries(&world).iter().filter(|e| code(e) == "KW4071").count(), 1);
}
