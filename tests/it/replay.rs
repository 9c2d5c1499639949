//! The log alone gives the state: whatever happened, replaying the entries reproduces the tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyward::domain::id::{EntryId, Ulid};
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::private::FORGOTTEN;
use keyward::domain::state::{Change, State};
use keyward::domain::time::{DAY, HOUR};
use keyward::engine::{Command, Forget};
use keyward::ports::{Clock as _, Store};
use keyward::shell::texts;
use keyward::sim::store::MemoryStore;
use keyward::sim::world::{World, draw};

use crate::harness::estate::{add, cid, credential, estate, iid, managed, served, start};
use crate::harness::store::{block_on, open, readable};
use crate::store::samples::{replayed, without_clock};

/// What a history met, so that no run proves nothing.
pub type Met = BTreeMap<&'static str, u64>;

const CREDENTIALS: u64 = 6;

/// Some lives of a guardian over a few certificates, in which everything goes wrong that can.
pub fn history(seed: u64, lives: u64) -> (World, Met) {
    let two = [("le", &LETS_ENCRYPT[..]), ("zero", &[][..])];
    let estate_of = |n: u64| {
        let mut estate = estate(&two);
        for i in 0..n {
            let names = [format!("a.host-{i}.com"), format!("b.host-{i}.com")];
            let names: Vec<&str> = names.iter().map(String::as_str).take(1 + usize::from(i % 2 == 0)).collect();
            let issuers: &[&str] = if i % 3 == 0 { &["le"] } else { &["le", "zero"] };
            let managed = managed(&names, issuers);
            let id = format!("c{i}");
            add(&mut estate, if i < 4 { served(&id, managed) } else { credential(&id, managed) });
        }
        estate
    };
    let mut world = World::new(seed, start(), estate_of(CREDENTIALS));
    world.store = Arc::new(MemoryStore::new());
    world.store.remember();
    let mut met = Met::new();
    for life in 0..lives {
        let below = |what: &str, bound: u64| draw(seed, &[what.as_bytes(), &life.to_be_bytes()], bound);
        for (i, issuer) in ["le", "zero"].into_iter().enumerate() {
            let outage = below(issuer, 5) == 0;
            world.ca.behave(&iid(issuer), |b| {
                b.ari = below("ari", 2) == 0;
                b.failing_permille = [0, 50, 300, 1_000][usize::try_from(below("failing", 4)).unwrap()];
                b.lifetime_by_prefix.insert("a.".to_owned(), [HOUR * 160, DAY * 47][i]);
                b.outages = if outage { vec![(world.clock.now(), world.clock.now().plus(DAY))] } else { Vec::new() };
            });
        }
        let victim = cid(&format!("c{}", below("victim", CREDENTIALS)));
        world.host.fail_reloads(&victim, below("reload", 3) == 0);
        world.host.ignore_reloads(&victim, below("ignore", 4) == 0);
        if below("files", 3) == 0 {
            world.host.delete_files(&victim);
        }
        // A credential leaves the configuration and comes back, its order in flight.
        world.configure(estate_of(CREDENTIALS - below("left", 2)));
        let span = HOUR * u32::try_from(1 + below("span", 24 * 20)).unwrap();
        let (clock, store, steps) = (world.clock.clone(), world.store.clone(), world.steps.clone());
        let ended = world.live_with(span, |engine| async move {
            match below("fault", 5) {
                0 => steps.crash_after(1 + below("crash", 60)),
                1 => store.fail_next(1 + below("fails", 5)),
                2 => store.lose_answers(1 + below("lost", 3)),
                _ => {}
            }
            clock.sleep(Duration::from_secs(1 + below("when", 86_400))).await;
            let by = Arc::from(format!("uid:{}", 1_000 + below("who", 3)));
            engine.command(Command::Renew { credential: victim, by }).ok();
        });
        *met.entry(match ended {
            keyward::sim::world::Life::Over => "over",
            keyward::sim::world::Life::Died => "died",
            keyward::sim::world::Life::Refused(_) => "refused",
        })
        .or_default() += 1;
    }
    (world, met)
}

async fn is_reproduced(store: &Arc<dyn Store>, seed: u64) -> State {
    let stored = store.load().await.unwrap();
    assert_eq!(replayed(store).await, without_clock(stored.clone()), "seed {seed}");
    stored
}

#[test]
fn the_log_of_any_history_gives_the_states_tables() {
    let mut met = Met::new();
    for seed in 0..10 {
        let (world, ends) = history(seed, 12);
        let memory: Arc<dyn Store> = Arc::new(world.store.recovered());
        let stored = block_on(is_reproduced(&memory, seed));
        for (what, count) in ends {
            *met.entry(what).or_default() += count;
        }
        let count = |met: &mut Met, what, there: bool| *met.entry(what).or_default() += u64::from(there);
        for batch in world.store.written() {
            for change in &batch.changes {
                let Change::Credential(_, record) = change else { continue };
                count(&mut met, "previous", record.previous.is_some());
                count(&mut met, "failure", record.last_failure.is_some());
                count(&mut met, "window", record.ari.as_ref().is_some_and(|a| a.window.is_some()));
                count(&mut met, "rolled back", record.rolled_back.is_some());
                count(&mut met, "requested", record.requested.is_some());
            }
        }
        count(&mut met, "attempts", !stored.attempts.is_empty());
        count(&mut met, "buckets", !stored.ledger.full_at.is_empty());
        count(&mut met, "automatic", !stored.ledger.automatic.is_empty());
        count(&mut met, "open breaker", stored.issuers.values().any(|i| i.open_until.is_some()));
    }
    for what in [
        "over",
        "died",
        "previous",
        "failure",
        "window",
        "rolled back",
        "requested",
        "attempts",
        "buckets",
        "automatic",
        "open breaker",
    ] {
        assert!(met.get(what).is_some_and(|n| *n > 0), "no history met {what:?}: {met:?}");
    }
}

#[test]
fn the_log_on_a_disk_gives_the_states_tables_also_after_restarts() {
    for seed in 100..102 {
        let (world, _) = history(seed, 8);
        let batches = world.store.written();
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::default();
        for part in batches.chunks(batches.len().div_ceil(3)) {
            block_on(async {
                let store: Arc<dyn Store> = Arc::new(open(dir.path()).unwrap());
                for batch in part {
                    store.commit(batch.clone()).await.unwrap();
                    batch.changes.iter().for_each(|change| state.apply(change));
                }
                let (log, disk) = (replayed(&store).await, store.load().await.unwrap());
                assert_eq!(log, without_clock(state.clone()), "seed {seed}");
                // A start forgets what the ledger has to say no more, and no entry tells of that.
                let of = |s: &State| (s.credentials.clone(), s.attempts.clone(), s.issuers.clone());
                assert_eq!(of(&log), of(&disk), "seed {seed}");
                assert!(disk.ledger.full_at.iter().all(|(key, at)| log.ledger.full_at.get(key) == Some(at)));
            });
        }
    }
}

#[test]
fn entries_of_a_busy_history_are_small() {
    let (world, _) = history(7, 12);
    let store: Arc<dyn Store> = Arc::new(world.store.recovered());
    let mut sizes: Vec<usize> =
        block_on(store.entries(None, usize::MAX)).unwrap().iter().map(|e| e.bytes.len()).collect();
    sizes.sort_unstable();
    let at = |percent: usize| sizes[(sizes.len() - 1) * percent / 100];
    println!("{} entries: half have at most {} bytes, nine of ten {}, all {}", sizes.len(), at(50), at(90), at(100));
    assert!(at(50) <= 950 && at(90) <= 1_300, "{} {} {}", at(50), at(90), at(100));
}

#[test]
fn what_is_forgotten_is_gone_from_the_state_too_and_the_log_still_gives_it() {
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    add(&mut estate, credential("portal", managed(&["portal.example.com"], &["le"])));
    let mut world = World::new(3, start(), estate);
    world.store = Arc::new(MemoryStore::new());
    world.ca.behave(&iid("le"), |b| b.failing_permille = 1_000);
    let ask = |engine: &keyward::engine::Engine| {
        engine.command(Command::Renew { credential: cid("portal"), by: Arc::from("uid:1001") }).unwrap();
    };
    world.live_with(HOUR, |engine| async move { ask(&engine) });
    let store: Arc<dyn Store> = Arc::new(world.store.recovered());
    let whole = block_on(store.entries(None, usize::MAX)).unwrap();
    let all: Vec<serde_json::Value> = whole.iter().map(|e| serde_json::from_slice(&e.bytes).unwrap()).collect();
    for said in ["uid:1001", "the response was not seen"] {
        assert!(!all.iter().any(|e| e.to_string().contains(said)), "{said}");
        assert!(block_on(readable(&*store)).iter().any(|e| e.to_string().contains(said)), "{said}");
    }
    // Newest first: the failure that the state still tells of, and the request.
    let failed = all.iter().find(|e| !e["data"]["private"]["text"].is_null()).unwrap();
    let asked = all.iter().find(|e| e["data"]["code"] == "KW2011").unwrap();
    let texts = [(failed, "text"), (asked, "actor")].map(|(entry, key)| {
        let id = EntryId(Ulid::parse(entry["id"].as_str().unwrap()).unwrap());
        (id, vec![(key.to_owned(), texts::commitments(entry)[key])])
    });
    let people = block_on(store.people()).unwrap();
    assert_eq!(people.len(), 1);
    world.ca.behave(&iid("le"), |b| b.outages = vec![(start(), start().plus(DAY * 365))]);
    let (answer, answered) = std::sync::mpsc::sync_channel(2);
    let clock = world.clock.clone();
    world.live_with(Duration::from_secs(1), |engine| async move {
        for (entry, texts) in texts {
            let by = Arc::from("uid:0");
            engine.command(Command::Forget(Forget { entry, texts, by }, answer.clone())).unwrap();
        }
        clock.sleep(Duration::from_millis(500)).await;
    });
    assert_eq!((answered.try_recv(), answered.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
    let store: Arc<dyn Store> = Arc::new(world.store.recovered());
    let state = block_on(is_reproduced(&store, 3));
    let told = state.credentials[&cid("portal")].last_failure.clone().unwrap();
    assert_eq!(&*told.text, FORGOTTEN);
    let names: Vec<String> = block_on(store.people()).unwrap().iter().map(|p| p.text.to_string()).collect();
    assert_eq!(names, ["uid:0"]);
    let after = block_on(readable(&*store));
    let last = after.iter().rfind(|e| e["data"]["code"] == "KW6301").unwrap();
    assert_eq!(
        (&last["data"]["facts"]["keys"][0], &last["data"]["actor"]["subject"]),
        (&"actor".into(), &"uid:0".into())
    );
    assert!(!after.iter().any(|e| e.to_string().contains("uid:1001")));
    // What was written before is as it was.
    let still = block_on(store.entries(None, usize::MAX)).unwrap();
    assert!(whole.iter().all(|entry| still.contains(entry)));
}
