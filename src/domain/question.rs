//! A question to the audit log: which entries, in which order, from where on.
//!
//! Refuses to know how an index finds them: [`Question::fits`] says for one entry whether it is meant, and every store
//! answers as if it had asked that of each.

use crate::domain::time::Timestamp;

/// A page has at most this many entries.
pub const LARGEST_PAGE: usize = 1_000;
/// And at most about this many bytes of entries, so that a page of the longest ones is still a page: 8 MiB are some 9,000
/// usual entries.
pub const LARGEST_PAGE_BYTES: usize = 8 * 1_024 * 1_024;
/// At most so many conditions must hold at once: twice the kinds of words that there are.
pub const MOST_CONDITIONS: usize = 32;
/// A condition has at most so many alternatives: more than there are codes.
pub const MOST_ALTERNATIVES: usize = 512;

/// What an entry must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Exactly this word ([`crate::domain::words`]).
    Word(String),
    /// A word that begins like this: for actions and codes, of which there are few.
    Prefix(String),
}

impl Wanted {
    /// Whether a word is meant.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(wanted) => wanted == word,
            Self::Prefix(wanted) => word.starts_with(wanted.as_str()),
        }
    }
}

/// The order of the answer: that of the log, not of the wall clock, which may have stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the end of the log.
    #[default]
    NewestFirst,
    /// From its beginning.
    OldestFirst,
}

/// Which entries, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Not before this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Each condition must hold; one holds if the entry has any of its alternatives.
    pub all_of: Vec<Vec<Wanted>>,
    /// Only what comes after this place in the order asked for.
    pub beyond: Option<u64>,
    /// In which order.
    pub order: Order,
    /// At most so many; at most [`LARGEST_PAGE`] are given.
    pub limit: usize,
}

impl Question {
    /// Adds a condition.
    #[must_use]
    pub fn and(mut self, alternatives: Vec<Wanted>) -> Self {
        self.all_of.push(alternatives);
        self
    }

    /// Whether an entry of this time with these words is meant.
    #[must_use]
    pub fn fits(&self, at: Timestamp, words: &[String]) -> bool {
        self.is_in_time(at)
            && self.all_of.iter().all(|any_of| any_of.iter().any(|wanted| words.iter().any(|word| wanted.is(word))))
    }

    /// Whether the time is meant.
    #[must_use]
    pub fn is_in_time(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Whether a place lies where the answer begins or after.
    #[must_use]
    pub fn is_beyond(&self, sequence: u64) -> bool {
        self.beyond.is_none_or(|beyond| match self.order {
            Order::NewestFirst => sequence < beyond,
            Order::OldestFirst => sequence > beyond,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold_and_one_alternative_is_enough() {
        let words = ["code:KW2302".to_owned(), "path:approve".to_owned()];
        let word = |text: &str| Wanted::Word(text.to_owned());
        let at = Timestamp::from_unix(100);
        let ask = || Question { limit: 1, ..Question::default() };
        assert!(ask().fits(at, &words));
        assert!(ask().and(vec![word("path:x"), word("path:approve")]).fits(at, &words));
        assert!(ask().and(vec![Wanted::Prefix("code:KW23".into())]).and(vec![word("path:approve")]).fits(at, &words));
        assert!(!ask().and(vec![word("path:approve")]).and(vec![word("code:KW2301")]).fits(at, &words));
        assert!(!ask().and(vec![word("code:KW23")]).fits(at, &words), "a word is not a prefix");
        assert!(!ask().and(Vec::new()).fits(at, &words), "of no alternatives none holds");
    }

    #[test]
    fn a_span_of_time_begins_with_its_start_and_ends_before_its_end() {
        let [a, b, c] = [1, 2, 3].map(Timestamp::from_unix);
        let span = Question { from: Some(b), until: Some(c), ..Question::default() };
        assert_eq!([a, b, c].map(|at| span.fits(at, &[])), [false, true, false]);
    }
}
