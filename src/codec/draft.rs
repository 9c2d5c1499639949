//! A draft as one line of JSON, for the spool: written by an act that must not wait, read by the next start.
//!
//! Only what removes authority is spooled, so the words that may stand in a line are few and known. A line with any other
//! word is of a newer version or damaged; whoever reads it must not throw it away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codec::ParseError;
use crate::domain::audit::{Actor, Draft, Target, TargetKind};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// Actions that remove authority, with their codes.
pub const ACTIONS: [(&str, &str); 5] = [
    ("gate.close", "KW2302"),
    ("gate.latch", "KW2303"),
    ("gate.hold", "KW4402"),
    ("freeze.begin", "KW4071"),
    ("key.compromised", "KW2305"),
];
/// The keys of their facts.
const FACTS: [&str; 10] =
    ["freeze", "inputs", "reason", "reasons", "scope", "since", "spki", "spooled", "text", "until"];
const KINDS: [TargetKind; 4] = [TargetKind::Credential, TargetKind::Issuer, TargetKind::Path, TargetKind::Daemon];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    action: String,
    code: String,
    kind: String,
    target: String,
    facts: serde_json::Map<String, Value>,
    /// Free texts, which the log will hold as salted hashes only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    private: BTreeMap<String, String>,
}

/// Writes a draft without its end of line.
///
/// # Errors
/// If its action or one of its facts is none that [`read`] would understand.
pub fn write(draft: &Draft) -> Result<String, ParseError> {
    let facts = draft.facts.iter().map(|(key, value)| Ok(((*key).to_owned(), value_of(value)?)));
    let line = Line {
        id: draft.id.to_string(),
        at: draft.at.to_string(),
        by: match &draft.actor {
            Actor::Automation => None,
            Actor::Human(by) => Some(by.to_string()),
        },
        action: draft.action.to_owned(),
        code: draft.code.to_owned(),
        kind: draft.target.kind.as_str().to_owned(),
        target: draft.target.id.to_string(),
        facts: facts.collect::<Result<_, ParseError>>()?,
        private: draft.private.iter().map(|(key, text)| ((*key).to_owned(), text.to_string())).collect(),
    };
    let text = serde_json::to_string(&line).map_err(|e| ParseError::new(e.to_string()))?;
    read(&text).map(|_| text)
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// If it is anything else.
pub fn read(text: &str) -> Result<Draft, ParseError> {
    let line: Line = serde_json::from_str(text).map_err(|e| ParseError::new(format!("no spooled entry: {e}")))?;
    let wrong = |what: &str, value: &str| ParseError::new(format!("a spooled entry has the unknown {what} {value:?}"));
    let (action, code) = ACTIONS
        .into_iter()
        .find(|(action, code)| *action == line.action && *code == line.code)
        .ok_or_else(|| wrong("action", &line.action))?;
    let kind = KINDS.into_iter().find(|k| k.as_str() == line.kind).ok_or_else(|| wrong("kind", &line.kind))?;
    let id = Ulid::parse(&line.id).ok_or_else(|| wrong("id", &line.id))?;
    let at = Timestamp::parse(&line.at).ok_or_else(|| wrong("time", &line.at))?;
    let mut draft = Draft::new(EntryId(id), at, action, code, Target::new(kind, line.target.as_str()));
    if let Some(by) = line.by {
        draft.actor = Actor::Human(by.into());
    }
    let known = |key: &str| FACTS.into_iter().find(|k| *k == key).ok_or_else(|| wrong("fact", key));
    if let Some(spki) = line.facts.get("spki").and_then(Value::as_str) {
        draft.target.spki = Some(Digest::parse(spki).ok_or_else(|| wrong("key", spki))?);
    }
    for (key, value) in line.facts {
        draft.facts.push((known(&key)?, json_of(value)?));
    }
    for (key, text) in line.private {
        draft.private.push((known(&key)?, text.into()));
    }
    Ok(draft)
}

fn value_of(json: &Json) -> Result<Value, ParseError> {
    serde_json::from_slice(&json.canonical()).map_err(|e| ParseError::new(e.to_string()))
}

fn json_of(value: Value) -> Result<Json, ParseError> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(yes) => Json::Bool(yes),
        Value::Number(n) => Json::Int(n.as_i64().ok_or_else(|| ParseError::new(format!("{n} is no whole number")))?),
        Value::String(text) => Json::str(text),
        Value::Array(items) => Json::Arr(items.into_iter().map(json_of).collect::<Result<_, _>>()?),
        Value::Object(_) => return Err(ParseError::new("a spooled fact is an object")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(action: &'static str, code: &'static str) -> Draft {
        let at = Timestamp::from_unix(1_790_000_000);
        let id = EntryId(Ulid::new(at, [9; 10]));
        let mut draft = Draft::new(id, at, action, code, Target::new(TargetKind::Path, "approve"));
        draft.actor = Actor::Human("uid:0".into());
        let reason = "KW4011: \"no\u{1b}\nspace\" – ü";
        draft.facts = vec![
            ("reasons", Json::arr([Json::str(reason)])),
            ("spooled", Json::Bool(true)),
            ("until", Json::show(&at)),
        ];
        draft.private = vec![("reasons", "KW4011: the disk of uid 1000 is full\nsecond line".into())];
        draft
    }

    #[test]
    fn whatever_removes_authority_comes_back_as_it_was_from_one_line() {
        for (action, code) in ACTIONS {
            let line = write(&draft(action, code)).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(read(&line).unwrap(), draft(action, code));
        }
    }

    #[test]
    fn what_is_cut_off_or_strange_is_refused() {
        let line = write(&draft("gate.close", "KW2302")).unwrap();
        for end in 0..line.len() {
            if line.is_char_boundary(end) {
                assert!(read(&line[..end]).is_err(), "{end}");
            }
        }
        for (from, to) in [("gate.close", "gate.open"), ("KW2302", "KW2301"), ("until", "untill"), ("path", "door")] {
            assert!(read(&line.replace(from, to)).is_err(), "{to}");
        }
        assert!(write(&draft("certificate.issue", "KW2001")).is_err());
    }
}
