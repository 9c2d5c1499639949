//! The machine's clocks.
//!
//! Refuses to know time zones and what a time means.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::time::{Boottime, Timestamp};
use crate::ports::{Clock, Doing};

/// Where Linux says which boot this is: a random UUID, new with every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The runtime's timers stand still while the machine is suspended. A sleep looks at boot time at least this often, so a
/// suspended machine wakes its sleepers at most this late, at the cost of two wake-ups a minute for each sleeper.
const SLICE: Duration = Duration::from_secs(30);

/// Wall clock, `CLOCK_BOOTTIME` and the runtime's timers.
#[derive(Clone)]
pub struct SystemClock {
    boot_id: Arc<str>,
}

impl SystemClock {
    /// Reads which boot this is.
    #[must_use]
    pub fn new() -> Self {
        Self { boot_id: boot_id() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
        let now = SystemTime::now();
        let seconds = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, i64::wrapping_neg),
        };
        Timestamp::from_unix(seconds)
    }

    fn boottime(&self) -> Boottime {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Since boot, so neither part is ever negative.
        let (seconds, nanos) = (u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0));
        Boottime::from_boot(Duration::new(seconds, nanos))
    }

    fn boot_id(&self) -> Arc<str> {
        Arc::clone(&self.boot_id)
    }

    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        Box::pin(async move {
            let from = self.boottime();
            loop {
                let rest = span.saturating_sub(self.boottime().since(from));
                if rest.is_zero() {
                    return;
                }
                #[allow(clippy::disallowed_methods, reason = "this is the one place that waits")]
                tokio::time::sleep(rest.min(SLICE)).await;
            }
        })
    }
}

/// Which boot this is. Where the kernel does not say, every start of the process counts as a boot of its own: times of
/// before are then not comparable, which is the safe side.
fn boot_id() -> Arc<str> {
    let read = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let id = read.trim();
    if id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Arc::from(id);
    }
    let mut random = [0_u8; 16];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => Arc::from(format!("start-{:032x}", u128::from_be_bytes(random))),
        Err(_) => Arc::from(format!("start-of-process-{}", std::process::id())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_past_the_year_of_writing() {
        assert!(SystemClock::new().now() > Timestamp::from_unix(1_767_225_600));
    }

    #[test]
    fn boot_time_never_goes_back_and_the_boot_has_one_name() {
        let clock = SystemClock::new();
        let first = clock.boottime();
        assert!(clock.boottime() >= first && first.as_duration() > Duration::ZERO);
        assert_eq!(clock.boot_id(), SystemClock::new().boot_id());
    }

    #[tokio::test]
    async fn a_sleep_lasts_at_least_its_span_of_boot_time() {
        let clock = SystemClock::new();
        let from = clock.boottime();
        clock.sleep(Duration::from_millis(20)).await;
        assert!(clock.boottime().since(from) >= Duration::from_millis(20));
    }
}
