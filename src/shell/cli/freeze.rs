//! `keyward freeze`: nothing is done by itself to some of what is guarded, for a while.

use clap::{Args, Subcommand};
use hyper::body::Bytes;

use super::args::{Output, Planned};
use super::cert::segment;
use super::console::{Cell, Exit, Failure, Tone, moment, relative};
use super::{Done, Run};
use crate::shell::http::model::{Accepted, Freeze as View, Thaw, WantedFreeze};

/// Examples of `freeze`.
pub(super) const HELP: &str = "\
Examples:
  keyward freeze --scope path:approve --reason 'incident 42: examined' --until 4h
  keyward freeze --scope label:env=prod --reason 'year end' --until 2026-12-31T18:00:00Z --plan
  keyward freeze list
  keyward freeze thaw 01KDGZJ5N3W0G3C5Y7B2Q4R6T8 --reason 'incident 42 is over'

While it lasts nothing is ordered, installed or reloaded over what it is over. Looking goes on;
so does a renewal that can wait no longer, unless the configuration says otherwise.
You are named in the audit log. `keyward audit freeze` is something else.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Freeze {
    #[command(subcommand)]
    pub(super) what: Option<What>,
    /// Over what: all, path:NAME, owner:NAME, issuer:NAME or label:KEY=VALUE
    #[arg(long, default_value = "all")]
    pub(super) scope: String,
    /// Why: whoever meets the freeze reads it
    #[arg(long, value_name = "TEXT", required = true)]
    pub(super) reason: Option<String>,
    /// When it ends by itself: a time (RFC 3339), or a span from now on such as 90m, 4h, 2d
    #[arg(long, value_name = "TIME|SPAN", required = true)]
    pub(super) until: Option<String>,
    #[command(flatten)]
    pub(super) planned: Planned,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// The freezes in force, and what each one holds
    List,
    /// End a freeze before its time
    #[command(after_help = "\
What it held is planned again at once, by the usual limits and windows. You are named in the audit log.")]
    Thaw {
        /// The freeze's id
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        planned: Planned,
    },
}

impl Run {
    pub(super) fn freeze(&self, told: &Freeze) -> Done {
        match &told.what {
            Some(What::List) => self.freeze_list(),
            Some(What::Thaw { id, reason, planned }) => self.freeze_thaw(id, reason, planned),
            None => self.freeze_begin(told),
        }
    }

    fn freeze_begin(&self, told: &Freeze) -> Done {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let wanted = WantedFreeze {
            scope: told.scope.clone(),
            reason: text(&told.reason),
            until: text(&told.until),
            plan: told.planned.plan,
        };
        let daemon = self.daemon()?;
        let made: View = daemon.post("/v1/freezes", &wanted)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&made)?,
            Output::Name if wanted.plan => {}
            Output::Name => self.console.out(&made.id),
            Output::Table => {
                let verb = if wanted.plan { "would be" } else { "is" };
                let id = if wanted.plan { String::new() } else { format!(" (freeze {})", made.id) };
                let (scope, until) = (&made.scope, moment(&made.until));
                self.console.out(format!("{scope} {verb} frozen until {until}{id}"));
                self.console.out(format!("over {}", covers(&made)));
            }
        }
        if wanted.plan {
            self.console.note("nothing was done: this is only the plan");
        } else if !made.recorded {
            self.console.note("it is in force; the audit log cannot be written now, and has it as soon as it can");
        }
        Ok(Exit::Ok)
    }

    fn freeze_list(&self) -> Done {
        let daemon = self.daemon()?;
        let all: Vec<View> = daemon.get("/v1/freezes")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&all)?,
            Output::Name => all.iter().for_each(|freeze| self.console.out(&freeze.id)),
            Output::Table if all.is_empty() => self.console.note("nothing is frozen"),
            Output::Table => {
                let heads = ["FREEZE", "SCOPE", "SINCE", "ENDS", "BY", "COVERS", "HOLDS", "REASON"];
                self.console.table(&heads, &all.iter().map(row).collect::<Vec<_>>());
                for freeze in all.iter().filter(|freeze| !freeze.holds.is_empty()) {
                    self.console.out(format!("{} holds {}", freeze.id, freeze.holds.join(", ")));
                }
            }
        }
        Ok(Exit::Ok)
    }

    fn freeze_thaw(&self, id: &str, reason: &str, planned: &Planned) -> Done {
        let daemon = self.daemon()?;
        if planned.plan {
            let all: Vec<View> = daemon.get("/v1/freezes")?;
            self.banner(&daemon);
            let Some(freeze) = all.iter().find(|freeze| freeze.id.eq_ignore_ascii_case(id)) else {
                let text = format!("no freeze {id} is in force (KW4078)");
                return Err(Failure::new(Exit::Failed, text, "see those in force: keyward freeze list"));
            };
            let held = if freeze.holds.is_empty() { "nothing".to_owned() } else { freeze.holds.join(", ") };
            self.console.out(format!("ends     the freeze of {} by {}: {}", freeze.scope, freeze.by, freeze.reason));
            self.console.out(format!("plans    again what it holds: {held}"));
            self.console.out("records  that you thawed it, and why");
            self.console.note("nothing was done: this is only the plan");
            return Ok(Exit::Ok);
        }
        let body = serde_json::to_vec(&Thaw { reason: reason.to_owned() }).unwrap_or_default();
        let accepted: Accepted = daemon.delete(&format!("/v1/freezes/{}", segment(id)), Bytes::from(body))?;
        self.banner(&daemon);
        self.console.note(accepted.text);
        Ok(Exit::Ok)
    }
}

fn covers(freeze: &View) -> String {
    let many = if freeze.covers == 1 { "1 certificate".to_owned() } else { format!("{} certificates", freeze.covers) };
    match freeze.paths.is_empty() {
        true => many,
        false => format!("{many}, and the paths {}", freeze.paths.join(", ")),
    }
}

fn row(freeze: &View) -> Vec<Cell> {
    let tone = if freeze.holds.is_empty() { Tone::Plain } else { Tone::Warn };
    vec![
        Cell(freeze.id.clone(), Tone::Strong),
        freeze.scope.clone().into(),
        relative(&freeze.since).into(),
        relative(&freeze.until).into(),
        freeze.by.clone().into(),
        freeze.covers.to_string().into(),
        Cell(freeze.holds.len().to_string(), tone),
        freeze.reason.clone().into(),
    ]
}

/// One line for each freeze, where other things are shown.
pub(super) fn lines(all: &[View]) -> Vec<String> {
    let line = |f: &View| {
        let held = if f.holds.is_empty() { String::new() } else { format!(", holds {}", f.holds.len()) };
        format!("{} until {}{held}: {} ({})", f.scope, moment(&f.until), f.reason, f.by)
    };
    all.iter().map(line).collect()
}
