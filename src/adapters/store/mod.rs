//! The durable state and its audit log in one SQLite database: `keyward.db` in a directory that one daemon holds.
//!
//! A single thread writes. It takes what is waiting, writes each batch inside a savepoint of one transaction, flushes
//! once, and only then answers ("group commit"): 64 concurrent commits cost about as much as one. A second connection
//! reads, on a thread of its own. Refuses to know what a change means beyond its rows.
//!
//! ```text
//! commit ─► queue ─► writer: BEGIN ─► savepoint per batch ─► COMMIT (fsync) ─► answers ─► checkpoint when due
//!                      │ full: refused                │ error of the medium, or no answer within 2 s
//!                      ▼                              ▼
//!                 Unavailable                    poisoned: every later commit is refused until a restart
//! ```

mod connection;
mod directory;
mod load;
mod log;
mod migrations;
mod reader;
mod save;
mod worker;
mod writer;

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::domain::key::Digest;
use crate::domain::state::State;
use crate::ports::{Batch, Doing, Store, StoreError, StoredEntry};

use directory::Lock;
use reader::Reader;
use writer::Writer;

/// State and audit log in a directory of the local disk.
///
/// Dropping it writes what is queued, moves the write-ahead log into the database and gives the directory free; it waits
/// a few seconds for that at most. A thread that hangs keeps the directory locked until the process ends.
pub struct SqliteStore {
    // Dropped in this order: the reader's last look is over before the writer tidies up.
    reader: Reader,
    writer: Writer,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteStore")
    }
}

impl SqliteStore {
    /// Opens the state directory, makes it (mode 0700) and its database (mode 0600) if they are missing, and brings the
    /// schema up to date. Blocks: for 10,000 credentials a fraction of a second.
    ///
    /// # Errors
    /// [`StoreError::InUse`] names the process that holds the directory; [`StoreError::Damaged`] if what is there is no
    /// sound database of Keyward, or one of a newer version, or lies where others may replace it;
    /// [`StoreError::Unavailable`] if the medium refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let dir = directory::prepare(dir)?;
        let lock = Arc::new(Lock::take(&dir)?);
        let path = directory::database(&dir)?;
        let writing = connection::open_writing(&path)?;
        let reading = connection::open_reading(&path)?;
        Ok(Self { reader: Reader::start(reading, lock.clone())?, writer: Writer::start(writing, lock)? })
    }
}

impl Store for SqliteStore {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        Box::pin(self.reader.read(load::state))
    }

    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(self.writer.commit(batch))
    }

    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(self.reader.read(move |connection| log::newest(connection, target.as_deref(), limit)))
    }

    fn open_intents(&self, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(self.reader.read(move |connection| log::open_intents(connection, limit)))
    }

    fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(self.reader.read(move |connection| log::evidence(connection, &sha256)))
    }
}
