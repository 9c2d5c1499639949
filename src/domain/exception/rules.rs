//! Who has to agree: what policy says, and the least that the stakes ask for whatever policy says.
//!
//! Nothing follows from nothing: without a rule that matches, or with a rule that cannot be believed, the answer is no. All
//! rules that match hold at once, in whatever order they stand: one that denies is enough for a no, each that names
//! approvers needs its own, and an approval beforehand counts below T3 only, and where no rule about less names approvers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::kind::{Kind, Stakes};
use super::people::{GroupId, Hours, PersonId};
use super::scope::Scope;
use crate::domain::key::Digest;

/// The rules in force, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// They are known.
    Known(RuleSet),
    /// They are not, for this reason: nothing is approved by what nobody has read.
    Unknown(Arc<str>),
}

/// Rules with the digest of the policy that they stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Digest of the policy.
    pub policy: Digest,
    /// The rules; their order does not matter.
    pub rules: Vec<Rule>,
    /// Who wrote the policy as it is, or changed it last, with those for whom they act: who deleted a rule made possible
    /// what it forbade, and no rule that is left says so.
    pub authors: BTreeSet<PersonId>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for the record.
    pub id: Arc<str>,
    /// The kinds that it is about; empty means all.
    pub kinds: BTreeSet<Kind>,
    /// It is about these stakes and higher ones.
    pub least: Stakes,
    /// What it says.
    pub says: Says,
    /// Who wrote it, or changed it last, with those for whom they act: they approve nothing that it enables.
    pub authors: BTreeSet<PersonId>,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// Never.
    Deny,
    /// Below T3, and below the floor, nobody has to be asked.
    Preapprove,
    /// Members of these groups decide.
    Approvers {
        /// The groups; a rule without any is broken.
        groups: BTreeSet<GroupId>,
        /// So many of their members at least; the stakes may ask for more.
        persons: u8,
    },
}

/// What has to come together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// So many distinct persons.
    pub persons: u8,
    /// Two of them are of two groups, over two channels.
    pub pair: Pair,
    /// And of each of these rules so many.
    pub needs: Vec<Need>,
    /// Nobody who wrote what makes it possible.
    pub authors: BTreeSet<PersonId>,
    /// The rules that this is from.
    pub rules: Vec<Arc<str>>,
}

/// Whether two of those who agree have to be unlike each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// They need not.
    Any,
    /// They are of two groups. In break-glass every channel is out of band, so they may have used the same.
    TwoGroups,
    /// They are of two groups and used two channels.
    TwoGroupsTwoChannels,
}

/// What one rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which rule.
    pub rule: Arc<str>,
    /// Members of these groups.
    pub groups: BTreeSet<GroupId>,
    /// So many.
    pub persons: u8,
}

/// Why nothing can be approved, whoever agrees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody knows the rules.
    #[error("the rules are not known ({0}), and what cannot be told is refused; mend the policy")]
    Unknown(Arc<str>),
    /// One rule cannot be right, so none is believed.
    #[error("rule {0} names no group that could approve, so no rule of this policy is believed; mend it")]
    Broken(Arc<str>),
    /// It was asked for under another policy.
    #[error("it was planned under policy {} and {} is in force; plan it anew", .planned.short(), .now.short())]
    OtherPolicy {
        /// The policy that asked.
        planned: Digest,
        /// The policy in force.
        now: Digest,
    },
    /// No rule is about it.
    #[error("no rule says who decides about {0} at {1}; add one")]
    NoRule(Kind, Stakes),
    /// A rule forbids it.
    #[error("rule {0} forbids it")]
    By(Arc<str>),
    /// More rules name approvers than can be weighed against each other.
    #[error("{0} rules say who decides about it, and at most {MOST_NEEDS} can be weighed; merge some")]
    TooMany(usize),
}

impl RuleSet {
    fn broken(&self) -> Option<&Rule> {
        self.rules.iter().find(|rule| match &rule.says {
            Says::Approvers { groups, .. } => groups.is_empty(),
            Says::Deny | Says::Preapprove => false,
        })
    }
}

/// So many rules at most name approvers of one thing: each set of them is looked at, and these are 256.
pub const MOST_NEEDS: usize = 8;

impl Rule {
    /// Whether it is about nothing that `other` is not about too.
    fn is_within(&self, other: &Self) -> bool {
        let kinds = other.kinds.is_empty() || (!self.kinds.is_empty() && self.kinds.is_subset(&other.kinds));
        kinds && self.least >= other.least
    }

    fn is_about(&self, kind: Kind, stakes: Stakes) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind)) && stakes >= self.least
    }
}

/// What has to come together for a scope.
///
/// # Errors
/// [`Denied`] says why nothing could be enough.
pub fn required(scope: &Scope, rules: &Rules, hours: Hours) -> Result<Required, Denied> {
    let set = match rules {
        Rules::Known(set) => set,
        Rules::Unknown(why) => return Err(Denied::Unknown(why.clone())),
    };
    if let Some(rule) = set.broken() {
        return Err(Denied::Broken(rule.id.clone()));
    }
    if set.policy != scope.policy {
        return Err(Denied::OtherPolicy { planned: scope.policy, now: set.policy });
    }
    let (kind, stakes) = (scope.kind, scope.at_stake());
    let about: Vec<&Rule> = set.rules.iter().filter(|rule| rule.is_about(kind, stakes)).collect();
    if let Some(rule) = about.iter().find(|rule| rule.says == Says::Deny) {
        return Err(Denied::By(rule.id.clone()));
    }
    let mut all = Required {
        persons: least(stakes, hours),
        pair: pair(kind, stakes),
        needs: Vec::new(),
        authors: about
            .iter()
            .flat_map(|rule| &rule.authors)
            .chain(&set.authors)
            .chain(scope.action.authors().into_iter().flatten())
            .cloned()
            .collect(),
        rules: about.iter().map(|rule| rule.id.clone()).collect(),
    };
    let deciding = || about.iter().filter(|rule| matches!(rule.says, Says::Approvers { .. }));
    // What is said of all is not said against a rule that names approvers of less.
    let beforehand = about.iter().filter(|rule| rule.says == Says::Preapprove);
    let holds = { beforehand }.any(|rule| deciding().all(|other| rule.is_within(other)));
    if stakes < Stakes::T3 && holds {
        return Ok(Required { persons: 0, ..all });
    }
    for rule in &about {
        if let Says::Approvers { groups, persons } = &rule.says {
            // Where anybody has to agree, every rule has its voice: what one asks for is not given by those of another.
            let persons = (*persons).max(all.persons.min(1));
            all.needs.push(Need { rule: rule.id.clone(), groups: groups.clone(), persons });
        }
    }
    if all.needs.len() > MOST_NEEDS {
        return Err(Denied::TooMany(all.needs.len()));
    }
    // No rule at all, or only approvals beforehand that do not reach so high.
    if all.needs.is_empty() {
        return Err(Denied::NoRule(kind, stakes));
    }
    Ok(all)
}

/// So many distinct persons at least, whatever policy says.
#[must_use]
pub fn least(stakes: Stakes, hours: Hours) -> u8 {
    match (stakes, hours) {
        (Stakes::T1, _) => 0,
        (Stakes::T2, _) | (Stakes::T3, Hours::Business) => 1,
        (Stakes::T3, Hours::Out) | (Stakes::T4, _) => 2,
    }
}

fn pair(kind: Kind, stakes: Stakes) -> Pair {
    match (stakes, kind == Kind::BreakGlass) {
        (Stakes::T4, false) => Pair::TwoGroupsTwoChannels,
        (Stakes::T4, true) => Pair::TwoGroups,
        (Stakes::T1 | Stakes::T2 | Stakes::T3, _) => Pair::Any,
    }
}

impl Required {
    /// Everybody's groups that count.
    pub fn groups(&self) -> impl Iterator<Item = &GroupId> {
        self.needs.iter().flat_map(|need| &need.groups)
    }
}
