//! The command line as operators see it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::audit::args::{Audit, Place};
use super::gate_args::{Gate, Snippet};

const EXIT_CODES: &str = "\
Exit codes:
  0 ok                3 warning               5 gate closed          64 bad configuration
  1 failed            4 waits for a human     6 refused by policy
  2 not understood";

const FIRST_STEPS: &str = "\
First steps:
  keyward demo                            all of it in two minutes; nothing is touched
  keyward init ./kw --domain app.example.org --email me@example.org
  keyward check --pre -c ./kw/keyward.toml
  keyward run --staging -c ./kw/keyward.toml

Exit codes:
  0 ok                3 warning               5 gate closed          64 bad configuration
  1 failed            4 waits for a human     6 refused by policy
  2 not understood";

/// Guards certificates and keys: issues, renews, installs, looks whether they are served, and closes gates in time.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, max_term_width = 100, after_help = FIRST_STEPS, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct Common {
    /// Configuration file [default: ./keyward.toml, else /etc/keyward/keyward.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The daemon's admin socket, if it is not the one of the configuration
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The dry run: own state, the CAs' staging directories, nothing in production is touched
    #[arg(long, global = true)]
    pub(super) staging: bool,
    /// How data is printed: table, json, or name (names only, one a line); the audit log also as csv or jsonl
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(super) format: Format,
}

/// What `--output` may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// Names only, one a line
    Name,
    /// For spreadsheets (RFC 4180)
    Csv,
    /// For programs, an object a line
    Jsonl,
}

/// How data without lines is printed: the formats that every command knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// Names only, one a line
    Name,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a first configuration into a directory of its own
    #[command(after_help = "\
Example:
  keyward init ./kw --domain app.example.org --email me@example.org

Overwrites nothing, and says how to undo it.")]
    Init(Init),
    /// Look what is missing on this machine, with a fix for each
    #[command(after_help = "\
Examples:
  keyward check --pre -c keyward.toml     before the first start
  keyward check -o json                   for a script; the daemon should be running

Exits with 0 if all is well, 3 for warnings, 1 for errors, 64 for a bad configuration.")]
    Check(Check),
    /// Run the guardian in the foreground
    #[command(after_help = "\
Examples:
  keyward run -c /etc/keyward/keyward.toml
  keyward run --staging -c keyward.toml   dry run

SIGTERM ends it after what is being answered; what is in flight goes on at the next start.
SIGHUP reads the configuration again, all or nothing; it issues nothing by itself.")]
    Run,
    /// See everything at work: CAs, a portal, a gate and mTLS links, on loopback
    #[command(after_help = "\
Examples:
  keyward demo
  keyward demo --break ca      the CA dies; watch the gate close before the expiry
  keyward demo --seconds 30 --quiet

Once the gate is open, the intermediate of the private CA is rotated and a peer revoked, while the
requests over both links are counted. That takes some two minutes; the demo goes on until Ctrl-C.

What can be broken, which is shown without the rotation:
  ca      the CA stops answering
  hook    the portal's reload fails
  clock   the wall clock steps an hour ahead
  expiry  the watched credential expires

No network, no root; everything is below one directory, which is removed at the end unless --dir or --keep is given.")]
    Demo(Demo),
    /// The demo's reload hook
    #[command(hide = true)]
    DemoHook {
        /// The demo's directory
        dir: PathBuf,
    },
    /// Certificates and their keys
    #[command(subcommand, arg_required_else_help = true)]
    Cert(Cert),
    /// Approval paths and whether they are open
    #[command(subcommand, arg_required_else_help = true)]
    Gate(Gate),
    /// Have nothing done by itself to some of what is guarded, for a while
    #[command(after_help = super::freeze::HELP)]
    Freeze(super::freeze::Freeze),
    /// Configuration for a proxy that asks the gate before it lets anybody through
    #[command(after_help = "\
Examples:
  keyward snippet nginx --path approve --listen 0.0.0.0:80 --portal 127.0.0.1:8080
  keyward snippet envoy > envoy.yaml              ext_authz over gRPC
  keyward snippet haproxy -c /etc/keyward/keyward.toml

Made from the configuration: where the gate listens, and whether the path guards kinds of request only.")]
    Snippet(Snippet),
    /// Enforcing proxies for mTLS
    #[command(subcommand, arg_required_else_help = true)]
    Link(super::link::Link),
    /// Programs that get SPIFFE IDs
    #[command(subcommand, arg_required_else_help = true)]
    Workload(super::workload::Workload),
    /// Private CAs: make, issue, revoke, publish
    #[command(subcommand, arg_required_else_help = true)]
    Ca(super::ca::Ca),
    /// Keys that are no certificate's: what is overdue, who owns it, rotating
    #[command(subcommand, arg_required_else_help = true)]
    Key(super::key::Key),
    /// The ACME directories: orders that wait for a person
    #[command(subcommand, arg_required_else_help = true)]
    Acme(super::acme::Acme),
    /// Hold the keys of private CAs, as a process of its own
    #[command(
        after_help = super::keyholder::HELP,
        override_usage = "keyward keyholder [OPTIONS] --directory <DIR> --socket <PATH> <PASSPHRASE>"
    )]
    Keyholder(super::keyholder::Keyholder),
    /// The guardian as a whole
    #[command(after_help = "\
Exits with 0 if all is routine, 3 if something needs a human, 1 if the guardian itself is in trouble.")]
    Status,
    /// Copy the state with its audit log, also while the daemon runs, and read the copy back
    #[command(after_help = "\
Examples:
  keyward backup /backup/kw-2026-11-22              the state and its log, without private keys
  keyward backup /backup/kw-2026-11-22 --with-keys  everything; keep it as you keep the keys
  keyward backup /backup/kw --plan

Without the keys a restored guardian cannot go on with the log, and has every certificate issued anew.")]
    Backup(Backup),
    /// Put a backup back into a new directory, after reading it
    #[command(after_help = "\
Examples:
  keyward restore /backup/kw-2026-11-22 --verify
  keyward restore /backup/kw-2026-11-22 --to /var/lib/keyward

Nothing is overwritten. What was done after the backup is not in it: the audit lock, if it is still there, has seen more,
and the daemon refuses to start until a person accepts that: keyward doctor DIR --accept rolled-back")]
    Restore(Restore),
    /// Say what is left of a damaged state directory, and make its database anew from the log
    #[command(after_help = "\
Examples:
  keyward doctor                            looks, and changes nothing
  keyward doctor /var/lib/keyward --repair  makes a new database; the old one is kept beside it
  keyward doctor --accept lock-missing      open once although a rule refuses; you are named in the audit log

Exits with 0 if nothing is wrong or all was mended, 3 if --repair would mend it, 1 if a backup is needed.
The daemon must not run.")]
    Doctor(Doctor),
    /// The accounts at the CAs
    #[command(subcommand, arg_required_else_help = true)]
    Issuer(Issuer),
    /// What may go by itself, what waits for whom, what is forbidden
    #[command(subcommand, arg_required_else_help = true)]
    Policy(super::policy::Command),
    /// The configuration file
    #[command(subcommand, arg_required_else_help = true)]
    Config(Config),
    /// Keyward as a witness of other logs (C2SP tlog-witness)
    #[command(subcommand, arg_required_else_help = true)]
    Witness(super::witness::Witness),
    /// The clock that the guardian goes by
    #[command(subcommand, arg_required_else_help = true)]
    Clock(Clock),
    /// The audit log: what was done, by whom, why, and what came of it
    #[command(subcommand, arg_required_else_help = true)]
    Audit(Box<Audit>),
    /// What a code means and what to do about it; or what happened, told from the audit log
    #[command(after_help = "\
Examples:
  keyward explain KW4007                        works without a daemon
  keyward explain 01KDGZJ5N3W0G3C5Y7B2Q4R6T8    an entry of the audit log, or a correlation id
  keyward explain 4711 --database /var/lib/keyward")]
    Explain {
        /// A code, for example KW4007; the id of an entry or its place in the log; a correlation id
        #[arg(required_unless_present = "all", value_name = "CODE|ID")]
        code: Option<String>,
        /// All of them, as Markdown
        #[arg(long, conflicts_with = "code")]
        all: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The directory; it is made if it is not there
    pub(super) dir: PathBuf,
    /// The name that the first certificate is for
    #[arg(long)]
    pub(super) domain: String,
    /// Where the CA may write to
    #[arg(long)]
    pub(super) email: String,
    /// Print what would be written, and write nothing
    #[arg(long)]
    pub(super) plan: bool,
}

/// For what is done at once unless it is only planned.
#[derive(Debug, Args)]
pub(super) struct Planned {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) plan: bool,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The directory to make
    pub(super) to: PathBuf,
    /// Copy private keys too: of the log, the certificates and the accounts
    #[arg(long)]
    pub(super) with_keys: bool,
    /// Print what would be copied, and copy nothing
    #[arg(long)]
    pub(super) plan: bool,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    pub(super) backup: PathBuf,
    /// The directory to make
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    pub(super) to: Option<PathBuf>,
    /// Read the backup to the last entry; it is read before it is put back in any case
    #[arg(long)]
    pub(super) verify: bool,
    /// Print what would be done, and do nothing but read
    #[arg(long)]
    pub(super) plan: bool,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The state directory [default: that of the configuration]
    pub(super) dir: Option<PathBuf>,
    /// Make a new database and put it in place if the log is whole
    #[arg(long)]
    pub(super) repair: bool,
    /// Print what would be done, and do nothing but read
    #[arg(long)]
    pub(super) plan: bool,
    /// A shard of frozen entries, or a directory that holds shards: together they must be all that there are
    #[arg(long = "shard", value_name = "DIR", conflicts_with = "accept")]
    pub(super) shards: Vec<PathBuf>,
    /// Open it once although this rule refuses: lock-missing, lock-damaged, rolled-back, forked or clock-back
    #[arg(long, value_name = "RULE", conflicts_with = "repair")]
    pub(super) accept: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Before the first start: does not ask for a running daemon
    #[arg(long)]
    pub(super) pre: bool,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The directory to use; it stays [default: a temporary one]
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// Leave the directory behind
    #[arg(long)]
    pub(super) keep: bool,
    /// Break something once everything runs: ca, hook, clock or expiry
    #[arg(long = "break", value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub(super) break_: Option<Break>,
    /// End by itself after so many seconds
    #[arg(long, value_name = "N")]
    pub(super) seconds: Option<u64>,
    /// Lifetime of the portal's certificate in seconds [default: 120]
    #[arg(long, value_name = "N")]
    pub(super) lifetime: Option<u64>,
    /// Say only what happens, not what to try
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Break {
    /// The CA stops answering
    Ca,
    /// The reload hook fails
    Hook,
    /// The wall clock steps an hour ahead
    Clock,
    /// The watched credential expires
    Expiry,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cert {
    /// All certificates, the worst first
    #[command(after_help = "Examples:\n  keyward cert list\n  keyward cert list -o name | xargs -n1 keyward cert why")]
    List,
    /// One certificate with everything
    Show {
        /// Its id
        name: String,
    },
    /// Why it is as it is, and what comes next, in sentences
    Why {
        /// Its id
        name: String,
    },
    /// What happened to it, newest first
    History {
        /// Its id
        name: String,
        /// At most so many entries
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
        limit: u16,
    },
    /// Renew it now
    #[command(after_help = "\
Examples:
  keyward cert renew portal --plan            exactly what would run; nothing does
  keyward cert renew portal --wait            until it is installed and served, or failed

You are named in the audit log. Policy and the CA's limits hold for you too, but you may spend the reserve.
With --wait: 0 installed and served, 1 failed, 3 issued but held, 4 waits for a human, 6 refused by policy.")]
    Renew(Renew),
    /// Look at everything again now
    Scan,
}

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// Its id
    pub(super) name: String,
    /// Print what would be done, and do nothing
    #[arg(long, conflicts_with_all = ["wait", "timeout"])]
    pub(super) plan: bool,
    /// Follow it until it is installed and served, or failed
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to follow it: 90s, 10m, 1h
    #[arg(long, requires = "wait", default_value = "120s", value_name = "SPAN", value_parser = span)]
    pub(super) timeout: core::time::Duration,
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Read the file and show every problem in its place
    #[command(after_help = "Exits with 0 if it may be used and 64 if not. Nothing is opened, bound or asked.")]
    Check,
    /// Say in sentences what the file means, defaults included
    Explain {
        /// Only this certificate or approval path
        name: Option<String>,
    },
    /// Have the running daemon read the file again, all or nothing
    Reload(Planned),
}

#[derive(Debug, Subcommand)]
pub(super) enum Clock {
    /// Vouch for the present time after the clock stepped
    #[command(after_help = "\
Gates stay closed and nothing is renewed while the clocks disagree. Compare with another clock first:
  timedatectl timesync-status
You are named in the audit log.")]
    Accept(Planned),
}

#[derive(Debug, Subcommand)]
pub(super) enum Issuer {
    /// Give the account at a CA a new key (RFC 8555 section 7.3.5)
    #[command(after_help = "\
The new key is durable before the CA hears of it; a crash at any point leaves an account that works.
You are named in the audit log.

Example:
  keyward issuer rollover letsencrypt --plan")]
    Rollover {
        /// The issuer's id in the configuration
        issuer: String,
        #[command(flatten)]
        planned: Planned,
    },
}

/// `90s`, `10m`, `2h`; a bare number is seconds.
pub(super) fn span(text: &str) -> Result<core::time::Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = digits.parse().map_err(|_| "write a number with s, m or h, for example 90s".to_owned())?;
    let scale = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("{unit:?} is no unit; write s, m or h")),
    };
    let seconds = number.saturating_mul(scale);
    if seconds == 0 || seconds > 86_400 {
        Err("between 1s and 24h".to_owned())
    } else {
        Ok(core::time::Duration::from_secs(seconds))
    }
}

/// Where a command's own help ends, the table of exit codes follows.
pub(super) fn command() -> clap::Command {
    use clap::CommandFactory as _;
    Cli::command().mut_subcommands(|sub| {
        if sub.get_after_help().is_none() && !sub.has_subcommands() { sub.after_help(EXIT_CODES) } else { sub }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn spans_have_a_unit_and_bounds() {
        let secs = |text| span(text).map(|s| s.as_secs());
        assert_eq!((secs("90s"), secs("2m"), secs("1h"), secs("5")), (Ok(90), Ok(120), Ok(3_600), Ok(5)));
        for bad in ["", "s", "0s", "25h", "1d", "1.5m", "99999999999999999999s"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
