//! Private CAs as JSON.

use serde::{Deserialize, Serialize};

use crate::domain::register::ListMade;
use crate::engine::authority::{CaStatus, GenerationStatus, KeyStatus, Standing};

/// All private CAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cas {
    /// When this was.
    pub at: String,
    /// When their controller last went round; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_round: Option<String>,
    /// The process that has the keys.
    pub keyholder: Keyholder,
    /// The CAs.
    pub cas: Vec<Ca>,
}

/// The process that has the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyholder {
    /// Whether it answers.
    pub reachable: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Its process id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<u32>,
    /// How many operations it carried out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operations: Option<u64>,
    /// What confines it.
    #[serde(default)]
    pub confinement: Vec<String>,
}

/// What a root that is outside signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Certificates and lists.
    pub pem: String,
}

/// A CA that was made elsewhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// Root, issuing CA, and their revocation lists.
    pub pem: String,
    /// PKCS#8 as PEM.
    pub issuing_key: String,
    /// The same; the root stays outside without it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root_key: Option<String>,
    /// So many certificates are known to be revoked, and are to be forgotten.
    #[serde(default)]
    pub forget_revoked: usize,
}

impl core::fmt::Debug for Import {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Import")
    }
}

/// One CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ca {
    /// Its id.
    pub id: String,
    /// Digest of the bundle that relying parties are to trust; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bundle: Option<String>,
    /// Counts the changes of the bundle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bundle_version: Option<u64>,
    /// Its generations, the oldest first.
    pub generations: Vec<Generation>,
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its id, for example `mesh/1`.
    pub id: String,
    /// Where it is in its life.
    pub phase: String,
    /// Since when.
    pub since: String,
    /// The trust anchor.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root: Option<Key>,
    /// What signs leaves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuing: Option<Key>,
    /// Leaves that have not expired.
    pub leaves: usize,
    /// How many of them are revoked.
    pub revoked: usize,
    /// When the last of them ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_leaf_ends: Option<String>,
}

/// A CA's key with its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_sha256: String,
    /// Its kind.
    pub algorithm: String,
    /// Who has it.
    pub keeper: String,
    /// The certificate's common name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub common_name: Option<String>,
    /// The certificate's end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_after: Option<String>,
    /// Its newest revocation list.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crl: Option<Crl>,
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crl {
    /// Its number.
    pub number: u64,
    /// When it is worth nothing any more.
    pub next_update: String,
    /// SHA-256 of it.
    pub sha256: String,
}

/// Asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// By which profile.
    pub profile: String,
    /// The request, PEM (RFC 2986): its public key and its names are taken, nothing else.
    pub csr: String,
    /// A life shorter than the profile's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lifetime_seconds: Option<u64>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The leaf and the issuing CA, PEM.
    pub chain: String,
    /// By which generation.
    pub generation: String,
    /// Its serial number.
    pub serial: String,
    /// Its end.
    pub not_after: String,
    /// SHA-256 of it.
    pub sha256: String,
}

/// Revokes: a certificate by its serial number, or a key with everything that was issued for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The serial number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<String>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spki_sha256: Option<String>,
    /// Why, for a serial number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Serial numbers.
    pub serials: Vec<String>,
}

/// A CA that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its generation.
    pub generation: String,
    /// The bundle, PEM.
    pub bundle: String,
    /// Counts the changes of the bundle.
    pub version: u64,
    /// Digest of the bundle.
    pub digest: String,
}

impl From<&Standing> for Cas {
    fn from(s: &Standing) -> Self {
        let holder = s.holder.as_ref();
        Self {
            at: s.at.to_string(),
            last_round: s.beat.map(|at| at.to_string()),
            keyholder: Keyholder {
                reachable: holder.is_ok(),
                problem: holder.err().cloned(),
                process: holder.ok().map(|h| h.process),
                operations: holder.ok().map(|h| h.operations),
                confinement: holder.map_or(Vec::new(), |h| h.confinement.clone()),
            },
            cas: s.cas.iter().map(Ca::from).collect(),
        }
    }
}

impl From<&CaStatus> for Ca {
    fn from(ca: &CaStatus) -> Self {
        Self {
            id: ca.id.to_string(),
            bundle: ca.bundle.map(|(_, digest)| digest.to_string()),
            bundle_version: ca.bundle.map(|(version, _)| version),
            generations: ca.generations.iter().map(Generation::from).collect(),
        }
    }
}

impl From<&GenerationStatus> for Generation {
    fn from(g: &GenerationStatus) -> Self {
        Self {
            id: g.id.to_string(),
            phase: g.phase.as_str().to_owned(),
            since: g.since.to_string(),
            root: g.root.as_ref().map(Key::from),
            issuing: g.issuing.as_ref().map(Key::from),
            leaves: g.leaves,
            revoked: g.revoked,
            last_leaf_ends: g.last_leaf_ends.map(|at| at.to_string()),
        }
    }
}

impl From<&KeyStatus> for Key {
    fn from(k: &KeyStatus) -> Self {
        let crl = |list: &ListMade| Crl {
            number: list.number,
            next_update: list.next_update.to_string(),
            sha256: list.digest.to_string(),
        };
        Self {
            spki_sha256: k.key.key.to_string(),
            algorithm: k.key.algorithm.to_string(),
            keeper: k.key.keeper.as_str().to_owned(),
            common_name: k.name.as_ref().map(ToString::to_string),
            not_after: k.validity.map(|v| v.not_after.to_string()),
            crl: k.key.list.as_ref().map(crl),
        }
    }
}
