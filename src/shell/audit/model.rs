//! The audit log as JSON. Numbers that grow with the log are strings, as in the entries; fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A page of entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Entries {
    /// In the order asked for.
    pub(in crate::shell) entries: Vec<Row>,
    /// To go on from here, as `cursor`. Oldest first it is always there: what is written later can be asked for with it.
    pub(in crate::shell) next: Option<String>,
    /// Whether there is more already.
    pub(in crate::shell) more: bool,
    /// How many entries the log has.
    pub(in crate::shell) size: String,
    /// The first that is here and was searched, if those before it are frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::shell) begins: Option<String>,
}

/// One entry in short, and whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Row {
    /// Its place in the log, from 0.
    pub(in crate::shell) sequence: String,
    /// Its id.
    pub(in crate::shell) id: String,
    /// When.
    pub(in crate::shell) time: String,
    /// Stable code.
    pub(in crate::shell) code: String,
    /// What the code means, in a few words.
    pub(in crate::shell) title: String,
    /// What was done.
    pub(in crate::shell) action: String,
    /// `intent`, `outcome` or `event`.
    pub(in crate::shell) phase: String,
    /// How it came out.
    pub(in crate::shell) outcome: Option<String>,
    /// About what: `credential/portal`.
    pub(in crate::shell) target: String,
    /// By whom: `automation`, `uid:1000`; the pseudonym of somebody who was forgotten.
    pub(in crate::shell) actor: String,
    /// The tier, 0–4.
    pub(in crate::shell) tier: Option<u8>,
    /// What it belongs to.
    pub(in crate::shell) correlation: Option<String>,
    /// What there is to say about it, in a line.
    pub(in crate::shell) text: String,
    /// Its leaf hash.
    pub(in crate::shell) leaf: String,
    /// What is wrong with the stored bytes, if something plainly is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::shell) fault: Option<String>,
    /// The entry itself.
    pub(in crate::shell) entry: Value,
}

/// One entry with what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Detail {
    #[serde(flatten)]
    pub(in crate::shell) row: Row,
    /// The private texts that it commits to, by their keys; one that was forgotten says so.
    pub(in crate::shell) private: BTreeMap<String, String>,
    /// The evidence that it names.
    pub(in crate::shell) evidence: Vec<Piece>,
    /// The other half: the outcome of an intent, the intent of an outcome.
    pub(in crate::shell) partner: Option<Partner>,
    /// How many entries the log has.
    pub(in crate::shell) size: String,
    /// The exact bytes that were hashed, as text.
    pub(in crate::shell) bytes: String,
}

/// A piece of evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Piece {
    pub(in crate::shell) name: String,
    pub(in crate::shell) sha256: String,
    pub(in crate::shell) size: String,
    pub(in crate::shell) media: String,
    pub(in crate::shell) captured_at: String,
    /// Whether its bytes are still kept.
    pub(in crate::shell) kept: bool,
}

/// The other half of an intent or an outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Partner {
    /// `intent` or `outcome`.
    pub(in crate::shell) phase: String,
    pub(in crate::shell) sequence: String,
    pub(in crate::shell) id: String,
    pub(in crate::shell) time: String,
    pub(in crate::shell) code: String,
    pub(in crate::shell) outcome: Option<String>,
}

/// The log as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Stats {
    /// How many entries.
    pub(in crate::shell) size: String,
    /// The first that is here, if those before it are frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::shell) begins: Option<String>,
    /// Time of the first entry.
    pub(in crate::shell) oldest: Option<String>,
    /// Time of the last entry.
    pub(in crate::shell) newest: Option<String>,
    /// Bytes on the disk, state and evidence included.
    pub(in crate::shell) bytes: String,
    /// Signed checkpoints that are kept.
    pub(in crate::shell) checkpoints: String,
    /// Intents without an outcome.
    pub(in crate::shell) unresolved_intents: String,
    /// How many entries a witness has cosigned; absent without witnesses.
    pub(in crate::shell) witnessed: Option<String>,
    /// Entries by code.
    pub(in crate::shell) codes: BTreeMap<String, u64>,
    /// Entries by outcome.
    pub(in crate::shell) outcomes: BTreeMap<String, u64>,
}

/// A decision told from its entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::shell) struct Story {
    /// One after the other, in the order of the log.
    pub(in crate::shell) sentences: Vec<String>,
    /// The ids of the entries that it is told from.
    pub(in crate::shell) entries: Vec<String>,
}
