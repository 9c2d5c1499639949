//! Samples and strategies of tracked keys.

use std::sync::Arc;

use keyward::domain::id::{AttemptId, EntryId, KeyId, Ulid};
use keyward::domain::key::Digest;
use keyward::domain::state::Change;
use keyward::domain::tracked::{KeyState, Print, Wrapped};
use keyward::domain::upkeep::{KeyRecord, KeyVersion, Rotation, Step};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::random::{text, time};
use super::samples::at;

fn version(number: u32, state: KeyState) -> KeyVersion {
    KeyVersion {
        number,
        state,
        since: at(2),
        reason: Arc::from("found in a public repository"),
        by: Some(Arc::from("someone")),
        created: at(1),
        print: Some(Print::Mac(Digest([7; 32]))),
        wrapped: Some(Wrapped { fingerprint: Digest([8; 32]), ends: at(9) }),
        until: Some(at(5)),
        compromised: Some(at(1)),
    }
}

fn bare(number: u32) -> KeyVersion {
    let full = version(number, KeyState::Active);
    KeyVersion { by: None, print: None, wrapped: None, until: None, compromised: None, ..full }
}

fn rotation(step: Step) -> Rotation {
    let id = Ulid::from_bytes([3; 16]);
    let intent = Some(EntryId(Ulid::from_bytes([4; 16])));
    let by = Some(Arc::from("someone"));
    Rotation { id: AttemptId(id), step, intent, began: at(3), failures: 2, not_before: Some(at(4)), by }
}

/// Every kind of change with every field, absent and present, and one over the other.
pub fn every_change() -> Vec<Change> {
    let key = |text: &str, record: KeyRecord| Change::Key(KeyId::parse(text).unwrap(), Arc::new(record));
    let first = KeyRecord { current: Some(bare(1)), ..KeyRecord::default() };
    let turning = KeyRecord {
        current: Some(version(1, KeyState::Active)),
        pending: Some(bare(2)),
        rotation: Some(Rotation { intent: None, failures: 0, not_before: None, by: None, ..rotation(Step::Create) }),
        previous: None,
    };
    let full = KeyRecord {
        current: Some(version(2, KeyState::Compromised)),
        previous: Some(version(1, KeyState::Destroyed)),
        pending: Some(version(3, KeyState::PreActivation)),
        rotation: Some(rotation(Step::Retire)),
    };
    vec![
        key("api", KeyRecord::default()),
        key("api", first),
        key("api", turning.clone()),
        key("api", full.clone()),
        key("other", full),
        key("other", turning),
        key("other", KeyRecord::default()),
    ]
}

fn any_version() -> impl Strategy<Value = KeyVersion> {
    let state = select(KeyState::ALL.to_vec()).prop_map(|(state, _)| state);
    let print = (any::<bool>(), any::<[u8; 32]>())
        .prop_map(|(public, d)| if public { Print::Spki(Digest(d)) } else { Print::Mac(Digest(d)) });
    let wrapped = (any::<[u8; 32]>(), time()).prop_map(|(d, ends)| Wrapped { fingerprint: Digest(d), ends });
    let times = (time(), time(), option::of(time()), option::of(time()));
    let told = (text(), option::of(text()), option::of(print), option::of(wrapped));
    (any::<u32>(), state, times, told).prop_map(
        |(number, state, (since, created, until, compromised), (reason, by, print, wrapped))| KeyVersion {
            number,
            state,
            since,
            reason,
            by,
            created,
            print,
            wrapped,
            until,
            compromised,
        },
    )
}

pub fn change() -> BoxedStrategy<Change> {
    let step = select(Step::ALL.to_vec()).prop_map(|(step, _)| step);
    let id = || any::<[u8; 16]>().prop_map(Ulid::from_bytes);
    let rotation = (id(), step, option::of(id()), time(), any::<u32>(), option::of(time()), option::of(text()))
        .prop_map(|(rotation, step, intent, began, failures, not_before, by)| Rotation {
            id: AttemptId(rotation),
            step,
            intent: intent.map(EntryId),
            began,
            failures,
            not_before,
            by,
        });
    let one = || option::of(any_version().boxed());
    let key = select(vec!["api", "ssh-ca", "a.b"]).prop_map(|text| KeyId::parse(text).unwrap());
    (key, one(), one(), one(), option::of(rotation))
        .prop_map(|(key, current, previous, pending, rotation)| {
            Change::Key(key, Arc::new(KeyRecord { current, previous, pending, rotation }))
        })
        .boxed()
}
