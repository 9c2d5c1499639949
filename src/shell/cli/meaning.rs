//! `keyward config explain`: what the file means, defaults included, in sentences.

use core::fmt::Write as _;
use std::collections::BTreeSet;

use super::console::{Exit, Failure, Tone, wall_clock};
use super::{Done, Run};
use crate::domain::freeze::{Emergency, WhenFrozen};
use crate::domain::guard::{self, Guard, Kind};
use crate::domain::inventory::{Ari, Care, Credential, Environment, KeyReuse, Layout, Managed, ReloadHow, Source};
use crate::domain::policy::{Act, Otherwise, Subject, Verdict, decide};
use crate::domain::time::human_span;
use crate::shell::config::Settings;

impl Run {
    pub(super) fn config_explain(&self, name: Option<&str>) -> Done {
        let settings = self.settings()?;
        let estate = &settings.estate;
        let mut found = false;
        let mut say = |title: &str, sentences: Vec<String>| {
            if name.is_none_or(|n| n == title) {
                found = true;
                self.console.out(self.console.paint(title, Tone::Strong));
                sentences.iter().for_each(|s| self.console.out(format!("  {s}")));
            }
        };
        if name.is_none() {
            say("keyward", guardian(&settings));
        }
        for credential in estate.credentials.values() {
            say(credential.id.as_str(), about(credential, &settings));
        }
        for (id, watch) in &estate.watches {
            let owner = watch.owner.as_deref().unwrap_or("nobody");
            say(id.as_str(), vec![format!("watches every file that matches {}; {owner} is asked.", watch.pattern)]);
        }
        for path in estate.paths.values() {
            let needs: Vec<&str> = path.needs.iter().map(crate::domain::id::CredentialId::as_str).collect();
            let margin = human_span(path.margin);
            let mut sentences = vec![
                format!("is an approval path: open while {} are proved good.", needs.join(", ")),
                format!("closes {margin} before the end of the first of them, and whenever anything cannot be told."),
            ];
            if path.when_frozen == WhenFrozen::Close {
                sentences.push("closes while a freeze is over it.".to_owned());
            }
            let audiences: Vec<&str> =
                path.leases.audiences.iter().map(crate::domain::id::AudienceId::as_str).collect();
            if !audiences.is_empty() {
                sentences.push(format!("gives leases and permits to {}.", audiences.join(", ")));
            }
            if let Some(file) = &path.leases.file {
                sentences.push(format!("keeps a lease for {} in {} while it is open.", file.audience, file.path));
            }
            sentences.extend(reachable(&path.guard));
            say(path.id.as_str(), sentences);
        }
        match (found, name) {
            (false, Some(name)) => {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
                let text = format!("the configuration has no certificate, watch or path {shown:?}");
                Err(Failure::new(Exit::Failed, text, "see them all: keyward config explain"))
            }
            _ => Ok(Exit::Ok),
        }
    }
}

/// What stays reachable while a path is closed.
fn reachable(guard: &Guard) -> Option<String> {
    let kind = |kind: &Kind| {
        let list = |all: &BTreeSet<String>, any: &str| {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            if all.is_empty() { any.to_owned() } else { all.join(", ") }
        };
        let (methods, prefixes) = (list(&kind.methods, "any method"), list(&kind.prefixes, "any URL"));
        format!("{} ({methods} at {prefixes})", kind.name)
    };
    let kinds: Vec<String> = guard.kinds().iter().filter(|k| k.care == guard::Care::Reachable).map(kind).collect();
    (!kinds.is_empty()).then(|| format!("leaves these requests reachable while it is closed: {}.", kinds.join("; ")))
}

fn guardian(settings: &Settings) -> Vec<String> {
    let mut out = vec![match settings.estate.environment {
        Environment::Production => "runs in production.".to_owned(),
        Environment::Staging => {
            "runs in STAGING: a dry run with its own state; nothing in production is touched.".to_owned()
        }
    }];
    out.push(format!("keeps state, keys and audit log in {}.", settings.state_dir.display()));
    out.push(format!("answers http://{}/ (page, metrics, gates) on this machine.", settings.listen.http));
    if let Some(gate) = &settings.listen.gate_socket {
        let group = gate.group.as_deref().map(|g| format!(", group {g}")).unwrap_or_default();
        out.push(format!("answers gate checks at {} (mode {:04o}{group}).", gate.path.display(), gate.mode));
    }
    if let Some(tls) = &settings.listen.gate_tls {
        out.push(format!("answers gate checks over TLS at {} with {}.", tls.listen, tls.certificate_file.display()));
    }
    out.push(format!("takes commands at {}.", settings.listen.admin_socket.display()));
    let estate = &settings.estate;
    out.push(format!(
        "looks at everything every {}, at endpoints every {}.",
        human_span(estate.full_scan),
        human_span(estate.probe_every)
    ));
    let emergency = match estate.freezing.emergency {
        Emergency::Allow => "renewals that can wait no longer go on",
        Emergency::Block => "nothing goes on, emergencies included",
    };
    out.push(format!("may be frozen for {} at a time; in a freeze {emergency}.", human_span(estate.freezing.longest)));
    for issuer in &settings.issuers {
        let limits = estate.issuers.get(&issuer.id).map_or(0, |i| i.limits.len());
        out.push(format!("may order at {} ({}), {limits} limits of it are kept.", issuer.id, issuer.directory));
    }
    let policy = &estate.policy;
    for rule in policy.rules() {
        let when: Vec<String> = rule.conditions().into_iter().map(|(name, wants)| format!("{name}: {wants}")).collect();
        let when = if when.is_empty() { "always".to_owned() } else { when.join("; ") };
        out.push(format!("policy {}: {} ({when}).", rule.id, rule.lane.as_str()));
    }
    out.push(match policy.otherwise() {
        Otherwise::Routine if policy.rules().is_empty() => {
            "has no policy rules: what the configuration names is renewed without asking.".to_owned()
        }
        Otherwise::Routine => "does without asking what the configuration names and no rule matches.".to_owned(),
        Otherwise::Review => "asks a person about what no rule matches.".to_owned(),
        Otherwise::Prohibit => "refuses what no rule matches.".to_owned(),
    });
    if let Some(contract) = &policy.setting().contract {
        out.push(format!("keeps all {} promises of its contract.", contract.promises.len()));
    }
    out.push(format!("decides by the policy {}.", policy.version()));
    out
}

fn about(credential: &Credential, settings: &Settings) -> Vec<String> {
    let owner = credential.owner.as_deref().unwrap_or("nobody");
    let mut out = match &credential.care {
        Care::Observed(Source::File { path, .. }) => vec![format!("is only watched, in {path}; {owner} is asked.")],
        Care::Observed(Source::Endpoints) => vec![format!("is only watched where it is served; {owner} is asked.")],
        Care::Managed(managed) => managed_sentences(managed, owner),
    };
    if !credential.endpoints.is_empty() {
        let places: Vec<String> = credential.endpoints.iter().map(ToString::to_string).collect();
        out.push(format!("must be seen at {}.", places.join(", ")));
    }
    let paths: Vec<&str> =
        settings.estate.paths.values().filter(|p| p.needs.contains(&credential.id)).map(|p| p.id.as_str()).collect();
    if !paths.is_empty() {
        out.push(format!("the approval paths {} stand on it.", paths.join(", ")));
    }
    if credential.managed().is_some() {
        let now = wall_clock();
        let subject = |act| Subject {
            services: credential.endpoints.len(),
            owner: credential.owner.as_deref(),
            local: settings.estate.policy.local(now),
            ..Subject::new(act, &credential.labels, paths.len()).quiet()
        };
        for act in [Act::Issue, Act::Renew, Act::Reissue] {
            let decision = decide(&subject(act), &settings.estate.policy);
            let what = match decision.verdict {
                Verdict::Proceed => "goes by itself",
                Verdict::AwaitApproval => "waits for a person",
                Verdict::Refuse => "is forbidden",
            };
            out.push(format!("to {} it {what} (tier {}, rule {}).", act.as_str(), decision.tier, decision.rule));
        }
    }
    out
}

fn managed_sentences(managed: &Managed, owner: &str) -> Vec<String> {
    let issuers: Vec<&str> = managed.issuers.iter().map(crate::domain::id::IssuerId::as_str).collect();
    let solvers: Vec<&str> = managed.solvers.iter().map(crate::domain::id::SolverId::as_str).collect();
    let key = match managed.key_reuse {
        KeyReuse::Fresh => "a new key each time",
        KeyReuse::Keep => "the same key each time",
    };
    let mut order = format!("is kept for {}; {owner} is asked.", managed.names);
    // Writing to a string cannot fail.
    write!(order, " Ordered at {}", issuers.join(", else ")).ok();
    if let Some(profile) = &managed.profile {
        write!(order, " with profile {profile}").ok();
    }
    write!(order, ", {key} ({}), proved by {}.", managed.key, solvers.join(", else ")).ok();
    let rules = &managed.renewal;
    let first = match rules.ari {
        Ari::Ask => "renews when the CA suggests (RFC 9773), else ",
        Ari::Ignore => "renews ",
    };
    let fallback = match rules.fallback_permille {
        Some(permille) => format!("at {} % of its life", f64::from(permille) / 10.0),
        None => "at two thirds of its life (at half of it if that is under ten days)".to_owned(),
    };
    let emergency = f64::from(rules.emergency_permille) / 10.0;
    let mut out = vec![order, format!("{first}{fallback}; nothing holds it once {emergency} % are left.")];
    for install in &managed.installs {
        let files = match &install.layout {
            Layout::Versioned { dir, formats } => {
                let names: Vec<&str> = formats.iter().map(|f| f.file_name()).collect();
                format!("{} in {dir}/current, swapped as a set", names.join(", "))
            }
            Layout::Plain { files } => files.values().cloned().collect::<Vec<_>>().join(", "),
        };
        let owner = match (&install.owner, &install.group) {
            (None, None) => String::new(),
            (owner, group) => format!(
                ", owned by {}:{}",
                owner.as_deref().unwrap_or("(unchanged)"),
                group.as_deref().unwrap_or("(unchanged)")
            ),
        };
        out.push(format!(
            "writes {files} (keys {:04o}, certificates {:04o}{owner}).",
            install.key_mode, install.cert_mode
        ));
    }
    if managed.installs.is_empty() {
        out.push("writes no files: only the key store holds it.".to_owned());
    }
    if let Some(reload) = &managed.reload {
        let how = match &reload.how {
            ReloadHow::Exec(argv) => format!("runs {}", argv.join(" ")),
            ReloadHow::Signal { signal, pid_file } => format!("sends signal {signal} to the process in {pid_file}"),
            ReloadHow::Systemd(unit) => format!("reloads {unit}"),
        };
        out.push(format!("then {how} (at most {}, {} tries).", human_span(reload.timeout), reload.tries));
    }
    if !managed.windows.is_empty() {
        out.push(format!(
            "installs only in {} deployment windows; renewals are never held by them.",
            managed.windows.len()
        ));
    }
    out
}
