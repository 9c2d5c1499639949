//! Freezes, `KW407x` and `KW408x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4070",
        "frozen",
        "A freeze is over the path or over what it stands on, and the path says `when_frozen = \"close\"`.",
        "`keyward freeze list` says who froze and why. It opens when the freeze ends or is thawed.",
    ),
    row(
        "KW4071",
        "freeze",
        "A person froze part of what is guarded: nothing is ordered, installed or reloaded there until the freeze ends.",
        "Nothing; it ends by itself. Before that: `keyward freeze thaw ID --reason TEXT`.",
    ),
    row("KW4072", "thawed", "A person ended a freeze before its time. What it held is planned again.", "Nothing."),
    row("KW4073", "freeze ended", "The time of a freeze is over. What it held is planned again.", "Nothing."),
    row(
        "KW4074",
        "stopped by a freeze",
        "A freeze was made after this was planned, and before it was done. What was not ordered yet was ended; what is issued waits in the key store.",
        "Nothing: it is taken up again when the freeze is over.",
    ),
    row(
        "KW4075",
        "nothing to freeze",
        "The scope of a freeze is not understood, or nothing that is configured is under it. A freeze that blocks nothing would deceive whoever relies on it.",
        "Write all, path:NAME, owner:NAME, issuer:NAME or label:KEY=VALUE with names of the configuration.",
    ),
    row(
        "KW4076",
        "no end for a freeze",
        "The end of a freeze is not understood, lies in the past, or is further away than `freeze.longest`.",
        "Name a time to come, or a span such as 4h; freeze again before it ends if it must last longer.",
    ),
    row(
        "KW4077",
        "no reason",
        "A freeze and its thaw want a reason: one line of at most 500 characters.",
        "Say why, and where to read more.",
    ),
    row(
        "KW4078",
        "no such freeze",
        "The freeze was thawed already, has ended, or never was.",
        "`keyward freeze list` shows those in force; `keyward audit query --text freeze` those that were.",
    ),
    row(
        "KW4079",
        "too many freezes",
        "As many freezes are in force as are taken.",
        "Thaw what is not needed any more; one freeze with a wider scope does the work of many.",
    ),
    row(
        "KW4080",
        "the issuer is frozen",
        "A freeze is over the issuer, or over all; its account is not touched meanwhile.",
        "Wait for its end, or thaw it: `keyward freeze list`.",
    ),
    row(
        "KW4081",
        "no freeze by an unbelieved clock",
        "The clock is not believed, so nobody could tell when a freeze would end. Nothing is started meanwhile anyway.",
        "Mend the time, or run `keyward clock accept`; then freeze.",
    ),
];
