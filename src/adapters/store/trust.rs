//! Whether the log may be believed at a start (decision 0007): entries, checkpoint, lock and clock must agree, and what a
//! person accepts although they do not becomes an entry.
//!
//! ```text
//! neither entries nor lock nor key ─► new: checkpoint, key, lock        state = lock ─► open
//! state > lock, lock's root is its beginning ─► the tail is accepted whole, an entry says so
//! everything else ─► refused with a code, unless a person accepts exactly that
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::codec::checkpoint::Checkpoint;
use crate::codec::note::Note;
use crate::domain::audit::{self, Draft, Target, TargetKind, bounded_text};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::private::Private;
use crate::domain::state::{Change, Latch, LatchOn};
use crate::domain::time::Timestamp;
use crate::domain::tree::{Frontier, Subtree, TreeHead};
use crate::ports::StoreError;

use super::connection::Trouble;
use super::doubt::Doubt;
use super::key::LogKeys;
use super::known::Known;
use super::lockfile::{LockFile, NotAdvanced};
use super::save::{self, NotSaved};
use super::sealer::{self, Sealer};
use super::{LogOptions, checkpoint, key, log, private, rotate, shard, tree};

/// Checkpoint's signature, or root and entries, do not agree.
pub(super) const TAMPERED: &str = "KW6001";
const FORKED: &str = "KW6002";
const ROLLED_BACK: &str = "KW6003";
const NO_LOCK: &str = "KW6004";
const CLOCK_BACK: &str = "KW6005";
const BAD_LOCK: &str = "KW6006";
/// There is a log without its key.
const NO_KEY: &str = "KW6007";
/// There is a key without its log.
const NO_LOG: &str = "KW6010";
/// Entry: a tail that was not acknowledged was accepted.
const TAIL_ACCEPTED: &str = "KW6008";
/// Entry: a person accepted what a rule refuses.
const RULE_WAIVED: &str = "KW6009";

/// The code of a state that is damaged ([`crate::engine`] says the same of it).
pub(super) const DAMAGED: &str = "KW6040";
/// Entry: the log was not believed before.
const DOUBTED: &str = "KW4053";

/// The lock's file name in the state directory, where none is configured.
pub(super) const LOCK: &str = "audit.lock";

/// Entries of the log's end that are checked against their hashes at each start: more than one group commit usually
/// writes, and some 700 KiB to read.
const TAIL: usize = 1_024;

/// A look at the log in use reads this many blocks besides its end: some 700 KiB.
const BLOCKS: u64 = 4;
/// Entries of a block: the leaves below one stored hash of this level.
const BLOCK: u64 = 1 << LEVEL;
const LEVEL: u8 = 8;

/// What a person accepts at one start although a rule refuses it. Each that is used becomes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accept {
    /// There is no lock: its volume was lost.
    LockMissing,
    /// The lock cannot be read, or another key signed it.
    LockDamaged,
    /// The lock has seen more than the state has: what was restored is an old copy, and the rest is lost.
    RolledBack,
    /// The lock has seen another history.
    Forked,
    /// The newest entry is of the future: the clock was wrong when it was written.
    ClockBack,
}

impl Accept {
    /// Every one with its name on the command line and the code of the rule.
    pub const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::LockMissing, "lock-missing", NO_LOCK),
        (Self::LockDamaged, "lock-damaged", BAD_LOCK),
        (Self::RolledBack, "rolled-back", ROLLED_BACK),
        (Self::Forked, "forked", FORKED),
        (Self::ClockBack, "clock-back", CLOCK_BACK),
    ];

    /// By its name on the command line.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, _)| *name == text).map(|(accept, ..)| *accept)
    }

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(accept, ..)| *accept == self).map_or("", |(_, name, _)| name)
    }

    fn code(self) -> &'static str {
        Self::ALL.iter().find(|(accept, ..)| *accept == self).map_or("", |(.., code)| code)
    }
}

/// Where the lock of the log in `dir` lies.
pub(super) fn lock_path(dir: &Path, options: &LogOptions) -> PathBuf {
    options.lock.clone().unwrap_or_else(|| dir.join(LOCK))
}

/// Checks everything, begins a new log where there is none, and records what was accepted.
///
/// # Errors
/// [`StoreError::Distrusted`] names the rule and the way to recover; others as [`super::SqliteStore::open`].
pub(super) fn begin(connection: &mut Connection, dir: &Path, options: &LogOptions) -> Result<Sealer, StoreError> {
    let size = log::size(connection)?;
    let path = lock_path(dir, options);
    // A volume that is not mounted is a lock that is missing.
    let lock = if path.parent().is_some_and(Path::is_dir) { LockFile::open(&path)? } else { None };
    let is_new = size == 0 && lock.is_none();
    let newest = checkpoint::newest(connection)?.map(|row| row.note);
    let keys = match key::load(dir, options, newest.as_deref())? {
        Some(keys) => keys,
        None if is_new => return new_log(connection, dir, &path, options),
        None => {
            let text =
                format!("there is a log, and its key is missing in {}; put it back from a backup", dir.display());
            return Err(StoreError::Distrusted { code: NO_KEY, text });
        }
    };
    if is_new && newest.is_none() {
        let text = format!(
            "there is a log's key in {}, and neither entries nor lock; put the state directory back from a backup, or move \
             log.key away to begin another log",
            dir.display()
        );
        return Err(StoreError::Distrusted { code: NO_LOG, text });
    }
    let tree = tree::frontier(connection, size)?;
    check_checkpoint(connection, &keys, &tree)?;
    shard::check(connection)?;
    check_tail(connection)?;
    let mut judge = Judge { accept: &options.accept, waived: Vec::new() };
    let tail = match &lock {
        None if is_new => None,
        None => {
            judge.missing(&path)?;
            None
        }
        Some(lock) => judge.lock(connection, lock, &keys, &tree)?,
    };
    judge.clock(connection, options.now)?;
    record(connection, dir, Found { keys, tree, lock, tail, waived: judge.waived }, &path, options)
}

/// Begins a log: checkpoint, then key, then lock. Cut off after the first it begins again; after the second the key is
/// there to go on with. So a key without a checkpoint always means that a log is gone.
fn new_log(connection: &mut Connection, dir: &Path, path: &Path, options: &LogOptions) -> Result<Sealer, StoreError> {
    let keys = LogKeys { current: key::draw(options)?, old: None };
    let tree = Frontier::default();
    let transaction = connection.transaction().map_err(Trouble::from)?;
    let written = sealer::write_signed(&transaction, &keys, None, &tree, options.now).map_err(Trouble::from)?;
    transaction.commit().map_err(Trouble::from)?;
    key::write(dir, &keys.current)?;
    let lock = Some(LockFile::create(path, written.note())?);
    // A log that was not believed may have stood here.
    record(connection, dir, Found { keys, tree, lock, tail: None, waived: Vec::new() }, path, options)
}

/// The newest checkpoint is signed by the log's key, and its size and root are those of the entries.
fn check_checkpoint(connection: &Connection, keys: &LogKeys, tree: &Frontier) -> Result<(), StoreError> {
    let recovery = "run keyward audit verify to see from where on; restore the state directory from a backup";
    let tampered = |text: String| StoreError::Distrusted { code: TAMPERED, text: format!("{text}; {recovery}") };
    let Some(row) = checkpoint::newest(connection)? else {
        return match tree.size() {
            0 => Ok(()),
            size => Err(tampered(format!("there are {size} entries and no checkpoint"))),
        };
    };
    let said = signed(&row.note, keys).map_err(|why| tampered(format!("the newest checkpoint {why}")))?;
    let head = tree.head();
    if said.size != head.size || row.size != head.size {
        let text = format!("the newest checkpoint is over {} entries, and there are {}", said.size, head.size);
        return Err(tampered(text));
    }
    if said.root != head.root {
        let text = format!("the {} entries have root {}, and the checkpoint says {}", head.size, head.root, said.root);
        return Err(tampered(text));
    }
    Ok(())
}

/// The head that a note of this log states.
fn signed(note: &str, keys: &LogKeys) -> Result<TreeHead, String> {
    let note: Note = note.parse().map_err(|e| format!("is no signed note: {e}"))?;
    keys.verify(&note).map_err(|e| format!("is not signed by this log's key: {e}"))?;
    let said = Checkpoint::of(&note).map_err(|e| format!("is no checkpoint: {e}"))?;
    if said.origin == keys.origin() {
        Ok(said.head)
    } else {
        Err(format!("is of the log {:?}, and this one is {:?}", said.origin, keys.origin()))
    }
}

/// The end of the log: consecutive numbers, and each entry's bytes are those that were hashed.
fn check_tail(connection: &Connection) -> Result<(), StoreError> {
    let tail = log::newest(connection, None, TAIL)?;
    let gap = tail.windows(2).find_map(|pair| match pair {
        [newer, older] if older.sequence.checked_add(1) != Some(newer.sequence) => Some(newer.sequence),
        _ => None,
    });
    let altered = tail.iter().find(|e| audit::leaf_hash(&e.bytes) != e.leaf).map(|e| e.sequence);
    let what = match (gap, altered) {
        (Some(at), _) => format!("the audit log has a gap before entry {at}"),
        (_, Some(at)) => format!("audit entry {at} is not what was hashed"),
        (None, None) => return Ok(()),
    };
    let text = format!("{what}; restore the state directory from a backup");
    Err(StoreError::Distrusted { code: TAMPERED, text })
}

/// Applies the rules and remembers which of them a person set aside.
struct Judge<'o> {
    accept: &'o BTreeSet<Accept>,
    waived: Vec<(Accept, String)>,
}

impl Judge<'_> {
    /// A rule is broken: refused, unless it is accepted.
    fn broken(&mut self, rule: Accept, seen: String, recovery: &str) -> Result<(), StoreError> {
        if self.accept.contains(&rule) {
            self.waived.push((rule, seen));
            return Ok(());
        }
        let name = rule.as_str();
        let text = format!("{seen}; {recovery}, or accept it with keyward doctor --accept {name}");
        Err(StoreError::Distrusted { code: rule.code(), text })
    }

    fn missing(&mut self, path: &Path) -> Result<(), StoreError> {
        let seen = format!("there are entries, and their lock {} is missing", path.display());
        self.broken(Accept::LockMissing, seen, "mount its volume or put it back")
    }

    /// Compares the lock with the state; the size of the lock if the state has a tail beyond it.
    fn lock(
        &mut self,
        connection: &Connection,
        lock: &LockFile,
        keys: &LogKeys,
        tree: &Frontier,
    ) -> Result<Option<u64>, StoreError> {
        let shown = lock.path().display().to_string();
        let said = match lock.note().map(|note| signed(note, keys)) {
            Some(Ok(said)) => said,
            unreadable => {
                let why = unreadable.and_then(Result::err).unwrap_or_else(|| "is not readable".to_owned());
                let seen = format!("what the audit lock {shown} holds {why}");
                self.broken(Accept::LockDamaged, seen, "put the log's own lock back")?;
                return Ok(None);
            }
        };
        let size = tree.size();
        if said.size > size {
            let seen = format!("the state has {size} entries, and its lock {shown} has seen {}", said.size);
            self.broken(Accept::RolledBack, seen, "put the newer state directory back")?;
            return Ok(None);
        }
        let begins = shard::begins(connection).map_err(Trouble::from)?;
        if said.size < begins {
            let seen = format!(
                "the audit lock {shown} has seen {} entries, and the first {begins} are frozen, which it had seen",
                said.size
            );
            self.broken(Accept::LockDamaged, seen, "put the log's own lock back")?;
            return Ok(None);
        }
        let root = tree::frontier(connection, said.size)?.root();
        if said.root != root {
            let seen = format!(
                "the first {} entries have root {root}, and the lock {shown} has seen {}: two histories",
                said.size, said.root
            );
            self.broken(Accept::Forked, seen, "put the state directory back that belongs to the lock")?;
            return Ok(None);
        }
        Ok((said.size < size).then_some(said.size))
    }

    fn clock(&mut self, connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
        match log::newest_time(connection)? {
            Some(newest) if now < newest => {
                let seen = format!("it is {now} by the clock, and the newest entry was written at {newest}");
                self.broken(Accept::ClockBack, seen, "set the clock")
            }
            _ => Ok(()),
        }
    }
}

/// What the rules let pass.
struct Found {
    keys: LogKeys,
    tree: Frontier,
    lock: Option<LockFile>,
    /// What the lock had seen, if the state has more.
    tail: Option<u64>,
    waived: Vec<(Accept, String)>,
}

/// Writes the entries about what was accepted, a checkpoint over them, and the lock.
fn record(
    connection: &mut Connection,
    dir: &Path,
    found: Found,
    path: &Path,
    options: &LogOptions,
) -> Result<Sealer, StoreError> {
    let Found { mut keys, mut tree, lock, tail, waived } = found;
    let person = options.by.as_deref().filter(|_| !waived.is_empty());
    let person = person.map(|name| private::person(connection, name, &*options.entropy)).transpose()?;
    let mut drafts = drafts(&tree, tail, &waived, person.as_ref(), options);
    // What a person accepts although a rule refuses it was not believed either, whether a start has met it or not.
    let left = Doubt::left(dir, path)?;
    let doubt = left.or_else(|| {
        let (rule, seen) = waived.first()?;
        Some(Doubt { code: rule.code().to_owned(), at: options.now, text: seen.clone() })
    });
    drafts.splice(..0, doubt.as_ref().map(|doubt| doubt_draft(doubt, options)));
    let latch = doubt.as_ref().map(latch);
    let over = keys.old.take_if(|(_, until)| *until <= options.now);
    drafts.extend(over.as_ref().map(|(old, _)| rotate::over(&keys, old, &tree, options)));
    let kept = checkpoint::last_kept(connection).map_err(Trouble::from)?;
    let known = checkpoint::newest(connection)?;
    let (note, kept) = match known {
        // The signatures of witnesses are not the lock's business, and it has no room for them.
        Some(row) if drafts.is_empty() => (own_part(&row.note, &keys), kept),
        _ => {
            let transaction = connection.transaction().map_err(Trouble::from)?;
            for (number, draft) in drafts.iter().enumerate() {
                let changes = if number == 0 { latch.as_slice() } else { &[] };
                log::append(&transaction, draft, changes, &mut tree, &mut Known::default()).map_err(Trouble::from)?;
                changes.iter().try_for_each(|change| save::change(&transaction, change)).map_err(Trouble::from)?;
            }
            let written = sealer::write_signed(&transaction, &keys, kept, &tree, options.now).map_err(Trouble::from)?;
            transaction.commit().map_err(Trouble::from)?;
            (written.note().to_owned(), written.kept_at().or(kept))
        }
    };
    let lock = match lock {
        None => LockFile::create(path, &note)?,
        Some(mut lock) => {
            if lock.note() != Some(note.as_str()) {
                lock.advance(&note).map_err(|e| match e {
                    NotAdvanced::Refused(text) => StoreError::Unavailable(text),
                    NotAdvanced::Lost(text) => StoreError::Lost(text),
                })?;
            }
            lock
        }
    };
    if over.is_some() {
        // Only now nobody needs it: what was signed last is signed with the newest key, and durable.
        key::destroy_old(dir)?;
    }
    Ok(Sealer::new(tree, keys, lock, kept))
}

/// A note with the log's own signatures only.
fn own_part(note: &str, keys: &LogKeys) -> String {
    let Ok(mut whole) = note.parse::<Note>() else { return note.to_owned() };
    whole.signatures.retain(|signature| signature.name == keys.origin());
    whole.to_string()
}

fn drafts(
    tree: &Frontier,
    tail: Option<u64>,
    waived: &[(Accept, String)],
    person: Option<&Private>,
    options: &LogOptions,
) -> Vec<Draft> {
    let draft = |action, code| {
        let mut random = [0; 10];
        options.entropy.fill(&mut random);
        let id = EntryId(Ulid::new(options.now, random));
        Draft::new(id, options.now, action, code, Target::new(TargetKind::Daemon, "keyward"))
    };
    let accepted = tail.map(|seen| {
        let mut entry = draft("audit.accept-tail", TAIL_ACCEPTED);
        entry.facts.push(("acknowledged", Json::show(&seen)));
        entry.facts.push(("found", Json::show(&tree.size())));
        entry
    });
    let recovered = waived.iter().map(|(rule, seen)| {
        let mut entry = draft("audit.accept", RULE_WAIVED);
        if let Some(person) = person {
            entry.by(person);
        }
        entry.facts.push(("accepted", Json::str(rule.as_str())));
        entry.facts.push(("rule", Json::str(rule.code())));
        entry.facts.push(("seen", Json::str(bounded_text(seen))));
        entry
    });
    accepted.into_iter().chain(recovered).collect()
}

/// The engine makes of it what it means for the paths.
fn latch(doubt: &Doubt) -> Change {
    let text =
        Arc::from(bounded_text(&format!("the audit log was not to be believed: {}: {}", doubt.code, doubt.text)));
    let latch = Latch { at: doubt.at, code: Arc::from(doubt.code.as_str()), text, by: None };
    Change::Latch(LatchOn::Log, Some(latch))
}

fn doubt_draft(doubt: &Doubt, options: &LogOptions) -> Draft {
    let mut random = [0; 10];
    options.entropy.fill(&mut random);
    let id = EntryId(Ulid::new(options.now, random));
    let target = Target::new(TargetKind::Daemon, "keyward");
    let mut entry = Draft::new(id, options.now, "audit.doubt", DOUBTED, target);
    entry.facts.push(("rule", Json::str(doubt.code.clone())));
    entry.facts.push(("since", Json::show(&doubt.at)));
    entry.private.push(("seen", Arc::from(bounded_text(&doubt.text))));
    entry
}

/// Looks at a part of the log again while it is in use: its newest entries, the newest checkpoint, and the entries of some
/// blocks of 256 from `from` on with the hash of each. Gives where the next look begins, so that all of it is met in turn.
///
/// # Errors
/// [`Trouble::Distrusted`] says what is not as it was written.
pub(super) fn inspect(connection: &mut Connection, from: u64) -> Result<u64, Trouble> {
    // One moment of the database.
    let connection = &*connection.transaction()?;
    let size = log::size(connection)?;
    let distrusted =
        |text: String| Trouble::Distrusted(TAMPERED, format!("{text}; restore the state directory from a backup"));
    check_tail(connection)?;
    if let Some(row) = checkpoint::newest(connection)? {
        let said = row.note.parse::<Note>().and_then(|note| Checkpoint::of(&note));
        let said = said.map_err(|e| distrusted(format!("the newest checkpoint {e}")))?.head;
        if said != tree::frontier(connection, size)?.head() {
            return Err(distrusted(format!("the {size} entries do not have the root of the newest checkpoint")));
        }
    }
    let begins = shard::begins(connection)?;
    let from = if from >= size { begins } else { from.max(begins) } / BLOCK * BLOCK;
    let until = from.saturating_add(BLOCKS.saturating_mul(BLOCK)).min(size);
    let (mut expected, mut made) = (from, Frontier::default());
    for entry in log::range(connection, from, until, usize::try_from(BLOCKS * BLOCK).unwrap_or(usize::MAX))? {
        if entry.sequence != expected {
            return Err(distrusted(format!("the audit log has a gap before entry {}", entry.sequence)));
        }
        if audit::leaf_hash(&entry.bytes) != entry.leaf {
            return Err(distrusted(format!("audit entry {} is not what was hashed", entry.sequence)));
        }
        made.push(entry.leaf, |_, _| {});
        expected = expected.saturating_add(1);
        if expected.is_multiple_of(BLOCK) {
            let place = entry.sequence / BLOCK;
            let known = tree::stored_hash(connection, Subtree { level: LEVEL, place })?;
            if known != Some(core::mem::take(&mut made).root()) {
                let first = place.saturating_mul(BLOCK);
                return Err(distrusted(format!(
                    "the audit entries {first}–{} are not those that were hashed",
                    entry.sequence
                )));
            }
        }
    }
    if expected != until {
        return Err(distrusted(format!("the audit log has a gap before entry {until}")));
    }
    Ok(until)
}

impl From<NotSaved> for Trouble {
    fn from(error: NotSaved) -> Self {
        match error {
            NotSaved::Refused(text) => Self::Damaged(text),
            NotSaved::Sqlite(error) => Self::Sqlite(error),
        }
    }
}
