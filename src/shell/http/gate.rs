//! The gate's answer: exactly 200 or 403, and never one that a cache may keep.
//!
//! Proxies differ in what they make of anything else: nginx lets 204 through, Envoy sends 302 to the client. So whatever
//! comes for a URL below `/v1/gate/`, however malformed, by whatever method, gets one of these two.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::{Web, model, views};
use crate::domain::gate::{Reason, STALE, UNKNOWN_PATH, Verdict};
use crate::domain::id::PathId;
use crate::domain::inventory::Environment;
use crate::domain::lease::is_nonce;
use crate::ports::Count;

/// The stable codes of the reasons, joined by commas.
const REASONS: &str = "keyward-reasons";
/// What was answered to a nonce, signed: `keyward-check-v1` of docs/lease.md.
const PROOF: &str = "keyward-proof";
/// Says so when the answer is about nothing real.
pub(super) const ENVIRONMENT: &str = "keyward-environment";
/// What is echoed of a path that is none.
const LONGEST_ECHO: usize = 80;

/// How much an asker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// Codes only: whoever named a foreign host may be a web page that reached us by DNS rebinding.
    Codes,
}

/// Whether a URL's path is the gate's: everything that begins like one, but the list of gates.
pub(super) fn is_gate(path: &str) -> bool {
    path.starts_with("/v1/gate") && path != "/v1/gates"
}

/// Answers a URL below `/v1/gate`.
pub(super) fn answer(web: &Web, method: &Method, path: &str, query: Option<&str>, detail: Detail) -> Response<Body> {
    let asked = path.strip_prefix("/v1/gate").and_then(|p| p.strip_prefix('/')).unwrap_or_default();
    let known = PathId::parse(asked).ok().filter(|_| method == Method::GET);
    let nonce = query.and_then(nonce);
    let mut proof = None;
    let (answer, counted) = match known {
        Some(id) => {
            let verdict = web.engine.gate(&id);
            // Whoever sends a nonce wants to know that no other process answers in our place.
            proof = nonce.as_deref().and_then(|n| web.engine.proof(&verdict, Some(n)).ok());
            let configured = !verdict.reasons.iter().any(|r| r.code == UNKNOWN_PATH);
            (views::gate(&verdict, web.engine.gate_since(&id), web.environment), configured.then_some(id))
        }
        None => {
            let text = if method == Method::GET {
                "no approval path has such a name".to_owned()
            } else {
                "a gate is asked with GET".to_owned()
            };
            (refusal(web, asked, UNKNOWN_PATH, text, "the configuration names it, and it is asked for by GET"), None)
        }
    };
    // Names that nobody configured would be an unbounded set of series.
    if let Some(path) = counted.or_else(|| PathId::parse("unknown").ok()) {
        web.meter.count(Count::Gate { path, decision: if answer.open { "open" } else { "closed" } });
    }
    let mut response = respond(model::Gate { nonce, ..answer }, web.environment, detail);
    if let Some(value) = proof.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(PROOF, value);
    }
    response
}

/// What everybody gets while too many connections are open.
pub(super) fn overloaded(web: &Web, path: &str) -> Response<Body> {
    let asked = path.strip_prefix("/v1/gate/").unwrap_or_default();
    let text = "too many connections are open; nobody has time to look".to_owned();
    let answer = refusal(web, asked, STALE, text, "connections are closed again");
    respond(answer, web.environment, Detail::Full)
}

pub(super) fn refusal(web: &Web, asked: &str, code: &'static str, text: String, reopens: &'static str) -> model::Gate {
    let now = web.clock.now();
    let reason = Reason { code, credential: None, text, reopens };
    let verdict = PathId::parse("unknown").ok().map(|path| Verdict::closed(&path, reason, now, web.clock.boottime()));
    let path = asked.chars().filter(|c| !c.is_control()).take(LONGEST_ECHO).collect();
    match verdict {
        Some(verdict) => model::Gate { path, ..views::gate(&verdict, None, web.environment) },
        // "unknown" is a well-formed name.
        None => model::Gate {
            path,
            open: false,
            reasons: Vec::new(),
            since: None,
            until: None,
            weakest: None,
            evaluated_at: now.to_string(),
            environment: web.environment.as_str().to_owned(),
            nonce: None,
        },
    }
}

pub(super) fn respond(mut answer: model::Gate, environment: Environment, detail: Detail) -> Response<Body> {
    let codes: Vec<&str> = answer.reasons.iter().map(|r| r.code.as_str()).collect();
    let codes = dedup(codes).join(",");
    if detail == Detail::Codes {
        answer.weakest = None;
        for reason in &mut answer.reasons {
            reason.credential = None;
            reason.text = format!("see `keyward explain {}`; ask with a loopback Host header for more", reason.code);
        }
    }
    // A body that cannot be written would be no reason to open: the status decides.
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = if answer.open { StatusCode::OK } else { StatusCode::FORBIDDEN };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    mark_staging(headers, environment);
    if let Some(value) = HeaderValue::try_from(codes).ok().filter(|v| !v.is_empty()) {
        headers.insert(REASONS, value);
    }
    response
}

/// Every answer of a dry run says that it is one.
pub(super) fn mark_staging(headers: &mut HeaderMap, environment: Environment) {
    if environment == Environment::Staging {
        headers.insert(ENVIRONMENT, HeaderValue::from_static("staging"));
    }
}

fn dedup(mut codes: Vec<&str>) -> Vec<&str> {
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The caller's nonce: 1–64 characters of the URL-safe base64 alphabet, or none.
fn nonce(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("nonce="))?;
    is_nonce(value).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_url_safe_nonce_is_echoed() {
        assert_eq!(nonce("nonce=aB3-_.~"), Some("aB3-_.~".to_owned()));
        assert_eq!(nonce("x=1&nonce=q"), Some("q".to_owned()));
        for bad in ["", "nonce=", "nonce=a%0d%0ab", "nonce=a b", "nonce=\"", &format!("nonce={}", "a".repeat(65))] {
            assert_eq!(nonce(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_gate_has_its_own_urls_and_no_others() {
        for yes in ["/v1/gate", "/v1/gate/", "/v1/gate/a", "/v1/gate/a/b", "/v1/gate//", "/v1/gate%2fa", "/v1/gates/"] {
            assert!(is_gate(yes), "{yes}");
        }
        for no in ["/v1/gates", "/", "/v2/gate/a"] {
            assert!(!is_gate(no), "{no}");
        }
    }
}
