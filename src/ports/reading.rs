//! The audit log as it is read.

use std::collections::BTreeMap;

use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::question::Question;
use crate::domain::time::Timestamp;

use super::{Doing, StoreError, StoredEntry};

/// Reading the audit log: of a daemon's store, or of a state directory that no daemon holds. Never writes, and needs no
/// write access.
pub trait Log: Send + Sync {
    /// A page of the answer: as of one moment, and never after a long search without giving back how far it came.
    fn query(&self, question: Question) -> Doing<'_, Result<Page, StoreError>>;
    /// One entry by its id.
    fn entry(&self, id: EntryId) -> Doing<'_, Result<Option<StoredEntry>, StoreError>>;
    /// Evidence bytes by their hash.
    fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>>;
    /// Counts over the whole log; takes some tens of milliseconds for a million entries.
    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>>;
}

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
