//! Forgetting: a private text is deleted from beside the log and from the state, and an entry says that it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::audit::{Target, TargetKind};
use crate::domain::json::Json;
use crate::domain::private::FORGOTTEN;
use crate::domain::rotation::Piece;
use crate::domain::state::{Change, CredentialRecord, State};
use crate::engine::Engine;
use crate::engine::inbox::Forget;
use crate::ports::{Batch, StoreError};

impl Engine {
    /// Deletes the texts and records who asked for it, in one transaction. The entry says what was forgotten by entry and
    /// key, never the text.
    pub(crate) async fn forget(&self, wanted: Forget) -> Result<(), StoreError> {
        let commitments: Vec<_> = wanted.texts.iter().map(|(_, commitment)| *commitment).collect();
        let known = self.ports.store.private(commitments.clone()).await?;
        let texts: BTreeSet<Arc<str>> = known.into_values().map(|private| private.text).collect();
        let mut draft = self.draft("audit.forget", "KW6301", Target::new(TargetKind::Daemon, "keyward"));
        draft.by(&self.person(&wanted.by));
        draft.facts = vec![
            ("entry", Json::show(&wanted.entry)),
            ("keys", Json::arr(wanted.texts.iter().map(|(key, _)| Json::str(key.clone())))),
            ("commitments", Json::arr(commitments.iter().map(Json::show))),
        ];
        draft.forgets.clone_from(&commitments);
        let changes = self.without(&texts)?;
        // Whoever is forgotten and acts again, if only to be forgotten, is somebody new.
        let gone: BTreeSet<Arc<str>> = commitments.iter().map(|c| Arc::from(c.to_string())).collect();
        self.commit_with(Batch { changes, entries: vec![draft] }, |desk| desk.people.forget(&gone)).await
    }
}

impl Engine {
    /// What changes in the state when these texts are no longer there.
    fn without(&self, texts: &BTreeSet<Arc<str>>) -> Result<Vec<Change>, StoreError> {
        let desk = self.read();
        let changes = without(&desk.state, texts);
        for change in &changes {
            // A record is written by one at a time.
            if let Change::Credential(id, _) = change
                && desk.state.attempt_for(id).is_some_and(|attempt| desk.running.contains(&attempt.id))
            {
                let text =
                    format!("an attempt for {id} is running and may write the text again; ask when it has ended");
                return Err(StoreError::Unavailable(text));
            }
        }
        Ok(changes)
    }
}

fn without(state: &State, texts: &BTreeSet<Arc<str>>) -> Vec<Change> {
    let scrub = |text: &mut Arc<str>| {
        let found = texts.contains(text);
        if found {
            *text = Arc::from(FORGOTTEN);
        }
        found
    };
    let mut changes = Vec::new();
    for (id, record) in &state.credentials {
        let mut record = CredentialRecord::clone(record);
        let failure = record.last_failure.as_mut().is_some_and(|f| scrub(&mut f.text));
        let explanation = record.ari.as_mut().and_then(|a| a.explanation.as_mut()).is_some_and(scrub);
        if failure || explanation {
            changes.push(Change::Credential(id.clone(), Arc::new(record)));
        }
    }
    for (id, record) in &state.issuers {
        let mut record = record.clone();
        if record.terms.as_mut().is_some_and(scrub) {
            changes.push(Change::Issuer(id.clone(), record));
        }
    }
    for (id, freeze) in &state.freezes {
        let mut freeze = freeze.clone();
        if scrub(&mut freeze.reason) {
            changes.push(Change::Freeze(*id, Some(freeze)));
        }
    }
    for (id, piece) in &state.pieces {
        let mut piece = Piece::clone(piece);
        if piece.why.as_mut().is_some_and(scrub) {
            changes.push(Change::Piece(id.clone(), Some(Arc::new(piece))));
        }
    }
    changes
}
