//! The command line: noun, then verb. Data goes to standard output, everything else to standard error.
//!
//! Refuses to know the guardian's insides: whatever is about a running daemon is asked through its admin socket, and
//! whatever is about files is read here.

mod args;
mod audit;
mod acme;
mod ca;
mod ca_offline;
mod cert;
mod client;
mod console;
mod freeze;
mod gate;
mod gate_args;
mod gate_story;
mod host;
mod keep;
mod key;
mod keyholder;
mod link;
mod meaning;
mod plans;
mod policy;
mod proof;
mod renew;
mod rotation;
mod snippet;
mod thaw;
mod witness;
mod workload;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use self::args::{Cert, Cli, Clock, Command, Common, Config, Format, Issuer, Output};
use self::client::Daemon;
use self::console::{Console, Exit, Failure};
use self::gate_args::Gate;
use crate::shell::http::model::Accepted;
use crate::shell::{daemon, demo};

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let console = Console::new();
    let parsed = args::command().try_get_matches().and_then(|m| Cli::from_arg_matches(&m));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output for help that was asked for, standard error for the rest.
            error.print().ok();
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() });
        }
    };
    let run = Run { console, output: output(cli.common.format), common: cli.common };
    match run.dispatch(cli.command) {
        Ok(Ending::Exit(exit)) => ExitCode::from(exit.code()),
        Ok(Ending::Code(code)) => code,
        Err(failure) => {
            console.fail(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// How a command ended.
enum Ending {
    Exit(Exit),
    /// Daemon and demo have the last word themselves.
    Code(ExitCode),
}

/// What every command works with.
struct Run {
    console: Console,
    common: Common,
    /// What `common.format` is for commands without lines.
    output: Output,
}

type Done = Result<Exit, Failure>;

impl Run {
    fn dispatch(&self, command: Command) -> Result<Ending, Failure> {
        if !matches!(command, Command::Audit(_)) {
            no_lines(self.common.format)?;
        }
        let done = match command {
            Command::Init(init) => self.init(&init),
            Command::Check(check) => self.check(&check),
            Command::Cert(Cert::List) => self.cert_list(),
            Command::Cert(Cert::Show { name }) => self.cert_show(&name),
            Command::Cert(Cert::Why { name }) => self.cert_why(&name),
            Command::Cert(Cert::History { name, limit }) => self.cert_history(&name, limit),
            Command::Cert(Cert::Renew(renew)) => self.cert_renew(&renew),
            Command::Cert(Cert::Scan) => self.start("/v1/scan"),
            Command::Gate(Gate::Status) => self.gate_status(),
            Command::Gate(Gate::Check { path }) => self.gate_check(&path),
            Command::Gate(Gate::Keys) => self.gate_keys(),
            Command::Gate(Gate::RotateKey { finish }) => self.gate_rotate_key(finish),
            Command::Gate(Gate::Hold(hold)) => self.gate_hold(&hold),
            Command::Gate(Gate::Probe(probe)) => self.gate_probe(&probe),
            Command::Gate(Gate::Lint(lint)) => self.gate_lint(&lint),
            Command::Gate(Gate::Graph(graph)) => self.gate_graph(&graph),
            Command::Gate(Gate::Explain { path, at }) => self.gate_explain(&path, at.as_deref()),
            Command::Gate(Gate::Replay { file, key }) => self.gate_replay(&file, key.as_deref()),
            Command::Gate(Gate::Watch { path, until, span }) => self.gate_watch(path.as_deref(), until, span),
            Command::Gate(Gate::Reopen { path, reason, planned }) => self.gate_reopen(&path, reason, &planned),
            Command::Gate(Gate::Compromised { key, planned }) => self.gate_compromised(&key, &planned),
            Command::Freeze(freeze) => self.freeze(&freeze),
            Command::Ca(command) => self.ca(command),
            Command::Key(command) => self.key(command),
            Command::Acme(command) => self.acme(command),
            Command::Snippet(snippet) => self.snippet(&snippet),
            Command::Backup(backup) => self.backup(&backup),
            Command::Restore(restore) => self.restore(&restore),
            Command::Doctor(doctor) => self.doctor(&doctor),
            Command::Link(link::Link::Status) => self.link_status(),
            Command::Workload(workload::Workload::Status) => self.workload_status(),
            Command::Status => self.status(),
            Command::Config(Config::Check) => self.config_check(),
            Command::Config(Config::Explain { name }) => self.config_explain(name.as_deref()),
            Command::Config(Config::Reload(planned)) => self.reload(&planned),
            Command::Policy(command) => self.policy(command),
            Command::Issuer(Issuer::Rollover { issuer, planned }) => self.rollover(&issuer, &planned),
            Command::Clock(Clock::Accept(planned)) => self.accept_clock(&planned),
            Command::Audit(audit) => self.audit(&audit),
            Command::Explain { code, all: _, place } => self.explain(code.as_deref(), &place),
            Command::Witness(command) => return self.witness(command),
            Command::Keyholder(holder) => return self.keyholder(&holder),
            Command::DemoHook { dir } => return Ok(Ending::Code(demo::hook(&dir))),
            Command::Demo(demo) => return Ok(Ending::Code(demo::run(&demo.into()))),
            Command::Run => {
                let config = client::config_path(&self.common)?;
                return Ok(Ending::Code(daemon::run(&daemon::Options { config, staging: self.common.staging })));
            }
        };
        done.map(Ending::Exit)
    }

    /// The daemon of the configuration, or at the named socket.
    fn daemon(&self) -> Result<Daemon, Failure> {
        let staging = if self.common.staging { " --staging" } else { "" };
        if let Some(socket) = &self.common.socket {
            let config = self.common.config.as_ref().map_or("FILE".to_owned(), |c| c.display().to_string());
            return Daemon::at(socket.clone(), format!("keyward run{staging} -c {config}"));
        }
        let path = client::config_path(&self.common)?;
        let settings = client::settings(&path, &self.common).map_err(|error| {
            self.console.note(error.report(self.console.report_colour()));
            let text = "the configuration names the daemon's socket, and it cannot be used";
            Failure::new(Exit::BadConfig, text, "mend it, or name the socket: --socket PATH")
        })?;
        Daemon::at(settings.listen.admin_socket, format!("keyward run{staging} -c {}", path.display()))
    }

    /// Has the daemon start something that answers with a sentence.
    fn start(&self, path: &str) -> Done {
        self.start_with(path, &serde_json::json!({}))
    }

    fn start_with(&self, path: &str, body: &impl serde::Serialize) -> Done {
        let daemon = self.daemon()?;
        let accepted: Accepted = daemon.post(path, body)?;
        self.banner(&daemon);
        self.console.note(accepted.text);
        Ok(Exit::Ok)
    }

    /// In a dry run every output says so: where people read, and beside what programs read. So does a freeze.
    fn banner(&self, daemon: &Daemon) {
        const TEXT: &str = "STAGING: a dry run; nothing in production is touched";
        if daemon.is_staging() {
            match self.common.format {
                Format::Table => self.console.out(TEXT),
                Format::Json | Format::Name | Format::Csv | Format::Jsonl => self.console.note(TEXT),
            }
        }
        match daemon.freezes() {
            0 => {}
            1 => self.console.note("FROZEN: a freeze is in force; keyward freeze list says more"),
            many => self.console.note(format!("FROZEN: {many} freezes are in force; keyward freeze list says more")),
        }
    }
}

fn output(format: Format) -> Output {
    match format {
        Format::Table | Format::Csv | Format::Jsonl => Output::Table,
        Format::Json => Output::Json,
        Format::Name => Output::Name,
    }
}

/// Refuses formats of one line for each entry where there are no entries.
fn no_lines(format: Format) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Json | Format::Name => Ok(()),
        Format::Csv | Format::Jsonl => {
            let text = "csv and jsonl are for lists of the audit log: keyward audit query, show and tail";
            Err(Failure::new(Exit::Usage, text, "use -o table, json or name"))
        }
    }
}

impl From<args::Demo> for demo::Options {
    fn from(told: args::Demo) -> Self {
        Self {
            dir: told.dir,
            keep: told.keep,
            break_: told.break_.map(|b| match b {
                args::Break::Ca => demo::Break::Ca,
                args::Break::Hook => demo::Break::Hook,
                args::Break::Clock => demo::Break::Clock,
                args::Break::Expiry => demo::Break::Expiry,
            }),
            seconds: told.seconds,
            lifetime: told.lifetime,
            quiet: told.quiet,
        }
    }
}
