//! What is frozen (decision 0012): the rows that say up to where entries may be missing, and what the entries before that
//! leave behind for those after it.

use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::ledger::{Beginning, Frozen, Pending};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::key::Digest;
use crate::domain::tree::{Frontier, Subtree};

use super::connection::Trouble;
use super::walk::number;
use super::{log, tree};

/// Entries of a stored subtree of the lowest level: shards begin and end at multiples of it.
pub(super) const ALIGNED: u64 = 256;

/// A shard that was frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// One past its last entry.
    pub(super) until: u64,
    /// SHA-256 of its manifest.
    pub(super) manifest: Digest,
    /// The entry of the freeze.
    pub(super) freeze: u64,
}

/// The first entry of the log that is here: those before it are frozen, and what is left of them after a freeze that was
/// cut off is nobody's business any more.
///
/// # Errors
/// SQLite's.
pub(super) fn begins(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let mut statement = match connection.prepare_cached("SELECT ifnull(max(until), 0) FROM shard") {
        Ok(statement) => statement,
        Err(_) if is_older(connection)? => return Ok(0),
        Err(error) => return Err(error),
    };
    statement.query_row([], |row| row.get::<_, i64>(0)).map(|until| u64::try_from(until).unwrap_or(0))
}

/// Whether the schema is one from before there were shards, as a copy that is only read may have it.
fn is_older(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'shard'";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|there| there == 0)
}

/// Every shard, the oldest first.
///
/// # Errors
/// [`Trouble`].
pub(super) fn rows(connection: &Connection) -> Result<Vec<Row>, Trouble> {
    if is_older(connection)? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT until, manifest, freeze FROM shard ORDER BY until")?;
    let rows = statement.query_map([], |row| {
        let (until, freeze): (i64, i64) = (row.get(0)?, row.get(2)?);
        Ok((until, Digest(row.get(1)?), freeze))
    })?;
    rows.map(|row| {
        let (until, manifest, freeze) = row?;
        match (u64::try_from(until), u64::try_from(freeze)) {
            (Ok(until), Ok(freeze)) if until.is_multiple_of(ALIGNED) => Ok(Row { until, manifest, freeze }),
            _ => Err(Trouble::Damaged(format!("table shard: no shard can end at {until} by entry {freeze}"))),
        }
    })
    .collect()
}

/// The newest shard agrees with the entry that froze it; without that the first entries are simply gone.
///
/// # Errors
/// [`Trouble::Distrusted`] if it does not.
pub(super) fn check(connection: &Connection) -> Result<(), Trouble> {
    let Some(newest) = rows(connection)?.pop() else { return Ok(()) };
    let entry = log::at(connection, newest.freeze)?;
    let said = entry.as_ref().and_then(|entry| Frozen::read(&entry.bytes));
    let agrees = said.is_some_and(|said| said.head.size == newest.until && said.manifest == newest.manifest);
    if agrees && newest.freeze >= newest.until {
        return Ok(());
    }
    let text = format!(
        "entries 0–{} are said to be frozen, and entry {} does not say so; restore the state directory from a backup",
        newest.until.saturating_sub(1),
        newest.freeze
    );
    Err(Trouble::Distrusted(super::trust::TAMPERED, text))
}

/// What the frozen entries leave behind, as it is kept here: the entry of the freeze says whether it is right.
///
/// # Errors
/// [`Trouble`].
pub(super) fn beginning(connection: &Connection) -> Result<Beginning, Trouble> {
    let begins = begins(connection)?;
    if begins == 0 {
        return Ok(Beginning::default());
    }
    let mut beginning = Beginning { tree: blocks(connection, begins)?, ..Beginning::default() };
    let mut statement = connection.prepare("SELECT target, leaf FROM link")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        beginning.links.insert(row.get(0)?, Digest(row.get(1)?));
    }
    let mut statement = connection.prepare("SELECT id, sequence, target FROM pending")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, sequence): ([u8; 16], i64) = (row.get(0)?, row.get(1)?);
        let sequence = u64::try_from(sequence)
            .map_err(|_| Trouble::Damaged(format!("an intent has the impossible sequence number {sequence}")))?;
        beginning.intents.insert(EntryId(Ulid::from_bytes(id)), Pending { sequence, target: row.get(2)? });
    }
    Ok(beginning)
}

/// The right edge of the tree over the first `size` entries, a multiple of 256, from the stored subtrees of level 8 alone:
/// so the next signed root proves all of them. Those of higher levels must be what these give.
///
/// # Errors
/// [`Trouble::Distrusted`] if hashes are missing or do not fit together.
pub(super) fn blocks(connection: &Connection, size: u64) -> Result<Frontier, Trouble> {
    let count = size / ALIGNED;
    let mut statement =
        connection.prepare_cached("SELECT place, hash FROM subtree WHERE level = 8 AND place < ?1 ORDER BY place")?;
    let mut rows = statement.query([number(count)])?;
    let mut made = Frontier::default();
    let mut above = Vec::new();
    for place in 0..count {
        let row = rows.next()?.filter(|row| row.get(0) == Ok(number(place)));
        let row = row.ok_or_else(|| tree::missing(8, place))?;
        made.push(Digest(row.get(1)?), |subtree, hash| {
            // Eight levels above the blocks stand the next that are stored.
            if subtree.level.is_multiple_of(8) {
                above.push((Subtree { level: subtree.level.saturating_add(8), place: subtree.place }, *hash));
            }
        });
        for (subtree, expected) in above.drain(..) {
            if tree::stored_hash(connection, subtree)? != Some(expected) {
                let text = format!(
                    "the stored hash of subtree {} of level {} is not that of those below it; restore the state \
                     directory from a backup",
                    subtree.place, subtree.level
                );
                return Err(Trouble::Distrusted(super::trust::TAMPERED, text));
            }
        }
    }
    Ok(Frontier::new(size, made.hashes().to_vec())?)
}

/// The leaf of the newest entry about a target among those that are frozen.
///
/// # Errors
/// SQLite's.
pub(super) fn link(connection: &Connection, target: &str) -> Result<Option<Digest>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT leaf FROM link WHERE target = ?1")?
        .query_row([target], |row| row.get(0).map(Digest))
        .optional()
}

/// Writes that entries are frozen, with what they leave behind; their entry is in the log already.
///
/// # Errors
/// SQLite's, among them a constraint if no entry says so.
pub(super) fn write(connection: &Connection, row: &Row, beginning: &Beginning) -> Result<(), rusqlite::Error> {
    replace_beginning(connection, beginning)?;
    insert(connection, row)
}

/// The row alone.
///
/// # Errors
/// As [`write`].
pub(super) fn insert(connection: &Connection, row: &Row) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("INSERT INTO shard (until, manifest, freeze) VALUES (?1, ?2, ?3)")?.execute(params![
        number(row.until),
        row.manifest.0,
        number(row.freeze)
    ])?;
    Ok(())
}

/// What the frozen entries leave behind, in place of what was there.
///
/// # Errors
/// SQLite's.
pub(super) fn replace_beginning(connection: &Connection, beginning: &Beginning) -> Result<(), rusqlite::Error> {
    connection.execute_batch("DELETE FROM link; DELETE FROM pending;")?;
    let mut statement = connection.prepare_cached("INSERT INTO link (target, leaf) VALUES (?1, ?2)")?;
    for (target, leaf) in &beginning.links {
        statement.execute(params![target, leaf.0])?;
    }
    let mut statement = connection.prepare_cached("INSERT INTO pending (id, sequence, target) VALUES (?1, ?2, ?3)")?;
    for (id, pending) in &beginning.intents {
        statement.execute(params![id.0.to_bytes(), number(pending.sequence), pending.target])?;
    }
    Ok(())
}
