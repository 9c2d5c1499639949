//! The audit entry: CloudEvents 1.0 as canonical JSON, hashed as stored.
//!
//! A [`Draft`] says what happened; the store gives it a sequence number and the link to the previous entry of its target
//! inside the very transaction that changes the state, and [`seal`] turns it into bytes and a leaf hash (RFC 6962
//! section 2.1). Refuses to know where entries are kept.

use core::fmt;
use std::sync::Arc;

use crate::domain::id::{AttemptId, EntryId};
use crate::domain::json::{Json, Object};
use crate::domain::key::Digest;
use crate::domain::private::{Private, Told};
use crate::domain::time::Timestamp;
use crate::domain::words::{Parts, words};

/// An entry is at most this long in bytes (C2SP tlog-tiles allows 64 KiB; 4 KiB are left for the envelope).
pub const LONGEST_ENTRY: usize = 60 * 1_024;

/// A text from outside (a CA's error, a hook's output) is cut to this many bytes in an entry.
pub const LONGEST_TEXT: usize = 2_048;

/// One piece of evidence is at most this long in bytes: an exchange with a CA is some tens of KiB, and whoever has more
/// cuts it, says so in the evidence, and hashes what is left.
pub const LONGEST_EVIDENCE: usize = 256 * 1_024;

/// Whether an entry announces, concludes, or stands by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Durable before an effect.
    Intent,
    /// What came of an intent.
    Outcome,
    /// Something that happened.
    Event,
}

impl Phase {
    /// Its name in the entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Event => "event",
        }
    }
}

/// How an outcome came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Done, and verified where that applies.
    Success,
    /// Not done.
    Failure,
    /// Not allowed.
    Denied,
    /// Cannot be told.
    Unknown,
}

impl Outcome {
    /// Its name in the entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The guardian by its rules; the version is in the envelope.
    Automation,
    /// A person, by their pseudonym ([`Private::commitment`] as text): the same for everything that they do, and nobody's
    /// name.
    Human(Arc<str>),
}

impl Actor {
    /// Its kind in the entry.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Automation => "automation",
            Self::Human(_) => "human",
        }
    }

    /// Its name in the entry.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Automation => None,
            Self::Human(subject) => Some(subject),
        }
    }
}

/// What kind of thing an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// A credential.
    Credential,
    /// An issuer's account.
    Issuer,
    /// An approval path.
    Path,
    /// A private CA.
    Ca,
    /// A key that is no certificate's.
    Key,
    /// An ACME directory over a private CA.
    Directory,
    /// The guardian itself.
    Daemon,
}

impl TargetKind {
    /// Its name in the entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Issuer => "issuer",
            Self::Path => "path",
            Self::Ca => "ca",
            Self::Key => "key",
            Self::Directory => "directory",
            Self::Daemon => "daemon",
        }
    }
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its id.
    pub id: Arc<str>,
    /// Serial number, hexadecimal, when a certificate is meant.
    pub serial: Option<Arc<str>>,
    /// SHA-256 of its SubjectPublicKeyInfo, when a key is meant.
    pub spki: Option<Digest>,
}

impl Target {
    /// A target without certificate.
    #[must_use]
    pub fn new(kind: TargetKind, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into(), serial: None, spki: None }
    }

    /// The key of the chain of entries about this target.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.id)
    }
}

/// A decision of policy as an entry records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `proceed`, `await_approval` or `refuse`.
    pub decision: &'static str,
    /// The rule that decided.
    pub rule: Arc<str>,
    /// Digest of the policy.
    pub version: Digest,
    /// Digest of the inputs.
    pub inputs: Digest,
    /// Tier 0–4.
    pub tier: u8,
}

/// A piece of evidence that the entry names by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it is, for example `acme-exchange`.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: usize,
    /// Its media type.
    pub media: &'static str,
    /// When it was captured.
    pub captured_at: Timestamp,
    /// The bytes, for the store to keep by their hash in the same transaction.
    pub bytes: Arc<[u8]>,
}

/// An entry before the store gave it its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its id.
    pub id: EntryId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What, in dotted form: `certificate.order`, `certificate.install`, …
    pub action: &'static str,
    /// Stable code, documented in `docs/codes.md`: `KW…`.
    pub code: &'static str,
    /// About what.
    pub target: Target,
    /// Announces, concludes or stands by itself.
    pub phase: Phase,
    /// How it came out, for outcomes.
    pub outcome: Option<Outcome>,
    /// The intent that this concludes.
    pub intent: Option<EntryId>,
    /// The attempt that it belongs to: everything of one renewal has the same.
    pub correlation: Option<AttemptId>,
    /// What policy said.
    pub policy: Option<Policy>,
    /// Evidence by hash.
    pub evidence: Vec<Evidence>,
    /// More facts, by stable keys: codes, ids, times; no secrets, no free text, no personal data.
    pub facts: Vec<(&'static str, Json)>,
    /// Free text from outside, by stable keys: the entry holds commitments only.
    pub private: Vec<(&'static str, Arc<str>)>,
    /// Who the actor is, if it is a person: the entry holds the pseudonym only.
    pub person: Option<Private>,
    /// Commitments whose texts are deleted in the same transaction: the entry says so by its facts.
    pub forgets: Vec<Digest>,
}

impl Draft {
    /// An event about `target` by automation; the caller sets what else there is to say.
    #[must_use]
    pub fn new(id: EntryId, at: Timestamp, action: &'static str, code: &'static str, target: Target) -> Self {
        Self {
            id,
            at,
            actor: Actor::Automation,
            action,
            code,
            target,
            phase: Phase::Event,
            outcome: None,
            intent: None,
            correlation: None,
            policy: None,
            evidence: Vec::new(),
            facts: Vec::new(),
            private: Vec::new(),
            person: None,
            forgets: Vec::new(),
        }
    }

    /// A person did it.
    pub fn by(&mut self, person: &Private) {
        self.actor = Actor::Human(Arc::from(person.commitment().to_string()));
        self.person = Some(person.clone());
    }
}

/// Why a piece of evidence cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Longer than [`LONGEST_EVIDENCE`].
    #[error("evidence {name} has {size} bytes; at most {LONGEST_EVIDENCE} are kept, so it must be cut first")]
    TooLong {
        /// Its name.
        name: String,
        /// Its size in bytes.
        size: usize,
    },
    /// The entry would name other bytes than those that are kept.
    #[error("evidence {name} is not what its entry says: its bytes have another size or another SHA-256")]
    NotItsHash {
        /// Its name.
        name: String,
    },
}

impl Evidence {
    /// Whether the bytes are short enough, and are those that size and hash promise.
    ///
    /// # Errors
    /// [`EvidenceError`] says which rule is broken.
    pub fn check(&self) -> Result<(), EvidenceError> {
        if self.bytes.len() > LONGEST_EVIDENCE {
            return Err(EvidenceError::TooLong { name: self.name.clone(), size: self.bytes.len() });
        }
        if self.bytes.len() != self.size || Digest::of(&self.bytes) != self.sha256 {
            return Err(EvidenceError::NotItsHash { name: self.name.clone() });
        }
        Ok(())
    }
}

/// An entry with its place: the bytes are what is stored, exported and hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// SHA-256(0x00 ‖ bytes), RFC 6962 section 2.1.
    pub leaf: Digest,
    /// Whether the facts are in it.
    pub facts: Facts,
}

/// The leaf hash of stored entry bytes (RFC 6962 section 2.1).
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], bytes])
}

/// Gives a draft its place: sequence number in the log, and the leaf hash of the previous entry about the same target.
/// `told` is what the store adds: the changes of its transaction, and commitments instead of texts.
///
/// An entry that would be longer than [`LONGEST_ENTRY`] loses its facts and says so, so that it can almost always be
/// written; its changes it never loses.
#[must_use]
pub fn seal(draft: &Draft, sequence: u64, previous: Option<Digest>, told: &Told<'_>) -> Sealed {
    let mut facts = Facts::Whole;
    let mut bytes = envelope(draft, sequence, previous, told, facts);
    if bytes.len() > LONGEST_ENTRY.saturating_add(1) {
        facts = Facts::LeftOut;
        bytes = envelope(draft, sequence, previous, told, facts);
    }
    let leaf = Digest::of(&bytes);
    // What is hashed begins with a zero byte, what is stored does not.
    bytes.remove(0);
    Sealed { bytes, leaf, facts }
}

/// Whether an entry has its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facts {
    /// All of them.
    Whole,
    /// They were too long; the entry says so.
    LeftOut,
}

/// The words that an entry is found by ([`crate::domain::words`]): those that its stored bytes give too.
#[must_use]
pub fn marks(draft: &Draft, facts: Facts) -> Vec<String> {
    let issuer = draft.facts.iter().find(|(key, _)| *key == "issuer").and_then(|(_, value)| match value {
        Json::Str(text) => Some(text.as_ref()),
        Json::Shared(text) => Some(&**text),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Hash(_) | Json::Time(_) | Json::Arr(_) | Json::Obj(_) => None,
    });
    let correlation = draft.correlation.map(|id| id.to_string());
    words(&Parts {
        at: draft.at,
        target_kind: draft.target.kind.as_str(),
        target_id: &draft.target.id,
        action: draft.action,
        code: draft.code,
        phase: draft.phase.as_str(),
        outcome: draft.outcome.map(Outcome::as_str),
        actor_kind: draft.actor.kind(),
        actor_subject: draft.actor.subject(),
        tier: draft.policy.as_ref().map(|p| p.tier),
        issuer: issuer.filter(|_| facts == Facts::Whole),
        correlation: correlation.as_deref(),
    })
}

/// A zero byte, then the entry as canonical JSON; keys stand in the order in which they are written.
fn envelope(draft: &Draft, sequence: u64, previous: Option<Digest>, told: &Told<'_>, facts: Facts) -> Vec<u8> {
    // Most entries have some 900 bytes.
    let mut bytes = Vec::with_capacity(1_024);
    bytes.push(0);
    let mut entry = Object::begin(&mut bytes);
    entry.object("data", |data| {
        data.plain("action", draft.action.as_bytes());
        match &draft.actor {
            Actor::Automation => data.fixed("actor", "actor", r#""actor":{"kind":"automation"}"#),
            Actor::Human(subject) => data.object("actor", |actor| {
                actor.plain("kind", b"human");
                actor.text("subject", subject);
            }),
        }
        data.fixed(
            "automation",
            "automation",
            concat!(r#""automation":{"engine":"keyward","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#),
        );
        if !told.changes.is_empty() {
            data.raw("changes", &told.changes);
        }
        data.plain("code", draft.code.as_bytes());
        data.plain_some("correlation_id", draft.correlation.map(|id| id.0.text()));
        if !draft.evidence.is_empty() {
            data.objects("evidence", &draft.evidence, |e, piece| {
                piece.plain("captured_at", &e.captured_at.text());
                piece.text("media", e.media);
                piece.text("name", &e.name);
                piece.plain("sha256", &e.sha256.hex());
                piece.digits("size", u64::try_from(e.size).unwrap_or(u64::MAX));
            });
        }
        match facts {
            Facts::Whole => write_facts(draft, data),
            Facts::LeftOut => data.text("facts", "left out: too long"),
        }
        data.plain_some("intent_ref", draft.intent.map(|id| id.0.text()));
        if let Some(outcome) = draft.outcome {
            data.plain("outcome", outcome.as_str().as_bytes());
        }
        data.plain("phase", draft.phase.as_str().as_bytes());
        if let Some(policy) = &draft.policy {
            data.object("policy", |p| {
                p.text("decision", policy.decision);
                p.plain("inputs", &policy.inputs.hex());
                p.text("rule", &policy.rule);
                p.plain("version", &policy.version.hex());
            });
        }
        data.plain_some("previous_of_target", previous.map(|leaf| leaf.hex()));
        let commitments = told.commitments();
        if !commitments.is_empty() {
            data.raw("private", &commitments);
        }
        if let Some(policy) = &draft.policy {
            data.object("risk", |risk| risk.value("tier", &Json::Int(i64::from(policy.tier))));
        }
        data.object("target", |target| {
            target.text("id", &draft.target.id);
            target.plain("kind", draft.target.kind.as_str().as_bytes());
            if let Some(serial) = &draft.target.serial {
                target.text("serial", serial);
            }
            target.plain_some("spki_sha256", draft.target.spki.map(|spki| spki.hex()));
        });
    });
    entry.plain("id", &draft.id.0.text());
    entry.digits("sequence", sequence);
    entry.fixed("source", "specversion", r#""source":"urn:keyward","specversion":"1.0""#);
    entry.plain("time", &draft.at.text());
    entry.prefixed("type", b"dev.keyward.", draft.action.as_bytes());
    entry.end();
    bytes
}

fn write_facts(draft: &Draft, data: &mut Object<'_>) {
    // What is not known is not written.
    let mut known = draft.facts.iter().filter(|(_, value)| *value != Json::Null).peekable();
    if known.peek().is_none() {
        return;
    }
    if draft.facts.is_sorted_by(|(one, _), (other, _)| one < other) {
        data.object("facts", |object| known.for_each(|(key, value)| object.value(key, value)));
        return;
    }
    let mut facts: Vec<_> = known.collect();
    facts.sort_by_key(|(key, _)| *key);
    facts.dedup_by_key(|(key, _)| *key);
    data.object("facts", |object| facts.into_iter().for_each(|(key, value)| object.value(key, value)));
}

/// Cuts a text from outside to [`LONGEST_TEXT`] bytes on a character boundary and replaces control characters.
#[must_use]
pub fn bounded_text(text: &str) -> String {
    bounded_to(text, LONGEST_TEXT)
}

/// As [`bounded_text`], with a limit of its own.
#[must_use]
pub fn bounded_to(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let kept = text.get(..end).unwrap_or_default();
    // A URL, mostly.
    if kept.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return kept.to_owned();
    }
    kept.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Ulid;

    fn draft() -> Draft {
        let at = Timestamp::from_unix(1_790_000_000);
        let target = Target::new(TargetKind::Credential, "portal");
        Draft::new(EntryId(Ulid::new(at, [7; 10])), at, "certificate.order", "KW2001", target)
    }

    fn sealed(draft: &Draft, sequence: u64, previous: Option<Digest>) -> Sealed {
        let mut salt = || [9; 16];
        seal(draft, sequence, previous, &Told::of(&draft.private, &mut salt))
    }

    #[test]
    fn an_entry_is_hashed_as_stored_and_each_change_changes_the_leaf() {
        let a = sealed(&draft(), 1, None);
        assert_eq!(a.leaf, leaf_hash(&a.bytes));
        assert_ne!(sealed(&draft(), 2, None).leaf, a.leaf);
        assert_ne!(sealed(&draft(), 1, Some(a.leaf)).leaf, a.leaf);
        let mut denied = draft();
        denied.outcome = Some(Outcome::Denied);
        assert_ne!(sealed(&denied, 1, None).leaf, a.leaf);
    }

    #[test]
    fn an_entry_never_exceeds_its_limit_and_says_what_it_left_out() {
        let mut long = draft();
        long.facts.push(("text", Json::str("x".repeat(2 * LONGEST_ENTRY))));
        let sealed = sealed(&long, 1, None);
        assert!(sealed.bytes.len() <= LONGEST_ENTRY);
        assert!(String::from_utf8_lossy(&sealed.bytes).contains("left out: too long"));
    }

    #[test]
    fn evidence_that_is_too_long_or_not_its_hash_is_refused() {
        let evidence = |bytes: &[u8], size, hashed: &[u8]| Evidence {
            name: "acme-exchange".into(),
            sha256: Digest::of(hashed),
            size,
            media: "text/plain",
            captured_at: Timestamp::from_unix(0),
            bytes: Arc::from(bytes),
        };
        let name = || "acme-exchange".to_owned();
        let long = vec![0; LONGEST_EVIDENCE + 1];
        assert_eq!(evidence(b"ab", 2, b"ab").check(), Ok(()));
        assert_eq!(evidence(b"ab", 2, b"ac").check(), Err(EvidenceError::NotItsHash { name: name() }));
        assert_eq!(evidence(b"ab", 3, b"ab").check(), Err(EvidenceError::NotItsHash { name: name() }));
        let too_long = EvidenceError::TooLong { name: name(), size: long.len() };
        assert_eq!(evidence(&long, long.len(), &long).check(), Err(too_long));
    }

    #[test]
    fn text_from_outside_is_bounded_and_has_no_control_characters() {
        let text = bounded_text(&format!("a\u{1b}[31m{}", "é".repeat(LONGEST_TEXT)));
        assert!(text.len() <= LONGEST_TEXT + 8 && !text.contains('\u{1b}'));
    }
}
