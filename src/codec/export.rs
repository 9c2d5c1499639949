//! How far an export of the audit log is: a small file beside what was written, so that the next run goes on there.
//!
//! It holds the right edge of the tree over everything that was written. Whoever appends the leaves that follow and comes
//! to a signed root has proved both halves. Refuses to know where anything is written to.

use core::fmt;
use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::ParseError;
use super::ledger::Grade;
use crate::domain::key::Digest;
use crate::domain::tree::Frontier;

/// The longest such file: unfinished tiles of seven levels in base64 (75 KiB), a note, and room.
pub const LONGEST_REACHED: usize = 256 * 1_024;

/// What the log is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Static files of C2SP tlog-tiles.
    TlogTiles,
    /// The stored bytes: `CloudEvents` in JSON.
    Cloudevents,
    /// Events of the Open Cybersecurity Schema Framework in JSON.
    Ocsf,
    /// Comma-separated values.
    Csv,
}

impl Format {
    /// Every format's name.
    pub const NAMES: [&str; 4] = ["tlog-tiles", "cloudevents", "ocsf", "csv"];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TlogTiles => "tlog-tiles",
            Self::Cloudevents => "cloudevents",
            Self::Ocsf => "ocsf",
            Self::Csv => "csv",
        }
    }
}

impl FromStr for Format {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let all = [Self::TlogTiles, Self::Cloudevents, Self::Ocsf, Self::Csv];
        all.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            let known = Self::NAMES.join(", ");
            ParseError::new(format!("{text:?} is none of the formats {known}"))
        })
    }
}

/// How far an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What is written.
    pub format: Format,
    /// The first entry that was asked for.
    pub from: u64,
    /// The tree over all entries before the next one, those before `from` too.
    pub tree: Frontier,
    /// The signed checkpoint that the last run went by.
    pub checkpoint: String,
    /// To whom, for a webhook.
    pub receiver: Option<String>,
    /// Where the batch that is being sent ends.
    pub sending: Option<u64>,
    /// The file that still grows.
    pub growing: Option<Growing>,
    /// Unfinished tiles, by their path.
    pub tiles: BTreeMap<String, Vec<u8>>,
}

/// A file that still grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growing {
    /// How long it was.
    pub bytes: u64,
    /// The hash over that much of it.
    pub sha256: Digest,
}

/// The same as JSON; numbers that grow with the log are strings, as in the entries.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    from: String,
    next: String,
    tree: Vec<String>,
    checkpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receiver: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sending: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    growing: Option<WrittenFile>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tiles: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    bytes: String,
    sha256: String,
}

impl Reached {
    /// Nothing yet.
    #[must_use]
    pub fn beginning(format: Format, tree: Frontier, checkpoint: String) -> Self {
        let from = tree.size();
        Self { format, from, tree, checkpoint, receiver: None, sending: None, growing: None, tiles: BTreeMap::new() }
    }

    /// The next entry.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.tree.size()
    }

    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            format: self.format.as_str().to_owned(),
            from: self.from.to_string(),
            next: self.next().to_string(),
            tree: self.tree.hashes().iter().map(ToString::to_string).collect(),
            checkpoint: self.checkpoint.clone(),
            receiver: self.receiver.clone(),
            sending: self.sending.map(|n| n.to_string()),
            growing: self.growing.map(|g| WrittenFile { bytes: g.bytes.to_string(), sha256: g.sha256.to_string() }),
            tiles: self.tiles.iter().map(|(path, bytes)| (path.clone(), STANDARD.encode(bytes))).collect(),
        };
        // Strings and maps of strings are always JSON.
        let mut bytes = serde_json::to_vec_pretty(&written).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If it is not what [`Self::to_bytes`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let written: Written = serde_json::from_slice(bytes).map_err(|e| ParseError::new(e.to_string()))?;
        let digest = |text: &String| {
            Digest::parse(text).ok_or_else(|| ParseError::new(format!("{text:?} is no hash of 64 digits")))
        };
        let hashes = written.tree.iter().map(digest).collect::<Result<_, _>>()?;
        let tree = Frontier::new(number(&written.next)?, hashes).map_err(|e| ParseError::new(e.to_string()))?;
        let tile = |(path, text): (String, String)| {
            let bytes = STANDARD.decode(text).map_err(|e| ParseError::new(format!("the tile {path} is none: {e}")))?;
            Ok((path, bytes))
        };
        let growing = |file: WrittenFile| -> Result<_, ParseError> {
            Ok(Growing { bytes: number(&file.bytes)?, sha256: digest(&file.sha256)? })
        };
        Ok(Self {
            format: written.format.parse()?,
            from: number(&written.from)?,
            tree,
            checkpoint: written.checkpoint,
            receiver: written.receiver,
            sending: written.sending.as_deref().map(number).transpose()?,
            growing: written.growing.map(growing).transpose()?,
            tiles: written.tiles.into_iter().map(tile).collect::<Result<_, ParseError>>()?,
        })
    }
}

fn number(text: &str) -> Result<u64, ParseError> {
    text.parse().map_err(|_| ParseError::new(format!("{text:?} is no number")))
}

/// Why an export ended early: what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is something else where it should be written, or what was written is not there any more.
    Place,
    /// The disk.
    Host,
    /// What was written before is not the beginning of this log.
    Forked,
    /// More was written before than this log has.
    RolledBack,
    /// Entries that it needs are not in this log (any more).
    Missing,
    /// Entries are not what was signed.
    Altered,
    /// No key says whose log it is.
    Unsigned,
    /// The receiver does not take it.
    Refused,
    /// The receiver could not be reached for long.
    Unreachable,
    /// Options, URL or secret.
    Setting,
}

impl Why {
    /// Its stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Place => "KW6501",
            Self::Host => "KW6502",
            Self::Forked => "KW6503",
            Self::RolledBack => "KW6504",
            Self::Missing => "KW6505",
            Self::Altered => "KW6506",
            Self::Unsigned => "KW6507",
            Self::Refused => "KW6508",
            Self::Unreachable => "KW6509",
            Self::Setting => "KW6510",
        }
    }

    /// As whom verifying would have found it; `None` if it says nothing about the log.
    #[must_use]
    pub fn grade(self) -> Option<Grade> {
        match self {
            Self::Forked | Self::Altered => Some(Grade::Tampered),
            Self::RolledBack => Some(Grade::RolledBack),
            Self::Missing => Some(Grade::Incomplete),
            Self::Unsigned => Some(Grade::Unverifiable),
            Self::Place | Self::Host | Self::Refused | Self::Unreachable | Self::Setting => None,
        }
    }
}

/// An export that ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Why.
    pub why: Why,
    /// What was seen and what was expected.
    pub text: String,
}

impl Stopped {
    /// With a sentence.
    #[must_use]
    pub fn new(why: Why, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.why.code())
    }
}

impl core::error::Error for Stopped {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_reads_back_and_anything_else_does_not() {
        let mut tree = Frontier::default();
        (0..300_u64).for_each(|n| tree.push(Digest::of(&n.to_be_bytes()), |_, _| {}));
        let mut reached = Reached::beginning(Format::Ocsf, tree, "a note\n".into());
        reached.growing = Some(Growing { bytes: 77, sha256: Digest::of(b"x") });
        reached.tiles.insert("tile/1/000.p/1".into(), vec![7; 32]);
        (reached.sending, reached.receiver) = (Some(400), Some("https://siem.example".into()));
        let bytes = reached.to_bytes();
        assert_eq!(Reached::parse(&bytes), Ok(reached));
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [("\"300\"", "\"301\""), ("ocsf", "xml"), ("\"77\"", "\"-1\""), ("\"from\"", "\"of\"")] {
            let bent = text.replace(from, to);
            assert_ne!(bent, text, "{from}");
            assert!(Reached::parse(bent.as_bytes()).is_err(), "{from}");
        }
        assert!(Reached::parse(&text.as_bytes()[..text.len() / 2]).is_err());
    }

    #[test]
    fn formats_are_named() {
        for name in Format::NAMES {
            assert_eq!(name.parse::<Format>().unwrap().as_str(), name);
        }
        assert!("xml".parse::<Format>().is_err());
    }
}
