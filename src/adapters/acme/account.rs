//! The account at a CA: made or restored on first use.
//!
//! Crash order: the key is durable before the CA hears of it; the account's URL is durable before anything is ordered.
//! A lost answer does no harm, because newAccount with the same key gives the same account back (RFC 8555 section 7.3.1).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;
use zeroize::Zeroizing;

use super::classify::{self, Carried};
use super::client::{BODY_CAP, Client, JSON, Post};
use super::config::CaUrl;
use super::files::{AccountDir, Replace};
use super::jws::{AccountKey, Signer};
use super::messages::{AccountObject, Endpoint};
use super::text::clean;
use super::transport::Answer;
use crate::domain::execution::Fault;
use crate::domain::time::Boottime;
use crate::ports::{IssuerError, IssuerErrorKind};

/// The account as far as this process knows it.
pub(super) enum Seat {
    /// Nothing was read yet, or what was read may be out of date.
    Unread,
    /// In use.
    Known(Account),
    /// The CA says that it does not know the account; it is made again by the same key.
    Lost,
}

/// An account in use.
pub(super) struct Account {
    pub(super) key: AccountKey,
    pub(super) url: String,
    /// Set while a rollover's outcome is not certain: from then on, find out again.
    pub(super) unsettled_until: Option<Boottime>,
}

/// What is kept about an account beside its key.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The directory that the account belongs to.
    directory: String,
    /// The account's URL.
    url: String,
    /// Thumbprint of the key: another key's account is not ours to use.
    thumbprint: String,
    /// The contacts that the CA was last told; `None` if that is not known.
    contacts: Option<Vec<String>>,
}

impl Client {
    /// Sends a request signed by the account and returns its 2xx answer. If the CA does not know the account it is made
    /// again by the same key, once.
    pub(super) async fn signed(&self, post: Post<'_>, carried: Carried) -> Result<Answer, IssuerError> {
        let (url, error) = match self.signed_once(post, carried).await {
            Err((url, error)) if error.problem.as_deref() == Some("accountDoesNotExist") => (url, error),
            other => return other.map_err(|(_, error)| error),
        };
        tracing::warn!(issuer = %self.id(), %error, "the account is made again by the same key");
        let mut seat = self.seat.write().await;
        if matches!(&*seat, Seat::Known(a) if a.url == url) {
            *seat = Seat::Lost;
        }
        drop(seat);
        self.signed_once(post, carried).await.map_err(|(_, error)| error)
    }

    /// The error comes with the URL of the account that signed.
    async fn signed_once(&self, post: Post<'_>, carried: Carried) -> Result<Answer, (String, IssuerError)> {
        let account = self.account().await.map_err(|e| (String::new(), e))?;
        // The guard is held during the exchange, so that a rollover waits for it and never overtakes it.
        let answer = self.post(&account.key, Signer::Kid(&account.url), post).await;
        let answer = answer.and_then(|a| self.accepted(post.endpoint, a, carried));
        answer.map_err(|e| (account.url.clone(), e))
    }

    /// The account, made or restored if need be. While the guard lives no rollover runs.
    pub(super) async fn account(&self) -> Result<RwLockReadGuard<'_, Account>, IssuerError> {
        let usable = |seat: &Seat| match seat {
            Seat::Known(a) => a.unsettled_until.is_none_or(|t| self.shared.clock.boottime() < t),
            Seat::Unread | Seat::Lost => false,
        };
        let seat = self.seat.read().await;
        let seat = if usable(&seat) {
            seat
        } else {
            drop(seat);
            let mut seat = self.seat.write().await;
            if !usable(&seat) {
                let lost = matches!(&*seat, Seat::Lost);
                *seat = Seat::Known(self.open(lost).await?);
            }
            seat.downgrade()
        };
        RwLockReadGuard::try_map(seat, |s| match s {
            Seat::Known(a) => Some(a),
            Seat::Unread | Seat::Lost => None,
        })
        .map_err(|_| self.host("the account vanished while it was opened"))
    }

    /// Reads the account's files, settles an unfinished rollover, and registers if there is no account yet.
    pub(super) async fn open(&self, lost: bool) -> Result<Account, IssuerError> {
        let settled = self.settle().await?;
        let (key, existed) = match settled.key {
            Some(key) => (key, true),
            None => (self.make_key().await?, false),
        };
        let record = self.read_record().await?;
        let directory = &self.config.directory;
        let known = record.filter(|r| !lost && r.directory == *directory && r.thumbprint == key.thumbprint());
        let known = known.filter(|r| self.url("account", &r.url).is_ok());
        let record = match known {
            Some(record) => record,
            None => self.register(&key, existed).await?,
        };
        let account = Account { key, url: record.url.clone(), unsettled_until: settled.unsettled_until };
        self.tell_contacts(&account, record).await;
        Ok(account)
    }

    async fn make_key(&self) -> Result<AccountKey, IssuerError> {
        let name = self.file("key");
        let pem = AccountKey::generate_pem().map_err(|e| self.host(format!("a new key {e}")))?;
        let key = self.parse_key(&name, &pem)?;
        self.files(move |dir| dir.write(&name, &pem, Replace::Never)).await?;
        tracing::info!(issuer = %self.id(), "a new account key is durable");
        Ok(key)
    }

    /// Asks for the account of this key, and makes it if there is none.
    async fn register(&self, key: &AccountKey, existed: bool) -> Result<Record, IssuerError> {
        let directory = self.directory().await?;
        let url = self.url("newAccount", &directory.new_account)?;
        let (config, meta) = (&self.config, &directory.meta);
        if let Some(terms) = meta.terms_of_service.as_deref().filter(|_| !config.terms_agreed) {
            let terms = clean(terms, 2_048);
            let text = format!(
                "issuer {} wants agreement to its terms of service at {terms}; read them, then set terms_agreed = true for it",
                self.id()
            );
            let mut error = classify::error(IssuerErrorKind::Account, Fault::Ours, text);
            error.link = Some(terms).filter(|t| t.starts_with("https://"));
            return Err(error);
        }
        if meta.external_account_required && config.eab.is_none() {
            let text = format!(
                "issuer {} wants an external account binding; set eab with the key id and hmac key it gave you",
                self.id()
            );
            return Err(classify::error(IssuerErrorKind::Account, Fault::Ours, text));
        }
        // An EAB key may be good for one account only, so that asking again with it fails after a lost answer.
        if existed
            && config.eab.is_some()
            && let Some(url) = self.account_of(key).await?
        {
            return self.write_record(key, url, None).await;
        }
        let mut payload = json!({ "termsOfServiceAgreed": config.terms_agreed });
        if let Some(map) = payload.as_object_mut() {
            if !config.contacts.is_empty() {
                map.insert("contact".to_owned(), json!(config.contacts));
            }
            if let Some(eab) = &config.eab {
                map.insert("externalAccountBinding".to_owned(), key.bind(eab, url.as_str()));
            }
        }
        let answer = self.post(key, Signer::Jwk, self.account_post(&url, &payload)).await?;
        let answer = self.accepted(Endpoint::NewAccount, answer, Carried::Nothing)?;
        let (status, location) = (answer.status, self.located(&url, answer.headers.location.as_deref())?);
        self.check_status(answer)?;
        // RFC 8555 section 7.3.1: 200 is an account that was there already, with contacts of its own.
        let told = (status != 200).then(|| config.contacts.clone());
        self.write_record(key, location.as_str().to_owned(), told).await
    }

    /// The URL of the account that has this key; `None` if the CA knows none (RFC 8555 section 7.3.1).
    pub(super) async fn account_of(&self, key: &AccountKey) -> Result<Option<String>, IssuerError> {
        let directory = self.directory().await?;
        let url = self.url("newAccount", &directory.new_account)?;
        let payload = json!({ "onlyReturnExisting": true });
        let answer = self.post(key, Signer::Jwk, self.account_post(&url, &payload)).await?;
        match self.accepted(Endpoint::NewAccount, answer, Carried::Nothing) {
            Ok(answer) => {
                let location = self.located(&url, answer.headers.location.as_deref())?;
                self.check_status(answer)?;
                Ok(Some(location.as_str().to_owned()))
            }
            Err(error) if error.problem.as_deref() == Some("accountDoesNotExist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn account_post<'a>(&self, url: &'a CaUrl, payload: &'a Value) -> Post<'a> {
        Post { order: "", endpoint: Endpoint::NewAccount, url, payload: Some(payload), accept: JSON, cap: BODY_CAP }
    }

    /// An account that is there but not valid needs a person. A body that cannot be read says nothing against it.
    fn check_status(&self, answer: Answer) -> Result<(), IssuerError> {
        let status = self.json::<AccountObject>(Endpoint::NewAccount, answer).ok().and_then(|a| a.status);
        match status.as_deref() {
            None | Some("valid") => Ok(()),
            Some(other) => {
                let text = format!(
                    "the account at issuer {} is {:?}, expected \"valid\"; a new key is needed",
                    self.id(),
                    clean(other, 64)
                );
                Err(classify::error(IssuerErrorKind::Account, Fault::Ours, text))
            }
        }
    }

    /// Tells the CA the configured contacts if it was told others. No certificate waits for this: a failure is logged and
    /// the next start tries again.
    async fn tell_contacts(&self, account: &Account, record: Record) {
        let wanted = &self.config.contacts;
        if record.contacts.as_ref().is_some_and(|told| told == wanted)
            || (record.contacts.is_none() && wanted.is_empty())
        {
            return;
        }
        let told = async {
            let url = self.url("account", &account.url)?;
            let payload = json!({ "contact": wanted });
            let post = Post { endpoint: Endpoint::Account, ..self.account_post(&url, &payload) };
            let answer = self.post(&account.key, Signer::Kid(&account.url), post).await?;
            self.accepted(Endpoint::Account, answer, Carried::Nothing)?;
            self.write_record(&account.key, account.url.clone(), Some(wanted.clone())).await
        };
        if let Err(error) = told.await {
            tracing::warn!(issuer = %self.id(), %error, "the CA was not told the new contacts");
        }
    }

    /// Makes the account's URL durable.
    async fn write_record(
        &self,
        key: &AccountKey,
        url: String,
        contacts: Option<Vec<String>>,
    ) -> Result<Record, IssuerError> {
        let directory = self.config.directory.clone();
        let record = Record { directory, url, thumbprint: key.thumbprint().to_owned(), contacts };
        let bytes = serde_json::to_vec_pretty(&record).map_err(|e| self.host(e))?;
        let name = self.file("account.json");
        self.files(move |dir| dir.write(&name, &bytes, Replace::Always)).await?;
        Ok(record)
    }

    /// After a rollover: the same account by another key.
    pub(super) async fn keep_account(&self, account: &Account) -> Result<(), IssuerError> {
        let contacts = self.read_record().await?.and_then(|r| r.contacts);
        self.write_record(&account.key, account.url.clone(), contacts).await.map(|_| ())
    }

    /// What is kept about the account. What cannot be read is asked for again: newAccount gives the same answer.
    async fn read_record(&self) -> Result<Option<Record>, IssuerError> {
        let name = self.file("account.json");
        let Some(bytes) = self.read(name).await? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes);
        if let Err(error) = &record {
            tracing::warn!(issuer = %self.id(), %error, "the account's file is not readable; the CA is asked again");
        }
        Ok(record.ok())
    }

    /// Reads a key file.
    pub(super) async fn read_key(&self, name: String) -> Result<Option<AccountKey>, IssuerError> {
        let pem = self.read(name.clone()).await?;
        pem.map(|pem| self.parse_key(&name, &pem)).transpose()
    }

    pub(super) fn parse_key(&self, name: &str, pem: &[u8]) -> Result<AccountKey, IssuerError> {
        AccountKey::from_pem(pem).map_err(|e| {
            let text =
                format!("account key file {name} {e}; restore it from a backup, or move it away to get a new account");
            classify::error(IssuerErrorKind::Account, Fault::Host, text)
        })
    }

    async fn read(&self, name: String) -> Result<Option<Zeroizing<Vec<u8>>>, IssuerError> {
        self.files(move |dir| dir.read(&name)).await
    }

    /// The name of one of this issuer's files.
    pub(super) fn file(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.id())
    }

    /// Does something with the account directory, off the threads that serve everyone.
    pub(super) async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AccountDir) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, IssuerError> {
        let dir: Arc<AccountDir> = self.shared.dir.clone();
        match tokio::task::spawn_blocking(move || work(&dir)).await {
            Ok(done) => done.map_err(|e| self.host(e)),
            Err(e) => Err(self.host(e)),
        }
    }

    /// Something on this machine is in the way.
    pub(super) fn host(&self, what: impl core::fmt::Display) -> IssuerError {
        let text = format!("the account of issuer {} cannot be used: {what}", self.id());
        classify::error(IssuerErrorKind::Retry, Fault::Host, text)
    }
}
