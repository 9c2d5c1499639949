//! A witness: judges what logs show, writes down what it cosigns before it says so, and never goes back.
//!
//! ```text
//! request ─► origin, signature ─► the origin's slot is taken ─► consider ─► file flushed ─► memory ─► cosignature
//! ```
//! Between the comparison with what was seen last and the flush of what is seen now nobody else has the slot, so two
//! requests at once cannot roll back one another.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::files::{NotWritten, SeenFiles};
use super::throttle::Throttle;
use crate::codec::add_checkpoint::{LONGEST_REQUEST, Logs, Request, consider};
use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::{Note, SignerKey, Signs};
use crate::domain::tree::TreeHead;
use crate::domain::witness::Refusal;
use crate::ports::{Clock, Cosigner, Doing};

/// A log may show two hundred checkpoints at once and ten a second: each costs a flush.
const BURST: u32 = 200;
/// See [`BURST`].
const EVERY: Duration = Duration::from_millis(100);
/// A witness knows at most this many logs.
const MOST_LOGS: usize = 1_024;

/// A witness with its memory in files.
#[derive(Clone)]
pub struct FileCosigner {
    inner: Arc<Inner>,
}

impl fmt::Debug for FileCosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileCosigner({})", self.inner.key.verifier().name())
    }
}

struct Inner {
    key: SignerKey,
    logs: Logs,
    files: SeenFiles,
    slots: BTreeMap<String, Mutex<Slot>>,
    throttle: Mutex<Throttle<String>>,
    clock: Arc<dyn Clock>,
}

/// What is known of a log.
#[derive(Debug)]
enum Slot {
    /// What was cosigned last.
    Seen(Option<TreeHead>),
    /// What a restart will find is not known, so nothing more is cosigned before that.
    Broken(String),
}

impl FileCosigner {
    /// Reads what was seen last of each log.
    ///
    /// # Errors
    /// A sentence: the key is none of a witness, there are too many logs, or a file is damaged.
    pub fn open(key: SignerKey, logs: Logs, files: SeenFiles, clock: Arc<dyn Clock>) -> Result<Self, String> {
        if key.verifier().signs() != Signs::Sightings {
            return Err("the key is that of a log; make one with `keyward witness init`".into());
        }
        let origins: Vec<String> = logs.origins().map(str::to_owned).collect();
        if origins.len() > MOST_LOGS {
            return Err(format!("{} logs are configured; a witness knows at most {MOST_LOGS}", origins.len()));
        }
        let mut slots = BTreeMap::new();
        for origin in origins {
            let seen = files.read(&origin)?.map(|text| last_seen(&origin, &text)).transpose()?;
            slots.insert(origin, Mutex::new(Slot::Seen(seen)));
        }
        let throttle = Mutex::new(Throttle::new(BURST, EVERY, MOST_LOGS));
        Ok(Self { inner: Arc::new(Inner { key, logs, files, slots, throttle, clock }) })
    }
}

fn last_seen(origin: &str, text: &str) -> Result<TreeHead, String> {
    let read = text.parse::<Note>().and_then(|note| Checkpoint::of(&note));
    let found = read.map_err(|e| format!("what was cosigned last of {origin:?} {e}"))?;
    if found.origin == origin {
        Ok(found.head)
    } else {
        Err(format!("the file of {origin:?} is about {:?}", found.origin))
    }
}

impl Inner {
    /// Blocks for a flush.
    fn add(&self, body: &[u8]) -> Result<String, Refusal> {
        let (request, checkpoint) = Request::trusted(body, &self.logs)?;
        let origin = checkpoint.origin.clone();
        let slot = self.slots.get(&origin).ok_or(Refusal::UnknownOrigin(origin.clone()))?;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match &*slot {
            Slot::Seen(last) => *last,
            Slot::Broken(why) => return Err(Refusal::Unavailable(format!("{why}; restart the witness"))),
        };
        consider(last.as_ref(), &request, &checkpoint)?;
        let mut note = request.note;
        let cosignature = self.key.sign(&note.text, self.clock.now());
        if last != Some(checkpoint.head) {
            // Only what only the log itself can bring about uses up its share: its checkpoints are public.
            if !self.throttle.lock().unwrap_or_else(PoisonError::into_inner).admits(&origin, self.clock.boottime()) {
                let text = format!("{origin:?} grew {BURST} times in a short time; come back in a second");
                return Err(Refusal::Busy(text));
            }
            // Signatures of others are theirs to show; kept is what the log's own keys and ours stand behind.
            note.signatures.retain(|signature| signature.name == origin);
            note.signatures.push(cosignature.clone());
            match self.files.write(&origin, &note.to_string()) {
                Ok(()) => *slot = Slot::Seen(Some(checkpoint.head)),
                Err(NotWritten::Unchanged(why)) => return Err(Refusal::Unavailable(why)),
                Err(error @ NotWritten::Unknown(_)) => {
                    let why = error.to_string();
                    *slot = Slot::Broken(why.clone());
                    return Err(Refusal::Unavailable(why));
                }
            }
        }
        Ok(cosignature.to_string())
    }
}

impl Cosigner for FileCosigner {
    fn add_checkpoint(&self, body: Vec<u8>) -> Doing<'_, Result<String, Refusal>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || inner.add(&body)).await;
            done.unwrap_or_else(|e| Err(Refusal::Unavailable(format!("the judgement broke off: {e}"))))
        })
    }

    fn key(&self) -> String {
        self.inner.key.verifier().to_string()
    }

    fn longest_request(&self) -> usize {
        LONGEST_REQUEST
    }
}

#[cfg(test)]
#[path = "cosigner_tests.rs"]
mod tests;
