//! One table from what a CA or the network did to what the engine must know: retry? when? whose fault?
//!
//! Decided here and worth knowing: CAA is [`IssuerErrorKind::Refused`] and the subject's fault (only a change of the
//! record mends it; a CAA lookup that fails is `dns`, so a validation failure). A rate limit is the issuer's fault in the
//! sense that another issuer may help. A 403 or 401 without a problem document is some box in between, not the account.

use core::time::Duration;

use super::messages::{Endpoint, Problem};
use super::text::clean;
use super::transport::{Answer, Failure};
use crate::domain::execution::Fault;
use crate::domain::id::IssuerId;
use crate::domain::name::Name;
use crate::ports::{IssuerError, IssuerErrorKind};

use IssuerErrorKind::{Account, OrderDead, Protocol, RateLimited, Refused, Replaces, Retry, ValidationFailed};

/// What a problem type means as the answer to a request, and as the reason why an order or authorization is dead.
struct Row {
    kind: &'static str,
    asked: (IssuerErrorKind, Fault),
    dead: (IssuerErrorKind, Fault),
}

const fn row(kind: &'static str, asked: (IssuerErrorKind, Fault), dead: (IssuerErrorKind, Fault)) -> Row {
    Row { kind, asked, dead }
}

const GONE: (IssuerErrorKind, Fault) = (OrderDead, Fault::Issuer);
const UNPROVEN: (IssuerErrorKind, Fault) = (ValidationFailed, Fault::Subject);
const NO: (IssuerErrorKind, Fault) = (Refused, Fault::Ours);
const PERSON: (IssuerErrorKind, Fault) = (Account, Fault::Ours);
const LATER: (IssuerErrorKind, Fault) = (Retry, Fault::Issuer);
const LIMIT: (IssuerErrorKind, Fault) = (RateLimited, Fault::Issuer);

/// Every type of RFC 8555 section 6.7, RFC 9773 section 7.4, the profiles draft, and Boulder's own.
const TABLE: [Row; 30] = [
    row("accountDoesNotExist", PERSON, PERSON),
    row("alreadyReplaced", NO, GONE),
    row("alreadyRevoked", NO, GONE),
    row("badCSR", NO, NO),
    row("badNonce", LATER, GONE),
    row("badPublicKey", NO, NO),
    row("badRevocationReason", NO, GONE),
    row("badSignatureAlgorithm", NO, GONE),
    row("caa", (Refused, Fault::Subject), (Refused, Fault::Subject)),
    row("compound", NO, UNPROVEN),
    row("conflict", LATER, GONE),
    row("connection", UNPROVEN, UNPROVEN),
    row("dns", UNPROVEN, UNPROVEN),
    row("externalAccountRequired", PERSON, PERSON),
    row("incorrectResponse", UNPROVEN, UNPROVEN),
    row("invalidContact", PERSON, PERSON),
    row("invalidProfile", NO, NO),
    row("malformed", NO, UNPROVEN),
    row("orderNotReady", LATER, GONE),
    row("rateLimited", LIMIT, LIMIT),
    row("rejectedIdentifier", NO, NO),
    row("serverInternal", LATER, GONE),
    row("tls", UNPROVEN, UNPROVEN),
    row("unauthorized", PERSON, UNPROVEN),
    row("unknownDelegation", NO, GONE),
    row("unknownHost", UNPROVEN, UNPROVEN),
    row("unsupportedContact", PERSON, PERSON),
    row("unsupportedIdentifier", NO, NO),
    row("userActionRequired", PERSON, PERSON),
    row("autoRenewalCanceled", NO, GONE),
];

/// The problem types that have a metric of their own; whatever else a CA makes up is `other`.
pub(super) fn known(problem: &str) -> &'static str {
    TABLE.iter().find(|r| r.kind == problem).map_or("other", |r| r.kind)
}

/// Whether the request carried `replaces`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    Nothing,
    Replaces,
}

/// An error of our own making: one sentence.
pub(super) fn error(kind: IssuerErrorKind, fault: Fault, text: impl Into<String>) -> IssuerError {
    let text = clean(&text.into(), LONGEST_TEXT);
    IssuerError { kind, fault, text, problem: None, subproblems: Vec::new(), retry_after: None, link: None }
}

/// The CA broke the protocol.
pub(super) fn broken(issuer: &IssuerId, text: impl core::fmt::Display) -> IssuerError {
    error(Protocol, Fault::Issuer, format!("issuer {issuer} broke the protocol: {text}"))
}

/// Long enough for a problem's detail with Let's Encrypt's unpause link of about 500 characters.
const LONGEST_TEXT: usize = 1_536;
/// As many as an order may have names.
const MOST_SUBPROBLEMS: usize = 100;

/// There was no usable answer.
pub(super) fn failed(issuer: &IssuerId, endpoint: Endpoint, failure: &Failure) -> IssuerError {
    let (kind, fault) = match failure {
        Failure::Connect(_) | Failure::Timeout(_) | Failure::Broken(_) => (Retry, Fault::Network),
        Failure::Tls(_) | Failure::Slow(_) => (Retry, Fault::Issuer),
        Failure::Oversize(_) => (Protocol, Fault::Issuer),
        Failure::Busy(..) => (Retry, Fault::Ours),
        Failure::Local(_) => (Retry, Fault::Host),
    };
    let mut out = error(kind, fault, format!("issuer {issuer}, {}: {failure}", endpoint.as_str()));
    if let Failure::Busy(_, wait) = failure {
        out.retry_after = Some(*wait);
    }
    out
}

/// The answer was a refusal: any status that is not 2xx.
pub(super) fn refused(issuer: &IssuerId, endpoint: Endpoint, answer: &Answer, carried: Carried) -> IssuerError {
    let status = answer.status;
    let problem = answer.body.as_deref().ok().and_then(Problem::parse);
    let (kind, fault) = decide(endpoint, status, problem.as_ref(), carried);
    let said = match &problem {
        Some(p) => sentence(p),
        None if (300..400).contains(&status) => "a redirect, which is never followed".to_owned(),
        None => "no problem document with it".to_owned(),
    };
    let mut out =
        error(kind, fault, format!("issuer {issuer} answered {} with status {status}: {said}", endpoint.as_str()));
    out.retry_after = answer.headers.retry_after;
    if let Some(p) = problem {
        out.link = link(&p, answer.headers.link("terms-of-service"));
        out.problem = Some(clean(p.short_kind(), 64)).filter(|k| !k.is_empty());
        out.subproblems = subproblems(&p);
    }
    out
}

/// Why an order or an authorization is dead.
pub(super) fn dead(issuer: &IssuerId, problem: &Problem) -> IssuerError {
    let find = |p: &Problem| TABLE.iter().find(|r| r.kind == p.short_kind()).map_or(GONE, |r| r.dead);
    let (kind, fault) = by_subproblems(problem, find(problem), find);
    let mut out = error(kind, fault, format!("issuer {issuer}: the order is invalid: {}", sentence(problem)));
    out.problem = Some(clean(problem.short_kind(), 64)).filter(|k| !k.is_empty());
    out.subproblems = subproblems(problem);
    out.link = link(problem, None);
    out
}

fn decide(endpoint: Endpoint, status: u16, problem: Option<&Problem>, carried: Carried) -> (IssuerErrorKind, Fault) {
    let by_status = match status {
        429 => LIMIT,
        408 | 425 => (Retry, Fault::Network),
        500.. => LATER,
        404 | 410 if endpoint.is_of_an_order() => GONE,
        // A box in between, or a CA half configured: not the account.
        401 | 403 | 404 | 407 if problem.is_none() => LATER,
        400.. => NO,
        // 1xx never gets here, 2xx is no refusal, 3xx is never followed.
        _ => return (Protocol, Fault::Issuer),
    };
    let Some(problem) = problem else { return by_status };
    let kind = problem.short_kind();
    if carried == Carried::Replaces && status < 500 && concerns_replaces(problem) {
        return (Replaces, Fault::Ours);
    }
    let Some(row) = TABLE.iter().find(|r| r.kind == kind) else { return by_status };
    match kind {
        // Says nothing of its own: the status knows better whether it passes or the order is gone.
        "malformed" => by_status_or_sub(problem, by_status),
        "unauthorized" if !problem.subproblems.is_empty() => by_subproblems(problem, UNPROVEN, as_validation),
        // Boulder's words for authorizations that ran out before finalize; a new order asks for new ones.
        "unauthorized" if endpoint == Endpoint::Finalize && !speaks_of_the_account(problem) => GONE,
        _ => by_subproblems(problem, row.asked, as_asked),
    }
}

fn by_status_or_sub(problem: &Problem, by_status: (IssuerErrorKind, Fault)) -> (IssuerErrorKind, Fault) {
    by_subproblems(problem, by_status, as_asked)
}

fn as_asked(problem: &Problem) -> (IssuerErrorKind, Fault) {
    // About one identifier, "unauthorized" is a failed proof, not the account.
    if problem.short_kind() == "unauthorized" {
        return UNPROVEN;
    }
    TABLE.iter().find(|r| r.kind == problem.short_kind()).map_or(NO, |r| r.asked)
}

fn as_validation(problem: &Problem) -> (IssuerErrorKind, Fault) {
    TABLE.iter().find(|r| r.kind == problem.short_kind()).map_or(UNPROVEN, |r| r.dead)
}

/// `compound` and `malformed` stand for their parts: what all parts agree on, else a failed validation if one is among
/// them. Every other type speaks for itself.
fn by_subproblems(
    problem: &Problem,
    own: (IssuerErrorKind, Fault),
    each: impl Fn(&Problem) -> (IssuerErrorKind, Fault),
) -> (IssuerErrorKind, Fault) {
    if !matches!(problem.short_kind(), "compound" | "malformed" | "unauthorized" | "") {
        return own;
    }
    let mut parts = problem.subproblems.iter().take(MOST_SUBPROBLEMS).map(each);
    let Some(first) = parts.next() else { return own };
    let rest: Vec<_> = parts.collect();
    if rest.iter().all(|p| *p == first) {
        first
    } else if first == UNPROVEN || rest.contains(&UNPROVEN) {
        UNPROVEN
    } else {
        own
    }
}

/// Boulder, Pebble, step-ca, Sectigo and Google all word it differently; every wording seen names the field, the
/// replacement or the CertID. Limits, moods of the server and the account's own troubles are something else.
fn concerns_replaces(problem: &Problem) -> bool {
    let other = ["rateLimited", "serverInternal", "badNonce", "accountDoesNotExist", "userActionRequired"];
    if other.contains(&problem.short_kind()) {
        return false;
    }
    problem.short_kind() == "alreadyReplaced"
        || core::iter::once(problem).chain(problem.subproblems.iter().take(MOST_SUBPROBLEMS)).any(|p| {
            let said = p.said().to_ascii_lowercase();
            p.short_kind() == "alreadyReplaced"
                || ["replac", "certid", "cert id", "renewal info"].iter().any(|word| said.contains(word))
        })
}

fn speaks_of_the_account(problem: &Problem) -> bool {
    let said = problem.said().to_ascii_lowercase();
    ["deactivated", "account is", "account has", "suspended"].iter().any(|word| said.contains(word))
}

/// Type and words, as a clause.
fn sentence(problem: &Problem) -> String {
    match (problem.short_kind(), problem.said()) {
        ("", "") => "no reason given".to_owned(),
        ("", said) => clean(said, LONGEST_TEXT),
        (kind, "") => clean(kind, 64),
        (kind, said) => format!("{}: {}", clean(kind, 64), clean(said, LONGEST_TEXT)),
    }
}

fn subproblems(problem: &Problem) -> Vec<(Name, String, String)> {
    let one = |p: &Problem| {
        let name = p.identifier.as_ref()?.name()?;
        Some((name, clean(p.short_kind(), 64), clean(p.said(), 512)))
    };
    problem.subproblems.iter().filter_map(one).take(MOST_SUBPROBLEMS).collect()
}

/// The page that a person must visit: new terms, or Let's Encrypt's way out of a pause, whose address stands in the text.
fn link(problem: &Problem, terms: Option<&str>) -> Option<String> {
    let found = if problem.short_kind() == "userActionRequired" {
        terms.or(problem.instance.as_deref()).map(str::to_owned)
    } else {
        None
    };
    let unpause = || {
        let said = problem.said();
        let from = said.match_indices("https://").map(|(at, _)| said.split_at(at).1);
        let urls =
            from.map(|u| u.split(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>')).next().unwrap_or(u));
        urls.map(|u| u.trim_end_matches(['.', ',', ')', ';', ':', '\'']))
            .find(|u| u.contains("unpause"))
            .map(str::to_owned)
    };
    // As the URL standard writes it: what a CA puts there besides, control characters say, is percent-encoded.
    let link = found.or_else(unpause).and_then(|u| url::Url::parse(&u).ok()).filter(|u| u.scheme() == "https");
    link.map(String::from).filter(|u| u.len() <= 2_048)
}

/// A wait that is only sensible as a number of seconds in evidence.
pub(super) fn seconds(wait: Option<Duration>) -> Option<u64> {
    wait.map(|w| w.as_secs())
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
