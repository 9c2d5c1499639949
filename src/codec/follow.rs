//! Following logs as whoever relies on them does: one checkpoint per origin is kept, and each new one must satisfy the
//! policy and continue the one that is kept.
//!
//! ```text
//! note ─► policy ─► smaller? rolled back ─► same size, other root? forked ─► proof ─► kept durably ─► believed
//! ```
//! Refuses to know where proofs come from and where checkpoints are kept: [`Keep`] does that, durably.

use super::ParseError;
use super::checkpoint::Checkpoint;
use super::note::Note;
use super::tlog_policy::{Policy, Satisfied, Unsatisfied};
use crate::domain::key::Digest;
use crate::domain::tree::check_consistency;

/// Where the newest checkpoint of each origin is kept.
pub trait Keep {
    /// The note that was kept last for an origin.
    ///
    /// # Errors
    /// If it cannot be told: a missing file is `None`, a damaged one is an error.
    fn load(&self, origin: &str) -> Result<Option<String>, String>;
    /// Replaces it: all or nothing, and durable on return.
    ///
    /// # Errors
    /// If it may not be durable.
    fn store(&mut self, origin: &str, note: &str) -> Result<(), String>;
}

/// Why a checkpoint is refused. Nothing that was kept changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not satisfy the policy.
    #[error(transparent)]
    Policy(#[from] Unsatisfied),
    /// It is smaller than what was seen before.
    #[error("{origin:?} was rolled back: size {kept} was seen before, and now {shown} is shown")]
    RolledBack {
        /// Which log.
        origin: String,
        /// What was seen.
        kept: u64,
        /// What is shown.
        shown: u64,
    },
    /// Another root for a size that was seen before.
    #[error("{origin:?} has forked: it shows another root for size {size} than before")]
    Forked {
        /// Which log.
        origin: String,
        /// At which size.
        size: u64,
    },
    /// It is not shown to continue what was seen before.
    #[error("the checkpoint of {origin:?} at size {shown} is not shown to continue that at size {kept}: {why}")]
    Inconsistent {
        /// Which log.
        origin: String,
        /// What was seen.
        kept: u64,
        /// What is shown.
        shown: u64,
        /// What does not hold.
        why: String,
    },
    /// The proof could not be had.
    #[error("the proof from size {kept} to {shown} cannot be had: {why}")]
    NoProof {
        /// What was seen.
        kept: u64,
        /// What is shown.
        shown: u64,
        /// Why.
        why: String,
    },
    /// What was seen before cannot be told, or the new checkpoint cannot be kept.
    #[error("the checkpoint of {0:?} cannot be kept: {1}")]
    Keeping(String, String),
}

/// How a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first one of its origin: there was nothing to compare it with.
    First,
    /// Nothing new.
    Same,
    /// It continues the one of this size.
    From(u64),
}

/// A checkpoint that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// How.
    pub step: Step,
    /// What it says, and who cosigned it.
    pub satisfied: Satisfied,
}

/// Follows the logs of a policy.
#[derive(Clone, Debug)]
pub struct Follower<K> {
    policy: Policy,
    keep: K,
}

impl<K: Keep> Follower<K> {
    /// Believes what satisfies `policy`; keeps in `keep`.
    pub fn new(policy: Policy, keep: K) -> Self {
        Self { policy, keep }
    }

    /// Another policy, for example with a log's next key. What was kept stays.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What was seen last of an origin.
    ///
    /// # Errors
    /// [`Refused::Keeping`] if that cannot be told.
    pub fn last(&self, origin: &str) -> Result<Option<Checkpoint>, Refused> {
        let wrong = |why: String| Refused::Keeping(origin.to_owned(), why);
        let Some(text) = self.keep.load(origin).map_err(wrong)? else { return Ok(None) };
        let read = |text: &str| Checkpoint::of(&text.parse::<Note>()?);
        let found = read(&text).map_err(|e: ParseError| wrong(format!("what was kept {e}")))?;
        if found.origin != origin {
            return Err(wrong(format!("what was kept is about {:?}", found.origin)));
        }
        Ok(Some(found))
    }

    /// The sizes between which [`Follower::accept`] needs a consistency proof; `None` if it needs none.
    ///
    /// # Errors
    /// [`Refused`] if no proof can help.
    pub fn needs(&self, note: &Note) -> Result<Option<(u64, u64)>, Refused> {
        let new = self.policy.satisfied(note)?.checkpoint;
        let Some(last) = self.last(&new.origin)? else { return Ok(None) };
        comparable(&last, &new)?;
        let sizes = (last.head.size, new.head.size);
        Ok((sizes.0 != 0 && sizes.0 != sizes.1).then_some(sizes))
    }

    /// Takes a checkpoint with its proof from what was seen last; it is kept durably before this returns.
    ///
    /// # Errors
    /// [`Refused`] says why it must not be believed.
    pub fn accept(&mut self, note: &Note, proof: &[Digest]) -> Result<Followed, Refused> {
        let satisfied = self.policy.satisfied(note)?;
        let new = &satisfied.checkpoint;
        let last = self.last(&new.origin)?;
        let step = match &last {
            None => Step::First,
            Some(last) => {
                comparable(last, new)?;
                let (kept, shown) = (last.head.size, new.head.size);
                check_consistency(&last.head, &new.head, proof).map_err(|e| Refused::Inconsistent {
                    origin: new.origin.clone(),
                    kept,
                    shown,
                    why: e.to_string(),
                })?;
                if kept == shown { Step::Same } else { Step::From(kept) }
            }
        };
        if step != Step::Same {
            let kept = self.keep.store(&new.origin, &note.to_string());
            kept.map_err(|why| Refused::Keeping(new.origin.clone(), why))?;
        }
        Ok(Followed { step, satisfied })
    }

    /// [`Follower::needs`] and [`Follower::accept`] in one: `fetch` gives the proof between two sizes.
    ///
    /// # Errors
    /// As [`Follower::accept`], and [`Refused::NoProof`].
    pub fn advance(
        &mut self,
        note: &Note,
        fetch: impl FnOnce(u64, u64) -> Result<Vec<Digest>, String>,
    ) -> Result<Followed, Refused> {
        let proof = match self.needs(note)? {
            None => Vec::new(),
            Some((kept, shown)) => fetch(kept, shown).map_err(|why| Refused::NoProof { kept, shown, why })?,
        };
        self.accept(note, &proof)
    }
}

/// What needs no proof to be refused.
fn comparable(last: &Checkpoint, new: &Checkpoint) -> Result<(), Refused> {
    let (kept, shown) = (last.head.size, new.head.size);
    if shown < kept {
        return Err(Refused::RolledBack { origin: new.origin.clone(), kept, shown });
    }
    if shown == kept && last.head.root != new.head.root {
        return Err(Refused::Forked { origin: new.origin.clone(), size: kept });
    }
    Ok(())
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
