//! A witness as a process, with keys that tests know.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::codec::note::{SignerKey, Signs};
use zeroize::Zeroizing;

use super::life::PATIENCE;

/// A key with a seed of one repeated byte.
pub fn signer(name: &str, signs: Signs, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, signs, Zeroizing::new([seed; 32])).unwrap()
}

/// A port of this machine that was free a moment ago.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `keyward witness run`; killed when dropped.
pub struct WitnessProcess {
    child: Child,
    pub config: PathBuf,
    pub address: SocketAddr,
    /// Its public key.
    pub key: String,
}

impl WitnessProcess {
    /// A new witness in `dir` that knows these logs.
    pub fn new(dir: &Path, name: &str, logs: &[String]) -> Self {
        let address = free_address();
        let mut text = format!("state_dir = {:?}\n\n[witness]\nlisten = \"{address}\"\n", dir.join("state"));
        logs.iter().for_each(|key| text.push_str(&format!("\n[[witness.log]]\nkey = \"{key}\"\n")));
        Self::of(dir, name, &text, address)
    }

    /// With this configuration, whose state directory is `state` in `dir`.
    pub fn of(dir: &Path, name: &str, text: &str, address: SocketAddr) -> Self {
        let config = dir.join("witness.toml");
        fs::write(&config, text).unwrap();
        fs::create_dir_all(dir.join("state")).unwrap();
        let made = keyward().args(["witness", "init", "--name", name, "-c"]).arg(&config).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let child = Self::spawn(&config);
        let mut own = Self { child, config, address, key };
        own.wait_ready();
        own
    }

    fn spawn(config: &Path) -> Child {
        let log = fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
        keyward().args(["witness", "run", "-c"]).arg(config).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// SIGKILL, and from the start again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.child = Self::spawn(&self.config);
        self.wait_ready();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Again after [`Self::kill`].
    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.config);
        self.wait_ready();
    }

    /// What it said.
    pub fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(self.config.with_extension("log")).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// The submission prefix.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn wait_ready(&mut self) {
        let began = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{}", self.log());
            assert!(began.elapsed() < PATIENCE, "it does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary.
pub fn keyward() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.stdin(Stdio::null());
    command
}

/// `keyward run` with a log and nothing to guard; killed when dropped.
pub struct Guard {
    child: Option<Child>,
    pub dir: PathBuf,
    pub config: PathBuf,
    http: SocketAddr,
}

impl Guard {
    /// Not started yet; `rest` follows the state directory and the listener.
    pub fn new(dir: &Path, rest: &str) -> Self {
        let (config, http) = (dir.join("keyward.toml"), free_address());
        fs::create_dir_all(dir).unwrap();
        let guard = Self { child: None, dir: dir.to_owned(), config, http };
        guard.configure(rest);
        guard
    }

    /// Another configuration for the next life.
    pub fn configure(&self, rest: &str) {
        let state = self.dir.join("state");
        let text = format!("state_dir = {state:?}\n\n[listen]\nhttp = \"{}\"\n\n{rest}", self.http);
        fs::write(&self.config, text).unwrap();
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.config.with_extension("log")).unwrap();
        let child = keyward().args(["run", "-c"]).arg(&self.config).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        self.wait("answers", |g| g.scrape().is_some());
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let done = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
        assert!(done.success());
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "SIGTERM does not end it:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The exit code if it ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.as_mut()?.try_wait().unwrap().and_then(|status| status.code())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }

    /// `/metrics`.
    pub fn scrape(&self) -> Option<String> {
        let mut stream = std::net::TcpStream::connect(self.http).ok()?;
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(text)
    }

    /// A metric's value, by its name with labels.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let text = self.scrape()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// The log's newest size, read from the database.
    pub fn size(&self) -> u64 {
        let out = self.cli(&["audit", "stats", "--database", self.dir.join("state").to_str().unwrap(), "-o", "json"]);
        let stats: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        stats["size"].as_str().unwrap().parse().unwrap()
    }

    /// The public keys of its log.
    pub fn keys(&self) -> Vec<String> {
        self.cli(&["audit", "key"]).lines().map(str::to_owned).collect()
    }

    /// What a command prints; it must succeed.
    pub fn cli(&self, args: &[&str]) -> String {
        let out = keyward().arg("-c").arg(&self.config).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    pub fn wait(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !met(self) {
            assert!(began.elapsed() < PATIENCE, "{what} did not come; the log says\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a witness has cosigned all of it.
    pub fn wait_witnessed(&self, witness: &str) {
        let name = format!("keyward_audit_witnessed_tree_size{{witness=\"{witness}\"}}");
        self.wait("the cosignature of the newest checkpoint", |g| g.metric(&name) == Some(g.size()));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// `[audit.witness]` with a policy of these witnesses (name, key, URL), written into `dir`.
pub fn witnessed_by(dir: &Path, witnesses: &[(&str, &str, &str)], rest: &str) -> String {
    let policy = dir.join("witnesses.policy");
    let lines: String = witnesses.iter().map(|(name, key, url)| format!("witness {name} {key} {url}\n")).collect();
    fs::write(&policy, lines + rest).unwrap();
    format!("[audit.witness]\npolicy = {policy:?}\nevery = \"1s\"\n")
}
