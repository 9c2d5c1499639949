//! The keys that a command was given.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::codec::ledger::{RangedKey, Trust};
use crate::codec::note::{LONGEST_NOTE, Signs, VerifierKey};
use crate::shell::cli::console::{Exit, Failure};

/// The exit code of what nothing can be said about.
const UNVERIFIABLE: Exit = Exit::Verdict(5);

/// Keys that count.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::shell::cli) struct Keys {
    /// A key of the log: NAME+ID+KEY; with @FROM-UNTIL after it only for these sizes of the log
    #[arg(long = "key", value_name = "VKEY")]
    pub(super) keys: Vec<String>,
    /// The key of a witness that must have seen the log: NAME+ID+KEY
    #[arg(long = "witness", value_name = "VKEY")]
    pub(super) witnesses: Vec<String>,
}

impl Keys {
    pub(super) fn trust(&self) -> Result<Trust, Failure> {
        let mut trust = Trust::default();
        for text in &self.keys {
            let key: RangedKey = text.parse().map_err(|e| bad("--key", text, &e))?;
            trust.keys.push(key);
        }
        for text in &self.witnesses {
            let key: VerifierKey = text.parse().map_err(|e| bad("--witness", text, &e))?;
            if key.signs() != Signs::Sightings {
                return Err(bad("--witness", text, &"is the key of a log, not of a witness: give it as --key"));
            }
            trust.witnesses.push(key);
        }
        Ok(trust)
    }
}

fn bad(option: &str, text: &str, error: &dyn core::fmt::Display) -> Failure {
    let hint = "a key is one word: its name, '+', eight hexadecimal digits, '+', base64";
    Failure::new(UNVERIFIABLE, format!("{option} {text}: it {error}"), hint)
}

/// A small file, whole.
pub(super) fn small_file(path: &Path, cap: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(|e| {
        Failure::new(UNVERIFIABLE, format!("cannot read {}: {e}", path.display()), "name a file that you may read")
    })?;
    if bytes.len() > cap {
        let text = format!("{} is longer than {cap} bytes", path.display());
        return Err(Failure::new(UNVERIFIABLE, text, "is it the right file?"));
    }
    Ok(bytes)
}

/// Checkpoints from elsewhere, as text.
pub(super) fn notes(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    let read = |path: &PathBuf| {
        let bytes = small_file(path, LONGEST_NOTE)?;
        Ok((format!("the checkpoint in {}", path.display()), String::from_utf8_lossy(&bytes).into_owned()))
    };
    paths.iter().map(read).collect()
}
