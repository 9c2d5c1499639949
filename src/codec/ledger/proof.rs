//! The proof that one entry is in the log, as a file that stands for itself: no daemon, no database and no network are
//! needed to check it, only the log's key.
//!
//! ```json
//! {"format":"keyward-audit-proof/v1","sequence":"412","entry":"…base64 of its bytes…",
//!  "inclusion":["…base64 of a hash…"],"checkpoint":"…the signed note…","log_key_hint":"NAME+ID+KEY"}
//! ```
//!
//! The hashes are those of RFC 9162 section 2.1.3.1, nearest to the leaf first, against the size and root of the
//! checkpoint. The hint says which key it may have been; whoever believed it could be told anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::finding::{Finding, Grade, Rule};
use super::inspect::{Stored, inspect};
use super::record::{Record, number};
use super::trust::{Judged, Trust};
use crate::domain::audit::{LONGEST_ENTRY, leaf_hash};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::{LONGEST_PROOF, check_inclusion};

/// What the document says that it is.
pub const FORMAT: &str = "keyward-audit-proof/v1";
/// A document is at most this long in bytes: an entry in base64, 63 hashes, a note of 16 KiB with its escapes, twice over.
pub const LONGEST_DOCUMENT: usize = 256 * 1_024;

/// The proof of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Its place in the log.
    pub sequence: u64,
    /// Its bytes.
    pub entry: Vec<u8>,
    /// What stands beside its way to the root.
    pub inclusion: Vec<Digest>,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// Which key it may have been signed by; never believed.
    pub hint: Option<String>,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The checkpoint.
    pub checkpoint: Judged,
    /// When the entry was written, as it says.
    pub at: Timestamp,
    /// Its id.
    pub id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    sequence: String,
    entry: String,
    inclusion: Vec<String>,
    checkpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_key_hint: Option<String>,
}

impl Proof {
    /// The document.
    #[must_use]
    pub fn document(&self) -> impl Serialize {
        Document {
            format: FORMAT.to_owned(),
            sequence: self.sequence.to_string(),
            entry: STANDARD.encode(&self.entry),
            inclusion: self.inclusion.iter().map(|hash| STANDARD.encode(hash.0)).collect(),
            checkpoint: self.checkpoint.clone(),
            log_key_hint: self.hint.clone(),
        }
    }

    /// The document as a file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts only: there is nothing in it that JSON could not hold.
        let mut text = serde_json::to_string_pretty(&self.document()).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a document.
    ///
    /// # Errors
    /// A finding that says what is wrong with it: [`Grade::Unverifiable`] if it is no proof at all.
    pub fn read(bytes: &[u8]) -> Result<Self, Box<Finding>> {
        let none = |text: String| Box::new(Finding::new(Grade::Unverifiable, Rule::Proof, text));
        if bytes.len() > LONGEST_DOCUMENT {
            return Err(none(format!("this is no proof: it is longer than {LONGEST_DOCUMENT} bytes")));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| none(format!("this is no proof of an entry: {e}")))?;
        if document.format != FORMAT {
            return Err(none(format!("this is a {:?}, and only {FORMAT} is understood", document.format)));
        }
        let hash = |text: &String| Some(Digest(STANDARD.decode(text).ok()?.try_into().ok()?));
        let inclusion: Option<Vec<_>> = document.inclusion.iter().take(LONGEST_PROOF + 1).map(hash).collect();
        Ok(Self {
            sequence: number(&document.sequence).ok_or_else(|| wrong("the sequence number is no number"))?,
            entry: STANDARD
                .decode(&document.entry)
                .ok()
                .filter(|entry| entry.len() <= LONGEST_ENTRY)
                .ok_or_else(|| wrong("the entry is not base64, or too long"))?,
            inclusion: inclusion.ok_or_else(|| wrong("the inclusion proof is not hashes in base64"))?,
            checkpoint: document.checkpoint,
            hint: document.log_key_hint,
        })
    }

    /// Checks everything: the entry's bytes, the way to the root, the signatures.
    ///
    /// # Errors
    /// The first thing that does not hold; [`Grade::Unverifiable`] if no key is known for its log.
    pub fn check(&self, trust: &Trust) -> Result<Proved, Box<Finding>> {
        let stored = Stored { sequence: self.sequence, id: None, at: None, leaf: None, body: &self.entry };
        let leaf = leaf_hash(&self.entry);
        let (value, found) = inspect(&stored, &leaf);
        if let Some(first) = found.into_iter().next() {
            return Err(Box::new(first));
        }
        let record = value.as_ref().and_then(|value| Record::of(value).ok());
        let record = record.ok_or_else(|| wrong("the entry cannot be read"))?;
        if trust.keys.is_empty() {
            let text = "no key was given that could have signed the checkpoint: give the log's key with --key";
            return Err(Box::new(Finding::new(Grade::Unverifiable, Rule::Unsigned, text)));
        }
        let checkpoint = trust.judge("the checkpoint of the proof", &self.checkpoint)?;
        check_inclusion(&leaf, self.sequence, &checkpoint.head, &self.inclusion)
            .map_err(|e| wrong(&format!("the entry is not proved: {e}")))?;
        for witness in &trust.witnesses {
            if !checkpoint.witnessed.iter().any(|(name, _)| name == witness.name()) {
                let text = format!("the checkpoint of the proof has no cosignature of the witness {}", witness.name());
                return Err(Box::new(Finding::new(Grade::Unverifiable, Rule::Witness, text)));
            }
        }
        Ok(Proved { checkpoint, at: record.at, id: record.id.to_string() })
    }
}

fn wrong(text: &str) -> Box<Finding> {
    Box::new(Finding::tampered(Rule::Proof, None, text))
}
