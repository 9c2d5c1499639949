//! Generations of which a part comes from outside: certified by a root that no network reaches, or brought along whole.
//!
//! ```text
//! request: key of the issuing CA is made here ──▶ a person carries the request to the root, and its answer back
//! accept:  root, issuing certificate and the root's list are read, linted, recorded ──▶ complete, as any other generation
//! import:  keys go to the key holder, certificates and lists are read, linted, recorded ──▶ the same
//! ```
//! Nothing that comes is believed: what was asked for is encoded again, and has to be what was signed, byte for byte.

use std::sync::Arc;

use crate::domain::authority::{BACKDATE, Ca, CaCertificate, Revoked, SerialNumber};
use crate::domain::id::{CaId, ProfileId};
use crate::domain::json::Json;
use crate::domain::key::{Digest, from_hex, hex};
use crate::domain::name::NameSet;
use crate::domain::register::{CaGeneration, CaKey, CaSigned, GenerationId, Issued, Keeper, ListMade, Phase};
use crate::domain::rotation::Renewal;
use crate::domain::state::Change;
use crate::domain::time::Validity;
use crate::engine::authority::lists::{digest_of, name};
use crate::engine::authority::make::Place;
use crate::engine::authority::{Authority, Denied};
use crate::ports::{Adopted, Batch, Operation, PrivateKey};

/// What a CA asks of its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Which generation it is for.
    pub generation: GenerationId,
    /// The CA as it is configured.
    pub ca: Arc<Ca>,
    /// SHA-256 of the root's certificate; `None` if a new root is wanted.
    pub root: Option<Digest>,
    /// The certificate that is wanted; serial number and validity are the root's to choose.
    pub wanted: CaCertificate,
}

/// What comes from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Certificates (DER), in any order.
    pub certificates: Vec<Arc<[u8]>>,
    /// Revocation lists (DER), in any order.
    pub lists: Vec<Vec<u8>>,
}

/// A CA that was made elsewhere.
#[derive(Debug)]
pub struct Import {
    /// Its certificates and lists.
    pub brought: Brought,
    /// The private key of what issues.
    pub issuing: PrivateKey,
    /// The root's private key; without it the root stays where it is.
    pub root: Option<PrivateKey>,
    /// So many certificates are known to be revoked there, and are to be forgotten.
    pub forget: usize,
}

impl Authority {
    /// Makes the key of an issuing CA, and says what its root has to sign. Asked again it says the same.
    ///
    /// # Errors
    /// If the CA's root is with the key holder, or nothing waits for it.
    pub async fn request(&self, ca: &CaId, by: &str) -> Result<Asking, Denied> {
        let _turn = self.turn.lock().await;
        let ca = self.ca(ca)?;
        if !ca.offline_root {
            let text = "its root is with the key holder, which signs by itself; `root = \"offline\"` makes it another";
            return Err(Denied::Outside(ca.id.clone(), text.to_owned()));
        }
        self.believe_clock()?;
        let there = self.generations(&ca.id);
        let id = match (there.iter().find(|(_, g)| g.phase == Phase::Making), there.last()) {
            (Some((id, _)), _) => id.clone(),
            (None, None) => self.begin(&ca, 0, Renewal::Both, by).await?,
            (None, Some((last, _))) => {
                let text = format!("nothing waits for its root; the newest generation is {last}: keyward ca rotate");
                return Err(Denied::Outside(ca.id.clone(), text));
            }
        };
        self.key(&ca, &id, Place::Issuing).await?;
        let generation = self.known(&id)?;
        Ok(Asking {
            root: generation.anchor().map(|der| Digest::of(der)),
            wanted: self.wanted(&ca, &id, &generation).await?,
            generation: id,
            ca,
        })
    }

    /// The certificate that an issuing CA should have. Its name is the same whenever it is asked for.
    async fn wanted(&self, ca: &Ca, id: &GenerationId, generation: &CaGeneration) -> Result<CaCertificate, Denied> {
        let missing =
            || Denied::Outside(ca.id.clone(), "it did not ask for anything yet: keyward ca request".to_owned());
        let own = generation.issuing.as_ref().ok_or_else(missing)?;
        let held = self.holder.keys().await?.into_iter().find(|held| Digest::of(&held.spki) == own.key);
        let held = held.ok_or_else(|| Denied::Broken(format!("the key holder has no key {}", own.key)))?;
        let [a, b, c, d, ..] = own.key.0;
        let unique = u32::from_be_bytes([a, b, c, d]);
        let now = self.now();
        Ok(CaCertificate {
            serial: SerialNumber::new([0; 20]),
            validity: Validity { not_before: now.minus(BACKDATE), not_after: now.plus(ca.issuing_lifetime) },
            common_name: format!("{} Issuing CA G{} {unique:08x}", ca.name, id.number),
            organization: ca.organization.clone(),
            trust_domain: ca.trust_domain.clone(),
            path_length: Some(0),
            constraints: ca.constraints.clone(),
            spki: held.spki,
        })
    }

    /// Takes in what the root signed, or a newer list of a root alone. Gives the generation.
    ///
    /// # Errors
    /// Says what does not fit; nothing of it is kept then.
    pub async fn accept(&self, ca: &CaId, brought: &Brought, by: &str) -> Result<GenerationId, Denied> {
        let turn = self.turn.lock().await;
        let ca = self.ca(ca)?;
        self.believe_clock()?;
        if brought.certificates.is_empty() {
            return self.accept_list(&ca, brought, by).await;
        }
        let there = self.generations(&ca.id);
        let waiting = there.iter().find(|(_, g)| g.phase == Phase::Making && g.issuing.is_some());
        let outside = |text: String| Denied::Outside(ca.id.clone(), text);
        let (id, generation) = waiting.ok_or_else(|| outside("nothing waits for its root".to_owned()))?;
        let wanted = self.wanted(&ca, id, generation).await?;
        // What a crash cut off after it was recorded is known already, as its own.
        let own: Vec<Arc<[u8]>> =
            generation.keys().filter_map(|key| Some(key.certificate.as_ref()?.der.clone())).collect();
        let (root, issuing) = self.pair(&ca, brought, &own)?;
        if generation.anchor().is_some_and(|known| *known != root.certificate.der) {
            return Err(outside("it was signed by another root than the one that was asked".to_owned()));
        }
        if issuing.key != Digest::of(&wanted.spki) {
            return Err(outside("the certificate is for another key than the one that was made here".to_owned()));
        }
        self.asked_for(&ca, wanted, &root, &issuing)?;
        let first = self.first_below(&ca.id, root.key).map(|first| self.known(&first)).transpose()?;
        let known = first.as_ref().and_then(|first| first.root.as_ref()?.list.as_ref());
        let list = self.root_list(&ca, &root, &[&issuing], brought, known)?;
        self.record_certified(&ca, id, outsider(&root), &issuing, list, by).await?;
        let id = id.clone();
        self.complete(&ca, &id, by).await?;
        drop(turn);
        Ok(id)
    }

    /// The root and the issuing CA among what came, both as relying parties would take them.
    fn pair(&self, ca: &Ca, brought: &Brought, known: &[Arc<[u8]>]) -> Result<(Adopted, Adopted), Denied> {
        let [one, other] = &*brought.certificates else {
            let text = format!(
                "two certificates were expected, the root's and the issuing CA's, and {} came",
                brought.certificates.len()
            );
            return Err(Denied::Outside(ca.id.clone(), text));
        };
        let mut others = self.all_ca_certificates();
        others.retain(|der| !known.contains(der));
        // Whichever signed itself is the root.
        let as_root = |der: &Arc<[u8]>| self.mint.adopt(der, &[], &without(&others, der));
        let (root, below) = match (as_root(one), as_root(other)) {
            (Ok(root), _) => (root, other),
            (Err(_), Ok(root)) => (root, one),
            (Err(why), Err(_)) => return Err(Denied::Outside(ca.id.clone(), format!("there is no root: {why}"))),
        };
        let others = without(&others, &root.certificate.der);
        let issuing = self.mint.adopt(below, core::slice::from_ref(&root.certificate.der), &others)?;
        self.believable([root.key, issuing.key])?;
        Ok((root, issuing))
    }

    /// The issuing CA's certificate is what was asked for, byte for byte, but for its serial number and its life.
    fn asked_for(&self, ca: &Ca, wanted: CaCertificate, root: &Adopted, issuing: &Adopted) -> Result<(), Denied> {
        let outside = |text: String| Denied::Outside(ca.id.clone(), text);
        let serial = from_hex(&issuing.certificate.serial).and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
        let serial = serial
            .ok_or_else(|| outside("its serial number has not the 20 bytes of `ca sign-intermediate`".to_owned()))?;
        let validity = issuing.certificate.validity;
        if !validity.contains(self.now()) || validity.not_after > wanted.validity.not_after {
            let (from, to, most) = (validity.not_before, validity.not_after, wanted.validity.not_after);
            return Err(outside(format!(
                "it is valid from {from} to {to}, and {most} is the latest end by the configuration"
            )));
        }
        let again = CaCertificate { serial: SerialNumber::new(serial), validity, ..wanted };
        let blank = self.mint.ca(&again, core::slice::from_ref(&root.certificate.der), &[])?;
        if blank.bytes == issuing.tbs {
            return Ok(());
        }
        Err(outside(
            "it is not what was asked for: names, constraints, path length or another extension differ".to_owned(),
        ))
    }

    /// The root's list among what came: good now, newer than the one that is known, and not against the issuing CA.
    fn root_list(
        &self,
        ca: &Ca,
        root: &Adopted,
        trusted: &[&Adopted],
        brought: &Brought,
        known: Option<&ListMade>,
    ) -> Result<(ListMade, Vec<u8>), Denied> {
        let outside = |text: String| Denied::Outside(ca.id.clone(), text);
        let of_root = |der: &&Vec<u8>| self.mint.adopt_list(der, &root.certificate.der).is_ok();
        let der = brought.lists.iter().find(of_root).ok_or_else(|| {
            outside(
                "the root's revocation list is missing, and peers that demand lists would refuse everybody".to_owned(),
            )
        })?;
        let (list, _) = self.mint.adopt_list(der, &root.certificate.der)?;
        let now = self.now();
        if list.this_update > now || list.next_update <= now {
            return Err(outside(format!(
                "the root's list is for {} to {}, and it is {now}",
                list.this_update, list.next_update
            )));
        }
        if let Some(known) = known
            .filter(|known| list.number < known.number || (list.number == known.number && list.digest != known.digest))
        {
            return Err(outside(format!(
                "the root's list has the number {}, and {} is known",
                list.number, known.number
            )));
        }
        for issuing in trusted {
            if self.mint.is_revoked(der, &issuing.certificate.der)? {
                let title = &issuing.certificate.common_name;
                return Err(outside(format!("the root's list revokes the issuing CA {title}, which is trusted")));
            }
        }
        Ok((list, der.clone()))
    }

    /// A newer list of a root that is outside.
    async fn accept_list(&self, ca: &Ca, brought: &Brought, by: &str) -> Result<GenerationId, Denied> {
        let mut why = Denied::Outside(ca.id.clone(), "neither a certificate nor a revocation list came".to_owned());
        for (id, generation) in self.generations(&ca.id).into_iter().rev() {
            let Some((root, above)) =
                generation.root.as_ref().and_then(|root| Some((root, root.certificate.as_ref()?)))
            else {
                continue;
            };
            if root.keeper != Keeper::Offline || self.owner_of_list(&id, Place::Root) != id {
                continue;
            }
            let as_known = |certificate: &CaSigned, key: &CaKey| Adopted {
                certificate: certificate.clone(),
                key: key.key,
                algorithm: key.algorithm,
                tbs: Vec::new(),
            };
            let above = as_known(above, root);
            // What a rotation retired has to stand in it; what is trusted must not.
            let all = self.generations(&ca.id);
            let below =
                all.iter().filter(|(_, g)| g.phase.is_trusted() && g.root.as_ref().is_some_and(|r| r.key == root.key));
            let below: Vec<Adopted> = below
                .filter_map(|(_, g)| Some(as_known(g.issuing.as_ref()?.certificate.as_ref()?, g.issuing.as_ref()?)))
                .collect();
            let below: Vec<&Adopted> = below.iter().collect();
            match self.root_list(ca, &above, &below, brought, root.list.as_ref()) {
                Ok((list, der)) => {
                    self.shelf.put(&name(&id, Place::Root), &der).await?;
                    let mut next = CaGeneration::clone(&generation);
                    next.root = Some(CaKey { list: Some(list.clone()), ..root.clone() });
                    self.record(&id, next, "ca.accept", vec![("list", Json::str(list.number.to_string()))], by).await?;
                    return Ok(id);
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// What the lists of roots that are outside say is revoked: they are not made here, so they are read.
    pub(super) async fn read_offline_lists(&self) {
        let generations: Vec<_> = self.cas().keys().flat_map(|ca| self.generations(ca)).collect();
        for (id, generation) in &generations {
            let Some(root) = generation.root.as_ref().filter(|root| root.keeper == Keeper::Offline) else { continue };
            if self.owner_of_list(id, Place::Root) != *id || self.says_all(id, Place::Root) {
                continue;
            }
            let Ok(Some(list)) = self.shelf.get(&name(id, Place::Root)).await else { continue };
            let revoked = self.revoked_cas(id);
            let below = generations.iter().filter(|(_, g)| g.root.as_ref().is_some_and(|own| own.key == root.key));
            let certificates: Vec<&CaSigned> =
                below.filter_map(|(_, g)| g.issuing.as_ref()?.certificate.as_ref()).collect();
            let says = |revoked: &Revoked| {
                let own = certificates.iter().find(|c| from_hex(&c.serial).as_deref() == Some(&*revoked.serial));
                own.is_some_and(|c| self.mint.is_revoked(&list, &c.der).unwrap_or(false))
            };
            if revoked.iter().all(says) {
                self.note_said(id, Place::Root, digest_of(&revoked));
            }
        }
    }

    /// Takes over a CA that was made elsewhere, as the first generation.
    ///
    /// # Errors
    /// If there is a generation already, or something does not fit.
    pub async fn import(&self, ca: &CaId, import: Import, by: &str) -> Result<GenerationId, Denied> {
        let _turn = self.turn.lock().await;
        let ca = self.ca(ca)?;
        self.believe_clock()?;
        let there = self.generations(&ca.id);
        if let Some((id, generation)) = there.iter().find(|(_, g)| g.phase != Phase::Making) {
            return Err(Denied::Made(ca.id.clone(), id.number, generation.phase));
        }
        let outside = |text: String| Denied::Outside(ca.id.clone(), text);
        let known: Vec<Arc<[u8]>> = there
            .iter()
            .flat_map(|(_, g)| g.keys().filter_map(|k| Some(k.certificate.as_ref()?.der.clone())))
            .collect();
        let (root, issuing) = self.pair(&ca, &import.brought, &known)?;
        let now = self.now();
        for (what, found) in [("root", &root), ("issuing CA", &issuing)] {
            if !found.certificate.validity.contains(now) {
                let Validity { not_before, not_after } = found.certificate.validity;
                return Err(outside(format!("the {what} is valid from {not_before} to {not_after}, and it is {now}")));
            }
        }
        // The numbers of lists go on where they were; what they revoke is not in the register, and would be forgotten.
        let last = self.issuing_list(&ca, &issuing, &import)?;
        // A root that stays outside brings its list; one that comes along makes the next one here.
        let kept = match &import.root {
            None => Some(self.root_list(&ca, &root, &[&issuing], &import.brought, None)?),
            Some(_) => None,
        };
        let before =
            import.brought.lists.iter().find_map(|der| Some(self.mint.adopt_list(der, &root.certificate.der).ok()?.0));
        let id = match there.first() {
            Some((id, _)) => id.clone(),
            None => self.begin(&ca, 0, Renewal::Both, by).await?,
        };
        self.taken(&ca, &id, Place::Issuing, &import.issuing, issuing.key).await?;
        if let Some(key) = &import.root {
            self.taken(&ca, &id, Place::Root, key, root.key).await?;
        }
        let root_key = match kept {
            None => CaKey { keeper: Keeper::Holder, list: before, ..outsider(&root) },
            Some((list, der)) => {
                self.shelf.put(&name(&id, Place::Root), &der).await?;
                CaKey { list: Some(list), ..outsider(&root) }
            }
        };
        let mut generation = CaGeneration::clone(&*self.known(&id)?);
        generation.issuing = Some(CaKey { keeper: Keeper::Holder, list: last, ..outsider(&issuing) });
        generation.root = Some(root_key);
        let facts = vec![
            ("issuing", Json::show(&issuing.key)),
            ("root", Json::show(&root.key)),
            ("root_kept", Json::str(if import.root.is_some() { Keeper::Holder } else { Keeper::Offline }.as_str())),
        ];
        // What it issued before is nowhere here: whatever is not shown to be over counts as issued until it must have ended,
        // so that the root is trusted for so long.
        let Ok(profile) = ProfileId::parse("imported") else {
            return Err(Denied::Broken("no profile can be named `imported`".to_owned()));
        };
        let before = Issued {
            generation: id.clone(),
            profile,
            names: NameSet::default(),
            spiffe: None,
            spki: issuing.key,
            validity: issuing.certificate.validity,
            at: now,
            fingerprint: None,
            revoked: None,
        };
        let serial: Arc<str> = Arc::from(hex(issuing.key.0.get(..20).unwrap_or_default()));
        let unknown = Change::Issued(serial, Some(Arc::new(before)));
        self.record_with(vec![unknown], &id, generation, "ca.import", facts, by).await?;
        self.complete(&ca, &id, by).await?;
        Ok(id)
    }

    /// What the CA's last list said; one that revokes something is taken only by whoever says how much is to be forgotten.
    fn issuing_list(&self, ca: &Ca, issuing: &Adopted, import: &Import) -> Result<Option<ListMade>, Denied> {
        let mut lists =
            import.brought.lists.iter().filter_map(|der| self.mint.adopt_list(der, &issuing.certificate.der).ok());
        match lists.next() {
            Some((_, entries)) if entries != import.forget => {
                let text = format!(
                    "its list revokes {entries} certificates, which would be taken for good: have them expire first, or say --forget-revoked {entries}"
                );
                Err(Denied::Outside(ca.id.clone(), text))
            }
            Some((list, _)) => Ok(Some(list)),
            None => Ok(None),
        }
    }

    /// Hands a key to the holder.
    async fn taken(
        &self,
        ca: &Ca,
        id: &GenerationId,
        place: Place,
        key: &PrivateKey,
        expected: Digest,
    ) -> Result<(), Denied> {
        if self.holder.keys().await?.iter().any(|held| Digest::of(&held.spki) == expected) {
            return Ok(());
        }
        let label = format!("{id} {}", place.as_str());
        let operation = Operation::Import { key: expected, label: Arc::from(label.as_str()) };
        let (intent, warrant) = self.announce(&ca.id, &operation, None, Vec::new()).await?;
        match self.holder.import(key, &label, &warrant).await {
            Ok(_) => {
                self.done(&ca.id, intent, Vec::new(), vec![("key", Json::show(&expected))], None).await?;
                Ok(())
            }
            Err(error) => Err(self.failed(&ca.id, intent, error, Vec::new()).await),
        }
    }

    async fn record_certified(
        &self,
        ca: &Ca,
        id: &GenerationId,
        root: CaKey,
        issuing: &Adopted,
        (made, list): (ListMade, Vec<u8>),
        by: &str,
    ) -> Result<(), Denied> {
        let mut generation = CaGeneration::clone(&*self.known(id)?);
        let own = generation.issuing.take();
        let own = own.ok_or_else(|| Denied::Broken(format!("generation {id} of {} has no issuing key", ca.id)))?;
        generation.issuing = Some(CaKey { certificate: Some(issuing.certificate.clone()), ..own });
        let facts = vec![("issuing", Json::show(&issuing.key)), ("root", Json::show(&root.key))];
        // A root that stays keeps its list where it was first.
        let owner = self.first_below(&ca.id, root.key).unwrap_or_else(|| id.clone());
        // On the shelf first, as every list.
        self.shelf.put(&name(&owner, Place::Root), &list).await?;
        let own = owner == *id;
        generation.root = Some(CaKey { list: Some(made.clone()).filter(|_| own), ..root });
        if !own {
            let mut first = CaGeneration::clone(&*self.known(&owner)?);
            first.root = first.root.map(|root| CaKey { list: Some(made), ..root });
            self.record(&owner, first, "ca.accept", Vec::new(), by).await?;
        }
        self.record(id, generation, "ca.accept", facts, by).await
    }

    /// The first generation below a root: it has the root's list.
    fn first_below(&self, ca: &CaId, root: Digest) -> Option<GenerationId> {
        let all = self.generations(ca);
        all.into_iter().find(|(_, g)| g.root.as_ref().is_some_and(|own| own.key == root)).map(|(id, _)| id)
    }

    async fn record(
        &self,
        id: &GenerationId,
        generation: CaGeneration,
        action: &'static str,
        facts: Vec<(&'static str, Json)>,
        by: &str,
    ) -> Result<(), Denied> {
        self.record_with(Vec::new(), id, generation, action, facts, by).await
    }

    async fn record_with(
        &self,
        mut changes: Vec<Change>,
        id: &GenerationId,
        generation: CaGeneration,
        action: &'static str,
        mut facts: Vec<(&'static str, Json)>,
        by: &str,
    ) -> Result<(), Denied> {
        let code = if action == "ca.import" { "KW4609" } else { "KW4608" };
        let mut draft = self.draft(action, code, &id.ca, Some(by));
        facts.push(("generation", Json::show(id)));
        draft.facts = facts;
        changes.push(Change::Generation(id.clone(), Arc::new(generation)));
        Ok(self.engine.commit(Batch { changes, entries: vec![draft] }).await?)
    }
}

/// As a key of this CA that is kept elsewhere.
fn outsider(found: &Adopted) -> CaKey {
    CaKey {
        key: found.key,
        algorithm: found.algorithm,
        keeper: Keeper::Offline,
        certificate: Some(found.certificate.clone()),
        list: None,
    }
}

fn without(all: &[Arc<[u8]>], one: &Arc<[u8]>) -> Vec<Arc<[u8]>> {
    all.iter().filter(|other| *other != one).cloned().collect()
}
