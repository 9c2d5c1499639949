//! Doors that misbehave in one way each, and pass everything else on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::domain::certificate::{CertId, Chain};
use keyward::domain::id::{AttemptId, EntryId, IssuerId};
use keyward::domain::inventory::{Credential, Endpoint, KeyReuse, Seen, Source};
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::name::NameSet;
use keyward::domain::private::Private;
use keyward::domain::question::Question;
use keyward::domain::state::State;
use keyward::domain::time::{HOUR, Timestamp};
use keyward::ports::{
    Accepted, AuthorizationView, Batch, Clock, Consistency, Doing, Evidence, Expected, HostError, Inclusion, Issuer,
    IssuerError, IssuerMeta, KeyStore, Log, OrderRequest, OrderStatus, OrderView, Page, PrivateKey, Prober,
    RenewalInfo, Statistics, Store, StoreError, StoredEntry,
};
use keyward::sim::ca::SimCa;
use keyward::sim::clock::SimClock;
use keyward::sim::host::SimHost;
use keyward::sim::store::MemoryStore;

/// Writes at once and answers late, as a real disk does.
pub struct Slow {
    pub inner: Arc<MemoryStore>,
    pub clock: Arc<SimClock>,
    pub pause: Duration,
}

impl Store for Slow {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        self.inner.load()
    }

    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let written = self.inner.commit(batch).await;
            self.clock.sleep(self.pause).await;
            written
        })
    }

    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        self.inner.entries(target, limit)
    }

    fn inspect(&self, from: u64) -> Doing<'_, Result<u64, StoreError>> {
        self.inner.inspect(from)
    }

    fn doubt(&self, found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>> {
        self.inner.doubt(found)
    }
}

/// Refuses every batch with an entry of one code.
pub struct Refusing {
    pub inner: Arc<MemoryStore>,
    pub clock: Arc<SimClock>,
    pub code: &'static str,
}

impl Store for Refusing {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        self.inner.load()
    }

    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.clock.sleep(Duration::from_millis(1)).await;
            if batch.entries.iter().any(|e| e.code == self.code) {
                return Err(StoreError::Unavailable("the batch was refused".into()));
            }
            self.inner.commit(batch).await
        })
    }

    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        self.inner.entries(target, limit)
    }

    fn inspect(&self, from: u64) -> Doing<'_, Result<u64, StoreError>> {
        self.inner.inspect(from)
    }

    fn doubt(&self, found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>> {
        self.inner.doubt(found)
    }
}

macro_rules! reads_as_it_is {
    ($($store:ty)*) => {
        $(impl Log for $store {
            fn query(&self, question: Question) -> Doing<'_, Result<Page, StoreError>> {
                self.inner.query(question)
            }

            fn entry(&self, id: EntryId) -> Doing<'_, Result<Option<StoredEntry>, StoreError>> {
                self.inner.entry(id)
            }

            fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
                self.inner.evidence(sha256)
            }

            fn private(&self, commitments: Vec<Digest>) -> Doing<'_, Result<BTreeMap<Digest, Private>, StoreError>> {
                self.inner.private(commitments)
            }

            fn people(&self) -> Doing<'_, Result<Vec<Private>, StoreError>> {
                self.inner.people()
            }

            fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>> {
                self.inner.checkpoint()
            }

            fn inclusion(&self, sequence: u64) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
                self.inner.inclusion(sequence)
            }

            fn consistency(&self, old_size: u64) -> Doing<'_, Result<Option<Consistency>, StoreError>> {
                self.inner.consistency(old_size)
            }

            fn open_intents(&self, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
                self.inner.open_intents(limit)
            }

            fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>> {
                self.inner.statistics()
            }
        })*
    };
}

reads_as_it_is! { Slow Refusing Hanging }

/// Watched files that a test puts there; a look takes a tenth of a second.
pub struct Files {
    inner: Arc<SimHost>,
    clock: Arc<SimClock>,
    files: Mutex<BTreeMap<String, Seen>>,
    pub nothing_stored: AtomicBool,
}

impl Files {
    pub fn new(inner: Arc<SimHost>, clock: Arc<SimClock>) -> Self {
        Self { inner, clock, files: Mutex::default(), nothing_stored: AtomicBool::new(false) }
    }

    pub fn put(&self, path: &str, seen: Seen) {
        self.files.lock().unwrap().insert(path.to_owned(), seen);
    }

    async fn take_time(&self) {
        self.clock.sleep(Duration::from_millis(100)).await;
    }
}

impl Prober for Files {
    fn stored<'a>(&'a self, credential: &'a Credential) -> Doing<'a, Seen> {
        Box::pin(async move {
            self.take_time().await;
            if self.nothing_stored.load(Ordering::SeqCst) {
                return Seen::Missing;
            }
            self.inner.stored(credential).await
        })
    }

    fn source<'a>(&'a self, source: &'a Source) -> Doing<'a, Seen> {
        Box::pin(async move {
            self.take_time().await;
            let Source::File { path, .. } = source else { return Seen::Missing };
            self.files.lock().unwrap().get(path).cloned().unwrap_or(Seen::Missing)
        })
    }

    fn matches<'a>(&'a self, pattern: &'a str) -> Doing<'a, Result<Vec<String>, HostError>> {
        Box::pin(async move {
            self.take_time().await;
            let folder = pattern.trim_end_matches('*').to_owned();
            Ok(self.files.lock().unwrap().keys().filter(|p| p.starts_with(&folder)).cloned().collect())
        })
    }

    fn served<'a>(&'a self, endpoint: &'a Endpoint) -> Doing<'a, Seen> {
        self.inner.served(endpoint)
    }
}

/// A key store that fails for a moment, or takes its time.
pub struct Keys {
    inner: Arc<SimHost>,
    /// A key is made so slowly.
    pub pause: Option<(Arc<SimClock>, Duration)>,
    pub prepare_fails: AtomicU32,
    pub chain_fails: AtomicU32,
}

impl Keys {
    pub fn new(inner: Arc<SimHost>) -> Self {
        Self { inner, pause: None, prepare_fails: AtomicU32::new(0), chain_fails: AtomicU32::new(0) }
    }
}

fn strikes(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl KeyStore for Keys {
    fn prepare<'a>(
        &'a self,
        slot: AttemptId,
        algorithm: KeyAlgorithm,
        names: &'a NameSet,
        reuse: KeyReuse,
        previous: Option<AttemptId>,
    ) -> Doing<'a, Result<Vec<u8>, HostError>> {
        if strikes(&self.prepare_fails) {
            return Box::pin(async { Err(HostError("too many open files".into())) });
        }
        Box::pin(async move {
            if let Some((clock, span)) = &self.pause {
                clock.sleep(*span).await;
            }
            self.inner.prepare(slot, algorithm, names, reuse, previous).await
        })
    }

    fn accept<'a>(
        &'a self,
        slot: AttemptId,
        issuer: &'a IssuerId,
        pem: &'a str,
        expected: Expected<'a>,
        now: Timestamp,
    ) -> Doing<'a, Result<Accepted, HostError>> {
        self.inner.accept(slot, issuer, pem, expected, now)
    }

    fn chain(&self, slot: AttemptId) -> Doing<'_, Result<(Arc<Chain>, String), HostError>> {
        if strikes(&self.chain_fails) {
            return Box::pin(async { Err(HostError("too many open files".into())) });
        }
        self.inner.chain(slot)
    }

    fn private_key(&self, slot: AttemptId) -> Doing<'_, Result<PrivateKey, HostError>> {
        self.inner.private_key(slot)
    }

    fn destroy(&self, slot: AttemptId) -> Doing<'_, Result<(), HostError>> {
        self.inner.destroy(slot)
    }

    fn slots(&self) -> Doing<'_, Result<Vec<AttemptId>, HostError>> {
        self.inner.slots()
    }
}

/// A CA that stays ready after finalize, or moves its renewal windows at every question.
pub struct Fickle {
    inner: Arc<SimCa>,
    clock: Arc<SimClock>,
    pub always_ready: AtomicBool,
    pub windows_move: AtomicBool,
    pub finalized: AtomicU64,
}

impl Fickle {
    pub fn new(inner: Arc<SimCa>, clock: Arc<SimClock>) -> Self {
        Self {
            inner,
            clock,
            always_ready: AtomicBool::new(false),
            windows_move: AtomicBool::new(false),
            finalized: AtomicU64::new(0),
        }
    }
}

impl Issuer for Fickle {
    fn meta<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<IssuerMeta, IssuerError>> {
        self.inner.meta(issuer)
    }

    fn new_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Arc<str>, IssuerError>> {
        self.inner.new_order(issuer, request)
    }

    fn find_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Option<Arc<str>>, IssuerError>> {
        self.inner.find_order(issuer, request)
    }

    fn order<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<OrderView, IssuerError>> {
        Box::pin(async move {
            self.clock.sleep(Duration::from_millis(1)).await;
            let mut view = self.inner.order(issuer, url).await?;
            if self.always_ready.load(Ordering::SeqCst) && view.status != OrderStatus::Pending {
                view.status = OrderStatus::Ready;
            }
            Ok(view)
        })
    }

    fn challenge_ready<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<(), IssuerError>> {
        self.inner.challenge_ready(issuer, url)
    }

    fn finalize<'a>(&'a self, issuer: &'a IssuerId, url: &'a str, csr: &'a [u8]) -> Doing<'a, Result<(), IssuerError>> {
        self.finalized.fetch_add(1, Ordering::SeqCst);
        self.inner.finalize(issuer, url, csr)
    }

    fn download<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<String, IssuerError>> {
        self.inner.download(issuer, url)
    }

    fn renewal_info<'a>(
        &'a self,
        issuer: &'a IssuerId,
        id: &'a CertId,
    ) -> Doing<'a, Result<Option<RenewalInfo>, IssuerError>> {
        if !self.windows_move.load(Ordering::SeqCst) {
            return self.inner.renewal_info(issuer, id);
        }
        Box::pin(async move {
            let start = self.clock.now().plus(HOUR * 4);
            let retry_after = Some(Duration::from_secs(60));
            Ok(Some(RenewalInfo { start, end: start.plus(HOUR), explanation: None, retry_after }))
        })
    }

    fn decided<'a>(
        &'a self,
        issuer: &'a IssuerId,
        url: &'a str,
    ) -> Doing<'a, Result<Vec<AuthorizationView>, IssuerError>> {
        self.inner.decided(issuer, url)
    }

    fn rollover<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<(), IssuerError>> {
        self.inner.rollover(issuer)
    }

    fn account_key<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<Option<String>, IssuerError>> {
        self.inner.account_key(issuer)
    }

    fn take_evidence(&self, issuer: &IssuerId, url: &str) -> Evidence {
        self.inner.take_evidence(issuer, url)
    }
}

/// Refuses a commit two seconds after it was asked for, as the real store does when the disk hangs.
pub struct Hanging {
    pub inner: Arc<MemoryStore>,
    pub clock: Arc<SimClock>,
    pub hangs: Arc<AtomicBool>,
}

impl Store for Hanging {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        self.inner.load()
    }

    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.hangs.load(Ordering::SeqCst) {
                self.clock.sleep(Duration::from_secs(2)).await;
                return Err(StoreError::Unavailable("a commit was not on the disk after 2 s".into()));
            }
            self.inner.commit(batch).await
        })
    }

    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        self.inner.entries(target, limit)
    }

    fn inspect(&self, from: u64) -> Doing<'_, Result<u64, StoreError>> {
        self.inner.inspect(from)
    }

    fn doubt(&self, found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>> {
        self.inner.doubt(found)
    }
}
