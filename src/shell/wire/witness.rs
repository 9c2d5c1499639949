//! Puts the witness together, and the witnesses of our own log.

use std::path::Path;
use std::sync::Arc;

use core::time::Duration;

use super::{LONGEST_ROOTS, WireError, read};
use crate::adapters::store;
use crate::adapters::witness::{ClientConfig, FileCosigner, Publisher, PublisherConfig, SeenFiles, key};
use crate::codec::add_checkpoint::Logs;
use crate::codec::pem;
use crate::codec::tlog_policy::{LONGEST_POLICY, Policy, Unsaid};
use crate::ports::{Clock, Cosigner, Notifier, OwnLog};
use crate::shell::config::{AuditWitness, Settings, Witness};

/// What was cosigned lies here, below the state directory.
const SEEN: &str = "witness";
/// A bundle has at most so many roots: the system's has some 150.
const MOST_ROOTS: usize = 1_024;
/// A witness answers after a flush; the start waits for it, and so may an action of tier 0.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Keyward as a witness: reads its key and what it saw last.
///
/// # Errors
/// [`WireError`] says what to mend. Nothing is bound yet.
pub fn cosigner(settings: &Witness, state_dir: &Path, clock: Arc<dyn Clock>) -> Result<Arc<dyn Cosigner>, WireError> {
    let key = key::load(&settings.key_file).map_err(WireError::Host)?;
    let files = SeenFiles::open(&state_dir.join(SEEN)).map_err(WireError::Host)?;
    let logs = Logs::new(settings.logs.iter().cloned());
    Ok(Arc::new(FileCosigner::open(key, logs, files, clock).map_err(WireError::Host)?))
}

/// Makes a witness's key and gives the public half.
///
/// # Errors
/// A sentence; nothing was overwritten.
pub fn make_witness_key(path: &Path, name: &str) -> Result<String, String> {
    key::make(path, name, &*super::entropy())
}

/// The public half of a witness's key.
///
/// # Errors
/// A sentence.
pub fn witness_key(path: &Path) -> Result<String, String> {
    key::load(path).map(|key| key.verifier().to_string())
}

/// Reads the policy of those who witness our own log.
///
/// # Errors
/// [`WireError`] names the file, the line, and what is wrong.
pub fn policy(path: &Path) -> Result<Policy, WireError> {
    let longest = u64::try_from(LONGEST_POLICY).unwrap_or(u64::MAX);
    let bytes = read(path, longest)?;
    Policy::parse(&bytes, Unsaid::AnyWitness).map_err(|e| WireError::Host(format!("{}: it {e}", path.display())))
}

/// Whoever shows our log to its witnesses; asks nobody yet.
///
/// # Errors
/// [`WireError`] says what to mend.
pub fn publisher(
    settings: &AuditWitness,
    log: Arc<dyn OwnLog>,
    clock: Arc<dyn Clock>,
    notifier: Arc<dyn Notifier>,
) -> Result<Publisher, WireError> {
    let mut roots = Vec::new();
    for file in &settings.root_files {
        let ders = pem::certificates_in(&read(file, LONGEST_ROOTS)?, MOST_ROOTS);
        let ders = ders.map_err(|e| WireError::Host(format!("{}: {e}", file.display())))?;
        roots.extend(ders.iter().map(|der| der.to_vec()));
    }
    let config = PublisherConfig {
        policy: policy(&settings.policy)?,
        every: settings.every,
        lag: settings.lag,
        demand_tier: settings.demand_tier,
        client: ClientConfig { timeout: TIMEOUT, roots },
    };
    let path = settings.policy.display();
    Publisher::new(config, log, clock, notifier).map_err(|e| WireError::Host(format!("{path}: {e}")))
}

/// The public keys of the log in a state directory: the newest first, then the one before it while both sign.
///
/// # Errors
/// [`WireError`].
pub fn log_keys(state_dir: &Path) -> Result<Vec<String>, WireError> {
    Ok(store::public_keys(state_dir)?)
}

/// Gives the log a new key; no daemon may hold the state directory.
///
/// # Errors
/// [`WireError`].
pub fn rotate_log_key(settings: &Settings, by: Arc<str>, overlap: Duration) -> Result<store::Rotated, WireError> {
    let options = super::log_options(settings, super::clock().now(), super::entropy());
    Ok(store::rotate_key(&settings.state_dir, &options, &store::Rotation { by, overlap })?)
}

/// Ends the overlap of a rotation; `false` if there is none.
///
/// # Errors
/// [`WireError`].
pub fn end_log_key_overlap(settings: &Settings) -> Result<bool, WireError> {
    let options = super::log_options(settings, super::clock().now(), super::entropy());
    Ok(store::end_overlap(&settings.state_dir, &options)?)
}
