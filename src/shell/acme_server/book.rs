//! What the CA remembers: accounts, orders, authorizations, certificates; bounded, in memory.
//!
//! Refuses to know requests: it answers what is there, in which state (RFC 8555 section 7.1.6), and makes room.
//!
//! ```text
//! order: open (pending → ready, as its authorizations say) → [waiting →] processing → valid
//!          └──────────────────────→ invalid ←────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::Bounds;
use super::fault::Ari;
use super::house::Touched;
use super::jws::Jwk;
use super::pki::Issued;
use super::problem::Problem;
use crate::domain::certificate::CertId;
use crate::domain::key::Digest;
use crate::domain::limits::Ledger;
use crate::domain::name::{Name, NameSet};
use crate::domain::time::Timestamp;
use crate::ports::{ChallengeKind, OrderStatus};

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) id: u64,
    pub(super) key: Jwk,
    pub(super) contacts: Vec<String>,
    pub(super) status: AccountStatus,
    /// Key id of its external binding.
    pub(super) external: Option<String>,
    pub(super) orders: BTreeSet<u64>,
    pub(super) at: Timestamp,
    /// What its requests took from the configured limits.
    pub(super) ledger: Ledger,
}

pub(super) use crate::domain::directory::Standing as AccountStatus;
pub(super) use crate::domain::directory::{AuthorizationStatus, ChallengeStatus};

#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) account: u64,
    pub(super) names: NameSet,
    /// The profile that the order named.
    pub(super) profile: Option<String>,
    pub(super) replaces: Option<CertId>,
    /// Whether answers repeat `replaces`.
    pub(super) echo: bool,
    pub(super) authorizations: Vec<u64>,
    pub(super) at: Timestamp,
    pub(super) expires: Timestamp,
    /// When a person allowed it.
    pub(super) ruled: Option<Timestamp>,
    pub(super) stage: Stage,
}

#[derive(Clone, Debug)]
pub(super) enum Stage {
    Open,
    /// A person decides, with the public key (DER) to certify; since when.
    Waiting {
        spki: Arc<[u8]>,
        since: Timestamp,
    },
    /// With the public key (DER) to certify; since when; whether it is stuck there.
    Processing {
        spki: Arc<[u8]>,
        since: Timestamp,
        stuck: bool,
    },
    Valid {
        certificate: u64,
    },
    Invalid(Option<Problem>),
}

#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) account: u64,
    /// The order that it was made for.
    pub(super) order: u64,
    /// Never with `*.`.
    pub(super) name: Name,
    pub(super) wildcard: bool,
    pub(super) status: AuthorizationStatus,
    pub(super) expires: Timestamp,
    pub(super) challenges: Vec<Challenge>,
    /// How many orders name it.
    pub(super) uses: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Challenge {
    pub(super) kind: ChallengeKind,
    pub(super) token: String,
    pub(super) status: ChallengeStatus,
    /// When that came out, either way.
    pub(super) validated: Option<Timestamp>,
    pub(super) error: Option<Problem>,
}

#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) account: u64,
    pub(super) issued: Issued,
    pub(super) revoked: Option<Timestamp>,
    /// Whether whoever knows the key said that it is in other hands: that is said once.
    pub(super) compromised: bool,
    /// The order that said it replaces this one.
    pub(super) replaced_by: Option<u64>,
    /// What renewal information says of this one, if it differs from the rest.
    pub(super) ari: Option<Ari>,
}

pub(super) struct Book {
    bounds: Bounds,
    last: u64,
    pub(super) accounts: BTreeMap<u64, Account>,
    by_thumbprint: BTreeMap<String, u64>,
    pub(super) orders: BTreeMap<u64, Order>,
    pub(super) authorizations: BTreeMap<u64, Authorization>,
    pub(super) certificates: BTreeMap<u64, Certificate>,
    by_cert_id: BTreeMap<CertId, u64>,
    by_fingerprint: BTreeMap<Digest, u64>,
    keeping: Keeping,
    touched: (BTreeSet<u64>, BTreeSet<u64>),
}

/// Whether rows are kept beyond this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// They are: what changes is noted.
    Rows,
    /// They are not.
    Nothing,
}

impl Book {
    pub(super) fn new(bounds: Bounds, keeping: Keeping) -> Self {
        Self {
            bounds,
            last: 0,
            accounts: BTreeMap::new(),
            by_thumbprint: BTreeMap::new(),
            orders: BTreeMap::new(),
            authorizations: BTreeMap::new(),
            certificates: BTreeMap::new(),
            by_cert_id: BTreeMap::new(),
            by_fingerprint: BTreeMap::new(),
            keeping,
            touched: <(BTreeSet<u64>, BTreeSet<u64>)>::default(),
        }
    }

    /// A number that no object had yet; later objects have greater ones.
    pub(super) fn fresh(&mut self) -> u64 {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// Numbers from here on are greater than this.
    pub(super) fn after(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    pub(super) fn touch_account(&mut self, id: u64) {
        if self.keeping == Keeping::Rows {
            self.touched.0.insert(id);
        }
    }

    pub(super) fn touch_order(&mut self, id: u64) {
        if self.keeping == Keeping::Rows {
            self.touched.1.insert(id);
        }
    }

    /// Whether nothing was touched since the last time.
    pub(super) fn is_untouched(&self) -> bool {
        self.touched.0.is_empty() && self.touched.1.is_empty()
    }

    /// What was touched since the last time, as it is now.
    pub(super) fn take_touched(&mut self) -> Touched {
        let (accounts, orders) = core::mem::take(&mut self.touched);
        let accounts = accounts.into_iter().map(|id| (id, self.accounts.get(&id).cloned())).collect();
        let serial = |id: &u64| self.certificates.get(id).map(|c| Arc::from(&*c.issued.serial));
        let whole = |id: &u64| {
            let order = self.orders.get(id)?;
            let own = order.authorizations.iter().filter_map(|a| self.authorizations.get(a).cloned());
            Some((order.clone(), own.collect()))
        };
        let orders = orders.into_iter().map(|id| (id, (whole(&id), serial(&id)))).collect();
        Touched { accounts, orders }
    }

    pub(super) fn account_by_key(&self, key: &Jwk) -> Option<&Account> {
        self.accounts.get(self.by_thumbprint.get(&key.thumbprint())?)
    }

    pub(super) fn add_account(&mut self, account: Account) -> Result<(), Problem> {
        if self.accounts.len() >= self.bounds.accounts {
            return Err(full("accounts", self.bounds.accounts));
        }
        self.touch_account(account.id);
        self.by_thumbprint.insert(account.key.thumbprint(), account.id);
        self.accounts.insert(account.id, account);
        Ok(())
    }

    /// Puts `key` in the place of the account's key.
    pub(super) fn change_key(&mut self, id: u64, key: Jwk) {
        self.touch_account(id);
        if let Some(account) = self.accounts.get_mut(&id) {
            self.by_thumbprint.remove(&account.key.thumbprint());
            self.by_thumbprint.insert(key.thumbprint(), id);
            account.key = key;
        }
    }

    /// Adds an order and its new authorizations; the oldest finished order makes room.
    pub(super) fn add_order(
        &mut self,
        order: Order,
        authorizations: Vec<(u64, Authorization)>,
        now: Timestamp,
    ) -> Result<(), Problem> {
        while self.orders.len() >= self.bounds.orders.max(1) {
            let oldest = self.orders.values().find(|o| finished(self.status(o, now))).map(|o| o.id);
            self.drop_order(oldest.ok_or_else(|| full("unfinished orders", self.bounds.orders))?);
        }
        if let Some(account) = self.accounts.get_mut(&order.account) {
            account.orders.insert(order.id);
        }
        self.authorizations.extend(authorizations);
        for id in &order.authorizations {
            if let Some(authorization) = self.authorizations.get_mut(id) {
                authorization.uses = authorization.uses.saturating_add(1);
            }
        }
        self.touch_order(order.id);
        self.orders.insert(order.id, order);
        Ok(())
    }

    fn drop_order(&mut self, id: u64) {
        let Some(order) = self.orders.remove(&id) else { return };
        self.touch_order(id);
        if let Some(account) = self.accounts.get_mut(&order.account) {
            account.orders.remove(&id);
        }
        for id in order.authorizations {
            if let Some(authorization) = self.authorizations.get_mut(&id) {
                authorization.uses = authorization.uses.saturating_sub(1);
                if authorization.uses == 0 {
                    self.authorizations.remove(&id);
                }
            }
        }
    }

    /// Puts an account back that was kept.
    pub(super) fn restore_account(&mut self, account: Account) {
        self.after(account.id);
        self.by_thumbprint.insert(account.key.thumbprint(), account.id);
        self.accounts.insert(account.id, account);
    }

    /// Puts an order back that was kept.
    pub(super) fn restore_order(&mut self, order: Order, authorizations: Vec<(u64, Authorization)>) {
        if let Some(account) = self.accounts.get_mut(&order.account) {
            account.orders.insert(order.id);
        }
        self.authorizations.extend(authorizations);
        self.orders.insert(order.id, order);
    }

    /// Says of each certificate which order replaces it, as the orders do.
    pub(super) fn mark_replaced(&mut self) {
        let replaced: Vec<(CertId, u64)> =
            self.orders.values().filter_map(|o| Some((o.replaces.clone()?, o.id))).collect();
        for (id, order) in replaced {
            if let Some(certificate) = self.certificate_by_id(&id) {
                certificate.replaced_by = Some(order);
            }
        }
    }

    /// Forgets an order with its certificate.
    pub(super) fn forget(&mut self, id: u64) {
        self.drop_order(id);
        if let Some(old) = self.certificates.remove(&id) {
            self.by_cert_id.remove(&old.issued.cert_id);
            self.by_fingerprint.remove(&old.issued.fingerprint);
        }
    }

    /// The order's status, as its stage, its authorizations and its age say.
    pub(super) fn status(&self, order: &Order, now: Timestamp) -> OrderStatus {
        match &order.stage {
            Stage::Waiting { .. } | Stage::Processing { .. } => OrderStatus::Processing,
            Stage::Valid { .. } => OrderStatus::Valid,
            Stage::Invalid(_) => OrderStatus::Invalid,
            Stage::Open if order.expires <= now => OrderStatus::Invalid,
            Stage::Open => {
                let mut all = true;
                for id in &order.authorizations {
                    match self.authorizations.get(id).filter(|a| a.expires > now).map(|a| a.status) {
                        Some(AuthorizationStatus::Valid) => {}
                        Some(AuthorizationStatus::Pending) => all = false,
                        Some(AuthorizationStatus::Invalid | AuthorizationStatus::Deactivated) | None => {
                            return OrderStatus::Invalid;
                        }
                    }
                }
                if all { OrderStatus::Ready } else { OrderStatus::Pending }
            }
        }
    }

    /// Under the number of its order.
    pub(super) fn add_certificate(&mut self, id: u64, certificate: Certificate) {
        while self.certificates.len() >= self.bounds.certificates.max(1) {
            let Some((_, old)) = self.certificates.pop_first() else { break };
            self.by_cert_id.remove(&old.issued.cert_id);
            self.by_fingerprint.remove(&old.issued.fingerprint);
        }
        self.by_cert_id.insert(certificate.issued.cert_id.clone(), id);
        self.by_fingerprint.insert(certificate.issued.fingerprint, id);
        self.certificates.insert(id, certificate);
    }

    pub(super) fn certificate_by_id(&mut self, id: &CertId) -> Option<&mut Certificate> {
        self.certificates.get_mut(self.by_cert_id.get(id)?)
    }

    pub(super) fn certificate_by_der(&mut self, der: &[u8]) -> Option<&mut Certificate> {
        self.certificates.get_mut(self.by_fingerprint.get(&Digest::of(der))?)
    }

    /// A valid authorization of the account for this name that is not about to end.
    pub(super) fn valid_authorization(
        &self,
        account: &Account,
        name: &Name,
        wildcard: bool,
        now: Timestamp,
    ) -> Option<u64> {
        let orders = account.orders.iter().rev().filter_map(|id| self.orders.get(id));
        orders.flat_map(|o| &o.authorizations).copied().find(|id| {
            self.authorizations.get(id).is_some_and(|a| {
                a.name == *name
                    && a.wildcard == wildcard
                    && a.status == AuthorizationStatus::Valid
                    && a.expires > now.plus(crate::domain::time::HOUR)
            })
        })
    }
}

fn finished(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Valid | OrderStatus::Invalid)
}

fn full(what: &str, most: usize) -> Problem {
    Problem::new(
        http::StatusCode::SERVICE_UNAVAILABLE,
        "serverInternal",
        format!("this CA keeps at most {most} {what}, and they are all in use"),
    )
}
