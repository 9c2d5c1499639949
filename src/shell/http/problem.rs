//! Errors as `application/problem+json` (RFC 9457) with a stable code.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

use super::model;
use crate::shell::audit::{BAD_QUESTION, FROZEN, NO_ENTRY, Refusal};

/// The credential does not exist.
pub(super) const NO_CREDENTIAL: &str = "KW5001";
/// There is nothing at this address.
pub(super) const NOTHING_HERE: &str = "KW5002";
/// Not through this door.
pub(super) const WRONG_DOOR: &str = "KW5003";
/// The `Host` header names something else.
pub(super) const WRONG_HOST: &str = "KW5004";
/// The request cannot be understood.
pub(super) const BAD_REQUEST: &str = "KW5005";
/// Too much at once.
pub(super) const BUSY: &str = "KW5006";
/// The credential is only watched.
pub(super) const NOT_MANAGED: &str = "KW5007";
/// The new configuration was refused.
pub(super) const RELOAD_REFUSED: &str = "KW5008";
/// Policy forbids it.
pub(super) const POLICY: &str = "KW5009";
/// The audit log cannot be read.
pub(super) const UNREADABLE: &str = "KW5010";
/// The answer took too long.
pub(super) const TOO_SLOW: &str = "KW5011";
/// The lease key was not changed.
pub(super) const KEY_UNCHANGED: &str = "KW4106";

/// An error on its way out.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: String,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { status, code, detail: detail.into(), hint: hint.into() }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            BAD_QUESTION => StatusCode::BAD_REQUEST,
            NO_ENTRY => StatusCode::NOT_FOUND,
            FROZEN => StatusCode::GONE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.code, refusal.text, refusal.hint)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let body = model::Problem {
            kind: format!("urn:keyward:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("error").to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
            hint: self.hint,
        };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
