//! A strict reader of DER (X.690 section 10): definite lengths in their shortest form, one-byte tags, nothing left over.
//!
//! What a verifier decides on is read with this, so that a malformed constraint is an error and never an absent one.

/// BOOLEAN.
pub(crate) const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(crate) const OID: u8 = 0x06;
/// UTCTime.
pub(crate) const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE and SEQUENCE OF.
pub(crate) const SEQUENCE: u8 = 0x30;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    /// Class, form and number.
    pub(crate) tag: u8,
    /// The contents.
    pub(crate) value: &'a [u8],
    /// Tag, length and contents.
    pub(crate) raw: &'a [u8],
}

/// Reads elements one after the other; every method gives `None` for what is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The elements inside the one constructed element that `bytes` is.
    pub(crate) fn inside(bytes: &'a [u8], tag: u8) -> Option<Self> {
        let mut outer = Self(bytes);
        let inner = outer.expect(tag)?;
        outer.end()?;
        Some(Self(inner))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was not read yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    pub(crate) fn element(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // 31 in the low bits starts a tag of several bytes, which no certificate has.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, header) = match first {
            0..=0x7f => (usize::from(first), 2_usize),
            // Up to four length bytes: more than 16 MiB are a long revocation list, and no input is as long as four can say.
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let bytes = rest.get(..count)?;
                let length = bytes.iter().fold(0_usize, |acc, b| (acc << 8) | usize::from(*b));
                let shortest = bytes.first() != Some(&0) && length > 0x7f;
                (shortest.then_some(length)?, count.checked_add(2)?)
            }
            _ => return None,
        };
        let total = header.checked_add(length)?;
        let raw = self.0.get(..total)?;
        let value = raw.get(header..)?;
        self.0 = self.0.get(total..)?;
        Some(Element { tag, value, raw })
    }

    /// The contents of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().filter(|e| e.tag == tag).map(|e| e.value)
    }

    /// The contents of the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.0.first() {
            Some(next) if *next == tag => self.expect(tag).map(Some),
            _ => Some(None),
        }
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn whole_bits(&mut self) -> Option<&'a [u8]> {
        match self.expect(BIT_STRING)?.split_first()? {
            (0, bytes) => Some(bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_their_shortest_form_and_inside_the_input() {
        for bad in [
            &b""[..],
            b"\x30",
            b"\x30\x01",
            b"\x30\x80\x00\x00",         // indefinite
            b"\x30\x81\x01\x00",         // not the shortest form
            b"\x30\x82\x00\x80",         // leading zero
            b"\x30\x84\xff\xff\xff\xff", // beyond every limit
            b"\x30\x85\x01\x00\x00\x00\x00",
            b"\x3f\x81\x00\x00", // tag of several bytes
        ] {
            assert!(Reader::new(bad).element().is_none(), "{bad:02x?}");
        }
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        assert!(Reader::inside(b"\x30\x00", SEQUENCE).is_some());
        assert!(Reader::inside(b"\x30\x00\x00", SEQUENCE).is_none());
    }

    #[test]
    fn a_long_element_is_read_whole() {
        let mut bytes = vec![OCTET_STRING, 0x81, 0x80];
        bytes.extend([7; 128]);
        assert_eq!(Reader::new(&bytes).expect(OCTET_STRING).map(<[u8]>::len), Some(128));
    }
}
