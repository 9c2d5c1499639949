//! Tables and properties of decisions.

use std::collections::BTreeMap;

use super::*;

fn rule(id: &str, acts: &[Act], labels: &[(&str, &str)], min_tier: u32, lane: Lane) -> Rule {
    let mut rule = Rule::new(id, acts.iter().copied(), lane);
    rule.when.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    rule.when.tier = Range::from(min_tier);
    rule
}

#[test]
fn the_first_matching_rule_decides_and_is_named() {
    let policy = Policy::new(vec![
        rule("no-reissue-in-prod", &[Act::Reissue], &[("env", "prod")], 0, Lane::Prohibited),
        rule("review-high", &[], &[], 3, Lane::ReviewRequired),
    ]);
    let prod = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let cases = [
        (Act::Reissue, 1, Verdict::Refuse, "no-reissue-in-prod"),
        (Act::Renew, 1, Verdict::Proceed, DEFAULT_RULE),
        (Act::Renew, 2, Verdict::AwaitApproval, "review-high"),
    ];
    for (act, paths, verdict, rule) in cases {
        let decision = decide(&Subject::new(act, &prod, paths), &policy);
        assert_eq!((decision.verdict, &*decision.rule), (verdict, rule));
    }
}

#[test]
fn the_version_changes_with_any_byte_of_a_rule() {
    let base = Policy::new(vec![rule("a", &[Act::Renew], &[], 0, Lane::Autonomous)]);
    let other = Policy::new(vec![rule("a", &[Act::Renew], &[], 1, Lane::Autonomous)]);
    assert_ne!(base.version(), other.version());
    assert_ne!(base.version(), Policy::default().version());
}
