//! Certificates that servers present over TLS 1.2 and 1.3.
//!
//! The handshake proves that the server holds the certificate's key; everything else about the chain is reported, not
//! judged. Nothing is ever sent over the connection. Sessions are never resumed: a resumed one presents no certificate.

use core::fmt;
use core::time::Duration;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::starttls;
use crate::codec::live_roots::LiveRoots;
use crate::codec::verify;
use crate::domain::inventory::{Endpoint, Seen};
use crate::ports::HostError;

/// Name, connection, greeting and handshake together.
const DEADLINE: Duration = Duration::from_secs(5);

/// Handshakes at once: each costs two file descriptors and some 50 KiB.
const AT_ONCE: usize = 64;

/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// The next address is tried beside the one before after this long (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(super) struct Prober {
    roots: LiveRoots,
    places: Arc<Semaphore>,
    config: Arc<ClientConfig>,
    provider: Arc<CryptoProvider>,
}

impl Prober {
    pub(super) fn new(roots: LiveRoots) -> Result<Self, HostError> {
        let mut provider = aws_lc_rs::default_provider();
        // What is asked is who answers, not a secret: the cheapest exchange goes first, and servers that want another
        // get it.
        provider.kx_groups.sort_by_key(|group| group.name() != rustls::NamedGroup::X25519);
        let provider = Arc::new(provider);
        let verifier = Arc::new(Presented::new(Arc::clone(&provider)));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| HostError(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { roots, places: Arc::new(Semaphore::new(AT_ONCE)), config: Arc::new(config), provider })
    }

    /// What an endpoint presents. The deadline starts when its turn comes.
    pub(super) async fn served(&self, endpoint: &Endpoint) -> Seen {
        let Ok(_place) = self.places.acquire().await else {
            return Seen::Unreachable("the prober was stopped".to_owned());
        };
        let presented = Arc::new(Presented::new(Arc::clone(&self.provider)));
        let handshake = tokio::time::timeout(DEADLINE, self.handshake(endpoint, &presented)).await;
        // A server that wants a certificate from us breaks off after it has shown and proved its own.
        if let Some(ders) = presented.proved() {
            return match verify::chain(&ders, &self.roots.now()) {
                Ok(chain) => Seen::Present(Arc::new(chain)),
                Err(error) => Seen::Unparseable(format!("what {endpoint} presents {error}")),
            };
        }
        match handshake {
            Ok(Err(Failure::NoCertificate(text))) => {
                tracing::debug!(%endpoint, %text, "no certificate");
                Seen::Missing
            }
            Ok(Err(Failure::Garbage(text))) => Seen::Unparseable(text),
            Ok(Err(Failure::Other(text))) => Seen::Unreadable(text),
            Ok(Err(Failure::Unreached(text))) => Seen::Unreachable(text),
            Ok(Ok(())) => Seen::Missing,
            Err(_) => Seen::Unreachable(format!("no TLS handshake with {endpoint} within {} s", DEADLINE.as_secs())),
        }
    }

    async fn handshake(&self, endpoint: &Endpoint, presented: &Arc<Presented>) -> Result<(), Failure> {
        let (name, enable_sni) = match &endpoint.sni {
            Some(sni) => {
                let name = ServerName::try_from(sni.clone());
                (name.map_err(|_| Failure::Other(format!("{sni:?} cannot be sent as a server name")))?, true)
            }
            None => (ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST)), false),
        };
        let mut config = ClientConfig::clone(&self.config);
        config.enable_sni = enable_sni;
        let verifier: Arc<dyn ServerCertVerifier> = Arc::<Presented>::clone(presented);
        config.dangerous().set_certificate_verifier(verifier);
        let mut tcp = connect(endpoint).await.map_err(Failure::Unreached)?;
        starttls::negotiate(&mut tcp, endpoint.starttls)
            .await
            .map_err(|text| Failure::Other(format!("no TLS at {endpoint}: {text}")))?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(name, tcp).await.map_err(|error| explain(endpoint, &error))?;
        // A polite end, so that the server logs no broken connection; whether it arrives changes nothing.
        drop(tls.shutdown().await);
        Ok(())
    }
}

enum Failure {
    /// The server has none for us.
    NoCertificate(String),
    /// It presents something that is no certificate.
    Garbage(String),
    /// It does not speak TLS as it should, or refuses to.
    Other(String),
    /// It was not reached, or the connection broke before anything was said.
    Unreached(String),
}

/// Connects to the first address that answers.
async fn connect(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let addresses = addresses(endpoint).await?;
    let mut failed = Vec::new();
    let mut under_way = FuturesUnordered::new();
    let mut left = addresses.into_iter();
    loop {
        if let Some(address) = left.next() {
            under_way.push(async move { (address, TcpStream::connect(address).await) });
        }
        // While there are more addresses, each gets a head start; the last ones get all the time that is left.
        let next = if left.len() > 0 {
            tokio::time::timeout(STAGGER, under_way.next()).await.ok()
        } else {
            Some(under_way.next().await)
        };
        match next {
            Some(Some((_, Ok(stream)))) => {
                // Only small messages follow; without this the last one may wait for an acknowledgement.
                stream.set_nodelay(true).map_err(|error| format!("cannot connect to {endpoint}: {error}"))?;
                return Ok(stream);
            }
            Some(Some((address, Err(error)))) => failed.push((address, error)),
            Some(None) if left.len() == 0 => {
                let said = failed.first().map_or_else(|| "no address".to_owned(), |(_, error)| said(error));
                let count = if failed.len() > 1 { format!(" (all {} addresses)", failed.len()) } else { String::new() };
                return Err(format!("cannot connect to {endpoint}: {said}{count}"));
            }
            Some(None) | None => {}
        }
    }
}

async fn addresses(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, endpoint.port)]);
    }
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|error| format!("cannot resolve {}: {}", endpoint.host, said(&error)))?;
    let found: Vec<_> = found.take(MOST_ADDRESSES).collect();
    if found.is_empty() { Err(format!("cannot resolve {}: no address", endpoint.host)) } else { Ok(found) }
}

/// The common errors in words, without numbers.
#[allow(clippy::wildcard_enum_match_arm, reason = "the enum has dozens of kinds, and all others read well as they are")]
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => error.to_string(),
    }
}

/// Tells a server without a certificate for us from one that cannot be talked to.
fn explain(endpoint: &Endpoint, error: &io::Error) -> Failure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = |what: String| format!("no TLS handshake with {endpoint}: {what}");
    match tls {
        // RFC 6066 section 3: how a server says that it has nothing under this name.
        Some(
            rustls::Error::NoCertificatesPresented | rustls::Error::AlertReceived(AlertDescription::UnrecognisedName),
        ) => Failure::NoCertificate(text("no certificate".to_owned())),
        Some(rustls::Error::InvalidMessage(_)) => Failure::Other(text("the answer is not TLS".to_owned())),
        Some(rustls::Error::AlertReceived(alert)) => {
            Failure::Other(text(format!("the server refuses with the alert {alert:?}")))
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
            Failure::Other(text("the server does not prove that it holds the key of its certificate".to_owned()))
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            Failure::Garbage(format!("what {endpoint} presents is no well-formed X.509 v3 certificate"))
        }
        Some(other) => Failure::Other(text(other.to_string())),
        None => Failure::Unreached(text(said(error))),
    }
}

/// Keeps what one server presents, and whether it proved to hold the key.
struct Presented {
    provider: Arc<CryptoProvider>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    ders: Vec<CertificateDer<'static>>,
    proved: bool,
}

impl Presented {
    fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, kept: Mutex::default() }
    }

    fn proved(&self) -> Option<Vec<CertificateDer<'static>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.proved.then(|| core::mem::take(&mut kept.ders)).filter(|ders| !ders.is_empty())
    }

    fn note(
        &self,
        outcome: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if outcome.is_ok() {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).proved = true;
        }
        outcome
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

impl ServerCertVerifier for Presented {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = core::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).ders = all.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note(verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note(verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
