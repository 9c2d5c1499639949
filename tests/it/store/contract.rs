//! What every store does.

use std::sync::Arc;

use futures_util::future::join_all;
use keyward::domain::audit::{Draft, LONGEST_EVIDENCE, Phase};
use keyward::domain::id::EntryId;
use keyward::domain::key::Digest;
use keyward::domain::state::{Change, State};
use keyward::domain::tree::Frontier;
use keyward::ports::{Batch, LARGEST_BATCH};

use super::samples::{
    applied, changes, credential, draft, entries, every_change, evidence, full_draft, full_record, one, replayed, said,
    sound_log, ulid, without_clock,
};
use super::tree::{head_of, heads, is_proved, proofs_hold};
use crate::harness::store::{Place, block_on, refusal};

on_every_store! {
    a_new_store_is_empty
    a_change_without_an_entry_is_refused
    every_kind_of_change_comes_back_with_all_its_fields
    each_change_alone_means_what_it_means_in_memory
    entries_are_numbered_hashed_and_linked_also_after_a_restart
    entries_of_one_batch_link_to_each_other
    entries_come_newest_first_and_no_more_than_asked_for
    a_target_is_not_mistaken_for_another
    a_batch_with_an_id_that_is_there_is_refused_as_a_whole
    a_batch_that_repeats_an_id_within_itself_is_refused
    a_refused_batch_does_not_harm_its_neighbours
    concurrent_commits_all_land
    evidence_is_found_by_its_hash_and_kept_once
    evidence_that_is_too_long_or_false_is_refused
    a_batch_beyond_the_limit_is_refused
    an_entry_too_long_is_refused
    an_empty_batch_is_accepted_and_changes_nothing
    a_checkpoint_covers_every_entry_and_only_those
    every_entry_and_every_older_log_has_a_proof
    a_commit_gives_the_proof_of_its_first_entry
    an_intent_is_open_until_its_outcome_is_there
    a_refused_batch_opens_and_closes_no_intent
}

async fn a_new_store_is_empty(place: Place) {
    let store = place.open();
    assert_eq!(store.load().await, Ok(State::default()));
    assert_eq!(store.entries(None, 10).await, Ok(vec![]));
    assert_eq!(store.evidence(Digest::of(b"x")).await, Ok(None));
}

async fn every_kind_of_change_comes_back_with_all_its_fields(place: Place) {
    let store = place.open();
    store.commit(changes(every_change())).await.unwrap();
    let expected = applied(&every_change());
    assert!(expected.credentials.len() > 5 && expected.attempts.len() > 3 && expected.clock.is_some());
    assert_eq!(store.load().await.unwrap(), expected);
    drop(store);
    let store = place.open();
    assert_eq!(store.load().await.unwrap(), expected);
    assert_eq!(replayed(&store).await, without_clock(expected));
}

async fn a_change_without_an_entry_is_refused(place: Place) {
    let store = place.open();
    for change in every_change() {
        let is_clock = matches!(change, Change::Clock(_));
        let batch = Batch { changes: vec![change], entries: Vec::new() };
        assert_eq!(store.commit(batch).await.is_ok(), is_clock);
    }
}

async fn each_change_alone_means_what_it_means_in_memory(place: Place) {
    let store = place.open();
    let mut expected = State::default();
    for change in every_change() {
        expected.apply(&change);
        store.commit(changes(vec![change.clone()])).await.unwrap();
        assert_eq!(store.load().await.unwrap(), expected, "after {change:?}");
        assert_eq!(replayed(&store).await, without_clock(expected.clone()), "after {change:?}");
    }
}

async fn entries_are_numbered_hashed_and_linked_also_after_a_restart(place: Place) {
    for round in 0..3 {
        let store = place.open();
        for n in 0..5 {
            store.commit(one(round * 5 + n)).await.unwrap();
        }
    }
    let log = sound_log(&*place.open()).await;
    assert_eq!(log.len(), 30);
    assert!(log.iter().filter(|e| said(e).target == "credential/shared").count() == 15);
}

async fn entries_of_one_batch_link_to_each_other(place: Place) {
    let store = place.open();
    let batch = vec![draft(1, "a"), draft(2, "b"), draft(3, "a"), full_draft(4, "a"), draft(5, "b")];
    store.commit(entries(batch)).await.unwrap();
    let log = sound_log(&*store).await;
    assert_eq!(said(&log[2]).previous, Some(log[0].leaf.to_string()));
    assert_eq!(said(&log[3]).previous, Some(log[2].leaf.to_string()));
    assert_eq!(said(&log[4]).previous, Some(log[1].leaf.to_string()));
}

async fn entries_come_newest_first_and_no_more_than_asked_for(place: Place) {
    let store = place.open();
    store.commit(entries((0..20).map(|n| draft(n, if n % 2 == 0 { "even" } else { "odd" })).collect())).await.unwrap();
    let numbers = |list: Vec<keyward::ports::StoredEntry>| list.iter().map(|e| e.sequence).collect::<Vec<_>>();
    assert_eq!(numbers(store.entries(None, 3).await.unwrap()), [19, 18, 17]);
    let odd = || Some("credential/odd".to_owned());
    assert_eq!(numbers(store.entries(odd(), 4).await.unwrap()), [19, 17, 15, 13]);
    assert_eq!(store.entries(odd(), usize::MAX).await.unwrap().len(), 10);
    assert_eq!(store.entries(odd(), 0).await, Ok(vec![]));
}

async fn a_target_is_not_mistaken_for_another(place: Place) {
    let store = place.open();
    store.commit(entries(vec![draft(1, "portal")])).await.unwrap();
    for other in ["portal", "credential/porta", "credential/portal2", "issuer/portal", "", "credential/"] {
        assert_eq!(store.entries(Some(other.to_owned()), 10).await, Ok(vec![]), "{other:?}");
    }
    assert_eq!(store.entries(Some("credential/portal".to_owned()), 10).await.unwrap().len(), 1);
}

async fn a_batch_with_an_id_that_is_there_is_refused_as_a_whole(place: Place) {
    let store = place.open();
    store.commit(one(1)).await.unwrap();
    let (state, log) = (store.load().await.unwrap(), sound_log(&*store).await);
    let again = Batch {
        changes: vec![
            Change::Credential(credential("new"), Arc::new(full_record(1))),
            Change::Forget(credential("c1")),
        ],
        entries: vec![full_draft(50, "a"), draft(1, "b"), draft(51, "a")],
    };
    let text = refusal(store.commit(again).await);
    assert!(text.contains("the batch was refused"), "{text}");
    assert_eq!(store.load().await.unwrap(), state);
    assert_eq!(sound_log(&*store).await, log);
    assert_eq!(store.evidence(evidence(b"GET /directory 200").sha256).await, Ok(None));
    // What was refused left no trace: its other ids are free, and numbers and links go on without a gap.
    store.commit(entries(vec![draft(50, "a"), draft(51, "b")])).await.unwrap();
    assert_eq!(sound_log(&*store).await.len(), log.len() + 2);
}

async fn a_batch_that_repeats_an_id_within_itself_is_refused(place: Place) {
    let store = place.open();
    refusal(store.commit(entries(vec![draft(1, "a"), draft(2, "a"), draft(1, "b")])).await);
    assert_eq!(store.entries(None, 10).await, Ok(vec![]));
}

async fn a_refused_batch_does_not_harm_its_neighbours(place: Place) {
    let store = place.open();
    store.commit(one(0)).await.unwrap();
    // All are queued before the first is on the disk, so the bad ones share a transaction with good ones.
    let bad = |n: u64| n % 5 == 3;
    let batches = (1..=60).map(|n| {
        let mut batch = one(n);
        if bad(n) {
            batch.entries.push(draft(0, "copy"));
        }
        batch
    });
    let results = join_all(batches.map(|batch| store.commit(batch))).await;
    for (n, result) in (1..).zip(&results) {
        assert_eq!(result.is_err(), bad(n), "batch {n}: {result:?}");
    }
    let good = (0..=60).filter(|n| !bad(*n));
    assert_eq!(
        store.load().await.unwrap(),
        applied(good.clone().flat_map(|n| one(n).changes).collect::<Vec<_>>().iter())
    );
    assert_eq!(sound_log(&*store).await.len(), good.count() * 2);
}

async fn concurrent_commits_all_land(place: Place) {
    let store = place.open();
    let tasks = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(one(n)).await })
    });
    for result in join_all(tasks).await {
        result.unwrap().unwrap();
    }
    assert_eq!(store.load().await.unwrap().credentials.len(), 64);
    let log = sound_log(&*store).await;
    assert_eq!(log.len(), 128);
    // A batch is not torn apart: its two entries stand side by side.
    for pair in log.chunks(2) {
        assert_eq!(said(&pair[1]).target, "credential/shared");
    }
}

async fn evidence_is_found_by_its_hash_and_kept_once(place: Place) {
    let store = place.open();
    let longest = vec![7; LONGEST_EVIDENCE];
    let with = |n, bytes: &[u8]| Draft { evidence: vec![evidence(bytes), evidence(b"")], ..draft(n, "a") };
    store.commit(entries(vec![with(1, &longest), with(2, b"two"), with(3, &longest)])).await.unwrap();
    store.commit(entries(vec![with(4, b"two")])).await.unwrap();
    drop(store);
    let store = place.open();
    for bytes in [&longest[..], b"two", b""] {
        assert_eq!(store.evidence(Digest::of(bytes)).await, Ok(Some(bytes.to_vec())));
    }
    assert_eq!(store.evidence(Digest::of(b"three")).await, Ok(None));
}

async fn evidence_that_is_too_long_or_false_is_refused(place: Place) {
    let store = place.open();
    let too_long = evidence(&vec![7; LONGEST_EVIDENCE + 1]);
    let mut false_hash = evidence(b"seen");
    false_hash.sha256 = Digest::of(b"claimed");
    let mut false_size = evidence(b"seen");
    false_size.size = 5;
    for (n, bad) in (1..).zip([too_long, false_hash, false_size]) {
        let mut batch = one(n);
        batch.entries[1].evidence.push(bad);
        refusal(store.commit(batch).await);
    }
    let mut too_much = one(9);
    too_much.entries[0].evidence = (0..17).map(|n| evidence(&vec![n; LONGEST_EVIDENCE])).collect();
    refusal(store.commit(too_much).await);
    assert_eq!(store.load().await, Ok(State::default()));
    assert_eq!(store.entries(None, 10).await, Ok(vec![]));
}

async fn a_batch_beyond_the_limit_is_refused(place: Place) {
    let store = place.open();
    let many = |n: usize| Batch { changes: vec![Change::Forget(credential("a")); n - 1], entries: vec![draft(1, "a")] };
    refusal(store.commit(many(LARGEST_BATCH + 1)).await);
    store.commit(many(LARGEST_BATCH)).await.unwrap();
}

async fn an_entry_too_long_is_refused(place: Place) {
    let store = place.open();
    let mut long = draft(1, &"x".repeat(70_000));
    long.id = EntryId(ulid(1));
    let text = refusal(store.commit(entries(vec![draft(2, "a"), long])).await);
    assert!(text.contains("bytes"), "{text}");
    assert_eq!(store.entries(None, 10).await, Ok(vec![]));
}

async fn a_checkpoint_covers_every_entry_and_only_those(place: Place) {
    let store = place.open();
    let head = || async { head_of(&store.checkpoint().await.unwrap().unwrap()) };
    assert_eq!(head().await, Frontier::default().head());
    store.commit(Batch::default()).await.unwrap();
    assert_eq!(head().await.size, 0);
    for n in 1..6 {
        store.commit(one(n)).await.unwrap();
        refusal(store.commit(one(n)).await);
        let leaves: Vec<_> = sound_log(&*store).await.iter().map(|entry| entry.leaf).collect();
        assert_eq!(heads(&leaves).last(), Some(&head().await));
    }
    let before = store.checkpoint().await.unwrap().unwrap();
    drop(store);
    assert_eq!(place.open().checkpoint().await.unwrap().unwrap(), before, "a start is no entry");
}

async fn every_entry_and_every_older_log_has_a_proof(place: Place) {
    let store = place.open();
    proofs_hold(&*store, &[], 1).await;
    for n in 0..18 {
        store.commit(entries((n * 16..(n + 1) * 16).map(|n| draft(n, "a")).collect())).await.unwrap();
    }
    let leaves: Vec<_> = sound_log(&*store).await.iter().map(|entry| entry.leaf).collect();
    proofs_hold(&*store, &leaves, 1).await;
}

async fn a_commit_gives_the_proof_of_its_first_entry(place: Place) {
    let store = place.open();
    for n in 0..20 {
        let first = draft(2 * n, "a");
        let id = first.id;
        let given = store.commit_proved(entries(vec![first, draft(2 * n + 1, "b")])).await.unwrap();
        let given = match given {
            Some(given) => given,
            None => store.proved(id).await.unwrap(),
        };
        is_proved(&given, id);
        assert_eq!(store.inclusion(2 * n).await.unwrap(), Some(given));
    }
    assert_eq!(store.commit_proved(changes(Vec::new())).await, Ok(None), "there is nothing to prove");
    assert!(store.commit_proved(entries(vec![draft(0, "a")])).await.is_err(), "its id is there");
}

async fn an_intent_is_open_until_its_outcome_is_there(place: Place) {
    let intent = |n| Draft { phase: Phase::Intent, ..draft(n, "a") };
    let outcome = |n, of| Draft { phase: Phase::Outcome, intent: Some(EntryId(ulid(of))), ..draft(n, "a") };
    let store = place.open();
    store.commit(entries(vec![intent(1), intent(2), draft(3, "a")])).await.unwrap();
    store.commit(entries(vec![intent(4), outcome(5, 2), outcome(6, 99)])).await.unwrap();
    // An event may name an intent without concluding it.
    store.commit(entries(vec![Draft { intent: Some(EntryId(ulid(1))), ..draft(7, "a") }])).await.unwrap();
    drop(store);
    let store = place.open();
    let open = || async { store.open_intents(9).await.unwrap().iter().map(|e| e.sequence).collect::<Vec<_>>() };
    assert_eq!(open().await, [0, 3]);
    assert_eq!(store.open_intents(1).await.unwrap().len(), 1);
    store.commit(entries(vec![outcome(8, 1), intent(9), outcome(10, 9)])).await.unwrap();
    assert_eq!(open().await, [3]);
}

async fn a_refused_batch_opens_and_closes_no_intent(place: Place) {
    let intent = |n| Draft { phase: Phase::Intent, ..draft(n, "a") };
    let outcome = |n, of| Draft { phase: Phase::Outcome, intent: Some(EntryId(ulid(of))), ..draft(n, "a") };
    let store = place.open();
    store.commit(entries(vec![intent(1)])).await.unwrap();
    refusal(store.commit(entries(vec![outcome(2, 1), intent(3), draft(1, "b")])).await);
    let open: Vec<u64> = store.open_intents(9).await.unwrap().iter().map(|e| e.sequence).collect();
    assert_eq!(open, [0]);
}

async fn an_empty_batch_is_accepted_and_changes_nothing(place: Place) {
    let store = place.open();
    store.commit(Batch::default()).await.unwrap();
    assert_eq!(store.load().await, Ok(State::default()));
}
