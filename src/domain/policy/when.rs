//! Time as policy sees it: a local day and minute, business hours, named periods.
//!
//! Refuses to know what time it is. A decision records the local time that it saw, so that it can be made again on a
//! machine whose time zones differ.

use core::fmt;
use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::domain::json::Json;
use crate::domain::time::Timestamp;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: i16,
    month: i8,
    day: i8,
}

impl Date {
    /// From `2026-12-24`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let date: jiff::civil::Date = text.parse().ok().filter(|_| text.len() == 10)?;
        Some(date.into())
    }

    /// So many days later, or earlier.
    #[must_use]
    pub fn shifted(self, days: i64) -> Option<Self> {
        self.civil()?.checked_add(jiff::Span::new().try_days(days).ok()?).ok().map(Self::from)
    }

    /// Monday is 0.
    #[must_use]
    pub fn weekday(self) -> u8 {
        self.civil().and_then(|d| u8::try_from(d.weekday().to_monday_zero_offset()).ok()).unwrap_or(0)
    }

    fn civil(self) -> Option<jiff::civil::Date> {
        jiff::civil::Date::new(self.year, self.month, self.day).ok()
    }
}

impl From<jiff::civil::Date> for Date {
    fn from(date: jiff::civil::Date) -> Self {
        Self { year: date.year(), month: date.month(), day: date.day() }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A local time, as the decision's inputs hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// The day.
    pub date: Date,
    /// Monday is 0.
    pub weekday: u8,
    /// Minutes since midnight, 0–1439.
    pub minute: u16,
    /// Whether nobody works on this day.
    pub day: DayKind,
}

/// Whether a day is one of the calendar's holidays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DayKind {
    /// It is not.
    Usual,
    /// It is.
    Holiday,
}

/// The names of the days.
pub const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weekday = WEEKDAYS.get(usize::from(self.weekday)).copied().unwrap_or("?");
        let holiday = if self.day == DayKind::Holiday { " holiday" } else { "" };
        write!(f, "{} {weekday} {:02}:{:02}{holiday}", self.date, self.minute / 60, self.minute % 60)
    }
}

/// Whether people are at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hours {
    /// They are.
    Business,
    /// They are not.
    Off,
}

impl Hours {
    /// Both with their names in the configuration.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Business, "business"), (Self::Off, "off")];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(hours, _)| *hours == self).map_or("", |(_, name)| name)
    }
}

/// Days of the week and a span of the day; one that ends at or before its start runs past midnight, and belongs to the
/// day on which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weekly {
    /// The days on which it begins, Monday first.
    pub days: [bool; 7],
    /// From this minute of the day (0–1439).
    pub from_minute: u16,
    /// Until before this one (1–1440).
    pub until_minute: u16,
}

impl Weekly {
    /// Whether it holds then.
    #[must_use]
    pub fn holds(&self, local: &Local) -> bool {
        let on = |day: u8| self.days.get(usize::from(day)).copied().unwrap_or(false);
        let today = local.weekday % 7;
        let yesterday = today.wrapping_add(6) % 7;
        if self.until_minute > self.from_minute {
            return on(today) && (self.from_minute..self.until_minute).contains(&local.minute);
        }
        (on(today) && local.minute >= self.from_minute) || (on(yesterday) && local.minute < self.until_minute)
    }

    fn to_json(&self) -> Json {
        Json::obj([
            ("days", Json::arr(self.days.iter().map(|on| Json::Bool(*on)))),
            ("from", Json::Int(i64::from(self.from_minute))),
            ("until", Json::Int(i64::from(self.until_minute))),
        ])
    }
}

/// Where and when people are at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// The zone whose civil time counts.
    pub zone: TimeZone,
    /// Business hours.
    pub business: Weekly,
    /// Days that are not among them.
    pub holidays: BTreeSet<Date>,
}

impl Calendar {
    /// What time it is there; `None` for times that no calendar has.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> Option<Local> {
        let zoned = jiff::Timestamp::from_second(at.unix()).ok()?.to_zoned(self.zone.clone());
        let minute =
            u16::try_from(zoned.hour()).ok()?.checked_mul(60)?.checked_add(u16::try_from(zoned.minute()).ok()?)?;
        Some(self.on(zoned.date().into(), minute))
    }

    /// That minute of that day.
    #[must_use]
    pub fn on(&self, date: Date, minute: u16) -> Local {
        let day = if self.holidays.contains(&date) { DayKind::Holiday } else { DayKind::Usual };
        Local { date, weekday: date.weekday(), minute, day }
    }

    /// Whether people are at work then.
    #[must_use]
    pub fn hours(&self, local: &Local) -> Hours {
        // After midnight it is still the shift of the day before, which a holiday has off as a whole.
        let nightly =
            self.business.until_minute <= self.business.from_minute && local.minute < self.business.until_minute;
        let eve_off = nightly && local.date.shifted(-1).is_some_and(|eve| self.holidays.contains(&eve));
        let works = local.day == DayKind::Usual && !eve_off && self.business.holds(local);
        if works { Hours::Business } else { Hours::Off }
    }

    pub(super) fn to_json(&self) -> Json {
        Json::obj([
            ("business", self.business.to_json()),
            ("holidays", Json::arr(self.holidays.iter().map(Json::show))),
            ("zone", Json::str(self.zone.iana_name().unwrap_or("UTC").to_owned())),
        ])
    }
}

/// A time that rules may name: the year's end, the nights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Period {
    /// Whole days, the last one included.
    Dates {
        /// The first.
        from: Date,
        /// The last.
        until: Date,
    },
    /// Each week.
    Weekly(Weekly),
}

impl Period {
    /// Whether it is then.
    #[must_use]
    pub fn holds(&self, local: &Local) -> bool {
        match self {
            Self::Dates { from, until } => (*from..=*until).contains(&local.date),
            Self::Weekly(weekly) => weekly.holds(local),
        }
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Dates { from, until } => Json::obj([("from", Json::show(from)), ("until", Json::show(until))]),
            Self::Weekly(weekly) => weekly.to_json(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Calendar {
        Calendar {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            business: Weekly {
                days: [true, true, true, true, true, false, false],
                from_minute: 540,
                until_minute: 1_020,
            },
            holidays: [Date::parse("2026-12-25").unwrap()].into(),
        }
    }

    #[test]
    fn business_hours_follow_the_zone_daylight_saving_and_holidays() {
        let hours = |text: &str| {
            let calendar = berlin();
            calendar.hours(&calendar.local(Timestamp::parse(text).unwrap()).unwrap())
        };
        // 09:00 in Berlin is 08:00 UTC in winter and 07:00 in summer; 2026-12-24 and 2026-12-25 are Thursday and Friday.
        for (at, expected) in [
            ("2026-12-24T07:59:59Z", Hours::Off),
            ("2026-12-24T08:00:00Z", Hours::Business),
            ("2026-07-16T07:00:00Z", Hours::Business),
            ("2026-12-24T15:59:59Z", Hours::Business),
            ("2026-12-24T16:00:00Z", Hours::Off),
            ("2026-12-25T10:00:00Z", Hours::Off),
            ("2026-12-26T10:00:00Z", Hours::Off),
        ] {
            assert_eq!(hours(at), expected, "{at}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_starts() {
        let friday =
            Weekly { days: [false, false, false, false, true, false, false], from_minute: 1_320, until_minute: 360 };
        let at = |date: &str, minute| friday.holds(&berlin().on(Date::parse(date).unwrap(), minute));
        // 2026-07-17 is a Friday.
        assert!(at("2026-07-17", 1_320) && at("2026-07-18", 359) && !at("2026-07-18", 360) && !at("2026-07-17", 0));
    }

    #[test]
    fn a_holiday_has_the_night_off_that_begins_on_it() {
        let nights =
            Weekly { days: [true, true, true, true, true, false, false], from_minute: 1_320, until_minute: 360 };
        let calendar = Calendar { business: nights, ..berlin() };
        let at = |date: &str, minute| calendar.hours(&calendar.on(Date::parse(date).unwrap(), minute));
        // Friday, 2026-12-25, is a holiday; a week before it is none.
        assert_eq!((at("2026-12-18", 1_330), at("2026-12-19", 180)), (Hours::Business, Hours::Business));
        assert_eq!((at("2026-12-25", 1_330), at("2026-12-26", 180)), (Hours::Off, Hours::Off));
    }

    #[test]
    fn a_period_of_days_holds_on_its_first_and_its_last() {
        let date = |text: &str| Date::parse(text).unwrap();
        let year_end = Period::Dates { from: date("2026-12-18"), until: date("2027-01-03") };
        let at = |text: &str| year_end.holds(&berlin().on(date(text), 0));
        assert_eq!(["2026-12-17", "2026-12-18", "2027-01-03", "2027-01-04"].map(at), [false, true, true, false]);
        assert_eq!(date("2026-12-31").shifted(1), Some(date("2027-01-01")));
        assert!(Date::parse("2026-2-3").is_none() && Date::parse("2026-02-30").is_none());
    }
}
