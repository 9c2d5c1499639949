//! `[[link]]`: enforcing proxies for mTLS.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ca::Cas;
use super::certificate::Credentials;
use super::{Ids, scalar};
use crate::domain::id::{CaId, CredentialId, LinkId, PathId};
use crate::domain::inventory::{ApprovalPath, Care, Source};
use crate::domain::link::{Address, Identity, Link, Listen, PeerId, Side};
use crate::domain::time::{DAY, MINUTE};
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::raw::{At, Section, Wrong, understood};

/// Each asks its gate ten times a second and reads its files every second.
const MOST_LINKS: usize = 64;
/// Roots and lists of one link.
const MOST_FILES: usize = 64;
/// Peers of one link: a list that people keep.
const MOST_PEERS: usize = 1_000;
/// Protocols inside TLS.
const MOST_PROTOCOLS: usize = 16;
/// Two descriptors and some 100 KiB each: ten thousand are a GiB.
const CONNECTIONS: core::ops::RangeInclusive<u32> = 1..=10_000;
/// Far below what the kernel's default of descriptors for a service allows (524,288), at 100 MiB.
const CONNECTIONS_BY_DEFAULT: u32 = 1_000;
/// Three round trips take a second around the world.
const HANDSHAKE: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=MINUTE;
/// A database's connections rest for hours.
const IDLE: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * DAY.as_secs());

const SIDES: [(Side, &str); 2] = [(Side::Server, "server"), (Side::Client, "client")];

pub(super) fn read_all<'a>(
    p: &mut Problems,
    root: &mut Section<'a>,
    credentials: &Credentials<'a>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
    cas: &Cas<'_>,
) -> Vec<Arc<Link>> {
    let mut ids = Ids::default();
    let mut doors: BTreeMap<String, Span> = BTreeMap::new();
    let mut links = Vec::new();
    for mut s in root.sections(p, "link", "[[link]]", MOST_LINKS) {
        let link = read(p, &mut s, &mut ids, &mut doors, credentials, paths, cas);
        s.close(p);
        links.extend(link.map(Arc::new));
    }
    links
}

fn read<'a>(
    p: &mut Problems,
    s: &mut Section<'a>,
    ids: &mut Ids<'a>,
    doors: &mut BTreeMap<String, Span>,
    credentials: &Credentials<'a>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
    cas: &Cas<'_>,
) -> Option<Link> {
    let id = ids.read(p, s, "\"portal-in\"", LinkId::parse);
    let path = guard(p, s, paths);
    if !s.has("side") {
        s.missing(p, "side", "\"server\"");
    }
    let side = s.word(p, "side", &SIDES).map(|w| w.value);
    let remote = s.flag(p, "allow_remote").is_some_and(|f| f.value);
    let listen = listen(p, s, side, remote, doors);
    let forward = forward(p, s, side, remote);
    let server_name = server_name(p, s, side);
    let identity = identity(p, s, credentials);
    let ca = private(p, s, cas);
    let roots = files(p, s, "roots", "[\"/etc/keyward/peers-ca.pem\"]");
    if !s.has("ca") && !s.has("roots") {
        s.missing(p, "roots", "[\"/etc/keyward/peers-ca.pem\"]");
    } else if roots.as_ref().is_some_and(|r| r.value.is_empty()) {
        let mend = "name the file with the CA of the peers; the system's roots are never taken for peers";
        p.add("KW4331", &s.value_span("roots"), "a link without `roots` trusts nobody", "empty", mend);
    }
    let crls = files(p, s, "crls", "[\"/etc/keyward/peers.crl\"]");
    let peers = peers(p, s);
    let alpn = alpn(p, s);
    let most = s.number(p, "max_connections", CONNECTIONS).map_or(CONNECTIONS_BY_DEFAULT, |n| n.value);
    let handshake = s.parsed(p, "handshake_timeout", "\"5s\"", |t| scalar::duration(t, HANDSHAKE));
    let idle = s.parsed(p, "idle_timeout", "\"15m\"", |t| scalar::duration(t, IDLE));
    Some(Link {
        id: id?.value,
        path: path?,
        side: side?,
        listen: listen?,
        forward: forward?,
        server_name,
        identity: identity?,
        ca: if s.has("ca") { Some(ca?) } else { None },
        roots: if s.has("roots") { roots?.value } else { Vec::new() },
        crls: if s.has("crls") { crls?.value } else { Vec::new() },
        peers: peers?,
        alpn,
        max_connections: usize::try_from(most).unwrap_or(1),
        handshake_timeout: handshake.map_or(Duration::from_secs(5), |h| h.value),
        idle_timeout: idle.map_or(MINUTE * 15, |i| i.value),
    })
}

/// The private CA whose bundle and lists peers are judged by.
fn private(p: &mut Problems, s: &mut Section<'_>, cas: &Cas<'_>) -> Option<CaId> {
    let ca = s.text(p, "ca", "\"mesh\"")?;
    if let Some(key) = ["roots", "crls"].into_iter().find(|key| s.has(key)) {
        let mend = "keep `ca`, which follows the CA through its rotations, or the files";
        p.add("KW4336", &s.key_span(key), format!("`{key}` beside `ca`"), "trust has two sources", mend);
    }
    if !cas.ids.contains(ca.value) {
        cas.ids.unknown(p, "ca", &ca);
        return None;
    }
    CaId::parse(ca.value).ok()
}

/// The path that guards it.
fn guard(p: &mut Problems, s: &mut Section<'_>, paths: &BTreeMap<PathId, Arc<ApprovalPath>>) -> Option<PathId> {
    let text = s.need_text(p, "path", "\"approve\"")?;
    if let Some(id) = PathId::parse(text.value).ok().filter(|id| paths.contains_key(id)) {
        return Some(id);
    }
    let mend = match p.did_you_mean(text.value, paths.keys().map(PathId::as_str)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "name a [[path]] of this file: without one nothing would ever close the link".to_owned(),
    };
    p.add("KW0012", &text.span, format!("there is no path {}", quoted(text.value)), "unknown", mend);
    None
}

fn listen(
    p: &mut Problems,
    s: &mut Section<'_>,
    side: Option<Side>,
    remote: bool,
    doors: &mut BTreeMap<String, Span>,
) -> Option<Listen> {
    let why = "a socket needs read and write for its owner, and no execute bits";
    let mode = s.parsed(p, "socket_mode", "\"0660\"", |t| scalar::mode(t, 0o666, 0o600, why));
    let group = s.parsed(p, "socket_group", "\"www-data\"", scalar::account);
    let text = s.need_text(p, "listen", "\"0.0.0.0:8443\"")?;
    let unix = text.value.starts_with('/');
    let alone = ["socket_mode", "socket_group"].into_iter().find(|key| s.has(key));
    if let Some(key) = alone.filter(|_| !unix) {
        let what = format!("`{key}`, and `listen` is no Unix socket");
        p.add("KW0004", &s.key_span(key), what, "of which socket?", "remove it, or listen on a path");
    }
    let listen = if unix {
        let path = understood(p, "listen", text, scalar::socket_path)?;
        let listen =
            Listen::Unix { path: path.value, mode: mode.map_or(0o660, |m| m.value), group: group.map(|g| g.value) };
        At { value: listen, span: path.span }
    } else {
        let address = understood(p, "listen", text, scalar::address)?;
        let open = side == Some(Side::Client) && !address.value.ip().is_loopback() && !remote;
        if open {
            let what = "whoever reaches `listen` speaks as this link, and other machines reach it";
            p.add("KW4335", &address.span, what, "plain, and not loopback", PLAIN);
        }
        At { value: Listen::Tcp(address.value), span: address.span }
    };
    if let Some(first) = doors.get(&listen.value.to_string()) {
        let what = format!("two links listen on {}", listen.value);
        p.add_with("KW0040", &listen.span, what, "again", "give each a place of its own", (first, "first"));
    }
    doors.insert(listen.value.to_string(), listen.span);
    Some(listen.value)
}

const PLAIN: &str = "use a loopback address or a Unix socket; only if the network between is trusted, set \
                     `allow_remote = true`";

fn forward(p: &mut Problems, s: &mut Section<'_>, side: Option<Side>, remote: bool) -> Option<Address> {
    let forward = s.need(p, "forward", "\"127.0.0.1:8080\"", |t| {
        if t.starts_with('/') {
            return scalar::socket_path(t).map(Address::Unix);
        }
        scalar::host_port(t).map(|(host, port)| Address::Tcp { host, port })
    })?;
    let local = match &forward.value {
        Address::Unix(_) => true,
        Address::Tcp { host, .. } => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    };
    if side == Some(Side::Server) && !local && !remote {
        let what = "what comes through this link would go on to another machine without TLS";
        p.add("KW4335", &forward.span, what, "plain, and not loopback", PLAIN);
    }
    Some(forward.value)
}

fn server_name(p: &mut Problems, s: &mut Section<'_>, side: Option<Side>) -> Option<String> {
    let name = s.parsed(p, "server_name", "\"peer.example.com\"", |t| {
        let host = if t.parse::<IpAddr>().is_ok() { Some(t.to_owned()) } else { scalar::host_name(t) };
        host.ok_or_else(|| {
            Wrong::new("KW0030", format!("is no server name: {}", quoted(t)), "write a host name or an address")
        })
    });
    match side {
        Some(Side::Client) if !s.has("server_name") => s.missing(p, "server_name", "\"peer.example.com\""),
        Some(Side::Server) if s.has("server_name") => {
            let mend = "remove it: a server answers whoever is in `peers`, whatever name they ask for";
            p.add("KW4334", &s.key_span("server_name"), "`server_name` on the server side", "of no use", mend);
        }
        Some(_) | None => {}
    }
    name.map(|n| n.value)
}

/// A credential that has its key here, or a pair of files.
fn identity(p: &mut Problems, s: &mut Section<'_>, credentials: &Credentials<'_>) -> Option<Identity> {
    let credential = s.text(p, "credential", "\"portal\"");
    let certificate = s.parsed(p, "cert_file", "\"/etc/keyward/link.pem\"", scalar::path);
    let key = s.parsed(p, "key_file", "\"/etc/keyward/link.key\"", scalar::path);
    let contradiction = match (s.has("credential"), s.has("cert_file"), s.has("key_file")) {
        (true, true, _) => Some("`credential` and `cert_file` contradict each other"),
        (false, true, false) => Some("`cert_file` without `key_file`"),
        (false, false, _) => Some("the link has nothing to prove itself with"),
        (true, false, _) | (false, true, true) => None,
    };
    if let Some(what) = contradiction {
        let mend = "name one `credential`, or both `cert_file` and `key_file` (they may be the same file)";
        p.add("KW4332", &s.at, what, "here", mend);
        return None;
    }
    let Some(credential) = credential else {
        return Some(Identity::Files { credential: None, certificate: certificate?.value, key: key?.value });
    };
    if !credentials.ids.contains(credential.value) {
        credentials.ids.unknown(p, "certificate or observed credential", &credential);
        return None;
    }
    let id = CredentialId::parse(credential.value).ok()?;
    let mut no_key = |what: &str, mend: &str| {
        p.add("KW4333", &credential.span, format!("{} {what}", quoted(credential.value)), "no key here", mend);
        None
    };
    if credentials.watches.contains_key(&id) {
        return no_key("is a pattern of files", "observe the one `file` that the link is to use");
    }
    // One with a problem of its own is reported there.
    match &credentials.managed_and_observed.get(&id)?.care {
        Care::Managed(_) if s.has("key_file") => {
            no_key("is managed, and its key lies in the key store", "remove `key_file`")
        }
        Care::Managed(_) => Some(Identity::Managed(id)),
        Care::Observed(Source::File { password_file: Some(_), .. }) => {
            no_key("is a PKCS#12 file", "name PEM files: `cert_file` and `key_file`")
        }
        Care::Observed(Source::File { path, password_file: None }) => {
            let key = if s.has("key_file") { key?.value } else { path.clone() };
            Some(Identity::Files { credential: Some(id), certificate: path.clone(), key })
        }
        Care::Observed(Source::Endpoints) => {
            no_key("is seen at endpoints only", "name files: `cert_file` and `key_file`")
        }
    }
}

fn files(p: &mut Problems, s: &mut Section<'_>, key: &'static str, example: &str) -> Option<At<Vec<String>>> {
    let list = s.texts(p, key, MOST_FILES, example)?;
    let count = list.value.len();
    let files: Vec<String> =
        list.value.into_iter().filter_map(|t| understood(p, key, t, scalar::path)).map(|f| f.value).collect();
    (files.len() == count).then_some(At { value: files, span: list.span })
}

fn peers(p: &mut Problems, s: &mut Section<'_>) -> Option<Vec<PeerId>> {
    const EXAMPLE: &str = "[\"spiffe://example.com/policy-engine\"]";
    if !s.has("peers") {
        s.missing(p, "peers", EXAMPLE);
    }
    let list = s.texts(p, "peers", MOST_PEERS, EXAMPLE)?;
    if list.value.is_empty() {
        let mend = format!("name who may speak, for example: peers = {EXAMPLE}");
        p.add("KW4331", &list.span, "a link without `peers` lets nobody through", "empty", mend);
        return None;
    }
    let count = list.value.len();
    let mut seen = BTreeSet::new();
    let mut peers = Vec::with_capacity(count);
    for text in list.value {
        let peer = understood(p, "peers", text, |t| {
            let mend =
                "write \"spiffe://DOMAIN/PATH\", \"dns:NAME\" or \"spki:sha256/HEX\"; nothing stands for several";
            PeerId::parse(t).map_err(|why| Wrong::new("KW4330", format!("hold {}, which {why}", quoted(t)), mend))
        });
        let Some(peer) = peer else { continue };
        if seen.insert(peer.value.clone()) {
            peers.push(peer.value);
        } else {
            let what = format!("{} stands twice", quoted(&peer.value.to_string()));
            p.add("KW0011", &peer.span, what, "second time", "remove one of them");
        }
    }
    (peers.len() == count).then_some(peers)
}

/// Names of protocols (RFC 7301 section 3.1): 1–255 bytes.
fn alpn(p: &mut Problems, s: &mut Section<'_>) -> Vec<String> {
    let Some(list) = s.texts(p, "alpn", MOST_PROTOCOLS, "[\"h2\", \"http/1.1\"]") else { return Vec::new() };
    let protocol = |t: &str| match t.len() {
        1..=255 => Ok(t.to_owned()),
        _ => Err(Wrong::new("KW0023", "holds an empty or too long name", "write for example \"h2\"")),
    };
    list.value.into_iter().filter_map(|t| understood(p, "alpn", t, protocol)).map(|t| t.value).collect()
}
