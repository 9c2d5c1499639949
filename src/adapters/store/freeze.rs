//! Freezing the oldest entries (decision 0012), on a state directory that no daemon holds.
//!
//! ```text
//! choose ─► (somebody writes the shard and reads it back) ─► record: entry, links, row; signed; the lock ─► prune
//!                                                            └ from here on they may be missing
//! ```
//! Each step can be done again after it was cut off: a row without its entry cannot be, and what was not pruned to the end
//! is pruned by the next who comes. Refuses to know where a shard lies.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use crate::codec::ledger::{Beginning, FREEZE, FROZE};
use crate::codec::note::VerifierKey;
use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::{Subtree, TreeHead};
use crate::ports::StoreError;

use super::connection::Trouble;
use super::directory::Lock;
use super::known::Known;
use super::lockfile::NotAdvanced;
use super::prune::{self, Pruned};
use super::sealer::Sealer;
use super::shard::{self, ALIGNED, Row};
use super::walk::number;
use super::{Archive, LogOptions, checkpoint, connection, directory, log, private, tree, trust};

/// What can be frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// These entries.
    Run(Run),
    /// None, and why.
    Nothing(String),
}

/// A run of entries to freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub from: u64,
    /// How many entries the log has up to its end, and their root by the stored hashes.
    pub head: TreeHead,
    /// The signed checkpoint that covers it and stays.
    pub note: String,
    /// The size of that.
    pub covered: u64,
}

/// What was frozen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// One past the last entry.
    pub until: u64,
    /// SHA-256 of the shard's manifest.
    pub manifest: Digest,
    /// The entry that says so.
    pub freeze: u64,
}

/// A shard that is written and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewShard {
    /// Its first entry.
    pub from: u64,
    /// Number and root of the entries up to its end.
    pub head: TreeHead,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// What it leaves behind.
    pub beginning: Beginning,
}

/// Whether a checkpoint is good enough to stand for what is pruned; says why not.
pub type Suits<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// A state directory that is held to freeze its oldest entries.
pub struct Freezer {
    /// As one who only reads it.
    archive: Archive,
    connection: Connection,
    sealer: Sealer,
    options: LogOptions,
    /// Held until the end, so that no daemon starts in between; dropped last.
    _held: Lock,
}

impl core::fmt::Debug for Freezer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Freezer({})", self.archive.path().display())
    }
}

impl Archive {
    /// The first entry that is here: those before it are frozen.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn begins(&self) -> Result<u64, StoreError> {
        self.ask(|connection| Ok(shard::begins(connection)?))
    }

    /// What was frozen last.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn last_frozen(&self) -> Result<Option<Last>, StoreError> {
        let last = |Row { until, manifest, freeze }| Last { until, manifest, freeze };
        self.ask(|connection| Ok(shard::rows(connection)?.pop().map(last)))
    }

    /// Frozen entries that are still here because a freeze was cut off.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn left_over(&self) -> Result<u64, StoreError> {
        self.ask(|connection| Ok(prune::left_over(connection)?))
    }

    /// What the frozen entries leave behind, as it is kept here.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn beginning(&self) -> Result<Beginning, StoreError> {
        self.ask(shard::beginning)
    }

    /// The hash of a complete subtree.
    ///
    /// # Errors
    /// [`StoreError`] if it is not there.
    pub fn subtree(&self, subtree: Subtree) -> Result<Digest, StoreError> {
        self.ask(|connection| tree::hash(connection, subtree))
    }

    /// That the tree over the first `old` entries is the beginning of that over the first `new`.
    ///
    /// # Errors
    /// [`StoreError`] if hashes are missing.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Digest>, StoreError> {
        self.ask(|connection| {
            crate::domain::tree::prove_consistency(old, new, |subtree| tree::hash(connection, subtree))
        })
    }

    /// The kept checkpoints of these sizes, with their times.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn kept(&self, from: u64, to: u64) -> Result<Vec<(u64, Timestamp, String)>, StoreError> {
        let row = |row: checkpoint::Row| (row.size, row.at, row.note);
        self.ask(|connection| Ok(checkpoint::kept(connection, from, to)?.into_iter().map(row).collect()))
    }

    /// Evidence by its hash.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, or other bytes lie there.
    pub fn evidence(&self, sha256: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|connection| log::evidence(connection, sha256))
    }

    /// The entries that can be frozen: all of them before a time, up to a multiple of 256, none of them an intent whose
    /// outcome is open or after one, and covered by a checkpoint that is kept and suits.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn choose(&self, before: Timestamp, suits: Suits<'_>) -> Result<Choice, StoreError> {
        self.ask(|connection| choose(connection, before, suits))
    }
}

fn choose(connection: &Connection, before: Timestamp, suits: Suits<'_>) -> Result<Choice, Trouble> {
    let from = shard::begins(connection)?;
    let place = |sql: &str, at: Option<i64>| -> Result<Option<u64>, Trouble> {
        let found: Option<i64> = match at {
            Some(at) => connection.query_row(sql, (number(from), at), |row| row.get(0)).optional()?,
            None => connection.query_row(sql, [], |row| row.get(0))?,
        };
        Ok(found.and_then(|place| u64::try_from(place).ok()))
    };
    let young = place(
        "SELECT sequence FROM entry WHERE sequence >= ?1 AND at >= ?2 ORDER BY sequence LIMIT 1",
        Some(before.unix()),
    )?;
    let open = place("SELECT min(sequence) FROM open_intent", None)?;
    let size = log::size(connection)?;
    let (mut covered, mut unsuited) = (None, None);
    for row in checkpoint::kept(connection, from.saturating_add(1), u64::MAX)?.into_iter().rev() {
        match suits(&row.note) {
            Ok(()) => {
                covered = Some(row.size);
                break;
            }
            Err(why) => unsuited = unsuited.or(Some(format!("of size {}: {why}", row.size))),
        }
    }
    let limits = [
        (Some(size), format!("the log has {size} entries")),
        (young, format!("entry {} is not older than {before}", young.unwrap_or(0))),
        (open, format!("entry {} is an intent without an outcome", open.unwrap_or(0))),
        (
            Some(covered.unwrap_or(from)),
            match (covered, unsuited) {
                (Some(size), _) => format!("the newest checkpoint that is kept and good enough is of size {size}"),
                (None, Some(why)) => format!("no checkpoint that is kept is good enough: the newest is {why}"),
                (None, None) => format!("no checkpoint beyond entry {from} is kept yet"),
            },
        ),
    ];
    let lowest = limits.into_iter().filter_map(|(at, why)| Some((at?, why))).min_by_key(|(at, _)| *at);
    let (until, why) = lowest.map_or((from, String::new()), |(at, why)| (at / ALIGNED * ALIGNED, why));
    if until <= from {
        let text = format!("nothing can be frozen: a shard has 256 entries from {from} on, and {why}");
        return Ok(Choice::Nothing(text));
    }
    // The smallest that suits: the same one again after a crash.
    for row in checkpoint::kept(connection, until, u64::MAX)? {
        if row.size >= until && suits(&row.note).is_ok() {
            let head = tree::frontier(connection, until)?.head();
            return Ok(Choice::Run(Run { from, head, note: row.note, covered: row.size }));
        }
    }
    Err(Trouble::Damaged("a checkpoint was there and is not there any more".to_owned()))
}

impl Freezer {
    /// Takes hold of a state directory, and looks at its log as every start does.
    ///
    /// # Errors
    /// As [`super::SqliteStore::open`].
    pub fn open(dir: &Path, options: &LogOptions) -> Result<Self, StoreError> {
        let dir = directory::prepare(dir)?;
        let held = Lock::take(&dir)?;
        let path = directory::database(&dir)?;
        let mut connection = connection::open_writing(&path)?;
        let sealer = trust::begin(&mut connection, &dir, options).map_err(|e| connection::about(&path, e))?;
        let archive = Archive::open(&path)?;
        Ok(Self { archive, connection, sealer, options: options.clone(), _held: held })
    }

    /// The log, to read.
    #[must_use]
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The keys that sign it.
    #[must_use]
    pub fn keys(&mut self) -> Vec<VerifierKey> {
        let keys = self.sealer.keys();
        let old = keys.old.as_ref().map(|(old, _)| old.verifier().clone());
        core::iter::once(keys.current.verifier().clone()).chain(old).collect()
    }

    /// Writes into the log that a shard was frozen, by whom, and what it leaves behind; durable, signed and acknowledged by
    /// the lock on return. Gives the place of the entry. From here on the entries may be missing.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Lost`] it is unknown whether it was written.
    pub fn record(&mut self, new: &NewShard, by: &Arc<str>) -> Result<u64, StoreError> {
        let mut tree = self.sealer.tree().clone();
        let freeze = tree.size();
        let mut draft = self.draft(new);
        draft.by(&private::person(&self.connection, by, &*self.options.entropy)?);
        let transaction = self.connection.transaction().map_err(Trouble::from)?;
        log::append(&transaction, &draft, &[], &mut tree, &mut Known::default()).map_err(Trouble::from)?;
        let row = Row { until: new.head.size, manifest: new.manifest, freeze };
        shard::write(&transaction, &row, &new.beginning).map_err(Trouble::from)?;
        let written = self.sealer.sign(&transaction, &tree, self.options.now).map_err(Trouble::from)?;
        transaction.commit().map_err(Trouble::from)?;
        self.sealer.committed(tree, &written);
        self.sealer.acknowledge(&written).map_err(|e| match e {
            NotAdvanced::Refused(text) => StoreError::Unavailable(text),
            NotAdvanced::Lost(text) => StoreError::Lost(text),
        })?;
        Ok(freeze)
    }

    fn draft(&self, new: &NewShard) -> Draft {
        let mut random = [0; 10];
        self.options.entropy.fill(&mut random);
        let id = EntryId(Ulid::new(self.options.now, random));
        let target = Target::new(TargetKind::Daemon, "keyward");
        let mut draft = Draft::new(id, self.options.now, FREEZE, FROZE, target);
        draft.facts = vec![
            ("beginning", Json::show(&new.beginning.digest())),
            ("from", Json::show(&new.from)),
            ("manifest", Json::show(&new.manifest)),
            ("root", Json::show(&new.head.root)),
            ("until", Json::show(&new.head.size)),
        ];
        draft
    }

    /// Deletes what is frozen, as far as it is still here; `told` hears of entries done and of all.
    ///
    /// # Errors
    /// [`StoreError`]; what was not done is done by the next.
    pub fn prune(&mut self, told: &mut dyn FnMut(u64, u64)) -> Result<Pruned, StoreError> {
        let pruned = prune::prune(&mut self.connection, told);
        pruned.map_err(|e| connection::about(self.archive.path(), e))
    }
}
