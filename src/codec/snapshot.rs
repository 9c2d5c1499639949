//! A snapshot as text, for explanations: what a verdict looked at, written down and read again.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ParseError;
use crate::domain::certificate::{CertId, Certificate, Chain, Listing, Purpose, Purposes, Trust};
use crate::domain::freeze::Scope;
use crate::domain::id::{CredentialId, FreezeId, IssuerId, PathId, SlugError};
use crate::domain::inventory::{CrlFacts, CrlSeen, Endpoint, Environment, Missed, Seen, StartTls};
use crate::domain::key::Digest;
use crate::domain::name::NameSet;
use crate::domain::snapshot::{Dependency, FreezeOver, Guardian, Part, PartKind, Rules, Snapshot};
use crate::domain::state::Latch;
use crate::domain::time::{Boottime, Timestamp, Validity};

/// A snapshot as text. Times are RFC 3339, spans whole seconds, digests hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotText {
    pub(super) path: String,
    margin_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_limit_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer_silence_s: Option<u64>,
    /// Not written where it is 1, as it was before there was such a rule.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    misses: u32,
    environment: String,
    pub(super) at: String,
    boot_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock_fault: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store_fault: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    configuration_fault: Option<String>,
    /// Code and sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unrecorded: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latch: Option<LatchText>,
    /// Explanations that were written before there were freezes have none, and lose nothing by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    freezes: Vec<FreezeText>,
    parts: Vec<PartText>,
    depends: Vec<DependencyText>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LatchText {
    at: String,
    code: String,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeText {
    id: String,
    scope: String,
    until: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DependencyText {
    path: String,
    reasons: Vec<String>,
    until: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    borne: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartText {
    credential: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored: Option<SeenText>,
    unseen: bool,
    served: Vec<ServedText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missed: Vec<MissedText>,
    crls: Vec<CrlText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    points: Option<Vec<CrlText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_since: Option<String>,
    compromised: Vec<String>,
    /// The issuer, and when it last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renewer: Option<(String, Option<String>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServedText {
    host: String,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    starttls: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<SeenText>,
}

/// An endpoint that the newest looks did not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MissedText {
    host: String,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sni: Option<String>,
    starttls: String,
    times: u32,
    since_ms: u64,
    seen_at: String,
    /// What it served then; always present.
    last: SeenText,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum SeenText {
    Present {
        /// Leaf first, anchor last.
        chain: Vec<CertificateText>,
        /// Why it is not trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        untrusted: Option<String>,
    },
    Missing,
    Unreadable(String),
    Unreachable(String),
    Unparseable(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateText {
    fingerprint: String,
    spki: String,
    serial: String,
    subject: String,
    issuer: String,
    names: String,
    not_before: String,
    not_after: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cert_id: Option<String>,
    may_issue: bool,
    purposes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CrlText {
    file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<CrlSeenText>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum CrlSeenText {
    Present {
        this_update: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_update: Option<String>,
        covers: Vec<String>,
        revokes: Vec<String>,
    },
    Missing,
    Unreadable(String),
    Unusable(String),
}

const STARTTLS: [(StartTls, &str); 4] =
    [(StartTls::None, "none"), (StartTls::Smtp, "smtp"), (StartTls::Imap, "imap"), (StartTls::Postgres, "postgres")];

impl SnapshotText {
    /// From a snapshot.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let own = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let Snapshot { path, rules, environment, at, at_boot, guardian, latch, freezes, parts, depends } = snapshot;
        Self {
            path: path.to_string(),
            margin_s: rules.margin.as_secs(),
            key_limit_s: rules.key_limit.map(|l| l.as_secs()),
            issuer_silence_s: rules.issuer_silence.map(|l| l.as_secs()),
            misses: rules.misses,
            environment: environment.as_str().to_owned(),
            at: at.to_string(),
            boot_ms: millis(*at_boot),
            clock_fault: own(&guardian.clock),
            store_fault: own(&guardian.store),
            configuration_fault: own(&guardian.configuration),
            unrecorded: guardian.unrecorded.as_ref().map(|(code, text)| (code.to_string(), text.to_string())),
            latch: latch.as_ref().map(|l| LatchText {
                at: l.at.to_string(),
                code: l.code.to_string(),
                text: l.text.to_string(),
                by: own(&l.by),
            }),
            freezes: freezes.iter().map(FreezeText::of).collect(),
            parts: parts.iter().map(PartText::of).collect(),
            depends: depends
                .iter()
                .map(|d| DependencyText {
                    path: d.path.to_string(),
                    reasons: d.reasons.iter().map(ToString::to_string).collect(),
                    until: d.until.to_string(),
                    borne: d.borne,
                })
                .collect(),
        }
    }

    /// The snapshot.
    ///
    /// # Errors
    /// If it holds anything that none can hold.
    pub fn read(&self) -> Result<Snapshot, ParseError> {
        let own = |text: &Option<String>| text.as_deref().map(Arc::from);
        let seconds = core::time::Duration::from_secs;
        Ok(Snapshot {
            path: slug("path", &self.path, PathId::parse)?,
            rules: Rules {
                margin: seconds(self.margin_s),
                key_limit: self.key_limit_s.map(seconds),
                issuer_silence: self.issuer_silence_s.map(seconds),
                misses: self.misses,
            },
            environment: one_of(
                "environment",
                &self.environment,
                [Environment::Production, Environment::Staging].map(|e| (e, e.as_str())),
            )?,
            at: time(&self.at)?,
            at_boot: boottime(self.boot_ms),
            guardian: Guardian {
                clock: own(&self.clock_fault),
                store: own(&self.store_fault),
                configuration: own(&self.configuration_fault),
                unrecorded: self.unrecorded.as_ref().map(|(c, t)| (Arc::from(c.as_str()), Arc::from(t.as_str()))),
            },
            latch: match &self.latch {
                None => None,
                Some(l) => Some(Latch {
                    at: time(&l.at)?,
                    code: Arc::from(l.code.as_str()),
                    text: Arc::from(l.text.as_str()),
                    by: own(&l.by),
                }),
            },
            freezes: self.freezes.iter().map(FreezeText::read).collect::<Result<_, _>>()?,
            parts: self.parts.iter().map(PartText::read).collect::<Result<_, _>>()?,
            depends: self.depends.iter().map(DependencyText::read).collect::<Result<_, _>>()?,
        })
    }
}

impl FreezeText {
    fn of(freeze: &FreezeOver) -> Self {
        let FreezeOver { id, scope, until } = freeze;
        Self { id: id.to_string(), scope: scope.to_string(), until: until.to_string() }
    }

    fn read(&self) -> Result<FreezeOver, ParseError> {
        Ok(FreezeOver {
            id: FreezeId::parse(&self.id).ok_or_else(|| ParseError(format!("{:?} is no freeze's id", self.id)))?,
            scope: Scope::parse(&self.scope).map_err(|e| ParseError(format!("the scope {:?} {e}", self.scope)))?,
            until: time(&self.until)?,
        })
    }
}

impl DependencyText {
    fn read(&self) -> Result<Dependency, ParseError> {
        Ok(Dependency {
            path: slug("path", &self.path, PathId::parse)?,
            reasons: self.reasons.iter().map(|r| Arc::from(r.as_str())).collect(),
            until: time(&self.until)?,
            borne: self.borne,
        })
    }
}

impl PartText {
    fn of(part: &Part) -> Self {
        let starttls = |endpoint: &Endpoint| {
            STARTTLS.iter().find(|(s, _)| *s == endpoint.starttls).map_or("", |(_, word)| word).to_owned()
        };
        let served = |(endpoint, seen): &(Arc<Endpoint>, Option<Seen>)| ServedText {
            host: endpoint.host.clone(),
            port: endpoint.port,
            sni: endpoint.sni.clone(),
            starttls: starttls(endpoint),
            seen: seen.as_ref().map(SeenText::of),
        };
        let missed = |(endpoint, missed): &(Arc<Endpoint>, Missed)| MissedText {
            host: endpoint.host.clone(),
            port: endpoint.port,
            sni: endpoint.sni.clone(),
            starttls: starttls(endpoint),
            times: missed.times,
            since_ms: millis(missed.since),
            seen_at: missed.seen_at.to_string(),
            last: SeenText::of_chain(&missed.chain),
        };
        Self {
            credential: part.credential.to_string(),
            kind: part.kind.as_str().to_owned(),
            names: part.names.as_ref().map(|names| names.key().to_string()),
            purpose: part.purpose.map(|p| p.as_str().to_owned()),
            stored: part.stored.as_ref().map(SeenText::of),
            unseen: part.unseen,
            served: part.served.iter().map(served).collect(),
            missed: part.missed.iter().map(missed).collect(),
            crls: part.crls.iter().map(|(file, seen)| CrlText::of(file, seen.as_ref())).collect(),
            points: part
                .points
                .as_ref()
                .map(|all| all.iter().map(|(url, seen)| CrlText::of(url, Some(seen))).collect()),
            key_since: part.key_since.map(|at| at.to_string()),
            compromised: part.compromised.iter().map(Digest::to_string).collect(),
            renewer: part.renewer.as_ref().map(|(id, last)| (id.to_string(), last.map(|at| at.to_string()))),
        }
    }

    fn read(&self) -> Result<Part, ParseError> {
        Ok(Part {
            credential: slug("credential", &self.credential, CredentialId::parse)?,
            kind: one_of("kind", &self.kind, PartKind::ALL)?,
            names: maybe(self.names.as_deref(), |key| {
                NameSet::parse_key(key).map_err(|e| ParseError(format!("the names {key:?}: {e}")))
            })?,
            purpose: maybe(self.purpose.as_deref(), |word| one_of("purpose", word, Purpose::ALL))?,
            stored: maybe(self.stored.as_ref(), SeenText::read)?,
            unseen: self.unseen,
            served: self.served.iter().map(ServedText::read).collect::<Result<_, _>>()?,
            missed: self.missed.iter().map(MissedText::read).collect::<Result<_, _>>()?,
            crls: self.crls.iter().map(CrlText::read).collect::<Result<_, _>>()?,
            points: maybe(self.points.as_ref(), |all| {
                let point = |text: &CrlText| match text.read()? {
                    (url, Some(seen)) => Ok((url, seen)),
                    (url, None) => Err(ParseError(format!("nothing is said of the list {url}"))),
                };
                all.iter().map(point).collect::<Result<_, _>>()
            })?,
            key_since: maybe(self.key_since.as_deref(), time)?,
            compromised: digests(&self.compromised)?,
            renewer: match &self.renewer {
                None => None,
                Some((id, last)) => Some((slug("issuer", id, IssuerId::parse)?, maybe(last.as_deref(), time)?)),
            },
        })
    }
}

impl ServedText {
    fn read(&self) -> Result<(Arc<Endpoint>, Option<Seen>), ParseError> {
        let endpoint = Endpoint {
            host: self.host.clone(),
            port: self.port,
            sni: self.sni.clone(),
            starttls: one_of("starttls", &self.starttls, STARTTLS)?,
        };
        Ok((Arc::new(endpoint), maybe(self.seen.as_ref(), SeenText::read)?))
    }
}

impl MissedText {
    fn read(&self) -> Result<(Arc<Endpoint>, Missed), ParseError> {
        let endpoint = Endpoint {
            host: self.host.clone(),
            port: self.port,
            sni: self.sni.clone(),
            starttls: one_of("starttls", &self.starttls, STARTTLS)?,
        };
        let last = self.last.read()?;
        let chain = last.chain().ok_or_else(|| ParseError::new("what a missed endpoint served is no certificate"))?;
        let (times, since, seen_at) = (self.times, boottime(self.since_ms), time(&self.seen_at)?);
        Ok((Arc::new(endpoint), Missed { times, since, seen_at, chain: chain.clone() }))
    }
}

impl SeenText {
    fn of_chain(chain: &Chain) -> Self {
        Self::Present {
            chain: chain.elements().map(|c| CertificateText::of(c)).collect(),
            untrusted: match &chain.trust {
                Trust::Anchored => None,
                Trust::Untrusted(why) => Some(why.clone()),
            },
        }
    }

    fn of(seen: &Seen) -> Self {
        match seen {
            Seen::Present(chain) => Self::of_chain(chain),
            Seen::Missing => Self::Missing,
            Seen::Unreadable(why) => Self::Unreadable(why.clone()),
            Seen::Unreachable(why) => Self::Unreachable(why.clone()),
            Seen::Unparseable(why) => Self::Unparseable(why.clone()),
        }
    }

    fn read(&self) -> Result<Seen, ParseError> {
        Ok(match self {
            Self::Present { chain, untrusted } => {
                let all: Vec<Certificate> = chain.iter().map(CertificateText::read).collect::<Result<_, _>>()?;
                let mut all = all.into_iter().map(Arc::new);
                let leaf = all.next().ok_or_else(|| ParseError::new("a chain holds no certificate"))?;
                let trust = untrusted.clone().map_or(Trust::Anchored, Trust::Untrusted);
                Seen::Present(Arc::new(Chain { leaf, above: all.collect(), trust }))
            }
            Self::Missing => Seen::Missing,
            Self::Unreadable(why) => Seen::Unreadable(why.clone()),
            Self::Unreachable(why) => Seen::Unreachable(why.clone()),
            Self::Unparseable(why) => Seen::Unparseable(why.clone()),
        })
    }
}

impl CertificateText {
    fn of(c: &Certificate) -> Self {
        let purposes = Purpose::ALL.iter().filter(|(purpose, _)| c.purposes.allow(*purpose));
        Self {
            fingerprint: c.fingerprint.to_string(),
            spki: c.spki.to_string(),
            serial: c.serial.to_string(),
            subject: c.subject.clone(),
            issuer: c.issuer.clone(),
            names: c.names.key().to_string(),
            not_before: c.validity.not_before.to_string(),
            not_after: c.validity.not_after.to_string(),
            cert_id: c.cert_id.as_ref().map(ToString::to_string),
            may_issue: c.may_issue,
            purposes: purposes.map(|(_, word)| (*word).to_owned()).collect(),
        }
    }

    fn read(&self) -> Result<Certificate, ParseError> {
        let mut purposes = Purposes { server: false, client: false };
        for word in &self.purposes {
            match one_of("purpose", word, Purpose::ALL)? {
                Purpose::Server => purposes.server = true,
                Purpose::Client => purposes.client = true,
            }
        }
        Ok(Certificate {
            fingerprint: digest(&self.fingerprint)?,
            spki: digest(&self.spki)?,
            serial: Arc::from(self.serial.as_str()),
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
            names: NameSet::parse_key(&self.names)
                .map_err(|e| ParseError(format!("the names {:?}: {e}", self.names)))?,
            validity: Validity { not_before: time(&self.not_before)?, not_after: time(&self.not_after)? },
            cert_id: self.cert_id.as_deref().map(|id| CertId(Arc::from(id))),
            may_issue: self.may_issue,
            purposes,
            // What the lists said stands in the snapshot; where they lie is not judged.
            listing: Listing::default(),
        })
    }
}

impl CrlText {
    fn of(file: &str, seen: Option<&CrlSeen>) -> Self {
        let all = |set: &BTreeSet<Digest>| set.iter().map(Digest::to_string).collect();
        let seen = seen.map(|seen| match seen {
            CrlSeen::Present(facts) => CrlSeenText::Present {
                this_update: facts.this_update.to_string(),
                next_update: facts.next_update.map(|at| at.to_string()),
                covers: all(&facts.covers),
                revokes: all(&facts.revokes),
            },
            CrlSeen::Missing => CrlSeenText::Missing,
            CrlSeen::Unreadable(why) => CrlSeenText::Unreadable(why.clone()),
            CrlSeen::Unusable(why) => CrlSeenText::Unusable(why.clone()),
        });
        Self { file: file.to_owned(), seen }
    }

    fn read(&self) -> Result<(Arc<str>, Option<CrlSeen>), ParseError> {
        let seen = maybe(self.seen.as_ref(), |seen| {
            Ok(match seen {
                CrlSeenText::Present { this_update, next_update, covers, revokes } => CrlSeen::Present(CrlFacts {
                    this_update: time(this_update)?,
                    next_update: maybe(next_update.as_deref(), time)?,
                    covers: digests(covers)?.into_iter().collect(),
                    revokes: digests(revokes)?.into_iter().collect(),
                }),
                CrlSeenText::Missing => CrlSeen::Missing,
                CrlSeenText::Unreadable(why) => CrlSeen::Unreadable(why.clone()),
                CrlSeenText::Unusable(why) => CrlSeen::Unusable(why.clone()),
            })
        })?;
        Ok((Arc::from(self.file.as_str()), seen))
    }
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

fn millis(at: Boottime) -> u64 {
    u64::try_from(at.as_duration().as_millis()).unwrap_or(u64::MAX)
}

fn boottime(millis: u64) -> Boottime {
    Boottime::from_boot(core::time::Duration::from_millis(millis))
}

fn maybe<T, U>(value: Option<T>, read: impl FnOnce(T) -> Result<U, ParseError>) -> Result<Option<U>, ParseError> {
    value.map(read).transpose()
}

fn time(text: &str) -> Result<Timestamp, ParseError> {
    Timestamp::parse(text).ok_or_else(|| ParseError(format!("{text:?} is no time")))
}

fn digest(text: &str) -> Result<Digest, ParseError> {
    Digest::parse(text).ok_or_else(|| ParseError(format!("{text:?} is no SHA-256")))
}

fn digests(all: &[String]) -> Result<Vec<Digest>, ParseError> {
    all.iter().map(|text| digest(text)).collect()
}

fn slug<T>(what: &str, text: &str, parse: impl Fn(&str) -> Result<T, SlugError>) -> Result<T, ParseError> {
    parse(text).map_err(|e| ParseError(format!("the {what} {text:?} {e}")))
}

fn one_of<T: Copy, const N: usize>(what: &str, text: &str, words: [(T, &str); N]) -> Result<T, ParseError> {
    let found = words.iter().find(|(_, word)| *word == text).map(|(value, _)| *value);
    found.ok_or_else(|| ParseError(format!("{text:?} is no {what}")))
}
