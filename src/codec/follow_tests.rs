//! A follower is never led back, aside, or past what it could check.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::note::{SignerKey, Signs};
use crate::codec::test_log::{TestLog, signer};
use crate::codec::tlog_policy::Unsaid;

const ORIGIN: &str = "log.example/a";

/// In memory; refuses to write while `full`.
#[derive(Clone, Default)]
struct Memory {
    notes: BTreeMap<String, String>,
    full: bool,
}

impl Keep for Memory {
    fn load(&self, origin: &str) -> Result<Option<String>, String> {
        Ok(self.notes.get(origin).cloned())
    }

    fn store(&mut self, origin: &str, note: &str) -> Result<(), String> {
        if self.full {
            return Err("no space".into());
        }
        self.notes.insert(origin.to_owned(), note.to_owned());
        Ok(())
    }
}

fn witness() -> SignerKey {
    signer("w.example", Signs::Sightings, 3)
}

fn policy(log: &TestLog) -> Policy {
    let text = format!("log {}\nwitness w {}\nquorum w\n", log.key.verifier(), witness().verifier());
    Policy::parse(text.as_bytes(), Unsaid::Refused).unwrap()
}

fn follower(log: &TestLog) -> Follower<Memory> {
    Follower::new(policy(log), Memory::default())
}

fn seen(log: &TestLog, size: u64) -> Note {
    log.note(size, &[&witness()])
}

#[test]
fn the_first_is_taken_the_next_needs_a_proof_and_nothing_goes_back() {
    let log = TestLog::new(ORIGIN, 30, 30, 0);
    let mut own = follower(&log);
    let never = |_, _| panic!("no proof is needed");
    assert_eq!(own.advance(&seen(&log, 10), never).unwrap().step, Step::First);
    assert_eq!(own.advance(&seen(&log, 10), never).unwrap().step, Step::Same);
    assert_eq!(own.needs(&seen(&log, 25)), Ok(Some((10, 25))));
    let taken = own.advance(&seen(&log, 25), |old, new| Ok(log.proof(old, new))).unwrap();
    assert_eq!((taken.step, taken.satisfied.cosigned.len()), (Step::From(10), 1));
    let back = own.advance(&seen(&log, 24), never).unwrap_err();
    assert_eq!(back, Refused::RolledBack { origin: ORIGIN.into(), kept: 25, shown: 24 });
    assert_eq!(own.last(ORIGIN).unwrap().unwrap().head.size, 25);
}

#[test]
fn forks_missing_proofs_and_unwitnessed_checkpoints_change_nothing() {
    let (log, fork) = (TestLog::new(ORIGIN, 30, 9, 0), TestLog::new(ORIGIN, 30, 9, 1));
    let mut own = follower(&log);
    own.accept(&seen(&log, 10), &[]).unwrap();
    let before = own.keep.notes.clone();
    assert!(matches!(own.accept(&seen(&fork, 10), &[]), Err(Refused::Forked { size: 10, .. })));
    assert!(matches!(own.accept(&seen(&fork, 20), &fork.proof(10, 20)), Err(Refused::Inconsistent { .. })));
    assert!(matches!(own.accept(&seen(&log, 20), &[]), Err(Refused::Inconsistent { .. })));
    assert!(matches!(own.accept(&log.note(20, &[]), &log.proof(10, 20)), Err(Refused::Policy(_))));
    let failed = own.advance(&seen(&log, 20), |_, _| Err("the server is away".into())).unwrap_err();
    assert!(failed.to_string().contains("from size 10 to 20 cannot be had: the server is away"));
    own.keep.full = true;
    assert!(matches!(own.accept(&seen(&log, 20), &log.proof(10, 20)), Err(Refused::Keeping(..))));
    assert_eq!(own.keep.notes, before);
    own.keep.full = false;
    own.keep.notes.insert(ORIGIN.into(), "rubbish".into());
    assert!(matches!(own.accept(&seen(&log, 20), &log.proof(10, 20)), Err(Refused::Keeping(..))));
    own.keep.notes.insert(ORIGIN.into(), TestLog::new("other", 1, 1, 0).note(1, &[]).to_string());
    assert!(matches!(own.accept(&seen(&log, 20), &log.proof(10, 20)), Err(Refused::Keeping(..))));
}

#[test]
fn origins_are_followed_apart() {
    let (a, b) = (TestLog::new("a", 9, 9, 0), TestLog::new("b", 9, 9, 0));
    let text = format!("log {}\nlog {}\nquorum none\n", a.key.verifier(), signer("b", Signs::Notes, 2).verifier());
    let mut own = Follower::new(Policy::parse(text.as_bytes(), Unsaid::Refused).unwrap(), Memory::default());
    let b = TestLog { key: signer("b", Signs::Notes, 2), ..b };
    own.accept(&a.note(9, &[]), &[]).unwrap();
    assert_eq!(own.accept(&b.note(2, &[]), &[]).unwrap().step, Step::First);
    assert_eq!(own.last("a").unwrap().unwrap().head.size, 9);
}

#[test]
fn from_an_empty_tree_no_proof_is_needed() {
    let log = TestLog::new(ORIGIN, 9, 9, 0);
    let mut own = follower(&log);
    own.accept(&seen(&log, 0), &[]).unwrap();
    assert_eq!(own.needs(&seen(&log, 9)), Ok(None));
    assert_eq!(own.accept(&seen(&log, 9), &[]).unwrap().step, Step::From(0));
}

proptest! {
    /// Whatever is shown, in whatever order, with whichever proof: what is kept only ever grows, and is always one log.
    #[test]
    fn whatever_is_shown_what_is_kept_is_one_growing_log(
        shown in prop::collection::vec((0_u8..2, 0_u64..=30, any::<bool>(), any::<bool>()), 1..40),
        fork in 0_u64..30,
    ) {
        let logs = [TestLog::new(ORIGIN, 30, fork, 0), TestLog::new(ORIGIN, 30, fork, 1)];
        let mut own = follower(&logs[0]);
        let mut last: Option<Checkpoint> = None;
        // The side that was taken first beyond the fork.
        let mut side = None;
        for (which, size, witnessed, proven) in shown {
            let log = &logs[usize::from(which)];
            let note = if witnessed { seen(log, size) } else { log.note(size, &[]) };
            let got = own.advance(&note, |old, new| {
                if proven { Ok(log.proof(old, new)) } else { Err("no".into()) }
            });
            let now = own.last(ORIGIN).unwrap();
            match got {
                Ok(followed) => {
                    prop_assert!(witnessed);
                    let shown = followed.satisfied.checkpoint;
                    prop_assert!(last.as_ref().is_none_or(|l| shown.head.size >= l.head.size));
                    prop_assert_eq!(now.as_ref(), Some(&shown));
                    if size > fork {
                        prop_assert_eq!(*side.get_or_insert(which), which);
                    }
                }
                Err(_) => {
                    prop_assert_eq!(&now, &last);
                    let honest = last.as_ref().is_none_or(|l| {
                        l.head.size <= size && (side.is_none_or(|s| s == which) || size <= fork)
                    });
                    prop_assert!(!(honest && witnessed && proven), "an honest step was refused");
                }
            }
            last = now;
        }
    }
}
