//! Stores under test: a place that can be opened again, a small file system, and a second process.

use std::ffi::OsStr;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::time::Timestamp;
use keyward::ports::{Store, StoreError};
use keyward::shell::wire;
use keyward::sim::store::MemoryStore;
use tempfile::TempDir;

/// Runs a future on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A log as where nothing is configured, at a time after every sample entry.
pub fn options() -> LogOptions {
    LogOptions::new(Timestamp::from_unix(2_000_000_000), wire::entropy())
}

/// Opens a state directory as [`options`] say.
pub fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(dir, &options())
}

/// Where a store lives; it outlasts the store.
pub enum Place {
    Sqlite(TempDir),
    Memory(MemoryStore),
}

impl Place {
    pub fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    pub fn memory() -> Self {
        Self::Memory(MemoryStore::new())
    }

    /// Opens it, as a daemon does when it starts. For SQLite the store that was opened before must be dropped first.
    pub fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(dir) => Arc::new(open(dir.path()).unwrap()),
            Self::Memory(disk) => Arc::new(disk.recovered()),
        }
    }
}

/// A tmpfs of a given size, unmounted on drop. Needs root, as tests/run has it.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    pub fn new(size: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let disk = Self { dir };
        disk.mount(&format!("size={size},mode=0700"));
        disk
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn remount(&self, options: &str) {
        self.mount(&format!("remount,{options}"));
    }

    fn mount(&self, options: &str) {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.dir.path()).output();
        let done = done.expect("mount is missing: start the tests with tests/run");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "cannot mount a tmpfs (start the tests as root with tests/run): {text}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.dir.path()).status().ok();
    }
}

/// The variable that tells a test that it is the second process, and where its state directory is.
const SECOND: &str = "KEYWARD_TEST_STORE_DIR";

/// The state directory, if this process is the second one.
pub fn second_process_dir() -> Option<PathBuf> {
    std::env::var_os(SECOND).map(PathBuf::from)
}

/// A second process that runs the named test of this binary; killed on drop.
pub struct Second {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Second {
    /// Starts it, under `wrapper` (a program with its arguments) if that is not empty.
    pub fn start(test: &str, dir: &Path, wrapper: &[&str]) -> Self {
        let binary = std::env::current_exe().unwrap();
        let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
        words.extend([binary.as_os_str(), OsStr::new(test)]);
        words.extend(["--exact", "--nocapture", "--test-threads=1"].map(OsStr::new));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env(SECOND, dir).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {:?} ({e}): start the tests with tests/run", words[0]));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that it says, after its mark; `None` when it has ended.
    pub fn next(&mut self) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(MARK).map(str::to_owned))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const MARK: &str = "second process: ";

/// Says a line to the first process, at once.
pub fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // The test harness may be in the middle of a line of its own.
    out.write_all(format!("\n{MARK}{text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// All entries as people read them, oldest first: texts stand among the facts, and a person by name.
pub async fn readable(store: &dyn Store) -> Vec<serde_json::Value> {
    let mut all = store.entries(None, usize::MAX).await.unwrap();
    all.reverse();
    let mut all: Vec<serde_json::Value> = all.iter().map(|e| serde_json::from_slice(&e.bytes).unwrap()).collect();
    let texts = keyward::shell::texts::of(store, &all).await.unwrap();
    for (entry, texts) in all.iter_mut().zip(texts) {
        for (key, text) in texts {
            match key.as_str() {
                "actor" => entry["data"]["actor"]["subject"] = text.into(),
                _ => entry["data"]["facts"][key] = text.into(),
            }
        }
    }
    all
}

/// The text of a refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unavailable(text) | StoreError::Lost(text)) => text,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}
