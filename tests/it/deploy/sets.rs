//! Sets change as sets, again and again, and old ones go.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyward::domain::inventory::Format;
use keyward::ports::Deployer;
use rustix::fs::{Mode, OFlags, openat};

use crate::harness::deploy::{Keys, belong_together, credential, pairs, plain, production, slot, text, versioned};

const PAIR: [Format; 2] = [Format::Fullchain, Format::Key];

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_opens_the_directory_once_never_sees_a_mixed_pair() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::new(pairs(200));
    let deployer = production(&keys);
    let installs = [versioned(dir.path(), &PAIR)];
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (done, current) = (done.clone(), dir.path().join("current"));
        move || {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let set = File::open(&current).unwrap();
                let read = |name: &str| {
                    let fd = openat(&set, name, OFlags::RDONLY, Mode::empty()).unwrap();
                    let mut text = String::new();
                    File::from(fd).read_to_string(&mut text).unwrap();
                    text
                };
                let fullchain = read("fullchain.pem");
                assert!(belong_together(&fullchain, &read("key.pem")));
                seen.insert(fullchain);
            }
            seen.len()
        }
    });
    for n in 1..200 {
        deployer.install(&credential(), &installs, slot(n)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap();
    assert!(seen > 5, "the reader saw only {seen} sets, so it proved nothing");
}

#[tokio::test]
async fn installing_again_changes_nothing_and_a_torn_set_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "secret").unwrap();
    let tls = dir.path().join("tls");
    let mut by_link = versioned(&tls, &[Format::Fullchain, Format::Key, Format::Pkcs12]);
    by_link.pkcs12_password_file = Some(text(&password));
    let installs = [by_link, plain(dir.path(), &PAIR)];
    let keys = Keys::new(pairs(1));
    let deployer = production(&keys);
    let inodes = || {
        ["tls/current/key.pem", "tls/current/bundle.p12", "key.pem", "fullchain.pem"]
            .map(|n| fs::metadata(dir.path().join(n)).unwrap().ino())
    };
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();
    let first = inodes();
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();
    assert_eq!(inodes(), first, "what is right stays");

    let version = tls.join(slot(0).to_string());
    let tears: [(&str, &dyn Fn()); 5] = [
        ("cut", &|| fs::write(version.join("key.pem"), "-----BEGIN").unwrap()),
        ("gone", &|| fs::remove_file(version.join("bundle.p12")).unwrap()),
        ("one too many", &|| fs::write(version.join("extra"), "").unwrap()),
        ("readable", &|| {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(version.join("key.pem"), open).unwrap();
        }),
        ("no directory", &|| {
            fs::remove_dir_all(&version).unwrap();
            fs::write(&version, "").unwrap();
        }),
    ];
    for (tear, tear_it) in tears {
        tear_it();
        deployer.install(&credential(), &installs, slot(0)).await.unwrap();
        assert_eq!(names(&version), set(&["bundle.p12", "fullchain.pem", "key.pem"]), "{tear}");
        let read = |n: &str| fs::read_to_string(version.join(n)).unwrap();
        assert!(belong_together(&read("fullchain.pem"), &read("key.pem")), "{tear}");
        assert_eq!(fs::metadata(version.join("key.pem")).unwrap().mode() & 0o777, 0o600, "{tear}");
        assert_eq!(names(&tls), set(&["current", &slot(0).to_string()]), "{tear}: nothing is left over");
    }
}

#[tokio::test]
async fn prune_removes_old_sets_and_leftovers_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let installs = [versioned(&tls, &PAIR), plain(dir.path(), &PAIR)];
    let keys = Keys::new(pairs(4));
    let deployer = production(&keys);
    for n in 0..4 {
        deployer.install(&credential(), &installs, slot(n)).await.unwrap();
    }
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "").unwrap();
    symlink(&outside, tls.join(slot(8).to_string())).unwrap();
    symlink(&outside, tls.join(format!(".keyward-{}", slot(9)))).unwrap();
    fs::create_dir(tls.join("notes")).unwrap();
    fs::create_dir(tls.join(format!(".keyward-{}", slot(7)))).unwrap();
    fs::write(tls.join(format!(".keyward-{}/key.pem", slot(7))), "torn").unwrap();
    symlink(outside.join("precious"), tls.join(slot(0).to_string()).join("link")).unwrap();
    let leftover = dir.path().join(format!(".key.pem.keyward-{}", slot(7)));
    fs::write(&leftover, "torn").unwrap();
    fs::write(dir.path().join(".key.pem.keyward-mine"), "").unwrap();

    // The current set stays even if nobody asks for it.
    deployer.prune(&credential(), &installs, &[slot(2)]).await.unwrap();
    let [two, three, link] = [2, 3, 8].map(|n| slot(n).to_string());
    assert_eq!(names(&tls), set(&["current", "notes", &two, &three, &link]));
    assert!(outside.join("precious").exists());
    assert!(!leftover.exists() && dir.path().join(".key.pem.keyward-mine").exists());
    assert_eq!(fs::read_link(tls.join("current")).unwrap(), Path::new(&three), "relative, so that the tree can move");
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_sets_in_use_and_nothing_half_written() {
    assert!(rustix::process::geteuid().is_root(), "a small disk can be made only as root: run tests/run");
    struct Mounted(tempfile::TempDir);
    impl Drop for Mounted {
        fn drop(&mut self) {
            Command::new("umount").arg(self.0.path()).status().unwrap();
        }
    }
    let dir = Mounted(tempfile::tempdir().unwrap());
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "keyward-test"]).arg(dir.0.path()).status();
    assert!(mount.unwrap().success(), "no tmpfs can be mounted: run the tests where root may");
    let at = dir.0.path();
    let installs = [plain(at, &[Format::Key, Format::Fullchain]), versioned(&at.join("tls"), &PAIR)];
    let keys = Keys::new(pairs(2));
    let deployer = production(&keys);
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();

    // Room for no, one, two and three more files (a page each), but never for all four.
    for pages in 0..4 {
        let filler = at.join("filler");
        let mut length = 64 << 10;
        while fs::write(&filler, vec![0; length]).is_err() {
            length -= 4096;
        }
        fs::write(&filler, vec![0; length - pages * 4096]).unwrap();
        let before = (names(at), names(&at.join("tls")));
        let said = deployer.install(&credential(), &installs, slot(1)).await.unwrap_err().0;
        assert!(said.contains("No space left") && said.contains("free some space"), "{said}");
        assert_eq!((names(at), names(&at.join("tls"))), before, "{pages} pages");
        let current = at.join("tls/current");
        assert_eq!(fs::read_link(&current).unwrap(), Path::new(&slot(0).to_string()));
        for set in [at, &current] {
            let read = |name: &str| fs::read_to_string(set.join(name)).unwrap();
            assert!(belong_together(&read("fullchain.pem"), &read("key.pem")));
        }
        fs::remove_file(&filler).unwrap();
    }
    deployer.install(&credential(), &installs, slot(1)).await.unwrap();
    assert_eq!(fs::read_link(at.join("tls/current")).unwrap(), Path::new(&slot(1).to_string()));
}
