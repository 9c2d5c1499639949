//! Whether a new certificate may take the place of the one that is there, and when a refused one is tried again.
//!
//! Only what ends later is taken by itself: a CA's mistake must not shorten what is there. The exceptions are a person's
//! wish, a changed configuration, and a CA that says by its renewal window (RFC 9773) that it wants the old one replaced
//! now. Refuses to know how a certificate is fetched or installed.

use core::time::Duration;

use crate::domain::certificate::Chain;
use crate::domain::execution::Trigger;
use crate::domain::inventory::Ari;
use crate::domain::limits::automatic_span;
use crate::domain::state::CredentialRecord;
use crate::domain::time::{Timestamp, human_span};

/// It ends no later than what it would replace, and nobody asked for that.
pub const ENDS_EARLIER: &str = "KW2202";
/// It ends earlier, as its CA wants, and so soon that another could not follow in time.
pub const TOO_SHORT: &str = "KW2208";

/// How a new certificate stands to the one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Succession {
    /// It ends later, or somebody wants it as it is.
    Usual,
    /// It ends earlier, and its CA asked for that; for the record.
    Shorter(String),
    /// It is not installed: the code, and why.
    Refused(&'static str, String),
}

/// Judges a new chain for the place of `record`'s current certificate.
#[must_use]
pub fn succession(trigger: &Trigger, new: &Chain, record: &CredentialRecord, ari: Ari, now: Timestamp) -> Succession {
    let Some(current) = &record.current else { return Succession::Usual };
    let (end, old) = (new.leaf.validity.not_after, current.validity.not_after);
    if end > old || is_wished(trigger) {
        return Succession::Usual;
    }
    let Some((start, until)) = window_that_asks(record, ari, now) else {
        let text =
            format!("the new certificate ends {end}, which is not later than the {old} of the one that is there");
        return Succession::Refused(ENDS_EARLIER, text);
    };
    let asked = format!(
        "the new certificate ends {end}, before the {old} of the one that it replaces, and its CA asks for a renewal by its \
         window {start} to {until}"
    );
    let (left, least) = (now.until(new.validity().not_after), least_left(current.validity.lifetime()));
    if left < least {
        let text = format!("{asked}; but {} are left of it, less than {}", human_span(left), human_span(least));
        return Succession::Refused(TOO_SHORT, text);
    }
    Succession::Shorter(asked)
}

/// A certificate that ends earlier, as its CA wants, must live at least so long: the span in which our own limit lets two
/// automatic issuances through, so that another can follow before it ends even if both of this span are spent.
#[must_use]
pub fn least_left(lifetime: Duration) -> Duration {
    automatic_span(Some(lifetime))
}

/// Until when automation orders nothing after a certificate was refused for its end: to do the same again would spend the
/// CA's limits for the same refusal. `None` if it may.
///
/// A person may always order. Otherwise it is tried again at the emergency point, and from there on each time that half of
/// what was left has gone by: nothing expires because nobody asked, and at most a dozen orders are spent on that.
/// Each of several issuers has its turn before, since another one may issue for longer.
#[must_use]
pub fn held_until(
    record: &CredentialRecord,
    trigger: &Trigger,
    ari: Ari,
    issuers: usize,
    emergency_at: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let (failure, current) = (record.last_failure.as_ref()?, record.current.as_ref()?);
    let had_turns = usize::try_from(record.failures).unwrap_or(usize::MAX) >= issuers;
    // The CA changed its mind: it wants now what was refused.
    let other_case = &*failure.code == ENDS_EARLIER && window_that_asks(record, ari, now).is_some();
    if !is_refused(record) || is_wished(trigger) || other_case || !had_turns {
        return None;
    }
    let half = current.validity.not_after.since(failure.at) / 2;
    Some(failure.at.plus(half).max(emergency_at)).filter(|until| *until > now)
}

/// Whether the last attempt ended with a certificate that was refused for its end.
#[must_use]
pub fn is_refused(record: &CredentialRecord) -> bool {
    record.last_failure.as_ref().is_some_and(|f| matches!(&*f.code, ENDS_EARLIER | TOO_SHORT))
}

/// A person, a changed configuration or a repair wants it whatever it is like.
fn is_wished(trigger: &Trigger) -> bool {
    matches!(trigger, Trigger::Manual(_) | Trigger::Changed(_) | Trigger::Repair(_))
}

/// The CA's window for what is there, if it has begun.
fn window_that_asks(record: &CredentialRecord, ari: Ari, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let id = record.current.as_ref()?.cert_id.as_ref()?;
    let own = record.ari.as_ref().filter(|a| ari == Ari::Ask && a.cert_id == *id)?;
    own.window.filter(|(start, _)| *start <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::{CertId, Certificate, Trust};
    use crate::domain::execution::{Failure, Fault, Generation};
    use crate::domain::id::{AttemptId, IssuerId, Ulid};
    use crate::domain::key::Digest;
    use crate::domain::state::AriRecord;
    use crate::domain::time::{DAY, HOUR, Validity};
    use std::sync::Arc;

    fn at(days: u64) -> Timestamp {
        Timestamp::from_unix(1_790_000_000).plus(DAY * u32::try_from(days).unwrap())
    }

    /// A certificate from day 0 to day 90, with a window from this day on.
    fn record(window: Option<u64>) -> CredentialRecord {
        let id = CertId(Arc::from("aki.1"));
        let current = Generation {
            slot: AttemptId(Ulid::new(at(0), [0; 10])),
            issuer: IssuerId::parse("le").unwrap(),
            fingerprint: Digest::of(b"1"),
            spki: Digest::of(b"1"),
            serial: Arc::from("01"),
            cert_id: Some(id.clone()),
            validity: Validity { not_before: at(0), not_after: at(90) },
            names: Default::default(),
            trigger: Trigger::First,
            installed_at: at(0),
            verified_at: None,
            key_since: at(0),
        };
        let window = window.map(|day| (at(day), at(day + 1)));
        let ari = AriRecord { cert_id: id, window, picked: None, next_poll: at(0), explanation: None };
        CredentialRecord { current: Some(current), ari: Some(ari), ..CredentialRecord::default() }
    }

    fn refused(code: &str, day: u64, window: Option<u64>) -> CredentialRecord {
        let failure =
            Failure { at: at(day), code: Arc::from(code), text: Arc::from(""), fault: Fault::Issuer, issuer: None };
        CredentialRecord { last_failure: Some(failure), failures: 1, ..record(window) }
    }

    fn chain(until: Timestamp) -> Chain {
        let leaf = Certificate {
            fingerprint: Digest::of(b"2"),
            spki: Digest::of(b"2"),
            serial: "02".into(),
            subject: String::new(),
            issuer: String::new(),
            names: Default::default(),
            validity: Validity { not_before: at(0), not_after: until },
            cert_id: None,
            may_issue: false,
            purposes: crate::domain::certificate::Purposes::ALL,
            listing: crate::domain::certificate::Listing::default(),
            faults: crate::domain::certificate::Faults::default(),
        };
        Chain { leaf: Arc::new(leaf), above: Vec::new(), trust: Trust::Anchored }
    }

    #[test]
    fn the_cas_word_decides_about_what_ends_earlier() {
        let by = |until, window, ari| match succession(&Trigger::Ari, &chain(until), &record(window), ari, at(10)) {
            Succession::Usual => "usual",
            Succession::Shorter(_) => "shorter",
            Succession::Refused(code, _) => code,
        };
        let rows = [
            (at(91), None, Ari::Ask, "usual"),
            (at(90), None, Ari::Ask, ENDS_EARLIER),
            (at(20), None, Ari::Ask, ENDS_EARLIER),
            (at(20), Some(11), Ari::Ask, ENDS_EARLIER),
            (at(20), Some(10), Ari::Ask, "shorter"),
            (at(20), Some(5), Ari::Ask, "shorter"),
            (at(20), Some(5), Ari::Ignore, ENDS_EARLIER),
            (at(11), Some(5), Ari::Ask, "shorter"),
            (at(11).minus(HOUR), Some(5), Ari::Ask, TOO_SHORT),
        ];
        for (n, (until, window, ari, expected)) in rows.into_iter().enumerate() {
            assert_eq!(by(until, window, ari), expected, "row {n}");
        }
        let person = Trigger::Manual(Arc::from("uid:0"));
        assert_eq!(succession(&person, &chain(at(11)), &record(None), Ari::Ask, at(10)), Succession::Usual);
    }

    #[test]
    fn a_refusal_holds_until_the_emergency_point_and_then_for_half_of_what_is_left() {
        let emergency = at(85);
        let held = |record: &CredentialRecord, trigger: &Trigger, issuers, day| {
            held_until(record, trigger, Ari::Ask, issuers, emergency, at(day))
        };
        let (due, person) = (Trigger::Lifetime, Trigger::Manual(Arc::from("uid:0")));
        assert_eq!(held(&refused(ENDS_EARLIER, 60, None), &due, 1, 61), Some(emergency));
        assert_eq!(held(&refused(ENDS_EARLIER, 60, None), &due, 1, 85), None);
        assert_eq!(held(&refused(ENDS_EARLIER, 86, None), &due, 1, 87), Some(at(88)));
        assert_eq!(held(&refused(ENDS_EARLIER, 60, None), &person, 1, 61), None);
        assert_eq!(held(&refused(ENDS_EARLIER, 60, None), &due, 2, 61), None, "another issuer has its turn");
        assert_eq!(held(&refused(ENDS_EARLIER, 60, Some(61)), &due, 1, 61), None, "the CA wants it by now");
        assert_eq!(held(&refused(TOO_SHORT, 60, Some(50)), &due, 1, 61), Some(emergency));
        assert_eq!(held(&refused("KW3005", 60, None), &due, 1, 61), None);
        assert_eq!(held(&record(None), &due, 1, 61), None);
    }
}
