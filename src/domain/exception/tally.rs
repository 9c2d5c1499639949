//! Whether enough people agreed: counted anew each time, over the people as they are.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::eligible::{Ground, has_authority, stands};
use super::kind::Kind;
use super::people::{GroupId, Hours, PersonId};
use super::request::Request;
use super::rules::{Denied, Need, Pair, Required, required};
use super::vote::{Verdict, Vote};

/// The approvals that count, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<'r> {
    /// The approvals that count. Persons are counted, not votes: there is one of a person, and if there were more it would
    /// change nothing.
    pub counted: Vec<&'r Vote>,
    /// What has to come together.
    pub required: Required,
    /// What does not yet; nothing if it is enough.
    pub lacking: Vec<Lacking>,
}

/// What is not enough yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// More persons.
    Persons {
        /// So many agreed.
        given: usize,
        /// So many have to.
        needed: u8,
    },
    /// More of the persons whom a rule names.
    Of {
        /// Which rule.
        rule: Arc<str>,
        /// So many agreed.
        given: usize,
        /// So many have to.
        needed: u8,
    },
    /// Two who are unlike enough.
    Pair(Pair),
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persons { given, needed } => write!(f, "{given} of {needed} persons agreed"),
            Self::Of { rule, given, needed } => write!(f, "{given} of {needed} of those whom rule {rule} names agreed"),
            Self::Pair(Pair::Any | Pair::TwoGroups) => f.write_str("no two of two groups agreed"),
            Self::Pair(Pair::TwoGroupsTwoChannels) => f.write_str("no two of two groups agreed over two channels"),
        }
    }
}

/// Counts the approvals of a request. `executor` is who would carry it out, if that is a person.
///
/// # Errors
/// [`Denied`] if nothing could be enough.
pub fn tally<'r>(request: &'r Request, executor: Option<&PersonId>, ground: &Ground<'_>) -> Result<Tally<'r>, Denied> {
    // First as out of hours: who decides is the same, how many is not.
    let strict = required(&request.scope, ground.rules, Hours::Out)?;
    let hash = request.scope.hash();
    let counts = |vote: &&Vote| {
        let ballot = &vote.ballot;
        ballot.verdict == Verdict::Approve
            && ballot.round == request.scope.round
            && ballot.scope == hash
            && (request.scope.kind != Kind::BreakGlass || ballot.channel.is_out_of_band())
            && ground.people.get(&ballot.person).is_some_and(|person| stands(vote, person))
            && has_authority(request, &ballot.person, executor, &strict, ground.people).is_ok()
    };
    let counted: Vec<&Vote> = request.votes.iter().filter(counts).collect();
    // What somebody approved at work is approved, also if it is done at night; at night one person is not enough.
    let at_work = counted.iter().any(|vote| vote.hours == Hours::Business);
    let required = if at_work { required(&request.scope, ground.rules, Hours::Business)? } else { strict };
    let lacking = lacking(&counted, &required, ground);
    Ok(Tally { counted, required, lacking })
}

fn lacking(counted: &[&Vote], required: &Required, ground: &Ground<'_>) -> Vec<Lacking> {
    let mut all = Vec::new();
    let fewer = |given: usize, needed: u8| given < usize::from(needed);
    let persons =
        |votes: &mut dyn Iterator<Item = &Vote>| votes.map(|vote| &vote.ballot.person).collect::<BTreeSet<_>>().len();
    let given = persons(&mut counted.iter().copied());
    if fewer(given, required.persons) {
        all.push(Lacking::Persons { given, needed: required.persons });
    }
    for need in &required.needs {
        let theirs = counted.iter().copied().filter(|vote| !groups(vote, ground).is_disjoint(&need.groups));
        let given = persons(&mut { theirs });
        if fewer(given, need.persons) {
            all.push(Lacking::Of { rule: need.rule.clone(), given, needed: need.persons });
        }
    }
    all.extend(shared(counted, required, ground));
    let fits = |one: &Vote, other: &Vote| unlike(one, other, required, ground);
    if required.pair != Pair::Any && !counted.iter().any(|one| counted.iter().any(|other| fits(one, other))) {
        all.push(Lacking::Pair(required.pair));
    }
    all
}

/// Rules whose groups have nobody's group in common want people of their own: who is in groups of two of them speaks for one.
/// Of each set of such rules there have to be as many persons as they ask for together (Hall's theorem: then, and only then,
/// each rule can be given its own).
fn shared(counted: &[&Vote], required: &Required, ground: &Ground<'_>) -> Option<Lacking> {
    let sets = 1_u32.checked_shl(u32::try_from(required.needs.len()).unwrap_or(u32::MAX)).unwrap_or(0);
    (0..sets).find_map(|set| {
        let chosen = required.needs.iter().enumerate().filter(|(place, _)| set >> place & 1 == 1);
        let chosen: Vec<&Need> = chosen.map(|(_, need)| need).collect();
        let apart = |one: &Need, other: &Need| core::ptr::eq(one, other) || one.groups.is_disjoint(&other.groups);
        if chosen.len() < 2 || !chosen.iter().all(|one| chosen.iter().all(|other| apart(one, other))) {
            return None;
        }
        let theirs =
            counted.iter().filter(|vote| chosen.iter().any(|need| !groups(vote, ground).is_disjoint(&need.groups)));
        let given = theirs.map(|vote| &vote.ballot.person).collect::<BTreeSet<_>>().len();
        let needed = chosen.iter().fold(0_u8, |sum, need| sum.saturating_add(need.persons));
        let names: Vec<&str> = chosen.iter().map(|need| &*need.rule).collect();
        (given < usize::from(needed)).then(|| Lacking::Of { rule: Arc::from(names.join(" and ")), given, needed })
    })
}

/// Whether two approvals are of two persons who stand for two groups, over two channels where that is asked for.
fn unlike(one: &Vote, other: &Vote, required: &Required, ground: &Ground<'_>) -> bool {
    let counting: BTreeSet<&GroupId> = required.groups().collect();
    let mine: Vec<&GroupId> = groups(one, ground).iter().filter(|group| counting.contains(group)).collect();
    let theirs: Vec<&GroupId> = groups(other, ground).iter().filter(|group| counting.contains(group)).collect();
    let two_groups = mine.iter().any(|group| theirs.iter().any(|their| their != group));
    let two_channels = required.pair != Pair::TwoGroupsTwoChannels || one.ballot.channel != other.ballot.channel;
    one.ballot.person != other.ballot.person && two_groups && two_channels
}

fn groups<'g>(vote: &Vote, ground: &Ground<'g>) -> &'g BTreeSet<GroupId> {
    static NONE: BTreeSet<GroupId> = BTreeSet::new();
    ground.people.get(&vote.ballot.person).map_or(&NONE, |person| &person.groups)
}
