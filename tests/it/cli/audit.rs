//! `keyward audit …` and `keyward explain ID`: of a daemon, and of a state directory without one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use keyward::adapters::store::SqliteStore;
use keyward::domain::audit::{Draft, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store as _};
use serde_json::Value;

use super::{Ran, ask, hinted, keyward};
use crate::harness::http::Server;
use crate::harness::store::{block_on, open};
use crate::http::audit::{hostile, house, write};

/// Every answer is there within this time.
const PATIENCE: Duration = Duration::from_secs(20);

fn json(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out))
}

#[test]
fn entries_come_as_a_table_as_json_as_csv_and_as_lines() {
    let server = house().serve();
    let table = ask(&server, &["audit", "query", "--credential", "portal", "--since", "4w"]);
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(table.out.starts_with("PLACE ") && table.out.contains("KW2001") && table.out.contains("credential/portal"));
    let whole = json(&ask(&server, &["audit", "query", "--credential", "portal", "-o", "json"]));
    let rows = whole["entries"].as_array().unwrap();
    assert_eq!(rows.len(), table.out.lines().count() - 1);
    let lines = ask(&server, &["audit", "query", "--credential", "portal", "-o", "jsonl"]);
    let parsed: Vec<Value> = lines.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(&parsed, rows);
    let csv = ask(&server, &["audit", "query", "--credential", "portal", "-o", "csv"]);
    assert!(csv.out.starts_with("sequence,time,id,code,"), "{}", csv.out);
    assert_eq!(csv.out.lines().count(), rows.len() + 1);
    let names = ask(&server, &["audit", "query", "--credential", "portal", "-o", "name"]);
    assert_eq!(
        names.out.lines().collect::<Vec<_>>(),
        rows.iter().map(|r| r["id"].as_str().unwrap()).collect::<Vec<_>>()
    );
    let none = ask(&server, &["audit", "query", "--incident", "42"]);
    assert_eq!((none.code, none.out.as_str(), none.err.trim()), (0, "", "no entry is like that"));
    // In parts, and the same.
    let first = ask(&server, &["audit", "query", "--credential", "portal", "--limit", "2", "-o", "name"]);
    let cursor = first.err.trim().strip_prefix("there is more: --cursor ").unwrap().to_owned();
    let rest = ask(&server, &["audit", "query", "--credential", "portal", "--cursor", &cursor, "-o", "name"]);
    assert_eq!(format!("{}{}", first.out, rest.out), names.out);
    let oldest = ask(&server, &["audit", "query", "--credential", "portal", "--oldest-first", "-o", "name"]);
    assert_eq!(oldest.out.lines().rev().collect::<Vec<_>>(), names.out.lines().collect::<Vec<_>>());
}

#[test]
fn what_a_ca_wrote_reaches_neither_terminal_nor_spreadsheet_as_a_command() {
    let server = hostile().serve();
    for format in ["table", "csv"] {
        let ran = ask(&server, &["audit", "query", "--code", "KW3007", "-o", format]);
        assert!(ran.code == 0 && !ran.out.contains(['\u{1b}', '\u{202e}']), "{:?}", ran.out);
    }
    let ran = ask(&server, &["audit", "show", "--", "0"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_slip_is_a_usage_error_with_a_hint_and_never_another_answer() {
    let server = house().serve();
    for (bad, why) in [
        (&["audit", "query", "--outcome", "sucess"][..], "success, failure, denied, unknown"),
        (&["audit", "query", "--since", "yesterday"], "is no time"),
        (&["audit", "query", "--text", "xyzzy plugh"], "no code's meaning"),
        (&["audit", "tail", "--tier", "9"], "not possible"),
        (&["audit", "show", "nonsense"], "names no entry"),
    ] {
        let ran = ask(&server, bad);
        hinted(&ran);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{bad:?}: {}", ran.err);
        assert!(ran.err.contains(why) && ran.err.contains("KW6201"), "{}", ran.err);
    }
    let absent = ask(&server, &["audit", "show", "01KDGZJ5N3W0G3C5Y7B2Q4R6T8"]);
    hinted(&absent);
    assert!(absent.code == 1 && absent.err.contains("KW6202"), "{}", absent.err);
    let csv = ask(&server, &["cert", "list", "-o", "csv"]);
    assert!(csv.code == 2 && csv.err.contains("csv and jsonl are for lists of the audit log"), "{}", csv.err);
}

#[test]
fn one_entry_its_story_and_the_counts_are_shown() {
    let server = house().serve();
    let id = ask(&server, &["audit", "query", "--code", "KW2001", "-o", "name"]).out.trim().to_owned();
    let shown = ask(&server, &["audit", "show", &id]);
    for part in ["place ", "KW2001 intent: issue", "its outcome", "KW2003, success", "rule: ", "inputs: ", "leaf "] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let told = ask(&server, &["explain", &id]);
    assert!(told.code == 0 && told.out.contains("was about to issue a certificate"), "{}{}", told.out, told.err);
    let detail = json(&ask(&server, &["audit", "show", &id, "-o", "json"]));
    let by_correlation = ask(&server, &["explain", detail["correlation"].as_str().unwrap()]);
    assert_eq!(by_correlation.out.lines().count(), told.out.lines().count());
    let stats = ask(&server, &["audit", "stats"]);
    assert!(stats.out.contains("intents without outcome  none"), "{}", stats.out);
    assert!(stats.out.contains("KW2401 daemon started"), "{}", stats.out);
    assert!(json(&ask(&server, &["audit", "stats", "-o", "json"]))["codes"]["KW2001"] == 1);
}

/// Entries of one attempt that was cut off, and a gate; the directory is left as a daemon that was stopped leaves it.
fn state(dir: &Path, from: u64) {
    let store: SqliteStore = open(dir).unwrap();
    let at = |n: u64| Timestamp::from_unix(1_790_000_000 + i64::try_from(n).unwrap());
    let id = |n: u64| Ulid::new(at(n), [7; 10]);
    let mut intent = Draft::new(
        EntryId(id(from)),
        at(from),
        "certificate.issue",
        "KW2001",
        Target::new(TargetKind::Credential, "portal"),
    );
    intent.phase = Phase::Intent;
    intent.correlation = Some(AttemptId(id(from + 1_000)));
    let digest = Digest::of(b"policy");
    intent.policy =
        Some(Policy { decision: "proceed", rule: "tier-2".into(), version: digest, inputs: digest, tier: 2 });
    intent.facts = vec![("issuer", Json::str("le")), ("names", Json::str("portal.example.org"))];
    let mut denied = Draft::new(
        EntryId(id(from + 1)),
        at(from + 1),
        "certificate.issue",
        "KW2007",
        Target::new(TargetKind::Credential, "mail"),
    );
    denied.outcome = Some(Outcome::Denied);
    let entries = vec![intent, denied];
    block_on(store.commit(Batch { changes: Vec::new(), entries })).unwrap();
}

#[test]
fn a_state_directory_is_read_without_a_daemon_and_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    state(dir.path(), 0);
    let path = dir.path().to_str().unwrap();
    let files = || {
        let mut all: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| e.metadata().unwrap().is_file() && !e.file_name().to_string_lossy().ends_with("-shm"))
            .map(|e| (e.file_name(), std::fs::read(e.path()).unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = files();
    let run = |arguments: &[&str]| {
        let ran = keyward(Path::new("/"), &[arguments, &["--database", path]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran
    };
    assert_eq!(run(&["audit", "query", "--credential", "portal"]).out.lines().count(), 2);
    assert_eq!(run(&["audit", "query", "--tier", "2", "--issuer", "le", "-o", "name"]).out.lines().count(), 1);
    assert!(run(&["audit", "show", "1"]).out.contains("KW2007 declined by policy"));
    assert!(run(&["audit", "stats"]).out.contains("1 (what came of them is not recorded)"));
    assert_eq!(run(&["audit", "tail", "-n", "1"]).out.lines().count(), 1);
    let story = run(&["explain", "0"]).out;
    assert!(story.contains("at tier 2") && story.contains("Of intent #0 no outcome is recorded"), "{story}");
    assert_eq!(files(), before, "nothing was written");
    for wrong in ["/nonexistent", "/etc/passwd"] {
        let ran = keyward(Path::new("/"), &["audit", "stats", "--database", wrong]);
        hinted(&ran);
        assert_eq!(ran.code, 1, "{}", ran.err);
    }
}

/// A `tail -f` with the lines that it says.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(["audit", "tail", "-f", "-o", "jsonl"])
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn next(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE).expect("tail says nothing");
        serde_json::from_str::<Value>(&line).unwrap()["sequence"].as_str().unwrap().to_owned()
    }

    /// SIGINT; the end, and what it said to people.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read(out: ChildStdout) -> Receiver<String> {
    let (say, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if say.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[test]
fn tail_follows_what_is_written_and_ends_cleanly_on_an_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    state(dir.path(), 0);
    let tail = Following::start(&["-n", "1", "--database", dir.path().to_str().unwrap()]);
    assert_eq!(tail.next(), "1", "of what there is the newest");
    state(dir.path(), 10);
    assert_eq!([tail.next(), tail.next()], ["2", "3"]);
    let only = Following::start(&[
        "--since",
        "2026-01-01",
        "--credential",
        "mail",
        "--database",
        dir.path().to_str().unwrap(),
    ]);
    assert_eq!([only.next(), only.next()], ["1", "3"]);
    state(dir.path(), 20);
    assert_eq!([tail.next(), tail.next(), only.next()], ["4", "5", "5"]);
    assert_eq!(tail.interrupt(), (Some(0), String::new()));
}

#[test]
fn tail_goes_on_where_it_was_when_the_daemon_comes_back() {
    let still = house();
    let server = still.serve();
    let dir = server.dir.clone();
    let tail = Following::start(&["-n", "1", "--socket", server.admin.to_str().unwrap()]);
    let seen: u64 = tail.next().parse().unwrap();
    drop(server);
    // Written while it could not be asked.
    write(&still, 1);
    let server = Server::within(still.web(), dir);
    assert_eq!(tail.next().parse::<u64>().unwrap(), seen + 1, "nothing in between is lost");
    drop(server);
    let (code, said) = tail.interrupt();
    assert_eq!(code, Some(0), "{said}");
}
