//! Exporting and freezing the audit log, `KW65xx`.

use super::{Entry, row};

const RESUME: &str = "Run the same command again: it goes on where it was.";

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6501",
        "not a place for this export",
        "Something else lies where the log should be exported to: other files, an export in another format, another export that runs now, or files that were changed since they were exported.",
        "Name a new directory or cursor file; nothing was written.",
    ),
    row(
        "KW6502",
        "the export could not be written",
        "A file could not be read or written. What was exported before is whole.",
        RESUME,
    ),
    row(
        "KW6503",
        "the export is of another history",
        "What was exported before is not the beginning of this log. One of them is not the log that it is said to be.",
        "Keep both. Run keyward audit verify on the log with --against the checkpoint of the export, and find out which of the two was changed.",
    ),
    row(
        "KW6504",
        "the log is older than its export",
        "More entries were exported before than this log has: it was rolled back, perhaps by restoring an old copy.",
        "Keep both. The export holds what the log has lost; run keyward audit verify with --against its checkpoint.",
    ),
    row(
        "KW6505",
        "entries are not in this log",
        "Entries that should be exported are not there: they were frozen and taken away, or they were removed.",
        "If they were frozen, take them from the frozen shards. Otherwise run keyward audit verify.",
    ),
    row(
        "KW6506",
        "entries are not what was signed",
        "The entries do not lead to the root of the newest signed checkpoint, or its signature is wrong. Nothing of them was exported.",
        "Copy the state directory before anything else, and run keyward audit verify, which says where it begins.",
    ),
    row(
        "KW6507",
        "nothing says whose log it is",
        "There is no signed checkpoint, or no key is known that could have signed it.",
        "Give the log's key with --key; keyward audit key prints it on the machine of the log.",
    ),
    row(
        "KW6508",
        "the receiver refuses the entries",
        "The webhook answered with an error that the same request would get again.",
        "Mend the receiver, or the URL and the secret, and run the same command again: it goes on with the batch that was refused.",
    ),
    row(
        "KW6509",
        "the receiver cannot be reached",
        "The webhook gave no answer, or asked to come later, for longer than one run waits.",
        RESUME,
    ),
    row(
        "KW6510",
        "options of an export that do not fit",
        "The URL, the secret file or the options cannot be used as they are; the message says which.",
        "Correct them; nothing was written.",
    ),
    row(
        "KW6520",
        "entries were frozen",
        "Somebody had the oldest entries written as a shard of static files and deleted here. The entry names the run (`from` to `until`), the root over everything up to its end, the SHA-256 of the shard's manifest, and that of what the frozen entries leave behind (`beginning`).",
        "Keep the shard: whoever verifies the whole log needs it (keyward audit verify --shard DIR).",
    ),
];
