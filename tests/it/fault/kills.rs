//! A thousand kills and a hundred power cuts under load: no acknowledged entry is lost, none is invented, and every
//! intent has its outcome in the end.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use keyward::domain::audit::{Outcome, Phase};
use keyward::domain::id::{EntryId, Ulid};
use keyward::ports::{Log as _, Store as _, StoreError};

use crate::harness::fault::Ext4;
use crate::harness::store::{Second, block_on, open, say, second_process_dir};
use crate::store::samples::{draft, entries, one, said, sound_log};

/// So many kills meet the same log: what a store gives back at once ends at 10,000 entries.
const IN_ONE: u32 = 50;
/// So many commits are under way at once.
const AT_ONCE: u64 = 8;

/// The second process: gives every open intent its outcome, then commits for ever and says what was acknowledged. Every
/// fourth commit announces something whose outcome comes with the next group.
fn writes(dir: &Path) {
    block_on(async {
        let store = match open(dir) {
            Ok(store) => store,
            // The power is gone.
            Err(StoreError::Unavailable(_)) => std::process::exit(0),
            Err(refusal) => {
                say(&format!("refused {refusal}"));
                std::process::exit(0);
            }
        };
        let mut n = store.entries(None, 1).await.unwrap().first().map_or(0, |e| e.sequence) + 1;
        for intent in store.open_intents(1_000).await.unwrap() {
            let body: serde_json::Value = serde_json::from_slice(&intent.bytes).unwrap();
            let id = EntryId(Ulid::parse(body["id"].as_str().unwrap()).unwrap());
            store.commit(entries(vec![outcome(3_000_000 + n, id, Outcome::Unknown)])).await.unwrap();
            n += 1;
        }
        say("open");
        loop {
            let group: Vec<u64> = (n..n + AT_ONCE).collect();
            let results = join_all(group.iter().map(|n| {
                let mut batch = one(*n);
                if n % 4 == 0 {
                    batch.entries[0].phase = Phase::Intent;
                }
                store.commit(batch)
            }))
            .await;
            let kept: Vec<String> =
                group.iter().zip(&results).filter(|(_, r)| r.is_ok()).map(|(n, _)| n.to_string()).collect();
            say(&format!("kept {}", kept.join(" ")));
            if results.iter().any(Result::is_err) {
                // The disk is gone: whoever wrote there has nothing more to say.
                std::process::exit(0);
            }
            for announced in group.iter().filter(|n| *n % 4 == 0) {
                let id = one(*announced).entries[0].id;
                drop(store.commit(entries(vec![outcome(2_000_000 + announced, id, Outcome::Success)])).await);
            }
            n += AT_ONCE * 2;
        }
    });
}

fn outcome(n: u64, intent: EntryId, outcome: Outcome) -> keyward::domain::audit::Draft {
    let mut draft = draft(n, "outcome");
    draft.phase = Phase::Outcome;
    draft.outcome = Some(outcome);
    draft.intent = Some(intent);
    draft
}

/// Collects what a second process acknowledged; ends with it.
fn listen(second: &mut Second, kept: &mut BTreeSet<u64>) {
    while let Some(line) = second.next() {
        if let Some(numbers) = line.strip_prefix("kept") {
            kept.extend(numbers.split_whitespace().map(|n| n.parse::<u64>().unwrap()));
        }
    }
}

/// The whole log against what was acknowledged: everything is there, as a whole, with its state; nothing else is.
fn holds(dir: &Path, kept: &BTreeSet<u64>) {
    block_on(async {
        let store = open(dir).unwrap();
        let log = sound_log(&store).await;
        let mut in_log = BTreeSet::new();
        for entry in &log {
            let target = said(entry).target;
            match target.strip_prefix("credential/c").and_then(|n| n.parse::<u64>().ok()) {
                Some(n) => drop(in_log.insert(n)),
                // The store says by itself that a tail was not acknowledged.
                None => assert!(
                    ["credential/outcome", "credential/shared"].contains(&&*target) || target.starts_with("daemon/"),
                    "invented: {target}"
                ),
            }
        }
        let lost: Vec<&u64> = kept.difference(&in_log).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let state = store.load().await.unwrap();
        let in_state: BTreeSet<u64> = state.credentials.keys().map(|id| id.as_str()[1..].parse().unwrap()).collect();
        assert_eq!(in_log, in_state, "the state and its log say different things");
    });
}

/// Lets the second process settle what the last one left, and looks once more.
fn all_resolved(test: &str, dir: &Path, kept: &BTreeSet<u64>) {
    let mut second = Second::start(test, dir, &[]);
    assert_eq!(second.next().as_deref(), Some("open"));
    second.kill();
    let mut last = kept.clone();
    listen(&mut second, &mut last);
    holds(dir, &last);
    block_on(async {
        let store = open(dir).unwrap();
        let open = store.open_intents(1_000).await.unwrap();
        assert!(open.len() as u64 <= AT_ONCE, "{} intents are open", open.len());
        for intent in open {
            let body: serde_json::Value = serde_json::from_slice(&intent.bytes).unwrap();
            let id = EntryId(Ulid::parse(body["id"].as_str().unwrap()).unwrap());
            store.commit(entries(vec![outcome(4_000_000 + intent.sequence, id, Outcome::Unknown)])).await.unwrap();
        }
        assert!(store.open_intents(1).await.unwrap().is_empty());
    });
}

/// A number that looks random, from a seed; its sequence is the same at each run.
fn chance(state: &mut u64, most: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % most
}

fn is_killed(test: &str, seed: u64, kills: u32) {
    if let Some(dir) = second_process_dir() {
        return writes(&dir);
    }
    let (mut state, mut worked, mut acknowledged) = (seed, 0, 0);
    let began = Instant::now();
    for _ in 0..kills / IN_ONE {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = BTreeSet::new();
        for _ in 0..IN_ONE {
            worked += u32::from(one_kill(test, dir.path(), &mut state, &mut kept));
        }
        holds(dir.path(), &kept);
        all_resolved(test, dir.path(), &kept);
        acknowledged += kept.len();
    }
    println!("{kills} kills in {:?}, {acknowledged} commits acknowledged", began.elapsed());
    assert!(worked > kills / 3, "only {worked} of {kills} died under load");
}

/// Says whether it died under load.
fn one_kill(test: &str, dir: &Path, state: &mut u64, kept: &mut BTreeSet<u64>) -> bool {
    let mut second = Second::start(test, dir, &[]);
    // Some die before they are open. Whatever these say, the next one opens.
    if chance(state, 8) > 0 {
        assert_eq!(second.next().as_deref(), Some("open"));
    }
    std::thread::sleep(Duration::from_micros(chance(state, 60_000)));
    second.kill();
    let before = kept.len();
    listen(&mut second, kept);
    kept.len() > before
}

#[test]
fn two_hundred_and_fifty_kills_lose_nothing() {
    is_killed("fault::kills::two_hundred_and_fifty_kills_lose_nothing", 1, 250);
}

#[test]
fn nor_do_the_next_two_hundred_and_fifty() {
    is_killed("fault::kills::nor_do_the_next_two_hundred_and_fifty", 2, 250);
}

#[test]
fn nor_do_two_hundred_and_fifty_more() {
    is_killed("fault::kills::nor_do_two_hundred_and_fifty_more", 3, 250);
}

#[test]
fn nor_do_those_that_make_a_thousand() {
    is_killed("fault::kills::nor_do_those_that_make_a_thousand", 4, 250);
}

#[test]
fn a_hundred_power_cuts_lose_nothing() {
    let test = "fault::kills::a_hundred_power_cuts_lose_nothing";
    if let Some(dir) = second_process_dir() {
        return writes(&dir);
    }
    let mut disk = Ext4::new(96);
    let dir = disk.path().join("state");
    let (mut kept, mut state, mut worked) = (BTreeSet::new(), 5, 0);
    let began = Instant::now();
    for cut in 1..=100 {
        let mut second = Second::start(test, &dir, &[]);
        if chance(&mut state, 8) > 0 {
            assert_eq!(second.next().as_deref(), Some("open"));
        }
        std::thread::sleep(Duration::from_micros(chance(&mut state, 60_000)));
        disk.cut(chance(&mut state, 4) == 0);
        second.kill();
        let before = kept.len();
        listen(&mut second, &mut kept);
        worked += u32::from(kept.len() > before);
        disk.unmount();
        disk.mount();
        if cut % 10 == 0 {
            holds(&dir, &kept);
        }
    }
    println!("100 cuts in {:?}, {} commits acknowledged", began.elapsed(), kept.len());
    assert!(worked > 33, "only {worked} of 100 were cut off under load");
    all_resolved(test, &dir, &kept);
}
