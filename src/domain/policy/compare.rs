//! What another policy would change, by examples.

use std::collections::BTreeMap;

use super::Policy;
use super::act::{Act, Lane};
use super::decide::{Judged, judge};
use super::ground::{Example, Ground, TooMany};

/// A change that another policy makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which act.
    pub act: Act,
    /// What the one policy says.
    pub before: Judged,
    /// What the other says.
    pub after: Judged,
    /// The most ordinary example.
    pub example: Example,
    /// How many kinds of subject it is about.
    pub kinds: usize,
}

/// Whether something gets easier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Course {
    /// Less stands in its way.
    Easier,
    /// More does.
    Harder,
}

impl Judged {
    /// Whether `after` is easier than this, or harder; `None` where it is neither.
    #[must_use]
    pub fn course(&self, after: &Self) -> Option<Course> {
        match after.lane.cmp(&self.lane) {
            core::cmp::Ordering::Less => Some(Course::Easier),
            core::cmp::Ordering::Greater => Some(Course::Harder),
            core::cmp::Ordering::Equal if after.quorum == self.quorum => None,
            core::cmp::Ordering::Equal if after.quorum.implies(&self.quorum) => Some(Course::Harder),
            // Other people, and not only more of them.
            core::cmp::Ordering::Equal => Some(Course::Easier),
        }
    }
}

/// Everything that changes from one policy to another, each with an example: nothing is left out. Local times are compared;
/// where the zone changes, they come at other moments.
///
/// # Errors
/// If they tell more apart than is looked at.
pub fn compare(before: &Policy, after: &Policy) -> Result<Vec<Change>, TooMany> {
    let mut all = Vec::new();
    for (act, _) in Act::ALL {
        let mut found: BTreeMap<(Lane, Lane, Course), Change> = BTreeMap::new();
        for example in Ground::of(act, &[before, after])?.examples() {
            let was = judge(&example.subject_for(act, before), before);
            let is = judge(&example.subject_for(act, after), after);
            let Some(course) = was.course(&is) else { continue };
            match found.get_mut(&(was.lane, is.lane, course)) {
                Some(known) => known.kinds = known.kinds.saturating_add(1),
                None => {
                    let change =
                        Change { act, before: was.clone(), after: is.clone(), example: example.clone(), kinds: 1 };
                    found.insert((was.lane, is.lane, course), change);
                }
            }
        }
        all.extend(found.into_values());
    }
    Ok(all)
}
