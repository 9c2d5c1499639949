//! Whoever judges a peer, or is one: openssl, Caddy (Go's TLS), rustls.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyward::codec::{ca, pem};
use keyward::domain::authority::{CaCertificate, Leaf, RevocationList};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::spiffe::SpiffeId;
use keyward::domain::time::{DAY, HOUR, Timestamp, Validity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use crate::harness::ca_bytes::{Key, ROOT_LIFE, ca_certificate, leaf, names};
use crate::harness::life::{PATIENCE, free_port, own_address};
use crate::harness::link::Anybody;

/// What is asked for over every connection; each ends it after its answer.
fn question(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

fn answered(said: &[u8]) -> bool {
    let is = |head: &[u8]| said.windows(head.len()).any(|w| w == head);
    is(b"HTTP/1.1 200") || is(b"HTTP/1.0 200")
}

/// Killed when dropped.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    /// Starts it, and waits until it listens there.
    fn start(command: &mut Command, log: &Path, at: &[SocketAddr]) -> Self {
        let out = fs::File::create(log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?} ({e}): run tests/run, which installs it"));
        let mut own = Self(child);
        let began = Instant::now();
        while !at.iter().all(|at| TcpStream::connect(at).is_ok()) {
            let ended = own.0.try_wait().unwrap().is_some() || began.elapsed() > PATIENCE;
            assert!(!ended, "{command:?} does not listen: {}", fs::read_to_string(log).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        own
    }
}

/// Answers every question with yes.
pub fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut heard, mut byte) = (Vec::new(), [0]);
                while !heard.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    heard.push(byte[0]);
                }
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes"));
            });
        }
    });
    address
}

/// Asks without TLS.
pub fn plainly(to: SocketAddr, host: &str) -> bool {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(stream.write_all(question(host).as_bytes()));
    answered(&rest(&mut stream))
}

/// All that comes until an end of whatever kind.
fn rest(stream: &mut impl std::io::Read) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        said.extend_from_slice(&buffer[..count]);
    }
    said
}

/// `openssl s_client` with the certificate and key in a directory; it wants to see a chain to `trust`.
pub fn s_client(to: SocketAddr, host: &str, own: &Path, trust: &Path, more: &[&str]) -> (bool, String) {
    let mut child = Command::new("timeout")
        .args(["10", "openssl", "s_client", "-connect", &to.to_string(), "-servername", host, "-tls1_3", "-ign_eof"])
        .args(["-cert", "cert.pem", "-cert_chain", "cert.pem", "-key", "key.pem", "-verify_return_error", "-CAfile"])
        .arg(trust)
        .args(more)
        .current_dir(own)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is missing: run tests/run");
    // It may have been refused already.
    drop(child.stdin.take().unwrap().write_all(question(host).as_bytes()));
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    (answered(&said), String::from_utf8_lossy(&said).into_owned())
}

/// `openssl s_server` with the certificate and key in a directory; with `trust` (certificates and lists) it wants to see a
/// client's certificate, and its lists.
pub fn s_server(own: &Path, trust: Option<&Path>) -> (Running, SocketAddr) {
    let address = free_port(own_address());
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", &address.to_string(), "-www", "-tls1_3"]).current_dir(own);
    command.args(["-cert", "cert.pem", "-cert_chain", "cert.pem", "-key", "key.pem"]).stdin(Stdio::null());
    if let Some(trust) = trust {
        command.args(["-Verify", "4", "-verify_return_error", "-x509_strict", "-crl_check_all", "-CAfile"]).arg(trust);
    }
    (Running::start(&mut command, &own.join("s_server.log"), &[address]), address)
}

/// `openssl verify`, as strict as it can be; `trust` has the anchors and lists.
pub fn verify(own: &Path, trust: &Path) -> bool {
    let strict = ["verify", "-x509_strict", "-crl_check_all", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-CAfile"];
    let out = Command::new("openssl")
        .args(strict)
        .arg(trust)
        .args(["-untrusted", "cert.pem", "cert.pem"])
        .current_dir(own)
        .output();
    out.expect("openssl is missing: run tests/run").status.success()
}

fn ders(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect()
}

fn roots(trust: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    ders(trust).into_iter().for_each(|root| roots.add(root).unwrap());
    roots
}

/// The verifier of rustls, every list enforced.
pub fn webpki(own: &Path, trust: &Path) -> bool {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let lists = CertificateRevocationListDer::pem_file_iter(trust).unwrap().map(Result::unwrap);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(trust)), provider)
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .unwrap();
    let chain = ders(&own.join("cert.pem"));
    verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).is_ok()
}

/// rustls as a client with the certificate and key in a directory. Without roots it takes any server, and so nothing but the
/// server decides whether a session is resumed.
pub fn rustls_client(own: &Path, trust: Option<&Path>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let key = PrivateKeyDer::from_pem_file(own.join("key.pem")).unwrap();
    let builder = match trust {
        Some(trust) => builder.with_root_certificates(roots(trust)),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    Arc::new(builder.with_client_auth_cert(ders(&own.join("cert.pem")), key).unwrap())
}

/// Whether it was answered, and whether its handshake was a whole one.
pub fn rustls(to: SocketAddr, host: &str, client: &Arc<ClientConfig>) -> (bool, Option<HandshakeKind>) {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(client.clone(), name).unwrap();
    let mut tcp = TcpStream::connect(to).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut tcp);
    drop(tls.write_all(question(host).as_bytes()));
    let said = rest(&mut tls);
    (answered(&said), connection.handshake_kind())
}

/// Caddy with some sites.
pub struct Caddy {
    dir: PathBuf,
    _running: Running,
}

impl Caddy {
    pub fn start(dir: &Path, sites: &str, at: &[SocketAddr]) -> Self {
        fs::create_dir_all(dir).unwrap();
        write_sites(dir, sites);
        let mut command = caddy(dir, "run");
        command.stdin(Stdio::null());
        Self { dir: dir.to_owned(), _running: Running::start(&mut command, &dir.join("caddy.log"), at) }
    }

    /// The same process goes on with other sites.
    pub fn reload(&self, sites: &str) {
        write_sites(&self.dir, sites);
        let socket = format!("unix/{}", self.dir.join("admin.sock").display());
        let out = caddy(&self.dir, "reload").args(["--address", &socket]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

fn write_sites(dir: &Path, sites: &str) {
    let socket = dir.join("admin.sock");
    let text = format!("{{\n admin unix/{}\n auto_https off\n}}\n{sites}", socket.display());
    fs::write(dir.join("Caddyfile"), text).unwrap();
}

fn caddy(dir: &Path, what: &str) -> Command {
    let mut command = Command::new("caddy");
    command.args([what, "--adapter", "caddyfile", "--config"]).arg(dir.join("Caddyfile"));
    command.env("HOME", dir).env("XDG_DATA_HOME", dir).env("XDG_CONFIG_HOME", dir).current_dir(dir);
    command
}

/// A site with the certificate and key in a directory; it wants to see a client's certificate below one of these roots. Each
/// has a file of its own: Debian's Caddy (2.6) reads the first one of a file and no more.
pub fn site(at: SocketAddr, host: &str, own: &Path, roots: &[PathBuf]) -> String {
    let roots: String = roots.iter().map(|root| format!("   trusted_ca_cert_file {}\n", root.display())).collect();
    let own = own.display();
    format!(
        "https://{host}:{} {{\n bind {}\n tls {own}/cert.pem {own}/key.pem {{\n  protocols tls1.3\n  client_auth {{\n   \
         mode require_and_verify\n{roots}  }}\n }}\n respond \"hello\"\n}}\n",
        at.port(),
        at.ip()
    )
}

/// A site that speaks with another server, with the certificate and key in a directory.
pub fn proxy(at: SocketAddr, to: SocketAddr, host: &str, own: &Path, trust: &Path) -> String {
    let (own, trust) = (own.display(), trust.display());
    format!(
        "http://:{} {{\n bind {}\n reverse_proxy https://{to} {{\n  transport http {{\n   tls_trusted_ca_certs {trust}\n   \
         tls_client_auth {own}/cert.pem {own}/key.pem\n   tls_server_name {host}\n  }}\n }}\n}}\n",
        at.port(),
        at.ip()
    )
}

fn now() -> Timestamp {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_unix(secs.try_into().unwrap())
}

/// A good leaf below a good CA below a root that ended an hour ago, or that ends in a year: `cert.pem` and `key.pem`, the root
/// as `ca.pem`, and root and lists as `trust.pem`.
pub fn chain(dir: &Path, host: &str, id: &str, root_is_over: bool) {
    let [root_key, issuing_key, key] = [(); 3].map(|()| Key::new(KeyAlgorithm::P256));
    let root_ends = if root_is_over { now().minus(HOUR) } else { now().plus(DAY * 365) };
    let since = |span| Validity { not_before: now().minus(span), not_after: root_ends };
    let root = CaCertificate {
        validity: since(DAY * 400),
        ..ca_certificate(&format!("Root of {host}"), &root_key, ROOT_LIFE, 1)
    };
    let root = ca::Above::new(&root_key.sign(&ca::ca_certificate(&root, None, &[], &[]).unwrap())).unwrap();
    let issuing = CaCertificate {
        validity: Validity { not_before: now().minus(DAY * 30), not_after: now().plus(DAY * 300) },
        ..ca_certificate(&format!("Issuing CA of {host}"), &issuing_key, ROOT_LIFE, 0)
    };
    let issuing = root_key.sign(&ca::ca_certificate(&issuing, Some(&root), &[], &[]).unwrap());
    let issuing = ca::Above::new(&issuing).unwrap();
    let own = Leaf {
        validity: Validity { not_before: now().minus(HOUR), not_after: now().plus(HOUR * 20) },
        names: names(&[host]),
        spiffe: SpiffeId::parse(id),
        ..leaf(&key.spki)
    };
    let own = issuing_key.sign(&ca::leaf(&own, &issuing, &[], &[]).unwrap());
    let list = |above, key: &Key| {
        let (this_update, next_update) = (now().minus(HOUR), now().plus(DAY));
        let list = RevocationList { number: 1, this_update, next_update, revoked: Vec::new() };
        key.sign(&ca::revocation_list(&list, above).unwrap())
    };
    let lists = [list(&root, &root_key), list(&issuing, &issuing_key)];
    fs::create_dir_all(dir).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("cert.pem", &pem::certificates(&[&*own, issuing.der()]));
    write("key.pem", &pem::private_key(&key.pkcs8));
    write("ca.pem", &pem::certificates(&[root.der()]));
    write("trust.pem", &(pem::certificates(&[root.der()]) + &pem::lists(&lists)));
}
