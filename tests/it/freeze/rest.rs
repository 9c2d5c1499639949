//! What is left behaves as a log: it grows, starts, proves and answers; and nothing else goes without a freeze.

use std::collections::BTreeMap;

use keyward::adapters::store::{Archive, SqliteStore};
use keyward::domain::key::Digest;
use keyward::domain::question::{Order, Question, Wanted};
use keyward::domain::tree::{Frontier, TreeHead, check_consistency, check_inclusion};
use keyward::ports::{Log, OwnLog, Store};
use rusqlite::Connection;

use super::{both, fill_now, frozen, written};
use crate::harness::ledger::Written;
use crate::harness::store::{block_on, open};

fn heads(leaves: &[Digest]) -> Vec<TreeHead> {
    let mut tree = Frontier::default();
    let mut heads = vec![tree.head()];
    for leaf in leaves {
        tree.push(*leaf, |_, _| {});
        heads.push(tree.head());
    }
    heads
}

/// Every proof and answer over a log whose leaves are known and whose first `begins` entries are frozen.
async fn everything_holds(store: &SqliteStore, leaves: &[Digest], bodies: &BTreeMap<u64, Vec<u8>>, begins: u64) {
    let heads = heads(leaves);
    let (size, newest) = (leaves.len() as u64, heads.last().unwrap());
    for n in 0..size {
        let given = store.inclusion(n).await.unwrap();
        match given {
            None => assert!(n < begins, "{n}"),
            Some(given) => {
                assert!(n >= begins, "{n}");
                assert_eq!(given.entry.bytes, bodies[&n]);
                assert_eq!(check_inclusion(&leaves[n as usize], n, newest, &given.proof), Ok(()), "{n}");
            }
        }
    }
    for old in 0..=size {
        let given = Log::consistency(store, old).await.unwrap();
        let there = old >= begins || old.is_multiple_of(256);
        assert_eq!(given.is_some(), there, "{old}");
        if let Some(given) = given {
            assert_eq!(check_consistency(&heads[old as usize], newest, &given.proof), Ok(()), "{old}");
        }
        let between = OwnLog::consistency(store, old, size - 5).await.unwrap();
        assert_eq!(between.is_some(), there && old <= size - 5, "{old}");
        if let Some(proof) = between {
            assert_eq!(check_consistency(&heads[old as usize], &heads[size as usize - 5], &proof), Ok(()), "{old}");
        }
    }
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let (mut beyond, mut seen) = (None, Vec::new());
        loop {
            let asked = Question { order, beyond, limit: 100, ..Question::default() };
            let page = store.query(asked).await.unwrap();
            assert_eq!((page.begins, page.size), (begins, size));
            seen.extend(page.entries.iter().map(|e| e.sequence));
            let Some(next) = page.next else { break };
            beyond = Some(next);
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(begins..size), "{order:?}");
    }
    let asked = Question { limit: 1_000, order: Order::OldestFirst, ..Question::default() };
    let found = store.query(asked.and(vec![Wanted::Word("code:KW2301".to_owned())])).await.unwrap();
    assert!(found.entries.iter().all(|e| e.sequence >= begins) && !found.entries.is_empty());
    let entries = store.entries(Some("path/approve".to_owned()), 10_000).await.unwrap();
    assert!(entries.iter().all(|e| e.sequence >= begins) && !entries.is_empty());
    assert_eq!(store.entries(None, 10_000).await.unwrap().len() as u64, size - begins);
    let counted = store.statistics().await.unwrap();
    assert_eq!((counted.size, counted.begins), (size, begins));
}

fn taken(log: &Written) -> (Vec<Digest>, BTreeMap<u64, Vec<u8>>) {
    let rows = log.rows();
    let bodies = rows.iter().map(|row| (row.sequence as u64, row.body.clone())).collect();
    (rows.iter().map(|row| Digest(row.leaf)).collect(), bodies)
}

#[test]
fn after_a_freeze_the_log_grows_starts_proves_and_answers() {
    let (log, to) = (written(1_000), tempfile::TempDir::new().unwrap());
    let (mut leaves, mut bodies) = taken(&log);
    let mut begins = 0;
    for (place, until, next) in [(300, 256, 2_000), (700, 512, 2_100), (1_000, 768, 2_400)] {
        frozen(log.path(), to.path(), place, until);
        fill_now(log.path(), next, next + 50);
        begins = until;
        let rows = log.rows();
        assert_eq!(rows[0].sequence as u64, begins);
        for row in rows.iter().filter(|row| row.sequence as usize >= leaves.len()) {
            bodies.insert(row.sequence as u64, row.body.clone());
        }
        let known = leaves.len();
        leaves.extend(rows.iter().filter(|row| row.sequence as usize >= known).map(|row| Digest(row.leaf)));
        block_on(async { everything_holds(&open(log.path()).unwrap(), &leaves, &bodies, begins).await });
    }
    // The entry of the last start by a test's clock is of the future: nothing is verified by time but warned of.
    both(&log, &[to.path().to_owned()], 0, "are proved");
    both(&log, &[], 0, &format!("entries 0–{} are frozen", begins - 1));
}

#[test]
fn evidence_and_texts_that_nobody_names_any_more_are_gone_and_the_others_stay() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let database = || Connection::open(log.path().join("keyward.db")).unwrap();
    let count = |table: &str| -> i64 {
        database().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let size = std::fs::metadata(log.path().join("keyward.db")).unwrap().len();
    let (evidence, texts) = (count("evidence"), count("private"));
    let shard = frozen(log.path(), to.path(), 1_400, 1_024);
    // Every fortieth entry from 7 on names a piece of its own, every thirtieth from 221 on has a text.
    assert_eq!(evidence - count("evidence"), (0..1_024).filter(|n| n % 40 == 7).count() as i64);
    // And the person who froze it came.
    assert_eq!(texts + 1 - count("private"), (201..1_024).filter(|n| n % 30 == 11).count() as i64);
    let kept = std::fs::read_dir(shard.join("evidence")).unwrap().count() as i64;
    assert_eq!(kept, evidence - count("evidence"));
    let left = std::fs::metadata(log.path().join("keyward.db")).unwrap().len();
    // 27 % of the entries, and a schema whose pages stay.
    assert!(left < size / 100 * 55, "{left} bytes of {size} are left");
    let orphans: i64 = database()
        .query_row("SELECT count(*) FROM word WHERE id NOT IN (SELECT word FROM mark)", [], |row| row.get(0))
        .unwrap();
    assert_eq!((orphans, count("checkpoint WHERE size < 1024"), count("mark WHERE sequence < 1024")), (0, 0, 0));
    both(&log, &[to.path().to_owned()], 0, "are proved");
    // Evidence may be deleted from a shard as from beside the log; other bytes may not lie there.
    let piece = std::fs::read_dir(shard.join("evidence")).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&piece).unwrap();
    std::fs::remove_file(&piece).unwrap();
    both(&log, &[to.path().to_owned()], 0, "are proved");
    std::fs::write(&piece, [&bytes[..], b"x"].concat()).unwrap();
    both(&log, &[to.path().to_owned()], 2, "KW6114");
}

#[test]
fn nothing_goes_that_is_not_frozen() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let database = || Connection::open(log.path().join("keyward.db")).unwrap();
    let refused = |sql: &str, why: &str| {
        let error = database().execute_batch(sql).expect_err(sql).to_string();
        assert!(error.contains(why), "{sql}: {error}");
    };
    refused("DELETE FROM entry WHERE sequence < 256", "never deleted unless it is frozen");
    refused("INSERT INTO shard VALUES (256, zeroblob(32), 1399)", "an entry of the log says so");
    refused("INSERT INTO shard VALUES (255, zeroblob(32), 1399)", "");
    frozen(log.path(), to.path(), 700, 512);
    for sql in
        ["DELETE FROM entry WHERE sequence = 512", "DELETE FROM entry WHERE sequence = 1400", "DELETE FROM entry"]
    {
        refused(sql, "never deleted unless it is frozen");
    }
    refused("DELETE FROM shard", "never changed");
    refused("UPDATE shard SET until = 1024", "never changed");
    refused("INSERT INTO shard SELECT 768, manifest, freeze FROM shard", "an entry of the log says so");
    refused("INSERT INTO shard SELECT 256, manifest, freeze FROM shard", "only grows");
    refused("INSERT OR REPLACE INTO shard SELECT until, zeroblob(32), freeze FROM shard", "only grows");
    refused("DELETE FROM checkpoint WHERE kept = 1", "never changed");
    both(&log, &[to.path().to_owned()], 0, "are proved");
    assert_eq!(Archive::open(log.path()).unwrap().begins().unwrap(), 512);
}

#[test]
fn a_log_whose_key_was_rotated_before_the_freeze_is_verified_with_the_old_key_and_the_shards() {
    use keyward::adapters::store::{LogOptions, Rotation, rotate_key};
    use keyward::domain::time::Timestamp;
    use keyward::shell::wire;

    let (log, to) = (written(700), tempfile::TempDir::new().unwrap());
    let old = log.key().to_string();
    let options = LogOptions::new(Timestamp::from_unix(super::BEGIN + 30 * 700), wire::entropy());
    let rotation = Rotation { by: "uid:1".into(), overlap: core::time::Duration::from_secs(3 * 3_600) };
    rotate_key(log.path(), &options, &rotation).unwrap();
    super::fill(log.path(), 705, 1_400);
    let new = log.key().to_string();
    assert_ne!(old, new);
    frozen(log.path(), to.path(), 900, 768);
    let shards = to.path().to_str().unwrap();
    for (keys, code, say) in [
        (&[][..], 0, "are proved"),
        (&["--key", &new], 0, "are proved"),
        (&["--key", &new, "--shard", shards], 0, "(by entry 700, a rotation)"),
        (&["--key", &old, "--shard", shards], 0, "(by entry 700, a rotation)"),
        // The entry of the rotation is frozen: that the log went over to another key cannot be known without it.
        (&["--key", &old], 5, "may have been rotated in the frozen entries"),
    ] {
        let (own, text) = log.command(keys);
        assert!(own == code && text.contains(say), "{keys:?}: {own} {text}");
        let said = crate::harness::ledger::python(keys, &[log.path().to_owned()]);
        assert_eq!(said[0].0, code, "{keys:?}: {said:?}");
    }
    // And once more, behind the rotation.
    let freeze = super::frozen(log.path(), to.path(), 1_200, 1_024);
    both(&log, &[to.path().to_owned()], 0, "are proved");
    let freeze = freeze.to_str().unwrap();
    let (own, text) = crate::harness::ledger::keyward(&["audit", "verify", freeze, "--key", &new]);
    assert_eq!(own, 0, "{text}");
    assert_eq!(crate::harness::ledger::python(&["--key", &new], &[freeze.into()])[0].0, 0);
}
