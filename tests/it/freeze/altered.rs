//! Whatever was altered, in a shard or in what is kept of it, is found by both verifiers.

use std::fs;

use keyward::ports::StoreError;

use super::{both, files, fill_now, frozen, written};
use crate::harness::ledger::{Written, python};
use crate::harness::store::open;

#[test]
fn a_shard_that_is_altered_in_any_file_is_found() {
    let (log, to) = (written(1_000), tempfile::TempDir::new().unwrap());
    frozen(log.path(), to.path(), 300, 256);
    frozen(log.path(), to.path(), 800, 768);
    let all = [to.path().to_owned()];
    both(&log, &all, 0, "are proved");
    let (mut seen, mut evidence) = (0_usize, 0);
    for (name, bytes) in files(to.path()) {
        let path = to.path().join(&name);
        let kind = |whole: i32| if name.contains("evidence") { 0 } else { whole };
        if name.contains("evidence") {
            evidence += 1;
            if evidence > 3 {
                continue;
            }
        }
        seen += 1;
        let shards = ["--shard", to.path().to_str().unwrap()];
        let mut bent = bytes.clone();
        let at = [0, bytes.len() / 2, bytes.len() - 2][seen % 3];
        bent[at] ^= 1;
        fs::write(&path, bent).unwrap();
        let (code, text) = log.command(&shards);
        assert_eq!(code, 2, "{name} at {at}: {text}");
        let said = python(&shards, &[log.path().to_owned()]);
        assert_eq!(said[0].0, 2, "{name} at {at}: {said:?}");
        fs::remove_file(&path).unwrap();
        let (code, text) = log.command(&shards);
        // Without its manifest a directory is no shard: the second is missing, or the first.
        let expected: &[i32] = if name.ends_with("shard.json") { &[0, 4] } else { &[kind(4)] };
        assert!(expected.contains(&code), "{name}: {code} {text}");
        let said = python(&shards, &[log.path().to_owned()]);
        assert_eq!(said[0].0, code, "{name}: {said:?} {text}");
        fs::write(&path, bytes).unwrap();
    }
    assert!(seen > 15, "{seen}");
    both(&log, &all, 0, "are proved");
}

#[test]
fn a_shard_of_another_log_does_not_fit() {
    let (log, other) = (written(1_000), written(1_000));
    let (own, foreign) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
    frozen(log.path(), own.path(), 700, 512);
    frozen(other.path(), foreign.path(), 700, 512);
    let given = ["--shard", foreign.path().to_str().unwrap()];
    let (code, text) = log.command(&given);
    assert!(code == 2 && text.contains("KW6120"), "{code} {text}");
    // The other one goes no further than to the first checkpoint, of a log whose key it does not have.
    assert_eq!(python(&given, &[log.path().to_owned()])[0].0, 5);
    both(&log, &[own.path().to_owned()], 0, "are proved");
    // The log from before the freeze with shards of after it was put back from a backup.
    let (late, to) = (written(1_000), tempfile::TempDir::new().unwrap());
    let before = late.copy();
    frozen(late.path(), to.path(), 700, 512);
    both(&before, &[to.path().to_owned()], 3, "it is older");
}

/// What a start says.
fn started(log: &Written) -> Option<StoreError> {
    open(log.path()).err()
}

#[test]
fn entries_that_were_removed_with_a_made_up_word_of_a_freeze_are_missed() {
    let log = written(1_000);
    let gone = "DELETE FROM entry WHERE sequence < 256; DELETE FROM checkpoint WHERE size < 256;
                DELETE FROM mark WHERE sequence < 256; DELETE FROM word WHERE id NOT IN (SELECT word FROM mark);";
    let cases = [
        ("nothing said", String::new(), "KW6102"),
        (
            "an entry that says something else",
            "INSERT INTO shard VALUES (256, zeroblob(32), 900);".to_owned(),
            "KW6120",
        ),
        ("an entry that is gone", "INSERT INTO shard VALUES (256, zeroblob(32), 3);".to_owned(), "KW6120"),
        ("an entry that never was", "INSERT INTO shard VALUES (256, zeroblob(32), 5000);".to_owned(), "KW6120"),
    ];
    for (what, row, say) in cases {
        let bent = log.copy();
        bent.mutilate(&format!("{gone} {row}"));
        both(&bent, &[], 2, say);
        if !row.is_empty() {
            let refused = started(&bent).unwrap_or_else(|| panic!("{what}: it started"));
            assert!(matches!(&refused, StoreError::Distrusted { code: "KW6001", .. }), "{what}: {refused}");
        }
    }
}

#[test]
fn what_is_kept_of_frozen_entries_is_what_the_entry_of_the_freeze_says() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    frozen(log.path(), to.path(), 300, 256);
    fill_now(log.path(), 2_000, 2_010);
    frozen(log.path(), to.path(), 700, 512);
    fill_now(log.path(), 2_100, 2_110);
    let pending: i64 = rusqlite::Connection::open(log.path().join("keyward.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM pending", [], |row| row.get(0))
        .unwrap();
    // Entry 550 … are behind; 450's outcome is 454: the intent that spans the end is 510's.
    assert!(pending >= 1, "{pending}");
    let cases = [
        "UPDATE link SET leaf = zeroblob(32) WHERE target = 'path/approve'",
        "DELETE FROM link WHERE target = 'issuer/le'",
        "INSERT INTO link VALUES ('credential/nobody', zeroblob(32))",
        "DELETE FROM pending",
        "UPDATE pending SET sequence = sequence - 1",
        "UPDATE pending SET target = 'credential/other'",
        "UPDATE subtree SET hash = zeroblob(32) WHERE level = 8 AND place = 0",
        "DELETE FROM subtree WHERE level = 8 AND place = 1",
        "UPDATE shard SET manifest = zeroblob(32) WHERE until = 512",
        "UPDATE shard SET manifest = zeroblob(32) WHERE until = 256",
        "UPDATE shard SET freeze = freeze - 1 WHERE until = 512",
        "UPDATE shard SET until = 768 WHERE until = 512",
        "DELETE FROM shard WHERE until = 512",
        "DELETE FROM shard WHERE until = 256",
        "DELETE FROM shard",
        "DROP TABLE shard",
        "DELETE FROM entry WHERE sequence = 512",
        "DELETE FROM entry WHERE sequence < 600",
        "INSERT INTO mark SELECT min(id), 3 FROM word",
        "INSERT INTO subtree VALUES (8, 999, zeroblob(32))",
    ];
    let bent: Vec<Written> = cases
        .iter()
        .map(|sql| {
            let bent = log.copy();
            bent.mutilate(sql);
            bent
        })
        .collect();
    let paths: Vec<_> = bent.iter().map(|log| log.path().to_owned()).collect();
    for shards in [&[][..], &["--shard", to.path().to_str().unwrap()]] {
        for ((sql, bent), said) in cases.iter().zip(&bent).zip(python(shards, &paths)) {
            let (code, text) = bent.command(shards);
            // Where the log is said to begin elsewhere, shards may be missing or too many besides.
            let fits = |code: i32| code == 2 || (code == 3 || code == 4) && sql.contains("shard");
            assert!(fits(code), "{sql}, {shards:?}: {code} {text}");
            assert!(fits(said.0), "{sql}, {shards:?}: {said:?}");
        }
    }
}
