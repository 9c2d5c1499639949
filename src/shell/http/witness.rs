//! The door of a witness: `POST /add-checkpoint` (C2SP tlog-witness), and nothing else.
//!
//! Open to logs on other machines, so it is a listener of its own: nobody who reaches it reaches anything of the guardian.
//! Connections, heads, bodies and times are bounded; the judgement is [`crate::ports::Cosigner`]'s.

use core::convert::Infallible;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::serve::Listener;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::codec::add_checkpoint::SIZE_TYPE;
use crate::domain::witness::Refusal;
use crate::ports::Cosigner;

/// Where requests go.
pub const PATH: &str = "/add-checkpoint";
/// Logs keep a connection open each; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 256;
/// So many requests are judged at once; more are told to come back. A judgement costs a signature's check and a flush.
const MOST_AT_ONCE: usize = 64;
/// A head must be complete within this time, and a connection is kept open so long without a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);
/// A body must be there within this time.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// A judgement that takes longer has met a disk that hangs.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// A head has at most so many bytes and fields.
const LONGEST_HEAD: usize = 16 * 1_024;
/// See [`LONGEST_HEAD`].
const MOST_FIELDS: usize = 64;
/// When we stop, requests in flight may end within this time.
const DRAIN: Duration = Duration::from_secs(5);

/// Hears of every refusal, with who asked.
pub type Refused = Arc<dyn Fn(&Refusal, SocketAddr) + Send + Sync>;

/// A witness's door.
#[derive(Clone)]
pub struct WitnessDoor {
    /// Who judges.
    pub cosigner: Arc<dyn Cosigner>,
    /// Who hears of refusals.
    pub refused: Refused,
}

impl core::fmt::Debug for WitnessDoor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("WitnessDoor")
    }
}

/// Answers until `stop` is ready, then lets what is in flight end.
pub async fn serve_witness(
    door: WitnessDoor,
    mut listener: impl Listener<Io = TcpStream, Addr = SocketAddr>,
    stop: impl Future<Output = ()> + Send,
) {
    let (stopping, stopped) = watch::channel(());
    let room = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let open = connections.len();
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (stream, peer) = listener.accept(), if open < MOST_CONNECTIONS => {
                // Without it an answer of two packets waits for the peer's delayed acknowledgement.
                drop(stream.set_nodelay(true));
                connections.spawn(connection(door.clone(), room.clone(), stream, peer, stopped.clone()));
            }
        }
    }
    drop(listener);
    drop(stopping);
    // What is not done by then is dropped with the set.
    drop(timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await);
}

async fn connection(
    door: WitnessDoor,
    room: Arc<Semaphore>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, room) = (door.clone(), room.clone());
        async move { Ok::<_, Infallible>(finish(respond(&door, &room, peer, request).await)) }
    });
    // Our answers are so short that the kernel takes them whole: no peer can hold one up.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // A peer that went away or spoke nonsense is its own affair.
        _ = connection.as_mut() => return,
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

async fn respond(door: &WitnessDoor, room: &Semaphore, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, format!("nothing is here; POST to {PATH}"));
    }
    if request.method() != Method::POST {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("POST to {PATH}"));
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let Ok(_turn) = room.try_acquire() else {
        return refusal(&Refusal::Busy(format!("{MOST_AT_ONCE} are being judged")));
    };
    let body = match read(request, door.cosigner.longest_request()).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let judged = timeout(ANSWER_DEADLINE, door.cosigner.add_checkpoint(body)).await;
    let judged = judged.unwrap_or_else(|_| {
        let why = format!("it was not on the disk after {} s", ANSWER_DEADLINE.as_secs());
        Err(Refusal::Unavailable(why))
    });
    match judged {
        Ok(lines) => text(StatusCode::OK, lines),
        Err(why) => {
            (door.refused)(&why, peer);
            refusal(&why)
        }
    }
}

async fn read(request: Request<Incoming>, most: usize) -> Result<Vec<u8>, Box<Response<Body>>> {
    let body = timeout(BODY_DEADLINE, Limited::new(request.into_body(), most).collect()).await;
    match body {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, format!("a request has at most {most} bytes"))))
        }
        Ok(Err(e)) => Err(Box::new(text(StatusCode::BAD_REQUEST, format!("the request broke off: {e}")))),
        Err(_) => {
            let limit = BODY_DEADLINE.as_secs();
            Err(Box::new(text(StatusCode::REQUEST_TIMEOUT, format!("the request was not whole after {limit} s"))))
        }
    }
}

/// The statuses of the specification.
fn refusal(why: &Refusal) -> Response<Body> {
    let sized = |size: u64| {
        let mut answer = text(StatusCode::CONFLICT, size);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(SIZE_TYPE));
        answer
    };
    let said = |status| text(status, why);
    match why {
        Refusal::Malformed(_) | Refusal::OldAboveNew { .. } => said(StatusCode::BAD_REQUEST),
        Refusal::UnknownOrigin(_) => said(StatusCode::NOT_FOUND),
        Refusal::Unsigned(_) => said(StatusCode::FORBIDDEN),
        Refusal::Stale { recorded } => sized(*recorded),
        // The size that was cosigned is that of the request: so the log sees what the conflict is about.
        Refusal::Forked { size, .. } => sized(*size),
        Refusal::Inconsistent { .. } => said(StatusCode::UNPROCESSABLE_ENTITY),
        Refusal::Busy(_) => {
            let mut answer = said(StatusCode::TOO_MANY_REQUESTS);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
        Refusal::Unavailable(_) => said(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn text(status: StatusCode, text: impl core::fmt::Display) -> Response<Body> {
    let text = text.to_string();
    let line = if text.ends_with('\n') { text } else { text + "\n" };
    let mut answer = Response::new(Body::from(line));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// What every answer has.
fn finish(mut answer: Response<Body>) -> Response<Body> {
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
