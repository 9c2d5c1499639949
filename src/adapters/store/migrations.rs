//! The schema and its versions.
//!
//! `user_version` counts the migrations that were applied, from 1 on. Each runs once, all that are missing in one transaction, and
//! none is ever changed after it shipped.

use rusqlite::{Connection, TransactionBehavior};

use crate::domain::limits::AUTOMATIC_SPAN;
use crate::domain::state::FULL_BUCKETS_KEPT;

use super::acme::DIRECTORIES;
use super::authority::{ROTATION, TABLES_MADE};
use super::connection::Trouble;
use super::upkeep::TABLES_TRACKED;

/// "KWRD" in ASCII: what `file` and SQLite show of whose database this is.
const APPLICATION_ID: i32 = 0x4b57_5244;

/// Every table whose size is bounded: those of the state, the intents without an outcome, the checkpoints that are kept,
/// one an hour, and what frozen entries leave behind.
pub(super) const BOUNDED_TABLES: [&str; 20] = [
    "credential",
    "generation",
    "attempt",
    "issuer",
    "bucket",
    "automatic",
    "clock",
    "latch",
    "freeze",
    "ca_generation",
    "ca_key",
    "issued",
    "rotation",
    "acme_account",
    "acme_order",
    "open_intent",
    "checkpoint",
    "shard",
    "link",
    "pending",
];

/// Every table of the state.
pub(super) const STATE_TABLES: [&str; 15] = [
    "credential",
    "generation",
    "attempt",
    "issuer",
    "bucket",
    "automatic",
    "clock",
    "latch",
    "freeze",
    "ca_generation",
    "ca_key",
    "issued",
    "rotation",
    "acme_account",
    "acme_order",
];

/// Every table.
pub(super) const TABLES: [&str; 26] = [
    "credential",
    "generation",
    "attempt",
    "issuer",
    "bucket",
    "automatic",
    "clock",
    "latch",
    "freeze",
    "ca_generation",
    "ca_key",
    "issued",
    "rotation",
    "acme_account",
    "acme_order",
    "entry",
    "checkpoint",
    "subtree",
    "word",
    "mark",
    "open_intent",
    "private",
    "evidence",
    "shard",
    "link",
    "pending",
];

/// The guard of the log's order, which is in [`FIRST`] too.
pub(super) const ENTRY_INSERT: &str = "
CREATE TRIGGER entry_insert BEFORE INSERT ON entry
WHEN NEW.sequence <> (SELECT ifnull(max(sequence), -1) + 1 FROM entry)
    OR EXISTS (SELECT 1 FROM entry WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: an entry has the next number and an id of its own');
END;
";

/// The version before the first migration: builds before the first release had another schema under this number.
const BEFORE: usize = 1;
const MIGRATIONS: [&str; 8] = [FIRST, LATCHES, FREEZING, TABLES_MADE, FREEZES, ROTATION, TABLES_TRACKED, DIRECTORIES];
/// What `user_version` is when all of them are applied.
const NEWEST: usize = BEFORE.saturating_add(MIGRATIONS.len());

/// Times are whole seconds since 1970; digests are 32 bytes; absent is NULL.
const FIRST: &str = "
CREATE TABLE credential (
    id              TEXT PRIMARY KEY,
    ari_cert_id     TEXT,
    ari_from        INTEGER,
    ari_until       INTEGER,
    ari_picked      INTEGER,
    ari_next_poll   INTEGER,
    ari_explanation TEXT,
    failures        INTEGER NOT NULL,
    failure_at      INTEGER,
    failure_code    TEXT,
    failure_text    TEXT,
    failure_fault   TEXT,
    failure_issuer  TEXT,
    next_attempt    INTEGER,
    last_success    INTEGER,
    requested_by    TEXT,
    requested_at    INTEGER,
    rolled_back     TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE generation (
    credential   TEXT NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    place        TEXT NOT NULL CHECK (place IN ('current', 'previous')),
    slot         TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    fingerprint  BLOB NOT NULL,
    spki         BLOB NOT NULL,
    serial       TEXT NOT NULL,
    cert_id      TEXT,
    not_before   INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    names        TEXT NOT NULL,
    cause        TEXT NOT NULL,
    cause_detail TEXT NOT NULL,
    installed_at INTEGER NOT NULL,
    verified_at  INTEGER,
    PRIMARY KEY (credential, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    id               TEXT PRIMARY KEY,
    credential       TEXT NOT NULL,
    issuer           TEXT NOT NULL,
    names            TEXT NOT NULL,
    cause            TEXT NOT NULL,
    cause_detail     TEXT NOT NULL,
    replaces         TEXT,
    began            INTEGER NOT NULL,
    intent           TEXT NOT NULL,
    stage            TEXT NOT NULL,
    order_url        TEXT,
    failures INTEGER NOT NULL,
    not_before       INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE issuer (
    id           TEXT PRIMARY KEY,
    failures     INTEGER NOT NULL,
    open_until   INTEGER,
    last_success INTEGER,
    terms        TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE bucket (
    issuer  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    counted TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, kind, counted)
) STRICT, WITHOUT ROWID;

-- The place keeps the order in which they were written.
CREATE TABLE automatic (
    place INTEGER PRIMARY KEY,
    names TEXT NOT NULL,
    at    INTEGER NOT NULL
) STRICT;
CREATE INDEX automatic_names ON automatic (names, at);

CREATE TABLE clock (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    wall         INTEGER NOT NULL,
    boot_seconds INTEGER NOT NULL,
    boot_nanos   INTEGER NOT NULL,
    boot_id      TEXT NOT NULL
) STRICT;

-- The Merkle log (decision 0007). The body stands last, so that a leaf is found without reading it. Times have no index:
-- the word of its day finds an entry by its time, however the wall clock stepped.
CREATE TABLE entry (
    sequence INTEGER PRIMARY KEY,
    id       BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    at       INTEGER NOT NULL,
    leaf     BLOB NOT NULL CHECK (length(leaf) = 32),
    body     BLOB NOT NULL
) STRICT;

-- A guard rail against mistakes, ours and an operator's; whoever means to cheat is caught by the hashes.
CREATE TRIGGER entry_update BEFORE UPDATE ON entry BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: an entry is never changed');
END;
CREATE TRIGGER entry_delete BEFORE DELETE ON entry BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: an entry is never deleted');
END;
-- Also keeps INSERT OR REPLACE from deleting the entry that is there.
CREATE TRIGGER entry_insert BEFORE INSERT ON entry
WHEN NEW.sequence <> (SELECT ifnull(max(sequence), -1) + 1 FROM entry)
    OR EXISTS (SELECT 1 FROM entry WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: an entry has the next number and an id of its own');
END;

-- Signed notes: the newest, and those that are kept.
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    note TEXT NOT NULL,
    kept INTEGER NOT NULL CHECK (kept IN (0, 1))
) STRICT;
CREATE INDEX checkpoint_kept ON checkpoint (size) WHERE kept = 1;
CREATE TRIGGER checkpoint_update BEFORE UPDATE ON checkpoint
WHEN NOT (NEW.size = OLD.size AND NEW.at = OLD.at AND NEW.kept = 1 AND substr(NEW.note, 1, length(OLD.note)) = OLD.note)
BEGIN
    SELECT RAISE(ABORT, 'a checkpoint is never changed: it only gains signatures, and then it is kept');
END;
CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint WHEN OLD.kept = 1 BEGIN
    SELECT RAISE(ABORT, 'a checkpoint that is kept is never changed');
END;

-- Derived from the leaves: complete subtrees of the levels 8, 16, 24, ….
CREATE TABLE subtree (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;

-- Derived from the bodies: the words that each entry is found by.
CREATE TABLE word (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE mark (
    word     INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (word, sequence)
) STRICT, WITHOUT ROWID;

-- Derived from the bodies: intents without an outcome.
CREATE TABLE open_intent (
    id       BLOB PRIMARY KEY CHECK (length(id) = 16),
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Deletable one by one: an entry holds the hash of salt and text only. Persons are those that a pseudonym stands for.
CREATE TABLE private (
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    salt   BLOB NOT NULL CHECK (length(salt) = 16),
    text   TEXT NOT NULL,
    person INTEGER NOT NULL CHECK (person IN (0, 1))
) STRICT;
CREATE INDEX private_person ON private (sha256) WHERE person = 1;
CREATE TRIGGER private_update BEFORE UPDATE ON private BEGIN
    SELECT RAISE(ABORT, 'a private text is never changed');
END;

-- Deletable one by one: retention and personal data; an entry names its evidence by hash only.
CREATE TABLE evidence (
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    bytes  BLOB NOT NULL
) STRICT;
CREATE TRIGGER evidence_update BEFORE UPDATE ON evidence BEGIN
    SELECT RAISE(ABORT, 'evidence is never changed');
END;
";

/// What only a person opens again; and since when a key is in use, which until now was as long as it was installed.
const LATCHES: &str = "
CREATE TABLE latch (
    subject TEXT PRIMARY KEY,
    at      INTEGER NOT NULL,
    code    TEXT NOT NULL,
    text    TEXT NOT NULL,
    by      TEXT
) STRICT, WITHOUT ROWID;
ALTER TABLE generation ADD COLUMN key_since INTEGER NOT NULL DEFAULT 0;
UPDATE generation SET key_since = installed_at;
";

/// The guard of what is frozen, which is in [`FREEZING`] too.
pub(super) const SHARD_INSERT: &str = "
CREATE TRIGGER shard_insert BEFORE INSERT ON shard
WHEN NEW.until <= (SELECT ifnull(max(until), 0) FROM shard)
    OR NOT EXISTS (
        SELECT 1 FROM entry WHERE sequence = NEW.freeze AND sequence >= NEW.until
            AND json_extract(CAST(body AS TEXT), '$.data.action') = 'audit.freeze'
            AND json_extract(CAST(body AS TEXT), '$.data.facts.until') = CAST(NEW.until AS TEXT)
            AND json_extract(CAST(body AS TEXT), '$.data.facts.manifest') = lower(hex(NEW.manifest)))
BEGIN
    SELECT RAISE(ABORT, 'what is frozen only grows, and an entry of the log says so');
END;
";

/// Freezing (decision 0012): what may be missing, what it leaves behind, and guards that let just that go.
const FREEZING: &str = "
CREATE TABLE shard (
    until    INTEGER PRIMARY KEY CHECK (until > 0 AND until % 256 = 0),
    manifest BLOB NOT NULL CHECK (length(manifest) = 32),
    freeze   INTEGER NOT NULL
) STRICT;
CREATE TRIGGER shard_insert BEFORE INSERT ON shard
WHEN NEW.until <= (SELECT ifnull(max(until), 0) FROM shard)
    OR NOT EXISTS (
        SELECT 1 FROM entry WHERE sequence = NEW.freeze AND sequence >= NEW.until
            AND json_extract(CAST(body AS TEXT), '$.data.action') = 'audit.freeze'
            AND json_extract(CAST(body AS TEXT), '$.data.facts.until') = CAST(NEW.until AS TEXT)
            AND json_extract(CAST(body AS TEXT), '$.data.facts.manifest') = lower(hex(NEW.manifest)))
BEGIN
    SELECT RAISE(ABORT, 'what is frozen only grows, and an entry of the log says so');
END;
CREATE TRIGGER shard_update BEFORE UPDATE ON shard BEGIN
    SELECT RAISE(ABORT, 'what is frozen is never changed');
END;
CREATE TRIGGER shard_delete BEFORE DELETE ON shard BEGIN
    SELECT RAISE(ABORT, 'what is frozen is never changed');
END;

-- Of the frozen entries: the newest about each target, and the intents whose outcome comes after them.
CREATE TABLE link (
    target TEXT PRIMARY KEY,
    leaf   BLOB NOT NULL CHECK (length(leaf) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE pending (
    id       BLOB PRIMARY KEY CHECK (length(id) = 16),
    sequence INTEGER NOT NULL,
    target   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

DROP TRIGGER entry_delete;
CREATE TRIGGER entry_delete BEFORE DELETE ON entry
WHEN OLD.sequence >= (SELECT ifnull(max(until), 0) FROM shard)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only: an entry is never deleted unless it is frozen');
END;
DROP TRIGGER checkpoint_delete;
CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint
WHEN OLD.kept = 1 AND OLD.size >= (SELECT ifnull(max(until), 0) FROM shard)
BEGIN
    SELECT RAISE(ABORT, 'a checkpoint that is kept is never changed');
END;
";

/// What people froze (decision 0019); nothing of the audit log, whose own freezing is [`FREEZING`].
const FREEZES: &str = "
CREATE TABLE freeze (
    id     TEXT PRIMARY KEY,
    scope  TEXT NOT NULL,
    reason TEXT NOT NULL,
    by     TEXT NOT NULL,
    since  INTEGER NOT NULL,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Refuses a database that is not ours or that a newer Keyward wrote, before anything is written to it.
///
/// # Errors
/// [`Trouble::Damaged`] says what was found.
pub(super) fn check_identity(connection: &Connection) -> Result<(), Trouble> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = version(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (application, version, tables) == (0, 0, 0) {
        return Ok(());
    }
    if application != APPLICATION_ID {
        let text = format!("this is another program's database (application id {application:#010x})");
        return Err(Trouble::Damaged(text));
    }
    if version > NEWEST {
        let text = format!("its schema has version {version} and this keyward knows up to {NEWEST}: run the newer one");
        return Err(Trouble::Damaged(text));
    }
    if version <= BEFORE {
        let text = "its schema is that of a build before the first release, which nothing converts; to begin anew, stop \
                    keyward and move keyward.db, keyward.db-wal and keyward.db-shm away: keys, accounts and installed \
                    files stay";
        return Err(Trouble::Damaged(text.to_owned()));
    }
    Ok(())
}

/// Applies every migration that is missing, all or none.
///
/// # Errors
/// [`Trouble::Sqlite`].
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Trouble> {
    let version = version(connection)?;
    if version == NEWEST {
        return Ok(());
    }
    let applied = version.saturating_sub(BEFORE);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip(applied) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(NEWEST).unwrap_or(i64::MAX))?;
    Ok(transaction.commit()?)
}

/// Drops ledger rows that no longer say anything: buckets that have long been full, and automatic issuances that no
/// longer count. "Now" is the recorded high-water mark of the wall clock, so no clock is read here.
pub(super) fn drop_expired(connection: &Connection) -> Result<(), rusqlite::Error> {
    let kept = |span: u64| i64::try_from(span).unwrap_or(i64::MAX);
    let full = kept(FULL_BUCKETS_KEPT.as_secs());
    let counted = kept(AUTOMATIC_SPAN.saturating_add(FULL_BUCKETS_KEPT).as_secs());
    connection.execute("DELETE FROM bucket WHERE full_at <= (SELECT wall FROM clock) - ?1", [full])?;
    connection.execute("DELETE FROM automatic WHERE at <= (SELECT wall FROM clock) - ?1", [counted])?;
    Ok(())
}

fn version(connection: &Connection) -> Result<usize, Trouble> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    usize::try_from(version).map_err(|_| Trouble::Damaged(format!("its schema has the impossible version {version}")))
}
