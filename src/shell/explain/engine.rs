//! Findings of the engine, `KW1xxx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW1001",
        "no certificate is stored",
        "The place where the certificate should be is empty.",
        "For a managed credential: `keyward cert why NAME` says what comes next. For a watched one: check the path, and ask its owner.",
    ),
    row(
        "KW1002",
        "what is stored cannot be read",
        "The file exists, but cannot be opened or read within its limits.",
        "Check owner, mode and the disk; the text of the finding says what the system answered.",
    ),
    row(
        "KW1003",
        "what is stored is no usable certificate",
        "The file is no certificate, is cut off, or its key does not belong to the certificate.",
        "A managed credential is installed again by itself. Otherwise restore the file from its source.",
    ),
    row(
        "KW1004",
        "out of time",
        "The certificate or an element above it, the root included, is expired or not valid yet.",
        "Renew the certificate, or replace the chain; if a root ended, ask who runs that CA. Check this machine's clock.",
    ),
    row(
        "KW1005",
        "chain not trusted",
        "The chain does not lead to a configured or system root, or a check on the way failed.",
        "Compare the chain with the CA's documentation; for a private CA name its root in `root_files` of the issuer.",
    ),
    row(
        "KW1006",
        "wrong names",
        "The stored certificate does not cover the configured names.",
        "It is ordered anew for the configured names; if it is not, `keyward cert why NAME` says what holds it.",
    ),
    row(
        "KW1007",
        "not the certificate that was issued here",
        "Somebody else replaced the installed files with another valid certificate.",
        "Find out who; then run `keyward cert renew NAME`, or stop managing the credential here.",
    ),
    row(
        "KW1008",
        "served is not stored",
        "An endpoint presents another certificate than the one in the files.",
        "The server was not reloaded, or something in front of it has its own copy. Reload it and run `keyward cert show NAME`.",
    ),
    row(
        "KW1009",
        "endpoint not seen",
        "An endpoint cannot be reached, breaks off the handshake or presents no certificate.",
        "Check that the server runs and that the address, the server name and `starttls` are right.",
    ),
    row(
        "KW1010",
        "renewal overdue",
        "More than 30 % of the time between the due point of the renewal and the expiry is gone.",
        "`keyward cert why NAME` says what holds it. There is time, and there is less of it each hour.",
    ),
    row(
        "KW1011",
        "attempts fail",
        "One or more attempts in a row failed; the last reason stands in the text.",
        "Look the code of the last failure up with `keyward explain`.",
    ),
    row(
        "KW1012",
        "rolled back",
        "A new certificate was issued and installed, was not seen to be served, and the old set was put back.",
        "Mend the reload or the server; the issued certificate waits and is installed again, nothing is ordered anew.",
    ),
    row(
        "KW1013",
        "the chain ends first",
        "An intermediate or the root ends before the certificate below it.",
        "Ask the CA for a chain to a newer root before that date.",
    ),
    row(
        "KW1014",
        "not looked at yet",
        "Keyward has just started, or the place was just configured.",
        "Nothing; the next look follows within seconds.",
    ),
    row(
        "KW1015",
        "the clocks disagree",
        "Wall clock and time since boot moved apart, or the wall clock is before a time that was recorded earlier.",
        "Nothing is started and gates are closed. Mend the time; if the new time is right, run `keyward clock accept`.",
    ),
    row(
        "KW1016",
        "expires soon, and is renewed elsewhere",
        "A watched certificate has less than a tenth of its lifetime left.",
        "Ask its owner to renew it.",
    ),
    row(
        "KW1017",
        "held by policy",
        "A renewal is due, and policy wants a person first or forbids it.",
        "`keyward cert why NAME` names the rule.",
    ),
    row(
        "KW1101",
        "a plan was refused",
        "The plan checker found that a plan breaks a rule. Nothing of the plan was carried out. This is a defect of Keyward.",
        "Report it with the text; another plan is made a minute later.",
    ),
    row(
        "KW1102",
        "renewal information not believed",
        "The CA suggested a window that ends before it starts (RFC 9773 section 4.2).",
        "Nothing: the share of the lifetime counts instead. Tell the CA.",
    ),
];
