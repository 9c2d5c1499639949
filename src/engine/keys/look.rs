//! Looking at keys, and telling people what is wrong with them.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use crate::domain::assessment::{Finding, Severity};
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::keyring::findings;
use crate::domain::state::Change;
use crate::domain::time::{DAY, Timestamp};
use crate::domain::tracked::{KeyLook, Print, TrackedKey};
use crate::domain::upkeep::{Act, Done, KeyRecord, KeyVersion, News, Step};
use crate::engine::keys::{Tracker, locked};
use crate::ports::{Batch, HostError, Notice, Urgency};

/// So many keys are looked at at once.
const AT_ONCE: usize = 8;
/// A key that nobody has seen since the start is looked at again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// The same trouble is told again after this: what is critical daily, the rest weekly.
const TOLD_AGAIN: (Duration, Duration) = (DAY, DAY.saturating_mul(7));

impl Tracker {
    /// Looks at whatever is due.
    pub(super) async fn round(&self) {
        self.save_unsaved().await;
        let due = self.due();
        let looks = due.into_iter().map(|key| async move { self.look(&key).await });
        let changed = stream::iter(looks).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        if !changed.is_empty() {
            self.engine.evaluate(None).await;
        }
        self.assess();
        self.compare_uses().await;
    }

    fn due(&self) -> Vec<Arc<TrackedKey>> {
        let boot = self.engine.ports.clock.boottime();
        let desk = self.engine.read();
        let mut looked = locked(&self.looked);
        looked.retain(|id, _| desk.estate.keys.contains_key(id));
        let seen = |id: &KeyId| desk.key_sights.get(id).is_some_and(|s| s.print.is_some() || s.failing.is_some());
        let is_due = |key: &TrackedKey| match looked.get(&key.id) {
            None => true,
            Some(at) if Self::is_manual(key) => !desk.state.keys.contains_key(&key.id) && boot.since(*at) >= AGAIN,
            Some(at) => boot.since(*at) >= if seen(&key.id) { key.every } else { key.every.min(AGAIN) },
        };
        desk.estate.keys.values().filter(|key| is_due(key)).cloned().collect()
    }

    async fn look(&self, key: &TrackedKey) {
        let began = self.engine.ports.clock.boottime();
        locked(&self.looked).insert(key.id.clone(), began);
        if Self::is_manual(key) {
            self.note_manual(key).await;
            return;
        }
        let prints = self.prints();
        let look = self.probe.look(key, prints).await;
        let live = match (&look, &key.live) {
            (Ok(_), Some(_)) => Some(self.probe.live(key, self.prints()).await),
            (Ok(_), None) | (Err(_), _) => None,
        };
        // A configuration that was read meanwhile has another place; and a clock that stepped began everything anew.
        let same = self.engine.read().estate.keys.get(&key.id).is_some_and(|now| **now == *key);
        let forgotten = self.engine.read().forgotten.is_some_and(|at| began < at);
        if same && !forgotten {
            self.note(key, look, live).await;
        }
    }

    /// Of what nobody can look at, the configuration tells when it was made.
    async fn note_manual(&self, key: &TrackedKey) {
        let _book = self.book.lock().await;
        let record = self.record(&key.id);
        if record.current.is_some() || self.believe_clock().is_err() {
            return;
        }
        let now = self.now();
        let created = key.created.unwrap_or(now).min(now);
        let first = KeyVersion::active(record.next_number(), created, now, "as the configuration says");
        let record = KeyRecord { current: Some(first), ..record };
        let draft = self.draft("key.track", "KW4900", key, &record);
        // What cannot be written now is tried again.
        drop(self.keep(&key.id, record, draft).await);
    }

    /// Takes in what a look brought.
    pub(super) async fn note(
        &self,
        key: &TrackedKey,
        look: Result<KeyLook, HostError>,
        live: Option<Result<Print, HostError>>,
    ) {
        let now = self.now();
        match look {
            Ok(look) => {
                // While the clock is not believed nothing has an age.
                if self.believe_clock().is_ok() && self.learn(key, &look, now).await.is_err() {
                    return;
                }
                let not_live = live.and_then(|live| match live {
                    Ok(print) if print == look.print => None,
                    Ok(_) => Some("it uses another key than the one that is in its place".to_owned()),
                    Err(error) => Some(format!("it cannot be asked: {error}")),
                });
                let mut desk = self.engine.write();
                let sight = desk.key_sights.entry(key.id.clone()).or_default();
                sight.seen_at = Some(now);
                sight.print = Some(look.print);
                sight.failing = None;
                sight.weak = look.weak;
                let since = sight.not_live.take().map_or(now, |(since, _)| since);
                sight.not_live = not_live.map(|why| (since, why));
            }
            Err(error) => {
                let mut desk = self.engine.write();
                let sight = desk.key_sights.entry(key.id.clone()).or_default();
                let since = sight.failing.take().map_or(now, |(since, _)| since);
                sight.failing = Some((since, error.0));
            }
        }
    }

    /// What a look says about the record, made durable. An error leaves the key as if it had not been looked at.
    async fn learn(&self, key: &TrackedKey, look: &KeyLook, now: Timestamp) -> Result<(), ()> {
        let _book = self.book.lock().await;
        let before = self.record(&key.id);
        let (record, action, code) = match before.seen(look, key.class, key.created, now) {
            News::None => return Ok(()),
            News::First(record) | News::Recognised(record) => (record, "key.track", "KW4900"),
            News::Renewed(record) => (record, "key.renewed", "KW4903"),
            News::Reissued(record) => (record, "key.reissued", "KW4903"),
            News::Rekeyed(record) => (record, "key.rekeyed", "KW4902"),
            News::Returned(record) => (record, "key.returned", "KW4904"),
        };
        let (record, blocked) = self.unless_blocked(key, record, now);
        let mut draft = self.draft(action, code, key, &record);
        if let Some(old) = &record.previous {
            draft.facts.push(("previous", Json::opt(old.print.as_ref().map(Json::show))));
        }
        let text = match code {
            "KW4902" => Some(format!("another key is in the place of key {}: it counts as rotated", key.id)),
            "KW4904" => Some(format!("an earlier key is in the place of key {} again, with its age", key.id)),
            _ if blocked => Some(format!("key {} is one that others may have", key.id)),
            _ => None,
        };
        let stopped = before.rotation.as_ref().filter(|_| record.rotation.is_none());
        let text = text.map(|text| match stopped {
            None => text,
            Some(_) => format!("{text}; its rotation is stopped, and the old key is not retired"),
        });
        let mut entries = Vec::new();
        if let Some((rotation, intent)) = stopped.and_then(|r| Some((r, r.intent?))) {
            entries.push(self.cut_off(key, &before, rotation, intent));
        }
        entries.push(draft);
        let urgent = blocked || code == "KW4904" || stopped.is_some();
        let changes = vec![Change::Key(key.id.clone(), Arc::new(record))];
        self.engine.commit(Batch { changes, entries }).await.map_err(drop)?;
        if let Some(text) = text {
            let urgent = if urgent { Urgency::Act } else { Urgency::Routine };
            self.notify(key, code, urgent, text);
        }
        Ok(())
    }

    /// A key that was blocked is compromised wherever it comes up.
    fn unless_blocked(&self, key: &TrackedKey, mut record: KeyRecord, now: Timestamp) -> (KeyRecord, bool) {
        let print = record.current.as_ref().and_then(|v| v.print);
        let latch = print.and_then(|print| {
            let on = crate::domain::state::LatchOn::Key(print.digest());
            self.engine.read().state.latches.get(&on).cloned()
        });
        let Some((latch, current)) = latch.zip(record.current.clone()) else { return (record, false) };
        let done = Done {
            at: now,
            reason: Arc::from("it is blocked: it was reported as compromised before"),
            by: None,
            suspected: Some(latch.at.min(now)),
        };
        match current.after(Act::Compromise, key.class, &done) {
            Ok(bad) => {
                record.current = Some(bad);
                (record, true)
            }
            Err(_) => (record, false),
        }
    }

    pub(super) fn notify(&self, key: &TrackedKey, code: &'static str, urgent: Urgency, text: String) {
        let about = format!("key/{}", key.id);
        self.engine.ports.notifier.notify(Notice { about, owner: key.owner.clone(), code, text, urgent });
    }

    /// Assesses every key again, and tells owners of what is new, and again of what stays.
    fn assess(&self) {
        if self.believe_clock().is_err() {
            return;
        }
        let now = self.now();
        let all: Vec<(Arc<TrackedKey>, Vec<Finding>)> = {
            let desk = self.engine.read();
            let found = |key: &Arc<TrackedKey>| {
                let record = desk.state.keys.get(&key.id).map(|r| KeyRecord::clone(r)).unwrap_or_default();
                let sight = desk.key_sights.get(&key.id).cloned().unwrap_or_default();
                (key.clone(), findings(key, &record, &sight, now))
            };
            desk.estate.keys.values().map(found).collect()
        };
        let fresh: BTreeMap<KeyId, Vec<Finding>> =
            all.iter().filter(|(_, f)| !f.is_empty()).map(|(key, f)| (key.id.clone(), f.clone())).collect();
        let same = self.engine.read().key_findings == fresh;
        if !same {
            self.engine.write().key_findings = fresh;
        }
        for (key, found) in all {
            self.tell_once(&key.id.to_string(), &found, now, |finding, urgent| {
                self.notify(&key, finding.code, urgent, finding.text.clone());
            });
        }
    }

    /// Tells of findings that are new, or were not told for long. What is over may be told anew at once.
    pub(super) fn tell_once(
        &self,
        about: &str,
        found: &[Finding],
        now: Timestamp,
        mut tell: impl FnMut(&Finding, Urgency),
    ) {
        let mut told = locked(&self.told);
        // Those about it alone stand beside each other: with ten thousand others told of, they are not gone through.
        let own = told.range((about.to_owned(), "")..).take_while(|((whom, _), _)| whom == about);
        let over = own.map(|((_, code), _)| *code).filter(|code| !found.iter().any(|f| f.code == *code));
        for code in over.collect::<Vec<_>>() {
            told.remove(&(about.to_owned(), code));
        }
        for finding in found.iter().filter(|f| f.severity > Severity::Note) {
            let critical = finding.severity == Severity::Critical;
            let again = if critical { TOLD_AGAIN.0 } else { TOLD_AGAIN.1 };
            let key = (about.to_owned(), finding.code);
            if told.get(&key).is_none_or(|at| now.since(*at) >= again) {
                told.insert(key, now);
                tell(finding, if critical { Urgency::Act } else { Urgency::Routine });
            }
        }
    }

    /// Whether a look found the key that a rotation has made, in its place and in use; says what is missing.
    pub(super) async fn proved(
        &self,
        key: &TrackedKey,
        step: Step,
        record: &KeyRecord,
    ) -> Result<Option<KeyLook>, HostError> {
        if step != Step::Finish {
            return Ok(None);
        }
        let look = self.probe.look(key, self.prints()).await?;
        let old = record.current.as_ref().and_then(|v| v.print);
        let new = record.pending.as_ref().and_then(|v| v.print);
        if Some(look.print) == old {
            return Err(HostError("the hook says that it is done, and the old key is still in its place".to_owned()));
        }
        if new.is_some_and(|new| new != look.print) {
            return Err(HostError("the key that is in its place is not the one that was made".to_owned()));
        }
        if key.live.is_some() && self.probe.live(key, self.prints()).await? != look.print {
            return Err(HostError("the live system does not use the new key yet".to_owned()));
        }
        Ok(Some(look))
    }

    /// Whether the key that this rotation made is still in its place and in use: only then may the old one go. Whatever else
    /// a look finds there stops the rotation.
    pub(super) async fn still_used(&self, key: &TrackedKey) -> Result<(), HostError> {
        let no = |why: &str| Err(HostError(format!("{why}, so the old one is not retired")));
        let look = self.probe.look(key, self.prints()).await?;
        let made = self.record(&key.id).current.and_then(|v| v.print);
        if made != Some(look.print) {
            // If it cannot be written now, the next look stops it.
            if self.learn(key, &look, self.now()).await.is_ok() {
                self.engine.evaluate(None).await;
            }
            return no("the key that is in its place is not the one that this rotation made");
        }
        if key.live.is_some() && self.probe.live(key, self.prints()).await? != look.print {
            return no("the live system does not use the new key");
        }
        // A look meanwhile may have stopped it.
        match self.record(&key.id).retires() {
            true => Ok(()),
            false => no("the rotation was stopped"),
        }
    }
}
