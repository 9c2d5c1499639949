//! A shard: a run of frozen entries as static files (C2SP tlog-tiles), with a manifest that names all of them and the
//! manifest of the shard before it, so that shards are a chain (decision 0012).
//!
//! ```text
//! FROM-UNTIL/
//!   shard.json               the manifest, written last; its SHA-256 stands in the entry of the freeze
//!   checkpoint               a signed note of at least UNTIL entries; the manifest has the proof from UNTIL to it
//!   checkpoints.jsonl        the signed notes that were kept of sizes within the run
//!   beginning.json           what the entries before FROM leave behind; not in the first shard
//!   tile/0/…, tile/entries/… hashes and bytes of the entries FROM to UNTIL
//!   tile/L/…                 the upper levels: together with them the root over the first UNTIL entries
//!   evidence/SHA256          what entries of the run name; deletable one by one, as beside the log
//! ```
//! Refuses to know where the files lie, and whether they are what they should be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ParseError;
use crate::domain::key::Digest;
use crate::domain::tree::{LONGEST_PROOF, TreeHead};

/// The manifest's path.
pub const MANIFEST: &str = "shard.json";
/// The kept checkpoints' path.
pub const CHECKPOINTS: &str = "checkpoints.jsonl";
/// The beginning's path.
pub const BEGINNING: &str = "beginning.json";
/// The directory of evidence.
pub const EVIDENCE: &str = "evidence";
/// A manifest is at most this long: some 130 bytes for each file, two files for 256 entries, so 30 million entries.
pub const LONGEST_MANIFEST: usize = 32 * 1_024 * 1_024;
/// The kept checkpoints are at most this long: one an hour of some 600 bytes for ten years, three times over.
pub const LONGEST_CHECKPOINTS: usize = 160 * 1_024 * 1_024;
/// Shards begin and end at multiples of this: a full tile, a full bundle.
pub const ALIGNED: u64 = 256;

const FORMAT: &str = "keyward-audit-shard/v1";

/// What a shard says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which log.
    pub origin: String,
    /// Its first entry.
    pub from: u64,
    /// Number and root of the entries up to its end.
    pub head: TreeHead,
    /// Times of its first and its last entry, as they say.
    pub times: (String, String),
    /// SHA-256 of the manifest of the shard before it; `None` for the first.
    pub before: Option<Digest>,
    /// What proves that its root is under its checkpoint (RFC 9162 section 2.1.4.1).
    pub consistency: Vec<Digest>,
    /// Every file but evidence and the manifest itself, by its path.
    pub files: BTreeMap<String, Sum>,
}

/// Size and hash of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// In bytes.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: Digest,
}

impl Sum {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX), sha256: Digest::of(bytes) }
    }
}

/// A checkpoint that was kept, as a line of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many entries it covers.
    pub size: u64,
    /// Its time, seconds since 1970.
    pub at: i64,
    /// The signed note.
    pub note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    origin: String,
    from: String,
    until: String,
    root: String,
    first_time: String,
    last_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest_before: Option<String>,
    consistency: Vec<String>,
    files: BTreeMap<String, WrittenSum>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSum {
    bytes: String,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKept {
    size: String,
    at: String,
    note: String,
}

/// The name of a shard's directory: sorted by name they are in order.
#[must_use]
pub fn name(from: u64, until: u64) -> String {
    format!("{from:012}-{until:012}")
}

/// The path of a piece of evidence.
#[must_use]
pub fn evidence_path(sha256: &Digest) -> String {
    format!("{EVIDENCE}/{sha256}")
}

impl Manifest {
    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let sum = |sum: &Sum| WrittenSum { bytes: sum.bytes.to_string(), sha256: sum.sha256.to_string() };
        let written = Written {
            format: FORMAT.to_owned(),
            origin: self.origin.clone(),
            from: self.from.to_string(),
            until: self.head.size.to_string(),
            root: self.head.root.to_string(),
            first_time: self.times.0.clone(),
            last_time: self.times.1.clone(),
            manifest_before: self.before.map(|digest| digest.to_string()),
            consistency: self.consistency.iter().map(ToString::to_string).collect(),
            files: self.files.iter().map(|(path, found)| (path.clone(), sum(found))).collect(),
        };
        // Strings and maps of strings are always JSON.
        let mut bytes = serde_json::to_vec_pretty(&written).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    /// If it is none, or its run is none that a shard has, or it names a file outside.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let written: Written = serde_json::from_slice(bytes).map_err(|e| ParseError::new(e.to_string()))?;
        if written.format != FORMAT {
            return Err(ParseError::new(format!("it is a {:?}, and {FORMAT} was expected", written.format)));
        }
        let (from, until) = (number(&written.from)?, number(&written.until)?);
        if from >= until || !from.is_multiple_of(ALIGNED) || !until.is_multiple_of(ALIGNED) {
            return Err(ParseError::new(format!(
                "it says that it has the entries {from} to {until}, which no shard has"
            )));
        }
        if written.consistency.len() > LONGEST_PROOF {
            return Err(ParseError::new("its proof of consistency is longer than any"));
        }
        let file = |(path, sum): (String, WrittenSum)| {
            if !is_inside(&path) {
                return Err(ParseError::new(format!("it names the file {path:?}, which lies outside")));
            }
            Ok((path, Sum { bytes: number(&sum.bytes)?, sha256: hash(&sum.sha256)? }))
        };
        Ok(Self {
            origin: written.origin,
            from,
            head: TreeHead { size: until, root: hash(&written.root)? },
            times: (written.first_time, written.last_time),
            before: written.manifest_before.as_deref().map(hash).transpose()?,
            consistency: written.consistency.iter().map(|text| hash(text)).collect::<Result<_, _>>()?,
            files: written.files.into_iter().map(file).collect::<Result<_, ParseError>>()?,
        })
    }

    /// One past its last entry.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.head.size
    }

    /// The name of its directory.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.from, self.until())
    }
}

impl Kept {
    /// All of them, a line each.
    #[must_use]
    pub fn to_lines(all: &[Self]) -> Vec<u8> {
        let mut lines = Vec::new();
        for kept in all {
            let Self { size, at, note } = kept;
            let written = WrittenKept { size: size.to_string(), at: at.to_string(), note: note.clone() };
            lines.extend(serde_json::to_vec(&written).unwrap_or_default());
            lines.push(b'\n');
        }
        lines
    }

    /// Reads them back.
    ///
    /// # Errors
    /// If a line is none.
    pub fn parse_lines(bytes: &[u8]) -> Result<Vec<Self>, ParseError> {
        let line = |line: &[u8]| {
            let written: WrittenKept = serde_json::from_slice(line).map_err(|e| ParseError::new(e.to_string()))?;
            let at = written.at.parse().map_err(|_| ParseError::new(format!("{:?} is no time", written.at)))?;
            Ok(Self { size: number(&written.size)?, at, note: written.note })
        };
        bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(line).collect()
    }
}

fn number(text: &str) -> Result<u64, ParseError> {
    text.parse().map_err(|_| ParseError::new(format!("{text:?} is no number")))
}

fn hash(text: &str) -> Result<Digest, ParseError> {
    Digest::parse(text).ok_or_else(|| ParseError::new(format!("{text:?} is no SHA-256")))
}

/// Whether a path of the manifest stays below the shard.
fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != "..") && path != MANIFEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_one_that_no_shard_has_does_not() {
        let manifest = Manifest {
            origin: "keyward/test".to_owned(),
            from: 256,
            head: TreeHead { size: 1_024, root: Digest::of(b"root") },
            times: ("2026-01-01T00:00:00Z".to_owned(), "2026-01-02T00:00:00Z".to_owned()),
            before: Some(Digest::of(b"before")),
            consistency: vec![Digest::of(b"one"), Digest::of(b"two")],
            files: BTreeMap::from([
                ("tile/0/001".to_owned(), Sum::of(b"tile")),
                ("checkpoint".to_owned(), Sum::of(b"")),
            ]),
        };
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::parse(&bytes), Ok(manifest.clone()));
        assert_eq!(manifest.name(), "000000000256-000000001024");
        let text = String::from_utf8(bytes).unwrap();
        let bent = [
            ("\"256\"", "\"255\""),
            ("\"1024\"", "\"256\""),
            ("tile/0/001", "../keyward.db"),
            ("tile/0/001", "/etc/shadow"),
            ("tile/0/001", "shard.json"),
            ("shard/v1", "shard/v2"),
            ("\"origin\"", "\"name\""),
        ];
        for (from, to) in bent {
            let bent = text.replacen(from, to, 1);
            assert_ne!(bent, text, "{from}");
            assert!(Manifest::parse(bent.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn kept_checkpoints_read_back() {
        let kept = |size: u64| Kept { size, at: 1_790_000_000, note: format!("log\n{size}\n\u{2014} x\n") };
        let all = vec![kept(3), kept(200)];
        assert_eq!(Kept::parse_lines(&Kept::to_lines(&all)), Ok(all));
        assert!(Kept::parse_lines(b"{}\n").is_err());
    }
}
