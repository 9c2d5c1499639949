//! Proofs of single entries.

use std::fs;
use std::path::PathBuf;

use keyward::codec::ledger::{Grade, Proof};
use keyward::ports::Log;

use crate::harness::ledger::{Written, keyward, python};
use crate::harness::store::{block_on, open};

#[test]
fn every_entry_is_proved_offline_and_python_agrees() {
    let log = Written::new(300);
    let (trust, key) = (log.trust(), log.key().to_string());
    let database = log.path().to_str().unwrap();
    let mut files = Vec::new();
    block_on(async {
        let store = open(log.path()).unwrap();
        for sequence in 0..300 {
            let found = store.inclusion(sequence).await.unwrap().unwrap();
            let proof = Proof {
                sequence,
                entry: found.entry.bytes,
                inclusion: found.proof,
                checkpoint: found.note,
                hint: None,
            };
            let again = Proof::read(proof.to_json().as_bytes()).unwrap();
            assert_eq!(again, proof);
            assert_eq!(again.check(&trust).unwrap().checkpoint.head.size, 300);
            if sequence % 10 == 0 {
                files.push(log.path().join(format!("{sequence}.proof")));
                fs::write(files.last().unwrap(), proof.to_json()).unwrap();
            }
        }
    });
    for (code, text) in python(&["--key", &key], &files) {
        assert_eq!(code, 0, "{text}");
    }
    let out = log.path().join("by-command.proof");
    let (code, text) = keyward(&["audit", "prove", "137", "--database", database, "--out", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let again = keyward(&["audit", "prove", "137", "--database", database, "--out", out.to_str().unwrap()]);
    assert_ne!(again.0, 0, "a file that is there is not overwritten");
    let check = |options: &[&str]| keyward(&[&["audit", "check-proof", out.to_str().unwrap()], options].concat());
    let (code, text) = check(&["--key", &key]);
    assert!(code == 0 && text.contains("137 of 300"), "{code} {text}");
    let (code, text) = check(&[]);
    assert!(code == 5 && text.contains("the file says that its log's key is"), "{code} {text}");
    assert_eq!(check(&["--key", &key.replace('+', "x")]).0, 5);
    let id = Proof::read(&fs::read(&out).unwrap()).unwrap().check(&trust).unwrap().id;
    let (code, text) = keyward(&["audit", "prove", &id, "--database", database]);
    assert!(code == 0 && text.contains("\"sequence\": \"137\""), "{code} {text}");
}

#[test]
fn no_bit_of_a_proof_can_be_changed() {
    let log = Written::new(300);
    let (trust, key) = (log.trust(), log.key().to_string());
    let found = block_on(async { open(log.path()).unwrap().inclusion(137).await.unwrap().unwrap() });
    let proof =
        Proof { sequence: 137, entry: found.entry.bytes, inclusion: found.proof, checkpoint: found.note, hint: None };
    let text = proof.to_json().into_bytes();
    let (mut files, mut codes): (Vec<PathBuf>, Vec<i32>) = Default::default();
    for byte in 0..text.len() {
        for bit in 0..8 {
            let mut bent = text.clone();
            bent[byte] ^= 1 << bit;
            let finding = match Proof::read(&bent).and_then(|proof| proof.check(&trust)) {
                Ok(_) => panic!("byte {byte}, bit {bit}: {}", String::from_utf8_lossy(&bent)),
                Err(finding) => finding,
            };
            assert!(matches!(finding.grade, Grade::Tampered | Grade::Unverifiable), "{finding}");
            if (byte * 8 + bit).is_multiple_of(311) {
                files.push(log.path().join(format!("{byte}-{bit}")));
                fs::write(files.last().unwrap(), &bent).unwrap();
                codes.push(i32::from(finding.grade.exit()));
            }
        }
    }
    assert!(files.len() > 20, "{}", files.len());
    for ((code, text), expected) in python(&["--key", &key], &files).into_iter().zip(codes) {
        // Which of the two it is hangs on how much of a broken file can be read at all.
        assert!(matches!((code, expected), (2 | 5, 2 | 5)), "{text}");
    }
}

#[test]
fn a_proof_is_of_its_own_entry_place_and_tree_only() {
    let log = Written::new(300);
    let trust = log.trust();
    let proof = |n| {
        let found = block_on(async { open(log.path()).unwrap().inclusion(n).await.unwrap().unwrap() });
        Proof { sequence: n, entry: found.entry.bytes, inclusion: found.proof, checkpoint: found.note, hint: None }
    };
    let (one, other) = (proof(10), proof(11));
    assert!(one.check(&trust).is_ok());
    let older = log.notes().iter().rev().find(|note| note.size < 300 && note.size > 11).unwrap().note.clone();
    for wrong in [
        Proof { sequence: 11, ..one.clone() },
        Proof { entry: other.entry.clone(), ..one.clone() },
        Proof { inclusion: other.inclusion.clone(), ..one.clone() },
        Proof { checkpoint: older, ..one.clone() },
        Proof { inclusion: one.inclusion[1..].to_vec(), ..one.clone() },
    ] {
        assert_eq!(wrong.check(&trust).unwrap_err().grade, Grade::Tampered, "{}", wrong.to_json());
    }
}
