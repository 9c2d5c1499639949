//! The floor: what no policy makes easier.
//!
//! A table in code. Rules may ask for more; whatever they say, an act of this table waits for people, at this tier or a
//! higher one, with the approvals of that tier.

use super::act::{Act, Lane, Tier};

/// Acts that never go by themselves, and the tier they have at least.
///
/// T4 (two persons of two groups) is what changes whom everybody trusts, or puts the usual approvals aside. T3 is what
/// changes what the guardian itself does: a person alone may do it in business hours, where it is noticed.
pub const FLOOR: [(Act, Tier); 8] = [
    (Act::CaChange, Tier::new(4)),
    (Act::TrustChange, Tier::new(4)),
    (Act::KeyCompromise, Tier::new(4)),
    (Act::BreakGlass, Tier::new(4)),
    (Act::Waiver, Tier::new(3)),
    (Act::AccountKey, Tier::new(3)),
    (Act::Configuration, Tier::new(3)),
    (Act::Policy, Tier::new(3)),
];

/// Whether an act is under the floor.
#[must_use]
pub fn covers(act: Act) -> bool {
    FLOOR.iter().any(|(floored, _)| *floored == act)
}

/// The tier that an act has at least.
#[must_use]
pub fn tier(act: Act) -> Tier {
    FLOOR.iter().find(|(floored, _)| *floored == act).map_or(Tier::LOWEST, |(_, tier)| *tier)
}

/// The lane of an act for which rules chose `lane`.
#[must_use]
pub fn lane(act: Act, lane: Lane) -> Lane {
    if covers(act) { lane.max(Lane::ReviewRequired) } else { lane }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_of_the_floor_is_at_least_t3_and_never_by_itself() {
        for (act, least) in FLOOR {
            assert!(least >= Tier::new(3));
            assert_eq!(lane(act, Lane::Autonomous), Lane::ReviewRequired);
            assert_eq!(lane(act, Lane::Prohibited), Lane::Prohibited, "stricter it may be");
        }
        assert_eq!(lane(Act::Renew, Lane::Autonomous), Lane::Autonomous);
    }
}
