//! What kind of reason each is: whether it closes at once, and who opens a path again that it closed.
//!
//! Refuses to know what a reason means: that is [`crate::domain::gate`].

use crate::domain::gate::{
    AUDIT, BROKEN_LOG, CLOCK, COMPROMISED, CONFIGURATION, DEPENDENCY, FLAPPING, FROZEN, HELD, KEY_NOT_LIVE,
    KEY_OVERDUE, KEY_PAST, KEY_STOLEN, KEY_UNFIT, KEY_UNSEEN, MARGIN, MISSED, MISSING, NAMES, NOT_SERVED, OUT_OF_TIME,
    PURPOSE, RENEWER, REVOCATION_UNKNOWN, REVOKED, SETTLING, SPOOLED, STALE, UNKNOWN_CREDENTIAL, UNKNOWN_PATH,
    UNREADABLE, UNRESOLVED, UNTRUSTED,
};

/// How fast a reason closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmness {
    /// At once.
    Hard,
    /// Borne for a while ([`crate::domain::inventory::Missed`]): the path closes if it stays.
    Soft,
}

/// Who opens a path again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// Nobody has to: it opens once what is wrong is mended.
    Itself,
    /// Never with that key: a certificate with another one does.
    Replaced,
    /// A person, also when all is good again.
    Person,
}

/// Every reason with its kind, in the order of the codes.
pub const NATURES: [(&str, Firmness, Opens); 33] = [
    (UNKNOWN_CREDENTIAL, Firmness::Hard, Opens::Itself),
    (MISSING, Firmness::Hard, Opens::Itself),
    (UNREADABLE, Firmness::Hard, Opens::Itself),
    (OUT_OF_TIME, Firmness::Hard, Opens::Itself),
    (MARGIN, Firmness::Hard, Opens::Itself),
    (UNTRUSTED, Firmness::Hard, Opens::Itself),
    (NOT_SERVED, Firmness::Hard, Opens::Itself),
    (STALE, Firmness::Hard, Opens::Itself),
    // Also when the step was taken back.
    (CLOCK, Firmness::Hard, Opens::Person),
    (UNKNOWN_PATH, Firmness::Hard, Opens::Itself),
    (AUDIT, Firmness::Hard, Opens::Itself),
    (NAMES, Firmness::Hard, Opens::Itself),
    (SPOOLED, Firmness::Hard, Opens::Itself),
    (UNRESOLVED, Firmness::Hard, Opens::Itself),
    (PURPOSE, Firmness::Hard, Opens::Itself),
    (KEY_OVERDUE, Firmness::Hard, Opens::Itself),
    (COMPROMISED, Firmness::Hard, Opens::Replaced),
    (REVOKED, Firmness::Hard, Opens::Itself),
    (REVOCATION_UNKNOWN, Firmness::Hard, Opens::Itself),
    (RENEWER, Firmness::Hard, Opens::Itself),
    (CONFIGURATION, Firmness::Hard, Opens::Itself),
    (DEPENDENCY, Firmness::Hard, Opens::Itself),
    (SETTLING, Firmness::Hard, Opens::Itself),
    (FLAPPING, Firmness::Hard, Opens::Person),
    (MISSED, Firmness::Soft, Opens::Itself),
    (BROKEN_LOG, Firmness::Hard, Opens::Person),
    // It ends by itself, or a person ends it.
    (FROZEN, Firmness::Hard, Opens::Itself),
    (HELD, Firmness::Hard, Opens::Itself),
    (KEY_UNSEEN, Firmness::Soft, Opens::Itself),
    (KEY_PAST, Firmness::Hard, Opens::Itself),
    (KEY_STOLEN, Firmness::Hard, Opens::Replaced),
    (KEY_UNFIT, Firmness::Hard, Opens::Itself),
    (KEY_NOT_LIVE, Firmness::Soft, Opens::Itself),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gate::REASONS;

    #[test]
    fn every_reason_has_one_kind() {
        assert_eq!(NATURES.map(|(code, ..)| code), REASONS);
        assert!(NATURES.is_sorted_by_key(|(code, ..)| code));
    }
}
