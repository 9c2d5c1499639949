//! What is said on the key holder's socket: one frame a request, one an answer.
//!
//! A frame is its length in four bytes, then the version, the kind, and the fields of that kind in a fixed order: numbers
//! big endian, texts and bytes with four bytes of length before them. Nothing may be left over. No JSON: a private key that
//! is imported goes through here, and passes through no buffer that is not wiped.

use zeroize::Zeroizing;

use super::ParseError;
use super::note::LONGEST_NOTE;
use super::tbs::LARGEST_LIST;
use crate::domain::audit::LONGEST_ENTRY;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::tree::LONGEST_PROOF;

/// The version of the protocol; both sides are one program, so there is one at a time.
pub const VERSION: u8 = 1;
/// A label has at most so many bytes.
pub const LONGEST_LABEL: usize = 128;
/// A private key that is imported (PKCS#8): a P-384 key has some 190 bytes.
pub const LONGEST_KEY: usize = 4_096;
/// A request: a revocation list with its warrant.
pub const LARGEST_REQUEST: usize = LARGEST_LIST + LONGEST_NOTE + LONGEST_ENTRY + LONGEST_PROOF * 32 + 4_096;
/// An answer: 1,000 records of at most [`super::holder_log::LONGEST_LINE`] bytes, cut to what fits.
pub const LARGEST_ANSWER: usize = 4 << 20;
/// Keys in one answer.
pub const MOST_KEYS: usize = 1_024;

/// What allows an operation, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The entry's place in the log.
    pub sequence: u64,
    /// The entry's bytes.
    pub entry: &'a [u8],
    /// The hashes beside its way to the root, one after the other.
    pub path: &'a [u8],
    /// The checkpoint.
    pub note: &'a str,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// How it is.
    Status,
    /// Its keys.
    Keys,
    /// Its records from a number on.
    Records(u64),
    /// A new key.
    Generate(KeyAlgorithm, &'a str, Proof<'a>),
    /// A key (PKCS#8) to take over, with its label.
    Import(&'a [u8], &'a str, Proof<'a>),
    /// A signature: with which key, the name of the kind, the bytes.
    Sign(Digest, &'a str, &'a [u8], Proof<'a>),
    /// The end of a key.
    Destroy(Digest, Proof<'a>),
}

/// A key, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// What it is for.
    pub label: String,
    /// How many signatures it made.
    pub signatures: u64,
}

/// How the holder is, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// Operations of all its lives.
    pub operations: u64,
    /// Size of the newest log that it believed.
    pub log_size: u64,
    /// What confines it.
    pub confinement: Vec<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Keys`].
    Keys(Vec<Key>),
    /// To [`Request::Records`]: consecutive lines.
    Records(Vec<(u64, String)>),
    /// To [`Request::Generate`] and [`Request::Import`].
    Key(Key),
    /// To [`Request::Sign`].
    Signature(Vec<u8>),
    /// To [`Request::Destroy`].
    Destroyed,
    /// It will not, for this reason.
    Refused(String),
    /// It could not now; whether it did is unknown.
    Failed(String),
}

impl core::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Status => "Status",
            Self::Keys => "Keys",
            Self::Records(_) => "Records",
            Self::Generate(..) => "Generate",
            Self::Import(..) => "Import",
            Self::Sign(..) => "Sign",
            Self::Destroy(..) => "Destroy",
        })
    }
}

impl<'a> Request<'a> {
    /// The frame without its length.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Out::with_room(self.size());
        match self {
            Self::Status => out.kind(1),
            Self::Keys => out.kind(2),
            Self::Records(from) => {
                out.kind(3);
                out.number(*from);
            }
            Self::Generate(algorithm, label, proof) => {
                out.kind(4);
                out.bytes(algorithm.as_str().as_bytes());
                out.bytes(label.as_bytes());
                out.proof(proof);
            }
            Self::Import(key, label, proof) => {
                out.kind(5);
                out.bytes(key);
                out.bytes(label.as_bytes());
                out.proof(proof);
            }
            Self::Sign(key, kind, tbs, proof) => {
                out.kind(6);
                out.0.extend_from_slice(&key.0);
                out.bytes(kind.as_bytes());
                out.bytes(tbs);
                out.proof(proof);
            }
            Self::Destroy(key, proof) => {
                out.kind(7);
                out.0.extend_from_slice(&key.0);
                out.proof(proof);
            }
        }
        out.0
    }

    /// Reads a frame without its length.
    ///
    /// # Errors
    /// What is not as [`Self::encode`] writes it.
    pub fn decode(frame: &'a [u8]) -> Result<Self, ParseError> {
        let mut read = In(frame);
        match read.byte() {
            Some(VERSION) => {}
            other => return Err(other_version(other)),
        }
        read.request().filter(|_| read.0.is_empty()).ok_or_else(|| ParseError::new("is no request of this protocol"))
    }

    /// At least as long as the frame will be, so that no buffer has to grow: one that grows leaves a copy behind.
    fn size(&self) -> usize {
        let proof = |p: &Proof<'_>| p.entry.len().saturating_add(p.path.len()).saturating_add(p.note.len());
        let fields = match self {
            Self::Status | Self::Keys | Self::Records(_) => 0,
            Self::Generate(_, label, p) => label.len().saturating_add(proof(p)),
            Self::Import(key, label, p) => key.len().saturating_add(label.len()).saturating_add(proof(p)),
            Self::Sign(_, kind, tbs, p) => kind.len().saturating_add(tbs.len()).saturating_add(proof(p)),
            Self::Destroy(_, p) => proof(p),
        };
        fields.saturating_add(128)
    }
}

impl Answer {
    /// The frame without its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Out::with_room(256);
        match self {
            Self::Status(status) => {
                out.kind(1);
                out.bytes(status.version.as_bytes());
                out.number(u64::from(status.process));
                out.number(status.operations);
                out.number(status.log_size);
                out.count(status.confinement.len());
                status.confinement.iter().for_each(|line| out.bytes(line.as_bytes()));
            }
            Self::Keys(keys) => {
                out.kind(2);
                out.count(keys.len());
                keys.iter().for_each(|key| out.key(key));
            }
            Self::Records(records) => {
                out.kind(3);
                out.count(records.len());
                for (number, line) in records {
                    out.number(*number);
                    out.bytes(line.as_bytes());
                }
            }
            Self::Key(key) => {
                out.kind(4);
                out.key(key);
            }
            Self::Signature(bytes) => {
                out.kind(5);
                out.bytes(bytes);
            }
            Self::Destroyed => out.kind(6),
            Self::Refused(why) => {
                out.kind(7);
                out.bytes(why.as_bytes());
            }
            Self::Failed(why) => {
                out.kind(8);
                out.bytes(why.as_bytes());
            }
        }
        core::mem::take(&mut *out.0)
    }

    /// Reads a frame without its length.
    ///
    /// # Errors
    /// What is not as [`Self::encode`] writes it.
    pub fn decode(frame: &[u8]) -> Result<Self, ParseError> {
        let mut read = In(frame);
        match read.byte() {
            Some(VERSION) => {}
            other => return Err(other_version(other)),
        }
        read.answer().filter(|_| read.0.is_empty()).ok_or_else(|| ParseError::new("is no answer of this protocol"))
    }
}

fn other_version(found: Option<u8>) -> ParseError {
    let found = found.map_or_else(|| "nothing".to_owned(), |v| format!("version {v}"));
    ParseError(format!("speaks {found} of the key holder's protocol, expected {VERSION}: restart both as one version"))
}

struct Out(Zeroizing<Vec<u8>>);

impl Out {
    fn with_room(size: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(size)))
    }

    fn kind(&mut self, kind: u8) {
        self.0.extend_from_slice(&[VERSION, kind]);
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn proof(&mut self, proof: &Proof<'_>) {
        self.number(proof.sequence);
        self.bytes(proof.entry);
        self.bytes(proof.path);
        self.bytes(proof.note.as_bytes());
    }

    fn key(&mut self, key: &Key) {
        self.bytes(&key.spki);
        self.bytes(key.algorithm.as_str().as_bytes());
        self.bytes(key.label.as_bytes());
        self.number(key.signatures);
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(*self.take(8)?.first_chunk()?))
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        let count = u32::from_be_bytes(*self.take(4)?.first_chunk()?);
        usize::try_from(count).ok().filter(|count| *count <= most)
    }

    fn bytes(&mut self, most: usize) -> Option<&'a [u8]> {
        let count = self.count(most)?;
        self.take(count)
    }

    fn text(&mut self, most: usize) -> Option<&'a str> {
        core::str::from_utf8(self.bytes(most)?).ok()
    }

    fn digest(&mut self) -> Option<Digest> {
        self.take(32)?.first_chunk().copied().map(Digest)
    }

    fn algorithm(&mut self) -> Option<KeyAlgorithm> {
        KeyAlgorithm::parse(self.text(16)?)
    }

    fn proof(&mut self) -> Option<Proof<'a>> {
        Some(Proof {
            sequence: self.number()?,
            entry: self.bytes(LONGEST_ENTRY)?,
            path: self.bytes(LONGEST_PROOF.checked_mul(32)?).filter(|path| path.len().is_multiple_of(32))?,
            note: self.text(LONGEST_NOTE)?,
        })
    }

    fn request(&mut self) -> Option<Request<'a>> {
        Some(match self.byte()? {
            1 => Request::Status,
            2 => Request::Keys,
            3 => Request::Records(self.number()?),
            4 => Request::Generate(self.algorithm()?, self.text(LONGEST_LABEL)?, self.proof()?),
            5 => Request::Import(self.bytes(LONGEST_KEY)?, self.text(LONGEST_LABEL)?, self.proof()?),
            6 => Request::Sign(self.digest()?, self.text(16)?, self.bytes(LARGEST_LIST)?, self.proof()?),
            7 => Request::Destroy(self.digest()?, self.proof()?),
            _ => return None,
        })
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key {
            spki: self.bytes(LONGEST_KEY)?.to_vec(),
            algorithm: self.algorithm()?,
            label: self.text(LONGEST_LABEL)?.to_owned(),
            signatures: self.number()?,
        })
    }

    fn answer(&mut self) -> Option<Answer> {
        Some(match self.byte()? {
            1 => Answer::Status(Status {
                version: self.text(64)?.to_owned(),
                process: u32::try_from(self.number()?).ok()?,
                operations: self.number()?,
                log_size: self.number()?,
                confinement: self.many(64, |read| read.text(256).map(str::to_owned))?,
            }),
            2 => Answer::Keys(self.many(MOST_KEYS, Self::key)?),
            3 => {
                Answer::Records(self.many(1_000, |read| {
                    Some((read.number()?, read.text(super::holder_log::LONGEST_LINE)?.to_owned()))
                })?)
            }
            4 => Answer::Key(self.key()?),
            5 => Answer::Signature(self.bytes(LONGEST_KEY)?.to_vec()),
            6 => Answer::Destroyed,
            7 => Answer::Refused(self.text(8_192)?.to_owned()),
            8 => Answer::Failed(self.text(8_192)?.to_owned()),
            _ => return None,
        })
    }

    fn many<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count(most)?;
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proof() -> Proof<'static> {
        Proof { sequence: 7, entry: b"{}", path: &[9; 64], note: "a\n1\n" }
    }

    fn requests() -> Vec<Request<'static>> {
        let key = Digest::of(b"key");
        vec![
            Request::Status,
            Request::Keys,
            Request::Records(u64::MAX),
            Request::Generate(KeyAlgorithm::P384, "root 1", proof()),
            Request::Import(b"pkcs8", "root 2", proof()),
            Request::Sign(key, "leaf", b"tbs", proof()),
            Request::Destroy(key, proof()),
        ]
    }

    fn answers() -> Vec<Answer> {
        let key = Key { spki: vec![1; 91], algorithm: KeyAlgorithm::P256, label: "x".into(), signatures: 3 };
        let confinement = vec!["landlock".to_owned(), "seccomp".to_owned()];
        vec![
            Answer::Status(Status { version: "1".into(), process: 7, operations: 9, log_size: 11, confinement }),
            Answer::Keys(vec![key.clone(), key.clone()]),
            Answer::Records(vec![(0, "{}".into()), (1, "{}".into())]),
            Answer::Key(key),
            Answer::Signature(vec![5; 70]),
            Answer::Destroyed,
            Answer::Refused("no".into()),
            Answer::Failed("disk".into()),
        ]
    }

    #[test]
    fn what_is_written_reads_back_and_no_part_of_it_does() {
        for request in requests() {
            let frame = request.encode();
            assert_eq!(Request::decode(&frame), Ok(request));
            assert!(frame.len() <= request.size(), "{request:?}: a buffer that grows leaves a copy of a key behind");
            (0..frame.len()).for_each(|end| assert!(Request::decode(&frame[..end]).is_err(), "{request:?} to {end}"));
            let longer = [&frame, &[0][..]].concat();
            assert!(Request::decode(&longer).is_err(), "{request:?}");
        }
        for answer in answers() {
            let frame = answer.encode();
            (0..frame.len()).for_each(|end| assert!(Answer::decode(&frame[..end]).is_err(), "{answer:?} to {end}"));
            assert_eq!(Answer::decode(&frame), Ok(answer));
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut frame = Request::Status.encode().to_vec();
        frame[0] = 9;
        assert!(Request::decode(&frame).unwrap_err().to_string().contains("speaks version 9"));
        assert!(Request::decode(&[]).unwrap_err().to_string().contains("speaks nothing"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_two_ways(bytes in any::<Vec<u8>>(), which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            drop(Request::decode(&bytes));
            drop(Answer::decode(&bytes));
            let all = requests();
            let mut frame = all[which.index(all.len())].encode();
            let at = at.index(frame.len());
            frame[at] ^= flip;
            if let Ok(read) = Request::decode(&frame) {
                prop_assert_eq!(&*read.encode(), &*frame);
            }
        }
    }
}
