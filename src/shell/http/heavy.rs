//! Answers that cost memory: a few at once, and each counts until it is sent, not only until it is made.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// The connection takes the next piece when this one is nearly out.
const PIECE: usize = 64 * 1_024;

/// The right to make a costly answer; `None` never happens, since the semaphore is never closed.
pub(super) type Turn = Option<OwnedSemaphorePermit>;

/// A body that gives its turn back when it is sent or dropped.
struct Sending {
    rest: Bytes,
    _turn: Turn,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

/// An answer of this media type.
pub(super) fn answer(turn: Turn, media: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Sending { rest: content.into(), _turn: turn }));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// The same as JSON.
pub(super) fn json(turn: Turn, value: &impl serde::Serialize) -> Response<Body> {
    // Every type of `model` can be written.
    answer(turn, "application/json", serde_json::to_vec(value).unwrap_or_default())
}
