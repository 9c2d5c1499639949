//! Exporting the audit log: the entries are compared with the signed checkpoint first, then they are written.
//!
//! ```text
//! checkpoint, how far it is ─► every entry that is new, hashed: is the root the signed one? ─► written in order
//! ```
//! Refuses to know where they go; see [`crate::adapters::export`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::checkpoint::Checkpoint;
use crate::codec::export::{Format, Reached, Stopped, Why};
use crate::codec::ledger::{Finding, Grade, Trust};
use crate::codec::note::Note;
use crate::codec::ocsf;
use crate::domain::audit::leaf_hash;
use crate::domain::tree::{Frontier, TreeHead};
use crate::ports::{StoreError, StoredEntry};
use crate::shell::audit::{self, csv};
use crate::shell::wire::Archive;
use crate::shell::wire::export::{Hook, Lines, Tree};

/// Where it goes.
pub(super) enum Target {
    Tree(Box<Tree>),
    Lines(Box<Lines>),
    Hook(Box<Hook>),
}

impl Target {
    pub(super) fn reached(&self) -> Option<&Reached> {
        match self {
            Self::Tree(tree) => tree.reached(),
            Self::Lines(lines) => lines.reached(),
            Self::Hook(hook) => hook.reached(),
        }
    }
}

/// What there is to do.
pub(super) struct Plan {
    /// Which log.
    pub(super) origin: String,
    /// The signed checkpoint that the run goes by.
    pub(super) checkpoint: String,
    pub(super) head: TreeHead,
    /// The tree over everything before the first entry that is new.
    pub(super) start: Frontier,
    /// What was exported before went by this one.
    before: Option<TreeHead>,
}

impl Plan {
    /// Looks what is new in a log, and whether what was exported before is its beginning so far as sizes say.
    pub(super) fn make(
        archive: &Archive,
        trust: &Trust,
        reached: Option<&Reached>,
        from: Option<u64>,
    ) -> Result<Self, Stopped> {
        let checkpoint = archive.newest().map_err(|e| unread(&e))?.ok_or_else(|| {
            Stopped::new(Why::Unsigned, "the log has no signed checkpoint: nothing says what it should be")
        })?;
        if trust.keys.is_empty() {
            let text = "no key of the log lies beside it: nothing says whose it is; give the log's key with --key";
            return Err(Stopped::new(Why::Unsigned, text));
        }
        let judged = trust.judge("the newest checkpoint", &checkpoint).map_err(|e| unsigned(&e))?;
        let head = judged.head;
        let mut before = None;
        if let Some(reached) = reached {
            // Whether its key is still known says nothing: the root is compared with the one that is signed now.
            let earlier = reached.checkpoint.parse::<Note>().and_then(|note| Checkpoint::of(&note)).map_err(|e| {
                Stopped::new(Why::Place, format!("the checkpoint of the export before is none: it {e}"))
            })?;
            if earlier.origin != judged.origin {
                let text =
                    format!("what was exported before is of {}, and this log is {}", earlier.origin, judged.origin);
                return Err(Stopped::new(Why::Forked, text));
            }
            if earlier.head.size > head.size {
                let (was, is) = (earlier.head.size, head.size);
                let text = format!("the export before went by a checkpoint of {was} entries, and this log has {is}");
                return Err(Stopped::new(Why::RolledBack, text));
            }
            if reached.next() > earlier.head.size || reached.sending.is_some_and(|end| end > earlier.head.size) {
                let text = "the export before says that it has more entries than its checkpoint; export anew";
                return Err(Stopped::new(Why::Place, text));
            }
            if let Some(asked) = from.filter(|from| *from != reached.from) {
                let text = format!(
                    "the export there begins with entry {}, not with {asked}; go on without --from",
                    reached.from
                );
                return Err(Stopped::new(Why::Setting, text));
            }
            // Also where nothing is left to be hashed between them.
            if archive.tree(reached.next()).map_err(|e| unread(&e))?.root() != reached.tree.root() {
                return Err(forked(reached.next()));
            }
            before = Some(earlier.head);
        }
        let start = match (reached, from) {
            (Some(reached), _) => reached.tree.clone(),
            (None, Some(from)) if from > head.size => {
                let text = format!("the log has {} entries; --from {from} is beyond", head.size);
                return Err(Stopped::new(Why::Setting, text));
            }
            (None, Some(from)) => archive.tree(from).map_err(|e| unread(&e))?,
            (None, None) => Frontier::default(),
        };
        Ok(Self { origin: judged.origin, checkpoint, head, start, before })
    }

    /// How many entries are new.
    pub(super) fn entries(&self) -> u64 {
        self.head.size.saturating_sub(self.start.size())
    }

    /// Hashes every entry that is new, up to the signed root; after it all of them are known to be what was signed, and
    /// to go on from what was exported before.
    pub(super) fn compare(&self, archive: &Archive, told: &mut dyn FnMut(u64)) -> Result<(), Stopped> {
        let mut walk = Walk::new(self);
        walk.compare()?;
        while let Some(page) = walk.page(archive)? {
            for entry in &page {
                walk.take(entry)?;
            }
            told(walk.tree.size());
        }
        walk.end(archive)
    }

    /// Writes every entry that is new.
    pub(super) async fn write(
        &self,
        archive: &Archive,
        target: Target,
        format: Format,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), Stopped> {
        let mut target = target;
        match &mut target {
            Target::Tree(tree) => tree.begin(&self.checkpoint)?,
            Target::Lines(lines) => lines.begin(&self.start, &self.checkpoint)?,
            Target::Hook(hook) => hook.begin(&self.start, &self.checkpoint)?,
        }
        let mut walk = Walk::new(self);
        while let Some(page) = walk.page(archive)? {
            for entry in &page {
                walk.take(entry)?;
                match &mut target {
                    Target::Tree(tree) => tree.entry(entry, &self.checkpoint)?,
                    Target::Lines(lines) => lines.entry(entry, &shown(format, entry)?)?,
                    Target::Hook(hook) => hook.entry(entry, &shown(format, entry)?).await?,
                }
            }
            told(walk.tree.size());
        }
        walk.end(archive)?;
        match target {
            Target::Tree(tree) => tree.finish(&self.checkpoint),
            Target::Lines(lines) => lines.finish(),
            Target::Hook(hook) => hook.finish().await,
        }
    }
}

/// One pass over the entries.
struct Walk<'p> {
    plan: &'p Plan,
    tree: Frontier,
}

impl<'p> Walk<'p> {
    fn new(plan: &'p Plan) -> Self {
        Self { plan, tree: plan.start.clone() }
    }

    /// The next entries; `None` after the last.
    fn page(&self, archive: &Archive) -> Result<Option<Vec<StoredEntry>>, Stopped> {
        let (next, size) = (self.tree.size(), self.plan.head.size);
        if next >= size {
            return Ok(None);
        }
        let page = archive.page(next, size).map_err(|e| unread(&e))?;
        if page.is_empty() { Err(missing(next)) } else { Ok(Some(page)) }
    }

    fn take(&mut self, entry: &StoredEntry) -> Result<(), Stopped> {
        let next = self.tree.size();
        if entry.sequence != next {
            return Err(missing(next));
        }
        if leaf_hash(&entry.bytes) != entry.leaf {
            let text =
                format!("the bytes of entry {next} are not those that were hashed; keyward audit verify says more");
            return Err(Stopped::new(Why::Altered, text));
        }
        self.tree.push(entry.leaf, |_, _| {});
        self.compare()
    }

    fn compare(&self) -> Result<(), Stopped> {
        let size = self.tree.size();
        if let Some(before) = self.plan.before.filter(|before| before.size == size && before.root != self.tree.root()) {
            return Err(forked(before.size));
        }
        if self.plan.head.size == size && self.plan.head.root != self.tree.root() {
            // Without an earlier export nothing but this log can be wrong.
            let text = format!("the root over the first {size} entries is not the one that the newest checkpoint says");
            return Err(Stopped::new(Why::Altered, text));
        }
        Ok(())
    }

    fn end(&self, archive: &Archive) -> Result<(), Stopped> {
        if archive.is_untouched() {
            return Ok(());
        }
        let text = format!("{} was changed while it was read; export it again", archive.path().display());
        Err(Stopped::new(Why::Host, text))
    }
}

/// An entry in a format, without the end of its line.
fn shown(format: Format, entry: &StoredEntry) -> Result<Arc<[u8]>, Stopped> {
    match format {
        Format::Cloudevents | Format::TlogTiles => Ok(entry.bytes.as_slice().into()),
        Format::Csv => Ok(csv::line(&audit::row(entry, &BTreeMap::new())).into_bytes().into()),
        Format::Ocsf => {
            let event = ocsf::event(&entry.bytes).map_err(|e| {
                Stopped::new(Why::Altered, format!("entry {} cannot be told as an event: {e}", entry.sequence))
            })?;
            Ok(event.to_string().into_bytes().into())
        }
    }
}

fn forked(size: u64) -> Stopped {
    let text = format!(
        "what was exported before is not the beginning of this log: the root over the first {size} entries is another"
    );
    Stopped::new(Why::Forked, text)
}

pub(super) fn missing(sequence: u64) -> Stopped {
    let text = format!(
        "entry {sequence} is not in this log; if it was frozen and taken away, export from the first that is there (--from) \
         to a new place"
    );
    Stopped::new(Why::Missing, text)
}

fn unsigned(finding: &Finding) -> Stopped {
    let why = match finding.grade {
        Grade::Tampered => Why::Altered,
        Grade::RolledBack | Grade::Incomplete | Grade::Unverifiable | Grade::Warning => Why::Unsigned,
    };
    Stopped::new(why, finding.text.clone())
}

pub(super) fn unread(error: &StoreError) -> Stopped {
    let why = match error {
        StoreError::Unavailable(_) | StoreError::InUse(_) | StoreError::Lost(_) => Why::Host,
        StoreError::Damaged(_) => Why::Altered,
        StoreError::Distrusted { .. } => Why::Missing,
    };
    Stopped::new(why, error.to_string())
}
