//! `[[certificate]]` and `[[observe]]`: what is kept and what is only watched.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::issuer::{Issuers, KnownCa};
use super::lifetime::{self, Profile};
use super::solver::{Proves, Solvers};
use super::{Ids, install, scalar, schedule};
use crate::domain::authority::{self, Ca};
use crate::domain::certificate::Purpose;
use crate::domain::id::{CaId, CredentialId, IssuerId, SolverId};
use crate::domain::inventory::{
    Ari, Care, Credential, Endpoint, KeyReuse, ListSource, Managed, RenewalRules, Source, StartTls, Watch,
};
use crate::domain::key::KeyAlgorithm;
use crate::domain::name::{Name, NameSet};
use crate::domain::spiffe::SpiffeId;
use crate::shell::config::MOST_CERTIFICATES;
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{At, Section, Wrong, understood};

/// The most that any public CA takes in one certificate.
const MOST_NAMES: usize = 100;
const MOST_ENDPOINTS: usize = 64;
/// One list for each issuer of a chain, and as many that are handed over from one to the next.
const MOST_CRLS: usize = 16;

/// All credentials of a file.
#[derive(Default)]
pub(super) struct Credentials<'a> {
    pub(super) ids: Ids<'a>,
    pub(super) managed_and_observed: BTreeMap<CredentialId, Arc<Credential>>,
    pub(super) watches: BTreeMap<CredentialId, Arc<Watch>>,
    /// For those whose lifetime is known beforehand: the shortest, and what is left of it when a renewal is due.
    pub(super) lifetimes: BTreeMap<CredentialId, (Duration, Duration)>,
    /// What they say about approvals: the path, and the way for repairs.
    pub(super) approvals: Vec<(CredentialId, super::graph::Written<'a>)>,
    places: install::Places,
}

/// What is said of every kind of credential.
struct About {
    owner: Option<String>,
    labels: BTreeMap<String, String>,
    purpose: Option<Purpose>,
    crls: Vec<ListSource>,
}

/// What certificates may refer to.
pub(super) struct World<'w, 'a> {
    pub(super) issuers: &'w Issuers<'a>,
    pub(super) cas: &'w BTreeMap<CaId, Arc<Ca>>,
    pub(super) solvers: &'w Solvers<'a>,
    pub(super) state_dir: Option<&'w Path>,
}

impl<'a> Credentials<'a> {
    pub(super) fn read_managed(&mut self, p: &mut Problems, root: &mut Section<'a>, world: &World<'_, 'a>) {
        for section in root.sections(p, "certificate", "[[certificate]]", MOST_CERTIFICATES) {
            self.certificate(p, section, world);
        }
        self.places.check_nesting(p);
    }

    fn certificate(&mut self, p: &mut Problems, mut s: Section<'a>, world: &World<'_, 'a>) {
        let id = self.ids.read(p, &mut s, "\"portal\"", CredentialId::parse);
        let names = names(p, &mut s);
        let issuers = references(p, &mut s, "issuers", "issuer", &world.issuers.ids, IssuerId::parse);
        let private = !issuers.is_empty() && issuers.iter().all(|i| world.issuers.private.contains_key(&i.value));
        // A private CA of our own needs no proof of control: the configuration is the proof.
        let solvers = match private && !s.has("solvers") {
            true => Vec::new(),
            false => references(p, &mut s, "solvers", "solver", &world.solvers.ids, SolverId::parse),
        };
        let spiffe = s.parsed(p, "spiffe", "\"spiffe://mesh.example/portal\"", |t| {
            let mend = "write it as spiffe://TRUST-DOMAIN/PATH";
            SpiffeId::parse(t).ok_or_else(|| Wrong::new("KW0070", "is no SPIFFE ID of a workload", mend))
        });
        let key = s.word(p, "key", &KeyAlgorithm::ALL);
        let key_reuse = s.flag(p, "key_reuse").is_some_and(|f| f.value);
        let profile = s.parsed(p, "profile", "\"tlsserver\"", scalar::short_text);
        let (rules, possible) = renewal(p, &mut s);
        let mut about = about(p, &mut s);
        // Nobody asks a public CA for a certificate that no server may use, unless they say so.
        about.purpose = about.purpose.or(Some(Purpose::Server));
        let installs = install::read_all(p, &mut s, &mut self.places, world.state_dir);
        let reload = s.section(p, "reload", "[certificate.reload]");
        let reload = install::read_reload(p, reload);
        let host = names.iter().find_map(|n| match &n.value {
            Name::Dns(host) if !n.value.is_wildcard() => Some(host.to_string()),
            Name::Dns(_) | Name::Ip(_) => None,
        });
        let endpoints = endpoints(p, &mut s, "[[certificate.endpoint]]", host.as_deref());
        let windows = schedule::read(p, &mut s);
        let approval = super::graph::read(p, &mut s);

        provable(p, &names, &solvers, world.solvers);
        if let Some(at) = spiffe.as_ref().filter(|_| !private && !issuers.is_empty()) {
            let mend = "leave only issuers with `ca = …`, or remove `spiffe`";
            p.add("KW0071", &at.span, "only private CAs issue SPIFFE IDs", "another issuer is named", mend);
        }
        let id_of_workload = spiffe.map(|s| s.value);
        for issuer in &issuers {
            covered(p, issuer, &names, id_of_workload.as_ref(), world);
        }
        let public = issuers.iter().any(|i| world.issuers.known.get(&i.value) == Some(&KnownCa::LetsEncrypt));
        if public {
            let profile = lets_encrypt(p, &names, key.as_ref(), profile.as_ref());
            if let (Some(profile), Some(id)) = (profile, &id) {
                let left = lifetime::left_at_renewal(profile.lifetime, rules.fallback_permille);
                let emergency = lifetime::share(profile.lifetime, rules.emergency_permille);
                let what_for = format!("the profile {}", profile.name);
                if possible {
                    schedule::opens_in_time(p, &windows, &what_for, left.saturating_sub(emergency));
                }
                self.lifetimes.insert(id.value.clone(), (profile.lifetime, left));
            }
        }
        s.close(p);
        let Some(id) = id else { return };
        self.approvals.extend(approval.map(|approval| (id.value.clone(), approval)));
        let managed = Managed {
            spiffe: id_of_workload,
            names: NameSet::new(names.into_iter().map(|n| n.value)),
            key: key.map_or(KeyAlgorithm::P256, |k| k.value),
            key_reuse: if key_reuse { KeyReuse::Keep } else { KeyReuse::Fresh },
            issuers: issuers.into_iter().map(|i| i.value).collect(),
            profile: profile.map(|t| t.value),
            solvers: solvers.into_iter().map(|s| s.value).collect(),
            renewal: rules,
            installs,
            reload,
            windows: windows.into_iter().map(|w| w.value).collect(),
        };
        self.add(id.value, about, Care::Managed(Box::new(managed)), endpoints);
    }

    pub(super) fn read_observed(&mut self, p: &mut Problems, root: &mut Section<'a>) {
        for section in root.sections(p, "observe", "[[observe]]", MOST_CERTIFICATES) {
            self.observed(p, section);
        }
    }

    fn observed(&mut self, p: &mut Problems, mut s: Section<'a>) {
        let id = self.ids.read(p, &mut s, "\"policy-engine\"", CredentialId::parse);
        let file = s.parsed(p, "file", "\"/etc/policy/tls.pem\"", scalar::path);
        let glob = s.parsed(p, "glob", "\"/etc/peers/*.pem\"", pattern);
        let password_file = s.parsed(p, "password_file", "\"/etc/keyward/p12.pass\"", scalar::path);
        let password_file = password_file.map(|f| f.value);
        let about = about(p, &mut s);
        let endpoints = endpoints(p, &mut s, "[[observe.endpoint]]", None);
        let contradiction = match (s.has("file"), s.has("glob"), s.has("endpoint")) {
            (true, true, _) => Some("`file` and `glob` contradict each other"),
            (_, true, _) if s.has("purpose") || s.has("crls") => {
                Some("a `glob` has neither `purpose` nor `crls`: name each file that a path needs them for")
            }
            (_, true, true) => Some("a `glob` has no endpoints: which of its files would they serve?"),
            (false, false, false) => Some("there is nothing to observe"),
            (false, false, true) if s.has("password_file") => Some("`password_file` without `file` or `glob`"),
            _ => None,
        };
        if let Some(what) = contradiction {
            let mend = "name one `file` (and [[observe.endpoint]] where it is served), one `glob`, or endpoints only";
            p.add("KW0046", &s.at, what, "here", mend);
        }
        s.close(p);
        let Some(id) = id else { return };
        match (glob, file) {
            (Some(glob), _) => {
                let watch = Watch { pattern: glob.value, password_file, owner: about.owner, labels: about.labels };
                self.watches.insert(id.value, Arc::new(watch));
            }
            (None, Some(file)) => {
                let source = Source::File { path: file.value, password_file };
                self.add(id.value, about, Care::Observed(source), endpoints);
            }
            (None, None) => self.add(id.value, about, Care::Observed(Source::Endpoints), endpoints),
        }
    }

    fn add(&mut self, id: CredentialId, about: About, care: Care, endpoints: Vec<Arc<Endpoint>>) {
        let About { owner, labels, purpose, crls } = about;
        let credential = Credential { id: id.clone(), owner, labels, care, endpoints, purpose, crls };
        self.managed_and_observed.insert(id, Arc::new(credential));
    }
}

/// The names of a certificate: each a name, none twice, none that a wildcard beside it covers already.
fn names(p: &mut Problems, s: &mut Section<'_>) -> Vec<At<Name>> {
    let example = "[\"review.example.com\"]";
    if !s.has("names") {
        s.missing(p, "names", example);
    }
    let Some(list) = s.texts(p, "names", MOST_NAMES, example) else { return Vec::new() };
    if list.value.is_empty() {
        p.add("KW0036", &list.span, "a certificate needs a name", "empty", format!("write names = {example}"));
    }
    let mut names: Vec<At<Name>> = Vec::with_capacity(list.value.len());
    let mut seen = BTreeSet::new();
    for text in list.value {
        let name = understood(p, "names", text, |t| {
            let mend = match t.split_once("://") {
                Some((_, rest)) => format!("write the name alone: \"{}\"", rest.split(['/', ':']).next().unwrap_or("")),
                None => "write a whole DNS name, a wildcard or an IP address: \"review.example.com\"".to_owned(),
            };
            Name::parse(t).map_err(|e| Wrong::new("KW0030", format!("hold {}, which {e}", quoted(t)), mend))
        });
        let Some(name) = name else { continue };
        if seen.insert(name.value.clone()) {
            names.push(name);
        } else {
            let what = format!("the name {} stands twice", quoted(&name.value.to_string()));
            p.add("KW0011", &name.span, what, "second time", "remove one of them");
        }
    }
    for name in &names {
        let host = name.value.to_string();
        let wildcard = host.split_once('.').and_then(|(_, rest)| Name::parse(&format!("*.{rest}")).ok());
        if let Some(wildcard) = wildcard.filter(|w| *w != name.value && seen.contains(w)) {
            let what = format!(
                "{} is covered by {} already; CAs refuse such an order",
                quoted(&host),
                quoted(&wildcard.to_string())
            );
            p.add("KW0037", &name.span, what, "redundant", "remove the name; the wildcard stands for it");
        }
    }
    names
}

/// A list of ids that must exist.
fn references<T>(
    p: &mut Problems,
    s: &mut Section<'_>,
    key: &'static str,
    kind: &str,
    ids: &Ids<'_>,
    parse: impl Fn(&str) -> Result<T, crate::domain::id::SlugError>,
) -> Vec<At<T>> {
    let example = if kind == "issuer" { "[\"letsencrypt\"]" } else { "[\"web\"]" };
    if !s.has(key) {
        s.missing(p, key, example);
    }
    let Some(list) = s.texts(p, key, 16, example) else { return Vec::new() };
    if list.value.is_empty() {
        let what = format!("a certificate needs one {kind} at least");
        p.add("KW0036", &list.span, what, "empty", format!("write {key} = {example}"));
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for text in list.value {
        if !ids.contains(text.value) {
            ids.unknown(p, kind, &text);
        } else if !seen.insert(text.value) {
            let what = format!("the {kind} {} stands twice", quoted(text.value));
            p.add("KW0011", &text.span, what, "second time", "remove one of them");
        } else if let Ok(value) = parse(text.value) {
            found.push(At { value, span: text.span });
        }
    }
    found
}

/// When to renew, and whether that is before the emergency point.
fn renewal(p: &mut Problems, s: &mut Section<'_>) -> (RenewalRules, bool) {
    // Between 10 % and 95 %: earlier wastes the CA's limits, later leaves no time to fail once.
    let renew_at = s.parsed(p, "renew_at", "\"66%\"", |t| scalar::permille(t, 100..=950));
    let emergency = s.parsed(p, "emergency_at", "\"5%\"", |t| scalar::permille(t, 10..=500));
    let ari = if s.flag(p, "ari").is_none_or(|f| f.value) { Ari::Ask } else { Ari::Ignore };
    let defaults = RenewalRules::default();
    let emergency_permille = emergency.as_ref().map_or(defaults.emergency_permille, |e| e.value);
    let fallback_permille = renew_at.as_ref().map(|r| r.value);
    // Without a word the fallback is 2/3 at most.
    let fallback = fallback_permille.unwrap_or(667);
    let possible = fallback.saturating_add(emergency_permille) < 1_000;
    if let Some(at) = renew_at.or(emergency).filter(|_| !possible) {
        let what = format!(
            "the renewal after {}% of the lifetime comes no earlier than the emergency with {}% left",
            fallback / 10,
            emergency_permille / 10
        );
        p.add(
            "KW0039",
            &at.span,
            what,
            "too late",
            "lower `renew_at` or `emergency_at`: together they stay below 100%",
        );
    }
    (RenewalRules { fallback_permille, emergency_permille, ari }, possible)
}

/// Owner and labels.
fn about(p: &mut Problems, s: &mut Section<'_>) -> About {
    let owner = s.parsed(p, "owner", "\"platform\"", scalar::short_text);
    let labels = labels(p, s);
    let purpose = s.word(p, "purpose", &Purpose::ALL);
    let crls = lists(p, s);
    About { owner: owner.map(|o| o.value), labels, purpose: purpose.map(|p| p.value), crls }
}

/// How the configuration says that lists are fetched.
const POINTS: &str = "distribution-point";

/// Files with revocation lists, and whether they are fetched from where the certificates say.
fn lists(p: &mut Problems, s: &mut Section<'_>) -> Vec<ListSource> {
    let Some(list) = s.texts(p, "crls", MOST_CRLS, "[\"distribution-point\"]") else { return Vec::new() };
    let mut found = Vec::new();
    for text in list.value {
        if text.value == POINTS {
            if !found.contains(&ListSource::DistributionPoints) {
                found.push(ListSource::DistributionPoints);
            }
            continue;
        }
        let source = understood(p, "crls", text, |t| {
            let mend = format!("write the absolute path of a file, or \"{POINTS}\" for lists that are fetched");
            scalar::path(t).map(ListSource::File).map_err(|wrong| match t.contains('/') {
                true => wrong,
                false => Wrong { mend, ..wrong },
            })
        });
        found.extend(source.map(|source| source.value));
    }
    found
}

/// Labels: keys of letters, digits, '-', '_' and '.', values of at most 128 characters.
pub(super) fn labels(p: &mut Problems, s: &mut Section<'_>) -> BTreeMap<String, String> {
    let Some(pairs) = s.pairs(p, "labels", 32, "{ env = \"prod\" }") else { return BTreeMap::new() };
    let mut labels = BTreeMap::new();
    for (key, value) in pairs.value {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if key.value.is_empty() || key.value.len() > 63 || !key.value.bytes().all(plain) {
            let mend = "use letters, digits, '-', '_' and '.', at most 63: env, data_class, tenant_tier";
            p.add("KW0023", &key.span, format!("{} is no label", quoted(key.value)), "here", mend);
        } else if let Some(value) = understood(p, key.value, value, scalar::short_text) {
            labels.insert(key.value.to_owned(), value.value);
        }
    }
    labels
}

/// Where it is served. Without `sni`, a host name is sent as it is, and to an address the certificate's first name.
fn endpoints(p: &mut Problems, s: &mut Section<'_>, name: &'static str, first: Option<&str>) -> Vec<Arc<Endpoint>> {
    let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
    for mut e in s.sections(p, "endpoint", name, MOST_ENDPOINTS) {
        let connect = e.need(p, "connect", "\"127.0.0.1:443\"", scalar::host_port);
        let sni = e.parsed(p, "sni", "\"review.example.com\"", |t| {
            if t.is_empty() {
                return Ok(None);
            }
            let host = if t.parse::<core::net::IpAddr>().is_ok() { None } else { scalar::host_name(t) };
            let mend = "write a host name, \"\" to send none, or leave it out";
            host.map(Some).ok_or_else(|| Wrong::new("KW0030", format!("is no server name: {}", quoted(t)), mend))
        });
        let starttls = e.word(p, "starttls", &scalar::STARTTLS).map_or(StartTls::None, |w| w.value);
        e.close(p);
        let Some(connect) = connect else { continue };
        let (host, port) = connect.value;
        let by_default =
            if host.parse::<core::net::IpAddr>().is_ok() { first.map(str::to_owned) } else { Some(host.clone()) };
        let sni = sni.map_or(by_default, |s| s.value);
        let endpoint = Endpoint { host, port, sni, starttls };
        if endpoints.iter().any(|other| **other == endpoint) {
            let what = format!("the endpoint {} stands twice", quoted(&endpoint.to_string()));
            p.add("KW0011", &connect.span, what, "second time", "remove one of them");
        } else {
            endpoints.push(Arc::new(endpoint));
        }
    }
    endpoints
}

/// Whether some solver can prove control over each kind of name.
fn provable(p: &mut Problems, names: &[At<Name>], solvers: &[At<SolverId>], all: &Solvers<'_>) {
    let mut proves: Vec<Proves> = Vec::new();
    for solver in solvers {
        // One with a problem of its own could be anything: say nothing here.
        let Some(kind) = all.proves.get(&solver.value) else { return };
        proves.push(*kind);
    }
    if proves.is_empty() {
        return;
    }
    if let Some(name) = names.iter().find(|n| n.value.is_wildcard()).filter(|_| !proves.contains(&Proves::Domains)) {
        let mend = "add a solver of type dns-01 to `solvers`: CAs prove wildcards in no other way";
        let what = format!("the wildcard {} has no dns-01 solver", quoted(&name.value.to_string()));
        p.add("KW0033", &name.span, what, "cannot be proved", mend);
    }
    let address = names.iter().find(|n| matches!(n.value, Name::Ip(_)));
    if let Some(name) = address.filter(|_| !proves.contains(&Proves::Hosts)) {
        let mend = "add a solver of type http-01 or tls-alpn-01: an address has no DNS record to prove it (RFC 8738)";
        let what = format!("the address {} has only dns-01 solvers", quoted(&name.value.to_string()));
        p.add("KW0034", &name.span, what, "cannot be proved", mend);
    }
}

/// Whether the profile behind a private issuer gives what is wanted.
fn covered(
    p: &mut Problems,
    issuer: &At<IssuerId>,
    names: &[At<Name>],
    spiffe: Option<&SpiffeId>,
    world: &World<'_, '_>,
) {
    let Some(route) = world.issuers.private.get(&issuer.value) else { return };
    let Some(ca) = world.cas.get(&route.ca) else { return };
    let Some(profile) = ca.profiles.get(&route.profile) else { return };
    if !profile.purposes.server {
        let mend = "choose a profile with \"server\" among its `purposes`";
        p.add("KW0072", &issuer.span, "the profile gives certificates for clients only", "not for a server", mend);
    }
    let names = NameSet::new(names.iter().map(|n| n.value.clone()));
    if names.is_empty() && spiffe.is_none() {
        return;
    }
    if let Err(refusal) = authority::covers(ca, profile, &names, spiffe) {
        let mend = "add a pattern to the profile, or choose another one";
        p.add("KW0072", &issuer.span, refusal.to_string(), "would be refused", mend);
    }
}

/// The rules of Let's Encrypt's profiles; returns the profile if it is known.
fn lets_encrypt(
    p: &mut Problems,
    names: &[At<Name>],
    key: Option<&At<KeyAlgorithm>>,
    profile: Option<&At<String>>,
) -> Option<Profile> {
    if let Some(key) = key.filter(|k| k.value == KeyAlgorithm::Ed25519) {
        let mend = "choose p256 (the default), p384 or an RSA size; public CAs take nothing else";
        p.add("KW0035", &key.span, "Let's Encrypt does not take ed25519 keys", "refused by the CA", mend);
    }
    let name = profile.map_or(lifetime::LETS_ENCRYPT_DEFAULT, |t| t.value.as_str());
    let Some(known) = lifetime::LETS_ENCRYPT.into_iter().find(|k| k.name == name) else {
        // A profile that came after this release is not wrong; a typing error is.
        let meant = p.did_you_mean(name, lifetime::LETS_ENCRYPT.iter().map(|k| k.name));
        if let (Some(meant), Some(profile)) = (meant, profile) {
            let what = format!("Let's Encrypt has no profile {}", quoted(name));
            p.add("KW0013", &profile.span, what, "unknown profile", format!("did you mean \"{meant}\"?"));
        }
        return None;
    };
    if let Some(excess) = names.get(known.most_names) {
        let what = format!("{} names, and the profile {} takes at most {}", names.len(), known.name, known.most_names);
        let mend = "split them over several certificates, or use the profile classic (100 names)";
        p.add("KW0031", &excess.span, what, "one too many", mend);
    }
    if let Some(address) = names.iter().find(|n| matches!(n.value, Name::Ip(_))).filter(|_| !known.addresses) {
        let what = format!("Let's Encrypt's profile {} takes no IP addresses", known.name);
        p.add(
            "KW0032",
            &address.span,
            what,
            "an address",
            "set profile = \"shortlived\": the only one that takes addresses",
        );
    }
    Some(known)
}

/// A shell pattern from the root, without `**`, whose spelling is plain.
fn pattern(text: &str) -> Result<String, Wrong> {
    let text = scalar::path(text)?;
    let wrong =
        |why: &str, mend: &str| Wrong::new("KW0048", format!("is no usable pattern: {} {why}", quoted(&text)), mend);
    if text.contains("**") {
        return Err(wrong("holds `**`", "name the directory: a search through whole trees has no limit"));
    }
    if !text.contains(['*', '?', '[']) {
        return Err(wrong("has no `*`, `?` or `[…]`", "use `file` for a single file"));
    }
    glob::Pattern::new(&text).map_err(|e| wrong(&format!("({e})"), "mend the brackets and stars"))?;
    Ok(text)
}
