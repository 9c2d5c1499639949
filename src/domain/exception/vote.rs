//! What one person said about one scope.

use std::sync::Arc;

use super::people::{Channel, Hours, PersonId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Do exactly this.
    Approve,
    /// Do not.
    Reject,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// What a person signed, as it comes in; whoever hands it in has verified the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// Who.
    pub person: PersonId,
    /// Over which round.
    pub round: u32,
    /// Over which scope, by its hash.
    pub scope: Digest,
    /// What they say.
    pub verdict: Verdict,
    /// Over which channel.
    pub channel: Channel,
    /// Digest of the proof: the signature with all that was signed.
    pub proof: Digest,
    /// Why, in their words: a rejection has one.
    pub reason: Option<Arc<str>>,
}

/// A ballot that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// What was said.
    pub ballot: Ballot,
    /// When.
    pub at: Timestamp,
    /// Whether that was in business hours.
    pub hours: Hours,
}

impl Vote {
    /// SHA-256 over its canonical form: what a permit names.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_json().canonical())
    }

    /// Without the reason, which is a private text.
    pub(super) fn to_json(&self) -> Json {
        let Ballot { person, round, scope, verdict, channel, proof, reason: _ } = &self.ballot;
        Json::obj([
            ("at", Json::Time(self.at)),
            ("channel", Json::str(channel.as_str())),
            ("hours", Json::str(self.hours.as_str())),
            ("person", person.to_json()),
            ("proof", Json::Hash(*proof)),
            ("round", Json::Int(i64::from(*round))),
            ("scope", Json::Hash(*scope)),
            ("verdict", Json::str(verdict.as_str())),
        ])
    }
}
