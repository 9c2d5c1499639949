//! Parameters of a question, from a URL or from the command line, into a [`Question`].

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Refusal, shown};
use crate::domain::id::Ulid;
use crate::domain::question::{LARGEST_PAGE, MOST_ALTERNATIVES, Order, Question, Wanted};
use crate::domain::time::Timestamp;
use crate::domain::words::{LONGEST_WORD, word};
use crate::shell::explain;

/// At most so many parameters: each kind once or a few times.
const MOST_PARAMETERS: usize = 64;
/// What is given if no limit is asked for.
const USUAL_LIMIT: usize = 50;

/// Parameters that are words of the index as such: those of one kind are alternatives, those of several must all hold.
/// Some are of kinds that no entry has yet, so they find nothing.
const KINDS: [&str; 14] = [
    "target",
    "credential",
    "path",
    "issuer",
    "actor",
    "tier",
    "phase",
    "outcome",
    "correlation",
    "service",
    "approver",
    "exception",
    "incident",
    "day",
];

/// Every parameter, for hints.
pub(in crate::shell) const PARAMETERS: &str = "since, until, credential, path, issuer, service, action, tier, actor, approver, exception, incident, outcome, \
     phase, code, text, correlation, target, order, limit, cursor";

/// Understands a question; `now` is what spans such as `2h` are counted back from.
///
/// # Errors
/// [`Refusal`] names the parameter and what it may be.
pub(super) fn parse(pairs: &[(String, String)], now: Timestamp) -> Result<Question, Refusal> {
    if pairs.len() > MOST_PARAMETERS {
        return Err(Refusal::question(format!("a question has at most {MOST_PARAMETERS} parameters"), "ask for less"));
    }
    let mut question = Question { limit: USUAL_LIMIT, ..Question::default() };
    let mut conditions: BTreeMap<&str, Vec<Wanted>> = BTreeMap::new();
    let (mut order, mut cursor) = (None, None);
    for (name, value) in pairs {
        if value.is_empty() || value.len() > LONGEST_WORD {
            let text = format!("parameter {} has {} bytes", shown(name), value.len());
            return Err(Refusal::question(text, format!("between 1 and {LONGEST_WORD}")));
        }
        match name.as_str() {
            "since" | "from" => question.from = Some(time(name, value, now)?),
            "until" => question.until = Some(time(name, value, now)?),
            "action" => conditions.entry("action").or_default().push(action(value)),
            "code" => conditions.entry("code").or_default().push(code(value)?),
            "text" => conditions.entry("text").or_default().extend(text(value)?),
            "order" => order = Some(order_of(value)?),
            "cursor" => cursor = Some(cursor_of(value)?),
            "limit" => question.limit = limit(value)?,
            kind => {
                let Some(kind) = KINDS.iter().find(|k| **k == kind) else {
                    let text = format!("there is no parameter {}", shown(kind));
                    return Err(Refusal::question(text, format!("there are {PARAMETERS}")));
                };
                check(kind, value)?;
                conditions.entry(kind).or_default().push(Wanted::Word(word(kind, value)));
            }
        }
    }
    if conditions.values().any(|any_of| any_of.len() > MOST_ALTERNATIVES) {
        return Err(Refusal::question("too many alternatives", "ask for less at once"));
    }
    question.all_of = conditions.into_values().collect();
    question.order = order.unwrap_or_default();
    if let Some((of, beyond)) = cursor {
        if order.is_some_and(|order| order != of) {
            let hint = "leave order out: a cursor goes on in its own";
            return Err(Refusal::question("the cursor is of the other order", hint));
        }
        (question.order, question.beyond) = (of, Some(beyond));
    }
    Ok(question)
}

/// The cursor that goes on behind a place.
pub(super) fn cursor(order: Order, beyond: u64) -> String {
    match order {
        Order::NewestFirst => format!("n{beyond}"),
        Order::OldestFirst => format!("o{beyond}"),
    }
}

fn cursor_of(text: &str) -> Result<(Order, u64), Refusal> {
    let (order, digits) = match text.split_at_checked(1) {
        Some(("n", digits)) => (Some(Order::NewestFirst), digits),
        Some(("o", digits)) => (Some(Order::OldestFirst), digits),
        _ => (None, ""),
    };
    let place = digits.parse::<u64>().ok().filter(|n| n.to_string() == digits);
    order.zip(place).ok_or_else(|| {
        let hint = "give back what an answer had as \"next\", unchanged";
        Refusal::question(format!("{} is no cursor", shown(text)), hint)
    })
}

fn order_of(text: &str) -> Result<Order, Refusal> {
    match text {
        "newest" => Ok(Order::NewestFirst),
        "oldest" => Ok(Order::OldestFirst),
        _ => Err(Refusal::question(
            format!("order {} is not known", shown(text)),
            "newest or oldest (which comes first)",
        )),
    }
}

fn limit(text: &str) -> Result<usize, Refusal> {
    let parsed = text.parse::<usize>().ok().filter(|n| (1..=LARGEST_PAGE).contains(n));
    parsed.ok_or_else(|| {
        Refusal::question(format!("limit {} is not possible", shown(text)), format!("1 to {LARGEST_PAGE}"))
    })
}

/// RFC 3339, a date, or a span back from now.
/// A time, a date, or how long ago.
pub(in crate::shell) fn time(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    let date = || Timestamp::parse(&format!("{text}T00:00:00Z"));
    let parsed = Timestamp::parse(text).or_else(date).or_else(|| Some(now.minus(span(text)?)));
    parsed.ok_or_else(|| {
        let hint = "a time such as 2026-11-22T06:10:00Z, a date such as 2026-11-22 (its beginning, UTC), or how long ago: 90s, 20m, 2h, 3d, 4w";
        Refusal::question(format!("{name} {} is no time", shown(text)), hint)
    })
}

fn span(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(Duration::from_secs(digits.parse::<u32>().ok().map(u64::from)?.saturating_mul(scale)))
}

/// `certificate.issue` is one action; `certificate` and `certificate.` mean all that begin so.
fn action(text: &str) -> Wanted {
    Wanted::Prefix(word("action", text))
}

fn code(text: &str) -> Result<Wanted, Refusal> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.strip_prefix("KW").filter(|d| d.len() <= 4 && d.bytes().all(|b| b.is_ascii_digit()));
    match digits.map(str::len) {
        Some(4) => Ok(Wanted::Word(word("code", &upper))),
        Some(_) => Ok(Wanted::Prefix(word("code", &upper))),
        None => {
            let hint = "KW and up to four digits, for example KW2302 or KW23; words go into text";
            Err(Refusal::question(format!("{} is no code", shown(text)), hint))
        }
    }
}

/// Full text: a code, its beginning, or words that all stand in what is documented about it.
fn text(asked: &str) -> Result<Vec<Wanted>, Refusal> {
    if let Ok(code) = code(asked) {
        return Ok(vec![code]);
    }
    let words: Vec<String> = asked.split_whitespace().map(str::to_lowercase).collect();
    let speaks_of = |entry: &explain::Entry| {
        let documented = format!("{} {} {}", entry.title, entry.meaning, entry.action).to_lowercase();
        !words.is_empty() && words.iter().all(|word| documented.contains(word.as_str()))
    };
    let found: Vec<Wanted> =
        explain::all().filter(|entry| speaks_of(entry)).map(|entry| Wanted::Word(word("code", entry.code))).collect();
    if found.is_empty() {
        let hint = "the words are looked up in what is documented about the codes: keyward explain --all";
        return Err(Refusal::question(format!("no code's meaning has all the words of {}", shown(asked)), hint));
    }
    Ok(found)
}

/// Values of which only a few are possible are checked, so that a slip is not taken for "there is none".
fn check(kind: &str, value: &str) -> Result<(), Refusal> {
    let possible: &[&str] = match kind {
        "phase" => &["intent", "outcome", "event"],
        "outcome" => &["success", "failure", "denied", "unknown"],
        "tier" => &["0", "1", "2", "3", "4"],
        "correlation" if Ulid::parse(value).is_none() => {
            let hint = "26 letters and digits, as an entry's correlation has them";
            return Err(Refusal::question(format!("correlation {} is no ULID", shown(value)), hint));
        }
        _ => return Ok(()),
    };
    if possible.contains(&value) {
        Ok(())
    } else {
        Err(Refusal::question(format!("{kind} {} is not possible", shown(value)), possible.join(", ")))
    }
}
