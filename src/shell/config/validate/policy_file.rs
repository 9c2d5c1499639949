//! `policy.toml`: rules with all their conditions, hours, periods, approvals.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::policy::MOST_RULES;
use super::{Ids, certificate, scalar};
use crate::domain::id::PathId;
use crate::domain::policy::{
    Act, Calendar, Conditions, Date, History, Hours, Lane, MOST_PERSONS, Need, Otherwise, Period, Policy, RECENT,
    Range, Rule, Setting, Tier, TierNeed, Undo, WEEKDAYS, Weekly,
};
use crate::domain::time::{DAY, MINUTE};
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{self, At, Section, Wrong};

/// The only form that is known.
pub(super) const VERSION: u32 = 1;
/// A year has at most 366.
const MOST_HOLIDAYS: usize = 1_000;
const MOST_PERIODS: usize = 64;
const MOST_NEEDS: usize = 64;
const MOST_NAMES: usize = 64;
/// Counts above this nobody waits for.
const MOST_COUNT: u32 = 1_000;
/// Less than a minute is over before anybody sees it; a month ago is no news.
const RECENT_SPAN: core::ops::RangeInclusive<Duration> = MINUTE..=Duration::from_secs(DAY.as_secs() * 31);

const DAYS: [(usize, &str); 7] = [
    (0, WEEKDAYS[0]),
    (1, WEEKDAYS[1]),
    (2, WEEKDAYS[2]),
    (3, WEEKDAYS[3]),
    (4, WEEKDAYS[4]),
    (5, WEEKDAYS[5]),
    (6, WEEKDAYS[6]),
];

/// Reads the whole file.
pub(in crate::shell::config) fn read(p: &mut Problems, mut root: Section<'_>) -> Option<Policy> {
    version(p, &mut root);
    let revision = root.parsed(p, "revision", "\"2026-11-22\"", scalar::short_text).map(|r| Arc::from(r.value));
    let otherwise = default_lane(p, &mut root);
    let recent = root.parsed(p, "recent", "\"24h\"", |t| scalar::duration(t, RECENT_SPAN));
    let calendar = calendar(p, &mut root);
    let mut ids = Ids::default();
    let periods = periods(p, &mut root, &mut ids, calendar.is_some());
    let needs = needs(p, &mut root, calendar.is_some());
    let rules = rules(p, &mut root, &ids, calendar.is_some());
    root.close(p);
    let recent = recent.map_or(RECENT, |recent| recent.value);
    let calendar = calendar.flatten();
    Some(Policy::with_setting(rules, Setting { revision, otherwise, calendar, periods, recent, needs, contract: None }))
}

/// The form of the file, said so that a later one is not taken for this.
pub(super) fn version(p: &mut Problems, root: &mut Section<'_>) {
    if !root.has("version") {
        root.missing(p, "version", "1");
    }
    let seen = root.number(p, "version", 0..=u32::MAX);
    if let Some(other) = seen.filter(|v| v.value != VERSION) {
        let what = format!("form {} of this file is not known", other.value);
        p.add(
            "KW5022",
            &other.span,
            what,
            "unknown form",
            "write version = 1; it is the form, not the state, of the file",
        );
    }
}

fn default_lane(p: &mut Problems, root: &mut Section<'_>) -> Otherwise {
    let Some(lane) = root.word(p, "default", &Lane::ALL) else { return Otherwise::Prohibit };
    match lane.value {
        Lane::Prohibited => Otherwise::Prohibit,
        Lane::ReviewRequired => Otherwise::Review,
        Lane::Autonomous => {
            let mend = "write a last rule that names the actions which may go by themselves";
            p.add("KW5024", &lane.span, "what no rule names cannot go by itself", "too easy", mend);
            Otherwise::Prohibit
        }
    }
}

/// `Some(None)` where hours are given and wrong, so that what needs them is not reported too.
fn calendar(p: &mut Problems, root: &mut Section<'_>) -> Option<Option<Calendar>> {
    let mut s = root.section(p, "hours", "[hours]")?;
    let zone = s.need(p, "zone", "\"Europe/Berlin\"", scalar::zone);
    let days = days(p, &mut s);
    let from = s.need(p, "from", "\"09:00\"", scalar::minute_of_day);
    let until = s.need(p, "until", "\"17:00\"", scalar::minute_of_day);
    let mut holidays = BTreeSet::new();
    let listed = s.texts(p, "holidays", MOST_HOLIDAYS, "[\"2026-12-25\"]").map_or(Vec::new(), |l| l.value);
    for text in listed {
        holidays.extend(raw::understood(p, "holidays", text, date).map(|day| day.value));
    }
    s.close(p);
    let made = || {
        let business = weekly(p, days?, &from?, &until?)?;
        Some(Calendar { zone: zone?.value, business, holidays })
    };
    Some(made())
}

/// Monday to Friday, unless it says otherwise.
fn days(p: &mut Problems, s: &mut Section<'_>) -> Option<[bool; 7]> {
    if !s.has("days") {
        return Some([true, true, true, true, true, false, false]);
    }
    let days = s.words(p, "days", &DAYS)?;
    if days.value.is_empty() {
        never(p, &days, "days");
        return None;
    }
    let mut on = [false; 7];
    for day in days.value {
        on.get_mut(day.value).into_iter().for_each(|slot| *slot = true);
    }
    Some(on)
}

fn weekly(p: &mut Problems, days: [bool; 7], from: &At<u16>, until: &At<u16>) -> Option<Weekly> {
    if from.value == until.value || from.value == 1_440 {
        let mend = "write from = \"00:00\" and until = \"24:00\" for the whole day";
        p.add("KW0019", &until.span, "a time must not end when it begins", "no length", mend);
        return None;
    }
    let until_minute = if until.value == 0 { 1_440 } else { until.value };
    Some(Weekly { days, from_minute: from.value, until_minute })
}

fn date(text: &str) -> Result<Date, Wrong> {
    let mend = "write a day of the calendar: \"2026-12-24\"";
    Date::parse(text).ok_or_else(|| Wrong::new("KW0019", format!("is no day: {}", quoted(text)), mend))
}

/// Whole days from one date to another, or times of the day on days of the week.
fn periods<'a>(
    p: &mut Problems,
    root: &mut Section<'a>,
    ids: &mut Ids<'a>,
    has_hours: bool,
) -> BTreeMap<Arc<str>, Period> {
    let mut all = BTreeMap::new();
    for mut s in root.sections(p, "period", "[[period]]", MOST_PERIODS) {
        if !has_hours {
            no_hours(p, &s.at, "a period");
        }
        let id = ids.read(p, &mut s, "\"year-end\"", |t| PathId::parse(t).map(|id| id.to_string()));
        let is_weekly = s.has("days");
        let on = days(p, &mut s);
        let period = if is_weekly {
            let from = s.need(p, "from", "\"22:00\"", scalar::minute_of_day);
            let until = s.need(p, "until", "\"06:00\"", scalar::minute_of_day);
            on.zip(from).zip(until).and_then(|((on, from), until)| weekly(p, on, &from, &until)).map(Period::Weekly)
        } else {
            let from = s.need(p, "from", "\"2026-12-18\"", date);
            let until = s.need(p, "until", "\"2027-01-03\"", date);
            from.zip(until).and_then(|(from, until)| {
                if until.value < from.value {
                    p.add(
                        "KW5023",
                        &until.span,
                        "a period must not end before it begins",
                        "earlier",
                        "swap the two days",
                    );
                    return None;
                }
                Some(Period::Dates { from: from.value, until: until.value })
            })
        };
        s.close(p);
        if let (Some(id), Some(period)) = (id, period) {
            all.insert(Arc::from(id.value), period);
        }
    }
    all
}

/// More approvals than the built-in table asks for.
fn needs(p: &mut Problems, root: &mut Section<'_>, has_hours: bool) -> Vec<TierNeed> {
    let mut all = Vec::new();
    for mut s in root.sections(p, "quorum", "[[quorum]]", MOST_NEEDS) {
        let tier = s.number(p, "min_tier", 0..=u32::from(Tier::HIGHEST.level()));
        let hours = s.word(p, "hours", &Hours::ALL);
        if let Some(hours) = hours.as_ref().filter(|_| !has_hours) {
            no_hours(p, &hours.span, "`hours`");
        }
        let need = need(p, &mut s);
        s.close(p);
        all.extend(need.map(|need| TierNeed { min_tier: level(tier), hours: hours.map(|h| h.value), need }));
    }
    all
}

fn level(tier: Option<At<u32>>) -> Tier {
    Tier::new(tier.map_or(0, |t| u8::try_from(t.value).unwrap_or(u8::MAX)))
}

/// `persons`, `groups` and `of`.
fn need(p: &mut Problems, s: &mut Section<'_>) -> Option<Need> {
    let most = u32::from(MOST_PERSONS);
    let count = |n: Option<At<u32>>| n.map_or(0, |n| u8::try_from(n.value).unwrap_or(MOST_PERSONS));
    let (persons, groups) = (count(s.number(p, "persons", 1..=most)), count(s.number(p, "groups", 1..=most)));
    let of = names(p, s, "of", "[\"pki\", \"security\"]");
    if of.as_ref().is_some_and(|of| of.len() < usize::from(groups)) {
        let what = format!("{groups} groups are wanted, and `of` names fewer");
        p.add("KW5023", &s.key_span("groups"), what, "can never be met", "name more groups, or ask for fewer");
        return None;
    }
    Some(Need { persons: persons.max(groups).max(1), groups, of: of.unwrap_or_default() })
}

fn rules(p: &mut Problems, root: &mut Section<'_>, periods: &Ids<'_>, has_hours: bool) -> Vec<Rule> {
    let mut ids = Ids::default();
    let mut rules = Vec::new();
    for mut s in root.sections(p, "rule", "[[rule]]", MOST_RULES) {
        let id = ids.read(p, &mut s, "\"no-reissue-in-prod\"", |t| PathId::parse(t).map(|id| id.to_string()));
        let acts = set(p, &mut s, "actions", &Act::ALL);
        let when = conditions(p, &mut s, periods, has_hours);
        if !s.has("lane") {
            s.missing(p, "lane", "\"review-required\"");
        }
        let lane = s.word(p, "lane", &Lane::ALL);
        let approvals = s.section(p, "approvals", "approvals");
        if let Some(lane) = lane.as_ref().filter(|l| approvals.is_some() && l.value != Lane::ReviewRequired) {
            let what = format!("nobody approves what is {}", lane.value.as_str());
            let mend = "remove `approvals`, or write lane = \"review-required\"";
            p.add("KW5023", &s.key_span("approvals"), what, "never asked for", mend);
        }
        let need = approvals.and_then(|mut a| {
            let need = need(p, &mut a);
            a.close(p);
            need
        });
        s.close(p);
        if let (Some(id), Some(lane)) = (id, lane) {
            rules.push(Rule { id: Arc::from(id.value), acts, when, lane: lane.value, need });
        }
    }
    rules
}

fn conditions(p: &mut Problems, s: &mut Section<'_>, known: &Ids<'_>, has_hours: bool) -> Conditions {
    let before = p.count();
    let labels = certificate::labels(p, s);
    // Wrong ones were reported already.
    if labels.is_empty() && s.has("labels") && p.count() == before {
        never(p, &At { value: (), span: s.value_span("labels") }, "labels");
    }
    let lacks = names(p, s, "lacks", "[\"env\"]").unwrap_or_default();
    let owners = names(p, s, "owners", "[\"platform\"]").unwrap_or_default();
    let tier = range(p, s, ("min_tier", "max_tier"), u32::from(Tier::HIGHEST.level()));
    let hours = s.word(p, "hours", &Hours::ALL);
    if let Some(hours) = hours.as_ref().filter(|_| !has_hours) {
        no_hours(p, &hours.span, "`hours`");
    }
    let during = named(p, s, "during", known);
    let not_during = named(p, s, "not_during", known);
    let failures = range(p, s, ("min_failures", "max_failures"), MOST_COUNT);
    let flaps = range(p, s, ("min_flaps", "max_flaps"), MOST_COUNT);
    let incidents = range(p, s, ("min_incidents", "max_incidents"), MOST_COUNT);
    let issuer = set(p, s, "issuer", &History::ALL);
    let reversible = s.flag(p, "reversible");
    let undo = reversible.map(|r| if r.value { Undo::Possible } else { Undo::Never });
    let texts = |names: BTreeSet<Arc<str>>| names.into_iter().map(|n| n.to_string()).collect();
    Conditions {
        labels,
        lacks: texts(lacks),
        owners: texts(owners),
        tier,
        hours: hours.map(|h| h.value),
        during,
        not_during,
        failures,
        flaps,
        incidents,
        issuer,
        undo,
    }
}

/// A list of words as a set; an empty one would mean the opposite of what it says.
pub(super) fn set<T: Copy + Ord>(
    p: &mut Problems,
    s: &mut Section<'_>,
    key: &'static str,
    words: &[(T, &'static str)],
) -> BTreeSet<T> {
    let Some(list) = s.words(p, key, words) else { return BTreeSet::new() };
    if list.value.is_empty() {
        never(p, &list, key);
    }
    list.value.into_iter().map(|word| word.value).collect()
}

fn names(p: &mut Problems, s: &mut Section<'_>, key: &'static str, example: &str) -> Option<BTreeSet<Arc<str>>> {
    let list = s.texts(p, key, MOST_NAMES, example)?;
    if list.value.is_empty() {
        never(p, &list, key);
    }
    let each = list.value.into_iter().filter_map(|text| raw::understood(p, key, text, scalar::short_text));
    Some(each.map(|name| Arc::from(name.value)).collect())
}

fn named(p: &mut Problems, s: &mut Section<'_>, key: &'static str, known: &Ids<'_>) -> BTreeSet<Arc<str>> {
    let Some(list) = s.texts(p, key, MOST_NAMES, "[\"year-end\"]") else { return BTreeSet::new() };
    if list.value.is_empty() {
        never(p, &list, key);
    }
    let mut all = BTreeSet::new();
    for name in list.value {
        if known.contains(name.value) {
            all.insert(Arc::from(name.value));
        } else {
            known.unknown(p, "period", &name);
        }
    }
    all
}

fn range(p: &mut Problems, s: &mut Section<'_>, keys: (&'static str, &'static str), most: u32) -> Range {
    let (min, max) = (s.number(p, keys.0, 0..=most), s.number(p, keys.1, 0..=most));
    if let (Some(min), Some(max)) = (&min, &max)
        && max.value < min.value
    {
        let what = format!("nothing is at least {} and at most {}", min.value, max.value);
        p.add_with("KW5023", &max.span, what, "less", "swap the two", (&min.span, "more"));
    }
    Range { min: min.map_or(0, |n| n.value), max: max.map(|n| n.value) }
}

fn never<T>(p: &mut Problems, at: &At<T>, key: &str) {
    let mend = format!("name something in `{key}`, or leave it out: left out, it does not matter");
    p.add("KW5023", &at.span, format!("`{key}` is empty: nothing could meet it"), "empty", mend);
}

fn no_hours(p: &mut Problems, at: &crate::shell::config::diagnostic::Span, what: &str) {
    let mend = "add [hours] with zone = \"Europe/Berlin\", from = \"09:00\" and until = \"17:00\"";
    p.add("KW5025", at, format!("{what} needs [hours], which say in what zone"), "in what zone?", mend);
}
