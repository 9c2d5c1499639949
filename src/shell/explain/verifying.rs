//! Findings of `keyward audit verify`, `KW61xx`; docs/audit-verify.md says which exit code each leads to.

use super::{Entry, row};

const KEEP: &str = "Copy the state directory before anything else. The output says which entries are still proved; find out who or what wrote there, and restore from a backup that verifies.";

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6101",
        "entry altered",
        "The bytes of an entry are not those that were hashed when it was written, or its stored hash was altered.",
        KEEP,
    ),
    row(
        "KW6102",
        "entry missing or out of order",
        "An entry does not have the number after the one before it: one was removed, inserted or moved.",
        KEEP,
    ),
    row(
        "KW6103",
        "column differs",
        "The number, id or time beside an entry or a checkpoint is not what it says itself.",
        KEEP,
    ),
    row(
        "KW6104",
        "no entry",
        "Something stands where an entry must be that is no canonical JSON, or not in the form of an entry.",
        KEEP,
    ),
    row(
        "KW6105",
        "chain broken",
        "An entry names another entry than the last one about the same target as the one before it.",
        KEEP,
    ),
    row(
        "KW6106",
        "intent and outcome do not fit",
        "An outcome concludes no intent that is open, or one about something else.",
        KEEP,
    ),
    row(
        "KW6107",
        "another root",
        "The entries together have another hash than a signed checkpoint says: at least one of them was changed, with its stored hash.",
        KEEP,
    ),
    row(
        "KW6108",
        "checkpoint not signed",
        "A checkpoint is no signed note, its signature is wrong, or no key that counts has signed it.",
        "If the log's key was changed, give the newer key too (--key VKEY@FROM-UNTIL says for which sizes). Else as for an altered entry.",
    ),
    row(
        "KW6109",
        "another history",
        "A checkpoint from outside has another root for the same number of entries: the log was made anew or edited after that checkpoint.",
        KEEP,
    ),
    row(
        "KW6110",
        "rolled back",
        "A checkpoint from outside, or the audit lock, has seen more entries than there are: what lies here is an older copy.",
        "Find the newer one. Going on from here loses entries; if it must be, see keyward explain KW6003.",
    ),
    row(
        "KW6111",
        "incomplete",
        "Entries or files that a signed checkpoint covers are missing at the end.",
        "Fetch or restore them: an export that was interrupted can be resumed. In a database nothing cuts the end off by itself.",
    ),
    row(
        "KW6112",
        "entries behind the newest checkpoint",
        "There are more entries than the newest checkpoint covers. Keyward writes both at once, so something else has written the entries.",
        KEEP,
    ),
    row(
        "KW6113",
        "derived table differs",
        "The index, the stored subtrees or the open intents are not what the entries say. The entries themselves may be right.",
        "If nothing else was found, the derived tables can be made anew from the entries; find out first what changed them.",
    ),
    row(
        "KW6114",
        "evidence or private text altered",
        "Bytes that an entry names by their hash are others. Deleted ones are not a finding: they are only counted.",
        KEEP,
    ),
    row(
        "KW6115",
        "witness",
        "A witness's signature is wrong, or a witness that was asked for has seen no checkpoint of this log.",
        "If it is missing, wait until the witness was asked, or look why it is not; without it the newest entries rest on the log's key alone.",
    ),
    row(
        "KW6116",
        "no key or no checkpoint",
        "Nothing says what the log should be: no key is known for it, or it has no checkpoint.",
        "Give the log's key with --key; ask whoever began the log, or look at what was saved then.",
    ),
    row(
        "KW6117",
        "cannot be read",
        "The log, the lock or a file could not be read to its end.",
        "The text says why: rights, a disk that fails, a server that does not answer. Verify again.",
    ),
    row(
        "KW6118",
        "the clock went back",
        "An entry is of an earlier time than one before it, and no entry says that a person vouched for the clock. A warning: the order is proved by the tree, not by the times.",
        "Find out who stepped the clock.",
    ),
    row(
        "KW6119",
        "proof wrong",
        "A proof file does not lead from its entry to its checkpoint, or is no proof.",
        "Ask for it again; if it stays so, the entry was not in that log.",
    ),
    row(
        "KW6120",
        "shard altered",
        "A file of a shard of frozen entries is not the one that was frozen, or a shard, or what the log keeps of the frozen entries, is not what the entry of the freeze says. Entries that are missing without such an entry were not frozen but removed.",
        "Take the shard from another copy. If no copy fits the log, compare the log with a checkpoint from elsewhere (--against).",
    ),
    row(
        "KW6121",
        "frozen entries not read",
        "The oldest entries lie in shards, and these were not given, or not all of them. A warning if none is missing in between: the signed roots cover the entries all the same.",
        "Give the directory of the shards with --shard.",
    ),
];
