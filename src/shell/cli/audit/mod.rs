//! `keyward audit …`: one file for each command.

pub(super) mod args;
mod export;
mod forget;
mod freeze;
mod progress;
mod prove;
mod query;
mod rotate;
mod show;
mod source;
mod stats;
mod tail;
mod trust;
mod verify;

use self::args::Audit;
use super::{Done, Run};

impl Run {
    pub(super) fn audit(&self, command: &Audit) -> Done {
        match command {
            Audit::Query(query) => self.audit_query(query),
            Audit::Show(show) => self.audit_show(show),
            Audit::Tail(tail) => self.audit_tail(tail),
            Audit::Stats(stats) => self.audit_stats(stats),
            Audit::Verify(verify) => self.audit_verify(verify),
            Audit::Prove(prove) => self.audit_prove(prove),
            Audit::CheckProof(check) => self.audit_check_proof(check),
            Audit::Export(export) => self.audit_export(export),
            Audit::Freeze(told) => self.audit_freeze(told),
            Audit::Forget(told) => self.audit_forget(told),
            Audit::Key => self.audit_key(),
            Audit::RotateKey(told) => self.audit_rotate_key(told),
        }
    }
}
