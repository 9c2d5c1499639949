//! The world as a whole: doors for the engine, faults, and crashes at any door.

use core::future::Future;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::task::AtomicWaker;

use crate::domain::id::{CredentialId, PathId};
use crate::domain::inventory::Estate;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::engine::{Command, Engine};
use crate::ports::{Clock, Count, Entropy, Meter, Notice, Notifier, Ports, StoreError, Tick};
use crate::sim::ca::SimCa;
use crate::sim::clock::{SimClock, run};
use crate::sim::host::SimHost;
use crate::sim::lists::SimLists;
use crate::sim::signer::SimSigner;
use crate::sim::spool::MemorySpool;
use crate::sim::store::MemoryStore;

/// Counts the steps at the doors and ends the process at a chosen one: before the effect or after it, so that every
/// boundary is met.
#[derive(Debug, Default)]
pub struct Steps {
    taken: AtomicU64,
    /// 0 means never.
    crash_at: AtomicU64,
    waker: AtomicWaker,
}

impl Steps {
    /// One step at a door. Never returns when the process dies here.
    pub async fn step(&self) {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        if self.crashed_at(taken) {
            self.waker.wake();
            core::future::pending::<()>().await;
        }
    }

    fn crashed_at(&self, taken: u64) -> bool {
        let at = self.crash_at.load(Ordering::SeqCst);
        at != 0 && taken >= at
    }

    /// How many steps were taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Dies at the `n`-th step from now on (counted from 1).
    pub fn crash_after(&self, n: u64) {
        self.crash_at.store(self.taken().saturating_add(n), Ordering::SeqCst);
    }

    fn revive(&self) {
        self.crash_at.store(0, Ordering::SeqCst);
    }

    async fn death(&self) {
        core::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.crashed_at(self.taken()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Randomness from a seed: the same world twice.
#[derive(Debug)]
pub struct SimEntropy {
    seed: u64,
    drawn: AtomicU64,
}

impl SimEntropy {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// A number below `bound`.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes).checked_rem(bound).unwrap_or(0)
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, out: &mut [u8]) {
        // SplitMix64: fast, and good enough for a simulation.
        for chunk in out.chunks_mut(8) {
            let n = self.drawn.fetch_add(1, Ordering::Relaxed);
            let mut z = self.seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (z ^ (z >> 31)).to_be_bytes();
            chunk.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
        }
    }
}

/// Remembers what people were told, the newest thousand.
#[derive(Debug, Default)]
pub struct SimNotifier(Mutex<Vec<Notice>>);

impl SimNotifier {
    /// What was said so far.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Notifier for SimNotifier {
    fn notify(&self, notice: Notice) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < 1_000 {
            notices.push(notice);
        }
    }
}

/// Counts renewals by result.
#[derive(Debug, Default)]
pub struct SimMeter(Mutex<BTreeMap<&'static str, u64>>);

impl SimMeter {
    /// How many renewals ended with this result: `success` or a code.
    #[must_use]
    pub fn renewals(&self, result: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(result).copied().unwrap_or(0)
    }
}

impl Meter for SimMeter {
    fn count(&self, count: Count) {
        if let Count::Renewal { result, .. } = count {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let own = counts.entry(result).or_default();
            *own = own.saturating_add(1);
        }
    }

    fn gate(&self, _: &PathId, _: &'static str) -> Tick {
        Arc::new(|| ())
    }
}

/// The world: what outlasts a crash of the guardian.
#[derive(Debug)]
pub struct World {
    /// Time.
    pub clock: Arc<SimClock>,
    /// Steps and crashes.
    pub steps: Arc<Steps>,
    /// The CAs.
    pub ca: Arc<SimCa>,
    /// Keys, files and servers.
    pub host: Arc<SimHost>,
    /// Revocation lists at distribution points.
    pub lists: Arc<SimLists>,
    /// The database.
    pub store: Arc<MemoryStore>,
    /// What waits to be written there.
    pub spool: Arc<MemorySpool>,
    /// What people were told.
    pub notifier: Arc<SimNotifier>,
    /// Counts.
    pub meter: Arc<SimMeter>,
    signer: Arc<SimSigner>,
    entropy: Arc<SimEntropy>,
    estate: Arc<Estate>,
}

/// How one life of the guardian ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Life {
    /// The time was up.
    Over,
    /// It died at the chosen step.
    Died,
    /// It refused to start.
    Refused(StoreError),
}

impl World {
    /// A new world in which the guardian will find nothing.
    #[must_use]
    pub fn new(seed: u64, start: Timestamp, estate: Estate) -> Self {
        Self::with(MemoryStore::keeping(1_000), seed, start, estate)
    }

    /// The same, but its log is only counted ([`MemoryStore::counting`]): for what-ifs over decades.
    #[must_use]
    pub fn counting(seed: u64, start: Timestamp, estate: Estate) -> Self {
        Self::with(MemoryStore::counting(), seed, start, estate)
    }

    fn with(store: MemoryStore, seed: u64, start: Timestamp, estate: Estate) -> Self {
        let clock = Arc::new(SimClock::new(start));
        let steps = Arc::new(Steps::default());
        let entropy = Arc::new(SimEntropy::new(seed));
        let ca = Arc::new(SimCa::new(clock.clone(), steps.clone(), seed));
        Self {
            host: Arc::new(SimHost::new(clock.clone(), steps.clone(), ca.clone(), &estate)),
            ca,
            lists: Arc::new(SimLists::new(clock.clone())),
            store: Arc::new(store),
            spool: MemorySpool::new(),
            notifier: Arc::default(),
            meter: Arc::default(),
            clock,
            steps,
            signer: Arc::new(SimSigner::new(seed)),
            entropy,
            estate: Arc::new(estate),
        }
    }

    /// The doors of this world.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            store: self.store.clone(),
            spool: self.spool.clone(),
            witnesses: Arc::new(crate::ports::Unwitnessed),
            signer: self.signer.clone(),
            issuer: self.ca.clone(),
            solver: self.host.clone(),
            keys: self.host.clone(),
            prober: self.host.clone(),
            lists: self.lists.clone(),
            deployer: self.host.clone(),
            notifier: self.notifier.clone(),
            meter: self.meter.clone(),
        }
    }

    /// Another configuration for the next life.
    pub fn configure(&mut self, estate: Estate) {
        self.host.know(&estate);
        self.estate = Arc::new(estate);
    }

    /// One life of the guardian: starts it, runs it for `span`, or until it dies.
    pub fn live(&mut self, span: Duration) -> Life {
        self.live_with(span, |_| core::future::ready(()))
    }

    /// One life in which `act` runs beside the guardian.
    pub fn live_with<'a, A, F>(&'a mut self, span: Duration, act: A) -> Life
    where
        A: FnOnce(Arc<Engine>) -> F,
        F: Future<Output = ()> + Send + 'a,
    {
        self.store = Arc::new(self.store.recovered());
        self.steps.revive();
        self.resume_life(span, act)
    }

    /// One life in which `act` runs beside the guardian and may break the disk under it.
    pub fn live_handle<'a, A, F>(&'a mut self, span: Duration, act: A) -> Life
    where
        A: FnOnce(Arc<Engine>, Arc<MemoryStore>) -> F,
        F: Future<Output = ()> + Send + 'a,
    {
        self.store = Arc::new(self.store.recovered());
        self.steps.revive();
        let store = self.store.clone();
        self.resume_life(span, |engine| act(engine, store))
    }

    /// As [`Self::live`], but a crash that was set before stays set.
    pub fn live_dangerously(&mut self, span: Duration) -> Life {
        self.store = Arc::new(self.store.recovered());
        self.resume_life(span, |_| core::future::ready(()))
    }

    fn resume_life<'a, A, F>(&'a self, span: Duration, act: A) -> Life
    where
        A: FnOnce(Arc<Engine>) -> F,
        F: Future<Output = ()> + Send + 'a,
    {
        let ports = self.ports();
        let ended = run(&self.clock, async {
            let life = async {
                let engine = match Engine::start(ports, self.estate.clone()).await {
                    Ok(engine) => Arc::new(engine),
                    Err(error) => return Life::Refused(error),
                };
                let end = self.clock.sleep(span);
                let beside = act(engine.clone());
                let stop = async {
                    let ((), ()) = futures_util::join!(end, beside);
                };
                match engine.run(stop).await {
                    Ok(()) => Life::Over,
                    Err(error) => Life::Refused(error),
                }
            };
            let death = self.steps.death();
            let (life, death) = (core::pin::pin!(life), core::pin::pin!(death));
            match futures_util::future::select(death, life).await {
                futures_util::future::Either::Left(_) => Life::Died,
                futures_util::future::Either::Right((life, _)) => life,
            }
        });
        ended.unwrap_or(Life::Died)
    }

    /// Asks the guardian for a renewal during its next life; used by scenarios.
    ///
    /// # Errors
    /// If too many commands wait.
    pub fn ask_renewal(engine: &Engine, credential: &CredentialId, by: &str) -> Result<(), crate::engine::Busy> {
        engine.command(Command::Renew { credential: credential.clone(), by: Arc::from(by) })
    }
}

/// A stable pseudo-random number below `bound` from a seed and some parts.
#[must_use]
pub fn draw(seed: u64, parts: &[&[u8]], bound: u64) -> u64 {
    let head = seed.to_be_bytes();
    let digest = match parts {
        [one] => Digest::of_parts(&[&head, one]),
        [one, other] => Digest::of_parts(&[&head, one, other]),
        more => Digest::of_parts(&[&[&head[..]], more].concat()),
    };
    digest.leading_u64().checked_rem(bound).unwrap_or(0)
}
