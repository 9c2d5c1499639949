//! Witnesses of our own log, and Keyward as a witness, `KW64xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW6401",
        "rolled back, says a witness",
        "A witness has cosigned more entries of this log than there are: the state was replaced by an older copy. \
         The guardian runs sealed.",
        "Stop it and restore the newest state directory. If that is lost, what was done since is not in the log: begin a \
         new log, and keep the old one with its last checkpoint; docs/witness.md has the steps.",
    ),
    row(
        "KW6402",
        "forked, says a witness",
        "A witness has cosigned another tree of this log at the same size, or one that this log does not continue: \
         somebody rewrote entries, or two guardians write with one key. The guardian runs sealed.",
        "Do not start it again before it is clear which tree is the true one: compare with keyward audit verify --against \
         and the checkpoint that the witness keeps; docs/witness.md has the steps.",
    ),
    row(
        "KW6410",
        "not witnessed",
        "The configuration demands that the quorum of witnesses cosigns an action of this tier before it takes effect, and \
         it did not in time. Nothing was done.",
        "The text names the witnesses that are behind and why. The action is tried again by itself.",
    ),
    row(
        "KW6411",
        "a witness is behind",
        "A witness has not cosigned the log for longer than the configuration allows. What was written since then can be \
         forged by whoever has this machine and the log's key.",
        "Ask its operator; the text says what it last answered. Configure more witnesses than the quorum needs.",
    ),
    row(
        "KW6412",
        "a witness cosigns again",
        "A witness that was behind has cosigned the newest checkpoint.",
        "Nothing.",
    ),
    row(
        "KW6420",
        "a log has forked",
        "Keyward is a witness of this log and was shown another root for a size that it cosigned. Both are signed by the log: \
         it shows different trees to different people.",
        "Tell everybody who relies on that log, and its operator. The entry holds both roots; nothing was cosigned.",
    ),
    row(
        "KW6421",
        "a log is not shown to continue",
        "Keyward is a witness of this log and was shown a signed checkpoint with a proof that does not lead to it from the one \
         that was cosigned. Either its client is wrong or the log was rewritten.",
        "Ask its operator for a right proof between the two sizes in the entry; if there is none, the log was rewritten.",
    ),
    row(
        "KW6430",
        "no key of a log",
        "A key in [[witness.log]] is not the public key of a log in the form NAME+ID+KEY, or it is that of a witness.",
        "Copy the whole line as the log's operator gives it; keyward audit key prints that of a Keyward.",
    ),
    row(
        "KW6440",
        "the log's key was rotated",
        "Somebody gave the log a new key. The entry names both; the checkpoint over it is signed by both, and both sign until \
         the time in the entry. The new key counts for trees of `from_size` and more.",
        "Give the new key to the witnesses and to whoever verifies the log before that time.",
    ),
    row(
        "KW6441",
        "the old key was destroyed",
        "The overlap of a rotation is over. The old key counts for trees up to `old_to_size`; its private half is destroyed.",
        "Bind the old key to that range of sizes where the log is verified, and take it out of policies.",
    ),
];
