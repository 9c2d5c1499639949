//! Whether a connection is still used, found out for it now and then and not with every question.
//!
//! The HTTP library can time each head, and sets a timer anew for each: that is a tenth of the time of an answer of the gate.
//! Here a connection counts what it sends, and is looked at a few times while it may be silent.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

/// So often a connection is looked at while it may be silent: it ends a fifth of that later at most.
const LOOKS: u32 = 5;

/// The life of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<Life>);

#[derive(Debug, Default)]
struct Life {
    /// What was sent, in pieces.
    beats: AtomicU64,
    /// Requests that are carried out.
    working: AtomicUsize,
}

impl Pulse {
    /// Something was sent.
    pub(super) fn beat(&self) {
        // Only the connection's own thread writes.
        self.0.beats.store(self.0.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// A request is being carried out, until this is dropped.
    pub(super) fn work(&self) -> Work {
        self.0.working.fetch_add(1, Ordering::Relaxed);
        Work(self.0.clone())
    }

    /// Ends when nothing was sent and nothing was done for `patience`, or up to a fifth longer: then the peer is idle, or does
    /// not come to the end of its head.
    #[allow(
        clippy::disallowed_methods,
        reason = "a peer's patience is about this socket, not about the guardian's time"
    )]
    pub(super) async fn stops(&self, patience: Duration) {
        let look = patience.checked_div(LOOKS).unwrap_or(patience);
        let mut silence = Silence::default();
        while !silence.is_complete(&self.0) {
            tokio::time::sleep(look).await;
        }
    }
}

/// What was seen of a connection lately.
#[derive(Debug, Default)]
struct Silence {
    beats: u64,
    quiet: u32,
}

impl Silence {
    /// Looks; whether it was silent from the first look to this one, and for long enough.
    fn is_complete(&mut self, life: &Life) -> bool {
        let beats = life.beats.load(Ordering::Relaxed);
        let lives = beats != self.beats || life.working.load(Ordering::Relaxed) > 0;
        *self = Self { beats, quiet: if lives { 0 } else { self.quiet.saturating_add(1) } };
        self.quiet > LOOKS
    }
}

/// A request that is carried out.
#[derive(Debug)]
pub(super) struct Work(Arc<Life>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stops_only_when_it_neither_sends_nor_works() {
        let pulse = Pulse::default();
        let mut silence = Silence::default();
        let mut looks = |n: usize| (0..n).map(|_| silence.is_complete(&pulse.0)).collect::<Vec<_>>();
        assert_eq!(looks(6), [false, false, false, false, false, true], "one that never says anything");
        pulse.beat();
        assert_eq!(looks(6), [false; 6]);
        pulse.beat();
        assert_eq!(looks(6), [false; 6]);
        let work = pulse.work();
        assert_eq!(looks(60), [false; 60]);
        drop(work);
        assert_eq!(looks(6), [false, false, false, false, false, true]);
    }
}
