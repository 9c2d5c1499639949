//! Reading a log entry by entry, past what cannot be read.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::codec::entry::Entry;
use crate::domain::audit::leaf_hash;
use crate::domain::key::Digest;

/// What lies at a place of the log.
#[derive(Debug)]
pub(super) enum Found {
    /// An entry whose bytes are those that were hashed.
    Whole(Box<Entry>, Digest, Vec<u8>),
    /// It can be read as an entry of this place, but the leaf beside it is the hash of something else.
    Doubtful(Box<Entry>, Vec<u8>),
    /// Nothing that could be believed, and why.
    Lost(String),
}

type Read = (i64, Result<(Digest, Vec<u8>), String>);

const COLUMNS: &str = "SELECT sequence, leaf, body FROM entry";

/// Tells `each` what lies at each of these places, in order. A page that cannot be read costs the entries on it: those
/// after it are looked for one by one until the rows can be followed again.
pub(super) fn walk<E>(
    connection: &Connection,
    places: core::ops::Range<u64>,
    mut each: impl FnMut(u64, Found) -> Result<(), E>,
) -> Result<(), E> {
    let (mut next, size) = (places.start, places.end);
    while next < size {
        let broken = follow(connection, size, &mut next, &mut each)?;
        let Some(why) = broken else { break };
        each(next, Found::Lost(why))?;
        next = next.saturating_add(1);
        // One by one, until a row can be read: from there on the rows are followed again.
        while next < size {
            let why = match point(connection, next) {
                Ok(true) => break,
                Ok(false) => "there is no such row".to_owned(),
                Err(error) => error.to_string(),
            };
            each(next, Found::Lost(why))?;
            next = next.saturating_add(1);
        }
    }
    while next < size {
        each(next, Found::Lost("there is no such row".to_owned()))?;
        next = next.saturating_add(1);
    }
    Ok(())
}

/// Follows the rows from `next` on; returns why that ended before the last, if it did.
fn follow<E>(
    connection: &Connection,
    size: u64,
    next: &mut u64,
    each: &mut impl FnMut(u64, Found) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let sql = format!("{COLUMNS} WHERE sequence >= ?1 AND sequence < ?2 ORDER BY sequence");
    let mut statement = match connection.prepare_cached(&sql) {
        Ok(statement) => statement,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let mut rows = match statement.query([number(*next), number(size)]) {
        Ok(rows) => rows,
        Err(error) => return Ok(Some(error.to_string())),
    };
    loop {
        let (sequence, read) = match rows.next() {
            Ok(Some(row)) => match take(row) {
                Ok(read) => read,
                Err(error) => return Ok(Some(error.to_string())),
            },
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error.to_string())),
        };
        let Ok(sequence) = u64::try_from(sequence) else { return Ok(Some("a row has an impossible number".into())) };
        // A damaged row may lie out of order.
        if sequence < *next || sequence >= size {
            return Ok(Some(format!("a row with number {sequence} lies where {next} was expected")));
        }
        while *next < sequence {
            each(*next, Found::Lost("there is no such row".to_owned()))?;
            *next = next.saturating_add(1);
        }
        each(sequence, judge(sequence, read))?;
        *next = sequence.saturating_add(1);
    }
}

fn take(row: &Row<'_>) -> Result<Read, rusqlite::Error> {
    let read = || -> Result<_, rusqlite::Error> { Ok((Digest(row.get(1)?), row.get::<_, Vec<u8>>(2)?)) };
    Ok((row.get(0)?, read().map_err(|e| e.to_string())))
}

fn point(connection: &Connection, sequence: u64) -> Result<bool, rusqlite::Error> {
    let sql = format!("{COLUMNS} WHERE sequence = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([number(sequence)], take).optional()?.is_some())
}

fn judge(sequence: u64, read: Result<(Digest, Vec<u8>), String>) -> Found {
    let (leaf, body) = match read {
        Ok(read) => read,
        Err(why) => return Found::Lost(why),
    };
    match Entry::parse(&body) {
        Ok(entry) if entry.sequence != sequence => Found::Lost(format!("it holds entry {}", entry.sequence)),
        Ok(entry) if leaf_hash(&body) == leaf => Found::Whole(Box::new(entry), leaf, body),
        Ok(entry) => Found::Doubtful(Box::new(entry), body),
        Err(error) => Found::Lost(error.to_string()),
    }
}

/// No log comes near 2⁶³ entries.
pub(super) fn number(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
