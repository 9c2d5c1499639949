//! Holding a path closed: an override that only removes authority, and that ends by itself.
//!
//! A hold lies over the verdict and is no part of it: whatever the path stands on is judged as before, and nothing that
//! the verdict says can end a hold. It begins in the very moment in which it is asked for, waits for no disk and for no
//! loop, and is recorded afterwards (class B). It is kept in memory: after a restart the path is judged as any other.

use core::time::Duration;
use std::sync::Arc;

use crate::domain::audit::{Draft, Target, TargetKind};
use crate::domain::gate::{HELD, Reason};
use crate::domain::id::PathId;
use crate::domain::json::Json;
use crate::domain::time::{Boottime, Timestamp, human_span};
use crate::engine::inbox::Command;
use crate::engine::{Engine, Seal};
use crate::ports::{Batch, Notice, StoreError, Urgency};

/// A hold ends by itself after this at the latest. A proxy's reaction to one answer is seen within a second, and to a slow
/// gate within its timeouts; five minutes leave time for a person to look.
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// A path that is held closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// By the clock that does not step.
    until: Boottime,
    ends: Timestamp,
    by: Arc<str>,
}

impl Hold {
    /// Whether it has not ended yet.
    pub(super) fn is_on(&self, boot: Boottime) -> bool {
        boot < self.until
    }

    /// Why its path is closed.
    pub(super) fn reason(&self, path: &PathId) -> Reason {
        let text = format!("{path} is held closed until {} (asked for by {})", self.ends, self.by);
        let reopens = "the hold ends, by itself or by `keyward gate hold PATH --release`";
        Reason { code: HELD, credential: None, text, reopens }
    }
}

/// Why a path is not held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// There is no such path.
    #[error("no approval path {0} is configured")]
    UnknownPath(PathId),
    /// Longer than may be.
    #[error("a path is held for 1 s to {} at a time", human_span(LONGEST_HOLD))]
    TooLong,
    /// Every path is closed anyway.
    #[error("the guardian is sealed, so every path is closed: {0}")]
    Sealed(Seal),
}

impl Engine {
    /// Closes a path at once, for `span` from now on. A hold that is there already is only ever made longer. Returns when it
    /// ends.
    ///
    /// # Errors
    /// [`NotHeld`] says why nothing was done.
    pub fn hold(&self, path: &PathId, span: Duration, by: &str) -> Result<Timestamp, NotHeld> {
        if span.is_zero() || span > LONGEST_HOLD {
            return Err(NotHeld::TooLong);
        }
        if let Some(seal) = self.seal() {
            return Err(NotHeld::Sealed(seal));
        }
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let new = Hold { until: boot.plus(span), ends: now.plus(span), by: Arc::from(by) };
        let ends = {
            let mut desk = self.write();
            if !desk.estate.paths.contains_key(path) {
                return Err(NotHeld::UnknownPath(path.clone()));
            }
            // Paths are bounded by the configuration; what left it goes with it.
            let estate = desk.estate.clone();
            let holds = Arc::make_mut(&mut desk.holds);
            holds.retain(|id, hold| estate.paths.contains_key(id) && hold.is_on(boot));
            let kept = holds.entry(path.clone()).or_insert_with(|| new.clone());
            if new.until > kept.until {
                *kept = new;
            }
            kept.ends
        };
        let mut draft = self.draft("gate.hold", "KW4402", Target::new(TargetKind::Path, path));
        draft.by(&self.person(by));
        draft.facts = vec![("until", Json::show(&ends))];
        // Recorded by the loop; where that has no time, the entry waits with the others that closed something.
        if self.medium_lost().is_some() || self.command(Command::Record(Box::new(draft.clone()))).is_err() {
            self.spool(vec![draft]);
        }
        Ok(ends)
    }

    /// Records what was done already.
    pub(super) async fn record_done(&self, draft: Draft) {
        if self.commit(Batch { changes: Vec::new(), entries: vec![draft.clone()] }).await.is_err() {
            self.spool(vec![draft]);
            self.evaluate(None).await;
        }
    }

    /// Ends a hold before its time: that adds authority, so it is recorded first. The path is then what its verdict says.
    pub(super) async fn release(&self, path: &PathId, by: &str) -> Result<(), StoreError> {
        if !self.read().holds.contains_key(path) {
            return Ok(());
        }
        let mut draft = self.draft("gate.release", "KW4403", Target::new(TargetKind::Path, path));
        draft.by(&self.person(by));
        let path = path.clone();
        self.commit_with(Batch { changes: Vec::new(), entries: vec![draft] }, move |desk| {
            Arc::make_mut(&mut desk.holds).remove(&path);
        })
        .await
    }

    /// Records that a person takes the gate's socket away for a while: before it is done.
    pub(super) async fn record_interruption(&self, span: Duration, by: &str) -> Result<(), StoreError> {
        let mut draft = self.draft("gate.interrupt", "KW4404", Target::new(TargetKind::Daemon, "keyward"));
        draft.by(&self.person(by));
        draft.facts = vec![("until", Json::show(&self.ports.clock.now().plus(span)))];
        self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await
    }

    /// Tells people what a door of the shell found out.
    pub fn tell(&self, about: &str, code: &'static str, urgent: Urgency, text: String) {
        self.ports.notifier.notify(Notice { about: about.to_owned(), owner: None, code, text, urgent });
    }
}
