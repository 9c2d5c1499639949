//! Closing a path for a while, and taking the gate's socket away for a probe: over the admin socket only. And what stands
//! on what, for everybody who may look.

use core::time::Duration;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, body};

use super::api::{Sent, accepted, actor, command, read_body, refused};
use super::keeper::{Keeper, LONGEST_ASIDE, NotAside};
use super::problem::{self, Problem};
use super::server::{App, Door};
use super::{heavy, model};
use crate::domain::graph::Graph;
use crate::domain::id::PathId;
use crate::engine::{Command, NotHeld, Refusal};

type Answer<T> = Result<T, Problem>;

/// The gate's socket cannot be taken away.
const NOT_INTERRUPTED: &str = "KW4407";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/graph", get(graph))
        .route("/v1/holds", post(hold))
        .route("/v1/holds/release", post(release))
        .route("/v1/interruptions", post(interrupt))
        .route("/v1/interruptions/end", post(end))
}

/// Not below `/v1/gate`, where nothing but gates is answered.
async fn graph(State(app): State<Arc<App>>) -> Response<Body> {
    let turn = app.turn().await;
    let links = (app.web.links)();
    let graph = Graph::of(&app.web.engine.estate()).with_links(links.iter().map(|status| &*status.link));
    heavy::json(turn, &model::Graph::from(&graph))
}

fn path(text: &str) -> Answer<PathId> {
    PathId::parse(text).map_err(|error| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        let text = format!("{shown:?} {error}");
        Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, "see them all: keyward gate status")
    })
}

/// Closing waits for nothing: neither for the loop nor for the log.
async fn hold(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    sent: Sent,
) -> Answer<Response<body::Body>> {
    let by = actor(door)?;
    let asked: model::Hold = read_body(sent, "{\"path\": PATH, \"seconds\": 60}")?;
    let path = path(&asked.path)?;
    let until = app.web.engine.hold(&path, Duration::from_secs(asked.seconds), &by).map_err(|error| match error {
        NotHeld::Sealed(seal) => refused(&Refusal::Sealed(seal)),
        NotHeld::UnknownPath(_) => {
            let hint = "see them all: keyward gate status";
            Problem::new(StatusCode::NOT_FOUND, problem::NOTHING_HERE, error.to_string(), hint)
        }
        NotHeld::TooLong => {
            let hint = "ask again before it ends to hold it for longer";
            Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, error.to_string(), hint)
        }
    })?;
    Ok(Json(model::Held { path: path.to_string(), until: until.to_string() }).into_response())
}

async fn release(State(app): State<Arc<App>>, Extension(door): Extension<Door>, sent: Sent) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let asked: model::Release = read_body(sent, "{\"path\": PATH}")?;
    let path = path(&asked.path)?;
    command(&app, Command::Release { path: path.clone(), by }).await?;
    Ok(accepted(&format!("{path} is held no longer")))
}

fn keeper(app: &App) -> Answer<&Keeper> {
    app.keeper.as_deref().ok_or_else(|| {
        let hint = "set listen.gate_socket in the configuration: it is also the safer way for proxies";
        Problem::new(StatusCode::CONFLICT, NOT_INTERRUPTED, "there is no gate socket to take away", hint)
    })
}

fn unmoved(error: &NotAside) -> Problem {
    let hint = match error {
        NotAside::Busy => "wait for the other probe",
        NotAside::Displaced { .. } | NotAside::Failed { .. } => {
            "look at its directory; a restart of keyward binds it anew"
        }
    };
    Problem::new(StatusCode::CONFLICT, NOT_INTERRUPTED, error.to_string(), hint)
}

/// Recorded first: what a proxy that fails open does meanwhile has a cause that stands in the log.
async fn interrupt(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    sent: Sent,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let asked: model::Interrupt = read_body(sent, "{\"seconds\": 20}")?;
    let span = Duration::from_secs(asked.seconds);
    if span.is_zero() || span > LONGEST_ASIDE {
        let text = format!("the socket is taken away for 1 to {} s at a time", LONGEST_ASIDE.as_secs());
        return Err(Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, "ask again for longer"));
    }
    let keeper = keeper(&app)?;
    command(&app, Command::Interrupt { span, by }).await?;
    let place = keeper.interrupt(app.web.clock.boottime(), span, asked.token).map_err(|e| unmoved(&e))?;
    let answer = model::Interrupted {
        socket: place.path.display().to_string(),
        mode: place.mode,
        uid: place.uid,
        gid: place.gid,
        token: place.token,
    };
    Ok(Json(answer).into_response())
}

async fn end(State(app): State<Arc<App>>, Extension(door): Extension<Door>) -> Answer<Response<Body>> {
    actor(door)?;
    let was = keeper(&app)?.restore().map_err(|e| unmoved(&e))?;
    Ok(accepted(if was { "the gate's socket is back" } else { "the gate's socket was in its place" }))
}
