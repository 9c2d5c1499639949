//! `[freeze]`: what freezes may do.

use core::time::Duration;

use super::scalar;
use crate::domain::freeze::{Emergency, Freezing, WhenFrozen};
use crate::domain::time::{DAY, HOUR};
use crate::shell::config::diagnostic::Problems;
use crate::shell::config::raw::Section;

/// A freeze of less than an hour ends before anybody has looked; one of more than 90 days outlives the certificates that
/// public CAs issue.
const LONGEST: core::ops::RangeInclusive<Duration> = HOUR..=Duration::from_secs(90 * DAY.as_secs());

const EMERGENCY: [(Emergency, &str); 2] = [(Emergency::Allow, "allow"), (Emergency::Block, "block")];
const WHEN_FROZEN: [(WhenFrozen, &str); 2] = [(WhenFrozen::Open, "open"), (WhenFrozen::Close, "close")];

pub(super) fn read(p: &mut Problems, root: &mut Section<'_>) -> Freezing {
    let mut freezing = Freezing::default();
    let Some(mut s) = root.section(p, "freeze", "[freeze]") else { return freezing };
    if let Some(word) = s.word(p, "emergency", &EMERGENCY) {
        freezing.emergency = word.value;
    }
    if let Some(span) = s.parsed(p, "longest", "\"14d\"", |t| scalar::duration(t, LONGEST)) {
        freezing.longest = span.value;
    }
    s.close(p);
    freezing
}

/// What a freeze over a path does to it.
pub(super) fn when_frozen(p: &mut Problems, path: &mut Section<'_>) -> WhenFrozen {
    path.word(p, "when_frozen", &WHEN_FROZEN).map_or(WhenFrozen::Open, |word| word.value)
}
