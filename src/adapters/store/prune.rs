//! Deleting what is frozen: texts and evidence that no later entry names, marks, words, checkpoints, and at last the
//! entries, so that as long as one of them is here it is known that there is something to do.
//!
//! Many small transactions: a log of years would not fit into one. Between them everything that is asked of the log is right,
//! because nobody looks below where it begins.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _};

use crate::codec::entry::Entry;
use crate::domain::key::Digest;

use super::connection::Trouble;
use super::shard;
use super::walk::number;

/// Rows that one transaction deletes: a few milliseconds' work, and some MiB of write-ahead log.
const ROWS: u64 = 4_096;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Entries.
    pub entries: u64,
    /// Pieces of evidence.
    pub evidence: u64,
    /// Private texts, and names of people.
    pub texts: u64,
    /// Whether the file was made shorter too; if not, its free pages are used again.
    pub compact: bool,
}

/// Frozen entries that are still here.
///
/// # Errors
/// SQLite's.
pub(super) fn left_over(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let begins = shard::begins(connection)?;
    let first: Option<i64> = connection
        .query_row("SELECT sequence FROM entry ORDER BY sequence LIMIT 1", [], |row| row.get(0))
        .optional()?;
    // They go in order, so from the first on all are there.
    Ok(first.and_then(|first| u64::try_from(first).ok()).map_or(0, |first| begins.saturating_sub(first)))
}

/// Deletes all of it.
///
/// # Errors
/// [`Trouble`]; the next who comes goes on.
pub(super) fn prune(connection: &mut Connection, told: &mut dyn FnMut(u64, u64)) -> Result<Pruned, Trouble> {
    let begins = shard::begins(connection)?;
    let total = left_over(connection)?;
    if total == 0 {
        return Ok(Pruned::default());
    }
    let named = named_later(connection, begins)?;
    let mut pruned = Pruned::default();
    let unnamed = unnamed(connection, "SELECT sha256 FROM private", &named)?;
    pruned.texts = delete_each(connection, "DELETE FROM private WHERE sha256 = ?1", &unnamed)?;
    let unnamed = self::unnamed(connection, "SELECT sha256 FROM evidence", &named)?;
    pruned.evidence = delete_each(connection, "DELETE FROM evidence WHERE sha256 = ?1", &unnamed)?;
    marks(connection, begins)?;
    connection.execute("DELETE FROM checkpoint WHERE size < ?1", [number(begins)])?;
    while let Some(first) = first_entry(connection)?.filter(|first| *first < begins) {
        let end = begins.min(first.saturating_add(ROWS));
        connection.execute("DELETE FROM entry WHERE sequence < ?1", [number(end)])?;
        pruned.entries = pruned.entries.saturating_add(end.saturating_sub(first));
        told(pruned.entries, total);
        // The write-ahead log is moved into the database as we go, or it would grow with what is deleted.
        flush(connection, "PASSIVE")?;
    }
    // A disk without room for a second copy is no reason to fail: free pages are used again.
    pruned.compact = connection.execute_batch("VACUUM").is_ok();
    flush(connection, "TRUNCATE")?;
    Ok(pruned)
}

fn first_entry(connection: &Connection) -> Result<Option<u64>, rusqlite::Error> {
    let sql = "SELECT sequence FROM entry ORDER BY sequence LIMIT 1";
    let first: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(first.and_then(|first| u64::try_from(first).ok()))
}

fn flush(connection: &Connection, mode: &str) -> Result<(), rusqlite::Error> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

/// Everything that stays must stay: the hashes that later entries name, and those of the texts that the state holds.
fn named_later(connection: &Connection, begins: u64) -> Result<BTreeSet<Digest>, Trouble> {
    let mut named = BTreeSet::new();
    let mut statement =
        connection.prepare("SELECT sequence, body FROM entry WHERE sequence >= ?1 ORDER BY sequence")?;
    let mut rows = statement.query([number(begins)])?;
    while let Some(row) = rows.next()? {
        let entry = Entry::parse(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?).map_err(|e| {
            let sequence = row.get::<_, i64>(0).unwrap_or(-1);
            Trouble::Damaged(format!("entry {sequence} cannot be read, and what it names must stay: {e}"))
        })?;
        named.extend(entry.evidence.iter().map(|piece| piece.sha256));
        named.extend(entry.actor.subject.as_deref().and_then(Digest::parse));
        let private = entry.more.get("private").and_then(|private| private.as_object());
        named.extend(private.into_iter().flat_map(|map| map.values()).filter_map(|v| Digest::parse(v.as_str()?)));
    }
    let sql = "SELECT sha256 FROM private WHERE text IN (
        SELECT failure_text FROM credential UNION SELECT ari_explanation FROM credential UNION
        SELECT requested_by FROM credential UNION SELECT terms FROM issuer UNION
        SELECT text FROM latch UNION SELECT by FROM latch UNION SELECT reason FROM freeze)";
    let mut statement = connection.prepare(sql)?;
    let texts = statement.query_map([], |row| row.get(0).map(Digest))?;
    for text in texts {
        named.insert(text?);
    }
    let mut statement = connection
        .prepare("SELECT requested_by FROM credential UNION SELECT by FROM latch UNION SELECT by FROM freeze")?;
    let people = statement.query_map([], |row| row.get::<_, Option<String>>(0))?;
    for person in people {
        named.extend(person?.as_deref().and_then(Digest::parse));
    }
    Ok(named)
}

fn unnamed(connection: &Connection, sql: &str, named: &BTreeSet<Digest>) -> Result<Vec<Digest>, Trouble> {
    let mut statement = connection.prepare(sql)?;
    let all = statement.query_map([], |row| row.get(0).map(Digest))?;
    Ok(all.filter(|found| !matches!(found, Ok(digest) if named.contains(digest))).collect::<Result<_, _>>()?)
}

fn delete_each(connection: &mut Connection, sql: &str, all: &[Digest]) -> Result<u64, Trouble> {
    for part in all.chunks(usize::try_from(ROWS).unwrap_or(1)) {
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(sql)?;
            for digest in part {
                statement.execute([digest.0])?;
            }
        }
        transaction.commit()?;
    }
    Ok(u64::try_from(all.len()).unwrap_or(u64::MAX))
}

/// Marks of frozen entries, word by word, and each word that no entry has any more.
fn marks(connection: &mut Connection, begins: u64) -> Result<(), Trouble> {
    let mut after = i64::MIN;
    loop {
        let transaction = connection.transaction()?;
        let (mut done, mut last) = (0_u64, None);
        {
            let mut next = transaction.prepare_cached("SELECT min(id) FROM word WHERE id > ?1")?;
            let mut slice = transaction.prepare_cached(
                "SELECT sequence FROM mark WHERE word = ?1 AND sequence < ?2 ORDER BY sequence LIMIT 1 OFFSET ?3",
            )?;
            let mut delete = transaction.prepare_cached("DELETE FROM mark WHERE word = ?1 AND sequence < ?2")?;
            let mut unused = transaction
                .prepare_cached("DELETE FROM word WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM mark WHERE word = ?1)")?;
            while done < ROWS {
                let Some(word) = next.query_row([after], |row| row.get::<_, Option<i64>>(0))? else { break };
                let cut: Option<i64> =
                    slice.query_row((word, number(begins), number(ROWS)), |row| row.get(0)).optional()?;
                let marks = delete.execute((word, cut.unwrap_or_else(|| number(begins))))?;
                // Words without frozen marks cost a look each.
                done = done.saturating_add(u64::try_from(marks).unwrap_or(0)).saturating_add(1);
                last = Some(word);
                if cut.is_none() {
                    unused.execute([word])?;
                    after = word;
                }
            }
        }
        transaction.commit()?;
        if last.is_none() {
            return Ok(());
        }
    }
}
