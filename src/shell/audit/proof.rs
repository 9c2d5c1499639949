//! The proof of one entry, against the newest checkpoint.

use super::Refusal;
use super::answer::find;
use crate::codec::ledger::Proof;
use crate::ports::Log;

/// The proof of the entry with this id, or at this place.
pub(in crate::shell) async fn proof(log: &dyn Log, name: &str) -> Result<Proof, Refusal> {
    let Some(stored) = find(log, name).await? else { return Err(Refusal::gone(log, name).await) };
    let Some(found) = log.inclusion(stored.sequence).await? else { return Err(Refusal::gone(log, name).await) };
    Ok(Proof {
        sequence: stored.sequence,
        entry: found.entry.bytes,
        inclusion: found.proof,
        checkpoint: found.note,
        hint: None,
    })
}
