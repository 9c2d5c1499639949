//! What it does not sign.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;

use keyward::codec::keys;
use keyward::domain::audit::Phase;
use keyward::domain::json::Json;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::ports::{HeldKey, HolderError, KeyHolder, Operation, PrivateKey, ToBeSigned, Warrant};

use crate::harness::keyholder::{GuardianLog, Holder, generating, leaf_tbs, list_tbs, root_tbs, signing};

async fn refused(holder: &Holder, key: &HeldKey, kind: ToBeSigned, bytes: &[u8], warrant: &Warrant) -> String {
    match holder.client().sign(Digest::of(&key.spki), kind, bytes, warrant).await {
        Err(HolderError::Refused(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn without_the_proof_of_its_own_entry_nothing_is_signed() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let key = holder.key(&mut log, "root").await;
    let other = holder.key(&mut log, "other").await;
    let (bytes, bent) = (leaf_tbs(&key, 1, 7), leaf_tbs(&key, 2, 7));
    let leaf = ToBeSigned::Leaf;
    let announced = signing(&key, leaf, &bytes);
    let good = log.allow(&announced);
    let facts = || announced.facts().into_iter().map(|(k, v)| (k, Json::str(v))).collect::<Vec<_>>();
    let mut more = facts();
    more.insert(0, ("also", Json::str("this")));
    let outcome = log.commit("ca.key", Phase::Outcome, facts());
    let action = log.commit("certificate.order", Phase::Intent, facts());
    let more = log.commit("ca.key", Phase::Intent, more);
    let few = log.commit("ca.key", Phase::Intent, facts()[..3].to_vec());
    let other_key = log.intend(&signing(&other, leaf, &bytes));
    let generate = log.intend(&generating("more"));
    let mut strange = GuardianLog::new(9);
    strange.grow(2);
    let strange = strange.allow(&announced);
    let edit = |change: &dyn Fn(&mut Warrant)| {
        let mut warrant = good.clone();
        change(&mut warrant);
        warrant
    };
    // The same entry in another spelling, put into the log by somebody who could.
    let spaced = String::from_utf8(good.entry.bytes.clone()).unwrap().replacen("{\"data\"", "{ \"data\"", 1);
    let sequence = good.entry.sequence;
    let elsewhere = log.append(good.entry.bytes.clone());
    let spaced = log.append(spaced.into_bytes());
    let rows: Vec<(&str, Warrant, &str)> = vec![
        ("no proof", edit(&|w| w.proof.clear()), "not proved"),
        ("a bent proof", edit(&|w| w.proof[0].0[3] ^= 1), "not proved"),
        ("another place", edit(&|w| w.entry.sequence -= 1), "not proved"),
        ("changed bytes of the entry", edit(&|w| w.entry.bytes[9] ^= 1), "not proved"),
        ("no checkpoint", edit(&|w| w.note.clear()), "the checkpoint"),
        ("another log", strange, "is not signed by the log"),
        (
            "a signature of another checkpoint",
            {
                let note = log.warrant(sequence).note;
                let own = edit(&|_| ());
                let (text, _) = own.note.split_once("\n\n").unwrap();
                let (_, signature) = note.split_once("\n\n").unwrap();
                let note = format!("{text}\n\n{signature}");
                edit(&move |w| w.note.clone_from(&note))
            },
            "does not verify",
        ),
        ("an outcome", log.warrant(outcome), "expected \"ca.key\" intent"),
        ("another action", log.warrant(action), "expected \"ca.key\" intent"),
        ("more than this", log.warrant(more), "announces more than this operation: also"),
        ("less than this", log.warrant(few), "announces tbs \"nothing\""),
        ("another key", log.warrant(other_key), "announces key"),
        ("another operation", log.warrant(generate), "announces key \"nothing\""),
        ("the entry at another place", log.warrant(elsewhere), "says that it has the number"),
        ("another spelling", log.warrant(spaced), "no canonical JSON"),
    ];
    let before = holder.client().status().await.unwrap().operations;
    for (what, warrant, why) in rows {
        let found = refused(&holder, &key, leaf, &bytes, &warrant).await;
        assert!(found.contains(why), "{what}: {found}");
    }
    let found = refused(&holder, &key, leaf, &bent, &good).await;
    assert!(found.contains("announces tbs"), "other bytes: {found}");
    let found = refused(&holder, &other, leaf, &leaf_tbs(&other, 1, 7), &good).await;
    assert!(found.contains("announces key"), "other key: {found}");
    assert_eq!(holder.client().status().await.unwrap().operations, before);
    holder.client().sign(Digest::of(&key.spki), leaf, &bytes, &good).await.unwrap();
    let found = refused(&holder, &key, leaf, &bent, &good).await;
    assert!(found.contains("announces tbs"), "a spent entry with other bytes: {found}");
}

#[tokio::test]
async fn the_bytes_are_what_they_are_said_to_be_and_fit_the_key() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::with(&log, &["--max-leaf-days", "30"], &[]);
    let key = holder.key(&mut log, "root").await;
    let other = holder.key(&mut log, "other").await;
    let p384 = log.allow(&Operation::Generate { algorithm: KeyAlgorithm::P384, label: "p384".into() });
    let p384 = holder.client().generate(KeyAlgorithm::P384, "p384", &p384).await.unwrap();
    let whole = {
        let certificate = rcgen::generate_simple_self_signed(["x.example".to_owned()]).unwrap();
        certificate.cert.der().to_vec()
    };
    let longer = [leaf_tbs(&key, 1, 7), vec![0]].concat();
    let (leaf, ca, list) = (ToBeSigned::Leaf, ToBeSigned::Ca, ToBeSigned::RevocationList);
    for (what, kind, bytes, why) in [
        ("a CA as a leaf", leaf, root_tbs(&key), "is a CA's certificate, and announced is \"leaf\""),
        ("a leaf as a CA", ca, leaf_tbs(&key, 1, 7), "is an end entity's certificate, and announced is \"ca\""),
        ("a list as a leaf", leaf, list_tbs(&key), "what is to be signed"),
        ("a leaf as a list", list, leaf_tbs(&key, 1, 7), "what is to be signed"),
        ("a CA as a list", list, root_tbs(&key), "what is to be signed"),
        ("a whole certificate", leaf, whole, "what is to be signed"),
        ("something after it", leaf, longer, "what is to be signed"),
        ("nothing", leaf, Vec::new(), "what is to be signed"),
        ("any text", leaf, b"keyward lease v1".to_vec(), "what is to be signed"),
        ("a long life", leaf, leaf_tbs(&key, 1, 31), "it may live for"),
        ("another issuer's key", leaf, leaf_tbs(&other, 1, 7), "names another issuer's key"),
        ("another issuer's list", list, list_tbs(&other), "names another issuer's key"),
        ("another algorithm", leaf, leaf_tbs(&p384, 1, 7), "names another algorithm"),
    ] {
        let warrant = log.allow(&signing(&key, kind, &bytes));
        let found = refused(&holder, &key, kind, &bytes, &warrant).await;
        assert!(found.contains(why), "{what}: {found}");
    }
    let bytes = leaf_tbs(&key, 1, 7);
    let unknown = HeldKey { spki: [&*key.spki, &[0]].concat().into(), ..key.clone() };
    let warrant = log.allow(&signing(&unknown, leaf, &bytes));
    let found = refused(&holder, &unknown, leaf, &bytes, &warrant).await;
    assert!(found.contains("there is no key"), "{found}");
}

#[tokio::test]
async fn keys_that_no_ca_has_bad_labels_and_another_key_than_announced_are_refused() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let client = holder.client();
    let rsa = log.allow(&Operation::Generate { algorithm: KeyAlgorithm::Rsa2048, label: "rsa".into() });
    let error = client.generate(KeyAlgorithm::Rsa2048, "rsa", &rsa).await.unwrap_err();
    assert!(error.to_string().contains("choose p256, p384 or ed25519"), "{error}");
    for label in ["", "a\u{1b}[2J", "ü"] {
        let warrant = log.allow(&generating(label));
        let error = client.generate(KeyAlgorithm::P256, label, &warrant).await.unwrap_err();
        assert!(error.to_string().contains("printable ASCII"), "{error}");
    }
    let (one, two) = (keys::generate(KeyAlgorithm::P256).unwrap(), keys::generate(KeyAlgorithm::P256).unwrap());
    let key = keyward::codec::signing::SigningKey::read(&one).unwrap().digest();
    let warrant = log.allow(&Operation::Import { key, label: "x".into() });
    let error = client.import(&PrivateKey(two), "x", &warrant).await.unwrap_err();
    assert!(error.to_string().contains("announces key"), "{error}");
    let rsa = keys::generate(KeyAlgorithm::Rsa2048).unwrap();
    let error = client.import(&PrivateKey(rsa), "x", &warrant).await.unwrap_err();
    assert!(error.to_string().contains("P-256, P-384 or Ed25519"), "{error}");
    let destroy = log.allow(&Operation::Destroy { key });
    let error = client.destroy(key, &destroy).await.unwrap_err();
    assert!(error.to_string().contains("there is no key"), "{error}");
    assert_eq!(client.status().await.unwrap().operations, 0);
}

#[tokio::test]
async fn a_log_that_shrank_or_was_forked_allows_nothing_also_after_a_restart() {
    let (mut log, mut fork) = (GuardianLog::new(1), GuardianLog::new(1));
    let mut holder = Holder::start(&log);
    let early = log.intend(&generating("early"));
    fork.append(log.warrant(early).entry.bytes);
    log.grow(5_000);
    let key = holder.key(&mut log, "root").await;
    let size = log.warrant(0).entry.sequence + 5_002;
    fork.grow(4_999);
    for _ in 0..2 {
        let error = holder.client().generate(KeyAlgorithm::P256, "early", &log.warrant_at(early, 1)).await.unwrap_err();
        assert!(error.to_string().contains("the log only grows"), "{error}");
        let bytes = leaf_tbs(&key, 1, 7);
        fork.grow(size - 1 - fork.size());
        let forked = fork.intend(&signing(&key, ToBeSigned::Leaf, &bytes));
        assert_eq!(forked, size - 1);
        let found = refused(&holder, &key, ToBeSigned::Leaf, &bytes, &fork.warrant(forked)).await;
        assert!(found.contains("another root when it had 5002 entries"), "{found}");
        // Beyond that size the fork cannot be told from the log by its size, but the entry was spent as another one.
        fork.grow(1);
        let found = refused(&holder, &key, ToBeSigned::Leaf, &bytes, &fork.warrant(forked)).await;
        assert!(found.contains("was another one when it was spent"), "{found}");
        fork.truncate(size - 1);
        holder.restart();
    }
    // The true log goes on.
    holder.client().generate(KeyAlgorithm::P256, "early", &log.warrant(early)).await.unwrap();
}

#[tokio::test]
async fn a_changed_or_shortened_own_log_keeps_it_from_starting() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let key = holder.key(&mut log, "root").await;
    for n in 0..3 {
        let bytes = leaf_tbs(&key, n, 7);
        let warrant = log.allow(&signing(&key, ToBeSigned::Leaf, &bytes));
        holder.client().sign(Digest::of(&key.spki), ToBeSigned::Leaf, &bytes, &warrant).await.unwrap();
    }
    holder.kill();
    let (path, head) = (holder.path("keys/holder.log"), holder.path("keys/holder.head"));
    let (whole, at) = (fs::read(&path).unwrap(), fs::read(&head).unwrap());
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    let without =
        |n: usize| lines.iter().enumerate().filter(|(i, _)| *i != n).flat_map(|(_, l)| l.to_vec()).collect::<Vec<_>>();
    let mut bent = whole.clone();
    let middle = lines[0].len() + lines[1].len() + 200;
    bent[middle] ^= 1;
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    for (what, contents, why) in [
        ("the last line cut off", without(4), "ends before line 4"),
        ("half of the last line cut off", whole[..whole.len() - 9].to_vec(), "line 4 that does not end"),
        ("a line in the middle taken out", without(2), "does not follow the one before"),
        ("lines swapped", swapped.concat(), "does not follow the one before"),
        ("a byte changed", bent, "somebody else wrote or changed it"),
        ("all but the first line cut off", lines[0].to_vec(), "ends before line 1"),
        ("emptied", Vec::new(), "no whole first line"),
    ] {
        fs::write(&path, contents).unwrap();
        let said = holder.refuses();
        assert!(said.contains(why), "{what}: {said}");
    }
    fs::write(&path, &whole).unwrap();
    let file = fs::File::options().write(true).open(&head).unwrap();
    file.write_all_at(b"keyward holder head 2", 0).unwrap();
    let said = holder.refuses();
    assert!(said.contains("is damaged or was changed"), "{said}");
    fs::write(&head, &at).unwrap();
    fs::rename(&path, path.with_extension("away")).unwrap();
    let said = holder.refuses();
    assert!(said.contains("the log of what they signed is missing"), "{said}");
    fs::rename(path.with_extension("away"), &path).unwrap();
    // What a crash may leave is no change: a line beyond the head that was not finished.
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    file.write_all(&lines[4][..40]).unwrap();
    holder.restart();
    assert_eq!(holder.client().status().await.unwrap().operations, 4);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[tokio::test]
async fn a_new_key_of_the_log_is_taken_from_the_operator_and_of_another_log_never() {
    let log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let mut next = GuardianLog::new(2);
    let warrant = next.allow(&generating("root"));
    let error = holder.client().generate(KeyAlgorithm::P256, "root", &warrant).await.unwrap_err();
    assert!(error.to_string().contains("is not signed by the log"), "{error}");
    fs::write(holder.path("log.pub"), format!("{}\n{}\n", log.key.verifier(), next.key.verifier())).unwrap();
    holder.restart();
    holder.client().generate(KeyAlgorithm::P256, "root", &warrant).await.unwrap();
    let pinned = holder.client().records(1).await.unwrap();
    assert!(pinned[0].line.contains("\"pin\"") && pinned[0].line.contains(&next.key.verifier().to_string()));
    let other = keyward::codec::note::SignerKey::from_seed(
        "keyward/other",
        keyward::codec::note::Signs::Notes,
        zeroize::Zeroizing::new([1; 32]),
    );
    fs::write(holder.path("log.pub"), other.unwrap().verifier().to_string()).unwrap();
    let said = holder.refuses();
    assert!(said.contains("this holder belongs to the log keyward/0123456789abcdef"), "{said}");
}
