//! A log as static files (C2SP tlog-tiles): a `checkpoint`, tiles of 256 hashes, and bundles of 256 entries.
//!
//! [`Tiler`] turns leaves in order into those files, from the start or from where an earlier run ended. Refuses to know
//! where the files lie.

use super::ParseError;
use crate::domain::audit::LONGEST_ENTRY;
use crate::domain::key::Digest;
use crate::domain::tree::{Frontier, Subtree, TreeHead, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Levels of tiles: 256^7 is more than the largest tree.
pub const LEVELS: u8 = 8;
/// The checkpoint's path.
pub const CHECKPOINT: &str = "checkpoint";

/// One file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the log's prefix.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// `tile/L/N`, with `.p/W` where the tile is `width` < 256 wide.
#[must_use]
pub fn tile_path(level: u8, index: u64, width: u64) -> String {
    path(&level.to_string(), index, width)
}

/// `tile/entries/N`, with `.p/W` where the bundle has `width` < 256 entries.
#[must_use]
pub fn bundle_path(index: u64, width: u64) -> String {
    path("entries", index, width)
}

/// The number in groups of three digits, all but the last with an `x` before it.
fn path(kind: &str, index: u64, width: u64) -> String {
    let mut groups = vec![format!("{:03}", index % 1_000)];
    let mut rest = index / 1_000;
    while rest > 0 {
        groups.insert(0, format!("x{:03}", rest % 1_000));
        rest /= 1_000;
    }
    let partial = if width < WIDTH { format!(".p/{width}") } else { String::new() };
    format!("tile/{kind}/{}{partial}", groups.join("/"))
}

/// How wide the last, partial tile of a level is in a tree of `size` leaves; 0 if there is none.
#[must_use]
pub fn partial_width(level: u8, size: u64) -> u64 {
    full_tiles_and_rest(level, size).1
}

/// How many full tiles a level has in a tree of `size` leaves.
#[must_use]
pub fn full_tiles(level: u8, size: u64) -> u64 {
    full_tiles_and_rest(level, size).0
}

fn full_tiles_and_rest(level: u8, size: u64) -> (u64, u64) {
    let hashes = size.checked_shr(u32::from(level).saturating_mul(8)).unwrap_or(0);
    (hashes / WIDTH, hashes % WIDTH)
}

/// The entries of a bundle, each with its length as two bytes before it.
///
/// # Errors
/// If the last one is cut off, one is too long for the log, or there are more than 256.
pub fn read_bundle(bytes: &[u8]) -> Result<Vec<&[u8]>, ParseError> {
    let (mut rest, mut entries) = (bytes, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) =
            after.split_at_checked(length).ok_or_else(|| ParseError::new("a bundle ends in the middle of an entry"))?;
        if length > LONGEST_ENTRY || entries.len() >= 256 {
            return Err(ParseError::new("a bundle has an entry that is too long, or more than 256 of them"));
        }
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(ParseError::new("a bundle ends in the middle of a length")) }
}

/// The first `width` hashes or entries of a full tile or bundle: what a partial one with this path has. `None` if there
/// are fewer.
#[must_use]
pub fn prefix_of(path: &str, full: &[u8], width: usize) -> Option<Vec<u8>> {
    let bytes = if path.starts_with("tile/entries/") {
        let entries = read_bundle(full).ok()?;
        entries.get(..width)?.iter().map(|entry| entry.len().saturating_add(2)).sum()
    } else {
        width.checked_mul(32)?
    };
    full.get(..bytes).map(<[u8]>::to_vec)
}

/// The hashes of a tile.
///
/// # Errors
/// If they are not whole ones.
pub fn read_tile(bytes: &[u8]) -> Result<Vec<Digest>, ParseError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if rest.is_empty() && hashes.len() <= 256 {
        Ok(hashes.iter().map(|hash| Digest(*hash)).collect())
    } else {
        Err(ParseError::new("a tile is not up to 256 hashes of 32 bytes"))
    }
}

/// Makes the files of a growing log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiler {
    frontier: Frontier,
    /// The unfinished tile of each level.
    tiles: Vec<Vec<Digest>>,
    bundle: Vec<u8>,
}

impl Tiler {
    /// From the files of a tree of `head`'s size; `read` gives a file by its path.
    ///
    /// # Errors
    /// What `read` gives, or if the files do not lead to `head`'s root.
    pub fn resume(
        head: &TreeHead,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, ParseError>,
    ) -> Result<Self, ParseError> {
        let mut tiles = Vec::new();
        for level in 0..LEVELS {
            let (full, width) = full_tiles_and_rest(level, head.size);
            let tile = if width == 0 { Vec::new() } else { read_tile(&read(&tile_path(level, full, width))?)? };
            tiles.push(tile);
        }
        let (full, width) = full_tiles_and_rest(0, head.size);
        let bundle = if width == 0 { Vec::new() } else { read(&bundle_path(full, width))? };
        if u64::try_from(read_bundle(&bundle)?.len()) != Ok(width) {
            return Err(ParseError::new("the last bundle has another number of entries than the checkpoint says"));
        }
        let peaks = tiles.iter().rev().flat_map(|tile| peaks_of(tile)).collect();
        let frontier = Frontier::new(head.size, peaks).map_err(|e| ParseError::new(e.to_string()))?;
        if frontier.root() != head.root {
            return Err(ParseError::new("the tiles do not lead to the root of their checkpoint"));
        }
        while tiles.last().is_some_and(Vec::is_empty) {
            tiles.pop();
        }
        Ok(Self { frontier, tiles, bundle })
    }

    /// From a tree of `size` entries, a multiple of 256; `read` gives the hash of a complete subtree of the levels 8, 16, ….
    ///
    /// # Errors
    /// What `read` gives, or if the size is none that a tree of full tiles has.
    pub fn at<E: From<ParseError>>(size: u64, mut read: impl FnMut(Subtree) -> Result<Digest, E>) -> Result<Self, E> {
        if !size.is_multiple_of(WIDTH) {
            return Err(ParseError::new(format!("{size} entries are not full tiles")).into());
        }
        let mut tiles = vec![Vec::new()];
        for level in 1..LEVELS {
            let (full, width) = full_tiles_and_rest(level, size);
            let first = full.saturating_mul(WIDTH);
            let subtree = |place| Subtree { level: level.saturating_mul(8), place };
            let tile: Result<Vec<_>, E> =
                (first..first.saturating_add(width)).map(|place| read(subtree(place))).collect();
            tiles.push(tile?);
        }
        let peaks = tiles.iter().rev().flat_map(|tile| peaks_of(tile)).collect();
        let frontier = Frontier::new(size, peaks).map_err(|e| ParseError::new(e.to_string()))?;
        while tiles.last().is_some_and(Vec::is_empty) {
            tiles.pop();
        }
        Ok(Self { frontier, tiles, bundle: Vec::new() })
    }

    /// The right edge of the tree so far.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Size and root so far.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    /// Takes the next entry with its leaf hash; gives the files that are full now.
    ///
    /// # Errors
    /// If the entry is longer than a bundle can say.
    pub fn push(&mut self, leaf: Digest, entry: &[u8]) -> Result<Vec<File>, ParseError> {
        let length = u16::try_from(entry.len()).map_err(|_| ParseError::new("an entry is longer than 65,535 bytes"))?;
        let before = self.frontier.size();
        self.bundle.extend_from_slice(&length.to_be_bytes());
        self.bundle.extend_from_slice(entry);
        let mut hashes = vec![(0_u8, before, leaf)];
        self.frontier.push(leaf, |subtree, hash| {
            if subtree.level % 8 == 0 {
                hashes.push((subtree.level / 8, subtree.place, *hash));
            }
        });
        let mut files = Vec::new();
        for (level, place, hash) in hashes {
            let at = usize::from(level);
            while self.tiles.len() <= at {
                self.tiles.push(Vec::new());
            }
            let Some(tile) = self.tiles.get_mut(at) else { continue };
            tile.push(hash);
            if tile.len() == 256 {
                let bytes = core::mem::take(tile).iter().flat_map(|h| h.0).collect();
                files.push(File { path: tile_path(level, place / WIDTH, WIDTH), bytes });
            }
        }
        if before % WIDTH == WIDTH - 1 {
            let bytes = core::mem::take(&mut self.bundle);
            files.push(File { path: bundle_path(before / WIDTH, WIDTH), bytes });
        }
        Ok(files)
    }

    /// The partial tiles and the partial bundle of the tree as it is.
    #[must_use]
    pub fn partial(&self) -> Vec<File> {
        let size = self.frontier.size();
        let tiles = (0..LEVELS).zip(&self.tiles).filter(|(_, tile)| !tile.is_empty()).map(|(level, tile)| {
            let (full, width) = full_tiles_and_rest(level, size);
            File { path: tile_path(level, full, width), bytes: tile.iter().flat_map(|h| h.0).collect() }
        });
        let (full, width) = full_tiles_and_rest(0, size);
        let bundle = (width > 0).then(|| File { path: bundle_path(full, width), bytes: self.bundle.clone() });
        tiles.chain(bundle).collect()
    }
}

/// The complete subtrees in an unfinished tile, the largest first.
fn peaks_of(tile: &[Digest]) -> Vec<Digest> {
    let (mut rest, mut peaks) = (tile, Vec::new());
    while !rest.is_empty() {
        let (left, right) = rest.split_at(1 << rest.len().ilog2());
        peaks.extend(perfect(left));
        rest = right;
    }
    peaks
}

fn perfect(hashes: &[Digest]) -> Option<Digest> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    row.first().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::audit::leaf_hash;

    fn entry(n: u64) -> Vec<u8> {
        format!("{{\"n\":\"{n}\"}}").into_bytes()
    }

    fn tiled(tiler: &mut Tiler, files: &mut BTreeMap<String, Vec<u8>>, to: u64) {
        for n in tiler.head().size..to {
            let full = tiler.push(leaf_hash(&entry(n)), &entry(n)).unwrap();
            files.extend(full.into_iter().map(|f| (f.path, f.bytes)));
        }
        files.extend(tiler.partial().into_iter().map(|f| (f.path, f.bytes)));
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path(3, 0, 17), "tile/3/000.p/17");
        assert_eq!(bundle_path(273, 112), "tile/entries/273.p/112");
        // The example of the specification: 70,000 leaves.
        assert_eq!([0, 1, 2].map(|l| (full_tiles(l, 70_000), partial_width(l, 70_000))), [(273, 112), (1, 17), (0, 1)]);
        assert_eq!([0, 1].map(|l| (full_tiles(l, 256), partial_width(l, 256))), [(1, 0), (0, 1)]);
    }

    #[test]
    fn a_resumed_run_makes_the_same_files_as_one_that_was_not_interrupted() {
        let sizes = [0, 1, 2, 255, 256, 257, 511, 512, 700, 66_000];
        let (mut whole, mut all) = (Tiler::default(), BTreeMap::new());
        let mut parts = BTreeMap::new();
        for to in sizes {
            tiled(&mut whole, &mut all, to);
            let head = {
                let mut frontier = Frontier::default();
                let resumed_at =
                    parts.get("size").map_or(0, |s: &Vec<u8>| u64::from_be_bytes(*s.first_chunk().unwrap()));
                (0..resumed_at).for_each(|n| frontier.push(leaf_hash(&entry(n)), |_, _| ()));
                frontier.head()
            };
            let read = |path: &str| parts.get(path).cloned().ok_or_else(|| ParseError::new(format!("no {path}")));
            let mut resumed = Tiler::resume(&head, read).unwrap();
            tiled(&mut resumed, &mut parts, to);
            assert_eq!(resumed, whole, "at {to}");
            parts.insert("size".into(), to.to_be_bytes().to_vec());
        }
        parts.remove("size");
        assert_eq!(parts, all);
    }

    #[test]
    fn a_run_may_begin_at_full_tiles_with_the_hashes_of_what_is_before() {
        let (mut whole, mut hashes) = (Tiler::default(), BTreeMap::new());
        let mut frontier = Frontier::default();
        for n in 0..66_048 {
            let leaf = leaf_hash(&entry(n));
            whole.push(leaf, &entry(n)).unwrap();
            frontier.push(leaf, |subtree, hash| {
                hashes.insert(subtree, *hash);
            });
            if [256, 512, 65_536, 66_048].contains(&(n + 1)) {
                let read = |subtree| hashes.get(&subtree).copied().ok_or_else(|| ParseError::new("missing"));
                let begun = Tiler::at::<ParseError>(n + 1, read).unwrap();
                assert_eq!((begun.head(), begun.partial()), (whole.head(), whole.partial()), "{n}");
            }
        }
        assert!(Tiler::at::<ParseError>(300, |_| Err(ParseError::new("missing"))).is_err());
    }

    #[test]
    fn a_bent_tile_is_noticed_when_a_run_goes_on() {
        let (mut tiler, mut files) = (Tiler::default(), BTreeMap::new());
        tiled(&mut tiler, &mut files, 300);
        for path in ["tile/0/001.p/44", "tile/1/000.p/1"] {
            let mut bent = files.clone();
            bent.get_mut(path).unwrap()[5] ^= 1;
            let read = |path: &str| bent.get(path).cloned().ok_or_else(|| ParseError::new("missing"));
            assert!(Tiler::resume(&tiler.head(), read).is_err(), "{path}");
        }
    }

    #[test]
    fn bundles_read_back_and_torn_ones_do_not() {
        let mut tiler = Tiler::default();
        (0..3).for_each(|n| drop(tiler.push(leaf_hash(&entry(n)), &entry(n)).unwrap()));
        let bundle = tiler.partial().pop().unwrap().bytes;
        assert_eq!(read_bundle(&bundle).unwrap(), [entry(0), entry(1), entry(2)]);
        assert!(read_bundle(&bundle[..bundle.len() - 1]).is_err() && read_bundle(&[0]).is_err());
        assert!(read_bundle(&[0; 514]).is_err() && read_tile(&[0; 33]).is_err());
    }
}
