//! Starting, stopping, and commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::audit::{Target, TargetKind};
use crate::domain::execution::Attempt;
use crate::domain::gate::CLOCK;
use crate::domain::id::{AttemptId, CredentialId, KeyId};
use crate::domain::inventory::Estate;
use crate::domain::json::Json;
use crate::domain::state::{Change, ClockMark, CredentialRecord, Request, State};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::clockwatch::ClockWatch;
use crate::engine::inbox::Command;
use crate::engine::lists::Tracked;
use crate::engine::looking::same_place;
use crate::engine::people::People;
use crate::engine::spool::Waiting;
use crate::engine::windows::asks_ari;
use crate::engine::{Crew, Desk, Engine};
use crate::ports::{Batch, Ports, StoreError, Urgency};

/// Directories are read a little after the start: what is due comes first.
const META_AFTER: core::time::Duration = core::time::Duration::from_secs(30);

impl Engine {
    /// Loads the state and records the start. Nothing is looked at or done before [`Engine::run`].
    ///
    /// # Errors
    /// [`StoreError`] if the state cannot be read, a witness knows better, or the start cannot be recorded: then nothing may
    /// happen.
    pub async fn start(ports: Ports, estate: Arc<Estate>) -> Result<Self, StoreError> {
        crate::engine::witnessed::ask(&ports).await?;
        let state = match ports.store.load().await {
            Ok(state) => state,
            Err(error) => {
                // If it cannot be remembered, it cannot be mended here either: this start fails again, or another is told.
                drop(ports.store.doubt(Some((ports.clock.now(), error.clone()))).await);
                return Err(error);
            }
        };
        let people = People::of(ports.store.people().await?);
        let desk = Desk::new(&ports, estate, state, people);
        let engine = Self::with(ports, desk);
        engine.load_spool().await;
        engine.restore_freezes().await;
        let mut draft = engine.draft("daemon.start", "KW2401", Target::new(TargetKind::Daemon, "keyward"));
        {
            let desk = engine.read();
            draft.facts = vec![
                ("environment", Json::str(desk.estate.environment.as_str())),
                ("credentials", Json::show(&desk.estate.credentials.len())),
                ("in_flight", Json::show(&desk.state.attempts.len())),
                ("clock_fault", Json::opt(desk.clock.fault().map(|f| Json::str(f.to_owned())))),
                ("spooled", Json::show(&desk.spool.len())),
                // With every start, so that no key ever signed that the log does not name.
                ("lease_keys", Json::arr(engine.statement_keys().into_iter().map(|k| Json::str(k.text)))),
            ];
        }
        engine.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await?;
        engine.begin_epoch().await?;
        engine.latch_doubted().await?;
        engine.sweep_slots().await;
        Ok(engine)
    }

    /// Destroys keys that nothing refers to: an attempt that ended between its record and the removal of its key.
    async fn sweep_slots(&self) {
        let used: BTreeSet<AttemptId> = {
            let desk = self.read();
            let generations = desk.state.credentials.values().flat_map(|r| [&r.current, &r.previous]);
            generations.flatten().map(|g| g.slot).chain(desk.state.attempts.keys().copied()).collect()
        };
        // An empty state beside a full key store is a lost database, not garbage.
        if used.is_empty() {
            return;
        }
        for slot in self.ports.keys.slots().await.unwrap_or_default() {
            if !used.contains(&slot) {
                // A slot that cannot be removed now is met again at the next start.
                drop(self.ports.keys.destroy(slot).await);
            }
        }
    }

    pub(super) fn first_agenda(&self) -> Agenda {
        let now = self.ports.clock.now();
        let mut agenda = Agenda::default();
        let desk = self.read();
        for (id, credential) in &desk.estate.credentials {
            agenda.set(Task::Look(id.clone()), now);
            if credential.managed().is_some() {
                agenda.set(Task::Plan(id.clone()), now);
            }
            if asks_ari(&desk, id) {
                agenda.set(Task::Ari(id.clone()), now);
            }
        }
        // Attempts of credentials that are not configured any more are ended by the same task.
        desk.state.attempts.values().for_each(|a| agenda.set(Task::Plan(a.credential.clone()), now));
        desk.estate.watches.keys().for_each(|id| agenda.set(Task::Expand(id.clone()), now));
        if !desk.estate.paths.is_empty() {
            agenda.set(Task::Evaluate, now);
        }
        desk.estate.issuers.keys().for_each(|id| agenda.set(Task::Meta(id.clone()), now.plus(META_AFTER)));
        agenda.set(Task::Scan, now.plus(desk.estate.full_scan));
        drop(desk);
        self.plan_thaw(&mut agenda);
        self.plan_heartbeat(&mut agenda, now);
        self.plan_inspection(&mut agenda, now);
        agenda
    }

    /// Records a clean stop, with the clocks as they stand.
    pub(super) async fn farewell(&self) -> Result<(), StoreError> {
        let clock = &self.ports.clock;
        let mark = ClockMark { wall: clock.now(), boot: clock.boottime(), boot_id: clock.boot_id() };
        let doubtful = self.read().clock.doubts(mark.wall, mark.boot);
        let changes = if doubtful { Vec::new() } else { vec![Change::Clock(mark)] };
        let draft = self.draft("daemon.stop", "KW2402", Target::new(TargetKind::Daemon, "keyward"));
        self.commit(Batch { changes, entries: vec![draft] }).await
    }

    /// Returns whether the clock began or ceased to be believed: then no time in the agenda means anything any more.
    pub(super) fn watch_clock(&self, now: crate::domain::time::Timestamp, boot: crate::domain::time::Boottime) -> bool {
        let mut desk = self.write();
        let changed = desk.clock.look(now, boot);
        if changed {
            desk.forget_seen(boot);
            let text = desk.clock.fault().map(str::to_owned);
            drop(desk);
            let (code, urgent, text) = match text {
                Some(fault) => (crate::domain::assessment::CLOCK, Urgency::Act, fault),
                None => ("KW2403", Urgency::Routine, "the clocks agree again".to_owned()),
            };
            let notice = crate::ports::Notice { about: "clock".into(), owner: None, code, text, urgent };
            self.ports.notifier.notify(notice);
        }
        changed
    }

    /// Whether the clock is not believed at this very moment: the loop may not have looked yet.
    pub(super) fn distrusts_clock(&self) -> bool {
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        self.board().clock.doubts(now, boot)
    }

    /// Carries a command out.
    ///
    /// # Errors
    /// What it is about could not be recorded, so nothing was done.
    pub(super) async fn obey<'a>(
        &'a self,
        command: Command,
        agenda: &mut Agenda,
        crew: &mut Crew<'a>,
    ) -> Result<(), StoreError> {
        let now = self.ports.clock.now();
        match command {
            Command::Renew { credential, by } => return self.request(&credential, by, agenda).await,
            Command::Look(id) if self.read().estate.watches.contains_key(&id) => agenda.set(Task::Expand(id), now),
            Command::Look(id) => agenda.set(Task::Look(id), now),
            Command::Beat => {}
            Command::Scan => self.scan(agenda, now),
            Command::Estate(estate) => return self.adopt(estate, agenda).await,
            // Whoever asked may be gone by now.
            Command::Forget(wanted, answer) => drop(answer.try_send(self.forget(wanted).await)),
            Command::Record(draft) => self.record_done(*draft).await,
            Command::Release { path, by } => return self.release(&path, &by).await,
            Command::Interrupt { span, by } => return self.record_interruption(span, &by).await,
            Command::Rollover { issuer, by } => return self.begin_rollover(issuer, by, crew).await,
            Command::Reopen { path, by, why } => return self.reopen(&path, &by, &why).await,
            Command::Freeze { id, draft } => self.record_freeze(id, *draft, agenda).await,
            Command::Thaw { id, reason, by } => return self.thaw(id, &reason, &by, agenda).await,
            Command::Compromise { spki, by } => self.compromise(spki, &by).await,
            Command::AcceptClock { by } => {
                let mut draft = self.draft("clock.accept", "KW2404", Target::new(TargetKind::Daemon, "keyward"));
                draft.by(&self.person(&by));
                draft.facts.push(("wall", Json::show(&now)));
                // The new mark goes along, or the old one would raise the same fault after a restart.
                let clock = &self.ports.clock;
                let boot = clock.boottime();
                let mark = ClockMark { wall: now, boot, boot_id: clock.boot_id() };
                let mut changes = vec![Change::Clock(mark)];
                changes.extend(self.read().latched_by_clock().into_iter().map(|on| Change::Latch(on, None)));
                let publish = |desk: &mut Desk| {
                    desk.unsaved_latches.retain(|_, latch| *latch.code != *CLOCK);
                    desk.clock.accept(now, boot);
                    desk.forget_seen(boot);
                };
                self.commit_with(Batch { changes, entries: vec![draft] }, publish).await?;
                *agenda = self.first_agenda();
                self.evaluate(None).await;
            }
        }
        Ok(())
    }

    async fn request(&self, credential: &CredentialId, by: Arc<str>, agenda: &mut Agenda) -> Result<(), StoreError> {
        let now = self.ports.clock.now();
        let mut draft = self.draft("certificate.request", "KW2011", Target::new(TargetKind::Credential, credential));
        let person = self.person(&by);
        draft.by(&person);
        // What is kept of the wish holds the pseudonym, like the entry.
        let by: Arc<str> = Arc::from(person.commitment().to_string());
        let mut batch = Batch::default();
        {
            let desk = self.read();
            if desk.estate.credentials.get(credential).is_none_or(|c| c.managed().is_none()) {
                return Ok(());
            }
            let mut record = CredentialRecord::clone(&desk.state.credential(credential));
            // A repair puts back what is there already.
            let repair = |a: &Arc<Attempt>| record.current.as_ref().is_some_and(|g| g.slot == a.id);
            match desk.state.attempt_for(credential) {
                Some(attempt) if repair(attempt) && !desk.running.contains(&attempt.id) => {
                    let attempt = Attempt { not_before: None, ..Attempt::clone(attempt) };
                    record.requested = Some(Request { by, at: now });
                    batch.changes.push(Change::Attempt(Arc::new(attempt)));
                    batch.changes.push(Change::Credential(credential.clone(), Arc::new(record)));
                }
                // What is put aside goes on now; what runs already is what was asked for.
                Some(attempt) => {
                    draft.correlation = Some(attempt.id);
                    if !desk.running.contains(&attempt.id) {
                        let attempt = Attempt { not_before: None, ..Attempt::clone(attempt) };
                        batch.changes.push(Change::Attempt(Arc::new(attempt)));
                    }
                }
                None => {
                    record.requested = Some(Request { by, at: now });
                    record.next_attempt = None;
                    batch.changes.push(Change::Credential(credential.clone(), Arc::new(record)));
                }
            }
        }
        batch.entries.push(draft);
        self.commit(batch).await?;
        agenda.set(Task::Plan(credential.clone()), now);
        Ok(())
    }

    /// A new configuration: nothing is issued by the reload itself; what is new or changed is planned as usual.
    async fn adopt(&self, estate: Arc<Estate>, agenda: &mut Agenda) -> Result<(), StoreError> {
        let draft = self.draft("configuration.reload", "KW2405", Target::new(TargetKind::Daemon, "keyward"));
        self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await?;
        let now = self.ports.clock.now();
        {
            let mut guard = self.write();
            let desk = &mut *guard;
            let mut estate = (*estate).clone();
            keep_expanded(desk, &mut estate);
            forget_moved(desk, &estate);
            let gone: Vec<CredentialId> =
                desk.estate.credentials.keys().filter(|id| !estate.credentials.contains_key(*id)).cloned().collect();
            for id in gone {
                desk.sightings.remove(&id);
                desk.findings.remove(&id);
                desk.held.remove(&id);
                desk.waiting.remove(&id);
                desk.unsettled.remove(&id);
                for task in [Task::Plan(id.clone()), Task::Look(id.clone()), Task::Ari(id)] {
                    agenda.drop_task(&task);
                }
            }
            Arc::make_mut(&mut desk.verdicts).retain(|id, _| estate.paths.contains_key(id));
            desk.standings.retain(|id, _| estate.paths.contains_key(id));
            // What lies elsewhere from now on was not seen yet.
            let same = |id: &KeyId| estate.keys.get(id) == desk.estate.keys.get(id);
            desk.key_sights.retain(|id, _| same(id));
            desk.key_findings.retain(|id, _| same(id));
            desk.declined.clear();
            desk.estate = Arc::new(estate);
        }
        self.scan(agenda, now);
        self.replan_all(agenda);
        // A credential that came back, or that asks its CA from now on, has no such task any more.
        let managed: Vec<CredentialId> = self.read().estate.credentials.keys().cloned().collect();
        managed.iter().for_each(|id| self.plan_ari(id, agenda));
        self.evaluate(None).await;
        self.plan_evaluation(agenda, now);
        Ok(())
    }

    fn replan_all(&self, agenda: &mut Agenda) {
        let now = self.ports.clock.now();
        let desk = self.read();
        let managed = desk.estate.credentials.iter().filter(|(_, c)| c.managed().is_some());
        managed.for_each(|(id, _)| agenda.set(Task::Plan(id.clone()), now));
        desk.state.attempts.values().for_each(|a| agenda.set(Task::Plan(a.credential.clone()), now));
    }
}

impl Desk {
    /// Nothing was seen yet.
    pub(super) fn new(ports: &Ports, estate: Arc<Estate>, state: State, people: People) -> Self {
        let (now, boot) = (ports.clock.now(), ports.clock.boottime());
        let clock = ClockWatch::start(now, boot, &ports.clock.boot_id(), state.clock.as_ref());
        Self {
            estate,
            state,
            sightings: BTreeMap::new(),
            key_sights: BTreeMap::new(),
            key_findings: BTreeMap::new(),
            use_findings: BTreeMap::new(),
            key_uses: BTreeMap::new(),
            expanded: BTreeMap::new(),
            findings: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            idle_turns: 0,
            running: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            verdicts: Arc::default(),
            holds: Arc::default(),
            frozen_paths: Arc::default(),
            since: Arc::default(),
            without_ari: BTreeSet::new(),
            standings: BTreeMap::new(),
            unsaved_latches: BTreeMap::new(),
            lists: Tracked::default(),
            unsaved_freezes: BTreeSet::new(),
            configuration_fault: None,
            log_fault: None,
            inspected: 0,
            declined: BTreeMap::new(),
            clock,
            evaluated: None,
            forgotten: None,
            store_fault: None,
            store_failing: None,
            store_lost: None,
            spool: Waiting::default(),
            owed: Vec::new(),
            unresolved: BTreeMap::new(),
            sealed: None,
            last_cycle: None,
            wakes_by: None,
            trust_moves: crate::engine::authority::Moves::default(),
            trust_seen: 0,
            started: now,
            people,
        }
    }
}

/// The files that match an unchanged watch stay known, or a path that stands on them would stand on nothing until the
/// next look; a watch that is new or changed was not looked at yet.
fn keep_expanded(desk: &mut Desk, estate: &mut Estate) {
    let known = core::mem::take(&mut desk.expanded);
    for (watch, mut files) in known {
        if estate.watches.get(&watch).is_some_and(|new| desk.estate.watches.get(&watch) == Some(new)) {
            files.retain(|id| !estate.credentials.contains_key(id) && !estate.watches.contains_key(id));
            let credentials = files.iter().filter_map(|id| desk.estate.credentials.get(id));
            estate.credentials.extend(credentials.map(|c| (c.id.clone(), c.clone())));
            desk.expanded.insert(watch, files);
        }
    }
    let changed = desk.estate.watches.iter().filter(|(id, old)| estate.watches.get(*id) != Some(*old));
    let changed: Vec<CredentialId> = changed.map(|(id, _)| id.clone()).collect();
    for id in changed {
        desk.sightings.remove(&id);
        desk.findings.remove(&id);
    }
}

/// What was seen in a place where a credential does not stand any more says nothing about it.
fn forget_moved(desk: &mut Desk, estate: &Estate) {
    for (id, sighting) in &mut desk.sightings {
        let (Some(old), Some(new)) = (desk.estate.credentials.get(id), estate.credentials.get(id)) else { continue };
        if !same_place(old, new) {
            sighting.stored = None;
        }
        sighting.served.retain(|endpoint, _| new.endpoints.contains(endpoint));
        sighting.missed.retain(|endpoint, _| new.endpoints.contains(endpoint));
    }
}
