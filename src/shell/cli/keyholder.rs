//! `keyward keyholder`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::console::{Exit, Failure};
use super::{Ending, Run};
use crate::domain::time::DAY;
use crate::shell::keyholder::{self, Life, Lifetimes, Options, Source, TokenOptions, Wanted};
use crate::shell::wire;

pub(super) const HELP: &str = "\
Examples:
  keyward audit key > log.pub
  keyward keyholder --directory /var/lib/keyward-keys --socket /run/keyward-keys/socket \\
      --log-key log.pub --user keyward-keys --peer keyward --passphrase-file /etc/keyward-keys/passphrase
  keyward keyholder … --passphrase-credential vault                    LoadCredentialEncrypted=vault:… of systemd
  keyward keyholder … --passphrase-command age --decrypt --identity /etc/keyward-keys/id /etc/keyward-keys/vault.age

It signs only what the audit log of the guardian announces, and records all that it signs in a log of its own.
Runs in the foreground; SIGTERM ends it at once, and nothing is lost.";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("passphrase").required(true)))]
pub(super) struct Keyholder {
    /// Where the keys and its own log are: its own, at 0700; made if it is not there
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// The keys of the guardian's log, one a line; needed at the first start, and when the log has a new key
    #[arg(long, value_name = "FILE")]
    log_key: Option<PathBuf>,
    /// Who may ask: a user's name or number; may be repeated [default: its own user]
    #[arg(long = "peer", value_name = "USER")]
    peers: Vec<String>,
    /// The group that may open the socket, besides its owner
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// The user that it becomes when root starts it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Start only if the kernel can confine it in every way that it knows
    #[arg(long)]
    require_confinement: bool,
    /// End when standard input ends: with whoever started it
    #[arg(long)]
    ends_with_input: bool,
    /// The longest life of a certificate that is no CA's, in days
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    max_leaf_days: u32,
    /// The longest life of a CA's certificate, in days
    #[arg(long, value_name = "DAYS", default_value_t = 7_305, value_parser = clap::value_parser!(u32).range(1..=36_525))]
    max_ca_days: u32,
    /// The longest life of a revocation list, in days
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=3_660))]
    max_crl_days: u32,
    /// Keys are in a PKCS#11 token, by this module: made in it, never out of it
    #[arg(long, value_name = "FILE", requires_all = ["pkcs11_token", "pkcs11_pin_file"])]
    pkcs11_module: Option<PathBuf>,
    /// The label of the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pkcs11_token: Option<String>,
    /// The PIN of the token is the first line of this file
    #[arg(long, value_name = "FILE", requires = "pkcs11_module")]
    pkcs11_pin_file: Option<PathBuf>,
    /// What the module reads or writes at its work; may be repeated
    #[arg(long = "pkcs11-path", value_name = "PATH", requires = "pkcs11_module")]
    pkcs11_paths: Vec<PathBuf>,
    /// The passphrase is the first line of this file
    #[arg(long, value_name = "FILE", group = "passphrase")]
    passphrase_file: Option<PathBuf>,
    /// The passphrase is this credential of systemd
    #[arg(long, value_name = "NAME", group = "passphrase")]
    passphrase_credential: Option<String>,
    /// The passphrase is what this program prints; takes all that follows, without a shell
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, group = "passphrase")]
    passphrase_command: Option<Vec<String>>,
}

impl Run {
    pub(super) fn keyholder(&self, asked: &Keyholder) -> Result<Ending, Failure> {
        let hint = "keyward keyholder --help shows an example";
        let socket = self.common.socket.clone();
        let socket = socket.ok_or_else(|| Failure::new(Exit::Usage, "--socket PATH is missing", hint))?;
        let passphrase = match (&asked.passphrase_file, &asked.passphrase_credential, &asked.passphrase_command) {
            (Some(path), _, _) => Source::File(path.clone()),
            (None, Some(name), _) => Source::Credential(name.clone()),
            (None, None, command) => Source::Command(command.clone().unwrap_or_default()),
        };
        let pin = asked.pkcs11_pin_file.clone().map(Source::File);
        let token = asked.pkcs11_module.clone().zip(asked.pkcs11_token.clone()).zip(pin);
        let token =
            token.map(|((module, label), pin)| TokenOptions { module, label, pin, paths: asked.pkcs11_paths.clone() });
        let days = |days| DAY.saturating_mul(days);
        let options = Options {
            directory: asked.directory.clone(),
            socket,
            group: asked.group.clone(),
            peers: asked.peers.clone(),
            user: asked.user.clone(),
            passphrase,
            token,
            log_keys: asked.log_key.clone(),
            lives: Lifetimes {
                leaf: days(asked.max_leaf_days),
                ca: days(asked.max_ca_days),
                list: days(asked.max_crl_days),
            },
            life: if asked.ends_with_input { Life::WithInput } else { Life::OwnTerm },
            confinement: if asked.require_confinement { Wanted::Whole } else { Wanted::Possible },
        };
        let console = self.console;
        let why = keyholder::run(&options, wire::clock(), wire::entropy(), &|line| console.note(line));
        let text = format!("the key holder ended: {why}");
        if why == keyholder::GONE {
            console.note(text);
            return Ok(Ending::Code(std::process::ExitCode::SUCCESS));
        }
        Err(Failure::new(Exit::Failed, text, hint))
    }
}
