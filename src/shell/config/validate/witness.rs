//! `[witness]`: which logs are witnessed here. `[audit.witness]`: who witnesses our own.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::scalar;
use crate::codec::note::{Signs, VerifierKey};
use crate::domain::time::{DAY, MINUTE};
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::raw::{Section, Wrong};
use crate::shell::config::settings::{AuditWitness, Witness};

/// Where a witness listens if the file says nothing.
const LISTEN: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 9_182);
/// A witness knows at most this many logs.
const MOST_LOGS: usize = 1_024;
/// At most this many files with roots.
const MOST_ROOTS: usize = 64;
/// A round is one request to each witness: not more often than each second, and at least hourly.
const EVERY: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// The log grows every five minutes by itself: a witness may be behind for one at least.
const LAG: core::ops::RangeInclusive<Duration> = MINUTE..=DAY;

/// Reads `[witness]`; the key lies in `state` if the file does not say where.
pub(super) fn own(p: &mut Problems, root: &mut Section<'_>, state: Option<&Path>) -> Option<Witness> {
    let mut s = root.section(p, "witness", "[witness]")?;
    let key_file = s.parsed(p, "key_file", "\"/var/lib/keyward/witness.key\"", scalar::path);
    let listen = s.parsed(p, "listen", "\"127.0.0.1:9182\"", scalar::address);
    let remote = s.flag(p, "allow_remote").is_some_and(|f| f.value);
    if let Some(at) = listen.as_ref().filter(|a| !a.value.ip().is_loopback() && !remote) {
        let mend =
            "put a proxy with TLS before it, or set `allow_remote = true` if other machines may reach it as it is";
        let what = "`listen` of the witness is open to other machines";
        p.add("KW0050", &at.span, what, "not a loopback address", mend);
    }
    let mut logs = Vec::new();
    let mut seen: BTreeMap<[u8; 32], Span> = BTreeMap::new();
    for mut l in s.sections(p, "log", "[[witness.log]]", MOST_LOGS) {
        let key = l.need(p, "key", "\"log.example/a+1a2b3c4d+AQ…\"", log_key);
        let origin = l.parsed(p, "origin", "\"log.example/a\"", origin);
        if let Some(key) = key {
            if let Some(first) = seen.get(key.value.key()) {
                let mend = "name each key once; an origin may have several keys";
                p.add_with("KW0011", &key.span, "the key of a log that is there", "again", mend, (first, "first"));
            }
            let origin = origin.map_or_else(|| key.value.name().to_owned(), |o| o.value);
            seen.insert(*key.value.key(), key.span);
            logs.push((origin, key.value));
        }
        l.close(p);
    }
    if !s.has("log") {
        s.missing(p, "log", "[{ key = \"log.example/a+1a2b3c4d+AQ…\" }]");
    }
    s.close(p);
    let key_file = match key_file {
        Some(file) => PathBuf::from(file.value),
        None => state?.join("witness.key"),
    };
    Some(Witness { key_file, listen: listen.map_or(LISTEN, |l| l.value), logs })
}

/// Reads `[audit.witness]`.
pub(super) fn of_our_log(p: &mut Problems, audit: &mut Section<'_>) -> Option<AuditWitness> {
    let mut s = audit.section(p, "witness", "[audit.witness]")?;
    let policy = s.need(p, "policy", "\"/etc/keyward/witnesses.policy\"", scalar::path);
    let roots = s.texts(p, "root_files", MOST_ROOTS, "[\"/etc/keyward/ca.pem\"]");
    let mut root_files = Vec::new();
    for file in roots.into_iter().flat_map(|list| list.value) {
        match scalar::path(file.value) {
            Ok(file) => root_files.push(PathBuf::from(file)),
            Err(wrong) => p.add(wrong.code, &file.span, format!("`root_files` {}", wrong.what), "here", wrong.mend),
        }
    }
    let every = s.parsed(p, "every", "\"5s\"", |t| scalar::duration(t, EVERY));
    let lag = s.parsed(p, "lag", "\"15m\"", |t| scalar::duration(t, LAG));
    let demand = s.number(p, "demand_tier", 0..=4);
    s.close(p);
    Some(AuditWitness {
        policy: PathBuf::from(policy?.value),
        root_files,
        // As often as verdicts are computed anew.
        every: every.map_or(Duration::from_secs(5), |e| e.value),
        // Three heartbeats of the log.
        lag: lag.map_or(MINUTE * 15, |l| l.value),
        demand_tier: demand.and_then(|d| u8::try_from(d.value).ok()),
    })
}

fn log_key(text: &str) -> Result<VerifierKey, Wrong> {
    let mend = "write the log's public key as its operator gives it: NAME+ID+KEY";
    let key: VerifierKey =
        text.parse().map_err(|e| Wrong::new("KW6430", format!("{} is no public key: it {e}", quoted(text)), mend))?;
    if key.signs() == Signs::Notes {
        Ok(key)
    } else {
        Err(Wrong::new("KW6430", format!("{} is the key of a witness, not of a log", quoted(text)), mend))
    }
}

fn origin(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 255 {
        return Err(Wrong::new(
            "KW6430",
            "is empty or longer than 255 bytes",
            "write the first line of its checkpoints",
        ));
    }
    Ok(text.to_owned())
}
