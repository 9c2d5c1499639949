//! Looking: files, endpoints, watched patterns; and what follows from what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::assessment::{Severity, Subject, assess};
use crate::domain::certificate::{CertId, Chain};
use crate::domain::id::{CredentialId, EntryId, IssuerId};
use crate::domain::inventory::{
    Care, Credential, Endpoint, Environment, MOST_MISSES, Observation, Seen, Sighting, Source, Watch,
};
use crate::domain::plan::schedule_of;
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::agenda::{Agenda, Task};
use crate::engine::lists::{self, Hurry, Lists};
use crate::engine::{Crew, Desk, EVALUATE_EVERY, Engine, Event, at_once};
use crate::ports::{Doing, HostError, IssuerError, IssuerMeta, RenewalInfo, StoreError, Urgency};

/// So many endpoints of one credential are asked at once.
const ENDPOINTS_AT_ONCE: usize = 8;
/// A look that met a change under way is repeated after this.
const LOOK_AGAIN: core::time::Duration = core::time::Duration::from_secs(1);
/// A look that missed an endpoint is repeated after this: three that are refused at once take four seconds, and three that
/// hang for their five seconds each take longer than misses are borne.
const LOOK_AFTER_MISS: core::time::Duration = core::time::Duration::from_secs(2);

/// For so long after an installation a look may still meet what was there before: nginx lets its old workers accept for
/// 100 ms after the new ones have started.
const SETTLED_AFTER: core::time::Duration = core::time::Duration::from_secs(5);

/// What a look brought.
pub(crate) enum Looked {
    /// A credential's files and endpoints.
    Seen {
        /// As it was defined when the look began.
        credential: Arc<Credential>,
        sighting: Sighting,
        /// When it began.
        began: Boottime,
        /// The turn of the revocation lists when they were asked.
        lists: u64,
    },
    /// A revocation list that was asked for.
    List(lists::Answered),
    /// A CA's renewal information.
    Ari { credential: CredentialId, cert_id: CertId, answer: Result<Option<RenewalInfo>, IssuerError> },
    /// What an issuer's directory says about itself.
    Meta { issuer: IssuerId, answer: Result<IssuerMeta, IssuerError> },
    /// An account's key was changed, or not.
    RolledOver { issuer: IssuerId, intent: EntryId, result: Result<(), IssuerError> },
    /// What a look at the log brought: where the next one begins.
    Log(Result<u64, StoreError>),
    /// The files that match a watch.
    Matches { watch: CredentialId, files: Result<Vec<String>, HostError>, began: Boottime },
}

impl Engine {
    /// Starts a look, if there still is something to look at.
    pub(super) fn begin_look<'a>(&'a self, task: &Task, crew: &mut Crew<'a>) {
        let future: Option<Doing<'a, Event>> = match task {
            Task::Look(id) => self.look_at(id),
            Task::Ari(id) => self.ask_ari(id),
            Task::Expand(id) => self.expand(id),
            Task::Meta(id) => self.ask_meta(id),
            Task::Inspect => Some(self.inspect()),
            Task::Evaluate | Task::Store | Task::Heartbeat | Task::Lists | Task::Thaw | Task::Scan | Task::Plan(_) => {
                None
            }
        };
        if let Some(future) = future {
            crew.futures.push(future);
            crew.looks = crew.looks.saturating_add(1);
        }
    }

    fn look_at(&self, id: &CredentialId) -> Option<Doing<'_, Event>> {
        let (credential, environment) = {
            let desk = self.read();
            (desk.estate.credentials.get(id).cloned()?, desk.estate.environment)
        };
        Some(Box::pin(async move {
            let began = self.ports.clock.boottime();
            let (sighting, lists) = self.sight(&credential, environment).await;
            Event::Looked(Looked::Seen { credential, sighting, began, lists })
        }))
    }

    /// What is seen, with the turn of the revocation lists when they were asked.
    async fn sight(&self, credential: &Credential, environment: Environment) -> (Sighting, u64) {
        let stored = match &credential.care {
            // Without installed files the key store is where it is stored.
            Care::Managed(managed) if managed.installs.is_empty() => self.kept(&credential.id).await,
            Care::Managed(_) => Some(self.ports.prober.stored(credential).await),
            Care::Observed(source @ Source::File { .. }) => Some(self.ports.prober.source(source).await),
            Care::Observed(Source::Endpoints) => None,
        };
        let at = self.ports.clock.now();
        let endpoints = if environment == Environment::Staging && credential.managed().is_some() {
            &[]
        } else {
            &*credential.endpoints
        };
        let served = self.look_at_endpoints(endpoints, ENDPOINTS_AT_ONCE).await;
        let stored = stored.map(|seen| Observation { at, seen });
        let (mut sighting, mut turn) = (Sighting { stored, served, ..Sighting::default() }, 0);
        if let Some(chain) = self.stands_for(&credential.id, &sighting) {
            // What took the place of another is to close no path only because nobody asked for its list yet.
            let known = self.stands_for(&credential.id, &Sighting::default());
            let another = known.is_some_and(|known| known.leaf.fingerprint != chain.leaf.fingerprint);
            let hurry = if another { Hurry::Now } else { Hurry::InTurn };
            Lists { files: sighting.crls, points: sighting.points, turn } =
                self.look_at_lists(credential, &chain, hurry).await;
        }
        (sighting, turn)
    }

    /// The chain that stands for a credential by what was just seen, or else by what is known: where nobody was reached the
    /// lists are asked about that, for whether it is revoked is never guessed.
    fn stands_for(&self, id: &CredentialId, seen: &Sighting) -> Option<Arc<Chain>> {
        let known = || self.read().sightings.get(id).and_then(Sighting::last_chain).cloned();
        seen.chain().cloned().or_else(|| if seen.stored.is_none() { known() } else { None })
    }

    pub(super) async fn look_at_endpoints(
        &self,
        endpoints: &[Arc<Endpoint>],
        most: usize,
    ) -> BTreeMap<Arc<Endpoint>, Observation> {
        if endpoints.is_empty() {
            return BTreeMap::new();
        }
        let looks = endpoints.iter().map(|endpoint| {
            let look: Doing<'_, _> = Box::pin(async move {
                let seen = self.ports.prober.served(endpoint).await;
                (endpoint.clone(), Observation { at: self.ports.clock.now(), seen })
            });
            look
        });
        at_once(most, looks.collect()).await.into_iter().collect()
    }

    async fn kept(&self, id: &CredentialId) -> Option<Seen> {
        let slot = self.read().state.credentials.get(id).and_then(|r| r.current.as_ref()).map(|g| g.slot);
        match slot {
            None => Some(Seen::Missing),
            Some(slot) => Some(match self.ports.keys.chain(slot).await {
                Ok((chain, _)) => Seen::Present(chain),
                Err(error) => Seen::Unreadable(error.to_string()),
            }),
        }
    }

    fn expand(&self, id: &CredentialId) -> Option<Doing<'_, Event>> {
        let watch = self.read().estate.watches.get(id).cloned()?;
        let id = id.clone();
        Some(Box::pin(async move {
            let began = self.ports.clock.boottime();
            let files = self.ports.prober.matches(&watch.pattern).await;
            Event::Looked(Looked::Matches { watch: id, files, began })
        }))
    }

    /// Takes in what a look brought.
    pub(super) async fn note(&self, looked: Looked, agenda: &mut Agenda, touched: &mut BTreeSet<CredentialId>) {
        let now = self.ports.clock.now();
        match looked {
            Looked::Seen { credential, mut sighting, began, lists } => {
                let (known, outdated, overtaken, again) = {
                    let desk = self.read();
                    let own = desk.estate.credentials.get(&credential.id);
                    let moved = own.is_some_and(|own| {
                        !(same_place(own, &credential)
                            && own.endpoints == credential.endpoints
                            && own.crls == credential.crls)
                    });
                    let unsettled = desk.unsettled.get(&credential.id);
                    let unsettled = unsettled.is_some_and(|until| until.is_none_or(|until| began < until));
                    let overtaken = !sighting.points.is_empty() && desk.lists.turn != lists;
                    let outdated = moved || unsettled || !desk.counts(began);
                    (own.is_some(), outdated, overtaken, desk.estate.probe_every)
                };
                let credential = credential.id.clone();
                if !known {
                    return;
                }
                if outdated {
                    // Something else stands there by now, or is just being put there: what was seen says nothing.
                    agenda.set(Task::Look(credential), now.plus(LOOK_AGAIN));
                    return;
                }
                // A list has come since it was asked what the one before it said.
                if overtaken && let Some(chain) = self.stands_for(&credential, &sighting) {
                    sighting.points = self.ports.lists.about(&chain).await;
                }
                self.know_lists(sighting.points.keys(), now);
                // What is missing or damaged may be installed again: the planner knows. Where all is as it should be, its
                // next plan has its time already.
                let sound = sighting.stored.as_ref().is_some_and(|o| matches!(o.seen, Seen::Present(_)));
                let missed = self.note_sighting(&credential, sighting, began);
                let again = if missed { again.min(LOOK_AFTER_MISS) } else { again };
                agenda.by(Task::Look(credential.clone()), now.plus(again));
                if !(sound && agenda.has(&Task::Plan(credential.clone()))) {
                    agenda.by(Task::Plan(credential.clone()), now);
                }
                touched.insert(credential);
            }
            Looked::List(answered) => self.note_list(answered, touched),
            Looked::Ari { credential, cert_id, answer } => self.note_ari(&credential, &cert_id, answer, agenda).await,
            Looked::Meta { issuer, answer } => self.note_meta(issuer, answer, agenda).await,
            Looked::Log(found) => self.note_log(found, agenda).await,
            Looked::RolledOver { issuer, intent, result } => self.note_rollover(&issuer, intent, result).await,
            Looked::Matches { watch, began, .. } if !self.read().counts(began) => {
                agenda.set(Task::Expand(watch), now.plus(LOOK_AGAIN));
            }
            Looked::Matches { watch, files, .. } => self.note_matches(&watch, files, agenda, touched),
        }
    }

    /// From now on until it has settled, what a look meets says nothing: files are swapped under it.
    pub(super) fn unsettle(&self, id: &CredentialId) {
        self.write().unsettled.insert(id.clone(), None);
    }

    /// An installation is over, however it ended; where something serves it, that takes a moment more.
    pub(super) fn settle(&self, credential: &Credential) {
        let served = !credential.endpoints.is_empty();
        let after = if served { SETTLED_AFTER } else { core::time::Duration::ZERO };
        let until = self.ports.clock.boottime().plus(after);
        self.write().unsettled.insert(credential.id.clone(), Some(until));
    }

    /// Two looks may be under way at once, and an attempt may look meanwhile: the one that began last counts, by the clock
    /// that does not step. Returns whether an endpoint is missed that a path may bear for now.
    fn note_sighting(&self, id: &CredentialId, sighting: Sighting, began: Boottime) -> bool {
        let mut desk = self.write();
        let own = desk.sightings.entry(id.clone()).or_default();
        if own.looked.is_none_or(|newest| newest <= began) {
            let last = own.last_chain().filter(|_| sighting.stored.is_none());
            let looked_up = sighting.chain().or(last).map(|c| c.leaf.fingerprint);
            own.looked = Some(began);
            own.stored = sighting.stored;
            sighting.served.into_iter().for_each(|(endpoint, seen)| own.look(&endpoint, seen, began));
            // The lists were asked about one chain; if another stands there by now, whoever saw that one asked about it.
            if looked_up == own.last_chain().map(|c| c.leaf.fingerprint) {
                (own.crls, own.points) = (sighting.crls, sighting.points);
            }
        }
        own.missed.values().any(|missed| missed.times < MOST_MISSES)
    }

    fn note_matches(
        &self,
        watch_id: &CredentialId,
        files: Result<Vec<String>, HostError>,
        agenda: &mut Agenda,
        touched: &mut BTreeSet<CredentialId>,
    ) {
        let now = self.ports.clock.now();
        let mut guard = self.write();
        let desk = &mut *guard;
        let Some(watch) = desk.estate.watches.get(watch_id).cloned() else { return };
        agenda.by(Task::Expand(watch_id.clone()), now.plus(desk.estate.probe_every));
        touched.insert(watch_id.clone());
        let before = desk.expanded.get(watch_id).cloned().unwrap_or_default();
        // Only ids that nothing configured has: a file's name must not take the place of a credential.
        let free = |id: &CredentialId| {
            before.contains(id) || !(desk.estate.credentials.contains_key(id) || desk.estate.watches.contains_key(id))
        };
        let wanted: Result<BTreeMap<_, _>, HostError> = files.and_then(|files| {
            files.iter().map(|f| watched(watch_id, &watch, f, free).map(|c| (c.id.clone(), c))).collect()
        });
        // The pattern itself stands for "nothing matches" and for "cannot be looked through", so that neither is silent;
        // what matched before stays known in the latter case.
        let (wanted, itself) = match wanted {
            Ok(wanted) => (Some(wanted), None),
            Err(error) => (None, Some(Seen::Unreadable(error.to_string()))),
        };
        let nothing = wanted.as_ref().is_some_and(BTreeMap::is_empty);
        let itself = itself.or_else(|| nothing.then_some(Seen::Missing));
        desk.sightings.entry(watch_id.clone()).or_default().stored = itself.map(|seen| Observation { at: now, seen });
        let Some(wanted) = wanted else { return };
        let now_there: BTreeSet<CredentialId> = wanted.keys().cloned().collect();
        if now_there == before {
            return;
        }
        let mut estate = (*desk.estate).clone();
        for id in before.difference(&now_there) {
            estate.credentials.remove(id);
            desk.sightings.remove(id);
            desk.findings.remove(id);
        }
        for (id, credential) in wanted.into_iter().filter(|(id, _)| !before.contains(id)) {
            estate.credentials.insert(id.clone(), credential);
            agenda.by(Task::Look(id.clone()), now);
            touched.insert(id);
        }
        desk.expanded.insert(watch_id.clone(), now_there);
        desk.estate = Arc::new(estate);
    }

    /// Everything is looked at again.
    pub(super) fn scan(&self, agenda: &mut Agenda, now: Timestamp) {
        let desk = self.read();
        desk.estate.credentials.keys().for_each(|id| agenda.by(Task::Look(id.clone()), now));
        desk.estate.watches.keys().for_each(|id| agenda.by(Task::Expand(id.clone()), now));
        agenda.set(Task::Scan, now.plus(desk.estate.full_scan));
    }

    pub(super) fn plan_evaluation(&self, agenda: &mut Agenda, now: Timestamp) {
        // Without a path nobody asks, and nothing has to be computed in time.
        if !self.read().estate.paths.is_empty() {
            // In whole seconds: a sleep that begins late in one ends late in another, and five is the most.
            agenda.set(Task::Evaluate, now.plus(EVALUATE_EVERY.saturating_sub(core::time::Duration::from_secs(1))));
        }
    }

    /// Assesses credentials again and tells of what is new and of what is over.
    ///
    /// By a time that is not believed nobody is told that everything has expired: the clock's own finding stands for it, and
    /// once the clock is believed again everything is looked at again.
    pub(super) fn assess(&self, ids: &BTreeSet<CredentialId>) {
        if self.distrusts_clock() {
            return;
        }
        let now = self.ports.clock.now();
        for id in ids {
            let (old, new) = {
                let mut desk = self.write();
                let new = findings(&desk, id, now);
                let old = match new.is_empty() {
                    true => desk.findings.remove(id),
                    false => desk.findings.insert(id.clone(), new.clone()),
                };
                (old.unwrap_or_default(), new)
            };
            for finding in &new {
                if finding.severity > Severity::Note && !old.iter().any(|o| o.code == finding.code) {
                    let urgency = if finding.severity == Severity::Critical { Urgency::Act } else { Urgency::Routine };
                    self.notify(id, finding.code, urgency, finding.text.clone());
                }
            }
        }
    }
}

pub(super) fn findings(desk: &Desk, id: &CredentialId, now: Timestamp) -> Vec<crate::domain::assessment::Finding> {
    let empty = Sighting::default();
    let sighting = desk.sightings.get(id).unwrap_or(&empty);
    let pattern = desk.estate.watches.get(id);
    let standin = pattern.map(|watch| standin(id, watch));
    let Some(credential) = desk.estate.credentials.get(id).or(standin.as_ref()) else { return Vec::new() };
    if pattern.is_some() && sighting.stored.is_none() {
        return Vec::new();
    }
    let record = desk.state.credential(id);
    let schedule = credential.managed().and_then(|m| schedule_of(m, &record));
    let environment = desk.estate.environment;
    let (schedule, lists) = (schedule.as_ref(), &desk.lists.known);
    assess(&Subject { credential, sighting, record: &record, schedule, lists, environment, now })
}

/// The pattern as a credential of its own.
fn standin(id: &CredentialId, watch: &Watch) -> Arc<Credential> {
    Arc::new(Credential {
        id: id.clone(),
        owner: watch.owner.clone(),
        labels: watch.labels.clone(),
        care: Care::Observed(Source::File { path: watch.pattern.clone(), password_file: watch.password_file.clone() }),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    })
}

/// Whether both are stored in the same place.
pub(super) fn same_place(one: &Credential, other: &Credential) -> bool {
    match (&one.care, &other.care) {
        (Care::Managed(one), Care::Managed(other)) => one.installs == other.installs,
        (Care::Observed(one), Care::Observed(other)) => one == other,
        (Care::Managed(_), Care::Observed(_)) | (Care::Observed(_), Care::Managed(_)) => false,
    }
}

/// A file that matches a watch, as a credential: `WATCH.NAME`, or a short hash where the name is no slug or not free.
fn watched(
    watch_id: &CredentialId,
    watch: &Watch,
    file: &str,
    free: impl Fn(&CredentialId) -> bool,
) -> Result<Arc<Credential>, HostError> {
    let name = file.rsplit('/').next().unwrap_or(file);
    let hash = crate::domain::key::Digest::of(file.as_bytes()).short();
    let own = |part: &str| CredentialId::parse(&format!("{watch_id}.{part}")).ok().filter(|id| free(id));
    // A name is unique only within one directory.
    let directory = watch.pattern.rsplit_once('/').map_or("", |(directory, _)| directory);
    let unique = !directory.contains(['*', '?', '[']);
    let id = own(name).filter(|_| unique).or_else(|| own(&hash)).ok_or_else(|| {
        HostError(format!("{file} matches, but no id is left for it: give the watch {watch_id} a shorter id"))
    })?;
    Ok(Arc::new(Credential {
        id,
        owner: watch.owner.clone(),
        labels: watch.labels.clone(),
        care: Care::Observed(Source::File { path: file.to_owned(), password_file: watch.password_file.clone() }),
        endpoints: Vec::new(),
        purpose: None,
        crls: Vec::new(),
    }))
}
