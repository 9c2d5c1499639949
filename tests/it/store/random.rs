//! Any sequence of changes, in any batches: what is loaded is what memory has.

use std::sync::Arc;
use std::time::Duration;

use keyward::domain::certificate::CertId;
use keyward::domain::execution::{Attempt, Failure, Fault, Generation, Stage, Trigger};
use keyward::domain::freeze::{Freeze, Scope};
use keyward::domain::id::{AttemptId, CredentialId, EntryId, FreezeId, IssuerId, PathId};
use keyward::domain::key::Digest;
use keyward::domain::limits::{AUTOMATIC_SPAN, BucketKey, LimitKind};
use keyward::domain::name::{Name, NameSet};
use keyward::domain::state::{
    AriRecord, Change, ClockMark, CredentialRecord, FULL_BUCKETS_KEPT, IssuerRecord, Latch, LatchOn, Request, State,
};
use keyward::domain::time::{Boottime, Timestamp, Validity};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::samples::{at, changes, replayed, ulid, without_clock};
use crate::harness::store::{Place, block_on};

pub fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(Arc::from("")), any::<String>().prop_map(Arc::from)]
}

pub fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        4 => (-200_000_i64..200_000).prop_map(at),
        1 => any::<i64>().prop_map(Timestamp::from_unix),
    ]
}

// Few ids, so that changes meet.
fn credential() -> impl Strategy<Value = CredentialId> {
    select(vec!["a", "b", "c-1"]).prop_map(|id| CredentialId::parse(id).unwrap())
}

fn issuer() -> impl Strategy<Value = IssuerId> {
    select(vec!["le", "zerossl"]).prop_map(|id| IssuerId::parse(id).unwrap())
}

fn slot() -> impl Strategy<Value = AttemptId> {
    (0_u64..6).prop_map(|n| AttemptId(ulid(n)))
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

pub fn names() -> impl Strategy<Value = NameSet> {
    let dns =
        "(\\*\\.)?[a-z0-9]{1,9}(-[a-z0-9]{1,3})?\\.(example|test)\\.(org|com)".prop_map(|n| Name::parse(&n).unwrap());
    let ip = any::<std::net::IpAddr>().prop_map(Name::Ip);
    vec(prop_oneof![dns, ip], 0..4).prop_map(NameSet::new)
}

fn cert_id() -> impl Strategy<Value = Option<CertId>> {
    option::of(text().prop_map(CertId))
}

fn fault() -> impl Strategy<Value = Fault> {
    select(vec![Fault::Ours, Fault::Issuer, Fault::Subject, Fault::Network, Fault::Host])
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        select(vec![Trigger::First, Trigger::Ari, Trigger::Lifetime, Trigger::Emergency]),
        text().prop_map(Trigger::Changed),
        text().prop_map(Trigger::Repair),
        text().prop_map(Trigger::Manual),
    ]
}

fn generation() -> impl Strategy<Value = Generation> {
    let who = (slot(), issuer(), digest(), digest(), text());
    let what = (cert_id(), time(), time(), names(), trigger(), time(), option::of(time()), time());
    (who, what).prop_map(|((slot, issuer, fingerprint, spki, serial), what)| {
        let (cert_id, not_before, not_after, names, trigger, installed_at, verified_at, key_since) = what;
        let validity = Validity { not_before, not_after };
        Generation {
            slot,
            issuer,
            fingerprint,
            spki,
            serial,
            cert_id,
            validity,
            names,
            trigger,
            installed_at,
            verified_at,
            key_since,
        }
    })
}

fn record() -> impl Strategy<Value = CredentialRecord> {
    let ari = (text(), option::of((time(), time())), option::of(time()), time(), option::of(text())).prop_map(
        |(id, window, picked, next_poll, explanation)| AriRecord {
            cert_id: CertId(id),
            window,
            picked,
            next_poll,
            explanation,
        },
    );
    let failure = (time(), text(), text(), fault(), option::of(issuer()))
        .prop_map(|(at, code, text, fault, issuer)| Failure { at, code, text, fault, issuer });
    let request = (text(), time()).prop_map(|(by, at)| Request { by, at });
    let first = (option::of(generation()), option::of(generation()), option::of(ari), any::<u32>());
    let second = (option::of(failure), option::of(time()), option::of(time()), option::of(request), option::of(slot()));
    (first, second).prop_map(|((current, previous, ari, failures), second)| {
        let (last_failure, next_attempt, last_success, requested, rolled_back) = second;
        CredentialRecord {
            current,
            previous,
            ari,
            failures,
            last_failure,
            next_attempt,
            last_success,
            requested,
            rolled_back,
        }
    })
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let stage = prop_oneof![select(vec![Stage::Begun, Stage::Issued]), text().prop_map(|url| Stage::Ordered { url }),];
    let first = (slot(), credential(), issuer(), names(), trigger(), cert_id());
    let second = (time(), 0_u64..9, stage, any::<u32>(), option::of(time()));
    (first, second).prop_map(|((id, credential, issuer, names, trigger, replaces), second)| {
        let (began, intent, stage, failures, not_before) = second;
        let intent = EntryId(ulid(intent));
        Attempt { id, credential, issuer, names, trigger, replaces, began, intent, stage, failures, not_before }
    })
}

fn change() -> impl Strategy<Value = Change> {
    let issuer_record = (any::<u32>(), option::of(time()), option::of(time()), option::of(text())).prop_map(
        |(failures, open_until, last_success, terms)| IssuerRecord { failures, open_until, last_success, terms },
    );
    let kind = select(LimitKind::ALL.to_vec()).prop_map(|(kind, _)| kind);
    let bucket = (issuer(), kind, prop_oneof![Just(Arc::from("example.org")), text()])
        .prop_map(|(issuer, kind, key)| BucketKey::new(issuer, kind, key));
    let set = select(vec!["a.example.org", "b.example.org", ""]).prop_map(Arc::from);
    let mark = (time(), 0..=u64::MAX >> 1, 0..1_000_000_000_u32, text()).prop_map(|(wall, seconds, nanos, boot_id)| {
        ClockMark { wall, boot: Boottime::from_boot(Duration::new(seconds, nanos)), boot_id }
    });
    let latched = prop_oneof![
        select(vec!["a", "b"]).prop_map(|id| LatchOn::Path(PathId::parse(id).unwrap())),
        select(vec![1_u8, 2]).prop_map(|n| LatchOn::Key(Digest([n; 32]))),
    ];
    let latch =
        (time(), text(), text(), option::of(text())).prop_map(|(at, code, text, by)| Latch { at, code, text, by });
    let scope =
        select(vec!["all", "path:a", "owner:a b", "issuer:le", "label:k=v"]).prop_map(|s| Scope::parse(s).unwrap());
    let frozen = (scope, text(), text(), time(), time()).prop_map(|(scope, reason, by, since, until)| Freeze {
        scope,
        reason,
        by,
        since,
        until,
    });
    prop_oneof![
        3 => (credential(), record()).prop_map(|(id, record)| Change::Credential(id, Arc::new(record))),
        1 => credential().prop_map(Change::Forget),
        3 => attempt().prop_map(|attempt| Change::Attempt(Arc::new(attempt))),
        1 => slot().prop_map(Change::AttemptEnded),
        1 => (issuer(), issuer_record).prop_map(|(id, record)| Change::Issuer(id, record)),
        2 => (bucket, time()).prop_map(|(key, full)| Change::Bucket(key, full)),
        4 => (set, time()).prop_map(|(set, at)| Change::AutomaticIssuance(set, at)),
        1 => mark.prop_map(Change::Clock),
        2 => (latched, option::of(latch)).prop_map(|(on, latch)| Change::Latch(on, latch)),
        2 => (0_u64..3, option::of(frozen)).prop_map(|(n, freeze)| Change::Freeze(FreezeId(ulid(n)), freeze)),
        4 => super::authority::change(),
        3 => super::upkeep::change(),
        3 => super::acme::change(),
    ]
}

/// What a start may drop: ledger rows that say nothing any more.
fn after_restart(mut state: State) -> State {
    let Some(now) = state.clock.as_ref().map(|c| c.wall.unix()) else { return state };
    let day = FULL_BUCKETS_KEPT.as_secs() as i64;
    let span = AUTOMATIC_SPAN.as_secs() as i64;
    state.ledger.full_at.retain(|_, full| full.unix() > now - day);
    for times in state.ledger.automatic.values_mut() {
        times.retain(|t| t.unix() > now - day - span);
    }
    state.ledger.automatic.retain(|_, times| !times.is_empty());
    state
}

fn check(place: &Place, batches: &[Vec<Change>], restarted: impl Fn(State) -> State) {
    block_on(async {
        let store = place.open();
        let mut expected = State::default();
        for batch in batches {
            batch.iter().for_each(|change| expected.apply(change));
            store.commit(changes(batch.clone())).await.unwrap();
        }
        assert_eq!(store.load().await.unwrap(), expected);
        assert_eq!(replayed(&store).await, without_clock(expected.clone()));
        drop(store);
        assert_eq!(place.open().load().await.unwrap(), restarted(expected));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_sqlite_loads_is_what_memory_has(batches in vec(vec(change(), 0..12), 0..6)) {
        check(&Place::sqlite(), &batches, after_restart);
    }

    #[test]
    fn what_the_simulation_loads_is_what_memory_has(batches in vec(vec(change(), 0..12), 0..6)) {
        check(&Place::memory(), &batches, |state| state);
    }
}
