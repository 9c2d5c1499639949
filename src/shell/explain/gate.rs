//! Reasons of the gate, `KW4xxx`.

use super::Entry;

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[];
