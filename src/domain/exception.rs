//! Human sign-off: what automation must not decide waits here for people, with exactly what would be done. People call one
//! of these a request.
//!
//! ```text
//! draft ─submit─▶ review ─enough agree─▶ approved ─begin─▶ executing ─done─▶ verifying ─close─▶ closed
//!                  │  ▲                     │                 ├─▶ failed ──▶──┤   └─▶ reopened: another draft
//!            defer ▼  │ resume              │                 └─▶ unknown ─▶──┘
//!                 deferred                  └─▶ revoked, expired
//! draft, review, deferred ─▶ rejected, expired, withdrawn, superseded
//! review, deferred, approved ─another scope─▶ review, next round, no approvals
//! ```
//! An approval binds to the bytes of a scope ([`Scope::hash`]) and to its round. Every change of a request is one
//! [`Transition`], made by [`step`] alone; the request is what its transitions make ([`replay`]). What is begun needs a
//! [`Permit`], which there is once, and only from a request that is approved when the approvals are counted again over the
//! people, the rules, the freezes and the clocks of that moment. Time alone closes and never opens.
//!
//! | rule | where |
//! |---|---|
//! | who may agree, and why not | [`who_may_decide`] |
//! | how many, of which groups, over which channels | [`required`], [`tally`] |
//! | the floor that no policy lowers | [`Kind::is_above_the_floor`], [`Action::floor`] |
//! | deadlines under two clocks | [`Deadline`] |
//! | what break-glass owes | [`unreviewed`] |
//!
//! Steps of an escalation, freezes and notices stand beside this: none of them makes anything easier.
//!
//! Refuses to know signatures, names of people, who is on call, and how anything is carried out.

mod action;
mod begin;
mod break_glass;
mod clock;
mod eligible;
mod event;
mod kind;
mod name;
mod people;
mod permit;
mod refusal;
mod request;
mod rules;
mod scope;
mod step;
mod tally;
#[cfg(test)]
mod tests;
mod transition;
mod vote;

pub use action::{Action, Argv, Issue, Key, Placing, Replacement};
pub use begin::PREFLIGHT_FRESH;
pub use break_glass::{REVIEW_WITHIN, owes_review, unreviewed};
pub use clock::{Deadline, Moment, STEP_TOLERANCE};
pub use eligible::{Ground, May, WhyNot, has_authority, may_approve, may_reject, who_may_decide};
pub use event::{Change, Event, Opening, Preflight, Why};
pub use kind::{Kind, LONGEST_BREAK_GLASS, LONGEST_OVERRIDE, LONGEST_REQUEST, LONGEST_WAIVER, Stakes};
pub use name::RequestId;
pub use people::{By, Channel, Consent, GroupId, Hours, Nature, People, Person, PersonId, Presence, Role};
pub use permit::{PERMIT_LIFE, Permit, Redeemed};
pub use refusal::Refusal;
pub use request::{Advice, Execution, Found, Request, State, renewed_by};
pub use rules::{Denied, MOST_NEEDS, Need, Pair, Required, Rule, RuleSet, Rules, Says, least, required};
pub use scope::{
    Assets, BadScope, Conditions, LONGEST_SCOPE, MAX_EXECUTIONS, MOST_PARTS, Renewal, Rollback, Scope, Window,
};
pub use step::{
    LONGEST_REASON, MOST_DEFERRALS, MOST_ENTRIES, MOST_ROUNDS, MOST_STEPS, MOST_VOICES, Stepped, latest_deferral, open,
    open_after, step,
};
pub use tally::{Lacking, Tally, tally};
pub use transition::{BadReplay, Transition, replay};
pub use vote::{Ballot, Verdict, Vote};
