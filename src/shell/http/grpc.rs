//! Envoy's question over gRPC: whatever comes for the service is answered with gRPC's OK and a `CheckResponse`.
//!
//! An error of gRPC or HTTP would be left to the proxy's `failure_mode_allow`; a denial is a denial. So a question that
//! cannot be read, is too long or too slow is denied.

use core::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Web, gate, model};
use crate::codec::ext_authz::{self, CHECK, Check, EXTENSION};
use crate::domain::guard::Asked;

/// A question has at most so many bytes: Envoy takes 60 KiB of headers by default, and may add a certificate or two.
const LONGEST_QUESTION: usize = 96 * 1_024;
/// A question is complete within this time: it is one small message, and proxies give up after a second or so.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);
/// The question cannot be read.
const MALFORMED: &str = "KW4503";

/// Whether a URL's path is the service's, in whatever version.
pub(super) fn is_check(path: &str) -> bool {
    path.starts_with("/envoy.service.auth.")
}

/// Answers a question over HTTP/2.
pub(super) async fn answer<B>(web: &Web, turns: &Semaphore, request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    let read = timeout(QUESTION_DEADLINE, read(turns, request)).await;
    let denial = match read.unwrap_or_else(|_| Err(late())) {
        Ok((path, check)) => {
            // What is not told is guarded; an empty target is none.
            let asked = Asked { method: &check.method, target: &check.target };
            match gate::path(web, &path) {
                Ok(path) => gate::decide(web, &path, Some(&asked), |decided| {
                    decided.count(web);
                    (!decided.lets_through()).then(|| decided.answer(web))
                }),
                Err(refusal) => Some(*refusal),
            }
        }
        Err(why) => {
            gate::count_unknown(web);
            let mended = "the proxy is configured as `keyward snippet envoy` shows";
            Some(gate::refusal(web, "", MALFORMED, why, mended))
        }
    };
    respond(denial)
}

/// What everybody gets while too many connections are open.
pub(super) fn overloaded(web: &Web) -> Response<Body> {
    respond(Some(gate::busy(web, "")))
}

fn late() -> String {
    format!("the question was not complete within {} s", QUESTION_DEADLINE.as_secs())
}

async fn read<B>(turns: &Semaphore, request: Request<B>) -> Result<(String, Check), String>
where
    B: hyper::body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    if request.uri().path() != CHECK || request.method() != Method::POST {
        return Err(format!("only POST {CHECK} is answered"));
    }
    // `application/grpc`, or with a suffix that names protobuf.
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !matches!(kind, Some(b"application/grpc" | b"application/grpc+proto")) {
        return Err("the question is not of the type application/grpc".to_owned());
    }
    let _turn = turns.acquire().await.map_err(|e| e.to_string())?;
    let body = Limited::new(request.into_body(), LONGEST_QUESTION).collect().await;
    let body = body.map_err(|e| format!("the question could not be taken: {e}"))?;
    let check = ext_authz::read(&body.to_bytes()).map_err(|e| e.to_string())?;
    let path = check.path.clone().ok_or_else(|| format!("context_extensions has no {EXTENSION}"))?;
    Ok((path, check))
}

/// Denied for this reason, or not at all.
fn respond(denial: Option<model::Gate>) -> Response<Body> {
    let frame = match denial {
        None => ext_authz::ok(),
        Some(answer) => {
            // Envoy hands it on to whoever asked.
            let (codes, answer) = (gate::codes(&answer), gate::codes_only(answer));
            let body = serde_json::to_string(&answer).unwrap_or_default();
            let mut fields = vec![(gate::REASONS, codes.as_str()), ("cache-control", "no-store")];
            fields.push(("content-type", "application/json"));
            if answer.environment != "production" {
                fields.push((gate::ENVIRONMENT, &answer.environment));
            }
            ext_authz::denied(&fields, &body)
        }
    };
    let trailers =
        HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(frame)).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
