//! Renewal information (RFC 9773) and revocation (RFC 8555 section 7.6).

use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde::Deserialize;
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::answer::{Answer, Content};
use super::book::Book;
use super::config::Renewal;
use super::house::Revoker;
use super::problem::Problem;
use super::server::{Ca, Signed, Signer};
use crate::domain::certificate::CertId;
use crate::domain::name::NameSet;
use crate::domain::time::{DAY, HOUR, Timestamp, Validity};

/// RFC 5280 section 5.3.1.
const KEY_COMPROMISE: u8 = 1;

#[derive(Deserialize)]
struct Revocation {
    certificate: String,
    #[serde(default)]
    reason: Option<u8>,
}

/// A suggested window with the page that explains it.
pub(super) struct Suggestion {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) explanation: Option<String>,
}

/// Whether `now` lies in the window, its end excluded: what exempts a renewal from limits at Let's Encrypt.
pub(super) fn in_window(window: &Suggestion, now: Timestamp) -> bool {
    window.start <= now && now < window.end
}

/// Let's Encrypt's rule: 2 % of the lifetime around two thirds of it, or around its half under ten days.
pub(super) fn computed(validity: &Validity) -> Suggestion {
    let middle = if validity.lifetime() < DAY.saturating_mul(10) { 500 } else { 667 };
    let start = validity.at_permille(middle - 10);
    // Demo certificates live for minutes: their window still has a length.
    let end = validity.at_permille(middle + 10).max(start.plus(Duration::from_secs(1)));
    Suggestion { start, end, explanation: None }
}

/// Over for a day: renew now (RFC 9773 section 4.2).
pub(super) fn over(now: Timestamp, explanation: Option<String>) -> Suggestion {
    Suggestion { start: now.minus(DAY.saturating_mul(2)), end: now.minus(DAY), explanation }
}

impl Ca {
    pub(super) fn renewal_info(&self, id: &str) -> Result<Answer, Problem> {
        let Renewal::On { retry_after } = self.config.renewal else {
            return Err(Problem::not_found("this CA has no renewal information"));
        };
        let id = CertId(Arc::from(id));
        let window = self.book().certificate_by_id(&id).and_then(|c| self.house.window(c, self.clock.now()));
        let window = window.ok_or_else(|| Problem::not_found(format!("there is no renewal information for {id}")))?;
        let mut json = json!({
            "suggestedWindow": { "start": window.start.to_string(), "end": window.end.to_string() },
        });
        if let (Some(map), Some(url)) = (json.as_object_mut(), &window.explanation) {
            map.insert("explanationURL".to_owned(), json!(url));
        }
        Ok(Answer::json(json).with(RETRY_AFTER, retry_after.max(Duration::from_secs(1)).as_secs().to_string()))
    }

    /// Revokes for the account that ordered, one that proved all names, or the holder of the certificate's key.
    pub(super) async fn revoke(&self, signed: &Signed) -> Result<Answer, Problem> {
        let asked: Revocation = signed.payload()?;
        // RFC 5280 section 5.3.1 without those that make no sense of a subscriber: 2, 6, 8, 10 and the unused 7.
        if asked.reason.is_some_and(|r| !matches!(r, 0 | 1 | 3 | 4 | 5 | 9)) {
            let text = "of the reasons of RFC 5280 only 0, 1, 3, 4, 5 and 9 are taken";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "badRevocationReason", text));
        }
        let der = B64
            .decode(&asked.certificate)
            .map_err(|e| Problem::malformed(format!("the certificate is no base64url: {e}")))?;
        let now = self.clock.now();
        let unknown = || Problem::not_found("this CA did not issue that certificate");
        let (owner, issued, revoked, compromised) = {
            let mut book = self.book();
            let certificate = book.certificate_by_der(&der).ok_or_else(unknown)?;
            let (owner, issued, revoked) = (certificate.account, certificate.issued.clone(), certificate.revoked);
            let compromised = certificate.compromised;
            if !self.may_revoke(&book, &signed.signer, owner, &issued.names, &der, now) {
                let text = "neither the certificate's account, nor one that proved all its names, nor its key signed \
                            the request";
                return Err(Problem::unauthorized(text));
            }
            (owner, issued, revoked, compromised)
        };
        let by = match &signed.signer {
            Signer::Account(account) if *account == owner => Revoker::Owner(owner),
            Signer::Account(account) => Revoker::Prover(*account),
            Signer::Key(_) => Revoker::Key,
        };
        // Who revoked first does not keep the owner from saying that the key is in other hands.
        let leaked = asked.reason == Some(KEY_COMPROMISE) && by.knows_the_key();
        if revoked.is_some() && (compromised || !leaked) {
            return Err(already_revoked());
        }
        self.house.revoke(&issued, asked.reason.unwrap_or(0), by).await?;
        if let Some(certificate) = self.book().certificate_by_der(&der) {
            certificate.revoked = certificate.revoked.or(Some(now));
            certificate.compromised |= leaked;
        }
        Ok(Answer::new(StatusCode::OK, Content::Nothing))
    }

    fn may_revoke(
        &self,
        book: &Book,
        signer: &Signer,
        owner: u64,
        names: &NameSet,
        der: &[u8],
        now: Timestamp,
    ) -> bool {
        match signer {
            Signer::Account(account) if *account == owner => true,
            Signer::Account(account) => book.accounts.get(account).is_some_and(|account| {
                names.iter().all(|n| {
                    book.valid_authorization(account, &n.authorized(), n.is_wildcard(), now.minus(HOUR)).is_some()
                })
            }),
            Signer::Key(key) => {
                let parsed = X509Certificate::from_der(der);
                parsed.is_ok_and(|(_, certificate)| key.is_spki(certificate.public_key()))
            }
        }
    }
}

pub(super) fn already_revoked() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "alreadyRevoked", "the certificate is already revoked")
}
