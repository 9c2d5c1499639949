//! OCSF events against the published schema.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::audit::{Actor, Draft, Outcome, Phase, Policy, Target, TargetKind};
use keyward::domain::id::{AttemptId, EntryId, Ulid};
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store};
use keyward::shell::wire;

use super::{export, files};
use crate::harness::store::block_on;

/// Checks lines of events; gives how many of each class there were.
fn checked(lines: &[u8]) -> serde_json::Value {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("tools/ocsf/bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/export/check_ocsf.py");
    let mut child = Command::new(&python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{} is missing: run tests/run ({e})", python.display()));
    // A checker that ended early says why.
    child.stdin.take().unwrap().write_all(lines).ok();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "is pydantic-ocsf there? run tests/run: {text}");
    serde_json::from_str(&text).unwrap()
}

fn exported(log: &Path, to: &Path) -> Vec<u8> {
    let (code, text) = export(log, "ocsf", to, &[]);
    assert_eq!(code, 0, "{text}");
    files(to).into_iter().filter(|(name, _)| name.starts_with("entries-")).flat_map(|(_, bytes)| bytes).collect()
}

/// Every action that stands in the sources of the program.
fn actions() -> BTreeSet<String> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    const KINDS: [&str; 8] = ["certificate", "gate", "issuer", "daemon", "configuration", "audit", "clock", "state"];
    let mut sources = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let mut actions = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(source).unwrap_or_default();
        for literal in text.split('"').skip(1).step_by(2).chain(text.split('"').step_by(2)) {
            let action = literal.split_once('.').is_some_and(|(kind, what)| {
                KINDS.contains(&kind) && !what.is_empty() && what.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            });
            if action && !["audit.lock"].contains(&literal) {
                actions.insert(literal.to_owned());
            }
        }
    }
    actions
}

#[test]
fn every_action_in_every_form_is_a_valid_event() {
    let actions = actions();
    for known in ["certificate.issue", "gate.close", "daemon.start", "audit.rotate-key", "issuer.terms", "clock.accept"] {
        assert!(actions.contains(known), "{known}: {actions:?}");
    }
    let dir = tempfile::TempDir::new().unwrap();
    let at = Timestamp::from_unix(1_790_000_000);
    let mut drafts = Vec::new();
    let id = |n: usize| {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&(n as u64).to_be_bytes());
        Ulid::new(at, random)
    };
    for action in &actions {
        for kind in [TargetKind::Credential, TargetKind::Issuer, TargetKind::Path, TargetKind::Daemon] {
            let outcomes = [Outcome::Success, Outcome::Failure, Outcome::Denied, Outcome::Unknown].map(Some);
            for outcome in outcomes.into_iter().chain([None]) {
                let n = drafts.len();
                let target = || Target::new(kind, "portal");
                let action: &'static str = action.clone().leak();
                let mut intent = Draft::new(EntryId(id(n)), at, action, "KW2001", target());
                let (version, inputs) = (Digest::of(b"policy"), Digest::of(b"inputs"));
                intent.policy = Some(Policy { decision: "proceed", rule: Arc::from("a rule"), version, inputs, tier: 2 });
                intent.correlation = Some(AttemptId(id(n)));
                if n % 3 == 0 {
                    intent.actor = Actor::Human(Arc::from("uid:1000"));
                }
                let mut other = Draft::new(EntryId(id(n + 1)), at, action, "KW2003", target());
                if outcome.is_some() {
                    intent.phase = Phase::Intent;
                    (other.phase, other.outcome, other.intent) = (Phase::Outcome, outcome, Some(intent.id));
                }
                other.private.push(("text", Arc::from("what somebody said")));
                drafts.extend([intent, other]);
            }
        }
    }
    let number = drafts.len();
    block_on(async {
        let store = SqliteStore::open(dir.path(), &LogOptions::new(at, wire::entropy())).unwrap();
        let mut rest = drafts;
        while !rest.is_empty() {
            let entries = rest.drain(..rest.len().min(1_000)).collect();
            store.commit(Batch { changes: Vec::new(), entries }).await.unwrap();
        }
    });
    let to = tempfile::TempDir::new().unwrap();
    let seen = checked(&exported(dir.path(), to.path()));
    let each = number as u64 / 4;
    assert_eq!(seen, serde_json::json!({ "EntityManagement": 3 * each, "ApplicationLifecycle": each }));
}

#[test]
fn the_log_of_a_daemon_that_runs_is_exported_as_valid_events() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["demo", "--seconds", "16", "--lifetime", "20"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut dir, to) = (None, tempfile::TempDir::new().unwrap());
    for line in BufReader::new(demo.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(path) = line.trim().strip_prefix("directory ") {
            dir = Some(PathBuf::from(path.trim()));
        }
        if line.contains("approve is OPEN") || line.contains("Z  renewed") {
            let state = dir.as_ref().unwrap().join("state");
            let events = exported(&state, to.path());
            let seen = checked(&events);
            assert!(seen["EntityManagement"].as_u64() > Some(3) && seen["ApplicationLifecycle"].as_u64() > Some(0), "{seen}");
            if line.contains("Z  renewed") {
                break;
            }
        }
    }
    demo.kill().ok();
    demo.wait().unwrap();
    let path = dir.unwrap();
    fs::remove_dir_all(path).ok();
    let text = String::from_utf8(files(to.path()).remove("entries-000000000000.jsonl").unwrap()).unwrap();
    for action in ["certificate.issue", "certificate.install", "gate.open"] {
        assert!(text.contains(&format!("\"activity_name\":\"{action}\"")), "{action}: {text}");
    }
}
