//! Changes of the state as rows. [`super::load`] is its mirror.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::acme::{save_account, save_order};
use super::authority::{save_generation, save_issued, save_piece};
use super::upkeep::save_key;
use crate::domain::execution::{Attempt, Generation};
use crate::domain::freeze::{Freeze, Scope};
use crate::domain::id::{AttemptId, CredentialId, FreezeId, IssuerId};
use crate::domain::limits::{AUTOMATIC_SPAN, BucketKey};
use crate::domain::name::NameSet;
use crate::domain::state::{Change, ClockMark, CredentialRecord, IssuerRecord, Latch, LatchOn};
use crate::domain::time::Timestamp;

/// Why something was not written.
#[derive(Debug)]
pub(super) enum NotSaved {
    /// It breaks a rule: the batch is at fault, not the database.
    Refused(String),
    /// SQLite said so.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for NotSaved {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Writes one change: the same meaning as [`crate::domain::state::State::apply`].
///
/// # Errors
/// [`NotSaved`].
pub(super) fn change(connection: &Connection, change: &Change) -> Result<(), NotSaved> {
    match change {
        Change::Credential(id, record) => credential(connection, id, record),
        Change::Forget(id) => forget(connection, id),
        Change::Attempt(attempt) => save_attempt(connection, attempt),
        Change::AttemptEnded(id) => end_attempt(connection, *id),
        Change::Issuer(id, record) => issuer(connection, id, record),
        Change::Bucket(key, full_at) => bucket(connection, key, *full_at),
        Change::AutomaticIssuance(names, at) => automatic(connection, names, *at),
        Change::Clock(mark) => clock(connection, mark),
        Change::Latch(on, latch) => save_latch(connection, on, latch.as_ref()),
        Change::Freeze(id, freeze) => save_freeze(connection, *id, freeze.as_ref()),
        Change::Generation(id, generation) => save_generation(connection, id, generation),
        Change::Issued(serial, issued) => save_issued(connection, serial, issued.as_deref()),
        Change::Key(id, record) => save_key(connection, id, record),
        Change::Piece(id, piece) => save_piece(connection, id, piece.as_deref()),
        Change::Account(id, account) => save_account(connection, id, account.as_deref()),
        Change::Order(id, order) => save_order(connection, id, order.as_deref()),
    }
}

fn credential(connection: &Connection, id: &CredentialId, record: &CredentialRecord) -> Result<(), NotSaved> {
    // A record is replaced as a whole; its generations go with the old row.
    forget(connection, id)?;
    let ari = record.ari.as_ref();
    let window = ari.and_then(|a| a.window);
    let failure = record.last_failure.as_ref();
    let request = record.requested.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO credential (id, ari_cert_id, ari_from, ari_until, ari_picked, ari_next_poll, ari_explanation,
                 failures, failure_at, failure_code, failure_text, failure_fault, failure_issuer, next_attempt,
                 last_success, requested_by, requested_at, rolled_back)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            id.as_str(),
            ari.map(|a| &*a.cert_id.0),
            window.map(|w| w.0.unix()),
            window.map(|w| w.1.unix()),
            seconds(ari.and_then(|a| a.picked)),
            ari.map(|a| a.next_poll.unix()),
            ari.and_then(|a| a.explanation.as_deref()),
            record.failures,
            failure.map(|f| f.at.unix()),
            failure.map(|f| &*f.code),
            failure.map(|f| &*f.text),
            failure.map(|f| f.fault.as_str()),
            failure.and_then(|f| f.issuer.as_ref()).map(IssuerId::as_str),
            seconds(record.next_attempt),
            seconds(record.last_success),
            request.map(|r| &*r.by),
            request.map(|r| r.at.unix()),
            record.rolled_back.map(|id| id.to_string()),
        ])?;
    for (place, kept) in [("current", &record.current), ("previous", &record.previous)] {
        if let Some(kept) = kept {
            generation(connection, id, place, kept)?;
        }
    }
    Ok(())
}

fn generation(connection: &Connection, id: &CredentialId, place: &str, kept: &Generation) -> Result<(), NotSaved> {
    connection
        .prepare_cached(
            "INSERT INTO generation (credential, place, slot, issuer, fingerprint, spki, serial, cert_id, not_before,
                 not_after, names, cause, cause_detail, installed_at, verified_at, key_since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            id.as_str(),
            place,
            kept.slot.to_string(),
            kept.issuer.as_str(),
            kept.fingerprint.0,
            kept.spki.0,
            &*kept.serial,
            kept.cert_id.as_ref().map(|c| &*c.0),
            kept.validity.not_before.unix(),
            kept.validity.not_after.unix(),
            names(&kept.names)?,
            kept.trigger.as_str(),
            kept.trigger.detail(),
            kept.installed_at.unix(),
            seconds(kept.verified_at),
            kept.key_since.unix(),
        ])?;
    Ok(())
}

fn forget(connection: &Connection, id: &CredentialId) -> Result<(), NotSaved> {
    connection.prepare_cached("DELETE FROM credential WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

fn save_attempt(connection: &Connection, attempt: &Attempt) -> Result<(), NotSaved> {
    use crate::domain::execution::Stage;
    let url = match &attempt.stage {
        Stage::Ordered { url } => Some(&**url),
        Stage::Begun | Stage::Issued => None,
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO attempt (id, credential, issuer, names, cause, cause_detail, replaces, began,
                 intent, stage, order_url, failures, not_before)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            attempt.id.to_string(),
            attempt.credential.as_str(),
            attempt.issuer.as_str(),
            names(&attempt.names)?,
            attempt.trigger.as_str(),
            attempt.trigger.detail(),
            attempt.replaces.as_ref().map(|c| &*c.0),
            attempt.began.unix(),
            attempt.intent.to_string(),
            attempt.stage.as_str(),
            url,
            attempt.failures,
            seconds(attempt.not_before),
        ])?;
    Ok(())
}

fn end_attempt(connection: &Connection, id: AttemptId) -> Result<(), NotSaved> {
    connection.prepare_cached("DELETE FROM attempt WHERE id = ?1")?.execute([id.to_string()])?;
    Ok(())
}

fn issuer(connection: &Connection, id: &IssuerId, record: &IssuerRecord) -> Result<(), NotSaved> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO issuer (id, failures, open_until, last_success, terms) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id.as_str(),
            record.failures,
            seconds(record.open_until),
            seconds(record.last_success),
            record.terms.as_deref(),
        ])?;
    Ok(())
}

fn bucket(connection: &Connection, key: &BucketKey, full_at: Timestamp) -> Result<(), NotSaved> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO bucket (issuer, kind, counted, full_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key.issuer().as_str(), key.kind().as_str(), &**key.key(), full_at.unix()])?;
    Ok(())
}

fn automatic(connection: &Connection, names: &str, at: Timestamp) -> Result<(), NotSaved> {
    let span = i64::try_from(AUTOMATIC_SPAN.as_secs()).unwrap_or(i64::MAX);
    connection
        .prepare_cached("DELETE FROM automatic WHERE names = ?1 AND (at = ?2 OR at <= ?2 - ?3)")?
        .execute(params![names, at.unix(), span])?;
    connection
        .prepare_cached("INSERT INTO automatic (names, at) VALUES (?1, ?2)")?
        .execute(params![names, at.unix()])?;
    Ok(())
}

fn save_latch(connection: &Connection, on: &LatchOn, latch: Option<&Latch>) -> Result<(), NotSaved> {
    let on = on.to_string();
    match latch {
        Some(latch) => connection
            .prepare_cached("INSERT OR REPLACE INTO latch (subject, at, code, text, by) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![on, latch.at.unix(), &*latch.code, &*latch.text, latch.by.as_deref()])?,
        None => connection.prepare_cached("DELETE FROM latch WHERE subject = ?1")?.execute([on])?,
    };
    Ok(())
}

fn save_freeze(connection: &Connection, id: FreezeId, freeze: Option<&Freeze>) -> Result<(), NotSaved> {
    let id = id.to_string();
    let Some(Freeze { scope, reason, by, since, until }) = freeze else {
        connection.prepare_cached("DELETE FROM freeze WHERE id = ?1")?.execute([id])?;
        return Ok(());
    };
    let text = scope.to_string();
    // What cannot be read is not written.
    if Scope::parse(&text).as_ref() != Ok(scope) {
        return Err(NotSaved::Refused(format!("the scope {text:?} cannot be read back; only parsed scopes are kept")));
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO freeze (id, scope, reason, by, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![id, text, &**reason, &**by, since.unix(), until.unix()])?;
    Ok(())
}

fn clock(connection: &Connection, mark: &ClockMark) -> Result<(), NotSaved> {
    let boot = mark.boot.as_duration();
    let boot_seconds = i64::try_from(boot.as_secs()).map_err(|_| {
        NotSaved::Refused(format!("{} s since boot is no time that a machine can be up", boot.as_secs()))
    })?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO clock (one, wall, boot_seconds, boot_nanos, boot_id) VALUES (1, ?1, ?2, ?3, ?4)",
        )?
        .execute(params![mark.wall.unix(), boot_seconds, boot.subsec_nanos(), &*mark.boot_id])?;
    Ok(())
}

pub(super) fn seconds(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::unix)
}

/// A set of names by its key, provided that the key reads back as the same set: what cannot be read is not written.
pub(super) fn names(names: &NameSet) -> Result<Arc<str>, NotSaved> {
    let key = names.key();
    match NameSet::parse_key(key) {
        Ok(read) if read == *names => Ok(key.clone()),
        _ => Err(NotSaved::Refused(format!("the names {key:?} cannot be read back; only parsed names are kept"))),
    }
}
