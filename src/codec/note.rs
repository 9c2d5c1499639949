//! Signed notes (C2SP signed-note v1.0.0) with Ed25519: what a log signs its checkpoints as, and the timestamped
//! cosignatures of witnesses (C2SP tlog-cosignature, `cosignature/v1`).
//!
//! Refuses to know what the text of a note says. `signed_note` of crates.io does the same with a second crypto library;
//! decision 0007 says why it is not used.

use core::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::ParseError;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// A note is at most this long in bytes: a checkpoint has some 200, each signature of ours at most 400 more, and those of
/// others may be sixteen of the post-quantum kind with some 6 KiB each.
pub const LONGEST_NOTE: usize = 128 * 1_024;
/// At most this many signatures are looked at: 32 witnesses of a policy, two keys of a log whose key is being rotated, and
/// a few of others. The specification asks for 16 at least.
pub const MOST_SIGNATURES: usize = 40;
/// A key's name is at most this long in bytes.
const LONGEST_NAME: usize = 255;
/// What a private key's text begins with, as in Go's `golang.org/x/mod/sumdb/note`.
const PRIVATE: &str = "PRIVATE+KEY+";

/// What a key signs (the signature type byte of C2SP signed-note).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signs {
    /// The note as it is: type 0x01, a log.
    Notes,
    /// That it saw the note at a time: type 0x04, a witness.
    Sightings,
}

impl Signs {
    fn byte(self) -> u8 {
        match self {
            Self::Notes => 1,
            Self::Sightings => 4,
        }
    }
}

/// A public key with its name: `NAME+ID+KEY` ("vkey").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifierKey {
    name: String,
    signs: Signs,
    key: [u8; 32],
    id: u32,
}

impl VerifierKey {
    /// From its parts.
    ///
    /// # Errors
    /// If the name is empty, too long, or has spaces, `+` or control characters.
    pub fn new(name: &str, signs: Signs, key: [u8; 32]) -> Result<Self, ParseError> {
        check_name(name)?;
        let hash = Digest::of_parts(&[name.as_bytes(), b"\n", &[signs.byte()], &key]);
        let id = hash.0.iter().take(4).fold(0, |id: u32, byte| (id << 8) | u32::from(*byte));
        Ok(Self { name: name.to_owned(), signs, key, id })
    }

    /// Whose key it is: for a log its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn signs(&self) -> Signs {
        self.signs
    }

    /// The first four bytes of the hash over name, type and key.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The raw public key (RFC 8032), 32 bytes.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Looks for this key's signature on the note and checks it.
    ///
    /// # Errors
    /// [`NoteError::Missing`] if it has not signed, [`NoteError::Wrong`] if what stands under its name does not verify.
    pub fn verify(&self, note: &Note) -> Result<Verified, NoteError> {
        let mut own = note.signatures.iter().filter(|s| s.name == self.name && s.key_id == self.id);
        let first = own.next().ok_or_else(|| NoteError::Missing(self.name.clone()))?;
        let verified = self.check(&note.text, first)?;
        // One that holds does not make up for another under the same name that does not.
        own.try_for_each(|other| self.check(&note.text, other).map(|_| ()))?;
        Ok(verified)
    }

    /// Whether the key has signed exactly these bytes, which are no note: what is signed says by its own first line what it
    /// is.
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key).verify(bytes, signature).is_ok()
    }

    fn check(&self, text: &str, signature: &Signature) -> Result<Verified, NoteError> {
        let wrong = || NoteError::Wrong(self.name.clone());
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        match self.signs {
            Signs::Notes => {
                key.verify(text.as_bytes(), &signature.bytes).map_err(|_| wrong())?;
                Ok(Verified { at: None })
            }
            Signs::Sightings => {
                let (time, bytes) = signature.bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
                let at = i64::try_from(u64::from_be_bytes(*time)).map_err(|_| wrong())?;
                key.verify(sighting(text, at).as_bytes(), bytes).map_err(|_| wrong())?;
                Ok(Verified { at: Some(Timestamp::from_unix(at)) })
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.signs.byte()];
        bytes.extend_from_slice(&self.key);
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(bytes))
    }
}

impl FromStr for VerifierKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Parts { name, signs, key, id } = split_key(text.trim())?;
        let made = Self::new(name, signs, *key)?;
        if made.id != id {
            let text =
                format!("the key of {name} has the id {:08x}, but {id:08x} is written: a digit was lost", made.id);
            return Err(ParseError::new(text));
        }
        Ok(made)
    }
}

/// `NAME+ID+KEY` in its parts.
struct Parts<'a> {
    name: &'a str,
    signs: Signs,
    key: Zeroizing<[u8; 32]>,
    id: u32,
}

fn split_key(text: &str) -> Result<Parts<'_>, ParseError> {
    // The key itself may hold '+': the name and the id cannot.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(ParseError::new("is no key of the form NAME+ID+KEY"));
    };
    let id = Some(id).filter(|id| id.len() == 8).and_then(|id| u32::from_str_radix(id, 16).ok());
    let id = id.ok_or_else(|| ParseError::new("has an id that is not eight hexadecimal digits"))?;
    let bytes = STANDARD.decode(key).map(Zeroizing::new).map_err(|_| ParseError::new("is not base64 after the id"))?;
    let (signs, key) = match bytes.split_first() {
        Some((1, key)) => (Signs::Notes, key),
        Some((4, key)) => (Signs::Sightings, key),
        Some((other, _)) => {
            let text = format!("has the signature type {other:#04x}; known are 0x01 (a log) and 0x04 (a witness)");
            return Err(ParseError::new(text));
        }
        None => return Err(ParseError::new("has no key after the id")),
    };
    let key = <[u8; 32]>::try_from(key).map(Zeroizing::new);
    let key = key.map_err(|_| ParseError::new("has a key that is not 32 bytes long"))?;
    Ok(Parts { name, signs, key, id })
}

/// A private key with its name. Its text form is that of Go's `note` package: `PRIVATE+KEY+NAME+ID+SEED`.
pub struct SignerKey {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier.name)
    }
}

impl SignerKey {
    /// From a seed of 32 random bytes (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    /// If the name cannot be one.
    pub fn from_seed(name: &str, signs: Signs, seed: Zeroizing<[u8; 32]>) -> Result<Self, ParseError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
            .map_err(|_| ParseError::new("is no Ed25519 seed of 32 bytes"))?;
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref())
            .map_err(|_| ParseError::new("has a public key that is not 32 bytes long"))?;
        Ok(Self { verifier: VerifierKey::new(name, signs, public)?, pair, seed })
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// Says what is wrong; never holds any of the key.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let rest = text.trim().strip_prefix(PRIVATE).ok_or_else(|| ParseError::new("is no private key of a note"))?;
        let Parts { name, signs, key, id } = split_key(rest)?;
        let made = Self::from_seed(name, signs, key)?;
        if made.verifier.id == id { Ok(made) } else { Err(ParseError::new("has an id that is not its key's")) }
    }

    /// The text form, for a private file.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![self.verifier.signs.byte()]);
        bytes.extend_from_slice(self.seed.as_slice());
        let encoded = Zeroizing::new(STANDARD.encode(bytes.as_slice()));
        Zeroizing::new(format!("{PRIVATE}{}+{:08x}+{}", self.verifier.name, self.verifier.id, encoded.as_str()))
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs bytes that are no note: see [`VerifierKey::has_signed`].
    ///
    /// # Errors
    /// If the signature is not as long as one is, which cannot be.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Result<[u8; 64], ParseError> {
        let signature = self.pair.sign(bytes);
        signature.as_ref().try_into().map_err(|_| ParseError::new("gave a signature that is not 64 bytes long"))
    }

    /// Signs a note's text; a witness's key says that it saw it at `at`, a log's does not say when.
    #[must_use]
    pub fn sign(&self, text: &str, at: Timestamp) -> Signature {
        let bytes = match self.verifier.signs {
            Signs::Notes => self.pair.sign(text.as_bytes()).as_ref().to_vec(),
            Signs::Sightings => {
                let at = at.unix().max(0);
                let mut bytes = at.to_be_bytes().to_vec();
                bytes.extend_from_slice(self.pair.sign(sighting(text, at).as_bytes()).as_ref());
                bytes
            }
        };
        Signature { name: self.verifier.name.clone(), key_id: self.verifier.id, bytes }
    }
}

/// What a cosignature signs.
fn sighting(text: &str, at: i64) -> String {
    format!("cosignature/v1\ntime {at}\n{text}")
}

/// A signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whose.
    pub name: String,
    /// Which of their keys.
    pub key_id: u32,
    /// The signature, for a witness with eight bytes of time before it.
    pub bytes: Vec<u8>,
}

impl fmt::Display for Signature {
    /// With the newline at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        writeln!(f, "\u{2014} {} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for Signature {
    type Err = ParseError;

    /// One line, without the newline.
    fn from_str(line: &str) -> Result<Self, ParseError> {
        let rest = line.strip_prefix("\u{2014} ").ok_or_else(|| ParseError::new("has a line that is no signature"))?;
        let (name, encoded) =
            rest.split_once(' ').ok_or_else(|| ParseError::new("has a signature line without a signature"))?;
        check_name(name)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| ParseError::new("has a signature that is not base64"))?;
        let (id, bytes) = bytes
            .split_first_chunk::<4>()
            .filter(|(_, rest)| !rest.is_empty())
            .ok_or_else(|| ParseError::new("has a signature that is too short"))?;
        Ok(Self { name: name.to_owned(), key_id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

/// A text with signatures. What it says counts only after [`VerifierKey::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Ends with a newline.
    pub text: String,
    /// In the order in which they stand.
    pub signatures: Vec<Signature>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| signature.fmt(f))
    }
}

impl FromStr for Note {
    type Err = ParseError;

    fn from_str(note: &str) -> Result<Self, ParseError> {
        if note.len() > LONGEST_NOTE {
            return Err(ParseError::new(format!("is longer than {LONGEST_NOTE} bytes")));
        }
        if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
            return Err(ParseError::new("has control characters"));
        }
        let at = note.rfind("\n\n").ok_or_else(|| ParseError::new("has no empty line before its signatures"))?;
        let (text, rest) = note.split_at(at.saturating_add(1));
        let lines = rest.strip_prefix('\n').and_then(|l| l.strip_suffix('\n')).filter(|l| !l.is_empty());
        let lines = lines.ok_or_else(|| ParseError::new("has no signature"))?;
        if lines.split('\n').count() > MOST_SIGNATURES {
            return Err(ParseError::new(format!("has more than {MOST_SIGNATURES} signatures")));
        }
        let signatures: Result<_, _> = lines.split('\n').map(Signature::from_str).collect();
        Ok(Self { text: text.to_owned(), signatures: signatures? })
    }
}

/// What a verified signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// When a witness saw it; `None` from a log.
    pub at: Option<Timestamp>,
}

/// Why a key does not stand behind a note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// No signature of that key.
    #[error("{0} has not signed it")]
    Missing(String),
    /// A signature under its name and id that is not its own.
    #[error("the signature under the name of {0} does not verify")]
    Wrong(String),
}

fn check_name(name: &str) -> Result<(), ParseError> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(ParseError::new(format!("has a key name that is empty or longer than {LONGEST_NAME} bytes")));
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        return Err(ParseError::new("has a key name with a space, a '+' or a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(signs: Signs) -> SignerKey {
        SignerKey::from_seed("example.com/log", signs, Zeroizing::new([7; 32])).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_unix(1_790_000_000)
    }

    #[test]
    fn the_example_of_the_go_package_verifies() {
        // From the documentation of golang.org/x/mod/sumdb/note.
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key: VerifierKey = key.parse().unwrap();
        let parsed: Note = note.parse().unwrap();
        assert_eq!(key.verify(&parsed), Ok(Verified { at: None }));
        assert_eq!((parsed.to_string(), key.name()), (note.to_owned(), "PeterNeumann"));
        let bent: Note = note.replace("answer", "anzwer").parse().unwrap();
        assert_eq!(key.verify(&bent), Err(NoteError::Wrong("PeterNeumann".into())));
    }

    #[test]
    fn what_is_signed_verifies_and_every_changed_byte_shows() {
        for signs in [Signs::Notes, Signs::Sightings] {
            let signer = signer(signs);
            let text = "example.com/log\n3\nAAAA\n".to_owned();
            let note = Note { signatures: vec![signer.sign(&text, now())], text };
            let whole = note.to_string();
            let at = (signs == Signs::Sightings).then(now);
            assert_eq!(signer.verifier().verify(&whole.parse().unwrap()), Ok(Verified { at }));
            for i in 0..whole.len() {
                let mut bytes = whole.clone().into_bytes();
                bytes[i] ^= 1;
                let read = String::from_utf8(bytes).ok().and_then(|t| t.parse::<Note>().ok());
                assert!(read.is_none_or(|n| signer.verifier().verify(&n).is_err()), "byte {i}");
            }
        }
    }

    #[test]
    fn keys_read_back_and_a_key_for_notes_is_none_for_sightings() {
        let (log, witness) = (signer(Signs::Notes), signer(Signs::Sightings));
        for signer in [&log, &witness] {
            let again = SignerKey::parse(&signer.to_secret_text()).unwrap();
            assert_eq!(again.verifier(), signer.verifier());
            assert_eq!(signer.verifier().to_string().parse::<VerifierKey>().as_ref(), Ok(signer.verifier()));
        }
        assert_ne!(log.verifier().id(), witness.verifier().id());
        let text = "a\n".to_owned();
        let note = Note { signatures: vec![log.sign(&text, now())], text };
        assert_eq!(witness.verifier().verify(&note), Err(NoteError::Missing("example.com/log".into())));
    }

    #[test]
    fn a_note_with_a_good_and_a_bad_signature_of_one_key_is_refused() {
        let signer = signer(Signs::Notes);
        let good = signer.sign("a\n", now());
        let bad = signer.sign("b\n", now());
        for signatures in [vec![good.clone(), bad.clone()], vec![bad, good]] {
            let note = Note { text: "a\n".into(), signatures };
            assert_eq!(signer.verifier().verify(&note), Err(NoteError::Wrong("example.com/log".into())));
        }
    }

    #[test]
    fn bad_notes_and_keys_are_refused_with_a_reason() {
        let line = signer(Signs::Notes).sign("a\n", now()).to_string();
        for bad in [
            "",
            "a\n",
            "a\n\n",
            "a\n\n\n",
            &format!("a\n{line}"),
            &format!("a\n\n{}", line.trim_end()),
            &format!("a\tb\n\n{line}"),
            &format!("a\n\n{}", line.repeat(MOST_SIGNATURES + 1)),
            &format!("{}\n\n{line}", "a".repeat(LONGEST_NOTE)),
            "a\n\n\u{2014} x AAAA\n",
            "a\n\n\u{2014} x+y AAAAAAA=\n",
            "a\n\n- x AAAAAAA=\n",
        ] {
            assert!(bad.parse::<Note>().is_err(), "{bad:?}");
        }
        let key = signer(Signs::Notes).verifier().to_string();
        for bad in
            ["", "a+b", &key.replace("log", "lag"), &key[..key.len() - 4], &format!("{key}AAAA"), "x+00000000+Ag=="]
        {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad:?}");
        }
        assert!(SignerKey::parse(&key).is_err());
    }
}
