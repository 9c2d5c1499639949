//! Who has to approve: how many persons, of which groups, and who never counts.
//!
//! A quorum is a list of needs that must all be met: that of the tier and hour, what the policy adds to it, what the rule
//! adds. Adding one never makes it easier. Refuses to know what an approval is bound to; the sign-off does.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::act::Tier;
use super::when::Hours;
use crate::domain::json::Json;

/// So many approvals are looked at, and no more: nobody needs them, and the search for groups stays small.
const MOST_APPROVALS: usize = 64;
/// More persons than this no need can ask for.
pub const MOST_PERSONS: u8 = 8;

/// One need: so many persons, of so many different groups, each of one of these groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Distinct persons.
    pub persons: u8,
    /// Distinct groups, each stood for by another person.
    pub groups: u8,
    /// Only these groups count; empty means any.
    pub of: BTreeSet<Arc<str>>,
}

impl Need {
    /// Any one person.
    pub const ONE: Self = Self::of(1, 0);

    /// So many persons of so many groups, whichever.
    #[must_use]
    pub const fn of(persons: u8, groups: u8) -> Self {
        Self { persons, groups, of: BTreeSet::new() }
    }

    /// Whether whoever meets this meets the other too.
    #[must_use]
    pub fn implies(&self, other: &Self) -> bool {
        let narrower = other.of.is_empty() || (!self.of.is_empty() && self.of.is_subset(&other.of));
        self.persons.max(self.groups) >= other.persons.max(other.groups) && self.groups >= other.groups && narrower
    }

    pub(super) fn to_json(&self) -> Json {
        Json::obj([
            ("groups", Json::Int(i64::from(self.groups))),
            ("of", Json::arr(self.of.iter().map(|g| Json::shared(g.clone())))),
            ("persons", Json::Int(i64::from(self.persons))),
        ])
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.persons.max(self.groups) {
            1 => f.write_str("1 person")?,
            n => write!(f, "{n} persons")?,
        }
        if self.groups > 1 {
            write!(f, " of {} groups", self.groups)?;
        }
        if !self.of.is_empty() {
            let of: Vec<&str> = self.of.iter().map(|g| &**g).collect();
            write!(f, " from {}", of.join(", "))?;
        }
        Ok(())
    }
}

/// What a tier needs at that hour, whatever the policy says. Unknown hours count as those in which nobody is at work.
#[must_use]
pub const fn standing(tier: Tier, hours: Option<Hours>) -> Need {
    match (tier.level(), hours) {
        // T1 and T2 wait only where a rule wants it.
        (0..=2, _) | (3, Some(Hours::Business)) => Need::of(1, 0),
        // One person alone in the night is easily mistaken, or forced.
        (3, Some(Hours::Off) | None) => Need::of(2, 0),
        (_, _) => Need::of(2, 2),
    }
}

/// Everything that has to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    needs: Vec<Need>,
}

impl Quorum {
    /// Nobody is asked.
    pub const NOBODY: Self = Self { needs: Vec::new() };

    /// Has this be met too.
    pub(super) fn add(&mut self, need: &Need) {
        if !self.needs.iter().any(|known| known.implies(need)) {
            self.needs.retain(|known| !need.implies(known));
            self.needs.push(need.clone());
            self.needs.sort();
        }
    }

    /// What has to be met.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// The fewest persons who can meet it; 0 where nobody is asked.
    #[must_use]
    pub fn persons(&self) -> u8 {
        self.needs.iter().map(|need| need.persons.max(need.groups)).max().unwrap_or(0)
    }

    /// Whether whoever meets this meets the other too.
    #[must_use]
    pub fn implies(&self, other: &Self) -> bool {
        other.needs.iter().all(|need| self.needs.iter().any(|own| own.implies(need)))
    }

    /// Whether these voices meet it.
    ///
    /// # Errors
    /// What is missing. No voice at all never meets anything.
    pub fn met(&self, voices: &[Voice], duties: &Duties) -> Result<(), Short> {
        if let Some(no) = voices.iter().find(|voice| voice.says == Says::No) {
            return Err(Short::Rejected(no.person.clone()));
        }
        // One person is one person, however often and in whatever groups.
        let mut persons: BTreeMap<&Arc<str>, BTreeSet<&Arc<str>>> = BTreeMap::new();
        for voice in voices.iter().filter(|voice| duties.bars(&voice.person).is_none()).take(MOST_APPROVALS) {
            persons.entry(&voice.person).or_default().extend(&voice.groups);
        }
        let at_least = [Need::ONE];
        for need in if self.needs.is_empty() { &at_least[..] } else { &self.needs } {
            let counted: Vec<BTreeSet<&Arc<str>>> = persons
                .values()
                .map(|groups| groups.iter().copied().filter(|g| need.of.is_empty() || need.of.contains(*g)).collect())
                .filter(|groups: &BTreeSet<&Arc<str>>| need.of.is_empty() || !groups.is_empty())
                .collect();
            let wanted = need.persons.max(need.groups).max(1);
            if counted.len() < usize::from(wanted) || represented(&counted) < usize::from(need.groups) {
                return Err(Short::Missing { need: need.clone(), persons: counted.len() });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.needs.is_empty() {
            return f.write_str("nobody");
        }
        let needs: Vec<String> = self.needs.iter().map(ToString::to_string).collect();
        f.write_str(&needs.join(", and "))
    }
}

/// For how many different groups different persons can stand: a matching, by augmenting paths.
fn represented(persons: &[BTreeSet<&Arc<str>>]) -> usize {
    fn seat<'a>(
        person: usize,
        persons: &[BTreeSet<&'a Arc<str>>],
        seats: &mut BTreeMap<&'a Arc<str>, usize>,
        tried: &mut BTreeSet<&'a Arc<str>>,
    ) -> bool {
        let Some(groups) = persons.get(person) else { return false };
        for group in groups {
            if !tried.insert(group) {
                continue;
            }
            let free = match seats.get(group).copied() {
                None => true,
                Some(other) => seat(other, persons, seats, tried),
            };
            if free {
                seats.insert(group, person);
                return true;
            }
        }
        false
    }
    let mut seats = BTreeMap::new();
    (0..persons.len()).filter(|person| seat(*person, persons, &mut seats, &mut BTreeSet::new())).count()
}

/// One person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    /// Who.
    pub person: Arc<str>,
    /// Of which groups.
    pub groups: BTreeSet<Arc<str>>,
    /// What.
    pub says: Says,
}

/// What a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It may be done.
    Yes,
    /// It may not; one is enough.
    No,
}

/// Why somebody's approval does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// Asked for it.
    Requester,
    /// Carries it out.
    Executor,
    /// Wrote the change of policy that makes it possible.
    PolicyAuthor,
}

impl Duty {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requester => "requester",
            Self::Executor => "executor",
            Self::PolicyAuthor => "policy-author",
        }
    }
}

/// Separation of duties: who never approves this, whatever the policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    barred: BTreeMap<Arc<str>, Duty>,
}

impl Duties {
    /// With one more who has a part in it.
    #[must_use]
    pub fn with(mut self, person: impl Into<Arc<str>>, duty: Duty) -> Self {
        self.barred.insert(person.into(), duty);
        self
    }

    /// Why a person's approval does not count, if so.
    #[must_use]
    pub fn bars(&self, person: &str) -> Option<Duty> {
        self.barred.get(person).copied()
    }
}

/// Why a quorum is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Short {
    /// This person said no.
    Rejected(Arc<str>),
    /// This need is not met.
    Missing {
        /// Which.
        need: Need,
        /// So many persons count for it.
        persons: usize,
    },
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(who) => write!(f, "{who} rejected it"),
            Self::Missing { need, persons } => write!(f, "it needs {need}; {persons} count so far"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(person: &str, groups: &[&str]) -> Voice {
        Voice { person: person.into(), groups: groups.iter().map(|g| Arc::from(*g)).collect(), says: Says::Yes }
    }

    fn quorum(needs: &[Need]) -> Quorum {
        let mut quorum = Quorum::default();
        needs.iter().for_each(|need| quorum.add(need));
        quorum
    }

    #[test]
    fn nobody_never_meets_anything_not_even_a_quorum_of_nobody() {
        for needs in [&[][..], &[Need::of(0, 0)], &[Need::ONE]] {
            assert!(quorum(needs).met(&[], &Duties::default()).is_err(), "{needs:?}");
        }
    }

    #[test]
    fn one_person_in_two_groups_is_one_person() {
        let two = quorum(&[Need::of(2, 2)]);
        let both = voice("ann", &["pki", "security"]);
        assert!(two.met(&[both.clone(), both.clone()], &Duties::default()).is_err());
        assert!(
            two.met(&[both.clone(), voice("bob", &["pki"])], &Duties::default()).is_ok(),
            "ann stands for security"
        );
        assert!(two.met(&[voice("ann", &["pki"]), voice("bob", &["pki"])], &Duties::default()).is_err());
    }

    #[test]
    fn requester_executor_and_author_of_the_policy_do_not_count() {
        let one = quorum(&[Need::ONE]);
        for duty in [Duty::Requester, Duty::Executor, Duty::PolicyAuthor] {
            let duties = Duties::default().with("ann", duty);
            assert!(one.met(&[voice("ann", &[])], &duties).is_err());
            assert!(one.met(&[voice("ann", &[]), voice("bob", &[])], &duties).is_ok());
        }
    }

    #[test]
    fn one_no_is_enough() {
        let no = Voice { says: Says::No, ..voice("cat", &[]) };
        let met = quorum(&[Need::ONE]).met(&[voice("ann", &[]), no], &Duties::default());
        assert_eq!(met, Err(Short::Rejected("cat".into())));
    }

    #[test]
    fn only_the_groups_that_are_named_count() {
        let need = Need { persons: 1, groups: 0, of: ["pki".into()].into() };
        assert!(quorum(core::slice::from_ref(&need)).met(&[voice("ann", &["sales"])], &Duties::default()).is_err());
        assert!(quorum(&[need]).met(&[voice("ann", &["sales", "pki"])], &Duties::default()).is_ok());
    }

    #[test]
    fn the_table_of_tiers_and_hours() {
        let said = |tier, hours| standing(Tier::new(tier), hours).to_string();
        let (day, night) = (Some(Hours::Business), Some(Hours::Off));
        let table = [(1, day), (2, day), (2, night), (3, day), (3, night), (3, None), (4, day), (4, night)];
        assert_eq!(
            table.map(|(tier, hours)| said(tier, hours)),
            [
                "1 person",
                "1 person",
                "1 person",
                "1 person",
                "2 persons",
                "2 persons",
                "2 persons of 2 groups",
                "2 persons of 2 groups"
            ]
        );
    }

    #[test]
    fn what_is_implied_is_not_said_twice() {
        let all = quorum(&[Need::ONE, Need::of(2, 0), Need::of(2, 2), Need::ONE]);
        assert_eq!(all.to_string(), "2 persons of 2 groups");
        let named = Need { persons: 1, groups: 0, of: ["pki".into()].into() };
        assert_eq!(quorum(&[Need::of(2, 0), named]).to_string(), "1 person from pki, and 2 persons");
    }
}
