//! Canaries: leaves for nobody, by which relying parties show what they let in; and the parties of this process, which
//! acknowledge by what they go by.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::authority::{BACKDATE, Ca, Leaf};
use crate::domain::certificate::Purposes;
use crate::domain::id::{CaId, ProfileId, RelyingPartyId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::name::{Name, NameSet};
use crate::domain::register::GenerationId;
use crate::domain::rotation::{ACCEPTED, Canary, Piece, PieceOn, REFUSED, Shows, bundle};
use crate::domain::spiffe::SpiffeId;
use crate::domain::time::{HOUR, MINUTE, Timestamp, Validity};
use crate::engine::authority::rotate::{CANARY, Outlook, piece, shown};
use crate::engine::authority::{Authority, Denied, Signer};
use crate::ports::{Batch, CanaryLeaf, Probed};

/// A canary lives for an hour: many probes are made with one.
const LIFE: Duration = HOUR;
/// So much of its life is left when another is made.
const LEFT: Duration = MINUTE.saturating_mul(5);
/// A party that refused is asked again after this, twice as late each time, at most [`LATEST`].
const SOONEST: Duration = Duration::from_secs(2);
const LATEST: Duration = MINUTE.saturating_mul(5);
/// The same refusal is written down again after this.
const SAID_AGAIN: Duration = HOUR;

/// Canaries at hand, and when whom to ask again. Lost with the process: then new ones are made.
#[derive(Debug, Default)]
pub(super) struct Canaries {
    made: Mutex<BTreeMap<GenerationId, (Arc<CanaryLeaf>, Timestamp)>>,
    turns: Mutex<BTreeMap<(RelyingPartyId, GenerationId), (Timestamp, Duration)>>,
    making: futures_util::lock::Mutex<()>,
}

impl Canaries {
    /// Whether it is this one's turn; if so, the next one comes later.
    fn turn(&self, party: &RelyingPartyId, id: &GenerationId, now: Timestamp) -> bool {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, (at, _)| at.plus(LATEST.saturating_mul(2)) > now);
        let key = (party.clone(), id.clone());
        let (at, wait) = turns.get(&key).copied().unwrap_or((now, SOONEST));
        if now < at {
            return false;
        }
        turns.insert(key, (now.plus(wait), wait.saturating_mul(2).min(LATEST)));
        true
    }

    fn forget(&self, party: &RelyingPartyId, id: &GenerationId) {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).remove(&(party.clone(), id.clone()));
    }
}

impl Authority {
    /// Shows a canary of this generation to a party, if it is its turn and the party can be asked.
    pub(super) async fn probe(
        &self,
        ca: &CaId,
        party: &RelyingPartyId,
        number: u32,
        outlook: &Outlook,
    ) -> Result<bool, Denied> {
        let id = GenerationId { ca: ca.clone(), number };
        // Before it has the bundle it refuses, and nothing would be learnt.
        let shows = outlook.setting.parties.get(party).map(|p| p.shows).unwrap_or_default();
        let current = bundle(&outlook.standing, outlook.evidence.distrust.as_ref()).ok();
        let said = outlook.evidence.acknowledged.get(party);
        let has = said.zip(current).is_some_and(|(a, b)| a.version == b.version && a.digest == b.digest);
        if shows == Shows::Word || (shows == Shows::Both && !has) || !self.canaries.turn(party, &id, outlook.now) {
            return Ok(false);
        }
        let (detail, why) = match self.shown_to(&id, party).await? {
            Probed::Accepted => (ACCEPTED, None),
            Probed::Refused(why) => (REFUSED, Some(why)),
            // That nobody answers proves nothing about what is trusted.
            Probed::Unreached(why) => {
                tracing::info!(%party, generation = %id, why, "a canary could not be shown");
                if number_is_retired(outlook, number) {
                    return Ok(false);
                }
                (REFUSED, Some(why))
            }
        };
        let before = outlook.evidence.canaries.get(&(party.clone(), number)).copied();
        let now = self.now();
        let same = match (before, detail) {
            (Some(Canary::Refused(at)), REFUSED) => now.since(at) < SAID_AGAIN && at >= since(outlook, number),
            _ => false,
        };
        if same {
            return Ok(false);
        }
        let found = Piece { detail: Some(Arc::from(detail)), why: why.clone().map(Arc::from), ..Piece::at(now) };
        let mut draft = self.draft("ca.canary", "KW4632", ca, None);
        draft.facts =
            vec![("answer", Json::str(detail)), ("generation", Json::show(&id)), ("party", Json::show(party))];
        draft.private.extend(why.map(|why| ("why", Arc::from(why))));
        let changes = vec![piece(ca, PieceOn::Canary(party.clone(), number), found)];
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        if detail == ACCEPTED {
            self.canaries.forget(party, &id);
        }
        Ok(true)
    }

    /// Looks whether a party of this process lets peers of a retired generation in no more. The others say it themselves.
    pub(super) async fn see_dropped(
        &self,
        ca: &CaId,
        party: &RelyingPartyId,
        number: u32,
        outlook: &Outlook,
    ) -> Result<bool, Denied> {
        let id = GenerationId { ca: ca.clone(), number };
        let here = self.relying.here(ca).into_iter().any(|here| here.party == *party);
        if !here || !self.canaries.turn(party, &id, outlook.now) {
            return Ok(false);
        }
        let own = outlook.standing.generation(number);
        let over = own.is_none_or(|g| g.validity().not_after <= outlook.now);
        if !over && !matches!(self.shown_to(&id, party).await?, Probed::Refused(_)) {
            return Ok(false);
        }
        let mut draft = self.draft("ca.sessions", "KW4633", ca, None);
        draft.facts = vec![("generation", Json::show(&id)), ("party", Json::show(party))];
        let changes = vec![piece(ca, PieceOn::Dropped(party.clone(), number), Piece::at(self.now()))];
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        Ok(true)
    }

    /// Whether this token is that of a relying party of this CA.
    #[must_use]
    pub fn proves(&self, ca: &CaId, party: &RelyingPartyId, token: &str) -> bool {
        self.relying.proves(ca, party, token)
    }

    async fn shown_to(&self, id: &GenerationId, party: &RelyingPartyId) -> Result<Probed, Denied> {
        let canary = self.canary(id).await?;
        Ok(self.relying.probe(party, &canary).await)
    }

    /// A canary of this generation: the one at hand, or a new one.
    async fn canary(&self, id: &GenerationId) -> Result<Arc<CanaryLeaf>, Denied> {
        let _making = self.canaries.making.lock().await;
        let now = self.now();
        let at_hand = self.canaries.made.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some((leaf, _)) = at_hand.filter(|(_, until)| now.plus(LEFT) < *until) {
            return Ok(leaf);
        }
        let (ca, generation) = (self.ca(&id.ca)?, self.known(id)?);
        let incomplete = || Denied::Broken(format!("generation {id} is not complete"));
        let signer = Signer::of(id.clone(), &generation).ok_or_else(incomplete)?;
        let (key, spki) = self.relying.canary_key()?;
        let validity = Validity {
            not_before: now.minus(BACKDATE).max(signer.validity.not_before),
            not_after: now.plus(LIFE).min(signer.validity.not_after),
        };
        let (names, spiffe) = nobody(&ca);
        let leaf = Leaf { serial: self.serial(), validity, names, spiffe, purposes: Purposes::ALL, spki };
        let profile = ProfileId::parse(CANARY).map_err(|e| Denied::Broken(format!("{CANARY} {e}")))?;
        let given = self.certified(&ca, &profile, signer, leaf, "rotation").await?;
        let canary = Arc::new(CanaryLeaf { chain: given.chain, key });
        let mut made = self.canaries.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|_, (_, until)| *until > now);
        made.insert(id.clone(), (canary.clone(), validity.not_after));
        Ok(canary)
    }

    /// Writes down what the parties of this process go by, where that is the bundle as it should be.
    pub(super) async fn acknowledge_here(&self, ca: &CaId) -> Result<(), Denied> {
        let outlook = self.outlook(ca)?;
        let Ok(current) = bundle(&outlook.standing, outlook.evidence.distrust.as_ref()) else { return Ok(()) };
        let published = outlook.evidence.published.is_some_and(|p| p.version == current.version);
        let known: Vec<Digest> = outlook.standing.generations.iter().map(|g| g.root.certificate).collect();
        for here in self.relying.here(ca) {
            let Some(anchors) = here.anchors.filter(|_| published) else { continue };
            let of_ours = known.iter().filter(|root| anchors.contains(root));
            let same = of_ours.clone().all(|root| current.anchors.contains(root))
                && current.anchors.iter().all(|root| anchors.contains(root));
            let said = outlook.evidence.acknowledged.get(&here.party);
            if !same || said.is_some_and(|a| (a.version, a.digest) == (current.version, current.digest)) {
                continue;
            }
            tracing::info!("{} goes by bundle {} of {ca}", shown(&here.party), current.version);
            self.acknowledged(ca, &here.party, current.version, current.digest, None, &[]).await?;
        }
        Ok(())
    }

    /// Writes down what a party trusts; `dropped` are the retired generations whose sessions it has given up with that.
    pub(super) async fn acknowledged(
        &self,
        ca: &CaId,
        party: &RelyingPartyId,
        version: u64,
        digest: Digest,
        by: Option<&str>,
        dropped: &[u32],
    ) -> Result<(), Denied> {
        let now = self.now();
        let mut draft = self.draft("ca.acknowledge", "KW4634", ca, by);
        draft.facts = vec![
            ("digest", Json::show(&digest)),
            ("dropped", Json::arr(dropped.iter().map(Json::show))),
            ("party", Json::show(party)),
            ("version", Json::str(version.to_string())),
        ];
        let said = Piece {
            by: Some(Arc::from(party.as_str())),
            version: Some(version),
            digest: Some(digest),
            ..Piece::at(now)
        };
        let mut changes = vec![piece(ca, PieceOn::Acknowledged(party.clone()), said)];
        changes.extend(dropped.iter().map(|n| piece(ca, PieceOn::Dropped(party.clone(), *n), Piece::at(now))));
        Ok(self.engine.commit(Batch { changes, entries: vec![draft] }).await?)
    }
}

fn since(outlook: &Outlook, number: u32) -> Timestamp {
    outlook.standing.generation(number).map_or(outlook.now, |g| g.times.since(g.phase))
}

fn number_is_retired(outlook: &Outlook, number: u32) -> bool {
    outlook.standing.generation(number).is_some_and(|g| !g.phase.is_trusted())
}

/// A name that nobody has: inside of the trust domain and the name constraints, so that only the chain decides.
fn nobody(ca: &Ca) -> (NameSet, Option<SpiffeId>) {
    let id = ca.trust_domain.as_ref().and_then(|domain| SpiffeId::parse(&format!("{}/{CANARY}", domain.uri())));
    if id.is_some() {
        return (NameSet::default(), id);
    }
    let tree = ca.constraints.permitted_dns.first().map_or("invalid", |tree| &**tree);
    let name = Name::parse(&format!("{CANARY}.{tree}")).ok();
    (NameSet::new(name), None)
}
