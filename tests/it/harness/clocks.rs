//! The daemon under clocks that are made to lie, and a guardian for it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyward::domain::time::Timestamp;
use keyward::lease::{Keys, LeaseHolder, SeenFiles};
use serde_json::Value;

use super::fault::{Daemon, Under};
use super::http::{Reply, ask};
use super::life::{PATIENCE, Place, certificate, free_port};

/// `unshare` that starts what follows where the time since boot is so many seconds ahead. Needs root.
pub fn booted(seconds: i64) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--time", "--boottime", &seconds.to_string(), "--fork", "--kill-child", "--"]);
    unshare
}

/// The wall clock of the real world.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap())
}

/// A wall clock that is moved by a file: Debian's libfaketime. What counts the time since boot is left alone by it.
pub struct Wall {
    file: PathBuf,
    library: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Wall {
    /// So many seconds ahead.
    pub fn new(dir: &Path, seconds: i64) -> Self {
        let mut found = fs::read_dir("/usr/lib").unwrap().flatten();
        let library = found.find_map(|arch| {
            let library = arch.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        });
        let library = library.expect("libfaketime is missing: run tests/run, which installs it");
        let file = dir.join("wall");
        let environment = vec![
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Timers go on as ever.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Times of files stay what they are.
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        let wall = Self { file, library, environment };
        wall.jump(seconds);
        wall
    }

    /// For a program that a test starts itself.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let preload = ("LD_PRELOAD", self.library.to_str().unwrap().to_owned());
        self.environment.iter().cloned().chain([preload]).collect()
    }

    pub fn under(&self) -> Under<'_> {
        Under::Preloaded(&self.library, &self.environment)
    }

    /// From now on it is so many seconds ahead of the real one.
    pub fn jump(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }
}

/// What a suspend does, for one process: `CLOCK_MONOTONIC` loses the time in which the process was stopped, while the wall
/// clock and the time since boot go on.
pub struct Suspend {
    lost: PathBuf,
    library: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// Eight bytes of a file are how many seconds were lost.
const SUSPEND: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *lost;

__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("LOST_SECONDS"), O_RDONLY);
    lost = mmap(0, sizeof *lost, PROT_READ, MAP_SHARED, fd, 0);
    if (fd < 0 || lost == MAP_FAILED) abort();
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && clock == CLOCK_MONOTONIC) now->tv_sec -= *lost;
    return done;
}
"#;

impl Suspend {
    pub fn new(dir: &Path) -> Self {
        let (source, library, lost) = (dir.join("suspend.c"), dir.join("suspend.so"), dir.join("lost"));
        fs::write(&source, SUSPEND).unwrap();
        fs::write(&lost, 0_i64.to_ne_bytes()).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).output();
        let built = built.unwrap_or_else(|e| panic!("cc is missing ({e}): run tests/run, which installs it"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let environment = vec![("LOST_SECONDS", lost.to_str().unwrap().to_owned())];
        Self { lost, library, environment }
    }

    pub fn under(&self) -> Under<'_> {
        Under::Preloaded(&self.library, &self.environment)
    }

    /// While the process is stopped: its monotonic clock never goes back by this, because the whole seconds are fewer.
    pub fn lose(&self, stopped: Duration) {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::options().write(true).open(&self.lost).unwrap();
        file.write_all_at(&i64::try_from(stopped.as_secs()).unwrap().to_ne_bytes(), 0).unwrap();
    }

    /// What another process reads under it: `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`.
    pub fn clocks(&self) -> (f64, f64) {
        let script =
            "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))";
        let mut python = Command::new("python3");
        python.args(["-c", script]).env("LD_PRELOAD", &self.library).envs(self.environment.iter().cloned());
        let said = String::from_utf8(python.output().unwrap().stdout).unwrap();
        let mut both = said.split_whitespace().map(|n| n.parse().unwrap());
        (both.next().unwrap(), both.next().unwrap())
    }
}

/// A guardian of three certificates whose path `approve` stands on all of them, with a CA that counts orders.
pub struct Scene {
    pub place: Place,
    pub config: PathBuf,
    pub gate: PathBuf,
    http: SocketAddr,
}

impl Scene {
    pub async fn new() -> Self {
        let place = Place::new().await;
        let http = free_port(place.ip);
        let (config, gate) = (place.at("keyward.toml"), place.at("run/gate.sock"));
        let mut rest: String =
            ["one", "two", "three"].iter().map(|id| certificate(id, &[&format!("{id}.example.com")], "")).collect();
        rest.push_str(&format!(
            "[[path]]\nid = \"approve\"\nneeds = [\"one\", \"two\", \"three\"]\nmargin = \"1h\"\naudiences = [\"portal\"]\n\
             lease_file = {{ path = \"{}\", audience = \"portal\", mode = \"0644\" }}\n",
            place.text("approve.lease")
        ));
        let listen = format!(
            "http = \"{http}\"\nallow_remote = true\nadmin_socket = \"{}\"\ngate_socket = \"{}\"\ngate_socket_mode = \"0666\"",
            place.text("admin.sock"),
            gate.display()
        );
        fs::write(&config, place.toml(&rest).replace("http = \"127.0.0.1:9180\"", &listen)).unwrap();
        Self { place, config, gate, http }
    }

    pub fn start(&self, under: &Under<'_>) -> Daemon {
        Daemon::start(&self.config, self.http, under)
    }

    /// Started, and waited for.
    pub fn open(&self, under: &Under<'_>) -> Daemon {
        let daemon = self.start(under);
        daemon.opens();
        daemon
    }

    pub fn orders(&self) -> usize {
        self.place.control.orders().len()
    }

    pub fn lease(&self) -> Option<String> {
        fs::read_to_string(self.place.at("approve.lease")).ok()
    }

    /// The keys that consumers pin, also as a file for the script.
    pub fn keys(&self, daemon: &Daemon) -> (Keys, PathBuf) {
        let printed = daemon.cli(&["gate", "keys", "-o", "name"]).stdout;
        let file = self.place.at("keyward.keys");
        fs::write(&file, &printed).unwrap();
        (Keys::parse(&String::from_utf8(printed).unwrap()).unwrap(), file)
    }

    pub fn consumer(&self, daemon: &Daemon) -> LeaseHolder<keyward::lease::KeptEpochs<SeenFiles>> {
        let seen = SeenFiles::open(&self.place.at("seen")).unwrap();
        LeaseHolder::here(self.keys(daemon).0, "portal", "approve", seen).unwrap()
    }

    /// Answers at the gate's socket, asked as fast as it goes by several at once.
    pub fn asking(&self) -> Asking {
        Asking::begin(&self.gate)
    }
}

const QUESTION: &[u8] = b"GET /v1/gate/approve HTTP/1.1\r\nHost: keyward\r\nConnection: close\r\n\r\n";

fn once(gate: &Path) -> Reply {
    let mut stream = UnixStream::connect(gate).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(&mut stream, QUESTION)
}

/// One answer of the gate.
#[derive(Clone, Debug)]
pub struct Answered {
    pub asked: Instant,
    pub open: bool,
    pub body: Value,
}

/// So many ask at once: more than the daemon has threads to answer at once.
const ASKERS: usize = 4;

/// Those who ask, until they are told to stop.
pub struct Asking {
    stop: Arc<AtomicBool>,
    askers: Vec<std::thread::JoinHandle<Vec<Answered>>>,
}

impl Asking {
    pub fn begin(gate: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let askers = (0..ASKERS).map(|_| {
            let (gate, stop) = (gate.to_owned(), stop.clone());
            std::thread::spawn(move || {
                let mut all = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let reply = once(&gate);
                    let (open, body) = (reply.status == 200, reply.json());
                    assert!(open || reply.status == 403, "{reply:?}");
                    assert_eq!(body["open"], open, "{reply:?}");
                    all.push(Answered { asked, open, body });
                }
                all
            })
        });
        let askers = askers.collect();
        Self { stop, askers }
    }

    /// Every answer, in the order of the questions.
    pub fn end(self) -> Vec<Answered> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all: Vec<Answered> = self.askers.into_iter().flat_map(|a| a.join().unwrap()).collect();
        all.sort_by_key(|a| a.asked);
        all
    }
}

/// The codes of an answer.
pub fn codes(body: &Value) -> Vec<&str> {
    body["reasons"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap()).collect()
}

/// The script that verifies leases, started where the time since boot is so many seconds ahead: whether it believed, and
/// what it said.
pub fn script(keys: &Path, lease: &Path, ahead: i64) -> (bool, String) {
    let mut unshare = booted(ahead);
    unshare.args(["python3", "-B"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lease.py"));
    unshare.args(["--audience", "portal", "--path", "approve", "--keys"]).args([keys, lease]).stdin(Stdio::null());
    let run = unshare.output().unwrap_or_else(|e| panic!("unshare: {e}: start the tests with tests/run"));
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    (run.status.success(), said)
}
