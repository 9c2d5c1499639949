//! What happens when the audit log cannot be written or believed, `KW603x` and `KW604x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6030",
        "audit_unavailable",
        "Something that adds authority was asked for, and its entry could not be made durable within two seconds. Nothing was done.",
        "Mend the disk of the state directory: space, mount, hardware; `keyward status` says what failed. Then ask again.",
    ),
    row("KW6031", "the audit log can be written again", "A commit succeeded after some that failed.", "Nothing."),
    row(
        "KW6032",
        "heartbeat",
        "Every five minutes an entry says that the guardian is there, so that a log whose end was cut off shows by its age.",
        "If the newest entry is older than ten minutes and the daemon runs: `keyward audit verify`.",
    ),
    row(
        "KW6033",
        "spooled entries are in the log",
        "What was closed while the log could not be written is recorded now, with the times at which it happened; gates may open again.",
        "Nothing.",
    ),
    row(
        "KW6034",
        "more than the spool holds",
        "So many more acts that remove authority happened than found room in the spool; each was carried out, and they are counted here.",
        "Find out why the log could not be written for so long.",
    ),
    row(
        "KW6035",
        "a spooled line that is not understood",
        "The spool held a line that is cut off or of a newer version; it stands in the entry as it was found.",
        "After a power cut: nothing. Otherwise find out who wrote to the spool's file.",
    ),
    row(
        "KW6036",
        "reconciled after a restart",
        "An effect was announced and its outcome was not recorded; the restart looked at what is really there and recorded that, or that nobody can tell.",
        "If the outcome is unknown: look yourself; for an account's key, `keyward issuer rollover NAME` makes a new one.",
    ),
    row(
        "KW6037",
        "the spool cannot be kept",
        "Entries that wait for the audit log are in memory only: the spool's file cannot be written either.",
        "Mend its volume, or name a file on another one: `spool` in `[audit]`. Do not restart before.",
    ),
    row(
        "KW6040",
        "sealed: the state is damaged",
        "The state directory is there, and what lies in it is no sound database of Keyward, or may be replaced by others. The guardian answers every gate closed and does nothing else.",
        "Read the text, which names file and reason. Mend its cause, or restore the state directory from a backup, then restart keyward.",
    ),
];
