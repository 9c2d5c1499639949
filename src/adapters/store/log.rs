//! The audit log's rows: entries with their place and links, and the evidence that they name.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::audit::{self, Draft, LONGEST_ENTRY};
use crate::domain::key::Digest;
use crate::ports::StoredEntry;

use super::connection::Trouble;
use super::save::NotSaved;

/// Entries of the log's end that are checked against their hashes at each start: more than one group commit writes, and
/// some 100 KiB to read.
const TAIL: usize = 1_024;

/// More entries than this are never given at once: some 10 MiB of usual ones.
const LARGEST_ANSWER: usize = 10_000;

/// The sequence number that the next entry gets.
///
/// # Errors
/// SQLite's.
pub(super) fn next_sequence(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.prepare_cached("SELECT ifnull(max(sequence), -1) + 1 FROM entry")?.query_row([], |row| row.get(0))
}

/// Gives an entry its place after the newest one about its target, and writes it with its evidence.
///
/// # Errors
/// [`NotSaved::Refused`] if the entry is too long; SQLite's, among them a constraint if its id is already there.
pub(super) fn append(connection: &Connection, draft: &Draft, sequence: i64) -> Result<(), NotSaved> {
    let target = draft.target.key();
    let previous: Option<[u8; 32]> = connection
        .prepare_cached("SELECT leaf FROM entry WHERE target = ?1 ORDER BY sequence DESC LIMIT 1")?
        .query_row([&target], |row| row.get(0))
        .optional()?;
    // Rowids are not negative here: the first is 0, and each is the largest plus one.
    let place = u64::try_from(sequence).unwrap_or(0);
    let sealed = audit::seal(draft, place, previous.map(Digest));
    if sealed.bytes.len() > LONGEST_ENTRY {
        let size = sealed.bytes.len();
        let text = format!("entry {} has {size} bytes; at most {LONGEST_ENTRY} are kept", draft.id);
        return Err(NotSaved::Refused(text));
    }
    connection
        .prepare_cached(
            "INSERT INTO entry (sequence, id, at, target, action, code, phase, outcome, correlation, leaf, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            sequence,
            draft.id.to_string(),
            draft.at.unix(),
            target,
            draft.action,
            draft.code,
            draft.phase.as_str(),
            draft.outcome.map(audit::Outcome::as_str),
            draft.correlation.map(|id| id.to_string()),
            sealed.leaf.0,
            sealed.bytes,
        ])?;
    for evidence in &draft.evidence {
        connection
            .prepare_cached("INSERT OR IGNORE INTO evidence (sha256, bytes) VALUES (?1, ?2)")?
            .execute(params![evidence.sha256.0, &*evidence.bytes])?;
    }
    Ok(())
}

/// The newest entries about a target or about everything, newest first.
///
/// # Errors
/// When SQLite fails or a row is not what was written.
pub(super) fn newest(connection: &Connection, target: Option<&str>, limit: usize) -> Result<Vec<StoredEntry>, Trouble> {
    let limit = i64::try_from(limit.min(LARGEST_ANSWER)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(match target {
        Some(_) => "SELECT sequence, leaf, body FROM entry WHERE target = ?2 ORDER BY sequence DESC LIMIT ?1",
        // The second parameter is named so that both texts take the same two.
        None => "SELECT sequence, leaf, body FROM entry WHERE ?2 IS NULL ORDER BY sequence DESC LIMIT ?1",
    })?;
    let mut rows = statement.query(params![limit, target])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let sequence = u64::try_from(sequence)
            .map_err(|_| Trouble::Damaged(format!("an audit entry has the impossible sequence number {sequence}")))?;
        entries.push(StoredEntry { sequence, leaf: Digest(row.get(1)?), bytes: row.get(2)? });
    }
    Ok(entries)
}

/// Intents that no outcome names, the oldest first.
///
/// # Errors
/// When SQLite fails or a row is not what was written.
pub(super) fn open_intents(connection: &Connection, limit: usize) -> Result<Vec<StoredEntry>, Trouble> {
    let limit = i64::try_from(limit.min(LARGEST_ANSWER)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT sequence, leaf, body FROM entry WHERE phase = 'intent' AND id NOT IN
         (SELECT CAST(body AS TEXT) ->> '$.data.intent_ref' FROM entry WHERE phase = 'outcome') ORDER BY sequence LIMIT ?1",
    )?;
    let mut rows = statement.query(params![limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        entries.push(StoredEntry {
            sequence: u64::try_from(sequence).unwrap_or(0),
            leaf: Digest(row.get(1)?),
            bytes: row.get(2)?,
        });
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

/// Checks the end of the log: consecutive numbers, and each entry's bytes are those that were hashed.
///
/// # Errors
/// [`Trouble::Damaged`] names the entry.
pub(super) fn check_tail(connection: &Connection) -> Result<(), Trouble> {
    let tail = newest(connection, None, TAIL)?;
    let gap = tail.windows(2).find_map(|pair| match pair {
        [newer, older] if older.sequence.checked_add(1) != Some(newer.sequence) => Some(newer.sequence),
        _ => None,
    });
    let altered = tail.iter().find(|e| audit::leaf_hash(&e.bytes) != e.leaf).map(|e| e.sequence);
    match (gap, altered) {
        (Some(at), _) => Err(Trouble::Damaged(format!("the audit log has a gap before entry {at}"))),
        (_, Some(at)) => Err(Trouble::Damaged(format!("audit entry {at} is not what was hashed"))),
        (None, None) => Ok(()),
    }
}
