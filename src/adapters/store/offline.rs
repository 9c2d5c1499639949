//! The log of a state directory that may be anybody's: read only, without its lock, beside a daemon or without one.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::question::Question;
use crate::ports::{Doing, Log, Page, Statistics, StoreError, StoredEntry};

use super::connection::Trouble;
use super::{connection, log, migrations, query};

/// A log to look at. Every future is ready when it is first polled.
#[derive(Debug)]
pub struct OfflineLog {
    connection: Mutex<Connection>,
}

impl OfflineLog {
    /// Opens `keyward.db` in a directory, or the file itself.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be opened, [`StoreError::Damaged`] if it is no database of ours.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = if path.is_dir() { path.join("keyward.db") } else { path.to_owned() };
        let connection = connection::open_reading(&path)?;
        migrations::check_identity(&connection).map_err(|e| connection::about(&path, e))?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, StoreError> {
        let connection: MutexGuard<'_, Connection> = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(question(&connection)?)
    }
}

impl Log for OfflineLog {
    fn query(&self, question: Question) -> Doing<'_, Result<Page, StoreError>> {
        Box::pin(async move { self.ask(|connection| query::page(connection, &question)) })
    }

    fn entry(&self, id: EntryId) -> Doing<'_, Result<Option<StoredEntry>, StoreError>> {
        Box::pin(async move { self.ask(|connection| query::entry(connection, id)) })
    }

    fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { self.ask(|connection| log::evidence(connection, &sha256)) })
    }

    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>> {
        Box::pin(async move { self.ask(query::statistics) })
    }
}
