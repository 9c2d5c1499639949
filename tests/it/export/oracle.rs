//! The static files of a large log as three others read them: `audit verify`, the independent verifier in Python, and the
//! port of the Go package that defined the tiles.

use std::fs;
use std::path::Path;

use tlog_tiles::{Error, Hash, HashReader, Tile, TileHashReader, TileReader, prove_record, prove_tree, record_hash};

use super::{export, exported, fill, filled};
use crate::harness::ledger::{keyward, python};

/// The files through the eyes of the package: it names the paths, and checks every hash against the root.
struct Files<'a>(&'a Path);

impl TileReader for Files<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        // The package writes the height into the path, as the Go checksum database has it; C2SP tlog-tiles leaves it out.
        let read = |tile: &Tile| fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1)));
        Ok(tiles.iter().map(|tile| read(tile).unwrap_or_else(|e| panic!("{}: {e}", tile.path()))).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[test]
fn seventy_thousand_entries_are_read_by_stock_clients() {
    let log = filled(69_000);
    let dir = tempfile::TempDir::new().unwrap();
    exported(log.path(), "tlog-tiles", dir.path());
    let (old_size, old_root) = head(dir.path());
    fill(log.path(), 69_000, 70_000, "");
    let (code, text) = export(log.path(), "tlog-tiles", dir.path(), &[]);
    assert!(code == 0 && text.contains("wrote entries 69000–69999"), "{code} {text}");

    let key = log.key().to_string();
    let (code, text) = keyward(&["audit", "verify", dir.path().to_str().unwrap(), "--key", &key]);
    assert!(code == 0 && text.contains("0–69999 are proved"), "{code} {text}");
    assert_eq!(python(&["--key", &key], &[dir.path().to_owned()])[0].0, 0);

    let (size, root) = head(dir.path());
    assert_eq!((old_size, size), (69_000, 70_000));
    let files = Files(dir.path());
    let reader = TileHashReader::new(size, root, &files);
    let rows = log.rows();
    // Around every kind of edge of tiles.
    for n in [0, 1, 255, 256, 257, 65_279, 65_535, 65_536, 65_537, 69_887, 69_888, 69_999] {
        let leaf = record_hash(&rows[n as usize].body);
        assert_eq!(reader.read_hashes(&[tlog_tiles::stored_hash_index(0, n)]).unwrap()[0].0, leaf.0, "{n}");
        let proof = prove_record(size, n, &reader).unwrap();
        tlog_tiles::check_record(&proof, size, root, n, leaf).unwrap();
    }
    let proof = prove_tree(size, old_size, &reader).unwrap();
    tlog_tiles::check_tree(&proof, size, root, old_size, old_root).unwrap();
    // The paths of the specification's own example of this size.
    for path in ["tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"] {
        assert!(dir.path().join(path).is_file(), "{path}");
    }
    assert!(!dir.path().join("tile/0/273").exists() && !dir.path().join("export.json").exists());
    assert!(!dir.path().join("tile/0/269.p").exists(), "the partial tile of the first run has its full one now");
}

fn head(dir: &Path) -> (u64, Hash) {
    let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
    let text = note.split_inclusive('\n').take(3).collect::<String>();
    let said = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
    (said.size(), *said.hash())
}
