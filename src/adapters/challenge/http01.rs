//! http-01 from our own listener (RFC 8555 section 8.3): answers the tokens that are presented now, for any Host, and
//! nothing else.

use core::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::listen::{CONNECTION_TIME, Port};
use super::{Binding, Presented};
use crate::domain::name::Name;
use crate::ports::{ChallengeTask, Clock, SolverError};

/// Where a CA looks, before the token.
const PATH: &str = "/.well-known/acme-challenge/";

/// Request line and headers together: hyper's least, and several times what a CA sends.
const MOST_HEADER_BYTES: usize = 8_192;

/// Header lines: a CA sends about five, a proxy adds some.
const MOST_HEADERS: usize = 64;

/// Key authorizations by token and name.
type Table = Arc<Presented<Bytes>>;

/// The listener.
pub(super) struct Http01 {
    table: Table,
    port: Mutex<Port>,
}

impl Http01 {
    pub(super) fn start(bind: Vec<SocketAddr>, binding: Binding, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let table: Table = Arc::new(Presented::new());
        let served = table.clone();
        let mut port = Port::new(bind, binding, clock, Arc::new(move |stream| Box::pin(serve(stream, served.clone()))));
        port.start()?;
        Ok(Self { table, port: Mutex::new(port) })
    }

    pub(super) async fn present(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        // The port's lock is held over table and port, so that a cleanup cannot close what this opens.
        let mut port = self.port.lock().await;
        self.table.room(task)?;
        port.open()?;
        self.table.insert(task, Bytes::from(task.key_authorization.clone()))
    }

    pub(super) async fn cleanup(&self, task: &ChallengeTask) -> Result<(), SolverError> {
        let mut port = self.port.lock().await;
        self.table.remove(task);
        if self.table.is_empty() {
            port.close().await;
        }
        Ok(())
    }
}

async fn serve(stream: TcpStream, table: Table) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&table, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME)
        .max_buf_size(MOST_HEADER_BYTES)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks HTTP or goes away is no news here.
    drop(connection.await);
}

fn answer(table: &Presented<Bytes>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let found = match *request.method() {
        Method::GET | Method::HEAD => request.uri().path().strip_prefix(PATH).and_then(|token| find(table, token)),
        _ => None,
    };
    let (status, kind, body) = match found {
        Some(key_authorization) => (200, "application/octet-stream", key_authorization),
        None => (404, "text/plain; charset=utf-8", Bytes::from_static(b"no such challenge\n")),
    };
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("x-content-type-options", "nosniff")
        .header("cache-control", "no-store")
        .body(Full::new(body))
        .unwrap_or_default()
}

/// The key authorization of a token for any name: a CA's token belongs to one authorization, so to one name.
fn find(table: &Presented<Bytes>, token: &str) -> Option<Bytes> {
    let from = (token.to_owned(), Name::Dns(Arc::from("")));
    table.lock().range(from..).next().filter(|((t, _), _)| t == token).map(|(_, value)| value.clone())
}
