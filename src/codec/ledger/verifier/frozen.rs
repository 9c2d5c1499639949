//! A pass that begins behind frozen entries, and one that ends at the end of a shard.

use super::{Intent, Link, Verifier};
use crate::codec::checkpoint::Checkpoint;
use crate::codec::ledger::beginning::{Beginning, Claimed, Frozen, Pending};
use crate::codec::ledger::finding::{Finding, Grade, Rule};
use crate::codec::note::Note;
use crate::domain::key::Digest;
use crate::domain::tree::{TreeHead, check_consistency};

/// Where a pass began.
#[derive(Clone, Debug)]
pub(super) struct Began {
    head: TreeHead,
    digest: Digest,
}

impl Began {
    pub(super) fn size(&self) -> u64 {
        self.head.size
    }
}

impl Verifier {
    /// Begins behind frozen entries, or with the first entry; whatever was handed in before was found wanting. What is known
    /// from outside about less than the frozen entries cannot be compared then, and that is a finding.
    pub fn begin(&mut self, beginning: &Beginning) {
        let size = beginning.size();
        self.tree = beginning.tree.clone();
        (self.bytes, self.lost) = (None, false);
        self.claimed.clear();
        self.freezes.clear();
        self.next = size;
        let link = |leaf: &Digest| Link { leaf: *leaf, bytes: *leaf };
        self.targets = beginning.links.iter().map(|(target, leaf)| (target.clone(), link(leaf))).collect();
        let intent = |pending: &Pending| Intent { sequence: pending.sequence, target: pending.target.clone() };
        self.intents = beginning.intents.iter().map(|(id, pending)| (*id, intent(pending))).collect();
        self.began = (size > 0).then(|| Began { head: self.tree.head(), digest: beginning.digest() });
        while let Some(anchor) = self.anchors.pop_if(|anchor| anchor.head.size < size) {
            let text = format!(
                "{} is of size {}, and the entries before {size} are frozen: give their shards with --shard to compare",
                anchor.what, anchor.head.size
            );
            self.find(Finding::new(Grade::Unverifiable, Rule::Frozen, text));
        }
        self.compare_anchors();
    }

    /// Whether nothing was found so far that is more than a warning.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.seen.findings.worst().is_none_or(|worst| worst == Grade::Warning)
    }

    /// A checkpoint that may be of a key that followed among the frozen entries: nothing is proved by it, and what it covers
    /// does not stand behind the newest.
    pub(super) fn unjudged(&mut self, finding: Finding, note: &str) {
        if self.trust.gaps && finding.grade == Grade::Unverifiable {
            let said = note.parse::<Note>().ok().and_then(|note| Checkpoint::of(&note).ok());
            self.seen.claimed = self.seen.claimed.max(said.map(|said| said.head.size));
        }
        self.find(finding);
    }

    /// What a pass that ends here leaves behind for one that goes on.
    #[must_use]
    pub fn carry(&self) -> Beginning {
        let pending = |intent: &Intent| Pending { sequence: intent.sequence, target: intent.target.clone() };
        Beginning {
            tree: self.tree.clone(),
            links: self.targets.iter().map(|(target, link)| (target.clone(), link.leaf)).collect(),
            intents: self.intents.iter().map(|(id, intent)| (*id, pending(intent))).collect(),
        }
    }

    /// What the entries of freezes say that were handed in so far.
    #[must_use]
    pub fn freezes(&self) -> &[Frozen] {
        &self.freezes
    }

    /// A shard is going to be read: the entry of a freeze must name it.
    pub fn claim(&mut self, shard: Claimed) {
        self.claimed.push(shard);
    }

    /// A checkpoint of the log of this size or more, which a proof of consistency (RFC 9162 section 2.1.4.1) leads to from
    /// here: so the entries so far are under what it signs.
    pub fn covered(&mut self, what: &str, note: &str, proof: &[Digest]) {
        let judged = match self.trust.judge(what, note) {
            Ok(judged) => judged,
            Err(finding) => return self.find(*finding),
        };
        if let Some(origin) = self.seen.origin.as_ref().filter(|origin| **origin != judged.origin) {
            let text = format!("{what} is of {}, and one before it of {origin}", judged.origin);
            return self.find(Finding::tampered(Rule::Signature, None, text));
        }
        self.seen.origin = Some(judged.origin);
        if self.lost {
            return;
        }
        let head = self.tree.head();
        if let Err(error) = check_consistency(&head, &judged.head, proof) {
            let text = format!("the root over the first {} entries is not under {what}: {error}", head.size);
            return self.find(Finding::tampered(Rule::Root, None, text));
        }
        self.prove(&head);
        for key in judged.signers {
            let signed = self.seen.signed.entry(key).or_insert(head.size);
            *signed = (*signed).max(head.size);
        }
    }

    /// The pass ends with a shard, and the entries of freezes that it stands on may lie behind it: they are not asked for.
    pub fn ends_early(&mut self) {
        self.early = true;
        let claimed = self.seen.claimed.unwrap_or(0);
        self.seen.claimed = Some(claimed.max(self.next));
    }

    /// Whether the log itself says that it begins where it does, and that its shards are those that were read.
    pub(super) fn finish_beginning(&mut self) {
        for shard in core::mem::take(&mut self.claimed) {
            let wrong = match self.freezes.iter().find(|frozen| frozen.head.size == shard.head.size) {
                // Where entries are missing the one that says so may be among them.
                None if self.early || self.lost => continue,
                None => "no entry says that it was frozen".to_owned(),
                Some(said) if said.manifest == shard.manifest && said.head == shard.head && said.from == shard.from => {
                    continue;
                }
                Some(said) => format!("entry {} names another manifest, or another run or root", said.sequence),
            };
            self.find(Finding::tampered(Rule::Shard, None, format!("{} is not of this log: {wrong}", shard.what)));
        }
        let Some(began) = self.began.clone() else { return };
        let size = began.size();
        let last = size.saturating_sub(1);
        if !self.early && !self.lost {
            let wrong = match self.freezes.iter().find(|frozen| frozen.head.size == size) {
                None => Some("no entry says that they were frozen".to_owned()),
                Some(frozen) if frozen.head.root != began.head.root => {
                    Some(format!("entry {} says another root over them than their hashes have", frozen.sequence))
                }
                Some(frozen) if frozen.beginning != began.digest => Some(format!(
                    "what is kept of them (the newest entry about each target, intents) is not what entry {} says",
                    frozen.sequence
                )),
                Some(_) => None,
            };
            if let Some(wrong) = wrong {
                let text = format!("entries 0–{last} are not there: {wrong}");
                return self.find(Finding::tampered(Rule::Shard, None, text));
            }
        }
        let text = format!(
            "entries 0–{last} are frozen and were not read: what is said of them rests on the root that was signed; give \
             their shards with --shard to read them too"
        );
        self.find(Finding::new(Grade::Warning, Rule::Frozen, text));
    }
}
