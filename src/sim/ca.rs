//! Simulated CAs behind the [`Issuer`] door: orders with their states, lifetimes, renewal windows, limits that they
//! enforce themselves, failures, outages and lost answers.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::certificate::{CertId, Certificate, Listing};
use crate::domain::execution::Fault;
use crate::domain::id::IssuerId;
use crate::domain::json::write_integer;
use crate::domain::key::Digest;
use crate::domain::limits::{Ledger, Limit, LimitKind, Spend, Spender, order_spends};
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{Timestamp, Validity};
use crate::ports::{
    AuthorizationView, ChallengeKind, ChallengeView, Clock, Doing, Evidence, Issuer, IssuerError, IssuerErrorKind,
    IssuerMeta, OrderRequest, OrderStatus, OrderView, RenewalInfo,
};
use crate::sim::clock::SimClock;
use crate::sim::world::{Steps, draw};

/// How one simulated CA behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Lifetime of what it issues, by the first label of the first name (`d6-…`, `d47-…`), else this.
    pub lifetime: Duration,
    /// Lifetimes by a prefix of the names.
    pub lifetime_by_prefix: BTreeMap<String, Duration>,
    /// Orders that fail, in thousandths.
    pub failing_permille: u64,
    /// Times in which nothing answers, in order and apart from each other.
    pub outages: Vec<(Timestamp, Timestamp)>,
    /// Whether it gives renewal windows (RFC 9773).
    pub ari: bool,
    /// "Renew now" for everything, from this time on.
    pub revoked_from: Option<Timestamp>,
    /// What it wants to be left alone for after a refusal.
    pub retry_after: Option<Duration>,
    /// The limits that it enforces and counts violations of.
    pub limits: Vec<Limit>,
    /// Whether the account's orders can be listed.
    pub lists_orders: bool,
    /// An order for the same names that is pending or ready is given again (as Boulder does).
    pub reuses_orders: bool,
    /// Refuses `replaces`.
    pub refuses_replaces: bool,
    /// Orders stay in `processing` for ever.
    pub stuck: bool,
    /// URLs of its revocation lists: each certificate names one of them, in turn. Without any it names none.
    pub lists: Vec<Arc<str>>,
    /// Answers to finalize that are lost, still.
    pub lose_finalize: u32,
    /// Answers to newOrder that are lost, still.
    pub lose_new_order: u32,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(90 * 86_400),
            lifetime_by_prefix: BTreeMap::new(),
            failing_permille: 0,
            outages: Vec::new(),
            ari: false,
            revoked_from: None,
            retry_after: None,
            limits: Vec::new(),
            lists_orders: true,
            reuses_orders: false,
            refuses_replaces: false,
            stuck: false,
            lists: Vec::new(),
            lose_finalize: 0,
            lose_new_order: 0,
        }
    }
}

impl Behaviour {
    fn is_away(&self, now: Timestamp) -> bool {
        let begun = self.outages.partition_point(|(from, _)| *from <= now);
        let last = begun.checked_sub(1).and_then(|i| self.outages.get(i));
        last.is_some_and(|(_, until)| now < *until)
    }
}

/// What a CA has seen: for the judgement of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Orders made.
    pub orders: u64,
    /// Certificates issued.
    pub issued: u64,
    /// Orders that broke a limit.
    pub violations: u64,
    /// Orders that named what they replace.
    pub replacing: u64,
}

/// All simulated CAs.
#[derive(Debug)]
pub struct SimCa {
    clock: Arc<SimClock>,
    steps: Arc<Steps>,
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    behaviours: BTreeMap<IssuerId, Arc<Behaviour>>,
    /// The newest orders, one after the other by the number at the end of their URLs.
    orders: VecDeque<Order>,
    /// How many were made: the number of the last.
    made: u64,
    ledger: Ledger,
    tallies: BTreeMap<IssuerId, Tally>,
    /// Validity by certificate id, for renewal windows.
    certificates: BTreeMap<CertId, Validity>,
    /// How often each account's key was changed.
    key_changes: BTreeMap<IssuerId, u64>,
}

#[derive(Clone, Debug)]
struct Order {
    url: Arc<str>,
    issuer: IssuerId,
    names: NameSet,
    status: OrderStatus,
    ready_challenges: usize,
    fails: bool,
    issued: Option<Issued>,
    made: Timestamp,
    spends: Vec<Spend>,
}

/// A certificate as its facts and as the one line that is its format in the simulation.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) text: Arc<str>,
    pub(super) leaf: Arc<Certificate>,
}

impl Issued {
    fn new(number: u64, csr: &[u8], validity: Validity, names: &NameSet, list: Option<Arc<str>>) -> Self {
        let (serial, spki) = (format!("{number:x}"), Digest::of(csr));
        let mut text = Vec::with_capacity(128);
        for word in [&b"SIM "[..], serial.as_bytes(), b" ", &spki.hex(), b" "] {
            text.extend_from_slice(word);
        }
        write_integer(validity.not_before.unix(), &mut text);
        text.push(b' ');
        write_integer(validity.not_after.unix(), &mut text);
        text.push(b' ');
        text.extend_from_slice(names.key().as_bytes());
        let leaf = Certificate {
            fingerprint: Digest::of(&text),
            spki,
            subject: String::new(),
            issuer: ISSUED_BY.to_owned(),
            names: names.clone(),
            validity,
            cert_id: Some(CertId(Arc::from(["sim.", &serial].concat()))),
            serial: Arc::from(serial),
            may_issue: false,
            purposes: crate::domain::certificate::Purposes::ALL,
            listing: Listing { ca: false, points: list.into_iter().collect() },
            faults: crate::domain::certificate::Faults::default(),
        };
        // Made of nothing but texts.
        let text = Arc::from(core::str::from_utf8(&text).unwrap_or_default());
        Self { text, leaf: Arc::new(leaf) }
    }

    /// The order's number, from a certificate's line.
    fn number(text: &str) -> Option<u64> {
        let (serial, _) = text.strip_prefix("SIM ")?.split_once(' ')?;
        u64::from_str_radix(serial, 16).ok()
    }
}

/// The only root of the simulation.
pub(super) const ISSUED_BY: &str = "CN=Sim Root";

/// Orders older than this are forgotten, as CAs do.
const ORDERS_KEPT: Duration = Duration::from_secs(8 * 86_400);

impl SimCa {
    pub(super) fn new(clock: Arc<SimClock>, steps: Arc<Steps>, seed: u64) -> Self {
        Self { clock, steps, seed, inner: Mutex::default() }
    }

    /// Changes how a CA behaves.
    pub fn behave(&self, issuer: &IssuerId, change: impl FnOnce(&mut Behaviour)) {
        change(Arc::make_mut(self.lock().behaviours.entry(issuer.clone()).or_default()));
    }

    /// What a CA has seen.
    #[must_use]
    pub fn tally(&self, issuer: &IssuerId) -> Tally {
        self.lock().tallies.get(issuer).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is, unless nothing answers now.
    fn open(&self, issuer: &IssuerId) -> Result<MutexGuard<'_, Inner>, IssuerError> {
        let now = self.clock.now();
        let inner = self.lock();
        if inner.behaviours.get(issuer).is_some_and(|b| b.is_away(now)) {
            return Err(error(IssuerErrorKind::Retry, Fault::Network, "no answer"));
        }
        Ok(inner)
    }

    /// The certificate of this text, which was downloaded just now: as long as its order is kept, nobody has to parse it.
    pub(super) fn issued(&self, text: &str) -> Option<Issued> {
        let inner = self.lock();
        let issued = order(&inner, Issued::number(text)?)?.issued.as_ref();
        issued.filter(|issued| *issued.text == *text).cloned()
    }

    fn make_order(&self, issuer: &IssuerId, request: &OrderRequest) -> Result<Arc<str>, IssuerError> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let behaviour = inner.behaviours.get(issuer).cloned().unwrap_or_default();
        if request.replaces.is_some() && behaviour.refuses_replaces {
            return Err(error(IssuerErrorKind::Replaces, Fault::Issuer, "this certificate was replaced already"));
        }
        if behaviour.reuses_orders
            && let Some(url) = open_order(&inner, issuer, &request.names)
        {
            return Ok(url);
        }
        let exempt = request.replaces.as_ref().is_some_and(|id| behaviour.ari && inner.certificates.contains_key(id));
        let spends = if exempt { Vec::new() } else { order_spends(issuer, &behaviour.limits, &request.names) };
        let allowed = inner.ledger.check(&spends, Spender::Human, now).is_ok();
        let tally = inner.tallies.entry(issuer.clone()).or_default();
        if !allowed {
            tally.violations = tally.violations.saturating_add(1);
            let mut refusal = error(IssuerErrorKind::RateLimited, Fault::Ours, "too many orders");
            refusal.retry_after = behaviour.retry_after;
            return Err(refusal);
        }
        tally.orders = tally.orders.saturating_add(1);
        tally.replacing = tally.replacing.saturating_add(u64::from(request.replaces.is_some()));
        // As Let's Encrypt: an order counts when it is made, a certificate when it is issued.
        let at_once = |s: &Spend| s.limit.kind == LimitKind::Orders;
        for spend in spends.iter().filter(|s| at_once(s)) {
            inner.ledger.take(spend, now);
        }
        let later = spends.into_iter().filter(|s| !at_once(s)).collect();
        inner.made = inner.made.saturating_add(1);
        if inner.made.is_multiple_of(1_024) {
            while inner.orders.front().is_some_and(|o| now.since(o.made) >= ORDERS_KEPT) {
                inner.orders.pop_front();
            }
            inner.ledger.full_at.retain(|_, full| *full > now);
        }
        let made = inner.made;
        let url: Arc<str> = Arc::from(["https://", issuer.as_str(), ".sim/order/", &made.to_string()].concat());
        let fails = draw(self.seed, &[b"fail", &made.to_be_bytes()], 1_000) < behaviour.failing_permille;
        let order = Order {
            url: url.clone(),
            issuer: issuer.clone(),
            names: request.names.clone(),
            status: OrderStatus::Pending,
            ready_challenges: 0,
            fails,
            issued: None,
            made: now,
            spends: later,
        };
        inner.orders.push_back(order);
        Ok(url)
    }

    fn sign(&self, inner: &mut Inner, url: &str, csr: &[u8]) -> Result<(), IssuerError> {
        let (now, number) = (self.clock.now(), number(url));
        let Some(order) = place(inner, number).and_then(|place| inner.orders.get_mut(place)) else {
            return Err(error(IssuerErrorKind::OrderDead, Fault::Issuer, "there is no such order"));
        };
        let behaviour = inner.behaviours.get(&order.issuer).cloned().unwrap_or_default();
        let first = order.names.iter().next().map(Name::text).unwrap_or_default();
        let by_prefix = behaviour.lifetime_by_prefix.iter().find(|(p, _)| first.starts_with(p.as_str()));
        let lifetime = by_prefix.map_or(behaviour.lifetime, |(_, l)| *l);
        let validity = Validity { not_before: now, not_after: now.plus(lifetime) };
        let turn = usize::try_from(number).ok().and_then(|n| n.checked_rem(behaviour.lists.len()));
        let list = turn.and_then(|turn| behaviour.lists.get(turn)).cloned();
        let issued = Issued::new(number, csr, validity, &order.names, list);
        if let Some(id) = issued.leaf.cert_id.clone().filter(|_| behaviour.ari) {
            inner.certificates.insert(id, validity);
        }
        for spend in order.spends.iter().filter(|_| order.issued.is_none()) {
            inner.ledger.take(spend, now);
        }
        order.issued = Some(issued);
        order.status = if behaviour.stuck { OrderStatus::Processing } else { OrderStatus::Valid };
        if let Some(tally) = inner.tallies.get_mut(&order.issuer) {
            tally.issued = tally.issued.saturating_add(1);
        }
        if inner.certificates.len() > 50_000 {
            inner.certificates.retain(|_, v| v.not_after > now);
        }
        Ok(())
    }
}

fn open_order(inner: &Inner, issuer: &IssuerId, names: &NameSet) -> Option<Arc<str>> {
    let open = |o: &&Order| {
        o.issuer == *issuer && o.names == *names && matches!(o.status, OrderStatus::Pending | OrderStatus::Ready)
    };
    inner.orders.iter().filter(open).max_by_key(|o| o.made).map(|o| o.url.clone())
}

/// Where the order of this number stands, if it is kept.
fn place(inner: &Inner, number: u64) -> Option<usize> {
    let newer = usize::try_from(inner.made.checked_sub(number)?).ok()?;
    inner.orders.len().checked_sub(newer)?.checked_sub(1)
}

fn order(inner: &Inner, number: u64) -> Option<&Order> {
    inner.orders.get(place(inner, number)?)
}

/// The number of an order, from its URL or from that of one of its challenges; there is no order 0.
fn number(url: &str) -> u64 {
    let digits = order_part(url).bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |number: u64, b| number.wrapping_mul(10).wrapping_add(u64::from(b.wrapping_sub(b'0'))))
}

/// The last part of an order's URL: its number, and of a challenge's URL also which one.
fn order_part(url: &str) -> &str {
    let begin = url.bytes().rposition(|b| b == b'/').map_or(0, |slash| slash.saturating_add(1));
    url.get(begin..).unwrap_or_default()
}

fn error(kind: IssuerErrorKind, fault: Fault, text: &str) -> IssuerError {
    IssuerError {
        kind,
        fault,
        text: text.to_owned(),
        problem: None,
        subproblems: Vec::new(),
        retry_after: None,
        link: None,
    }
}

impl Issuer for SimCa {
    fn meta<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<IssuerMeta, IssuerError>> {
        Box::pin(async move {
            let ari = self.open(issuer)?.behaviours.get(issuer).is_some_and(|b| b.ari);
            Ok(IssuerMeta { ari, ..IssuerMeta::default() })
        })
    }

    fn new_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Arc<str>, IssuerError>> {
        Box::pin(async move {
            self.steps.step().await;
            drop(self.open(issuer)?);
            let made = self.make_order(issuer, request);
            self.steps.step().await;
            let loses = |b: &Arc<Behaviour>| b.lose_new_order > 0;
            let lost = self.lock().behaviours.get(issuer).is_some_and(loses);
            if lost {
                self.behave(issuer, |b| b.lose_new_order = b.lose_new_order.saturating_sub(1));
            }
            if lost { Err(error(IssuerErrorKind::Retry, Fault::Network, "the answer was lost")) } else { made }
        })
    }

    fn find_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Option<Arc<str>>, IssuerError>> {
        Box::pin(async move {
            let inner = self.open(issuer)?;
            let lists = inner.behaviours.get(issuer).is_none_or(|b| b.lists_orders);
            Ok(if lists { open_order(&inner, issuer, &request.names) } else { None })
        })
    }

    fn order<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<OrderView, IssuerError>> {
        Box::pin(async move {
            let inner = self.open(issuer)?;
            let Some(order) = order(&inner, number(url)) else {
                return Err(error(IssuerErrorKind::OrderDead, Fault::Issuer, "there is no such order"));
            };
            let authorizations = if order.status == OrderStatus::Pending {
                order.names.iter().enumerate().map(|(i, name)| authorization(url, i, name)).collect()
            } else {
                Vec::new()
            };
            let failed = || error(IssuerErrorKind::ValidationFailed, Fault::Subject, "the response was not seen");
            let dead = (order.status == OrderStatus::Invalid).then(failed);
            Ok(OrderView { status: order.status, authorizations, error: dead, retry_after: None })
        })
    }

    fn decided<'a>(&'a self, _: &'a IssuerId, _: &'a str) -> Doing<'a, Result<Vec<AuthorizationView>, IssuerError>> {
        // Simulated responses have no place where they could be left behind.
        Box::pin(core::future::ready(Ok(Vec::new())))
    }

    fn challenge_ready<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<(), IssuerError>> {
        Box::pin(async move {
            self.steps.step().await;
            {
                let mut inner = self.open(issuer)?;
                let place = place(&inner, number(url));
                if let Some(order) = place.and_then(|place| inner.orders.get_mut(place)) {
                    order.ready_challenges = order.ready_challenges.saturating_add(1);
                    if order.status == OrderStatus::Pending && order.ready_challenges >= order.names.len() {
                        order.status = if order.fails { OrderStatus::Invalid } else { OrderStatus::Ready };
                    }
                }
            }
            self.steps.step().await;
            Ok(())
        })
    }

    fn finalize<'a>(&'a self, issuer: &'a IssuerId, url: &'a str, csr: &'a [u8]) -> Doing<'a, Result<(), IssuerError>> {
        Box::pin(async move {
            self.steps.step().await;
            let lost = {
                let mut inner = self.open(issuer)?;
                self.sign(&mut inner, url, csr)?;
                let behaviour = inner.behaviours.get_mut(issuer).filter(|b| b.lose_finalize > 0).map(Arc::make_mut);
                behaviour.map(|b| b.lose_finalize = b.lose_finalize.saturating_sub(1)).is_some()
            };
            self.steps.step().await;
            if lost { Err(error(IssuerErrorKind::Retry, Fault::Network, "the answer was lost")) } else { Ok(()) }
        })
    }

    fn download<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<String, IssuerError>> {
        Box::pin(async move {
            self.steps.step().await;
            let inner = self.open(issuer)?;
            let issued = order(&inner, number(url)).and_then(|o| o.issued.as_ref());
            issued
                .map(|issued| issued.text.to_string())
                .ok_or_else(|| error(IssuerErrorKind::OrderDead, Fault::Issuer, "there is no certificate"))
        })
    }

    fn renewal_info<'a>(
        &'a self,
        issuer: &'a IssuerId,
        id: &'a CertId,
    ) -> Doing<'a, Result<Option<RenewalInfo>, IssuerError>> {
        Box::pin(async move {
            let inner = self.open(issuer)?;
            let Some(behaviour) = inner.behaviours.get(issuer).filter(|b| b.ari) else { return Ok(None) };
            let Some(validity) = inner.certificates.get(id) else { return Ok(None) };
            // As Let's Encrypt: 2 % of the lifetime around two thirds of it, half when it is under ten days.
            let middle = if validity.lifetime() < Duration::from_secs(10 * 86_400) { 500 } else { 667 };
            let (mut start, mut end) =
                (validity.at_permille(middle - 10), validity.at_permille(middle + 10).plus(Duration::from_secs(1)));
            if let Some(from) =
                behaviour.revoked_from.filter(|from| validity.not_before < *from && *from <= self.clock.now())
            {
                (start, end) = (from.minus(Duration::from_secs(3_600)), from.minus(Duration::from_secs(60)));
            }
            let retry_after = Some(Duration::from_secs(6 * 3_600));
            Ok(Some(RenewalInfo { start, end, explanation: None, retry_after }))
        })
    }

    fn rollover<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<(), IssuerError>> {
        Box::pin(async move {
            drop(self.open(issuer)?);
            self.steps.step().await;
            {
                let mut inner = self.lock();
                let changes = inner.key_changes.entry(issuer.clone()).or_default();
                *changes = changes.wrapping_add(1);
            }
            self.steps.step().await;
            Ok(())
        })
    }

    fn account_key<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<Option<String>, IssuerError>> {
        Box::pin(async move {
            let changes = self.open(issuer)?.key_changes.get(issuer).copied().unwrap_or(0);
            Ok(Some(format!("key-{changes}")))
        })
    }

    fn take_evidence(&self, _issuer: &IssuerId, _url: &str) -> Evidence {
        Evidence::default()
    }
}

fn authorization(url: &str, index: usize, name: &Name) -> AuthorizationView {
    let kind = if name.is_wildcard() { ChallengeKind::Dns01 } else { ChallengeKind::Http01 };
    let index = index.to_string();
    let token = [order_part(url), "-", &index].concat();
    let challenge = ChallengeView {
        kind,
        url: Arc::from([url, "#", &index].concat()),
        key_authorization: [&token, ".thumbprint"].concat(),
        token,
    };
    AuthorizationView { name: name.authorized(), valid: false, challenges: vec![challenge] }
}
