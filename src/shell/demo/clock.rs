//! The system's clock with a wall time that can be stepped, for `--break clock`.

use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use crate::domain::time::{Boottime, Timestamp};
use crate::ports::{Clock, Doing};

/// A clock that can be stepped.
pub(super) struct DemoClock {
    real: Arc<dyn Clock>,
    ahead: AtomicI64,
}

impl DemoClock {
    pub(super) fn new(real: Arc<dyn Clock>) -> Self {
        Self { real, ahead: AtomicI64::new(0) }
    }

    /// Steps the wall clock by so many seconds.
    pub(super) fn step(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for DemoClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.real.now().unix().saturating_add(self.ahead.load(Ordering::SeqCst)))
    }

    fn boottime(&self) -> Boottime {
        self.real.boottime()
    }

    fn boot_id(&self) -> Arc<str> {
        self.real.boot_id()
    }

    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        self.real.sleep(span)
    }
}
