//! What is to be guarded (the specification from the configuration) and what was seen of it (observations).
//!
//! Refuses to know how a thing was read: probers report, this file only holds.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::certificate::{Chain, Purpose};
use crate::domain::freeze::{Freezing, WhenFrozen};
use crate::domain::guard::Guard;
use crate::domain::id::{AudienceId, CredentialId, IssuerId, KeyId, PathId, SolverId};
use crate::domain::key::{Digest, KeyAlgorithm};
pub use crate::domain::missed::{MISSED_FOR, MOST_MISSES, Missed, USUAL_MISSES};
use crate::domain::name::{Name, NameSet};
use crate::domain::policy::Policy;
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{Boottime, Timestamp, Window};
use crate::domain::tracked::TrackedKey;

/// Everything the configuration asks for: the desired state. Immutable; a reload makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    /// The credentials, managed and observed.
    pub credentials: BTreeMap<CredentialId, Arc<Credential>>,
    /// The issuers.
    pub issuers: BTreeMap<IssuerId, Arc<Issuer>>,
    /// The approval paths.
    pub paths: BTreeMap<PathId, Arc<ApprovalPath>>,
    /// File patterns to watch: each file that matches becomes an observed credential of its own.
    pub watches: BTreeMap<CredentialId, Arc<Watch>>,
    /// Keys that are no certificate's.
    pub keys: BTreeMap<KeyId, Arc<TrackedKey>>,
    /// The policy in force.
    pub policy: Policy,
    /// Production, or a staging run that may touch nothing in production.
    pub environment: Environment,
    /// How often everything is observed and assessed again, besides timers.
    pub full_scan: Duration,
    /// How long a probe's answer counts as fresh.
    pub probe_every: Duration,
    /// Revocation lists are fetched again at least this often.
    pub lists_every: Duration,
    /// At most this many attempts at once for one issuer.
    pub orders_in_flight: usize,
    /// When a path that closed opens again.
    pub reopening: Reopening,
    /// What freezes may do.
    pub freezing: Freezing,
    /// How often an entry says that the guardian is there, so that a log whose end was cut off shows by its age: always
    /// [`HEARTBEAT`] but in tests and simulations.
    pub heartbeat: Duration,
}

/// When a path that closed opens again by itself, and when only a person opens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reopening {
    /// It was found good for at least so long, in [`GOOD_EVALUATIONS`] evaluations or more; zero means at once.
    pub after: Duration,
    /// A path that closed so often within [`FLAPS_WITHIN`] stays closed until a person opens it; zero means never.
    pub flaps: u32,
}

/// How often a path must be found good before it opens again, unless it does so at once.
pub const GOOD_EVALUATIONS: u32 = 3;
/// Closings within this time are counted together.
pub const FLAPS_WITHIN: Duration = Duration::from_secs(600);

impl Reopening {
    /// Twelve evaluations long; and three closings in ten minutes are no accident.
    pub const USUAL: Self = Self { after: Duration::from_secs(60), flaps: 3 };
}

/// Whoever sees a newest entry that is older than twice this knows that the guardian does not run, cannot write, or that
/// the end of its log is missing. Some 105,000 entries of 600 bytes a year: 60 MB.
pub const HEARTBEAT: Duration = Duration::from_secs(300);

/// How often revocation lists are fetched by default: public CAs publish a revocation within a day (CA/Browser Forum baseline
/// requirements, section 4.9.7), and most have new lists several times a day.
pub const LISTS_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Where the guardian runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Environment {
    /// The real thing.
    #[default]
    Production,
    /// Dry run: own state, the CA's staging directory, own sandbox for files.
    Staging,
}

impl Environment {
    /// `production` or `staging`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Staging => "staging",
        }
    }
}

/// A certificate with its key that Keyward keeps or watches.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Who is asked when it does not go by itself.
    pub owner: Option<String>,
    /// Free labels for policy: `env`, `data_class`, `tenant_tier`, …
    pub labels: BTreeMap<String, String>,
    /// Issued and installed here, or only watched.
    pub care: Care,
    /// Where it is served and must be seen.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What it is used for; a certificate that does not allow it is no good for a path.
    pub purpose: Option<Purpose>,
    /// Where its certificate revocation lists are (RFC 5280 section 5). With any, every certificate below the anchor must
    /// stand on none of them, and be covered by a fresh one.
    pub crls: Vec<ListSource>,
}

/// Where revocation lists are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListSource {
    /// In a file that somebody else keeps fresh: one list.
    File(String),
    /// At the distribution points that the certificates of the chain name: they are fetched.
    DistributionPoints,
}

impl From<&str> for ListSource {
    fn from(file: &str) -> Self {
        Self::File(file.to_owned())
    }
}

impl Credential {
    /// The managed part, if it is managed.
    #[must_use]
    pub fn managed(&self) -> Option<&Managed> {
        match &self.care {
            Care::Managed(managed) => Some(managed),
            Care::Observed(_) => None,
        }
    }

    /// The files with revocation lists.
    pub fn list_files(&self) -> impl Iterator<Item = &String> {
        self.crls.iter().filter_map(|source| match source {
            ListSource::File(file) => Some(file),
            ListSource::DistributionPoints => None,
        })
    }

    /// Whether revocation lists are fetched for it.
    #[must_use]
    pub fn fetches_lists(&self) -> bool {
        self.crls.contains(&ListSource::DistributionPoints)
    }
}

/// What Keyward does for a credential.
#[derive(Clone, Debug)]
pub enum Care {
    /// Issues, renews, installs and verifies.
    Managed(Box<Managed>),
    /// Only looks.
    Observed(Source),
}

/// A file pattern whose every match is watched. The pattern's own id is a credential too: missing while nothing matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Shell pattern with an absolute directory part: `/etc/ssl/peers/*.pem`.
    pub pattern: String,
    /// A file that holds the PKCS#12 password.
    pub password_file: Option<String>,
    /// Who is asked.
    pub owner: Option<String>,
    /// Labels for policy.
    pub labels: BTreeMap<String, String>,
}

/// Where a watched certificate is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file: PEM, DER, or PKCS#12 with the password in the named file.
    File {
        /// Its absolute path.
        path: String,
        /// A file that holds the PKCS#12 password.
        password_file: Option<String>,
    },
    /// Only its endpoints.
    Endpoints,
}

/// How a managed credential is issued and installed.
#[derive(Clone, Debug)]
pub struct Managed {
    /// The exact names.
    pub names: NameSet,
    /// The SPIFFE ID, from a private CA.
    pub spiffe: Option<SpiffeId>,
    /// The key's algorithm.
    pub key: KeyAlgorithm,
    /// Whether the key stays the same over renewals; by default each renewal makes a new one.
    pub key_reuse: KeyReuse,
    /// The issuers in order of preference.
    pub issuers: Vec<IssuerId>,
    /// The CA's profile to ask for.
    pub profile: Option<String>,
    /// How control over the names is proved, in order of preference; the first that the CA offers is used.
    pub solvers: Vec<SolverId>,
    /// When to renew.
    pub renewal: RenewalRules,
    /// Where the files go; may be empty when only the key store holds them.
    pub installs: Vec<Install>,
    /// What makes the server take the new files.
    pub reload: Option<Reload>,
    /// When the installation may happen; empty means at any time. A renewal is never held by these.
    pub windows: Vec<Window>,
}

/// Whether a renewal makes a new key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyReuse {
    /// A new key at each renewal.
    #[default]
    Fresh,
    /// The same key until told otherwise.
    Keep,
}

/// When a managed credential renews, besides what its CA suggests (RFC 9773).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalRules {
    /// Fallback point in thousandths of the lifetime; `None` means 2/3, or 1/2 when the lifetime is under 10 days.
    pub fallback_permille: Option<u16>,
    /// Emergency point: thousandths of the lifetime that remain when nothing may hold the renewal any longer.
    pub emergency_permille: u16,
    /// Ask the CA for its window.
    pub ari: Ari,
}

impl Default for RenewalRules {
    fn default() -> Self {
        Self { fallback_permille: None, emergency_permille: 50, ari: Ari::Ask }
    }
}

/// Whether the CA's renewal information is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ari {
    /// Yes, when the CA's directory offers it.
    Ask,
    /// No.
    Ignore,
}

/// One set of files to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// How the set is laid out.
    pub layout: Layout,
    /// Owner as a user name or number; Keyward's own user if `None`.
    pub owner: Option<String>,
    /// Group as a name or number; Keyward's own if `None`.
    pub group: Option<String>,
    /// Mode of files that hold a private key, for example 0o600.
    pub key_mode: u32,
    /// Mode of files without one, for example 0o644.
    pub cert_mode: u32,
    /// Password file for PKCS#12 output.
    pub pkcs12_password_file: Option<String>,
}

/// How installed files change as a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `DIR/current` is a link to a versioned directory and swaps in one rename; the files in it have fixed names
    /// (`cert.pem`, `chain.pem`, `fullchain.pem`, `key.pem`, `combined.pem`, `bundle.p12`).
    Versioned {
        /// The directory.
        dir: String,
        /// Which files to write.
        formats: BTreeSet<Format>,
    },
    /// Plain files at fixed paths, each replaced by a rename, for servers that cannot follow links.
    Plain {
        /// Absolute path of each file.
        files: BTreeMap<Format, String>,
    },
}

/// What an installed file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The leaf, PEM.
    Cert,
    /// The intermediates, PEM.
    Chain,
    /// Leaf, then intermediates, PEM.
    Fullchain,
    /// The private key, PKCS#8 PEM.
    Key,
    /// Private key, leaf, intermediates, PEM (HAProxy).
    Combined,
    /// PKCS#12 with modern ciphers (PBES2, AES-256).
    Pkcs12,
}

impl Format {
    /// Every format with its name in the configuration and its file name in a versioned directory.
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Cert, "cert", "cert.pem"),
        (Self::Chain, "chain", "chain.pem"),
        (Self::Fullchain, "fullchain", "fullchain.pem"),
        (Self::Key, "key", "key.pem"),
        (Self::Combined, "combined", "combined.pem"),
        (Self::Pkcs12, "pkcs12", "bundle.p12"),
    ];

    /// By its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, _)| *name == text).map(|(format, ..)| *format)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(format, ..)| *format == self).map_or("", |(_, name, _)| name)
    }

    /// Its file name in a versioned directory.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        Self::ALL.iter().find(|(format, ..)| *format == self).map_or("", |(.., file)| file)
    }

    /// Whether the file holds the private key.
    #[must_use]
    pub fn holds_key(self) -> bool {
        matches!(self, Self::Key | Self::Combined | Self::Pkcs12)
    }
}

/// What makes a server take new files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// What to do.
    pub how: ReloadHow,
    /// How long it may take.
    pub timeout: Duration,
    /// How often it is tried before the installation counts as failed.
    pub tries: u8,
    /// Whether it may run in a staging environment.
    pub in_staging: bool,
}

/// The ways to reload a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadHow {
    /// Runs a program: the first element is its absolute path, no shell.
    Exec(Vec<String>),
    /// Sends a signal to the process whose number a file holds.
    Signal {
        /// Signal number, for example 1 for SIGHUP.
        signal: i32,
        /// The pid file.
        pid_file: String,
    },
    /// Reloads (or restarts, where it cannot reload) a systemd unit.
    Systemd(String),
}

/// A place where a certificate is served over TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host or address to connect to.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Server name to send; `None` sends none, as for an IP address.
    pub sni: Option<String>,
    /// What is spoken before TLS.
    pub starttls: StartTls,
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?
        } else {
            write!(f, "{}:{}", self.host, self.port)?
        }
        match &self.sni {
            Some(sni) if *sni != self.host => write!(f, " ({sni})"),
            _ => Ok(()),
        }
    }
}

/// The protocol in which TLS starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartTls {
    /// TLS from the first byte.
    #[default]
    None,
    /// RFC 3207.
    Smtp,
    /// RFC 9051 section 6.2.1.
    Imap,
    /// PostgreSQL's SSLRequest.
    Postgres,
}

/// A CA's ACME service with our account there.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// The directory's URL.
    pub directory: String,
    /// `mailto:` contacts.
    pub contacts: Vec<String>,
    /// The CA's limits that we keep to.
    pub limits: Arc<[crate::domain::limits::Limit]>,
}

/// An approval path: what a control service asks about.
#[derive(Clone, Debug)]
pub struct ApprovalPath {
    /// Its id.
    pub id: PathId,
    /// The credentials it stands on.
    pub needs: BTreeSet<CredentialId>,
    /// The path closes this long before the earliest end of anything it stands on.
    pub margin: Duration,
    /// Which of its requests it guards.
    pub guard: Guard,
    /// Other paths that it stands on: it is closed while one of them is.
    pub depends_on: BTreeSet<PathId>,
    /// A key that is older than this is overdue past its hard limit (NIST SP 800-57 part 1, section 5.3): the path closes.
    pub key_limit: Option<Duration>,
    /// An issuer without a success for so long may not be able to renew: the path closes.
    pub issuer_silence: Option<Duration>,
    /// So many looks in a row that reach no endpoint close it; see [`Missed`]. One closes at the first.
    pub misses: u32,
    /// What a freeze over it does to the path itself.
    pub when_frozen: WhenFrozen,
    /// Who gets leases and permits.
    pub leases: Leases,
}

/// Who gets leases and permits of a path. Nobody does by default: a proxy that asks the gate needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Those who may rely on them.
    pub audiences: BTreeSet<AudienceId>,
    /// Where a fresh one always lies while the path is open.
    pub file: Option<LeaseFile>,
}

/// A file with a fresh lease, gone while the path is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseFile {
    /// Where.
    pub path: String,
    /// For whom.
    pub audience: AudienceId,
    /// Its mode.
    pub mode: u32,
    /// Its group, by name or number.
    pub group: Option<String>,
}

/// What was seen of one credential in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it was seen.
    pub at: Timestamp,
    /// What was there.
    pub seen: Seen,
}

/// What was there when we looked. Everything but `Present` is a finding, never silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A certificate that parses.
    Present(Arc<Chain>),
    /// Nothing: no such file, no certificate presented.
    Missing,
    /// It could not be read; the text says why.
    Unreadable(String),
    /// Nobody was reached, or the look was cut off before anything was said; the text says why. Only this may be a fault of
    /// the way there.
    Unreachable(String),
    /// It was read and is no certificate; the text says why.
    Unparseable(String),
}

impl Seen {
    /// The chain, if there is one.
    #[must_use]
    pub fn chain(&self) -> Option<&Arc<Chain>> {
        match self {
            Self::Present(chain) => Some(chain),
            Self::Missing | Self::Unreadable(_) | Self::Unreachable(_) | Self::Unparseable(_) => None,
        }
    }
}

/// What a certificate revocation list, in a file or fetched, said about one chain, when we looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrlSeen {
    /// A list whose signature is good under a certificate of the chain.
    Present(CrlFacts),
    /// No such file, or not fetched yet.
    Missing,
    /// It could not be read or fetched; the text says why.
    Unreadable(String),
    /// It is no certificate revocation list, or none that an issuer of this chain signed; the text says why.
    Unusable(String),
}

impl CrlSeen {
    /// What the list says, if there is one.
    #[must_use]
    pub fn facts(&self) -> Option<&CrlFacts> {
        match self {
            Self::Present(facts) => Some(facts),
            Self::Missing | Self::Unreadable(_) | Self::Unusable(_) => None,
        }
    }
}

/// A certificate revocation list as far as one chain is concerned (RFC 5280 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due; without it a list is never fresh.
    pub next_update: Option<Timestamp>,
    /// The certificates of the chain whose issuer signed it, by SHA-256.
    pub covers: BTreeSet<Digest>,
    /// Those of them that it revokes.
    pub revokes: BTreeSet<Digest>,
}

/// Everything seen of one credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// What is stored: the installed files, or the watched file. `None` means not looked at yet.
    pub stored: Option<Observation>,
    /// What each endpoint serves. An endpoint that was not looked at yet is absent.
    pub served: BTreeMap<Arc<Endpoint>, Observation>,
    /// What each file with revocation lists says about the chain that stands for it, when it was last looked at.
    pub crls: BTreeMap<String, CrlSeen>,
    /// What the list at each distribution point of that chain says about it, by URL.
    pub points: BTreeMap<Arc<str>, CrlSeen>,
    /// The endpoints that served something, and that the newest looks did not reach.
    pub missed: BTreeMap<Arc<Endpoint>, Missed>,
    /// What began to look before this says nothing any more; on the clock that does not step, for the other may be set.
    pub looked: Option<Boottime>,
}

impl Sighting {
    /// The chain that stands for the credential: what is stored, else what the first endpoint serves.
    #[must_use]
    pub fn chain(&self) -> Option<&Arc<Chain>> {
        self.stored.as_ref().and_then(|o| o.seen.chain()).or_else(|| self.served.values().find_map(|o| o.seen.chain()))
    }
}

/// All sightings, by credential.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// What was seen of each.
    pub sightings: BTreeMap<CredentialId, Sighting>,
}

/// A fingerprint as it is compared between stored and served.
#[must_use]
pub fn fingerprint(seen: &Seen) -> Option<Digest> {
    seen.chain().map(|c| c.leaf.fingerprint)
}

/// The names that a DNS or HTTP validation is about: each authorized name once.
#[must_use]
pub fn authorized_names(names: &NameSet) -> BTreeSet<Name> {
    names.iter().map(Name::authorized).collect()
}
