//! How much an action can hurt, as a sum that can be shown.
//!
//! ```text
//! radius       0 paths: 0; 1 path: 2; more: 3. An act outside the routine counts services too: 1: 1; 2–9: 2; 10 or more: 3
//! environment  production: at least 1
//! data         restricted data in production: at least 3
//! undo         what cannot be undone: one more, and at least 2
//! floor        acts under the floor: at least what the floor says
//! ```
//! Routine acts are weighed by paths alone: a renewal that happens every few weeks is no graver for being served at many
//! places, and they can be undone, so they reach [`Tier::GRAVEST`] and no more.

use super::act::{Nature, Tier, Undo};
use super::floor;
use super::subject::Subject;

/// Values of the label `env` that mean production.
pub const PRODUCTION: [&str; 2] = ["prod", "production"];
/// Values of the label `data_class` that mean restricted data.
pub const RESTRICTED: [&str; 3] = ["restricted", "secret", "confidential"];

/// One line of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// What weighs.
    pub what: &'static str,
    /// What was seen.
    pub seen: String,
    /// The tier after it.
    pub tier: Tier,
}

/// The tier of an action.
#[must_use]
pub fn tier(subject: &Subject<'_>) -> Tier {
    subject.tier.map_or_else(|| computed(subject), |given| given.max(floor::tier(subject.act)))
}

/// The same, line by line.
#[must_use]
pub fn weights(subject: &Subject<'_>) -> Vec<Weight> {
    let mut lines = Vec::new();
    let mut line = |what, seen: String, tier| lines.push(Weight { what, seen, tier });
    let mut sum = match subject.tier {
        Some(given) => {
            line("given", format!("tier {given}"), given);
            given
        }
        None => {
            let radius = radius(subject);
            line("radius", format!("{} paths, {} services", subject.paths, subject.services), radius);
            let mut sum = environment(subject, radius);
            line("environment", format!("env = {}", shown(subject, "env")), sum);
            sum = data(subject, sum);
            line("data", format!("data_class = {}", shown(subject, "data_class")), sum);
            sum = undo(subject, sum);
            let can = if subject.undo == Undo::Possible { "can be undone" } else { "cannot be undone" };
            line("undo", can.to_owned(), sum);
            sum
        }
    };
    if floor::tier(subject.act) > Tier::LOWEST {
        sum = sum.max(floor::tier(subject.act));
        line("floor", subject.act.as_str().to_owned(), sum);
    }
    debug_assert_eq!(sum, tier(subject), "the sum is the tier");
    lines
}

fn computed(subject: &Subject<'_>) -> Tier {
    let weighed = undo(subject, data(subject, environment(subject, radius(subject))));
    weighed.max(floor::tier(subject.act))
}

fn radius(subject: &Subject<'_>) -> Tier {
    let paths = match subject.paths {
        0 => 0,
        1 => 2,
        _ => 3,
    };
    let services = match (subject.act.nature(), subject.services) {
        (Nature::Routine, _) | (Nature::Exception, 0) => 0,
        (Nature::Exception, 1) => 1,
        (Nature::Exception, 2..=9) => 2,
        (Nature::Exception, _) => 3,
    };
    Tier::new(paths.max(services))
}

fn environment(subject: &Subject<'_>, sum: Tier) -> Tier {
    if is_production(subject) { sum.max(Tier::new(1)) } else { sum }
}

fn data(subject: &Subject<'_>, sum: Tier) -> Tier {
    let restricted = is_one_of(subject, "data_class", &RESTRICTED);
    if restricted && is_production(subject) { sum.max(Tier::new(3)) } else { sum }
}

fn undo(subject: &Subject<'_>, sum: Tier) -> Tier {
    match subject.undo {
        Undo::Possible => sum,
        Undo::Never => Tier::new(sum.level().saturating_add(1).max(2)),
    }
}

fn is_production(subject: &Subject<'_>) -> bool {
    is_one_of(subject, "env", &PRODUCTION)
}

fn is_one_of(subject: &Subject<'_>, key: &str, values: &[&str]) -> bool {
    subject.labels.get(key).is_some_and(|v| values.contains(&v.as_str()))
}

fn shown(subject: &Subject<'_>, key: &str) -> String {
    subject.labels.get(key).map_or_else(|| "(none)".to_owned(), |v| format!("{v:?}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::policy::Act;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_tier_rises_with_the_paths_that_stand_on_it_and_with_the_data() {
        let of = |l: &BTreeMap<String, String>, paths| tier(&Subject::new(Act::Renew, l, paths)).level();
        let (none, prod) = (labels(&[]), labels(&[("env", "prod")]));
        let both = labels(&[("env", "prod"), ("data_class", "restricted")]);
        assert_eq!([of(&none, 0), of(&prod, 0), of(&none, 1), of(&none, 2), of(&both, 0)], [0, 1, 2, 3, 3]);
    }

    #[test]
    fn what_is_done_every_day_is_weighed_by_paths_alone_and_the_rest_by_services_too() {
        let none = labels(&[]);
        let of = |act, services| tier(&Subject { services, ..Subject::new(act, &none, 0) }).level();
        assert_eq!([0, 1, 2, 9, 10].map(|n| of(Act::Renew, n)), [0; 5]);
        assert_eq!([0, 1, 2, 9, 10].map(|n| of(Act::NewName, n)), [0, 1, 2, 2, 3]);
    }

    #[test]
    fn what_cannot_be_undone_is_one_graver() {
        let none = labels(&[]);
        let of = |paths| tier(&Subject::new(Act::Revoke, &none, paths)).level();
        assert_eq!([of(0), of(1), of(2)], [2, 3, 4]);
    }

    #[test]
    fn only_what_cannot_be_undone_or_is_under_the_floor_is_graver_than_the_gravest_renewal() {
        let both = labels(&[("env", "prod"), ("data_class", "secret")]);
        for (act, _) in Act::ALL {
            let subject = Subject { services: 99, ..Subject::new(act, &both, 9) };
            let higher = tier(&subject) > Tier::GRAVEST;
            assert!(!higher || act.undo() == Undo::Never || floor::tier(act) > Tier::GRAVEST, "{act:?}");
            assert_eq!(weights(&subject).last().map(|w| w.tier), Some(tier(&subject)), "{act:?}");
        }
    }

    #[test]
    fn a_tier_that_is_given_is_not_computed_and_never_goes_below_the_floor() {
        let none = labels(&[]);
        let given = |act, level| tier(&Subject { tier: Some(Tier::new(level)), ..Subject::new(act, &none, 2) }).level();
        assert_eq!([given(Act::Renew, 1), given(Act::CaChange, 1), given(Act::Waiver, 4)], [1, 4, 4]);
    }
}
