//! Private CAs: makes their keys and certificates, issues, revokes, and keeps their revocation lists fresh.
//!
//! A controller of its own beside the one of public issuance: it has its own loop and its own heartbeat, and shares with
//! that one nothing but the state and its audit log. Refuses to know keys and bytes: the holder has the former, the mint
//! makes the latter.
//!
//! Every signature goes one way: an intent with the digest of what is to be signed is durable, its proof of inclusion goes
//! to the key holder, and what came of it is durable before anybody gets it.

mod blocked;
mod book;
mod canary;
mod directory;
mod effects;
mod inhouse;
mod issue;
mod lists;
mod make;
mod offline;
mod operate;
mod orders;
mod relied;
mod rotate;
mod status;
mod tend;

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::lock::Mutex;

use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::authority::{Ca, Refusal};
use crate::domain::id::{CaId, ProfileId, RelyingPartyId};
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, GenerationId, Phase};
use crate::domain::rotation::{self, Breakage};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::Engine;
use crate::engine::authority::book::Book;
use crate::ports::{Anchors, HolderError, HostError, KeyHolder, Mint, MintError, RelyingParties, Shelf, StoreError};

pub use self::directory::{Known, Rows, cert_id};
pub use self::effects::{bundle_file, lists_file};
pub use self::inhouse::{InHouse, Issuers, Route};
pub use self::issue::Given;
pub use self::lists::BundleText;
pub use self::make::Place;
pub use self::offline::{Asking, Brought, Import};
pub use self::relied::LeafStanding;
pub(crate) use self::relied::{Moves, moves_trust};
pub use self::rotate::{CANARY, Outlook, Rotations, describe};
pub use self::status::{CaStatus, GenerationStatus, KeyStatus, Standing};

/// The private CAs of a guardian. Cheap to share; [`Authority::run`] is called once.
pub struct Authority {
    engine: Arc<Engine>,
    holder: Arc<dyn KeyHolder>,
    mint: Arc<dyn Mint>,
    shelf: Arc<dyn Shelf>,
    anchors: Arc<dyn Anchors>,
    relying: Arc<dyn RelyingParties>,
    cas: RwLock<Arc<BTreeMap<CaId, Arc<Ca>>>>,
    rotations: RwLock<Arc<Rotations>>,
    /// Generations are made, and lists signed, one at a time: numbers follow one another.
    turn: Mutex<()>,
    /// Rotations are looked at by one at a time.
    rotating: Mutex<()>,
    canaries: canary::Canaries,
    /// Rows of what was issued are read and written by one at a time: whoever revokes is never overtaken by whoever issues.
    /// Never held while the key holder works.
    book: Book,
    /// What the newest list of a generation says is revoked, as a digest; nothing is known of lists from before this start.
    said: RwLock<BTreeMap<(GenerationId, Place), Digest>>,
    /// What people were told lately.
    told: std::sync::Mutex<rotate::Told>,
    beat: RwLock<Option<Beat>>,
}

/// The doors of private CAs.
#[derive(Clone)]
pub struct Doors {
    /// Keys.
    pub holder: Arc<dyn KeyHolder>,
    /// Bytes.
    pub mint: Arc<dyn Mint>,
    /// What is published.
    pub shelf: Arc<dyn Shelf>,
    /// Whoever verifies chains here.
    pub anchors: Arc<dyn Anchors>,
    /// Whoever relies on them.
    pub relying: Arc<dyn RelyingParties>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

/// When the loop last went round.
#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Timestamp,
    boot: Boottime,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Why a private CA did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such CA in the configuration.
    #[error("no CA {0} is configured")]
    UnknownCa(CaId),
    /// It has no such profile.
    #[error("CA {0} has no profile {1}")]
    UnknownProfile(CaId, ProfileId),
    /// Nobody made it yet.
    #[error("CA {0} has no generation that signs; `keyward ca init {0}` makes the first one")]
    NotMade(CaId),
    /// It was made before.
    #[error("CA {0} is there already: generation {1} is {phase}", phase = .2.as_str())]
    Made(CaId, u32, Phase),
    /// Policy of the profile, or the CA's own end.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key was said to be compromised, or belongs to a CA.
    #[error("the key {0} is never certified: {1}")]
    BadKey(String, &'static str),
    /// Nothing is known of such a certificate.
    #[error("no certificate with the serial number {0} was issued here and has not expired")]
    UnknownSerial(String),
    /// What comes from outside, or is asked of it, does not fit.
    #[error("CA {0}: {1}")]
    Outside(CaId, String),
    /// The rules of rotation do not allow it.
    #[error(transparent)]
    Rotation(#[from] rotation::Refused),
    /// It was trusted once, and is not any more.
    #[error("generation {0} is {phase}: nobody trusts what it issued, and there is nothing left to revoke", phase = .1.as_str())]
    Gone(GenerationId, rotation::Phase),
    /// It cannot go before another one is there that signs.
    #[error("generation {0} {1}, and everybody would be refused without it: its replacement comes first")]
    Needed(GenerationId, &'static str),
    /// Somebody has to do something elsewhere first.
    #[error("{0}")]
    Waits(String),
    /// Nobody of this name relies on it.
    #[error("no relying party {1} of CA {0} is configured")]
    UnknownParty(CaId, RelyingPartyId),
    /// A bundle that there is not.
    #[error("the bundle is version {version} with digest {digest}; what was acknowledged is another one")]
    OtherBundle {
        /// The version that is current.
        version: u64,
        /// Its digest.
        digest: Digest,
    },
    /// What breaks is another list than the one that was signed off.
    #[error("what breaks is another list by now, {digest}: {0}", digest = .0.digest())]
    OtherBreakage(Breakage),
    /// Nothing is compromised, or the replacement is not there yet.
    #[error(
        "nothing of CA {0} waits for a sign-off: nothing that is trusted is compromised, or its replacement is not staged yet"
    )]
    NothingToSignOff(CaId),
    /// An order to distrust everything has to spell the CA's name.
    #[error("to distrust everything that CA {0} vouches for, type its id")]
    NotMeant(CaId),
    /// The clock is not believed, so no validity can be.
    #[error("nothing is issued while the clock is not believed: {0}")]
    Clock(String),
    /// It cannot be encoded so that relying parties would take it.
    #[error("it cannot be encoded: {0}")]
    Mint(#[from] MintError),
    /// The key holder did not do it.
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// It cannot be recorded, so it is not done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A published list cannot be put where it is read.
    #[error("a revocation list cannot be published: {0}")]
    Shelf(#[from] HostError),
    /// What is recorded contradicts itself.
    #[error("{0}")]
    Broken(String),
}

/// What whoever asked can do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Ask again later: it passes by itself.
    Later,
    /// Have the CA made, or configured.
    Made,
    /// Have the configuration fit what is there.
    Configured,
    /// Ask for names that the profile covers.
    Names,
    /// Bring another key.
    Key,
    /// Bring another request.
    Request,
    /// Nothing: it is for people here.
    Here,
}

impl Denied {
    /// What whoever asked can do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Holder(HolderError::Unavailable(_)) | Self::Store(_) | Self::Clock(_) | Self::Shelf(_) => {
                Remedy::Later
            }
            Self::NotMade(_) | Self::UnknownCa(_) => Remedy::Made,
            Self::UnknownProfile(..) | Self::Made(..) => Remedy::Configured,
            Self::Refused(_) => Remedy::Names,
            Self::BadKey(..) => Remedy::Key,
            Self::Mint(_) => Remedy::Request,
            Self::UnknownSerial(_)
            | Self::Outside(..)
            | Self::Rotation(_)
            | Self::Gone(..)
            | Self::Needed(..)
            | Self::Waits(_)
            | Self::UnknownParty(..)
            | Self::OtherBundle { .. }
            | Self::OtherBreakage(_)
            | Self::NothingToSignOff(_)
            | Self::NotMeant(_)
            | Self::Holder(HolderError::Refused(_))
            | Self::Broken(_) => Remedy::Here,
        }
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownCa(_) | Self::UnknownProfile(..) | Self::UnknownSerial(_) => "KW4610",
            Self::NotMade(_) | Self::Made(..) => "KW4611",
            Self::Refused(_) => "KW4612",
            Self::Rotation(_) => "KW4640",
            Self::Gone(..) => "KW4646",
            Self::Needed(..) => "KW4647",
            Self::Waits(_) => "KW4628",
            Self::UnknownParty(..) => "KW4641",
            Self::OtherBundle { .. } => "KW4642",
            Self::OtherBreakage(_) | Self::NothingToSignOff(_) => "KW4643",
            Self::NotMeant(_) => "KW4644",
            Self::BadKey(..) => "KW4613",
            Self::Outside(..) => "KW4660",
            Self::Clock(_) => "KW4614",
            Self::Mint(_) => "KW4615",
            Self::Holder(_) => "KW4616",
            Self::Store(_) | Self::Shelf(_) => "KW4617",
            Self::Broken(_) => "KW4618",
        }
    }
}

impl Authority {
    /// Over the state of `engine`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, doors: Doors, cas: BTreeMap<CaId, Arc<Ca>>, rotations: Rotations) -> Self {
        let Doors { holder, mint, shelf, anchors, relying } = doors;
        Self {
            engine,
            holder,
            mint,
            shelf,
            anchors,
            relying,
            cas: RwLock::new(Arc::new(cas)),
            rotations: RwLock::new(Arc::new(rotations)),
            turn: Mutex::new(()),
            rotating: Mutex::new(()),
            canaries: canary::Canaries::default(),
            book: Book::default(),
            said: RwLock::default(),
            told: std::sync::Mutex::default(),
            beat: RwLock::default(),
        }
    }

    /// Takes another configuration.
    pub fn adopt(&self, cas: BTreeMap<CaId, Arc<Ca>>, rotations: Rotations) {
        *self.cas.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(cas);
        *self.rotations.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rotations);
    }

    fn rotations(&self) -> Arc<Rotations> {
        self.rotations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The CAs as configured.
    #[must_use]
    pub fn cas(&self) -> Arc<BTreeMap<CaId, Arc<Ca>>> {
        self.cas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Encodings.
    #[must_use]
    pub fn mint(&self) -> &dyn Mint {
        &*self.mint
    }

    fn ca(&self, id: &CaId) -> Result<Arc<Ca>, Denied> {
        self.cas().get(id).cloned().ok_or_else(|| Denied::UnknownCa(id.clone()))
    }

    /// The generations of a CA, the oldest first.
    fn generations(&self, ca: &CaId) -> Vec<(GenerationId, Arc<CaGeneration>)> {
        let desk = self.engine.read();
        let own = desk.state.generations.iter().filter(|(id, _)| id.ca == *ca);
        own.map(|(id, generation)| (id.clone(), generation.clone())).collect()
    }

    /// The generation that signs: the newest of those that may.
    fn signer(&self, ca: &CaId) -> Result<Signer, Denied> {
        let newest = self.generations(ca).into_iter().rev().find(|(_, g)| g.phase == Phase::SIGNING);
        let (id, generation) = newest.ok_or_else(|| Denied::NotMade(ca.clone()))?;
        Signer::of(id, &generation).ok_or_else(|| Denied::NotMade(ca.clone()))
    }

    /// Tells whoever verifies chains on this machine what to trust for these CAs.
    pub fn anchor(&self) {
        for ca in self.cas().keys() {
            self.anchors.trust(ca, &self.trusted(ca));
        }
    }

    /// The roots (DER) of the generations that relying parties are to trust, the oldest first.
    fn trusted(&self, ca: &CaId) -> Vec<Arc<[u8]>> {
        let trusted = self.generations(ca).into_iter().filter(|(_, g)| g.phase.is_trusted());
        trusted.filter_map(|(_, g)| g.anchor().cloned()).collect()
    }

    fn now(&self) -> Timestamp {
        self.engine.ports.clock.now()
    }

    fn draft(&self, action: &'static str, code: &'static str, ca: &CaId, by: Option<&str>) -> Draft {
        let mut draft = self.engine.draft(action, code, Target::new(TargetKind::Ca, ca));
        if let Some(by) = by {
            draft.by(&self.engine.person(by));
        }
        draft
    }
}

/// A complete generation, ready to sign leaves.
#[derive(Clone, Debug)]
struct Signer {
    id: GenerationId,
    /// The issuing CA's certificate, then the root.
    chain: Vec<Arc<[u8]>>,
    validity: crate::domain::time::Validity,
}

impl Signer {
    fn of(id: GenerationId, generation: &CaGeneration) -> Option<Self> {
        let (root, issuing) = (generation.root.as_ref()?, generation.issuing.as_ref()?);
        let chain = vec![issuing.certificate.as_ref()?.der.clone(), root.certificate.as_ref()?.der.clone()];
        Some(Self { id, chain, validity: generation.validity()? })
    }
}
