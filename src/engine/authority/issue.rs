//! Issuing a leaf, and revoking one.

use std::sync::Arc;

use crate::domain::audit::{Target, TargetKind};
use crate::domain::authority::{Ca, Leaf, RevocationReason, Wish, decide};
use crate::domain::id::{CaId, ProfileId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::register::{GenerationId, Issued};
use crate::domain::rotation::{self, PieceOn, compromised};
use crate::domain::state::{Change, Latch, LatchOn};
use crate::domain::time::Validity;
use crate::engine::authority::make::Place;
use crate::engine::authority::{Authority, Denied, Signer};
use crate::ports::Batch;

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The leaf and the issuing CA's certificate (DER): what a TLS server sends.
    pub chain: Vec<Arc<[u8]>>,
    /// By which generation.
    pub generation: GenerationId,
    /// Its serial number in hexadecimal.
    pub serial: Arc<str>,
    /// Its validity.
    pub validity: Validity,
    /// SHA-256 of it.
    pub fingerprint: Digest,
}

impl Authority {
    /// Issues a leaf. `by` is who asked, for the audit log.
    ///
    /// # Errors
    /// [`Denied`]: nothing was signed, or what was signed is recorded and given to nobody.
    pub async fn issue(&self, ca: &CaId, profile: &ProfileId, wish: &Wish, by: &str) -> Result<Given, Denied> {
        let ca = self.ca(ca)?;
        let unknown = || Denied::UnknownProfile(ca.id.clone(), profile.clone());
        let profile = ca.profiles.get(profile).ok_or_else(unknown)?;
        self.believe_clock()?;
        let spki = Digest::of(&wish.spki);
        self.certifiable(spki)?;
        let signer = self.signer(&ca.id)?;
        self.may_go_on(&signer.id)?;
        let now = self.now();
        let leaf = decide(&ca, profile, wish, signer.validity, self.serial(), now)?;
        self.certified(&ca, &profile.id, signer, leaf, by).await
    }

    /// A generation whose key is in other hands issues no more once its replacement waits for a person: what breaks could
    /// never be signed off while it grew.
    fn may_go_on(&self, id: &GenerationId) -> Result<(), Denied> {
        let said = {
            let desk = self.engine.read();
            desk.state.pieces.keys().any(|piece| piece.ca == id.ca && matches!(piece.on, PieceOn::Compromised(_)))
        };
        if !said {
            return Ok(());
        }
        let outlook = self.outlook(&id.ca)?;
        let bad = compromised(&outlook.standing, &outlook.evidence);
        let waits = outlook.standing.generations.iter().any(|g| {
            g.number > id.number
                && g.phase == rotation::Phase::Staged
                && g.abandoned.is_none()
                && !bad.contains(&g.number)
        });
        if !(bad.contains(&id.number) && waits) {
            return Ok(());
        }
        Err(Denied::Waits(format!(
            "a key of generation {id} is in other hands, and its replacement waits for a person: keyward ca emergency {}",
            id.ca
        )))
    }

    /// Has a leaf signed that was decided: the register has it before, and the log with it afterwards.
    pub(super) async fn certified(
        &self,
        ca: &Ca,
        profile: &ProfileId,
        signer: Signer,
        leaf: Leaf,
        by: &str,
    ) -> Result<Given, Denied> {
        let (now, spki) = (self.now(), Digest::of(&leaf.spki));
        let blank = self.mint.leaf(&leaf, &signer.chain, ca)?;
        let serial: Arc<str> = Arc::from(leaf.serial.to_string());
        let issued = Issued {
            generation: signer.id.clone(),
            profile: profile.clone(),
            names: leaf.names.clone(),
            spiffe: leaf.spiffe.clone(),
            spki,
            validity: leaf.validity,
            at: now,
            fingerprint: None,
            revoked: None,
        };
        let change = |issued: Option<Issued>| vec![Change::Issued(serial.clone(), issued.map(Arc::new))];
        let issuing = signer.chain.first().ok_or_else(|| Denied::NotMade(ca.id.clone()))?;
        let public = self.mint.public_key(issuing)?;
        let page = self.book.page();
        let announced = {
            let _page = page.lock().await;
            self.certifiable(spki)?;
            self.announced(&ca.id, &blank, change(Some(issued.clone()))).await?
        };
        let intent = announced.0;
        let der = self.carried(&ca.id, &blank, &public, announced, change(None)).await?;
        let fingerprint = Digest::of(&der);
        let facts = vec![
            ("fingerprint", Json::show(&fingerprint)),
            ("generation", Json::show(&signer.id)),
            ("names", Json::Shared(leaf.names.key().clone())),
            ("not_after", Json::show(&leaf.validity.not_after)),
            ("profile", Json::shared(profile)),
            ("serial", Json::Shared(serial.clone())),
            ("spiffe", Json::opt(leaf.spiffe.as_ref().map(Json::show))),
            ("wanted_by", Json::str(by.to_owned())),
        ];
        let revoked = {
            let _page = page.lock().await;
            // Somebody may have revoked it already, or its key: what was signed must not undo that.
            let known = self.engine.read().state.issued.get(&serial).and_then(|i| i.revoked);
            let blocked = self.certifiable(spki).is_err().then_some((now, RevocationReason::KeyCompromise));
            let revoked = known.or(blocked);
            let issued = Issued { fingerprint: Some(fingerprint), revoked, ..issued };
            self.done(&ca.id, intent, change(Some(issued)), facts, Some(&der)).await?;
            revoked
        };
        if revoked.is_some() {
            return Err(Denied::BadKey(spki.to_string(), "it was revoked while its certificate was made"));
        }
        let mut chain = vec![Arc::from(der), issuing.clone()];
        chain.extend(self.crosses(&signer.id, leaf.validity.not_after));
        Ok(Given { chain, generation: signer.id, serial, validity: leaf.validity, fingerprint })
    }

    /// Whether a key may have a certificate: nobody said it is compromised, and it is no CA's own.
    fn certifiable(&self, spki: Digest) -> Result<(), Denied> {
        let desk = self.engine.read();
        if desk.state.latches.contains_key(&LatchOn::Key(spki)) {
            return Err(Denied::BadKey(spki.to_string(), "it was said to be compromised"));
        }
        let mut keys = desk.state.generations.values().flat_map(|g| g.keys());
        match keys.any(|key| key.key == spki) {
            true => Err(Denied::BadKey(spki.to_string(), "it is the key of a CA")),
            false => Ok(()),
        }
    }

    /// Revokes a certificate and publishes the list that says so. A compromised key is blocked for ever, and everything else
    /// that was issued for it is revoked too. Gives the serial numbers.
    ///
    /// # Errors
    /// [`Denied`]; if it is recorded and only the list could not be made, the loop makes it as soon as it can.
    pub async fn revoke(&self, serial: &str, reason: RevocationReason, by: &str) -> Result<Vec<Arc<str>>, Denied> {
        let found = self.engine.read().state.issued.get(serial).cloned();
        let found = found.ok_or_else(|| Denied::UnknownSerial(serial.to_owned()))?;
        let block = (reason == RevocationReason::KeyCompromise).then_some(found.spki);
        let which = |key: &Arc<str>, issued: &Issued| **key == *serial || block == Some(issued.spki);
        self.revoke_those(which, block, reason, by).await
    }

    /// Revokes one certificate, whatever the reason: for somebody whose word on its key does not count. Else as
    /// [`Self::revoke`].
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn revoke_only(&self, serial: &str, reason: RevocationReason, by: &str) -> Result<Vec<Arc<str>>, Denied> {
        if !self.engine.read().state.issued.contains_key(serial) {
            return Err(Denied::UnknownSerial(serial.to_owned()));
        }
        self.revoke_those(|key, _| **key == *serial, None, reason, by).await
    }

    /// Whether somebody said that a key is in other hands.
    #[must_use]
    pub fn is_compromised(&self, spki: Digest) -> bool {
        self.engine.read().state.latches.contains_key(&LatchOn::Key(spki))
    }

    /// Blocks a key for ever, and revokes everything that was issued for it.
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn revoke_key(&self, spki: Digest, by: &str) -> Result<Vec<Arc<str>>, Denied> {
        self.revoke_those(|_, issued| issued.spki == spki, Some(spki), RevocationReason::KeyCompromise, by).await
    }

    async fn revoke_those(
        &self,
        which: impl Fn(&Arc<str>, &Issued) -> bool,
        block: Option<Digest>,
        reason: RevocationReason,
        by: &str,
    ) -> Result<Vec<Arc<str>>, Denied> {
        let (now, person) = (self.now(), self.engine.person(by));
        let known = |key: &Digest| {
            let (desk, on) = (self.engine.read(), LatchOn::Key(*key));
            desk.state.latches.contains_key(&on) && !desk.unsaved_latches.contains_key(&on)
        };
        let block = block.filter(|key| !known(key)).map(|key| {
            let by: Arc<str> = Arc::from(person.commitment().to_string());
            let text = Arc::from("its certificate was revoked because the key is in other hands");
            (key, Latch { at: now, code: Arc::from("KW4606"), text, by: Some(by) })
        });
        if let Some((key, latch)) = &block {
            // It only removes authority: it holds at once, also for what is being issued.
            self.engine.block_key(&LatchOn::Key(*key), latch).await;
        }
        let book = self.book.whole().await;
        let all: Vec<(Arc<str>, Issued)> = {
            let desk = self.engine.read();
            let those = desk.state.issued.iter().filter(|(serial, i)| which(serial, i));
            those.map(|(serial, issued)| (serial.clone(), Issued::clone(issued))).collect()
        };
        let found: Vec<(Arc<str>, Issued)> = all.iter().filter(|(_, i)| i.revoked.is_none()).cloned().collect();
        // Revoking again changes nothing: the first time and reason stand.
        let mut batch = Batch::default();
        for (serial, issued) in &found {
            let revoked = Issued { revoked: Some((now, reason)), ..issued.clone() };
            batch.changes.push(Change::Issued(serial.clone(), Some(Arc::new(revoked))));
            let mut draft = self.draft("ca.revoke", "KW4605", &issued.generation.ca, None);
            draft.by(&person);
            draft.target.serial = Some(serial.clone());
            draft.target.spki = Some(issued.spki);
            draft.facts = vec![("generation", Json::show(&issued.generation)), ("reason", Json::str(reason.as_str()))];
            batch.entries.push(draft);
        }
        if let Some((key, latch)) = block {
            batch.changes.push(Change::Latch(LatchOn::Key(key), Some(latch)));
            let target = Target::new(TargetKind::Daemon, "keyward");
            let mut draft = self.engine.draft("key.block", "KW4606", target);
            draft.by(&person);
            draft.target.spki = Some(key);
            batch.entries.push(draft);
        }
        if !batch.entries.is_empty() {
            self.engine.commit(batch).await?;
        }
        drop(book);
        // Asked again, a list that could not be made before is made now.
        let mut touched: Vec<GenerationId> = all.iter().map(|(_, issued)| issued.generation.clone()).collect();
        touched.sort();
        touched.dedup();
        let mut failed = None;
        for generation in touched.iter().filter(|generation| !self.says_all(generation, Place::Issuing)) {
            failed = self.publish(generation).await.err().or(failed);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(found.into_iter().map(|(serial, _)| serial).collect())
    }
}
