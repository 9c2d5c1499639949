//! Links: who may speak through an enforcing proxy, and why somebody may not.
//!
//! A link passes bytes between a plain socket of this machine and a TLS peer, while the approval path that guards it is
//! open. Refuses to know sockets, TLS and certificates' bytes: it is told what a peer's certificate says.

mod tally;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::gate::Verdict;
use crate::domain::id::{CaId, CredentialId, LinkId, PathId};
use crate::domain::key::Digest;
use crate::domain::name::Name;
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{Timestamp, Validity};

pub use self::tally::{TELL_EVERY, Tally, Told};

/// One link as the configuration asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its id.
    pub id: LinkId,
    /// The approval path that guards it.
    pub path: PathId,
    /// On which side of it TLS is.
    pub side: Side,
    /// Where it listens.
    pub listen: Listen,
    /// Where it passes the bytes on to.
    pub forward: Address,
    /// The name that is asked for: on the client side only.
    pub server_name: Option<String>,
    /// What it proves itself with.
    pub identity: Identity,
    /// The private CA whose bundle and lists peers are judged by, instead of files.
    pub ca: Option<CaId>,
    /// Files with the roots that peers' chains may end in.
    pub roots: Vec<String>,
    /// Files with revocation lists; with one or more, every CA of a peer's chain needs a fresh one.
    pub crls: Vec<String>,
    /// Who may be at the other end.
    pub peers: Vec<PeerId>,
    /// Protocols inside TLS in order of preference (RFC 7301); empty says nothing about them.
    pub alpn: Vec<String>,
    /// Connections at once.
    pub max_connections: usize,
    /// Connecting and shaking hands may take this long.
    pub handshake_timeout: Duration,
    /// A connection over which nothing came for this long is closed.
    pub idle_timeout: Duration,
}

/// On which side of a link TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It listens with TLS and passes on plain.
    Server,
    /// It listens plain and passes on with TLS.
    Client,
}

impl Side {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// What a peer's certificate must be made for.
    #[must_use]
    pub fn peers_purpose(self) -> Purpose {
        match self {
            Self::Server => Purpose::ClientAuth,
            Self::Client => Purpose::ServerAuth,
        }
    }

    /// What the link's own certificate must be made for.
    #[must_use]
    pub fn own_purpose(self) -> Purpose {
        match self {
            Self::Server => Purpose::ServerAuth,
            Self::Client => Purpose::ClientAuth,
        }
    }
}

/// What a certificate is made for (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Somebody who connects.
    ClientAuth,
    /// Somebody who is connected to.
    ServerAuth,
}

impl Purpose {
    /// Its name in the standard.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientAuth => "clientAuth",
            Self::ServerAuth => "serverAuth",
        }
    }
}

/// Where a link listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: String,
        /// Its mode, for example 0o660.
        mode: u32,
        /// Its group; unchanged if `None`.
        group: Option<String>,
    },
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => f.write_str(path),
        }
    }
}

/// Where a link connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket by its path.
    Unix(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// What a link proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// What is installed for a managed credential, from the key store.
    Managed(CredentialId),
    /// Files.
    Files {
        /// The credential that the certificate is watched as, if it is.
        credential: Option<CredentialId>,
        /// The chain, leaf first.
        certificate: String,
        /// The key; may be the same file.
        key: String,
    },
}

/// Somebody who may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerId {
    /// A SPIFFE ID: the only URI of the certificate, byte for byte.
    Spiffe(SpiffeId),
    /// A DNS name of the certificate, exactly: wildcards in certificates stand for nobody.
    Dns(Name),
    /// SHA-256 of the SubjectPublicKeyInfo.
    Spki(Digest),
}

impl PeerId {
    /// Parses `spiffe://DOMAIN/PATH`, `dns:NAME` or `spki:sha256/HEX`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(name) = text.strip_prefix("dns:") {
            return match Name::parse(name) {
                Ok(name) if name.is_wildcard() => Err("is a wildcard; name each peer by itself"),
                Ok(name @ Name::Dns(_)) => Ok(Self::Dns(name)),
                Ok(Name::Ip(_)) => Err("is an address; name the peer by its DNS name, SPIFFE ID or key"),
                Err(_) => Err("is no fully qualified DNS name"),
            };
        }
        if let Some(digest) = text.strip_prefix("spki:sha256/") {
            return Digest::parse(digest).map(Self::Spki).ok_or("is no SHA-256 in 64 lower-case hexadecimal digits");
        }
        if text.starts_with("spiffe:") {
            return SpiffeId::parse(text).map(Self::Spiffe).ok_or("is no SPIFFE ID of a workload");
        }
        Err("begins with none of spiffe://, dns: and spki:sha256/")
    }

    fn is(&self, peer: &Presented) -> bool {
        match self {
            // A certificate with two URIs is no SVID (X509-SVID section 2).
            Self::Spiffe(id) => matches!(peer.uris.as_slice(), [only] if only == id.as_str()),
            Self::Dns(name) => peer.dns.contains(name),
            Self::Spki(digest) => peer.spki == *digest,
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Spki(digest) => write!(f, "spki:sha256/{digest}"),
        }
    }
}

/// What the certificate of a peer says about who it is; chain, times and purpose are good already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Its URIs, whatever they are.
    pub uris: Vec<String>,
    /// Its well-formed DNS names.
    pub dns: Vec<Name>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest,
}

/// Who of those that are allowed this is.
///
/// # Errors
/// [`Reason::Name`] with what it says it is; also if nobody is allowed.
pub fn allowed<'a>(peer: &Presented, peers: &'a [PeerId]) -> Result<&'a PeerId, Refusal> {
    peers.iter().find(|id| id.is(peer)).ok_or_else(|| {
        let names = peer.uris.iter().map(|u| shortened(u)).chain(peer.dns.iter().map(ToString::to_string));
        let names: Vec<String> = names.take(4).collect();
        let names = if names.is_empty() { "nobody by name".to_owned() } else { names.join(", ") };
        let text = format!("the peer is {names} (spki:sha256/{}), which `peers` does not list", peer.spki);
        Refusal::new(Reason::Name, text)
    })
}

/// A text from outside, for people.
fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(128).collect()
}

/// A peer that may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// As whom.
    pub peer: PeerId,
    /// While all that it stands on is valid: every certificate of its chain, and the revocation lists.
    pub validity: Validity,
}

/// Why a connection was refused, as people and programs tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The path is closed.
    Gate,
    /// As many connections as may be are there.
    Full,
    /// The link's own certificate, roots or revocation lists cannot be used.
    Unready,
    /// The peer showed no certificate.
    NoCertificate,
    /// What it showed is no certificate.
    Malformed,
    /// Its chain does not lead to the roots.
    Untrusted,
    /// An element of its chain is not valid now.
    OutOfTime,
    /// Its certificate is not made for this.
    Purpose,
    /// It is not on the list.
    Name,
    /// An element of its chain is revoked.
    Revoked,
    /// Whether it is revoked cannot be told.
    RevocationUnknown,
    /// The handshake failed otherwise: another version, another protocol, a peer that refused us.
    Handshake,
    /// The handshake took too long.
    Timeout,
    /// Where the link forwards to cannot be reached.
    Forward,
}

impl Reason {
    /// Every reason with its name in metrics and its code.
    pub const ALL: [(Self, &'static str, &'static str); 14] = [
        (Self::Gate, "gate", "KW4301"),
        (Self::Full, "full", "KW4302"),
        (Self::Unready, "unready", "KW4303"),
        (Self::NoCertificate, "no_certificate", "KW4304"),
        (Self::Malformed, "malformed", "KW4305"),
        (Self::Untrusted, "untrusted", "KW4306"),
        (Self::OutOfTime, "out_of_time", "KW4307"),
        (Self::Purpose, "purpose", "KW4308"),
        (Self::Name, "name", "KW4309"),
        (Self::Revoked, "revoked", "KW4310"),
        (Self::RevocationUnknown, "revocation_unknown", "KW4311"),
        (Self::Handshake, "handshake", "KW4312"),
        (Self::Timeout, "timeout", "KW4313"),
        (Self::Forward, "forward", "KW4314"),
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(r, ..)| *r == self).map_or("", |(_, name, _)| name)
    }

    /// Its stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::ALL.iter().find(|(r, ..)| *r == self).map_or("", |(.., code)| code)
    }

    /// Whether it says something about a peer or the path, so that it is worth an entry: whoever scans ports, or comes
    /// when there is no room, is only counted.
    #[must_use]
    pub fn is_telling(self) -> bool {
        !matches!(self, Self::Full | Self::Handshake | Self::Timeout | Self::Forward)
    }
}

/// A refusal with its sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Which kind.
    pub reason: Reason,
    /// What was seen, and what was expected.
    pub text: String,
}

impl Refusal {
    /// With its sentence.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

/// Whether the path lets bytes through at this moment. An open verdict whose time has come is closed.
///
/// # Errors
/// [`Reason::Gate`] with the codes.
pub fn passes(verdict: &Verdict, now: Timestamp) -> Result<(), Refusal> {
    let path = &verdict.path;
    if !verdict.is_open() {
        let mut codes: Vec<&str> = verdict.reasons.iter().map(|r| r.code).collect();
        codes.dedup();
        return Err(Refusal::new(Reason::Gate, format!("the path {path} is closed: {}", codes.join(", "))));
    }
    if now >= verdict.until {
        let text = format!("the path {path} was vouched for until {}", verdict.until);
        return Err(Refusal::new(Reason::Gate, text));
    }
    Ok(())
}

/// How a change of trust took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    /// When it was in force: every live peer was judged by it, and those who failed were cut.
    pub at: Timestamp,
    /// How long after the change: after the commit that revoked, for a private CA; after the look that found it, for files.
    pub took: Duration,
    /// Connections that were cut for it.
    pub cut: u64,
}

/// A link at one moment, for people and programs.
#[derive(Clone, Debug)]
pub struct Status {
    /// What was asked for.
    pub link: Arc<Link>,
    /// Why it refuses everybody now, if it does.
    pub closed: Option<Refusal>,
    /// What could not be read at the last look, even if the link goes on with what it read before.
    pub problem: Option<String>,
    /// The link's own certificate: its fingerprint, and when it ends.
    pub certificate: Option<(Digest, Timestamp)>,
    /// Digest of roots, revocation lists and peers in force.
    pub trust: Option<Digest>,
    /// With a private CA: the digest of the bundle in force, and since when it is.
    pub bundle: Option<(Digest, Timestamp)>,
    /// What the last change of trust took.
    pub swap: Option<Swap>,
    /// Connections now, those that shake hands included.
    pub connections: usize,
    /// Connections that were let through since the start.
    pub accepted: u64,
    /// Live connections that were cut.
    pub cut: u64,
    /// Refusals since the start, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Bytes that came from whoever connected.
    pub received: u64,
    /// Bytes that went to whoever connected.
    pub sent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gate::Reason as Why;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn presented(uris: &[&str], dns: &[&str]) -> Presented {
        Presented {
            uris: uris.iter().map(|u| (*u).to_owned()).collect(),
            dns: dns.iter().map(|d| Name::parse(d).unwrap()).collect(),
            spki: digest(7),
        }
    }

    fn peers(texts: &[&str]) -> Vec<PeerId> {
        texts.iter().map(|t| PeerId::parse(t).unwrap_or_else(|e| panic!("{t}: {e}"))).collect()
    }

    #[test]
    fn a_peer_is_somebody_on_the_list_exactly() {
        let spki = format!("spki:sha256/{}", digest(7));
        for (uris, dns, list, may) in [
            (&["spiffe://a.example/x"][..], &[][..], &["spiffe://a.example/x"][..], true),
            (&["spiffe://a.example/x"], &[], &["spiffe://a.example/x/y", "spiffe://a.example/xx"], false),
            (&["spiffe://A.example/x"], &[], &["spiffe://a.example/x"], false),
            (&["spiffe://a.example/x", "spiffe://a.example/y"], &[], &["spiffe://a.example/x"], false),
            (&[], &["app.example.com"], &["dns:App.Example.com"], true),
            (&[], &["*.example.com"], &["dns:app.example.com"], false),
            (&[], &["app.example.com"], &["dns:example.com", "spiffe://app.example.com/x"], false),
            (&[], &[], &[&*spki], true),
            (&[], &[], &[], false),
        ] {
            let list = peers(list);
            let found = allowed(&presented(uris, dns), &list);
            assert_eq!(found.is_ok(), may, "{uris:?} {dns:?} in {list:?}");
            assert!(may || found.is_err_and(|r| r.reason == Reason::Name));
        }
    }

    #[test]
    fn what_is_no_peer_is_refused() {
        for bad in [
            "",
            "app.example.com",
            "dns:",
            "dns:*.example.com",
            "dns:192.0.2.1",
            "spki:sha256/00",
            "spki:sha1/00",
            "spiffe://",
            "spiffe://a.example",
            "spiffe://a.example/",
            "spiffe:///x",
            "spiffe://a.example/x/",
            "spiffe://a.example//x",
            "spiffe://a.example/../x",
            "spiffe://A.example/x",
            "spiffe://a.example:443/x",
            "spiffe://u@a.example/x",
            "spiffe://a.example/x?y",
            "spiffe://a.example/%41",
            &format!("spiffe://a.example/{}", "x".repeat(2_048)),
        ] {
            assert!(PeerId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_lets_through_only_while_it_is_open_and_before_its_end() {
        let at = Timestamp::from_unix(1_000);
        let why = Why { code: "KW4004", credential: None, text: String::new(), reopens: "" };
        let path = PathId::parse("approve").unwrap();
        let boot = crate::domain::time::Boottime::from_boot(Duration::ZERO);
        let closed = Verdict { until: Timestamp::from_unix(1_010), ..Verdict::closed(&path, why, at, boot) };
        let verdict = Verdict { reasons: Vec::new(), ..closed.clone() };
        assert!(passes(&verdict, Timestamp::from_unix(1_009)).is_ok());
        assert!(passes(&verdict, Timestamp::from_unix(1_010)).is_err());
        let refusal = passes(&closed, at).unwrap_err();
        assert!(refusal.reason == Reason::Gate && refusal.text.contains("KW4004"), "{refusal}");
    }

    #[test]
    fn every_reason_has_a_name_and_a_code_of_its_own() {
        let mut names: Vec<&str> = Reason::ALL.iter().flat_map(|(_, name, code)| [*name, *code]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 2 * Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|(r, name, code)| r.as_str() == *name && r.code() == *code));
    }
}
