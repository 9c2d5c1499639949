//! What is odd about a policy although it can be used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::act::{Act, Lane};
use super::decide::{judge, ruling};
use super::floor;
use super::ground::{Example, Ground};
use super::tier::tier;
use super::{Otherwise, Policy};

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A rule would let an act of the floor go by itself; the floor does not let it.
    LowersFloor {
        /// The rule.
        rule: Arc<str>,
        /// The acts.
        acts: BTreeSet<Act>,
        /// An example of the first.
        example: Box<Example>,
    },
    /// No subject is decided by this rule: rules before it take everything, or its conditions exclude each other.
    Idle {
        /// The rule.
        rule: Arc<str>,
    },
    /// There is no rule at all, so everything is prohibited.
    Empty,
    /// The policy tells too much apart to be judged.
    TooMany {
        /// Of which act.
        act: Act,
        /// How many kinds of subject.
        count: usize,
    },
}

impl Policy {
    /// What is odd about it.
    #[must_use]
    pub fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if self.rules().is_empty() && self.otherwise() == Otherwise::Prohibit {
            return vec![Remark::Empty];
        }
        let mut deciding: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut lowering: BTreeMap<Arc<str>, (BTreeSet<Act>, Example)> = BTreeMap::new();
        let mut complete = true;
        for (act, _) in Act::ALL {
            let ground = match Ground::of(act, &[self]) {
                Ok(ground) => ground,
                Err(too_many) => {
                    complete = false;
                    remarks.push(Remark::TooMany { act, count: too_many.count });
                    continue;
                }
            };
            for example in ground.examples() {
                let subject = example.subject(act);
                let judged = judge(&subject, self);
                let facts = self.facts(&subject, tier(&subject));
                let ruled = ruling(self, &facts);
                if floor::covers(act) && ruled.lane == Lane::Autonomous {
                    let (acts, _) =
                        lowering.entry(judged.rule.clone()).or_insert_with(|| (BTreeSet::new(), example.clone()));
                    acts.insert(act);
                }
                deciding.insert(judged.rule);
            }
        }
        let lowers = lowering.into_iter();
        remarks.extend(lowers.map(|(rule, (acts, example))| Remark::LowersFloor {
            rule,
            acts,
            example: Box::new(example),
        }));
        if complete {
            let idle = self.rules().iter().filter(|rule| !deciding.contains(&rule.id));
            remarks.extend(idle.map(|rule| Remark::Idle { rule: rule.id.clone() }));
        }
        remarks
    }
}
