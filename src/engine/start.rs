//! Starting, stopping, and commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use crate::domain::audit::{Actor, Phase, Target, TargetKind};
use crate::domain::id::{AttemptId, CredentialId, IssuerId};
use crate::domain::inventory::Estate;
use crate::domain::json::Json;
use crate::domain::state::{Change, ClockMark, Request};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::clockwatch::ClockWatch;
use crate::engine::inbox::{Command, Inbox};
use crate::engine::looking::Looked;
use crate::engine::{Crew, Desk, Engine, Event};
use crate::ports::{Batch, Ports, StoreError, Urgency};

/// Directories are read a little after the start: what is due comes first.
const META_AFTER: core::time::Duration = core::time::Duration::from_secs(30);

impl Engine {
    /// Loads the state and records the start. Nothing is looked at or done before [`Engine::run`].
    ///
    /// # Errors
    /// [`StoreError`] if the state cannot be read or the start cannot be recorded: then nothing may happen.
    pub async fn start(ports: Ports, estate: Arc<Estate>) -> Result<Self, StoreError> {
        let state = ports.store.load().await?;
        let (now, boot) = (ports.clock.now(), ports.clock.boottime());
        let clock = ClockWatch::start(now, boot, state.clock.as_ref());
        let desk = Desk {
            estate,
            state,
            sightings: BTreeMap::new(),
            findings: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            since: BTreeMap::new(),
            declined: BTreeMap::new(),
            clock,
            store_fault: None,
            last_cycle: None,
            wakes_by: None,
            started: now,
        };
        let engine = Self { ports, desk: RwLock::new(desk), inbox: Inbox::default() };
        let mut draft = engine.draft("daemon.start", "KW2401", Target::new(TargetKind::Daemon, "keyward"));
        {
            let desk = engine.read();
            draft.facts = vec![
                ("environment", Json::str(desk.estate.environment.as_str())),
                ("credentials", Json::show(&desk.estate.credentials.len())),
                ("in_flight", Json::show(&desk.state.attempts.len())),
                ("clock_fault", Json::opt(desk.clock.fault().map(|f| Json::str(f.to_owned())))),
            ];
        }
        engine.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await?;
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
            if desk.state.credentials.get(id).is_some_and(|r| r.ari.is_some()) {
                agenda.set(Task::Ari(id.clone()), now);
            }
        }
        desk.estate.watches.keys().for_each(|id| agenda.set(Task::Expand(id.clone()), now));
        if !desk.estate.paths.is_empty() {
            agenda.set(Task::Evaluate, now);
        }
        desk.estate.issuers.keys().for_each(|id| agenda.set(Task::Meta(id.clone()), now.plus(META_AFTER)));
        agenda.set(Task::Scan, now.plus(desk.estate.full_scan));
        agenda
    }

    /// Records a clean stop, with the clocks as they stand.
    pub(super) async fn farewell(&self) -> Result<(), StoreError> {
        let clock = &self.ports.clock;
        let mark = ClockMark { wall: clock.now(), boot: clock.boottime(), boot_id: clock.boot_id() };
        let trusted = self.read().clock.fault().is_none();
        let changes = if trusted { vec![Change::Clock(mark)] } else { Vec::new() };
        let draft = self.draft("daemon.stop", "KW2402", Target::new(TargetKind::Daemon, "keyward"));
        self.commit(Batch { changes, entries: vec![draft] }).await
    }

    pub(super) fn watch_clock(
        &self,
        now: crate::domain::time::Timestamp,
        boot: crate::domain::time::Boottime,
        agenda: &mut Agenda,
    ) {
        let mut desk = self.write();
        if desk.clock.look(now, boot) {
            let text = desk.clock.fault().map(str::to_owned);
            drop(desk);
            let (code, urgent, text) = match text {
                Some(fault) => (crate::domain::assessment::CLOCK, Urgency::Act, fault),
                None => ("KW2403", Urgency::Routine, "the clocks agree again".to_owned()),
            };
            let notice = crate::ports::Notice { about: "clock".into(), owner: None, code, text, urgent };
            self.ports.notifier.notify(notice);
            // What was held because of the clocks goes on, or is held from now on.
            self.replan_all(agenda);
        }
    }

    pub(super) async fn obey<'a>(&'a self, command: Command, agenda: &mut Agenda, crew: &mut Crew<'a>) {
        let now = self.ports.clock.now();
        match command {
            Command::Renew { credential, by } => self.request(&credential, by, agenda).await,
            Command::Look(id) if self.read().estate.watches.contains_key(&id) => agenda.set(Task::Expand(id), now),
            Command::Look(id) => agenda.set(Task::Look(id), now),
            Command::Beat => {}
            Command::Scan => self.scan(agenda, now),
            Command::Estate(estate) => self.adopt(estate, agenda).await,
            Command::Rollover { issuer, by } => self.begin_rollover(issuer, by, crew).await,
            Command::AcceptClock { by } => {
                let mut draft = self.draft("clock.accept", "KW2404", Target::new(TargetKind::Daemon, "keyward"));
                draft.actor = Actor::Human(by);
                draft.facts.push(("wall", Json::show(&now)));
                if self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await.is_ok() {
                    self.write().clock.accept(now, self.ports.clock.boottime());
                    self.replan_all(agenda);
                    self.evaluate(None).await;
                }
            }
        }
    }

    /// Records the intent, then lets the CA know in the background.
    async fn begin_rollover<'a>(&'a self, issuer: IssuerId, by: Arc<str>, crew: &mut Crew<'a>) {
        if !self.read().estate.issuers.contains_key(&issuer) {
            return;
        }
        let mut intent = self.draft("issuer.rollover", "KW2013", Target::new(TargetKind::Issuer, issuer.as_str()));
        intent.actor = Actor::Human(by);
        intent.phase = Phase::Intent;
        let id = intent.id;
        if self.commit(Batch { changes: Vec::new(), entries: vec![intent] }).await.is_ok() {
            crew.looks = crew.looks.saturating_add(1);
            crew.futures.push(Box::pin(async move {
                let result = self.ports.issuer.rollover(&issuer).await;
                Event::Looked(Looked::RolledOver { issuer, intent: id, result })
            }));
        }
    }

    async fn request(&self, credential: &CredentialId, by: Arc<str>, agenda: &mut Agenda) {
        let now = self.ports.clock.now();
        let mut draft =
            self.draft("certificate.request", "KW2011", Target::new(TargetKind::Credential, credential.as_str()));
        draft.actor = Actor::Human(by.clone());
        let mut batch = Batch::default();
        {
            let desk = self.read();
            if desk.estate.credentials.get(credential).is_none_or(|c| c.managed().is_none()) {
                return;
            }
            match desk.state.attempt_for(credential) {
                // What is put aside goes on now; what runs already is what was asked for.
                Some(attempt) => {
                    let mut attempt = attempt.clone();
                    draft.correlation = Some(attempt.id);
                    attempt.not_before = None;
                    if !desk.running.contains(&attempt.id) {
                        batch.changes.push(Change::Attempt(attempt));
                    }
                }
                None => {
                    let mut record = desk.state.credential(credential);
                    record.requested = Some(Request { by, at: now });
                    record.next_attempt = None;
                    batch.changes.push(Change::Credential(credential.clone(), Box::new(record)));
                }
            }
        }
        batch.entries.push(draft);
        if self.commit(batch).await.is_ok() {
            agenda.set(Task::Plan(credential.clone()), now);
        }
    }

    /// A new configuration: nothing is issued by the reload itself; what is new or changed is planned as usual.
    async fn adopt(&self, estate: Arc<Estate>, agenda: &mut Agenda) {
        let draft = self.draft("configuration.reload", "KW2405", Target::new(TargetKind::Daemon, "keyward"));
        if self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await.is_err() {
            return;
        }
        let now = self.ports.clock.now();
        {
            let mut desk = self.write();
            let gone: Vec<CredentialId> =
                desk.estate.credentials.keys().filter(|id| !estate.credentials.contains_key(*id)).cloned().collect();
            for id in gone {
                desk.sightings.remove(&id);
                desk.findings.remove(&id);
                desk.held.remove(&id);
                desk.waiting.remove(&id);
                for task in [Task::Plan(id.clone()), Task::Look(id.clone()), Task::Ari(id)] {
                    agenda.drop_task(&task);
                }
            }
            desk.verdicts.retain(|id, _| estate.paths.contains_key(id));
            desk.declined.clear();
            desk.estate = estate;
        }
        self.scan(agenda, now);
        self.replan_all(agenda);
        self.evaluate(None).await;
        self.plan_evaluation(agenda, now);
    }

    fn replan_all(&self, agenda: &mut Agenda) {
        let now = self.ports.clock.now();
        let desk = self.read();
        let managed = desk.estate.credentials.iter().filter(|(_, c)| c.managed().is_some());
        managed.for_each(|(id, _)| agenda.set(Task::Plan(id.clone()), now));
    }
}
