//! The CAs over ACME, `KW3xxx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW3001",
        "no usable answer",
        "The CA could not be reached, was overloaded, or an answer was lost.",
        "It is tried again by itself. If it lasts, check the network, and the CA's status page.",
    ),
    row(
        "KW3002",
        "rate limited",
        "The CA's limit is reached, or ours that mirrors it.",
        "Wait; the text says until when. A link in it may have to be opened by a person to go on.",
    ),
    row(
        "KW3003",
        "`replaces` refused",
        "The CA does not accept which certificate the order replaces (RFC 9773 section 5).",
        "Nothing: the order goes on without it.",
    ),
    row("KW3004", "the order is dead", "The order is gone or invalid.", "Nothing: a new one follows after a pause."),
    row(
        "KW3005",
        "validation failed",
        "The CA could not see the challenge's response: DNS, a firewall, another server on the port.",
        "The text holds what the CA saw for each name. Mend that; tries go on after a pause.",
    ),
    row(
        "KW3006",
        "account refused",
        "The account is unknown, deactivated, needs an external binding or the agreement to new terms.",
        "Read the text, and the CA's terms if it names them; then mend the issuer's settings.",
    ),
    row(
        "KW3007",
        "refused for good",
        "The CA refuses the names, the key or the request as such (CAA, a rejected identifier, a bad CSR).",
        "Trying again changes nothing: change DNS (CAA), names, key type or profile.",
    ),
    row(
        "KW3008",
        "protocol broken",
        "The CA's answers are malformed, too large, or against RFC 8555.",
        "Check that the directory's URL is right; tell the CA.",
    ),
    row(
        "KW3009",
        "not done in time",
        "The order did not end within five minutes; it is looked at again later, at the same URL.",
        "Nothing at first. If it stays so, the CA has a problem.",
    ),
    row(
        "KW3010",
        "issued something else",
        "The downloaded certificate is for another key, other names, not valid now, or leads to no trusted root. It was not installed.",
        "If the root is private, name it in `root_files` of the issuer; else tell the CA.",
    ),
];
