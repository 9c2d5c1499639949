//! Real proxies in front of a small portal, and things that pose as the gate.

use std::convert::Infallible;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::life::{free_port, own_address};
use axum::body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyward::codec::ext_authz;
use keyward::shell::config::Settings;
use keyward::shell::snippet::{Proxy, Wanted, render};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// A proxy gets so long to start, and an answer so long to come: Traefik waits for a gate that is silent for 30 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// A process that ends with the value.
pub struct Guarded(pub Child);

impl Guarded {
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let both = log.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(both).stderr(log).spawn();
        Self(child.unwrap_or_else(|e| panic!("{command:?}: {e}; run tests/run, which installs it")))
    }

    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// Stops it, and waits until no thread of it runs any more: the signal alone does not.
    pub fn stop(&self) {
        stop(self.0.id());
    }
}

/// Sends a signal.
pub fn signal(process: u32, name: &str) {
    let done = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap();
    assert!(done.success());
}

/// Stops a process, and waits until no thread of it runs any more.
pub fn stop(process: u32) {
    signal(process, "STOP");
    let began = Instant::now();
    let threads = format!("/proc/{process}/task");
    let stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in parentheses (proc(5)).
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    while !fs::read_dir(&threads).unwrap().flatten().all(stopped) {
        assert!(began.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What the proxies guard: says `portal` to whoever reaches it, and counts.
pub struct Portal {
    pub address: SocketAddr,
    reached: Arc<AtomicUsize>,
}

impl Portal {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, reached) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = reached.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || serve_one(stream, &counted));
            }
        });
        Self { address, reached }
    }

    pub fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

fn serve_one(mut stream: TcpStream, reached: &AtomicUsize) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    let mut chunk = [0; 4_096];
    // What the gate is asked must not cost the request its body.
    while !head.ends_with(b"\r\n\r\nx=1") {
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => head.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
    reached.fetch_add(1, Ordering::SeqCst);
    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nportal"));
}

/// A proxy in front of a portal of its own.
pub struct Running {
    pub proxy: Proxy,
    pub address: SocketAddr,
    pub portal: Portal,
    log: PathBuf,
    _process: Guarded,
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// 0 if the proxy said nothing that is HTTP.
    pub status: u16,
    /// Whether the portal was reached.
    pub passed: bool,
    pub took: Duration,
}

impl Running {
    /// Starts it with the snippet of this configuration, below `dir`.
    pub fn start(proxy: Proxy, settings: &Settings, dir: &Path) -> Self {
        let portal = Portal::start();
        // Not a port that the system hands out: a client that tries one of those until a server is there may reach itself.
        let address = free_port(own_address());
        let wanted = Wanted { proxy, path: Some("approve".to_owned()), listen: address, portal: portal.address };
        let snippet = render(settings, &wanted).unwrap();
        let dir = dir.join(format!("{proxy:?}"));
        fs::create_dir_all(&dir).unwrap();
        let (file, log) = (dir.join("snippet"), dir.join("log"));
        fs::write(&file, &snippet).unwrap();
        let mut command = match proxy {
            Proxy::Nginx => nginx(&dir, &file),
            Proxy::Caddy => caddy(&dir, &snippet),
            Proxy::Haproxy => {
                let mut command = Command::new("/usr/sbin/haproxy");
                command.args(["-db", "-f"]).arg(&file);
                command
            }
            Proxy::Envoy | Proxy::EnvoyHttp => envoy(&dir, &snippet),
            Proxy::Traefik => traefik(&dir, &snippet, address),
        };
        let process = Guarded::start(&mut command, &log);
        let running = Self { proxy, address, portal, log, _process: process };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "{proxy:?} does not start:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, target: &str, headers: &str) -> Seen {
        let (before, began) = (self.portal.reached(), Instant::now());
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: portal.example\r\nConnection: close\r\nContent-Length: 3\r\n{headers}\r\nx=1"
        );
        let stream = TcpStream::connect(self.address);
        let mut stream = stream.unwrap_or_else(|e| panic!("{:?}: {e}\n{}", self.proxy, self.log()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        drop(stream.write_all(request.as_bytes()));
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
        let passed = self.portal.reached() > before;
        assert_eq!(passed, answer.ends_with("portal"), "{:?}: {answer}", self.proxy);
        Seen { status, passed, took: began.elapsed() }
    }

    /// Asks until it is as expected; how long that took.
    pub fn until(&self, what: &str, met: impl Fn(&Seen) -> bool) -> (Seen, Duration) {
        let began = Instant::now();
        loop {
            let seen = self.ask("POST", "/approve/4711", "");
            if met(&seen) {
                return (seen, began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "{:?} {what}: {seen:?}\n{}", self.proxy, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn nginx(dir: &Path, snippet: &Path) -> Command {
    let at = dir.display();
    let main = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log info; events {{}}\n\
         http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
         uwsgi_temp_path {at}/4; scgi_temp_path {at}/5; include {}; }}",
        snippet.display()
    );
    fs::write(dir.join("main.conf"), main).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("main.conf"));
    command
}

/// The snippet behind options that keep Caddy to its own directory.
fn caddy(dir: &Path, snippet: &str) -> Command {
    let file = dir.join("Caddyfile");
    fs::write(&file, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{snippet}")).unwrap();
    let mut command = Command::new("/usr/bin/caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command.env("HOME", dir).env("XDG_DATA_HOME", dir).env("XDG_CONFIG_HOME", dir);
    command
}

fn envoy(dir: &Path, snippet: &str) -> Command {
    let file = dir.join("envoy.yaml");
    fs::write(&file, snippet).unwrap();
    envoy_with(&file)
}

/// Envoy with this configuration, as tests/run installed it. It ends with the thread that starts it.
pub fn envoy_with(file: &Path) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    // The package brings the program along.
    let lib = target.join("tools/envoy/lib");
    let python = fs::read_dir(&lib).ok().and_then(|mut all| all.next()?.ok());
    let python =
        python.unwrap_or_else(|| panic!("{} is not there; run tests/run, which installs Envoy", lib.display()));
    let mut command = Command::new(python.path().join("site-packages/envoy/_bin/envoy"));
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", "-c"]).arg(file);
    command
}

/// The snippet as what the file provider reads, behind the entry point that it speaks of.
fn traefik(dir: &Path, snippet: &str, listen: SocketAddr) -> Command {
    let file = dir.join("dynamic.yaml");
    fs::write(&file, snippet).unwrap();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools/traefik/bin/traefik");
    let mut command = Command::new(program);
    command
        .arg(format!("--entryPoints.web.address={listen}"))
        .arg(format!("--providers.file.filename={}", file.display()));
    command.args(["--log.level=ERROR", "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]);
    command
}

/// How something that poses as the gate answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pose {
    /// A forged yes.
    Yes,
    /// A yes without a word: over gRPC an empty message, where nothing means OK.
    Empty,
    NoContent,
    Redirect,
    Unavailable,
    /// Bytes that are no HTTP.
    Garbage,
    /// A forged yes, later than any timeout.
    Late,
}

/// Poses as the gate on a Unix socket and over TCP, over HTTP/1.1 and HTTP/2.
pub struct Imposter {
    pose: Arc<Mutex<Pose>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Imposter {
    pub fn at(socket: &Path, address: SocketAddr) -> Self {
        drop(fs::remove_file(socket));
        let pose = Arc::new(Mutex::new(Pose::Yes));
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (told, bound) = std::sync::mpsc::channel();
        let (socket, posing) = (socket.to_owned(), pose.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(&socket).unwrap();
                fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
                let tcp = tokio::net::TcpListener::bind(address).await.unwrap();
                told.send(()).unwrap();
                loop {
                    tokio::select! {
                        _ = &mut stopped => break,
                        Ok((stream, _)) = listener.accept() => {
                            tokio::spawn(pretend(stream, posing.clone()));
                        }
                        Ok((stream, _)) = tcp.accept() => {
                            tokio::spawn(pretend(stream, posing.clone()));
                        }
                    }
                }
            });
        });
        bound.recv_timeout(PATIENCE).unwrap();
        Self { pose, stop: Some(stop), thread: Some(thread) }
    }

    pub fn pose(&self, pose: Pose) {
        *self.pose.lock().unwrap() = pose;
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn pretend<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut stream: S, pose: Arc<Mutex<Pose>>) {
    let mut head = vec![0; 24];
    let mut filled = 0;
    // The preface of HTTP/2, or as much of a request as tells that it is none.
    while filled < head.len() && b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".starts_with(&head[..filled]) {
        match stream.read(&mut head[filled..]).await {
            Ok(n) if n > 0 => filled += n,
            _ => return,
        }
    }
    head.truncate(filled);
    if head.starts_with(b"PRI") {
        let now = *pose.lock().unwrap();
        if now == Pose::Garbage {
            drop(stream.write_all(&[0xff; 64]).await);
            return;
        }
        let whole = std::io::Cursor::new(head);
        let (read, write) = tokio::io::split(stream);
        let joined = tokio::io::join(tokio::io::AsyncReadExt::chain(whole, read), write);
        let service = hyper::service::service_fn(move |request| over_h2(request, pose.clone()));
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(builder.serve_connection(TokioIo::new(joined), service).await);
        return;
    }
    loop {
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read_buf(&mut head).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
        head.clear();
        let now = *pose.lock().unwrap();
        let answer: &[u8] = match now {
            Pose::Yes => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Pose::Empty => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Pose::NoContent => b"HTTP/1.1 204 No Content\r\n\r\n",
            Pose::Redirect => b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
            Pose::Unavailable => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
            Pose::Garbage => b"200 OK\r\n\r\n\xff\xff\xff",
            Pose::Late => {
                tokio::time::sleep(Duration::from_secs(4)).await;
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
        };
        if stream.write_all(answer).await.is_err() || now == Pose::Garbage {
            return;
        }
    }
}

async fn over_h2(request: hyper::Request<Incoming>, pose: Arc<Mutex<Pose>>) -> Result<Response<Body>, Infallible> {
    drop(request.into_body().collect().await);
    let now = *pose.lock().unwrap();
    let frame = match now {
        Pose::Empty => vec![0; 5],
        Pose::Garbage => vec![0xff; 64],
        Pose::Yes | Pose::NoContent | Pose::Redirect | Pose::Unavailable | Pose::Late => ext_authz::ok(),
    };
    if now == Pose::Late {
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = Full::new(Bytes::from(frame)).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let status = match now {
        Pose::NoContent => 204,
        Pose::Redirect => 302,
        Pose::Unavailable => 503,
        Pose::Yes | Pose::Empty | Pose::Garbage | Pose::Late => 200,
    };
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    if status == 204 {
        *response.body_mut() = Body::empty();
    }
    Ok(response)
}
