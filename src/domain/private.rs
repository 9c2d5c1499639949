//! Texts that an entry only commits to: free text from outside, and who somebody is.
//!
//! An entry holds SHA-256(salt ‖ text); salt and text lie beside the log and can be deleted one by one, after which
//! nobody can say or guess what the text was. A person has one salt for good, so that the commitment is a pseudonym: the
//! same in all that they do, until it is forgotten. Refuses to know where texts are kept.

use std::sync::Arc;

use crate::domain::json::{write_plain, write_string};
use crate::domain::key::Digest;

/// What stands where a text was that has been forgotten.
pub const FORGOTTEN: &str = "(forgotten)";

/// Random bytes that keep a commitment from being guessed: 128 bits.
pub type Salt = [u8; 16];

/// A text with its salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// Random, and as secret as the text.
    pub salt: Salt,
    /// The text.
    pub text: Arc<str>,
}

impl Private {
    /// SHA-256(salt ‖ text): what an entry holds.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        Digest::of_parts(&[&self.salt, self.text.as_bytes()])
    }
}

/// What the store adds to a draft when it gives it its place.
pub struct Told<'s> {
    salt: Option<&'s mut dyn FnMut() -> Salt>,
    /// The merge patch of the transaction's changes ([`crate::domain::changes`]); empty if there are none.
    pub(crate) changes: Vec<u8>,
    texts: Vec<(String, Digest, Private)>,
}

impl core::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Told({} bytes of changes, {} texts)", self.changes.len(), self.texts.len())
    }
}

impl<'s> Told<'s> {
    /// Nothing to add: for an entry without changes and private texts.
    #[must_use]
    pub fn nothing() -> Self {
        Self { salt: None, changes: Vec::new(), texts: Vec::new() }
    }

    /// With commitments for these texts of a draft; `salt` draws fresh random bytes.
    #[must_use]
    pub fn of(texts: &[(&'static str, Arc<str>)], salt: &'s mut dyn FnMut() -> Salt) -> Self {
        let mut told = Self { salt: Some(salt), ..Told::nothing() };
        for (key, text) in texts {
            told.keep(key, text);
        }
        told
    }

    /// Commits to a text under a key; what the entry commits to already keeps its commitment.
    pub(crate) fn keep(&mut self, key: &str, text: &Arc<str>) -> Digest {
        if let Some((_, commitment, _)) = self.texts.iter().find(|(_, _, known)| known.text == *text) {
            return *commitment;
        }
        let taken = |name: &str| self.texts.iter().any(|(other, ..)| other == name);
        let mut name = key.to_owned();
        let mut number = 2_u32;
        while taken(&name) {
            name = format!("{key}_{number}");
            number = number.saturating_add(1);
        }
        // Whoever told it that there is nothing has no texts.
        let salt = self.salt.as_mut().map_or([0; 16], |salt| salt());
        let private = Private { salt, text: text.clone() };
        let commitment = private.commitment();
        self.texts.push((name, commitment, private));
        commitment
    }

    /// `data.private` of the entry: an object of commitments as canonical JSON, empty if there are none.
    pub(crate) fn commitments(&self) -> Vec<u8> {
        let mut all: Vec<_> = self.texts.iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = Vec::new();
        for (name, commitment, _) in all {
            out.push(if out.is_empty() { b'{' } else { b',' });
            write_string(name, &mut out);
            out.push(b':');
            write_plain(&commitment.hex(), &mut out);
        }
        if !out.is_empty() {
            out.push(b'}');
        }
        out
    }

    /// The texts for the store to keep, each with its commitment.
    pub fn texts(&self) -> impl Iterator<Item = (&Digest, &Private)> {
        self.texts.iter().map(|(_, commitment, private)| (commitment, private))
    }
}
