//! What it does when it may, and what survives a crash.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;

use keyward::codec::holder_log::Record;
use keyward::codec::{keys, tbs};
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::ports::{HeldKey, HolderError, KeyHolder, Operation, PrivateKey, ToBeSigned};

use crate::harness::keyholder::{GuardianLog, Holder, generating, leaf_tbs, list_tbs, opened, root_tbs, signing};

/// Whether a signature is by this key over these bytes.
pub(super) fn verifies(key: &HeldKey, bytes: &[u8], signature: &[u8]) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey};
    let public = tbs::key_bits(&key.spki).unwrap();
    match key.algorithm {
        KeyAlgorithm::P384 => UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, public).verify(bytes, signature).is_ok(),
        KeyAlgorithm::Ed25519 => UnparsedPublicKey::new(&ED25519, public).verify(bytes, signature).is_ok(),
        KeyAlgorithm::P256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public).verify(bytes, signature).is_ok(),
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => false,
    }
}

#[tokio::test]
async fn a_key_is_made_signs_each_kind_and_is_destroyed_and_all_of_it_is_recorded() {
    let mut log = GuardianLog::new(1);
    log.grow(3);
    let holder = Holder::start(&log);
    let client = holder.client();
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519] {
        let label = format!("root {algorithm}");
        let warrant = log.allow(&Operation::Generate { algorithm, label: label.as_str().into() });
        let key = client.generate(algorithm, &label, &warrant).await.unwrap();
        assert_eq!((key.algorithm, &*key.label, key.signatures), (algorithm, &*label, 0));
        for (kind, bytes) in [
            (ToBeSigned::Ca, root_tbs(&key)),
            (ToBeSigned::Leaf, leaf_tbs(&key, 2, 7)),
            (ToBeSigned::RevocationList, list_tbs(&key)),
        ] {
            let warrant = log.allow(&signing(&key, kind, &bytes));
            let signature = client.sign(Digest::of(&key.spki), kind, &bytes, &warrant).await.unwrap();
            assert!(verifies(&key, &bytes, &signature), "{algorithm} {kind:?}");
        }
    }
    let keys = client.keys().await.unwrap();
    assert_eq!(
        keys.iter().map(|k| (&*k.label, k.signatures)).collect::<Vec<_>>(),
        [("root ed25519", 3), ("root p256", 3), ("root p384", 3)]
    );
    let doomed = Digest::of(&keys[0].spki);
    let file = holder.path("keys").join(format!("{doomed}.key"));
    assert_eq!((fs::metadata(&file).unwrap().mode() & 0o7777, opened(&file).is_empty()), (0o600, false));
    client.destroy(doomed, &log.allow(&Operation::Destroy { key: doomed })).await.unwrap();
    assert!(!file.exists());
    assert_eq!(client.keys().await.unwrap().len(), 2);
    let status = client.status().await.unwrap();
    assert_eq!((status.operations, status.log_size), (13, 16));
    let records = client.records(0).await.unwrap();
    assert_eq!(records.iter().map(|r| r.number).collect::<Vec<_>>(), (0..14).collect::<Vec<_>>());
    let mut previous = Digest::of(b"");
    for record in &records {
        let read = Record::read(record.line.as_bytes(), None).unwrap();
        assert_eq!((read.number, read.previous), (record.number, previous));
        previous = Digest::of(record.line.as_bytes());
    }
    assert_eq!(client.records(13).await.unwrap().len(), 1);
    assert_eq!(client.records(14).await.unwrap(), []);
}

#[tokio::test]
async fn an_imported_key_signs_and_opens_with_openssl() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let pkcs8 = keys::generate(KeyAlgorithm::P256).unwrap();
    let key = keyward::codec::signing::SigningKey::read(&pkcs8).unwrap().digest();
    let warrant = log.allow(&Operation::Import { key, label: "old".into() });
    let held = holder.client().import(&PrivateKey(pkcs8.clone()), "old", &warrant).await.unwrap();
    assert_eq!(Digest::of(&held.spki), key);
    // Asked again, it is the same answer; with another warrant it is there already.
    assert_eq!(holder.client().import(&PrivateKey(pkcs8.clone()), "old", &warrant).await.unwrap(), held);
    let again = log.allow(&Operation::Import { key, label: "old".into() });
    let error = holder.client().import(&PrivateKey(pkcs8.clone()), "old", &again).await.unwrap_err();
    assert!(error.to_string().contains("here already"), "{error}");
    let bytes = leaf_tbs(&held, 3, 7);
    let warrant = log.allow(&signing(&held, ToBeSigned::Leaf, &bytes));
    let signature = holder.client().sign(key, ToBeSigned::Leaf, &bytes, &warrant).await.unwrap();
    assert!(verifies(&held, &bytes, &signature));
    let file = holder.path("keys").join(format!("{key}.key"));
    let passphrase = format!("file:{}", holder.path("passphrase").display());
    let openssl = |words: &[&str]| {
        let out =
            std::process::Command::new("openssl").args(words).args(["-passin", &passphrase, "-in"]).arg(&file).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    assert!(openssl(&["pkcs8"]).starts_with(b"-----BEGIN PRIVATE KEY-----"));
    assert_eq!(Digest::of(&openssl(&["pkey", "-pubout", "-outform", "DER"])), key);
}

#[tokio::test]
async fn an_entry_asked_again_gives_the_same_answer_also_after_a_restart() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let making = log.allow(&generating("root"));
    let key = holder.client().generate(KeyAlgorithm::P256, "root", &making).await.unwrap();
    let bytes = leaf_tbs(&key, 4, 7);
    let sequence = log.intend(&signing(&key, ToBeSigned::Leaf, &bytes));
    let id = Digest::of(&key.spki);
    let first = holder.client().sign(id, ToBeSigned::Leaf, &bytes, &log.warrant(sequence)).await.unwrap();
    log.grow(5);
    for _ in 0..2 {
        let again = holder.client().sign(id, ToBeSigned::Leaf, &bytes, &log.warrant(sequence)).await.unwrap();
        assert_eq!(again, first, "ECDSA draws a number: a second signature would be another one");
        let same = holder.client().generate(KeyAlgorithm::P256, "root", &making).await.unwrap();
        assert_eq!(same.spki, key.spki);
        let status = holder.client().status().await.unwrap();
        assert_eq!(status.operations, 2);
        assert_eq!(holder.client().keys().await.unwrap().len(), 1);
        holder.restart();
    }
}

#[tokio::test]
async fn killed_between_its_record_and_its_answer_it_gives_that_answer_afterwards() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let key = holder.key(&mut log, "root").await;
    let bytes = leaf_tbs(&key, 5, 7);
    let (id, warrant) = (Digest::of(&key.spki), log.allow(&signing(&key, ToBeSigned::Leaf, &bytes)));
    let before = holder.client().records(0).await.unwrap().len();
    holder.kill();
    let lines = || fs::read_to_string(holder.path("keys/holder.log")).unwrap().lines().count();
    assert_eq!(lines(), before);
    // Dies as it wants to send the first answer.
    let mut dying =
        Holder::resumed(holder, &["strace", "-f", "-o", "/dev/null", "-e", "inject=sendto:signal=KILL:when=1"]);
    let error = dying.client().sign(id, ToBeSigned::Leaf, &bytes, &warrant).await.unwrap_err();
    assert!(matches!(error, HolderError::Unavailable(_)), "{error}");
    dying.ended();
    let recorded = fs::read_to_string(dying.path("keys/holder.log")).unwrap();
    assert_eq!(recorded.lines().count(), before + 1, "it was recorded before the answer was to leave");
    let record = Record::read(recorded.lines().last().unwrap().as_bytes(), None).unwrap();
    let holder = Holder::resumed(dying, &[]);
    let signature = holder.client().sign(id, ToBeSigned::Leaf, &bytes, &warrant).await.unwrap();
    assert_eq!(signature, record.answer);
    assert!(verifies(&key, &bytes, &signature));
    assert_eq!(holder.client().records(0).await.unwrap().len(), before + 1, "and nothing was signed a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_all_answered_and_recorded_once_each() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let key = holder.key(&mut log, "root").await;
    let client = Arc::new(holder.client());
    let work: Vec<_> = (0..200_u8)
        .map(|n| {
            let bytes = leaf_tbs(&key, n, 7);
            let warrant = log.allow(&signing(&key, ToBeSigned::Leaf, &bytes));
            (bytes, warrant)
        })
        .collect();
    // Each twice, so that the same entry is asked for while it is being answered.
    let tasks: Vec<_> = work
        .iter()
        .chain(&work)
        .map(|(bytes, warrant)| {
            let (client, key, bytes, warrant) = (client.clone(), key.clone(), bytes.clone(), warrant.clone());
            tokio::spawn(async move {
                let id = Digest::of(&key.spki);
                let signature = client.sign(id, ToBeSigned::Leaf, &bytes, &warrant).await.unwrap();
                assert!(verifies(&key, &bytes, &signature));
                signature
            })
        })
        .collect();
    let mut signatures = Vec::new();
    for task in tasks {
        signatures.push(task.await.unwrap());
    }
    let (first, second) = signatures.split_at(200);
    assert_eq!(first, second);
    assert_eq!(client.status().await.unwrap().operations, 201);
    assert_eq!(client.keys().await.unwrap()[0].signatures, 200);
}

#[test]
fn a_signal_that_dumps_core_leaves_none() {
    let log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    rustix::process::kill_process(holder.process(), rustix::process::Signal::ABORT).unwrap();
    let status = holder.ended();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
