//! Samples and strategies of what private CAs made.

use std::sync::Arc;

use keyward::domain::authority::RevocationReason;
use keyward::domain::id::ProfileId;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::register::{CaGeneration, CaKey, CaSigned, GenerationId, Issued, Keeper, ListMade, Phase};
use keyward::domain::spiffe::SpiffeId;
use keyward::domain::state::Change;
use keyward::domain::time::Validity;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::random::{names, text, time};
use super::samples::at;

fn key(n: u8) -> CaKey {
    CaKey {
        key: Digest([n; 32]),
        algorithm: KeyAlgorithm::P384,
        keeper: Keeper::Offline,
        certificate: Some(CaSigned {
            der: Arc::from([n, 0, 255].as_slice()),
            common_name: Arc::from("Mesh Root 1"),
            serial: Arc::from("4f"),
            validity: Validity { not_before: at(1), not_after: at(2) },
        }),
        list: Some(ListMade { number: u64::MAX >> 1, this_update: at(3), next_update: at(4), digest: Digest([9; 32]) }),
    }
}

fn issued(revoked: bool) -> Issued {
    Issued {
        generation: id("mesh/1"),
        profile: ProfileId::parse("workload").unwrap(),
        names: super::samples::names(&["a.example.org", "10.0.0.1"]),
        spiffe: SpiffeId::parse("spiffe://mesh.example/web"),
        spki: Digest([7; 32]),
        validity: Validity { not_before: at(1), not_after: at(9) },
        at: at(2),
        fingerprint: revoked.then_some(Digest([8; 32])),
        revoked: revoked.then_some((at(5), RevocationReason::KeyCompromise)),
    }
}

fn id(text: &str) -> GenerationId {
    GenerationId::parse(text).unwrap()
}

/// Every kind of change with every field, absent and present, and one over the other.
pub fn every_change() -> Vec<Change> {
    let bare = CaGeneration { phase: Phase::Making, since: at(0), root: None, issuing: None };
    let half = CaKey { certificate: None, list: None, keeper: Keeper::Holder, ..key(1) };
    let begun = CaGeneration { root: Some(half), ..bare.clone() };
    let full = CaGeneration { phase: Phase::SIGNING, since: at(6), root: Some(key(1)), issuing: Some(key(2)) };
    let generation = |text: &str, g: &CaGeneration| Change::Generation(id(text), Arc::new(g.clone()));
    let serial = |text: &str, i: Option<Issued>| Change::Issued(Arc::from(text), i.map(Arc::new));
    vec![
        generation("mesh/1", &bare),
        generation("mesh/1", &begun),
        generation("mesh/1", &full),
        generation("mesh/2", &full),
        generation("mesh/2", &begun),
        generation("other/1", &bare),
        serial("4f01", Some(issued(false))),
        serial("4f01", Some(issued(true))),
        serial("4f02", Some(issued(true))),
        serial("4f02", Some(Issued { spiffe: None, ..issued(false) })),
        serial("4f03", Some(issued(true))),
        serial("4f03", None),
        serial("never-there", None),
    ]
}

fn signed() -> impl Strategy<Value = CaSigned> {
    (any::<Vec<u8>>(), text(), text(), time(), time()).prop_map(|(der, common_name, serial, not_before, not_after)| {
        CaSigned { der: Arc::from(der), common_name, serial, validity: Validity { not_before, not_after } }
    })
}

fn list() -> impl Strategy<Value = ListMade> {
    (0..=u64::MAX >> 1, time(), time(), any::<[u8; 32]>()).prop_map(|(number, this_update, next_update, digest)| {
        ListMade { number, this_update, next_update, digest: Digest(digest) }
    })
}

fn any_key() -> impl Strategy<Value = CaKey> {
    let algorithm = select(KeyAlgorithm::ALL.to_vec()).prop_map(|(algorithm, _)| algorithm);
    let keeper = select(Keeper::ALL.to_vec()).prop_map(|(keeper, _)| keeper);
    (any::<[u8; 32]>(), algorithm, keeper, option::of(signed()), option::of(list())).prop_map(
        |(key, algorithm, keeper, certificate, list)| CaKey { key: Digest(key), algorithm, keeper, certificate, list },
    )
}

pub fn change() -> BoxedStrategy<Change> {
    let generation_id = || select(vec!["a/1", "a/2", "b.c/4294967295"]).prop_map(id);
    let phase = select(Phase::all().collect::<Vec<_>>());
    let generation = (phase, time(), option::of(any_key().boxed()), option::of(any_key().boxed()))
        .prop_map(|(phase, since, root, issuing)| CaGeneration { phase, since, root, issuing });
    let reason = select(RevocationReason::ALL.to_vec()).prop_map(|(reason, ..)| reason);
    let spiffe = option::of(select(vec!["spiffe://a.example/x", "spiffe://b/y/z"]));
    let profile = select(vec!["workload", "x"]).prop_map(|id| ProfileId::parse(id).unwrap());
    let times = (time(), time(), time());
    let digests = (any::<[u8; 32]>(), option::of(any::<[u8; 32]>()));
    let issued = (generation_id(), profile, names(), spiffe, digests, times, option::of((time(), reason))).prop_map(
        |(generation, profile, names, spiffe, (spki, fingerprint), (not_before, not_after, at), revoked)| Issued {
            generation,
            profile,
            names,
            spiffe: spiffe.and_then(SpiffeId::parse),
            spki: Digest(spki),
            validity: Validity { not_before, not_after },
            at,
            fingerprint: fingerprint.map(Digest),
            revoked,
        },
    );
    let serial = select(vec!["4f", "5a", "\u{e9}"]).prop_map(Arc::from);
    prop_oneof![
        (generation_id(), generation).prop_map(|(id, generation)| Change::Generation(id, Arc::new(generation))).boxed(),
        (serial, option::of(issued)).prop_map(|(serial, issued)| Change::Issued(serial, issued.map(Arc::new))).boxed(),
    ]
    .boxed()
}
