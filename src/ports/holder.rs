//! The door to the keys of private CAs: a process of its own holds them.

use std::sync::Arc;

use super::{Doing, Inclusion, PrivateKey};
use crate::domain::key::{Digest, KeyAlgorithm};

/// What allows one operation of the key holder: the audit entry that announces it, with the proof that this entry stands in
/// the log that the holder knows. The holder believes nothing else: it checks the checkpoint's signature, that the log only
/// grows, the proof, and that the entry names exactly this operation (`data.action` = `ca.key`, `data.phase` = `intent`,
/// and in `data.facts` the members of [`Operation::facts`]). An entry allows one operation, once; asked again, the holder
/// gives the same answer again, so that a crash between intent and outcome never signs a second time.
pub type Warrant = Inclusion;

/// What may be asked of the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes a key.
    Generate {
        /// Of which kind.
        algorithm: KeyAlgorithm,
        /// For people: which CA and generation it is for; 1 to 128 printable ASCII characters.
        label: Arc<str>,
    },
    /// Takes a key over (PKCS#8); it is named by the SHA-256 of its public half.
    Import {
        /// SHA-256 of its SubjectPublicKeyInfo.
        key: Digest,
        /// As for [`Self::Generate`].
        label: Arc<str>,
    },
    /// Signs.
    Sign {
        /// With which key: SHA-256 of its SubjectPublicKeyInfo.
        key: Digest,
        /// What: the holder reads it, and refuses what is not of this kind.
        kind: ToBeSigned,
        /// SHA-256 of the bytes that are to be signed.
        tbs: Digest,
    },
    /// Destroys a key for good.
    Destroy {
        /// Which.
        key: Digest,
    },
}

/// What is signed (RFC 5280): bytes of one kind can never pass for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToBeSigned {
    /// TBSCertificate of an end entity.
    Leaf,
    /// TBSCertificate of a CA: a root, an intermediate, a cross certificate.
    Ca,
    /// TBSCertList.
    RevocationList,
}

impl ToBeSigned {
    /// Every kind with its name.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Leaf, "leaf"), (Self::Ca, "ca"), (Self::RevocationList, "crl")];

    /// Its name in entries and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }
}

impl Operation {
    /// The members of `data.facts` that name this operation, all of them texts, in the order of their names: `algorithm`
    /// ([`KeyAlgorithm::as_str`]), `key` and `tbs` (64 hexadecimal digits), `kind`, `label`, `operation`.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Generate { algorithm, label } => vec![
                ("algorithm", algorithm.as_str().to_owned()),
                ("label", label.to_string()),
                ("operation", "generate".to_owned()),
            ],
            Self::Import { key, label } => {
                vec![("key", key.to_string()), ("label", label.to_string()), ("operation", "import".to_owned())]
            }
            Self::Sign { key, kind, tbs } => vec![
                ("key", key.to_string()),
                ("kind", kind.as_str().to_owned()),
                ("operation", "sign".to_owned()),
                ("tbs", tbs.to_string()),
            ],
            Self::Destroy { key } => vec![("key", key.to_string()), ("operation", "destroy".to_owned())],
        }
    }
}

/// A key in the holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    /// Its SubjectPublicKeyInfo (DER).
    pub spki: Arc<[u8]>,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// What it is for.
    pub label: Arc<str>,
    /// How many signatures it made.
    pub signatures: u64,
}

/// How the holder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderStatus {
    /// Its version.
    pub version: String,
    /// Its process id, as it says.
    pub process: u32,
    /// How many operations it carried out, over all its lives.
    pub operations: u64,
    /// Size of the log in the newest checkpoint that it believed.
    pub log_size: u64,
    /// What confines it, for people: `landlock`, `seccomp`, `memory locked`, …
    pub confinement: Vec<String>,
}

/// One operation as the holder recorded it itself, chained by hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderRecord {
    /// Its place, from 0.
    pub number: u64,
    /// One line of JSON: number, time, operation with its facts, sequence of the entry that allowed it, SHA-256 of the line
    /// before.
    pub line: String,
}

/// Why the holder did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HolderError {
    /// It cannot be reached, or broke off: whether it did is unknown; ask again with the same warrant.
    #[error("the key holder cannot be reached: {0}")]
    Unavailable(String),
    /// It refuses, and will refuse again.
    #[error("the key holder refuses: {0}")]
    Refused(String),
}

/// The keys of private CAs. Every operation is durable on return, in the holder's own log too. Calls may run at once.
/// Nothing is retried inside but connecting.
pub trait KeyHolder: Send + Sync {
    /// How it is.
    fn status(&self) -> Doing<'_, Result<HolderStatus, HolderError>>;
    /// The keys that it has, by label.
    fn keys(&self) -> Doing<'_, Result<Vec<HeldKey>, HolderError>>;
    /// Carries out [`Operation::Generate`]; gives the public key.
    fn generate<'a>(
        &'a self,
        algorithm: KeyAlgorithm,
        label: &'a str,
        warrant: &'a Warrant,
    ) -> Doing<'a, Result<HeldKey, HolderError>>;
    /// Carries out [`Operation::Import`].
    fn import<'a>(
        &'a self,
        key: &'a PrivateKey,
        label: &'a str,
        warrant: &'a Warrant,
    ) -> Doing<'a, Result<HeldKey, HolderError>>;
    /// Carries out [`Operation::Sign`]: the contents of the signature's BIT STRING (ECDSA as in RFC 3279 section 2.2.3 over
    /// SHA-256 for P-256 and SHA-384 for P-384, Ed25519 as in RFC 8410).
    fn sign<'a>(
        &'a self,
        key: Digest,
        kind: ToBeSigned,
        tbs: &'a [u8],
        warrant: &'a Warrant,
    ) -> Doing<'a, Result<Vec<u8>, HolderError>>;
    /// Carries out [`Operation::Destroy`].
    fn destroy<'a>(&'a self, key: Digest, warrant: &'a Warrant) -> Doing<'a, Result<(), HolderError>>;
    /// Its own records from this number on, at most 1,000.
    fn records(&self, from: u64) -> Doing<'_, Result<Vec<HolderRecord>, HolderError>>;
}
