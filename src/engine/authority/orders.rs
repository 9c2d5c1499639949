//! What people order about a rotation, and what relying parties say. An order is written down and nothing else: what it
//! comes to is decided like everything else.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::authority::{BACKDATE, CaCertificate, Constraints};
use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::register::GenerationId;
use crate::domain::rotation::{
    self, Breakage, Cross, Foreseen, HeldLeaf, Inventory, Piece, PieceOn, Refused, breakage, bundle, plan,
};
use crate::domain::time::{Timestamp, Validity};
use crate::engine::authority::blocked::Blocking;
use crate::engine::authority::rotate::{CANARY, Outlook, piece};
use crate::engine::authority::{Authority, Denied};
use crate::ports::Batch;

impl Authority {
    /// Somebody wants a rotation before its time: it skips the timers, not the evidence.
    ///
    /// # Errors
    /// If there is no such CA, nothing of it was made yet, or it cannot be recorded.
    pub async fn ask_rotation(&self, ca: &CaId, why: &str, by: &str) -> Result<(), Denied> {
        let signer = self.signer(ca)?;
        self.order(ca, PieceOn::Asked, ("ca.rotate", "KW4635"), Some(signer.id.number), why, by, Blocking::default())
            .await
    }

    /// Somebody wants a generation rolled back.
    ///
    /// # Errors
    /// If there is none of this number that could be; or it cannot be recorded.
    pub async fn roll_back(&self, ca: &CaId, number: u32, why: &str, by: &str) -> Result<(), Denied> {
        let outlook = self.outlook(ca)?;
        let own = outlook.standing.generation(number).ok_or(Refused::Unknown(number))?;
        let newest = outlook.standing.generations.iter().filter(|g| g.abandoned.is_none()).map(|g| g.number).max();
        let kind = rotation::Kind::Abandon;
        // One that drains because a newer one signs is what a rollback goes back to.
        if kind.leads(own.phase).is_none() || newest != Some(number) {
            return Err(Refused::NoSuchMove { kind, from: own.phase }.into());
        }
        let bad = rotation::compromised(&outlook.standing, &outlook.evidence);
        let back = |g: &&rotation::Generation| {
            let fit = g.abandoned.is_none() && !bad.contains(&g.number);
            g.number != number && fit && g.has_signed() && g.phase.is_trusted()
        };
        if own.has_signed() && !outlook.standing.generations.iter().any(|g| back(&g)) {
            return Err(Refused::Held(rotation::Hold::NoReplacement(number)).into());
        }
        self.order(ca, PieceOn::Rollback(number), ("ca.rollback", "KW4636"), Some(number), why, by, Blocking::default())
            .await
    }

    /// What breaks if the compromised generations go at once; `None` while nothing is compromised and trusted, or nothing is
    /// staged that could replace it.
    ///
    /// # Errors
    /// If there is no such CA.
    pub fn breakage(&self, ca: &CaId) -> Result<Option<Breakage>, Denied> {
        let outlook = self.outlook(ca)?;
        let bad = rotation::compromised(&outlook.standing, &outlook.evidence);
        if !outlook.standing.generations.iter().any(|g| g.phase.is_trusted() && bad.contains(&g.number)) {
            return Ok(None);
        }
        let fit = |g: &&rotation::Generation| !bad.contains(&g.number) && g.abandoned.is_none();
        let waiting = |g: &&rotation::Generation| matches!(g.phase, rotation::Phase::Staged | rotation::Phase::Signing);
        let next = outlook.standing.generations.iter().rev().filter(waiting).find(fit);
        Ok(next.map(|next| breakage(&outlook.standing, next, outlook.facts())))
    }

    /// Somebody saw exactly this list of what breaks, and wants it so.
    ///
    /// # Errors
    /// [`Denied::OtherBreakage`] if it is another list by now.
    pub async fn sign_off(&self, ca: &CaId, shown: Digest, by: &str) -> Result<Breakage, Denied> {
        let nothing = || Denied::NothingToSignOff(ca.clone());
        let breaks = self.breakage(ca)?.ok_or_else(nothing)?;
        if breaks.digest() != shown {
            return Err(Denied::OtherBreakage(breaks));
        }
        let person = self.engine.person(by);
        let mut draft = self.draft("ca.sign-off", "KW4638", ca, Some(by));
        draft.facts = vec![("breakage", Json::str(breaks.line())), ("digest", Json::show(&shown))];
        let said = Piece {
            by: Some(Arc::from(person.commitment().to_string())),
            detail: Some(Arc::from(breaks.line())),
            ..Piece::at(self.now())
        };
        let changes = vec![piece(ca, PieceOn::SignedOff(breaks.replacement), said)];
        self.engine.commit(Batch { changes, entries: vec![draft] }).await?;
        Ok(breaks)
    }

    /// Somebody wants nothing of a CA trusted any more, and has typed its name.
    ///
    /// # Errors
    /// [`Denied::NotMeant`] if they typed something else.
    pub async fn distrust_all(&self, ca: &CaId, typed: &str, by: &str) -> Result<(), Denied> {
        self.ca(ca)?;
        if typed != ca.as_str() {
            return Err(Denied::NotMeant(ca.clone()));
        }
        self.order(ca, PieceOn::Distrust, ("ca.distrust", "KW4639"), None, "", by, Blocking::default()).await
    }

    #[allow(clippy::too_many_arguments, reason = "an order is all of this")]
    pub(super) async fn order(
        &self,
        ca: &CaId,
        on: PieceOn,
        (action, code): (&'static str, &'static str),
        number: Option<u32>,
        why: &str,
        by: &str,
        blocking: Blocking,
    ) -> Result<(), Denied> {
        let person = self.engine.person(by);
        let why: Option<Arc<str>> = Some(why).filter(|w| !w.is_empty()).map(Arc::from);
        let mut draft = self.draft(action, code, ca, Some(by));
        draft.facts = vec![("generation", Json::opt(number.map(|n| Json::show(&n))))];
        draft.private.extend(why.clone().map(|why| ("why", why)));
        let by = Some(Arc::from(person.commitment().to_string()));
        // An order to rotate is about the generation that signs now.
        let version = number.filter(|_| on == PieceOn::Asked).map(u64::from);
        let changes = vec![piece(ca, on, Piece { by, why, version, ..Piece::at(self.now()) })];
        self.commit_blocking(changes, draft, blocking).await
    }

    /// A relying party says which bundle it goes by, and that it has given up all sessions of who is not in it.
    ///
    /// # Errors
    /// [`Denied::UnknownParty`]; [`Denied::OtherBundle`] if there is no such bundle.
    pub async fn acknowledge(
        &self,
        ca: &CaId,
        party: &RelyingPartyId,
        version: u64,
        digest: Digest,
        by: Option<&str>,
    ) -> Result<(), Denied> {
        let outlook = self.outlook(ca)?;
        if !outlook.setting.parties.contains_key(party) {
            return Err(Denied::UnknownParty(ca.clone(), party.clone()));
        }
        let current = bundle(&outlook.standing, outlook.evidence.distrust.as_ref());
        let current = current.map_err(|empty| Refused::Held(empty.into()))?;
        // What an older one was is not known any more; that the party lags behind is worth knowing.
        if version > current.version || (version == current.version && digest != current.digest) {
            return Err(Denied::OtherBundle { version: current.version, digest: current.digest });
        }
        let retired = outlook.standing.generations.iter().filter(|g| g.phase == rotation::Phase::Retired);
        let dropped: Vec<u32> = match version == current.version {
            true => retired.map(|g| g.number).collect(),
            false => Vec::new(),
        };
        self.acknowledged(ca, party, version, digest, by, &dropped).await
    }

    /// Certifies the root of one generation by that of another.
    ///
    /// # Errors
    /// If the rules do not allow it now, or the key holder does not do it.
    pub async fn cross_sign(&self, ca: &CaId, subject: u32, issuer: u32, by: &str) -> Result<Digest, Denied> {
        let _turn = self.turn.lock().await;
        self.believe_clock()?;
        let (outlook, configured) = (self.outlook(ca)?, self.ca(ca)?);
        let id = |number| GenerationId { ca: ca.clone(), number };
        let known = |number| self.known(&id(number)).map_err(|_| Refused::Unknown(number));
        let (of, above) = (known(subject)?, known(issuer)?);
        let missing = || Denied::Broken("a generation lacks its root certificate".to_owned());
        let own = of.root.as_ref().and_then(|k| k.certificate.as_ref()).ok_or_else(missing)?;
        let root = above.anchor().cloned().ok_or_else(missing)?;
        let within = own.validity.intersection(&above.root.as_ref().and_then(|k| k.validity()).ok_or_else(missing)?);
        let validity = Validity { not_before: self.now().minus(BACKDATE).max(within.not_before), ..within };
        // Judged before anything is signed.
        let trial = Cross { subject, issuer, certificate: Digest([0; 32]), validity };
        rotation::cross_sign(&outlook.standing, trial.clone(), outlook.facts())?;
        let template = CaCertificate {
            serial: self.serial(),
            validity,
            common_name: own.common_name.to_string(),
            organization: configured.organization.clone(),
            trust_domain: configured.trust_domain.clone(),
            path_length: Some(1),
            constraints: Constraints::default(),
            spki: self.mint.public_key(&own.der)?,
        };
        // It has the name and the key of the root that it certifies: that is what it is for.
        let blank = self.mint.ca(&template, core::slice::from_ref(&root), &[])?;
        let (der, intent) = self.signed(ca, &blank, &self.mint.public_key(&root)?, Vec::new()).await?;
        let certificate = Digest::of(&der);
        let cross = Piece {
            by: Some(Arc::from(self.engine.person(by).commitment().to_string())),
            digest: Some(certificate),
            detail: Some(Piece::of_cross(validity, &template.serial.to_string())),
            der: Some(Arc::from(&*der)),
            ..Piece::at(self.now())
        };
        let facts = vec![
            ("fingerprint", Json::show(&certificate)),
            ("issuer", Json::show(&id(issuer))),
            ("not_after", Json::show(&validity.not_after)),
            ("serial", Json::show(&template.serial)),
            ("subject", Json::show(&id(subject))),
        ];
        let changes = vec![piece(ca, PieceOn::Cross(subject, issuer), cross)];
        self.done(ca, intent, changes, facts, Some(&der)).await?;
        Ok(certificate)
    }

    /// The cross-signatures that go behind a leaf's chain (DER).
    pub(super) fn crosses(&self, id: &GenerationId, leaf_ends: Timestamp) -> Vec<Arc<[u8]>> {
        let desk = self.engine.read();
        let standing = crate::domain::rotating::standing(&desk.state, &id.ca);
        let good: BTreeSet<Digest> = standing.crosses_for(id.number, leaf_ends).map(|c| c.certificate).collect();
        let pieces = desk.state.pieces.iter().filter(|(p, _)| p.ca == id.ca && matches!(p.on, PieceOn::Cross(..)));
        pieces.filter(|(_, p)| p.digest.is_some_and(|d| good.contains(&d))).filter_map(|(_, p)| p.der.clone()).collect()
    }

    /// Plays the next rotation through: who would break at each phase if it came with the world as it is.
    ///
    /// # Errors
    /// If there is no such CA.
    pub fn foresee(&self, ca: &CaId) -> Result<(Outlook, Vec<Foreseen>), Denied> {
        let outlook = self.outlook(ca)?;
        let mut trusts = std::collections::BTreeMap::new();
        for here in self.relying.here(ca) {
            trusts.extend(here.anchors.map(|anchors| (here.party, anchors)));
        }
        if let Ok(current) = bundle(&outlook.standing, outlook.evidence.distrust.as_ref()) {
            let anchors: BTreeSet<Digest> = current.anchors.iter().copied().collect();
            for (party, said) in &outlook.evidence.acknowledged {
                if said.version == current.version && said.digest == current.digest {
                    trusts.entry(party.clone()).or_insert_with(|| anchors.clone());
                }
            }
        }
        let leaves = {
            let desk = self.engine.read();
            let now = outlook.now;
            let own = desk.state.issued.values().filter(|i| i.generation.ca == *ca && i.validity.not_after > now);
            let own = own.filter(|i| i.revoked.is_none() && i.profile.as_str() != CANARY);
            own.map(|i| HeldLeaf {
                holder: i.spiffe.as_ref().map_or_else(|| i.names.key().clone(), |id| Arc::from(id.as_str())),
                generation: i.generation.number,
                ends: i.validity.not_after,
            })
            .collect()
        };
        let foreseen = plan(&outlook.standing, &Inventory { trusts, leaves }, outlook.facts());
        Ok((outlook, foreseen))
    }

    /// Somebody's name, where a piece has a pseudonym.
    #[must_use]
    pub fn name_of(&self, pseudonym: &str) -> Arc<str> {
        self.engine.read().people.name(pseudonym)
    }
}
