//! The standing, recomputed from what was left in the world.

use super::{Cross, Generation, Member, Phase, Standing, Times};
use crate::domain::id::CaId;
use crate::domain::time::Timestamp;

/// What is left of a CA in the world: certificates, bundles, the records of what was signed, keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefacts {
    /// Which CA.
    pub ca: CaId,
    /// Its generations by number.
    pub generations: Vec<Artefact>,
    /// The version of the newest bundle that was published, and when that was.
    pub published: Option<(u64, Timestamp)>,
    /// Cross-signatures.
    pub crosses: Vec<Cross>,
}

/// What is left of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    /// Its number.
    pub number: u32,
    /// Its root.
    pub root: Member,
    /// Its issuing CA.
    pub issuing: Member,
    /// When it was made.
    pub made: Timestamp,
    /// When a bundle that lists it was first published.
    pub listed: Option<Timestamp>,
    /// When a bundle that lists it no longer was first published.
    pub unlisted: Option<Timestamp>,
    /// The times of its first and its last leaf, canaries left out.
    pub leaves: Option<(Timestamp, Timestamp)>,
    /// When it was rolled back.
    pub abandoned: Option<Timestamp>,
    /// When it was recorded that its keys are given up.
    pub destroyed: Option<Timestamp>,
}

/// The standing that these artefacts show. Where they lag behind what was decided, it is the standing before: its steps
/// are proposed again, and judged again. It never trusts less than what was published, and nothing signs in it that has
/// not signed before, but the only one there ever was.
#[must_use]
pub fn recompute(artefacts: &Artefacts) -> Standing {
    let signer = last_signer(&artefacts.generations);
    let generations: Vec<Generation> = artefacts
        .generations
        .iter()
        .map(|a| Generation {
            number: a.number,
            root: a.root.clone(),
            issuing: a.issuing.clone(),
            phase: phase(a, signer),
            times: times(a, signer),
            abandoned: a.abandoned,
        })
        .collect();
    let made = artefacts.generations.first().map_or(Timestamp::MIN, |a| a.made);
    let (version, changed) = artefacts.published.unwrap_or((0, made));
    Standing { ca: artefacts.ca.clone(), generations, version, changed, crosses: artefacts.crosses.clone() }
}

/// What signs is what signed last, of those that may.
fn last_signer(all: &[Artefact]) -> Option<&Artefact> {
    let may = |a: &&Artefact| a.listed.is_some() && a.unlisted.is_none() && a.destroyed.is_none();
    let last = |a: &Artefact| a.leaves.map(|(_, last)| (last, a.number));
    let signed = || all.iter().filter(may).filter(|a| a.leaves.is_some());
    // One that was rolled back may be all there is: better it than none.
    signed().filter(|a| a.abandoned.is_none()).max_by_key(|a| last(a)).or_else(|| signed().max_by_key(|a| last(a)))
}

fn phase(a: &Artefact, signer: Option<&Artefact>) -> Phase {
    if a.destroyed.is_some() {
        Phase::Destroyed
    } else if a.unlisted.is_some() || (a.abandoned.is_some() && a.listed.is_none()) {
        Phase::Retired
    } else if a.listed.is_none() {
        Phase::Standby
    } else if signer.is_some_and(|s| s.number == a.number) {
        Phase::Signing
    } else if a.leaves.is_some() || a.abandoned.is_some() {
        Phase::Draining
    } else {
        Phase::Staged
    }
}

fn times(a: &Artefact, signer: Option<&Artefact>) -> Times {
    let began = a.leaves.map(|(first, _)| first);
    // It ceased to sign after its last leaf, and before the first one of what signs now, if that is newer.
    let ceased = || {
        let own = a.leaves.map(|(_, last)| last);
        let next = signer.filter(|s| s.number > a.number).and_then(|s| s.leaves).map(|(first, _)| first);
        own.max(next).max(a.abandoned).or(a.listed)
    };
    let phase = phase(a, signer);
    let retired = a.unlisted.or_else(|| (phase == Phase::Retired).then_some(a.abandoned).flatten());
    Times {
        made: a.made,
        staged: a.listed,
        signing: began,
        draining: (phase >= Phase::Draining && a.listed.is_some()).then(ceased).flatten(),
        retired,
        destroyed: a.destroyed,
    }
}
