//! Deadlines under both clocks: the wall clock may step, the boot clock may begin anew, and neither alone may be believed.
//!
//! A deadline is over as soon as *either* clock says so. Refuses to know what time it is.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::time::{Boottime, Timestamp};

/// Both clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// Time since boot, suspend included.
    pub boot: Boottime,
    /// Identity of the boot that this is the time since.
    pub boot_id: Arc<str>,
}

/// A wall clock may be this much behind what was seen before: NTP corrects by parts of a second, and of two events that
/// come together the second may have been told its time first. As much as the clocks of a gate may part.
pub const STEP_TOLERANCE: Duration = Duration::from_secs(2);

impl Moment {
    /// Whether the clocks are behind `mark`, which was seen before: then nothing that is bounded by time may begin.
    #[must_use]
    pub fn is_behind(&self, mark: &Self) -> bool {
        let wall = self.wall.plus(STEP_TOLERANCE) < mark.wall;
        let boot = self.boot_id == mark.boot_id && self.boot.plus(STEP_TOLERANCE) < mark.boot;
        wall || boot
    }

    /// As an entry has it: in whole milliseconds since boot, cut and never rounded up, so that no deadline is later than it
    /// was.
    #[must_use]
    pub fn recorded(&self) -> Self {
        let millis = u64::try_from(self.boot.as_duration().as_millis()).unwrap_or(u64::MAX);
        Self { boot: Boottime::from_boot(Duration::from_millis(millis)), ..self.clone() }
    }

    /// The latest that it can be by both clocks, after `mark` was seen: within one boot as much has passed as the boot clock
    /// says, whatever was done to the wall clock.
    #[must_use]
    pub fn after(&self, mark: &Self) -> Self {
        let same = self.boot_id == mark.boot_id;
        let passed = if same { self.boot.since(mark.boot) } else { Duration::ZERO };
        Self { wall: self.wall.max(mark.wall.plus(passed)), ..self.clone() }
    }
}

/// When something is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// By the wall clock: from then on.
    pub wall: Timestamp,
    /// By the boot clock: from then on.
    pub boot: Boottime,
    /// Identity of the boot that `boot` is of.
    pub boot_id: Arc<str>,
}

impl Deadline {
    /// At `wall`, and under the boot clock as long after `now` as it is until then.
    #[must_use]
    pub fn at(wall: Timestamp, now: &Moment) -> Self {
        Self { wall, boot: now.boot.plus(now.wall.until(wall)), boot_id: now.boot_id.clone() }
    }

    /// So long after `now`.
    #[must_use]
    pub fn after(span: Duration, now: &Moment) -> Self {
        Self::at(now.wall.plus(span), now)
    }

    /// Whether it is over under either clock. What a boot clock says counts in its own boot only.
    #[must_use]
    pub fn is_over(&self, now: &Moment) -> bool {
        now.wall >= self.wall || (now.boot_id == self.boot_id && now.boot >= self.boot)
    }

    /// What is over as soon as one of both is. The boot clock of another boot says nothing.
    #[must_use]
    pub fn earlier(&self, other: &Self) -> Self {
        let boot = if self.boot_id == other.boot_id { self.boot.min(other.boot) } else { self.boot };
        Self { wall: self.wall.min(other.wall), boot, boot_id: self.boot_id.clone() }
    }

    /// The same end, bound to the boot clock of `now` where the machine has booted since.
    #[must_use]
    pub fn bound(&self, now: &Moment) -> Self {
        if now.boot_id == self.boot_id { self.clone() } else { Self::at(self.wall, now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: i64, boot: u64, boot_id: &str) -> Moment {
        Moment {
            wall: Timestamp::from_unix(wall),
            boot: Boottime::from_boot(Duration::from_secs(boot)),
            boot_id: Arc::from(boot_id),
        }
    }

    #[test]
    fn a_deadline_is_over_under_either_clock() {
        let end = Deadline::at(Timestamp::from_unix(1_100), &moment(1_000, 50, "a"));
        let rows = [
            (moment(1_099, 149, "a"), false),
            (moment(1_100, 60, "a"), true),
            // The wall clock was set back.
            (moment(900, 150, "a"), true),
            (moment(900, 149, "a"), false),
            // After a reboot the wall clock counts alone.
            (moment(1_050, 900, "b"), false),
            (moment(1_100, 1, "b"), true),
        ];
        for (now, over) in rows {
            assert_eq!(end.is_over(&now), over, "{now:?}");
        }
    }

    #[test]
    fn after_a_reboot_a_deadline_is_bound_to_the_new_boot_clock() {
        let end = Deadline::at(Timestamp::from_unix(1_100), &moment(1_000, 50, "a"));
        assert_eq!(end.bound(&moment(1_050, 90, "a")), end);
        let bound = end.bound(&moment(1_060, 5, "b"));
        assert!(bound.is_over(&moment(1_000, 45, "b")) && !bound.is_over(&moment(1_000, 44, "b")));
    }

    #[test]
    fn clocks_that_went_back_are_seen_and_small_corrections_are_not() {
        let mark = moment(1_000, 50, "a");
        let rows = [
            (moment(998, 50, "a"), false),
            (moment(997, 51, "a"), true),
            (moment(1_001, 47, "a"), true),
            (moment(1_001, 0, "b"), false),
            (moment(997, 900, "b"), true),
        ];
        for (now, behind) in rows {
            assert_eq!(now.is_behind(&mark), behind, "{now:?}");
        }
    }
}
