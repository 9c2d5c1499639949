//! A guardian that stood still: suspended with its machine, stopped by a signal, or starved.
//!
//! ```text
//! turning ──nothing for longer than a verdict lasts──▶ closed (KW4008, by itself) ──▶ wakes: forgets what it saw,
//!         ◀──everything was looked at again, and stayed good for long enough──────────  closes, tells, looks anew
//! ```
//! The clock that counts goes on in a suspend; the timers of the runtime do not, and know nothing of it.

use core::time::Duration;

use crate::domain::audit::{Target, TargetKind};
use crate::domain::gate::CLOCK;
use crate::domain::json::Json;
use crate::domain::state::LatchOn;
use crate::domain::time::{Boottime, Timestamp, human_span};
use crate::engine::agenda::Agenda;
use crate::engine::{Desk, EVALUATION_DEADLINE, Engine};
use crate::ports::{Batch, Notice, Urgency};

/// The code of a guardian that stood still.
const STOOD_STILL: &str = "KW4090";

impl Engine {
    /// For how long no verdict was computed, if that is longer than one lasts.
    pub(super) fn stood_still(&self, boot: Boottime) -> Option<Duration> {
        let desk = self.read();
        let span = boot.since(desk.evaluated?);
        (span > EVALUATION_DEADLINE && !desk.estate.paths.is_empty()).then_some(span)
    }

    /// Whatever was seen may be different by now: nothing opens before everything was looked at again.
    pub(super) async fn wake_up(&self, span: Duration, agenda: &mut Agenda, now: Timestamp) {
        self.write().forget_seen(self.ports.clock.boottime());
        self.evaluate(None).await;
        self.scan(agenda, now);
        let text = format!(
            "nothing was evaluated for {}: the guardian was stopped, suspended or starved; its gates were closed, and open when everything was looked at again",
            human_span(span)
        );
        let (about, urgent) = ("keyward".to_owned(), Urgency::Routine);
        self.ports.notifier.notify(Notice { about, owner: None, code: STOOD_STILL, text, urgent });
        let mut draft = self.draft("daemon.standstill", STOOD_STILL, Target::new(TargetKind::Daemon, "keyward"));
        draft.facts = vec![("seconds", Json::show(&span.as_secs()))];
        // The closings, which tell of it too, wait until they can be written; this says only why.
        drop(self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await);
    }
}

impl Desk {
    /// What was seen up to now says nothing any more, and neither does a look that is under way.
    pub(super) fn forget_seen(&mut self, boot: Boottime) {
        self.sightings.clear();
        self.forgotten = Some(boot);
    }

    /// Whether what a look saw that began then still says something.
    pub(super) fn counts(&self, began: Boottime) -> bool {
        self.forgotten.is_none_or(|at| began >= at)
    }

    /// The paths that wait for a person because the clock stepped.
    pub(super) fn latched_by_clock(&self) -> Vec<LatchOn> {
        let of_clock = self.state.latches.iter().filter(|(_, latch)| *latch.code == *CLOCK);
        of_clock.map(|(on, _)| on.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::inventory::Estate;
    use crate::sim::clock::run;
    use crate::sim::world::World;

    #[test]
    fn what_a_look_saw_that_began_before_a_standstill_is_over_says_nothing() {
        let (start, estate) = (Timestamp::from_unix(1_800_000_000), Estate::default());
        let world = World::new(1, start, estate.clone());
        let engine = run(&world.clock, Engine::start(world.ports(), Arc::new(estate))).unwrap().unwrap();
        world.clock.pass(Duration::from_secs(60));
        let woken = engine.ports.clock.boottime();
        let mut desk = engine.write();
        desk.forget_seen(woken);
        assert!(desk.counts(woken) && !desk.counts(Boottime::ZERO));
    }
}
