//! `keyward audit freeze`: the oldest entries go to a shard of static files, on the files, while no daemon runs.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use serde_json::json;

use super::export::failure;
use super::progress::Progress;
use crate::codec::note::Note;
use crate::codec::tlog_policy::Policy;
use crate::domain::time::{DAY, Timestamp};
use crate::ports::StoreError;
use crate::shell::audit::time;
use crate::shell::cli::args::Output;
use crate::shell::cli::console::{Exit, Failure, wall_clock};
use crate::shell::cli::{Done, Run};
use crate::shell::freeze::{self, Frozen, Order};
use crate::shell::wire;
use crate::shell::wire::freeze::{Choice, Freezer, Pruned, Run as Entries};

pub(super) const HELP: &str = "\
Examples:
  keyward audit freeze --to /srv/shards --keep-days 400 --plan
  keyward audit freeze --to /srv/shards --keep-days 400
  keyward audit freeze --to /srv/shards --before 2025-01-01

The daemon must be stopped. The oldest entries, always a multiple of 256 of them, are written as static files into a
directory of their own below DIR and read back; an entry of the log says so and names you; then they are deleted here.
Keep the shards: whoever verifies the whole log needs them (keyward audit verify --shard DIR), and each names the one before
it. Evidence goes with them; private texts that no later entry names are deleted for good. Entries from the oldest intent
without an outcome on stay, and so do those that no kept checkpoint covers, which the witnesses must have cosigned where
there are any. If it was cut off, run it again.

Exit codes:
  0 done, or there is nothing to freeze     2 tampered: entries are not what was signed
  1 not done                                4 incomplete: entries are not there
An unknown option also ends with 2.";

/// How.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("age").required(true)))]
pub(in crate::shell::cli) struct Freeze {
    /// The directory of the shards; each gets one of its own below it
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Freeze entries from before this time
    #[arg(long, value_name = "TIME", group = "age")]
    before: Option<String>,
    /// Freeze entries that are older than so many days
    #[arg(long, value_name = "N", group = "age", value_parser = clap::value_parser!(u32).range(0..=36_600))]
    keep_days: Option<u32>,
    /// The state directory [default: that of the configuration]
    #[arg(long, value_name = "DIR")]
    database: Option<PathBuf>,
    /// Print what would be done, and do nothing; the daemon may run
    #[arg(long)]
    plan: bool,
}

impl Run {
    pub(super) fn audit_freeze(&self, told: &Freeze) -> Done {
        let (dir, options) = self.place(told.database.as_deref())?;
        let before = before(told)?;
        let policy = self.witnesses_of(&dir)?;
        let suits = |note: &str| match &policy {
            None => Ok(()),
            Some(policy) => cosigned(policy, note),
        };
        if told.plan {
            let archive = wire::archive(&dir).map_err(|e| failed(&e))?;
            let choice = archive.choose(before, &suits).map_err(|e| failed(&e))?;
            let left = archive.left_over().map_err(|e| failed(&e))?;
            return self.tell_plan(told, &choice, left);
        }
        let mut freezer = Freezer::open(&dir, &options).map_err(|e| failed(&e))?;
        let by: Arc<str> = Arc::from(format!("uid:{}", rustix::process::getuid().as_raw()));
        let order = Order { to: &told.to, before, by, suits: &suits };
        let mut progress = Progress::new();
        let done = freeze::freeze(&mut freezer, &order, &mut |_, at, all| progress.tell(at, all));
        let took = progress.done();
        let done = done.map_err(failure)?;
        if done.before.entries > 0 {
            let entries = done.before.entries;
            self.console.note(format!(
                "{entries} entries were frozen by an earlier run that was cut off; they are deleted now"
            ));
        }
        match (&done.now, &done.why_not) {
            (Some(frozen), _) => self.tell_done(frozen, took)?,
            (None, why) => self.tell_nothing(why.as_deref().unwrap_or("nothing is to be frozen"))?,
        }
        Ok(Exit::Ok)
    }

    fn tell_plan(&self, told: &Freeze, choice: &Choice, left: u64) -> Done {
        if left > 0 {
            self.console.note(format!("would first delete {left} entries that a run that was cut off has frozen"));
        }
        match choice {
            Choice::Nothing(why) => self.tell_nothing(why)?,
            Choice::Run(run) if self.output == Output::Json => {
                self.console.json(&json!({
                    "from": run.from.to_string(),
                    "until": run.head.size.to_string(),
                    "root": run.head.root.to_string(),
                    "checkpoint_size": run.covered.to_string(),
                    "planned_only": true,
                }))?;
            }
            Choice::Run(run) => {
                let name = crate::codec::shard::name(run.from, run.head.size);
                self.console.pairs(&[
                    ("would freeze", shown(run)),
                    ("to", told.to.join(name).display().to_string()),
                    ("covered by", format!("the checkpoint of size {}, which stays", run.covered)),
                    ("then", "an entry would name you, and these entries would be deleted here".to_owned()),
                ]);
            }
        }
        Ok(Exit::Ok)
    }

    fn tell_nothing(&self, why: &str) -> Result<(), Failure> {
        if self.output == Output::Json {
            return self.console.json(&json!({ "from": null, "until": null, "why": why }));
        }
        self.console.out(why);
        Ok(())
    }

    fn tell_done(&self, frozen: &Frozen, took: Duration) -> Result<(), Failure> {
        let Frozen { run, dir, manifest, freeze, pruned } = frozen;
        let Pruned { entries, evidence, texts, compact } = *pruned;
        if self.output == Output::Json {
            return self.console.json(&json!({
                "from": run.from.to_string(),
                "until": run.head.size.to_string(),
                "root": run.head.root.to_string(),
                "checkpoint_size": run.covered.to_string(),
                "shard": dir.display().to_string(),
                "manifest_sha256": manifest.to_string(),
                "entry": freeze.to_string(),
                "deleted": {"entries": entries.to_string(), "evidence": evidence.to_string(), "texts": texts.to_string()},
                "planned_only": false,
            }));
        }
        self.console.pairs(&[
            ("froze", shown(run)),
            ("shard", dir.display().to_string()),
            ("manifest", manifest.to_string()),
            ("entry", freeze.to_string()),
            ("deleted here", format!("{entries} entries, {evidence} pieces of evidence, {texts} private texts")),
        ]);
        if !compact {
            self.console.note("the file could not be made shorter; its free pages are used again");
        }
        self.console.note(format!("keep the shard elsewhere too; {:.1} s", took.as_secs_f64()));
        Ok(())
    }

    /// Whoever must have cosigned the checkpoint that stands for what is deleted.
    fn witnesses_of(&self, dir: &std::path::Path) -> Result<Option<Policy>, Failure> {
        let Some(settings) = self.settings_of(dir) else { return Ok(None) };
        let policy = settings.audit_witness.as_ref().map(|witness| wire::policy(&witness.policy)).transpose();
        policy.map_err(|e| Failure::new(Exit::BadConfig, e.to_string(), "mend the policy of the witnesses"))
    }
}

fn before(told: &Freeze) -> Result<Timestamp, Failure> {
    let now = wall_clock();
    match (&told.before, told.keep_days) {
        (Some(text), _) => time("--before", text, now).map_err(Failure::from),
        (None, days) => Ok(now.minus(DAY.saturating_mul(days.unwrap_or(0)))),
    }
}

fn cosigned(policy: &Policy, note: &str) -> Result<(), String> {
    let note: Note = note.parse().map_err(|e: crate::codec::ParseError| e.to_string())?;
    policy.quorum(&note).map(drop).map_err(|e| e.to_string())
}

fn shown(run: &Entries) -> String {
    let Entries { from, head, .. } = run;
    format!("entries {from}–{}, root {}", head.size.saturating_sub(1), head.root)
}

fn failed(error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::InUse(_) => "stop the daemon first: the log has one writer",
        StoreError::Damaged(_) | StoreError::Distrusted { .. } => "keyward audit verify says more; nothing was deleted",
        StoreError::Unavailable(_) | StoreError::Lost(_) => "name the state directory; see the disk",
    };
    Failure::new(Exit::Failed, error.to_string(), hint)
}
