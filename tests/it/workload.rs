//! The SPIFFE Workload API and Envoy's secret discovery, by real clients over the daemon's socket.

mod attest;
mod envoy;
mod life;
mod limits;
mod rust;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::ca::harness::Mesh;

pub const WEB: &str = "spiffe://mesh.example/ns/prod/sa/web";
pub const DB: &str = "spiffe://mesh.example/ns/prod/sa/db";
/// Everything that is waited for comes within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The Python with the client of SPIFFE.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("tools/spiffe/bin/python");
    assert!(python.exists(), "{} is missing; run tests/run, which installs it", python.display());
    python
}

/// What the kernel says that it runs.
pub fn program() -> String {
    python().canonicalize().unwrap().display().to_string()
}

/// A workload in the configuration.
pub fn workload(id: &str, selectors: &[&str], more: &str) -> String {
    format!(
        "[[workload]]\nspiffe = {id:?}\nca = \"mesh\"\nca_profile = \"workload\"\nselectors = {selectors:?}\n{more}\n"
    )
}

pub struct House {
    pub mesh: Mesh,
}

impl House {
    /// A daemon with a CA and these workloads.
    pub fn new(more: &str) -> Self {
        let mesh = Mesh::start(&format!("[workload_api]\nsocket = \"@/w.sock\"\n{more}"));
        mesh.ok(&["ca", "init", "mesh"]);
        // Other users reach the socket.
        std::fs::set_permissions(mesh.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        Self { mesh }
    }

    pub fn socket(&self) -> PathBuf {
        self.mesh.dir.path().join("w.sock")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(python());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/workload/client.py"));
        command.arg(args[0]).arg(self.socket()).args(&args[1..]);
        command.env("GRPC_VERBOSITY", "NONE").stdin(Stdio::null());
        command
    }

    /// One call to its end: the first line.
    pub fn ask(&self, args: &[&str]) -> Value {
        let out = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = said.lines().next();
        let line = line.unwrap_or_else(|| panic!("{args:?} said nothing: {}", String::from_utf8_lossy(&out.stderr)));
        serde_json::from_str(line).unwrap()
    }

    /// Fetches until there is an answer without an error: the client does not wait for a CA that was just made.
    pub fn fetch(&self, args: &[&str]) -> Value {
        self.mesh.wait("a certificate", |_| Some(self.ask(args)).filter(|answer| answer.get("error").is_none()))
    }

    pub fn call(&self, method: &str, more: &[&str]) -> (String, String) {
        let answer = self.ask(&[&["call", method], more].concat());
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("text"))
    }

    pub fn watch(&self, args: &[&str]) -> Watch {
        let mut watch = Watch::of(self.command(args));
        watch.log = Some(self.mesh.dir.path().join("log"));
        watch
    }

    pub fn log(&self, action: &str) -> Vec<Value> {
        let out = self.mesh.ok(&["audit", "query", "--action", action, "-o", "json", "--limit", "100"]);
        serde_json::from_str::<Value>(&out).unwrap()["entries"].as_array().unwrap().clone()
    }
}

/// A program that goes on telling.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    /// What the daemon says, shown if nothing comes.
    log: Option<PathBuf>,
}

impl Watch {
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let out: ChildStdout = child.stdout.take().unwrap();
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
        Self { child, lines, log: None }
    }

    pub fn line(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| {
            let log = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
            panic!("it said nothing more: {e}:\n{log}")
        });
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// The next answer that is one.
    pub fn answer(&self) -> Value {
        loop {
            let line = self.line();
            if line.get("error").is_none() {
                return line;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
