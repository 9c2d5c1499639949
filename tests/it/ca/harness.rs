//! A daemon with a private CA and its key holder, all real.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Mesh {
    pub dir: tempfile::TempDir,
    port: std::net::SocketAddr,
    pub daemon: Child,
}

impl Mesh {
    /// With a CA `mesh` that was not made yet; `more` follows in the configuration, where `@` is the directory.
    pub fn start(more: &str) -> Self {
        Self::start_with("", more)
    }

    /// The same; `ca` are further lines of the CA itself.
    pub fn start_with(ca: &str, more: &str) -> Self {
        Self::prepared(ca, more, |_| {})
    }

    /// The same, with whatever else lies in the directory.
    pub fn prepared(ca: &str, more: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        let port = crate::harness::life::free_port(crate::harness::life::own_address());
        let text = format!(
            "state_dir = \"@/state\"\n[listen]\nhttp = \"{port}\"\nallow_remote = true\n\
             [timing]\nreopen_after = \"0s\"\nflaps = 0\nfull_scan = \"1m\"\n\
             [[ca]]\nid = \"mesh\"\ntrust_domain = \"mesh.example\"\n{ca}\
             [[ca.profile]]\nid = \"workload\"\nlifetime = \"24h\"\nnames = [\"*.svc.example\"]\nspiffe = [\"/ns/*/sa/*\"]\n\
             [[ca.profile]]\nid = \"short\"\nlifetime = \"1h\"\nnames = [\"*.svc.example\", \"=*.svc.example\", \"127.0.0.0/8\"]\n\
             [[issuer]]\nid = \"private\"\nca = \"mesh\"\nca_profile = \"workload\"\n{more}"
        );
        let text = text.replace("@/", &format!("{}/", dir.path().display()));
        fs::write(dir.path().join("keyward.toml"), text).unwrap();
        prepare(dir.path());
        let daemon = run(dir.path());
        let mesh = Self { dir, port, daemon };
        mesh.wait("the key holder", |mesh| mesh.try_status().filter(|s| s["keyholder"]["reachable"] == true));
        mesh
    }

    pub fn made() -> Self {
        let mesh = Self::start("");
        mesh.ok(&["ca", "init", "mesh"]);
        mesh
    }

    /// Ends the daemon in whatever way and starts it again.
    pub fn restart(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        self.daemon = run(self.dir.path());
        self.wait("the key holder", |mesh| mesh.try_status().filter(|s| s["keyholder"]["reachable"] == true));
    }

    /// Has the daemon read its configuration again, which it adopts.
    pub fn reload(&self) {
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let adopted = || log().matches("was adopted").count();
        let before = adopted();
        Command::new("kill").args(["-HUP", &self.daemon.id().to_string()]).status().unwrap();
        self.wait("the reload", |_| (adopted() > before).then_some(()));
    }

    fn command(&self, args: &[&str]) -> Command {
        let here = self.dir.path().display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(args.iter().map(|a| a.replace('@', &here)));
        if args.first() != Some(&"audit") || args.get(1) != Some(&"verify") {
            command.arg("-c").arg(self.dir.path().join("keyward.toml"));
        }
        command
    }

    /// Where it answers over HTTP.
    pub fn http(&self) -> std::net::SocketAddr {
        self.port
    }

    /// Exit code, and all that was said.
    pub fn run(&self, args: &[&str]) -> (i32, String) {
        let out = self.command(args).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(out.stdout).unwrap() + if args.contains(&"json") { "" } else { &said }
    }

    pub fn bytes(&self, args: &[&str]) -> Vec<u8> {
        let out = self.command(args).output().unwrap();
        assert!(out.status.success(), "{args:?}");
        out.stdout
    }

    /// The issuing CA's newest list as openssl shows it.
    pub fn list(&self) -> String {
        fs::write(self.dir.path().join("list.der"), self.bytes(&["ca", "crl", "mesh/1"])).unwrap();
        let args = ["crl", "-inform", "der", "-in", "list.der", "-noout", "-text"];
        crate::harness::pki::openssl(self.dir.path(), &args)
    }

    fn try_status(&self) -> Option<Value> {
        let out = self.command(&["ca", "status", "-o", "json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).ok()
    }

    pub fn status(&self) -> Value {
        self.try_status().unwrap()
    }

    pub fn credential(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["cert", "show", id, "-o", "json"])).unwrap()
    }

    pub fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "{what} did not come:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

pub fn run(dir: &std::path::Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.arg("run").arg("-c").arg(dir.join("keyward.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Drop for Mesh {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}
