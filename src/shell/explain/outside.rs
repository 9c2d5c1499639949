//! What comes to a private CA from outside, `KW466x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4660",
        "what comes from outside does not fit",
        "An offline root was asked for what is not needed now, its answer is not what was asked for, or a CA that was to be \
         taken over lacks something.",
        "The message says what does not fit. `keyward ca request` says again what an offline root has to sign.",
    ),
    row(
        "KW4661",
        "the list of an offline root ends soon",
        "Peers that demand a revocation list of every CA refuse everybody once it has ended.",
        "`keyward ca sign-intermediate DIR > list.pem` where the root's medium is, then `keyward ca accept CA list.pem`.",
    ),
    row(
        "KW4662",
        "an offline root has to revoke an issuing CA",
        "A generation was retired, or its key is in other hands, below a root that is trusted still. The rotation waits with \
         destroying keys until the root's list says so.",
        "Run the command in the message where the root's medium is, then `keyward ca accept CA list.pem`.",
    ),
];
