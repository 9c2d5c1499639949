//! `[audit]`: where parts of the audit trail lie that are better off on another volume than the state.

use std::path::{Path, PathBuf};

use super::scalar;
use crate::domain::inventory::Environment;
use crate::shell::config::diagnostic::Problems;
use crate::shell::config::raw::Section;

/// The spool's file in the state directory.
const SPOOL: &str = "spool";

/// Gives the spool's path. In staging it lies with the state, apart from production's.
pub(super) fn read(
    p: &mut Problems,
    root: &mut Section<'_>,
    environment: Environment,
    state_dir: Option<&Path>,
) -> Option<PathBuf> {
    let section = root.section(p, "audit", "[audit]");
    let said = section.and_then(|mut s| {
        let said = s.parsed(p, "spool", "\"/var/spool/keyward\"", scalar::path);
        s.close(p);
        said
    });
    let said = said.filter(|_| environment == Environment::Production).map(|at| PathBuf::from(at.value));
    said.or_else(|| state_dir.map(|dir| dir.join(SPOOL)))
}
