//! Revocation lists that are fetched, `KW406x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4060",
        "a revocation list does not come",
        "A list that a certificate of the chain names could not be fetched three times in a row, or what came was refused: not signed by the issuer, older than the one before, partial, or over. The last good one serves until its next update is due; then the paths that need it close.",
        "The text says what was seen. Let this machine reach the URL over HTTP (`crl.allow` for addresses that are not public), or ask the CA for a new list. If a CA really began to number its lists anew, take the file of its list out of `state_dir`/lists, and restart.",
    ),
    row(
        "KW4061",
        "a revocation list is over, or will be soon",
        "As KW4060, and of the time of the last good list less than a quarter is left, or nothing, or there never was one: paths that need it are closed, or will be soon.",
        "As for KW4060, now: until a list comes nobody knows what is revoked.",
    ),
];
