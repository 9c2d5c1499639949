//! Static files of C2SP tlog-tiles: `checkpoint` is written when everything that it speaks of is on the disk.
//!
//! A partial tile stays until the full one is there, so that whoever still holds an earlier checkpoint can read on. While
//! an export is under way, `export.json` says how far it is; it is gone at the end.

use std::path::Path;

use super::REACHED;
use super::place::Place;
use crate::codec::ParseError;
use crate::codec::checkpoint::Checkpoint;
use crate::codec::export::{Format, Reached, Stopped, Why};
use crate::codec::note::{LONGEST_NOTE, Note};
use crate::codec::tiles::{CHECKPOINT, File, Tiler, WIDTH, prefix_of};
use crate::domain::audit::LONGEST_ENTRY;
use crate::ports::StoredEntry;

/// Entries between two words about how far it is: some 14 MiB and 128 files, a second's work. Full tiles only, so that
/// nothing unfinished but hashes has to be remembered.
const TOLD_EVERY: u64 = 64 * WIDTH;
/// A bundle of the longest entries.
const LONGEST_FILE: usize = 256 * (LONGEST_ENTRY + 2);

/// A tree of static files.
#[derive(Debug)]
pub struct Tree {
    place: Place,
    tiler: Tiler,
    reached: Option<Reached>,
}

impl Tree {
    /// What is in a directory already, which is checked against its own checkpoint. Nothing is written.
    ///
    /// # Errors
    /// [`Why::Place`] if something else lies there, or the files are not those of their checkpoint; [`Why::Host`].
    pub fn open(dir: &Path) -> Result<Self, Stopped> {
        let place = Place::whole(dir)?;
        let published = published(&place)?;
        let underway = place.reached(REACHED)?;
        if let Some(other) = underway.as_ref().filter(|reached| reached.format != Format::TlogTiles) {
            let text =
                format!("{} holds an export as {}; name another directory", place.shown(), other.format.as_str());
            return Err(Stopped::new(Why::Place, text));
        }
        if published.is_none() && underway.is_none() && !place.is_empty()? {
            let text =
                format!("{} holds something else than static files of a log; name a new directory", place.shown());
            return Err(Stopped::new(Why::Place, text));
        }
        let farther =
            |reached: &Reached| published.as_ref().is_none_or(|(tiler, _)| reached.next() > tiler.head().size);
        let (tiler, reached) = match underway.filter(farther) {
            Some(reached) => (resume(&place, &reached)?, Some(reached)),
            None => match published {
                Some((tiler, note)) => {
                    let reached = Reached::beginning(Format::TlogTiles, tiler.frontier().clone(), note);
                    (tiler, Some(Reached { from: 0, ..reached }))
                }
                None => (Tiler::default(), None),
            },
        };
        Ok(Self { place, tiler, reached })
    }

    /// How far it is.
    #[must_use]
    pub fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// Before the first entry.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn begin(&mut self, checkpoint: &str) -> Result<(), Stopped> {
        self.place.claim()?;
        // Until full tiles allow a better word, an earlier export is under way from its own checkpoint.
        if self.reached.as_ref().is_none_or(|reached| reached.next() == 0) {
            self.tell(checkpoint)?;
        }
        Ok(())
    }

    /// The next entry.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn entry(&mut self, entry: &StoredEntry, checkpoint: &str) -> Result<(), Stopped> {
        let full = self.tiler.push(entry.leaf, &entry.bytes).map_err(|e| Stopped::new(Why::Altered, e.to_string()))?;
        for File { path, bytes } in full {
            self.place.put(&path, &bytes)?;
            self.place.clear(&format!("{path}.p"))?;
        }
        if self.tiler.head().size.is_multiple_of(TOLD_EVERY) {
            self.tell(checkpoint)?;
        }
        Ok(())
    }

    /// After the last entry: partial tiles, then the checkpoint.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn finish(mut self, checkpoint: &str) -> Result<(), Stopped> {
        for File { path, bytes } in self.tiler.partial() {
            self.place.put(&path, &bytes)?;
        }
        self.place.settle()?;
        self.place.put(CHECKPOINT, checkpoint.as_bytes())?;
        self.place.settle()?;
        self.place.remove(REACHED)?;
        self.place.settle()
    }

    fn tell(&mut self, checkpoint: &str) -> Result<(), Stopped> {
        self.place.settle()?;
        let tree = self.tiler.frontier().clone();
        let mut reached = Reached::beginning(Format::TlogTiles, tree, checkpoint.to_owned());
        reached.from = 0;
        reached.tiles = self.tiler.partial().into_iter().map(|file| (file.path, file.bytes)).collect();
        self.place.put(REACHED, &reached.to_bytes())?;
        self.place.settle()
    }
}

/// The unfinished tiles of an export that was under way.
fn resume(place: &Place, reached: &Reached) -> Result<Tiler, Stopped> {
    let gone = |path: &str| ParseError::new(format!("it lacks {path}"));
    let read = |path: &str| reached.tiles.get(path).cloned().ok_or_else(|| gone(path));
    Tiler::resume(&reached.tree.head(), read).map_err(|e| {
        Stopped::new(Why::Place, format!("{REACHED} in {} does not say how far it is: {e}", place.shown()))
    })
}

/// What a checkpoint in the directory speaks of, with its note.
fn published(place: &Place) -> Result<Option<(Tiler, String)>, Stopped> {
    let Some(bytes) = place.read(CHECKPOINT, LONGEST_NOTE)? else { return Ok(None) };
    let damaged = |error: &ParseError| {
        let text = format!("the files in {} are not those of their checkpoint: {error}; export anew", place.shown());
        Stopped::new(Why::Place, text)
    };
    let text = String::from_utf8(bytes).map_err(|_| damaged(&ParseError::new("it is no text")))?;
    let said = text.parse::<Note>().and_then(|note| Checkpoint::of(&note)).map_err(|e| damaged(&e))?;
    let mut host = None;
    let tiler = Tiler::resume(&said.head, |path| match part(place, path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(ParseError::new(format!("{path} is missing"))),
        Err(stopped) => {
            let error = ParseError::new(stopped.to_string());
            host = Some(stopped);
            Err(error)
        }
    });
    match (tiler, host) {
        (_, Some(stopped)) => Err(stopped),
        (Ok(tiler), None) => Ok(Some((tiler, text))),
        (Err(error), None) => Err(damaged(&error)),
    }
}

/// A partial file, or the beginning of the full one that stands for it.
fn part(place: &Place, path: &str) -> Result<Option<Vec<u8>>, Stopped> {
    if let Some(bytes) = place.read(path, LONGEST_FILE)? {
        return Ok(Some(bytes));
    }
    let Some((full, width)) = path.split_once(".p/") else { return Ok(None) };
    let Some(bytes) = place.read(full, LONGEST_FILE)? else { return Ok(None) };
    Ok(width.parse().ok().and_then(|width| prefix_of(path, &bytes, width)))
}
