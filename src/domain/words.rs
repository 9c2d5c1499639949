//! The words that an entry of the audit log is found by: `KIND:VALUE`, for example `credential:portal`.
//!
//! They are derived: whoever has an entry's bytes can say its words, so that the index can be made again and checked.
//! Refuses to know where the index is kept.

use crate::domain::time::{DAY, Timestamp};

/// A word has at most this many bytes: ids have up to 63 and subjects some dozens; what is longer is cut, when it is
/// written and when it is asked for.
pub const LONGEST_WORD: usize = 256;

/// The parts of an entry that make words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// When.
    pub at: Timestamp,
    /// The kind of its target.
    pub target_kind: &'a str,
    /// The id of its target.
    pub target_id: &'a str,
    /// Its action.
    pub action: &'a str,
    /// Its code.
    pub code: &'a str,
    /// Its phase.
    pub phase: &'a str,
    /// Its outcome.
    pub outcome: Option<&'a str>,
    /// What kind of actor.
    pub actor_kind: &'a str,
    /// Which one, if it has a name.
    pub actor_subject: Option<&'a str>,
    /// The tier of the policy's decision.
    pub tier: Option<u8>,
    /// The issuer that its facts name.
    pub issuer: Option<&'a str>,
    /// What it belongs to, as text.
    pub correlation: Option<&'a str>,
}

/// The words of an entry, each once; the first is that of its target.
#[must_use]
pub fn words(parts: &Parts<'_>) -> Vec<String> {
    let mut out = Vec::with_capacity(12);
    let mut put = |kind: &str, value: &str| {
        let word = word(kind, value);
        if !out.contains(&word) {
            out.push(word);
        }
    };
    // The link to the previous entry about the same target is found by the first.
    put("target", &format!("{}/{}", parts.target_kind, parts.target_id));
    // An entry about a credential, a path or an issuer is also found by that word alone, and so is one that names it.
    if matches!(parts.target_kind, "credential" | "path" | "issuer") {
        put(parts.target_kind, parts.target_id);
    }
    put("action", parts.action);
    put("code", parts.code);
    put("phase", parts.phase);
    put("actor", parts.actor_kind);
    put("day", &day(parts.at).to_string());
    let tier = parts.tier.map(|tier| tier.to_string());
    let rest = [
        ("actor", parts.actor_subject),
        ("outcome", parts.outcome),
        ("tier", tier.as_deref()),
        ("issuer", parts.issuer),
        ("correlation", parts.correlation),
    ];
    rest.into_iter().for_each(|(kind, value)| value.into_iter().for_each(|value| put(kind, value)));
    out
}

/// One word. What is too long is cut on a character's boundary.
#[must_use]
pub fn word(kind: &str, value: &str) -> String {
    let mut word = format!("{kind}:{value}");
    let mut end = word.len().min(LONGEST_WORD);
    while !word.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    word.truncate(end);
    word
}

/// Which day since 1970 a time is in, UTC. Wall clocks step, so the places of a log are not in the order of their times;
/// by its days it is still known between which places the entries of a time lie.
#[must_use]
pub fn day(at: Timestamp) -> i64 {
    at.unix().div_euclid(i64::try_from(DAY.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: Parts<'_> = Parts {
        at: Timestamp::from_unix(86_400 * 2 + 5),
        target_kind: "credential",
        target_id: "portal",
        action: "certificate.issue",
        code: "KW2001",
        phase: "intent",
        outcome: None,
        actor_kind: "human",
        actor_subject: Some("uid:1000"),
        tier: Some(2),
        issuer: Some("le"),
        correlation: Some("01J"),
    };

    #[test]
    fn an_entry_is_found_by_all_that_is_asked_for() {
        let expected = [
            "target:credential/portal",
            "credential:portal",
            "action:certificate.issue",
            "code:KW2001",
            "phase:intent",
            "actor:human",
            "day:2",
            "actor:uid:1000",
            "tier:2",
            "issuer:le",
            "correlation:01J",
        ];
        assert_eq!(words(&PARTS), expected);
    }

    #[test]
    fn a_word_stands_once_and_is_never_too_long() {
        let long = "é".repeat(LONGEST_WORD);
        let parts = Parts { target_kind: "issuer", target_id: "le", actor_subject: Some(&long), ..PARTS };
        let all = words(&parts);
        assert_eq!(all.iter().filter(|w| *w == "issuer:le").count(), 1);
        assert!(all.iter().all(|w| w.len() <= LONGEST_WORD));
        assert!(all.contains(&word("actor", &long)));
    }

    #[test]
    fn days_before_1970_are_days_too() {
        assert_eq!([-86_401, -1, 0, 86_399, 86_400].map(|s| day(Timestamp::from_unix(s))), [-2, -1, 0, 0, 1]);
    }
}
