//! `[[issuer]]`: a CA's ACME service.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::ca::Cas;
use super::{Ids, lifetime, scalar};
use crate::domain::id::IssuerId;
use crate::domain::inventory::{Environment, Issuer};
use crate::domain::limits::{LETS_ENCRYPT, Limit, LimitKind};
use crate::domain::time::DAY;
use crate::engine::authority::Route;
use crate::shell::config::diagnostic::Problems;
use crate::shell::config::raw::{At, Section, understood};
use crate::shell::config::settings::{Eab, IssuerSettings};

/// More CAs than anybody has accounts at.
const MOST_ISSUERS: usize = 64;
/// Half of the smallest documented limit of Let's Encrypt (new-nonce: 20 a second for each address).
const REQUESTS_PER_SECOND: u32 = 10;
/// A public CA's slowest usual answer, finalize, takes some seconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Below a second honest networks fail; an answer of more than five minutes hangs.
const TIMEOUTS: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// All issuers of a file.
pub(super) struct Issuers<'a> {
    pub(super) ids: Ids<'a>,
    /// Which CA each issuer is; missing for one with a problem.
    pub(super) known: BTreeMap<IssuerId, KnownCa>,
    pub(super) estate: BTreeMap<IssuerId, Arc<Issuer>>,
    pub(super) settings: Vec<IssuerSettings>,
    /// Those that are private CAs.
    pub(super) private: BTreeMap<IssuerId, Route>,
}

/// Whose profiles are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownCa {
    LetsEncrypt,
    /// One of this guardian.
    Private,
    Other,
}

pub(super) fn read_all<'a>(
    p: &mut Problems,
    root: &mut Section<'a>,
    environment: Environment,
    cas: &Cas<'_>,
) -> Issuers<'a> {
    let mut all = Issuers {
        ids: Ids::default(),
        known: BTreeMap::new(),
        estate: BTreeMap::new(),
        settings: Vec::new(),
        private: BTreeMap::new(),
    };
    for section in root.sections(p, "issuer", "[[issuer]]", MOST_ISSUERS) {
        if section.has("ca") {
            if let Some((id, route)) = private(p, section, &mut all.ids, cas) {
                let directory = format!("keyward:{}/{}", route.ca, route.profile);
                let issuer = Issuer { id: id.clone(), directory, contacts: Vec::new(), limits: Arc::from([]) };
                all.known.insert(id.clone(), KnownCa::Private);
                all.estate.insert(id.clone(), Arc::new(issuer));
                all.private.insert(id, route);
            }
        } else if let Some((settings, limits, known)) = read(p, section, &mut all.ids, environment) {
            let issuer = Issuer {
                id: settings.id.clone(),
                directory: settings.directory.clone(),
                contacts: settings.contacts.clone(),
                limits: Arc::from(limits),
            };
            all.known.insert(settings.id.clone(), known);
            all.estate.insert(settings.id.clone(), Arc::new(issuer));
            all.settings.push(settings);
        }
    }
    all
}

/// An issuer that is a private CA of this guardian: nothing of ACME is needed.
fn private<'a>(p: &mut Problems, mut s: Section<'a>, ids: &mut Ids<'a>, cas: &Cas<'_>) -> Option<(IssuerId, Route)> {
    let id = ids.read(p, &mut s, "\"mesh\"", IssuerId::parse);
    let route = cas.route(p, &mut s);
    s.close(p);
    let (ca, profile) = route?;
    Some((id?.value, Route { ca: ca.id.clone(), profile }))
}

fn read<'a>(
    p: &mut Problems,
    mut s: Section<'a>,
    ids: &mut Ids<'a>,
    environment: Environment,
) -> Option<(IssuerSettings, Vec<Limit>, KnownCa)> {
    let id = ids.read(p, &mut s, "\"letsencrypt\"", IssuerId::parse);
    let insecure = s.flag(p, "danger_allow_http_directory").is_some_and(|f| f.value);
    let production = directory(p, &mut s, "directory", insecure);
    let staging = directory(p, &mut s, "staging_directory", insecure);
    if !s.has("directory") {
        s.missing(p, "directory", "\"https://acme-v02.api.letsencrypt.org/directory\"");
    }
    let staging_ok = s.flag(p, "staging_ok").is_some_and(|f| f.value);
    let contacts = s.texts(p, "contacts", 8, "[\"mailto:ops@example.com\"]");
    let contacts: Vec<String> = contacts.map_or(Vec::new(), |l| {
        l.value.into_iter().filter_map(|t| understood(p, "contacts", t, scalar::contact)).map(|c| c.value).collect()
    });
    terms(p, &mut s);
    let eab = s.section(p, "eab", "[issuer.eab]").and_then(|e| eab(p, e));
    let root_files = s.texts(p, "root_files", 16, "[\"/etc/keyward/root.pem\"]");
    let root_files: Vec<PathBuf> = root_files.map_or(Vec::new(), |l| {
        l.value
            .into_iter()
            .filter_map(|t| understood(p, "root_files", t, scalar::path))
            .map(|f| PathBuf::from(f.value))
            .collect()
    });
    let requests_per_second = s.number(p, "requests_per_second", 1..=1_000);
    let timeout = s.parsed(p, "timeout", "\"30s\"", |t| scalar::duration(t, TIMEOUTS));
    let proxy = s.parsed(p, "proxy", "\"http://proxy.example:3128\"", |t| scalar::url(t, &["http", "https"]));
    let known = match &production {
        Some(url) if lifetime::is_lets_encrypt(&url.value) => KnownCa::LetsEncrypt,
        _ => KnownCa::Other,
    };
    let limits = limits(p, &mut s, known);
    let directory = match environment {
        Environment::Production => production,
        Environment::Staging => in_staging(p, &s, production, staging, staging_ok),
    };
    s.close(p);
    let settings = IssuerSettings {
        id: id?.value,
        directory: directory?.value.to_string(),
        contacts,
        terms_agreed: true,
        eab,
        root_files,
        danger_allow_http_directory: insecure,
        requests_per_second: requests_per_second.map_or(REQUESTS_PER_SECOND, |n| n.value),
        timeout: timeout.map_or(TIMEOUT, |t| t.value),
        proxy: proxy.map(|u| u.value.to_string()),
    };
    Some((settings, limits, known))
}

fn directory(p: &mut Problems, s: &mut Section<'_>, key: &'static str, insecure: bool) -> Option<At<url::Url>> {
    let example = "\"https://ca.example/directory\"";
    let url = s.parsed(p, key, example, |t| scalar::url(t, &["https", "http"]))?;
    if url.value.scheme() == "http" && !insecure {
        let mend = "write https://; only a test CA on this machine may use http://, with \
                    `danger_allow_http_directory = true`";
        let what = format!("`{key}` is http://: anyone on the way could answer for the CA (RFC 8555 section 6.1)");
        p.add("KW0051", &url.span, what, "not https://", mend);
        return None;
    }
    Some(url)
}

fn in_staging(
    p: &mut Problems,
    s: &Section<'_>,
    production: Option<At<url::Url>>,
    staging: Option<At<url::Url>>,
    staging_ok: bool,
) -> Option<At<url::Url>> {
    match (production, staging) {
        (Some(production), Some(staging)) if production.value == staging.value => {
            let mend = "name the CA's staging directory, for Let's Encrypt \
                        https://acme-staging-v02.api.letsencrypt.org/directory";
            let what = "`staging_directory` is the production directory";
            p.add_with("KW0060", &staging.span, what, "the same", mend, (&production.span, "production"));
            None
        }
        (_, Some(staging)) => Some(staging),
        (Some(production), None) if staging_ok => Some(production),
        (Some(production), None) => {
            let mend = "add `staging_directory = \"…\"`; if this CA is itself a test CA, set `staging_ok = true`";
            let what =
                format!("{} has no `staging_directory`, and a dry run must not order at a production CA", s.name);
            p.add("KW0060", &production.span, what, "would be used in staging", mend);
            None
        }
        (None, None) => None,
    }
}

fn terms(p: &mut Problems, s: &mut Section<'_>) {
    let agreed = s.flag(p, "terms_agreed");
    if agreed.as_ref().is_some_and(|f| f.value) || (agreed.is_none() && s.has("terms_agreed")) {
        return;
    }
    let at = agreed.map_or_else(|| s.at.clone(), |f| f.span);
    let mend = "read the CA's terms of service (the directory's `meta` names them), then set terms_agreed = true";
    p.add("KW0052", &at, "the CA's terms of service are not agreed to", "`terms_agreed = true` is missing", mend);
}

fn eab(p: &mut Problems, mut s: Section<'_>) -> Option<Eab> {
    let key_id = s.need(p, "key_id", "\"kid-1\"", scalar::short_text);
    let file = s.need(p, "hmac_file", "\"/etc/keyward/eab.key\"", scalar::path);
    s.close(p);
    Some(Eab { key_id: key_id?.value, hmac_file: PathBuf::from(file?.value) })
}

fn limits(p: &mut Problems, s: &mut Section<'_>, known: KnownCa) -> Vec<Limit> {
    let named = s.word(p, "limits", &[(KnownCa::LetsEncrypt, "letsencrypt"), (KnownCa::Other, "none")]);
    let sections = s.sections(p, "limit", "[[issuer.limit]]", LimitKind::ALL.len());
    if let (Some(named), false) = (&named, sections.is_empty()) {
        let mend = "keep either `limits` or the [[issuer.limit]] tables";
        p.add("KW0054", &named.span, "`limits` and [[issuer.limit]] contradict each other", "and tables below", mend);
    }
    if sections.is_empty() {
        // Nobody means to ignore Let's Encrypt's limits by leaving the line out.
        return match named.map_or(known, |n| n.value) {
            KnownCa::LetsEncrypt => LETS_ENCRYPT.to_vec(),
            KnownCa::Private | KnownCa::Other => Vec::new(),
        };
    }
    let mut limits: Vec<Limit> = Vec::new();
    for mut section in sections {
        if !section.has("kind") {
            section.missing(p, "kind", "\"orders\"");
        }
        let kind = section.word(p, "kind", &LimitKind::ALL);
        for key in ["capacity", "refill"].into_iter().filter(|k| !section.has(k)).collect::<Vec<_>>() {
            section.missing(p, key, if key == "capacity" { "300" } else { "\"36s\"" });
        }
        let capacity = section.number(p, "capacity", 1..=1_000_000);
        let range = core::time::Duration::from_secs(1)..=DAY.saturating_mul(31);
        let refill = section.parsed(p, "refill", "\"36s\"", |t| scalar::duration(t, range));
        let most = capacity.as_ref().map_or(u32::MAX, |c| c.value.saturating_sub(1));
        let reserve = section.number(p, "reserve", 0..=most);
        if let Some(kind) = kind.as_ref().filter(|k| limits.iter().any(|l| l.kind == k.value)) {
            let what = format!("the limit \"{}\" stands twice", kind.value.as_str());
            p.add("KW0011", &kind.span, what, "second time", "keep one table for each kind");
        }
        section.close(p);
        if let (Some(kind), Some(capacity), Some(refill)) = (kind, capacity, refill) {
            let reserve = reserve.map_or(0, |r| r.value);
            limits.push(Limit { kind: kind.value, capacity: capacity.value, refill: refill.value, reserve });
        }
    }
    limits
}
