//! The audit log itself and its start, `KW60xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6001",
        "the log was tampered with",
        "The newest checkpoint's signature, or its size and root and the entries, do not agree. The guardian runs sealed: \
         gates answer closed, nothing is issued or installed.",
        "Run `keyward audit verify` to see from where on; restore the state directory from a backup. If only a derived \
         table is damaged, `keyward doctor` makes it anew.",
    ),
    row(
        "KW6002",
        "two histories",
        "The lock has seen another log than this one: as long or longer, but not with the lock's checkpoint as its \
         beginning.",
        "Put the state directory back that belongs to the lock. If the lock is the wrong one, `keyward doctor --accept \
         forked`, which becomes an entry.",
    ),
    row(
        "KW6003",
        "rolled back",
        "The lock has seen more entries than the state has: an old copy of the state directory was put back.",
        "Put the newer state directory back. If it is lost, `keyward doctor --accept rolled-back`, which becomes an entry: \
         what came after the copy stays unknown.",
    ),
    row(
        "KW6004",
        "the lock is missing",
        "There are entries, and no lock that says how many were acknowledged: the file was removed, or its volume is not \
         mounted.",
        "Mount the volume or put the file back; see `[audit] lock`. If it is lost, `keyward doctor --accept lock-missing`, \
         which becomes an entry.",
    ),
    row(
        "KW6005",
        "the clock went back",
        "It is earlier by the clock than when the newest entry was written.",
        "Set the clock. If it was wrong when the entry was written, `keyward doctor --accept clock-back`, which becomes an \
         entry.",
    ),
    row(
        "KW6006",
        "the lock is damaged",
        "Neither half of the lock can be read, or what it holds is not signed by the key of this log: it may be that of \
         another installation.",
        "Put the log's own lock back; see `[audit] lock`. If it is lost, `keyward doctor --accept lock-damaged`, which \
         becomes an entry.",
    ),
    row(
        "KW6007",
        "the log's key is missing",
        "There is a log, and `log.key` is not in the state directory.",
        "Put it back from a backup.",
    ),
    row(
        "KW6008",
        "unacknowledged tail accepted",
        "The guardian was cut off after it wrote and before the lock was advanced. Those entries are whole and were kept; \
         nobody was told of them before.",
        "Nothing. If it happens without a crash or a power cut, see whether the lock's volume is sound.",
    ),
    row(
        "KW6009",
        "accepted by a person",
        "A rule of the start refused the log, and a person accepted it; the entry names the rule and what was seen.",
        "Nothing, if it was you.",
    ),
    row(
        "KW6010",
        "the log is gone",
        "There is a log's key in the state directory, and neither entries nor a lock: the database and the lock were \
         deleted.",
        "Put the state directory back from a backup. To begin another log with a key of its own, move `log.key` away.",
    ),
];
