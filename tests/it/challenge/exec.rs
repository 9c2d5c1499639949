//! dns-01 by a command.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::domain::execution::Fault;
use keyward::ports::{ChallengeKind, Solver as _};

use super::by_command;
use crate::harness::challenge::{id, start, task, until};

const LIMIT: Duration = Duration::from_secs(10);

fn sh(script: &str) -> [&str; 4] {
    ["/bin/sh", "-c", script, "hook"]
}

#[tokio::test]
async fn a_command_gets_the_challenge_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("cd {}; env -0 > $1.env; echo \"$#\" > $1.count; cat > $1.stdin", dir.path().display());
    let solvers = start(by_command(&sh(&script), LIMIT)).await.unwrap();
    let task = task(ChallengeKind::Dns01, "a.example.com", "tok-1");
    solvers.present(&id("s"), &task).await.unwrap();
    solvers.cleanup(&id("s"), &task).await.unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, task.key_authorization.as_bytes());
    for action in ["present", "cleanup"] {
        let read = |what: &str| fs::read_to_string(dir.path().join(format!("{action}.{what}"))).unwrap();
        let environment = read("env");
        let mut seen: BTreeMap<&str, &str> =
            environment.split_terminator('\0').map(|l| l.split_once('=').unwrap()).collect();
        // The shell sets these by itself.
        for own in ["PWD", "OLDPWD", "SHLVL", "_"] {
            seen.remove(own);
        }
        let value = URL_SAFE_NO_PAD.encode(digest);
        let expected = BTreeMap::from([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("KEYWARD_CHALLENGE_KIND", "dns-01"),
            ("KEYWARD_CHALLENGE_NAME", "a.example.com"),
            ("KEYWARD_CHALLENGE_RECORD", "_acme-challenge.a.example.com"),
            ("KEYWARD_CHALLENGE_VALUE", &value),
            ("KEYWARD_CHALLENGE_TOKEN", "tok-1"),
        ]);
        assert_eq!(seen, expected);
        assert_eq!((read("count").trim(), &*read("stdin")), ("1", ""));
    }
}

#[tokio::test]
async fn a_cleanup_runs_the_command_even_if_nothing_was_presented_since_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("echo $KEYWARD_CHALLENGE_VALUE > {}/$1", dir.path().display());
    let solvers = start(by_command(&sh(&script), LIMIT)).await.unwrap();
    solvers.cleanup(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("cleanup")).unwrap().trim().len(), 43);
}

#[tokio::test]
async fn an_exit_code_is_an_error_with_the_last_lines_of_a_bounded_output() {
    let script = "yes noise | head -c 30000000; echo 'zone is \u{1b}[31mlocked' >&2; exit 3";
    let solvers = start(by_command(&sh(script), LIMIT)).await.unwrap();
    let error = solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap_err();
    assert_eq!(error.fault, Fault::Host);
    assert!(error.text.contains("exit status: 3") && error.text.contains("locked"), "{}", error.text);
    assert!(error.text.len() < 2_000, "{}", error.text.len());
    assert!(!error.text.contains('\u{1b}'), "control characters must be escaped: {}", error.text);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_the_hosts_fault() {
    let solvers = start(by_command(&["/nonexistent/hook"], LIMIT)).await.unwrap();
    let error = solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap_err();
    assert!(error.text.contains("/nonexistent/hook cannot be started"), "{}", error.text);
}

/// Gone, or a zombie that nobody has waited for yet.
fn is_dead(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.rsplit(')').next().unwrap().starts_with(" Z"))
}

async fn read_pids(file: &std::path::Path) -> Vec<u32> {
    until("the pids", LIMIT, || async {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
        (pids.len() == 2).then_some(pids)
    })
    .await
}

#[tokio::test]
async fn at_the_timeout_the_whole_process_group_dies() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script =
        format!("trap '' TERM HUP; echo started; sleep 300 & echo $! > {0}; echo $$ >> {0}; wait", file.display());
    let solvers = start(by_command(&sh(&script), Duration::from_secs(1))).await.unwrap();
    let began = Instant::now();
    let error = solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(error.text.contains("was killed after 1 s") && error.text.contains("started"), "{}", error.text);
    for pid in read_pids(&file).await {
        until("the end of the group", LIMIT, || async { is_dead(pid).then_some(()) }).await;
    }
}

#[tokio::test]
async fn when_the_caller_gives_up_the_whole_process_group_dies_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = format!("sleep 300 & echo $! > {0}; echo $$ >> {0}; wait", file.display());
    let solvers = start(by_command(&sh(&script), Duration::from_secs(60))).await.unwrap();
    let (solver, task) = (id("s"), task(ChallengeKind::Dns01, "a.example.com", "t"));
    let pids = tokio::select! {
        ended = solvers.present(&solver, &task) => panic!("{ended:?}"),
        pids = read_pids(&file) => pids,
    };
    for pid in pids {
        until("the end of the group", LIMIT, || async { is_dead(pid).then_some(()) }).await;
    }
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_it_up() {
    let solvers = start(by_command(&sh("sleep 8 & exit 0"), LIMIT)).await.unwrap();
    let began = Instant::now();
    solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
