//! Whether the audit log allows an operation, and whether the bytes are what they are said to be.
//!
//! Everything here is about one request; what is known of earlier ones is in [`super::book`].

use core::time::Duration;

use crate::codec::canonical::Value;
use crate::codec::checkpoint::Checkpoint;
use crate::codec::entry::{Entry, EntryFacts};
use crate::codec::holder::{LONGEST_LABEL, Proof};
use crate::codec::note::{Note, Signs, VerifierKey};
use crate::codec::tbs::{self, Role};
use crate::domain::audit::{Phase, leaf_hash};
use crate::domain::authority::LIST_BACKDATE;
use crate::domain::key::Digest;
use crate::domain::time::{HOUR, Timestamp, Validity, human_span};
use crate::domain::tree::{TreeHead, check_inclusion};
use crate::ports::{HeldKey, Operation, ToBeSigned};

/// What announces an operation.
const ACTION: &str = "ca.key";
/// A log has at most so many keys at once: two while one is rotated, and room for a third.
const MOST_KEYS: usize = 8;
/// The clocks of guardian and holder are one machine's, or nearly so.
const SKEW: Duration = HOUR;

/// The log that is believed: its name, and the keys that sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pins {
    keys: Vec<VerifierKey>,
}

impl Pins {
    /// Verifier keys, one a line; lines that begin with `#` are passed over.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|line| line.parse::<VerifierKey>().map_err(|e| format!("the key {line:?} {e}")));
        let keys: Vec<VerifierKey> = keys.collect::<Result<_, _>>()?;
        let first = keys.first().ok_or("there is no key; keyward audit key prints that of the guardian's log")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("there are {} keys; at most {MOST_KEYS} are taken", keys.len()));
        }
        if let Some(other) = keys.iter().find(|key| key.name() != first.name() || key.signs() != Signs::Notes) {
            return Err(format!("{} is not a key of the log {}", other.name(), first.name()));
        }
        Ok(Self { keys })
    }

    /// As it is pinned: one key a line.
    pub(super) fn text(&self) -> String {
        self.keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Which log.
    pub(super) fn origin(&self) -> &str {
        self.keys.first().map_or("", VerifierKey::name)
    }
}

/// What a proof shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    /// The entry's place.
    pub(super) sequence: u64,
    /// Its leaf hash.
    pub(super) leaf: Digest,
    /// The log that it is in.
    pub(super) head: TreeHead,
}

/// Checks that the log, as it stood under a checkpoint that is [`believed`], has an entry that announces exactly this
/// operation.
pub(super) fn check(operation: &Operation, proof: &Proof<'_>, head: TreeHead) -> Result<Allowed, String> {
    let leaf = leaf_hash(proof.entry);
    let path: Vec<Digest> = proof.path.chunks_exact(32).filter_map(|c| c.first_chunk().copied().map(Digest)).collect();
    check_inclusion(&leaf, proof.sequence, &head, &path)
        .map_err(|e| format!("the entry is not proved to stand in the log at {}: {e}", proof.sequence))?;
    announces(operation, proof)?;
    Ok(Allowed { sequence: proof.sequence, leaf, head })
}

/// What a checkpoint says, if it is signed by a key that is pinned.
pub(super) fn believed(note: &str, pins: &Pins) -> Result<TreeHead, String> {
    let note: Note = note.parse().map_err(|e| format!("the checkpoint {e}"))?;
    let mut why = None;
    let verified = pins.keys.iter().any(|key| match key.verify(&note) {
        Ok(_) => true,
        Err(error) => {
            why = Some(error);
            false
        }
    });
    if !verified {
        let why = why.map(|e| e.to_string()).unwrap_or_default();
        return Err(format!("the checkpoint is not signed by the log {} that is pinned here: {why}", pins.origin()));
    }
    let checkpoint = Checkpoint::of(&note).map_err(|e| format!("the checkpoint {e}"))?;
    if checkpoint.origin != pins.origin() {
        return Err(format!("the checkpoint is of the log {:?}, expected {:?}", checkpoint.origin, pins.origin()));
    }
    Ok(checkpoint.head)
}

fn announces(operation: &Operation, proof: &Proof<'_>) -> Result<(), String> {
    // Two readers must not see two things in the same bytes, so only the one spelling counts.
    Value::read(proof.entry).map_err(|e| format!("the entry is no canonical JSON: {e}"))?;
    let entry = Entry::parse(proof.entry).map_err(|e| e.to_string())?;
    if entry.sequence != proof.sequence {
        return Err(format!(
            "the entry says that it has the number {}, and stands at {}",
            entry.sequence, proof.sequence
        ));
    }
    if entry.action != ACTION || entry.phase != Phase::Intent {
        let (action, phase) = (&entry.action, entry.phase.as_str());
        return Err(format!("the entry is {action:?} {phase}, expected {ACTION:?} intent: it allows nothing here"));
    }
    let expected = operation.facts();
    let EntryFacts::Known(facts) = &entry.facts else {
        return Err("the entry has lost its facts: it allows nothing".to_owned());
    };
    for (key, value) in &expected {
        let found = facts.get(*key).and_then(|v| v.as_str());
        if found != Some(value.as_str()) {
            let found = found.unwrap_or("nothing");
            return Err(format!("the entry announces {key} {found:?}, and asked for is {value:?}"));
        }
    }
    if facts.len() != expected.len() {
        let more: Vec<&str> =
            facts.keys().map(String::as_str).filter(|k| expected.iter().all(|(e, _)| e != k)).collect();
        return Err(format!("the entry announces more than this operation: {}", more.join(", ")));
    }
    Ok(())
}

/// A label is for people, and goes to terminals.
pub(super) fn check_label(label: &str) -> Result<(), String> {
    let fits = (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(|b| (b' '..=b'~').contains(&b));
    if fits { Ok(()) } else { Err(format!("the label is not 1 to {LONGEST_LABEL} printable ASCII characters")) }
}

/// How long what is signed may live at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Certificates of end entities.
    pub leaf: Duration,
    /// Certificates of CAs.
    pub ca: Duration,
    /// Revocation lists.
    pub list: Duration,
}

/// Reads what is to be signed, and refuses what is not of its kind or does not fit the key. Gives the algorithm of the
/// signature that it speaks of.
pub(super) fn read(kind: ToBeSigned, bytes: &[u8], lives: &Lifetimes, now: Timestamp) -> Result<Bytes, String> {
    let said = |e: crate::codec::ParseError| format!("what is to be signed {e}");
    let (algorithm, authority_key, life, most) = match kind {
        ToBeSigned::Leaf | ToBeSigned::Ca => {
            let read = tbs::certificate(bytes).map_err(said)?;
            let (expected, most) = match kind {
                ToBeSigned::Leaf => (Role::EndEntity, lives.leaf),
                ToBeSigned::Ca | ToBeSigned::RevocationList => (Role::Ca, lives.ca),
            };
            if read.role != expected {
                let found = match read.role {
                    Role::Ca => "a CA's certificate",
                    Role::EndEntity => "an end entity's certificate",
                };
                return Err(format!("what is to be signed is {found}, and announced is {:?}", kind.as_str()));
            }
            (read.algorithm, read.authority_key, read.validity, most)
        }
        ToBeSigned::RevocationList => {
            let read = tbs::revocation_list(bytes).map_err(said)?;
            let life = Validity { not_before: read.this_update, not_after: read.next_update };
            (read.algorithm, read.authority_key, life, lives.list)
        }
    };
    check_life(&life, most, now)?;
    Ok(Bytes { algorithm, authority_key })
}

fn check_life(life: &Validity, most: Duration, now: Timestamp) -> Result<(), String> {
    let most = most.saturating_add(LIST_BACKDATE);
    let (begin, end) = (life.not_before, life.not_after);
    if begin >= end {
        return Err(format!("what is to be signed ends {end}, before it begins {begin}"));
    }
    if life.lifetime() > most {
        let (found, most) = (human_span(life.lifetime()), human_span(most));
        return Err(format!("what is to be signed lives for {found}; here it may live for {most} at most"));
    }
    if end > now.plus(most).plus(SKEW) {
        return Err(format!("what is to be signed ends {end}, too far from the {now} of this clock"));
    }
    Ok(())
}

/// What of the bytes has to fit the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    algorithm: Vec<u8>,
    authority_key: Option<Vec<u8>>,
}

impl Bytes {
    /// Whether they are for this key. The key identifier of a key that was made elsewhere may be anything, so there it is not
    /// looked at.
    pub(super) fn fit(&self, key: &HeldKey, made_here: bool) -> Result<(), String> {
        if tbs::signature_algorithm(key.algorithm) != Some(&self.algorithm) {
            return Err(format!("what is to be signed names another algorithm than that of a {} key", key.algorithm));
        }
        match &self.authority_key {
            Some(identifier) if made_here && !identifies(identifier, &key.spki) => {
                Err("what is to be signed names another issuer's key than the one that shall sign".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The ways to make a key identifier: RFC 5280 section 4.2.1.2 (1) and (2), RFC 7093 section 2 (1) to (4).
fn identifies(identifier: &[u8], spki: &[u8]) -> bool {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
    let Some(bits) = tbs::key_bits(spki) else { return false };
    [(&SHA1_FOR_LEGACY_USE_ONLY, bits), (&SHA256, bits), (&SHA384, bits), (&SHA512, bits), (&SHA256, spki)].iter().any(
        |(algorithm, of)| {
            let hash = digest(algorithm, of);
            // In whole, or its first 160 bits.
            identifier == hash.as_ref() || hash.as_ref().get(..20) == Some(identifier)
        },
    )
}
