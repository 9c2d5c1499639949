//! A state that is not to be believed: the guardian closes every gate, says why, and does nothing else.

use std::sync::Arc;

use keyward::domain::state::State;
use keyward::engine::{Command, Engine, Refusal, Seal, SealedStore};
use keyward::ports::{Ports, StoreError};

use super::simulated::{guarded, renew, world};
use crate::harness::estate::{iid, pid};
use crate::harness::store::block_on;

#[test]
fn only_what_a_person_must_judge_seals() {
    let text = || "the lock is ahead of the state".to_owned();
    let distrusted = StoreError::Distrusted { code: "KW6003", text: text() };
    assert_eq!(Seal::of(&distrusted), Some(Seal { code: "KW6003", text: text() }));
    assert_eq!(Seal::of(&StoreError::Damaged(text())).map(|s| s.code), Some("KW6040"));
    for error in [StoreError::Unavailable(text()), StoreError::InUse(text()), StoreError::Lost(text())] {
        assert_eq!(Seal::of(&error), None, "{error}");
    }
}

#[test]
fn a_sealed_guardian_closes_every_gate_with_the_refusals_own_code_and_starts_nothing() {
    let world = world(guarded());
    let error = StoreError::Distrusted { code: "KW6003", text: "the lock is ahead of the state".into() };
    let seal = Seal::of(&error).unwrap();
    let ports = Ports { store: Arc::new(SealedStore(error.clone())), ..world.ports() };
    let engine = Engine::sealed(ports, Arc::new(guarded()), seal.clone());
    let verdict = engine.gate(&pid("approve"));
    assert_eq!(verdict.reasons.len(), 1);
    assert_eq!(verdict.reasons[0].code, "KW6003");
    assert!(verdict.reasons[0].text.contains("the lock is ahead"), "{verdict:?}");
    assert_eq!(engine.gate(&pid("nobody")).reasons[0].code, "KW4010");
    let overview = engine.overview();
    assert!(overview.alive && overview.store_fault.is_some());
    assert_eq!(overview.sealed, Some(seal.clone()));
    for command in [renew(), Command::Scan, Command::AcceptClock { by: Arc::from("uid:0") }] {
        assert_eq!(block_on(engine.ask(command)), Err(Refusal::Sealed(seal.clone())));
    }
    assert_eq!(block_on(engine.store().load()), Err::<State, _>(error));
    assert_eq!(world.ca.tally(&iid("le")).orders, 0);
    assert_eq!(world.store.entries_written(), 0);
}
