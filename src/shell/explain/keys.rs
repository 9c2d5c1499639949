//! Keys that are no certificate's, `KW488x` to `KW492x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4880",
        "a key cannot be seen",
        "A tracked key that the path stands on was not looked at since the start, or every look has failed for longer than its \
         `grace`. Whether it is there, and which it is, is unknown; unknown is closed.",
        "See why: `keyward key show ID`. Mend the file or the command.",
    ),
    row(
        "KW4881",
        "a key is past its hard limit",
        "A tracked key that the path stands on is older than its `hard_limit`. Being overdue was told before and was borne.",
        "Rotate it: `keyward key rotate ID`, or by hand.",
    ),
    row(
        "KW4882",
        "others may have a key",
        "A tracked key that the path stands on, or one that is still accepted beside it, was reported as compromised or is \
         blocked.",
        "Put another key in its place, and have the old one accepted no more.",
    ),
    row(
        "KW4883",
        "a key is in no state to be used",
        "A tracked key that the path stands on is not active: suspended, deactivated, destroyed, or not used yet.",
        "`keyward key show ID` says since when and why; `keyward key resume ID` ends a suspension, otherwise rotate it.",
    ),
    row(
        "KW4884",
        "another key is in use",
        "For longer than its `grace` the `live` command of a tracked key gives another key than the one that is in its place, \
         or none.",
        "Have the system take the key that is in its place: restart it, or have it read its configuration again.",
    ),
    row(
        "KW4888",
        "a tracked key is not fit for use",
        "It is compromised, suspended, deactivated, destroyed, or not active yet. Paths that stand on it are closed.",
        "`keyward key show ID` says since when and why.",
    ),
    row(
        "KW4889",
        "a rotation does not get on",
        "One step of a key's rotation failed three times or more in a row, and is tried again at least once an hour; or it was \
         stopped before `retire`. The text says which key is in use, and whether the old one is still accepted.",
        "Call the hook by hand with the step's word and the variables of docs/keys.md, and see what it says. If it was stopped, \
         have the old key accepted no more, and then say `keyward key destroy ID --previous`.",
    ),
    row(
        "KW4890",
        "a key will be overdue soon",
        "Nine tenths of a tracked key's cryptoperiod are over.",
        "Plan its rotation: `keyward key rotate ID --plan`.",
    ),
    row(
        "KW4891",
        "a key is overdue",
        "A tracked key's cryptoperiod is over. It is used on: overdue is not compromised. What stands on it closes at its hard \
         limit.",
        "Rotate it before that.",
    ),
    row(
        "KW4892",
        "a key's hard limit is near",
        "A tracked key is overdue, and of the time to its hard limit a quarter is left, or 30 days.",
        "Rotate it now: what stands on it is about to close.",
    ),
    row(
        "KW4893",
        "a key is past its hard limit",
        "A tracked key is older than its hard limit. Every path that stands on it is closed.",
        "Rotate it.",
    ),
    row(
        "KW4894",
        "a key cannot be looked at",
        "The file cannot be read, or the command fails. Paths that stand on the key stay open for its `grace`.",
        "Mend what the text says.",
    ),
    row(
        "KW4895",
        "something is wrong with a key",
        "A public key has a size, an exponent or factors that nobody should have, or is no point of its curve; or a file with a \
         secret may be read by everybody.",
        "Make another key, or mend the mode of the file.",
    ),
    row(
        "KW4896",
        "one key is used in several places",
        "Certificates, or tracked keys, have the same key. Whoever gets hold of one has all.",
        "Give each its own key.",
    ),
    row(
        "KW4897",
        "a key is used where it must not be",
        "An account's or a CA's key is used for something else too, or a key that is blocked has come up again.",
        "Put another key in its place.",
    ),
    row(
        "KW4898",
        "a signature over a broken digest",
        "A certificate in a chain, below its anchor, is signed with MD5, SHA-1 or older.",
        "Have it issued anew by a CA that signs with SHA-2.",
    ),
    row(
        "KW4899",
        "the live system uses another key",
        "The `live` command of a tracked key gives another key than the one in its place, or fails. Paths stay open for its \
         `grace`.",
        "Have the system take the key that is in its place.",
    ),
    row(
        "KW4900",
        "a key is tracked",
        "An entry of the audit log: a key was seen for the first time. Its print is an HMAC under a key that only this guardian \
         has, or the digest of a public key; never its value.",
        "Nothing.",
    ),
    row(
        "KW4901",
        "a key changed its state",
        "An entry of the audit log: a person suspended, resumed, deactivated or destroyed a key, or reported it as compromised. \
         The reason lies beside the log.",
        "Nothing.",
    ),
    row(
        "KW4902",
        "a key was replaced",
        "An entry of the audit log: another key was seen in its place, or a person said that a manual key was rotated.",
        "Nothing, if you know of it. Otherwise find out who put it there.",
    ),
    row(
        "KW4903",
        "a key has another certificate",
        "An entry of the audit log: the certificate around a public key was renewed (it lasts longer) or reissued (it does not); \
         the key is the same, and as old as it was.",
        "Nothing.",
    ),
    row(
        "KW4904",
        "an earlier key is back",
        "The key before the present one is in its place again, with its age and its state. If it was retired, what stands on it \
         closes.",
        "Find out who put it there; rotate it if it was meant.",
    ),
    row(
        "KW4905",
        "a rotation began",
        "An entry of the audit log: a person, or the guardian because it is overdue, began to rotate a key.",
        "Nothing; it goes on by itself.",
    ),
    row(
        "KW4906",
        "a step of a rotation is announced",
        "An entry of the audit log: the hook is about to be called for this step. After a crash the step is done again.",
        "Nothing.",
    ),
    row(
        "KW4907",
        "a step of a rotation was done",
        "An entry of the audit log: the hook ended with 0; after `finish` the new key was seen in its place.",
        "Nothing.",
    ),
    row(
        "KW4908",
        "a step of a rotation failed",
        "The hook ended otherwise than with 0, took too long, or what it said it did cannot be seen. It is tried again after a \
         minute, then two, at most an hour. What it printed is not kept: it may hold the key.",
        "Call the hook by hand and see what it says.",
    ),
    row("KW4909", "a key was rotated", "The new key is in use, or the old one is valid no more.", "Nothing."),
    row(
        "KW4910",
        "a rotation was given up",
        "An entry of the audit log: a person gave up a rotation whose new key was not in use yet.",
        "See that whoever was given the new key does not take it any more.",
    ),
    row(
        "KW4911",
        "what a rotation left is still there",
        "The private directory of a rotation, in which hooks hand the new key on, cannot be wiped.",
        "Remove `rotations/ID` in the state directory.",
    ),
    row(
        "KW4912",
        "a key is compromised",
        "A person reported that others may have a tracked key. What stands on it is closed, and the key is blocked for ever.",
        "Put another key in its place, and look at what it was used for since then.",
    ),
    row(
        "KW4920",
        "no such key",
        "The configuration has no [[key]] with this id.",
        "`keyward key list` shows them all.",
    ),
    row(
        "KW4921",
        "nothing is known of a key",
        "It was not seen yet, or there is no version before the one in use.",
        "`keyward key show ID` says why it cannot be looked at.",
    ),
    row(
        "KW4922",
        "a key does not change so",
        "From the state that it is in nothing leads there (NIST SP 800-57 part 1, section 7), or its class is destroyed and not \
         deactivated.",
        "docs/keys.md has all states and what leads from one to the other.",
    ),
    row(
        "KW4923",
        "no reason",
        "Whatever a person does to a key has a reason of 1 to 500 characters on one line.",
        "Add --reason.",
    ),
    row(
        "KW4924",
        "a key is not rotated",
        "It has no hook, a rotation is under way, this is a dry run, or looks say by themselves when it is rotated.",
        "Read the text; `keyward key show ID` says how it stands.",
    ),
    row(
        "KW4925",
        "no change while the clock is not believed",
        "Ages and times of keys would be wrong.",
        "Set the clock right, then `keyward clock accept`.",
    ),
    row(
        "KW4926",
        "a change of a key could not be recorded",
        "The audit log cannot be written, so nothing was done.",
        "Mend the disk of the state directory.",
    ),
    row(
        "KW4927",
        "a change of a key holds and is not recorded yet",
        "It only removes authority, so it holds at once; the audit log cannot be written now, and has it as soon as it can. A \
         restart before that would forget it.",
        "Mend the disk of the state directory, and do not restart before.",
    ),
];
