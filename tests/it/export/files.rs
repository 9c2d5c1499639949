//! Files of every format, in one run and in many.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{export, exported, files, fill, filled};
use crate::harness::ledger::{Written, draft};
use crate::harness::store::{block_on, open};
use keyward::ports::{Batch, Store};

const FORMATS: [&str; 4] = ["tlog-tiles", "cloudevents", "ocsf", "csv"];

fn empty() -> tempfile::TempDir {
    tempfile::TempDir::new().unwrap()
}

/// The lines of all files in order, without the first of each if that is a heading.
fn lines(dir: &Path, heading: bool) -> Vec<String> {
    let mut all = Vec::new();
    for (name, bytes) in files(dir) {
        if name.starts_with("entries-") {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.ends_with('\n'), "{name}");
            all.extend(text.lines().skip(usize::from(heading)).map(str::to_owned));
        }
    }
    all
}

#[test]
fn an_export_in_many_runs_is_the_same_as_in_one() {
    let log = filled(1);
    let many = FORMATS.map(|_| empty());
    let mut size = 1;
    for next in [1, 300, 9_999, 10_000, 10_001, 20_300] {
        fill(log.path(), size, next, "");
        size = next;
        for (format, dir) in FORMATS.iter().zip(&many) {
            exported(log.path(), format, dir.path());
        }
    }
    let rows = log.rows();
    for (format, many) in FORMATS.iter().zip(&many) {
        let one = empty();
        exported(log.path(), format, one.path());
        let (mut many, one) = (files(many.path()), files(one.path()));
        if *format == "tlog-tiles" {
            // Partial tiles stay until the full one is there.
            let (all, kept) = (many.len(), one.keys().cloned().collect::<Vec<_>>());
            many.retain(|name, _| kept.contains(name) || !name.contains(".p/"));
            assert!(all - many.len() < 10, "{all} {}", many.len());
            assert!(!many.keys().any(|name| name.starts_with("tile/0/001.p")), "{:?}", many.keys());
        }
        assert!(many == one, "{format}: {:?} {:?}", many.keys(), one.keys());
    }
    let bodies: Vec<String> = rows.iter().map(|row| String::from_utf8(row.body.clone()).unwrap()).collect();
    assert!(lines(many[1].path(), false) == bodies);
    let events: Vec<serde_json::Value> =
        lines(many[2].path(), false).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().map(|event| event["raw_data"].as_str().unwrap()).eq(bodies.iter().map(String::as_str)));
    let table = lines(many[3].path(), true);
    assert_eq!(table.len(), bodies.len());
    for (n, line) in table.iter().enumerate() {
        assert!(line.starts_with(&format!("{n},")), "{line}");
    }
    let names: Vec<String> = files(many[3].path()).into_keys().collect();
    let expected = ["entries-000000000000.csv", "entries-000000010000.csv", "entries-000000020000.csv", "export.json"];
    assert_eq!(names, expected);
}

/// A process that is killed at its n-th rename or flush, and then runs again undisturbed.
#[test]
fn an_export_that_is_killed_anywhere_goes_on_and_ends_the_same() {
    let log = filled(20_300);
    for format in FORMATS {
        let whole = empty();
        exported(log.path(), format, whole.path());
        let whole = files(whole.path());
        let mut killed = 0;
        for (calls, whens) in [("rename", [1, 2, 3, 4, 60, 150].as_slice()), ("fsync", &[1, 2, 3, 5, 8, 90, 200])] {
            for when in whens {
                let dir = empty();
                let inject = format!("inject={calls}:signal=KILL:when={when}");
                let status = Command::new("strace")
                    .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject, env!("CARGO_BIN_EXE_keyward")])
                    .args(["audit", "export", "--format", format, "--to"])
                    .arg(dir.path())
                    .arg("--database")
                    .arg(log.path())
                    .output()
                    .expect("strace is missing: run tests/run");
                killed += usize::from(!status.status.success());
                exported(log.path(), format, dir.path());
                let again = files(dir.path());
                assert!(again == whole, "{format}, {inject}: {:?} {:?}", again.keys(), whole.keys());
            }
        }
        assert!(killed >= 5, "{format}: only {killed} were killed");
    }
}

#[test]
fn what_is_no_continuation_is_refused_and_nothing_is_touched() {
    let log = filled(700);
    let (fork, short) = (log.copy(), log.copy());
    fill(log.path(), 700, 900, "one");
    fill(fork.path(), 700, 950, "other");
    let stranger = filled(950);
    for format in FORMATS {
        let dir = empty();
        exported(log.path(), format, dir.path());
        let before = files(dir.path());
        for (other, code, word) in [(&fork, 2, "KW6503"), (&short, 3, "KW6504"), (&stranger, 2, "KW6503")] {
            let (seen, text) = export(other.path(), format, dir.path(), &[]);
            assert!(seen == code && text.contains(word), "{format}: {seen} {text}");
            assert!(files(dir.path()) == before, "{format}: {word}");
        }
        exported(log.path(), format, dir.path());
    }
}

#[test]
fn what_is_not_what_was_signed_is_not_exported() {
    let log = filled(700);
    let cases = [
        ("UPDATE entry SET body = replace(body, 'portal-3', 'portal-4') WHERE sequence = 415", 2, "KW6506"),
        ("UPDATE entry SET leaf = randomblob(32) WHERE sequence = 415", 2, "KW6506"),
        ("DELETE FROM entry WHERE sequence = 415", 4, "KW6505"),
        ("DELETE FROM entry WHERE sequence >= 600", 4, "KW6505"),
        ("UPDATE checkpoint SET note = replace(note, '700', '699') WHERE size = 700", 2, "KW6506"),
        ("DELETE FROM checkpoint", 5, "KW6507"),
    ];
    for (sql, code, word) in cases {
        let bent = log.copy();
        bent.mutilate(sql);
        for format in FORMATS {
            let top = empty();
            let dir = top.path().join("new");
            let (seen, text) = export(bent.path(), format, &dir, &[]);
            assert!(seen == code && text.contains(word), "{sql}: {seen} {text}");
            assert!(!dir.exists(), "{sql}: {format}");
        }
    }
    fs::remove_file(log.path().join("log.key")).unwrap();
    let (code, text) = export(log.path(), "csv", empty().path(), &[]);
    assert!(code == 5 && text.contains("KW6507"), "{code} {text}");
}

#[test]
fn a_place_with_something_else_is_refused() {
    let log = filled(300);
    let dir = empty();
    exported(log.path(), "ocsf", dir.path());
    for format in ["csv", "cloudevents", "tlog-tiles"] {
        let (code, text) = export(log.path(), format, dir.path(), &[]);
        assert!(code == 1 && text.contains("KW6501"), "{format}: {code} {text}");
    }
    let tree = empty();
    exported(log.path(), "tlog-tiles", tree.path());
    let (code, text) = export(log.path(), "csv", tree.path(), &[]);
    assert!(code == 1 && text.contains("KW6501"), "{code} {text}");
    let other = empty();
    fs::write(other.path().join("thesis.tex"), "x").unwrap();
    for format in FORMATS {
        let (code, text) = export(log.path(), format, other.path(), &[]);
        assert!(code == 1 && text.contains("KW6501"), "{format}: {code} {text}");
    }
    // What grows was changed behind our back, or is gone.
    fill(log.path(), 300, 310, "");
    let grows = dir.path().join("entries-000000000000.jsonl");
    let whole = fs::read(&grows).unwrap();
    for bent in [Some(&whole[..whole.len() - 1]), Some(&[b"{".as_slice(), &whole[1..whole.len() - 1], b" "].concat()), None] {
        fs::remove_file(&grows).ok();
        if let Some(bytes) = bent {
            fs::write(&grows, bytes).unwrap();
        }
        let (code, text) = export(log.path(), "ocsf", dir.path(), &[]);
        assert!(code == 1 && text.contains("KW6501"), "{code} {text}");
    }
    fs::write(&grows, &whole).unwrap();
    exported(log.path(), "ocsf", dir.path());
    let tile = tree.path().join("tile/0/001.p/44");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[9] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let (code, text) = export(log.path(), "tlog-tiles", tree.path(), &[]);
    assert!(code == 1 && text.contains("KW6501"), "{code} {text}");
}

#[test]
fn a_plan_writes_nothing_and_an_export_may_begin_anywhere() {
    let log = filled(10_400);
    let top = empty();
    let dir = top.path().join("new");
    let (code, text) = export(log.path(), "csv", &dir, &["--plan"]);
    assert!(code == 0 && text.contains("would write entries 0–10399") && !dir.exists(), "{code} {text}");
    let (code, text) = export(log.path(), "cloudevents", &dir, &["--from", "9990", "-o", "json"]);
    assert!(code == 0 && text.contains("\"entries\": \"410\""), "{code} {text}");
    let (names, bodies): (Vec<_>, Vec<_>) = (files(&dir).into_keys().collect(), log.rows());
    assert_eq!(names, ["entries-000000009990.jsonl", "entries-000000010000.jsonl", "export.json"]);
    assert!(lines(&dir, false).iter().map(String::as_bytes).eq(bodies[9_990..].iter().map(|row| &*row.body)));
    fill(log.path(), 10_400, 10_500, "");
    let (code, text) = export(log.path(), "cloudevents", &dir, &["--from", "3"]);
    assert!(code == 1 && text.contains("KW6510"), "{code} {text}");
    exported(log.path(), "cloudevents", &dir);
    assert_eq!(lines(&dir, false).len(), 510);
    for (format, from) in [("csv", "10501"), ("tlog-tiles", "256")] {
        let (code, text) = export(log.path(), format, &top.path().join("other"), &["--from", from]);
        assert!(code == 1 && text.contains("KW6510"), "{code} {text}");
    }
}

#[test]
fn a_log_is_exported_while_it_is_being_written() {
    let log = Written::new(50);
    let dirs = FORMATS.map(|_| empty());
    block_on(async {
        let store = open(log.path()).unwrap();
        for n in 50..80 {
            store.commit(Batch { changes: Vec::new(), entries: vec![draft(n, "")] }).await.unwrap();
            for (format, dir) in FORMATS.iter().zip(&dirs).skip(n as usize % 4).take(1) {
                exported(log.path(), format, dir.path());
            }
        }
    });
    for (format, dir) in FORMATS.iter().zip(&dirs) {
        exported(log.path(), format, dir.path());
    }
    assert!(lines(dirs[1].path(), false).iter().map(String::as_bytes).eq(log.rows().iter().map(|row| &*row.body)));
}
