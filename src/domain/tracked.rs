//! Keys that are no certificate's: what they are for, how long they may be used, and where they are found.
//!
//! Refuses to know any key's value, and what became of it: that is [`crate::domain::upkeep`].

use core::time::Duration;
use std::collections::BTreeSet;

use crate::domain::id::{KeyId, PathId};
use crate::domain::key::Digest;
use crate::domain::time::{DAY, MINUTE, Timestamp};

/// What a key is for (NIST SP 800-57 part 1 rev. 5, table 1, as far as its rows are anybody's `[[key]]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyClass {
    /// Signs: releases, tokens, SSH certificates.
    PrivateSignature,
    /// Proves who one is, by a signature.
    PrivateAuthentication,
    /// Proves who one is, or that data is whole, by a shared secret: API keys, webhook secrets, MAC keys.
    SymmetricAuthentication,
    /// Encrypts data.
    SymmetricEncryption,
    /// Encrypts other keys.
    SymmetricWrapping,
    /// Other keys are derived from it.
    MasterDerivation,
    /// Decrypts keys that were sent under its public half.
    PrivateTransport,
    /// The private half of an agreement that does not change.
    PrivateAgreement,
    /// Proves what one may do: tokens, licence keys.
    Authorization,
}

/// What table 1 says of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassFacts {
    /// Which.
    pub class: KeyClass,
    /// After so long it is overdue, unless the configuration says otherwise: the lower end of the table's range, or half of
    /// it where the table says "at most", so that there is time to rotate it before its hard limit.
    pub cryptoperiod: Duration,
    /// After so long nothing may stand on it any more: the table's upper end.
    pub hard_limit: Duration,
    /// What the table recommends for whoever protects data with it, in its words.
    pub recommended: &'static str,
    /// Whether there is a public half.
    pub halves: Halves,
    /// What it is once it is not used any more (section 7: private signature and authentication keys are destroyed; others
    /// are still needed to verify or decrypt what they protected).
    pub at_end: KeyState,
}

/// Whether a key has a public half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// One secret, shared by all who use it.
    One,
    /// A private and a public one.
    Two,
}

const YEAR: Duration = DAY.saturating_mul(365);

const fn facts(
    class: KeyClass,
    (period, limit): (Duration, Duration),
    recommended: &'static str,
    halves: Halves,
    at_end: KeyState,
) -> ClassFacts {
    ClassFacts { class, cryptoperiod: period, hard_limit: limit, recommended, halves, at_end }
}

/// Every class with its facts: NIST SP 800-57 part 1 rev. 5 (2020), table 1 in section 5.3.6.
pub const CLASSES: [ClassFacts; 9] = {
    use Halves::{One, Two};
    use KeyClass as C;
    use KeyState::{Deactivated, Destroyed};
    let two = YEAR.saturating_mul(2);
    [
        facts(C::PrivateSignature, (YEAR, YEAR.saturating_mul(3)), "1 to 3 years", Two, Destroyed),
        facts(C::PrivateAuthentication, (YEAR, two), "1 to 2 years", Two, Destroyed),
        facts(C::SymmetricAuthentication, (YEAR, two), "at most 2 years", One, Deactivated),
        facts(C::SymmetricEncryption, (YEAR, two), "at most 2 years", One, Deactivated),
        facts(C::SymmetricWrapping, (YEAR, two), "at most 2 years", One, Deactivated),
        // "About a year": a quarter more is still about one.
        facts(C::MasterDerivation, (YEAR, DAY.saturating_mul(456)), "about 1 year", One, Deactivated),
        facts(C::PrivateTransport, (YEAR, two), "at most 2 years", Two, Deactivated),
        facts(C::PrivateAgreement, (YEAR, two), "1 to 2 years", Two, Deactivated),
        facts(C::Authorization, (YEAR, two), "at most 2 years", One, Destroyed),
    ]
};

impl KeyClass {
    /// Every class with its word.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::PrivateSignature, "private-signature"),
        (Self::PrivateAuthentication, "private-authentication"),
        (Self::SymmetricAuthentication, "symmetric-authentication"),
        (Self::SymmetricEncryption, "symmetric-encryption"),
        (Self::SymmetricWrapping, "symmetric-wrapping"),
        (Self::MasterDerivation, "master-derivation"),
        (Self::PrivateTransport, "private-transport"),
        (Self::PrivateAgreement, "private-agreement"),
        (Self::Authorization, "authorization"),
    ];

    /// What the table says of it.
    #[must_use]
    pub fn facts(self) -> ClassFacts {
        let [first, ..] = CLASSES;
        CLASSES.into_iter().find(|facts| facts.class == self).unwrap_or(first)
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(class, _)| *class == self).map_or("", |(_, word)| word)
    }
}

/// Where a key is in its life (NIST SP 800-57 part 1 rev. 5, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyState {
    /// Made, and not used yet.
    PreActivation,
    /// In use.
    Active,
    /// Not used for a while.
    Suspended,
    /// Protects nothing new any more.
    Deactivated,
    /// Others may have it.
    Compromised,
    /// Gone.
    Destroyed,
}

impl KeyState {
    /// Every state with its word.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::PreActivation, "pre-activation"),
        (Self::Active, "active"),
        (Self::Suspended, "suspended"),
        (Self::Deactivated, "deactivated"),
        (Self::Compromised, "compromised"),
        (Self::Destroyed, "destroyed"),
    ];

    /// By its word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| *word == text).map(|(state, _)| *state)
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }
}

/// What a key is told apart from others by; never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Print {
    /// HMAC-SHA-256 of a secret, under a key that only this guardian has.
    Mac(Digest),
    /// SHA-256 of a public key's SubjectPublicKeyInfo.
    Spki(Digest),
}

impl Print {
    /// The digest alone: what is blocked for ever if the key is compromised.
    #[must_use]
    pub fn digest(self) -> Digest {
        match self {
            Self::Mac(digest) | Self::Spki(digest) => digest,
        }
    }

    /// The digest of a public key.
    #[must_use]
    pub fn spki(self) -> Option<Digest> {
        match self {
            Self::Spki(digest) => Some(digest),
            Self::Mac(_) => None,
        }
    }

    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, digest) = text.split_once(':')?;
        let digest = Digest::parse(digest)?;
        match kind {
            "hmac" => Some(Self::Mac(digest)),
            "spki" => Some(Self::Spki(digest)),
            _ => None,
        }
    }
}

impl core::fmt::Display for Print {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Mac(digest) => write!(f, "hmac:{digest}"),
            Self::Spki(digest) => write!(f, "spki:{digest}"),
        }
    }
}

/// A key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedKey {
    /// Its id.
    pub id: KeyId,
    /// What it is for.
    pub class: KeyClass,
    /// Who is asked about it.
    pub owner: Option<String>,
    /// In which environment it is used, in the configuration's own words.
    pub environment: Option<String>,
    /// The paths that stand on it.
    pub paths: BTreeSet<PathId>,
    /// When its first known version was made, if that is said.
    pub created: Option<Timestamp>,
    /// After so long it is overdue.
    pub cryptoperiod: Duration,
    /// After so long its paths close.
    pub hard_limit: Duration,
    /// Where it is found.
    pub place: KeyPlace,
    /// A command that prints which key the live system uses.
    pub live: Option<Vec<String>>,
    /// It is looked at so often.
    pub every: Duration,
    /// Looks may fail for so long before its paths close.
    pub grace: Duration,
    /// How long a look may take.
    pub timeout: Duration,
    /// How it is rotated.
    pub turnover: Option<Turnover>,
}

/// Where a key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file.
    File {
        /// Its absolute path.
        path: String,
        /// What it holds.
        holds: Holds,
    },
    /// A command prints it, or something that changes when it does: no shell.
    Exec {
        /// Program (absolute path) and arguments.
        argv: Vec<String>,
        /// What it prints.
        holds: Holds,
    },
    /// Nobody can look: a person says when it was rotated.
    Manual,
}

/// What a file or a command gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The value itself, or a version of it: only its HMAC is kept.
    Secret,
    /// A public key: PEM, an OpenSSH line, or a certificate in PEM.
    Public,
    /// Lines `version=…` and `created=…`.
    Facts,
}

impl Holds {
    /// Each with its word.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Secret, "secret"), (Self::Public, "public"), (Self::Facts, "facts")];
}

/// How a key is rotated: a command that is called for each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turnover {
    /// Program (absolute path) and first arguments; the step's word comes last.
    pub hook: Vec<String>,
    /// How long a step may take.
    pub timeout: Duration,
    /// For so long after the new key is in use the old one stays valid.
    pub overlap: Duration,
    /// Who begins it.
    pub begins: Begins,
}

/// Who begins a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// A person.
    Asked,
    /// The guardian too, once the key is overdue.
    Overdue,
}

impl TrackedKey {
    /// When a version that was made then is overdue.
    #[must_use]
    pub fn overdue_at(&self, created: Timestamp) -> Timestamp {
        created.plus(self.cryptoperiod)
    }

    /// When nothing may stand on it any more.
    #[must_use]
    pub fn ends_at(&self, created: Timestamp) -> Timestamp {
        created.plus(self.hard_limit)
    }

    /// People hear of it so long before it is overdue: a tenth of its period.
    #[must_use]
    pub fn soon_at(&self, created: Timestamp) -> Timestamp {
        self.overdue_at(created).minus(self.cryptoperiod / 10)
    }
}

/// What a look at a key brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLook {
    /// What it is told apart by.
    pub print: Print,
    /// When it was made at the latest: a certificate's notBefore, the word of a command, a file's last change.
    pub made: Option<Timestamp>,
    /// The certificate around a public key.
    pub wrapped: Option<Wrapped>,
    /// What is wrong with a public key, for people.
    pub weak: Option<String>,
}

/// The certificate around a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// SHA-256 of it.
    pub fingerprint: Digest,
    /// Its end.
    pub ends: Timestamp,
}

/// What the newest looks at a key say; kept in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySight {
    /// When it was seen last.
    pub seen_at: Option<Timestamp>,
    /// What was seen then.
    pub print: Option<Print>,
    /// Since when looks fail, and why.
    pub failing: Option<(Timestamp, String)>,
    /// Since when the live system uses another key, and what was seen.
    pub not_live: Option<(Timestamp, String)>,
    /// What is wrong with the public key.
    pub weak: Option<String>,
}

/// How often a key is looked at, unless the configuration says otherwise.
pub const LOOK_EVERY: Duration = MINUTE.saturating_mul(5);
/// Looks may fail for so long: six in a row.
pub const GRACE: Duration = MINUTE.saturating_mul(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_row_and_its_limit_comes_after_its_period() {
        assert_eq!(CLASSES.map(|f| f.class), KeyClass::ALL.map(|(class, _)| class));
        for facts in CLASSES {
            assert_eq!(facts.class.facts(), facts);
            assert!(facts.cryptoperiod < facts.hard_limit, "{:?}", facts.class);
            assert!(facts.hard_limit <= YEAR * 3, "{:?}", facts.class);
            assert!(matches!(facts.at_end, KeyState::Deactivated | KeyState::Destroyed));
        }
        // Section 7: these are destroyed at the end of their use.
        for class in [KeyClass::PrivateSignature, KeyClass::PrivateAuthentication] {
            assert_eq!(class.facts().at_end, KeyState::Destroyed);
            assert_eq!(class.facts().halves, Halves::Two);
        }
    }

    #[test]
    fn prints_and_states_survive_their_texts() {
        let digest = Digest::of(b"x");
        for print in [Print::Mac(digest), Print::Spki(digest)] {
            assert_eq!(Print::parse(&print.to_string()), Some(print));
        }
        assert_eq!(Print::parse("md5:00"), None);
        for (state, word) in KeyState::ALL {
            assert_eq!((KeyState::parse(word), state.as_str()), (Some(state), word));
        }
    }
}
