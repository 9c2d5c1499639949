//! Backup, restore and repair of a log whose oldest entries are frozen.

use std::fs;
use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;
use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::time::Timestamp;
use keyward::ports::Store;
use keyward::shell::wire;
use keyward::shell::wire::keep::{self, Secrets};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{both, first};
use crate::harness::ledger::{Written, keyward};
use crate::harness::store::block_on;
use crate::replay::history;

/// The log of a guardian's life with its state.
fn life(lives: u64) -> Written {
    let (world, _) = history(42, lives);
    let log = Written { dir: TempDir::new().unwrap() };
    block_on(async {
        let options = LogOptions::new(Timestamp::from_unix(0), wire::entropy());
        let store = SqliteStore::open(log.path(), &options).unwrap();
        // In groups, in their order: each commit by itself would wait for the disk.
        let mut batches = world.store.written().into_iter().peekable();
        while batches.peek().is_some() {
            let group = batches.by_ref().take(200).map(|batch| store.commit(batch));
            for done in join_all(group).await {
                done.unwrap();
            }
        }
    });
    log
}

/// The log of a guardian's life with its state, and a freeze of its first entries.
fn lived(to: &Path) -> Written {
    let log = life(4);
    // The history goes on into the future.
    let output = Command::new("faketime")
        .args(["2030-01-01 00:00:00", env!("CARGO_BIN_EXE_keyward"), "audit", "freeze", "--keep-days", "0", "--to"])
        .arg(to)
        .arg("--database")
        .arg(log.path())
        .output()
        .expect("faketime is missing: run tests/run");
    assert!(output.status.success() && first(log.path()) >= 256, "{output:?}");
    log
}

#[test]
fn the_log_of_a_life_is_verified_to_the_last_entry() {
    both(&life(2), &[], 0, "are proved");
}

fn doctor(log: &Path, more: &[&str]) -> (i32, String) {
    keyward(&[&["doctor", log.to_str().unwrap()], more].concat())
}

#[test]
fn a_frozen_log_is_called_sound_and_its_state_is_proved_with_its_shards_only() {
    let to = TempDir::new().unwrap();
    let (log, shards) = (lived(to.path()), to.path().to_str().unwrap().to_owned());
    let (code, text) = doctor(log.path(), &[]);
    assert!(code == 0 && text.contains("unknown: whether the state is that of the log"), "{code} {text}");
    let (code, text) = doctor(log.path(), &["--shard", &shards]);
    assert!(code == 0 && !text.contains("unknown") && text.contains("frozen"), "{code} {text}");
    both(&log, &[to.path().to_owned()], 0, "are proved");
}

#[test]
fn a_damaged_state_is_made_anew_with_the_shards_and_never_without_them() {
    let to = TempDir::new().unwrap();
    let (log, shards) = (lived(to.path()), to.path().to_str().unwrap().to_owned());
    let state = |dir: &Path| {
        let copy = Written { dir: TempDir::new().unwrap() };
        fs::copy(dir.join("keyward.db"), copy.path().join("keyward.db")).unwrap();
        let database = Connection::open(copy.path().join("keyward.db")).unwrap();
        let rows = |sql: &str| -> Vec<String> {
            let mut statement = database.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        [
            rows("SELECT id || failures || ifnull(failure_text, '') FROM credential ORDER BY id"),
            rows("SELECT credential || serial FROM generation ORDER BY 1"),
        ]
    };
    let whole = state(log.path());
    assert!(!whole[0].is_empty());
    for sql in [
        "UPDATE credential SET failures = 'many'",
        "UPDATE generation SET trigger = 1",
        "DELETE FROM link; DELETE FROM mark; DELETE FROM subtree WHERE level = 8 AND place = 0",
        "UPDATE shard SET manifest = zeroblob(32)",
    ] {
        let bent = log.copy();
        let database = bent.unguarded();
        // A STRICT table takes only numbers there: the page is damaged instead.
        let done = database.execute_batch(sql);
        drop(database);
        if done.is_err() {
            continue;
        }
        Connection::open(bent.path().join("keyward.db"))
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        let (code, text) = doctor(bent.path(), &["--repair", "--shard", &shards]);
        assert_eq!(code, 0, "{sql}: {text}");
        both(&bent, &[to.path().to_owned()], 0, "are proved");
        assert_eq!(state(bent.path()), whole, "{sql}");
        let (code, text) = doctor(bent.path(), &["--shard", &shards]);
        assert!(code == 0 && !text.contains("KW63"), "{sql}: {code} {text}");
    }
    // Pages of the state's tables, lost.
    for table in ["credential", "generation", "link", "shard", "pending", "subtree"] {
        let bent = log.copy();
        let path = bent.path().join("keyward.db");
        let (page, size) = {
            let database = Connection::open(&path).unwrap();
            let sql = format!("SELECT rootpage FROM sqlite_schema WHERE name = '{table}'");
            let page: u64 = database.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
            (page, database.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).unwrap() as u64)
        };
        let mut bytes = fs::read(&path).unwrap();
        bytes[((page - 1) * size) as usize..][..size as usize].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let (code, text) = doctor(bent.path(), &["--repair"]);
        assert!(code == 1 && text.contains("--shard"), "{table}: {code} {text}");
        let (code, text) = doctor(bent.path(), &["--repair", "--shard", &shards]);
        assert_eq!(code, 0, "{table}: {text}");
        assert_eq!(state(bent.path()), whole, "{table}");
        both(&bent, &[to.path().to_owned()], 0, "are proved");
    }
}

#[test]
fn a_frozen_log_is_backed_up_and_put_back() {
    let to = TempDir::new().unwrap();
    let shards = to.path().join("shards");
    let log = lived(&shards);
    let (backup, again) = (to.path().join("backup"), to.path().join("again"));
    let now = Timestamp::from_unix(2_000_000_000);
    let manifest = keep::backup(log.path(), &backup, Secrets::Included, now).unwrap();
    assert_eq!(manifest.begins, first(log.path()));
    keep::restore(&backup, &again).unwrap();
    let (code, text) = keyward(&["audit", "verify", again.to_str().unwrap(), "--shard", shards.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    // A backup whose entries are gone without a freeze is none.
    let bent = log.copy();
    let begins = manifest.begins;
    bent.mutilate(&format!("DELETE FROM entry WHERE sequence < {}", begins + 1));
    let refused = keep::backup(bent.path(), &to.path().join("bent"), Secrets::LeftOut, now).unwrap_err().to_string();
    assert!(refused.contains("KW6320"), "{refused}");
}
