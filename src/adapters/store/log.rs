//! The audit log's rows: entries with their place, links and marks, and the evidence that they name.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::audit::{self, Draft, LONGEST_ENTRY, Phase};
use crate::domain::key::Digest;
use crate::domain::state::Change;
use crate::domain::time::Timestamp;
use crate::domain::tree::Frontier;
use crate::domain::words;
use crate::ports::StoredEntry;

use super::connection::Trouble;
use super::known::Known;
use super::private;
use super::save::NotSaved;
use super::walk::number;
use super::{shard, tree};

/// More entries than this are never given at once: some 10 MiB of usual ones.
const LARGEST_ANSWER: usize = 10_000;

/// Gives an entry its place at the end of `tree` and after the newest one about its target, and writes it with its marks
/// and its evidence. Gives it as it stands there. After an error the rows and `tree` must be put back, and `known` be
/// forgotten.
///
/// # Errors
/// [`NotSaved::Refused`] if the entry is too long; SQLite's, among them a constraint if its id is already there.
pub(super) fn append(
    connection: &Connection,
    draft: &Draft,
    changes: &[Change],
    tree: &mut Frontier,
    known: &mut Known,
) -> Result<StoredEntry, NotSaved> {
    let place = tree.size();
    let target = draft.target.key();
    let target_word = target_word(&target);
    let previous = match known.newest(&target_word) {
        None => newest_before(connection, &target, word_id(connection, &target_word, known)?)?,
        newest => newest,
    };
    let sealed = private::tell(connection, draft, changes, |told| audit::seal(draft, place, previous, told))?;
    if sealed.bytes.len() > LONGEST_ENTRY {
        let size = sealed.bytes.len();
        let text = format!("entry {} has {size} bytes; at most {LONGEST_ENTRY} are kept", draft.id);
        return Err(NotSaved::Refused(text));
    }
    // No log comes near 2⁶³ entries.
    let sequence = i64::try_from(place).unwrap_or(i64::MAX);
    connection
        .prepare_cached("INSERT INTO entry (sequence, id, at, leaf, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![sequence, draft.id.0.to_bytes(), draft.at.unix(), sealed.leaf.0, sealed.bytes])?;
    index(connection, &audit::marks(draft, sealed.facts), sequence, known)?;
    known.follow(&target_word, sealed.leaf);
    match (draft.phase, draft.intent) {
        (Phase::Intent, _) => connection
            .prepare_cached("INSERT INTO open_intent (id, sequence) VALUES (?1, ?2)")?
            .execute(params![draft.id.0.to_bytes(), sequence])?,
        (Phase::Outcome, Some(intent)) => {
            connection.prepare_cached("DELETE FROM open_intent WHERE id = ?1")?.execute([intent.0.to_bytes()])?
        }
        (Phase::Outcome | Phase::Event, _) => 0,
    };
    for evidence in &draft.evidence {
        connection
            .prepare_cached("INSERT OR IGNORE INTO evidence (sha256, bytes) VALUES (?1, ?2)")?
            .execute(params![evidence.sha256.0, &*evidence.bytes])?;
    }
    tree::push(connection, tree, sealed.leaf)?;
    Ok(StoredEntry { sequence: place, leaf: sealed.leaf, bytes: sealed.bytes })
}

/// The word of the target with this [`crate::domain::audit::Target::key`].
fn target_word(key: &str) -> String {
    words::word("target", key)
}

/// Marks an entry with the words that it is found by.
///
/// # Errors
/// SQLite's.
pub(super) fn index(
    connection: &Connection,
    words: &[String],
    sequence: i64,
    known: &mut Known,
) -> Result<(), rusqlite::Error> {
    let mut mark = connection.prepare_cached("INSERT OR IGNORE INTO mark (word, sequence) VALUES (?1, ?2)")?;
    for word in words {
        mark.execute([word_id(connection, word, known)?, sequence])?;
    }
    Ok(())
}

/// A word's number; a new word gets one.
fn word_id(connection: &Connection, word: &str, known: &mut Known) -> Result<i64, rusqlite::Error> {
    if let Some(id) = known.id(word) {
        return Ok(id);
    }
    let id = match known_word(connection, word)? {
        Some(id) => id,
        None => connection.prepare_cached("INSERT INTO word (text) VALUES (?1)")?.insert([word])?,
    };
    known.note(word, id);
    Ok(id)
}

fn known_word(connection: &Connection, word: &str) -> Result<Option<i64>, rusqlite::Error> {
    connection.prepare_cached("SELECT id FROM word WHERE text = ?1")?.query_row([word], |row| row.get(0)).optional()
}

/// The leaf of the newest entry about a target, whose word has this number; it may be frozen.
fn newest_before(connection: &Connection, target: &str, word: i64) -> Result<Option<Digest>, rusqlite::Error> {
    match newest_leaf(connection, word)? {
        None => shard::link(connection, target),
        newest => Ok(newest),
    }
}

/// The leaf of the newest entry with this word.
fn newest_leaf(connection: &Connection, word: i64) -> Result<Option<Digest>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT leaf FROM entry WHERE sequence = (SELECT max(sequence) FROM mark WHERE word = ?1)")?
        .query_row([word], |row| row.get(0).map(Digest))
        .optional()
}

/// How many entries there are.
///
/// # Errors
/// As [`newest`].
pub(super) fn size(connection: &Connection) -> Result<u64, Trouble> {
    let next: i64 = connection.query_row("SELECT ifnull(max(sequence), -1) + 1 FROM entry", [], |row| row.get(0))?;
    u64::try_from(next).map_err(|_| Trouble::Damaged(format!("the audit log has the impossible size {next}")))
}

/// When the newest entry was written.
///
/// # Errors
/// As [`newest`].
pub(super) fn newest_time(connection: &Connection) -> Result<Option<Timestamp>, Trouble> {
    let sql = "SELECT at FROM entry ORDER BY sequence DESC LIMIT 1";
    Ok(connection.query_row(sql, [], |row| row.get(0).map(Timestamp::from_unix)).optional()?)
}

/// The newest entries about a target or about everything, newest first.
///
/// # Errors
/// When SQLite fails or a row is not what was written.
pub(super) fn newest(connection: &Connection, target: Option<&str>, limit: usize) -> Result<Vec<StoredEntry>, Trouble> {
    let limit = i64::try_from(limit.min(LARGEST_ANSWER)).unwrap_or(i64::MAX);
    let begins = number(shard::begins(connection)?);
    let Some(target) = target else {
        let sql = "SELECT sequence, leaf, body FROM entry WHERE sequence >= ?1 ORDER BY sequence DESC LIMIT ?2";
        return read(connection, sql, [begins, limit]);
    };
    let word = known_word(connection, &target_word(target))?;
    let sql = "SELECT entry.sequence, leaf, body FROM mark JOIN entry ON entry.sequence = mark.sequence
               WHERE word = ?1 AND mark.sequence >= ?2 ORDER BY mark.sequence DESC LIMIT ?3";
    read(connection, sql, params![word, begins, limit])
}

/// One entry by its place.
///
/// # Errors
/// As [`newest`].
pub(super) fn at(connection: &Connection, sequence: u64) -> Result<Option<StoredEntry>, Trouble> {
    let Ok(sequence) = i64::try_from(sequence) else { return Ok(None) };
    if sequence < number(shard::begins(connection)?) {
        return Ok(None);
    }
    let found = read(connection, "SELECT sequence, leaf, body FROM entry WHERE sequence = ?1", [sequence])?;
    Ok(found.into_iter().next())
}

/// The entries of these places, the oldest first, at most `limit` of them.
///
/// # Errors
/// As [`newest`].
pub(super) fn range(connection: &Connection, from: u64, to: u64, limit: usize) -> Result<Vec<StoredEntry>, Trouble> {
    let limit = i64::try_from(limit.min(LARGEST_ANSWER)).unwrap_or(i64::MAX);
    let from = from.max(shard::begins(connection)?);
    let sql =
        "SELECT sequence, leaf, body FROM entry WHERE sequence >= ?1 AND sequence < ?2 ORDER BY sequence LIMIT ?3";
    read(connection, sql, params![number(from), number(to), limit])
}

/// Intents without an outcome, the oldest first.
///
/// # Errors
/// As [`newest`].
pub(super) fn open_intents(connection: &Connection, limit: usize) -> Result<Vec<StoredEntry>, Trouble> {
    let limit = i64::try_from(limit.min(LARGEST_ANSWER)).unwrap_or(i64::MAX);
    let sql = "SELECT entry.sequence, leaf, body FROM open_intent JOIN entry ON entry.sequence = open_intent.sequence
               ORDER BY entry.sequence LIMIT ?1";
    read(connection, sql, [limit])
}

fn read(connection: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<StoredEntry>, Trouble> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let sequence = u64::try_from(sequence)
            .map_err(|_| Trouble::Damaged(format!("an audit entry has the impossible sequence number {sequence}")))?;
        entries.push(StoredEntry { sequence, leaf: Digest(row.get(1)?), bytes: row.get(2)? });
    }
    Ok(entries)
}

/// Evidence by its hash.
///
/// # Errors
/// [`Trouble::Damaged`] if other bytes lie there.
pub(super) fn evidence(connection: &Connection, sha256: &Digest) -> Result<Option<Vec<u8>>, Trouble> {
    let found: Option<Vec<u8>> = connection
        .prepare_cached("SELECT bytes FROM evidence WHERE sha256 = ?1")?
        .query_row([sha256.0], |row| row.get(0))
        .optional()?;
    match found {
        Some(bytes) if Digest::of(&bytes) != *sha256 => {
            Err(Trouble::Damaged(format!("the bytes of evidence {sha256} have another SHA-256")))
        }
        other => Ok(other),
    }
}
