//! Backup, repair and forgetting, `KW63xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6301",
        "a text was forgotten",
        "A person had private texts deleted that an entry commits to. The entry names the other entry and the keys, never the text.",
        "Nothing. The log stays whole: an entry holds only the hash of the text and of a salt that is gone too.",
    ),
    row(
        "KW6310",
        "no database",
        "`keyward.db` is missing or cannot be opened as a database of Keyward, so nothing in it can be told.",
        "Put a backup back with `keyward restore`.",
    ),
    row(
        "KW6311",
        "entries are lost",
        "Some entries of the audit log cannot be read any more. They are named, and nothing is put in their place.",
        "Put a backup back with `keyward restore`; keep the damaged files for the entries after it.",
    ),
    row(
        "KW6312",
        "entries and checkpoint do not agree",
        "The entries do not have the root that a signed checkpoint states, or no checkpoint over all of them is left. The doctor signs nothing.",
        "Put a backup back with `keyward restore`, and find out who or what changed the file.",
    ),
    row(
        "KW6313",
        "a table is damaged",
        "A table is damaged or is not what the entries give.",
        "`keyward doctor --repair` makes it anew from the log, if that is whole.",
    ),
    row(
        "KW6314",
        "the state is not that of the log",
        "The state's tables cannot be read, or differ from what the log gives when it is replayed.",
        "`keyward doctor --repair` makes them anew from the log.",
    ),
    row(
        "KW6315",
        "evidence is missing",
        "Entries name pieces of evidence that are not there; the entries themselves are not touched by that.",
        "Nothing brings it back but a backup.",
    ),
    row(
        "KW6316",
        "private texts are damaged",
        "Texts beside the log are not those that were written; they are left out.",
        "Nothing brings them back but a backup.",
    ),
    row(
        "KW6317",
        "the lock has seen more",
        "The audit lock has seen more entries than the database has: it is an older copy, or its write-ahead log is missing.",
        "Put the newer files back, or accept the loss: `keyward doctor --accept rolled-back`.",
    ),
    row(
        "KW6320",
        "a backup is not what it says",
        "A file of a backup has another size or hash than its manifest says, or its database is not what was copied.",
        "Take another backup.",
    ),
];
