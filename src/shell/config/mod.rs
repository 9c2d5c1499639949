//! The configuration file: from text to [`Settings`], with every problem shown where it stands.
//!
//! ```text
//! text ─► raw (TOML with places) ─► validate (all rules, all problems at once) ─► Settings
//!                                         └─► ConfigError (file:line:col, caret, what is wrong, how to mend it)
//! ```
//! Refuses to know what is done with the settings: no adapter is named, nothing is opened or bound. What can only be
//! told by looking at the machine is [`verify_host`]'s business.

mod diagnostic;
mod directory;
mod host;
mod policy;
mod raw;
pub mod sample;
mod settings;
mod validate;

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use self::diagnostic::{Colour, ConfigError, Problem};
pub use self::directory::{Binding, DirectoryLimits, DirectoryPlace, DirectorySettings, DirectoryValidation, Waiting};
pub use self::host::{Check, Group, Level, verify_host};
pub use self::policy::{
    Case, Cases, Expect, LONGEST_POLICY, load_cases, load_contract, load_policy, parse_cases, parse_contract,
    parse_policy,
};
pub use self::settings::{
    AuditSettings, AuditWitness, DnsUpdate, Eab, GateSocket, GateTls, HttpChallenge, IssuerSettings, KeyholderSettings,
    Listen, Passphrase, Propagation, Settings, SolverKind, SolverSettings, TsigAlgorithm, UnixSocket, Witness,
    WorkloadApi,
};

/// A file is at most this long: 20,000 certificates ([`MOST_CERTIFICATES`]) of 800 bytes each fit.
pub const LONGEST_FILE: usize = 16 * 1_024 * 1_024;
/// At most this many certificates, and as many observed credentials: twice what one sidecar is made for.
pub const MOST_CERTIFICATES: usize = 20_000;

/// What the command line may say over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Run as a dry run whatever the file says. There is no override the other way.
    pub staging: bool,
    /// Another state directory.
    pub state_dir: Option<PathBuf>,
}

/// Reads and validates a file, and those that it names.
///
/// # Errors
/// Every problem found, as one report; also a file that cannot be read or is too long.
pub fn load(path: &Path, overrides: Overrides) -> Result<Settings, ConfigError> {
    let name = path.display().to_string();
    let text = read(path, LONGEST_FILE).map_err(|what| ConfigError::about_file(&name, what))?;
    let mut settings = validate::document(&name, &text, overrides, Some(path.parent().unwrap_or(Path::new(""))))?;
    settings.path = Some(path.to_path_buf());
    Ok(settings)
}

/// Validates a text; reads no file but the system's time zones, so it may name none. `source_name` stands in the report.
///
/// # Errors
/// Every problem found, as one report.
pub fn parse(source_name: &str, text: &str, overrides: Overrides) -> Result<Settings, ConfigError> {
    validate::document(source_name, text, overrides, None)
}

/// A file's text, at most so long.
fn read(path: &Path, longest: usize) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("it cannot be opened: {e}"))?;
    let limit = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|e| format!("it cannot be read: {e}"))?;
    if bytes.len() > longest {
        return Err(format!("it has more than {longest} bytes, and no more are read"));
    }
    String::from_utf8(bytes).map_err(|e| format!("byte {} is not UTF-8; TOML files are", e.utf8_error().valid_up_to()))
}
