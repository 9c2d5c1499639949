//! Every door to the world, on one page.
//!
//! Each trait says who retries, what is durable on return, and what may run at once. All are object safe and return boxed
//! futures, so that the engine is compiled once and runs unchanged under `sim`. A port never retries on its own unless
//! its contract says so: the engine owns retries, because only it knows the lifetimes.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::certificate::{CertId, Chain};
use crate::domain::execution::Fault;
use crate::domain::id::{AttemptId, CredentialId, IssuerId, PathId, SolverId};
use crate::domain::inventory::{Credential, CrlSeen, Endpoint, Install, KeyReuse, Reload, Seen, Source};
use crate::domain::key::KeyAlgorithm;
use crate::domain::name::{Name, NameSet};
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{Boottime, Timestamp};

mod holder;
mod keys;
mod lists;
mod mint;
mod parties;
mod reading;
mod signer;
mod spool;
mod store;
mod witness;

pub use crate::domain::directory::ChallengeKind;
pub use holder::{HeldKey, HolderError, HolderRecord, HolderStatus, KeyHolder, Operation, ToBeSigned, Warrant};
pub use keys::{KeyProbe, Prints};
pub use lists::Lists;
pub use mint::{Adopted, Anchors, Asked, Blank, Mint, MintError, Relied, Shelf, Trust};
pub use parties::{CanaryLeaf, Here, Probed, RelyingParties};
pub use reading::{Consistency, Inclusion, Log, Page, Statistics};
pub use signer::{KeyStanding, Mute, Signature, Signer, SigningKey};
pub use spool::{More, Spool, Spooled};
pub use store::{Batch, LARGEST_BATCH, LARGEST_BATCH_EVIDENCE, Store, StoreError, StoredEntry};
pub use witness::{Cosigner, OwnLog, Unwitnessed, Witnesses};

/// A boxed future that may run on any thread.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All the doors that the engine needs.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Durable state and audit.
    pub store: Arc<dyn Store>,
    /// What could not be written there yet.
    pub spool: Arc<dyn Spool>,
    /// The witnesses of that.
    pub witnesses: Arc<dyn Witnesses>,
    /// The key of leases, permits and other statements.
    pub signer: Arc<dyn Signer>,
    /// The CAs.
    pub issuer: Arc<dyn Issuer>,
    /// Challenge responses.
    pub solver: Arc<dyn Solver>,
    /// Private keys.
    pub keys: Arc<dyn KeyStore>,
    /// Looking at what is stored and served.
    pub prober: Arc<dyn Prober>,
    /// Revocation lists of CAs.
    pub lists: Arc<dyn Lists>,
    /// Installing files and reloading servers.
    pub deployer: Arc<dyn Deployer>,
    /// Telling people.
    pub notifier: Arc<dyn Notifier>,
    /// Counting.
    pub meter: Arc<dyn Meter>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}

/// Time. Wall time may step; boot time never does.
pub trait Clock: Send + Sync {
    /// The wall clock in UTC whole seconds.
    fn now(&self) -> Timestamp;
    /// Time since boot, suspend included.
    fn boottime(&self) -> Boottime;
    /// Identity of this boot: boot times of different boots cannot be compared.
    fn boot_id(&self) -> Arc<str>;
    /// Returns after `span` of boot time; may be dropped at any time.
    fn sleep(&self, span: Duration) -> Doing<'_, ()>;
}

/// Randomness for ids, serials and nonces. Jitter of schedules is *not* drawn here: it is a stable hash.
pub trait Entropy: Send + Sync {
    /// Fills `out` from a cryptographically secure source.
    fn fill(&self, out: &mut [u8]);
}

/// What came out of an exchange with a CA, for the audit trail: bounded, without secrets (no JWS signatures, no keys).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// One line of JSON per exchange: time, method, URL, status, request id, Retry-After, problem document.
    pub exchanges: Vec<String>,
}

/// An error from a CA: everything that scheduling, blame and the page need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerError {
    /// What kind.
    pub kind: IssuerErrorKind,
    /// Whose fault.
    pub fault: Fault,
    /// One sentence for people: what was seen, what was expected.
    pub text: String,
    /// The ACME problem type without its URN prefix, for example `rateLimited` (RFC 8555 section 6.7).
    pub problem: Option<String>,
    /// Per identifier: problem type and text (RFC 8555 section 6.7.1).
    pub subproblems: Vec<(Name, String, String)>,
    /// The CA asked to wait this long, not clamped.
    pub retry_after: Option<Duration>,
    /// A link that a person must follow (Let's Encrypt's unpause page, new terms of service).
    pub link: Option<String>,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssuerErrorKind {
    /// Try again later, same request.
    Retry,
    /// The CA's limit is reached: later, and note it in the ledger.
    RateLimited,
    /// The CA does not accept the `replaces` field: once more without it.
    Replaces,
    /// The order is gone or invalid: a new order is needed.
    OrderDead,
    /// A validation failed: fix DNS or the host, then a new order.
    ValidationFailed,
    /// The account is unknown, deactivated or not allowed: a person is needed.
    Account,
    /// Refused for good (a rejected identifier, CAA, a bad CSR): repeating changes nothing.
    Refused,
    /// The CA broke the protocol: wrong certificate, malformed or endless answers.
    Protocol,
}

impl fmt::Display for IssuerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.subproblems.iter().try_for_each(|(name, kind, text)| write!(f, "; {name}: {kind}: {text}"))
    }
}

impl core::error::Error for IssuerError {}

/// What to order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    /// The names.
    pub names: NameSet,
    /// The CA's profile.
    pub profile: Option<String>,
    /// What it replaces (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// The SPIFFE ID to ask for; only private CAs have any.
    pub spiffe: Option<SpiffeId>,
}

/// An order's status (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// Authorizations are missing.
    Pending,
    /// May be finalized.
    Ready,
    /// The CA is issuing.
    Processing,
    /// The certificate is there.
    Valid,
    /// Dead.
    Invalid,
}

/// An order as the CA sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// Its status.
    pub status: OrderStatus,
    /// What is still to be proved; filled while pending.
    pub authorizations: Vec<AuthorizationView>,
    /// Why it is dead, with what was seen.
    pub error: Option<IssuerError>,
    /// The CA asked to be asked again after this time.
    pub retry_after: Option<Duration>,
}

/// One authorization (RFC 8555 section 7.1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationView {
    /// The identifier, never with `*.`.
    pub name: Name,
    /// Already proved.
    pub valid: bool,
    /// The challenges on offer; only well-formed tokens (`[A-Za-z0-9_-]+`, at most 128 characters).
    pub challenges: Vec<ChallengeView>,
}

/// One challenge on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeView {
    /// Which kind.
    pub kind: ChallengeKind,
    /// To tell the CA that the response is in place.
    pub url: Arc<str>,
    /// The token, well formed.
    pub token: String,
    /// token ‖ '.' ‖ thumbprint of the account key (RFC 8555 section 8.1).
    pub key_authorization: String,
}

/// Renewal information as a CA gave it (RFC 9773 section 4.2), validated by the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    /// Start of the window.
    pub start: Timestamp,
    /// End of the window, exclusive.
    pub end: Timestamp,
    /// Why, as a URL.
    pub explanation: Option<String>,
    /// When to ask again, not clamped.
    pub retry_after: Option<Duration>,
}

/// What an issuer's directory says about itself (RFC 8555 section 7.1.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerMeta {
    /// URL of the terms of service.
    pub terms: Option<String>,
    /// Profiles on offer.
    pub profiles: Vec<String>,
    /// Whether it has renewal information.
    pub ari: bool,
    /// Whether accounts need an external binding.
    pub eab_required: bool,
}

/// The CAs. Each call is one logical exchange with time and size limits of its own; nonces are retried inside, nothing
/// else is. Calls for different attempts may run at once. The account is made or restored on first use; its key is
/// durable before the CA hears of it.
pub trait Issuer: Send + Sync {
    /// What the directory says; refreshed at most once an hour.
    fn meta<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<IssuerMeta, IssuerError>>;
    /// Sends newOrder and returns the order's URL, even when the rest of the answer is unusable.
    fn new_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Arc<str>, IssuerError>>;
    /// Looks for an order with exactly these names that is pending or ready, in the account's list (RFC 8555 section
    /// 7.1.2.1); `None` if there is none or the CA has no list. Used after a lost answer to newOrder: nothing was
    /// finalized then, so an order that is processing or valid belongs to somebody else's key.
    fn find_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Option<Arc<str>>, IssuerError>>;
    /// The order as it is now.
    fn order<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<OrderView, IssuerError>>;
    /// The authorizations of an order that are decided, each with the challenges that may have been answered, so that an
    /// attempt which was cut off can take its responses away.
    fn decided<'a>(
        &'a self,
        issuer: &'a IssuerId,
        url: &'a str,
    ) -> Doing<'a, Result<Vec<AuthorizationView>, IssuerError>>;
    /// Tells the CA to look at a challenge's response.
    fn challenge_ready<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<(), IssuerError>>;
    /// Finalizes with a CSR (DER) that is already durable.
    fn finalize<'a>(&'a self, issuer: &'a IssuerId, url: &'a str, csr: &'a [u8]) -> Doing<'a, Result<(), IssuerError>>;
    /// Downloads the chain of a valid order: PEM, leaf first, not yet believed.
    fn download<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<String, IssuerError>>;
    /// Asks for renewal information; `None` if the CA has none.
    fn renewal_info<'a>(
        &'a self,
        issuer: &'a IssuerId,
        id: &'a CertId,
    ) -> Doing<'a, Result<Option<RenewalInfo>, IssuerError>>;
    /// Gives the account a new key (RFC 8555 section 7.3.5). The new key is durable before the CA hears of it, and after a
    /// crash or a lost answer the next use of the account finds out which key counts.
    fn rollover<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<(), IssuerError>>;
    /// The thumbprint (RFC 7638) of the key that the account has, `None` if there is no account yet. Where a change of the
    /// key was cut off, this asks the CA which key it accepts; it makes no account and changes nothing at the CA.
    ///
    /// # Errors
    /// Also while a request of an earlier life may still arrive there.
    fn account_key<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<Option<String>, IssuerError>>;
    /// The exchanges since the last call for this issuer and order URL (empty URL: those before there was an order).
    fn take_evidence(&self, issuer: &IssuerId, url: &str) -> Evidence;
}

/// A response to put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeTask {
    /// Which kind.
    pub kind: ChallengeKind,
    /// For which name, never with `*.`.
    pub name: Name,
    /// The token.
    pub token: String,
    /// The key authorization.
    pub key_authorization: String,
}

/// Why a response could not be put in place, or was not seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SolverError {
    /// What was seen and what was expected.
    pub text: String,
    /// Whose fault.
    pub fault: Fault,
}

/// Challenge responses. `present` returns once the response can be seen where the CA will look (for dns-01: on every
/// authoritative server), or fails at its own deadline; it has no durable state, so after a restart it is simply called
/// again. `cleanup` is called in any case and may be called for what was never presented. Many at once.
pub trait Solver: Send + Sync {
    /// Which kinds a solver of the configuration can do for a name.
    fn kinds(&self, solver: &SolverId, name: &Name) -> Vec<ChallengeKind>;
    /// Puts the response in place.
    fn present<'a>(&'a self, solver: &'a SolverId, task: &'a ChallengeTask) -> Doing<'a, Result<(), SolverError>>;
    /// Takes it away.
    fn cleanup<'a>(&'a self, solver: &'a SolverId, task: &'a ChallengeTask) -> Doing<'a, Result<(), SolverError>>;
}

/// Why the key store or the deployer could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// A certificate that was checked against the rules of installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The chain with its trust.
    pub chain: Arc<Chain>,
}

/// What a certificate has to cover, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Host names and addresses.
    pub names: &'a NameSet,
    /// The SPIFFE ID.
    pub spiffe: Option<&'a SpiffeId>,
}

impl<'a> From<&'a NameSet> for Expected<'a> {
    fn from(names: &'a NameSet) -> Self {
        Self { names, spiffe: None }
    }
}

/// A private key's PKCS#8 DER: wiped when dropped, never printed.
pub struct PrivateKey(pub zeroize::Zeroizing<Vec<u8>>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// Private keys, one slot per attempt. Everything is durable on return; making a slot twice gives the same key back.
pub trait KeyStore: Send + Sync {
    /// Makes (or finds) the slot's key and its CSR (DER) for exactly `names`, without clientAuth or any other wish.
    /// With [`KeyReuse::Keep`] the key of `previous` is taken over if its algorithm is the same.
    fn prepare<'a>(
        &'a self,
        slot: AttemptId,
        algorithm: KeyAlgorithm,
        names: &'a NameSet,
        reuse: KeyReuse,
        previous: Option<AttemptId>,
    ) -> Doing<'a, Result<Vec<u8>, HostError>>;
    /// Checks a downloaded chain (PEM) and keeps it if it may be installed: it parses, matches the slot's key, chains to
    /// a configured or system root with every element in time at `now`, and covers exactly what is expected.
    fn accept<'a>(
        &'a self,
        slot: AttemptId,
        issuer: &'a IssuerId,
        pem: &'a str,
        expected: Expected<'a>,
        now: Timestamp,
    ) -> Doing<'a, Result<Accepted, HostError>>;
    /// The accepted chain of a slot, as facts and as PEM (leaf first, without the root).
    fn chain(&self, slot: AttemptId) -> Doing<'_, Result<(Arc<Chain>, String), HostError>>;
    /// The private key, for the deployer and for links that prove themselves with it, and nobody else.
    fn private_key(&self, slot: AttemptId) -> Doing<'_, Result<PrivateKey, HostError>>;
    /// Destroys a slot with its key.
    fn destroy(&self, slot: AttemptId) -> Doing<'_, Result<(), HostError>>;
    /// The slots that exist, for cleaning up after a crash.
    fn slots(&self) -> Doing<'_, Result<Vec<AttemptId>, HostError>>;
}

/// Looking from outside. Every look has a deadline and limits on size and depth; a failure is a [`Seen`], not an error.
/// Many at once.
pub trait Prober: Send + Sync {
    /// What is stored for a credential: its first installed set, or the watched file.
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen>;
    /// What a watched source holds.
    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen>;
    /// The files that match a shell pattern, sorted, at most 10,000.
    fn matches<'a>(&'a self, pattern: &'a str) -> Doing<'a, Result<Vec<String>, HostError>>;
    /// What an endpoint serves.
    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen>;
    /// What each of the credential's files with revocation lists says about `chain`, which a look or the key store gave:
    /// every file has an entry, and only a list whose signature is good under an issuer in the chain is present. Whether a list
    /// is fresh is not judged here. A prober that knows no lists gives none, which closes the paths that need them.
    fn crls<'a>(&'a self, _credential: &'a Credential, _chain: &'a Arc<Chain>) -> Doing<'a, BTreeMap<String, CrlSeen>> {
        Box::pin(async { BTreeMap::new() })
    }
}

/// Installing. Each set is swapped atomically and durably; the old set stays until [`Deployer::prune`]. At most one call
/// per credential at once.
pub trait Deployer: Send + Sync {
    /// Writes the slot's files for every install of the credential and swaps them in; idempotent.
    fn install<'a>(
        &'a self,
        credential: &'a CredentialId,
        installs: &'a [Install],
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>>;
    /// Makes the server take the files: one try, within the reload's timeout; `Err` carries the captured output.
    fn reload<'a>(
        &'a self,
        credential: &'a CredentialId,
        reload: &'a Reload,
        slot: AttemptId,
    ) -> Doing<'a, Result<(), HostError>>;
    /// Removes versioned directories of all slots but these.
    fn prune<'a>(
        &'a self,
        credential: &'a CredentialId,
        installs: &'a [Install],
        keep: &'a [AttemptId],
    ) -> Doing<'a, Result<(), HostError>>;
}

/// A message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// About which credential, path or issuer.
    pub about: String,
    /// To whom: an owner, if there is one.
    pub owner: Option<String>,
    /// Stable code.
    pub code: &'static str,
    /// One or two sentences: what happened, what comes next.
    pub text: String,
    /// Whether it is worth waking someone.
    pub urgent: Urgency,
}

/// Whether to wake someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// For the record.
    Routine,
    /// Somebody has to act.
    Act,
}

/// Telling people. Must not block and cannot fail: what cannot be delivered now is the notifier's own trouble.
pub trait Notifier: Send + Sync {
    /// Hands a notice over.
    fn notify(&self, notice: Notice);
}

/// A count for the metrics that are events, not state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    /// An attempt ended.
    Renewal {
        /// Where.
        issuer: IssuerId,
        /// Why.
        trigger: &'static str,
        /// `success`, or the failure's code.
        result: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// A cycle was completed.
    Cycle {
        /// How long it took.
        took: Duration,
    },
    /// A commit.
    Commit {
        /// How long it took.
        took: Duration,
    },
    /// An exchange with a CA.
    AcmeRequest {
        /// Which.
        issuer: IssuerId,
        /// Which endpoint: `new-order`, `finalize`, …
        endpoint: &'static str,
        /// HTTP status, 0 if there was none.
        status: u16,
    },
    /// A problem document from a CA.
    AcmeError {
        /// Which.
        issuer: IssuerId,
        /// The problem type.
        problem: String,
    },
}

/// Counting. Never blocks, never fails.
pub trait Meter: Send + Sync {
    /// Counts one.
    fn count(&self, count: Count);
    /// What counts the gate's answers of one kind about a path: `open`, `closed`, or `reachable`, which is closed, but not
    /// for such a request. Found once and called with every answer: those are the only events of which there are many.
    fn gate(&self, path: &PathId, decision: &'static str) -> Tick;
}

/// Counts one more.
pub type Tick = Arc<dyn Fn() + Send + Sync>;
