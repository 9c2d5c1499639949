//! Whom to believe about a log (C2SP tlog-policy): logs, witnesses, groups of them, and the quorum.
//!
//! A file of octets, line by line: what a line names must stand on an earlier one, so that nothing can go in circles.
//! Refuses to know when a checkpoint was made, or how it came here.

use std::collections::{BTreeMap, BTreeSet};

use super::ParseError;
use super::checkpoint::Checkpoint;
use super::note::{Note, NoteError, Signs, VerifierKey};
use crate::domain::time::Timestamp;

/// A file is at most this long in bytes: 96 lines with a key and a URL have some 40 KiB.
pub const LONGEST_POLICY: usize = 128 * 1_024;
/// At most this many logs, as many witnesses and as many groups: what the specification asks for.
const MOST_OF_EACH: usize = 32;
/// The quorum that asks for no witness; no other may have this name.
const NONE: &[u8] = b"none";

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    quorum: Quorum,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its key; the key's name is the log's origin.
    pub key: VerifierKey,
    /// Where it can be asked.
    pub url: Option<String>,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// What the file calls it: octets, which mean something inside the file only.
    pub name: Vec<u8>,
    /// Its key.
    pub key: VerifierKey,
    /// Its submission prefix.
    pub url: Option<String>,
}

impl Witness {
    /// Its name for people.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(&self.name)
    }
}

/// Which witnesses must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Quorum {
    None,
    Of(Member),
}

/// A witness by its place, or a group of members.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group { name: Vec<u8>, needed: usize, members: Vec<Member> },
}

/// What a file without a `quorum` line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// It is refused, as the specification has it.
    Refused,
    /// One witness, whichever: so may whoever configures the witnesses of their own log leave it out.
    AnyWitness,
}

/// Why a checkpoint is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsatisfied {
    /// The note is no checkpoint.
    #[error("the note is no checkpoint: it {0}")]
    Checkpoint(ParseError),
    /// No listed log has this origin.
    #[error("no log of the policy has the origin {0}")]
    UnknownLog(String),
    /// None of the log's keys stands behind it.
    #[error("the log {0} has not signed it with any of its keys in the policy")]
    Unsigned(String),
    /// A signature under the name and id of a key of the policy is not that key's: nothing of the note is believed.
    #[error("{0}")]
    Wrong(NoteError),
    /// Too few witnesses.
    #[error("{0}")]
    Quorum(String),
}

/// What a policy was satisfied by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Satisfied {
    /// What the checkpoint says.
    pub checkpoint: Checkpoint,
    /// The names of the witnesses that cosigned it, with their times.
    pub cosigned: Vec<(String, Timestamp)>,
}

impl Policy {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the line, what is wrong with it, and what was expected.
    pub fn parse(file: &[u8], unsaid: Unsaid) -> Result<Self, ParseError> {
        let mut reader = Reader::default();
        if file.len() > LONGEST_POLICY {
            return Err(ParseError::new(format!("has {} bytes; at most {LONGEST_POLICY} are read", file.len())));
        }
        for (n, line) in file.split_inclusive(|b| *b == b'\n').enumerate() {
            let at = n.saturating_add(1);
            let told = |why: String| ParseError::new(format!("line {at} {why}"));
            let Some(line) = line.strip_suffix(b"\n") else {
                return Err(told("does not end with a newline: was the file cut short?".into()));
            };
            if let Some(octet) = line.iter().find(|b| !matches!(b, b'\t' | 0x20..=0x7e | 0x80..)) {
                return Err(told(format!(
                    "has the octet {octet:#04x}; only tabs and printable characters are allowed"
                )));
            }
            reader.line(line).map_err(told)?;
        }
        reader.finish(unsaid).map_err(ParseError::new)
    }

    /// One witness must have cosigned, whichever.
    #[must_use]
    pub fn any_of(witnesses: Vec<Witness>) -> Self {
        let members = (0..witnesses.len()).map(Member::Witness).collect();
        let any = Member::Group { name: b"any witness".to_vec(), needed: 1, members };
        Self { logs: Vec::new(), witnesses, quorum: Quorum::Of(any) }
    }

    /// The same witnesses and quorum, for these logs only.
    #[must_use]
    pub fn for_logs(&self, keys: &[VerifierKey]) -> Self {
        let logs = keys.iter().map(|key| Log { key: key.clone(), url: None }).collect();
        Self { logs, ..self.clone() }
    }

    /// The logs, in the order of the file.
    #[must_use]
    pub fn logs(&self) -> &[Log] {
        &self.logs
    }

    /// The witnesses, in the order of the file.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether it says `quorum none`.
    #[must_use]
    pub fn needs_no_witness(&self) -> bool {
        self.quorum == Quorum::None
    }

    /// Whether a checkpoint is to be believed: signed by a listed log whose key has the checkpoint's origin as its name, and
    /// cosigned by the quorum.
    ///
    /// # Errors
    /// [`Unsatisfied`] says what is missing.
    pub fn satisfied(&self, note: &Note) -> Result<Satisfied, Unsatisfied> {
        let checkpoint = Checkpoint::of(note).map_err(Unsatisfied::Checkpoint)?;
        let mut own = self.logs.iter().filter(|log| log.key.name() == checkpoint.origin).peekable();
        if own.peek().is_none() {
            return Err(Unsatisfied::UnknownLog(checkpoint.origin));
        }
        let mut signed = false;
        for log in own {
            signed |= stands_behind(&log.key, note)?.is_some();
        }
        if !signed {
            return Err(Unsatisfied::Unsigned(checkpoint.origin));
        }
        Ok(Satisfied { checkpoint, cosigned: self.quorum(note)? })
    }

    /// Whether the quorum has cosigned it, whoever signed it: names and times of those that did.
    ///
    /// # Errors
    /// [`Unsatisfied::Quorum`] or [`Unsatisfied::Wrong`].
    pub fn quorum(&self, note: &Note) -> Result<Vec<(String, Timestamp)>, Unsatisfied> {
        let mut seen = BTreeMap::new();
        for (place, witness) in self.witnesses.iter().enumerate() {
            if let Some(at) = stands_behind(&witness.key, note)? {
                seen.insert(place, at.unwrap_or(Timestamp::MIN));
            }
        }
        if let Quorum::Of(member) = &self.quorum {
            self.missing(member, &seen).map_or(Ok(()), |why| Err(Unsatisfied::Quorum(why)))?;
        }
        let named = |(place, at): (usize, Timestamp)| Some((self.witnesses.get(place)?.shown(), at));
        Ok(seen.into_iter().filter_map(named).collect())
    }

    /// What a member lacks, if it has not witnessed.
    fn missing(&self, member: &Member, seen: &BTreeMap<usize, Timestamp>) -> Option<String> {
        match member {
            Member::Witness(place) if seen.contains_key(place) => None,
            Member::Witness(place) => {
                let name = self.witnesses.get(*place).map_or_else(String::new, Witness::shown);
                Some(format!("witness {name} has not cosigned it"))
            }
            Member::Group { name, needed, members } => {
                let missing: Vec<String> = members.iter().filter_map(|m| self.missing(m, seen)).collect();
                let have = members.len().saturating_sub(missing.len());
                (have < *needed).then(|| {
                    let (name, all) = (shown(name), members.len());
                    format!(
                        "{have} of {all} in group {name} have witnessed it, {needed} are needed: {}",
                        missing.join("; ")
                    )
                })
            }
        }
    }
}

/// When a key signed it; `None` if it did not.
fn stands_behind(key: &VerifierKey, note: &Note) -> Result<Option<Option<Timestamp>>, Unsatisfied> {
    match key.verify(note) {
        Ok(verified) => Ok(Some(verified.at)),
        Err(NoteError::Missing(_)) => Ok(None),
        Err(wrong) => Err(Unsatisfied::Wrong(wrong)),
    }
}

/// Octets for people: what is no text is shown as its numbers.
fn shown(name: &[u8]) -> String {
    match core::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => name.escape_ascii().to_string(),
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: usize,
    names: BTreeMap<Vec<u8>, Member>,
    /// Names that are members of a group already.
    used: BTreeSet<Vec<u8>>,
    quorum: Option<Quorum>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let items: Vec<&[u8]> = line.split(|b| matches!(b, b' ' | b'\t')).filter(|i| !i.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] => self.log(key, None),
            [b"log", key, url] => self.log(key, Some(url)),
            [b"log", ..] => Err(form("log VKEY [URL]")),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url)),
            [b"witness", ..] => Err(form("witness NAME VKEY [URL]")),
            [b"group", name, needed, members @ ..] if !members.is_empty() => self.group(name, needed, members),
            [b"group", ..] => Err(form("group NAME all|any|K MEMBER…")),
            [b"quorum", name] => self.set_quorum(name),
            [b"quorum", ..] => Err(form("quorum NAME")),
            [other, ..] => Err(format!("begins with {}; expected log, witness, group, quorum or #", shown(other))),
        }
    }

    fn log(&mut self, key: &[u8], url: Option<&&[u8]>) -> Result<(), String> {
        let key = read_key(key, Signs::Notes)?;
        if let Some(twin) = self.logs.iter().find(|log| log.key.key() == key.key()) {
            return Err(format!("has the public key of log {} once more", twin.key.name()));
        }
        full(self.logs.len(), "logs")?;
        self.logs.push(Log { key, url: url.map(|u| shown(u)) });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&&[u8]>) -> Result<(), String> {
        self.free(name)?;
        let key = read_key(key, Signs::Sightings)?;
        if let Some(twin) = self.witnesses.iter().find(|w| w.key.key() == key.key()) {
            return Err(format!("has the public key of witness {} once more", twin.shown()));
        }
        full(self.witnesses.len(), "witnesses")?;
        self.names.insert(name.to_vec(), Member::Witness(self.witnesses.len()));
        self.witnesses.push(Witness { name: name.to_vec(), key, url: url.map(|u| shown(u)) });
        Ok(())
    }

    fn group(&mut self, name: &[u8], needed: &[u8], names: &[&[u8]]) -> Result<(), String> {
        self.free(name)?;
        full(self.groups, "groups")?;
        let needed = match needed {
            b"all" => names.len(),
            b"any" => 1,
            number => {
                let text = shown(number);
                let count: Option<usize> = text.parse().ok().filter(|k: &usize| k.to_string() == text);
                count.ok_or_else(|| format!("asks for {text} members; expected all, any or a number"))?
            }
        };
        if needed == 0 || needed > names.len() {
            return Err(format!("asks for {needed} of {} members; expected 1 to {}", names.len(), names.len()));
        }
        let mut members = Vec::with_capacity(names.len());
        for member in names {
            let found = self.names.get(*member).cloned().ok_or_else(|| unknown(member))?;
            if !self.used.insert(member.to_vec()) {
                return Err(format!("lists {}, which is a member already; once is allowed", shown(member)));
            }
            members.push(found);
        }
        self.groups = self.groups.saturating_add(1);
        self.names.insert(name.to_vec(), Member::Group { name: name.to_vec(), needed, members });
        Ok(())
    }

    fn set_quorum(&mut self, name: &[u8]) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("is a second quorum line; exactly one is allowed".into());
        }
        self.quorum = Some(match self.names.get(name) {
            Some(member) => Quorum::Of(member.clone()),
            None if name == NONE => Quorum::None,
            None => return Err(unknown(name)),
        });
        Ok(())
    }

    fn free(&self, name: &[u8]) -> Result<(), String> {
        match name {
            NONE => Err("defines the name none, which is taken for the quorum that asks for nobody".into()),
            name if self.names.contains_key(name) => {
                Err(format!("defines {} a second time; witnesses and groups share their names", shown(name)))
            }
            _ => Ok(()),
        }
    }

    fn finish(self, unsaid: Unsaid) -> Result<Policy, String> {
        let Self { logs, witnesses, quorum, .. } = self;
        match (quorum, unsaid) {
            (Some(quorum), _) => Ok(Policy { logs, witnesses, quorum }),
            (None, Unsaid::AnyWitness) if !witnesses.is_empty() => Ok(Policy { logs, ..Policy::any_of(witnesses) }),
            (None, Unsaid::AnyWitness) => {
                Err("has neither a witness nor a quorum line; say `quorum none` if no witness is wanted".into())
            }
            (None, Unsaid::Refused) => Err("has no quorum line; exactly one is needed".into()),
        }
    }
}

fn form(expected: &str) -> String {
    format!("does not have the form `{expected}`")
}

fn unknown(name: &[u8]) -> String {
    format!("names {}, which no line before it defines", shown(name))
}

fn full(count: usize, what: &str) -> Result<(), String> {
    if count < MOST_OF_EACH { Ok(()) } else { Err(format!("is one too many: at most {MOST_OF_EACH} {what} are taken")) }
}

fn read_key(text: &[u8], signs: Signs) -> Result<VerifierKey, String> {
    let text = core::str::from_utf8(text).map_err(|_| "has a key that is not UTF-8".to_owned())?;
    let key: VerifierKey = text.parse().map_err(|e| format!("has the key {text}: it {e}"))?;
    match (key.signs() == signs, signs) {
        (true, _) => Ok(key),
        (false, Signs::Notes) => Err("has the key of a witness where that of a log is needed (type 1)".into()),
        (false, Signs::Sightings) => Err("has the key of a log where that of a witness is needed (type 4)".into()),
    }
}

#[cfg(test)]
#[path = "tlog_policy_tests.rs"]
mod tests;
