//! The door to those who rely on private CAs: what they trust, and whether they let a canary in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Doing, HostError, PrivateKey};
use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::key::Digest;

/// A relying party that lives in this process: nobody has to acknowledge for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Its id.
    pub party: RelyingPartyId,
    /// Who is told when it lags behind.
    pub owner: Arc<str>,
    /// SHA-256 of each anchor that it goes by now; `None` while it has none that it could go by.
    pub anchors: Option<BTreeSet<Digest>>,
}

/// A leaf for nobody, with its key: relying parties are probed with it.
#[derive(Debug)]
pub struct CanaryLeaf {
    /// The leaf and the issuing CA (DER).
    pub chain: Vec<Arc<[u8]>>,
    /// Its key.
    pub key: PrivateKey,
}

/// What a relying party did with a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It let it in: the chain is good there.
    Accepted,
    /// It did not; why, as far as it can be told.
    Refused(String),
    /// It was not reached, so nothing is known.
    Unreached(String),
}

/// Whoever relies on private CAs. Probes may run at once; each has a deadline and never fails otherwise.
pub trait Relying: Send + Sync {
    /// Those that live in this process and rely on `ca`.
    fn here(&self, ca: &CaId) -> Vec<Here>;
    /// A key for a canary, with its SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// If none can be made.
    fn canary_key(&self) -> Result<(PrivateKey, Arc<[u8]>), HostError>;
    /// Whether this token is a party's of this CA. Compared in the same time whatever it is.
    fn proves(&self, ca: &CaId, party: &RelyingPartyId, token: &str) -> bool;
    /// Shows a canary to a party.
    fn probe<'a>(&'a self, party: &'a RelyingPartyId, canary: &'a CanaryLeaf) -> Doing<'a, Probed>;
}
