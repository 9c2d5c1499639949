//! Refusals as the log tells them: one entry for a crowd.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::domain::link::{Reason, Refusal};
use crate::domain::time::{Boottime, MINUTE};

/// One entry for each kind of refusal in this time: a peer that comes every second would else fill the log.
pub const TELL_EVERY: Duration = MINUTE.saturating_mul(10);

/// What is to be told of refusals: the first of a kind at once, those that follow as a number when its time is over.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    windows: BTreeMap<Reason, Window>,
}

#[derive(Clone, Debug)]
struct Window {
    since: Boottime,
    unsaid: u64,
    text: String,
}

/// Refusals that are to be told in one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of this kind.
    pub reason: Reason,
    /// So many.
    pub count: u64,
    /// The sentence of the last one.
    pub text: String,
}

impl Tally {
    /// Counts a refusal; there is something to tell at once if it is the first of its kind for a while.
    pub fn note(&mut self, refusal: &Refusal, now: Boottime) -> Option<Told> {
        if !refusal.reason.is_telling() {
            return None;
        }
        if let Some(window) = self.windows.get_mut(&refusal.reason) {
            window.unsaid = window.unsaid.saturating_add(1);
            window.text.clone_from(&refusal.text);
            return None;
        }
        let window = Window { since: now, unsaid: 0, text: refusal.text.clone() };
        self.windows.insert(refusal.reason, window);
        Some(Told { reason: refusal.reason, count: 1, text: refusal.text.clone() })
    }

    /// What has waited long enough.
    pub fn due(&mut self, now: Boottime) -> Vec<Told> {
        let mut told = Vec::new();
        self.windows.retain(|reason, window| {
            if now.since(window.since) < TELL_EVERY {
                return true;
            }
            if window.unsaid == 0 {
                return false;
            }
            told.push(Told { reason: *reason, count: window.unsaid, text: window.text.clone() });
            (window.since, window.unsaid) = (now, 0);
            true
        });
        told
    }

    /// What could not be written down waits for the next time.
    pub fn put_back(&mut self, told: Told, now: Boottime) {
        let window =
            self.windows.entry(told.reason).or_insert(Window { since: now, unsaid: 0, text: told.text.clone() });
        window.unsaid = window.unsaid.saturating_add(told.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_refusals_is_one_entry_now_and_one_number_later() {
        let mut tally = Tally::default();
        let at = |s| Boottime::from_boot(Duration::from_secs(s));
        let refusal = Refusal::new(Reason::Name, "nobody");
        assert_eq!(tally.note(&refusal, at(0)).map(|t| t.count), Some(1));
        assert!((1..=500).all(|s| tally.note(&refusal, at(s)).is_none()));
        assert!(tally.note(&Refusal::new(Reason::Timeout, "slow"), at(1)).is_none(), "only counted");
        assert!(tally.due(at(599)).is_empty());
        let told = tally.due(at(600));
        assert_eq!(told, [Told { reason: Reason::Name, count: 500, text: "nobody".into() }]);
        tally.put_back(told[0].clone(), at(601));
        assert_eq!(tally.due(at(1_200)).first().map(|t| t.count), Some(500), "nothing is lost with a failed commit");
        assert!(tally.due(at(1_800)).is_empty(), "nothing came");
        assert_eq!(tally.note(&refusal, at(1_801)).map(|t| t.count), Some(1), "so the next one is news");
    }
}
