//! Private texts beside the log, and what the store adds to an entry: the changes of its transaction, and commitments in
//! place of the texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::audit::{Draft, Sealed};
use crate::domain::changes;
use crate::domain::key::Digest;
use crate::domain::private::{Private, Told};
use crate::domain::state::Change;
use crate::ports::Entropy;

use super::connection::Trouble;
use super::load::Rows;
use super::save::NotSaved;

/// People who are known by a pseudonym; more than ever act on one guardian.
const MOST_PEOPLE: i64 = 10_000;

/// Seals an entry with what its changes do to the rows, which have not seen them yet, and keeps its private texts.
///
/// # Errors
/// [`NotSaved`].
pub(super) fn tell(
    connection: &Connection,
    draft: &Draft,
    changes: &[Change],
    seal: impl FnOnce(&Told<'_>) -> Sealed,
) -> Result<Sealed, NotSaved> {
    let mut without_salt = false;
    let mut salt = || {
        let mut salt = [0; 16];
        without_salt |= rand::fill(&mut salt).is_err();
        salt
    };
    let mut told = Told::of(&draft.private, &mut salt);
    changes::tell(&mut told, changes, &Rows(connection))?;
    let sealed = seal(&told);
    for (commitment, private) in told.texts() {
        keep(connection, commitment, private, false)?;
    }
    if without_salt {
        return Err(NotSaved::Refused("the system gives no random bytes to keep a private text with".to_owned()));
    }
    if let Some(person) = &draft.person {
        keep(connection, &person.commitment(), person, true)?;
    }
    for commitment in &draft.forgets {
        connection.prepare_cached("DELETE FROM private WHERE sha256 = ?1")?.execute([commitment.0])?;
    }
    Ok(sealed)
}

fn keep(connection: &Connection, commitment: &Digest, private: &Private, person: bool) -> Result<(), NotSaved> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO private (sha256, salt, text, person) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![commitment.0, private.salt, &*private.text, person])?;
    Ok(())
}

/// The texts behind commitments, as far as they are there.
///
/// # Errors
/// [`Trouble::Damaged`] if another text lies there.
pub(super) fn texts(connection: &Connection, wanted: &[Digest]) -> Result<BTreeMap<Digest, Private>, Trouble> {
    let mut statement = connection.prepare_cached("SELECT salt, text FROM private WHERE sha256 = ?1")?;
    let mut found = BTreeMap::new();
    for commitment in wanted {
        let Some(private) = statement.query_row([commitment.0], read).optional()? else { continue };
        if private.commitment() != *commitment {
            return Err(Trouble::Damaged(format!("the private text {commitment} is not the one that was written")));
        }
        found.insert(*commitment, private);
    }
    Ok(found)
}

/// Everybody who is known by a pseudonym.
///
/// # Errors
/// SQLite's.
pub(super) fn people(connection: &Connection) -> Result<Vec<Private>, Trouble> {
    let mut statement = connection.prepare_cached("SELECT salt, text FROM private WHERE person = 1 LIMIT ?1")?;
    let people = statement.query_map([MOST_PEOPLE], read)?;
    Ok(people.collect::<Result<_, _>>()?)
}

/// Somebody by their name; who was not known yet gets a pseudonym.
///
/// # Errors
/// SQLite's.
pub(super) fn person(connection: &Connection, name: &str, entropy: &dyn Entropy) -> Result<Private, Trouble> {
    if let Some(known) = people(connection)?.into_iter().find(|person| &*person.text == name) {
        return Ok(known);
    }
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    Ok(Private { salt, text: Arc::from(name) })
}

fn read(row: &Row<'_>) -> Result<Private, rusqlite::Error> {
    Ok(Private { salt: row.get(0)?, text: row.get::<_, Arc<str>>(1)? })
}

impl From<Trouble> for NotSaved {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Sqlite(error) => Self::Sqlite(error),
            Trouble::Damaged(text) | Trouble::Unavailable(text) | Trouble::Distrusted(_, text) => Self::Refused(text),
        }
    }
}
