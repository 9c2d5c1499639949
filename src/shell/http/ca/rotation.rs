//! Rotating private CAs: what a person orders over the admin socket, and what relying parties acknowledge with their tokens.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::rotation_model::{Acknowledge, CrossSign, Crossed, Distrust, Emergency, Order, Plan, Rotation, SignOff};
use super::{Answer, authority, bad, ca_id, denied, to_its_end};
use crate::domain::authority::RevocationReason;
use crate::domain::id::{CaId, RelyingPartyId};
use crate::domain::key::Digest;
use crate::engine::authority::{Authority, Denied};
use crate::shell::http::api::{Sent, actor, read_body};
use crate::shell::http::problem::Problem;
use crate::shell::http::server::{App, Door};

/// A reason is a sentence or two.
const LONGEST_REASON: usize = 500;

type Shared = State<Arc<App>>;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/ca/{ca}/rotation", get(rotation))
        .route("/v1/ca/{ca}/rotation/plan", get(plan))
        .route("/v1/ca/{ca}/rotate", post(rotate))
        .route("/v1/ca/{ca}/rollback", post(rollback))
        .route("/v1/ca/{ca}/compromised", post(compromised))
        .route("/v1/ca/{ca}/revoke", post(revoke))
        .route("/v1/ca/{ca}/emergency", get(emergency).post(sign_off))
        .route("/v1/ca/{ca}/distrust", post(distrust))
        .route("/v1/ca/{ca}/cross-sign", post(cross_sign))
        .route("/v1/ca/{ca}/acknowledge", post(acknowledge))
}

/// The CA of an address, as far as anybody may look.
fn of(app: &App, ca: &str) -> Answer<(Arc<Authority>, CaId)> {
    Ok((authority(app)?.clone(), ca_id(ca)?))
}

fn shown(authority: &Authority, ca: &CaId) -> Answer<Json<Rotation>> {
    Ok(Json(Rotation::from(&authority.outlook(ca).map_err(denied)?)))
}

/// What was ordered is begun at once; what cannot be done now, the controller's next round does.
fn begin(authority: &Arc<Authority>, ca: &CaId) {
    let (authority, ca) = (authority.clone(), ca.clone());
    tokio::spawn(async move {
        if let Err(error) = authority.rotate(&ca).await {
            tracing::warn!(%ca, code = error.code(), %error, "the rotation waits");
        }
    });
}

/// An order is carried out and begun although whoever gave it is gone: what is written must count in memory too.
async fn ordered<T: Send + 'static>(
    authority: &Arc<Authority>,
    ca: &CaId,
    order: impl Future<Output = Result<T, Denied>> + Send + 'static,
) -> Answer<T> {
    let (authority, ca) = (authority.clone(), ca.clone());
    let carried_out = async move {
        let done = order.await?;
        begin(&authority, &ca);
        Ok(done)
    };
    to_its_end(carried_out).await
}

async fn rotation(State(app): Shared, Path(ca): Path<String>) -> Answer<Json<Rotation>> {
    let (authority, ca) = of(&app, &ca)?;
    shown(&authority, &ca)
}

async fn plan(State(app): Shared, Path(ca): Path<String>) -> Answer<Json<Plan>> {
    let (authority, ca) = of(&app, &ca)?;
    let (outlook, foreseen) = authority.foresee(&ca).map_err(denied)?;
    Ok(Json(Plan::new(&outlook, &foreseen)))
}

fn reason(order: &Order) -> Answer<String> {
    let text = order.reason.clone().unwrap_or_default();
    if text.chars().count() > LONGEST_REASON || text.chars().any(char::is_control) {
        return Err(bad(format!("a reason is one line of at most {LONGEST_REASON} characters"), "say it shorter"));
    }
    Ok(text)
}

const ORDER: &str = "{\"generation\": NUMBER, \"reason\": TEXT}";

fn meant(order: &Order) -> Answer<(u32, String)> {
    let why = reason(order)?;
    if why.trim().is_empty() {
        return Err(bad("the reason is missing", format!("send {ORDER}")));
    }
    let number = order.generation.ok_or_else(|| bad("which generation is meant?", format!("send {ORDER}")))?;
    Ok((number, why))
}

async fn rotate(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Rotation>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let order: Order = read_body(sent, "{\"reason\": TEXT}")?;
    let why = reason(&order)?;
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.ask_rotation(&which, &why, &by).await };
    ordered(&authority, &ca, order).await?;
    shown(&authority, &ca)
}

async fn rollback(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Rotation>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let (number, why) = meant(&read_body(sent, ORDER)?)?;
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.roll_back(&which, number, &why, &by).await };
    ordered(&authority, &ca, order).await?;
    shown(&authority, &ca)
}

async fn compromised(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Rotation>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let (number, why) = meant(&read_body(sent, ORDER)?)?;
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.compromised(&which, number, &why, &by).await };
    ordered(&authority, &ca, order).await?;
    shown(&authority, &ca)
}

async fn revoke(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Rotation>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let (number, why) = meant(&read_body(sent, ORDER)?)?;
    let reason = RevocationReason::parse(&why);
    if !matches!(reason, Some(RevocationReason::CaCompromise | RevocationReason::KeyCompromise)) {
        let hint = "a new one that will not do is rolled back: keyward ca rollback; an old one goes by itself";
        return Err(bad("a generation is revoked for ca-compromise or key-compromise alone", hint));
    }
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.revoke_generation(&which, number, &why, &by).await };
    ordered(&authority, &ca, order).await?;
    shown(&authority, &ca)
}

async fn emergency(State(app): Shared, Path(ca): Path<String>) -> Answer<Json<Emergency>> {
    let (authority, ca) = of(&app, &ca)?;
    let breaks = authority.breakage(&ca).map_err(denied)?;
    Ok(Json(Emergency::new(&ca, breaks.as_ref())))
}

async fn sign_off(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Emergency>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let asked: SignOff = read_body(sent, "{\"digest\": DIGEST}")?;
    let shown = Digest::parse(&asked.digest);
    let shown = shown.ok_or_else(|| bad("the digest is not 64 hexadecimal digits", "see keyward ca emergency CA"))?;
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.sign_off(&which, shown, &by).await };
    let breaks = ordered(&authority, &ca, order).await?;
    Ok(Json(Emergency::new(&ca, Some(&breaks))))
}

async fn distrust(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Rotation>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let asked: Distrust = read_body(sent, "{\"name\": CA}")?;
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.distrust_all(&which, &asked.name, &by).await };
    ordered(&authority, &ca, order).await?;
    shown(&authority, &ca)
}

async fn cross_sign(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    sent: Sent,
) -> Answer<Json<Crossed>> {
    let by = actor(door)?;
    let (authority, ca) = of(&app, &ca)?;
    let asked: CrossSign = read_body(sent, "{\"subject\": NUMBER, \"issuer\": NUMBER}")?;
    let signing = async move { authority.cross_sign(&ca, asked.subject, asked.issuer, &by).await };
    Ok(Json(Crossed { sha256: to_its_end(signing).await?.to_string() }))
}

/// By a person over the admin socket, or by the party itself with its token.
async fn acknowledge(
    State(app): Shared,
    Extension(door): Extension<Door>,
    Path(ca): Path<String>,
    headers: HeaderMap,
    sent: Sent,
) -> Answer<Json<Rotation>> {
    let (authority, ca) = of(&app, &ca)?;
    let asked: Acknowledge = read_body(sent, "{\"party\": ID, \"version\": NUMBER, \"digest\": DIGEST}")?;
    let party = RelyingPartyId::parse(&asked.party)
        .map_err(|e| bad(format!("the id of a relying party {e}"), "see the configuration"))?;
    let by = match bearer(&headers) {
        Some(token) if authority.proves(&ca, &party, token) => None,
        Some(_) => return Err(unproved()),
        None => Some(actor(door).map_err(|_| unproved())?),
    };
    let digest = Digest::parse(&asked.digest);
    let digest = digest.ok_or_else(|| bad("the digest is not 64 hexadecimal digits", "see keyward ca bundle CA"))?;
    let (to, which) = (authority.clone(), ca.clone());
    let order = async move { to.acknowledge(&which, &party, asked.version, digest, by.as_deref()).await };
    ordered(&authority, &ca, order).await?;
    shown(&authority, &ca)
}

/// RFC 6750 section 2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether there is such a party is not told.
fn unproved() -> Problem {
    let hint = "send `Authorization: Bearer TOKEN` with what stands in the party's token_file";
    Problem::new(StatusCode::FORBIDDEN, "KW4645", "the token is not that of this relying party", hint)
}
