//! Our own limit of requests a second to each host, so that a CA never has to tell us.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::time::Boottime;
use crate::ports::Clock;

/// Token buckets by host, in the generic-cell-rate form: one stored time each.
pub(super) struct Limiter {
    clock: Arc<dyn Clock>,
    /// Per host the time at which its bucket is full again.
    full_at: Mutex<BTreeMap<String, Boottime>>,
}

/// A handful of CAs, some with a host of their own for renewal information. Full buckets are dropped first.
const MOST_HOSTS: usize = 64;
/// Whoever would have to wait longer is told so instead: it is as long as a whole request may take.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Limiter {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, full_at: Mutex::new(BTreeMap::new()) }
    }

    /// Waits until a request to `host` is within `per_second`; a second's worth may go at once.
    ///
    /// # Errors
    /// The wait, when it is longer than 30 s; nothing was taken.
    pub(super) async fn pass(&self, host: &str, per_second: u32) -> Result<(), Duration> {
        let wait = self.take(host, per_second)?;
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
        Ok(())
    }

    fn take(&self, host: &str, per_second: u32) -> Result<Duration, Duration> {
        let per_second = per_second.max(1);
        let refill = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::from_secs(1));
        let now = self.clock.boottime();
        let mut hosts = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST_HOSTS {
            hosts.retain(|_, full| *full > now);
        }
        let full = hosts.get(host).copied().unwrap_or(now).max(now);
        // There must be one token: the debt may be at most (per_second - 1) refills.
        let allowed = refill.saturating_mul(per_second.saturating_sub(1));
        let wait = full.since(now).saturating_sub(allowed);
        if wait > LONGEST_WAIT {
            return Err(wait);
        }
        if hosts.len() < MOST_HOSTS || hosts.contains_key(host) {
            hosts.insert(host.to_owned(), full.plus(refill));
        }
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::ports::Doing;

    struct Still(Mutex<Boottime>);
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix(0)
        }
        fn boottime(&self) -> Boottime {
            *self.0.lock().expect("clock")
        }
        fn boot_id(&self) -> Arc<str> {
            Arc::from("still")
        }
        fn sleep(&self, _: Duration) -> Doing<'_, ()> {
            Box::pin(async {})
        }
    }

    #[test]
    fn a_second_s_worth_goes_at_once_and_the_rest_at_the_rate() {
        let clock = Arc::new(Still(Mutex::new(Boottime::from_boot(Duration::from_secs(100)))));
        let limiter = Limiter::new(clock.clone());
        let waits: Vec<u128> = (0..6).map(|_| limiter.take("a", 4).expect("wait").as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 250, 500]);
        assert_eq!(limiter.take("b", 4), Ok(Duration::ZERO), "hosts do not share");
        *clock.0.lock().expect("clock") = Boottime::from_boot(Duration::from_secs(200));
        assert_eq!(limiter.take("a", 4), Ok(Duration::ZERO));
    }

    #[test]
    fn nobody_queues_for_longer_than_half_a_minute() {
        let clock = Arc::new(Still(Mutex::new(Boottime::from_boot(Duration::ZERO))));
        let limiter = Limiter::new(clock);
        let passed = (0..100).filter(|_| limiter.take("a", 1).is_ok()).count();
        assert_eq!(passed, 31);
    }
}
