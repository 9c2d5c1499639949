//! The SPIFFE Workload API and Envoy's secret discovery, `KW485x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4850",
        "a workload's key was given to a program",
        "An entry of the audit log: a program whose user, group and file match a [[workload]] was given its certificate with \
         the private key, once for each certificate, user and file. It was written before the key left.",
        "Nothing. If you do not know the program, look at the entry's private text and at the selectors.",
    ),
    row(
        "KW4851",
        "a caller that is no workload",
        "A program asked the Workload API, and no [[workload]] has selectors that all match it. A file's path matches only if \
         the guardian may look at the process (same user, root, or CAP_SYS_PTRACE) and the file there is the one that runs.",
        "If the program should get an identity, compare its user, group and file with the selectors; restart a program whose \
         file was replaced.",
    ),
    row(
        "KW4852",
        "a workload's identity is withheld",
        "The approval path of the [[workload]] is closed: its programs get no certificate, and calls that are open end.",
        "keyward gate status says why the path is closed; programs come back by themselves.",
    ),
    row(
        "KW4853",
        "an Envoy refused a secret",
        "An Envoy answered with a NACK: it goes on with what it had, which will end.",
        "Read what it said: keyward audit query --action workload.nack; compare its version and TLS settings.",
    ),
    row(
        "KW4854",
        "the calling process cannot be told",
        "The process that connected has ended, or lives in another pid namespace; a socket that is passed on to another process \
         does not carry its identity.",
        "Connect from the process that is to have the identity; for containers share the host's pid namespace.",
    ),
    row(
        "KW4855",
        "a question that is none",
        "What came over the Workload API's socket is no request of its services: no gRPC, no metadata \
         `workload.spiffe.io: true`, no message of that kind, or nothing at all.",
        "Use a SPIFFE library, or Envoy with an SDS cluster over HTTP/2.",
    ),
    row(
        "KW4856",
        "too many callers",
        "One user has as many connections or calls open as `max_streams_per_user` allows, or does not take its answers.",
        "Find the program that opens them; raise `max_streams_per_user` in [workload_api] if it is right.",
    ),
    row(
        "KW4857",
        "no certificate for a workload now",
        "The private CA was not made, refuses, or cannot sign now; or the guardian stops or is sealed. Clients try again.",
        "keyward ca status; the text has the CA's own code.",
    ),
    row(
        "KW4858",
        "a method that is not offered",
        "JWT-SVIDs, incremental SDS, or something that does not exist was asked for.",
        "Use FetchX509SVID and FetchX509Bundles, or StreamSecrets and FetchSecrets.",
    ),
    row(
        "KW4859",
        "a secret of somebody else",
        "An Envoy asked for a secret by a name that is neither a SPIFFE ID that its process may have nor the trust domain of one.",
        "Correct the name in `sds_secret_config`, or the selectors of the [[workload]].",
    ),
];
