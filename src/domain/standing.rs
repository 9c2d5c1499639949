//! How a path stands over time: it closes at once, and opens again only when it was good for long enough.
//!
//! ```text
//! first verdict ──────────────▶ as it is
//! open ──a fault──▶ closed ──good, three times over 60 s──▶ open
//!                     └──the third closing in ten minutes──▶ latched: a person opens it
//! ```
//!
//! Refuses to know why a path is closed, and who asks.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::gate::{FLAPPING, Reason, SETTLING, Verdict};
use crate::domain::inventory::{FLAPS_WITHIN, GOOD_EVALUATIONS, Reopening};
use crate::domain::state::Latch;
use crate::domain::time::{Boottime, Timestamp, human_span};

/// What is remembered of a path between two verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How it was published last.
    published: Published,
    /// Since when and how often it was found good, while it is published as closed.
    good: Option<(Boottime, u32)>,
    /// When it closed, the newest last; as many as make a latch.
    closings: VecDeque<Boottime>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Published {
    /// Never open since the guardian started: it opens at the first good verdict.
    #[default]
    NotYet,
    Open,
    Closed,
}

/// What follows from a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is published.
    pub verdict: Verdict,
    /// What is to be made durable: only a person opens it again.
    pub latch: Option<Latch>,
}

impl Standing {
    /// Takes in what was found, and says what is published. What is found closed is always published as closed.
    #[must_use]
    pub fn next(&mut self, found: Verdict, reopening: &Reopening) -> Outcome {
        let (now, boot) = (found.at, found.at_boot);
        let found = if self.published == Published::Open { found } else { unborne(found) };
        if !found.is_open() {
            self.good = None;
            let closes = self.published == Published::Open;
            if closes {
                self.published = Published::Closed;
                self.closings.push_back(boot);
            }
            self.closings.retain(|at| boot.since(*at) < FLAPS_WITHIN);
            let latch = if closes { self.latch(now, reopening) } else { None };
            return Outcome { verdict: found, latch };
        }
        if self.published == Published::Closed && !reopening.after.is_zero() {
            let (since, times) = self.good.get_or_insert((boot, 0));
            *times = times.saturating_add(1);
            let passed = boot.since(*since);
            if passed < reopening.after || *times < GOOD_EVALUATIONS {
                return Outcome { verdict: settling(found, reopening.after.saturating_sub(passed)), latch: None };
            }
        }
        self.good = None;
        self.published = Published::Open;
        Outcome { verdict: found, latch: None }
    }

    /// How often it closed within [`FLAPS_WITHIN`].
    #[must_use]
    pub fn closings(&self, boot: Boottime) -> u32 {
        let recent = self.closings.iter().filter(|at| boot.since(**at) < FLAPS_WITHIN).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// A person opens it: what was, counts no more.
    pub fn forgive(&mut self) {
        self.closings.clear();
    }

    fn latch(&self, now: Timestamp, reopening: &Reopening) -> Option<Latch> {
        let closings = u32::try_from(self.closings.len()).unwrap_or(u32::MAX);
        (reopening.flaps > 0 && closings >= reopening.flaps).then(|| Latch {
            at: now,
            code: Arc::from(FLAPPING),
            text: Arc::from(format!("it closed {closings} times in {}", human_span(FLAPS_WITHIN))),
            by: None,
        })
    }
}

/// A miss keeps open what is open, and opens nothing.
fn unborne(found: Verdict) -> Verdict {
    if !found.is_open() || found.warnings.is_empty() {
        return found;
    }
    Verdict { reasons: found.warnings, warnings: Vec::new(), until: found.at, ..found }
}

fn settling(found: Verdict, left: Duration) -> Verdict {
    let text = format!("it is good again, and opens when it was for {} more", human_span(left));
    let reason = Reason { code: SETTLING, credential: None, text, reopens: "it was good for long enough" };
    Verdict { reasons: vec![reason], until: found.at, ..found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gate::MISSING;
    use crate::domain::id::PathId;
    use crate::domain::key::Digest;

    const SECOND: Duration = Duration::from_secs(1);

    fn found(seconds: u32, open: bool) -> Verdict {
        let path = PathId::parse("approve").unwrap();
        let at = Timestamp::from_unix(1_790_000_000).plus(SECOND * seconds);
        let boot = Boottime::from_boot(SECOND * seconds);
        let reason = Reason { code: MISSING, credential: None, text: String::new(), reopens: "" };
        let closed = Verdict::closed(&path, reason, at, boot);
        if open {
            Verdict { reasons: Vec::new(), until: Timestamp::MAX, inputs: Digest([7; 32]), ..closed }
        } else {
            closed
        }
    }

    /// Feeds `(seconds, open)`; gives when what is published changed.
    fn run(reopening: &Reopening, all: impl IntoIterator<Item = (u32, bool)>) -> (Vec<(u32, bool)>, Vec<u32>) {
        let (mut standing, mut changes, mut latches) = (Standing::default(), Vec::new(), Vec::new());
        for (second, open) in all {
            let outcome = standing.next(found(second, open), reopening);
            assert!(open || !outcome.verdict.is_open(), "what is found closed is closed");
            let is = outcome.verdict.is_open();
            if changes.last().is_none_or(|(_, was)| *was != is) {
                changes.push((second, is));
            }
            latches.extend(outcome.latch.map(|_| second));
        }
        (changes, latches)
    }

    #[test]
    fn it_closes_at_once_and_opens_after_a_minute_of_good_verdicts() {
        let all = (0..40).map(|n| (n * 5, !(2..4).contains(&n)));
        // Good from 20 s on.
        assert_eq!(run(&Reopening::USUAL, all).0, [(0, true), (10, false), (80, true)]);
    }

    #[test]
    fn a_bad_verdict_in_between_begins_the_minute_anew() {
        let all = (0..60).map(|n| (n * 5, !(2..4).contains(&n) && n != 10));
        assert_eq!(run(&Reopening::USUAL, all).0, [(0, true), (10, false), (115, true)]);
    }

    #[test]
    fn two_good_verdicts_are_not_enough_however_long_the_time() {
        let all = [(0, true), (5, false), (100, true), (500, true), (501, true)];
        assert_eq!(run(&Reopening::USUAL, all).0, [(0, true), (5, false), (501, true)]);
    }

    #[test]
    fn what_was_never_open_since_the_start_opens_at_once() {
        assert_eq!(run(&Reopening::USUAL, [(0, false), (1, false), (2, true)]).0, [(0, false), (2, true)]);
    }

    #[test]
    fn closings_are_counted_for_ten_minutes_also_while_nothing_closes() {
        let mut standing = Standing::default();
        let reopening = Reopening { after: Duration::ZERO, flaps: 0 };
        for (second, open) in [(0, true), (5, false), (10, true), (300, false), (310, true)] {
            drop(standing.next(found(second, open), &reopening));
        }
        let closings = |second| standing.closings(Boottime::from_boot(SECOND * second));
        assert_eq!([310, 604, 605, 899, 900].map(closings), [2, 2, 1, 1, 0]);
    }

    #[test]
    fn the_third_closing_in_ten_minutes_latches_and_three_in_an_hour_do_not() {
        let close_each = |period: u32| {
            (0..4).flat_map(move |n| {
                let at = n * period;
                (0..=14).map(move |k| (at + k * 5, true)).chain([(at + 75, false)])
            })
        };
        let (changes, latches) = run(&Reopening::USUAL, close_each(100));
        assert_eq!(latches.first(), Some(&275), "{changes:?}");
        assert_eq!(run(&Reopening::USUAL, close_each(1_200)).1, [0; 0]);
        let never = Reopening { flaps: 0, ..Reopening::USUAL };
        assert_eq!(run(&never, close_each(100)).1, [0; 0]);
    }

    #[test]
    fn with_no_time_to_wait_it_opens_at_the_next_good_verdict() {
        let all = [(0, true), (1, false), (2, true)];
        assert_eq!(run(&Reopening::default(), all).0, [(0, true), (1, false), (2, true)]);
    }
}
