//! What the Workload API writes into the audit log.
//!
//! Handing a key to somebody is authority: its entry is durable before the key leaves. Refusing takes none: it is told
//! afterwards, the first of a kind and user at once, and what follows as a number, so that nobody can fill the log.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::audit::{Draft, Target, TargetKind, bounded_text};
use crate::domain::id::{CaId, EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::link::TELL_EVERY;
use crate::domain::time::Boottime;
use crate::domain::workload::Caller;
use crate::ports::{Batch, Clock, Entropy, Notice, Notifier, Store, Urgency};

/// A key was handed over.
const GIVEN: &str = "KW4850";
/// So many kinds and users are kept apart; beyond that they are told as one user's.
const MOST_WINDOWS: usize = 256;

pub(super) struct Records {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    store: Arc<dyn Store>,
    notifier: Arc<dyn Notifier>,
    windows: Mutex<BTreeMap<(&'static str, Option<u32>), Window>>,
}

struct Window {
    since: Boottime,
    unsaid: u64,
    text: String,
    /// The entry about the first of them is not written yet.
    fresh: bool,
}

impl Records {
    pub(super) fn new(ports: &crate::ports::Ports, store: Arc<dyn Store>) -> Self {
        let (clock, entropy, notifier) = (ports.clock.clone(), ports.entropy.clone(), ports.notifier.clone());
        Self { clock, entropy, store, notifier, windows: Mutex::default() }
    }

    /// Writes down who gets which key; without that nobody gets it.
    pub(super) async fn given(&self, ca: &CaId, id: &str, serial: &str, caller: &Caller) -> Result<(), String> {
        let mut draft = self.draft("workload.give", GIVEN, Target::new(TargetKind::Ca, ca));
        draft.facts.extend([("serial", Json::str(serial.to_owned())), ("spiffe", Json::str(id.to_owned()))]);
        draft.private.push(("caller", Arc::from(bounded_text(&caller.to_string()))));
        self.commit(vec![draft]).await
    }

    /// Notes that a call was ended, or a secret refused; told by [`Self::tell`].
    pub(super) fn note(&self, code: &'static str, uid: u32, text: &str) {
        let now = self.clock.boottime();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = Some(uid).filter(|_| windows.len() < MOST_WINDOWS || windows.contains_key(&(code, Some(uid))));
        let window = windows.entry((code, uid)).or_insert_with(|| Window {
            since: now,
            unsaid: 0,
            text: String::new(),
            fresh: true,
        });
        window.unsaid = window.unsaid.saturating_add(1);
        window.text = text.to_owned();
    }

    /// Writes down what is due. What cannot be written waits for the next time.
    pub(super) async fn tell(&self, everything: bool) {
        let now = self.clock.boottime();
        let mut due = Vec::new();
        {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            windows.retain(|(code, uid), window| {
                let over = now.since(window.since) >= TELL_EVERY;
                if window.unsaid == 0 {
                    return !over;
                }
                if window.fresh || over || everything {
                    due.push((*code, *uid, window.unsaid, window.text.clone()));
                    (window.since, window.unsaid, window.fresh) = (now, 0, false);
                }
                true
            });
        }
        if due.is_empty() {
            return;
        }
        let drafts = due.iter().map(|(code, uid, count, text)| {
            let action = if *code == super::sds::NACK { "workload.nack" } else { "workload.refuse" };
            let mut draft = self.draft(action, code, Target::new(TargetKind::Daemon, "keyward"));
            draft.facts.push(("count", Json::show(count)));
            let who = uid.map_or_else(|| "several users".to_owned(), |uid| format!("uid {uid}"));
            draft.private.push(("last", Arc::from(bounded_text(&format!("{who}: {text}")))));
            draft
        });
        let written = self.commit(drafts.collect()).await;
        for (code, uid, count, text) in due {
            match &written {
                Ok(()) if code == super::sds::NACK => {
                    let about = "workload".to_owned();
                    self.notifier.notify(Notice { about, owner: None, code, text, urgent: Urgency::Act });
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(
                        code,
                        error,
                        "what the workload API refused could not be written into the audit log"
                    );
                    let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(window) = windows.get_mut(&(code, uid)) {
                        (window.unsaid, window.fresh) = (window.unsaid.saturating_add(count), true);
                    }
                }
            }
        }
    }

    fn draft(&self, action: &'static str, code: &'static str, target: Target) -> Draft {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let now = self.clock.now();
        Draft::new(EntryId(Ulid::new(now, random)), now, action, code, target)
    }

    async fn commit(&self, entries: Vec<Draft>) -> Result<(), String> {
        self.store.commit(Batch { entries, ..Batch::default() }).await.map_err(|e| e.to_string())
    }
}

/// What happened is told this often.
pub(super) const EVERY: Duration = Duration::from_secs(1);
