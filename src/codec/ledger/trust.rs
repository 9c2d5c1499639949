//! Whose signatures count, and for which sizes of the log.

use std::str::FromStr;

use super::finding::{Finding, Grade, Rule};
use super::record::{Record, number};
use crate::codec::ParseError;
use crate::codec::canonical::Value;
use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::{Note, NoteError, Signs, VerifierKey};
use crate::domain::time::Timestamp;
use crate::domain::tree::TreeHead;

/// A log's key with the sizes that it may sign: keys rotate, and an old one that leaked must not sign anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangedKey {
    /// The key.
    pub key: VerifierKey,
    /// The smallest size.
    pub from: u64,
    /// The largest size; `None` if it is still in use.
    pub until: Option<u64>,
    /// How it came to count, if it was not given.
    pub learned: Option<Learned>,
}

/// A key that counts because another one does, and an entry under that one's checkpoints says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The other key.
    pub from: VerifierKey,
    /// The entry.
    pub sequence: u64,
}

/// What the entry of a rotation says (`KW6440`): the log passed from one key to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The entry.
    pub sequence: u64,
    /// The key before.
    pub old: VerifierKey,
    /// The key after.
    pub new: VerifierKey,
    /// The smallest size that the new key signs.
    pub from_size: u64,
}

impl Handover {
    /// Reads an entry's bytes; `None` if they are not those of a rotation.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let value = Value::read(body).ok()?;
        let record = Record::of(&value).ok().filter(|record| record.code == ROTATED)?;
        let facts = value.at("data")?.at("facts")?;
        Some(Self {
            sequence: record.sequence,
            old: facts.text("old_key")?.parse().ok()?,
            new: facts.text("new_key")?.parse().ok()?,
            from_size: number(facts.text("from_size")?)?,
        })
    }
}

/// The code of the entry that names both keys of a rotation.
pub const ROTATED: &str = "KW6440";

impl RangedKey {
    /// A key for every size.
    ///
    /// # Errors
    /// If it is a witness's.
    pub fn always(key: VerifierKey) -> Result<Self, ParseError> {
        match key.signs() {
            Signs::Notes => Ok(Self { key, from: 0, until: None, learned: None }),
            Signs::Sightings => Err(ParseError::new("is the key of a witness, not of a log: give it as --witness")),
        }
    }

    fn covers(&self, size: u64) -> bool {
        self.from <= size && self.until.is_none_or(|until| size <= until)
    }
}

impl FromStr for RangedKey {
    type Err = ParseError;

    /// `VKEY`, or `VKEY@FROM-UNTIL` or `VKEY@FROM-` with the sizes that it may sign.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        // Neither a key's name after its '+' nor base64 holds an '@' that digits and a '-' follow to the end.
        let split = text.rsplit_once('@').filter(|(_, range)| range.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
        let Some((key, range)) = split else { return Self::always(text.parse()?) };
        let sizes = range.split_once('-').and_then(|(from, until)| {
            let until = if until.is_empty() { None } else { Some(until.parse().ok()?) };
            Some((from.parse().ok()?, until))
        });
        let (from, until) =
            sizes.ok_or_else(|| ParseError::new("has a range of sizes that is not FROM-UNTIL or FROM-"))?;
        Ok(Self { from, until, ..Self::always(key.parse()?)? })
    }
}

/// The keys that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Those of the log.
    pub keys: Vec<RangedKey>,
    /// Those of witnesses.
    pub witnesses: Vec<VerifierKey>,
    /// Whether entries of rotations may be among frozen ones that are not read: a key that is not known may have followed one
    /// that is.
    pub gaps: bool,
}

/// A checkpoint whose signatures were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Which log.
    pub origin: String,
    /// Its size and root.
    pub head: TreeHead,
    /// The log's keys that have signed it and may.
    pub signers: Vec<VerifierKey>,
    /// The witnesses that saw it, with the time that they say.
    pub witnessed: Vec<(String, Timestamp)>,
}

impl Trust {
    /// Adds the keys before and after those that count. Nothing is believed by that: [`super::Verifier::finish`] asks that
    /// the entry of each rotation is under a checkpoint of the key that counted already.
    pub fn learn(&mut self, handovers: &[Handover]) {
        // Each turn learns one key at least, or it is the last.
        for _ in handovers {
            for handover in handovers {
                let (old, new) = (&handover.old, &handover.new);
                let learned = |from: &VerifierKey| Some(Learned { from: from.clone(), sequence: handover.sequence });
                if self.knows(new) && !self.knows(old) {
                    let key = RangedKey { key: old.clone(), from: 0, until: None, learned: learned(new) };
                    self.keys.push(key);
                } else if self.knows(old) && !self.knows(new) {
                    let from = handover.from_size;
                    self.keys.push(RangedKey { key: new.clone(), from, until: None, learned: learned(old) });
                }
            }
        }
    }

    fn knows(&self, key: &VerifierKey) -> bool {
        self.keys.iter().any(|ranged| ranged.key == *key)
    }

    /// Checks that a checkpoint is signed by a key of the log that may sign its size, and by whom it was seen. Without any
    /// key only what it says is read.
    ///
    /// # Errors
    /// A finding that calls it `what`: [`Grade::Unverifiable`] if it is of another log than those of the keys.
    pub fn judge(&self, what: &str, note: &str) -> Result<Judged, Box<Finding>> {
        let bad = |text: String| Box::new(Finding::tampered(Rule::Signature, None, text));
        let note: Note = note.parse().map_err(|e| bad(format!("{what} is no signed note: it {e}")))?;
        let said = Checkpoint::of(&note).map_err(|e| bad(format!("{what} is no checkpoint: it {e}")))?;
        let signers = self.signed(what, &note, &said)?;
        let mut witnessed = Vec::new();
        for witness in &self.witnesses {
            match witness.verify(&note) {
                Ok(seen) => witnessed.extend(seen.at.map(|at| (witness.name().to_owned(), at))),
                Err(NoteError::Missing(_)) => {}
                Err(error @ NoteError::Wrong(_)) => {
                    return Err(Box::new(Finding::tampered(Rule::Witness, None, format!("{what}: {error}"))));
                }
            }
        }
        Ok(Judged { origin: said.origin, head: said.head, signers, witnessed })
    }

    fn signed(&self, what: &str, note: &Note, said: &Checkpoint) -> Result<Vec<VerifierKey>, Box<Finding>> {
        let bad = |text: String| Box::new(Finding::tampered(Rule::Signature, None, text));
        let (origin, size) = (&said.origin, said.head.size);
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut by = Vec::new();
        let mut outside = None;
        for ranged in &self.keys {
            match ranged.key.verify(note) {
                Ok(_) if !ranged.covers(size) => outside = Some(ranged),
                Ok(_) => by.push(ranged.key.clone()),
                Err(NoteError::Missing(_)) => {}
                Err(error @ NoteError::Wrong(_)) => return Err(bad(format!("{what}: {error}"))),
            }
        }
        match (by.first(), outside) {
            (Some(key), _) if key.name() != origin => {
                Err(bad(format!("{what} is signed by the key of {} and says that it is of {origin}", key.name())))
            }
            (Some(_), _) => Ok(by),
            (None, Some(key)) => {
                let until = key.until.map_or_else(|| "…".to_owned(), |until| until.to_string());
                let text = format!(
                    "{what} has the size {size} and is signed by the key {}+{:08x}, which may sign the sizes {}–{until}",
                    key.key.name(),
                    key.key.id(),
                    key.from
                );
                Err(bad(text))
            }
            (None, None) if self.gaps && self.keys.iter().any(|ranged| ranged.key.name() == origin) => {
                let text = format!(
                    "{what} is not signed by a key that is known, and the log's key may have been rotated in the frozen \
                     entries: give their shards with --shard, or the newer key with --key"
                );
                Err(Box::new(Finding::new(Grade::Unverifiable, Rule::Unsigned, text)))
            }
            (None, None) if self.keys.iter().any(|ranged| ranged.key.name() == origin) => Err(bad(format!(
                "{what} says that it is of {origin} and is not signed by its key; if the log's key was changed \
                 meanwhile, give the newer key too"
            ))),
            (None, None) => {
                let known: Vec<&str> = self.keys.iter().map(|ranged| ranged.key.name()).collect();
                let text = format!("{what} is of {origin}, and the keys that count are of {}", known.join(", "));
                Err(Box::new(Finding::new(Grade::Unverifiable, Rule::Unsigned, text)))
            }
        }
    }
}
