//! A whole guardian in this process: a real configuration, the real doors, a scripted CA beside it, and real time with a
//! lever. Everything is below one temporary directory and on a loopback address of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use keyward::domain::execution::Generation;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::engine::view::CredentialView;
use keyward::engine::{Command, Engine};
use keyward::ports::{Clock as _, Notice, StoreError, Urgency};
use keyward::shell::acme_server::{CaConfig, Control, Hosts, ScriptedCa, Validation, Validator};
use keyward::shell::config::{Overrides, parse};
use keyward::shell::wire::{WireError, Wired, wire_with};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::acme::{TestClock, TestEntropy};
use super::estate::cid;

/// Longer than anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A directory, an address, a clock and a CA.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub ip: IpAddr,
    /// Where the CA looks for http-01 and tls-alpn-01.
    pub http: SocketAddr,
    pub tls: SocketAddr,
    pub clock: Arc<TestClock>,
    pub ca: ScriptedCa,
    pub control: Control,
}

impl Place {
    pub async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    /// With another CA than the default.
    pub async fn with(edit: impl FnOnce(&mut CaConfig, &mut Validator)) -> Self {
        let (ip, clock) = (own_address(), TestClock::new());
        let (http, tls) = (free_port(ip), free_port(ip));
        let mut validator = Validator {
            http_port: http.port(),
            tls_port: tls.port(),
            other_hosts: Hosts::At(ip),
            ..Validator::default()
        };
        let mut config = CaConfig { listen: SocketAddr::new(ip, 0), ..CaConfig::default() };
        edit(&mut config, &mut validator);
        config.validation = Validation::On(Box::new(validator));
        let ca = ScriptedCa::start(config, clock.clone(), Arc::new(TestEntropy)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("root.pem"), ca.root_pem()).unwrap();
        fs::create_dir(dir.path().join("live")).unwrap();
        let control = ca.control();
        Self { dir, ip, http, tls, clock, ca, control }
    }

    /// A path below the directory.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// The configuration down to the CA (`ca`) and a solver that listens for http-01 (`web`), and then `rest`, where
    /// `@` stands for the directory.
    pub fn toml(&self, rest: &str) -> String {
        self.toml_with("", "", rest)
    }

    /// The same with more keys at the top and for the issuer.
    pub fn toml_with(&self, top: &str, issuer: &str, rest: &str) -> String {
        let text = format!(
            "state_dir = \"@/state\"\n{top}\n[listen]\nhttp = \"127.0.0.1:9180\"\n[timing]\nreopen_after = \"0s\"\nflaps = 0\nprobe_every = \"10s\"\n\
             full_scan = \"1m\"\n[[issuer]]\nid = \"ca\"\ndirectory = \"{}\"\nroot_files = [\"@/root.pem\"]\n\
             contacts = [\"mailto:ops@example.com\"]\nterms_agreed = true\nrequests_per_second = 1000\n{issuer}\n\
             [[solver]]\nid = \"web\"\ntype = \"http-01\"\nlisten = [\"{}\"]\n{rest}",
            self.ca.directory_url(),
            self.http,
        );
        text.replace("@/", &format!("{}/", self.dir.path().display()))
    }

    pub async fn start(&self, toml: &str) -> Life {
        Life::start(toml, self.clock.clone()).await
    }

    /// Time passes for the guardian and for the CA.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// A program for hooks; `@` stands for the directory.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.at(name);
        let text = format!("#!/bin/sh\n{}\n", text.replace("@/", &format!("{}/", self.dir.path().display())));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// `[[certificate]]` with its two usual files in `@/live/ID`; `more` follows.
pub fn certificate(id: &str, names: &[&str], more: &str) -> String {
    let solvers = if more.contains("solvers = ") { "" } else { "solvers = [\"web\"]\n" };
    format!(
        "\n[[certificate]]\nid = \"{id}\"\nnames = {names:?}\nissuers = [\"ca\"]\n{solvers}{}\n",
        if more.contains("[[certificate.install]]") {
            more.to_owned()
        } else {
            // Keys of the certificate itself come before its tables.
            let (keys, tables) = more.split_at(more.find("\n[").map_or(more.len(), |at| at));
            format!("{keys}\n[[certificate.install]]\ndir = \"@/live/{id}\"\n{tables}")
        }
    )
}

/// A running guardian.
pub struct Life {
    pub wired: Wired,
    pub engine: Arc<Engine>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), StoreError>>,
    clock: Arc<TestClock>,
}

impl Life {
    pub async fn start(toml: &str, clock: Arc<TestClock>) -> Self {
        Self::try_start(toml, Overrides::default(), clock).await.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Waits for an earlier life of the same state directory to let go of it.
    pub async fn try_start(toml: &str, overrides: Overrides, clock: Arc<TestClock>) -> Result<Self, WireError> {
        let settings = parse("keyward.toml", toml, overrides).unwrap_or_else(|e| panic!("{e}"));
        let began = Instant::now();
        let wired = loop {
            match wire_with(&settings, clock.clone()) {
                Err(WireError::Store(StoreError::InUse(_))) if began.elapsed() < Duration::from_secs(10) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => break other?,
            }
        };
        let engine = Arc::new(Engine::start(wired.ports.clone(), Arc::new(settings.estate)).await?);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = engine.clone();
        let run = tokio::spawn(async move { running.run(async { drop(stopped.await) }).await });
        Ok(Self { wired, engine, stop, run, clock })
    }

    /// An orderly end.
    pub async fn stop(self) {
        self.stop.send(()).ok();
        self.run.await.unwrap().unwrap();
    }

    /// The loop ends in the middle of whatever it does, as by SIGKILL; what is durable stays.
    pub async fn kill(self) {
        self.run.abort();
        drop(self.run.await);
    }

    /// The loop ends, the views stay.
    pub async fn freeze(&mut self) {
        self.run.abort();
        while !self.run.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn view(&self, id: &str) -> CredentialView {
        self.engine.credential(&cid(id)).unwrap_or_else(|| panic!("{id} is not configured"))
    }

    /// Wakes the loop after the clock was moved, and has everything looked at again.
    pub fn scan(&self) {
        self.engine.command(Command::Scan).unwrap();
    }

    pub fn renew(&self, id: &str) {
        self.engine.command(Command::Renew { credential: cid(id), by: Arc::from("uid:0") }).unwrap();
    }

    /// Polls until `look` gives something; fails with everything that is known.
    pub async fn wait<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(!self.run.is_finished(), "the loop ended while waiting for: {what}");
            if began.elapsed() > PATIENCE {
                let mut said: Vec<String> =
                    self.notices().iter().map(|n| format!("{} {}: {}", n.code, n.about, n.text)).collect();
                for view in self.engine.credentials() {
                    said.push(format!("{}: held {:?}, attempt {:?}", view.credential.id, view.held, view.attempt));
                }
                said.push(format!("audit: {:?}", self.codes().await));
                panic!("not within {PATIENCE:?}: {what}\n{}", said.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The first certificate, once it is installed and nothing is in flight for it.
    pub async fn installed(&self, id: &str) -> Generation {
        self.wait(&format!("{id} is installed"), |l| settled(&l.view(id))).await
    }

    /// Another one than `old`.
    pub async fn renewed(&self, id: &str, old: &Generation) -> Generation {
        let other = |l: &Self| settled(&l.view(id)).filter(|g| g.fingerprint != old.fingerprint);
        self.wait(&format!("{id} is renewed"), other).await
    }

    /// Waits for an audit entry of this code about the credential, and gives the newest.
    pub async fn entry(&self, id: &str, code: &str) -> Value {
        self.entry_after(id, code, 0).await
    }

    /// The same, past the first `seen` entries of that code.
    pub async fn entry_after(&self, id: &str, code: &str, seen: usize) -> Value {
        let began = Instant::now();
        loop {
            let all = self.entries().await;
            let found: Vec<&Value> =
                all.iter().filter(|e| e["data"]["code"] == code && e.to_string().contains(id)).collect();
            if found.len() > seen {
                return (*found.last().unwrap()).clone();
            }
            if began.elapsed() > PATIENCE {
                self.wait(&format!("an entry {code} about {id}"), |_| None::<()>).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All audit entries, oldest first.
    pub async fn entries(&self) -> Vec<Value> {
        super::store::readable(&*self.wired.ports.store).await
    }

    pub async fn codes(&self) -> Vec<String> {
        self.entries().await.iter().map(|e| e["data"]["code"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn count(&self, code: &str) -> usize {
        self.codes().await.iter().filter(|c| *c == code).count()
    }

    pub fn notices(&self) -> Vec<Notice> {
        self.wired.notices().into_iter().map(|(_, n)| n).collect()
    }

    /// Whether somebody was told to act, with this code.
    pub fn told(&self, code: &str) -> bool {
        self.notices().iter().any(|n| n.code == code && n.urgent == Urgency::Act)
    }

    /// Codes of the present findings.
    pub fn findings(&self, id: &str) -> Vec<&'static str> {
        self.view(id).findings.iter().map(|f| f.code).collect()
    }

    pub async fn finding(&self, id: &str, code: &str) -> String {
        let look = |l: &Self| l.view(id).findings.iter().find(|f| f.code == code).map(|f| f.text.clone());
        self.wait(&format!("{id} has the finding {code}"), look).await
    }

    /// What the audit trail and the notices hold of failures and calls for people.
    pub async fn complaints(&self) -> Vec<String> {
        let failures = self.entries().await.into_iter().filter(|e| {
            let code = e["data"]["code"].as_str().unwrap();
            e["data"]["outcome"] == "failure" || code.starts_with("KW3")
        });
        let notices = self.notices().into_iter().filter(|n| n.urgent == Urgency::Act);
        failures.map(|e| e["data"].to_string()).chain(notices.map(|n| format!("{n:?}"))).collect()
    }
}

fn settled(view: &CredentialView) -> Option<Generation> {
    view.record.current.clone().filter(|_| view.attempt.is_none())
}

/// Everything below a directory: kind, inode, time of change, mode, owner, and the hash of contents or link.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let content = if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            "directory".to_owned()
        } else if meta.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else {
            format!("file {}", Digest::of(&fs::read(&path).unwrap_or_default()))
        };
        let facts = format!(
            "{content}, inode {}, changed {}.{:09}, mode {:o}, owner {}:{}",
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.mode(),
            meta.uid(),
            meta.gid()
        );
        all.insert(path, facts);
    }
    all
}

/// What an endpoint serves, by openssl: the serial number in capitals; the chain must lead to `root` at the real time.
pub fn served(address: SocketAddr, sni: Option<&str>, root: &Path) -> String {
    try_served(address, sni, root).unwrap_or_else(|text| panic!("{text}"))
}

/// The same; `Err` with what openssl said if the chain does not lead to `root`.
pub fn try_served(address: SocketAddr, sni: Option<&str>, root: &Path) -> Result<String, String> {
    let sni = sni.map_or(vec!["-noservername".to_owned()], |s| vec!["-servername".to_owned(), s.to_owned()]);
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-CAfile"])
        .arg(root)
        .args(sni)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is missing: run tests/run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("Verify return code: 0 (ok)") {
        return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(x509_serial(&rustls_leaf(&text)))
}

fn rustls_leaf(text: &str) -> Vec<u8> {
    super::deploy::ders(text).first().expect("a certificate").to_vec()
}

/// The serial number of a certificate, as [`hex`] writes it.
pub fn x509_serial(der: &[u8]) -> String {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    hex(certificate.tbs_certificate.raw_serial())
}

/// Hexadecimal without leading zeros, in small letters.
pub fn hex(bytes: &[u8]) -> String {
    keyward::domain::key::hex(bytes).trim_start_matches('0').to_owned()
}

/// A loopback address of this process alone, so that no other test takes its ports.
pub fn own_address() -> IpAddr {
    let pid = std::process::id();
    let part = |shift: u32, mask: u32| u8::try_from(pid >> shift & mask).unwrap();
    // Neighbours start at the same time, so no two of them may share an address.
    IpAddr::V4(Ipv4Addr::new(127, 100 + part(15, 0x7f) % 100, part(7, 0xff), 2 + part(0, 0x7f)))
}

/// A port that nobody has used in this process and that is free for TCP and UDP.
pub fn free_port(ip: IpAddr) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    loop {
        let address = SocketAddr::new(ip, NEXT.fetch_add(1, Ordering::Relaxed));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
