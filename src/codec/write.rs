//! A writer of DER (X.690 section 10): lengths in their shortest form, whatever is inside.
//!
//! What it writes is read back by [`crate::codec::der`] before it is signed.

use crate::codec::der;
use crate::domain::time::Timestamp;

/// NULL.
pub(crate) const NULL: u8 = 0x05;
/// ENUMERATED.
pub(crate) const ENUMERATED: u8 = 0x0a;
/// UTF8String.
pub(crate) const UTF8_STRING: u8 = 0x0c;
/// SET and SET OF.
pub(crate) const SET: u8 = 0x31;

/// Appends elements to one buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Elements that are encoded already.
    pub(crate) fn raw(&mut self, elements: &[u8]) {
        self.0.extend_from_slice(elements);
    }

    /// One element with these contents.
    pub(crate) fn element(&mut self, tag: u8, contents: &[u8]) {
        self.0.push(tag);
        let (octets, count) = length(contents.len());
        self.0.extend(octets.into_iter().take(count));
        self.0.extend_from_slice(contents);
    }

    /// One element around what `contents` writes.
    pub(crate) fn nest(&mut self, tag: u8, contents: impl FnOnce(&mut Self)) {
        self.0.push(tag);
        let at = self.0.len();
        contents(self);
        // The length comes before what it counts, so that moves by one byte, or by up to five if it is long.
        let (octets, count) = length(self.0.len().saturating_sub(at));
        drop(self.0.splice(at..at, octets.into_iter().take(count)));
    }

    pub(crate) fn sequence(&mut self, contents: impl FnOnce(&mut Self)) {
        self.nest(der::SEQUENCE, contents);
    }

    /// A non-negative INTEGER.
    pub(crate) fn unsigned(&mut self, number: u64) {
        self.magnitude(&number.to_be_bytes());
    }

    /// A non-negative INTEGER of these octets, the highest first.
    pub(crate) fn magnitude(&mut self, octets: &[u8]) {
        let zeros = octets.iter().take(octets.len().saturating_sub(1)).take_while(|b| **b == 0).count();
        let shortest = octets.get(zeros..).unwrap_or_default();
        let sign = shortest.first().is_some_and(|first| first & 0x80 != 0);
        self.nest(der::INTEGER, |w| {
            if sign {
                w.raw(&[0]);
            }
            w.raw(shortest);
        });
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn whole_bits(&mut self, bytes: &[u8]) {
        self.nest(der::BIT_STRING, |w| {
            w.raw(&[0]);
            w.raw(bytes);
        });
    }

    /// A named bit list of at most eight bits, the highest first: zeros at its end are left out (X.690 section 11.2.2).
    pub(crate) fn named_bits(&mut self, bits: u8) {
        match u8::try_from(bits.trailing_zeros()) {
            Ok(unused @ 0..=7) => self.element(der::BIT_STRING, &[unused, bits]),
            _ => self.element(der::BIT_STRING, &[0]),
        }
    }

    /// UTCTime through the year 2049, GeneralizedTime from 2050 on and before 1950 (RFC 5280 section 4.1.2.5).
    pub(crate) fn time(&mut self, at: Timestamp) {
        let text = at.text();
        let digits: Vec<u8> = text.iter().copied().filter(|b| b.is_ascii_digit() || *b == b'Z').collect();
        if (*b"1950"..*b"2050").contains(text.first_chunk().unwrap_or(b"0000")) {
            self.element(der::UTC_TIME, digits.get(2..).unwrap_or_default());
        } else {
            self.element(der::GENERALIZED_TIME, &digits);
        }
    }
}

/// The octets of a length, and how many of them count.
fn length(of: usize) -> ([u8; 9], usize) {
    let mut out = [0_u8; 9];
    let octets = of.to_be_bytes();
    let zeros = octets.iter().take_while(|b| **b == 0).count();
    let significant = octets.get(zeros..).unwrap_or_default();
    let long = of > 0x7f;
    // 0x80 plus the number of octets that follow (X.690 section 8.1.3.5).
    let count = u8::try_from(significant.len()).unwrap_or(0);
    let first = long.then_some(0x80 | count);
    let written = first.into_iter().chain(significant.iter().copied());
    out.iter_mut().zip(written).for_each(|(slot, octet)| *slot = octet);
    (out, if long { significant.len().saturating_add(1) } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        write(&mut w);
        w.into_bytes()
    }

    #[test]
    fn lengths_have_their_shortest_form_and_are_read_back() {
        for size in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xff_ffff] {
            let body = vec![7_u8; size];
            let plain = written(|w| w.element(der::OCTET_STRING, &body));
            let nested = written(|w| w.nest(der::OCTET_STRING, |w| w.raw(&body)));
            assert_eq!(plain, nested);
            let mut r = der::Reader::new(&plain);
            assert_eq!(r.expect(der::OCTET_STRING), Some(&*body), "{size}");
            assert!(r.is_empty());
        }
    }

    #[test]
    fn numbers_are_positive_and_short() {
        for (number, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (256, &[2, 2, 1, 0]),
            (u64::MAX, &[2, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            assert_eq!(written(|w| w.unsigned(number)), bytes);
        }
        assert_eq!(written(|w| w.named_bits(0x80)), [3, 2, 7, 0x80]);
        assert_eq!(written(|w| w.named_bits(0x06)), [3, 2, 1, 6]);
        assert_eq!(written(|w| w.named_bits(0)), [3, 1, 0]);
    }

    #[test]
    fn the_year_decides_the_kind_of_time() {
        for (text, tag, value) in [
            ("1949-12-31T23:59:59Z", der::GENERALIZED_TIME, "19491231235959Z"),
            ("1950-01-01T00:00:00Z", der::UTC_TIME, "500101000000Z"),
            ("2028-02-29T12:00:00Z", der::UTC_TIME, "280229120000Z"),
            ("2038-01-19T03:14:08Z", der::UTC_TIME, "380119031408Z"),
            ("2049-12-31T23:59:59Z", der::UTC_TIME, "491231235959Z"),
            ("2050-01-01T00:00:00Z", der::GENERALIZED_TIME, "20500101000000Z"),
        ] {
            let bytes = written(|w| w.time(Timestamp::parse(text).unwrap()));
            let mut r = der::Reader::new(&bytes);
            assert_eq!(r.expect(tag), Some(value.as_bytes()), "{text}");
        }
    }
}
