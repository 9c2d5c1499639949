//! Moves the write-ahead log into the database while commits go on, on a connection and a thread of its own: in busy times
//! that takes some tens of milliseconds, too long for those who commit to wait. What is committed meanwhile is left over, and
//! the writer moves it itself between two groups; then the log begins anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::connection;
use super::directory::Lock;
use super::worker::Worker;
use super::writer::{Shared, checkpoint};

/// See the module.
#[derive(Debug)]
pub(super) struct Mover {
    worker: Worker<()>,
    done: Receiver<()>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    UnderWay,
}

impl Mover {
    /// Starts the thread, which holds the directory's lock until it ends. `None` if there is no connection or no thread to be
    /// had: then the writer does it all.
    pub(super) fn start(path: &Path, lock: Arc<Lock>, shared: Arc<Shared>) -> Option<Self> {
        let connection = connection::open_moving(path).ok()?;
        let (tell, done) = sync_channel(1);
        let run = move |jobs: &Receiver<()>| {
            let _lock = lock;
            let connection = connection;
            while jobs.recv().is_ok() {
                // After an error of the medium nothing is written any more.
                if shared.poison().get().is_none() {
                    checkpoint(&connection, "PASSIVE", shared.poison());
                }
                if tell.send(()).is_err() {
                    return;
                }
            }
        };
        let worker = Worker::start("keyward-mover", 1, run).ok()?;
        Some(Self { worker, done, state: State::Idle })
    }

    /// Begins; `false` if the thread is gone.
    pub(super) fn begin(&mut self) -> bool {
        let begun = self.worker.offer(()).is_ok();
        if begun {
            self.state = State::UnderWay;
        }
        begun
    }

    /// Whether it began and did not end yet.
    pub(super) fn is_under_way(&self) -> bool {
        self.state == State::UnderWay
    }

    /// Whether what began has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = !matches!(self.done.try_recv(), Err(TryRecvError::Empty));
        if ended {
            self.state = State::Idle;
        }
        ended
    }

    /// Waits until what began has ended.
    pub(super) fn wait(&mut self) {
        // A thread that is gone has ended too.
        self.done.recv().ok();
        self.state = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::adapters::store::directory;

    #[test]
    fn what_was_committed_before_is_in_the_database_afterwards() {
        let dir = TempDir::new().unwrap();
        let path = directory::database(dir.path()).unwrap();
        let writing = connection::open_writing(&path).unwrap();
        writing.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let lock = Arc::new(Lock::take(dir.path()).unwrap());
        let shared = Arc::new(Shared::default());
        let mut mover = Mover::start(&path, lock, shared.clone()).unwrap();
        for round in 0..3_i64 {
            writing.execute("INSERT INTO word (text) VALUES (?1)", [format!("round:{round}")]).unwrap();
            assert!(mover.begin() && mover.is_under_way());
            mover.wait();
            assert!(!mover.is_under_way() && shared.poison().get().is_none());
            // A copy of the database alone, without its log.
            let alone = dir.path().join("alone.db");
            std::fs::copy(&path, &alone).unwrap();
            let reading = connection::open_immutable(&alone).unwrap();
            let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let there = reading.query_row("SELECT count(*) FROM word WHERE text LIKE 'round:%'", [], count);
            assert_eq!(there, Ok(round + 1));
        }
    }
}
