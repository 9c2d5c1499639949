//! Batches to a webhook, signed as Standard Webhooks have it ([`crate::codec::webhook`]).
//!
//! ```text
//! batch full ─► where it ends is written ─► POST … POST ─► 2xx ─► how far it is is written
//! ```
//! So a batch that was under way when somebody was killed is sent again as it was, with the same `webhook-id`: at least
//! once, and the receiver can drop what it has. Redirects are not followed.

use core::fmt;
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use rustls::crypto::aws_lc_rs as provider;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::place::Place;
use crate::codec::export::{Format, Reached, Stopped, Why};
use crate::codec::webhook::{Signer, address};
use crate::domain::key::Digest;
use crate::domain::tree::Frontier;
use crate::ports::{Clock, StoredEntry};

/// Most entries of a batch.
const MOST_ENTRIES: usize = 500;
/// Most bytes of a batch, unless one entry alone has more (at most 200 KiB): receivers commonly take a few MiB.
const MOST_BYTES: usize = 1_024 * 1_024;
/// To connect takes a second or two even by satellite.
const CONNECT: Duration = Duration::from_secs(10);
/// Standard Webhooks: 15 to 30 s for an answer.
const REQUEST: Duration = Duration::from_secs(30);
/// An answer is read for an error's text only.
const MOST_ANSWER: usize = 4 * 1_024;
/// Times that a batch is sent: with the waits between, 1 + 2 + … + 32 + 3 · 60 s, over four minutes.
const ATTEMPTS: u32 = 10;
/// Those of the 4xx that ask to come again: timeout, too early, too many requests.
const LATER: [u16; 3] = [408, 425, 429];
/// The first wait between two of them; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest of our own waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A receiver that asks for a longer wait than this is left alone until the next run.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Where to.
#[derive(Debug)]
pub struct HookOptions<'a> {
    /// `https`, or `http` to this machine.
    pub url: &'a str,
    /// `whsec_` and base64.
    pub secret: &'a [u8],
    /// Where it is kept how far it is.
    pub cursor: &'a Path,
    /// What is sent: [`Format::Cloudevents`] or [`Format::Ocsf`].
    pub format: Format,
}

/// A webhook.
pub struct Hook {
    url: Url,
    signer: Signer,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    format: Format,
    place: Place,
    name: String,
    reached: Option<Reached>,
    batch: Vec<u8>,
    /// Over the entries of the batch too.
    tree: Frontier,
    entries: usize,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("to", &self.receiver()).finish_non_exhaustive()
    }
}

impl Hook {
    /// How far it is. Nothing is sent or written.
    ///
    /// # Errors
    /// [`Why::Setting`] says what is wrong with the options; [`Why::Place`] if the cursor is another export's.
    pub fn open(options: &HookOptions<'_>, clock: Arc<dyn Clock>) -> Result<Self, Stopped> {
        let setting = |e: crate::codec::ParseError| Stopped::new(Why::Setting, e.to_string());
        let url = address(options.url).map_err(setting)?;
        let signer = Signer::parse(options.secret).map_err(setting)?;
        let client = client(&url).map_err(|text| Stopped::new(Why::Setting, text))?;
        let (dir, name) = (options.cursor.parent(), options.cursor.file_name().and_then(|name| name.to_str()));
        let name = name.ok_or_else(|| Stopped::new(Why::Setting, "the cursor is no path of a file"))?.to_owned();
        let dir = dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = Place::of_file(dir, &name)?;
        let reached = place.reached(&name)?;
        let format = options.format;
        let hook = Self {
            url,
            signer,
            client,
            clock,
            format,
            tree: reached.as_ref().map(|reached| reached.tree.clone()).unwrap_or_default(),
            reached,
            place,
            name,
            batch: Vec::new(),
            entries: 0,
        };
        if let Some(reached) = &hook.reached
            && (reached.format != format || reached.receiver.as_ref() != Some(&hook.receiver()))
        {
            let receiver = reached.receiver.as_deref().unwrap_or("a directory");
            let text = format!(
                "{} is the cursor of an export as {} to {receiver}; name another file",
                options.cursor.display(),
                reached.format.as_str()
            );
            return Err(Stopped::new(Why::Place, text));
        }
        Ok(hook)
    }

    /// How far it is.
    #[must_use]
    pub fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// The address without what may be secret in it: path, query and user.
    fn receiver(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Before the first entry, which is the one after `tree` if nothing was sent before.
    ///
    /// # Errors
    /// [`Why::Host`].
    pub fn begin(&mut self, tree: &Frontier, checkpoint: &str) -> Result<(), Stopped> {
        self.place.claim()?;
        let (format, receiver) = (self.format, self.receiver());
        let reached =
            self.reached.get_or_insert_with(|| Reached::beginning(format, tree.clone(), checkpoint.to_owned()));
        reached.checkpoint = checkpoint.to_owned();
        reached.receiver = Some(receiver);
        self.tree = reached.tree.clone();
        self.tell()
    }

    /// The next entry, as JSON.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub async fn entry(&mut self, entry: &StoredEntry, json: &[u8]) -> Result<(), Stopped> {
        let under_way = self.reached.as_ref().and_then(|reached| reached.sending);
        let full = match under_way {
            // As it was sent before.
            Some(end) => self.tree.size() >= end,
            None => self.entries >= MOST_ENTRIES || self.batch.len().saturating_add(json.len()) > MOST_BYTES,
        };
        if full {
            self.send().await?;
        }
        self.batch.push(if self.entries == 0 { b'[' } else { b',' });
        self.batch.extend_from_slice(json);
        self.tree.push(entry.leaf, |_, _| {});
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// After the last entry.
    ///
    /// # Errors
    /// [`Why::Refused`] if the receiver does not take it, [`Why::Unreachable`] if it cannot take it now, [`Why::Host`].
    pub async fn finish(mut self) -> Result<(), Stopped> {
        self.send().await
    }

    async fn send(&mut self) -> Result<(), Stopped> {
        let Some(reached) = self.reached.as_mut().filter(|_| self.entries > 0) else { return Ok(()) };
        let (from, end) = (reached.next(), self.tree.size());
        if reached.sending.replace(end) != Some(end) {
            self.tell()?;
        }
        self.batch.push(b']');
        let body = bytes::Bytes::from(core::mem::take(&mut self.batch));
        let (format, root) = (self.format.as_str(), self.tree.root());
        let named = Digest::of_parts(&[format!("{format} {from} {end} ").as_bytes(), &root.0]);
        let id = format!("msg_{}", named.to_string().chars().take(32).collect::<String>());
        self.post(&id, &body, &format!("entries {from}–{}", end.saturating_sub(1))).await?;
        self.entries = 0;
        if let Some(reached) = &mut self.reached {
            (reached.tree, reached.sending) = (self.tree.clone(), None);
        }
        self.tell()
    }

    async fn post(&self, id: &str, body: &bytes::Bytes, what: &str) -> Result<(), Stopped> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let (why, asked) = match self.once(id, body).await {
                Ok(()) => return Ok(()),
                Err(Not::Refused(text)) => {
                    let text = format!("{} refused {what}: {text}; all before was taken", self.receiver());
                    return Err(Stopped::new(Why::Refused, text));
                }
                Err(Not::Now(text, asked)) => (text, asked),
            };
            let given_up = |text: String| Stopped::new(Why::Unreachable, format!("{}: {text}", self.receiver()));
            if let Some(asked) = asked.filter(|asked| *asked > LONGEST_ASKED) {
                let seconds = asked.as_secs();
                return Err(given_up(format!("{why}; it asks to wait {seconds} s: run the same command then")));
            }
            if attempt >= ATTEMPTS {
                return Err(given_up(format!(
                    "{what} was sent {ATTEMPTS} times: {why}; run the same command again later"
                )));
            }
            self.clock.sleep(asked.map_or(wait, |asked| asked.max(FIRST_WAIT))).await;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            attempt = attempt.saturating_add(1);
        }
    }

    async fn once(&self, id: &str, body: &bytes::Bytes) -> Result<(), Not> {
        let timestamp = self.clock.now().unix();
        let sent = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, media_type(self.format))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signer.sign(id, timestamp, body))
            .body(body.clone())
            .send()
            .await;
        let response = sent.map_err(|e| Not::Now(format!("it cannot be asked: {}", causes(e)), None))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| self.retry_after(v));
        let text = format!("it answered {status}; expected 2xx; it said {}", excerpt(response).await);
        if status.is_server_error() || LATER.contains(&status.as_u16()) {
            Err(Not::Now(text, asked))
        } else {
            Err(Not::Refused(text))
        }
    }

    /// Seconds, or the one form of a date that servers write (RFC 9110 section 10.2.3).
    fn retry_after(&self, text: &str) -> Option<Duration> {
        const DATE: jiff::fmt::rfc2822::DateTimeParser =
            jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true);
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        let at = DATE.parse_timestamp(text).ok()?.as_second().saturating_sub(self.clock.now().unix());
        Some(Duration::from_secs(u64::try_from(at).unwrap_or(0)))
    }

    fn tell(&mut self) -> Result<(), Stopped> {
        let Some(reached) = &self.reached else { return Ok(()) };
        self.place.put(&self.name, &reached.to_bytes())?;
        self.place.settle()
    }
}

/// Why a batch was not taken.
enum Not {
    Refused(String),
    /// It may be taken later, and perhaps the receiver said when.
    Now(String, Option<Duration>),
}

/// CloudEvents have a media type for many of them (`CloudEvents` 1.0, JSON batch format).
fn media_type(format: Format) -> &'static str {
    match format {
        Format::Cloudevents => "application/cloudevents-batch+json",
        Format::Ocsf | Format::TlogTiles | Format::Csv => "application/json",
    }
}

fn client(url: &Url) -> Result<reqwest::Client, String> {
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
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| format!("the HTTP client cannot be set up: {e}"))
}

/// The start of an answer, quoted and without control characters.
async fn excerpt(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MOST_ANSWER.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        if body.len() >= MOST_ANSWER {
            break;
        }
    }
    let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    format!("\"{}\"", text.escape_debug())
}

/// The last cause says what it was; without the URL, which may hold a secret.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    // No chain of causes is this deep; an endless one would be an error in itself.
    let first: &dyn core::error::Error = &error;
    let last = core::iter::successors(Some(first), |e| e.source()).take(16).last();
    last.map_or_else(|| error.to_string(), ToString::to_string)
}
