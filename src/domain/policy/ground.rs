//! Every kind of subject that a policy can tell apart, each by one example.
//!
//! Rules look at finitely many values; two subjects that no condition and no weight tells apart get the same decision. So
//! whatever is true of all examples of an act is true of all its subjects whose facts are known, and what is false of one
//! has that one as its witness. What is not known is never easier than what is, so it needs no examples.

use std::collections::{BTreeMap, BTreeSet};

use super::Policy;
use super::act::{Act, Nature};
use super::rule::{Range, Rule};
use super::subject::{History, Subject};
use super::tier::{PRODUCTION, RESTRICTED};
use super::when::{Date, Local, Period, Weekly};

/// So many examples of one act are looked at, and no more: a second at worst. A policy that tells more apart is not
/// judged, which is said.
pub const MOST_EXAMPLES: usize = 50_000;

/// A label's value that no rule names.
const OTHER: &str = "(other)";

/// A Monday far from any change of clocks; a week from it on stands for all weeks.
const ANY_WEEK: &str = "2026-06-01";

/// One example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Paths.
    pub paths: usize,
    /// Places where it is served.
    pub services: usize,
    /// Whose it is.
    pub owner: Option<String>,
    /// Local time.
    pub local: Option<Local>,
    /// Recent failures.
    pub failures: u32,
    /// Recent flaps.
    pub flaps: u32,
    /// Recent incidents.
    pub incidents: u32,
    /// The issuer.
    pub issuer: History,
}

impl Example {
    /// As another policy sees it: at the same local time, which may be a holiday to one and none to the other.
    #[must_use]
    pub fn subject_for(&self, act: Act, policy: &Policy) -> Subject<'_> {
        let calendar = policy.setting().calendar.as_ref();
        let local = self.local.zip(calendar).map(|(local, calendar)| calendar.on(local.date, local.minute));
        Subject { local, ..self.subject(act) }
    }

    /// As the subject of an act.
    #[must_use]
    pub fn subject(&self, act: Act) -> Subject<'_> {
        Subject {
            services: self.services,
            owner: self.owner.as_deref(),
            local: self.local,
            failures: Some(self.failures),
            flaps: Some(self.flaps),
            incidents: Some(self.incidents),
            issuer: Some(self.issuer),
            ..Subject::new(act, &self.labels, self.paths)
        }
    }
}

/// Too many to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// Of which act.
    pub act: Act,
    /// How many there would be.
    pub count: usize,
}

/// The examples of one act under one or more policies.
#[derive(Clone, Debug)]
pub struct Ground {
    labels: Vec<(String, Vec<Option<String>>)>,
    reach: &'static [(usize, usize)],
    owners: Vec<Option<String>>,
    locals: Vec<Option<Local>>,
    counts: [Vec<u32>; 3],
    issuers: Vec<History>,
    count: usize,
}

impl Ground {
    /// What these policies tell apart where this act is concerned.
    ///
    /// # Errors
    /// If that is too much.
    pub fn of(act: Act, policies: &[&Policy]) -> Result<Self, TooMany> {
        let rules: Vec<&Rule> = policies
            .iter()
            .flat_map(|policy| policy.rules())
            .filter(|rule| rule.acts.is_empty() || rule.acts.contains(&act))
            .collect();
        let owners: BTreeSet<&String> = rules.iter().flat_map(|rule| &rule.when.owners).collect();
        let by_issuer = rules.iter().any(|rule| !rule.when.issuer.is_empty());
        let mut ground = Self {
            labels: labels(&rules),
            // One pair for each tier that the radius gives.
            reach: match act.nature() {
                Nature::Routine => &[(0, 0), (1, 1), (2, 1)],
                Nature::Exception => &[(0, 0), (0, 1), (1, 1), (2, 1)],
            },
            owners: core::iter::once(None).chain(owners.into_iter().cloned().map(Some)).collect(),
            locals: locals(policies),
            counts: [
                counts(rules.iter().map(|rule| rule.when.failures)),
                counts(rules.iter().map(|rule| rule.when.flaps)),
                counts(rules.iter().map(|rule| rule.when.incidents)),
            ],
            issuers: if by_issuer { History::ALL.map(|(history, _)| history).to_vec() } else { vec![History::Usual] },
            count: 0,
        };
        ground.count = ground.sizes().iter().fold(1_usize, |all, size| all.saturating_mul(*size));
        if ground.count > MOST_EXAMPLES { Err(TooMany { act, count: ground.count }) } else { Ok(ground) }
    }

    /// Every example, the most ordinary first.
    pub fn examples(&self) -> impl Iterator<Item = Example> + '_ {
        let sizes = self.sizes();
        (0..self.count).map(move |number| self.example(number, &sizes))
    }

    fn sizes(&self) -> Vec<usize> {
        let [failures, flaps, incidents] = &self.counts;
        let fixed = [self.reach.len(), self.locals.len(), failures.len(), flaps.len(), incidents.len()];
        let labels = self.labels.iter().map(|(_, values)| values.len());
        fixed.into_iter().chain([self.issuers.len(), self.owners.len()]).chain(labels).collect()
    }

    /// The number, read digit by digit in a base for each attribute.
    fn example(&self, number: usize, sizes: &[usize]) -> Example {
        let mut rest = number;
        let mut digits = sizes.iter().map(|size| {
            let digit = rest.checked_rem(*size).unwrap_or(0);
            rest = rest.checked_div(*size).unwrap_or(0);
            digit
        });
        let mut next = || digits.next().unwrap_or(0);
        let (paths, services) = self.reach.get(next()).copied().unwrap_or_default();
        let local = self.locals.get(next()).copied().flatten();
        let [failures, flaps, incidents] = [0, 1, 2].map(|i: usize| {
            let digit = next();
            self.counts.get(i).and_then(|counts| counts.get(digit)).copied().unwrap_or(0)
        });
        let issuer = self.issuers.get(next()).copied().unwrap_or(History::Usual);
        let owner = self.owners.get(next()).cloned().flatten();
        let labels = self.labels.iter().filter_map(|(key, values)| Some((key.clone(), values.get(next())?.clone()?)));
        let labels = labels.collect();
        Example { labels, paths, services, owner, local, failures, flaps, incidents, issuer }
    }
}

/// Each label that a rule or the tier looks at: absent, each value that is named, and another where that differs from
/// absent.
fn labels(rules: &[&Rule]) -> Vec<(String, Vec<Option<String>>)> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in rules {
        rule.when.labels.iter().for_each(|(key, value)| {
            values.entry(key).or_default().insert(value);
        });
        rule.when.lacks.iter().for_each(|key| {
            values.entry(key).or_default().insert(OTHER);
        });
    }
    for (key, weighty) in [("env", &PRODUCTION[..]), ("data_class", &RESTRICTED)] {
        let named = values.entry(key).or_default();
        // One that weighs and that no rule names, beside those that are named.
        let unnamed = weighty.iter().copied().find(|value| !named.contains(value));
        named.extend(unnamed);
    }
    let each = values.into_iter().map(|(key, named)| {
        let all = core::iter::once(None).chain(named.into_iter().map(|value| Some(value.to_owned())));
        (key.to_owned(), all.collect())
    });
    each.collect()
}

/// Where a range begins, and where it has ended: between those nothing changes.
fn counts(ranges: impl Iterator<Item = Range>) -> Vec<u32> {
    let mut all = BTreeSet::from([0]);
    for range in ranges {
        all.insert(range.min);
        all.extend(range.max.and_then(|max| max.checked_add(1)));
    }
    all.into_iter().collect()
}

/// One local time for each combination of hours and periods that ever comes.
fn locals(policies: &[&Policy]) -> Vec<Option<Local>> {
    let settings: Vec<_> = policies.iter().map(|policy| policy.setting()).collect();
    let Some(calendar) = settings.iter().find_map(|setting| setting.calendar.as_ref()) else { return vec![None] };
    let calendars: Vec<_> = settings.iter().filter_map(|setting| setting.calendar.as_ref()).collect();
    let periods: Vec<&Period> = settings.iter().flat_map(|setting| setting.periods.values()).collect();

    let mut minutes = BTreeSet::from([0_u16]);
    let mut bounds = |weekly: &Weekly| minutes.extend([weekly.from_minute, weekly.until_minute % 1_440]);
    let mut days: BTreeSet<Date> = (0..7).filter_map(|n| Date::parse(ANY_WEEK)?.shifted(n)).collect();
    // A week before and after each edge: what begins or ends with it meets every day of the week, the edge's own again too.
    let mut week = |from: Date| days.extend((-1..=7).filter_map(|n| from.shifted(n)));
    for calendar in &calendars {
        bounds(&calendar.business);
        calendar.holidays.iter().for_each(|day| week(*day));
    }
    for period in &periods {
        match period {
            Period::Dates { from, until } => {
                week(*from);
                week(*until);
            }
            Period::Weekly(weekly) => bounds(weekly),
        }
    }
    // Working hours first: they make the most ordinary examples.
    let mut found: BTreeMap<(Vec<super::when::Hours>, Vec<bool>), Local> = BTreeMap::new();
    for day in &days {
        for minute in &minutes {
            let local = calendar.on(*day, *minute);
            let hours = calendars.iter().map(|calendar| calendar.hours(&calendar.on(*day, *minute))).collect();
            let on = periods.iter().map(|period| period.holds(&local)).collect();
            found.entry((hours, on)).or_insert(local);
        }
    }
    found.into_values().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Lane, decide};

    #[test]
    fn what_is_true_of_all_examples_is_true_of_subjects_between_them() {
        let mut rule = Rule::new("a", [Act::Renew], Lane::ReviewRequired);
        rule.when.failures = Range { min: 3, max: Some(7) };
        let policy = Policy::new(vec![rule]);
        let ground = Ground::of(Act::Renew, &[&policy]).unwrap();
        let seen: BTreeSet<u32> = ground.examples().map(|example| example.failures).collect();
        assert_eq!(seen, BTreeSet::from([0, 3, 8]));
        let none = BTreeMap::new();
        for failures in 0..12 {
            let subject = Subject { failures: Some(failures), ..Subject::new(Act::Renew, &none, 0).quiet() };
            let class = if (3..=7).contains(&failures) { 3 } else { 0 };
            let example =
                ground.examples().find(|e| e.failures == class && e.labels.is_empty() && e.paths == 0).unwrap();
            assert_eq!(decide(&subject, &policy).verdict, decide(&example.subject(Act::Renew), &policy).verdict);
        }
    }

    #[test]
    fn more_than_can_be_looked_at_is_said_and_not_sampled() {
        let rules = (0..17).map(|n| {
            let mut rule = Rule::new(format!("r{n}"), [], Lane::ReviewRequired);
            rule.when.labels.insert(format!("l{n}"), "x".to_owned());
            rule
        });
        let policy = Policy::new(rules.collect());
        let error = Ground::of(Act::Renew, &[&policy]).unwrap_err();
        assert_eq!((error.act, error.count), (Act::Renew, 3 * 4 * (1 << 17)));
    }
}
