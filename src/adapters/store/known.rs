//! What the writer remembers of its own rows from one entry to the next: the numbers of words, and the newest entry about
//! each target. Nearly every entry has words that the one before it had.
//!
//! It is only true while nobody else writes: so it is forgotten whenever something is rolled back, and when another
//! connection wrote.

use std::collections::BTreeMap;

use crate::domain::key::Digest;

/// Words that are remembered: those of some dozens of actions and codes, and of hundreds of targets. At 150 bytes each this
/// is 150 KiB. When there are more, all are forgotten.
const MOST: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    words: BTreeMap<Box<str>, Word>,
    /// SQLite's number for the database as this connection alone changed it.
    version: Option<i64>,
}

#[derive(Debug)]
struct Word {
    id: i64,
    /// Of the newest entry about the target whose word this is, once one was written.
    newest: Option<Digest>,
}

impl Known {
    /// A word's number.
    pub(super) fn id(&self, word: &str) -> Option<i64> {
        self.words.get(word).map(|word| word.id)
    }

    /// The leaf of the newest entry about a target, if it was written since the last time that all was forgotten.
    pub(super) fn newest(&self, word: &str) -> Option<Digest> {
        self.words.get(word)?.newest
    }

    /// A word has this number.
    pub(super) fn note(&mut self, word: &str, id: i64) {
        if self.words.len() >= MOST {
            self.words.clear();
        }
        self.words.insert(Box::from(word), Word { id, newest: None });
    }

    /// The newest entry about a target has this leaf.
    pub(super) fn follow(&mut self, word: &str, leaf: Digest) {
        if let Some(word) = self.words.get_mut(word) {
            word.newest = Some(leaf);
        }
    }

    /// A transaction begins, and SQLite says that what this connection sees has this version: another one than before means
    /// that somebody else wrote.
    pub(super) fn begin(&mut self, version: i64) {
        if self.version.replace(version) != Some(version) {
            self.forget();
        }
    }

    /// All of it may be wrong from here on.
    pub(super) fn forget(&mut self) {
        self.words.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_a_new_word_has_no_newest_entry() {
        let mut known = Known::default();
        for n in 0..5_000 {
            known.note(&format!("code:KW{n}"), n);
            assert!(known.words.len() <= MOST);
        }
        assert_eq!((known.id("code:KW4999"), known.id("code:KW0")), (Some(4_999), None));
        let leaf = Digest::of(b"leaf");
        known.follow("code:KW4999", leaf);
        known.follow("code:KW0", leaf);
        assert_eq!((known.newest("code:KW4999"), known.newest("code:KW0")), (Some(leaf), None));
        known.note("code:KW4999", 4_999);
        assert_eq!(known.newest("code:KW4999"), None);
        known.forget();
        assert_eq!(known.id("code:KW4999"), None);
    }

    #[test]
    fn it_is_forgotten_when_somebody_else_wrote() {
        let mut known = Known::default();
        known.begin(1);
        known.note("phase:intent", 7);
        known.begin(1);
        assert_eq!(known.id("phase:intent"), Some(7));
        known.begin(2);
        assert_eq!(known.id("phase:intent"), None);
    }
}
