//! Answers of the audit log.

use std::collections::BTreeMap;

use crate::domain::time::Timestamp;

use super::StoredEntry;

/// A part of the answer to a [`crate::domain::question::Question`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries, in the order asked for. A page may be short, even empty, before the search is over.
    pub entries: Vec<StoredEntry>,
    /// Ask again with this as [`crate::domain::question::Question::beyond`] for the rest; `None` if there is none.
    pub next: Option<u64>,
    /// How many entries the log had when this was answered.
    pub size: u64,
}

/// The log as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many entries it has.
    pub size: u64,
    /// Times of the first and the last entry that are kept.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Bytes on the disk: log, state and evidence.
    pub bytes: u64,
    /// How many signed checkpoints are kept.
    pub checkpoints: u64,
    /// Intents without an outcome.
    pub open_intents: u64,
    /// How many entries have each word of the kinds `code` and `outcome`.
    pub counts: BTreeMap<String, u64>,
}
