//! Private CAs: their doors, and the trust in them on this machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::WireError;
use crate::adapters::mint::X509Mint;
use crate::adapters::shelf::FileShelf;
use crate::codec::live_roots::LiveRoots;
use crate::codec::verify::Roots;
use crate::domain::id::{CaId, IssuerId};
use crate::engine::Engine;
use crate::engine::authority::{Authority, Doors, InHouse, Route};
use crate::ports::{Anchors, Relying};
use crate::shell::config::Settings;

/// What chains on this machine may end in: roots that stay, and those of private CAs.
#[derive(Debug)]
pub(super) struct TrustBook {
    /// For each issuer that is a private CA.
    pub(super) issuers: BTreeMap<IssuerId, LiveRoots>,
    routes: BTreeMap<IssuerId, Route>,
    base: Arc<Roots>,
    all: LiveRoots,
    own: Mutex<BTreeMap<CaId, Roots>>,
}

impl TrustBook {
    /// `base` are the roots that stay; `all` is where those and the private ones are found together.
    pub(super) fn new(routes: &BTreeMap<IssuerId, Route>, base: Arc<Roots>, all: LiveRoots) -> Self {
        let issuers = routes.keys().map(|id| (id.clone(), LiveRoots::from(Roots::default()))).collect();
        Self { issuers, routes: routes.clone(), base, all, own: Mutex::default() }
    }
}

impl Anchors for TrustBook {
    fn trust(&self, ca: &CaId, roots: &[Arc<[u8]>]) {
        let mut own = Roots::default();
        for root in roots {
            if let Err(error) = own.add(root) {
                tracing::error!(%ca, %error, "a root of a private CA is left out: what it issued is not trusted");
            }
        }
        for (id, _) in self.routes.iter().filter(|(_, route)| route.ca == *ca) {
            if let Some(live) = self.issuers.get(id) {
                live.set(own.clone());
            }
        }
        let mut book = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        book.insert(ca.clone(), own);
        let mut all = Roots::clone(&self.base);
        book.values().for_each(|roots| all.extend(roots));
        self.all.set(all);
    }
}

/// What private CAs need before there is an engine.
#[derive(Clone, Debug)]
pub struct Private {
    pub(super) issuers: Arc<InHouse>,
    pub(super) trust: Arc<TrustBook>,
}

/// Where private CAs publish.
#[must_use]
pub fn pki_of(state: &std::path::Path) -> std::path::PathBuf {
    state.join("pki")
}

impl super::Wired {
    /// The private CAs over an engine; none without `[[ca]]`. Relying on them begins here.
    ///
    /// # Errors
    /// If the directory of their lists cannot be made.
    pub fn authority(
        &self,
        settings: &Settings,
        engine: &Arc<Engine>,
        relying: Arc<dyn Relying>,
    ) -> Result<Option<Arc<Authority>>, WireError> {
        let Some(holder) = settings.keyholder.as_ref().filter(|_| !settings.cas.is_empty()) else { return Ok(None) };
        let holder = super::key_holder(&holder.socket, None);
        let shelf = Arc::new(FileShelf::open(&pki_of(&settings.state_dir))?);
        let (cas, rotations) = (settings.cas.clone(), settings.rotations.clone());
        let (mint, anchors) = (Arc::new(X509Mint), self.private.trust.clone());
        let doors = Doors { holder, mint, shelf, anchors, relying };
        let authority = Authority::new(engine.clone(), doors, cas, rotations);
        let authority = Arc::new(authority);
        self.private.issuers.serve(&authority);
        authority.anchor();
        Ok(Some(authority))
    }
}
