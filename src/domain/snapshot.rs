//! What the verdict over one path looks at, at one moment: all of it, so that it can be written down, signed, and judged
//! again by anybody.
//!
//! Refuses to know what it means: that is [`crate::domain::gate`].

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::certificate::{Certificate, Chain, Purpose, Trust};
use crate::domain::freeze::{Scope, WhenFrozen};
use crate::domain::frozen::{in_force, over_path};
use crate::domain::id::{CredentialId, FreezeId, IssuerId, KeyId, PathId};
use crate::domain::inventory::{
    ApprovalPath, Care, Credential, CrlSeen, Endpoint, Environment, Estate, Missed, Observation, Seen, Sighting, Source,
};
use crate::domain::json::Object;
use crate::domain::key::Digest;
use crate::domain::name::NameSet;
use crate::domain::state::{Latch, LatchOn, State};
use crate::domain::time::{Boottime, Timestamp};
use crate::domain::tracked::{KeyPlace, KeySight, KeyState, TrackedKey};

/// Everything that a verdict is made of.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What should be.
    pub estate: &'a Estate,
    /// What is durable.
    pub state: &'a State,
    /// What was seen.
    pub sightings: &'a BTreeMap<CredentialId, Sighting>,
    /// What was seen of keys that are no certificate's.
    pub keys: &'a BTreeMap<KeyId, KeySight>,
    /// How the paths are that other paths stand on.
    pub paths: &'a BTreeMap<PathId, Dependency>,
    /// Why the clocks are not believed, if so.
    pub clock_fault: Option<&'a str>,
    /// Why nothing can be written, if so.
    pub store_fault: Option<&'a str>,
    /// Why the configuration cannot be read, if so.
    pub configuration_fault: Option<&'a str>,
    /// Whether something that happened is not in the log yet: its code, with a sentence.
    pub unrecorded: Option<(&'static str, &'a str)>,
    /// Now.
    pub now: Timestamp,
    /// Now, on the clock that does not step.
    pub boot: Boottime,
}

/// What one verdict looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which path.
    pub path: PathId,
    /// Its rules.
    pub rules: Rules,
    /// Whether anything is served at all.
    pub environment: Environment,
    /// When.
    pub at: Timestamp,
    /// When, on the clock that does not step.
    pub at_boot: Boottime,
    /// What holds for every path.
    pub guardian: Guardian,
    /// Why only a person opens it again, if so.
    pub latch: Option<Latch>,
    /// The freezes over it, where it closes for them.
    pub freezes: Vec<FreezeOver>,
    /// What it stands on.
    pub parts: Vec<Part>,
    /// The keys that it stands on besides certificates.
    pub keys: Vec<KeyPart>,
    /// The paths that it stands on.
    pub depends: Vec<Dependency>,
}

/// The rules of a path; see [`ApprovalPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long before the earliest end it closes.
    pub margin: Duration,
    /// How old a key may be.
    pub key_limit: Option<Duration>,
    /// How long an issuer may be without a success.
    pub issuer_silence: Option<Duration>,
    /// So many looks in a row that reach no endpoint close it.
    pub misses: u32,
}

/// What holds for every path: each is a sentence that says what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guardian {
    /// The clocks are not believed.
    pub clock: Option<Arc<str>>,
    /// Nothing can be written.
    pub store: Option<Arc<str>>,
    /// The configuration cannot be read.
    pub configuration: Option<Arc<str>>,
    /// Something is not in the log: the code, and the sentence.
    pub unrecorded: Option<(Arc<str>, Arc<str>)>,
}

/// A path that another stands on, as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Which.
    pub path: PathId,
    /// The codes of its reasons; empty means open.
    pub reasons: Vec<Arc<str>>,
    /// Open at the latest until then.
    pub until: Timestamp,
    /// It is open only because something is borne for a while: that keeps open what is open, and opens nothing.
    pub borne: bool,
}

impl Dependency {
    /// Closed for these reasons.
    #[must_use]
    pub fn closed(path: PathId, reasons: Vec<Arc<str>>, at: Timestamp) -> Self {
        Self { path, reasons, until: at, borne: false }
    }
}

/// A freeze over a path that closes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeOver {
    /// Which.
    pub id: FreezeId,
    /// Over what.
    pub scope: Scope,
    /// Until when at the latest.
    pub until: Timestamp,
}

/// One credential that a path stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub credential: CredentialId,
    /// How it is known.
    pub kind: PartKind,
    /// The names that its certificate must have.
    pub names: Option<NameSet>,
    /// What it is used for.
    pub purpose: Option<Purpose>,
    /// What is stored; `None` means not looked at yet.
    pub stored: Option<Seen>,
    /// Whether nothing at all was seen of it yet.
    pub unseen: bool,
    /// What each of its endpoints serves.
    pub served: Vec<(Arc<Endpoint>, Option<Seen>)>,
    /// Those of them that served something, and that the newest looks did not reach.
    pub missed: Vec<(Arc<Endpoint>, Missed)>,
    /// What the revocation lists say; `None` means not looked at yet.
    pub crls: Vec<(Arc<str>, Option<CrlSeen>)>,
    /// What the lists at the distribution points of its chain say, by URL; `None` if nobody asks for them.
    pub points: Option<Vec<(Arc<str>, CrlSeen)>>,
    /// Since when its key is in use, as far as is known.
    pub key_since: Option<Timestamp>,
    /// Which of its keys a person reported as compromised.
    pub compromised: Vec<Digest>,
    /// Who renews it, and when that last succeeded.
    pub renewer: Option<(IssuerId, Option<Timestamp>)>,
}

/// One key, no certificate's, that a path stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    /// Which.
    pub key: KeyId,
    /// Its state; `None` while nothing is known of it.
    pub state: Option<KeyState>,
    /// When it was made, and when nothing may stand on it any more.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Since when others may have it, or a key that is accepted beside it.
    pub compromised: Option<Timestamp>,
    /// Whether it was seen since the guardian started; where nobody can look a person's word counts.
    pub seen: bool,
    /// Since when looks fail, and why.
    pub failing: Option<(Timestamp, Arc<str>)>,
    /// Since when the live system uses another key, and what was seen.
    pub not_live: Option<(Timestamp, Arc<str>)>,
    /// For how long either is borne.
    pub grace: Duration,
}

/// How a credential of a path is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Issued and installed here.
    Managed,
    /// A file is watched.
    Observed,
    /// Only endpoints are watched.
    Endpoints,
    /// A pattern whose matches are watched, each a part of its own.
    Pattern,
    /// Nobody configured it.
    Unknown,
}

impl PartKind {
    /// Every kind with its word.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Managed, "managed"),
        (Self::Observed, "observed"),
        (Self::Endpoints, "endpoints"),
        (Self::Pattern, "pattern"),
        (Self::Unknown, "unknown"),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// Gathers what the verdict over `path` looks at.
#[must_use]
pub fn gather(path: &ApprovalPath, evidence: &Evidence<'_>) -> Snapshot {
    let own = |text: Option<&str>| text.map(Arc::from);
    let unknown = |path: &PathId| Dependency::closed(path.clone(), vec![Arc::from(UNKNOWN_PATH)], evidence.now);
    Snapshot {
        path: path.id.clone(),
        rules: Rules {
            margin: path.margin,
            key_limit: path.key_limit,
            issuer_silence: path.issuer_silence,
            misses: path.misses,
        },
        environment: evidence.estate.environment,
        at: evidence.now,
        at_boot: evidence.boot,
        guardian: Guardian {
            clock: own(evidence.clock_fault),
            store: own(evidence.store_fault),
            configuration: own(evidence.configuration_fault),
            unrecorded: evidence.unrecorded.map(|(code, text)| (Arc::from(code), Arc::from(text))),
        },
        latch: evidence.state.latches.get(&LatchOn::Path(path.id.clone())).cloned(),
        freezes: closing_freezes(path, evidence.state, evidence.estate, evidence.now).collect(),
        parts: needed(path, evidence.estate).iter().map(|id| part(id, evidence)).collect(),
        keys: evidence
            .estate
            .keys
            .values()
            .filter(|key| key.paths.contains(&path.id))
            .map(|key| key_part(key, evidence))
            .collect(),
        depends: path
            .depends_on
            .iter()
            .map(|id| evidence.paths.get(id).cloned().unwrap_or_else(|| unknown(id)))
            .collect(),
    }
}

/// The freezes in force that close a path.
pub fn closing_freezes<'a>(
    path: &'a ApprovalPath,
    state: &'a State,
    estate: &'a Estate,
    now: Timestamp,
) -> impl Iterator<Item = FreezeOver> + 'a {
    in_force(state, now)
        .filter(|(_, freeze)| path.when_frozen == WhenFrozen::Close && over_path(&freeze.scope, &path.id, estate))
        .map(|(id, freeze)| FreezeOver { id: *id, scope: freeze.scope.clone(), until: freeze.until })
}

fn key_part(key: &TrackedKey, evidence: &Evidence<'_>) -> KeyPart {
    let record = evidence.state.keys.get(&key.id);
    let current = record.and_then(|r| r.current.as_ref());
    let sight = evidence.keys.get(&key.id);
    // What is still accepted beside the current one counts as much.
    let accepted = || record.into_iter().flat_map(|r| r.accepted(evidence.now));
    let blocked = |digest| evidence.state.latches.get(&LatchOn::Key(digest)).map(|latch| latch.at);
    let bad = accepted().filter_map(|v| v.compromised.or_else(|| v.print.and_then(|print| blocked(print.digest()))));
    let seen = sight.and_then(|s| s.print).and_then(|print| blocked(print.digest()));
    let told = |trouble: &Option<(Timestamp, String)>| trouble.as_ref().map(|(at, why)| (*at, Arc::from(why.as_str())));
    KeyPart {
        key: key.id.clone(),
        state: current.map(|v| v.state),
        span: accepted().map(|v| (v.created, key.ends_at(v.created))).min_by_key(|(_, ends)| *ends),
        compromised: bad.chain(seen).min(),
        seen: key.place == KeyPlace::Manual || sight.is_some_and(|s| s.print.is_some()),
        failing: sight.and_then(|s| told(&s.failing)),
        not_live: sight.and_then(|s| told(&s.not_live)),
        grace: key.grace,
    }
}

/// The reason of a path that is not configured.
pub const UNKNOWN_PATH: &str = "KW4010";

/// What the path names, and for a watched pattern every file that matches it besides the pattern itself.
#[must_use]
pub fn needed(path: &ApprovalPath, estate: &Estate) -> BTreeSet<CredentialId> {
    let mut all = path.needs.clone();
    for watch in path.needs.iter().filter(|id| estate.watches.contains_key(*id)) {
        let prefix = format!("{watch}.");
        let matches = estate.credentials.keys().filter(|id| id.as_str().starts_with(&prefix));
        all.extend(matches.cloned());
    }
    all
}

fn part(id: &CredentialId, evidence: &Evidence<'_>) -> Part {
    let sighting = evidence.sightings.get(id);
    let seen = |observation: &Observation| observation.seen.clone();
    let blank = Part {
        credential: id.clone(),
        kind: PartKind::Unknown,
        names: None,
        purpose: None,
        stored: sighting.and_then(|s| s.stored.as_ref()).map(seen),
        unseen: sighting.is_none(),
        served: Vec::new(),
        missed: Vec::new(),
        crls: Vec::new(),
        points: None,
        key_since: None,
        compromised: Vec::new(),
        renewer: None,
    };
    let Some(credential) = evidence.estate.credentials.get(id) else {
        let pattern = evidence.estate.watches.contains_key(id);
        return Part { kind: if pattern { PartKind::Pattern } else { PartKind::Unknown }, ..blank };
    };
    let served = |endpoint: &Arc<Endpoint>| sighting.and_then(|s| s.served.get(endpoint)).map(seen);
    let missed = |endpoint: &Arc<Endpoint>| {
        sighting.and_then(|s| s.missed.get(endpoint)).map(|missed| (endpoint.clone(), missed.clone()))
    };
    let crl = |file: &String| (Arc::from(file.as_str()), sighting.and_then(|s| s.crls.get(file)).cloned());
    Part {
        kind: match &credential.care {
            Care::Managed(_) => PartKind::Managed,
            Care::Observed(Source::File { .. }) => PartKind::Observed,
            Care::Observed(Source::Endpoints) => PartKind::Endpoints,
        },
        names: credential.managed().map(|m| m.names.clone()),
        purpose: credential.purpose,
        served: credential.endpoints.iter().map(|e| (e.clone(), served(e))).collect(),
        missed: credential.endpoints.iter().filter_map(missed).collect(),
        crls: credential.list_files().map(crl).collect(),
        // Where nothing was seen yet the list is empty, which covers nothing.
        points: credential.fetches_lists().then(|| {
            let points = sighting.into_iter().flat_map(|s| &s.points);
            points.map(|(url, seen)| (url.clone(), seen.clone())).collect()
        }),
        key_since: key_since(credential, sighting, evidence.state),
        compromised: compromised(sighting, evidence.state),
        renewer: renewer(credential, evidence.state),
        ..blank
    }
}

/// A managed key is as old as its record says; of any other it is only known that it is not younger than its certificate.
fn key_since(credential: &Credential, sighting: Option<&Sighting>, state: &State) -> Option<Timestamp> {
    let chain = sighting.and_then(Sighting::last_chain)?;
    let record = state.credentials.get(&credential.id).and_then(|r| r.current.as_ref());
    let own = record.filter(|g| g.spki == chain.leaf.spki).map(|g| g.key_since);
    Some(own.unwrap_or(chain.leaf.validity.not_before))
}

fn compromised(sighting: Option<&Sighting>, state: &State) -> Vec<Digest> {
    if state.latches.is_empty() {
        return Vec::new();
    }
    let chains = sighting.into_iter().flat_map(|s| s.stored.iter().chain(s.served.values()));
    let missed = sighting.into_iter().flat_map(|s| s.missed.values()).map(|missed| &missed.chain);
    let chains = chains.filter_map(|o| o.seen.chain()).chain(missed);
    let keys = chains.flat_map(|chain| chain.elements().map(|c| c.spki));
    let bad: BTreeSet<Digest> = keys.filter(|spki| state.latches.contains_key(&LatchOn::Key(*spki))).collect();
    bad.into_iter().collect()
}

fn renewer(credential: &Credential, state: &State) -> Option<(IssuerId, Option<Timestamp>)> {
    let managed = credential.managed()?;
    let current = state.credentials.get(&credential.id).and_then(|r| r.current.as_ref()).map(|g| &g.issuer);
    let issuer = current.filter(|id| managed.issuers.contains(id)).or_else(|| managed.issuers.first())?;
    Some((issuer.clone(), state.issuers.get(issuer).and_then(|r| r.last_success)))
}

impl Snapshot {
    /// SHA-256 over all that a verdict depends on: two snapshots that could be judged differently never have the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::with_capacity(512);
        let mut all = Object::begin(&mut bytes);
        all.plain("at", &self.at.text());
        all.digits("boot_ms", millis(self.at_boot.since(Boottime::ZERO)));
        if let Some(text) = &self.guardian.clock {
            all.text("clock", text);
        }
        if let Some(text) = &self.guardian.configuration {
            all.text("configuration", text);
        }
        all.objects("depends", &self.depends, |d, out| {
            if d.borne {
                out.plain("borne", b"true");
            }
            out.text("path", d.path.as_str());
            out.text("reasons", &d.reasons.join(","));
            out.plain("until", &d.until.text());
        });
        all.plain("environment", self.environment.as_str().as_bytes());
        // Only where there is one, so that what was recorded before there were any has the digest that it had.
        if !self.freezes.is_empty() {
            all.objects("freezes", &self.freezes, |freeze, out| {
                out.text("id", &freeze.id.to_string());
                out.text("scope", &freeze.scope.to_string());
                out.plain("until", &freeze.until.text());
            });
        }
        if !self.keys.is_empty() {
            all.objects("keys", &self.keys, write_key);
        }
        if let Some(latch) = &self.latch {
            all.object("latch", |out| {
                out.plain("at", &latch.at.text());
                out.text("code", &latch.code);
                out.text("text", &latch.text);
            });
        }
        all.objects("parts", &self.parts, write_part);
        all.text("path", self.path.as_str());
        all.object("rules", |out| {
            if let Some(limit) = self.rules.issuer_silence {
                out.digits("issuer_silence", limit.as_secs());
            }
            if let Some(limit) = self.rules.key_limit {
                out.digits("key_limit", limit.as_secs());
            }
            out.digits("margin", self.rules.margin.as_secs());
            // What was written down before there were any misses to bear knew none.
            if self.rules.misses != 1 {
                out.digits("misses", self.rules.misses.into());
            }
        });
        if let Some(text) = &self.guardian.store {
            all.text("store", text);
        }
        if let Some((code, text)) = &self.guardian.unrecorded {
            all.object("unrecorded", |out| {
                out.text("code", code);
                out.text("text", text);
            });
        }
        all.end();
        Digest::of_parts(&[b"keyward-gate-inputs-v1\n", &bytes])
    }
}

fn write_key(part: &KeyPart, out: &mut Object<'_>) {
    let KeyPart { key, state, span, compromised, seen, failing, not_live, grace } = part;
    if let Some(since) = compromised {
        out.plain("compromised", &since.text());
    }
    if let Some((created, ends)) = span {
        out.plain("created", &created.text());
        out.plain("ends", &ends.text());
    }
    write_trouble("failing", failing.as_ref(), out);
    out.digits("grace", grace.as_secs());
    out.text("key", key.as_str());
    write_trouble("not_live", not_live.as_ref(), out);
    out.plain("seen", if *seen { b"true".as_slice() } else { b"false" });
    if let Some(state) = state {
        out.plain("state", state.as_str().as_bytes());
    }
}

fn write_trouble(name: &'static str, trouble: Option<&(Timestamp, Arc<str>)>, out: &mut Object<'_>) {
    if let Some((since, why)) = trouble {
        out.object(name, |out| {
            out.plain("since", &since.text());
            out.text("why", why);
        });
    }
}

fn write_part(part: &Part, out: &mut Object<'_>) {
    out.objects("compromised", &part.compromised, |key, out| out.plain("spki", &key.hex()));
    out.text("credential", part.credential.as_str());
    out.objects("crls", &part.crls, |(file, seen), out| write_list(file, seen.as_ref(), out));
    if let Some(since) = part.key_since {
        out.plain("key_since", &since.text());
    }
    out.plain("kind", part.kind.as_str().as_bytes());
    if !part.missed.is_empty() {
        out.objects("missed", &part.missed, |(endpoint, missed), out| {
            let Missed { times, since, seen_at, chain } = missed;
            out.text("endpoint", &endpoint.to_string());
            out.object("last", |out| write_chain(chain, out));
            out.plain("seen_at", &seen_at.text());
            out.digits("since_ms", millis(since.as_duration()));
            out.digits("times", (*times).into());
        });
    }
    if let Some(names) = &part.names {
        out.text("names", &names.to_string());
    }
    if let Some(points) = &part.points {
        out.objects("points", points, |(url, seen), out| write_list(url, Some(seen), out));
    }
    if let Some(purpose) = part.purpose {
        out.plain("purpose", purpose.as_str().as_bytes());
    }
    if let Some((issuer, last)) = &part.renewer {
        out.object("renewer", |out| {
            out.text("issuer", issuer.as_str());
            if let Some(last) = last {
                out.plain("last_success", &last.text());
            }
        });
    }
    out.objects("served", &part.served, |(endpoint, seen), out| {
        out.text("endpoint", &endpoint.to_string());
        write_seen(seen.as_ref(), out);
    });
    out.object("stored", |out| write_seen(part.stored.as_ref(), out));
    if part.unseen {
        out.plain("unseen", b"true");
    }
}

fn write_list(file: &str, seen: Option<&CrlSeen>, out: &mut Object<'_>) {
    match seen {
        Some(CrlSeen::Present(facts)) => {
            let all = |set: &BTreeSet<Digest>| set.iter().map(Digest::to_string).collect::<Vec<_>>().join(",");
            out.text("covers", &all(&facts.covers));
            out.text("file", file);
            if let Some(next) = facts.next_update {
                out.plain("next_update", &next.text());
            }
            out.text("revokes", &all(&facts.revokes));
            out.plain("this_update", &facts.this_update.text());
        }
        Some(CrlSeen::Missing) => missing(out, file, "missing", ""),
        Some(CrlSeen::Unreadable(why)) => missing(out, file, "unreadable", why),
        Some(CrlSeen::Unusable(why)) => missing(out, file, "unusable", why),
        None => missing(out, file, "unseen", ""),
    }
}

fn missing(out: &mut Object<'_>, file: &str, seen: &'static str, why: &str) {
    out.text("file", file);
    out.plain("seen", seen.as_bytes());
    out.text("why", why);
}

/// What is judged of a certificate: its hash alone would not bind what a file says that is in it.
fn write_certificate(c: &Certificate, out: &mut Object<'_>) {
    out.plain("fingerprint", &c.fingerprint.hex());
    out.text("names", c.names.key());
    out.plain("not_after", &c.validity.not_after.text());
    out.plain("not_before", &c.validity.not_before.text());
    let purposes = Purpose::ALL.iter().filter(|(purpose, _)| c.purposes.allow(*purpose)).map(|(_, word)| *word);
    out.text("purposes", &purposes.collect::<Vec<_>>().join(","));
    out.text("serial", &c.serial);
    out.plain("spki", &c.spki.hex());
    out.text("subject", &c.subject);
}

fn write_seen(seen: Option<&Seen>, out: &mut Object<'_>) {
    let (word, why) = match seen {
        Some(Seen::Present(chain)) => return write_chain(chain, out),
        None => ("unseen", ""),
        Some(Seen::Missing) => ("missing", ""),
        Some(Seen::Unreadable(why)) => ("unreadable", why.as_str()),
        Some(Seen::Unreachable(why)) => ("unreachable", why.as_str()),
        Some(Seen::Unparseable(why)) => ("unparseable", why.as_str()),
    };
    out.plain("seen", word.as_bytes());
    out.text("why", why);
}

fn write_chain(chain: &Chain, out: &mut Object<'_>) {
    let all: Vec<&Certificate> = chain.elements().map(|c| &**c).collect();
    out.objects("present", &all, |c, out| write_certificate(c, out));
    match &chain.trust {
        Trust::Anchored => out.plain("trust", b"anchored"),
        Trust::Untrusted(why) => out.text("untrusted", why),
    }
}

/// Whole milliseconds: what is written down is judged again to the same.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
