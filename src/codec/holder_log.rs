//! The key holder's own log: a line of JSON for each operation, chained by SHA-256 and authenticated with a key that only
//! the holder has.
//!
//! ```text
//! {"mac":"HMAC-SHA-256 of the record","record":{…,"previous":"SHA-256 of the line before",…}}
//! ```
//!
//! The chain can be checked by anybody; the codes let the holder tell what it wrote itself from what somebody wrote who
//! has its disk and not its passphrase.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ParseError;
use super::canonical::Value;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::TreeHead;

/// A line has at most so many bytes: facts of 500, an answer of at most 700 in base64, and 500 around them; the first,
/// which pins the log's keys, more.
pub const LONGEST_LINE: usize = 16 * 1_024;
/// A record has at most so many facts.
const MOST_FACTS: usize = 16;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place, from 0.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What: `operation` and what names it.
    pub facts: Vec<(String, String)>,
    /// The log's entry that allowed it: its sequence and its leaf hash.
    pub entry: Option<(u64, Digest)>,
    /// The log's checkpoint that proved it.
    pub head: Option<TreeHead>,
    /// What was answered.
    pub answer: Vec<u8>,
    /// SHA-256 of the line before; of nothing for the first.
    pub previous: Digest,
}

/// The key of the codes.
pub struct LogKey(hmac::Key);

impl core::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LogKey(…)")
    }
}

impl LogKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The code of some bytes.
    #[must_use]
    pub fn code(&self, bytes: &[u8]) -> Digest {
        let mut out = [0_u8; 32];
        // SHA-256 gives 32 bytes, so the lengths always agree.
        out.copy_from_slice(hmac::sign(&self.0, bytes).as_ref());
        Digest(out)
    }

    /// Whether the code is that of these bytes.
    #[must_use]
    pub fn holds(&self, bytes: &[u8], code: &Digest) -> bool {
        hmac::verify(&self.0, bytes, &code.0).is_ok()
    }
}

impl Record {
    /// A fact by its name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The line, without the newline at its end.
    #[must_use]
    pub fn line(&self, key: &LogKey) -> Vec<u8> {
        let body = self.body();
        let mut line = Vec::with_capacity(body.len().saturating_add(100));
        line.extend_from_slice(b"{\"mac\":\"");
        line.extend_from_slice(&key.code(&body).hex());
        line.extend_from_slice(b"\",\"record\":");
        line.extend_from_slice(&body);
        line.push(b'}');
        line
    }

    fn body(&self) -> Vec<u8> {
        let facts = self.facts.iter().map(|(key, value)| Json::arr([Json::show(key), Json::show(value)]));
        let entry = self
            .entry
            .map(|(sequence, leaf)| Json::obj([("leaf", Json::Hash(leaf)), ("sequence", Json::show(&sequence))]));
        let head = self.head.map(|head| Json::obj([("root", Json::Hash(head.root)), ("size", Json::show(&head.size))]));
        Json::obj([
            ("answer", Json::str(STANDARD.encode(&self.answer))),
            ("entry", Json::opt(entry)),
            ("facts", Json::arr(facts)),
            ("log", Json::opt(head)),
            ("number", Json::show(&self.number)),
            ("previous", Json::Hash(self.previous)),
            ("time", Json::Time(self.at)),
        ])
        .canonical()
    }

    /// Reads a line, and checks its code if there is a key.
    ///
    /// # Errors
    /// What is not as [`Self::line`] writes it.
    pub fn read(line: &[u8], key: Option<&LogKey>) -> Result<Self, ParseError> {
        if line.len() > LONGEST_LINE {
            return Err(ParseError(format!("is longer than {LONGEST_LINE} bytes")));
        }
        let (code, body) = parts(line).ok_or_else(|| ParseError::new("is no line of a key holder's log"))?;
        if key.is_some_and(|key| !key.holds(body, &code)) {
            return Err(ParseError::new("has a code that is not the holder's: somebody else wrote or changed it"));
        }
        let value = Value::read(body).map_err(|e| ParseError(format!("is no canonical JSON: {e}")))?;
        record(&value).ok_or_else(|| ParseError::new("lacks a field, or has one that is malformed"))
    }
}

fn parts(line: &[u8]) -> Option<(Digest, &[u8])> {
    let rest = line.strip_prefix(b"{\"mac\":\"")?;
    let (code, rest) = rest.split_at_checked(64)?;
    let body = rest.strip_prefix(b"\",\"record\":")?.strip_suffix(b"}")?;
    Some((Digest::parse(core::str::from_utf8(code).ok()?)?, body))
}

fn record(value: &Value<'_>) -> Option<Record> {
    let number = |value: &Value<'_>, key: &str| value.text(key)?.parse::<u64>().ok();
    let facts = value.array("facts");
    let entry = match value.at("entry") {
        Some(entry) => Some((number(entry, "sequence")?, Digest::parse(entry.text("leaf")?)?)),
        None => None,
    };
    let head = match value.at("log") {
        Some(log) => Some(TreeHead { size: number(log, "size")?, root: Digest::parse(log.text("root")?)? }),
        None => None,
    };
    Some(Record {
        number: number(value, "number")?,
        at: Timestamp::parse(value.text("time")?)?,
        facts: (facts.len() <= MOST_FACTS).then(|| facts.iter().map(fact).collect::<Option<_>>())??,
        entry,
        head,
        answer: STANDARD.decode(value.text("answer")?).ok()?,
        previous: Digest::parse(value.text("previous")?)?,
    })
}

fn fact(value: &Value<'_>) -> Option<(String, String)> {
    match value {
        Value::Arr(pair) => match pair.as_slice() {
            [Value::Str(key), Value::Str(value)] => Some((key.to_string(), value.to_string())),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Str(_) | Value::Obj(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record {
            number: 3,
            at: Timestamp::from_unix(1_790_000_000),
            facts: vec![("label".into(), "root \"1\"".into()), ("operation".into(), "generate".into())],
            entry: Some((7, Digest::of(b"leaf"))),
            head: Some(TreeHead { size: 9, root: Digest::of(b"root") }),
            answer: vec![1, 2, 3],
            previous: Digest::of(b"line"),
        }
    }

    #[test]
    fn a_line_reads_back_and_every_changed_byte_shows() {
        let key = LogKey::new(&[7; 32]);
        let pin = Record { entry: None, head: None, facts: Vec::new(), ..sample() };
        for record in [sample(), pin] {
            let line = record.line(&key);
            assert_eq!(Record::read(&line, Some(&key)), Ok(record.clone()));
            assert_eq!(Record::read(&line, None), Ok(record));
            for at in 0..line.len() {
                let mut bent = line.clone();
                bent[at] ^= 1;
                assert!(Record::read(&bent, Some(&key)).is_err(), "byte {at}");
            }
            assert!(Record::read(&line, Some(&LogKey::new(&[8; 32]))).is_err());
        }
    }
}
