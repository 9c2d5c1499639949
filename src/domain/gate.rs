//! The verdict over an approval path: open only if everything that it stands on is proved good. Unknown is closed.
//!
//! Refuses to know who asks and how the answer travels.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::certificate::{Trust, display_name};
use crate::domain::id::{CredentialId, PathId};
use crate::domain::inventory::{ApprovalPath, Care, Credential, Environment, Estate, Seen, Sighting, Source};
use crate::domain::time::{Boottime, Timestamp};

/// The credential is not configured.
pub const UNKNOWN_CREDENTIAL: &str = "KW4001";
/// Its certificate is missing.
pub const MISSING: &str = "KW4002";
/// Its certificate cannot be read or parsed, or was not looked at yet.
pub const UNREADABLE: &str = "KW4003";
/// Its certificate, or an element of the chain, is expired or not valid yet.
pub const OUT_OF_TIME: &str = "KW4004";
/// It ends within the path's margin.
pub const MARGIN: &str = "KW4005";
/// Its chain does not lead to a trusted root.
pub const UNTRUSTED: &str = "KW4006";
/// An endpoint serves another certificate than the stored one, or could not be seen.
pub const NOT_SERVED: &str = "KW4007";
/// No evaluation was completed within the deadline.
pub const STALE: &str = "KW4008";
/// The clocks disagree.
pub const CLOCK: &str = "KW4009";
/// The path is not configured.
pub const UNKNOWN_PATH: &str = "KW4010";
/// The state or the audit trail cannot be written.
pub const AUDIT: &str = "KW4011";
/// The certificate is not for the configured names.
pub const NAMES: &str = "KW4012";
/// Entries about what closed wait to be written into the audit log.
pub const SPOOLED: &str = "KW4013";
/// What came of an effect is not in the audit log.
pub const UNRESOLVED: &str = "KW4014";
/// A person holds the path closed for a while.
pub const HELD: &str = "KW4401";

/// Every reason, so that metrics can be initialised to 0 for each.
pub const REASONS: [&str; 15] = [
    UNKNOWN_CREDENTIAL,
    MISSING,
    UNREADABLE,
    OUT_OF_TIME,
    MARGIN,
    UNTRUSTED,
    NOT_SERVED,
    STALE,
    CLOCK,
    UNKNOWN_PATH,
    AUDIT,
    NAMES,
    SPOOLED,
    UNRESOLVED,
    HELD,
];

/// Why a path is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable code.
    pub code: &'static str,
    /// Which credential, if it is about one.
    pub credential: Option<CredentialId>,
    /// One sentence.
    pub text: String,
    /// What reopens the path.
    pub reopens: &'static str,
}

/// The verdict over one path at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which path.
    pub path: PathId,
    /// Why it is closed; empty means open.
    pub reasons: Vec<Reason>,
    /// When it was computed.
    pub at: Timestamp,
    /// When it was computed, on the clock that does not step.
    pub at_boot: Boottime,
    /// Open at the latest until then, by what it stands on; equals `at` when closed.
    pub until: Timestamp,
    /// The part that ends first, for people.
    pub weakest: Option<Arc<str>>,
}

impl Verdict {
    /// Whether the path was open when this was computed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The verdict as it holds at a later moment: an open one closes by itself at its end, when it has grown stale, and
    /// when the clocks have parted. `deadline` is how old an evaluation may be.
    #[must_use]
    pub fn at_moment(&self, now: Timestamp, boot: Boottime, deadline: Duration) -> Self {
        let mut held = self.clone();
        if boot.since(self.at_boot) > deadline || boot < self.at_boot {
            held.close(STALE, "no evaluation was completed in time".into(), "the daemon completes an evaluation");
        }
        if now >= self.until && self.is_open() {
            let weakest = self.weakest.as_deref().unwrap_or("what the path stands on");
            let text = format!("{weakest} was vouched for until {}", self.until);
            held.close(MARGIN, text, "the credential is renewed and seen to be served");
        }
        // Between two evaluations both clocks must have moved alike.
        let (wall, real) = (now.unix().saturating_sub(self.at.unix()), boot.since(self.at_boot).as_secs());
        if wall.abs_diff(i64::try_from(real).unwrap_or(i64::MAX)) > CLOCK_TOLERANCE.as_secs().saturating_add(1) {
            held.close(CLOCK, "the wall clock stepped".into(), "the clocks agree again");
        }
        held
    }

    fn close(&mut self, code: &'static str, text: String, reopens: &'static str) {
        self.reasons.push(Reason { code, credential: None, text, reopens });
        self.until = self.at;
    }
}

/// How far wall clock and boot clock may drift apart (facts: close when they diverge by more than two seconds).
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// Everything that a verdict looks at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What should be.
    pub estate: &'a Estate,
    /// What was seen.
    pub sightings: &'a BTreeMap<CredentialId, Sighting>,
    /// Why the clocks are not believed, if so.
    pub clock_fault: Option<&'a str>,
    /// Why nothing can be written, if so.
    pub store_fault: Option<&'a str>,
    /// Whether something that happened is not in the log yet: [`SPOOLED`] or [`UNRESOLVED`], with a sentence.
    pub unrecorded: Option<(&'static str, &'a str)>,
    /// Now.
    pub now: Timestamp,
    /// Now, on the clock that does not step.
    pub boot: Boottime,
}

/// Computes the verdict over one path. Pure.
#[must_use]
pub fn verdict(path: &ApprovalPath, evidence: &Evidence<'_>) -> Verdict {
    let mut reasons = Vec::new();
    if let Some(why) = evidence.clock_fault {
        reasons.push(reason(CLOCK, None, why.to_owned(), "the clocks agree again, or a person accepts the new time"));
    }
    if let Some(why) = evidence.store_fault {
        reasons.push(reason(AUDIT, None, why.to_owned(), "the state directory can be written again"));
    }
    if let Some((code, why)) = evidence.unrecorded {
        reasons.push(reason(code, None, why.to_owned(), "what happened is in the audit log"));
    }
    if path.needs.is_empty() {
        let text = format!("{} names no credential, so nothing vouches for it", path.id);
        reasons.push(reason(UNKNOWN_CREDENTIAL, None, text, "the configuration names what it stands on"));
    }
    let (mut until, mut weakest) = (Timestamp::MAX, None);
    for id in &needed(path, evidence) {
        let before = reasons.len();
        let sighting = evidence.sightings.get(id);
        match evidence.estate.credentials.get(id) {
            None if evidence.estate.watches.contains_key(id) => {
                if let Some(observation) = sighting.and_then(|s| s.stored.as_ref()) {
                    let nothing = matches!(observation.seen, Seen::Missing);
                    let (code, text) =
                        if nothing { (MISSING, "no file matches") } else { (UNREADABLE, "cannot be looked through") };
                    reasons.push(reason(code, Some(id), format!("{id}: {text}"), "a file matches the pattern"));
                } else if sighting.is_none() {
                    reasons.push(reason(UNREADABLE, Some(id), format!("{id} was not looked at yet"), "it is seen"));
                }
            }
            None => reasons.push(reason(
                UNKNOWN_CREDENTIAL,
                Some(id),
                format!("{id} is not configured"),
                "the configuration names it",
            )),
            Some(credential) => judge(credential, sighting, path, evidence, &mut reasons),
        }
        if let Some(chain) = sighting.and_then(Sighting::chain).filter(|_| reasons.len() == before) {
            let end = chain.validity().not_after.minus(path.margin);
            if end < until {
                until = end;
                weakest = Some(Arc::from(format!("{id}: {}", display_name(chain.weakest()))));
            }
        }
    }
    if !reasons.is_empty() {
        until = evidence.now;
    }
    Verdict { path: path.id.clone(), reasons, at: evidence.now, at_boot: evidence.boot, until, weakest }
}

/// What the path names, and for a watched pattern every file that matches it besides the pattern itself.
fn needed(path: &ApprovalPath, evidence: &Evidence<'_>) -> BTreeSet<CredentialId> {
    let mut all = path.needs.clone();
    for watch in path.needs.iter().filter(|id| evidence.estate.watches.contains_key(*id)) {
        let prefix = format!("{watch}.");
        let matches = evidence.estate.credentials.keys().filter(|id| id.as_str().starts_with(&prefix));
        all.extend(matches.cloned());
    }
    all
}

fn reason(code: &'static str, credential: Option<&CredentialId>, text: String, reopens: &'static str) -> Reason {
    Reason { code, credential: credential.cloned(), text, reopens }
}

fn judge(
    credential: &Credential,
    sighting: Option<&Sighting>,
    path: &ApprovalPath,
    evidence: &Evidence<'_>,
    out: &mut Vec<Reason>,
) {
    let id = Some(&credential.id);
    let name = &credential.id;
    let empty = Sighting::default();
    let sighting = sighting.unwrap_or(&empty);
    // Nothing is stored only where nothing but endpoints is watched; these are judged below, each by itself.
    let served_only = matches!(credential.care, Care::Observed(Source::Endpoints)) && !sighting.served.is_empty();
    match sighting.stored.as_ref().map(|o| &o.seen) {
        Some(Seen::Present(_)) => {}
        None if served_only => {}
        None => out.push(reason(UNREADABLE, id, format!("{name} was not looked at yet"), "it is seen")),
        Some(Seen::Missing) => {
            out.push(reason(MISSING, id, format!("{name} has no certificate"), "a certificate is installed"));
        }
        Some(Seen::Unreadable(why) | Seen::Unparseable(why)) => {
            let text = format!("{name} cannot be read: {why}");
            out.push(reason(UNREADABLE, id, text, "a readable certificate is in place"));
        }
    }
    let chains = sighting.stored.iter().chain(sighting.served.values()).filter_map(|o| o.seen.chain());
    for chain in chains {
        judge_chain(credential, chain, path, evidence.now, out);
    }
    if evidence.estate.environment == Environment::Staging {
        return;
    }
    let stored = sighting.stored.as_ref().and_then(|o| o.seen.chain());
    for endpoint in &credential.endpoints {
        let text = match sighting.served.get(endpoint).map(|o| &o.seen) {
            Some(Seen::Present(seen)) => match stored {
                Some(own) if own.leaf.fingerprint != seen.leaf.fingerprint => {
                    format!("{endpoint} serves serial {}, stored is {}", seen.leaf.serial, own.leaf.serial)
                }
                _ => continue,
            },
            Some(Seen::Missing) => format!("{endpoint} presents no certificate"),
            Some(Seen::Unreadable(why) | Seen::Unparseable(why)) => format!("{endpoint}: {why}"),
            None => format!("{endpoint} was not looked at yet"),
        };
        out.push(reason(NOT_SERVED, id, text, "every endpoint serves the stored certificate"));
    }
}

fn judge_chain(
    credential: &Credential,
    chain: &crate::domain::certificate::Chain,
    path: &ApprovalPath,
    now: Timestamp,
    out: &mut Vec<Reason>,
) {
    let id = Some(&credential.id);
    let name = &credential.id;
    let mut push = |code, text: String, reopens| {
        let new = reason(code, id, text, reopens);
        if !out.contains(&new) {
            out.push(new);
        }
    };
    if let Some(bad) = chain.out_of_time(now) {
        let (what, span) = (display_name(bad), bad.validity);
        let text = format!("{name}: {what} is valid {} to {}", span.not_before, span.not_after);
        push(OUT_OF_TIME, text, "a certificate that is valid now is in place");
    } else {
        let end = chain.validity().not_after;
        if now >= end.minus(path.margin) {
            let text = format!("{name} ends {end}, inside the path's margin");
            push(MARGIN, text, "the credential is renewed and seen to be served");
        }
    }
    if let Trust::Untrusted(why) = &chain.trust {
        push(UNTRUSTED, format!("{name}: {why}"), "the chain leads to a trusted root");
    }
    if let Some(managed) = credential.managed()
        && !chain.leaf.names.covers_all(&managed.names)
    {
        let text = format!("{name} is for {}, not for {}", chain.leaf.names, managed.names);
        push(NAMES, text, "a certificate for the configured names is in place");
    }
}
