//! Files that this program makes for people.

use std::fs::OpenOptions;
use std::io::{Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes a file that was not there, with this mode; its contents are durable on return.
///
/// # Errors
/// If there is something by that name, or it cannot be written.
pub(super) fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
