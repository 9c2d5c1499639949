//! The sealed mode: the state is there and is not to be believed, so the guardian does nothing but say so.
//!
//! Every path is closed with the refusal's own code. Nothing is looked at, issued, installed or written, and nothing is
//! tried again: only a person knows which copy of the state is the true one. The loop does not run.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::gate::{Reason, Verdict};
use crate::domain::id::{EntryId, PathId};
use crate::domain::inventory::Estate;
use crate::domain::key::Digest;
use crate::domain::private::Private;
use crate::domain::question::Question;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::engine::people::People;
use crate::engine::{Desk, Engine};
use crate::ports::{
    Batch, Consistency, Doing, Inclusion, Log, Page, Ports, Statistics, Store, StoreError, StoredEntry,
};

/// A state that is damaged: the store says no more than that.
pub const DAMAGED: &str = "KW6040";

/// Why the guardian runs sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Stable code of the refusal, which says how to recover.
    pub code: &'static str,
    /// What was seen, what was expected, and how to recover.
    pub text: String,
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl Seal {
    /// Whether a refusal seals the guardian. One that a restart may heal does not, nor does another daemon.
    #[must_use]
    pub fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::Distrusted { code, text } => Some(Self { code, text: text.clone() }),
            StoreError::Damaged(_) => Some(Self { code: DAMAGED, text: error.to_string() }),
            StoreError::Unavailable(_) | StoreError::InUse(_) | StoreError::Lost(_) => None,
        }
    }
}

/// In place of a store that is not to be believed: refuses everything for the same reason.
#[derive(Debug)]
pub struct SealedStore(pub StoreError);

impl SealedStore {
    fn refuse<T: Send + 'static>(&self) -> Doing<'_, Result<T, StoreError>> {
        let error = self.0.clone();
        Box::pin(async move { Err(error) })
    }
}

impl Log for SealedStore {
    fn query(&self, _question: Question) -> Doing<'_, Result<Page, StoreError>> {
        self.refuse()
    }

    fn entry(&self, _id: EntryId) -> Doing<'_, Result<Option<StoredEntry>, StoreError>> {
        self.refuse()
    }

    fn evidence(&self, _sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.refuse()
    }

    fn private(&self, _commitments: Vec<Digest>) -> Doing<'_, Result<BTreeMap<Digest, Private>, StoreError>> {
        self.refuse()
    }

    fn people(&self) -> Doing<'_, Result<Vec<Private>, StoreError>> {
        self.refuse()
    }

    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>> {
        self.refuse()
    }

    fn inclusion(&self, _sequence: u64) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
        self.refuse()
    }

    fn consistency(&self, _old_size: u64) -> Doing<'_, Result<Option<Consistency>, StoreError>> {
        self.refuse()
    }

    fn open_intents(&self, _limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        self.refuse()
    }

    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>> {
        self.refuse()
    }
}

impl Store for SealedStore {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        self.refuse()
    }

    fn commit(&self, _batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        self.refuse()
    }

    fn entries(&self, _target: Option<String>, _limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        self.refuse()
    }

    fn inspect(&self, _from: u64) -> Doing<'_, Result<u64, StoreError>> {
        self.refuse()
    }

    fn doubt(&self, _found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>> {
        self.refuse()
    }
}

impl Engine {
    /// A guardian that only says that it is sealed. [`Engine::run`] is not called.
    #[must_use]
    pub fn sealed(ports: Ports, estate: Arc<Estate>, seal: Seal) -> Self {
        let mut desk = Desk::new(&ports, estate, State::default(), People::default());
        desk.store_fault = Some(seal.text.clone());
        desk.sealed = Some(seal);
        Self::with(ports, desk)
    }

    /// Why the guardian runs sealed, if it does.
    #[must_use]
    pub fn seal(&self) -> Option<Seal> {
        self.read().sealed.clone()
    }

    /// The only verdict of a sealed guardian.
    pub(super) fn sealed_verdict(&self, path: &PathId, seal: &Seal) -> Verdict {
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let reopens = "a person has recovered the state, and keyward was restarted";
        let reason = Reason { code: seal.code, credential: None, text: format!("sealed: {}", seal.text), reopens };
        Verdict::closed(path, reason, now, boot)
    }
}
