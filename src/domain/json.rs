//! Canonical JSON (RFC 8785), written only: enough of it to hash audit entries and action digests.
//!
//! Refuses to know floating point and numbers above 2^53 - 1: serial numbers and sizes are strings, because canonicalisers
//! elsewhere round such integers in silence.

use std::borrow::Cow;
use std::collections::BTreeMap;

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
    /// An array.
    Arr(Vec<Json>),
    /// An object; keys are ASCII, so byte order is RFC 8785's UTF-16 order.
    Obj(BTreeMap<Cow<'static, str>, Json>),
}

/// The largest integer that every JSON reader keeps exactly (RFC 8785 section 3.2.2.3).
const SAFE: i64 = (1 << 53) - 1;

impl Json {
    /// A string value.
    #[must_use]
    pub fn str(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Str(text.into())
    }

    /// Any printable thing as a string value.
    #[must_use]
    pub fn show(thing: &impl ToString) -> Self {
        Self::Str(Cow::Owned(thing.to_string()))
    }

    /// An object from pairs; pairs whose value is [`Json::Null`] are left out.
    #[must_use]
    pub fn obj<const N: usize>(pairs: [(&'static str, Json); N]) -> Self {
        Self::Obj(pairs.into_iter().filter(|(_, v)| *v != Json::Null).map(|(k, v)| (Cow::Borrowed(k), v)).collect())
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
            Self::Int(n) => out.extend_from_slice((*n).clamp(SAFE.saturating_neg(), SAFE).to_string().as_bytes()),
            Self::Str(text) => write_string(text, out),
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
                out.push(b'{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Escapes as RFC 8785 section 3.2.2.2 demands: the two-character forms where JSON has them, `\u00xx` in lower case for
/// the other controls, nothing else.
fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    out.push(b'"');
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
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_nulls_left_out_and_controls_escaped() {
        let value = Json::obj([
            ("b", Json::Int(i64::MAX)),
            ("a", Json::str("é\"\\\n\u{1}")),
            ("gone", Json::Null),
            ("c", Json::arr([Json::Bool(true), Json::Null])),
        ]);
        let text = String::from_utf8(value.canonical()).unwrap_or_default();
        assert_eq!(text, "{\"a\":\"é\\\"\\\\\\n\\u0001\",\"b\":9007199254740991,\"c\":[true,null]}");
    }
}
