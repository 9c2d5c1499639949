//! Tracked keys as rows, written and read.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::connection::Trouble;
use super::load::{Fields, each, slug};
use super::save::{NotSaved, seconds};
use crate::domain::id::{AttemptId, EntryId, KeyId, Ulid};
use crate::domain::key::Digest;
use crate::domain::state::State;
use crate::domain::tracked::{KeyState, Print, Wrapped};
use crate::domain::upkeep::{KeyRecord, KeyVersion, Rotation, Step};

/// Keys that are no certificate's: what is known of each version, never a value.
pub(super) const TABLES_TRACKED: &str = "
CREATE TABLE tracked_key (
    id         TEXT PRIMARY KEY,
    rotation   TEXT,
    step       TEXT,
    intent     TEXT,
    began      INTEGER,
    failures   INTEGER NOT NULL,
    not_before INTEGER,
    by         TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE key_version (
    key         TEXT NOT NULL REFERENCES tracked_key (id) ON DELETE CASCADE,
    label       TEXT NOT NULL CHECK (label IN ('current', 'previous', 'pending')),
    number      INTEGER NOT NULL,
    state       TEXT NOT NULL,
    since       INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    by          TEXT,
    created     INTEGER NOT NULL,
    print       TEXT,
    certificate BLOB,
    ends        INTEGER,
    until       INTEGER,
    compromised INTEGER,
    PRIMARY KEY (key, label)
) STRICT, WITHOUT ROWID;
";

pub(super) fn save_key(connection: &Connection, id: &KeyId, record: &KeyRecord) -> Result<(), NotSaved> {
    // Replaced as a whole; its versions go with the old row.
    connection.prepare_cached("DELETE FROM tracked_key WHERE id = ?1")?.execute([id.as_str()])?;
    let KeyRecord { current, previous, pending, rotation } = record;
    let turning = rotation.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO tracked_key (id, rotation, step, intent, began, failures, not_before, by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id.as_str(),
            turning.map(|r| r.id.to_string()),
            turning.map(|r| r.step.as_str()),
            turning.and_then(|r| r.intent).map(|intent| intent.to_string()),
            turning.map(|r| r.began.unix()),
            turning.map_or(0, |r| r.failures),
            seconds(turning.and_then(|r| r.not_before)),
            turning.and_then(|r| r.by.as_deref()),
        ])?;
    for (label, version) in [("current", current), ("previous", previous), ("pending", pending)] {
        if let Some(version) = version {
            save_version(connection, id, label, version)?;
        }
    }
    Ok(())
}

fn save_version(connection: &Connection, id: &KeyId, label: &str, version: &KeyVersion) -> Result<(), NotSaved> {
    connection
        .prepare_cached(
            "INSERT INTO key_version (key, label, number, state, since, reason, by, created, print, certificate, ends,
                 until, compromised)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            id.as_str(),
            label,
            version.number,
            version.state.as_str(),
            version.since.unix(),
            &*version.reason,
            version.by.as_deref(),
            version.created.unix(),
            version.print.map(|print| print.to_string()),
            version.wrapped.map(|w| w.fingerprint.0),
            seconds(version.wrapped.map(|w| w.ends)),
            seconds(version.until),
            seconds(version.compromised),
        ])?;
    Ok(())
}

pub(super) fn load_keys(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const KEYS: &str = "SELECT id, rotation, step, intent, began, failures, not_before, by FROM tracked_key";
    const VERSIONS: &str =
        "SELECT key, label, number, state, since, reason, by, created, print, certificate, ends, until,
        compromised FROM key_version";
    each(connection, "tracked_key", KEYS, id.map(|id| ("id", id)), |f| {
        let id = f.parse(slug(KeyId::parse))?;
        let rotation = rotation(f)?;
        state.keys.insert(id, Arc::new(KeyRecord { rotation, ..KeyRecord::default() }));
        Ok(())
    })?;
    each(connection, "key_version", VERSIONS, id.map(|id| ("key", id)), |f| {
        let id = f.parse(slug(KeyId::parse))?;
        let label: String = f.take()?;
        let version = version(f)?;
        let Some(record) = state.keys.get_mut(&id) else { return Err(f.bad("a version without its key")) };
        let record = Arc::make_mut(record);
        match label.as_str() {
            "current" => record.current = Some(version),
            "previous" => record.previous = Some(version),
            "pending" => record.pending = Some(version),
            other => return Err(f.bad(other)),
        }
        Ok(())
    })
}

fn rotation(f: &mut Fields<'_>) -> Result<Option<Rotation>, Trouble> {
    let (id, step) = (f.opt_parse(|t| Ulid::parse(t).map(AttemptId))?, f.opt_parse(Step::parse)?);
    let (intent, began) = (f.opt_parse(|t| Ulid::parse(t).map(EntryId))?, f.opt_time()?);
    let (failures, not_before, by) = (f.take()?, f.opt_time()?, f.take()?);
    match (id, step, began) {
        (Some(id), Some(step), Some(began)) => Ok(Some(Rotation { id, step, intent, began, failures, not_before, by })),
        (None, None, None) if intent.is_none() && failures == 0 && not_before.is_none() && by.is_none() => Ok(None),
        _ => Err(f.bad("half a rotation")),
    }
}

fn version(f: &mut Fields<'_>) -> Result<KeyVersion, Trouble> {
    Ok(KeyVersion {
        number: f.take()?,
        state: f.parse(KeyState::parse)?,
        since: f.time()?,
        reason: f.take()?,
        by: f.take()?,
        created: f.time()?,
        print: f.opt_parse(Print::parse)?,
        wrapped: match (f.take::<Option<[u8; 32]>>()?, f.opt_time()?) {
            (Some(fingerprint), Some(ends)) => Some(Wrapped { fingerprint: Digest(fingerprint), ends }),
            (None, None) => None,
            _ => return Err(f.bad("half a certificate")),
        },
        until: f.opt_time()?,
        compromised: f.opt_time()?,
    })
}
