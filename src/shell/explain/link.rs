//! Links, `KW43xx`: the reasons of refusals (`KW430x`, `KW431x`), audit entries (`KW432x`) and the configuration (`KW433x`).

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4301",
        "link: the path is closed",
        "The approval path that guards the link is closed, so connections are closed as soon as they come and live ones within a second.",
        "keyward gate status says why the path is closed and what reopens it; the link follows by itself.",
    ),
    row(
        "KW4302",
        "link: no room",
        "As many connections are open as `max_connections` allows; the new one was closed.",
        "Find out who holds them (ss -tnp); raise `max_connections`, or lower `idle_timeout`.",
    ),
    row(
        "KW4303",
        "link: not ready",
        "The link's own certificate or key, its roots or its revocation lists cannot be read or used, or whom it trusts could not be written into the audit log. It lets nobody through.",
        "keyward link status names the file and what is wrong with it; the link looks again every second.",
    ),
    row(
        "KW4304",
        "link: no certificate",
        "A peer connected and presented no certificate.",
        "Configure the peer with its certificate and key.",
    ),
    row(
        "KW4305",
        "link: not a certificate",
        "What a peer presented is no well-formed certificate, or it did not prove that it holds the key.",
        "Look at the peer's certificate: openssl x509 -in FILE -noout -text.",
    ),
    row(
        "KW4306",
        "link: not trusted",
        "A peer's chain does not lead to one of the link's `roots`, or breaks a rule on the way.",
        "If the peer is right, add its CA to the file in `roots`, and have the peer send its intermediates.",
    ),
    row(
        "KW4307",
        "link: out of time",
        "A certificate of the peer's chain, its root included, is expired or not valid yet. Live connections are cut when that time comes.",
        "Renew the peer's certificate, or replace its CA; look at both clocks.",
    ),
    row(
        "KW4308",
        "link: made for something else",
        "A peer's certificate does not say that it is made for this: clientAuth for who connects, serverAuth for who is connected to; or it is the certificate of a CA.",
        "Have the peer's certificate issued with that extended key usage.",
    ),
    row(
        "KW4309",
        "link: not on the list",
        "A peer has a good certificate, and is none of `peers`.",
        "If it should speak, add its SPIFFE ID, DNS name or key; a certificate with two URIs has no SPIFFE ID.",
    ),
    row(
        "KW4310",
        "link: revoked",
        "A certificate of a peer's chain is on a revocation list of its CA.",
        "Issue a new certificate if the peer is to be trusted again.",
    ),
    row(
        "KW4311",
        "link: revocation unknown",
        "The link has `crls`, and for a CA of a peer's chain none that is fresh. Live connections are cut when a list ends.",
        "Fetch the CA's new list into the file; the next one has to come before the old one ends.",
    ),
    row(
        "KW4312",
        "link: no handshake",
        "A connection did not become a TLS 1.3 session: another protocol or version, or the peer refused our certificate.",
        "openssl s_client -connect HOST:PORT -tls1_3 shows what the peer makes of it.",
    ),
    row(
        "KW4313",
        "link: too slow",
        "Connecting and shaking hands took longer than `handshake_timeout`.",
        "Look at the network; raise `handshake_timeout` for peers that are far away.",
    ),
    row(
        "KW4314",
        "link: nobody behind it",
        "The address in `forward` could not be reached.",
        "Start the service behind the link, or correct `forward`.",
    ),
    row(
        "KW4320",
        "link: whom it trusts",
        "A link began to judge peers by these roots, revocation lists and peers; the entry holds their digest and their number. It was written before anybody was let in by them.",
        "If nobody changed these files, find out who did.",
    ),
    row(
        "KW4321",
        "link: cut",
        "Live connections were cut: the path closed, or the peers are no longer trusted or in time.",
        "Nothing; the reason's own code (KW4301, KW4307, …) says what to mend.",
    ),
    row(
        "KW4330",
        "link: no peer",
        "An element of `peers` is no SPIFFE ID of a workload, no exact DNS name and no SHA-256 of a key.",
        "Write spiffe://DOMAIN/PATH, dns:NAME or spki:sha256/HEX; openssl x509 -in FILE -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum gives the last.",
    ),
    row(
        "KW4331",
        "link: nobody named",
        "The list of `peers` or `roots` of a link is empty: nobody could ever come through.",
        "Name who may speak, and the CA that vouches for them.",
    ),
    row(
        "KW4332",
        "link: nothing to prove itself with",
        "A link has neither a `credential` nor `cert_file` with `key_file`, or both.",
        "Name one of the two.",
    ),
    row(
        "KW4333",
        "link: no key",
        "The named credential has no private key that the link could use.",
        "Name a managed certificate, or an observed PEM file whose key is in it or in `key_file`.",
    ),
    row("KW4334", "link: a name of no use", "`server_name` stands on the server side of a link.", "Remove it."),
    row(
        "KW4335",
        "link: plain beyond this machine",
        "The side of a link without TLS is open to other machines, or leads to one.",
        "Use a loopback address or a Unix socket, or set `allow_remote = true` where the network between is trusted.",
    ),
    row(
        "KW4336",
        "link: two sources of trust",
        "A link has `ca` and files with roots or revocation lists: the CA's own bundle and lists are all that it needs.",
        "Keep `ca`, which follows the CA through its rotations, or the files.",
    ),
];
