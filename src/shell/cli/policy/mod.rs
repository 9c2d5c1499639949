//! `keyward policy`: what may go by itself, why, and whether it is as it was meant. Everything here reads files; no daemon
//! is asked, and nothing is changed.

mod check;
mod diff;
mod explain;
mod test;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::args::Output;
use super::client;
use super::console::{Exit, Failure};
use super::{Done, Run};
use crate::domain::policy::{Act, History, Lane, Policy};
use crate::domain::time::Timestamp;
use crate::shell::config::{self, ConfigError, Settings};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Whether a policy can be used, keeps its contract, and has rules that do nothing
    #[command(after_help = "\
Examples:
  keyward policy check -c /etc/keyward/keyward.toml
  keyward policy check policy.toml --contract contract.toml     for a CI without a configuration

Exits with 0 if all is well, 3 for warnings, 64 if it cannot be used or a promise is not kept.")]
    Check {
        /// The policy [default: that of the configuration]
        file: Option<PathBuf>,
        /// The contract that it has to keep [default: that of the configuration, if no policy is named]
        #[arg(long, value_name = "FILE", requires = "file")]
        contract: Option<PathBuf>,
    },
    /// Run tables of cases
    #[command(after_help = "\
Examples:
  keyward policy test policy-tests.toml
  keyward policy test cases/*.toml --policy policy.toml --coverage

Exits with 0 if every case is as expected, and 1 if one is not; with --coverage also if a rule decides no case.")]
    Test(Test),
    /// What policy says about an action, and why
    #[command(after_help = "\
Examples:
  keyward policy explain renew --credential portal
  keyward policy explain issue_elsewhere --label env=prod --paths 1 --at 2026-12-24T18:00:00Z
  keyward policy explain renew --policy policy.toml --tier 3 --failures 2 -o json

What is not said is taken to be quiet: nothing failed, the usual issuer, now.
Exits with 0 if it goes by itself, 4 if it waits for a human, 6 if it is prohibited.")]
    Explain(Box<Explain>),
    /// What another policy would change
    #[command(after_help = "\
Examples:
  keyward policy diff policy.toml new.toml
  keyward policy diff policy.toml new.toml --cases policy-tests.toml -c keyward.toml

Every kind of subject that either of them tells apart is decided by both; with -c also each credential that is configured.
Exits with 0 if nothing changes, and 3 if something does.")]
    Diff {
        /// The one
        old: PathBuf,
        /// The other
        new: PathBuf,
        /// Decide these cases by both, too
        #[arg(long, value_name = "FILE")]
        cases: Vec<PathBuf>,
    },
    /// The digest that stands in every decision
    #[command(after_help = "\
Over what the policy says, not over how it is written: comments and white space do not change it.")]
    Digest {
        /// The policy [default: that of the configuration]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files with cases
    #[arg(required = true)]
    cases: Vec<PathBuf>,
    /// The policy [default: the one that the file of cases names, else that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Say which rules decide no case, and fail if there are any
    #[arg(long)]
    coverage: bool,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The action, for example renew, issue_elsewhere, ca_change
    #[arg(value_parser = act)]
    action: Act,
    /// The policy [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A credential of the configuration: its labels, owner, paths and places
    #[arg(long, value_name = "ID", conflicts_with = "policy")]
    credential: Option<String>,
    /// A label; may be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Whose it is
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// How many approval paths stand on it
    #[arg(long, value_name = "N")]
    paths: Option<usize>,
    /// At how many places it is served
    #[arg(long, value_name = "N")]
    services: Option<usize>,
    /// Its tier, instead of the one that is computed
    #[arg(long, value_name = "0-4", value_parser = clap::value_parser!(u8).range(0..=4))]
    tier: Option<u8>,
    /// When (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
    /// How many attempts failed of late
    #[arg(long, value_name = "N", default_value_t = 0)]
    failures: u32,
    /// How often its paths closed of late
    #[arg(long, value_name = "N", default_value_t = 0)]
    flaps: u32,
    /// How many incidents are over it
    #[arg(long, value_name = "N", default_value_t = 0)]
    incidents: u32,
    /// What is known of the issuer: usual, known, new
    #[arg(long, value_name = "HISTORY", value_parser = history, default_value = "usual")]
    issuer: History,
}

impl Run {
    pub(super) fn policy(&self, command: Command) -> Done {
        match command {
            Command::Check { file, contract } => self.policy_check(file.as_deref(), contract.as_deref()),
            Command::Test(told) => self.policy_test(&told),
            Command::Explain(told) => self.policy_explain(&told),
            Command::Diff { old, new, cases } => self.policy_diff(&old, &new, &cases),
            Command::Digest { file } => self.policy_digest(file.as_deref()),
        }
    }

    fn policy_digest(&self, file: Option<&Path>) -> Done {
        let policy = self.policy_of(file)?;
        match self.output {
            Output::Json => self.console.json(&serde_json::json!({
                "digest": policy.version().to_string(),
                "revision": policy.setting().revision.as_deref(),
                "contract": policy.setting().contract.as_ref().map(|c| c.digest().to_string()),
            }))?,
            Output::Table | Output::Name => self.console.out(policy.version().to_string()),
        }
        Ok(Exit::Ok)
    }

    /// The policy that is named, or that of the configuration.
    fn policy_of(&self, file: Option<&Path>) -> Result<Policy, Failure> {
        match file {
            Some(file) => config::load_policy(file).map_err(|error| self.unusable(file, &error)),
            None => Ok(self.settings()?.estate.policy),
        }
    }

    /// The configuration, if one is named or lies where it usually does.
    fn settings_if_any(&self) -> Result<Option<Settings>, Failure> {
        if self.common.config.is_none() && client::config_path(&self.common).is_err() {
            return Ok(None);
        }
        self.settings().map(Some)
    }

    /// Prints the report, and says that this is why.
    fn unusable(&self, file: &Path, error: &ConfigError) -> Failure {
        self.console.note(error.report(self.console.report_colour()));
        let text = format!("{} cannot be used", file.display());
        Failure::new(Exit::BadConfig, text, "mend it at the marked places; `keyward explain CODE` says more")
    }
}

/// How a lane is reached on the command line.
fn exit(lane: Lane) -> Exit {
    match lane {
        Lane::Autonomous => Exit::Ok,
        Lane::ReviewRequired => Exit::Waiting,
        Lane::Prohibited => Exit::Refused,
    }
}

fn act(text: &str) -> Result<Act, String> {
    Act::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Act::ALL.iter().map(|(_, name)| *name).collect();
        format!("choose one of: {}", names.join(", "))
    })
}

fn history(text: &str) -> Result<History, String> {
    let found = History::ALL.iter().find(|(_, name)| *name == text);
    found.map(|(history, _)| *history).ok_or_else(|| "choose one of: usual, known, new".to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "write KEY=VALUE: env=prod".to_owned())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "write it with its offset: 2026-12-24T18:00:00Z".to_owned())
}
