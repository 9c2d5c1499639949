//! The durable state and its audit log in one SQLite database: `keyward.db` in a directory that one daemon holds.
//!
//! A single thread writes. It takes what is waiting, writes all batches in one transaction, flushes once, and only then
//! answers ("group commit"): 64 concurrent commits cost about as much as one. If a batch is at fault, the group is put back
//! and each batch is written inside a savepoint. A second connection reads, on a thread of its own, and in busy times a third
//! moves the write-ahead log into the database. Refuses to know what a change means beyond its rows.
//!
//! ```text
//! commit ─► queue ─► writer: BEGIN ─► every batch ─► signed checkpoint ─► COMMIT (flush) ─► lock (flush) ─► answers
//!               │ full: refused                 │ error of the medium, file replaced, or no answer within 2 s
//!               ▼                               ▼
//!          Unavailable                     poisoned: every later commit is refused until a restart
//! ```

mod archive;
mod authority;
pub mod backup;
mod checkpoint;
mod connection;
mod directory;
mod acme;
pub mod doctor;
mod doubt;
mod freeze;
mod group;
mod key;
mod known;
mod load;
mod lockfile;
mod log;
mod mend;
mod migrations;
mod mover;
mod offline;
mod patient;
mod place;
mod query;
mod private;
mod prune;
mod reader;
mod rotate;
mod save;
mod sealer;
mod shard;
mod tree;
mod walk;
mod trust;
mod upkeep;
mod worker;
mod writer;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::private::Private;
use crate::domain::question::Question;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::ports::{
    Batch, Consistency, Doing, Entropy, Inclusion, Log, OwnLog, Page, Statistics, Store, StoreError, StoredEntry,
};

pub use archive::{Archive, Progress};
pub use freeze::{Choice, Freezer, Last, NewShard, Run, Suits};
pub use offline::OfflineLog;
pub use prune::Pruned;
pub use rotate::{Rotated, Rotation, end_overlap, public_keys, rotate_key};
pub use trust::Accept;

use connection::Trouble;
use directory::Lock;
use doubt::Doubt;
use place::Place;
use reader::Reader;
use writer::Writer;

/// How the audit log is opened.
#[derive(Clone)]
pub struct LogOptions {
    /// The log's name for ever (C2SP tlog-checkpoint: its origin); `None` takes that of its key, and for a new log
    /// `keyward/` and 16 random hexadecimal digits.
    pub origin: Option<String>,
    /// Where the lock lies; `None` is `audit.lock` in the state directory.
    pub lock: Option<PathBuf>,
    /// The time of this start.
    pub now: Timestamp,
    /// What a person accepts at this start although a rule refuses it.
    pub accept: BTreeSet<Accept>,
    /// Who accepts it: named by the door they came through, as `uid:1000`.
    pub by: Option<Arc<str>>,
    /// Where a new log's key and name come from, and the ids of entries about the start.
    pub entropy: Arc<dyn Entropy>,
}

impl LogOptions {
    /// As where nothing is configured.
    #[must_use]
    pub fn new(now: Timestamp, entropy: Arc<dyn Entropy>) -> Self {
        Self { origin: None, lock: None, now, accept: BTreeSet::new(), by: None, entropy }
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, lock, now, accept, by: _, entropy: _ } = self;
        write!(f, "LogOptions({origin:?}, {lock:?}, {now}, {accept:?})")
    }
}

/// State and audit log in a directory of the local disk.
///
/// Dropping it writes what is queued, moves the write-ahead log into the database and gives the directory free; it waits
/// a few seconds for that at most. A thread that hangs keeps the directory locked until the process ends.
pub struct SqliteStore {
    // Dropped in this order: the reader's last look is over before the writer tidies up.
    reader: Reader,
    writer: Writer,
    /// The state directory, and the lock.
    places: (PathBuf, PathBuf),
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
    /// [`StoreError::Distrusted`] if the audit log contradicts its checkpoint, its lock or the clock;
    /// [`StoreError::Unavailable`] if the medium refuses.
    pub fn open(dir: &Path, options: &LogOptions) -> Result<Self, StoreError> {
        let dir = directory::prepare(dir)?;
        let lock = Arc::new(Lock::take(&dir)?);
        let path = directory::database(&dir)?;
        let place_of_lock = trust::lock_path(&dir, options);
        let doubted = |error: StoreError| {
            let error = connection::about(&path, error);
            if let Some(doubt) = Doubt::of(&error, options.now) {
                // Where it cannot be left, nothing can be written: then no path opens here anyway.
                doubt.leave(&dir, &place_of_lock).ok();
            }
            error
        };
        let mut writing = connection::begin_writing(&path).map_err(|trouble| match trouble {
            // Its pages are damaged; everything else that may be wrong by then says nothing about the log.
            Trouble::Sqlite(error) => doubted(StoreError::from(Trouble::Sqlite(error))),
            other @ (Trouble::Damaged(_) | Trouble::Unavailable(_) | Trouble::Distrusted(..)) => {
                connection::about(&path, other)
            }
        })?;
        connection::check(&writing).map_err(|e| doubted(e.into()))?;
        let sealer = trust::begin(&mut writing, &dir, options).map_err(doubted)?;
        // The state says the same by now.
        Doubt::settle(&dir, &place_of_lock)?;
        migrations::drop_expired(&writing).map_err(|e| connection::about(&path, Trouble::from(e)))?;
        let place = Place::of(&path, sealer.lock())?;
        let reading = connection::open_reading(&path)?;
        Ok(Self {
            reader: Reader::start(reading, lock.clone())?,
            writer: Writer::start(writing, sealer, place, lock)?,
            places: (dir, place_of_lock),
        })
    }
}

impl Store for SqliteStore {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        Box::pin(self.reader.read(load::state))
    }

    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(self.writer.commit(batch))
    }

    fn commit_proved(&self, batch: Batch) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
        Box::pin(self.writer.commit_proved(batch))
    }

    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(self.reader.read(move |connection| log::newest(connection, target.as_deref(), limit)))
    }

    fn inspect(&self, from: u64) -> Doing<'_, Result<u64, StoreError>> {
        Box::pin(self.reader.read(move |connection| trust::inspect(connection, from)))
    }

    fn doubt(&self, found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>> {
        let (dir, lock) = self.places.clone();
        Box::pin(self.reader.read(move |_| {
            match found.map(|(at, error)| Doubt::of(&error, at)) {
                None => Doubt::settle(&dir, &lock),
                Some(doubt) => doubt.map_or(Ok(()), |doubt| doubt.leave(&dir, &lock)),
            }
            .map_err(Trouble::from)
        }))
    }
}

impl Log for SqliteStore {
    fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(self.reader.read(move |connection| log::evidence(connection, &sha256)))
    }

    fn private(&self, commitments: Vec<Digest>) -> Doing<'_, Result<BTreeMap<Digest, Private>, StoreError>> {
        Box::pin(self.reader.read(move |connection| private::texts(connection, &commitments)))
    }

    fn people(&self) -> Doing<'_, Result<Vec<Private>, StoreError>> {
        Box::pin(self.reader.read(|connection| private::people(connection)))
    }

    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>> {
        Box::pin(self.reader.read(|connection| Ok(checkpoint::newest(connection)?.map(|row| row.note))))
    }

    fn inclusion(&self, sequence: u64) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
        Box::pin(self.reader.read(move |connection| tree::inclusion(connection, sequence)))
    }

    fn consistency(&self, old_size: u64) -> Doing<'_, Result<Option<Consistency>, StoreError>> {
        Box::pin(self.reader.read(move |connection| tree::consistency(connection, old_size)))
    }

    fn open_intents(&self, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(self.reader.read(move |connection| log::open_intents(connection, limit)))
    }

    fn query(&self, question: Question) -> Doing<'_, Result<Page, StoreError>> {
        Box::pin(self.reader.read(move |connection| query::page(connection, &question)))
    }

    fn entry(&self, id: EntryId) -> Doing<'_, Result<Option<StoredEntry>, StoreError>> {
        Box::pin(self.reader.read(move |connection| query::entry(connection, id)))
    }

    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>> {
        Box::pin(self.reader.read(|connection| query::statistics(connection)))
    }
}

impl OwnLog for SqliteStore {
    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>> {
        Log::checkpoint(self)
    }

    fn consistency(&self, old: u64, new: u64) -> Doing<'_, Result<Option<Vec<Digest>>, StoreError>> {
        Box::pin(self.reader.read(move |connection| tree::between(connection, old, new)))
    }

    fn keep(&self, note: String) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(self.writer.keep(note))
    }
}
