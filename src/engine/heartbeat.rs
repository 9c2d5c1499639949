//! The heartbeat: an entry every five minutes, so that a log whose end was cut off shows by its age.

use core::time::Duration;

use crate::domain::audit::{Target, TargetKind};
use crate::domain::json::Json;
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::engine::agenda::{Agenda, Task};
use crate::ports::Batch;

/// However an estate was made, the loop is not kept busy by its own pulse.
const SHORTEST: Duration = Duration::from_secs(1);

impl Engine {
    /// When the next one is due.
    pub(super) fn plan_heartbeat(&self, agenda: &mut Agenda, now: Timestamp) {
        let every = self.read().estate.heartbeat.max(SHORTEST);
        agenda.set(Task::Heartbeat, now.plus(every));
    }

    /// Writes one. Whether that works decides nothing here: a store that fails closes the gates by itself.
    pub(super) async fn heartbeat(&self, agenda: &mut Agenda, now: Timestamp) {
        self.plan_heartbeat(agenda, now);
        let mut draft = self.draft("audit.heartbeat", "KW6032", Target::new(TargetKind::Daemon, "keyward"));
        {
            let desk = self.read();
            let open = desk.verdicts.values().filter(|v| v.is_open()).count();
            draft.facts = vec![
                ("gates_open", Json::show(&open)),
                ("gates_closed", Json::show(&desk.estate.paths.len().saturating_sub(open))),
                ("in_flight", Json::show(&desk.state.attempts.len())),
                ("started", Json::show(&desk.started)),
                ("clock_fault", Json::opt(desk.clock.fault().map(|f| Json::str(f.to_owned())))),
            ];
        }
        drop(self.commit(Batch { changes: Vec::new(), entries: vec![draft] }).await);
    }
}
