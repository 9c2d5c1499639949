//! Intents without an outcome: at a start each is held against reality before anything new is begun.
//!
//! ```text
//! intent ─► effect ─► outcome            an attempt in the state goes on and resolves its own intent
//!        ▲         ▲                     a changed account key: the CA's answer, or the key files, say which key counts
//!      crash     crash                   whatever else: outcome `unknown`, and a person is told
//! ```
//! Also home of the one effect that has an intent and is no attempt: the change of an account's key.

use core::future::Future;
use core::pin::Pin;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::{Either, select};

use crate::domain::audit::{Draft, Outcome, Phase, Target, TargetKind, bounded_text};
use crate::domain::id::{AttemptId, EntryId, IssuerId, Ulid};
use crate::domain::json::Json;
use crate::engine::looking::Looked;
use crate::engine::{Crew, Engine, Event, at_once};
use crate::ports::{Batch, Doing, IssuerError, Notice, StoreError, StoredEntry, Urgency};

/// Besides those of the attempts in the state so many intents are looked at; there is one for each account key that is
/// being changed, and what is more than this stands open until the next start.
const MOST_OPEN: usize = 1_024;
/// A CA that does not answer must not keep the guardian from all others: its intent gets the outcome `unknown`.
const CA_PATIENCE: Duration = Duration::from_secs(5);
/// So long a person who asks for a new key waits for a look at the old one; usually it is a file.
const KEY_PATIENCE: Duration = Duration::from_secs(2);
/// So many CAs are asked at once.
const AT_ONCE: usize = 8;

/// The code of what was found out about an intent of an earlier life.
const RECONCILED: &str = "KW6036";

/// Whether the guardian may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reconciled {
    /// Every intent is somebody's or has its outcome.
    All,
    /// It was told to stop meanwhile.
    Stopped,
}

/// An intent as the log has it.
struct Intent {
    id: EntryId,
    action: String,
    target: Option<Target>,
    correlation: Option<AttemptId>,
    /// Thumbprint of the account's key before it was to be changed.
    key: Option<String>,
}

/// What was found out.
struct Found {
    outcome: Outcome,
    text: String,
}

impl Engine {
    /// Gives every intent an outcome that no attempt will give it.
    ///
    /// # Errors
    /// If the log cannot be read, or an outcome cannot be written: then nothing may be begun.
    pub(super) async fn reconcile(
        &self,
        stop: &mut Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<Reconciled, StoreError> {
        let own: BTreeSet<EntryId> = {
            let desk = self.read();
            // The step of a rotation that was cut off is done again, and says so itself.
            let steps = desk.state.keys.values().filter_map(|k| k.rotation.as_ref()?.intent);
            desk.state.attempts.values().map(|a| a.intent).chain(steps).collect()
        };
        let open = self.ports.store.open_intents(own.len().saturating_add(MOST_OPEN)).await?;
        let open: Vec<Intent> = open.iter().filter_map(intent_of).filter(|i| !own.contains(&i.id)).collect();
        if open.is_empty() {
            return Ok(Reconciled::All);
        }
        let looks = open.iter().map(|intent| -> Doing<'_, (&Intent, Found)> {
            Box::pin(async move { (intent, self.find_out(intent).await) })
        });
        let looks = at_once(AT_ONCE, looks.collect());
        let found = match select(stop, core::pin::pin!(looks)).await {
            Either::Left(_) => return Ok(Reconciled::Stopped),
            Either::Right((found, _)) => found,
        };
        for (intent, found) in found {
            let draft = self.reconciled(intent, &found);
            self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await?;
            let about = intent.target.as_ref().map_or("audit".to_owned(), |t| t.id.to_string());
            let urgent = if found.outcome == Outcome::Unknown { Urgency::Act } else { Urgency::Routine };
            self.ports.notifier.notify(Notice { about, owner: None, code: RECONCILED, text: found.text, urgent });
        }
        Ok(Reconciled::All)
    }

    async fn find_out(&self, intent: &Intent) -> Found {
        let issuer = intent.target.as_ref().filter(|t| t.kind == TargetKind::Issuer);
        let issuer = issuer.and_then(|t| IssuerId::parse(&t.id).ok());
        match issuer.filter(|_| intent.action == ROLLOVER) {
            Some(issuer) if self.read().estate.issuers.contains_key(&issuer) => self.which_key(&issuer, intent).await,
            Some(issuer) => Found {
                outcome: Outcome::Unknown,
                text: format!(
                    "issuer {issuer} is not configured any more, so nobody can tell which account key counts"
                ),
            },
            None => Found {
                outcome: Outcome::Unknown,
                text: format!("{} was announced as {}, and nothing says what became of it", intent.action, intent.id),
            },
        }
    }

    async fn which_key(&self, issuer: &IssuerId, intent: &Intent) -> Found {
        let (outcome, text) = match (self.look_at_key(issuer, CA_PATIENCE).await, &intent.key) {
            (Ok(Some(now)), Some(before)) if now != *before => (
                Outcome::Success,
                format!("the account at {issuer} has a new key: the change was made before the restart"),
            ),
            (Ok(Some(_)), Some(_)) => (
                Outcome::Failure,
                format!("the account at {issuer} has its old key: the change was cut off by the restart"),
            ),
            (Ok(_), _) => {
                (Outcome::Unknown, format!("the key of the account at {issuer} cannot be compared with the old one"))
            }
            (Err(why), _) => {
                (Outcome::Unknown, format!("which key the account at {issuer} has could not be found out: {why}"))
            }
        };
        Found { outcome, text }
    }

    /// The thumbprint of an account's key, or why it cannot be told in time.
    async fn look_at_key(&self, issuer: &IssuerId, patience: Duration) -> Result<Option<String>, String> {
        match select(self.ports.issuer.account_key(issuer), self.ports.clock.sleep(patience)).await {
            Either::Left((key, _)) => key.map_err(|e| e.to_string()),
            Either::Right(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    }

    fn reconciled(&self, intent: &Intent, found: &Found) -> Draft {
        let target = intent.target.clone().unwrap_or_else(|| Target::new(TargetKind::Daemon, "keyward"));
        let mut draft = self.draft(known_action(&intent.action), RECONCILED, target);
        draft.phase = Phase::Outcome;
        draft.outcome = Some(found.outcome);
        draft.intent = Some(intent.id);
        draft.correlation = intent.correlation;
        draft.facts = vec![("reconciled", Json::Bool(true))];
        draft.private.push(("text", Arc::from(bounded_text(&found.text))));
        draft
    }

    /// Records the intent, then lets the CA know in the background.
    pub(super) async fn begin_rollover<'a>(
        &'a self,
        issuer: IssuerId,
        by: Arc<str>,
        crew: &mut Crew<'a>,
    ) -> Result<(), StoreError> {
        if !self.read().estate.issuers.contains_key(&issuer) {
            return Ok(());
        }
        let mut intent = self.draft(ROLLOVER, "KW2013", Target::new(TargetKind::Issuer, issuer.as_str()));
        // Whoever asked was told so already, unless the freeze came in between.
        if let Some((freeze, until)) = self.issuer_frozen(&issuer) {
            intent.by(&self.person(&by));
            intent.code = ISSUER_FROZEN;
            intent.outcome = Some(Outcome::Denied);
            intent.facts = vec![("freeze", Json::show(&freeze)), ("until", Json::show(&until))];
            return self.commit(Batch { changes: Vec::new(), entries: vec![intent] }).await;
        }
        intent.by(&self.person(&by));
        intent.phase = Phase::Intent;
        // What a restart compares with.
        if let Ok(Some(key)) = self.look_at_key(&issuer, KEY_PATIENCE).await {
            intent.facts.push(("key", Json::str(bounded_text(&key))));
        }
        let id = intent.id;
        self.commit(Batch { changes: Vec::new(), entries: vec![intent] }).await?;
        crew.looks = crew.looks.saturating_add(1);
        crew.futures.push(Box::pin(async move {
            let result = self.ports.issuer.rollover(&issuer).await;
            Event::Looked(Looked::RolledOver { issuer, intent: id, result })
        }));
        Ok(())
    }

    pub(super) async fn note_rollover(&self, issuer: &IssuerId, intent: EntryId, result: Result<(), IssuerError>) {
        let mut draft = self.draft(ROLLOVER, "KW2013", Target::new(TargetKind::Issuer, issuer.as_str()));
        draft.phase = Phase::Outcome;
        draft.intent = Some(intent);
        draft.outcome = Some(if result.is_ok() { Outcome::Success } else { Outcome::Failure });
        let (urgent, text) = match &result {
            Ok(()) => (Urgency::Routine, "the account has a new key".to_owned()),
            Err(error) => (Urgency::Act, format!("the account's key was not changed for certain: {error}")),
        };
        draft.private.push(("text", Arc::from(bounded_text(&text))));
        draft.evidence = self.acme_evidence(issuer, "");
        self.record_outcome(draft).await;
        self.ports.notifier.notify(Notice { about: issuer.to_string(), owner: None, code: "KW2013", text, urgent });
    }
}

/// The code of what a freeze keeps from an issuer's account.
pub const ISSUER_FROZEN: &str = "KW4080";

/// The change of an account's key.
const ROLLOVER: &str = "issuer.rollover";

/// Every action that has an intent; a strange one keeps its name in the notice.
fn known_action(action: &str) -> &'static str {
    let known = ["certificate.issue", "certificate.install", ROLLOVER];
    known.into_iter().find(|k| *k == action).unwrap_or("audit.reconcile")
}

/// What is needed of an intent; one that cannot be read is not ours to judge, and `keyward audit verify` names it.
fn intent_of(entry: &StoredEntry) -> Option<Intent> {
    let body: serde_json::Value = serde_json::from_slice(&entry.bytes).ok()?;
    let text = |at: &str| body.pointer(at).and_then(serde_json::Value::as_str);
    let kinds = [TargetKind::Credential, TargetKind::Issuer, TargetKind::Path, TargetKind::Daemon];
    let kind = kinds.into_iter().find(|k| text("/data/target/kind") == Some(k.as_str()));
    Some(Intent {
        id: EntryId(Ulid::parse(text("/id")?)?),
        action: text("/data/action")?.to_owned(),
        target: kind.zip(text("/data/target/id")).map(|(kind, id)| Target::new(kind, id)),
        correlation: text("/data/correlation_id").and_then(Ulid::parse).map(AttemptId),
        key: text("/data/facts/key").map(str::to_owned),
    })
}
