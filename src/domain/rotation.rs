//! The generations of one private CA, and how one takes over from the other without an outage.
//!
//! ```text
//! standby ─stage─▶ staged ─activate─▶ signing ─drain─▶ draining ─retire─▶ retired ─destroy─▶ destroyed
//!    │                │ abandon          │ abandon        ▲  │                ▲
//!    │                └──────────────────┴────────────────┘  └─resume─▶ signing
//!    └──────────────────────────── abandon ───────────────────────────────────┘
//! ```
//!
//! Timers and people propose ([`review`]), evidence decides ([`gate`]), and [`apply`] moves one generation by one phase:
//! one durable write. A generation is trusted while it is staged, signing or draining; of those that are signing, the
//! newest signs, so that each write by itself leaves exactly one signer. A rollback abandons the new generation, which
//! stays trusted and drains as any other does. What is still to be done in the world follows from the standing and the
//! evidence ([`due`]), so that a restart goes the same way as a normal run; and the standing itself follows from what was
//! left in the world ([`recompute`]).
//!
//! Refuses to know keys, bytes, sockets and the time; it is told.

mod emergency;
mod evidence;
mod foresight;
mod gate;
mod kept;
mod recovery;
mod review;
mod step;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::id::CaId;
use crate::domain::key::Digest;
use crate::domain::time::{DAY, Timestamp, Validity};

pub use self::emergency::{Breakage, SignOff, breakage, compromised};
pub use self::evidence::{
    Acknowledgement, Canary, DistrustAll, Evidence, Facts, Leaves, Order, Party, Published, Renewal, Setting, Shows,
};
pub use self::foresight::{Break, Foreseen, HeldLeaf, Inventory, plan};
pub use self::gate::{Grounds, Hold, Lack, Missing, gate};
pub use self::kept::{ACCEPTED, Piece, PieceId, PieceOn, REFUSED, is_over};
pub use self::recovery::{Artefact, Artefacts, recompute};
pub use self::review::{Effect, Finding, Held, Proposal, Proposed, Review, Why, due, review};
pub use self::step::{Kind, New, Refused, Step, admit, apply, cross_sign};

/// Where a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Made; nobody trusts it yet.
    Standby,
    /// In the bundle; signs canary leaves only.
    Staged,
    /// In the bundle; signs, unless a newer one is signing too.
    Signing,
    /// In the bundle; signs nothing but revocation lists.
    Draining,
    /// Out of the bundle. Final once everybody has dropped the sessions that it vouched for.
    Retired,
    /// Its keys are gone.
    Destroyed,
}

impl Phase {
    /// Every phase with its name.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Standby, "standby"),
        (Self::Staged, "staged"),
        (Self::Signing, "signing"),
        (Self::Draining, "draining"),
        (Self::Retired, "retired"),
        (Self::Destroyed, "destroyed"),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(phase, _)| *phase == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(phase, _)| *phase)
    }

    /// Whether its generation is in the bundle.
    #[must_use]
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Staged | Self::Signing | Self::Draining)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A root or an issuing CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its distinguished name (RFC 4514 form): verifiers find issuers and lists by it.
    pub name: Arc<str>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Digest,
    /// SHA-256 of its certificate.
    pub certificate: Digest,
    /// The validity period in it.
    pub validity: Validity,
}

/// A root and the issuing CA below it, made together, or an issuing CA below a root that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Counts from 1, never given twice.
    pub number: u32,
    /// Its root: what relying parties trust.
    pub root: Member,
    /// What signs leaves.
    pub issuing: Member,
    /// Where it stands.
    pub phase: Phase,
    /// Since when, phase by phase.
    pub times: Times,
    /// When it was rolled back: it never signs again.
    pub abandoned: Option<Timestamp>,
}

/// When a generation last came into each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// It was made.
    pub made: Timestamp,
    /// It came into the bundle.
    pub staged: Option<Timestamp>,
    /// It began to sign.
    pub signing: Option<Timestamp>,
    /// It ceased to sign, or was rolled back.
    pub draining: Option<Timestamp>,
    /// It left the bundle.
    pub retired: Option<Timestamp>,
    /// Its keys were given up.
    pub destroyed: Option<Timestamp>,
}

impl Times {
    /// Made then, and nothing else yet.
    #[must_use]
    pub fn made(at: Timestamp) -> Self {
        Self { made: at, staged: None, signing: None, draining: None, retired: None, destroyed: None }
    }
}

/// The next generation is made so long before the end of the one that signs, or at half of its life.
pub const PREPARE_BEFORE: Duration = DAY.saturating_mul(30);
/// The next one signs so long before the end of the one that signs, or at five sixths of its life. As SPIRE has both.
pub const ACTIVATE_BEFORE: Duration = DAY.saturating_mul(7);

impl Generation {
    /// When everything in it is valid: a leaf lives inside of this (`domain::authority::decide` takes it as `above`).
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.root.validity.intersection(&self.issuing.validity)
    }

    /// When the one after it should be made: notAfter − min(life / 2, 30 d).
    #[must_use]
    pub fn prepare_at(&self) -> Timestamp {
        let all = self.validity();
        all.not_after.minus((all.lifetime() / 2).min(PREPARE_BEFORE))
    }

    /// When the one after it should sign: notAfter − min(life / 6, 7 d).
    #[must_use]
    pub fn activate_at(&self) -> Timestamp {
        let all = self.validity();
        all.not_after.minus((all.lifetime() / 6).min(ACTIVATE_BEFORE))
    }

    /// Whether it ever signed for anybody but canaries.
    #[must_use]
    pub fn has_signed(&self) -> bool {
        self.times.signing.is_some()
    }
}

/// A cross-signature: the root of one generation, certified by the root of another. Only on request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cross {
    /// Whose root is certified.
    pub subject: u32,
    /// By whose root.
    pub issuer: u32,
    /// SHA-256 of the certificate.
    pub certificate: Digest,
    /// The validity period in it: within both roots'.
    pub validity: Validity,
}

/// All generations of one CA, and the count of its bundles: what is written at once, by compare and set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which CA.
    pub ca: CaId,
    /// By number, the oldest first; destroyed ones stay, because no name and no key may ever come again.
    pub generations: Vec<Generation>,
    /// Counts the changes of the bundle.
    pub version: u64,
    /// When the bundle last changed.
    pub changed: Timestamp,
    /// What was cross-signed.
    pub crosses: Vec<Cross>,
}

/// No more generations than this are there at once, destroyed ones not counted: the two of a rotation, and some that were
/// rolled back or compromised and still drain. Each is an anchor that every relying party holds.
pub const MOST_LIVE: usize = 8;

impl Standing {
    /// A CA without any generation.
    #[must_use]
    pub fn new(ca: CaId, now: Timestamp) -> Self {
        Self { ca, generations: Vec::new(), version: 0, changed: now, crosses: Vec::new() }
    }

    /// By its number.
    #[must_use]
    pub fn generation(&self, number: u32) -> Option<&Generation> {
        self.generations.iter().find(|g| g.number == number)
    }

    pub(super) fn in_phase(&self, phase: Phase) -> impl Iterator<Item = &Generation> {
        self.generations.iter().filter(move |g| g.phase == phase)
    }

    /// The cross-signatures that may stand in the chain of a leaf of this generation: those that outlive the leaf, between
    /// generations that are trusted.
    pub fn crosses_for(&self, number: u32, leaf_ends: Timestamp) -> impl Iterator<Item = &Cross> {
        let trusted = |n: u32| self.generation(n).is_some_and(|g| g.phase.is_trusted());
        self.crosses.iter().filter(move |c| {
            c.subject == number && c.validity.not_after >= leaf_ends && trusted(c.subject) && trusted(c.issuer)
        })
    }
}

/// Which generation signs: the newest of those that are signing.
#[must_use]
pub fn signer(standing: &Standing) -> Option<&Generation> {
    standing.in_phase(Phase::Signing).last()
}

/// What every relying party must trust: the roots of the trusted generations, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Counts up with every change.
    pub version: u64,
    /// Whose roots these are.
    pub generations: Vec<u32>,
    /// SHA-256 of each root's certificate, in their order.
    pub anchors: Vec<Digest>,
    /// SHA-256 of the anchors, as whoever has the bundle's text finds it too.
    pub digest: Digest,
}

/// An empty bundle means that nobody is trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the bundle would be empty, and every relying party would refuse every peer; to distrust everything, ask for it by the name of the CA"
)]
pub struct EmptyBundle;

/// The bundle of a standing.
///
/// # Errors
/// [`EmptyBundle`] if no generation is trusted, unless `distrust` asks for that by the name of this CA.
pub fn bundle(standing: &Standing, distrust: Option<&DistrustAll>) -> Result<Bundle, EmptyBundle> {
    let made = unguarded(standing);
    if made.anchors.is_empty() && distrust.is_none_or(|d| d.ca != standing.ca) {
        return Err(EmptyBundle);
    }
    Ok(made)
}

/// The bundle, be it empty.
fn unguarded(standing: &Standing) -> Bundle {
    let trusted = || standing.generations.iter().filter(|g| g.phase.is_trusted());
    let anchors: BTreeSet<Digest> = trusted().map(|g| g.root.certificate).collect();
    let parts: Vec<&[u8]> = anchors.iter().map(|a| a.0.as_slice()).collect();
    let digest = Digest::of_parts(&parts);
    let generations = trusted().map(|g| g.number).collect();
    Bundle { version: standing.version, generations, anchors: anchors.into_iter().collect(), digest }
}
