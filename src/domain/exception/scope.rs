//! What is approved: exactly what would be done, to what, until when. One changed byte is another scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::{Action, Argv, texts};
use super::clock::Moment;
use super::kind::{Kind, LONGEST_WAIVER, Stakes};
use super::name::RequestId;
use crate::domain::id::FreezeId;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::{Timestamp, human_span};

/// What is done is done once.
pub const MAX_EXECUTIONS: u8 = 1;
/// A scope is at most this long in bytes: it has to fit twice into an entry of the audit log (60 KiB), among its facts and
/// among the changes of the state, beside what else that says.
pub const LONGEST_SCOPE: usize = 24 * 1_024;
/// More assets or conditions than a person can look at are several requests.
pub const MOST_PARTS: usize = 256;

/// Things by their names (`KIND/ID`) with the digest of what is there, if anything is.
pub type Assets = BTreeMap<Arc<str>, Option<Digest>>;
/// Conditions by their codes, each with what was seen.
pub type Conditions = BTreeMap<Arc<str>, Arc<str>>;

/// Exactly what would be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Of which request.
    pub id: RequestId,
    /// Counts the scopes of a request, from 1.
    pub round: u32,
    /// What it is about.
    pub kind: Kind,
    /// What is at stake.
    pub stakes: Stakes,
    /// What is touched, with fingerprints from before.
    pub assets: Assets,
    /// What would be done.
    pub action: Action,
    /// What has to hold when it is done, as it held when it was planned.
    pub preconditions: Conditions,
    /// Digest of the evidence that was shown.
    pub evidence: Digest,
    /// Digest of the policy that asked.
    pub policy: Digest,
    /// The way back.
    pub rollback: Rollback,
    /// When it may be begun.
    pub window: Window,
    /// The freezes that do not hold it: they are named one by one, and only where that is what is asked for.
    pub despite: BTreeSet<FreezeId>,
    /// What it renews, if it is a renewal.
    pub renews: Option<Renewal>,
}

/// The way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// What was there before is put back.
    Restore,
    /// These programs are run.
    Run(Vec<Argv>),
    /// There is none, for this reason.
    Impossible(Arc<str>),
}

/// When it may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Not before this.
    pub not_before: Timestamp,
    /// Before this: at this second it is over.
    pub valid_until: Timestamp,
}

/// A renewal of what ended or ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Of which request.
    pub of: RequestId,
    /// The how manieth in a row, from 1: whoever approves sees it.
    pub count: u32,
}

/// Why a scope cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadScope {
    /// The kind does not do that.
    #[error("a request of kind {kind} cannot ask for {action}; ask with one of these kinds: {}", listed(.kinds))]
    Action {
        /// Its kind.
        kind: Kind,
        /// What it asks for.
        action: &'static str,
        /// The kinds that may.
        kinds: &'static [Kind],
    },
    /// Less is said to be at stake than is.
    #[error("it says {found}, but at least {floor} is at stake whatever policy says")]
    BelowTheFloor {
        /// What it says.
        found: Stakes,
        /// What is at stake at least.
        floor: Stakes,
    },
    /// Its times are in no order.
    #[error("its window from {} to {} is empty or over; plan it anew", .0.not_before, .0.valid_until)]
    Window(Window),
    /// It could be approved for too long.
    #[error("a request of kind {kind} is over {} after it was opened, at {latest}; it asks for {found}", human_span(kind.longest()))]
    TooLong {
        /// Its kind.
        kind: Kind,
        /// Until when at the latest.
        latest: Timestamp,
        /// Until when it asks.
        found: Timestamp,
    },
    /// What it does would last too long, or would be over before it may be begun.
    #[error("what it does has to end after {earliest} and by {latest}; it asks for {found}")]
    Lasts {
        /// Not so early.
        earliest: Timestamp,
        /// Until when at the latest.
        latest: Timestamp,
        /// Until when it asks.
        found: Timestamp,
    },
    /// Freezes are named by a request that is no override, or none by one that is.
    #[error(
        "freezes are named by requests of kind freeze_override, and by each of these at least one; it is of kind {0}"
    )]
    Despite(Kind),
    /// Nothing is touched.
    #[error("it names no asset; name what would be touched, as KIND/ID")]
    Nothing,
    /// Too much for one request.
    #[error("its {what} are {found}, and at most {most} can be looked at; split it")]
    TooMuch {
        /// What is too much.
        what: &'static str,
        /// How much of it there is.
        found: usize,
        /// How much may be.
        most: usize,
    },
    /// A renewal that is none.
    #[error("it says that it is renewal number {found}, and would be number {expected}")]
    Renewal {
        /// What it says.
        found: u32,
        /// What it is, 0 if it is none.
        expected: u32,
    },
}

fn listed(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

impl Scope {
    /// RFC 8785: what is hashed, signed, shown and carried out.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        self.to_json().canonical()
    }

    /// SHA-256 of [`Self::canonical`]: what an approval binds to.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(&self.canonical())
    }

    /// Eight characters of the hash, for people who compare two screens.
    #[must_use]
    pub fn code(&self) -> RequestId {
        let [a, b, c, d, e, ..] = self.hash().0;
        RequestId::new([a, b, c, d, e])
    }

    /// What is at stake: never below the floor, whatever the scope says.
    #[must_use]
    pub fn at_stake(&self) -> Stakes {
        self.stakes.max(self.floor())
    }

    /// The least that is at stake, by kind and action.
    #[must_use]
    pub fn floor(&self) -> Stakes {
        self.kind.floor().max(self.action.floor())
    }

    /// Whether it can be asked for by a request that was opened then.
    ///
    /// # Errors
    /// [`BadScope`] says what is wrong and what would do.
    pub fn check(&self, opened: Timestamp, now: &Moment) -> Result<(), BadScope> {
        let (kind, window) = (self.kind, self.window);
        if !self.action.kinds().contains(&kind) {
            return Err(BadScope::Action { kind, action: self.action.name(), kinds: self.action.kinds() });
        }
        if self.stakes < self.floor() {
            return Err(BadScope::BelowTheFloor { found: self.stakes, floor: self.floor() });
        }
        if window.not_before >= window.valid_until || now.wall >= window.valid_until {
            return Err(BadScope::Window(window));
        }
        let latest = opened.plus(kind.longest());
        if window.valid_until > latest {
            return Err(BadScope::TooLong { kind, latest, found: window.valid_until });
        }
        if let Some(found) = self.action.lasts_until() {
            // Break-glass is over within its hour, with all that it did.
            let longest = if kind == Kind::BreakGlass { kind.longest() } else { LONGEST_WAIVER };
            let (earliest, latest) = (now.wall.max(window.not_before), opened.plus(longest));
            if found <= earliest || found > latest {
                return Err(BadScope::Lasts { earliest, latest, found });
            }
        }
        if (kind == Kind::FreezeOverride) == self.despite.is_empty() {
            return Err(BadScope::Despite(kind));
        }
        self.check_size()
    }

    fn check_size(&self) -> Result<(), BadScope> {
        if self.assets.is_empty() {
            return Err(BadScope::Nothing);
        }
        let counted = [
            ("assets", self.assets.len(), MOST_PARTS),
            ("preconditions", self.preconditions.len(), MOST_PARTS),
            ("freezes", self.despite.len(), MOST_PARTS),
            ("bytes", self.canonical().len(), LONGEST_SCOPE),
        ];
        match counted.into_iter().find(|(_, found, most)| found > most) {
            Some((what, found, most)) => Err(BadScope::TooMuch { what, found, most }),
            None => Ok(()),
        }
    }

    pub(super) fn to_json(&self) -> Json {
        let Self {
            id,
            round,
            kind,
            stakes,
            assets,
            action,
            preconditions,
            evidence,
            policy,
            rollback,
            window: Window { not_before, valid_until },
            despite,
            renews,
        } = self;
        let renews = renews.map(|renewal| {
            Json::obj([("count", Json::Int(i64::from(renewal.count))), ("of", Json::show(&renewal.of))])
        });
        Json::obj([
            ("action", action.to_json()),
            ("assets", assets_json(assets)),
            ("despite", Json::arr(despite.iter().map(Json::show))),
            ("evidence", Json::Hash(*evidence)),
            ("id", Json::show(id)),
            ("kind", Json::str(kind.as_str())),
            ("max_executions", Json::Int(i64::from(MAX_EXECUTIONS))),
            ("policy", Json::Hash(*policy)),
            ("preconditions", conditions_json(preconditions)),
            ("renews", Json::opt(renews)),
            ("rollback", rollback.to_json()),
            ("round", Json::Int(i64::from(*round))),
            ("stakes", Json::str(stakes.as_str())),
            ("window", Json::obj([("not_before", Json::Time(*not_before)), ("valid_until", Json::Time(*valid_until))])),
        ])
    }
}

impl Rollback {
    fn to_json(&self) -> Json {
        match self {
            Self::Restore => Json::str("restore"),
            Self::Run(programs) => Json::obj([("run", Json::arr(programs.iter().map(texts)))]),
            Self::Impossible(why) => Json::obj([("impossible", Json::Shared(why.clone()))]),
        }
    }
}

pub(super) fn assets_json(assets: &Assets) -> Json {
    Json::arr(assets.iter().map(|(name, before)| {
        Json::obj([("before", Json::opt(before.map(Json::Hash))), ("name", Json::Shared(name.clone()))])
    }))
}

pub(super) fn conditions_json(conditions: &Conditions) -> Json {
    Json::arr(
        conditions.iter().map(|(code, seen)| {
            Json::obj([("code", Json::Shared(code.clone())), ("seen", Json::Shared(seen.clone()))])
        }),
    )
}
