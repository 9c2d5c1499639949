//! Why something does not happen to a request: each is data with a sentence.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::begin::PREFLIGHT_FRESH;
use super::eligible::WhyNot;
use super::kind::Stakes;
use super::name::RequestId;
use super::request::Found;
use super::rules::Denied;
use super::scope::BadScope;
use super::step::LONGEST_REASON;
use super::tally::Lacking;
use crate::domain::id::FreezeId;
use crate::domain::key::Digest;
use crate::domain::time::{Timestamp, human_span};

/// Why an event is refused. The request is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// That does not happen where it stands.
    #[error("nobody can {event} a request that is {state}")]
    State {
        /// What was tried.
        event: &'static str,
        /// Where it stands.
        state: &'static str,
    },
    /// What would be done cannot be asked for.
    #[error(transparent)]
    Scope(#[from] BadScope),
    /// It would be as before: the approvals stay.
    #[error("the scope is the same byte for byte; what was approved stays approved")]
    SameScope,
    /// It is about another scope than the one that is asked for now.
    #[error("it is about round {found}, scope {}; asked is round {round}, scope {}", .scope_found.short(), .scope.short())]
    Stale {
        /// The round asked about.
        round: u32,
        /// The round of the event.
        found: u32,
        /// The scope asked about.
        scope: Digest,
        /// The scope of the event.
        scope_found: Digest,
    },
    /// Whoever it is may not.
    #[error("{who} cannot decide it: {why}")]
    NotYou {
        /// Who.
        who: Arc<str>,
        /// Why not.
        why: WhyNot,
    },
    /// Whoever it is has not what it takes.
    #[error("{who} cannot {event} it: {expected}")]
    NotAllowed {
        /// Who.
        who: Arc<str>,
        /// What was tried.
        event: &'static str,
        /// Who could.
        expected: &'static str,
    },
    /// No reason was given, or one that is too long.
    #[error("a reason of 1 to {LONGEST_REASON} bytes is needed; it has {0}")]
    Reason(usize),
    /// Nothing could be enough.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Not enough people agree as they are now.
    #[error("it is not approved as things are now: {}", said(.0))]
    NotEnough(Vec<Lacking>),
    /// The time for it is not there yet.
    #[error("it may not begin before {0}")]
    TooEarly(Timestamp),
    /// The time for it is over.
    #[error("its time was over at {0}, under one clock or the other")]
    Over(Timestamp),
    /// Its time is not over.
    #[error("its time is over at {0} only")]
    NotOver(Timestamp),
    /// The clocks are behind what they said before.
    #[error("the clocks say {now}, and said {seen} before; nothing begins until they are right")]
    ClockBack {
        /// What they say.
        now: Timestamp,
        /// What they said.
        seen: Timestamp,
    },
    /// It was begun before.
    #[error("it was begun before, and is done once; what is left is to look, and to reopen it as another request")]
    Spent,
    /// Freezes are over it that it does not name.
    #[error("it is frozen by {}; thaw, wait, or ask for an override that names each of them", ids(.0))]
    Frozen(BTreeSet<FreezeId>),
    /// Something is not as it was when it was planned.
    #[error("{what} is {found}, and was {expected} when it was planned; plan it anew")]
    Drift {
        /// What.
        what: Arc<str>,
        /// How it was.
        expected: String,
        /// How it is.
        found: String,
    },
    /// What was seen before is too old, or from a time to come.
    #[error("the preflight is of {seen}, and may be {} old at most; look again", human_span(PREFLIGHT_FRESH))]
    Preflight {
        /// When it was looked.
        seen: Timestamp,
    },
    /// What has to be known is not.
    #[error("{0} could not be found out, and what cannot be told is refused; mend that first")]
    Unknown(&'static str),
    /// The permit could still be used.
    #[error("its permit can still be used until {0}; it is looked at after that, or after a reboot")]
    PermitLives(Timestamp),
    /// Break-glass has not been reviewed.
    #[error("break-glass {} was not reviewed in time; nothing at T3 and above begins until it is", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Unreviewed(Vec<RequestId>),
    /// It was put off often enough.
    #[error("it was put off {0} times; now it is decided, or expires")]
    TooManyDeferrals(u8),
    /// It cannot be put off so long, or was not put off at all.
    #[error("it can be put off until {latest} at the latest, and to a time to come")]
    Deferral {
        /// Until when at the latest.
        latest: Timestamp,
    },
    /// It is not time to ask again, by the guardian itself.
    #[error("it was put off until {0}")]
    NotYet(Timestamp),
    /// A person has to do that.
    #[error("at {0} a person closes it")]
    NeedsPerson(Stakes),
    /// What was found does not allow it.
    #[error("{}", match .0 { Some(found) => format!("the world is {}; partly done is reopened, never closed", found.as_str()), None => "nobody has looked at what came of it".to_owned() })]
    Found(Option<Found>),
    /// It is no renewal of what it says.
    #[error("it goes on from {found:?}, and should from {expected:?}")]
    Follows {
        /// What it should name.
        expected: Option<RequestId>,
        /// What it names.
        found: Option<RequestId>,
    },
    /// There is as much of it as there may be.
    #[error("it has {most} {what} already; withdraw it and open another")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// So many.
        most: usize,
    },
    /// There is nothing to change.
    #[error("nothing would change: {0}")]
    Nothing(&'static str),
    /// The permit is for other bytes.
    #[error("the permit is for {}, and this is {}; nothing of it is carried out", .permitted.short(), .found.short())]
    OtherBytes {
        /// What is permitted.
        permitted: Digest,
        /// What would be carried out.
        found: Digest,
    },
}

fn said(lacking: &[Lacking]) -> String {
    lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn ids(freezes: &BTreeSet<FreezeId>) -> String {
    freezes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
