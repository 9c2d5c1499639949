//! What a rotation is told: what was acknowledged, probed, counted and ordered, and by which settings it is judged.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SignOff;
use crate::domain::authority::Ca;
use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// What a step is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is known.
    pub evidence: &'a Evidence,
    /// What the configuration says.
    pub setting: &'a Setting,
    /// Now.
    pub now: Timestamp,
}

/// What the configuration says about a CA's rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Who relies on the CA's bundle.
    pub parties: BTreeMap<RelyingPartyId, Party>,
    /// The longest life of a leaf, over all profiles.
    pub leaf_lifetime: Duration,
    /// How far clocks may be apart.
    pub skew: Duration,
    /// A canary's answer counts for so long.
    pub canary_lifetime: Duration,
    /// What a rotation makes anew.
    pub renewal: Renewal,
}

impl Setting {
    /// A canary's answer counts for a day: a rotation goes on within hours of it, or asks again.
    pub const CANARY_LIFETIME: Duration = crate::domain::time::DAY;
    /// Clocks that nobody sets for weeks are minutes apart.
    pub const SKEW: Duration = crate::domain::time::MINUTE.saturating_mul(5);

    /// A CA on which nobody relies as far as the configuration says.
    #[must_use]
    pub fn usual(ca: &Ca) -> Self {
        Self {
            parties: BTreeMap::new(),
            leaf_lifetime: ca.profiles.values().map(|p| p.lifetime).max().unwrap_or_default(),
            skew: Self::SKEW,
            canary_lifetime: Self::CANARY_LIFETIME,
            renewal: Renewal::default(),
        }
    }
}

/// A relying party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Who is told when something of it is missing.
    pub owner: Arc<str>,
    /// How it shows what it trusts.
    pub shows: Shows,
}

/// How a relying party shows what it trusts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shows {
    /// It acknowledges bundles, and is probed with canaries.
    #[default]
    Both,
    /// It acknowledges bundles; it serves nothing that could be probed.
    Word,
    /// It says nothing: it lets canaries of what is new in, and refuses those of what is retired.
    Canary,
}

/// What a rotation makes anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renewal {
    /// Root and issuing CA.
    #[default]
    Both,
    /// The issuing CA only, below the root that is there, while that has enough of its life left.
    Issuing,
}

/// What is known about the world. All of it is kept durably by whoever finds it out; nothing in it decides by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The newest bundle that was published.
    pub published: Option<Published>,
    /// What each party says last that it trusts.
    pub acknowledged: BTreeMap<RelyingPartyId, Acknowledgement>,
    /// The last probe with a canary leaf of this generation at each party.
    pub canaries: BTreeMap<(RelyingPartyId, u32), Canary>,
    /// Leaves that had not expired, by generation.
    pub leaves: BTreeMap<u32, Leaves>,
    /// When a party last dropped the sessions and tickets that peers got with leaves of this generation.
    pub dropped: BTreeMap<(RelyingPartyId, u32), Timestamp>,
    /// Generations with a revocation list in force.
    pub lists: BTreeSet<u32>,
    /// CA certificates that are in their issuer's revocation list: of issuing CAs and cross-signatures.
    pub revoked: BTreeSet<Digest>,
    /// Keys that the holder no longer has.
    pub destroyed: BTreeSet<Digest>,
    /// Somebody wants a rotation before its time.
    pub asked: Option<Order>,
    /// Somebody wants these generations rolled back.
    pub rollbacks: BTreeMap<u32, Order>,
    /// Generations with a key in other hands.
    pub compromised: BTreeMap<u32, Order>,
    /// Who signed off what breaks.
    pub signed_off: Vec<SignOff>,
    /// Somebody wants nothing trusted any more.
    pub distrust: Option<DistrustAll>,
}

/// A bundle as it went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
}

/// What a relying party trusts, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The bundle's version.
    pub version: u64,
    /// The bundle's digest.
    pub digest: Digest,
    /// When it said so.
    pub at: Timestamp,
}

/// A live probe of a relying party with a canary leaf: a certificate for nobody, of the generation under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The party let it in.
    Accepted(Timestamp),
    /// The party refused it, or was not there.
    Refused(Timestamp),
}

/// Leaves of one generation that had not expired when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// So many are in our records.
    pub recorded: u64,
    /// So many more were seen in files, on endpoints and by links, which are not in our records.
    pub observed: u64,
    /// The last of them ends then; `None` only if there is none.
    pub latest: Option<Timestamp>,
    /// When somebody looked.
    pub looked: Timestamp,
}

impl Leaves {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.recorded.saturating_add(self.observed)
    }
}

/// What a person ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who.
    pub by: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Why, in their words.
    pub why: Arc<str>,
    /// The generation that signed when it was given, if the order is to have it followed.
    pub about: Option<u32>,
}

/// An order that nothing of a CA be trusted any more. Whoever gives it has typed the CA's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistrustAll {
    /// The name that they typed.
    pub ca: CaId,
    /// Who.
    pub by: Arc<str>,
    /// When: generations made later are not meant.
    pub at: Timestamp,
}
