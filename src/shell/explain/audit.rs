//! Actions in the audit log, `KW2xxx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW2001",
        "intent: issue",
        "A certificate is about to be ordered: by whom or by which rule, why, where, for which names.",
        "Nothing.",
    ),
    row(
        "KW2002",
        "ordered",
        "The CA made the order; its URL is recorded, so that a restart goes on with the same order.",
        "Nothing.",
    ),
    row("KW2003", "issued", "The CA issued the certificate, and it passed every check of installation.", "Nothing."),
    row("KW2004", "intent: install", "Files are about to be changed and a server to be reloaded.", "Nothing."),
    row("KW2005", "resumed", "An attempt goes on after a restart, a pause or a deployment window.", "Nothing."),
    row(
        "KW2006",
        "installed and served",
        "The files are in place and every configured endpoint was seen to serve the new certificate.",
        "Nothing.",
    ),
    row(
        "KW2007",
        "declined by policy",
        "Policy forbids the action, or wants a person first; the entry names the rule.",
        "Change the policy, or let somebody ask with `keyward cert renew NAME`.",
    ),
    row("KW2008", "abandoned", "The credential left the configuration while an attempt was in flight.", "Nothing."),
    row(
        "KW2009",
        "not tidied up",
        "Old files or an unused key could not be removed.",
        "Remove what the text names; check the mode of its directory.",
    ),
    row(
        "KW2010",
        "schedule",
        "The CA suggested a window (RFC 9773), and a time inside it was picked.",
        "If the CA gave an explanation, read it: mass revocations are announced this way.",
    ),
    row("KW2011", "asked for by a person", "Somebody asked to renew a certificate now.", "Nothing."),
    row(
        "KW2012",
        "terms of service",
        "The CA's terms of service were seen for the first time, or changed since they were last seen.",
        "Read them. Orders may be refused until the account's owner agrees.",
    ),
    row(
        "KW2013",
        "account key rolled over",
        "Somebody gave the account at a CA a new key (RFC 8555 section 7.3.5).",
        "Nothing. If it failed, the text says which key counts; ask again after a while.",
    ),
    row(
        "KW2101",
        "no key",
        "The key or its signing request could not be made or stored.",
        "Check the state directory: space, owner, mode.",
    ),
    row(
        "KW2102",
        "challenge not cleaned up",
        "A challenge response could not be taken away after the validation.",
        "Remove it by hand; it does no harm but clutter.",
    ),
    row(
        "KW2103",
        "no fitting challenge",
        "The CA offers challenges that no configured solver can do for this name.",
        "Configure a solver of an offered kind; wildcards need dns-01, IP addresses http-01 or tls-alpn-01.",
    ),
    row(
        "KW2104",
        "challenge not presented",
        "The response could not be put in place, or was not seen where the CA will look.",
        "The text says what was seen and what was expected, at which server.",
    ),
    row(
        "KW2201",
        "the issued certificate is gone",
        "The key store does not hold what was issued.",
        "Restore the state directory, or let it be issued anew, which happens by itself.",
    ),
    row(
        "KW2202",
        "worse than what is there",
        "The new certificate ends no later than the one it would replace, so it was not installed; the same is not ordered again before the emergency point.",
        "If it is wanted all the same (another profile, say), run `keyward cert renew NAME`.",
    ),
    row(
        "KW2203",
        "files not installed",
        "The files could not be written; the old set is untouched.",
        "The text names the path and the reason: space, owner, mode, a hostile link.",
    ),
    row(
        "KW2204",
        "reload failed",
        "The hook, signal or unit did not succeed within its tries.",
        "Run the hook by hand; the text holds the end of its output. Nothing is issued anew because of this.",
    ),
    row(
        "KW2205",
        "waits for its window",
        "The certificate is issued; its installation waits for the deployment window.",
        "Nothing; to go on now, change or remove the window and reload.",
    ),
    row(
        "KW2206",
        "not served",
        "After the reload at least one endpoint did not present the new certificate; the old set was put back where it still is valid.",
        "Check which server answers at the endpoint named in the text, and what its reload does.",
    ),
    row(
        "KW2207",
        "ended while it waited",
        "The new certificate ended while it waited to be installed, for a hook or a window; so it was not.",
        "Nothing, another is ordered; look why the installation had to wait so long.",
    ),
    row(
        "KW2208",
        "too short to follow",
        "The CA asks for an early renewal, and what it issues ends before the next one could surely follow; so it was not installed.",
        "Ask the CA, or use another; if it is wanted all the same, run `keyward cert renew NAME`.",
    ),
    row("KW2301", "gate opened", "Everything that the path stands on was proved good.", "Nothing."),
    row(
        "KW2302",
        "gate closed",
        "Something that the path stands on is not proved good; the entry holds every reason.",
        "Look the reasons up; each says what reopens the path.",
    ),
    row(
        "KW2401",
        "daemon started",
        "With how many credentials, and how many attempts in flight from before.",
        "Nothing.",
    ),
    row("KW2402", "daemon stopped", "A clean stop.", "Nothing."),
    row(
        "KW2403",
        "the clocks agree again",
        "The wall clock stepped back to where it should be.",
        "Find out who stepped it.",
    ),
    row("KW2404", "time accepted", "A person vouched for the present time.", "Nothing."),
    row("KW2405", "configuration reloaded", "A new configuration is in force.", "Nothing."),
];
