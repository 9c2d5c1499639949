//! A new database, made row by row of what could be believed of a damaged one.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::codec::entry::Entry;
use crate::codec::ledger::Beginning;
use crate::domain::audit::Phase;
use crate::domain::key::Digest;
use crate::domain::private::Private;
use crate::domain::state::{Change, State};
use crate::domain::tree::{Frontier, Subtree};

use super::checkpoint::Row;
use super::connection::Trouble;
use super::known::Known;
use super::save::NotSaved;
use super::walk::number;
use super::{directory, log, migrations, save, shard, tree};

/// The file beside the damaged one.
const NAME: &str = "keyward.db.rebuilt";

/// The database that is being made; one transaction until [`NewDatabase::finish`].
pub(super) struct NewDatabase {
    connection: Connection,
    path: PathBuf,
    tree: Frontier,
    /// Whether every entry so far was there: only then do the hashes mean anything.
    whole: bool,
}

impl NewDatabase {
    /// Begins it; one that an earlier try left is made anew.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) fn begin(dir: &Path) -> Result<Self, Trouble> {
        let path = dir.join(NAME);
        for name in [NAME.to_owned(), format!("{NAME}-journal")] {
            match fs::remove_file(dir.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Trouble::Unavailable(format!("cannot make {}: {e}", path.display())));
                }
                _ => {}
            }
        }
        directory::make_private(&path, &[]).map_err(|e| Trouble::Unavailable(e.to_string()))?;
        let mut connection = Connection::open(&path)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        migrations::migrate(&mut connection)?;
        // What is lost leaves a gap, and who froze what may be frozen itself; the guards come back at the end.
        connection.execute_batch("BEGIN IMMEDIATE; DROP TRIGGER entry_insert; DROP TRIGGER shard_insert;")?;
        Ok(Self { connection, path, tree: Frontier::default(), whole: true })
    }

    /// What is kept of the frozen entries; before the first entry.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn before(&mut self, beginning: &Beginning, subtrees: &[(Subtree, Digest)]) -> Result<(), Trouble> {
        self.tree = beginning.tree.clone();
        shard::replace_beginning(&self.connection, beginning)?;
        let sql = "INSERT INTO subtree (level, place, hash) VALUES (?1, ?2, ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (subtree, hash) in subtrees {
            statement.execute(params![subtree.level, number(subtree.place), hash.0])?;
        }
        Ok(())
    }

    /// A shard that was frozen.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn shard(&self, row: &shard::Row) -> Result<(), Trouble> {
        Ok(shard::insert(&self.connection, row)?)
    }

    /// An entry with everything that is derived from it.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn entry(&mut self, entry: &Entry, leaf: Digest, body: &[u8]) -> Result<(), Trouble> {
        let sequence = number(entry.sequence);
        let id = entry.id.0.to_bytes();
        self.connection
            .prepare_cached("INSERT INTO entry (sequence, id, at, leaf, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![sequence, id, entry.at.unix(), leaf.0, body])?;
        log::index(&self.connection, &entry.words(), sequence, &mut Known::default())?;
        match (entry.phase, entry.intent) {
            (Phase::Intent, _) => self
                .connection
                .prepare_cached("INSERT INTO open_intent (id, sequence) VALUES (?1, ?2)")?
                .execute(params![id, sequence])?,
            (Phase::Outcome, Some(intent)) => self
                .connection
                .prepare_cached("DELETE FROM open_intent WHERE id = ?1")?
                .execute([intent.0.to_bytes()])?,
            (Phase::Outcome | Phase::Event, _) => 0,
        };
        if self.whole {
            tree::push(&self.connection, &mut self.tree, leaf)?;
        }
        Ok(())
    }

    /// An entry is lost.
    pub(super) fn gap(&mut self) {
        self.whole = false;
    }

    /// A checkpoint that the entries agree with.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn checkpoint(&self, row: &Row, kept: bool) -> Result<(), Trouble> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO checkpoint (size, at, note, kept) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![number(row.size), row.at.unix(), row.note, kept])?;
        Ok(())
    }

    /// Evidence whose bytes have the hash that it is kept by.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn evidence(&self, sha256: &Digest, bytes: &[u8]) -> Result<(), Trouble> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO evidence (sha256, bytes) VALUES (?1, ?2)")?
            .execute(params![sha256.0, bytes])?;
        Ok(())
    }

    /// A text that has its commitment.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn private(&self, commitment: &Digest, private: &Private, person: bool) -> Result<(), Trouble> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO private (sha256, salt, text, person) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![commitment.0, private.salt, &*private.text, person])?;
        Ok(())
    }

    /// The state's tables.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn state(&self, state: &State) -> Result<(), Trouble> {
        for change in rows(state) {
            save::change(&self.connection, &change).map_err(|error| match error {
                NotSaved::Refused(text) => Trouble::Damaged(text),
                NotSaved::Sqlite(error) => Trouble::Sqlite(error),
            })?;
        }
        Ok(())
    }

    /// Commits, reads everything once more, and closes it; the file is durable then.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) fn finish(self) -> Result<PathBuf, Trouble> {
        self.connection.execute_batch(migrations::ENTRY_INSERT)?;
        self.connection.execute_batch(migrations::SHARD_INSERT)?;
        self.connection.execute_batch("COMMIT")?;
        let found: String = self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Trouble::Damaged(format!("the new database {}: {found}", self.path.display())));
        }
        self.connection.close().map_err(|(_, error)| Trouble::Sqlite(error))?;
        Ok(self.path)
    }
}

/// A state as the changes that make it.
fn rows(state: &State) -> Vec<Change> {
    let mut all = Vec::new();
    let State {
        credentials,
        attempts,
        issuers,
        ledger,
        clock,
        latches,
        freezes,
        generations,
        issued,
        pieces,
        keys,
        accounts,
        orders,
    } = state;
    all.extend(credentials.iter().map(|(id, record)| Change::Credential(id.clone(), record.clone())));
    all.extend(attempts.values().cloned().map(Change::Attempt));
    all.extend(issuers.iter().map(|(id, record)| Change::Issuer(id.clone(), record.clone())));
    all.extend(ledger.full_at.iter().map(|(key, full_at)| Change::Bucket(key.clone(), *full_at)));
    let automatic =
        ledger.automatic.iter().flat_map(|(names, times)| times.iter().map(move |at| (names.text().clone(), *at)));
    all.extend(automatic.map(|(names, at)| Change::AutomaticIssuance(names, at)));
    all.extend(clock.iter().cloned().map(Change::Clock));
    all.extend(freezes.iter().map(|(id, freeze)| Change::Freeze(*id, Some(freeze.clone()))));
    all.extend(latches.iter().map(|(on, latch)| Change::Latch(on.clone(), Some(latch.clone()))));
    all.extend(generations.iter().map(|(id, generation)| Change::Generation(id.clone(), generation.clone())));
    all.extend(issued.iter().map(|(serial, issued)| Change::Issued(serial.clone(), Some(issued.clone()))));
    all.extend(keys.iter().map(|(id, record)| Change::Key(id.clone(), record.clone())));
    all.extend(pieces.iter().map(|(id, piece)| Change::Piece(id.clone(), Some(piece.clone()))));
    all.extend(accounts.iter().map(|(id, account)| Change::Account(id.clone(), Some(account.clone()))));
    all.extend(orders.iter().map(|(id, order)| Change::Order(id.clone(), Some(order.clone()))));
    all
}
