//! An audit entry read back from its stored bytes.
//!
//! What is not known here is passed over, so that entries of a later version can still be read and found; what is known
//! must be as [`crate::domain::audit::seal`] writes it. Refuses to know whether the entry is genuine: the tree says so.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::codec::ParseError;
use crate::domain::audit::{LONGEST_ENTRY, Outcome, Phase};
use crate::domain::id::{AttemptId, EntryId, Ulid};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::words::{self, Parts};

/// A stored entry, as read.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// When.
    pub at: Timestamp,
    /// Its place in the log, from 0.
    pub sequence: u64,
    /// What was done.
    pub action: String,
    /// Its stable code.
    pub code: String,
    /// About what.
    pub target: EntryTarget,
    /// Who.
    pub actor: EntryActor,
    /// Announces, concludes or stands by itself.
    pub phase: Phase,
    /// How it came out.
    pub outcome: Option<Outcome>,
    /// The intent that it concludes.
    pub intent: Option<EntryId>,
    /// What it belongs to.
    pub correlation: Option<AttemptId>,
    /// What policy said.
    pub policy: Option<EntryPolicy>,
    /// The tier, 0–4.
    pub tier: Option<u8>,
    /// Evidence by its hash.
    pub evidence: Vec<EntryEvidence>,
    /// The leaf hash of the entry before it about the same target.
    pub previous: Option<Digest>,
    /// The version that wrote it.
    pub version: Option<String>,
    /// More facts.
    pub facts: EntryFacts,
    /// Everything below `data` that is not one of the fields above.
    pub more: Map<String, Value>,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryTarget {
    /// Its kind; a later version may know more kinds than this one.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// A certificate's serial number, hexadecimal.
    pub serial: Option<String>,
    /// SHA-256 of a SubjectPublicKeyInfo.
    pub spki: Option<Digest>,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryActor {
    /// `automation`, `human`, or what a later version knows.
    pub kind: String,
    /// Who exactly.
    pub subject: Option<String>,
}

/// What policy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPolicy {
    /// `proceed`, `await_approval` or `refuse`.
    pub decision: String,
    /// The rule that decided.
    pub rule: String,
    /// Digest of the policy.
    pub version: Digest,
    /// Digest of the inputs.
    pub inputs: Digest,
}

/// A piece of evidence, named by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryEvidence {
    /// What it is.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media: String,
    /// When it was captured.
    pub captured_at: Timestamp,
}

/// The facts of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryFacts {
    /// These, by key; empty if there are none.
    Known(Map<String, Value>),
    /// They were too long and left out when the entry was written.
    LeftOut,
}

impl EntryFacts {
    /// A fact that is a text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self {
            Self::Known(facts) => facts.get(key)?.as_str(),
            Self::LeftOut => None,
        }
    }
}

impl EntryTarget {
    /// `credential/portal`: as [`crate::domain::audit::Target::key`].
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

impl Entry {
    /// Reads an entry's stored bytes.
    ///
    /// # Errors
    /// [`ParseError`] says what was seen and what was expected: too long, no JSON, a key that stands twice, or a known
    /// field that is not what the guardian writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > LONGEST_ENTRY {
            let size = bytes.len();
            return Err(ParseError::new(format!("an entry has {size} bytes; at most {LONGEST_ENTRY} are written")));
        }
        let Unique(value) =
            serde_json::from_slice(bytes).map_err(|e| ParseError::new(format!("an entry is not read: {e}")))?;
        let Value::Object(fields) = value else { return bad("outside", &value, "an object") };
        Fields(fields).into_entry()
    }

    /// The words that it is found by: the same that its draft had.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let correlation = self.correlation.map(|id| id.to_string());
        words::words(&Parts {
            at: self.at,
            target_kind: &self.target.kind,
            target_id: &self.target.id,
            action: &self.action,
            code: &self.code,
            phase: self.phase.as_str(),
            outcome: self.outcome.map(Outcome::as_str),
            actor_kind: &self.actor.kind,
            actor_subject: self.actor.subject.as_deref(),
            tier: self.tier,
            issuer: self.facts.text("issuer"),
            correlation: correlation.as_deref(),
        })
    }
}

/// The fields of an object, taken out one by one; what is left is passed on.
struct Fields(Map<String, Value>);

impl Fields {
    fn into_entry(mut self) -> Result<Entry, ParseError> {
        let (version, kind) = (self.text("specversion")?, self.text("type")?);
        if version != "1.0" {
            return bad("specversion", &version, "1.0");
        }
        let mut data = self.object("data")?;
        let action = data.text("action")?;
        if kind.strip_prefix("dev.keyward.") != Some(&action) {
            return bad("type", &kind, &format!("dev.keyward.{action}"));
        }
        let (mut actor, mut target) = (data.object("actor")?, data.object("target")?);
        let policy = data.opt_object("policy")?.map(Fields::policy).transpose()?;
        let tier = data.opt_object("risk")?.map(Fields::tier).transpose()?;
        let version = data.opt_object("automation")?.map(|mut a| a.opt_text("version")).transpose()?.flatten();
        Ok(Entry {
            id: EntryId(ulid("id", &self.text("id")?)?),
            at: time("time", &self.text("time")?)?,
            sequence: number("sequence", &self.text("sequence")?)?,
            action,
            code: data.text("code")?,
            target: EntryTarget {
                kind: target.text("kind")?,
                id: target.text("id")?,
                serial: target.opt_text("serial")?,
                spki: target.opt_text("spki_sha256")?.map(|t| digest("spki_sha256", &t)).transpose()?,
            },
            actor: EntryActor { kind: actor.text("kind")?, subject: actor.opt_text("subject")? },
            phase: phase(&data.text("phase")?)?,
            outcome: data.opt_text("outcome")?.map(|t| outcome(&t)).transpose()?,
            intent: data.opt_text("intent_ref")?.map(|t| ulid("intent_ref", &t).map(EntryId)).transpose()?,
            correlation: data
                .opt_text("correlation_id")?
                .map(|t| ulid("correlation_id", &t).map(AttemptId))
                .transpose()?,
            policy,
            tier,
            evidence: data.evidence()?,
            previous: data.opt_text("previous_of_target")?.map(|t| digest("previous_of_target", &t)).transpose()?,
            version,
            facts: data.facts()?,
            more: data.0,
        })
    }

    fn opt_text(&mut self, key: &str) -> Result<Option<String>, ParseError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => bad(key, &other, "a text"),
        }
    }

    fn text(&mut self, key: &str) -> Result<String, ParseError> {
        self.opt_text(key)?.ok_or_else(|| ParseError::new(format!("an entry has no {key}")))
    }

    fn opt_object(&mut self, key: &str) -> Result<Option<Self>, ParseError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self(map))),
            Some(other) => bad(key, &other, "an object"),
        }
    }

    fn object(&mut self, key: &str) -> Result<Self, ParseError> {
        self.opt_object(key)?.ok_or_else(|| ParseError::new(format!("an entry has no {key}")))
    }

    fn policy(mut self) -> Result<EntryPolicy, ParseError> {
        Ok(EntryPolicy {
            decision: self.text("decision")?,
            rule: self.text("rule")?,
            version: digest("policy.version", &self.text("version")?)?,
            inputs: digest("policy.inputs", &self.text("inputs")?)?,
        })
    }

    fn tier(self) -> Result<u8, ParseError> {
        let found = self.0.get("tier");
        let tier = found.and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
        tier.ok_or_else(|| ParseError::new(format!("an entry's risk.tier is {found:?}, not a small number")))
    }

    fn evidence(&mut self) -> Result<Vec<EntryEvidence>, ParseError> {
        let pieces = match self.0.remove("evidence") {
            None => return Ok(Vec::new()),
            Some(Value::Array(pieces)) => pieces,
            Some(other) => return bad("evidence", &other, "an array"),
        };
        let piece = |value| {
            let Value::Object(map) = value else { return bad("evidence", &value, "objects") };
            let mut piece = Self(map);
            Ok(EntryEvidence {
                name: piece.text("name")?,
                sha256: digest("evidence.sha256", &piece.text("sha256")?)?,
                size: number("evidence.size", &piece.text("size")?)?,
                media: piece.text("media")?,
                captured_at: time("evidence.captured_at", &piece.text("captured_at")?)?,
            })
        };
        pieces.into_iter().map(piece).collect()
    }

    fn facts(&mut self) -> Result<EntryFacts, ParseError> {
        match self.0.remove("facts") {
            None => Ok(EntryFacts::Known(Map::new())),
            Some(Value::Object(facts)) => Ok(EntryFacts::Known(facts)),
            Some(Value::String(_)) => Ok(EntryFacts::LeftOut),
            Some(other) => bad("facts", &other, "an object"),
        }
    }
}

fn bad<T>(field: &str, found: &(impl fmt::Display + ?Sized), expected: &str) -> Result<T, ParseError> {
    let shown: String = found.to_string().chars().take(80).collect();
    Err(ParseError::new(format!("an entry's {field} is {shown:?}, not {expected}")))
}

fn ulid(field: &str, text: &str) -> Result<Ulid, ParseError> {
    Ulid::parse(text).map_or_else(|| bad(field, text, "a ULID"), Ok)
}

fn digest(field: &str, text: &str) -> Result<Digest, ParseError> {
    Digest::parse(text).map_or_else(|| bad(field, text, "a SHA-256 in hexadecimal"), Ok)
}

fn time(field: &str, text: &str) -> Result<Timestamp, ParseError> {
    // Only the form that is written: the same time in another form would be another entry.
    let parsed = Timestamp::parse(text).filter(|t| t.to_string() == text);
    parsed.map_or_else(|| bad(field, text, "a time in UTC such as 2026-11-22T06:10:00Z"), Ok)
}

fn number(field: &str, text: &str) -> Result<u64, ParseError> {
    let parsed = text.parse::<u64>().ok().filter(|n| n.to_string() == text);
    parsed.map_or_else(|| bad(field, text, "a decimal number in quotes"), Ok)
}

fn phase(text: &str) -> Result<Phase, ParseError> {
    let all = [Phase::Intent, Phase::Outcome, Phase::Event];
    all.into_iter().find(|p| p.as_str() == text).map_or_else(|| bad("phase", text, "intent, outcome or event"), Ok)
}

fn outcome(text: &str) -> Result<Outcome, ParseError> {
    let all = [Outcome::Success, Outcome::Failure, Outcome::Denied, Outcome::Unknown];
    let found = all.into_iter().find(|o| o.as_str() == text);
    found.map_or_else(|| bad("outcome", text, "success, failure, denied or unknown"), Ok)
}

/// A value whose objects have each key once: two readers must not see two things in the same bytes.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without floating point")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(Number::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(Number::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some((key, Unique(value))) = pairs.next_entry::<String, Unique>()? {
            if out.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("the key {key:?} stands twice")));
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::private::Told;
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::domain::audit::{Actor, Draft, Evidence, Policy, Target, TargetKind, marks, seal};
    use crate::domain::json::Json;

    fn ids() -> impl Strategy<Value = Ulid> {
        (0_i64..2_000_000_000, any::<[u8; 10]>()).prop_map(|(at, random)| Ulid::new(Timestamp::from_unix(at), random))
    }

    fn digests() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest)
    }

    prop_compose! {
        fn policies()(
            decision in select(vec!["proceed", "await_approval", "refuse"]),
            rule in any::<String>(), version in digests(), inputs in digests(), tier in 0_u8..5,
        ) -> Policy {
            Policy { decision, rule: rule.into(), version, inputs, tier }
        }
    }

    prop_compose! {
        fn pieces()(name in any::<String>(), bytes in any::<Vec<u8>>(), at in any::<i64>()) -> Evidence {
            Evidence {
                name,
                sha256: Digest::of(&bytes),
                size: bytes.len(),
                media: "text/plain",
                captured_at: Timestamp::from_unix(at),
                bytes: bytes.into(),
            }
        }
    }

    fn facts() -> impl Strategy<Value = Vec<(&'static str, Json)>> {
        let key = select(vec!["issuer", "text", "until", "names", "reasons"]);
        let value = prop_oneof![
            4 => any::<String>().prop_map(Json::str),
            1 => any::<i64>().prop_map(Json::Int),
            1 => any::<Vec<bool>>().prop_map(|all| Json::arr(all.into_iter().map(Json::Bool))),
            1 => (LONGEST_ENTRY..LONGEST_ENTRY + 9).prop_map(|n| Json::str("x".repeat(n))),
        ];
        proptest::collection::vec((key, value), 0..4)
    }

    fn drafts() -> impl Strategy<Value = Draft> {
        let kinds = select(vec![TargetKind::Credential, TargetKind::Issuer, TargetKind::Path, TargetKind::Daemon]);
        let target = (kinds, any::<String>(), option::of(any::<String>()), option::of(digests())).prop_map(
            |(kind, id, serial, spki)| Target { serial: serial.map(Into::into), spki, ..Target::new(kind, id) },
        );
        let actor =
            option::of(any::<String>()).prop_map(|who| who.map_or(Actor::Automation, |w| Actor::Human(w.into())));
        let phase = select(vec![Phase::Intent, Phase::Outcome, Phase::Event]);
        let outcome = option::of(select(vec![Outcome::Success, Outcome::Failure, Outcome::Denied, Outcome::Unknown]));
        let links = (option::of(ids()), option::of(ids()), option::of(policies()));
        let rest = (proptest::collection::vec(pieces(), 0..3), facts());
        (ids(), any::<i64>(), target, actor, phase, outcome, links, rest).prop_map(
            |(id, at, target, actor, phase, outcome, (intent, correlation, policy), (evidence, facts))| Draft {
                actor,
                phase,
                outcome,
                intent: intent.map(EntryId),
                correlation: correlation.map(AttemptId),
                policy,
                evidence,
                facts,
                ..Draft::new(EntryId(id), Timestamp::from_unix(at), "certificate.issue", "KW2001", target)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(draft in drafts(), sequence in any::<u64>(), previous in option::of(digests())) {
            let sealed = seal(&draft, sequence, previous, &Told::nothing());
            let entry = Entry::parse(&sealed.bytes).unwrap();
            prop_assert_eq!((entry.id, entry.at, entry.sequence), (draft.id, draft.at, sequence));
            prop_assert_eq!((&*entry.action, &*entry.code), (draft.action, draft.code));
            prop_assert_eq!(entry.target.key(), draft.target.key());
            prop_assert_eq!((entry.target.serial.as_deref(), entry.target.spki), (draft.target.serial.as_deref(), draft.target.spki));
            prop_assert_eq!((&*entry.actor.kind, entry.actor.subject.as_deref()), (draft.actor.kind(), draft.actor.subject()));
            prop_assert_eq!((entry.phase, entry.outcome, entry.intent), (draft.phase, draft.outcome, draft.intent));
            prop_assert_eq!((entry.correlation, entry.previous), (draft.correlation, previous));
            prop_assert_eq!(entry.tier, draft.policy.as_ref().map(|p| p.tier));
            prop_assert_eq!(entry.policy.as_ref().map(|p| p.inputs), draft.policy.as_ref().map(|p| p.inputs));
            let named = |e: &EntryEvidence| (e.name.clone(), e.sha256, e.size, e.captured_at);
            let kept = |e: &Evidence| (e.name.clone(), e.sha256, u64::try_from(e.bytes.len()).unwrap(), e.captured_at);
            prop_assert_eq!(
                entry.evidence.iter().map(named).collect::<Vec<_>>(),
                draft.evidence.iter().map(kept).collect::<Vec<_>>()
            );
            prop_assert!(entry.more.is_empty(), "{:?}", entry.more);
        }

        #[test]
        fn draft_and_stored_bytes_give_the_same_words(draft in drafts(), sequence in any::<u64>()) {
            let sealed = seal(&draft, sequence, None, &Told::nothing());
            prop_assert_eq!(Entry::parse(&sealed.bytes).unwrap().words(), marks(&draft, sealed.facts));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            prop_assert!(Entry::parse(&bytes).is_err());
            let mut stored = sample();
            let at = at.index(stored.len());
            stored[at] ^= flip;
            drop(Entry::parse(&stored));
        }
    }

    fn sample() -> Vec<u8> {
        let at = Timestamp::from_unix(1_790_000_000);
        let target = Target::new(TargetKind::Credential, "portal");
        seal(
            &Draft::new(EntryId(Ulid::new(at, [7; 10])), at, "certificate.order", "KW2002", target),
            7,
            None,
            &Told::nothing(),
        )
        .bytes
    }

    #[test]
    fn what_the_guardian_would_not_write_is_refused_with_the_reason() {
        let text = String::from_utf8(sample()).unwrap();
        for (from, to, why) in [
            ("\"code\":\"KW2002\"", "\"code\":\"KW2002\",\"code\":\"KW2003\"", "stands twice"),
            ("\"sequence\":\"7\"", "\"sequence\":\"7\",\"sequence\":\"8\"", "stands twice"),
            ("\"sequence\":\"7\"", "\"sequence\":\"07\"", "sequence is \"07\""),
            ("\"sequence\":\"7\"", "\"sequence\":7", "not a text"),
            ("\"phase\":\"event\"", "\"phase\":\"rumour\"", "phase is \"rumour\""),
            ("\"phase\":\"event\"", "\"phase\":1.5", "not read"),
            ("dev.keyward.certificate.order", "dev.keyward.gate.open", "not dev.keyward.certificate.order"),
            ("\"specversion\":\"1.0\"", "\"specversion\":\"2.0\"", "specversion"),
            ("Z\"", "+00:00\"", "not a time"),
            ("{\"data\"", "[{\"data\"", "not read"),
            ("\"data\":{", "\"data\":\"\",\"x\":{", "not an object"),
        ] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text, "{from}");
            let error = Entry::parse(altered.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{from} → {to}: {error}");
        }
        let long = vec![b' '; LONGEST_ENTRY + 1];
        assert!(Entry::parse(&long).unwrap_err().to_string().contains("at most"));
        let deep = format!("{{\"data\":{}{}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(Entry::parse(deep.as_bytes()).unwrap_err().to_string().contains("recursion"));
    }

    #[test]
    fn fields_of_a_later_version_are_kept_and_do_no_harm() {
        let text = String::from_utf8(sample()).unwrap().replacen("{\"action\"", "{\"a_new\":{\"x\":[1]},\"action\"", 1);
        let entry = Entry::parse(text.as_bytes()).unwrap();
        assert_eq!(entry.more.get("a_new").map(Value::to_string), Some("{\"x\":[1]}".to_owned()));
        assert_eq!(entry.target.key(), "credential/portal");
    }
}
