//! Who is told, when, and when the next ones are: from an asset to its owner's team, from there to the next team, and last to
//! incident command.
//!
//! ```text
//! owner ─▶ team ─▶ step, step, … ─▶ the next team ─▶ … ─▶ incident command, which is told until it is decided
//!            nobody on call, or no channel that works: the step is skipped at once
//! ```
//! Time goes by what is left, not by what was configured: a step lasts so long as it is set to and never more than a share
//! of the time until [`must_decide_by`], because "seven days left" means nothing on a certificate of six. An
//! acknowledgement keeps reminders quiet for a while and stops no clock. None of this makes anything easier: quorum and
//! scope are [`crate::domain::exception`]'s, and neither is named here.
//!
//! Refuses to know time zones' rules, addresses, and how anybody is told.

mod deadline;
mod degrade;
mod route;
mod schedule;
mod walk;

pub use deadline::{Pace, SHARE, SHORTEST_STEP, must_decide_by, step_timeout};
pub use degrade::{Backlog, Mode, Modes, TooMuch, Waiting, degradation};
pub use route::{Routes, Step, Target, Team, TeamId, Told, Way, route};
pub use schedule::{BusinessHours, Handover, Override, Schedule, ScheduleId, Zone};
pub use walk::{ACKNOWLEDGED, Place, REMIND_EVERY, Reach, Walk, walk};
