//! A daemon with tracked keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::CertificateParams;
use serde_json::Value;

use crate::harness::pki::Ca;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Kit {
    pub dir: tempfile::TempDir,
    pub port: std::net::SocketAddr,
    pub ca: Ca,
    daemon: Option<Child>,
}

impl Kit {
    /// A path `approve` over a good certificate `peer`; `keys` follows in the configuration, where `@` is the directory.
    pub fn prepare(keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        let ca = Ca::root("Observed Root", |params: &mut CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        });
        let (leaf, _) = ca.leaf(&["peer.example"], |params| params.not_before = rcgen::date_time_ymd(2020, 1, 1));
        fs::write(dir.path().join("root.pem"), pem(&ca.der)).unwrap();
        fs::write(dir.path().join("peer.pem"), pem(&leaf)).unwrap();
        let port = crate::harness::life::free_port(crate::harness::life::own_address());
        let kit = Self { dir, port, ca, daemon: None };
        kit.configure(keys);
        kit
    }

    pub fn start(keys: &str) -> Self {
        let mut kit = Self::prepare(keys);
        kit.run_daemon();
        kit
    }

    pub fn configure(&self, keys: &str) {
        let text = format!(
            "state_dir = \"@/state\"\n[listen]\nhttp = \"{}\"\nallow_remote = true\n\
             [timing]\nreopen_after = \"0s\"\nflaps = 0\n\
             [[issuer]]\nid = \"other\"\ndirectory = \"https://127.0.0.1:1/directory\"\nterms_agreed = true\n\
             root_files = [\"@/root.pem\"]\n\
             [[observe]]\nid = \"peer\"\nfile = \"@/peer.pem\"\nowner = \"web\"\n\
             [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\n{keys}",
            self.port
        );
        fs::write(self.at("keyward.toml"), self.here(&text)).unwrap();
    }

    pub fn here(&self, text: &str) -> String {
        text.replace("@/", &format!("{}/", self.dir.path().display()))
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let (new, place) = (self.at(&format!("{name}.new")), self.at(name));
        fs::write(&new, self.here(text)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, place).unwrap();
    }

    pub fn script(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o700)).unwrap();
    }

    pub fn run_daemon(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.at("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.arg("run").arg("-c").arg(self.at("keyward.toml"));
        let daemon = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        fs::write(self.at("pid"), daemon.id().to_string()).unwrap();
        self.daemon = Some(daemon);
        self.wait("the daemon", |kit| kit.json(&["key", "list"]));
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Waits until something has killed it, and starts it again.
    pub fn revive(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let end = Instant::now() + PATIENCE;
        while daemon.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "nobody killed the daemon");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.run_daemon();
    }

    pub fn kill(&mut self) {
        self.daemon.as_mut().unwrap().kill().unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.args(args).arg("-c").arg(self.at("keyward.toml"));
        command
    }

    /// Exit code, and all that was said.
    pub fn run(&self, args: &[&str]) -> (i32, String) {
        let out = self.command(args).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let (code, said) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {said}\n{}", self.log());
        said
    }

    pub fn json(&self, args: &[&str]) -> Option<Value> {
        let out = self.command(args).args(["-o", "json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).ok()
    }

    pub fn show(&self, key: &str) -> Value {
        self.json(&["key", "show", key]).unwrap_or_else(|| panic!("no key {key}:\n{}", self.log()))
    }

    /// The codes for which the path is closed; none means open.
    pub fn reasons(&self) -> Vec<String> {
        let all = self.json(&["gate", "status"]).unwrap();
        let path = all.as_array().unwrap().iter().find(|p| p["path"] == "approve").unwrap().clone();
        path["reasons"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
    }

    pub fn wait_for(&self, reasons: &[&str]) {
        self.wait(&format!("the path closed for {reasons:?}"), |kit| (kit.reasons() == reasons).then_some(()));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    pub fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let (_, keys) = self.run(&["key", "list"]);
            assert!(
                Instant::now() < end,
                "{what} did not come: {:?}\n{keys}\n{}",
                self.json(&["gate", "status"]),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

pub fn pem(der: &[u8]) -> String {
    keyward::codec::pem::certificates(&[der])
}

/// Finding codes of a key.
pub fn codes(view: &Value) -> Vec<String> {
    view["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

pub fn version<'a>(view: &'a Value, label: &str) -> &'a Value {
    let all = view["versions"].as_array().unwrap();
    all.iter().find(|v| v["label"] == label).unwrap_or_else(|| panic!("no {label} in {view}"))
}

/// Everything below a directory that can be read as a file.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            all.extend(files(&path));
        } else if meta.is_file() {
            all.push(path);
        }
    }
    all
}
