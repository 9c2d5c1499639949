//! A thread of its own for those who ask gates.
//!
//! Renewals, scrapes and pages keep the guardian's threads busy for milliseconds at a time; a question to a gate is answered
//! in microseconds and must not wait behind them. So who asks over loopback or the gate's socket is served by this
//! thread; whatever is no question to a gate is carried out by the guardian's, and only sent from here.

use core::future::Future;
use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The thread; it ends, with all that it does, when this is dropped.
///
/// One, because with two each answer also wakes the other one to look for work: a third more processor time, and in a
/// storm of renewals the slowest answers are three times as slow (docs/benchmarks.md).
#[derive(Debug)]
pub(super) struct Apart {
    thread: Handle,
    /// Never told anything: that it is dropped is what ends the thread.
    _until: oneshot::Sender<()>,
}

impl Apart {
    /// Starts it.
    ///
    /// # Errors
    /// If there are no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let (until, ended) = oneshot::channel::<()>();
        let (made, thread) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            // Nothing here blocks; the runtime makes no such thread before it is asked to. It is made, and ends, in this
            // thread: whoever starts it may be a task, in which no runtime can be dropped.
            match Builder::new_current_thread().max_blocking_threads(1).enable_all().build() {
                Ok(runtime) => {
                    drop(made.send(Ok(runtime.handle().clone())));
                    drop(runtime.block_on(ended));
                }
                Err(error) => drop(made.send(Err(error))),
            }
        };
        std::thread::Builder::new().name("keyward-gate".to_owned()).spawn(run)?;
        let thread = thread.recv().map_err(|_| io::Error::other("the thread ended"))??;
        Ok(Self { thread, _until: until })
    }

    /// The listener, with its connections served here.
    pub(super) fn tcp(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let listener = listener.into_std()?;
        let _here = self.thread.enter();
        TcpListener::from_std(listener)
    }

    /// The same.
    pub(super) fn unix(&self, listener: UnixListener) -> io::Result<UnixListener> {
        let listener: StdUnixListener = listener.into_std()?;
        let _here = self.thread.enter();
        UnixListener::from_std(listener)
    }

    /// Does this here.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.thread.spawn(work)
    }
}
