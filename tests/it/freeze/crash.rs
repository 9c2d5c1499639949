//! Killed anywhere, a freeze is done again, and the log is whole in between and at the end.

use std::process::Command;

use super::{BEGIN, both, fill_now, first, frozen, written};
use crate::harness::store::{block_on, open};
use keyward::domain::time::Timestamp;
use keyward::ports::Log;

#[test]
fn a_freeze_that_was_killed_anywhere_goes_on_and_nothing_is_lost() {
    let whole = written(1_400);
    let before = Timestamp::from_unix(BEGIN + 30 * 700).to_string();
    let (mut unwritten, mut recorded, mut half) = (0, 0, 0);
    // Renames and flushes of the shard, writes of the database: each step and what is between them.
    let kills = [
        ("rename", vec![1, 7, 20]),
        ("fsync", vec![1, 16, 40]),
        ("fdatasync", vec![1, 2, 3, 4, 5, 6, 8, 10]),
        ("pwrite64", vec![1, 40, 80, 120, 200, 320]),
        ("ftruncate", vec![1, 2]),
    ];
    for (call, whens) in kills {
        for when in whens {
            let (log, to) = (whole.copy(), tempfile::TempDir::new().unwrap());
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let output = Command::new("strace")
                .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", &inject, env!("CARGO_BIN_EXE_keyward")])
                .args(["audit", "freeze", "--before", &before, "--to"])
                .arg(to.path())
                .arg("--database")
                .arg(log.path())
                .output()
                .expect("strace is missing: run tests/run");
            let killed = !output.status.success();
            let shards: Vec<_> = [to.path().to_owned()]
                .into_iter()
                .filter(|dir| dir.join("000000000000-000000000512/shard.json").exists())
                .collect();
            let begun: i64 = rusqlite::Connection::open(log.path().join("keyward.db"))
                .unwrap()
                .query_row("SELECT ifnull(max(until), 0) FROM shard", [], |row| row.get(0))
                .unwrap_or(0);
            match (killed, begun, first(log.path())) {
                (false, 512, 512) => {}
                (_, 0, 0) => unwritten += 1,
                (_, 512, 0) => recorded += 1,
                (_, 512, 512) => half += 1,
                other => panic!("{inject}: {other:?}"),
            }
            if begun == 512 {
                // Recorded: whatever is still there, the log begins behind it, and its shard is whole.
                assert_eq!(shards.len(), 1, "{inject}");
                let (code, text) = log.command(&["--shard", to.path().to_str().unwrap()]);
                assert!(code == 0 && text.contains("are proved"), "{inject}: {text}");
                let (code, text) = log.command(&[]);
                assert!(code == 0 && text.contains("frozen"), "{inject}: {text}");
                block_on(async {
                    let store = open_now(log.path());
                    assert_eq!(store.inclusion(511).await.unwrap(), None, "{inject}");
                    assert!(store.inclusion(512).await.unwrap().is_some(), "{inject}");
                });
            } else {
                let (code, text) = log.command(&[]);
                assert!(code == 0 && text.contains("entries 0–1399 are proved"), "{inject}: {text}");
            }
            fill_now(log.path(), 2_000, 2_003);
            let (code, text) = super::freeze(log.path(), to.path(), 30 * 700, &[]);
            assert_eq!(code, 0, "{inject}: {text}");
            assert_eq!(first(log.path()), 512, "{inject}: {text}");
            both(&log, &[to.path().to_owned()], 0, "are proved");
        }
    }
    println!("{unwritten} before the entry, {recorded} before the first was deleted, {half} after");
    assert!(unwritten > 3 && recorded > 2 && half > 0, "{unwritten} {recorded} {half}");
}

/// As a daemon of now.
fn open_now(dir: &std::path::Path) -> keyward::adapters::store::SqliteStore {
    use keyward::adapters::store::{LogOptions, SqliteStore};
    use keyward::shell::wire;
    SqliteStore::open(dir, &LogOptions::new(wire::clock().now(), wire::entropy())).unwrap()
}

#[test]
fn what_was_not_deleted_to_the_end_is_nobodys_business_and_is_deleted_by_the_next() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let rows = log.rows();
    frozen(log.path(), to.path(), 700, 512);
    // As a run that was killed after it had deleted all but the last hundred.
    let mut sql = String::new();
    for row in &rows[412..512] {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        sql += &format!(
            "INSERT INTO entry VALUES ({}, x'{}', {}, x'{}', x'{}');",
            row.sequence,
            hex(&row.id),
            row.at,
            hex(&row.leaf),
            hex(&row.body)
        );
    }
    let bent = log.copy();
    bent.mutilate(&sql);
    both(&bent, &[], 0, "100 frozen entries are still here");
    both(&bent, &[to.path().to_owned()], 0, "100 frozen entries are still here");
    drop(block_on(async { open(bent.path()).map(drop) }));
    let (code, text) = super::freeze(bent.path(), to.path(), 0, &[]);
    assert!(code == 1 || code == 0, "{text}");
}
