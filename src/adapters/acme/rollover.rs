//! Changing the account's key (RFC 8555 section 7.3.5) so that no crash locks the account out.
//!
//! Crash order: the next key is durable as `ID.next-key`; keyChange is sent; `ID.next-key` is renamed to `ID.key`; the
//! record gets the new thumbprint. Whenever `ID.next-key` is found, the CA is asked which key it has:
//!
//! | the CA knows | then |
//! |---|---|
//! | the next key | the change was made: rename |
//! | the current key | it was not: the next key is removed, once it is certain that no request is still on its way |
//! | neither | the account is gone: the next key is removed, the current one makes a new account |
//! | no answer | nothing changes, and the error is the caller's |

use core::time::Duration;

use super::account::{Account, Seat};
use super::classify::{self, Carried};
use super::client::{BODY_CAP, Client, JSON, Post};
use super::files::Replace;
use super::jws::{AccountKey, Signer};
use super::messages::Endpoint;
use crate::domain::execution::Fault;
use crate::domain::time::Boottime;
use crate::ports::{IssuerError, IssuerErrorKind};

/// A keyChange without an answer may still arrive: our own limit is 30 s, proxies and load balancers keep requests for a
/// minute or two. A next key younger than this is never removed on suspicion.
const STRAGGLING: Duration = Duration::from_secs(5 * 60);

/// The key to use, after any unfinished rollover.
pub(super) struct Settled {
    /// `None` if there is no key yet.
    pub(super) key: Option<AccountKey>,
    /// Set if the question must be asked again.
    pub(super) unsettled_until: Option<Boottime>,
}

impl Client {
    /// Replaces the account's key by a new one. On return it is durable and the CA has it.
    ///
    /// # Errors
    /// The old key stays in use, or it is not certain which is; then the next use finds out.
    pub(super) async fn rollover(&self) -> Result<(), IssuerError> {
        // Waits for every exchange under way, and keeps others off until it is clear which key counts.
        let mut seat = self.seat.write().await;
        // Whatever happens from here on, even that this future is dropped: the next use looks at the files.
        let lost = matches!(&*seat, Seat::Lost);
        *seat = Seat::Unread;
        let account = self.open(lost).await?;
        if account.unsettled_until.is_some() {
            let text =
                format!("an earlier key change at issuer {} is not settled yet; try again in 5 minutes", self.id());
            let mut error = classify::error(IssuerErrorKind::Retry, Fault::Host, text);
            error.retry_after = Some(STRAGGLING);
            return Err(error);
        }
        let directory = self.directory().await?;
        let Some(url) = directory.key_change.as_deref() else {
            return Err(classify::broken(self.id(), "the directory has no keyChange"));
        };
        let url = self.url("keyChange", url)?;

        let name = self.file("next-key");
        let pem = AccountKey::generate_pem().map_err(|e| self.host(format!("a new key {e}")))?;
        let next = self.parse_key(&name, &pem)?;
        self.files(move |dir| dir.write(&name, &pem, Replace::Never)).await?;

        let inner = next.sign_key_change(url.as_str(), &account.url, &account.key).map_err(|e| self.host(e))?;
        let post = Post {
            order: "",
            endpoint: Endpoint::KeyChange,
            url: &url,
            payload: Some(&inner),
            accept: JSON,
            cap: BODY_CAP,
        };
        let sent = self.post(&account.key, Signer::Kid(&account.url), post).await;
        // Only an answer that is a refusal is certain to have no late effect; 408 comes from whoever stands in between.
        let refused_for_good = sent.as_ref().is_ok_and(|a| (400..500).contains(&a.status) && a.status != 408);
        let sent = sent.and_then(|a| self.accepted(Endpoint::KeyChange, a, Carried::Nothing));
        if let Err(error) = sent {
            let straggling = if refused_for_good { Duration::ZERO } else { STRAGGLING };
            let settled = self.settle_after(straggling).await.map_err(|_| error.clone())?;
            if settled.key.is_none_or(|k| k.thumbprint() != next.thumbprint()) {
                return Err(error);
            }
        } else {
            self.promote().await?;
        }
        let account = Account { key: next, url: account.url, unsettled_until: None };
        self.keep_account(&account).await?;
        tracing::info!(issuer = %self.id(), "the account has a new key");
        *seat = Seat::Known(account);
        Ok(())
    }

    /// The thumbprint of the key that counts, after any unfinished rollover; `None` if there is no account yet.
    ///
    /// # Errors
    /// If it is not certain which key counts.
    pub(super) async fn account_key(&self) -> Result<Option<String>, IssuerError> {
        let mut seat = self.seat.write().await;
        let settled = self.settle().await?;
        // Read again at the next use: settling may have changed the key.
        if matches!(&*seat, Seat::Known(_)) {
            *seat = Seat::Unread;
        }
        drop(seat);
        if settled.unsettled_until.is_some() {
            let text = format!("a key change at issuer {} may still arrive there; ask again in 5 minutes", self.id());
            return Err(classify::error(IssuerErrorKind::Retry, Fault::Host, text));
        }
        Ok(settled.key.map(|key| key.thumbprint().to_owned()))
    }

    /// Reads the key and, if a next key is there, finds out which of them the CA has.
    pub(super) async fn settle(&self) -> Result<Settled, IssuerError> {
        self.settle_after(STRAGGLING).await
    }

    async fn settle_after(&self, straggling: Duration) -> Result<Settled, IssuerError> {
        let current = self.read_key(self.file("key")).await?;
        let Some(next) = self.read_key(self.file("next-key")).await? else {
            return Ok(Settled { key: current, unsettled_until: None });
        };
        if self.account_of(&next).await?.is_some() {
            self.promote().await?;
            return Ok(Settled { key: Some(next), unsettled_until: None });
        }
        let Some(current) = current else {
            // Somebody took the current key away; the CA never saw the next one, so it is as good as any.
            self.promote().await?;
            return Ok(Settled { key: Some(next), unsettled_until: None });
        };
        // Asked although the answer changes little: an error here means that the CA's "no" above may be worth nothing.
        let known = self.account_of(&current).await?;
        let name = self.file("next-key");
        let written = self.files(move |dir| dir.modified(&name)).await?;
        let age = self.shared.clock.now().since(written);
        if known.is_some() && age < straggling {
            let again = self.shared.clock.boottime().plus(straggling.saturating_sub(age));
            return Ok(Settled { key: Some(current), unsettled_until: Some(again) });
        }
        let name = self.file("next-key");
        self.files(move |dir| dir.remove(&name)).await?;
        tracing::info!(issuer = %self.id(), "an unfinished key change was given up: the CA has the current key");
        Ok(Settled { key: Some(current), unsettled_until: None })
    }

    async fn promote(&self) -> Result<(), IssuerError> {
        let (from, to) = (self.file("next-key"), self.file("key"));
        self.files(move |dir| dir.promote(&from, &to)).await
    }
}
