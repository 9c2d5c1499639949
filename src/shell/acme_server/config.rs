//! What a scripted CA is told at its start: addresses, profiles, how it validates, what it demands and its bounds.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::codec::network::Network;
use crate::domain::limits::Limit;
use crate::domain::name::Name;
use crate::domain::time::{DAY, HOUR, MINUTE};
use crate::ports::ChallengeKind;

/// Everything a [`super::ScriptedCa`] is told at its start. [`CaConfig::default`] is a CA on a free port of the loopback
/// interface that validates for real, with the profiles `classic` and `shortlived`.
#[derive(Clone, Debug)]
pub struct CaConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether ACME is spoken over TLS.
    pub transport: Transport,
    /// Scheme, host and port of its URLs if clients reach it through something else, such as a proxy that loses answers.
    pub public_url: Option<String>,
    /// The common name of the root and, with a suffix, of the intermediate.
    pub name: String,
    /// Profiles on offer by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of orders that name none.
    pub default_profile: String,
    /// How long the root lives; the intermediate lives half as long.
    pub root_lifetime: Duration,
    /// How far certificates are dated back, against clients whose clock is behind.
    pub backdate: Duration,
    /// How control of names is checked.
    pub validation: Validation,
    /// Terms of service: if there is a URL, new accounts must agree.
    pub terms: Option<String>,
    /// External account binding.
    pub external: ExternalBinding,
    /// Renewal information (RFC 9773).
    pub renewal: Renewal,
    /// Boulder's habit: a new order for the same names of the same account gives the pending or ready one again.
    pub reuse_orders: Reuse,
    /// Whether a valid authorization counts for later orders of the same account.
    pub reuse_authorizations: Reuse,
    /// Whether accounts have a list of their orders (RFC 8555 section 7.1.2.1). Boulder has none.
    pub order_list: OrderList,
    /// How long an order and its authorizations live.
    pub order_lifetime: Duration,
    /// Between an accepted finalize and the certificate; zero answers finalize with the valid order.
    pub issue_delay: Duration,
    /// Limits per account; a request above one is refused and counted as a violation.
    pub limits: Vec<Limit>,
    /// Names that are refused with `rejectedIdentifier`, together with all below them.
    pub rejected: Vec<Name>,
    /// The kinds of challenge on offer.
    pub challenges: Vec<ChallengeKind>,
    /// When to ask again for an order that a person decides about.
    pub wait_retry: Duration,
    /// Bounds on what is kept and taken in.
    pub bounds: Bounds,
}

impl Default for CaConfig {
    fn default() -> Self {
        let profile = |lifetime| Profile { lifetime, most_names: 100, addresses: Addresses::Allowed };
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            transport: Transport::Https,
            public_url: None,
            name: "Keyward Scripted CA".to_owned(),
            profiles: BTreeMap::from([
                ("classic".to_owned(), profile(DAY.saturating_mul(90))),
                // Let's Encrypt's lifetime of six days and 16 hours.
                ("shortlived".to_owned(), profile(HOUR.saturating_mul(160))),
            ]),
            default_profile: "classic".to_owned(),
            root_lifetime: DAY.saturating_mul(3_650),
            // Let's Encrypt dates back by an hour.
            backdate: HOUR,
            validation: Validation::On(Box::default()),
            terms: None,
            external: ExternalBinding::default(),
            renewal: Renewal::On { retry_after: HOUR.saturating_mul(6) },
            reuse_orders: Reuse::Never,
            reuse_authorizations: Reuse::Never,
            order_list: OrderList::Offered,
            order_lifetime: DAY.saturating_mul(7),
            issue_delay: Duration::ZERO,
            limits: Vec::new(),
            rejected: Vec::new(),
            challenges: ChallengeKind::ALL.map(|(kind, _)| kind).to_vec(),
            wait_retry: MINUTE,
            bounds: Bounds::default(),
        }
    }
}

/// Whether ACME is spoken over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// With a certificate from the CA's own root.
    Https,
    /// In the clear, against RFC 8555 section 6.1: only to see a client refuse it.
    Http,
}

/// What a profile's certificates look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// From issuance to expiry; cut where the CA itself ends.
    pub lifetime: Duration,
    /// Most identifiers in an order.
    pub most_names: usize,
    /// Whether IP addresses may be ordered.
    pub addresses: Addresses,
}

/// Whether a profile covers IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// RFC 8738.
    Allowed,
    /// DNS names only.
    Refused,
}

/// How control of names is checked.
#[derive(Clone, Debug)]
pub enum Validation {
    /// Not at all: a challenge that is answered is believed.
    Off,
    /// For real.
    On(Box<Validator>),
}

/// Where the validator looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Port of http-01; 80 outside of tests (RFC 8555 section 8.3).
    pub http_port: u16,
    /// Port of tls-alpn-01; 443 outside of tests (RFC 8737 section 3).
    pub tls_port: u16,
    /// Addresses of hosts by name; asked first.
    pub hosts: BTreeMap<String, IpAddr>,
    /// Where hosts are that `hosts` does not name.
    pub other_hosts: Hosts,
    /// Where TXT records are.
    pub dns: Dns,
    /// After how long a validation fails.
    pub deadline: Duration,
    /// What may be connected to.
    pub reach: Reach,
}

/// What a validator may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything, for tests and the demo.
    Anywhere,
    /// The public Internet and these networks but never those, and by redirects only ports of the web.
    Within {
        /// These too.
        allow: Vec<Network>,
        /// Never these.
        forbid: Vec<Network>,
    },
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            http_port: 80,
            tls_port: 443,
            hosts: BTreeMap::new(),
            other_hosts: Hosts::At(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            dns: Dns::Embedded,
            // Boulder's validators give up after ten seconds too.
            deadline: Duration::from_secs(10),
            reach: Reach::Anywhere,
        }
    }
}

/// Where hosts are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// All at one address, for tests and the demo.
    At(IpAddr),
    /// By the system's resolver.
    System,
    /// By this DNS server.
    Server(SocketAddr),
}

/// Where TXT and CNAME records are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dns {
    /// In the map that [`super::Control`] fills.
    Embedded,
    /// At this server, over UDP and, for truncated answers, TCP.
    Server(SocketAddr),
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, Default)]
pub struct ExternalBinding {
    /// Whether new accounts need one.
    pub demand: Demand,
    /// HMAC keys by key id.
    pub keys: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for ExternalBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} keys", self.demand, self.keys.len())
    }
}

/// Whether something is demanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// It may be left out.
    #[default]
    Optional,
    /// It may not.
    Required,
}

/// Whether renewal information is on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Not in the directory, not answered.
    Off,
    /// With this `Retry-After`.
    On {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// Whether something of earlier orders is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Every order starts anew.
    Never,
    /// Within one account.
    SameAccount,
}

/// Whether accounts have a list of their orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderList {
    /// They have.
    Offered,
    /// They have not.
    Absent,
}

/// Bounds on what is kept and taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Accounts kept; one more is refused.
    pub accounts: usize,
    /// Orders kept; the oldest finished one makes room, and if there is none, a new order is refused.
    pub orders: usize,
    /// Certificates kept; the oldest one makes room.
    pub certificates: usize,
    /// Nonces that may be unused at a time; the oldest one is forgotten.
    pub nonces: usize,
    /// Lines of each kind of statistics kept; the oldest one makes room.
    pub records: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Open connections; more wait in the kernel's backlog.
    pub connections: usize,
    /// Validations at a time; more wait.
    pub validations: usize,
    /// A connection that sends no request for this long is closed.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // Together some 100 MB at most: an order with its authorizations takes about 2 kB, a certificate 3 kB.
            accounts: 10_000,
            orders: 10_000,
            certificates: 10_000,
            nonces: 65_536,
            records: 20_000,
            // A CSR for 100 names of 253 characters with an RSA-4096 key is 28 kB, 50 kB in a JWS.
            body: 128 * 1_024,
            connections: 512,
            validations: 64,
            idle: MINUTE,
        }
    }
}
