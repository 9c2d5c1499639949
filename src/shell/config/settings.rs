//! What the configuration says, validated: plain data that `wire.rs` translates into adapters.
//!
//! Paths are absolute, references resolve, directories are those of the environment in force. Secrets are never here:
//! only the names of the files that hold them.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::network::Network;
use crate::codec::note::VerifierKey;
use crate::domain::authority::Ca;
use crate::domain::id::{CaId, IssuerId, SolverId};
use crate::domain::inventory::Estate;
use crate::domain::key::Digest;
use crate::domain::link::Link;
use crate::domain::workload::Workload;
use crate::engine::authority::{Rotations, Route};
use crate::shell::relying::PartySettings;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is to be guarded.
    pub estate: Estate,
    /// State, keys and sockets of this environment.
    pub state_dir: PathBuf,
    /// In staging: installed files go below this directory instead of to their places. `None` in production.
    pub sandbox_dir: Option<PathBuf>,
    /// Where the guardian listens.
    pub listen: Listen,
    /// The audit log.
    pub audit: AuditSettings,
    /// The CAs, in the order of the file.
    pub issuers: Vec<IssuerSettings>,
    /// Issuers that are private CAs of this guardian.
    pub private_issuers: BTreeMap<IssuerId, Route>,
    /// The private CAs.
    pub cas: BTreeMap<CaId, Arc<Ca>>,
    /// How each of them is rotated.
    pub rotations: Rotations,
    /// Who relies on them.
    pub parties: Vec<PartySettings>,
    /// The process that has their keys; `None` without private CAs.
    pub keyholder: Option<KeyholderSettings>,
    /// ACME directories over them, in the order of the file.
    pub directories: Vec<super::DirectorySettings>,
    /// The challenge solvers, in the order of the file.
    pub solvers: Vec<SolverSettings>,
    /// Networks besides the Internet from which revocation lists may be fetched.
    pub lists_allow: Vec<Network>,
    /// Which logs of others are witnessed here; nobody's in staging.
    pub witness: Option<Witness>,
    /// Who witnesses our own log; nobody in staging.
    pub audit_witness: Option<AuditWitness>,
    /// Enforcing proxies, in the order of the file; none in staging, where nothing of production is touched.
    pub links: Vec<Arc<Link>>,
    /// Where programs of this machine get SPIFFE IDs; nowhere in staging.
    pub workload_api: Option<WorkloadApi>,
    /// Which programs get them.
    pub workloads: Arc<[Workload]>,
    /// SHA-256 of the text.
    pub digest: Digest,
    /// The file, if it came from one.
    pub path: Option<PathBuf>,
}

/// The SPIFFE Workload API and Envoy's secret discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadApi {
    /// Where it listens.
    pub socket: UnixSocket,
    /// Connections at once.
    pub max_connections: usize,
    /// Calls at once by one user.
    pub max_streams_per_user: usize,
}

/// A Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its path.
    pub path: PathBuf,
    /// Its mode, for example 0o660.
    pub mode: u32,
    /// Its group; unchanged if `None`.
    pub group: Option<String>,
}

/// The process that has the keys of private CAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyholderSettings {
    /// Where its keys and its log lie.
    pub directory: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// Whether the daemon starts it; else somebody else does, as another user.
    pub start: bool,
    /// As which user it runs, if the daemon starts it as root.
    pub user: Option<String>,
    /// What its keys are encrypted with.
    pub passphrase: Passphrase,
}

/// Where the key holder's passphrase comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passphrase {
    /// A file; made at random if it is the default one and missing.
    File(PathBuf),
    /// What a command prints, run without a shell.
    Command(Vec<String>),
}

impl KeyholderSettings {
    /// In a state directory, started by the daemon.
    #[must_use]
    pub fn beside(state: &Path) -> Self {
        let directory = state.join("keyholder");
        Self {
            socket: state.join("keyholder.sock"),
            passphrase: Passphrase::File(state.join("keyholder.pass")),
            directory,
            start: true,
            user: None,
        }
    }
}

/// Keyward as a witness of other logs (C2SP tlog-witness).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The file with its private key; `keyward witness init` makes it.
    pub key_file: PathBuf,
    /// Where logs reach it. Loopback unless the file says `allow_remote = true`.
    pub listen: SocketAddr,
    /// The logs: origin and a key that is trusted for it.
    pub logs: Vec<(String, VerifierKey)>,
}

/// Who witnesses our own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditWitness {
    /// A file in the form of C2SP tlog-policy, with the witnesses' URLs.
    pub policy: PathBuf,
    /// PEM files with the roots to trust for the witnesses' servers; empty means the system's.
    pub root_files: Vec<PathBuf>,
    /// They are shown the log at most this often.
    pub every: Duration,
    /// People are told when one is behind for this long.
    pub lag: Duration,
    /// Actions of this tier and above wait for the quorum; `None`: none does.
    pub demand_tier: Option<u8>,
}

/// The audit log; always the defaults in staging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file with the last acknowledged checkpoint; `None` is one in the state directory.
    pub lock: Option<PathBuf>,
    /// The log's name; `None` is that of its key, made up when the log began.
    pub origin: Option<String>,
    /// The file in which entries wait that cannot be written yet; `None` is one in the state directory.
    pub spool: Option<PathBuf>,
}

/// Where the guardian listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Gate checks, metrics, health and pages. Loopback unless the file says `allow_remote = true`.
    pub http: SocketAddr,
    /// Gate checks over a Unix socket.
    pub gate_socket: Option<GateSocket>,
    /// Gate checks over TLS.
    pub gate_tls: Option<GateTls>,
    /// The command line's door to the daemon; only its own user may use it.
    pub admin_socket: PathBuf,
}

/// The gate's Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSocket {
    /// Its path.
    pub path: PathBuf,
    /// Its mode, for example 0o660.
    pub mode: u32,
    /// Its group; unchanged if `None`.
    pub group: Option<String>,
}

/// Gate checks over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateTls {
    /// Where.
    pub listen: SocketAddr,
    /// The chain in PEM, leaf first.
    pub certificate_file: PathBuf,
    /// Its private key in PEM.
    pub key_file: PathBuf,
}

/// A CA's ACME service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its id.
    pub id: IssuerId,
    /// The directory of the environment in force: in staging already the staging directory.
    pub directory: String,
    /// `mailto:` contacts.
    pub contacts: Vec<String>,
    /// Whether the operator agreed to the CA's terms; validation refuses a file that does not.
    pub terms_agreed: bool,
    /// External account binding (RFC 8555 section 7.3.4).
    pub eab: Option<Eab>,
    /// PEM files with the roots to trust for the CA's own server and for what it issues; empty means the system's.
    pub root_files: Vec<PathBuf>,
    /// Test switch: the directory may be `http://`.
    pub danger_allow_http_directory: bool,
    /// At most this many requests a second.
    pub requests_per_second: u32,
    /// An answer that has not ended after this long is given up.
    pub timeout: Duration,
    /// HTTP proxy.
    pub proxy: Option<String>,
}

/// External account binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    /// The key id that the CA gave.
    pub key_id: String,
    /// The file with the MAC key, base64url.
    pub hmac_file: PathBuf,
}

/// A challenge solver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolverSettings {
    /// Its id.
    pub id: SolverId,
    /// How it answers.
    pub kind: SolverKind,
}

/// The kinds of solver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SolverKind {
    /// http-01 (RFC 8555 section 8.3).
    Http01(HttpChallenge),
    /// tls-alpn-01 (RFC 8737).
    TlsAlpn01 {
        /// Addresses to listen on while a challenge is open.
        listen: Vec<SocketAddr>,
    },
    /// dns-01 (RFC 8555 section 8.4).
    Dns01 {
        /// How the record is written.
        update: DnsUpdate,
        /// How its arrival is checked.
        propagation: Propagation,
        /// Whether a CNAME at `_acme-challenge` is followed to the zone that it delegates to.
        follow_cname: bool,
    },
}

/// How http-01 responses reach port 80.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpChallenge {
    /// Own listeners while a challenge is open.
    Listen(Vec<SocketAddr>),
    /// Files below `WEBROOT/.well-known/acme-challenge/` of a server that runs already.
    Webroot(PathBuf),
}

/// How a TXT record is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsUpdate {
    /// A signed dynamic update (RFC 2136, RFC 8945).
    Rfc2136 {
        /// The primary server.
        server: SocketAddr,
        /// The zone; `None` finds it by asking for the SOA.
        zone: Option<String>,
        /// The key's name.
        tsig_name: String,
        /// The key's algorithm.
        tsig_algorithm: TsigAlgorithm,
        /// The file with the key, base64.
        tsig_secret_file: PathBuf,
        /// The record's TTL in seconds.
        ttl_secs: u32,
    },
    /// A program: `PROGRAM ARGS… present|cleanup`, no shell.
    Exec {
        /// Program and arguments; the program's path is absolute.
        argv: Vec<String>,
        /// How long one call may take.
        timeout: Duration,
    },
    /// An HTTP service that is told in JSON.
    Webhook {
        /// Its URL.
        url: String,
        /// The file with the key that signs the requests.
        secret_file: PathBuf,
        /// How long one call may take.
        timeout: Duration,
    },
}

/// Algorithms of a TSIG key (RFC 8945 section 6); MD5 and SHA-1 are not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TsigAlgorithm {
    /// hmac-sha256
    HmacSha256,
    /// hmac-sha384
    HmacSha384,
    /// hmac-sha512
    HmacSha512,
}

impl TsigAlgorithm {
    /// Every algorithm with its name in the configuration.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::HmacSha256, "hmac-sha256"), (Self::HmacSha384, "hmac-sha384"), (Self::HmacSha512, "hmac-sha512")];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name)
    }
}

/// How the arrival of a TXT record is checked before the CA is told to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// Whether it is checked at all.
    pub check: bool,
    /// How long it may take.
    pub deadline: Duration,
    /// Servers that must all show it; empty means the zone's authoritative servers.
    pub servers: Vec<SocketAddr>,
    /// The resolver that finds zones and their servers; `None` means the system's.
    pub resolver: Option<SocketAddr>,
}
