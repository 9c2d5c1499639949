//! `keyward policy …`: files in, words and exit codes out.

use std::path::Path;

use serde_json::Value;

use super::{Ran, hinted, home, keyward};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config");

fn run(dir: &Path, line: &str) -> Ran {
    keyward(dir, &line.split_whitespace().collect::<Vec<_>>())
}

fn sample(line: &str) -> Ran {
    run(Path::new(ROOT), line)
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}{}", ran.out, ran.err))
}

#[test]
fn the_samples_are_checked_tested_and_covered_without_a_configuration() {
    let check = sample("policy check policy.toml --contract contract.toml");
    assert_eq!((check.code, check.err.as_str()), (0, ""), "{}", check.out);
    assert!(check.out.contains("9 rules, keeps all 21 promises of its contract"), "{}", check.out);
    let test = sample("policy test policy-tests.toml --coverage");
    assert_eq!((test.code, test.err.as_str()), (0, ""), "{}", test.out);
    assert!(test.out.contains("15 of 15 cases as expected; 9 of 9 rules decide one"), "{}", test.out);
    let told = json(&sample("policy test policy-tests.toml --coverage -o json"));
    assert_eq!((&told["failed"], &told["rules"]), (&0.into(), &9.into()));
    assert_eq!(told["cases"][1]["rule"], "failing");
    let again = json(&sample("policy test policy-tests.toml -o json"));
    assert_eq!(again, json(&sample("policy test policy-tests.toml -o json")), "the same inputs, the same digests");
}

#[test]
fn a_case_that_fails_and_a_rule_without_a_case_are_1() {
    let home = home();
    let cases = |text: &str| {
        let policy = format!("{ROOT}/policy.toml");
        std::fs::write(home.path().join("cases.toml"), format!("version = 1\npolicy = \"{policy}\"\n{text}")).unwrap();
    };
    cases(
        "[[case]]\nname = \"wrong\"\naction = \"renew\"\nexpect = { lane = \"prohibited\", tier = 2, rule = \"failing\" }\n",
    );
    let ran = run(home.path(), "policy test cases.toml");
    assert_eq!(ran.code, 1);
    let said = "KW5035 cases.toml:3: wrong: the lane is autonomous, expected prohibited; the rule is routine, expected failing; the tier is 0, expected 2";
    assert!(ran.out.contains(said) && ran.out.contains("FAILED"), "{}", ran.out);
    assert_eq!(run(home.path(), "policy test cases.toml -o name").out.trim(), "wrong");
    cases("[[case]]\nname = \"right\"\naction = \"renew\"\nexpect = { lane = \"autonomous\" }\n");
    assert_eq!(run(home.path(), "policy test cases.toml").code, 0);
    let covered = run(home.path(), "policy test cases.toml --coverage");
    assert_eq!(covered.code, 1);
    assert!(covered.out.contains("KW5036 no case is decided by year-end"), "{}", covered.out);
    assert!(!covered.out.contains("decided by routine"), "{}", covered.out);
}

#[test]
fn an_explanation_shows_every_rule_the_sum_of_the_tier_the_floor_and_the_quorum() {
    let night = "policy explain issue_elsewhere --policy policy.toml --label env=prod --paths 2 --issuer known --at 2026-11-23T22:00:00Z";
    let ran = sample(night);
    assert_eq!(ran.code, 4, "{}", ran.err);
    for needle in [
        "waits for 2 persons of 2 groups from pki, platform, security: tier 3",
        "no-unknown-issuer",
        "issuer: wants new, sees known",
        "actions: wants reissue, new_name, changed_profile, key_replacement, sees issue_elsewhere",
        "radius (2 paths, 0 services) 3 → environment (env = \"prod\") 3",
        "out of business hours",
    ] {
        assert!(ran.out.contains(needle), "{needle} is not in\n{}", ran.out);
    }
    let told = json(&sample(&format!("{night} -o json")));
    assert_eq!((&told["lane"], &told["tier"]), (&"review-required".into(), &3.into()));
    assert_eq!(told["quorum"]["needs"][0]["groups"], 2);
    assert_eq!(told["rules"].as_array().unwrap().len(), 9);
    let floor = sample("policy explain ca_change --policy policy.toml");
    assert!(floor.code == 4 && floor.out.contains("this action is under it"), "{}", floor.out);
    assert_eq!(sample("policy explain renew --policy policy.toml -o name").out.trim(), "autonomous");
    assert_eq!(sample("policy explain renew --policy policy.toml").code, 0);
    assert_eq!(sample("policy explain issue_elsewhere --policy policy.toml --issuer new").code, 6);
    for bad in ["renwe", "renew --tier 5", "renew --label env", "renew --at tomorrow", "renew --issuer old"] {
        assert_eq!(sample(&format!("policy explain {bad} --policy policy.toml")).code, 2, "{bad}");
    }
}

#[test]
fn a_credential_is_explained_with_what_the_configuration_says_of_it() {
    let home = home();
    keyward(home.path(), &["init", ".", "--domain", "app.example.org", "--email", "me@example.org"]);
    let ran = run(home.path(), "policy explain renew --credential portal -o json");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told = json(&ran);
    assert_eq!(
        (&told["lane"], &told["rule"]),
        (&"autonomous".into(), &"default: what the configuration names is routine".into())
    );
    assert_eq!(told["tier"], 2, "one path stands on it");
    let unknown = run(home.path(), "policy explain renew --credential nothing");
    assert_eq!(unknown.code, 1);
    hinted(&unknown);
    // Exceptions and the floor hold without any policy, too.
    assert_eq!(run(home.path(), "policy explain new_name --credential portal").code, 4);
    assert_eq!(run(home.path(), "policy explain break_glass").code, 4);
}

#[test]
fn a_difference_is_what_changes_and_not_which_lines() {
    let home = home();
    let text = std::fs::read_to_string(format!("{ROOT}/policy.toml")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    write("old.toml", &text);
    write("same.toml", &format!("# another comment\n{}", text.replace("    ", " ")));
    let same = run(home.path(), "policy diff old.toml same.toml");
    assert_eq!(same.code, 0);
    assert!(same.out.contains("no decision changes\n"), "{}", same.out);
    write("new.toml", &text.replacen("min_failures = 2", "min_failures = 3", 1));
    let ran = run(home.path(), "policy diff old.toml new.toml");
    assert_eq!(ran.code, 3, "{}", ran.err);
    let line = ran.out.lines().find(|l| l.contains("renew")).unwrap();
    assert!(line.starts_with("easier") && line.contains("review-required by 1 person"), "{}", ran.out);
    assert!(line.contains("autonomous") && line.contains("2 failures"), "{}", ran.out);
    let with = format!("policy diff old.toml new.toml --cases {ROOT}/policy-tests.toml -o json");
    let told = json(&run(home.path(), &with));
    assert_eq!(told["cases"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&told["cases"][0]["about"], &told["cases"][0]["course"]),
        (&"after two failures a person looks".into(), &"easier".into())
    );
    assert_ne!(told["old"], told["new"]);
    // Nothing is quieter than a credential that is configured: what changes for it is named.
    keyward(home.path(), &["init", ".", "--domain", "app.example.org", "--email", "me@example.org"]);
    write("strict.toml", "version = 1\ndefault = \"review-required\"\n");
    let told = json(&run(home.path(), "policy diff old.toml strict.toml -c keyward.toml -o json"));
    let about: Vec<&str> =
        told["credentials"].as_array().unwrap().iter().map(|c| c["about"].as_str().unwrap()).collect();
    assert!(about.contains(&"renew portal") && told["credentials"][0]["course"] == "harder", "{told}");
}

#[test]
fn a_digest_is_over_what_is_said() {
    let home = home();
    let text = std::fs::read_to_string(format!("{ROOT}/policy.toml")).unwrap();
    std::fs::write(home.path().join("policy.toml"), format!("# a comment\n\n{text}")).unwrap();
    let (one, other) = (sample("policy digest policy.toml"), run(home.path(), "policy digest policy.toml"));
    assert_eq!((one.code, one.out.trim().len()), (0, 64));
    assert_eq!(one.out, other.out);
    let told = json(&sample("policy digest policy.toml -o json"));
    assert_eq!((told["digest"].as_str(), told["revision"].as_str()), (Some(one.out.trim()), Some("2026-11-22")));
}

#[test]
fn a_rule_against_the_floor_an_idle_one_and_none_at_all_are_warned_of() {
    let home = home();
    let check = |text: &str| {
        std::fs::write(home.path().join("p.toml"), text).unwrap();
        run(home.path(), "policy check p.toml")
    };
    let all = check(
        "version = 1\n[[rule]]\nid = \"all\"\nlane = \"autonomous\"\n[[rule]]\nid = \"late\"\nlane = \"prohibited\"\n",
    );
    assert_eq!(all.code, 3, "{}", all.err);
    assert!(all.out.contains("KW5032 all would let waiver, break_glass, ca_change"), "{}", all.out);
    assert!(all.out.contains("KW5033 late decides nothing"), "{}", all.out);
    let none = check("version = 1\n");
    assert!(none.code == 3 && none.out.contains("KW5034"), "{}", none.out);
    let broken = check("version = 1\n[[rule]]\nid = \"all\"\nlan = \"autonomous\"\n");
    assert_eq!((broken.code, broken.out.as_str()), (64, ""));
    assert!(broken.err.contains("p.toml:4:1") && broken.err.contains("did you mean `lane`?"), "{}", broken.err);
    hinted(&broken);
    let missing = run(home.path(), "policy check nowhere.toml");
    assert!(missing.code == 64 && missing.err.contains("KW5020"), "{}", missing.err);
}
