//! Where verifying begins if the first entries are frozen (decision 0012): everything that the entries before it leave
//! behind for those after it, and what the entry of a freeze says of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{Record, number};
use crate::codec::ParseError;
use crate::codec::canonical::Value;
use crate::domain::id::{EntryId, Ulid};
use crate::domain::key::Digest;
use crate::domain::tree::{Frontier, TreeHead};

/// The action of the entry of a freeze.
pub const FREEZE: &str = "audit.freeze";
/// Its code.
pub const FROZE: &str = "KW6520";
/// The longest file that holds a beginning: some 130 bytes for each target, and so half a million of them.
pub const LONGEST_BEGINNING: usize = 64 * 1_024 * 1_024;

const FORMAT: &str = "keyward-audit-beginning/v1";

/// What is known before the first entry that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// The right edge of the tree over the entries before.
    pub tree: Frontier,
    /// The leaf of the newest entry about each target.
    pub links: BTreeMap<String, Digest>,
    /// Intents that have no outcome yet.
    pub intents: BTreeMap<EntryId, Pending>,
}

/// An intent without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its place.
    pub sequence: u64,
    /// What it is about.
    pub target: String,
}

/// The same as canonical JSON: keys stand in their order, so that the same beginning has the same bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    intents: BTreeMap<String, WrittenIntent>,
    links: BTreeMap<String, String>,
    size: String,
    tree: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIntent {
    sequence: String,
    target: String,
}

impl Beginning {
    /// How many entries are before it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// What a freeze's entry commits to: SHA-256 of [`Self::to_bytes`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// As it is kept in a shard.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let intent = |(id, pending): (&EntryId, &Pending)| {
            let Pending { sequence, target } = pending;
            (id.to_string(), WrittenIntent { sequence: sequence.to_string(), target: target.clone() })
        };
        let written = Written {
            format: FORMAT.to_owned(),
            intents: self.intents.iter().map(intent).collect(),
            links: self.links.iter().map(|(target, leaf)| (target.clone(), leaf.to_string())).collect(),
            size: self.size().to_string(),
            tree: self.tree.hashes().iter().map(ToString::to_string).collect(),
        };
        // Strings and maps of strings are always JSON.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If it is not what [`Self::to_bytes`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let written: Written = serde_json::from_slice(bytes).map_err(|e| ParseError::new(e.to_string()))?;
        if written.format != FORMAT {
            return Err(ParseError::new(format!("it is a {:?}, and {FORMAT} was expected", written.format)));
        }
        let place = |text: &str| number(text).ok_or_else(|| ParseError::new(format!("{text:?} is no number")));
        let hash = |text: &str| Digest::parse(text).ok_or_else(|| ParseError::new(format!("{text:?} is no SHA-256")));
        let hashes = written.tree.iter().map(|text| hash(text)).collect::<Result<_, _>>()?;
        let tree = Frontier::new(place(&written.size)?, hashes).map_err(|e| ParseError::new(e.to_string()))?;
        let links = written.links.into_iter().map(|(target, leaf)| Ok((target, hash(&leaf)?)));
        let intent = |(id, intent): (String, WrittenIntent)| {
            let id = Ulid::parse(&id).ok_or_else(|| ParseError::new(format!("{id:?} is no id")))?;
            Ok((EntryId(id), Pending { sequence: place(&intent.sequence)?, target: intent.target }))
        };
        let read = Self {
            tree,
            links: links.collect::<Result<_, ParseError>>()?,
            intents: written.intents.into_iter().map(intent).collect::<Result<_, ParseError>>()?,
        };
        if read.to_bytes() == bytes { Ok(read) } else { Err(ParseError::new("it is spelled another way")) }
    }
}

/// What the entry of a freeze says: the entries before `until` may lie elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The place of the entry.
    pub sequence: u64,
    /// The first entry of the shard.
    pub from: u64,
    /// How many entries are frozen, and the root over them.
    pub head: TreeHead,
    /// SHA-256 of the shard's manifest.
    pub manifest: Digest,
    /// SHA-256 of the beginning that follows.
    pub beginning: Digest,
}

/// A shard that was read, as its manifest describes it: the entry of a freeze must say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// What to call it.
    pub what: String,
    /// Its first entry.
    pub from: u64,
    /// Number and root of the entries up to its end.
    pub head: TreeHead,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
}

impl Frozen {
    /// What the facts of an entry say; `None` if it is not that of a freeze.
    pub(super) fn of(value: &Value<'_>, record: &Record<'_>) -> Option<Self> {
        if record.action != FREEZE {
            return None;
        }
        let facts = value.at("data")?.at("facts")?;
        let hash = |key| facts.text(key).and_then(Digest::parse);
        Some(Self {
            sequence: record.sequence,
            from: number(facts.text("from")?)?,
            head: TreeHead { size: number(facts.text("until")?)?, root: hash("root")? },
            manifest: hash("manifest")?,
            beginning: hash("beginning")?,
        })
    }

    /// Reads an entry's bytes; `None` if they are not those of a freeze.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let value = Value::read(body).ok()?;
        Self::of(&value, &Record::of(&value).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_reads_back_and_anything_else_does_not() {
        let mut tree = Frontier::default();
        (0..768_u64).for_each(|n| tree.push(Digest::of(&n.to_be_bytes()), |_, _| {}));
        let id = EntryId(Ulid::parse("01KDGZJ5N3W0G3C5Y7B2Q4R6T8").unwrap());
        let beginning = Beginning {
            tree,
            links: BTreeMap::from([
                ("credential/portal".to_owned(), Digest::of(b"a")),
                ("path/ü \"\u{7f}\u{1}\n".to_owned(), Digest::of(b"b")),
            ]),
            intents: BTreeMap::from([(id, Pending { sequence: 700, target: "credential/portal".to_owned() })]),
        };
        let bytes = beginning.to_bytes();
        assert_eq!(Beginning::parse(&bytes), Ok(beginning));
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [("\"768\"", "\"769\""), ("\"700\"", "\"0700\""), ("v1", "v2"), (":", ": "), ("tree", "tri")]
        {
            let bent = text.replacen(from, to, 1);
            assert_ne!(bent, text, "{from}");
            assert!(Beginning::parse(bent.as_bytes()).is_err(), "{from}");
        }
        assert_eq!(Beginning::parse(&Beginning::default().to_bytes()), Ok(Beginning::default()));
    }
}
