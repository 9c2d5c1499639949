//! A witness never goes back, whatever comes at once.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::adapters::witness::files::SeenFiles;
use crate::codec::test_log::{TestLog, signer};
use crate::domain::time::{Boottime, Timestamp};

const ORIGIN: &str = "log.example/a";

#[derive(Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(1_790_000_000 + self.0.load(Ordering::SeqCst))
    }

    fn boottime(&self) -> Boottime {
        Boottime::from_boot(Duration::from_secs(self.0.load(Ordering::SeqCst).unsigned_abs()))
    }

    fn boot_id(&self) -> Arc<str> {
        Arc::from("boot")
    }

    fn sleep(&self, _: Duration) -> Doing<'_, ()> {
        Box::pin(core::future::ready(()))
    }
}

fn key() -> SignerKey {
    signer("w.example/k", Signs::Sightings, 7)
}

fn open(dir: &std::path::Path, log: &TestLog) -> FileCosigner {
    let logs = Logs::new([(ORIGIN.to_owned(), log.key.verifier().clone())]);
    FileCosigner::open(key(), logs, SeenFiles::open(dir).unwrap(), Arc::new(Ticking::default())).unwrap()
}

fn body(log: &TestLog, old: u64, new: u64) -> Vec<u8> {
    Request { old, proof: log.proof(old, new), note: log.note(new, &[]) }.to_string().into_bytes()
}

#[test]
fn a_cosignature_verifies_says_when_and_what_was_seen_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::new(ORIGIN, 20, 20, 0);
    let witness = open(dir.path(), &log);
    let line = witness.inner.add(&body(&log, 0, 5)).unwrap();
    let mut note = log.note(5, &[]);
    note.signatures.push(line.trim_end().parse().unwrap());
    let verified = key().verifier().verify(&note).unwrap();
    assert_eq!(verified.at, Some(Timestamp::from_unix(1_790_000_000)));
    drop(witness);
    let again = open(dir.path(), &log);
    assert_eq!(again.inner.add(&body(&log, 0, 9)), Err(Refusal::Stale { recorded: 5 }));
    assert!(again.inner.add(&body(&log, 5, 9)).is_ok() && again.inner.add(&body(&log, 9, 9)).is_ok());
    assert_eq!(again.inner.add(&body(&log, 5, 9)), Err(Refusal::Stale { recorded: 9 }));
}

#[test]
fn a_hundred_requests_at_once_never_roll_it_back_and_never_cosign_two_trees() {
    let dir = tempfile::tempdir().unwrap();
    let (log, fork) = (TestLog::new(ORIGIN, 120, 1, 0), TestLog::new(ORIGIN, 120, 1, 1));
    let witness = open(dir.path(), &log);
    witness.inner.add(&body(&log, 0, 1)).unwrap();
    let start = std::sync::Barrier::new(100);
    let cosigned: Vec<(usize, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100_u64)
            .map(|n| {
                let (witness, start, logs) = (&witness, &start, [&log, &fork]);
                scope.spawn(move || {
                    start.wait();
                    let (which, mut old, mut done) = (usize::from(n % 2 == 1), 1, Vec::new());
                    // Each wants to go a few steps further from where the witness says it is.
                    for step in 1..=40_u64 {
                        let new = (old + 1 + (n + step) % 3).min(120);
                        match witness.inner.add(&body(logs[which], old, new)) {
                            Ok(_) => {
                                done.push((which, new));
                                old = new;
                            }
                            Err(Refusal::Stale { recorded }) => old = recorded,
                            Err(Refusal::Forked { .. } | Refusal::Inconsistent { .. } | Refusal::Busy(_)) => break,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let side = cosigned[0].0;
    assert!(cosigned.iter().all(|(which, _)| *which == side), "two trees were cosigned");
    let most = cosigned.iter().map(|(_, size)| *size).max().unwrap();
    drop(witness);
    let again = open(dir.path(), &log);
    let seen = again.inner.add(&body(&log, 0, 120)).unwrap_err();
    assert_eq!(seen, Refusal::Stale { recorded: most });
}

#[test]
fn what_cannot_be_written_is_not_cosigned() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::new(ORIGIN, 20, 20, 0);
    let witness = open(dir.path(), &log);
    witness.inner.add(&body(&log, 0, 5)).unwrap();
    // A directory where the new file should be: root may write everywhere, but not over that.
    let own = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().is_some_and(|n| n.len() == 64));
    let blocked = own.unwrap().with_extension("new");
    std::fs::create_dir(&blocked).unwrap();
    assert!(matches!(witness.inner.add(&body(&log, 5, 9)), Err(Refusal::Unavailable(_))));
    std::fs::remove_dir(&blocked).unwrap();
    assert!(witness.inner.add(&body(&log, 5, 9)).is_ok(), "nothing was lost, so it goes on");
    assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o022, 0);
}

#[test]
fn a_log_that_grows_too_often_is_asked_to_come_back_and_repeats_cost_it_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let size = u64::from(BURST) + 2;
    let log = TestLog::new(ORIGIN, size, size, 0);
    let witness = open(dir.path(), &log);
    for n in 0..u64::from(BURST) {
        witness.inner.add(&body(&log, n, n + 1)).unwrap();
        assert!(witness.inner.add(&body(&log, n + 1, n + 1)).is_ok());
    }
    assert!(matches!(witness.inner.add(&body(&log, size - 2, size - 1)), Err(Refusal::Busy(_))));
    assert!(witness.inner.add(&body(&log, size - 2, size - 2)).is_ok());
}

#[test]
fn a_logs_key_cannot_cosign_and_a_damaged_memory_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let log = TestLog::new(ORIGIN, 20, 20, 0);
    let logs = || Logs::new([(ORIGIN.to_owned(), log.key.verifier().clone())]);
    let clock = || Arc::new(Ticking::default());
    let files = SeenFiles::open(dir.path()).unwrap();
    assert!(FileCosigner::open(signer("w", Signs::Notes, 7), logs(), files, clock()).is_err());
    let files = SeenFiles::open(dir.path()).unwrap();
    files.write(ORIGIN, "rubbish\n").unwrap();
    assert!(FileCosigner::open(key(), logs(), files, clock()).unwrap_err().contains("was cosigned last"));
}
