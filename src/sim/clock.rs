//! Simulated time, and the loop that runs a future in it: time jumps to the next timer whenever nothing else can go on.

use core::future::Future;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use crate::domain::time::{Boottime, Timestamp};
use crate::ports::{Clock, Doing};

/// A clock that stands still until [`run`] moves it.
#[derive(Debug)]
pub struct SimClock {
    /// Nanoseconds since boot. Everybody asks for the time at every step, so no lock stands before it.
    boot: AtomicU64,
    /// The wall clock at boot; a step changes it.
    wall_at_boot: AtomicI64,
    boot_id: Arc<str>,
    timers: Mutex<Timers>,
}

#[derive(Debug, Default)]
struct Timers {
    waiting: BTreeMap<(u64, u64), Waker>,
    next: u64,
}

impl SimClock {
    /// Boots at this wall time.
    #[must_use]
    pub fn new(wall: Timestamp) -> Self {
        Self {
            boot: AtomicU64::new(0),
            wall_at_boot: AtomicI64::new(wall.unix()),
            boot_id: Arc::from("boot-0"),
            timers: Mutex::default(),
        }
    }

    /// Somebody sets the wall clock: it steps by so many seconds, boot time does not.
    pub fn step(&self, seconds: i64) {
        let wall = self.wall_at_boot.load(Ordering::SeqCst);
        self.wall_at_boot.store(wall.saturating_add(seconds), Ordering::SeqCst);
    }

    /// Lets time pass without running anything, as while the process is dead.
    pub fn pass(&self, span: Duration) {
        self.boot.store(self.nanos().saturating_add(nanos(span)), Ordering::SeqCst);
    }

    fn nanos(&self) -> u64 {
        self.boot.load(Ordering::SeqCst)
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jumps to the next timer and wakes it; `false` if there is none.
    fn advance(&self) -> bool {
        let Some(((at, _), waker)) = self.timers().waiting.pop_first() else { return false };
        self.boot.fetch_max(at, Ordering::SeqCst);
        waker.wake();
        true
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let seconds = i64::try_from(self.nanos() / 1_000_000_000).unwrap_or(i64::MAX);
        Timestamp::from_unix(self.wall_at_boot.load(Ordering::SeqCst).saturating_add(seconds))
    }

    fn boottime(&self) -> Boottime {
        Boottime::from_boot(Duration::from_nanos(self.nanos()))
    }

    fn boot_id(&self) -> Arc<str> {
        self.boot_id.clone()
    }

    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        let at = self.nanos().saturating_add(nanos(span));
        Box::pin(Sleep { clock: self, at, timer: None })
    }
}

/// A span as the clock counts, up to its end after 584 years.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

struct Sleep<'a> {
    clock: &'a SimClock,
    at: u64,
    timer: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        if clock.nanos() >= self.at {
            return Poll::Ready(());
        }
        let mut timers = clock.timers();
        let id = *self.timer.get_or_insert_with(|| {
            timers.next = timers.next.wrapping_add(1);
            timers.next
        });
        timers.waiting.insert((self.at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            self.clock.timers().waiting.remove(&(self.at, id));
        }
    }
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a future in simulated time. `None` if it waits for something that can never come.
pub fn run<F: Future>(clock: &SimClock, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        while flag.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
        }
        if !clock.advance() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_passes_at_once_and_a_dropped_timer_is_gone() {
        let clock = SimClock::new(Timestamp::from_unix(1_790_000_000));
        let year = Duration::from_secs(31_536_000);
        let slept = run(&clock, async {
            drop(clock.sleep(Duration::from_secs(1)));
            clock.sleep(year).await;
            clock.boottime().as_duration()
        });
        assert_eq!(slept, Some(year));
        assert_eq!(clock.now(), Timestamp::from_unix(1_790_000_000).plus(year));
        assert!(clock.timers().waiting.is_empty());
    }

    #[test]
    fn waiting_for_nothing_is_noticed() {
        let clock = SimClock::new(Timestamp::from_unix(0));
        assert_eq!(run(&clock, core::future::pending::<()>()), None);
    }
}
