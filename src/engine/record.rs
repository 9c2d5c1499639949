//! Recording: commits, audit drafts, and what a failure does to the records.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::audit::{Draft, Evidence as Piece, Outcome, Phase, Policy, Target, TargetKind, bounded_text};
use crate::domain::execution::{Attempt, Failure, Fault, Stage};
use crate::domain::id::{AttemptId, CredentialId, EntryId, IssuerId, Ulid};
use crate::domain::inventory::authorized_names;
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::limits::failure_spends;
use crate::domain::name::Name;
use crate::domain::plan::{BREAKER_THRESHOLD, refunds};
use crate::domain::policy::Decision;
use crate::domain::renewal::{Backoff, LONGEST_BACKOFF, backoff};
use crate::domain::state::{Change, ClockMark, CredentialRecord, IssuerRecord, Latch, LatchOn};
use crate::domain::time::{HOUR, MINUTE, Timestamp};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::{AUDIT_UNAVAILABLE, Desk, EVALUATE_EVERY, Engine, STORE_PATIENCE};
use crate::ports::{Batch, Count, Doing, Inclusion, IssuerError, IssuerErrorKind, Notice, StoreError, Urgency};

/// The code of a key that could not be made or found.
pub(crate) const NO_KEY: &str = "KW2101";
/// The clocks are recorded with a commit when the last record is older than this.
const MARK_EVERY: core::time::Duration = MINUTE;

/// A failure with everything that the records need; `error` is the CA's word if it was one.
#[derive(Clone, Debug)]
pub(crate) struct Setback {
    pub(crate) code: &'static str,
    pub(crate) fault: Fault,
    pub(crate) text: String,
    pub(crate) error: Option<IssuerError>,
}

impl Setback {
    pub(crate) fn host(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, fault: Fault::Host, text: text.into(), error: None }
    }

    pub(crate) fn new(code: &'static str, fault: Fault, text: impl Into<String>) -> Self {
        Self { code, fault, text: text.into(), error: None }
    }

    pub(crate) fn issuer(error: IssuerError) -> Self {
        Self { code: code_of(error.kind), fault: error.fault, text: error.to_string(), error: Some(error) }
    }
}

/// The stable code of each kind of issuer error.
pub(crate) fn code_of(kind: IssuerErrorKind) -> &'static str {
    match kind {
        IssuerErrorKind::Retry => "KW3001",
        IssuerErrorKind::RateLimited => "KW3002",
        IssuerErrorKind::Replaces => "KW3003",
        IssuerErrorKind::OrderDead => "KW3004",
        IssuerErrorKind::ValidationFailed => "KW3005",
        IssuerErrorKind::Account => "KW3006",
        IssuerErrorKind::Refused => "KW3007",
        IssuerErrorKind::Protocol => "KW3008",
    }
}

impl Engine {
    /// Commits and, once durable, applies the same changes in memory.
    ///
    /// Commits overlap. A credential's and an attempt's rows are written by one task at a time, but the ledger and the
    /// issuers' rows by all: these count in memory from the moment at which the commit is handed over, in the same order as
    /// on the disk, or the next to compute from them would undo this one. Should the commit fail, memory has at worst
    /// another count than the disk until the next change or restart; nothing was done on its strength.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit_with(batch, |_| ()).await
    }

    /// Also does `then` in the moment in which the changes become visible.
    pub(crate) async fn commit_with(
        &self,
        batch: Batch,
        then: impl FnOnce(&mut Desk) + Send,
    ) -> Result<(), StoreError> {
        let store = &self.ports.store;
        self.committed(batch, |batch| store.commit(batch), then).await
    }

    /// Also gives the proof that the batch's first entry is in the log.
    pub(crate) async fn commit_proved(&self, batch: Batch) -> Result<Inclusion, StoreError> {
        let (store, id) = (&self.ports.store, batch.first_entry()?);
        match self.committed(batch, |batch| store.commit_proved(batch), |_| ()).await? {
            Some(proved) => Ok(proved),
            None => store.proved(id).await,
        }
    }

    async fn committed<'a, T: Send + 'a>(
        &self,
        mut batch: Batch,
        write: impl FnOnce(Batch) -> Doing<'a, Result<T, StoreError>> + Send,
        then: impl FnOnce(&mut Desk) + Send,
    ) -> Result<T, StoreError> {
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let outcomes = batch.entries.iter().filter(|d| d.phase == Phase::Outcome);
        let outcomes: Vec<_> = outcomes.filter_map(|d| Some((d.intent?, d.correlation))).collect();
        let mark = {
            let desk = self.read();
            if let Some(why) = &desk.store_lost {
                let error = StoreError::Lost(why.clone());
                drop(desk);
                self.write().unresolved.extend(outcomes);
                return Err(error);
            }
            let old = desk.state.clock.as_ref().map(|m| m.wall);
            let due = old.is_none_or(|t| now.since(t) >= MARK_EVERY);
            due && !desk.clock.doubts(now, boot)
        };
        if mark {
            batch.changes.push(Change::Clock(ClockMark { wall: now, boot, boot_id: self.ports.clock.boot_id() }));
        }
        let shared = batch.changes.iter().filter(|c| is_shared(c)).count();
        if shared > 0 {
            let mut desk = self.write();
            let shared = batch.changes.iter().filter(|c| is_shared(c));
            shared.for_each(|c| desk.state.apply(c));
        }
        let mut own = Vec::with_capacity(batch.changes.len().saturating_sub(shared));
        own.extend(batch.changes.iter().filter(|c| !is_shared(c)).cloned());
        let result = write(batch).await;
        let mut desk = self.write();
        match &result {
            Ok(_) => {
                if !desk.unresolved.is_empty() {
                    let has_outcome = |id: &EntryId| outcomes.iter().any(|(intent, _)| intent == id);
                    // An attempt that stands in the state as it really is resolves its intent in its own time.
                    let goes_on = |attempt: &Option<AttemptId>| own.iter().any(|c| attempt_of(c) == *attempt);
                    desk.unresolved.retain(|id, attempt| !(has_outcome(id) || attempt.is_some() && goes_on(attempt)));
                }
                own.iter().for_each(|c| desk.state.apply(c));
                // Those that this commit carried, and no others: what was latched meanwhile is still to be written.
                for (on, latch) in own.iter().filter_map(latched) {
                    if desk.unsaved_latches.get(on) == Some(latch) {
                        desk.unsaved_latches.remove(on);
                    }
                }
                if own.iter().any(crate::engine::authority::moves_trust) {
                    desk.trust_moves.note(self.ports.clock.boottime());
                }
                then(&mut desk);
            }
            Err(error) => {
                // What they say has happened, and is not recorded.
                desk.unresolved.extend(outcomes);
                desk.store_failing.get_or_insert(boot);
                if let StoreError::Lost(why) = error {
                    desk.store_lost = Some(why.clone());
                }
            }
        }
        let fault = result.as_ref().err().map(ToString::to_string);
        let before = core::mem::replace(&mut desk.store_fault, fault);
        if result.is_ok() {
            desk.store_failing = None;
        }
        drop(desk);
        self.tell_of_store(before.is_some(), result.as_ref().err());
        self.ports.meter.count(Count::Commit { took: self.ports.clock.boottime().since(boot) });
        result
    }

    /// Says once that nothing can be recorded, and once that it is over.
    fn tell_of_store(&self, failed_before: bool, error: Option<&StoreError>) {
        let (code, urgent, text) = match error {
            Some(error) if !failed_before => {
                let text =
                    format!("audit_unavailable: nothing that adds authority is done, every path is closed: {error}");
                (AUDIT_UNAVAILABLE, Urgency::Act, text)
            }
            None if failed_before => ("KW6031", Urgency::Routine, "the audit log can be written again".to_owned()),
            None | Some(_) => return,
        };
        self.ports.notifier.notify(Notice { about: "audit".into(), owner: None, code, text, urgent });
    }

    /// Why the store is never asked again: a flush that failed must not be tried a second time.
    pub(crate) fn medium_lost(&self) -> Option<String> {
        self.read().store_lost.clone()
    }

    /// While nothing can be written, a commit that changes nothing is tried with every evaluation: a gate that closed for
    /// it would otherwise wait for the next renewal to open again. What waits to be written is tried instead of it.
    pub(crate) async fn retry_store(&self, agenda: &mut Agenda, now: Timestamp) {
        let (failing, owes) = {
            let desk = self.read();
            (desk.store_fault.is_some(), desk.owes())
        };
        if (failing || owes) && !agenda.has(&Task::Store) && self.medium_lost().is_none() {
            agenda.set(Task::Store, now.plus(EVALUATE_EVERY));
            // The paths close at once, not at the next evaluation.
            if failing {
                self.evaluate(None).await;
            }
            if self.read().owes() {
                if self.drain().await {
                    self.evaluate(None).await;
                }
                return;
            }
            // A mark that is there already, or the present time with it, is all that is written.
            let mark = self.read().state.clock.clone();
            let batch = Batch { changes: mark.map(Change::Clock).into_iter().collect(), entries: Vec::new() };
            if self.commit(batch).await.is_ok() {
                self.evaluate(None).await;
            }
        }
    }

    /// Whether nothing could be written for so long that only a restart can help.
    pub(crate) fn is_store_lost(&self) -> bool {
        let boot = self.ports.clock.boottime();
        self.read().store_failing.is_some_and(|since| boot.since(since) > STORE_PATIENCE)
    }

    pub(crate) fn fresh_ulid(&self) -> Ulid {
        let mut random = [0; 10];
        self.ports.entropy.fill(&mut random);
        Ulid::new(self.ports.clock.now(), random)
    }

    pub(crate) fn draft(&self, action: &'static str, code: &'static str, target: Target) -> Draft {
        Draft::new(EntryId(self.fresh_ulid()), self.ports.clock.now(), action, code, target)
    }

    pub(crate) fn draft_for(&self, attempt: &Attempt, action: &'static str, code: &'static str) -> Draft {
        let mut draft = self.draft(action, code, Target::new(TargetKind::Credential, &attempt.credential));
        draft.correlation = Some(attempt.id);
        draft
    }

    /// The outcome of `intent`.
    pub(crate) fn outcome(
        &self,
        attempt: &Attempt,
        action: &'static str,
        code: &'static str,
        outcome: Outcome,
    ) -> Draft {
        let mut draft = self.draft_for(attempt, action, code);
        draft.phase = Phase::Outcome;
        draft.outcome = Some(outcome);
        draft.intent = Some(attempt.intent);
        draft
    }

    /// The exchanges with the CA so far, as one piece of evidence.
    pub(crate) fn acme_evidence(&self, issuer: &IssuerId, url: &str) -> Vec<Piece> {
        let exchanges = self.ports.issuer.take_evidence(issuer, url).exchanges;
        if exchanges.is_empty() {
            return Vec::new();
        }
        let bytes: Arc<[u8]> = Arc::from(exchanges.join("\n").into_bytes());
        vec![Piece {
            name: "acme-exchanges".into(),
            sha256: Digest::of(&bytes),
            size: bytes.len(),
            media: "application/x-ndjson",
            captured_at: self.ports.clock.now(),
            bytes,
        }]
    }

    pub(crate) fn notify(&self, about: &CredentialId, code: &'static str, urgent: Urgency, text: String) {
        let owner = self.read().estate.credentials.get(about).and_then(|c| c.owner.clone());
        self.ports.notifier.notify(Notice { about: about.as_str().to_owned(), owner, code, text, urgent });
    }

    /// Ends an attempt that failed for good: records the failure, the backoff, the issuer's breaker and what the ledger
    /// loses, destroys the unused key, and tells the owner.
    pub(crate) async fn fail(&self, attempt: &Attempt, url: &str, setback: Setback) -> Result<(), StoreError> {
        let now = self.ports.clock.now();
        let mut batch = Batch::default();
        {
            let desk = self.read();
            let record = self.after_failure(&desk, attempt, &setback, now);
            batch.changes.push(Change::Credential(attempt.credential.clone(), Arc::new(record)));
            batch.changes.extend(issuer_after(&desk, attempt, &setback, now));
            batch.changes.extend(spent_failures(&desk, attempt, &setback, now));
            batch.changes.extend(given_back(&desk, attempt, &setback, now));
        }
        batch.changes.push(Change::AttemptEnded(attempt.id));
        let action = if attempt.stage == Stage::Issued { "certificate.install" } else { "certificate.issue" };
        let mut draft = self.outcome(attempt, action, setback.code, Outcome::Failure);
        draft.facts = failure_facts(&setback, Some(&attempt.issuer));
        draft.private.push(("text", Arc::from(bounded_text(&setback.text))));
        draft.evidence = self.acme_evidence(&attempt.issuer, url);
        batch.entries.push(draft);
        self.commit(batch).await?;
        self.ports.meter.count(Count::Renewal {
            issuer: attempt.issuer.clone(),
            trigger: attempt.trigger.as_str(),
            result: setback.code,
            took: now.since(attempt.began),
        });
        self.destroy_unused(attempt).await;
        let link = setback.error.as_ref().and_then(|e| e.link.clone());
        let hint = link.map_or_else(String::new, |l| format!(" — a person has to open {l}"));
        self.notify(&attempt.credential, setback.code, Urgency::Act, format!("{}{hint}", setback.text));
        Ok(())
    }

    /// Destroys the key of an attempt that ended without an installation. A failure costs disk space, nothing else.
    pub(crate) async fn destroy_unused(&self, attempt: &Attempt) {
        let slot_in_use = {
            let desk = self.read();
            let record = desk.state.credentials.get(&attempt.credential);
            record.is_some_and(|r| [&r.current, &r.previous].into_iter().flatten().any(|g| g.slot == attempt.id))
        };
        if !slot_in_use && let Err(error) = self.ports.keys.destroy(attempt.id).await {
            let text = format!("an unused key was not removed: {error}");
            self.notify(&attempt.credential, "KW2009", Urgency::Routine, text);
        }
    }

    /// Puts an attempt aside: it goes on later from the same stage, with the same order and key.
    pub(crate) async fn park(&self, attempt: &mut Arc<Attempt>, url: &str, setback: Setback) -> Result<(), StoreError> {
        let now = self.ports.clock.now();
        let mut next = Attempt::clone(attempt);
        next.failures = next.failures.saturating_add(1);
        let mut batch = Batch::default();
        {
            let desk = self.read();
            let record = self.after_failure(&desk, attempt, &setback, now);
            next.not_before = record.next_attempt;
            batch.changes.push(Change::Credential(attempt.credential.clone(), Arc::new(record)));
            batch.changes.extend(issuer_after(&desk, attempt, &setback, now));
        }
        *attempt = Arc::new(next);
        batch.changes.push(Change::Attempt(attempt.clone()));
        let mut draft = self.draft_for(attempt, "certificate.postpone", setback.code);
        draft.facts = failure_facts(&setback, Some(&attempt.issuer));
        draft.private.push(("text", Arc::from(bounded_text(&setback.text))));
        draft.facts.push(("stage", Json::str(attempt.stage.as_str())));
        draft.facts.push(("until", Json::opt(attempt.not_before.as_ref().map(Json::show))));
        draft.evidence = self.acme_evidence(&attempt.issuer, url);
        batch.entries.push(draft);
        self.commit(batch).await?;
        self.notify(&attempt.credential, setback.code, Urgency::Act, setback.text);
        Ok(())
    }

    fn after_failure(&self, desk: &Desk, attempt: &Attempt, setback: &Setback, now: Timestamp) -> CredentialRecord {
        let mut record = CredentialRecord::clone(&desk.state.credential(&attempt.credential));
        record.failures = record.failures.saturating_add(1);
        let only_issuer = desk
            .estate
            .credentials
            .get(&attempt.credential)
            .and_then(|c| c.managed())
            .is_none_or(|m| m.issuers.len() <= 1);
        // Another issuer does not care how long the first one wants to be left alone.
        let retry_after = setback.error.as_ref().and_then(|e| e.retry_after).filter(|_| only_issuer);
        let validity = record.current.as_ref().map(|g| g.validity);
        let wait = backoff(&Backoff {
            failures: record.failures,
            lifetime: validity.map(|v| v.lifetime()),
            left: validity.map(|v| now.until(v.not_after)),
            retry_after,
            seed: Digest::of(attempt.credential.as_str().as_bytes()).leading_u64(),
        });
        record.next_attempt = Some(now.plus(wait));
        record.last_failure = Some(Failure {
            at: now,
            code: Arc::from(setback.code),
            text: Arc::from(bounded_text(&setback.text)),
            fault: setback.fault,
            issuer: (setback.fault != Fault::Host).then(|| attempt.issuer.clone()),
        });
        record
    }

    /// The policy part of an entry.
    pub(crate) fn policy_part(decision: &Decision) -> Policy {
        Policy {
            decision: decision.verdict.as_str(),
            rule: decision.rule.clone(),
            version: decision.version,
            inputs: decision.inputs,
            tier: decision.tier.level(),
        }
    }
}

/// Which attempt a change tells of.
fn attempt_of(change: &Change) -> Option<AttemptId> {
    match change {
        Change::Attempt(attempt) => Some(attempt.id),
        Change::AttemptEnded(id) => Some(*id),
        Change::Credential(..)
        | Change::Forget(_)
        | Change::Issuer(..)
        | Change::Bucket(..)
        | Change::AutomaticIssuance(..)
        | Change::Clock(_)
        | Change::Latch(..)
        | Change::Freeze(..)
        | Change::Generation(..)
        | Change::Issued(..)
        | Change::Key(..)
        | Change::Piece(..)
        | Change::Account(..)
        | Change::Order(..) => None,
    }
}

/// Whether a change is about something that several attempts count on: the ledger and the issuers.
/// A latch that it lays.
fn latched(change: &Change) -> Option<(&LatchOn, &Latch)> {
    if let Change::Latch(on, Some(latch)) = change { Some((on, latch)) } else { None }
}

fn is_shared(change: &Change) -> bool {
    match change {
        Change::Issuer(..) | Change::Bucket(..) | Change::AutomaticIssuance(..) => true,
        Change::Credential(..)
        | Change::Forget(_)
        | Change::Attempt(_)
        | Change::AttemptEnded(_)
        | Change::Clock(_)
        | Change::Latch(..)
        | Change::Freeze(..)
        | Change::Generation(..)
        | Change::Issued(..)
        | Change::Key(..)
        | Change::Piece(..)
        | Change::Account(..)
        | Change::Order(..) => false,
    }
}

/// What the failure does to the issuer's circuit breaker: after three in a row of its own fault it is left alone for
/// five minutes, doubling to an hour, or for as long as it asks for.
fn issuer_after(desk: &Desk, attempt: &Attempt, setback: &Setback, now: Timestamp) -> Option<Change> {
    if !matches!(setback.fault, Fault::Issuer | Fault::Network) {
        return None;
    }
    let mut record: IssuerRecord = desk.state.issuers.get(&attempt.issuer).cloned().unwrap_or_default();
    record.failures = record.failures.saturating_add(1);
    let asked = setback.error.as_ref().and_then(|e| e.retry_after).map(|d| d.min(LONGEST_BACKOFF));
    if let Some(beyond) = record.failures.checked_sub(BREAKER_THRESHOLD) {
        let rest = (MINUTE * 5).saturating_mul(1 << beyond.min(4)).min(HOUR);
        record.open_until = Some(now.plus(rest.max(asked.unwrap_or_default())));
    } else if let Some(asked) = asked {
        record.open_until = Some(now.plus(asked));
    }
    Some(Change::Issuer(attempt.issuer.clone(), record))
}

/// Failed validations count at the CA; they count here too, for exactly the names that failed.
fn spent_failures(desk: &Desk, attempt: &Attempt, setback: &Setback, now: Timestamp) -> Vec<Change> {
    let Some(error) = setback.error.as_ref().filter(|e| e.kind == IssuerErrorKind::ValidationFailed) else {
        return Vec::new();
    };
    let Some(issuer) = desk.estate.issuers.get(&attempt.issuer) else { return Vec::new() };
    // Only names of this order: a CA may say anything, and each makes a bucket.
    let own: BTreeSet<Name> = authorized_names(&attempt.names);
    let named: Vec<_> =
        error.subproblems.iter().map(|(name, ..)| name).filter(|n| own.contains(&n.authorized())).collect();
    let failed = if named.is_empty() { attempt.names.iter().collect() } else { named };
    let spends = failure_spends(&issuer.id, &issuer.limits, failed.into_iter());
    spends.map(|s| Change::Bucket(s.bucket.clone(), desk.state.ledger.after(&s, now))).collect()
}

/// What counts at the CA only with a certificate is given back when there surely is none.
fn given_back(desk: &Desk, attempt: &Attempt, setback: &Setback, now: Timestamp) -> Vec<Change> {
    let refused = setback.error.as_ref().is_some_and(|e| {
        matches!(
            e.kind,
            IssuerErrorKind::ValidationFailed
                | IssuerErrorKind::RateLimited
                | IssuerErrorKind::Refused
                | IssuerErrorKind::Account
        )
    });
    let unissued = match attempt.stage {
        Stage::Begun => true,
        // Without its key nobody knows whether the order was finalized before.
        Stage::Ordered { .. } => {
            refused || setback.error.is_none() && setback.fault != Fault::Issuer && setback.code != NO_KEY
        }
        Stage::Issued => false,
    };
    let Some(issuer) = desk.estate.issuers.get(&attempt.issuer).filter(|_| unissued) else { return Vec::new() };
    refunds(attempt, issuer, &desk.state.credential(&attempt.credential), &desk.state.ledger, now)
}

fn failure_facts(setback: &Setback, issuer: Option<&IssuerId>) -> Vec<(&'static str, Json)> {
    let error = setback.error.as_ref();
    vec![
        ("fault", Json::str(setback.fault.as_str())),
        ("issuer", Json::opt(issuer.map(|i| Json::str(i.as_str().to_owned())))),
        ("problem", Json::opt(error.and_then(|e| e.problem.clone()).filter(|p| is_plain(p)).map(Json::str))),
        ("retry_after_secs", Json::opt(error.and_then(|e| e.retry_after).map(|d| Json::show(&d.as_secs())))),
    ]
}

/// Whether a word from a CA is one of a standard's and no free text.
fn is_plain(word: &str) -> bool {
    word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':'))
}
