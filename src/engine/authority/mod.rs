//! Private CAs: makes their keys and certificates, issues, revokes, and keeps their revocation lists fresh.
//!
//! A controller of its own beside the one of public issuance: it has its own loop and its own heartbeat, and shares with
//! that one nothing but the state and its audit log. Refuses to know keys and bytes: the holder has the former, the mint
//! makes the latter.
//!
//! Every signature goes one way: an intent with the digest of what is to be signed is durable, its proof of inclusion goes
//! to the key holder, and what came of it is durable before anybody gets it.

mod directory;
mod inhouse;
mod issue;
mod lists;
mod make;
mod offline;
mod operate;
mod status;
mod tend;

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::lock::Mutex;

use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::authority::{Ca, Refusal};
use crate::domain::id::{CaId, ProfileId};
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, GenerationId, Phase};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::Engine;
use crate::ports::{Anchors, HolderError, HostError, KeyHolder, Mint, MintError, Shelf, StoreError};

pub use self::directory::{Known, Rows, cert_id};
pub use self::inhouse::{InHouse, Issuers, Route};
pub use self::issue::Given;
pub use self::make::Place;
pub use self::offline::{Asking, Brought, Import};
pub use self::status::{CaStatus, GenerationStatus, KeyStatus, Standing};

/// The private CAs of a guardian. Cheap to share; [`Authority::run`] is called once.
pub struct Authority {
    engine: Arc<Engine>,
    holder: Arc<dyn KeyHolder>,
    mint: Arc<dyn Mint>,
    shelf: Arc<dyn Shelf>,
    anchors: Arc<dyn Anchors>,
    cas: RwLock<Arc<BTreeMap<CaId, Arc<Ca>>>>,
    /// Generations are made, and lists signed, one at a time: numbers follow one another.
    turn: Mutex<()>,
    /// Rows of what was issued are read and written by one at a time: whoever revokes is never overtaken by whoever issues.
    /// Never held while the key holder works.
    book: Mutex<()>,
    /// What the newest list of a generation says is revoked, as a digest; nothing is known of lists from before this start.
    said: RwLock<BTreeMap<GenerationId, Digest>>,
    beat: RwLock<Option<Beat>>,
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

impl Denied {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownCa(_) | Self::UnknownProfile(..) | Self::UnknownSerial(_) => "KW4610",
            Self::NotMade(_) | Self::Made(..) => "KW4611",
            Self::Refused(_) => "KW4612",
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
    pub fn new(
        engine: Arc<Engine>,
        holder: Arc<dyn KeyHolder>,
        mint: Arc<dyn Mint>,
        shelf: Arc<dyn Shelf>,
        anchors: Arc<dyn Anchors>,
        cas: BTreeMap<CaId, Arc<Ca>>,
    ) -> Self {
        let (cas, beat) = (RwLock::new(Arc::new(cas)), RwLock::new(None));
        Self {
            engine,
            holder,
            mint,
            shelf,
            anchors,
            cas,
            turn: Mutex::new(()),
            book: Mutex::new(()),
            said: RwLock::default(),
            beat,
        }
    }

    /// Takes another configuration.
    pub fn adopt(&self, cas: BTreeMap<CaId, Arc<Ca>>) {
        *self.cas.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(cas);
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
