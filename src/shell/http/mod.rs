//! Gate answers, metrics, health, the overview page and the API, over loopback HTTP and Unix sockets.
//!
//! | door | who comes | what they may |
//! |---|---|---|
//! | gate socket | proxies and portals, by the socket's mode and group | ask gates, get leases and permits |
//! | HTTP, loopback | this machine | ask gates, get leases, scrape, look |
//! | admin socket | the daemon's own user and root | everything |
//!
//! What changes something comes through the admin socket only, and carries the peer's uid into the audit entry. Refuses
//! to know why a path is open or closed: the engine says so, this module only carries it.

pub mod acme;
mod apart;
mod api;
mod audit;
mod audit_page;
pub mod ca;
mod exposition;
mod forget;
mod freezes;
mod gate;
mod gatekeeping;
mod grpc;
mod heavy;
mod hold;
mod keeper;
pub mod key;
mod lease;
mod links;
mod listen;
mod metrics;
pub mod model;
mod page;
mod preface;
mod problem;
mod pulse;
mod ready;
mod server;
mod shield;
mod tls;
mod views;
mod witness;
mod workloads;

use core::fmt;
use std::sync::Arc;

use crate::domain::inventory::Environment;
use crate::domain::link::Status;
use crate::engine::authority::Authority;
use crate::engine::keys::Tracker;
use crate::engine::{Engine, Refusal};
use crate::ports::{Clock, Meter, Notice, Solver, Store, Witnesses};
use crate::shell::acme_server::Directories;
use crate::shell::workload::Standing;

pub use self::links::Link;
pub use self::listen::{BindError, Listeners, bind};
pub(crate) use self::listen::{SocketFiles, unix_socket};
pub use self::server::serve;
pub(in crate::shell) use self::tls::GateCertificate;
pub use self::witness::{PATH as WITNESS_PATH, Refused, WitnessDoor, serve_witness};
pub use self::workloads::{Certificate as WorkloadCertificate, Workload};

/// What was said to people lately, newest last.
pub type Notices = Arc<dyn Fn() -> Vec<Notice> + Send + Sync>;
/// How the links are now, in the order of their ids.
pub type LinkStatuses = Arc<dyn Fn() -> Vec<Status> + Send + Sync>;
/// How the workloads are now, in the order of the configuration.
pub type WorkloadStandings = Arc<dyn Fn() -> Vec<Standing> + Send + Sync>;
/// Reads the configuration again: what was adopted, or why nothing was. May block.
pub type ReloadHook = Arc<dyn Fn() -> Result<String, NotReloaded> + Send + Sync>;

/// Why the configuration in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// The new one is wrong, or asks for what takes a restart.
    #[error("{0}")]
    Wrong(String),
    /// The engine did not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<String> for NotReloaded {
    fn from(text: String) -> Self {
        Self::Wrong(text)
    }
}

/// Everything that the answers are made of.
#[derive(Clone)]
pub struct Web {
    /// The guardian.
    pub engine: Arc<Engine>,
    /// For a credential's history.
    pub store: Arc<dyn Store>,
    /// For what the witnesses of the log have seen.
    pub witnesses: Arc<dyn Witnesses>,
    /// The private CAs, if there are any.
    pub authority: Option<Arc<Authority>>,
    /// Keys that are no certificate's; `None` while sealed.
    pub keys: Option<Arc<Tracker>>,
    /// The ACME directories over them.
    pub directories: Arc<Directories>,
    /// For times of answers.
    pub clock: Arc<dyn Clock>,
    /// Counts gate answers.
    pub meter: Arc<dyn Meter>,
    /// Says which challenges a solver can do, for previews.
    pub solver: Arc<dyn Solver>,
    /// Counters and histograms for the scrape.
    pub registry: prometheus::Registry,
    /// What was said to people lately.
    pub notices: Notices,
    /// How the links are now.
    pub links: LinkStatuses,
    /// How the workloads are now.
    pub workloads: WorkloadStandings,
    /// What `POST /v1/reload` does.
    pub reload: ReloadHook,
    /// Production or staging: said in every answer.
    pub environment: Environment,
    /// Also emit `x509_cert_not_after`, so that existing dashboards work.
    pub compat_x509: bool,
    /// More names that the HTTP listener answers to; loopback names and, where it listens elsewhere, addresses always.
    pub hosts: Vec<String>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("environment", &self.environment).finish_non_exhaustive()
    }
}
