//! The one pass over a log.

mod frozen;

use std::collections::BTreeMap;

use self::frozen::Began;
use super::beginning::{Claimed, Frozen};
use super::finding::{Finding, Findings, Grade, Rule};
use super::fold::{Fold, Secret};
use super::inspect::{Stored, inspect};
use super::record::{Named, Record};
use super::report::{Blobs, Report};
use super::trust::{Judged, Trust};
use crate::codec::canonical::Value;
use crate::codec::note::VerifierKey;
use crate::domain::audit::{Phase, leaf_hash};
use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::time::{MINUTE, Timestamp};
use crate::domain::tree::{Frontier, Subtree, TreeHead};

/// Derived subtrees stand at the levels that are multiples of this (decision 0007; the tiles of C2SP tlog-tiles too).
const STEP: u8 = 8;

/// A checkpoint as it lies somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Its size's column.
    pub size: Option<u64>,
    /// Its time's column.
    pub at: Option<i64>,
    /// The note.
    pub note: &'a str,
}

/// Size and root that are known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// What to call it.
    pub what: String,
    /// What it says.
    pub head: TreeHead,
}

/// What an entry names and somebody has to look up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Subtrees of the stored levels that it completes, with their hashes.
    pub subtrees: Vec<(Subtree, Digest)>,
    /// Evidence.
    pub evidence: Vec<Named>,
    /// Private texts, by their commitments.
    pub private: Vec<Digest>,
}

/// The pass.
#[derive(Clone, Debug)]
pub struct Verifier {
    trust: Trust,
    anchors: Vec<Anchor>,
    /// Over the leaves as they are stored.
    tree: Frontier,
    /// Over the hashes of the bytes, from the first entry on at which these are others.
    bytes: Option<Frontier>,
    /// Set once roots and links mean nothing any more.
    lost: bool,
    next: u64,
    targets: BTreeMap<String, Link>,
    intents: BTreeMap<EntryId, Intent>,
    newest: Option<Timestamp>,
    first: Option<Timestamp>,
    /// Of the last entry.
    at: Option<Timestamp>,
    back: Option<Finding>,
    index: Option<Fold>,
    seen: Seen,
    target: String,
    /// Where it began, if not with the first entry.
    began: Option<Began>,
    /// What entries of freezes say.
    freezes: Vec<Frozen>,
    /// Shards that were read.
    claimed: Vec<Claimed>,
    /// Set if it ends with a shard.
    early: bool,
}

/// The newest entry about a target.
#[derive(Clone, Debug)]
struct Link {
    leaf: Digest,
    /// Of its bytes, if that is another.
    bytes: Digest,
}

#[derive(Clone, Debug)]
struct Intent {
    sequence: u64,
    target: String,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    origin: Option<String>,
    proved: Option<TreeHead>,
    /// The largest size that each key has signed with the right root.
    signed: BTreeMap<VerifierKey, u64>,
    /// The largest size that a checkpoint of the log itself says.
    claimed: Option<u64>,
    checkpoints: u64,
    witnessed: BTreeMap<String, (u64, Timestamp)>,
    agrees: Vec<String>,
    evidence: Blobs,
    private: Blobs,
    findings: Findings,
}

impl Verifier {
    /// Before the first entry.
    #[must_use]
    pub fn new(trust: Trust, mut anchors: Vec<Anchor>) -> Self {
        anchors.sort_by_key(|anchor| core::cmp::Reverse(anchor.head.size));
        let mut verifier = Self {
            trust,
            anchors,
            tree: Frontier::default(),
            bytes: None,
            lost: false,
            next: 0,
            targets: BTreeMap::new(),
            intents: BTreeMap::new(),
            newest: None,
            first: None,
            at: None,
            back: None,
            index: None,
            seen: Seen::default(),
            target: String::new(),
            began: None,
            freezes: Vec::new(),
            claimed: Vec::new(),
            early: false,
        };
        verifier.compare_anchors();
        verifier
    }

    /// Also compares an index of words: the secret is for this one pass.
    #[must_use]
    pub fn with_index(mut self, secret: &Secret) -> Self {
        self.index = Some(Fold::new(secret));
        self
    }

    /// The sums over the index, to add the rows that are there.
    pub fn index(&mut self) -> Option<&mut Fold> {
        self.index.as_mut()
    }

    /// Entries so far: checkpoints of this size are due now.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.next
    }

    /// The first entry that is read: those before it are frozen.
    #[must_use]
    pub fn begins(&self) -> u64 {
        self.began.as_ref().map_or(0, Began::size)
    }

    /// Whether no entry is missing, so that derived tables can be compared with the entries; after every checkpoint.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.lost && self.seen.claimed.is_none_or(|claimed| claimed <= self.next)
    }

    /// The intents without an outcome: their ids as bytes, and where they stand.
    #[must_use]
    pub fn open(&self) -> BTreeMap<[u8; 16], u64> {
        self.intents.iter().map(|(id, intent)| (id.0.to_bytes(), intent.sequence)).collect()
    }

    /// Adds a finding that only the source could make.
    pub fn find(&mut self, finding: Finding) {
        self.seen.findings.add(finding);
    }

    /// The next entry.
    pub fn entry(&mut self, stored: &Stored<'_>) -> Needs {
        if stored.sequence != self.next {
            self.gap(stored.sequence);
        }
        let hash = leaf_hash(stored.body);
        let leaf = stored.leaf.unwrap_or(hash);
        let value = self.inspect(stored, &hash);
        let mut needs = Needs::default();
        if let Some(value) = &value
            && let Ok(record) = Record::of(value)
        {
            self.relate(stored.sequence, &record, Link { leaf, bytes: hash });
            self.count(&record, stored.sequence, &mut needs);
            self.freezes.extend(Frozen::of(value, &record));
        }
        if self.bytes.is_none() && leaf != hash {
            self.bytes = Some(self.tree.clone());
        }
        if let Some(bytes) = &mut self.bytes {
            bytes.push(hash, |_, _| {});
        }
        self.tree.push(leaf, |subtree, hash| {
            if subtree.level.is_multiple_of(STEP) {
                needs.subtrees.push((subtree, *hash));
            }
        });
        if self.lost {
            needs.subtrees.clear();
        }
        self.next = stored.sequence.saturating_add(1);
        self.compare_anchors();
        needs
    }

    /// What an entry's own bytes and columns say about it; its JSON if it has any. Everything found is recorded.
    fn inspect<'a>(&mut self, stored: &Stored<'a>, hash: &Digest) -> Option<Value<'a>> {
        let (value, found) = inspect(stored, hash);
        found.into_iter().for_each(|finding| self.seen.findings.add(finding));
        value
    }

    fn gap(&mut self, sequence: u64) {
        let next = self.next;
        let text = if sequence > next {
            format!("entry {next} is missing: after it stands {sequence}")
        } else {
            format!("entry {sequence} stands where {next} must stand")
        };
        self.seen.findings.add(Finding::tampered(Rule::Order, next.min(sequence), text));
        self.lost = true;
    }

    /// Link, intent and outcome, time.
    fn relate(&mut self, sequence: u64, record: &Record<'_>, link: Link) {
        self.target.clear();
        self.target.extend([record.target_kind, "/", record.target_id]);
        let known = self.targets.get_mut(self.target.as_str());
        let fits = match (&known, record.previous) {
            (None, None) => true,
            (Some(known), Some(previous)) => previous == known.leaf || previous == known.bytes,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !fits && !self.lost {
            let text = format!(
                "entry {sequence} names another entry than the last one about {} as the one before it",
                self.target
            );
            self.seen.findings.add(Finding::tampered(Rule::Link, sequence, text));
        }
        match known {
            Some(known) => *known = link,
            None => drop(self.targets.insert(self.target.clone(), link)),
        }
        self.pair(sequence, record);
        self.follow_time(sequence, record);
    }

    fn pair(&mut self, sequence: u64, record: &Record<'_>) {
        match record.phase {
            Phase::Event => {}
            Phase::Intent => {
                let intent = Intent { sequence, target: self.target.clone() };
                if self.intents.insert(record.id, intent).is_some() {
                    let text = format!("entry {sequence} has the id of an intent before it, {}", record.id);
                    self.seen.findings.add(Finding::tampered(Rule::Pair, sequence, text));
                }
            }
            Phase::Outcome => {
                let closed = record.intent.and_then(|id| self.intents.remove(&id));
                let wrong = match (record.intent, closed) {
                    (_, Some(intent)) if intent.target == self.target => None,
                    (Some(id), Some(intent)) => Some(format!(
                        "concludes the intent {id}, which is about {} and not {}",
                        intent.target, self.target
                    )),
                    (Some(id), None) => {
                        Some(format!("concludes the intent {id}, which is not before it or was concluded before"))
                    }
                    (None, _) => Some("concludes nothing: it names no intent".to_owned()),
                };
                if let Some(wrong) = wrong.filter(|_| !self.lost) {
                    let text = format!("entry {sequence} {wrong}");
                    self.seen.findings.add(Finding::tampered(Rule::Pair, sequence, text));
                }
            }
        }
    }

    /// Drafts wait for each other in the queue for seconds, so the times of neighbours may cross by that much.
    fn follow_time(&mut self, sequence: u64, record: &Record<'_>) {
        self.first.get_or_insert(record.at);
        self.at = Some(record.at);
        if record.action.starts_with("clock.") {
            self.back = None;
            self.newest = Some(record.at);
            return;
        }
        match self.newest {
            Some(newest) if record.at.plus(MINUTE) < newest => {
                let text = format!(
                    "entry {sequence} is of {} and one before it of {newest}: the clock went back, and no entry says \
                     that somebody vouched for it",
                    record.at
                );
                let finding = Finding { grade: Grade::Warning, rule: Rule::Time, sequence: Some(sequence), text };
                if let Some(earlier) = self.back.replace(finding) {
                    self.seen.findings.add(earlier);
                }
                self.newest = Some(record.at);
            }
            newest => self.newest = Some(newest.map_or(record.at, |newest| newest.max(record.at))),
        }
    }

    fn count(&mut self, record: &Record<'_>, sequence: u64, needs: &mut Needs) {
        if let Some(index) = &mut self.index {
            expect(index, record, sequence);
        }
        // Entries without it were found to be malformed.
        needs.evidence = record.evidence().unwrap_or_default();
        needs.private = record.private().unwrap_or_default();
        self.seen.evidence.named = self.seen.evidence.named.saturating_add(length(&needs.evidence));
        self.seen.private.named = self.seen.private.named.saturating_add(length(&needs.private));
    }

    /// A checkpoint of the log itself, when its size is [`Self::size`]; those beyond the last entry come after it.
    pub fn checkpoint(&mut self, signed: &Signed<'_>) {
        self.seen.checkpoints = self.seen.checkpoints.saturating_add(1);
        let what = match signed.size {
            Some(size) => format!("the checkpoint of size {size}"),
            None => "the checkpoint".to_owned(),
        };
        let judged = match self.trust.judge(&what, signed.note) {
            Ok(judged) => judged,
            Err(finding) => return self.unjudged(*finding, signed.note),
        };
        let head = judged.head;
        self.seen.claimed = self.seen.claimed.max(Some(head.size));
        if let Some(wrong) = self.columns(signed, &judged) {
            return self.seen.findings.add(Finding::tampered(Rule::Column, None, format!("{what} {wrong}")));
        }
        let mut root = true;
        if head.size == self.next && !self.lost {
            root = self.compare_root(&what, &head);
        } else if head.size < self.next && !self.lost {
            let text = format!("{what} stands among those of size {}", self.next);
            self.seen.findings.add(Finding::tampered(Rule::Signature, None, text));
        }
        self.seen.origin = Some(judged.origin);
        if root && head.size == self.next {
            self.seen.signed.extend(judged.signers.into_iter().map(|key| (key, head.size)));
        }
        if root {
            for (name, at) in judged.witnessed {
                let largest = self.seen.witnessed.entry(name).or_insert((head.size, at));
                *largest = (*largest).max((head.size, at));
            }
        }
    }

    fn columns(&self, signed: &Signed<'_>, judged: &Judged) -> Option<String> {
        let head = judged.head;
        if signed.size.is_some_and(|size| size != head.size) {
            return Some(format!("says that its size is {}", head.size));
        }
        // A checkpoint's time is that of its newest entry, which the root covers.
        if let (Some(at), Some(newest)) = (signed.at, self.at)
            && head.size == self.next
            && at != newest.unix()
        {
            return Some(format!("has the time {}, and its newest entry is of {newest}", Timestamp::from_unix(at)));
        }
        if let Some(origin) = self.seen.origin.as_ref().filter(|origin| **origin != judged.origin) {
            return Some(format!("is of {}, and one before it of {origin}", judged.origin));
        }
        None
    }

    /// Whether the root over the entries is the one that a checkpoint of their number says.
    fn compare_root(&mut self, what: &str, head: &TreeHead) -> bool {
        if self.tree.root() == head.root {
            // Entries whose bytes have another hash were named; all others are proved.
            self.prove(head);
            return true;
        }
        if let Some(bytes) = self.bytes.take_if(|bytes| bytes.root() == head.root) {
            // The column of the leaf was altered, and the bytes are right.
            self.tree = bytes;
            self.prove(head);
            return true;
        }
        let from = self.seen.proved.map_or(self.begins(), |proved| proved.size);
        let last = head.size.saturating_sub(1);
        let text = format!(
            "the root over entries 0–{last} is not the one that {what} says: something in {from}–{last} was changed"
        );
        let first = self.seen.findings.first_bad().is_none().then_some(from);
        self.seen.findings.add(Finding::tampered(Rule::Root, first, text));
        self.lost = true;
        false
    }

    fn prove(&mut self, head: &TreeHead) {
        if !self.trust.keys.is_empty() {
            self.seen.proved = Some(*head);
        }
    }

    /// What is known from outside about the log at this size.
    fn compare_anchors(&mut self) {
        while let Some(anchor) = self.anchors.pop_if(|anchor| anchor.head.size <= self.next) {
            if self.lost {
                continue;
            }
            let bytes = self.bytes.as_ref().map(Frontier::root);
            if self.tree.root() == anchor.head.root || bytes == Some(anchor.head.root) {
                self.seen.agrees.push(anchor.what);
            } else {
                let text = format!(
                    "{} says another root for the first {} entries: this is not the log that it is of, or another \
                     history of it",
                    anchor.what, anchor.head.size
                );
                self.seen.findings.add(Finding::tampered(Rule::Fork, None, text));
            }
        }
    }

    /// What the source has for a subtree that [`Self::entry`] asked for.
    pub fn subtree(&mut self, subtree: &Subtree, expected: &Digest, found: Option<&Digest>) {
        if found == Some(expected) {
            return;
        }
        let first = subtree.place << subtree.level;
        let last = first.saturating_add(1 << subtree.level).saturating_sub(1);
        let seen = if found.is_some() { "is another" } else { "is missing" };
        let text = format!("the stored hash over entries {first}–{last} (level {}) {seen}", subtree.level);
        self.seen.findings.add(Finding::tampered(Rule::Derived, None, text));
    }

    /// Evidence that an entry names and that is not there.
    pub fn missing_evidence(&mut self) {
        self.seen.evidence.missing = self.seen.evidence.missing.saturating_add(1);
    }

    /// A private text that an entry names and that is not there.
    pub fn missing_private(&mut self) {
        self.seen.private.missing = self.seen.private.missing.saturating_add(1);
    }

    /// After everything was handed in.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if let Some(back) = self.back.take() {
            self.seen.findings.add(back);
        }
        self.finish_sizes();
        self.finish_beginning();
        self.finish_anchors();
        self.finish_trust();
        let begins = self.begins();
        let seen = self.seen;
        Report {
            origin: seen.origin,
            begins,
            entries: self.next,
            span: self.first.zip(self.newest),
            proved: seen.proved,
            checkpoints: seen.checkpoints,
            witnessed: seen.witnessed.into_iter().map(|(name, (size, at))| (name, size, at)).collect(),
            agrees: seen.agrees,
            unresolved: u64::try_from(self.intents.len()).unwrap_or(u64::MAX),
            evidence: seen.evidence,
            private: seen.private,
            findings: seen.findings,
        }
    }

    fn finish_sizes(&mut self) {
        match self.seen.claimed {
            None => {
                let text = "there is no checkpoint that could be read: nothing says what the log should be";
                self.find(Finding::new(Grade::Unverifiable, Rule::Unsigned, text));
            }
            Some(claimed) if claimed > self.next => {
                let text = format!(
                    "a checkpoint of size {claimed} was signed, and there are {} entries: {} and what follows is missing",
                    self.next, self.next
                );
                self.find(Finding::new(Grade::Incomplete, Rule::Missing, text));
            }
            Some(claimed) if claimed < self.next && !self.lost => {
                let last = self.next.saturating_sub(1);
                let text = format!("entries {claimed}–{last} stand behind the newest checkpoint, of size {claimed}");
                self.find(Finding::tampered(Rule::Uncovered, claimed, text));
            }
            Some(_) => {}
        }
    }

    fn finish_anchors(&mut self) {
        let claimed = self.seen.claimed.unwrap_or(0).max(self.next);
        for anchor in core::mem::take(&mut self.anchors) {
            if anchor.head.size <= claimed {
                // Entries are missing, and that was found.
                continue;
            }
            let text = format!(
                "{} is of size {}, and the log has {claimed} entries: it is older than it was",
                anchor.what, anchor.head.size
            );
            self.find(Finding::new(Grade::RolledBack, Rule::Rollback, text));
        }
    }

    fn finish_trust(&mut self) {
        if self.trust.keys.is_empty() {
            let text = "no key is known that could have signed the checkpoints: give the log's key with --key";
            self.find(Finding::new(Grade::Unverifiable, Rule::Unsigned, text));
        }
        for ranged in &self.trust.keys {
            let Some(learned) = ranged.learned.as_ref().filter(|_| self.seen.signed.contains_key(&ranged.key)) else {
                continue;
            };
            if self.seen.signed.get(&learned.from).is_none_or(|size| *size <= learned.sequence) {
                let text = format!(
                    "the key {} was learned from entry {}, and no checkpoint that {} has signed covers it: give the keys \
                     with --key",
                    ranged.key, learned.sequence, learned.from
                );
                self.seen.findings.add(Finding::new(Grade::Unverifiable, Rule::Unsigned, text));
            }
        }
        for witness in &self.trust.witnesses {
            if !self.seen.witnessed.contains_key(witness.name()) {
                let text = format!("no checkpoint of the log has a cosignature of the witness {}", witness.name());
                self.seen.findings.add(Finding::new(Grade::Unverifiable, Rule::Witness, text));
            }
        }
    }
}

/// The rows by which an entry must be found: its words and its id.
pub(super) fn expect(index: &mut Fold, record: &Record<'_>, sequence: u64) {
    for text in record.words() {
        let word = index.word(&text);
        index.expect(word, sequence);
    }
    index.expect(index.id(&record.id.0.to_bytes()), sequence);
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}
