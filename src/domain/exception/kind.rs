//! What kinds of requests there are, what is at stake, and the floor that no policy lowers.

use core::fmt;
use core::time::Duration;

use crate::domain::policy::Tier;
use crate::domain::time::{DAY, HOUR};

/// How much is at stake: [`Tier`] 1 to 4. Where nothing stands on something (0), it is as little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stakes {
    /// Nobody is asked.
    T1,
    /// One person, unless policy approved it beforehand.
    T2,
    /// One person, and two out of hours.
    T3,
    /// Two persons of two groups, each over a channel of their own.
    T4,
}

impl Stakes {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 4] = [(Self::T1, "T1"), (Self::T2, "T2"), (Self::T3, "T3"), (Self::T4, "T4")];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(stakes, _)| *stakes == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(stakes, _)| *stakes)
    }

    /// Whether a person closes it, and whether nothing of it goes on while nobody can decide.
    #[must_use]
    pub fn needs_a_person(self) -> bool {
        self >= Self::T3
    }
}

impl From<Tier> for Stakes {
    fn from(tier: Tier) -> Self {
        match tier.level() {
            0 | 1 => Self::T1,
            2 => Self::T2,
            3 => Self::T3,
            _ => Self::T4,
        }
    }
}

impl fmt::Display for Stakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// At another issuer than the usual one.
    IssueElsewhere,
    /// For a name that was not there before.
    NewName,
    /// With another profile, key type or lifetime.
    ChangedProfile,
    /// Outside of the windows in which it may be installed.
    OutOfWindow,
    /// Again, for an asset whose automation is locked after failures.
    RetryLocked,
    /// A key that is no certificate's is replaced.
    KeyReplacement,
    /// A key is in other hands.
    KeyCompromise,
    /// A private CA changes.
    CaChange,
    /// What relying parties trust changes.
    TrustChange,
    /// A rule does not hold for a while.
    Waiver,
    /// One action in spite of a freeze.
    FreezeOverride,
    /// The way for the day on which nothing else works.
    BreakGlass,
    /// The configuration changes.
    Configuration,
    /// The policy changes.
    Policy,
    /// A key of an account at a CA changes.
    AccountKey,
    /// An order at a private ACME directory for a name that policy does not cover.
    AcmeOrder,
    /// Whatever else a person asks for.
    OpenedByPerson,
}

/// Break-glass is over after an hour: long enough to repair what is broken, short enough that nobody settles in.
pub const LONGEST_BREAK_GLASS: Duration = HOUR;
/// An override of a freeze is used within a day, or was not urgent: then it waits for the thaw.
pub const LONGEST_OVERRIDE: Duration = DAY;
/// A waiver lasts a quarter of a year at most, so that it is looked at as often as plans are made.
pub const LONGEST_WAIVER: Duration = Duration::from_secs(90 * DAY.as_secs());
/// Every other request is decided within a month, or is opened again over the facts of that day.
pub const LONGEST_REQUEST: Duration = Duration::from_secs(30 * DAY.as_secs());

impl Kind {
    /// Every kind with its name.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::IssueElsewhere, "issue_elsewhere"),
        (Self::NewName, "new_name"),
        (Self::ChangedProfile, "changed_profile"),
        (Self::OutOfWindow, "out_of_window"),
        (Self::RetryLocked, "retry_locked"),
        (Self::KeyReplacement, "key_replacement"),
        (Self::KeyCompromise, "key_compromise"),
        (Self::CaChange, "ca_change"),
        (Self::TrustChange, "trust_change"),
        (Self::Waiver, "waiver"),
        (Self::FreezeOverride, "freeze_override"),
        (Self::BreakGlass, "break_glass"),
        (Self::Configuration, "configuration"),
        (Self::Policy, "policy"),
        (Self::AccountKey, "account_key"),
        (Self::AcmeOrder, "acme_order"),
        (Self::OpenedByPerson, "opened_by_person"),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    /// Whether it lies above the floor: at least T3 whatever policy says, and never by itself.
    #[must_use]
    pub fn is_above_the_floor(self) -> bool {
        match self {
            Self::KeyCompromise
            | Self::CaChange
            | Self::TrustChange
            | Self::Waiver
            | Self::FreezeOverride
            | Self::BreakGlass
            | Self::Configuration
            | Self::Policy
            | Self::AccountKey => true,
            Self::IssueElsewhere
            | Self::NewName
            | Self::ChangedProfile
            | Self::OutOfWindow
            | Self::RetryLocked
            | Self::KeyReplacement
            | Self::AcmeOrder
            | Self::OpenedByPerson => false,
        }
    }

    /// The least that is at stake.
    #[must_use]
    pub fn floor(self) -> Stakes {
        if self.is_above_the_floor() { Stakes::T3 } else { Stakes::T1 }
    }

    /// After so long a request of this kind has ended, done or not, counted from when it was opened.
    #[must_use]
    pub fn longest(self) -> Duration {
        match self {
            Self::BreakGlass => LONGEST_BREAK_GLASS,
            Self::FreezeOverride => LONGEST_OVERRIDE,
            Self::Waiver
            | Self::IssueElsewhere
            | Self::NewName
            | Self::ChangedProfile
            | Self::OutOfWindow
            | Self::RetryLocked
            | Self::KeyReplacement
            | Self::KeyCompromise
            | Self::CaChange
            | Self::TrustChange
            | Self::Configuration
            | Self::Policy
            | Self::AccountKey
            | Self::AcmeOrder
            | Self::OpenedByPerson => LONGEST_REQUEST,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_each_is_given_once() {
        for (kind, name) in Kind::ALL {
            assert_eq!((Kind::parse(name), kind.as_str()), (Some(kind), name));
        }
        for (stakes, name) in Stakes::ALL {
            assert_eq!((Stakes::parse(name), stakes.as_str()), (Some(stakes), name));
        }
        assert_eq!(Kind::parse("approve_all"), None);
    }

    #[test]
    fn the_floor_is_where_the_facts_put_it() {
        let above: Vec<&str> =
            Kind::ALL.iter().filter(|(kind, _)| kind.floor() >= Stakes::T3).map(|(_, name)| *name).collect();
        let expected = [
            "key_compromise",
            "ca_change",
            "trust_change",
            "waiver",
            "freeze_override",
            "break_glass",
            "configuration",
            "policy",
            "account_key",
        ];
        assert_eq!(above, expected);
    }

    #[test]
    fn the_stakes_are_the_tiers_of_policy() {
        let counted: Vec<&str> = (0..=5).map(|level| Stakes::from(Tier::new(level)).as_str()).collect();
        assert_eq!(counted, ["T1", "T1", "T2", "T3", "T4", "T4"]);
    }
}
