//! `keyward audit export`: the log for somebody else's eyes, from where it lies.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{ArgGroup, Args};
use serde_json::json;

use super::progress::Progress;
use super::trust::Keys;
use crate::codec::export::{Format, Stopped, Why};
use crate::codec::ledger::RangedKey;
use crate::shell::audit::csv;
use crate::shell::cli::args::Output;
use crate::shell::cli::console::{Exit, Failure};
use crate::shell::cli::{Done, Run, client};
use crate::shell::export::{Plan, Target};
use crate::shell::wire;
use crate::shell::wire::export::{Hook, HookOptions, Lines, Tree};

pub(super) const HELP: &str = "\
Examples:
  keyward audit export --format tlog-tiles --to /srv/log
  keyward audit export --format cloudevents --to /srv/events --from 20000
  keyward audit export --format ocsf --webhook https://siem.example.org/keyward \\
      --secret-file /etc/keyward/siem.secret --cursor /var/lib/keyward-export/siem.json

Nothing is asked of the daemon, which may run meanwhile. Run it again and it goes on where it was, also if it was killed;
what is there is never written anew. Every entry is compared with the signed checkpoint before anything is written.

Exit codes:
  0 done             3 rolled back: more was exported than the log has
  1 not done         4 incomplete: entries are not there (any more)
  2 tampered, or what was exported is not the beginning of this log
                     5 unverifiable: no key or no checkpoint
An unknown option also ends with 2.";

/// What is written, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true)))]
pub(in crate::shell::cli) struct Export {
    /// How it is written
    #[arg(long = "format", id = "written_as", value_name = "FORMAT", value_parser = PossibleValuesParser::new(Format::NAMES).try_map(|name| name.parse::<Format>()))]
    written_as: Format,
    /// To files in this directory
    #[arg(long, value_name = "DIR", group = "target")]
    to: Option<PathBuf>,
    /// To a webhook, in signed batches (cloudevents or ocsf)
    #[arg(long, value_name = "URL", group = "target", requires = "secret_file", requires = "cursor")]
    webhook: Option<String>,
    /// The webhook's secret (whsec_…), in a file of mode 0600
    #[arg(long, value_name = "FILE", requires = "webhook")]
    secret_file: Option<PathBuf>,
    /// The file in which it is kept how much the webhook has
    #[arg(long, value_name = "FILE", requires = "webhook")]
    cursor: Option<PathBuf>,
    /// The state directory or database [default: the configured state directory]
    #[arg(long, value_name = "DIR")]
    database: Option<PathBuf>,
    /// The first entry [default: 0]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// A key of the log: NAME+ID+KEY [default: the one that lies beside the database]
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<String>,
    /// Print what would be written, and write nothing
    #[arg(long)]
    plan: bool,
}

impl Run {
    pub(super) fn audit_export(&self, told: &Export) -> Done {
        let mut trust = Keys { keys: told.keys.clone(), witnesses: Vec::new() }.trust()?;
        let database = match &told.database {
            Some(database) => database.clone(),
            None => self.state_directory()?,
        };
        let archive = wire::archive(&database).map_err(|e| {
            let hint = "name the state directory, where keyward.db lies; be a user who may read it";
            Failure::new(Exit::Failed, e.to_string(), hint)
        })?;
        if trust.keys.is_empty() {
            trust.keys.extend(archive.own_key().and_then(|key| RangedKey::always(key).ok()));
        }
        let target = target(told).map_err(failure)?;
        let plan = Plan::make(&archive, &trust, target.reached(), told.from).map_err(failure)?;
        let mut progress = Progress::new();
        let (first, total) = (plan.start.size(), plan.head.size);
        let mut compared = |done: u64| progress.tell(done.saturating_sub(first), plan.entries());
        plan.compare(&archive, &mut compared).map_err(failure)?;
        if !told.plan {
            let runtime = client::runtime()?;
            let mut written = |done: u64| progress.tell(done.saturating_sub(first), plan.entries());
            runtime.block_on(plan.write(&archive, target, told.written_as, &mut written)).map_err(failure)?;
        }
        let took = progress.done();
        let to =
            told.to.as_ref().map_or_else(|| told.webhook.clone().unwrap_or_default(), |to| to.display().to_string());
        if self.output == Output::Json {
            self.console.json(&json!({
                "format": told.written_as.as_str(),
                "to": to,
                "origin": plan.origin,
                "size": total.to_string(),
                "root": plan.head.root.to_string(),
                "first": first.to_string(),
                "entries": plan.entries().to_string(),
                "planned_only": told.plan,
            }))?;
            return Ok(Exit::Ok);
        }
        let what = match (plan.entries(), told.plan) {
            (0, _) => format!("nothing is new: all {total} entries are there"),
            (_, true) => format!("would write entries {first}–{}", total.saturating_sub(1)),
            (_, false) => format!("wrote entries {first}–{}", total.saturating_sub(1)),
        };
        self.console.pairs(&[
            ("log", plan.origin.clone()),
            ("checkpoint", format!("size {total}, root {}", plan.head.root)),
            ("format", told.written_as.as_str().to_owned()),
            ("to", to),
            ("done", what),
        ]);
        self.console.note(format!("{} entries in {:.1} s", plan.entries(), took.as_secs_f64()));
        Ok(Exit::Ok)
    }
}

fn target(told: &Export) -> Result<Target, Stopped> {
    match (&told.to, &told.webhook, &told.secret_file, &told.cursor) {
        (Some(dir), ..) if told.written_as == Format::TlogTiles => {
            if told.from.is_some_and(|from| from > 0) {
                let text = "static files hold a log from its first entry on: leave --from away";
                return Err(Stopped::new(Why::Setting, text));
            }
            Ok(Target::Tree(Box::new(Tree::open(dir)?)))
        }
        (Some(dir), ..) => {
            let head = if told.written_as == Format::Csv { csv::HEAD } else { "" };
            Ok(Target::Lines(Box::new(Lines::open(dir, told.written_as, head)?)))
        }
        (None, Some(url), Some(secret), Some(cursor)) => {
            if !matches!(told.written_as, Format::Cloudevents | Format::Ocsf) {
                let text = format!("{} is for files: use --to, or cloudevents or ocsf", told.written_as.as_str());
                return Err(Stopped::new(Why::Setting, text));
            }
            let secret = private_file(secret)?;
            let options = HookOptions { url, secret: secret.trim_ascii(), cursor, format: told.written_as };
            Ok(Target::Hook(Box::new(Hook::open(&options, wire::clock())?)))
        }
        _ => Err(Stopped::new(Why::Setting, "a webhook needs --secret-file and --cursor")),
    }
}

/// A secret of at most 64 bytes in base64 with a prefix, and room.
const LONGEST_SECRET: u64 = 1_024;

fn private_file(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Stopped> {
    let shown = path.display();
    let setting = |text: String| Stopped::new(Why::Setting, text);
    let file = File::open(path).map_err(|e| setting(format!("cannot open {shown}: {e}")))?;
    let seen = file.metadata().map_err(|e| setting(format!("cannot look at {shown}: {e}")))?;
    let mode = seen.mode() & 0o7777;
    if !seen.is_file() || mode & 0o077 != 0 {
        return Err(setting(format!("{shown} has mode {mode:04o}, so others may read it; run chmod 0600 {shown}")));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(LONGEST_SECRET).read_to_end(&mut bytes).map_err(|e| setting(format!("cannot read {shown}: {e}")))?;
    Ok(bytes)
}

pub(super) fn failure(stopped: Stopped) -> Failure {
    let exit = stopped.why.grade().map_or(Exit::Failed, |grade| Exit::Verdict(grade.exit()));
    let hint = format!("keyward explain {}", stopped.why.code());
    Failure::new(exit, stopped.to_string(), hint)
}
