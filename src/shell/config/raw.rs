//! TOML with its places: tables are read key by key, each value of the type it must have, and what nobody read is an
//! unknown key.
//!
//! Nothing here stops at the first problem. A reader that returns `None` has either found no key, or said what is wrong;
//! a list with a wrong element is `None` as a whole, so that what is left of it is not judged.

use core::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Problems, Span, quoted};

/// A string is at most this long: the longest path of Linux (PATH_MAX).
const LONGEST_TEXT: usize = 4_096;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// Texts by names that the file chooses.
pub(super) type Pairs<'a> = Vec<(At<&'a str>, At<&'a str>)>;

/// Why a text is not what it should be; the place is added by the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: &'static str,
    /// Follows the key: "is no duration".
    pub(super) what: String,
    /// How to mend it.
    pub(super) mend: String,
}

impl Wrong {
    pub(super) fn new(code: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { code, what: what.into(), mend: mend.into() }
    }
}

/// Parses the whole text, keeping what can be read of a broken one.
pub(super) fn parse<'t>(text: &'t str, problems: &mut Problems) -> Spanned<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or(0..0);
        let mend = "mend the TOML here; strings stand in quotes, tables are `[name]`, lists of tables `[[name]]`";
        problems.add("KW0002", &at, format!("this is not TOML: {}", error.message()), "here", mend);
    }
    table
}

/// One table that is being read.
pub(super) struct Section<'a> {
    /// As people write it: `[[certificate]]`.
    pub(super) name: &'static str,
    /// Its header.
    pub(super) at: Span,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(name: &'static str, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self { name, at: table.span(), table: table.get_ref(), known: Vec::new() }
    }

    /// Whether the key is there at all, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the key stands; the header if it does not.
    pub(super) fn key_span(&self, key: &str) -> Span {
        self.table.get_key_value(key).map_or_else(|| self.at.clone(), |(k, _)| k.span())
    }

    /// Where the key's value stands; the header if it does not.
    pub(super) fn value_span(&self, key: &str) -> Span {
        self.table.get(key).map_or_else(|| self.at.clone(), Spanned::span)
    }

    /// Says that a key is missing.
    pub(super) fn missing(&self, p: &mut Problems, key: &str, example: &str) {
        let what = format!("{} has no `{key}`", self.name);
        p.add(
            "KW0004",
            &self.at,
            what,
            format!("`{key}` is missing here"),
            format!("add, for example: {key} = {example}"),
        );
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn wrong_type(&self, p: &mut Problems, key: &str, value: &Spanned<DeValue<'_>>, expected: &str, example: &str) {
        let what = format!("`{key}` in {} must be {expected}, not {}", self.name, a_type(value.get_ref()));
        p.add(
            "KW0005",
            &value.span(),
            what,
            format!("expected {expected}"),
            format!("write it like this: {key} = {example}"),
        );
    }

    /// A string.
    pub(super) fn text(&mut self, p: &mut Problems, key: &'static str, example: &str) -> Option<At<&'a str>> {
        let value = self.take(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(p, key, value, "a string", example);
            return None;
        };
        sound(p, key, text, value.span())
    }

    /// A string that must be there.
    pub(super) fn need_text(&mut self, p: &mut Problems, key: &'static str, example: &str) -> Option<At<&'a str>> {
        if !self.has(key) {
            self.missing(p, key, example);
        }
        self.text(p, key, example)
    }

    /// A string that is understood by `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let text = self.text(p, key, example)?;
        understood(p, key, text, parse)
    }

    /// A string that must be there and is understood by `parse`.
    pub(super) fn need<T>(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let text = self.need_text(p, key, example)?;
        understood(p, key, text, parse)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        words: &[(T, &'static str)],
    ) -> Option<At<T>> {
        let example = words.first().map_or(String::new(), |(_, w)| format!("{w:?}"));
        let text = self.text(p, key, &example)?;
        one_of(p, key, text, words)
    }

    /// A list of a few words.
    pub(super) fn words<T: Copy>(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        words: &[(T, &'static str)],
    ) -> Option<At<Vec<At<T>>>> {
        let example = words.first().map_or(String::new(), |(_, w)| format!("[{w:?}]"));
        let list = self.texts(p, key, 64, &example)?;
        let count = list.value.len();
        let found: Vec<At<T>> = list.value.into_iter().filter_map(|t| one_of(p, key, t, words)).collect();
        (found.len() == count).then_some(At { value: found, span: list.span })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, p: &mut Problems, key: &'static str) -> Option<At<bool>> {
        let value = self.take(key)?;
        let Some(flag) = value.get_ref().as_bool() else {
            self.wrong_type(p, key, value, "true or false", "true");
            return None;
        };
        Some(At { value: flag, span: value.span() })
    }

    /// A whole number in a range.
    pub(super) fn number(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<At<u32>> {
        let value = self.take(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(p, key, value, "a whole number", &range.start().to_string());
            return None;
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(At { value: number, span: value.span() }),
            _ => {
                let what = format!("`{key}` is out of range");
                let mend = format!("choose a number from {} to {}", range.start(), range.end());
                p.add("KW0016", &value.span(), what, "out of range", mend);
                None
            }
        }
    }

    /// A list of strings, at most `most`.
    pub(super) fn texts(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        most: usize,
        example: &str,
    ) -> Option<At<Vec<At<&'a str>>>> {
        let value = self.take(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(p, key, value, "a list of strings", example);
            return None;
        };
        if items.len() > most {
            too_many(p, &value.span(), key, items.len(), most);
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.extend(sound(p, key, text, item.span())),
                None => self.wrong_type(p, key, item, "a list of strings", example),
            }
        }
        (texts.len() == items.len()).then_some(At { value: texts, span: value.span() })
    }

    /// A table of strings, at most `most`, with keys that the file chooses.
    pub(super) fn pairs(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        most: usize,
        example: &str,
    ) -> Option<At<Pairs<'a>>> {
        let value = self.take(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(p, key, value, "a table of strings", example);
            return None;
        };
        if table.len() > most {
            too_many(p, &value.span(), key, table.len(), most);
            return None;
        }
        let mut pairs = Vec::with_capacity(table.len());
        for (name, item) in table.iter() {
            match item.get_ref().as_str() {
                Some(text) => {
                    let name = At { value: name.get_ref().as_ref(), span: name.span() };
                    pairs.extend(sound(p, key, text, item.span()).map(|text| (name, text)));
                }
                None => self.wrong_type(p, key, item, "a table of strings", example),
            }
        }
        (pairs.len() == table.len()).then_some(At { value: pairs, span: value.span() })
    }

    /// A table inside.
    pub(super) fn section(&mut self, p: &mut Problems, key: &'static str, name: &'static str) -> Option<Section<'a>> {
        let value = self.take(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(p, key, value, "a table", "{ … }");
            return None;
        };
        Some(Section { name, at: value.span(), table, known: Vec::new() })
    }

    /// A list of tables inside, at most `most`.
    pub(super) fn sections(
        &mut self,
        p: &mut Problems,
        key: &'static str,
        name: &'static str,
        most: usize,
    ) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let what = format!("`{key}` must be a list of tables, not {}", a_type(value.get_ref()));
            p.add("KW0005", &value.span(), what, "expected a list of tables", format!("write the header as {name}"));
            return Vec::new();
        };
        if items.len() > most {
            too_many(p, &items.first().map_or(value.span(), Spanned::span), key, items.len(), most);
            return Vec::new();
        }
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section { name, at: item.span(), table, known: Vec::new() }),
                None => self.wrong_type(p, key, item, "a list of tables", "[{ … }]"),
            }
        }
        sections
    }

    /// Complains of every key that was not read.
    pub(super) fn close(self, p: &mut Problems) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let mend = match p.did_you_mean(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("remove it; {} may hold: {}", self.name, self.known.join(", ")),
            };
            let what = format!("unknown key {} in {}", quoted(name), self.name);
            p.add("KW0003", &key.span(), what, "unknown key", mend);
        }
    }
}

/// Hands a text to its parser and says in its place what is wrong with it.
pub(super) fn understood<T>(
    p: &mut Problems,
    key: &str,
    text: At<&str>,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<At<T>> {
    match parse(text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(wrong) => {
            p.add(wrong.code, &text.span, format!("`{key}` {}", wrong.what), "here", wrong.mend);
            None
        }
    }
}

fn one_of<T: Copy>(p: &mut Problems, key: &str, text: At<&str>, words: &[(T, &'static str)]) -> Option<At<T>> {
    if let Some((value, _)) = words.iter().find(|(_, word)| *word == text.value) {
        return Some(At { value: *value, span: text.span });
    }
    let all: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
    let mend = match p.did_you_mean(&text.value.to_ascii_lowercase(), all.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"? one of: {}", all.join(", ")),
        None => format!("choose one of: {}", all.join(", ")),
    };
    p.add("KW0013", &text.span, format!("`{key}` cannot be {}", quoted(text.value)), "unknown word", mend);
    None
}

/// A string without control characters and not too long.
fn sound<'a>(p: &mut Problems, key: &str, text: &'a str, span: Span) -> Option<At<&'a str>> {
    if text.len() > LONGEST_TEXT {
        too_many(p, &span, key, text.len(), LONGEST_TEXT);
        return None;
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        let what = format!("`{key}` holds the control character {c:?}");
        p.add("KW0023", &span, what, "not printable", "remove it: names, paths and addresses stand on one line");
        return None;
    }
    Some(At { value: text, span })
}

fn too_many(p: &mut Problems, at: &Span, key: &str, seen: usize, most: usize) {
    let what = format!("`{key}` has {seen} elements or bytes; at most {most} are taken");
    p.add("KW0006", at, what, "too much", format!("keep to {most}, or share the work among several guardians"));
}

fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
