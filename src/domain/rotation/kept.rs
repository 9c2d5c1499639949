//! What is known about a rotation as it is kept: one row for each piece, so that whoever finds something out writes that and
//! nothing else.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Breakage, Canary, Order, Phase, SignOff};
use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::key::Digest;
use crate::domain::time::{Timestamp, Validity};

/// One piece: `mesh/acknowledged/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceId {
    /// Of which CA.
    pub ca: CaId,
    /// What it is about.
    pub on: PieceOn,
}

/// What a piece is about, and which members of [`Piece`] it has beside `at`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceOn {
    /// The bundle as it should be: `version`; written with the step that changes it.
    Bundle,
    /// The bundle as it went out: `version`, `digest`.
    Published,
    /// What a party trusts, as it says: `version`, `digest`, `by`.
    Acknowledged(RelyingPartyId),
    /// The last canary of a generation at a party: `detail` is `accepted` or `refused`, `why` in words.
    Canary(RelyingPartyId, u32),
    /// A party dropped the sessions of a generation.
    Dropped(RelyingPartyId, u32),
    /// A CA certificate is to be in its issuer's list: `detail` is the reason.
    Revoked(Digest),
    /// Somebody wants a rotation: `by`, `why`.
    Asked,
    /// Somebody wants a generation rolled back: `by`, `why`.
    Rollback(u32),
    /// Somebody said that a key of a generation is in other hands: `by`, `why`.
    Compromised(u32),
    /// Somebody saw what breaks when this generation takes over: `by`, `detail` is what was shown.
    SignedOff(u32),
    /// Somebody wants nothing trusted any more: `by`.
    Distrust,
    /// The root of the first, certified by that of the second: `der`, `digest`, `detail` is serial number and validity.
    Cross(u32, u32),
}

impl PieceId {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let ca = CaId::parse(parts.next()?).ok()?;
        let kind = parts.next()?;
        let mut party = || RelyingPartyId::parse(parts.next()?).ok();
        let on = match kind {
            "bundle" => PieceOn::Bundle,
            "published" => PieceOn::Published,
            "acknowledged" => PieceOn::Acknowledged(party()?),
            "canary" => PieceOn::Canary(party()?, number(parts.next()?)?),
            "dropped" => PieceOn::Dropped(party()?, number(parts.next()?)?),
            "revoked" => PieceOn::Revoked(Digest::parse(parts.next()?)?),
            "asked" => PieceOn::Asked,
            "rollback" => PieceOn::Rollback(number(parts.next()?)?),
            "compromised" => PieceOn::Compromised(number(parts.next()?)?),
            "signed-off" => PieceOn::SignedOff(number(parts.next()?)?),
            "distrust" => PieceOn::Distrust,
            "cross" => PieceOn::Cross(number(parts.next()?)?, number(parts.next()?)?),
            _ => return None,
        };
        parts.next().is_none().then_some(Self { ca, on })
    }
}

/// One number has one text.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n: &u32| n.to_string() == text)
}

impl fmt::Display for PieceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.ca)?;
        match &self.on {
            PieceOn::Bundle => f.write_str("bundle"),
            PieceOn::Published => f.write_str("published"),
            PieceOn::Acknowledged(party) => write!(f, "acknowledged/{party}"),
            PieceOn::Canary(party, n) => write!(f, "canary/{party}/{n}"),
            PieceOn::Dropped(party, n) => write!(f, "dropped/{party}/{n}"),
            PieceOn::Revoked(certificate) => write!(f, "revoked/{certificate}"),
            PieceOn::Asked => f.write_str("asked"),
            PieceOn::Rollback(n) => write!(f, "rollback/{n}"),
            PieceOn::Compromised(n) => write!(f, "compromised/{n}"),
            PieceOn::SignedOff(n) => write!(f, "signed-off/{n}"),
            PieceOn::Distrust => f.write_str("distrust"),
            PieceOn::Cross(subject, issuer) => write!(f, "cross/{subject}/{issuer}"),
        }
    }
}

/// What is known. One that lacks a member which its kind has counts as not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// When.
    pub at: Timestamp,
    /// Who: a person's pseudonym, or a relying party's id.
    pub by: Option<Arc<str>>,
    /// In their words.
    pub why: Option<Arc<str>>,
    /// Of a bundle; the number of the generation that an order to rotate is to have followed.
    pub version: Option<u64>,
    /// Of a bundle, or of a certificate.
    pub digest: Option<Digest>,
    /// One word or a few, for machines.
    pub detail: Option<Arc<str>>,
    /// A certificate (DER).
    pub der: Option<Arc<[u8]>>,
}

impl Piece {
    /// Nothing but the time.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self { at, by: None, why: None, version: None, digest: None, detail: None, der: None }
    }

    /// What a person ordered.
    #[must_use]
    pub fn order(&self) -> Option<Order> {
        let about = self.version.and_then(|version| u32::try_from(version).ok());
        Some(Order { by: self.by.clone()?, at: self.at, why: self.why.clone().unwrap_or_default(), about })
    }

    /// What became of a canary.
    #[must_use]
    pub fn canary(&self) -> Option<Canary> {
        match self.detail.as_deref()? {
            ACCEPTED => Some(Canary::Accepted(self.at)),
            REFUSED => Some(Canary::Refused(self.at)),
            _ => None,
        }
    }

    /// Who signed off what.
    #[must_use]
    pub fn signed_off(&self) -> Option<SignOff> {
        let shown = Breakage::read(self.detail.as_deref()?)?;
        Some(SignOff { by: self.by.clone()?, at: self.at, shown })
    }

    /// A cross-signature: its validity, and its serial number in hexadecimal.
    #[must_use]
    pub fn cross(&self) -> Option<(Validity, &str)> {
        let mut words = self.detail.as_deref()?.split(' ');
        let serial = words.next()?;
        let mut time = || words.next()?.parse().ok().map(Timestamp::from_unix);
        Some((Validity { not_before: time()?, not_after: time()? }, serial))
    }

    /// The detail of a cross-signature.
    #[must_use]
    pub fn of_cross(validity: Validity, serial: &str) -> Arc<str> {
        Arc::from(format!("{serial} {} {}", validity.not_before.unix(), validity.not_after.unix()))
    }
}

/// The detail of a canary that was let in.
pub const ACCEPTED: &str = "accepted";
/// The detail of one that was not.
pub const REFUSED: &str = "refused";

impl Breakage {
    /// As one line for machines; [`Self::read`] is its mirror.
    #[must_use]
    pub fn line(&self) -> String {
        let numbers = |set: &BTreeSet<u32>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let parties: Vec<&str> = self.parties.iter().map(RelyingPartyId::as_str).collect();
        format!(
            "{} replaces={} parties={} leaves={} until={} uncounted={}",
            self.replacement,
            numbers(&self.generations),
            parties.join(","),
            self.leaves,
            self.until.map(|at| at.unix().to_string()).unwrap_or_default(),
            numbers(&self.uncounted)
        )
    }

    /// Out of such a line.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let (replacement, rest) = line.split_once(' ')?;
        let mut fields = BTreeMap::new();
        for word in rest.split(' ') {
            let (name, value) = word.split_once('=')?;
            fields.insert(name, value);
        }
        let words = |name| Some(fields.get(name)?.split(',').filter(|w| !w.is_empty()));
        let numbers = |name| words(name)?.map(number).collect::<Option<BTreeSet<u32>>>();
        let until = fields.get("until")?;
        Some(Self {
            replacement: number(replacement)?,
            generations: numbers("replaces")?,
            parties: words("parties")?.map(|p| RelyingPartyId::parse(p).ok()).collect::<Option<_>>()?,
            leaves: fields.get("leaves")?.parse().ok()?,
            until: if until.is_empty() { None } else { Some(Timestamp::from_unix(until.parse().ok()?)) },
            uncounted: numbers("uncounted")?,
        })
    }
}

/// Whether a piece says nothing any more once this generation is destroyed.
#[must_use]
pub fn is_over(on: &PieceOn, destroyed: u32) -> bool {
    match on {
        PieceOn::Canary(_, n) | PieceOn::Dropped(_, n) | PieceOn::SignedOff(n) => *n == destroyed,
        PieceOn::Bundle
        | PieceOn::Published
        | PieceOn::Acknowledged(_)
        | PieceOn::Revoked(_)
        | PieceOn::Asked
        | PieceOn::Rollback(_)
        | PieceOn::Compromised(_)
        | PieceOn::Distrust
        | PieceOn::Cross(..) => false,
    }
}

impl super::Times {
    /// When this phase began, as far as that is known.
    #[must_use]
    pub fn since(&self, phase: Phase) -> Timestamp {
        let at = match phase {
            Phase::Standby => Some(self.made),
            Phase::Staged => self.staged,
            Phase::Signing => self.signing,
            Phase::Draining => self.draining,
            Phase::Retired => self.retired,
            Phase::Destroyed => self.destroyed,
        };
        at.unwrap_or(self.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pieces_name_reads_back_and_bad_names_are_refused() {
        let digest = Digest([7; 32]);
        let party = || RelyingPartyId::parse("web").unwrap();
        for on in [
            PieceOn::Bundle,
            PieceOn::Published,
            PieceOn::Acknowledged(party()),
            PieceOn::Canary(party(), 2),
            PieceOn::Dropped(party(), 2),
            PieceOn::Revoked(digest),
            PieceOn::Asked,
            PieceOn::Rollback(1),
            PieceOn::Compromised(1),
            PieceOn::SignedOff(3),
            PieceOn::Distrust,
            PieceOn::Cross(2, 1),
        ] {
            let id = PieceId { ca: CaId::parse("mesh").unwrap(), on };
            assert_eq!(PieceId::parse(&id.to_string()), Some(id));
        }
        for bad in ["", "mesh", "mesh/", "mesh/cross/1", "mesh/cross/1/2/3", "mesh/rollback/01", "Mesh/asked", "mesh/x"]
        {
            assert_eq!(PieceId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_breaks_reads_back_as_it_was_shown() {
        let full = Breakage {
            replacement: 3,
            generations: BTreeSet::from([1, 2]),
            parties: BTreeSet::from([RelyingPartyId::parse("web").unwrap()]),
            leaves: 12,
            until: Some(Timestamp::from_unix(-5)),
            uncounted: BTreeSet::from([2]),
        };
        let none = Breakage { until: None, parties: BTreeSet::new(), uncounted: BTreeSet::new(), ..full.clone() };
        for breaks in [full, none] {
            assert_eq!(Breakage::read(&breaks.line()), Some(breaks));
        }
        assert_eq!(Breakage::read("3 replaces=1"), None);
    }
}
