//! One request from its first byte to its answer: faults, bounds, signature, nonce, then the resource's handler.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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
use super::book::{AccountStatus, Book, Keeping};
use super::config::{CaConfig, Demand, Renewal};
use super::fault::{Endpoint, Fault, Strike};
use super::house::House;
use super::jws::{Jwk, Jws};
use super::nonce::Nonces;
use super::problem::Problem;
use super::route::Route;
use super::turns::Turns;
use super::validate::Zone;
use crate::domain::time::Timestamp;
use crate::ports::{Clock, Entropy};

/// Names that the system is asked for at once: a quarter of the daemon's 16 threads for what blocks, which the store and the
/// keys need too.
const MOST_RESOLVING: usize = 4;

/// The whole CA behind its listener.
pub(super) struct Ca {
    pub(super) config: Arc<CaConfig>,
    pub(super) house: Arc<dyn House>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) urls: Urls,
    pub(super) zone: Mutex<Zone>,
    pub(super) permits: Semaphore,
    /// What asks the system where a host is; each holds a thread until the system answers.
    pub(super) resolving: Arc<Semaphore>,
    /// The validations of each account that has some.
    pub(super) lanes: Mutex<BTreeMap<u64, Arc<Semaphore>>>,
    /// Validations and delayed issuances; they end with the CA.
    pub(super) tasks: Mutex<JoinSet<()>>,
    /// Orders whose certificate is being made.
    pub(super) making: Mutex<BTreeSet<u64>>,
    /// Orders whose certificate could not be made: how often, and when it is tried again.
    pub(super) later: Mutex<BTreeMap<u64, (u32, Timestamp)>>,
    book: Mutex<Book>,
    nonces: Mutex<Nonces>,
    /// Rows are made durable in turns: what was changed meanwhile goes with the next one, all of it at once.
    journal: Turns,
}

/// Where the resources are.
#[derive(Clone, Debug)]
pub(super) struct Urls {
    /// Scheme, host and port, without a slash at the end.
    pub(super) base: String,
    /// Stands before every id, so that URLs of an earlier CA on the same port name nothing here.
    pub(super) tag: String,
}

impl Urls {
    pub(super) fn url(&self, room: &str, id: u64) -> String {
        format!("{}/{room}/{}{id:x}", self.base, self.tag)
    }
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
    pub(super) from: IpAddr,
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
        config: Arc<CaConfig>,
        house: Arc<dyn House>,
        keeping: Keeping,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        urls: Urls,
    ) -> Self {
        Self {
            zone: Mutex::default(),
            permits: Semaphore::new(config.bounds.validations.max(1)),
            resolving: Arc::new(Semaphore::new(MOST_RESOLVING)),
            lanes: Mutex::default(),
            tasks: Mutex::default(),
            making: Mutex::default(),
            later: Mutex::default(),
            book: Mutex::new(Book::new(config.bounds, keeping)),
            nonces: Mutex::new(Nonces::new(config.bounds.nonces)),
            journal: Turns::default(),
            config,
            house,
            clock,
            entropy,
            urls,
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Makes durable what was changed so far, by whomever. Nothing is answered before that: what somebody was told is true
    /// after a restart too. Only tasks of their own may wait for it, which nobody drops half-way.
    pub(super) async fn keep(&self) -> Result<(), Problem> {
        let turn = async {
            let touched = self.book().take_touched();
            let kept = self.house.keep(&touched).await;
            if kept.is_err() {
                // It stays to be done: whoever comes next tries again.
                let mut book = self.book();
                touched.accounts.keys().for_each(|id| book.touch_account(*id));
                touched.orders.keys().for_each(|id| book.touch_order(*id));
            }
            kept
        };
        // Between two turns everything is durable that was touched before, if nothing is.
        self.journal.take(|| self.book().is_untouched() && self.house.is_kept(), turn).await
    }

    pub(super) fn url(&self, room: &str, id: u64) -> String {
        self.urls.url(room, id)
    }

    /// The number in an id that this CA made.
    pub(super) fn number(&self, id: &str) -> Option<u64> {
        u64::from_str_radix(id.strip_prefix(&self.urls.tag)?, 16).ok()
    }

    pub(super) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        from: IpAddr,
    ) -> Result<Response<Body>, Dropped> {
        let route = Route::parse(request.uri().path());
        let endpoint = route.as_ref().map(Route::endpoint);
        let strike = self.house.strike(endpoint).ok_or(Dropped)?;
        if let Some(span) = strike.find(|f| if let Fault::Delay(span) = f { Some(*span) } else { None }) {
            self.clock.sleep(span).await;
        }
        // A nonce in an answer that a cache may keep would be used twice, so plain GETs of the directory and of renewal
        // information bring none.
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        let fresh = !get || endpoint == Some(Endpoint::NewNonce);
        let index = (endpoint != Some(Endpoint::Directory)).then(|| format!("{}/directory", self.urls.base));
        let answer = match route {
            None => Err(Problem::not_found(format!("there is nothing at {}", request.uri().path()))),
            Some(route) if get => self.get(&route, request.method(), &strike),
            Some(route) => {
                let (ca, strike) = (self.clone(), strike.clone());
                // What a request began comes to its end although its client may hang up: nothing that was changed is
                // left unrecorded, and nobody who has to be told is not.
                let handling = tokio::spawn(async move {
                    let answer = ca.post(&route, request, from, &strike).await?;
                    ca.keep().await.map(|()| answer)
                });
                handling.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a request to the ACME server broke off");
                    Err(Problem::internal("the request broke off; try it again"))
                })
            }
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
        from: IpAddr,
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
        let url = format!("{}{}", self.urls.base, request.uri().path_and_query().map_or("", |p| p.as_str()));
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = self.body(request.into_body()).await?;
        self.refused(strike)?;
        if self.house.overloaded() {
            self.keep().await?;
        }
        let signed = self.signed(Jws::parse(&body)?, &url, from, strike)?;
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
            Route::Finalize(id) => self.finalize(id, &signed).await,
            Route::Authz(id) => self.authorization(id, &signed),
            Route::Challenge(id, index) => self.challenge(id, index, &signed),
            Route::Cert(id) => self.certificate(id, &signed).await,
            Route::Revoke => self.revoke(&signed).await,
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
                let terms = format!("{}/terms/changed", self.urls.base);
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
    fn signed(&self, jws: Jws, url: &str, from: IpAddr, strike: &Strike) -> Result<Signed, Problem> {
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
                let id = kid.strip_prefix(&format!("{}/account/", self.urls.base)).and_then(|id| self.number(id));
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
        Ok(Signed { jws, signer, strike: strike.clone(), from })
    }

    fn directory(&self) -> Value {
        let at = |path: &str| json!(format!("{}/{path}", self.urls.base));
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
        let mut meta = json!({
            "website": self.urls.base,
            "externalAccountRequired": self.house.demand() == Demand::Required,
            "profiles": self.house.profiles(),
        });
        if let (Some(map), Some(terms)) = (meta.as_object_mut(), self.house.terms()) {
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
