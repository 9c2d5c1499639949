//! A guardian with a gate's socket, a portal that counts its visitors, and a real proxy between.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fault::{Daemon, Under};
use super::life::{PATIENCE, Place, certificate, free_port};

/// What the portal says to whoever reaches it.
pub const REACHED: &str = "the portal was reached";

/// What is guarded: it answers until the process ends.
pub struct Portal {
    pub address: SocketAddr,
    visits: Arc<AtomicU64>,
}

impl Portal {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counted = visits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || visit(stream, &counted));
            }
        });
        Self { address, visits }
    }

    pub fn visits(&self) -> u64 {
        self.visits.load(Ordering::SeqCst)
    }
}

fn visit(mut stream: TcpStream, counted: &AtomicU64) {
    let mut head = Vec::new();
    let mut chunk = [0; 1_024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => head.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
    counted.fetch_add(1, Ordering::SeqCst);
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{REACHED}", REACHED.len());
    stream.write_all(answer.as_bytes()).ok();
}

/// A guardian whose path `approve` opens, with its gate at `gate`.
pub struct Scene {
    /// An address of this test's own.
    pub ip: std::net::IpAddr,
    _place: Place,
    pub config: PathBuf,
    pub gate: PathBuf,
    pub http: SocketAddr,
    pub portal: Portal,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with("").await
    }

    pub async fn with(more: &str) -> Self {
        let place = Place::new().await;
        let http = free_port(place.ip);
        let (config, gate) = (place.at("keyward.toml"), place.at("run/gate.sock"));
        let path = "[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"1h\"\n";
        let rest = format!("{}{path}{more}", certificate("portal", &["portal.example.com"], ""));
        let listen = format!(
            "http = \"{http}\"\nallow_remote = true\nadmin_socket = \"{}\"\ngate_socket = \"{}\"\ngate_socket_mode = \"0666\"",
            place.text("admin.sock"),
            gate.display()
        );
        fs::write(&config, place.toml(&rest).replace("http = \"127.0.0.1:9180\"", &listen)).unwrap();
        Self { ip: place.ip, _place: place, config, gate, http, portal: Portal::start() }
    }

    pub fn start(&self) -> Daemon {
        Daemon::start(&self.config, self.http, &Under::Nothing)
    }

    pub fn open(&self) -> Daemon {
        let daemon = self.start();
        daemon.opens();
        daemon
    }

    /// `keyward …` with this configuration; not waited for.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.arg("-c").arg(&self.config).args(arguments).stdin(Stdio::null());
        command
    }

    /// A probe of this URL that tells by the portal's text.
    pub fn probe(&self, url: &str, more: &[&str]) -> Probed {
        let mut all = vec!["gate", "probe", "approve", "--url", url, "--expect-open", REACHED, "-o", "json"];
        all.extend(more);
        if !more.contains(&"--timeout") {
            all.extend(["--timeout", "3s"]);
        }
        Probed::of(self.command(&all).output().unwrap())
    }

    /// The text with this scene's places in it.
    pub fn fill(&self, text: &str, listen: SocketAddr, dir: &Path) -> String {
        text.replace("@GATE@", self.gate.to_str().unwrap())
            .replace("@PORTAL@", &self.portal.address.to_string())
            .replace("@LISTEN@", &listen.to_string())
            .replace("@PORT@", &listen.port().to_string())
            .replace("@IP@", &listen.ip().to_string())
            .replace("@HTTP@", &self.http.to_string())
            .replace("@DIR@", dir.to_str().unwrap())
    }
}

/// What a probe said.
pub struct Probed {
    pub code: i32,
    pub report: Value,
    pub said: String,
}

impl Probed {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let report = serde_json::from_str(&out).unwrap_or(Value::Null);
        Self { code: output.status.code().unwrap_or(-1), report, said: format!("{out}{err}") }
    }

    /// Verdict and code of a case.
    pub fn case(&self, name: &str) -> (&str, &str) {
        let cases = self.report["cases"].as_array().unwrap_or_else(|| panic!("{}", self.said));
        let case = cases.iter().find(|c| c["case"] == name).unwrap_or_else(|| panic!("no case {name}: {}", self.said));
        (case["verdict"].as_str().unwrap(), case["code"].as_str().unwrap_or_default())
    }

    /// The cases with this verdict.
    pub fn cases(&self, verdict: &str) -> Vec<&str> {
        let cases = self.report["cases"].as_array().unwrap_or_else(|| panic!("{}", self.said));
        cases.iter().filter(|c| c["verdict"] == verdict).map(|c| c["case"].as_str().unwrap()).collect()
    }
}

/// A running proxy; gone when dropped.
pub struct Proxy {
    child: Child,
    pub url: String,
    pub file: PathBuf,
    dir: tempfile::TempDir,
}

impl Proxy {
    pub fn nginx(scene: &Scene, server: &str, http: &str) -> Self {
        let text = format!(
            "daemon off; user root; worker_processes 1; pid @DIR@/nginx.pid; error_log @DIR@/error.log info;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n access_log off; client_body_temp_path @DIR@/1; proxy_temp_path @DIR@/2; fastcgi_temp_path @DIR@/3;\n\
             uwsgi_temp_path @DIR@/4; scgi_temp_path @DIR@/5;\n{http}\n server {{\n listen @LISTEN@;\n{server}\n }}\n}}\n"
        );
        Self::start(scene, "nginx.conf", &text, |file, dir| {
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(file);
            command
        })
    }

    pub fn caddy(scene: &Scene, site: &str) -> Self {
        let text = format!("{{\n admin off\n auto_https off\n}}\nhttp://:@PORT@ {{\n bind @IP@\n{site}\n}}\n");
        Self::start(scene, "Caddyfile", &text, |file, dir| {
            let mut command = Command::new("caddy");
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            command.env("HOME", dir).env("XDG_DATA_HOME", dir).env("XDG_CONFIG_HOME", dir);
            command
        })
    }

    pub fn haproxy(scene: &Scene, text: &str) -> Self {
        Self::start(scene, "haproxy.cfg", text, |file, _| {
            let mut command = Command::new("/usr/sbin/haproxy");
            command.arg("-db").arg("-f").arg(file);
            command
        })
    }

    /// With what `keyward snippet` prints, edited.
    pub fn envoy(scene: &Scene, kind: &str, edit: impl FnOnce(String) -> String) -> Self {
        let portal = scene.portal.address.to_string();
        let asked = ["snippet", kind, "--path", "approve", "--listen", "127.0.0.1:1", "--portal", &portal];
        let printed = scene.command(&asked).output().unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let text = String::from_utf8(printed.stdout).unwrap();
        let place = r#"{ address: "127.0.0.1", port_value: 1 }"#;
        assert!(text.contains(place), "{text}");
        let text = edit(text.replace(place, r#"{ address: "@IP@", port_value: @PORT@ }"#));
        Self::start(scene, "envoy.yaml", &text, |file, _| super::proxies::envoy_with(file))
    }

    fn start(scene: &Scene, name: &str, text: &str, command: impl FnOnce(&Path, &Path) -> Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, file) = (free_port(scene.ip), dir.path().join(name));
        fs::write(&file, scene.fill(text, address, dir.path())).unwrap();
        let log = fs::File::create(dir.path().join("out.log")).unwrap();
        let mut command = command(&file, dir.path());
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start ({e}); run tests/run, which installs it"));
        let mut proxy = Self { child, url: format!("http://{address}/approve"), file, dir };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{name} does not listen: {}", proxy.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}{}", read("out.log"), read("error.log"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's master takes its workers along when it is asked, not when it is killed.
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().ok();
        let began = Instant::now();
        while self.child.try_wait().ok().flatten().is_none() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
