//! A shard of frozen entries as files ([`crate::codec::shard`]): the manifest is written when everything that it names is on
//! the disk. Writing the same shard again makes the same files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::place::Place;
use crate::codec::checkpoint::Checkpoint;
use crate::codec::export::{Stopped, Why};
use crate::codec::note::Note;
use crate::codec::shard::{
    BEGINNING, CHECKPOINTS, Kept, LONGEST_MANIFEST, MANIFEST, Manifest, Sum, evidence_path, name,
};
use crate::codec::tiles::{CHECKPOINT, File, Tiler};
use crate::domain::key::Digest;
use crate::domain::tree::TreeHead;
use crate::ports::StoredEntry;

/// A shard that is being written.
#[derive(Debug)]
pub struct ShardFiles {
    place: Place,
    dir: PathBuf,
    tiler: Tiler,
    from: u64,
    files: BTreeMap<String, Sum>,
}

/// What the manifest says besides the files.
#[derive(Clone, Debug)]
pub struct Described {
    /// Number and root of the entries up to its end, as the store has them.
    pub head: TreeHead,
    /// Times of its first and its last entry.
    pub times: (String, String),
    /// SHA-256 of the manifest of the shard before it.
    pub before: Option<Digest>,
    /// What proves that its root is under its checkpoint.
    pub consistency: Vec<Digest>,
    /// The checkpoint that covers it.
    pub checkpoint: String,
    /// The checkpoints that were kept of sizes within it.
    pub kept: Vec<Kept>,
    /// What the entries before it leave behind; nothing for the first shard.
    pub beginning: Option<Vec<u8>>,
}

impl ShardFiles {
    /// Begins the shard of the entries after those of `tiler` up to `head`, in a directory of its own below `dir`; one that
    /// was left unfinished is written again.
    ///
    /// # Errors
    /// [`Why::Place`] if something else lies there, or another writes there; [`Why::Host`].
    pub fn begin(dir: &Path, tiler: Tiler, head: &TreeHead) -> Result<Self, Stopped> {
        let from = tiler.head().size;
        let dir = dir.join(name(from, head.size));
        let mut place = Place::whole(&dir)?;
        let known = ["tile", "evidence", BEGINNING, CHECKPOINT, CHECKPOINTS, MANIFEST];
        if let Some(foreign) = place.foreign(&known)? {
            let text =
                format!("{} holds {foreign:?}, which is no part of a shard; name a new directory", place.shown());
            return Err(Stopped::new(Why::Place, text));
        }
        // What was frozen once and is another history must not be written over.
        if let Some(there) = place.read(MANIFEST, LONGEST_MANIFEST)?
            && !Manifest::parse(&there).is_ok_and(|there| there.head == *head)
        {
            let text = format!("{} holds a shard with another root; name another directory", place.shown());
            return Err(Stopped::new(Why::Place, text));
        }
        place.claim()?;
        // A manifest of an earlier try must not stand for files that are written anew.
        place.remove(MANIFEST)?;
        place.settle()?;
        Ok(Self { place, dir, tiler, from, files: BTreeMap::new() })
    }

    /// Where it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The next entry.
    ///
    /// # Errors
    /// [`Why::Altered`], [`Why::Host`].
    pub fn entry(&mut self, entry: &StoredEntry) -> Result<(), Stopped> {
        let full = self.tiler.push(entry.leaf, &entry.bytes).map_err(|e| Stopped::new(Why::Altered, e.to_string()))?;
        full.into_iter().try_for_each(|File { path, bytes }| self.put(path, &bytes))
    }

    /// Evidence that an entry names: not in the manifest, because it may be deleted.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn evidence(&mut self, sha256: &Digest, bytes: &[u8]) -> Result<(), Stopped> {
        self.place.put(&evidence_path(sha256), bytes)
    }

    /// After the last entry: what is left, then the manifest. Gives its SHA-256.
    ///
    /// # Errors
    /// [`Why::Altered`] if the entries do not have the root that the store says; [`Why::Host`].
    pub fn finish(mut self, described: Described) -> Result<Digest, Stopped> {
        let Described { head, times, before, consistency, checkpoint, kept, beginning } = described;
        if self.tiler.head() != head {
            let text = format!("the entries {}–{} do not have the root that is stored", self.from, head.size);
            return Err(Stopped::new(Why::Altered, text));
        }
        for File { path, bytes } in self.tiler.partial() {
            self.put(path, &bytes)?;
        }
        self.put(CHECKPOINT.to_owned(), checkpoint.as_bytes())?;
        self.put(CHECKPOINTS.to_owned(), &Kept::to_lines(&kept))?;
        if let Some(beginning) = beginning {
            self.put(BEGINNING.to_owned(), &beginning)?;
        }
        self.place.settle()?;
        let said = checkpoint.parse::<Note>().and_then(|note| Checkpoint::of(&note));
        let origin = said.map_err(|e| Stopped::new(Why::Altered, format!("the checkpoint {e}")))?.origin;
        let files = core::mem::take(&mut self.files);
        let manifest = Manifest { origin, from: self.from, head, times, before, consistency, files }.to_bytes();
        self.place.put(MANIFEST, &manifest)?;
        self.place.settle()?;
        Ok(Digest::of(&manifest))
    }

    fn put(&mut self, path: String, bytes: &[u8]) -> Result<(), Stopped> {
        self.place.put(&path, bytes)?;
        self.files.insert(path, Sum::of(bytes));
        Ok(())
    }
}
