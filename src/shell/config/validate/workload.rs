//! `[workload_api]` and `[[workload]]`: programs of this machine that get SPIFFE IDs over a socket.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::ca::Cas;
use super::scalar;
use crate::domain::authority;
use crate::domain::id::PathId;
use crate::domain::inventory::ApprovalPath;
use crate::domain::name::{Name, NameSet};
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{DAY, MINUTE};
use crate::domain::workload::{Selector, Workload};
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{Section, Wrong, understood};
use crate::shell::config::settings::{UnixSocket, WorkloadApi};

/// Each may have a certificate that is renewed while somebody listens.
const MOST_WORKLOADS: usize = 1_000;
/// Selectors of one workload: there are four kinds.
const MOST_SELECTORS: usize = 16;
/// Names besides the SPIFFE ID.
const MOST_NAMES: usize = 64;
/// A connection costs a descriptor, one of its process, and some 100 KiB.
const CONNECTIONS: core::ops::RangeInclusive<u32> = 1..=10_000;
/// Streams of one user: an Envoy has one for each secret of each listener, and twice as many while it restarts hot.
const STREAMS: core::ops::RangeInclusive<u32> = 1..=10_000;
/// The same as for a profile, less five minutes of what is never issued.
const LIFETIMES: core::ops::RangeInclusive<Duration> = MINUTE.saturating_mul(5)..=DAY.saturating_mul(398);

pub(super) fn read_all(
    p: &mut Problems,
    root: &mut Section<'_>,
    cas: &Cas<'_>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
) -> (Option<WorkloadApi>, Arc<[Workload]>) {
    let api = root.section(p, "workload_api", "[workload_api]");
    let there = api.is_some();
    let api = api.and_then(|s| door(p, s));
    let mut workloads = Vec::new();
    for mut s in root.sections(p, "workload", "[[workload]]", MOST_WORKLOADS) {
        if !there {
            let mend = "add [workload_api] with socket = \"/run/keyward/workload.sock\"";
            p.add("KW0075", &s.at, "a workload, and no socket at which it could ask", "asks where?", mend);
        }
        let workload = read(p, &mut s, cas, paths);
        s.close(p);
        workloads.extend(workload);
    }
    if there && !root.has("workload") {
        let mend = "add a [[workload]] with spiffe, ca, ca_profile and selectors, or remove [workload_api]";
        p.add("KW0075", &root.key_span("workload_api"), "a socket at which nobody gets anything", "for whom?", mend);
    }
    (api, workloads.into())
}

fn door(p: &mut Problems, mut s: Section<'_>) -> Option<WorkloadApi> {
    let path = s.need(p, "socket", "\"/run/keyward/workload.sock\"", scalar::socket_path);
    let why = "a socket needs read and write for its owner, and no execute bits";
    let mode = s.parsed(p, "socket_mode", "\"0666\"", |t| scalar::mode(t, 0o666, 0o600, why));
    let group = s.parsed(p, "socket_group", "\"mesh\"", scalar::account);
    let connections = s.number(p, "max_connections", CONNECTIONS).map_or(1_000, |n| n.value);
    let streams = s.number(p, "max_streams_per_user", STREAMS).map_or(256, |n| n.value);
    s.close(p);
    let socket = UnixSocket {
        path: PathBuf::from(path?.value),
        // Whoever connects is known by the kernel, so everybody may.
        mode: mode.map_or(0o666, |m| m.value),
        group: group.map(|g| g.value),
    };
    let count = |n: u32| usize::try_from(n).unwrap_or(1);
    Some(WorkloadApi { socket, max_connections: count(connections), max_streams_per_user: count(streams) })
}

fn read(
    p: &mut Problems,
    s: &mut Section<'_>,
    cas: &Cas<'_>,
    paths: &BTreeMap<PathId, Arc<ApprovalPath>>,
) -> Option<Workload> {
    let spiffe = s.need(p, "spiffe", "\"spiffe://mesh.example/ns/prod/sa/web\"", |t| {
        let mend = "write it as spiffe://TRUST-DOMAIN/PATH, in the trust domain of the CA";
        SpiffeId::parse(t).ok_or_else(|| Wrong::new("KW0070", format!("is no SPIFFE ID: {}", quoted(t)), mend))
    });
    let route = cas.route(p, s);
    let names = names(p, s);
    let lifetime = s.parsed(p, "lifetime", "\"1h\"", |t| scalar::duration(t, LIFETIMES));
    let selectors = selectors(p, s);
    let path = s.text(p, "path", "\"approve\"");
    let path = match path {
        None => Some(None),
        Some(text) => match PathId::parse(text.value).ok().filter(|id| paths.contains_key(id)) {
            Some(id) => Some(Some(id)),
            None => {
                let mend = match p.did_you_mean(text.value, paths.keys().map(PathId::as_str)) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "name a [[path]] of this file, or leave `path` out".to_owned(),
                };
                p.add("KW0012", &text.span, format!("there is no path {}", quoted(text.value)), "unknown", mend);
                None
            }
        },
    };
    let spiffe = spiffe?;
    let (ca, profile) = route?;
    let names = names?;
    let known = ca.profiles.get(&profile)?;
    if let Err(refusal) = authority::covers(&ca, known, &names, Some(&spiffe.value)) {
        let mend = "add a pattern to the profile, or choose another one";
        p.add("KW0072", &spiffe.span, refusal.to_string(), "would be refused", mend);
    }
    if let Some(long) = lifetime.as_ref().filter(|l| l.value > known.lifetime) {
        let mend = "choose a `lifetime` no longer than that of the profile, or leave it out";
        p.add("KW0072", &long.span, "a longer life than the profile gives", "would be refused", mend);
    }
    Some(Workload {
        spiffe: spiffe.value,
        ca: ca.id.clone(),
        profile,
        names,
        lifetime: lifetime.map(|l| l.value),
        selectors: selectors?,
        path: path?,
    })
}

fn names(p: &mut Problems, s: &mut Section<'_>) -> Option<NameSet> {
    if !s.has("names") {
        return Some(NameSet::default());
    }
    let list = s.texts(p, "names", MOST_NAMES, "[\"web.svc.example\"]")?;
    let count = list.value.len();
    let names: Vec<Name> = list
        .value
        .into_iter()
        .filter_map(|text| {
            understood(p, "names", text, |t| {
                let mend = "write a whole DNS name or an IP address: \"web.svc.example\"";
                Name::parse(t).map_err(|e| Wrong::new("KW0030", format!("hold {}, which {e}", quoted(t)), mend))
            })
        })
        .map(|at| at.value)
        .collect();
    (names.len() == count).then(|| NameSet::new(names))
}

fn selectors(p: &mut Problems, s: &mut Section<'_>) -> Option<Vec<Selector>> {
    const EXAMPLE: &str = "[\"unix:uid:1000\", \"unix:path:/usr/bin/web\"]";
    if !s.has("selectors") {
        s.missing(p, "selectors", EXAMPLE);
    }
    let list = s.texts(p, "selectors", MOST_SELECTORS, EXAMPLE)?;
    if list.value.is_empty() {
        let mend = format!("say by what its processes are known, for example: selectors = {EXAMPLE}");
        p.add("KW0075", &list.span, "a workload without selectors is nobody", "empty", mend);
        return None;
    }
    let (count, span) = (list.value.len(), list.span.clone());
    let all: Vec<Selector> = list
        .value
        .into_iter()
        .filter_map(|text| {
            understood(p, "selectors", text, |t| {
                let mend =
                    "write unix:uid:NUMBER, unix:gid:NUMBER, unix:path:/PROGRAM or unix:sha256:HEX; all have to match";
                Selector::parse(t).map_err(|why| Wrong::new("KW0075", format!("hold {}, which {why}", quoted(t)), mend))
            })
        })
        .map(|at| at.value)
        .collect();
    if all.len() != count {
        return None;
    }
    // Anybody may start a program: a process connects, is replaced by it (exec), and keeps its connection and its descriptor.
    if !all.iter().any(|selector| matches!(selector, Selector::Uid(_) | Selector::Gid(_))) {
        let mend = "add the user that it runs as, unix:uid:NUMBER, or the group, unix:gid:NUMBER: any local user may connect \
                    and then become that program, with what it was given";
        p.add("KW0075", &span, "a workload that every user of this machine can be", "whose is it?", mend);
        return None;
    }
    Some(all)
}
