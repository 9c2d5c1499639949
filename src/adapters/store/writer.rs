//! The thread that writes: group commit, the two-second limit, and what happens after an error of the medium.
//!
//! What is answered with success is on the disk. What is answered with an error before the flush was rolled back. Only
//! when the flush itself failed or took too long is it unknown, and then the writer is poisoned: whoever restarts reads
//! from the disk what became of it.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::domain::tree::Growth;
use crate::ports::{Batch, Inclusion, LARGEST_BATCH, StoreError, StoredEntry};

use super::connection;
use super::directory::Lock;
use super::group::{self, Drawn};
use super::known::Known;
use super::lockfile::NotAdvanced;
use super::mover::Mover;
use super::place;
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
/// The same in busy times, when most pages are those of the group before, written anew: they are moved once for all. Groups
/// of 20 certificates write 45 pages: 70 MiB.
const BUSY_CHECKPOINT_GROUPS: usize = 96;
/// Rows of one group share pages, all but those of the hashes that evidence is found by: a certificate takes four rows and
/// two such pages, so that these rows are 32 MiB.
const CHECKPOINT_ROWS: usize = 4_096;

/// From so many batches in a group on it is a busy time, whose pages do not fit into what is kept otherwise.
const BUSY: usize = 16;
/// A busy time is over when nothing comes for so long.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// The writing side.
#[derive(Debug)]
pub(super) struct Writer {
    worker: Worker<Job>,
    shared: Arc<Shared>,
}

/// What the threads know of each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    poison: Poison,
    /// Rows that are queued or being written.
    waiting: AtomicUsize,
}

impl Shared {
    /// Why nothing is written any more, if so.
    pub(super) fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// Why nothing is written any more; set once.
pub(super) type Poison = OnceLock<Poisoned>;

#[derive(Debug)]
pub(super) enum Poisoned {
    /// Hangs, was replaced, or contradicts what was written.
    Stuck(String),
    /// The medium failed.
    Lost(String),
}

type Verdict = Result<(), StoreError>;

/// What a commit gives: the proof of its first entry, if that was asked for.
type Given = Result<Option<Inclusion>, StoreError>;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Batch,
    /// A checkpoint with the signatures of witnesses.
    pub(super) cosigned: Option<String>,
    /// Whether the proof of its first entry is asked for.
    pub(super) proved: bool,
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
            let (known_rows, pace, since) = (Known::default(), Pace::Quiet, Since::default());
            let mut pen = Pen {
                mover: None,
                connection,
                sealer,
                place,
                known: known_rows,
                pace,
                since,
                lock,
                shared: known.clone(),
            };
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

pub(super) fn unavailable<T>(text: String) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(text))
}

/// What the thread writes with. Dropped in this order: connections are closed before the directory is given free.
struct Pen {
    mover: Option<Mover>,
    connection: Connection,
    sealer: Sealer,
    place: place::Place,
    known: Known,
    pace: Pace,
    since: Since,
    lock: Arc<Lock>,
    shared: Arc<Shared>,
}

/// What was written since the write-ahead log was moved last, or that was begun.
#[derive(Clone, Copy, Default)]
struct Since {
    groups: usize,
    rows: usize,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// A commit now and then.
    Quiet,
    /// Many at once: more pages are kept in memory, and a longer write-ahead log on the disk.
    Busy,
}

/// The thread: ends when the queue is disconnected and empty.
fn run(pen: &mut Pen, jobs: &Receiver<Job>, poison: &Poison) {
    while let Some(first) = pen.next(jobs) {
        let group = gather(first, jobs);
        if group.len() >= BUSY {
            pen.pace(Pace::Busy);
        }
        let verdicts = match pen.write_group(&group, poison) {
            Ok(verdicts) => verdicts,
            Err(Failed::NotWritten(text)) => group.iter().map(|_| unavailable(text.clone())).collect(),
            Err(Failed::Poisoned(why)) => {
                let why = poison.get_or_init(|| why);
                group.iter().map(|_| refused(why)).collect()
            }
        };
        pen.since.groups = pen.since.groups.saturating_add(1);
        pen.since.rows = group.iter().fold(pen.since.rows, |sum, job| sum.saturating_add(rows(&job.batch)));
        for (job, verdict) in group.into_iter().zip(verdicts) {
            // Whoever asked may have gone; the verdict is only for them.
            drop(job.answer.send(verdict));
        }
        // After the answers, so that these do not wait for it.
        if poison.get().is_none() {
            pen.move_log(poison);
        }
    }
    pen.mover = None;
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
pub(super) enum Failed {
    /// It was rolled back and nothing of it is there; the next group may fare better (disk full, a foreign lock).
    NotWritten(String),
    /// What of it is there is unknown.
    Poisoned(Poisoned),
}

impl Failed {
    pub(super) fn stuck(text: String) -> Self {
        Self::Poisoned(Poisoned::Stuck(text))
    }
}

impl Pen {
    /// The next job, however long that takes; `None` if there will be none.
    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Job> {
        if self.pace == Pace::Busy {
            match jobs.recv_timeout(RESTS_AFTER) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.pace(Pace::Quiet),
            }
        }
        jobs.recv().ok()
    }

    /// Takes room for the pages of this pace, or gives it back. If that fails it is only slower.
    fn pace(&mut self, pace: Pace) {
        if self.pace != pace {
            self.pace = pace;
            connection::keep_pages(&self.connection, pace).ok();
        }
    }

    /// Moves the write-ahead log into the database if it is time.
    fn move_log(&mut self, poison: &Poison) {
        let most = if self.pace == Pace::Busy { BUSY_CHECKPOINT_GROUPS } else { CHECKPOINT_GROUPS };
        let due = self.since.groups >= most || self.since.rows >= CHECKPOINT_ROWS;
        if let Some(mover) = self.mover.as_mut().filter(|mover| mover.is_under_way()) {
            if due {
                // A log that grows faster than it is moved has to be waited for.
                mover.wait();
            } else if !mover.has_ended() {
                return;
            }
            // What came meanwhile.
            self.since = Since::default();
            checkpoint(&self.connection, "PASSIVE", poison);
        } else if due {
            self.since = Since::default();
            if self.pace == Pace::Quiet || !self.begin_moving() {
                checkpoint(&self.connection, "PASSIVE", poison);
            }
        }
    }

    fn begin_moving(&mut self) -> bool {
        if self.mover.is_none() {
            let path = self.connection.path().map(PathBuf::from);
            self.mover = path.and_then(|path| Mover::start(&path, self.lock.clone(), self.shared.clone()));
        }
        self.mover.as_mut().is_some_and(Mover::begin)
    }

    /// One transaction, one flush of the database and one of the lock, a verdict for each.
    fn write_group(&mut self, group: &[Job], poison: &Poison) -> Result<Vec<Given>, Failed> {
        let all_refused = |why: &Poisoned| group.iter().map(|_| refused(why)).collect();
        if let Some(why) = poison.get() {
            return Ok(all_refused(why));
        }
        self.place.check().map_err(Failed::stuck)?;
        self.place.room(group.iter().map(|job| &job.batch)).map_err(Failed::NotWritten)?;
        let result = self.commit(group, poison);
        if result.is_err() {
            self.known.forget();
            group::roll_back(&self.connection)?;
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

    fn commit(&mut self, jobs: &[Job], poison: &Poison) -> Result<(Drawn, Option<Written>), Failed> {
        let drawn = group::write(&self.connection, jobs, self.sealer.tree(), &mut self.known)?;
        let sign = |at| self.sealer.sign(&self.connection, &drawn.tree, at).map_err(before_commit);
        let written = drawn.newest.map(sign).transpose()?;
        // Between the first row and here somebody may have been told that it failed.
        if poison.get().is_some() {
            return Err(Failed::NotWritten("a commit took too long".to_owned()));
        }
        match group::statement(&self.connection, "COMMIT") {
            Ok(()) => Ok((drawn, written)),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => Err(Failed::NotWritten(e.to_string())),
            Err(e) => Err(Failed::Poisoned(blame(&e, "at a commit"))),
        }
    }
}

/// An error before the flush: the group is rolled back. Some of them pass; all others mean that the medium or the
/// database is not to be trusted.
pub(super) fn before_commit(error: rusqlite::Error) -> Failed {
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
pub(super) fn checkpoint(connection: &Connection, mode: &str, poison: &Poison) {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::future::join_all;
    use futures_util::poll;
    use tempfile::TempDir;

    use super::*;
    use crate::adapters::store::{LogOptions, connection, directory, load, trust};
    use crate::domain::state::{Change, ClockMark};
    use crate::domain::time::Timestamp;
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
    fn in_busy_times_the_log_is_moved_beside_the_commits_and_all_of_it_in_the_end() {
        let dir = TempDir::new().unwrap();
        let path = directory::database(dir.path()).unwrap();
        let mut connection = connection::open_writing(&path).unwrap();
        let options = LogOptions::new(Timestamp::MAX, Arc::new(Counter));
        let sealer = trust::begin(&mut connection, dir.path(), &options).unwrap();
        let place = place::Place::of(&path, sealer.lock()).unwrap();
        let (lock, shared) = (Arc::new(Lock::take(dir.path()).unwrap()), Arc::new(Shared::default()));
        let (known, pace, since) = (Known::default(), Pace::Quiet, Since::default());
        let mut pen = Pen { mover: None, connection, sealer, place, known, pace, since, lock, shared: shared.clone() };
        let commit = |pen: &mut Pen| {
            let (answer, _answered) = oneshot::channel();
            let _place = Place::take(&shared, 0).unwrap();
            let job = Job { batch: batch(1), cosigned: None, proved: false, answer, _place };
            let verdicts = pen.write_group(&[job], &shared.poison).unwrap_or_else(|_| panic!("the group is written"));
            assert!(verdicts.iter().all(Result::is_ok));
            pen.since.rows = CHECKPOINT_ROWS;
            pen.move_log(&shared.poison);
        };
        let pages =
            |pen: &Pen| pen.connection.pragma_query_value(None, "cache_size", |row| row.get::<_, i64>(0)).unwrap();
        let usual = pages(&pen);
        commit(&mut pen);
        assert!(pen.mover.is_none(), "in quiet times nobody waits for it");
        pen.pace(Pace::Busy);
        assert!(pages(&pen) < 4 * usual, "negative: in KiB");
        commit(&mut pen);
        assert!(pen.mover.as_ref().is_some_and(Mover::is_under_way));
        // Due again before anybody saw that it ended: it is waited for, and the rest is moved.
        commit(&mut pen);
        assert!(!pen.mover.as_ref().is_some_and(Mover::is_under_way));
        let alone = dir.path().join("alone.db");
        std::fs::copy(&path, &alone).unwrap();
        let mut alone = connection::open_immutable(&alone).unwrap();
        assert_eq!(load::state(&mut alone).unwrap().clock.map(|mark| mark.wall), Some(Timestamp::from_unix(1)));
        pen.pace(Pace::Quiet);
        assert_eq!(pages(&pen), usual);
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
