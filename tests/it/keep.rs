//! Keeping the state: backups that are read back, and what is left of a damaged database.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use keyward::adapters::store::LogOptions;
use keyward::domain::state::{LatchOn, State};
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store, StoreError};
use keyward::shell::wire::keep::{self, Accept, Diagnosis, Mend, Secrets, Verdict};
use tempfile::TempDir;

use crate::harness::store::{block_on, open, options, readable};
use crate::replay::history;
use crate::store::samples::{every_change, evidence, full_draft, one, replayed, without_clock};

fn now() -> Timestamp {
    Timestamp::from_unix(2_000_000_100)
}

/// A state directory with some hundred entries, closed, and the state in it.
fn full(dir: &Path) -> State {
    block_on(async {
        let store = open(dir).unwrap();
        for (n, change) in every_change().into_iter().enumerate() {
            let n = n as u64;
            let mut entry = full_draft(20_000 + n, "portal");
            entry.evidence = vec![evidence(&vec![n as u8; 3_000])];
            entry.private = vec![("text", Arc::from(format!("the CA said no, {n} times")))];
            store.commit(Batch { changes: vec![change], entries: vec![entry] }).await.unwrap();
        }
        for n in 0..400 {
            store.commit(one(n)).await.unwrap();
        }
        store.load().await.unwrap()
    })
}

fn look(dir: &Path) -> Diagnosis {
    keep::examine(dir, &options(), Mend::Look, None).unwrap_or_else(|e| panic!("{e}"))
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_backup_is_made_while_the_store_writes_and_is_whole() {
    let (dir, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    full(dir.path());
    let before = look(dir.path()).expected;
    block_on(async {
        let store = Arc::new(open(dir.path()).unwrap());
        let writing = {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 1_000..1_200 {
                    store.commit(one(n)).await.unwrap();
                }
            })
        };
        for n in 0..4 {
            let (from, to) = (dir.path().to_owned(), out.path().join(format!("b{n}")));
            let made = tokio::task::spawn_blocking(move || keep::backup(&from, &to, Secrets::LeftOut, now()));
            let made = made.await.unwrap().unwrap();
            assert_eq!(keep::check(&out.path().join(format!("b{n}"))).unwrap(), made);
            let new = made.entries - before;
            assert!(new.is_multiple_of(2), "a commit has two entries, and {new} were copied");
        }
        writing.await.unwrap();
    });
    for entry in fs::read_dir(out.path().join("b0")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn what_is_restored_is_what_was_and_goes_on_once_a_person_accepts_it() {
    let (dir, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let state = full(dir.path());
    let (backup, to) = (out.path().join("backup"), out.path().join("restored"));
    keep::backup(dir.path(), &backup, Secrets::Included, now()).unwrap();
    assert!(backup.join("log.key").exists() && !backup.join("audit.lock").exists());
    keep::restore(&backup, &to).unwrap();
    let again = keep::restore(&backup, &to).unwrap_err().to_string();
    assert!(again.contains("is there already"), "{again}");
    // The lock did not come along.
    let refused = open(&to).unwrap_err();
    assert!(matches!(refused, StoreError::Distrusted { code: "KW6004", .. }), "{refused}");
    // The lock that survived elsewhere has seen more.
    block_on(async { open(dir.path()).unwrap().commit(one(5_000)).await.unwrap() });
    let elsewhere = LogOptions { lock: Some(dir.path().join("audit.lock")), ..options() };
    let behind = keyward::adapters::store::SqliteStore::open(&to, &elsewhere).unwrap_err();
    assert!(matches!(behind, StoreError::Distrusted { code: "KW6003", .. }), "{behind}");
    let accept = BTreeSet::from([Accept::RolledBack]);
    let by = Some(Arc::from("uid:4711"));
    let accepting = LogOptions { accept, by, ..elsewhere.clone() };
    drop(keyward::adapters::store::SqliteStore::open(&to, &accepting).unwrap());
    block_on(async {
        let store: Arc<dyn Store> = Arc::new(keyward::adapters::store::SqliteStore::open(&to, &elsewhere).unwrap());
        let mut loaded = store.load().await.unwrap();
        assert_eq!(replayed(&store).await, without_clock(loaded.clone()));
        // Its paths stay closed until a person opens them.
        assert!(loaded.latches.remove(&LatchOn::Log).is_some_and(|latch| *latch.code == *"KW6004"));
        assert_eq!(loaded, state);
        let last = readable(&*store).await.pop().unwrap();
        assert_eq!(
            (&last["data"]["action"], &last["data"]["actor"]["subject"]),
            (&"audit.accept".into(), &"uid:4711".into())
        );
        store.commit(one(6_000)).await.unwrap();
    });
}

#[test]
fn a_backup_that_was_changed_is_refused() {
    let (dir, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    full(dir.path());
    let backup = out.path().join("backup");
    keep::backup(dir.path(), &backup, Secrets::Included, now()).unwrap();
    for name in ["keyward.db", "log.key", "manifest.json"] {
        let bad = out.path().join(format!("bad-{name}"));
        copy_dir(&backup, &bad);
        let mut bytes = fs::read(bad.join(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(bad.join(name), bytes).unwrap();
        assert!(keep::check(&bad).is_err(), "{name}");
        let to = out.path().join("to");
        assert!(keep::restore(&bad, &to).is_err() && !to.exists());
    }
    let outside = fs::read_to_string(backup.join("manifest.json")).unwrap().replace("\"log.key\"", "\"../log.key\"");
    fs::write(backup.join("manifest.json"), outside).unwrap();
    assert!(keep::check(&backup).unwrap_err().to_string().contains("outside"));
}

/// Bytes that stand for a private key: they must be found in nothing but a backup with keys.
#[test]
fn private_keys_are_in_a_backup_only_when_asked_for() {
    const CANARY: &[u8] = b"MC4CAQAwBQYDK2VwBCIEICANARYCANARY";
    let (dir, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    full(dir.path());
    for name in ["keys/slot/key.pem", "accounts/ca/key.pem"] {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), CANARY).unwrap();
    }
    let holds = |dir: &Path, needle: &[u8]| {
        let mut found = Vec::new();
        let mut waiting = vec![dir.to_owned()];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            } else if fs::read(&path).unwrap().windows(needle.len()).any(|w| w == needle) {
                found.push(path);
            }
        }
        found.len()
    };
    let log_key = fs::read(dir.path().join("log.key")).unwrap();
    let (without, with) = (out.path().join("without"), out.path().join("with"));
    keep::backup(dir.path(), &without, Secrets::LeftOut, now()).unwrap();
    keep::backup(dir.path(), &with, Secrets::Included, now()).unwrap();
    assert_eq!((holds(&without, CANARY), holds(&without, &log_key)), (0, 0));
    assert_eq!((holds(&with, CANARY), holds(&with, &log_key)), (2, 1));
    assert!(!without.join("log.key").exists());
}

#[test]
fn a_sound_database_is_called_sound_and_nothing_is_changed() {
    let dir = TempDir::new().unwrap();
    full(dir.path());
    let before = fs::read(dir.path().join("keyward.db")).unwrap();
    for mend in [Mend::Look, Mend::Replace] {
        let found = keep::examine(dir.path(), &options(), mend, None).unwrap();
        assert_eq!((found.verdict, &found.findings, &found.unknown), (Verdict::Sound, &vec![], &vec![]), "{mend:?}");
        assert_eq!(found.readable, found.expected);
    }
    assert_eq!(fs::read(dir.path().join("keyward.db")).unwrap(), before);
    assert!(!dir.path().join("keyward.db.rebuilt").exists());
}

#[test]
fn a_sound_history_of_years_is_called_sound() {
    let (world, _) = history(42, 6);
    let dir = TempDir::new().unwrap();
    block_on(async {
        let store = open(dir.path()).unwrap();
        for batch in world.store.written() {
            store.commit(batch).await.unwrap();
        }
    });
    let found = look(dir.path());
    assert_eq!((found.verdict, found.findings), (Verdict::Sound, vec![]));
}

/// The pages of each table and index, by name.
fn pages(path: &Path) -> Vec<(String, u64)> {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = connection.prepare("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn overwrite(path: &Path, page: u64, seed: u8) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let junk: Vec<u8> = (0..u32::try_from(page_size(path)).unwrap())
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect();
    file.write_all_at(&junk, (page - 1) * page_size(path)).unwrap();
}

/// From the header, which stays whole.
fn page_size(path: &Path) -> u64 {
    let header = fs::read(path).unwrap();
    u64::from(u16::from_be_bytes([header[16], header[17]]))
}

#[test]
fn a_lost_page_of_any_table_is_mended_from_the_log_or_named() {
    let whole = TempDir::new().unwrap();
    let state = full(whole.path());
    let mut mended = BTreeSet::new();
    for (name, page) in pages(&whole.path().join("keyward.db")) {
        let dir = TempDir::new().unwrap();
        copy_dir(whole.path(), dir.path());
        let database = dir.path().join("keyward.db");
        overwrite(&database, page, 7);
        println!("{name}: page {page}");
        let damaged = fs::read(&database).unwrap();
        let seen = look(dir.path());
        assert_ne!(seen.verdict, Verdict::Sound, "{name}");
        assert_eq!(fs::read(&database).unwrap(), damaged, "{name}: the damaged file was written to");
        let found = keep::examine(dir.path(), &options(), Mend::Replace, None).unwrap();
        match found.verdict {
            Verdict::Mendable => {
                mended.insert(name.clone());
                let aside = found.set_aside.clone().unwrap();
                assert_eq!(fs::read(aside).unwrap(), damaged, "{name}: the damaged file is kept");
                let again = look(dir.path());
                assert_eq!((again.verdict, &again.findings), (Verdict::Sound, &vec![]), "{name}");
                block_on(async {
                    let store = open(dir.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
                    let texts_known = name != "private" && !name.contains("private");
                    let loaded = store.load().await.unwrap();
                    if texts_known {
                        assert_eq!(without_clock(loaded), without_clock(state.clone()), "{name}");
                    }
                    store.commit(one(9_000)).await.unwrap();
                });
            }
            Verdict::Incomplete => {
                // The root page of the entries, or the only page of the checkpoints that the lock does not know.
                assert!(found.lost.len() as u64 + found.readable >= found.expected || !found.findings.is_empty());
                assert!(found.set_aside.is_none() && fs::read(&database).unwrap() == damaged, "{name}");
            }
            Verdict::Sound => panic!("{name}"),
        }
    }
    for name in
        ["credential", "generation", "attempt", "issuer", "bucket", "automatic", "clock", "subtree", "word", "mark"]
    {
        assert!(mended.contains(name), "{name} was not mended: {mended:?}");
    }
    assert!(mended.contains("checkpoint"), "the lock has the newest checkpoint: {mended:?}");
}

#[test]
fn lost_entries_are_named_with_what_the_index_says_of_them() {
    let whole = TempDir::new().unwrap();
    full(whole.path());
    let database = whole.path().join("keyward.db");
    let size = fs::metadata(&database).unwrap().len() / page_size(&database);
    let (mut with_lost, mut with_words) = (0, 0);
    for step in 0..24 {
        let dir = TempDir::new().unwrap();
        copy_dir(whole.path(), dir.path());
        let database = dir.path().join("keyward.db");
        overwrite(&database, 2 + (step * 7_919) % (size - 1), step as u8);
        let Ok(found) = keep::examine(dir.path(), &options(), Mend::Look, None) else { continue };
        assert_eq!(found.readable + found.lost.len() as u64, found.expected, "{found:?}");
        with_lost += u64::from(!found.lost.is_empty());
        with_words += u64::from(found.lost.iter().any(|l| l.words.iter().any(|w| w.starts_with("code:"))));
        if !found.lost.is_empty() {
            assert_eq!(found.verdict, Verdict::Incomplete);
            let made = keep::examine(dir.path(), &options(), Mend::Replace, None).unwrap();
            let rebuilt = rusqlite::Connection::open(made.rebuilt.unwrap()).unwrap();
            let kept: i64 = rebuilt.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap();
            assert_eq!(kept as u64, found.readable, "nothing was invented and nothing left out");
        }
    }
    assert!(with_lost > 2 && with_words > 2, "{with_lost} {with_words}");
}

#[test]
fn a_truncated_file_and_a_missing_log_of_writes_are_told_apart() {
    let whole = TempDir::new().unwrap();
    full(whole.path());
    let dir = TempDir::new().unwrap();
    copy_dir(whole.path(), dir.path());
    let file = OpenOptions::new().write(true).open(dir.path().join("keyward.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 4_096 / 2 * 4_096).unwrap();
    match keep::examine(dir.path(), &options(), Mend::Look, None) {
        Ok(found) => assert_eq!(found.verdict, Verdict::Incomplete, "{found:?}"),
        Err(error) => assert!(error.to_string().contains("KW6310"), "{error}"),
    }
    // The write-ahead log is gone: the database is an older one, whole in itself, and the lock knows better.
    let dir = TempDir::new().unwrap();
    copy_dir(whole.path(), dir.path());
    block_on(async {
        let store = open(dir.path()).unwrap();
        store.commit(one(7_000)).await.unwrap();
        let copy = TempDir::new().unwrap();
        copy_dir(dir.path(), copy.path());
        fs::remove_file(copy.path().join("keyward.db-wal")).unwrap();
        fs::remove_file(copy.path().join("keyward.db-shm")).ok();
        let found = look(copy.path());
        let codes: Vec<&str> = found.findings.iter().map(|f| f.code).collect();
        assert_eq!(codes, ["KW6317"], "{found:?}");
    });
    let gone = TempDir::new().unwrap();
    let text = keep::examine(gone.path(), &options(), Mend::Look, None).unwrap_err().to_string();
    assert!(text.contains("KW6310"), "{text}");
}

/// The command line over a real state directory.
#[test]
fn the_commands_say_what_they_did_and_exit_accordingly() {
    let home = TempDir::new().unwrap();
    let state = home.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    full(&state);
    let run = |words: &[&str]| {
        let out =
            std::process::Command::new(env!("CARGO_BIN_EXE_keyward")).current_dir(home.path()).args(words).output();
        let out = out.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap(), format!("{}{}", text(&out.stdout), text(&out.stderr)))
    };
    fs::write(home.path().join("keyward.toml"), format!("state_dir = {state:?}\n")).unwrap();
    let (code, said) = run(&["backup", "b", "--plan"]);
    assert!(code == 0 && said.contains("nothing was written") && !home.path().join("b").exists(), "{said}");
    let (code, said) = run(&["backup", "b"]);
    assert!(code == 0 && said.contains("read back to the last entry") && said.contains("no private keys"), "{said}");
    let (code, said) = run(&["backup", "b"]);
    assert!(code == 1 && said.contains("is there already"), "{said}");
    let (code, said) = run(&["restore", "b", "--verify"]);
    assert!(code == 0, "{said}");
    let (code, said) = run(&["restore", "b", "--to", "r"]);
    assert!(code == 0 && said.contains("--accept rolled-back") && said.contains("log.key"), "{said}");
    fs::copy(state.join("log.key"), home.path().join("r/log.key")).unwrap();
    let (code, said) = run(&["doctor", "r", "--accept", "lock-missing", "--accept", "clock-back"]);
    assert!(code == 0, "{said}");
    let (code, said) = run(&["doctor", "r"]);
    assert!(code == 0, "{said}");
    let database = home.path().join("r/keyward.db");
    let page = pages(&database).into_iter().find(|(name, _)| name == "credential").unwrap().1;
    overwrite(&database, page, 3);
    let (code, said) = run(&["doctor", "r"]);
    assert!(code == 3 && said.contains("KW6313") && said.contains("--repair"), "{said}");
    let (code, said) = run(&["doctor", "r", "--repair"]);
    assert!(code == 0 && said.contains("made anew"), "{said}");
    assert_eq!(run(&["doctor", "r"]).0, 0);
    let (code, said) = run(&["doctor", "r", "--accept", "anything"]);
    assert!(code == 2 && said.contains("rolled-back"), "{said}");
}
