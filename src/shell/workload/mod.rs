//! The SPIFFE Workload API and Envoy's secret discovery on one Unix socket: programs of this machine get certificates of
//! private CAs, with keys that were made for them in memory, and new ones before the old ones end.
//!
//! ```text
//! connect ─► who is it? (kernel) ─► call ─► which workloads? path open? ─► certificate there? ─► recorded ─► sent
//!                                      ▲                                                                   │
//!                                      └── renewed, revoked, bundle or list changed, path moved ◄──────────┘
//! ```
//! Two halves: the [`book`] has certificates made and knows what is trusted; the [`server`] speaks. Refuses to know how a
//! CA signs and why a path is closed.

mod book;
mod lenient;
mod meter;
mod record;
mod sds;
mod server;
mod spiffe;
mod view;

use core::fmt;
use core::future::Future;
use std::sync::Arc;

use tokio::net::UnixListener;

use crate::domain::workload::Workload;
use crate::engine::Engine;
use crate::engine::authority::Authority;
use crate::ports::Ports;
use crate::shell::config::WorkloadApi;
use crate::shell::http::{SocketFiles, unix_socket};

use self::book::Book;
pub use self::book::Standing;
use self::meter::WorkloadMeter;
use self::record::Records;
use self::server::Server;

/// Everything of it. Cheap to clone; [`Workloads::run`] is called once.
#[derive(Clone)]
pub struct Workloads {
    book: Arc<Book>,
    server: Arc<Server>,
}

impl fmt::Debug for Workloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workloads")
    }
}

/// The socket, bound and not answered yet.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    files: SocketFiles,
}

/// Binds the socket.
///
/// # Errors
/// A sentence with how to mend it.
pub fn bind(settings: &WorkloadApi) -> Result<Bound, String> {
    let socket = &settings.socket;
    let (listener, files) = unix_socket(&socket.path, socket.mode, socket.group.as_deref())
        .map_err(|e| format!("the workload API: {e}"))?;
    Ok(Bound { listener, files })
}

impl Workloads {
    /// Over the private CAs; a guardian without them (a sealed one) says so to everybody who asks.
    ///
    /// # Errors
    /// If the registry has such series already.
    pub fn new(
        settings: &WorkloadApi,
        workloads: &[Workload],
        ports: &Ports,
        engine: &Arc<Engine>,
        authority: Option<Arc<Authority>>,
        registry: &prometheus::Registry,
    ) -> Result<Self, String> {
        let meter = WorkloadMeter::new(registry).map_err(|e| e.to_string())?;
        let records = Records::new(ports, engine.store());
        let book =
            Arc::new(Book::new(workloads, engine.clone(), authority, ports.clock.clone(), records, meter.clone()));
        let server = Arc::new(Server::new(settings, book.clone(), meter));
        Ok(Self { book, server })
    }

    /// Serves until `stop` is ready; then every call is ended.
    pub async fn run(&self, bound: Bound, stop: impl Future<Output = ()> + Send) {
        let Bound { listener, files } = bound;
        let work = async { futures_util::join!(self.server.serve(listener), self.book.tend()) };
        tokio::select! {
            () = stop => {}
            _ = work => {}
        }
        self.server.end().await;
        drop(files);
    }

    /// Goes on with these workloads: those that did not change keep their certificates.
    pub fn adopt(&self, workloads: &[Workload]) {
        self.book.adopt(workloads);
    }

    /// How they are, in the order of the configuration.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.book.standings()
    }
}
