//! The directories of a daemon: bound, run, changed by a reload, and stopped; and what people decide about their orders.

use core::fmt;
use core::pin::pin;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::super::book::{AuthorizationStatus, Keeping, Stage};
use super::super::config::{
    Bounds, CaConfig, Dns, Hosts, OrderList, Reach, Renewal, Reuse, Transport, Validation, Validator,
};
use super::super::fault::Strike;
use super::super::house::{Ask, Try};
use super::super::listen;
use super::super::problem::Problem;
use super::super::server::{Ca, Urls, lock};
use super::{Directory, Rules, refused, rows, tend};
use crate::domain::audit::bounded_text;
use crate::domain::directory::{Judgement, RowId};
use crate::domain::id::DirectoryId;
use crate::domain::json::Json;
use crate::domain::name::NameSet;
use crate::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use crate::engine::authority::Authority;
use crate::ports::{Clock, Entropy, Urgency};
use crate::shell::config::DirectorySettings;
use crate::shell::http::GateCertificate;

/// An HMAC key is 16 to 1,024 bytes; 32 are usual.
const MAC_BYTES: core::ops::RangeInclusive<usize> = 16..=1_024;
/// A file with one is not longer than this.
const LONGEST_FILE: u64 = 8 * 1_024;
/// A reason is a sentence or two.
const LONGEST_REASON: usize = 1_000;
/// Requests under way have so long to end.
const GRACE: core::time::Duration = core::time::Duration::from_secs(2);
/// The directory has no certificate of its own.
const NO_CERTIFICATE: &str = "KW4823";

/// All directories of a daemon.
pub struct Directories {
    running: BTreeMap<DirectoryId, Running>,
    stop: watch::Sender<()>,
}

struct Running {
    ca: Arc<Ca>,
    house: Arc<Directory>,
    started: DirectorySettings,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// A change that is ready to be put in force.
pub struct Prepared(Vec<Rules>);

impl fmt::Debug for Directories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.running.keys()).finish()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

/// An order that a person decides about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingOrder {
    /// Its id, for people: `corp/1f`.
    pub id: String,
    /// What is ordered.
    pub names: NameSet,
    /// By which profile.
    pub profile: String,
    /// Its account.
    pub account: String,
    /// The external account key of that.
    pub key: Option<String>,
    /// Whose that is.
    pub owner: Option<String>,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when it does.
    pub until: Timestamp,
}

/// What a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The certificate is made.
    Allow,
    /// It is not.
    Deny,
}

/// Why a decision was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRuled {
    /// There is no such order.
    #[error("there is no order {0}")]
    Unknown(String),
    /// It does not wait.
    #[error("the order {0} does not wait for anybody: it is {1}")]
    NotWaiting(String, &'static str),
    /// No reason, or too long a one.
    #[error("a reason has 1 to {LONGEST_REASON} bytes, on one line")]
    Reason,
    /// Policy refuses it by now.
    #[error("policy refuses it by now: {0}")]
    Policy(String),
    /// It cannot be recorded.
    #[error("it cannot be recorded: {0}")]
    NotRecorded(String),
}

impl NotRuled {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "KW4824",
            Self::NotWaiting(..) => "KW4825",
            Self::Reason => "KW4826",
            Self::NotRecorded(_) => "KW4827",
            Self::Policy(_) => "KW4828",
        }
    }
}

impl Directories {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self { running: BTreeMap::new(), stop: watch::channel(()).0 }
    }

    /// Binds and serves them all, over the state that `authority` has.
    ///
    /// # Errors
    /// What cannot be bound or read, and how to mend it.
    pub async fn start(
        settings: &[DirectorySettings],
        authority: &Arc<Authority>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let (stop, stopped) = watch::channel(());
        let mut all = Self { running: BTreeMap::new(), stop };
        for own in settings {
            let rules = read(own)?;
            let address = own.place.listen;
            let listener = TcpListener::bind(address).await.map_err(|e| {
                let port = address.port();
                format!(
                    "the ACME directory {} cannot listen on {address}: {e}; see who does: ss -ltnp 'sport = :{port}'",
                    own.id
                )
            })?;
            let house = Arc::new(Directory::new(authority.clone(), rules));
            let config = Arc::new(config_of(own));
            let urls = Urls { base: own.place.url.clone(), tag: String::new() };
            let ca =
                Arc::new(Ca::new(config.clone(), house.clone(), Keeping::Rows, clock.clone(), entropy.clone(), urls));
            {
                let mut book = ca.book();
                // No number is given twice, also of rows that were forgotten: numbers of a later start are greater than
                // those of an earlier one, unless it gave more than 65,536 a second.
                book.after(u64::try_from(clock.now().unix()).unwrap_or(0) << 16);
                rows::fill(&mut book, authority.rows(&own.id), authority, &config.bounds);
            }
            tend::resume(&ca);
            let serving = tokio::spawn(serve(ca.clone(), house.clone(), own.clone(), listener, stopped.clone()));
            let tending = tokio::spawn(tend::tend(ca.clone(), house.clone()));
            tracing::info!(directory = %own.id, url = own.place.url, at = %address, ca = %own.place.ca, "ACME directory");
            let tasks = std::sync::Mutex::new(vec![serving, tending]);
            all.running.insert(own.id.clone(), Running { ca, house, started: own.clone(), tasks });
        }
        Ok(all)
    }

    /// Whether another configuration takes a restart.
    #[must_use]
    pub fn must_restart(&self, new: &[DirectorySettings]) -> bool {
        let same = |s: &DirectorySettings| {
            let old = self.running.get(&s.id).map(|r| &r.started);
            old.is_some_and(|old| old.place == s.place && old.validation == s.validation)
        };
        new.len() != self.running.len() || !new.iter().all(same)
    }

    /// Reads what a new configuration names.
    ///
    /// # Errors
    /// Which file is of no use, and why.
    pub fn prepare(&self, new: &[DirectorySettings]) -> Result<Prepared, String> {
        Ok(Prepared(new.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Puts it in force.
    pub fn adopt(&self, prepared: Prepared) {
        for rules in prepared.0 {
            if let Some(running) = self.running.get(&rules.settings.id) {
                running.house.rules.store(Arc::new(rules));
            }
        }
    }

    /// Takes no more connections, lets requests under way end, and drops the rest.
    pub async fn stop(&self) {
        self.stop.send_replace(());
        for running in self.running.values() {
            let tasks = core::mem::take(&mut *lock(&running.tasks));
            let mut tasks = tasks.into_iter();
            if let Some(serving) = tasks.next() {
                let mut serving = pin!(serving);
                if timeout(GRACE, &mut serving).await.is_err() {
                    serving.abort();
                }
            }
            tasks.for_each(|task| task.abort());
            lock(&running.ca.tasks).abort_all();
        }
    }

    /// The orders that wait for a person, the one that waits longest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<WaitingOrder> {
        let mut all = Vec::new();
        for Running { ca, house, .. } in self.running.values() {
            let longest = house.rules.load().settings.waiting.longest;
            let book = ca.book();
            for order in book.orders.values() {
                let Stage::Waiting { since, .. } = &order.stage else { continue };
                let key = book.accounts.get(&order.account).and_then(|a| a.external.clone());
                all.push(WaitingOrder {
                    id: house.row(order.id),
                    names: order.names.clone(),
                    profile: order.profile.clone().unwrap_or_default(),
                    account: house.row(order.account),
                    owner: house.owner(key.as_deref()),
                    key,
                    since: *since,
                    until: since.plus(longest),
                });
            }
        }
        all.sort_by_key(|order| order.since);
        all
    }

    /// Takes a person's decision about an order that waits; it is recorded, with who took it and why, before it holds.
    ///
    /// # Errors
    /// [`NotRuled`]: nothing changed, or it is not recorded yet and will be.
    pub async fn rule(&self, id: &str, ruling: Ruling, reason: &str, by: &str) -> Result<(), NotRuled> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
            return Err(NotRuled::Reason);
        }
        let unknown = || NotRuled::Unknown(id.to_owned());
        let row = RowId::parse(id).ok_or_else(unknown)?;
        let Running { ca, house, .. } = self.running.get(&row.directory).ok_or_else(unknown)?;
        let now = ca.clock.now();
        {
            let mut book = ca.book();
            let order = book.orders.get(&row.number).ok_or_else(unknown)?;
            if ruling == Ruling::Allow {
                let proofs = order.authorizations.iter().map(|id| book.authorizations.get(id).map(|a| a.status));
                if proofs.into_iter().any(|status| status != Some(AuthorizationStatus::Valid)) {
                    return Err(NotRuled::Policy("its owner gave up a proof meanwhile".to_owned()));
                }
                // Policy may have changed since: nobody's word is above it.
                let profile = order.profile.as_deref();
                let ask = Ask { account: order.account, names: &order.names, profile, renewal: false };
                let judged = house.judge(&book, &ask, now).map_err(|why| NotRuled::Policy(why.detail.clone()))?;
                if let Judgement::Deny(unfit) = judged {
                    let offered = &house.rules.load().settings.policy.profiles;
                    return Err(NotRuled::Policy(refused(unfit, offered).detail.clone()));
                }
            }
            let order = book.orders.get_mut(&row.number).ok_or_else(unknown)?;
            let Stage::Waiting { spki, .. } = &order.stage else {
                return Err(NotRuled::NotWaiting(id.to_owned(), stage_name(&order.stage)));
            };
            let (action, code) = match ruling {
                Ruling::Allow => {
                    order.stage = Stage::Processing { spki: spki.clone(), since: now, stuck: false };
                    order.ruled = Some(now);
                    ("acme.allow", "KW4811")
                }
                Ruling::Deny => {
                    let text = format!("a person decided against this order: {reason}");
                    let problem = Problem::new(http::StatusCode::FORBIDDEN, "unauthorized", text);
                    order.stage = Stage::Invalid(Some(problem));
                    ("acme.deny", "KW4812")
                }
            };
            let mut draft = house.draft(action, code, Some(by));
            draft.facts = vec![("names", Json::Shared(order.names.key().clone())), ("order", Json::str(id.to_owned()))];
            draft.private.push(("reason", Arc::from(bounded_text(reason))));
            house.note(draft);
            book.touch_order(row.number);
        }
        // Whatever happens now, it is recorded before anything is signed.
        ca.keep().await.map_err(|why| NotRuled::NotRecorded(why.detail.clone()))?;
        if ruling == Ruling::Allow {
            drop(ca.make(row.number, Try::First, Strike::default()));
        }
        Ok(())
    }
}

fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Open => "not finalized",
        Stage::Waiting { .. } => "waiting",
        Stage::Processing { .. } => "allowed",
        Stage::Valid { .. } => "valid",
        Stage::Invalid(_) => "invalid",
    }
}

/// Listens as soon as there is a certificate, which may be one of this guardian's own that is not there yet.
async fn serve(
    ca: Arc<Ca>,
    house: Arc<Directory>,
    settings: DirectorySettings,
    listener: TcpListener,
    mut stopped: watch::Receiver<()>,
) {
    let certificate = {
        let loading = load(&house, &settings, &ca.clock);
        tokio::select! {
            certificate = loading => certificate,
            _ = stopped.changed() => return,
        }
    };
    let acceptor: TlsAcceptor = certificate.acceptor();
    let serving = pin!(listen(ca, listener, Some(acceptor), stopped));
    let following = pin!(certificate.follow());
    tokio::select! {
        () = serving => {}
        () = following => {}
    }
}

/// Reads the directory's own certificate, as soon as there is one.
async fn load(house: &Directory, settings: &DirectorySettings, clock: &Arc<dyn Clock>) -> GateCertificate {
    let mut told = false;
    loop {
        let (certificate, key) = (settings.place.certificate_file.clone(), settings.place.key_file.clone());
        let read = move || GateCertificate::speaking("ACME clients", &[b"http/1.1"], &certificate, &key);
        let why = match spawn_blocking(read).await {
            Ok(Ok(certificate)) => return certificate,
            Ok(Err(why)) => why.0,
            Err(broke) => broke.to_string(),
        };
        if !told {
            told = true;
            let text = format!(
                "the ACME directory {} answers nobody before it has a certificate of its own: {why}",
                settings.id
            );
            let about = format!("directory {}", settings.id);
            house.authority.tell_owner(about, house.owner(None), NO_CERTIFICATE, text, Urgency::Act);
        }
        clock.sleep(tend::EVERY).await;
    }
}

fn config_of(settings: &DirectorySettings) -> CaConfig {
    let validation = &settings.validation;
    CaConfig {
        listen: settings.place.listen,
        transport: Transport::Https,
        public_url: Some(settings.place.url.clone()),
        validation: Validation::On(Box::new(Validator {
            http_port: validation.http_port,
            tls_port: validation.tls_port,
            hosts: BTreeMap::new(),
            other_hosts: validation.resolver.map_or(Hosts::System, Hosts::Server),
            dns: validation.resolver.map_or(Dns::Embedded, Dns::Server),
            reach: Reach::Within { allow: validation.allow.clone(), forbid: validation.forbid.clone() },
            ..Validator::default()
        })),
        // A revocation that asks for another certificate is seen within the hour.
        renewal: Renewal::On { retry_after: HOUR },
        reuse_orders: Reuse::Never,
        reuse_authorizations: Reuse::Never,
        order_list: OrderList::Offered,
        // A client that proves its names does so within a day; what waits for a person waits longer, by its own clock.
        order_lifetime: DAY,
        challenges: validation.challenges.clone(),
        wait_retry: MINUTE,
        bounds: Bounds {
            accounts: settings.limits.accounts,
            orders: 50_000,
            certificates: 50_000,
            // An order for 100 long names with an RSA key of 4,096 bits fits.
            body: 64 * 1_024,
            ..Bounds::default()
        },
        ..CaConfig::default()
    }
}

fn read(settings: &DirectorySettings) -> Result<Rules, String> {
    let mut macs = BTreeMap::new();
    for (kid, file) in &settings.keys {
        macs.insert(kid.clone(), mac(file)?);
    }
    Ok(Rules { settings: settings.clone(), macs })
}

fn mac(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = file.display();
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(file)
        .and_then(|f| f.take(LONGEST_FILE).read_to_string(&mut text))
        .map_err(|e| format!("the external account key {shown} cannot be read: {e}"))?;
    let bytes = B64.decode(text.trim().trim_end_matches('=').as_bytes()).map(Zeroizing::new).map_err(|e| {
        format!("{shown} holds no base64url: {e}; make a key: openssl rand -base64 32 | tr '+/' '-_' | tr -d '='")
    })?;
    if MAC_BYTES.contains(&bytes.len()) {
        return Ok(bytes);
    }
    let (low, high) = (MAC_BYTES.start(), MAC_BYTES.end());
    Err(format!("{shown} holds a key of {} bytes; an external account key has {low} to {high}", bytes.len()))
}
