//! When to renew, and how long to wait after a failure.
//!
//! The CA's window (RFC 9773) comes first, the share of the lifetime second, and the emergency point always wins. Jitter
//! is a hash of the certificate and the window, so every look gives the same answer: redrawing it at each check lands far
//! too early. Refuses to know whether a renewal may happen now; that is the planner's.

use core::time::Duration;

use crate::domain::certificate::CertId;
use crate::domain::inventory::RenewalRules;
use crate::domain::key::Digest;
use crate::domain::time::{DAY, HOUR, MINUTE, Timestamp, Validity};

/// Below this lifetime a certificate is short-lived: renewed at half of it instead of two thirds (as Let's Encrypt's own
/// windows are centred).
pub const SHORT_LIVED: Duration = Duration::from_secs(10 * 86_400);

/// Two thirds of the lifetime in thousandths.
const TWO_THIRDS: u16 = 667;
/// Half of the lifetime in thousandths.
const HALF: u16 = 500;
/// The fallback point is spread over this many thousandths of the lifetime before it, so that certificates that were
/// issued together do not renew together. Let's Encrypt's windows have the same width: 2 %.
const SPREAD: u64 = 20;

/// Why a window was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The window ends before or when it starts (RFC 9773 section 4.2 wants end > start).
    #[error("the suggested window ends before it starts")]
    Inverted,
}

/// When a certificate renews, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When the renewal is due.
    pub renew_at: Timestamp,
    /// Which rule picked that time.
    pub rule: Rule,
    /// From here on nothing but hard limits may hold the renewal.
    pub emergency_at: Timestamp,
}

/// The rules that pick a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Inside the CA's window.
    Ari,
    /// A share of the lifetime.
    Lifetime,
    /// The emergency point, which is earlier than what the others said.
    Emergency,
}

/// Picks when to renew, in UTC whole seconds.
///
/// `picked` is the time chosen inside the CA's window by [`pick`], if there is a valid one. `seed` is the certificate's
/// fingerprint. Same arguments, same answer, on every replica.
#[must_use]
pub fn schedule(validity: &Validity, rules: &RenewalRules, picked: Option<Timestamp>, seed: &Digest) -> Schedule {
    let emergency_at = validity.at_permille(1_000_u16.saturating_sub(rules.emergency_permille));
    let (wanted, rule) = match picked {
        Some(at) => (at, Rule::Ari),
        None => (fallback_at(validity, rules, seed), Rule::Lifetime),
    };
    if emergency_at < wanted {
        Schedule { renew_at: emergency_at, rule: Rule::Emergency, emergency_at }
    } else {
        Schedule { renew_at: wanted, rule, emergency_at }
    }
}

/// The fallback point: 2/3 of the lifetime (1/2 when it is under ten days) or as configured, less a stable jitter of up
/// to 2 % of the lifetime.
#[must_use]
pub fn fallback_at(validity: &Validity, rules: &RenewalRules, seed: &Digest) -> Timestamp {
    let lifetime = validity.lifetime();
    let default = if lifetime < SHORT_LIVED { HALF } else { TWO_THIRDS };
    let point = validity.at_permille(rules.fallback_permille.unwrap_or(default));
    let spread = lifetime.as_secs().saturating_mul(SPREAD) / 1_000;
    point.minus(Duration::from_secs(seed.leading_u64().checked_rem(spread).unwrap_or(0)))
}

/// Picks a time inside `[start, end)` by a stable hash of the certificate and the window (RFC 9773 section 4.2 asks for a
/// uniformly random one).
///
/// # Errors
/// [`WindowError::Inverted`] if the window ends before or when it starts.
pub fn pick(id: &CertId, start: Timestamp, end: Timestamp) -> Result<Timestamp, WindowError> {
    if end <= start {
        return Err(WindowError::Inverted);
    }
    let (from, to) = (start.unix().to_be_bytes(), end.unix().to_be_bytes());
    let hash = Digest::of_parts(&[id.0.as_bytes(), &from, &to]).leading_u64();
    Ok(start.plus(Duration::from_secs(hash.checked_rem(end.since(start).as_secs()).unwrap_or(0))))
}

/// How long to wait before the CA is asked for its window again: its own wish, within [1 min, 6 h], and at least one
/// hour for certificates that live ten days or longer; six hours if it says nothing.
#[must_use]
pub fn poll_after(retry_after: Option<Duration>, lifetime: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(6 * 3_600);
    let floor = if lifetime < SHORT_LIVED { MINUTE } else { HOUR };
    retry_after.unwrap_or(LONGEST).clamp(floor, LONGEST)
}

/// A CA that has no renewal information is asked again after this long: whether it has any by now is in its directory,
/// and until then renewals go by the lifetime.
pub const POLL_WITHOUT_ARI: Duration = Duration::from_secs(7 * 86_400);

/// The longest wait after a failure; also what a CA's `Retry-After` is cut to.
pub const LONGEST_BACKOFF: Duration = DAY;
/// The shortest wait after a failure.
pub const SHORTEST_BACKOFF: Duration = MINUTE;

/// What the wait after a failure depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Failures in a row, the one just seen included (≥ 1).
    pub failures: u32,
    /// The lifetime of what is to be replaced; `None` if there is nothing yet.
    pub lifetime: Option<Duration>,
    /// How long what is there remains valid; `None` if there is nothing yet.
    pub left: Option<Duration>,
    /// The CA's wish.
    pub retry_after: Option<Duration>,
    /// Anything stable about the subject.
    pub seed: u64,
}

/// How long to wait after a failure: `lifetime/1000 · 2^(n-1)`, at most `min(24 h, left/8)`, ± 25 %, and not less than
/// the CA asked for. Always within [1 min, 24 h].
///
/// A fixed table would leave a 160 h certificate six tries; scaling leaves it dozens.
#[must_use]
pub fn backoff(input: &Backoff) -> Duration {
    // Nothing is in place yet, so nothing is more urgent: from a minute on (a host whose network comes up late, a
    // directory that is made a moment later), at most 6 h between tries; the ledger keeps the CA's limits.
    const UNKNOWN_CAP: Duration = Duration::from_secs(6 * 3_600);
    // Expired: every hour, which no CA's limits forbid.
    let cap = match input.left {
        None => UNKNOWN_CAP,
        Some(Duration::ZERO) => HOUR,
        Some(left) => left / 8,
    };
    let cap = cap.clamp(SHORTEST_BACKOFF, LONGEST_BACKOFF);
    let base = (input.lifetime.unwrap_or_default() / 1_000).clamp(SHORTEST_BACKOFF, cap);
    let doublings = input.failures.saturating_sub(1).min(20);
    let wait = base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(cap);
    // ± 25 %, by a hash of subject and count, so that a crowd that failed together does not come back together.
    let hash = Digest::of_parts(&[&input.seed.to_be_bytes(), &input.failures.to_be_bytes()]).leading_u64();
    let jittered = wait.saturating_mul(u32::try_from(750_u64.saturating_add(hash % 501)).unwrap_or(1_000)) / 1_000;
    let asked = input.retry_after.unwrap_or(Duration::ZERO).min(LONGEST_BACKOFF);
    jittered.max(asked).clamp(SHORTEST_BACKOFF, LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn ts(s: i64) -> Timestamp {
        Timestamp::from_unix(1_790_000_000 + s)
    }

    fn life(secs: i64) -> Validity {
        Validity { not_before: ts(0), not_after: ts(secs) }
    }

    const D: i64 = 86_400;

    #[test]
    fn ninety_days_renew_at_two_thirds_and_six_days_at_half_less_two_percent_of_jitter() {
        for (days, permille) in [(90, 667), (47, 667), (398, 667), (6, 500)] {
            let v = life(days * D);
            for n in 0..50_u8 {
                let at = schedule(&v, &RenewalRules::default(), None, &Digest::of(&[n])).renew_at;
                let latest = v.at_permille(permille);
                assert!(at <= latest && at > latest.minus(v.lifetime() / 50), "{days} d: {at}");
            }
        }
    }

    #[test]
    fn the_emergency_point_wins_over_a_window_beyond_it() {
        let v = life(90 * D);
        let s = schedule(&v, &RenewalRules::default(), Some(ts(200 * D)), &Digest::of(b"x"));
        assert_eq!((s.renew_at, s.rule), (v.at_permille(950), Rule::Emergency));
    }

    #[test]
    fn a_window_later_than_the_fallback_point_is_followed() {
        let v = life(90 * D);
        let s = schedule(&v, &RenewalRules::default(), Some(ts(80 * D)), &Digest::of(b"x"));
        assert_eq!((s.renew_at, s.rule), (ts(80 * D), Rule::Ari));
    }

    #[test]
    fn the_pick_is_stable_inside_the_window_and_spread_over_it() {
        let mut sum = 0;
        for n in 0..500 {
            let id = CertId(Arc::from(format!("aki.{n}")));
            let at = pick(&id, ts(0), ts(1_000)).unwrap();
            assert_eq!(pick(&id, ts(0), ts(1_000)), Ok(at));
            assert!(at >= ts(0) && at < ts(1_000));
            sum += at.since(ts(0)).as_secs();
        }
        assert!((450..550).contains(&(sum / 500)), "mean {}", sum / 500);
    }

    #[test]
    fn an_inverted_or_empty_window_is_refused() {
        let id = CertId(Arc::from("a.b"));
        assert_eq!(pick(&id, ts(5), ts(5)), Err(WindowError::Inverted));
        assert_eq!(pick(&id, ts(5), ts(4)), Err(WindowError::Inverted));
    }

    #[test]
    fn the_poll_interval_is_clamped_whatever_the_ca_says() {
        let (short, long) = (Duration::from_secs(6 * 86_400), Duration::from_secs(90 * 86_400));
        assert_eq!(poll_after(Some(Duration::from_secs(1_000_000_000)), long), HOUR * 6);
        assert_eq!(poll_after(Some(Duration::ZERO), short), MINUTE);
        assert_eq!(poll_after(Some(Duration::ZERO), long), HOUR);
        assert_eq!(poll_after(None, short), HOUR * 6);
    }

    #[test]
    fn waits_stay_between_a_minute_and_a_day_over_sixty_days_of_failure() {
        for lifetime in [160 * 3_600, 47 * 86_400, 398 * 86_400_u64] {
            for retry_after in [None, Some(Duration::from_secs(1_000_000_000)), Some(Duration::ZERO)] {
                let mut elapsed = 0;
                for failures in 1.. {
                    let left = Some(Duration::from_secs(lifetime.saturating_sub(elapsed)));
                    let lifetime = Some(Duration::from_secs(lifetime));
                    let wait = backoff(&Backoff { failures, lifetime, left, retry_after, seed: elapsed });
                    assert!((MINUTE..=DAY).contains(&wait), "failure {failures}: {wait:?}");
                    elapsed += wait.as_secs();
                    if elapsed > 60 * 86_400 {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_first_certificate_is_tried_again_within_minutes() {
        let wait = |failures| backoff(&Backoff { failures, lifetime: None, left: None, retry_after: None, seed: 7 });
        assert!(wait(1) < MINUTE * 2 && wait(3) < MINUTE * 6 && wait(20) > HOUR * 4, "{:?}", wait(20));
    }

    #[test]
    fn a_six_day_certificate_gets_dozens_of_tries_before_it_expires() {
        let (lifetime, mut now, mut tries) = (160 * 3_600_u64, 80 * 3_600_u64, 0_u32);
        while now < lifetime {
            tries += 1;
            let left = Some(Duration::from_secs(lifetime - now));
            let lifetime = Some(Duration::from_secs(lifetime));
            now += backoff(&Backoff { failures: tries, lifetime, left, retry_after: None, seed: 7 }).as_secs();
        }
        assert!(tries >= 30, "{tries}");
    }
}
