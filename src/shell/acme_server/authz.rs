//! Authorizations and challenges (RFC 8555 section 7.5), and the start of a validation.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::header::{LINK, RETRY_AFTER};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::book::{Authorization, AuthorizationStatus, Book, Challenge, ChallengeStatus};
use super::config::Validation;
use super::house::Event;
use super::problem::{Problem, identifier};
use super::server::{Ca, Signed, lock};
use super::stats::ValidationRecord;
use super::validate::Target;
use crate::domain::time::Timestamp;

/// Validations of an account that run at once: a quarter of what runs for everybody.
pub(super) const MOST_RUNNING: usize = 16;

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    status: Option<String>,
}

impl Ca {
    pub(super) fn authorization(&self, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let mut book = self.book();
        let (number, now) = (self.own_authorization(&book, id, signed)?, self.clock.now());
        let gone = || Problem::not_found("the authorization is gone");
        if !signed.is_get() {
            let authorization = book.authorizations.get_mut(&number).ok_or_else(gone)?;
            match signed.payload::<Update>()?.status.as_deref() {
                Some("deactivated") => authorization.status = AuthorizationStatus::Deactivated,
                other => return Err(Problem::malformed(format!("an authorization cannot be changed to {other:?}"))),
            }
            let order = authorization.order;
            self.house.happened(Event::Relinquished { order, name: &authorization.name }, now);
            book.touch_order(order);
        }
        let authorization = book.authorizations.get(&number).ok_or_else(gone)?;
        let answer = Answer::json(self.authorization_json(number, authorization, now));
        let looking = authorization.challenges.iter().any(|c| c.status == ChallengeStatus::Processing);
        Ok(answer.maybe(RETRY_AFTER, looking.then(|| "1".to_owned())))
    }

    /// Looks at a challenge, or says that its response is in place (RFC 8555 section 7.5.1).
    pub(super) fn challenge(self: &Arc<Self>, id: &str, index: &str, signed: &Signed) -> Result<Answer, Problem> {
        let now = self.clock.now();
        let mut book = self.book();
        let number = self.own_authorization(&book, id, signed)?;
        let unknown = || Problem::not_found(format!("there is no challenge {index:?} of authorization {id:?}"));
        let index: usize = index.parse().map_err(|_| unknown())?;
        let authorization = book.authorizations.get(&number).ok_or_else(unknown)?;
        authorization.challenges.get(index).ok_or_else(unknown)?;
        // One at a time: the first that is tried decides the authorization.
        let fresh = authorization.challenges.iter().all(|c| c.status == ChallengeStatus::Pending)
            && authorization.status == AuthorizationStatus::Pending
            && authorization.expires > now;
        if !signed.is_get() {
            // The payload of a response is an empty object; what else is in it means nothing.
            signed.payload::<serde_json::Map<String, Value>>()?;
            if fresh {
                self.start_validation(&mut book, number, index, signed)?;
            }
        }
        let challenge = book.authorizations.get(&number).and_then(|a| a.challenges.get(index)).ok_or_else(unknown)?;
        let answer = Answer::json(self.challenge_json(number, index, challenge));
        let looking = challenge.status == ChallengeStatus::Processing;
        let answer = answer.maybe(RETRY_AFTER, looking.then(|| "1".to_owned()));
        Ok(answer.with(LINK, format!("<{}>;rel=\"up\"", self.url("authz", number))))
    }

    fn start_validation(
        self: &Arc<Self>,
        book: &mut Book,
        number: u64,
        index: usize,
        signed: &Signed,
    ) -> Result<(), Problem> {
        let gone = || Problem::not_found("the authorization is gone");
        let (own, now) = (signed.account()?, self.clock.now());
        let authorization = book.authorizations.get(&number).ok_or_else(gone)?;
        self.house.attempt(book, own, &authorization.name, false, now)?;
        let authorization = book.authorizations.get_mut(&number).ok_or_else(gone)?;
        let order = authorization.order;
        let challenge = authorization.challenges.get_mut(index).ok_or_else(gone)?;
        challenge.status = ChallengeStatus::Processing;
        let kind = challenge.kind.as_str();
        self.house.happened(Event::Answered { order, name: &authorization.name, kind }, now);
        book.touch_order(order);
        if matches!(self.config.validation, Validation::Off) {
            settle(book, number, index, Ok(()), now);
            return Ok(());
        }
        self.look(book, number, index);
        Ok(())
    }

    /// Looks for the response to a challenge, in the background.
    pub(super) fn look(self: &Arc<Self>, book: &Book, number: u64, index: usize) {
        let Some(authorization) = book.authorizations.get(&number) else { return };
        let (Some(account), Some(challenge)) =
            (book.accounts.get(&authorization.account), authorization.challenges.get(index))
        else {
            return;
        };
        let (order, own, account) = (authorization.order, authorization.account, account.key.thumbprint());
        let target = Target {
            kind: challenge.kind,
            key_authorization: format!("{}.{account}", challenge.token),
            token: challenge.token.clone(),
            name: authorization.name.clone(),
        };
        let ca = self.clone();
        let lane = {
            let mut lanes = lock(&self.lanes);
            // Those that nobody waits in are swept out here, so that there are no more than validations.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            lanes.entry(own).or_insert_with(|| Arc::new(Semaphore::new(MOST_RUNNING))).clone()
        };
        let mut tasks = lock(&self.tasks);
        // Finished ones are swept out here, so that the set holds no more than what runs.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            // The semaphores are never closed. Its account's first, so that nobody's queue is in everybody's way.
            let _own = lane.acquire().await;
            let _permit = ca.permits.acquire().await;
            // What failed while it waited counts.
            let may = ca.house.attempt(&ca.book(), own, &target.name, true, ca.clock.now());
            let outcome = match may {
                Ok(()) => ca.validate(&target).await,
                Err(limited) => Err(limited),
            };
            let outcome = outcome.map_err(Problem::bounded);
            let now = ca.clock.now();
            let failure = outcome.as_ref().err().map(|p| p.detail.clone());
            {
                let mut book = ca.book();
                let record = ValidationRecord { kind: target.kind, name: target.name, failure, at: now };
                ca.house.happened(Event::Validated { order, record }, now);
                settle(&mut book, number, index, outcome, now);
                book.touch_order(order);
            }
            // Whoever asks what came of it waits for this, or tries it again.
            if let Err(why) = ca.keep().await {
                tracing::warn!(order, why = why.detail, "what became of a validation is recorded later");
            }
        });
    }

    fn own_authorization(&self, book: &Book, id: &str, signed: &Signed) -> Result<u64, Problem> {
        let own = signed.account()?;
        let unknown = || Problem::not_found(format!("there is no authorization {id:?}"));
        let number = self.number(id).ok_or_else(unknown)?;
        if book.authorizations.get(&number).ok_or_else(unknown)?.account == own {
            Ok(number)
        } else {
            Err(Problem::unauthorized("the authorization belongs to another account"))
        }
    }

    fn authorization_json(&self, number: u64, authorization: &Authorization, now: Timestamp) -> Value {
        let expired = authorization.expires <= now;
        let status = match authorization.status {
            AuthorizationStatus::Pending if expired => "invalid",
            AuthorizationStatus::Valid if expired => "expired",
            AuthorizationStatus::Pending => "pending",
            AuthorizationStatus::Valid => "valid",
            AuthorizationStatus::Invalid => "invalid",
            AuthorizationStatus::Deactivated => "deactivated",
        };
        let challenges = authorization.challenges.iter().enumerate();
        // Once it is decided, only the challenge that decided it is shown (RFC 8555 section 7.1.4).
        let shown: Vec<Value> = challenges
            .filter(|(_, c)| match authorization.status {
                AuthorizationStatus::Pending | AuthorizationStatus::Deactivated => true,
                AuthorizationStatus::Valid => c.status == ChallengeStatus::Valid,
                AuthorizationStatus::Invalid => c.status == ChallengeStatus::Invalid,
            })
            .map(|(index, c)| self.challenge_json(number, index, c))
            .collect();
        let mut json = json!({
            "identifier": identifier(&authorization.name),
            "status": status,
            "expires": authorization.expires.to_string(),
            "challenges": shown,
        });
        if let Some(map) = json.as_object_mut().filter(|_| authorization.wildcard) {
            map.insert("wildcard".to_owned(), json!(true));
        }
        json
    }

    fn challenge_json(&self, number: u64, index: usize, challenge: &Challenge) -> Value {
        let mut json = json!({
            "type": challenge.kind.as_str(),
            "url": format!("{}/{index}", self.url("challenge", number)),
            "token": challenge.token,
            "status": match challenge.status {
                ChallengeStatus::Pending => "pending",
                ChallengeStatus::Processing => "processing",
                ChallengeStatus::Valid => "valid",
                ChallengeStatus::Invalid => "invalid",
            },
        });
        if let Some(map) = json.as_object_mut() {
            if let Some(at) = challenge.validated.filter(|_| challenge.status == ChallengeStatus::Valid) {
                map.insert("validated".to_owned(), json!(at.to_string()));
            }
            if let Some(error) = &challenge.error {
                map.insert("error".to_owned(), error.json());
            }
        }
        json
    }
}

/// Writes down how a validation ended.
fn settle(book: &mut Book, number: u64, index: usize, outcome: Result<(), Problem>, now: Timestamp) {
    let Some(authorization) = book.authorizations.get_mut(&number) else { return };
    let name = authorization.name.clone();
    let Some(challenge) = authorization.challenges.get_mut(index) else { return };
    challenge.validated = Some(now);
    let status = match outcome {
        Ok(()) => {
            challenge.status = ChallengeStatus::Valid;
            AuthorizationStatus::Valid
        }
        Err(problem) => {
            challenge.status = ChallengeStatus::Invalid;
            challenge.error = Some(problem.about(&name));
            AuthorizationStatus::Invalid
        }
    };
    // What was deactivated in between stays so.
    if authorization.status == AuthorizationStatus::Pending {
        authorization.status = status;
    }
}

/// Base64url of the SHA-256 of a key authorization, as dns-01 wants it in TXT records (RFC 8555 section 8.4).
pub(super) fn txt_value(key_authorization: &str) -> String {
    B64.encode(crate::domain::key::Digest::of(key_authorization.as_bytes()).0)
}
