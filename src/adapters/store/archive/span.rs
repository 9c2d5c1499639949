//! The entries of a log one page after the other.
//!
//! Entries are never changed, so each page may be of a later commit than the one before it: no snapshot is held open
//! meanwhile, which would keep the write-ahead log of a daemon from being emptied.

use rusqlite::Connection;

use super::{Archive, Stamp};
use crate::adapters::store::connection::{self, Trouble};
use crate::adapters::store::{checkpoint, log, tree};
use crate::domain::tree::Frontier;
use crate::ports::{StoreError, StoredEntry};

/// Entries of a page: 200 KiB of usual ones, 15 MiB of the longest.
const PAGE: usize = 256;

impl Archive {
    /// The newest signed checkpoint; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn newest(&self) -> Result<Option<String>, StoreError> {
        self.ask(|connection| Ok(checkpoint::newest(connection)?.map(|row| row.note)))
    }

    /// Some of the entries of these places, from the first on; empty if that is not there.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn page(&self, from: u64, to: u64) -> Result<Vec<StoredEntry>, StoreError> {
        self.ask(|connection| log::range(connection, from, to, PAGE))
    }

    /// The right edge of the tree over the first `size` entries, as the stored hashes have it: whoever appends the rest of
    /// the leaves and comes to a signed root has proved it.
    ///
    /// # Errors
    /// [`StoreError`] if hashes are missing.
    pub fn tree(&self, size: u64) -> Result<Frontier, StoreError> {
        self.ask(|connection| tree::frontier(connection, size))
    }

    /// Whether the file is still the one that was opened, where nothing keeps it from being changed meanwhile.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.unguarded.as_ref().is_none_or(|before| Stamp::of(&self.path).as_ref() == Some(before))
    }

    pub(in crate::adapters::store) fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        question(&self.connection).map_err(|trouble| connection::about(&self.path, trouble))
    }
}
