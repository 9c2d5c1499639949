//! The Merkle tree in its rows: leaves stand with the entries, and the complete subtrees of every eighth level in a
//! table of their own, so that each hash of a proof is made of at most 255 rows.

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::key::Digest;
use crate::domain::tree::{self, Frontier, Subtree, TreeError};
use crate::ports::{Consistency, Inclusion};

use super::connection::Trouble;
use super::{checkpoint, log, shard};

/// The levels that are stored are the multiples of this one: at level 8 a row of 40 bytes stands for 256 entries, which is
/// next to nothing, and 255 leaves are read in well under a millisecond.
const STEP: u8 = 8;

impl From<TreeError> for Trouble {
    fn from(error: TreeError) -> Self {
        Self::Damaged(format!("the tree of the audit log cannot be read: {error}"))
    }
}

/// Appends a leaf and writes the subtrees that it completes.
///
/// # Errors
/// SQLite's.
pub(super) fn push(connection: &Connection, tree: &mut Frontier, leaf: Digest) -> Result<(), rusqlite::Error> {
    let mut complete = Vec::new();
    tree.push(leaf, |subtree, hash| {
        if subtree.level.is_multiple_of(STEP) {
            complete.push((subtree, *hash));
        }
    });
    for (subtree, hash) in complete {
        connection.prepare_cached("INSERT INTO subtree (level, place, hash) VALUES (?1, ?2, ?3)")?.execute(params![
            subtree.level,
            number(subtree.place),
            hash.0
        ])?;
    }
    Ok(())
}

/// The right edge of the tree over the first `size` entries.
///
/// # Errors
/// [`Trouble::Damaged`] if hashes are missing.
pub(super) fn frontier(connection: &Connection, size: u64) -> Result<Frontier, Trouble> {
    let hashes = tree::peaks(size)?.into_iter().map(|subtree| hash(connection, subtree)).collect::<Result<_, _>>()?;
    Ok(Frontier::new(size, hashes)?)
}

/// An entry with its proof up to the newest checkpoint.
///
/// # Errors
/// [`Trouble`].
pub(super) fn inclusion(connection: &mut Connection, sequence: u64) -> Result<Option<Inclusion>, Trouble> {
    // One read transaction, so that entry and checkpoint are of the same commit.
    let connection = &*connection.transaction()?;
    let Some(newest) = checkpoint::newest(connection)? else { return Ok(None) };
    if sequence < shard::begins(connection)? {
        return Ok(None);
    }
    let Some(entry) = log::at(connection, sequence)?.filter(|entry| entry.sequence < newest.size) else {
        return Ok(None);
    };
    let proof = tree::prove_inclusion(sequence, newest.size, |subtree| hash(connection, subtree))?;
    Ok(Some(Inclusion { entry, proof, note: newest.note }))
}

/// That the tree over the first `old` entries is the beginning of that of the newest checkpoint.
///
/// # Errors
/// [`Trouble`].
pub(super) fn consistency(connection: &mut Connection, old: u64) -> Result<Option<Consistency>, Trouble> {
    let connection = &*connection.transaction()?;
    let Some(newest) = checkpoint::newest(connection)?.filter(|newest| old <= newest.size) else { return Ok(None) };
    if !is_provable(connection, old)? {
        return Ok(None);
    }
    let proof = tree::prove_consistency(old, newest.size, |subtree| hash(connection, subtree))?;
    Ok(Some(Consistency { proof, note: newest.note }))
}

/// That the tree over the first `old` entries is the beginning of that over the first `new`; `None` if there are fewer, or
/// what it takes is frozen.
///
/// # Errors
/// [`Trouble`].
pub(super) fn between(connection: &mut Connection, old: u64, new: u64) -> Result<Option<Vec<Digest>>, Trouble> {
    let connection = &*connection.transaction()?;
    if old > new || new > log::size(connection)? || !is_provable(connection, old)? || !is_provable(connection, new)? {
        return Ok(None);
    }
    Ok(Some(tree::prove_consistency(old, new, |subtree| hash(connection, subtree))?))
}

/// Whether the hashes are there that a tree of this size is made of: of what is frozen only every 256th.
fn is_provable(connection: &Connection, size: u64) -> Result<bool, Trouble> {
    Ok(size.is_multiple_of(shard::ALIGNED) || size >= shard::begins(connection)?)
}

/// The hash of a complete subtree, from the highest stored level at or below its own.
///
/// # Errors
/// [`Trouble::Distrusted`] if hashes are missing.
pub(super) fn hash(connection: &Connection, subtree: Subtree) -> Result<Digest, Trouble> {
    let stored = subtree.level / STEP * STEP;
    let above = subtree.level.saturating_sub(stored);
    let first = subtree.place << above;
    if above == 0 {
        return stored_hash(connection, subtree)?.ok_or_else(|| missing(stored, first));
    }
    let last = first.saturating_add(1 << above);
    let mut statement = connection.prepare_cached(if stored == 0 {
        "SELECT sequence, leaf FROM entry WHERE sequence >= ?1 AND sequence < ?2 AND ?3 = 0 ORDER BY sequence"
    } else {
        "SELECT place, hash FROM subtree WHERE place >= ?1 AND place < ?2 AND level = ?3 ORDER BY place"
    })?;
    let mut rows = statement.query(params![number(first), number(last), stored])?;
    let mut made = Frontier::default();
    for place in first..last {
        let row = rows.next()?.ok_or_else(|| missing(stored, place))?;
        if row.get::<_, i64>(0)? != number(place) {
            return Err(missing(stored, place));
        }
        made.push(Digest(row.get(1)?), |_, _| {});
    }
    Ok(made.root())
}

/// The hash of a complete subtree of a stored level, if it is there.
///
/// # Errors
/// SQLite's.
pub(super) fn stored_hash(connection: &Connection, subtree: Subtree) -> Result<Option<Digest>, rusqlite::Error> {
    let place = number(subtree.place);
    let found: Option<[u8; 32]> = if subtree.level == 0 {
        let sql = "SELECT leaf FROM entry WHERE sequence = ?1";
        connection.prepare_cached(sql)?.query_row([place], |row| row.get(0)).optional()?
    } else {
        let sql = "SELECT hash FROM subtree WHERE level = ?1 AND place = ?2";
        connection.prepare_cached(sql)?.query_row(params![subtree.level, place], |row| row.get(0)).optional()?
    };
    Ok(found.map(Digest))
}

/// A hash is not there.
pub(super) fn missing(level: u8, place: u64) -> Trouble {
    Trouble::Distrusted(
        super::trust::TAMPERED,
        match level {
            0 => {
                format!("the audit log has a gap: entry {place} is missing; restore the state directory from a backup")
            }
            _ => format!(
                "the hash of subtree {place} of level {level} is missing; run keyward doctor, which makes it anew from \
                 the entries"
            ),
        },
    )
}

/// No log comes near 2⁶³ entries.
fn number(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
