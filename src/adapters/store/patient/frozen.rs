//! What a damaged database keeps of its frozen entries, and what their shards give in its place.

use crate::codec::ledger::{Beginning, Frozen};
use crate::codec::replay::Replay;
use crate::domain::key::Digest;
use crate::domain::tree::{Frontier, Subtree};

use super::{Log, Patient, each_row};
use crate::adapters::store::connection::Trouble;
use crate::adapters::store::shard::{self, Row};

/// The frozen entries, read from all their shards and proved.
#[derive(Clone, Debug)]
pub struct Thawed {
    /// What they leave behind.
    pub beginning: Beginning,
    /// The state that they make.
    pub replay: Replay,
    /// The hashes of the stored levels over them.
    pub subtrees: Vec<(Subtree, Digest)>,
    /// What entries of freezes among them say.
    pub freezes: Vec<Frozen>,
}

/// Where the log of a patient begins.
#[derive(Default)]
pub(super) struct Before {
    pub(super) beginning: Beginning,
    /// `None` if the shards were not given: the state before is unknown then.
    pub(super) replay: Option<Replay>,
    rows: Vec<Row>,
    subtrees: Vec<(Subtree, Digest)>,
    freezes: Vec<Frozen>,
}

impl Patient {
    /// What is kept of the frozen entries, or what their shards give; a sentence if neither can be believed.
    pub(super) fn before(&mut self) -> Result<Before, String> {
        let own = shard::beginning(&self.source).and_then(|beginning| Ok((beginning, shard::rows(&self.source)?)));
        let thawed = self.thawed.take();
        match (own, thawed) {
            (Ok((beginning, _)), None) if beginning.size() == 0 => {
                Ok(Before { replay: Some(Replay::new()), ..Before::default() })
            }
            (Ok((beginning, rows)), None) => {
                let subtrees = self.subtrees(beginning.size());
                Ok(Before { beginning, replay: None, rows, subtrees, freezes: Vec::new() })
            }
            (Ok((beginning, _)), Some(thawed)) if beginning.size() != thawed.beginning.size() => {
                let (begins, end) = (beginning.size(), thawed.beginning.size());
                Err(format!("the log begins with entry {begins}, and the shards that were given end at {end}"))
            }
            (own, Some(thawed)) => {
                let Thawed { beginning, replay, subtrees, freezes } = thawed;
                let rows = own.as_ref().map(|(_, rows)| rows.clone()).unwrap_or_default();
                if own.is_err() || own.is_ok_and(|(own, _)| own != beginning) {
                    self.found("KW6313", "what is kept of the frozen entries is not what their shards leave behind");
                }
                Ok(Before { beginning, replay: Some(replay), rows, subtrees, freezes })
            }
            (Err(trouble), None) => {
                let why = crate::ports::StoreError::from(trouble);
                Err(format!(
                    "what is kept of the frozen entries cannot be read: {why}; give all their shards with --shard"
                ))
            }
        }
    }

    /// The stored hashes over the frozen entries, which nothing here could make anew.
    fn subtrees(&self, begins: u64) -> Vec<(Subtree, Digest)> {
        let mut found = Vec::new();
        each_row(&self.source, "SELECT level, place, hash FROM subtree ORDER BY level, place", |row| {
            let (level, place): (u8, i64) = (row.get(0)?, row.get(1)?);
            let subtree = Subtree { level, place: u64::try_from(place).unwrap_or(u64::MAX) };
            let end = subtree.place.saturating_add(1).checked_shl(u32::from(level)).unwrap_or(u64::MAX);
            if end <= begins {
                found.push((subtree, Digest(row.get(2)?)));
            }
            Ok(())
        });
        found
    }

    /// Gives the new database its beginning.
    pub(super) fn copy_before(&mut self, before: &Before) -> Result<(), Trouble> {
        match &mut self.target {
            Some(target) => target.before(&before.beginning, &before.subtrees),
            None => Ok(()),
        }
    }

    /// Whether what is said to be frozen is what the entries of the freezes say; copies it.
    pub(super) fn check_frozen(&mut self, before: &Before, log: &Log) -> Result<bool, Trouble> {
        let begins = before.beginning.size();
        let said = before.freezes.iter().chain(&log.freezes);
        let said: Vec<Row> =
            said.map(|f| Row { until: f.head.size, manifest: f.manifest, freeze: f.sequence }).collect();
        // What entries say that are not here, and whose shards were not given, is believed as it stands.
        let known = |row: &&Row| before.replay.is_some() || row.freeze >= begins;
        let own: Vec<Row> = before.rows.iter().filter(known).copied().collect();
        let newest = log.freezes.iter().chain(&before.freezes).find(|f| f.head.size == begins);
        let agrees = begins == 0
            || newest.is_some_and(|f| {
                f.head.root == before.beginning.tree.root() && f.beginning == before.beginning.digest()
            });
        if !agrees {
            self.found(
                "KW6312",
                format!("no entry says that the {begins} entries before this log were frozen as they are"),
            );
        }
        if own != said {
            self.found("KW6313", "the table of what is frozen is not what the entries of the freezes say");
        }
        let mut rows: Vec<Row> = before.rows.iter().filter(|row| !known(row)).copied().collect();
        rows.extend(said);
        if let Some(target) = &self.target {
            rows.iter().try_for_each(|row| target.shard(row))?;
        }
        Ok(agrees)
    }
}

impl Log {
    /// Where a walk begins.
    pub(super) fn after(before: &Before) -> Self {
        Self {
            tree: before.beginning.tree.clone(),
            replay: before.replay.clone().unwrap_or_default(),
            intents: before.beginning.intents.keys().copied().collect(),
            ..Self::default()
        }
    }
}

/// The first leaf of a walk comes after these.
pub(super) fn edge(before: &Before) -> Frontier {
    before.beginning.tree.clone()
}
