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
    /// Complete, and in nobody's bundle yet.
    Standby,
    /// In the bundle, so that relying parties come to trust it; it signs nothing.
    Staged,
    /// It signs.
    Signing,
    /// It signs no more; what it signed is still in use.
    Draining,
    /// Out of the bundle.
    Retired,
    /// Its keys are gone.
    Destroyed,
}

impl Phase {
    /// Every phase with its name.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Making, "making"),
        (Self::Standby, "standby"),
        (Self::Staged, "staged"),
        (Self::Signing, "signing"),
        (Self::Draining, "draining"),
        (Self::Retired, "retired"),
        (Self::Destroyed, "destroyed"),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(phase, _)| *phase == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(phase, _)| *phase)
    }

    /// Whether relying parties are to trust its root.
    #[must_use]
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Staged | Self::Signing | Self::Draining)
    }
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaGeneration {
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Its trust anchor.
    pub root: Option<CaKey>,
    /// What signs leaves, below the root.
    pub issuing: Option<CaKey>,
}

impl CaGeneration {
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
        assert!(Phase::ALL.iter().all(|(phase, _)| Phase::parse(phase.as_str()) == Some(*phase)));
        assert!(Keeper::ALL.iter().all(|(keeper, _)| Keeper::parse(keeper.as_str()) == Some(*keeper)));
    }
}
