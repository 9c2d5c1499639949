//! Done means served: what was expected against what was seen.
//!
//! Refuses to know how to look.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::inventory::{Endpoint, Observation, Seen, fingerprint};
use crate::domain::key::Digest;

/// What the look from outside showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every endpoint serves the expected certificate (or there is none to ask).
    Served,
    /// At least one does not; a sentence for each.
    NotServed(Vec<String>),
}

/// Compares. An endpoint that was not looked at counts as not serving: unknown is closed.
#[must_use]
pub fn verify(expected: &Digest, endpoints: &[Arc<Endpoint>], served: &BTreeMap<Arc<Endpoint>, Observation>) -> Proof {
    let misses: Vec<String> =
        endpoints.iter().filter_map(|e| miss(expected, e, served.get(e).map(|o| &o.seen))).collect();
    if misses.is_empty() { Proof::Served } else { Proof::NotServed(misses) }
}

fn miss(expected: &Digest, endpoint: &Endpoint, seen: Option<&Seen>) -> Option<String> {
    match seen {
        None => Some(format!("{endpoint} was not looked at")),
        Some(Seen::Missing) => Some(format!("{endpoint} presents no certificate")),
        Some(Seen::Unreadable(why) | Seen::Unreachable(why) | Seen::Unparseable(why)) => {
            Some(format!("{endpoint}: {why}"))
        }
        Some(Seen::Present(_)) if seen.and_then(fingerprint).as_ref() == Some(expected) => None,
        Some(Seen::Present(chain)) => Some(format!(
            "{endpoint} serves serial {} ({}), expected the certificate with fingerprint {}",
            chain.leaf.serial,
            chain.leaf.names,
            expected.short()
        )),
    }
}
