//! What the witnesses of our log have a say in: whether the state may be believed at all, and what waits for them.

use crate::domain::inventory::Credential;
use crate::domain::policy::{Act, tier};
use crate::domain::witness::Word;
use crate::engine::Engine;
use crate::engine::cycle::subject;
use crate::engine::record::Setback;
use crate::ports::{Ports, StoreError};

/// A witness has cosigned more than there is.
const ROLLED_BACK: &str = "KW6401";
/// A witness has cosigned another tree.
const FORKED: &str = "KW6402";
/// The quorum has not cosigned the intent in time.
const NOT_WITNESSED: &str = "KW6410";

/// Asks every witness what it has seen of our log, before anything else happens. One that is silent decides nothing: the
/// lock has agreed already.
///
/// # Errors
/// [`StoreError::Distrusted`] if one of them knows better.
pub(super) async fn ask(ports: &Ports) -> Result<(), StoreError> {
    let words = ports.witnesses.ask().await;
    let refused = |code, text: String| Err(StoreError::Distrusted { code, text });
    for (name, word) in &words {
        match word {
            Word::SawMore { size } => {
                let text = format!(
                    "the witness {name} has cosigned {size} entries of this log, which are more than there are: the state \
                     directory was replaced by an older copy. Put the newest one back, with its lock"
                );
                return refused(ROLLED_BACK, text);
            }
            Word::SawAnother { size } => {
                let text = format!(
                    "the witness {name} has cosigned another log than this one, seen at size {size}: it was rewritten, or \
                     two guardians write with one key. See docs/witness.md before anything else"
                );
                return refused(FORKED, text);
            }
            Word::Agrees { .. } | Word::Silent(_) => {}
        }
    }
    Ok(())
}

impl Engine {
    /// Waits, within bounds, until the quorum has cosigned what is committed, if the configuration demands that for this
    /// action. Its intent is committed, and its effect comes after this.
    pub(super) async fn demand_quorum(&self, credential: &Credential, act: Act) -> Result<(), Setback> {
        let tier = tier(&subject(&self.read(), credential, act, None, self.ports.clock.now())).level();
        let settled = self.ports.witnesses.settled(tier).await;
        settled.map_err(|error| {
            let text =
                format!("nothing was done: for an action of tier {tier} the configuration demands it, and {error}");
            Setback::host(NOT_WITNESSED, text)
        })
    }
}
