//! From the engine's views to what travels.

use std::collections::BTreeMap;

use super::{Web, freezes, model};
use crate::domain::assessment::Severity;
use crate::domain::certificate::{Chain, Trust};
use crate::domain::execution::{Attempt, Stage};
use crate::domain::gate::Verdict;
use crate::domain::inventory::{
    Care, Credential, Environment, Format, Install, Layout, Managed, ReloadHow, Seen, Sighting, Source,
};
use crate::domain::plan::{HeldReason, schedule_of};
use crate::domain::policy::{Act, Subject, Tier, tier};
use crate::domain::renewal::Rule;
use crate::domain::time::{Timestamp, Validity};
use crate::engine::view::{CredentialView, RenewalPreview};
use crate::ports::Urgency;

fn text(value: impl ToString) -> String {
    value.to_string()
}

/// The newest so many notices are shown.
const MOST_NOTICES: usize = 50;

/// A gate's verdict.
pub(super) fn gate(verdict: &Verdict, since: Option<Timestamp>, environment: Environment) -> model::Gate {
    let reason = |r: &crate::domain::gate::Reason| model::Reason {
        code: r.code.to_owned(),
        credential: r.credential.as_ref().map(text),
        text: r.text.clone(),
        reopens: r.reopens.to_owned(),
    };
    model::Gate {
        path: text(&verdict.path),
        open: verdict.is_open(),
        reasons: verdict.reasons.iter().map(reason).collect(),
        warnings: verdict.warnings.iter().map(reason).collect(),
        since: since.map(text),
        until: verdict.is_open().then(|| text(verdict.until)),
        weakest: verdict.weakest.as_deref().map(str::to_owned),
        evaluated_at: text(verdict.at),
        environment: environment.as_str().to_owned(),
        kind: None,
        nonce: None,
        freezes: Vec::new(),
    }
}

/// All gates, each with the freezes over it.
pub(super) fn gates(web: &Web) -> Vec<model::Gate> {
    let freezes = web.engine.freezes();
    let over = |path| freezes.iter().filter(move |f| f.paths.contains(path)).map(|f| text(f.id)).collect();
    let gates = web.engine.gates();
    let gates = gates
        .iter()
        .map(|(verdict, since)| model::Gate { freezes: over(&verdict.path), ..gate(verdict, *since, web.environment) });
    gates.collect()
}

/// The guardian as a whole.
pub(super) fn status(web: &Web) -> model::Status {
    let overview = web.engine.overview();
    let mut credentials: BTreeMap<String, usize> =
        ["ok", "note", "warning", "critical"].map(|s| (s.to_owned(), 0)).into();
    let watches = web.engine.empty_watches();
    let views = web.engine.credentials();
    let all = views.iter().map(|v| &v.findings).chain(watches.iter().map(|(_, f)| f));
    for findings in all {
        let severity = findings.iter().map(|f| f.severity).max().map_or("ok", Severity::as_str);
        let count = credentials.entry(severity.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
    let gates = web.engine.gates();
    let open = gates.iter().filter(|(v, _)| v.is_open()).count();
    let mut remaining: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    web.engine.for_each_limit(|issuer, limit, left| {
        remaining.entry(text(issuer)).or_default().insert(limit.to_owned(), left);
    });
    let issuers = overview.issuers.iter().map(|(id, record)| model::Issuer {
        id: text(id),
        failures: record.failures,
        open_until: record.open_until.filter(|at| *at > overview.now).map(text),
        last_success: record.last_success.map(text),
        remaining: remaining.remove(id.as_str()).unwrap_or_default(),
    });
    let notices = (web.notices)();
    let notice = |n: &crate::ports::Notice| model::Notice {
        about: n.about.clone(),
        code: n.code.to_owned(),
        text: n.text.clone(),
        urgent: n.urgent == Urgency::Act,
    };
    model::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: overview.environment.as_str().to_owned(),
        started: text(overview.started),
        now: text(overview.now),
        alive: overview.alive,
        clock_fault: overview.clock_fault.clone(),
        store_fault: overview.store_fault.clone(),
        sealed: overview.sealed.as_ref().map(|s| model::Sealed { code: s.code.to_owned(), text: s.text.clone() }),
        spooled: overview.spooled,
        freezes: freezes::all(web),
        in_flight: overview.in_flight,
        credentials,
        gates_open: open,
        gates_closed: gates.len().saturating_sub(open),
        issuers: issuers.collect(),
        notices: notices.iter().rev().take(MOST_NOTICES).map(notice).collect(),
    }
}

/// How much hangs on a credential.
pub(super) fn credential_tier(credential: &Credential, paths: usize) -> Tier {
    tier(&Subject::new(Act::Renew, &credential.labels, paths))
}

/// All credentials for a list, the empty watches after the rest.
pub(super) fn credentials(web: &Web) -> Vec<model::Credential> {
    let now = web.clock.now();
    let mut all: Vec<_> = web.engine.credentials().iter().map(|v| credential(v, now, web.environment)).collect();
    all.extend(web.engine.empty_watches().into_iter().map(|(id, findings)| model::Credential {
        id: text(id),
        kind: "observed".into(),
        severity: findings.iter().map(|f| f.severity).max().map_or("ok", Severity::as_str).to_owned(),
        findings: findings.iter().map(finding).collect(),
        stored: "missing".into(),
        served: "none".into(),
        next: "waits for a file that matches".into(),
        ..model::Credential::default()
    }));
    all
}

pub(super) fn finding(f: &crate::domain::assessment::Finding) -> model::Finding {
    model::Finding { code: f.code.to_owned(), severity: f.severity.as_str().to_owned(), text: f.text.clone() }
}

/// One credential for a list.
pub(super) fn credential(view: &CredentialView, now: Timestamp, environment: Environment) -> model::Credential {
    let chain = view.chain();
    let managed = view.credential.managed();
    let own_issuer = view.current().map(|g| text(&g.issuer));
    let first_issuer = || managed.and_then(|m| m.issuers.first()).map(text);
    let (next, next_at) = next(view);
    model::Credential {
        id: text(&view.credential.id),
        kind: if managed.is_some() { "managed" } else { "observed" }.to_owned(),
        owner: view.credential.owner.clone(),
        tier: credential_tier(&view.credential, view.paths.len()).level(),
        issuer: own_issuer.or_else(|| chain.map(|c| c.leaf.issuer.clone())).or_else(first_issuer),
        names: managed
            .map(|m| &m.names)
            .or(chain.map(|c| &c.leaf.names))
            .into_iter()
            .flat_map(|n| n.iter())
            .map(text)
            .collect(),
        severity: view.findings.iter().map(|f| f.severity).max().map_or("ok", Severity::as_str).to_owned(),
        findings: view.findings.iter().map(finding).collect(),
        stored: stored(view).to_owned(),
        served: served(&view.credential, &view.sighting, environment).to_owned(),
        serial: chain.map(|c| c.leaf.serial.to_string()),
        fingerprint: chain.map(|c| text(c.leaf.fingerprint)),
        not_before: chain.map(|c| text(c.leaf.validity.not_before)),
        not_after: chain.map(|c| text(c.leaf.validity.not_after)),
        life_used_permille: chain.map(|c| life_used(&c.leaf.validity, now)),
        renew_at: view.schedule.map(|s| text(s.renew_at)),
        next,
        next_at: next_at.map(text),
        in_flight: view.attempt.is_some(),
        paths: view.paths.iter().map(text).collect(),
    }
}

fn stored(view: &CredentialView) -> &'static str {
    match view.sighting.stored.as_ref().map(|o| &o.seen) {
        Some(Seen::Present(_)) => "present",
        Some(Seen::Missing) => "missing",
        Some(Seen::Unreadable(_) | Seen::Unreachable(_)) => "unreadable",
        Some(Seen::Unparseable(_)) => "unparseable",
        None if matches!(view.credential.care, Care::Observed(Source::Endpoints)) => "none",
        None => "unseen",
    }
}

/// Whether every endpoint serves what is stored.
pub(super) fn served(credential: &Credential, sighting: &Sighting, environment: Environment) -> &'static str {
    if credential.endpoints.is_empty() {
        return "none";
    }
    if environment == Environment::Staging && credential.managed().is_some() {
        return "staging";
    }
    let stored = sighting.stored.as_ref().and_then(|o| o.seen.chain());
    let each =
        credential.endpoints.iter().map(|e| serves(sighting.served.get(e).map(|o| &o.seen), stored.map(|c| &**c)));
    // The worst of all: `no` before `unknown` before `yes`.
    each.fold("yes", |worst, one| match (worst, one) {
        ("no", _) | (_, "no") => "no",
        ("unknown", _) | (_, "unknown") => "unknown",
        _ => "yes",
    })
}

fn serves(seen: Option<&Seen>, stored: Option<&Chain>) -> &'static str {
    match (seen, stored) {
        (None, _) => "unknown",
        (Some(Seen::Present(seen)), Some(own)) if seen.leaf.fingerprint != own.leaf.fingerprint => "no",
        (Some(Seen::Present(_)), _) => "yes",
        (Some(Seen::Missing | Seen::Unreadable(_) | Seen::Unreachable(_) | Seen::Unparseable(_)), _) => "no",
    }
}

/// Thousandths of the lifetime that are gone.
pub(super) fn life_used(validity: &Validity, now: Timestamp) -> u16 {
    let used = now.since(validity.not_before).as_secs().saturating_mul(1_000);
    let share = used.checked_div(validity.lifetime().as_secs()).unwrap_or(1_000);
    u16::try_from(share.min(1_000)).unwrap_or(1_000)
}

/// What comes next, and when.
fn next(view: &CredentialView) -> (String, Option<Timestamp>) {
    if let Some(held) = view.held.as_ref().filter(|held| held.reason.frozen_by().is_some()) {
        return (held.reason.text(), held.until);
    }
    if let Some(attempt) = &view.attempt {
        let step = match attempt.stage {
            Stage::Begun => "orders",
            Stage::Ordered { .. } => "proves its names and fetches the certificate",
            Stage::Issued => "installs and looks whether it is served",
        };
        let again = if attempt.failures > 0 { ", again" } else { "" };
        return (format!("{step}{again} ({})", attempt.issuer), attempt.not_before);
    }
    if view.credential.managed().is_none() {
        return match view.chain().map(|c| c.validity().not_after) {
            Some(end) => ("is renewed elsewhere; expires".to_owned(), Some(end)),
            None => ("is renewed elsewhere".to_owned(), None),
        };
    }
    match (&view.held, view.schedule) {
        (Some(held), schedule) => match &held.reason {
            HeldReason::NotDue(_) => ("renews".to_owned(), schedule.map(|s| s.renew_at).or(held.until)),
            HeldReason::Backoff
            | HeldReason::Running
            | HeldReason::InFlight
            | HeldReason::Issuers(_)
            | HeldReason::AutomaticLimit
            | HeldReason::EndsEarlier
            | HeldReason::Window
            | HeldReason::Policy { .. }
            | HeldReason::Frozen(_)
            | HeldReason::Stopped(_) => (held.reason.text(), held.until),
        },
        (None, Some(schedule)) => ("renews".to_owned(), Some(schedule.renew_at)),
        (None, None) => ("is ordered at the next turn".to_owned(), None),
    }
}

/// One credential with everything.
pub(super) fn detail(view: &CredentialView, now: Timestamp, environment: Environment) -> model::Detail {
    let record = &view.record;
    let stored = view.sighting.stored.as_ref();
    let own = stored.and_then(|o| o.seen.chain());
    let endpoints = view.credential.endpoints.iter().map(|endpoint| {
        let seen = view.sighting.served.get(endpoint);
        let what = match seen.map(|o| &o.seen) {
            None if environment == Environment::Staging => "is not looked at in staging".to_owned(),
            None => "was not looked at yet".to_owned(),
            Some(Seen::Present(chain)) => {
                format!("serves serial {} until {}", chain.leaf.serial, chain.leaf.validity.not_after)
            }
            Some(Seen::Missing) => "presents no certificate".to_owned(),
            Some(Seen::Unreadable(why) | Seen::Unreachable(why) | Seen::Unparseable(why)) => why.clone(),
        };
        model::Endpoint {
            endpoint: text(endpoint),
            serves: serves(seen.map(|o| &o.seen), own.map(|c| &**c)).to_owned(),
            text: what,
            at: seen.map(|o| text(o.at)),
        }
    });
    let element = |c: &std::sync::Arc<crate::domain::certificate::Certificate>| model::Element {
        subject: c.subject.clone(),
        issuer: c.issuer.clone(),
        serial: c.serial.to_string(),
        not_before: text(c.validity.not_before),
        not_after: text(c.validity.not_after),
        spki_sha256: text(c.spki),
    };
    let failure = |f: &crate::domain::execution::Failure| model::Failure {
        at: text(f.at),
        code: text(&f.code),
        text: text(&f.text),
        fault: f.fault.as_str().to_owned(),
    };
    let untrusted = view.chain().and_then(|c| match &c.trust {
        Trust::Anchored => None,
        Trust::Untrusted(why) => Some(why.clone()),
    });
    let looked = stored.map(|o| o.at).into_iter().chain(view.sighting.served.values().map(|o| o.at)).max();
    model::Detail {
        credential: credential(view, now, environment),
        environment: environment.as_str().to_owned(),
        now: text(now),
        labels: view.credential.labels.clone(),
        chain: view.chain().map(|c| c.elements().map(element).collect()).unwrap_or_default(),
        untrusted,
        looked_at: looked.map(text),
        endpoints: endpoints.collect(),
        installed_serial: view.current().map(|g| text(&g.serial)),
        installed_at: view.current().map(|g| text(g.installed_at)),
        verified_at: view.current().and_then(|g| g.verified_at).map(text),
        ari_window: record.ari.as_ref().and_then(|a| a.window).map(|(from, to)| (text(from), text(to))),
        rule: view.schedule.map(|s| rule(s.rule).to_owned()),
        emergency_at: view.schedule.map(|s| text(s.emergency_at)),
        attempt: view.attempt.as_ref().map(attempt),
        last_failure: record.last_failure.as_ref().map(failure),
        failures: record.failures,
        last_success: record.last_success.map(text),
        next_attempt: record.next_attempt.map(text),
        requested: record.requested.as_ref().map(|r| (text(&r.by), text(r.at))),
        files: match &view.credential.care {
            Care::Managed(managed) => managed.installs.iter().flat_map(files).collect(),
            Care::Observed(Source::File { path, .. }) => vec![path.clone()],
            Care::Observed(Source::Endpoints) => Vec::new(),
        },
    }
}

fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::Ari => "ari",
        Rule::Lifetime => "lifetime",
        Rule::Emergency => "emergency",
    }
}

fn attempt(a: &Attempt) -> model::Attempt {
    model::Attempt {
        id: text(a.id),
        issuer: text(&a.issuer),
        trigger: a.trigger.as_str().to_owned(),
        stage: a.stage.as_str().to_owned(),
        began: text(a.began),
        failures: a.failures,
        not_before: a.not_before.map(text),
    }
}

/// The files of an installed set, as servers read them.
pub(super) fn files(install: &Install) -> Vec<String> {
    match &install.layout {
        Layout::Versioned { dir, formats } => {
            formats.iter().map(|f| format!("{dir}/current/{}", Format::file_name(*f))).collect()
        }
        Layout::Plain { files } => files.values().cloned().collect(),
    }
}

/// What a renewal would do.
pub(super) fn preview(web: &Web, view: &CredentialView, managed: &Managed, preview: &RenewalPreview) -> model::Preview {
    let issue = preview.issue.as_ref();
    let issuer = issue.map(|i| &i.issuer).or(preview.attempt.as_ref().map(|a| &a.issuer));
    let estate = web.engine.estate();
    let staging = web.environment == Environment::Staging;
    let solvers = managed.solvers.iter().map(|solver| {
        let mut kinds: Vec<_> =
            managed.names.iter().flat_map(|n| web.solver.kinds(solver, n)).map(|k| k.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        format!(
            "{solver} ({})",
            if kinds.is_empty() { "no challenge for these names".to_owned() } else { kinds.join(", ") }
        )
    });
    let reload = managed.reload.as_ref().map(|reload| {
        let how = match &reload.how {
            ReloadHow::Exec(argv) => argv.join(" "),
            ReloadHow::Signal { signal, pid_file } => format!("signal {signal} to the process in {pid_file}"),
            ReloadHow::Systemd(unit) => format!("systemctl reload-or-restart {unit}"),
        };
        if staging && !reload.in_staging { format!("none in staging (else: {how})") } else { how }
    });
    let spends = issue.into_iter().flat_map(|i| &i.spends);
    model::Preview {
        credential: text(&view.credential.id),
        environment: web.environment.as_str().to_owned(),
        goes: preview.goes(),
        decision: preview.decision.verdict.as_str().to_owned(),
        rule: text(&preview.decision.rule),
        tier: preview.decision.tier.level(),
        held: preview.held.as_ref().map(HeldReason::text),
        attempt: preview.attempt.as_ref().map(attempt),
        issuer: issuer.map(text),
        directory: issuer.and_then(|id| estate.issuers.get(id)).map(|i| i.directory.clone()),
        trigger: issue
            .map(|i| i.trigger.as_str())
            .or(preview.attempt.as_ref().map(|a| a.trigger.as_str()))
            .map(str::to_owned),
        replaces: issue.and_then(|i| i.replaces.as_ref()).map(text),
        names: managed.names.iter().map(text).collect(),
        key: match managed.key_reuse {
            crate::domain::inventory::KeyReuse::Fresh => format!("new, {}", managed.key),
            crate::domain::inventory::KeyReuse::Keep => format!("kept if it is there, {}", managed.key),
        },
        solvers: solvers.collect(),
        files: managed.installs.iter().flat_map(files).collect(),
        reload,
        endpoints: if staging { Vec::new() } else { view.credential.endpoints.iter().map(text).collect() },
        limits: spends
            .map(|s| match &**s.bucket.key() {
                "" => format!("1 of {} {}", s.limit.capacity, s.limit.kind.as_str()),
                key => format!("1 of {} {} for {key}", s.limit.capacity, s.limit.kind.as_str()),
            })
            .collect(),
        windows: !managed.windows.is_empty() && view.current().is_some(),
        serial: view.current().map(|g| text(&g.serial)),
    }
}

/// When a credential renews, from the parts that a scrape sees.
pub(super) fn renew_at(
    credential: &Credential,
    record: Option<&crate::domain::state::CredentialRecord>,
) -> Option<Timestamp> {
    Some(schedule_of(credential.managed()?, record?)?.renew_at)
}
