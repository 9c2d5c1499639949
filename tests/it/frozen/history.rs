//! The guardian in simulation: nothing frozen is done, and afterwards all is, over random histories with crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyward::codec::replay::Replay;
use keyward::domain::freeze::{Emergency, Scope};
use keyward::domain::gate::{FROZEN, Verdict};
use keyward::domain::id::FreezeId;
use keyward::domain::inventory::Estate;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use keyward::engine::{Command, Engine, MOST_FREEZES, NotFrozen, WantedFreeze};
use keyward::ports::{Clock, Log, Store};
use keyward::sim::clock::run;
use keyward::sim::store::MemoryStore;
use keyward::sim::world::{Life, World, draw};
use serde_json::Value;

use super::{code, scope, three, time};
use crate::fault::simulated::entries;
use crate::harness::estate::{add, cid, credential, estate, iid, managed, path, pid, start};

const SECOND: Duration = Duration::from_secs(1);

fn world(seed: u64, estate: Estate) -> World {
    let mut world = World::new(seed, start(), estate);
    world.store = Arc::new(MemoryStore::new());
    world
}

/// Has somebody freeze for a while.
async fn freeze(engine: &Engine, now: Timestamp, over: &str, span: Duration) -> Result<FreezeId, NotFrozen> {
    let wanted = WantedFreeze { scope: scope(over), reason: "a drill".into(), until: now.plus(span) };
    engine.freeze(&wanted, "uid:0").await
}

async fn thaw(engine: &Engine, id: FreezeId) {
    let Ok(reason) = engine.may_thaw(id, "enough") else { return };
    engine.ask(Command::Thaw { id, reason, by: Arc::from("uid:0") }).await.unwrap();
}

fn codes(verdict: &Verdict) -> Vec<&'static str> {
    verdict.reasons.iter().map(|r| r.code).collect()
}

/// Twelve certificates of six days, by twos of six labels; and a path over the first half, where days are few: with a path
/// everything is evaluated each five seconds.
fn dozen(emergency: Emergency, days: u32) -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT), ("zero", &LETS_ENCRYPT)]);
    for i in 0..12 {
        let id = format!("c{i}");
        let issuers: &[&str] = if i % 3 == 0 { &["le", "zero"] } else { &["zero"] };
        let mut own = credential(&id, managed(&[&format!("d6.host-{i}.com")], issuers));
        own.owner = Some(if i % 2 == 0 { "even" } else { "odd" }.into());
        own.labels.insert("k".into(), (i % 6).to_string());
        add(&mut estate, own);
    }
    if days <= FEW_DAYS {
        path(&mut estate, "half", &["c0", "c1", "c2", "c3", "c4", "c5"], HOUR * 3);
    }
    estate.freezing.emergency = emergency;
    estate
}

/// So many may be lived through with a path.
const FEW_DAYS: u32 = 4;

const SCOPES: [&str; 8] =
    ["all", "path:half", "owner:odd", "owner:even", "issuer:zero", "issuer:le", "label:k=1", "label:k=4"];

/// Whether a scope is over a credential that is ordered at, or was issued by, `issuer`.
fn over(estate: &Estate, scope: &Scope, id: &str, issuer: &str) -> bool {
    let credential = &estate.credentials[&cid(id)];
    match scope {
        Scope::All => true,
        Scope::Path(path) => estate.paths[path].needs.contains(&cid(id)),
        Scope::Owner(owner) => credential.owner.as_deref() == Some(owner),
        Scope::Issuer(frozen) => frozen.as_str() == issuer,
        Scope::Label { key, value } => credential.labels.get(&**key).map(String::as_str) == Some(value),
    }
}

/// Every freeze of a log: its scope, from when to when.
fn freezes(log: &[Value]) -> Vec<(Scope, Timestamp, Timestamp)> {
    let facts = |e: &Value| e["data"]["facts"].clone();
    let begun = log.iter().filter(|e| code(e) == "KW4071");
    begun
        .map(|begin| {
            let own = facts(begin);
            let ended = log.iter().find(|e| matches!(code(e), "KW4072") && facts(e)["freeze"] == own["freeze"]);
            let until = Timestamp::parse(own["until"].as_str().unwrap()).unwrap();
            (scope(own["scope"].as_str().unwrap()), time(begin), ended.map_or(until, |e| time(e).min(until)))
        })
        .collect()
}

/// A history: freezes, thaws, failures of the CA, and crashes, all by the seed.
fn live_through(seed: u64, emergency: Emergency, days: u32) -> World {
    let mut world = world(seed, dozen(emergency, days));
    for issuer in ["le", "zero"] {
        world.ca.behave(&iid(issuer), |b| {
            b.limits = LETS_ENCRYPT.to_vec();
            b.failing_permille = 60;
            b.lifetime_by_prefix.insert("d6.".to_owned(), HOUR * 160);
        });
    }
    for slice in 0..u64::from(days / 2) {
        let dice = move |what: &[u8], bound| draw(seed, &[what, &slice.to_be_bytes()], bound);
        let clock = world.clock.clone();
        let act = |engine: Arc<Engine>| async move {
            clock.sleep(HOUR * u32::try_from(1 + dice(b"when", 20)).unwrap()).await;
            let over = SCOPES[usize::try_from(dice(b"scope", SCOPES.len() as u64)).unwrap()];
            let over = if days > FEW_DAYS { over.replace("path:half", "label:k=2") } else { over.to_owned() };
            let made = freeze(&engine, clock.now(), &over, HOUR * u32::try_from(1 + dice(b"span", 120)).unwrap()).await;
            if dice(b"thaw", 3) == 0 {
                clock.sleep(HOUR * u32::try_from(1 + dice(b"until", 20)).unwrap()).await;
                thaw(&engine, made.unwrap()).await;
            }
        };
        if dice(b"crash", 3) == 0 {
            world.steps.crash_after(1 + dice(b"step", 400));
            world.live_dangerously(HOUR);
        }
        world.live_with(DAY * 2, act);
    }
    world
}

#[test]
fn over_random_histories_nothing_frozen_is_done_and_afterwards_everything_is() {
    let mut emergencies = 0;
    for seed in 0..5 {
        let emergency = if seed % 2 == 0 { Emergency::Allow } else { Emergency::Block };
        let days = if seed < 4 { 40 } else { FEW_DAYS };
        let mut world = live_through(seed, emergency, days);
        let (estate, log) = (dozen(emergency, days), entries(&world));
        let freezes = freezes(&log);
        assert!(freezes.len() >= usize::try_from(days / 4).unwrap(), "{} freezes", freezes.len());
        let mut ends: BTreeMap<String, Timestamp> = BTreeMap::new();
        let (mut ordered, mut blocked) = (0, 0);
        // What was begun before the freeze is written some moments after it.
        let slack = MINUTE * 2;
        for entry in &log {
            let id = entry["data"]["target"]["id"].as_str().unwrap_or_default().to_owned();
            let facts = &entry["data"]["facts"];
            if code(entry) == "KW2003" {
                // What is issued is what is installed at the next KW2006.
                ends.insert(format!("next {id}"), Timestamp::parse(facts["not_after"].as_str().unwrap()).unwrap());
                ends.insert(format!("issuer {id} {}", facts["issuer"].as_str().unwrap()), time(entry));
            }
            let issuer = match code(entry) {
                "KW2002" => facts["issuer"].as_str().unwrap().to_owned(),
                "KW2006" => {
                    let newest =
                        ["le", "zero"].into_iter().max_by_key(|i| ends.get(&format!("issuer {id} {i}")).copied());
                    newest.unwrap().to_owned()
                }
                _ => continue,
            };
            ordered += 1;
            let at = time(entry);
            let emergency = ends.get(&id).is_some_and(|end| {
                // 5 % of 160 h, and the margin of the path.
                let on_path = estate.paths.values().any(|path| path.needs.contains(&cid(&id)));
                let margin = if on_path { HOUR * 3 } else { Duration::ZERO };
                at.plus(HOUR * 8).plus(margin) >= *end
            });
            if code(entry) == "KW2006" {
                ends.insert(id.clone(), ends[&format!("next {id}")]);
            }
            for (scope, from, until) in &freezes {
                if from.plus(slack) < at && at < *until && over(&estate, scope, &id, &issuer) {
                    blocked += 1;
                    let allowed = emergency && estate.freezing.emergency == Emergency::Allow;
                    assert!(allowed, "seed {seed}: {} of {id} {at}, frozen ({scope}) {from} to {until}", code(entry));
                }
            }
        }
        assert!(ordered > usize::try_from(days).unwrap() * 3, "seed {seed}: {ordered} acts");
        emergencies += blocked;
        // Nothing is frozen any more: what waited is done, and no limit was exceeded by all of it together.
        let clock = world.clock.clone();
        world.configure(dozen(emergency, 40));
        world.live_with(DAY * 7, |engine| async move {
            clock.sleep(DAY * 6).await;
            assert_eq!(engine.freezes(), [], "seed {seed}");
            assert!(
                engine.credentials().iter().all(|c| c.held.as_ref().is_none_or(|h| h.reason.frozen_by().is_none()))
            );
        });
        let now = world.clock.now();
        for i in 0..12 {
            let chain = world.host.installed(&cid(&format!("c{i}"))).unwrap();
            assert!(chain.leaf.validity.not_after > now, "seed {seed}: c{i} lapsed for good");
        }
        for issuer in ["le", "zero"] {
            assert_eq!(world.ca.tally(&iid(issuer)).violations, 0, "seed {seed}");
        }
        if emergency == Emergency::Allow {
            assert_eq!(world.host.lapses(), 0, "seed {seed}: emergencies are allowed, so nothing lapses");
        }
        let log = entries(&world);
        let count = |wanted| log.iter().filter(|e| code(e) == wanted).count();
        assert_eq!(count("KW4071"), count("KW4072") + count("KW4073"), "seed {seed}: each has its end in the log");
        replays(&world, &log);
    }
    assert!(emergencies > 0, "no emergency was met");
}

/// The state is what the log tells.
fn replays(world: &World, log: &[Value]) {
    let store = world.store.recovered();
    let mut replay = Replay::new();
    let stored = run(&world.clock, store.entries(None, usize::MAX)).unwrap().unwrap();
    stored.iter().rev().for_each(|e| replay.entry(&e.bytes).unwrap());
    assert_eq!(stored.len(), log.len());
    let texts = run(&world.clock, store.private(replay.commitments())).unwrap().unwrap();
    let told = replay.state(|commitment| texts.get(commitment).map(|p| p.text.clone())).unwrap();
    let state = run(&world.clock, Store::load(&store)).unwrap().unwrap();
    assert_eq!(told.freezes, state.freezes);
    assert_eq!(told.attempts, state.attempts);
}

#[test]
fn a_crowd_that_a_freeze_held_for_long_comes_back_within_every_limit() {
    let n = if cfg!(debug_assertions) { 120 } else { 600 };
    let mut estate = estate(&[("le", &LETS_ENCRYPT)]);
    for i in 0..n {
        add(&mut estate, credential(&format!("c{i}"), managed(&[&format!("d47.host-{i}.com")], &["le"])));
    }
    estate.freezing.emergency = Emergency::Block;
    estate.freezing.longest = DAY * 90;
    let mut world = World::new(5, start(), estate);
    world.ca.behave(&iid("le"), |b| {
        b.limits = LETS_ENCRYPT.to_vec();
        b.lifetime_by_prefix.insert("d47.".to_owned(), DAY * 47);
    });
    let (clock, ca) = (world.clock.clone(), world.ca.clone());
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(DAY * 10).await;
        let before = ca.tally(&iid("le")).orders;
        assert!(before >= n);
        freeze(&engine, clock.now(), "all", DAY * 60).await.unwrap();
        clock.sleep(DAY * 59).await;
        assert_eq!(ca.tally(&iid("le")).orders, before, "nothing is ordered");
        let all = engine.freezes();
        assert_eq!(
            (all.len(), all[0].holds.len(), all[0].covers),
            (1, usize::try_from(n).unwrap(), usize::try_from(n).unwrap())
        );
        clock.sleep(DAY * 3).await;
        assert!(ca.tally(&iid("le")).orders >= before + n, "{:?}", ca.tally(&iid("le")));
        assert_eq!(engine.freezes(), []);
    };
    assert_eq!(world.live_with(DAY * 75, act), Life::Over);
    assert_eq!(world.ca.tally(&iid("le")).violations, 0);
    for i in 0..n {
        assert!(world.host.installed(&cid(&format!("c{i}"))).unwrap().leaf.validity.not_after > world.clock.now());
    }
}

#[test]
fn a_path_that_closes_when_frozen_does_so_at_once_over_restarts_and_opens_at_the_end() {
    let mut world = world(1, three());
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE * 10).await;
        assert!(engine.gate(&pid("approve")).is_open());
        // Over the issuer of what it stands on: nothing of the path changes.
        freeze(&engine, clock.now(), "issuer:zero", MINUTE).await.unwrap();
        assert!(engine.gate(&pid("approve")).is_open());
        clock.sleep(MINUTE * 2).await;
        freeze(&engine, clock.now(), "owner:team peer", HOUR * 4).await.unwrap();
        assert_eq!(codes(&engine.gate(&pid("approve"))), [FROZEN], "it is closed when the answer comes");
        assert!(engine.gate(&pid("sign-in")).is_open(), "this one stays open when it is frozen");
        let told = engine.snapshot(&pid("approve"), None).unwrap();
        assert_eq!(told.freezes.len(), 1);
        let ahead = engine.snapshot(&pid("approve"), Some(clock.now().plus(HOUR * 5))).unwrap();
        assert_eq!(ahead.freezes, [], "then it will be over");
    };
    assert_eq!(world.live_with(HOUR, act), Life::Over);
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE).await;
        assert_eq!(codes(&engine.gate(&pid("approve"))), [FROZEN], "also after a restart");
        clock.sleep(HOUR * 4).await;
        assert!(engine.gate(&pid("approve")).is_open(), "{:?}", engine.gate(&pid("approve")));
    };
    assert_eq!(world.live_with(HOUR * 6, act), Life::Over);
    let log = entries(&world);
    let of = |wanted: &str| log.iter().filter(|e| code(e) == wanted).count();
    assert_eq!((of("KW4071"), of("KW4073")), (2, 2));
}

#[test]
fn a_freeze_that_ends_while_nobody_runs_is_over_at_the_start_and_its_end_is_recorded_then() {
    let mut world = world(1, three());
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE * 10).await;
        freeze(&engine, clock.now(), "all", HOUR).await.unwrap();
    };
    assert_eq!(world.live_with(MINUTE * 20, act), Life::Over);
    let clock = world.clock.clone();
    run(&clock, clock.sleep(HOUR * 2));
    let act = |engine: Arc<Engine>| async move {
        assert_eq!(engine.freezes(), []);
        clock.sleep(MINUTE).await;
        assert!(engine.gate(&pid("approve")).is_open());
    };
    assert_eq!(world.live_with(MINUTE * 10, act), Life::Over);
    let state = run(&world.clock, Store::load(&world.store.recovered())).unwrap().unwrap();
    assert!(state.freezes.is_empty());
    assert_eq!(entries(&world).iter().filter(|e| code(e) == "KW4073").count(), 1);
}

#[test]
fn two_freezes_on_one_path_must_both_be_over_and_a_thaw_counts_once() {
    let mut world = world(1, three());
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE * 10).await;
        let first = freeze(&engine, clock.now(), "path:approve", HOUR * 2).await.unwrap();
        let second = freeze(&engine, clock.now(), "path:approve", HOUR).await.unwrap();
        assert_eq!(codes(&engine.gate(&pid("approve"))), [FROZEN, FROZEN]);
        engine.command(Command::Renew { credential: cid("portal"), by: Arc::from("uid:1") }).unwrap();
        clock.sleep(MINUTE).await;
        let all = engine.freezes();
        assert_eq!(all.iter().map(|f| f.id).collect::<Vec<_>>(), [first, second], "the one that ends last first");
        assert!(all.iter().all(|f| f.holds == [cid("portal")]), "both hold it: {all:?}");
        // Both at once, twice.
        let thaws = [first, first, first].map(|id| {
            let reason = engine.may_thaw(id, "enough").unwrap();
            engine.ask(Command::Thaw { id, reason, by: Arc::from("uid:2") })
        });
        assert!(futures_util::future::join_all(thaws).await.iter().all(Result::is_ok));
        assert_eq!(engine.may_thaw(first, "again"), Err(NotFrozen::Gone(first)));
        assert_eq!(codes(&engine.gate(&pid("approve"))), [FROZEN]);
        let before = engine.credential(&cid("portal")).unwrap().current().unwrap().slot;
        clock.sleep(MINUTE * 30).await;
        assert_eq!(
            engine.credential(&cid("portal")).unwrap().current().unwrap().slot,
            before,
            "the other holds it still"
        );
        clock.sleep(MINUTE * 40).await;
        assert!(engine.gate(&pid("approve")).is_open());
        assert_ne!(
            engine.credential(&cid("portal")).unwrap().current().unwrap().slot,
            before,
            "what was asked for is done"
        );
    };
    assert_eq!(world.live_with(HOUR * 4, act), Life::Over);
    let log = entries(&world);
    let of = |wanted: &str| log.iter().filter(|e| code(e) == wanted).count();
    assert_eq!((of("KW4071"), of("KW4072"), of("KW4073")), (2, 1, 1));
}

#[test]
fn what_may_not_be_frozen_is_refused_with_its_code_and_leaves_no_trace() {
    let mut world = world(1, three());
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE * 10).await;
        let now = clock.now();
        let wanted =
            |over: &str, reason: &str, until| WantedFreeze { scope: scope(over), reason: reason.into(), until };
        for (wanted, code) in [
            (wanted("all", "x", now), "KW4076"),
            (wanted("all", "x", now.minus(SECOND)), "KW4076"),
            (wanted("all", "x", now.plus(DAY * 14).plus(SECOND)), "KW4076"),
            (wanted("all", "x", Timestamp::MAX), "KW4076"),
            (wanted("path:nobody", "x", now.plus(HOUR)), "KW4075"),
            (wanted("label:app=nothing", "x", now.plus(HOUR)), "KW4075"),
            (wanted("all", " ", now.plus(HOUR)), "KW4077"),
            (wanted("all", "two\nlines", now.plus(HOUR)), "KW4077"),
            (wanted("all", &"x".repeat(501), now.plus(HOUR)), "KW4077"),
        ] {
            let error = engine.freeze(&wanted, "uid:0").await.unwrap_err();
            assert_eq!((error.code(), engine.preview_freeze(&wanted, "uid:0").unwrap_err()), (code, error));
        }
        assert_eq!(engine.freezes(), []);
        for n in 0..MOST_FREEZES {
            freeze(&engine, now, "all", HOUR + SECOND * u32::try_from(n).unwrap()).await.unwrap();
        }
        assert_eq!(freeze(&engine, now, "all", HOUR).await.unwrap_err().code(), "KW4079");
    };
    assert_eq!(world.live_with(HOUR, act), Life::Over);
    let log = entries(&world);
    assert_eq!(log.iter().filter(|e| code(e).starts_with("KW407")).count(), MOST_FREEZES);
}

#[test]
fn a_new_account_key_that_a_freeze_came_before_is_denied_in_the_log_and_nothing_is_sent() {
    let mut world = world(1, three());
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE * 10).await;
        freeze(&engine, clock.now(), "issuer:le", HOUR).await.unwrap();
        // Past the door, which would have said so.
        engine.ask(Command::Rollover { issuer: iid("le"), by: Arc::from("uid:0") }).await.unwrap();
        engine.ask(Command::Rollover { issuer: iid("zero"), by: Arc::from("uid:0") }).await.unwrap();
    };
    assert_eq!(world.live_with(MINUTE * 20, act), Life::Over);
    let log = entries(&world);
    let of = |wanted: &str| {
        log.iter().filter(|e| code(e) == wanted).map(|e| e["data"]["target"]["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((of("KW4080"), of("KW2013")), (vec!["le".into()], vec!["zero".into(), "zero".into()]));
    assert!(log.iter().any(|e| code(e) == "KW4080" && e["data"]["outcome"] == "denied"));
}

#[test]
fn by_a_clock_that_is_not_believed_nothing_is_frozen_and_no_freeze_ends() {
    let mut world = world(1, three());
    let clock = world.clock.clone();
    let act = |engine: Arc<Engine>| async move {
        clock.sleep(MINUTE * 10).await;
        let id = freeze(&engine, clock.now(), "all", HOUR).await.unwrap();
        clock.step(3_600 * 24);
        let error = freeze(&engine, clock.now(), "all", HOUR).await.unwrap_err();
        assert_eq!(error.code(), "KW4081", "also before the loop has looked");
        clock.sleep(MINUTE).await;
        assert_eq!(freeze(&engine, clock.now(), "all", HOUR).await.unwrap_err().code(), "KW4081");
        clock.sleep(MINUTE * 5).await;
        clock.step(-3_600 * 24);
        clock.sleep(MINUTE).await;
        assert_eq!(engine.freezes().iter().map(|f| f.id).collect::<Vec<_>>(), [id], "it is what it was");
    };
    assert_eq!(world.live_with(MINUTE * 40, act), Life::Over);
    assert_eq!(entries(&world).iter().filter(|e| code(e) == "KW4073").count(), 0);
}
