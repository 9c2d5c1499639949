//! `keyward audit …`: one file for each command.

pub(super) mod args;
mod query;
mod show;
mod source;
mod stats;
mod tail;

use self::args::Audit;
use super::{Done, Run};

impl Run {
    pub(super) fn audit(&self, command: &Audit) -> Done {
        match command {
            Audit::Query(query) => self.audit_query(query),
            Audit::Show(show) => self.audit_show(show),
            Audit::Tail(tail) => self.audit_tail(tail),
            Audit::Stats(stats) => self.audit_stats(stats),
        }
    }
}
