//! The end of the log as it is on the disk: what a group commit needs to append, to sign and to acknowledge.

use rusqlite::Connection;

use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::Note;
use crate::domain::time::Timestamp;
use crate::domain::tree::Frontier;

use super::checkpoint::{self, KEPT_EVERY, Row};
use super::key::LogKeys;
use super::lockfile::{LockFile, NotAdvanced};

/// Tree, key and lock.
#[derive(Debug)]
pub(super) struct Sealer {
    tree: Frontier,
    keys: LogKeys,
    lock: LockFile,
    /// When the newest checkpoint that stays was made.
    kept: Option<Timestamp>,
}

/// A checkpoint that is written and not yet committed.
#[derive(Debug)]
pub(super) struct Written {
    row: Row,
    kept: bool,
}

impl Sealer {
    /// Of its parts, which agree.
    pub(super) fn new(tree: Frontier, keys: LogKeys, lock: LockFile, kept: Option<Timestamp>) -> Self {
        Self { tree, keys, lock, kept }
    }

    /// The tree of the last commit.
    pub(super) fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The keys that sign.
    pub(super) fn keys(&mut self) -> &mut LogKeys {
        &mut self.keys
    }

    /// The lock's file.
    pub(super) fn lock(&self) -> &LockFile {
        &self.lock
    }

    /// Signs a tree whose newest entry is of `at`, and writes the checkpoint.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn sign(
        &self,
        connection: &Connection,
        tree: &Frontier,
        at: Timestamp,
    ) -> Result<Written, rusqlite::Error> {
        write_signed(connection, &self.keys, self.kept, tree, at)
    }

    /// The transaction with this tree and checkpoint is on the disk.
    pub(super) fn committed(&mut self, tree: Frontier, written: &Written) {
        self.tree = tree;
        if written.kept {
            self.kept = Some(written.row.at);
        }
    }

    /// Advances the lock: from here on the commit may be acknowledged.
    ///
    /// # Errors
    /// [`NotAdvanced`].
    pub(super) fn acknowledge(&mut self, written: &Written) -> Result<(), NotAdvanced> {
        self.lock.advance(&written.row.note)
    }
}

/// Signs a tree and writes the checkpoint; one in [`KEPT_EVERY`] stays.
///
/// # Errors
/// SQLite's.
pub(super) fn write_signed(
    connection: &Connection,
    keys: &LogKeys,
    last_kept: Option<Timestamp>,
    tree: &Frontier,
    at: Timestamp,
) -> Result<Written, rusqlite::Error> {
    let text = Checkpoint { origin: keys.origin().to_owned(), head: tree.head() }.to_string();
    let note = Note { signatures: keys.sign(&text, at), text }.to_string();
    // That of an empty log says nothing for long.
    let kept = tree.size() > 0 && last_kept.is_none_or(|last| at.since(last) >= KEPT_EVERY);
    let row = Row { size: tree.size(), at, note };
    checkpoint::write(connection, &row, kept)?;
    Ok(Written { row, kept })
}

impl Written {
    /// The signed note.
    pub(super) fn note(&self) -> &str {
        &self.row.note
    }

    /// When it was kept, if it is.
    pub(super) fn kept_at(&self) -> Option<Timestamp> {
        self.kept.then_some(self.row.at)
    }
}
