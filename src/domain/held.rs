//! What a plan does not do, and why: data, which becomes sentences only when somebody reads it.

use core::fmt;
use std::sync::Arc;

use crate::domain::freeze::Scope;
use crate::domain::id::{CredentialId, FreezeId, IssuerId};
use crate::domain::limits::LimitKind;
use crate::domain::policy::Verdict;
use crate::domain::renewal::Rule;
use crate::domain::time::Timestamp;

/// Something that is not done now. A "no" is data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which credential.
    pub credential: CredentialId,
    /// Why.
    pub reason: HeldReason,
    /// When to look again; `None` when only an event can change it.
    pub until: Option<Timestamp>,
}

/// Why something is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldReason {
    /// Not due yet.
    NotDue(Rule),
    /// The last try failed.
    Backoff,
    /// An attempt is being carried out.
    Running,
    /// As many orders as allowed are in flight.
    InFlight,
    /// Every issuer is out: limit reached or circuit breaker open.
    Issuers(Vec<Out>),
    /// Two automatic issuances for this exact set in 24 h: only a person may order another.
    AutomaticLimit,
    /// The last certificate ended before the one that is there, and so would another: only a person may order it by then.
    EndsEarlier,
    /// Installation waits for the deployment window.
    Window,
    /// Policy wants a person first, or forbids it.
    Policy {
        /// The rule.
        rule: Arc<str>,
        /// What it says.
        verdict: Verdict,
    },
    /// Frozen by these; the one that ends last comes first. All must be over.
    Frozen(Arc<[(FreezeId, Scope)]>),
    /// Nothing is started: the clocks disagree.
    Stopped(String),
}

/// Why an issuer cannot be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// Which.
    pub issuer: IssuerId,
    /// Why.
    pub why: OutWhy,
}

/// The reasons for which an issuer is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutWhy {
    /// Its circuit breaker is open until then.
    Rests(Timestamp),
    /// It has one order on trial.
    OnTrial,
    /// One of its limits is reached until then.
    Limit {
        /// Which limit.
        kind: LimitKind,
        /// What it is counted by.
        key: Arc<str>,
        /// When a token will be there.
        until: Timestamp,
    },
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = &self.issuer;
        match &self.why {
            OutWhy::Rests(until) => write!(f, "{issuer} failed repeatedly and is tried again {until}"),
            OutWhy::OnTrial => write!(f, "{issuer} is on trial after failures"),
            OutWhy::Limit { kind, key, until } => {
                let (kind, of) = (kind.as_str(), if key.is_empty() { "" } else { " for " });
                write!(f, "{issuer}: its limit {kind}{of}{key} is reached until {until}")
            }
        }
    }
}

impl HeldReason {
    /// The freezes that hold it, if some do.
    #[must_use]
    pub fn frozen_by(&self) -> Option<&[(FreezeId, Scope)]> {
        if let Self::Frozen(by) = self { Some(by) } else { None }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::NotDue(Rule::Ari) => "not due: the CA suggested a later time (RFC 9773)".into(),
            Self::NotDue(Rule::Lifetime) => "not due: its share of the lifetime has not gone by".into(),
            Self::NotDue(Rule::Emergency) => "not due: waits for its emergency point".into(),
            Self::Backoff => "waits after a failed try".into(),
            Self::Running => "is being carried out".into(),
            Self::InFlight => "waits for one of the orders in flight to end".into(),
            Self::Issuers(out) => {
                let out: Vec<String> = out.iter().map(ToString::to_string).collect();
                format!("no issuer can be asked now: {}", out.join("; "))
            }
            Self::AutomaticLimit => {
                "two certificates were issued for exactly these names in 24 h; only a person may order another".into()
            }
            Self::EndsEarlier => {
                "what the CA issues ends before what is there; only a person may order another by then".into()
            }
            Self::Window => "issued; its installation waits for the deployment window".into(),
            Self::Policy { rule, verdict: Verdict::Refuse } => format!("policy forbids it (rule {rule})"),
            Self::Policy { rule, .. } => format!("policy wants a person's approval (rule {rule})"),
            Self::Frozen(by) => {
                let by: Vec<String> = by.iter().map(|(id, scope)| format!("{scope} by freeze {id}")).collect();
                format!("frozen: {}", by.join(", "))
            }
            Self::Stopped(why) => format!("nothing is started: {why}"),
        }
    }
}
