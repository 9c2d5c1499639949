//! The board at the gates: what is told there, for everybody to read without waiting for whoever writes to the desk.
//!
//! Whoever writes to the desk leaves it through [`Writing`], which hangs out what changed before the desk is free again: no
//! writer can forget to. How long something holds is not decided when it is hung out but when it is read, by the clocks of
//! that moment.

use core::ops::{Deref, DerefMut};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLockWriteGuard};

use arc_swap::ArcSwap;

use crate::domain::gate::{Reason, STALE, UNKNOWN_PATH, Verdict};
use crate::domain::id::PathId;
use crate::domain::inventory::{ApprovalPath, Estate};
use crate::domain::time::Timestamp;
use crate::engine::clockwatch::ClockWatch;
use crate::engine::hold::Hold;
use crate::engine::{Desk, EVALUATION_DEADLINE, Engine, Seal};

/// What hangs out.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) estate: Arc<Estate>,
    pub(crate) clock: ClockWatch,
    verdicts: Arc<BTreeMap<PathId, Arc<Verdict>>>,
    since: Arc<BTreeMap<PathId, Timestamp>>,
    holds: Arc<BTreeMap<PathId, Hold>>,
    seal: Option<Seal>,
}

impl Board {
    pub(super) fn of(desk: &Desk) -> Self {
        Self {
            estate: desk.estate.clone(),
            clock: desk.clock.clone(),
            verdicts: desk.verdicts.clone(),
            since: desk.since.clone(),
            holds: desk.holds.clone(),
            seal: desk.sealed.clone(),
        }
    }

    /// Whether the desk says the same. What is shared was replaced if it was written to, since the board holds it too.
    fn is_of(&self, desk: &Desk) -> bool {
        Arc::ptr_eq(&self.estate, &desk.estate)
            && Arc::ptr_eq(&self.verdicts, &desk.verdicts)
            && Arc::ptr_eq(&self.since, &desk.since)
            && Arc::ptr_eq(&self.holds, &desk.holds)
            && self.clock == desk.clock
            && self.seal == desk.sealed
    }
}

/// The desk while somebody writes to it.
pub(crate) struct Writing<'a> {
    desk: RwLockWriteGuard<'a, Desk>,
    board: &'a ArcSwap<Board>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(desk: RwLockWriteGuard<'a, Desk>, board: &'a ArcSwap<Board>) -> Self {
        Self { desk, board }
    }
}

impl Deref for Writing<'_> {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // The desk is ours until this is done, so boards follow each other as its states do.
        if !self.board.load().is_of(&self.desk) {
            self.board.store(Arc::new(Board::of(&self.desk)));
        }
    }
}

/// What is told about a path at one moment.
#[derive(Clone, Debug)]
pub struct Told {
    /// The verdict as it holds now. As long as nothing changes it is the very same one.
    pub verdict: Arc<Verdict>,
    /// Since when the path is as it is.
    pub since: Option<Timestamp>,
    /// The path as it is configured, if it is.
    pub path: Option<Arc<ApprovalPath>>,
    /// Whether the verdict is the one of the last evaluation, as it was published.
    pub as_published: bool,
}

impl Engine {
    /// What is told about a path right now. Waits for nobody.
    #[must_use]
    pub fn told(&self, path: &PathId) -> Told {
        // The board first: a verdict that is evaluated while we read must not come from a time after ours.
        let board = self.board.load();
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let configured = board.estate.paths.get(path).cloned();
        let since = board.since.get(path).copied();
        let closed = |code, text, reopens| {
            let reason = Reason { code, credential: None, text, reopens };
            Arc::new(Verdict::closed(path, reason, now, boot))
        };
        let published = board.verdicts.get(path);
        let verdict = match (&configured, &board.seal, published) {
            (None, _, _) => closed(UNKNOWN_PATH, format!("{path} is not configured"), "the configuration names it"),
            (Some(_), Some(seal), _) => Arc::new(self.sealed_verdict(path, seal)),
            (Some(_), None, Some(verdict)) => verdict.clone().held(now, boot, EVALUATION_DEADLINE),
            (Some(_), None, None) => {
                closed(STALE, format!("{path} was not evaluated yet"), "the daemon completes an evaluation")
            }
        };
        // Almost always there is none.
        let hold = board.holds.get(path).filter(|hold| hold.is_on(boot));
        let verdict = hold.map_or_else(|| verdict.clone(), |hold| Arc::new(hold.over(&verdict)));
        let as_published = published.is_some_and(|published| Arc::ptr_eq(published, &verdict));
        Told { verdict, since, path: configured, as_published }
    }

    /// The board as it hangs now.
    pub(super) fn board(&self) -> Arc<Board> {
        self.board.load_full()
    }
}
