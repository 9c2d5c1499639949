//! The circuit breaker of an issuer: one that fails by its own fault again and again is left alone for a while.
//!
//! Refuses to know for how long: that is decided where a failure is recorded.

use crate::domain::state::IssuerRecord;
use crate::domain::time::Timestamp;

/// How many failures in a row open an issuer's circuit breaker.
pub const BREAKER_THRESHOLD: u32 = 3;

/// The state of an issuer's circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Goes on as usual.
    Closed,
    /// One order at a time until one succeeds.
    Trial,
    /// No new order before this time.
    Open(Timestamp),
}

/// The state of the breaker of an issuer with this record.
#[must_use]
pub fn breaker(record: Option<&IssuerRecord>, now: Timestamp) -> Breaker {
    match record {
        Some(IssuerRecord { open_until: Some(until), .. }) if *until > now => Breaker::Open(*until),
        Some(r) if r.failures >= BREAKER_THRESHOLD => Breaker::Trial,
        _ => Breaker::Closed,
    }
}
