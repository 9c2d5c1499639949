//! One request from its first byte to its answer: faults, bounds, signature, nonce, then the resource's handler.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use http::header::{CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Answer, Content};
use super::book::{AccountStatus, Book};
use super::config::{CaConfig, Demand, Renewal};
use super::fault::{Ari, Endpoint, Fault, Faults, Strike};
use super::jws::{Jwk, Jws};
use super::nonce::Nonces;
use super::pki::Pki;
use super::problem::Problem;
use super::route::Route;
use super::stats::Stats;
use super::validate::Zone;
use crate::ports::{Clock, Entropy};

/// The whole CA behind its listener.
pub(super) struct Ca {
    pub(super) config: CaConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Scheme, host and port of all URLs.
    pub(super) base: String,
    /// Stands before every id in a URL, so that URLs of an earlier CA on the same port name nothing here.
    pub(super) tag: String,
    pub(super) pki: Pki,
    pub(super) foreign: Pki,
    pub(super) zone: Mutex<Zone>,
    /// What renewal information says of certificates that have no answer of their own.
    pub(super) ari: Mutex<Ari>,
    pub(super) terms: Mutex<Option<String>>,
    pub(super) paused: AtomicBool,
    pub(super) permits: Semaphore,
    /// Validations and delayed issuances; they end with the CA.
    pub(super) tasks: Mutex<JoinSet<()>>,
    book: Mutex<Book>,
    nonces: Mutex<Nonces>,
    faults: Mutex<Faults>,
    stats: Mutex<Stats>,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer, as asked")]
pub(super) struct Dropped;

/// A request whose signature and nonce are good.
pub(super) struct Signed {
    pub(super) jws: Jws,
    pub(super) signer: Signer,
    pub(super) strike: Strike,
}

pub(super) enum Signer {
    Account(u64),
    Key(Jwk),
}

/// A lock is held for a look-up or a note, never across a wait, a signature or a validation.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ca {
    pub(super) fn new(
        config: CaConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        base: String,
        pki: Pki,
        foreign: Pki,
    ) -> Self {
        let mut tag = [0_u8; 4];
        entropy.fill(&mut tag);
        Self {
            tag: tag.iter().map(|b| format!("{b:02x}")).collect(),
            zone: Mutex::default(),
            ari: Mutex::new(Ari::Computed),
            terms: Mutex::new(config.terms.clone()),
            paused: AtomicBool::new(false),
            permits: Semaphore::new(config.bounds.validations.max(1)),
            tasks: Mutex::default(),
            book: Mutex::new(Book::new(config.bounds)),
            nonces: Mutex::new(Nonces::new(config.bounds.nonces)),
            faults: Mutex::default(),
            stats: Mutex::new(Stats::new(config.bounds.records)),
            config,
            clock,
            entropy,
            base,
            pki,
            foreign,
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    pub(super) fn url(&self, room: &str, id: u64) -> String {
        format!("{}/{room}/{}{id:x}", self.base, self.tag)
    }

    /// The number in an id that this CA made.
    pub(super) fn number(&self, id: &str) -> Option<u64> {
        u64::from_str_radix(id.strip_prefix(&self.tag)?, 16).ok()
    }

    pub(super) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
        let route = Route::parse(request.uri().path());
        let endpoint = route.as_ref().map(Route::endpoint);
        let strike = endpoint.map(|e| self.faults().strike(e, &*self.entropy)).unwrap_or_default();
        if let Some(endpoint) = endpoint {
            self.stats().count(endpoint);
        }
        if self.paused.load(Ordering::Relaxed) || strike.has(&Fault::DropRequest) {
            return Err(Dropped);
        }
        if let Some(span) = strike.find(|f| if let Fault::Delay(span) = f { Some(*span) } else { None }) {
            self.clock.sleep(span).await;
        }
        // A nonce in an answer that a cache may keep would be used twice, so plain GETs of the directory and of renewal
        // information bring none.
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        let fresh = !get || endpoint == Some(Endpoint::NewNonce);
        let index = (endpoint != Some(Endpoint::Directory)).then(|| format!("{}/directory", self.base));
        let answer = match route {
            None => Err(Problem::not_found(format!("there is nothing at {}", request.uri().path()))),
            Some(route) if get => self.get(&route, request.method(), &strike),
            Some(route) => self.post(&route, request, &strike).await,
        };
        if strike.has(&Fault::DropResponse) {
            return Err(Dropped);
        }
        let mut response = answer.unwrap_or_else(Answer::from).respond(index.as_deref(), &strike, &self.clock);
        if fresh && let Ok(nonce) = HeaderValue::try_from(lock(&self.nonces).issue(&*self.entropy)) {
            response.headers_mut().insert(HeaderName::from_static("replay-nonce"), nonce);
        }
        Ok(response)
    }

    fn get(&self, route: &Route, method: &Method, strike: &Strike) -> Result<Answer, Problem> {
        self.refused(strike)?;
        match route {
            Route::Directory => Ok(Answer::json(self.directory())),
            // HEAD says 200 and GET 204 (RFC 8555 section 7.2).
            Route::NewNonce if *method == Method::HEAD => Ok(Answer::new(StatusCode::OK, Content::Nothing)),
            Route::NewNonce => Ok(Answer::new(StatusCode::NO_CONTENT, Content::Nothing)),
            Route::RenewalInfo(id) => self.renewal_info(id),
            Route::NewAccount
            | Route::Account(_)
            | Route::OrderList(_)
            | Route::KeyChange
            | Route::NewOrder
            | Route::Order(_)
            | Route::Finalize(_)
            | Route::Authz(_)
            | Route::Challenge(..)
            | Route::Cert(_)
            | Route::Revoke => Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "malformed",
                "this resource takes signed POST requests only (RFC 8555 section 6.3)",
            )),
        }
    }

    async fn post(
        self: &Arc<Self>,
        route: &Route,
        request: Request<Incoming>,
        strike: &Strike,
    ) -> Result<Answer, Problem> {
        if *request.method() != Method::POST {
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "malformed", "only GET, HEAD and POST are taken"));
        }
        let kind = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if kind != Some("application/jose+json") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "malformed",
                "the content type must be application/jose+json (RFC 8555 section 6.2)",
            ));
        }
        let url = format!("{}{}", self.base, request.uri().path_and_query().map_or("", |p| p.as_str()));
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = self.body(request.into_body()).await?;
        self.refused(strike)?;
        let signed = self.signed(Jws::parse(&body)?, &url, strike)?;
        match route {
            Route::Directory => Ok(Answer::json(self.directory())),
            Route::NewNonce => Ok(Answer::new(StatusCode::NO_CONTENT, Content::Nothing)),
            Route::RenewalInfo(id) => self.renewal_info(id),
            Route::NewAccount => self.new_account(&signed),
            Route::Account(id) => self.account(id, &signed),
            Route::OrderList(id) => self.order_list(id, &query, &signed),
            Route::KeyChange => self.key_change(&signed, &url),
            Route::NewOrder => self.new_order(&signed),
            Route::Order(id) => self.order(id, &signed),
            Route::Finalize(id) => self.finalize(id, &signed),
            Route::Authz(id) => self.authorization(id, &signed),
            Route::Challenge(id, index) => self.challenge(id, index, &signed),
            Route::Cert(id) => self.certificate(id, &signed),
            Route::Revoke => self.revoke(&signed),
        }
    }

    async fn body(&self, body: Incoming) -> Result<Bytes, Problem> {
        let (most, idle) = (self.config.bounds.body, self.config.bounds.idle);
        match timeout(idle, Limited::new(body, most).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(e)) => Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "malformed",
                format!("the body cannot be read or exceeds {most} bytes: {e}"),
            )),
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "malformed",
                format!("the body did not end within {} s", idle.as_secs()),
            )),
        }
    }

    /// Faults that answer in the place of the handler.
    fn refused(&self, strike: &Strike) -> Result<(), Problem> {
        let refusal = strike.find(|fault| {
            if let Fault::Status { code, problem, retry_after } = fault {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let refusal = Problem::new(status, problem, "refused because the scenario says so");
                Some(retry_after.iter().fold(refusal, |p, text| p.with(RETRY_AFTER, text)))
            } else if let Fault::LimitReached(span) = fault {
                let text = format!("too many requests, retry after {} seconds", span.as_secs());
                let refusal = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rateLimited", text);
                Some(refusal.with(RETRY_AFTER, span.as_secs().to_string()))
            } else if *fault == Fault::TermsChanged {
                let terms = format!("{}/terms/changed", self.base);
                let text = format!("the terms of service have changed; agree to them at {terms}");
                let mut refusal = Problem::new(StatusCode::FORBIDDEN, "userActionRequired", text)
                    .with(LINK, format!("<{terms}>;rel=\"terms-of-service\""));
                refusal.more = Some(("instance", json!(terms)));
                Some(refusal)
            } else {
                None
            }
        });
        refusal.map_or(Ok(()), Err)
    }

    /// Checks who signed, for which URL, with which nonce (RFC 8555 sections 6.2 to 6.5).
    fn signed(&self, jws: Jws, url: &str, strike: &Strike) -> Result<Signed, Problem> {
        let signer = match (&jws.header.jwk, &jws.header.kid) {
            (Some(jwk), None) => {
                let key = Jwk::parse(jwk)?;
                jws.verify(&key)?;
                Signer::Key(key)
            }
            (None, Some(kid)) => {
                let unknown = || {
                    Problem::new(
                        StatusCode::BAD_REQUEST,
                        "accountDoesNotExist",
                        format!("{kid:?} is no account of this CA"),
                    )
                };
                let id = kid.strip_prefix(&format!("{}/account/", self.base)).and_then(|id| self.number(id));
                let id = id.ok_or_else(unknown)?;
                let account = self.book().accounts.get(&id).map(|a| (a.key.clone(), a.status));
                let (key, status) = account.ok_or_else(unknown)?;
                jws.verify(&key)?;
                if status != AccountStatus::Valid {
                    return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "the account is deactivated"));
                }
                Signer::Account(id)
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(Problem::malformed("the protected header must have exactly one of jwk and kid"));
            }
        };
        let nonce = jws.header.nonce.as_deref();
        let good = nonce.is_some_and(|nonce| lock(&self.nonces).spend(nonce));
        if !good || strike.has(&Fault::BadNonce) {
            return Err(Problem::bad_nonce(match nonce {
                Some(nonce) => format!("the nonce {nonce:?} is unknown or was used"),
                None => "the protected header has no nonce".to_owned(),
            }));
        }
        if jws.header.url != url {
            return Err(Problem::unauthorized(format!(
                "the protected header is for {:?}, the request went to {url}",
                jws.header.url
            )));
        }
        Ok(Signed { jws, signer, strike: strike.clone() })
    }

    fn directory(&self) -> Value {
        let at = |path: &str| json!(format!("{}/{path}", self.base));
        let mut directory = Map::from_iter([
            ("newNonce".to_owned(), at("nonce")),
            ("newAccount".to_owned(), at("account/new")),
            ("newOrder".to_owned(), at("order/new")),
            ("revokeCert".to_owned(), at("revoke")),
            ("keyChange".to_owned(), at("key-change")),
        ]);
        if matches!(self.config.renewal, Renewal::On { .. }) {
            directory.insert("renewalInfo".to_owned(), at("renewal"));
        }
        let profiles: BTreeMap<&str, String> = self
            .config
            .profiles
            .iter()
            .map(|(name, p)| (&**name, format!("certificates of {} hours", p.lifetime.as_secs() / 3_600)))
            .collect();
        let mut meta = json!({
            "website": self.base,
            "externalAccountRequired": self.config.external.demand == Demand::Required,
            "profiles": profiles,
        });
        if let (Some(map), Some(terms)) = (meta.as_object_mut(), lock(&self.terms).as_ref()) {
            map.insert("termsOfService".to_owned(), json!(terms));
        }
        directory.insert("meta".to_owned(), meta);
        Value::Object(directory)
    }

    /// The id of an object that a new answer is about, as `Location`.
    pub(super) fn created(&self, status: StatusCode, url: String, value: Value) -> Answer {
        Answer::new(status, Content::Json(value)).with(LOCATION, url)
    }
}

impl Signed {
    /// The account that signed.
    pub(super) fn account(&self) -> Result<u64, Problem> {
        match &self.signer {
            Signer::Account(id) => Ok(*id),
            Signer::Key(_) => Err(Problem::malformed("this resource needs a kid in the protected header, not a jwk")),
        }
    }

    /// The key in the header.
    pub(super) fn key(&self) -> Result<&Jwk, Problem> {
        match &self.signer {
            Signer::Key(key) => Ok(key),
            Signer::Account(_) => {
                Err(Problem::malformed("this resource needs a jwk in the protected header, not a kid"))
            }
        }
    }

    /// Whether this is a POST-as-GET.
    pub(super) fn is_get(&self) -> bool {
        self.jws.payload.is_empty()
    }

    pub(super) fn payload<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.jws.payload)
            .map_err(|e| Problem::malformed(format!("the payload is not as expected: {e}")))
    }
}
