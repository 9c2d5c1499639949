//! Frozen once and twice: what is left is whole, and what was taken fits to it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{both, files, fill_now, first, freeze, frozen, written};
use crate::harness::ledger::{Written, keyward};

#[test]
fn a_frozen_log_is_whole_with_its_shards_and_without_them() {
    let (log, to) = (written(1_040), tempfile::TempDir::new().unwrap());
    let all = [to.path().to_owned()];
    both(&log, &[], 0, "entries 0–1039 are proved");
    let one = frozen(log.path(), to.path(), 700, 512);
    both(&log, &[], 0, "KW6121 warning: entries 0–511 are frozen");
    both(&log, &all, 0, "entries 0–1040 are");
    fill_now(log.path(), 2_000, 2_300);
    let two = frozen(log.path(), to.path(), 800, 768);
    fill_now(log.path(), 3_000, 3_010);
    both(&log, &[], 0, "KW6121 warning: entries 0–767 are frozen");
    both(&log, std::slice::from_ref(&two), 0, "KW6121 warning: entries 0–511 are frozen");
    both(&log, &all, 0, "entries 0–1351 are proved");
    both(&log, &[two.clone(), one.clone()], 0, "entries 0–1351 are proved");
    both(&log, std::slice::from_ref(&one), 4, "the shard of the entries 512–767 is missing");
    // The third goes over the entries of the freezes themselves.
    fill_now(log.path(), 4_000, 4_300);
    // An hour has not passed since the last that was kept: a witness may have cosigned this one.
    let keep = "UPDATE checkpoint SET kept = 1 WHERE size = (SELECT max(size) FROM checkpoint)";
    rusqlite::Connection::open(log.path().join("keyward.db")).unwrap().execute_batch(keep).unwrap();
    let three = frozen(log.path(), to.path(), 200_000, 1_536);
    fill_now(log.path(), 5_000, 5_010);
    both(&log, &all, 0, "entries 0–1662 are proved");
    both(&log, &[], 0, "KW6121 warning: entries 0–1535 are frozen");
    both(&log, &[three.clone(), one.clone()], 4, "the shard of the entries 512–767 is missing");
    // Each shard stands for itself.
    let key = log.key().to_string();
    for (shard, say) in
        [(&one, "entries 0–511 are proved"), (&two, "entries 512–767 are"), (&three, "entries 768–1535 are")]
    {
        let shard = shard.to_str().unwrap();
        let (code, text) = keyward(&["audit", "verify", shard, "--key", &key]);
        assert!(code == 0 && text.contains(say), "{say}: {code} {text}");
        let said = crate::harness::ledger::python(&["--key", &key], &[shard.into()]);
        assert_eq!(said[0].0, 0, "{said:?}");
    }
    // The whole tree as static files: the shards laid over each other.
    let tree = tempfile::TempDir::new().unwrap();
    for shard in [&one, &two, &three] {
        for (name, bytes) in files(shard) {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    assert!(tree.path().join("tile/entries/005").exists() && tree.path().join("tile/1/000.p/6").exists());
}

#[test]
fn a_checkpoint_from_before_is_compared_with_the_shards_and_without_them_nothing_is_claimed() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let saved: Vec<PathBuf> = log
        .notes()
        .iter()
        .map(|note| {
            let path = to.path().join(format!("checkpoint.{}", note.size));
            fs::write(&path, &note.note).unwrap();
            path
        })
        .collect();
    let shards = to.path().join("shards");
    frozen(log.path(), &shards, 700, 512);
    let (old, new) = (saved[1].to_str().unwrap(), saved.last().unwrap().to_str().unwrap());
    let (code, text) = log.command(&["--against", old]);
    assert!(code == 5 && text.contains("KW6121 unverifiable"), "{code} {text}");
    let said = crate::harness::ledger::python(&["--against", old], &[log.path().to_owned()]);
    assert_eq!(said[0].0, 5, "{said:?}");
    for more in [vec!["--against", new], vec!["--against", old, "--shard", shards.to_str().unwrap()]] {
        let (code, text) = log.command(&more);
        assert!(code == 0 && text.contains("the checkpoint in"), "{code} {text}");
        let said = crate::harness::ledger::python(&more, &[log.path().to_owned()]);
        assert_eq!(said[0].0, 0, "{said:?}");
    }
}

#[test]
fn a_plan_writes_nothing_and_says_what_holds_it() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let shards = to.path().join("shards");
    let (code, text) = freeze(log.path(), &shards, 30 * 700, &["--plan"]);
    assert!(code == 0 && text.contains("would freeze  entries 0–511") && !shards.exists(), "{code} {text}");
    assert_eq!(first(log.path()), 0);
    for (place, say) in [(200, "entry 200 is not older than"), (0, "entry 0 is not older than")] {
        let (code, text) = freeze(log.path(), &shards, 30 * place, &[]);
        assert!(code == 0 && text.contains("nothing can be frozen") && text.contains(say), "{code} {text}");
    }
    // Entry 1050 announces what nobody concluded; what comes before it may go.
    let (code, text) = freeze(log.path(), &shards, 30 * 1_400, &["--plan", "-o", "json"]);
    assert!(code == 0 && text.contains("\"until\": \"1024\""), "{code} {text}");
    frozen(log.path(), &shards, 1_400, 1_024);
    let (code, text) = freeze(log.path(), &shards, 30 * 1_400, &[]);
    assert!(code == 0 && text.contains("entry 1050 is an intent without an outcome"), "{code} {text}");
    let days = keyward(&[
        "audit",
        "freeze",
        "--database",
        log.path().to_str().unwrap(),
        "--to",
        shards.to_str().unwrap(),
        "--keep-days",
        "36600",
    ]);
    assert!(days.0 == 0 && days.1.contains("nothing can be frozen"), "{days:?}");
    let neither = keyward(&["audit", "freeze", "--to", shards.to_str().unwrap()]);
    assert!(neither.0 == 2 && neither.1.contains("--keep-days"), "{neither:?}");
}

#[test]
fn only_what_a_kept_and_good_checkpoint_covers_is_chosen() {
    use keyward::adapters::store::{Archive, Choice};
    let log = written(1_400);
    let archive = Archive::open(log.path()).unwrap();
    let all = keyward::domain::time::Timestamp::from_unix(i64::MAX / 2);
    let sizes: Vec<u64> = log.notes().iter().map(|note| note.size).collect();
    let good = |most: u64| {
        move |note: &str| {
            let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
            if size <= most { Ok(()) } else { Err("nobody has cosigned it".to_owned()) }
        }
    };
    for most in [400, 700, 1_400] {
        let covered = *sizes.iter().rev().find(|size| **size <= most && **size < 1_400).unwrap();
        let Choice::Run(run) = archive.choose(all, &good(most)).unwrap() else { panic!("{most}") };
        let expected = (covered / 256 * 256).min(1_024);
        assert_eq!((run.from, run.head.size), (0, expected), "{most}: {sizes:?}");
        assert!(run.covered >= expected && sizes.contains(&run.covered) && run.covered <= most);
    }
    let Choice::Nothing(why) = archive.choose(all, &good(0)).unwrap() else { panic!() };
    assert!(
        why.contains("no checkpoint that is kept is good enough") && why.contains("nobody has cosigned it"),
        "{why}"
    );
}

#[test]
fn a_log_that_a_daemon_holds_is_left_alone_and_a_strange_place_too() {
    let (log, to) = (written(600), tempfile::TempDir::new().unwrap());
    let held = crate::harness::store::open(log.path()).unwrap();
    let (code, text) = freeze(log.path(), to.path(), 30 * 600, &[]);
    assert!(code == 1 && text.contains("in use") && text.contains("stop the daemon first"), "{code} {text}");
    drop(held);
    let strange = to.path().join("000000000000-000000000512");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("thesis.tex"), "x").unwrap();
    let log = written(1_000);
    let (code, text) = freeze(log.path(), to.path(), 30 * 700, &[]);
    assert!(code == 1 && text.contains("KW6501") && first(log.path()) == 0, "{code} {text}");
    assert_eq!(files(&strange).len(), 1);
    // A shard of another history with the same name.
    let (one, other, shards) = (written(1_000), written(1_000), to.path().join("shards"));
    let shard = frozen(one.path(), &shards, 700, 512);
    let before = files(&shard);
    fs::write(shards.join("note"), "not a shard, and nobody minds").unwrap();
    let (code, text) = freeze(other.path(), &shards, 30 * 700, &[]);
    assert!(code == 1 && text.contains("another root") && first(other.path()) == 0, "{code} {text}");
    assert!(files(&shard) == before);
}

#[test]
fn what_is_frozen_is_found_by_its_code_and_not_as_if_it_never_was() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let export = |format: &str, dir: &Path, more: &[&str]| {
        let (log, dir) = (log.path().to_str().unwrap(), dir.to_str().unwrap());
        keyward(&[&["audit", "export", "--format", format, "--to", dir, "--database", log], more].concat())
    };
    let place = |name: &str| to.path().join(name);
    assert_eq!(export("tlog-tiles", &place("tiles"), &[]).0, 0);
    assert_eq!(export("csv", &place("csv"), &[]).0, 0);
    frozen(log.path(), &place("shards"), 700, 512);
    let ask = |words: &[&str]| keyward(&[words, &["--database", log.path().to_str().unwrap()]].concat());
    for words in [["audit", "show", "511"], ["audit", "prove", "3"], ["explain", "17", "-q"]]
        .iter()
        .map(|w| if w[0] == "explain" { &w[..2] } else { &w[..] })
    {
        let (code, text) = ask(words);
        assert!(
            code == 1 && text.contains("KW6203") && text.contains("begins with entry 512"),
            "{words:?}: {code} {text}"
        );
    }
    let id = crate::harness::ledger::id(100).to_string();
    let (code, text) = ask(&["audit", "show", &id]);
    assert!(code == 1 && text.contains("KW6202") && text.contains("entries before 512 are frozen"), "{code} {text}");
    assert_eq!(ask(&["audit", "show", "512"]).0, 0);
    let (code, text) = ask(&["audit", "query", "--oldest-first", "--limit", "2", "-o", "jsonl"]);
    assert!(
        code == 0 && text.contains("\"sequence\":\"512\"") && text.contains("entries before 512 are frozen"),
        "{code} {text}"
    );
    let (code, text) = ask(&["audit", "query", "--until", "2026-09-21T14:00:00Z"]);
    assert!(code == 0 && text.contains("no entry is like that"), "{code} {text}");
    let (code, text) = ask(&["audit", "stats"]);
    assert!(code == 0 && text.contains("the first 512") && text.contains("KW6520"), "{code} {text}");
    let (code, text) = ask(&["audit", "query", "--action", "audit.freeze"]);
    assert!(code == 0 && text.contains("1400") && text.contains(&format!("uid:{}", rustix_uid())), "{code} {text}");
    // A proof of what is here holds.
    let proof = place("proof");
    let (code, text) = ask(&["audit", "prove", "512", "--out", proof.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let checked = keyward(&["audit", "check-proof", proof.to_str().unwrap(), "--key", &log.key().to_string()]);
    assert_eq!(checked.0, 0, "{checked:?}");
    // Exports that were up to date go on; a new one says what is not there any more.
    assert_eq!(export("tlog-tiles", &place("tiles"), &[]).0, 0);
    assert_eq!(export("csv", &place("csv"), &[]).0, 0);
    for format in ["tlog-tiles", "csv"] {
        let (code, text) = export(format, &place("new"), &[]);
        assert!(code == 4 && text.contains("KW6505"), "{code} {text}");
    }
    let (code, text) = export("csv", &place("rest"), &["--from", "512"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = export("csv", &place("part"), &["--from", "300"]);
    assert!(code == 4 && text.contains("KW6505"), "{code} {text}");
    whole(&log, &place("shards"));
}

fn rustix_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid()
}

fn whole(log: &Written, shards: &Path) {
    both(log, &[shards.to_owned()], 0, "are proved");
}
