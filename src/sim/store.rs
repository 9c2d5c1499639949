//! The store of the simulation: the contract of [`Store`] in memory, without a runtime, with faults on demand.
//!
//! What is committed lives on a "disk" that outlasts the store: after [`MemoryStore::crash`] the old handle refuses
//! everything, and [`MemoryStore::recovered`] opens the same disk again, as a restarted daemon does. Refuses to know
//! files, threads and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::audit::{self, Draft, LONGEST_ENTRY, Sealed, TargetKind};
use crate::domain::id::{EntryId, head};
use crate::domain::key::Digest;
use crate::domain::state::State;
use crate::ports::{Batch, Doing, Store, StoreError, StoredEntry};

/// A store in memory. Every future is ready when it is first polled; one that is dropped before did nothing.
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    /// Which opening of the disk this is: only the latest may use it.
    opening: u64,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store that keeps every entry.
    #[must_use]
    pub fn new() -> Self {
        Self::keeping(usize::MAX)
    }

    /// An empty store that hashes and links every entry, but keeps only the newest `entries` of them with their
    /// evidence, so that decades fit into memory. Only among these does it notice an id that is there already.
    #[must_use]
    pub fn keeping(entries: usize) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk { keep: entries, ..Disk::default() })), opening: 0 }
    }

    /// The next `commits` commits fail and write nothing, as when the disk is full.
    pub fn fail_next(&self, commits: u64) {
        self.disk().faults.fail_next = commits;
    }

    /// `commits` more commits succeed, then every one fails until [`Self::heal`], as when the disk dies.
    pub fn fail_after(&self, commits: u64) {
        self.disk().faults.fail_after = Some(commits);
    }

    /// The next `commits` commits are written, but their callers are told that they failed, as when a flush takes too
    /// long: what is in memory and what is on the disk then differ until a restart.
    pub fn lose_answers(&self, commits: u64) {
        self.disk().faults.lose_answers = commits;
    }

    /// No more faults.
    pub fn heal(&self) {
        self.disk().faults = Faults::default();
    }

    /// The process is killed: this handle refuses everything from now on. What was committed stays.
    pub fn crash(&self) {
        let mut disk = self.disk();
        if disk.opening == self.opening {
            disk.opening = disk.opening.wrapping_add(1);
        }
    }

    /// Opens the same disk again, without faults and with exactly what was committed; this handle and all earlier ones
    /// refuse everything from now on.
    #[must_use]
    pub fn recovered(&self) -> Self {
        let mut disk = self.disk();
        disk.opening = disk.opening.wrapping_add(1);
        disk.faults = Faults::default();
        Self { disk: self.disk.clone(), opening: disk.opening }
    }

    /// How many entries were written since the beginning, kept or not.
    #[must_use]
    pub fn entries_written(&self) -> u64 {
        self.disk().next
    }

    /// A number over the leaf hashes of all entries since the beginning: equal for equal runs, whatever was kept.
    #[must_use]
    pub fn log_digest(&self) -> u64 {
        self.disk().log_digest
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing panics while it holds the lock; if something did, each value is still whole.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_disk(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = self.disk();
        if disk.opening == self.opening { Ok(disk) } else { unavailable("the simulated process was killed") }
    }
}

impl Store for MemoryStore {
    fn load(&self) -> Doing<'_, Result<State, StoreError>> {
        Box::pin(async { Ok(self.open_disk()?.state.clone()) })
    }

    fn commit(&self, batch: Batch) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(async move {
            batch.check()?;
            self.open_disk()?.commit(batch)
        })
    }

    fn entries(&self, target: Option<String>, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(async move {
            let disk = self.open_disk()?;
            let wanted = |kept: &&Kept| target.as_ref().is_none_or(|t| kept.is_about(t));
            Ok(disk.kept.iter().rev().filter(wanted).take(limit).map(|kept| kept.entry.clone()).collect())
        })
    }

    fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { Ok(self.open_disk()?.evidence.get(&sha256).map(|e| e.bytes.to_vec())) })
    }
}

/// What outlasts a crash.
#[derive(Default)]
struct Disk {
    opening: u64,
    state: State,
    /// The sequence number of the next entry.
    next: u64,
    /// The newest leaf of each target.
    newest: BTreeMap<TargetKey, Digest>,
    log_digest: u64,
    keep: usize,
    kept: VecDeque<Kept>,
    ids: BTreeSet<EntryId>,
    evidence: BTreeMap<Digest, Evidence>,
    faults: Faults,
}

/// An entry with what is needed to find it and to let it go.
struct Kept {
    id: EntryId,
    kind: TargetKind,
    target: Arc<str>,
    evidence: Vec<Digest>,
    entry: StoredEntry,
}

impl Kept {
    /// Whether `key` is the key of its target ([`audit::Target::key`]).
    fn is_about(&self, key: &str) -> bool {
        key.split_once('/').is_some_and(|(kind, id)| kind == self.kind.as_str() && id == &*self.target)
    }
}

struct Evidence {
    bytes: Arc<[u8]>,
    /// The newest entry that names it.
    named_by: u64,
}

#[derive(Default)]
struct Faults {
    fail_next: u64,
    fail_after: Option<u64>,
    lose_answers: u64,
}

impl Disk {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if self.faults.strike() {
            return unavailable("the simulated disk failed, nothing was written");
        }
        let sealed = self.seal(&batch)?;
        // From here on nothing can fail: all of it or nothing.
        batch.changes.into_iter().for_each(|change| self.state.apply(change));
        for (draft, sealed) in batch.entries.iter().zip(sealed) {
            self.append(draft, sealed);
        }
        match self.faults.lose_answers.checked_sub(1) {
            Some(left) => {
                self.faults.lose_answers = left;
                unavailable("the simulated disk took too long, and whether the commit was written is unknown")
            }
            None => Ok(()),
        }
    }

    /// Gives each entry its place; a later entry of the batch links to an earlier one about the same target.
    fn seal(&self, batch: &Batch) -> Result<Vec<Sealed>, StoreError> {
        let (mut ids, mut newest) = (BTreeSet::new(), BTreeMap::new());
        let several = batch.entries.len() > 1;
        let mut all = Vec::with_capacity(batch.entries.len());
        for (sequence, draft) in (self.next..).zip(&batch.entries) {
            let id = draft.id;
            if self.ids.contains(&id) || (several && !ids.insert(id)) {
                return refused(&format!("entry {id} is there already"));
            }
            let key = key(draft);
            let previous = newest.get(&key).or_else(|| self.newest.get(&key)).copied();
            let sealed = audit::seal(draft, sequence, previous);
            let size = sealed.bytes.len();
            if size > LONGEST_ENTRY {
                return refused(&format!("entry {id} has {size} bytes; at most {LONGEST_ENTRY} are kept"));
            }
            if several {
                newest.insert(key, sealed.leaf);
            }
            all.push(sealed);
        }
        Ok(all)
    }

    fn append(&mut self, draft: &Draft, sealed: Sealed) {
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        let newest = self.newest.entry(key(draft)).or_insert(sealed.leaf);
        *newest = sealed.leaf;
        // The multiplier of the FNV hash: leaves are hashes already, and only have to be told apart in their order.
        self.log_digest = self.log_digest.wrapping_mul(0x0100_0000_01b3) ^ sealed.leaf.leading_u64();
        if self.keep == 0 {
            return;
        }
        self.ids.insert(draft.id);
        for evidence in &draft.evidence {
            let kept = Evidence { bytes: evidence.bytes.clone(), named_by: sequence };
            self.evidence.entry(evidence.sha256).or_insert(kept).named_by = sequence;
        }
        self.kept.push_back(Kept {
            id: draft.id,
            kind: draft.target.kind,
            target: draft.target.id.clone(),
            evidence: draft.evidence.iter().map(|e| e.sha256).collect(),
            entry: StoredEntry { sequence, leaf: sealed.leaf, bytes: sealed.bytes },
        });
        while self.kept.len() > self.keep {
            self.let_go();
        }
    }

    /// Forgets the oldest kept entry, and its evidence unless a newer one names it too.
    fn let_go(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        self.ids.remove(&oldest.id);
        for sha256 in oldest.evidence {
            if self.evidence.get(&sha256).is_some_and(|e| e.named_by == oldest.entry.sequence) {
                self.evidence.remove(&sha256);
            }
        }
    }
}

impl Faults {
    /// Whether this commit fails.
    fn strike(&mut self) -> bool {
        if let Some(left) = self.fail_next.checked_sub(1) {
            self.fail_next = left;
            return true;
        }
        match self.fail_after {
            None => false,
            Some(left) => {
                self.fail_after = Some(left.saturating_sub(1));
                left == 0
            }
        }
    }
}

/// A target, by what of it compares fastest.
type TargetKey = (u64, TargetKind, Arc<str>);

fn key(draft: &Draft) -> TargetKey {
    (head(&draft.target.id), draft.target.kind, draft.target.id.clone())
}

fn unavailable<T>(text: &str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(text.to_owned()))
}

fn refused<T>(why: &str) -> Result<T, StoreError> {
    unavailable(&format!("the batch was refused: {why}"))
}
