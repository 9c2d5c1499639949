//! What proxies ask the gate, `KW45xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4501",
        "guards and kinds do not fit",
        "`guards` of a path says which kinds of request close with it, and `[[path.kind]]` what these kinds are. One of them is missing or empty, or every kind is guarded, so that nothing would stay reachable.",
        "Add what the message names, or remove both: then every request is guarded.",
    ),
    row(
        "KW4502",
        "not a kind of request",
        "A kind of request needs methods in capitals, or plain beginnings of a URL's path, or both. A kind without either would be every request.",
        "Mend the list as the example in the message shows.",
    ),
    row(
        "KW4503",
        "malformed question",
        "A proxy asked over gRPC in a way that cannot be read, or that names no path in `context_extensions`. What cannot be told is closed.",
        "Compare the proxy's configuration with `keyward snippet envoy`.",
    ),
    row(
        "KW4504",
        "no certificate for gate checks over TLS",
        "The files of `[listen.gate_tls]` cannot be read, or do not belong together. At the start the daemon does not come up; later the certificate in use stays.",
        "Mend the files that the message names; they are read again within seconds.",
    ),
];
