//! Our own log before its witnesses.

use std::fs;
use std::path::Path;
use std::process::Command;

use keyward::codec::note::{Note, VerifierKey};

use crate::harness::witness::{Guard, WitnessProcess, free_address, keyward, witnessed_by};

/// A guardian that has a log, and a witness that knows it.
fn pair(dir: &Path) -> (Guard, WitnessProcess) {
    let mut guard = Guard::new(&dir.join("guard"), "");
    guard.start();
    guard.stop();
    let place = dir.join("witness");
    fs::create_dir_all(&place).unwrap();
    let witness = WitnessProcess::new(&place, "witness.example/w", &guard.keys());
    let rest = witnessed_by(&guard.dir, &[("w", &witness.key, &witness.url())], "");
    guard.configure(&rest);
    (guard, witness)
}

fn copy(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn what_is_written_is_cosigned_kept_and_shown_in_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (mut guard, witness) = pair(dir.path());
    guard.start();
    guard.wait_witnessed("w");
    assert_eq!(guard.metric("keyward_audit_witness_quorum_none"), Some(0));
    assert_eq!(guard.metric("keyward_audit_quorum_tree_size"), Some(guard.size()));
    guard.stop();
    let database = rusqlite::Connection::open(guard.dir.join("state/keyward.db")).unwrap();
    let kept = "SELECT note FROM checkpoint WHERE kept = 1 ORDER BY size DESC";
    let notes: Vec<String> =
        database.prepare(kept).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let key: VerifierKey = witness.key.parse().unwrap();
    let cosigned = |note: &String| key.verify(&note.parse::<Note>().unwrap()).is_ok();
    assert!(notes.iter().any(cosigned), "{notes:?}");
    let changed = database.execute("UPDATE checkpoint SET note = 'x' || note", []);
    assert!(changed.unwrap_err().to_string().contains("a checkpoint is never changed"));
}

#[test]
fn yesterdays_state_is_refused_because_of_the_witness_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut guard, mut witness) = pair(dir.path());
    guard.start();
    guard.wait_witnessed("w");
    guard.stop();
    let (state, yesterday, today) = (guard.dir.join("state"), guard.dir.join("yesterday"), guard.dir.join("today"));
    copy(&state, &yesterday);
    guard.start();
    guard.wait_witnessed("w");
    guard.stop();
    copy(&state, &today);
    // Yesterday's copy has yesterday's lock in it, which agrees with it: only the witness knows better.
    copy(&yesterday, &state);
    guard.spawn();
    guard.wait("the refusal", |g| g.log().contains("KW6401") && g.log().contains("the witness w has cosigned"));
    guard.stop();
    // A witness that is away stops nobody whose lock agrees.
    copy(&today, &state);
    witness.kill();
    guard.start();
    guard.stop();
    // Neither lock nor witness: closed.
    fs::remove_file(state.join("audit.lock")).unwrap();
    guard.spawn();
    guard.wait("the refusal", |g| g.log().contains("KW6004"));
    guard.stop();
    // And with the witness back, the log that went on without it is still the same log.
    copy(&today, &state);
    witness.restart();
    guard.start();
    guard.wait_witnessed("w");
    witness.kill_and_restart();
    guard.wait_witnessed("w");
}

#[test]
fn a_log_that_was_rewritten_is_refused_although_it_is_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut guard, mut witness) = pair(dir.path());
    let (state, before) = (guard.dir.join("state"), guard.dir.join("before"));
    copy(&state, &before);
    guard.start();
    guard.wait_witnessed("w");
    guard.stop();
    let seen = guard.size();
    copy(&before, &state);
    witness.kill();
    while guard.size() <= seen {
        guard.start();
        guard.stop();
    }
    witness.restart();
    guard.spawn();
    guard.wait("the refusal", |g| g.log().contains("KW6402") && g.log().contains("cosigned another log"));
    guard.stop();
}

#[test]
fn two_guardians_witness_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut guards: Vec<Guard> = ["a", "b"].iter().map(|name| Guard::new(&dir.path().join(name), "")).collect();
    let doors = [free_address(), free_address()];
    let mut keys = Vec::new();
    for guard in &mut guards {
        guard.start();
        guard.stop();
        let file = guard.dir.join("witness.key");
        let name = format!("witness.example/{}", guard.dir.file_name().unwrap().to_str().unwrap());
        let made = keyward().args(["witness", "init", "--name", &name, "--key-file"]).arg(&file).output().unwrap();
        assert!(made.status.success());
        keys.push((String::from_utf8(made.stdout).unwrap().trim().to_owned(), guard.keys().remove(0)));
    }
    for n in [0, 1] {
        let other = 1 - n;
        let url = format!("http://{}", doors[other]);
        let own = witnessed_by(&guards[n].dir, &[("other", &keys[other].0, &url)], "quorum other\n");
        let file = guards[n].dir.join("witness.key");
        guards[n].configure(&format!(
            "{own}\n[witness]\nkey_file = {file:?}\nlisten = \"{}\"\nlog = [{{ key = \"{}\" }}]\n",
            doors[n], keys[other].1
        ));
    }
    // The first one finds nobody, and is cosigned as soon as the second is there.
    guards.iter_mut().for_each(Guard::start);
    guards.iter().for_each(|guard| guard.wait_witnessed("other"));
    for guard in &mut guards {
        assert_eq!(guard.metric("keyward_audit_quorum_tree_size"), Some(guard.size()));
        guard.stop();
    }
}

#[test]
fn a_policy_that_cannot_be_used_stops_the_start_and_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut guard = Guard::new(&dir.path().join("guard"), "");
    for (policy, word) in
        [("witness w x\n", "line 1 has the key x"), ("quorum w\n", "line 1 names w"), ("", "say `quorum none`")]
    {
        let rest = witnessed_by(&guard.dir, &[], policy);
        guard.configure(&rest);
        guard.spawn();
        guard.wait("its end", |g| g.log().contains(word));
        let began = std::time::Instant::now();
        while guard.ended().is_none() {
            assert!(began.elapsed() < crate::harness::life::PATIENCE);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(guard.ended(), Some(1));
    }
    let rest = witnessed_by(&guard.dir, &[], "quorum none\n");
    guard.configure(&rest);
    guard.start();
    assert_eq!(guard.metric("keyward_audit_witness_quorum_none"), Some(1));
}

#[test]
fn a_rotated_key_signs_with_the_old_one_until_the_overlap_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut guard, witness) = pair(dir.path());
    guard.start();
    guard.wait_witnessed("w");
    let old = guard.keys();
    let held = keyward().arg("-c").arg(&guard.config).args(["audit", "rotate-key"]).output().unwrap();
    assert_eq!(held.status.code(), Some(1), "the daemon holds the log");
    guard.stop();
    let plan = guard.cli(&["audit", "rotate-key", "--plan"]);
    assert!(plan.contains(&old[0]) && guard.keys() == old, "{plan}");
    let before = guard.size();
    let done = guard.cli(&["audit", "rotate-key"]);
    let both = guard.keys();
    assert!(both.len() == 2 && both[1] == old[0] && done.contains(&both[0]), "{done}");
    assert!(done.contains(&format!("from  size {}", before + 1)), "{done}");
    let again = keyward().arg("-c").arg(&guard.config).args(["audit", "rotate-key"]).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "one rotation at a time");
    // The witness knows the old key only, and goes on while both sign.
    guard.start();
    guard.wait_witnessed("w");
    guard.stop();
    let state = guard.dir.join("state");
    let newest = || -> Note {
        let database = rusqlite::Connection::open(state.join("keyward.db")).unwrap();
        let text: String =
            database.query_row("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1", [], |row| row.get(0)).unwrap();
        text.parse().unwrap()
    };
    let signs = |key: &String| key.parse::<VerifierKey>().unwrap().verify(&newest()).is_ok();
    assert!(signs(&both[0]) && signs(&both[1]));
    assert!(guard.cli(&["audit", "rotate-key", "--end-overlap"]).contains("destroyed"));
    assert!(!state.join("log.key.old").exists() && guard.keys() == both[..1]);
    assert!(signs(&both[0]) && !signs(&both[1]));
    // A witness that was not told the new key does not cosign any more, and says why.
    guard.start();
    guard.wait("the reason", |g| g.metric("keyward_audit_witnessed_tree_size{witness=\"w\"}") == Some(0));
    let found = guard.cli(&["audit", "query", "--code", "KW644", "-o", "json"]);
    assert!(found.contains("KW6440") && found.contains("KW6441") && found.contains("uid:"), "{found}");
    drop(witness);
}
