//! How often somebody may ask: a bucket of tokens for each, and few buckets.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::domain::time::Boottime;

/// Buckets by whom they are for.
#[derive(Debug)]
pub struct Throttle<K> {
    burst: u32,
    every: Duration,
    most: usize,
    buckets: BTreeMap<K, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Boottime,
}

impl<K: Ord + Clone> Throttle<K> {
    /// Everybody may ask `burst` times at once and then once in `every`; at most `most` are known at once.
    pub fn new(burst: u32, every: Duration, most: usize) -> Self {
        Self { burst, every, most, buckets: BTreeMap::new() }
    }

    /// Whether this one may be answered. Whoever comes while too many are known is refused.
    pub fn admits(&mut self, who: &K, now: Boottime) -> bool {
        if !self.buckets.contains_key(who) {
            if self.buckets.len() >= self.most {
                self.forget_the_rested(now);
            }
            if self.buckets.len() >= self.most {
                return false;
            }
            self.buckets.insert(who.clone(), Bucket { tokens: self.burst, filled: now });
        }
        let (burst, every) = (self.burst, self.every);
        let Some(bucket) = self.buckets.get_mut(who) else { return false };
        bucket.fill(burst, every, now);
        let admitted = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        admitted
    }

    fn forget_the_rested(&mut self, now: Boottime) {
        let (burst, every) = (self.burst, self.every);
        self.buckets.retain(|_, bucket| {
            bucket.fill(burst, every, now);
            bucket.tokens < burst
        });
    }
}

impl Bucket {
    fn fill(&mut self, burst: u32, every: Duration, now: Boottime) {
        let passed = now.since(self.filled);
        let drops = passed.as_micros().checked_div(every.as_micros()).unwrap_or(u128::MAX);
        if let Ok(drops @ 1..) = u32::try_from(drops.min(u128::from(burst))) {
            self.tokens = self.tokens.saturating_add(drops).min(burst);
            // What is left of the time counts for the next one, unless the bucket ran over.
            let used = every.saturating_mul(drops);
            self.filled = if self.tokens == burst { now } else { self.filled.plus(used) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Boottime {
        Boottime::from_boot(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_passes_then_one_at_a_time_and_each_for_itself() {
        let mut throttle = Throttle::new(3, Duration::from_millis(100), 2);
        let mut asked = |who: &'static str, ms| throttle.admits(&who, at(ms));
        assert_eq!([asked("a", 0), asked("a", 0), asked("a", 0), asked("a", 0)], [true, true, true, false]);
        assert!(asked("b", 0) && !asked("c", 50), "no room for a third");
        assert!(!asked("a", 99) && asked("a", 150) && !asked("a", 199) && asked("a", 200));
        assert!(asked("c", 10_000), "the rested are forgotten");
        assert_eq!((0..10).filter(|_| asked("a", 10_000)).count(), 3);
    }
}
