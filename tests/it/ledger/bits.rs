//! Every bit of the entries and of the checkpoints.

use keyward::codec::ledger::{Grade, Stored, inspect};
use keyward::domain::audit::leaf_hash;
use keyward::domain::key::Digest;
use keyward::domain::tree::{Frontier, Subtree, TreeError, TreeHead, check_inclusion, prove_inclusion};

use crate::harness::ledger::{Note, Row, Written};

const ENTRIES: u64 = 1_000;

/// Every leaf's way to the root.
fn proofs(rows: &[Row]) -> (TreeHead, Vec<Vec<Digest>>) {
    let mut nodes = std::collections::BTreeMap::new();
    let mut tree = Frontier::default();
    for row in rows {
        nodes.insert(Subtree { level: 0, place: tree.size() }, Digest(row.leaf));
        tree.push(Digest(row.leaf), |subtree, hash| {
            nodes.insert(subtree, *hash);
        });
    }
    let read = |subtree: Subtree| Ok::<_, TreeError>(nodes[&subtree]);
    let all = (0..tree.size()).map(|n| prove_inclusion(n, tree.size(), read).unwrap()).collect();
    (tree.head(), all)
}

fn stored(row: &Row) -> Stored<'_> {
    Stored {
        sequence: row.sequence as u64,
        id: Some(row.id),
        at: Some(row.at),
        leaf: Some(Digest(row.leaf)),
        body: &row.body,
    }
}

fn is_seen(row: &Row) -> bool {
    !inspect(&stored(row), &leaf_hash(&row.body)).1.is_empty()
}

#[test]
fn every_flipped_bit_of_an_entry_is_seen() {
    let rows = Written::new(ENTRIES).rows();
    let bits: usize = rows.iter().map(|row| 8 * (row.body.len() + row.leaf.len() + row.id.len() + 8 + 8)).sum();
    let (head, proofs) = proofs(&rows);
    assert_eq!(rows.len() as u64, ENTRIES);
    let checked: usize = std::thread::scope(|scope| {
        let halves = rows.chunks(rows.len() / 2).zip(proofs.chunks(rows.len() / 2)).enumerate();
        let threads: Vec<_> = halves
            .map(|(half, (rows, proofs))| scope.spawn(move || flip(rows, proofs, half * (ENTRIES as usize / 2), &head)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(checked, bits, "all of them");
}

/// The verifier in Python is asked about each of them too, as it would meet it in its one pass over the log.
#[test]
fn every_flipped_bit_of_an_entry_is_seen_by_the_verifier_in_python() {
    let log = Written::new(ENTRIES);
    let bits: usize = log.rows().iter().map(|row| 8 * (row.body.len() + row.leaf.len() + row.id.len() + 8 + 8)).sum();
    let at = |path: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let script = std::process::Command::new("/usr/bin/python3")
        .args(["-B".into(), at("tests/it/ledger/bits.py"), at("docs/verify.py"), log.path().join("keyward.db")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&script.stdout).into_owned();
    assert!(script.status.success(), "{said}{}", String::from_utf8_lossy(&script.stderr));
    assert_eq!(said.trim(), bits.to_string(), "all of them");
}

/// The hash of every bent body; what the verifier makes of it, and the proof, once for each byte: they see the hash only.
fn flip(rows: &[Row], proofs: &[Vec<Digest>], first: usize, head: &TreeHead) -> usize {
    let mut checked = 0;
    for (n, row) in rows.iter().enumerate() {
        assert!(!is_seen(row) && check_inclusion(&Digest(row.leaf), (first + n) as u64, head, &proofs[n]).is_ok());
        let mut bent = row.clone();
        for byte in 0..row.body.len() {
            for bit in 0..8 {
                bent.body[byte] ^= 1 << bit;
                let hash = leaf_hash(&bent.body);
                // With the leaf that is stored the bytes are found out, and with a leaf that fits the root is.
                assert_ne!(hash.0, row.leaf, "entry {n}, byte {byte}, bit {bit}");
                assert!(bit != byte % 8 || is_seen(&bent), "entry {n}, byte {byte}, bit {bit}");
                if bit == byte % 8 {
                    let proved = check_inclusion(&hash, (first + n) as u64, head, &proofs[n]);
                    assert_eq!(proved, Err(TreeError::Root), "entry {n}, byte {byte}, bit {bit}");
                }
                bent.body[byte] ^= 1 << bit;
                checked += 1;
            }
        }
        checked += flip_columns(row, n);
    }
    checked
}

fn flip_columns(row: &Row, n: usize) -> usize {
    let mut checked = 0;
    let mut check = |what: &str, bent: Row| {
        assert!(is_seen(&bent), "entry {n}, {what}");
        checked += 1;
    };
    for byte in 0..32 {
        for bit in 0..8 {
            let mut bent = row.clone();
            bent.leaf[byte] ^= 1 << bit;
            check("leaf", bent);
        }
    }
    for byte in 0..16 {
        for bit in 0..8 {
            let mut bent = row.clone();
            bent.id[byte] ^= 1 << bit;
            check("id", bent);
        }
    }
    for byte in 0..8 {
        for bit in 0..8 {
            check("at", Row { at: row.at ^ 1 << (8 * byte + bit), ..row.clone() });
            check("sequence", Row { sequence: row.sequence ^ 1 << (8 * byte + bit), ..row.clone() });
        }
    }
    checked
}

#[test]
fn every_flipped_bit_of_a_checkpoint_is_seen() {
    let log = Written::new(ENTRIES);
    let (trust, notes) = (log.trust(), log.notes());
    assert!(notes.len() > 3, "one an hour is kept");
    for Note { note, .. } in &notes {
        assert!(trust.judge("it", note).is_ok());
        for byte in 0..note.len() {
            for bit in 0..8 {
                let mut bent = note.clone().into_bytes();
                bent[byte] ^= 1 << bit;
                // What is no UTF-8 is no text to SQLite's readers either.
                let Ok(bent) = String::from_utf8(bent) else { continue };
                let finding = trust.judge("it", &bent).expect_err(&format!("byte {byte}, bit {bit}: {bent}"));
                assert_eq!(finding.grade, Grade::Tampered, "byte {byte}, bit {bit}: {bent}");
            }
        }
    }
}
