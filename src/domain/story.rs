//! Why things are as they are, in plain sentences: why a certificate was issued, why nothing happens now, what comes next.
//!
//! Refuses to know more than it is told; it never guesses.

use crate::domain::assessment::Finding;
use crate::domain::execution::{Attempt, Stage, Trigger};
use crate::domain::id::PathId;
use crate::domain::inventory::{Care, Credential, Seen, Sighting, Source};
use crate::domain::plan::Held;
use crate::domain::renewal::{Rule, Schedule};
use crate::domain::state::CredentialRecord;
use crate::domain::time::{Timestamp, human_span};

/// What the story is told from.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a> {
    /// What it should be.
    pub credential: &'a Credential,
    /// What was seen.
    pub sighting: &'a Sighting,
    /// What was done.
    pub record: &'a CredentialRecord,
    /// The attempt in flight.
    pub attempt: Option<&'a Attempt>,
    /// When it renews.
    pub schedule: Option<&'a Schedule>,
    /// What holds it now.
    pub held: Option<&'a Held>,
    /// What is wrong.
    pub findings: &'a [Finding],
    /// The paths that stand on it.
    pub paths: &'a [PathId],
    /// Now.
    pub now: Timestamp,
}

/// Tells the story: what there is, why, what is wrong, what comes next. One sentence an element.
#[must_use]
pub fn why(told: &Why<'_>) -> Vec<String> {
    let mut story = vec![what_it_is(told)];
    story.extend(what_there_is(told));
    story.extend(told.findings.iter().map(|f| format!("{} {}: {}.", f.code, f.severity.as_str(), f.text)));
    story.push(what_comes_next(told));
    story.extend(who_stands_on_it(told));
    story
}

fn what_it_is(told: &Why<'_>) -> String {
    let id = &told.credential.id;
    match &told.credential.care {
        Care::Managed(managed) => {
            let issuers: Vec<&str> = managed.issuers.iter().map(crate::domain::id::IssuerId::as_str).collect();
            format!("{id} is kept here for {}, issued by {}.", managed.names, issuers.join(", else "))
        }
        Care::Observed(Source::File { path, .. }) => format!("{id} is only watched: {path}."),
        Care::Observed(Source::Endpoints) => format!("{id} is only watched where it is served."),
    }
}

fn what_there_is(told: &Why<'_>) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(current) = &told.record.current {
        out.push(format!(
            "Serial {} was issued by {} because {}, and installed {}.",
            current.serial,
            current.issuer,
            because(&current.trigger),
            current.installed_at
        ));
        let left = told.now.until(current.validity.not_after);
        out.push(if left.is_zero() {
            format!("It expired {}.", current.validity.not_after)
        } else {
            format!("It is valid until {} ({} left).", current.validity.not_after, human_span(left))
        });
        if let Some(at) = current.verified_at.filter(|_| !told.credential.endpoints.is_empty()) {
            out.push(match told.credential.endpoints.len() {
                1 => format!("Its endpoint was seen to serve it {at}."),
                n => format!("All {n} endpoints were seen to serve it {at}."),
            });
        }
    } else if let Some(chain) = told.sighting.chain() {
        let leaf = &chain.leaf;
        out.push(format!("Serial {} from {} is valid until {}.", leaf.serial, leaf.issuer, leaf.validity.not_after));
    } else if told.credential.managed().is_some() {
        out.push("Nothing was issued for it yet.".into());
    }
    let stored = told.sighting.stored.as_ref();
    if let Some(seen) = stored.filter(|o| !matches!(o.seen, Seen::Present(_))) {
        out.push(format!("When it was last looked at ({}), no usable certificate was there.", seen.at));
    }
    out
}

fn because(trigger: &Trigger) -> String {
    match trigger {
        Trigger::First => "there was none".into(),
        Trigger::Changed(what) => format!("the configuration changed: {what}"),
        Trigger::Ari => "the CA suggested that time (RFC 9773)".into(),
        Trigger::Lifetime => "its predecessor's share of the lifetime had gone by".into(),
        Trigger::Emergency => "its predecessor had reached its emergency point".into(),
        Trigger::Repair(what) => format!("something had to be repaired: {what}"),
        Trigger::Manual(by) => format!("{by} asked for it"),
    }
}

fn what_comes_next(told: &Why<'_>) -> String {
    if let Some(attempt) = told.attempt {
        let what = match attempt.stage {
            Stage::Begun => "the order is being made",
            Stage::Ordered { .. } => "the CA is checking the names or issuing",
            Stage::Issued => "the certificate is there and has to be installed and seen to be served",
        };
        let wait = attempt.not_before.filter(|t| *t > told.now);
        let when = wait.map_or_else(String::new, |t| format!("; it goes on {t}"));
        let held = told.held.filter(|_| wait.is_some()).map_or_else(String::new, |h| format!(" ({})", h.reason.text()));
        return format!(
            "Next: an attempt at {} that began {} because {} is in flight: {what}{when}{held}.",
            attempt.issuer,
            attempt.began,
            because(&attempt.trigger)
        );
    }
    if told.credential.managed().is_none() {
        return "Next: it is looked at again at the next probe; it is renewed elsewhere.".into();
    }
    if let Some(held) = told.held.filter(|h| !matches!(h.reason, crate::domain::plan::HeldReason::NotDue(_))) {
        let until = held.until.map_or_else(String::new, |t| format!(" until {t}"));
        return format!("Next: nothing{until}: {}.", held.reason.text());
    }
    match told.schedule {
        None => "Next: it is ordered at the next turn.".into(),
        Some(schedule) => {
            let rule = match schedule.rule {
                Rule::Ari => "the time picked inside the CA's window",
                Rule::Lifetime => "its share of the lifetime, less a stable jitter",
                Rule::Emergency => "its emergency point, which comes before what the CA suggests",
            };
            let wait = human_span(told.now.until(schedule.renew_at));
            format!(
                "Next: it renews {} (in {wait}), {rule}; from {} on nothing but the CA's limits may hold it.",
                schedule.renew_at, schedule.emergency_at
            )
        }
    }
}

fn who_stands_on_it(told: &Why<'_>) -> Option<String> {
    if told.paths.is_empty() {
        return None;
    }
    let paths: Vec<&str> = told.paths.iter().map(PathId::as_str).collect();
    Some(format!("Approval paths that close without it: {}.", paths.join(", ")))
}
