//! dns-01 by an HTTP request, signed as Standard Webhooks have it (<https://www.standardwebhooks.com>): the receiver
//! adds or removes the record.
//!
//! ```text
//! POST URL
//! webhook-id: msg_…            unique per request
//! webhook-timestamp: …         seconds since 1970
//! webhook-signature: v1,…      base64(HMAC-SHA256(secret, id.timestamp.body))
//!
//! {"type":"dns-01","action":"present","name":"a.example","record":"_acme-challenge.a.example","value":"…"}
//! ```
//! Only a 2xx answer is success; redirects are not followed; nothing is retried here.

use core::fmt::Write as _;
use core::time::Duration;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs as provider;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::dns::{Action, Placed};
use super::{Secret, excerpt, failed};
use crate::codec::webhook::{self, Signer};
use crate::domain::execution::Fault;
use crate::ports::{ChallengeTask, Clock, Entropy, SolverError};

/// An answer is read for an error's text only.
const MOST_ANSWER: usize = 64 * 1_024;

/// The longest time limit; the usual one is 15 s.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A webhook.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where to send; `https`, or `http` to this machine.
    pub url: String,
    /// The secret in its text form, `whsec_` and base64.
    pub secret: Secret,
    /// When to give up on a request, at most a minute; 15 s is usual.
    pub timeout: Duration,
}

/// A checked webhook.
pub(super) struct Webhook {
    url: Url,
    signer: Signer,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Webhook {
    pub(super) fn start(
        config: WebhookConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let url = webhook::address(&config.url).map_err(|e| e.to_string())?;
        let signer = Signer::parse(config.secret.bytes()).map_err(|e| e.to_string())?;
        if config.timeout.is_zero() || config.timeout > LONGEST_TIMEOUT {
            let (seen, most) = (config.timeout.as_secs(), LONGEST_TIMEOUT.as_secs());
            return Err(format!("the webhook's timeout is {seen} s; expected 1 to {most} s"));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && url.scheme() == "https" {
            return Err("no trusted root certificates were found on this system; install ca-certificates".to_owned());
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be set up: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(config.timeout)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("the HTTP client cannot be set up: {e}"))?;
        Ok(Self { url, signer, client, clock, entropy })
    }

    pub(super) async fn call(&self, action: Action, task: &ChallengeTask, placed: &Placed) -> Result<(), SolverError> {
        let record = placed.record.to_ascii();
        let body = serde_json::json!({
            "type": task.kind.as_str(),
            "action": action.as_str(),
            "name": task.name.to_string(),
            "record": record.trim_end_matches('.'),
            "value": placed.value,
        })
        .to_string();
        let id = self.id();
        let timestamp = self.clock.now().unix();
        let signature = self.signer.sign(&id, timestamp, body.as_bytes());
        let sent = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await;
        let place = self.place();
        let response = sent.map_err(|e| failed(Fault::Network, format!("{place} cannot be asked: {}", causes(e))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said = excerpt(&read(response).await, 200);
        let text = format!("{place} answered {} with {status}; expected 2xx; it said {said}", action.as_str());
        Err(failed(Fault::Host, text))
    }

    /// Unique per request, so that the receiver can see a replay.
    fn id(&self) -> String {
        let mut random = [0_u8; 16];
        self.entropy.fill(&mut random);
        format!("msg_{:032x}", u128::from_be_bytes(random))
    }

    /// The address without what may be secret in it: path, query and user.
    fn place(&self) -> String {
        format!("webhook {}", self.url.origin().ascii_serialization())
    }
}

/// The start of an answer.
async fn read(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MOST_ANSWER.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if body.len() >= MOST_ANSWER {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// An error with its causes, which reqwest leaves out of its text; without the URL, which may hold a secret.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = core::error::Error::source(&error);
    while let Some(cause) = source {
        if write!(text, ": {cause}").is_err() {
            break;
        }
        source = cause.source();
    }
    text
}
