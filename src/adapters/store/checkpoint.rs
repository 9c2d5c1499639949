//! The rows of the signed checkpoints.

use core::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::Note;
use crate::domain::time::Timestamp;

use super::connection::Trouble;
use super::save::NotSaved;

/// One checkpoint in this time stays for good; the others are replaced by the next.
pub(super) const KEPT_EVERY: Duration = Duration::from_secs(3_600);

/// A checkpoint as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Number of entries that it covers.
    pub(super) size: u64,
    /// The time of the newest of them.
    pub(super) at: Timestamp,
    /// The signed note.
    pub(super) note: String,
}

/// The newest.
///
/// # Errors
/// [`Trouble`].
pub(super) fn newest(connection: &Connection) -> Result<Option<Row>, Trouble> {
    let found: Option<(i64, i64, String)> = connection
        .prepare_cached("SELECT size, at, note FROM checkpoint ORDER BY size DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((size, at, note)) = found else { return Ok(None) };
    let size =
        u64::try_from(size).map_err(|_| Trouble::Damaged(format!("a checkpoint has the impossible size {size}")))?;
    Ok(Some(Row { size, at: Timestamp::from_unix(at), note }))
}

/// The time of the newest one that is kept.
///
/// # Errors
/// SQLite's.
pub(super) fn last_kept(connection: &Connection) -> Result<Option<Timestamp>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT at FROM checkpoint WHERE kept = 1 ORDER BY size DESC LIMIT 1")?
        .query_row([], |row| row.get(0).map(Timestamp::from_unix))
        .optional()
}

/// Those that are kept of these sizes, both ends included, the smallest first.
///
/// # Errors
/// [`Trouble`].
pub(super) fn kept(connection: &Connection, from: u64, to: u64) -> Result<Vec<Row>, Trouble> {
    let place = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut statement = connection
        .prepare("SELECT size, at, note FROM checkpoint WHERE kept = 1 AND size >= ?1 AND size <= ?2 ORDER BY size")?;
    let mut rows = statement.query([place(from), place(to)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let size: i64 = row.get(0)?;
        let size = u64::try_from(size)
            .map_err(|_| Trouble::Damaged(format!("a checkpoint has the impossible size {size}")))?;
        found.push(Row { size, at: Timestamp::from_unix(row.get(1)?), note: row.get(2)? });
    }
    Ok(found)
}

/// Writes one in place of the newest, unless that is kept.
///
/// # Errors
/// SQLite's.
pub(super) fn write(connection: &Connection, row: &Row, kept: bool) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached("DELETE FROM checkpoint WHERE kept = 0 AND size = (SELECT max(size) FROM checkpoint)")?
        .execute([])?;
    connection
        .prepare_cached("INSERT INTO checkpoint (size, at, note, kept) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![i64::try_from(row.size).unwrap_or(i64::MAX), row.at.unix(), row.note, kept])?;
    Ok(())
}

/// Adds the signatures of witnesses to a checkpoint, which stays for good; the one of this size may have been replaced by
/// a later one meanwhile. `note` is signed by the log, and its signatures were verified.
///
/// # Errors
/// [`NotSaved::Refused`] if it is none of this log's checkpoints; SQLite's.
pub(super) fn keep(connection: &Connection, note: &str) -> Result<(), NotSaved> {
    let refused = |why: String| NotSaved::Refused(format!("the cosigned checkpoint {why}"));
    let read = |text: &str| text.parse::<Note>().and_then(|note| Checkpoint::of(&note).map(|head| (note, head)));
    let (more, said) = read(note).map_err(|e| refused(e.to_string()))?;
    let size = i64::try_from(said.head.size).unwrap_or(i64::MAX);
    let known: Option<String> = connection
        .prepare_cached("SELECT note FROM checkpoint WHERE size = ?1")?
        .query_row([size], |row| row.get(0))
        .optional()?;
    let Some(known) = known else {
        let at: Option<i64> = connection
            .prepare_cached("SELECT at FROM entry WHERE sequence = ?1 - 1")?
            .query_row([size], |row| row.get(0))
            .optional()?;
        let at = at.ok_or_else(|| refused(format!("has size {size}, where the log has no entry")))?;
        connection
            .prepare_cached("INSERT INTO checkpoint (size, at, note, kept) VALUES (?1, ?2, ?3, 1)")?
            .execute(params![size, at, note])?;
        return Ok(());
    };
    let mut whole: Note = known.parse().map_err(|e| refused(format!("of size {size} in the store {e}")))?;
    if whole.text != more.text {
        return Err(refused(format!("of size {size} says something else than the one in the store")));
    }
    for signature in more.signatures {
        if !whole.signatures.iter().any(|s| s.name == signature.name && s.key_id == signature.key_id) {
            whole.signatures.push(signature);
        }
    }
    connection
        .prepare_cached("UPDATE checkpoint SET note = ?2, kept = 1 WHERE size = ?1")?
        .execute(params![size, whole.to_string()])?;
    Ok(())
}
