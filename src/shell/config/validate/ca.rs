//! `[keyholder]` and `[[ca]]`: private CAs, and the process that has their keys.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Ids, scalar};
use crate::domain::authority::{Ca, Constraints, NamePattern, Profile, network};
use crate::domain::certificate::{Purpose, Purposes};
use crate::domain::id::{CaId, ProfileId};
use crate::domain::key::KeyAlgorithm;
use crate::domain::name::Name;
use crate::domain::rotation::{Renewal, Setting};
use crate::domain::spiffe::{PathPattern, TrustDomain};
use crate::domain::time::{DAY, HOUR, MINUTE};
use crate::engine::authority::CANARY;
use crate::shell::config::diagnostic::{Problems, quoted};
use crate::shell::config::raw::{At, Section, Wrong, understood};
use crate::shell::config::settings::{KeyholderSettings, Passphrase};

/// CAs of one guardian: one for each trust domain.
const MOST_CAS: usize = 32;
/// Profiles of one CA.
const MOST_PROFILES: usize = 64;
/// Patterns, networks or locations in one list.
const MOST_PATTERNS: usize = 256;
/// Words of the command that gives the passphrase.
const MOST_WORDS: usize = 32;

/// A root lives for ten years: peers that nobody can reach for long still know it.
const ROOT_LIFETIME: Duration = DAY.saturating_mul(3_650);
/// An issuing CA lives for a year: the cryptoperiod of a private signature key is one to three (NIST SP 800-57 part 1).
const ISSUING_LIFETIME: Duration = DAY.saturating_mul(365);
/// A list is good for a week and made anew at half of it.
const CRL_LIFETIME: Duration = DAY.saturating_mul(7);
/// A leaf lives for a day.
const LEAF_LIFETIME: Duration = DAY;

const CA_LIFETIMES: core::ops::RangeInclusive<Duration> = HOUR..=DAY.saturating_mul(9_125);
const CRL_LIFETIMES: core::ops::RangeInclusive<Duration> = HOUR..=DAY.saturating_mul(90);
const LEAF_LIFETIMES: core::ops::RangeInclusive<Duration> = MINUTE..=DAY.saturating_mul(398);

/// A canary's answer is asked for again at half of this.
const CANARY_LIFETIMES: core::ops::RangeInclusive<Duration> = MINUTE..=DAY.saturating_mul(30);
/// Clocks that are further apart than a day are wrong.
const SKEWS: core::ops::RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// What a rotation makes anew.
const RENEWALS: [(Renewal, &str); 2] = [(Renewal::Both, "both"), (Renewal::Issuing, "issuing")];

/// The kinds of key that a CA has.
const ALGORITHMS: [(KeyAlgorithm, &str); 3] =
    [(KeyAlgorithm::P256, "p256"), (KeyAlgorithm::P384, "p384"), (KeyAlgorithm::Ed25519, "ed25519")];

/// All CAs of a file.
#[derive(Default)]
pub(super) struct Cas<'a> {
    pub(super) ids: Ids<'a>,
    pub(super) all: BTreeMap<CaId, Arc<Ca>>,
    pub(super) rotations: BTreeMap<CaId, Setting>,
    pub(super) keyholder: Option<KeyholderSettings>,
}

impl Cas<'_> {
    /// `ca` and `ca_profile` of a section, if both are there.
    pub(super) fn route(&self, p: &mut Problems, s: &mut Section<'_>) -> Option<(Arc<Ca>, ProfileId)> {
        let ca = s.need_text(p, "ca", "\"mesh\"");
        let profile = s.need_text(p, "ca_profile", "\"workload\"");
        let ca = ca?;
        if !self.ids.contains(ca.value) {
            self.ids.unknown(p, "ca", &ca);
            return None;
        }
        // One with a problem of its own is not asked for its profiles.
        let found = CaId::parse(ca.value).ok().and_then(|id| self.all.get(&id))?;
        let profile = profile?;
        let Some(known) = ProfileId::parse(profile.value).ok().and_then(|id| found.profiles.get(&id)) else {
            let all: Vec<&str> = found.profiles.keys().map(ProfileId::as_str).collect();
            let what = format!("the CA {} has no profile {}", quoted(ca.value), quoted(profile.value));
            p.add("KW0012", &profile.span, what, "unknown", format!("it has {}", all.join(", ")));
            return None;
        };
        Some((found.clone(), known.id.clone()))
    }
}

pub(super) fn read_all<'a>(p: &mut Problems, root: &mut Section<'a>, state: Option<&Path>) -> Cas<'a> {
    let mut cas = Cas::default();
    for section in root.sections(p, "ca", "[[ca]]", MOST_CAS) {
        if let Some((ca, setting)) = read(p, section, &mut cas.ids) {
            cas.rotations.insert(ca.id.clone(), setting);
            cas.all.insert(ca.id.clone(), Arc::new(ca));
        }
    }
    let section = root.section(p, "keyholder", "[keyholder]");
    let there = section.is_some();
    let settings = section.and_then(|s| keyholder(p, s, state));
    cas.keyholder = match (settings, there) {
        (Some(settings), _) => Some(settings),
        // Without a word it lies in the state directory and is started by the daemon.
        (None, false) if !cas.all.is_empty() => state.map(KeyholderSettings::beside),
        (None, _) => None,
    };
    cas
}

fn keyholder(p: &mut Problems, mut s: Section<'_>, state: Option<&Path>) -> Option<KeyholderSettings> {
    let directory = s.parsed(p, "directory", "\"/var/lib/keyward-keys\"", scalar::path);
    let socket = s.parsed(p, "socket", "\"/run/keyward-keys/holder.sock\"", scalar::socket_path);
    let start = s.flag(p, "start").is_none_or(|f| f.value);
    let user = s.parsed(p, "user", "\"keyward-keys\"", scalar::account);
    let file = s.parsed(p, "passphrase_file", "\"/etc/keyward/holder.pass\"", scalar::path);
    let command =
        s.texts(p, "passphrase_command", MOST_WORDS, "[\"/usr/bin/age\", \"--decrypt\", \"-i\", \"…\", \"…\"]");
    if let (Some(_), Some(command)) = (&file, &command) {
        let mend = "keep one of `passphrase_file` and `passphrase_command`";
        p.add("KW0071", &command.span, "the passphrase comes from two places", "and from here", mend);
    }
    s.close(p);
    let defaults = KeyholderSettings::beside(state?);
    Some(KeyholderSettings {
        directory: directory.map_or(defaults.directory, |d| PathBuf::from(d.value)),
        socket: socket.map_or(defaults.socket, |d| PathBuf::from(d.value)),
        start,
        user: user.map(|u| u.value),
        passphrase: match (file, command) {
            (Some(file), _) => Passphrase::File(PathBuf::from(file.value)),
            (None, Some(command)) => Passphrase::Command(command.value.iter().map(|w| w.value.to_owned()).collect()),
            (None, None) => defaults.passphrase,
        },
    })
}

fn read<'a>(p: &mut Problems, mut s: Section<'a>, ids: &mut Ids<'a>) -> Option<(Ca, Setting)> {
    let id = ids.read(p, &mut s, "\"mesh\"", CaId::parse);
    let name = s.parsed(p, "name", "\"Example Mesh\"", title);
    let organization = s.parsed(p, "organization", "\"Example Ltd\"", title);
    let algorithm = s.word(p, "key", &ALGORITHMS);
    let root_kept = s.word(p, "root", &[(false, "keyholder"), (true, "offline")]);
    let root_lifetime = s.parsed(p, "root_lifetime", "\"3650d\"", |t| scalar::duration(t, CA_LIFETIMES));
    let issuing_lifetime = s.parsed(p, "issuing_lifetime", "\"365d\"", |t| scalar::duration(t, CA_LIFETIMES));
    let crl_lifetime = s.parsed(p, "crl_lifetime", "\"7d\"", |t| scalar::duration(t, CRL_LIFETIMES));
    let trust_domain = s.parsed(p, "trust_domain", "\"mesh.example\"", |t| {
        TrustDomain::parse(t).ok_or_else(|| {
            Wrong::new(
                "KW0070",
                "is no SPIFFE trust domain",
                "1 to 255 of a-z, 0-9, '-', '_' and '.', for example mesh.example",
            )
        })
    });
    let renewal = s.word(p, "rotate", &RENEWALS);
    let canary_lifetime = s.parsed(p, "canary_lifetime", "\"24h\"", |t| scalar::duration(t, CANARY_LIFETIMES));
    let skew = s.parsed(p, "skew", "\"5m\"", |t| scalar::duration(t, SKEWS));
    let crl_urls = urls(p, &mut s, "crl_urls");
    let issuer_urls = urls(p, &mut s, "issuer_urls");
    let constraints = Constraints {
        permitted_dns: list(p, &mut s, "permitted_dns", "[\"svc.example\"]", tree),
        excluded_dns: list(p, &mut s, "excluded_dns", "[\"db.svc.example\"]", tree),
        permitted_ip: list(p, &mut s, "permitted_ip", "[\"10.0.0.0/8\"]", subnet),
        excluded_ip: list(p, &mut s, "excluded_ip", "[\"10.0.0.0/24\"]", subnet),
    };
    let root = root_lifetime.as_ref().map_or(ROOT_LIFETIME, |l| l.value);
    let issuing = issuing_lifetime.as_ref().map_or(ISSUING_LIFETIME, |l| l.value);
    if let Some(at) = issuing_lifetime.as_ref().or(root_lifetime.as_ref()).filter(|_| issuing > root) {
        let mend = "choose an `issuing_lifetime` that is no longer than `root_lifetime`";
        p.add("KW0072", &at.span, "the issuing CA would outlive the root", "too long", mend);
    }
    let mut profile_ids = Ids::default();
    let mut profiles = BTreeMap::new();
    for section in s.sections(p, "profile", "[[ca.profile]]", MOST_PROFILES) {
        if let Some(profile) = profile(p, section, &mut profile_ids, trust_domain.is_some(), issuing) {
            profiles.insert(profile.id.clone(), profile);
        }
    }
    if !s.has("profile") {
        s.missing(p, "profile", "[{ id = \"workload\", names = [\"*.svc.example\"] }]");
    }
    s.close(p);
    let id = id?.value;
    let ca = Ca {
        offline_root: root_kept.is_some_and(|kept| kept.value),
        name: name.map_or_else(|| Arc::from(id.as_str()), |n| Arc::from(n.value)),
        organization: organization.map(|o| Arc::from(o.value)),
        algorithm: algorithm.map_or(KeyAlgorithm::P256, |k| k.value),
        root_lifetime: root,
        issuing_lifetime: issuing,
        trust_domain: trust_domain.map(|t| t.value),
        constraints,
        crl_lifetime: crl_lifetime.map_or(CRL_LIFETIME, |l| l.value),
        crl_urls,
        issuer_urls,
        profiles,
        id,
    };
    let usual = Setting::usual(&ca);
    let setting = Setting {
        skew: skew.map_or(Setting::SKEW, |s| s.value),
        canary_lifetime: canary_lifetime.map_or(Setting::CANARY_LIFETIME, |c| c.value),
        renewal: renewal.map_or(Renewal::default(), |r| r.value),
        ..usual
    };
    Some((ca, setting))
}

fn profile<'a>(
    p: &mut Problems,
    mut s: Section<'a>,
    ids: &mut Ids<'a>,
    has_trust_domain: bool,
    issuing: Duration,
) -> Option<Profile> {
    let id = ids.read(p, &mut s, "\"workload\"", ProfileId::parse);
    if let Some(id) = id.as_ref().filter(|id| id.value.as_str() == CANARY) {
        p.add("KW0070", &id.span, "this profile is that of canaries", "taken", "choose another id");
    }
    let lifetime = s.parsed(p, "lifetime", "\"24h\"", |t| scalar::duration(t, LEAF_LIFETIMES));
    if let Some(at) = lifetime.as_ref().filter(|l| l.value >= issuing / 2) {
        let mend = "a leaf lives less than half as long as its CA, or none could be given in the second half";
        p.add("KW0072", &at.span, "the leaf would live as long as its CA", "too long", mend);
    }
    let purposes = s.words(p, "purposes", &Purpose::ALL);
    let purposes = purposes.map_or(Purposes::ALL, |list| Purposes {
        server: list.value.iter().any(|w| w.value == Purpose::Server),
        client: list.value.iter().any(|w| w.value == Purpose::Client),
    });
    let names = list(p, &mut s, "names", "[\"*.svc.example\"]", |t| {
        NamePattern::parse(t)
            .map_err(|e| wrong(t, &e, "write web.example, *.example, **.example, =*.example or 10.0.0.0/8"))
    });
    let ids_at = s.value_span("spiffe");
    let paths = list(p, &mut s, "spiffe", "[\"/ns/*/sa/*\"]", |t| {
        PathPattern::parse(t)
            .map_err(|e| wrong(t, e, "write a path such as /ns/*/sa/web; a last ** stands for any rest"))
    });
    if !paths.is_empty() && !has_trust_domain {
        let mend = "add `trust_domain = \"mesh.example\"` to the [[ca]]";
        p.add("KW0071", &ids_at, "SPIFFE IDs need a trust domain", "the CA has none", mend);
    }
    if names.is_empty() && paths.is_empty() && !s.has("names") && !s.has("spiffe") {
        s.missing(p, "names", "[\"*.svc.example\"]");
    }
    if !purposes.server && !purposes.client {
        let at = s.value_span("purposes");
        p.add("KW0072", &at, "a profile for nothing", "empty", "write purposes = [\"server\", \"client\"]");
    }
    s.close(p);
    Some(Profile { id: id?.value, lifetime: lifetime.map_or(LEAF_LIFETIME, |l| l.value), purposes, names, ids: paths })
}

fn list<T>(
    p: &mut Problems,
    s: &mut Section<'_>,
    key: &'static str,
    example: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    let Some(found) = s.texts(p, key, MOST_PATTERNS, example) else { return Vec::new() };
    found.value.into_iter().filter_map(|t| understood(p, key, t, &parse)).map(|At { value, .. }| value).collect()
}

fn wrong(text: &str, why: &str, mend: &str) -> Wrong {
    Wrong::new("KW0070", format!("has {}, which {why}", quoted(text)), mend)
}

/// Text in a distinguished name (RFC 5280 section A.1 allows 64 characters); the role and the generation need some of them.
fn title(text: &str) -> Result<String, Wrong> {
    let text = scalar::short_text(text)?;
    if text.chars().count() > 32 {
        return Err(Wrong::new("KW0070", "is longer than 32 characters", "choose a shorter name"));
    }
    Ok(text)
}

fn urls(p: &mut Problems, s: &mut Section<'_>, key: &'static str) -> Vec<Arc<str>> {
    list(p, s, key, "[\"http://pki.example/mesh.crl\"]", |t| {
        scalar::url(t, &["http", "https"]).map(|url| Arc::from(url.as_str()))
    })
}

fn tree(text: &str) -> Result<Arc<str>, Wrong> {
    let mend = "write the top of the tree, for example svc.example; it and everything below it is meant";
    match Name::parse(&format!("a.{text}")) {
        Ok(Name::Dns(name)) if *name == format!("a.{text}") => Ok(Arc::from(text)),
        Ok(_) => Err(wrong(text, "is not in lower case", mend)),
        Err(e) => Err(wrong(text, &e.to_string(), mend)),
    }
}

fn subnet(text: &str) -> Result<(core::net::IpAddr, u8), Wrong> {
    let mend = "write it as 10.0.0.0/8 or 2001:db8::/32";
    let (address, bits) = text.split_once('/').ok_or_else(|| wrong(text, "is no network", mend))?;
    network(address, bits).map_err(|e| wrong(text, &format!("is no network: {e}"), mend))
}
