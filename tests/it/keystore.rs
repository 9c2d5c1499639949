//! The key store: every key from its making to an accepted chain, each refusal, and hostile directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward::adapters::entropy::OsEntropy;
use keyward::adapters::keystore::FileKeyStore;
use keyward::codec::{pem, verify::Roots};
use keyward::domain::certificate::Trust;
use keyward::domain::id::{AttemptId, IssuerId, Ulid};
use keyward::domain::inventory::KeyReuse;
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::name::NameSet;
use keyward::domain::time::Timestamp;
use keyward::ports::KeyStore;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateSigningRequestDer;

use crate::harness::pki::{Ca, Der, leaf_params, nothing, now, openssl, roots};

struct Room {
    dir: tempfile::TempDir,
    root: Ca,
    middle: Ca,
    store: FileKeyStore,
}

fn open(dir: &Path, own: &[&Der]) -> FileKeyStore {
    let map = BTreeMap::from([(issuer(), roots(own).into())]);
    FileKeyStore::open(&dir.join("keys"), map, Arc::default(), roots(own).into(), Arc::new(OsEntropy)).unwrap()
}

fn room() -> Room {
    let dir = tempfile::tempdir().unwrap();
    let root = Ca::root("R", nothing);
    let middle = root.below("I", nothing);
    let store = open(dir.path(), &[&root.der]);
    Room { dir, root, middle, store }
}

fn issuer() -> IssuerId {
    IssuerId::parse("le").unwrap()
}

fn slot(n: u8) -> AttemptId {
    AttemptId(Ulid::new(now(), [n; 10]))
}

fn names(text: &str) -> NameSet {
    NameSet::parse_key(text).unwrap()
}

impl Room {
    fn path(&self, n: u8, file: &str) -> PathBuf {
        self.dir.path().join("keys").join(slot(n).to_string()).join(file)
    }

    async fn prepare(&self, n: u8, names: &NameSet) -> Result<Vec<u8>, String> {
        let done = self.store.prepare(slot(n), KeyAlgorithm::P256, names, KeyReuse::Fresh, None).await;
        done.map_err(|e| e.0)
    }

    /// What a CA makes of a signing request: its key, and parameters of its own.
    fn issue(&self, csr: &[u8], params: &CertificateParams) -> Vec<Der> {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).unwrap();
        vec![self.middle.sign(params, &csr.public_key), self.middle.der.clone()]
    }

    async fn accept(&self, n: u8, ders: &[Der], names: &NameSet) -> Result<(), String> {
        self.accept_text(n, &pem::certificates(ders), names, now()).await
    }

    async fn accept_text(&self, n: u8, text: &str, names: &NameSet, at: Timestamp) -> Result<(), String> {
        self.store.accept(slot(n), &issuer(), text, names.into(), at).await.map(|_| ()).map_err(|e| e.0)
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn every_kind_of_key_goes_from_its_making_to_an_accepted_chain() {
    let room = room();
    let wanted = names("a.example,*.b.example,192.0.2.1,2001:db8::1");
    for (n, (algorithm, name)) in (1_u8..).zip(KeyAlgorithm::ALL) {
        let csr = room.store.prepare(slot(n), algorithm, &wanted, KeyReuse::Fresh, None).await.unwrap();
        let text = openssl(
            room.path(n, "").as_path(),
            &["req", "-inform", "DER", "-in", "csr.der", "-noout", "-verify", "-text"],
        );
        assert!(text.contains("verify OK"), "{name}: {text}");
        for part in ["DNS:a.example", "DNS:*.b.example", "IP Address:192.0.2.1", "IP Address:2001:DB8:0:0:0:0:0:1"] {
            assert!(text.contains(part), "{name} lacks {part}: {text}");
        }
        for wish in ["Extended Key Usage", "Basic Constraints", "CN ="] {
            assert!(!text.contains(wish), "{name} wishes {wish}: {text}");
        }
        openssl(room.path(n, "").as_path(), &["pkey", "-in", "key.pem", "-noout", "-check"]);
        let ders = room.issue(&csr, &leaf_params(&["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"]));
        let with_root = [ders.as_slice(), std::slice::from_ref(&room.root.der)].concat();
        room.accept(n, &with_root, &wanted).await.unwrap();
        let (chain, text) = room.store.chain(slot(n)).await.unwrap();
        assert_eq!(chain.trust, Trust::Anchored);
        assert_eq!((chain.above.len(), text), (2, pem::certificates(&ders)), "the root is known, but not served");
        let key = room.store.private_key(slot(n)).await.unwrap();
        assert_eq!(pem::private_key(&key.0).as_bytes(), fs::read(room.path(n, "key.pem")).unwrap());
        assert_eq!(format!("{key:?} {:?}", room.store), "PrivateKey(…) FileKeyStore");
    }
    assert_eq!(room.store.slots().await.unwrap(), (1..=6).map(slot).collect::<Vec<_>>());
}

#[tokio::test]
async fn making_a_slot_twice_gives_the_same_request_and_a_torn_one_keeps_its_key() {
    let room = room();
    let wanted = names("a.example");
    let first = room.prepare(1, &wanted).await.unwrap();
    let key = fs::read(room.path(1, "key.pem")).unwrap();
    assert_eq!(room.prepare(1, &wanted).await.unwrap(), first);
    fs::remove_file(room.path(1, "csr.der")).unwrap();
    fs::write(room.path(1, ".new-0123456789abcdef"), b"half").unwrap();
    let again = room.prepare(1, &wanted).await.unwrap();
    assert_eq!(keyward::codec::keys::request_facts(&again), keyward::codec::keys::request_facts(&first));
    assert_eq!(fs::read(room.path(1, "key.pem")).unwrap(), key);
    assert!(!room.path(1, ".new-0123456789abcdef").exists());
    fs::write(room.path(1, "csr.der"), b"torn").unwrap();
    fs::set_permissions(room.path(1, "csr.der"), fs::Permissions::from_mode(0o600)).unwrap();
    room.prepare(1, &wanted).await.unwrap();
    let error = room.prepare(1, &names("b.example")).await.unwrap_err();
    assert!(error.contains("for a.example; expected b.example"), "{error}");
    // A request without its key was never handed out: both are made anew.
    fs::remove_file(room.path(1, "key.pem")).unwrap();
    let new = room.prepare(1, &wanted).await.unwrap();
    assert_ne!(keyward::codec::keys::request_facts(&new), keyward::codec::keys::request_facts(&first));
    assert!(room.prepare(2, &NameSet::default()).await.unwrap_err().contains("at least one name"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_make_one_slot_at_once_get_one_key() {
    let room = room();
    let wanted = names("a.example");
    let all = futures_util::future::join_all((0..16).map(|_| room.prepare(1, &wanted))).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|csr| csr.as_ref().unwrap() == first));
}

#[tokio::test]
async fn a_kept_key_is_the_same_key_if_the_algorithm_is() {
    let room = room();
    let wanted = names("a.example");
    let facts = |csr: &[u8]| keyward::codec::keys::request_facts(csr).unwrap().0;
    let first = facts(&room.prepare(1, &wanted).await.unwrap());
    let with = async |n, algorithm, reuse, previous| {
        room.store.prepare(slot(n), algorithm, &wanted, reuse, previous).await.map(|csr| facts(&csr)).map_err(|e| e.0)
    };
    assert_eq!(with(2, KeyAlgorithm::P256, KeyReuse::Keep, Some(slot(1))).await, Ok(first));
    assert_ne!(with(3, KeyAlgorithm::P256, KeyReuse::Fresh, Some(slot(1))).await, Ok(first));
    assert_ne!(with(4, KeyAlgorithm::P384, KeyReuse::Keep, Some(slot(1))).await, Ok(first));
    assert!(with(5, KeyAlgorithm::P256, KeyReuse::Keep, None).await.is_ok());
    let error = with(6, KeyAlgorithm::P256, KeyReuse::Keep, Some(slot(99))).await.unwrap_err();
    assert!(error.contains("no longer has it"), "{error}");
}

#[tokio::test]
async fn each_wrong_chain_is_refused_with_what_was_seen_and_leaves_the_slot_as_it_was() {
    let room = room();
    let wanted = names("a.example,b.example");
    let csr = room.prepare(1, &wanted).await.unwrap();
    let good = leaf_params(&["a.example", "b.example"]);
    let made = |edit: &dyn Fn(&mut CertificateParams)| {
        let mut params = good.clone();
        edit(&mut params);
        room.issue(&csr, &params)
    };
    let other_key = vec![room.middle.sign(&good, &KeyPair::generate().unwrap()), room.middle.der.clone()];
    let stranger = Ca::root("S", nothing);
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(&*csr)).unwrap();
    let foreign = vec![stranger.sign(&good, &request.public_key)];
    let text = |ders: &[Der]| pem::certificates(ders);
    let whole = text(&made(&|_| {}));
    let cases = [
        (String::new(), "the download is empty"),
        (whole[..whole.len() - 40].to_owned(), "torn"),
        (text(&other_key), "for another key"),
        (
            text(&made(&|p| p.subject_alt_names.truncate(1))),
            "it is for a.example; expected exactly a.example, b.example",
        ),
        (
            text(&made(&|p| p.subject_alt_names.push(SanType::DnsName("c.example".try_into().unwrap())))),
            "c.example; expected exactly",
        ),
        (
            text(&made(&|p| p.subject_alt_names.push(SanType::Rfc822Name("x@y.example".try_into().unwrap())))),
            "email \"x@y.example\"",
        ),
        (text(&made(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])), "lacks serverAuth"),
        (text(&made(&|_| {})[..1]), "intermediate certificate is missing"),
        (text(&foreign), "neither in the chain nor among the roots"),
        (text(&made(&|p| p.not_after = date_time_ymd(2030, 1, 1))), "valid from 2025-01-01T00:00:00Z to 2030-01-01"),
        (text(&made(&|p| p.not_before = date_time_ymd(2031, 1, 1))), "now it is 2030-06-01"),
        (" ".repeat((1 << 20) + 1), "larger than"),
    ];
    for (text, reason) in cases {
        let error = room.accept_text(1, &text, &wanted, now()).await.expect_err(reason);
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(!room.path(1, "chain.pem").exists());
    }
    assert!(room.store.chain(slot(1)).await.unwrap_err().0.contains("no accepted chain"));
    assert!(room.accept(9, &made(&|_| {}), &wanted).await.unwrap_err().contains("no slot"));
    room.accept(1, &made(&|_| {}), &wanted).await.unwrap();
    // A later refusal keeps what was accepted.
    room.accept(1, &other_key, &wanted).await.unwrap_err();
    assert_eq!(room.store.chain(slot(1)).await.unwrap().0.trust, Trust::Anchored);
}

#[tokio::test]
async fn an_expired_root_refuses_the_chain_although_the_library_would_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = Ca::root("R", |p| p.not_after = date_time_ymd(2029, 1, 1));
    let store = open(dir.path(), &[&root.der]);
    let csr = store.prepare(slot(1), KeyAlgorithm::P256, &names("a.example"), KeyReuse::Fresh, None).await.unwrap();
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(&*csr)).unwrap();
    let text = pem::certificates(&[root.sign(&leaf_params(&["a.example"]), &request.public_key)]);
    let error = store.accept(slot(1), &issuer(), &text, (&names("a.example")).into(), now()).await.unwrap_err().0;
    assert!(error.contains("\"CN=R\" is valid from"), "{error}");
}

#[tokio::test]
async fn an_issuer_is_held_to_its_own_roots() {
    let room = room();
    let csr = room.prepare(1, &names("a.example")).await.unwrap();
    let text = pem::certificates(&room.issue(&csr, &leaf_params(&["a.example"])));
    let other = IssuerId::parse("other").unwrap();
    let error = room.store.accept(slot(1), &other, &text, (&names("a.example")).into(), now()).await.unwrap_err().0;
    assert!(error.contains("one of 0 roots for other"), "{error}");
}

#[tokio::test]
async fn modes_are_private_and_survive_a_destroyed_slot() {
    let room = room();
    let csr = room.prepare(1, &names("a.example")).await.unwrap();
    room.accept(1, &room.issue(&csr, &leaf_params(&["a.example"])), &names("a.example")).await.unwrap();
    assert_eq!((mode(&room.dir.path().join("keys")), mode(&room.path(1, ""))), (0o700, 0o700));
    for file in ["key.pem", "csr.der", "chain.pem"] {
        assert_eq!(mode(&room.path(1, file)), 0o600, "{file}");
    }
    room.store.destroy(slot(1)).await.unwrap();
    assert!(!room.path(1, "").exists());
    room.store.destroy(slot(1)).await.unwrap();
    assert!(room.store.private_key(slot(1)).await.unwrap_err().0.contains("no slot"));
    assert_eq!(room.store.slots().await.unwrap(), []);
}

/// In a process of its own, because the umask is one for all threads.
#[test]
fn under_any_umask_a_key_is_0600() {
    for umask in ["000", "777", "027"] {
        let test = std::env::current_exe().unwrap();
        let script =
            format!(r#"umask {umask}; exec "$0" --exact keystore::modes_are_private_and_survive_a_destroyed_slot"#);
        // The temporary directory of the test itself must stay usable under umask 777, which root may do.
        let out = std::process::Command::new("sh").arg("-c").arg(script).arg(test).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("1 passed"), "umask {umask}: {text}");
    }
}

#[tokio::test]
async fn links_pipes_and_foreign_modes_in_a_slot_are_refused() {
    let room = room();
    let wanted = names("a.example");
    let outside = room.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, room.dir.path().join("keys").join(slot(1).to_string())).unwrap();
    assert!(room.prepare(1, &wanted).await.unwrap_err().contains("link"));
    assert!(room.store.destroy(slot(1)).await.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(room.store.slots().await.unwrap(), [], "a link is no slot");

    let victim = room.dir.path().join("victim");
    for (n, kind) in [(2, "symbolic link"), (3, "hard links"), (4, "no plain file"), (5, "mode 644"), (6, "PKCS#8")] {
        room.prepare(n, &wanted).await.unwrap();
        let key = room.path(n, "key.pem");
        fs::rename(&key, &victim).unwrap();
        match n {
            2 => symlink(&victim, &key).unwrap(),
            3 => fs::hard_link(&victim, &key).unwrap(),
            4 => assert!(std::process::Command::new("mkfifo").arg(&key).status().unwrap().success()),
            _ => {
                fs::write(&key, if n == 5 { fs::read(&victim).unwrap() } else { b"x".to_vec() }).unwrap();
                let open = if n == 5 { 0o644 } else { 0o600 };
                fs::set_permissions(&key, fs::Permissions::from_mode(open)).unwrap();
            }
        }
        let before = fs::read(&victim).unwrap();
        for error in [room.prepare(n, &wanted).await.unwrap_err(), room.store.private_key(slot(n)).await.unwrap_err().0]
        {
            assert!(error.contains(kind), "{kind}: {error}");
        }
        assert_eq!(fs::read(&victim).unwrap(), before);
    }
    let linked = room.dir.path().join("linked");
    symlink(&outside, &linked).unwrap();
    let opened =
        FileKeyStore::open(&linked, BTreeMap::new(), Arc::default(), Roots::default().into(), Arc::new(OsEntropy));
    assert!(opened.unwrap_err().0.contains("link"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attacker_who_swaps_links_all_the_time_gets_no_foreign_write() {
    let room = room();
    let wanted = names("a.example");
    let outside = room.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let keys = room.dir.path().join("keys");
    let stop = Arc::new(AtomicBool::new(false));
    let attacker = {
        let (stop, outside) = (Arc::clone(&stop), outside.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for n in 0..8 {
                    let path = keys.join(slot(n).to_string());
                    // Whichever of these wins a race does not matter; only what ends up outside does.
                    drop(symlink(&outside, &path));
                    drop(symlink(outside.join("stolen"), path.join("key.pem")));
                    drop(symlink(outside.join("stolen"), path.join("csr.der")));
                    drop(fs::remove_file(&path));
                }
            }
        })
    };
    for round in 0..200_u8 {
        drop(room.prepare(round % 8, &wanted).await);
        drop(room.store.destroy(slot(round % 8)).await);
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
    // The attacker's own links may have ended up there; a file could only be ours.
    let entries = fs::read_dir(&outside).unwrap().map(Result::unwrap);
    let found: Vec<_> = entries.filter(|e| !e.file_type().unwrap().is_symlink()).map(|e| e.path()).collect();
    assert_eq!(found, Vec::<PathBuf>::new(), "something was written outside the key store");
}
