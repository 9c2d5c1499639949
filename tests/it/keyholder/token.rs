//! Keys in a token: SoftHSM2.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keyward::codec::keys;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::ports::{KeyHolder, Operation, PrivateKey, ToBeSigned};

use super::answers::verifies;
use crate::harness::keyholder::{GuardianLog, Holder, USER, leaf_tbs, list_tbs, root_tbs, signing, uid};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "123456";

/// A token of the holder's user, below its directory.
struct Tokens {
    conf: PathBuf,
    store: PathBuf,
}

fn tokens(holder: &Holder) -> Tokens {
    let (conf, store) = (holder.path("softhsm2.conf"), holder.path("tokens"));
    fs::create_dir(&store).unwrap();
    fs::write(
        &conf,
        format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", store.display()),
    )
    .unwrap();
    fs::write(holder.path("pin"), format!("{PIN}\n")).unwrap();
    for path in [&store, &holder.path("pin")] {
        std::os::unix::fs::chown(path, Some(uid(USER)), None).unwrap();
    }
    fs::set_permissions(holder.path("pin"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let made = Command::new("setpriv")
        .args([
            "--reuid",
            USER,
            "--clear-groups",
            "--",
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "keyward",
        ])
        .args(["--so-pin", "12345678", "--pin", PIN])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "softhsm2 is not installed, run tests/run: {said}");
    Tokens { conf, store }
}

#[tokio::test]
async fn keys_are_made_in_the_token_sign_and_never_leave_it() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::prepared(&log, &[]);
    let own = tokens(&holder);
    let (pin, store) = (holder.path("pin").display().to_string(), own.store.display().to_string());
    let words = |label: &'static str| {
        ["--pkcs11-module", MODULE, "--pkcs11-token", label, "--pkcs11-pin-file", &pin, "--pkcs11-path", &store]
            .map(str::to_owned)
            .to_vec()
    };
    let say = |holder: &mut Holder, label| {
        let words = words(label);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--require-confinement"]).collect();
        holder.say_instead(&words, Some(("SOFTHSM2_CONF", &own.conf)));
    };
    say(&mut holder, "keyward");
    holder.restart();
    let mut made = Vec::new();
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let label = format!("root {algorithm}");
        let warrant = log.allow(&Operation::Generate { algorithm, label: label.as_str().into() });
        let key = holder.client().generate(algorithm, &label, &warrant).await.unwrap();
        assert_eq!(key.algorithm, algorithm);
        made.push(key);
    }
    for _ in 0..2 {
        for key in &made {
            for (kind, bytes) in [
                (ToBeSigned::Ca, root_tbs(key)),
                (ToBeSigned::Leaf, leaf_tbs(key, 2, 7)),
                (ToBeSigned::RevocationList, list_tbs(key)),
            ] {
                let warrant = log.allow(&signing(key, kind, &bytes));
                let signature = holder.client().sign(Digest::of(&key.spki), kind, &bytes, &warrant).await.unwrap();
                assert!(verifies(key, &bytes, &signature), "{kind:?}");
            }
        }
        // The keys are found again.
        holder.restart();
    }
    let names: Vec<String> =
        fs::read_dir(holder.path("keys")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.ends_with(".key")), "{names:?}");
    // What is made elsewhere does not come in, and what the token cannot make is refused.
    let pkcs8 = keys::generate(KeyAlgorithm::P256).unwrap();
    let key = keyward::codec::signing::SigningKey::read(&pkcs8).unwrap().digest();
    let warrant = log.allow(&Operation::Import { key, label: "x".into() });
    let error = holder.client().import(&PrivateKey(pkcs8), "x", &warrant).await.unwrap_err();
    assert!(error.to_string().contains("made in the token"), "{error}");
    let warrant = log.allow(&Operation::Generate { algorithm: KeyAlgorithm::Ed25519, label: "x".into() });
    let error = holder.client().generate(KeyAlgorithm::Ed25519, "x", &warrant).await.unwrap_err();
    assert!(error.to_string().contains("makes p256 and p384"), "{error}");
    // Destroyed, it is gone from the token too.
    let id = Digest::of(&made[0].spki);
    holder.client().destroy(id, &log.allow(&Operation::Destroy { key: id })).await.unwrap();
    let bytes = leaf_tbs(&made[0], 3, 7);
    let warrant = log.allow(&signing(&made[0], ToBeSigned::Leaf, &bytes));
    let error = holder.client().sign(id, ToBeSigned::Leaf, &bytes, &warrant).await.unwrap_err();
    assert!(error.to_string().contains("there is no key"), "{error}");
    let objects = fs::read_dir(fs::read_dir(&own.store).unwrap().next().unwrap().unwrap().path()).unwrap();
    let objects = objects.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".object")).count();
    // The token's own, and the two halves of the one key that is left.
    assert_eq!(objects, 3);
    say(&mut holder, "another");
    let said = holder.refuses();
    assert!(said.contains("exactly one token"), "{said}");
    fs::write(holder.path("pin"), "000000\n").unwrap();
    say(&mut holder, "keyward");
    let said = holder.refuses();
    assert!(said.contains("does not take the PIN"), "{said}");
}
