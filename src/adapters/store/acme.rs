//! What ACME directories remember, as rows, written and read.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::connection::Trouble;
use super::load::{each, names_of, slug};
use super::save::{NotSaved, names, seconds};
use crate::domain::certificate::CertId;
use crate::domain::directory::{Account, Order, RowId, Stage, Standing};
use crate::domain::id::ProfileId;
use crate::domain::state::State;

/// ACME directories: accounts, and orders until what was issued has expired.
pub(super) const DIRECTORIES: &str = "
CREATE TABLE acme_account (
    id       TEXT PRIMARY KEY,
    key      TEXT NOT NULL,
    contacts TEXT,
    standing TEXT NOT NULL,
    kid      TEXT,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE acme_order (
    id       TEXT PRIMARY KEY,
    account  TEXT NOT NULL,
    names    TEXT NOT NULL,
    profile  TEXT NOT NULL,
    replaces TEXT,
    at       INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    ruled    INTEGER,
    stage    TEXT NOT NULL,
    spki     BLOB,
    since    INTEGER,
    serial   TEXT,
    proofs   TEXT NOT NULL,
    errors   TEXT
) STRICT, WITHOUT ROWID;
";

pub(super) fn save_account(connection: &Connection, id: &RowId, account: Option<&Account>) -> Result<(), NotSaved> {
    let Some(account) = account else {
        connection.prepare_cached("DELETE FROM acme_account WHERE id = ?1")?.execute([id.to_string()])?;
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO acme_account (id, key, contacts, standing, kid, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id.to_string(),
            &*account.key,
            account.contacts.as_deref(),
            account.standing.as_str(),
            account.grant.as_deref(),
            account.at.unix(),
        ])?;
    Ok(())
}

pub(super) fn save_order(connection: &Connection, id: &RowId, order: Option<&Order>) -> Result<(), NotSaved> {
    let Some(order) = order else {
        connection.prepare_cached("DELETE FROM acme_order WHERE id = ?1")?.execute([id.to_string()])?;
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO acme_order (id, account, names, profile, replaces, at, expires, ruled, stage, spki,
                 since, serial, proofs, errors)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            id.to_string(),
            // A number of 64 bits without a sign is none of SQLite's.
            format!("{:x}", order.account),
            names(&order.names)?,
            order.profile.as_str(),
            order.replaces.as_ref().map(|c| &*c.0),
            order.at.unix(),
            order.expires.unix(),
            seconds(order.ruled),
            order.stage.as_str(),
            order.stage.spki().map(|spki| &**spki),
            seconds(order.stage.since()),
            order.stage.serial().map(|serial| &**serial),
            order.proofs(),
            order.errors.as_deref(),
        ])?;
    Ok(())
}

pub(super) fn load_accounts(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT id, key, contacts, standing, kid, at FROM acme_account";
    each(connection, "acme_account", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(RowId::parse)?;
        let account = Account {
            key: f.take()?,
            contacts: f.take()?,
            standing: f.parse(Standing::parse)?,
            grant: f.take()?,
            at: f.time()?,
        };
        state.accounts.insert(id, Arc::new(account));
        Ok(())
    })
}

pub(super) fn load_orders(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT id, account, names, profile, replaces, at, expires, ruled, stage, spki, since, serial,
        proofs, errors FROM acme_order";
    each(connection, "acme_order", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(RowId::parse)?;
        let account = f.parse(|t| u64::from_str_radix(t, 16).ok())?;
        let (names, profile) = (f.parse(names_of)?, f.parse(slug(ProfileId::parse))?);
        let replaces: Option<Arc<str>> = f.take()?;
        let (at, expires, ruled) = (f.time()?, f.time()?, f.opt_time()?);
        let stage: String = f.take()?;
        let (spki, since, serial) = (f.take::<Option<Vec<u8>>>()?, f.opt_time()?, f.take()?);
        let stage = Stage::of(&stage, spki.map(Arc::from), since, serial).ok_or_else(|| f.bad(&stage))?;
        let authorizations = f.parse(Order::parse_proofs)?;
        let errors = f.take()?;
        let replaces = replaces.map(CertId);
        let order = Order { account, names, profile, replaces, at, expires, ruled, stage, authorizations, errors };
        state.orders.insert(id, Arc::new(order));
        Ok(())
    })
}
