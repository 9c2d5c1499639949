//! Policy as files, `KW502x` and `KW503x`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW5020",
        "a file of policy cannot be read",
        "A policy, a contract or a table of cases is missing, not readable for this user, not UTF-8, or longer than 1 MiB. A start is refused with it; a reload keeps the policy in force.",
        "Check the path, which is relative to the file that names it, and its rights.",
    ),
    row(
        "KW5021",
        "rules in two places",
        "`[policy]` names a file and has rules of its own. Which would come first is anybody's guess, so both are refused.",
        "Move the rules into the file, or remove `file`.",
    ),
    row(
        "KW5022",
        "unknown form of a file",
        "The file says another `version` than 1. It may mean things that this program does not know.",
        "Write `version = 1`; for the state of the file there is `revision`.",
    ),
    row(
        "KW5023",
        "nothing could meet this",
        "A condition is empty or contradicts itself, a period ends before it begins, more groups are wanted than are named, or approvals are asked for what nobody approves.",
        "Say what is meant, or leave the key out: what is left out does not matter.",
    ),
    row(
        "KW5024",
        "the default is too easy",
        "What no rule matches cannot go by itself: a rule with a typing error would let everything through.",
        "Write a last rule that names the actions which may go by themselves.",
    ),
    row(
        "KW5025",
        "no hours",
        "A rule, a quorum or a period asks for the time of the day, and the file does not say in what zone people work, and when.",
        "Add `[hours]` with `zone`, `from` and `until`.",
    ),
    row(
        "KW5026",
        "policy is easier than promised",
        "The contract promises more care than policy takes. The message names a subject for which it is so.",
        "Add a rule that holds it, or promise less.",
    ),
    row(
        "KW5027",
        "policy is harder than promised",
        "Policy holds or refuses what the contract promises to go. The message names a subject for which it is so.",
        "Add a rule that lets it go, or say in `lanes` that this happens too.",
    ),
    row(
        "KW5028",
        "promised, and never so",
        "The contract says that an action goes in a lane which policy never chooses for it.",
        "Take the lane out of the promise, or add the rule that is missing.",
    ),
    row(
        "KW5029",
        "nothing is promised",
        "The contract leaves out a kind of action. Whoever relies on it could not tell what happens to it.",
        "Add a table for it.",
    ),
    row(
        "KW5030",
        "a promise that contradicts itself",
        "A promise names no lane or names it twice, or says what happens while something waits that never waits.",
        "Name `lane` or `lanes`; `while_waiting` and `when_nobody` belong to `review-required`.",
    ),
    row(
        "KW5031",
        "too much to look at",
        "The rules tell so many kinds of subject apart that not all of them can be looked at, and a sample proves nothing. Decisions are made all the same; a contract cannot be held against such a policy.",
        "Use fewer different labels, owners and counts in the rules for one action.",
    ),
    row(
        "KW5032",
        "a rule against the floor",
        "A rule would let an action go by itself that never does: changes of CAs, trust, keys of accounts, configuration and policy, a compromised key, waivers, break-glass. It waits for people all the same.",
        "Name in `actions` what the rule is for.",
    ),
    row(
        "KW5033",
        "a rule that decides nothing",
        "No subject is decided by this rule: the rules before it take everything that it would, or its conditions exclude each other.",
        "Move it up, mend it, or remove it.",
    ),
    row(
        "KW5034",
        "no rules",
        "The policy file has no rule, and says nothing of what no rule matches: everything is prohibited.",
        "Write rules, or `default = \"review-required\"`.",
    ),
    row(
        "KW5035",
        "a case failed",
        "Policy decides a case otherwise than its table expects.",
        "`keyward policy explain` says why; mend the policy, or the expectation.",
    ),
    row(
        "KW5036",
        "a rule without a case",
        "No case is decided by this rule, so nobody would notice if it changed.",
        "Add a case for it.",
    ),
    row(
        "KW5037",
        "a case that cannot fail",
        "A case expects nothing.",
        "Expect a lane, a rule, a tier, a number of persons or a quorum.",
    ),
];
