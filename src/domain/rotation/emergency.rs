//! A key in other hands: the replacement comes first, a person sees what breaks and signs it off, the drain is skipped.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::gate::missing;
use super::{Evidence, Facts, Generation, Phase, Standing};
use crate::domain::id::RelyingPartyId;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// The generations that nobody may rely on: those said to be compromised, and all below the same root or of the same key.
#[must_use]
pub fn compromised(standing: &Standing, evidence: &Evidence) -> BTreeSet<u32> {
    if evidence.compromised.is_empty() {
        return BTreeSet::new();
    }
    let said = || standing.generations.iter().filter(|g| evidence.compromised.contains_key(&g.number));
    let keys: BTreeSet<Digest> = said().flat_map(|g| [g.root.key, g.issuing.key]).collect();
    let hit = |g: &&Generation| keys.contains(&g.root.key) || keys.contains(&g.issuing.key);
    standing.generations.iter().filter(hit).map(|g| g.number).collect()
}

/// What breaks if the compromised generations go at once, and `replacement` signs in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakage {
    /// What signs from then on.
    pub replacement: u32,
    /// The compromised generations that are still trusted.
    pub generations: BTreeSet<u32>,
    /// Parties that may refuse every new leaf: they have not shown that they trust the replacement.
    pub parties: BTreeSet<RelyingPartyId>,
    /// Leaves that will be refused before they expire, as far as they are known.
    pub leaves: u64,
    /// The last of them would have ended then.
    pub until: Option<Timestamp>,
    /// Generations whose leaves nobody has counted.
    pub uncounted: BTreeSet<u32>,
}

/// Somebody saw what breaks, and wants it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOff {
    /// Who.
    pub by: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// What was shown to them.
    pub shown: Breakage,
}

impl Breakage {
    /// Whether this is no worse than what was shown: the world may have become better in the meantime, not worse.
    #[must_use]
    pub fn is_within(&self, shown: &Self) -> bool {
        self.replacement == shown.replacement
            && self.generations.is_subset(&shown.generations)
            && self.parties.is_subset(&shown.parties)
            && self.uncounted.is_subset(&shown.uncounted)
            && self.leaves <= shown.leaves
            && self.until <= shown.until
    }

    /// Names exactly this list, for questions and records.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(format!("keyward breakage\n{self}").as_bytes())
    }

    /// Who signed off this or worse.
    pub(super) fn signed_off<'a>(&self, evidence: &'a Evidence) -> Option<&'a SignOff> {
        evidence.signed_off.iter().find(|s| !s.by.is_empty() && self.is_within(&s.shown))
    }
}

impl fmt::Display for Breakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |set: &BTreeSet<u32>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "generation {} replaces {}", self.replacement, numbers(&self.generations))?;
        write!(f, "; {} leaves are refused before they expire", self.leaves)?;
        if let Some(until) = self.until {
            write!(f, ", the last of them would have ended {until}")?;
        }
        if !self.uncounted.is_empty() {
            write!(f, "; nobody has counted the leaves of generation {}", numbers(&self.uncounted))?;
        }
        if !self.parties.is_empty() {
            let parties: Vec<&str> = self.parties.iter().map(RelyingPartyId::as_str).collect();
            write!(f, "; these may refuse every new leaf: {}", parties.join(", "))?;
        }
        Ok(())
    }
}

/// What breaks now if the compromised generations go at once.
#[must_use]
pub fn breakage(standing: &Standing, replacement: &Generation, facts: Facts<'_>) -> Breakage {
    let mut breaks = Breakage {
        replacement: replacement.number,
        generations: BTreeSet::new(),
        // A canary's age does not count here: what is shown to a person must not grow by mere waiting.
        parties: missing(standing, replacement, None, facts).into_iter().map(|m| m.party).collect(),
        leaves: 0,
        until: None,
        uncounted: BTreeSet::new(),
    };
    let bad = compromised(standing, facts.evidence);
    for g in standing.generations.iter().filter(|g| g.phase.is_trusted() && bad.contains(&g.number)) {
        breaks.generations.insert(g.number);
        // A count from before it ceased to sign may lack the last ones.
        let ceased = g.times.draining.filter(|_| g.phase == Phase::Draining);
        let counted = facts.evidence.leaves.get(&g.number).filter(|l| ceased.is_none_or(|at| l.looked > at));
        match counted {
            Some(leaves) => {
                breaks.leaves = breaks.leaves.saturating_add(leaves.count());
                breaks.until = breaks.until.max(leaves.latest);
            }
            None => {
                breaks.uncounted.insert(g.number);
            }
        }
    }
    breaks
}
