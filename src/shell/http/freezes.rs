//! Freezes over the API: everybody who may look sees them; made and thawed over the admin socket only.

use core::time::Duration;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::de::DeserializeOwned;

use super::api::{Sent, accepted, actor, command, not_understood, read_body, refused};
use super::problem::Problem;
use super::server::{App, Door};
use super::{Web, heavy, model};
use crate::domain::freeze::Scope;
use crate::domain::id::FreezeId;
use crate::domain::time::Timestamp;
use crate::engine::{Command, FreezeView, NotFrozen, Refusal, WantedFreeze};

type Answer<T> = Result<T, Problem>;

/// The scope cannot be understood; the same as for one that is over nothing.
const BAD_SCOPE: &str = "KW4075";
/// The end cannot be understood; the same as for one that may not be.
const BAD_END: &str = "KW4076";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/freezes", get(list).post(begin)).route("/v1/freezes/{id}", delete(thaw))
}

/// How many freezes are in force, in every answer to the command line: each of its outputs says so.
pub(super) const FROZEN: &str = "keyward-freezes";

/// Marks an answer over the admin socket if anything is frozen.
pub(super) fn mark<B>(web: &Web, door: Door, mut response: Response<B>) -> Response<B> {
    let count = if matches!(door, Door::Admin { .. }) { web.engine.freezes_in_force() } else { 0 };
    if count > 0 {
        response.headers_mut().insert(FROZEN, HeaderValue::from(count));
    }
    response
}

/// The freezes in force, the one that ends last first.
pub(super) fn all(web: &Web) -> Vec<model::Freeze> {
    web.engine.freezes().into_iter().map(view).collect()
}

fn view(view: FreezeView) -> model::Freeze {
    let FreezeView { id, freeze, recorded, covers, holds, paths } = view;
    model::Freeze {
        id: id.to_string(),
        scope: freeze.scope.to_string(),
        reason: freeze.reason.to_string(),
        by: freeze.by.to_string(),
        since: freeze.since.to_string(),
        until: freeze.until.to_string(),
        recorded,
        covers,
        holds: holds.iter().map(ToString::to_string).collect(),
        paths: paths.iter().map(ToString::to_string).collect(),
    }
}

async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let turn = app.turn().await;
    heavy::json(turn, &all(&app.web))
}

async fn begin(State(app): State<Arc<App>>, Extension(door): Extension<Door>, sent: Sent) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let asked: model::WantedFreeze =
        parse_object(sent, "{\"scope\": \"path:approve\", \"reason\": \"incident 42\", \"until\": \"4h\"}")?;
    let scope = Scope::parse(&asked.scope).map_err(|error| {
        let hint = "write all, path:NAME, owner:NAME, issuer:NAME or label:KEY=VALUE";
        Problem::new(StatusCode::BAD_REQUEST, BAD_SCOPE, format!("{:?} {error}", shown(&asked.scope)), hint)
    })?;
    let now = app.web.clock.now();
    let until = end(&asked.until, now).ok_or_else(|| {
        let text = format!("{:?} is neither a time nor a span", shown(&asked.until));
        let hint = "write 2026-12-24T18:00:00Z, or from now on 90m, 4h, 2d12h";
        Problem::new(StatusCode::BAD_REQUEST, BAD_END, text, hint)
    })?;
    let wanted = WantedFreeze { scope, reason: asked.reason, until };
    if asked.plan {
        let planned = app.web.engine.preview_freeze(&wanted, &by).map_err(|error| not_frozen(&error))?;
        return Ok(Json(view(planned)).into_response());
    }
    let id = app.web.engine.freeze(&wanted, &by).await.map_err(|error| not_frozen(&error))?;
    let made = app.web.engine.freezes().into_iter().find(|freeze| freeze.id == id);
    // Only if it was thawed at once, or was made for a second.
    let made = made.ok_or_else(|| not_frozen(&NotFrozen::Gone(id)))?;
    Ok((StatusCode::CREATED, Json(view(made))).into_response())
}

async fn thaw(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(id): Path<String>,
    sent: Sent,
) -> Answer<Response<Body>> {
    let by = actor(door)?;
    let asked: model::Thaw = parse_object(sent, "{\"reason\": \"the incident is over\"}")?;
    let parsed = FreezeId::parse(&id.to_ascii_uppercase()).ok_or_else(|| {
        let text = format!("{:?} is no freeze's id", shown(&id));
        Problem::new(StatusCode::NOT_FOUND, "KW4078", text, SEE_ALL)
    })?;
    let reason = app.web.engine.may_thaw(parsed, &asked.reason).map_err(|error| not_frozen(&error))?;
    command(&app, Command::Thaw { id: parsed, reason, by }).await?;
    Ok(accepted(&format!("freeze {parsed} is over; what it held is planned again")))
}

const SEE_ALL: &str = "see those in force: keyward freeze list";

fn not_frozen(error: &NotFrozen) -> Problem {
    let (status, hint) = match error {
        NotFrozen::Sealed(seal) => return refused(&Refusal::Sealed(seal.clone())),
        NotFrozen::Unknown(_) => {
            (StatusCode::NOT_FOUND, "keyward cert list, gate status and status name what is configured")
        }
        NotFrozen::Past { .. } => (StatusCode::BAD_REQUEST, "name an end that is still to come, or a span such as 4h"),
        NotFrozen::TooLong { .. } => {
            (StatusCode::BAD_REQUEST, "freeze for less, and again before it ends; or raise `freeze.longest`")
        }
        NotFrozen::Reason => {
            (StatusCode::BAD_REQUEST, "say in a sentence why: whoever meets the freeze at night reads it")
        }
        NotFrozen::TooMany => (StatusCode::CONFLICT, "thaw what is not needed any more: keyward freeze list"),
        NotFrozen::Clock(_) => (StatusCode::CONFLICT, "mend the time, or accept it: keyward clock accept"),
        NotFrozen::Gone(_) => (StatusCode::NOT_FOUND, SEE_ALL),
    };
    Problem::new(status, error.code(), error.to_string(), hint)
}

/// A body that is an object: an array would be taken for a struct's fields in order.
fn parse_object<T: DeserializeOwned>(sent: Sent, example: &str) -> Answer<T> {
    let fields: serde_json::Map<String, serde_json::Value> = read_body(sent, example)?;
    serde_json::from_value(fields.into()).map_err(|e| not_understood(&e, example))
}

/// What somebody sent, short and printable.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// A time (RFC 3339), or a span from now on: `90m`, `4h`, `2d12h`.
fn end(text: &str, now: Timestamp) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| span(text).map(|span| now.plus(span)))
}

/// Numbers with units, the longest first: w, d, h, m, s.
fn span(text: &str) -> Option<Duration> {
    const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let mut left = text;
    let (mut seconds, mut smallest) = (0_u64, u64::MAX);
    while !left.is_empty() {
        let (digits, rest) = left.split_at(left.find(|c: char| !c.is_ascii_digit())?);
        let unit = rest.chars().next()?;
        let (_, scale) = UNITS.into_iter().find(|(word, scale)| *word == unit && *scale < smallest)?;
        seconds = seconds.checked_add(digits.parse::<u64>().ok()?.checked_mul(scale)?)?;
        smallest = scale;
        left = rest.get(unit.len_utf8()..)?;
    }
    (!text.is_empty()).then_some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_span_from_now_on() {
        let now = Timestamp::from_unix(1_790_000_000);
        let ends = |text: &str| end(text, now).map(|at| at.unix() - now.unix());
        assert_eq!(
            (ends("90s"), ends("4h"), ends("2d12h"), ends("1w")),
            (Some(90), Some(14_400), Some(216_000), Some(604_800))
        );
        assert_eq!(end("2026-12-24T18:00:00Z", now).map(|at| at.to_string()).as_deref(), Some("2026-12-24T18:00:00Z"));
        for bad in [
            "",
            "h",
            "4",
            "12h2d",
            "1h1h",
            "-1h",
            "1.5h",
            "4 h",
            "99999999999999999999s",
            "9999999999999999w",
            "tomorrow",
        ] {
            assert_eq!(ends(bad), None, "{bad}");
        }
    }
}
