//! What verifying wants to know of an entry, read from its stored bytes.

use crate::codec::canonical::Value;
use crate::domain::audit::Phase;
use crate::domain::id::{EntryId, Ulid};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::words::{Parts, words};

/// An entry as its bytes tell it. Texts are those of the bytes; nothing in here was compared with anything yet.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its id.
    pub id: EntryId,
    /// Its place in the log.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What was done.
    pub action: &'a str,
    /// Its code.
    pub code: &'a str,
    /// Announces, concludes or stands by itself.
    pub phase: Phase,
    /// The intent that it concludes or belongs to.
    pub intent: Option<EntryId>,
    /// The leaf hash of the entry before it about the same target.
    pub previous: Option<Digest>,
    /// The kind of what it is about.
    pub target_kind: &'a str,
    /// The id of what it is about.
    pub target_id: &'a str,
    data: &'a Value<'a>,
}

/// A piece of evidence that an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl<'a> Record<'a> {
    /// Takes the parts out of an entry's JSON.
    ///
    /// # Errors
    /// Says which part is missing or in another form than it is written in.
    pub fn of(entry: &'a Value<'a>) -> Result<Self, &'static str> {
        let data = entry.at("data").ok_or("has no data")?;
        let target = data.at("target").ok_or("has no data.target")?;
        if entry.text("specversion") != Some("1.0") {
            return Err("has another specversion than 1.0");
        }
        let action = data.text("action").ok_or("has no data.action")?;
        if entry.text("type").and_then(|t| t.strip_prefix("dev.keyward.")) != Some(action) {
            return Err("has a type that is not its action's");
        }
        Ok(Self {
            id: entry.text("id").and_then(entry_id).ok_or("has no id")?,
            sequence: entry.text("sequence").and_then(number).ok_or("has no sequence number")?,
            at: entry.text("time").and_then(time).ok_or("has no time")?,
            action,
            code: data.text("code").ok_or("has no data.code")?,
            phase: match data.text("phase") {
                Some("intent") => Phase::Intent,
                Some("outcome") => Phase::Outcome,
                Some("event") => Phase::Event,
                Some(_) | None => return Err("has no known data.phase"),
            },
            intent: optional(data, "intent_ref", entry_id).ok_or("has an intent_ref that is no id")?,
            previous: optional(data, "previous_of_target", digest)
                .ok_or("has a previous_of_target that is no SHA-256 in lower case")?,
            target_kind: target.text("kind").ok_or("has no data.target.kind")?,
            target_id: target.text("id").ok_or("has no data.target.id")?,
            data,
        })
    }

    /// The evidence that it names.
    ///
    /// # Errors
    /// If a piece has no hash or no size.
    pub fn evidence(&self) -> Result<Vec<Named>, &'static str> {
        let piece = |piece: &Value<'_>| {
            let sha256 = piece.text("sha256").and_then(digest)?;
            Some(Named { sha256, size: piece.text("size").and_then(number)? })
        };
        let pieces: Option<Vec<_>> = self.data.array("evidence").iter().map(piece).collect();
        pieces.ok_or("names evidence without its hash or size")
    }

    /// The commitments to private texts that it holds: SHA-256 of salt and text each.
    ///
    /// # Errors
    /// If one is no hash.
    pub fn private(&self) -> Result<Vec<Digest>, &'static str> {
        let commitments: Option<Vec<_>> = match self.data.at("private") {
            None => return Ok(Vec::new()),
            Some(Value::Obj(pairs)) => pairs
                .iter()
                .map(|(_, value)| match value {
                    Value::Str(text) => digest(text),
                    Value::Null | Value::Bool(_) | Value::Int(_) | Value::Arr(_) | Value::Obj(_) => None,
                })
                .collect(),
            Some(Value::Null | Value::Bool(_) | Value::Int(_) | Value::Str(_) | Value::Arr(_)) => None,
        };
        commitments.ok_or("holds a commitment to a private text that is no SHA-256 in lower case")
    }

    /// The words that it must be found by.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let actor = self.data.at("actor");
        let tier = self.data.at("risk").and_then(|risk| risk.int("tier"));
        words(&Parts {
            at: self.at,
            target_kind: self.target_kind,
            target_id: self.target_id,
            action: self.action,
            code: self.code,
            phase: self.phase.as_str(),
            outcome: self.data.text("outcome"),
            actor_kind: actor.and_then(|actor| actor.text("kind")).unwrap_or_default(),
            actor_subject: actor.and_then(|actor| actor.text("subject")),
            tier: tier.and_then(|tier| u8::try_from(tier).ok()),
            issuer: self.data.at("facts").and_then(|facts| facts.text("issuer")),
            correlation: self.data.text("correlation_id"),
        })
    }
}

/// `None` if it is there and not what it should be.
fn optional<T>(data: &Value<'_>, key: &str, read: fn(&str) -> Option<T>) -> Option<Option<T>> {
    match data.at(key) {
        None => Some(None),
        Some(_) => data.text(key).and_then(read).map(Some),
    }
}

fn entry_id(text: &str) -> Option<EntryId> {
    Ulid::parse(text).map(EntryId)
}

/// In its only spelling: neither a sign nor leading zeroes.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits.then(|| text.parse().ok()).flatten()
}

fn digest(text: &str) -> Option<Digest> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    lower.then(|| Digest::parse(text)).flatten()
}

fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).filter(|at| at.to_string() == text)
}
