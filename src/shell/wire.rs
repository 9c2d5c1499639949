//! Puts the concrete adapters behind the doors: the only place that names them.

mod authority;
pub mod canary;
mod lease;
pub mod link;
mod witness;
pub mod workload;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::adapters::acme::{AcmeIssuerConfig, AcmeIssuers, EabConfig};
use crate::adapters::challenge::dns::{Delegation, Propagation, Provider, Rfc2136, Tsig, TsigAlgorithm};
use crate::adapters::challenge::exec::Exec;
use crate::adapters::challenge::webhook::WebhookConfig;
use crate::adapters::challenge::{Binding, Secret, SolverConfig, SolverKind, Solvers};
use crate::adapters::clock::SystemClock;
use crate::adapters::deploy::FileDeployer;
use crate::adapters::entropy::OsEntropy;
use crate::adapters::holder::SocketHolder;
use crate::adapters::keystore::FileKeyStore;
use crate::adapters::lists::{self, PointLists};
use crate::adapters::meter::PrometheusMeter;
use crate::adapters::notify::LogNotifier;
use crate::adapters::probe::SystemProber;
use crate::adapters::roots;
use crate::adapters::spool::FileSpool;
pub use crate::adapters::store::Archive;
use crate::adapters::store::{LogOptions, OfflineLog, SqliteStore};
use crate::adapters::tiles::{Tree, Web};
use crate::adapters::witness::Publisher;
use crate::codec::live_roots::LiveRoots;
use crate::codec::verify::Roots;
use crate::domain::id::{CredentialId, IssuerId};
use crate::domain::inventory::{Care, Credential, Estate, Layout, Source};
use crate::domain::time::Timestamp;
use crate::engine::authority::{InHouse, Issuers};
use crate::engine::{Seal, SealedStore};
use crate::ports::{
    Clock, Entropy, HostError, KeyHolder, Log, Mute, Notice, Ports, Store, StoreError, Unwitnessed, Witnesses,
};
use crate::shell::config::{self, IssuerSettings, Settings, SolverSettings};

use self::authority::TrustBook;
pub use self::authority::{Private, pki_of};
pub use self::lease::{place_lease, remove_lease};
pub use self::witness::{
    cosigner, end_log_key_overlap, log_keys, make_witness_key, policy, publisher, rotate_log_key, witness_key,
};

/// A secret file is at most this long: the largest is an RSA key of 3.3 KiB in PEM.
const LONGEST_SECRET: u64 = 16 * 1_024;
/// A file with roots is at most this long: the system's bundle has 220 KiB.
const LONGEST_ROOTS: u64 = 4 * 1_024 * 1_024;

/// Why the parts could not be put together. Each says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file, a key store, a socket.
    #[error("{0}")]
    Host(String),
}

impl From<HostError> for WireError {
    fn from(error: HostError) -> Self {
        Self::Host(error.0)
    }
}

/// The audit log of a state directory, without a daemon and without write access.
///
/// # Errors
/// As [`OfflineLog::open`].
pub fn open_log(dir: &Path) -> Result<Arc<dyn Log>, StoreError> {
    Ok(Arc::new(OfflineLog::open(dir)?))
}

/// The same log, to verify all of it.
///
/// # Errors
/// As [`Archive::open`].
pub fn archive(path: &Path) -> Result<Archive, StoreError> {
    Archive::open(path)
}

/// An audit log as static files (C2SP tlog-tiles) in a directory.
#[must_use]
pub fn tree_in(dir: &Path) -> Tree {
    Tree::Directory(dir.to_owned())
}

/// An audit log as static files (C2SP tlog-tiles) on a web server.
///
/// # Errors
/// Says what is wrong with the URL.
pub fn tree_at(url: &str) -> Result<Tree, String> {
    Web::new(url).map(Tree::Web)
}

/// Everything put together.
#[derive(Debug)]
pub struct Wired {
    /// The doors.
    pub ports: Ports,
    /// The counters, for `/metrics`.
    pub meter: Arc<PrometheusMeter>,
    /// Why the store behind the doors refuses everything.
    pub seal: Option<Seal>,
    private: Private,
    publisher: Option<Arc<Publisher>>,
    notifier: Arc<LogNotifier>,
}

impl Wired {
    /// Shows the log to its witnesses until the future is dropped; ends at once if there are none.
    pub async fn show_to_witnesses(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.run().await;
        }
    }

    /// What people were told lately, oldest first.
    #[must_use]
    pub fn notices(&self) -> Vec<(Timestamp, Notice)> {
        self.notifier.recent()
    }
}

/// The key holder that listens at this socket; with `owner`, only if that user does.
#[must_use]
pub fn key_holder(socket: &Path, owner: Option<u32>) -> Arc<dyn KeyHolder> {
    Arc::new(SocketHolder::new(socket, owner))
}

/// The system's clock.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// The system's randomness.
#[must_use]
pub fn entropy() -> Arc<dyn Entropy> {
    Arc::new(OsEntropy)
}

/// Where the audit log is exported to.
pub mod export {
    pub use crate::adapters::export::{Hook, HookOptions, Lines, Tree};
}

/// Freezing the oldest entries of the audit log.
pub mod freeze {
    pub use crate::adapters::export::{Described, ShardFiles};
    pub use crate::adapters::store::{Choice, Freezer, NewShard, Pruned, Run, Suits};
    pub use crate::adapters::tiles::Shard;
}

/// Keeping the state: backups, and what is left of a damaged one.
pub mod keep {
    pub use crate::adapters::store::Accept;
    pub use crate::adapters::store::backup::{Manifest, Secrets, backup, check, plan, restore};
    pub use crate::adapters::store::doctor::{Diagnosis, Mend, Thawed, Verdict, examine};

    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Arc;

    pub use crate::adapters::store::LogOptions;
    use crate::adapters::store::SqliteStore;
    use crate::ports::StoreError;
    use crate::shell::config::Settings;

    /// How a log is opened here: as the configuration says, if there is one for it.
    #[must_use]
    pub fn log_options(settings: Option<&Settings>) -> LogOptions {
        let (now, entropy) = (super::clock().now(), super::entropy());
        match settings {
            Some(settings) => super::log_options(settings, now, entropy),
            None => LogOptions::new(now, entropy),
        }
    }

    /// Opens a state directory once although rules refuse it, which becomes an entry, and closes it again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn accept(dir: &Path, options: LogOptions, rules: BTreeSet<Accept>, by: Arc<str>) -> Result<(), StoreError> {
        let options = LogOptions { accept: rules, by: Some(by), ..options };
        SqliteStore::open(dir, &options).map(drop)
    }
}

/// Puts everything together over the system's own clock. Call inside a runtime.
///
/// # Errors
/// [`WireError`] says which part and what to mend. Nothing was sent anywhere.
pub fn wire(settings: &Settings) -> Result<Wired, WireError> {
    wire_with(settings, clock())
}

/// As [`wire`], over a given clock.
///
/// # Errors
/// As [`wire`].
pub fn wire_with(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Wired, WireError> {
    put_together(settings, clock, Refused::Ends)
}

/// As [`wire_with`]; but where the state is there and is not to be believed, the store behind the doors refuses
/// everything, and [`Wired::seal`] says why.
///
/// # Errors
/// As [`wire`].
pub fn wire_or_seal(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Wired, WireError> {
    put_together(settings, clock, Refused::Seals)
}

/// What it means that the state is not to be believed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    Ends,
    Seals,
}

fn put_together(settings: &Settings, clock: Arc<dyn Clock>, refused: Refused) -> Result<Wired, WireError> {
    let entropy = entropy();
    let notifier = Arc::new(LogNotifier::new(clock.clone()));
    let meter = Arc::new(PrometheusMeter::new().map_err(|e| WireError::Host(e.to_string()))?);
    let spool = Arc::new(FileSpool::new(&spool_file(settings))?);
    let log = log_options(settings, clock.now(), entropy.clone());
    let opened = SqliteStore::open(&settings.state_dir, &log).map(Arc::new);
    let seal = opened.as_ref().err().and_then(Seal::of).filter(|_| refused == Refused::Seals);
    let (store, own): (Arc<dyn Store>, Option<Arc<SqliteStore>>) = match opened {
        Ok(own) => (own.clone(), Some(own)),
        Err(error) if seal.is_some() => (Arc::new(SealedStore(error)), None),
        Err(error) => return Err(error.into()),
    };
    let signer = match &own {
        Some(_) => lease::signer(&settings.state_dir, entropy.clone())?,
        // Nobody is to rely on what is not believed.
        None => Arc::new(Mute),
    };
    let (mut by_issuer, default_roots, base) = trust(&settings.issuers)?;
    let all_roots = LiveRoots::from(base.clone());
    let book = Arc::new(TrustBook::new(&settings.private_issuers, base, all_roots.clone()));
    by_issuer.extend(book.issuers.iter().map(|(id, roots)| (id.clone(), roots.clone())));
    let private = Private { issuers: Arc::new(InHouse::new(settings.private_issuers.clone())), trust: book };
    let place = settings.state_dir.join("keys");
    let keys = Arc::new(FileKeyStore::open(&place, by_issuer, default_roots, all_roots.clone(), entropy.clone())?);
    let environment = settings.estate.environment;
    let deployer = FileDeployer::new(keys.clone(), settings.sandbox_dir.clone(), environment, clock.clone());
    let issuers = settings.issuers.iter().map(acme_issuer).collect::<Result<Vec<_>, _>>()?;
    let accounts = settings.state_dir.join("accounts");
    let issuers = AcmeIssuers::new(issuers, &accounts, clock.clone(), entropy.clone(), meter.clone())
        .map_err(|e| WireError::Host(e.to_string()))?;
    let solvers = settings.solvers.iter().map(solver).collect::<Result<Vec<_>, _>>()?;
    let solver = Solvers::start(solvers, clock.clone(), entropy.clone()).map_err(|e| WireError::Host(e.to_string()))?;
    // What is not believed is shown to nobody.
    let shown = |(of, own): (_, Arc<SqliteStore>)| publisher(of, own, clock.clone(), notifier.clone()).map(Arc::new);
    let publisher = settings.audit_witness.as_ref().zip(own).map(shown).transpose()?;
    let unwitnessed: Arc<dyn Witnesses> = Arc::new(Unwitnessed);
    let (kept, allow) = (settings.state_dir.join("lists"), settings.lists_allow.clone());
    let lists = PointLists::new(kept, allow, lists::DEADLINE, clock.clone());
    let ports = Ports {
        clock,
        entropy,
        store,
        spool,
        witnesses: publisher.clone().map_or(unwitnessed, |p| p),
        signer,
        issuer: Arc::new(Issuers::new(Arc::new(issuers), private.issuers.clone())),
        solver: Arc::new(solver),
        keys,
        prober: Arc::new(SystemProber::new(all_roots, settings.sandbox_dir.clone())?),
        lists: Arc::new(lists),
        deployer: Arc::new(deployer),
        notifier: notifier.clone(),
        meter: meter.clone(),
    };
    Ok(Wired { ports, meter, seal, private, publisher, notifier })
}

/// Where entries wait that cannot be written into the audit log.
fn spool_file(settings: &Settings) -> std::path::PathBuf {
    settings.audit.spool.clone().unwrap_or_else(|| settings.state_dir.join("spool"))
}

/// How the audit log of these settings is opened; whoever recovers adds what a person accepts.
#[must_use]
pub fn log_options(settings: &Settings, now: Timestamp, entropy: Arc<dyn Entropy>) -> LogOptions {
    let own = &settings.audit;
    LogOptions { origin: own.origin.clone(), lock: own.lock.clone(), ..LogOptions::new(now, entropy) }
}

/// Watches the directories of everything that is watched or installed; `changed` is told which credential to look at.
#[derive(Debug)]
pub struct FileWatch {
    watch: crate::adapters::watch::DirectoryWatch,
    owners: Arc<std::sync::Mutex<Owners>>,
}

/// Which credentials have files in a directory.
type Owners = BTreeMap<std::path::PathBuf, Vec<CredentialId>>;

impl FileWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// If the kernel gives no watch; polling then has to do.
    pub fn new(changed: impl Fn(CredentialId) + Send + 'static) -> Result<Self, HostError> {
        let owners: Arc<std::sync::Mutex<Owners>> = Arc::default();
        let known = owners.clone();
        let watch = crate::adapters::watch::DirectoryWatch::new(move |directory| {
            let owners = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            owners.get(directory).into_iter().flatten().cloned().for_each(&changed);
        })?;
        Ok(Self { watch, owners })
    }

    /// Watches what this estate needs; returns how many directories polling alone must cover.
    pub fn follow(&mut self, estate: &Estate) -> usize {
        let mut owners = Owners::new();
        for credential in estate.credentials.values() {
            for directory in directories_of(credential) {
                owners.entry(directory).or_default().push(credential.id.clone());
            }
        }
        for (id, watch) in &estate.watches {
            if let Some((directory, _)) = watch.pattern.rsplit_once('/') {
                owners.entry(directory.into()).or_default().push(id.clone());
            }
        }
        let directories = owners.keys().cloned().collect();
        *self.owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = owners;
        self.watch.set(&directories).len()
    }
}

/// The directories in which a credential's own files change.
fn directories_of(credential: &Credential) -> Vec<std::path::PathBuf> {
    let parent = |path: &str| Path::new(path).parent().map(Path::to_path_buf);
    let mut directories: Vec<_> = credential.list_files().filter_map(|file| parent(file)).collect();
    directories.extend(match &credential.care {
        Care::Observed(Source::File { path, .. }) => parent(path).into_iter().collect(),
        Care::Observed(Source::Endpoints) => Vec::new(),
        Care::Managed(managed) => managed
            .installs
            .iter()
            .flat_map(|install| match &install.layout {
                Layout::Versioned { dir, .. } => vec![std::path::PathBuf::from(dir)],
                Layout::Plain { files } => files.values().filter_map(|f| parent(f)).collect(),
            })
            .collect(),
    });
    // One event is one look, however many of its files stand there.
    directories.sort_unstable();
    directories.dedup();
    directories
}

type Trust = (BTreeMap<IssuerId, LiveRoots>, Arc<Roots>, Arc<Roots>);

/// What each issuer's chains may end in, what the others' may, and all of it for looking around. The system's roots cost
/// a megabyte and are left out where every issuer brings its own and nothing else is looked at.
fn trust(issuers: &[IssuerSettings]) -> Result<Trust, WireError> {
    let mut by_issuer = BTreeMap::new();
    let mut all = Roots::default();
    for issuer in issuers.iter().filter(|i| !i.root_files.is_empty()) {
        let own = roots::bundles(&issuer.root_files)?;
        all.extend(&own);
        by_issuer.insert(issuer.id.clone(), LiveRoots::from(own));
    }
    let system = roots::system();
    all.extend(&system);
    Ok((by_issuer, system, Arc::new(all)))
}

fn acme_issuer(settings: &IssuerSettings) -> Result<AcmeIssuerConfig, WireError> {
    let mut config = AcmeIssuerConfig::new(settings.id.clone(), settings.directory.clone());
    config.contacts.clone_from(&settings.contacts);
    config.terms_agreed = settings.terms_agreed;
    config.allow_http_directory_in_tests = settings.danger_allow_http_directory;
    config.requests_per_second = settings.requests_per_second;
    // A call is four requests one after the other, as by default.
    config.timeouts.request = settings.timeout;
    config.timeouts.call = settings.timeout.saturating_mul(4);
    config.proxy.clone_from(&settings.proxy);
    config.extra_roots = settings
        .root_files
        .iter()
        .map(|file| read(file, LONGEST_ROOTS).map(|bytes| bytes.to_vec()))
        .collect::<Result<_, _>>()?;
    if let Some(eab) = &settings.eab {
        let text = secret_text(&eab.hmac_file)?;
        let hmac = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=').as_bytes()).map_err(|_| {
            WireError::Host(format!(
                "{} holds no base64url; put the CA's MAC key there as it came",
                eab.hmac_file.display()
            ))
        })?;
        config.eab = Some(EabConfig { key_id: eab.key_id.clone(), hmac: Zeroizing::new(hmac) });
    }
    Ok(config)
}

fn solver(settings: &SolverSettings) -> Result<SolverConfig, WireError> {
    let kind = match &settings.kind {
        config::SolverKind::Http01(config::HttpChallenge::Listen(bind)) => {
            SolverKind::Http01Listener { bind: bind.clone(), binding: Binding::WhilePresented }
        }
        config::SolverKind::Http01(config::HttpChallenge::Webroot(dir)) => {
            SolverKind::Http01Webroot { dir: dir.clone() }
        }
        config::SolverKind::TlsAlpn01 { listen } => {
            SolverKind::TlsAlpn01Listener { bind: listen.clone(), binding: Binding::WhilePresented }
        }
        config::SolverKind::Dns01 { update, propagation, follow_cname } => SolverKind::Dns01 {
            provider: dns_provider(update)?,
            propagation: Propagation {
                check: propagation.check,
                deadline: propagation.deadline,
                servers: Some(propagation.servers.clone()).filter(|s| !s.is_empty()),
                resolver: propagation.resolver,
                ..Propagation::default()
            },
            delegation: if *follow_cname { Delegation::Follow } else { Delegation::Ignore },
        },
    };
    Ok(SolverConfig { id: settings.id.clone(), kind })
}

fn dns_provider(update: &config::DnsUpdate) -> Result<Provider, WireError> {
    Ok(match update {
        config::DnsUpdate::Rfc2136 { server, zone, tsig_name, tsig_algorithm, tsig_secret_file, ttl_secs } => {
            let secret = STANDARD.decode(secret_text(tsig_secret_file)?.as_bytes()).map_err(|_| {
                WireError::Host(format!("{} holds no base64; put the TSIG secret there", tsig_secret_file.display()))
            })?;
            let algorithm = match tsig_algorithm {
                config::TsigAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
                config::TsigAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
                config::TsigAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
            };
            Provider::Rfc2136(Rfc2136 {
                server: *server,
                zone: zone.clone(),
                tsig: Some(Tsig { name: tsig_name.clone(), algorithm, secret: Secret::new(secret) }),
                ttl: *ttl_secs,
            })
        }
        config::DnsUpdate::Exec { argv, timeout } => Provider::Exec(Exec { argv: argv.clone(), timeout: *timeout }),
        config::DnsUpdate::Webhook { url, secret_file, timeout } => Provider::Webhook(WebhookConfig {
            url: url.clone(),
            secret: Secret::new(secret_text(secret_file)?.as_bytes().to_vec()),
            timeout: *timeout,
        }),
    })
}

fn secret_text(path: &Path) -> Result<Zeroizing<String>, WireError> {
    let bytes = read(path, LONGEST_SECRET)?;
    let text = core::str::from_utf8(&bytes)
        .map_err(|_| WireError::Host(format!("{} holds no text", path.display())))?
        .trim()
        .to_owned();
    Ok(Zeroizing::new(text))
}

fn read(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let failed = |why: String| WireError::Host(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|e| failed(format!("cannot be opened: {e}")))?;
    let mut bytes = Zeroizing::new(Vec::new());
    let read = file
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| failed(format!("cannot be read: {e}")))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > most {
        return Err(failed(format!("is longer than {most} bytes")));
    }
    Ok(bytes)
}
