//! Orders at the ACME directories that wait for a person: seen and decided over the admin socket only.

pub mod model;

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::api::{Sent, actor, read_body};
use super::problem::Problem;
use super::server::{App, Door};
use crate::shell::acme_server::{NotRuled, Ruling, WaitingOrder};

type Answer<T> = Result<T, Problem>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/acme/orders", get(list))
        .route("/v1/acme/orders/{directory}/{number}/allow", post(allow))
        .route("/v1/acme/orders/{directory}/{number}/deny", post(deny))
}

async fn list(State(app): State<Arc<App>>, Extension(door): Extension<Door>) -> Answer<Json<Vec<model::Order>>> {
    // Whose names and accounts are there is nothing for everybody.
    actor(door)?;
    Ok(Json(app.web.directories.waiting().into_iter().map(view).collect()))
}

fn view(order: WaitingOrder) -> model::Order {
    model::Order {
        id: order.id,
        names: order.names.iter().map(ToString::to_string).collect(),
        profile: order.profile,
        account: order.account,
        external_account_key: order.key,
        owner: order.owner,
        since: order.since.to_string(),
        until: order.until.to_string(),
    }
}

async fn allow(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(which): Path<(String, String)>,
    sent: Sent,
) -> Answer<Json<model::Ruled>> {
    rule(&app, door, which, sent, Ruling::Allow).await
}

async fn deny(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(which): Path<(String, String)>,
    sent: Sent,
) -> Answer<Json<model::Ruled>> {
    rule(&app, door, which, sent, Ruling::Deny).await
}

async fn rule(
    app: &Arc<App>,
    door: Door,
    (directory, number): (String, String),
    sent: Sent,
    ruling: Ruling,
) -> Answer<Json<model::Ruled>> {
    let by = actor(door)?;
    let asked: model::Reason = read_body(sent, "{\"reason\": \"the team called\"}")?;
    let id = format!("{directory}/{number}");
    let (directories, which) = (app.web.directories.clone(), id.clone());
    // It comes to its end although whoever asked may be gone.
    let ruling = tokio::spawn(async move { directories.rule(&which, ruling, &asked.reason, &by).await });
    let ruled = ruling.await.unwrap_or_else(|broke| Err(NotRuled::NotRecorded(format!("it broke off: {broke}"))));
    ruled.map_err(|why| {
        let (status, hint) = match &why {
            NotRuled::Unknown(_) => (StatusCode::NOT_FOUND, "see those that wait: keyward acme orders"),
            NotRuled::NotWaiting(..) => (StatusCode::CONFLICT, "see those that wait: keyward acme orders"),
            NotRuled::Policy(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "change the configuration, or: keyward acme deny ORDER --reason WHY")
            }
            NotRuled::Reason => (StatusCode::BAD_REQUEST, "say why: --reason \"the team called\""),
            NotRuled::NotRecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, "mend the disk of the state directory"),
        };
        Problem::new(status, why.code(), why.to_string(), hint)
    })?;
    Ok(Json(model::Ruled { id }))
}
