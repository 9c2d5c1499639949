//! Keeping the gates: verdicts are computed again, settled over time, recorded and published.
//!
//! Closing is published at once, and its entry waits in the spool if it cannot be written; opening adds authority, so its
//! entry is durable first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::audit::{Draft, Target, TargetKind, bounded_text};
use crate::domain::gate::{CLOCK, Verdict, verdict};
use crate::domain::id::{CredentialId, PathId};
use crate::domain::inventory::{ApprovalPath, Estate};
use crate::domain::json::Json;
use crate::domain::snapshot::{Dependency, Evidence, Snapshot, gather};
use crate::domain::standing::Standing;
use crate::domain::state::{Change, Latch, LatchOn};
use crate::domain::time::{Boottime, Timestamp};
use crate::engine::{Desk, EVALUATION_DEADLINE, Engine};
use crate::ports::Batch;

/// What one evaluation found.
#[derive(Default)]
struct Found {
    batch: Batch,
    /// What is open from now on, once that is durable; with how the path stood before.
    opened: Vec<(Verdict, Standing, Standing)>,
    /// What closes is not taken back if it cannot be recorded now.
    closings: Vec<Draft>,
    latched: Vec<(PathId, Latch)>,
}

impl Engine {
    /// Computes verdicts again: of the paths that need one of `touched`, and of those that stand on them; or of all.
    pub(super) async fn evaluate(&self, touched: Option<&BTreeSet<CredentialId>>) {
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let Found { batch, opened, closings, latched } = self.find(touched, now, boot);
        latched.iter().for_each(|(path, latch)| self.tell_latched(path, latch));
        if batch.entries.is_empty() && batch.changes.is_empty() {
            return;
        }
        if self.commit(batch).await.is_err() {
            self.spool(closings);
            return;
        }
        let mut desk = self.write();
        for (verdict, standing, before) in opened {
            let path = verdict.path.clone();
            // Something may have been found meanwhile; then that counts. A freeze lies over it at the gate, and closes it with
            // an entry at the next evaluation.
            if desk.standings.get(&path).is_none_or(|s| *s == before) {
                Arc::make_mut(&mut desk.since).insert(path.clone(), now);
                desk.standings.insert(path.clone(), standing);
                Arc::make_mut(&mut desk.verdicts).insert(path, Arc::new(verdict));
            }
        }
    }

    fn find(&self, touched: Option<&BTreeSet<CredentialId>>, now: Timestamp, boot: Boottime) -> Found {
        let mut found = Found::default();
        let mut guard = self.write();
        let desk = &mut *guard;
        if touched.is_none() {
            desk.evaluated = Some(boot);
        }
        let estate = desk.estate.clone();
        desk.close_frozen(now);
        // What was published holds for those that are not looked at again.
        let mut paths: BTreeMap<PathId, Dependency> = BTreeMap::new();
        for (id, verdict) in desk.verdicts.iter() {
            paths.insert(id.clone(), verdict.at_moment(now, boot, EVALUATION_DEADLINE).as_dependency());
        }
        let mut fresh = BTreeSet::new();
        for path in in_order(&estate) {
            let again = touched.is_none_or(|t| stands_on(path, t)) || path.depends_on.iter().any(|d| fresh.contains(d));
            if !again {
                continue;
            }
            let before = desk.standings.get(&path.id).cloned().unwrap_or_default();
            let mut standing = before.clone();
            let outcome = standing.next(verdict(path, &evidence(desk, &paths, now, boot)), &estate.reopening);
            let new = outcome.verdict;
            paths.insert(path.id.clone(), new.as_dependency());
            fresh.insert(path.id.clone());
            let known = desk.verdicts.contains_key(&path.id);
            let was_open = desk.verdicts.get(&path.id).is_some_and(|verdict| verdict.is_open());
            if new.is_open() != was_open || !known {
                let entry = self.gate_entry(&new);
                if !new.is_open() {
                    found.closings.push(entry.clone());
                }
                found.batch.entries.push(entry);
            }
            let on = LatchOn::Path(path.id.clone());
            // A latch that is there already says more than that it flaps.
            let flaps = outcome.latch.filter(|_| !desk.state.latches.contains_key(&on));
            if let Some(latch) = flaps.or_else(|| stepped(desk, &on, now)) {
                // What only removes authority holds at once, durable or not.
                desk.state.latches.insert(on.clone(), latch.clone());
                desk.unsaved_latches.insert(on, latch.clone());
                let entry = self.latch_entry(&path.id, &latch);
                found.closings.push(entry.clone());
                found.batch.entries.push(entry);
                found.latched.push((path.id.clone(), latch));
            }
            if new.is_open() && !was_open {
                found.opened.push((new, standing, before));
            } else {
                if was_open && !new.is_open() || !known {
                    Arc::make_mut(&mut desk.since).insert(path.id.clone(), now);
                }
                desk.standings.insert(path.id.clone(), standing);
                Arc::make_mut(&mut desk.verdicts).insert(path.id.clone(), Arc::new(new));
            }
        }
        let unsaved = desk.unsaved_latches.iter();
        found.batch.changes.extend(unsaved.map(|(on, latch)| Change::Latch(on.clone(), Some(latch.clone()))));
        // After a commit that failed the entry of a latch is in the spool, and its change goes with the next entry.
        if found.batch.entries.is_empty() {
            found.batch.changes.clear();
        }
        found
    }

    fn gate_entry(&self, verdict: &Verdict) -> Draft {
        let target = Target::new(TargetKind::Path, &verdict.path);
        let (action, code) = if verdict.is_open() { ("gate.open", "KW2301") } else { ("gate.close", "KW2302") };
        let mut draft = self.draft(action, code, target);
        draft.facts = vec![
            ("inputs", Json::show(&verdict.inputs)),
            ("reasons", Json::arr(verdict.reasons.iter().map(|r| Json::str(r.code)))),
            ("until", Json::show(&verdict.until)),
        ];
        if !verdict.reasons.is_empty() {
            let reasons: Vec<String> = verdict.reasons.iter().map(|r| format!("{}: {}", r.code, r.text)).collect();
            draft.private.push(("reasons", Arc::from(bounded_text(&reasons.join("\n")))));
        }
        draft
    }

    /// A key is never good again from this moment on; whoever calls writes it down.
    pub(super) async fn block_key(&self, on: &LatchOn, latch: &Latch) {
        {
            let mut desk = self.write();
            desk.state.latches.insert(on.clone(), latch.clone());
            desk.unsaved_latches.insert(on.clone(), latch.clone());
            desk.trust_moves.note(self.ports.clock.boottime());
        }
        self.evaluate(None).await;
    }

    /// Why the configuration cannot be read any more, or that it can again.
    pub fn set_configuration_fault(&self, fault: Option<String>) {
        self.write().configuration_fault = fault;
    }

    /// What the verdict over a path looks at right now, or would look at later with what is known now; with the verdict
    /// itself judged over it. `None` if it is not configured.
    #[must_use]
    pub fn snapshot(&self, path: &PathId, at: Option<Timestamp>) -> Option<Snapshot> {
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let at = at.unwrap_or(now);
        let desk = self.read();
        let own = desk.estate.paths.get(path)?;
        let ahead = now.until(at);
        let boot = boot.plus(ahead);
        let mut paths = BTreeMap::new();
        for other in in_order(&desk.estate) {
            // Now they are as they were published; later as they would be found.
            let verdict = match desk.verdicts.get(&other.id) {
                Some(published) if ahead.is_zero() => published.at_moment(at, boot, EVALUATION_DEADLINE),
                Some(_) | None => verdict(other, &evidence(&desk, &paths, at, boot)),
            };
            paths.insert(other.id.clone(), verdict.as_dependency());
        }
        Some(gather(own, &evidence(&desk, &paths, at, boot)))
    }
}

/// Whoever stepped the clock once may do it again, so a path that met it waits for a person, also after a restart, and also
/// when the clock was put right.
fn stepped(desk: &Desk, on: &LatchOn, now: Timestamp) -> Option<Latch> {
    let fault = desk.clock.fault().filter(|_| !desk.state.latches.contains_key(on))?;
    Some(Latch { at: now, code: Arc::from(CLOCK), text: Arc::from(fault), by: None })
}

/// The paths so that each comes after those that it stands on; what stands in a circle comes last, and finds what it stands
/// on unknown.
fn in_order(estate: &Estate) -> Vec<&ApprovalPath> {
    let (mut done, mut order) = (BTreeSet::new(), Vec::with_capacity(estate.paths.len()));
    let mut left: Vec<&ApprovalPath> = estate.paths.values().map(|path| &**path).collect();
    loop {
        let before = left.len();
        left.retain(|path| {
            let ready = path.depends_on.iter().all(|d| done.contains(d) || !estate.paths.contains_key(d));
            if ready {
                done.insert(&path.id);
                order.push(*path);
            }
            !ready
        });
        if left.is_empty() || left.len() == before {
            order.append(&mut left);
            return order;
        }
    }
}

/// Whether a path stands on one of these; a watched file counts for its pattern.
fn stands_on(path: &ApprovalPath, touched: &BTreeSet<CredentialId>) -> bool {
    path.needs.iter().any(|need| {
        let below = format!("{need}.");
        touched.iter().any(|t| t == need || t.as_str().starts_with(&below))
    })
}

fn evidence<'a>(
    desk: &'a Desk,
    paths: &'a BTreeMap<PathId, Dependency>,
    now: Timestamp,
    boot: Boottime,
) -> Evidence<'a> {
    Evidence {
        estate: &desk.estate,
        state: &desk.state,
        sightings: &desk.sightings,
        keys: &desk.key_sights,
        paths,
        clock_fault: desk.clock.fault(),
        store_fault: desk.store_fault.as_deref(),
        configuration_fault: desk.configuration_fault.as_deref(),
        unrecorded: desk.unrecorded(),
        now,
        boot,
    }
}
