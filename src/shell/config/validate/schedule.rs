//! `[[certificate.window]]`: when an installation may happen, and whether that comes often enough.

use core::time::Duration;

use super::scalar;
use crate::domain::time::{Window, human_span};
use crate::shell::config::diagnostic::Problems;
use crate::shell::config::raw::{At, Section};

const DAYS: [(usize, &str); 7] = [(0, "mon"), (1, "tue"), (2, "wed"), (3, "thu"), (4, "fri"), (5, "sat"), (6, "sun")];
const MINUTES_OF_DAY: i64 = 1_440;
const MINUTES_OF_WEEK: i64 = 7 * MINUTES_OF_DAY;
/// More windows than a week has quarters of a day say nothing more.
const MOST_WINDOWS: usize = 28;
/// Two days half a year apart, in and out of daylight saving on either hemisphere: 2027-01-04 and 2027-07-05.
const REFERENCES: [i64; 2] = [1_799_020_800, 1_814_745_600];

/// Reads the windows of a certificate; none if one has a problem, so that the rest is not judged without it.
pub(super) fn read(p: &mut Problems, s: &mut Section<'_>) -> Vec<At<Window>> {
    let sections = s.sections(p, "window", "[[certificate.window]]", MOST_WINDOWS);
    let windows: Vec<Option<At<Window>>> = sections.into_iter().map(|section| window(p, section)).collect();
    windows.into_iter().collect::<Option<_>>().unwrap_or_default()
}

fn window(p: &mut Problems, mut s: Section<'_>) -> Option<At<Window>> {
    let days = s.words(p, "days", &DAYS);
    if let Some(days) = days.as_ref().filter(|d| d.value.is_empty()) {
        let mend = "name days (\"mon\" to \"sun\"), or leave `days` out for every day";
        p.add("KW0038", &days.span, "a window without days never opens", "no day", mend);
    }
    let from = s.need(p, "from", "\"02:00\"", scalar::minute_of_day);
    let until = s.need(p, "until", "\"05:00\"", scalar::minute_of_day);
    let has_zone = s.has("zone");
    let zone = s.parsed(p, "zone", "\"Europe/Berlin\"", scalar::zone);
    let span = s.at.clone();
    s.close(p);
    let (from, until) = (from?, until?);
    if days.as_ref().is_some_and(|d| d.value.is_empty()) {
        return None;
    }
    if from.value == until.value || from.value == 1_440 {
        let mend = "write from = \"00:00\" and until = \"24:00\" for the whole day";
        p.add("KW0019", &until.span, "a window must not end when it begins", "no length", mend);
        return None;
    }
    let mut on = [days.is_none(); 7];
    for day in days.map_or(Vec::new(), |d| d.value) {
        on.get_mut(day.value).into_iter().for_each(|slot| *slot = true);
    }
    let zone = if has_zone { zone?.value } else { jiff::tz::TimeZone::UTC };
    // Midnight at the end of the day is minute 1440, not the 0 of the day that begins.
    let until_minute = if until.value == 0 { 1_440 } else { until.value };
    Some(At { value: Window { days: on, from_minute: from.value, until_minute, zone }, span })
}

/// Says so if the windows may stay closed from the renewal until the emergency point.
pub(super) fn opens_in_time(p: &mut Problems, windows: &[At<Window>], what_for: &str, span: Duration) {
    let Some(first) = windows.first() else { return };
    let gap = longest_gap(windows.iter().map(|w| &w.value));
    if gap < span {
        return;
    }
    let what = format!(
        "the windows can stay closed for {}, but {what_for} leaves only {} between its renewal and its emergency point",
        human_span(gap),
        human_span(span)
    );
    let mend = "open more often (more `days`, or one more [[certificate.window]]), or renew earlier (`renew_at`)";
    p.add("KW0038", &first.span, what, "does not open in time", mend);
}

/// The longest time for which all windows are closed, in any week of the year.
fn longest_gap<'a>(windows: impl Iterator<Item = &'a Window>) -> Duration {
    let mut open: Vec<(i64, i64)> = Vec::new();
    let mut shift = 0;
    for window in windows {
        let offsets = REFERENCES.map(|at| {
            let at = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            i64::from(window.zone.to_offset(at).seconds()).div_euclid(60)
        });
        // Where clocks change, a gap can be longer by the change.
        shift = shift.max(offsets.iter().max().zip(offsets.iter().min()).map_or(0, |(a, b)| a.saturating_sub(*b)));
        let (from, until) = (i64::from(window.from_minute), i64::from(window.until_minute));
        let length = if until > from {
            until.saturating_sub(from)
        } else {
            until.saturating_add(MINUTES_OF_DAY).saturating_sub(from)
        };
        for (day, _) in window.days.iter().enumerate().filter(|(_, on)| **on) {
            let day = i64::try_from(day).unwrap_or(0).saturating_mul(MINUTES_OF_DAY);
            let offset = offsets.first().copied().unwrap_or(0);
            let start = day.saturating_add(from).saturating_sub(offset).rem_euclid(MINUTES_OF_WEEK);
            open.push((start, start.saturating_add(length)));
        }
    }
    open.sort_unstable();
    let (Some((first, _)), Some(last)) = (open.first().copied(), open.iter().map(|(_, end)| *end).max()) else {
        return Duration::MAX;
    };
    let (mut gap, mut end) = (0, i64::MIN);
    for (from, until) in &open {
        if end > i64::MIN {
            gap = gap.max(from.saturating_sub(end));
        }
        end = end.max(*until);
    }
    gap = gap.max(first.saturating_add(MINUTES_OF_WEEK).saturating_sub(last));
    if gap <= 0 {
        return Duration::ZERO;
    }
    Duration::from_secs(u64::try_from(gap.saturating_add(shift).saturating_mul(60)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn window(days: &[usize], from: u16, until: u16, zone: &str) -> Window {
        let mut on = [false; 7];
        days.iter().for_each(|d| on[*d] = true);
        Window { days: on, from_minute: from, until_minute: until, zone: TimeZone::get(zone).unwrap() }
    }

    #[test]
    fn the_longest_gap_runs_over_the_weeks_end_and_counts_the_change_of_clocks() {
        let every = [0, 1, 2, 3, 4, 5, 6];
        let cases = [
            (vec![window(&every, 0, 1_440, "UTC")], 0),
            (vec![window(&every, 120, 300, "UTC")], 21 * 60),
            (vec![window(&[5, 6], 120, 300, "UTC")], 6 * 1_440 - 180),
            (vec![window(&[5, 6], 120, 300, "Europe/Berlin")], 6 * 1_440 - 180 + 60),
            (vec![window(&[0], 1_380, 60, "UTC")], 7 * 1_440 - 120),
            (vec![window(&[6], 1_380, 60, "UTC"), window(&[0], 60, 120, "UTC")], 7 * 1_440 - 180),
            (vec![window(&[0], 0, 60, "UTC"), window(&[0], 0, 120, "UTC"), window(&[3], 0, 60, "UTC")], 4 * 1_440 - 60),
        ];
        for (windows, minutes) in cases {
            assert_eq!(longest_gap(windows.iter()), Duration::from_secs(minutes * 60), "{windows:?}");
        }
    }
}
