//! Revocation lists that are fetched: when each is asked for again, and when its owner has to hear that it does not come.
//!
//! Refuses to know what a list says, and whether it is fresh: the codec reads it, and the gate judges its times.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::key::Digest;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// Lists that are tracked at once, by their URLs. Ten thousand certificates of the largest public CA stand on some hundreds.
pub const MOST_LISTS: usize = 4_096;

/// No list is asked for more often, however soon the next one is due.
pub const SHORTEST_WAIT: Duration = Duration::from_secs(10);
/// After a failure it is tried again this much later, at first; a minute's restart of a server is over by the next try.
const FIRST_RETRY: Duration = MINUTE;
/// Tries that fail are never further apart.
const LONGEST_RETRY: Duration = HOUR;
/// A list that did not come so often in a row is a finding: the third try is some three minutes after the first.
pub const FAILURES_TOLD: u32 = 3;
/// A share of this much of its time that is left, in thousandths, makes it a matter of now: everybody had three quarters of
/// it to mend the way.
const URGENT_PERMILLE: u16 = 750;

/// A list that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptList {
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
    /// How many certificates stand on it.
    pub entries: usize,
    /// SHA-256 of it.
    pub digest: Digest,
}

/// How it stands with the list at one URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStanding {
    /// The last good one.
    pub kept: Option<KeptList>,
    /// When it is asked for next.
    pub due: Timestamp,
    /// When it came last, in this life of the guardian.
    pub fetched_at: Option<Timestamp>,
    /// How often on end it did not come.
    pub failures: u32,
    /// Since when, and why at the last try.
    pub failing: Option<(Timestamp, Arc<str>)>,
}

impl ListStanding {
    /// One that is asked for at once, also if a good one is kept from before: nobody knows how long ago it came.
    #[must_use]
    pub fn new(kept: Option<KeptList>, now: Timestamp) -> Self {
        Self { kept, due: now, fetched_at: None, failures: 0, failing: None }
    }

    /// It came; gives whether it is another one than before.
    pub fn came(&mut self, url: &str, kept: KeptList, now: Timestamp, every: Duration) -> Another {
        let before = self.kept.replace(kept);
        (self.failures, self.failing, self.fetched_at) = (0, None, Some(now));
        self.due = now.plus(wait(url, kept.next_update, now, every));
        if before.is_some_and(|before| before.digest == kept.digest) { Another::No } else { Another::Yes }
    }

    /// It did not come, or what came was refused.
    pub fn failed(&mut self, url: &str, why: Arc<str>, now: Timestamp, every: Duration) {
        self.failures = self.failures.saturating_add(1);
        let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
        self.failing = Some((since, why));
        let doubled =
            FIRST_RETRY.saturating_mul(1_u32.checked_shl(self.failures.saturating_sub(1).min(16)).unwrap_or(1));
        let longest = LONGEST_RETRY.min(every);
        // The nearer the end, the more often.
        let left = self.kept.map_or(longest, |kept| now.until(kept.next_update) / 4);
        let span = doubled.min(longest).min(left.max(FIRST_RETRY));
        self.due = now.plus(jittered(url, span, self.failures));
    }

    /// Why somebody should look, if so, and whether that is urgent.
    #[must_use]
    pub fn complaint(&self, now: Timestamp) -> Option<(Pressing, String)> {
        let (since, why) = self.failing.as_ref().filter(|_| self.failures >= FAILURES_TOLD)?;
        let (pressing, rest) = match self.kept {
            None => (Pressing::Now, "and none is kept".to_owned()),
            Some(kept) if now >= kept.next_update => {
                (Pressing::Now, format!("and the last one was good until {}", kept.next_update))
            }
            Some(kept) => {
                let span = crate::domain::time::Validity { not_before: kept.this_update, not_after: kept.next_update };
                let late = now >= span.at_permille(URGENT_PERMILLE);
                let pressing = if late { Pressing::Now } else { Pressing::Soon };
                (pressing, format!("the last one is good until {}", kept.next_update))
            }
        };
        Some((pressing, format!("does not come since {since}, {rest}: {why}")))
    }
}

/// Whether a list that came is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Another {
    /// It is.
    Yes,
    /// The same one.
    No,
}

/// How soon somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressing {
    /// What is kept is good for a while.
    Soon,
    /// Paths are closed by it, or will be soon.
    Now,
}

/// How long after it came a list is asked for again: `every`, or at half of what is left of it if that is sooner.
fn wait(url: &str, next_update: Timestamp, now: Timestamp, every: Duration) -> Duration {
    jittered(url, every.min(now.until(next_update) / 2), 0)
}

/// Up to a quarter less, by a hash of the URL, so that lists which came together are not asked for together.
fn jittered(url: &str, span: Duration, turn: u32) -> Duration {
    let hash = Digest::of_parts(&[url.as_bytes(), &turn.to_be_bytes()]).leading_u64();
    let permille = u32::try_from(750_u64.saturating_add(hash % 251)).unwrap_or(1_000);
    (span.saturating_mul(permille) / 1_000).max(SHORTEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://crl.example.com/1.crl";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_790_000_000 + seconds)
    }

    fn list(from: i64, to: i64) -> KeptList {
        KeptList { this_update: at(from), next_update: at(to), entries: 0, digest: Digest::of(&from.to_be_bytes()) }
    }

    fn standing(kept: Option<KeptList>) -> ListStanding {
        came(URL, kept)
    }

    fn came(url: &str, kept: Option<KeptList>) -> ListStanding {
        let mut own = ListStanding::new(None, at(0));
        kept.into_iter().for_each(|kept| {
            own.came(url, kept, at(0), HOUR * 6);
        });
        own
    }

    #[test]
    fn a_list_is_asked_for_again_in_its_turn_and_well_before_the_next_one_is_due() {
        for kept in [None, Some(list(-60, 86_400 * 9))] {
            assert_eq!(ListStanding::new(kept, at(0)).due, at(0), "at the start everything is wanted");
        }
        for (to, from, until) in [(86_400 * 9, 16_200, 21_600), (3_600, 1_350, 1_800), (12, 10, 10), (-5, 10, 10)] {
            let due = standing(Some(list(-60, to))).due;
            assert!(at(from) <= due && due <= at(until), "{to}: {due}");
            assert_eq!(standing(Some(list(-60, to))).due, due, "the same each time");
        }
        let other = came("http://crl.example.com/2.crl", Some(list(-60, 86_400 * 9)));
        assert_ne!(other.due, standing(Some(list(-60, 86_400 * 9))).due);
    }

    #[test]
    fn what_fails_is_tried_again_ever_later_but_sooner_towards_the_end() {
        let mut own = standing(Some(list(0, 86_400 * 9)));
        let mut waits = Vec::new();
        for _ in 0..40 {
            own.failed(URL, "gone".into(), at(0), HOUR * 6);
            waits.push(at(0).until(own.due).as_secs());
        }
        assert!((45..=60).contains(&waits[0]) && (90..=120).contains(&waits[1]), "{waits:?}");
        assert!(waits[6..].iter().all(|w| (2_700..=3_600).contains(w)), "{waits:?}");
        own.failed(URL, "gone".into(), at(86_400 * 9 - 1_200), HOUR * 6);
        assert!(at(86_400 * 9 - 1_200).until(own.due).as_secs() <= 300);
        own.failed(URL, "gone".into(), at(86_400 * 10), HOUR * 6);
        assert!((45..=60).contains(&at(86_400 * 10).until(own.due).as_secs()));
        // As often as the configuration wants it, also while it fails.
        own.failed(URL, "gone".into(), at(0), Duration::from_secs(10));
        assert_eq!(at(0).until(own.due).as_secs(), 10);
    }

    #[test]
    fn the_third_failure_is_told_and_urgent_where_nothing_good_is_left_for_long() {
        let fails = |mut own: ListStanding, times: u32, now: Timestamp| {
            (0..times).for_each(|_| own.failed(URL, "gone".into(), at(0), HOUR * 6));
            own.complaint(now).map(|(pressing, _)| pressing)
        };
        let good = || standing(Some(list(0, 1_000)));
        assert_eq!(fails(good(), 2, at(0)), None);
        assert_eq!(fails(good(), 3, at(749)), Some(Pressing::Soon));
        for now in [750, 1_000, 5_000] {
            assert_eq!(fails(good(), 3, at(now)), Some(Pressing::Now), "{now}");
        }
        assert_eq!(fails(standing(None), 3, at(0)), Some(Pressing::Now));
        let mut own = good();
        (0..9).for_each(|_| own.failed(URL, "gone".into(), at(0), HOUR * 6));
        assert_eq!(own.came(URL, list(5, 1_000), at(6), HOUR * 6), Another::Yes);
        assert_eq!(own.came(URL, list(5, 1_000), at(6), HOUR * 6), Another::No);
        assert_eq!((own.complaint(at(7)), own.failures), (None, 0));
    }
}
