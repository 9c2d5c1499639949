//! Keys of CAs in other hands. They are blocked for ever, as those of leaves are, once nobody trusts them any more: while a
//! replacement is made, whoever relies on them still has to, and a person has to see what breaks first.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::id::CaId;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::register::GenerationId;
use crate::domain::rotation::{self, Evidence, PieceOn, Standing, compromised};
use crate::domain::state::{Change, Latch, LatchOn};
use crate::domain::time::Timestamp;
use crate::engine::authority::{Authority, Denied};
use crate::ports::Batch;

/// What is written down of it.
pub(super) type Blocking = (Vec<Change>, Vec<Draft>);

impl Authority {
    /// Revokes a generation that others do without: it leaves as one does whose key is in other hands.
    ///
    /// # Errors
    /// [`Denied::Gone`] if nobody trusts it any more, [`Denied::Needed`] if what signs now would go with it; or as
    /// [`Self::compromised`].
    pub async fn revoke_generation(&self, ca: &CaId, number: u32, why: &str, by: &str) -> Result<(), Denied> {
        // No step comes between what is judged and what is written.
        let _turn = self.turn.lock().await;
        let outlook = self.outlook(ca)?;
        let own = outlook.standing.generation(number).ok_or(rotation::Refused::Unknown(number))?;
        let id = GenerationId { ca: ca.clone(), number };
        if matches!(own.phase, rotation::Phase::Retired | rotation::Phase::Destroyed) {
            return Err(Denied::Gone(id, own.phase));
        }
        if let Some(signer) = rotation::signer(&outlook.standing) {
            let mut gone = outlook.evidence.clone();
            gone.compromised.insert(number, order(by, why, outlook.now));
            if signer.number == number {
                return Err(Denied::Needed(id, "signs"));
            }
            if compromised(&outlook.standing, &gone).contains(&signer.number) {
                return Err(Denied::Needed(id, "shares a key with the one that signs"));
            }
        }
        self.compromised_in_turn(ca, number, why, by).await
    }

    /// Somebody says that a key of a generation is in other hands. Its keys are blocked for ever: at once if nobody trusts
    /// them, else with the step by which it leaves.
    ///
    /// # Errors
    /// If there is none of this number; or it cannot be recorded.
    pub async fn compromised(&self, ca: &CaId, number: u32, why: &str, by: &str) -> Result<(), Denied> {
        let _turn = self.turn.lock().await;
        self.compromised_in_turn(ca, number, why, by).await
    }

    async fn compromised_in_turn(&self, ca: &CaId, number: u32, why: &str, by: &str) -> Result<(), Denied> {
        let mut outlook = self.outlook(ca)?;
        outlook.standing.generation(number).ok_or(rotation::Refused::Unknown(number))?;
        outlook.evidence.compromised.insert(number, order(by, why, outlook.now));
        let blocking = self.blocking(&outlook.standing, &outlook.evidence, Some(by));
        let on = PieceOn::Compromised(number);
        self.order(ca, on, ("ca.compromised", "KW4637"), Some(number), why, by, blocking).await
    }

    /// What blocks the keys that are said to be in other hands, as far as no generation of this standing is trusted by them.
    pub(super) fn blocking(&self, standing: &Standing, evidence: &Evidence, by: Option<&str>) -> Blocking {
        let keys = |g: &rotation::Generation| [g.root.key, g.issuing.key];
        let trusted: BTreeSet<Digest> =
            standing.generations.iter().filter(|g| g.phase.is_trusted()).flat_map(keys).collect();
        let said = standing.generations.iter().filter(|g| evidence.compromised.contains_key(&g.number));
        let (mut changes, mut entries, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (number, key) in said.flat_map(|g| keys(g).map(|key| (g.number, key))) {
            if trusted.contains(&key) || self.is_compromised(key) || !seen.insert(key) {
                continue;
            }
            let id = GenerationId { ca: standing.ca.clone(), number };
            let mut draft = self.engine.draft("key.block", "KW4606", Target::new(TargetKind::Daemon, "keyward"));
            draft.target.spki = Some(key);
            draft.facts = vec![("generation", Json::show(&id))];
            let person = by.map(|by| self.engine.person(by));
            if let Some(person) = &person {
                draft.by(person);
            }
            let text = Arc::from(format!("a key of generation {id} is in other hands"));
            let by = person.map(|person| Arc::from(person.commitment().to_string()));
            changes.push(Change::Latch(
                LatchOn::Key(key),
                Some(Latch { at: draft.at, code: Arc::from("KW4606"), text, by }),
            ));
            entries.push(draft);
        }
        (changes, entries)
    }

    /// Commits what happened together with what it blocks; paths that stand on that close at once.
    pub(super) async fn commit_blocking(
        &self,
        mut changes: Vec<Change>,
        draft: Draft,
        (blocks, blocked): Blocking,
    ) -> Result<(), Denied> {
        let closes = !blocks.is_empty();
        changes.extend(blocks);
        let entries = core::iter::once(draft).chain(blocked).collect();
        self.engine.commit(Batch { changes, entries }).await?;
        if closes {
            self.engine.evaluate(None).await;
        }
        Ok(())
    }

    /// Whether a CA may have these keys: nobody said that they are in other hands.
    pub(super) fn believable(&self, keys: impl IntoIterator<Item = Digest>) -> Result<(), Denied> {
        match keys.into_iter().find(|key| self.is_compromised(*key)) {
            Some(key) => Err(Denied::BadKey(key.to_string(), "it was said to be compromised")),
            None => Ok(()),
        }
    }
}

fn order(by: &str, why: &str, at: Timestamp) -> rotation::Order {
    rotation::Order { by: Arc::from(by), at, why: Arc::from(why), about: None }
}
