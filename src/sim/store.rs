//! The store of the simulation: the contract of [`Store`] in memory, without a runtime, with faults on demand.
//!
//! What is committed lives on a "disk" that outlasts the store: after [`MemoryStore::crash`] the old handle refuses
//! everything, and [`MemoryStore::recovered`] opens the same disk again, as a restarted daemon does. Refuses to know
//! files, threads and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::audit::{self, Draft, Facts, LONGEST_ENTRY, Phase, Sealed, TargetKind};
use crate::domain::changes::{self, After};
use crate::domain::id::{EntryId, head};
use crate::domain::key::Digest;
use crate::domain::private::{Private, Salt, Told};
use crate::domain::question::{LARGEST_PAGE, LARGEST_PAGE_BYTES, Order, Question};
use crate::domain::state::{Latch, LatchOn, State};
use crate::domain::time::Timestamp;
use crate::domain::tree::{Frontier, Subtree, TreeError, prove_consistency, prove_inclusion};
use crate::ports::{Batch, Consistency, Doing, Inclusion, Log, Page, Statistics, Store, StoreError, StoredEntry};

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

    /// An empty store for what-ifs over decades, whose log nobody reads: every change is applied and every entry counted,
    /// but none is written, hashed or kept. It refuses what [`Self::new`] would refuse without having the bytes: what
    /// breaks a rule of [`Batch::check`], what comes after a crash, and what its faults say; an id that is there already
    /// or an entry that is too long is not noticed. Whoever starts on it finds no person and no open intent, so it is no
    /// place for a change of an account's key that is cut off; every other question to the log is answered with an error.
    #[must_use]
    pub fn counting() -> Self {
        Self { disk: Arc::new(Mutex::new(Disk { counted: Some(0), ..Disk::default() })), opening: 0 }
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

    /// The medium fails under the next commit: it and every later one is refused as lost until a restart.
    pub fn lose_medium(&self) {
        self.disk().faults.lost = Some(0);
    }

    /// How many commits were asked for although the medium had been reported lost: a second try might be told a lie.
    #[must_use]
    pub fn asked_after_loss(&self) -> u64 {
        self.disk().faults.lost.map_or(0, |asked| asked.saturating_sub(1))
    }

    /// Somebody changes the log under the guardian: looks at it find that out.
    pub fn break_log(&self) {
        self.disk().faults.broken = true;
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
        if let Some(doubt) = disk.doubt.take() {
            disk.state.latches.insert(LatchOn::Log, doubt);
        }
        Self { disk: self.disk.clone(), opening: disk.opening }
    }

    /// From now on remembers every batch that is written, so that the same history can be told to another store.
    pub fn remember(&self) {
        self.disk().written.get_or_insert_with(Vec::new);
    }

    /// What was written since [`Self::remember`], in order.
    #[must_use]
    pub fn written(&self) -> Vec<Batch> {
        self.disk().written.clone().unwrap_or_default()
    }

    /// How many entries were written since the beginning, kept or not.
    #[must_use]
    pub fn entries_written(&self) -> u64 {
        let disk = self.disk();
        disk.counted.unwrap_or(disk.tree.size())
    }

    /// The root over all entries since the beginning: equal for equal runs, whatever was kept. `None` if they were only
    /// counted.
    #[must_use]
    pub fn log_digest(&self) -> Option<Digest> {
        let disk = self.disk();
        disk.counted.is_none().then(|| disk.tree.root())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing panics while it holds the lock; if something did, each value is still whole.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_disk(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = self.disk();
        if disk.opening == self.opening { Ok(disk) } else { unavailable("the simulated process was killed") }
    }

    /// The disk for a question to the log.
    fn open_log(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = self.open_disk()?;
        match disk.counted {
            None => Ok(disk),
            Some(counted) => {
                unavailable(&format!("there is no log: {counted} entries were counted, and none was kept"))
            }
        }
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
            let disk = self.open_log()?;
            let wanted = |kept: &&Kept| target.as_ref().is_none_or(|t| kept.is_about(t));
            Ok(disk.kept.iter().rev().filter(wanted).take(limit).map(|kept| kept.entry.clone()).collect())
        })
    }

    fn inspect(&self, from: u64) -> Doing<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let broken = || StoreError::Distrusted { code: "KW6001", text: "the simulated log was changed".to_owned() };
            if self.open_disk()?.faults.broken { Err(broken()) } else { Ok(from) }
        })
    }

    fn doubt(&self, found: Option<(Timestamp, StoreError)>) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut disk = self.open_disk()?;
            let latch = |(at, error): (Timestamp, StoreError)| {
                let (text, code) = (Arc::from(error.to_string()), Arc::from("KW6001"));
                Latch { at, code, text, by: None }
            };
            disk.doubt = found.map(latch);
            Ok(())
        })
    }
}

impl Log for MemoryStore {
    fn evidence(&self, sha256: Digest) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { Ok(self.open_log()?.evidence.get(&sha256).map(|e| e.bytes.to_vec())) })
    }

    fn private(&self, commitments: Vec<Digest>) -> Doing<'_, Result<BTreeMap<Digest, Private>, StoreError>> {
        Box::pin(async move {
            let disk = self.open_log()?;
            Ok(commitments.into_iter().filter_map(|c| Some((c, disk.private.get(&c)?.clone()))).collect())
        })
    }

    fn people(&self) -> Doing<'_, Result<Vec<Private>, StoreError>> {
        Box::pin(async move {
            let disk = self.open_disk()?;
            Ok(disk.people.iter().filter_map(|c| disk.private.get(c)).cloned().collect())
        })
    }

    fn checkpoint(&self) -> Doing<'_, Result<Option<String>, StoreError>> {
        Box::pin(async { Ok(Some(self.open_disk()?.note())) })
    }

    fn inclusion(&self, sequence: u64) -> Doing<'_, Result<Option<Inclusion>, StoreError>> {
        Box::pin(async move {
            let disk = self.open_log()?;
            let Some(entry) = disk.entry(sequence).cloned().filter(|_| disk.keeps_all()) else { return Ok(None) };
            let proof =
                prove_inclusion(sequence, disk.tree.size(), |subtree| disk.subtree(subtree)).map_err(no_proof)?;
            Ok(Some(Inclusion { entry, proof, note: disk.note() }))
        })
    }

    fn consistency(&self, old_size: u64) -> Doing<'_, Result<Option<Consistency>, StoreError>> {
        Box::pin(async move {
            let disk = self.open_log()?;
            if old_size > disk.tree.size() || !disk.keeps_all() {
                return Ok(None);
            }
            let proof =
                prove_consistency(old_size, disk.tree.size(), |subtree| disk.subtree(subtree)).map_err(no_proof)?;
            Ok(Some(Consistency { proof, note: disk.note() }))
        })
    }

    fn open_intents(&self, limit: usize) -> Doing<'_, Result<Vec<StoredEntry>, StoreError>> {
        Box::pin(async move {
            let disk = self.open_disk()?;
            let mut open: Vec<u64> = disk.intents.values().copied().collect();
            open.sort_unstable();
            Ok(open.into_iter().filter_map(|sequence| disk.entry(sequence).cloned()).take(limit).collect())
        })
    }

    fn query(&self, question: Question) -> Doing<'_, Result<Page, StoreError>> {
        Box::pin(async move { Ok(self.open_log()?.page(&question)) })
    }

    fn entry(&self, id: EntryId) -> Doing<'_, Result<Option<StoredEntry>, StoreError>> {
        Box::pin(async move { Ok(self.open_log()?.kept.iter().find(|k| k.draft.id == id).map(|k| k.entry.clone())) })
    }

    fn statistics(&self) -> Doing<'_, Result<Statistics, StoreError>> {
        Box::pin(async move { Ok(self.open_log()?.statistics()) })
    }
}

/// What outlasts a crash.
#[derive(Default)]
struct Disk {
    opening: u64,
    state: State,
    /// How many entries were counted, where they are only counted: then there is no log.
    counted: Option<u64>,
    /// Over all entries; its size is the sequence number of the next.
    tree: Frontier,
    /// Intents without an outcome.
    intents: BTreeMap<EntryId, u64>,
    /// The newest leaf of each target.
    newest: BTreeMap<TargetKey, Digest>,
    keep: usize,
    kept: VecDeque<Kept>,
    ids: BTreeSet<EntryId>,
    evidence: BTreeMap<Digest, Evidence>,
    private: BTreeMap<Digest, Private>,
    /// The people among them.
    people: BTreeSet<Digest>,
    /// Also where entries are only counted.
    written: Option<Vec<Batch>>,
    faults: Faults,
    /// That the log was found broken, until the next opening.
    doubt: Option<Latch>,
}

/// An entry with what is needed to find it and to let it go.
struct Kept {
    /// What the words are made of when somebody asks: without the facts that make none, and without evidence.
    draft: Draft,
    facts: Facts,
    evidence: Vec<Digest>,
    /// Commitments of its own texts; people stay.
    private: Vec<Digest>,
    entry: StoredEntry,
}

impl Kept {
    /// The words that it is found by.
    fn words(&self) -> Vec<String> {
        audit::marks(&self.draft, self.facts)
    }

    /// Whether `key` is the key of its target ([`audit::Target::key`]).
    fn is_about(&self, key: &str) -> bool {
        key.split_once('/')
            .is_some_and(|(kind, id)| kind == self.draft.target.kind.as_str() && id == &*self.draft.target.id)
    }
}

struct Evidence {
    bytes: Arc<[u8]>,
    /// The newest entry that names it.
    named_by: u64,
}

#[derive(Default)]
struct Faults {
    broken: bool,
    fail_next: u64,
    fail_after: Option<u64>,
    lose_answers: u64,
    /// Commits since the medium was lost.
    lost: Option<u64>,
}

impl Disk {
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        if let Some(asked) = &mut self.faults.lost {
            *asked = asked.saturating_add(1);
            return Err(StoreError::Lost("the simulated disk failed at a flush".into()));
        }
        if self.faults.strike() {
            return unavailable("the simulated disk failed, nothing was written");
        }
        let sealed = if self.counted.is_some() { Vec::new() } else { self.seal(&batch)? };
        // From here on nothing can fail: all of it or nothing.
        if let Some(written) = &mut self.written {
            written.push(batch.clone());
        }
        if let Some(counted) = &mut self.counted {
            *counted = counted.saturating_add(length(&batch.entries));
        }
        batch.changes.iter().for_each(|change| self.state.apply(change));
        for (draft, (sealed, private)) in batch.entries.into_iter().zip(sealed) {
            self.append(draft, sealed, private);
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
    fn seal(&self, batch: &Batch) -> Result<Vec<(Sealed, Vec<Private>)>, StoreError> {
        let (mut ids, mut newest) = (BTreeSet::new(), BTreeMap::new());
        let several = batch.entries.len() > 1;
        let mut all = Vec::with_capacity(batch.entries.len());
        for (index, (sequence, draft)) in (self.tree.size()..).zip(&batch.entries).enumerate() {
            let id = draft.id;
            if self.ids.contains(&id) || (several && !ids.insert(id)) {
                return refused(&format!("entry {id} is there already"));
            }
            let key = key(draft);
            let previous = newest.get(&key).or_else(|| self.newest.get(&key)).copied();
            let mut drawn = 0_u64;
            let mut salt = || {
                drawn = drawn.saturating_add(1);
                salt_of(sequence, drawn)
            };
            let mut told = Told::of(&draft.private, &mut salt);
            let (earlier, own) = changes::share(&batch.changes, index, batch.entries.len());
            let before = After { state: &self.state, changes: earlier };
            match changes::tell(&mut told, own, &before) {
                Ok(()) => {}
            }
            let sealed = audit::seal(draft, sequence, previous, &told);
            let size = sealed.bytes.len();
            if size > LONGEST_ENTRY {
                return refused(&format!("entry {id} has {size} bytes; at most {LONGEST_ENTRY} are kept"));
            }
            if several {
                newest.insert(key, sealed.leaf);
            }
            all.push((sealed, told.texts().map(|(_, private)| private.clone()).collect()));
        }
        Ok(all)
    }

    fn append(&mut self, draft: Draft, sealed: Sealed, private: Vec<Private>) {
        let sequence = self.tree.size();
        self.tree.push(sealed.leaf, |_, _| {});
        let newest = self.newest.entry(key(&draft)).or_insert(sealed.leaf);
        *newest = sealed.leaf;
        match (draft.phase, draft.intent) {
            (Phase::Intent, _) => drop(self.intents.insert(draft.id, sequence)),
            (Phase::Outcome, Some(intent)) => drop(self.intents.remove(&intent)),
            (Phase::Outcome | Phase::Event, _) => {}
        }
        if self.keep == 0 {
            return;
        }
        self.ids.insert(draft.id);
        let private: Vec<_> = private.into_iter().map(|p| (p.commitment(), p)).collect();
        let commitments = private.iter().map(|(commitment, _)| *commitment).collect();
        self.private.extend(private);
        if let Some(person) = &draft.person {
            self.people.insert(person.commitment());
            self.private.insert(person.commitment(), person.clone());
        }
        for commitment in &draft.forgets {
            self.private.remove(commitment);
            self.people.remove(commitment);
        }
        for evidence in &draft.evidence {
            let kept = Evidence { bytes: evidence.bytes.clone(), named_by: sequence };
            self.evidence.entry(evidence.sha256).or_insert(kept).named_by = sequence;
        }
        self.kept.push_back(Kept {
            facts: sealed.facts,
            evidence: draft.evidence.iter().map(|e| e.sha256).collect(),
            draft: light(draft),
            private: commitments,
            entry: StoredEntry { sequence, leaf: sealed.leaf, bytes: sealed.bytes },
        });
        while self.kept.len() > self.keep {
            self.let_go();
        }
    }

    /// The checkpoint, unsigned.
    fn note(&self) -> String {
        // A start wants to know how many there are; a root is nobody's to have.
        if let Some(counted) = self.counted {
            return format!("keyward/simulation\n{counted}\nnone\n");
        }
        let head = self.tree.head();
        format!("keyward/simulation\n{}\n{}\n", head.size, STANDARD.encode(head.root.0))
    }

    fn keeps_all(&self) -> bool {
        u64::try_from(self.kept.len()) == Ok(self.tree.size())
    }

    /// An entry, if it is kept.
    fn entry(&self, sequence: u64) -> Option<&StoredEntry> {
        let first = self.kept.front()?.entry.sequence;
        let place = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.kept.get(place).map(|kept| &kept.entry)
    }

    /// The hash of a complete subtree, while all entries are kept.
    fn subtree(&self, subtree: Subtree) -> Result<Digest, TreeError> {
        let first = subtree.place << subtree.level;
        let mut made = Frontier::default();
        for sequence in first..first.saturating_add(1 << subtree.level) {
            let entry = self.entry(sequence).ok_or(TreeError::Sizes("an entry is not kept"))?;
            made.push(entry.leaf, |_, _| {});
        }
        Ok(made.root())
    }

    fn page(&self, question: &Question) -> Page {
        let limit = question.limit.clamp(1, LARGEST_PAGE);
        let (mut page, mut bytes) = (Page { size: self.tree.size(), ..Page::default() }, 0_usize);
        let mut all: Box<dyn Iterator<Item = &Kept>> = match question.order {
            Order::NewestFirst => Box::new(self.kept.iter().rev()),
            Order::OldestFirst => Box::new(self.kept.iter()),
        };
        let fits =
            |kept: &&Kept| question.is_beyond(kept.entry.sequence) && question.fits(kept.draft.at, &kept.words());
        while let Some(kept) = all.find(fits) {
            if page.entries.len() >= limit || bytes >= LARGEST_PAGE_BYTES {
                page.next = page.entries.last().map(|e| e.sequence);
                break;
            }
            bytes = bytes.saturating_add(kept.entry.bytes.len());
            page.entries.push(kept.entry.clone());
        }
        page
    }

    /// The oldest entry that is kept.
    fn begins(&self) -> u64 {
        self.kept.front().map_or(0, |kept| kept.entry.sequence)
    }

    fn statistics(&self) -> Statistics {
        let mut counts = BTreeMap::new();
        for word in self.kept.iter().flat_map(Kept::words) {
            if word.starts_with("code:") || word.starts_with("outcome:") {
                let count: &mut u64 = counts.entry(word).or_default();
                *count = count.saturating_add(1);
            }
        }
        let at = |kept: &Kept| kept.draft.at;
        Statistics {
            size: self.tree.size(),
            begins: self.begins(),
            span: self.kept.front().map(at).zip(self.kept.back().map(at)),
            bytes: self.kept.iter().fold(0, |sum: u64, k| sum.saturating_add(length(&k.entry.bytes))),
            checkpoints: 0,
            open_intents: u64::try_from(self.intents.len()).unwrap_or(u64::MAX),
            counts,
        }
    }

    /// Forgets the oldest kept entry, and its evidence unless a newer one names it too.
    fn let_go(&mut self) {
        let Some(oldest) = self.kept.pop_front() else { return };
        self.ids.remove(&oldest.draft.id);
        oldest.private.iter().for_each(|commitment| drop(self.private.remove(commitment)));
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

/// As good as random in a simulation, and the same in every run of it.
fn salt_of(sequence: u64, drawn: u64) -> Salt {
    let digest = Digest::of_parts(&[b"salt", &sequence.to_be_bytes(), &drawn.to_be_bytes()]);
    let mut salt = [0; 16];
    salt.iter_mut().zip(digest.0).for_each(|(slot, byte)| *slot = byte);
    salt
}

/// A target, by what of it compares fastest.
type TargetKey = (u64, TargetKind, Arc<str>);

fn key(draft: &Draft) -> TargetKey {
    (head(&draft.target.id), draft.target.kind, draft.target.id.clone())
}

fn no_proof(error: TreeError) -> StoreError {
    StoreError::Damaged(error.to_string())
}

/// A draft without what makes no words.
fn light(mut draft: Draft) -> Draft {
    draft.facts.retain(|(key, _)| *key == "issuer");
    (draft.private, draft.evidence, draft.forgets) = (Vec::new(), Vec::new(), Vec::new());
    draft.person = None;
    draft
}

fn length<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

fn unavailable<T>(text: &str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(text.to_owned()))
}

fn refused<T>(why: &str) -> Result<T, StoreError> {
    unavailable(&format!("the batch was refused: {why}"))
}
