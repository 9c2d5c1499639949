//! Watches the two clocks against each other.
//!
//! The wall clock says when certificates end, and anybody with root can step it; boot time never steps. While both move
//! alike, the wall clock is believed.

use core::time::Duration;

use crate::domain::gate::CLOCK_TOLERANCE;
use crate::domain::state::ClockMark;
use crate::domain::time::{Boottime, Timestamp, human_span};

/// How often the anchor is moved, so that slow, honest corrections (NTP slews at most 0.5 ms/s) never add up to a step.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);

/// The clocks as they stood when they were last believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockWatch {
    wall: Timestamp,
    boot: Boottime,
    fault: Option<String>,
}

impl ClockWatch {
    /// Starts watching. `mark` is what was recorded last: a wall clock before it went backwards while nobody looked.
    pub(crate) fn start(wall: Timestamp, boot: Boottime, mark: Option<&ClockMark>) -> Self {
        let fault = mark
            .filter(|m| wall.plus(CLOCK_TOLERANCE) < m.wall)
            .map(|m| format!("the wall clock says {wall}, but {} was recorded before: it went backwards", m.wall));
        Self { wall, boot, fault }
    }

    /// Compares; returns whether the fault is new or gone.
    pub(crate) fn look(&mut self, wall: Timestamp, boot: Boottime) -> bool {
        let before = self.fault.is_some();
        let passed = boot.since(self.boot);
        let expected = self.wall.plus(passed);
        let off = Duration::from_secs(wall.unix().abs_diff(expected.unix()));
        // One second of slack: whole seconds are compared.
        if off > CLOCK_TOLERANCE.saturating_add(Duration::from_secs(1)) {
            let way = if wall > expected { "ahead of" } else { "behind" };
            self.fault = Some(format!(
                "the wall clock says {wall}, {} {way} what the time since boot tells ({expected})",
                human_span(off)
            ));
        } else if self.fault.is_none() && passed >= ANCHOR_EVERY {
            (self.wall, self.boot) = (wall, boot);
        } else if self.stepped() {
            self.fault = None;
        }
        before != self.fault.is_some()
    }

    /// The fault came from a step that was seen, and not from a record before the start.
    fn stepped(&self) -> bool {
        self.fault.as_ref().is_some_and(|f| f.contains("since boot"))
    }

    /// A person vouches for the time as it is.
    pub(crate) fn accept(&mut self, wall: Timestamp, boot: Boottime) {
        *self = Self { wall, boot, fault: None };
    }

    /// Why the wall clock is not believed.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, boot: u64) -> (Timestamp, Boottime) {
        (Timestamp::from_unix(1_790_000_000 + wall), Boottime::from_boot(Duration::from_secs(boot)))
    }

    fn watch() -> ClockWatch {
        let (wall, boot) = at(0, 0);
        ClockWatch::start(wall, boot, None)
    }

    #[test]
    fn a_step_in_either_direction_is_a_fault_and_stepping_back_mends_it() {
        for step in [-3_600, 3_600, 31_536_000] {
            let mut watch = watch();
            let (wall, boot) = at(10 + step, 10);
            assert!(watch.look(wall, boot) && watch.fault().is_some(), "{step}");
            let (wall, boot) = at(500 + step, 500);
            assert!(!watch.look(wall, boot) && watch.fault().is_some(), "a fault does not heal by waiting");
            let (wall, boot) = at(510, 510);
            assert!(watch.look(wall, boot) && watch.fault().is_none());
        }
    }

    #[test]
    fn a_slow_slew_over_weeks_is_no_fault() {
        let mut watch = watch();
        for minute in 0..40_000_i64 {
            // 0.5 ms/s for weeks: 20 minutes in all.
            let (wall, boot) = at(minute * 60 + minute * 30 / 1_000, u64::try_from(minute * 60).unwrap());
            watch.look(wall, boot);
            assert_eq!(watch.fault(), None, "minute {minute}");
        }
    }

    #[test]
    fn a_start_before_the_last_record_is_a_fault_until_a_person_accepts_it() {
        let (wall, boot) = at(0, 5);
        let mark = ClockMark { wall: wall.plus(Duration::from_secs(100)), boot, boot_id: "a".into() };
        let mut watch = ClockWatch::start(wall, boot, Some(&mark));
        let (later, boot) = at(60, 65);
        watch.look(later, boot);
        assert!(watch.fault().is_some());
        watch.accept(later, boot);
        assert_eq!(watch.fault(), None);
    }
}
