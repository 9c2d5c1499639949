//! Questions to the log: every store gives what asking each entry would give, page by page, and in bounded time.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyward::codec::entry::Entry;
use keyward::domain::audit::{Actor, Draft, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::question::{LARGEST_PAGE, MOST_CONDITIONS, Order, Question, Wanted};
use keyward::domain::time::{DAY, Timestamp};
use keyward::domain::words::word;
use keyward::ports::{Store, StoredEntry};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::samples::{at, draft, entries, evidence, one, ulid};
use crate::harness::store::{Place, block_on, refusal};

on_every_store! {
    an_empty_log_answers_with_nothing
    an_entry_is_found_by_its_id_and_by_each_of_its_words
    pages_follow_each_other_without_gap_or_repetition_while_the_log_grows
    a_wall_clock_that_stepped_hides_no_entry
    a_page_is_bounded_in_entries_and_bytes
    counts_are_those_of_the_entries
    random_questions_are_answered_as_if_each_entry_had_been_asked
}

fn ask(order: Order) -> Question {
    Question { order, limit: LARGEST_PAGE, ..Question::default() }
}

fn exactly(kind: &str, value: &str) -> Vec<Wanted> {
    vec![Wanted::Word(word(kind, value))]
}

fn places(entries: &[StoredEntry]) -> Vec<u64> {
    entries.iter().map(|e| e.sequence).collect()
}

/// The answer to the end, in pages of `limit`.
async fn all(store: &dyn Store, question: &Question, limit: usize) -> Vec<StoredEntry> {
    let mut out = Vec::new();
    let mut asked = Question { limit, ..question.clone() };
    loop {
        let page = store.query(asked.clone()).await.unwrap();
        assert!(page.entries.len() <= limit);
        out.extend(page.entries);
        match page.next {
            None => return out,
            Some(next) => {
                assert_ne!(asked.beyond, Some(next), "a page goes further");
                asked.beyond = Some(next);
            }
        }
    }
}

async fn an_empty_log_answers_with_nothing(place: Place) {
    let store = place.open();
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let page = store.query(ask(order).and(exactly("code", "KW2001"))).await.unwrap();
        assert_eq!((page.entries.len(), page.next, page.size), (0, None, 0));
        let since = Question { from: Some(at(0)), until: Some(at(1)), ..ask(order) };
        assert_eq!(store.query(since).await.unwrap().entries, []);
    }
    assert_eq!(store.entry(EntryId(ulid(1))).await, Ok(None));
    let counts = store.statistics().await.unwrap();
    assert_eq!((counts.size, counts.span, counts.open_intents, counts.counts.len()), (0, None, 0, 0));
}

async fn an_entry_is_found_by_its_id_and_by_each_of_its_words(place: Place) {
    let store = place.open();
    store.commit(entries((0..30).map(|n| varied(n, at(0))).collect())).await.unwrap();
    drop(store);
    let store = place.open();
    let log = all(&*store, &ask(Order::OldestFirst), 7).await;
    assert_eq!(places(&log), (0..30).collect::<Vec<_>>());
    let mut kinds = BTreeSet::new();
    for stored in &log {
        let entry = Entry::parse(&stored.bytes).unwrap();
        assert_eq!(store.entry(entry.id).await.unwrap().as_ref(), Some(stored));
        for word in entry.words() {
            let found = all(&*store, &ask(Order::NewestFirst).and(vec![Wanted::Word(word.clone())]), 1_000).await;
            assert!(found.contains(stored), "{word}");
            kinds.insert(word.split_once(':').unwrap().0.to_owned());
        }
    }
    let expected = [
        "action",
        "actor",
        "code",
        "correlation",
        "credential",
        "day",
        "issuer",
        "outcome",
        "path",
        "phase",
        "target",
        "tier",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    for absent in [exactly("credential", "portal-1x"), exactly("credential", ""), exactly("nothing", "x"), Vec::new()] {
        assert_eq!(all(&*store, &ask(Order::NewestFirst).and(absent), 10).await, []);
    }
    let gates = ask(Order::NewestFirst).and(vec![Wanted::Prefix(word("action", "gate"))]);
    let found = all(&*store, &gates, 4).await;
    assert!(!found.is_empty() && found.iter().all(|e| Entry::parse(&e.bytes).unwrap().action.starts_with("gate.")));
}

async fn pages_follow_each_other_without_gap_or_repetition_while_the_log_grows(place: Place) {
    let store = place.open();
    store.commit(entries((0..50).map(|n| draft(n, "a")).collect())).await.unwrap();
    let question = Question { limit: 20, ..ask(Order::NewestFirst).and(exactly("credential", "a")) };
    let first = store.query(question.clone()).await.unwrap();
    assert_eq!((places(&first.entries), first.next, first.size), ((30..50).rev().collect(), Some(30), 50));
    store.commit(entries((50..60).map(|n| draft(n, "a")).collect())).await.unwrap();
    let second = store.query(Question { beyond: first.next, ..question.clone() }).await.unwrap();
    assert_eq!((places(&second.entries), second.size), ((10..30).rev().collect(), 60));
    let last = store.query(Question { beyond: second.next, ..question }).await.unwrap();
    assert_eq!((places(&last.entries), last.next), ((0..10).rev().collect(), None));
    // Oldest first it goes on when there is more.
    let follow = Question { beyond: Some(49), ..ask(Order::OldestFirst) };
    assert_eq!(places(&store.query(follow).await.unwrap().entries), (50..60).collect::<Vec<_>>());
    for (order, beyond) in [(Order::OldestFirst, 59), (Order::OldestFirst, u64::MAX), (Order::NewestFirst, 0)] {
        let page = store.query(Question { beyond: Some(beyond), ..ask(order) }).await.unwrap();
        assert_eq!((page.entries.len(), page.next), (0, None), "{order:?} beyond {beyond}");
    }
    let everything = Question { beyond: Some(u64::MAX), ..ask(Order::NewestFirst) };
    assert_eq!(store.query(everything).await.unwrap().entries.len(), 60);
}

async fn a_wall_clock_that_stepped_hides_no_entry(place: Place) {
    let store = place.open();
    let day = i64::try_from(DAY.as_secs()).unwrap();
    // Three days ahead, back again, back before the beginning, and on.
    let times = [0, 10, 3 * day, 3 * day + 5, 20, 30, -2 * day, -2 * day + 1, 40, day, day + 1, 50];
    let made = times.iter().zip(0..).map(|(seconds, n)| Draft { at: at(*seconds), ..draft(n, "a") });
    store.commit(entries(made.collect())).await.unwrap();
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for (from, until) in
            [(0, 60), (-3 * day, 0), (day, 4 * day), (3 * day, 3 * day + 1), (21, 51), (5 * day, 6 * day)]
        {
            let span = Question { from: Some(at(from)), until: Some(at(until)), ..ask(order) };
            let mut expected: Vec<u64> =
                (0..).zip(times).filter(|(_, t)| (from..until).contains(t)).map(|(n, _)| n).collect();
            if order == Order::NewestFirst {
                expected.reverse();
            }
            assert_eq!(places(&all(&*store, &span, 2).await), expected, "{from}..{until} {order:?}");
            assert_eq!(places(&all(&*store, &span.and(exactly("credential", "a")), 2).await), expected);
        }
    }
}

async fn a_page_is_bounded_in_entries_and_bytes(place: Place) {
    let store = place.open();
    let long = |n| {
        let mut draft = draft(n, "long");
        draft.facts = vec![("text", Json::str("x".repeat(59_000)))];
        draft
    };
    for round in 0..4 {
        store.commit(entries((0..50).map(|n| long(round * 50 + n)).collect())).await.unwrap();
    }
    let page = store.query(Question { limit: usize::MAX, ..ask(Order::NewestFirst) }).await.unwrap();
    let bytes: usize = page.entries.iter().map(|e| e.bytes.len()).sum();
    assert!((8 << 20..9 << 20).contains(&bytes) && page.next.is_some(), "{bytes} bytes");
    assert_eq!(all(&*store, &ask(Order::NewestFirst), LARGEST_PAGE).await.len(), 200);
    for round in 0..5 {
        store.commit(entries((0..250).map(|n| draft(1_000 + round * 250 + n, "short")).collect())).await.unwrap();
    }
    let short = ask(Order::NewestFirst).and(exactly("credential", "short"));
    assert_eq!(store.query(Question { limit: usize::MAX, ..short.clone() }).await.unwrap().entries.len(), LARGEST_PAGE);
    assert_eq!(store.query(Question { limit: 0, ..short }).await.unwrap().entries.len(), 1, "never a page of nothing");
}

async fn counts_are_those_of_the_entries(place: Place) {
    let store = place.open();
    let made: Vec<Draft> = (0..40).map(|n| varied(n, at(i64::try_from(n).unwrap()))).collect();
    let count = |word: &str| {
        u64::try_from(
            made.iter()
                .filter(|d| {
                    format!("code:{}", d.code) == word || d.outcome.is_some_and(|o| format!("outcome:{o}") == word)
                })
                .count(),
        )
        .unwrap()
    };
    store.commit(entries(made.clone())).await.unwrap();
    let found = store.statistics().await.unwrap();
    assert_eq!((found.size, found.span), (40, Some((at(0), at(39)))));
    assert!(found.bytes > 40 * 500, "{}", found.bytes);
    assert!(found.counts.len() >= 6);
    for (word, n) in &found.counts {
        assert_eq!(*n, count(word), "{word}");
    }
    let open = made.iter().filter(|d| d.phase == Phase::Intent && !made.iter().any(|o| o.intent == Some(d.id))).count();
    assert_eq!(found.open_intents, u64::try_from(open).unwrap());
}

#[test]
fn a_question_beyond_its_limits_is_refused_and_harms_nothing() {
    block_on(async {
        let place = Place::sqlite();
        let store = place.open();
        store.commit(one(1)).await.unwrap();
        let many = (0..=MOST_CONDITIONS).fold(ask(Order::NewestFirst), |q, _| q.and(exactly("code", "KW2001")));
        assert!(refusal(store.query(many).await).contains("at most"));
        let wide: Vec<Wanted> = (0..10_000).map(|n| Wanted::Word(format!("code:{n}"))).collect();
        assert!(refusal(store.query(ask(Order::NewestFirst).and(wide)).await).contains("at most"));
        assert_eq!(store.query(ask(Order::NewestFirst)).await.unwrap().entries.len(), 2);
    });
}

#[test]
fn a_search_for_what_never_meets_gives_up_with_a_place_to_go_on_from() {
    block_on(async {
        let place = Place::sqlite();
        let store = place.open();
        // Two words that alternate: the search leaps from one to the other and finds nothing.
        for round in 0..60_u64 {
            let batch = (0..2_000).map(|n| {
                let n = round * 2_000 + n;
                let (action, code) =
                    if n.is_multiple_of(2) { ("gate.open", "KW2301") } else { ("gate.close", "KW2302") };
                Draft::new(EntryId(ulid(n)), at(0), action, code, Target::new(TargetKind::Path, "approve"))
            });
            store.commit(entries(batch.collect())).await.unwrap();
        }
        let never = ask(Order::NewestFirst).and(exactly("action", "gate.open")).and(exactly("code", "KW2302"));
        let page = store.query(never.clone()).await.unwrap();
        assert_eq!(page.entries, []);
        assert!(page.next.is_some_and(|n| n > 0 && n < 120_000), "{:?}", page.next);
        assert_eq!(all(&*store, &never, 10).await, []);
    });
}

/// Entries of many kinds.
fn varied(n: u64, at: Timestamp) -> Draft {
    let credentials = ["portal", "portal-1", "mail"];
    let id = EntryId(ulid(n));
    let pick = usize::try_from(n).unwrap();
    let credential = Target::new(TargetKind::Credential, credentials[pick % 3]);
    let mut draft = match n % 5 {
        0 => Draft::new(id, at, "certificate.issue", "KW2001", credential),
        1 => Draft::new(id, at, "certificate.issue", "KW2003", credential),
        2 => Draft::new(id, at, "certificate.order", "KW2002", credential),
        3 => Draft::new(id, at, "gate.close", "KW2302", Target::new(TargetKind::Path, "approve")),
        _ => Draft::new(id, at, "issuer.terms", "KW2012", Target::new(TargetKind::Issuer, "le")),
    };
    match n % 5 {
        0 => {
            draft.phase = Phase::Intent;
            draft.actor = if n.is_multiple_of(2) { Actor::Automation } else { Actor::Human(Arc::from("uid:1000")) };
            let digest = Digest::of(b"policy");
            let tier = u8::try_from(n % 4).unwrap();
            draft.policy =
                Some(Policy { decision: "proceed", rule: "default".into(), version: digest, inputs: digest, tier });
        }
        1 => {
            draft.phase = Phase::Outcome;
            draft.outcome = Some([Outcome::Success, Outcome::Failure, Outcome::Denied][pick % 3]);
            draft.intent = (n.is_multiple_of(2)).then(|| EntryId(ulid(n - 1)));
            draft.evidence = vec![evidence(n.to_string().as_bytes())];
        }
        2 => draft.facts = vec![("issuer", Json::str(if n.is_multiple_of(2) { "le" } else { "zerossl" }))],
        _ => {}
    }
    draft.correlation = (n % 5 < 3).then(|| AttemptId(ulid(n / 5)));
    draft
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let words = select(vec![
        word("credential", "portal"),
        word("credential", "mail"),
        word("path", "approve"),
        word("issuer", "le"),
        word("action", "certificate.issue"),
        word("action", "gate.close"),
        word("code", "KW2002"),
        word("code", "KW2302"),
        word("phase", "intent"),
        word("outcome", "failure"),
        word("actor", "human"),
        word("actor", "automation"),
        word("tier", "2"),
        word("correlation", &ulid(3).to_string()),
        word("nobody", "has"),
    ]);
    let prefixes = select(vec!["code:KW20", "code:KW2", "code:", "action:certificate.", "action:gate", "action:x"]);
    prop_oneof![3 => words.prop_map(Wanted::Word), 1 => prefixes.prop_map(|p| Wanted::Prefix(p.to_owned()))]
}

prop_compose! {
    fn questions()(
        from in option::weighted(0.3, -200_000_i64..400_000),
        until in option::weighted(0.3, -200_000_i64..400_000),
        all_of in proptest::collection::vec(proptest::collection::vec(wanted(), 1..4), 0..4),
        beyond in option::weighted(0.3, 0_u64..220),
        newest in any::<bool>(),
        limit in 1_usize..60,
    ) -> Question {
        let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
        Question { from: from.map(at), until: until.map(at), all_of, beyond, order, limit }
    }
}

async fn random_questions_are_answered_as_if_each_entry_had_been_asked(place: Place) {
    let store = place.open();
    // The clock runs on, and steps now and then.
    let time = |n: u64| at(i64::try_from(n * 2_000).unwrap() - if n.is_multiple_of(17) { 150_000 } else { 0 });
    store.commit(entries((0..200).map(|n| varied(n, time(n))).collect())).await.unwrap();
    let log: Vec<(StoredEntry, Timestamp, Vec<String>)> = all(&*store, &ask(Order::OldestFirst), 1_000)
        .await
        .into_iter()
        .map(|stored| {
            let entry = Entry::parse(&stored.bytes).unwrap();
            (stored, entry.at, entry.words())
        })
        .collect();
    assert_eq!(log.len(), 200);
    let mut runner = proptest::test_runner::TestRunner::default();
    let handle = tokio::runtime::Handle::current();
    runner
        .run(&questions(), |question| {
            let fits = |(stored, at, words): &&(StoredEntry, Timestamp, Vec<String>)| {
                question.is_beyond(stored.sequence) && question.fits(*at, words)
            };
            let mut expected: Vec<u64> = log.iter().filter(fits).map(|(stored, ..)| stored.sequence).collect();
            if question.order == Order::NewestFirst {
                expected.reverse();
            }
            let answer = tokio::task::block_in_place(|| handle.block_on(all(&*store, &question, question.limit)));
            prop_assert_eq!(places(&answer), expected);
            Ok(())
        })
        .unwrap();
}
