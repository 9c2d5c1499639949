//! Somebody else in the directory, and directories of somebody else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyward::domain::inventory::Format;
use keyward::ports::Deployer;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::deploy::{Keys, credential, pairs, plain, production, slot, versioned};

/// Puts links, pipes and directories where the files go, as fast as it can.
fn attack(dir: &Path, victim: &Path, done: &AtomicBool, placed: &AtomicUsize) {
    let names: Vec<String> = ["key.pem", "combined.pem"]
        .into_iter()
        .flat_map(|n| [n.to_owned(), format!(".{n}.keyward-{}", slot(0)), format!(".{n}.keyward-{}", slot(1))])
        .collect();
    for turn in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let path = dir.join(&names[turn % names.len()]);
        // Each may lose the race against the deployer; that is what is tried here.
        drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
        let put = match turn % 5 {
            0 => symlink(victim, &path).is_ok(),
            1 => fs::hard_link(victim, &path).is_ok(),
            2 => mkfifoat(CWD, &path, Mode::from_raw_mode(0o666)).is_ok(),
            3 => fs::DirBuilder::new().mode(0o777).create(&path).is_ok(),
            _ => symlink("/dev/full", &path).is_ok(),
        };
        placed.fetch_add(usize::from(put), Ordering::Relaxed);
    }
}

/// Looks at every file of ours in the directory; its mode must never let anybody else read.
fn watch(dir: &Path, victim: u64, done: &AtomicBool) -> (BTreeSet<u32>, usize) {
    let (mut modes, mut looks) = (BTreeSet::new(), 0);
    while !done.load(Ordering::Relaxed) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let Ok(seen) = fs::symlink_metadata(entry.path()) else { continue };
            if seen.is_file() && seen.ino() != victim {
                modes.insert(seen.mode() & 0o7777);
                looks += 1;
            }
        }
    }
    (modes, looks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_pipes_and_directories_in_the_way_are_never_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
    let victims_number = fs::metadata(&victim).unwrap().ino();

    let keys = Keys::new(pairs(2));
    let deployer = production(&keys);
    let installs = [plain(dir.path(), &[Format::Key, Format::Combined])];
    let (done, placed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let attacker = std::thread::spawn({
        let (dir, victim, done, placed) = (dir.path().to_owned(), victim.clone(), done.clone(), placed.clone());
        move || attack(&dir, &victim, &done, &placed)
    });
    let watcher = std::thread::spawn({
        let (dir, done) = (dir.path().to_owned(), done.clone());
        move || watch(&dir, victims_number, &done)
    });

    let (mut went_well, mut refused) = (0, 0);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let credential = credential();
        let try_once = deployer.install(&credential, &installs, slot((went_well + refused) % 2));
        let result = tokio::time::timeout(Duration::from_secs(20), try_once).await.expect("hangs, perhaps at a pipe");
        match result {
            Ok(()) => went_well += 1,
            Err(e) => {
                refused += 1;
                assert!(!e.0.is_empty());
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
    let (modes, looks) = watcher.join().unwrap();
    let placed = placed.load(Ordering::Relaxed);
    println!("{went_well} installed, {refused} refused, {placed} things in the way, {looks} looks");

    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    let seen = fs::metadata(&victim).unwrap();
    assert_eq!((seen.ino(), seen.mode() & 0o7777), (victims_number, 0o644));
    assert!(modes.iter().all(|m| m & 0o077 == 0), "{modes:?}");
    assert!(went_well + refused > 20 && placed > 100 && looks > 100, "too little happened to prove anything");

    for name in ["key.pem", "combined.pem"] {
        drop(fs::remove_dir(dir.path().join(name)));
        for n in 0..2 {
            drop(fs::remove_dir(dir.path().join(format!(".{name}.keyward-{}", slot(n)))));
        }
    }
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();
    deployer.prune(&credential(), &installs, &[]).await.unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn each_thing_in_the_way_is_replaced_or_refused_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    let keys = Keys::new(pairs(1));
    let deployer = production(&keys);
    let target = dir.path().join("key.pem");
    let installs = [plain(dir.path(), &[Format::Key, Format::Cert])];
    let in_the_way: [(&str, &dyn Fn()); 4] = [
        ("link", &|| symlink(&victim, &target).unwrap()),
        ("hard link", &|| fs::hard_link(&victim, &target).unwrap()),
        ("pipe", &|| mkfifoat(CWD, &target, Mode::from_raw_mode(0o666)).unwrap()),
        ("socket", &|| drop(std::os::unix::net::UnixListener::bind(&target).unwrap())),
    ];
    for (what, put) in in_the_way {
        fs::write(&victim, "precious").unwrap();
        put();
        deployer.install(&credential(), &installs, slot(0)).await.unwrap();
        let seen = fs::symlink_metadata(&target).unwrap();
        assert!(seen.is_file() && seen.mode() & 0o777 == 0o600 && seen.nlink() == 1, "{what}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{what}");
        fs::remove_file(&target).unwrap();
    }
    fs::remove_file(dir.path().join("cert.pem")).unwrap();
    fs::create_dir(dir.path().join("cert.pem")).unwrap();
    let said = deployer.install(&credential(), &installs, slot(0)).await.unwrap_err().0;
    assert!(said.contains("is a directory where a file is expected"), "{said}");
    assert!(!target.exists(), "the key must not be changed when the certificate cannot be");

    let tls = dir.path().join("tls");
    fs::create_dir_all(tls.join("current")).unwrap();
    let said = deployer.install(&credential(), &[versioned(&tls, &[Format::Key])], slot(0)).await.unwrap_err().0;
    assert!(said.contains("a directory stands where a file is expected"), "{said}");
}

#[tokio::test]
async fn a_directory_that_others_can_change_is_not_trusted() {
    assert!(rustix::process::geteuid().is_root(), "owners can be given only as root: run tests/run");
    let keys = Keys::new(pairs(1));
    let deployer = production(&keys);
    let cases: [(&str, u32, u32, u32, Option<&str>); 7] = [
        ("of root, closed", 0, 0, 0o755, None),
        ("of root, group root may write", 0, 0, 0o775, None),
        ("sticky like /tmp", 0, 0, 0o1777, None),
        ("writable by all", 0, 0, 0o757, Some("is writable by every user")),
        ("writable by a foreign group", 0, 33, 0o775, Some("is writable by group 33")),
        ("of somebody else", 33, 0, 0o755, Some("belongs to user 33")),
        ("of somebody else and sticky", 33, 0, 0o1755, Some("belongs to user 33")),
    ];
    for (what, uid, gid, mode, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("parent");
        let tls = parent.join("tls");
        fs::create_dir_all(&tls).unwrap();
        for tested in [&tls, &parent] {
            chown(tested, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(tested, fs::Permissions::from_mode(mode)).unwrap();
            for install in [plain(&tls, &[Format::Key]), versioned(&tls, &[Format::Key])] {
                let result = deployer.install(&credential(), &[install], slot(0)).await;
                match expected {
                    None => result.unwrap(),
                    Some(expected) => {
                        let said = result.unwrap_err().0;
                        assert!(said.contains(expected) && said.contains("chmod go-w"), "{what}: {said}");
                    }
                }
            }
            chown(tested, Some(0), Some(0)).unwrap();
            fs::set_permissions(tested, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_link_on_the_way_is_followed_only_if_root_or_keyward_made_it() {
    assert!(rustix::process::geteuid().is_root(), "owners can be given only as root: run tests/run");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("real/tls")).unwrap();
    let keys = Keys::new(pairs(1));
    let deployer = production(&keys);
    let through = dir.path().join("way");
    let installs = [plain(&through, &[Format::Key])];

    symlink("real/../real/./tls", &through).unwrap();
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();
    assert!(dir.path().join("real/tls/key.pem").exists());

    lchown(&through, Some(33), None).unwrap();
    let said = deployer.install(&credential(), &installs, slot(0)).await.unwrap_err().0;
    assert!(said.contains("a link that user 33 made"), "{said}");

    fs::remove_file(&through).unwrap();
    symlink("way", &through).unwrap();
    let said = deployer.install(&credential(), &installs, slot(0)).await.unwrap_err().0;
    assert!(said.contains("looks like a loop"), "{said}");
}
