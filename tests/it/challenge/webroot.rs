//! Files below a document root that belongs to somebody else, or to somebody hostile.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward::adapters::challenge::{SolverKind, Solvers};
use keyward::domain::execution::Fault;
use keyward::ports::{ChallengeKind, ChallengeTask, Solver as _};

use crate::harness::challenge::{id, start, task};

struct Site {
    dir: tempfile::TempDir,
    solvers: Solvers,
    task: ChallengeTask,
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("www")).unwrap();
        fs::create_dir(dir.path().join("victim")).unwrap();
        let solvers = start(SolverKind::Http01Webroot { dir: dir.path().join("www") }).await.unwrap();
        Self { dir, solvers, task: task(ChallengeKind::Http01, "a.example.com", "token-1_X") }
    }
    fn www(&self) -> PathBuf {
        self.dir.path().join("www")
    }
    fn victim(&self) -> PathBuf {
        self.dir.path().join("victim")
    }
    fn challenges(&self) -> PathBuf {
        self.www().join(".well-known/acme-challenge")
    }
    fn file(&self) -> PathBuf {
        self.challenges().join("token-1_X")
    }
}

fn listing(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_response_is_a_whole_readable_file_that_is_gone_after_cleanup() {
    let site = Site::new().await;
    site.solvers.cleanup(&id("s"), &site.task).await.unwrap();
    assert_eq!(listing(&site.www()), Vec::<String>::new(), "a cleanup makes nothing");
    for _ in 0..2 {
        site.solvers.present(&id("s"), &site.task).await.unwrap();
        assert_eq!(fs::read_to_string(site.file()).unwrap(), site.task.key_authorization);
        assert_eq!(fs::metadata(site.file()).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(listing(&site.challenges()), ["token-1_X"], "no temporary file stays");
    }
    site.solvers.cleanup(&id("s"), &site.task).await.unwrap();
    site.solvers.cleanup(&id("s"), &site.task).await.unwrap();
    assert_eq!(listing(&site.challenges()), Vec::<String>::new());
}

#[tokio::test]
async fn a_cleanup_leaves_what_is_not_our_response() {
    let site = Site::new().await;
    fs::create_dir_all(site.challenges()).unwrap();
    let longer = format!("{}x", site.task.key_authorization);
    for other in ["", "somebody else's", &longer] {
        fs::write(site.file(), other).unwrap();
        site.solvers.cleanup(&id("s"), &site.task).await.unwrap();
        assert_eq!(fs::read_to_string(site.file()).unwrap(), other);
    }
}

#[tokio::test]
async fn a_linked_directory_is_refused_and_nothing_is_written_behind_it() {
    for link in [".well-known", ".well-known/acme-challenge"] {
        let site = Site::new().await;
        fs::create_dir_all(site.victim().join("acme-challenge")).unwrap();
        fs::create_dir_all(site.www().join(link).parent().unwrap()).unwrap();
        symlink(site.victim(), site.www().join(link)).unwrap();
        let error = site.solvers.present(&id("s"), &site.task).await.unwrap_err();
        assert_eq!(error.fault, Fault::Host);
        assert!(error.text.contains("a link is not followed"), "{}", error.text);
        assert_eq!(listing(&site.victim()), ["acme-challenge"]);
        assert_eq!(listing(&site.victim().join("acme-challenge")), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_linked_token_is_replaced_and_its_target_stays_as_it_is() {
    let site = Site::new().await;
    fs::create_dir_all(site.challenges()).unwrap();
    let target = site.victim().join("passwd");
    fs::write(&target, &site.task.key_authorization).unwrap();
    symlink(&target, site.file()).unwrap();
    site.solvers.cleanup(&id("s"), &site.task).await.unwrap();
    assert!(target.exists() && site.file().is_symlink(), "a cleanup touches neither link nor target");
    fs::write(&target, "root").unwrap();
    site.solvers.present(&id("s"), &site.task).await.unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "root");
    assert!(!site.file().is_symlink());
    assert_eq!(fs::read_to_string(site.file()).unwrap(), site.task.key_authorization);
}

#[tokio::test]
async fn a_fifo_under_the_tokens_name_holds_nobody_up() {
    let site = Site::new().await;
    fs::create_dir_all(site.challenges()).unwrap();
    let directory = rustix::fs::open(site.challenges(), rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
    rustix::fs::mkfifoat(&directory, "token-1_X", 0o666.into()).unwrap();
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, site.solvers.cleanup(&id("s"), &site.task)).await.expect("in time").unwrap();
    assert!(fs::symlink_metadata(site.file()).unwrap().file_type().is_fifo());
    tokio::time::timeout(limit, site.solvers.present(&id("s"), &site.task)).await.expect("in time").unwrap();
    assert_eq!(fs::read_to_string(site.file()).unwrap(), site.task.key_authorization);
}

#[tokio::test]
async fn a_directory_under_the_tokens_name_is_an_error_and_leaves_no_temporary_file() {
    let site = Site::new().await;
    fs::create_dir_all(site.file()).unwrap();
    let error = site.solvers.present(&id("s"), &site.task).await.unwrap_err();
    assert!(error.text.contains("token-1_X"), "{}", error.text);
    assert_eq!(listing(&site.challenges()), ["token-1_X"]);
}

#[tokio::test]
async fn a_missing_document_root_is_an_error_for_present_and_fine_for_cleanup() {
    let site = Site::new().await;
    fs::remove_dir(site.www()).unwrap();
    let error = site.solvers.present(&id("s"), &site.task).await.unwrap_err();
    assert!(error.text.contains("cannot be opened"), "{}", error.text);
    assert_eq!(site.solvers.cleanup(&id("s"), &site.task).await, Ok(()));
}

/// Swaps every step of the path for a link into the victim's directory and back, as fast as it goes.
fn attack(www: &Path, victim: &Path, stop: &AtomicBool) -> u64 {
    let (outer, kept) = (www.join(".well-known"), www.join("kept"));
    let (inner, kept_inner) = (outer.join("acme-challenge"), outer.join("kept"));
    let token = inner.join("token-1_X");
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        // Each step fails when the solver was faster: that is the game.
        for (path, kept) in [(&outer, &kept), (&inner, &kept_inner)] {
            fs::rename(path, kept).ok();
            symlink(victim, path).ok();
            fs::remove_file(path).ok();
            fs::rename(kept, path).ok();
            // Left over when the solver made a new directory in between.
            fs::remove_dir_all(kept).ok();
        }
        fs::remove_file(&token).ok();
        symlink(victim.join("passwd"), &token).ok();
        rounds += 1;
    }
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_the_document_root_who_swaps_links_for_seconds_gets_no_foreign_write() {
    let site = Site::new().await;
    // The document root is the attacker's, as it often is on shared hosts; the victim's files are not.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(site.www(), Some(65_534), Some(65_534)).unwrap();
    }
    fs::write(site.victim().join("passwd"), "root").unwrap();
    fs::create_dir(site.victim().join("acme-challenge")).unwrap();
    // A write that is cleaned up again leaves no entry, but it leaves its time on the directory.
    let touched = |site: &Site| {
        ["", "acme-challenge", "passwd"].map(|p| fs::metadata(site.victim().join(p)).unwrap().modified().unwrap())
    };
    let before = touched(&site);
    let stop = Arc::new(AtomicBool::new(false));
    let attacker = std::thread::spawn({
        let (www, victim, stop) = (site.www(), site.victim(), stop.clone());
        move || attack(&www, &victim, &stop)
    });
    let (mut placed, mut refused) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        match site.solvers.present(&id("s"), &site.task).await {
            Ok(()) => placed += 1,
            Err(_) => refused += 1,
        }
        site.solvers.cleanup(&id("s"), &site.task).await.ok();
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = attacker.join().unwrap();
    println!("{rounds} rounds of the attacker, {placed} responses placed, {refused} refused");
    assert!(rounds > 100 && placed > 0 && refused > 0, "{rounds} {placed} {refused}");
    assert_eq!(touched(&site), before, "something was written behind a link");
    let mut left = listing(&site.victim());
    left.sort();
    assert_eq!(left, ["acme-challenge", "passwd"]);
    assert_eq!(listing(&site.victim().join("acme-challenge")), Vec::<String>::new());
    assert_eq!(fs::read_to_string(site.victim().join("passwd")).unwrap(), "root");
}
