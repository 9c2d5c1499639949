//! Files of a web server: bounded in time and bytes, never redirected, never retried.
//!
//! Nothing that comes from there is believed before its signatures and hashes are checked, so `http:` is as good as
//! `https:` but for those who listen.

use core::time::Duration;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::NotRead;

/// To connect takes a second or two even by satellite.
const CONNECT: Duration = Duration::from_secs(10);
/// A bundle has at most 15 MiB: at 4 Mbit/s it is there in this time.
const REQUEST: Duration = Duration::from_secs(30);

/// A web server with a tree of files.
#[derive(Debug)]
pub struct Web {
    client: reqwest::Client,
    base: Url,
}

impl Web {
    /// For an `http:` or `https:` URL of the directory in which `checkpoint` lies; connects to nothing. Trust in the
    /// server is the system's.
    ///
    /// # Errors
    /// Says what is wrong with the URL or with the system's roots.
    pub fn new(url: &str) -> Result<Self, String> {
        let slash = if url.ends_with('/') { "" } else { "/" };
        let base = Url::parse(&format!("{url}{slash}")).map_err(|e| format!("{url} is no URL: {e}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() {
            return Err(format!("{url} is not an http: or https: URL without ? and #"));
        }
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if usable == 0 && base.scheme() == "https" {
            return Err("no system root can be used; install ca-certificates".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .build()
            .map_err(|e| format!("HTTP cannot be set up: {e}"))?;
        Ok(Self { client, base })
    }

    pub(super) async fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, NotRead> {
        let failed = |e: &reqwest::Error| NotRead::Failed(said(e));
        let url = self.base.join(path).map_err(|e| NotRead::Failed(e.to_string()))?;
        let mut response = self.client.get(url).send().await.map_err(|e| failed(&e))?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 => return Err(NotRead::Absent),
            other => return Err(NotRead::Failed(format!("the server answers {other}"))),
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| failed(&e))? {
            if body.len().saturating_add(piece.len()) > cap {
                return Err(NotRead::TooLong(cap));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// The last cause says what it was; the ones before it only that something was.
fn said(error: &reqwest::Error) -> String {
    // No chain of causes is this deep; an endless one would be an error in itself.
    let first: &dyn core::error::Error = error;
    let last = core::iter::successors(Some(first), |e| e.source()).take(16).last();
    last.map_or_else(|| error.to_string(), ToString::to_string)
}
