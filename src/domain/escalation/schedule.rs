//! Who is on call: people in turn, handed over at a time of the local day, with exceptions; and which hours are business
//! hours.
//!
//! Local times come as data: the offsets of a zone for the time that is asked about. What they do not cover cannot be told,
//! and is then nobody's turn and no business hour.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::exception::{Hours, PersonId};
use crate::domain::time::{DAY, Timestamp};

/// A schedule, by its name in the configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduleId(pub Arc<str>);

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The offsets of a time zone, as far as they were resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its IANA name, for people.
    pub name: Arc<str>,
    /// From when on which offset holds, in seconds east of Greenwich; in order of time.
    pub offsets: Vec<(Timestamp, i32)>,
    /// Until when they are known, exclusive.
    pub known_until: Timestamp,
}

/// Seconds of a day.
const DAY_SECS: i64 = 86_400;

impl Zone {
    /// UTC, which is always known.
    #[must_use]
    pub fn utc() -> Self {
        Self { name: Arc::from("UTC"), offsets: vec![(Timestamp::MIN, 0)], known_until: Timestamp::MAX }
    }

    /// Seconds since 1970-01-01T00:00 by the clocks on the walls there.
    fn local(&self, at: Timestamp) -> Option<i64> {
        let (_, offset) = self.offsets.iter().rev().find(|(from, _)| *from <= at)?;
        (at < self.known_until).then(|| at.unix().saturating_add(i64::from(*offset)))
    }
}

/// When one hands over to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The local day of the first turn, counted from 1970-01-01.
    pub first_day: i64,
    /// At this minute of the local day.
    pub minute: u16,
    /// After so many days.
    pub every_days: u16,
}

/// Somebody else for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// From then on.
    pub from: Timestamp,
    /// Before this.
    pub until: Timestamp,
    /// Who; nobody is an answer too.
    pub who: Option<PersonId>,
}

/// People in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Whose turn comes after whose.
    pub turns: Vec<PersonId>,
    /// When it changes.
    pub handover: Handover,
    /// By whose clocks.
    pub zone: Zone,
    /// The exceptions; of several at once the last one in the list holds.
    pub overrides: Vec<Override>,
}

impl Schedule {
    /// Who is on call then, if that can be told and there is anybody.
    #[must_use]
    pub fn on_call(&self, at: Timestamp) -> Option<&PersonId> {
        if let Some(exception) = self.overrides.iter().rev().find(|o| o.from <= at && at < o.until) {
            return exception.who.as_ref();
        }
        let Handover { first_day, minute, every_days } = self.handover;
        let begin = first_day.saturating_mul(DAY_SECS).saturating_add(i64::from(minute).saturating_mul(60));
        let passed = self.zone.local(at)?.saturating_sub(begin);
        let turn = passed.div_euclid(DAY_SECS).checked_div_euclid(i64::from(every_days))?;
        let place = turn.checked_rem_euclid(i64::try_from(self.turns.len()).ok()?)?;
        self.turns.get(usize::try_from(place).ok()?)
    }
}

/// When people are at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusinessHours {
    /// On these days, Monday first.
    pub days: [bool; 7],
    /// From this minute of the local day.
    pub from_minute: u16,
    /// Before this minute of the same day.
    pub until_minute: u16,
    /// But not on these days, counted from 1970-01-01.
    pub holidays: BTreeSet<i64>,
    /// By whose clocks.
    pub zone: Zone,
}

impl BusinessHours {
    /// Whether people are at work then; what cannot be told is not.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Hours {
        let Some(local) = self.zone.local(at) else { return Hours::Out };
        let (day, second) = (local.div_euclid(DAY_SECS), local.rem_euclid(DAY_SECS));
        // 1970-01-01 was a Thursday: the fourth day of its week.
        let weekday = usize::try_from(day.saturating_add(3).rem_euclid(7)).unwrap_or_default();
        let works = self.days.get(weekday).copied().unwrap_or(false) && !self.holidays.contains(&day);
        let minute = second / 60;
        let inside = (i64::from(self.from_minute)..i64::from(self.until_minute)).contains(&minute);
        if works && inside { Hours::Business } else { Hours::Out }
    }
}

const _: () = assert!(DAY.as_secs() == 86_400, "a local day and a day have one length but where clocks change");

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn who(name: &str) -> PersonId {
        PersonId::new(name)
    }

    /// Of 2026: summer time from 29 March to 25 October.
    fn berlin() -> Zone {
        let (summer, winter) = (ts("2026-03-29T01:00:00Z"), ts("2026-10-25T01:00:00Z"));
        let offsets = vec![(ts("2026-01-01T00:00:00Z"), 3_600), (summer, 7_200), (winter, 3_600)];
        Zone { name: Arc::from("Europe/Berlin"), offsets, known_until: ts("2027-01-01T00:00:00Z") }
    }

    /// Monday 2026-10-12, a week each, handed over at 09:00.
    fn weekly() -> Schedule {
        let handover = Handover { first_day: ts("2026-10-12T00:00:00Z").unix() / DAY_SECS, minute: 540, every_days: 7 };
        Schedule { turns: ["a", "b", "c"].map(who).into(), handover, zone: berlin(), overrides: Vec::new() }
    }

    #[test]
    fn turns_change_at_the_local_hour_also_when_the_clocks_change() {
        let schedule = weekly();
        let rows = [
            ("2026-10-12T06:59:59Z", "c"),
            ("2026-10-12T07:00:00Z", "a"),
            ("2026-10-19T06:59:59Z", "a"),
            ("2026-10-19T07:00:00Z", "b"),
            // From here on it is winter: 09:00 is 08:00 UTC.
            ("2026-10-26T07:59:59Z", "b"),
            ("2026-10-26T08:00:00Z", "c"),
            ("2026-11-02T08:00:00Z", "a"),
        ];
        for (at, on_call) in rows {
            assert_eq!(schedule.on_call(ts(at)), Some(&who(on_call)), "{at}");
        }
    }

    #[test]
    fn an_exception_holds_and_of_two_the_later_one_also_if_it_is_nobody() {
        let mut schedule = weekly();
        let (from, until) = (ts("2026-10-13T00:00:00Z"), ts("2026-10-14T00:00:00Z"));
        schedule.overrides.push(Override { from, until, who: Some(who("x")) });
        assert_eq!(schedule.on_call(from), Some(&who("x")));
        assert_eq!(schedule.on_call(until), Some(&who("a")));
        schedule.overrides.push(Override { from, until, who: None });
        assert_eq!(schedule.on_call(from), None);
    }

    #[test]
    fn what_cannot_be_told_is_nobodys_turn_and_no_business_hour() {
        let schedule = weekly();
        for at in ["2025-12-31T23:59:59Z", "2027-01-01T00:00:00Z"] {
            assert_eq!(schedule.on_call(ts(at)), None, "{at}");
        }
        assert_eq!(Schedule { turns: Vec::new(), ..weekly() }.on_call(ts("2026-10-12T08:00:00Z")), None);
        let handover = Handover { every_days: 0, ..weekly().handover };
        assert_eq!(Schedule { handover, ..weekly() }.on_call(ts("2026-10-12T08:00:00Z")), None);
        assert_eq!(office().at(ts("2027-01-04T09:00:00Z")), Hours::Out);
    }

    fn office() -> BusinessHours {
        BusinessHours {
            days: [true, true, true, true, true, false, false],
            from_minute: 540,
            until_minute: 1_080,
            holidays: BTreeSet::from([ts("2026-12-25T00:00:00Z").unix() / DAY_SECS]),
            zone: berlin(),
        }
    }

    #[test]
    fn business_hours_are_local_and_know_weekends_and_holidays() {
        let rows = [
            // A Friday in summer: 09:00 to 18:00 is 07:00 to 16:00 UTC.
            ("2026-07-17T06:59:59Z", Hours::Out),
            ("2026-07-17T07:00:00Z", Hours::Business),
            ("2026-07-17T15:59:59Z", Hours::Business),
            ("2026-07-17T16:00:00Z", Hours::Out),
            ("2026-07-18T08:00:00Z", Hours::Out),
            ("2026-12-24T08:00:00Z", Hours::Business),
            ("2026-12-25T08:00:00Z", Hours::Out),
        ];
        for (at, hours) in rows {
            assert_eq!(office().at(ts(at)), hours, "{at}");
        }
    }
}
