//! Every rule of a start (decision 0007), with real directories: what is refused, what is accepted, and what says so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use keyward::adapters::store::{Accept, LogOptions, SqliteStore};
use keyward::domain::time::Timestamp;
use keyward::ports::{Log as _, Store as _, StoreError};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::samples::{at, draft, entries, one, sound_log};
use super::tree::head_of;
use crate::harness::store::{block_on, options, refusal};

/// A state directory and, elsewhere, the lock.
struct Yard {
    root: TempDir,
    accept: BTreeSet<Accept>,
    now: Timestamp,
}

impl Yard {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("volume")).unwrap();
        Self { root, accept: BTreeSet::new(), now: options().now }
    }

    /// With a log of some entries; the store is closed.
    fn with(commits: u64) -> Self {
        let yard = Self::new();
        yard.add(0..commits);
        yard
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn lock(&self) -> PathBuf {
        self.root.path().join("volume/keyward.lock")
    }

    fn options(&self) -> LogOptions {
        LogOptions { lock: Some(self.lock()), accept: self.accept.clone(), now: self.now, ..options() }
    }

    fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.state(), &self.options())
    }

    /// Commits `one(n)` each.
    fn add(&self, numbers: std::ops::Range<u64>) {
        block_on(async {
            let store = self.open().unwrap();
            for n in numbers {
                store.commit(one(n)).await.unwrap();
            }
        });
    }

    /// A copy of the state directory, as a backup makes it.
    fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_files(&self.state(), copy.path());
        copy
    }

    fn put_back(&self, copy: &TempDir) {
        fs::remove_dir_all(self.state()).unwrap();
        fs::create_dir(self.state()).unwrap();
        copy_files(copy.path(), &self.state());
    }

    fn hand(&self) -> Connection {
        Connection::open(self.state().join("keyward.db")).unwrap()
    }

    /// The rule that refuses this log.
    fn refused(&self) -> (&'static str, String) {
        match self.open() {
            Err(StoreError::Distrusted { code, text }) => (code, text),
            other => panic!("it should be refused: {other:?}"),
        }
    }

    /// It is refused by `code` with the way to recover, opens once with `accept`, says so in an entry, and then goes on as
    /// if nothing had been.
    fn accepts(&mut self, code: &str, accept: Accept) -> Value {
        let (seen, text) = self.refused();
        assert_eq!(seen, code, "{text}");
        let name = accept.as_str();
        assert!(text.contains(&format!("keyward doctor --accept {name}")), "{text}");
        assert_eq!(Accept::parse(name), Some(accept));
        for (other, ..) in Accept::ALL.iter().filter(|(other, ..)| *other != accept) {
            self.accept = BTreeSet::from([*other]);
            assert_eq!(self.refused().0, code, "{other:?} is not what was asked");
        }
        self.accept = BTreeSet::from([accept]);
        let said = block_on(async { newest(&self.open().unwrap()).await });
        assert_eq!(said["data"]["code"], "KW6009");
        assert_eq!(said["data"]["facts"]["accepted"], name);
        assert_eq!(said["data"]["facts"]["rule"], code);
        self.accept.clear();
        self.add(900..902);
        block_on(async { sound_log(&self.open().unwrap()).await });
        said
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

async fn newest(store: &SqliteStore) -> Value {
    serde_json::from_slice(&store.entries(None, 1).await.unwrap()[0].bytes).unwrap()
}

#[test]
fn a_new_log_has_a_private_key_a_checkpoint_and_a_lock_that_people_can_read() {
    let yard = Yard::new();
    let note = block_on(async { yard.open().unwrap().checkpoint().await.unwrap().unwrap() });
    assert_eq!(head_of(&note).size, 0);
    let lock = fs::read_to_string(yard.lock()).unwrap();
    assert!(lock.starts_with("keyward audit lock 1\nturn 0\nsha256 ") && lock.contains(&note), "{lock}");
    for file in [yard.lock(), yard.state().join("log.key")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "{}", file.display());
    }
    yard.add(0..3);
    let note = block_on(async { yard.open().unwrap().checkpoint().await.unwrap().unwrap() });
    assert!(fs::read_to_string(yard.lock()).unwrap().contains(&note));
    assert_eq!(note.lines().next(), note.lines().nth(4).and_then(|line| line.split(' ').nth(1)), "{note}");
}

#[test]
fn a_log_keeps_its_name_and_another_configured_one_is_refused() {
    let yard = Yard::new();
    let named = |name: &str| LogOptions { origin: Some(name.to_owned()), ..yard.options() };
    let store = SqliteStore::open(&yard.state(), &named("example.com/keyward")).unwrap();
    let note = block_on(store.checkpoint()).unwrap().unwrap();
    assert!(note.starts_with("example.com/keyward\n0\n"), "{note}");
    drop(store);
    drop(yard.open().unwrap());
    let Err(StoreError::Damaged(text)) = SqliteStore::open(&yard.state(), &named("example.com/other")) else {
        panic!("it should be refused");
    };
    assert!(text.contains("set origin = \"example.com/keyward\""), "{text}");
}

#[test]
fn yesterdays_copy_of_the_state_is_refused_when_the_lock_lies_elsewhere() {
    let mut yard = Yard::with(5);
    let yesterday = yard.copy();
    yard.add(5..9);
    yard.put_back(&yesterday);
    let (code, text) = yard.refused();
    assert!(code == "KW6003" && text.contains("10 entries") && text.contains("has seen 18"), "{text}");
    yard.accepts("KW6003", Accept::RolledBack);
}

#[test]
fn a_database_that_was_deleted_is_refused_as_rolled_back() {
    let yard = Yard::with(2);
    for file in ["keyward.db", "keyward.db-wal", "keyward.db-shm"] {
        fs::remove_file(yard.state().join(file)).ok();
    }
    assert_eq!(yard.refused().0, "KW6003");
}

#[test]
fn a_key_without_a_log_is_no_new_log_and_a_first_start_that_was_cut_off_goes_on() {
    let yard = Yard::with(1);
    fs::remove_file(yard.lock()).unwrap();
    let remove = |files: &[&str]| files.iter().for_each(|file| drop(fs::remove_file(yard.state().join(file))));
    remove(&["keyward.db", "keyward.db-wal", "keyward.db-shm"]);
    let (code, text) = yard.refused();
    assert!(code == "KW6010" && text.contains("move log.key away"), "{text}");
    remove(&["log.key"]);
    // Another log in its place would say that this one was not believed.
    fs::remove_file(yard.root.path().join("volume/keyward.lock.doubt")).unwrap();
    let note = || block_on(yard.open().unwrap().checkpoint()).unwrap().unwrap();
    let first = note();
    // Cut off before the lock: the same log goes on. Cut off before the key: another one begins.
    fs::remove_file(yard.lock()).unwrap();
    assert_eq!(note(), first);
    fs::remove_file(yard.lock()).unwrap();
    remove(&["log.key"]);
    assert_ne!(note(), first);
    yard.add(0..3);
}

#[test]
fn two_histories_signed_with_the_same_key_are_refused_whichever_is_longer() {
    for (ours, theirs) in [(6..8, 16..18), (6..9, 16..18)] {
        let mut yard = Yard::with(5);
        let fork = yard.copy();
        let lock = fs::read(yard.lock()).unwrap();
        yard.add(theirs);
        let seen = fs::read(yard.lock()).unwrap();
        yard.put_back(&fork);
        fs::write(yard.lock(), lock).unwrap();
        yard.add(ours);
        fs::write(yard.lock(), seen).unwrap();
        let (_, text) = yard.refused();
        assert!(text.contains("two histories"), "{text}");
        yard.accepts("KW6002", Accept::Forked);
    }
}

#[test]
fn a_missing_lock_is_refused_with_its_path() {
    let mut yard = Yard::with(2);
    fs::remove_file(yard.lock()).unwrap();
    let (_, text) = yard.refused();
    assert!(text.contains(yard.lock().to_str().unwrap()) && text.contains("mount its volume"), "{text}");
    // The volume is gone altogether.
    fs::remove_dir_all(yard.lock().parent().unwrap()).unwrap();
    assert_eq!(yard.refused().0, "KW6004");
    fs::create_dir(yard.lock().parent().unwrap()).unwrap();
    let said = yard.accepts("KW6004", Accept::LockMissing);
    assert!(said["data"]["facts"]["seen"].as_str().unwrap().contains("is missing"), "{said}");
}

#[test]
fn a_lock_that_is_bent_is_never_taken_for_another_one() {
    let yard = Yard::with(3);
    let (state, whole) = (yard.copy(), fs::read(yard.lock()).unwrap());
    let bend = |places: &[usize]| {
        yard.put_back(&state);
        let mut bytes = whole.clone();
        places.iter().for_each(|place| bytes[*place] ^= 1);
        fs::write(yard.lock(), bytes).unwrap();
        yard.open().map(|store| block_on(store.checkpoint()).unwrap().unwrap())
    };
    let untouched = bend(&[]).unwrap();
    for place in (0..450).step_by(23) {
        // The other slot counts; it may be one behind, and then a tail is accepted.
        for slot in [0, 4_096] {
            let note = bend(&[slot + place]).unwrap();
            assert!(note == untouched || head_of(&note).size == 7, "{note}");
        }
        let both = bend(&[place, 4_096 + place]);
        assert!(matches!(both, Err(StoreError::Distrusted { code: "KW6006", .. })), "{place}: {both:?}");
    }
    for torn in [vec![], vec![0; 8_192], whole[..100].to_vec(), b"\n".repeat(8_192)] {
        fs::write(yard.lock(), torn).unwrap();
        assert_eq!(yard.refused().0, "KW6006");
    }
    let mut yard = yard;
    yard.accepts("KW6006", Accept::LockDamaged);
}

#[test]
fn a_torn_slot_leaves_the_other_and_the_tail_is_accepted_whole() {
    for kept in [0_usize, 100, 300, 511] {
        let yard = Yard::with(4);
        let whole = fs::read(yard.lock()).unwrap();
        let turn = |slot: usize| {
            let text = String::from_utf8_lossy(&whole[slot * 4_096..][..60]).into_owned();
            text.lines().nth(1).and_then(|l| l.strip_prefix("turn ")?.parse::<u64>().ok()).unwrap()
        };
        let newest = usize::from(turn(1) > turn(0));
        let file = fs::File::options().write(true).open(yard.lock()).unwrap();
        file.write_all_at(&vec![0; 4_096 - kept], (newest * 4_096 + kept) as u64).unwrap();
        block_on(async {
            let store = yard.open().unwrap();
            let said = newest_of(&store).await;
            assert_eq!(
                (said["data"]["code"].as_str(), said["data"]["action"].as_str()),
                (Some("KW6008"), Some("audit.accept-tail"))
            );
            assert_eq!(
                (said["data"]["facts"]["acknowledged"].as_str(), said["data"]["facts"]["found"].as_str()),
                (Some("6"), Some("8"))
            );
            drop(store);
            // Once.
            let store = yard.open().unwrap();
            assert_eq!(sound_log(&store).await.len(), 9);
        });
    }
}

async fn newest_of(store: &SqliteStore) -> Value {
    newest(store).await
}

#[test]
fn a_clock_before_the_newest_entry_is_refused() {
    let mut yard = Yard::with(2);
    // The newest entry is that of `one(1)`.
    yard.now = at(1_000_001);
    drop(yard.open().unwrap());
    yard.now = at(1_000_000);
    let (_, text) = yard.refused();
    assert!(text.contains("set the clock"), "{text}");
    let later = yard.now;
    yard.now = at(5);
    assert_eq!(yard.refused().0, "KW6005");
    yard.accept = BTreeSet::from([Accept::ClockBack]);
    drop(yard.open().unwrap());
    yard.accept.clear();
    drop(yard.open().unwrap());
    yard.now = later;
    drop(yard.open().unwrap());
}

#[test]
fn another_installations_lock_or_key_is_refused() {
    let (yard, other) = (Yard::with(2), Yard::with(2));
    let own = fs::read(yard.lock()).unwrap();
    fs::copy(other.lock(), yard.lock()).unwrap();
    let (code, text) = yard.refused();
    assert!(code == "KW6006" && text.contains("not signed by this log's key"), "{text}");
    fs::write(yard.lock(), own).unwrap();
    let key = yard.state().join("log.key");
    let own = fs::read(&key).unwrap();
    fs::copy(other.state().join("log.key"), &key).unwrap();
    let (code, text) = yard.refused();
    assert!(code == "KW6001" && text.contains("not signed by this log's key"), "{text}");
    fs::remove_file(&key).unwrap();
    assert_eq!(yard.refused().0, "KW6007");
    fs::write(&key, &own).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let Err(StoreError::Damaged(text)) = yard.open() else { panic!("an open key was taken") };
    assert!(text.contains("run chmod 0600"), "{text}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, &own[..own.len() - 9]).unwrap();
    let Err(StoreError::Damaged(text)) = yard.open() else { panic!("a torn key was taken") };
    assert!(text.contains("log.key") && !text.contains(&String::from_utf8_lossy(&own)[20..60]), "{text}");
    fs::write(&key, &own).unwrap();
    drop(yard.open().unwrap());
}

#[test]
fn entries_and_checkpoint_that_do_not_agree_are_refused() {
    let yard = Yard::with(200);
    let state = yard.copy();
    for (sql, says) in [
        ("DELETE FROM checkpoint", "no checkpoint"),
        ("DELETE FROM checkpoint WHERE size = 400", "is over 2 entries, and there are 400"),
        ("UPDATE checkpoint SET note = replace(note, 'keyward/', 'keywerd/')", "not signed by this log's key"),
        ("UPDATE checkpoint SET note = 'x'", "is no signed note"),
        ("UPDATE checkpoint SET size = 401 WHERE size = 400", "is over 400 entries"),
        ("DELETE FROM entry WHERE sequence = 399", "is over 400 entries, and there are 399"),
        ("DELETE FROM entry WHERE sequence = 390", "has a gap"),
        ("UPDATE entry SET leaf = zeroblob(32) WHERE sequence = 390", "have root"),
        ("UPDATE entry SET leaf = zeroblob(32) WHERE sequence = 3", "is not what was hashed"),
        ("UPDATE subtree SET hash = zeroblob(32)", "have root"),
        ("DELETE FROM subtree", "run keyward doctor"),
    ] {
        yard.put_back(&state);
        let hand = yard.hand();
        for trigger in ["entry_update", "entry_delete", "checkpoint_update", "checkpoint_delete"] {
            hand.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        hand.execute_batch(sql).unwrap();
        drop(hand);
        let (code, text) = yard.refused();
        assert!(code == "KW6001" && text.contains(says), "{sql}: {text}");
    }
    yard.put_back(&state);
    drop(yard.open().unwrap());
}

#[test]
fn one_checkpoint_an_hour_is_kept() {
    let yard = Yard::new();
    block_on(async {
        let store = yard.open().unwrap();
        for n in 0..10 {
            let mut entry = draft(n, "a");
            // Every twenty minutes, after the start.
            entry.at = yard.now.plus(std::time::Duration::from_secs(n * 1_200));
            store.commit(entries(vec![entry])).await.unwrap();
        }
    });
    let hand = yard.hand();
    let mut statement = hand.prepare("SELECT size, kept FROM checkpoint ORDER BY size").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let rows: Vec<(i64, bool)> = rows.map(Result::unwrap).collect();
    assert_eq!(rows, [(1, true), (4, true), (7, true), (10, true)]);
}

#[test]
fn files_that_are_replaced_or_deleted_under_way_end_all_writing() {
    for (file, replace) in [
        ("state/keyward.db", false),
        ("state/keyward.db", true),
        ("state/keyward.db-wal", false),
        ("volume/keyward.lock", false),
        ("volume/keyward.lock", true),
    ] {
        let yard = Yard::with(1);
        block_on(async {
            let store = yard.open().unwrap();
            store.commit(one(1)).await.unwrap();
            let path = yard.root.path().join(file);
            let copy = path.with_extension("copy");
            fs::copy(&path, &copy).unwrap();
            fs::remove_file(&path).unwrap();
            if replace {
                fs::rename(&copy, &path).unwrap();
            }
            let text = refusal(store.commit(one(2)).await);
            let what = if replace { "was replaced while it was in use" } else { "is gone while it was in use" };
            assert!(
                text.contains(file) && text.contains(what) && text.contains("until keyward is restarted"),
                "{text}"
            );
            refusal(store.commit(one(3)).await);
        });
    }
}

#[test]
fn a_lock_that_somebody_else_advanced_ends_all_writing() {
    let yard = Yard::with(3);
    block_on(async {
        let store = yard.open().unwrap();
        store.commit(one(7)).await.unwrap();
        let file = fs::File::options().write(true).read(true).open(yard.lock()).unwrap();
        let mut slot = vec![0; 4_096];
        file.read_exact_at(&mut slot, 0).unwrap();
        file.write_all_at(&String::from_utf8(slot).unwrap().replace("turn ", "turn 9").into_bytes()[..4_096], 0)
            .unwrap();
        let text = refusal(store.commit(one(8)).await);
        assert!(
            text.contains("something else has written it") && text.contains("until keyward is restarted"),
            "{text}"
        );
        refusal(store.commit(one(9)).await);
    });
}

#[test]
fn a_lock_is_held_by_one_store_and_lies_where_others_cannot_write() {
    let (yard, other) = (Yard::with(1), Yard::new());
    let _open = yard.open().unwrap();
    let shared = LogOptions { lock: Some(yard.lock()), ..other.options() };
    let Err(StoreError::InUse(text)) = SqliteStore::open(&other.state(), &shared) else { panic!("taken twice") };
    assert!(text.contains("keyward.lock"), "{text}");
    let volume = other.root.path().join("volume");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let Err(StoreError::Damaged(text)) = other.open() else { panic!("a lock that others can replace was made") };
    assert!(text.contains("run chmod 0700"), "{text}");
}

#[test]
fn a_database_of_a_build_before_the_log_is_refused_with_how_to_begin_anew() {
    let yard = Yard::with(1);
    yard.hand().pragma_update(None, "user_version", 1).unwrap();
    let Err(StoreError::Damaged(text)) = yard.open() else { panic!("an old schema was taken") };
    assert!(text.contains("to begin anew") && text.contains("keyward.db-wal"), "{text}");
}
