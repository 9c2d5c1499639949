//! What relying parties on this machine go by: a CA's anchors and lists, and what was revoked in this very moment.
//!
//! A list tells others what is revoked once the key holder has signed it. Whoever runs in this process need not wait for
//! that: the register says so at once, also while no list can be made.

use std::collections::{BTreeSet, VecDeque};

use crate::domain::id::CaId;
use crate::domain::key::{Digest, from_hex};
use crate::domain::register::{GenerationId, Phase};
use crate::domain::rotation::PieceOn;
use crate::domain::state::{Change, LatchOn};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::authority::make::Place;
use crate::engine::authority::{Authority, Denied};
use crate::ports::{Doing, HostError, Relied, Trust};

/// So many moves are remembered: whoever looks ten times a second misses none.
const MOST_MOVES: usize = 256;

/// When trust moved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    count: u64,
    /// The last of them, the newest last.
    last: VecDeque<Boottime>,
}

/// How a leaf stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafStanding {
    /// It can be used.
    Good,
    /// The one who signed it signs no more: another one is due.
    Superseded,
    /// It is revoked, its key is in other hands, or its CA is not trusted any more.
    Distrusted,
}

/// Whether a change takes trust away, or gives it.
pub(crate) fn moves_trust(change: &Change) -> bool {
    match change {
        Change::Issued(_, Some(issued)) => issued.revoked.is_some(),
        Change::Generation(..) => true,
        Change::Latch(on, _) => matches!(on, LatchOn::Key(_)),
        // What else a rotation knows moves nothing; what comes of it is a phase.
        Change::Piece(id, Some(_)) => matches!(id.on, PieceOn::Compromised(_)),
        Change::Issued(_, None)
        | Change::Credential(..)
        | Change::Forget(_)
        | Change::Attempt(_)
        | Change::AttemptEnded(_)
        | Change::Issuer(..)
        | Change::Bucket(..)
        | Change::AutomaticIssuance(..)
        | Change::Clock(_)
        | Change::Freeze(..)
        | Change::Account(..)
        | Change::Order(..)
        | Change::Piece(_, None)
        // One that is compromised is latched too, if anybody could have a certificate for it.
        | Change::Key(..) => false,
    }
}

impl Moves {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn note(&mut self, at: Boottime) {
        self.count = self.count.saturating_add(1);
        if self.last.len() >= MOST_MOVES {
            self.last.pop_front();
        }
        self.last.push_back(at);
    }

    /// The first one after so many.
    fn after(&self, count: u64) -> Option<Boottime> {
        let missed = usize::try_from(self.count.checked_sub(count)?).unwrap_or(usize::MAX);
        self.last.get(self.last.len().saturating_sub(missed)).copied()
    }
}

impl Trust for Authority {
    fn moved(&self) -> u64 {
        self.engine.read().trust_moves.count
    }

    fn moved_after(&self, count: u64) -> Option<Boottime> {
        self.engine.read().trust_moves.after(count)
    }

    fn relied<'a>(&'a self, ca: &'a CaId) -> Doing<'a, Result<Relied, HostError>> {
        Box::pin(async move { self.trusted_now(ca).await.map_err(|e| HostError(format!("{}: {e}", e.code()))) })
    }
}

impl Authority {
    /// What is trusted of a CA now. A list that is missing is left out: whoever asks for one of every CA refuses then.
    async fn trusted_now(&self, ca: &CaId) -> Result<Relied, Denied> {
        let ca = self.ca(ca)?;
        let mut listed: Vec<(GenerationId, Place)> = Vec::new();
        let (mut roots, mut blocked) = (Vec::new(), BTreeSet::new());
        let mut revoked: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let moved = {
            let desk = self.engine.read();
            for (id, generation) in desk.state.generations.iter().filter(|(id, _)| id.ca == ca.id) {
                if generation.phase.is_trusted() {
                    roots.extend(generation.anchor().cloned());
                    for place in Place::BOTH {
                        let signs = place.of(generation).is_some_and(|key| key.certificate.is_some());
                        listed.extend(signs.then(|| (id.clone(), place)));
                    }
                }
            }
            let gone = desk.state.issued.iter().filter(|(_, i)| i.revoked.is_some() && i.generation.ca == ca.id);
            revoked.extend(gone.filter_map(|(serial, _)| from_hex(serial).map(Into::into)));
            let keys = desk.state.latches.keys().filter_map(|on| match on {
                LatchOn::Key(key) => Some(*key),
                LatchOn::Path(_) | LatchOn::Log => None,
            });
            blocked.extend(keys);
            desk.trust_moves.count
        };
        let mut lists = Vec::with_capacity(listed.len());
        for (id, place) in &listed {
            // One that is being replaced lies there already, or the one before it still does: both are signed.
            lists.extend(self.published(id, *place).await.ok());
        }
        let whole = lists.len() == listed.len();
        let bundle = if roots.is_empty() { None } else { Some(self.mint.bundle(&roots)?.1) };
        let parts: Vec<Digest> = [Digest::of(b"roots")]
            .into_iter()
            .chain(roots.iter().map(|r| Digest::of(r)))
            .chain([Digest::of(b"lists")])
            .chain(lists.iter().map(|l| Digest::of(l)))
            .chain([Digest::of(b"revoked")])
            .chain(revoked.iter().map(|serial| Digest::of(serial)))
            .chain([Digest::of(b"blocked")])
            .chain(blocked.iter().copied())
            .collect();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.0).collect();
        Ok(Relied { roots, bundle, lists, whole, revoked, blocked, digest: Digest::of(&bytes), moved })
    }

    /// How something that was issued here stands, by its serial number.
    #[must_use]
    pub fn leaf_standing(&self, serial: &str, now: Timestamp) -> LeafStanding {
        let desk = self.engine.read();
        let Some(issued) = desk.state.issued.get(serial) else { return LeafStanding::Distrusted };
        let phase = desk.state.generations.get(&issued.generation).map(|g| g.phase);
        let blocked = desk.state.latches.contains_key(&LatchOn::Key(issued.spki));
        let trusted = phase.is_some_and(Phase::is_trusted);
        if issued.revoked.is_some() || blocked || !trusted || !issued.validity.contains(now) {
            return LeafStanding::Distrusted;
        }
        if phase == Some(Phase::SIGNING) { LeafStanding::Good } else { LeafStanding::Superseded }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn the_first_move_that_was_missed_is_found_also_when_it_is_long_past() {
        let at = |n: u64| Boottime::from_boot(Duration::from_secs(n));
        let mut moves = Moves::default();
        assert_eq!(moves.after(0), None);
        for n in 1..=1_000 {
            moves.note(at(n));
            assert_eq!((moves.after(n - 1), moves.after(n)), (Some(at(n)), None));
        }
        assert_eq!(moves.after(990), Some(at(991)));
        assert_eq!(moves.after(0), Some(at(745)), "the oldest that is remembered");
    }
}
