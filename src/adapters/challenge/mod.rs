//! Challenge responses: puts in place what a CA looks for, and takes it away again (RFC 8555 section 8).
//!
//! Refuses to know orders, CAs and accounts. Nothing here is durable: after a restart a response is presented again.
//!
//! | solver | kind | where the response stands |
//! |---|---|---|
//! | [`http01`] | http-01 | our own listener, or |
//! | [`webroot`] | http-01 | a file below another server's document root |
//! | [`alpn01`] | tls-alpn-01 | our own listener |
//! | [`dns`] | dns-01 | a TXT record: by RFC 2136, a command, or a webhook |
//!
//! Every task is checked before a solver sees it ([`check`]): a hostile token never reaches a file, a command or a zone.

mod alpn01;
pub mod dns;
pub mod exec;
mod http01;
mod listen;
pub mod webhook;
mod webroot;

use core::fmt;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::domain::execution::Fault;
use crate::domain::id::SolverId;
use crate::domain::name::Name;
use crate::ports::{ChallengeKind, ChallengeTask, Clock, Doing, Entropy, Solver, SolverError};

/// Responses that one solver holds at once. A certificate has at most 100 names and few renewals run at a time; a
/// thousand is ten such orders, and whatever goes beyond is a fault that must not fill memory or a zone.
pub const MOST_PRESENTED: usize = 1_000;

/// One configured solver.
#[derive(Clone, Debug)]
pub struct SolverConfig {
    /// Its id in the configuration.
    pub id: SolverId,
    /// What it does.
    pub kind: SolverKind,
}

/// What a solver does.
#[derive(Clone, Debug)]
pub enum SolverKind {
    /// http-01 from our own listener.
    Http01Listener {
        /// Where to listen; port 80 as the CA sees it.
        bind: Vec<SocketAddr>,
        /// When to listen.
        binding: Binding,
    },
    /// http-01 from files below a document root: `DIR/.well-known/acme-challenge/TOKEN`.
    Http01Webroot {
        /// The document root.
        dir: PathBuf,
    },
    /// tls-alpn-01 from our own listener.
    TlsAlpn01Listener {
        /// Where to listen; port 443 as the CA sees it.
        bind: Vec<SocketAddr>,
        /// When to listen.
        binding: Binding,
    },
    /// dns-01.
    Dns01 {
        /// Who writes the record.
        provider: dns::Provider,
        /// How to see that it is there.
        propagation: dns::Propagation,
        /// Whether `_acme-challenge.NAME` may be an alias.
        delegation: dns::Delegation,
    },
}

/// When a listener holds its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// From the first response presented to the last one cleaned up: another server may have the port in between.
    #[default]
    WhilePresented,
    /// From start to end.
    Always,
}

/// A shared secret: wiped when dropped, never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the solvers cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Two solvers with one id.
    #[error("solver {0} is configured twice")]
    Twice(SolverId),
    /// A setting is out of its range.
    #[error("solver {solver}: {reason}")]
    Invalid {
        /// Which solver.
        solver: SolverId,
        /// What was seen and what was expected.
        reason: String,
    },
}

/// The configured solvers.
pub struct Solvers {
    by_id: BTreeMap<SolverId, Way>,
}

impl fmt::Debug for Solvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_id.keys()).finish()
    }
}

enum Way {
    Http(http01::Http01),
    Webroot(webroot::Webroot),
    Alpn(alpn01::Alpn01),
    Dns(Box<dns::Dns01>),
}

impl Solvers {
    /// Checks the settings, and binds the listeners that always listen. Must be called inside the runtime.
    ///
    /// # Errors
    /// [`StartError`] for the first solver that cannot be.
    pub fn start(
        configs: Vec<SolverConfig>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StartError> {
        let mut by_id = BTreeMap::new();
        for SolverConfig { id, kind } in configs {
            let way = match kind {
                SolverKind::Http01Listener { bind, binding } => {
                    http01::Http01::start(bind, binding, clock.clone()).map(Way::Http)
                }
                SolverKind::Http01Webroot { dir } => webroot::Webroot::start(dir, entropy.clone()).map(Way::Webroot),
                SolverKind::TlsAlpn01Listener { bind, binding } => {
                    alpn01::Alpn01::start(bind, binding, clock.clone()).map(Way::Alpn)
                }
                SolverKind::Dns01 { provider, propagation, delegation } => {
                    dns::Dns01::start(provider, propagation, delegation, clock.clone(), entropy.clone())
                        .map(|dns| Way::Dns(Box::new(dns)))
                }
            };
            let way = way.map_err(|reason| StartError::Invalid { solver: id.clone(), reason })?;
            if by_id.insert(id.clone(), way).is_some() {
                return Err(StartError::Twice(id));
            }
        }
        Ok(Self { by_id })
    }

    /// The way for a task that this solver can do, and only then.
    fn way(&self, solver: &SolverId, task: &ChallengeTask) -> Result<&Way, SolverError> {
        check(task)?;
        let way = self.by_id.get(solver).ok_or_else(|| {
            failed(Fault::Ours, format!("no solver is named {solver}; add it to the configuration or name another"))
        })?;
        if way.kind() == task.kind && way.can(&task.name) {
            return Ok(way);
        }
        let (does, asked) = (way.kind().as_str(), task.kind.as_str());
        let text = format!("solver {solver} does {does}, and cannot do {asked} for {}; name another solver", task.name);
        Err(failed(Fault::Ours, text))
    }
}

impl Way {
    fn kind(&self) -> ChallengeKind {
        match self {
            Self::Http(_) | Self::Webroot(_) => ChallengeKind::Http01,
            Self::Alpn(_) => ChallengeKind::TlsAlpn01,
            Self::Dns(_) => ChallengeKind::Dns01,
        }
    }

    fn can(&self, name: &Name) -> bool {
        match self.kind() {
            // A wildcard can be proved by dns-01 only (RFC 8555 section 7.1.3 and the Baseline Requirements).
            ChallengeKind::Http01 | ChallengeKind::TlsAlpn01 => !name.is_wildcard(),
            // An address has no TXT record (RFC 8738 section 7).
            ChallengeKind::Dns01 => matches!(name, Name::Dns(_)),
        }
    }
}

impl Solver for Solvers {
    fn kinds(&self, solver: &SolverId, name: &Name) -> Vec<ChallengeKind> {
        self.by_id.get(solver).filter(|way| way.can(name)).map(Way::kind).into_iter().collect()
    }

    fn present<'a>(&'a self, solver: &'a SolverId, task: &'a ChallengeTask) -> Doing<'a, Result<(), SolverError>> {
        Box::pin(async move {
            match self.way(solver, task)? {
                Way::Http(http) => http.present(task).await,
                Way::Webroot(webroot) => webroot.present(task).await,
                Way::Alpn(alpn) => alpn.present(task).await,
                Way::Dns(dns) => dns.present(task).await,
            }
        })
    }

    fn cleanup<'a>(&'a self, solver: &'a SolverId, task: &'a ChallengeTask) -> Doing<'a, Result<(), SolverError>> {
        Box::pin(async move {
            match self.way(solver, task)? {
                Way::Http(http) => http.cleanup(task).await,
                Way::Webroot(webroot) => webroot.cleanup(task).await,
                Way::Alpn(alpn) => alpn.cleanup(task).await,
                Way::Dns(dns) => dns.cleanup(task).await,
            }
        })
    }
}

/// What a task must be before any solver touches it.
///
/// # Errors
/// [`Fault::Issuer`] for a token that RFC 8555 section 8.1 does not allow, [`Fault::Ours`] for the rest.
fn check(task: &ChallengeTask) -> Result<(), SolverError> {
    if !is_base64url(&task.token) {
        let seen = excerpt(&task.token, 64);
        let text = format!("the CA's token is {seen}; a token is 1 to 128 characters of A-Z, a-z, 0-9, '-' and '_'");
        return Err(failed(Fault::Issuer, text));
    }
    let thumbprint = task.key_authorization.strip_prefix(&*task.token).and_then(|rest| rest.strip_prefix('.'));
    if !thumbprint.is_some_and(is_base64url) {
        return Err(failed(Fault::Ours, "the key authorization is not the token, a dot and a thumbprint".to_owned()));
    }
    let text = task.name.to_string();
    if task.name.is_wildcard() || text.len() > 253 || Name::parse(&text).as_ref() != Ok(&task.name) {
        let seen = excerpt(&text, 64);
        return Err(failed(Fault::Ours, format!("{seen} is no name that a challenge can be for")));
    }
    Ok(())
}

/// 1 to 128 characters of the URL-safe alphabet of RFC 4648 section 5: 16 bytes of entropy are 22 characters, and CAs
/// send 43; 128 leaves room and bounds every path, header and variable made of it.
fn is_base64url(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// SHA-256 of the key authorization, what tls-alpn-01 and dns-01 show instead of it.
fn key_digest(task: &ChallengeTask) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, task.key_authorization.as_bytes())
}

/// The value of the TXT record (RFC 8555 section 8.4).
fn txt_value(task: &ChallengeTask) -> String {
    URL_SAFE_NO_PAD.encode(key_digest(task))
}

fn failed(fault: Fault, text: String) -> SolverError {
    SolverError { text, fault }
}

/// The first `most` characters of a text that somebody else wrote, quoted and without control characters.
fn excerpt(text: &str, most: usize) -> String {
    let head: String = text.chars().take(most).collect();
    let more = if head.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", head.escape_debug())
}

/// What a solver holds now, by token and name: bounded by [`MOST_PRESENTED`].
struct Presented<V>(Mutex<BTreeMap<(String, Name), V>>);

impl<V: Clone> Presented<V> {
    fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Name), V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for the task.
    fn room(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        let table = self.lock();
        if table.len() < MOST_PRESENTED || table.contains_key(&key(task)) {
            return Ok(());
        }
        let text = format!(
            "{MOST_PRESENTED} challenges are presented already and none of them was cleaned up, so {} has no room; wait, \
             or restart if it stays so",
            task.name
        );
        Err(failed(Fault::Ours, text))
    }

    fn insert(&self, task: &ChallengeTask, value: V) -> Result<(), SolverError> {
        self.room(task)?;
        self.lock().insert(key(task), value);
        Ok(())
    }

    fn remove(&self, task: &ChallengeTask) -> Option<V> {
        self.lock().remove(&key(task))
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

fn key(task: &ChallengeTask) -> (String, Name) {
    (task.token.clone(), task.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, token: &str) -> ChallengeTask {
        ChallengeTask {
            kind: ChallengeKind::Http01,
            name: Name::parse(name).unwrap(),
            token: token.to_owned(),
            key_authorization: format!("{token}.thumb-print_9"),
        }
    }

    #[test]
    fn a_token_that_is_no_token_is_the_issuers_fault_and_goes_no_further() {
        let huge = "a".repeat(1 << 20);
        for bad in ["", ".", "..", "../../x", "a/b", "$(id)", "a\0b", "a b", "a.b", "ä", "a\n", &"a".repeat(129), &huge]
        {
            let error = check(&task("a.example.com", bad)).unwrap_err();
            assert_eq!(error.fault, Fault::Issuer, "{:?}", excerpt(bad, 20));
            assert!(error.text.len() < 400, "{}", error.text.len());
        }
        assert_eq!(check(&task("a.example.com", "Az09-_")), Ok(()));
    }

    #[test]
    fn a_key_authorization_of_another_token_is_refused() {
        for bad in ["", "tok", "tok.", "tok.a/b", "other.thumb", "tokX.thumb", "tok.a.b"] {
            let task = ChallengeTask { key_authorization: bad.to_owned(), ..task("a.example.com", "tok") };
            assert!(check(&task).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_was_never_parsed_is_refused() {
        let long = "a.".repeat(200);
        for bad in
            ["*.example.com", "a.example.com.", "A.example.com", "$(id).example.com", "x", "a\0.example.com", &long]
        {
            let task = ChallengeTask { name: Name::Dns(Arc::from(bad)), ..task("a.example.com", "tok") };
            assert!(check(&task).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_txt_value_is_that_of_rfc_8555() {
        // Computed with: printf tok.thumb | openssl dgst -sha256 -binary | basenc --base64url
        let task = ChallengeTask { key_authorization: "tok.thumb".to_owned(), ..task("a.example.com", "tok") };
        assert_eq!(txt_value(&task), "sYAwVrqDtVOuJZvAHurSAYPoEt5fFV_C4bdSOOW-o5Y");
    }

    #[test]
    fn a_table_never_outgrows_its_bound_but_takes_what_it_has_again() {
        let table = Presented::new();
        for i in 0..MOST_PRESENTED {
            table.insert(&task("a.example.com", &format!("t{i}")), ()).unwrap();
        }
        assert!(table.insert(&task("a.example.com", "more"), ()).is_err());
        assert_eq!(table.insert(&task("a.example.com", "t7"), ()), Ok(()));
        assert_eq!(table.remove(&task("a.example.com", "t7")), Some(()));
        assert_eq!(table.insert(&task("a.example.com", "more"), ()), Ok(()));
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"canary".to_vec())), "Secret(…)");
    }
}
