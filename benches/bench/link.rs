//! `cargo bench -- link [SECONDS]`: a link beside the plainest proxy of rustls, and beside HAProxy where it is installed,
//! each with certificates on both sides over TLS 1.3, one after the other in one run, twice.
//!
//! Client, proxies of our own and service share this process and its machine; HAProxy has a process of its own. So a
//! figure alone says little; the ratios are what counts.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward::adapters::link::{Doors, LinkMeter, Listener, Proxy};
use keyward::domain::gate::{Reason, Verdict};
use keyward::domain::id::{LinkId, PathId};
use keyward::domain::inventory::Estate;
use keyward::domain::link::{Address, Identity, Link, Listen, PeerId, Side};
use keyward::domain::time::Timestamp;
use keyward::ports::Ports;
use keyward::shell::wire;
use keyward::sim::world::World;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::report::figure;

/// Connections that carry bytes, and those that are made one after the other.
const STREAMS: usize = 4;
const MAKERS: usize = 8;
const CHUNK: usize = 64 * 1_024;
const NAME: &str = "portal.example.com";

pub async fn link(seconds: u64) {
    let span = Duration::from_secs(seconds);
    let dir = std::env::temp_dir().join(format!("keyward-link-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let mesh = Mesh::new(&dir);
    let service = service().await;
    let ours = ours(&mesh, service, &dir).await;
    let plain = plain(&mesh, service).await;
    let haproxy = HaProxy::start(&mesh, service, &dir).await;
    for _ in 0..2 {
        let mut rates = Vec::new();
        let peers =
            [("link", Some(ours)), ("plain rustls proxy", Some(plain)), ("haproxy", haproxy.as_ref().map(|h| h.at))];
        for (who, at) in peers {
            let Some(at) = at else { continue };
            let bytes = throughput(at, &mesh.client, span).await / 1e6;
            let made = connections(at, &mesh.client, span).await;
            figure(&format!("{who}: both ways"), "MB/s", bytes);
            figure(&format!("{who}: new connections"), "1/s", made);
            rates.push((who, bytes, made));
        }
        for (who, bytes, made) in rates.iter().skip(1) {
            figure(&format!("link over {who}: both ways"), "×", rates[0].1 / bytes);
            figure(&format!("link over {who}: new connections"), "×", rates[0].2 / made);
        }
    }
    if haproxy.is_none() {
        eprintln!("haproxy is not installed: nothing to compare new connections with");
    }
    std::fs::remove_dir_all(&dir).ok();
}

struct Mesh {
    ca: CertificateDer<'static>,
    own: (CertificateDer<'static>, KeyPair),
    client: Arc<ClientConfig>,
}

impl Mesh {
    /// P-256 keys, one CA, as meshes have them.
    fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("bench CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a CA").der().clone();
        let issuer = Issuer::from_params(&params, &key);
        let leaf = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            // A leaf whose name is its CA's would count as signed by itself.
            params.distinguished_name = named(name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().expect("a key");
            (params.signed_by(&key, &issuer).expect("a leaf").der().clone(), key)
        };
        let (own, peer) = (leaf(NAME), leaf("engine.example.com"));
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("a file");
        write("ca.pem", keyward::codec::pem::certificates(&[&ca]));
        write("own.pem", keyward::codec::pem::certificates(&[&own.0]) + &own.1.serialize_pem());
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]);
        let builder = builder.expect("TLS 1.3").with_root_certificates(roots(&ca));
        let mut client = builder.with_client_auth_cert(vec![peer.0], key_der(&peer.1)).expect("a client");
        client.resumption = rustls::client::Resumption::disabled();
        Self { ca, own, client: Arc::new(client) }
    }
}

/// Without the post-quantum exchange, which HAProxy's OpenSSL does not know: all do the same work.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    Arc::new(provider)
}

fn named(cn: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, cn);
    name
}

fn roots(ca: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).expect("a root");
    roots
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// Echoes.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                let mut buffer = vec![0; CHUNK];
                while let Ok(n) = stream.read(&mut buffer).await {
                    if n == 0 || stream.write_all(&buffer[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    at
}

/// A link whose path is always open.
async fn ours(mesh: &Mesh, service: SocketAddr, dir: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let own = dir.join("own.pem").to_str().expect("UTF-8").to_owned();
    let link = Link {
        id: LinkId::parse("bench").expect("a slug"),
        path: PathId::parse("approve").expect("a slug"),
        side: Side::Server,
        listen: Listen::Tcp(at),
        forward: Address::Tcp { host: "127.0.0.1".into(), port: service.port() },
        server_name: None,
        identity: Identity::Files { credential: None, certificate: own.clone(), key: own },
        ca: None,
        roots: vec![dir.join("ca.pem").to_str().expect("UTF-8").to_owned()],
        crls: Vec::new(),
        peers: vec![PeerId::parse("dns:engine.example.com").expect("a peer")],
        alpn: Vec::new(),
        max_connections: 10_000,
        handshake_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(900),
    };
    assert_eq!(mesh.own.1.serialize_pem().lines().next(), Some("-----BEGIN PRIVATE KEY-----"));
    let clock = wire::clock();
    let world = World::new(1, clock.now(), Estate::default());
    let ports = Ports { clock: clock.clone(), ..world.ports() };
    let gate = Arc::new(move |path: &PathId| {
        let why = Reason { code: "KW4008", credential: None, text: String::new(), reopens: "" };
        let closed = Verdict::closed(path, why, clock.now(), clock.boottime());
        Verdict { reasons: Vec::new(), until: Timestamp::MAX, ..closed }
    });
    let meter = LinkMeter::new(&prometheus::Registry::new()).expect("series");
    let doors = Doors::new(&ports, ports.store.clone(), gate, Arc::new(|_: &_| None), meter, None);
    let proxy = Proxy::new(Arc::new(link), Arc::new(doors));
    let running = proxy.clone();
    tokio::spawn(async move { running.run(Listener::Tcp(listener), std::future::pending()).await });
    while proxy.status().closed.is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    at
}

/// What a page of documentation makes of rustls: a verifier of its own, tickets off, bytes both ways.
async fn plain(mesh: &Mesh, service: SocketAddr) -> SocketAddr {
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&mesh.ca)), provider()).build();
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("TLS 1.3").with_client_cert_verifier(verifier.expect("a verifier"));
    let mut config = builder.with_single_cert(vec![mesh.own.0.clone()], key_der(&mesh.own.1)).expect("a server");
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                tcp.set_nodelay(true).ok();
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let Ok(mut far) = TcpStream::connect(service).await else { return };
                far.set_nodelay(true).ok();
                tokio::io::copy_bidirectional(&mut tls, &mut far).await.ok();
            });
        }
    });
    at
}

/// HAProxy with the same certificates, two threads, no tickets.
struct HaProxy {
    child: Child,
    at: SocketAddr,
}

impl HaProxy {
    async fn start(mesh: &Mesh, service: SocketAddr, dir: &Path) -> Option<Self> {
        let at = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let (own, ca) = (dir.join("own.pem"), dir.join("ca.pem"));
        let text = format!(
            "global\n nbthread 2\n maxconn 4000\n tune.ssl.cachesize 0\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend in\n bind {at} ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3 no-tls-tickets\n \
             default_backend out\nbackend out\n server s {service}\n",
            own.display(),
            ca.display()
        );
        std::fs::write(dir.join("haproxy.cfg"), text).expect("a file");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(dir.join("haproxy.cfg")).stdout(Stdio::null());
        let child = command.spawn().ok()?;
        let began = Instant::now();
        while session(at, &mesh.client).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "haproxy does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self { child, at })
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

/// A handshake and one byte through the service and back: before that nobody knows whether the peer was let in.
async fn session(at: SocketAddr, client: &Arc<ClientConfig>) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(at).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(NAME).expect("a name");
    let mut tls = TlsConnector::from(client.clone()).connect(name, tcp).await?;
    tls.write_all(b"x").await?;
    tls.read_exact(&mut [0]).await?;
    Ok(tls)
}

/// New connections a second.
async fn connections(at: SocketAddr, client: &Arc<ClientConfig>, span: Duration) -> f64 {
    let began = Instant::now();
    let makers = (0..MAKERS).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut made = 0_u64;
            while began.elapsed() < span {
                session(at, &client).await.expect("a session");
                made += 1;
            }
            made
        })
    });
    let mut all = 0;
    for maker in makers.collect::<Vec<_>>() {
        all += maker.await.expect("a count");
    }
    all as f64 / began.elapsed().as_secs_f64()
}

/// Bytes a second that came back.
async fn throughput(at: SocketAddr, client: &Arc<ClientConfig>, span: Duration) -> f64 {
    let back = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let tls = session(at, client).await.expect("a session");
        let (mut read, mut write) = tokio::io::split(tls);
        let counted = back.clone();
        tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; CHUNK];
            while let Ok(n) = read.read(&mut buffer).await {
                if n == 0 {
                    break;
                }
                counted.fetch_add(n as u64, Ordering::Relaxed);
            }
        }));
        tasks.push(tokio::spawn(async move {
            let chunk = vec![7; CHUNK];
            while write.write_all(&chunk).await.is_ok() {}
        }));
    }
    tokio::time::sleep(span).await;
    let rate = back.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    rate
}
