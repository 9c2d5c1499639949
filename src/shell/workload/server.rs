//! The socket at work: gRPC over HTTP/2 with prior knowledge, bounded in connections, calls, messages and silence.

use core::convert::Infallible;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, header};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::book::Book;
use super::lenient::Lenient;
use super::meter::WorkloadMeter;
use super::sds::{self, Questions};
use super::spiffe::{self, stopping};
use super::view::{End, Eyes, Needs};
use crate::codec::grpc::{self, Code};
use crate::codec::sds as envoy;
use crate::codec::workload_api as api;
use crate::shell::config::WorkloadApi;
use crate::shell::wire::workload::{PeerProcess, Programs};

/// A question has at most so many bytes: Envoy's describe its node with all of its extensions, some 50 KiB.
pub(super) const LONGEST_QUESTION: usize = 128 * 1_024;
/// A caller that does not take an answer for so long is given up.
const SLOWEST_READER: Duration = Duration::from_secs(30);
/// A question of the SPIFFE service is complete within this time: it is empty.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);
/// A connection without a call is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Calls on one connection.
const MOST_CALLS: u32 = 256;
/// What a peer may send before we have taken it.
const WINDOW: u32 = 64 * 1_024;
/// Fields of a request (RFC 9113 section 6.5.2).
const LONGEST_HEAD: u32 = 16 * 1_024;
/// A silent connection is asked this often whether its peer is still there, and has as long to say so.
const PING: Duration = Duration::from_secs(20);
/// After an error of the listener itself (no descriptor is left) it rests this long.
const REST: Duration = Duration::from_millis(100);
/// When we stop, what is on its way may be taken within this time.
const DRAIN: Duration = Duration::from_secs(2);

/// What was asked cannot be understood.
const MALFORMED: &str = "KW4855";
/// Too many at once.
const TOO_MANY: &str = "KW4856";
/// Not offered.
const NOT_OFFERED: &str = "KW4858";

pub(super) struct Server {
    book: Arc<Book>,
    programs: Arc<Programs>,
    meter: WorkloadMeter,
    most_connections: usize,
    most_of_a_user: usize,
    /// Connections and calls by user.
    users: Mutex<BTreeMap<u32, (usize, usize)>>,
    stop: watch::Sender<bool>,
    connections: tokio::sync::Mutex<JoinSet<()>>,
}

impl Server {
    pub(super) fn new(settings: &WorkloadApi, book: Arc<Book>, meter: WorkloadMeter) -> Self {
        Self {
            book,
            programs: Arc::default(),
            meter,
            most_connections: settings.max_connections,
            most_of_a_user: settings.max_streams_per_user,
            users: Mutex::default(),
            stop: watch::Sender::new(false),
            connections: tokio::sync::Mutex::default(),
        }
    }

    /// Accepts for ever.
    pub(super) async fn serve(self: &Arc<Self>, listener: UnixListener) {
        let mut connections = self.connections.lock().await;
        loop {
            let room = connections.len() < self.most_connections;
            tokio::select! {
                Some(_) = connections.join_next() => {}
                // Others wait in the kernel's queue.
                accepted = listener.accept(), if room => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().connection(stream))),
                    Err(error) => {
                        tracing::warn!(%error, "the workload API cannot accept connections");
                        self.book.clock.sleep(REST).await;
                    }
                },
            }
        }
    }

    /// Ends every call and connection.
    pub(super) async fn end(&self) {
        self.stop.send_replace(true);
        let mut connections = self.connections.lock().await;
        drop(timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await);
        connections.shutdown().await;
        drop(timeout(DRAIN, self.book.records.tell(true)).await);
    }

    async fn connection(self: Arc<Self>, stream: UnixStream) {
        // Before anything else: until it is held, another process might get its number.
        let peer = Arc::new(PeerProcess::of(&stream));
        let Some(uid) = stream.peer_cred().ok().map(|told| told.uid()) else { return };
        let Some(place) = Place::take(&self, uid, Kind::Connection, self.meter.connections.clone()) else {
            self.meter.refused(TOO_MANY);
            self.book.records.note(TOO_MANY, uid, "too many connections");
            return;
        };
        let (calls, _) = watch::channel(0_usize);
        let calls = Arc::new(calls);
        let (server, counted) = (self.clone(), calls.clone());
        let service = service_fn(move |request| {
            let call = Call { server: server.clone(), peer: peer.clone(), uid, open: Open::new(&counted) };
            async move { Ok::<_, Infallible>(call.answer(request).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_CALLS)
            .max_header_list_size(LONGEST_HEAD)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(Lenient::new(stream)), service);
        let mut connection = pin!(connection);
        let mut stopped = self.stop.subscribe();
        let idle = async {
            let mut quiet = Duration::ZERO;
            while quiet < IDLE {
                self.book.clock.sleep(LOOK).await;
                quiet = if *calls.borrow() == 0 { quiet.saturating_add(LOOK) } else { Duration::ZERO };
            }
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = idle => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        connection.as_mut().graceful_shutdown();
        drop(timeout(DRAIN, connection).await);
        drop(place);
    }
}

/// What a place is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connection,
    Call,
}

/// One of the connections or calls of a user; left when dropped.
struct Place {
    server: Arc<Server>,
    uid: u32,
    kind: Kind,
    gauge: IntGauge,
}

impl Place {
    fn take(server: &Arc<Server>, uid: u32, kind: Kind, gauge: IntGauge) -> Option<Self> {
        let mut users = server.users.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = users.entry(uid).or_default();
        let count = if kind == Kind::Call { &mut counts.1 } else { &mut counts.0 };
        if *count >= server.most_of_a_user {
            return None;
        }
        *count = count.saturating_add(1);
        drop(users);
        gauge.inc();
        Some(Self { server: server.clone(), uid, kind, gauge })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
        let mut users = self.server.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = users.get_mut(&self.uid) {
            let count = if self.kind == Kind::Call { &mut counts.1 } else { &mut counts.0 };
            *count = count.saturating_sub(1);
            if *counts == (0, 0) {
                users.remove(&self.uid);
            }
        }
    }
}

/// A call that is open on its connection.
struct Open(Arc<watch::Sender<usize>>);

impl Open {
    fn new(calls: &Arc<watch::Sender<usize>>) -> Self {
        calls.send_modify(|count| *count = count.saturating_add(1));
        Self(calls.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Which method, as far as it is known.
enum Wanted {
    Spiffe(api::Method),
    Envoy(envoy::Method),
}

struct Call {
    server: Arc<Server>,
    peer: Arc<Result<PeerProcess, String>>,
    uid: u32,
    open: Open,
}

impl Call {
    async fn answer(self, request: Request<Incoming>) -> Response<Stream> {
        let wanted = match self.wanted(&request) {
            Ok(wanted) => wanted,
            Err(end) => return self.refuse(&end),
        };
        let service = match wanted {
            Wanted::Spiffe(_) => "spiffe",
            Wanted::Envoy(_) => "envoy",
        };
        let Some(place) = Place::take(&self.server, self.uid, Kind::Call, self.server.meter.calls(service)) else {
            let text = format!("uid {} has {} calls open; close some", self.uid, self.server.most_of_a_user);
            return self.refuse(&End::new(Code::ResourceExhausted, TOO_MANY, text));
        };
        let (book, peer, programs) = (self.server.book.clone(), self.peer.clone(), self.server.programs.clone());
        let mut questions = Questions::new(request.into_body());
        let (sender, receiver) = mpsc::channel(1);
        let flow = Flow { sender, stop: self.server.stop.subscribe(), meter: self.server.meter.clone() };
        tokio::spawn(async move {
            let end = match wanted {
                Wanted::Spiffe(method) => {
                    // What it says is nothing, but it has to be one whole message.
                    let asked = timeout(QUESTION_DEADLINE, questions.message()).await;
                    let late = || End::new(Code::DeadlineExceeded, MALFORMED, "the question did not come");
                    match asked.unwrap_or_else(|_| Err(late())) {
                        Err(end) => Some(end),
                        Ok(None) => Some(End::new(Code::InvalidArgument, MALFORMED, "there is no question")),
                        Ok(Some(_)) => {
                            let eyes = Eyes::new(book, peer, programs, spiffe::needs(method));
                            Some(spiffe::follow(eyes, &flow).await)
                        }
                    }
                }
                Wanted::Envoy(method) => {
                    let eyes = Eyes::new(book, peer, programs, Needs::Certificates);
                    sds::follow(eyes, self.uid, method, questions, &flow).await
                }
            };
            let trailers = match &end {
                Some(end) => {
                    self.note(end);
                    trailers(end)
                }
                None => HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]),
            };
            flow.close(trailers).await;
            drop((place, self.open));
        });
        let mut response = Response::new(Stream(Some(receiver)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }

    fn wanted(&self, request: &Request<Incoming>) -> Result<Wanted, End> {
        let malformed = |text: &str| End::new(Code::InvalidArgument, MALFORMED, text);
        let path = request.uri().path();
        let not_offered = |text: String| End::new(Code::Unimplemented, NOT_OFFERED, text);
        let wanted = if let Some(rest) = path.strip_prefix(api::SERVICE) {
            api::Method::parse(rest).map(Wanted::Spiffe)
        } else {
            path.strip_prefix(envoy::SERVICE).and_then(envoy::Method::parse).map(Wanted::Envoy)
        };
        let wanted = wanted.ok_or_else(|| not_offered(format!("there is no method {path}")))?;
        let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_grpc = matches!(kind, Some(b"application/grpc" | b"application/grpc+proto"));
        if request.method() != HttpMethod::POST || !is_grpc {
            return Err(malformed("only gRPC is spoken here: POST with the type application/grpc"));
        }
        match wanted {
            Wanted::Spiffe(method) => {
                let said: Vec<&[u8]> =
                    request.headers().get_all(api::SECURITY_FIELD).iter().map(HeaderValue::as_bytes).collect();
                if said != [b"true"] {
                    return Err(malformed(
                        "the metadata `workload.spiffe.io: true` is missing, which the standard demands",
                    ));
                }
                if method == api::Method::Tokens {
                    return Err(not_offered("tokens (JWT-SVID) are not offered; ask for X.509".to_owned()));
                }
            }
            Wanted::Envoy(envoy::Method::Delta) => {
                let text = "DeltaSecrets is not offered; use `api_type: GRPC` (state of the world)";
                return Err(not_offered(text.to_owned()));
            }
            Wanted::Envoy(_) => {}
        }
        Ok(wanted)
    }

    fn refuse(&self, end: &End) -> Response<Stream> {
        self.note(end);
        let mut response = Response::new(Stream(None));
        *response.headers_mut() = trailers(end);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }

    /// Counts an end; what says something about a caller is told to the log.
    fn note(&self, end: &End) {
        // Whoever went away by itself, or is sent away because we stop, was refused nothing.
        if *end == gone() || *end == stopping() {
            return;
        }
        tracing::debug!(uid = self.uid, code = end.code, text = end.text, "a call of the workload API ended");
        self.server.meter.refused(end.code);
        self.server.book.records.note(end.code, self.uid, &end.text);
    }
}

const GRPC_STATUS: header::HeaderName = header::HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: header::HeaderName = header::HeaderName::from_static("grpc-message");

fn trailers(end: &End) -> HeaderMap {
    let text = grpc::message(&format!("{}: {}", end.code, end.text));
    let message = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("no text"));
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(end.grpc.as_str())), (GRPC_MESSAGE, message)])
}

fn gone() -> End {
    End::new(Code::Unavailable, MALFORMED, "the caller went away")
}

/// The way of answers to one caller.
pub(super) struct Flow {
    sender: mpsc::Sender<Frame<Bytes>>,
    stop: watch::Receiver<bool>,
    meter: WorkloadMeter,
}

impl Flow {
    /// Sends a frame; its bytes are wiped once they were written.
    pub(super) async fn send(&self, frame: Zeroizing<Vec<u8>>) -> Result<(), End> {
        let sent = timeout(SLOWEST_READER, self.sender.send(Frame::data(Bytes::from_owner(Wiped(frame))))).await;
        match sent {
            Ok(Ok(())) => {
                self.meter.pushed.inc();
                Ok(())
            }
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(End::new(Code::DeadlineExceeded, TOO_MANY, "answers are not taken")),
        }
    }

    /// Waits until the caller goes away, or everything stops.
    pub(super) async fn ended(&self) -> End {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.sender.closed() => gone(),
            _ = stop.wait_for(|stop| *stop) => stopping(),
        }
    }

    async fn close(self, trailers: HeaderMap) {
        // Whoever does not take it is gone.
        drop(timeout(SLOWEST_READER, self.sender.send(Frame::trailers(trailers))).await);
    }
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The body of an answer; empty if there is nothing but its head.
pub(super) struct Stream(Option<mpsc::Receiver<Frame<Bytes>>>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Some(receiver) => receiver.poll_recv(cx).map(|frame| frame.map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
