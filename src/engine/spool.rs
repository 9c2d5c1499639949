//! What happened and is not in the log yet: entries about what removed authority, and outcomes.
//!
//! An act that removes authority is done first and recorded afterwards. An entry that cannot be written waits here, in
//! memory and behind the [`crate::ports::Spool`]; while anything waits, every path is closed, so nothing reopens before it
//! is in the log. The outcome of an effect waits in memory only: after a crash the effect is looked at again, which is
//! worth more than what an unsigned file says about it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::domain::audit::{Draft, Target, TargetKind, bounded_text};
use crate::domain::gate::{BROKEN_LOG, SPOOLED, UNRESOLVED};
use crate::domain::id::{EntryId, FreezeId};
use crate::domain::json::Json;
use crate::engine::freeze::begun_freeze;
use crate::engine::latch::latched;
use crate::engine::{Desk, Engine};
use crate::ports::{Batch, More, Notice, Spooled, Urgency};

/// So many entries wait at most: each of a thousand paths could close four times. What comes then is counted.
const MOST: usize = 4_096;
/// Nor more bytes than this, by the facts, which are what varies.
const MOST_BYTES: usize = 4 * 1_024 * 1_024;
/// What an entry has besides its facts.
const ENVELOPE: usize = 512;
/// So many are written at once: far below what a store takes in two seconds.
const CHUNK: usize = 256;
/// So many outcomes wait at most; there are as many as account keys being changed. More are found out at the restart.
const MOST_OWED: usize = 64;
/// The queue in memory.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    drafts: VecDeque<Draft>,
    bytes: usize,
    more: Option<More>,
    /// Why it is not known what an earlier life left behind.
    unread: Option<String>,
    /// Something lies behind the door.
    kept: bool,
    /// People were told that it could not be kept.
    told: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.more.is_none() && self.unread.is_none()
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> u64 {
        let drafts = u64::try_from(self.drafts.len()).unwrap_or(u64::MAX);
        drafts.saturating_add(self.more.map_or(0, |m| m.count)).saturating_add(u64::from(self.unread.is_some()))
    }

    /// The entries with this action that wait.
    pub(crate) fn waiting(&self, action: &str) -> Vec<Draft> {
        self.drafts.iter().filter(|draft| draft.action == action).cloned().collect()
    }

    /// Takes an entry in if there is room.
    fn take(&mut self, draft: Draft) -> bool {
        let weight = weight(&draft);
        let room = self.drafts.len() < MOST && self.bytes.saturating_add(weight) <= MOST_BYTES;
        if room {
            self.bytes = self.bytes.saturating_add(weight);
            self.drafts.push_back(draft);
        }
        room
    }

    fn drop_ids(&mut self, ids: &BTreeSet<EntryId>) {
        self.drafts.retain(|d| !ids.contains(&d.id));
        self.bytes = self.drafts.iter().map(weight).fold(0, usize::saturating_add);
        self.more = self.more.filter(|m| !ids.contains(&m.id));
    }
}

fn weight(draft: &Draft) -> usize {
    let facts = draft.facts.iter().map(|(key, value)| key.len().saturating_add(value.canonical().len()));
    let private = draft.private.iter().map(|(key, text)| key.len().saturating_add(text.len()));
    facts.chain(private).fold(ENVELOPE, usize::saturating_add)
}

impl Desk {
    /// Whether something that happened is not in the log, as a reason for which every path is closed.
    pub(crate) fn unrecorded(&self) -> Option<(&'static str, &str)> {
        // Whatever it holds, nobody can say that it is the log.
        if let Some(why) = &self.log_fault {
            return Some((BROKEN_LOG, why));
        }
        if let Some(why) = &self.spool.unread {
            return Some((SPOOLED, why));
        }
        if !self.spool.is_empty() {
            return Some((SPOOLED, "entries about what closed wait to be written into the audit log"));
        }
        (!self.unresolved.is_empty())
            .then_some((UNRESOLVED, "what came of an effect could not be written into the audit log"))
    }

    /// Whether something is to be written that is not there yet.
    pub(crate) fn owes(&self) -> bool {
        !self.spool.is_empty() || self.spool.kept || !self.owed.is_empty()
    }
}

impl Engine {
    /// Reads what an earlier life left.
    pub(super) async fn load_spool(&self) {
        let loaded = self.ports.spool.load().await;
        let unreadable = loaded.as_ref().map(|s| s.unreadable.clone()).unwrap_or_default();
        let strangers: Vec<Draft> = unreadable.iter().map(|line| self.stranger(line)).collect();
        let mut guard = self.write();
        let desk = &mut *guard;
        let spool = &mut desk.spool;
        match loaded {
            Ok(Spooled { drafts, more, unreadable }) => {
                spool.unread = None;
                // What was latched is latched, although its change was never written.
                for (on, latch) in drafts.iter().filter_map(latched) {
                    desk.unsaved_latches.insert(on.clone(), latch.clone());
                    desk.state.latches.insert(on, latch);
                }
                spool.kept |= !drafts.is_empty() || more.is_some() || !unreadable.is_empty();
                spool.more = spool.more.or(more);
                // What the door gave is bounded by the door; nothing of it is dropped.
                drafts.into_iter().chain(strangers).for_each(|draft| {
                    spool.bytes = spool.bytes.saturating_add(weight(&draft));
                    spool.drafts.push_back(draft);
                });
            }
            Err(error) => spool.unread = Some(format!("what an earlier run left in the spool cannot be read: {error}")),
        }
    }

    /// A line that nobody understands, as an entry.
    fn stranger(&self, line: &str) -> Draft {
        let mut draft = self.draft("audit.spool", "KW6035", Target::new(TargetKind::Daemon, "keyward"));
        draft.facts = vec![("spooled", Json::Bool(true))];
        draft.private.push(("line", Arc::from(bounded_text(line))));
        draft
    }

    /// Lets entries about what was done already wait until they can be written. Never waits, never fails.
    pub(super) fn spool(&self, drafts: Vec<Draft>) {
        let id = EntryId(self.fresh_ulid());
        let mut desk = self.write();
        for mut draft in drafts {
            draft.facts.push(("spooled", Json::Bool(true)));
            desk.spool.kept = true;
            if desk.spool.take(draft.clone()) {
                self.ports.spool.keep(&draft);
                continue;
            }
            let old = desk.spool.more.unwrap_or(More { id, count: 0, since: draft.at, until: draft.at });
            let more = More { count: old.count.saturating_add(1), until: draft.at, ..old };
            desk.spool.more = Some(more);
            // A line for each power of two: a spool that is full must not grow.
            if more.count.is_power_of_two() {
                self.ports.spool.count(more);
            }
        }
    }

    /// Records what came of an effect. If that cannot be done, the paths are closed and it is tried again.
    pub(super) async fn record_outcome(&self, outcome: Draft) {
        let written = self.commit(Batch { changes: Vec::new(), entries: vec![outcome.clone()] }).await;
        let mut desk = self.write();
        if written.is_err() && desk.owed.len() < MOST_OWED {
            desk.owed.push(outcome);
        }
    }

    /// Writes what waits, in the order in which it happened; says whether nothing waits any more.
    pub(super) async fn drain(&self) -> bool {
        if self.read().spool.unread.is_some() {
            self.load_spool().await;
        }
        loop {
            let (mut entries, more) = {
                let desk = self.read();
                let chunk: Vec<Draft> = desk.spool.drafts.iter().take(CHUNK).cloned().collect();
                (chunk, desk.spool.more.filter(|_| desk.spool.drafts.len() <= CHUNK))
            };
            entries.extend(more.map(Self::counted));
            if entries.is_empty() {
                break;
            }
            // What these entries tell of may be part of the state and not be there yet.
            let (freezes, changes) = self.unsaved_freezes();
            let targets = entries.clone();
            // Last, so that the newest entry of the log has the present time.
            entries.push(self.drained(entries.len()));
            let changes = changes.into_iter().chain(self.unsaved()).collect();
            let saved = |desk: &mut Desk| desk.unsaved_freezes.retain(|id| !freezes.contains(id));
            if self.commit_with(Batch { changes, entries }, saved).await.is_err() {
                // One of them may be there already: its commit was answered with an error that came too late. Then what it
                // changed is there too.
                let known = self.known(&targets).await;
                let begun = targets.iter().filter(|draft| known.contains(&draft.id)).filter_map(begun_freeze);
                let begun: Vec<FreezeId> = begun.collect();
                {
                    let mut desk = self.write();
                    desk.unsaved_freezes.retain(|id| !begun.contains(id));
                    desk.spool.drop_ids(&known);
                }
                self.tell_unkept().await;
                return false;
            }
            self.write().spool.drop_ids(&targets.iter().map(|d| d.id).collect());
        }
        {
            let mut desk = self.write();
            // Something may have come to wait since; whoever spools it holds the desk, as we do here.
            if !desk.spool.is_empty() {
                return false;
            }
            if core::mem::take(&mut desk.spool.kept) {
                self.ports.spool.clear();
            }
            desk.spool.told = false;
        }
        self.pay_owed().await
    }

    /// An outcome could not be written: it is written as soon as that can be done.
    pub(super) fn owe(&self, outcome: Draft) {
        let mut desk = self.write();
        if desk.owed.len() < MOST_OWED {
            desk.owed.push(outcome);
        }
    }

    /// Writes the outcomes that wait.
    async fn pay_owed(&self) -> bool {
        let owed = self.read().owed.clone();
        for outcome in owed {
            let written = self.commit(Batch { changes: Vec::new(), entries: vec![outcome.clone()] }).await.is_ok();
            let there = written || self.known(core::slice::from_ref(&outcome)).await.contains(&outcome.id);
            if !there {
                return false;
            }
            let mut desk = self.write();
            desk.owed.retain(|o| o.id != outcome.id);
            if let Some(intent) = outcome.intent {
                desk.unresolved.remove(&intent);
            }
        }
        true
    }

    /// Which of these are in the log.
    pub(super) async fn known(&self, drafts: &[Draft]) -> BTreeSet<EntryId> {
        let mut known = BTreeSet::new();
        for draft in drafts {
            // Whoever cannot say leaves it waiting: it is asked again.
            if matches!(self.ports.store.entry(draft.id).await, Ok(Some(_))) {
                known.insert(draft.id);
            }
        }
        known
    }

    fn counted(more: More) -> Draft {
        let target = Target::new(TargetKind::Daemon, "keyward");
        let mut draft = Draft::new(more.id, more.until, "audit.spool", "KW6034", target);
        draft.facts = vec![
            ("more", Json::show(&more.count)),
            ("since", Json::show(&more.since)),
            ("until", Json::show(&more.until)),
            ("spooled", Json::Bool(true)),
        ];
        draft
    }

    fn drained(&self, entries: usize) -> Draft {
        let mut draft = self.draft("audit.spool", "KW6033", Target::new(TargetKind::Daemon, "keyward"));
        draft.facts = vec![("entries", Json::show(&entries))];
        draft
    }

    /// Tells people once if what waits would not outlast the process.
    async fn tell_unkept(&self) {
        if self.read().spool.told {
            return;
        }
        if let Err(error) = self.ports.spool.settled().await {
            self.write().spool.told = true;
            let text =
                format!("entries that wait for the audit log are in memory only, a restart would lose them: {error}");
            let notice = Notice { about: "audit".into(), owner: None, code: "KW6037", text, urgent: Urgency::Act };
            self.ports.notifier.notify(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::freeze::Scope;
    use crate::domain::inventory::Estate;
    use crate::domain::time::{HOUR, Timestamp};
    use crate::engine::freeze::WantedFreeze;
    use crate::sim::clock::run;
    use crate::sim::world::World;

    #[test]
    fn what_is_not_recorded_yet_is_not_wiped_by_a_drain_that_ends_meanwhile() {
        let (start, estate) = (Timestamp::from_unix(1_800_000_000), Estate::default());
        let world = World::new(1, start, estate.clone());
        let engine = run(&world.clock, Engine::start(world.ports(), Arc::new(estate))).unwrap().unwrap();
        engine.write().spool.kept = true;
        let wanted = WantedFreeze { scope: Scope::All, reason: "drill".to_owned(), until: start.plus(HOUR) };
        let (id, draft) = engine.begin_freeze(&wanted, "ops").unwrap();
        assert!(run(&world.clock, engine.drain()).unwrap());
        assert!(engine.read().unsaved_freezes.contains(&id), "its record is still to come");
        // Once it waits in the spool, the drain that writes it writes the freeze too.
        engine.spool(vec![draft]);
        assert!(run(&world.clock, engine.drain()).unwrap());
        assert!(engine.read().unsaved_freezes.is_empty() && !engine.read().owes());
    }
}
