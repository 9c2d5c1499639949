//! The rows of one group commit, before it is committed: of all batches as one, or of each by itself.

use rusqlite::{Connection, ErrorCode};

use crate::domain::changes;
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::Frontier;
use crate::ports::{StoreError, StoredEntry};

use super::known::Known;
use super::log;
use super::save::{self, NotSaved};
use super::writer::{Failed, Job, before_commit, unavailable};

/// The rows of a group before its commit.
pub(super) struct Drawn {
    /// Of each batch; with its first entry, if that is to be proved.
    pub(super) verdicts: Vec<Result<Option<StoredEntry>, StoreError>>,
    /// What was appended.
    pub(super) leaves: Vec<Digest>,
    pub(super) tree: Frontier,
    /// The time of its newest entry, if it has any.
    pub(super) newest: Option<Timestamp>,
}

/// Writes all batches as one; if one of them is at fault, all are put back and each is written by itself, with a savepoint
/// for which SQLite copies every page that it touches. So a fault costs the group twice its time, and is rare.
///
/// # Errors
/// [`Failed`]: the transaction is open or not, and has to be put back.
pub(super) fn write(
    connection: &Connection,
    group: &[Job],
    tree: &Frontier,
    known: &mut Known,
) -> Result<Drawn, Failed> {
    begin(connection, known)?;
    if let Some(drawn) = together(connection, group, Drawn::new(tree), known)? {
        return Ok(drawn);
    }
    known.forget();
    roll_back(connection)?;
    begin(connection, known)?;
    one_by_one(connection, group, Drawn::new(tree), known)
}

fn begin(connection: &Connection, known: &mut Known) -> Result<(), Failed> {
    statement(connection, "BEGIN IMMEDIATE").map_err(before_commit)?;
    let version = connection.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |row| row.get(0)));
    known.begin(version.map_err(before_commit)?);
    Ok(())
}

/// Puts back what was written, unless SQLite has ended the transaction itself, as it does after some errors.
///
/// # Errors
/// [`Failed::Poisoned`] if it cannot be.
pub(super) fn roll_back(connection: &Connection) -> Result<(), Failed> {
    if connection.is_autocommit() {
        return Ok(());
    }
    statement(connection, "ROLLBACK").map_err(|e| Failed::stuck(format!("cannot roll back: {e}")))
}

/// `None` if one of them is at fault.
fn together(
    connection: &Connection,
    group: &[Job],
    mut drawn: Drawn,
    known: &mut Known,
) -> Result<Option<Drawn>, Failed> {
    for job in group {
        match drawn.write(connection, job, known)? {
            Ok(first) => drawn.verdicts.push(Ok(first)),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(drawn))
}

fn one_by_one(connection: &Connection, group: &[Job], mut drawn: Drawn, known: &mut Known) -> Result<Drawn, Failed> {
    for job in group {
        statement(connection, "SAVEPOINT batch").map_err(before_commit)?;
        let (tree, leaves, newest) = (drawn.tree.clone(), drawn.leaves.len(), drawn.newest);
        let verdict = drawn.write(connection, job, known)?;
        if verdict.is_err() {
            known.forget();
            statement(connection, "ROLLBACK TO batch").map_err(before_commit)?;
            drawn.tree = tree;
            drawn.leaves.truncate(leaves);
            drawn.newest = newest;
        }
        statement(connection, "RELEASE batch").map_err(before_commit)?;
        drawn.verdicts.push(verdict);
    }
    Ok(drawn)
}

impl Drawn {
    fn new(tree: &Frontier) -> Self {
        Self { verdicts: Vec::new(), leaves: Vec::new(), tree: tree.clone(), newest: None }
    }

    /// Writes one batch. Inside is what becomes of it if it is at fault itself; then what was written of it has to be put
    /// back.
    fn write(
        &mut self,
        connection: &Connection,
        job: &Job,
        known: &mut Known,
    ) -> Result<Result<Option<StoredEntry>, StoreError>, Failed> {
        match write_job(connection, job, &mut self.tree, &mut self.leaves, known) {
            Ok(first) => {
                self.newest = job.batch.entries.last().map(|draft| draft.at).or(self.newest);
                Ok(Ok(first.filter(|_| job.proved)))
            }
            Err(NotSaved::Refused(text)) => Ok(unavailable(format!("the batch was refused: {text}"))),
            Err(NotSaved::Sqlite(e)) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Ok(unavailable(format!("the batch was refused: {e}")))
            }
            Err(NotSaved::Sqlite(e)) => Err(before_commit(e)),
        }
    }
}

/// Gives the first entry as it was written.
fn write_job(
    connection: &Connection,
    job: &Job,
    tree: &mut Frontier,
    leaves: &mut Vec<Digest>,
    known: &mut Known,
) -> Result<Option<StoredEntry>, NotSaved> {
    let Job { batch, cosigned, .. } = job;
    let mut first = None;
    cosigned.iter().try_for_each(|note| super::checkpoint::keep(connection, note))?;
    for (index, draft) in batch.entries.iter().enumerate() {
        // An entry tells what its changes do to the rows, so it is written before them.
        let (_, changes) = changes::share(&batch.changes, index, batch.entries.len());
        let entry = log::append(connection, draft, changes, tree, known)?;
        leaves.push(entry.leaf);
        first.get_or_insert(entry);
        changes.iter().try_for_each(|change| save::change(connection, change))?;
    }
    if batch.entries.is_empty() {
        batch.changes.iter().try_for_each(|change| save::change(connection, change))?;
    }
    Ok(first)
}

/// A statement that gives no rows.
///
/// # Errors
/// SQLite's.
pub(super) fn statement(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
