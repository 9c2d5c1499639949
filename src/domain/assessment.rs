//! Findings: what is wrong with a credential, by ordered checks, each with a stable code.
//!
//! The list of checks is the documentation. Refuses to act: a finding is a sentence, the planner draws the conclusions.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::certificate::{Trust, display_name};
use crate::domain::inventory::{Care, Credential, Environment, Seen, Sighting, Source};
use crate::domain::renewal::Schedule;
use crate::domain::revocation::{ListStanding, Pressing};
use crate::domain::state::CredentialRecord;
use crate::domain::time::{Timestamp, human_span};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Somebody should look; nothing is broken yet.
    Warning,
    /// Something is broken, or will be before the next working day.
    Critical,
}

impl Severity {
    /// Stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is wrong. `code` is stable and known to `keyward explain`; `text` is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable code, `KW1…`.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// One sentence.
    pub text: String,
}

/// What a credential is assessed by.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it should be.
    pub credential: &'a Credential,
    /// What was seen.
    pub sighting: &'a Sighting,
    /// What was done so far.
    pub record: &'a CredentialRecord,
    /// When it renews, if it is managed and there is something to renew.
    pub schedule: Option<&'a Schedule>,
    /// How it stands with the revocation lists that are fetched, by URL.
    pub lists: &'a BTreeMap<Arc<str>, ListStanding>,
    /// Where we run: in a staging run nothing is served.
    pub environment: Environment,
    /// Now.
    pub now: Timestamp,
}

/// No certificate is stored.
pub const MISSING: &str = "KW1001";
/// What is stored cannot be read.
pub const UNREADABLE: &str = "KW1002";
/// What is stored is no certificate, or its key does not belong to it.
pub const UNPARSEABLE: &str = "KW1003";
/// An element of the chain is not valid now.
pub const OUT_OF_TIME: &str = "KW1004";
/// The chain does not lead to a trusted root.
pub const UNTRUSTED: &str = "KW1005";
/// The stored certificate does not cover the configured names.
pub const NAMES: &str = "KW1006";
/// The stored certificate is not the one that was issued here.
pub const FOREIGN: &str = "KW1007";
/// An endpoint serves another certificate than the stored one.
pub const NOT_SERVED: &str = "KW1008";
/// An endpoint cannot be reached or presents no certificate.
pub const UNREACHABLE: &str = "KW1009";
/// The renewal is late: more than 30 % of the time between its due point and the expiry is gone.
pub const OVERDUE: &str = "KW1010";
/// Attempts fail.
pub const FAILING: &str = "KW1011";
/// An installed certificate was not served and was rolled back.
pub const ROLLED_BACK: &str = "KW1012";
/// An element above the leaf ends before the leaf.
pub const CHAIN_ENDS_FIRST: &str = "KW1013";
/// Not looked at yet.
pub const UNSEEN: &str = "KW1014";
/// The clocks disagree.
pub const CLOCK: &str = "KW1015";
/// It expires soon and nobody here renews it.
pub const EXPIRES_SOON: &str = "KW1016";
/// Policy holds a renewal that is due.
pub const HELD_BY_POLICY: &str = "KW1017";
/// A revocation list of its chain does not come; the last one is good for a while.
pub const LIST_FAILING: &str = "KW4060";
/// It does not come, and the last one is over, or will be soon.
pub const LIST_ENDING: &str = "KW4061";

/// Share of the time between due and expiry, in thousandths, after which a renewal is overdue (the same 0.3 as the alert
/// rule uses; works for 6-day and 90-day certificates alike).
const OVERDUE_PERMILLE: u32 = 300;

type Check = fn(&Subject<'_>, &mut Vec<Finding>);

/// The checks in order.
const CHECKS: [Check; 7] = [stored, chain, names, served, renewal, failures, lists];

/// Runs every check. An empty list means that nothing is wrong.
#[must_use]
pub fn assess(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    CHECKS.iter().for_each(|check| check(subject, &mut findings));
    findings
}

fn add(findings: &mut Vec<Finding>, code: &'static str, severity: Severity, text: String) {
    findings.push(Finding { code, severity, text });
}

fn stored(s: &Subject<'_>, out: &mut Vec<Finding>) {
    let served_only = matches!(s.credential.care, Care::Observed(Source::Endpoints)) && !s.sighting.served.is_empty();
    match s.sighting.stored.as_ref().map(|o| &o.seen) {
        None if served_only => {}
        None => add(out, UNSEEN, Severity::Note, "was not looked at yet".into()),
        Some(Seen::Missing) if not_yet_issued(s) => {
            add(out, MISSING, Severity::Note, "no certificate is stored yet; the first one is being issued".into());
        }
        Some(Seen::Missing) => add(out, MISSING, Severity::Critical, "no certificate is stored".into()),
        Some(Seen::Unreadable(why) | Seen::Unreachable(why)) => {
            add(out, UNREADABLE, Severity::Critical, format!("what is stored cannot be read: {why}"));
        }
        Some(Seen::Unparseable(why)) => {
            add(out, UNPARSEABLE, Severity::Critical, format!("what is stored is no usable certificate: {why}"));
        }
        Some(Seen::Present(chain)) => {
            let foreign = s.record.current.as_ref().filter(|g| g.fingerprint != chain.leaf.fingerprint);
            if let Some(own) = foreign {
                let text = format!(
                    "the stored certificate (serial {}) is not the one that was issued here (serial {})",
                    chain.leaf.serial, own.serial
                );
                add(out, FOREIGN, Severity::Warning, text);
            }
        }
    }
}

/// Before the first certificate there is nothing to store and nothing to serve, or only what the server was installed
/// with, and nobody has to act on that until a try has failed.
fn not_yet_issued(s: &Subject<'_>) -> bool {
    s.credential.managed().is_some() && s.record.current.is_none() && s.record.failures == 0
}

fn chain(s: &Subject<'_>, out: &mut Vec<Finding>) {
    let Some(chain) = s.sighting.chain() else { return };
    if let Some(bad) = chain.out_of_time(s.now) {
        let (what, when) = if s.now > bad.validity.not_after {
            ("expired", bad.validity.not_after)
        } else {
            ("is not valid before", bad.validity.not_before)
        };
        let leaf = bad.fingerprint == chain.leaf.fingerprint;
        let whose = if leaf { "the certificate".to_owned() } else { display_name(bad) };
        add(out, OUT_OF_TIME, Severity::Critical, format!("{whose} {what} {when}"));
    }
    if let Trust::Untrusted(why) = &chain.trust {
        let severity = if not_yet_issued(s) { Severity::Note } else { Severity::Critical };
        add(out, UNTRUSTED, severity, format!("the chain does not lead to a trusted root: {why}"));
    }
    let weakest = chain.weakest();
    if weakest.fingerprint != chain.leaf.fingerprint && weakest.validity.not_after < chain.leaf.validity.not_after {
        let text = format!("{} above it ends first, {}", display_name(weakest), weakest.validity.not_after);
        add(out, CHAIN_ENDS_FIRST, Severity::Warning, text);
    }
}

fn names(s: &Subject<'_>, out: &mut Vec<Finding>) {
    let (Some(managed), Some(chain)) = (s.credential.managed(), s.sighting.chain()) else { return };
    if !chain.leaf.names.covers_all(&managed.names) {
        let text = format!("the stored certificate is for {}, not for {}", chain.leaf.names, managed.names);
        add(out, NAMES, Severity::Critical, text);
    }
}

fn served(s: &Subject<'_>, out: &mut Vec<Finding>) {
    if s.environment == Environment::Staging {
        return;
    }
    let own = s.sighting.stored.as_ref().and_then(|o| o.seen.chain());
    let silent = if not_yet_issued(s) { Severity::Note } else { Severity::Critical };
    for endpoint in &s.credential.endpoints {
        match s.sighting.served.get(endpoint).map(|o| &o.seen) {
            None => add(out, UNSEEN, Severity::Note, format!("{endpoint} was not looked at yet")),
            Some(Seen::Missing) => {
                add(out, UNREACHABLE, silent, format!("{endpoint} presents no certificate"));
            }
            Some(Seen::Unreadable(why) | Seen::Unreachable(why) | Seen::Unparseable(why)) => {
                add(out, UNREACHABLE, silent, format!("{endpoint}: {why}"));
            }
            Some(Seen::Present(seen)) => {
                let differs = own.filter(|own| own.leaf.fingerprint != seen.leaf.fingerprint);
                if let Some(own) = differs {
                    let text =
                        format!("{endpoint} serves serial {}, stored is serial {}", seen.leaf.serial, own.leaf.serial);
                    add(out, NOT_SERVED, Severity::Critical, text);
                }
            }
        }
    }
}

fn renewal(s: &Subject<'_>, out: &mut Vec<Finding>) {
    let Some(schedule) = s.schedule else {
        return unmanaged_expiry(s, out);
    };
    let Some(current) = &s.record.current else { return };
    let window = current.validity.not_after.since(schedule.renew_at);
    let late = s.now.since(schedule.renew_at);
    if late > window.saturating_mul(OVERDUE_PERMILLE) / 1_000 && !window.is_zero() {
        let left = human_span(s.now.until(current.validity.not_after));
        let text = format!("the renewal is overdue since {}; {left} are left", schedule.renew_at);
        add(out, OVERDUE, Severity::Critical, text);
    }
}

/// Nobody here renews it, so somebody has to be told in time: when a tenth of the lifetime is left.
fn unmanaged_expiry(s: &Subject<'_>, out: &mut Vec<Finding>) {
    let (None, Some(chain)) = (s.credential.managed(), s.sighting.chain()) else { return };
    let validity = chain.validity();
    let left = s.now.until(validity.not_after);
    if left > Duration::ZERO && left < validity.lifetime() / 10 {
        let text = format!("expires {} (in {}) and is renewed elsewhere", validity.not_after, human_span(left));
        add(out, EXPIRES_SOON, Severity::Warning, text);
    }
}

fn failures(s: &Subject<'_>, out: &mut Vec<Finding>) {
    if let Some(failure) = s.record.last_failure.as_ref().filter(|_| s.record.failures > 0) {
        let severity = if s.record.failures > 1 { Severity::Critical } else { Severity::Warning };
        let text = match s.record.failures {
            1 => format!("the last attempt failed {}: {}", failure.at, failure.text),
            n => format!("{n} attempts in a row failed, the last {}: {}", failure.at, failure.text),
        };
        add(out, FAILING, severity, text);
    }
    if s.record.rolled_back.is_some() {
        let text = "a new certificate was installed, was not served, and was rolled back".into();
        add(out, ROLLED_BACK, Severity::Critical, text);
    }
}

fn lists(s: &Subject<'_>, out: &mut Vec<Finding>) {
    for url in s.sighting.points.keys() {
        let Some((pressing, text)) = s.lists.get(url).and_then(|standing| standing.complaint(s.now)) else { continue };
        let (code, severity) = match pressing {
            Pressing::Soon => (LIST_FAILING, Severity::Warning),
            Pressing::Now => (LIST_ENDING, Severity::Critical),
        };
        add(out, code, severity, format!("the revocation list {url} {text}"));
    }
}
