//! Names for things: a newtype for every id, so that none can stand where another belongs.

use core::cmp::Ordering;
use core::fmt;
use std::sync::Arc;

use crate::domain::time::Timestamp;

/// Why a text is no slug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// More than 63 characters.
    #[error("is longer than 63 characters")]
    TooLong,
    /// A character outside `a-z 0-9 - _ .`, or a start with anything but a letter or digit.
    #[error("may hold only a-z, 0-9, '-', '_' and '.', and starts with a letter or a digit")]
    Character,
}

fn check_slug(text: &str) -> Result<(), SlugError> {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    match text.as_bytes() {
        [] => Err(SlugError::Empty),
        bytes if bytes.len() > 63 => Err(SlugError::TooLong),
        [first, ..] if !(first.is_ascii_lowercase() || first.is_ascii_digit()) => Err(SlugError::Character),
        bytes if bytes.iter().all(inner) => Ok(()),
        _ => Err(SlugError::Character),
    }
}

/// The first eight bytes, so that two texts compare as their heads do wherever these differ. A slug has no zero byte, so a
/// shorter one sorts first, as it should.
pub(crate) fn head(text: &str) -> u64 {
    text.bytes().chain(core::iter::repeat(0)).take(8).fold(0, |head, byte| (head << 8) | u64::from(byte))
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            head: u64,
            text: Arc<str>,
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        // By text, but its head mostly decides, and what is a copy of the other is not read: ids are the keys of almost
        // every map.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                match self.head.cmp(&other.head) {
                    Ordering::Equal if Arc::ptr_eq(&self.text, &other.text) => Ordering::Equal,
                    Ordering::Equal => self.text.cmp(&other.text),
                    decided => decided,
                }
            }
        }

        impl core::hash::Hash for $name {
            fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
                self.text.hash(state);
            }
        }

        impl From<&$name> for Arc<str> {
            fn from(id: &$name) -> Self {
                id.text.clone()
            }
        }

        impl $name {
            /// Parses 1–63 characters of `a-z 0-9 - _ .`, the first a letter or digit: safe as a file name, a metric
            /// label and a path segment.
            ///
            /// # Errors
            /// [`SlugError`] says which rule is broken.
            pub fn parse(text: &str) -> Result<Self, SlugError> {
                check_slug(text).map(|()| Self { head: head(text), text: Arc::from(text) })
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }
    };
}

slug!(
    /// A credential: one certificate with its key over all its renewals, by its id in the configuration.
    CredentialId
);
slug!(
    /// An approval path, by its id in the configuration.
    PathId
);
slug!(
    /// Who may rely on a path's leases and permits, by the name that the configuration gives them.
    AudienceId
);
slug!(
    /// An issuer (a CA's ACME account), by its id in the configuration.
    IssuerId
);
slug!(
    /// A challenge solver, by its id in the configuration.
    SolverId
);
slug!(
    /// An enforcing proxy for mTLS, by its id in the configuration.
    LinkId
);
slug!(
    /// A private CA with all its generations, by its id in the configuration.
    CaId
);
slug!(
    /// A profile by which a private CA issues, by its id in the configuration.
    ProfileId
);
slug!(
    /// A key that is no certificate's, by its id in the configuration.
    KeyId
);
slug!(
    /// An ACME directory over a private CA, by its id in the configuration.
    DirectoryId
);
slug!(
    /// Somebody who relies on a private CA's bundle, by their id in the configuration.
    RelyingPartyId
);

/// Sortable unique id: 48 bits of milliseconds and 80 random bits in Crockford base 32 (the ULID specification).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

const CROCKFORD: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Ulid {
    /// Made of a time in whole seconds and randomness that the caller drew.
    #[must_use]
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let [_, _, millis @ ..] = u64::try_from(at.unix()).unwrap_or(0).saturating_mul(1_000).to_be_bytes();
        let mut bytes = [0; 16];
        let (head, tail) = bytes.split_at_mut(millis.len());
        head.copy_from_slice(&millis);
        // 6 bytes and 10 are 16.
        tail.copy_from_slice(&random);
        Self(u128::from_be_bytes(bytes))
    }

    /// Its 16 bytes; they sort as the text does.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From [`Self::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// 26 characters of Crockford base 32, as ASCII.
    #[must_use]
    pub fn text(self) -> [u8; 26] {
        let mut text = [b'0'; 26];
        let mut rest = self.0;
        for slot in text.iter_mut().rev() {
            let digit = usize::try_from(rest & 31).unwrap_or(0);
            *slot = CROCKFORD.get(digit).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        text
    }

    /// Parses 26 characters of Crockford base 32 in upper case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 26 || !matches!(text.as_bytes().first(), Some(b'0'..=b'7')) {
            return None;
        }
        text.bytes()
            .try_fold(0_u128, |acc, c| {
                let digit = CROCKFORD.iter().position(|d| *d == c)?;
                Some((acc << 5) | u128::try_from(digit).ok()?)
            })
            .map(Self)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One try to issue and install one certificate; also the name of its key's slot, so that key, order and files of one
/// try can never be mixed with another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub Ulid);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub Ulid);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One freeze, from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FreezeId(pub Ulid);

impl FreezeId {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Ulid::parse(text).map(Self)
    }
}

impl fmt::Display for FreezeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_safe_as_file_name_label_and_path_segment() {
        for bad in ["", "..", ".x", "-x", "A", "a/b", "a b", "ä", "$(id)", &"a".repeat(64)] {
            assert!(CredentialId::parse(bad).is_err(), "{bad:?} must be refused");
        }
        for good in ["a", "portal-1", "review.example.com", "0_x"] {
            assert_eq!(CredentialId::parse(good).map(|s| s.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn slugs_sort_as_their_texts_whether_the_heads_differ_or_not() {
        let texts = ["a", "a.b", "abcdefg", "abcdefgh", "abcdefgh-1", "abcdefgh-2", "abcdefgi", "b"];
        for one in texts {
            for other in texts {
                let id = |text: &str| CredentialId::parse(text).unwrap();
                assert_eq!(id(one).cmp(&id(other)), one.cmp(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn a_ulid_sorts_by_time_and_survives_its_text() {
        let early = Ulid::new(Timestamp::from_unix(1_000), [255; 10]);
        let late = Ulid::new(Timestamp::from_unix(1_001), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(Ulid::parse(&late.to_string()), Some(late));
        assert_eq!(Ulid::from_bytes(late.to_bytes()), late);
        assert!(early.to_bytes() < late.to_bytes());
        assert_eq!(Ulid::parse("8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
    }
}
