//! Answers, and what faults do to them on their way out.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::fault::{Fault, Length, Strike};
use super::problem::Problem;
use crate::ports::Clock;

/// What a handler answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Nothing,
    Json(Value),
    Problem(Value),
    Pem(String),
}

impl Answer {
    pub(super) fn new(status: StatusCode, content: Content) -> Self {
        Self { status, headers: Vec::new(), content }
    }

    pub(super) fn json(value: Value) -> Self {
        Self::new(StatusCode::OK, Content::Json(value))
    }

    pub(super) fn with(mut self, header: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    pub(super) fn maybe(self, header: HeaderName, value: Option<String>) -> Self {
        match value {
            Some(value) => self.with(header, value),
            None => self,
        }
    }

    /// The response, as the faults of its request leave it.
    pub(super) fn respond(mut self, index: Option<&str>, strike: &Strike, clock: &Arc<dyn Clock>) -> Response<Body> {
        if let Some(text) = strike.find(|f| if let Fault::RetryAfter(t) = f { Some(t.clone()) } else { None }) {
            self.headers.retain(|(name, _)| name != RETRY_AFTER);
            self.headers.push((RETRY_AFTER, text));
        }
        let (kind, bytes) = match self.content {
            Content::Nothing => ("", Bytes::new()),
            Content::Json(value) => ("application/json", Bytes::from(value.to_string())),
            Content::Problem(value) => ("application/problem+json", Bytes::from(value.to_string())),
            Content::Pem(pem) => ("application/pem-certificate-chain", Bytes::from(pem)),
        };
        let length = bytes.len();
        let mut announced = None;
        let body = if strike.has(&Fault::MalformedJson) {
            Body::from(bytes.slice(..length / 2))
        } else if let Some((bytes, length)) =
            strike.find(|f| if let Fault::HugeBody { bytes, length } = f { Some((*bytes, *length)) } else { None })
        {
            announced = (length == Length::Announced).then_some(bytes);
            huge(bytes)
        } else if let Some(pause) = strike.find(|f| if let Fault::SlowBody(pause) = f { Some(*pause) } else { None }) {
            announced = u64::try_from(length).ok();
            slow(bytes, pause, clock.clone())
        } else {
            Body::from(bytes)
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(length) = announced {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let index = index.map(|url| (LINK, format!("<{url}>;rel=\"index\"")));
        for (name, value) in self.headers.into_iter().chain(index) {
            // A fault may ask for a header that HTTP cannot carry; it is left out.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        }
        response
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let mut answer = Self::new(problem.status, Content::Problem(problem.json()));
        answer.headers.clone_from(&problem.headers);
        answer
    }
}

/// Made and sent piece by piece, so that it costs the server 16 kB whatever its length.
fn huge(bytes: u64) -> Body {
    const PIECE: usize = 16 * 1_024;
    const START: &[u8] = b"{\"detail\":\"";
    const END: &[u8] = b"\"}";
    let frame = u64::try_from(START.len().saturating_add(END.len())).unwrap_or(0);
    let filler = Bytes::from(vec![b'a'; PIECE]);
    let middle = stream::unfold(bytes.saturating_sub(frame), move |left| {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = filler.slice(..size);
        let rest = left.saturating_sub(u64::try_from(size).unwrap_or(left));
        async move { (size > 0).then_some((Ok::<_, Infallible>(piece), rest)) }
    });
    let start = stream::iter([Ok(Bytes::from_static(START))]);
    let end = stream::iter([Ok(Bytes::from_static(END))]);
    Body::from_stream(futures_util::StreamExt::chain(futures_util::StreamExt::chain(start, middle), end))
}

fn slow(bytes: Bytes, pause: Duration, clock: Arc<dyn Clock>) -> Body {
    Body::from_stream(stream::unfold((bytes, clock), move |(mut bytes, clock)| async move {
        if bytes.is_empty() {
            return None;
        }
        clock.sleep(pause).await;
        let byte = bytes.split_to(1);
        Some((Ok::<_, Infallible>(byte), (bytes, clock)))
    }))
}
