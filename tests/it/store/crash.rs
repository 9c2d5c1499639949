//! Killed, cut off, out of luck with the disk: what was acknowledged is there, and nothing is acknowledged that is not.
//!
//! Each test here plays both processes: the second runs the same test with a variable set, commits until it is stopped,
//! and says what was acknowledged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use futures_util::future::join_all;
use keyward::ports::{Store, StoreError};
use tempfile::TempDir;

use super::samples::{one, said, sound_log};
use crate::harness::store::{Second, block_on, open, say, second_process_dir};

/// Commits `one(n)` for n from where the log ends, `many` at a time, and says what became of each.
fn commit_and_say(dir: &Path, many: usize, last: u64) {
    block_on(async {
        let store = open(dir).unwrap();
        let first = store.entries(None, 1).await.unwrap().first().map_or(0, |e| e.sequence + 1) + 1;
        say("open");
        for start in (first..first + last).step_by(many) {
            let group = start..start + many as u64;
            let results = join_all(group.clone().map(|n| store.commit(one(n)))).await;
            for (n, result) in group.zip(results) {
                match result {
                    Ok(()) => say(&format!("kept {n}")),
                    Err(e) => say(&format!("refused {n} {e}")),
                }
            }
        }
        // No tidying up: the first process wants to see what a crash leaves.
        std::process::exit(0);
    });
}

/// Opens what the second process left, and returns which commits are there; each is there as a whole or not at all.
fn found(dir: &Path) -> BTreeSet<u64> {
    block_on(async {
        let store = open(dir).unwrap();
        let log = sound_log(&store).await;
        // Besides, each start that found a tail which was not acknowledged says so.
        let targets: Vec<String> = log.iter().map(|e| said(e).target).filter(|t| t != "daemon/keyward").collect();
        let in_log: BTreeSet<u64> =
            targets.iter().filter_map(|t| t.strip_prefix("credential/c").and_then(|n| n.parse().ok())).collect();
        let state = store.load().await.unwrap();
        let in_state = state.credentials.keys().map(|id| id.as_str()[1..].parse().unwrap()).collect();
        assert_eq!(in_log, in_state, "the state and its log say different things");
        assert_eq!(targets.len(), 2 * in_log.len());
        in_log
    })
}

#[test]
fn a_killed_process_loses_no_acknowledged_entry() {
    if let Some(dir) = second_process_dir() {
        return commit_and_say(&dir, 8, u64::MAX / 2);
    }
    let dir = TempDir::new().unwrap();
    let mut kept = BTreeSet::new();
    for acknowledged in [1, 3, 40, 90, 151, 333] {
        let name = "store::crash::a_killed_process_loses_no_acknowledged_entry";
        let mut second = Second::start(name, dir.path(), &[]);
        assert_eq!(second.next().as_deref(), Some("open"));
        // While it lives the directory is its own.
        match open(dir.path()) {
            Err(StoreError::InUse(text)) => assert!(text.contains(&format!("process {}", second.id())), "{text}"),
            other => panic!("opened twice: {other:?}"),
        }
        let mut lines: Vec<String> = (0..acknowledged).map_while(|_| second.next()).collect();
        second.kill();
        // What it still had said before it died.
        lines.extend(std::iter::from_fn(|| second.next()));
        assert!(lines.len() >= acknowledged);
        kept.extend(lines.iter().map(|l| l.strip_prefix("kept ").expect(l).parse::<u64>().unwrap()));
        let found = found(dir.path());
        assert!(kept.is_subset(&found), "lost: {:?}", kept.difference(&found));
    }
}

#[test]
fn a_copy_of_the_files_taken_at_any_time_holds_every_acknowledged_entry() {
    block_on(async {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path()).unwrap();
        let mut moved = false;
        // More than one checkpoint interval, so that both a full and a fresh write-ahead log are copied.
        for n in 0..150 {
            store.commit(one(n)).await.unwrap();
            if n % 13 == 0 {
                let copy = TempDir::new().unwrap();
                // The lock first: what is copied later can only be newer. Database last: a checkpoint in between can
                // only make it newer than the write-ahead log.
                for file in ["log.key", "audit.lock", "keyward.db-wal", "keyward.db"] {
                    fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
                }
                moved |= fs::metadata(copy.path().join("keyward.db")).unwrap().len() > 8_192;
                let copied = open(copy.path()).unwrap();
                assert_eq!(sound_log(&copied).await.len() as u64, 2 * (n + 1));
                assert_eq!(copied.load().await.unwrap(), store.load().await.unwrap());
            }
        }
        assert!(moved, "the write-ahead log was never moved into the database");
    });
}

/// What the second process said under `strace`, with one system call made to fail or to take long.
struct Told {
    kept: BTreeSet<u64>,
    /// In order: which commit, and whether it was kept.
    verdicts: Vec<(u64, bool)>,
    refusals: Vec<String>,
}

/// `file` is the one in the state directory to which the calls must go, if that matters.
fn under_strace(test: &str, dir: &Path, inject: &str, file: Option<&str>) -> Told {
    let path = file.map(|file| dir.join(file).display().to_string());
    let mut wrapper = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject];
    wrapper.extend(path.iter().flat_map(|path| ["-P", path]));
    let mut second = Second::start(test, dir, &wrapper);
    let mut told = Told { kept: BTreeSet::new(), verdicts: Vec::new(), refusals: Vec::new() };
    while let Some(line) = second.next() {
        let mut words = line.splitn(3, ' ');
        let (word, n) = (words.next().unwrap(), words.next().and_then(|n| n.parse::<u64>().ok()));
        match (word, n) {
            ("kept", Some(n)) => {
                told.kept.insert(n);
                told.verdicts.push((n, true));
            }
            ("refused", Some(n)) => {
                told.verdicts.push((n, false));
                told.refusals.push(words.next().unwrap_or_default().to_owned());
            }
            _ => assert_eq!(line, "open"),
        }
    }
    told
}

/// strace counts the calls of each thread by itself. An open takes fewer flushes on the main thread, so this is one of the
/// writer's.
const A_COMMIT: u64 = 25;

#[test]
fn after_a_failed_flush_nothing_is_acknowledged_until_a_restart() {
    if let Some(dir) = second_process_dir() {
        return commit_and_say(&dir, 1, 120);
    }
    // One flush fails, all later ones would succeed. The flushes of a checkpoint are among those hit: it comes after 32
    // commits, and makes the 33rd and 34th flush. Those of the lock are a count of their own.
    let of_the_database = [A_COMMIT, 50].into_iter().chain(30..40).map(|nth| (nth, None));
    for (nth, file) in of_the_database.chain([(A_COMMIT, Some("audit.lock")), (34, Some("audit.lock"))]) {
        let dir = TempDir::new().unwrap();
        let name = "store::crash::after_a_failed_flush_nothing_is_acknowledged_until_a_restart";
        let inject = format!("inject=fsync,fdatasync:error=EIO:when={nth}");
        let told = under_strace(name, dir.path(), &inject, file);
        let first_refused = told
            .verdicts
            .iter()
            .position(|(_, kept)| !kept)
            .unwrap_or_else(|| panic!("flush {nth} did not fail: {:?}", told.verdicts.len()));
        assert!(first_refused > 0, "the flush failed before a commit: {:?}", told.refusals);
        assert!(told.verdicts[first_refused..].iter().all(|(_, kept)| !kept), "flush {nth}: {:?}", told.verdicts);
        // A failed medium is told apart from a hang: whoever hears it ends the process.
        let lost =
            |r: &String| r.starts_with("the medium of the state failed") && r.contains("until keyward is restarted");
        assert!(told.refusals.iter().all(lost), "{:?}", told.refusals);
        let found = found(dir.path());
        assert!(told.kept.is_subset(&found), "flush {nth} lost {:?}", told.kept.difference(&found));
        // At most the one whose fate was unknown is there besides.
        assert!(found.len() <= told.kept.len() + 1, "flush {nth}");
    }
}

#[test]
fn a_failed_write_is_refused_and_loses_nothing() {
    if let Some(dir) = second_process_dir() {
        return commit_and_say(&dir, 1, 100);
    }
    for (file, nth) in [("keyward.db-wal", 150), ("keyward.db-wal", 400), ("keyward.db-wal", 700), ("audit.lock", 50)] {
        let dir = TempDir::new().unwrap();
        let name = "store::crash::a_failed_write_is_refused_and_loses_nothing";
        let told = under_strace(name, dir.path(), &format!("inject=pwrite64:error=EIO:when={nth}"), Some(file));
        assert!(told.refusals.iter().all(|r| r.contains("until keyward is restarted")), "{:?}", told.refusals);
        assert!(!told.refusals.is_empty() && !told.kept.is_empty(), "write {nth}: {:?}", told.verdicts);
        let found = found(dir.path());
        if file == "audit.lock" {
            // It was in the database already, and nobody was told so.
            assert!(told.kept.is_subset(&found) && found.len() == told.kept.len() + 1, "{found:?}");
        } else {
            assert_eq!(found, told.kept);
        }
    }
}

#[test]
fn a_full_disk_refuses_one_commit_and_takes_the_next() {
    if let Some(dir) = second_process_dir() {
        return commit_and_say(&dir, 1, 60);
    }
    for nth in [150, 220, 301] {
        let dir = TempDir::new().unwrap();
        let name = "store::crash::a_full_disk_refuses_one_commit_and_takes_the_next";
        let told =
            under_strace(name, dir.path(), &format!("inject=pwrite64:error=ENOSPC:when={nth}"), Some("keyward.db-wal"));
        assert_eq!(told.refusals.len(), 1, "{:?}", told.refusals);
        assert!(told.refusals[0].contains("full"), "{:?}", told.refusals);
        assert_eq!(told.kept.len(), 59);
        assert_eq!(found(dir.path()), told.kept);
    }
}

#[test]
fn a_flush_that_hangs_is_a_failure_and_nothing_follows_it() {
    if let Some(dir) = second_process_dir() {
        return commit_and_say(&dir, 1, 40);
    }
    // Of the database, and of the lock.
    for file in ["keyward.db-wal", "audit.lock"] {
        let dir = TempDir::new().unwrap();
        let name = "store::crash::a_flush_that_hangs_is_a_failure_and_nothing_follows_it";
        let inject = format!("inject=fsync,fdatasync:delay_enter=3500000:when={A_COMMIT}");
        let told = under_strace(name, dir.path(), &inject, Some(file));
        let first_refused = told.verdicts.iter().position(|(_, kept)| !kept).expect("the flush did not hang");
        assert!(
            first_refused > 0 && told.verdicts[first_refused..].iter().all(|(_, kept)| !kept),
            "{:?}",
            told.verdicts
        );
        assert!(told.refusals.iter().all(|r| r.contains("was not on the disk after 2 s")), "{:?}", told.refusals);
        let found = found(dir.path());
        assert!(told.kept.is_subset(&found) && found.len() <= told.kept.len() + 1);
    }
}

#[test]
fn commits_that_come_together_share_their_flushes() {
    if let Some(dir) = second_process_dir() {
        return commit_and_say(&dir, 64, 64 * 4);
    }
    let dir = TempDir::new().unwrap();
    let calls = dir.path().join("calls");
    let name = "store::crash::commits_that_come_together_share_their_flushes";
    let wrapper = ["strace", "-f", "-qq", "-o", calls.to_str().unwrap(), "-e", "trace=fsync,fdatasync"];
    let mut second = Second::start(name, dir.path(), &wrapper);
    let kept = std::iter::from_fn(|| second.next()).filter(|l| l.starts_with("kept")).count();
    let flushes = fs::read_to_string(&calls).unwrap().lines().filter(|l| l.contains("sync(")).count();
    assert_eq!(kept, 256);
    // Four rounds of 64: in each the first may go alone and some may come late; the opening has some of its own.
    assert!((4..64).contains(&flushes), "{flushes} flushes for 256 commits");
}
