//! The record of a request: what the store keeps, and where it stands.

use core::fmt;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::clock::{Deadline, Moment};
use super::name::RequestId;
use super::people::{By, PersonId};
use super::scope::Scope;
use super::vote::{Verdict, Vote};
use crate::domain::id::FreezeId;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is written; nobody is asked.
    Draft,
    /// People are asked, over the scope of this round.
    Review,
    /// They are asked again then.
    Deferred(Deadline),
    /// Enough agreed; it may be begun, once.
    Approved,
    /// It was begun: somebody holds the permit, or held it.
    Executing,
    /// It was not done, by its own word.
    Failed,
    /// Whoever did it is gone, and nobody knows how far it came.
    Unknown,
    /// The world is looked at.
    Verifying,
    /// It is over, and the world is as it should be.
    Closed,
    /// Somebody said no.
    Rejected,
    /// Its time was over.
    Expired,
    /// Whoever asked does not ask any more.
    Withdrawn,
    /// Another one has taken its place.
    Superseded(RequestId),
    /// What was approved was taken back.
    Revoked,
    /// The world is not as it should be: another one goes on from here.
    Reopened(RequestId),
}

impl State {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Review => "review",
            Self::Deferred(_) => "deferred",
            Self::Approved => "approved",
            Self::Executing => "executing",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Verifying => "verifying",
            Self::Closed => "closed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Superseded(_) => "superseded",
            Self::Revoked => "revoked",
            Self::Reopened(_) => "reopened",
        }
    }

    /// Whether nothing of it is done yet, and something might be.
    #[must_use]
    pub fn is_before_execution(&self) -> bool {
        matches!(self, Self::Draft | Self::Review | Self::Deferred(_) | Self::Approved)
    }

    /// Whether people are asked, or were and could be again.
    #[must_use]
    pub fn is_before_people(&self) -> bool {
        matches!(self, Self::Review | Self::Deferred(_) | Self::Approved)
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Closed
            | Self::Rejected
            | Self::Expired
            | Self::Withdrawn
            | Self::Superseded(_)
            | Self::Revoked
            | Self::Reopened(_) => true,
            Self::Draft
            | Self::Review
            | Self::Deferred(_)
            | Self::Approved
            | Self::Executing
            | Self::Failed
            | Self::Unknown
            | Self::Verifying => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What would be done, with the request's id and the round.
    pub scope: Scope,
    /// Where it stands.
    pub state: State,
    /// Who asks.
    pub requester: By,
    /// Everybody who had a hand in what is asked: the requester, whoever changed the scope, and those for whom they act.
    /// None of them approves it, in no round.
    pub askers: BTreeSet<PersonId>,
    /// Why, in the requester's words.
    pub reason: Arc<str>,
    /// When it was opened.
    pub opened: Moment,
    /// The last moment at which it can be decided with time enough to do and verify it.
    pub decide_by: Timestamp,
    /// The end of the scope's window under both clocks.
    pub deadline: Deadline,
    /// The votes of this round; those of earlier ones are in the log only.
    pub votes: Vec<Vote>,
    /// What machines and agents, and people who do not vote, think of it.
    pub advice: Vec<Advice>,
    /// How often it was put off.
    pub deferrals: u8,
    /// How far it was escalated.
    pub escalation: u32,
    /// The freezes over it.
    pub freezes: BTreeSet<FreezeId>,
    /// How it was begun, if it was.
    pub execution: Option<Execution>,
    /// What was found afterwards.
    pub verified: Option<Found>,
    /// When what it does ends by itself, if it does: counted from when that was planned.
    pub ends: Option<Deadline>,
    /// Who took back before its end what it did.
    pub taken_back: Option<By>,
    /// Who looked at it after break-glass.
    pub reviewed: Option<PersonId>,
    /// The request from which it goes on.
    pub follows: Option<RequestId>,
    /// The latest clocks that it has seen.
    pub mark: Moment,
    /// How many entries it has: each has its number, and none can be left out, doubled or moved unseen.
    pub entries: u32,
}

/// The request that a scope renews, whether it says so or not: the last one that put the same in force for a while.
/// [`super::open`] is told of it, and refuses a scope that keeps silent about it.
pub fn renewed_by<'r>(scope: &Scope, requests: impl IntoIterator<Item = &'r Request>) -> Option<&'r Request> {
    let before = requests.into_iter().filter(|request| request.id() != scope.id && request.was_in_force());
    let lasting = scope.action.lasting()?;
    let same = before.filter(|request| request.scope.action.lasting() == Some(lasting));
    same.max_by_key(|request| (request.renewals(), request.opened.wall))
}

/// An opinion that counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Whose.
    pub by: PersonId,
    /// What they would say.
    pub verdict: Verdict,
    /// Why.
    pub reason: Arc<str>,
}

/// How it was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// By whom.
    pub by: By,
    /// When.
    pub at: Moment,
    /// Digest of the permit: the name of the only one that there ever is.
    pub permit: Digest,
    /// Digest of what the second preflight saw.
    pub preflight: Digest,
    /// When somebody has to have looked at it, if it was break-glass.
    pub review_by: Option<Deadline>,
}

/// What was found when the world was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Everything as it was approved.
    AsApproved,
    /// Everything as it was before.
    AsBefore,
    /// Neither: some of it.
    Partly,
}

impl Found {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsApproved => "as_approved",
            Self::AsBefore => "as_before",
            Self::Partly => "partly",
        }
    }
}

impl Request {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.scope.id
    }

    /// Whether something that it put in force for a while is in force now: a waiver, a path that was opened. It ends under
    /// either clock, and nothing prolongs it: a renewal is a request of its own. `seen` is the latest moment that was ever
    /// seen here ([`super::Ground::seen`]).
    #[must_use]
    pub fn is_in_force(&self, now: &Moment, seen: &Moment) -> bool {
        let laid = matches!(self.state, State::Verifying | State::Closed) && self.was_in_force();
        let lasts = self.ends.as_ref().is_some_and(|ends| !ends.is_over(now));
        laid && lasts && self.taken_back.is_none() && !now.is_behind(&self.mark) && !now.is_behind(seen)
    }

    /// Whether it ever put something in force for a while.
    #[must_use]
    pub fn was_in_force(&self) -> bool {
        self.ends.is_some() && self.verified == Some(Found::AsApproved)
    }

    /// What a restart has to tell the request: whoever carried it out is gone, so nobody knows how far it came, and the
    /// world is looked at before anything else.
    #[must_use]
    pub fn after_restart(&self) -> Option<super::Event> {
        (self.state == State::Executing).then_some(super::Event::Crashed)
    }

    /// How often in a row the same was asked for before: a renewal of a waiver is never a silent one.
    #[must_use]
    pub fn renewals(&self) -> u32 {
        self.scope.renews.map_or(0, |renewal| renewal.count)
    }
}
