//! What is done, how it is handled, how much it can hurt: the words of every rule.

use core::fmt;

/// What an action does, as policy rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Issues a certificate for a credential that has none.
    Issue,
    /// Renews a certificate for the same names.
    Renew,
    /// Replaces one because its names changed in the configuration.
    Reissue,
    /// Installs again what was issued before.
    Reinstall,
    /// Issues what somebody else ordered at an ACME directory of this guardian.
    AcmeOrder,
    /// Issues at an issuer that the configuration does not name for it.
    IssueElsewhere,
    /// Issues for a name that was never issued for here.
    NewName,
    /// Issues by another profile: another lifetime, another use.
    ChangedProfile,
    /// Installs outside its deployment windows.
    OutOfWindow,
    /// Goes on where failed attempts locked automation out.
    RetryLocked,
    /// Replaces a key before its time.
    KeyReplacement,
    /// Revokes a certificate.
    Revoke,
    /// Goes on although a freeze is over it.
    FreezeOverride,
    /// Has a finding count for nothing, for a while.
    Waiver,
    /// Goes on without the usual approvals, and is examined afterwards.
    BreakGlass,
    /// Makes, rotates or ends a CA.
    CaChange,
    /// Changes what is trusted.
    TrustChange,
    /// Declares a key compromised.
    KeyCompromise,
    /// Changes the key of an account at a CA.
    AccountKey,
    /// Changes Keyward's own configuration.
    Configuration,
    /// Changes the policy.
    Policy,
}

/// Whether an act belongs to every day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// It comes with the configuration: without any rules it goes by itself.
    Routine,
    /// It leaves what the configuration says: without any rules a person is asked.
    Exception,
}

/// Whether what was before can be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undo {
    /// What was there before is kept, and can be put back.
    Possible,
    /// It cannot be taken back.
    Never,
}

use Nature::{Exception, Routine};
use Undo::{Never, Possible};

/// Every act: its name, its nature, whether it can be undone.
const ACTS: [(Act, &str, Nature, Undo); 21] = [
    (Act::Issue, "issue", Routine, Possible),
    (Act::Renew, "renew", Routine, Possible),
    (Act::Reissue, "reissue", Routine, Possible),
    (Act::Reinstall, "reinstall", Routine, Possible),
    (Act::AcmeOrder, "acme_order", Routine, Possible),
    (Act::IssueElsewhere, "issue_elsewhere", Exception, Possible),
    (Act::NewName, "new_name", Exception, Possible),
    (Act::ChangedProfile, "changed_profile", Exception, Possible),
    (Act::OutOfWindow, "out_of_window", Exception, Possible),
    (Act::RetryLocked, "retry_locked", Exception, Possible),
    (Act::KeyReplacement, "key_replacement", Exception, Possible),
    // A list of revoked certificates only grows (RFC 5280 section 3.3).
    (Act::Revoke, "revoke", Exception, Never),
    (Act::FreezeOverride, "freeze_override", Exception, Possible),
    (Act::Waiver, "waiver", Exception, Possible),
    (Act::BreakGlass, "break_glass", Exception, Never),
    // Whoever trusted the new, or stopped trusting the old, is not asked again.
    (Act::CaChange, "ca_change", Exception, Never),
    (Act::TrustChange, "trust_change", Exception, Never),
    (Act::KeyCompromise, "key_compromise", Exception, Never),
    // The CA forgets the old key (RFC 8555 section 7.3.5).
    (Act::AccountKey, "account_key", Exception, Never),
    (Act::Configuration, "configuration", Exception, Possible),
    (Act::Policy, "policy", Exception, Possible),
];

impl Act {
    /// Every act with its name in the configuration.
    pub const ALL: [(Self, &'static str); 21] = {
        let mut all = [(Self::Issue, ""); 21];
        let mut i = 0;
        while i < all.len() {
            #[allow(clippy::indexing_slicing, reason = "both have 21 elements; checked when this is compiled")]
            {
                all[i] = (ACTS[i].0, ACTS[i].1);
            }
            i = i.wrapping_add(1);
        }
        all
    };

    fn row(self) -> Option<&'static (Self, &'static str, Nature, Undo)> {
        ACTS.iter().find(|(act, ..)| *act == self)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().map_or("", |(_, name, ..)| name)
    }

    /// By its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ACTS.iter().find(|(_, name, ..)| *name == text).map(|(act, ..)| *act)
    }

    /// Whether it belongs to every day.
    #[must_use]
    pub fn nature(self) -> Nature {
        self.row().map_or(Exception, |(_, _, nature, _)| *nature)
    }

    /// Whether it can be undone.
    #[must_use]
    pub fn undo(self) -> Undo {
        self.row().map_or(Never, |(.., undo)| *undo)
    }
}

/// How an action is handled; the greater, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// By itself.
    Autonomous,
    /// A person signs first.
    ReviewRequired,
    /// Never.
    Prohibited,
}

impl Lane {
    /// Every lane with its name in the configuration.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Autonomous, "autonomous"), (Self::ReviewRequired, "review-required"), (Self::Prohibited, "prohibited")];

    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(lane, _)| *lane == self).map_or("", |(_, name)| name)
    }

    /// By its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(lane, _)| *lane)
    }
}

/// How much an action can hurt: 0 (nothing stands on it), and 1 to 4, which people call T1 to T4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tier(u8);

impl Tier {
    /// The lowest.
    pub const LOWEST: Self = Self(0);
    /// The highest.
    pub const HIGHEST: Self = Self(4);
    /// The highest of what can be undone, such as a renewal: what is graver cannot be taken back, or is under the floor.
    pub const GRAVEST: Self = Self(3);

    /// 0–4, clamped.
    #[must_use]
    pub const fn new(level: u8) -> Self {
        Self(if level > Self::HIGHEST.0 { Self::HIGHEST.0 } else { level })
    }

    /// 0–4.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_one_name_and_is_found_by_it() {
        for (act, name) in Act::ALL {
            assert_eq!((act.as_str(), Act::parse(name)), (name, Some(act)));
            assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
        assert_eq!(Act::parse(""), None);
    }
}
