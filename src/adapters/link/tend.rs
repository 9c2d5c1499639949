//! The loops beside the listener.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;

use super::material::{self, Look, Proof, Trusted, blocking};
use super::tls::Tls;
use super::{Generation, Known, Shared, State, lock, record};
use crate::domain::key::Digest;
use crate::domain::link::{Link, Reason, Swap};
use crate::domain::time::{Timestamp, Validity};
use crate::ports::HostError;

/// How often the gate is asked: a connection is gone well within the second that it has.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often files are looked at, and what happened is told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files that are not read by then lie on a disk that hangs, which is as good as no file.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Peers judged in one go before others may run: some milliseconds.
const JUDGED_AT_ONCE: usize = 32;

/// Cuts everything while the path is closed, and whoever's certificate ends.
pub(super) async fn ask_gate(shared: &Shared) {
    loop {
        let passes = shared.passes(&shared.link.load());
        shared.series.open.set(i64::from(passes.is_ok()));
        if passes.is_err() {
            shared.cut(Reason::Gate, |_, _| true);
        }
        let now = shared.doors.clock.now();
        let over = |known: &Known| !known.validity.contains(now);
        shared.cut(Reason::OutOfTime, |_, live| live.peer.as_ref().is_some_and(over));
        let moved = shared.doors.relying.as_ref().filter(|_| shared.link.load().ca.is_some()).map(|r| r.moved());
        if moved.is_some_and(|moved| moved != shared.seen.load(Ordering::Relaxed)) {
            shared.changed.notify_one();
        }
        shared.doors.clock.sleep(ASK_EVERY).await;
    }
}

/// Reads what the link stands on, again and again.
pub(super) async fn look_at_files(shared: &Arc<Shared>) {
    let mut held = Held::default();
    loop {
        held.look(shared).await;
        let now = shared.doors.clock.now();
        let (ready, ends) = match &*shared.state.borrow() {
            State::Ready(g) => (g.in_time(now).is_ok(), g.validity.not_after.unix()),
            State::Unready(_) | State::Swapping(_) => (false, 0),
        };
        shared.series.ready.set(i64::from(ready));
        shared.series.ends.set(ends);
        tokio::select! {
            () = shared.changed.notified() => {}
            () = shared.doors.clock.sleep(LOOK_EVERY) => {}
        }
    }
}

/// What was read last.
#[derive(Default)]
struct Held {
    trusted: Option<Trusted>,
    /// Whether that stands in the log.
    recorded: Option<Digest>,
    /// Since when that is in force.
    since: Option<Timestamp>,
    proof: Option<Proof>,
    /// For which identity the proof is.
    link: Option<Arc<Link>>,
}

impl Held {
    async fn look(&mut self, shared: &Arc<Shared>) {
        let link = shared.link.load_full();
        let changed = self.link.as_ref().is_none_or(|before| before.identity != link.identity);
        if changed {
            // Not the certificate of another configuration.
            self.proof = None;
        }
        let settings = self.link.as_ref().is_none_or(|before| before.alpn != link.alpn);
        self.link = Some(link.clone());
        let began = shared.doors.clock.boottime();
        // What moves from here on is looked at again.
        let seen = shared.doors.relying.as_ref().map_or(0, |relying| relying.moved());
        let before = shared.seen.swap(seen, Ordering::Relaxed);
        let trust = in_time(read_trust(shared, link.clone(), self.trusted.as_ref().map(|t| t.digest))).await;
        let proof = material::proof(link.clone(), shared.doors.clone(), self.proof.as_ref().map(Proof::digest));
        let proof = in_time(proof).await;
        let mut problems: Vec<String> =
            [trust.as_ref().err(), proof.as_ref().err()].into_iter().flatten().map(|e| e.0.clone()).collect();
        let mut news = settings;
        match trust {
            Ok(Look::Same) => {}
            Ok(Look::New(new)) => {
                self.trusted = Some(new);
                news = true;
            }
            Err(_) => self.trusted = None,
        }
        if let Ok(Look::New(new)) = proof {
            self.proof = Some(new);
            news = true;
        }
        let Some(trusted) = self.trusted.clone() else {
            self.recorded = None;
            unready(shared, problems.join("; "));
            // What cannot be told is closed, also for those who were let in.
            shared.cut(Reason::Unready, |_, _| true);
            return note(shared, problems);
        };
        if self.recorded != Some(trusted.digest) {
            shared.state.send_replace(State::Swapping(trusted.judge.clone()));
            let cut = judge_again(shared, &trusted).await;
            let clock = &shared.doors.clock;
            // From the first move that was not looked at yet.
            let relying = shared.doors.relying.as_ref().filter(|_| link.ca.is_some() && self.since.is_some());
            let from = relying.and_then(|relying| relying.moved_after(before)).unwrap_or(began);
            let swap = Swap { at: clock.now(), took: clock.boottime().since(from), cut };
            shared.series.swapped(swap.took);
            *lock(&shared.swap) = Some(swap);
            if let Err(why) = record::trust(shared, &link, &trusted, &swap).await {
                problems.push(format!("whom to trust changed, and that cannot be written into the audit log: {why}"));
                unready(shared, problems.join("; "));
                return note(shared, problems);
            }
            self.recorded = Some(trusted.digest);
            self.since = Some(shared.doors.clock.now());
            news = true;
        }
        let is_ready = matches!(&*shared.state.borrow(), State::Ready(_));
        match &self.proof {
            Some(proof) if news || !is_ready => match generation(&link, &trusted, proof, self.since) {
                Ok(generation) => {
                    shared.state.send_replace(State::Ready(Arc::new(generation)));
                }
                Err(error) => {
                    problems.push(error.0);
                    unready(shared, problems.join("; "));
                }
            },
            Some(_) => {}
            None => unready(shared, problems.join("; ")),
        }
        note(shared, problems);
    }
}

async fn read_trust(shared: &Shared, link: Arc<Link>, before: Option<Digest>) -> Result<Look<Trusted>, HostError> {
    let own = material::relied(&link, &shared.doors).await?;
    let doors = shared.doors.clone();
    blocking(&shared.doors, move || material::trust(&link, &doors, own.as_ref(), before)).await
}

fn generation(
    link: &Link,
    trusted: &Trusted,
    proof: &Proof,
    since: Option<Timestamp>,
) -> Result<Generation, HostError> {
    Ok(Generation {
        bundle: trusted.bundle.zip(since),
        tls: Tls::new(link.side, proof.key.clone(), trusted.judge.clone(), &link.alpn)?,
        judge: trusted.judge.clone(),
        trust: trusted.digest,
        fingerprint: proof.fingerprint,
        validity: proof.validity,
    })
}

async fn in_time<T>(read: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
    let slow = |_| HostError(format!("the files were not read within {} s", READ_DEADLINE.as_secs()));
    tokio::time::timeout(READ_DEADLINE, read).await.map_err(slow)?
}

fn unready(shared: &Shared, why: String) {
    shared.state.send_if_modified(|state| match state {
        State::Unready(known) if *known == why => false,
        State::Unready(_) | State::Swapping(_) | State::Ready(_) => {
            *state = State::Unready(why);
            true
        }
    });
}

/// Says what is wrong once, and when it is over.
fn note(shared: &Shared, problems: Vec<String>) {
    let new = Some(problems.join("; ")).filter(|p| !p.is_empty());
    let mut known = lock(&shared.problem);
    if *known != new {
        let id = &shared.link.load().id;
        match &new {
            Some(problem) => tracing::warn!(link = %id, problem, "what the link stands on cannot be used"),
            None => tracing::info!(link = %id, "what the link stands on can be used"),
        }
        *known = new;
    }
}

/// Whoever is no longer trusted is cut; the others know until when they are now. Gives how many were cut.
async fn judge_again(shared: &Shared, trusted: &Trusted) -> u64 {
    let mut cut = 0_u64;
    let peers: Vec<(u64, Known)> =
        lock(&shared.live).iter().filter_map(|(id, live)| Some((*id, live.peer.clone()?))).collect();
    for some in peers.chunks(JUDGED_AT_ONCE) {
        for (id, known) in some {
            match trusted.judge.judge(&known.ders, shared.doors.clock.now()) {
                Ok(admitted) => set_validity(shared, *id, admitted.validity),
                Err(refusal) => {
                    tracing::info!(link = %shared.link.load().id, %refusal, "a live connection is not trusted any more");
                    shared.cut(refusal.reason, |other, _| other == id);
                    cut = cut.saturating_add(1);
                }
            }
        }
        tokio::task::yield_now().await;
    }
    cut
}

fn set_validity(shared: &Shared, id: u64, validity: Validity) {
    if let Some(known) = lock(&shared.live).get_mut(&id).and_then(|live| live.peer.as_mut()) {
        known.validity = validity;
    }
}

/// Tells the log what happened.
pub(super) async fn tell(shared: &Shared) {
    loop {
        shared.doors.clock.sleep(LOOK_EVERY).await;
        tell_once(shared).await;
    }
}

/// What cannot be written now waits for the next time.
pub(super) async fn tell_once(shared: &Shared) {
    let now = shared.doors.clock.boottime();
    let due = lock(&shared.tally).due(now);
    let (refused, cut) = {
        let mut to_tell = lock(&shared.to_tell);
        to_tell.refused.extend(due);
        (core::mem::take(&mut to_tell.refused), core::mem::take(&mut to_tell.cut))
    };
    if refused.is_empty() && cut.is_empty() {
        return;
    }
    if let Err(error) = record::happened(shared, &refused, &cut).await {
        tracing::warn!(link = %shared.link.load().id, error, "refusals could not be written into the audit log");
        let mut tally = lock(&shared.tally);
        refused.into_iter().for_each(|told| tally.put_back(told, now));
        let mut to_tell = lock(&shared.to_tell);
        for (reason, count) in cut {
            let waiting = to_tell.cut.entry(reason).or_default();
            *waiting = waiting.saturating_add(count);
        }
    }
}
