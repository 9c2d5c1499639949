//! The operational contract: what is promised to those who rely on it, and whether policy keeps it.
//!
//! For each act: in which lanes it may go, what happens while it waits, and what happens where nobody answers. Time alone
//! approves nothing, so no word here does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Policy;
use super::act::{Act, Lane};
use super::decide::judge;
use super::ground::{Example, Ground};
use crate::domain::json::Json;
use crate::domain::key::Digest;

/// What happens while an act waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhileWaiting {
    /// What is in place stays in use as long as it is good.
    Keep,
    /// The paths that stand on it are closed.
    Close,
}

impl WhileWaiting {
    /// Both with their names in the contract.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Keep, "keep"), (Self::Close, "close")];
}

/// What happens where nobody answers in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhenNobody {
    /// The request expires; nothing is done.
    Expire,
    /// The paths that stand on it are closed.
    Close,
    /// It goes up to whoever leads in an incident, and waits on.
    Escalate,
    /// It is open to signatures on the command line, which need no portal, and waits on.
    Repair,
}

impl WhenNobody {
    /// Each with its name in the contract.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Expire, "expire"), (Self::Close, "close"), (Self::Escalate, "escalate"), (Self::Repair, "repair")];
}

/// What is promised of one act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// It goes in one of these, and each of them happens.
    pub lanes: BTreeSet<Lane>,
    /// Said where it may wait.
    pub while_waiting: Option<WhileWaiting>,
    /// Said where it may wait.
    pub when_nobody: Option<WhenNobody>,
}

/// The contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// By act.
    pub promises: BTreeMap<Act, Promise>,
    /// Its own name for this state of it.
    pub revision: Option<Arc<str>>,
}

/// A promise that policy does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Of which act.
    pub act: Act,
    /// How.
    pub kind: BreachKind,
}

/// How a promise is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreachKind {
    /// Policy makes it easier than promised.
    Laxer(Witness),
    /// Policy makes it harder than promised.
    Stricter(Witness),
    /// This lane is promised, and policy never chooses it.
    Never(Lane),
    /// Nothing is promised.
    Silent,
    /// Policy tells more kinds of subject apart than are looked at.
    TooMany(usize),
}

/// The first example of a breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What policy says.
    pub lane: Lane,
    /// By which rule.
    pub rule: Arc<str>,
    /// About what.
    pub example: Box<Example>,
}

impl Contract {
    /// Over what was said, not over how it was written.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let promises = self.promises.iter().map(|(act, promise)| {
            let word = |word: Option<&'static str>| Json::opt(word.map(Json::str));
            let waiting = WhileWaiting::ALL.iter().find(|(w, _)| Some(*w) == promise.while_waiting).map(|(_, n)| *n);
            let nobody = WhenNobody::ALL.iter().find(|(w, _)| Some(*w) == promise.when_nobody).map(|(_, n)| *n);
            Json::obj([
                ("act", Json::str(act.as_str())),
                ("lanes", Json::arr(promise.lanes.iter().map(|lane| Json::str(lane.as_str())))),
                ("when_nobody", word(nobody)),
                ("while_waiting", word(waiting)),
            ])
        });
        let revision = Json::opt(self.revision.clone().map(Json::shared));
        Digest::of(&Json::obj([("promises", Json::arr(promises)), ("revision", revision)]).canonical())
    }

    /// Every promise that this policy does not keep, in both directions: where it lets through what should wait, and where
    /// it holds what should go.
    #[must_use]
    pub fn breaches(&self, policy: &Policy) -> Vec<Breach> {
        let mut all = Vec::new();
        for (act, _) in Act::ALL {
            let mut breach = |kind| all.push(Breach { act, kind });
            let Some(promise) = self.promises.get(&act) else {
                breach(BreachKind::Silent);
                continue;
            };
            let ground = match Ground::of(act, &[policy]) {
                Ok(ground) => ground,
                Err(too_many) => {
                    breach(BreachKind::TooMany(too_many.count));
                    continue;
                }
            };
            let mut found: BTreeMap<Lane, Witness> = BTreeMap::new();
            for example in ground.examples() {
                let judged = judge(&example.subject(act), policy);
                found.entry(judged.lane).or_insert_with(|| Witness {
                    lane: judged.lane,
                    rule: judged.rule,
                    example: Box::new(example.clone()),
                });
            }
            let easiest = promise.lanes.iter().min().copied();
            let never: Vec<Lane> = promise.lanes.iter().filter(|lane| !found.contains_key(lane)).copied().collect();
            for (lane, witness) in found.into_iter().filter(|(lane, _)| !promise.lanes.contains(lane)) {
                breach(if Some(lane) < easiest { BreachKind::Laxer(witness) } else { BreachKind::Stricter(witness) });
            }
            never.into_iter().for_each(|lane| breach(BreachKind::Never(lane)));
        }
        all
    }
}
