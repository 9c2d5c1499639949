//! Faults on demand: what a CA may do to its clients, when, and how often.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::domain::time::Timestamp;
use crate::ports::Entropy;

/// The resources of the protocol, as faults and statistics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// The directory.
    Directory,
    /// newNonce.
    NewNonce,
    /// newAccount.
    NewAccount,
    /// An account and its list of orders.
    Account,
    /// keyChange.
    KeyChange,
    /// newOrder.
    NewOrder,
    /// An order.
    Order,
    /// An authorization.
    Authz,
    /// A challenge.
    Challenge,
    /// finalize.
    Finalize,
    /// A certificate.
    Cert,
    /// revokeCert.
    Revoke,
    /// Renewal information.
    RenewalInfo,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Directory,
        Self::NewNonce,
        Self::NewAccount,
        Self::Account,
        Self::KeyChange,
        Self::NewOrder,
        Self::Order,
        Self::Authz,
        Self::Challenge,
        Self::Finalize,
        Self::Cert,
        Self::Revoke,
        Self::RenewalInfo,
    ];
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// At the next requests, this many.
    Next(u32),
    /// At this share of requests, in percent.
    Percent(u8),
    /// At every request.
    Always,
}

/// What a CA may do to its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Does everything that was asked, then closes the connection without an answer.
    DropResponse,
    /// Closes the connection without reading the request.
    DropRequest,
    /// Waits before the request is looked at; if the client hangs up meanwhile, it never is.
    Delay(Duration),
    /// Answers with a problem instead of doing anything.
    Status {
        /// The HTTP status.
        code: u16,
        /// The problem type without its URN prefix.
        problem: String,
        /// The text of a `Retry-After` header, sent as it is.
        retry_after: Option<String>,
    },
    /// Does what was asked and answers with JSON that ends in the middle.
    MalformedJson,
    /// Does what was asked and answers with this many bytes of valid JSON.
    HugeBody {
        /// How many.
        bytes: u64,
        /// Whether the length is announced or found out.
        length: Length,
    },
    /// Does what was asked and answers byte by byte, with this pause between them.
    SlowBody(Duration),
    /// Refuses the nonce, though it is good.
    BadNonce,
    /// Sends this text as `Retry-After` with the answer, in place of what it would say.
    RetryAfter(String),
    /// At finalize: the order stays `processing` until [`super::Control::release_stuck`].
    StuckProcessing,
    /// At finalize: issues for another key.
    WrongKey,
    /// At finalize: issues for another name.
    WrongNames,
    /// At finalize: issues from a CA that nobody knows.
    ForeignChain,
    /// At finalize: issues what expired an hour ago.
    ExpiredCert,
    /// At newOrder: all challenges of the order get this token.
    EvilToken(String),
    /// At newOrder, order or finalize: the order goes invalid.
    OrderInvalid,
    /// At newOrder: an order that has `replaces` is refused with this problem type.
    ReplacesRefused(String),
    /// At newOrder: the answer does not repeat `replaces`.
    NoReplacesEcho,
    /// Refuses until the terms are agreed to again (RFC 8555 section 7.3.3).
    TermsChanged,
    /// Refuses with `rateLimited` and this time to wait.
    LimitReached(Duration),
}

/// Whether the length of a body is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// By `Content-Length`.
    Announced,
    /// Not: the body is chunked.
    Streamed,
}

/// What renewal information says about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ari {
    /// A window of 2 % of the lifetime around two thirds of it, or half of it under ten days, as Let's Encrypt gives; in
    /// the past once revoked.
    Computed,
    /// There is none: 404.
    Absent,
    /// This window, also an inverted one.
    Window {
        /// Its start.
        start: Timestamp,
        /// Its end.
        end: Timestamp,
        /// A page that says why.
        explanation: Option<String>,
    },
    /// A window that is over: renew now (RFC 9773 section 4.2).
    RenewNow {
        /// A page that says why.
        explanation: Option<String>,
    },
}

/// Names a fault that was put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(pub(super) u64);

struct Rule {
    at: Vec<Endpoint>,
    scope: Scope,
    fault: Fault,
    struck: u64,
}

/// The faults in place.
#[derive(Default)]
pub(super) struct Faults {
    rules: BTreeMap<u64, Rule>,
    last: u64,
}

/// At most this many faults at a time: a scenario has a handful.
const MOST_RULES: usize = 1_000;

impl Faults {
    pub(super) fn inject(&mut self, at: &[Endpoint], scope: Scope, fault: Fault) -> FaultId {
        self.last = self.last.saturating_add(1);
        if self.rules.len() >= MOST_RULES {
            self.rules.pop_first();
        }
        self.rules.insert(self.last, Rule { at: at.to_vec(), scope, fault, struck: 0 });
        FaultId(self.last)
    }

    pub(super) fn lift(&mut self, id: FaultId) {
        self.rules.remove(&id.0);
    }

    pub(super) fn heal(&mut self) {
        self.rules.clear();
    }

    pub(super) fn struck(&self, id: FaultId) -> u64 {
        self.rules.get(&id.0).map_or(0, |rule| rule.struck)
    }

    /// The faults that strike a request at `endpoint`.
    pub(super) fn strike(&mut self, endpoint: Endpoint, entropy: &dyn Entropy) -> Strike {
        let mut faults = Vec::new();
        for rule in self.rules.values_mut().filter(|r| r.at.is_empty() || r.at.contains(&endpoint)) {
            let strikes = match &mut rule.scope {
                Scope::Next(0) => false,
                Scope::Next(left) => {
                    *left = left.saturating_sub(1);
                    true
                }
                Scope::Percent(share) => percent(*share, entropy),
                Scope::Always => true,
            };
            if strikes {
                rule.struck = rule.struck.saturating_add(1);
                faults.push(rule.fault.clone());
            }
        }
        Strike(faults)
    }
}

/// Draws whether one of a hundred equal chances falls into `share`.
fn percent(share: u8, entropy: &dyn Entropy) -> bool {
    let mut drawn = [0_u8; 4];
    entropy.fill(&mut drawn);
    u32::from_le_bytes(drawn) % 100 < u32::from(share)
}

/// The faults that strike one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Strike(Vec<Fault>);

impl Strike {
    pub(super) fn has(&self, fault: &Fault) -> bool {
        self.0.contains(fault)
    }

    pub(super) fn find<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(pick)
    }
}
