//! The way of a request: whose it is, and who comes after them. Made anew for each request; it ends, whatever is configured.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::schedule::{Schedule, ScheduleId};
use crate::domain::exception::{GroupId, MOST_STEPS, People, PersonId};
use crate::domain::time::Timestamp;

/// A team, by its name in the configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TeamId(pub Arc<str>);

impl fmt::Display for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a step tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whoever is on call.
    OnCall(ScheduleId),
    /// One person.
    Person(PersonId),
    /// Everybody of a group.
    Group(GroupId),
}

/// One step of an escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whom it tells.
    pub targets: Vec<Target>,
    /// How long they have, unless less is left.
    pub timeout: Duration,
    /// Over which channels, by their names in the configuration.
    pub channels: BTreeSet<Arc<str>>,
}

/// People who answer for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// Whom it tells, one after the other.
    pub steps: Vec<Step>,
    /// Who comes after it.
    pub next: Option<TeamId>,
}

/// All that is configured about escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// The team of each owner.
    pub owners: BTreeMap<Arc<str>, TeamId>,
    /// The teams.
    pub teams: BTreeMap<TeamId, Team>,
    /// The schedules.
    pub schedules: BTreeMap<ScheduleId, Schedule>,
    /// Who comes last, and first where nobody else is there.
    pub command: Step,
}

/// The steps of a request, in order; the last one is incident command's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way<'r> {
    /// Each step, with the team whose it is; incident command has none.
    pub steps: Vec<(Option<&'r TeamId>, &'r Step)>,
}

/// The way of what this owner answers for. What has no owner, or one without a team, goes to incident command at once: it is
/// never nobody's. A team that comes again is passed over, so that every way ends.
#[must_use]
pub fn route<'r>(owner: Option<&str>, routes: &'r Routes) -> Way<'r> {
    let mut steps = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = owner.and_then(|owner| routes.owners.get(owner));
    // One place is incident command's.
    let most = usize::try_from(MOST_STEPS).unwrap_or(usize::MAX).saturating_sub(1);
    while let Some((id, team)) = next.and_then(|id| routes.teams.get_key_value(id)) {
        if !seen.insert(id) {
            break;
        }
        steps.extend(team.steps.iter().map(|step| (Some(id), step)));
        next = team.next.as_ref();
    }
    steps.truncate(most);
    steps.push((None, &routes.command));
    Way { steps }
}

/// Who is told by a step, and over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The people: those who are known and there.
    pub people: BTreeSet<PersonId>,
    /// The channels that work.
    pub channels: BTreeSet<Arc<str>>,
}

impl Step {
    /// Who would be told now. Nobody, or over nothing, means that the step is skipped.
    #[must_use]
    pub fn told(&self, routes: &Routes, people: &People, dead: &BTreeSet<Arc<str>>, at: Timestamp) -> Told {
        let is_there = |id: &PersonId| people.get(id).is_some_and(|person| person.is_here(at));
        let mut all = BTreeSet::new();
        for target in &self.targets {
            match target {
                Target::OnCall(id) => all.extend(routes.schedules.get(id).and_then(|s| s.on_call(at)).cloned()),
                Target::Person(id) => _ = all.insert(id.clone()),
                Target::Group(group) => {
                    all.extend(people.iter().filter(|(_, p)| p.groups.contains(group)).map(|(id, _)| id.clone()));
                }
            }
        }
        all.retain(is_there);
        Told { people: all, channels: self.channels.difference(dead).cloned().collect() }
    }
}

impl Told {
    /// Both together: whoever hears either, over whatever works for either.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        if other.reaches_nobody() {
            return self;
        }
        self.people.extend(other.people);
        self.channels.extend(other.channels);
        self
    }

    /// Whether anybody hears it.
    #[must_use]
    pub fn reaches_nobody(&self) -> bool {
        self.people.is_empty() || self.channels.is_empty()
    }
}
