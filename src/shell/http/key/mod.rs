//! Keys that are no certificate's: everybody who may look sees them; changed over the admin socket only.

pub mod model;

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router, body::Body};

use super::api::{Sent, accepted, actor, read_body};
use super::heavy;
use super::problem::{self, Problem};
use super::server::{App, Door};
use crate::domain::id::KeyId;
use crate::domain::time::Timestamp;
use crate::domain::upkeep::Act;
use crate::engine::keys::{Denied, Tracker, Which, WishedChange};

type Answer<T> = Result<T, Problem>;

const EXAMPLE: &str = "{\"reason\": \"found in a public repository\"}";
const SEE_ALL: &str = "see them all: keyward key list";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/key", get(list))
        .route("/v1/key/{id}", get(one))
        .route("/v1/key/{id}/rotate", post(rotate))
        .route("/v1/key/{id}/abandon", post(abandon))
        .route("/v1/key/{id}/rotated", post(rotated))
        .route("/v1/key/{id}/suspend", post(suspend))
        .route("/v1/key/{id}/resume", post(resume))
        .route("/v1/key/{id}/deactivate", post(deactivate))
        .route("/v1/key/{id}/compromised", post(compromised))
        .route("/v1/key/{id}/destroy", post(destroy))
}

fn tracker(app: &App) -> Answer<&Arc<Tracker>> {
    app.web.keys.as_ref().ok_or_else(|| {
        let text = "the guardian is sealed, and tracks no keys";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, problem::BAD_REQUEST, text, "see keyward status")
    })
}

fn denied(error: Denied) -> Problem {
    let (status, hint) = match &error {
        Denied::Unknown(_) => (StatusCode::NOT_FOUND, SEE_ALL),
        Denied::Unseen(..) | Denied::NoVersion(_) => (StatusCode::CONFLICT, "see what is known: keyward key show ID"),
        Denied::NotMoved(_) => (StatusCode::CONFLICT, "see its state: keyward key show ID; docs/keys.md has them all"),
        Denied::Reason => (StatusCode::BAD_REQUEST, "say why: --reason 'what happened, and where to read more'"),
        Denied::NotRotated(..) => (StatusCode::CONFLICT, "see how it stands: keyward key show ID"),
        Denied::Clock(_) => (StatusCode::SERVICE_UNAVAILABLE, "set the clock right, then: keyward clock accept"),
        Denied::Sealed(_) => (StatusCode::SERVICE_UNAVAILABLE, "see keyward status"),
        Denied::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "mend the disk of the state directory"),
        Denied::Unrecorded(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "mend the disk of the state directory; until then a restart would forget it",
        ),
    };
    Problem::new(status, error.code(), error.to_string(), hint)
}

fn bad(text: impl Into<String>, hint: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, hint)
}

fn key_id(text: &str) -> Answer<KeyId> {
    KeyId::parse(text).map_err(|e| bad(format!("the id of a key {e}"), SEE_ALL))
}

/// Goes on although whoever asked for it is gone.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T, Denied>> + Send + 'static) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(denied),
        Err(error) => Err(bad(format!("it broke off: {error}"), "see keyward status")),
    }
}

async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let turn = app.turn().await;
    heavy::json(turn, &all(&app.web))
}

/// Every key, the worst first.
pub(super) fn all(web: &super::Web) -> Vec<model::Key> {
    web.keys.as_ref().map_or(Vec::new(), |keys| keys.all().iter().map(model::Key::from).collect())
}

async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<model::Key>> {
    let view = tracker(&app)?.one(&key_id(&id)?).map_err(denied)?;
    Ok(Json(model::Key::from(&view)))
}

async fn rotate(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(id): Path<String>,
    sent: Sent,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let (tracker, id) = (tracker(&app)?.clone(), key_id(&id)?);
    let asked: model::Wish = read_body(sent, EXAMPLE)?;
    if asked.plan {
        let planned = tracker.plan(&id).map_err(denied)?;
        return Ok(Json(model::Plan::from(&planned)).into_response());
    }
    let of = id.clone();
    let rotation = to_its_end(async move { tracker.rotate(&of, &asked.reason, Some(&by)).await }).await?;
    Ok(accepted(&format!(
        "the rotation {rotation} of key {id} goes on by itself; keyward key show {id} says where it is"
    )))
}

async fn abandon(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(id): Path<String>,
    sent: Sent,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let (tracker, id) = (tracker(&app)?.clone(), key_id(&id)?);
    let asked: model::Wish = read_body(sent, EXAMPLE)?;
    let of = id.clone();
    to_its_end(async move { tracker.abandon(&of, &asked.reason, &by).await }).await?;
    Ok(accepted(&format!("the rotation of key {id} is given up; the key in use is the one before it")))
}

async fn rotated(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(id): Path<String>,
    sent: Sent,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let (tracker, id) = (tracker(&app)?.clone(), key_id(&id)?);
    let asked: model::Wish = read_body(sent, EXAMPLE)?;
    let of = id.clone();
    to_its_end(async move { tracker.rotated(&of, &asked.reason, &by).await }).await?;
    Ok(accepted(&format!("key {id} counts as rotated just now")))
}

type Asked = (State<Arc<App>>, Extension<Door>, Path<String>, Sent);

async fn suspend(s: State<Arc<App>>, d: Extension<Door>, p: Path<String>, sent: Sent) -> Answer<Json<model::Changed>> {
    change((s, d, p, sent), Act::Suspend).await
}

async fn resume(s: State<Arc<App>>, d: Extension<Door>, p: Path<String>, sent: Sent) -> Answer<Json<model::Changed>> {
    change((s, d, p, sent), Act::Resume).await
}

async fn deactivate(
    s: State<Arc<App>>,
    d: Extension<Door>,
    p: Path<String>,
    sent: Sent,
) -> Answer<Json<model::Changed>> {
    change((s, d, p, sent), Act::Deactivate).await
}

async fn compromised(
    s: State<Arc<App>>,
    d: Extension<Door>,
    p: Path<String>,
    sent: Sent,
) -> Answer<Json<model::Changed>> {
    change((s, d, p, sent), Act::Compromise).await
}

async fn destroy(s: State<Arc<App>>, d: Extension<Door>, p: Path<String>, sent: Sent) -> Answer<Json<model::Changed>> {
    change((s, d, p, sent), Act::Destroy).await
}

async fn change((State(app), Extension(door), Path(id), sent): Asked, act: Act) -> Answer<Json<model::Changed>> {
    let by = actor(door)?;
    let (tracker, id) = (tracker(&app)?.clone(), key_id(&id)?);
    let asked: model::Wish = read_body(sent, EXAMPLE)?;
    let suspected = asked.since.as_deref().map(|at| {
        Timestamp::parse(at).ok_or_else(|| bad(format!("{at:?} is no time"), "write it as 2026-03-01T12:00:00Z"))
    });
    let wish = WishedChange {
        act,
        which: if asked.previous { Which::Previous } else { Which::Current },
        reason: asked.reason,
        suspected: suspected.transpose()?,
    };
    let changed = to_its_end(async move { tracker.change(&id, &wish, &by).await }).await?;
    Ok(Json(model::Changed { state: changed.state.as_str().to_owned(), used: changed.used }))
}
