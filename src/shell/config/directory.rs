//! What the configuration says of ACME directories over private CAs.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::network::Network;
use crate::domain::directory::{ChallengeKind, Policy};
use crate::domain::id::{CaId, DirectoryId};

/// An ACME directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// Its id.
    pub id: DirectoryId,
    /// Where, by which names, with which certificate and over which CA: what only a restart changes.
    pub place: DirectoryPlace,
    /// How control of names is checked; a restart changes it too.
    pub validation: DirectoryValidation,
    /// Whether new accounts need an external binding.
    pub binding: Binding,
    /// Files with the HMAC keys, by key id.
    pub keys: Vec<(Arc<str>, PathBuf)>,
    /// Who may have what.
    pub policy: Policy,
    /// Terms of service that new accounts must agree to.
    pub terms: Option<String>,
    /// Who is told, where no external account key says so.
    pub owner: Option<Arc<str>>,
    /// How long and how many orders wait for a person.
    pub waiting: Waiting,
    /// Limits.
    pub limits: DirectoryLimits,
}

/// What only a restart changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryPlace {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Scheme, host and port by which clients reach it, without a slash at the end.
    pub url: String,
    /// Its own chain in PEM, leaf first.
    pub certificate_file: PathBuf,
    /// The private key of that in PEM.
    pub key_file: PathBuf,
    /// Who signs.
    pub ca: CaId,
}

/// Whether new accounts need an external binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// They do.
    Required,
    /// They may have one.
    Optional,
}

/// How long and how many orders wait for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Longer than that an order does not wait: it becomes invalid.
    pub longest: Duration,
    /// More than that do not wait: the next one is refused.
    pub most: usize,
    /// For so long the same account may order again what a person allowed.
    pub holds: Duration,
}

/// Limits of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// New orders of an account in an hour.
    pub orders_per_hour: u32,
    /// Failed validations of an account in an hour.
    pub failures_per_hour: u32,
    /// New accounts from an address in an hour.
    pub accounts_per_hour: u32,
    /// Accounts of the directory.
    pub accounts: usize,
    /// Unfinished orders of an account.
    pub open_orders: usize,
}

/// How control of names is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryValidation {
    /// The kinds of challenge on offer.
    pub challenges: Vec<ChallengeKind>,
    /// The DNS server that is asked; the system's for addresses if there is none.
    pub resolver: Option<SocketAddr>,
    /// The port of http-01.
    pub http_port: u16,
    /// The port of tls-alpn-01.
    pub tls_port: u16,
    /// Networks besides the Internet that may be connected to.
    pub allow: Vec<Network>,
    /// Networks that may never be.
    pub forbid: Vec<Network>,
}
