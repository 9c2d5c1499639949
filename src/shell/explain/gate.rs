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
        "Mend the time and run `keyward gate reopen PATH`; or, if the present time is right, `keyward clock accept`. A path that met a step waits for one of them, also after a restart and when the clock was put right.",
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
    row(
        "KW4015",
        "wrong purpose",
        "The certificate's key usage or extended key usage does not allow what the configuration says it is used for.",
        "Put a certificate in place that allows it, or mend `purpose`.",
    ),
    row(
        "KW4016",
        "key overdue",
        "A key is in use for longer than the path's `key_limit` (NIST SP 800-57 part 1, section 5.3). Overdue is not compromised: it serves on, and the path is closed.",
        "Rotate the key: renew with a new one. Reopens once it is seen to be served.",
    ),
    row(
        "KW4017",
        "key compromised",
        "A person reported a key of the chain as compromised. It is never good again, in no certificate.",
        "Put a certificate with another key in place, and revoke those that hold this one.",
    ),
    row(
        "KW4018",
        "revoked",
        "A revocation list of its issuer revokes a certificate of the chain (RFC 5280 section 5).",
        "Put another certificate in place.",
    ),
    row(
        "KW4019",
        "revocation cannot be told",
        "A revocation list that the configuration names is missing, unreadable, out of time or not of an issuer of the chain, or a certificate of the chain is covered by none, neither in a file nor at its distribution point. Unknown is closed.",
        "Put a fresh list of each issuer of the chain in place, or mend why it cannot be fetched (KW4060); reopens by itself.",
    ),
    row(
        "KW4020",
        "the renewer is silent",
        "The issuer that renews a needed certificate had no success for longer than the path's `issuer_silence`.",
        "See `keyward cert why NAME` for what fails; reopens with the next success.",
    ),
    row(
        "KW4021",
        "the configuration cannot be read",
        "The configuration file is gone or unreadable while the daemon runs: what should be guarded is not known any more.",
        "Put the file back; reopens by itself.",
    ),
    row(
        "KW4022",
        "a path that it stands on is closed",
        "The path names another under `depends_on`, and that is closed.",
        "See why the other is closed; reopens once that opens.",
    ),
    row(
        "KW4023",
        "good again, for too short a time",
        "What closed the path is mended. It opens when it was found good three times over `timing.reopen_after`.",
        "Wait: it opens by itself.",
    ),
    row(
        "KW4024",
        "it flaps",
        "The path closed `timing.flaps` times in ten minutes. That is no accident, so only a person opens it again.",
        "Find out why it closes, then `keyward gate reopen PATH --reason TEXT`.",
    ),
    row(
        "KW4050",
        "missed",
        "An endpoint that was good was not reached by the newest looks. While that is so fewer than `misses` times in a row, and for 15 s at most, an open path stays open; nothing opens by it.",
        "See why the endpoint is not reached; over with the first look that reaches it.",
    ),
    row(
        "KW4051",
        "the audit log was broken",
        "The guardian found its own audit log altered, damaged, rolled back or otherwise not to be believed, at a start or while it ran. Nobody knows what was done meanwhile.",
        "Find out what happened and put the log in order (docs/backup.md), then `keyward gate reopen PATH --reason TEXT`.",
    ),
    row(
        "KW4053",
        "the log was not believed before",
        "Entry: an earlier start, or a look at the log in use, did not believe the audit log; this start does. Its rule and when are named.",
        "Every path is latched: find out what happened, then `keyward gate reopen PATH --reason TEXT`.",
    ),
    row(
        "KW4054",
        "paths latched for a broken log",
        "Entry: because the audit log was not believed before, every path stays closed until a person opens it.",
        "Find out what happened, then `keyward gate reopen PATH --reason TEXT`.",
    ),
];
