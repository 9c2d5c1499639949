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
/// One second of slack: whole seconds are compared.
const TOLERANCE: Duration = Duration::from_secs(CLOCK_TOLERANCE.as_secs() + 1);

/// The clocks as they stood when they were last believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockWatch {
    wall: Timestamp,
    boot: Boottime,
    /// What was wrong at the start: only a person can mend it.
    start: Option<String>,
    /// A step that was seen: taken back, it is mended.
    step: Option<String>,
}

impl ClockWatch {
    /// Starts watching. `mark` is what was recorded last: a wall clock before it went backwards while nobody looked, and
    /// within the same boot any step shows.
    pub(crate) fn start(wall: Timestamp, boot: Boottime, boot_id: &str, mark: Option<&ClockMark>) -> Self {
        let start = mark.and_then(|m| {
            if wall.plus(CLOCK_TOLERANCE) < m.wall {
                return Some(format!(
                    "the wall clock says {wall}, but {} was recorded before: it went backwards",
                    m.wall
                ));
            }
            let same_boot = &*m.boot_id == boot_id;
            if same_boot && boot < m.boot {
                let text = "the time since boot is shorter than what was recorded in the same boot: it went backwards";
                return Some(text.to_owned());
            }
            // Slewing is honest: 0.5 ms/s at most, and twice that is allowed.
            let passed = boot.since(m.boot);
            let slack = TOLERANCE.saturating_add(passed / 1_000);
            (same_boot && apart(wall, m.wall.plus(passed)) > slack).then(|| {
                let expected = m.wall.plus(passed);
                format!("the wall clock says {wall}, expected {expected}: it stepped while keyward did not run")
            })
        });
        Self { wall, boot, start, step: None }
    }

    /// Compares; returns whether the fault is new or gone.
    pub(crate) fn look(&mut self, wall: Timestamp, boot: Boottime) -> bool {
        let before = self.fault().is_some();
        let passed = boot.since(self.boot);
        let expected = self.wall.plus(passed);
        let off = apart(wall, expected);
        if off > TOLERANCE {
            let way = if wall > expected { "ahead of" } else { "behind" };
            self.step = Some(format!(
                "the wall clock says {wall}, {} {way} what the time since boot tells ({expected})",
                human_span(off)
            ));
        } else if self.step.is_some() {
            self.step = None;
        } else if passed >= ANCHOR_EVERY {
            (self.wall, self.boot) = (wall, boot);
        }
        before != self.fault().is_some()
    }

    /// Whether the clocks are not believed as they stand now, whether anybody has compared them or not.
    pub(crate) fn doubts(&self, wall: Timestamp, boot: Boottime) -> bool {
        self.start.is_some() || apart(wall, self.wall.plus(boot.since(self.boot))) > TOLERANCE
    }

    /// A person vouches for the time as it is.
    pub(crate) fn accept(&mut self, wall: Timestamp, boot: Boottime) {
        *self = Self { wall, boot, start: None, step: None };
    }

    /// Why the wall clock is not believed.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.step.as_deref().or(self.start.as_deref())
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    Duration::from_secs(one.unix().abs_diff(other.unix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, boot: u64) -> (Timestamp, Boottime) {
        (Timestamp::from_unix(1_790_000_000 + wall), Boottime::from_boot(Duration::from_secs(boot)))
    }

    fn watch() -> ClockWatch {
        let (wall, boot) = at(0, 0);
        ClockWatch::start(wall, boot, "a", None)
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
        let mut watch = ClockWatch::start(wall, boot, "a", Some(&mark));
        let (later, boot) = at(60, 65);
        watch.look(later, boot);
        assert!(watch.fault().is_some());
        watch.accept(later, boot);
        assert_eq!(watch.fault(), None);
    }

    #[test]
    fn a_step_and_back_does_not_mend_a_wrong_start() {
        let (wall, boot) = at(0, 5);
        let mark = ClockMark { wall: wall.plus(Duration::from_secs(3_600)), boot, boot_id: "before".into() };
        let mut watch = ClockWatch::start(wall, boot, "a", Some(&mark));
        let (stepped, later) = at(3_700, 10);
        watch.look(stepped, later);
        let (back, later) = at(15, 20);
        assert!(!watch.look(back, later) && watch.fault().is_some());
    }

    #[test]
    fn within_one_boot_a_step_while_nobody_looked_is_a_fault_and_a_slew_is_none() {
        let (wall, boot) = at(0, 5);
        let mark = ClockMark { wall, boot, boot_id: "a".into() };
        for (wall_now, boot_now, boot_id, fault) in
            [(90, 65, "a", true), (62, 65, "a", false), (9_000, 65, "b", false), (86_440, 86_405, "a", false)]
        {
            let (wall, boot) = at(wall_now, boot_now);
            assert_eq!(ClockWatch::start(wall, boot, boot_id, Some(&mark)).fault().is_some(), fault, "{wall_now}");
        }
    }

    #[test]
    fn a_time_since_boot_that_goes_back_within_one_boot_is_a_fault() {
        let (wall, boot) = at(0, 500);
        let mark = ClockMark { wall, boot, boot_id: "a".into() };
        for (boot_now, boot_id, fault) in [(499, "a", true), (499, "b", false), (510, "a", false)] {
            let (wall, boot) = at(10, boot_now);
            assert_eq!(ClockWatch::start(wall, boot, boot_id, Some(&mark)).fault().is_some(), fault, "{boot_now}");
        }
    }
}
