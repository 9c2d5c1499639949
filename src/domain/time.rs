//! Points in time, spans of validity and recurring windows, in UTC whole seconds.
//!
//! Refuses to know what time it is: every function is told.

use core::fmt;
use core::time::Duration;

use jiff::tz::TimeZone;

/// One minute.
pub const MINUTE: Duration = Duration::from_secs(60);
/// One hour.
pub const HOUR: Duration = Duration::from_secs(3_600);
/// One day of 24 hours.
pub const DAY: Duration = Duration::from_secs(86_400);

/// A point in time: whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted (as X.509 and ACME count).
///
/// Arithmetic saturates: a hostile year 9999 or a negative offset never wraps round into the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time that can be printed as RFC 3339: year 0001 and a day.
    pub const MIN: Self = Self(-62_135_510_400);
    /// The latest time that can be printed as RFC 3339: the last day of 9999 (RFC 5280 section 4.1.2.5).
    pub const MAX: Self = Self(253_402_207_200);

    /// From seconds since the Unix epoch, clamped into [`Self::MIN`]..=[`Self::MAX`].
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        if seconds < Self::MIN.0 {
            Self::MIN
        } else if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// `self + span`, saturating at [`Self::MAX`]; the span's fraction of a second is dropped.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix(self.0.saturating_add(seconds))
    }

    /// `self - span`, saturating at [`Self::MIN`]; the span's fraction of a second is dropped.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix(self.0.saturating_sub(seconds))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// How long until `later`; zero if it lies in the past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        later.since(self)
    }

    /// RFC 3339 in UTC, as ASCII: `2026-11-22T06:10:00Z`.
    #[must_use]
    pub fn text(self) -> [u8; 20] {
        let mut text = *b"0000-00-00T00:00:00Z";
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let pairs = [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, second / 3_600),
            (14, second / 60 % 60),
            (17, second % 60),
        ];
        for (at, number) in pairs {
            let number = u8::try_from(number).unwrap_or(0);
            if let Some([tens, ones]) = text.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                (*tens, *ones) = (b'0'.wrapping_add(number / 10), b'0'.wrapping_add(number % 10));
            }
        }
        text
    }

    /// Parses RFC 3339, for example `2026-11-22T06:10:00Z`; a fraction of a second is dropped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self::from_unix(t.as_second()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// The day of the proleptic Gregorian calendar that is so many days after 1970-01-01: year, month, day. Counts from
/// 1 March of the year 0, so that the day that a leap year has more is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    // From 0000-03-01 to 1970-01-01.
    const FROM_MARCH_0: i64 = 719_468;
    // In 400 years there are 97 leap years.
    const ERA: i64 = 400 * 365 + 97;
    let since = days.saturating_add(FROM_MARCH_0);
    let (era, day) = (since.div_euclid(ERA), since.rem_euclid(ERA));
    // A day more every 4 years, none more every 100, one more after 400.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // March has 31 days, April 30, and so on: 153 days in each five months.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// Time since the machine booted, suspend included (Linux `CLOCK_BOOTTIME`): it never steps, and it starts at zero with
/// every boot, so it means nothing across one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime(Duration);

impl Boottime {
    /// The boot itself.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// From the time since boot.
    #[must_use]
    pub const fn from_boot(span: Duration) -> Self {
        Self(span)
    }

    /// The time since boot.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// `self + span`, saturating.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A certificate's validity period (RFC 5280 section 4.1.2.5): both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second of validity.
    pub not_before: Timestamp,
    /// Last second of validity.
    pub not_after: Timestamp,
}

impl Validity {
    /// Whether `at` lies inside, both ends included.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.not_before <= at && at <= self.not_after
    }

    /// The length of the period, zero if it is inverted.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// The time after which `share` of the lifetime has gone by. A share is in thousandths, so 667 is two thirds.
    #[must_use]
    pub fn at_permille(&self, permille: u16) -> Timestamp {
        let spent = self.lifetime().as_secs().saturating_mul(u64::from(permille)) / 1_000;
        self.not_before.plus(Duration::from_secs(spent))
    }

    /// The part of `self` that `other` covers too.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { not_before: self.not_before.max(other.not_before), not_after: self.not_after.min(other.not_after) }
    }
}

/// A recurring weekly window in a time zone, for example Saturday and Sunday 02:00–05:00 Europe/Berlin.
///
/// A window that ends at or before its start runs past midnight and belongs to the day on which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it opens, Monday first.
    pub days: [bool; 7],
    /// Opens at this minute of the local day (0–1439).
    pub from_minute: u16,
    /// Closes before this minute of the local day (1–1440).
    pub until_minute: u16,
    /// The zone whose civil time counts, daylight saving included.
    pub zone: TimeZone,
}

impl Window {
    /// Whether the window is open at `at`.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.occurrences(at).any(|(from, until)| from <= at && at < until)
    }

    /// The first time at or after `at` at which the window is open; `None` if it has no days.
    #[must_use]
    pub fn next_open(&self, at: Timestamp) -> Option<Timestamp> {
        self.occurrences(at).filter(|(_, until)| at < *until).map(|(from, _)| from.max(at)).min()
    }

    /// Every occurrence that starts between the day before `at` and eight days after it, so that one started yesterday
    /// and one a week ahead are both seen.
    fn occurrences(&self, at: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = jiff::Timestamp::from_second(at.unix()).ok().map(|t| t.to_zoned(self.zone.clone()).date());
        (-1_i64..=8).filter_map(move |offset| {
            let date = today?.checked_add(jiff::Span::new().days(offset)).ok()?;
            let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
            if !self.days.get(weekday).copied().unwrap_or(false) {
                return None;
            }
            let length = if self.until_minute > self.from_minute {
                self.until_minute.saturating_sub(self.from_minute)
            } else {
                self.until_minute.saturating_add(1_440).saturating_sub(self.from_minute)
            };
            let from = self.civil(date, self.from_minute)?;
            let (end_date, end_minute) = {
                let end = self.from_minute.saturating_add(length);
                if end >= 1_440 { (date.tomorrow().ok()?, end.saturating_sub(1_440)) } else { (date, end) }
            };
            Some((from, self.civil(end_date, end_minute)?))
        })
    }

    fn civil(&self, date: jiff::civil::Date, minute: u16) -> Option<Timestamp> {
        let hour = i8::try_from(minute / 60).ok()?;
        let minute = i8::try_from(minute % 60).ok()?;
        let zoned = date.at(hour, minute, 0, 0).to_zoned(self.zone.clone()).ok()?;
        Some(Timestamp::from_unix(zoned.timestamp().as_second()))
    }
}

/// Writes a span the way people say it: `45 s`, `12 min`, `5 h 10 min`, `3 d 4 h`.
#[must_use]
pub fn human_span(span: Duration) -> String {
    let s = span.as_secs();
    let (d, h, m) = (s / 86_400, (s % 86_400) / 3_600, (s % 3_600) / 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, 0) => format!("{h} h"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap_or(Timestamp::MIN)
    }

    #[test]
    fn a_time_is_written_as_the_calendar_library_writes_it() {
        let days = (Timestamp::MIN.unix()..=Timestamp::MAX.unix()).step_by(86_399 * 17);
        for second in days.chain([Timestamp::MIN.unix(), Timestamp::MAX.unix(), -1, 0, 951_782_400, 951_868_799]) {
            let expected = jiff::Timestamp::from_second(second).unwrap().to_string();
            assert_eq!(Timestamp::from_unix(second).to_string(), expected);
        }
    }

    fn berlin_weekend() -> Window {
        let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
        Window { days: [false, false, false, false, false, true, true], from_minute: 120, until_minute: 300, zone }
    }

    #[test]
    fn dates_survive_leap_days_2038_and_2050() {
        for text in ["2028-02-29T23:59:59Z", "2038-01-19T03:14:08Z", "2050-01-01T00:00:00Z", "9999-12-30T00:00:00Z"] {
            assert_eq!(ts(text).to_string(), text);
        }
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.minus(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn a_window_follows_the_civil_time_of_its_zone_across_daylight_saving() {
        let w = berlin_weekend();
        // 2026-07-18 is a Saturday in summer (UTC+2); 2026-11-21 one in winter (UTC+1).
        assert!(w.is_open(ts("2026-07-18T00:00:00Z")) && !w.is_open(ts("2026-07-18T03:00:00Z")));
        assert!(w.is_open(ts("2026-11-21T01:00:00Z")) && !w.is_open(ts("2026-11-21T00:59:59Z")));
    }

    #[test]
    fn the_next_opening_is_now_when_open_and_else_the_next_start() {
        let w = berlin_weekend();
        let inside = ts("2026-11-21T02:30:00Z");
        assert_eq!(w.next_open(inside), Some(inside));
        assert_eq!(w.next_open(ts("2026-11-22T04:00:00Z")), Some(ts("2026-11-28T01:00:00Z")));
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_starts_on() {
        let w = Window {
            days: [true, false, false, false, false, false, false],
            from_minute: 1_380,
            until_minute: 60,
            zone: TimeZone::UTC,
        };
        assert!(w.is_open(ts("2026-11-23T23:30:00Z")) && w.is_open(ts("2026-11-24T00:30:00Z")));
        assert!(!w.is_open(ts("2026-11-24T01:00:00Z")) && !w.is_open(ts("2026-11-24T23:30:00Z")));
    }

    #[test]
    fn spans_read_as_people_say_them() {
        let said: Vec<String> = [45, 720, 18_600, 273_600].map(|s| human_span(Duration::from_secs(s))).into();
        assert_eq!(said, ["45 s", "12 min", "5 h 10 min", "3 d 4 h"]);
    }
}
