//! Freezing the oldest entries of the audit log (decision 0012): they are written as a shard and read back, the log says so,
//! and only then are they deleted.
//!
//! ```text
//! what an earlier run left ─► choose ─► write the shard ─► read it back ─► entry, signed, lock ─► delete
//! ```
//! Cut off anywhere, the same command goes on: before the entry the shard is written again, after it the rest is deleted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::entry::Entry;
use crate::codec::export::{Stopped, Why};
use crate::codec::ledger::{Beginning, RangedKey, Trust, Verifier};
use crate::codec::shard::Kept;
use crate::codec::tiles::Tiler;
use crate::domain::audit::leaf_hash;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::shell::export::{missing, unread};
use crate::shell::wire::Archive;
use crate::shell::wire::freeze::{Choice, Described, Freezer, NewShard, Pruned, Run, Shard, ShardFiles, Suits};

/// What is wanted.
pub(super) struct Order<'a> {
    /// The directory of the shards.
    pub(super) to: &'a Path,
    /// Entries before this time only.
    pub(super) before: Timestamp,
    /// Who wants it, named by the door they came through.
    pub(super) by: Arc<str>,
    /// Whether a checkpoint is good enough to stand for what is deleted.
    pub(super) suits: Suits<'a>,
}

/// What was done.
pub(super) struct Done {
    /// What an earlier run had left.
    pub(super) before: Pruned,
    pub(super) now: Option<Frozen>,
    /// Why nothing was frozen.
    pub(super) why_not: Option<String>,
}

/// A shard that was frozen.
pub(super) struct Frozen {
    pub(super) run: Run,
    pub(super) dir: PathBuf,
    pub(super) manifest: Digest,
    /// The entry.
    pub(super) freeze: u64,
    pub(super) pruned: Pruned,
}

/// Hears of a step, and of entries done and of all.
pub(super) type Told<'t> = &'t mut dyn FnMut(&'static str, u64, u64);

/// Does all of it.
pub(super) fn freeze(freezer: &mut Freezer, order: &Order<'_>, told: Told<'_>) -> Result<Done, Stopped> {
    // What is frozen and still here first: nobody looks at it any more.
    let before = freezer.prune(&mut |at, all| told("delete", at, all)).map_err(|e| unread(&e))?;
    let done = Done { before, now: None, why_not: None };
    let run = match freezer.archive().choose(order.before, order.suits).map_err(|e| unread(&e))? {
        Choice::Nothing(why) => return Ok(Done { why_not: Some(why), ..done }),
        Choice::Run(run) => run,
    };
    let written = write(freezer.archive(), order.to, &run, told)?;
    let beginning = read_back(freezer, &run, &written, told)?;
    let new = NewShard { from: run.from, head: run.head, manifest: written.manifest, beginning };
    let freeze = freezer.record(&new, &order.by).map_err(|e| unread(&e))?;
    let pruned = freezer.prune(&mut |at, all| told("delete", at, all)).map_err(|e| unread(&e))?;
    let frozen = Frozen { run, dir: written.dir, manifest: written.manifest, freeze, pruned };
    Ok(Done { now: Some(frozen), ..done })
}

/// A shard on the disk.
struct Written {
    dir: PathBuf,
    manifest: Digest,
    /// Pieces of evidence that entries name and that were deleted before.
    without: u64,
}

fn write(archive: &Archive, to: &Path, run: &Run, told: Told<'_>) -> Result<Written, Stopped> {
    let (from, until) = (run.from, run.head.size);
    let tiler = Tiler::at::<Failed>(from, |subtree| Ok(archive.subtree(subtree).map_err(|e| unread(&e))?))?;
    let mut files = ShardFiles::begin(to, tiler, &run.head)?;
    let (mut next, mut without) = (from, 0_u64);
    let mut times: Option<(String, String)> = None;
    while next < until {
        let page = archive.page(next, until).map_err(|e| unread(&e))?;
        if page.is_empty() {
            return Err(missing(next));
        }
        for stored in &page {
            if stored.sequence != next {
                return Err(missing(next));
            }
            let altered =
                |why: &str| Stopped::new(Why::Altered, format!("entry {next} {why}; keyward audit verify says more"));
            if leaf_hash(&stored.bytes) != stored.leaf {
                return Err(altered("is not what was hashed"));
            }
            let entry = Entry::parse(&stored.bytes).map_err(|e| altered(&format!("cannot be read: {e}")))?;
            let at = entry.at.to_string();
            times = Some((times.map_or_else(|| at.clone(), |(first, _)| first), at));
            for piece in &entry.evidence {
                match archive.evidence(&piece.sha256).map_err(|e| unread(&e))? {
                    Some(bytes) => files.evidence(&piece.sha256, &bytes)?,
                    None => without = without.saturating_add(1),
                }
            }
            files.entry(stored)?;
            next = next.saturating_add(1);
        }
        told("write", next.saturating_sub(from), until.saturating_sub(from));
    }
    let kept = archive.kept(from.saturating_add(1), until).map_err(|e| unread(&e))?;
    let beginning = (from > 0).then(|| archive.beginning()).transpose().map_err(|e| unread(&e))?;
    let described = Described {
        head: run.head,
        times: times.unwrap_or_default(),
        before: archive.last_frozen().map_err(|e| unread(&e))?.map(|last| last.manifest),
        consistency: archive.consistency(until, run.covered).map_err(|e| unread(&e))?,
        checkpoint: run.note.clone(),
        kept: kept.into_iter().map(|(size, at, note)| Kept { size, at: at.unix(), note }).collect(),
        beginning: beginning.as_ref().map(Beginning::to_bytes),
    };
    let dir = files.dir().to_owned();
    Ok(Written { dir, manifest: files.finish(described)?, without })
}

/// Reads the shard as `keyward audit verify` does; gives what it leaves behind.
fn read_back(freezer: &mut Freezer, run: &Run, written: &Written, told: Told<'_>) -> Result<Beginning, Stopped> {
    let mut trust = Trust::default();
    trust.keys.extend(freezer.keys().into_iter().filter_map(|key| RangedKey::always(key).ok()));
    let archive = freezer.archive();
    trust.learn(&archive.handovers().map_err(|e| unread(&e))?);
    let refused = |why: String| {
        Stopped::new(
            Why::Altered,
            format!("{} is not what was to be frozen: {why}; nothing was deleted", written.dir.display()),
        )
    };
    let shard = Shard::open(&written.dir).map_err(|finding| refused(finding.to_string()))?;
    let mut verifier = Verifier::new(trust, Vec::new());
    verifier.begin(&archive.beginning().map_err(|e| unread(&e))?);
    let total = run.head.size.saturating_sub(run.from);
    shard.verify(&mut verifier, &mut |at| told("read back", at.saturating_sub(run.from), total));
    let beginning = verifier.carry();
    verifier.ends_early();
    let report = verifier.finish();
    let proved = report.proved.is_some_and(|head| head == run.head);
    if report.exit() != 0 || !proved || beginning.tree.head() != run.head || shard.digest() != written.manifest {
        let why = report.findings.kept().iter().find(|f| f.grade.exit() != 0).map(ToString::to_string);
        return Err(refused(why.unwrap_or_else(|| "it has another root".to_owned())));
    }
    if report.evidence.missing != written.without {
        return Err(refused(format!("{} pieces of evidence are missing", report.evidence.missing)));
    }
    Ok(beginning)
}

/// An error on the way to the tiles.
struct Failed(Stopped);

impl From<Stopped> for Failed {
    fn from(stopped: Stopped) -> Self {
        Self(stopped)
    }
}

impl From<crate::codec::ParseError> for Failed {
    fn from(error: crate::codec::ParseError) -> Self {
        Self(Stopped::new(Why::Altered, error.to_string()))
    }
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}
