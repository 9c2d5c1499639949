//! Questions to the log's index.
//!
//! A search walks the entries in the order asked for. Each condition names words, and the rows of one word lie in the
//! order of the log: from any place the next that has it is one look away. So a search goes from place to place, always as
//! far as the condition that reaches farthest, and is led by the rarest word without counting any.

use rusqlite::{Connection, OptionalExtension};

use crate::domain::id::EntryId;
use crate::domain::key::Digest;
use crate::domain::question::{
    LARGEST_PAGE, LARGEST_PAGE_BYTES, MOST_ALTERNATIVES, MOST_CONDITIONS, Order, Question, Wanted,
};
use crate::domain::time::Timestamp;
use crate::domain::words;
use crate::ports::{Page, Statistics, StoredEntry};

use super::connection::Trouble;
use super::shard;

/// Looks into the index that one page may cost: some 3 µs each, so a third of a second at most. A search that needs more
/// gives what it has and where to go on.
const LONGEST_SEARCH: usize = 100_000;

/// One page of the answer, as of one moment.
///
/// # Errors
/// [`Trouble::Unavailable`] if the question is beyond its limits, [`Trouble::Damaged`] if index and entries disagree.
pub(super) fn page(connection: &Connection, question: &Question) -> Result<Page, Trouble> {
    let moment = connection.unchecked_transaction()?;
    let size = size(&moment)?;
    let begins = shard::begins(&moment)?;
    let page = Search::prepare(&moment, question, begins, size)?.map_or_else(|| Ok(Page::default()), Search::run)?;
    Ok(Page { size, begins, ..page })
}

/// One entry by its id.
///
/// # Errors
/// SQLite's.
pub(super) fn entry(connection: &Connection, id: EntryId) -> Result<Option<StoredEntry>, Trouble> {
    let sequence: Option<i64> = connection
        .prepare_cached("SELECT sequence FROM entry WHERE id = ?1")?
        .query_row([id.0.to_bytes()], |row| row.get(0))
        .optional()?;
    let begins = to_sql(shard::begins(connection)?);
    Ok(match sequence.filter(|sequence| *sequence >= begins) {
        Some(sequence) => read(connection, sequence, |_| true)?,
        None => None,
    })
}

/// Counts over the whole log.
///
/// # Errors
/// SQLite's.
pub(super) fn statistics(connection: &Connection) -> Result<Statistics, Trouble> {
    let moment = connection.unchecked_transaction()?;
    let begins = shard::begins(&moment)?;
    let count = |sql: &str| -> Result<u64, Trouble> { Ok(from_sql(moment.query_row(sql, [], |row| row.get(0))?)) };
    let time = |order: &str| -> Result<Option<Timestamp>, Trouble> {
        let sql = format!("SELECT at FROM entry WHERE sequence >= ?1 ORDER BY sequence {order} LIMIT 1");
        Ok(moment.query_row(&sql, [to_sql(begins)], |row| row.get(0)).optional()?.map(Timestamp::from_unix))
    };
    let mut counts = std::collections::BTreeMap::new();
    for kind in ["code:", "outcome:"] {
        for (id, text) in words_with(&moment, kind)? {
            let number = moment
                .prepare_cached("SELECT count(*) FROM mark WHERE word = ?1 AND sequence >= ?2")?
                .query_row([id, to_sql(begins)], |row| row.get(0))
                .map(from_sql)?;
            counts.insert(text, number);
        }
    }
    Ok(Statistics {
        size: size(&moment)?,
        begins,
        span: time("ASC")?.zip(time("DESC")?),
        bytes: count("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")?,
        checkpoints: count("SELECT count(*) FROM checkpoint WHERE kept = 1")?,
        open_intents: count("SELECT count(*) FROM open_intent")?,
        counts,
    })
}

/// A search that is ready to run.
struct Search<'a> {
    connection: &'a Connection,
    question: &'a Question,
    conditions: Vec<Vec<Term>>,
    /// The places that are looked at, both ends included.
    low: i64,
    high: i64,
    /// Looks that are left.
    looks: usize,
}

/// One word of a condition.
struct Term {
    word: i64,
    /// The nearest place that has it, from the last look on: a word is looked up again only when the search has passed it.
    nearest: Nearest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nearest {
    NotAsked,
    At(i64),
    /// It does not occur any more.
    Nowhere,
}

/// Where a look led to.
enum Look {
    /// This place fits.
    Found(i64),
    /// There is no further one.
    End,
    /// The search took too long; nothing fits before this place.
    Tired(i64),
}

impl<'a> Search<'a> {
    /// `None` if nothing can fit.
    fn prepare(
        connection: &'a Connection,
        question: &'a Question,
        begins: u64,
        size: u64,
    ) -> Result<Option<Self>, Trouble> {
        let alternatives = question.all_of.iter().map(Vec::len).max().unwrap_or(0);
        if question.all_of.len() > MOST_CONDITIONS || alternatives > MOST_ALTERNATIVES {
            let text = format!("a question has at most {MOST_CONDITIONS} conditions of {MOST_ALTERNATIVES} words");
            return Err(Trouble::Unavailable(text));
        }
        let mut conditions = Vec::with_capacity(question.all_of.len());
        for any_of in &question.all_of {
            let mut ids = Vec::new();
            for wanted in any_of {
                match wanted {
                    Wanted::Word(text) => ids.extend(word(connection, text)?),
                    Wanted::Prefix(text) => ids.extend(words_with(connection, text)?.into_iter().map(|(id, _)| id)),
                }
            }
            ids.sort_unstable();
            ids.dedup();
            if ids.is_empty() {
                return Ok(None);
            }
            conditions.push(ids.into_iter().map(|word| Term { word, nearest: Nearest::NotAsked }).collect());
        }
        let Some(last) = size.checked_sub(1) else { return Ok(None) };
        let (mut low, mut high) = (to_sql(begins), to_sql(last));
        if let Some(beyond) = question.beyond {
            match question.order {
                Order::NewestFirst => high = high.min(to_sql(beyond).saturating_sub(1)),
                Order::OldestFirst => low = low.max(to_sql(beyond).saturating_add(1)),
            }
        }
        let days = Days::of(connection, question)?;
        if let Some(from) = question.from {
            low = low.max(days.first_place(connection, words::day(from))?);
        }
        if let Some(until) = question.until {
            // Before `until`: if that is midnight, the day before is the last.
            let last = words::day(until.minus(core::time::Duration::from_secs(1)));
            high = high.min(days.last_place(connection, last)?);
        }
        let looks = LONGEST_SEARCH;
        Ok((low <= high).then_some(Self { connection, question, conditions, low, high, looks }))
    }

    fn run(mut self) -> Result<Page, Trouble> {
        let limit = self.question.limit.clamp(1, LARGEST_PAGE);
        let (mut page, mut bytes) = (Page::default(), 0_usize);
        let mut place = match self.question.order {
            Order::NewestFirst => self.high,
            Order::OldestFirst => self.low,
        };
        loop {
            match self.look(place)? {
                Look::End => return Ok(page),
                Look::Tired(reached) => {
                    page.next = Some(from_sql(self.back(reached)));
                    return Ok(page);
                }
                Look::Found(found) => {
                    if page.entries.len() >= limit || bytes >= LARGEST_PAGE_BYTES {
                        page.next = page.entries.last().map(|e| e.sequence);
                        return Ok(page);
                    }
                    let in_time = |at| self.question.is_in_time(at);
                    if let Some(entry) = read(self.connection, found, in_time)? {
                        bytes = bytes.saturating_add(entry.bytes.len());
                        page.entries.push(entry);
                    }
                    place = self.on(found);
                }
            }
        }
    }

    /// The next place from here on at which every condition holds.
    fn look(&mut self, from: i64) -> Result<Look, Trouble> {
        let mut place = from;
        loop {
            if !(self.low..=self.high).contains(&place) {
                return Ok(Look::End);
            }
            if self.looks == 0 {
                return Ok(Look::Tired(place));
            }
            match self.agreed(place)? {
                None => return Ok(Look::End),
                Some(reached) if reached == place => return Ok(Look::Found(place)),
                Some(reached) => place = reached,
            }
        }
    }

    /// The place itself if every condition holds there, else one further on before which that cannot be.
    fn agreed(&mut self, place: i64) -> Result<Option<i64>, Trouble> {
        if self.conditions.is_empty() {
            return self.nearest(place, None);
        }
        let mut conditions = core::mem::take(&mut self.conditions);
        let mut agreed = Ok(Some(place));
        for condition in &mut conditions {
            agreed = self.reached(place, condition);
            if !matches!(agreed, Ok(Some(reached)) if reached == place) {
                break;
            }
        }
        self.conditions = conditions;
        agreed
    }

    /// The nearest place at which a condition holds.
    fn reached(&mut self, place: i64, condition: &mut [Term]) -> Result<Option<i64>, Trouble> {
        let mut reached = None;
        for term in condition {
            let passed = |found| found != place && self.nearer(found, place) == found;
            if match term.nearest {
                Nearest::NotAsked => true,
                Nearest::At(found) => passed(found),
                Nearest::Nowhere => false,
            } {
                term.nearest = self.nearest(place, Some(term.word))?.map_or(Nearest::Nowhere, Nearest::At);
            }
            if let Nearest::At(found) = term.nearest {
                reached = Some(reached.map_or(found, |other| self.nearer(found, other)));
            }
        }
        Ok(reached)
    }

    /// The nearest entry at this place or further on, of all or of those with a word.
    fn nearest(&mut self, place: i64, word: Option<i64>) -> Result<Option<i64>, Trouble> {
        self.looks = self.looks.saturating_sub(1);
        let sql = match (self.question.order, word) {
            (Order::NewestFirst, Some(_)) => "SELECT max(sequence) FROM mark WHERE word = ?2 AND sequence <= ?1",
            (Order::OldestFirst, Some(_)) => "SELECT min(sequence) FROM mark WHERE word = ?2 AND sequence >= ?1",
            // The second parameter is named so that all take the same two.
            (Order::NewestFirst, None) => "SELECT max(sequence) FROM entry WHERE sequence <= ?1 AND ?2 IS NULL",
            (Order::OldestFirst, None) => "SELECT min(sequence) FROM entry WHERE sequence >= ?1 AND ?2 IS NULL",
        };
        Ok(self.connection.prepare_cached(sql)?.query_row((place, word), |row| row.get(0))?)
    }

    fn nearer(&self, a: i64, b: i64) -> i64 {
        match self.question.order {
            Order::NewestFirst => a.max(b),
            Order::OldestFirst => a.min(b),
        }
    }

    /// One place further.
    fn on(&self, place: i64) -> i64 {
        match self.question.order {
            Order::NewestFirst => place.saturating_sub(1),
            Order::OldestFirst => place.saturating_add(1),
        }
    }

    /// One place back: what is beyond it begins at `place`.
    fn back(&self, place: i64) -> i64 {
        match self.question.order {
            Order::NewestFirst => place.saturating_add(1),
            Order::OldestFirst => place.saturating_sub(1),
        }
    }
}

/// The days of the log with their words: where the entries of a time lie, however the wall clock stepped. Ten years are
/// 3,650 of them, two looks each.
struct Days(Vec<(i64, i64)>);

impl Days {
    fn of(connection: &Connection, question: &Question) -> Result<Self, Trouble> {
        if question.from.is_none() && question.until.is_none() {
            return Ok(Self(Vec::new()));
        }
        let days = words_with(connection, "day:")?.into_iter();
        Ok(Self(days.filter_map(|(id, text)| Some((text.strip_prefix("day:")?.parse().ok()?, id))).collect()))
    }

    /// The first place of an entry of this day or later.
    fn first_place(&self, connection: &Connection, from: i64) -> Result<i64, Trouble> {
        let mut first = i64::MAX;
        let mut statement = connection.prepare_cached("SELECT min(sequence) FROM mark WHERE word = ?1")?;
        for (_, id) in self.0.iter().filter(|(day, _)| *day >= from) {
            first = first.min(statement.query_row([id], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(i64::MAX));
        }
        Ok(first)
    }

    /// The last place of an entry of this day or earlier.
    fn last_place(&self, connection: &Connection, until: i64) -> Result<i64, Trouble> {
        let mut last = -1;
        let mut statement = connection.prepare_cached("SELECT max(sequence) FROM mark WHERE word = ?1")?;
        for (_, id) in self.0.iter().filter(|(day, _)| *day <= until) {
            last = last.max(statement.query_row([id], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(-1));
        }
        Ok(last)
    }
}

/// An entry, if its time is wanted.
fn read(
    connection: &Connection,
    sequence: i64,
    in_time: impl FnOnce(Timestamp) -> bool,
) -> Result<Option<StoredEntry>, Trouble> {
    let mut statement = connection.prepare_cached("SELECT at, leaf, body FROM entry WHERE sequence = ?1")?;
    let mut rows = statement.query([sequence])?;
    let Some(row) = rows.next()? else {
        return Err(Trouble::Damaged(format!("the index names entry {sequence}, which is not there")));
    };
    // The body, which may lie on pages of its own, is read only if it is wanted.
    if !in_time(Timestamp::from_unix(row.get(0)?)) {
        return Ok(None);
    }
    let entry = StoredEntry { sequence: from_sql(sequence), leaf: Digest(row.get(1)?), bytes: row.get(2)? };
    Ok(Some(entry))
}

/// How many entries the log has.
fn size(connection: &Connection) -> Result<u64, Trouble> {
    let next = connection
        .prepare_cached("SELECT ifnull(max(sequence), -1) + 1 FROM entry")?
        .query_row([], |row| row.get(0))?;
    Ok(from_sql(next))
}

fn word(connection: &Connection, text: &str) -> Result<Option<i64>, Trouble> {
    let mut statement = connection.prepare_cached("SELECT id FROM word WHERE text = ?1")?;
    Ok(statement.query_row([text], |row| row.get(0)).optional()?)
}

/// The words that begin like this.
fn words_with(connection: &Connection, prefix: &str) -> Result<Vec<(i64, String)>, Trouble> {
    // In the order of bytes nothing that begins with the prefix comes after it with the last of all characters.
    let mut statement = connection.prepare_cached("SELECT id, text FROM word WHERE text >= ?1 AND text < ?2")?;
    let end = format!("{prefix}\u{10ffff}");
    let found = statement.query_map([prefix, &end], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Sequence numbers are not negative and no log comes near 2⁶³ entries.
fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
