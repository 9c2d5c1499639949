//! Threads of their own for those who ask gates.
//!
//! Renewals, scrapes and pages keep the guardian's threads busy for milliseconds at a time; a question to a gate is answered
//! in microseconds and must not wait behind them. So who asks over loopback or the gate's socket is served by these
//! threads; whatever is no question to a gate is carried out by the guardian's, and only sent from here.

use core::future::Future;
use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// As many as the guardian has: a sidecar has two cores at most.
const WORKERS: usize = 2;

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Apart(Option<Runtime>);

impl Apart {
    /// Starts them.
    ///
    /// # Errors
    /// If there are no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        // Nothing here blocks; the runtime makes no such thread before it is asked to.
        builder.worker_threads(WORKERS).max_blocking_threads(1).thread_name("keyward-gate").enable_all();
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    /// The listener, with its connections served here.
    pub(super) fn tcp(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let listener = listener.into_std()?;
        let _here = self.0.as_ref().map(Runtime::enter);
        TcpListener::from_std(listener)
    }

    /// The same.
    pub(super) fn unix(&self, listener: UnixListener) -> io::Result<UnixListener> {
        let listener: StdUnixListener = listener.into_std()?;
        let _here = self.0.as_ref().map(Runtime::enter);
        UnixListener::from_std(listener)
    }

    /// Does this here.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        match &self.0 {
            Some(runtime) => runtime.spawn(work),
            // Only while it is dropped.
            None => tokio::spawn(work),
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Whoever drops it may be a task, which must not wait for threads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
