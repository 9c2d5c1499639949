//! Leases and permits over HTTP: exactly 200 or 403, like the gate, and never one that a cache may keep.
//!
//! | question | answer |
//! |---|---|
//! | `GET /v1/lease/PATH?audience=A&nonce=N` | a lease: one line of text |
//! | `GET /v1/lease/PATH/stream?audience=A` | server-sent events: `lease` every 5 s; `closed` at the end, with the reasons |
//! | `POST /v1/permits` | a permit: one line of text |
//!
//! What is given is signed for its audience and proves itself, so whoever may ask a gate may ask for it; but a permit is an
//! entry of the audit log, and is not given over TCP.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::unfold;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::api::actor;
use super::gate::{self, Detail};
use super::problem::{self, Problem};
use super::server::{App, Door};
use super::{Web, model, views};
use crate::domain::gate::{UNKNOWN_PATH, Verdict};
use crate::domain::id::{AudienceId, PathId};
use crate::domain::key::Digest;
use crate::domain::lease::{Lease, NO_QUESTION, REFRESH, TOO_MANY_STREAMS, is_nonce};
use crate::domain::time::Boottime;
use crate::engine::Wanted;
use crate::ports::HostError;

/// So many streams at once: each is a connection that stays.
pub(super) const MOST_STREAMS: usize = 64;
/// A stream looks at its path this often, so that it says within a moment that the path is closed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A wish for a permit has some 200 bytes.
const LONGEST_WISH: usize = 4 * 1_024;
/// Its body is complete within this time.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// What to do about a question that is none.
const ASK_WELL: &str = "it is asked as docs/lease.md says";

/// Whether a URL's path is one of these.
pub(super) fn is_grant(path: &str) -> bool {
    path == "/v1/lease" || path.starts_with("/v1/lease/") || path == "/v1/permits"
}

/// The keys behind what is given.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/keys", get(keys))
        .route("/v1/keys/announce", post(announce))
        .route("/v1/keys/advance", post(advance))
}

/// Answers whatever [`is_grant`].
pub(super) async fn answer(app: &App, door: Door, host_is_ours: bool, request: Request<Incoming>) -> Response<Body> {
    let detail = if host_is_ours { Detail::Full } else { Detail::Codes };
    let path = request.uri().path().to_owned();
    let refuse = |asked: &str, text: &str| {
        let refusal = gate::refusal(&app.web, asked, NO_QUESTION, text.to_owned(), ASK_WELL);
        gate::respond(refusal, app.web.environment, detail)
    };
    if path == "/v1/permits" {
        if matches!(door, Door::Http { .. }) {
            return refuse("", "no permit is given over TCP; ask through the gate's socket");
        }
        if request.method() != Method::POST {
            return refuse("", "a permit is asked for with POST");
        }
        return match wanted(request).await {
            Err(text) => refuse("", &text),
            Ok(wanted) => match app.web.engine.permit(&wanted).await {
                Ok(permit) => given(&permit.text),
                Err(verdict) => denied(&app.web, &verdict, detail),
            },
        };
    }
    let asked = path.strip_prefix("/v1/lease").and_then(|p| p.strip_prefix('/')).unwrap_or_default();
    if request.method() != Method::GET {
        return refuse(asked, "a lease is asked for with GET");
    }
    let (asked, streamed) = asked.strip_suffix("/stream").map_or((asked, false), |path| (path, true));
    let Ok(id) = PathId::parse(asked) else {
        let text = "no approval path has such a name".to_owned();
        let refusal = gate::refusal(&app.web, asked, UNKNOWN_PATH, text, "the configuration names it");
        return gate::respond(refusal, app.web.environment, detail);
    };
    let query = request.uri().query().unwrap_or_default();
    let Some(audience) = value(query, "audience").and_then(|a| AudienceId::parse(a).ok()) else {
        return refuse(asked, "the question has no `audience`, or one that cannot be a name");
    };
    let nonce = value(query, "nonce");
    if nonce.is_some_and(|n| !is_nonce(n)) {
        return refuse(asked, "the nonce is not of 1 to 64 characters that need no escape in a URL");
    }
    let question = Question { path: id, audience, nonce: nonce.map(str::to_owned) };
    if streamed {
        return stream(app, question, detail);
    }
    match app.web.engine.lease(&question.path, &question.audience, question.nonce.as_deref()) {
        Ok(lease) => given(&lease.text),
        Err(verdict) => denied(&app.web, &verdict, detail),
    }
}

/// What is asked for.
struct Question {
    path: PathId,
    audience: AudienceId,
    nonce: Option<String>,
}

fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

async fn wanted(request: Request<Incoming>) -> Result<Wanted, String> {
    let body = timeout(BODY_DEADLINE, Limited::new(request.into_body(), LONGEST_WISH).collect()).await;
    let body = body.map_err(|_| format!("the body was not there within {} s", BODY_DEADLINE.as_secs()))?;
    let body = body.map_err(|e| format!("the body cannot be read: {e}"))?.to_bytes();
    // An array would be taken for a struct's fields in order.
    let fields: serde_json::Result<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&body);
    let wish: model::WantedPermit = fields
        .and_then(|fields| serde_json::from_value(fields.into()))
        .map_err(|e| format!("the body is not understood: {e}; expected {{\"path\", \"audience\", \"digest\"}}"))?;
    Ok(Wanted {
        path: PathId::parse(&wish.path).map_err(|e| format!("`path` {e}"))?,
        audience: AudienceId::parse(&wish.audience).map_err(|e| format!("`audience` {e}"))?,
        decision: Digest::parse(&wish.digest).ok_or("`digest` is not a SHA-256 in 64 hexadecimal digits")?,
    })
}

fn given(text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn denied(web: &Web, verdict: &Verdict, detail: Detail) -> Response<Body> {
    let answer = views::gate(verdict, web.engine.gate_since(&verdict.path), web.environment);
    gate::respond(answer, web.environment, detail)
}

fn stream(app: &App, question: Question, detail: Detail) -> Response<Body> {
    // One that is closed from the beginning is answered as any other question.
    let first = match app.web.engine.lease(&question.path, &question.audience, question.nonce.as_deref()) {
        Ok(lease) => lease,
        Err(verdict) => return denied(&app.web, &verdict, detail),
    };
    let Ok(place) = app.streams.clone().try_acquire_owned() else {
        let text = format!("{MOST_STREAMS} streams of leases are open");
        let asked = question.path.as_str();
        let refusal = gate::refusal(&app.web, asked, TOO_MANY_STREAMS, text, "one of them is closed");
        return gate::respond(refusal, app.web.environment, detail);
    };
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (web, stopped, next) = (app.web.clone(), app.stopped.clone(), next_after(&first.claims));
    let state = Streaming { web, question, tick, stopped, next, _place: place };
    let opening = Some(Step::Lease(first.text, state));
    let events = unfold(opening, |step| async {
        let (event, next) = match step? {
            Step::Lease(text, state) => (format!("event: lease\ndata: {text}\n\n"), Some(Step::Wait(state))),
            Step::Wait(state) => state.next().await,
        };
        Some((Ok::<_, Infallible>(Bytes::from(event)), next))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// When a stream gives the one after this: every five seconds, or when it ends, if that is earlier.
fn next_after(lease: &Lease) -> Boottime {
    lease.grant.boot_now.plus(REFRESH.min(lease.grant.life()))
}

/// What comes next on a stream.
enum Step {
    Lease(String, Streaming),
    Wait(Streaming),
}

/// A stream under way.
struct Streaming {
    web: Arc<Web>,
    question: Question,
    tick: Interval,
    stopped: tokio::sync::watch::Receiver<()>,
    /// When the next lease is due.
    next: Boottime,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    /// The next event: a lease when it is time, the end as soon as the path is closed or everything ends.
    async fn next(mut self) -> (String, Option<Step>) {
        loop {
            tokio::select! {
                // The sender says nothing; it is dropped.
                _ = self.stopped.changed() => return ("event: end\ndata: the guardian stops\n\n".to_owned(), None),
                _ = self.tick.tick() => {}
            }
            let Question { path, audience, nonce } = &self.question;
            let verdict = self.web.engine.gate(path);
            if !verdict.is_open() {
                return (self.closed(&verdict), None);
            }
            if self.web.clock.boottime() < self.next {
                continue;
            }
            match self.web.engine.lease(path, audience, nonce.as_deref()) {
                Ok(lease) => {
                    self.next = next_after(&lease.claims);
                    return (format!("event: lease\ndata: {}\n\n", lease.text), Some(Step::Wait(self)));
                }
                Err(verdict) => return (self.closed(&verdict), None),
            }
        }
    }

    fn closed(&self, verdict: &Verdict) -> String {
        let answer = views::gate(verdict, self.web.engine.gate_since(&verdict.path), self.web.environment);
        // On one line: JSON has no newline of its own.
        let data = serde_json::to_string(&answer).unwrap_or_default();
        format!("event: closed\ndata: {data}\n\n")
    }
}

async fn keys(State(app): State<Arc<App>>) -> Json<Vec<model::StatementKey>> {
    let keys = app.web.engine.statement_keys().into_iter();
    let key =
        |k: crate::ports::SigningKey| model::StatementKey { key: k.text, standing: k.standing.as_str().to_owned() };
    Json(keys.map(key).collect())
}

async fn announce(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
) -> Result<Json<model::StatementKey>, Problem> {
    let by = actor(door)?;
    let key = app.web.engine.announce_key(&by).await.map_err(|e| unchanged(&e))?;
    Ok(Json(model::StatementKey { key, standing: "announced".to_owned() }))
}

async fn advance(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
) -> Result<Json<model::StatementKey>, Problem> {
    let by = actor(door)?;
    let key = app.web.engine.advance_key(&by).await.map_err(|e| unchanged(&e))?;
    Ok(Json(model::StatementKey { key, standing: "in use".to_owned() }))
}

fn unchanged(error: &HostError) -> Problem {
    let hint = "keyward gate keys says which keys there are; the one in use stays";
    Problem::new(StatusCode::CONFLICT, problem::KEY_UNCHANGED, error.0.clone(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_these_urls_are_answered_here() {
        for yes in ["/v1/lease", "/v1/lease/", "/v1/lease/a", "/v1/lease/a/stream", "/v1/lease/a/b", "/v1/permits"] {
            assert!(is_grant(yes), "{yes}");
        }
        for no in ["/v1/leases", "/v1/permits/", "/v1/permit", "/v1/keys", "/v1/gate/lease"] {
            assert!(!is_grant(no), "{no}");
        }
    }

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        assert_eq!(value("xaudience=a&audience=b&audience=c", "audience"), Some("b"));
        assert_eq!(value("audience", "audience"), None);
        assert_eq!(value("", "nonce"), None);
    }
}
