//! Every rule of the configuration, section by section; all problems of a file are found in one pass.
//!
//! Order: settings of the guardian, issuers and solvers first, then certificates and observed credentials that name
//! them, then paths and policy that name those. A section with a problem still counts as there, so that one mistake is
//! reported once.

mod audit;
mod ca;
mod cases;
mod certificate;
mod contract;
mod crl;
mod directory;
mod freeze;
mod graph;
mod guard;
mod install;
mod issuer;
mod key;
mod lifetime;
mod link;
mod party;
mod path;
mod place;
mod policy;
mod policy_file;
mod scalar;
mod schedule;
mod solver;
mod witness;
mod workload;

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;

use super::diagnostic::{ConfigError, Problems, Span, quoted};
use super::raw::{self, At, Section, Wrong};
use super::settings::Settings;
use super::{LONGEST_FILE, Overrides};

pub(super) use self::cases::read as read_cases;
pub(super) use self::contract::{judge as judge_contract, read as read_contract};
pub(super) use self::policy_file::read as read_policy_file;
use crate::domain::inventory::{Environment, Estate, HEARTBEAT, Reopening};
use crate::domain::time::{DAY, HOUR, MINUTE};

/// Observing everything again takes I/O for each certificate: not more often than each minute, and at least daily.
const FULL_SCAN: core::ops::RangeInclusive<Duration> = MINUTE..=DAY;
/// A gate closes when a probe's answer is stale: six hours is what a 6-day certificate can bear.
const PROBE_EVERY: core::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(6 * 3_600);

/// Longer than an hour nobody waits for what is good again; zero opens at once.
const REOPEN_AFTER: core::ops::RangeInclusive<Duration> = Duration::ZERO..=HOUR;

/// Reads a whole text; `beside` is the directory in which files that it names by a relative path lie.
pub(super) fn document(
    source_name: &str,
    text: &str,
    overrides: Overrides,
    beside: Option<&Path>,
) -> Result<Settings, ConfigError> {
    if text.len() > LONGEST_FILE {
        let what = format!("the configuration has {} bytes; at most {LONGEST_FILE} are read", text.len());
        return Err(ConfigError::about_file(source_name, what));
    }
    let mut problems = Problems::default();
    let table = raw::parse(text, &mut problems);
    // What is left of broken TOML is misleading: a missing quote would look like a dozen missing keys.
    problems.finish(source_name, text)?;
    let mut files = policy::Files::new(beside);
    let settings = root(&mut problems, Section::new("the configuration", &table), text, &overrides, &mut files);
    ConfigError::all(problems.finish(source_name, text).err().into_iter().chain(files.errors))?;
    settings.ok_or_else(|| ConfigError::about_file(source_name, "the configuration is not complete".to_owned()))
}

fn root(
    p: &mut Problems,
    mut root: Section<'_>,
    text: &str,
    overrides: &Overrides,
    files: &mut policy::Files<'_>,
) -> Option<Settings> {
    let place = place::read(p, &mut root, overrides);
    let (audit, audit_witness) = audit::read(p, &mut root, &place);
    let section = root.section(p, "timing", "[timing]");
    let timing = timing(p, section);
    let lists = crl::read(p, &mut root);
    let freezing = freeze::read(p, &mut root);
    let cas = ca::read_all(p, &mut root, place.state_dir.as_deref());
    let directories = directory::read_all(p, &mut root, &cas);
    let parties = party::read_all(p, &mut root, &cas);
    let mut rotations = cas.rotations.clone();
    party::assign(&mut rotations, &parties);
    let issuers = issuer::read_all(p, &mut root, place.environment, &cas);
    let solvers = solver::read_all(p, &mut root);
    let mut credentials = certificate::Credentials::default();
    let world = certificate::World {
        issuers: &issuers,
        cas: &cas.all,
        solvers: &solvers,
        state_dir: place.production_state.as_deref(),
    };
    credentials.read_managed(p, &mut root, &world);
    credentials.read_observed(p, &mut root);
    let (paths, named) = path::read_paths(p, &mut root, &credentials, place.environment);
    let keys = key::read_all(p, &mut root, &paths, &named);
    let (policy, usual) = policy::read(p, &mut root, files);
    let approvals = graph::resolve(p, &credentials.approvals, usual.as_ref(), &paths);
    let policy = policy.with_approvals(approvals.own.clone(), approvals.usual.clone());
    let own_witness = witness::own(p, &mut root, place.production_state.as_deref());
    let links = link::read_all(p, &mut root, &credentials, &paths, &cas);
    if let Some(state) = &place.state_dir {
        party::check_links(p, &root.at, &links, &cas, &crate::shell::wire::pki_of(state));
    }
    let (workload_api, workloads) = workload::read_all(p, &mut root, &cas, &paths);
    // A dry run vouches for nobody, and stands at no door of production.
    let real = place.environment == Environment::Production;
    root.close(p);

    let estate = Estate {
        credentials: credentials.managed_and_observed,
        issuers: issuers.estate,
        paths,
        watches: credentials.watches,
        keys,
        policy,
        environment: place.environment,
        full_scan: timing.full_scan,
        probe_every: timing.probe_every,
        lists_every: lists.refresh,
        orders_in_flight: timing.orders_in_flight,
        reopening: timing.reopening,
        freezing,
        heartbeat: HEARTBEAT,
    };
    graph::judge(p, &estate, &approvals);
    let state_dir = place.state_dir?;
    Some(Settings {
        estate,
        sandbox_dir: (place.environment == Environment::Staging).then(|| state_dir.join("sandbox")),
        state_dir,
        listen: place.listen?,
        audit,
        issuers: issuers.settings,
        private_issuers: issuers.private,
        rotations: rotations.into_iter().map(|(id, setting)| (id, std::sync::Arc::new(setting))).collect(),
        parties,
        cas: cas.all,
        keyholder: cas.keyholder,
        // In a dry run nobody gets anything from a CA of production.
        directories: if real { directories } else { Vec::new() },
        solvers: solvers.settings,
        lists_allow: lists.allow,
        witness: own_witness.filter(|_| real),
        audit_witness,
        links: if real { links } else { Vec::new() },
        workload_api: workload_api.filter(|_| real),
        workloads,
        digest: files.digest(text),
        path: None,
    })
}

/// One of the files that a configuration names, or one that stands for itself.
pub(super) fn another<T>(
    source_name: &str,
    text: &str,
    read: impl FnOnce(&mut Problems, Section<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let mut problems = Problems::default();
    let table = raw::parse(text, &mut problems);
    problems.finish(source_name, text)?;
    let made = read(&mut problems, Section::new("the file", &table));
    problems.finish(source_name, text)?;
    made.ok_or_else(|| ConfigError::about_file(source_name, "the file is not complete".to_owned()))
}

struct Timing {
    full_scan: Duration,
    probe_every: Duration,
    orders_in_flight: usize,
    reopening: Reopening,
}

fn timing(p: &mut Problems, section: Option<Section<'_>>) -> Timing {
    // A probe of each endpoint every five minutes notices a wrong certificate before most people do; eight orders at once
    // keep well below the CAs' request limits.
    let mut timing = Timing {
        full_scan: HOUR,
        probe_every: Duration::from_secs(300),
        orders_in_flight: 8,
        reopening: Reopening::USUAL,
    };
    let Some(mut s) = section else { return timing };
    if let Some(span) = s.parsed(p, "full_scan", "\"1h\"", |t| scalar::duration(t, FULL_SCAN)) {
        timing.full_scan = span.value;
    }
    if let Some(span) = s.parsed(p, "probe_every", "\"5m\"", |t| scalar::duration(t, PROBE_EVERY)) {
        timing.probe_every = span.value;
    }
    if let Some(number) = s.number(p, "orders_in_flight", 1..=64) {
        timing.orders_in_flight = usize::try_from(number.value).unwrap_or(1);
    }
    if let Some(span) = s.parsed(p, "reopen_after", "\"60s\"", |t| scalar::duration(t, REOPEN_AFTER)) {
        timing.reopening.after = span.value;
    }
    if let Some(number) = s.number(p, "flaps", 0..=100) {
        timing.reopening.flaps = number.value;
    }
    s.close(p);
    timing
}

/// Ids of one kind: where each was first seen.
#[derive(Debug, Default)]
struct Ids<'a> {
    seen: BTreeMap<&'a str, Span>,
}

impl<'a> Ids<'a> {
    /// Reads a section's `id`; says so if it is no slug or is taken.
    fn read<T>(
        &mut self,
        p: &mut Problems,
        s: &mut Section<'a>,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, crate::domain::id::SlugError>,
    ) -> Option<At<T>> {
        let text = s.need_text(p, "id", example)?;
        if let Some(first) = self.seen.get(text.value) {
            let mend = "give each its own id; certificates and observed credentials share one set of ids";
            let what = format!("the id {} is taken", quoted(text.value));
            p.add_with("KW0011", &text.span, what, "second time", mend, (first, "first time"));
            return None;
        }
        self.seen.insert(text.value, text.span.clone());
        raw::understood(p, "id", text, |t| {
            parse(t).map_err(|e| {
                let slug: String =
                    t.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
                let slug = slug.trim_matches('-');
                let slug = slug.get(..slug.len().min(63)).filter(|s| !s.is_empty()).unwrap_or("portal");
                Wrong::new("KW0010", format!("{} {e}", quoted(t)), format!("write for example \"{slug}\""))
            })
        })
    }

    fn contains(&self, id: &str) -> bool {
        self.seen.contains_key(id)
    }

    /// Says that nothing has this id.
    fn unknown(&self, p: &mut Problems, kind: &str, id: &At<&str>) {
        let mend = match p.did_you_mean(id.value, self.seen.keys().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if self.seen.is_empty() => format!("the configuration has no {kind} at all: add one"),
            None => {
                let some: Vec<&str> = self.seen.keys().copied().take(8).collect();
                format!("there are: {}{}", some.join(", "), if self.seen.len() > 8 { ", …" } else { "" })
            }
        };
        p.add("KW0012", &id.span, format!("there is no {kind} {}", quoted(id.value)), "unknown", mend);
    }
}
