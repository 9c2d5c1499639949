//! A damaged database under examination: what can be read of it, whether it is what the log gives, and the rows for a new
//! one. [`super::doctor`] says what is done about it.

mod frozen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::checkpoint::Checkpoint;
use crate::codec::entry::Entry;
use crate::codec::ledger::{FREEZE, Frozen};
use crate::codec::note::Note;
use crate::codec::replay::Replay;
use crate::domain::audit::{Phase, leaf_hash};
use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::private::Private;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::domain::tree::{Frontier, TreeHead};

use super::connection::Trouble;
use super::doctor::{Diagnosis, Finding, LostEntry, Verdict};
use super::mend::NewDatabase;
use super::walk::{Found, number, walk};
use super::{checkpoint, load, migrations};

pub use self::frozen::Thawed;

use self::frozen::{Before, edge};

/// Lost entries that are named one by one; of more only the number is told.
const MOST_NAMED: usize = 1_000;
/// The shortest row of an entry, for a bound on how many there can be in a file.
const SHORTEST_ENTRY: u64 = 300;

/// A signed note with what it says.
struct Said {
    row: checkpoint::Row,
    head: TreeHead,
    kept: bool,
}

/// A database under examination.
pub(super) struct Patient {
    source: Connection,
    target: Option<NewDatabase>,
    /// Size of the file in bytes.
    size: u64,
    lock: Option<String>,
    /// The frozen entries, if their shards were given.
    thawed: Option<Thawed>,
    /// Set if no state can be given although the log is whole.
    stateless: bool,
    damaged: BTreeSet<&'static str>,
    findings: Vec<Finding>,
    lost: Vec<LostEntry>,
    lost_count: u64,
    unknown: Vec<String>,
    /// The texts that the state holds, by their commitments.
    texts: BTreeMap<Digest, Arc<str>>,
}

/// What a walk over the log gives.
#[derive(Default)]
struct Log {
    tree: Frontier,
    /// Roots at the sizes that checkpoints state.
    roots: BTreeMap<u64, Digest>,
    replay: Replay,
    /// The first thing that the replay could not take.
    unreadable: Option<String>,
    freezes: Vec<Frozen>,
    evidence: BTreeSet<Digest>,
    intents: BTreeSet<EntryId>,
    doubtful: Vec<u64>,
    unmarked: u64,
}

impl Patient {
    /// Before anything was looked at.
    pub(super) fn new(
        source: Connection,
        target: Option<NewDatabase>,
        size: u64,
        lock: Option<String>,
        thawed: Option<Thawed>,
    ) -> Self {
        Self {
            source,
            target,
            size,
            lock,
            thawed,
            stateless: false,
            damaged: BTreeSet::new(),
            findings: Vec::new(),
            lost: Vec::new(),
            lost_count: 0,
            unknown: Vec::new(),
            texts: BTreeMap::new(),
        }
    }

    fn found(&mut self, code: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { code, text: text.into() });
    }

    /// The new database, once everything was examined; the old one is closed.
    pub(super) fn into_new(self) -> Option<NewDatabase> {
        self.target
    }

    /// Looks at everything, and writes what can be believed into the new database.
    ///
    /// # Errors
    /// [`Trouble`] of the new database.
    pub(super) fn examine(&mut self) -> Result<Diagnosis, Trouble> {
        self.check_tables();
        let notes = self.notes();
        let before = match self.before() {
            Ok(before) => before,
            Err(why) => return Ok(self.hopeless(why)),
        };
        self.copy_before(&before)?;
        let begins = before.beginning.size();
        let expected = self.expected(&notes, begins);
        let log = self.read_log(expected, &notes, &before)?;
        let mut agrees = self.judge(expected, &notes, &log)?;
        if self.lost_count == 0 {
            self.check_derived(&log, &before);
            agrees &= self.check_frozen(&before, &log)?;
        }
        self.copy_private(&log.replay.commitments())?;
        self.copy_evidence(&log.evidence)?;
        self.state(&log, agrees, before.replay.is_some())?;
        self.name_lost();
        let verdict = match (agrees && !self.stateless, self.findings.is_empty()) {
            (true, true) => Verdict::Sound,
            (true, false) => Verdict::Mendable,
            (false, _) => Verdict::Incomplete,
        };
        Ok(Diagnosis {
            verdict,
            expected,
            begins,
            readable: expected.saturating_sub(begins).saturating_sub(self.lost_count),
            lost: core::mem::take(&mut self.lost),
            findings: core::mem::take(&mut self.findings),
            unknown: core::mem::take(&mut self.unknown),
            rebuilt: None,
            set_aside: None,
        })
    }

    /// Nothing can be said of the log.
    fn hopeless(&mut self, why: String) -> Diagnosis {
        self.found("KW6313", why);
        Diagnosis {
            verdict: Verdict::Incomplete,
            expected: 0,
            begins: 0,
            readable: 0,
            lost: Vec::new(),
            findings: core::mem::take(&mut self.findings),
            unknown: vec!["everything else: where the log begins is not known".to_owned()],
            rebuilt: None,
            set_aside: None,
        }
    }

    /// Page by page, with the indexes.
    fn check_tables(&mut self) {
        for table in migrations::TABLES {
            let sql = format!("PRAGMA integrity_check({table})");
            let found =
                self.source.query_row(&sql, [], |row| row.get::<_, String>(0)).unwrap_or_else(|e| e.to_string());
            if found != "ok" {
                self.damaged.insert(table);
                self.found("KW6313", format!("table {table} is damaged: {found}"));
            }
        }
    }

    /// Every note that can be read, from the table and from the lock, by size.
    fn notes(&mut self) -> Vec<Said> {
        let mut all: BTreeMap<u64, Said> = BTreeMap::new();
        let sql = |order: &str| format!("SELECT size, at, note, kept FROM checkpoint ORDER BY size {order}");
        let mut torn = false;
        for order in ["ASC", "DESC"] {
            let whole = each_row(&self.source, &sql(order), |row| {
                let (size, at): (i64, i64) = (row.get(0)?, row.get(1)?);
                let (note, kept) = (row.get::<_, String>(2)?, row.get(3)?);
                if let Some(head) = head_of(&note).filter(|head| number(head.size) == size) {
                    let row = checkpoint::Row { size: head.size, at: Timestamp::from_unix(at), note };
                    all.insert(head.size, Said { row, head, kept });
                }
                Ok(())
            });
            torn |= !whole;
            if whole {
                break;
            }
        }
        if torn {
            self.found("KW6313", "some checkpoints cannot be read any more");
        }
        let lock = self.lock.clone().and_then(|note| Some((head_of(&note)?, note)));
        if let Some((head, note)) = lock {
            // Its time is that of its newest entry, which is found with it.
            let row = checkpoint::Row { size: head.size, at: Timestamp::from_unix(0), note };
            all.entry(head.size).or_insert(Said { row, head, kept: false });
        }
        all.into_values().collect()
    }

    /// How many entries the log of this file had: what its newest checkpoint says. The lock counts only where no
    /// checkpoint is left; if it has seen more than the file ever had, the file is an older copy or lost its end.
    fn expected(&mut self, notes: &[Said], begins: u64) -> u64 {
        let own: Option<i64> =
            self.source.query_row("SELECT max(size) FROM checkpoint", [], |row| row.get(0)).ok().flatten();
        let own = own.and_then(|size| u64::try_from(size).ok());
        let own = notes.iter().rev().map(|said| said.head.size).find(|size| own.is_some_and(|own| *size <= own));
        let rows: Option<i64> =
            self.source.query_row("SELECT max(sequence) + 1 FROM entry", [], |row| row.get(0)).ok().flatten();
        // A damaged page may give any number.
        let most = begins.saturating_add(self.size / SHORTEST_ENTRY);
        let rows = rows.and_then(|rows| u64::try_from(rows).ok()).filter(|rows| *rows <= most);
        let lock = self.lock.as_deref().and_then(head_of).map(|head| head.size);
        let known = own.max(rows);
        if let (Some(known), Some(lock)) = (known, lock.filter(|lock| known.is_some_and(|known| *lock > known)))
            && !self.damaged.contains("checkpoint")
            && !self.damaged.contains("entry")
        {
            self.found(
                "KW6317",
                format!(
                    "the lock has seen {lock} entries and the database has {known}: it is an older copy, or its \
                     write-ahead log is missing; the {} entries after that are lost",
                    lock.saturating_sub(known)
                ),
            );
            return known;
        }
        known.max(lock.filter(|lock| *lock <= most)).unwrap_or(0)
    }

    fn read_log(&mut self, expected: u64, notes: &[Said], before: &Before) -> Result<Log, Trouble> {
        let mut log = Log::after(before);
        let begins = before.beginning.size();
        let wanted: BTreeSet<u64> = notes.iter().map(|said| said.head.size).collect();
        let check_marks = !["word", "mark"].iter().any(|table| self.damaged.contains(table));
        let mut source = Connection::open_in_memory()?;
        // The walk borrows the source while everything else of the patient changes.
        core::mem::swap(&mut source, &mut self.source);
        let done = walk(&source, begins..expected, |sequence, found| -> Result<(), Trouble> {
            let (entry, leaf, body) = match found {
                Found::Whole(entry, leaf, body) => (entry, leaf, body),
                Found::Doubtful(entry, body) => {
                    log.doubtful.push(sequence);
                    (entry, leaf_hash(&body), body)
                }
                Found::Lost(why) => {
                    self.lose(sequence, why);
                    return Ok(());
                }
            };
            log.tree.push(leaf, |_, _| {});
            if wanted.contains(&log.tree.size()) && self.lost_count == 0 {
                log.roots.insert(log.tree.size(), log.tree.root());
            }
            log.take(&entry, &body);
            if check_marks && !is_marked(&source, &entry)? {
                log.unmarked = log.unmarked.saturating_add(1);
            }
            match &mut self.target {
                Some(target) => target.entry(&entry, leaf, &body),
                None => Ok(()),
            }
        });
        core::mem::swap(&mut source, &mut self.source);
        done.map(|()| log)
    }

    fn lose(&mut self, sequence: u64, why: String) {
        self.lost_count = self.lost_count.saturating_add(1);
        if self.lost.len() < MOST_NAMED {
            self.lost.push(LostEntry { sequence, why, words: Vec::new() });
        }
        if let Some(target) = &mut self.target {
            target.gap();
        }
    }

    /// Whether the log is whole and a signed note covers all of it; copies the checkpoints that the entries agree with.
    fn judge(&mut self, expected: u64, notes: &[Said], log: &Log) -> Result<bool, Trouble> {
        let (mut covered, mut contradicted) = (expected == 0 && notes.is_empty(), None);
        for said in notes.iter().filter(|said| said.head.size <= expected) {
            match log.roots.get(&said.head.size) {
                Some(root) if *root == said.head.root => {
                    covered |= said.head.size == expected;
                    if let Some(target) = &self.target {
                        target.checkpoint(&said.row, said.kept)?;
                    }
                }
                Some(_) => contradicted = contradicted.or(Some(said.head.size)),
                None => {}
            }
        }
        if self.lost_count > 0 {
            let lost = self.lost_count;
            self.found("KW6311", format!("{lost} of {expected} entries of the audit log are lost"));
            return Ok(false);
        }
        match (contradicted, log.doubtful.first()) {
            (Some(size), Some(first)) => {
                let text = format!(
                    "{} entries are not what was hashed, entry {first} is the first: the first {size} entries do not have the \
                     root of their checkpoint",
                    log.doubtful.len()
                );
                self.found("KW6312", text);
            }
            (Some(size), None) => {
                self.found("KW6312", format!("the first {size} entries do not have the root of their checkpoint"));
            }
            (None, Some(first)) if covered => {
                let text = format!("the hash beside entry {first} was damaged; the entry is the one that was written");
                self.found("KW6313", text);
            }
            _ => {}
        }
        if contradicted.is_none() && !covered {
            self.found(
                "KW6312",
                format!("no checkpoint over all {expected} entries is left, and none is made up here"),
            );
        }
        Ok(contradicted.is_none() && covered)
    }

    /// Whether the derived tables are what the entries give.
    fn check_derived(&mut self, log: &Log, before: &Before) {
        if log.unmarked > 0 {
            self.found("KW6313", format!("{} entries are not found by all their words", log.unmarked));
        }
        let mut found = BTreeSet::new();
        let whole = each_row(&self.source, "SELECT id FROM open_intent", |row| {
            found.insert(row.get::<_, [u8; 16]>(0)?);
            Ok(())
        });
        let intents: BTreeSet<[u8; 16]> = log.intents.iter().map(|id| id.0.to_bytes()).collect();
        if whole && found != intents {
            self.found("KW6313", "the open intents are not those of the entries");
        }
        let mut tree = edge(before);
        let mut differs = false;
        let begins = tree.size();
        let sql = format!("SELECT leaf FROM entry WHERE sequence >= {begins} ORDER BY sequence");
        let leaves = each_row(&self.source, &sql, |row| {
            let mut complete = Vec::new();
            tree.push(Digest(row.get(0)?), |subtree, hash| {
                if subtree.level.is_multiple_of(8) && subtree.level > 0 {
                    complete.push((subtree, *hash));
                }
            });
            for (subtree, hash) in complete {
                let sql = "SELECT hash FROM subtree WHERE level = ?1 AND place = ?2";
                let stored: Option<[u8; 32]> = self
                    .source
                    .prepare_cached(sql)?
                    .query_row(params![subtree.level, number(subtree.place)], |row| row.get(0))
                    .optional()?;
                differs |= stored != Some(hash.0);
            }
            Ok(())
        });
        if !leaves || differs {
            self.found("KW6313", "the hashes of the subtrees are not those of the entries");
        }
    }

    /// Every text that has its commitment.
    fn copy_private(&mut self, needed: &[Digest]) -> Result<(), Trouble> {
        let mut texts = BTreeMap::new();
        let mut damaged = 0_u64;
        let mut failed = None;
        for order in ["ASC", "DESC"] {
            let sql = format!("SELECT sha256, salt, text, person FROM private ORDER BY rowid {order}");
            let whole = each_row(&self.source, &sql, |row| {
                let commitment = Digest(row.get(0)?);
                let private = Private { salt: row.get(1)?, text: row.get::<_, Arc<str>>(2)? };
                if private.commitment() != commitment {
                    damaged = damaged.saturating_add(1);
                    return Ok(());
                }
                if needed.binary_search(&commitment).is_ok() {
                    texts.insert(commitment, private.text.clone());
                }
                if let Some(target) = &self.target {
                    failed = target.private(&commitment, &private, row.get(3)?).err().or(failed.take());
                }
                Ok(())
            });
            if whole {
                break;
            }
        }
        if damaged > 0 {
            self.found("KW6316", format!("{damaged} private texts are not those that were written; they are left out"));
        }
        let gone = needed.len().saturating_sub(texts.len());
        if gone > 0 && self.damaged.contains("private") {
            self.unknown.push(format!("{gone} texts of the state: they are told as forgotten"));
        }
        self.texts = texts;
        failed.map_or(Ok(()), Err)
    }

    fn copy_evidence(&mut self, named: &BTreeSet<Digest>) -> Result<(), Trouble> {
        let mut there = BTreeSet::new();
        let mut failed = None;
        for order in ["ASC", "DESC"] {
            let sql = format!("SELECT sha256, bytes FROM evidence ORDER BY rowid {order}");
            let whole = each_row(&self.source, &sql, |row| {
                let (sha256, bytes): (_, Vec<u8>) = (Digest(row.get(0)?), row.get(1)?);
                if Digest::of(&bytes) == sha256 {
                    there.insert(sha256);
                    if let Some(target) = &self.target {
                        failed = target.evidence(&sha256, &bytes).err().or(failed.take());
                    }
                }
                Ok(())
            });
            if whole {
                break;
            }
        }
        let missing = named.difference(&there).count();
        // What was deleted on purpose leaves no trace in a table; only where that is damaged is it worth a word.
        if missing > 0 && self.damaged.contains("evidence") {
            self.found("KW6315", format!("{missing} pieces of evidence that entries name are not there"));
        }
        failed.map_or(Ok(()), Err)
    }

    /// The state's tables: from the log if it is whole, else as they are if they can be read, else unknown.
    fn state(&mut self, log: &Log, agrees: bool, from_the_first: bool) -> Result<(), Trouble> {
        let damaged: Vec<&str> =
            migrations::STATE_TABLES.into_iter().filter(|table| self.damaged.contains(table)).collect();
        let clock_known = !damaged.contains(&"clock");
        let old = if damaged.is_empty() { load::state(&mut self.source).ok() } else { None };
        if old.is_none() && damaged.is_empty() {
            self.found("KW6314", "the tables of the state cannot be read");
        }
        if !agrees || !from_the_first {
            let why =
                if agrees { "; the shards of the frozen entries say it: give all of them with --shard" } else { "" };
            match &old {
                Some(old) => {
                    let text = format!("whether the state is that of the log: it is kept as it was found{why}");
                    self.unknown.push(text);
                    return self.keep(old);
                }
                None => {
                    self.stateless = true;
                    let (tables, log) = (damaged.join(", "), if agrees { "" } else { ", and so is the log" });
                    self.unknown.push(format!("the state ({tables}): its tables are damaged{log}{why}"));
                    return Ok(());
                }
            }
        }
        let texts = |commitment: &Digest| self.texts.get(commitment).cloned();
        let replayed = match &log.unreadable {
            Some(why) => Err(why.clone()),
            None => log.replay.state(texts).map_err(|e| e.to_string()),
        };
        let mut state = match replayed {
            Ok(state) => state,
            Err(why) => {
                self.found("KW6314", format!("the log does not give a state: {why}"));
                self.unknown.push("the state: the log cannot be replayed".to_owned());
                return Ok(());
            }
        };
        if let Some(old) = &old
            && !is_same(old, &state)
        {
            self.found("KW6314", "the state's tables are not what the log gives; the log counts");
        }
        let mark = old.and_then(|old| old.clock).or_else(|| load::clock_mark(&self.source).ok().flatten());
        state.clock = mark.filter(|_| clock_known);
        if state.clock.is_none() && !clock_known {
            self.unknown
                .push("the clocks at the last commit: the next start goes by the newest entry alone".to_owned());
        }
        self.keep(&state)
    }

    fn keep(&self, state: &State) -> Result<(), Trouble> {
        self.target.as_ref().map_or(Ok(()), |target| target.state(state))
    }

    /// What the index still says of the lost entries.
    fn name_lost(&mut self) {
        let (Some(first), Some(last)) = (self.lost.first(), self.lost.last()) else { return };
        let (first, last) = (number(first.sequence), number(last.sequence));
        let mut words: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        let sql = format!(
            "SELECT sequence, text FROM mark JOIN word ON id = word WHERE sequence BETWEEN {first} AND {last} ORDER BY word"
        );
        each_row(&self.source, &sql, |row| {
            words.entry(row.get(0)?).or_default().push(row.get(1)?);
            Ok(())
        });
        for lost in &mut self.lost {
            lost.words = words.remove(&number(lost.sequence)).unwrap_or_default();
        }
    }
}

impl Log {
    fn take(&mut self, entry: &Entry, body: &[u8]) {
        if let Err(error) = self.replay.entry(body) {
            self.unreadable.get_or_insert(format!("entry {}: {error}", entry.sequence));
        }
        if entry.action == FREEZE {
            self.freezes.extend(Frozen::read(body));
        }
        self.evidence.extend(entry.evidence.iter().map(|piece| piece.sha256));
        match (entry.phase, entry.intent) {
            (Phase::Intent, _) => drop(self.intents.insert(entry.id)),
            (Phase::Outcome, Some(intent)) => drop(self.intents.remove(&intent)),
            (Phase::Outcome | Phase::Event, _) => {}
        }
    }
}

fn head_of(note: &str) -> Option<TreeHead> {
    Some(Checkpoint::of(&note.parse::<Note>().ok()?).ok()?.head)
}

fn is_marked(source: &Connection, entry: &Entry) -> Result<bool, Trouble> {
    let sql = "SELECT count(*) FROM mark JOIN word ON id = word WHERE text = ?1 AND sequence = ?2";
    let mut statement = source.prepare_cached(sql)?;
    for word in entry.words() {
        if statement.query_row(params![word, number(entry.sequence)], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the tables are what the log gives. A start drops ledger rows that say nothing any more, and no entry tells of
/// that; and the clocks' marks are in no entry.
fn is_same(old: &State, log: &State) -> bool {
    let part = |s: &State| (s.credentials.clone(), s.attempts.clone(), s.issuers.clone());
    part(old) == part(log)
        && old.ledger.full_at.iter().all(|(key, at)| log.ledger.full_at.get(key) == Some(at))
        && old.ledger.automatic.iter().all(|(names, times)| {
            log.ledger.automatic.get(names).is_some_and(|known| times.iter().all(|at| known.contains(at)))
        })
}

/// Tells `each` every row until one cannot be read; whether all could. A row that `each` cannot take is passed over.
fn each_row(source: &Connection, sql: &str, mut each: impl FnMut(&Row<'_>) -> Result<(), rusqlite::Error>) -> bool {
    let Ok(mut statement) = source.prepare(sql) else { return false };
    let Ok(mut rows) = statement.query([]) else { return false };
    let mut whole = true;
    loop {
        match rows.next() {
            Ok(Some(row)) => whole &= each(row).is_ok(),
            Ok(None) => return whole,
            Err(_) => return false,
        }
    }
}
