//! The hostile CA: keys in memory, nothing durable, and whatever goes wrong because [`super::Control`] says so.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use http::StatusCode;
use http::header::RETRY_AFTER;

use super::CaError;
use super::book::{Book, Certificate};
use super::config::{CaConfig, Demand, Profile};
use super::fault::{Ari, Endpoint, Fault, Faults, Strike};
use super::house::{Admission, Ask, Event, House, Offer, Proof, Revoker, ToIssue, Touched, Unissued};
use super::pki::{Issued, Leaf, Pki, stray_spki};
use super::problem::Problem;
use super::renewal::{Suggestion, computed, over};
use super::server::lock;
use super::stats::{CertificateRecord, Stats, ViolationRecord};
use crate::domain::id::IssuerId;
use crate::domain::limits::{Spender, order_spends};
use crate::domain::name::{Name, NameSet};
use crate::domain::time::{DAY, HOUR, Timestamp, Validity};
use crate::ports::{Clock, Doing, Entropy};

/// How many full buckets an account's ledger may hold before they are swept out.
const LEDGER_SWEEP: usize = 1_000;

/// See the file's head.
pub(super) struct Scripted {
    config: Arc<CaConfig>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Makes URLs as the protocol does.
    urls: super::server::Urls,
    pub(super) pki: Pki,
    foreign: Pki,
    /// What renewal information says of certificates that have no answer of their own.
    pub(super) ari: Mutex<Ari>,
    pub(super) terms: Mutex<Option<String>>,
    pub(super) paused: AtomicBool,
    faults: Mutex<Faults>,
    stats: Mutex<Stats>,
}

impl Scripted {
    pub(super) fn new(
        config: Arc<CaConfig>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        urls: super::server::Urls,
        pki: Pki,
        foreign: Pki,
    ) -> Self {
        Self {
            ari: Mutex::new(Ari::Computed),
            terms: Mutex::new(config.terms.clone()),
            paused: AtomicBool::new(false),
            faults: Mutex::default(),
            stats: Mutex::new(Stats::new(config.bounds.records)),
            config,
            clock,
            entropy,
            urls,
            pki,
            foreign,
        }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    fn profile(&self, name: Option<&str>) -> Result<&Profile, Problem> {
        let name = name.unwrap_or(&self.config.default_profile);
        self.config.profiles.get(name).ok_or_else(|| Problem::no_profile(name, self.config.profiles.keys()))
    }

    /// Takes the order from the account's limits.
    fn spend(&self, book: &mut Book, account: u64, names: &NameSet, now: Timestamp) -> Result<(), Problem> {
        if self.config.limits.is_empty() {
            return Ok(());
        }
        let issuer = IssuerId::parse("account").map_err(|e| Problem::internal(e.to_string()))?;
        let spends = order_spends(&issuer, &self.config.limits, names);
        let Some(account) = book.accounts.get_mut(&account) else { return Ok(()) };
        // To a CA nobody is special: the reserve is the client's own affair.
        if let Err(held) = account.ledger.check(&spends, Spender::Human, now) {
            let wait = now.until(held.until).as_secs().max(1);
            let record = ViolationRecord {
                account: self.urls.url("account", account.id),
                kind: held.bucket.kind(),
                key: held.bucket.key().to_string(),
                at: now,
            };
            self.stats().violations.push(record);
            let text = format!(
                "too many orders ({} {:?}), retry after {}",
                held.bucket.kind().as_str(),
                held.bucket.key(),
                held.until
            );
            return Err(
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rateLimited", text).with(RETRY_AFTER, wait.to_string())
            );
        }
        for spend in &spends {
            account.ledger.take(spend, now);
        }
        if account.ledger.full_at.len() > LEDGER_SWEEP {
            account.ledger.full_at.retain(|_, full| *full > now);
        }
        Ok(())
    }

    fn sign(&self, asked: &ToIssue) -> Result<Issued, CaError> {
        let (now, strike) = (self.clock.now(), &asked.strike);
        let profile = self.profile(asked.profile.as_deref()).map_err(|p| CaError::Pki(p.detail.clone()))?;
        let stray = if strike.has(&Fault::WrongKey) { Some(stray_spki()?) } else { None };
        let wrong = strike.has(&Fault::WrongNames).then(|| NameSet::new(Name::parse("wrong-name.example")));
        let validity = if strike.has(&Fault::ExpiredCert) {
            Validity { not_before: now.minus(DAY), not_after: now.minus(HOUR) }
        } else {
            Validity { not_before: now.minus(self.config.backdate), not_after: now.plus(profile.lifetime) }
        };
        let pki = if strike.has(&Fault::ForeignChain) { &self.foreign } else { &self.pki };
        let spki = stray.as_deref().unwrap_or(&asked.spki);
        let leaf = Leaf { spki, names: wrong.as_ref().unwrap_or(&asked.names), validity };
        pki.issue(&leaf, &*self.entropy)
    }
}

impl House for Scripted {
    fn strike(&self, endpoint: Option<Endpoint>) -> Option<Strike> {
        let strike = endpoint.map(|e| self.faults().strike(e, &*self.entropy)).unwrap_or_default();
        if let Some(endpoint) = endpoint {
            self.stats().count(endpoint);
        }
        Some(strike).filter(|s| !self.paused.load(Ordering::Relaxed) && !s.has(&Fault::DropRequest))
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn overloaded(&self) -> bool {
        false
    }

    fn terms(&self) -> Option<String> {
        lock(&self.terms).clone()
    }

    fn demand(&self) -> Demand {
        self.config.external.demand
    }

    fn mac_key(&self, kid: &str) -> Option<Vec<u8>> {
        self.config.external.keys.get(kid).cloned()
    }

    fn profiles(&self) -> BTreeMap<String, String> {
        let words = |p: &Profile| format!("certificates of {} hours", p.lifetime.as_secs() / 3_600);
        self.config.profiles.iter().map(|(name, p)| (name.clone(), words(p))).collect()
    }

    fn offer(&self, name: Option<&str>) -> Result<Offer, Problem> {
        let profile = self.profile(name)?;
        Ok(Offer { name: name.map(str::to_owned), most_names: profile.most_names, addresses: profile.addresses })
    }

    fn welcome(&self, _: &Book, _: Option<&str>, _: IpAddr, _: Timestamp) -> Result<(), Problem> {
        Ok(())
    }

    fn order(&self, book: &mut Book, ask: &Ask<'_>, now: Timestamp) -> Result<(), Problem> {
        if ask.renewal { Ok(()) } else { self.spend(book, ask.account, ask.names, now) }
    }

    fn attempt(&self, _: &Book, _: u64, _: &Name, _: bool, _: Timestamp) -> Result<(), Problem> {
        Ok(())
    }

    fn request(&self, _: &[u8]) -> Result<Proof, Problem> {
        Ok(Proof::Unseen)
    }

    fn admit(&self, _: &Book, _: &Ask<'_>, _: Timestamp) -> Result<Admission, Problem> {
        Ok(Admission::Now)
    }

    fn confirm(&self, _: &Book, _: &Ask<'_>, _: bool, _: Timestamp) -> Result<Admission, Unissued> {
        Ok(Admission::Now)
    }

    fn happened(&self, event: Event<'_>, now: Timestamp) {
        let mut stats = self.stats();
        match event {
            Event::Key { record, .. } => stats.account_keys.push(record),
            Event::Ordered { record, .. } => stats.orders.push(record),
            Event::Validated { record, .. } => stats.validations.push(record),
            Event::Issued { order, account, issued } => stats.certificates.push(CertificateRecord {
                account: self.urls.url("account", account),
                order: self.urls.url("order", order),
                names: issued.names.clone(),
                spki: issued.spki,
                serial: issued.serial.clone(),
                cert_id: issued.cert_id.clone(),
                validity: issued.validity,
                at: now,
            }),
            Event::Deactivated { .. }
            | Event::Contacts { .. }
            | Event::Answered { .. }
            | Event::Relinquished { .. }
            | Event::Finalized { .. }
            | Event::Failed { .. } => {}
        }
    }

    fn waits(&self, _: &Book, _: u64, _: &[Name], _: Timestamp) {}

    fn keep<'a>(&'a self, _: &'a Touched) -> Doing<'a, Result<(), Problem>> {
        Box::pin(core::future::ready(Ok(())))
    }

    fn issue<'a>(&'a self, asked: &'a ToIssue) -> Doing<'a, Result<Issued, Unissued>> {
        Box::pin(async move { self.sign(asked).map_err(|why| Unissued::Never(Problem::internal(why.to_string()))) })
    }

    fn chain<'a>(&'a self, issued: &'a Issued) -> Doing<'a, Result<String, Problem>> {
        Box::pin(core::future::ready(Ok(issued.chain_pem.clone())))
    }

    fn revoke<'a>(&'a self, _: &'a Issued, _: u8, _: Revoker) -> Doing<'a, Result<(), Problem>> {
        Box::pin(core::future::ready(Ok(())))
    }

    fn window(&self, certificate: &Certificate, now: Timestamp) -> Option<Suggestion> {
        let ari = certificate.ari.clone().unwrap_or_else(|| lock(&self.ari).clone());
        match ari {
            Ari::Computed if certificate.revoked.is_some() => Some(over(now, None)),
            Ari::Computed => Some(computed(&certificate.issued.validity)),
            Ari::Absent => None,
            Ari::Window { start, end, explanation } => Some(Suggestion { start, end, explanation }),
            Ari::RenewNow { explanation } => Some(over(now, explanation)),
        }
    }
}
