//! The command where a log lies: beside its writer, on what cannot be written, and where there is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::harness::ledger::{Written, append, draft, keyward, python};
use crate::harness::store::{SmallDisk, block_on, open};
use keyward::ports::{Batch, Store};

/// Every file with its bytes and the time of its last change.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let look = |entry: Result<fs::DirEntry, std::io::Error>| {
        let entry = entry.unwrap();
        let changed = entry.metadata().unwrap().modified().unwrap();
        (entry.file_name().into_string().unwrap(), (fs::read(entry.path()).unwrap(), changed))
    };
    fs::read_dir(dir).unwrap().map(look).collect()
}

#[test]
fn a_log_that_nobody_touched_is_whole_and_stays_untouched() {
    let log = Written::new(300);
    let before = files(log.path());
    let (code, text) = log.command(&[]);
    assert_eq!(code, 0, "{text}");
    for say in ["entries 0–299 are proved by the checkpoint of size 300", "which lies beside the log", "the audit lock"]
    {
        assert!(text.contains(say), "{say}: {text}");
    }
    assert_eq!(python(&[], &[log.path().to_owned()])[0].0, 0);
    let after = files(log.path());
    // SQLite's readers mark their places in its shared memory; nothing else is touched, and nothing is left behind.
    let lasting = |name: &&String| !name.ends_with("-shm") && !name.ends_with("-wal");
    assert!(before.keys().filter(lasting).eq(after.keys().filter(lasting)));
    for (name, seen) in before.iter().filter(|(name, _)| lasting(name)) {
        assert!(after.get(name) == Some(seen), "{name} was changed");
    }
    let (code, text) = log.command(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&text[..=text.rfind('}').unwrap()]).unwrap();
    assert_eq!((code, json["verdict"].as_str(), json["entries"].as_u64()), (0, Some("ok"), Some(300)));
    assert_eq!((json["proved_size"].as_u64(), json["key_lies_beside_the_log"].as_bool()), (Some(300), Some(true)));
}

#[test]
fn a_log_is_verified_while_it_is_being_written() {
    let log = Written::new(50);
    block_on(async {
        let store = open(log.path()).unwrap();
        for n in 50..90 {
            store.commit(Batch { changes: Vec::new(), entries: vec![draft(n, "")] }).await.unwrap();
            if n % 10 == 0 {
                let (code, text) = log.command(&[]);
                assert!(code == 0 && text.contains(&format!("0–{n} are proved")), "{n}: {text}");
                assert_eq!(python(&[], &[log.path().to_owned()])[0].0, 0);
            }
        }
    });
}

#[test]
fn a_medium_that_cannot_be_written_is_read_and_a_log_that_was_cut_off_there_is_refused_with_a_way_out() {
    let disk = SmallDisk::new("64m");
    append(disk.path(), 0, 40, |_| "");
    // As a daemon that was killed leaves it: with a write-ahead log that nobody moved into the database.
    let killed = disk.path().join("killed");
    fs::create_dir(&killed).unwrap();
    block_on(async {
        let store = open(disk.path()).unwrap();
        store.commit(Batch { changes: Vec::new(), entries: vec![draft(40, "")] }).await.unwrap();
        for file in ["keyward.db", "keyward.db-wal", "log.key", "audit.lock"] {
            fs::copy(disk.path().join(file), killed.join(file)).unwrap();
        }
    });
    disk.remount("ro");
    let verify = |dir: &Path| keyward(&["audit", "verify", dir.to_str().unwrap()]);
    let (code, text) = verify(disk.path());
    assert!(code == 0 && text.contains("0–40 are proved"), "{code} {text}");
    assert_eq!(python(&[], &[disk.path().to_owned()])[0].0, 0);
    let (code, text) = verify(&killed);
    assert!(code == 5 && text.contains("copy both files to a directory of your own"), "{code} {text}");
    assert_eq!(python(&[], std::slice::from_ref(&killed))[0].0, 5);
    let own = tempfile::TempDir::new().unwrap();
    for file in ["keyward.db", "keyward.db-wal", "log.key", "audit.lock"] {
        fs::copy(killed.join(file), own.path().join(file)).unwrap();
    }
    let (code, text) = verify(own.path());
    assert!(code == 0 && text.contains("0–40 are proved"), "{code} {text}");
}

#[test]
fn what_is_no_log_is_said_to_be_unverifiable() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("keyward.db");
    for (bytes, say) in [(None, "KW6117"), (Some(&b"nothing of the kind"[..]), "not a database")] {
        if let Some(bytes) = bytes {
            fs::write(&file, bytes.repeat(100)).unwrap();
        }
        let (code, text) = keyward(&["audit", "verify", dir.path().to_str().unwrap()]);
        assert!(code == 5 && text.contains(say), "{code} {text}");
    }
    assert_eq!(keyward(&["audit", "verify", "/nowhere"]).0, 5);
    assert_eq!(keyward(&["audit", "verify", "http://127.0.0.1:9/"]).0, 5);
    // Pages of the database itself, each of one of the log's tables or of an index.
    let log = Written::new(200);
    let database = rusqlite::Connection::open(log.path().join("keyward.db")).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('entry', 'mark', 'word') AND rootpage > 0";
    let pages: Vec<u32> =
        database.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let size: u32 = database.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(database);
    assert!(pages.len() >= 5, "{pages:?}");
    let broken: Vec<Written> = pages
        .iter()
        .map(|page| {
            let copy = log.copy();
            let mut bytes = fs::read(copy.path().join("keyward.db")).unwrap();
            bytes[(size * (page - 1)) as usize..][..64].fill(0xff);
            fs::write(copy.path().join("keyward.db"), bytes).unwrap();
            copy
        })
        .collect();
    let paths: Vec<_> = broken.iter().map(|log| log.path().to_owned()).collect();
    for ((log, page), (code, said)) in broken.iter().zip(pages).zip(python(&[], &paths)) {
        let (own, text) = log.command(&[]);
        assert_eq!((own, code), (2, 2), "page {page}: {text} {said}");
    }
}
