//! A strict reader of CBOR (RFC 8949) in the form that authenticators must write (CTAP2 canonical CBOR): definite lengths,
//! each number in its shortest form, no tags, no floats. Nothing is allocated, whatever lengths are claimed.

/// Arrays and maps lie in each other at most so deep: CTAP2 allows four levels.
const DEEPEST: u8 = 4;

/// One value; of an array or a map its head, whose elements follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// An integer. Beyond 64 bits with a sign there is nothing that we read.
    Int(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    /// So many elements follow.
    Array(usize),
    /// So many pairs follow.
    Map(usize),
    /// `false`, `true`, `null`.
    Simple,
}

/// Reads values one after the other; every method gives `None` for what is malformed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn item(&mut self) -> Option<Item<'a>> {
        let (head, rest) = self.0.split_first()?;
        self.0 = rest;
        let (major, low) = (head >> 5, head & 0x1f);
        if major == 7 {
            // 20, 21 and 22 (RFC 8949 section 3.3); what is longer is a float or unassigned.
            return matches!(low, 20..=22).then_some(Item::Simple);
        }
        let argument = self.argument(low)?;
        match major {
            0 => i64::try_from(argument).ok().map(Item::Int),
            1 => i64::try_from(argument).ok().map(|n| Item::Int(-1 - n)),
            2 => self.take(argument).map(Item::Bytes),
            3 => self.take(argument).and_then(|bytes| core::str::from_utf8(bytes).ok()).map(Item::Text),
            4 => self.count(argument, 1).map(Item::Array),
            5 => self.count(argument, 2).map(Item::Map),
            // A tag.
            _ => None,
        }
    }

    /// Reads over one value with all that is in it.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.skip_within(DEEPEST)
    }

    fn skip_within(&mut self, depth: u8) -> Option<()> {
        let elements = match self.item()? {
            Item::Int(_) | Item::Bytes(_) | Item::Text(_) | Item::Simple => return Some(()),
            Item::Array(count) => count,
            Item::Map(count) => count.checked_mul(2)?,
        };
        let depth = depth.checked_sub(1)?;
        (0..elements).try_for_each(|_| self.skip_within(depth))
    }

    pub(super) fn map(&mut self) -> Option<usize> {
        match self.item()? {
            Item::Map(count) => Some(count),
            Item::Int(_) | Item::Bytes(_) | Item::Text(_) | Item::Array(_) | Item::Simple => None,
        }
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        match self.item()? {
            Item::Text(text) => Some(text),
            Item::Int(_) | Item::Bytes(_) | Item::Array(_) | Item::Map(_) | Item::Simple => None,
        }
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        match self.item()? {
            Item::Bytes(bytes) => Some(bytes),
            Item::Int(_) | Item::Text(_) | Item::Array(_) | Item::Map(_) | Item::Simple => None,
        }
    }

    /// This integer as key, and an integer as its value.
    pub(super) fn number_at(&mut self, key: i64) -> Option<i64> {
        self.key(key)?;
        match self.item()? {
            Item::Int(number) => Some(number),
            Item::Bytes(_) | Item::Text(_) | Item::Array(_) | Item::Map(_) | Item::Simple => None,
        }
    }

    /// This integer as key, and bytes as its value.
    pub(super) fn bytes_at(&mut self, key: i64) -> Option<&'a [u8]> {
        self.key(key)?;
        self.bytes()
    }

    fn key(&mut self, key: i64) -> Option<()> {
        (self.item()? == Item::Int(key)).then_some(())
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// The number in a head's low bits or after them.
    fn argument(&mut self, low: u8) -> Option<u64> {
        let (bytes, least) = match low {
            0..=23 => return Some(u64::from(low)),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            // Reserved, or a length that is not said.
            _ => return None,
        };
        let number = self.take(bytes)?.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
        (number >= least).then_some(number)
    }

    fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of elements or pairs, each of which takes so many bytes at least.
    fn count(&self, claimed: u64, each: usize) -> Option<usize> {
        usize::try_from(claimed).ok().filter(|count| count.checked_mul(each).is_some_and(|least| least <= self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Option<()> {
        let mut reader = Reader(bytes);
        reader.skip()?;
        reader.end()
    }

    #[test]
    fn values_have_one_form() {
        for (bytes, item) in [
            (&[0x17][..], Item::Int(23)),
            (&[0x18, 0x18], Item::Int(24)),
            (&[0x38, 0x22], Item::Int(-35)),
            (&[0x20], Item::Int(-1)),
            (&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], Item::Int(1 << 32)),
            (&[0x42, 1, 2], Item::Bytes(&[1, 2])),
            (&[0x62, 0xc3, 0xa9], Item::Text("é")),
            (&[0xf5], Item::Simple),
        ] {
            assert_eq!(Reader(bytes).item(), Some(item), "{bytes:02x?}");
            assert_eq!(all(bytes), Some(()), "{bytes:02x?}");
        }
        for bad in [
            &[][..],
            &[0x18, 0x17],                                           // not the shortest form
            &[0x19, 0, 0xff],                                        // nor this
            &[0x1a, 0, 0, 0xff, 0xff],                               // nor this
            &[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],             // nor this
            &[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0],                      // beyond 63 bits
            &[0x1c],                                                 // reserved
            &[0x5f, 0x41, 1, 0xff],                                  // a length that is not said
            &[0x43, 1, 2],                                           // cut off
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // beyond every limit
            &[0x61, 0xff],                                           // no UTF-8
            &[0xc0, 0x00],                                           // a tag
            &[0xf9, 0, 0],                                           // a float
            &[0xf7],                                                 // undefined
            &[0xff],                                                 // an end without a beginning
        ] {
            assert_eq!(all(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn a_map_that_claims_more_than_there_is_costs_nothing() {
        for huge in [&[0xbb_u8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0][..], &[0x9a, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(Reader(huge).item(), None);
        }
        assert_eq!(all(&[0xa1, 0x01]), None, "a key without a value");
    }

    #[test]
    fn what_lies_too_deep_is_refused() {
        let nested = |levels: usize| [vec![0x81; levels], vec![0]].concat();
        assert_eq!(all(&nested(4)), Some(()));
        assert_eq!(all(&nested(5)), None);
        assert_eq!(all(&nested(60_000)), None);
    }
}
