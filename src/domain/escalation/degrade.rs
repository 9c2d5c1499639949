//! What happens when people cannot keep up: fixed in advance, so that nobody has to decide it in the middle of it.
//!
//! | mode | when | then |
//! |---|---|---|
//! | D1 | the oldest is past half of its SLO | another team is told |
//! | D2 | too many wait, or reviews take too long | only what has a deadline is asked |
//! | D3 | nobody is there who could decide | nothing at T3 and above; what was approved beforehand goes on |
//! | D4 | the last safe moment of one is past | the paths that stand on it close |
//!
//! No mode approves anything, and none lowers what has to come together.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::domain::exception::{Hours, RequestId, Stakes};
use crate::domain::time::Timestamp;

/// One of the modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Another team is told.
    Reroute,
    /// Only what has a deadline is asked.
    DeadlinesOnly,
    /// Nothing at T3 and above.
    NobodyEligible,
    /// Paths close.
    Overdue,
}

impl Mode {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reroute => "D1",
            Self::DeadlinesOnly => "D2",
            Self::NobodyEligible => "D3",
            Self::Overdue => "D4",
        }
    }
}

/// A request that waits for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which one.
    pub id: RequestId,
    /// What is at stake.
    pub stakes: Stakes,
    /// Since when people are asked.
    pub since: Timestamp,
    /// Whether something ends if it is not decided, and when it has to be decided by.
    pub decide_by: Option<Timestamp>,
    /// How many people could decide it now.
    pub eligible: usize,
    /// How many more of them have to agree.
    pub needed: usize,
}

/// What people are expected to keep up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// 95 of 100 reviews are over after so long in business hours.
    pub usual: Duration,
    /// The same where something is closed, or about to be.
    pub critical: Duration,
    /// Out of business hours.
    pub out_of_hours: Duration,
    /// So many may wait at once.
    pub depth: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            usual: Duration::from_secs(15 * 60),
            critical: Duration::from_secs(5 * 60),
            // On call: to wake up, to start a computer, and to read.
            out_of_hours: Duration::from_secs(30 * 60),
            // Of 15 minutes each, four people have them behind them in an hour and a quarter.
            depth: 20,
        }
    }
}

impl Backlog {
    /// How long a review of these stakes may take.
    #[must_use]
    pub fn slo(&self, stakes: Stakes, hours: Hours) -> Duration {
        match (stakes, hours) {
            (Stakes::T4, _) => self.critical,
            (Stakes::T1 | Stakes::T2 | Stakes::T3, Hours::Business) => self.usual,
            (Stakes::T1 | Stakes::T2 | Stakes::T3, Hours::Out) => self.out_of_hours,
        }
    }
}

/// The modes that hold now, and for which requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// D1: another team is told of these.
    pub reroute: BTreeSet<RequestId>,
    /// D2: only what has a deadline is asked.
    pub deadlines_only: Option<TooMuch>,
    /// D3: these wait, and fewer are there who could decide them than have to agree.
    pub nobody: BTreeSet<RequestId>,
    /// D4: the paths that stand on what these are about close.
    pub overdue: BTreeSet<RequestId>,
}

/// Why only what has a deadline is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    /// So many wait.
    Waiting(usize),
    /// 95 of 100 reviews took so long.
    Slow(Duration),
}

/// The modes that hold. `p95` is how long 95 of 100 of the last reviews took, if there were enough of them to say.
#[must_use]
pub fn degradation(
    waiting: &[Waiting],
    p95: Option<Duration>,
    limits: &Backlog,
    hours: Hours,
    now: Timestamp,
) -> Modes {
    let ids = |which: &dyn Fn(&Waiting) -> bool| waiting.iter().filter(|w| which(w)).map(|w| w.id).collect();
    let half = |w: &Waiting| now.since(w.since) > limits.slo(w.stakes, hours) / 2;
    let slow = p95.filter(|p95| *p95 > limits.slo(Stakes::T2, hours)).map(TooMuch::Slow);
    let many = (waiting.len() > limits.depth).then_some(TooMuch::Waiting(waiting.len()));
    Modes {
        reroute: ids(&half),
        deadlines_only: many.or(slow),
        nobody: ids(&|w| w.eligible < w.needed.max(1)),
        overdue: ids(&|w| w.decide_by.is_some_and(|by| by <= now)),
    }
}

impl Modes {
    /// The modes that hold.
    #[must_use]
    pub fn holding(&self) -> BTreeSet<Mode> {
        let all = [
            (Mode::Reroute, !self.reroute.is_empty()),
            (Mode::DeadlinesOnly, self.deadlines_only.is_some()),
            (Mode::NobodyEligible, !self.nobody.is_empty()),
            (Mode::Overdue, !self.overdue.is_empty()),
        ];
        all.into_iter().filter(|(_, holds)| *holds).map(|(mode, _)| mode).collect()
    }

    /// Whether people are asked about a new request now; else it stays a draft.
    #[must_use]
    pub fn admits(&self, decide_by: Option<Timestamp>) -> bool {
        self.deadlines_only.is_none() || decide_by.is_some()
    }

    /// Whether what waits may go on by itself: only what policy approved beforehand, below T3, in every mode.
    #[must_use]
    pub fn goes_on(stakes: Stakes) -> bool {
        !stakes.needs_a_person()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::MINUTE;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn waiting(n: u8, stakes: Stakes, minutes: u32, decide_by: Option<i64>, eligible: usize) -> Waiting {
        Waiting {
            id: RequestId::new([n; 5]),
            stakes,
            since: NOW.minus(MINUTE * minutes),
            decide_by: decide_by.map(|s| Timestamp::from_unix(NOW.unix() + s)),
            eligible,
            needed: 1,
        }
    }

    fn modes(all: &[Waiting], p95: Option<Duration>, hours: Hours) -> Vec<&'static str> {
        let modes = degradation(all, p95, &Backlog::default(), hours, NOW);
        modes.holding().into_iter().map(Mode::as_str).collect()
    }

    #[test]
    fn the_modes_are_those_that_were_fixed_in_advance() {
        use Hours::{Business, Out};
        let fine = waiting(1, Stakes::T3, 7, Some(60), 2);
        let many: Vec<Waiting> = (0..21).map(|n| Waiting { id: RequestId::new([n; 5]), ..fine }).collect();
        let slow = Some(Duration::from_secs(15 * 60 + 1));
        type Row<'a> = (&'a [Waiting], Option<Duration>, Hours, &'a [&'a str]);
        let rows: [Row<'_>; 12] = [
            (&[], None, Business, &[]),
            (&[fine], None, Business, &[]),
            (&[waiting(1, Stakes::T3, 8, None, 2)], None, Business, &["D1"]),
            (&[waiting(1, Stakes::T3, 8, None, 2)], None, Out, &[]),
            (&[waiting(1, Stakes::T4, 3, None, 2)], None, Out, &["D1"]),
            (&many, None, Business, &["D2"]),
            (&many[..20], None, Business, &[]),
            (&[fine], slow, Business, &["D2"]),
            (&[fine], slow, Out, &[]),
            (&[waiting(1, Stakes::T3, 0, None, 0)], None, Business, &["D3"]),
            (&[waiting(1, Stakes::T3, 0, Some(0), 1)], None, Business, &["D4"]),
            (&[waiting(1, Stakes::T3, 9, Some(-1), 0)], slow, Business, &["D1", "D2", "D3", "D4"]),
        ];
        for (all, p95, hours, expected) in rows {
            assert_eq!(modes(all, p95, hours), expected, "{all:?} {p95:?} {hours:?}");
        }
    }

    #[test]
    fn with_too_much_to_do_only_what_has_a_deadline_is_asked() {
        let slow = degradation(&[], Some(MINUTE * 20), &Backlog::default(), Hours::Business, NOW);
        assert!(slow.admits(Some(NOW)) && !slow.admits(None));
        assert!(Modes::default().admits(None));
    }

    #[test]
    fn only_what_lies_below_t3_goes_on_by_itself_whoever_is_there() {
        let on: Vec<bool> = Stakes::ALL.iter().map(|(stakes, _)| Modes::goes_on(*stakes)).collect();
        assert_eq!(on, [true, true, false, false]);
    }

    #[test]
    fn one_who_is_left_of_two_who_have_to_agree_is_nobody() {
        for (eligible, needed, holds) in [(1, 2, true), (2, 2, false), (0, 0, true), (1, 0, false)] {
            let two = Waiting { needed, ..waiting(1, Stakes::T4, 0, None, eligible) };
            let modes = degradation(&[two], None, &Backlog::default(), Hours::Business, NOW);
            assert_eq!(modes.nobody.contains(&two.id), holds, "{eligible} of {needed}");
        }
    }
}
