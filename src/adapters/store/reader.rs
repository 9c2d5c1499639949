//! The thread that reads, one question after the other, so that a slow answer never holds up the writer.

use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::ports::StoreError;

use super::connection::Trouble;
use super::directory::Lock;
use super::worker::{NotTaken, Worker};

/// Questions that may wait: far more than the pages and commands that ask at once.
const QUEUE: usize = 256;

/// A read that takes longer has met a disk that hangs: to load 10,000 credentials takes under a second.
const LONGEST_READ: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The reading side.
pub(super) struct Reader {
    worker: Worker<Job>,
}

impl Reader {
    /// Starts the thread; it holds the directory's lock until it ends.
    pub(super) fn start(connection: Connection, lock: Arc<Lock>) -> Result<Self, StoreError> {
        let worker = Worker::start("keyward-reader", QUEUE, move |jobs: &Receiver<Job>| {
            // Dropped in reverse: the connection is closed before the directory is given free.
            let _lock = lock;
            let mut connection = connection;
            for job in jobs {
                job(&mut connection);
            }
        })
        .map_err(|e| StoreError::Unavailable(format!("cannot start the thread that reads: {e}")))?;
        Ok(Self { worker })
    }

    /// Asks and waits for the answer.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = move |connection: &mut Connection| {
            if !answer.is_closed() {
                // Whoever asked may have gone meanwhile.
                drop(answer.send(question(connection)));
            }
        };
        match self.worker.offer(Box::new(job)) {
            Ok(()) => {}
            Err(NotTaken::Full) => return unavailable(format!("{QUEUE} reads are waiting already; ask again later")),
            Err(NotTaken::Gone) => return unavailable("the thread that reads has ended; restart keyward".to_owned()),
        }
        match timeout(LONGEST_READ, answered).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => unavailable("the thread that reads has ended; restart keyward".to_owned()),
            Err(_) => unavailable(format!("a read took longer than {} s", LONGEST_READ.as_secs())),
        }
    }
}

fn unavailable<T>(text: String) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(text))
}
