//! Findings of the engine, `KW1xxx`.

use super::Entry;

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[];
