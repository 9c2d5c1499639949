//! What can happen to a request.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::clock::{Deadline, Moment};
use super::name::RequestId;
use super::people::{By, PersonId};
use super::request::Found;
use super::scope::{Assets, Conditions, Scope, assets_json, conditions_json};
use super::vote::{Ballot, Verdict};
use crate::domain::id::FreezeId;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// A request that is to be opened: everything that a draft has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What would be done, in round 1.
    pub scope: Scope,
    /// Who asks.
    pub requester: By,
    /// Why, in their words.
    pub reason: Arc<str>,
    /// The last moment at which it can be decided with time enough to do and verify it
    /// ([`crate::domain::escalation::must_decide_by`]).
    pub decide_by: Timestamp,
    /// The request from which it goes on, if it does.
    pub follows: Option<RequestId>,
}

/// Something that happens to a request. Whoever sends it has found out who it is; whether they may is judged here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// People are asked. Where nobody has to be, it is approved by that.
    Submitted(By),
    /// Somebody voted.
    Voted(Ballot),
    /// Somebody who has no vote, or does not use it, says what they think.
    Recommended {
        /// Who.
        by: PersonId,
        /// What they would say.
        verdict: Verdict,
        /// Why.
        reason: Arc<str>,
    },
    /// Somebody wants to be asked again later.
    Deferred {
        /// Who.
        by: PersonId,
        /// When.
        until: Timestamp,
        /// Why.
        reason: Arc<str>,
    },
    /// The time of that has come, or somebody wants to decide now.
    Resumed(By),
    /// It is not asked for any more.
    Withdrawn {
        /// By whom.
        by: By,
        /// Why.
        reason: Arc<str>,
    },
    /// Another request has taken its place.
    Superseded(RequestId),
    /// It was planned again; its round is given by [`super::step`].
    ScopeChanged {
        /// By whom: they ask for it too, from then on.
        by: By,
        /// What would be done now.
        scope: Box<Scope>,
        /// Until when it has to be decided now.
        decide_by: Timestamp,
    },
    /// Its time is over.
    Expired,
    /// What was approved is taken back.
    Revoked {
        /// By whom.
        by: By,
        /// Why.
        reason: Arc<str>,
    },
    /// It is about to be done.
    Begun {
        /// By whom.
        by: By,
        /// What was seen right before.
        preflight: Preflight,
    },
    /// It was done, by the word of whoever did it.
    Done,
    /// It was not done, by the word of whoever should.
    Failed {
        /// The code of what went wrong.
        code: Arc<str>,
    },
    /// Whoever did it is gone.
    Crashed,
    /// After a failure or a crash, the world is looked at.
    LookedAt,
    /// What was found.
    Verified {
        /// How the world is.
        found: Found,
        /// Digest of what shows it.
        evidence: Digest,
    },
    /// It is over.
    Closed(By),
    /// It goes on as another request: a draft, which nobody has approved.
    Reopened(RequestId),
    /// What it put in force for a while is taken back before its end.
    TakenBack {
        /// By whom.
        by: By,
        /// Why.
        reason: Arc<str>,
    },
    /// Somebody who had no part in it looked at what was done in break-glass.
    Reviewed {
        /// Who.
        by: PersonId,
        /// What they think of it.
        reason: Arc<str>,
    },
    /// What it touches was frozen.
    FreezeLaid(FreezeId),
    /// A freeze over it is over.
    FreezeLifted(FreezeId),
    /// More people are told.
    Escalated {
        /// How far, counted from 1.
        step: u32,
    },
}

impl Event {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submitted(_) => "submit",
            Self::Voted(_) => "vote",
            Self::Recommended { .. } => "recommend",
            Self::Deferred { .. } => "defer",
            Self::Resumed(_) => "resume",
            Self::Withdrawn { .. } => "withdraw",
            Self::Superseded(_) => "supersede",
            Self::ScopeChanged { .. } => "change the scope of",
            Self::Expired => "expire",
            Self::Revoked { .. } => "revoke",
            Self::Begun { .. } => "begin",
            Self::Done => "conclude",
            Self::Failed { .. } => "fail",
            Self::Crashed => "lose",
            Self::LookedAt => "look at",
            Self::Verified { .. } => "verify",
            Self::Closed(_) => "close",
            Self::Reopened(_) => "reopen",
            Self::TakenBack { .. } => "take back",
            Self::Reviewed { .. } => "review",
            Self::FreezeLaid(_) => "freeze",
            Self::FreezeLifted(_) => "thaw",
            Self::Escalated { .. } => "escalate",
        }
    }
}

/// What was seen right before it is done: the same things that the scope names, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// SHA-256 of the bytes that would be carried out.
    pub scope: Digest,
    /// When it was looked.
    pub at: Moment,
    /// What is there now.
    pub assets: Assets,
    /// What holds now.
    pub preconditions: Conditions,
}

impl Preflight {
    /// SHA-256 over its canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let Self { scope, at, assets, preconditions } = self;
        let all = Json::obj([
            ("assets", assets_json(assets)),
            ("at", Json::Time(at.wall)),
            ("preconditions", conditions_json(preconditions)),
            ("scope", Json::Hash(*scope)),
        ]);
        Digest::of(&all.canonical())
    }
}

/// What was decided about an event: all that is needed to have the same request again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was opened.
    Opened {
        /// With all of this.
        opening: Box<Opening>,
        /// Who asks by that.
        askers: BTreeSet<PersonId>,
    },
    /// It was submitted by somebody.
    Submitted(By),
    /// A vote was taken.
    Voted(super::Vote),
    /// A recommendation was taken.
    Recommended(super::Advice),
    /// It was put off.
    Deferred {
        /// By whom.
        by: PersonId,
        /// Until then.
        until: Deadline,
        /// Why.
        reason: Arc<str>,
    },
    /// Its scope is another one.
    ScopeChanged {
        /// By whom.
        by: By,
        /// Who asks too, by that.
        askers: BTreeSet<PersonId>,
        /// The new one, with its round.
        scope: Box<Scope>,
        /// Until when it has to be decided.
        decide_by: Timestamp,
    },
    /// It was begun.
    Begun {
        /// By whom.
        by: By,
        /// Digest of the permit.
        permit: Digest,
        /// Digest of what was seen right before.
        preflight: Digest,
        /// Digests of the votes that it stands on.
        votes: Vec<Digest>,
    },
    /// It was looked at, and this was found.
    Verified {
        /// How the world is.
        found: Found,
        /// Digest of what shows it.
        evidence: Digest,
    },
    /// What it put in force was taken back.
    TakenBack {
        /// By whom.
        by: By,
        /// Why.
        reason: Arc<str>,
    },
    /// Break-glass was reviewed.
    Reviewed {
        /// By whom.
        by: PersonId,
        /// What they think.
        reason: Arc<str>,
    },
    /// A freeze came over it.
    FreezeLaid(FreezeId),
    /// A freeze over it is over.
    FreezeLifted(FreezeId),
    /// More people are told.
    Escalated(u32),
    /// Nothing but the state changed.
    Moved {
        /// By whom.
        by: By,
        /// Why, in their words, or by the code of a failure.
        why: Why,
    },
}

/// Why a state changed, where nothing else did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The states say it.
    Plain,
    /// In somebody's words.
    Reason(Arc<str>),
    /// By a code.
    Code(Arc<str>),
}
