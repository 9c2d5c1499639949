//! Canonical JSON (RFC 8785), read: only the one spelling that a value has is understood.
//!
//! What is read here needs no second writing to be known as canonical: white space, another order of keys, a needless
//! escape or a number in another form is an error where it stands. Refuses to know numbers with a fraction and integers
//! beyond 2^53 - 1, as [`crate::domain::json`] refuses to write them.

use core::cmp::Ordering;
use std::borrow::Cow;

/// The largest integer that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3).
const SAFE: i64 = (1 << 53) - 1;
/// Values lie in each other at most so deep: an entry has five levels.
const DEEPEST: u8 = 32;

/// A JSON value; texts without escapes are borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer of at most 53 bits.
    Int(i64),
    /// A string.
    Str(Cow<'a, str>),
    /// An array.
    Arr(Vec<Value<'a>>),
    /// An object, its keys in order and each once.
    Obj(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Where and why bytes are no canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct NotCanonical {
    /// Offset in bytes.
    pub at: usize,
    /// What was seen.
    pub what: &'static str,
}

impl<'a> Value<'a> {
    /// Reads one value, and nothing after it.
    ///
    /// # Errors
    /// [`NotCanonical`] says where.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NotCanonical> {
        let text = core::str::from_utf8(bytes)
            .map_err(|e| NotCanonical { at: e.valid_up_to(), what: "bytes that are no UTF-8" })?;
        let mut reader = Reader { text, at: 0, depth: 0 };
        let value = reader.value()?;
        if reader.at == text.len() { Ok(value) } else { Err(reader.wrong("something after the end")) }
    }

    /// The value under a key of an object.
    #[must_use]
    pub fn at(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Obj(pairs) => pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Str(_) | Self::Arr(_) => None,
        }
    }

    /// The text under a key of an object.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.at(key) {
            Some(Self::Str(text)) => Some(text),
            Some(Self::Null | Self::Bool(_) | Self::Int(_) | Self::Arr(_) | Self::Obj(_)) | None => None,
        }
    }

    /// The integer under a key of an object.
    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        match self.at(key) {
            Some(Self::Int(n)) => Some(*n),
            Some(Self::Null | Self::Bool(_) | Self::Str(_) | Self::Arr(_) | Self::Obj(_)) | None => None,
        }
    }

    /// The elements of the array under a key of an object; none if it is not there.
    #[must_use]
    pub fn array(&self, key: &str) -> &[Value<'a>] {
        match self.at(key) {
            Some(Self::Arr(items)) => items,
            Some(Self::Null | Self::Bool(_) | Self::Int(_) | Self::Str(_) | Self::Obj(_)) | None => &[],
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &'static str) -> NotCanonical {
        NotCanonical { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at = self.at.saturating_add(usize::from(there));
        there
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, NotCanonical> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at = self.at.saturating_add(word.len());
            Ok(value)
        } else {
            Err(self.wrong("an unknown word"))
        }
    }

    fn value(&mut self) -> Result<Value<'a>, NotCanonical> {
        match self.peek() {
            Some(b'"') => Ok(Value::Str(self.string()?)),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.wrong("what begins no value")),
            None => Err(self.wrong("the end instead of a value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value<'a>, NotCanonical>) -> Result<Value<'a>, NotCanonical> {
        if self.depth == DEEPEST {
            return Err(self.wrong("a value that lies too deep"));
        }
        self.at = self.at.saturating_add(1);
        self.depth = self.depth.saturating_add(1);
        let value = read(self)?;
        self.depth = self.depth.saturating_sub(1);
        Ok(value)
    }

    fn object(&mut self) -> Result<Value<'a>, NotCanonical> {
        let mut pairs: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
        if self.eat(b'}') {
            return Ok(Value::Obj(pairs));
        }
        loop {
            let start = self.at;
            let key = self.string()?;
            if pairs.last().is_some_and(|(last, _)| utf16_order(last, &key) != Ordering::Less) {
                return Err(NotCanonical { at: start, what: "a key out of order, or twice" });
            }
            if !self.eat(b':') {
                return Err(self.wrong("no ':' after a key"));
            }
            let value = self.value()?;
            pairs.push((key, value));
            if self.eat(b'}') {
                return Ok(Value::Obj(pairs));
            }
            if !self.eat(b',') {
                return Err(self.wrong("neither ',' nor '}' in an object"));
            }
        }
    }

    fn array(&mut self) -> Result<Value<'a>, NotCanonical> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Value::Arr(items));
        }
        loop {
            items.push(self.value()?);
            if self.eat(b']') {
                return Ok(Value::Arr(items));
            }
            if !self.eat(b',') {
                return Err(self.wrong("neither ',' nor ']' in an array"));
            }
        }
    }

    fn number(&mut self) -> Result<Value<'a>, NotCanonical> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '-' | '+' | '.' | 'e' | 'E'));
        let spelled = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let number = spelled.parse::<i64>().ok().filter(|n| n.unsigned_abs() <= SAFE.unsigned_abs());
        // Neither a sign nor leading zeroes nor a minus before nothing.
        match number.filter(|n| n.to_string() == spelled) {
            Some(number) => {
                self.at = self.at.saturating_add(spelled.len());
                Ok(Value::Int(number))
            }
            None => Err(self.wrong("a number that is no integer of at most 53 bits in its shortest form")),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotCanonical> {
        if !self.eat(b'"') {
            return Err(self.wrong("no string where one must stand"));
        }
        let mut decoded: Option<String> = None;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\');
            let plain = rest.get(..plain.unwrap_or(rest.len())).unwrap_or_default();
            self.at = self.at.saturating_add(plain.len());
            match self.peek() {
                Some(b'"') => {
                    self.at = self.at.saturating_add(1);
                    return Ok(match decoded {
                        None => Cow::Borrowed(plain),
                        Some(text) => Cow::Owned(text + plain),
                    });
                }
                Some(b'\\') => {
                    let text = decoded.get_or_insert_default();
                    text.push_str(plain);
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.wrong("a control character in a string")),
                None => return Err(self.wrong("the end inside a string")),
            }
        }
    }

    /// The escapes of RFC 8785 section 3.2.2.2, each for what may not stand otherwise.
    fn escape(&mut self) -> Result<char, NotCanonical> {
        let rest = self.text.get(self.at..).and_then(|r| r.strip_prefix('\\')).unwrap_or_default();
        let (read, length) = match rest.as_bytes().first() {
            Some(b'"') => (Some('"'), 2),
            Some(b'\\') => (Some('\\'), 2),
            Some(b'b') => (Some('\u{8}'), 2),
            Some(b't') => (Some('\t'), 2),
            Some(b'n') => (Some('\n'), 2),
            Some(b'f') => (Some('\u{c}'), 2),
            Some(b'r') => (Some('\r'), 2),
            Some(b'u') => (rest.get(1..5).and_then(control), 6),
            Some(_) | None => (None, 0),
        };
        let read = read.ok_or_else(|| self.wrong("an escape that is not the canonical one"))?;
        self.at = self.at.saturating_add(length);
        Ok(read)
    }
}

/// `00` and two digits in lower case, of a control character that has no shorter escape.
fn control(hex: &str) -> Option<char> {
    let digits = hex.strip_prefix("00").filter(|d| d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))?;
    let code = u8::from_str_radix(digits, 16).ok()?;
    let has_shorter = matches!(code, 0x08 | 0x09 | 0x0a | 0x0c | 0x0d);
    (code < 0x20 && !has_shorter).then_some(char::from(code))
}

/// RFC 8785 section 3.2.3 sorts keys by their UTF-16 code units; for ASCII that is the order of the bytes.
fn utf16_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json::Json;

    #[test]
    fn what_is_written_canonically_is_read_back() {
        let controls: String = (0_u8..0x20).map(char::from).collect();
        let text = format!("é\"\\\u{7f}\u{10ffff}{controls}");
        let written = Json::obj([
            ("a", Json::arr([Json::Null, Json::Bool(true), Json::Bool(false), Json::Int(-7), Json::Int(i64::MAX)])),
            ("b", Json::str(text.clone())),
            ("c", Json::arr([])),
            ("d", Json::obj([("e", Json::str(""))])),
        ])
        .canonical();
        let value = Value::read(&written).unwrap();
        assert_eq!((value.text("b"), value.array("a").len()), (Some(text.as_str()), 5));
        assert_eq!(value.array("a")[4], Value::Int(SAFE));
        assert_eq!(value.at("d").and_then(|d| d.text("e")), Some(""));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for bad in [
            "",
            " 1",
            "1 ",
            "01",
            "-0",
            "+1",
            "1.0",
            "1e3",
            "-",
            "9007199254740992",
            "99999999999999999999",
            "nul",
            "tru",
            "\"",
            "\"\u{1}\"",
            "\"\\u000a\"",
            "\"\\u001F\"",
            "\"\\u0020\"",
            "\"\\/\"",
            "\"\\u00e9\"",
            "\"\\",
            "[",
            "[1,]",
            "[1 ,2]",
            "[,1]",
            "{",
            "{}x",
            "{\"a\" :1}",
            "{\"a\":1,}",
            "{\"b\":1,\"a\":1}",
            "{\"a\":1,\"a\":1}",
            "{1:1}",
            "{\"\u{ff5e}\":1,\"\u{10000}\":1}",
        ] {
            assert!(Value::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Value::read(b"\"\xff\"").is_err());
        assert!(Value::read("[".repeat(40).as_bytes()).is_err());
        // UTF-16 puts what needs two units before the end of the basic plane.
        assert!(Value::read("{\"\u{10000}\":1,\"\u{ff5e}\":1}".as_bytes()).is_ok());
    }

    #[test]
    fn what_is_read_is_what_another_reader_reads() {
        let text = r#"{"a":[1,-2,"x\ny"],"b":{"c":null,"d":true}}"#;
        let other: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&other).unwrap(), text);
        assert_eq!(Value::read(text.as_bytes()).unwrap().array("a")[2], Value::Str(Cow::Borrowed("x\ny")));
    }
}
