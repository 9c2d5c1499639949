//! A private CA as an issuer among others: what orders, renews and installs does not know the difference.
//!
//! Nothing has to be proved to it: the configuration says which credentials are its own. An order is an address and
//! nothing more until it is finalized; then the register of the CA says what became of it, also after a restart, and the
//! same request never gets a second certificate.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::authority::Wish;
use crate::domain::certificate::CertId;
use crate::domain::execution::Fault;
use crate::domain::id::{CaId, IssuerId, ProfileId};
use crate::domain::key::{Digest, hex};
use crate::domain::name::NameSet;
use crate::domain::register::Phase;
use crate::domain::rotating;
use crate::domain::rotation;
use crate::domain::spiffe::SpiffeId;
use crate::domain::state::LatchOn;
use crate::domain::time::Timestamp;
use crate::engine::authority::{Authority, Denied, Remedy};
use crate::ports::{
    AuthorizationView, Doing, Evidence, Issuer, IssuerError, IssuerErrorKind, IssuerMeta, OrderRequest, OrderStatus,
    OrderView, RenewalInfo,
};

/// Orders are remembered in memory, at most so many; what is forgotten is ordered again.
const MOST_ORDERS: usize = 4_096;
/// Renewed at half of the life, a tenth of it around that: everything that was issued together spreads out.
const WINDOW_PERMILLE: (u16, u16) = (450, 550);
/// Half of a life.
const HALF_PERMILLE: u16 = 500;
/// A window is asked for again so often: a revocation or a rotation moves it.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// Which CA and profile stand behind an issuer of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The CA.
    pub ca: CaId,
    /// The profile.
    pub profile: ProfileId,
}

/// The private CAs as issuers.
#[derive(Default)]
pub struct InHouse {
    authority: OnceLock<Weak<Authority>>,
    routes: RwLock<Arc<BTreeMap<IssuerId, Route>>>,
    orders: RwLock<BTreeMap<Arc<str>, Order>>,
}

#[derive(Clone, Debug)]
struct Order {
    names: NameSet,
    spiffe: Option<SpiffeId>,
    at: Timestamp,
    /// The certificate by its digest, once it is there.
    issued: Option<Digest>,
}

impl core::fmt::Debug for InHouse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("InHouse")
    }
}

impl InHouse {
    /// Behind these issuers stand those CAs.
    #[must_use]
    pub fn new(routes: BTreeMap<IssuerId, Route>) -> Self {
        Self { routes: RwLock::new(Arc::new(routes)), ..Self::default() }
    }

    /// The authority begins after the engine, which has its issuers from the start.
    pub fn serve(&self, authority: &Arc<Authority>) {
        // Only the first one counts; there is one in a process.
        drop(self.authority.set(Arc::downgrade(authority)));
    }

    /// Whether an issuer is one of these.
    #[must_use]
    pub fn has(&self, issuer: &IssuerId) -> bool {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).contains_key(issuer)
    }

    fn route(&self, issuer: &IssuerId) -> Result<(Arc<Authority>, Route), IssuerError> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner).clone();
        let route = routes.get(issuer).cloned();
        let authority = self.authority.get().and_then(Weak::upgrade);
        authority
            .zip(route)
            .ok_or_else(|| error(IssuerErrorKind::Retry, Fault::Ours, "the private CA is not ready yet"))
    }

    fn orders<T>(&self, then: impl FnOnce(&mut BTreeMap<Arc<str>, Order>) -> T) -> T {
        then(&mut self.orders.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, url: &str) -> Result<Order, IssuerError> {
        let text = format!("the order {url} is not known any more; a new one is made");
        self.orders(|orders| orders.get(url).cloned())
            .ok_or_else(|| error(IssuerErrorKind::OrderDead, Fault::Ours, text))
    }

    async fn fulfil(&self, issuer: &IssuerId, url: &str, csr: &[u8]) -> Result<(), IssuerError> {
        let (authority, route) = self.route(issuer)?;
        let order = self.known(url)?;
        if order.issued.is_some() {
            return Ok(());
        }
        let asked = authority.mint().request(csr).map_err(|e| error(IssuerErrorKind::Refused, Fault::Ours, e.0))?;
        if asked.names != order.names {
            let text = format!("the request is for {:?}, the order for {:?}", asked.names, order.names);
            return Err(error(IssuerErrorKind::Refused, Fault::Ours, text));
        }
        // One that was made for this key since it was ordered is this order's: finalizing was asked for again.
        let digest = match authority.issued_for(&route, &order, Digest::of(&asked.spki)) {
            Some(digest) => digest,
            None => {
                let wish = Wish { names: order.names, spiffe: order.spiffe, spki: asked.spki, lifetime: None };
                let by = format!("issuer/{issuer}");
                authority.issue(&route.ca, &route.profile, &wish, &by).await.map_err(denied)?.fingerprint
            }
        };
        self.orders(|orders| {
            if let Some(order) = orders.get_mut(url) {
                order.issued = Some(digest);
            }
        });
        Ok(())
    }

    async fn chain(&self, issuer: &IssuerId, url: &str) -> Result<String, IssuerError> {
        let (authority, _) = self.route(issuer)?;
        let unfinished = || error(IssuerErrorKind::OrderDead, Fault::Ours, "the order was not finalized");
        let digest = self.known(url)?.issued.ok_or_else(unfinished)?;
        authority.chain_of(digest).await.map_err(denied)
    }
}

impl Authority {
    /// What was issued, is good, and fits, by the digest of the certificate.
    fn issued_for(&self, route: &Route, order: &Order, spki: Digest) -> Option<Digest> {
        let (now, spiffe) = (self.now(), order.spiffe.as_ref());
        let desk = self.engine.read();
        let mut all = desk.state.issued.values();
        let found = all.find(|i| {
            let same = i.spki == spki
                && i.at >= order.at
                && i.fingerprint.is_some()
                && i.names == order.names
                && i.spiffe.as_ref() == spiffe
                && i.profile == route.profile;
            let signing = desk.state.generations.get(&i.generation).is_some_and(|g| g.phase == Phase::SIGNING);
            same && signing && i.generation.ca == route.ca && i.revoked.is_none() && i.validity.contains(now)
        })?;
        found.fingerprint
    }

    /// A leaf that was issued, with the issuing CA's certificate, as PEM.
    pub(super) async fn chain_of(&self, fingerprint: Digest) -> Result<String, Denied> {
        let gone = || Denied::Broken("the certificate is not in the audit log's evidence any more".to_owned());
        let der = self.engine.ports.store.evidence(fingerprint).await?.ok_or_else(gone)?;
        let issued = {
            let desk = self.engine.read();
            desk.state.issued.values().find(|i| i.fingerprint == Some(fingerprint)).cloned()
        };
        let generation = issued.as_ref().and_then(|i| self.known(&i.generation).ok());
        let crosses = issued.map_or_else(Vec::new, |i| self.crosses(&i.generation, i.validity.not_after));
        let issuing = generation.and_then(|g| Some(g.issuing.as_ref()?.certificate.as_ref()?.der.clone()));
        let mut chain = vec![Arc::from(der), issuing.ok_or_else(gone)?];
        chain.extend(crosses);
        Ok(self.mint.pem(&chain))
    }

    /// When to renew one of our own (RFC 9773): around half of its life, at once if it is revoked or its CA signs no more.
    pub(super) fn window(&self, id: &CertId) -> Option<RenewalInfo> {
        let serial = hex(&URL_SAFE_NO_PAD.decode(id.0.split_once('.')?.1).ok()?);
        let desk = self.engine.read();
        let issued = desk.state.issued.get(&*serial)?;
        let generation = desk.state.generations.get(&issued.generation);
        let standing = rotating::standing(&desk.state, &issued.generation.ca);
        let evidence = rotating::evidence(&desk.state, &issued.generation.ca);
        let bad = rotation::compromised(&standing, &evidence).contains(&issued.generation.number);
        let (from, until) = WINDOW_PERMILLE;
        let half = issued.validity.at_permille(HALF_PERMILLE);
        let draining = generation.and_then(|g| g.times.draining).filter(|at| *at < half);
        let taken_back = issued.revoked.is_some() || desk.state.latches.contains_key(&LatchOn::Key(issued.spki));
        let (start, end) = match (taken_back, generation.map(|g| g.phase)) {
            (false, Some(Phase::SIGNING)) => (issued.validity.at_permille(from), issued.validity.at_permille(until)),
            // A newer generation signs: not all at once, and by half of the life, which is well within the drain.
            (false, Some(Phase::Made(rotation::Phase::Draining))) if !bad && draining.is_some() => {
                (draining.unwrap_or(half), half)
            }
            _ => (issued.validity.not_before, issued.validity.not_before.plus(Duration::from_secs(1))),
        };
        Some(RenewalInfo { start, end, explanation: None, retry_after: Some(ASK_AGAIN) })
    }
}

fn error(kind: IssuerErrorKind, fault: Fault, text: impl Into<String>) -> IssuerError {
    let text = text.into();
    IssuerError { kind, fault, text, problem: None, subproblems: Vec::new(), retry_after: None, link: None }
}

fn denied(why: Denied) -> IssuerError {
    let kind = match why.remedy() {
        Remedy::Later => IssuerErrorKind::Retry,
        Remedy::Made | Remedy::Configured => IssuerErrorKind::Account,
        Remedy::Names | Remedy::Key | Remedy::Request | Remedy::Here => IssuerErrorKind::Refused,
    };
    error(kind, Fault::Ours, format!("{}: {why}", why.code()))
}

impl Issuer for InHouse {
    fn meta<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<IssuerMeta, IssuerError>> {
        Box::pin(async move { self.route(issuer).map(|_| IssuerMeta { ari: true, ..IssuerMeta::default() }) })
    }

    fn new_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Arc<str>, IssuerError>> {
        Box::pin(async move {
            let (authority, route) = self.route(issuer)?;
            // Says early what would be refused late.
            authority.signer(&route.ca).map_err(denied)?;
            let url: Arc<str> = Arc::from(format!("keyward:{}/{}", route.ca, authority.engine.fresh_ulid()));
            let order = Order {
                names: request.names.clone(),
                spiffe: request.spiffe.clone(),
                at: authority.now(),
                issued: None,
            };
            self.orders(|orders| {
                orders.insert(url.clone(), order);
                // Addresses sort by their time.
                while orders.len() > MOST_ORDERS {
                    drop(orders.pop_first());
                }
            });
            Ok(url)
        })
    }

    fn find_order<'a>(
        &'a self,
        _issuer: &'a IssuerId,
        _request: &'a OrderRequest,
    ) -> Doing<'a, Result<Option<Arc<str>>, IssuerError>> {
        Box::pin(async { Ok(None) })
    }

    fn order<'a>(&'a self, _issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<OrderView, IssuerError>> {
        Box::pin(async move {
            let order = self.known(url)?;
            let status = if order.issued.is_some() { OrderStatus::Valid } else { OrderStatus::Ready };
            Ok(OrderView { status, authorizations: Vec::new(), error: None, retry_after: None })
        })
    }

    fn decided<'a>(
        &'a self,
        _issuer: &'a IssuerId,
        _url: &'a str,
    ) -> Doing<'a, Result<Vec<AuthorizationView>, IssuerError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn challenge_ready<'a>(&'a self, _issuer: &'a IssuerId, _url: &'a str) -> Doing<'a, Result<(), IssuerError>> {
        Box::pin(async { Ok(()) })
    }

    fn finalize<'a>(&'a self, issuer: &'a IssuerId, url: &'a str, csr: &'a [u8]) -> Doing<'a, Result<(), IssuerError>> {
        Box::pin(self.fulfil(issuer, url, csr))
    }

    fn download<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<String, IssuerError>> {
        Box::pin(self.chain(issuer, url))
    }

    fn renewal_info<'a>(
        &'a self,
        issuer: &'a IssuerId,
        id: &'a CertId,
    ) -> Doing<'a, Result<Option<RenewalInfo>, IssuerError>> {
        Box::pin(async move { Ok(self.route(issuer)?.0.window(id)) })
    }

    fn rollover<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<(), IssuerError>> {
        let text =
            format!("issuer {issuer} is a private CA of this guardian: it has no account, and so no account key");
        Box::pin(async { Err(error(IssuerErrorKind::Refused, Fault::Ours, text)) })
    }

    fn account_key<'a>(&'a self, _issuer: &'a IssuerId) -> Doing<'a, Result<Option<String>, IssuerError>> {
        Box::pin(async { Ok(None) })
    }

    fn take_evidence(&self, _issuer: &IssuerId, _url: &str) -> Evidence {
        Evidence::default()
    }
}

/// All issuers behind one door: those of the world, and the private CAs.
#[derive(Clone)]
pub struct Issuers {
    public: Arc<dyn Issuer>,
    private: Arc<InHouse>,
}

impl Issuers {
    /// Both together.
    #[must_use]
    pub fn new(public: Arc<dyn Issuer>, private: Arc<InHouse>) -> Self {
        Self { public, private }
    }

    fn of(&self, issuer: &IssuerId) -> &dyn Issuer {
        if self.private.has(issuer) { &*self.private } else { &*self.public }
    }
}

impl core::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Issuers")
    }
}

impl Issuer for Issuers {
    fn meta<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<IssuerMeta, IssuerError>> {
        self.of(issuer).meta(issuer)
    }

    fn new_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Arc<str>, IssuerError>> {
        self.of(issuer).new_order(issuer, request)
    }

    fn find_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Option<Arc<str>>, IssuerError>> {
        self.of(issuer).find_order(issuer, request)
    }

    fn order<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<OrderView, IssuerError>> {
        self.of(issuer).order(issuer, url)
    }

    fn decided<'a>(
        &'a self,
        issuer: &'a IssuerId,
        url: &'a str,
    ) -> Doing<'a, Result<Vec<AuthorizationView>, IssuerError>> {
        self.of(issuer).decided(issuer, url)
    }

    fn challenge_ready<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<(), IssuerError>> {
        self.of(issuer).challenge_ready(issuer, url)
    }

    fn finalize<'a>(&'a self, issuer: &'a IssuerId, url: &'a str, csr: &'a [u8]) -> Doing<'a, Result<(), IssuerError>> {
        self.of(issuer).finalize(issuer, url, csr)
    }

    fn download<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<String, IssuerError>> {
        self.of(issuer).download(issuer, url)
    }

    fn renewal_info<'a>(
        &'a self,
        issuer: &'a IssuerId,
        id: &'a CertId,
    ) -> Doing<'a, Result<Option<RenewalInfo>, IssuerError>> {
        self.of(issuer).renewal_info(issuer, id)
    }

    fn rollover<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<(), IssuerError>> {
        self.of(issuer).rollover(issuer)
    }

    fn account_key<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<Option<String>, IssuerError>> {
        self.of(issuer).account_key(issuer)
    }

    fn take_evidence(&self, issuer: &IssuerId, url: &str) -> Evidence {
        self.of(issuer).take_evidence(issuer, url)
    }
}
