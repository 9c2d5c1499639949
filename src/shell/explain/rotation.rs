//! Rotating private CAs, `KW462x` to `KW464x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4621",
        "a relying party has not acknowledged the bundle",
        "A CA's bundle changed, and this relying party has not said that it goes by it. The rotation waits for it as long as \
         that takes: no time passes into progress.",
        "Have the party take the bundle (`keyward ca bundle CA`) and acknowledge it; a [[link]] needs the bundle's file among \
         its `roots`. `keyward ca rotate CA --status` shows who has what.",
    ),
    row(
        "KW4622",
        "a relying party lets no canary in",
        "A leaf for nobody, of the new generation, was refused by this relying party, or could not be shown to it for too \
         long. Nothing signs with that generation until it is let in.",
        "See why it refuses: it lacks the new root, or the revocation lists of the new generation (`pki/CA.crl.pem`). Have it \
         read both again.",
    ),
    row(
        "KW4623",
        "a relying party still has sessions of a retired generation",
        "A generation left the bundle, and this relying party has not said that it gave up the sessions and tickets that it \
         vouched for: a resumed session skips the verifier. Its keys are destroyed only then.",
        "Have the party drop its sessions, and acknowledge the bundle again.",
    ),
    row(
        "KW4624",
        "a CA should have been rotated",
        "The generation that signs should have been followed by another one, and something holds the rotation.",
        "`keyward ca rotate CA --status` says what waits for whom.",
    ),
    row(
        "KW4625",
        "a generation does not drain",
        "A generation ceased to sign longer ago than its leaves can live, and there are still some, or nobody can tell.",
        "See whose they are with `keyward ca rotate CA --plan`; have them renewed.",
    ),
    row(
        "KW4626",
        "a compromised generation is still trusted",
        "Somebody said that its key is in other hands. Its replacement is made first; then a person has to see what breaks.",
        "`keyward ca emergency CA` shows it, and how to sign it off.",
    ),
    row(
        "KW4628",
        "a generation waits for somebody",
        "A certificate of it has to be signed elsewhere, by an offline root. Until then it is not there, and what signs goes \
         on.",
        "Have the root sign it.",
    ),
    row(
        "KW4630",
        "a bundle was published",
        "An entry of the audit log: version, digest and anchors of what relying parties are to trust from now on.",
        "Nothing, unless you are a relying party: take it, and acknowledge it.",
    ),
    row(
        "KW4631",
        "the certificate of a CA was revoked",
        "An entry of the audit log: a retired generation stands below a root that stays trusted, so its certificate stands in \
         that root's revocation list.",
        "Nothing.",
    ),
    row(
        "KW4632",
        "a canary was shown to a relying party",
        "An entry of the audit log: what the party did with it.",
        "Nothing; a refusal is told to the party's owner (KW4622).",
    ),
    row(
        "KW4633",
        "a relying party dropped its sessions",
        "An entry of the audit log: peers with leaves of a retired generation get in there no more.",
        "Nothing.",
    ),
    row(
        "KW4634",
        "a relying party acknowledged a bundle",
        "An entry of the audit log: the party goes by this version, and gave up the sessions of the generations that are named.",
        "Nothing.",
    ),
    row(
        "KW4635",
        "a rotation was asked for",
        "An entry of the audit log: somebody wants a CA rotated before its time. It skips the timers, not the evidence.",
        "Nothing.",
    ),
    row(
        "KW4636",
        "a rollback was ordered",
        "An entry of the audit log: a new generation is to sign no more. It stays trusted while it drains, and the one before \
         it signs again.",
        "The next rotation has to be asked for: `keyward ca rotate CA`.",
    ),
    row(
        "KW4637",
        "a generation was said to be compromised",
        "An entry of the audit log: a key of it is in other hands, as somebody says.",
        "`keyward ca emergency CA` shows what breaks when it goes.",
    ),
    row(
        "KW4638",
        "what breaks was signed off",
        "An entry of the audit log: somebody saw exactly this list, and wants it so.",
        "Nothing. If it gets worse before it is done, it has to be shown again.",
    ),
    row(
        "KW4639",
        "everything of a CA is to be distrusted",
        "An entry of the audit log: somebody typed the CA's id. Its bundle becomes empty, and relying parties refuse everybody.",
        "It cannot be taken back. A new generation can be asked for: `keyward ca rotate CA`.",
    ),
    row(
        "KW4640",
        "the rules of rotation do not allow it",
        "A step, a rollback or a cross-signature that the state of the CA does not allow now; the text says what is missing.",
        "`keyward ca rotate CA --status` shows how everything stands.",
    ),
    row(
        "KW4641",
        "no such relying party",
        "Nobody of this name relies on the CA, as far as the configuration says.",
        "Add a [[relying_party]] with this id and the CA among its `cas`.",
    ),
    row(
        "KW4642",
        "another bundle is current",
        "What was acknowledged is not the bundle that is current: another version, or other contents.",
        "Fetch it again: `keyward ca bundle CA`.",
    ),
    row(
        "KW4643",
        "what breaks is another list",
        "What was signed off is not what would break now, or nothing waits for it.",
        "`keyward ca emergency CA` shows the list as it is.",
    ),
    row(
        "KW4644",
        "an order to distrust everything without the CA's name",
        "An empty bundle makes every relying party refuse every peer. It is refused unless the order spells the CA's id.",
        "Type the id, if that is what you want.",
    ),
    row(
        "KW4645",
        "the token is not that of this relying party",
        "An acknowledgement came with a token that does not belong to the party, or without one through a public door. \
         Whether there is such a party is not told.",
        "Send `Authorization: Bearer TOKEN` with what stands in the party's `token_file`.",
    ),
    row(
        "KW4646",
        "a generation is gone already",
        "It was to be revoked, and has left the bundle: nobody trusts what it issued. Its revocation list is not made any more.",
        "Nothing. If a key of it is in other hands, `keyward ca compromised` blocks that key for ever.",
    ),
    row(
        "KW4647",
        "a generation is needed until it has a replacement",
        "It was to be revoked, and it signs, or has a key in common with the one that does: without it everybody would be \
         refused.",
        "`keyward ca compromised CA NUMBER` has a replacement made, and `keyward ca emergency CA` shows what breaks when it \
         takes over.",
    ),
];
