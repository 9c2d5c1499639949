//! A log read where it lies: without the daemon, beside it, or on a medium that cannot be written.
//!
//! | the directory | the write-ahead log | how |
//! |---|---|---|
//! | may be written, or the daemon runs | any | SQLite's `mode=ro`: a snapshot, whatever is written meanwhile |
//! | cannot be written | none, or empty | `immutable=1`: no lock is taken, and the file must not change meanwhile |
//! | cannot be written, no daemon runs | has something in it | refused: SQLite needs a place to index it |
//!
//! Nothing is ever changed. Refuses to know what the rows mean; see [`crate::codec::ledger`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};

use crate::codec::ledger::{Finding, Grade, Handover, ROTATED, Report, Rule, Secret, Verifier};
use crate::codec::note::VerifierKey;
use crate::ports::StoreError;

use super::connection::{self, Trouble};
use super::{directory, key, lockfile, migrations, trust};

mod pass;
mod span;

/// Rotations that are looked at: one a month for twenty years.
const MOST_ROTATIONS: u32 = 240;

/// A log that is only read.
#[derive(Debug)]
pub struct Archive {
    connection: Connection,
    path: PathBuf,
    /// What the file was like if nothing keeps it from being changed.
    unguarded: Option<Stamp>,
}

/// What shows that a file was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    wal: Option<u64>,
}

/// A connection, the file that it reads, and what that was like if nothing keeps it from being changed.
type Opened = (Connection, PathBuf, Option<Stamp>);

/// How far a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries that were read.
    pub done: u64,
    /// Entries that there are.
    pub total: u64,
}

impl Archive {
    /// Opens a state directory's database, or a database file itself.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is no log of this version; [`StoreError::Unavailable`] if it cannot be read, and then
    /// it says how it can.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (connection, path, unguarded) = open(path)?;
        Ok(Self { connection, path, unguarded })
    }

    /// The database's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public half of the key that lies beside the database; `None` if there is none, or it may not be read.
    #[must_use]
    pub fn own_key(&self) -> Option<VerifierKey> {
        key::peek(self.path.parent()?)
    }

    /// The rotations of the log's key, as its index says: nothing of it is proved yet.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Unavailable`].
    pub fn handovers(&self) -> Result<Vec<Handover>, StoreError> {
        let read = || -> Result<Vec<Handover>, Trouble> {
            let mut statement = self.connection.prepare(
                "SELECT body FROM mark JOIN word ON word.id = mark.word JOIN entry ON entry.sequence = mark.sequence
                 WHERE word.text = ?1 ORDER BY mark.sequence LIMIT ?2",
            )?;
            let mut rows = statement.query((format!("code:{ROTATED}"), MOST_ROTATIONS))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.extend(row.get_ref(0)?.as_blob().ok().and_then(Handover::read));
            }
            Ok(found)
        };
        read().map_err(|e| connection::about(&self.path, e))
    }

    /// The last note of the lock that lies beside the database, or of that file; `None` if there is none. Read it before
    /// the log: the lock is never ahead of a log that is read after it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if neither slot is whole; [`StoreError::Unavailable`] if it may not be read.
    pub fn lock(&self, path: Option<&Path>) -> Result<Option<String>, StoreError> {
        let beside = self.path.parent().unwrap_or(Path::new(".")).join(trust::LOCK);
        lockfile::peek(path.unwrap_or(&beside))
    }

    /// Hands everything to the verifier in one snapshot and gives what it found. What cannot be read any further is a
    /// finding too.
    #[must_use]
    pub fn verify(&self, verifier: Verifier, secret: &Secret, progress: &mut dyn FnMut(Progress)) -> Report {
        let mut pass =
            pass::Pass { verifier: verifier.with_index(secret), secret, connection: &self.connection, begins: 0 };
        let read = pass.run(progress);
        let mut verifier = pass.verifier;
        if let Err(trouble) = read {
            let (grade, text) = match connection::about(&self.path, trouble) {
                StoreError::Unavailable(text) => (Grade::Unverifiable, text),
                damaged @ (StoreError::Damaged(_)
                | StoreError::InUse(_)
                | StoreError::Distrusted { .. }
                | StoreError::Lost(_)) => (Grade::Tampered, damaged.to_string()),
            };
            verifier.find(Finding::new(grade, Rule::Unreadable, format!("reading ended early: {text}")));
        }
        if self.unguarded.as_ref().is_some_and(|before| Stamp::of(&self.path).as_ref() != Some(before)) {
            let text = format!("{} was changed while it was read; verify it again", self.path.display());
            verifier.find(Finding::new(Grade::Unverifiable, Rule::Unreadable, text));
        }
        verifier.finish()
    }
}

/// Opens a state directory's database, or a database file itself, and says whether nothing keeps it from being changed.
///
/// # Errors
/// As [`Archive::open`].
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let found = fs::canonicalize(path).map_err(|e| directory::unavailable("find", path, &e))?;
    let file = if found.is_dir() { found.join(directory::DATABASE) } else { found };
    if !file.is_file() {
        let text = format!("there is no database {}; name a state directory or a keyward.db", file.display());
        return Err(StoreError::Unavailable(text));
    }
    let opened = connection::open(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|c| probe(&c).map(|()| c));
    let (connection, unguarded) = match opened {
        Ok(connection) => (connection, None),
        Err(Trouble::Sqlite(error)) if needs_a_place(&error) => open_unguarded(&file)?,
        Err(trouble) => return Err(connection::about(&file, trouble)),
    };
    connection
        .pragma_update(None, "query_only", true)
        .map_err(Trouble::from)
        .and_then(|()| identity(&connection))
        .map_err(|e| connection::about(&file, e))?;
    Ok((connection, file, unguarded))
}

/// SQLite opens files late: this reads the first page, and in WAL mode the index of the write-ahead log.
fn probe(connection: &Connection) -> Result<(), Trouble> {
    Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?)
}

fn identity(connection: &Connection) -> Result<(), Trouble> {
    migrations::check_identity(connection)?;
    let there: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('entry', 'checkpoint', 'mark')",
        [],
        |row| row.get(0),
    )?;
    if there == 3 { Ok(()) } else { Err(Trouble::Damaged("there is no audit log in it".to_owned())) }
}

/// Whether SQLite could not make its index of the write-ahead log.
fn needs_a_place(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as E;
    error.sqlite_error_code().is_some_and(|code| matches!(code, E::CannotOpen | E::ReadOnly))
}

fn open_unguarded(file: &Path) -> Result<(Connection, Option<Stamp>), StoreError> {
    let shown = file.display();
    let stamp = Stamp::of(file).ok_or_else(|| StoreError::Unavailable(format!("{shown} may not be looked at")))?;
    if let Some(size) = stamp.wal.filter(|size| *size > 0) {
        return Err(StoreError::Unavailable(format!(
            "{shown}-wal has {size} bytes that are not in the database yet, and SQLite needs to write beside it to read \
             them; copy both files to a directory of your own and name the copy"
        )));
    }
    let directory = file.parent().unwrap_or(Path::new("."));
    if access(directory, Access::WRITE_OK).is_ok() {
        return Err(StoreError::Unavailable(format!("{shown} may not be read by this user")));
    }
    let connection = connection::open_immutable(file).and_then(|c| probe(&c).map(|()| c));
    let connection = connection.map_err(|e| connection::about(file, e))?;
    Ok((connection, Some(stamp)))
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let seen = fs::metadata(file).ok()?;
        let mut wal = file.as_os_str().to_owned();
        wal.push("-wal");
        let wal = fs::metadata(wal).ok().map(|seen| seen.len());
        Some(Self { size: seen.len(), modified: seen.modified().ok(), wal })
    }
}
