//! One pass over the tables, in one snapshot.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::Progress;
use crate::adapters::store::connection::Trouble;
use crate::adapters::store::{prune, shard};
use crate::codec::ledger::{Finding, Fold, Grade, Named, Needs, Rule, Secret, Signed, Stored, Verifier, expect_rows};
use crate::domain::key::{Digest, hex};

/// Entries between two words about how far it is: a few hundredths of a second.
const TOLD_EVERY: u64 = 4_096;

/// The pass.
pub(super) struct Pass<'a> {
    pub(super) verifier: Verifier,
    pub(super) secret: &'a Secret,
    pub(super) connection: &'a Connection,
    /// The first entry that is here.
    pub(super) begins: u64,
}

/// A checkpoint's row.
struct Due {
    size: i64,
    at: i64,
    note: String,
    kept: bool,
}

impl Pass<'_> {
    /// Reads everything.
    ///
    /// # Errors
    /// Where reading ended.
    pub(super) fn run(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), Trouble> {
        // One read transaction: all tables are of the same commit, whatever a daemon writes meanwhile.
        let snapshot = self.connection.unchecked_transaction()?;
        let total = snapshot.query_row("SELECT ifnull(max(sequence), -1) + 1 FROM entry", [], |row| row.get(0))?;
        let total = number(total);
        self.begin(&snapshot)?;
        let subtrees = self.entries(&snapshot, &mut |done| progress(Progress { done, total }))?;
        progress(Progress { done: total, total });
        self.shards(&snapshot)?;
        self.count_subtrees(&snapshot, subtrees)?;
        self.open_intents(&snapshot)?;
        self.evidence(&snapshot)?;
        self.private(&snapshot)?;
        self.index(&snapshot)
    }

    /// Goes to where this log begins: behind what is frozen. A verifier that has read the shards is there already.
    fn begin(&mut self, snapshot: &Connection) -> Result<(), Trouble> {
        self.begins = shard::begins(snapshot)?;
        let (begins, reached) = (self.begins, self.verifier.size());
        if begins == 0 && reached == 0 {
            return Ok(());
        }
        let beginning = shard::beginning(snapshot)?;
        let sound = self.verifier.is_sound();
        if reached == begins {
            if sound && self.verifier.carry() != beginning {
                let text = "what is kept of the frozen entries is not what their shards leave behind";
                self.verifier.find(Finding::new(Grade::Tampered, Rule::Derived, text));
            }
        } else {
            if reached > begins && sound {
                let text =
                    format!("the shards have {reached} entries, and this log begins with entry {begins}: it is older");
                self.verifier.find(Finding::new(Grade::RolledBack, Rule::Frozen, text));
            } else if reached > 0 && sound {
                let last = begins.saturating_sub(1);
                let text = format!(
                    "the shard of the entries {reached}–{last} is missing: the shards end before this log begins"
                );
                self.verifier.find(Finding::new(Grade::Incomplete, Rule::Frozen, text));
            }
            self.verifier.begin(&beginning);
        }
        let left = prune::left_over(snapshot)?;
        if left > 0 {
            let text =
                format!("{left} frozen entries are still here, and were not read: a freeze was cut off; run it again");
            self.verifier.find(Finding::new(Grade::Warning, Rule::Frozen, text));
        }
        Ok(())
    }

    /// What is said to be frozen is what the entries of the freezes say.
    fn shards(&mut self, snapshot: &Connection) -> Result<(), Trouble> {
        let rows = shard::rows(snapshot)?;
        let first = self.verifier.begins();
        let mut wrong = Vec::new();
        for row in rows.iter().filter(|row| row.freeze >= first) {
            let said = self.verifier.freezes().iter().find(|said| said.sequence == row.freeze);
            if said.is_none_or(|said| said.head.size != row.until || said.manifest != row.manifest) {
                let last = row.until.saturating_sub(1);
                wrong.push(format!(
                    "entries up to {last} are said to be frozen, and entry {} does not say so",
                    row.freeze
                ));
            }
        }
        for said in self.verifier.freezes() {
            if !rows.iter().any(|row| row.freeze == said.sequence) {
                wrong.push(format!(
                    "entry {} says that a shard was frozen, and the table of shards lacks it",
                    said.sequence
                ));
            }
        }
        for text in wrong {
            self.verifier.find(Finding::new(Grade::Tampered, Rule::Shard, text));
        }
        Ok(())
    }

    /// Every entry and every checkpoint in order; gives how many subtrees there must be.
    fn entries(&mut self, snapshot: &Connection, told: &mut dyn FnMut(u64)) -> Result<i64, Trouble> {
        let begins = place(self.begins);
        // The checkpoints of sizes that are frozen are in their shards, or still here because a freeze was cut off.
        let sql = "SELECT size, at, note, kept FROM checkpoint WHERE size >= ?1 OR ?1 = 0 ORDER BY size";
        let mut statement = snapshot.prepare(sql)?;
        let mut notes = statement.query([begins])?;
        let mut due = self.next_checkpoint(notes.next()?);
        let sql = "SELECT sequence, id, at, leaf, body FROM entry WHERE sequence >= ?1 OR ?1 = 0 ORDER BY sequence";
        let mut statement = snapshot.prepare(sql)?;
        let mut rows = statement.query([begins])?;
        let mut look = Look::new(snapshot)?;
        // Those of what is frozen stay.
        let frozen = [8, 16, 24, 32, 40, 48, 56].map(|level| place(self.begins >> level));
        let mut subtrees = frozen.into_iter().fold(0_i64, i64::saturating_add);
        while let Some(row) = rows.next()? {
            while let Some(row) = due.take_if(|due| number(due.size) <= self.verifier.size()) {
                due = self.next_checkpoint(notes.next()?);
                self.checkpoint(&row, due.is_none());
            }
            let Some(stored) = stored(row) else {
                let at = self.verifier.size();
                let text = format!("the row after entry {} is none of an entry", at.saturating_sub(1));
                self.verifier.find(Finding { sequence: Some(at), ..Finding::new(Grade::Tampered, Rule::Form, text) });
                continue;
            };
            let needs = self.verifier.entry(&stored);
            subtrees = subtrees.saturating_add(i64::try_from(needs.subtrees.len()).unwrap_or(0));
            look.up(&mut self.verifier, &needs)?;
            if stored.sequence.is_multiple_of(TOLD_EVERY) {
                told(stored.sequence);
            }
        }
        while let Some(row) = due {
            due = self.next_checkpoint(notes.next()?);
            self.checkpoint(&row, due.is_none());
        }
        Ok(subtrees)
    }

    /// A row that is none of a checkpoint is a finding and stands at the end.
    fn next_checkpoint(&mut self, row: Option<&Row<'_>>) -> Option<Due> {
        let row = row?;
        let read = || -> rusqlite::Result<Due> {
            Ok(Due { size: row.get(0)?, at: row.get(1)?, note: row.get(2)?, kept: row.get(3)? })
        };
        match read() {
            Ok(due) => Some(due),
            Err(error) => {
                let text = format!("a row of the checkpoints is none: {error}");
                self.verifier.find(Finding::new(Grade::Tampered, Rule::Signature, text));
                None
            }
        }
    }

    fn checkpoint(&mut self, row: &Due, newest: bool) {
        self.verifier.checkpoint(&Signed { size: u64::try_from(row.size).ok(), at: Some(row.at), note: &row.note });
        if row.size < 0 || !(row.kept || newest) {
            let text = format!("the checkpoint of size {} is neither the newest nor one that is kept", row.size);
            self.verifier.find(Finding::new(Grade::Tampered, Rule::Column, text));
        }
    }

    fn count_subtrees(&mut self, snapshot: &Connection, expected: i64) -> Result<(), Trouble> {
        let found: i64 = snapshot.query_row("SELECT count(*) FROM subtree", [], |row| row.get(0))?;
        // Fewer were found missing one by one, and after a gap none was asked for.
        if found > expected && self.verifier.is_whole() {
            let text = format!("there are {found} stored hashes over entries where {expected} must be");
            self.verifier.find(Finding::new(Grade::Tampered, Rule::Derived, text));
        }
        Ok(())
    }

    fn open_intents(&mut self, snapshot: &Connection) -> Result<(), Trouble> {
        let mut expected = self.verifier.open();
        let mut statement = snapshot.prepare("SELECT id, sequence FROM open_intent")?;
        let mut rows = statement.query([])?;
        let mut wrong = None;
        while let Some(row) = rows.next()? {
            let (id, sequence) = (row.get_ref(0)?, row.get_ref(1)?);
            let known = match (id, sequence) {
                (ValueRef::Blob(id), ValueRef::Integer(sequence)) => {
                    let id = <[u8; 16]>::try_from(id).ok();
                    id.and_then(|id| expected.remove(&id)).is_some_and(|at| i64::try_from(at) == Ok(sequence))
                }
                _ => false,
            };
            if !known {
                wrong = Some("names an intent that is not open".to_owned());
            }
        }
        if let Some(at) = expected.values().min() {
            wrong = Some(format!("lacks the intent of entry {at}, which has no outcome"));
        }
        if let Some(wrong) = wrong.filter(|_| self.verifier.is_whole()) {
            let text = format!("the table of open intents {wrong}");
            self.verifier.find(Finding::new(Grade::Tampered, Rule::Derived, text));
        }
        Ok(())
    }

    fn evidence(&mut self, snapshot: &Connection) -> Result<(), Trouble> {
        let mut statement = snapshot.prepare("SELECT sha256, bytes FROM evidence")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (ValueRef::Blob(sha256), ValueRef::Blob(bytes)) = (row.get_ref(0)?, row.get_ref(1)?) else {
                self.blob("a row of the evidence is none");
                continue;
            };
            if Digest::of(bytes).0 != sha256 {
                self.blob(&format!("the evidence {} has bytes of another hash", hex(sha256)));
            }
        }
        Ok(())
    }

    fn private(&mut self, snapshot: &Connection) -> Result<(), Trouble> {
        let mut statement = snapshot.prepare("SELECT sha256, salt, text FROM private")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (ValueRef::Blob(sha256), ValueRef::Blob(salt), ValueRef::Text(text)) =
                (row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?)
            else {
                self.blob("a row of the private texts is none");
                continue;
            };
            if Digest::of_parts(&[salt, text]).0 != sha256 {
                self.blob(&format!("the private text {} is not the one that was written", hex(sha256)));
            }
        }
        Ok(())
    }

    fn blob(&mut self, text: &str) {
        self.verifier.find(Finding::new(Grade::Tampered, Rule::Blob, text));
    }

    /// The rows of the index against the words of the bodies.
    fn index(&mut self, snapshot: &Connection) -> Result<(), Trouble> {
        let size = self.verifier.size();
        let mut wrong = None;
        if let Some(fold) = self.verifier.index() {
            wrong = marks(snapshot, self.begins..size, |word, sequence| {
                let word = fold.word(word);
                fold.found(word, sequence);
            })?;
            found_by(snapshot, fold, self.begins..size, 0)?;
        }
        let difference = self.verifier.index().and_then(|fold| fold.difference());
        if let Some(range) = difference.filter(|_| wrong.is_none()) {
            wrong = Some(self.first_difference(snapshot, range, size)?);
        }
        if wrong.is_none() {
            wrong = words_by_text(snapshot, &mut Fold::new(self.secret))?;
        }
        if let Some(wrong) = wrong.filter(|_| self.verifier.is_whole()) {
            self.verifier.find(Finding::new(Grade::Tampered, Rule::Derived, wrong));
        }
        Ok(())
    }

    /// Looks at the entries of a range one by one.
    fn first_difference(
        &self,
        snapshot: &Connection,
        range: core::ops::Range<u64>,
        size: u64,
    ) -> Result<String, Trouble> {
        let mut fine = Fold::fine(self.secret);
        let mut statement = snapshot.prepare("SELECT body FROM entry WHERE sequence >= ?1 AND sequence < ?2")?;
        let mut rows = statement.query(params![place(range.start), place(range.end)])?;
        while let Some(row) = rows.next()? {
            let ValueRef::Blob(body) = row.get_ref(0)? else { continue };
            // A row whose number is not its entry's was found before.
            expect_rows(&mut fine, body, range.start);
        }
        marks(snapshot, self.begins..size, |word, sequence| {
            if range.contains(&sequence) {
                let word = fine.word(word);
                fine.found(word, sequence.saturating_sub(range.start));
            }
        })?;
        found_by(snapshot, &mut fine, range.clone(), range.start)?;
        Ok(match fine.difference() {
            Some(at) => {
                let at = range.start.saturating_add(at.start);
                format!("the index finds entry {at} by other words or another id than it has")
            }
            None => format!("the index of the entries from {} on is not that of their words", range.start),
        })
    }
}

/// Whether the words are found by their texts, each once: the table and its index, each read alone.
fn words_by_text(snapshot: &Connection, fold: &mut Fold) -> Result<Option<String>, Trouble> {
    let mut statement = snapshot.prepare("SELECT text, id FROM word NOT INDEXED")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let word = fold.word(row.get_ref(0)?.as_str().unwrap_or_default());
        fold.expect(word, number(row.get(1)?));
    }
    let sql = "SELECT text, id FROM word INDEXED BY sqlite_autoindex_word_1 ORDER BY text";
    let mut statement = snapshot.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut last = String::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().unwrap_or_default();
        if text <= last.as_str() {
            return Ok(Some(format!("the word {text:?} of the index stands twice or out of order")));
        }
        last.clear();
        last.push_str(text);
        let word = fold.word(text);
        fold.found(word, number(row.get(1)?));
    }
    Ok(fold.difference().map(|_| "the words of the index are found by other texts than they have".to_owned()))
}

/// The rows of the index of ids, read alone and in its own order: not through the table.
fn found_by(snapshot: &Connection, fold: &mut Fold, range: core::ops::Range<u64>, first: u64) -> Result<(), Trouble> {
    let sql = "SELECT id, sequence FROM entry INDEXED BY sqlite_autoindex_entry_1 ORDER BY id";
    let mut statement = snapshot.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let (ValueRef::Blob(id), ValueRef::Integer(sequence)) = (row.get_ref(0)?, row.get_ref(1)?)
            && range.contains(&number(sequence))
        {
            fold.found(fold.id(id), number(sequence).saturating_sub(first));
        }
    }
    Ok(())
}

/// Every mark with its word. Both tables are read once, in the order of the words; a row that cannot be one, or that has no
/// counterpart, is said. Marks of entries beyond the last are passed over: those are missing, and that is said elsewhere.
/// So are those of frozen entries, unless all of these are gone.
fn marks(
    snapshot: &Connection,
    places: core::ops::Range<u64>,
    mut each: impl FnMut(&str, u64),
) -> Result<Option<String>, Trouble> {
    let is_pruned = prune::left_over(snapshot)? == 0;
    let mut words = snapshot.prepare("SELECT id, text FROM word ORDER BY id")?;
    let mut words = words.query([])?;
    let mut statement = snapshot.prepare("SELECT word, sequence FROM mark ORDER BY word, sequence")?;
    let mut marks = statement.query([])?;
    let mut current: Option<(i64, String)> = None;
    // Whether the current word has a mark.
    let mut used = true;
    let mut wrong = None;
    while let Some(mark) = marks.next()? {
        let (ValueRef::Integer(id), ValueRef::Integer(sequence)) = (mark.get_ref(0)?, mark.get_ref(1)?) else {
            wrong = Some("a row of the index is none".to_owned());
            continue;
        };
        while current.as_ref().is_none_or(|(known, _)| *known < id) {
            if !used {
                wrong = current.as_ref().map(|(_, text)| format!("the word {text:?} of the index stands for no entry"));
            }
            let Some(row) = words.next()? else { break };
            current = Some((row.get(0)?, row.get(1)?));
            used = false;
        }
        match &current {
            Some((known, text)) if *known == id => {
                used = true;
                match u64::try_from(sequence) {
                    Ok(sequence) if places.contains(&sequence) => each(text, sequence),
                    Ok(sequence) if sequence < places.start && is_pruned => {
                        wrong = Some(format!("the index finds entry {sequence}, which is frozen"));
                    }
                    Ok(_) => {}
                    Err(_) => wrong = Some(format!("the index finds the impossible entry {sequence}")),
                }
            }
            _ => wrong = Some(format!("the index has marks of a word {id} that is not there")),
        }
    }
    if !used || words.next()?.is_some() {
        wrong = Some("the index has a word that stands for no entry".to_owned());
    }
    Ok(wrong)
}

/// Looks things up that entries name.
struct Look<'c> {
    subtree: CachedStatement<'c>,
    evidence: CachedStatement<'c>,
    private: CachedStatement<'c>,
}

impl<'c> Look<'c> {
    fn new(snapshot: &'c Connection) -> Result<Self, Trouble> {
        Ok(Self {
            subtree: snapshot.prepare_cached("SELECT hash FROM subtree WHERE level = ?1 AND place = ?2")?,
            evidence: snapshot.prepare_cached("SELECT length(bytes) FROM evidence WHERE sha256 = ?1")?,
            private: snapshot.prepare_cached("SELECT 1 FROM private WHERE sha256 = ?1")?,
        })
    }

    fn up(&mut self, verifier: &mut Verifier, needs: &Needs) -> Result<(), Trouble> {
        for (subtree, expected) in &needs.subtrees {
            let found: Option<Vec<u8>> =
                self.subtree.query_row(params![subtree.level, place(subtree.place)], |row| row.get(0)).optional()?;
            let found = found.map(|hash| Digest(<[u8; 32]>::try_from(hash).unwrap_or([0; 32])));
            verifier.subtree(subtree, expected, found.as_ref());
        }
        for Named { sha256, size } in &needs.evidence {
            let found: Option<i64> = self.evidence.query_row([sha256.0], |row| row.get(0)).optional()?;
            match found {
                None => verifier.missing_evidence(),
                Some(found) if i64::try_from(*size) == Ok(found) => {}
                Some(found) => {
                    let text = format!("the evidence {sha256} has {found} bytes, and an entry says {size}");
                    verifier.find(Finding::new(Grade::Tampered, Rule::Blob, text));
                }
            }
        }
        for commitment in &needs.private {
            if self.private.query_row([commitment.0], |_| Ok(())).optional()?.is_none() {
                verifier.missing_private();
            }
        }
        Ok(())
    }
}

/// `None` if it cannot have been written as an entry.
fn stored<'r>(row: &'r Row<'_>) -> Option<Stored<'r>> {
    Some(Stored {
        sequence: u64::try_from(row.get::<_, i64>(0).ok()?).ok()?,
        id: Some(row.get(1).ok()?),
        at: Some(row.get(2).ok()?),
        leaf: Some(Digest(row.get(3).ok()?)),
        body: row.get_ref(4).ok()?.as_blob().ok()?,
    })
}

fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// No log comes near 2⁶³ entries.
fn place(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
