//! Enforcing proxies: bytes pass between a plain socket and a TLS peer while the approval path is open.
//!
//! ```text
//! accept ─► room? open? ─► handshake (who is it?) ─► open still? ─► other side ─► bytes both ways ─► end
//!              └─ no: closed at once, counted                           closed, distrusted, expired: cut ┘
//! ```
//! Three loops stand beside the listener and never wait for each other: the gate is asked ten times a second, files are
//! looked at every second, and what happened is told to the log. Refuses to know why a path is open: it asks.

mod material;
mod meter;
mod record;
mod relay;
mod serve;
mod stream;
mod tend;
mod tls;

use core::fmt;
use core::future::Future;
use core::sync::atomic::AtomicU64;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

use self::meter::Series;
use self::tls::{Judge, Tls};
use crate::domain::gate::Verdict;
use crate::domain::id::{AttemptId, CredentialId, PathId};
use crate::domain::key::Digest;
use crate::domain::link::{Admitted, Link, Reason, Refusal, Status, Swap, Tally, Told, passes};
use crate::domain::time::{Timestamp, Validity};
use crate::ports::{Clock, Entropy, KeyStore, Store, Trust};

pub use self::meter::LinkMeter;
pub use self::stream::Listener;

/// The verdict over a path as it holds right now; cheap, because it is asked for each connection and ten times a second.
pub type Gate = Arc<dyn Fn(&PathId) -> Verdict + Send + Sync>;
/// The key slot of what is installed for a managed credential.
pub type Installed = Arc<dyn Fn(&CredentialId) -> Option<AttemptId> + Send + Sync>;

/// What links need of the guardian.
pub struct Doors {
    clock: Arc<dyn Clock>,
    keys: Arc<dyn KeyStore>,
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    gate: Gate,
    installed: Installed,
    meter: LinkMeter,
    provider: Arc<CryptoProvider>,
    /// Taken by threads that read files.
    readers: Arc<Semaphore>,
    /// The private CAs, if there are any.
    relying: Option<Arc<dyn Trust>>,
}

/// So many threads read files at once, for all links: on a disk that hangs each is lost until it answers, and the guardian
/// has sixteen.
const READERS: usize = 4;

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

impl Doors {
    /// The same for all links.
    #[must_use]
    pub fn new(
        ports: &crate::ports::Ports,
        store: Arc<dyn Store>,
        gate: Gate,
        installed: Installed,
        meter: LinkMeter,
        relying: Option<Arc<dyn Trust>>,
    ) -> Self {
        let (clock, keys, entropy) = (ports.clock.clone(), ports.keys.clone(), ports.entropy.clone());
        let readers = Arc::new(Semaphore::new(READERS));
        Self { clock, keys, store, entropy, gate, installed, meter, provider: tls::provider(), readers, relying }
    }
}

/// One link. Cheap to clone; [`Proxy::run`] is called once.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// Lets nobody through before it runs.
    #[must_use]
    pub fn new(link: Arc<Link>, doors: Arc<Doors>) -> Self {
        let series = doors.meter.of(&link.id);
        let unready = State::Unready("certificate and roots were not read yet".to_owned());
        let shared = Shared {
            link: ArcSwap::new(link),
            series,
            doors,
            state: watch::Sender::new(unready),
            live: Mutex::default(),
            next: AtomicU64::new(0),
            tally: Mutex::default(),
            to_tell: Mutex::default(),
            problem: Mutex::default(),
            swap: Mutex::default(),
            seen: AtomicU64::new(0),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves until `stop` is ready; then every connection is cut, and no series of it is left.
    pub async fn run(&self, listener: Listener, stop: impl Future<Output = ()> + Send) {
        let shared = &self.shared;
        tokio::select! {
            () = stop => {}
            () = async {
                futures_util::join!(
                    serve::serve(shared, listener),
                    tend::ask_gate(shared),
                    tend::look_at_files(shared),
                    tend::tell(shared),
                );
            } => {}
        }
        // What was refused and cut until now is told in any case.
        tend::tell_once(shared).await;
        shared.doors.meter.forget(&shared.link.load().id);
    }

    /// Goes on as this configuration says: same id, side and listener. Whoever may no longer speak is cut.
    pub fn adopt(&self, link: Arc<Link>) {
        self.shared.link.store(link);
        self.shared.changed.notify_one();
    }

    /// SHA-256 of each root that peers are judged by now; `None` while nobody is let in for lack of any.
    #[must_use]
    pub fn anchors(&self) -> Option<BTreeSet<Digest>> {
        self.judge().map(|judge| judge.anchors())
    }

    /// Judges a chain as that of a peer, by what is in force.
    ///
    /// # Errors
    /// [`Refusal`]: as a peer would be refused.
    pub fn judge_chain(&self, chain: &[Arc<[u8]>]) -> Result<(), Refusal> {
        let unready = || Refusal::new(Reason::Unready, "the link has no roots in force");
        let judge = self.judge().ok_or_else(unready)?;
        let ders: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(&**der)).collect();
        judge.judge(&ders, self.shared.doors.clock.now()).map(drop)
    }

    fn judge(&self) -> Option<Arc<Judge>> {
        match &*self.shared.state.borrow() {
            State::Unready(_) => None,
            State::Swapping(judge) => Some(judge.clone()),
            State::Ready(generation) => Some(generation.judge.clone()),
        }
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let link = shared.link.load_full();
        let now = shared.doors.clock.now();
        let (ready, certificate, trust, bundle) = match &*shared.state.borrow() {
            State::Unready(why) => (Err(Refusal::new(Reason::Unready, why.clone())), None, None, None),
            State::Swapping(_) => (Ok(()), None, None, None),
            State::Ready(g) => (g.in_time(now), Some((g.fingerprint, g.validity.not_after)), Some(g.trust), g.bundle),
        };
        Status {
            closed: shared.passes(&link).and(ready).err(),
            problem: lock(&shared.problem).clone(),
            certificate,
            trust,
            bundle,
            swap: *lock(&shared.swap),
            connections: lock(&shared.live).len(),
            accepted: shared.series.accepted.get(),
            cut: shared.series.cut.get(),
            refused: shared.series.refused().map(|(reason, counter)| (reason, counter.get())).collect(),
            received: shared.series.received.get(),
            sent: shared.series.sent.get(),
            link,
        }
    }
}

/// What the loops and the connections of a link share.
struct Shared {
    link: ArcSwap<Link>,
    doors: Arc<Doors>,
    series: Series,
    state: watch::Sender<State>,
    live: Mutex<BTreeMap<u64, Live>>,
    next: AtomicU64,
    tally: Mutex<Tally>,
    to_tell: Mutex<ToTell>,
    problem: Mutex<Option<String>>,
    swap: Mutex<Option<Swap>>,
    /// How often trust in private CAs had moved when it was looked at last.
    seen: AtomicU64,
    /// The configuration changed.
    changed: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.link.load().id)
    }
}

/// What waits to be written down: one of each reason at most.
#[derive(Debug, Default)]
struct ToTell {
    refused: Vec<Told>,
    cut: BTreeMap<Reason, u64>,
}

/// What connections are made with.
#[derive(Clone, Debug)]
enum State {
    /// Nothing: the sentence says what is missing.
    Unready(String),
    /// What peers are judged by changed, and its entry is being written: whoever comes waits for that.
    Swapping(Arc<Judge>),
    /// All of it.
    Ready(Arc<Generation>),
}

/// Everything that a handshake is made with, swapped as a whole.
#[derive(Debug)]
struct Generation {
    tls: Tls,
    judge: Arc<Judge>,
    /// Of what peers are judged by.
    trust: Digest,
    /// Of a private CA, and since when it is in force.
    bundle: Option<(Digest, Timestamp)>,
    /// Of our own certificate.
    fingerprint: Digest,
    validity: Validity,
}

impl Generation {
    /// Nobody takes a certificate that is out of time, so it is not shown to anybody.
    fn in_time(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.validity.contains(now) {
            return Ok(());
        }
        let span = self.validity;
        let text = format!("the link's own certificate is valid from {} to {}", span.not_before, span.not_after);
        Err(Refusal::new(Reason::Unready, text))
    }
}

/// A connection.
struct Live {
    task: AbortHandle,
    /// Whoever is at the TLS end, once that is known.
    peer: Option<Known>,
}

#[derive(Clone)]
struct Known {
    ders: Arc<[CertificateDer<'static>]>,
    validity: Validity,
}

impl Shared {
    /// Whether the path is open.
    fn passes(&self, link: &Link) -> Result<(), Refusal> {
        passes(&(self.doors.gate)(&link.path), self.doors.clock.now())
    }

    /// Counts a refusal; what is worth an entry waits to be told. `who` is for people.
    fn refuse(&self, refusal: &Refusal, who: &str) {
        tracing::debug!(link = %self.link.load().id, who, reason = refusal.reason.as_str(), %refusal, "refused");
        self.series.refuse(refusal.reason);
        let refusal = Refusal::new(refusal.reason, format!("{who}: {}", refusal.text));
        let told = lock(&self.tally).note(&refusal, self.doors.clock.boottime());
        lock(&self.to_tell).refused.extend(told);
    }

    /// Notes who a connection speaks with, judged by what is in force at this moment.
    fn enlist(&self, id: u64, ders: Arc<[CertificateDer<'static>]>) -> Result<Admitted, Refusal> {
        let now = self.doors.clock.now();
        let note = |known: Known| {
            if let Some(live) = lock(&self.live).get_mut(&id) {
                live.peer = Some(known);
            }
        };
        // First into the list, then the judgement: whoever swaps what is in force does it the other way round, so that
        // one of the two sees the other.
        let unknown = Validity { not_before: Timestamp::MIN, not_after: Timestamp::MAX };
        note(Known { ders: ders.clone(), validity: unknown });
        let judge = match &*self.state.borrow() {
            State::Unready(why) => return Err(Refusal::new(Reason::Unready, why.clone())),
            State::Swapping(judge) => judge.clone(),
            State::Ready(generation) => generation.judge.clone(),
        };
        let admitted = judge.judge(&ders, now)?;
        note(Known { ders, validity: admitted.validity });
        Ok(admitted)
    }

    /// Cuts the connections that are picked.
    fn cut(&self, reason: Reason, pick: impl Fn(&u64, &Live) -> bool) {
        let picked: Vec<(bool, AbortHandle)> = {
            let live = lock(&self.live);
            let picked = live.iter().filter(|(id, live)| pick(id, live));
            picked.map(|(_, live)| (live.peer.is_some(), live.task.clone())).collect()
        };
        let mut cut = 0_u64;
        for (established, task) in picked.into_iter().filter(|(_, task)| !task.is_finished()) {
            task.abort();
            if established {
                cut = cut.saturating_add(1);
            } else {
                self.series.refuse(reason);
            }
        }
        if cut > 0 {
            self.series.cut.inc_by(cut);
            let mut to_tell = lock(&self.to_tell);
            let count = to_tell.cut.entry(reason).or_default();
            *count = count.saturating_add(cut);
        }
    }
}

/// What a broken thread left is still right: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
