//! Keyward as a witness of other logs: inside the daemon, or as a small process of its own.
//!
//! ```text
//! configuration ─► key, what was seen last ─► listener ─► ready ─► answers ─► drain ─► end
//! ```
//! A fork that is seen is no secret: people are told, and the daemon writes it into its own log.

use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::domain::audit::{Draft, Target, TargetKind, bounded_text};
use crate::domain::id::{EntryId, Ulid};
use crate::domain::json::Json;
use crate::domain::time::{Boottime, MINUTE};
use crate::domain::witness::Refusal;
use crate::ports::{Batch, Clock, Cosigner, Notice, Ports, Urgency};
use crate::shell::config::{self, Overrides, Witness};
use crate::shell::daemon::{runtime, say, tell_systemd};
use crate::shell::http::{WITNESS_PATH, WitnessDoor, serve_witness};
use crate::shell::wire;

/// Two roots for one size.
pub const FORKED: &str = "KW6420";
/// A signed checkpoint that is not shown to continue the one before.
pub const INCONSISTENT: &str = "KW6421";
/// A log that misbehaves is told of this often at most: it could misbehave all day.
const TELL_EVERY: Duration = MINUTE.saturating_mul(10);
/// Alarms that may wait to be written down.
const MOST_ALARMS: usize = 16;

/// A refusal that says something about the log, not only about the request.
fn alarming(why: &Refusal) -> Option<(&'static str, &str)> {
    match why {
        Refusal::Forked { origin, .. } => Some((FORKED, origin)),
        Refusal::Inconsistent { origin, .. } => Some((INCONSISTENT, origin)),
        Refusal::Malformed(_)
        | Refusal::UnknownOrigin(_)
        | Refusal::Unsigned(_)
        | Refusal::OldAboveNew { .. }
        | Refusal::Stale { .. }
        | Refusal::Busy(_)
        | Refusal::Unavailable(_) => None,
    }
}

/// Which alarms are told on: each log's, once in a while.
#[derive(Debug, Default)]
struct Told(Mutex<BTreeMap<(String, &'static str), Boottime>>);

impl Told {
    fn is_news(&self, code: &'static str, origin: &str, now: Boottime) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // As many keys as there are logs, twice.
        let last = told.entry((origin.to_owned(), code));
        match last {
            std::collections::btree_map::Entry::Occupied(mut at) if now.since(*at.get()) >= TELL_EVERY => {
                at.insert(now);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(now);
                true
            }
        }
    }
}

/// The part of a daemon that witnesses other logs: bound on return, answers until `stop`.
///
/// # Errors
/// What cannot be read or bound, and how to mend it.
pub async fn start(
    settings: &Witness,
    state_dir: &Path,
    ports: &Ports,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let cosigner = wire::cosigner(settings, state_dir, ports.clock.clone()).map_err(|e| e.to_string())?;
    let listener = bind(settings, &*cosigner).await?;
    let (alarms, mut waiting) = mpsc::channel::<(Refusal, SocketAddr)>(MOST_ALARMS);
    let (told, clock) = (Told::default(), ports.clock.clone());
    let refused = Arc::new(move |why: &Refusal, peer: SocketAddr| {
        tracing::debug!(%peer, %why, "a checkpoint was not cosigned");
        if alarming(why).is_some_and(|(code, origin)| told.is_news(code, origin, clock.boottime()))
            && alarms.try_send((why.clone(), peer)).is_err()
        {
            tracing::warn!(%peer, %why, "too many alarms at once: this one is only here");
        }
    });
    let ports = ports.clone();
    Ok(async move {
        let serving = serve_witness(WitnessDoor { cosigner, refused }, listener, stop);
        let recording = async {
            // Ends when the door with its sender is gone.
            while let Some((why, peer)) = waiting.recv().await {
                record(&ports, &why, peer).await;
            }
        };
        futures_util::join!(serving, recording);
    })
}

async fn bind(settings: &Witness, cosigner: &dyn Cosigner) -> Result<TcpListener, String> {
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        format!("the witness cannot listen on {address}: {e}; see who does: ss -ltnp 'sport = :{}'", address.port())
    })?;
    tracing::info!(at = %address, path = WITNESS_PATH, key = cosigner.key(), logs = settings.logs.len(), "witness ready");
    Ok(listener)
}

/// People are told whatever becomes of the entry.
async fn record(ports: &Ports, why: &Refusal, peer: SocketAddr) {
    let Some((code, origin)) = alarming(why) else { return };
    let text = format!("{why}. Compare with its operator and its other witnesses which tree is the true one");
    let about = format!("witness/{origin}");
    ports.notifier.notify(Notice { about, owner: None, code, text, urgent: Urgency::Act });
    let mut random = [0; 10];
    ports.entropy.fill(&mut random);
    let now = ports.clock.now();
    let target = Target::new(TargetKind::Daemon, "witness");
    let mut draft = Draft::new(EntryId(Ulid::new(now, random)), now, "witness.refuse", code, target);
    draft.facts = facts(why);
    draft.facts.push(("peer", Json::show(&peer)));
    let batch = Batch { entries: vec![draft], ..Batch::default() };
    if let Err(error) = ports.store.commit(batch).await {
        tracing::error!(%error, %why, "what a log did could not be written down");
    }
}

fn facts(why: &Refusal) -> Vec<(&'static str, Json)> {
    let mut facts = vec![("text", Json::str(bounded_text(&why.to_string())))];
    match why {
        Refusal::Forked { origin, size, seen, shown } => facts.extend([
            ("origin", Json::str(origin.clone())),
            ("root_cosigned", Json::show(seen)),
            ("root_shown", Json::show(shown)),
            ("size", Json::show(size)),
        ]),
        Refusal::Inconsistent { origin, old, new, .. } => facts.extend([
            ("origin", Json::str(origin.clone())),
            ("size_cosigned", Json::show(old)),
            ("size_shown", Json::show(new)),
        ]),
        Refusal::Malformed(_)
        | Refusal::UnknownOrigin(_)
        | Refusal::Unsigned(_)
        | Refusal::OldAboveNew { .. }
        | Refusal::Stale { .. }
        | Refusal::Busy(_)
        | Refusal::Unavailable(_) => {}
    }
    facts
}

/// Runs a witness alone until it is told to stop; the exit code is 64 for a bad configuration and 1 for any other failure.
#[must_use]
pub fn run(path: &Path) -> ExitCode {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_target(false).init();
    let settings = match config::load(path, Overrides::default()) {
        Ok(settings) => settings,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(64);
        }
    };
    let Some(witness) = settings.witness else {
        say(&format!("{} has no [witness]\nhint: docs/witness.md has one to copy", path.display()));
        return ExitCode::from(64);
    };
    let done = runtime().map_err(|e| e.to_string());
    match done.and_then(|rt| rt.block_on(alone(&witness, &settings.state_dir, wire::clock()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the witness stops: {error}\nhint: docs/witness.md"));
            ExitCode::FAILURE
        }
    }
}

async fn alone(settings: &Witness, state_dir: &Path, clock: Arc<dyn Clock>) -> Result<(), String> {
    let cosigner = wire::cosigner(settings, state_dir, clock.clone()).map_err(|e| e.to_string())?;
    let listener = bind(settings, &*cosigner).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let told = Told::default();
    let refused = Arc::new(move |why: &Refusal, peer: SocketAddr| match alarming(why) {
        Some((code, origin)) if told.is_news(code, origin, clock.boottime()) => {
            tracing::warn!(%peer, code, %why, "a log misbehaves");
        }
        _ => tracing::debug!(%peer, %why, "a checkpoint was not cosigned"),
    });
    tell_systemd(&[NotifyState::Ready]);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell_systemd(&[NotifyState::Stopping]);
    };
    serve_witness(WitnessDoor { cosigner, refused }, listener, stop).await;
    Ok(())
}
