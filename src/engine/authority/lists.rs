//! Revocation lists: one for each CA certificate that signs, from the day it is made, so that a peer that demands lists of
//! every CA never meets one without.

use std::sync::{Arc, PoisonError};

use crate::domain::authority::{Ca, LIST_BACKDATE, RevocationList, Revoked};
use crate::domain::json::Json;
use crate::domain::key::{Digest, from_hex};
use crate::domain::register::{CaGeneration, CaKey, GenerationId, Keeper, ListMade, Phase};
use crate::domain::rotation::bundle;
use crate::domain::state::Change;
use crate::domain::time::Timestamp;
use crate::engine::authority::make::Place;
use crate::engine::authority::tend::KEPT;
use crate::engine::authority::{Authority, Denied};

impl Authority {
    /// Makes and publishes a new list of the CA that issues in this generation, with everything that is revoked.
    pub(super) async fn publish(&self, id: &GenerationId) -> Result<(), Denied> {
        let _turn = self.turn.lock().await;
        let ca = self.ca(&id.ca)?;
        self.list(&ca, id, Place::Issuing).await
    }

    /// Makes the lists that are due. A CA that is retired has no more: nobody trusts it.
    pub(super) async fn publish_due(&self) -> Vec<(GenerationId, Denied)> {
        let mut failed = Vec::new();
        for ca in self.cas().values() {
            for (id, generation) in self.generations(&ca.id) {
                for place in Place::BOTH {
                    if self.is_due(ca, &id, &generation, place).await
                        && let Err(error) = self.list_in_turn(ca, &id, place).await
                    {
                        failed.push((id.clone(), error));
                    }
                }
            }
        }
        failed
    }

    pub(super) async fn list_in_turn(&self, ca: &Ca, id: &GenerationId, place: Place) -> Result<(), Denied> {
        let _turn = self.turn.lock().await;
        self.list(ca, id, place).await
    }

    async fn is_due(&self, ca: &Ca, id: &GenerationId, generation: &CaGeneration, place: Place) -> bool {
        let Some(key) = place.of(generation) else { return false };
        let over = |g: &CaGeneration| matches!(g.phase, Phase::Making | Phase::RETIRED | Phase::DESTROYED);
        let alive = match place {
            Place::Issuing => !over(generation),
            // A root may be that of several, and its list is kept once.
            Place::Root => {
                let same = |g: &CaGeneration| g.root.as_ref().is_some_and(|k| k.key == key.key);
                self.owner_of_list(id, place) == *id
                    && self.generations(&id.ca).iter().any(|(_, g)| same(g) && !over(g))
            }
        };
        if !alive || key.keeper != Keeper::Holder || key.certificate.is_none() {
            return false;
        }
        let Some(list) = &key.list else { return true };
        // Made while the clock was ahead: it says when it is over, and that is not true.
        if list.this_update > self.now() {
            return true;
        }
        // Half of its life is left when the next one is made: a day without the key holder is borne by a list of two days.
        if self.now() >= list.this_update.plus(LIST_BACKDATE).plus(ca.crl_lifetime / 2) {
            return true;
        }
        let on_shelf = self.shelf.get(&name(id, place)).await;
        let same = matches!(&on_shelf, Ok(Some(bytes)) if Digest::of(bytes) == list.digest);
        !same || !self.says_all(id, place)
    }

    /// Whether the newest list says all that is revoked. What a list from before this start says is not known: it is made
    /// again.
    pub(super) fn says_all(&self, id: &GenerationId, place: Place) -> bool {
        let said = self.said.read().unwrap_or_else(PoisonError::into_inner).get(&(id.clone(), place)).copied();
        said == Some(digest_of(&self.revoked(id, place, self.now())))
    }

    /// Makes one list. The caller has the turn.
    pub(super) async fn list(&self, ca: &Ca, id: &GenerationId, place: Place) -> Result<(), Denied> {
        let generation = self.known(id)?;
        let broken = || Denied::Broken(format!("{id} has no {} certificate", place.as_str()));
        let key = place.of(&generation).ok_or_else(broken)?;
        let certificate = key.certificate.as_ref().ok_or_else(broken)?;
        self.believe_clock()?;
        let now = self.now();
        let number = key.list.as_ref().map_or(0, |list| list.number);
        let list = RevocationList {
            number: number.checked_add(1).ok_or_else(|| Denied::Broken(format!("{id} has no more list numbers")))?,
            this_update: now.minus(LIST_BACKDATE).max(certificate.validity.not_before),
            next_update: now.plus(ca.crl_lifetime),
            revoked: self.revoked(id, place, now),
        };
        let blank = self.mint.list(&list, &certificate.der)?;
        let signer = self.mint.public_key(&certificate.der)?;
        // The number is spent with the intent, whatever comes of it: no two lists have the same.
        let unmade = ListMade { number: 0, this_update: now, next_update: now, digest: Digest::of(&[]) };
        let spent = ListMade { number: list.number, ..key.list.clone().unwrap_or(unmade) };
        let mut reserved = CaGeneration::clone(&generation);
        place.put(&mut reserved, CaKey { list: Some(spent), ..key.clone() });
        let reserved = vec![Change::Generation(id.clone(), Arc::new(reserved))];
        let (der, intent) = self.signed(&ca.id, &blank, &signer, reserved).await?;
        let digest = Digest::of(&der);
        // On the shelf first: a list that nobody recorded is made again, one that is missing would be recorded as there.
        self.shelf.put(&name(id, place), &der).await?;
        let made = ListMade {
            number: list.number,
            // Whatever was revoked in this very second may have come after, and is looked for again.
            this_update: now.minus(LIST_BACKDATE),
            next_update: list.next_update,
            digest,
        };
        let facts = vec![
            ("digest", Json::show(&digest)),
            ("generation", Json::show(id)),
            ("list", Json::str(place.as_str())),
            ("next_update", Json::show(&list.next_update)),
            ("number", Json::str(list.number.to_string())),
            ("revoked", Json::str(list.revoked.len().to_string())),
        ];
        self.place(ca, id, place, CaKey { list: Some(made), ..key.clone() }, intent, facts).await?;
        self.note_said(id, place, digest_of(&list.revoked));
        self.shelve_lists(&ca.id).await
    }

    fn revoked(&self, id: &GenerationId, place: Place, now: Timestamp) -> Vec<Revoked> {
        if place == Place::Root {
            return self.revoked_cas(id);
        }
        let desk = self.engine.read();
        let own =
            desk.state.issued.iter().filter(|(_, i)| i.generation == *id && i.validity.not_after.plus(KEPT) > now);
        own.filter_map(|(serial, issued)| {
            let (at, reason) = issued.revoked?;
            Some(Revoked { serial: from_hex(serial)?, at, reason })
        })
        .collect()
    }

    /// The newest list of a generation, DER.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub async fn published(&self, id: &GenerationId, place: Place) -> Result<Arc<[u8]>, Denied> {
        let found = self.shelf.get(&name(&self.owner_of_list(id, place), place)).await?;
        found.map(Arc::from).ok_or_else(|| Denied::Broken(format!("generation {id} has no revocation list")))
    }

    /// The certificate of a CA (DER).
    ///
    /// # Errors
    /// If there is none yet, or no such generation.
    pub fn ca_certificate(&self, id: &GenerationId, place: Place) -> Result<Arc<[u8]>, Denied> {
        let generation = self.known(id)?;
        let certificate = place.of(&generation).and_then(|key| key.certificate.as_ref());
        let missing = || Denied::Broken(format!("generation {id} has no {} certificate", place.as_str()));
        Ok(certificate.ok_or_else(missing)?.der.clone())
    }

    /// The anchors that relying parties are to trust: PEM, and the digest that they acknowledge.
    ///
    /// # Errors
    /// If there is none: an empty bundle would mean to trust nobody.
    pub fn bundle(&self, ca: &crate::domain::id::CaId) -> Result<BundleText, Denied> {
        let outlook = self.outlook(ca)?;
        let anchors = self.trusted(ca);
        let version = outlook.standing.version;
        if anchors.is_empty() {
            let ordered = bundle(&outlook.standing, outlook.evidence.distrust.as_ref());
            let empty = ordered.map_err(|_| Denied::NotMade(ca.clone()))?;
            return Ok(BundleText { pem: nothing(ca), version, digest: empty.digest });
        }
        let (pem, digest) = self.mint.bundle(&anchors)?;
        Ok(BundleText { pem, version, digest })
    }
}

/// What relying parties are to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleText {
    /// Its anchors, PEM.
    pub pem: String,
    /// Counts up with every change.
    pub version: u64,
    /// What is acknowledged.
    pub digest: Digest,
}

/// The text of a bundle that is empty because somebody ordered that.
pub(super) fn nothing(ca: &crate::domain::id::CaId) -> String {
    format!("# Nothing of the CA {ca} is trusted any more, as a person ordered by its name.\n")
}

/// Of the serial numbers that are revoked.
pub(super) fn digest_of(revoked: &[Revoked]) -> Digest {
    Digest::of_parts(&revoked.iter().map(|r| &*r.serial).collect::<Vec<_>>())
}

pub(super) fn name(id: &GenerationId, place: Place) -> String {
    format!("{}-{}-{}.crl", id.ca, id.number, place.as_str())
}
