//! Somebody else in the place of the gate's socket: what a proxy makes of silence and of wrong answers.

use core::convert::Infallible;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::fs::{self, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::codec::ext_authz;
use crate::shell::http::model::Interrupted;

/// A head is at most this long: as much as the gate itself takes.
const LONGEST_HEAD: usize = 16 * 1_024;
/// Whoever says nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the stand-in does with every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Takes it and says nothing.
    Silence,
    /// Hangs up.
    HangUp,
    /// Says what is no HTTP, and hangs up.
    Garbage,
    /// Says this status, and over gRPC a yes with it; then it hangs up.
    Status(u16),
}

/// It stands there until it is dropped.
#[derive(Debug)]
pub(super) struct StandIn {
    path: PathBuf,
    own: (u64, u64),
    asked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl StandIn {
    /// Takes the place with the owner and the mode of the socket that stood there.
    pub(super) fn take(place: &Interrupted, answer: Answer) -> Result<Self, String> {
        let path = PathBuf::from(&place.socket);
        let failed = |e: std::io::Error| format!("nobody can stand in at {}: {e}", path.display());
        let dir = path.parent().unwrap_or(Path::new("/"));
        let handle = fs::File::open(dir).map_err(failed)?;
        let name = format!(".keyward-probe-{}", std::process::id());
        // A socket address holds 107 bytes; the way through the open directory is always short.
        let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()));
        let made = dir.join(&name);
        drop(fs::remove_file(&made));
        let listener = UnixListener::bind(&short).map_err(failed)?;
        let settled = (|| {
            std::os::unix::fs::chown(&made, Some(place.uid), Some(place.gid))?;
            fs::set_permissions(&made, Permissions::from_mode(place.mode))?;
            let meta = fs::symlink_metadata(&made)?;
            fs::rename(&made, &path)?;
            Ok((meta.dev(), meta.ino()))
        })();
        let own = settled.map_err(|e| {
            drop(fs::remove_file(&made));
            failed(e)
        })?;
        let asked = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(serve(listener, answer, asked.clone()));
        Ok(Self { path, own, asked, task })
    }

    /// How many requests came.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
        // Only what is ours: the daemon may have put the gate back already.
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.own) {
            drop(fs::remove_file(&self.path));
        }
    }
}

async fn serve(listener: UnixListener, answer: Answer, asked: Arc<AtomicU64>) {
    // Each ends with the stand-in, or when its patience is over.
    let mut all = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while all.try_join_next().is_some() {}
        all.spawn(converse(stream, answer, asked.clone()));
    }
}

async fn converse(mut stream: UnixStream, answer: Answer, asked: Arc<AtomicU64>) {
    let talk = async {
        let mut head = Vec::new();
        let mut chunk = [0; 1_024];
        while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < LONGEST_HEAD {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => head.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Ok(_) | Err(_) => return,
            }
        }
        // Whoever speaks HTTP/2 asks over gRPC, and is answered in it: anything else would be garbage to him.
        if head.starts_with(b"PRI * HTTP/2.0\r\n") {
            return over_grpc(stream, head, answer, asked).await;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        match answer {
            Answer::Silence => core::future::pending().await,
            Answer::HangUp => {}
            Answer::Garbage => say(stream, GARBAGE).await,
            Answer::Status(status) => say(stream, plain(status).as_bytes()).await,
        }
    };
    drop(tokio::time::timeout(PATIENCE, talk).await);
}

const GARBAGE: &[u8] = b"\x16\x03\x01 keyward probe: no HTTP at all\r\n\r\n";

async fn say(mut stream: UnixStream, bytes: &[u8]) {
    // A proxy that hangs up has heard enough.
    drop(stream.write_all(bytes).await);
    drop(stream.shutdown().await);
}

/// A whole answer over HTTP/1.1.
fn plain(status: u16) -> String {
    let more = match status {
        204 => "",
        302 => "location: /\r\ncontent-length: 0\r\n",
        _ => "content-length: 0\r\n",
    };
    // The reason is free text (RFC 9112 section 4).
    format!("HTTP/1.1 {status} Probe\r\nconnection: close\r\n{more}\r\n")
}

/// The same over HTTP/2: every answer but silence comes with gRPC's OK and a message that lets everything through.
async fn over_grpc(stream: UnixStream, head: Vec<u8>, answer: Answer, asked: Arc<AtomicU64>) {
    if answer == Answer::Garbage {
        asked.fetch_add(1, Ordering::Relaxed);
        return say(stream, GARBAGE).await;
    }
    let (read, write) = stream.into_split();
    let whole = tokio::io::join(std::io::Cursor::new(head).chain(read), write);
    let hang_up = Arc::new(Notify::new());
    let heard = hang_up.clone();
    let service = service_fn(move |question: Request<Incoming>| {
        let (asked, heard) = (asked.clone(), heard.clone());
        async move {
            drop(Limited::new(question.into_body(), LONGEST_HEAD).collect().await);
            asked.fetch_add(1, Ordering::Relaxed);
            match answer {
                Answer::Silence => core::future::pending().await,
                Answer::HangUp | Answer::Garbage => {
                    heard.notify_one();
                    core::future::pending().await
                }
                Answer::Status(status) => Ok::<_, Infallible>(granting(status)),
            }
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(whole), service);
    tokio::select! {
        _ = connection => {}
        () = hang_up.notified() => {}
    }
}

fn granting(status: u16) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = match status {
        204 => Empty::new().boxed(),
        _ => Full::new(Bytes::from(ext_authz::ok())).with_trailers(async move { Some(Ok(trailers)) }).boxed(),
    };
    let built = Response::builder().status(status).header("content-type", "application/grpc").body(body);
    // Every status here is one.
    built.unwrap_or_default()
}
