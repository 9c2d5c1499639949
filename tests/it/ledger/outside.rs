//! What only something from outside can tell: a log made anew with the same key, and one that is older than it was.

use std::fs;
use std::path::PathBuf;

use keyward::codec::note::{Note, SignerKey, Signs};
use keyward::domain::time::Timestamp;
use zeroize::Zeroizing;

use crate::harness::ledger::{Written, append, keyward, python};

/// Saves the newest checkpoint of a size up to `size`, as somebody else may have.
fn saved(log: &Written, size: u64, name: &str) -> PathBuf {
    let notes = log.notes();
    let note = notes.iter().rev().find(|note| note.size <= size).unwrap();
    let path = log.path().join(name);
    fs::write(&path, &note.note).unwrap();
    path
}

fn witness() -> SignerKey {
    SignerKey::from_seed("witness.example.org", Signs::Sightings, Zeroizing::new([5; 32])).unwrap()
}

/// Writes another note in the place of the newest checkpoint's.
fn rewrite_newest(log: &Written, change: impl FnOnce(&mut Note)) {
    let newest = log.notes().pop().unwrap();
    let mut note: Note = newest.note.parse().unwrap();
    change(&mut note);
    log.unguarded()
        .execute("UPDATE checkpoint SET note = ?1 WHERE size = ?2", (note.to_string(), newest.size as i64))
        .unwrap();
}

/// The witness saw the newest checkpoint, and the log keeps its word.
fn cosign_newest(log: &Written) {
    rewrite_newest(log, |note| note.signatures.push(witness().sign(&note.text, Timestamp::from_unix(1_800_000_000))));
}

/// Two logs with the same key, both from the beginning, of which the second has another entry 150.
fn made_twice() -> (Written, Written) {
    let log = Written::new(0);
    let forged = log.copy();
    append(log.path(), 0, 1_000, |_| "");
    append(forged.path(), 0, 1_000, |n| if n == 150 { "another" } else { "" });
    (log, forged)
}

#[test]
fn a_log_made_anew_with_the_same_key_is_found_with_a_checkpoint_or_a_witness_and_only_then() {
    let (log, forged) = made_twice();
    let both = |options: &[&str], expected: i32, say: &str| {
        let (code, text) = forged.command(options);
        assert_eq!(code, expected, "{options:?}: {text}");
        assert!(text.contains(say), "{options:?}: {text}");
        let python = python(options, &[forged.path().to_owned()]);
        assert_eq!(python[0].0, expected, "{options:?}: {}", python[0].1);
    };
    both(&[], 0, "nothing from outside was given to compare with");
    let (early, late) = (saved(&log, 149, "early"), saved(&log, 1_000, "late"));
    both(&["--against", early.to_str().unwrap()], 0, "agrees with");
    both(&["--against", late.to_str().unwrap()], 2, "KW6109");
    both(&["--against", early.to_str().unwrap(), "--against", late.to_str().unwrap()], 2, "KW6109");
    // A witness saw the first log. Its note tells, wherever it was kept; without it the witness is missed.
    let mut seen: Note = fs::read_to_string(&late).unwrap().parse().unwrap();
    seen.signatures.push(witness().sign(&seen.text, Timestamp::from_unix(1_800_000_000)));
    fs::write(&late, seen.to_string()).unwrap();
    let key = witness().verifier().to_string();
    both(&["--witness", &key, "--against", late.to_str().unwrap()], 2, "KW6109");
    both(&["--witness", &key], 5, "KW6115");
    let (code, text) = log.command(&["--against", late.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_cosigned_checkpoint_in_the_log_satisfies_who_asks_for_the_witness() {
    let log = Written::new(120);
    cosign_newest(&log);
    let key = witness().verifier().to_string();
    let (code, text) = log.command(&["--witness", &key]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("saw size 120"), "{text}");
    assert_eq!(python(&["--witness", &key], &[log.path().to_owned()])[0].0, 0);
    // One bit of its signature.
    rewrite_newest(&log, |note| note.signatures[1].bytes[20] ^= 1);
    assert_eq!(log.command(&["--witness", &key]).0, 2);
    assert_eq!(python(&["--witness", &key], &[log.path().to_owned()])[0].0, 2);
    // Who does not ask for that witness does not read what stands under its name.
    assert_eq!(log.command(&[]).0, 0);
}

#[test]
fn an_older_copy_is_told_by_the_lock_and_by_a_checkpoint_from_outside() {
    let log = Written::new(200);
    let old = log.copy();
    append(log.path(), 200, 260, |_| "");
    assert_eq!(old.command(&[]).0, 0, "with the lock of its own time it is whole");
    let late = saved(&log, 1_000, "late");
    let lock = log.path().join("audit.lock");
    for options in [["--against", late.to_str().unwrap()], ["--lock", lock.to_str().unwrap()]] {
        let (code, text) = old.command(&options);
        assert!(code == 3 && text.contains("KW6110"), "{options:?}: {code} {text}");
        assert_eq!(python(&options, &[old.path().to_owned()])[0].0, 3, "{options:?}");
    }
    fs::copy(&lock, old.path().join("audit.lock")).unwrap();
    assert_eq!((old.command(&[]).0, python(&[], &[old.path().to_owned()])[0].0), (3, 3));
    let mut torn = fs::read(&lock).unwrap();
    for byte in torn.iter_mut() {
        *byte ^= 1;
    }
    fs::write(old.path().join("audit.lock"), torn).unwrap();
    assert_eq!((old.command(&[]).0, python(&[], &[old.path().to_owned()])[0].0), (2, 2));
}

#[test]
fn the_wrong_key_is_said_and_a_key_counts_only_for_its_sizes() {
    let log = Written::new(60);
    let origin = log.key().name().to_owned();
    let other =
        |name: &str| SignerKey::from_seed(name, Signs::Notes, Zeroizing::new([1; 32])).unwrap().verifier().to_string();
    let own = log.key().to_string();
    for (key, expected, say) in [
        (own.clone(), 0, "entries 0–59 are proved"),
        (format!("{own}@0-60"), 0, "ok"),
        (format!("{own}@0-59"), 2, "which may sign the sizes 0–59"),
        (other(&origin), 2, "KW6108"),
        (other("another.example.org"), 5, "KW6116"),
        ("nonsense".to_owned(), 5, "--key nonsense"),
        (witness().verifier().to_string(), 5, "give it as --witness"),
    ] {
        let (code, text) = log.command(&["--key", &key]);
        assert!(code == expected && text.contains(say), "{key}: {code} {text}");
    }
    for key in [format!("{own}@0-60"), format!("{own}@0-59"), other(&origin), other("another.example.org")] {
        let python = python(&["--key", &key], &[log.path().to_owned()]);
        assert_eq!(python[0].0, log.command(&["--key", &key]).0, "{key}: {}", python[0].1);
    }
}

#[test]
fn a_policy_says_whose_signatures_a_proof_needs() {
    let log = Written::new(60);
    cosign_newest(&log);
    let path = |name: &str| log.path().join(name).to_str().unwrap().to_owned();
    let (proof, policy) = (path("proof"), path("policy"));
    let made = keyward(&["audit", "prove", "7", "--database", log.path().to_str().unwrap(), "--out", &proof]);
    assert_eq!(made.0, 0, "{made:?}");
    let stranger = SignerKey::from_seed("stranger.example.org", Signs::Sightings, Zeroizing::new([6; 32])).unwrap();
    let (key, seen, unseen) = (log.key(), witness().verifier().clone(), stranger.verifier().clone());
    for (lines, expected) in [
        (format!("log {key}\nwitness w {seen}\nquorum w\n"), 0),
        (format!("log {key}\nwitness w {seen}\nwitness u {unseen}\ngroup both all w u\nquorum both\n"), 5),
        (format!("log {key}\nwitness u {unseen}\nquorum u\n"), 5),
        (format!("witness w {seen}\nquorum w\n"), 5),
        ("nonsense\n".to_owned(), 5),
    ] {
        fs::write(&policy, &lines).unwrap();
        let (code, text) = keyward(&["audit", "check-proof", &proof, "--policy", &policy]);
        assert_eq!(code, expected, "{lines}: {text}");
    }
}

#[test]
fn a_log_whose_key_was_rotated_is_proved_from_either_key_and_a_stranger_cannot_call_himself_the_next() {
    use keyward::adapters::store::{LogOptions, Rotation, rotate_key};
    use keyward::shell::wire;
    let log = Written::new(400);
    let first = log.key().to_string();
    let now = Timestamp::from_unix(1_790_000_000 + 30 * 400);
    let rotation = Rotation { by: "ops".into(), overlap: std::time::Duration::from_secs(7_200) };
    rotate_key(log.path(), &LogOptions::new(now, wire::entropy()), &rotation).unwrap();
    // Eight hours on: the overlap is over, and the first key is destroyed.
    append(log.path(), 405, 800, |_| "");
    let second = log.key().to_string();
    assert_ne!(first, second);
    let (early, late) = (saved(&log, 200, "early"), saved(&log, 1_000, "late"));
    for keys in [vec![], vec!["--key", &first], vec!["--key", &second], vec!["--key", &first, "--key", &second]] {
        for against in [&early, &late] {
            let options = [keys.clone(), vec!["--against", against.to_str().unwrap()]].concat();
            let (code, text) = log.command(&options);
            assert_eq!(code, 0, "{options:?}: {text}");
            let python = python(&options, &[log.path().to_owned()]);
            assert_eq!(python[0].0, 0, "{options:?}: {}", python[0].1);
        }
    }
    // A log that begins with the claim that its key follows that of the first log.
    let forged = Written::new(0);
    let mut draft = crate::harness::ledger::draft(4, "");
    draft.action = "audit.rotate-key";
    draft.code = "KW6440";
    let own = forged.key().to_string();
    let named = SignerKey::from_seed(forged.key().name(), Signs::Notes, Zeroizing::new([8; 32])).unwrap();
    let named = named.verifier().to_string();
    draft.facts = vec![
        ("from_size", keyward::domain::json::Json::str("1")),
        ("new_key", keyward::domain::json::Json::str(own)),
        ("old_key", keyward::domain::json::Json::str(named.clone())),
    ];
    crate::harness::store::block_on(async {
        use keyward::ports::{Batch, Store};
        let store = crate::harness::store::open(forged.path()).unwrap();
        store.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await.unwrap();
    });
    assert_eq!(forged.command(&[]).0, 0);
    let (code, text) = forged.command(&["--key", &named]);
    assert_ne!(code, 0, "{text}");
    assert_ne!(python(&["--key", &named], &[forged.path().to_owned()])[0].0, 0);
}
