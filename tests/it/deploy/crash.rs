//! Killed at every step, then started again.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use keyward::domain::inventory::{Format, Install};
use keyward::ports::Deployer;

use crate::harness::deploy::{Keys, Pair, belong_together, credential, pairs, plain, production, slot, versioned};

/// Where a child finds its work.
const DIR: &str = "KEYWARD_TEST_CRASH_DIR";
const PAIR: [Format; 2] = [Format::Fullchain, Format::Key];
/// The system calls that change or settle what is on disk.
const STEPS: [&str; 7] = ["mkdirat", "fchmod", "write", "fsync", "renameat2", "renameat", "symlinkat"];

fn keys(dir: &Path) -> Arc<Keys> {
    let read = |n: u32, what: &str| fs::read(dir.join(format!("{n}.{what}"))).unwrap();
    let pair = |n| Pair { chain: String::from_utf8(read(n, "chain")).unwrap(), key: read(n, "key") };
    Keys::new([pair(0), pair(1)])
}

fn installs(dir: &Path) -> [Install; 2] {
    [versioned(&dir.join("tls"), &PAIR), plain(dir, &PAIR)]
}

fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (n, pair) in pairs(2).into_iter().enumerate() {
        fs::write(dir.path().join(format!("{n}.chain")), pair.chain).unwrap();
        fs::write(dir.path().join(format!("{n}.key")), pair.key).unwrap();
    }
    dir
}

/// The leaves of a set before and after, told by the slot's file.
fn which(dir: &Path, set: &Path) -> (u32, u32) {
    let keys = keys(dir);
    let read = |name: &str| fs::read_to_string(set.join(name)).unwrap();
    let (fullchain, key) = (read("fullchain.pem"), read("key.pem"));
    let owner_of = |is: &dyn Fn(&Pair) -> bool| (0..2).find(|n| is(&keys.0[&slot(*n)])).expect("neither old nor new");
    let certificate = owner_of(&|p| crate::harness::deploy::ders(&p.chain) == crate::harness::deploy::ders(&fullchain));
    (certificate, owner_of(&|p| belong_together(&p.chain, &key)))
}

/// Installs the second pair over the first: by itself, and as the child that the test below kills.
#[tokio::test]
async fn the_second_pair_replaces_the_first() {
    let own = std::env::var_os(DIR).is_none().then(workplace);
    let dir = own.as_ref().map_or_else(|| PathBuf::from(std::env::var_os(DIR).unwrap()), |d| d.path().to_owned());
    let deployer = production(&keys(&dir));
    if own.is_some() {
        deployer.install(&credential(), &installs(&dir), slot(0)).await.unwrap();
    }
    deployer.install(&credential(), &installs(&dir), slot(1)).await.unwrap();
    assert_eq!((which(&dir, &dir), which(&dir, &dir.join("tls/current"))), ((1, 1), (1, 1)));
}

/// Runs the test above on `dir` with one of its system calls replaced by a fault.
fn disturbed_child(dir: &Path, step: &str, fault: &str) -> ExitStatus {
    Command::new("strace")
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("trace={step}")])
        .args(["-e", &format!("inject={step}:{fault}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "deploy::crash::the_second_pair_replaces_the_first"])
        .env(DIR, dir)
        .output()
        .expect("strace is missing: run tests/run")
        .status
}

#[tokio::test]
async fn a_disk_that_fails_to_sync_is_an_error_each_time_and_never_a_mixed_set() {
    let mut failed = 0;
    for nth in 1.. {
        assert!(nth < 60, "fsync never ends");
        let dir = workplace();
        let dir = dir.path();
        let deployer = production(&keys(dir));
        deployer.install(&credential(), &installs(dir), slot(0)).await.unwrap();
        let status = disturbed_child(dir, "fsync", &format!("error=EIO:when={nth}"));
        if status.success() {
            break;
        }
        assert_eq!(status.code(), Some(101), "fsync {nth}: the child's test fails because the install did");
        failed += 1;
        let by_link = which(dir, &dir.join("tls/current"));
        assert!(by_link == (0, 0) || by_link == (1, 1), "fsync {nth}: mixed {by_link:?}");
        deployer.install(&credential(), &installs(dir), slot(1)).await.unwrap();
        assert_eq!((which(dir, dir), which(dir, &dir.join("tls/current"))), ((1, 1), (1, 1)), "fsync {nth}");
    }
    // Two files and a directory and its name; two files; the link; two plain names.
    assert_eq!(failed, 9, "every sync counts");
}

#[tokio::test]
async fn killed_at_any_step_the_sets_are_old_or_new_and_installing_again_completes_them() {
    let (mut killed, mut halves) = (0, 0);
    for step in STEPS {
        for nth in 1.. {
            assert!(nth < 60, "{step} never ends");
            let dir = workplace();
            let dir = dir.path();
            let deployer = production(&keys(dir));
            deployer.install(&credential(), &installs(dir), slot(0)).await.unwrap();
            let status = disturbed_child(dir, step, &format!("signal=KILL:when={nth}"));
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "{step} {nth}: {status}");
            killed += 1;

            let by_link = which(dir, &dir.join("tls/current"));
            assert!(by_link == (0, 0) || by_link == (1, 1), "{step} {nth}: mixed {by_link:?}");
            let by_path = which(dir, dir);
            assert_ne!(by_path, (1, 0), "{step} {nth}: the certificate is the mark of completion and comes last");
            halves += u32::from(by_path == (0, 1));

            let deployer = production(&keys(dir));
            deployer.install(&credential(), &installs(dir), slot(1)).await.unwrap();
            deployer.prune(&credential(), &installs(dir), &[slot(1)]).await.unwrap();
            assert_eq!((which(dir, dir), which(dir, &dir.join("tls/current"))), ((1, 1), (1, 1)), "{step} {nth}");
            let left = |dir: &Path| fs::read_dir(dir).unwrap().count();
            assert_eq!((left(dir), left(&dir.join("tls"))), (4 + 2 + 1, 2), "{step} {nth}: something is left over");
        }
    }
    println!("killed {killed} times, {halves} times between two plain files");
    assert!(killed > 20 && halves > 0, "killed only {killed} times, {halves} in between: this proved too little");
}
