//! `keyward workload`.

use clap::Subcommand;

use super::args::Output;
use super::console::{Cell, Exit, Tone, relative};
use super::{Done, Run};
use crate::shell::http::Workload as View;

#[derive(Debug, Subcommand)]
pub(super) enum Workload {
    /// Which programs get SPIFFE IDs, who asks for them, and why somebody gets nothing
    #[command(after_help = "\
Examples:
  keyward workload status
  keyward workload status -o json

A workload gets nothing while its path is closed: keyward gate status says why.
Exits with 0 if everything that is wanted is there, 3 if a workload cannot get its certificate.")]
    Status,
}

impl Run {
    pub(super) fn workload_status(&self) -> Done {
        let daemon = self.daemon()?;
        let workloads: Vec<View> = daemon.get("/v1/workloads")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&workloads)?,
            Output::Name => workloads.iter().for_each(|w| self.console.out(&w.spiffe)),
            Output::Table if workloads.is_empty() => {
                self.console.note("no workloads: add [workload_api] and a [[workload]] to the configuration");
            }
            Output::Table => {
                let heads = ["SPIFFE ID", "STATE", "CALLERS", "ENDS", "RENEWED"];
                self.console.table(&heads, &workloads.iter().map(row).collect::<Vec<_>>());
                for workload in &workloads {
                    for why in workload.withheld.iter().chain(&workload.problem) {
                        self.console.out(format!("{}: {}", workload.spiffe, self.console.paint(why, Tone::Warn)));
                    }
                }
            }
        }
        Ok(if workloads.iter().any(|w| w.problem.is_some()) { Exit::Warning } else { Exit::Ok })
    }
}

fn row(workload: &View) -> Vec<Cell> {
    let (word, tone) = match (&workload.withheld, &workload.certificate) {
        (Some(_), _) => ("withheld", Tone::Bad),
        (None, Some(_)) => ("given", Tone::Good),
        (None, None) if workload.callers > 0 => ("waiting", Tone::Warn),
        (None, None) => ("unused", Tone::Plain),
    };
    let time = |pick: fn(&crate::shell::http::WorkloadCertificate) -> &str| {
        workload.certificate.as_ref().map_or_else(|| "-".to_owned(), |c| relative(pick(c)))
    };
    vec![
        Cell(workload.spiffe.clone(), Tone::Strong),
        Cell(word.to_owned(), tone),
        workload.callers.to_string().into(),
        time(|c| &c.not_after).into(),
        time(|c| &c.renew_at).into(),
    ]
}
