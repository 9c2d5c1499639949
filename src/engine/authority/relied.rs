//! What relying parties on this machine go by: a CA's anchors and lists, and what was revoked in this very moment.
//!
//! A list tells others what is revoked once the key holder has signed it. Whoever runs in this process need not wait for
//! that: the register says so at once, also while no list can be made.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::id::CaId;
use crate::domain::key::{Digest, from_hex};
use crate::domain::register::{GenerationId, Phase};
use crate::domain::state::{Change, LatchOn};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::Engine;
use crate::engine::authority::make::Place;
use crate::engine::authority::{Authority, Denied};

/// What is trusted of a CA at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relied {
    /// Anchors (DER), the oldest first; empty if nothing is trusted.
    pub roots: Vec<Arc<[u8]>>,
    /// The digest that relying parties acknowledge; `None` if nothing is trusted.
    pub bundle: Option<Digest>,
    /// The newest revocation lists (DER) of everything that is trusted.
    pub lists: Vec<Arc<[u8]>>,
    /// Whether there is one of every CA.
    pub whole: bool,
    /// Serial numbers of what is revoked.
    pub revoked: BTreeSet<Box<[u8]>>,
    /// Keys (SHA-256 of the SubjectPublicKeyInfo) that are in other hands.
    pub blocked: BTreeSet<Digest>,
    /// Of all of it.
    pub digest: Digest,
}

/// When trust moved last: a number that only grows, and the time since boot at which it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    /// How often.
    pub count: u64,
    /// When, the last time.
    pub at: Duration,
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
        Change::Issued(_, None)
        | Change::Credential(..)
        | Change::Forget(_)
        | Change::Attempt(_)
        | Change::AttemptEnded(_)
        | Change::Issuer(..)
        | Change::Bucket(..)
        | Change::AutomaticIssuance(..)
        | Change::Clock(_)
        | Change::Freeze(..) => false,
    }
}

impl Engine {
    /// When trust in private CAs, what they issued, or a key moved last. Cheap.
    #[must_use]
    pub fn trust_moved(&self) -> Moved {
        self.read().trust_moved
    }
}

impl crate::engine::Desk {
    /// Trust moved in this moment.
    pub(crate) fn move_trust(&mut self, at: Boottime) {
        self.trust_moved = Moved { count: self.trust_moved.count.saturating_add(1), at: at.as_duration() };
    }
}

impl Authority {
    /// When trust moved last: whoever keeps a [`Relied`] asks for it again when this is another one.
    #[must_use]
    pub fn trust_moved(&self) -> Moved {
        self.engine.trust_moved()
    }

    /// What is trusted of a CA now. A list that is missing is left out: whoever asks for one of every CA refuses then.
    ///
    /// # Errors
    /// If no such CA is configured, or its lists cannot be read.
    pub async fn relied(&self, ca: &CaId) -> Result<Relied, Denied> {
        let ca = self.ca(ca)?;
        let mut listed: Vec<(GenerationId, Place)> = Vec::new();
        let (mut roots, mut blocked) = (Vec::new(), BTreeSet::new());
        let mut revoked: BTreeSet<Box<[u8]>> = BTreeSet::new();
        {
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
        }
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
        Ok(Relied { roots, bundle, lists, whole, revoked, blocked, digest: Digest::of(&bytes) })
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
