//! `keyward audit …` as operators see it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::export::Export;
use super::freeze::Freeze;
use super::prove::{CheckProof, Prove};
use super::verify::Verify;

#[derive(Debug, Subcommand)]
pub(in crate::shell::cli) enum Audit {
    /// Entries that are like this, the newest first
    #[command(after_help = "\
Examples:
  keyward audit query --since 2h
  keyward audit query --credential portal --outcome failure --outcome denied
  keyward audit query --code KW23 --path approve -o csv > gates.csv
  keyward audit query --text 'gate closed' --oldest-first -o jsonl
  keyward audit query --since 2026-01-01 --until 2026-04-01 --limit 10000 -o json

Conditions of several kinds must all hold; of one kind any. A time is RFC 3339, a date, or how long ago (90s, 20m, 2h,
3d, 4w). --service, --approver, --exception and --incident find what entries say about them; entries of this version say
nothing yet.")]
    Query(Query),
    /// One entry with everything that belongs to it
    #[command(
        after_help = "Examples:\n  keyward audit show 4711\n  keyward audit show 01KDGZJ5N3W0G3C5Y7B2Q4R6T8 -o json"
    )]
    Show(Show),
    /// The newest entries, and what comes
    #[command(after_help = "\
Examples:
  keyward audit tail -f
  keyward audit tail -f --since 1h --outcome failure -o jsonl

Ends with Ctrl-C, and goes on where it was when the daemon is restarted.")]
    Tail(Tail),
    /// How many entries of which kind, and what is open
    Stats(Stats),
    /// Check the whole log, without a daemon and without writing anything
    #[command(after_help = super::verify::HELP)]
    Verify(Verify),
    /// Write the proof that an entry is in the log: a file that stands for itself
    #[command(after_help = super::prove::HELP)]
    Prove(Prove),
    /// Check such a file, without daemon, database or network
    #[command(after_help = super::prove::CHECK_HELP)]
    CheckProof(CheckProof),
    /// Delete private texts that an entry commits to; the entry stays as it is
    #[command(after_help = "\
Examples:
  keyward audit forget 4711 --plan
  keyward audit forget 4711 --key text       one text of the entry
  keyward audit forget 4711 --key actor      who did it: in every entry that names them

What the texts are: keyward audit show ID. The log stays whole and can be verified: an entry holds only a hash of the
text and of a random salt, and both are deleted. You are named in the audit log. Copies in backups are not touched.")]
    Forget(Forget),
    /// Write the log for others: static files, events, tables, or to a webhook
    #[command(after_help = super::export::HELP)]
    Export(Export),
    /// Move the oldest entries into a shard of static files; the daemon must be stopped
    #[command(after_help = super::freeze::HELP)]
    Freeze(Freeze),
    /// Print the public key of the log, for its witnesses and for whoever verifies it
    Key,
    /// Give the log a new key; the daemon must be stopped
    #[command(after_help = "\
Examples:
  keyward audit rotate-key --plan
  keyward audit rotate-key --overlap-days 30
  keyward audit rotate-key --end-overlap

Both keys sign until the overlap is over: in that time the witnesses and whoever verifies the log must learn the new one.
The old private key is destroyed at the first start after it. You are named in the audit log.")]
    RotateKey(RotateKey),
}

/// How.
#[derive(Debug, Clone, Args)]
pub(in crate::shell::cli) struct RotateKey {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) plan: bool,
    /// For how many days both keys sign
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=366))]
    pub(super) overlap_days: u16,
    /// End the overlap of an earlier rotation now
    #[arg(long, conflicts_with = "overlap_days")]
    pub(super) end_overlap: bool,
}

/// Which entries.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Conditions")]
pub(in crate::shell::cli) struct Filter {
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// About this credential
    #[arg(long, value_name = "ID")]
    pub(super) credential: Vec<String>,
    /// About this approval path
    #[arg(long, value_name = "ID")]
    pub(super) path: Vec<String>,
    /// About or with this CA
    #[arg(long, value_name = "ID")]
    pub(super) issuer: Vec<String>,
    /// About this service
    #[arg(long, value_name = "ID")]
    pub(super) service: Vec<String>,
    /// What was done, or how it begins: certificate.issue, gate
    #[arg(long, value_name = "ACTION")]
    pub(super) action: Vec<String>,
    /// How much hangs on it, 0 to 4
    #[arg(long, value_name = "N")]
    pub(super) tier: Vec<String>,
    /// By whom: automation, human, uid:1000
    #[arg(long, value_name = "WHO")]
    pub(super) actor: Vec<String>,
    /// Approved by
    #[arg(long, value_name = "WHO")]
    pub(super) approver: Vec<String>,
    /// About this exception
    #[arg(long, value_name = "ID")]
    pub(super) exception: Vec<String>,
    /// About this incident
    #[arg(long, value_name = "ID")]
    pub(super) incident: Vec<String>,
    /// success, failure, denied or unknown
    #[arg(long, value_name = "WORD")]
    pub(super) outcome: Vec<String>,
    /// intent, outcome or event
    #[arg(long, value_name = "WORD")]
    pub(super) phase: Vec<String>,
    /// A code or how it begins: KW2302, KW23
    #[arg(long, value_name = "CODE")]
    pub(super) code: Vec<String>,
    /// A code, or words that stand in what is documented about it
    #[arg(long, value_name = "WORDS")]
    pub(super) text: Vec<String>,
    /// Everything of one attempt
    #[arg(long, value_name = "ID")]
    pub(super) correlation: Vec<String>,
}

impl Filter {
    /// The parameters of the question.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
        let all = [
            ("since", one(&self.since)),
            ("until", one(&self.until)),
            ("credential", self.credential.clone()),
            ("path", self.path.clone()),
            ("issuer", self.issuer.clone()),
            ("service", self.service.clone()),
            ("action", self.action.clone()),
            ("tier", self.tier.clone()),
            ("actor", self.actor.clone()),
            ("approver", self.approver.clone()),
            ("exception", self.exception.clone()),
            ("incident", self.incident.clone()),
            ("outcome", self.outcome.clone()),
            ("phase", self.phase.clone()),
            ("code", self.code.clone()),
            ("text", self.text.clone()),
            ("correlation", self.correlation.clone()),
        ];
        all.into_iter().flat_map(|(name, values)| values.into_iter().map(move |v| (name.to_owned(), v))).collect()
    }
}

/// Where the log is read.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::shell::cli) struct Place {
    /// Read this state directory instead of asking the daemon; nothing is written there
    #[arg(long, value_name = "DIR")]
    pub(in crate::shell::cli) database: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Query {
    #[command(flatten)]
    pub(super) filter: Filter,
    /// At most so many entries
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) limit: u32,
    /// Go on where an answer ended
    #[arg(long, value_name = "CURSOR")]
    pub(super) cursor: Option<String>,
    /// From the beginning of the log on
    #[arg(long, conflicts_with = "cursor")]
    pub(super) oldest_first: bool,
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Show {
    /// Its id, or its place in the log
    pub(super) id: String,
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Tail {
    /// Go on with what comes
    #[arg(long, short)]
    pub(super) follow: bool,
    /// So many of the newest first, unless --since is given
    #[arg(long, short = 'n', default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub(super) lines: u16,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Stats {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Forget {
    /// The entry, by its id or its place in the log
    pub(super) id: String,
    /// Which text; all but the actor's name if it is not given
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Print what would be forgotten, and forget nothing
    #[arg(long)]
    pub(super) plan: bool,
}
