//! The gate's answer: exactly 200 or 403, and never one that a cache may keep.
//!
//! Proxies differ in what they make of anything else: nginx lets 204 through, Envoy sends 302 to the client. So whatever
//! comes for a URL below `/v1/gate/`, however malformed, by whatever method, gets one of these two.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::ready::Ready;
use super::shield::MARK;
use super::{Web, model, views};
use crate::domain::gate::{Reason, STALE, UNKNOWN_PATH, Verdict};
use crate::domain::guard::Asked;
use crate::domain::id::PathId;
use crate::domain::inventory::Environment;
use crate::domain::lease::is_nonce;
use crate::engine::Told;
use crate::ports::Tick;

/// The stable codes of the reasons, joined by commas.
pub(super) const REASONS: &str = "keyward-reasons";
/// The kind of the request, where that lets it through a closed path.
const KIND: &str = "keyward-kind";
/// What was answered to a nonce, signed: `keyward-check-v1` of docs/lease.md.
const PROOF: &str = "keyward-proof";
/// Says so when the answer is about nothing real.
pub(super) const ENVIRONMENT: &str = "keyward-environment";
/// What is echoed of a path that is none.
const LONGEST_ECHO: usize = 80;

/// How much an asker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Detail {
    /// Codes only: whoever named a foreign host may be a web page that reached us by DNS rebinding, and a proxy may hand
    /// the answer on to strangers.
    Codes,
    /// Everything.
    Full,
}

/// Whether a URL's path is the gate's: everything that begins like one, but the list of gates.
pub(super) fn is_gate(path: &str) -> bool {
    path.starts_with("/v1/gate") && path != "/v1/gates"
}

/// A question to the gate.
struct Question<'a> {
    /// The path's name, as it was written.
    name: &'a str,
    /// The request that it is about, if the proxy told it.
    asked: Option<Asked<'a>>,
    nonce: Option<String>,
    /// Whether the answer may reach strangers: Envoy and Traefik hand on what the gate said.
    detail: Detail,
}

/// Answers a URL below `/v1/gate`.
pub(super) fn answer<B>(web: &Web, ready: &Ready, request: &Request<B>, detail: Detail) -> Response<Answer> {
    let question = match question(request) {
        Ok(question) => question,
        Err(name) => {
            count_unknown(web);
            let text = "a gate is asked with GET".to_owned();
            let reopens = "the configuration names it, and it is asked for by GET";
            return whole(refusal(web, name, UNKNOWN_PATH, text, reopens), web.environment, detail);
        }
    };
    let detail = detail.min(question.detail);
    let Question { name, asked, nonce, .. } = question;
    let id = match ready.path(name).map_or_else(|| path(web, name), Ok) {
        Ok(id) => id,
        Err(refusal) => return whole(model::Gate { nonce, ..*refusal }, web.environment, detail),
    };
    decide(web, &id, asked.as_ref(), |decided| {
        if nonce.is_none() && decided.kind.is_none() {
            return ready.answer(web, decided, detail);
        }
        decided.count(web);
        let Some(nonce) = &nonce else { return whole(decided.answer(web), web.environment, detail) };
        // Whoever sends a nonce wants to know that no other process answers in our place.
        let proof = web.engine.proof(decided.told.verdict, Some(nonce)).ok();
        let answer = model::Gate { nonce: Some(nonce.clone()), ..decided.answer(web) };
        let mut response = whole(answer, web.environment, detail);
        if let Some(value) = proof.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(PROOF, value);
        }
        response
    })
}

/// `/v1/gate/PATH?nonce=…&told=…` by GET, or `/v1/gate/PATH/the/original/target` by the original method: so Envoy asks
/// over HTTP. Then all but PATH comes from the client, its query too.
///
/// # Errors
/// The name in a question that is none.
fn question<B>(request: &Request<B>) -> Result<Question<'_>, &str> {
    let (path, query) = (request.uri().path(), request.uri().query());
    let rest = path.strip_prefix("/v1/gate").and_then(|p| p.strip_prefix('/')).unwrap_or_default();
    if let Some((name, _)) = rest.split_once('/') {
        let whole = request.uri().path_and_query().map_or(path, axum::http::uri::PathAndQuery::as_str);
        let target = whole.get(path.len().saturating_sub(rest.len()).saturating_add(name.len())..).unwrap_or_default();
        let asked = Some(Asked { method: request.method().as_str(), target });
        return Ok(Question { name, asked, nonce: None, detail: Detail::Codes });
    }
    if request.method() != Method::GET {
        return Err(rest);
    }
    let asked = query.and_then(|query| told(query, request.headers()));
    let by_proxy = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("told=")));
    let detail = if by_proxy { Detail::Codes } else { Detail::Full };
    Ok(Question { name: rest, asked, nonce: query.and_then(nonce), detail })
}

/// The original request, from the headers that the proxy's own configuration vouches for by `told=…` in the URL that it
/// asks. Without it anybody could have set them. Two of a kind tell nothing.
fn told<'a>(query: &str, headers: &'a HeaderMap) -> Option<Asked<'a>> {
    let mut said = query.split('&').filter_map(|pair| pair.strip_prefix("told="));
    let (method, target) = match (said.next()?, said.next()) {
        ("original", None) => ("x-original-method", "x-original-uri"),
        ("forwarded", None) => ("x-forwarded-method", "x-forwarded-uri"),
        _ => return None,
    };
    let only = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let (Some(first), None) = (all.next(), all.next()) else { return None };
        first.to_str().ok()
    };
    Some(Asked { method: only(method)?, target: only(target)? })
}

/// What is decided over a question.
pub(super) struct Decided<'a> {
    id: &'a PathId,
    pub(super) told: Told<'a>,
    /// The kind of the request, if it is let through although the path is closed.
    kind: Option<String>,
}

impl Decided<'_> {
    /// Whether the request may go on: the path is open, or does not guard such a request.
    pub(super) fn lets_through(&self) -> bool {
        self.told.verdict.is_open() || self.kind.is_some()
    }

    /// What counts such answers.
    pub(super) fn tick(&self, web: &Web) -> Option<Tick> {
        let decision = match (self.told.verdict.is_open(), &self.kind) {
            (true, _) => "open",
            (false, Some(_)) => "reachable",
            (false, None) => "closed",
        };
        let known = self.told.path.is_some();
        if known { Some(web.meter.gate(self.id, decision)) } else { unknown(web) }
    }

    /// Counts it.
    pub(super) fn count(&self, web: &Web) {
        if let Some(tick) = self.tick(web) {
            tick();
        }
    }

    /// All that can be said about it.
    pub(super) fn answer(&self, web: &Web) -> model::Gate {
        model::Gate { kind: self.kind.clone(), ..views::gate(self.told.verdict, self.told.since, web.environment) }
    }
}

/// The path of a name.
///
/// # Errors
/// The answer to a name that no path can have; it is counted.
pub(super) fn path(web: &Web, name: &str) -> Result<PathId, Box<model::Gate>> {
    PathId::parse(name).map_err(|_| {
        count_unknown(web);
        let text = "no approval path has such a name".to_owned();
        Box::new(refusal(web, name, UNKNOWN_PATH, text, "the configuration names it"))
    })
}

/// Decides over a question about a path, and makes of it what `say` says, which counts it too.
pub(super) fn decide<T>(web: &Web, id: &PathId, asked: Option<&Asked<'_>>, say: impl FnOnce(&Decided<'_>) -> T) -> T {
    web.engine.at_gate(id, |told| {
        let guard = told.path.filter(|_| !told.verdict.is_open()).map(|path| &path.guard);
        let kind = asked.zip(guard).and_then(|(asked, guard)| Some(guard.reachable(asked)?.name.to_string()));
        say(&Decided { id, told: *told, kind })
    })
}

/// Counts an answer about no known path.
pub(super) fn count_unknown(web: &Web) {
    if let Some(tick) = unknown(web) {
        tick();
    }
}

/// Names that nobody configured would be an unbounded set of series.
fn unknown(web: &Web) -> Option<Tick> {
    PathId::parse("unknown").ok().map(|path| web.meter.gate(&path, "closed"))
}

/// The stable codes of the reasons, joined by commas.
pub(super) fn codes(answer: &model::Gate) -> String {
    let mut codes: Vec<&str> = answer.reasons.iter().map(|r| r.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes.join(",")
}

/// What everybody gets while too many connections are open.
pub(super) fn overloaded(web: &Web, path: &str) -> Response<Body> {
    let asked = path.strip_prefix("/v1/gate/").unwrap_or_default();
    respond(busy(web, asked), web.environment, Detail::Full)
}

/// A closed gate, because nobody looked.
pub(super) fn busy(web: &Web, asked: &str) -> model::Gate {
    let text = "too many connections are open; nobody has time to look".to_owned();
    refusal(web, asked, STALE, text, "connections are closed again")
}

/// A closed gate for a question that is about no known path.
pub(super) fn refusal(web: &Web, asked: &str, code: &'static str, text: String, reopens: &'static str) -> model::Gate {
    let now = web.clock.now();
    let reason = Reason { code, credential: None, text, reopens };
    let verdict = PathId::parse("unknown").ok().map(|path| Verdict::closed(&path, reason, now, web.clock.boottime()));
    let path = asked.chars().filter(|c| !c.is_control()).take(LONGEST_ECHO).collect();
    match verdict {
        Some(verdict) => model::Gate { path, ..views::gate(&verdict, None, web.environment) },
        // "unknown" is a well-formed name.
        None => model::Gate {
            freezes: Vec::new(),
            path,
            open: false,
            reasons: Vec::new(),
            warnings: Vec::new(),
            since: None,
            until: None,
            weakest: None,
            evaluated_at: now.to_string(),
            environment: web.environment.as_str().to_owned(),
            kind: None,
            nonce: None,
        },
    }
}

pub(super) fn respond(answer: model::Gate, environment: Environment, detail: Detail) -> Response<Body> {
    made(answer, environment, detail).map(Body::from)
}

/// An answer of one piece: nothing is to be found out about it behind a pointer.
pub(super) type Answer = Full<Bytes>;

fn whole(answer: model::Gate, environment: Environment, detail: Detail) -> Response<Answer> {
    made(answer, environment, detail).map(Full::new)
}

/// The whole answer.
pub(super) fn made(mut answer: model::Gate, environment: Environment, detail: Detail) -> Response<Bytes> {
    let codes = codes(&answer);
    if detail == Detail::Codes {
        answer = codes_only(answer);
    }
    // A body that cannot be written would be no reason to open: the status decides.
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    let lets_through = answer.open || answer.kind.is_some();
    *response.status_mut() = if lets_through { StatusCode::OK } else { StatusCode::FORBIDDEN };
    finish(&mut response, environment);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(value) = HeaderValue::try_from(codes).ok().filter(|v| !v.is_empty()) {
        headers.insert(REASONS, value);
    }
    if let Some(value) = answer.kind.and_then(|kind| HeaderValue::try_from(kind).ok()) {
        headers.insert(KIND, value);
    }
    response
}

/// The answer without what only this machine should know.
pub(super) fn codes_only(mut answer: model::Gate) -> model::Gate {
    answer.weakest = None;
    answer.warnings.clear();
    for reason in &mut answer.reasons {
        reason.credential = None;
        reason.text = format!("see `keyward explain {}`; ask with a loopback Host header for more", reason.code);
    }
    answer
}

/// What every answer has, whatever it is about; our mark first, where [`Shield`](super::shield::Shield) looks for it.
pub(super) fn finish<B>(response: &mut Response<B>, environment: Environment) {
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(MARK.0), HeaderValue::from_static(MARK.1));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    // Every answer of a dry run says that it is one.
    if environment == Environment::Staging {
        headers.insert(ENVIRONMENT, HeaderValue::from_static("staging"));
    }
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
