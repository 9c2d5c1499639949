//! The guardian's lease key and the files in which leases lie.

use std::path::Path;
use std::sync::Arc;

use super::WireError;
use crate::adapters::{lease_file, signer, store};
use crate::domain::inventory::LeaseFile;
use crate::ports::{Entropy, HostError, Signer};

/// Opens the lease key of a state directory that is held, and makes it with the first start.
///
/// # Errors
/// [`WireError`] says what to mend.
pub(super) fn signer(state_dir: &Path, entropy: Arc<dyn Entropy>) -> Result<Arc<dyn Signer>, WireError> {
    let keys = store::public_keys(state_dir)?;
    // The log was opened, so it has a key, whose name is its origin.
    let origin = keys.first().and_then(|key| key.split('+').next()).unwrap_or_default();
    let signer = signer::FileSigner::open(state_dir, origin, entropy).map_err(|HostError(e)| WireError::Host(e))?;
    Ok(Arc::new(signer))
}

/// Puts a lease into its file. Blocks.
///
/// # Errors
/// A sentence.
pub fn place_lease(file: &LeaseFile, text: &str) -> Result<(), String> {
    lease_file::place(file, text)
}

/// Takes a lease's file away. Blocks.
///
/// # Errors
/// A sentence.
pub fn remove_lease(file: &LeaseFile) -> Result<(), String> {
    lease_file::remove(file)
}
