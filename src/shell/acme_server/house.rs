//! What stands behind the protocol: who signs, what is remembered beyond this process, and who may have what. The hostile
//! CA of the tests is one house, a directory over a private CA is another; the protocol does not know which one it serves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::book::{Account, Authorization, Book, Certificate, Order};
use super::config::{Addresses, Demand};
use super::fault::{Endpoint, Strike};
use super::pki::Issued;
use super::problem::Problem;
use super::renewal::Suggestion;
use super::stats::{AccountKeyRecord, OrderRecord, ValidationRecord};
use crate::domain::name::{Name, NameSet};
use crate::domain::time::Timestamp;
use crate::ports::Doing;

/// What a profile gives, as far as the protocol has to know.
pub(super) struct Offer {
    /// What the order is said to be for; `None` where it named nothing.
    pub(super) name: Option<String>,
    pub(super) most_names: usize,
    pub(super) addresses: Addresses,
}

/// What somebody orders.
pub(super) struct Ask<'a> {
    pub(super) account: u64,
    pub(super) names: &'a NameSet,
    pub(super) profile: Option<&'a str>,
    /// It replaces a certificate inside the window that was suggested.
    pub(super) renewal: bool,
}

/// What is to be certified.
#[derive(Clone)]
pub(super) struct ToIssue {
    pub(super) account: u64,
    pub(super) names: NameSet,
    pub(super) profile: Option<String>,
    pub(super) spki: Arc<[u8]>,
    /// Since when; what was certified for the same before that is another order's.
    pub(super) since: Timestamp,
    pub(super) time: Try,
    pub(super) strike: Strike,
}

/// Whether an order may have been certified before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Try {
    /// It was never tried: its key became known in this life, a moment ago.
    First,
    /// It was, or an earlier life may have.
    Again,
}

/// Whether a finalized order is certified at once.
pub(super) enum Admission {
    Now,
    /// A person decides, because of these names.
    Wait(Vec<Name>),
}

/// Who revokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoker {
    /// Whoever has the certificate's key.
    Key,
    /// The account that ordered it.
    Owner(u64),
    /// An account that proved its names, whose word on the key counts for nothing.
    Prover(u64),
}

impl Revoker {
    /// Whether it can say that the key is in other hands.
    pub(super) fn knows_the_key(self) -> bool {
        match self {
            Self::Key | Self::Owner(_) => true,
            Self::Prover(_) => false,
        }
    }
}

/// Why there is no certificate.
pub(super) enum Unissued {
    /// Nor will there be.
    Never(Problem),
    /// Not yet: it is tried again.
    Later(String),
}

/// What happened, for whoever counts or records.
pub(super) enum Event<'a> {
    /// An account has a key: a new one, or another than before.
    Key { account: u64, record: AccountKeyRecord, fresh: bool },
    /// An account is given up.
    Deactivated { account: u64 },
    /// An account has other contacts.
    Contacts { account: u64 },
    /// An order was made.
    Ordered { order: &'a Order, record: OrderRecord },
    /// A client says that a response is in place.
    Answered { order: u64, name: &'a Name, kind: &'static str },
    /// A validation ended.
    Validated { order: u64, record: ValidationRecord },
    /// An authorization is given up.
    Relinquished { order: u64, name: &'a Name },
    /// An order was finalized.
    Finalized { order: u64, admission: &'a Admission },
    /// A certificate was made.
    Issued { order: u64, account: u64, issued: &'a Issued },
    /// An order will have no certificate.
    Failed { order: u64, problem: &'a Problem },
}

/// An order with its authorizations.
pub(super) type Whole = (Order, Vec<Authorization>);

/// The rows that a turn of requests changed.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) accounts: BTreeMap<u64, Option<Account>>,
    /// With its authorizations, and the serial number of its certificate.
    pub(super) orders: BTreeMap<u64, (Option<Whole>, Option<Arc<str>>)>,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.orders.is_empty()
    }
}

/// What a house found out about a certificate request that it can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is signed with its own key.
    Verified,
    /// Nobody looked at its signature.
    Unseen,
}

/// See the file's head. Locks of its own are never held across a wait.
pub(super) trait House: Send + Sync {
    /// What strikes a request; `None` closes its connection.
    fn strike(&self, endpoint: Option<Endpoint>) -> Option<Strike>;
    /// Whether nothing that happened is still to be made durable.
    fn is_kept(&self) -> bool;
    /// Whether so much waits to be made durable that nothing more is taken on before.
    fn overloaded(&self) -> bool;
    /// Where the terms of service are that new accounts must agree to.
    fn terms(&self) -> Option<String>;
    /// Whether new accounts need an external binding.
    fn demand(&self) -> Demand;
    /// The HMAC key with this id.
    fn mac_key(&self, kid: &str) -> Option<Vec<u8>>;
    /// The profiles on offer, with a few words about each.
    fn profiles(&self) -> BTreeMap<String, String>;
    /// What a profile gives; of the default one if none is named.
    fn offer(&self, name: Option<&str>) -> Result<Offer, Problem>;
    /// Whether there may be another account.
    fn welcome(&self, book: &Book, kid: Option<&str>, from: IpAddr, now: Timestamp) -> Result<(), Problem>;
    /// Whether an order may be made; it counts against limits.
    fn order(&self, book: &mut Book, ask: &Ask<'_>, now: Timestamp) -> Result<(), Problem>;
    /// Whether a challenge may be tried; asked again when one that had to wait for its turn is `begun`.
    fn attempt(&self, book: &Book, account: u64, name: &Name, begun: bool, now: Timestamp) -> Result<(), Problem>;
    /// Whether a certificate request (DER) can be used, beyond what the protocol asks of it.
    fn request(&self, csr: &[u8]) -> Result<Proof, Problem>;
    /// Whether an order that is ready is certified.
    fn admit(&self, book: &Book, ask: &Ask<'_>, now: Timestamp) -> Result<Admission, Problem>;
    /// Whether an order in processing, which a person allowed or not, is still to be certified, right before it is.
    fn confirm(&self, book: &Book, ask: &Ask<'_>, ruled: bool, now: Timestamp) -> Result<Admission, Unissued>;
    /// Something happened; what is recorded of it is durable with the next [`Self::keep`].
    fn happened(&self, event: Event<'_>, now: Timestamp);
    /// An order waits for a person since `now`, because of these names; it is durable that it does. Said once.
    fn waits(&self, book: &Book, order: u64, names: &[Name], now: Timestamp);
    /// Makes rows durable, together with what happened.
    fn keep<'a>(&'a self, touched: &'a Touched) -> Doing<'a, Result<(), Problem>>;
    /// Certifies. Asked again for the same, it gives the same.
    fn issue<'a>(&'a self, asked: &'a ToIssue) -> Doing<'a, Result<Issued, Unissued>>;
    /// The certificate with its chain, as PEM.
    fn chain<'a>(&'a self, issued: &'a Issued) -> Doing<'a, Result<String, Problem>>;
    /// Revokes for a reason of RFC 5280 section 5.3.1; whoever asks may.
    fn revoke<'a>(&'a self, issued: &'a Issued, reason: u8, by: Revoker) -> Doing<'a, Result<(), Problem>>;
    /// When to renew a certificate; `None` if there is to be no answer.
    fn window(&self, certificate: &Certificate, now: Timestamp) -> Option<Suggestion>;
}
