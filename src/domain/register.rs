//! What a private CA has made: its generations, and every certificate it signed or was about to sign.
//!
//! Whatever is not shown to be harmless counts as issued: a certificate stands in the register before its key signs it, and
//! an intent that a crash cut off stays there until it would have expired.

use core::fmt;
use std::sync::Arc;

use crate::domain::authority::RevocationReason;
use crate::domain::id::{CaId, ProfileId};
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::name::NameSet;
use crate::domain::rotation;
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{Timestamp, Validity};

/// A generation of a CA by its number, from 1 on: `mesh/1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GenerationId {
    /// Of which CA.
    pub ca: CaId,
    /// Its number; never given twice.
    pub number: u32,
}

impl GenerationId {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ca, number) = text.split_once('/')?;
        let number = number.parse().ok().filter(|n: &u32| *n > 0 && !number.starts_with(['0', '+']))?;
        Some(Self { ca: CaId::parse(ca).ok()?, number })
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ca, self.number)
    }
}

/// Where a generation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Keys and certificates are being made; nobody has seen it.
    Making,
    /// Complete: where it stands in the rotation of its CA.
    Made(rotation::Phase),
}

impl Phase {
    /// Complete, and in nobody's bundle yet.
    pub const STANDBY: Self = Self::Made(rotation::Phase::Standby);
    /// In the bundle; signs for nobody yet.
    pub const STAGED: Self = Self::Made(rotation::Phase::Staged);
    /// It signs.
    pub const SIGNING: Self = Self::Made(rotation::Phase::Signing);
    /// Out of the bundle.
    pub const RETIRED: Self = Self::Made(rotation::Phase::Retired);
    /// Its keys are gone.
    pub const DESTROYED: Self = Self::Made(rotation::Phase::Destroyed);

    /// Every phase.
    pub fn all() -> impl Iterator<Item = Self> {
        core::iter::once(Self::Making).chain(rotation::Phase::ALL.map(|(phase, _)| Self::Made(phase)))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Made(phase) => phase.as_str(),
        }
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|phase| phase.as_str() == text)
    }

    /// Whether relying parties are to trust its root.
    #[must_use]
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Made(phase) if phase.is_trusted())
    }
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaGeneration {
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when, phase by phase; made when making it began, until it is complete.
    pub times: rotation::Times,
    /// When it was rolled back: it never signs again.
    pub abandoned: Option<Timestamp>,
    /// Its trust anchor.
    pub root: Option<CaKey>,
    /// What signs leaves, below the root.
    pub issuing: Option<CaKey>,
}

impl CaGeneration {
    /// One that is about to be made.
    #[must_use]
    pub fn begun(at: Timestamp) -> Self {
        let times = rotation::Times::made(at);
        Self { phase: Phase::Making, times, abandoned: None, root: None, issuing: None }
    }

    /// Since when it stands where it stands.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        match self.phase {
            Phase::Making => self.times.made,
            Phase::Made(phase) => self.times.since(phase),
        }
    }

    /// Its keys, the root's first, as far as they are made.
    pub fn keys(&self) -> impl Iterator<Item = &CaKey> {
        [&self.root, &self.issuing].into_iter().flatten()
    }

    /// The trust anchor's certificate (DER), once it is signed.
    #[must_use]
    pub fn anchor(&self) -> Option<&Arc<[u8]>> {
        Some(&self.root.as_ref()?.certificate.as_ref()?.der)
    }

    /// When everything above a leaf is valid; `None` while it is incomplete.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        Some(self.root.as_ref()?.validity()?.intersection(&self.issuing.as_ref()?.validity()?))
    }
}

/// A key of a CA with its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaKey {
    /// SHA-256 of its SubjectPublicKeyInfo: its name in the key holder.
    pub key: Digest,
    /// Its kind.
    pub algorithm: KeyAlgorithm,
    /// Who has it.
    pub keeper: Keeper,
    /// The certificate, once it is signed.
    pub certificate: Option<CaSigned>,
    /// Its newest revocation list.
    pub list: Option<ListMade>,
}

impl CaKey {
    /// The certificate's validity.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.certificate.as_ref().map(|c| c.validity)
    }
}

/// Who has a CA's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeper {
    /// The key holder.
    Holder,
    /// A person, in a place that no network reaches.
    Offline,
    /// Nobody any more.
    Nobody,
}

impl Keeper {
    /// Every keeper with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Holder, "holder"), (Self::Offline, "offline"), (Self::Nobody, "nobody")];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(keeper, _)| *keeper == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(keeper, _)| *keeper)
    }
}

/// A CA's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaSigned {
    /// DER.
    pub der: Arc<[u8]>,
    /// The common name.
    pub common_name: Arc<str>,
    /// Its serial number in hexadecimal.
    pub serial: Arc<str>,
    /// Its validity.
    pub validity: Validity,
}

/// A revocation list that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListMade {
    /// Its number (RFC 5280 section 5.2.3).
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// When it is worth nothing any more.
    pub next_update: Timestamp,
    /// SHA-256 of its DER.
    pub digest: Digest,
}

/// A certificate that was signed, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// By which generation.
    pub generation: GenerationId,
    /// By which profile.
    pub profile: ProfileId,
    /// Host names and addresses.
    pub names: NameSet,
    /// The SPIFFE ID.
    pub spiffe: Option<SpiffeId>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest,
    /// Its validity.
    pub validity: Validity,
    /// When it was decided.
    pub at: Timestamp,
    /// SHA-256 of the certificate, once it is signed.
    pub fingerprint: Option<Digest>,
    /// Since when it is revoked, and why.
    pub revoked: Option<(Timestamp, RevocationReason)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_survives_its_text_and_bad_text_is_refused() {
        let id = GenerationId::parse("mesh.prod/12").unwrap();
        assert_eq!(id.to_string(), "mesh.prod/12");
        for bad in ["", "mesh", "mesh/", "mesh/0", "mesh/01", "mesh/+1", "mesh/-1", "mesh/1/2", "/1", "Mesh/1"] {
            assert_eq!(GenerationId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_of_phases_and_keepers_read_back() {
        assert_eq!(Phase::all().count(), 7);
        assert!(Phase::all().all(|phase| Phase::parse(phase.as_str()) == Some(phase)));
        assert!(Keeper::ALL.iter().all(|(keeper, _)| Keeper::parse(keeper.as_str()) == Some(*keeper)));
    }
}
