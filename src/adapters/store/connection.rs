//! The two connections, their settings, and what SQLite's errors mean for whoever asked.

use core::time::Duration;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::ports::StoreError;

use super::migrations;
use super::writer::Pace;

/// How long a statement waits for a lock that a foreign tool (a backup, the `sqlite3` shell) holds: an eighth of the two
/// seconds that a commit may take, so that a foreign lock is an ordinary refusal and never looks like a hang.
const BUSY: Duration = Duration::from_millis(250);

/// Page cache of each connection in KiB: the rows of one group commit and the tops of the trees fit; what is cold stays
/// in the kernel's cache.
const CACHE_KIB: i32 = 512;

/// The same while many commits come at once: the 64 or so pages that hashes of evidence are written to, those that all
/// entries share, and as many again that are read.
const BUSY_CACHE_KIB: i32 = 8 * 1_024;

/// Bytes of a page: an entry has some 740, so that pages of 4 KiB stay empty by a sixth, of 8 KiB by a twentieth, and of
/// these by a fortieth.
const PAGE: i32 = 16_384;

/// The write-ahead log is cut back to this many bytes after it grew beyond: twice what a checkpoint interval writes.
const LARGEST_IDLE_WAL: i32 = 8 * 1_024 * 1_024;

/// The same while many commits come at once: an interval writes 70 MiB, and as much may come while that is moved. To cut a
/// file and let it grow again takes up to 100 ms, in which everybody waits.
const LARGEST_BUSY_WAL: i32 = 160 * 1_024 * 1_024;

/// Prepared statements that each connection keeps: all that it has, about 80. With fewer than are in use each commit parses
/// some of them again.
const STATEMENTS: usize = 128;

/// Opens the connection that writes: checks whose database it is, brings its schema up to date, and looks for
/// damage.
///
/// # Errors
/// As [`super::SqliteStore::open`].
pub(super) fn open_writing(path: &Path) -> Result<Connection, StoreError> {
    let connection = begin_writing(path).map_err(|e| about(path, e))?;
    check(&connection).map_err(|e| about(path, e))?;
    Ok(connection)
}

/// The same without looking for damage.
///
/// # Errors
/// [`Trouble::Damaged`] if it is not Keyward's, or of another version; SQLite's.
pub(super) fn begin_writing(path: &Path) -> Result<Connection, Trouble> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrations::check_identity(&connection)?;
    settle(&connection)?;
    migrations::migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a connection that moves the write-ahead log and writes nothing else.
///
/// # Errors
/// [`Trouble::Damaged`], or SQLite's.
pub(super) fn open_moving(path: &Path) -> Result<Connection, Trouble> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // The log is looked for with the first thing that is read.
    migrations::check_identity(&connection)?;
    Ok(connection)
}

/// Opens the connection that reads.
///
/// # Errors
/// [`StoreError::Unavailable`] or [`StoreError::Damaged`].
pub(super) fn open_reading(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| about(path, e))?;
    connection.pragma_update(None, "query_only", true).map_err(|e| about(path, Trouble::from(e)))?;
    Ok(connection)
}

/// What went wrong inside: SQLite, or what it gave back.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// It can be read but not believed.
    Damaged(String),
    /// The medium or the system refused.
    Unavailable(String),
    /// It contradicts itself.
    Distrusted(&'static str, String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Says which database an error is about.
pub(super) fn about(path: &Path, trouble: impl Into<StoreError>) -> StoreError {
    let shown = path.display();
    match trouble.into() {
        StoreError::Unavailable(text) => StoreError::Unavailable(format!("{shown}: {text}")),
        StoreError::Damaged(text) => StoreError::Damaged(format!("{shown}: {text}")),
        other @ (StoreError::InUse(_) | StoreError::Distrusted { .. } | StoreError::Lost(_)) => other,
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Distrusted { code, text } => Self::Distrusted(code, text),
            StoreError::Damaged(text) => Self::Damaged(text),
            StoreError::Unavailable(text) | StoreError::InUse(text) | StoreError::Lost(text) => Self::Unavailable(text),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Sqlite(error) if is_medium(&error) => Self::Unavailable(error.to_string()),
            Trouble::Sqlite(error) => Self::Damaged(format!("{error}; restore the state directory from a backup")),
            Trouble::Damaged(text) => Self::Damaged(text),
            Trouble::Unavailable(text) => Self::Unavailable(text),
            Trouble::Distrusted(code, text) => Self::Distrusted { code, text },
        }
    }
}

/// Whether an error of reading comes from the medium or the system; all others mean that the database itself is not what
/// it should be.
fn is_medium(error: &rusqlite::Error) -> bool {
    use ErrorCode as E;
    const MEDIUM: [E; 11] = [
        E::DiskFull,
        E::SystemIoFailure,
        E::ReadOnly,
        E::CannotOpen,
        E::PermissionDenied,
        E::OutOfMemory,
        E::DatabaseBusy,
        E::DatabaseLocked,
        E::FileLockingProtocolFailed,
        E::OperationInterrupted,
        E::NoLargeFileSupport,
    ];
    error.sqlite_error_code().is_some_and(|code| MEDIUM.contains(&code))
}

/// Opens a database that nothing writes, on a medium that cannot be written: no lock is taken, no file is made.
///
/// # Errors
/// SQLite's.
pub(super) fn open_immutable(path: &Path) -> Result<Connection, Trouble> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    open(Path::new(&uri), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// Opens a database with the settings that all connections have.
///
/// # Errors
/// SQLite's.
pub(super) fn open(path: &Path, mode: OpenFlags) -> Result<Connection, Trouble> {
    // Each connection belongs to one thread, so SQLite's own mutexes are not needed; links in the path are refused.
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        // Statements are planned once, not anew whenever what is bound to them changes.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
        // A checkpoint is the writer's alone: closing must not write the log back after an error of the medium, because
        // recovery at the next start checks every frame's checksum and a checkpoint does not.
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        connection.set_db_config(option, on)?;
    }
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Has a connection keep as many pages and as long a write-ahead log as busy times take, or as little as usual.
///
/// # Errors
/// SQLite's.
pub(super) fn keep_pages(connection: &Connection, pace: Pace) -> Result<(), rusqlite::Error> {
    let (pages, log) = match pace {
        Pace::Quiet => (CACHE_KIB, LARGEST_IDLE_WAL),
        Pace::Busy => (BUSY_CACHE_KIB, LARGEST_BUSY_WAL),
    };
    connection.pragma_update(None, "cache_size", -pages)?;
    connection.pragma_update(None, "journal_size_limit", log)?;
    // Also those pages that are beyond that by now.
    connection.execute_batch("PRAGMA shrink_memory")
}

/// Write-ahead log with a flush at each commit. Checkpoints are explicit, see [`super::writer`].
fn settle(connection: &Connection) -> Result<(), Trouble> {
    // Only a new database takes it.
    connection.pragma_update(None, "page_size", PAGE)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let text = format!("the file system allows journal mode {mode} but not wal; use a local disk");
        return Err(Trouble::Unavailable(text));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LARGEST_IDLE_WAL)?;
    Ok(())
}

/// Looks for damage at start.
///
/// The bounded tables are checked page by page with their indexes: they are bounded by the number of credentials (some
/// 10 MB for 10,000), which takes tens of milliseconds. The log grows for years, and to read it all would make a start
/// take minutes: [`super::trust`] checks its end; `keyward audit verify` reads the rest.
///
/// # Errors
/// [`Trouble::Damaged`] says where; SQLite's.
pub(super) fn check(connection: &Connection) -> Result<(), Trouble> {
    for table in migrations::BOUNDED_TABLES {
        let found: String = connection.query_row(&format!("PRAGMA quick_check({table})"), [], |row| row.get(0))?;
        if found != "ok" {
            let text = format!("table {table}: {found}; restore the state directory from a backup");
            return Err(Trouble::Damaged(text));
        }
    }
    Ok(())
}
