//! One operation of the key holder: announced, proved, carried out.

use std::sync::Arc;

use crate::domain::audit::{Draft, Evidence, LONGEST_EVIDENCE, Outcome, Phase as Part};
use crate::domain::id::{CaId, EntryId};
use crate::domain::json::Json;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::state::Change;
use crate::domain::time::Timestamp;
use crate::engine::authority::{Authority, Denied};
use crate::ports::{Batch, Blank, HeldKey, HolderError, Operation, StoreError, Warrant};

/// Every operation is announced by this action; the key holder takes no other.
pub(super) const KEY: &str = "ca.key";

impl Authority {
    /// Has the holder sign what stands on a blank. `changes` go with the intent.
    /// Gives the certificate or list, and the intent, which the caller concludes.
    pub(super) async fn signed(
        &self,
        ca: &CaId,
        blank: &Blank,
        signer: &[u8],
        changes: Vec<Change>,
    ) -> Result<(Vec<u8>, EntryId), Denied> {
        let announced = self.announced(ca, blank, changes).await?;
        let intent = announced.0;
        Ok((self.carried(ca, blank, signer, announced, Vec::new()).await?, intent))
    }

    /// Announces a signature.
    pub(super) async fn announced(
        &self,
        ca: &CaId,
        blank: &Blank,
        changes: Vec<Change>,
    ) -> Result<(EntryId, Warrant), Denied> {
        let operation = Operation::Sign { key: blank.key, kind: blank.kind, tbs: Digest::of(&blank.bytes) };
        self.announce(ca, &operation, Some(&blank.bytes), changes).await
    }

    /// Has the holder carry out a signature that is announced. `undone` goes with the record of a refusal.
    pub(super) async fn carried(
        &self,
        ca: &CaId,
        blank: &Blank,
        signer: &[u8],
        (intent, warrant): (EntryId, Warrant),
        undone: Vec<Change>,
    ) -> Result<Vec<u8>, Denied> {
        let done = self.holder.sign(blank.key, blank.kind, &blank.bytes, &warrant).await;
        let signature = match done {
            Ok(signature) => signature,
            Err(error) => return Err(self.failed(ca, intent, error, undone).await),
        };
        match self.mint.finish(blank, &signature, signer) {
            Ok(der) => Ok(der),
            Err(error) => {
                self.conclude(ca, intent, Outcome::Failure, "KW4602", Vec::new(), &error.0).await?;
                Err(error.into())
            }
        }
    }

    /// Has the holder make a key. Gives it, and the intent, which the caller concludes.
    pub(super) async fn generated(
        &self,
        ca: &CaId,
        algorithm: KeyAlgorithm,
        label: &str,
    ) -> Result<(HeldKey, EntryId), Denied> {
        let operation = Operation::Generate { algorithm, label: Arc::from(label) };
        let (intent, warrant) = self.announce(ca, &operation, None, Vec::new()).await?;
        match self.holder.generate(algorithm, label, &warrant).await {
            Ok(key) => Ok((key, intent)),
            Err(error) => Err(self.failed(ca, intent, error, Vec::new()).await),
        }
    }

    /// Makes the intent durable and fetches its proof.
    pub(super) async fn announce(
        &self,
        ca: &CaId,
        operation: &Operation,
        tbs: Option<&[u8]>,
        changes: Vec<Change>,
    ) -> Result<(EntryId, Warrant), Denied> {
        let mut draft = self.draft(KEY, "KW4600", ca, None);
        let intent = draft.id;
        draft.phase = Part::Intent;
        draft.facts = operation.facts().into_iter().map(|(name, text)| (name, Json::str(text))).collect();
        // A revocation list may be longer than evidence can be; it lies on the shelf.
        if let Some(bytes) = tbs.filter(|bytes| bytes.len() <= LONGEST_EVIDENCE) {
            draft.evidence = vec![piece("to-be-signed", "application/octet-stream", draft.at, bytes)];
        }
        Ok((intent, self.engine.commit_proved(Batch { changes, entries: vec![draft] }).await?))
    }

    /// Records that an operation failed; one whose fate is unknown keeps what the intent changed.
    pub(super) async fn failed(&self, ca: &CaId, intent: EntryId, error: HolderError, undone: Vec<Change>) -> Denied {
        let (outcome, changes) = match &error {
            HolderError::Refused(_) => (Outcome::Denied, undone),
            HolderError::Unavailable(_) => (Outcome::Unknown, Vec::new()),
        };
        match self.conclude(ca, intent, outcome, "KW4602", changes, &error.to_string()).await {
            Ok(()) => error.into(),
            Err(store) => store.into(),
        }
    }

    async fn conclude(
        &self,
        ca: &CaId,
        intent: EntryId,
        outcome: Outcome,
        code: &'static str,
        changes: Vec<Change>,
        text: &str,
    ) -> Result<(), StoreError> {
        let mut draft = self.draft(KEY, code, ca, None);
        draft.phase = Part::Outcome;
        draft.outcome = Some(outcome);
        draft.intent = Some(intent);
        draft.private.push(("text", Arc::from(text)));
        self.concluded(draft, changes).await
    }

    /// An outcome that cannot be written now is owed: what was announced has come to its end.
    async fn concluded(&self, draft: Draft, changes: Vec<Change>) -> Result<(), StoreError> {
        let written = self.engine.commit(Batch { changes, entries: vec![draft.clone()] }).await;
        if written.is_err() {
            self.engine.owe(draft);
        }
        written
    }

    /// Records that an operation was done, with what it changed.
    pub(super) async fn done(
        &self,
        ca: &CaId,
        intent: EntryId,
        changes: Vec<Change>,
        facts: Vec<(&'static str, Json)>,
        certificate: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let mut draft = self.draft(KEY, "KW4601", ca, None);
        draft.phase = Part::Outcome;
        draft.outcome = Some(Outcome::Success);
        draft.intent = Some(intent);
        draft.facts = facts;
        draft.evidence =
            certificate.map(|der| piece("certificate", "application/pkix-cert", draft.at, der)).into_iter().collect();
        self.concluded(draft, changes).await
    }
}

fn piece(name: &str, media: &'static str, captured_at: Timestamp, bytes: &[u8]) -> Evidence {
    let (sha256, size) = (Digest::of(bytes), bytes.len());
    Evidence { name: name.to_owned(), sha256, size, media, captured_at, bytes: Arc::from(bytes) }
}
