//! The board at the gates: what is told there, for everybody to read without waiting for whoever writes to the desk.
//!
//! Whoever writes to the desk leaves it through [`Writing`], which hangs out what changed before the desk is free again: no
//! writer can forget to. How long something holds is not decided when it is hung out but when it is read, by the clocks of
//! that moment.

use core::ops::{Deref, DerefMut};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLockWriteGuard};

use arc_swap::ArcSwap;

use crate::domain::gate::{CLOCK, FROZEN, Reason, STALE, UNKNOWN_PATH, Verdict};
use crate::domain::id::PathId;
use crate::domain::inventory::{ApprovalPath, Estate};
use crate::domain::snapshot::FreezeOver;
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
    frozen: Arc<BTreeMap<PathId, FreezeOver>>,
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
            frozen: desk.frozen_paths.clone(),
            seal: desk.sealed.clone(),
        }
    }

    /// Whether the desk says the same. What is shared was replaced if it was written to, since the board holds it too.
    fn is_of(&self, desk: &Desk) -> bool {
        Arc::ptr_eq(&self.estate, &desk.estate)
            && Arc::ptr_eq(&self.verdicts, &desk.verdicts)
            && Arc::ptr_eq(&self.since, &desk.since)
            && Arc::ptr_eq(&self.holds, &desk.holds)
            && Arc::ptr_eq(&self.frozen, &desk.frozen_paths)
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
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The verdict as it holds now.
    pub verdict: &'a Verdict,
    /// The same, if it is the one that the last evaluation published and nothing had to be added to it.
    pub published: Option<&'a Arc<Verdict>>,
    /// Since when the path is as it is.
    pub since: Option<Timestamp>,
    /// The path as it is configured, if it is.
    pub path: Option<&'a ApprovalPath>,
}

impl Engine {
    /// What is told about a path right now. Waits for nobody.
    pub fn at_gate<T>(&self, path: &PathId, tell: impl FnOnce(&Told<'_>) -> T) -> T {
        // The board first: a verdict that is evaluated while we read must not come from a time after ours.
        let board = self.board.load();
        let (now, boot) = (self.ports.clock.now(), self.ports.clock.boottime());
        let configured = board.estate.paths.get(path);
        let closed = |code, text, reopens| {
            let reason = Reason { code, credential: None, text, reopens };
            (Cow::Owned(Arc::new(Verdict::closed(path, reason, now, boot))), Vec::new())
        };
        let (verdict, mut more) = match (configured, &board.seal, board.verdicts.get(path)) {
            (Some(_), None, Some(found)) => (Cow::Borrowed(found), found.lapsed(now, boot, EVALUATION_DEADLINE)),
            (Some(_), None, None) => {
                closed(STALE, format!("{path} was not evaluated yet"), "the daemon completes an evaluation")
            }
            (Some(_), Some(seal), _) => (Cow::Owned(Arc::new(self.sealed_verdict(path, seal))), Vec::new()),
            (None, _, _) => closed(UNKNOWN_PATH, format!("{path} is not configured"), "the configuration names it"),
        };
        // The loop says so too when it looks next; nobody is let through meanwhile.
        if board.clock.doubts(now, boot) && verdict.is_open() {
            let text = "the wall clock is not where the time since boot says it should be".to_owned();
            more.push(Reason { code: CLOCK, credential: None, text, reopens: "a person says that the time is right" });
        }
        // Almost always there is none.
        more.extend(board.holds.get(path).filter(|hold| hold.is_on(boot)).map(|hold| hold.reason(path)));
        // A freeze closes in the moment in which it is asked for; the evaluation that follows says so for itself.
        let says = |verdict: &Verdict| verdict.reasons.iter().any(|reason| reason.code == FROZEN);
        more.extend(board.frozen.get(path).filter(|over| over.holds(now) && !says(&verdict)).map(FreezeOver::reason));
        let verdict = if more.is_empty() { verdict } else { Cow::Owned(Arc::new(verdict.but_for(more))) };
        let published = match &verdict {
            Cow::Borrowed(published) => Some(*published),
            Cow::Owned(_) => None,
        };
        let since = board.since.get(path).copied();
        tell(&Told { verdict: &verdict, published, since, path: configured.map(|path| &**path) })
    }

    /// The board as it hangs now.
    pub(super) fn board(&self) -> Arc<Board> {
        self.board.load_full()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::domain::freeze::{Scope, WhenFrozen};
    use crate::domain::gate::{HELD, MISSING};
    use crate::domain::guard::Guard;
    use crate::domain::id::CredentialId;
    use crate::domain::inventory::Leases;
    use crate::domain::time::HOUR;
    use crate::engine::freeze::WantedFreeze;
    use crate::sim::world::World;

    /// An engine with a path on a credential that is not configured, which has lived for a second.
    fn engine() -> (World, Engine, PathId) {
        engine_of(WhenFrozen::default())
    }

    fn engine_of(when_frozen: WhenFrozen) -> (World, Engine, PathId) {
        let id = PathId::parse("approve").unwrap();
        let path = ApprovalPath {
            id: id.clone(),
            needs: BTreeSet::from([CredentialId::parse("peer").unwrap()]),
            margin: HOUR,
            depends_on: BTreeSet::new(),
            key_limit: None,
            issuer_silence: None,
            guard: Guard::default(),
            leases: Leases::default(),
            misses: 3,
            when_frozen,
        };
        let mut estate = Estate::default();
        estate.paths.insert(id.clone(), Arc::new(path));
        let world = World::new(1, Timestamp::from_unix(1_800_000_000), estate.clone());
        let started = crate::sim::clock::run(&world.clock, Engine::start(world.ports(), Arc::new(estate)));
        (world, started.unwrap().unwrap(), id)
    }

    fn codes(engine: &Engine, path: &PathId) -> Vec<&'static str> {
        engine.at_gate(path, |told| told.verdict.reasons.iter().map(|reason| reason.code).collect())
    }

    /// Open, for whoever believes the desk.
    fn open(engine: &Engine, path: &PathId) -> Arc<Verdict> {
        let (now, boot) = (engine.ports.clock.now(), engine.ports.clock.boottime());
        let reason = Reason { code: MISSING, credential: None, text: String::new(), reopens: "" };
        let closed = Verdict::closed(path, reason, now, boot);
        Arc::new(Verdict { reasons: Vec::new(), until: now.plus(HOUR), ..closed })
    }

    #[test]
    fn nobody_at_a_gate_waits_for_whoever_writes_to_the_desk() {
        let (_world, engine, path) = engine();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let desk = engine.write();
            scope.spawn(|| {
                let left = (engine.gate(&path), engine.gates(), engine.estate(), engine.distrusts_clock());
                drop(tell.send(left));
            });
            let left = told.recv_timeout(Duration::from_secs(10));
            drop(desk);
            assert!(left.is_ok(), "it waits");
        });
    }

    #[test]
    fn what_was_written_hangs_out_once_the_desk_is_left_and_the_same_stays_the_same() {
        let (_world, engine, path) = engine();
        assert_eq!(codes(&engine, &path), [STALE]);
        let verdict = open(&engine, &path);
        {
            let mut desk = engine.write();
            Arc::make_mut(&mut desk.verdicts).insert(path.clone(), verdict.clone());
            assert_eq!(codes(&engine, &path), [STALE], "not before");
        }
        let is_it = |told: &Told<'_>| told.published.is_some_and(|published| Arc::ptr_eq(published, &verdict));
        assert!(engine.at_gate(&path, is_it));
        let before = engine.board();
        engine.write().idle_turns = 7;
        assert!(Arc::ptr_eq(&before, &engine.board()), "what does not hang there changes nothing");
        Arc::make_mut(&mut engine.write().verdicts).clear();
        assert_eq!(codes(&engine, &path), [STALE]);
    }

    #[test]
    fn a_freeze_closes_its_path_in_the_moment_in_which_it_is_asked_for_and_no_longer_than_it_lasts() {
        for (when_frozen, closed) in [(WhenFrozen::Open, &[][..]), (WhenFrozen::Close, &[FROZEN])] {
            let (world, engine, path) = engine_of(when_frozen);
            let verdict = open(&engine, &path);
            Arc::make_mut(&mut engine.write().verdicts).insert(path.clone(), verdict);
            let until = engine.ports.clock.now().plus(Duration::from_secs(5));
            let wanted = WantedFreeze { scope: Scope::Path(path.clone()), reason: "drill".to_owned(), until };
            // Nobody evaluates anything, and nobody writes anything down.
            engine.begin_freeze(&wanted, "ops").unwrap();
            assert_eq!(codes(&engine, &path), closed);
            // What is opened by an evaluation that did not know of it stays closed all the same.
            let verdict = open(&engine, &path);
            Arc::make_mut(&mut engine.write().verdicts).insert(path.clone(), verdict);
            assert_eq!(codes(&engine, &path), closed);
            world.clock.pass(Duration::from_secs(5));
            assert_eq!(codes(&engine, &path), [""; 0]);
        }
    }

    #[test]
    fn a_published_verdict_is_told_only_while_it_holds() {
        let (world, engine, path) = engine();
        let verdict = open(&engine, &path);
        Arc::make_mut(&mut engine.write().verdicts).insert(path.clone(), verdict);
        let published = || engine.at_gate(&path, |told| told.published.is_some());
        assert!(published() && codes(&engine, &path).is_empty());
        engine.hold(&path, Duration::from_secs(5), "ops").unwrap();
        assert!(!published());
        assert_eq!(codes(&engine, &path), [HELD]);
        world.clock.pass(Duration::from_secs(5));
        assert!(published(), "the hold has ended");
        world.clock.pass(EVALUATION_DEADLINE);
        assert!(!published());
        assert_eq!(codes(&engine, &path), [STALE]);
        assert_eq!(codes(&engine, &PathId::parse("nobody").unwrap()), [UNKNOWN_PATH]);
    }
}
