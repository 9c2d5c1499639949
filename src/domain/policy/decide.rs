//! The decision, and the leave to act that only it gives.

use std::sync::Arc;

use super::act::{Lane, Tier};
use super::floor;
use super::quorum::{Duties, Quorum, Short, Voice, standing};
use super::rule::{Answer, Facts, Rule};
use super::subject::Subject;
use super::tier::tier;
use super::{Otherwise, Policy};
use crate::domain::key::Digest;

/// What policy says about one action, with everything that is needed to say the same again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it says.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: Arc<str>,
    /// The action's tier.
    pub tier: Tier,
    /// Who has to approve, where somebody has to.
    pub quorum: Quorum,
    /// Digest of the policy.
    pub version: Digest,
    /// Digest of what was looked at.
    pub inputs: Digest,
}

/// The three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// A person signs first.
    AwaitApproval,
    /// Not at all.
    Refuse,
}

impl Verdict {
    /// Its name in the audit entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proceed => "proceed",
            Self::AwaitApproval => "await_approval",
            Self::Refuse => "refuse",
        }
    }

    /// The lane that it comes from.
    #[must_use]
    pub fn lane(self) -> Lane {
        match self {
            Self::Proceed => Lane::Autonomous,
            Self::AwaitApproval => Lane::ReviewRequired,
            Self::Refuse => Lane::Prohibited,
        }
    }
}

impl From<Lane> for Verdict {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Autonomous => Self::Proceed,
            Lane::ReviewRequired => Self::AwaitApproval,
            Lane::Prohibited => Self::Refuse,
        }
    }
}

/// Leave to act. Whatever carries something out takes one, and nothing but a decision that says [`Verdict::Proceed`] gives
/// one: what is prohibited has no way to be carried out.
///
/// ```compile_fail
/// let leave = keyward::domain::policy::Leave(()); // nobody makes one for himself
/// ```
#[derive(Debug)]
pub struct Leave(());

impl Decision {
    /// Leave to act, if the decision gives it.
    ///
    /// # Errors
    /// [`Withheld`] if a person has to be asked, or if it is prohibited.
    pub fn leave(&self) -> Result<Leave, Withheld> {
        match self.verdict {
            Verdict::Proceed => Ok(Leave(())),
            Verdict::AwaitApproval => Err(Withheld::Waits(self.quorum.clone())),
            Verdict::Refuse => Err(Withheld::Prohibited),
        }
    }

    /// Leave to act, if these voices are enough for it. Nobody's voice is above a prohibition.
    ///
    /// # Errors
    /// [`Withheld`] if they are not, or if it is prohibited.
    pub fn leave_signed(&self, voices: &[Voice], duties: &Duties) -> Result<Leave, Withheld> {
        match self.leave() {
            Err(Withheld::Waits(quorum)) => quorum.met(voices, duties).map(|()| Leave(())).map_err(Withheld::Short),
            other => other,
        }
    }
}

/// Why there is no leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// These have to approve first.
    Waits(Quorum),
    /// Those who did are not enough.
    Short(Short),
    /// Nobody can.
    Prohibited,
}

/// What the rules say, before the floor.
#[derive(Clone, Debug)]
pub(super) struct Ruling<'a> {
    pub(super) lane: Lane,
    /// The rule that decided; `None` where none did.
    pub(super) rule: Option<&'a Rule>,
    /// Rules that could not be told to match or not; each was taken at its strictest.
    pub(super) unresolved: Vec<&'a Rule>,
    /// The rule at which the search ended.
    pub(super) last: Option<&'a Rule>,
}

/// Finds the first rule that matches. One that may match is taken as if it did where that is stricter, and as if it did
/// not where that is: so what is not known never makes anything easier. An unresolved rule never lets anything go by
/// itself.
pub(super) fn ruling<'a>(policy: &'a Policy, facts: &Facts<'_>) -> Ruling<'a> {
    let mut strictest: Option<(Lane, &Rule)> = None;
    let mut unresolved = Vec::new();
    let mut last = None;
    for rule in policy.rules() {
        match rule.matches(facts) {
            Answer::No => {}
            Answer::Unknown => {
                unresolved.push(rule);
                let lane = rule.lane.max(Lane::ReviewRequired);
                if strictest.is_none_or(|(known, _)| lane > known) {
                    strictest = Some((lane, rule));
                }
            }
            Answer::Yes => {
                last = Some(rule);
                break;
            }
        }
    }
    let lane = last.map_or_else(|| otherwise(policy, facts.subject), |rule| rule.lane);
    match strictest.filter(|(strict, _)| *strict > lane) {
        Some((lane, rule)) => Ruling { lane, rule: Some(rule), unresolved, last },
        None => Ruling { lane, rule: last, unresolved, last },
    }
}

/// The lane where no rule matches.
fn otherwise(policy: &Policy, subject: &Subject<'_>) -> Lane {
    match policy.otherwise() {
        Otherwise::Routine => match subject.act.nature() {
            super::Nature::Routine => Lane::Autonomous,
            super::Nature::Exception => Lane::ReviewRequired,
        },
        Otherwise::Review => Lane::ReviewRequired,
        Otherwise::Prohibit => Lane::Prohibited,
    }
}

/// What policy says, without the digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The lane.
    pub lane: Lane,
    /// The rule that decided.
    pub rule: Arc<str>,
    /// The tier.
    pub tier: Tier,
    /// Who has to approve.
    pub quorum: Quorum,
}

/// What [`decide`] says, where nothing of it is recorded.
#[must_use]
pub fn judge(subject: &Subject<'_>, policy: &Policy) -> Judged {
    let tier = tier(subject);
    let facts = policy.facts(subject, tier);
    let ruling = ruling(policy, &facts);
    let lane = floor::lane(subject.act, ruling.lane);
    Judged { lane, rule: named(policy, &ruling), tier, quorum: quorum(policy, &facts, &ruling, lane) }
}

/// Decides about one action. Pure: the same policy and subject give the same decision.
#[must_use]
pub fn decide(subject: &Subject<'_>, policy: &Policy) -> Decision {
    let Judged { lane, rule, tier, quorum } = judge(subject, policy);
    Decision { verdict: lane.into(), rule, tier, quorum, version: policy.version(), inputs: subject.digest() }
}

/// The name of what decided.
pub(super) fn named(policy: &Policy, ruling: &Ruling<'_>) -> Arc<str> {
    ruling.rule.map_or_else(|| policy.default_name().clone(), |rule| rule.id.clone())
}

/// The needs of the tier and hour, those that the policy adds, and those of every rule that had a say.
fn quorum(policy: &Policy, facts: &Facts<'_>, ruling: &Ruling<'_>, lane: Lane) -> Quorum {
    let mut quorum = Quorum::NOBODY;
    if lane != Lane::ReviewRequired {
        return quorum;
    }
    quorum.add(&standing(facts.tier, facts.hours));
    policy.added_needs(facts.tier, facts.hours).for_each(|need| quorum.add(need));
    let had_a_say = ruling.unresolved.iter().copied().chain(ruling.last);
    had_a_say.filter_map(|rule| rule.need.as_ref()).for_each(|need| quorum.add(need));
    quorum
}
