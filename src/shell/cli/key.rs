//! `keyward key`: keys that are no certificate's.

use clap::{Args, Subcommand};

use super::args::{Output, Planned};
use super::cert::segment;
use super::console::{Cell, Exit, Tone, moment, relative};
use super::{Done, Run};
use crate::shell::http::key::model::{Changed, Key as View, Plan, Version, Wish};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Every key: how it stands, when it is overdue and when its paths close, who owns it; the worst first
    #[command(after_help = "\
Exits with 0 if all is well, and 3 if a key is overdue, compromised, or cannot be looked at.")]
    List,
    /// One key: its versions, its state, its rotation, what is wrong
    Show {
        /// The key's id
        key: String,
    },
    /// Rotate a key by its hook: create, set, test, finish, and retire once the overlap is over
    #[command(after_help = "\
Examples:
  keyward key rotate portal-api --plan
  keyward key rotate portal-api --reason 'quarterly'
  keyward key rotate portal-api --abandon --reason 'the vendor is down'

It goes on by itself, also after a restart; a step that failed is tried again. You are named in the audit log.")]
    Rotate(Rotate),
    /// Say that a manual key was rotated just now
    Rotated(Of),
    /// Have a key not used for a while: its paths close
    Suspend(Of),
    /// Have a suspended key used again
    Resume(Of),
    /// A key protects nothing new any more
    Deactivate(Of),
    /// Others may have a key: its paths close at once, and it is blocked for ever
    #[command(after_help = "\
Example:
  keyward key compromised portal-api --since 2026-03-01T00:00:00Z --reason 'found in a public repository'

Prints what it was used for since then, as far as is known here. There is no way back but another key.")]
    Compromised(Compromised),
    /// A key is gone
    Destroy(Of),
}

#[derive(Debug, Args)]
pub(super) struct Of {
    /// The key's id
    key: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The version before the one in use
    #[arg(long)]
    previous: bool,
}

#[derive(Debug, Args)]
pub(super) struct Compromised {
    #[command(flatten)]
    of: Of,
    /// Since when others may have it [default: now]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The key's id
    key: String,
    /// Why
    #[arg(long, value_name = "TEXT", required_unless_present = "plan")]
    reason: Option<String>,
    /// Give up a rotation whose new key is not in use yet
    #[arg(long, conflicts_with = "plan")]
    abandon: bool,
    #[command(flatten)]
    planned: Planned,
}

impl Run {
    pub(super) fn key(&self, command: Key) -> Done {
        match command {
            Key::List => self.key_list(),
            Key::Show { key } => self.key_show(&key),
            Key::Rotate(rotate) => self.key_rotate(&rotate),
            Key::Rotated(of) => {
                let wish = Wish { reason: of.reason, ..Wish::default() };
                self.start_with(&address(&of.key, "rotated"), &wish)
            }
            Key::Suspend(of) => self.key_change(of, "suspend", None),
            Key::Resume(of) => self.key_change(of, "resume", None),
            Key::Deactivate(of) => self.key_change(of, "deactivate", None),
            Key::Compromised(told) => self.key_change(told.of, "compromised", told.since),
            Key::Destroy(of) => self.key_change(of, "destroy", None),
        }
    }

    fn key_list(&self) -> Done {
        let daemon = self.daemon()?;
        let all: Vec<View> = daemon.get("/v1/key")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&all)?,
            Output::Name => all.iter().for_each(|key| self.console.out(&key.id)),
            Output::Table if all.is_empty() => {
                self.console.note("no key is tracked: add a [[key]] to the configuration; see docs/keys.md");
            }
            Output::Table => {
                let heads = ["KEY", "STANDS", "OVERDUE", "PATHS CLOSE", "OWNER", "CLASS", "STATE", "ROTATION", "PATHS"];
                self.console.table(&heads, &all.iter().map(row).collect::<Vec<_>>());
                for finding in all.iter().flat_map(|key| &key.findings).filter(|f| f.severity != "note") {
                    self.console.out(format!("{} {}", finding.code, finding.text));
                }
            }
        }
        let well = all.iter().all(|key| key.outlook == "good" && key.findings.iter().all(|f| f.severity == "note"));
        Ok(if well { Exit::Ok } else { Exit::Warning })
    }

    fn key_show(&self, id: &str) -> Done {
        let daemon = self.daemon()?;
        let key: View = daemon.get(&format!("/v1/key/{}", segment(id)))?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&key)?,
            Output::Name => self.console.out(&key.id),
            Output::Table => self.print_key(&key),
        }
        Ok(Exit::Ok)
    }

    fn print_key(&self, key: &View) {
        let line = |name: &str, text: String| self.console.out(format!("{name:<12} {text}"));
        let none = || "-".to_owned();
        line("key", format!("{}: {}", key.id, key.outlook));
        line("class", key.class.clone());
        line("owner", key.owner.clone().unwrap_or_else(none));
        line("environment", key.environment.clone().unwrap_or_else(none));
        line("lies in", key.place.clone());
        line("seen", key.seen_at.as_deref().map_or_else(none, moment));
        line("overdue", key.overdue_at.as_deref().map_or_else(none, moment));
        line("paths close", key.closes_at.as_deref().map_or_else(none, moment));
        line("paths", if key.paths.is_empty() { none() } else { key.paths.join(", ") });
        if let Some(problem) = &key.problem {
            line("problem", self.console.paint(problem, Tone::Bad));
        }
        if let Some(r) = &key.rotation {
            let word = if r.begun { "is being done" } else { "is next" };
            let wait = r.not_before.as_deref().map_or_else(String::new, |at| format!(", from {}", moment(at)));
            let failed = if r.failures > 0 { format!(", failed {} times", r.failures) } else { String::new() };
            line("rotation", format!("{}: {} {word}{wait}{failed}", r.id, r.step));
        }
        let heads = ["VERSION", "LABEL", "STATE", "MADE", "SINCE", "BY", "VALID UNTIL", "PRINT", "REASON"];
        self.console.table(&heads, &key.versions.iter().map(version).collect::<Vec<_>>());
        key.findings.iter().for_each(|f| self.console.out(format!("{} {}: {}", f.code, f.severity, f.text)));
    }

    fn key_rotate(&self, told: &Rotate) -> Done {
        let path = address(&told.key, if told.abandon { "abandon" } else { "rotate" });
        let wish = Wish { reason: told.reason.clone().unwrap_or_default(), plan: told.planned.plan, ..Wish::default() };
        if !wish.plan {
            return self.start_with(&path, &wish);
        }
        let daemon = self.daemon()?;
        let plan: Plan = daemon.post(&path, &wish)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&plan)?,
            Output::Name => {}
            Output::Table => {
                for step in &plan.steps {
                    self.console.out(format!("{:<8} {}", step.step, step.command.join(" ")));
                }
                let overlap = crate::domain::time::human_span(core::time::Duration::from_secs(plan.overlap_seconds));
                self.console.out(format!("between finish and retire both keys are valid for {overlap}"));
                if let Some(held) = &plan.held {
                    self.console.out(self.console.paint(held, Tone::Warn));
                }
            }
        }
        self.console.note("nothing was done: this is only the plan");
        Ok(Exit::Ok)
    }

    fn key_change(&self, of: Of, act: &str, since: Option<String>) -> Done {
        let daemon = self.daemon()?;
        let wish = Wish { reason: of.reason, previous: of.previous, since, plan: false };
        let changed: Changed = daemon.post(&address(&of.key, act), &wish)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&changed)?,
            Output::Name => self.console.out(&changed.state),
            Output::Table => {
                self.console.out(format!("key {} is {}", of.key, changed.state));
                changed.used.iter().for_each(|used| self.console.out(format!("used: {used}")));
            }
        }
        Ok(Exit::Ok)
    }
}

fn address(key: &str, act: &str) -> String {
    format!("/v1/key/{}/{act}", segment(key))
}

fn row(key: &View) -> Vec<Cell> {
    let none = || "-".to_owned();
    let tone = match key.outlook.as_str() {
        "good" => Tone::Good,
        "overdue" => Tone::Warn,
        _ => Tone::Bad,
    };
    let rotation = key.rotation.as_ref().map_or_else(none, |r| r.step.clone());
    vec![
        Cell(key.id.clone(), Tone::Strong),
        Cell(key.outlook.clone(), tone),
        key.overdue_at.as_deref().map_or_else(none, relative).into(),
        key.closes_at.as_deref().map_or_else(none, relative).into(),
        key.owner.clone().unwrap_or_else(none).into(),
        key.class.clone().into(),
        key.state.clone().unwrap_or_else(none).into(),
        rotation.into(),
        if key.paths.is_empty() { none().into() } else { key.paths.join(",").into() },
    ]
}

fn version(v: &Version) -> Vec<Cell> {
    let none = || "-".to_owned();
    let state = match &v.public_half {
        Some(half) if *half != v.state => format!("{} (public half {half})", v.state),
        Some(_) | None => v.state.clone(),
    };
    vec![
        v.number.to_string().into(),
        v.label.clone().into(),
        state.into(),
        relative(&v.created).into(),
        relative(&v.since).into(),
        v.by.clone().unwrap_or_else(none).into(),
        v.until.as_deref().map_or_else(none, relative).into(),
        v.print.as_deref().and_then(|p| p.get(..21)).map_or_else(none, |p| format!("{p}…")).into(),
        v.reason.clone().into(),
    ]
}
