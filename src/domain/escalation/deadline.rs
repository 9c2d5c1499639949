//! The last safe moment, and how long a step may take of what is left until then.

use core::time::Duration;

use crate::domain::time::Timestamp;

/// How long it takes, as it was measured: after the decision there has to be time for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// 95 of 100 executions are over after so long.
    pub execute: Duration,
    /// 95 of 100 verifications are over after so long.
    pub verify: Duration,
    /// After so long 95 of 100 changes are seen everywhere.
    pub propagate: Duration,
    /// And as much to spare: the longest margin of a path that needs it.
    pub margin: Duration,
}

impl Pace {
    /// All of it together.
    #[must_use]
    pub fn total(&self) -> Duration {
        let all = [self.execute, self.verify, self.propagate, self.margin];
        all.into_iter().fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// The last moment at which a decision is early enough: the end of what it is about, less all that follows the decision.
#[must_use]
pub fn must_decide_by(not_after: Timestamp, pace: &Pace) -> Timestamp {
    not_after.minus(pace.total())
}

/// A step takes at most one part in so many of what is left: with a quarter, five steps leave a quarter of the time
/// ((3/4)^5 = 0.24) for whoever is told last.
pub const SHARE: u32 = 4;
/// And at least this: nobody reads, opens and decides in less.
pub const SHORTEST_STEP: Duration = Duration::from_secs(60);

/// How long a step lasts that begins now. What ends past the last safe moment ends there
/// ([`super::walk()`]).
#[must_use]
pub fn step_timeout(configured: Duration, now: Timestamp, decide_by: Timestamp) -> Duration {
    let share = now.until(decide_by).checked_div(SHARE).unwrap_or_default();
    configured.min(share).max(SHORTEST_STEP)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::{DAY, HOUR, MINUTE};

    const PACE: Pace = Pace {
        execute: MINUTE,
        verify: Duration::from_secs(120),
        propagate: HOUR,
        margin: Duration::from_secs(57 * 60),
    };

    #[test]
    fn a_decision_has_to_leave_time_for_all_that_follows() {
        let end = Timestamp::from_unix(1_800_000_000);
        assert_eq!(must_decide_by(end, &PACE), end.minus(HOUR * 2));
        let never = Pace { margin: Duration::MAX, ..PACE };
        assert_eq!(
            must_decide_by(end, &never),
            Timestamp::MIN,
            "what takes for ever should have been decided long ago"
        );
    }

    #[test]
    fn seven_days_left_mean_nothing_on_a_certificate_of_six() {
        let now = Timestamp::from_unix(1_800_000_000);
        let rows = [
            // Configured, what is left, how long the step lasts.
            (MINUTE * 15, DAY * 90, MINUTE * 15),
            (DAY * 7, DAY * 6, HOUR * 36),
            (MINUTE * 15, MINUTE * 20, MINUTE * 5),
            (MINUTE * 15, MINUTE * 2, MINUTE),
            (MINUTE * 15, Duration::ZERO, MINUTE),
        ];
        for (configured, left, lasts) in rows {
            assert_eq!(step_timeout(configured, now, now.plus(left)), lasts, "{configured:?} of {left:?}");
        }
        assert_eq!(step_timeout(HOUR, now, now.minus(DAY)), MINUTE);
    }

    proptest! {
        #[test]
        fn less_time_left_never_makes_a_step_longer(configured in 0..1_000_000_u64, one in 0..10_000_000_i64, more in 0..10_000_000_i64) {
            let now = Timestamp::from_unix(1_800_000_000);
            let end = |left: i64| Timestamp::from_unix(now.unix() + left);
            let lasts = |left: i64| step_timeout(Duration::from_secs(configured), now, end(left));
            prop_assert!(lasts(one) <= lasts(one + more));
            prop_assert!(lasts(one) <= Duration::from_secs(configured).max(SHORTEST_STEP));
        }
    }
}
