//! `StreamSecrets` and `FetchSecrets`: Envoy names secrets, gets them, says whether it took them, and gets them again when
//! they change (xDS, state of the world).
//!
//! A secret is named by its SPIFFE ID (certificate and key) or by a trust domain, `spiffe://mesh.example` (what to trust);
//! `default` and `ROOTCA` stand for the first of either, as they do elsewhere.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use zeroize::Zeroizing;

use super::book::{Entry, Svid};
use super::server::{Flow, LONGEST_QUESTION};
use super::spiffe::{LATE, LOOK, PATIENCE, stopping};
use super::view::{End, Eyes, Seen, View};
use crate::codec::grpc::{Code, Frames};
use crate::codec::sds::{self, Asked, Method, Secret};
use crate::domain::key::Digest;

/// An Envoy did not take a secret.
pub(super) const NACK: &str = "KW4853";
/// What was asked cannot be understood.
const MALFORMED: &str = "KW4855";
/// A secret of another one, or of nobody.
const NOT_YOURS: &str = "KW4859";
/// Too much at once.
const TOO_MUCH: &str = "KW4856";
/// What gRPC's clients take in one message, mostly.
const LARGEST_ANSWER: usize = 4 * 1_024 * 1_024;
/// What an Envoy says about a secret that it refused is kept so far.
const LONGEST_COMPLAINT: usize = 512;

/// The questions of one call.
pub(super) struct Questions {
    body: Incoming,
    frames: Frames,
}

impl Questions {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, frames: Frames::default() }
    }

    /// The next message; `None` at the end. May be dropped at any time: nothing that came is lost.
    pub(super) async fn message(&mut self) -> Result<Option<Vec<u8>>, End> {
        let malformed = |text: String| End::new(Code::InvalidArgument, MALFORMED, text);
        loop {
            if let Some(message) = self.frames.next(LONGEST_QUESTION).map_err(|e| malformed(e.to_string()))? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.frames.feed(bytes);
                    }
                }
                Some(Err(error)) => return Err(malformed(format!("the question broke off: {error}"))),
                None if self.frames.is_torn() => return Err(malformed("the question broke off".to_owned())),
                None => return Ok(None),
            }
        }
    }
}

/// What the other end knows.
#[derive(Default)]
struct Known {
    names: Option<Vec<String>>,
    nonce: u64,
    /// What was sent last, taken or not.
    sent: Option<Digest>,
}

/// Answers until something ends it; `None` is an end without complaint.
pub(super) async fn follow(
    mut eyes: Eyes,
    uid: u32,
    method: Method,
    mut questions: Questions,
    flow: &Flow,
) -> Option<End> {
    let mut moved = eyes.book.follow();
    let (mut known, mut since) = (Known::default(), eyes.book.clock.boottime());
    let mut look = false;
    let mut asking = true;
    loop {
        moved.borrow_and_update();
        if let Some(names) = known.names.as_ref().filter(|_| look) {
            match eyes.look().await {
                Err(end) => return Some(end),
                Ok(Seen::Waits(what)) => {
                    if known.sent.is_none() && eyes.book.clock.boottime().since(since) >= PATIENCE {
                        return Some(End::new(Code::Unavailable, LATE, what));
                    }
                }
                Ok(Seen::Ready(view)) => {
                    let chosen = match choose(&view, names) {
                        Ok(chosen) => chosen,
                        Err(end) => return Some(end),
                    };
                    let digest = chosen.digest();
                    if known.sent != Some(digest) {
                        if let Err(end) = eyes.record(&view.caller, &chosen.keys).await {
                            return Some(end);
                        }
                        known.nonce = known.nonce.saturating_add(1);
                        if let Err(end) = flow.send(chosen.render(&digest, known.nonce)).await {
                            return Some(end);
                        }
                        known.sent = Some(digest);
                        if method == Method::Fetch {
                            return None;
                        }
                    }
                }
            }
        }
        tokio::select! {
            question = questions.message(), if asking => match question {
                Err(end) => return Some(end),
                // Whoever fetches asks once; whoever streams says goodbye.
                Ok(None) if method == Method::Fetch && known.names.is_some() => asking = false,
                Ok(None) => return None,
                Ok(Some(message)) => match sds::read(&message) {
                    Err(error) => return Some(End::new(Code::InvalidArgument, MALFORMED, error.to_string())),
                    Ok(asked) => {
                        if heard(&mut known, asked, &eyes, uid) {
                            (look, since) = (true, eyes.book.clock.boottime());
                        }
                    }
                },
            },
            changed = moved.changed() => match changed {
                Ok(()) => look = true,
                Err(_) => return Some(stopping()),
            },
            () = eyes.book.clock.sleep(LOOK) => {
                if known.names.is_none() && eyes.book.clock.boottime().since(since) >= PATIENCE {
                    return Some(End::new(Code::DeadlineExceeded, MALFORMED, "nothing was asked"));
                }
                look = known.sent.is_none() || !eyes.is_alive();
            }
            end = flow.ended() => return Some(end),
        }
    }
}

/// Takes in a question; whether there is something to answer.
fn heard(known: &mut Known, asked: Asked, eyes: &Eyes, uid: u32) -> bool {
    // About an answer before the last one: a newer question is on its way.
    if !asked.nonce.is_empty() && asked.nonce != known.nonce.to_string() {
        return false;
    }
    if let Some(complaint) = &asked.refused {
        let complaint = shortened(complaint);
        let text = format!("an Envoy refused the secrets {}: {complaint}", shortened(&asked.names.join(", ")));
        tracing::warn!(text, "a secret was not taken");
        eyes.book.meter.nacks.inc();
        eyes.book.records.note(NACK, uid, &text);
    }
    if known.names.as_ref() == Some(&asked.names) {
        return false;
    }
    known.names = Some(asked.names);
    known.sent = None;
    true
}

/// A text from outside, for people.
fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(LONGEST_COMPLAINT).collect()
}

/// What was asked for, by the names that were used.
#[derive(Default)]
struct Chosen<'a> {
    secrets: Vec<(String, Secret<'a>, Digest)>,
    /// Those that hold a key.
    keys: Vec<&'a (Arc<Entry>, Arc<Svid>)>,
}

impl Chosen<'_> {
    fn digest(&self) -> Digest {
        let parts = self.secrets.iter().flat_map(|(name, _, digest)| [Digest::of(name.as_bytes()), *digest]);
        let all: Vec<u8> = parts.flat_map(|digest| digest.0).collect();
        Digest::of(&all)
    }

    fn render(&self, version: &Digest, nonce: u64) -> Zeroizing<Vec<u8>> {
        let secrets: Vec<(&str, Secret<'_>)> =
            self.secrets.iter().map(|(name, secret, _)| (name.as_str(), *secret)).collect();
        sds::answer(version, nonce, &secrets)
    }
}

fn choose<'a>(view: &'a View, names: &[String]) -> Result<Chosen<'a>, End> {
    let ids = || view.svids.iter().map(|(entry, _)| entry.workload.spiffe.to_string());
    let domains = || view.trusts.keys().map(|domain| format!("spiffe://{domain}"));
    let all: Vec<String> = if names.is_empty() { ids().chain(domains()).collect() } else { names.to_vec() };
    let mut chosen = Chosen::default();
    let mut weight = 0_usize;
    for name in all {
        let wanted = match name.as_str() {
            "default" => ids().next().unwrap_or_default(),
            "ROOTCA" => view
                .svids
                .first()
                .map(|(e, _)| format!("spiffe://{}", e.workload.spiffe.trust_domain()))
                .unwrap_or_default(),
            plain => plain.to_owned(),
        };
        let own = view.svids.iter().find(|(entry, _)| entry.workload.spiffe.as_str() == wanted);
        let trust = wanted.strip_prefix("spiffe://").and_then(|domain| view.trusts.get(domain));
        let (secret, digest) = match (own, trust) {
            (Some(own), _) => {
                chosen.keys.push(own);
                (Secret::Certificate { chain: &own.1.chain, key: &own.1.key }, own.1.fingerprint)
            }
            (None, Some(trust)) => (Secret::Trust { anchors: &trust.anchors, lists: &trust.lists }, trust.digest),
            (None, None) => return Err(not_yours(view, &name, ids().chain(domains()).collect())),
        };
        weight = weight.saturating_add(secret.weight()).saturating_add(name.len());
        if weight > LARGEST_ANSWER {
            let text =
                format!("the secrets take more than {LARGEST_ANSWER} bytes in one answer; ask for fewer at once");
            return Err(End::new(Code::ResourceExhausted, TOO_MUCH, text));
        }
        chosen.secrets.push((name, secret, digest));
    }
    Ok(chosen)
}

fn not_yours(view: &View, name: &str, may: Vec<String>) -> End {
    let text = match view.withheld.iter().find(|(id, _)| id == name) {
        Some((id, why)) => format!("{id} is withheld: {why}"),
        None => format!("{name:?} is no secret of {}; it may have {}", view.caller, may.join(", ")),
    };
    End::new(Code::PermissionDenied, NOT_YOURS, text)
}
