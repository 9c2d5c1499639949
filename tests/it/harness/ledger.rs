//! Audit logs under test: written by the real store, then copied and mutilated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use keyward::adapters::store::{Archive, LogOptions, SqliteStore};
use keyward::codec::ledger::{RangedKey, Report, Trust, Verifier};
use keyward::codec::note::{SignerKey, VerifierKey};
use keyward::domain::audit::{Actor, Draft, Evidence, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store};
use keyward::shell::wire;
use rusqlite::Connection;
use tempfile::TempDir;

use super::store::block_on;

const BEGIN: i64 = 1_790_000_000;

/// A state directory with a log.
pub struct Written {
    pub dir: TempDir,
}

/// A row of the entries.
#[derive(Clone)]
pub struct Row {
    pub sequence: i64,
    pub id: [u8; 16],
    pub at: i64,
    pub leaf: [u8; 32],
    pub body: Vec<u8>,
}

/// A row of the checkpoints.
#[derive(Clone)]
pub struct Note {
    pub size: u64,
    pub at: i64,
    pub note: String,
}

pub fn id(n: u64) -> Ulid {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    Ulid::new(Timestamp::from_unix(BEGIN), random)
}

/// Some of everything: intents, most of them concluded, events, evidence, people, half a minute apart.
pub fn draft(n: u64, salt: &str) -> Draft {
    let at = Timestamp::from_unix(BEGIN + 30 * n as i64);
    let credential = |n: u64| Target::new(TargetKind::Credential, format!("portal-{}", n / 5 % 7));
    let mut draft = match n % 5 {
        0 => {
            let mut intent = Draft::new(EntryId(id(n)), at, "certificate.issue", "KW2001", credential(n));
            intent.phase = Phase::Intent;
            let (version, inputs) = (Digest::of(b"policy"), Digest::of(&n.to_be_bytes()));
            intent.policy = Some(Policy { decision: "proceed", rule: Arc::from("a rule"), version, inputs, tier: 2 });
            intent
        }
        2 if n % 100 != 52 => {
            let mut outcome = Draft::new(EntryId(id(n)), at, "certificate.issue", "KW2003", credential(n));
            outcome.phase = Phase::Outcome;
            outcome.outcome = Some(if n % 25 == 7 { Outcome::Failure } else { Outcome::Success });
            outcome.intent = Some(EntryId(id(n - 2)));
            outcome
        }
        1 => Draft::new(EntryId(id(n)), at, "gate.open", "KW2301", Target::new(TargetKind::Path, "approve")),
        3 => Draft::new(EntryId(id(n)), at, "issuer.terms", "KW2012", Target::new(TargetKind::Issuer, "le")),
        _ => Draft::new(EntryId(id(n)), at, "daemon.start", "KW2401", Target::new(TargetKind::Daemon, "keyward")),
    };
    draft.correlation = (n % 5 < 3).then(|| AttemptId(id(n / 5 * 5)));
    if n % 9 == 4 {
        draft.actor = Actor::Human(Arc::from("uid:1000"));
    }
    draft.facts = vec![("issuer", Json::str("le")), ("detail", Json::str(format!("ü \"{n}\"\n{salt}")))];
    // Salts are drawn anew each time, so that two logs are the same up to the first of these only.
    if n % 30 == 11 && n > 200 {
        draft.private.push(("text", Arc::from(format!("what somebody said of {n}"))));
    }
    if n % 40 == 7 {
        let bytes: Arc<[u8]> = Arc::from(format!("evidence {n}").into_bytes());
        draft.evidence.push(Evidence {
            name: "acme-exchanges".into(),
            sha256: Digest::of(&bytes),
            size: bytes.len(),
            media: "text/plain",
            captured_at: at,
            bytes,
        });
    }
    draft
}

/// Appends entries `from..to` in batches of one to seven.
pub fn append(dir: &Path, from: u64, to: u64, salt: impl Fn(u64) -> &'static str) {
    block_on(async {
        // The first checkpoint, of no entries, is of the time of the start.
        let now = Timestamp::from_unix(BEGIN - 1 + 30 * from as i64);
        let store = SqliteStore::open(dir, &LogOptions::new(now, wire::entropy())).unwrap();
        let mut next = from;
        while next < to {
            let end = (next + 1 + next % 7).min(to);
            let entries = (next..end).map(|n| draft(n, salt(n))).collect();
            store.commit(Batch { changes: Vec::new(), entries }).await.unwrap();
            next = end;
        }
    });
}

impl Written {
    pub fn new(entries: u64) -> Self {
        let dir = TempDir::new().unwrap();
        // Even without entries there is a log afterwards: its key, its first checkpoint, its lock.
        append(dir.path(), 0, entries, |_| "");
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn key(&self) -> VerifierKey {
        self.signer().verifier().clone()
    }

    pub fn signer(&self) -> SignerKey {
        SignerKey::parse(&fs::read_to_string(self.path().join("log.key")).unwrap()).unwrap()
    }

    pub fn trust(&self) -> Trust {
        Trust { keys: vec![RangedKey::always(self.key()).unwrap()], ..Trust::default() }
    }

    /// Another directory with the same files.
    pub fn copy(&self) -> Self {
        let dir = TempDir::new().unwrap();
        for file in ["keyward.db", "log.key", "audit.lock"] {
            fs::copy(self.path().join(file), dir.path().join(file)).unwrap();
        }
        Self { dir }
    }

    /// Runs statements against the database without its guard rails.
    pub fn mutilate(&self, sql: &str) {
        let database = self.unguarded();
        database.execute_batch(sql).unwrap();
        database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }

    pub fn unguarded(&self) -> Connection {
        let database = Connection::open(self.path().join("keyward.db")).unwrap();
        let triggers: Vec<String> = database
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for trigger in triggers {
            database.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        database.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF").unwrap();
        database
    }

    pub fn rows(&self) -> Vec<Row> {
        let database = Connection::open(self.path().join("keyward.db")).unwrap();
        let mut statement =
            database.prepare("SELECT sequence, id, at, leaf, body FROM entry ORDER BY sequence").unwrap();
        let rows = statement.query_map([], |row| {
            Ok(Row { sequence: row.get(0)?, id: row.get(1)?, at: row.get(2)?, leaf: row.get(3)?, body: row.get(4)? })
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    pub fn notes(&self) -> Vec<Note> {
        let database = Connection::open(self.path().join("keyward.db")).unwrap();
        let mut statement = database.prepare("SELECT size, at, note FROM checkpoint ORDER BY size").unwrap();
        let rows = statement
            .query_map([], |row| Ok(Note { size: row.get::<_, i64>(0)? as u64, at: row.get(1)?, note: row.get(2)? }));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// What the library finds with the log's own key and nothing else.
    pub fn verified(&self) -> Report {
        self.verified_by(Verifier::new(self.trust(), Vec::new()))
    }

    pub fn verified_by(&self, verifier: Verifier) -> Report {
        Archive::open(self.path()).unwrap().verify(verifier, &[9; 16], &mut |_| ())
    }

    /// What the command says: its exit code and its words.
    pub fn command(&self, more: &[&str]) -> (i32, String) {
        keyward(&[&["audit", "verify", self.path().to_str().unwrap()], more].concat())
    }
}

/// Runs the program.
pub fn keyward(arguments: &[&str]) -> (i32, String) {
    said(&Command::new(env!("CARGO_BIN_EXE_keyward")).args(arguments).output().unwrap())
}

fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code().unwrap(), text.concat())
}

/// What the independent verifier says about each path: one process for all of them.
pub fn python(options: &[&str], paths: &[PathBuf]) -> Vec<(i32, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
    let output = Command::new("/usr/bin/python3").arg("-B").arg(script).args(options).args(paths).output().unwrap();
    let (code, text) = said(&output);
    let lines: Vec<(i32, String)> =
        text.lines().filter_map(|line| Some((line.split_once(' ')?.0.parse().ok()?, line.to_owned()))).collect();
    assert_eq!(lines.len(), paths.len(), "docs/verify.py (is python3-cryptography there? run tests/run): {text}");
    let worst = [2, 3, 4, 5].into_iter().find(|code| lines.iter().any(|(c, _)| c == code)).unwrap_or(0);
    assert_eq!(code, worst, "{text}");
    lines
}

/// Every file below a directory, by its path in there.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(top: &Path, dir: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, all);
            } else {
                all.insert(path.strip_prefix(top).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(dir, dir, &mut all);
    all
}
