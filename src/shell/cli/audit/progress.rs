//! One line on the terminal that says how far a long command is.

use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use crate::domain::time::Boottime;
use crate::ports::Clock;
use crate::shell::wire;

/// Between two lines: often enough to be seen moving.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Nothing is said where nobody looks: standard error is no terminal.
pub(super) struct Progress {
    clock: Arc<dyn Clock>,
    started: Boottime,
    told: Option<Boottime>,
    seen: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let clock = wire::clock();
        let started = clock.boottime();
        Self { clock, started, told: None, seen: io::stderr().is_terminal() }
    }

    pub(super) fn tell(&mut self, done: u64, total: u64) {
        if !self.seen {
            return;
        }
        let now = self.clock.boottime();
        if self.told.is_some_and(|told| now.since(told) < TOLD_EVERY) {
            return;
        }
        self.told = Some(now);
        let millis = u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = done.saturating_mul(1_000) / millis;
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        write!(io::stderr().lock(), "\r{done} of {total} entries ({percent} %), {rate} a second\x1b[K").ok();
    }

    /// Takes the line away and gives how long it took.
    pub(super) fn done(self) -> Duration {
        if self.told.is_some() {
            write!(io::stderr().lock(), "\r\x1b[K").ok();
        }
        self.clock.boottime().since(self.started)
    }
}
