//! The API: what there is, what a renewal would do, and the few things that a person may start.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::{self, Problem};
use super::server::{App, Door};
use super::{NotReloaded, heavy, metrics, model, views};
use crate::domain::audit::{Target, TargetKind};
use crate::domain::id::{CredentialId, IssuerId};
use crate::domain::policy::Verdict;
use crate::domain::story;
use crate::engine::view::CredentialView;
use crate::engine::{AUDIT_UNAVAILABLE, Command, ISSUER_FROZEN, Refusal};
use crate::ports::StoreError;
use crate::shell::texts;

type Answer<T> = Result<T, Problem>;
/// A body as it came.
pub(super) type Sent = Result<Bytes, BytesRejection>;
type Shared = State<Arc<App>>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(scrape))
        .route("/v1/status", get(status))
        .route("/v1/gates", get(gates))
        .route("/v1/links", get(super::links::list))
        .route("/v1/workloads", get(super::workloads::list))
        .route("/v1/explanations/{path}", get(super::gatekeeping::explanation))
        .route("/v1/paths/{path}/reopen", post(super::gatekeeping::reopen))
        .route("/v1/keys/{spki}/compromised", post(super::gatekeeping::compromised))
        .route("/v1/credentials", get(credentials))
        .route("/v1/credentials/{id}", get(credential))
        .route("/v1/credentials/{id}/why", get(why))
        .route("/v1/credentials/{id}/history", get(history))
        .route("/v1/credentials/{id}/renew", post(renew))
        .route("/v1/clock/accept", post(accept_clock))
        .route("/v1/issuers/{id}/rollover", post(rollover))
        .route("/v1/scan", post(scan))
        .route("/v1/reload", post(reload))
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
}

async fn nothing_here() -> Problem {
    let hint = "/, /audit, /metrics, /healthz, /v1/status, /v1/credentials, /v1/gates, /v1/gate/PATH, /v1/freezes, /v1/graph, /v1/links, /v1/workloads, /v1/audit/entries";
    Problem::new(StatusCode::NOT_FOUND, problem::NOTHING_HERE, "there is nothing at this address", hint)
}

async fn wrong_method() -> Problem {
    let text = "this address is not asked by this method";
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        problem::BAD_REQUEST,
        text,
        "GET looks, POST starts something, DELETE ends a freeze",
    )
}

/// 200 while the loop turns: for supervisors, not for proxies. A closed gate is healthy, and so is a sealed guardian: it
/// does all that it may, and a restart would end no seal.
async fn healthz(State(app): Shared) -> Response<Body> {
    if let Some(seal) = app.web.engine.seal() {
        return (StatusCode::OK, format!("sealed\n{seal}\n")).into_response();
    }
    let (status, text) = if app.web.engine.overview().alive {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n")
    };
    (status, text).into_response()
}

async fn scrape(State(app): Shared) -> Response<Body> {
    let turn = app.turn().await;
    heavy::answer(turn, "text/plain; version=0.0.4; charset=utf-8", metrics::text(&app.web).await)
}

async fn status(State(app): Shared) -> Response<Body> {
    let turn = app.turn().await;
    heavy::json(turn, &views::status(&app.web))
}

async fn gates(State(app): Shared) -> Json<Vec<model::Gate>> {
    Json(views::gates(&app.web))
}

async fn credentials(State(app): Shared) -> Response<Body> {
    let turn = app.turn().await;
    heavy::json(turn, &views::credentials(&app.web))
}

async fn credential(State(app): Shared, Path(id): Path<String>) -> Answer<Json<model::Detail>> {
    let view = find(&app, &id)?;
    Ok(Json(views::detail(&view, app.web.clock.now(), app.web.environment)))
}

async fn why(State(app): Shared, Path(id): Path<String>) -> Answer<Json<model::Why>> {
    let view = find(&app, &id)?;
    let sentences = story::why(&story::Why {
        credential: &view.credential,
        sighting: &view.sighting,
        record: &view.record,
        attempt: view.attempt.as_ref(),
        schedule: view.schedule.as_ref(),
        held: view.held.as_ref(),
        findings: &view.findings,
        paths: &view.paths,
        now: app.web.clock.now(),
    });
    Ok(Json(model::Why { sentences }))
}

fn find(app: &App, id: &str) -> Answer<CredentialView> {
    let parsed = CredentialId::parse(id).ok();
    parsed.and_then(|id| app.web.engine.credential(&id)).ok_or_else(|| {
        let shown: String = id.chars().filter(|c| !c.is_control()).take(80).collect();
        let text = format!("there is no credential {shown:?}");
        Problem::new(StatusCode::NOT_FOUND, problem::NO_CREDENTIAL, text, "see them all: keyward cert list")
    })
}

#[derive(Debug, Deserialize)]
struct Paging {
    #[serde(default = "Paging::usual")]
    limit: usize,
}

impl Paging {
    fn usual() -> usize {
        50
    }
}

/// Entries of at most 60 KiB each: 12 MiB in the worst case, a few hundred KiB in practice.
const MOST_ENTRIES: usize = 200;

async fn history(State(app): Shared, Path(id): Path<String>, Query(paging): Query<Paging>) -> Answer<Response<Body>> {
    let turn = app.turn().await;
    let view = find(&app, &id)?;
    let target = Target::new(TargetKind::Credential, view.credential.id.as_str()).key();
    let limit = paging.limit.clamp(1, MOST_ENTRIES);
    let entries = app.web.store.entries(Some(target), limit).await.map_err(unreadable)?;
    let bodies: Vec<serde_json::Value> =
        entries.iter().map(|e| serde_json::from_slice(&e.bytes).unwrap_or(serde_json::Value::Null)).collect();
    let texts = texts::of(&*app.web.store, &bodies).await.map_err(unreadable)?;
    let entry = |((e, body), texts): ((&crate::ports::StoredEntry, &serde_json::Value), &texts::Texts)| {
        serde_json::json!({
            "sequence": e.sequence.to_string(),
            "leaf": e.leaf.to_string(),
            "entry": body,
            "texts": texts,
        })
    };
    Ok(heavy::json(turn, &entries.iter().zip(&bodies).zip(&texts).map(entry).collect::<Vec<_>>()))
}

fn unreadable(error: StoreError) -> Problem {
    let hint = "see the log of the daemon, and the disk of the state directory";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, problem::UNREADABLE, error.to_string(), hint)
}

/// Who asks, for the audit entry; only the admin socket's peer has a name.
pub(super) fn actor(door: Door) -> Answer<Arc<str>> {
    match door {
        Door::Admin { uid } => Ok(Arc::from(format!("uid:{uid}"))),
        Door::Http { .. } | Door::Gate | Door::Tls => {
            let text = "nothing is started through this door";
            Err(Problem::new(StatusCode::FORBIDDEN, problem::WRONG_DOOR, text, "use the admin socket"))
        }
    }
}

async fn renew(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let asked: model::Renew = parse(body)?;
    let view = find(&app, &id)?;
    let id = view.credential.id.clone();
    let managed = view.credential.managed();
    let (Some(managed), Some(found)) = (managed, app.web.engine.preview_renewal(&id, &by)) else {
        let text = format!("{id} is only watched: it is renewed elsewhere");
        let hint = "configure it as [[certificate]] to have it renewed here";
        return Err(Problem::new(StatusCode::CONFLICT, problem::NOT_MANAGED, text, hint));
    };
    let preview = views::preview(&app.web, &view, managed, &found);
    if asked.plan {
        return Ok(Json(preview).into_response());
    }
    if found.decision.verdict == Verdict::Refuse {
        let text = format!("policy forbids it (rule {})", found.decision.rule);
        let hint = "keyward cert renew --plan says what would be done; the rule stands in the configuration";
        return Err(Problem::new(StatusCode::FORBIDDEN, problem::POLICY, text, hint));
    }
    command(&app, Command::Renew { credential: id, by }).await?;
    let text = match &preview.held {
        Some(held) => format!("the request is recorded; {held}"),
        None if preview.attempt.is_some() => "the attempt in flight goes on".to_owned(),
        None => "the renewal begins".to_owned(),
    };
    let accepted = model::Accepted { text, preview: Some(preview) };
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

pub(super) fn parse<T: Default + serde::de::DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Answer<T> {
    let refuse =
        |status, text| Problem::new(status, problem::BAD_REQUEST, text, "send JSON, for example {\"plan\":true}");
    let bytes = body.map_err(|e| refuse(e.status(), e.body_text()))?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    // An array would be taken for a struct's fields in order.
    let fields: serde_json::Result<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&bytes);
    let parsed = fields.and_then(|fields| serde_json::from_value(fields.into()));
    parsed.map_err(|e| refuse(StatusCode::BAD_REQUEST, format!("the body is not understood: {e}")))
}

/// Lets the engine carry it out; on return what it is about is recorded.
pub(super) async fn command(app: &App, command: Command) -> Answer<()> {
    app.web.engine.ask(command).await.map_err(|refusal| refused(&refusal))
}

/// Reads a body; `example` is what to send.
pub(super) fn read_body<T: DeserializeOwned>(sent: Sent, example: &str) -> Answer<T> {
    let bytes = sent.map_err(|e| bad_body(e.body_text(), example))?;
    serde_json::from_slice(&bytes).map_err(|e| not_understood(&e, example))
}

pub(super) fn not_understood(error: &serde_json::Error, example: &str) -> Problem {
    bad_body(format!("the body is not understood: {error}"), example)
}

fn bad_body(text: String, example: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, format!("send {example}"))
}

pub(super) fn refused(refusal: &Refusal) -> Problem {
    let (code, hint) = match refusal {
        Refusal::Busy(_) => (problem::BUSY, "try again in a moment"),
        Refusal::Silent => (problem::TOO_SLOW, "see keyward status, and the history of what it is about"),
        Refusal::AuditUnavailable(_) => {
            (AUDIT_UNAVAILABLE, "mend the disk of the state directory; keyward status says what is wrong")
        }
        Refusal::Sealed(seal) => {
            (seal.code, "nothing is started before a person has recovered the state: keyward explain CODE")
        }
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, refusal.to_string(), hint)
}

pub(super) fn accepted(text: &str) -> Response<Body> {
    (StatusCode::ACCEPTED, Json(model::Accepted { text: text.to_owned(), preview: None })).into_response()
}

async fn accept_clock(State(app): Shared, Extension(door): Extension<Door>) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let now = app.web.clock.now();
    command(&app, Command::AcceptClock { by }).await?;
    Ok(accepted(&format!("{now} is accepted as the true time")))
}

async fn rollover(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(id): Path<String>,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let known = IssuerId::parse(&id).ok().filter(|id| app.web.engine.estate().issuers.contains_key(id));
    let Some(issuer) = known else {
        let text = format!("no issuer {id} is configured");
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            problem::NOTHING_HERE,
            text,
            "keyward status lists the issuers",
        ));
    };
    if let Some((freeze, until)) = app.web.engine.issuer_frozen(&issuer) {
        let text = format!("{issuer} is frozen until {until} (freeze {freeze}), so its account gets no new key");
        return Err(Problem::new(
            StatusCode::CONFLICT,
            ISSUER_FROZEN,
            text,
            "keyward freeze list says who froze, and why",
        ));
    }
    command(&app, Command::Rollover { issuer, by }).await?;
    Ok(accepted(&format!("the account at {id} gets a new key; `keyward status` says how it went")))
}

async fn scan(State(app): Shared, Extension(door): Extension<Door>) -> Answer<Response<Body>> {
    actor(door)?;
    // It adds no authority, so nobody waits for it.
    let seal = app.web.engine.seal().map(Refusal::Sealed);
    let taken = seal.map_or_else(|| app.web.engine.command(Command::Scan).map_err(Refusal::Busy), Err);
    taken.map_err(|refusal| refused(&refusal))?;
    Ok(accepted("everything is looked at again"))
}

async fn reload(State(app): Shared, Extension(door): Extension<Door>) -> Answer<Response<Body>> {
    actor(door)?;
    let hook = app.web.reload.clone();
    let done = tokio::task::spawn_blocking(move || hook()).await;
    let refuse = |text: String| {
        let hint = "the configuration in force stays; mend the file, then: keyward config check";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, problem::RELOAD_REFUSED, text, hint)
    };
    let text = done.map_err(|e| refuse(format!("the reload broke off: {e}")))?.map_err(|error| match error {
        NotReloaded::Wrong(text) => refuse(text),
        NotReloaded::Refused(refusal) => refused(&refusal),
    })?;
    Ok(accepted(&text))
}
