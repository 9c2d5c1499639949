//! Samples and strategies of what private CAs made.

use std::sync::Arc;

use keyward::domain::authority::RevocationReason;
use keyward::domain::id::ProfileId;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::register::{CaGeneration, CaKey, CaSigned, GenerationId, Issued, Keeper, ListMade, Phase};
use keyward::domain::rotation::{Piece, PieceId, Times};
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

fn full_piece() -> Piece {
    Piece {
        at: at(3),
        by: Some(Arc::from("ab12")),
        why: Some(Arc::from("the disk was sold")),
        version: Some(7),
        digest: Some(Digest([3; 32])),
        detail: Some(Arc::from("accepted")),
        der: Some(Arc::from([0, 1, 255].as_slice())),
    }
}

/// Every kind of change with every field, absent and present, and one over the other.
pub fn every_change() -> Vec<Change> {
    let bare = CaGeneration::begun(at(0));
    let half = CaKey { certificate: None, list: None, keeper: Keeper::Holder, ..key(1) };
    let begun = CaGeneration { root: Some(half), ..bare.clone() };
    let times = Times {
        made: at(1),
        staged: Some(at(2)),
        signing: Some(at(3)),
        draining: None,
        retired: None,
        destroyed: None,
    };
    let full =
        CaGeneration { phase: Phase::SIGNING, times, abandoned: None, root: Some(key(1)), issuing: Some(key(2)) };
    let ended = Times { draining: Some(at(4)), retired: Some(at(5)), destroyed: Some(at(6)), ..times };
    let over = CaGeneration { phase: Phase::DESTROYED, times: ended, abandoned: Some(at(4)), ..full.clone() };
    let generation = |text: &str, g: &CaGeneration| Change::Generation(id(text), Arc::new(g.clone()));
    let piece = |id: &str, p: Option<Piece>| Change::Piece(PieceId::parse(id).unwrap(), p.map(Arc::new));
    let serial = |text: &str, i: Option<Issued>| Change::Issued(Arc::from(text), i.map(Arc::new));
    vec![
        generation("mesh/1", &bare),
        generation("mesh/1", &begun),
        generation("mesh/1", &full),
        generation("mesh/2", &full),
        generation("mesh/2", &over),
        generation("mesh/2", &begun),
        generation("other/1", &bare),
        serial("4f01", Some(issued(false))),
        serial("4f01", Some(issued(true))),
        serial("4f02", Some(issued(true))),
        serial("4f02", Some(Issued { spiffe: None, ..issued(false) })),
        serial("4f03", Some(issued(true))),
        serial("4f03", None),
        serial("never-there", None),
        piece("mesh/bundle", Some(Piece { version: Some(u64::MAX >> 1), ..Piece::at(at(1)) })),
        piece("mesh/asked", Some(full_piece())),
        piece("mesh/asked", Some(Piece { why: Some(Arc::from("another reason")), ..full_piece() })),
        piece("mesh/canary/web/2", Some(full_piece())),
        piece("mesh/canary/web/2", Some(Piece::at(at(2)))),
        piece("mesh/cross/2/1", Some(full_piece())),
        piece("mesh/cross/2/1", None),
        piece("other/distrust", None),
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
    let moment = || option::of(time());
    let times = (time(), moment(), moment(), moment(), moment(), moment()).prop_map(
        |(made, staged, signing, draining, retired, destroyed)| Times {
            made,
            staged,
            signing,
            draining,
            retired,
            destroyed,
        },
    );
    let generation = (phase, times, moment(), option::of(any_key().boxed()), option::of(any_key().boxed()))
        .prop_map(|(phase, times, abandoned, root, issuing)| CaGeneration { phase, times, abandoned, root, issuing });
    let bytes = option::of(any::<Vec<u8>>().prop_map(Arc::<[u8]>::from));
    let words = || option::of(text());
    let piece =
        (time(), words(), words(), option::of(0..=u64::MAX >> 1), option::of(any::<[u8; 32]>()), words(), bytes)
            .prop_map(|(at, by, why, version, digest, detail, der)| Piece {
                at,
                by,
                why,
                version,
                digest: digest.map(Digest),
                detail,
                der,
            });
    let piece_id = select(vec!["a/bundle", "a/acknowledged/web", "a/cross/2/1", "b.c/rollback/4294967295"])
        .prop_map(|id| PieceId::parse(id).unwrap());
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
        (piece_id, option::of(piece)).prop_map(|(id, piece)| Change::Piece(id, piece.map(Arc::new))).boxed(),
        (serial, option::of(issued)).prop_map(|(serial, issued)| Change::Issued(serial, issued.map(Arc::new))).boxed(),
    ]
    .boxed()
}
