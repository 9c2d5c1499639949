//! What a rotation has to do in the world: lists and bundles published, canaries shown, certificates of CAs revoked, keys
//! destroyed. All of it can be done twice; each is recorded once it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;

use crate::domain::audit::{Outcome, Phase as Part};
use crate::domain::authority::{RevocationReason, Revoked};
use crate::domain::id::CaId;
use crate::domain::json::Json;
use crate::domain::key::{Digest, from_hex};
use crate::domain::register::{CaGeneration, CaKey, GenerationId, Keeper};
use crate::domain::rotation::{Bundle, Effect, Piece, PieceId, PieceOn, compromised};
use crate::domain::state::Change;
use crate::domain::time::Timestamp;
use crate::engine::authority::make::Place;
use crate::engine::authority::rotate::{Outlook, piece};
use crate::engine::authority::{Authority, Denied};
use crate::ports::{Batch, Operation, Urgency};

impl Authority {
    /// Does what is due, in its order; canaries are shown to all parties at once. Gives whether anything changed, and the
    /// first thing that failed.
    pub(super) async fn carry_out(&self, ca: &CaId, due: Vec<Effect>, outlook: &Outlook) -> (bool, Option<Denied>) {
        let (mut changed, mut failed, mut probes) = (false, None, Vec::new());
        for effect in due {
            let done = match effect {
                Effect::List(number) => self.list_due(ca, number).await,
                Effect::Publish(bundle) => self.publish_bundle(ca, &bundle).await,
                Effect::Revoke(certificate) => self.revoke_ca(ca, certificate, outlook).await,
                Effect::DestroyKey(key) => self.destroy_key(ca, key).await,
                Effect::Probe(party, number) => {
                    probes.push((party, number, false));
                    continue;
                }
                Effect::DropSessions(party, number) => {
                    probes.push((party, number, true));
                    continue;
                }
            };
            match done {
                Ok(done) => changed |= done,
                // Whoever has the bundle and lacks a list refuses: what comes later waits.
                Err(error) => return (changed, Some(error)),
            }
        }
        let probed = probes.into_iter().map(|(party, number, dropping)| async move {
            if dropping {
                self.see_dropped(ca, &party, number, outlook).await
            } else {
                self.probe(ca, &party, number, outlook).await
            }
        });
        for done in join_all(probed).await {
            match done {
                Ok(done) => changed |= done,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        (changed, failed)
    }

    async fn list_due(&self, ca: &CaId, number: u32) -> Result<bool, Denied> {
        let id = GenerationId { ca: ca.clone(), number };
        let ca = self.ca(ca)?;
        let mut made = false;
        for place in Place::BOTH {
            let owner = self.owner_of_list(&id, place);
            let key = place.of(&*self.known(&owner)?).cloned();
            let now = self.now();
            let good = |k: &CaKey| k.keeper != Keeper::Holder || k.list.as_ref().is_some_and(|l| l.next_update > now);
            if !key.as_ref().is_some_and(good) {
                self.list_in_turn(&ca, &owner, place).await?;
                made = true;
            }
        }
        Ok(made)
    }

    /// Lists first: who has an anchor and no list refuses everybody below it.
    async fn publish_bundle(&self, ca: &CaId, bundle: &Bundle) -> Result<bool, Denied> {
        self.shelve_lists(ca).await?;
        let anchors = self.trusted(ca);
        let text = match anchors.is_empty() {
            true => super::lists::nothing(ca),
            false => {
                let (text, digest) = self.mint.bundle(&anchors)?;
                if digest != bundle.digest {
                    return Err(Denied::Broken(format!(
                        "the bundle of {ca} is {digest}, and should be {}",
                        bundle.digest
                    )));
                }
                text
            }
        };
        self.shelf.put(&bundle_file(ca), text.as_bytes()).await?;
        let mut draft = self.draft("ca.bundle", "KW4630", ca, None);
        draft.facts = vec![
            ("anchors", Json::arr(bundle.anchors.iter().map(Json::show))),
            ("digest", Json::show(&bundle.digest)),
            ("version", Json::str(bundle.version.to_string())),
        ];
        let published = Piece { version: Some(bundle.version), digest: Some(bundle.digest), ..Piece::at(self.now()) };
        let changes = vec![piece(ca, PieceOn::Published, published)];
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        Ok(true)
    }

    /// All lists of a CA as one file of PEM, for servers that read them from there.
    pub(super) async fn shelve_lists(&self, ca: &CaId) -> Result<(), Denied> {
        let now = self.now();
        let mut lists: Vec<Arc<[u8]>> = Vec::new();
        for (id, generation) in self.generations(ca) {
            for place in Place::BOTH {
                let in_force = place.of(&generation).and_then(|k| k.list.as_ref()).is_some_and(|l| l.next_update > now);
                if self.owner_of_list(&id, place) != id || !in_force {
                    continue;
                }
                lists.extend(self.shelf.get(&super::lists::name(&id, place)).await?.map(Arc::from));
            }
        }
        if lists.is_empty() {
            return Ok(());
        }
        let text = self.mint.lists(&lists);
        let name = lists_file(ca);
        // Written only if it is another one: servers look at the file's time.
        if self.shelf.get(&name).await?.as_deref() != Some(text.as_bytes()) {
            self.shelf.put(&name, text.as_bytes()).await?;
        }
        Ok(())
    }

    /// Has a CA's certificate stand in its issuer's list.
    async fn revoke_ca(&self, ca: &CaId, certificate: Digest, outlook: &Outlook) -> Result<bool, Denied> {
        let on = PieceOn::Revoked(certificate);
        let id = PieceId { ca: ca.clone(), on: on.clone() };
        let bad = compromised(&outlook.standing, &outlook.evidence);
        let own = outlook.standing.generations.iter().find(|g| g.issuing.certificate == certificate);
        let reason = match own.is_some_and(|g| bad.contains(&g.number)) {
            true => RevocationReason::CaCompromise,
            false => RevocationReason::Superseded,
        };
        if !self.engine.read().state.pieces.contains_key(&id) {
            let mut draft = self.draft("ca.revoke-ca", "KW4631", ca, None);
            draft.facts = vec![("certificate", Json::show(&certificate)), ("reason", Json::str(reason.as_str()))];
            let said = Piece { detail: Some(Arc::from(reason.as_str())), ..Piece::at(self.now()) };
            let changes = vec![piece(ca, on, said)];
            self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        }
        let missing = || Denied::Broken(format!("nobody knows who issued the CA certificate {certificate}"));
        let root = self.root_of(ca, certificate).ok_or_else(missing)?;
        let outside = self.known(&root)?.root.as_ref().is_some_and(|key| key.keeper != Keeper::Holder);
        if outside {
            // A person has to: nothing here could sign it.
            let serial = own.and_then(|g| self.serial_of(&GenerationId { ca: ca.clone(), number: g.number }));
            let serial = serial.unwrap_or_default();
            let text = format!(
                "the root of {root} has to revoke an issuing CA: keyward ca sign-intermediate DIR --revoke {serial} --reason {}",
                reason.as_str()
            );
            self.tell(format!("ca/{ca}/{root}"), None, "KW4662", text, Urgency::Act);
            return Ok(false);
        }
        let ca = self.ca(ca)?;
        self.list_in_turn(&ca, &root, Place::Root).await?;
        Ok(true)
    }

    fn serial_of(&self, id: &GenerationId) -> Option<Arc<str>> {
        Some(self.known(id).ok()?.issuing.as_ref()?.certificate.as_ref()?.serial.clone())
    }

    /// The generation that owns the list in which this certificate of a CA would stand.
    fn root_of(&self, ca: &CaId, certificate: Digest) -> Option<GenerationId> {
        let all = self.generations(ca);
        let desk = self.engine.read();
        let own = all.iter().find(|(_, g)| fingerprint(g.issuing.as_ref()) == Some(certificate));
        let by = match own {
            Some((id, _)) => id.clone(),
            None => desk.state.pieces.iter().find_map(|(id, piece)| {
                let PieceOn::Cross(_, issuer) = id.on else { return None };
                let own = id.ca == *ca && piece.digest == Some(certificate);
                own.then(|| GenerationId { ca: ca.clone(), number: issuer })
            })?,
        };
        drop(desk);
        Some(self.owner_of_list(&by, Place::Root))
    }

    /// CA certificates that stand in the newest list of their root.
    pub(super) fn on_lists(&self, ca: &CaId) -> BTreeSet<Digest> {
        let pieces: Vec<Digest> = {
            let desk = self.engine.read();
            let own = desk.state.pieces.keys().filter(|id| id.ca == *ca);
            own.filter_map(|id| if let PieceOn::Revoked(certificate) = id.on { Some(certificate) } else { None })
                .collect()
        };
        let said =
            |certificate: &Digest| self.root_of(ca, *certificate).is_some_and(|root| self.says_all(&root, Place::Root));
        pieces.into_iter().filter(said).collect()
    }

    /// The CA certificates that this generation's root has revoked.
    pub(super) fn revoked_cas(&self, root: &GenerationId) -> Vec<Revoked> {
        let found: Vec<(Digest, Timestamp, RevocationReason)> = {
            let desk = self.engine.read();
            let own = desk.state.pieces.iter().filter(|(id, _)| id.ca == root.ca);
            own.filter_map(|(id, piece)| {
                let PieceOn::Revoked(certificate) = id.on else { return None };
                let reason = piece.detail.as_deref().and_then(RevocationReason::parse).unwrap_or_default();
                Some((certificate, piece.at, reason))
            })
            .collect()
        };
        let serials = self.serials(&root.ca);
        let mut all: Vec<Revoked> = found
            .into_iter()
            .filter(|(certificate, ..)| self.root_of(&root.ca, *certificate).as_ref() == Some(root))
            .filter_map(|(certificate, at, reason)| {
                Some(Revoked { serial: from_hex(serials.get(&certificate)?)?, at, reason })
            })
            .collect();
        all.sort_by(|a, b| a.serial.cmp(&b.serial));
        all
    }

    /// Serial numbers of issuing CAs and cross-signatures.
    fn serials(&self, ca: &CaId) -> BTreeMap<Digest, Arc<str>> {
        let mut all = BTreeMap::new();
        for (_, g) in self.generations(ca) {
            let signed = g.issuing.as_ref().and_then(|k| k.certificate.as_ref());
            all.extend(signed.map(|s| (Digest::of(&s.der), s.serial.clone())));
        }
        let desk = self.engine.read();
        for (id, piece) in desk.state.pieces.iter().filter(|(id, _)| id.ca == *ca) {
            if let (PieceOn::Cross(..), Some(certificate), Some((_, serial))) = (&id.on, piece.digest, piece.cross()) {
                all.insert(certificate, Arc::from(serial));
            }
        }
        all
    }

    /// The list of a root that several generations have is kept by the oldest of them.
    pub(super) fn owner_of_list(&self, id: &GenerationId, place: Place) -> GenerationId {
        let all = self.generations(&id.ca);
        let root = |g: &CaGeneration| g.root.as_ref().map(|k| k.key);
        let own = all.iter().find(|(other, _)| other == id).and_then(|(_, g)| root(g));
        let first = all.iter().find(|(_, g)| own.is_some() && root(g) == own).map(|(other, _)| other.clone());
        match place {
            Place::Root => first.unwrap_or_else(|| id.clone()),
            Place::Issuing => id.clone(),
        }
    }

    /// Has the key holder destroy a key that nobody needs any more.
    async fn destroy_key(&self, ca: &CaId, key: Digest) -> Result<bool, Denied> {
        let held =
            self.generations(ca).into_iter().any(|(_, g)| g.keys().any(|k| k.key == key && k.keeper == Keeper::Holder));
        if !held {
            // An offline key is destroyed by a person.
            return Ok(false);
        }
        let there = self.holder.keys().await?.iter().any(|k| Digest::of(&k.spki) == key);
        let operation = Operation::Destroy { key };
        let intent = if there {
            let (intent, warrant) = self.announce(ca, &operation, None, Vec::new()).await?;
            if let Err(error) = self.holder.destroy(key, &warrant).await {
                return Err(self.failed(ca, intent, error, Vec::new()).await);
            }
            Some(intent)
        } else {
            // It was destroyed before a crash cut off the record of it.
            None
        };
        let _turn = self.turn.lock().await;
        let mut changes = Vec::new();
        for (id, generation) in self.generations(ca) {
            let mut new = CaGeneration::clone(&generation);
            for own in [new.root.as_mut(), new.issuing.as_mut()].into_iter().flatten().filter(|k| k.key == key) {
                own.keeper = Keeper::Nobody;
            }
            if new != *generation {
                changes.push(Change::Generation(id, Arc::new(new)));
            }
        }
        let mut draft = self.draft(super::operate::KEY, "KW4601", ca, None);
        draft.facts = vec![("key", Json::show(&key)), ("keeper", Json::str(Keeper::Nobody.as_str()))];
        if let Some(intent) = intent {
            draft.phase = Part::Outcome;
            draft.outcome = Some(Outcome::Success);
            draft.intent = Some(intent);
        }
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        Ok(true)
    }

    /// Tells whoever asks what a list says.
    pub(super) fn note_said(&self, id: &GenerationId, place: Place, digest: Digest) {
        self.said.write().unwrap_or_else(PoisonError::into_inner).insert((id.clone(), place), digest);
    }
}

fn fingerprint(key: Option<&CaKey>) -> Option<Digest> {
    Some(Digest::of(&key?.certificate.as_ref()?.der))
}

/// Where the bundle lies for servers on this machine.
#[must_use]
pub fn bundle_file(ca: &CaId) -> String {
    format!("{ca}.pem")
}

/// Where the lists of all its generations lie.
#[must_use]
pub fn lists_file(ca: &CaId) -> String {
    format!("{ca}.crl.pem")
}
