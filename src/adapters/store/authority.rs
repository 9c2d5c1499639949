//! What private CAs made, as rows, written and read.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::connection::Trouble;
use super::load::{Fields, each, names_of, slug};
use super::save::{NotSaved, names, seconds};
use crate::domain::authority::RevocationReason;
use crate::domain::id::ProfileId;
use crate::domain::key::{Digest, KeyAlgorithm};
use crate::domain::register::{CaGeneration, CaKey, CaSigned, GenerationId, Issued, Keeper, ListMade, Phase};
use crate::domain::rotation::{Piece, PieceId, Times};
use crate::domain::spiffe::SpiffeId;
use crate::domain::state::State;
use crate::domain::time::Validity;

/// Private CAs: few generations with two keys each, and what they issued until it expires.
pub(super) const TABLES_MADE: &str = "
CREATE TABLE ca_generation (
    id    TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ca_key (
    generation  TEXT NOT NULL REFERENCES ca_generation (id) ON DELETE CASCADE,
    place       TEXT NOT NULL CHECK (place IN ('root', 'issuing')),
    key         BLOB NOT NULL CHECK (length(key) = 32),
    algorithm   TEXT NOT NULL,
    keeper      TEXT NOT NULL,
    der         BLOB,
    common_name TEXT,
    serial      TEXT,
    not_before  INTEGER,
    not_after   INTEGER,
    list_number INTEGER,
    list_from   INTEGER,
    list_until  INTEGER,
    list_digest BLOB,
    PRIMARY KEY (generation, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE issued (
    serial      TEXT PRIMARY KEY,
    generation  TEXT NOT NULL,
    profile     TEXT NOT NULL,
    names       TEXT NOT NULL,
    spiffe      TEXT,
    spki        BLOB NOT NULL CHECK (length(spki) = 32),
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    fingerprint BLOB,
    revoked     INTEGER,
    reason      TEXT
) STRICT, WITHOUT ROWID;
";

/// Rotations: when a generation came into its phases, and what is known about it.
pub(super) const ROTATION: &str = "
ALTER TABLE ca_generation RENAME COLUMN since TO made;
ALTER TABLE ca_generation ADD COLUMN staged INTEGER;
ALTER TABLE ca_generation ADD COLUMN signing INTEGER;
ALTER TABLE ca_generation ADD COLUMN draining INTEGER;
ALTER TABLE ca_generation ADD COLUMN retired INTEGER;
ALTER TABLE ca_generation ADD COLUMN destroyed INTEGER;
ALTER TABLE ca_generation ADD COLUMN abandoned INTEGER;
UPDATE ca_generation SET staged = made, signing = made WHERE phase = 'signing';

CREATE TABLE rotation (
    id      TEXT PRIMARY KEY,
    at      INTEGER NOT NULL,
    by      TEXT,
    why     TEXT,
    version INTEGER,
    digest  BLOB,
    detail  TEXT,
    der     BLOB
) STRICT, WITHOUT ROWID;
";

pub(super) fn save_generation(
    connection: &Connection,
    id: &GenerationId,
    generation: &CaGeneration,
) -> Result<(), NotSaved> {
    let text = id.to_string();
    connection.prepare_cached("DELETE FROM ca_generation WHERE id = ?1")?.execute([&text])?;
    let Times { made, staged, signing, draining, retired, destroyed } = generation.times;
    connection
        .prepare_cached(
            "INSERT INTO ca_generation (id, phase, made, staged, signing, draining, retired, destroyed, abandoned)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            text,
            generation.phase.as_str(),
            made.unix(),
            seconds(staged),
            seconds(signing),
            seconds(draining),
            seconds(retired),
            seconds(destroyed),
            seconds(generation.abandoned),
        ])?;
    for (place, key) in [("root", &generation.root), ("issuing", &generation.issuing)] {
        if let Some(key) = key {
            save_key(connection, &text, place, key)?;
        }
    }
    Ok(())
}

fn save_key(connection: &Connection, generation: &str, place: &str, key: &CaKey) -> Result<(), NotSaved> {
    let (signed, list) = (key.certificate.as_ref(), key.list.as_ref());
    let number = list.map(|l| i64::try_from(l.number)).transpose();
    let number = number.map_err(|_| NotSaved::Refused("the number of a revocation list is beyond 2^63".to_owned()))?;
    connection
        .prepare_cached(
            "INSERT INTO ca_key (generation, place, key, algorithm, keeper, der, common_name, serial, not_before,
                 not_after, list_number, list_from, list_until, list_digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            generation,
            place,
            key.key.0,
            key.algorithm.as_str(),
            key.keeper.as_str(),
            signed.map(|s| &*s.der),
            signed.map(|s| &*s.common_name),
            signed.map(|s| &*s.serial),
            seconds(signed.map(|s| s.validity.not_before)),
            seconds(signed.map(|s| s.validity.not_after)),
            number,
            seconds(list.map(|l| l.this_update)),
            seconds(list.map(|l| l.next_update)),
            list.map(|l| l.digest.0),
        ])?;
    Ok(())
}

pub(super) fn save_issued(connection: &Connection, serial: &str, issued: Option<&Issued>) -> Result<(), NotSaved> {
    let Some(issued) = issued else {
        connection.prepare_cached("DELETE FROM issued WHERE serial = ?1")?.execute([serial])?;
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO issued (serial, generation, profile, names, spiffe, spki, not_before, not_after, at,
                 fingerprint, revoked, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            serial,
            issued.generation.to_string(),
            issued.profile.as_str(),
            names(&issued.names)?,
            issued.spiffe.as_ref().map(SpiffeId::as_str),
            issued.spki.0,
            issued.validity.not_before.unix(),
            issued.validity.not_after.unix(),
            issued.at.unix(),
            issued.fingerprint.map(|f| f.0),
            issued.revoked.map(|(at, _)| at.unix()),
            issued.revoked.map(|(_, reason)| reason.as_str()),
        ])?;
    Ok(())
}

pub(super) fn load_generations(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const GENERATIONS: &str =
        "SELECT id, phase, made, staged, signing, draining, retired, destroyed, abandoned FROM ca_generation";
    const KEYS: &str = "SELECT generation, place, key, algorithm, keeper, der, common_name, serial, not_before,
        not_after, list_number, list_from, list_until, list_digest FROM ca_key";
    each(connection, "ca_generation", GENERATIONS, id.map(|id| ("id", id)), |f| {
        let id = f.parse(GenerationId::parse)?;
        let phase = f.parse(Phase::parse)?;
        let times = Times {
            made: f.time()?,
            staged: f.opt_time()?,
            signing: f.opt_time()?,
            draining: f.opt_time()?,
            retired: f.opt_time()?,
            destroyed: f.opt_time()?,
        };
        let generation = CaGeneration { phase, times, abandoned: f.opt_time()?, root: None, issuing: None };
        state.generations.insert(id, Arc::new(generation));
        Ok(())
    })?;
    each(connection, "ca_key", KEYS, id.map(|id| ("generation", id)), |f| {
        let id = f.parse(GenerationId::parse)?;
        let place: String = f.take()?;
        let key = key(f)?;
        let Some(generation) = state.generations.get_mut(&id) else {
            return Err(f.bad("a key without its generation"));
        };
        let generation = Arc::make_mut(generation);
        match place.as_str() {
            "root" => generation.root = Some(key),
            "issuing" => generation.issuing = Some(key),
            other => return Err(f.bad(other)),
        }
        Ok(())
    })
}

fn key(f: &mut Fields<'_>) -> Result<CaKey, Trouble> {
    let (key, algorithm, keeper) = (Digest(f.take()?), f.parse(KeyAlgorithm::parse)?, f.parse(Keeper::parse)?);
    let (der, common_name, serial) = (f.take::<Option<Vec<u8>>>()?, f.take()?, f.take()?);
    let certificate = match (der, common_name, serial, f.opt_time()?, f.opt_time()?) {
        (Some(der), Some(common_name), Some(serial), Some(not_before), Some(not_after)) => {
            let validity = Validity { not_before, not_after };
            Some(CaSigned { der: Arc::from(der), common_name, serial, validity })
        }
        (None, None::<Arc<str>>, None::<Arc<str>>, None, None) => None,
        _ => return Err(f.bad("half a certificate of a CA")),
    };
    let list = match (f.take::<Option<i64>>()?, f.opt_time()?, f.opt_time()?, f.take::<Option<[u8; 32]>>()?) {
        (Some(number), Some(this_update), Some(next_update), Some(digest)) => {
            let number = u64::try_from(number).map_err(|_| f.bad(number))?;
            Some(ListMade { number, this_update, next_update, digest: Digest(digest) })
        }
        (None, None, None, None) => None,
        _ => return Err(f.bad("half a revocation list")),
    };
    Ok(CaKey { key, algorithm, keeper, certificate, list })
}

pub(super) fn save_piece(connection: &Connection, id: &PieceId, piece: Option<&Piece>) -> Result<(), NotSaved> {
    let text = id.to_string();
    let Some(Piece { at, by, why, version, digest, detail, der }) = piece else {
        connection.prepare_cached("DELETE FROM rotation WHERE id = ?1")?.execute([text])?;
        return Ok(());
    };
    let version = version.map(i64::try_from).transpose();
    let version = version.map_err(|_| NotSaved::Refused("the version of a bundle is beyond 2^63".to_owned()))?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO rotation (id, at, by, why, version, digest, detail, der)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            text,
            at.unix(),
            by.as_deref(),
            why.as_deref(),
            version,
            digest.map(|d| d.0),
            detail.as_deref(),
            der.as_deref(),
        ])?;
    Ok(())
}

pub(super) fn load_pieces(connection: &Connection, state: &mut State, id: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT id, at, by, why, version, digest, detail, der FROM rotation";
    each(connection, "rotation", SQL, id.map(|id| ("id", id)), |f| {
        let id = f.parse(PieceId::parse)?;
        let piece = Piece {
            at: f.time()?,
            by: f.take()?,
            why: f.take()?,
            version: match f.take::<Option<i64>>()? {
                Some(version) => Some(u64::try_from(version).map_err(|_| f.bad(version))?),
                None => None,
            },
            digest: f.take::<Option<[u8; 32]>>()?.map(Digest),
            detail: f.take()?,
            der: f.take::<Option<Vec<u8>>>()?.map(Arc::from),
        };
        state.pieces.insert(id, Arc::new(piece));
        Ok(())
    })
}

pub(super) fn load_issued(connection: &Connection, state: &mut State, serial: Option<&str>) -> Result<(), Trouble> {
    const SQL: &str = "SELECT serial, generation, profile, names, spiffe, spki, not_before, not_after, at, fingerprint,
        revoked, reason FROM issued";
    each(connection, "issued", SQL, serial.map(|serial| ("serial", serial)), |f| {
        let serial: Arc<str> = f.take()?;
        let issued = Issued {
            generation: f.parse(GenerationId::parse)?,
            profile: f.parse(slug(ProfileId::parse))?,
            names: f.parse(names_of)?,
            spiffe: f.opt_parse(SpiffeId::parse)?,
            spki: Digest(f.take()?),
            validity: Validity { not_before: f.time()?, not_after: f.time()? },
            at: f.time()?,
            fingerprint: f.take::<Option<[u8; 32]>>()?.map(Digest),
            revoked: match (f.opt_time()?, f.opt_parse(RevocationReason::parse)?) {
                (Some(at), Some(reason)) => Some((at, reason)),
                (None, None) => None,
                _ => return Err(f.bad("half a revocation")),
            },
        };
        state.issued.insert(serial, Arc::new(issued));
        Ok(())
    })
}
