//! The levers of a scripted CA: faults, outages, revocation, the embedded zone; and what happened so far.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::book::Stage;
use super::fault::{Ari, Endpoint, Fault, FaultId, Scope, Strike};
use super::house::Try;
use super::scripted::Scripted;
use super::server::{Ca, lock};
use super::stats::{AccountKeyRecord, CertificateRecord, OrderRecord, ValidationRecord, ViolationRecord};
use crate::domain::certificate::CertId;

/// Moves and watches a running CA; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Control(pub(super) Arc<Ca>, pub(super) Arc<Scripted>);

impl core::fmt::Debug for Control {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Control({})", self.0.urls.base)
    }
}

impl Control {
    /// Puts a fault in place at these endpoints, at all of them if there is none in the list.
    pub fn inject(&self, at: &[Endpoint], scope: Scope, fault: Fault) -> FaultId {
        self.1.faults().inject(at, scope, fault)
    }

    /// Takes one fault away.
    pub fn lift(&self, fault: FaultId) {
        self.1.faults().lift(fault);
    }

    /// Takes all faults away and ends an outage.
    pub fn heal(&self) {
        self.1.faults().heal();
        self.resume();
    }

    /// How often a fault that is still in place has struck.
    #[must_use]
    pub fn struck(&self, fault: FaultId) -> u64 {
        self.1.faults().struck(fault)
    }

    /// An outage: every connection is closed without an answer.
    pub fn pause(&self) {
        self.1.paused.store(true, Ordering::Relaxed);
    }

    /// The end of an outage.
    pub fn resume(&self) {
        self.1.paused.store(false, Ordering::Relaxed);
    }

    /// Issues for all orders that [`Fault::StuckProcessing`] holds; returns how many there were.
    pub fn release_stuck(&self) -> usize {
        let stuck = |stage: &Stage| matches!(stage, Stage::Processing { stuck: true, .. });
        let orders: Vec<u64> = self.0.book().orders.values().filter(|o| stuck(&o.stage)).map(|o| o.id).collect();
        for order in &orders {
            // A scripted CA signs at once.
            let signed = futures_util::FutureExt::now_or_never(self.0.issue(*order, Try::First, &Strike::default()));
            debug_assert!(signed.is_some(), "it waited for something");
        }
        orders.len()
    }

    /// The URL of the terms of service from now on. Accounts that agreed to others go on (see [`Fault::TermsChanged`]).
    pub fn set_terms(&self, url: &str) {
        *lock(&self.1.terms) = Some(url.to_owned());
    }

    /// What renewal information says from now on of certificates without an answer of their own.
    pub fn set_ari(&self, ari: Ari) {
        *lock(&self.1.ari) = ari;
    }

    /// What renewal information says from now on of one certificate; says whether there is such a one.
    #[must_use]
    pub fn set_ari_of(&self, id: &CertId, ari: Ari) -> bool {
        let mut book = self.0.book();
        book.certificate_by_id(id).map(|c| c.ari = Some(ari)).is_some()
    }

    /// Revokes a certificate; says whether there is such a one that was not revoked yet.
    #[must_use]
    pub fn revoke(&self, id: &CertId) -> bool {
        let now = self.0.clock.now();
        let mut book = self.0.book();
        book.certificate_by_id(id).filter(|c| c.revoked.is_none()).map(|c| c.revoked = Some(now)).is_some()
    }

    /// Whether a certificate is revoked; `None` if there is no such one.
    #[must_use]
    pub fn is_revoked(&self, id: &CertId) -> Option<bool> {
        self.0.book().certificate_by_id(id).map(|c| c.revoked.is_some())
    }

    /// Adds a TXT record to the embedded zone.
    pub fn add_txt(&self, name: &str, value: &str) {
        lock(&self.0.zone).txt.entry(canonical(name)).or_default().push(value.to_owned());
    }

    /// Removes all TXT records of a name from the embedded zone.
    pub fn clear_txt(&self, name: &str) {
        lock(&self.0.zone).txt.remove(&canonical(name));
    }

    /// Makes a name of the embedded zone an alias of another.
    pub fn set_cname(&self, name: &str, target: &str) {
        lock(&self.0.zone).cname.insert(canonical(name), canonical(target));
    }

    /// How many requests an endpoint has had, those that faults struck included.
    #[must_use]
    pub fn requests(&self, endpoint: Endpoint) -> u64 {
        self.1.stats().requests.get(&endpoint).copied().unwrap_or(0)
    }

    /// Orders created, oldest first.
    #[must_use]
    pub fn orders(&self) -> Vec<OrderRecord> {
        self.1.stats().orders.all()
    }

    /// Certificates issued, oldest first.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateRecord> {
        self.1.stats().certificates.all()
    }

    /// Validations tried, oldest first.
    #[must_use]
    pub fn validations(&self) -> Vec<ValidationRecord> {
        self.1.stats().validations.all()
    }

    /// Account keys registered or changed to, oldest first.
    #[must_use]
    pub fn account_keys(&self) -> Vec<AccountKeyRecord> {
        self.1.stats().account_keys.all()
    }

    /// Requests that went beyond a limit, oldest first.
    #[must_use]
    pub fn violations(&self) -> Vec<ViolationRecord> {
        self.1.stats().violations.all()
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
