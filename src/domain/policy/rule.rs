//! Rules and their conditions.
//!
//! A rule matches where every condition holds that it names. [`CHECKS`] is the list of them all: what decides is what is
//! explained. A condition over something that is not known is neither met nor missed: see [`Answer::Unknown`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::act::{Act, Lane, Tier, Undo};
use super::quorum::Need;
use super::subject::{History, Subject};
use super::when::{Hours, Period};
use crate::domain::json::Json;

/// One rule. The first rule that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for the record.
    pub id: Arc<str>,
    /// The acts it is about; empty means all.
    pub acts: BTreeSet<Act>,
    /// When it matches.
    pub when: Conditions,
    /// What it says.
    pub lane: Lane,
    /// Who has to approve, besides those that the tier asks for.
    pub need: Option<Need>,
}

/// What must hold for a rule to match; what is empty holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Labels that must all be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Labels that must not be there at all.
    pub lacks: BTreeSet<String>,
    /// It belongs to one of these.
    pub owners: BTreeSet<String>,
    /// The tier.
    pub tier: Range,
    /// The hours.
    pub hours: Option<Hours>,
    /// One of these periods is on.
    pub during: BTreeSet<Arc<str>>,
    /// None of these periods is on.
    pub not_during: BTreeSet<Arc<str>>,
    /// So many attempts failed of late.
    pub failures: Range,
    /// So often its paths closed of late.
    pub flaps: Range,
    /// So many incidents are over it.
    pub incidents: Range,
    /// What is known of the issuer.
    pub issuer: BTreeSet<History>,
    /// Whether it can be undone.
    pub undo: Option<Undo>,
}

/// A range of counts, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: Option<u32>,
}

impl Range {
    /// So many or more.
    #[must_use]
    pub const fn from(min: u32) -> Self {
        Self { min, max: None }
    }

    fn asks(&self) -> bool {
        *self != Self::default()
    }

    fn holds(&self, count: u32) -> bool {
        count >= self.min && self.max.is_none_or(|max| count <= max)
    }

    fn wanted(&self) -> String {
        match (self.min, self.max) {
            (min, None) => format!("{min} or more"),
            (0, Some(max)) => format!("at most {max}"),
            (min, Some(max)) if min == max => min.to_string(),
            (min, Some(max)) => format!("{min} to {max}"),
        }
    }
}

/// Whether a condition holds, or a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It does.
    Yes,
    /// It depends on what is not known.
    Unknown,
    /// It does not.
    No,
}

impl From<bool> for Answer {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// What rules are held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) tier: Tier,
    pub(super) hours: Option<Hours>,
    pub(super) periods: &'a BTreeMap<Arc<str>, Period>,
}

impl Facts<'_> {
    fn is_on(&self, period: &Arc<str>) -> Answer {
        match (self.periods.get(period), &self.subject.local) {
            (Some(period), Some(local)) => period.holds(local).into(),
            // A period that is nowhere described may be on.
            (None, _) | (_, None) => Answer::Unknown,
        }
    }
}

/// One kind of condition.
pub(super) struct Check {
    /// Its name in the configuration.
    pub(super) name: &'static str,
    /// `None` where the rule does not ask.
    pub(super) ask: fn(&Rule, &Facts<'_>) -> Option<Answer>,
    /// What the rule wants.
    pub(super) wanted: fn(&Rule) -> String,
    /// What there is.
    pub(super) seen: fn(&Facts<'_>) -> String,
}

fn count(range: Range, seen: Option<u32>) -> Option<Answer> {
    range.asks().then(|| seen.map_or(Answer::Unknown, |n| range.holds(n).into()))
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "not known".to_owned(), |v| v.to_string())
}

fn join<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Every kind of condition, the cheapest first.
pub(super) static CHECKS: [Check; 13] = [
    Check {
        name: "actions",
        ask: |rule, facts| (!rule.acts.is_empty()).then(|| rule.acts.contains(&facts.subject.act).into()),
        wanted: |rule| join(rule.acts.iter().map(|act| act.as_str())),
        seen: |facts| facts.subject.act.as_str().to_owned(),
    },
    Check {
        name: "tier",
        ask: |rule, facts| count(rule.when.tier, Some(u32::from(facts.tier.level()))),
        wanted: |rule| rule.when.tier.wanted(),
        seen: |facts| facts.tier.to_string(),
    },
    Check {
        name: "labels",
        ask: |rule, facts| {
            let all = || rule.when.labels.iter().all(|(k, v)| facts.subject.labels.get(k) == Some(v));
            (!rule.when.labels.is_empty()).then(|| all().into())
        },
        wanted: |rule| rule.when.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "),
        seen: |facts| {
            let all: Vec<String> = facts.subject.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        },
    },
    Check {
        name: "lacks",
        ask: |rule, facts| {
            let lacks = || !rule.when.lacks.iter().any(|key| facts.subject.labels.contains_key(key));
            (!rule.when.lacks.is_empty()).then(|| lacks().into())
        },
        wanted: |rule| format!("no {}", join(rule.when.lacks.iter().map(String::as_str))),
        seen: |facts| join(facts.subject.labels.keys().map(String::as_str)),
    },
    Check {
        name: "owners",
        ask: |rule, facts| {
            let owned = || facts.subject.owner.is_some_and(|owner| rule.when.owners.contains(owner));
            (!rule.when.owners.is_empty()).then(|| owned().into())
        },
        wanted: |rule| join(rule.when.owners.iter().map(String::as_str)),
        seen: |facts| facts.subject.owner.unwrap_or("nobody").to_owned(),
    },
    Check {
        name: "reversible",
        ask: |rule, facts| rule.when.undo.map(|undo| (undo == facts.subject.undo).into()),
        wanted: |rule| (rule.when.undo == Some(Undo::Possible)).to_string(),
        seen: |facts| (facts.subject.undo == Undo::Possible).to_string(),
    },
    Check {
        name: "hours",
        ask: |rule, facts| rule.when.hours.map(|hours| facts.hours.map_or(Answer::Unknown, |h| (h == hours).into())),
        wanted: |rule| rule.when.hours.map_or("", Hours::as_str).to_owned(),
        seen: |facts| known(facts.hours.map(Hours::as_str)),
    },
    Check {
        name: "during",
        ask: |rule, facts| rule.when.during.iter().map(|period| facts.is_on(period)).min(),
        wanted: |rule| join(rule.when.during.iter().map(|p| &**p)),
        seen: |facts| known(facts.subject.local),
    },
    Check {
        name: "not_during",
        ask: |rule, facts| {
            let on = rule.when.not_during.iter().map(|period| facts.is_on(period)).min();
            on.map(|on| match on {
                Answer::Yes => Answer::No,
                Answer::Unknown => Answer::Unknown,
                Answer::No => Answer::Yes,
            })
        },
        wanted: |rule| format!("not {}", join(rule.when.not_during.iter().map(|p| &**p))),
        seen: |facts| known(facts.subject.local),
    },
    Check {
        name: "failures",
        ask: |rule, facts| count(rule.when.failures, facts.subject.failures),
        wanted: |rule| rule.when.failures.wanted(),
        seen: |facts| known(facts.subject.failures),
    },
    Check {
        name: "flaps",
        ask: |rule, facts| count(rule.when.flaps, facts.subject.flaps),
        wanted: |rule| rule.when.flaps.wanted(),
        seen: |facts| known(facts.subject.flaps),
    },
    Check {
        name: "incidents",
        ask: |rule, facts| count(rule.when.incidents, facts.subject.incidents),
        wanted: |rule| rule.when.incidents.wanted(),
        seen: |facts| known(facts.subject.incidents),
    },
    Check {
        name: "issuer",
        ask: |rule, facts| {
            let issued =
                || facts.subject.issuer.map_or(Answer::Unknown, |history| rule.when.issuer.contains(&history).into());
            (!rule.when.issuer.is_empty()).then(issued)
        },
        wanted: |rule| join(rule.when.issuer.iter().map(|history| history.as_str())),
        seen: |facts| known(facts.subject.issuer.map(History::as_str)),
    },
];

impl Rule {
    /// For these acts, always.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, acts: impl IntoIterator<Item = Act>, lane: Lane) -> Self {
        Self { id: id.into(), acts: acts.into_iter().collect(), when: Conditions::default(), lane, need: None }
    }

    /// Every condition that this rule names, with its answer.
    pub(super) fn asks<'a>(&'a self, facts: &'a Facts<'a>) -> impl Iterator<Item = (&'static Check, Answer)> + 'a {
        CHECKS.iter().filter_map(move |check| Some((check, (check.ask)(self, facts)?)))
    }

    /// Every condition that this rule names, with what it wants.
    #[must_use]
    pub fn conditions(&self) -> Vec<(&'static str, String)> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let subject = Subject::new(Act::Renew, &NONE, 0);
        let facts = Facts { subject: &subject, tier: Tier::LOWEST, hours: None, periods: &BTreeMap::new() };
        self.asks(&facts).map(|(check, _)| (check.name, (check.wanted)(self))).collect()
    }

    /// Whether it matches: the worst of its answers.
    pub(super) fn matches(&self, facts: &Facts<'_>) -> Answer {
        let mut worst = Answer::Yes;
        for (_, answer) in self.asks(facts) {
            match answer {
                Answer::No => return Answer::No,
                Answer::Unknown => worst = Answer::Unknown,
                Answer::Yes => {}
            }
        }
        worst
    }

    /// What was configured and nothing else: a new kind of condition does not change the digest of rules without it.
    pub(super) fn to_json(&self) -> Json {
        let when = &self.when;
        let list = |items: Vec<Json>| if items.is_empty() { Json::Null } else { Json::Arr(items) };
        let names = |names: &BTreeSet<Arc<str>>| list(names.iter().map(|n| Json::shared(n.clone())).collect());
        let texts = |texts: &BTreeSet<String>| list(texts.iter().map(|t| Json::str(t.clone())).collect());
        let range = |range: Range| {
            if !range.asks() {
                return Json::Null;
            }
            Json::obj([
                ("min", Json::Int(i64::from(range.min))),
                ("max", Json::opt(range.max.map(|max| Json::Int(i64::from(max))))),
            ])
        };
        Json::obj([
            ("id", Json::str(self.id.to_string())),
            ("acts", Json::arr(self.acts.iter().map(|a| Json::str(a.as_str())))),
            ("labels", Json::arr(when.labels.iter().map(|(k, v)| Json::str(format!("{k}={v}"))))),
            ("min_tier", Json::Int(i64::from(when.tier.min))),
            ("max_tier", Json::opt(when.tier.max.map(|max| Json::Int(i64::from(max))))),
            ("lane", Json::str(self.lane.as_str())),
            ("lacks", texts(&when.lacks)),
            ("owners", texts(&when.owners)),
            ("hours", Json::opt(when.hours.map(|hours| Json::str(hours.as_str())))),
            ("during", names(&when.during)),
            ("not_during", names(&when.not_during)),
            ("failures", range(when.failures)),
            ("flaps", range(when.flaps)),
            ("incidents", range(when.incidents)),
            ("issuer", list(when.issuer.iter().map(|history| Json::str(history.as_str())).collect())),
            ("reversible", Json::opt(when.undo.map(|undo| Json::Bool(undo == Undo::Possible)))),
            ("need", Json::opt(self.need.as_ref().map(Need::to_json))),
        ])
    }
}
