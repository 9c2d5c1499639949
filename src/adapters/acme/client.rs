//! One issuer: its directory, its nonces, and signed requests to it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::RwLock;

use super::account::Seat;
use super::classify::{self, Carried};
use super::config::{AcmeConfigError, AcmeIssuerConfig, CaUrl, UrlRules};
use super::evidence::{Book, Exchange};
use super::files::AccountDir;
use super::jws::{AccountKey, Signer};
use super::limiter::Limiter;
use super::messages::{Directory, Endpoint, Problem};
use super::text::clean;
use super::transport::{Answer, Method, Request, SystemRoots, Transport};
use crate::domain::execution::Fault;
use crate::domain::id::IssuerId;
use crate::domain::time::{Boottime, HOUR};
use crate::ports::{Clock, Count, IssuerError, IssuerErrorKind, IssuerMeta, Meter};

/// What all issuers share.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) limiter: Limiter,
    pub(super) book: Book,
    pub(super) system: Arc<SystemRoots>,
    pub(super) dir: Arc<AccountDir>,
}

/// One issuer.
pub(super) struct Client {
    pub(super) config: AcmeIssuerConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) seat: RwLock<Seat>,
    rules: UrlRules,
    transport: Transport,
    directory: tokio::sync::Mutex<Option<Fetched>>,
    /// The newest last, and taken first: old ones sink and are dropped.
    nonces: Mutex<VecDeque<String>>,
}

struct Fetched {
    directory: Arc<Directory>,
    at: Boottime,
    tried: Boottime,
}

/// A signed request.
#[derive(Clone, Copy)]
pub(super) struct Post<'a> {
    /// The order under whose URL it is kept as evidence; empty if there is none yet.
    pub(super) order: &'a str,
    pub(super) endpoint: Endpoint,
    pub(super) url: &'a CaUrl,
    /// `None` is POST-as-GET.
    pub(super) payload: Option<&'a Value>,
    pub(super) accept: &'static str,
    pub(super) cap: usize,
}

/// No JSON of a CA comes near this; the largest, an order of 100 names, has some 20 KiB.
pub(super) const BODY_CAP: usize = 1024 * 1024;
/// What CAs speak.
pub(super) const JSON: &str = "application/json";
/// As many as requests run at once for one issuer.
const MOST_NONCES: usize = 8;
/// With half of all nonces refused, 24 refusals in a row happen once in 2^24 = 16.8 million requests.
const MOST_TRIES: u32 = 24;
/// The bound in time for the same.
const LONGEST_TRYING: Duration = Duration::from_secs(30);
/// A directory that cannot be fetched again is used up to a day longer, and asked for once a minute.
const STALE: Duration = Duration::from_secs(24 * 3_600);
const RETRY_STALE: Duration = Duration::from_secs(60);
/// Let's Encrypt has four profiles.
const MOST_PROFILES: usize = 32;

impl Client {
    /// Checks the configuration; sends nothing and loads nothing.
    pub(super) fn new(mut config: AcmeIssuerConfig, shared: Arc<Shared>) -> Result<Self, AcmeConfigError> {
        let rules = UrlRules::new(&config)?;
        let transport = Transport::new(&config, shared.clock.clone(), shared.system.clone())?;
        // The transport holds them now.
        config.extra_roots = Vec::new();
        Ok(Self {
            config,
            shared,
            seat: RwLock::new(Seat::Unread),
            rules,
            transport,
            directory: tokio::sync::Mutex::new(None),
            nonces: Mutex::new(VecDeque::new()),
        })
    }

    /// The issuer's id.
    pub(super) fn id(&self) -> &IssuerId {
        &self.config.id
    }

    /// Checks a URL that the CA handed out; `what` names it.
    pub(super) fn url(&self, what: &str, text: &str) -> Result<CaUrl, IssuerError> {
        self.rules
            .check(text)
            .map_err(|why| classify::broken(self.id(), format!("{what} URL {:?} {why}", clean(text, 256))))
    }

    /// What the directory says about the CA.
    pub(super) async fn meta(&self) -> Result<IssuerMeta, IssuerError> {
        let directory = self.directory().await?;
        let meta = &directory.meta;
        Ok(IssuerMeta {
            terms: meta.terms_of_service.as_deref().map(|t| clean(t, 2_048)),
            profiles: meta.profiles.keys().take(MOST_PROFILES).map(|p| clean(p, 64)).collect(),
            ari: directory.renewal_info.is_some(),
            eab_required: meta.external_account_required,
        })
    }

    /// The directory, at most an hour old if the CA can be reached.
    pub(super) async fn directory(&self) -> Result<Arc<Directory>, IssuerError> {
        // Held while fetching: whoever else needs the directory would only fetch it a second time.
        let mut slot = self.directory.lock().await;
        let now = self.shared.clock.boottime();
        if let Some(known) = &*slot
            && (now.since(known.at) < HOUR || now.since(known.tried) < RETRY_STALE)
        {
            return Ok(known.directory.clone());
        }
        match self.fetch_directory().await {
            Ok(directory) => {
                let directory = Arc::new(directory);
                *slot = Some(Fetched { directory: directory.clone(), at: now, tried: now });
                Ok(directory)
            }
            Err(error) => match slot.as_mut().filter(|known| now.since(known.at) < STALE) {
                Some(known) => {
                    known.tried = now;
                    tracing::info!(issuer = %self.id(), %error, "the old directory stays in use");
                    Ok(known.directory.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn fetch_directory(&self) -> Result<Directory, IssuerError> {
        let url = self.rules.directory().clone();
        let answer = self.get("", Endpoint::Directory, &url).await?;
        let directory: Directory = self.json(Endpoint::Directory, answer)?;
        self.url("newNonce", &directory.new_nonce)?;
        self.url("newAccount", &directory.new_account)?;
        self.url("newOrder", &directory.new_order)?;
        directory.key_change.as_deref().map(|u| self.url("keyChange", u)).transpose()?;
        directory.renewal_info.as_deref().map(|u| self.url("renewalInfo", u)).transpose()?;
        Ok(directory)
    }

    /// An unsigned GET that must end in 2xx.
    pub(super) async fn get(&self, order: &str, endpoint: Endpoint, url: &CaUrl) -> Result<Answer, IssuerError> {
        let request = Request { method: Method::Get, url, body: None, accept: JSON, cap: BODY_CAP };
        let answer = self.exchange(order, endpoint, request).await?;
        self.accepted(endpoint, answer, Carried::Nothing)
    }

    /// Signs and sends until the nonce is taken; any other answer, good or bad, is the caller's.
    pub(super) async fn post(
        &self,
        key: &AccountKey,
        signer: Signer<'_>,
        post: Post<'_>,
    ) -> Result<Answer, IssuerError> {
        let started = self.shared.clock.boottime();
        let mut fresh: Option<String> = None;
        let mut tries: u32 = 0;
        loop {
            let nonce = match fresh.take().or_else(|| self.pooled_nonce()) {
                Some(nonce) => nonce,
                None => self.new_nonce(post.order).await?,
            };
            let jws = key.sign(signer, &nonce, post.url.as_str(), post.payload).map_err(|e| {
                classify::error(IssuerErrorKind::Retry, Fault::Host, format!("account key of issuer {} {e}", self.id()))
            })?;
            let Post { order, endpoint, url, accept, cap, .. } = post;
            let request = Request { method: Method::Post, url, body: Some(jws), accept, cap };
            let mut answer = self.exchange(order, endpoint, request).await?;
            tries = tries.saturating_add(1);
            let spent = self.shared.clock.boottime().since(started);
            if !is_bad_nonce(&answer) || tries >= MOST_TRIES || spent >= LONGEST_TRYING {
                if let Some(nonce) = answer.headers.nonce.take() {
                    self.keep_nonce(nonce);
                }
                return Ok(answer);
            }
            // RFC 8555 section 6.5: the error brings a nonce to try again with.
            fresh = answer.headers.nonce.take();
        }
    }

    /// Turns any answer but 2xx into its error.
    pub(super) fn accepted(&self, endpoint: Endpoint, answer: Answer, carried: Carried) -> Result<Answer, IssuerError> {
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(classify::refused(self.id(), endpoint, &answer, carried))
    }

    /// Reads the body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, endpoint: Endpoint, answer: Answer) -> Result<T, IssuerError> {
        let body = answer.body.map_err(|f| classify::failed(self.id(), endpoint, &f))?;
        serde_json::from_slice(&body).map_err(|e| {
            let text = format!(
                "{} answered with {} bytes that are not as RFC 8555 has them: {e}",
                endpoint.as_str(),
                body.len()
            );
            classify::broken(self.id(), text)
        })
    }

    /// One exchange within the limit of requests a second, counted and kept as evidence.
    async fn exchange(&self, order: &str, endpoint: Endpoint, request: Request<'_>) -> Result<Answer, IssuerError> {
        let host = request.url.parsed().host_str().unwrap_or_default().to_owned();
        let (method, url) = (request.method, request.url);
        let passed = self.shared.limiter.pass(&host, self.config.requests_per_second).await;
        let outcome = match passed {
            Ok(()) => self.transport.send(request).await,
            Err(wait) => Err(super::transport::Failure::Busy(host, wait)),
        };
        let (status, problem, failure) = match &outcome {
            Ok(a) if (200..300).contains(&a.status) => (a.status, None, a.body.as_ref().err()),
            Ok(a) => (a.status, a.body.as_deref().ok().and_then(Problem::parse), a.body.as_ref().err()),
            Err(failure) => (0, None, Some(failure)),
        };
        self.shared.meter.count(Count::AcmeRequest { issuer: self.id().clone(), endpoint: endpoint.as_str(), status });
        if let Some(p) = &problem {
            let problem = classify::known(p.short_kind()).to_owned();
            self.shared.meter.count(Count::AcmeError { issuer: self.id().clone(), problem });
        }
        let headers = outcome.as_ref().ok().map(|a| &a.headers);
        let made = headers.filter(|_| endpoint == Endpoint::NewOrder && (200..300).contains(&status));
        let made = made.and_then(|h| self.located(url, h.location.as_deref()).ok());
        let line = Exchange {
            at: self.shared.clock.now(),
            method,
            endpoint,
            url: url.as_str(),
            status,
            request_id: headers.and_then(|h| h.request_id.as_deref()),
            retry_after: classify::seconds(headers.and_then(|h| h.retry_after)),
            problem: problem.as_ref(),
            failure: failure.map(ToString::to_string),
        };
        self.shared.book.record(self.id(), made.as_ref().map_or(order, CaUrl::as_str), &line);
        outcome.map_err(|f| classify::failed(self.id(), endpoint, &f))
    }

    /// The URL of a `Location` header, which may be relative to the request's.
    pub(super) fn located(&self, base: &CaUrl, location: Option<&str>) -> Result<CaUrl, IssuerError> {
        let text = location.ok_or_else(|| classify::broken(self.id(), "the answer has no Location header"))?;
        if text.contains("://") {
            return self.url("Location", text);
        }
        let joined = base.parsed().join(text).map_or_else(|_| text.to_owned(), String::from);
        self.url("Location", &joined)
    }

    fn pooled_nonce(&self) -> Option<String> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }

    fn keep_nonce(&self, nonce: String) {
        let mut pool = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        pool.push_back(nonce);
        if pool.len() > MOST_NONCES {
            pool.pop_front();
        }
    }

    async fn new_nonce(&self, order: &str) -> Result<String, IssuerError> {
        let directory = self.directory().await?;
        let url = self.url("newNonce", &directory.new_nonce)?;
        let request = Request { method: Method::Head, url: &url, body: None, accept: JSON, cap: BODY_CAP };
        let answer = self.exchange(order, Endpoint::NewNonce, request).await?;
        let answer = self.accepted(Endpoint::NewNonce, answer, Carried::Nothing)?;
        answer
            .headers
            .nonce
            .ok_or_else(|| classify::broken(self.id(), "new-nonce answered without a usable Replay-Nonce"))
    }
}

fn is_bad_nonce(answer: &Answer) -> bool {
    let problem = answer.body.as_deref().ok().filter(|_| answer.status >= 400).and_then(Problem::parse);
    problem.is_some_and(|p| p.short_kind() == "badNonce")
}
