//! Reading the audit log, `KW62xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6201",
        "question not understood",
        "A parameter of a question to the audit log is not known or not possible. It is refused rather than passed over, because an answer to another question looks like an answer.",
        "See the hint of the answer, or keyward audit query --help.",
    ),
    row(
        "KW6202",
        "no such entry",
        "The audit log has no entry with this id, at this place, or with this correlation id.",
        "Find it with keyward audit query. If an outside record says that it was there, run keyward audit verify --against that record's checkpoint.",
    ),
    row(
        "KW6203",
        "entry is frozen",
        "The log had an entry at this place. It lies in a shard of frozen entries and not here any more.",
        "Look into the shard whose name has the place between its two numbers: tile/entries holds the entries' bytes.",
    ),
];
