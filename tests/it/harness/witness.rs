//! A witness as a process, with keys that tests know.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::codec::note::{Signs, SignerKey};
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
        let config = dir.join("witness.toml");
        let mut text = format!("state_dir = {:?}\n\n[witness]\nlisten = \"{address}\"\n", dir.join("state"));
        logs.iter().for_each(|key| text.push_str(&format!("\n[[witness.log]]\nkey = \"{key}\"\n")));
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
