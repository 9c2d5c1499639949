//! The name of a request: eight characters in two groups, for people to read out to each other.

use core::fmt;

/// A request, for example `7F3K-9Q2M`: 40 random bits in Crockford base 32.
///
/// It is a name and no secret: whoever knows it can do nothing with it. Among the 100,000 requests of some decades, a new
/// name is taken already once in eleven million times; whoever opens a request draws again then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// Crockford's digits: no I, L, O and U.
const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl RequestId {
    /// Of random bytes that the caller drew.
    #[must_use]
    pub fn new(random: [u8; 5]) -> Self {
        Self(random.into_iter().fold(0, |all, byte| (all << 8) | u64::from(byte)))
    }

    /// Its nine characters, the fifth a hyphen, as ASCII.
    #[must_use]
    pub fn text(self) -> [u8; 9] {
        let mut text = [b'-'; 9];
        let mut rest = self.0;
        for (_, slot) in text.iter_mut().enumerate().rev().filter(|(place, _)| *place != 4) {
            let digit = usize::try_from(rest & 31).unwrap_or(0);
            *slot = DIGITS.get(digit).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        text
    }

    /// From what a person typed: with the hyphen or without, in either case, O for 0 and I or L for 1.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, second) = match text.split_once('-') {
            Some(halves) => halves,
            None => text.split_at_checked(4)?,
        };
        if first.len() != 4 || second.len() != 4 {
            return None;
        }
        let mut digits = first.bytes().chain(second.bytes());
        digits.try_fold(0_u64, |all, typed| Some((all << 5) | digit(typed)?)).map(Self)
    }
}

fn digit(typed: u8) -> Option<u64> {
    let meant = match typed.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    DIGITS.iter().position(|digit| *digit == meant).and_then(|place| u64::try_from(place).ok())
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_read_however_a_person_types_it() {
        let id = RequestId::parse("7F3K-9Q2M").unwrap();
        for typed in ["7f3k-9q2m", "7F3K9Q2M", "7f3k9q2m"] {
            assert_eq!(RequestId::parse(typed), Some(id), "{typed}");
        }
        assert_eq!(RequestId::parse("0O1I-L000"), RequestId::parse("0011-1000"));
        assert_eq!(RequestId::parse("oOiI-lL00").map(|id| id.to_string()), Some("0011-1100".to_owned()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for typed in
            ["", "7F3K", "7F3K-9Q2", "7F3K-9Q2MM", "7F3-K9Q2M", "7F3K-9Q-M", "U000-0000", "7F3K 9Q2M", "é00-0000"]
        {
            assert_eq!(RequestId::parse(typed), None, "{typed:?}");
        }
    }

    proptest! {
        #[test]
        fn five_bytes_are_one_name_and_no_two_are_the_same(one: [u8; 5], other: [u8; 5]) {
            let id = RequestId::new(one);
            prop_assert_eq!(RequestId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(one == other, id.text() == RequestId::new(other).text());
            prop_assert!(!id.to_string().contains(['I', 'L', 'O', 'U']));
        }
    }
}
