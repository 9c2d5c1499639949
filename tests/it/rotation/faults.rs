//! Crashes between any two commits of a rotation, and a store that is away.

use keyward::domain::rotation::{Phase, Shows};
use keyward::domain::time::{DAY, HOUR, MINUTE};

use super::ID;
use crate::harness::rotation::{Parties, Realm, ca_id, party};

/// From the order to the end of the old keys; the disk dies after `at` more commits, and then the process. Gives whether it
/// came to that.
async fn rotated(at: u64) -> bool {
    let (mut realm, parties) = Realm::new(&[("edge", Shows::Both), ("vault", Shows::Canary)]).await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    realm.take(&parties, "vault").await;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.store.remember();
    realm.store.fail_after(at);
    let mut died = false;
    for turn in 0..40 {
        realm.authority.round().await;
        check(&realm, &parties).await;
        if !died && u64::try_from(realm.store.written().len()).unwrap() >= at {
            died = true;
            realm.restart().await;
            check(&realm, &parties).await;
        }
        let bundle = realm.authority.bundle(&ca_id()).unwrap();
        realm.take(&parties, "edge").await;
        realm.take(&parties, "vault").await;
        // What cannot be recorded is said again.
        drop(realm.authority.acknowledge(&ca_id(), &party("edge"), bundle.version, bundle.digest, None).await);
        realm.pass(if turn % 3 == 0 { MINUTE * 6 } else { HOUR * 9 });
        if realm.phases() == [(1, Phase::Destroyed), (2, Phase::Signing)] {
            return died;
        }
    }
    panic!("after {at} commits it did not go on: {:?}", realm.phases());
}

/// What is issued is taken by everybody who has the published bundle.
async fn check(realm: &Realm, parties: &Parties) {
    if let Ok(given) = realm.issue(ID).await {
        for (id, own) in parties.lock().iter() {
            assert!(own.accepts(&given.chain), "{id} refuses generation {}: {:?}", given.generation, realm.phases());
        }
    }
}

#[tokio::test]
async fn a_crash_between_any_two_commits_resumes() {
    let mut at = 1;
    while rotated(at).await {
        at += 1;
    }
    assert!(at > 20, "a rotation has more commits than {at}");
}

#[tokio::test]
async fn while_the_store_is_away_nothing_moves_and_afterwards_it_goes_on() {
    let (realm, parties) = Realm::new(&[("edge", Shows::Both)]).await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.store.fail_after(0);
    for _ in 0..3 {
        realm.pass(DAY);
        realm.authority.round().await;
        assert_eq!(realm.phases(), [(1, Phase::Signing)]);
    }
    realm.store.heal();
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Staged);
}
