//! Clocks and the time that passes while nobody runs, `KW4090`–`KW4094`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[row(
    "KW4090",
    "the guardian stood still",
    "No verdict was computed for longer than one lasts: the machine was suspended, or the process stopped or starved. Gates were closed and leases ended meanwhile; what was seen before was forgotten and looked at again.",
    "Nothing after a suspend. Where nobody suspends: find out what stopped or starved it; on a loaded machine give it more processor time.",
)];
