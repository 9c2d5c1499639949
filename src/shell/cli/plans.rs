//! What is done at once unless it is only planned: reload, rollover, accepting the clock.
//!
//! Each plan is made from what the daemon and the file say now, by the same rules as the deed.

use std::collections::BTreeSet;

use super::args::Planned;
use super::cert::segment;
use super::console::{Exit, Failure};
use super::{Done, Run};
use crate::shell::http::model::{Credential, Status};

impl Run {
    pub(super) fn reload(&self, planned: &Planned) -> Done {
        if !planned.plan {
            return self.start("/v1/reload");
        }
        let settings = self.settings()?;
        let daemon = self.daemon()?;
        let now: Vec<Credential> = daemon.get("/v1/credentials")?;
        self.banner(&daemon);
        // Files that match a watch are found by looking; a reload neither adds nor removes them.
        let watched = |id: &str| settings.estate.watches.keys().any(|w| id.starts_with(&format!("{w}.")));
        let before: BTreeSet<&str> = now.iter().map(|c| c.id.as_str()).filter(|id| !watched(id)).collect();
        let after: BTreeSet<&str> = settings.estate.credentials.keys().map(|id| id.as_str()).collect();
        let mut said = 0_usize;
        for (verb, ids) in [("adds", after.difference(&before)), ("removes", before.difference(&after))] {
            for id in ids {
                said = said.saturating_add(1);
                self.console.out(format!("{verb:<8} {id}"));
            }
        }
        if said == 0 {
            self.console.out("adds and removes nothing");
        }
        self.console.out("issues nothing by itself; new credentials are ordered at their next turn");
        self.console.out("takes effect only if issuers, solvers, listeners and directories are unchanged");
        self.console.note("nothing was done: this is only the plan");
        Ok(Exit::Ok)
    }

    pub(super) fn rollover(&self, issuer: &str, planned: &Planned) -> Done {
        if !planned.plan {
            return self.start(&format!("/v1/issuers/{}/rollover", segment(issuer)));
        }
        let settings = self.settings()?;
        let Some(known) = settings.issuers.iter().find(|i| i.id.as_str() == issuer) else {
            let ids: Vec<&str> = settings.issuers.iter().map(|i| i.id.as_str()).collect();
            let hint = format!("configured are: {}", ids.join(", "));
            return Err(Failure::new(Exit::Failed, format!("no issuer {issuer} is configured"), hint));
        };
        let accounts = settings.state_dir.join("accounts");
        self.console.out("records  the intent, with your name");
        self.console
            .out(format!("makes    a new P-256 key at {}", accounts.join(format!("{issuer}.next-key")).display()));
        self.console.out(format!("sends    keyChange to the CA of {}", known.directory));
        self.console.out(format!("moves    the new key to {}", accounts.join(format!("{issuer}.key")).display()));
        self.console.out("records  the outcome");
        self.console.note("nothing was done: this is only the plan");
        Ok(Exit::Ok)
    }

    pub(super) fn accept_clock(&self, planned: &Planned) -> Done {
        if !planned.plan {
            return self.start("/v1/clock/accept");
        }
        let daemon = self.daemon()?;
        let status: Status = daemon.get("/v1/status")?;
        self.banner(&daemon);
        match &status.clock_fault {
            Some(fault) => self.console.out(format!("accepts  {} as the true time, although {fault}", status.now)),
            None => self.console.out(format!("accepts  {} as the true time; nothing doubts it now", status.now)),
        }
        self.console.out("records  that you vouched for it");
        self.console.out("then     plans all renewals again and evaluates all approval paths");
        self.console.note("nothing was done: this is only the plan");
        Ok(Exit::Ok)
    }
}
