//! What is consented to: one text, and one only, for each decision.

use std::sync::Arc;

use super::Refused;
use crate::codec::ParseError;
use crate::codec::canonical::Value;
use crate::domain::exception::{PersonId, RequestId, Verdict};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// The namespace of SSH signatures, and what the bytes of a challenge begin with: no signature for another purpose passes
/// for a consent, nor the other way round.
pub const CONTEXT: &str = "keyward-decision-v1";
/// A decision is at most this long in bytes: an origin of 255, a pseudonym of 128, and some 250 of the rest, with room for
/// escapes.
pub const LONGEST_DECISION: usize = 1_024;

const VERSION: i64 = 1;

/// One person's yes or no to one scope of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which request.
    pub request: RequestId,
    /// Which round of it.
    pub round: u32,
    /// Exactly what would be done: the scope's hash.
    pub scope: Digest,
    /// Yes or no.
    pub verdict: Verdict,
    /// Who says so, by their pseudonym.
    pub who: PersonId,
    /// To which guardian: the origin of its log.
    pub origin: Arc<str>,
    /// From then on nobody can say so any more.
    pub expires: Timestamp,
}

impl Decision {
    /// The canonical text (RFC 8785): what an SSH key signs.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        self.json().canonical()
    }

    /// What a passkey signs: `SHA-256("keyward-decision-v1" ‖ 0x00 ‖ canonical text)`.
    #[must_use]
    pub fn challenge(&self) -> Digest {
        Digest::of_parts(&[CONTEXT.as_bytes(), &[0], &self.canonical()])
    }

    /// Reads a canonical text.
    ///
    /// # Errors
    /// If it is none of a decision, or has anything more.
    pub fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let value = Value::read(bytes).map_err(|e| ParseError(format!("is no canonical JSON: {e}")))?;
        Self::from_value(&value).and_then(|read| {
            let same = read.canonical() == bytes;
            same.then_some(read).ok_or_else(|| ParseError::new("has members or values besides those of a decision"))
        })
    }

    pub(super) fn from_value(value: &Value<'_>) -> Result<Self, ParseError> {
        let lacks = |key: &'static str, form: &str| ParseError(format!("has no `{key}`: expected {form}"));
        let text = |key: &'static str, form: &str| value.text(key).ok_or_else(|| lacks(key, form));
        let (name, number) = ("a request such as 7F3K-9Q2M", "a number from 1");
        let verdict = text("verdict", "approve or reject")?;
        let verdict = [Verdict::Approve, Verdict::Reject].into_iter().find(|known| known.as_str() == verdict);
        let round = value.int("round").and_then(|round| u32::try_from(round).ok()).filter(|round| *round > 0);
        if value.int("v") != Some(VERSION) {
            return Err(lacks("v", "the version 1"));
        }
        Ok(Self {
            request: RequestId::parse(text("request", name)?).ok_or_else(|| lacks("request", name))?,
            round: round.ok_or_else(|| lacks("round", number))?,
            scope: Digest::parse(text("scope", "a digest")?).ok_or_else(|| lacks("scope", "64 hexadecimal digits"))?,
            verdict: verdict.ok_or_else(|| lacks("verdict", "approve or reject"))?,
            who: PersonId::new(text("who", "a pseudonym")?),
            origin: Arc::from(text("origin", "the origin of the guardian's log")?),
            expires: Timestamp::parse(text("expires", "a time")?).ok_or_else(|| lacks("expires", "a time in UTC"))?,
        })
    }

    pub(super) fn json(&self) -> Json {
        Json::obj([
            ("expires", Json::Time(self.expires)),
            ("origin", Json::shared(self.origin.clone())),
            ("request", Json::show(&self.request)),
            ("round", Json::Int(i64::from(self.round))),
            ("scope", Json::Hash(self.scope)),
            ("v", Json::Int(VERSION)),
            ("verdict", Json::str(self.verdict.as_str())),
            ("who", Json::str(self.who.as_str().to_owned())),
        ])
    }

    /// That it can still be taken; its text.
    pub(super) fn open(&self, at: Timestamp) -> Result<Vec<u8>, Refused> {
        if at >= self.expires {
            return Err(Refused::Over { expires: self.expires, at });
        }
        let text = self.canonical();
        Refused::bounded("the decision", &text, LONGEST_DECISION)?;
        Ok(text)
    }
}
