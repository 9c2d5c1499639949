//! What the API refuses, `KW5xxx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW5001",
        "no such credential",
        "No credential of the configuration in force has this id.",
        "See them all with keyward cert list; a new one takes effect with a reload.",
    ),
    row(
        "KW5002",
        "nothing at this address",
        "The URL is none of the daemon's.",
        "The hint of the answer lists the addresses.",
    ),
    row(
        "KW5003",
        "wrong door",
        "The gate's socket answers gate checks only, and nothing is changed over TCP: only the admin socket knows who asks.",
        "Use the command line as the daemon's user or root; it goes through the admin socket.",
    ),
    row(
        "KW5004",
        "foreign host",
        "The Host header names something that is not served here. A web page that rebinds its own name to this machine looks exactly like that.",
        "Send Host: localhost, or an address where the daemon listens beyond this machine.",
    ),
    row(
        "KW5005",
        "request not understood",
        "The method, the body or a parameter is not what this address takes; a body has at most 64 KiB.",
        "See the hint of the answer.",
    ),
    row(
        "KW5006",
        "too much at once",
        "More than 1,024 connections are open, or more than 1,024 commands wait. Gates answer closed to connections beyond that.",
        "Let the proxy keep fewer idle connections; try again in a moment.",
    ),
    row(
        "KW5007",
        "watched only",
        "The credential is observed: its certificate is renewed by somebody else.",
        "Configure it as [[certificate]] to have it renewed here, or ask its owner.",
    ),
    row(
        "KW5008",
        "reload refused",
        "The new configuration has problems, or could not be read. The one in force stays as it is: a reload is all or nothing.",
        "Run keyward config check, mend the file, reload again.",
    ),
    row(
        "KW5009",
        "forbidden by policy",
        "A rule of the policy prohibits this renewal, whoever asks for it.",
        "The answer names the rule; change it in the configuration if it is wrong.",
    ),
    row(
        "KW5010",
        "history unreadable",
        "The audit log could not be read.",
        "Look at the daemon's log and at the disk of the state directory.",
    ),
    row(
        "KW5011",
        "no answer in time",
        "The answer was not ready within ten seconds.",
        "Try again; if it stays so, look at the daemon's load and disk.",
    ),
    row(
        "KW5012",
        "no daemon",
        "Nobody answers at the admin socket of the configuration, or this user may not use it. Without a daemon nothing is renewed, and every gate is closed.",
        "Start it with keyward run; ask as its user or root; before the first start use keyward check --pre.",
    ),
    row(
        "KW5013",
        "daemon in trouble",
        "The daemon answers, but its loop does not turn, its clock is not believed, or it can write nothing.",
        "keyward status says which; its log says more.",
    ),
];
