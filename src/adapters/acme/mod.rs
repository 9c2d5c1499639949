//! The CAs, over ACME (RFC 8555, RFC 8738, RFC 9773).
//!
//! Owns accounts with their keys, nonces, one transport per issuer, and what was said as evidence. Refuses to know when
//! to try again: every call is one try, and its error says what kind it is, whose fault, and how long the CA asked to
//! wait. Why this is no wrapper of a client library: `docs/decisions/0004-acme-client.md`.

mod account;
mod ari;
mod classify;
mod client;
mod config;
mod evidence;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod jws;
mod limiter;
mod messages;
mod orders;
mod rollover;
mod text;
mod transport;
mod views;

use core::future::Future;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use config::{AcmeConfigError, AcmeIssuerConfig, AcmeTimeouts, EabConfig};

use crate::domain::certificate::CertId;
use crate::domain::execution::Fault;
use crate::domain::id::IssuerId;
use crate::domain::time::human_span;
use crate::ports::{
    AuthorizationView, Clock, Doing, Entropy, Evidence, Issuer, IssuerError, IssuerErrorKind, IssuerMeta, Meter,
    OrderRequest, OrderView, RenewalInfo,
};
use client::{Client, Shared};

/// All configured issuers.
pub struct AcmeIssuers {
    clients: BTreeMap<IssuerId, Client>,
    shared: Arc<Shared>,
}

impl core::fmt::Debug for AcmeIssuers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.clients.keys()).finish()
    }
}

impl AcmeIssuers {
    /// Checks the configuration and opens the account directory (made at 0700 if missing). Sends nothing.
    ///
    /// # Errors
    /// [`AcmeConfigError`] names the issuer and what is wrong with it.
    pub fn new(
        issuers: Vec<AcmeIssuerConfig>,
        account_dir: &Path,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        meter: Arc<dyn Meter>,
    ) -> Result<Self, AcmeConfigError> {
        let dir = files::AccountDir::open(account_dir, entropy, clock.now())
            .map_err(|why| AcmeConfigError::AccountDir(account_dir.to_owned(), why))?;
        let shared = Arc::new(Shared {
            limiter: limiter::Limiter::new(clock.clone()),
            clock,
            meter,
            book: evidence::Book::default(),
            system: Arc::default(),
            dir: Arc::new(dir),
        });
        let mut clients = BTreeMap::new();
        for config in issuers {
            let id = config.id.clone();
            if clients.insert(id.clone(), Client::new(config, shared.clone())?).is_some() {
                return Err(AcmeConfigError::Twice(id));
            }
        }
        Ok(Self { clients, shared })
    }

    fn client(&self, issuer: &IssuerId) -> Result<&Client, IssuerError> {
        self.clients.get(issuer).ok_or_else(|| {
            let text = format!("no issuer {issuer} is configured");
            classify::error(IssuerErrorKind::Refused, Fault::Ours, text)
        })
    }

    /// Runs one call against one issuer, within its limit in time.
    fn call<'a, T, F>(
        &'a self,
        issuer: &IssuerId,
        work: impl FnOnce(&'a Client) -> F,
    ) -> Doing<'a, Result<T, IssuerError>>
    where
        F: Future<Output = Result<T, IssuerError>> + Send + 'a,
        T: Send + 'a,
    {
        match self.client(issuer) {
            Ok(client) => {
                let work = work(client);
                Box::pin(bounded(client, work))
            }
            Err(error) => Box::pin(core::future::ready(Err(error))),
        }
    }
}

async fn bounded<T>(client: &Client, work: impl Future<Output = Result<T, IssuerError>>) -> Result<T, IssuerError> {
    let limit = client.config.timeouts.call;
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let text = format!("issuer {} was not done within {}", client.id(), human_span(limit));
        Err(classify::error(IssuerErrorKind::Retry, Fault::Issuer, text))
    })
}

impl Issuer for AcmeIssuers {
    // Orders under way go on, but challenges that were presented before must be presented again.
    fn rollover<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<(), IssuerError>> {
        self.call(issuer, |c| c.rollover())
    }

    fn meta<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<IssuerMeta, IssuerError>> {
        self.call(issuer, |c| c.meta())
    }

    fn new_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Arc<str>, IssuerError>> {
        self.call(issuer, move |c| c.new_order(request))
    }

    fn find_order<'a>(
        &'a self,
        issuer: &'a IssuerId,
        request: &'a OrderRequest,
    ) -> Doing<'a, Result<Option<Arc<str>>, IssuerError>> {
        self.call(issuer, move |c| c.find_order(request))
    }

    fn order<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<OrderView, IssuerError>> {
        self.call(issuer, move |c| c.order(url))
    }

    fn decided<'a>(
        &'a self,
        issuer: &'a IssuerId,
        url: &'a str,
    ) -> Doing<'a, Result<Vec<AuthorizationView>, IssuerError>> {
        self.call(issuer, move |c| c.decided(url))
    }

    fn challenge_ready<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<(), IssuerError>> {
        self.call(issuer, move |c| c.challenge_ready(url))
    }

    fn finalize<'a>(&'a self, issuer: &'a IssuerId, url: &'a str, csr: &'a [u8]) -> Doing<'a, Result<(), IssuerError>> {
        self.call(issuer, move |c| c.finalize(url, csr))
    }

    fn download<'a>(&'a self, issuer: &'a IssuerId, url: &'a str) -> Doing<'a, Result<String, IssuerError>> {
        self.call(issuer, move |c| c.download(url))
    }

    fn renewal_info<'a>(
        &'a self,
        issuer: &'a IssuerId,
        id: &'a CertId,
    ) -> Doing<'a, Result<Option<RenewalInfo>, IssuerError>> {
        self.call(issuer, move |c| c.renewal_info(id))
    }

    fn account_key<'a>(&'a self, issuer: &'a IssuerId) -> Doing<'a, Result<Option<String>, IssuerError>> {
        self.call(issuer, |c| c.account_key())
    }

    fn take_evidence(&self, issuer: &IssuerId, url: &str) -> Evidence {
        self.shared.book.take(issuer, url)
    }
}
