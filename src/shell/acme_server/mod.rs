//! A certificate authority that speaks ACME (RFC 8555, 8737, 8738, 9773), in this process: the hostile CA of the tests
//! and the CA of the demo.
//!
//! Its protocol and its validation are real; what it does wrong it does because [`Control`] says so. It keeps everything
//! in memory, within [`Bounds`], and is gone when it stops. It refuses to know Keyward's state, credentials and plans.

mod accounts;
mod answer;
mod authz;
mod book;
mod config;
mod control;
mod directory;
mod dns;
mod fault;
mod finalize;
mod house;
mod jws;
mod nonce;
mod orders;
pub(in crate::shell) mod pki;
mod problem;
mod renewal;
mod route;
mod scripted;
mod server;
mod stats;
mod tls;
mod turns;
mod validate;

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub use config::{
    Addresses, Bounds, CaConfig, Demand, Dns, ExternalBinding, Hosts, OrderList, Profile, Reach, Renewal, Reuse,
    Transport, Validation, Validator,
};
pub use control::Control;
pub use directory::{Directories, NotRuled, Ruling, WaitingOrder};
pub use fault::{Ari, Endpoint, Fault, FaultId, Length, Scope};
pub use stats::{AccountKeyRecord, CertificateRecord, OrderRecord, ValidationRecord, ViolationRecord};

use crate::domain::name::Name;
use crate::ports::{Clock, Entropy};
use book::Keeping;
use pki::Pki;
use scripted::Scripted;
use server::{Ca, Urls, lock};

/// How long [`ScriptedCa::stop`] waits for requests under way.
const GRACE: Duration = Duration::from_secs(2);

/// Why a scripted CA cannot start or issue.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on; choose another address or port 0")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// A key or certificate cannot be made.
    #[error("{0}")]
    Pki(String),
    /// The listener's TLS cannot be set up.
    #[error("the CA's own TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A running CA. It stops when dropped, at once; [`Self::stop`] lets requests under way end.
pub struct ScriptedCa {
    ca: Arc<Ca>,
    house: Arc<Scripted>,
    address: SocketAddr,
    end: watch::Sender<()>,
    listening: Option<JoinHandle<()>>,
}

impl core::fmt::Debug for ScriptedCa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ScriptedCa({})", self.ca.urls.base)
    }
}

impl ScriptedCa {
    /// Makes keys and certificates, listens, and serves in the background of the current runtime.
    ///
    /// # Errors
    /// [`CaError`]: the address is taken, a setting is wrong, or a key cannot be made.
    pub async fn start(config: CaConfig, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, CaError> {
        if !config.profiles.contains_key(&config.default_profile) {
            return Err(CaError::Config(format!(
                "default_profile {:?} is none of the profiles",
                config.default_profile
            )));
        }
        let address = config.listen;
        let failed = |source| CaError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let now = clock.now();
        let make = |name: &str| Pki::new(name, now, config.backdate, config.root_lifetime, &*entropy);
        let (pki, foreign) = (make(&config.name)?, make("Nobody")?);
        let (scheme, acceptor) = match config.transport {
            Transport::Http => ("http", None),
            Transport::Https => {
                let mut hosts = vec![Name::Ip(bound.ip())];
                hosts.extend(Name::parse("localhost"));
                hosts.extend(public_host(config.public_url.as_deref())?);
                hosts.dedup();
                let (certificate, key) = pki.server_identity(&hosts, &*entropy)?;
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut tls = ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate], key)?;
                tls.alpn_protocols = vec![b"http/1.1".to_vec()];
                ("https", Some(TlsAcceptor::from(Arc::new(tls))))
            }
        };
        let own = || format!("{scheme}://{bound}");
        let base = config.public_url.as_deref().map_or_else(own, |url| url.trim_end_matches('/').to_owned());
        let mut tag = [0_u8; 4];
        entropy.fill(&mut tag);
        let urls = Urls { base, tag: tag.iter().map(|b| format!("{b:02x}")).collect() };
        let config = Arc::new(config);
        let house = Arc::new(Scripted::new(config.clone(), clock.clone(), entropy.clone(), urls.clone(), pki, foreign));
        let ca = Arc::new(Ca::new(config, house.clone(), Keeping::Nothing, clock, entropy, urls));
        let (end, ended) = watch::channel(());
        let listening = tokio::spawn(listen(ca.clone(), listener, acceptor, ended));
        Ok(Self { ca, house, address: bound, end, listening: Some(listening) })
    }

    /// Where clients start.
    #[must_use]
    pub fn directory_url(&self) -> String {
        format!("{}/directory", self.ca.urls.base)
    }

    /// Where it listens, for a proxy before it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root certificate in PEM: what clients must trust, for issued certificates and for the directory itself.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.house.pki.root_pem
    }

    /// Levers and statistics.
    #[must_use]
    pub fn control(&self) -> Control {
        Control(self.ca.clone(), self.house.clone())
    }

    /// Takes no more connections, lets requests under way end within two seconds, and drops the rest.
    pub async fn stop(mut self) {
        self.end.send_replace(());
        if let Some(listening) = &mut self.listening
            && timeout(GRACE, listening).await.is_err()
        {
            tracing::debug!(ca = %self.ca.urls.base, "connections were cut off when the scripted CA stopped");
        }
    }
}

impl Drop for ScriptedCa {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
        lock(&self.ca.tasks).abort_all();
    }
}

/// The host of the URL by which clients reach the CA.
fn public_host(url: Option<&str>) -> Result<Option<Name>, CaError> {
    let Some(text) = url else { return Ok(None) };
    let bad = |why: String| CaError::Config(format!("public_url {text:?} is no scheme, host and port: {why}"));
    let url = url::Url::parse(text).map_err(|e| bad(e.to_string()))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    Name::parse(host).map(Some).map_err(|e| bad(format!("the host {e}")))
}

/// Accepts until the end, then waits for what is under way. Dropped, it drops its connections.
async fn listen(ca: Arc<Ca>, listener: TcpListener, acceptor: Option<TlsAcceptor>, mut ended: watch::Receiver<()>) {
    let places = Arc::new(Semaphore::new(ca.config.bounds.connections.max(1)));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // The semaphore is never closed, so that there is always a place in the end.
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            _ = ended.changed() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, most likely: others must close first.
            ca.clock.sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (ca, acceptor, ended) = (ca.clone(), acceptor.clone(), ended.clone());
        connections.spawn(async move {
            connection(ca, (stream, peer.ip()), acceptor, ended).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    ca: Arc<Ca>,
    (stream, from): (TcpStream, IpAddr),
    acceptor: Option<TlsAcceptor>,
    ended: watch::Receiver<()>,
) {
    // Without it Nagle and delayed acknowledgements add 40 ms to every other answer.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match acceptor {
        None => requests(ca, stream, from, ended).await,
        Some(acceptor) => {
            if let Ok(Ok(tls)) = timeout(ca.config.bounds.idle, acceptor.accept(stream)).await {
                requests(ca, tls, from, ended).await;
            }
        }
    }
}

async fn requests<S>(ca: Arc<Ca>, stream: S, from: IpAddr, mut ended: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let idle = ca.config.bounds.idle;
    let service = service_fn(move |request| ca.clone().serve(request, from));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    // An error means that the client went away or that a fault dropped the answer: nobody is left to tell.
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        _ = ended.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::trace!(%error, "a connection to the ACME server ended early");
    }
}
