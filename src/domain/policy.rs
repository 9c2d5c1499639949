//! Policy: which lane an action goes, and what decides so.
//!
//! Every action of a plan passes [`decide`]. Refuses to know who approves: that is the sign-off's business; here an
//! action only learns whether it may go by itself, has to wait for a person, or is forbidden.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::id::{CredentialId, PathId};
use crate::domain::json::{Json, Object};
use crate::domain::key::Digest;

/// What an action does, as policy rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Issues a certificate for a credential that has none.
    Issue,
    /// Renews a certificate for the same names.
    Renew,
    /// Replaces one because its names changed in the configuration.
    Reissue,
    /// Installs again what was issued before.
    Reinstall,
}

impl Act {
    /// Every act with its name in the configuration.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Issue, "issue"), (Self::Renew, "renew"), (Self::Reissue, "reissue")];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(act, _)| *act == self).map_or("", |(_, name)| name)
    }

    /// By its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(act, _)| *act)
    }
}

/// How an action is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// By itself.
    Autonomous,
    /// A person signs first.
    ReviewRequired,
    /// Never.
    Prohibited,
}

impl Lane {
    /// Every lane with its name in the configuration.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Autonomous, "autonomous"), (Self::ReviewRequired, "review-required"), (Self::Prohibited, "prohibited")];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(lane, _)| *lane == self).map_or("", |(_, name)| name)
    }

    /// By its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(lane, _)| *lane)
    }
}

/// How much an action can hurt: 0 (nothing stands on it) to 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tier(u8);

impl Tier {
    /// The lowest.
    pub const LOWEST: Self = Self(0);
    /// The highest.
    pub const HIGHEST: Self = Self(4);
    /// The highest that [`tier`] gives: people count tiers from T1, and call it T4.
    pub const GRAVEST: Self = Self(3);

    /// 0–4, clamped.
    #[must_use]
    pub fn new(level: u8) -> Self {
        Self(level.min(Self::HIGHEST.0))
    }

    /// 0–4.
    #[must_use]
    pub fn level(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What policy looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// What would be done.
    pub act: Act,
    /// The credential's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// How many approval paths stand on the credential.
    pub paths: usize,
}

/// One rule. The first rule that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, for the record.
    pub id: Arc<str>,
    /// The acts it is about; empty means all.
    pub acts: BTreeSet<Act>,
    /// Labels that must all be there with these values.
    pub labels: BTreeMap<String, String>,
    /// It is about this tier and above.
    pub min_tier: Tier,
    /// What it says.
    pub lane: Lane,
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>, tier: Tier) -> bool {
        (self.acts.is_empty() || self.acts.contains(&subject.act))
            && tier >= self.min_tier
            && self.labels.iter().all(|(k, v)| subject.labels.get(k) == Some(v))
    }

    fn to_json(&self) -> Json {
        Json::obj([
            ("id", Json::str(self.id.to_string())),
            ("acts", Json::arr(self.acts.iter().map(|a| Json::str(a.as_str())))),
            ("labels", Json::arr(self.labels.iter().map(|(k, v)| Json::str(format!("{k}={v}"))))),
            ("min_tier", Json::Int(i64::from(self.min_tier.level()))),
            ("lane", Json::str(self.lane.as_str())),
        ])
    }
}

/// Over which path actions on a credential are approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The path that has to be open for it.
    pub over: PathId,
    /// The way for the day on which it cannot be.
    pub repair: Option<Repair>,
}

/// How something is approved when its usual path is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// On the command line, by signatures that need no TLS and no portal.
    Cli,
    /// Over another path.
    Over(PathId),
}

impl Approval {
    fn to_json(&self) -> Json {
        let repair = self.repair.as_ref().map(|r| match r {
            Repair::Cli => Json::str("cli"),
            Repair::Over(path) => Json::str(format!("path {path}")),
        });
        Json::obj([("over", Json::str(self.over.to_string())), ("repair", Json::opt(repair))])
    }
}

/// The rules in force, with their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    version: Digest,
    /// [`DEFAULT_RULE`], shared by the decisions.
    default: Arc<str>,
    /// Of single credentials.
    approvals: BTreeMap<CredentialId, Approval>,
    /// Of all others that wait for a person.
    usual: Option<Approval>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Policy {
    /// From rules in order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let version = Digest::of(&Json::arr(rules.iter().map(Rule::to_json)).canonical());
        Self { rules, version, default: Arc::from(DEFAULT_RULE), approvals: BTreeMap::new(), usual: None }
    }

    /// With the paths over which actions are approved. Without any of them the version stays that of the rules.
    #[must_use]
    pub fn with_approvals(self, approvals: BTreeMap<CredentialId, Approval>, usual: Option<Approval>) -> Self {
        if approvals.is_empty() && usual.is_none() {
            return self;
        }
        let rules = Json::arr(self.rules.iter().map(Rule::to_json));
        let own = approvals.iter().map(|(id, a)| Json::arr([Json::str(id.to_string()), a.to_json()]));
        let all = [
            ("rules", rules),
            ("approvals", Json::arr(own)),
            ("usual", Json::opt(usual.as_ref().map(Approval::to_json))),
        ];
        let version = Digest::of(&Json::obj(all).canonical());
        Self { version, approvals, usual, ..self }
    }

    /// Over which path actions on this credential are approved, if it says so itself.
    #[must_use]
    pub fn approval(&self, id: &CredentialId) -> Option<&Approval> {
        self.approvals.get(id)
    }

    /// The same for every other credential on which an action waits for a person.
    #[must_use]
    pub fn usual_approval(&self) -> Option<&Approval> {
        self.usual.as_ref()
    }

    /// Digest of the rules: it stands in every decision.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The rules in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// The name of the rule that holds where no configured rule matches: what the configuration asks for by name is routine.
pub const DEFAULT_RULE: &str = "default: what the configuration names is routine";

/// What policy says about one action, with everything that is needed to say the same again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it says.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: Arc<str>,
    /// The action's tier.
    pub tier: Tier,
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
}

/// The tier of an action: 0 where nothing stands on it, 1 in general, 2 under one approval path, 3 under several or where
/// the labels say production *and* restricted data.
#[must_use]
pub fn tier(subject: &Subject<'_>) -> Tier {
    let label = |key: &str, values: &[&str]| subject.labels.get(key).is_some_and(|v| values.contains(&v.as_str()));
    let production = label("env", &["prod", "production"]);
    let restricted = label("data_class", &["restricted", "secret", "confidential"]);
    let base = match subject.paths {
        0 if !production => 0,
        0 => 1,
        1 => 2,
        _ => 3,
    };
    Tier::new(if production && restricted { base.max(3) } else { base })
}

/// Decides about one action. Pure: the same policy and subject give the same decision.
#[must_use]
pub fn decide(subject: &Subject<'_>, policy: &Policy) -> Decision {
    let tier = tier(subject);
    let (lane, rule) = policy
        .rules
        .iter()
        .find(|r| r.matches(subject, tier))
        .map_or_else(|| (Lane::Autonomous, policy.default.clone()), |r| (r.lane, r.id.clone()));
    let verdict = match lane {
        Lane::Autonomous => Verdict::Proceed,
        Lane::ReviewRequired => Verdict::AwaitApproval,
        Lane::Prohibited => Verdict::Refuse,
    };
    let mut inputs = Vec::with_capacity(256);
    let mut object = Object::begin(&mut inputs);
    object.plain("act", subject.act.as_str().as_bytes());
    object.value("labels", &Json::arr(subject.labels.iter().map(|(k, v)| Json::str(format!("{k}={v}")))));
    object.digits("paths", u64::try_from(subject.paths).unwrap_or(u64::MAX));
    object.end();
    Decision { verdict, rule, tier, version: policy.version, inputs: Digest::of(&inputs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, acts: &[Act], labels: &[(&str, &str)], min_tier: u8, lane: Lane) -> Rule {
        Rule {
            id: Arc::from(id),
            acts: acts.iter().copied().collect(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            min_tier: Tier::new(min_tier),
            lane,
        }
    }

    #[test]
    fn the_first_matching_rule_decides_and_is_named() {
        let policy = Policy::new(vec![
            rule("no-reissue-in-prod", &[Act::Reissue], &[("env", "prod")], 0, Lane::Prohibited),
            rule("review-high", &[], &[], 3, Lane::ReviewRequired),
        ]);
        let prod = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let cases = [
            (Act::Reissue, 1, Verdict::Refuse, "no-reissue-in-prod"),
            (Act::Renew, 1, Verdict::Proceed, DEFAULT_RULE),
            (Act::Renew, 2, Verdict::AwaitApproval, "review-high"),
        ];
        for (act, paths, verdict, rule) in cases {
            let decision = decide(&Subject { act, labels: &prod, paths }, &policy);
            assert_eq!((decision.verdict, &*decision.rule), (verdict, rule));
        }
    }

    #[test]
    fn the_tier_rises_with_the_paths_that_stand_on_it_and_with_the_data() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let of = |l: &BTreeMap<String, String>, paths| tier(&Subject { act: Act::Renew, labels: l, paths }).level();
        let (none, prod) = (labels(&[]), labels(&[("env", "prod")]));
        let both = labels(&[("env", "prod"), ("data_class", "restricted")]);
        assert_eq!([of(&none, 0), of(&prod, 0), of(&none, 1), of(&none, 2), of(&both, 0)], [0, 1, 2, 3, 3]);
    }

    #[test]
    fn the_version_changes_with_any_byte_of_a_rule() {
        let base = Policy::new(vec![rule("a", &[Act::Renew], &[], 0, Lane::Autonomous)]);
        let other = Policy::new(vec![rule("a", &[Act::Renew], &[], 1, Lane::Autonomous)]);
        assert_ne!(base.version(), other.version());
        assert_ne!(base.version(), Policy::default().version());
    }
}
