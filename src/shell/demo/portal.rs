//! The sample review portal: a TLS server that takes new files when its reload hook says so, and that lets nobody approve
//! while the gate is closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use core::convert::Infallible;
use core::time::Duration;

use arc_swap::ArcSwapOption;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use maud::{DOCTYPE, html};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::domain::id::PathId;
use crate::engine::Engine;

use super::stage::{RELOAD_MARK, Stage};

/// How often the portal looks whether it is to reload.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A client may take this long for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: usize = 64;

/// The certificate in use; none until the first reload.
#[derive(Debug, Default)]
struct Current(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// The running portal; it ends when dropped.
pub(super) struct Portal {
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Opens the portal. Without a certificate it refuses every handshake.
pub(super) async fn open(stage: &Stage, engine: Arc<Engine>, path: PathId) -> Result<Portal, String> {
    let listener = TcpListener::bind(stage.portal).await.map_err(|e| format!("{}: {e}", stage.portal))?;
    let current = Arc::new(Current::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    // A resumed session would go on with the certificate of yesterday.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let reloading = tokio::spawn(reload_when_told(stage.dir.clone(), current));
    let serving = tokio::spawn(accept(listener, acceptor, engine, path));
    Ok(Portal { tasks: [reloading, serving] })
}

async fn reload_when_told(dir: PathBuf, current: Arc<Current>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        if tokio::fs::remove_file(dir.join(RELOAD_MARK)).await.is_ok() {
            match load(&dir.join("live/current")) {
                Ok(key) => current.0.store(Some(Arc::new(key))),
                Err(error) => super::tell::complain(&format!("the portal cannot take its new files: {error}")),
            }
        }
    }
}

/// Opens the directory behind the link once, so that key and certificate are of one set.
fn load(link: &Path) -> Result<CertifiedKey, String> {
    let dir = link.canonicalize().map_err(|e| e.to_string())?;
    let chain = CertificateDer::pem_file_iter(dir.join("fullchain.pem"))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).map_err(|e| e.to_string())?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider()).map_err(|e| e.to_string())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, engine: Arc<Engine>, path: PathId) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, engine, path) = (acceptor.clone(), engine.clone(), path.clone());
        tokio::spawn(async move {
            let serve = async {
                let tls = acceptor.accept(stream).await.ok()?;
                let answer = service_fn(|request| {
                    let page = respond(&request, &engine, &path);
                    async move { Ok::<_, Infallible>(page) }
                });
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
                builder.serve_connection(TokioIo::new(tls), answer).await.ok()
            };
            // A client that goes away or never comes to its point is no event.
            drop(tokio::time::timeout(PATIENCE, serve).await);
            drop(slot);
        });
    }
}

/// The page; `POST /approve` asks the gate first, as every portal must.
fn respond(request: &Request<Incoming>, engine: &Engine, path: &PathId) -> Response<Full<Bytes>> {
    let verdict = engine.gate(path);
    let (status, said) = match (request.method().as_str(), request.uri().path()) {
        ("GET", "/") => (StatusCode::OK, None),
        ("POST", "/approve") if verdict.is_open() => {
            (StatusCode::OK, Some("Approved (this is a demo: nothing happened)."))
        }
        ("POST", "/approve") => (StatusCode::FORBIDDEN, Some("Not approved: the approval path is closed.")),
        _ => (StatusCode::NOT_FOUND, Some("There is nothing here.")),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="5; url=/";
                title { "Review portal (Keyward demo)" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Review portal" }
                    p.demo { "A sample that stands behind Keyward's gate." }
                    @if let Some(said) = said { p.said role="status" { (said) } }
                    @if verdict.is_open() {
                        p.open { "● OPEN until " (verdict.until) }
                    } @else {
                        p.closed { "■ CLOSED" }
                        ul { @for reason in &verdict.reasons { li { b { (reason.code) } " " (reason.text) } } }
                    }
                    form method="post" action="/approve" {
                        button disabled[!verdict.is_open()] { "Approve request 7F3K-9Q2M" }
                    }
                }
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(page.into_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
    ] {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    response
}

const STYLE: &str = "
:root{color-scheme:light dark;font:17px/1.5 system-ui,sans-serif}
body{margin:0;display:grid;place-items:center;min-height:100vh}
main{max-width:30rem;padding:1.5rem}
h1{margin:0}
.demo{opacity:.75;margin-top:0}
.open{color:light-dark(#0a6b2d,#7fdc9f);font-weight:700}
.closed{color:light-dark(#a30d1a,#ff9aa2);font-weight:700}
.said{border-left:4px solid;padding-left:.75rem}
button{font:inherit;min-height:44px;padding:.5rem 1rem}
";
