//! Rules of DER that a reader of fields does not meet (X.690 sections 8 and 11): every element of what is to be signed, also
//! where nobody looks.

use crate::codec::der::{self, Element, Reader};
use crate::codec::write::{ENUMERATED, NULL, SET, UTF8_STRING};

/// Elements inside elements: a certificate has about ten.
const DEEPEST: usize = 24;

/// An extension (RFC 5280 section 4.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    pub(super) id: &'a [u8],
    pub(super) is_critical: bool,
    pub(super) value: &'a [u8],
}

/// The extensions of a SEQUENCE's contents, each id once, none with its default written out.
pub(super) fn extensions(contents: &[u8]) -> Option<Vec<Extension<'_>>> {
    let mut r = Reader::new(contents);
    let mut all: Vec<Extension<'_>> = Vec::new();
    while !r.is_empty() {
        let mut own = Reader::new(r.expect(der::SEQUENCE)?);
        let id = own.expect(der::OID)?;
        let is_critical = match own.optional(der::BOOLEAN)? {
            None => false,
            Some([0xff]) => true,
            Some(_) => return None,
        };
        let value = own.expect(der::OCTET_STRING)?;
        own.end()?;
        // The bound keeps the search from being quadratic.
        if all.len() >= 64 || all.iter().any(|known| known.id == id) {
            return None;
        }
        all.push(Extension { id, is_critical, value });
    }
    Some(all)
}

/// Whether `bytes` is one element that is DER all the way down; what is wrong with the first that is not.
pub(super) fn element(bytes: &[u8]) -> Result<(), &'static str> {
    let mut r = Reader::new(bytes);
    let one = r.element().ok_or("has an element whose length is not definite, short or inside its frame")?;
    if !r.is_empty() {
        return Err("has bytes after its end");
    }
    walk(&one, 0)
}

fn walk(e: &Element<'_>, depth: usize) -> Result<(), &'static str> {
    if depth > DEEPEST {
        return Err("is nested too deeply");
    }
    match e.tag {
        der::BOOLEAN if !matches!(e.value, [0 | 0xff]) => Err("has a BOOLEAN that is neither 0 nor 255"),
        der::INTEGER | ENUMERATED if !is_integer(e.value) => Err("has an INTEGER that is not in its shortest form"),
        der::BIT_STRING if !is_bits(e.value) => Err("has a BIT STRING whose padding is not zero"),
        der::OID if !is_oid(e.value) => Err("has a malformed OBJECT IDENTIFIER"),
        NULL if !e.value.is_empty() => Err("has a NULL with contents"),
        UTF8_STRING if core::str::from_utf8(e.value).is_err() => Err("has a UTF8String that is not UTF-8"),
        der::UTC_TIME if !is_time(e.value, 13) => Err("has a UTCTime that is not YYMMDDHHMMSSZ"),
        der::GENERALIZED_TIME if !is_time(e.value, 15) || (*b"1950"..*b"2050").contains(&year(e.value)) => {
            Err("has a GeneralizedTime that is not YYYYMMDDHHMMSSZ, or a year that UTCTime writes")
        }
        // Constructed: a sequence, a set, or a context tag around elements. Strings are never constructed in DER.
        der::SEQUENCE | SET | 0xa0..=0xbf => {
            let mut inside = Reader::new(e.value);
            let mut before: &[u8] = &[];
            while !inside.is_empty() {
                let next =
                    inside.element().ok_or("has an element whose length is not definite, short or inside its frame")?;
                walk(&next, depth.saturating_add(1))?;
                if e.tag == SET && next.raw < before {
                    return Err("has a SET OF that is not sorted");
                }
                before = next.raw;
            }
            Ok(())
        }
        0x20..=0x3f => Err("has a string in pieces"),
        _ => Ok(()),
    }
}

fn is_integer(bytes: &[u8]) -> bool {
    match bytes {
        [] => false,
        [0, second, ..] => second & 0x80 != 0,
        [0xff, second, ..] => second & 0x80 == 0,
        [_, ..] => true,
    }
}

fn is_bits(bytes: &[u8]) -> bool {
    match bytes {
        [0] => true,
        [unused @ 0..=7, .., last] => last & !u8::MAX.checked_shl(u32::from(*unused)).unwrap_or(0) == 0,
        _ => false,
    }
}

fn is_oid(bytes: &[u8]) -> bool {
    let ends = bytes.last().is_some_and(|last| last & 0x80 == 0);
    // A part never begins with seven zero bits.
    let padded = bytes.first() == Some(&0x80)
        || bytes.windows(2).any(|pair| matches!(pair, [before, 0x80] if before & 0x80 == 0));
    ends && !padded
}

fn is_time(bytes: &[u8], size: usize) -> bool {
    bytes.len() == size
        && bytes.split_last().is_some_and(|(z, digits)| *z == b'Z' && digits.iter().all(u8::is_ascii_digit))
}

fn year(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_der_is_found_at_any_depth() {
        for bad in [
            &[0x01, 1, 1][..],            // TRUE is 255
            &[0x02, 2, 0, 1],             // a zero too many
            &[0x02, 0],                   // no number
            &[0x03, 2, 7, 0x81],          // padding that is set
            &[0x03, 0],                   // no count of unused bits
            &[0x05, 1, 0],                // NULL with contents
            &[0x06, 2, 0x80, 1],          // a part with zeros in front
            &[0x06, 1, 0x81],             // a part without its end
            &[0x0c, 1, 0xff],             // not UTF-8
            &[0x24, 3, 4, 1, 0],          // an OCTET STRING in pieces
            &[0x31, 6, 2, 1, 2, 2, 1, 1], // unsorted
            b"\x17\x0b2801010000Z",       // no seconds
            b"\x18\x0f20280101000000Z",   // the year 2028 is UTCTime's
            &[0x30, 0x80, 0, 0],          // indefinite
        ] {
            let wrapped = [&[0x30, u8::try_from(bad.len()).unwrap()][..], bad].concat();
            assert!(element(bad).is_err() && element(&wrapped).is_err(), "{bad:02x?}");
        }
        for good in [&[0x30, 3, 0x01, 1, 0xff][..], &[0x03, 2, 7, 0x80], &[0x03, 1, 0], b"\x18\x0f20500101000000Z"] {
            assert_eq!(element(good), Ok(()), "{good:02x?}");
        }
        assert!(element(&[5, 0, 5, 0]).is_err(), "two elements");
    }
}
