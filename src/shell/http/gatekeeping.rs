//! What people ask about the gates, and the few things that they do to them.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;

use super::api::{accepted, actor, command, parse};
use super::problem::{self, Problem};
use super::server::{App, Door};
use super::{heavy, model};
use crate::codec::explanation::Explanation;
use crate::domain::id::PathId;
use crate::domain::key::Digest;
use crate::domain::statement::Context;
use crate::domain::time::Timestamp;
use crate::engine::Command;

type Answer<T> = Result<T, Problem>;
type Shared = State<Arc<App>>;

/// Which moment is asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    /// RFC 3339; now if it is left out.
    at: Option<String>,
}

/// Everything that the verdict over a path looks at, and what comes of it: now, or later with what is known now.
pub(super) async fn explanation(
    State(app): Shared,
    Path(path): Path<String>,
    Query(moment): Query<Moment>,
) -> Answer<Response<Body>> {
    let turn = app.turn().await;
    let id = known(&app, &path)?;
    let at = match moment.at {
        None => None,
        Some(text) => Some(Timestamp::parse(&text).ok_or_else(|| {
            let text = format!("{:?} is no time", text.chars().take(40).collect::<String>());
            Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, "write it as 2026-12-24T18:00:00Z")
        })?),
    };
    let now = app.web.clock.now();
    if at.is_some_and(|at| at < now) {
        let text = "what was looked at then is not kept";
        let hint = format!("what came of it is in the audit log: keyward audit query --path {id}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, hint));
    }
    // Configured a moment ago.
    let snapshot = app.web.engine.snapshot(&id, at).ok_or_else(|| unknown(&path))?;
    let mut told = Explanation::of(&snapshot);
    // Without a key, as in a sealed guardian, it is judged again all the same.
    told.statement = app.web.engine.sign(Context::Explanation, &told.payload()).ok();
    Ok(heavy::json(turn, &told))
}

pub(super) async fn reopen(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(path): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let id = known(&app, &path)?;
    let asked: model::Reopen = parse(body)?;
    let why = asked.reason.trim();
    if why.is_empty() {
        let text = "a path is reopened for a reason, and none was given";
        return Err(Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, "send {\"reason\":\"…\"}"));
    }
    command(&app, Command::Reopen { path: id, by, why: Arc::from(why) }).await?;
    Ok(accepted(&format!("{path} opens once everything that it stands on is good")))
}

pub(super) async fn compromised(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(spki): Path<String>,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let Some(spki) = Digest::parse(&spki) else {
        let text = "that is no SHA-256 of a SubjectPublicKeyInfo: 64 hexadecimal digits were expected";
        return Err(Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, "keyward cert show NAME has it"));
    };
    command(&app, Command::Compromise { spki, by }).await?;
    Ok(accepted(&format!("the key {spki} is never good again")))
}

fn known(app: &App, path: &str) -> Answer<PathId> {
    let id = PathId::parse(path).ok().filter(|id| app.web.engine.estate().paths.contains_key(id));
    id.ok_or_else(|| unknown(path))
}

fn unknown(path: &str) -> Problem {
    let shown: String = path.chars().filter(|c| !c.is_control()).take(80).collect();
    let text = format!("there is no approval path {shown:?}");
    Problem::new(StatusCode::NOT_FOUND, problem::NOTHING_HERE, text, "see them all: keyward gate status")
}
