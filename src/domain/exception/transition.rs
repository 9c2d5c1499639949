//! What happened to a request, as the log has it: one entry for each, and from all of them the request again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::clock::{Deadline, Moment};
use super::event::{Change, Opening, Why};
use super::name::RequestId;
use super::people::{By, PersonId};
use super::request::{Execution, Request, State};
use super::vote::Verdict;
use super::{Kind, REVIEW_WITHIN};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// One step of a request. Its entry holds all of it, and nothing else changes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Of which request.
    pub request: RequestId,
    /// The how manieth of its entries, from 0.
    pub number: u32,
    /// When, by both clocks.
    pub at: Moment,
    /// Where it stood; nowhere before it was opened.
    pub from: Option<State>,
    /// Where it stands.
    pub to: State,
    /// What else is another now.
    pub change: Change,
}

/// The entries do not make a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReplay {
    /// There is none.
    #[error("there is no entry")]
    Empty,
    /// The first one does not open it.
    #[error("the first entry is {0}, and should be request.open")]
    NotOpened(&'static str),
    /// One does not follow on the one before.
    #[error("entry {index} of request {request} goes on from {from}, and the request is {state}")]
    Gap {
        /// Which request.
        request: RequestId,
        /// Which entry, from 0.
        index: usize,
        /// Where it goes on from.
        from: &'static str,
        /// Where the request stands.
        state: &'static str,
    },
}

/// The request that these entries make, in their order.
///
/// # Errors
/// [`BadReplay`] if one is missing, foreign, or out of order.
pub fn replay<'t>(all: impl IntoIterator<Item = &'t Transition>) -> Result<Request, BadReplay> {
    let mut all = all.into_iter().enumerate();
    let (_, first) = all.next().ok_or(BadReplay::Empty)?;
    let (Change::Opened { opening, askers }, None) = (&first.change, &first.from) else {
        return Err(BadReplay::NotOpened(first.code()));
    };
    if first.request != opening.scope.id || first.to != State::Draft || first.number != 0 {
        return Err(BadReplay::NotOpened(first.code()));
    }
    all.try_fold(Request::opened(opening, askers, &first.at), |request, (index, next)| {
        let follows = next.number == request.entries && next.from.as_ref() == Some(&request.state);
        if next.request != request.id() || !follows || matches!(next.change, Change::Opened { .. }) {
            let from = next.from.as_ref().map_or("nothing", State::as_str);
            return Err(BadReplay::Gap { request: request.id(), index, from, state: request.state.as_str() });
        }
        Ok(request.after(next))
    })
}

impl Request {
    /// A draft.
    pub(super) fn opened(opening: &Opening, askers: &BTreeSet<PersonId>, at: &Moment) -> Self {
        let Opening { scope, requester, reason, decide_by, follows } = opening.clone();
        Self {
            deadline: Deadline::at(scope.window.valid_until, at),
            ends: scope.action.lasts_until().map(|until| Deadline::at(until, at)),
            decide_by: decide_by.min(scope.window.valid_until),
            scope,
            state: State::Draft,
            requester,
            askers: askers.clone(),
            reason,
            opened: at.clone(),
            votes: Vec::new(),
            advice: Vec::new(),
            deferrals: 0,
            escalation: 0,
            freezes: BTreeSet::new(),
            execution: None,
            verified: None,
            taken_back: None,
            reviewed: None,
            follows,
            mark: at.clone(),
            entries: 1,
        }
    }

    /// However often it is planned again, all of it is over when it would be had it been so from the opening.
    fn at_last(&self, until: Timestamp, now: &Moment) -> Deadline {
        Deadline::at(until, now).earlier(&Deadline::at(until, &self.opened))
    }

    /// The request after a transition. The only place where a request changes.
    #[must_use]
    pub(super) fn after(&self, transition: &Transition) -> Self {
        // A wall clock that went back makes no deadline later.
        let now = &transition.at.after(&self.mark);
        let mut next = self.clone();
        next.state = transition.to.clone();
        next.mark = now.clone();
        next.entries = self.entries.saturating_add(1);
        next.deadline = self.deadline.bound(now);
        next.ends = self.ends.as_ref().map(|ends| ends.bound(now));
        if let Some(execution) = &mut next.execution {
            execution.review_by = execution.review_by.as_ref().map(|by| by.bound(now));
        }
        match &transition.change {
            // It was opened before.
            Change::Opened { .. } | Change::Submitted(_) | Change::Moved { .. } => {}
            Change::Voted(vote) => {
                // What somebody says replaces what they said.
                next.votes.retain(|other| other.ballot.person != vote.ballot.person);
                next.votes.push(vote.clone());
            }
            Change::Recommended(advice) => {
                next.advice.retain(|other| other.by != advice.by);
                next.advice.push(advice.clone());
            }
            Change::Deferred { .. } => next.deferrals = self.deferrals.saturating_add(1),
            Change::ScopeChanged { by: _, askers, scope, decide_by } => {
                next.askers.extend(askers.iter().cloned());
                next.deadline = self.at_last(scope.window.valid_until, now);
                next.ends = scope.action.lasts_until().map(|until| self.at_last(until, now));
                next.scope = (**scope).clone();
                next.decide_by = (*decide_by).min(scope.window.valid_until);
                next.votes.clear();
                next.advice.clear();
            }
            Change::Begun { by, permit, preflight, votes: _ } => {
                let glass = self.scope.kind == Kind::BreakGlass;
                let review_by = glass.then(|| Deadline::after(REVIEW_WITHIN, now));
                let (by, at) = (by.clone(), now.clone());
                next.execution = Some(Execution { by, at, permit: *permit, preflight: *preflight, review_by });
            }
            Change::Verified { found, evidence: _ } => next.verified = Some(*found),
            Change::TakenBack { by, .. } => next.taken_back = Some(by.clone()),
            Change::Reviewed { by, .. } => next.reviewed = Some(by.clone()),
            Change::FreezeLaid(freeze) => _ = next.freezes.insert(*freeze),
            Change::FreezeLifted(freeze) => _ = next.freezes.remove(freeze),
            Change::Escalated(step) => next.escalation = *step,
        }
        next
    }
}

impl Transition {
    /// The stable name of its entry: the action of the audit log.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.change {
            Change::Opened { .. } => "request.open",
            Change::Submitted(_) if self.to == State::Approved && self.from == Some(State::Draft) => {
                "request.preapprove"
            }
            Change::Submitted(_) => "request.submit",
            Change::Voted(vote) => match (vote.ballot.verdict, &self.to) {
                (Verdict::Approve, _) => "request.approve",
                (Verdict::Reject, State::Revoked) => "request.revoke",
                (Verdict::Reject, _) => "request.reject",
            },
            Change::Recommended(_) => "request.recommend",
            Change::Deferred { .. } => "request.defer",
            Change::ScopeChanged { .. } => "request.change",
            Change::Begun { .. } => "request.begin",
            Change::Verified { .. } => "request.verify",
            Change::TakenBack { .. } => "request.take_back",
            Change::Reviewed { .. } => "request.review",
            Change::FreezeLaid(_) => "request.freeze",
            Change::FreezeLifted(_) => "request.thaw",
            Change::Escalated(_) => "request.escalate",
            Change::Moved { .. } => match &self.to {
                State::Review => "request.resume",
                State::Failed => "request.fail",
                State::Unknown => "request.lose",
                // From a failure or a crash it is looked at; else whoever did it says that it is done.
                State::Verifying if self.from == Some(State::Executing) => "request.conclude",
                State::Verifying => "request.look",
                State::Closed => "request.close",
                State::Expired => "request.expire",
                State::Withdrawn => "request.withdraw",
                State::Superseded(_) => "request.supersede",
                State::Revoked => "request.revoke",
                State::Reopened(_) => "request.reopen",
                State::Draft | State::Deferred(_) | State::Approved | State::Executing | State::Rejected => {
                    "request.move"
                }
            },
        }
    }

    /// Who did it.
    #[must_use]
    pub fn by(&self) -> By {
        match &self.change {
            Change::Opened { opening, .. } => opening.requester.clone(),
            Change::Submitted(by)
            | Change::Begun { by, .. }
            | Change::ScopeChanged { by, .. }
            | Change::TakenBack { by, .. }
            | Change::Moved { by, .. } => by.clone(),
            Change::Voted(vote) => By::Person(vote.ballot.person.clone()),
            Change::Recommended(advice) => By::Person(advice.by.clone()),
            Change::Deferred { by, .. } | Change::Reviewed { by, .. } => By::Person(by.clone()),
            Change::Verified { .. } | Change::FreezeLaid(_) | Change::FreezeLifted(_) | Change::Escalated(_) => {
                By::Guardian
            }
        }
    }

    /// What its entry says: everything but the time of the wall clock, which is the entry's, and the private texts. The scope stands in it as a whole, so that
    /// whoever has the log has the bytes that were signed.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, Json)> {
        let mut facts = vec![
            ("boot_id", Json::Shared(self.at.boot_id.clone())),
            ("boot_ms", Json::show(&self.at.boot.as_duration().as_millis())),
            ("by", self.by().to_json()),
            ("from", Json::opt(self.from.as_ref().map(|from| Json::str(from.as_str())))),
            ("number", Json::Int(i64::from(self.number))),
            ("request", Json::show(&self.request)),
            ("to", Json::str(self.to.as_str())),
        ];
        match &self.to {
            State::Superseded(other) | State::Reopened(other) => facts.push(("other", Json::show(other))),
            State::Draft
            | State::Review
            | State::Deferred(_)
            | State::Approved
            | State::Executing
            | State::Failed
            | State::Unknown
            | State::Verifying
            | State::Closed
            | State::Rejected
            | State::Expired
            | State::Withdrawn
            | State::Revoked => {}
        }
        facts.extend(self.change.facts());
        facts.sort_unstable_by_key(|(key, _)| *key);
        facts
    }

    /// The free texts, which the entry only commits to.
    #[must_use]
    pub fn texts(&self) -> Vec<(&'static str, Arc<str>)> {
        let reason = match &self.change {
            Change::Opened { opening, .. } => Some(&opening.reason),
            Change::Voted(vote) => vote.ballot.reason.as_ref(),
            Change::Recommended(advice) => Some(&advice.reason),
            Change::Deferred { reason, .. }
            | Change::TakenBack { reason, .. }
            | Change::Reviewed { reason, .. }
            | Change::Moved { why: Why::Reason(reason), .. } => Some(reason),
            Change::Submitted(_)
            | Change::ScopeChanged { .. }
            | Change::Begun { .. }
            | Change::Verified { .. }
            | Change::FreezeLaid(_)
            | Change::FreezeLifted(_)
            | Change::Escalated(_)
            | Change::Moved { why: Why::Plain | Why::Code(_), .. } => None,
        };
        reason.map(|reason| ("reason", reason.clone())).into_iter().collect()
    }
}

impl Change {
    fn facts(&self) -> Vec<(&'static str, Json)> {
        let hashes = |all: &[Digest]| Json::arr(all.iter().map(|one| Json::Hash(*one)));
        let people = |all: &BTreeSet<PersonId>| Json::arr(all.iter().map(PersonId::to_json));
        match self {
            Self::Opened { opening, askers } => vec![
                ("askers", people(askers)),
                ("decide_by", Json::Time(opening.decide_by)),
                ("follows", Json::opt(opening.follows.as_ref().map(Json::show))),
                ("scope", opening.scope.to_json()),
                ("scope_hash", Json::Hash(opening.scope.hash())),
            ],
            Self::Voted(vote) => vec![("vote", vote.to_json())],
            Self::Recommended(advice) => vec![("verdict", Json::str(advice.verdict.as_str()))],
            Self::Deferred { until, .. } => vec![
                ("until", Json::Time(until.wall)),
                ("until_boot_ms", Json::show(&until.boot.as_duration().as_millis())),
            ],
            Self::ScopeChanged { by: _, askers, scope, decide_by } => vec![
                ("askers", people(askers)),
                ("decide_by", Json::Time(*decide_by)),
                ("scope", scope.to_json()),
                ("scope_hash", Json::Hash(scope.hash())),
            ],
            Self::Begun { permit, preflight, votes, .. } => {
                vec![("permit", Json::Hash(*permit)), ("preflight", Json::Hash(*preflight)), ("votes", hashes(votes))]
            }
            Self::Verified { found, evidence } => {
                vec![("evidence", Json::Hash(*evidence)), ("found", Json::str(found.as_str()))]
            }
            Self::FreezeLaid(freeze) | Self::FreezeLifted(freeze) => vec![("freeze", Json::show(freeze))],
            Self::Escalated(step) => vec![("step", Json::Int(i64::from(*step)))],
            Self::Moved { why: Why::Code(code), .. } => vec![("failure", Json::Shared(code.clone()))],
            Self::Submitted(_)
            | Self::TakenBack { .. }
            | Self::Reviewed { .. }
            | Self::Moved { why: Why::Plain | Why::Reason(_), .. } => Vec::new(),
        }
    }
}
