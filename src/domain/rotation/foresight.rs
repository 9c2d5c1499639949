//! A rotation played through over the inventory, before anything is done: who would break at each phase.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gate::{drain_span, newest_that_signed};
use super::step::under_way;
use super::{Facts, Generation, Phase, Standing};
use crate::domain::id::RelyingPartyId;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// What is out there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The anchors that each relying party trusts: the SHA-256 of their certificates, as it was seen or acknowledged. A
    /// party that is not here trusts nothing that we know of.
    pub trusts: BTreeMap<RelyingPartyId, BTreeSet<Digest>>,
    /// The leaves that have not expired.
    pub leaves: Vec<HeldLeaf>,
}

/// A leaf, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLeaf {
    /// For people: whose it is.
    pub holder: Arc<str>,
    /// What generation it is of.
    pub generation: u32,
    /// It ends then.
    pub ends: Timestamp,
}

/// What a phase does if it comes at the time that is foreseen, with the world as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// Which generation.
    pub generation: u32,
    /// Into which phase it goes.
    pub phase: Phase,
    /// Not before then.
    pub at: Timestamp,
    /// Who would break. The gate of this phase waits for these, so that they do not.
    pub breaks: Vec<Break>,
}

/// Somebody who would be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// It does not trust this generation, and would refuse all of its leaves.
    Refuses {
        /// Who.
        party: RelyingPartyId,
        /// Who is told.
        owner: Arc<str>,
        /// Whose leaves.
        generation: u32,
    },
    /// Its leaf would be refused before it ends.
    LeftBehind(HeldLeaf),
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuses { party, owner, generation } => {
                write!(f, "{party} (owner {owner}) does not trust generation {generation}, and would refuse its leaves")
            }
            Self::LeftBehind(HeldLeaf { holder, generation, ends }) => {
                write!(f, "{holder} has a leaf of generation {generation} until {ends}, and would be refused")
            }
        }
    }
}

/// Plays the next rotation through, from the standing on: the one that is under way, or that which comes next.
#[must_use]
pub fn plan(standing: &Standing, inventory: &Inventory, facts: Facts<'_>) -> Vec<Foreseen> {
    let next = under_way(standing, facts);
    let current = newest_that_signed(standing);
    let number =
        next.map_or_else(|| standing.generations.last().map_or(1, |g| g.number.saturating_add(1)), |g| g.number);
    let due = |at: fn(&Generation) -> Timestamp| current.map_or(facts.now, |g| at(g).max(facts.now));
    let activated = due(Generation::activate_at);
    let mut out = Vec::new();
    let mut put = |generation, phase, at, breaks| out.push(Foreseen { generation, phase, at, breaks });
    if next.is_none() {
        put(number, Phase::Standby, due(Generation::prepare_at), Vec::new());
    }
    if next.is_none_or(|g| g.phase == Phase::Standby) {
        // A bundle that grows refuses nobody.
        put(number, Phase::Staged, due(Generation::prepare_at), Vec::new());
    }
    let refusing = if current.is_some() { refusing(number, next, inventory, facts) } else { Vec::new() };
    put(number, Phase::Signing, activated, refusing.clone());
    for old in standing.generations.iter().filter(|g| matches!(g.phase, Phase::Signing | Phase::Draining)) {
        let begins = if old.phase == Phase::Signing { None } else { old.times.draining };
        if begins.is_none() {
            put(old.number, Phase::Draining, activated, Vec::new());
        }
        let at = begins.unwrap_or(activated).plus(drain_span(facts)).max(facts.now);
        // Leaves are replaced by the generation that signs then: those that are there at this time are left behind.
        let left = |leaf: &&HeldLeaf| leaf.generation == old.number && leaf.ends.plus(facts.setting.skew) >= at;
        let mut breaks: Vec<Break> = inventory.leaves.iter().filter(left).cloned().map(Break::LeftBehind).collect();
        if begins.is_none() {
            breaks.extend(refusing.iter().cloned());
        }
        put(old.number, Phase::Retired, at, breaks);
        put(old.number, Phase::Destroyed, at, Vec::new());
    }
    out.sort_by_key(|f| (f.at, f.phase));
    out
}

/// The parties that do not trust the generation that is to sign. One that is not made yet is trusted by nobody.
fn refusing(number: u32, next: Option<&Generation>, inventory: &Inventory, facts: Facts<'_>) -> Vec<Break> {
    let trusts = |party: &RelyingPartyId| {
        let anchors = inventory.trusts.get(party);
        next.zip(anchors).is_some_and(|(next, anchors)| anchors.contains(&next.root.certificate))
    };
    let refusing = facts.setting.parties.iter().filter(|(party, _)| !trusts(party));
    refusing
        .map(|(party, about)| Break::Refuses { party: party.clone(), owner: about.owner.clone(), generation: number })
        .collect()
}
