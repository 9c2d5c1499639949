//! `[[solver]]`: how control over a name is proved.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Ids, scalar};
use crate::domain::id::SolverId;
use crate::domain::name::Name;
use crate::domain::time::HOUR;
use crate::shell::config::diagnostic::Problems;
use crate::shell::config::raw::{At, Section, Wrong, understood};
use crate::shell::config::settings::{
    DnsUpdate, HttpChallenge, Propagation, SolverKind, SolverSettings, TsigAlgorithm,
};

const MOST_SOLVERS: usize = 256;
/// A hook or service that takes longer than five minutes for one record hangs.
const CALL_TIMEOUT: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// Some DNS services take half an hour to publish; an authorization waits for days (RFC 8555 section 7.1.4).
const DEADLINE: core::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=HOUR;

/// All solvers of a file.
pub(super) struct Solvers<'a> {
    pub(super) ids: Ids<'a>,
    /// What each can prove; missing for one with a problem.
    pub(super) proves: BTreeMap<SolverId, Proves>,
    pub(super) settings: Vec<SolverSettings>,
}

/// What a kind of challenge can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proves {
    /// Hosts and addresses, no wildcards (http-01, tls-alpn-01).
    Hosts,
    /// Hosts and wildcards, no addresses (dns-01; RFC 8738 section 7).
    Domains,
}

#[derive(Clone, Copy)]
enum Type {
    Http,
    TlsAlpn,
    Dns,
}

pub(super) fn read_all<'a>(p: &mut Problems, root: &mut Section<'a>) -> Solvers<'a> {
    let mut all = Solvers { ids: Ids::default(), proves: BTreeMap::new(), settings: Vec::new() };
    for mut s in root.sections(p, "solver", "[[solver]]", MOST_SOLVERS) {
        let id = all.ids.read(p, &mut s, "\"web\"", SolverId::parse);
        if !s.has("type") {
            s.missing(p, "type", "\"http-01\"");
        }
        let words = [(Type::Http, "http-01"), (Type::TlsAlpn, "tls-alpn-01"), (Type::Dns, "dns-01")];
        let Some(kind) = s.word(p, "type", &words) else { continue };
        let read = match kind.value {
            Type::Http => http(p, &mut s),
            Type::TlsAlpn => tls_alpn(p, &mut s),
            Type::Dns => dns(p, &mut s),
        };
        s.close(p);
        let Some(id) = id else { continue };
        let proves = if matches!(kind.value, Type::Dns) { Proves::Domains } else { Proves::Hosts };
        all.proves.insert(id.value.clone(), proves);
        all.settings.extend(read.map(|kind| SolverSettings { id: id.value, kind }));
    }
    all
}

fn http(p: &mut Problems, s: &mut Section<'_>) -> Option<SolverKind> {
    let listen = addresses(p, s, "listen", "[\"0.0.0.0:80\"]");
    let webroot = s.parsed(p, "webroot", "\"/var/www/html\"", scalar::path);
    match (s.has("listen"), s.has("webroot")) {
        (true, false) => listen.map(|l| SolverKind::Http01(HttpChallenge::Listen(l))),
        (false, true) => webroot.map(|w| SolverKind::Http01(HttpChallenge::Webroot(PathBuf::from(w.value)))),
        (true, true) => {
            one_way(p, s, "`listen` and `webroot`");
            None
        }
        (false, false) => {
            let mend = "add listen = [\"0.0.0.0:80\"], or webroot = \"/var/www/html\" of a server that runs already";
            p.add("KW0062", &s.at, "an http-01 solver needs `listen` or `webroot`", "neither is here", mend);
            None
        }
    }
}

fn tls_alpn(p: &mut Problems, s: &mut Section<'_>) -> Option<SolverKind> {
    if !s.has("listen") {
        s.missing(p, "listen", "[\"0.0.0.0:443\"]");
    }
    addresses(p, s, "listen", "[\"0.0.0.0:443\"]").map(|listen| SolverKind::TlsAlpn01 { listen })
}

fn addresses(p: &mut Problems, s: &mut Section<'_>, key: &'static str, example: &str) -> Option<Vec<SocketAddr>> {
    let list = s.texts(p, key, 16, example)?;
    if list.value.is_empty() {
        p.add("KW0062", &list.span, format!("`{key}` is empty"), "no address", format!("write {key} = {example}"));
    }
    Some(list.value.into_iter().filter_map(|t| understood(p, key, t, scalar::address)).map(|a| a.value).collect())
}

fn one_way(p: &mut Problems, s: &Section<'_>, which: &str) {
    let what = format!("{which} are set, and a solver works in one way");
    p.add("KW0062", &s.at, what, "more than one way", "keep one of them; another way is another [[solver]]");
}

fn dns(p: &mut Problems, s: &mut Section<'_>) -> Option<SolverKind> {
    let ways: Vec<&str> = ["rfc2136", "exec", "webhook"].into_iter().filter(|k| s.has(k)).collect();
    let rfc2136 = s.section(p, "rfc2136", "[solver.rfc2136]").and_then(|r| rfc2136(p, r));
    let exec = argv(p, s, "exec");
    let timeout = s.parsed(p, "timeout", "\"60s\"", |t| scalar::duration(t, CALL_TIMEOUT));
    if let Some(timeout) = timeout.as_ref().filter(|_| !s.has("exec")) {
        let mend = "remove it; `timeout` goes with `exec`, and inside [solver.webhook] for a webhook";
        p.add("KW0062", &timeout.span, "`timeout` without `exec`", "of what?", mend);
    }
    let webhook = s.section(p, "webhook", "[solver.webhook]").and_then(|w| webhook(p, w));
    let section = s.section(p, "propagation", "[solver.propagation]");
    let propagation = propagation(p, section);
    let follow_cname = s.flag(p, "follow_cname").is_some_and(|f| f.value);
    let update = match ways.as_slice() {
        [] => {
            let mend = "add [solver.rfc2136], exec = [\"/path/hook\"], or [solver.webhook]";
            p.add("KW0062", &s.at, "a dns-01 solver needs a way to write records", "none is here", mend);
            None
        }
        [_] => rfc2136.or(webhook).or_else(|| {
            let timeout = timeout.map_or(Duration::from_secs(60), |t| t.value);
            exec.map(|argv| DnsUpdate::Exec { argv, timeout })
        }),
        several => {
            one_way(p, s, &several.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(" and "));
            None
        }
    };
    Some(SolverKind::Dns01 { update: update?, propagation, follow_cname })
}

fn rfc2136(p: &mut Problems, mut s: Section<'_>) -> Option<DnsUpdate> {
    let server = s.need(p, "server", "\"192.0.2.53\"", scalar::dns_server);
    let zone = s.parsed(p, "zone", "\"example.com\"", zone);
    let name = s.need(p, "tsig_name", "\"keyward\"", |t| {
        let mend = "write the key's name as the server knows it: \"keyward\"";
        scalar::host_name(t).ok_or_else(|| Wrong::new("KW0030", "is no key name", mend))
    });
    let algorithm = s.word(p, "tsig_algorithm", &TsigAlgorithm::ALL);
    let secret = s.need(p, "tsig_secret_file", "\"/etc/keyward/tsig.key\"", scalar::path);
    let ttl = s.number(p, "ttl", 0..=86_400);
    s.close(p);
    Some(DnsUpdate::Rfc2136 {
        server: server?.value,
        zone: zone.map(|z| z.value),
        tsig_name: name?.value,
        tsig_algorithm: algorithm.map_or(TsigAlgorithm::HmacSha256, |a| a.value),
        tsig_secret_file: PathBuf::from(secret?.value),
        // One minute: a wrong record is forgotten before the next try.
        ttl_secs: ttl.map_or(60, |t| t.value),
    })
}

fn zone(text: &str) -> Result<String, Wrong> {
    match Name::parse(text) {
        Ok(Name::Dns(zone)) if !zone.starts_with("*.") => Ok(zone.to_string()),
        _ => Err(Wrong::new("KW0030", "is no zone's name", "write the zone that takes the updates: \"example.com\"")),
    }
}

fn webhook(p: &mut Problems, mut s: Section<'_>) -> Option<DnsUpdate> {
    let url = s.need(p, "url", "\"https://dns.example/challenge\"", |t| {
        let url = scalar::url(t, &["https", "http"])?;
        let local = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if url.scheme() == "https" || local {
            return Ok(url);
        }
        let mend = "write https://, or use http:// on 127.0.0.1 only";
        Err(Wrong::new("KW0021", "is http:// to another machine: anyone on the way could write records", mend))
    });
    let secret = s.need(p, "secret_file", "\"/etc/keyward/webhook.key\"", scalar::path);
    let timeout = s.parsed(p, "timeout", "\"30s\"", |t| scalar::duration(t, CALL_TIMEOUT));
    s.close(p);
    Some(DnsUpdate::Webhook {
        url: url?.value.to_string(),
        secret_file: PathBuf::from(secret?.value),
        timeout: timeout.map_or(Duration::from_secs(30), |t| t.value),
    })
}

fn propagation(p: &mut Problems, section: Option<Section<'_>>) -> Propagation {
    // Five minutes: most secondaries follow a NOTIFY in seconds, slow services in minutes.
    let mut propagation =
        Propagation { check: true, deadline: Duration::from_secs(300), servers: Vec::new(), resolver: None };
    let Some(mut s) = section else { return propagation };
    if let Some(check) = s.flag(p, "check") {
        propagation.check = check.value;
    }
    if let Some(deadline) = s.parsed(p, "deadline", "\"5m\"", |t| scalar::duration(t, DEADLINE)) {
        propagation.deadline = deadline.value;
    }
    let servers = s.texts(p, "servers", 32, "[\"192.0.2.53\"]").map_or(Vec::new(), |l| l.value);
    propagation.servers =
        servers.into_iter().filter_map(|t| understood(p, "servers", t, scalar::dns_server)).map(|a| a.value).collect();
    propagation.resolver = s.parsed(p, "resolver", "\"127.0.0.53\"", scalar::dns_server).map(|a| a.value);
    s.close(p);
    propagation
}

/// A program with its arguments: no shell, the program by its absolute path.
pub(super) fn argv(p: &mut Problems, s: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let list: At<Vec<At<&str>>> = s.texts(p, key, 64, "[\"/usr/sbin/nginx\", \"-s\", \"reload\"]")?;
    let Some(program) = list.value.first() else {
        let mend = format!("write {key} = [\"/path/of/the/program\", \"argument\"]");
        p.add("KW0044", &list.span, format!("`{key}` names no program"), "empty", mend);
        return None;
    };
    if let Err(wrong) = scalar::path(program.value) {
        let mend = if program.value.contains(' ') && list.value.len() == 1 {
            let parts: Vec<String> = program.value.split_whitespace().map(|w| format!("{w:?}")).collect();
            format!("no shell is used: give each word its own string: [{}]", parts.join(", "))
        } else {
            format!("write the program's whole path; `command -v {}` prints it", program.value)
        };
        p.add("KW0044", &program.span, format!("the program of `{key}` {}", wrong.what), "no absolute path", mend);
        return None;
    }
    Some(list.value.iter().map(|t| t.value.to_owned()).collect())
}
