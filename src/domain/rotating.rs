//! A private CA's rotation out of the state: how it stands, and what is known.
//!
//! The register is the one truth. Refuses to know what has to be counted: leaves, and what stands in revocation lists.

use crate::domain::id::CaId;
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, CaKey, GenerationId, Keeper, Phase};
use crate::domain::rotation::{
    Acknowledgement, Cross, DistrustAll, Evidence, Generation, Member, New, Piece, PieceOn, Published, Standing,
};
use crate::domain::state::State;
use crate::domain::time::Timestamp;

/// The pieces of one CA.
fn pieces<'a>(state: &'a State, ca: &'a CaId) -> impl Iterator<Item = (&'a PieceOn, &'a Piece)> {
    state.pieces.iter().filter(move |(id, _)| id.ca == *ca).map(|(id, piece)| (&id.on, &**piece))
}

/// How a CA stands, out of the register. A generation that is not complete is not there yet.
#[must_use]
pub fn standing(state: &State, ca: &CaId) -> Standing {
    let own = state.generations.iter().filter(|(id, _)| id.ca == *ca);
    let generations: Vec<Generation> = own.filter_map(|(id, g)| generation(id, g)).collect();
    let made = generations.first().map_or(Timestamp::MIN, |g| g.times.made);
    let (mut version, mut changed, mut crosses) = (0, made, Vec::new());
    for (on, piece) in pieces(state, ca) {
        match on {
            PieceOn::Bundle => (version, changed) = (piece.version.unwrap_or(0), piece.at),
            PieceOn::Cross(subject, issuer) => {
                if let (Some(certificate), Some((validity, _))) = (piece.digest, piece.cross()) {
                    crosses.push(Cross { subject: *subject, issuer: *issuer, certificate, validity });
                }
            }
            PieceOn::Published
            | PieceOn::Acknowledged(_)
            | PieceOn::Canary(..)
            | PieceOn::Dropped(..)
            | PieceOn::Revoked(_)
            | PieceOn::Asked
            | PieceOn::Rollback(_)
            | PieceOn::Compromised(_)
            | PieceOn::SignedOff(_)
            | PieceOn::Distrust => {}
        }
    }
    Standing { ca: ca.clone(), generations, version, changed, crosses }
}

fn generation(id: &GenerationId, own: &CaGeneration) -> Option<Generation> {
    let Phase::Made(phase) = own.phase else { return None };
    let root = member(own.root.as_ref()?)?;
    let issuing = member(own.issuing.as_ref()?)?;
    Some(Generation { number: id.number, root, issuing, phase, times: own.times, abandoned: own.abandoned })
}

fn member(key: &CaKey) -> Option<Member> {
    let signed = key.certificate.as_ref()?;
    // Common names carry the generation and random bits; the rest of the distinguished name is configuration.
    let name = signed.common_name.clone();
    Some(Member { name, key: key.key, certificate: Digest::of(&signed.der), validity: signed.validity })
}

/// What is kept of the evidence. Leaves, lists and what stands in them are counted by whoever asks: that is not kept here.
#[must_use]
pub fn evidence(state: &State, ca: &CaId) -> Evidence {
    let mut all = Evidence::default();
    for (on, piece) in pieces(state, ca) {
        let bundle = piece.version.zip(piece.digest);
        match on {
            PieceOn::Bundle | PieceOn::Cross(..) | PieceOn::Revoked(_) => {}
            PieceOn::Published => all.published = bundle.map(|(version, digest)| Published { version, digest }),
            PieceOn::Acknowledged(party) => {
                let said = bundle.map(|(version, digest)| Acknowledgement { version, digest, at: piece.at });
                all.acknowledged.extend(said.map(|said| (party.clone(), said)));
            }
            PieceOn::Canary(party, n) => {
                all.canaries.extend(piece.canary().map(|canary| ((party.clone(), *n), canary)));
            }
            PieceOn::Dropped(party, n) => drop(all.dropped.insert((party.clone(), *n), piece.at)),
            PieceOn::Asked => all.asked = piece.order(),
            PieceOn::Rollback(n) => all.rollbacks.extend(piece.order().map(|order| (*n, order))),
            PieceOn::Compromised(n) => all.compromised.extend(piece.order().map(|order| (*n, order))),
            PieceOn::SignedOff(_) => all.signed_off.extend(piece.signed_off()),
            PieceOn::Distrust => {
                all.distrust = piece.by.clone().map(|by| DistrustAll { ca: ca.clone(), by, at: piece.at });
            }
        }
    }
    let keys = state.generations.iter().filter(|(id, _)| id.ca == *ca).flat_map(|(_, g)| g.keys());
    all.destroyed = keys.filter(|key| key.keeper == Keeper::Nobody).map(|key| key.key).collect();
    all
}

/// A complete generation, for [`crate::domain::rotation::admit`].
#[must_use]
pub fn admitted(id: &GenerationId, own: &CaGeneration) -> Option<New> {
    let Generation { number, root, issuing, .. } = generation(id, own)?;
    Some(New { number, root, issuing })
}

/// A generation after a step, as the register has it.
#[must_use]
pub fn moved(own: &CaGeneration, to: &Generation) -> CaGeneration {
    let phase = Phase::Made(to.phase);
    CaGeneration { phase, times: to.times, abandoned: to.abandoned, ..own.clone() }
}
