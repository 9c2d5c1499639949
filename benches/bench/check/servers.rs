//! The two that are compared, each a process of its own: the least that hyper can do, and the daemon as it is installed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, UnixListener};

use super::client::Door;
use crate::site::{Site, name};

/// The daemon's thread that answers checks.
pub const GATE_THREAD: &str = "keyward-gate";

/// A process that ends with us.
pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Nanoseconds that its threads have had a processor; those only whose names begin so, if that is given.
    pub fn processor_time(&self, thread: Option<&str>) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("a process");
        let of = |task: PathBuf| {
            let named = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            if thread.is_some_and(|thread| !named.starts_with(thread)) {
                return 0;
            }
            let text = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
        };
        tasks.filter_map(|task| Some(of(task.ok()?.path()))).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// This very program with other arguments, and the first line that it says.
fn myself(arguments: &[&str]) -> (Process, String) {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    let mut process = Process::start(command.args(arguments).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    (process, line.trim().to_owned())
}

/// The least that hyper can do: two words for every question, with tokio's usual runtime, over TCP and a Unix socket.
pub struct Minimal {
    pub process: Process,
    pub tcp: Door,
    pub unix: Door,
    /// For questions over gRPC.
    pub grpc: PathBuf,
}

impl Minimal {
    pub fn start(dir: &Path, workers: &str) -> Self {
        let at = |end: &str| dir.join(format!("minimal-{workers}.{end}"));
        let (process, address) = myself(&["minimal", workers, dir.to_str().expect("UTF-8")]);
        let tcp = Door::Tcp(address.parse().expect("an address"));
        Self { process, tcp, unix: Door::Unix(at("sock")), grpc: at("grpc") }
    }
}

/// What [`Minimal`] runs.
pub fn minimal(workers: &str, dir: &Path) {
    let runtime = match workers {
        "one" => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    runtime.expect("a runtime").block_on(async {
        let at = |end: &str| {
            let path = dir.join(format!("minimal-{workers}.{end}"));
            std::fs::remove_file(&path).ok();
            path
        };
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (unix, grpc) = (UnixListener::bind(at("sock")), UnixListener::bind(at("grpc")));
        let (unix, grpc) = (unix.expect("a socket"), grpc.expect("a socket"));
        println!("{}", tcp.local_addr().expect("an address"));
        loop {
            tokio::select! {
                Ok((stream, _)) = tcp.accept() => {
                    stream.set_nodelay(true).ok();
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(yes)));
                }
                Ok((stream, _)) = unix.accept() => {
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(yes)));
                }
                Ok((stream, _)) = grpc.accept() => {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(grpc_yes)));
                }
            }
        }
    });
}

async fn yes(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))
}

type Framed = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// A `CheckResponse` whose status is OK: for Envoy's filter an empty message is one.
async fn grpc_yes(request: Request<Incoming>) -> Result<Response<Framed>, std::convert::Infallible> {
    request.into_body().collect().await.ok();
    let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = HeaderMap::from_iter([status]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The daemon and its CA, both as they are.
pub struct Guardian {
    pub process: Process,
    pub tcp: Door,
    pub unix: Door,
    pub socket: PathBuf,
    admin: PathBuf,
    http: SocketAddr,
    site: Site,
    _ca: Process,
}

impl Guardian {
    /// Tracks `site.count` certificates, seeded if they are not there yet; `approve` stands on ten of them.
    pub fn start(site: &Site) -> Self {
        let dir = &site.dir;
        std::fs::create_dir_all(dir).expect("a directory");
        let seeded = Site { root: dir.join("seed.pem"), ..site.clone() };
        if !dir.join("seed.pem").exists() {
            crate::guardian::seed(&seeded);
        }
        let (root, roots) = (dir.join("ca.pem"), dir.join("roots.pem"));
        let (ca, directory) = myself(&["ca", &format!("root={}", root.display())]);
        // The CA is another one in each run, and what those before it have issued is still there.
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let known = if roots.exists() { read(&roots) } else { read(&seeded.root) };
        std::fs::write(&roots, known + &read(&root)).expect("a file");
        let http = free_port();
        let (socket, admin) = (dir.join("gate.sock"), dir.join("admin.sock"));
        let site = Site { directory, root: roots, ..seeded };
        let needs: Vec<String> = (0..site.count.min(10)).map(name).collect();
        let listen = format!(
            "[listen]\nhttp = \"{http}\"\ngate_socket = {socket:?}\ngate_socket_mode = \"0600\"\nadmin_socket = {admin:?}\n\
             [[path]]\nid = \"approve\"\nneeds = {needs:?}\n"
        );
        let text = site.text() + &listen;
        let file = dir.join("keyward.toml");
        std::fs::write(&file, text).expect("a file");
        let log = std::fs::File::create(dir.join("keyward.log")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(["run", "--config"]).arg(&file).stdout(Stdio::null()).stderr(log);
        let process = Process::start(&mut command);
        let (tcp, unix) = (Door::Tcp(http), Door::Unix(socket.clone()));
        let guardian = Self { process, tcp, unix, socket, admin, http, site, _ca: ca };
        guardian.wait();
        guardian
    }

    /// Until everything was looked at and the gate is open.
    fn wait(&self) {
        let began = Instant::now();
        let is_open = || {
            let answer = UnixStream::connect(&self.socket).ok().map(|s| exchange(s, "GET", "/v1/gate/approve"));
            answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        };
        while !is_open() {
            let log = || std::fs::read_to_string(self.site.dir.join("keyward.log")).unwrap_or_default();
            let last = || log().lines().rev().take(3).collect::<Vec<_>>().join("\n");
            assert!(began.elapsed() < Duration::from_secs(60), "the gate does not open:\n{}", last());
            std::thread::sleep(Duration::from_millis(20));
        }
        // What the start left to do is over.
        std::thread::sleep(Duration::from_secs(3));
    }

    /// So many certificates were renewed since the start.
    pub fn renewed(&self) -> f64 {
        let stream = std::net::TcpStream::connect(self.http).expect("a door");
        let text = exchange(stream, "GET", "/metrics");
        let ours = |line: &&str| line.starts_with("keyward_renewals_total") && line.contains("result=\"success\"");
        let counts = text.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        counts.sum()
    }

    /// Has one certificate after the other renewed from now on, each by a question to the admin socket, until the storm
    /// is dropped.
    pub fn storm(&self) -> Storm {
        let (stop, wanted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, admin, count) = (stop.clone(), wanted.clone(), self.admin.clone(), self.site.count);
        let thread = std::thread::spawn(move || {
            for i in 0..count {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let stream = UnixStream::connect(&admin).expect("the admin socket");
                let answer = exchange(stream, "POST", &format!("/v1/credentials/{}/renew", name(i)));
                assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Storm { stop, wanted, thread: Some(thread) }
    }
}

/// Renewals that are asked for.
pub struct Storm {
    stop: Arc<AtomicBool>,
    wanted: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    /// So many were asked for.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// One question on a connection of its own, and all that comes back.
fn exchange<S: std::io::Read + std::io::Write>(mut stream: S, method: &str, target: &str) -> String {
    let question = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let asked = stream.write_all(question.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    asked.map(|_| answer).unwrap_or_else(|error| error.to_string())
}

/// A port of the loopback interface on which nobody listens now.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Until somebody listens there.
pub fn wait_for(address: SocketAddr, what: &str) {
    let began = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}
