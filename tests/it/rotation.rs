//! Rotating a private CA: nobody is refused while it goes by the rules, and it stops where somebody would be.

mod faults;
mod orders;

use keyward::domain::rotation::{Phase, Shows};
use keyward::domain::time::{DAY, HOUR, MINUTE};

use crate::harness::rotation::{Parties, Realm, ca_id, party};

pub const ID: &str = "spiffe://mesh.example/web";
const PARTIES: [(&str, Shows); 2] = [("edge", Shows::Both), ("vault", Shows::Word)];

/// Everybody who takes the newest bundle takes what is issued now.
async fn is_taken(realm: &Realm, parties: &Parties, who: &[&str]) {
    let given = realm.issue(ID).await.unwrap();
    for id in who {
        assert!(parties.lock()[&party(id)].accepts(&given.chain), "{id} refuses {}", given.generation);
    }
}

#[tokio::test]
async fn a_whole_rotation_refuses_nobody_and_ends_with_the_old_keys_destroyed() {
    let (realm, parties) = Realm::new(&PARTIES).await;
    realm.made().await;
    for (id, _) in PARTIES {
        realm.acknowledge(&parties, id).await;
    }
    let old = realm.keys(1);
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "a drill", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Staged)]);
    is_taken(&realm, &parties, &["edge", "vault"]).await;

    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Staged, "vault has said nothing");
    realm.acknowledge(&parties, "vault").await;
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
    is_taken(&realm, &parties, &["edge", "vault"]).await;

    // Two lives of a leaf, and the clocks' difference.
    realm.pass(DAY * 2);
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Draining);
    realm.pass(MINUTE * 6);
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Retired);
    is_taken(&realm, &parties, &["edge", "vault"]).await;
    assert!(old.iter().all(|key| realm.holder.has(key)), "its keys stay until everybody has dropped it");

    realm.acknowledge(&parties, "edge").await;
    realm.acknowledge(&parties, "vault").await;
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Destroyed), (2, Phase::Signing)]);
    assert!(!old.iter().any(|key| realm.holder.has(key)), "the old keys are still there");
    is_taken(&realm, &parties, &["edge", "vault"]).await;
}

#[tokio::test]
async fn a_party_that_does_not_acknowledge_stops_it_and_its_owner_is_told() {
    let (realm, parties) = Realm::new(&PARTIES).await;
    realm.made().await;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.authority.round().await;
    realm.acknowledge(&parties, "edge").await;
    for _ in 0..20 {
        realm.pass(DAY);
        realm.authority.round().await;
        assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Staged)]);
    }
    let told = realm.told();
    let vault = told.iter().find(|(_, code, text)| *code == "KW4621" && text.contains("vault")).expect("told");
    assert_eq!(vault.0.as_deref(), Some("owner of vault"));
    realm.acknowledge(&parties, "vault").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Signing);
}

#[tokio::test]
async fn a_party_that_refuses_the_canary_holds_it_and_one_that_takes_it_lets_it_go_on() {
    let (realm, parties) = Realm::new(&[("edge", Shows::Canary)]).await;
    realm.made().await;
    realm.take(&parties, "edge").await;
    parties.lock().get_mut(&party("edge")).unwrap().stubborn = true;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.authority.round().await;
    realm.take(&parties, "edge").await;
    for _ in 0..5 {
        realm.pass(HOUR);
        realm.authority.round().await;
        assert_eq!(realm.phase(2), Phase::Staged);
    }
    assert!(realm.told().iter().any(|(owner, code, _)| *code == "KW4622" && owner.as_deref() == Some("owner of edge")));
    parties.lock().get_mut(&party("edge")).unwrap().stubborn = false;
    realm.pass(MINUTE * 6);
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
    realm.pass(DAY * 2 + MINUTE * 6);
    realm.authority.round().await;
    // It is asked with a canary of the retired one, which it lets in until it has taken the new bundle.
    assert_eq!(realm.phase(1), Phase::Retired);
    realm.take(&parties, "edge").await;
    realm.pass(MINUTE * 6);
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Destroyed);
}

#[tokio::test]
async fn by_its_timers_a_ca_is_rotated_without_anybody_asking() {
    let (realm, parties) = Realm::new(&[("edge", Shows::Both)]).await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    // The issuing CA lives for a year: its successor is made thirty days before its end, and signs a week before it.
    realm.pass(DAY * 334);
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing)]);
    realm.pass(DAY * 2);
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Staged);
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Staged, "not its time");
    realm.pass(DAY * 23);
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
}

#[tokio::test]
async fn an_issuing_ca_is_rotated_below_its_root_and_the_old_one_is_revoked_there() {
    let (mut realm, parties) = Realm::new(&[("edge", Shows::Both)]).await;
    realm.renew_issuing_only();
    realm.restart().await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.authority.round().await;
    let outlook = realm.authority.outlook(&ca_id()).unwrap();
    let [one, two] = &*outlook.standing.generations else { panic!("{:?}", realm.phases()) };
    assert_eq!((one.root.key == two.root.key, one.issuing.key == two.issuing.key), (true, false));
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Signing);
    is_taken(&realm, &parties, &["edge"]).await;
    realm.pass(DAY * 2 + MINUTE * 6);
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Retired);
    let outlook = realm.authority.outlook(&ca_id()).unwrap();
    assert!(outlook.evidence.revoked.contains(&outlook.standing.generations[0].issuing.certificate));
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Destroyed);
    // The root's key signs on; the old issuing CA's is gone.
    let keys = realm.keys(1);
    assert_eq!(keys.iter().filter(|key| realm.holder.has(key)).count(), 1);
    realm.pass(DAY * 8);
    realm.authority.round().await;
    is_taken(&realm, &parties, &["edge"]).await;
}
