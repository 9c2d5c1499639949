//! Where the command line reads the log: asked of the daemon, or in a state directory without one.

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde::de::DeserializeOwned;

use super::args::Place;
use crate::codec::ledger::Proof;
use crate::ports::Log;
use crate::shell::audit::model::{Detail, Entries, Stats, Story};
use crate::shell::audit::{self, BAD_QUESTION, Refusal};
use crate::shell::cli::Run;
use crate::shell::cli::cert::segment;
use crate::shell::cli::client::Daemon;
use crate::shell::cli::console::{Exit, Failure, wall_clock};
use crate::shell::wire;

/// The parameters of a question.
pub(super) type Pairs = [(String, String)];

pub(in crate::shell::cli) enum Source {
    Daemon(Daemon),
    Database(Arc<dyn Log>),
}

impl Run {
    pub(in crate::shell::cli) fn source(&self, place: &Place) -> Result<Source, Failure> {
        let Some(dir) = &place.database else { return Ok(Source::Daemon(self.daemon()?)) };
        let log = wire::open_log(dir).map_err(|e| {
            let hint = "name the state directory, where keyward.db lies; be a user who may read it";
            Failure::new(Exit::Failed, e.to_string(), hint)
        })?;
        Ok(Source::Database(log))
    }

    /// In a dry run the output says so.
    pub(super) fn source_banner(&self, source: &Source) {
        if let Source::Daemon(daemon) = source {
            self.banner(daemon);
        }
    }
}

impl Source {
    pub(super) fn entries(&self, pairs: &Pairs) -> Result<Entries, Failure> {
        match self {
            Self::Daemon(daemon) => daemon.wait(self.next_entries(pairs)),
            Self::Database(_) => ready(self.next_entries(pairs)),
        }
    }

    pub(super) async fn next_entries(&self, pairs: &Pairs) -> Result<Entries, Failure> {
        match self {
            Self::Daemon(daemon) => {
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                daemon.fetch(&format!("/v1/audit/entries?{}", query.extend_pairs(pairs).finish())).await
            }
            Self::Database(log) => audit::entries(&**log, pairs, wall_clock()).await.map_err(failure),
        }
    }

    pub(super) fn detail(&self, id: &str) -> Result<Detail, Failure> {
        match self {
            Self::Daemon(daemon) => get(daemon, "entries", id, ""),
            Self::Database(log) => ready(audit::detail(&**log, id)),
        }
    }

    pub(in crate::shell::cli) fn story(&self, id: &str) -> Result<Story, Failure> {
        match self {
            Self::Daemon(daemon) => get(daemon, "entries", id, "/story"),
            Self::Database(log) => ready(audit::explain(&**log, id)),
        }
    }

    pub(super) fn proof(&self, id: &str) -> Result<Proof, Failure> {
        match self {
            Self::Daemon(daemon) => {
                let document: serde_json::Value = get(daemon, "entries", id, "/proof")?;
                let read = Proof::read(document.to_string().as_bytes());
                read.map_err(|e| Failure::new(Exit::Failed, e.text, "is the daemon of the same version?"))
            }
            Self::Database(log) => ready(audit::proof(&**log, id)),
        }
    }

    pub(super) fn statistics(&self) -> Result<Stats, Failure> {
        match self {
            Self::Daemon(daemon) => daemon.get("/v1/audit/stats"),
            Self::Database(log) => ready(audit::statistics(&**log)),
        }
    }
}

fn get<T: DeserializeOwned>(daemon: &Daemon, what: &str, id: &str, end: &str) -> Result<T, Failure> {
    daemon.get(&format!("/v1/audit/{what}/{}{end}", segment(id)))
}

/// A database in a directory is read at once: nothing is waited for.
fn ready<T, E: Into<Failure>>(future: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    let waits = || Failure::new(Exit::Failed, "the log could not be read at once", "ask the daemon");
    future.now_or_never().ok_or_else(waits)?.map_err(Into::into)
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        failure(refusal)
    }
}

fn failure(refusal: Refusal) -> Failure {
    let exit = if refusal.code == BAD_QUESTION { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, refusal.to_string(), refusal.hint)
}
