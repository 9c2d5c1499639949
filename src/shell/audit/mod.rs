//! Reading the audit log: what is asked, how it is answered, and how an answer is told. The same for the API, the page,
//! and the command line, with a daemon and without one.
//!
//! Refuses to know whether an entry is genuine: `keyward audit verify` says so. What is plainly not what was hashed is
//! marked.

mod answer;
pub(in crate::shell) mod csv;
pub(in crate::shell) mod model;
mod proof;
mod question;
mod story;

pub(in crate::shell) use self::answer::{detail, entries, explain, row, statistics, value_text};
pub(in crate::shell) use self::proof::proof;
pub(in crate::shell) use self::question::{PARAMETERS, time};

use core::fmt;

use crate::domain::question::Question;
use crate::ports::{Log, StoreError};

/// The question is not understood.
pub(in crate::shell) const BAD_QUESTION: &str = "KW6201";
/// There is no such entry.
pub(in crate::shell) const NO_ENTRY: &str = "KW6202";
/// The entry was frozen.
pub(in crate::shell) const FROZEN: &str = "KW6203";
/// The log cannot be read.
pub(in crate::shell) const UNREADABLE: &str = "KW5010";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shell) struct Refusal {
    /// [`BAD_QUESTION`], [`NO_ENTRY`], [`FROZEN`] or [`UNREADABLE`].
    pub(in crate::shell) code: &'static str,
    pub(in crate::shell) text: String,
    pub(in crate::shell) hint: String,
}

impl Refusal {
    fn question(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: BAD_QUESTION, text: text.into(), hint: hint.into() }
    }

    fn absent(what: &str) -> Self {
        let text = format!("the audit log has no entry {}", shown(what));
        Self { code: NO_ENTRY, text, hint: "find it with keyward audit query".into() }
    }
}

impl Refusal {
    /// There is none by this name, or it is frozen.
    async fn gone(log: &dyn Log, name: &str) -> Self {
        let asked = Question { limit: 1, ..Question::default() };
        let begins = log.query(asked).await.map_or(0, |page| page.begins);
        match name.parse::<u64>() {
            Ok(place) if place < begins => Self {
                code: FROZEN,
                text: format!("entry {place} is frozen: the log begins with entry {begins} here"),
                hint: "look into the shard with its place between the two numbers of its name".into(),
            },
            _ if begins > 0 => {
                let Self { code, text, .. } = Self::absent(name);
                let hint =
                    format!("find it with keyward audit query, or in the shards: entries before {begins} are frozen");
                Self { code, text, hint }
            }
            _ => Self::absent(name),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let hint = "see the log of the daemon, and the disk of the state directory; keyward audit verify says more";
        Self { code: UNREADABLE, text: error.to_string(), hint: hint.into() }
    }
}

/// What was asked for, quoted and cut.
fn shown(text: &str) -> String {
    format!("{:?}", plain(text).chars().take(80).collect::<String>())
}

/// One line that does nothing to a terminal: control characters and those that turn the direction of writing are replaced.
pub(in crate::shell) fn plain(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_an_entry_moves_the_cursor_or_turns_the_writing() {
        assert_eq!(plain("a\u{1b}[2J\nb\u{202e}c\u{9b}d"), "a\u{fffd}[2J b\u{fffd}c\u{fffd}d");
    }
}
