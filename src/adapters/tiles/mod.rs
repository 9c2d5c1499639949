//! A log as static files (C2SP tlog-tiles), read from a directory or from a web server and verified.
//!
//! What must be there for a checkpoint of size S, below one prefix:
//!
//! ```text
//! checkpoint                    the signed note
//! tile/entries/NNN[.p/W]        256 entries each, every one with its length as two bytes (big endian) before it
//! tile/L/NNN[.p/W]              256 hashes each: of leaves (L = 0), of subtrees of 256^L leaves above
//! ```
//!
//! NNN is the number in groups of three digits, all but the last with an `x` (`x001/x234/067`); the last, partial file of
//! each kind has `.p/` and how much is in it. Files beyond the checkpoint are passed over. Refuses to know what an entry
//! means; see [`crate::codec::ledger`].

mod shard;
mod web;

use std::path::PathBuf;

use futures_util::stream::{StreamExt as _, iter};

use crate::codec::checkpoint::Checkpoint;
use crate::codec::ledger::{Finding, Grade, Report, Rule, Signed, Stored, Verifier};
use crate::codec::note::{LONGEST_NOTE, Note};
use crate::codec::tiles::{CHECKPOINT, WIDTH, bundle_path, partial_width, read_bundle, read_tile, tile_path};
use crate::domain::audit::LONGEST_ENTRY;
use crate::domain::key::Digest;

pub use shard::Shard;
pub use web::Web;

/// A tile has at most so many bytes.
const LONGEST_TILE: usize = 256 * 32;
/// A bundle has at most so many bytes: 256 of the longest entries, 15 MiB; usual ones have 200 KiB.
const LONGEST_BUNDLE: usize = 256 * (LONGEST_ENTRY + 2);
/// Files that are fetched ahead: enough to hide the way to a server, and at worst 120 MiB.
const AHEAD: usize = 8;
/// Levels of tiles.
const LEVELS: u8 = 8;

/// Where the files are.
#[derive(Debug)]
pub enum Tree {
    /// A directory.
    Directory(PathBuf),
    /// A web server.
    Web(Web),
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NotRead {
    /// There is none.
    Absent,
    /// It is longer than it may be.
    TooLong(usize),
    /// It may be there, and cannot be had.
    Failed(String),
}

impl Tree {
    /// Hands everything to the verifier and gives what it found; `progress` hears of entries done and of all.
    pub async fn verify(&self, verifier: Verifier, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Report {
        let mut pass = Pass { tree: self, verifier, hashes: Vec::new() };
        pass.run(progress).await;
        pass.verifier.finish()
    }

    async fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, NotRead> {
        match self {
            Self::Directory(dir) => shard::read(&dir.join(path), cap),
            Self::Web(web) => web.read(path, cap).await,
        }
    }

    /// The part of a kind of files with this number, of `width`; a full one stands for a partial one that is gone, as
    /// C2SP tlog-tiles allows.
    async fn part(&self, path: impl Fn(u64) -> String, width: u64, cap: usize) -> Result<Vec<u8>, NotRead> {
        match self.read(&path(width), cap).await {
            Err(NotRead::Absent) if width < WIDTH => self.read(&path(WIDTH), cap).await,
            read => read,
        }
    }
}

struct Pass<'t> {
    tree: &'t Tree,
    verifier: Verifier,
    /// Hashes of each level from 1 on that no tile was compared with yet.
    hashes: Vec<(u64, Vec<Digest>)>,
}

/// Bundle and tile of the same entries.
struct Part {
    index: u64,
    width: u64,
    bundle: Result<Vec<u8>, NotRead>,
    tile: Result<Vec<u8>, NotRead>,
}

impl Pass<'_> {
    async fn run(&mut self, progress: &mut (dyn FnMut(u64, u64) + Send)) {
        let note = match self.tree.read(CHECKPOINT, LONGEST_NOTE).await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(why) => return self.unread(CHECKPOINT, &why, None),
        };
        let said = note.parse::<Note>().ok().and_then(|note| Checkpoint::of(&note).ok());
        let size = said.map_or(0, |said| said.head.size);
        let tree = self.tree;
        let parts = (0..size.div_ceil(WIDTH)).map(|index| async move {
            let width = size.saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH);
            let bundle = tree.part(|width| bundle_path(index, width), width, LONGEST_BUNDLE).await;
            Part {
                index,
                width,
                bundle,
                tile: tree.part(|width| tile_path(0, index, width), width, LONGEST_TILE).await,
            }
        });
        let mut parts = std::pin::pin!(iter(parts).buffered(AHEAD));
        while let Some(part) = parts.next().await {
            if !self.part(&part).await {
                break;
            }
            progress(self.verifier.size(), size);
        }
        for level in 1..LEVELS {
            self.tile(level, partial_width(level, size)).await;
        }
        self.verifier.checkpoint(&Signed { size: None, at: None, note: &note });
    }

    /// Whether to go on.
    async fn part(&mut self, part: &Part) -> bool {
        let first = part.index.saturating_mul(WIDTH);
        let bundle = match &part.bundle {
            Ok(bytes) => bytes,
            Err(why) => {
                self.unread(&bundle_path(part.index, part.width), why, Some(first));
                return false;
            }
        };
        let width = usize::try_from(part.width).unwrap_or(usize::MAX);
        let entries = match read_bundle(bundle) {
            Ok(entries) if entries.len() >= width => entries,
            Ok(entries) => {
                let text = format!("has {} entries where {width} must be", entries.len());
                self.malformed(&bundle_path(part.index, part.width), &text, first);
                return false;
            }
            Err(error) => {
                self.malformed(&bundle_path(part.index, part.width), &format!("cannot be taken apart: {error}"), first);
                return false;
            }
        };
        let path = tile_path(0, part.index, part.width);
        let leaves = match part.tile.as_ref().map(|bytes| read_tile(bytes)) {
            Ok(Ok(leaves)) if leaves.len() >= width => leaves,
            Ok(Ok(leaves)) => {
                self.malformed(&path, &format!("has {} hashes where {width} must be", leaves.len()), first);
                Vec::new()
            }
            Ok(Err(error)) => {
                self.malformed(&path, &error.to_string(), first);
                Vec::new()
            }
            Err(why) => {
                self.unread(&path, why, Some(first));
                Vec::new()
            }
        };
        for (at, body) in entries.into_iter().take(width).enumerate() {
            let sequence = first.saturating_add(u64::try_from(at).unwrap_or(0));
            let stored = Stored { sequence, id: None, at: None, leaf: leaves.get(at).copied(), body };
            let needs = self.verifier.entry(&stored);
            for (subtree, hash) in needs.subtrees {
                self.completed(subtree.level / 8, hash).await;
            }
        }
        true
    }

    /// Keeps the hash of a complete subtree until its tile is full.
    async fn completed(&mut self, level: u8, hash: Digest) {
        let at = usize::from(level);
        if self.hashes.len() <= at {
            self.hashes.resize(at.saturating_add(1), (0, Vec::new()));
        }
        let full = self.hashes.get_mut(at).is_some_and(|(_, hashes)| {
            hashes.push(hash);
            u64::try_from(hashes.len()) == Ok(WIDTH)
        });
        if full {
            self.tile(level, WIDTH).await;
        }
    }

    /// Compares the hashes that are kept of a level with its tile.
    async fn tile(&mut self, level: u8, width: u64) {
        let Some((index, hashes)) = self.hashes.get_mut(usize::from(level)) else { return };
        if hashes.is_empty() {
            return;
        }
        let (number, expected) = (*index, core::mem::take(hashes));
        *index = index.saturating_add(1);
        // After a part that could not be read there are fewer.
        let width = width.min(u64::try_from(expected.len()).unwrap_or(WIDTH));
        let path = tile_path(level, number, width);
        match self.tree.part(|width| tile_path(level, number, width), width, LONGEST_TILE).await {
            Err(why) => self.unread(&path, &why, None),
            Ok(bytes) => {
                let found = read_tile(&bytes).unwrap_or_default();
                if found.get(..expected.len()) != Some(&expected) {
                    let text = format!("{path} has other hashes than the entries give");
                    self.verifier.find(Finding::new(Grade::Tampered, Rule::Derived, text));
                }
            }
        }
    }

    fn unread(&mut self, path: &str, why: &NotRead, sequence: Option<u64>) {
        let (grade, rule, text) = match why {
            NotRead::Absent => (Grade::Incomplete, Rule::Missing, format!("{path} is missing")),
            NotRead::TooLong(cap) => {
                (Grade::Tampered, Rule::Form, format!("{path} is longer than the {cap} bytes that it may have"))
            }
            NotRead::Failed(error) => {
                (Grade::Unverifiable, Rule::Unreadable, format!("{path} cannot be read: {error}"))
            }
        };
        self.verifier.find(Finding { sequence, ..Finding::new(grade, rule, text) });
    }

    fn malformed(&mut self, path: &str, text: &str, sequence: u64) {
        let finding = Finding::new(Grade::Tampered, Rule::Form, format!("{path} {text}"));
        self.verifier.find(Finding { sequence: Some(sequence), ..finding });
    }
}
