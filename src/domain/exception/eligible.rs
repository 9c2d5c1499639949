//! Who can decide this now, and why not me.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::Argv;
use super::clock::Moment;
use super::kind::{Kind, Stakes};
use super::name::RequestId;
use super::people::{Channel, Consent, GroupId, Hours, Nature, People, Person, PersonId, Presence, Role, principals};
use super::request::{Request, State};
use super::rules::{Denied, Pair, Required, Rules, required};
use super::vote::{Verdict, Vote};
use crate::domain::id::FreezeId;
use crate::domain::time::Timestamp;

/// What is known at the moment of judging. All of it is read anew each time: nothing of it is kept in a request.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Everybody who is known.
    pub people: &'a People,
    /// The rules in force.
    pub rules: &'a Rules,
    /// Whether these are business hours.
    pub hours: Hours,
    /// The freezes over what the request touches that are in force; nothing where that could not be found out, and then
    /// nothing begins.
    pub freezes: Option<&'a BTreeSet<FreezeId>>,
    /// Break-glass whose review is overdue ([`super::unreviewed`]); nothing where that could not be found out.
    pub unreviewed: Option<&'a [RequestId]>,
    /// What policy says is at stake for each asset. What is not in it has everything at stake.
    pub stakes: &'a BTreeMap<Arc<str>, Stakes>,
    /// The programs of the configuration: every other one can do anything.
    pub programs: &'a BTreeSet<Argv>,
    /// The latest moment that was ever seen here, over all boots ([`Moment::after`], kept where a restart finds it).
    pub seen: &'a Moment,
}

/// Somebody may decide, over one of these channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct May {
    /// The channels over which their consent is taken now.
    pub over: BTreeSet<Channel>,
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// Nobody is asked now.
    #[error("it is {0}; only what is in review is decided")]
    NotAsked(&'static str),
    /// Its time is over.
    #[error("its time was over at {0}; it has to be opened again")]
    Over(Timestamp),
    /// Nothing that they say could be enough.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// They are not known.
    #[error("nobody of this name is known here; have them enrolled")]
    Nobody,
    /// They are no human.
    #[error("it is {}: only humans consent, it may recommend", match .0 { Nature::Agent => "an agent", Nature::Machine | Nature::Human => "a machine" })]
    NoHuman(Nature),
    /// They have no role that decides.
    #[error("they have not the role of an approver")]
    NoApprover,
    /// Their consent does not count.
    #[error("their consent does not count: {0}")]
    NoConsent(Arc<str>),
    /// They are not there.
    #[error("they are marked absent{}; they end that first", match .0 { Some(until) => format!(" until {until}"), None => String::new() })]
    Absent(Option<Timestamp>),
    /// They are in no group that decides about it.
    #[error("they are in none of the groups that decide about it: {}", listed(.0))]
    NoGroup(BTreeSet<GroupId>),
    /// They ask for it, or had a hand in what is asked.
    #[error("they asked for it, changed it, or somebody did who acts for them; somebody else approves it")]
    Requester,
    /// They carry it out.
    #[error("they carry it out; somebody else approves it")]
    Executor,
    /// They wrote what makes it possible.
    #[error("they wrote what makes it possible; somebody else approves it")]
    Author,
    /// They have said so already.
    #[error("they approved it already; what is left to them is to reject it")]
    Voted,
    /// The channel is not one of those that count.
    #[error("over {found} it does not count now; use {}", listed(.use_))]
    Channel {
        /// What they used.
        found: Channel,
        /// What would count.
        use_: BTreeSet<Channel>,
    },
}

fn listed<T: ToString>(all: &BTreeSet<T>) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" or ") }
}

/// For each person whether they may approve this now, or exactly why not.
#[must_use]
pub fn who_may_decide(request: &Request, ground: &Ground<'_>, now: &Moment) -> BTreeMap<PersonId, Result<May, WhyNot>> {
    let all = ground.people.keys();
    all.map(|id| (id.clone(), may_approve(request, id, ground, now))).collect()
}

/// Whether somebody may approve this now.
///
/// # Errors
/// [`WhyNot`] is the reason that is told to them.
pub fn may_approve(request: &Request, id: &PersonId, ground: &Ground<'_>, now: &Moment) -> Result<May, WhyNot> {
    if !matches!(request.state, State::Review | State::Approved) {
        return Err(WhyNot::NotAsked(request.state.as_str()));
    }
    if request.deadline.is_over(now) {
        return Err(WhyNot::Over(request.deadline.wall));
    }
    let required = required(&request.scope, ground.rules, ground.hours)?;
    has_authority(request, id, None, &required, ground.people)?;
    let person = may_consent(id, ground.people)?;
    if let Presence::Absent(until) = person.presence
        && !person.is_here(now.wall)
    {
        return Err(WhyNot::Absent(until));
    }
    let said =
        |vote: &Vote| vote.ballot.person == *id && vote.ballot.verdict == Verdict::Approve && stands(vote, person);
    if request.votes.iter().any(said) {
        return Err(WhyNot::Voted);
    }
    Ok(May { over: channels(request, &required) })
}

/// Whether a vote was given with what its voter consents with now. What was said before they were enrolled anew was said with
/// a key that was taken from them, and counts no more.
pub(super) fn stands(vote: &Vote, person: &Person) -> bool {
    matches!(person.consent, Consent::May { since } if vote.at >= since)
}

/// Over which channels the next consent counts. In break-glass none that stands on a portal; and where two channels are
/// needed and all consents came over one, another one.
fn channels(request: &Request, required: &Required) -> BTreeSet<Channel> {
    let used: BTreeSet<Channel> = request.votes.iter().map(|vote| vote.ballot.channel).collect();
    let another = required.pair == Pair::TwoGroupsTwoChannels && used.len() == 1;
    let counts = |channel: &Channel| {
        let in_band = request.scope.kind == Kind::BreakGlass && !channel.is_out_of_band();
        let same = another && used.contains(channel);
        !in_band && !same
    };
    Channel::ALL.iter().map(|(channel, _)| *channel).filter(counts).collect()
}

/// Whether somebody has the authority to approve a request: asked when they do, and again whenever their approval counts.
/// Whether they are there is another question: who approved and went home has approved.
///
/// # Errors
/// [`WhyNot`] is the reason.
pub fn has_authority(
    request: &Request,
    id: &PersonId,
    executor: Option<&PersonId>,
    required: &Required,
    people: &People,
) -> Result<(), WhyNot> {
    let person = may_consent(id, people)?;
    if required.groups().all(|group| !person.groups.contains(group)) {
        return Err(WhyNot::NoGroup(required.groups().cloned().collect()));
    }
    if principals(request.requester.person().into_iter().chain(&request.askers), people).contains(id) {
        return Err(WhyNot::Requester);
    }
    if principals(executor, people).contains(id) {
        return Err(WhyNot::Executor);
    }
    if principals(&required.authors, people).contains(id) {
        return Err(WhyNot::Author);
    }
    Ok(())
}

/// Whether somebody may say no. That takes less than saying yes: whoever asked for it, carries it out or wrote the rule may,
/// and where the rules are not known every approver may.
///
/// # Errors
/// [`WhyNot`] is the reason.
pub fn may_reject(request: &Request, id: &PersonId, ground: &Ground<'_>) -> Result<(), WhyNot> {
    let person = may_consent(id, ground.people)?;
    let Ok(required) = required(&request.scope, ground.rules, ground.hours) else { return Ok(()) };
    let mut groups = required.groups().peekable();
    if groups.peek().is_some() && groups.all(|group| !person.groups.contains(group)) {
        return Err(WhyNot::NoGroup(required.groups().cloned().collect()));
    }
    Ok(())
}

fn may_consent<'p>(id: &PersonId, people: &'p People) -> Result<&'p Person, WhyNot> {
    let person = people.get(id).ok_or(WhyNot::Nobody)?;
    if person.nature != Nature::Human {
        return Err(WhyNot::NoHuman(person.nature));
    }
    if !person.roles.contains(&Role::Approver) {
        return Err(WhyNot::NoApprover);
    }
    match &person.consent {
        Consent::May { .. } => Ok(person),
        Consent::MayNot(why) => Err(WhyNot::NoConsent(why.clone())),
    }
}
