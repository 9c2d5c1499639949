//! The door to the durable state and its audit log.

use super::{Doing, Inclusion, Log};
use crate::domain::audit::{Draft, LONGEST_EVIDENCE};
use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::state::{Change, State};
use crate::domain::time::Timestamp;

/// What is written at once: all of it or nothing. The entries carry the changes ([`crate::domain::changes`]): together
/// they give the state when the log is replayed.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Changes of the state, in order.
    pub changes: Vec<Change>,
    /// Audit entries, in order.
    pub entries: Vec<Draft>,
}

/// A batch is at most this many changes and entries together: at some 15,000 rows a second it is written well inside the
/// two seconds that a commit may take. Whoever has more commits in parts.
pub const LARGEST_BATCH: usize = 8_192;
/// The evidence of a batch is at most this many bytes: sixteen pieces of the longest kind.
pub const LARGEST_BATCH_EVIDENCE: usize = 16 * LONGEST_EVIDENCE;

impl Batch {
    /// The id of its first entry.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it has none.
    pub fn first_entry(&self) -> Result<EntryId, StoreError> {
        let none = || StoreError::Unavailable("the batch has no entry".to_owned());
        self.entries.first().map(|draft| draft.id).ok_or_else(none)
    }

    /// What every store refuses before it begins.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] says which limit is broken; nothing was written.
    pub fn check(&self) -> Result<(), StoreError> {
        let rows = self.changes.len().saturating_add(self.entries.len());
        if rows > LARGEST_BATCH {
            return refuse(format!("it has {rows} changes and entries; at most {LARGEST_BATCH} are taken at once"));
        }
        // The log has to give the state when it is replayed, so every change goes with an entry that carries it. The
        // clocks' marks are the one exception: they are written by the minute and say nothing that entries do not say.
        if self.entries.is_empty() && self.changes.iter().any(|change| !matches!(change, Change::Clock(_))) {
            return refuse("it changes the state, and has no entry that tells of it".to_owned());
        }
        let evidence = || self.entries.iter().flat_map(|draft| &draft.evidence);
        let bytes = evidence().fold(0, |sum: usize, e| sum.saturating_add(e.bytes.len()));
        if bytes > LARGEST_BATCH_EVIDENCE {
            let most = LARGEST_BATCH_EVIDENCE;
            return refuse(format!("its evidence has {bytes} bytes; at most {most} are taken at once"));
        }
        evidence().try_for_each(|e| e.check()).or_else(|error| refuse(error.to_string()))
    }
}

fn refuse(why: String) -> Result<(), StoreError> {
    Err(StoreError::Unavailable(format!("the batch was refused: {why}")))
}

/// Why a commit or a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written and nothing can be: disk full, read-only, I/O error, a hang of more than two seconds.
    /// Whoever wanted to add authority must not.
    #[error("state cannot be written: {0}")]
    Unavailable(String),
    /// What is there cannot be believed: damaged, or of a newer version.
    #[error("state cannot be read: {0}")]
    Damaged(String),
    /// Another daemon holds this state directory.
    #[error("state directory is in use: {0}")]
    InUse(String),
    /// The audit log contradicts its checkpoint, its lock or the clock: the guardian may only run sealed until a person
    /// has decided.
    #[error("{code}: the audit log is not to be trusted: {text}")]
    Distrusted {
        /// Which rule, documented in `docs/codes.md`.
        code: &'static str,
        /// What was seen, what was expected, and how to recover.
        text: String,
    },
    /// The medium failed under a write or a flush: what of it is there is unknown, and a second try might be told a lie.
    /// Whoever hears this closes the gates and ends the process.
    #[error("the medium of the state failed: {0}")]
    Lost(String),
}

/// An audit entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the log, from 0.
    pub sequence: u64,
    /// SHA-256(0x00 ‖ bytes).
    pub leaf: Digest,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
}

/// Durable state with its audit log.
///
/// `commit` is atomic and durable on return (it survives power loss if the disk honours flush). Concurrent commits may
/// share one flush. It never retries. Entries get consecutive sequence numbers in the order of the commits. A batch that
/// breaks a rule ([`Batch::check`], an entry id that is already there) is refused as a whole and harms no other. After an
/// error of the medium, or when a commit's fate is unknown, every later commit is refused until a restart. A commit whose
/// future is dropped may or may not happen.
pub trait Store: Log {
    /// Everything, at start.
    fn load(&self) -> Doing<'_, Result<State, StoreError>>;
    /// One transaction.
    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>>;
    /// The same; gives the batch's first entry with what proves that it is in the log, or `None` where that has to be read:
    /// [`Log::proved`].
    fn commit_proved(&self, batch: Batch) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
        Box::pin(async move { self.commit(batch).await.map(|()| None) })
    }
    /// The newest entries about a target (`credential/portal`, see [`crate::domain::audit::Target::key`]), or of
    /// everything if `None`; newest first, at most `limit`.
    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>>;
    /// Reads a part of the log again, besides its end from `from` on, and compares it with what was written; gives where
    /// the next look begins. [`StoreError::Distrusted`] and [`StoreError::Damaged`] say that it is broken.
    fn inspect(&self, from: u64) -> Doing<'_, Result<u64, StoreError>>;
    /// Remembers outside the log that it was found broken, and when; or, once a person has dealt with it, forgets that. A
    /// start that believes a log that was doubted sets [`crate::domain::state::LatchOn::Log`].
    fn doubt(&self, found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>>;
}
