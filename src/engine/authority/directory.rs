//! What an ACME directory needs of the private CAs: its rows, made durable with the entries that tell of them, and
//! certificates that a crash never makes twice.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::authority::Wish;
use crate::domain::certificate::CertId;
use crate::domain::directory::{Account, Order};
use crate::domain::id::{CaId, DirectoryId, ProfileId};
use crate::domain::key::{Digest, from_hex, hex};
use crate::domain::register::{Issued, Phase};
use crate::domain::state::Change;
use crate::domain::time::Timestamp;
use crate::engine::authority::{Authority, Denied};
use crate::ports::{Batch, Notice, RenewalInfo, StoreError, Urgency};

/// A certificate by its serial number, as the register has it.
pub type Known = (Arc<str>, Arc<Issued>);

/// The rows of a directory, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Accounts.
    pub accounts: Vec<(u64, Arc<Account>)>,
    /// Orders.
    pub orders: Vec<(u64, Arc<Order>)>,
}

impl Authority {
    /// What a directory remembers.
    #[must_use]
    pub fn rows(&self, directory: &DirectoryId) -> Rows {
        let desk = self.engine.read();
        let accounts = desk.state.accounts.iter().filter(|(id, _)| id.directory == *directory);
        let orders = desk.state.orders.iter().filter(|(id, _)| id.directory == *directory);
        Rows {
            accounts: accounts.map(|(id, account)| (id.number, account.clone())).collect(),
            orders: orders.map(|(id, order)| (id.number, order.clone())).collect(),
        }
    }

    /// An entry about a directory; `by` is a person, if one did it.
    #[must_use]
    pub fn note(&self, directory: &DirectoryId, action: &'static str, code: &'static str, by: Option<&str>) -> Draft {
        let mut draft = self.engine.draft(action, code, Target::new(TargetKind::Directory, directory));
        if let Some(by) = by {
            draft.by(&self.engine.person(by));
        }
        draft
    }

    /// Makes rows of a directory durable, with the entries that tell of them, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was written.
    pub async fn keep(&self, changes: Vec<Change>, entries: Vec<Draft>) -> Result<(), StoreError> {
        self.engine.commit(Batch { changes, entries }).await
    }

    /// Issues a leaf, and gives it as the register has it.
    ///
    /// # Errors
    /// [`Denied`], as [`Authority::issue`].
    pub async fn issue_known(&self, ca: &CaId, profile: &ProfileId, wish: &Wish, by: &str) -> Result<Known, Denied> {
        let given = self.issue(ca, profile, wish, by).await?;
        self.issued(&given.serial).ok_or_else(|| Denied::UnknownSerial(given.serial.to_string()))
    }

    /// What was issued before a crash for an order that was finalized at `since`: for the same names, profile and key, not
    /// before that, and no other order's. Looks through all that was issued.
    #[must_use]
    pub fn issued_since(&self, ca: &CaId, profile: &ProfileId, wish: &Wish, since: Timestamp) -> Option<Known> {
        let (now, spki) = (self.now(), Digest::of(&wish.spki));
        let desk = self.engine.read();
        let mut all = desk.state.issued.iter();
        let found = all.find(|(serial, i)| {
            let same = i.spki == spki
                && i.at >= since
                && i.fingerprint.is_some()
                && i.names == wish.names
                && i.spiffe == wish.spiffe
                && i.profile == *profile
                && i.generation.ca == *ca;
            let good = i.revoked.is_none() && i.validity.contains(now);
            same && good && !desk.state.orders.values().any(|order| order.stage.serial() == Some(*serial))
        });
        found.map(|(serial, issued)| (serial.clone(), issued.clone()))
    }

    /// A certificate of the register.
    #[must_use]
    pub fn issued(&self, serial: &str) -> Option<Known> {
        let desk = self.engine.read();
        desk.state.issued.get_key_value(serial).map(|(serial, issued)| (serial.clone(), issued.clone()))
    }

    /// The certificate of whoever signed it (DER).
    #[must_use]
    pub fn above(&self, issued: &Issued) -> Option<Arc<[u8]>> {
        let desk = self.engine.read();
        let generation = desk.state.generations.get(&issued.generation)?;
        Some(generation.issuing.as_ref()?.certificate.as_ref()?.der.clone())
    }

    /// A certificate with its chain, as PEM.
    ///
    /// # Errors
    /// [`Denied`] if it is not kept any more.
    pub async fn pem_chain(&self, fingerprint: Digest) -> Result<String, Denied> {
        self.chain_of(fingerprint).await
    }

    /// When to renew a certificate (RFC 9773).
    #[must_use]
    pub fn suggested(&self, id: &CertId) -> Option<RenewalInfo> {
        self.window(id)
    }

    /// Tells people.
    pub fn tell_owner(&self, about: String, owner: Option<String>, code: &'static str, text: String, urgent: Urgency) {
        self.engine.ports.notifier.notify(Notice { about, owner, code, text, urgent });
    }

    /// Whether a CA can sign leaves.
    #[must_use]
    pub fn is_signing(&self, ca: &CaId) -> bool {
        self.generations(ca).iter().any(|(_, generation)| generation.phase == Phase::SIGNING)
    }

    /// How long the certificates of a profile live.
    #[must_use]
    pub fn lifetime(&self, ca: &CaId, profile: &ProfileId) -> Option<Duration> {
        self.cas().get(ca)?.profiles.get(profile).map(|profile| profile.lifetime)
    }
}

/// The id for renewal information (RFC 9773 section 4.1) from the issuer's key identifier and a serial number in
/// hexadecimal.
#[must_use]
pub fn cert_id(key_id: &[u8], serial: &str) -> Option<CertId> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let serial = from_hex(serial).filter(|bytes| hex(bytes) == serial)?;
    Some(CertId(Arc::from(format!("{}.{}", B64.encode(key_id), B64.encode(serial)))))
}
