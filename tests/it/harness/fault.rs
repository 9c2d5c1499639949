//! The daemon as a process that may be traced, and a disk that may lose its power.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::life::PATIENCE;

/// `keyward run` with its configuration.
pub struct Daemon {
    child: Child,
    pub config: PathBuf,
    pub http: SocketAddr,
    /// Another process stands between it and us, and ends with it.
    traced: bool,
}

/// Under strace the daemon itself is traced as its only child.
pub enum Under<'a> {
    Nothing,
    /// One expression for `-e`.
    Strace(&'a str),
    /// A library in front of libc, with its environment.
    Preloaded(&'a Path, &'a [(&'a str, String)]),
    /// In a time namespace whose time since boot is so many seconds ahead, with the same wall clock. Needs root.
    Booted(i64),
}

impl Daemon {
    /// Starts it; nothing is waited for.
    pub fn start(config: &Path, http: SocketAddr, under: &Under<'_>) -> Self {
        let binary = env!("CARGO_BIN_EXE_keyward");
        let mut command = match under {
            Under::Nothing => Command::new(binary),
            Under::Strace(expression) => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-o", "/dev/null", "-e", expression, binary]);
                strace
            }
            Under::Preloaded(library, environment) => {
                let mut command = Command::new(binary);
                command.env("LD_PRELOAD", library).envs(environment.iter().map(|(name, value)| (name, value)));
                command
            }
            Under::Booted(seconds) => {
                let mut unshare = super::clocks::booted(*seconds);
                unshare.arg(binary);
                unshare
            }
        };
        let log = fs::File::options().append(true).create(true).open(config.with_extension("log")).unwrap();
        command.args(["run", "-c"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start it ({e}): start the tests with tests/run"));
        let traced = matches!(under, Under::Strace(_) | Under::Booted(_));
        Self { child, config: config.to_owned(), http, traced }
    }

    /// Of the daemon, also where another process stands between it and us.
    pub fn id(&self) -> u32 {
        let own = self.child.id();
        if !self.traced {
            return own;
        }
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(own)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.config.with_extension("log")).unwrap()
    }

    /// Status and body; `None` while nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Whether the gate is open, with the codes for which it is closed; `None` while nobody answers.
    pub fn gate(&self) -> Option<(bool, Vec<String>)> {
        let (status, body) = self.get("/v1/gate/approve")?;
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        assert!(status == 200 && body["open"] == true || status == 403 && body["open"] == false, "{status} {body}");
        let codes = body["reasons"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap().to_owned());
        Some((status == 200, codes.collect()))
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_keyward"))
            .arg("-c")
            .arg(&self.config)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Asks for a renewal, which adds authority, and expects that it is refused because it cannot be recorded.
    pub fn renewal_is_refused(&self) {
        let refused = self.cli(&["cert", "renew", "portal"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("audit_unavailable") && said.contains("KW6030"), "{said}");
    }

    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let state = || format!("gate {:?}; the log says\n{}", self.gate(), self.log());
            assert!(began.elapsed() < PATIENCE, "{what} did not come; {}", state());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn opens(&self) {
        self.wait("the gate opens", |d| d.gate().filter(|(open, _)| *open));
    }

    /// Waits until it is closed for this reason among others.
    pub fn closes_for(&self, code: &str) {
        self.wait(&format!("the gate closes for {code}"), |d| {
            d.gate().filter(|(open, codes)| !open && codes.iter().any(|c| c == code))
        });
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn ends(mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn terminate(self) -> i32 {
        let done = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status().unwrap();
        assert!(done.success());
        self.ends()
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.traced && self.ended().is_none() {
            // That other process ends with the daemon, not the other way round.
            Command::new("kill").arg("-KILL").arg(self.id().to_string()).status().ok();
        }
        if !self.traced {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

/// strace on a process that runs already; gone when dropped.
pub struct Tracer(Child);

impl Tracer {
    /// Every call that the expression names fails, or is delayed, from now on.
    pub fn attach(pid: u32, expression: &str) -> Self {
        let mut child = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-o", "/dev/null", "-e", expression])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("strace is missing ({e}): start the tests with tests/run"));
        // It says so once it holds every thread.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        // What it says further is nobody's business, and must not block it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// An ext4 file system in a file, whose power can be cut. Needs root, a loop device and python3, as tests/run has them.
pub struct Ext4 {
    dir: TempDir,
    helper: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`; its flags: 0 writes everything, 1 the journal, 2 nothing.
const CUT: &str = "
import fcntl, os, struct, sys
for line in sys.stdin:
    path, flags = line.rstrip('\\n').rsplit(' ', 1)
    try:
        fd = os.open(path, os.O_RDONLY)
        fcntl.ioctl(fd, 0x8004587d, struct.pack('I', int(flags)))
        os.close(fd)
        print('done', flush=True)
    except OSError as e:
        print(e, flush=True)
";

impl Ext4 {
    pub fn new(mebibytes: u64) -> Self {
        let dir = TempDir::new().unwrap();
        fs::File::create(dir.path().join("image")).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(dir.path().join("disk")).unwrap();
        let mut helper = Command::new("python3")
            .args(["-c", CUT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("python3 is missing ({e}): start the tests with tests/run"));
        let (to, from) = (helper.stdin.take().unwrap(), BufReader::new(helper.stdout.take().unwrap()));
        let disk = Self { dir, helper, to, from };
        disk.run("mkfs.ext4", &["-q", "-F", disk.image().to_str().unwrap()]);
        disk.mount();
        disk
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub fn mount(&self) {
        self.run("mount", &["-o", "loop", self.image().to_str().unwrap(), self.path().to_str().unwrap()]);
    }

    /// Everything that used it has ended.
    pub fn unmount(&self) {
        let began = Instant::now();
        // A process that was killed may hold it for some moments.
        while !Command::new("umount").arg(self.path()).stderr(Stdio::null()).status().unwrap().success() {
            assert!(began.elapsed() < PATIENCE, "{} stays busy", self.path().display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The power is gone: what is not on the disk by now is lost. `journal` says whether the journal is written out first.
    pub fn cut(&mut self, journal: bool) {
        writeln!(self.to, "{} {}", self.path().display(), if journal { 1 } else { 2 }).unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        assert_eq!(
            answer.trim(),
            "done",
            "the kernel refuses EXT4_IOC_SHUTDOWN: these tests need a kernel that has it"
        );
    }

    /// The kernel finds an error and makes it read-only under whoever writes.
    pub fn abort(&self) {
        self.run("mount", &["-o", "remount,abort", self.path().to_str().unwrap()]);
    }

    fn run(&self, program: &str, args: &[&str]) {
        let done = Command::new(program).args(args).stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|e| panic!("{program} is missing ({e}): start the tests with tests/run"));
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{program} {args:?} (needs root and a loop device): {text}");
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.path()).stderr(Stdio::null()).status().ok();
        self.helper.kill().ok();
        self.helper.wait().ok();
    }
}
