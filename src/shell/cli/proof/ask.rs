//! Asking the guarded URL as a client of the proxy would, and telling whether what is guarded was reached.

use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use http::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

/// So much of an answer is looked through for the text: pages are smaller.
const LONGEST_BODY: usize = 1_024 * 1_024;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What is guarded answered.
    Reached(String),
    /// The proxy refused.
    Refused(String),
    /// The proxy took the request and gave no answer.
    Silent(String),
    /// Nobody took the request: it says nothing about the gate.
    Nobody(String),
    /// An answer that could be either.
    Unclear(String),
}

/// By what it is told that what is guarded answered.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) text: Option<String>,
    pub(super) status: u16,
}

/// Asks one URL, each time over a new connection: what is cached for the next client is found too.
#[derive(Debug)]
pub(super) struct Asker {
    http: reqwest::Client,
    method: Method,
    url: Url,
    mark: Mark,
}

impl Asker {
    pub(super) fn new(
        url: &str,
        method: &str,
        mark: Mark,
        ca: Option<&Path>,
        patience: Duration,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|e| format!("{url:?} is no URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(format!("{url} is neither http:// nor https://"));
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .timeout(patience)
            .user_agent(concat!("keyward-probe/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        Ok(Self { http, method, url, mark })
    }

    /// One request.
    pub(super) async fn ask(&self) -> Told {
        let mut response = match self.http.request(self.method.clone(), self.url.clone()).send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Told::Nobody(chain(&error)),
            Err(error) if error.is_timeout() => return Told::Silent("no answer in time".to_owned()),
            Err(error) => return Told::Silent(chain(&error)),
        };
        let status = response.status().as_u16();
        let shown = status.to_string();
        let Some(text) = &self.mark.text else {
            return match status {
                _ if status == self.mark.status => Told::Reached(shown),
                200..=299 => Told::Unclear(format!("{shown} (give --expect-open TEXT to tell)")),
                _ => Told::Refused(shown),
            };
        };
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() < LONGEST_BODY => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Told::Unclear(format!("{shown} with more than {LONGEST_BODY} bytes")),
                Ok(None) => break,
                Err(_) if contains(&body, text) => break,
                Err(error) => return Told::Unclear(format!("{shown}, cut off: {}", chain(&error))),
            }
        }
        if contains(&body, text) { Told::Reached(shown) } else { Told::Refused(shown) }
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    !text.is_empty() && body.windows(text.len()).any(|w| w == text.as_bytes())
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let failed = |e: &dyn core::fmt::Display| format!("the roots in {} cannot be used: {e}", path.display());
    for der in CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))? {
        roots.add(der.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    }
    if roots.is_empty() { Err(failed(&"there is no certificate in it")) } else { Ok(roots) }
}

/// The last cause says most.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn core::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_web_address_is_refused() {
        let mark = || Mark { text: None, status: 200 };
        let asker = |url: &str, method: &str| Asker::new(url, method, mark(), None, Duration::from_secs(1));
        for bad in ["portal", "ftp://portal/", "file:///etc/passwd", "http://"] {
            assert!(asker(bad, "GET").is_err(), "{bad}");
        }
        assert!(asker("http://127.0.0.1/", "G T").is_err());
        assert!(asker("https://127.0.0.1/x", "PATCH").is_ok());
    }

    #[test]
    fn an_empty_text_is_never_found() {
        assert!(contains(b"approved", "prove") && !contains(b"approved", "") && !contains(b"", "x"));
    }
}
