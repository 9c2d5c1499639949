//! A log asks a witness to cosign its newest checkpoint (C2SP tlog-witness, `add-checkpoint`): the request, and what a
//! witness makes of it.
//!
//! ```text
//! old SIZE                 the checkpoint that the witness saw last, as the log believes
//! HASH…                    a consistency proof from there, at most 63 lines
//!                          an empty line
//! CHECKPOINT               a signed note
//! ```
//! [`Request::trusted`] and [`consider`] hold every rule; they refuse to know how a request came, and where it is kept
//! what was seen.

use core::fmt;
use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ParseError;
use super::checkpoint::Checkpoint;
use super::note::{LONGEST_NOTE, Note, VerifierKey};
use crate::domain::key::Digest;
use crate::domain::tree::{LARGEST_TREE, LONGEST_PROOF, TreeHead, check_consistency, empty_root};
use crate::domain::witness::Refusal;

/// A request is at most this long: its note, and 63 lines of 45 bytes with the first one.
pub const LONGEST_REQUEST: usize = LONGEST_NOTE + 4 * 1_024;
/// The type of an answer that says only how large the tree was that the witness saw last.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// What a log sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The size that the witness saw last, as the log believes.
    pub old: u64,
    /// From there to the checkpoint.
    pub proof: Vec<Digest>,
    /// The checkpoint, signed.
    pub note: Note,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))?;
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for Request {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > LONGEST_REQUEST {
            return Err(ParseError::new(format!("has {} bytes; at most {LONGEST_REQUEST} are read", text.len())));
        }
        let no_end = || ParseError::new("has no empty line before the checkpoint");
        let (head, note) = text.split_once("\n\n").ok_or_else(no_end)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = old.ok_or_else(|| ParseError::new("has a first line that is not `old SIZE`"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() >= LONGEST_PROOF {
                return Err(ParseError::new(format!("has more than {LONGEST_PROOF} hashes in its proof")));
            }
            let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proof.push(Digest(hash.ok_or_else(|| ParseError::new("has a proof line that is no hash in base64"))?));
        }
        let note = note.parse().map_err(|e: ParseError| ParseError::new(format!("has a checkpoint that {e}")))?;
        Ok(Self { old, proof, note })
    }
}

/// Digits without a sign and without leading zeroes.
#[must_use]
pub fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n: &u64| n.to_string() == text)
}

/// The logs that a witness knows: by their origins, with the keys it trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs(BTreeMap<String, Vec<VerifierKey>>);

impl Logs {
    /// By `(origin, key)`; an origin may have several keys.
    pub fn new(logs: impl IntoIterator<Item = (String, VerifierKey)>) -> Self {
        let mut known: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for (origin, key) in logs {
            known.entry(origin).or_default().push(key);
        }
        Self(known)
    }

    /// Every origin.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether one of the log's keys stands behind a note; signatures of unknown keys do not matter.
    #[must_use]
    pub fn trust(&self, origin: &str, note: &Note) -> Trust {
        match self.0.get(origin) {
            None => Trust::Unknown,
            Some(keys) if keys.iter().any(|key| key.verify(note).is_ok()) => Trust::Signed,
            Some(_) => Trust::Unsigned,
        }
    }
}

/// What is known of who signed a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody knows the origin.
    Unknown,
    /// None of the log's keys signed it.
    Unsigned,
    /// One of them did.
    Signed,
}

impl Request {
    /// Reads a request and says about which checkpoint it is, if a log that is known stands behind that.
    ///
    /// # Errors
    /// [`Refusal`] of a request that cannot be read, or of an unknown or an unsigned log.
    pub fn trusted(body: &[u8], logs: &Logs) -> Result<(Self, Checkpoint), Refusal> {
        let malformed = |e: ParseError| Refusal::Malformed(format!("the request {e}"));
        let text = core::str::from_utf8(body).map_err(|_| Refusal::Malformed("the request is not UTF-8".into()))?;
        let request: Self = text.parse().map_err(malformed)?;
        let checkpoint = Checkpoint::of(&request.note)
            .map_err(|e| Refusal::Malformed(format!("the request has a note that is no checkpoint: it {e}")))?;
        match logs.trust(&checkpoint.origin, &request.note) {
            Trust::Unknown => Err(Refusal::UnknownOrigin(checkpoint.origin)),
            Trust::Unsigned => Err(Refusal::Unsigned(checkpoint.origin)),
            Trust::Signed => Ok((request, checkpoint)),
        }
    }
}

/// Whether a witness that saw `last` of a log (`None`: nothing yet) may cosign `new`, whose signature was checked. The
/// caller looks up `last`, asks, and writes down `new` without anybody else in between.
///
/// # Errors
/// [`Refusal`], in the order of the specification.
pub fn consider(last: Option<&TreeHead>, request: &Request, new: &Checkpoint) -> Result<(), Refusal> {
    let (old, size) = (request.old, new.head.size);
    if old > size {
        return Err(Refusal::OldAboveNew { old, new: size });
    }
    let nothing = TreeHead { size: 0, root: empty_root() };
    let last = last.unwrap_or(&nothing);
    if old != last.size {
        return Err(Refusal::Stale { recorded: last.size });
    }
    if old == size && last.root != new.head.root {
        return Err(Refusal::Forked { origin: new.origin.clone(), size, seen: last.root, shown: new.head.root });
    }
    check_consistency(last, &new.head, &request.proof).map_err(|e| Refusal::Inconsistent {
        origin: new.origin.clone(),
        old,
        new: size,
        why: e.to_string(),
    })
}

/// Reads the answer of a witness that saw another tree last.
#[must_use]
pub fn recorded_size(body: &str) -> Option<u64> {
    body.strip_suffix('\n').and_then(decimal).filter(|size| *size <= LARGEST_TREE)
}

#[cfg(test)]
#[path = "add_checkpoint_tests.rs"]
mod tests;
