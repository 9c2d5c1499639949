//! Distinguished names as text (RFC 4514), safe to show: control and direction characters are escaped too.

use core::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::X509Name;

use crate::codec::ParseError;

/// A name longer than this is not a name but an attack on whoever shows it. X.520 limits each common part to 64
/// characters; 32 parts of 128 bytes are 4 KiB.
const LONGEST: usize = 4_096;

/// Attribute types with their short names: RFC 4514 section 3 and RFC 4519, and `emailAddress` as everyone writes it.
/// Others stand as dotted numbers.
const SHORT_NAMES: [(&str, &str); 17] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "givenName"),
    ("2.5.4.43", "initials"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The name in RFC 4514 form: the most specific part first.
///
/// # Errors
/// If the text would be longer than 4 KiB.
pub(crate) fn text(name: &X509Name<'_>) -> Result<String, ParseError> {
    if name.as_raw().len() > LONGEST {
        return Err(ParseError(format!("has a distinguished name of {} bytes, more than 4096", name.as_raw().len())));
    }
    let mut out = String::new();
    let rdns: Vec<_> = name.iter_rdn().collect();
    for (i, rdn) in rdns.iter().rev().enumerate() {
        for (j, attribute) in rdn.iter().enumerate() {
            match (i, j) {
                (0, 0) => {}
                (_, 0) => out.push(','),
                (_, _) => out.push('+'),
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT_NAMES.iter().find(|(number, _)| *number == oid).map(|(_, short)| *short);
            match (short, decoded(attribute.attr_value())) {
                (Some(short), Some(value)) => {
                    out.push_str(short);
                    out.push('=');
                    escape(&value, &mut out);
                }
                (short, _) => {
                    out.push_str(short.unwrap_or(&oid));
                    out.push_str("=#");
                    hex(attribute.attr_value(), &mut out);
                }
            }
        }
    }
    Ok(out)
}

/// A directory string's characters, if it is one and is well formed.
fn decoded(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            core::str::from_utf8(bytes).ok().map(ToOwned::to_owned)
        }
        // T.61 as everybody uses it: Latin-1.
        Tag::TeletexString => Some(bytes.iter().map(|b| char::from(*b)).collect()),
        Tag::BmpString => {
            let units: Option<Vec<u16>> =
                bytes.chunks(2).map(|c| <[u8; 2]>::try_from(c).ok().map(u16::from_be_bytes)).collect();
            String::from_utf16(&units?).ok()
        }
        _ => None,
    }
}

/// RFC 4514 section 2.4. Control characters and those that turn the direction of text are written as their bytes, so
/// that a name cannot disguise itself on a screen.
fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let edge = (c == ' ' && (i == 0 || i == last)) || (c == '#' && i == 0);
        if c.is_control() || turns {
            let mut buffer = [0_u8; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                // Writing to a String cannot fail.
                write!(out, "\\{byte:02X}").unwrap_or_default();
            }
        } else {
            if edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    }
}

/// The value's DER as hexadecimal digits.
fn hex(value: &Any<'_>, out: &mut String) {
    use x509_parser::asn1_rs::ToDer as _;
    for byte in value.to_der_vec().unwrap_or_default() {
        write!(out, "{byte:02x}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_syntax_is_escaped() {
        for (value, expected) in [
            ("plain", "plain"),
            ("a,b+c", "a\\,b\\+c"),
            (" x ", "\\ x\\ "),
            ("#x", "\\#x"),
            ("a\nb", "a\\0Ab"),
            ("a\u{202e}b", "a\\E2\\80\\AEb"),
            ("Zürich", "Zürich"),
            ("<b>\"", "\\<b\\>\\\""),
        ] {
            let mut out = String::new();
            escape(value, &mut out);
            assert_eq!(out, expected);
        }
    }
}
