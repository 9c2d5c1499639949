//! Installing what was issued: windows, files, reload, proof at the endpoints, rollback.
//!
//! A failed hook never re-issues: everything in here works on the slot that is there, and is tried again later from it.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::audit::Outcome;
use crate::domain::certificate::Chain;
use crate::domain::execution::{Attempt, Fault, Generation};
use crate::domain::id::AttemptId;
use crate::domain::inventory::{Ari, Credential, Endpoint, Environment, Managed, Observation, Reload, Seen};
use crate::domain::json::Json;
use crate::domain::plan::{SLOT_LOST, window_hold};
use crate::domain::state::{AriRecord, Change, CredentialRecord};
use crate::domain::successor::{Succession, is_refused, succession};
use crate::domain::time::{Boottime, Timestamp};
use crate::domain::verification::{Proof, verify};
use crate::engine::issue::{Step, keep_trying};
use crate::engine::lists::{Hurry, Lists};
use crate::engine::record::Setback;
use crate::engine::{Desk, Engine};
use crate::ports::{Batch, Count, HostError, Urgency};

/// What the endpoints were seen to serve.
/// What its endpoints were seen to serve.
struct Served {
    /// When the look at them began.
    began: Boottime,
    by: BTreeMap<Arc<Endpoint>, Observation>,
}

/// How long endpoints may take after a reload to serve the new certificate.
const SERVE_DEADLINE: Duration = Duration::from_secs(15);
/// The first look comes at once after this; the pauses double up to a second.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// The pause between two tries of a reload, doubling.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// After a repair the same is not repaired again before this.
const REINSTALL_PAUSE: Duration = Duration::from_secs(300);
/// So many endpoints are asked at once.
const ENDPOINTS_AT_ONCE: usize = 16;

/// The code of a certificate that ended before it could be installed.
const ENDED_WAITING: &str = "KW2207";
/// The code of an installation that failed before the server was told of it.
const NOT_INSTALLED: &str = "KW2203";

impl Engine {
    /// `Issued` → done, or put aside with the old set in place.
    pub(crate) async fn install(&self, attempt: &mut Arc<Attempt>, credential: &Credential, managed: &Managed) -> Step {
        let now = self.ports.clock.now();
        let (record, environment) = {
            let desk = self.read();
            (desk.state.credential(&credential.id), desk.estate.environment)
        };
        let chain = match self.ports.keys.chain(attempt.id).await {
            Ok((chain, _)) => chain,
            Err(error) => {
                // Only what surely is gone is given up at once: it is paid for, and its key exists nowhere else.
                let gone = self.ports.keys.slots().await.is_ok_and(|slots| !slots.contains(&attempt.id));
                let setback = Setback::host(SLOT_LOST, format!("the issued certificate cannot be read: {error}"));
                return if gone { Step::Fail(setback) } else { keep_trying(attempt, setback) };
            }
        };
        if let Some(ended) = ended_waiting(attempt, &chain, &record, now) {
            return Step::Fail(Setback::host(ENDED_WAITING, ended));
        }
        if let Succession::Refused(code, why) = succeeds(attempt, managed, &chain, &record, now) {
            let text =
                format!("{why}; run `keyward cert renew {}` to order one and take it all the same", credential.id);
            return Step::Fail(Setback::new(code, Fault::Issuer, text));
        }
        if let Some(until) = window_hold(managed, Some(&record), now) {
            return self.wait_for_window(attempt, until).await;
        }
        if let Err(setback) = self.demand_quorum(credential, attempt.trigger.act()).await {
            return Step::Park(setback);
        }
        // Last of all: what has begun after this is finished, or rolled back.
        let found = self.read().frozen(credential, &attempt.issuer, self.ports.clock.now());
        if let Some(found) = found {
            return self.wait_for_thaw(attempt, &found).await;
        }
        if let Err(error) = self.ports.deployer.install(&credential.id, &managed.installs, attempt.id).await {
            // Some of them may be in place: a new certificate beside an old key, or nobody ever proved.
            let setback = Setback::host(NOT_INSTALLED, format!("the files could not be installed: {error}"));
            return self.roll_back(attempt, credential, managed, &record, setback).await;
        }
        let reloaded = self.reload(credential, managed, environment, attempt.id).await;
        let proof = match reloaded {
            Err(error) => Err(Setback::host("KW2204", format!("the reload failed: {error}"))),
            Ok(()) => self.prove(credential, &chain, environment).await,
        };
        match proof {
            Ok(proof) => self.conclude(attempt, credential, managed, &record, &chain, proof).await,
            Err(setback) => self.roll_back(attempt, credential, managed, &record, setback).await,
        }
    }

    /// The planner holds it from now on, by the windows that are configured then: a reload may change them.
    async fn wait_for_window(&self, attempt: &mut Arc<Attempt>, until: Timestamp) -> Step {
        Arc::make_mut(attempt).not_before = None;
        let mut draft = self.draft_for(attempt, "certificate.postpone", "KW2205");
        draft.facts.push(("until", Json::show(&until)));
        let batch = Batch { changes: vec![Change::Attempt(attempt.clone())], entries: vec![draft] };
        self.commit(batch).await.map_or_else(Step::from, |()| Step::Done)
    }

    async fn reload(
        &self,
        credential: &Credential,
        managed: &Managed,
        environment: Environment,
        slot: AttemptId,
    ) -> Result<(), HostError> {
        let Some(reload) = managed.reload.as_ref().filter(|r| environment == Environment::Production || r.in_staging)
        else {
            return Ok(());
        };
        self.reload_with_tries(credential, reload, slot).await
    }

    async fn reload_with_tries(
        &self,
        credential: &Credential,
        reload: &Reload,
        slot: AttemptId,
    ) -> Result<(), HostError> {
        let mut pause = RELOAD_PAUSE;
        for _ in 1..reload.tries.max(1) {
            if self.ports.deployer.reload(&credential.id, reload, slot).await.is_ok() {
                return Ok(());
            }
            self.ports.clock.sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
        self.ports.deployer.reload(&credential.id, reload, slot).await
    }

    /// Looks at every endpoint until all serve the chain's leaf, or the deadline has passed. In a staging run nothing of
    /// it is served anywhere, so there is nothing to ask.
    ///
    /// What it saw is published together with what is stored, or the gate would close in between over two certificates
    /// that differ.
    async fn prove(&self, credential: &Credential, chain: &Chain, environment: Environment) -> Result<Served, Setback> {
        let first = self.ports.clock.boottime();
        if environment == Environment::Staging || credential.endpoints.is_empty() {
            return Ok(Served { began: first, by: BTreeMap::new() });
        }
        let mut pause = FIRST_LOOK;
        loop {
            let began = self.ports.clock.boottime();
            let served = self.look_at_endpoints(&credential.endpoints, ENDPOINTS_AT_ONCE).await;
            let proof = verify(&chain.leaf.fingerprint, &credential.endpoints, &served);
            match proof {
                Proof::Served => return Ok(Served { began, by: served }),
                Proof::NotServed(misses) if self.ports.clock.boottime().since(first) >= SERVE_DEADLINE => {
                    let mut desk = self.write();
                    if desk.counts(began) {
                        let sighting = desk.sightings.entry(credential.id.clone()).or_default();
                        served.into_iter().for_each(|(endpoint, seen)| sighting.look(&endpoint, seen, began));
                        sighting.looked = Some(self.ports.clock.boottime());
                    }
                    drop(desk);
                    let text = format!("the new certificate is not served: {}", misses.join("; "));
                    return Err(Setback::host("KW2206", text));
                }
                Proof::NotServed(_) => {
                    self.ports.clock.sleep(pause).await;
                    pause = pause.saturating_mul(2).min(Duration::from_secs(1));
                }
            }
        }
    }

    /// Puts the old set back if it still is valid, and keeps the new one in its slot for the next try.
    async fn roll_back(
        &self,
        attempt: &Attempt,
        credential: &Credential,
        managed: &Managed,
        record: &CredentialRecord,
        setback: Setback,
    ) -> Step {
        let now = self.ports.clock.now();
        let environment = self.read().estate.environment;
        let old = record.current.as_ref().filter(|g| g.validity.contains(now) && g.slot != attempt.id);
        let text = match old {
            None => format!("{}; there is no valid older set, so the new files stay", setback.text),
            Some(old) => {
                let back = self.ports.deployer.install(&credential.id, &managed.installs, old.slot).await;
                match back {
                    Err(error) => {
                        format!("{}; and the rollback to serial {} failed: {error}", setback.text, old.serial)
                    }
                    Ok(()) => match self.reload(credential, managed, environment, old.slot).await {
                        Ok(()) => format!("{}; rolled back to serial {}", setback.text, old.serial),
                        // The server never took the new files, so it still serves the old ones.
                        Err(_) => format!(
                            "{}; the files are back at serial {}, and the reload fails with these too",
                            setback.text, old.serial
                        ),
                    },
                }
            }
        };
        if !managed.installs.is_empty() {
            let began = self.ports.clock.boottime();
            let (seen, lists) = self.stored_with_lists(credential).await;
            let mut desk = self.write();
            if desk.counts(began) {
                let sighting = desk.sightings.entry(credential.id.clone()).or_default();
                sighting.stored = Some(Observation { at: now, seen });
                sighting.looked = Some(self.ports.clock.boottime());
                desk.put_lists(&credential.id, lists);
            }
        }
        let mut marked = record.clone();
        marked.rolled_back = old.filter(|_| setback.code != NOT_INSTALLED).map(|_| attempt.id);
        let batch = Batch {
            changes: vec![Change::Credential(credential.id.clone(), Arc::new(marked))],
            entries: vec![{
                let mut draft = self.draft_for(attempt, "certificate.rollback", setback.code);
                draft.outcome = Some(Outcome::Failure);
                draft.private.push(("text", Arc::from(crate::domain::audit::bounded_text(&text))));
                draft
            }],
        };
        if let Err(error) = self.commit(batch).await {
            return error.into();
        }
        Step::Park(Setback { text, ..setback })
    }

    async fn conclude(
        &self,
        attempt: &Attempt,
        credential: &Credential,
        managed: &Managed,
        record: &CredentialRecord,
        chain: &Arc<Chain>,
        served: Served,
    ) -> Step {
        let now = self.ports.clock.now();
        let generation = generation(attempt, chain, record, now);
        let reinstalled = record.current.as_ref().is_some_and(|g| g.slot == attempt.id);
        let retired = if reinstalled { None } else { record.previous.as_ref().map(|g| g.slot) };
        let ari = generation.cert_id.clone().filter(|_| managed.renewal.ari == Ari::Ask).map(|cert_id| AriRecord {
            cert_id,
            window: None,
            picked: None,
            next_poll: asks_next(record, &generation, now),
            explanation: None,
        });
        // That the CA's last certificate was refused for its end is as true after a repair.
        let refused = reinstalled && is_refused(record);
        let next = CredentialRecord {
            previous: if reinstalled { record.previous.clone() } else { record.current.clone() },
            ari: if reinstalled { record.ari.clone() } else { ari },
            current: Some(generation),
            failures: if refused { record.failures } else { 0 },
            last_failure: record.last_failure.clone().filter(|_| refused),
            // Files that vanish again at once would be installed, and the server reloaded, in a loop.
            next_attempt: reinstalled.then(|| now.plus(REINSTALL_PAUSE)),
            last_success: Some(now),
            // A repair is not what a person asked for.
            requested: record.requested.clone().filter(|_| reinstalled),
            rolled_back: None,
        };
        let keep: Vec<AttemptId> = [&next.current, &next.previous].into_iter().flatten().map(|g| g.slot).collect();
        let mut draft = self.outcome(attempt, "certificate.install", "KW2006", Outcome::Success);
        draft.target.serial = Some(chain.leaf.serial.clone());
        draft.target.spki = Some(chain.leaf.spki);
        draft.facts.push(("served_by", Json::arr(credential.endpoints.iter().map(Json::show))));
        let shorter = match succeeds(attempt, managed, chain, record, now) {
            Succession::Shorter(why) => Some(why),
            Succession::Usual | Succession::Refused(..) => None,
        };
        draft.facts.extend(shorter.as_ref().map(|why| ("ends_earlier", Json::str(why.clone()))));
        let changes = vec![Change::Credential(credential.id.clone(), Arc::new(next)), Change::AttemptEnded(attempt.id)];
        let (seen, lists) = match managed.installs.is_empty() {
            true => (Seen::Present(chain.clone()), self.look_at_lists(credential, chain, Hurry::Now).await),
            false => self.stored_with_lists(credential).await,
        };
        // Record, stored and served change in one moment: whoever looks sees all of the old or all of the new.
        let publish = |desk: &mut Desk| {
            // The guardian stood still meanwhile: what was seen before says nothing, and all is looked at anew.
            if !desk.counts(served.began) {
                return;
            }
            let sighting = desk.sightings.entry(credential.id.clone()).or_default();
            sighting.stored = Some(Observation { at: self.ports.clock.now(), seen });
            let now = self.ports.clock.boottime();
            served.by.into_iter().for_each(|(endpoint, seen)| sighting.look(&endpoint, seen, now));
            sighting.looked = Some(now);
            desk.put_lists(&credential.id, lists);
        };
        if let Err(error) = self.commit_with(Batch { changes, entries: vec![draft] }, publish).await {
            return error.into();
        }
        self.tidy(credential, managed, &keep, retired).await;
        self.ports.meter.count(Count::Renewal {
            issuer: attempt.issuer.clone(),
            trigger: attempt.trigger.as_str(),
            result: "success",
            took: now.since(attempt.began),
        });
        let served = if credential.endpoints.is_empty() { "" } else { " and seen to be served" };
        let shorter = shorter.map_or_else(String::new, |why| format!("; {why}"));
        let (serial, end) = (&chain.leaf.serial, chain.leaf.validity.not_after);
        let text = ["serial ", serial, " is installed", served, ", valid until ", &end.to_string(), &shorter].concat();
        self.notify(&credential.id, "KW2006", Urgency::Routine, text);
        Step::Done
    }

    /// What is stored, and what the revocation lists say about it, so that both are published together.
    async fn stored_with_lists(&self, credential: &Credential) -> (Seen, Lists) {
        let seen = self.ports.prober.stored(credential).await;
        let lists = match seen.chain() {
            Some(chain) => self.look_at_lists(credential, chain, Hurry::Now).await,
            None => Lists::default(),
        };
        (seen, lists)
    }

    /// Removes what nothing refers to any more. A failure here costs disk space, nothing else.
    async fn tidy(&self, credential: &Credential, managed: &Managed, keep: &[AttemptId], retired: Option<AttemptId>) {
        let pruned = self.ports.deployer.prune(&credential.id, &managed.installs, keep).await;
        let destroyed = match retired.filter(|slot| !keep.contains(slot)) {
            Some(slot) => self.ports.keys.destroy(slot).await,
            None => Ok(()),
        };
        if let Err(error) = pruned.and(destroyed) {
            self.notify(&credential.id, "KW2009", Urgency::Routine, format!("old files were not removed: {error}"));
        }
    }
}

/// A certificate may have waited so long for a hook or a window that it has ended itself: another is needed then.
fn ended_waiting(attempt: &Attempt, chain: &Chain, record: &CredentialRecord, now: Timestamp) -> Option<String> {
    let installed = record.current.as_ref().is_some_and(|g| g.slot == attempt.id);
    let bad = chain.out_of_time(now).filter(|_| !installed)?;
    let (subject, end) = (&bad.subject, bad.validity.not_after);
    Some(format!("the certificate waited to be installed until {subject} was out of time ({end}); another is ordered"))
}

/// A repair puts back what is there already.
fn succeeds(
    attempt: &Attempt,
    managed: &Managed,
    chain: &Chain,
    record: &CredentialRecord,
    now: Timestamp,
) -> Succession {
    if record.current.as_ref().is_some_and(|g| g.slot == attempt.id) {
        return Succession::Usual;
    }
    succession(&attempt.trigger, chain, record, managed.renewal.ari, now)
}

/// When the CA is asked for the renewal window of what was just installed: at once, but where it had none for the one
/// before, not sooner than it would have been asked again.
fn asks_next(record: &CredentialRecord, new: &Generation, now: Timestamp) -> Timestamp {
    let before = record.current.as_ref().filter(|g| g.issuer == new.issuer);
    let unanswered = record.ari.as_ref().filter(|a| before.is_some() && a.window.is_none());
    unanswered.map_or(now, |a| a.next_poll.max(now))
}

fn generation(attempt: &Attempt, chain: &Chain, record: &CredentialRecord, now: Timestamp) -> Generation {
    let leaf = &chain.leaf;
    // A repair installs what was issued for another reason.
    let same = record.current.as_ref().filter(|g| g.slot == attempt.id);
    let trigger = same.map_or_else(|| attempt.trigger.clone(), |g| g.trigger.clone());
    // The same key may have been in use for longer than this certificate.
    let kept = record.current.as_ref().filter(|g| g.spki == leaf.spki);
    Generation {
        slot: attempt.id,
        issuer: attempt.issuer.clone(),
        fingerprint: leaf.fingerprint,
        spki: leaf.spki,
        serial: leaf.serial.clone(),
        cert_id: leaf.cert_id.clone(),
        validity: leaf.validity,
        names: attempt.names.clone(),
        trigger,
        installed_at: now,
        verified_at: Some(now),
        key_since: kept.map_or(now, |g| g.key_since),
    }
}
