//! The audit log over the API: questions, one entry, its story, counts, the newest checkpoint.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};

use super::heavy;
use super::problem::{self, Problem};
use super::server::App;
use crate::shell::audit;

/// The parameters of a URL as they stand there: some may stand several times.
pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;
type Answer = Result<Response<Body>, Problem>;
type Shared = State<Arc<App>>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/audit/entries", get(entries))
        .route("/v1/audit/entries/{id}", get(entry))
        .route("/v1/audit/entries/{id}/story", get(story))
        .route("/v1/audit/entries/{id}/proof", get(proof))
        .route("/v1/audit/stats", get(stats))
        .route("/v1/audit/forget", post(super::forget::forget))
        .route("/v1/audit/checkpoint", get(checkpoint))
}

async fn entries(State(app): Shared, pairs: Pairs) -> Answer {
    let turn = app.turn().await;
    let found = audit::entries(&*app.web.store, &understood(pairs)?, app.web.clock.now()).await?;
    Ok(heavy::json(turn, &found))
}

async fn entry(State(app): Shared, Path(id): Path<String>) -> Answer {
    let turn = app.turn().await;
    Ok(heavy::json(turn, &audit::detail(&*app.web.store, &id).await?))
}

async fn story(State(app): Shared, Path(id): Path<String>) -> Answer {
    let turn = app.turn().await;
    Ok(heavy::json(turn, &audit::explain(&*app.web.store, &id).await?))
}

/// A proof as a file: `keyward audit check-proof` and docs/verify.py read it.
async fn proof(State(app): Shared, Path(id): Path<String>) -> Answer {
    let turn = app.turn().await;
    Ok(heavy::json(turn, &audit::proof(&*app.web.store, &id).await?.document()))
}

async fn stats(State(app): Shared) -> Answer {
    let turn = app.turn().await;
    Ok(heavy::json(turn, &audit::statistics(&*app.web.store).await?))
}

/// The newest checkpoint, as the signed note that it is (C2SP tlog-checkpoint).
async fn checkpoint(State(app): Shared) -> Answer {
    let turn = app.turn().await;
    let note = app.web.store.checkpoint().await.map_err(audit::Refusal::from)?;
    let note = note.ok_or_else(|| {
        let text = "the audit log has no checkpoint yet";
        Problem::new(StatusCode::NOT_FOUND, problem::NOTHING_HERE, text, "it has one with its first entry")
    })?;
    Ok(heavy::answer(turn, "text/plain; charset=utf-8", note))
}

/// The parameters, if they can be read at all.
pub(super) fn understood(pairs: Pairs) -> Result<Vec<(String, String)>, Problem> {
    let hint = format!("NAME=VALUE with {}", audit::PARAMETERS);
    let refuse = |e: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, e.body_text(), hint);
    pairs.map(|Query(pairs)| pairs).map_err(refuse)
}
