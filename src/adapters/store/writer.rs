//! The thread that writes: group commit, the two-second limit, and what happens after an error of the medium.
//!
//! What is answered with success is on the disk. What is answered with an error before the flush was rolled back. Only
//! when the flush itself failed or took too long is it unknown, and then the writer is poisoned: whoever restarts reads
//! from the disk what became of it.

use core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::domain::changes;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::{Frontier, Growth};
use crate::ports::{Batch, Inclusion, LARGEST_BATCH, StoreError, StoredEntry};

use super::directory::Lock;
use super::lockfile::NotAdvanced;
use super::log;
use super::place;
use super::save::{self, NotSaved};
use super::sealer::{Sealer, Written};
use super::worker::{NotTaken, Worker};

/// A commit that is not durable after this time counts as failed: whoever asked stands before an effect and must not
/// wait for a disk that hangs.
const LONGEST_COMMIT: Duration = Duration::from_secs(2);

/// Batches that may wait. At 15,000 rows a second and a dozen rows a batch the last one waits for less than a second.
const QUEUE: usize = 1_024;

/// Rows that may wait: about a second of work. More are refused, because a queue that cannot be written in two seconds
/// would look like a disk that hangs.
const QUEUE_ROWS: usize = 2 * LARGEST_BATCH;

/// A group ends at this many batches or rows, so that the first is not kept waiting by ever more who come later.
const LARGEST_GROUP: usize = 256;
/// See [`LARGEST_GROUP`].
const LARGEST_GROUP_ROWS: usize = LARGEST_BATCH;

/// The write-ahead log is moved into the database after this many groups or rows, whichever comes first. A group of one
/// entry writes some 15 pages of 16 KiB: 32 groups are 8 MiB.
const CHECKPOINT_GROUPS: usize = 32;
/// See [`CHECKPOINT_GROUPS`]; rows of one group share pages.
const CHECKPOINT_ROWS: usize = 2_048;

/// The writing side.
#[derive(Debug)]
pub(super) struct Writer {
    worker: Worker<Job>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    poison: Poison,
    /// Rows that are queued or being written.
    waiting: AtomicUsize,
}

/// Why nothing is written any more; set once.
type Poison = OnceLock<Poisoned>;

#[derive(Debug)]
enum Poisoned {
    /// Hangs, was replaced, or contradicts what was written.
    Stuck(String),
    /// The medium failed.
    Lost(String),
}

type Verdict = Result<(), StoreError>;

/// What a commit gives: the proof of its first entry, if that was asked for.
type Given = Result<Option<Inclusion>, StoreError>;

#[derive(Debug)]
struct Job {
    batch: Batch,
    /// A checkpoint with the signatures of witnesses.
    cosigned: Option<String>,
    /// Whether the proof of its first entry is asked for.
    proved: bool,
    answer: oneshot::Sender<Given>,
    _place: Place,
}

/// Room in the queue for the rows of one batch, given back when the batch is done with.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    rows: usize,
}

impl Place {
    fn take(shared: &Arc<Shared>, rows: usize) -> Option<Self> {
        let before = shared.waiting.fetch_add(rows, Ordering::AcqRel);
        // Made before the check, so that it is given back on refusal too.
        let place = Self { shared: shared.clone(), rows };
        (before.saturating_add(rows) <= QUEUE_ROWS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(self.rows, Ordering::AcqRel);
    }
}

impl Writer {
    /// Starts the thread; it holds the directory's lock until it ends.
    pub(super) fn start(
        connection: Connection,
        sealer: Sealer,
        place: place::Place,
        lock: Arc<Lock>,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let known = shared.clone();
        let worker = Worker::start("keyward-writer", QUEUE, move |jobs| {
            // Dropped in reverse: the connection is closed before the directory is given free.
            let _lock = lock;
            let mut pen = Pen { connection, sealer, place };
            run(&mut pen, jobs, &known.poison);
        })
        .map_err(|e| StoreError::Unavailable(format!("cannot start the thread that writes: {e}")))?;
        Ok(Self { worker, shared })
    }

    /// Writes a batch; durable on return.
    pub(super) async fn commit(&self, batch: Batch) -> Verdict {
        self.write(batch, None, false).await.map(drop)
    }

    /// The same; gives its first entry with what proves that it is in the log, if that could be told without reading.
    pub(super) async fn commit_proved(&self, batch: Batch) -> Given {
        self.write(batch, None, true).await
    }

    /// Keeps a cosigned checkpoint; durable on return.
    pub(super) async fn keep(&self, note: String) -> Verdict {
        self.write(Batch::default(), Some(note), false).await.map(drop)
    }

    async fn write(&self, batch: Batch, cosigned: Option<String>, proved: bool) -> Given {
        batch.check()?;
        if let Some(why) = self.shared.poison.get() {
            return refused(why);
        }
        let rows = rows(&batch);
        let Some(place) = Place::take(&self.shared, rows) else {
            return unavailable(format!("commits with more than {QUEUE_ROWS} rows are waiting already"));
        };
        let (answer, answered) = oneshot::channel();
        match self.worker.offer(Job { batch, cosigned, proved, answer, _place: place }) {
            Ok(()) => {}
            Err(NotTaken::Full) => return unavailable(format!("{QUEUE} commits are waiting already")),
            Err(NotTaken::Gone) => return self.give_up("the thread that writes has ended".to_owned()),
        }
        match timeout(LONGEST_COMMIT, answered).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => self.give_up("the thread that writes has ended".to_owned()),
            Err(_) => {
                let limit = LONGEST_COMMIT.as_secs();
                self.give_up(format!("a commit was not on the disk after {limit} s, and whether it will be is unknown"))
            }
        }
    }

    fn give_up(&self, why: String) -> Given {
        refused(self.shared.poison.get_or_init(|| Poisoned::Stuck(why)))
    }
}

/// What every commit hears once the writer is poisoned.
fn refused<T>(why: &Poisoned) -> Result<T, StoreError> {
    let text = |why| format!("{why}; nothing more is written until keyward is restarted");
    Err(match why {
        Poisoned::Stuck(why) => StoreError::Unavailable(text(why)),
        Poisoned::Lost(why) => StoreError::Lost(text(why)),
    })
}

fn unavailable<T>(text: String) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(text))
}

/// What the thread writes with.
struct Pen {
    connection: Connection,
    sealer: Sealer,
    place: place::Place,
}

/// The thread: ends when the queue is disconnected and empty.
fn run(pen: &mut Pen, jobs: &Receiver<Job>, poison: &Poison) {
    let (mut groups, mut written) = (0_usize, 0_usize);
    while let Ok(first) = jobs.recv() {
        let group = gather(first, jobs);
        let verdicts = match pen.write_group(&group, poison) {
            Ok(verdicts) => verdicts,
            Err(Failed::NotWritten(text)) => group.iter().map(|_| unavailable(text.clone())).collect(),
            Err(Failed::Poisoned(why)) => {
                let why = poison.get_or_init(|| why);
                group.iter().map(|_| refused(why)).collect()
            }
        };
        groups = groups.saturating_add(1);
        written = group.iter().fold(written, |sum, job| sum.saturating_add(rows(&job.batch)));
        for (job, verdict) in group.into_iter().zip(verdicts) {
            // Whoever asked may have gone; the verdict is only for them.
            drop(job.answer.send(verdict));
        }
        // After the answers, so that nobody waits for it.
        if poison.get().is_none() && (groups >= CHECKPOINT_GROUPS || written >= CHECKPOINT_ROWS) {
            (groups, written) = (0, 0);
            checkpoint(&pen.connection, "PASSIVE", poison);
        }
    }
    if poison.get().is_none() {
        checkpoint(&pen.connection, "TRUNCATE", poison);
    }
}

/// Takes what is waiting, up to the limits of a group.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    let mut sum = rows(&first.batch);
    let mut group = vec![first];
    while group.len() < LARGEST_GROUP && sum < LARGEST_GROUP_ROWS {
        let Ok(job) = jobs.try_recv() else { break };
        sum = sum.saturating_add(rows(&job.batch));
        group.push(job);
    }
    // Whoever was dropped or has timed out while it waited is not written any more.
    group.retain(|job| !job.answer.is_closed());
    group
}

fn rows(batch: &Batch) -> usize {
    batch.changes.len().saturating_add(batch.entries.len())
}

/// Why a whole group was not committed.
enum Failed {
    /// It was rolled back and nothing of it is there; the next group may fare better (disk full, a foreign lock).
    NotWritten(String),
    /// What of it is there is unknown.
    Poisoned(Poisoned),
}

impl Failed {
    fn stuck(text: String) -> Self {
        Self::Poisoned(Poisoned::Stuck(text))
    }
}

/// The rows of a group before its commit.
struct Drawn {
    /// Of each batch; with its first entry, if that is to be proved.
    verdicts: Vec<Result<Option<StoredEntry>, StoreError>>,
    /// What was appended.
    leaves: Vec<Digest>,
    tree: Frontier,
    /// The time of its newest entry, if it has any.
    newest: Option<Timestamp>,
}

impl Pen {
    /// One transaction, one flush of the database and one of the lock, a verdict for each.
    fn write_group(&mut self, group: &[Job], poison: &Poison) -> Result<Vec<Given>, Failed> {
        let all_refused = |why: &Poisoned| group.iter().map(|_| refused(why)).collect();
        if let Some(why) = poison.get() {
            return Ok(all_refused(why));
        }
        self.place.check().map_err(Failed::stuck)?;
        self.place.room(group.iter().map(|job| &job.batch)).map_err(Failed::NotWritten)?;
        let result = self.commit(group, poison);
        // SQLite ends the transaction itself after some errors.
        if result.is_err() && !self.connection.is_autocommit() {
            statement(&self.connection, "ROLLBACK").map_err(|e| Failed::stuck(format!("cannot roll back: {e}")))?;
        }
        let (drawn, written) = result?;
        let Some(written) = written else {
            return Ok(drawn.verdicts.into_iter().map(|verdict| verdict.map(|_| None)).collect());
        };
        let asked = drawn.verdicts.iter().any(|verdict| matches!(verdict, Ok(Some(_))));
        let growth = if asked { Growth::new(self.sealer.tree(), &drawn.leaves).ok() } else { None };
        self.sealer.committed(drawn.tree, &written);
        // Whoever was told meanwhile that it failed must find it unacknowledged after a restart.
        if let Some(why) = poison.get() {
            return Ok(all_refused(why));
        }
        self.sealer.acknowledge(&written).map_err(|e| {
            Failed::Poisoned(match e {
                NotAdvanced::Refused(text) => Poisoned::Stuck(text),
                NotAdvanced::Lost(text) => Poisoned::Lost(text),
            })
        })?;
        let prove = |entry: StoredEntry| {
            let proof = growth.as_ref()?.prove(entry.sequence).ok()?;
            Some(Inclusion { entry, proof, note: written.note().to_owned() })
        };
        Ok(drawn.verdicts.into_iter().map(|verdict| Ok(verdict?.and_then(prove))).collect())
    }

    fn commit(&self, group: &[Job], poison: &Poison) -> Result<(Drawn, Option<Written>), Failed> {
        let drawn = write_rows(&self.connection, group, self.sealer.tree().clone())?;
        let sign = |at| self.sealer.sign(&self.connection, &drawn.tree, at).map_err(before_commit);
        let written = drawn.newest.map(sign).transpose()?;
        // Between the first row and here somebody may have been told that it failed.
        if poison.get().is_some() {
            return Err(Failed::NotWritten("a commit took too long".to_owned()));
        }
        match statement(&self.connection, "COMMIT") {
            Ok(()) => Ok((drawn, written)),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => Err(Failed::NotWritten(e.to_string())),
            Err(e) => Err(Failed::Poisoned(blame(&e, "at a commit"))),
        }
    }
}

fn write_rows(connection: &Connection, group: &[Job], mut tree: Frontier) -> Result<Drawn, Failed> {
    statement(connection, "BEGIN IMMEDIATE").map_err(before_commit)?;
    let (mut verdicts, mut leaves) = (Vec::with_capacity(group.len()), Vec::new());
    let mut newest = None;
    for job in group {
        statement(connection, "SAVEPOINT batch").map_err(before_commit)?;
        let (before, known) = (tree.clone(), leaves.len());
        let verdict = match write_job(connection, job, &mut tree, &mut leaves) {
            Ok(first) => {
                newest = job.batch.entries.last().map(|draft| draft.at).or(newest);
                Ok(first.filter(|_| job.proved))
            }
            Err(NotSaved::Refused(text)) => unavailable(format!("the batch was refused: {text}")),
            Err(NotSaved::Sqlite(e)) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                unavailable(format!("the batch was refused: {e}"))
            }
            Err(NotSaved::Sqlite(e)) => return Err(before_commit(e)),
        };
        if verdict.is_err() {
            statement(connection, "ROLLBACK TO batch").map_err(before_commit)?;
            tree = before;
            leaves.truncate(known);
        }
        statement(connection, "RELEASE batch").map_err(before_commit)?;
        verdicts.push(verdict);
    }
    Ok(Drawn { verdicts, leaves, tree, newest })
}

/// Gives the first entry as it was written.
fn write_job(
    connection: &Connection,
    job: &Job,
    tree: &mut Frontier,
    leaves: &mut Vec<Digest>,
) -> Result<Option<StoredEntry>, NotSaved> {
    let Job { batch, cosigned, .. } = job;
    let mut first = None;
    cosigned.iter().try_for_each(|note| super::checkpoint::keep(connection, note))?;
    for (index, draft) in batch.entries.iter().enumerate() {
        // An entry tells what its changes do to the rows, so it is written before them.
        let (_, changes) = changes::share(&batch.changes, index, batch.entries.len());
        let entry = log::append(connection, draft, changes, tree)?;
        leaves.push(entry.leaf);
        first.get_or_insert(entry);
        changes.iter().try_for_each(|change| save::change(connection, change))?;
    }
    if batch.entries.is_empty() {
        batch.changes.iter().try_for_each(|change| save::change(connection, change))?;
    }
    Ok(first)
}

/// An error before the flush: the group is rolled back. Some of them pass; all others mean that the medium or the
/// database is not to be trusted.
fn before_commit(error: rusqlite::Error) -> Failed {
    use ErrorCode as E;
    let code = error.sqlite_error_code();
    if code.is_some_and(|c| [E::DiskFull, E::DatabaseBusy, E::DatabaseLocked, E::OutOfMemory].contains(&c)) {
        return Failed::NotWritten(error.to_string());
    }
    Failed::Poisoned(blame(&error, "before a commit"))
}

fn blame(error: &rusqlite::Error, when: &str) -> Poisoned {
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => Poisoned::Lost(format!("the disk failed {when}: {error}")),
        _ => Poisoned::Stuck(format!("the database failed {when}: {error}")),
    }
}

/// Moves the write-ahead log into the database. SQLite's own automatic checkpoint hides its errors, and a flush that
/// failed once must not be tried again: the kernel may report success the second time with the data lost.
fn checkpoint(connection: &Connection, mode: &str, poison: &Poison) {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    match done {
        // Full or busy: the log stays as it is and only grows a little; the next checkpoint does it.
        Ok(()) => {}
        Err(e) => match before_commit(e) {
            Failed::NotWritten(_) => {}
            Failed::Poisoned(why) => {
                poison.get_or_init(|| why);
            }
        },
    }
}

fn statement(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::future::join_all;
    use futures_util::poll;
    use tempfile::TempDir;

    use super::*;
    use crate::adapters::store::{LogOptions, connection, directory, load, trust};
    use crate::domain::state::{Change, ClockMark};
    use crate::ports::Entropy;

    struct Counter;

    impl Entropy for Counter {
        fn fill(&self, out: &mut [u8]) {
            (0..).zip(out).for_each(|(n, byte)| *byte = n);
        }
    }

    /// A writer that waits for a foreign lock as long as it takes: to it the disk seems to hang.
    fn patient_writer(dir: &Path) -> Writer {
        let path = directory::database(dir).unwrap();
        let mut connection = connection::open_writing(&path).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        let options = LogOptions::new(Timestamp::MAX, Arc::new(Counter));
        let sealer = trust::begin(&mut connection, dir, &options).unwrap();
        let place = place::Place::of(&path, sealer.lock()).unwrap();
        Writer::start(connection, sealer, place, Arc::new(Lock::take(dir).unwrap())).unwrap()
    }

    fn foreign_lock(dir: &Path) -> Connection {
        let foreign = Connection::open(dir.join("keyward.db")).unwrap();
        foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
        foreign
    }

    fn batch(rows: usize) -> Batch {
        let boot = crate::domain::time::Boottime::from_boot(Duration::ZERO);
        let change = Change::Clock(ClockMark { wall: Timestamp::from_unix(1), boot, boot_id: Arc::from("") });
        Batch { changes: vec![change; rows], entries: Vec::new() }
    }

    fn text(verdict: Verdict) -> String {
        verdict.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_was_given_up_before_the_flush_is_rolled_back_and_nothing_follows() {
        let dir = TempDir::new().unwrap();
        let writer = patient_writer(dir.path());
        let foreign = foreign_lock(dir.path());
        assert!(text(writer.commit(batch(1)).await).contains("was not on the disk after 2 s"));
        foreign.execute_batch("ROLLBACK").unwrap();
        assert!(text(writer.commit(batch(1)).await).contains("until keyward is restarted"));
        drop(writer);
        let mut reading = connection::open_reading(&dir.path().join("keyward.db")).unwrap();
        assert_eq!(load::state(&mut reading).unwrap().clock, None);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_what_it_took_is_written() {
        for (rows_each, commits, taken_at_least) in [(1, QUEUE + 300, QUEUE), (QUEUE_ROWS / 4, 9, 4)] {
            let dir = TempDir::new().unwrap();
            let writer = patient_writer(dir.path());
            let foreign = foreign_lock(dir.path());
            let (mut waiting, mut refused) = (Vec::new(), Vec::new());
            for _ in 0..commits {
                let mut commit = Box::pin(writer.commit(batch(rows_each)));
                match poll!(&mut commit) {
                    core::task::Poll::Ready(verdict) => refused.push(text(verdict)),
                    core::task::Poll::Pending => waiting.push(commit),
                }
            }
            assert!(!refused.is_empty() && refused.iter().all(|t| t.contains("are waiting already")), "{refused:?}");
            assert!(waiting.len() >= taken_at_least, "{} of {commits} were taken", waiting.len());
            foreign.execute_batch("ROLLBACK").unwrap();
            for verdict in join_all(waiting).await {
                verdict.unwrap();
            }
            // And there is room again.
            writer.commit(batch(rows_each)).await.unwrap();
        }
    }

    #[test]
    fn a_group_is_bounded_and_leaves_out_whoever_gave_up() {
        let shared = Arc::new(Shared::default());
        let (queue, jobs) = std::sync::mpsc::sync_channel(QUEUE);
        let mut callers = Vec::new();
        let mut job = |rows| {
            let (answer, answered) = oneshot::channel();
            callers.push(answered);
            Job { batch: batch(rows), cosigned: None, proved: false, answer, _place: Place::take(&shared, 0).unwrap() }
        };
        let first = job(1);
        (0..LARGEST_GROUP + 5).for_each(|_| queue.try_send(job(1)).unwrap());
        queue.try_send(job(LARGEST_GROUP_ROWS)).unwrap();
        queue.try_send(job(1)).unwrap();
        callers.drain(..10);
        let next = || jobs.recv().unwrap();
        assert_eq!(gather(first, &jobs).len(), LARGEST_GROUP - 10);
        let rest = gather(next(), &jobs);
        assert_eq!((rest.len(), gather(next(), &jobs).len()), (7, 1), "a group ends with the batch that fills it");
    }
}
