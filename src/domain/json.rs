//! Canonical JSON (RFC 8785), written only: enough of it to hash audit entries and action digests.
//!
//! Refuses to know floating point and numbers above 2^53 - 1: serial numbers and sizes are strings, because canonicalisers
//! elsewhere round such integers in silence.

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::key::Digest;
use crate::domain::time::Timestamp;

/// A JSON value whose canonical bytes are unambiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer; clamped to ± (2^53 - 1) when written (RFC 8785 section 3.2.2.3).
    Int(i64),
    /// A string.
    Str(Cow<'static, str>),
    /// A string that stands elsewhere too.
    Shared(Arc<str>),
    /// A hash, as its 64 hexadecimal digits: not made into a text before it is written.
    Hash(Digest),
    /// A time, as RFC 3339 in UTC: not made into a text before it is written.
    Time(Timestamp),
    /// An array.
    Arr(Vec<Json>),
    /// An object, its keys in order and each once; keys are ASCII, so byte order is RFC 8785's UTF-16 order.
    Obj(Vec<(&'static str, Json)>),
}

/// The largest integer that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3).
pub(crate) const SAFE: i64 = (1 << 53) - 1;

impl Json {
    /// A string value.
    #[must_use]
    pub fn str(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Str(text.into())
    }

    /// A text that stands elsewhere too, as a string value: an id, a name.
    #[must_use]
    pub fn shared(text: impl Into<Arc<str>>) -> Self {
        Self::Shared(text.into())
    }

    /// Any printable thing as a string value.
    #[must_use]
    pub fn show(thing: &impl ToString) -> Self {
        Self::Str(Cow::Owned(thing.to_string()))
    }

    /// An object from pairs; pairs whose value is [`Json::Null`] are left out.
    #[must_use]
    pub fn obj<const N: usize>(pairs: [(&'static str, Json); N]) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(_, v)| *v != Json::Null).collect();
        pairs.sort_unstable_by_key(|(key, _)| *key);
        Self::Obj(pairs)
    }

    /// An array.
    #[must_use]
    pub fn arr(items: impl IntoIterator<Item = Json>) -> Self {
        Self::Arr(items.into_iter().collect())
    }

    /// `Null` for `None`.
    #[must_use]
    pub fn opt(value: Option<Json>) -> Self {
        value.unwrap_or(Json::Null)
    }

    /// The canonical bytes: UTF-8, no white space, keys sorted.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(n) => write_integer((*n).clamp(SAFE.saturating_neg(), SAFE), out),
            Self::Str(text) => write_string(text, out),
            Self::Shared(text) => write_string(text, out),
            Self::Hash(digest) => write_plain(&digest.hex(), out),
            Self::Time(at) => write_plain(&at.text(), out),
            Self::Arr(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Obj(pairs) => {
                let mut object = Object::begin(out);
                pairs.iter().for_each(|(key, value)| object.value(key, value));
                object.end();
            }
        }
    }
}

/// Writes an object without building it first: audit entries are written by the million in a simulation. The caller
/// gives the keys in order; what is `None` is left out.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    last: &'static str,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, last: "" }
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    // Inlined, or each constant key would be a call to copy a few bytes.
    #[inline(always)]
    fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        debug_assert!(self.last < key, "{key} comes after {}", self.last);
        if !self.last.is_empty() {
            self.out.push(b',');
        }
        self.last = key;
        // Keys are ours: plain ASCII, nothing to escape.
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(crate) fn value(&mut self, key: &'static str, value: &Json) {
        value.write(self.key(key));
    }

    /// Pairs that are always the same, as they stand in the object; `first` and `last` are the keys at its ends.
    #[inline(always)]
    pub(crate) fn fixed(&mut self, first: &'static str, last: &'static str, pairs: &'static str) {
        debug_assert!(self.last < first && first <= last, "{first} comes after {}", self.last);
        if !self.last.is_empty() {
            self.out.push(b',');
        }
        self.last = last;
        self.out.extend_from_slice(pairs.as_bytes());
    }

    #[inline]
    pub(crate) fn text(&mut self, key: &'static str, text: &str) {
        write_string(text, self.key(key));
    }

    /// A value that is canonical JSON already.
    pub(crate) fn raw(&mut self, key: &'static str, json: &[u8]) {
        self.key(key).extend_from_slice(json);
    }

    /// A text in which there is nothing to escape: an id, a hash, a time, a word of ours.
    #[inline(always)]
    pub(crate) fn plain(&mut self, key: &'static str, text: &[u8]) {
        debug_assert!(is_plain(text), "{key} has something to escape");
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    }

    /// A plain text that begins with `prefix`.
    #[inline]
    pub(crate) fn prefixed(&mut self, key: &'static str, prefix: &[u8], text: &[u8]) {
        debug_assert!(is_plain(prefix) && is_plain(text), "{key} has something to escape");
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(prefix);
        out.extend_from_slice(text);
        out.push(b'"');
    }

    #[inline]
    pub(crate) fn plain_some<const N: usize>(&mut self, key: &'static str, text: Option<[u8; N]>) {
        if let Some(text) = text {
            self.plain(key, &text);
        }
    }

    /// A number as a string of digits.
    #[inline]
    pub(crate) fn digits(&mut self, key: &'static str, number: u64) {
        let out = self.key(key);
        out.push(b'"');
        write_digits(number, out);
        out.push(b'"');
    }

    /// An object inside.
    #[inline]
    pub(crate) fn object(&mut self, key: &'static str, write: impl FnOnce(&mut Object<'_>)) {
        let mut inner = Object::begin(self.key(key));
        write(&mut inner);
        inner.end();
    }

    /// An array of objects.
    pub(crate) fn objects<T>(&mut self, key: &'static str, items: &[T], write: impl Fn(&T, &mut Object<'_>)) {
        let out = self.key(key);
        out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            let mut inner = Object::begin(out);
            write(item, &mut inner);
            inner.end();
        }
        out.push(b']');
    }
}

/// A text in which there is nothing to escape, as a canonical string.
#[inline]
pub(crate) fn write_plain(text: &[u8], out: &mut Vec<u8>) {
    debug_assert!(is_plain(text), "something is to be escaped");
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// A number as canonical JSON.
pub(crate) fn write_integer(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    write_digits(number.unsigned_abs(), out);
}

fn write_digits(number: u64, out: &mut Vec<u8>) {
    // 2^64 has 20 digits.
    let mut text = [b'0'; 20];
    let (mut rest, mut begin) = (number, text.len());
    for slot in text.iter_mut().rev() {
        *slot = b'0'.wrapping_add(u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
        begin = begin.saturating_sub(1);
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(begin..).unwrap_or_default());
}

/// A string as canonical JSON.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Whether there is nothing to escape: most texts are copied whole. Looks at every byte, so that many are looked at at once.
fn is_plain(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, b| plain & (*b >= 0x20) & (*b != b'"') & (*b != b'\\'))
}

/// Escapes as RFC 8785 section 3.2.2.2 demands: the two-character forms where JSON has them, `\u00xx` in lower case for
/// the other controls, nothing else.
fn escape(text: &str, out: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    const HEX: [u8; 16] = *b"0123456789abcdef";
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend(HEX.get(usize::from(byte >> 4)));
                out.extend(HEX.get(usize::from(byte & 15)));
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_written_at_once_has_the_bytes_of_one_that_was_built() {
        let mut bytes = Vec::new();
        let mut object = Object::begin(&mut bytes);
        object.text("a", "é\"\n");
        object.plain_some::<0>("b", None);
        object.objects("c", &[7, u64::MAX], |n, inner| inner.digits("n", *n));
        object.object("d", |inner| inner.text("k", "\\"));
        object.fixed("e", "f", r#""e":"1","f":"2""#);
        object.plain("g", b"plain");
        object.end();
        let number = |n: &str| Json::obj([("n", Json::str(n.to_owned()))]);
        let built = Json::obj([
            ("d", Json::obj([("k", Json::str("\\"))])),
            ("c", Json::arr([number("7"), number("18446744073709551615")])),
            ("e", Json::str("1")),
            ("f", Json::str("2")),
            ("g", Json::str("plain")),
            ("a", Json::str("é\"\n")),
        ]);
        assert_eq!(bytes, built.canonical());
    }

    #[test]
    fn a_hash_and_a_time_are_written_as_their_texts() {
        let (digest, at) = (Digest::of(b"keyward"), Timestamp::from_unix(1_790_000_000));
        for (kept, shown) in [(Json::Hash(digest), Json::show(&digest)), (Json::Time(at), Json::show(&at))] {
            assert_eq!(kept.canonical(), shown.canonical());
        }
    }

    #[test]
    fn keys_are_sorted_nulls_left_out_and_controls_escaped() {
        let value = Json::obj([
            ("b", Json::Int(i64::MAX)),
            ("a", Json::str("é\"\\\n\u{1}")),
            ("gone", Json::Null),
            ("c", Json::arr([Json::Bool(true), Json::Null, Json::Int(0), Json::Int(-40)])),
        ]);
        let text = String::from_utf8(value.canonical()).unwrap_or_default();
        assert_eq!(text, "{\"a\":\"é\\\"\\\\\\n\\u0001\",\"b\":9007199254740991,\"c\":[true,null,0,-40]}");
    }
}
