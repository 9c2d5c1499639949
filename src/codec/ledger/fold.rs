//! Whether two large tables hold the same rows, in memory that does not grow with the rows.
//!
//! Each row is hashed with a secret that is drawn for the one comparison, and the hashes are added up: rows that should be
//! there on one side, rows that are there on the other. Sums that agree stand for the same rows, in whatever order they
//! came; who does not know the secret cannot choose rows that make up for each other. Sums are kept for each thousand
//! entries, so that a difference is found again by looking at one thousand only.

use core::hash::Hasher as _;
use std::hash::DefaultHasher;

/// A secret for one comparison.
pub type Secret = [u8; 16];

/// Entries to a sum: 2^10. A million entries have a thousand sums of 16 bytes.
const SHIFT: u32 = 10;
/// Sums at most: those of a thousand million entries, 16 MiB. Rows beyond share the last.
const MOST_SUMS: usize = 1 << 20;

/// Sums over rows that are expected minus sums over rows that are there.
#[derive(Clone, Debug)]
pub struct Fold {
    low: DefaultHasher,
    high: DefaultHasher,
    shift: u32,
    sums: Vec<u128>,
}

/// A word's hash: made once for all its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordHash(u128);

impl Fold {
    /// Nothing yet.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let keyed = |which: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write(secret);
            hasher.write_u8(which);
            hasher
        };
        Self { low: keyed(0), high: keyed(1), shift: SHIFT, sums: Vec::new() }
    }

    /// With a sum for each entry, to find which one differs.
    #[must_use]
    pub fn fine(secret: &Secret) -> Self {
        Self { shift: 0, ..Self::new(secret) }
    }

    /// The hash of a word.
    #[must_use]
    pub fn word(&self, text: &str) -> WordHash {
        self.hashed(b'w', text.as_bytes())
    }

    /// The hash of an id, by which an entry is found too.
    #[must_use]
    pub fn id(&self, id: &[u8]) -> WordHash {
        self.hashed(b'i', id)
    }

    fn hashed(&self, kind: u8, bytes: &[u8]) -> WordHash {
        let hash = |keyed: &DefaultHasher| {
            let mut hasher = keyed.clone();
            hasher.write_u8(kind);
            hasher.write(bytes);
            u128::from(hasher.finish())
        };
        WordHash((hash(&self.high) << 64) | hash(&self.low))
    }

    /// A row that must be there.
    pub fn expect(&mut self, word: WordHash, sequence: u64) {
        let hash = self.row(word, sequence);
        self.change(sequence, |sum| sum.wrapping_add(hash));
    }

    /// A row that is there.
    pub fn found(&mut self, word: WordHash, sequence: u64) {
        let hash = self.row(word, sequence);
        self.change(sequence, |sum| sum.wrapping_sub(hash));
    }

    /// The first entries for which the rows differ.
    #[must_use]
    pub fn difference(&self) -> Option<core::ops::Range<u64>> {
        let at = u64::try_from(self.sums.iter().position(|sum| *sum != 0)?).ok()?;
        let first = at << self.shift;
        Some(first..first.saturating_add(1 << self.shift))
    }

    fn row(&self, word: WordHash, sequence: u64) -> u128 {
        let hash = |keyed: &DefaultHasher| {
            let mut hasher = keyed.clone();
            hasher.write_u128(word.0);
            hasher.write_u64(sequence);
            u128::from(hasher.finish())
        };
        (hash(&self.high) << 64) | hash(&self.low)
    }

    fn change(&mut self, sequence: u64, change: impl FnOnce(u128) -> u128) {
        let at = usize::try_from(sequence >> self.shift).unwrap_or(usize::MAX).min(MOST_SUMS.saturating_sub(1));
        if self.sums.len() <= at {
            self.sums.resize(at.saturating_add(1), 0);
        }
        if let Some(sum) = self.sums.get_mut(at) {
            *sum = change(*sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_in_another_order_agree_and_any_other_rows_do_not() {
        let rows = [("a", 1), ("b", 1), ("a", 2), ("c", 5_000)];
        let fold = |found: &[(&str, u64)]| {
            let mut fold = Fold::new(&[7; 16]);
            for (word, sequence) in rows {
                let word = fold.word(word);
                fold.expect(word, sequence);
            }
            for (word, sequence) in found {
                let word = fold.word(word);
                fold.found(word, *sequence);
            }
            fold.difference()
        };
        assert_eq!(fold(&[("c", 5_000), ("a", 2), ("b", 1), ("a", 1)]), None);
        assert_eq!(fold(&[("c", 5_000), ("a", 2), ("b", 1)]), Some(0..1_024));
        assert_eq!(fold(&[("c", 4_999), ("a", 2), ("b", 1), ("a", 1)]), Some(4_096..5_120));
        assert_eq!(fold(&[("a", 2), ("b", 1), ("a", 1), ("c", 5_000), ("c", 5_000)]), Some(4_096..5_120));
        assert_eq!(fold(&[("c", 5_000), ("b", 2), ("a", 1), ("a", 1)]), Some(0..1_024));
    }

    #[test]
    fn rows_far_beyond_the_log_cost_no_memory_and_are_seen() {
        let mut fold = Fold::new(&[7; 16]);
        let word = fold.word("a");
        fold.found(word, u64::MAX);
        assert!(fold.sums.len() <= MOST_SUMS && fold.difference().is_some());
    }
}
