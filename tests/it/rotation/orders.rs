//! What people order: rollbacks, emergencies, cross-signatures, distrust.

use std::sync::Arc;
use std::time::Duration;

use keyward::codec::verify::{self, Roots};
use keyward::domain::authority::Wish;
use keyward::domain::certificate::Trust;
use keyward::domain::id::ProfileId;
use keyward::domain::key::Digest;
use keyward::domain::name::NameSet;
use keyward::domain::register::GenerationId;
use keyward::domain::rotation::{Phase, Shows};
use keyward::domain::spiffe::SpiffeId;
use keyward::domain::time::{DAY, HOUR, MINUTE};
use keyward::engine::authority::{Denied, Place};

use super::{ID, is_taken};
use crate::harness::rotation::{Parties, Realm, ca_id};

async fn begun(parties: &[(&str, Shows)]) -> (Realm, Arc<Parties>) {
    let (realm, relying) = Realm::new(parties).await;
    realm.made().await;
    for (id, shows) in parties {
        match shows {
            Shows::Canary => realm.take(&relying, id).await,
            Shows::Both | Shows::Word => realm.acknowledge(&relying, id).await,
        }
    }
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Staged);
    (realm, relying)
}

#[tokio::test]
async fn a_staged_generation_is_rolled_back_and_drains() {
    let (realm, parties) = begun(&[("edge", Shows::Both)]).await;
    realm.authority.roll_back(&ca_id(), 2, "not now", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Draining)]);
    is_taken(&realm, &parties, &["edge"]).await;
    realm.acknowledge(&parties, "edge").await;
    for _ in 0..3 {
        realm.pass(DAY * 2);
        realm.authority.round().await;
        realm.acknowledge(&parties, "edge").await;
        is_taken(&realm, &parties, &["edge"]).await;
    }
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Destroyed)], "nothing new is begun unasked");
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phase(3), Phase::Staged);
}

#[tokio::test]
async fn a_signing_generation_is_rolled_back_to_the_one_before_and_both_stay_trusted() {
    let (realm, parties) = begun(&[("edge", Shows::Both)]).await;
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
    let new = realm.issue(ID).await.unwrap();
    realm.pass(DAY);
    realm.authority.roll_back(&ca_id(), 2, "the portal fails", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Draining)]);
    is_taken(&realm, &parties, &["edge"]).await;
    assert!(parties.lock().values().all(|p| p.accepts(&new.chain)), "a rollback never shrinks trust");
    // The old one is not what a rollback is about.
    let refused = realm.authority.roll_back(&ca_id(), 1, "x", "somebody").await;
    assert!(matches!(refused, Err(Denied::Rotation(_))), "{refused:?}");
}

#[tokio::test]
async fn a_compromise_makes_the_replacement_first_and_waits_for_who_saw_what_breaks() {
    let (realm, parties) = Realm::new(&[("edge", Shows::Both), ("vault", Shows::Word)]).await;
    realm.made().await;
    for id in ["edge", "vault"] {
        realm.acknowledge(&parties, id).await;
    }
    let leaf = realm.issue(ID).await.unwrap();
    realm.pass(HOUR);
    realm.authority.compromised(&ca_id(), 1, "the backup was stolen", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Staged)]);
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Staged)], "nobody has signed anything off");
    let breaks = realm.authority.breakage(&ca_id()).unwrap().unwrap();
    assert_eq!((breaks.leaves, breaks.parties.len()), (1, 1), "{breaks}");
    let other = realm.authority.sign_off(&ca_id(), Digest([1; 32]), "somebody").await;
    assert!(matches!(other, Err(Denied::OtherBreakage(_))), "{other:?}");
    assert_eq!(realm.phase(1), Phase::Signing);
    // After a restart the same list is shown, and the sign-off outlives it.
    realm.authority.sign_off(&ca_id(), breaks.digest(), "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
    // Whoever still trusts its key is not cut off by a block that nobody has seen.
    assert!(!realm.keys(1).into_iter().any(|key| realm.authority.is_compromised(key)));
    // Its leaves are counted once more, after it ceased to sign.
    realm.pass(Duration::from_secs(2));
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Retired), (2, Phase::Signing)]);
    assert!(realm.keys(1).into_iter().all(|key| realm.authority.is_compromised(key)), "its keys are not blocked");
    is_taken(&realm, &parties, &["edge"]).await;
    realm.acknowledge(&parties, "edge").await;
    realm.acknowledge(&parties, "vault").await;
    assert!(!parties.lock().values().any(|p| p.accepts(&leaf.chain)), "its leaves are still taken");
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Destroyed);
    // Without a compromise nobody can sign anything off.
    let none = realm.authority.sign_off(&ca_id(), breaks.digest(), "somebody").await;
    assert!(matches!(none, Err(Denied::NothingToSignOff(_))), "{none:?}");
}

/// The public key of a generation's issuing CA.
fn public_key(realm: &Realm, number: u32) -> Arc<[u8]> {
    let id = GenerationId { ca: ca_id(), number };
    let certificate = realm.authority.ca_certificate(&id, Place::Issuing).unwrap();
    realm.authority.mint().public_key(&certificate).unwrap()
}

async fn certified(realm: &Realm, spki: Arc<[u8]>) -> Result<(), Denied> {
    let wish = Wish { names: NameSet::default(), spiffe: SpiffeId::parse(ID), spki, lifetime: None };
    let profile = ProfileId::parse("workload").unwrap();
    realm.authority.issue(&ca_id(), &profile, &wish, "a test").await.map(drop)
}

#[tokio::test]
async fn an_old_generation_is_revoked_and_its_keys_are_never_certified_again() {
    let (mut realm, parties) = begun(&[("edge", Shows::Both)]).await;
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
    let needed = realm.authority.revoke_generation(&ca_id(), 2, "ca-compromise", "somebody").await;
    assert!(matches!(needed, Err(Denied::Needed(..))), "{needed:?}");
    let unknown = realm.authority.revoke_generation(&ca_id(), 3, "ca-compromise", "somebody").await;
    assert!(matches!(unknown, Err(Denied::Rotation(_))), "{unknown:?}");
    realm.authority.revoke_generation(&ca_id(), 1, "ca-compromise", "somebody").await.unwrap();
    realm.authority.round().await;
    // It has leaves, perhaps: somebody has to see that they are refused from now on.
    assert_eq!(realm.phase(1), Phase::Draining);
    let breaks = realm.authority.breakage(&ca_id()).unwrap().unwrap();
    realm.authority.sign_off(&ca_id(), breaks.digest(), "somebody").await.unwrap();
    realm.pass(Duration::from_secs(2));
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Retired), (2, Phase::Signing)]);
    let gone = realm.authority.revoke_generation(&ca_id(), 1, "ca-compromise", "somebody").await;
    assert!(matches!(gone, Err(Denied::Gone(..))), "{gone:?}");
    let spki = public_key(&realm, 1);
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    realm.restart().await;
    assert_eq!(realm.phase(1), Phase::Destroyed);
    let refused = certified(&realm, spki.clone()).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("said to be compromised"), "{said}");
    assert!(realm.authority.is_compromised(Digest::of(&spki)));
    is_taken(&realm, &parties, &["edge"]).await;
}

#[tokio::test]
async fn a_new_generation_is_revoked_before_it_signs_and_the_one_that_signs_goes_on() {
    let (realm, parties) = begun(&[("edge", Shows::Both)]).await;
    realm.authority.revoke_generation(&ca_id(), 2, "key-compromise", "somebody").await.unwrap();
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Signing), (2, Phase::Draining)]);
    is_taken(&realm, &parties, &["edge"]).await;
    assert!(!realm.keys(2).into_iter().any(|key| realm.authority.is_compromised(key)));
    realm.pass(DAY * 2 + MINUTE * 6);
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Retired);
    assert!(realm.keys(2).into_iter().all(|key| realm.authority.is_compromised(key)));
    is_taken(&realm, &parties, &["edge"]).await;
}

#[tokio::test]
async fn a_generation_below_the_root_of_the_one_that_signs_is_not_revoked_by_itself() {
    let (mut realm, parties) = Realm::new(&[("edge", Shows::Both)]).await;
    realm.renew_issuing_only();
    realm.restart().await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "somebody").await.unwrap();
    realm.authority.round().await;
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Draining), (2, Phase::Signing)]);
    let needed = realm.authority.revoke_generation(&ca_id(), 1, "ca-compromise", "somebody").await.unwrap_err();
    assert!(needed.to_string().contains("shares a key"), "{needed}");
    // Said anyway, both go once a third one signs; only what was said to be in other hands is blocked.
    realm.authority.compromised(&ca_id(), 1, "the backup was stolen", "somebody").await.unwrap();
    realm.authority.round().await;
    realm.acknowledge(&parties, "edge").await;
    let breaks = realm.authority.breakage(&ca_id()).unwrap().unwrap();
    realm.authority.sign_off(&ca_id(), breaks.digest(), "somebody").await.unwrap();
    realm.authority.round().await;
    realm.pass(Duration::from_secs(2));
    realm.authority.round().await;
    assert_eq!(realm.phases(), [(1, Phase::Retired), (2, Phase::Retired), (3, Phase::Signing)]);
    let blocked = |number| realm.keys(number).into_iter().filter(|key| realm.authority.is_compromised(*key)).count();
    assert_eq!((blocked(1), blocked(2), blocked(3)), (2, 1, 0), "the second has the root of the first");
}

#[tokio::test]
async fn everything_is_distrusted_only_by_the_name_of_the_ca() {
    let (realm, parties) = Realm::new(&[("edge", Shows::Both)]).await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    realm.pass(HOUR);
    let other = realm.authority.distrust_all(&ca_id(), "mesk", "somebody").await;
    assert!(matches!(other, Err(Denied::NotMeant(_))), "{other:?}");
    realm.authority.round().await;
    assert!(!realm.authority.bundle(&ca_id()).unwrap().pem.is_empty());
    realm.authority.distrust_all(&ca_id(), "mesh", "somebody").await.unwrap();
    realm.authority.round().await;
    let bundle = realm.authority.bundle(&ca_id()).unwrap();
    assert!(!bundle.pem.contains("BEGIN CERTIFICATE"), "{}", bundle.pem);
    assert_eq!(realm.phase(1), Phase::Retired);
    assert!(realm.issue(ID).await.is_err());
}

#[tokio::test]
async fn a_cross_signature_lets_whoever_trusts_the_old_root_take_new_leaves() {
    let (realm, parties) = begun(&[("edge", Shows::Both)]).await;
    let early = realm.authority.cross_sign(&ca_id(), 1, 2, "somebody").await;
    assert!(matches!(early, Err(Denied::Rotation(_))), "the new one has not passed its gate: {early:?}");
    realm.authority.cross_sign(&ca_id(), 2, 1, "somebody").await.unwrap();
    let again = realm.authority.cross_sign(&ca_id(), 2, 1, "somebody").await;
    assert!(matches!(again, Err(Denied::Rotation(_))), "{again:?}");
    realm.acknowledge(&parties, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Signing);
    let given = realm.issue(ID).await.unwrap();
    assert_eq!(given.chain.len(), 3, "the leaf, its CA, and the cross-signature");
    let outlook = realm.authority.outlook(&ca_id()).unwrap();
    let old = outlook.standing.generations[0].root.certificate;
    let pem = realm.shelf.get("mesh.pem").await.unwrap().unwrap();
    let all = keyward::codec::x509::certificates_from(&pem, &keyward::codec::x509::Limits::ROOTS).unwrap();
    let mut roots = Roots::default();
    roots.add(all.iter().find(|der| Digest::of(der) == old).unwrap()).unwrap();
    let chain = verify::chain(&given.chain, &roots).unwrap();
    assert_eq!(chain.trust, Trust::Anchored);
    // When the old root goes, so does what it certified: it stands in no chain any more.
    realm.pass(DAY * 2 + MINUTE * 6);
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Retired);
    assert_eq!(realm.issue(ID).await.unwrap().chain.len(), 2);
}

#[tokio::test]
async fn the_plan_names_who_would_break_and_starts_nothing() {
    let (realm, parties) = Realm::new(&[("edge", Shows::Both), ("vault", Shows::Word)]).await;
    realm.made().await;
    realm.acknowledge(&parties, "edge").await;
    let (_, foreseen) = realm.authority.foresee(&ca_id()).unwrap();
    let signing = foreseen.iter().find(|f| f.phase == Phase::Signing).unwrap();
    assert_eq!((signing.generation, signing.breaks.len()), (2, 2), "{foreseen:#?}");
    assert_eq!(realm.phases(), [(1, Phase::Signing)]);
}

#[tokio::test]
async fn who_is_not_a_relying_party_or_names_another_bundle_acknowledges_nothing() {
    let (realm, _) = Realm::new(&[("edge", Shows::Both)]).await;
    realm.made().await;
    let bundle = realm.authority.bundle(&ca_id()).unwrap();
    let say = |id: &'static str, version, digest| {
        let authority = realm.authority.clone();
        async move { authority.acknowledge(&ca_id(), &crate::harness::rotation::party(id), version, digest, None).await }
    };
    assert!(matches!(say("other", bundle.version, bundle.digest).await, Err(Denied::UnknownParty(..))));
    assert!(matches!(say("edge", bundle.version + 1, bundle.digest).await, Err(Denied::OtherBundle { .. })));
    assert!(matches!(say("edge", bundle.version, Digest([0; 32])).await, Err(Denied::OtherBundle { .. })));
    say("edge", bundle.version, bundle.digest).await.unwrap();
}
