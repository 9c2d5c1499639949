//! Orders from newOrder to the certificate (RFC 8555 section 7.4).

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::classify::{self, Carried};
use super::client::{BODY_CAP, Client, JSON, Post};
use super::config::CaUrl;
use super::headers::Headers;
use super::jws::b64;
use super::messages::{AccountObject, AuthorizationObject, Endpoint, Identifier, OrderObject, OrdersObject};
use super::transport::Answer;
use super::views;
use crate::domain::execution::Fault;
use crate::domain::name::NameSet;
use crate::domain::time::Timestamp;
use crate::ports::{AuthorizationView, IssuerError, IssuerErrorKind, OrderRequest, OrderStatus, OrderView};

/// As many names as a public CA lets into one order.
const MOST_AUTHORIZATIONS: usize = 100;
/// Let's Encrypt allows 250 requests a second; eight at once keep an order of 100 names below two seconds.
const AT_ONCE: usize = 8;
/// Bounds for the search of a lost order.
const MOST_PAGES: usize = 10;
const MOST_ORDERS: usize = 100;
/// A chain of ten RSA-4096 certificates has about 25 KiB.
const CHAIN_CAP: usize = 256 * 1024;

impl Client {
    /// Sends newOrder. The URL counts even if the body is broken or missing: the order exists.
    pub(super) async fn new_order(&self, request: &OrderRequest) -> Result<Arc<str>, IssuerError> {
        let directory = self.directory().await?;
        let url = self.url("newOrder", &directory.new_order)?;
        let identifiers: Vec<Value> = request.names.iter().map(Identifier::json).collect();
        let mut payload = json!({ "identifiers": identifiers });
        let carried = if request.replaces.is_some() { Carried::Replaces } else { Carried::Nothing };
        if let Some(map) = payload.as_object_mut() {
            map.extend(request.profile.iter().map(|p| ("profile".to_owned(), Value::from(p.as_str()))));
            map.extend(request.replaces.iter().map(|r| ("replaces".to_owned(), Value::from(&*r.0))));
        }
        let post = Post { payload: Some(&payload), ..read("", Endpoint::NewOrder, &url) };
        let answer = self.signed(post, carried).await?;
        Ok(Arc::from(self.located(&url, answer.headers.location.as_deref())?.as_str()))
    }

    /// Searches the account's list for an order like `request` that waits to be finalized: the newest. A processing or
    /// valid one was finalized with another attempt's key.
    pub(super) async fn find_order(&self, request: &OrderRequest) -> Result<Option<Arc<str>>, IssuerError> {
        let urls = self.listed_orders().await?;
        let loads = urls.into_iter().enumerate().map(|(place, url)| async move {
            match self.load::<OrderObject>(Endpoint::Order, url.as_str(), &url).await {
                Ok((order, _)) => Ok(Some((place, url, order))),
                // Lists may name orders that were purged (RFC 8555 section 7.1.2.1 lets servers clean up).
                Err(e) if matches!(e.kind, IssuerErrorKind::OrderDead | IssuerErrorKind::Account) => Ok(None),
                Err(e) => Err(e),
            }
        });
        let found: Vec<_> = stream::iter(loads).buffered(AT_ONCE).try_collect().await?;
        let now = self.shared.clock.now();
        let rank = |(place, url, order): (usize, CaUrl, OrderObject)| {
            if !matches!(order.status.of_order(), OrderStatus::Pending | OrderStatus::Ready) {
                return None;
            }
            let expires = order.expires.as_deref().and_then(Timestamp::parse).unwrap_or(Timestamp::MAX);
            (matches(&order, request) && expires > now).then(|| ((expires, place), Arc::from(url.as_str())))
        };
        let best = found.into_iter().flatten().filter_map(rank).max_by_key(|(rank, _): &(_, Arc<str>)| *rank);
        Ok(best.map(|(_, url)| url))
    }

    /// The URLs of the account's list: at most 100. Which end of a list is new is nowhere written, so half of what is
    /// kept of a longer one comes from each end.
    async fn listed_orders(&self) -> Result<Vec<CaUrl>, IssuerError> {
        let account = self.account().await?.url.clone();
        let url = self.url("account", &account)?;
        let (account, _) = self.load::<AccountObject>(Endpoint::Account, "", &url).await?;
        let Some(list) = account.orders else { return Ok(Vec::new()) };
        let mut next = Some(self.url("orders", &list)?);
        let (mut first, mut last) = (Vec::new(), VecDeque::new());
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { break };
            let (page, headers) = self.load::<OrdersObject>(Endpoint::Orders, "", &url).await?;
            for order in &page.orders {
                let order = self.url("order", order)?;
                if first.len() < MOST_ORDERS / 2 {
                    first.push(order);
                    continue;
                }
                last.push_back(order);
                if last.len() > MOST_ORDERS / 2 {
                    last.pop_front();
                }
            }
            next = match headers.link("next") {
                Some(link) => Some(self.located(&url, Some(link))?).filter(|n| n.as_str() != url.as_str()),
                None => None,
            };
        }
        first.extend(last);
        Ok(first)
    }

    /// The order as it is now, with its authorizations while they matter.
    pub(super) async fn order(&self, url: &str) -> Result<OrderView, IssuerError> {
        let checked = self.url("order", url)?;
        let (object, headers) = self.load::<OrderObject>(Endpoint::Order, url, &checked).await?;
        let status = object.status.of_order();
        let mut view = OrderView { status, authorizations: Vec::new(), error: None, retry_after: headers.retry_after };
        match status {
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => {}
            OrderStatus::Pending => {
                let authorizations = self.authorizations(url, &object).try_collect::<Vec<_>>().await?;
                if authorizations.iter().any(|a| !a.status.is_alive()) {
                    // RFC 8555 section 7.1.6: the order is about to follow. No use in waiting for it.
                    view.status = OrderStatus::Invalid;
                    view.error = Some(views::why_dead(self, &object, &authorizations).await);
                } else {
                    view.authorizations = views::authorizations(self, url, &object, &authorizations).await?;
                }
            }
            OrderStatus::Invalid => {
                // What cannot be fetched is left out: the order is dead in any case.
                let fetched = self.authorizations(url, &object).filter_map(|a| async { a.ok() });
                let fetched: Vec<_> = fetched.collect().await;
                view.error = Some(views::why_dead(self, &object, &fetched).await);
            }
        }
        Ok(view)
    }

    /// The decided authorizations of an order with what may have been answered. What cannot be fetched is left out.
    pub(super) async fn decided(&self, url: &str) -> Result<Vec<AuthorizationView>, IssuerError> {
        let checked = self.url("order", url)?;
        let (object, _) = self.load::<OrderObject>(Endpoint::Order, url, &checked).await?;
        let fetched: Vec<_> = self.authorizations(url, &object).filter_map(|a| async { a.ok() }).collect().await;
        views::decided(self, &fetched).await
    }

    fn authorizations<'a>(
        &'a self,
        order: &'a str,
        object: &'a OrderObject,
    ) -> impl stream::Stream<Item = Result<AuthorizationObject, IssuerError>> + 'a {
        let too_many = (object.authorizations.len() > MOST_AUTHORIZATIONS).then(|| {
            let count = object.authorizations.len();
            Err(classify::broken(
                self.id(),
                format!("an order of {count} authorizations, more than {MOST_AUTHORIZATIONS}"),
            ))
        });
        let some = if too_many.is_some() { &[][..] } else { object.authorizations.as_slice() };
        let loads = some.iter().map(move |url| async move {
            let url = self.url("authorization", url)?;
            self.load::<AuthorizationObject>(Endpoint::Authorization, order, &url).await.map(|(a, _)| a)
        });
        stream::iter(too_many).chain(stream::iter(loads).buffered(AT_ONCE))
    }

    /// Tells the CA to look. A challenge that it is already looking at, or has looked at, is as good: the order tells.
    pub(super) async fn challenge_ready(&self, url: &str) -> Result<(), IssuerError> {
        let order = self.shared.book.order_of(self.id(), url);
        let checked = self.url("challenge", url)?;
        let empty = json!({});
        let post = Post { payload: Some(&empty), ..read(&order, Endpoint::Challenge, &checked) };
        let Err(error) = self.signed(post, Carried::Nothing).await else { return Ok(()) };
        if error.kind != IssuerErrorKind::Refused {
            return Err(error);
        }
        // Boulder refuses with "malformed" once the authorization is no longer pending.
        match self.load::<super::messages::ChallengeObject>(Endpoint::Challenge, &order, &checked).await {
            Ok((challenge, _)) if challenge.status.as_deref().is_some_and(|s| s != "pending") => Ok(()),
            _ => Err(error),
        }
    }

    /// Finalizes, unless that was done before. An order that is not ready is the poll's to tell, not an error.
    pub(super) async fn finalize(&self, url: &str, csr: &[u8]) -> Result<(), IssuerError> {
        let checked = self.url("order", url)?;
        let (order, _) = self.load::<OrderObject>(Endpoint::Order, url, &checked).await?;
        match order.status.of_order() {
            OrderStatus::Processing | OrderStatus::Valid | OrderStatus::Invalid => return Ok(()),
            OrderStatus::Pending | OrderStatus::Ready => {}
        }
        let text = order.finalize.as_deref();
        let finalize = text.ok_or_else(|| classify::broken(self.id(), "the order has no finalize URL"))?;
        let finalize = self.url("finalize", finalize)?;
        let payload = json!({ "csr": b64(csr) });
        let post = Post { payload: Some(&payload), ..read(url, Endpoint::Finalize, &finalize) };
        match self.signed(post, Carried::Nothing).await {
            Err(e) if e.problem.as_deref() == Some("orderNotReady") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Downloads the chain of a valid order: PEM, not believed here.
    pub(super) async fn download(&self, url: &str) -> Result<String, IssuerError> {
        let checked = self.url("order", url)?;
        let (order, headers) = self.load::<OrderObject>(Endpoint::Order, url, &checked).await?;
        match order.status.of_order() {
            OrderStatus::Valid => {}
            OrderStatus::Invalid => {
                let text = format!("the order at issuer {} is invalid, expected valid", self.id());
                return Err(classify::error(IssuerErrorKind::OrderDead, Fault::Issuer, text));
            }
            OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {
                let text = format!("the order at issuer {} is {:?}, expected valid", self.id(), order.status);
                let mut error = classify::error(IssuerErrorKind::Retry, Fault::Issuer, text);
                error.retry_after = headers.retry_after;
                return Err(error);
            }
        }
        let text = order.certificate.as_deref();
        let text = text.ok_or_else(|| classify::broken(self.id(), "the valid order has no certificate URL"))?;
        let certificate = self.url("certificate", text)?;
        let post = Post {
            accept: "application/pem-certificate-chain",
            cap: CHAIN_CAP,
            ..read(url, Endpoint::Certificate, &certificate)
        };
        let answer = self.signed(post, Carried::Nothing).await?;
        self.pem(answer)
    }

    fn pem(&self, answer: Answer) -> Result<String, IssuerError> {
        let body = answer.body.map_err(|f| classify::failed(self.id(), Endpoint::Certificate, &f))?;
        let size = body.len();
        String::from_utf8(body)
            .ok()
            .filter(|t| t.contains("-----BEGIN CERTIFICATE-----") && !t.contains("PRIVATE KEY"))
            .ok_or_else(|| {
                classify::broken(self.id(), format!("{size} bytes where a PEM certificate chain was expected"))
            })
    }

    /// POST-as-GET of a JSON object, with the headers of its answer.
    async fn load<T: serde::de::DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        order: &str,
        url: &CaUrl,
    ) -> Result<(T, Headers), IssuerError> {
        let answer = self.signed(read(order, endpoint, url), Carried::Nothing).await?;
        let headers = answer.headers.clone();
        Ok((self.json(endpoint, answer)?, headers))
    }
}

/// POST-as-GET (RFC 8555 section 6.3).
fn read<'a>(order: &'a str, endpoint: Endpoint, url: &'a CaUrl) -> Post<'a> {
    Post { order, endpoint, url, payload: None, accept: JSON, cap: BODY_CAP }
}

/// Whether an order is for exactly the names of a request, and for its profile and predecessor as far as the CA says.
fn matches(order: &OrderObject, request: &OrderRequest) -> bool {
    let Some(names) = order.identifiers.iter().map(Identifier::name).collect::<Option<Vec<_>>>() else { return false };
    let same = |theirs: Option<&str>, ours: Option<&str>| match (theirs, ours) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => true,
    };
    NameSet::new(names) == request.names
        && same(order.profile.as_deref(), request.profile.as_deref())
        && same(order.replaces.as_deref(), request.replaces.as_ref().map(|r| &*r.0))
}
