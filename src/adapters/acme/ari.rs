//! Renewal information (RFC 9773): read here, judged by the engine.

use core::time::Duration;

use super::classify;
use super::client::Client;
use super::messages::{Endpoint, RenewalInfoObject};
use super::text::clean;
use crate::domain::certificate::CertId;
use crate::domain::execution::Fault;
use crate::domain::id::IssuerId;
use crate::domain::time::Timestamp;
use crate::ports::{IssuerError, IssuerErrorKind, RenewalInfo};

impl Client {
    /// Asks when to renew; `None` if the CA has no such thing. A missing `Retry-After` is no error.
    pub(super) async fn renewal_info(&self, id: &CertId) -> Result<Option<RenewalInfo>, IssuerError> {
        let directory = self.directory().await?;
        let Some(base) = directory.renewal_info.as_deref() else { return Ok(None) };
        if !is_cert_id(&id.0) {
            let text = format!("{:?} is no certificate id of RFC 9773 section 4.1", clean(&id.0, 128));
            return Err(classify::error(IssuerErrorKind::Refused, Fault::Ours, text));
        }
        let url = self.url("renewalInfo", &format!("{}/{}", base.trim_end_matches('/'), id.0))?;
        let answer = self.get("", Endpoint::RenewalInfo, &url).await?;
        let retry_after = answer.headers.retry_after;
        let object: RenewalInfoObject = self.json(Endpoint::RenewalInfo, answer)?;
        window(self.id(), object, retry_after).map(Some)
    }
}

/// The window as the engine judges it.
///
/// # Errors
/// One of its ends is no time.
pub(super) fn window(
    issuer: &IssuerId,
    object: RenewalInfoObject,
    retry_after: Option<Duration>,
) -> Result<RenewalInfo, IssuerError> {
    let time = |what: &str, text: &str| {
        Timestamp::parse(text).ok_or_else(|| {
            classify::broken(issuer, format!("the window's {what} {:?} is no RFC 3339 time", clean(text, 64)))
        })
    };
    let window = &object.suggested_window;
    Ok(RenewalInfo {
        start: time("start", &window.start)?,
        end: time("end", &window.end)?,
        explanation: object.explanation_url.filter(|u| u.starts_with("https://")).map(|u| clean(&u, 2_048)),
        retry_after,
    })
}

/// base64url `.` base64url: safe in a path.
fn is_cert_id(text: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    text.len() <= 256 && text.split_once('.').is_some_and(|(aki, serial)| part(aki) && part(serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certificate_id_goes_into_the_path() {
        assert!(is_cert_id("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
        for bad in ["", ".", "a.", ".b", "a.b.c", "../x.y", "a/b.c", "a.b?c", &format!("a.{}", "b".repeat(300))] {
            assert!(!is_cert_id(bad), "{bad}");
        }
    }
}
