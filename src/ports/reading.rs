//! The audit log as it is read.

use std::collections::BTreeMap;

use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::private::Private;
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
    /// The texts behind these commitments; those that were forgotten are missing.
    fn private(&self, commitments: Vec<Digest>) -> Doing<'_, Result<BTreeMap<Digest, Private>, StoreError>>;
    /// Everybody who is known by a pseudonym ([`crate::domain::audit::Draft::person`]) and not forgotten.
    fn people(&self) -> Doing<'_, Result<Vec<Private>, StoreError>>;
    /// The newest checkpoint as a signed note (C2SP tlog-checkpoint); `None` if the store has none.
    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>>;
    /// The entry with this sequence number and its proof; `None` if there is none, or the store no longer has it.
    fn inclusion(&self, sequence: u64) -> Doing<'_, Result<Option<Inclusion>, StoreError>>;
    /// The same for an entry that is known to be there.
    fn proved(&self, id: EntryId) -> Doing<'_, Result<Inclusion, StoreError>> {
        Box::pin(async move {
            let missing = || StoreError::Unavailable(format!("the entry {id} is not there"));
            let entry = self.entry(id).await?.ok_or_else(missing)?;
            self.inclusion(entry.sequence).await?.ok_or_else(missing)
        })
    }
    /// That the log of `old_size` entries is the beginning of today's; `None` if today's is smaller, or the store no
    /// longer has what it takes.
    fn consistency(&self, old_size: u64) -> Doing<'_, Result<Option<Consistency>, StoreError>>;
    /// Intents without an outcome, the oldest first, at most `limit`.
    fn open_intents(&self, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>>;
    /// Counts over the whole log; takes some tens of milliseconds for a million entries.
    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>>;
}

/// An entry with what proves that it is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The entry.
    pub entry: StoredEntry,
    /// The hashes beside its way to the root, nearest to the leaf first (RFC 9162 section 2.1.3.1).
    pub proof: Vec<Digest>,
    /// The newest checkpoint, to whose size and root the proof leads.
    pub note: String,
}

/// What proves that an older tree is the beginning of today's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// RFC 9162 section 2.1.4.1.
    pub proof: Vec<Digest>,
    /// The newest checkpoint, to whose size and root the proof leads.
    pub note: String,
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
    /// The first of them that is here: those before it are frozen and were not searched.
    pub begins: u64,
}

/// The log as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many entries it has.
    pub size: u64,
    /// The first of them that is here: those before it are frozen.
    pub begins: u64,
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
