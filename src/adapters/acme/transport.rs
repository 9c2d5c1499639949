//! One HTTP exchange: sent once, bounded in time and bytes, never redirected, never retried.
//!
//! Refuses to know ACME. Trust is decided here: the issuer's own roots if it has any, else the system's, loaded once for
//! all issuers when the first of them needs them.

use core::time::Duration;
use std::sync::Arc;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;

use super::config::{AcmeConfigError, AcmeIssuerConfig, AcmeTimeouts, CaUrl, extra_roots};
use super::headers::Headers;
use super::text::clean;
use crate::ports::Clock;

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
        }
    }
}

/// What to send.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: &'a CaUrl,
    /// A JWS; its content never reaches a log.
    pub(super) body: Option<String>,
    pub(super) accept: &'static str,
    /// Most bytes of the answer's body.
    pub(super) cap: usize,
}

/// What came back. The head counts even if the body is unusable: a newOrder's `Location` is worth an order.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Result<Vec<u8>, Failure>,
}

/// Why an exchange failed below HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No address, no route, refused, or no connection in time.
    #[error("no connection: {0}")]
    Connect(String),
    /// The server's certificate or its TLS is not acceptable.
    #[error("no trust in the server's TLS: {0}")]
    Tls(String),
    /// No answer in time.
    #[error("no answer within {}", crate::domain::time::human_span(*.0))]
    Timeout(Duration),
    /// The answer's head came, its body did not end in time.
    #[error("an answer that did not end within {}", crate::domain::time::human_span(*.0))]
    Slow(Duration),
    /// The connection ended early, or what came is no HTTP.
    #[error("a broken answer: {0}")]
    Broken(String),
    /// More bytes than an answer may have.
    #[error("an answer of more than {0} bytes")]
    Oversize(usize),
    /// Our own limit of requests a second.
    #[error("our own limit of requests a second to {0} is used up for longer than 30 s")]
    Busy(String, Duration),
    /// Something on this machine.
    #[error("{0}")]
    Local(String),
}

/// The system's roots: loaded once, when first needed; a failed load is tried again by whoever comes next.
#[derive(Default)]
pub(super) struct SystemRoots(Mutex<Option<Arc<RootCertStore>>>);

impl SystemRoots {
    async fn load(&self) -> Result<Arc<RootCertStore>, Failure> {
        let mut slot = self.0.lock().await;
        if let Some(roots) = &*slot {
            return Ok(roots.clone());
        }
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let found = found.await.map_err(|e| Failure::Local(format!("system roots cannot be loaded: {e}")))?;
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let why = found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
            let text = format!("no system root can be used: {why}; install ca-certificates, or configure extra_roots");
            return Err(Failure::Local(text));
        }
        let roots = Arc::new(roots);
        *slot = Some(roots.clone());
        Ok(roots)
    }
}

/// The way to one issuer. The client with its connections is made on first use.
pub(super) struct Transport {
    client: Mutex<Option<reqwest::Client>>,
    clock: Arc<dyn Clock>,
    system: Arc<SystemRoots>,
    roots: Vec<CertificateDer<'static>>,
    proxy: Option<reqwest::Proxy>,
    https_only: bool,
    timeouts: AcmeTimeouts,
}

/// Connections kept open to a host: as many as authorizations are fetched at once, of about 40 KiB each while idle.
const IDLE_CONNECTIONS: usize = 8;
/// TLS sessions to resume: a CA has one host, perhaps two; each session has some KiB.
const SESSIONS: usize = 4;
/// Shorter than the keep-alive of common servers (nginx: 75 s, Go: as long as configured, often 60 s), so that a request
/// is not sent into a connection that is just being closed: such a request would not be retried here.
const IDLE_TIME: Duration = Duration::from_secs(20);

impl Transport {
    /// Checks the configuration; connects to nothing.
    pub(super) fn new(
        config: &AcmeIssuerConfig,
        clock: Arc<dyn Clock>,
        system: Arc<SystemRoots>,
    ) -> Result<Self, AcmeConfigError> {
        let roots = extra_roots(config)?;
        if let Some((index, error)) =
            roots.iter().enumerate().find_map(|(i, der)| Some((i, RootCertStore::empty().add(der.clone()).err()?)))
        {
            return Err(AcmeConfigError::Root(config.id.clone(), index, format!("is no usable certificate: {error}")));
        }
        let proxy = config.proxy.as_deref().map(reqwest::Proxy::all).transpose();
        let proxy = proxy.map_err(|e| AcmeConfigError::Proxy(config.id.clone(), chain(&e)))?;
        Ok(Self {
            client: Mutex::new(None),
            clock,
            system,
            roots,
            proxy,
            https_only: !config.allow_http_directory_in_tests,
            timeouts: config.timeouts,
        })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// There was no head of an answer; a body that failed is in the answer.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let client = self.client().await?;
        let url = request.url.parsed().clone();
        let mut builder = match request.method {
            Method::Get => client.get(url),
            Method::Head => client.head(url),
            Method::Post => client.post(url),
        };
        builder = builder.header(ACCEPT, HeaderValue::from_static(request.accept));
        if let Some(body) = request.body {
            builder = builder.header(CONTENT_TYPE, HeaderValue::from_static("application/jose+json")).body(body);
        }
        let started = self.clock.boottime();
        let limit = self.timeouts.request;
        let response = match tokio::time::timeout(limit, builder.send()).await {
            Err(_) => return Err(Failure::Timeout(limit)),
            Ok(Err(error)) => return Err(failure(&error, limit)),
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        let headers = Headers::of(response.headers(), self.clock.now());
        let left = limit.saturating_sub(self.clock.boottime().since(started));
        let body = match tokio::time::timeout(left, read(response, request.cap)).await {
            Err(_) => Err(Failure::Slow(limit)),
            Ok(body) => body,
        };
        Ok(Answer { status, headers, body })
    }

    async fn client(&self) -> Result<reqwest::Client, Failure> {
        let mut slot = self.client.lock().await;
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let client = self.build().await?;
        *slot = Some(client.clone());
        Ok(client)
    }

    async fn build(&self) -> Result<reqwest::Client, Failure> {
        let roots = if self.roots.is_empty() {
            self.system.load().await?
        } else {
            let mut own = RootCertStore::empty();
            for der in &self.roots {
                own.add(der.clone()).map_err(|e| Failure::Local(format!("extra root cannot be used: {e}")))?;
            }
            Arc::new(own)
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let local = |e: &dyn core::fmt::Display| Failure::Local(format!("TLS cannot be set up: {e}"));
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| local(&e))?
            .with_webpki_verifier(verifier.map_err(|e| local(&e))?)
            .with_no_client_auth();
        tls.resumption = Resumption::in_memory_sessions(SESSIONS);
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .https_only(self.https_only)
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(self.timeouts.connect)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.build().map_err(|e| Failure::Local(format!("HTTP client cannot be set up: {}", chain(&e))))
    }
}

/// Reads a body piece by piece and stops at the first byte too many.
async fn read(mut response: reqwest::Response, cap: usize) -> Result<Vec<u8>, Failure> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).unwrap_or(usize::MAX) > cap {
        return Err(Failure::Oversize(cap));
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(piece)) if body.len().saturating_add(piece.len()) > cap => return Err(Failure::Oversize(cap)),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(error) => return Err(Failure::Broken(chain(&error))),
        }
    }
}

fn failure(error: &reqwest::Error, limit: Duration) -> Failure {
    if causes(error).any(is_tls) {
        return Failure::Tls(chain(error));
    }
    if error.is_connect() {
        return Failure::Connect(chain(error));
    }
    if error.is_timeout() {
        return Failure::Timeout(limit);
    }
    if error.is_builder() {
        return Failure::Local(chain(error));
    }
    Failure::Broken(chain(error))
}

/// An I/O error hides what it wraps from `source`, and connectors wrap I/O errors in I/O errors.
fn is_tls(error: &(dyn core::error::Error + 'static)) -> bool {
    let mut error = error;
    // As deep as the chain of causes may be.
    for _ in 0..16 {
        if error.is::<rustls::Error>() {
            return true;
        }
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => error = wrapped,
            None => return false,
        }
    }
    false
}

fn causes<'a>(
    error: &'a (dyn core::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn core::error::Error + 'static)> {
    // No chain of causes is this deep; an endless one would be an error in itself.
    core::iter::successors(Some(error), |e| e.source()).take(16)
}

/// An error with its causes, each once, without the URL (the caller names it).
fn chain(error: &(dyn core::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.downcast_ref::<reqwest::Error>().map_or_else(
            || cause.to_string(),
            |e| {
                if e.is_connect() { "cannot connect".to_owned() } else { "request failed".to_owned() }
            },
        );
        if !parts.iter().any(|p| p.contains(&text)) {
            parts.push(text);
        }
    }
    clean(&parts.join(": "), 512)
}
