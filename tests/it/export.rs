//! Exporting the audit log: what is written is the log, goes on where it was, and is what others read.

mod files;
mod hook;
mod ocsf;
mod oracle;

use std::path::Path;

use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::domain::time::Timestamp;
use keyward::ports::{Batch, Store};
use keyward::shell::wire;

use crate::harness::ledger::{Written, draft, files, keyward};
use crate::harness::store::block_on;

/// Appends entries in large batches.
fn fill(dir: &Path, from: u64, to: u64, salt: &str) {
    block_on(async {
        let now = Timestamp::from_unix(1_790_000_000 - 1 + 30 * from as i64);
        let store = SqliteStore::open(dir, &LogOptions::new(now, wire::entropy())).unwrap();
        for part in (from..to).collect::<Vec<_>>().chunks(2_000) {
            let entries = part.iter().map(|n| draft(*n, salt)).collect();
            store.commit(Batch { changes: Vec::new(), entries }).await.unwrap();
        }
    });
}

fn filled(entries: u64) -> Written {
    let log = Written { dir: tempfile::TempDir::new().unwrap() };
    fill(log.path(), 0, entries, "");
    log
}

fn export(log: &Path, format: &str, to: &Path, more: &[&str]) -> (i32, String) {
    let (log, to) = (log.to_str().unwrap(), to.to_str().unwrap());
    keyward(&[&["audit", "export", "--format", format, "--to", to, "--database", log], more].concat())
}

/// Exports, which must succeed.
fn exported(log: &Path, format: &str, to: &Path) {
    let (code, text) = export(log, format, to, &[]);
    assert_eq!(code, 0, "{format}: {text}");
}
