//! Answers: pages, one entry with what belongs to it, counts, and a story.

use serde_json::{Map, Value};

use super::model::{Detail, Entries, Partner, Piece, Row, Stats, Story};
use super::{Refusal, plain, question, story};
use crate::codec::entry::{Entry, EntryFacts};
use crate::domain::audit::{Outcome, Phase, leaf_hash};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::key::Digest;
use crate::domain::private::FORGOTTEN;
use crate::domain::question::{LARGEST_PAGE, Order, Question, Wanted};
use crate::domain::time::Timestamp;
use crate::domain::words::word;
use crate::ports::{Log, StoredEntry};
use crate::shell::explain;
use crate::shell::texts::{self, Texts};

/// A page; `now` is what spans of time are counted back from.
///
/// # Errors
/// When the question is not understood, or the log cannot be read.
pub(in crate::shell) async fn entries(
    log: &dyn Log,
    asked: &[(String, String)],
    now: Timestamp,
) -> Result<Entries, Refusal> {
    let asked = question::parse(&with_pseudonyms(log, asked).await?, now)?;
    let (order, beyond) = (asked.order, asked.beyond);
    let page = log.query(asked).await?;
    let texts = texts_of(log, page.entries.iter()).await?;
    let last = page.size.checked_sub(1);
    let next = match order {
        Order::NewestFirst => page.next,
        // What is not written yet comes behind the last that there is.
        Order::OldestFirst => page.next.or(last.max(beyond)),
    };
    Ok(Entries {
        entries: page.entries.iter().zip(&texts).map(|(stored, texts)| row(stored, texts)).collect(),
        next: next.map(|place| question::cursor(order, place)),
        more: page.next.is_some(),
        size: page.size.to_string(),
        begins: (page.begins > 0).then(|| page.begins.to_string()),
    })
}

/// The log knows people by their pseudonyms only: whoever asks for a name means those.
async fn with_pseudonyms(log: &dyn Log, asked: &[(String, String)]) -> Result<Vec<(String, String)>, Refusal> {
    let mut all = asked.to_vec();
    let names: Vec<&String> = asked.iter().filter(|(kind, _)| kind == "actor").map(|(_, name)| name).collect();
    if !names.is_empty() {
        let people = log.people().await?;
        let meant = people.iter().filter(|person| names.iter().any(|name| ***name == *person.text));
        all.extend(meant.map(|person| ("actor".to_owned(), person.commitment().to_string())));
    }
    Ok(all)
}

/// The private texts of each.
async fn texts_of(log: &dyn Log, all: impl Iterator<Item = &StoredEntry>) -> Result<Vec<Texts>, Refusal> {
    let bodies: Vec<Value> = all.map(|e| serde_json::from_slice(&e.bytes).unwrap_or(Value::Null)).collect();
    Ok(texts::of(log, &bodies).await?)
}

/// One entry, named by its id or its place in the log.
///
/// # Errors
/// When there is none, or the log cannot be read.
pub(in crate::shell) async fn detail(log: &dyn Log, name: &str) -> Result<Detail, Refusal> {
    let Some(stored) = find(log, name).await? else { return Err(Refusal::gone(log, name).await) };
    let (mut evidence, mut partner) = (Vec::new(), None);
    if let Ok(entry) = Entry::parse(&stored.bytes) {
        evidence = pieces(log, &entry).await?;
        partner = other_half(log, &entry).await?.map(|other| Partner {
            phase: other.phase.as_str().into(),
            sequence: other.sequence.to_string(),
            id: other.id.to_string(),
            time: other.at.to_string(),
            code: other.code,
            outcome: other.outcome.map(|o| o.as_str().into()),
        });
    }
    let mut texts = texts_of(log, core::iter::once(&stored)).await?.pop().unwrap_or_default();
    let row = row(&stored, &texts);
    texts.remove(texts::ACTOR);
    let size = log.query(Question { limit: 1, ..Question::default() }).await?.size.to_string();
    Ok(Detail {
        row,
        private: texts,
        evidence,
        partner,
        size,
        bytes: String::from_utf8_lossy(&stored.bytes).into_owned(),
    })
}

/// Counts.
///
/// # Errors
/// When the log cannot be read.
pub(in crate::shell) async fn statistics(log: &dyn Log) -> Result<Stats, Refusal> {
    let found = log.statistics().await?;
    let of = |kind: &str| {
        let counts = found.counts.iter();
        counts.filter_map(|(word, n)| Some((word.strip_prefix(kind)?.to_owned(), *n))).filter(|(_, n)| *n > 0).collect()
    };
    Ok(Stats {
        size: found.size.to_string(),
        begins: (found.begins > 0).then(|| found.begins.to_string()),
        oldest: found.span.map(|s| s.0.to_string()),
        newest: found.span.map(|s| s.1.to_string()),
        bytes: found.bytes.to_string(),
        checkpoints: found.checkpoints.to_string(),
        unresolved_intents: found.open_intents.to_string(),
        witnessed: None,
        codes: of("code:"),
        outcomes: of("outcome:"),
    })
}

/// The story of an entry, or of everything with a correlation id.
///
/// # Errors
/// When there is neither, or the log cannot be read.
pub(in crate::shell) async fn explain(log: &dyn Log, name: &str) -> Result<Story, Refusal> {
    let named = find(log, name).await?;
    let asked = match &named {
        Some(stored) => Some(parsed(stored)?),
        None => None,
    };
    let correlation = match &asked {
        Some(entry) => entry.correlation.map(|id| id.to_string()),
        None => Ulid::parse(name).map(|id| id.to_string()),
    };
    let (mut told, mut rest) = (Vec::new(), None);
    if let Some(id) = correlation {
        let all = Question { order: Order::OldestFirst, limit: LARGEST_PAGE, ..Question::default() };
        let page = log.query(all.and(vec![Wanted::Word(word("correlation", &id))])).await?;
        told = page.entries;
        rest = page.next;
    } else if let (Some(stored), Some(entry)) = (named, &asked) {
        told.push(stored);
        if let Some(other) = other_half(log, entry).await? {
            told.extend(log.entry(other.id).await?);
        }
        told.sort_by_key(|stored| stored.sequence);
    }
    if told.is_empty() {
        return Err(Refusal::gone(log, name).await);
    }
    let mut chapters = Vec::with_capacity(told.len());
    let texts = texts_of(log, told.iter()).await?;
    for (stored, texts) in told.iter().zip(texts) {
        let entry = parsed(stored)?;
        let evidence = pieces(log, &entry).await?;
        chapters.push(story::Chapter { entry, evidence, texts });
    }
    let mut sentences = story::tell(&chapters, asked.map(|entry| entry.id));
    if rest.is_some() {
        sentences
            .push(format!("There are more than {LARGEST_PAGE} entries; the rest: keyward audit query --correlation."));
    }
    Ok(Story { sentences, entries: chapters.iter().map(|c| c.entry.id.to_string()).collect() })
}

fn parsed(stored: &StoredEntry) -> Result<Entry, Refusal> {
    let fault = fault(stored).or_else(|| Entry::parse(&stored.bytes).err().map(|e| e.to_string()));
    match (fault, Entry::parse(&stored.bytes)) {
        (None, Ok(entry)) => Ok(entry),
        (fault, _) => Err(Refusal {
            code: super::UNREADABLE,
            text: format!("entry {} cannot be believed: {}", stored.sequence, fault.unwrap_or_default()),
            hint: "keyward audit verify says what is still trustworthy".into(),
        }),
    }
}

/// By its id, or by its place in the log.
pub(super) async fn find(log: &dyn Log, name: &str) -> Result<Option<StoredEntry>, Refusal> {
    if let Some(id) = Ulid::parse(name) {
        return Ok(log.entry(EntryId(id)).await?);
    }
    let digits = name.strip_prefix('#').unwrap_or(name);
    let Ok(sequence) = digits.parse::<u64>() else {
        let hint = "the id of an entry (26 letters and digits) or its place in the log (a number)";
        return Err(Refusal::question(format!("{} names no entry", super::shown(name)), hint));
    };
    let asked =
        Question { beyond: sequence.checked_sub(1), order: Order::OldestFirst, limit: 1, ..Question::default() };
    Ok(log.query(asked).await?.entries.into_iter().find(|e| e.sequence == sequence))
}

/// The outcome of an intent, the intent of an outcome.
async fn other_half(log: &dyn Log, entry: &Entry) -> Result<Option<Entry>, Refusal> {
    match (entry.phase, entry.intent) {
        (Phase::Outcome, Some(intent)) => {
            let stored = log.entry(intent).await?;
            Ok(stored.and_then(|s| Entry::parse(&s.bytes).ok()))
        }
        (Phase::Intent, _) => {
            let belongs = match entry.correlation {
                Some(id) => word("correlation", &id.to_string()),
                None => word("target", &entry.target.key()),
            };
            // An outcome follows its intent: within one attempt, or as the next few about the same target.
            let asked = Question {
                beyond: Some(entry.sequence),
                order: Order::OldestFirst,
                limit: LARGEST_PAGE,
                ..Question::default()
            };
            let asked = asked.and(vec![Wanted::Word(belongs)]).and(vec![Wanted::Word(word("phase", "outcome"))]);
            let page = log.query(asked).await?;
            let all = page.entries.iter().filter_map(|s| Entry::parse(&s.bytes).ok());
            Ok(all.into_iter().find(|other| other.intent == Some(entry.id)))
        }
        (Phase::Outcome | Phase::Event, _) => Ok(None),
    }
}

async fn pieces(log: &dyn Log, entry: &Entry) -> Result<Vec<Piece>, Refusal> {
    let mut out = Vec::with_capacity(entry.evidence.len());
    for piece in &entry.evidence {
        out.push(Piece {
            name: piece.name.clone(),
            sha256: piece.sha256.to_string(),
            size: piece.size.to_string(),
            media: piece.media.clone(),
            captured_at: piece.captured_at.to_string(),
            kept: log.evidence(piece.sha256).await?.is_some(),
        });
    }
    Ok(out)
}

/// What is plainly wrong with stored bytes.
fn fault(stored: &StoredEntry) -> Option<String> {
    (leaf_hash(&stored.bytes) != stored.leaf).then(|| "its bytes are not what was hashed".to_owned())
}

/// An entry in short, with the private texts that are kept.
pub(in crate::shell) fn row(stored: &StoredEntry, texts: &Texts) -> Row {
    let base = Row { sequence: stored.sequence.to_string(), leaf: stored.leaf.to_string(), ..Row::default() };
    let whole = serde_json::from_slice(&stored.bytes).unwrap_or(Value::Null);
    let entry = match Entry::parse(&stored.bytes) {
        Ok(entry) => entry,
        Err(error) => return Row { fault: Some(error.to_string()), entry: whole, ..base },
    };
    let elsewhere = (entry.sequence != stored.sequence).then(|| format!("it was written as entry {}", entry.sequence));
    Row {
        id: entry.id.to_string(),
        time: entry.at.to_string(),
        title: explain::explain(&entry.code).map(|e| e.title.to_owned()).unwrap_or_default(),
        action: entry.action.clone(),
        phase: entry.phase.as_str().into(),
        outcome: entry.outcome.map(|o: Outcome| o.as_str().into()),
        target: entry.target.key(),
        actor: actor(&entry, texts).to_owned(),
        tier: entry.tier,
        correlation: entry.correlation.map(|id| id.to_string()),
        text: line(&entry, texts),
        fault: fault(stored).or(elsewhere),
        entry: whole,
        code: entry.code,
        ..base
    }
}

/// Who, as people call them: by name, or by pseudonym if the name was forgotten.
pub(super) fn actor<'a>(entry: &'a Entry, texts: &'a Texts) -> &'a str {
    let name = texts.get(texts::ACTOR).map(String::as_str).filter(|name| *name != FORGOTTEN);
    name.or(entry.actor.subject.as_deref()).unwrap_or(&entry.actor.kind)
}

/// What there is to say about an entry, in a line: what it says itself, else its facts.
fn line(entry: &Entry, texts: &Texts) -> String {
    let EntryFacts::Known(facts) = &entry.facts else { return "its facts were too long to be recorded".into() };
    let recorded = || ["text", "detail"].iter().find_map(|key| facts.get(*key)).and_then(Value::as_str);
    let said = texts.get("text").map(String::as_str).or_else(recorded);
    let shortened = |value: &Value| {
        let text = value_text(value);
        // Whoever compares hashes looks at the whole entry.
        if Digest::parse(&text).is_some() { text.chars().take(16).chain(['…']).collect() } else { text }
    };
    let facts = facts_of(facts).map(|(key, value)| format!("{key} {}", shortened(value)));
    let told = told_of(texts).map(|(key, text)| format!("{key} {text}"));
    plain(&said.map_or_else(|| told.chain(facts).collect::<Vec<_>>().join("; "), str::to_owned))
}

/// The private texts with their keys as words.
pub(super) fn told_of(texts: &Texts) -> impl Iterator<Item = (String, &str)> {
    let own = texts.iter().filter(|(key, _)| *key != texts::ACTOR);
    own.map(|(key, text)| (key.replace('_', " "), text.as_str()))
}

/// The facts that say something, with their keys as words.
pub(super) fn facts_of(facts: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    let says = |value: &Value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty());
    facts.iter().filter(move |(_, value)| says(value)).map(|(key, value)| (key.replace('_', " "), value))
}

/// A fact as people read it.
pub(in crate::shell) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(value_text).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
