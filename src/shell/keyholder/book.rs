//! What the holder knows of what was: its keys, the entries that are spent, the sizes of the log that it believed. All of
//! it comes from its own log, and fits in a bounded space.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::holder_log::Record;
use crate::codec::tbs;
use crate::domain::key::Digest;
use crate::domain::tree::TreeHead;
use crate::ports::HeldKey;

use super::chain::Place;
use super::warrant::Allowed;

/// An intent must be among the last 2^20 entries of the log: it is asked for within seconds as a rule, and after a crash
/// within minutes, while 5,000 entries a second take 200 s to push it out. What is spent among them takes some 40 MiB.
const WINDOW: u64 = 1 << 20;
/// Requests overtake each other, so a checkpoint may be older than the newest by as many entries as are written meanwhile:
/// 5,000 a second for a little less than a second.
const OVERTAKEN: u64 = 4_096;
/// Keys at once: a CA has two for each of its generations.
pub(super) const MOST_KEYS: usize = 256;

/// Destroyed keys that are remembered: in a century of yearly generations.
const MOST_DESTROYED: usize = 4_096;

/// A key with where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) held: HeldKey,
    pub(super) made_here: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    keys: BTreeMap<Digest, Known>,
    spent: BTreeMap<u64, Place>,
    heads: BTreeMap<u64, Digest>,
    operations: u64,
    /// The last keys that were destroyed: a crash may have come before their files were.
    destroyed: BTreeSet<Digest>,
}

impl Book {
    /// Notes a record of the own log.
    pub(super) fn note(&mut self, record: &Record, place: Place) -> Result<(), String> {
        let bad = |what: &str| format!("the record {} of the own log has no {what}", record.number);
        let Some((sequence, _)) = record.entry else { return Ok(()) };
        let head = record.head.ok_or_else(|| bad("checkpoint"))?;
        let key = || record.fact("key").and_then(Digest::parse).ok_or_else(|| bad("key"));
        let operation = record.fact("operation").ok_or_else(|| bad("operation"))?;
        match operation {
            "generate" | "import" => {
                let algorithm = tbs::key_algorithm(&record.answer).ok_or_else(|| bad("public key"))?;
                let label = record.fact("label").unwrap_or_default().into();
                let held = HeldKey { spki: record.answer.as_slice().into(), algorithm, label, signatures: 0 };
                self.keys.insert(Digest::of(&held.spki), Known { held, made_here: operation == "generate" });
            }
            "sign" => {
                if let Some(known) = self.keys.get_mut(&key()?) {
                    known.held.signatures = known.held.signatures.saturating_add(1);
                }
            }
            "destroy" => {
                self.keys.remove(&key()?);
                if self.destroyed.len() < MOST_DESTROYED {
                    self.destroyed.insert(key()?);
                }
            }
            other => {
                return Err(format!("the record {} of the own log has the unknown operation {other:?}", record.number));
            }
        }
        self.operations = self.operations.saturating_add(1);
        self.spent.insert(sequence, place);
        self.heads.insert(head.size, head.root);
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        let newest = self.log_size();
        while let Some(first) = self.heads.first_entry().filter(|e| e.key().saturating_add(OVERTAKEN) < newest) {
            first.remove();
        }
        while let Some(first) = self.spent.first_entry().filter(|e| e.key().saturating_add(WINDOW) < newest) {
            first.remove();
        }
    }

    /// Whether the log that allows this can be the one that was seen before.
    pub(super) fn check(&self, allowed: &Allowed) -> Result<(), String> {
        let TreeHead { size, root } = allowed.head;
        let newest = self.log_size();
        if self.heads.get(&size).is_some_and(|known| *known != root) {
            return Err(format!(
                "the log had another root when it had {size} entries: it was forked or put back from a backup; a person \
                 has to find out which one is right"
            ));
        }
        if size.saturating_add(OVERTAKEN) < newest {
            return Err(format!(
                "the checkpoint has {size} entries, and one with {newest} was seen already: the log only grows; ask with a \
                 newer checkpoint, or find out who put an old log back"
            ));
        }
        if allowed.sequence.saturating_add(WINDOW) < newest.max(size) {
            return Err(format!(
                "the entry {} is not among the last {WINDOW} of the log: commit a new intent",
                allowed.sequence
            ));
        }
        Ok(())
    }

    /// Where the answer to this entry stands, if it was spent.
    pub(super) fn spent(&self, sequence: u64) -> Option<Place> {
        self.spent.get(&sequence).copied()
    }

    pub(super) fn key(&self, key: &Digest) -> Option<&Known> {
        self.keys.get(key)
    }

    /// Keys that were destroyed: a crash may have come between the record and the deed.
    pub(super) fn destroyed(&self) -> impl Iterator<Item = &Digest> {
        self.destroyed.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&Digest, &Known)> {
        self.keys.iter()
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    /// Size of the newest log that was believed.
    pub(super) fn log_size(&self) -> u64 {
        self.heads.last_key_value().map_or(0, |(size, _)| *size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn allowed(sequence: u64, size: u64, root: &[u8]) -> Allowed {
        Allowed { sequence, leaf: Digest::of(b""), head: TreeHead { size, root: Digest::of(root) } }
    }

    fn book(size: u64) -> Book {
        let mut book = Book::default();
        let facts = [("operation", "sign"), ("key", &Digest::of(b"k").to_string())];
        let record = Record {
            number: 1,
            at: Timestamp::from_unix(0),
            facts: facts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            entry: Some((size - 1, Digest::of(b""))),
            head: Some(TreeHead { size, root: Digest::of(b"root") }),
            answer: Vec::new(),
            previous: Digest::of(b""),
        };
        book.note(&record, Place { offset: 0, length: 1 }).unwrap();
        book
    }

    #[test]
    fn the_log_only_grows_and_never_has_two_roots_at_one_size() {
        let book = book(2_000_000);
        for (sequence, size, root, why) in [
            (1_999_999, 2_000_000, &b"root"[..], None),
            (2_000_000, 2_000_001, b"other", None),
            (1_999_990, 1_999_990, b"any", None),
            (1_999_999, 2_000_000, b"fork", Some("another root")),
            (1_990_000, 1_995_903, b"any", Some("the log only grows")),
            (900_000, 2_000_000, b"root", Some("not among the last")),
        ] {
            let found = book.check(&allowed(sequence, size, root)).err();
            assert_eq!(found.is_some(), why.is_some(), "{sequence} of {size}: {found:?}");
            assert!(found.unwrap_or_default().contains(why.unwrap_or_default()), "{sequence} of {size}");
        }
        assert_eq!((book.log_size(), book.operations(), book.spent(1_999_999).is_some()), (2_000_000, 1, true));
    }
}
