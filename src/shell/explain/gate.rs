//! Reasons for which an approval path is closed, `KW4xxx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4001",
        "unknown credential",
        "The path names a credential that is not configured.",
        "Mend `needs` of the path.",
    ),
    row("KW4002", "missing", "A needed credential has no certificate.", "Reopens by itself once one is installed."),
    row(
        "KW4003",
        "unreadable",
        "A needed credential cannot be read or was not looked at yet. Unknown is closed.",
        "Reopens by itself once it can be read.",
    ),
    row(
        "KW4004",
        "out of time",
        "A needed certificate, or an element of its chain, is expired or not valid yet.",
        "Reopens once a valid one is in place and served.",
    ),
    row(
        "KW4005",
        "inside the margin",
        "Something that the path stands on ends within the path's margin: the path closes before its trust lapses.",
        "Reopens once it is renewed and served.",
    ),
    row("KW4006", "untrusted", "A chain does not lead to a trusted root.", "Mend the chain, or name the root."),
    row(
        "KW4007",
        "not served",
        "An endpoint does not present the stored certificate, or was not seen.",
        "Reload or mend the server; reopens by itself.",
    ),
    row(
        "KW4008",
        "stale",
        "No evaluation was completed within the deadline: the daemon hangs, or has just started.",
        "Check the daemon; reopens with the next evaluation.",
    ),
    row(
        "KW4009",
        "clocks disagree",
        "The wall clock stepped, so expiry dates cannot be judged.",
        "Mend the time, or run `keyward clock accept` if the new time is right.",
    ),
    row(
        "KW4010",
        "unknown path",
        "No such path is configured. Unknown is closed.",
        "Mend the URL or the configuration.",
    ),
    row(
        "KW4011",
        "nothing can be recorded",
        "The state or the audit log cannot be written.",
        "Mend the disk; reopens once a record was written.",
    ),
    row(
        "KW4012",
        "wrong names",
        "A needed certificate does not cover its configured names.",
        "Reopens once the right one is in place.",
    ),
    row(
        "KW4013",
        "entries wait for the audit log",
        "Something was closed and could not be recorded, or what an earlier run left in the spool cannot be read. Nothing reopens before it is in the log.",
        "Mend the disk of the state directory, and the spool's; reopens by itself.",
    ),
    row(
        "KW4014",
        "an outcome is not recorded",
        "Something was done, and what came of it could not be written into the audit log.",
        "Mend the disk of the state directory; reopens once it is recorded, or after a restart that looks at what is there.",
    ),
];
