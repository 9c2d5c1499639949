//! ACME directories over private CAs, `KW48xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4800",
        "an ACME account was made",
        "An entry of the audit log: somebody made an account at an ACME directory, with the external account key that the \
         state names. The thumbprint of its key stands in the entry.",
        "Nothing.",
    ),
    row(
        "KW4801",
        "an ACME account has another key",
        "An entry of the audit log: the owner of an account replaced its key (keyChange).",
        "Nothing, unless its owner knows nothing of it.",
    ),
    row(
        "KW4802",
        "an ACME account was deactivated",
        "An entry of the audit log: the owner of an account gave it up. It orders and revokes nothing any more.",
        "Nothing.",
    ),
    row(
        "KW4803",
        "an ACME account has other contacts",
        "An entry of the audit log: the contacts themselves lie beside the log and can be forgotten.",
        "Nothing.",
    ),
    row(
        "KW4804",
        "an ACME order was made",
        "An entry of the audit log: an account ordered a certificate for names that policy does not refuse.",
        "Nothing.",
    ),
    row(
        "KW4805",
        "an ACME client says that it has answered a challenge",
        "An entry of the audit log: the directory looks for the answer next.",
        "Nothing. One without a result was cut off by a restart, and is looked for again.",
    ),
    row(
        "KW4806",
        "an ACME challenge was looked at",
        "An entry of the audit log: the answer was found or not; why not lies beside the log.",
        "Nothing. The client is told what was seen and what was expected.",
    ),
    row(
        "KW4807",
        "an ACME authorization was given up",
        "An entry of the audit log: the owner of an account does not want it any more.",
        "Nothing.",
    ),
    row(
        "KW4808",
        "an ACME order was finalized",
        "An entry of the audit log: everything is proved and the key is known; policy lets it go or has it wait for a person.",
        "Nothing.",
    ),
    row(
        "KW4809",
        "an ACME order has its certificate",
        "An entry of the audit log: the serial number is that of an outcome of the CA's key just before.",
        "Nothing.",
    ),
    row(
        "KW4810",
        "an ACME order ended without a certificate",
        "An entry of the audit log: the kind of problem that the client is told stands in the entry, its words beside the log.",
        "Nothing, unless the owner expected it.",
    ),
    row(
        "KW4811",
        "a person allowed an ACME order",
        "An entry of the audit log: who, with their reason beside the log.",
        "Nothing.",
    ),
    row(
        "KW4812",
        "a person denied an ACME order",
        "An entry of the audit log: who, with their reason beside the log. The client is told the reason.",
        "Nothing.",
    ),
    row(
        "KW4813",
        "ACME orders that are over left the state",
        "An entry of the audit log: their certificates expired, or they ended without one more than a day ago.",
        "Nothing.",
    ),
    row(
        "KW4820",
        "an ACME order waits for a person",
        "Policy has a person decide about these names: they stand under `wait`, or were never issued before and `first_time` \
         is \"wait\". The client sees its order as processing.",
        "`keyward acme orders`, then `keyward acme allow ORDER --reason WHY` or `keyward acme deny ORDER --reason WHY`.",
    ),
    row(
        "KW4821",
        "nobody decided about an ACME order",
        "It waited longer than `wait_for` and is invalid now; the client is told so.",
        "Have the client order again, and decide in time; or choose a longer `wait_for`.",
    ),
    row(
        "KW4822",
        "an ACME order could not be certified",
        "For a day its certificate could not be made: the key holder or the disk did not work, or the CA signs nothing.",
        "`keyward ca status`; the log of the daemon says what was missing. The client orders again.",
    ),
    row(
        "KW4823",
        "an ACME directory has no certificate of its own",
        "`certificate_file` and `key_file` cannot be used yet, so nobody is answered. They are looked at every few seconds.",
        "Put them there; a [[certificate]] of this guardian may do so.",
    ),
    row(
        "KW4824",
        "there is no such ACME order",
        "The id names no order that this guardian remembers.",
        "`keyward acme orders` shows those that wait.",
    ),
    row(
        "KW4825",
        "the ACME order waits for nobody",
        "It was not finalized yet, or somebody decided about it already, or it is over.",
        "`keyward acme orders` shows those that wait.",
    ),
    row(
        "KW4826",
        "a decision about an ACME order needs a reason",
        "One line of 1 to 1,000 bytes: it stands beside the audit log, and the client of a denied order is told.",
        "Say why: --reason \"the team called\".",
    ),
    row(
        "KW4827",
        "a decision about an ACME order is not recorded",
        "The state cannot be written. The decision is recorded and carried out as soon as it can be, unless the guardian is \
         restarted before.",
        "Mend the disk of the state directory.",
    ),
    row(
        "KW4828",
        "policy refuses the ACME order by now",
        "The configuration changed since the order was made: its external account key was withdrawn, or does not cover the names \
         or the profile any more. Nobody's word is above the policy.",
        "Change the configuration, or deny the order: `keyward acme deny ORDER --reason WHY`.",
    ),
];
