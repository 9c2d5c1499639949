//! Private CAs, `KW46xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4600",
        "a key operation is announced",
        "An entry of the audit log: one operation of the key holder is about to be done, named by its kind, its key and the \
         SHA-256 of what is to be signed. The key holder does nothing that no such entry announces.",
        "Nothing. An announcement without an outcome was cut off; the next start says so.",
    ),
    row(
        "KW4601",
        "a key operation was done",
        "An entry of the audit log: the outcome of an announcement, with what came of it. A certificate lies beside it as \
         evidence.",
        "Nothing.",
    ),
    row(
        "KW4602",
        "a key operation failed",
        "An entry of the audit log: the key holder refused, could not be reached, or gave a signature that is not good. What \
         may have been signed counts as signed until it would have expired.",
        "Read the text of the entry; `keyward ca status` shows the key holder.",
    ),
    row(
        "KW4603",
        "a generation of a CA is being made",
        "An entry of the audit log: a CA makes a new issuing CA, with a new root or below the one that it has. It signs nothing \
         yet.",
        "Nothing. `keyward ca init` goes on with one that was cut off.",
    ),
    row(
        "KW4604",
        "a generation of a CA changed its phase",
        "An entry of the audit log: making, standby, staged, signing, draining, retired or destroyed.",
        "Nothing. A generation that is signing issues; one that is retired or destroyed is trusted by nobody.",
    ),
    row(
        "KW4605",
        "a certificate was revoked",
        "An entry of the audit log: a person revoked it; the serial number and the reason stand in the entry. The list that \
         says so is published next.",
        "Nothing. Relying parties see it when they fetch the list.",
    ),
    row(
        "KW4606",
        "a key is blocked for ever",
        "A certificate was revoked because its key is in other hands, or a generation of a CA whose key is left the bundle. No CA \
         here certifies the key again or has it as its own, and every path that stands on it is closed.",
        "Have a certificate issued for a new key.",
    ),
    row(
        "KW4607",
        "expired certificates left the register",
        "An entry of the audit log: certificates of private CAs that expired more than a day ago are not kept in the state; \
         the log still has them.",
        "Nothing.",
    ),
    row(
        "KW4608",
        "what an offline root signed was taken in",
        "An entry of the audit log: the certificates and the revocation list that a root outside of this machine signed, or a \
         newer list of it.",
        "Nothing.",
    ),
    row(
        "KW4609",
        "a CA that was made elsewhere was taken over",
        "An entry of the audit log: its certificates are in the register, and its keys are with the key holder.",
        "Destroy the copies of its private keys that are left.",
    ),
    row(
        "KW4610",
        "no such CA, profile or certificate",
        "What was asked about is not in the configuration, or was never issued here, or has expired.",
        "`keyward ca status` shows the CAs, `keyward config explain ca` their profiles.",
    ),
    row(
        "KW4611",
        "the CA is not made, or is there already",
        "A CA of the configuration signs only after its first generation was made; and a first generation is made once.",
        "Make it with `keyward ca init ID`. If it is there, `keyward ca status` shows it.",
    ),
    row(
        "KW4612",
        "the CA refuses",
        "The profile does not cover a name, the CA's constraints exclude it, the life is too long, or so little of the CA's \
         own life is left that the certificate would be of no use.",
        "Ask for what the profile covers, or have somebody widen the profile. For a CA near its end see KW4619.",
    ),
    row(
        "KW4613",
        "the key is never certified",
        "The public key was said to be compromised, or it is the key of a CA itself.",
        "Make a new key.",
    ),
    row(
        "KW4614",
        "the clock is not believed",
        "A certificate and a list are dated, and the wall clock stepped. Nothing is issued and no list is made until a person \
         accepts the time.",
        "Set the clock right, then `keyward clock accept`.",
    ),
    row(
        "KW4615",
        "what is asked for cannot be encoded",
        "The request is not well formed, its signature is bad or its key weak, or the certificate would break a rule of RFC \
         5280 that relying parties enforce. Nothing was signed.",
        "Mend what the text names; a key of RSA has 2048, 3072 or 4096 bits.",
    ),
    row(
        "KW4616",
        "the key holder did not do it",
        "The process with the CA's keys cannot be reached, or refused. Nothing is signed without it; what was issued stays \
         good.",
        "`keyward ca status` says why. If the daemon starts it, its log has the key holder's last words; else start it.",
    ),
    row(
        "KW4617",
        "it cannot be recorded or published",
        "The audit log or the place of the revocation lists cannot be written, so nothing was issued.",
        "Mend the disk of the state directory.",
    ),
    row(
        "KW4618",
        "the register contradicts itself",
        "A generation lacks what it must have, or the key holder does not know a key that the register names: another key \
         holder, or an old copy of one directory.",
        "Put the key holder's directory back that belongs to this state; `keyward ca status` names the keys.",
    ),
    row(
        "KW4619",
        "a CA ends soon",
        "The generation that signs ends so soon that its leaves are cut short: none is longer than what is above it. The \
         next one should have followed it long ago.",
        "`keyward ca rotate CA --status` says what holds the rotation.",
    ),
];
