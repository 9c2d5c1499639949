//! From a certificate request to a certificate (RFC 8555 section 7.4), and what faults make of it.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::StatusCode;
use http::header::{LOCATION, RETRY_AFTER};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::answer::{Answer, Content};
use super::book::{Certificate, Stage};
use super::fault::{Fault, Strike};
use super::house::{Admission, Ask, Event, Proof, ToIssue, Try, Unissued};
use super::jws::Jwk;
use super::problem::Problem;
use super::server::{Ca, Signed, lock};
use crate::domain::name::{Name, NameSet};
use crate::ports::OrderStatus;

/// A client waits so long for its certificate before it is told to ask again.
const ANSWER: Duration = Duration::from_secs(10);

/// What could not be certified is tried again after this, doubling: each try may leave a row in the register, because
/// nobody knows whether the key holder signed.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

impl Ca {
    pub(super) async fn finalize(self: &Arc<Self>, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let asked: Finalize = signed.payload()?;
        let now = self.clock.now();
        let (number, names, own) = {
            let mut book = self.book();
            let number = self.own_order(&book, id, signed)?;
            if signed.strike.has(&Fault::OrderInvalid)
                && let Some(order) = book.orders.get_mut(&number)
            {
                let why = Problem::unauthorized("the order is invalid because the scenario says so");
                order.stage = Stage::Invalid(Some(why));
            }
            let order = book.orders.get(&number).ok_or_else(|| Problem::not_found("the order is gone"))?;
            let status = book.status(order, now);
            if status != OrderStatus::Ready {
                let text = format!("the order is {status:?}, finalize needs it to be ready");
                return Err(Problem::new(StatusCode::FORBIDDEN, "orderNotReady", text));
            }
            let gone = || Problem::not_found("the account is gone");
            let own = book.accounts.get(&order.account).ok_or_else(gone)?.key.clone();
            (number, order.names.clone(), own)
        };
        // Outside of the lock: this is where the time goes.
        let der = B64.decode(&asked.csr).map_err(|e| Problem::malformed(format!("the csr is no base64url: {e}")))?;
        let spki: Arc<[u8]> = Arc::from(check_csr(&der, &names, &own, |der| self.house.request(der))?);
        let stuck = signed.strike.has(&Fault::StuckProcessing);
        let (at_once, waits) = {
            let mut book = self.book();
            let gone = || Problem::not_found("the order is gone");
            let order = book.orders.get(&number).ok_or_else(gone)?;
            if !matches!(order.stage, Stage::Open) {
                let text = "the order was finalized by another request";
                return Err(Problem::new(StatusCode::FORBIDDEN, "orderNotReady", text));
            }
            let profile = order.profile.as_deref();
            let ask = Ask { account: order.account, names: &names, profile, renewal: false };
            let admission = self.house.admit(&book, &ask, now)?;
            self.house.happened(Event::Finalized { order: number, admission: &admission }, now);
            let at_once = matches!(admission, Admission::Now) && !stuck;
            let (stage, waits) = match admission {
                Admission::Now => (Stage::Processing { spki, since: now, stuck }, Vec::new()),
                Admission::Wait(names) => (Stage::Waiting { spki, since: now }, names),
            };
            book.orders.get_mut(&number).ok_or_else(gone)?.stage = stage;
            book.touch_order(number);
            (at_once, waits)
        };
        // What is about to be signed is known after a crash too.
        self.keep().await?;
        if !waits.is_empty() {
            self.house.waits(&self.book(), number, &waits, now);
        }
        if at_once {
            let making = self.make(number, Try::First, signed.strike.clone());
            if self.config.issue_delay.is_zero() {
                // Whoever asks for the order later sees how it ended, if it takes longer.
                drop(timeout(ANSWER, making).await);
            }
        }
        let book = self.book();
        let order = book.orders.get(&number).ok_or_else(|| Problem::not_found("the order is gone"))?;
        let answer = Answer::json(self.order_json(&book, order, now)).with(LOCATION, self.url("order", number));
        Ok(answer.maybe(RETRY_AFTER, self.patience(&book, order, now)))
    }

    /// Certifies in the background; ends when the order is valid or invalid, or has to be tried again. The first try is for
    /// whoever had the order kept as it is.
    pub(super) fn make(self: &Arc<Self>, number: u64, time: Try, strike: Strike) -> oneshot::Receiver<()> {
        let (done, made) = oneshot::channel();
        // One that is being made already is made once; whoever waits is told at once, and asks again.
        if !lock(&self.making).insert(number) {
            return made;
        }
        let ca = self.clone();
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            ca.clock.sleep(ca.config.issue_delay).await;
            // Nothing is signed for an order that a restart would not know.
            if time == Try::First || ca.keep().await.is_ok() {
                ca.issue(number, time, &strike).await;
            }
            lock(&ca.making).remove(&number);
            if let Err(why) = ca.keep().await {
                tracing::warn!(order = number, why = why.detail, "what became of an order is recorded later");
            }
            if done.send(()).is_err() {
                tracing::trace!(order = number, "nobody waits for the certificate any more");
            }
        });
        made
    }

    /// Signs for an order in processing; afterwards it is valid, or invalid with the reason, or is tried again.
    pub(super) async fn issue(&self, number: u64, time: Try, strike: &Strike) {
        let (asked, confirmed) = {
            let mut book = self.book();
            let Some(order) = book.orders.get(&number) else { return };
            let Stage::Processing { spki, since, .. } = &order.stage else { return };
            let asked = ToIssue {
                account: order.account,
                names: order.names.clone(),
                profile: order.profile.clone(),
                spki: spki.clone(),
                since: *since,
                time,
                strike: strike.clone(),
            };
            // It may have waited here, for a key holder or through a restart: policy of now is what counts.
            let now = self.clock.now();
            let ask =
                Ask { account: asked.account, names: &asked.names, profile: asked.profile.as_deref(), renewal: false };
            let confirmed = match self.house.confirm(&book, &ask, order.ruled.is_some(), now) {
                Ok(Admission::Now) => Ok(()),
                Err(why) => Err(why),
                Ok(admission @ Admission::Wait(_)) => {
                    self.house.happened(Event::Finalized { order: number, admission: &admission }, now);
                    if let Some(order) = book.orders.get_mut(&number) {
                        order.stage = Stage::Waiting { spki: asked.spki.clone(), since: now };
                    }
                    lock(&self.later).remove(&number);
                    // Whoever keeps the house announces it as soon as it is durable.
                    book.touch_order(number);
                    return;
                }
            };
            (asked, confirmed)
        };
        // Outside of the lock: this is where the time goes.
        let issued = match confirmed {
            Ok(()) => self.house.issue(&asked).await,
            Err(why) => Err(why),
        };
        let now = self.clock.now();
        let mut book = self.book();
        let stage = match issued {
            Ok(issued) => {
                self.house.happened(Event::Issued { order: number, account: asked.account, issued: &issued }, now);
                let certificate = Certificate {
                    account: asked.account,
                    issued,
                    revoked: None,
                    compromised: false,
                    replaced_by: None,
                    ari: None,
                };
                book.add_certificate(number, certificate);
                Stage::Valid { certificate: number }
            }
            Err(Unissued::Never(problem)) => {
                self.house.happened(Event::Failed { order: number, problem: &problem }, now);
                Stage::Invalid(Some(problem))
            }
            Err(Unissued::Later(why)) => {
                let mut later = lock(&self.later);
                let (times, _) = later.get(&number).copied().unwrap_or((0, now));
                let wait = AGAIN.saturating_mul(1 << times.min(16)).min(AGAIN_AT_MOST);
                later.insert(number, (times.saturating_add(1), now.plus(wait)));
                let (order, seconds) = (self.url("order", number), wait.as_secs());
                tracing::warn!(order, why, seconds, "an order has to wait for its certificate");
                return;
            }
        };
        lock(&self.later).remove(&number);
        // What was ended meanwhile stays so.
        if let Some(order) = book.orders.get_mut(&number).filter(|o| matches!(o.stage, Stage::Processing { .. })) {
            order.stage = stage;
        }
        book.touch_order(number);
    }

    pub(super) async fn certificate(&self, id: &str, signed: &Signed) -> Result<Answer, Problem> {
        let own = signed.account()?;
        let issued = {
            let book = self.book();
            let certificate = self.number(id).and_then(|n| book.certificates.get(&n));
            let certificate =
                certificate.ok_or_else(|| Problem::not_found(format!("there is no certificate {id:?}")))?;
            if certificate.account != own {
                return Err(Problem::unauthorized("the certificate belongs to another account"));
            }
            certificate.issued.clone()
        };
        Ok(Answer::new(StatusCode::OK, Content::Pem(self.house.chain(&issued).await?)))
    }
}

/// Checks that the request is signed with its own key, that the key is one that is taken, and that it names exactly what
/// was ordered; returns the public key (DER). Nothing else of it is used. A `house` that verified the signature, over the
/// same bytes, need not have it verified again.
fn check_csr(
    der: &[u8],
    ordered: &NameSet,
    account: &Jwk,
    house: impl FnOnce(&[u8]) -> Result<Proof, Problem>,
) -> Result<Vec<u8>, Problem> {
    let (rest, csr) = X509CertificationRequest::from_der(der)
        .map_err(|e| Problem::bad_csr(format!("the certificate request cannot be parsed: {e}")))?;
    if !rest.is_empty() {
        return Err(Problem::bad_csr("bytes follow the certificate request"));
    }
    let info = &csr.certification_request_info;
    check_key(&info.subject_pki)?;
    if account.is_spki(&info.subject_pki) {
        // RFC 8555 section 11.1.
        let text = "the key of an account is certified for nothing else; make a key for the certificate";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "badPublicKey", text));
    }
    let bad = |text: &str| Problem::bad_csr(format!("the certificate request names {text:?}, which is no name"));
    let mut asked = BTreeSet::new();
    for cn in info.subject.iter_common_name() {
        let text = cn.as_str().map_err(|_| Problem::bad_csr("the common name is no text"))?;
        asked.insert(Name::parse(text).map_err(|_| bad(text))?);
    }
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(san) = extension else { continue };
        for general in &san.general_names {
            asked.insert(name(general)?);
        }
    }
    let asked = NameSet::new(asked);
    if asked != *ordered {
        return Err(Problem::bad_csr(format!("the certificate request names {asked}, the order {ordered}")));
    }
    if house(der)? == Proof::Unseen {
        let text = "the certificate request is not signed with its own key, or not readably";
        csr.verify_signature().map_err(|_| Problem::bad_csr(text))?;
    }
    Ok(info.subject_pki.raw.to_vec())
}

fn name(general: &GeneralName<'_>) -> Result<Name, Problem> {
    if let GeneralName::DNSName(text) = general {
        return match Name::parse(text) {
            Ok(name @ Name::Dns(_)) => Ok(name),
            Ok(Name::Ip(_)) | Err(_) => Err(Problem::bad_csr(format!("{text:?} is no DNS name"))),
        };
    }
    if let GeneralName::IPAddress(bytes) = general {
        let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
        let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
        return v4.or(v6).map(Name::Ip).map_err(|_| Problem::bad_csr("an address has neither 4 nor 16 bytes"));
    }
    Err(Problem::bad_csr("the certificate request has a subject alternative name that is neither DNS name nor address"))
}

/// P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits are taken.
fn check_key(spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), Problem> {
    use x509_parser::public_key::PublicKey;
    let refuse = |text: String| Err(Problem::new(StatusCode::BAD_REQUEST, "badPublicKey", text));
    if rcgen::SubjectPublicKeyInfo::from_der(spki.raw).is_err() {
        return refuse("the public key is of a kind or on a curve that is not taken".to_owned());
    }
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) if (2_048..=4_096).contains(&rsa.key_size()) => Ok(()),
        Ok(PublicKey::RSA(rsa)) => refuse(format!("an RSA key has 2048 to 4096 bits, not {}", rsa.key_size())),
        Ok(PublicKey::EC(point)) if matches!(point.key_size(), 256 | 384) => Ok(()),
        Ok(PublicKey::EC(point)) => {
            refuse(format!("EC keys on P-256 and P-384 are taken, not of {} bits", point.key_size()))
        }
        Ok(PublicKey::Unknown(_)) if spki.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => Ok(()),
        Ok(_) | Err(_) => refuse("keys of this type are not taken; P-256, P-384, Ed25519 and RSA are".to_owned()),
    }
}
