//! Making a generation: keys, certificates and first lists, one durable step after the other. Whatever a crash left is
//! taken up where it was.

use std::sync::Arc;

use crate::domain::authority::{BACKDATE, Ca, CaCertificate, Constraints, SerialNumber};
use crate::domain::id::{CaId, EntryId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, CaKey, CaSigned, GenerationId, Keeper, Phase};
use crate::domain::rotation::{self, Kind, Renewal, Step, Why};
use crate::domain::state::Change;
use crate::domain::time::Validity;
use crate::engine::authority::{Authority, Denied};
use crate::ports::Batch;

/// Which of the two keys of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The trust anchor's.
    Root,
    /// The one that signs leaves.
    Issuing,
}

impl Place {
    pub(super) const BOTH: [Self; 2] = [Self::Root, Self::Issuing];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
        }
    }

    pub(super) fn of(self, generation: &CaGeneration) -> Option<&CaKey> {
        match self {
            Self::Root => generation.root.as_ref(),
            Self::Issuing => generation.issuing.as_ref(),
        }
    }

    pub(super) fn put(self, generation: &mut CaGeneration, key: CaKey) {
        match self {
            Self::Root => generation.root = Some(key),
            Self::Issuing => generation.issuing = Some(key),
        }
    }
}

impl Authority {
    /// Makes the first generation of a CA, which signs at once: nobody relies on another one.
    ///
    /// # Errors
    /// If there is one already; [`Denied`] says why it could not be finished, and asked again it goes on from there.
    pub async fn init(&self, ca: &CaId, by: &str) -> Result<GenerationId, Denied> {
        let _turn = self.turn.lock().await;
        let ca = self.ca(ca)?;
        let there = self.generations(&ca.id);
        // One that is complete and alone was cut off just before it began to sign.
        if let [(id, generation)] = &*there
            && [Phase::STANDBY, Phase::STAGED].contains(&generation.phase)
        {
            self.begin_signing(id, by).await?;
            return Ok(id.clone());
        }
        if let Some((id, generation)) = there.iter().find(|(_, g)| g.phase != Phase::Making) {
            return Err(Denied::Made(ca.id.clone(), id.number, generation.phase));
        }
        if ca.offline_root {
            let text =
                "its root is offline: keyward ca init --offline-root DIR, or keyward ca request where DIR is elsewhere";
            return Err(Denied::Outside(ca.id.clone(), text.to_owned()));
        }
        let id = self.generation(&ca, Renewal::Both, by).await?;
        self.begin_signing(&id, by).await?;
        Ok(id)
    }

    /// Everything about a generation is there but the lists that are signed here: makes these. The first generation signs at
    /// once.
    pub(super) async fn complete(&self, ca: &Ca, id: &GenerationId, by: &str) -> Result<(), Denied> {
        self.first_lists(ca, id).await?;
        self.admit(id, by).await?;
        if self.generations(&ca.id).len() == 1 {
            self.begin_signing(id, by).await?;
        }
        Ok(())
    }

    /// The first generation signs at once: nobody has a leaf yet who could be refused.
    async fn begin_signing(&self, id: &GenerationId, by: &str) -> Result<(), Denied> {
        for (phase, kind) in [(rotation::Phase::Standby, Kind::Stage), (rotation::Phase::Staged, Kind::Activate)] {
            if self.known(id)?.phase == Phase::Made(phase) {
                let step = Step { generation: id.number, from: phase, kind };
                self.step_in_turn(&id.ca, step, Why::First, Some(by)).await?;
            }
        }
        Ok(())
    }

    /// Makes a generation, or goes on with one that is being made; it is complete and on standby then.
    pub(super) async fn generation(&self, ca: &Ca, renewal: Renewal, by: &str) -> Result<GenerationId, Denied> {
        self.believe_clock()?;
        let there = self.generations(&ca.id);
        let id = match there.iter().find(|(_, g)| g.phase == Phase::Making) {
            // One that was begun below the old root will not do if the root has to be new.
            Some((id, making)) if renewal == Renewal::Both && shares_root(making, id, &there) => {
                self.begin_at(id.clone(), None, by).await?
            }
            Some((id, _)) => id.clone(),
            None => self.begin(ca, there.last().map_or(0, |(id, _)| id.number), renewal, by).await?,
        };
        if ca.offline_root {
            self.key(ca, &id, Place::Issuing).await?;
            let text = format!("generation {id} waits for its root, which is offline: keyward ca request {}", ca.id);
            return Err(Denied::Waits(text));
        }
        for place in Place::BOTH {
            self.key(ca, &id, place).await?;
            self.certificate(ca, &id, place).await?;
        }
        self.first_lists(ca, &id).await?;
        self.admit(&id, by).await?;
        Ok(id)
    }

    /// The lists of a generation that is complete but for them.
    async fn first_lists(&self, ca: &Ca, id: &GenerationId) -> Result<(), Denied> {
        for place in Place::BOTH {
            let owner = self.owner_of_list(id, place);
            let own = place.of(&*self.known(&owner)?).cloned();
            let here = own.is_some_and(|key| key.keeper == Keeper::Holder);
            if here && (owner == *id || !self.says_all(&owner, place)) {
                self.list(ca, &owner, place).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn begin(&self, ca: &Ca, last: u32, renewal: Renewal, by: &str) -> Result<GenerationId, Denied> {
        let number = last.checked_add(1).ok_or_else(|| Denied::Broken("a CA has no more generations".to_owned()))?;
        let id = GenerationId { ca: ca.id.clone(), number };
        let root = match renewal {
            Renewal::Both => None,
            Renewal::Issuing => {
                let signer = self.signer(&ca.id)?;
                self.known(&signer.id)?.root.clone().map(|root| CaKey { list: None, ..root })
            }
        };
        self.begin_at(id, root, by).await
    }

    async fn begin_at(&self, id: GenerationId, root: Option<CaKey>, by: &str) -> Result<GenerationId, Denied> {
        let making = CaGeneration { root, ..CaGeneration::begun(self.now()) };
        let mut draft = self.draft("ca.make", "KW4603", &id.ca, Some(by));
        draft.facts = vec![("generation", Json::show(&id))];
        let changes = vec![Change::Generation(id.clone(), Arc::new(making))];
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        Ok(id)
    }

    pub(super) async fn key(&self, ca: &Ca, id: &GenerationId, place: Place) -> Result<(), Denied> {
        if place.of(&*self.known(id)?).is_some() {
            return Ok(());
        }
        let (held, intent) = self.generated(&ca.id, ca.algorithm, &format!("{id} {}", place.as_str())).await?;
        let key = CaKey {
            key: Digest::of(&held.spki),
            algorithm: held.algorithm,
            keeper: Keeper::Holder,
            certificate: None,
            list: None,
        };
        let facts = vec![("generation", Json::show(id)), ("key", Json::show(&key.key))];
        self.place(ca, id, place, key, intent, facts).await
    }

    async fn certificate(&self, ca: &Ca, id: &GenerationId, place: Place) -> Result<(), Denied> {
        let generation = self.known(id)?;
        let key = place.of(&generation).ok_or_else(|| Denied::Broken(format!("{id} has no {} key", place.as_str())))?;
        if key.certificate.is_some() {
            return Ok(());
        }
        if generation.root.as_ref().is_some_and(|root| root.keeper == Keeper::Offline) {
            let text = format!("generation {id} waits for its offline root to sign the {} certificate", place.as_str());
            return Err(Denied::Waits(text));
        }
        let held = self.holder.keys().await?.into_iter().find(|held| Digest::of(&held.spki) == key.key);
        let held = held.ok_or_else(|| Denied::Broken(format!("the key holder has no key {}", key.key)))?;
        let above: Vec<Arc<[u8]>> = match place {
            Place::Root => Vec::new(),
            Place::Issuing => generation.anchor().cloned().into_iter().collect(),
        };
        let template = self.template(ca, id, place, &generation, held.spki.clone());
        let others = self.all_ca_certificates();
        let blank = self.mint.ca(&template, &above, &others)?;
        let signer = match above.first() {
            Some(root) => self.mint.public_key(root)?,
            None => held.spki.clone(),
        };
        let (der, intent) = self.signed(&ca.id, &blank, &signer, Vec::new()).await?;
        let fingerprint = Digest::of(&der);
        let certificate = Some(CaSigned {
            der: Arc::from(der),
            common_name: Arc::from(&*template.common_name),
            serial: Arc::from(template.serial.to_string()),
            validity: template.validity,
        });
        let facts = vec![
            ("fingerprint", Json::show(&fingerprint)),
            ("generation", Json::show(id)),
            ("not_after", Json::show(&template.validity.not_after)),
            ("serial", Json::show(&template.serial)),
        ];
        let key = CaKey { certificate, ..key.clone() };
        self.place(ca, id, place, key, intent, facts).await
    }

    fn template(
        &self,
        ca: &Ca,
        id: &GenerationId,
        place: Place,
        generation: &CaGeneration,
        spki: Arc<[u8]>,
    ) -> CaCertificate {
        let now = self.now();
        let (role, lifetime) = match place {
            Place::Root => ("Root", ca.root_lifetime),
            Place::Issuing => ("Issuing CA", ca.issuing_lifetime),
        };
        let own = Validity { not_before: now.minus(BACKDATE), not_after: now.plus(lifetime) };
        let validity = match (place, generation.root.as_ref().and_then(CaKey::validity)) {
            (Place::Issuing, Some(root)) => own.intersection(&root),
            _ => own,
        };
        // The number alone would be the same again for a CA that was made anew in another state directory.
        let mut unique = [0; 4];
        self.engine.ports.entropy.fill(&mut unique);
        let unique = u32::from_be_bytes(unique);
        CaCertificate {
            serial: self.serial(),
            validity,
            common_name: format!("{} {role} G{} {unique:08x}", ca.name, id.number),
            organization: ca.organization.clone(),
            trust_domain: ca.trust_domain.clone(),
            path_length: match place {
                // The issuing CA, and a cross-signature between them.
                Place::Root => Some(2),
                Place::Issuing => Some(0),
            },
            // On the CA that a person can replace without touching anybody's anchors; on the root they would be for ever.
            constraints: match place {
                Place::Root => Constraints::default(),
                Place::Issuing => ca.constraints.clone(),
            },
            spki,
        }
    }

    /// Records what an operation gave one of the keys.
    pub(super) async fn place(
        &self,
        ca: &Ca,
        id: &GenerationId,
        place: Place,
        key: CaKey,
        intent: EntryId,
        facts: Vec<(&'static str, Json)>,
    ) -> Result<(), Denied> {
        let mut generation = CaGeneration::clone(&*self.known(id)?);
        place.put(&mut generation, key);
        Ok(self.done(&ca.id, intent, vec![Change::Generation(id.clone(), Arc::new(generation))], facts, None).await?)
    }

    pub(super) fn known(&self, id: &GenerationId) -> Result<Arc<CaGeneration>, Denied> {
        let found = self.engine.read().state.generations.get(id).cloned();
        found.ok_or_else(|| Denied::Broken(format!("generation {id} is not in the register")))
    }

    pub(super) fn all_ca_certificates(&self) -> Vec<Arc<[u8]>> {
        let desk = self.engine.read();
        let keys = desk.state.generations.values().flat_map(|g| g.keys());
        keys.filter_map(|key| Some(key.certificate.as_ref()?.der.clone())).collect()
    }

    pub(super) fn serial(&self) -> SerialNumber {
        let mut random = [0; 20];
        self.engine.ports.entropy.fill(&mut random);
        SerialNumber::new(random)
    }

    pub(super) fn believe_clock(&self) -> Result<(), Denied> {
        // As the clocks are in this moment, not as they were when the engine's loop last looked.
        if !self.engine.distrusts_clock() {
            return Ok(());
        }
        let fault = self.engine.read().clock.fault().map(str::to_owned);
        Err(Denied::Clock(fault.unwrap_or_else(|| "it stepped".to_owned())))
    }
}

/// Whether the generation that is being made has the root of another one.
fn shares_root(making: &CaGeneration, own: &GenerationId, all: &[(GenerationId, Arc<CaGeneration>)]) -> bool {
    let root = |g: &CaGeneration| g.root.as_ref().map(|k| k.key);
    root(making).is_some() && all.iter().any(|(id, g)| id != own && root(g) == root(making))
}
