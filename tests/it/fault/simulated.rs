//! The guardian over a simulated store that fails: class A is refused, class B is done and spooled.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::gate::{AUDIT, SPOOLED, UNRESOLVED, Verdict};
use keyward::domain::inventory::Estate;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::time::{HOUR, MINUTE, Timestamp};
use keyward::engine::{Command, Engine, Refusal};
use keyward::ports::{Clock, Ports, Store, StoreError, Urgency};
use keyward::sim::clock::run;
use keyward::sim::store::MemoryStore;
use keyward::sim::world::{Life, World};
use serde_json::Value;

use crate::harness::estate::{add, cid, credential, estate, iid, managed, path, pid, served, start};
use crate::review::doors::Hanging;

const SECOND: Duration = Duration::from_secs(1);
const PATH: &str = "approve";

pub fn guarded() -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, served("portal", managed(&["portal.example.com"], &["le"])));
    estate.probe_every = MINUTE;
    path(&mut estate, PATH, &["portal"], HOUR);
    estate
}

pub fn world(estate: Estate) -> World {
    let mut world = World::new(1, start(), estate);
    world.store = Arc::new(MemoryStore::new());
    world
}

/// All entries, oldest first.
pub fn entries(world: &World) -> Vec<Value> {
    let mut all = run(&world.clock, world.store.recovered().entries(None, usize::MAX)).unwrap().unwrap();
    all.reverse();
    all.iter().map(|e| serde_json::from_slice(&e.bytes).unwrap()).collect()
}

pub fn places(entries: &[Value], action: &str) -> Vec<usize> {
    entries.iter().enumerate().filter(|(_, e)| e["data"]["action"] == action).map(|(at, _)| at).collect()
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.reasons.iter().map(|r| r.code).collect()
}

fn time(entry: &Value) -> Timestamp {
    Timestamp::parse(entry["time"].as_str().unwrap()).unwrap()
}

pub fn renew() -> Command {
    Command::Renew { credential: cid("portal"), by: Arc::from("uid:0") }
}

/// The closing of the gate could not be written: it is in the log, with its own time, before the gate opens again.
fn closed_before_it_opened(entries: &[Value]) {
    let (closed, opened) = (places(entries, "gate.close"), places(entries, "gate.open"));
    let spooled: Vec<usize> =
        closed.iter().copied().filter(|at| entries[*at]["data"]["facts"]["spooled"] == true).collect();
    assert_eq!((spooled.len(), opened.len()), (1, 2), "{entries:#?}");
    assert!(opened[0] < spooled[0] && spooled[0] < opened[1]);
    let drained = places(entries, "audit.spool");
    assert_eq!(drained.len(), 1);
    assert!(spooled[0] < drained[0] && time(&entries[spooled[0]]) <= time(&entries[drained[0]]));
}

#[test]
fn a_gate_that_closes_while_nothing_can_be_written_is_recorded_before_it_opens_again() {
    for keeps in [true, false] {
        let mut world = world(guarded());
        let (clock, spool, notifier) = (world.clock.clone(), world.spool.clone(), world.notifier.clone());
        assert_eq!(
            world.live_handle(HOUR, |engine, store| async move {
                clock.sleep(MINUTE).await;
                assert!(engine.gate(&pid(PATH)).is_open());
                if !keeps {
                    spool.die();
                }
                store.fail_after(0);
                let refused = engine.ask(renew()).await.unwrap_err();
                assert_eq!(refused.code(), Some("KW6030"));
                assert!(refused.to_string().starts_with("audit_unavailable: "), "{refused}");
                clock.sleep(SECOND * 10).await;
                assert_eq!(codes(&engine.gate(&pid(PATH))), [AUDIT, SPOOLED]);
                assert_eq!(engine.overview().spooled, 1);
                assert_eq!(spool.kept().drafts.len(), usize::from(keeps));
                clock.sleep(MINUTE).await;
                assert_eq!(engine.overview().spooled, 1, "once, however long it takes");
                store.heal();
                clock.sleep(SECOND * 11).await;
                assert!(engine.gate(&pid(PATH)).is_open(), "{:?}", engine.gate(&pid(PATH)));
                assert_eq!((engine.overview().spooled, spool.kept().drafts.len()), (0, 0));
            }),
            Life::Over
        );
        closed_before_it_opened(&entries(&world));
        assert_eq!(world.ca.tally(&iid("le")).orders, 1, "what was refused was not done");
        let told = |code| notifier.notices().iter().filter(|n| n.code == code).count();
        assert_eq!((told("KW6030"), told("KW6031"), told("KW6037")), (1, 1, usize::from(!keeps)));
    }
}

#[test]
fn a_crash_with_something_in_the_spool_opens_nothing_before_it_is_in_the_log() {
    let mut world = world(guarded());
    let clock = world.clock.clone();
    let ended = world.live_handle(MINUTE * 3, |engine, store| async move {
        clock.sleep(MINUTE).await;
        store.fail_after(0);
        engine.ask(renew()).await.unwrap_err();
    });
    assert!(matches!(ended, Life::Refused(StoreError::Unavailable(_))), "{ended:?}");
    assert_eq!(world.spool.kept().drafts.len(), 1);
    assert_eq!(world.live(MINUTE), Life::Over);
    let all = entries(&world);
    closed_before_it_opened(&all);
    let starts = places(&all, "daemon.start");
    assert_eq!(all[starts[1]]["data"]["facts"]["spooled"], "1", "{:#?}", all[starts[1]]);
    assert_eq!(world.spool.kept().drafts.len(), 0);
}

#[test]
fn an_entry_that_was_written_although_its_commit_failed_is_not_written_twice() {
    let mut world = world(guarded());
    let (clock, host) = (world.clock.clone(), world.host.clone());
    world.live_handle(HOUR, |engine, store| async move {
        clock.sleep(MINUTE).await;
        store.lose_answers(1);
        host.delete_files(&cid("portal"));
        engine.command(Command::Look(cid("portal"))).unwrap();
        clock.sleep(MINUTE * 20).await;
        assert!(engine.gate(&pid(PATH)).is_open(), "{:?}", engine.gate(&pid(PATH)));
        assert_eq!(engine.overview().spooled, 0);
    });
    let all = entries(&world);
    let mut ids: Vec<&str> = all.iter().map(|e| e["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn a_spool_that_cannot_be_read_keeps_every_gate_closed() {
    let mut world = world(guarded());
    assert_eq!(world.live(MINUTE), Life::Over);
    world.spool.die();
    let (clock, spool) = (world.clock.clone(), world.spool.clone());
    world.live_handle(HOUR, |engine, _| async move {
        clock.sleep(MINUTE).await;
        let verdict = engine.gate(&pid(PATH));
        assert_eq!(codes(&verdict), [SPOOLED]);
        assert!(verdict.reasons[0].text.contains("cannot be read"), "{verdict:?}");
        spool.heal();
        clock.sleep(SECOND * 11).await;
        assert!(engine.gate(&pid(PATH)).is_open(), "{:?}", engine.gate(&pid(PATH)));
    });
}

#[test]
fn more_than_the_spool_holds_is_counted_and_nothing_is_lost_in_silence() {
    const PATHS: usize = 4_500;
    let mut estate = guarded();
    for n in 0..PATHS {
        path(&mut estate, &format!("p{n}"), &["portal"], HOUR);
    }
    for crash in [false, true] {
        let mut world = world(estate.clone());
        let clock = world.clock.clone();
        let paths = u64::try_from(PATHS).unwrap() + 1;
        world.live_handle(SECOND * 40, |engine, store| async move {
            clock.sleep(SECOND * 10).await;
            assert!(engine.gate(&pid("p7")).is_open());
            store.fail_after(0);
            engine.ask(renew()).await.unwrap_err();
            clock.sleep(SECOND).await;
            assert_eq!(engine.overview().spooled, paths);
            if !crash {
                store.heal();
                clock.sleep(SECOND * 10).await;
                assert_eq!(engine.overview().spooled, 0);
            }
        });
        if crash {
            assert_eq!(world.live(SECOND * 10), Life::Over);
        }
        let all = entries(&world);
        let spooled =
            places(&all, "gate.close").iter().filter(|at| all[**at]["data"]["facts"]["spooled"] == true).count();
        let counts: Vec<&Value> = all.iter().filter(|e| e["data"]["code"] == "KW6034").collect();
        assert_eq!((spooled, counts.len()), (4_096, 1));
        let more: usize = counts[0]["data"]["facts"]["more"].as_str().unwrap().parse().unwrap();
        // On the disk the count is kept by powers of two.
        assert_eq!(more, if crash { 256 } else { PATHS + 1 - 4_096 });
        assert_eq!(places(&all, "gate.open").len(), 2 * (PATHS + 1));
    }
}

#[test]
fn whatever_adds_authority_is_refused_and_not_done_while_nothing_can_be_written() {
    let mut world = world(guarded());
    let (clock, ca) = (world.clock.clone(), world.ca.clone());
    world.live_handle(HOUR, |engine, store| async move {
        clock.sleep(MINUTE).await;
        let mut bare = guarded();
        bare.paths.clear();
        store.fail_after(0);
        let by: Arc<str> = Arc::from("uid:0");
        clock.step(7_200);
        clock.sleep(SECOND * 6).await;
        for command in [
            renew(),
            Command::Rollover { issuer: iid("le"), by: by.clone() },
            Command::AcceptClock { by },
            Command::Estate(Arc::new(bare)),
        ] {
            let shown = format!("{command:?}");
            let refused = engine.ask(command).await.unwrap_err();
            assert!(matches!(refused, Refusal::AuditUnavailable(_)), "{shown}: {refused}");
        }
        assert!(engine.overview().clock_fault.is_some(), "the time was not accepted");
        assert_eq!(engine.estate().paths.len(), 1, "the configuration was not adopted");
        let key = keyward::ports::Issuer::account_key(&*ca, &iid("le")).await.unwrap();
        assert_eq!(key.as_deref(), Some("key-0"), "the account's key was not changed");
        clock.step(-7_200);
        clock.sleep(MINUTE * 5).await;
    });
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
}

#[test]
fn a_disk_that_hangs_keeps_no_gate_open_and_no_person_waiting() {
    let world = world(guarded());
    let hangs = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let store = Hanging { inner: world.store.clone(), clock: world.clock.clone(), hangs: hangs.clone() };
    let ports = Ports { store: Arc::new(store), ..world.ports() };
    let clock = world.clock.clone();
    let ended = run(&world.clock, async {
        let engine = Arc::new(Engine::start(ports, Arc::new(guarded())).await.unwrap());
        let stop = async {
            clock.sleep(MINUTE).await;
            assert!(engine.gate(&pid(PATH)).is_open());
            hangs.store(true, std::sync::atomic::Ordering::SeqCst);
            world.host.delete_files(&cid("portal"));
            engine.command(Command::Look(cid("portal"))).unwrap();
            clock.sleep(SECOND).await;
            assert!(!engine.gate(&pid(PATH)).is_open(), "it closes before its entry is written");
            let asked = clock.boottime();
            let refused = engine.ask(renew()).await.unwrap_err();
            assert_eq!(refused.code(), Some("KW6030"), "{refused}");
            assert!(clock.boottime().since(asked) <= SECOND * 5);
            clock.sleep(MINUTE * 30).await;
        };
        engine.run(stop).await
    });
    // It does not mend itself, so a restart has to.
    assert!(matches!(ended, Some(Err(StoreError::Unavailable(_)))), "{ended:?}");
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
    assert_eq!(world.spool.kept().drafts.len(), 1);
}

#[test]
fn a_lost_medium_closes_the_gates_ends_the_process_and_is_never_asked_again() {
    let mut world = world(guarded());
    let clock = world.clock.clone();
    let (told, heard) = std::sync::mpsc::channel();
    let ended = world.live_handle(HOUR, |engine, store| async move {
        clock.sleep(MINUTE).await;
        store.lose_medium();
        told.send(engine.clone()).unwrap();
        let refused = engine.ask(renew()).await.unwrap_err();
        assert_eq!(refused.code(), Some("KW6030"), "{refused}");
        assert!(refused.to_string().contains("failed at a flush"));
    });
    assert!(matches!(ended, Life::Refused(StoreError::Lost(_))), "{ended:?}");
    assert_eq!(world.store.asked_after_loss(), 0);
    let engine = heard.recv().unwrap();
    assert_eq!(codes(&engine.gate(&pid(PATH))), [AUDIT], "closed to the very end");
    assert_eq!(world.spool.kept().drafts.len(), 1);
    assert!(world.notifier.notices().iter().any(|n| n.code == "KW6030" && n.urgent == Urgency::Act));
    assert_eq!(world.live(MINUTE), Life::Over);
    closed_before_it_opened(&entries(&world));
}

#[test]
fn an_outcome_that_cannot_be_written_closes_the_gates_until_it_is() {
    let mut world = world(guarded());
    let clock = world.clock.clone();
    world.live_handle(HOUR, |engine, store| async move {
        clock.sleep(MINUTE).await;
        // The intent is written, and nothing after it.
        store.fail_after(1);
        engine.ask(Command::Rollover { issuer: iid("le"), by: Arc::from("uid:0") }).await.unwrap();
        clock.sleep(SECOND * 10).await;
        assert!(codes(&engine.gate(&pid(PATH))).contains(&AUDIT), "{:?}", engine.gate(&pid(PATH)));
        assert_eq!(engine.overview().unresolved, 1);
        store.heal();
        clock.sleep(SECOND * 11).await;
        assert!(engine.gate(&pid(PATH)).is_open(), "{:?}", engine.gate(&pid(PATH)));
        assert_eq!(engine.overview().unresolved, 0);
    });
    let all = entries(&world);
    let (rollover, opened) = (places(&all, "issuer.rollover"), places(&all, "gate.open"));
    assert_eq!(all[rollover[1]]["data"]["outcome"], "success");
    assert!(rollover[1] < opened[1], "it opens only when the outcome is recorded");
    assert_ne!(UNRESOLVED, AUDIT);
}

#[test]
fn a_heartbeat_is_in_the_log_every_five_minutes() {
    let mut estate = guarded();
    estate.heartbeat = keyward::domain::inventory::HEARTBEAT;
    add(&mut estate, credential("other", managed(&["other.example.com"], &["le"])));
    let mut world = world(estate);
    assert_eq!(world.live(HOUR), Life::Over);
    let all = entries(&world);
    let beats: Vec<Timestamp> = places(&all, "audit.heartbeat").into_iter().map(|at| time(&all[at])).collect();
    assert!((11..=12).contains(&beats.len()), "{beats:?}");
    assert!(beats.windows(2).all(|pair| pair[0].until(pair[1]) == Duration::from_secs(300)), "{beats:?}");
    assert_eq!(all[places(&all, "audit.heartbeat")[3]]["data"]["facts"]["gates_open"], "1");
}
