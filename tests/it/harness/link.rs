//! Links in this process: a CA, a gate with a lever, a service that echoes, and peers of every kind.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::adapters::link::{Doors, LinkMeter, Listener, Proxy};
use keyward::domain::gate::{Reason as Why, Verdict};
use keyward::domain::id::{LinkId, PathId};
use keyward::domain::inventory::Estate;
use keyward::domain::link::{Address, Identity, Link, Listen, PeerId, Reason, Side, Status};
use keyward::domain::time::Timestamp;
use keyward::ports::{Clock, Ports};
use keyward::sim::store::MemoryStore;
use keyward::sim::world::World;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::acme::TestClock;
use super::life::PATIENCE;
use super::pki::{Ca, Der};

pub type Tls = TlsStream<TcpStream>;

/// A certificate with its key.
pub struct Pair {
    pub chain: Vec<Der>,
    pub key: KeyPair,
}

impl Pair {
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    pub fn chain_pem(&self) -> String {
        keyward::codec::pem::certificates(&self.chain)
    }
}

/// A leaf for both purposes; `names` as `PeerId` writes them.
pub fn pair(ca: &Ca, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Pair {
    let (leaf, key) = ca.leaf(&[], |params| {
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.strip_prefix("dns:") {
                Some(dns) => SanType::DnsName(dns.to_owned().try_into().unwrap()),
                None => SanType::URI((*name).to_owned().try_into().unwrap()),
            })
            .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(params);
    });
    Pair { chain: vec![leaf], key }
}

pub const ENGINE: &str = "spiffe://example.com/engine";
pub const PORTAL: &str = "dns:portal.example.com";

/// A gate that a test moves.
#[derive(Clone)]
pub struct Lever(pub Arc<Mutex<(Option<&'static str>, Timestamp)>>);

impl Lever {
    pub fn open(&self) {
        self.0.lock().unwrap().0 = None;
    }
    pub fn close(&self) {
        self.0.lock().unwrap().0 = Some("KW4004");
    }
    pub fn until(&self, end: Timestamp) {
        self.0.lock().unwrap().1 = end;
    }
}

/// Echoes what comes, and says `bye` after its end.
pub struct Echo {
    pub address: SocketAddr,
    pub now: Arc<AtomicUsize>,
    pub ever: Arc<AtomicUsize>,
}

impl Echo {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (now, ever) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (own, all) = (now.clone(), ever.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let now = own.clone();
                all.fetch_add(1, Ordering::SeqCst);
                now.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        match stream.read(&mut buffer).await {
                            Ok(0) => {
                                drop(stream.write_all(b"bye").await);
                                drop(stream.shutdown().await);
                                break;
                            }
                            Ok(n) if stream.write_all(&buffer[..n]).await.is_ok() => {}
                            _ => break,
                        }
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, now, ever }
    }

    pub fn live(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }
}

/// A link that runs, with everything around it.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub ca: Ca,
    pub own: Pair,
    pub echo: Echo,
    pub lever: Lever,
    pub clock: Arc<TestClock>,
    pub store: Arc<MemoryStore>,
    pub registry: prometheus::Registry,
    pub address: SocketAddr,
    pub link: Link,
    pub proxy: Proxy,
    stop: Option<oneshot::Sender<()>>,
}

impl Rig {
    /// A server side that lets the engine through.
    pub async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn with(edit: impl FnOnce(&mut Link, &Ca)) -> Self {
        let rig = Self::unready(edit).await;
        rig.wait("the link is ready", |s| s.closed.is_none()).await;
        rig
    }

    /// The same, whatever comes of it.
    pub async fn unready(edit: impl FnOnce(&mut Link, &Ca)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::root("mesh root", |_| {});
        let own = pair(&ca, &[PORTAL], |_| {});
        let echo = Echo::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let mut link = Link {
            id: LinkId::parse("portal-in").unwrap(),
            path: PathId::parse("approve").unwrap(),
            side: Side::Server,
            listen: Listen::Tcp(address),
            forward: Address::Tcp { host: "127.0.0.1".into(), port: echo.address.port() },
            server_name: None,
            identity: Identity::Files { credential: None, certificate: at("own.pem"), key: at("own.key") },
            ca: None,
            roots: vec![at("roots.pem")],
            crls: Vec::new(),
            peers: vec![PeerId::parse(ENGINE).unwrap()],
            alpn: Vec::new(),
            max_connections: 100,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        };
        fs::write(dir.path().join("own.pem"), own.chain_pem()).unwrap();
        fs::write(dir.path().join("own.key"), own.key.serialize_pem()).unwrap();
        fs::write(dir.path().join("roots.pem"), keyward::codec::pem::certificates(&[&ca.der])).unwrap();
        edit(&mut link, &ca);
        let clock = TestClock::new();
        let world = World::new(1, clock.now(), Estate::default());
        let store = Arc::new(MemoryStore::new());
        store.remember();
        let ports = Ports { clock: clock.clone(), ..world.ports() };
        let lever = Lever(Arc::new(Mutex::new((None, Timestamp::MAX))));
        let gate = {
            let (lever, clock) = (lever.clone(), clock.clone());
            Arc::new(move |path: &PathId| verdict(path, &lever, &clock))
        };
        let registry = prometheus::Registry::new();
        let meter = LinkMeter::new(&registry).unwrap();
        let doors = Doors::new(&ports, store.clone(), gate, Arc::new(|_: &_| None), meter, None);
        let proxy = Proxy::new(Arc::new(link.clone()), Arc::new(doors));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = proxy.clone();
        tokio::spawn(async move { running.run(Listener::Tcp(listener), async { drop(stopped.await) }).await });
        Self { dir, ca, own, echo, lever, clock, store, registry, address, link, proxy, stop: Some(stop) }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn engine(&self) -> Pair {
        pair(&self.ca, &[ENGINE], |_| {})
    }

    /// Connects as this peer and says nothing yet.
    pub async fn connect(&self, peer: Option<&Pair>) -> std::io::Result<Tls> {
        connect(self.address, &client(&self.ca, peer, &rustls::version::TLS13)).await
    }

    /// Connects, says something, and hears it back.
    pub async fn speak(&self, peer: Option<&Pair>) -> std::io::Result<Tls> {
        let mut tls = self.connect(peer).await?;
        echo(&mut tls, b"hello").await?;
        Ok(tls)
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub fn refused(&self, reason: Reason) -> u64 {
        self.proxy.status().refused[&reason]
    }

    /// Refusals that are not zero.
    pub fn refusals(&self) -> BTreeMap<Reason, u64> {
        self.proxy.status().refused.into_iter().filter(|(_, n)| *n > 0).collect()
    }

    pub async fn wait(&self, what: &str, met: impl Fn(&Status) -> bool) {
        let began = Instant::now();
        loop {
            let status = self.proxy.status();
            if met(&status) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The actions and codes in the log.
    pub fn entries(&self) -> Vec<(&'static str, &'static str)> {
        let batches = self.store.written();
        batches.iter().flat_map(|b| b.entries.iter().map(|e| (e.action, e.code))).collect()
    }
}

pub fn verdict(path: &PathId, lever: &Lever, clock: &TestClock) -> Verdict {
    let (closed, until) = *lever.0.lock().unwrap();
    let (at, at_boot) = (clock.now(), clock.boottime());
    let code = closed.unwrap_or("KW4004");
    let why = Why { code, credential: None, text: "a test said so".into(), reopens: "later" };
    let mut verdict = Verdict { until, ..Verdict::closed(path, why, at, at_boot) };
    if closed.is_none() {
        verdict.reasons.clear();
    }
    verdict
}

/// A rustls client that trusts the CA.
pub fn client(ca: &Ca, peer: Option<&Pair>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match peer {
        Some(pair) => builder.with_client_auth_cert(pair.chain.clone(), pair.key_der()).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// Takes any server that has the key of its certificate.
#[derive(Debug)]
pub struct Anybody(pub Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("only TLS 1.3")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub async fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from("portal.example.com").unwrap();
    tokio::time::timeout(PATIENCE, TlsConnector::from(config.clone()).connect(name, tcp)).await.expect("a handshake")
}

/// Says something and hears it back.
pub async fn echo(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    text: &[u8],
) -> std::io::Result<()> {
    stream.write_all(text).await?;
    let mut back = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("an echo or an end")?;
    assert_eq!(back, text);
    Ok(())
}

/// How long until the other side ends the connection.
pub async fn end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Duration {
    let began = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an end") {
            Ok(0) | Err(_) => return began.elapsed(),
            Ok(_) => {}
        }
    }
}

impl Rig {
    /// The time that the link goes by.
    pub fn proxy_now(&self) -> Timestamp {
        self.clock.now()
    }
}
