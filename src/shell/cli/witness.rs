//! `keyward witness`: the key of a witness, and the witness as a process of its own.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::console::{Exit, Failure};
use super::{Ending, Run, client};
use crate::shell::config::Witness as Settings;
use crate::shell::{wire, witness};

#[derive(Debug, Subcommand)]
pub(super) enum Witness {
    /// Make the witness's private key, once
    #[command(after_help = "\
Example:
  keyward witness init --name witness.example/keyward -c /etc/keyward/keyward.toml

Prints the public key, which the operators of logs put into their policies. The file is never overwritten.")]
    Init(Init),
    /// Print the witness's public key
    Key {
        /// The key's file, if it is not the one of the configuration
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Run only the witness in the foreground, without a guardian
    #[command(after_help = "\
Example:
  keyward witness run -c /etc/keyward/witness.toml

Where a guardian runs, it is the witness too if its configuration has [witness]. SIGTERM ends it.")]
    Run,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// What the witness is called: a URL without scheme, for ever
    #[arg(long)]
    name: String,
    /// Where the key goes, if not where the configuration says
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Run {
    pub(super) fn witness(&self, command: Witness) -> Result<Ending, Failure> {
        match command {
            Witness::Init(init) => {
                let path = self.key_file(init.key_file)?;
                let hint = "choose another file, or keep the key that is there: keyward witness key";
                let key = wire::make_witness_key(&path, &init.name);
                let key = key.map_err(|e| Failure::new(Exit::Failed, e, hint))?;
                self.console.note(format!("made   {}", path.display()));
                self.console.note("give the line below to the operators of logs, for their policy");
                self.console.out(key);
                Ok(Ending::Exit(Exit::Ok))
            }
            Witness::Key { key_file } => {
                let path = self.key_file(key_file)?;
                let key = wire::witness_key(&path);
                let key =
                    key.map_err(|e| Failure::new(Exit::Failed, e, "keyward witness init --name NAME makes it"))?;
                self.console.out(key);
                Ok(Ending::Exit(Exit::Ok))
            }
            Witness::Run => Ok(Ending::Code(witness::run(&client::config_path(&self.common)?))),
        }
    }

    fn key_file(&self, named: Option<PathBuf>) -> Result<PathBuf, Failure> {
        if let Some(path) = named {
            return Ok(path);
        }
        let path = client::config_path(&self.common)?;
        let settings = client::settings(&path, &self.common).map_err(|error| {
            self.console.note(error.report(self.console.report_colour()));
            Failure::new(
                Exit::BadConfig,
                "the configuration names the key's file, and it cannot be used",
                "mend it, or use --key-file",
            )
        })?;
        let missing = || {
            let text = format!("{} has no [witness]", path.display());
            Failure::new(Exit::BadConfig, text, "docs/witness.md has one to copy; or use --key-file")
        };
        settings.witness.map(|Settings { key_file, .. }| key_file).ok_or_else(missing)
    }
}
