//! The verdict over an approval path: open only if everything that it stands on is proved good. Unknown is closed.
//!
//! Refuses to know who asks and how the answer travels.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::certificate::{Chain, Trust, display_name};
use crate::domain::id::{CredentialId, PathId};
use crate::domain::inventory::{ApprovalPath, CrlFacts, CrlSeen, Endpoint, Environment, MISSED_FOR, Missed, Seen};
use crate::domain::key::Digest;
pub use crate::domain::snapshot::UNKNOWN_PATH;
use crate::domain::snapshot::{Dependency, Evidence, FreezeOver, Part, PartKind, Snapshot, gather, millis};
use crate::domain::time::{Boottime, Timestamp, human_span};

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
/// The state or the audit trail cannot be written.
pub const AUDIT: &str = "KW4011";
/// The certificate is not for the configured names.
pub const NAMES: &str = "KW4012";
/// Entries about what closed wait to be written into the audit log.
pub const SPOOLED: &str = "KW4013";
/// What came of an effect is not in the audit log.
pub const UNRESOLVED: &str = "KW4014";
/// Its certificate does not allow what it is used for.
pub const PURPOSE: &str = "KW4015";
/// Its key is older than the path's limit.
pub const KEY_OVERDUE: &str = "KW4016";
/// A person reported a key of it as compromised.
pub const COMPROMISED: &str = "KW4017";
/// A revocation list revokes a certificate of its chain.
pub const REVOKED: &str = "KW4018";
/// Whether a certificate of its chain is revoked cannot be told: a list is missing, stale, or not of its issuer.
pub const REVOCATION_UNKNOWN: &str = "KW4019";
/// Who renews it had no success for too long.
pub const RENEWER: &str = "KW4020";
/// The configuration cannot be read.
pub const CONFIGURATION: &str = "KW4021";
/// A path that it stands on is closed.
pub const DEPENDENCY: &str = "KW4022";
/// It is good again, but not for long enough.
pub const SETTLING: &str = "KW4023";
/// It closed so often that only a person opens it again.
pub const FLAPPING: &str = "KW4024";
/// An endpoint was missed by the newest looks. That keeps open what is open, for a while, and opens nothing.
pub const MISSED: &str = "KW4050";
/// The guardian found its own audit log broken.
pub const BROKEN_LOG: &str = "KW4051";
/// A person froze it, and it closes for that.
pub const FROZEN: &str = "KW4070";
/// A person holds the path closed for a while.
pub const HELD: &str = "KW4401";

/// Every reason, so that metrics can be initialised to 0 for each.
pub const REASONS: [&str; 28] = [
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
    PURPOSE,
    KEY_OVERDUE,
    COMPROMISED,
    REVOKED,
    REVOCATION_UNKNOWN,
    RENEWER,
    CONFIGURATION,
    DEPENDENCY,
    SETTLING,
    FLAPPING,
    MISSED,
    BROKEN_LOG,
    FROZEN,
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
    /// What is borne for a while, and closes it if it stays.
    pub warnings: Vec<Reason>,
    /// When it was computed.
    pub at: Timestamp,
    /// When it was computed, on the clock that does not step.
    pub at_boot: Boottime,
    /// Open at the latest until then, by what it stands on; equals `at` when closed.
    pub until: Timestamp,
    /// The part that ends first, for people.
    pub weakest: Option<Arc<str>>,
    /// Digest of everything that it was made of ([`Snapshot::digest`]); zero where nothing was looked at.
    pub inputs: Digest,
}

impl Verdict {
    /// Closed for one reason, whatever is seen.
    #[must_use]
    pub fn closed(path: &PathId, reason: Reason, at: Timestamp, at_boot: Boottime) -> Self {
        let (warnings, inputs) = (Vec::new(), Digest([0; 32]));
        Self { path: path.clone(), reasons: vec![reason], warnings, at, at_boot, until: at, weakest: None, inputs }
    }

    /// What a path that stands on this one sees of it.
    #[must_use]
    pub fn as_dependency(&self) -> Dependency {
        let reasons = self.reasons.iter().map(|r| Arc::from(r.code)).collect();
        let borne = self.is_open() && !self.warnings.is_empty();
        Dependency { path: self.path.clone(), reasons, until: self.until, borne }
    }

    /// Whether the path was open when this was computed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The verdict as it holds at a later moment: an open one closes by itself at its end, when it has grown stale, and
    /// when the clocks have parted. `deadline` is how old an evaluation may be.
    #[must_use]
    pub fn at_moment(&self, now: Timestamp, boot: Boottime, deadline: Duration) -> Self {
        self.but_for(self.lapsed(now, boot, deadline))
    }

    /// Closed for these reasons too.
    #[must_use]
    pub fn but_for(&self, more: Vec<Reason>) -> Self {
        let mut closed = self.clone();
        if !more.is_empty() {
            closed.until = self.at;
            closed.reasons.extend(more);
        }
        closed
    }

    /// Why it does not hold any more at a later moment, as for [`Verdict::at_moment`].
    #[must_use]
    pub fn lapsed(&self, now: Timestamp, boot: Boottime, deadline: Duration) -> Vec<Reason> {
        let mut lapsed = Vec::new();
        let mut close = |code, text: String, reopens| lapsed.push(Reason { code, credential: None, text, reopens });
        if boot.since(self.at_boot) > deadline || boot < self.at_boot {
            close(STALE, "no evaluation was completed in time".into(), "the daemon completes an evaluation");
        }
        if now >= self.until && self.is_open() {
            let weakest = self.weakest.as_deref().unwrap_or("what the path stands on");
            let text = format!("{weakest} was vouched for until {}", self.until);
            close(MARGIN, text, "the credential is renewed and seen to be served");
        }
        // Between two evaluations both clocks must have moved alike.
        let (wall, real) = (now.unix().saturating_sub(self.at.unix()), boot.since(self.at_boot).as_secs());
        if wall.abs_diff(i64::try_from(real).unwrap_or(i64::MAX)) > CLOCK_TOLERANCE.as_secs().saturating_add(1) {
            close(CLOCK, "the wall clock stepped".into(), "the clocks agree again");
        }
        lapsed
    }
}

impl FreezeOver {
    /// Whether it has not ended yet.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Why its path is closed.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let Self { id, scope, until } = self;
        let text = format!("{scope} is frozen until {until} (freeze {id})");
        Reason {
            code: FROZEN,
            credential: None,
            text,
            reopens: "the freeze ends, by itself or by `keyward freeze thaw`",
        }
    }
}

/// How far wall clock and boot clock may drift apart (facts: close when they diverge by more than two seconds).
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// Lists at distribution points whose trouble is told; a chain names two or three.
const MOST_TOLD: usize = 4;

/// Computes the verdict over one path. Pure.
#[must_use]
pub fn verdict(path: &ApprovalPath, evidence: &Evidence<'_>) -> Verdict {
    judge(&gather(path, evidence))
}

/// Judges what was gathered. Pure: the same snapshot gives the same verdict, wherever and whenever it is judged.
#[must_use]
pub fn judge(snapshot: &Snapshot) -> Verdict {
    let mut bench = Bench { snapshot, reasons: Vec::new(), warnings: Vec::new(), until: Timestamp::MAX, weakest: None };
    bench.guardian();
    for dependency in &snapshot.depends {
        bench.dependency(dependency);
    }
    if snapshot.parts.is_empty() {
        let text = format!("{} names no credential, so nothing vouches for it", snapshot.path);
        bench.close(UNKNOWN_CREDENTIAL, None, text, "the configuration names what it stands on");
    }
    snapshot.parts.iter().for_each(|part| bench.part(part));
    let Bench { reasons, warnings, until, weakest, .. } = bench;
    Verdict {
        path: snapshot.path.clone(),
        until: if reasons.is_empty() { until } else { snapshot.at },
        reasons,
        warnings,
        at: snapshot.at,
        at_boot: snapshot.at_boot,
        weakest,
        inputs: snapshot.digest(),
    }
}

/// What was found so far.
struct Bench<'a> {
    snapshot: &'a Snapshot,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
    until: Timestamp,
    weakest: Option<Arc<str>>,
}

impl Bench<'_> {
    fn close(&mut self, code: &'static str, part: Option<&Part>, text: String, reopens: &'static str) {
        let reason = Reason { code, credential: part.map(|p| p.credential.clone()), text, reopens };
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// It is good until then at the latest.
    fn ends(&mut self, at: Timestamp, what: impl FnOnce() -> String) {
        if at < self.until {
            self.until = at;
            self.weakest = Some(Arc::from(what()));
        }
    }

    fn guardian(&mut self) {
        let guardian = &self.snapshot.guardian;
        let own = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        if let Some(why) = own(&guardian.clock) {
            self.close(CLOCK, None, why, "the time is right again, or a person accepts it with `keyward clock accept`");
        }
        if let Some(why) = own(&guardian.store) {
            self.close(AUDIT, None, why, "the state directory can be written again");
        }
        if let Some((code, why)) = &guardian.unrecorded {
            let code = [UNRESOLVED, BROKEN_LOG].into_iter().find(|known| *known == &**code).unwrap_or(SPOOLED);
            let reopens =
                if code == BROKEN_LOG { "the audit log is whole again" } else { "what happened is in the audit log" };
            self.close(code, None, why.to_string(), reopens);
        }
        if let Some(why) = own(&guardian.configuration) {
            self.close(CONFIGURATION, None, why, "the configuration can be read again");
        }
        if let Some(latch) = &self.snapshot.latch {
            let text = format!("{} (since {})", latch.text, latch.at);
            let (code, reopens) = match &*latch.code {
                CLOCK => (
                    CLOCK,
                    "the time is right, and a person accepts it with `keyward clock accept` or opens the path with `keyward gate reopen`",
                ),
                BROKEN_LOG => (BROKEN_LOG, "the log is whole, and a person opens the path with `keyward gate reopen`"),
                _ => (FLAPPING, "a person opens it again with `keyward gate reopen`"),
            };
            self.close(code, None, text, reopens);
        }
        for over in self.snapshot.freezes.iter().filter(|over| over.holds(self.snapshot.at)) {
            let Reason { code, text, reopens, .. } = over.reason();
            self.close(code, None, text, reopens);
        }
    }

    fn dependency(&mut self, dependency: &Dependency) {
        let Dependency { path, reasons, until, borne } = dependency;
        if !reasons.is_empty() || self.snapshot.at >= *until {
            let why = if reasons.is_empty() { "its time is over".to_owned() } else { reasons.join(", ") };
            self.close(DEPENDENCY, None, format!("{path}, which it stands on, is closed: {why}"), "that path opens");
            return;
        }
        if *borne {
            let text = format!("{path}, which it stands on, is open until {until} only because a missed look is borne");
            self.warnings.push(Reason { code: MISSED, credential: None, text, reopens: "a look reaches the endpoint" });
        }
        self.ends(*until, || format!("path {path}"));
    }

    fn part(&mut self, part: &Part) {
        let name = &part.credential;
        match part.kind {
            PartKind::Unknown => {
                let text = format!("{name} is not configured");
                self.close(UNKNOWN_CREDENTIAL, Some(part), text, "the configuration names it");
            }
            PartKind::Pattern => self.pattern(part),
            PartKind::Managed | PartKind::Observed | PartKind::Endpoints => {
                self.stored(part);
                let stored = part.stored.iter().filter_map(Seen::chain);
                let served = part.served.iter().filter_map(|(endpoint, seen)| match self.borne(part, endpoint, seen) {
                    Some((missed, _)) => Some(&missed.chain),
                    None => seen.as_ref().and_then(Seen::chain),
                });
                let chains: Vec<&Arc<Chain>> = stored.chain(served).collect();
                chains.iter().for_each(|chain| self.chain(part, chain));
                // Lists were compared with the chain that stands for it; of another certificate none says that it is good.
                // Beside one that is stored, another closes by itself.
                let (mut judged, all) = (BTreeSet::new(), part.kind == PartKind::Endpoints);
                for chain in chains {
                    if (all || judged.is_empty()) && judged.insert(chain.leaf.fingerprint) {
                        self.revocation(part, chain);
                    }
                }
                self.key(part);
                self.renewer(part);
                if self.snapshot.environment == Environment::Production {
                    self.served(part);
                }
            }
        }
    }

    fn pattern(&mut self, part: &Part) {
        let name = &part.credential;
        match &part.stored {
            Some(Seen::Missing) => {
                self.close(MISSING, Some(part), format!("{name}: no file matches"), "a file matches the pattern");
            }
            Some(_) => {
                let text = format!("{name}: cannot be looked through");
                self.close(UNREADABLE, Some(part), text, "a file matches the pattern");
            }
            None if part.unseen => {
                self.close(UNREADABLE, Some(part), format!("{name} was not looked at yet"), "it is seen");
            }
            None => {}
        }
    }

    fn stored(&mut self, part: &Part) {
        let name = &part.credential;
        match &part.stored {
            Some(Seen::Present(_)) => {}
            // Nothing is stored only where nothing but endpoints is watched; these are judged each by itself.
            None if part.kind == PartKind::Endpoints && part.served.iter().any(|(_, seen)| seen.is_some()) => {}
            None => self.close(UNREADABLE, Some(part), format!("{name} was not looked at yet"), "it is seen"),
            Some(Seen::Missing) => {
                self.close(MISSING, Some(part), format!("{name} has no certificate"), "a certificate is installed");
            }
            Some(Seen::Unreadable(why) | Seen::Unreachable(why) | Seen::Unparseable(why)) => {
                let text = format!("{name} cannot be read: {why}");
                self.close(UNREADABLE, Some(part), text, "a readable certificate is in place");
            }
        }
    }

    fn chain(&mut self, part: &Part, chain: &Chain) {
        let (name, now) = (&part.credential, self.snapshot.at);
        let end = chain.validity().not_after;
        if let Some(bad) = chain.out_of_time(now) {
            let (what, span) = (display_name(bad), bad.validity);
            let text = format!("{name}: {what} is valid {} to {}", span.not_before, span.not_after);
            self.close(OUT_OF_TIME, Some(part), text, "a certificate that is valid now is in place");
        } else if now >= end.minus(self.snapshot.rules.margin) {
            let text = format!("{name} ends {end}, inside the path's margin");
            self.close(MARGIN, Some(part), text, "the credential is renewed and seen to be served");
        } else {
            self.ends(end.minus(self.snapshot.rules.margin), || format!("{name}: {}", display_name(chain.weakest())));
        }
        if let Trust::Untrusted(why) = &chain.trust {
            self.close(UNTRUSTED, Some(part), format!("{name}: {why}"), "the chain leads to a trusted root");
        }
        if let Some(names) = part.names.as_ref().filter(|names| !chain.leaf.names.covers_all(names)) {
            let text = format!("{name} is for {}, not for {names}", chain.leaf.names);
            self.close(NAMES, Some(part), text, "a certificate for the configured names is in place");
        }
        if let Some(purpose) = part.purpose.filter(|purpose| !chain.leaf.purposes.allow(*purpose)) {
            let text = format!("{name}: its key usage does not allow it to be a TLS {}", purpose.as_str());
            self.close(PURPOSE, Some(part), text, "a certificate that allows it is in place");
        }
    }

    /// Every certificate below the anchor must stand on no list and be covered by a fresh one. Each file that the
    /// configuration names must be good; of the lists at distribution points one for each certificate is enough.
    fn revocation(&mut self, part: &Part, chain: &Chain) {
        let (name, now) = (&part.credential, self.snapshot.at);
        if part.crls.is_empty() && part.points.is_none() {
            return;
        }
        let reopens = "a fresh list of each issuer of the chain is in place";
        let mut fresh = Vec::new();
        for (file, seen) in &part.crls {
            match good_until(seen.as_ref(), now) {
                Ok(good) => fresh.push(good),
                Err(why) => {
                    self.close(REVOCATION_UNKNOWN, Some(part), format!("{name}: {file} {why}"), reopens);
                }
            }
        }
        let mut stale = Vec::new();
        for (url, seen) in part.points.iter().flatten() {
            match good_until(Some(seen), now) {
                Ok(good) => fresh.push(good),
                Err(_) if *seen == CrlSeen::Missing => stale.push(format!("{url} was not fetched yet")),
                Err(why) => stale.push(format!("{url} {why}")),
            }
        }
        let why = match (&part.points, stale.is_empty()) {
            (None, _) => String::new(),
            (Some(points), _) if points.is_empty() => {
                ": its chain names no distribution point with an http URL".to_owned()
            }
            (Some(_), true) => String::new(),
            (Some(_), false) => {
                let more = stale.len().checked_sub(MOST_TOLD).filter(|more| *more > 0);
                stale.truncate(MOST_TOLD);
                format!(": {}{}", stale.join("; "), more.map_or_else(String::new, |n| format!("; and {n} more")))
            }
        };
        let files = part.crls.iter().filter_map(|(_, seen)| seen.as_ref());
        let all: Vec<&CrlFacts> =
            files.chain(part.points.iter().flatten().map(|(_, seen)| seen)).filter_map(CrlSeen::facts).collect();
        for element in chain.below_anchor() {
            let what = display_name(element);
            // A revoked certificate stays so, however old the list is that says so.
            if all.iter().any(|facts| facts.revokes.contains(&element.fingerprint)) {
                let text = format!("{name}: {what} (serial {}) is revoked", element.serial);
                self.close(REVOKED, Some(part), text, "another certificate is in place");
            }
            match fresh.iter().filter(|(f, _)| f.covers.contains(&element.fingerprint)).map(|(_, next)| *next).max() {
                Some(next) => self.ends(next, || format!("{name}: the revocation list for {what}")),
                None => {
                    let text = format!("{name}: no fresh revocation list covers {what}{why}");
                    self.close(REVOCATION_UNKNOWN, Some(part), text, reopens);
                }
            }
        }
    }

    fn key(&mut self, part: &Part) {
        let (name, now) = (&part.credential, self.snapshot.at);
        if let Some(spki) = part.compromised.first() {
            let text = format!("{name}: a person reported the key with SPKI {} as compromised", spki.short());
            self.close(COMPROMISED, Some(part), text, "a certificate with another key is in place");
        }
        if let Some((limit, since)) = self.snapshot.rules.key_limit.zip(part.key_since) {
            let end = since.plus(limit);
            if now >= end {
                let text = format!("{name}: its key is in use since {since}, longer than {}", human_span(limit));
                self.close(KEY_OVERDUE, Some(part), text, "the key is rotated and seen to be served");
            } else {
                self.ends(end, || format!("{name}: its key"));
            }
        }
    }

    fn renewer(&mut self, part: &Part) {
        let (name, now) = (&part.credential, self.snapshot.at);
        let Some((limit, (issuer, last))) = self.snapshot.rules.issuer_silence.zip(part.renewer.as_ref()) else {
            return;
        };
        match last.map(|last| (last, last.plus(limit))) {
            Some((_, end)) if now < end => self.ends(end, || format!("{name}: a success of {issuer}")),
            Some((last, _)) => {
                let text = format!("{name}: {issuer} renews it, and its last success was {last}");
                self.close(RENEWER, Some(part), text, "the issuer issues again");
            }
            None => {
                let text = format!("{name}: {issuer} renews it, and no success of it is known");
                self.close(RENEWER, Some(part), text, "the issuer issues again");
            }
        }
    }

    fn served(&mut self, part: &Part) {
        let stored = part.stored.as_ref().and_then(Seen::chain);
        for (endpoint, seen) in &part.served {
            let borne = self.borne(part, endpoint, seen);
            let chain = borne.map(|(missed, _)| &missed.chain).or_else(|| seen.as_ref().and_then(Seen::chain));
            let text = match (chain, seen) {
                (Some(chain), _) => match stored.filter(|own| own.leaf.fingerprint != chain.leaf.fingerprint) {
                    Some(own) => {
                        let word = if borne.is_some() { "is not reached, and served" } else { "serves" };
                        format!("{endpoint} {word} serial {}, stored is {}", chain.leaf.serial, own.leaf.serial)
                    }
                    None => {
                        if let Some((missed, left)) = borne {
                            self.bear(part, endpoint, seen, missed, left);
                        }
                        continue;
                    }
                },
                (None, Some(Seen::Unreadable(why) | Seen::Unreachable(why) | Seen::Unparseable(why))) => {
                    format!("{endpoint}: {why}")
                }
                (None, Some(Seen::Missing | Seen::Present(_))) => format!("{endpoint} presents no certificate"),
                (None, None) => format!("{endpoint} was not looked at yet"),
            };
            self.close(NOT_SERVED, Some(part), text, "every endpoint serves the stored certificate");
        }
    }

    /// The last good look at an endpoint, while it stands for the ones that missed it; with how long it still does.
    fn borne<'p>(&self, part: &'p Part, endpoint: &Endpoint, seen: &Option<Seen>) -> Option<(&'p Missed, Duration)> {
        let Some(Seen::Unreachable(_)) = seen else { return None };
        let (_, missed) = part.missed.iter().find(|(other, _)| **other == *endpoint)?;
        // As it is written down: an explanation is judged again to the same.
        let (now, since) = (millis(self.snapshot.at_boot.as_duration()), millis(missed.since.as_duration()));
        let left = MISSED_FOR.checked_sub(Duration::from_millis(now.checked_sub(since)?))?;
        (missed.times < self.snapshot.rules.misses && !left.is_zero()).then_some((missed, left))
    }

    fn bear(&mut self, part: &Part, endpoint: &Endpoint, seen: &Option<Seen>, missed: &Missed, left: Duration) {
        let (name, end) = (&part.credential, self.snapshot.at.plus(left));
        let why = match seen {
            Some(Seen::Unreachable(why)) => why.as_str(),
            Some(_) | None => "",
        };
        let Missed { times, seen_at, .. } = missed;
        let misses = self.snapshot.rules.misses;
        let text = format!(
            "{name}: {endpoint} was missed {times} of {misses} times in a row ({why}); it was good at {seen_at}, which holds \
             until {end} at the latest"
        );
        let credential = Some(part.credential.clone());
        self.warnings.push(Reason { code: MISSED, credential, text, reopens: "a look reaches the endpoint" });
        self.ends(end, || format!("{name}: the last good look at {endpoint}"));
    }
}

/// What a list says and until when that is good; the reason if it is not good now.
fn good_until(seen: Option<&CrlSeen>, now: Timestamp) -> Result<(&CrlFacts, Timestamp), String> {
    match seen {
        Some(CrlSeen::Present(facts)) => match facts.next_update {
            Some(next) if facts.this_update <= now && now < next => Ok((facts, next)),
            Some(next) => Err(format!("is for {} to {next}", facts.this_update)),
            None => Err("does not say when the next one is due, so it is never fresh".to_owned()),
        },
        Some(CrlSeen::Missing) => Err("is missing".to_owned()),
        Some(CrlSeen::Unreadable(why) | CrlSeen::Unusable(why)) => Err(why.clone()),
        None => Err("was not looked at yet".to_owned()),
    }
}
