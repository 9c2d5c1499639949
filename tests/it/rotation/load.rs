//! A rotation of root and issuing CA under a continuous load of short mTLS connections: not one fails.
//!
//! The links, nginx and the handshakes are real; the time of the certificates is moved by the test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::adapters::shelf::FileShelf;
use keyward::domain::id::{LinkId, PathId};
use keyward::domain::inventory::Estate;
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::link::{Address, Identity, Link, Listen, PeerId, Side};
use keyward::domain::register::GenerationId;
use keyward::domain::rotation::{Party, Phase, Setting, Shows};
use keyward::domain::time::{MINUTE, Timestamp, Validity};
use keyward::ports::{Clock, Ports, Shelf};
use keyward::shell::link::Links;
use keyward::shell::relying::{Parties, PartySettings};
use keyward::shell::wire::canary::ProbeAt;
use keyward::shell::wire::link::{Doors, LinkMeter};
use keyward::sim::store::MemoryStore;
use keyward::sim::world::World;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::acme::TestClock;
use crate::harness::ca_bytes::Key;
use crate::harness::clocks::Wall;
use crate::harness::life::{free_port, own_address};
use crate::harness::link::{Echo, Lever, verdict};
use crate::harness::rotation::{Realm, ca_id, mesh, party};

/// Real time for what has to come; simulated time goes faster.
const PATIENCE: Duration = Duration::from_secs(80);
const LEAF: Duration = Duration::from_secs(600);
/// So much simulated time passes in each turn of some 0.3 s: a renewed file is read within a second, four minutes before
/// the leaf would end.
const STEP: Duration = Duration::from_secs(15);

/// A workload with a leaf in files, which it renews as a `[[certificate]]` would.
struct Workload {
    id: String,
    place: PathBuf,
    held: Mutex<Option<(GenerationId, Validity)>>,
}

impl Workload {
    fn new(dir: &Path, name: &str) -> Self {
        let place = dir.join(name);
        fs::create_dir(&place).unwrap();
        Self { id: format!("spiffe://mesh.example/{name}"), place, held: Mutex::default() }
    }

    fn path(&self, file: &str) -> String {
        self.place.join(file).to_str().unwrap().to_owned()
    }

    /// Gives whether there are new files.
    async fn tend(&self, realm: &Realm) -> bool {
        let now = realm.clock.now();
        let signing = realm.phases().into_iter().rev().find(|(_, p)| *p == Phase::Signing).map(|(n, _)| n);
        let held = self.held.lock().unwrap().clone();
        let good = held.is_some_and(|(by, span)| {
            // From a generation that signs no more it is renewed somewhat before half of its life.
            let permille = if Some(by.number) == signing { 500 } else { 300 };
            now < span.at_permille(permille)
        });
        if good {
            return false;
        }
        let key = Key::new(KeyAlgorithm::P256);
        // While the guardian is away the one at hand goes on.
        let Ok(given) = realm.issue_for(&self.id, &key).await else { return false };
        let pem = keyward::codec::pem::private_key(&key.pkcs8);
        for (file, text) in
            [("key.pem", pem.to_string()), ("chain.pem", keyward::codec::pem::certificates(&given.chain))]
        {
            let new = self.place.join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.place.join(file)).unwrap();
        }
        *self.held.lock().unwrap() = Some((given.generation, given.validity));
        true
    }
}

/// Short connections, one after the other, by several hands; remembers what failed.
struct Load {
    done: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn new() -> Self {
        Self { done: Arc::default(), failed: Arc::default(), stop: Arc::default() }
    }

    fn begin<F: Future<Output = Result<(), String>> + Send>(&self, once: impl Fn() -> F + Send + Sync + 'static) {
        let (done, failed, stop) = (self.done.clone(), self.failed.clone(), self.stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                match tokio::time::timeout(Duration::from_secs(10), once()).await {
                    Ok(Ok(())) => drop(done.fetch_add(1, Ordering::SeqCst)),
                    Ok(Err(why)) => failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(why),
                    Err(_) => {
                        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push("no answer".to_owned())
                    }
                }
                // Not so fast that nothing else runs on two cores.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    fn check(&self, what: &str) -> u64 {
        let failed = self.failed.lock().unwrap();
        assert!(
            failed.is_empty(),
            "{what}: {} failed, of {}: {:?}",
            failed.len(),
            self.done.load(Ordering::SeqCst),
            &failed[..failed.len().min(3)]
        );
        self.done.load(Ordering::SeqCst)
    }
}

/// Two workloads that speak with each other through links, in both directions.
struct Rig {
    _dir: tempfile::TempDir,
    realm: Realm,
    workloads: Vec<Workload>,
    links: Arc<Links>,
    load: Load,
}

fn setting(setting: &mut Setting) {
    setting.skew = Duration::ZERO;
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        let shelf = Arc::new(FileShelf::open(&pki).unwrap());
        let workloads = vec![Workload::new(dir.path(), "a"), Workload::new(dir.path(), "b")];
        let echo = Echo::start().await;
        let mut all = Vec::new();
        let mut doors = Vec::new();
        for (own, peer) in [(0_usize, 1_usize), (1, 0)] {
            let [inside, outside] = [(); 2].map(|()| free_port(own_address()));
            let (from, to) = (&workloads[own], &workloads[peer]);
            all.push(link(&pki, &format!("to-{peer}"), from, to, Side::Client, inside, outside));
            all.push(link(&pki, &format!("at-{peer}"), to, from, Side::Server, outside, echo.address));
            doors.push(inside);
        }
        let parties = Arc::new(Parties::new(&[], &all, pki));
        let realm = Realm::with(mesh(LEAF), parties.clone(), shelf, setting).await;
        realm.made().await;
        for workload in &workloads {
            assert!(workload.tend(&realm).await);
        }
        let links = links(&realm.clock, &all).await;
        parties.serve(&links);
        let rig = Self { _dir: dir, realm, workloads, links, load: Load::new() };
        rig.wait("the links are ready", |rig| rig.links.statuses().iter().all(|s| s.closed.is_none())).await;
        for door in doors {
            for _ in 0..3 {
                rig.load.begin(move || through(door));
            }
        }
        rig
    }

    async fn wait(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !met(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:#?} {:#?}", self.realm.phases(), self.realm.told());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Goes round, lets time pass, renews, until the phases are these. With `kill`, the guardian dies each time that they
    /// change.
    async fn until(&mut self, phases: &[(u32, Phase)], kill: bool) {
        let began = Instant::now();
        let mut before = self.realm.phases();
        loop {
            self.realm.authority.round().await;
            let now = self.realm.phases();
            if now != before && kill {
                self.realm.restart().await;
                assert_eq!(self.realm.phases(), now);
            }
            before = now;
            self.load.check(&format!("on the way to {phases:?}, at {before:?}, {:?}", self.refused()));
            if before == phases {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{before:?}, and not {phases:?}: {:#?}", self.realm.told());
            for workload in &self.workloads {
                workload.tend(&self.realm).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.realm.pass(STEP);
        }
    }

    async fn ask(&self) {
        self.realm.pass(Duration::from_secs(2));
        self.realm.authority.ask_rotation(&ca_id(), "under load", "somebody").await.unwrap();
    }

    fn end(self) {
        self.load.stop.store(true, Ordering::SeqCst);
        let done = self.load.check("at the end");
        assert!(done > 200, "only {done} connections were made");
        assert!(self.refused().is_empty(), "{:?}", self.refused());
    }

    /// What the links refused, by link and reason.
    fn refused(&self) -> Vec<String> {
        let statuses = self.links.statuses();
        let own = |s: &keyward::domain::link::Status| {
            let all = s.refused.iter().filter(|(_, n)| **n > 0);
            all.map(|(reason, n)| format!("{} {reason:?} {n} {:?}", s.link.id, s.problem)).collect::<Vec<_>>()
        };
        statuses.iter().flat_map(own).collect()
    }
}

fn link(
    pki: &Path,
    id: &str,
    own: &Workload,
    peer: &Workload,
    side: Side,
    listen: SocketAddr,
    forward: SocketAddr,
) -> Arc<Link> {
    let at = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    Arc::new(Link {
        ca: None,
        id: LinkId::parse(id).unwrap(),
        path: PathId::parse("approve").unwrap(),
        side,
        listen: Listen::Tcp(listen),
        forward: Address::Tcp { host: forward.ip().to_string(), port: forward.port() },
        server_name: Some("peer.mesh.example".to_owned()),
        identity: Identity::Files { credential: None, certificate: own.path("chain.pem"), key: own.path("key.pem") },
        roots: vec![at("mesh.pem")],
        crls: vec![at("mesh.crl.pem")],
        peers: vec![PeerId::parse(&peer.id).unwrap()],
        alpn: Vec::new(),
        max_connections: 100,
        handshake_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
    })
}

async fn links(clock: &Arc<TestClock>, all: &[Arc<Link>]) -> Arc<Links> {
    let world = World::new(2, clock.now(), Estate::default());
    let ports = Ports { clock: clock.clone(), ..world.ports() };
    let lever = Lever(Arc::new(Mutex::new((None, Timestamp::MAX))));
    let clock = clock.clone();
    let gate = Arc::new(move |path: &PathId| verdict(path, &lever, &clock));
    let meter = LinkMeter::new(&prometheus::Registry::new()).unwrap();
    let doors = Doors::new(&ports, Arc::new(MemoryStore::new()), gate, Arc::new(|_: &_| None), meter, None);
    let links = Arc::new(Links::new(Arc::new(doors)));
    let prepared = links.prepare(all).await.unwrap();
    links.adopt(prepared).await;
    links
}

async fn through(door: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(door).await.map_err(|e| e.to_string())?;
    stream.write_all(b"hello").await.map_err(|e| e.to_string())?;
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.map_err(|e| e.to_string())?;
    Ok(())
}

const ROTATED: [(u32, Phase); 2] = [(1, Phase::Destroyed), (2, Phase::Signing)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_links_in_both_directions_no_handshake_fails() {
    let mut rig = Rig::new().await;
    rig.ask().await;
    rig.until(&ROTATED, false).await;
    rig.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_guardian_killed_at_each_phase_no_handshake_fails() {
    let mut rig = Rig::new().await;
    rig.ask().await;
    rig.until(&ROTATED, true).await;
    rig.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_back_from_each_phase_no_handshake_fails() {
    let mut rig = Rig::new().await;
    rig.ask().await;
    rig.until(&[(1, Phase::Draining), (2, Phase::Signing)], false).await;
    // Leaves of the new one are about.
    for _ in 0..15 {
        rig.until(&[(1, Phase::Draining), (2, Phase::Signing)], false).await;
        rig.realm.pass(STEP);
        for workload in &rig.workloads {
            workload.tend(&rig.realm).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    rig.realm.authority.roll_back(&ca_id(), 2, "a drill", "somebody").await.unwrap();
    rig.until(&[(1, Phase::Signing), (2, Phase::Draining)], true).await;
    rig.until(&[(1, Phase::Signing), (2, Phase::Destroyed)], false).await;
    // From staged: it is rolled back before anybody has looked at it.
    rig.ask().await;
    rig.realm.authority.rotate(&ca_id()).await.unwrap();
    assert_eq!(rig.realm.phase(3), Phase::Staged);
    rig.realm.authority.roll_back(&ca_id(), 3, "a drill", "somebody").await.unwrap();
    rig.until(&[(1, Phase::Signing), (2, Phase::Destroyed), (3, Phase::Draining)], true).await;
    rig.end();
}

/// Debian's nginx that wants client certificates of the mesh, under a wall clock of the test.
struct Nginx {
    dir: PathBuf,
    wall: Wall,
    at: SocketAddr,
    read: Mutex<String>,
}

impl Nginx {
    fn new(dir: &Path, pki: &Path, own: &Workload) -> Self {
        let (at, place) = (free_port(own_address()), dir.join("nginx"));
        fs::create_dir(&place).unwrap();
        let (here, pki) = (place.display(), pki.display());
        let conf = format!(
            "user root; env FAKETIME_TIMESTAMP_FILE; env FAKETIME_NO_CACHE; env FAKETIME_DONT_FAKE_MONOTONIC;\n\
             env NO_FAKE_STAT; env LD_PRELOAD; worker_processes 1; pid {here}/nginx.pid; error_log {here}/error.log info;\n\
             events {{ worker_connections 128; }}\n\
             http {{ access_log off; client_body_temp_path {here}/1; proxy_temp_path {here}/2;\n\
             fastcgi_temp_path {here}/3; uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;\n\
             server {{ listen {at} ssl; ssl_certificate {chain}; ssl_certificate_key {key}; keepalive_timeout 0;\n\
             ssl_verify_client on; ssl_verify_depth 3; ssl_client_certificate {pki}/mesh.pem;\n\
             ssl_crl {pki}/mesh.crl.pem; return 200 served; }} }}",
            chain = own.path("chain.pem"),
            key = own.path("key.pem"),
        );
        fs::write(place.join("nginx.conf"), conf).unwrap();
        let wall = Wall::new(dir, 0);
        Self { dir: place, wall, at, read: Mutex::default() }
    }

    /// What it says of client certificates.
    fn said(&self) -> String {
        let log = fs::read_to_string(self.dir.join("error.log")).unwrap_or_default();
        log.lines().rfind(|l| l.contains("SSL")).unwrap_or_default().to_owned()
    }

    fn run(&self, more: &[&str]) {
        let here = self.dir.to_str().unwrap();
        let (log, conf) = (format!("{here}/error.log"), format!("{here}/nginx.conf"));
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-p", here, "-e", &log, "-c", &conf]).args(more).envs(self.wall.environment());
        let done = command.output().expect("nginx is missing; run tests/run, which installs it");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// As a path unit of systemd would: what it reads changed, so it is reloaded.
    fn tend(&self, files: &[String]) {
        let now: String = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
        let mut read = self.read.lock().unwrap();
        if *read != now {
            let first = read.is_empty();
            *read = now;
            self.run(if first { &[] } else { &["-s", "reload"] });
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.dir.join("nginx.pid")) {
            Command::new("kill").args(["-TERM", pid.trim()]).status().ok();
            let began = Instant::now();
            while self.dir.join("nginx.pid").exists() && began.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The time of the test for whoever verifies with rustls.
#[derive(Debug)]
struct Moved(Arc<TestClock>);

impl rustls::time_provider::TimeProvider for Moved {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl std::fmt::Debug for TestClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestClock")
    }
}

/// One handshake as a workload does it: with what lies in its files now, trusting what the bundle's file says.
async fn with_nginx(at: SocketAddr, place: PathBuf, bundle: PathBuf, clock: Arc<TestClock>) -> Result<(), String> {
    let shown = |e: &dyn std::fmt::Display| e.to_string();
    let read = || {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(place.join("chain.pem")).ok()?.collect::<Result<_, _>>().ok()?;
        Some((chain, PrivateKeyDer::from_pem_file(place.join("key.pem")).ok()?))
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(bundle).map_err(|e| shown(&e))? {
        roots.add(root.map_err(|e| shown(&e))?).map_err(|e| shown(&e))?;
    }
    let config = loop {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let details = rustls::ClientConfig::builder_with_details(provider, Arc::new(Moved(clock.clone())));
        let builder = details.with_safe_default_protocol_versions().map_err(|e| shown(&e))?;
        let (chain, key) = read().ok_or("the files cannot be read")?;
        match builder.with_root_certificates(roots.clone()).with_client_auth_cert(chain, key) {
            Ok(config) => break config,
            // The two files are replaced one after the other.
            Err(rustls::Error::InconsistentKeys(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(shown(&error)),
        }
    };
    let tcp = TcpStream::connect(at).await.map_err(|e| shown(&e))?;
    let name = ServerName::from(at.ip());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| shown(&e))?;
    tls.write_all(b"GET / HTTP/1.0\r\n\r\n").await.map_err(|e| shown(&e))?;
    let mut text = Vec::new();
    tls.read_to_end(&mut text).await.map_err(|e| shown(&e))?;
    let text = String::from_utf8_lossy(&text);
    if text.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(text.lines().next().unwrap_or_default().to_owned()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_nginx_and_with_the_guardian_killed_at_each_phase_no_handshake_fails() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let shelf: Arc<dyn Shelf> = Arc::new(FileShelf::open(&pki).unwrap());
    let [server, client] = ["server", "client"].map(|name| Workload::new(dir.path(), name));
    let nginx = Nginx::new(dir.path(), &pki, &server);
    let settings = PartySettings {
        id: party("nginx"),
        cas: vec![ca_id()],
        owner: Arc::from("web"),
        token_file: None,
        probe: Some(ProbeAt {
            host: nginx.at.ip().to_string(),
            port: nginx.at.port(),
            server_name: None,
            path: Some("/".to_owned()),
        }),
    };
    let parties = Arc::new(Parties::new(&[settings], &[], pki.clone()));
    let mut realm = Realm::with(mesh(LEAF), parties, shelf, |s| {
        setting(s);
        s.parties.insert(party("nginx"), Party { owner: Arc::from("web"), shows: Shows::Canary });
    })
    .await;
    realm.made().await;
    let files = [
        pki.join("mesh.pem").to_str().unwrap().to_owned(),
        pki.join("mesh.crl.pem").to_str().unwrap().to_owned(),
        server.path("chain.pem"),
        server.path("key.pem"),
    ];
    for workload in [&server, &client] {
        assert!(workload.tend(&realm).await);
    }
    nginx.tend(&files);
    let load = Load::new();
    for _ in 0..3 {
        let (at, place, bundle, clock) = (nginx.at, client.place.clone(), pki.join("mesh.pem"), realm.clock.clone());
        load.begin(move || with_nginx(at, place.clone(), bundle.clone(), clock.clone()));
    }
    realm.pass(Duration::from_secs(2));
    realm.authority.ask_rotation(&ca_id(), "under load", "somebody").await.unwrap();
    let (began, mut ahead) = (Instant::now(), Duration::from_secs(2));
    let mut before = realm.phases();
    while realm.phases() != ROTATED {
        realm.authority.round().await;
        // The guardian dies each time that a phase changed.
        if realm.phases() != before {
            realm.restart().await;
            before = realm.phases();
        }
        load.check(&format!("at {:?}: {}", realm.phases(), nginx.said()));
        assert!(began.elapsed() < PATIENCE, "{:?}: {:#?}", realm.phases(), realm.told());
        for workload in [&server, &client] {
            workload.tend(&realm).await;
        }
        nginx.tend(&files);
        tokio::time::sleep(Duration::from_millis(300)).await;
        realm.pass(STEP);
        ahead += STEP;
        nginx.wall.jump(i64::try_from(ahead.as_secs()).unwrap());
    }
    load.stop.store(true, Ordering::SeqCst);
    let done = load.check("at the end");
    assert!(done > 200, "only {done} connections were made");
    assert!(realm.clock.now() > realm.authority.outlook(&ca_id()).unwrap().standing.changed.minus(MINUTE));
}
