//! One exchange with a witness: sent once, bounded in time and bytes, never redirected, never retried.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig as Tls, RootCertStore};
use url::{Host, Url};

use crate::codec::ParseError;
use crate::codec::add_checkpoint::{Request, recorded_size};
use crate::codec::note::{MOST_SIGNATURES, Signature};

/// An answer is some lines of at most 400 bytes; those of post-quantum keys have some 4 KiB each.
const MOST_ANSWER: usize = 64 * 1_024;
/// A text of a witness is shown up to this many characters.
const MOST_SHOWN: usize = 200;

/// How witnesses are reached.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// When to give up on a request.
    pub timeout: Duration,
    /// DER roots to trust instead of the system's.
    pub roots: Vec<Vec<u8>>,
}

/// Reaches all witnesses.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Signature lines, not yet believed.
    Lines(Vec<Signature>),
    /// The size of what it cosigned last.
    Recorded(u64),
    /// It does not see how the checkpoint continues what it cosigned.
    NoProof(String),
    /// Anything else.
    Refused(String),
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// A sentence: TLS cannot be set up, or there are no roots.
    pub fn new(config: &ClientConfig) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if config.roots.is_empty() {
            // A witness may well be on this machine: then no root is needed.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for der in &config.roots {
            let root = CertificateDer::from(der.clone());
            roots.add(root).map_err(|e| format!("a root for the witnesses cannot be used: {e}"))?;
        }
        let tls = Tls::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(config.timeout)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        Ok(Self { http })
    }

    pub(super) async fn submit(&self, url: &Url, request: &Request) -> Result<Reply, String> {
        let sent = self.http.post(url.clone()).header("content-type", "text/plain; charset=utf-8");
        let answer =
            sent.body(request.to_string()).send().await.map_err(|e| format!("cannot be asked: {}", causes(e)))?;
        let status = answer.status().as_u16();
        let body = read(answer).await?;
        match status {
            200 => lines(&body).map(Reply::Lines).map_err(|e| format!("answered with a line that {e}")),
            409 => match recorded_size(&body) {
                Some(size) => Ok(Reply::Recorded(size)),
                // The specification asks for a size; without it a conflict about equal sizes is still one.
                None => Ok(Reply::Refused(format!("a conflict (409) without the size it saw: {}", excerpt(&body)))),
            },
            422 => Ok(Reply::NoProof(excerpt(&body))),
            404 => Ok(Reply::Refused("it does not know our log (404): give it our key, `keyward audit key`".into())),
            403 => {
                Ok(Reply::Refused("it does not trust our log's key (403): give it our key, `keyward audit key`".into()))
            }
            other => Ok(Reply::Refused(format!("status {other}: {}", excerpt(&body)))),
        }
    }
}

/// Where `add-checkpoint` of a submission prefix is.
pub(super) fn endpoint(prefix: &str) -> Result<Url, String> {
    let url = Url::parse(&format!("{}/add-checkpoint", prefix.trim_end_matches('/')))
        .map_err(|e| format!("the URL {prefix:?} of a witness cannot be read: {e}"))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    };
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "the URL {prefix:?} of a witness has a query, a fragment or a user; expected a plain prefix"
        ));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        other => Err(format!(
            "the URL {prefix:?} of a witness starts with {other}; expected https (http only to this machine)"
        )),
    }
}

fn lines(body: &str) -> Result<Vec<Signature>, ParseError> {
    let lines = body.strip_suffix('\n').ok_or_else(|| ParseError::new("does not end with a newline"))?;
    if lines.split('\n').count() > MOST_SIGNATURES {
        return Err(ParseError::new(format!("is one of more than {MOST_SIGNATURES}")));
    }
    lines.split('\n').map(str::parse).collect()
}

async fn read(mut answer: reqwest::Response) -> Result<String, String> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => break,
            Ok(Some(piece)) if body.len().saturating_add(piece.len()) > MOST_ANSWER => {
                return Err(format!("answers with more than {MOST_ANSWER} bytes"));
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(e) => return Err(format!("breaks off its answer: {}", causes(e))),
        }
    }
    String::from_utf8(body).map_err(|_| "answers with bytes that are no text".to_owned())
}

fn excerpt(body: &str) -> String {
    body.trim().chars().take(MOST_SHOWN).flat_map(char::escape_debug).collect()
}

/// An error with its causes, without the URL (the caller names the witness).
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = core::error::Error::source(&error);
    // No chain of causes is this deep.
    for _ in 0..16 {
        let Some(cause) = source else { break };
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for (prefix, expected) in [
            ("https://w.example/keyward/", "https://w.example/keyward/add-checkpoint"),
            ("https://w.example", "https://w.example/add-checkpoint"),
            ("http://127.0.0.1:9182", "http://127.0.0.1:9182/add-checkpoint"),
            ("http://[::1]/x", "http://[::1]/x/add-checkpoint"),
        ] {
            assert_eq!(endpoint(prefix).map(String::from), Ok(expected.to_owned()));
        }
        for bad in ["http://w.example", "ftp://localhost", "https://u:p@w.example", "https://w.example/?a", "", "x"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_end_with_a_newline_and_are_signatures() {
        let good = "\u{2014} w.example AAAAAAA=\n";
        assert_eq!(lines(good).unwrap().len(), 1);
        assert_eq!(lines(&good.repeat(2)).unwrap().len(), 2);
        for bad in ["", "\n", good.trim_end(), "x\n", &good.repeat(MOST_SIGNATURES + 1)] {
            assert!(lines(bad).is_err(), "{bad:?}");
        }
    }
}
