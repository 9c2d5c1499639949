//! The log of a state directory that may be anybody's: read only, without its lock, beside a daemon or without one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::private::Private;
use crate::domain::question::Question;
use crate::ports::{Consistency, Doing, Inclusion, Log, Page, Statistics, StoreError, StoredEntry};

use super::connection::Trouble;
use super::{archive, checkpoint, log, private, query, tree};

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
        let (connection, ..) = archive::open(path)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Connection) -> Result<T, Trouble>) -> Result<T, StoreError> {
        let mut connection: MutexGuard<'_, Connection> = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(question(&mut connection)?)
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

    fn private(&self, commitments: Vec<Digest>) -> Doing<'_, Result<BTreeMap<Digest, Private>, StoreError>> {
        Box::pin(async move { self.ask(|connection| private::texts(connection, &commitments)) })
    }

    fn people(&self) -> Doing<'_, Result<Vec<Private>, StoreError>> {
        Box::pin(async move { self.ask(|connection| private::people(connection)) })
    }

    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>> {
        Box::pin(async move { self.ask(|connection| Ok(checkpoint::newest(connection)?.map(|row| row.note))) })
    }

    fn inclusion(&self, sequence: u64) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
        Box::pin(async move { self.ask(|connection| tree::inclusion(connection, sequence)) })
    }

    fn consistency(&self, old_size: u64) -> Doing<'_, Result<Option<Consistency>, StoreError>> {
        Box::pin(async move { self.ask(|connection| tree::consistency(connection, old_size)) })
    }

    fn open_intents(&self, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(async move { self.ask(|connection| log::open_intents(connection, limit)) })
    }

    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>> {
        Box::pin(async move { self.ask(|connection| query::statistics(connection)) })
    }
}
