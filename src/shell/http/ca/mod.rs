//! Private CAs: what they are, what they publish, and over the admin socket what a person has them do.

pub mod model;
mod outside;
mod rotation;
pub mod rotation_model;

use core::time::Duration;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::api::{Sent, actor, read_body};
use super::problem::{self, Problem};
use super::server::{App, Door};
use crate::domain::authority::{RevocationReason, Wish};
use crate::domain::id::{CaId, ProfileId};
use crate::domain::key::Digest;
use crate::domain::register::GenerationId;
use crate::engine::authority::{Authority, Denied, Place};

type Answer<T> = Result<T, Problem>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/ca", get(list))
        .route("/v1/ca/revoke", post(revoke))
        .route("/v1/ca/{ca}/init", post(init))
        .route("/v1/ca/{ca}/request", post(outside::request))
        .route("/v1/ca/{ca}/accept", post(outside::accept))
        .route("/v1/ca/{ca}/import", post(outside::import))
        .route("/v1/ca/{ca}/sign", post(sign))
        .route("/v1/ca/{ca}/bundle", get(bundle))
        .route("/v1/ca/{ca}/{number}/issuing.crl", get(issuing_list))
        .route("/v1/ca/{ca}/{number}/root.crl", get(root_list))
        .route("/v1/ca/{ca}/{number}/issuing.pem", get(issuing_certificate))
        .route("/v1/ca/{ca}/{number}/root.pem", get(root_certificate))
        .merge(rotation::routes())
}

fn authority(app: &App) -> Answer<&Arc<Authority>> {
    app.web.authority.as_ref().ok_or_else(|| {
        let hint = "add a [[ca]] to the configuration; see docs/private-pki.md";
        Problem::new(StatusCode::NOT_FOUND, "KW4610", "this guardian has no private CA", hint)
    })
}

fn denied(error: Denied) -> Problem {
    let (status, hint) = match &error {
        Denied::UnknownCa(_) | Denied::UnknownProfile(..) | Denied::UnknownSerial(_) => {
            (StatusCode::NOT_FOUND, "see what there is: keyward ca status")
        }
        Denied::NotMade(_) => (StatusCode::CONFLICT, "make it: keyward ca init ID"),
        Denied::Made(..) => (StatusCode::CONFLICT, "see how it is: keyward ca status"),
        Denied::Refused(_) | Denied::BadKey(..) | Denied::Mint(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "compare the request with the profile: keyward config explain ca")
        }
        Denied::Outside(..) => (StatusCode::CONFLICT, "docs/private-pki.md shows the way of a root that is offline"),
        Denied::Rotation(_) | Denied::Waits(_) => {
            (StatusCode::CONFLICT, "see what waits for what: keyward ca rotate CA --status")
        }
        Denied::Gone(..) => (StatusCode::CONFLICT, "see how it is: keyward ca rotate CA --status"),
        Denied::Needed(..) => (
            StatusCode::CONFLICT,
            "have one made: keyward ca compromised CA NUMBER; then see what breaks: keyward ca emergency CA",
        ),
        Denied::UnknownParty(..) => (StatusCode::NOT_FOUND, "add it as a [[relying_party]]; see docs/ca-rotation.md"),
        Denied::OtherBundle { .. } => (StatusCode::CONFLICT, "fetch the bundle again: keyward ca bundle CA"),
        Denied::OtherBreakage(_) | Denied::NothingToSignOff(_) => {
            (StatusCode::CONFLICT, "see what breaks now: keyward ca emergency CA")
        }
        Denied::NotMeant(_) => (StatusCode::UNPROCESSABLE_ENTITY, "it cannot be taken back; see docs/ca-rotation.md"),
        Denied::Clock(_) => (StatusCode::SERVICE_UNAVAILABLE, "set the clock right, then: keyward clock accept"),
        Denied::Holder(_) | Denied::Shelf(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "see the key holder: keyward ca status")
        }
        Denied::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "mend the disk of the state directory"),
        Denied::Broken(_) => (StatusCode::CONFLICT, "see keyward ca status and the audit log: keyward audit query"),
    };
    Problem::new(status, error.code(), error.to_string(), hint)
}

/// Goes on although whoever asked for it is gone, or the answer took too long: what is announced comes to an end.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T, Denied>> + Send + 'static) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(denied),
        Err(error) => Err(denied(Denied::Broken(format!("it broke off: {error}")))),
    }
}

fn bad(text: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, text, hint)
}

fn ca_id(text: &str) -> Answer<CaId> {
    CaId::parse(text).map_err(|e| bad(format!("the id of a CA {e}"), "see them all: keyward ca status"))
}

async fn list(State(app): State<Arc<App>>) -> Json<model::Cas> {
    Json(match &app.web.authority {
        Some(authority) => model::Cas::from(&authority.standing().await),
        None => model::Cas {
            at: app.web.clock.now().to_string(),
            last_round: None,
            keyholder: model::Keyholder {
                reachable: false,
                problem: Some("there is no private CA in the configuration".to_owned()),
                process: None,
                operations: None,
                confinement: Vec::new(),
            },
            cas: Vec::new(),
        },
    })
}

async fn init(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
) -> Answer<Json<model::Made>> {
    let by = actor(door)?;
    let (authority, ca) = (authority(&app)?.clone(), ca_id(&ca)?);
    let (making, which) = (authority.clone(), ca.clone());
    let made = to_its_end(async move { making.init(&which, &by).await }).await?;
    told(&authority, &ca, &made)
}

/// A generation that was made, with the bundle as it is now.
fn told(authority: &Authority, ca: &CaId, made: &GenerationId) -> Answer<Json<model::Made>> {
    let bundle = authority.bundle(ca).map_err(denied)?;
    Ok(Json(model::Made {
        generation: made.to_string(),
        bundle: bundle.pem,
        version: bundle.version,
        digest: bundle.digest.to_string(),
    }))
}

async fn sign(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<model::Signed>> {
    let by = actor(door)?;
    let (authority, ca) = (authority(&app)?.clone(), ca_id(&ca)?);
    let asked: model::Sign = read_body(sent, "{\"profile\": PROFILE, \"csr\": PEM}")?;
    let profile = ProfileId::parse(&asked.profile)
        .map_err(|e| bad(format!("the id of a profile {e}"), "see the configuration"))?;
    // What is asked of a key takes some milliseconds for RSA, which is borne on this thread.
    let request = authority.mint().request(asked.csr.as_bytes()).map_err(|e| denied(e.into()))?;
    let lifetime = asked.lifetime_seconds.map(Duration::from_secs);
    let wish = Wish { names: request.names, spiffe: request.spiffe, spki: request.spki, lifetime };
    let issuing = authority.clone();
    let given = to_its_end(async move { issuing.issue(&ca, &profile, &wish, &by).await }).await?;
    Ok(Json(model::Signed {
        chain: authority.mint().pem(&given.chain),
        generation: given.generation.to_string(),
        serial: given.serial.to_string(),
        not_after: given.validity.not_after.to_string(),
        sha256: given.fingerprint.to_string(),
    }))
}

async fn revoke(
    State(app): State<Arc<App>>,
    Extension(door): Extension<Door>,
    sent: Sent,
) -> Answer<Json<model::Revoked>> {
    let by = actor(door)?;
    let authority = authority(&app)?.clone();
    let example = "{\"serial\": SERIAL, \"reason\": \"superseded\"} or {\"spki_sha256\": DIGEST}";
    let asked: model::Revoke = read_body(sent, example)?;
    let serials = match (asked.serial, asked.spki_sha256, asked.reason) {
        (Some(serial), None, reason) => {
            let reason = reason.as_deref().map_or(Some(RevocationReason::Unspecified), RevocationReason::parse);
            let all: Vec<&str> = RevocationReason::ALL.iter().map(|(_, name, _)| *name).collect();
            let reason = reason.ok_or_else(|| bad("there is no such reason", format!("one of {}", all.join(", "))))?;
            to_its_end(async move { authority.revoke(&serial, reason, &by).await }).await?
        }
        (None, Some(spki), None) => {
            let spki = Digest::parse(&spki);
            let spki =
                spki.ok_or_else(|| bad("spki_sha256 is no SHA-256 in 64 hexadecimal digits", "see keyward cert show"))?;
            to_its_end(async move { authority.revoke_key(spki, &by).await }).await?
        }
        _ => return Err(bad("either a serial number or a key is revoked", format!("send {example}"))),
    };
    Ok(Json(model::Revoked { serials: serials.iter().map(ToString::to_string).collect() }))
}

async fn bundle(State(app): State<Arc<App>>, Path(ca): Path<String>) -> Answer<Response<Body>> {
    let bundle = authority(&app)?.bundle(&ca_id(&ca)?).map_err(denied)?;
    let mut response = ([(header::CONTENT_TYPE, "application/x-pem-file")], bundle.pem).into_response();
    if let Ok(value) = HeaderValue::from_str(&bundle.digest.to_string()) {
        response.headers_mut().insert("keyward-bundle-digest", value);
    }
    response.headers_mut().insert("keyward-bundle-version", HeaderValue::from(bundle.version));
    Ok(response)
}

async fn issuing_list(State(app): State<Arc<App>>, Path(which): Path<(String, String)>) -> Answer<Response<Body>> {
    revocation_list(&app, which, Place::Issuing).await
}

async fn root_list(State(app): State<Arc<App>>, Path(which): Path<(String, String)>) -> Answer<Response<Body>> {
    revocation_list(&app, which, Place::Root).await
}

async fn issuing_certificate(State(app): State<Arc<App>>, Path(which): Path<(String, String)>) -> Answer<String> {
    certificate(&app, &which, Place::Issuing)
}

async fn root_certificate(State(app): State<Arc<App>>, Path(which): Path<(String, String)>) -> Answer<String> {
    certificate(&app, &which, Place::Root)
}

fn certificate(app: &App, (ca, number): &(String, String), whose: Place) -> Answer<String> {
    let generation = GenerationId::parse(&format!("{ca}/{number}"));
    let generation = generation.ok_or_else(|| bad("there is no such generation", "see them all: keyward ca status"))?;
    let authority = authority(app)?;
    let der = authority.ca_certificate(&generation, whose).map_err(denied)?;
    Ok(authority.mint().pem(&[der]))
}

async fn revocation_list(app: &App, (ca, number): (String, String), whose: Place) -> Answer<Response<Body>> {
    let generation = GenerationId::parse(&format!("{ca}/{number}"));
    let hint = "see them all: keyward ca status";
    let generation = generation.ok_or_else(|| bad("there is no such generation", hint))?;
    let der = authority(app)?.published(&generation, whose).await.map_err(denied)?;
    // RFC 5280 section 4.2.1.13 and RFC 2585 section 4.2.
    Ok(([(header::CONTENT_TYPE, "application/pkix-crl")], der.to_vec()).into_response())
}
