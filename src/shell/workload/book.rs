//! Who has which certificate: made when the first caller wants it, renewed while somebody listens, thrown away when it is
//! distrusted.
//!
//! A key is made here, in memory, for one workload; it is on no disk and in no log, and is wiped when the last who holds it
//! lets go. What is renewed at a restart is all of it: keys do not survive the process.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::meter::WorkloadMeter;
use super::record::{self, Records};
use crate::codec::keys::{self, KeyPair};
use crate::codec::pem::KeyForm;
use crate::domain::authority::Wish;
use crate::domain::id::CaId;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::link::passes;
use crate::domain::time::{Boottime, Timestamp, Validity};
use crate::domain::workload::{Caller, Workload, renew_at};
use crate::engine::Engine;
use crate::engine::authority::{Authority, Given, LeafStanding};
use crate::ports::{Clock, Relied, Trust as _};

/// How often everything is looked at: what is distrusted is replaced within a second.
const EVERY: Duration = Duration::from_millis(200);
/// Certificates that are made at once; others wait for their turn.
const MOST_AT_ONCE: usize = 16;
/// A CA that did not issue is asked again after a second, then two, four, …, a minute.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Lists longer than this altogether are left out of answers: clients take 4 MiB in one message.
const LONGEST_LISTS: usize = 256 * 1_024;
/// Callers of one certificate that are told apart in the log.
const MOST_TOLD: usize = 256;
/// Whatever moved without our being told is found after this.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A certificate with its key.
pub(super) struct Svid {
    pub(super) chain: Vec<Arc<[u8]>>,
    /// PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) serial: Arc<str>,
    pub(super) fingerprint: Digest,
    pub(super) validity: Validity,
    renew_at: Timestamp,
}

/// A workload and what it has.
pub(super) struct Entry {
    pub(super) workload: Workload,
    /// Calls that want it.
    wanted: AtomicUsize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    svid: Option<Arc<Svid>>,
    making: bool,
    failures: u32,
    problem: Option<(String, Boottime)>,
    /// To whom the certificate was given, as far as the log was told.
    told: BTreeSet<(u32, u32, Option<Arc<str>>)>,
}

/// What peers in a trust domain are judged by.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) anchors: Vec<Arc<[u8]>>,
    /// One for every CA, or none at all.
    pub(super) lists: Vec<Arc<[u8]>>,
    pub(super) digest: Digest,
}

/// How a workload is, for people and programs.
#[derive(Clone, Debug)]
pub struct Standing {
    /// As it is configured.
    pub workload: Workload,
    /// Why it gets nothing now.
    pub withheld: Option<String>,
    /// Calls that want it.
    pub callers: usize,
    /// What went wrong last.
    pub problem: Option<String>,
    /// Serial number, validity and when it is renewed.
    pub certificate: Option<(Arc<str>, Validity, Timestamp)>,
}

pub(super) struct Book {
    entries: ArcSwap<Vec<Arc<Entry>>>,
    pub(super) engine: Arc<Engine>,
    pub(super) authority: Option<Arc<Authority>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) records: Records,
    pub(super) meter: WorkloadMeter,
    /// By trust domain.
    trusts: RwLock<BTreeMap<String, Arc<Trust>>>,
    moved: watch::Sender<u64>,
    nudge: Notify,
}

impl Book {
    pub(super) fn new(
        workloads: &[Workload],
        engine: Arc<Engine>,
        authority: Option<Arc<Authority>>,
        clock: Arc<dyn Clock>,
        records: Records,
        meter: WorkloadMeter,
    ) -> Self {
        let entries = workloads.iter().map(|w| Arc::new(Entry::new(w.clone()))).collect();
        Self {
            entries: ArcSwap::new(Arc::new(entries)),
            engine,
            authority,
            clock,
            records,
            meter,
            trusts: RwLock::default(),
            moved: watch::Sender::new(0),
            nudge: Notify::new(),
        }
    }

    pub(super) fn adopt(&self, workloads: &[Workload]) {
        let before = self.entries.load_full();
        let known = |w: &Workload| before.iter().find(|entry| entry.workload == *w).cloned();
        let entries = workloads.iter().map(|w| known(w).unwrap_or_else(|| Arc::new(Entry::new(w.clone())))).collect();
        self.entries.store(Arc::new(entries));
        self.bump();
    }

    /// Changes whenever anything does that an answer may be made of.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Every workload that the configuration knows.
    pub(super) fn entries(&self) -> Arc<Vec<Arc<Entry>>> {
        self.entries.load_full()
    }

    /// Those that a caller is.
    pub(super) fn of(&self, caller: &Caller) -> Vec<Arc<Entry>> {
        self.entries.load().iter().filter(|entry| entry.workload.is(caller)).cloned().collect()
    }

    /// What is trusted in a domain; `None` if nothing is.
    pub(super) fn trust(&self, domain: &str) -> Option<Arc<Trust>> {
        self.trusts.read().unwrap_or_else(PoisonError::into_inner).get(domain).cloned()
    }

    /// Why a workload gets nothing now.
    pub(super) fn withheld(&self, workload: &Workload) -> Option<String> {
        let path = workload.path.as_ref()?;
        passes(&self.engine.gate(path), self.clock.now()).err().map(|refusal| refusal.text)
    }

    /// Wants the certificates of these until it is dropped.
    pub(super) fn want(self: &Arc<Self>, entries: Vec<Arc<Entry>>) -> Wanted {
        for entry in &entries {
            entry.wanted.fetch_add(1, Ordering::Relaxed);
        }
        self.nudge.notify_one();
        Wanted { entries }
    }

    pub(super) fn standings(&self) -> Vec<Standing> {
        let entries = self.entries();
        let standing = |entry: &Arc<Entry>| {
            let held = entry.held();
            Standing {
                workload: entry.workload.clone(),
                withheld: self.withheld(&entry.workload),
                callers: entry.wanted.load(Ordering::Relaxed),
                problem: held.problem.as_ref().map(|(text, _)| text.clone()),
                certificate: held.svid.as_ref().map(|s| (s.serial.clone(), s.validity, s.renew_at)),
            }
        };
        entries.iter().map(standing).collect()
    }

    fn bump(&self) {
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Runs for ever: everything that is due is done.
    pub(super) async fn tend(self: &Arc<Self>) {
        let mut making = JoinSet::new();
        let mut seen = Seen::default();
        let mut told = self.clock.boottime();
        loop {
            self.look(&mut seen, &mut making).await;
            let now = self.clock.boottime();
            if now.since(told) >= record::EVERY {
                self.records.tell(false).await;
                told = now;
            }
            tokio::select! {
                Some(_) = making.join_next() => {}
                () = self.nudge.notified() => {}
                () = self.clock.sleep(EVERY) => {}
            }
        }
    }

    async fn look(self: &Arc<Self>, seen: &mut Seen, making: &mut JoinSet<()>) {
        let Some(authority) = &self.authority else { return };
        let (now, boot) = (self.clock.now(), self.clock.boottime());
        let moved = authority.moved();
        let due = seen.looked.is_none_or(|at| boot.since(at) >= LOOK_AGAIN);
        if seen.moved != Some(moved) || due {
            (seen.moved, seen.looked) = (Some(moved), Some(boot));
            if self.learn(authority).await {
                self.bump();
            }
        }
        let entries = self.entries();
        let open: Vec<bool> = entries.iter().map(|entry| self.withheld(&entry.workload).is_none()).collect();
        let mut changed = seen.open != open;
        let mut certificates = 0_i64;
        for (entry, open) in entries.iter().zip(&open) {
            let mut held = entry.held();
            let standing = held.svid.as_ref().map(|svid| authority.leaf_standing(&svid.serial, now));
            let is_wanted = entry.wanted.load(Ordering::Relaxed) > 0;
            let due = held.svid.as_ref().is_some_and(|svid| now >= svid.renew_at)
                || standing == Some(LeafStanding::Superseded);
            if standing == Some(LeafStanding::Distrusted) || (due && !is_wanted) {
                held.svid = None;
                changed = true;
            }
            let rests = held.problem.as_ref().is_some_and(|(_, until)| boot < *until);
            let wants = is_wanted && *open && (held.svid.is_none() || due);
            if wants && !held.making && !rests && making.len() < MOST_AT_ONCE {
                held.making = true;
                making.spawn(self.clone().make(entry.clone(), authority.clone()));
            }
            certificates = certificates.saturating_add(i64::from(held.svid.is_some()));
        }
        self.meter.certificates.set(certificates);
        seen.open = open;
        if changed {
            self.bump();
        }
    }

    /// Learns what is trusted; whether it is something else than before.
    async fn learn(&self, authority: &Authority) -> bool {
        let mut by_domain: BTreeMap<String, Vec<Relied>> = BTreeMap::new();
        for (id, ca) in authority.cas().iter() {
            let Some(domain) = &ca.trust_domain else { continue };
            match authority.relied(id).await {
                Ok(relied) => by_domain.entry(domain.to_string()).or_default().push(relied),
                Err(error) => tracing::warn!(ca = %id, %error, "what is trusted of a CA cannot be told"),
            }
        }
        let new: BTreeMap<String, Arc<Trust>> = by_domain
            .into_iter()
            .filter(|(_, all)| all.iter().any(|relied| !relied.roots.is_empty()))
            .map(|(domain, all)| (domain, Arc::new(Trust::of(&all))))
            .collect();
        let mut known = self.trusts.write().unwrap_or_else(PoisonError::into_inner);
        let digests = |all: &BTreeMap<String, Arc<Trust>>| -> Vec<(String, Digest)> {
            all.iter().map(|(domain, trust)| (domain.clone(), trust.digest)).collect()
        };
        let changed = digests(&known) != digests(&new);
        *known = new;
        changed
    }

    async fn make(self: Arc<Self>, entry: Arc<Entry>, authority: Arc<Authority>) {
        let made = issue(&entry.workload, &authority).await;
        let boot = self.clock.boottime();
        {
            let mut held = entry.held();
            held.making = false;
            match made {
                Ok(svid) => {
                    tracing::info!(spiffe = %entry.workload.spiffe, serial = %svid.serial, "a workload has a certificate");
                    *held = Held { svid: Some(Arc::new(svid)), ..Held::default() };
                    self.meter.issued("success");
                }
                Err(why) => {
                    tracing::warn!(spiffe = %entry.workload.spiffe, why, "a workload gets no certificate");
                    let rest = Duration::from_secs(1 << held.failures.min(6)).min(LONGEST_REST);
                    held.failures = held.failures.saturating_add(1);
                    held.problem = Some((why, boot.plus(rest)));
                    self.meter.issued("failure");
                }
            }
        }
        self.bump();
    }
}

/// What was seen at the last look.
#[derive(Default)]
struct Seen {
    moved: Option<u64>,
    looked: Option<Boottime>,
    open: Vec<bool>,
}

async fn issue(workload: &Workload, authority: &Authority) -> Result<Svid, String> {
    let key = keys::generate(KeyAlgorithm::P256).map_err(|e| e.to_string())?;
    let spki = KeyPair::read(KeyForm::Pkcs8, &key).map_err(|e| e.to_string())?.public_key();
    let (names, spiffe) = (workload.names.clone(), Some(workload.spiffe.clone()));
    let wish = Wish { names, spiffe, spki: Arc::from(spki), lifetime: workload.lifetime };
    let by = format!("workload/{}", workload.spiffe);
    let given = authority.issue(&workload.ca, &workload.profile, &wish, &by).await;
    let Given { chain, serial, validity, fingerprint, .. } = given.map_err(|e| format!("{}: {e}", e.code()))?;
    Ok(Svid { chain, key, serial, fingerprint, validity, renew_at: renew_at(&validity, &fingerprint) })
}

impl Entry {
    fn new(workload: Workload) -> Self {
        Self { workload, wanted: AtomicUsize::new(0), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has, or why not; neither while it is being made.
    pub(super) fn svid(&self) -> (Option<Arc<Svid>>, Option<String>) {
        let held = self.held();
        (held.svid.clone(), held.problem.as_ref().map(|(text, _)| text.clone()))
    }

    /// Which CA issues for it.
    pub(super) fn ca(&self) -> &CaId {
        &self.workload.ca
    }

    /// Whether the log was told that this caller has this certificate.
    pub(super) fn is_told(&self, serial: &str, caller: &Caller) -> bool {
        let held = self.held();
        let same = held.svid.as_ref().is_some_and(|svid| *svid.serial == *serial);
        same && held.told.contains(&(caller.uid, caller.gid, caller.path.clone()))
    }

    pub(super) fn tell(&self, serial: &str, caller: &Caller) {
        let mut held = self.held();
        if held.svid.as_ref().is_some_and(|svid| *svid.serial == *serial) && held.told.len() < MOST_TOLD {
            held.told.insert((caller.uid, caller.gid, caller.path.clone()));
        }
    }
}

impl Trust {
    fn of(all: &[Relied]) -> Self {
        let anchors: Vec<Arc<[u8]>> = all.iter().flat_map(|relied| relied.roots.clone()).collect();
        // Whoever checks lists wants one of every CA.
        let whole = all.iter().all(|relied| relied.whole);
        let lists: Vec<Arc<[u8]>> = all.iter().flat_map(|relied| relied.lists.clone()).collect();
        let size = lists.iter().fold(0_usize, |sum, list| sum.saturating_add(list.len()));
        let lists = if whole && size <= LONGEST_LISTS { lists } else { Vec::new() };
        let all: Vec<u8> = anchors.iter().chain(&lists).flat_map(|der| Digest::of(der).0).collect();
        Self { digest: Digest::of(&all), anchors, lists }
    }
}

/// Somebody wants these.
pub(super) struct Wanted {
    entries: Vec<Arc<Entry>>,
}

impl Wanted {
    /// Whether it is about the same workloads.
    pub(super) fn is(&self, entries: &[Arc<Entry>]) -> bool {
        self.entries.len() == entries.len() && self.entries.iter().zip(entries).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        for entry in &self.entries {
            entry.wanted.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
