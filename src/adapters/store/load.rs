//! The state from its rows. [`super::save`] is its mirror. A row that cannot be read makes the whole state unbelievable:
//! nothing is skipped.

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Row};

use crate::domain::certificate::CertId;
use crate::domain::changes::Before;
use crate::domain::directory::{Account, Order, RowId};
use crate::domain::execution::{Attempt, Failure, Fault, Generation, Stage, Trigger};
use crate::domain::freeze::{Freeze, Scope};
use crate::domain::id::{AttemptId, CredentialId, EntryId, FreezeId, IssuerId, KeyId, Ulid};
use crate::domain::key::Digest;
use crate::domain::limits::{BucketKey, LimitKind};
use crate::domain::name::NameSet;
use crate::domain::register::{CaGeneration, GenerationId, Issued};
use crate::domain::rotation::{Piece, PieceId};
use crate::domain::state::{AriRecord, ClockMark, CredentialRecord, IssuerRecord, Latch, LatchOn, Request, State};
use crate::domain::time::{Boottime, Timestamp, Validity};
use crate::domain::upkeep::KeyRecord;

use super::acme::{load_accounts, load_orders};
use super::authority::{load_generations, load_issued, load_pieces};
use super::connection::Trouble;
use super::upkeep::load_keys;

/// Everything, as of one moment.
///
/// # Errors
/// [`Trouble::Damaged`] names the table and the value that cannot be read.
pub(super) fn state(connection: &mut Connection) -> Result<State, Trouble> {
    // One read transaction, so that all tables show the same commit.
    let connection = &*connection.transaction()?;
    let mut state = State::default();
    credentials(connection, &mut state, None)?;
    generations(connection, &mut state, None)?;
    attempts(connection, &mut state, None)?;
    issuers(connection, &mut state, None)?;
    ledger(connection, &mut state)?;
    latches(connection, &mut state, None)?;
    freezes(connection, &mut state, None)?;
    load_generations(connection, &mut state, None)?;
    load_issued(connection, &mut state, None)?;
    load_keys(connection, &mut state, None)?;
    load_pieces(connection, &mut state, None)?;
    load_accounts(connection, &mut state, None)?;
    load_orders(connection, &mut state, None)?;
    clock(connection, &mut state)?;
    Ok(state)
}

/// The rows as they are now: what a transaction has written counts.
pub(super) struct Rows<'c>(pub(super) &'c Connection);

impl Before for Rows<'_> {
    type Error = Trouble;

    fn credential(&self, id: &CredentialId) -> Result<Option<Cow<'_, CredentialRecord>>, Trouble> {
        let mut state = State::default();
        credentials(self.0, &mut state, Some(id.as_str()))?;
        generations(self.0, &mut state, Some(id.as_str()))?;
        Ok(state.credentials.remove(id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn attempt(&self, id: AttemptId) -> Result<Option<Cow<'_, Attempt>>, Trouble> {
        let mut state = State::default();
        attempts(self.0, &mut state, Some(&id.to_string()))?;
        Ok(state.attempts.remove(&id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn issuer(&self, id: &IssuerId) -> Result<Option<Cow<'_, IssuerRecord>>, Trouble> {
        let mut state = State::default();
        issuers(self.0, &mut state, Some(id.as_str()))?;
        Ok(state.issuers.remove(id).map(Cow::Owned))
    }

    fn automatic(&self, names: &str) -> Result<Vec<Timestamp>, Trouble> {
        let mut statement = self.0.prepare_cached("SELECT at FROM automatic WHERE names = ?1 ORDER BY place")?;
        let times = statement.query_map([names], |row| row.get(0).map(Timestamp::from_unix))?;
        Ok(times.collect::<Result<_, _>>()?)
    }

    fn latch(&self, on: &LatchOn) -> Result<Option<Cow<'_, Latch>>, Trouble> {
        let mut state = State::default();
        latches(self.0, &mut state, Some(&on.to_string()))?;
        Ok(state.latches.remove(on).map(Cow::Owned))
    }

    fn freeze(&self, id: FreezeId) -> Result<Option<Cow<'_, Freeze>>, Trouble> {
        let mut state = State::default();
        freezes(self.0, &mut state, Some(&id.to_string()))?;
        Ok(state.freezes.remove(&id).map(Cow::Owned))
    }

    fn generation(&self, id: &GenerationId) -> Result<Option<Cow<'_, CaGeneration>>, Trouble> {
        let mut state = State::default();
        load_generations(self.0, &mut state, Some(&id.to_string()))?;
        Ok(state.generations.remove(id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn issued(&self, serial: &str) -> Result<Option<Cow<'_, Issued>>, Trouble> {
        let mut state = State::default();
        load_issued(self.0, &mut state, Some(serial))?;
        Ok(state.issued.remove(serial).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn key(&self, id: &KeyId) -> Result<Option<Cow<'_, KeyRecord>>, Trouble> {
        let mut state = State::default();
        load_keys(self.0, &mut state, Some(id.as_str()))?;
        Ok(state.keys.remove(id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn piece(&self, id: &PieceId) -> Result<Option<Cow<'_, Piece>>, Trouble> {
        let mut state = State::default();
        load_pieces(self.0, &mut state, Some(&id.to_string()))?;
        Ok(state.pieces.remove(id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn account(&self, id: &RowId) -> Result<Option<Cow<'_, Account>>, Trouble> {
        let mut state = State::default();
        load_accounts(self.0, &mut state, Some(&id.to_string()))?;
        Ok(state.accounts.remove(id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }

    fn order(&self, id: &RowId) -> Result<Option<Cow<'_, Order>>, Trouble> {
        let mut state = State::default();
        load_orders(self.0, &mut state, Some(&id.to_string()))?;
        Ok(state.orders.remove(id).map(Arc::unwrap_or_clone).map(Cow::Owned))
    }
}

fn credentials(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str =
        "SELECT id, ari_cert_id, ari_from, ari_until, ari_picked, ari_next_poll, ari_explanation, failures,
        failure_at, failure_code, failure_text, failure_fault, failure_issuer, next_attempt, last_success, requested_by,
        requested_at, rolled_back FROM credential";
    each(connection, "credential", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(slug(CredentialId::parse))?;
        let record = CredentialRecord {
            ari: ari(f)?,
            failures: f.take()?,
            last_failure: failure(f)?,
            next_attempt: f.opt_time()?,
            last_success: f.opt_time()?,
            requested: request(f)?,
            rolled_back: f.opt_parse(attempt_id)?,
            current: None,
            previous: None,
        };
        state.credentials.insert(id, Arc::new(record));
        Ok(())
    })
}

fn ari(f: &mut Fields<'_>) -> Result<Option<AriRecord>, Trouble> {
    let cert_id: Option<Arc<str>> = f.take()?;
    let (from, until, picked) = (f.opt_time()?, f.opt_time()?, f.opt_time()?);
    let (next_poll, explanation) = (f.opt_time()?, f.take()?);
    match (cert_id, next_poll) {
        (Some(cert_id), Some(next_poll)) => {
            Ok(Some(AriRecord { cert_id: CertId(cert_id), window: from.zip(until), picked, next_poll, explanation }))
        }
        (None, None) => Ok(None),
        _ => Err(f.bad("half a record of renewal information")),
    }
}

fn failure(f: &mut Fields<'_>) -> Result<Option<Failure>, Trouble> {
    let (at, code, text) = (f.opt_time()?, f.take::<Option<Arc<str>>>()?, f.take::<Option<Arc<str>>>()?);
    let (fault, issuer) = (f.opt_parse(Fault::parse)?, f.opt_parse(slug(IssuerId::parse))?);
    match (at, code, text, fault) {
        (Some(at), Some(code), Some(text), Some(fault)) => Ok(Some(Failure { at, code, text, fault, issuer })),
        (None, None, None, None) => Ok(None),
        _ => Err(f.bad("half a failure")),
    }
}

fn request(f: &mut Fields<'_>) -> Result<Option<Request>, Trouble> {
    match (f.take::<Option<Arc<str>>>()?, f.opt_time()?) {
        (Some(by), Some(at)) => Ok(Some(Request { by, at })),
        (None, None) => Ok(None),
        _ => Err(f.bad("half a request")),
    }
}

fn generations(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str =
        "SELECT credential, place, slot, issuer, fingerprint, spki, serial, cert_id, not_before, not_after,
        names, cause, cause_detail, installed_at, verified_at, key_since FROM generation";
    each(connection, "generation", SQL, id.map(|id| ("credential", id)), |f| {
        let credential = f.parse(slug(CredentialId::parse))?;
        let place: String = f.take()?;
        let generation = Generation {
            slot: f.parse(attempt_id)?,
            issuer: f.parse(slug(IssuerId::parse))?,
            fingerprint: Digest(f.take()?),
            spki: Digest(f.take()?),
            serial: f.take()?,
            cert_id: f.take::<Option<Arc<str>>>()?.map(CertId),
            validity: Validity { not_before: f.time()?, not_after: f.time()? },
            names: f.parse(names_of)?,
            trigger: {
                let (cause, detail): (String, String) = (f.take()?, f.take()?);
                Trigger::parse(&cause, &detail).ok_or_else(|| f.bad(&cause))?
            },
            installed_at: f.time()?,
            verified_at: f.opt_time()?,
            key_since: f.time()?,
        };
        let Some(record) = state.credentials.get_mut(&credential) else {
            return Err(f.bad("a generation without its credential"));
        };
        let record = Arc::make_mut(record);
        match place.as_str() {
            "current" => record.current = Some(generation),
            "previous" => record.previous = Some(generation),
            other => return Err(f.bad(other)),
        }
        Ok(())
    })
}

fn attempts(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT id, credential, issuer, names, cause, cause_detail, replaces, began, intent, stage,
        order_url, failures, not_before FROM attempt";
    each(connection, "attempt", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(attempt_id)?;
        let attempt = Attempt {
            id,
            credential: f.parse(slug(CredentialId::parse))?,
            issuer: f.parse(slug(IssuerId::parse))?,
            names: f.parse(names_of)?,
            trigger: {
                let (cause, detail): (String, String) = (f.take()?, f.take()?);
                Trigger::parse(&cause, &detail).ok_or_else(|| f.bad(&cause))?
            },
            replaces: f.take::<Option<Arc<str>>>()?.map(CertId),
            began: f.time()?,
            intent: f.parse(|text| Ulid::parse(text).map(EntryId))?,
            stage: {
                let (stage, url): (String, Option<String>) = (f.take()?, f.take()?);
                Stage::parse(&stage, url.as_deref()).ok_or_else(|| f.bad(&stage))?
            },
            failures: f.take()?,
            not_before: f.opt_time()?,
        };
        state.attempts.insert(id, Arc::new(attempt));
        Ok(())
    })
}

fn issuers(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT id, failures, open_until, last_success, terms FROM issuer";
    each(connection, "issuer", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(slug(IssuerId::parse))?;
        let record = IssuerRecord {
            failures: f.take()?,
            open_until: f.opt_time()?,
            last_success: f.opt_time()?,
            terms: f.take()?,
        };
        state.issuers.insert(id, record);
        Ok(())
    })
}

fn ledger(connection: &Connection, state: &mut State) -> Result<(), Trouble> {
    each(connection, "bucket", "SELECT issuer, kind, counted, full_at FROM bucket", None, |f| {
        let key = BucketKey::new(f.parse(slug(IssuerId::parse))?, f.parse(LimitKind::parse)?, f.take()?);
        state.ledger.full_at.insert(key, f.time()?);
        Ok(())
    })?;
    each(connection, "automatic", "SELECT names, at FROM automatic ORDER BY place", None, |f| {
        let set: Arc<str> = f.take()?;
        state.ledger.automatic.entry(set.into()).or_default().push(f.time()?);
        Ok(())
    })
}

fn latches(connection: &Connection, state: &mut State, on: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT subject, at, code, text, by FROM latch";
    each(connection, "latch", SQL, on.map(|on| ("subject", on)), |f| {
        let on = f.parse(LatchOn::parse)?;
        let latch = Latch { at: f.time()?, code: f.take()?, text: f.take()?, by: f.take()? };
        state.latches.insert(on, latch);
        Ok(())
    })
}

fn freezes(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT id, scope, reason, by, since, until FROM freeze";
    each(connection, "freeze", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(FreezeId::parse)?;
        let scope = f.parse(slug(Scope::parse))?;
        let freeze = Freeze { scope, reason: f.take()?, by: f.take()?, since: f.time()?, until: f.time()? };
        state.freezes.insert(id, freeze);
        Ok(())
    })
}

fn clock(connection: &Connection, state: &mut State) -> Result<(), Trouble> {
    each(connection, "clock", "SELECT wall, boot_seconds, boot_nanos, boot_id FROM clock", None, |f| {
        let wall = f.time()?;
        let (seconds, nanos): (i64, u32) = (f.take()?, f.take()?);
        let boot = match u64::try_from(seconds) {
            // More would carry over into the seconds, which the writer never does.
            Ok(seconds) if nanos < 1_000_000_000 => Boottime::from_boot(Duration::new(seconds, nanos)),
            _ => return Err(f.bad(format_args!("{seconds} s and {nanos} ns since boot"))),
        };
        state.clock = Some(ClockMark { wall, boot, boot_id: f.take()? });
        Ok(())
    })
}

/// The clocks' mark alone.
///
/// # Errors
/// As [`state`].
pub(super) fn clock_mark(connection: &Connection) -> Result<Option<ClockMark>, Trouble> {
    let mut state = State::default();
    clock(connection, &mut state)?;
    Ok(state.clock)
}

pub(super) fn each(
    connection: &Connection,
    table: &'static str,
    sql: &str,
    only: Option<(&str, &str)>,
    mut then: impl FnMut(&mut Fields<'_>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut statement = match only {
        Some((column, _)) => connection.prepare_cached(&format!("{sql} WHERE {column} = ?1"))?,
        None => connection.prepare_cached(sql)?,
    };
    let mut rows = statement.query(rusqlite::params_from_iter(only.map(|(_, value)| value)))?;
    while let Some(row) = rows.next()? {
        then(&mut Fields { table, row, next: 0 })?;
    }
    Ok(())
}

/// A row's fields, taken in the order of the SELECT.
pub(super) struct Fields<'r> {
    table: &'static str,
    row: &'r Row<'r>,
    next: usize,
}

impl Fields<'_> {
    pub(super) fn take<T: FromSql>(&mut self) -> Result<T, Trouble> {
        let value = self.row.get(self.next).map_err(|e| self.bad(e))?;
        self.next = self.next.saturating_add(1);
        Ok(value)
    }

    pub(super) fn parse<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, Trouble> {
        let text: String = self.take()?;
        parse(&text).ok_or_else(|| self.bad(format_args!("{text:?}")))
    }

    pub(super) fn opt_parse<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Trouble> {
        let text: Option<String> = self.take()?;
        text.map(|text| parse(&text).ok_or_else(|| self.bad(format_args!("{text:?}")))).transpose()
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, Trouble> {
        self.take().map(Timestamp::from_unix)
    }

    pub(super) fn opt_time(&mut self) -> Result<Option<Timestamp>, Trouble> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_unix))
    }

    pub(super) fn bad(&self, found: impl fmt::Display) -> Trouble {
        let (table, before) = (self.table, self.next);
        Trouble::Damaged(format!(
            "table {table}, near column {before}: {found} cannot be read; restore the state directory from a backup"
        ))
    }
}

pub(super) fn slug<T, E>(parse: impl Fn(&str) -> Result<T, E>) -> impl Fn(&str) -> Option<T> {
    move |text| parse(text).ok()
}

fn attempt_id(text: &str) -> Option<AttemptId> {
    Ulid::parse(text).map(AttemptId)
}

pub(super) fn names_of(key: &str) -> Option<NameSet> {
    NameSet::parse_key(key).ok()
}
