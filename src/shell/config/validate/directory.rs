//! `[[acme_directory]]`: ACME for others, over a private CA of this guardian.

use core::net::SocketAddr;
use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::ca::Cas;
use super::{Ids, scalar};
use crate::codec::network::Network;
use crate::domain::authority::NamePattern;
use crate::domain::directory::{ChallengeKind, FirstTime, Grant, Policy, Uses};
use crate::domain::id::{CaId, DirectoryId, ProfileId};
use crate::domain::time::{DAY, HOUR};
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::directory::{
    Binding, DirectoryLimits, DirectoryPlace, DirectorySettings, DirectoryValidation, Waiting,
};
use crate::shell::config::raw::{At, Section, Wrong, understood};

/// One for each site or trust domain.
const MOST_DIRECTORIES: usize = 16;
/// External account keys of one directory: one for each team or machine.
const MOST_KEYS: usize = 4_096;
/// Patterns, profiles or networks in one list.
const MOST_PATTERNS: usize = 256;
/// From what a test bears to a month.
const WAITS: RangeInclusive<Duration> = Duration::from_secs(10)..=DAY.saturating_mul(30);
/// What a person allowed may be ordered again: not at all, or for a month at most.
const HOLDS: RangeInclusive<Duration> = Duration::ZERO..=DAY.saturating_mul(30);
/// Three days: over a weekend.
const WAIT_FOR: Duration = HOUR.saturating_mul(72);
/// A client that gave up comes again within a day, as certbot and lego do by their timers.
const ALLOW_HOLDS: Duration = DAY;
/// A queue that somebody can still read.
const MOST_WAITING: u32 = 100;
/// One renewal of each of 300 certificates at once; Let's Encrypt gives 300 in three hours.
const ORDERS_PER_HOUR: u32 = 300;
/// A client that retries each minute is stopped within the hour.
const FAILURES_PER_HOUR: u32 = 30;
/// Machines behind one address register when they are set up.
const ACCOUNTS_PER_HOUR: u32 = 60;
const MOST_ACCOUNTS: u32 = 10_000;
/// More than a client has at a time, unless it fails for long.
const OPEN_ORDERS: u32 = 100;

pub(super) fn read_all<'a>(p: &mut Problems, root: &mut Section<'a>, cas: &Cas<'a>) -> Vec<DirectorySettings> {
    let (mut ids, mut listening, mut all) = (Ids::default(), BTreeMap::new(), Vec::new());
    for section in root.sections(p, "acme_directory", "[[acme_directory]]", MOST_DIRECTORIES) {
        all.extend(read(p, section, &mut ids, &mut listening, cas));
    }
    all
}

fn read<'a>(
    p: &mut Problems,
    mut s: Section<'a>,
    ids: &mut Ids<'a>,
    listening: &mut BTreeMap<SocketAddr, Span>,
    cas: &Cas<'a>,
) -> Option<DirectorySettings> {
    let id = ids.read(p, &mut s, "\"corp\"", DirectoryId::parse);
    let listen = s.need(p, "listen", "\"0.0.0.0:14000\"", scalar::address);
    if let Some(at) = &listen
        && let Some(first) = listening.insert(at.value, at.span.clone())
    {
        p.add_with(
            "KW0011",
            &at.span,
            "two directories listen here",
            "again",
            "give each a port of its own",
            (&first, "first"),
        );
    }
    let url = s.need(p, "url", "\"https://acme.example:14000\"", base_url);
    let certificate_file = s.need(p, "certificate_file", "\"/etc/keyward/acme/current/fullchain.pem\"", scalar::path);
    let key_file = s.need(p, "key_file", "\"/etc/keyward/acme/current/key.pem\"", scalar::path);
    let ca = s.need_text(p, "ca", "\"mesh\"");
    let ca = ca.and_then(|at| {
        if !cas.ids.contains(at.value) {
            cas.ids.unknown(p, "CA", &at);
        }
        CaId::parse(at.value).ok()
    });
    let own = ca.as_ref().and_then(|ca| cas.all.get(ca)).cloned();
    let known = |id: &ProfileId| own.as_ref().is_none_or(|ca| ca.profiles.contains_key(id));
    let profiles = profiles(p, &mut s, "profiles", "[\"workload\"]", &known);
    if !s.has("profiles") {
        s.missing(p, "profiles", "[\"workload\"]");
    } else if profiles.as_ref().is_some_and(Vec::is_empty) {
        let at = s.value_span("profiles");
        p.add("KW0074", &at, "a directory without a profile", "empty", "name at least one [[ca.profile]] of its CA");
    }
    let binding = s.word(p, "external_account", &[(Binding::Required, "required"), (Binding::Optional, "optional")]);
    let terms = s.parsed(p, "terms", "\"https://acme.example/terms\"", |t| {
        scalar::url(t, &["http", "https"]).map(|url| url.to_string())
    });
    let owner = s.parsed(p, "owner", "\"platform\"", scalar::short_text);
    let wait = patterns(p, &mut s, "wait", "[\"*.pay.example\"]");
    let first_time = s.word(p, "first_time", &[(FirstTime::Allow, "allow"), (FirstTime::Wait, "wait")]);
    let waiting = Waiting {
        longest: span(p, &mut s, "wait_for", WAITS, WAIT_FOR),
        most: count(p, &mut s, "most_waiting", 1..=10_000, MOST_WAITING),
        holds: span(p, &mut s, "allow_holds", HOLDS, ALLOW_HOLDS),
    };
    let limits = DirectoryLimits {
        orders_per_hour: s.number(p, "orders_per_hour", 1..=1_000_000).map_or(ORDERS_PER_HOUR, |n| n.value),
        failures_per_hour: s.number(p, "failures_per_hour", 1..=1_000_000).map_or(FAILURES_PER_HOUR, |n| n.value),
        accounts_per_hour: s.number(p, "accounts_per_hour", 1..=1_000_000).map_or(ACCOUNTS_PER_HOUR, |n| n.value),
        accounts: count(p, &mut s, "most_accounts", 1..=100_000, MOST_ACCOUNTS),
        open_orders: count(p, &mut s, "open_orders", 1..=10_000, OPEN_ORDERS),
    };
    let validation = validation(p, &mut s);
    let (keys, grants) = keys(p, &mut s, profiles.as_deref().unwrap_or_default());
    let binding = binding.map_or(Binding::Required, |b| b.value);
    if binding == Binding::Required && !s.has("key") {
        let mend = "add a [[acme_directory.key]], or set external_account = \"optional\" if everybody who reaches it may \
                    have an account";
        p.add("KW0074", &s.at, "nobody can make an account", "no external account key", mend);
    }
    s.close(p);
    Some(DirectorySettings {
        id: id?.value,
        place: DirectoryPlace {
            listen: listen?.value,
            url: url?.value,
            certificate_file: PathBuf::from(certificate_file?.value),
            key_file: PathBuf::from(key_file?.value),
            ca: ca?,
        },
        validation,
        binding,
        keys,
        policy: Policy {
            profiles: profiles?,
            grants,
            wait,
            first_time: first_time.map_or(FirstTime::Allow, |f| f.value),
        },
        terms: terms.map(|t| t.value),
        owner: owner.map(|o| Arc::from(o.value)),
        waiting,
        limits,
    })
}

fn validation(p: &mut Problems, s: &mut Section<'_>) -> DirectoryValidation {
    let resolver = s.parsed(p, "resolver", "\"10.0.0.53\"", scalar::dns_server).map(|r| r.value);
    let challenges = s.words(p, "challenges", &ChallengeKind::ALL);
    if let Some(list) = &challenges {
        if let Some(dns) = list.value.iter().find(|c| c.value == ChallengeKind::Dns01 && resolver.is_none()) {
            let mend = "add `resolver = \"10.0.0.53\"`: the DNS server that is asked for the records";
            p.add("KW0074", &dns.span, "dns-01 needs a resolver", "none is named", mend);
        }
        if list.value.is_empty() {
            p.add("KW0074", &list.span, "nothing could be proved", "empty", "name at least one kind of challenge");
        }
    }
    let usual = ChallengeKind::ALL.map(|(kind, _)| kind).into_iter();
    let usual = usual.filter(|kind| *kind != ChallengeKind::Dns01 || resolver.is_some());
    DirectoryValidation {
        challenges: match challenges {
            Some(list) => list.value.into_iter().map(|c| c.value).collect(),
            None => usual.collect(),
        },
        resolver,
        http_port: port(p, s, "http_port", 80),
        tls_port: port(p, s, "tls_port", 443),
        allow: networks(p, s, "allow"),
        forbid: networks(p, s, "forbid"),
    }
}

type Keys = (Vec<(Arc<str>, PathBuf)>, BTreeMap<Arc<str>, Grant>);

fn keys(p: &mut Problems, s: &mut Section<'_>, offered: &[ProfileId]) -> Keys {
    let (mut files, mut grants) = (Vec::new(), BTreeMap::new());
    let mut seen: BTreeMap<Arc<str>, Span> = BTreeMap::new();
    for mut k in s.sections(p, "key", "[[acme_directory.key]]", MOST_KEYS) {
        let id = k.need(p, "id", "\"team-web\"", key_id);
        let file = k.need(p, "hmac_file", "\"/etc/keyward/acme/team-web.key\"", scalar::path);
        let names = patterns(p, &mut k, "names", "[\"*.web.example\"]");
        if !k.has("names") {
            k.missing(p, "names", "[\"*.web.example\"]");
        }
        let offers = |id: &ProfileId| offered.is_empty() || offered.contains(id);
        let profiles = profiles(p, &mut k, "profiles", "[\"workload\"]", &offers);
        let owner = k.parsed(p, "owner", "\"web\"", scalar::short_text);
        let once = k.flag(p, "single_use").is_some_and(|f| f.value);
        k.close(p);
        let (Some(id), Some(file)) = (id, file) else { continue };
        if let Some(first) = seen.get(&id.value) {
            let mend = "give each key its own id; to replace one, add another and remove the old one later";
            let what = format!("the key id {} is taken", quoted(&id.value));
            p.add_with("KW0011", &id.span, what, "second time", mend, (first, "first time"));
            continue;
        }
        seen.insert(id.value.clone(), id.span);
        files.push((id.value.clone(), PathBuf::from(file.value)));
        let profiles: BTreeSet<ProfileId> = profiles.unwrap_or_default().into_iter().collect();
        let uses = if once { Uses::Once } else { Uses::Often };
        grants.insert(id.value, Grant { names, profiles, owner: owner.map(|o| Arc::from(o.value)), uses });
    }
    (files, grants)
}

fn key_id(text: &str) -> Result<Arc<str>, Wrong> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(good) {
        return Ok(Arc::from(text));
    }
    let mend = "write 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', for example \"team-web\"";
    Err(Wrong::new("KW0074", format!("is no key id: {}", quoted(text)), mend))
}

fn profiles(
    p: &mut Problems,
    s: &mut Section<'_>,
    key: &'static str,
    example: &str,
    known: &dyn Fn(&ProfileId) -> bool,
) -> Option<Vec<ProfileId>> {
    let list = s.texts(p, key, MOST_PATTERNS, example)?;
    let mut found = Vec::new();
    for text in list.value {
        let parsed = understood(p, key, text, |t| {
            let id = ProfileId::parse(t).ok().filter(|id| known(id));
            let mend = "name a profile that is there: of the [[ca.profile]]s of its CA, and for a key one that the directory \
                        offers";
            id.ok_or_else(|| Wrong::new("KW0074", format!("names {}, which is no profile on offer", quoted(t)), mend))
        });
        found.extend(parsed.map(|At { value, .. }| value));
    }
    Some(found)
}

fn patterns(p: &mut Problems, s: &mut Section<'_>, key: &'static str, example: &str) -> Vec<NamePattern> {
    let Some(list) = s.texts(p, key, MOST_PATTERNS, example) else { return Vec::new() };
    let parse = |t: &str| {
        let mend = "write web.example, *.example, **.example, =*.example or 10.0.0.0/8";
        NamePattern::parse(t).map_err(|e| Wrong::new("KW0070", format!("has {}, which {e}", quoted(t)), mend))
    };
    list.value.into_iter().filter_map(|t| understood(p, key, t, parse)).map(|At { value, .. }| value).collect()
}

fn networks(p: &mut Problems, s: &mut Section<'_>, key: &'static str) -> Vec<Network> {
    let Some(list) = s.texts(p, key, MOST_PATTERNS, "[\"10.20.0.0/16\"]") else { return Vec::new() };
    let parse = |t: &str| {
        let mend = "write a network, or one address: \"10.20.0.0/16\", \"fd12:3456::/32\", \"192.168.1.5\"";
        Network::parse(t).map_err(|why| Wrong::new("KW0020", format!("holds no network: {}: {why}", quoted(t)), mend))
    };
    list.value.into_iter().filter_map(|t| understood(p, key, t, parse)).map(|At { value, .. }| value).collect()
}

fn port(p: &mut Problems, s: &mut Section<'_>, key: &'static str, usual: u16) -> u16 {
    s.number(p, key, 1..=65_535).and_then(|n| u16::try_from(n.value).ok()).unwrap_or(usual)
}

fn span(
    p: &mut Problems,
    s: &mut Section<'_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
    usual: Duration,
) -> Duration {
    s.parsed(p, key, "\"24h\"", |t| scalar::duration(t, range)).map_or(usual, |d| d.value)
}

fn count(p: &mut Problems, s: &mut Section<'_>, key: &'static str, range: RangeInclusive<u32>, usual: u32) -> usize {
    let number = s.number(p, key, range).map_or(usual, |n| n.value);
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `https://HOST[:PORT]` and nothing else: every URL of the directory begins with it.
fn base_url(text: &str) -> Result<String, Wrong> {
    let url = scalar::url(text, &["https"])?;
    let plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !plain || !url.username().is_empty() || url.password().is_some() {
        let mend = "write scheme, host and port only: \"https://acme.example:14000\"";
        return Err(Wrong::new("KW0074", format!("is more than the beginning of a URL: {}", quoted(text)), mend));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
