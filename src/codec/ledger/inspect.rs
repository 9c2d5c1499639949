//! What an entry's own bytes and columns say about it.

use super::finding::{Finding, Rule};
use super::fold::Fold;
use super::record::Record;
use super::verifier::expect;
use crate::codec::canonical::Value;
use crate::domain::audit::LONGEST_ENTRY;
use crate::domain::key::Digest;

/// An entry as it lies somewhere. What a source does not have is `None`.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its place.
    pub sequence: u64,
    /// Its id's column.
    pub id: Option<[u8; 16]>,
    /// Its time's column.
    pub at: Option<i64>,
    /// Its leaf's column, or its hash in a tile.
    pub leaf: Option<Digest>,
    /// Its bytes.
    pub body: &'a [u8],
}

/// What an entry's own bytes and columns say about it, and its JSON if it is canonical. It is the whole check of an entry
/// by itself: whatever passes it differs from what was written only if its leaf differs too, and then the root does.
#[must_use]
pub fn inspect<'a>(stored: &Stored<'a>, hash: &Digest) -> (Option<Value<'a>>, Vec<Finding>) {
    let sequence = stored.sequence;
    let mut found = Vec::new();
    let mut tampered = |rule, text: String| found.push(Finding::tampered(rule, sequence, text));
    if stored.leaf.is_some_and(|leaf| leaf != *hash) {
        tampered(Rule::Leaf, format!("the bytes of entry {sequence} are not those that were hashed"));
    }
    if stored.body.len() > LONGEST_ENTRY {
        tampered(
            Rule::Form,
            format!("entry {sequence} has {} bytes; at most {LONGEST_ENTRY} are written", stored.body.len()),
        );
        return (None, found);
    }
    let value = match Value::read(stored.body) {
        Ok(value) => value,
        Err(error) => {
            tampered(Rule::Form, format!("entry {sequence} is no canonical JSON: {error}"));
            return (None, found);
        }
    };
    match Record::of(&value) {
        Err(wrong) => tampered(Rule::Form, format!("entry {sequence} {wrong}")),
        Ok(record) => {
            if record.sequence != sequence {
                let text = format!("entry {sequence} says that it is entry {}", record.sequence);
                tampered(Rule::Column, text);
            }
            if stored.id.is_some_and(|id| id != record.id.0.to_bytes()) {
                tampered(Rule::Column, format!("the id beside entry {sequence} is not {}, which it says", record.id));
            }
            if stored.at.is_some_and(|at| at != record.at.unix()) {
                tampered(Rule::Column, format!("the time beside entry {sequence} is not {}, which it says", record.at));
            }
            for wrong in [record.evidence().err(), record.private().err()].into_iter().flatten() {
                tampered(Rule::Form, format!("entry {sequence} {wrong}"));
            }
        }
    }
    (Some(value), found)
}

/// Adds the rows by which an entry with these bytes, at a place counted from `first`, must be found; none if they are no
/// entry.
pub fn expect_rows(index: &mut Fold, body: &[u8], first: u64) {
    let value = Value::read(body).ok();
    if let Some(record) = value.as_ref().and_then(|value| Record::of(value).ok()) {
        expect(index, &record, record.sequence.saturating_sub(first));
    }
}
