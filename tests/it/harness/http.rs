//! A web server over a simulated engine, and a client that says exactly the bytes it is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::adapters::meter::PrometheusMeter;
use keyward::domain::certificate::{Certificate, Chain, Trust};
use keyward::domain::inventory::{Credential, Endpoint, Environment, Estate, Seen, Source};
use keyward::domain::key::Digest;
use keyward::domain::name::{Name, NameSet};
use keyward::domain::time::{DAY, Timestamp, Validity};
use keyward::engine::Engine;
use keyward::ports::{Doing, HostError, Ports, Prober};
use keyward::shell::config::{GateSocket, Listen};
use keyward::shell::http::{Web, bind, serve};
use keyward::sim::world::{Life, World};
use tokio::sync::oneshot;

use crate::harness::estate::start;

/// Every answer must be there within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks that were told beforehand what they see; everything else is seen by the simulated host.
#[derive(Default)]
pub struct Script {
    /// By the path of the watched file.
    pub files: BTreeMap<String, Seen>,
    /// By the endpoint's host.
    pub hosts: BTreeMap<String, Seen>,
}

struct ScriptedProber {
    script: Script,
    rest: Arc<dyn Prober>,
}

impl Prober for ScriptedProber {
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen> {
        self.rest.stored(credential)
    }

    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen> {
        let scripted = match source {
            Source::File { path, .. } => self.script.files.get(path).cloned(),
            Source::Endpoints => None,
        };
        match scripted {
            Some(seen) => Box::pin(async move { seen }),
            None => self.rest.source(source),
        }
    }

    fn matches<'a>(&'a self, pattern: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        Box::pin(async move {
            let stem = pattern.trim_end_matches('*');
            Ok(self.script.files.keys().filter(|f| f.starts_with(stem)).cloned().collect())
        })
    }

    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen> {
        match self.script.hosts.get(&endpoint.host).cloned() {
            Some(seen) => Box::pin(async move { seen }),
            None => self.rest.served(endpoint),
        }
    }
}

/// A certificate that was never issued by anybody.
pub fn seen(seed: &str, subject: &str, issuer: &str, days: u64) -> Seen {
    let leaf = Certificate {
        fingerprint: Digest::of(seed.as_bytes()),
        spki: Digest::of(seed.as_bytes()),
        serial: Digest::of(seed.as_bytes()).short().into(),
        subject: subject.into(),
        issuer: issuer.into(),
        names: NameSet::new(Name::parse(&format!("{seed}.example.com"))),
        validity: Validity { not_before: start().minus(DAY * 10), not_after: start().plus(DAY * u32_of(days)) },
        cert_id: None,
        may_issue: false,
        purposes: keyward::domain::certificate::Purposes::ALL,
        listing: keyward::domain::certificate::Listing::default(),
        faults: keyward::domain::certificate::Faults::default(),
    };
    Seen::Present(Arc::new(Chain { leaf: Arc::new(leaf), above: Vec::new(), trust: Trust::Anchored }))
}

fn u32_of(days: u64) -> u32 {
    u32::try_from(days).unwrap()
}

/// A world with an engine that lived for a minute and stands still since.
pub struct Still {
    pub world: World,
    pub engine: Arc<Engine>,
    pub ports: Ports,
    pub meter: PrometheusMeter,
    pub environment: Environment,
}

impl Still {
    pub fn new(estate: Estate) -> Self {
        Self::scripted(estate, Script::default())
    }

    pub fn scripted(estate: Estate, script: Script) -> Self {
        Self::lived(estate, script, Duration::from_secs(60))
    }

    pub fn lived(estate: Estate, script: Script, span: Duration) -> Self {
        let environment = estate.environment;
        let world = World::new(1, start(), estate.clone());
        let meter = PrometheusMeter::new().unwrap();
        let mut ports = world.ports();
        ports.meter = Arc::new(meter.clone());
        ports.prober = Arc::new(ScriptedProber { script, rest: ports.prober.clone() });
        let clock = world.clock.clone();
        let begun = keyward::sim::clock::run(&clock, Engine::start(ports.clone(), Arc::new(estate)));
        let still = Self { world, engine: Arc::new(begun.unwrap().unwrap()), ports, meter, environment };
        still.go_on(span);
        still
    }

    /// Lets the engine work on for a while.
    pub fn go_on(&self, span: Duration) -> Life {
        use keyward::ports::Clock as _;
        let clock = self.world.clock.clone();
        keyward::sim::clock::run(&clock, self.engine.run(clock.sleep(span))).unwrap().unwrap();
        Life::Over
    }

    /// Lets the engine turn in real time until `request` has its answer: what adds authority is answered by the loop.
    pub fn while_turning<T: Send>(&self, request: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let asking = scope.spawn(request);
            while !asking.is_finished() {
                self.go_on(Duration::from_millis(1));
                std::thread::sleep(Duration::from_millis(2));
            }
            asking.join().unwrap()
        })
    }

    pub fn web(&self) -> Web {
        Web {
            authority: None,
            keys: None,
            directories: Arc::new(keyward::shell::acme_server::Directories::none()),
            engine: self.engine.clone(),
            store: self.ports.store.clone(),
            witnesses: self.ports.witnesses.clone(),
            clock: self.ports.clock.clone(),
            meter: self.ports.meter.clone(),
            solver: self.ports.solver.clone(),
            registry: self.meter.registry(),
            notices: {
                let notifier = self.world.notifier.clone();
                Arc::new(move || notifier.notices())
            },
            links: Arc::new(Vec::new),
            workloads: Arc::new(Vec::new),
            reload: Arc::new(|| Err("keyward.toml:3:1: unknown key".to_owned().into())),
            environment: self.environment,
            compat_x509: false,
            hosts: Vec::new(),
        }
    }

    pub fn serve(&self) -> Server {
        Server::new(self.web())
    }
}

/// A running server on free ports; stopped when dropped.
pub struct Server {
    pub http: SocketAddr,
    pub gate: PathBuf,
    pub admin: PathBuf,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Where its sockets are; a later server may be started there again.
    pub dir: Arc<tempfile::TempDir>,
}

impl Server {
    pub fn new(web: Web) -> Self {
        Self::within(web, Arc::new(tempfile::tempdir().unwrap()))
    }

    pub fn within(web: Web, dir: Arc<tempfile::TempDir>) -> Self {
        let (gate, admin) = (dir.path().join("run/gate.sock"), dir.path().join("state/admin.sock"));
        let listen = Listen {
            http: "127.0.0.1:0".parse().unwrap(),
            gate_socket: Some(GateSocket { path: gate.clone(), mode: 0o660, group: None }),
            gate_tls: None,
            admin_socket: admin.clone(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listeners = bind(&listen).await.unwrap();
                told.send(listeners.http.local_addr().unwrap()).unwrap();
                serve(Arc::new(web), listeners, async { drop(stopped.await) }).await;
            });
        });
        let http = address.recv_timeout(PATIENCE).expect("the server did not start");
        Self { http, gate, admin, stop: Mutex::new(Some(stop)), thread: Some(thread), dir }
    }

    /// One request over TCP with a loopback host.
    pub fn get(&self, path: &str) -> Reply {
        self.tcp(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    pub fn tcp(&self, request: &str) -> Reply {
        self.tcp_bytes(request.as_bytes())
    }

    pub fn tcp_bytes(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(&mut stream, request)
    }

    pub fn unix(&self, socket: &PathBuf, request: &[u8]) -> Reply {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(&mut stream, request)
    }

    pub fn admin(&self, method: &str, path: &str, body: &str) -> Reply {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        self.unix(&self.admin, request.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.lock().unwrap().take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Says these bytes and reads one answer, by its own length.
pub fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Reply {
    // The peer may refuse and hang up before all is said.
    drop(stream.write_all(request));
    read_reply(stream)
}

fn read_reply(stream: &mut impl Read) -> Reply {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
            other => panic!("no whole head ({other:?}): {:?}", String::from_utf8_lossy(&bytes)),
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap();
    let status = first.split(' ').nth(1).unwrap().parse().unwrap_or_else(|_| panic!("{first}"));
    let headers: BTreeMap<String, String> =
        lines.filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect();
    let mut body = bytes[head_end + 4..].to_vec();
    let length: usize = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    while body.len() < length {
        let mut chunk = [0; 65_536];
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => body.extend_from_slice(&chunk[..n]),
            _ => break,
        }
    }
    Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// When something happened, as the server says it.
pub fn time(value: &serde_json::Value) -> Timestamp {
    Timestamp::parse(value.as_str().unwrap_or_default()).unwrap_or_else(|| panic!("{value} is no time"))
}
