//! Why a decision is what it is: every rule with every condition, the sum of the tier, the floor, the quorum.

use std::sync::Arc;

use super::act::Lane;
use super::decide::{Decision, Verdict, decide, named, ruling};
use super::floor;
use super::rule::{Answer, Rule};
use super::subject::Subject;
use super::tier::{Weight, tier, weights};
use super::when::Hours;
use super::{DEFAULT, Policy};

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`decide`] says.
    pub decision: Decision,
    /// The sum of the tier.
    pub weights: Vec<Weight>,
    /// Whether people were taken to be at work; `None` where nobody can tell.
    pub hours: Option<Hours>,
    /// Every rule in order.
    pub rules: Vec<RuleTold>,
    /// What the rules said, before the floor.
    pub ruled: Lane,
    /// Whether the floor made it stricter.
    pub floor: Floor,
}

/// What the floor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// The act is not under it.
    Free,
    /// It is, and the rules ask for as much themselves.
    Kept,
    /// The rules would have let it go by itself.
    Raised,
}

/// One rule held against the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTold {
    /// Its name.
    pub id: Arc<str>,
    /// What it says.
    pub lane: Lane,
    /// Whether it matches.
    pub matches: Answer,
    /// What became of it.
    pub part: Part,
    /// The conditions that do not hold or cannot be told: name, wanted, seen.
    pub against: Vec<(&'static str, String, String)>,
}

/// What part a rule had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It decided.
    Decided,
    /// It had a say: it may match, and was taken at its strictest.
    Weighed,
    /// It does not match.
    Passed,
    /// An earlier rule ended the search.
    After,
}

/// Decides, and says why.
#[must_use]
pub fn explain(subject: &Subject<'_>, policy: &Policy) -> Explanation {
    let decision = decide(subject, policy);
    let facts = policy.facts(subject, tier(subject));
    let ruling = ruling(policy, &facts);
    debug_assert_eq!(named(policy, &ruling), decision.rule, "one search decides and explains");
    let same = |a: Option<&Rule>, b: &Rule| a.is_some_and(|a| core::ptr::eq(a, b));
    let mut ended = false;
    let rules = policy.rules().iter().map(|rule| {
        let against = rule.asks(&facts).filter(|(_, answer)| *answer != Answer::Yes);
        let against = against.map(|(check, _)| (check.name, (check.wanted)(rule), (check.seen)(&facts))).collect();
        let part = match () {
            () if same(ruling.rule, rule) => Part::Decided,
            () if ended => Part::After,
            () if same(ruling.last, rule) || ruling.unresolved.iter().any(|u| core::ptr::eq(*u, rule)) => Part::Weighed,
            () => Part::Passed,
        };
        ended |= same(ruling.last, rule);
        RuleTold { id: rule.id.clone(), lane: rule.lane, matches: rule.matches(&facts), part, against }
    });
    let rules: Vec<RuleTold> = rules.collect();
    let floor = match (floor::covers(subject.act), floor::lane(subject.act, ruling.lane) == ruling.lane) {
        (false, _) => Floor::Free,
        (true, true) => Floor::Kept,
        (true, false) => Floor::Raised,
    };
    Explanation { weights: weights(subject), hours: facts.hours, ruled: ruling.lane, rules, floor, decision }
}

impl Explanation {
    /// In one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Decision { verdict, rule, tier, quorum, .. } = &self.decision;
        let what = match verdict {
            Verdict::Proceed => "goes by itself".to_owned(),
            Verdict::AwaitApproval => format!("waits for {quorum}"),
            Verdict::Refuse => "is prohibited".to_owned(),
        };
        let why = match self.floor {
            Floor::Raised => format!("the floor, which no rule lowers ({rule} tried)"),
            Floor::Free | Floor::Kept if rule.starts_with(DEFAULT) => rule.to_string(),
            Floor::Free | Floor::Kept => format!("rule {rule}"),
        };
        format!("{what}: tier {tier}, {why}")
    }
}
