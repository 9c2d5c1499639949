//! Freezing the oldest entries: what is left is a whole log, what was taken is a chain of shards, and both prove it.

mod altered;
mod chain;
mod crash;
mod keep;
mod rest;

use std::path::{Path, PathBuf};

use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::audit::{Draft, Outcome, Phase, Target, TargetKind};
use keyward::domain::id::EntryId;
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store};
use keyward::shell::wire;

use crate::harness::ledger::{Written, draft, files, id, keyward, python};
use crate::harness::store::block_on;

/// When the first entry of a log was written.
const BEGIN: i64 = 1_790_000_000;

/// Freezes entries from before a time, `before` seconds after the first entry; what the command said.
fn freeze(log: &Path, to: &Path, before: i64, more: &[&str]) -> (i32, String) {
    let before = Timestamp::from_unix(BEGIN + before).to_string();
    let (log, to) = (log.to_str().unwrap(), to.to_str().unwrap());
    keyward(&[&["audit", "freeze", "--database", log, "--to", to, "--before", &before], more].concat())
}

/// Freezes entries before this place, which must succeed; gives the shard's directory.
fn frozen(log: &Path, to: &Path, place: u64, until: u64) -> PathBuf {
    let from = first(log);
    let (code, text) = freeze(log, to, 30 * place as i64, &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(first(log), until, "{text}");
    let dir = to.join(format!("{from:012}-{until:012}"));
    assert!(dir.join("shard.json").exists(), "{text}");
    dir
}

/// The first entry that is there.
fn first(log: &Path) -> u64 {
    let database = rusqlite::Connection::open(log.join("keyward.db")).unwrap();
    database.query_row("SELECT min(sequence) FROM entry", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

/// What both verifiers say with these shards: the exit code, and words of ours.
fn both(log: &Written, shards: &[PathBuf], code: i32, say: &str) {
    let shards: Vec<&str> = shards.iter().flat_map(|dir| ["--shard", dir.to_str().unwrap()]).collect();
    let (own, text) = log.command(&shards);
    assert!(own == code && text.contains(say), "{say}: {own} {text}");
    let (theirs, said) = python(&shards, &[log.path().to_owned()]).remove(0);
    assert_eq!(theirs, code, "{said}\n{text}");
}

/// As [`draft`], but all intents are concluded, some later than usual; that of entry 1050 is not.
fn closed(n: u64) -> Draft {
    let mut made = draft(n, "");
    if n % 100 == 54 && n != 1_054 {
        made.target = Target::new(TargetKind::Credential, format!("portal-{}", (n - 4) / 5 % 7));
        (made.phase, made.action, made.code) = (Phase::Outcome, "certificate.issue", "KW2003");
        (made.outcome, made.intent) = (Some(Outcome::Success), Some(EntryId(id(n - 4))));
    }
    made
}

fn fill(log: &Path, from: u64, to: u64) {
    fill_at(log, from, to, |n| Timestamp::from_unix(BEGIN + 30 * n as i64));
}

/// The same, all of now: a freeze is of now, and nothing after it is older.
fn fill_now(log: &Path, from: u64, to: u64) {
    let now = wire::clock().now();
    fill_at(log, from, to, |_| now);
}

fn fill_at(log: &Path, from: u64, to: u64, at: impl Fn(u64) -> Timestamp) {
    block_on(async {
        let now = at(from);
        let store = SqliteStore::open(log, &LogOptions::new(now, wire::entropy())).unwrap();
        for part in (from..to).collect::<Vec<_>>().chunks(10) {
            let entries = part.iter().map(|n| Draft { at: at(*n), ..closed(*n) }).collect();
            store.commit(Batch { changes: Vec::new(), entries }).await.unwrap();
        }
    });
}

/// A log of so many entries, half a minute apart.
fn written(entries: u64) -> Written {
    let log = Written { dir: tempfile::TempDir::new().unwrap() };
    fill(log.path(), 0, entries);
    log
}
