//! The cycle and its use cases: observe → assess → plan → decide → execute → verify → record.
//!
//! Knows only the domain and the doors. One task runs the loop; everything that waits (attempts, looks, polls) is a
//! future that the loop polls, so there is no runtime in here and the simulation runs the very same code.
//!
//! The crash order of one attempt, the same in a normal run and after a restart:
//! 1. one commit: intent, attempt `Begun`, what the ledger loses;
//! 2. key and CSR durable in the key store, by the attempt's id; only then newOrder;
//! 3. commit: the order's URL, as soon as the CA answers;
//! 4. challenges, finalize with the durable CSR, download, check, chain durable in the key store;
//! 5. commit: `Issued`, the outcome of the intent with its evidence, and the intent to install;
//! 6. files swapped, server reloaded, every endpoint seen to serve it;
//! 7. commit: the credential's new generation and the outcome; the attempt is gone.

mod agenda;
mod answer;
pub mod authority;
mod board;
mod clockwatch;
mod cycle;
mod forget;
mod freeze;
mod gatekeep;
mod heartbeat;
mod hold;
mod inbox;
pub mod keys;
mod install;
mod issue;
mod latch;
mod lease;
mod lists;
mod looking;
mod people;
mod reconcile;
mod record;
mod sealed;
mod spool;
mod standstill;
mod start;
pub mod view;
mod windows;
mod witnessed;

use core::future::Future;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::domain::assessment::Finding;
use crate::domain::audit::Draft;
use crate::domain::gate::Verdict;
use crate::domain::id::{AttemptId, CredentialId, EntryId, FreezeId, IssuerId, KeyId, PathId};
use crate::domain::inventory::{Estate, Sighting};
use crate::domain::key::Digest;
use crate::domain::plan::{Held, Urgency};
use crate::domain::snapshot::FreezeOver;
use crate::domain::standing::Standing;
use crate::domain::state::{Latch, LatchOn, State};
use crate::domain::time::{Boottime, Timestamp};
use crate::domain::tracked::KeySight;
use crate::engine::people::People;
use crate::ports::{Count, Doing, Ports, StoreError};

use agenda::Agenda;
use answer::Answer;
pub use answer::{AUDIT_UNAVAILABLE, Refusal};
pub use board::Told;
use board::{Board, Writing};
use clockwatch::ClockWatch;
pub use freeze::{FreezeView, LONGEST_REASON, MOST_FREEZES, NotFrozen, WantedFreeze};
pub use hold::{LONGEST_HOLD, NotHeld};
use inbox::Inbox;
pub use inbox::{Busy, Command, Forget, MOST_COMMANDS};
use issue::Ending;
use lease::Grants;
pub use lease::{Given, Wanted};
use looking::Looked;
pub use reconcile::ISSUER_FROZEN;
use reconcile::Reconciled;
pub use sealed::{DAMAGED, Seal, SealedStore};
use spool::Waiting;

/// At most this many events are taken in, and actions begun, in one turn of the loop: a batch of twice as many changes and
/// as many entries is far below what a store takes, and the verdicts are not kept waiting by a crowd.
const MOST_A_TURN: usize = 256;
/// At most this many looks (file reads, probes, ARI polls) at once.
const LOOKS_AT_ONCE: usize = 64;
/// How often verdicts are computed again without any event, and how old one may grow before the gate closes.
pub const EVALUATE_EVERY: Duration = Duration::from_secs(5);
/// Three evaluations missed: the loop hangs or is starved.
pub const EVALUATION_DEADLINE: Duration = Duration::from_secs(15);
/// A store that takes no commit for so long is left: it may refuse everything until a restart, which heals it or says why
/// not. Long enough for a full disk to be noticed and mended by itself.
const STORE_PATIENCE: Duration = Duration::from_secs(600);
/// The loop wakes at least this often, whatever the agenda says.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// The guardian's working part. Cheap to share; [`Engine::run`] is called once.
#[derive(Debug)]
pub struct Engine {
    ports: Ports,
    desk: RwLock<Desk>,
    board: ArcSwap<Board>,
    inbox: Inbox,
    grants: Grants,
}

/// Everything the engine knows, in memory. Written by the loop and by attempts, read by everybody; never held over an
/// await.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) estate: Arc<Estate>,
    pub(crate) state: State,
    pub(crate) sightings: BTreeMap<CredentialId, Sighting>,
    /// What was seen of keys that are no certificate's.
    pub(crate) key_sights: BTreeMap<KeyId, KeySight>,
    /// What is wrong with those.
    pub(crate) key_findings: BTreeMap<KeyId, Vec<Finding>>,
    /// What is wrong with the keys of certificates: weak ones, and those that are used elsewhere too.
    pub(crate) use_findings: BTreeMap<CredentialId, Vec<Finding>>,
    /// The same of tracked keys.
    pub(crate) key_uses: BTreeMap<KeyId, Vec<Finding>>,
    /// Which credentials of the estate stand for files that match a watch.
    pub(crate) expanded: BTreeMap<CredentialId, BTreeSet<CredentialId>>,
    pub(crate) findings: BTreeMap<CredentialId, Vec<Finding>>,
    pub(crate) held: BTreeMap<CredentialId, Held>,
    /// Those of them that wait for the end of another attempt.
    pub(crate) waiting: BTreeMap<CredentialId, Waits>,
    /// How many plans on end let nothing begin although it could have, while others waited.
    pub(crate) idle_turns: u32,
    pub(crate) running: BTreeSet<AttemptId>,
    /// Looks that began before this time say nothing: an installation changed what they met. `None` while it goes on.
    pub(crate) unsettled: BTreeMap<CredentialId, Option<Boottime>>,
    pub(crate) verdicts: Arc<BTreeMap<PathId, Arc<Verdict>>>,
    /// Paths that are closed whatever their verdict says.
    pub(crate) holds: Arc<BTreeMap<PathId, hold::Hold>>,
    /// The freeze that closes a path and ends last.
    pub(crate) frozen_paths: Arc<BTreeMap<PathId, FreezeOver>>,
    /// Since when each path is as it is.
    pub(crate) since: Arc<BTreeMap<PathId, Timestamp>>,
    /// The issuers whose directories offer no renewal information: nobody asks them for it.
    pub(crate) without_ari: BTreeSet<IssuerId>,
    /// What is remembered of each path between two verdicts.
    pub(crate) standings: BTreeMap<PathId, Standing>,
    /// Latches that hold and could not be made durable yet.
    pub(crate) unsaved_latches: BTreeMap<LatchOn, Latch>,
    /// Why the audit log is not to be believed, since it was looked at last.
    pub(crate) log_fault: Option<String>,
    /// Where the next look at the log begins.
    pub(crate) inspected: u64,
    /// The revocation lists that are fetched.
    pub(crate) lists: lists::Tracked,
    /// Freezes that are in force and could not be made durable yet.
    pub(crate) unsaved_freezes: BTreeSet<FreezeId>,
    /// Why the configuration cannot be read.
    pub(crate) configuration_fault: Option<String>,
    /// What policy declined, by the action's digest, so that it is recorded once.
    pub(crate) declined: BTreeMap<CredentialId, Digest>,
    pub(crate) clock: ClockWatch,
    /// When all verdicts were computed last.
    pub(crate) evaluated: Option<Boottime>,
    /// Looks that began before this say nothing: what was seen by then was forgotten.
    pub(crate) forgotten: Option<Boottime>,
    pub(crate) store_fault: Option<String>,
    /// Since when every commit failed.
    pub(crate) store_failing: Option<Boottime>,
    /// Why the store is never asked again.
    pub(crate) store_lost: Option<String>,
    /// Entries about what is done already that could not be written yet.
    pub(crate) spool: Waiting,
    /// Outcomes that could not be written yet.
    pub(crate) owed: Vec<Draft>,
    /// Intents whose outcome could not be written, with the attempt that goes on until one can.
    pub(crate) unresolved: BTreeMap<EntryId, Option<AttemptId>>,
    /// Why the guardian only says that it does nothing.
    pub(crate) sealed: Option<Seal>,
    pub(crate) last_cycle: Option<Boottime>,
    /// When the loop wakes by itself at the latest.
    pub(crate) wakes_by: Option<Boottime>,
    /// When trust in private CAs, what they issued, or a key moved last.
    pub(crate) trust_moves: authority::Moves,
    /// How many of these were looked at by whoever renews.
    pub(crate) trust_seen: u64,
    pub(crate) started: Timestamp,
    pub(crate) people: People,
}

/// A credential that waits for others, as it was when it was planned last: with thousands of them, to look it up each time
/// that one of them may go on costs more than what goes on.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(crate) urgency: Urgency,
    /// Where it may go.
    pub(crate) issuers: Arc<[IssuerId]>,
}

/// What comes back to the loop.
pub(crate) enum Event {
    /// A look is done.
    Looked(Looked),
    /// An attempt is not being carried out any more: done, failed, or put aside.
    Ended(AttemptId, CredentialId, Ending),
}

/// The futures in flight, with how many of them are looks.
struct Crew<'a> {
    futures: FuturesUnordered<Doing<'a, Event>>,
    looks: usize,
}

impl Engine {
    /// Takes a command; it is carried out by the loop.
    ///
    /// # Errors
    /// [`Busy`] if too many are waiting.
    pub fn command(&self, command: Command) -> Result<(), Busy> {
        self.inbox.put(command, None)
    }

    fn read(&self) -> RwLockReadGuard<'_, Desk> {
        self.desk.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> Writing<'_> {
        Writing::new(self.desk.write().unwrap_or_else(std::sync::PoisonError::into_inner), &self.board)
    }

    fn with(ports: Ports, desk: Desk) -> Self {
        let board = ArcSwap::from_pointee(Board::of(&desk));
        Self { ports, desk: RwLock::new(desk), board, inbox: Inbox::default(), grants: Grants::default() }
    }

    /// Runs until `stop` is ready. What is in flight is dropped then: every step of it is durable.
    ///
    /// # Errors
    /// [`StoreError`] if the state cannot be written in the end, or for ten minutes on end: a store may refuse everything
    /// until a restart. For less than that the loop survives a failing store; [`StoreError::Lost`] ends it at once. Every
    /// path is closed by then.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) -> Result<(), StoreError> {
        let ended = self.turn(stop).await;
        if let Err(error @ StoreError::Lost(_)) = &ended {
            self.inbox.refuse_all(error);
        }
        // What waits has a moment to reach the disk; what became of it is told by the next start.
        drop(self.ports.spool.settled().await);
        ended
    }

    async fn turn(&self, stop: impl Future<Output = ()> + Send) -> Result<(), StoreError> {
        let mut stop = pin!(stop);
        if self.reconcile(&mut stop).await? == Reconciled::Stopped {
            return self.farewell().await;
        }
        let mut agenda = self.first_agenda();
        let mut crew = Crew { futures: FuturesUnordered::new(), looks: 0 };
        loop {
            let began = self.ports.clock.boottime();
            let now = self.ports.clock.now();
            self.come_round(&mut agenda).await;
            self.retry_store(&mut agenda, now).await;
            if let Some(why) = self.medium_lost() {
                drop(crew);
                // Publishes every path as closed; nothing is written any more, so the entries go to the spool.
                self.evaluate(None).await;
                return Err(StoreError::Lost(why));
            }
            if self.is_store_lost() {
                // Whether the farewell is written changes nothing: whoever started us has to start us again.
                drop(self.farewell().await);
                let why = self.read().store_fault.clone().unwrap_or_default();
                return Err(StoreError::Unavailable(format!("for {} s: {why}", STORE_PATIENCE.as_secs())));
            }
            let due = agenda.take_due(now, LOOKS_AT_ONCE.saturating_sub(crew.looks));
            self.take_up(due, now, &mut agenda, &mut crew).await;
            self.write().last_cycle = Some(self.ports.clock.boottime());
            self.ports.meter.count(Count::Cycle { took: self.ports.clock.boottime().since(began) });
            let now = self.ports.clock.now();
            let next = agenda.next(LOOKS_AT_ONCE.saturating_sub(crew.looks));
            let nap = next.map_or(LONGEST_SLEEP, |at| now.until(at).min(LONGEST_SLEEP));
            self.write().wakes_by = Some(self.ports.clock.boottime().plus(nap));
            let mut timer = self.ports.clock.sleep(nap);
            let woken = core::future::poll_fn(|cx| {
                if stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Woken::Stop);
                }
                if let Poll::Ready((command, answer)) = self.inbox.poll_take(cx) {
                    return Poll::Ready(Woken::Command(command, answer));
                }
                if let Poll::Ready(Some(event)) = crew.futures.poll_next_unpin(cx) {
                    return Poll::Ready(Woken::Event(event));
                }
                timer.as_mut().poll(cx).map(|()| Woken::Time)
            })
            .await;
            drop(timer);
            // A command or an event may be the first to come after a suspend or a step: it is judged with what is true now.
            if matches!(woken, Woken::Command(..) | Woken::Event(_)) {
                self.come_round(&mut agenda).await;
            }
            match woken {
                Woken::Stop => break,
                Woken::Time => {}
                Woken::Command(command, answer) => {
                    let done = self.obey(command, &mut agenda, &mut crew).await;
                    answer.into_iter().for_each(|answer| answer.give(done.clone()));
                }
                Woken::Event(event) => self.absorb(event, &mut agenda, &mut crew).await,
            }
        }
        drop(crew);
        self.farewell().await
    }

    /// Looks at the clocks, and whether time passed without us.
    async fn come_round(&self, agenda: &mut Agenda) {
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        if self.watch_clock(now, boot) {
            *agenda = self.first_agenda();
        }
        if let Some(span) = self.stood_still(boot) {
            self.wake_up(span, agenda, now).await;
        }
    }

    /// Takes in one event and whatever else is ready, up to a bound, so that verdicts are computed once for all.
    async fn absorb(&self, event: Event, agenda: &mut Agenda, crew: &mut Crew<'_>) {
        let mut touched = BTreeSet::new();
        let mut next = Some(event);
        let (mut taken, mut ended) = (0_usize, false);
        while let Some(event) = next {
            match event {
                Event::Looked(looked) => {
                    crew.looks = crew.looks.saturating_sub(1);
                    self.note(looked, agenda, &mut touched).await;
                }
                Event::Ended(attempt, credential, ending) => {
                    self.write().running.remove(&attempt);
                    let now = self.ports.clock.now();
                    self.plan_after(&credential, ending, now, agenda);
                    ended = true;
                    self.plan_ari(&credential, agenda);
                    touched.insert(credential);
                }
            }
            taken = taken.saturating_add(1);
            next = if taken < MOST_A_TURN {
                futures_util::FutureExt::now_or_never(crew.futures.next()).flatten()
            } else {
                None
            };
        }
        if ended {
            self.wake_waiting(agenda, self.ports.clock.now(), 1);
        }
        self.plan_lists(agenda);
        self.assess(&touched);
        self.evaluate(Some(&touched)).await;
    }
}

/// Runs the futures, at most `most` at a time; the results come in the order in which they end.
pub(crate) async fn at_once<T: Send>(most: usize, futures: Crowd<'_, T>) -> Vec<T> {
    match futures {
        Crowd { first: None, .. } => Vec::new(),
        Crowd { first: Some(only), rest } if rest.is_empty() => vec![only.await],
        Crowd { first, mut rest } => {
            rest.splice(..0, first);
            futures_util::stream::iter(rest).buffer_unordered(most).collect().await
        }
    }
}

/// Futures to run at once. Mostly it is one: most certificates have one name, and are served in one place.
pub(crate) struct Crowd<'a, T> {
    first: Option<Doing<'a, T>>,
    rest: Vec<Doing<'a, T>>,
}

impl<'a, T> FromIterator<Doing<'a, T>> for Crowd<'a, T> {
    fn from_iter<I: IntoIterator<Item = Doing<'a, T>>>(futures: I) -> Self {
        let mut futures = futures.into_iter();
        Self { first: futures.next(), rest: futures.collect() }
    }
}

enum Woken {
    Stop,
    Time,
    Command(Command, Option<Answer>),
    Event(Event),
}
