//! A thread with a bounded queue, given up after a while if it does not end.

use core::time::Duration;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

/// How long a drop waits for the thread: it has at most one group to finish, which may take two seconds, and a
/// checkpoint. A thread that takes longer hangs in the kernel, and the process must still be able to end.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The queue is full.
    Full,
    /// The thread is gone.
    Gone,
}

/// One thread and the queue of what it is to do.
#[derive(Debug)]
pub(super) struct Worker<J> {
    /// `None` once it closes.
    queue: Option<SyncSender<J>>,
    /// Disconnected when the thread has ended. Behind a mutex only to be shared between threads.
    ended: Mutex<Receiver<()>>,
}

impl<J: Send + 'static> Worker<J> {
    /// Starts the thread; `run` ends when its queue is disconnected.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(name: &str, depth: usize, run: impl FnOnce(&Receiver<J>) + Send + 'static) -> io::Result<Self> {
        let (queue, jobs) = mpsc::sync_channel(depth);
        let (ending, ended) = mpsc::sync_channel(0);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            run(&jobs);
            // Last, after everything that `run` owned is gone, the lock of the directory included.
            drop(ending);
        })?;
        Ok(Self { queue: Some(queue), ended: Mutex::new(ended) })
    }

    /// Queues a job without waiting.
    pub(super) fn offer(&self, job: J) -> Result<(), NotTaken> {
        let Some(queue) = &self.queue else { return Err(NotTaken::Gone) };
        queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => NotTaken::Full,
            TrySendError::Disconnected(_) => NotTaken::Gone,
        })
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Ok(ended) = self.ended.lock() {
            // Nothing is ever sent: both answers, disconnected and timed out, mean to go on.
            ended.recv_timeout(CLOSES_WITHIN).ok();
        }
    }
}
