//! Threads of their own for those who ask gates.
//!
//! Renewals, scrapes and pages keep the guardian's threads busy for milliseconds at a time; a question to a gate is answered
//! in microseconds and must not wait behind them. So who asks over loopback or the gate's socket is served by these
//! threads; whatever is no question to a gate is carried out by the guardian's, and only sent from here.

use core::future::Future;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// One thread serves so many connections alone. It sleeps and wakes less the more it has to do, so a few are answered
/// faster by one; many by two (docs/benchmarks.md).
const ALONE: usize = 4;

/// The threads; they end, with all that they do, when this is dropped.
///
/// Each with a runtime of its own, and a connection stays where it is: threads that share their work wake each other with
/// each answer to look for some, which takes a third more processor time, and in a storm of renewals the slowest answers
/// are three times as slow (docs/benchmarks.md).
#[derive(Debug)]
pub(super) struct Apart {
    threads: Threads,
    /// Never told anything: that they are dropped is what ends the threads.
    _until: Vec<oneshot::Sender<()>>,
}

impl Apart {
    /// Starts them.
    ///
    /// # Errors
    /// If there are no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let (first, until) = thread("keyward-gate")?;
        let mut threads = Threads { first: Some(first), second: None };
        let mut all = vec![until];
        // On one processor the second would only take turns with the first.
        if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
            let (second, until) = thread("keyward-gate-2")?;
            threads.second = Some(second);
            all.push(until);
        }
        Ok(Self { threads, _until: all })
    }

    /// The listener, with its connections taken here.
    pub(super) fn tcp(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let listener = listener.into_std()?;
        let _here = self.threads.first.as_ref().map(|thread| thread.runtime.enter());
        TcpListener::from_std(listener)
    }

    /// The same.
    pub(super) fn unix(&self, listener: UnixListener) -> io::Result<UnixListener> {
        let listener: StdUnixListener = listener.into_std()?;
        let _here = self.threads.first.as_ref().map(|thread| thread.runtime.enter());
        UnixListener::from_std(listener)
    }

    /// Does this in the first one.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        match &self.threads.first {
            Some(thread) => thread.runtime.spawn(work),
            None => tokio::spawn(work),
        }
    }

    /// Where connections go.
    pub(super) fn threads(&self) -> Threads {
        self.threads.clone()
    }
}

/// Starts a thread that does whatever it is given, until the sender is dropped.
fn thread(name: &str) -> io::Result<(Thread, oneshot::Sender<()>)> {
    let (until, ended) = oneshot::channel::<()>();
    let (made, runtime) = std::sync::mpsc::sync_channel(1);
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
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    let runtime = runtime.recv().map_err(|_| io::Error::other("the thread ended"))??;
    Ok((Thread { runtime, taken: Arc::default() }, until))
}

#[derive(Clone, Debug)]
struct Thread {
    runtime: Handle,
    /// Connections that are served there.
    taken: Arc<AtomicUsize>,
}

/// Where the connections of a listener are served; by default where it listens.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads {
    first: Option<Thread>,
    second: Option<Thread>,
}

impl Threads {
    /// Serves a connection.
    pub(super) fn serve(&self, all: &mut JoinSet<()>, work: impl Future<Output = ()> + Send + 'static) {
        let Some(first) = &self.first else {
            all.spawn(work);
            return;
        };
        let there = |thread: &Thread| thread.taken.load(Ordering::Relaxed);
        let second = self.second.as_ref().filter(|second| there(first) >= ALONE && there(second) < there(first));
        let thread = second.unwrap_or(first);
        let seat = Seat::take(&thread.taken);
        all.spawn_on(
            async move {
                work.await;
                drop(seat);
            },
            &thread.runtime,
        );
    }
}

/// A connection's place in a thread.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::Relaxed);
        Self(taken.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that can be served by another thread than the one that took it.
pub(super) trait Movable: Sized {
    /// Takes it over to where this is called.
    ///
    /// # Errors
    /// If the system has no room for it.
    fn here(self) -> io::Result<Self>;
}

impl Movable for TcpStream {
    fn here(self) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

impl Movable for UnixStream {
    fn here(self) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_stay_with_one_thread_and_many_are_shared() {
        let apart = Apart::start().unwrap();
        let threads = apart.threads();
        let Some(second) = threads.second.clone() else { return };
        let mut all = JoinSet::new();
        let (end, _) = tokio::sync::broadcast::channel::<()>(1);
        let mut seen = Vec::new();
        for _ in 0..16 {
            let mut ended = end.subscribe();
            threads.serve(&mut all, async move { drop(ended.recv().await) });
            seen.push(second.taken.load(Ordering::Relaxed));
        }
        assert_eq!(seen, [0, 0, 0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]);
        drop(end);
        let waiting = Builder::new_current_thread().build().unwrap();
        waiting.block_on(async { while all.join_next().await.is_some() {} });
        assert_eq!(second.taken.load(Ordering::Relaxed), 0, "places are given back");
    }
}
