//! The listeners at work: bounded connections, the right door for each, and a drain with a deadline.

use core::future::{Future, ready};
use core::net::IpAddr;
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version as HttpVersion, header};
use axum::response::IntoResponse;
use axum::serve::Listener;
use futures_util::future::Either;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::Either as EitherBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::apart::{Movable as _, Threads};
use super::gate::{self, Detail};
use super::heavy::Turn;
use super::keeper::Keeper;
use super::listen::Listeners;
use super::preface::{self, Version};
use super::problem::{self, Problem};
use super::pulse::Pulse;
use super::ready::Ready;
use super::shield::Shield;
use super::tls;
use super::{Web, acme, api, audit, audit_page, ca, freezes, grpc, hold, key, lease, page};

/// Connections of one listener that are answered properly: far more than the workers of a proxy keep open.
const MOST_CONNECTIONS: usize = 1_024;
/// Beyond those, so many at once are told quickly that there are too many; further ones wait in the kernel's queue.
const MOST_TURNED_AWAY: usize = 64;
/// A head must be complete within this time, and a connection is kept open so long without a request: longer than the
/// 60 s for which nginx and Envoy keep idle connections, so that the proxy closes first.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);
/// The same for a connection that is turned away.
const HURRY: Duration = Duration::from_secs(2);
/// An answer is given within this time.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// A head has at most so many bytes: cookies that proxies pass on are up to 8 KiB.
const LONGEST_HEAD: usize = 16 * 1_024;
/// A head has at most so many fields.
const MOST_FIELDS: usize = 64;
/// Over HTTP/2 fields are counted with 32 bytes on top of each (RFC 9113 section 6.5.2).
const LONGEST_HEAD_H2: u32 = 16 * 1_024 + 64 * 32;
/// So many questions at once on one connection: a proxy that has more opens another.
const MOST_STREAMS: u32 = 128;
/// What a peer may send on a connection before we have taken it: a long question. With 1,024 connections 96 MiB at the very
/// most.
const WINDOW: u32 = 96 * 1_024;
/// So many questions are read at once, over all connections: 96 KiB each are 96 MiB. Others wait.
const MOST_QUESTIONS: usize = 1_024;
/// A silent HTTP/2 connection is asked this often whether its peer is still there, and has as long to say so.
const PING: Duration = Duration::from_secs(20);
/// A body has at most so many bytes; ours have a few dozen.
const LONGEST_BODY: usize = 64 * 1_024;
/// So many answers that cost memory (scrapes, pages, lists) are made at once.
const HEAVY_AT_ONCE: usize = 4;
/// When we stop, requests in flight may end within this time.
const DRAIN: Duration = Duration::from_secs(5);

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The HTTP listener; `loopback` if it listens there only.
    Http {
        /// Whether only this machine reaches it.
        loopback: bool,
    },
    /// The gate's socket.
    Gate,
    /// Gate checks over TLS: whoever reaches the address may ask, so leases and permits are not given there.
    Tls,
    /// The admin socket, with the peer's user id.
    Admin {
        /// Who.
        uid: u32,
    },
}

/// What the handlers share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) web: Arc<Web>,
    /// Taken by answers that cost memory.
    heavy: Arc<Semaphore>,
    /// Taken by questions over gRPC while they are read.
    questions: Semaphore,
    /// Taken by streams of leases.
    pub(super) streams: Arc<Semaphore>,
    /// Says when everything ends.
    pub(super) stopped: watch::Receiver<()>,
    /// Watches over the gate's socket, if there is one.
    pub(super) keeper: Option<Arc<Keeper>>,
}

impl App {
    /// Waits for the right to make a costly answer.
    pub(super) async fn turn(&self) -> Turn {
        self.heavy.clone().acquire_owned().await.ok()
    }
}

/// Answers until `stop` is ready, then lets what is in flight end, for five seconds at most.
pub async fn serve(web: Arc<Web>, listeners: Listeners, stop: impl Future<Output = ()> + Send) {
    let Listeners { apart, http, gate, gate_tls, admin, files, gate_path, found } = listeners;
    let keeper = gate_path.map(|path| Arc::new(Keeper::new(path, found)));
    let (stopping, stopped) = watch::channel(());
    let app = Arc::new(App {
        web,
        heavy: Arc::new(Semaphore::new(HEAVY_AT_ONCE)),
        questions: Semaphore::new(MOST_QUESTIONS),
        streams: Arc::new(Semaphore::new(lease::MOST_STREAMS)),
        stopped: stopped.clone(),
        keeper: keeper.clone(),
    });
    let rest = Rest { router: TowerToHyperService::new(router(app.clone())), guardian: Handle::current() };
    let (engine, clock) = (app.web.engine.clone(), app.web.clock.clone());
    let loopback = http.local_addr().is_ok_and(|a| a.ip().is_loopback());
    let run = Run { app, rest, stopped };
    let asking = run.clone();
    let threads = apart.threads();
    let http = apart.spawn(async move {
        asking.listen(&threads, Nodelay(http), |_| Door::Http { loopback }, |stream| ready(stream.here().ok())).await;
    });
    let here = Threads::default();
    let admin_door = |peer: &UnixStream| match peer.peer_cred() {
        Ok(credentials) => Door::Admin { uid: credentials.uid() },
        // Whoever cannot be named may ask gates.
        Err(_) => Door::Gate,
    };
    let admin = run.listen(&here, admin, admin_door, |stream| ready(Some(stream)));
    let (asking, threads) = (run.clone(), apart.threads());
    let gate = apart.spawn(async move {
        if let Some(gate) = gate {
            asking.listen(&threads, gate, |_| Door::Gate, |stream| ready(stream.here().ok())).await;
        }
    });
    let secured = async {
        let Some((listener, certificate)) = gate_tls else { return };
        let (acceptor, mut stopped) = (certificate.acceptor(), run.stopped.clone());
        let secure = move |stream| {
            let acceptor = acceptor.clone();
            async move { timeout(tls::HANDSHAKE, acceptor.accept(stream)).await.ok()?.ok() }
        };
        let following = async {
            tokio::select! {
                () = certificate.follow() => {}
                _ = stopped.changed() => {}
            }
        };
        futures_util::join!(run.listen(&here, Nodelay(listener), |_| Door::Tls, secure), following);
    };
    let stop = async move {
        match keeper {
            Some(keeper) => keeper.watch(&engine, &*clock, stop).await,
            None => stop.await,
        }
        // Gone before anybody else may bind there.
        drop(files);
        drop(stopping);
    };
    // A listener that broke is one that ended.
    drop(futures_util::join!(http, admin, gate, secured, stop));
}

fn router(app: Arc<App>) -> Router {
    api::routes()
        .merge(audit::routes())
        .merge(hold::routes())
        .merge(freezes::routes())
        .merge(ca::routes())
        .merge(key::routes())
        .merge(acme::routes())
        .merge(page::routes())
        .merge(audit_page::routes())
        .merge(lease::routes())
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(app)
}

struct Nodelay(tokio::net::TcpListener);

impl Listener for Nodelay {
    type Io = tokio::net::TcpStream;
    type Addr = core::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        // Without it an answer of two packets waits for the peer's delayed acknowledgement.
        drop(stream.set_nodelay(true));
        (stream, peer)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

#[derive(Clone)]
struct Run {
    app: Arc<App>,
    rest: Rest,
    stopped: watch::Receiver<()>,
}

/// The connection ends without an answer, as if nobody were there.
#[derive(Debug, thiserror::Error)]
#[error("the gate is interrupted")]
struct Muted;

fn is_muted(app: &App, door: Door, path: &str) -> bool {
    let asks_us = matches!(door, Door::Gate | Door::Http { .. } | Door::Tls);
    let gate = gate::is_gate(path) || path == crate::codec::ext_authz::CHECK;
    asks_us && gate && app.keeper.as_ref().is_some_and(|k| k.is_muted())
}

/// When a kept connection to the gate has to end, if ever.
async fn kicked(kicks: Option<watch::Receiver<u64>>) {
    match kicks {
        // The keeper lives as long as the server.
        Some(mut kicks) => drop(kicks.changed().await),
        None => core::future::pending().await,
    }
}

/// How a connection is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Room,
    Full,
}

impl Run {
    /// `secure` makes of each stream, in the thread that serves it, the one that is talked over, or nothing.
    async fn listen<L, S, F>(
        &self,
        threads: &Threads,
        mut listener: L,
        door: impl Fn(&L::Io) -> Door,
        secure: impl Fn(L::Io) -> F + Clone + Send + 'static,
    ) where
        L: Listener,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        let mut connections = JoinSet::new();
        let mut stopped = self.stopped.clone();
        loop {
            let open = connections.len();
            tokio::select! {
                // The sender says nothing; it is dropped.
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                (stream, _) = listener.accept(), if open < MOST_CONNECTIONS.saturating_add(MOST_TURNED_AWAY) => {
                    let crowd = if open < MOST_CONNECTIONS { Crowd::Room } else { Crowd::Full };
                    let (run, door, secure) = (self.clone(), door(&stream), secure.clone());
                    threads.serve(&mut connections, async move {
                        if let Some(stream) = secure(stream).await {
                            run.connection(door, stream, crowd).await;
                        }
                    });
                }
            }
        }
        drop(listener);
        // What is not done by then is dropped with the set.
        drop(timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await);
    }

    async fn connection<S>(mut self, door: Door, stream: S, crowd: Crowd)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let patience = if crowd == Crowd::Full { HURRY } else { HEAD_DEADLINE };
        let pulse = Pulse::default();
        let told = tokio::select! {
            told = timeout(patience, preface::tell(Shield::new(stream, pulse.clone()))) => told,
            _ = self.stopped.changed() => return,
        };
        // A peer that went away or says nothing is its own affair, here and below.
        let Ok(Ok((version, stream))) = told else { return };
        let stream = TokioIo::new(stream);
        let (app, rest) = (self.app, self.rest);
        let kicks = app.keeper.as_ref().filter(|_| door == Door::Gate).map(|k| k.kicks());
        let (given, alive) = (Ready::default(), pulse.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            if is_muted(&app, door, request.uri().path()) {
                return Either::Left(ready(Err(Muted)));
            }
            if crowd == Crowd::Room && gate::is_gate(request.uri().path()) {
                let answer = check(&app, &given, door, &request).map(EitherBody::Left);
                return Either::Left(ready(Ok(freezes::mark(&app.web, door, answer))));
            }
            let (app, rest, working) = (app.clone(), rest.clone(), alive.work());
            // In a box, so that the question before takes no more room than it needs.
            Either::Right(Box::pin(async move {
                let mut response = respond(&app, &rest, door, crowd, request).await;
                gate::finish(&mut response, app.web.environment);
                drop(working);
                Ok(freezes::mark(&app.web, door, response.map(EitherBody::Right)))
            }))
        });
        // Looked at only when one of them wakes us, not with every question.
        let end = async {
            tokio::select! {
                _ = self.stopped.changed() => {}
                () = kicked(kicks) => {}
            }
        };
        let mut ends = FuturesUnordered::from_iter([end]);
        match version {
            Version::One => {
                let connection = http1::Builder::new()
                    .max_buf_size(LONGEST_HEAD)
                    .max_headers(MOST_FIELDS)
                    .keep_alive(crowd == Crowd::Room)
                    .serve_connection(stream, service);
                let mut connection = pin!(connection);
                let mut silences = FuturesUnordered::from_iter([pulse.stops(patience)]);
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    _ = silences.next() => return,
                    _ = ends.next() => {}
                }
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = connection => {}
                    _ = silences.next() => {}
                }
            }
            Version::Two => {
                let connection = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(MOST_STREAMS)
                    .max_header_list_size(LONGEST_HEAD_H2)
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .max_send_buf_size(LONGEST_BODY)
                    .keep_alive_interval(PING)
                    .keep_alive_timeout(PING)
                    .serve_connection(stream, service);
                let mut connection = pin!(connection);
                let turned_away = async {
                    match crowd {
                        Crowd::Room => core::future::pending().await,
                        // Time for what came along with the preface.
                        Crowd::Full => drop(timeout(HURRY, core::future::pending::<()>()).await),
                    }
                };
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    () = turned_away => {}
                    _ = ends.next() => {}
                }
                connection.as_mut().graceful_shutdown();
                drop(timeout(DRAIN, connection).await);
            }
        }
    }
}

/// A question to a gate: answered here and now.
fn check<B>(app: &App, given: &Ready, door: Door, request: &Request<B>) -> Response<gate::Answer> {
    // Envoy and Caddy pass on the host of the original request: it must not decide over the answer.
    let detail = if is_host_ours(app, door, request) { Detail::Full } else { Detail::Codes };
    gate::answer(&app.web, given, request, detail)
}

fn is_host_ours<B>(app: &App, door: Door, request: &Request<B>) -> bool {
    match door {
        Door::Http { loopback } => host_is_ours(request, loopback, &app.web.hosts),
        Door::Gate | Door::Tls | Door::Admin { .. } => true,
    }
}

/// Whatever is no question to a gate.
#[derive(Clone)]
struct Rest {
    router: TowerToHyperService<Router>,
    /// The threads that do it.
    guardian: Handle,
}

impl Rest {
    /// Has it done by the guardian's threads; ends when nobody waits any more. `None` if it broke.
    async fn done<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut one = JoinSet::new();
        one.spawn_on(work, &self.guardian);
        one.join_next().await?.ok()
    }
}

async fn respond(
    app: &Arc<App>,
    rest: &Rest,
    door: Door,
    crowd: Crowd,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if grpc::is_check(&path) && request.version() == HttpVersion::HTTP_2 {
        if crowd == Crowd::Full {
            return grpc::overloaded(&app.web);
        }
        return grpc::answer(&app.web, &app.questions, request).await;
    }
    let is_grant = lease::is_grant(&path) && door != Door::Tls;
    if crowd == Crowd::Full && (is_grant || gate::is_gate(&path)) {
        return gate::overloaded(&app.web, &path);
    }
    if crowd == Crowd::Full {
        let text = format!("{MOST_CONNECTIONS} connections are open");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, problem::BUSY, text, "close some").into_response();
    }
    let host_is_ours = is_host_ours(app, door, &request);
    if is_grant {
        let granting = app.clone();
        let granted = rest.done(async move { lease::answer(&granting, door, host_is_ours, request).await }).await;
        return granted.unwrap_or_else(|| gate::overloaded(&app.web, &path));
    }
    let proved = method == Method::POST && acknowledges(&path) && request.headers().contains_key(header::AUTHORIZATION);
    if let Err(refusal) = admit(door, host_is_ours, &method, proved) {
        return refusal.into_response();
    }
    request.extensions_mut().insert(door);
    let request = request.map(|body| Body::new(http_body_util::Limited::new(body, LONGEST_BODY)));
    let router = rest.router.clone();
    let answer = rest.done(async move { timeout(ANSWER_DEADLINE, router.call(request)).await });
    match answer.await {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(never))) => match never {},
        Some(Err(_)) | None => {
            let text = format!("there was no answer within {} s", ANSWER_DEADLINE.as_secs());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, problem::TOO_SLOW, text, "try again").into_response()
        }
    }
}

/// What a relying party says with its own token is the only thing that is taken in over TCP. No page of another site can
/// send that header without asking first.
fn acknowledges(path: &str) -> bool {
    let ca = path.strip_prefix("/v1/ca/").and_then(|rest| rest.strip_suffix("/acknowledge"));
    ca.is_some_and(|ca| !ca.is_empty() && !ca.contains('/'))
}

fn admit(door: Door, host_is_ours: bool, method: &Method, proved: bool) -> Result<(), Problem> {
    let forbid = |code, text: &str, hint: &str| Err(Problem::new(StatusCode::FORBIDDEN, code, text, hint));
    match door {
        Door::Admin { .. } => Ok(()),
        Door::Gate => forbid(
            problem::WRONG_DOOR,
            "this socket answers /v1/gate/PATH, /v1/lease/PATH and /v1/permits only",
            "use the admin socket or HTTP",
        ),
        Door::Tls => forbid(problem::WRONG_DOOR, "this listener answers /v1/gate/PATH only", "use a socket or HTTP"),
        Door::Http { .. } if !host_is_ours => forbid(
            problem::WRONG_HOST,
            "the Host header names something that is not served here (a web page may have rebound its own name)",
            "send Host: localhost",
        ),
        Door::Http { .. } if !matches!(*method, Method::GET | Method::HEAD) && !proved => {
            forbid(problem::WRONG_DOOR, "nothing is changed over TCP", "use the admin socket: `keyward --help`")
        }
        Door::Http { .. } => Ok(()),
    }
}

/// Whether the `Host` (or the authority of an absolute URL) is one that only a client of this machine, or one that was
/// told an address, would use. A name that an attacker controls never is.
fn host_is_ours<B>(request: &Request<B>, loopback: bool, configured: &[String]) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let from_header = hosts.next().map(HeaderValue::to_str);
    let (Some(Ok(host)), None) = (from_header, hosts.next()) else { return false };
    let both = [Some(host), request.uri().authority().map(|a| a.as_str())];
    both.into_iter().flatten().all(|host| is_ours(host, loopback, configured))
}

fn is_ours(host: &str, loopback: bool, configured: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || is_port(port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            None => host,
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) => return false,
        },
    };
    if name.eq_ignore_ascii_case("localhost") || configured.iter().any(|c| c.eq_ignore_ascii_case(name)) {
        return true;
    }
    // An address cannot be rebound; where only this machine reaches us, no other than loopback makes sense.
    name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || !loopback)
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_can_be_rebound_is_not_ours() {
        for (host, loopback, elsewhere) in [
            ("localhost", true, true),
            ("LOCALHOST:9180", true, true),
            ("127.0.0.1:9180", true, true),
            ("127.8.8.8", true, true),
            ("[::1]:9180", true, true),
            ("[::1]", true, true),
            ("192.0.2.1:80", false, true),
            ("guard.example:9180", true, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("[::1]evil.example", false, false),
            ("[::1]:x", false, false),
            ("localhost:evil", false, false),
            ("", false, false),
        ] {
            let configured = ["guard.example".to_owned()];
            assert_eq!(is_ours(host, true, &configured), loopback, "{host}");
            assert_eq!(is_ours(host, false, &configured), elsewhere, "{host}");
        }
    }

    #[test]
    fn two_hosts_none_or_two_different_ones_are_not_ours() {
        let ours = |build: fn(axum::http::request::Builder) -> axum::http::request::Builder| {
            host_is_ours(&build(Request::builder()).body(()).unwrap(), true, &[])
        };
        assert!(ours(|r| r.header("host", "localhost")));
        assert!(!ours(|r| r));
        assert!(!ours(|r| r.header("host", "localhost").header("host", "localhost")));
        assert!(!ours(|r| r.uri("http://evil.example/").header("host", "localhost")));
        assert!(!ours(|r| r.header("host", "evil.example")));
    }
}
