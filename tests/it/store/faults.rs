//! The faults that the simulation's store can be told to have.

use keyward::domain::key::Digest;
use keyward::domain::state::State;
use keyward::ports::{Log, Store};
use keyward::sim::store::MemoryStore;

use super::samples::{applied, draft, entries, evidence, one, said, sound_log};
use crate::harness::store::{block_on, refusal};

/// Without a runtime: every future is ready at its first poll.
fn ready<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("the future was not ready")
}

#[test]
fn the_next_commits_fail_and_write_nothing() {
    let store = MemoryStore::new();
    store.fail_next(2);
    refusal(ready(store.commit(one(1))));
    refusal(ready(store.commit(one(2))));
    assert_eq!(ready(store.load()), Ok(State::default()));
    ready(store.commit(one(3))).unwrap();
    assert_eq!((store.entries_written(), block_on(sound_log(&store)).len()), (2, 2));
}

#[test]
fn a_disk_that_dies_stays_dead_until_it_is_healed() {
    let store = MemoryStore::new();
    store.fail_after(2);
    let verdicts: Vec<bool> = (0..6).map(|n| ready(store.commit(one(n))).is_ok()).collect();
    assert_eq!(verdicts, [true, true, false, false, false, false]);
    store.heal();
    ready(store.commit(one(9))).unwrap();
    assert_eq!(ready(store.load()).unwrap().credentials.len(), 3);
}

#[test]
fn a_lost_answer_is_a_commit_that_is_there_after_the_restart() {
    let store = MemoryStore::new();
    store.lose_answers(1);
    refusal(ready(store.commit(one(1))));
    ready(store.commit(one(2))).unwrap();
    let expected = applied(one(1).changes.iter().chain(&one(2).changes));
    assert_eq!(ready(store.recovered().load()), Ok(expected));
}

#[test]
fn a_refused_batch_does_not_use_up_a_lost_answer() {
    let store = MemoryStore::new();
    ready(store.commit(one(1))).unwrap();
    store.lose_answers(1);
    assert!(refusal(ready(store.commit(one(1)))).contains("is there already"));
    assert!(refusal(ready(store.commit(one(2)))).contains("unknown"));
}

#[test]
fn a_crash_keeps_what_was_committed_and_only_that() {
    let store = MemoryStore::new();
    ready(store.commit(one(1))).unwrap();
    drop(store.commit(one(2)));
    store.crash();
    refusal(ready(store.commit(one(3))));
    refusal(ready(store.load()));
    refusal(ready(store.entries(None, 1)));
    refusal(ready(store.evidence(Digest::of(b""))));
    let restarted = store.recovered();
    assert_eq!(ready(restarted.load()), Ok(applied(&one(1).changes)));
    ready(restarted.commit(one(4))).unwrap();
    // A process that came back from the dead does no harm.
    store.crash();
    refusal(ready(store.commit(one(5))));
    ready(restarted.commit(one(6))).unwrap();
    assert_eq!(block_on(sound_log(&restarted)).len(), 6);
}

#[test]
fn a_bounded_store_hashes_all_and_keeps_the_newest() {
    let (bounded, whole, nothing) = (MemoryStore::keeping(10), MemoryStore::new(), MemoryStore::keeping(0));
    for n in 0..100 {
        let mut batch = entries(vec![draft(n, ["a", "b", "c"][n as usize % 3])]);
        batch.entries[0].evidence = vec![evidence(b"always"), evidence(&(n / 2).to_be_bytes())];
        for store in [&bounded, &whole, &nothing] {
            ready(store.commit(batch.clone())).unwrap();
        }
    }
    let newest = ready(whole.entries(None, 10)).unwrap();
    assert_eq!(ready(bounded.entries(None, usize::MAX)), Ok(newest.clone()));
    assert!(newest.iter().all(|e| said(e).previous.is_some()));
    assert_eq!(ready(nothing.entries(None, 10)), Ok(vec![]));
    for store in [&bounded, &nothing] {
        assert_eq!((store.entries_written(), store.log_digest()), (100, whole.log_digest()));
    }
    let kept = |bytes: &[u8]| ready(bounded.evidence(Digest::of(bytes))).unwrap().is_some();
    assert!(kept(b"always") && kept(&49_u64.to_be_bytes()) && kept(&45_u64.to_be_bytes()));
    assert!(!kept(&44_u64.to_be_bytes()) && !kept(&0_u64.to_be_bytes()));
    // Ids are remembered as long as their entries.
    refusal(ready(bounded.commit(entries(vec![draft(90, "a")]))));
    ready(bounded.commit(entries(vec![draft(89, "a")]))).unwrap();
}

#[test]
fn equal_runs_have_equal_logs_and_a_difference_shows() {
    let run = |last| {
        let store = MemoryStore::keeping(1);
        (0..5).chain([last]).for_each(|n| ready(store.commit(one(n))).unwrap());
        store.log_digest()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
