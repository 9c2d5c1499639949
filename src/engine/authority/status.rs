//! How the private CAs are, for people and metrics.

use core::time::Duration;
use std::sync::Arc;

use futures_util::future::{Either, select};

use crate::domain::id::CaId;
use crate::domain::key::Digest;
use crate::domain::register::{CaGeneration, CaKey, GenerationId, Phase};
use crate::domain::time::{Timestamp, Validity};
use crate::engine::EVALUATION_DEADLINE;
use crate::engine::authority::Authority;
use crate::ports::HolderStatus;

/// Whoever asks how everything is wants an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When this was.
    pub at: Timestamp,
    /// When the controller last went round; `None` before its first time, and if it hangs.
    pub beat: Option<Timestamp>,
    /// How the key holder is, or why nobody can tell.
    pub holder: Result<HolderStatus, String>,
    /// The CAs, by id.
    pub cas: Vec<CaStatus>,
}

/// One CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaStatus {
    /// Its id.
    pub id: CaId,
    /// Its generations, the oldest first.
    pub generations: Vec<GenerationStatus>,
    /// Version and digest of what relying parties are to trust; `None` while there is nothing.
    pub bundle: Option<(u64, Digest)>,
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Its id.
    pub id: GenerationId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// The trust anchor.
    pub root: Option<KeyStatus>,
    /// What signs leaves.
    pub issuing: Option<KeyStatus>,
    /// Leaves that have not expired.
    pub leaves: usize,
    /// How many of them are revoked.
    pub revoked: usize,
    /// When the last of them ends.
    pub last_leaf_ends: Option<Timestamp>,
}

/// A CA's key with its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The common name, once there is a certificate.
    pub name: Option<Arc<str>>,
    /// As the register has it.
    pub key: CaKey,
    /// The certificate's validity.
    pub validity: Option<Validity>,
}

impl Authority {
    /// How everything is now.
    pub async fn standing(&self) -> Standing {
        let patience = self.engine.ports.clock.sleep(PATIENCE);
        let holder = match select(self.holder.status(), patience).await {
            Either::Left((status, _)) => status.map_err(|e| e.to_string()),
            Either::Right(_) => Err(format!("the key holder gives no answer within {} s", PATIENCE.as_secs())),
        };
        let (now, boot) = (self.now(), self.engine.ports.clock.boottime());
        let beat = *self.beat.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let beat =
            beat.filter(|beat| boot.since(beat.boot) < EVALUATION_DEADLINE.saturating_mul(2)).map(|beat| beat.at);
        let cas = self.cas().keys().map(|id| self.ca_status(id, now)).collect();
        Standing { at: now, beat, holder, cas }
    }

    fn ca_status(&self, id: &CaId, now: Timestamp) -> CaStatus {
        let generations = self.generations(id).iter().map(|(id, g)| self.generation_status(id, g, now)).collect();
        let bundle = self.bundle(id).ok().map(|b| (b.version, b.digest));
        CaStatus { id: id.clone(), generations, bundle }
    }

    fn generation_status(&self, id: &GenerationId, generation: &CaGeneration, now: Timestamp) -> GenerationStatus {
        let desk = self.engine.read();
        let own = desk.state.issued.values().filter(|i| i.generation == *id && i.validity.not_after > now);
        let (mut leaves, mut revoked, mut last) = (0_usize, 0_usize, None);
        for issued in own {
            leaves = leaves.saturating_add(1);
            revoked = revoked.saturating_add(usize::from(issued.revoked.is_some()));
            last = last.max(Some(issued.validity.not_after));
        }
        drop(desk);
        let key = |key: &CaKey| KeyStatus {
            name: key.certificate.as_ref().map(|c| c.common_name.clone()),
            key: key.clone(),
            validity: key.validity(),
        };
        GenerationStatus {
            id: id.clone(),
            phase: generation.phase,
            since: generation.since(),
            root: generation.root.as_ref().map(key),
            issuing: generation.issuing.as_ref().map(key),
            leaves,
            revoked,
            last_leaf_ends: last,
        }
    }
}
