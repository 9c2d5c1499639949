//! Policy files: what is refused, what the samples say, and that a broken one keeps nobody's policy from being in force.

use std::path::{Path, PathBuf};

use keyward::domain::policy::{Act, Lane, Otherwise, Remark, decide};
use keyward::shell::config::{self, Overrides};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn codes(error: &config::ConfigError) -> Vec<&'static str> {
    error.problems().iter().map(|p| p.code).collect()
}

/// The codes of a policy with this after `version = 1`.
fn refused(text: &str) -> Vec<&'static str> {
    config::parse_policy("policy.toml", &format!("version = 1\n{text}")).map_or_else(|e| codes(&e), |_| Vec::new())
}

#[test]
fn the_samples_load_keep_their_contract_and_have_nothing_odd() {
    let policy = config::load_policy(&path("policy.toml")).unwrap_or_else(|e| panic!("{e}"));
    let contract = config::load_contract(&path("contract.toml"), &policy).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(contract.promises.len(), Act::ALL.len());
    assert_eq!(policy.remarks(), []);
}

#[test]
fn every_case_of_the_sample_is_as_expected_and_every_rule_has_one() {
    let cases = config::load_cases(&path("policy-tests.toml")).unwrap_or_else(|e| panic!("{e}"));
    let policy = config::load_policy(cases.policy.as_deref().unwrap()).unwrap();
    let mut idle: Vec<&str> = policy.rules().iter().map(|rule| &*rule.id).collect();
    for case in &cases.cases {
        let decision = decide(&case.subject(&policy), &policy);
        let lane = case.expect.lane.unwrap_or(decision.verdict.lane());
        assert_eq!(decision.verdict.lane(), lane, "{}", case.name);
        idle.retain(|rule| **rule != *decision.rule);
    }
    assert!(idle.is_empty(), "{idle:?}");
}

#[test]
fn a_file_that_says_nothing_prohibits_everything() {
    let policy = config::parse_policy("policy.toml", "version = 1\n").unwrap();
    assert_eq!((policy.otherwise(), policy.remarks()), (Otherwise::Prohibit, vec![Remark::Empty]));
    let none = Default::default();
    for (act, _) in Act::ALL {
        let subject = keyward::domain::policy::Subject::new(act, &none, 0).quiet();
        assert_eq!(decide(&subject, &policy).verdict.lane(), Lane::Prohibited, "{act:?}");
    }
}

#[test]
fn what_could_not_be_meant_is_refused_in_its_place() {
    let rule = |more: &str| refused(&format!("[[rule]]\nid = \"a\"\nlane = \"review-required\"\n{more}\n"));
    assert_eq!(rule(""), [""; 0]);
    for (more, expected) in [
        ("actions = []", "KW5023"),
        ("labels = {}", "KW5023"),
        ("lacks = []", "KW5023"),
        ("owners = []", "KW5023"),
        ("issuer = []", "KW5023"),
        ("during = []", "KW5023"),
        ("min_tier = 3\nmax_tier = 2", "KW5023"),
        ("min_failures = 3\nmax_failures = 2", "KW5023"),
        ("hours = \"off\"", "KW5025"),
        ("during = [\"year-end\"]", "KW0012"),
        ("actions = [\"renw\"]", "KW0013"),
        ("issuer = [\"old\"]", "KW0013"),
        ("reversible = \"no\"", "KW0005"),
        ("min_tier = 5", "KW0016"),
        ("approvals = { groups = 2, of = [\"pki\"] }", "KW5023"),
        ("approvals = { persons = 0 }", "KW0016"),
        ("min_failure = 2", "KW0003"),
    ] {
        assert_eq!(rule(more), [expected], "{more}");
    }
    for (text, expected) in [
        ("default = \"autonomous\"", "KW5024"),
        ("recent = \"1s\"", "KW0014"),
        ("[[rule]]\nid = \"a\"\nlane = \"autonomous\"\napprovals = { persons = 1 }", "KW5023"),
        ("[[rule]]\nid = \"a\"\n", "KW0004"),
        ("[[rule]]\nid = \"a\"\nlane = \"prohibited\"\n[[rule]]\nid = \"a\"\nlane = \"prohibited\"", "KW0011"),
        ("[[period]]\nid = \"p\"\nfrom = \"2026-01-01\"\nuntil = \"2026-01-02\"", "KW5025"),
        ("[hours]\nzone = \"UTC\"\nfrom = \"09:00\"\nuntil = \"09:00\"", "KW0019"),
        ("[hours]\nzone = \"UTC\"\nfrom = \"09:00\"\nuntil = \"17:00\"\nholidays = [\"2026-02-30\"]", "KW0019"),
        ("[hours]\nzone = \"UTC\"\ndays = []\nfrom = \"09:00\"\nuntil = \"17:00\"", "KW5023"),
    ] {
        assert_eq!(refused(text), [expected], "{text}");
    }
    assert_eq!(codes(&config::parse_policy("p", "version = 2").unwrap_err()), ["KW5022"]);
    assert_eq!(codes(&config::parse_policy("p", "").unwrap_err()), ["KW0004"]);
    let report =
        config::parse_policy("policy.toml", "version = 1\n[[rule]]\nid = \"a\"\nlan = \"prohibited\"").unwrap_err();
    let report = report.to_string();
    assert!(report.contains("policy.toml:4:1") && report.contains("did you mean `lane`?"), "{report}");
}

#[test]
fn the_digest_changes_with_what_is_said_and_not_with_how_it_is_written() {
    let text = std::fs::read_to_string(path("policy.toml")).unwrap();
    let digest = |text: &str| config::parse_policy("p", text).unwrap_or_else(|e| panic!("{e}")).version();
    let base = digest(&text);
    let bare: String = text
        .lines()
        .map(|l| l.split(" #").next().unwrap().trim())
        .filter(|l| !l.starts_with('#'))
        .fold(String::new(), |all, line| format!("{all}  {line}\n\n"));
    assert_ne!(bare, text);
    assert_eq!(digest(&bare), base, "comments and white space");
    assert_eq!(digest(&text.replacen("labels = { env = \"prod\" }", "labels = {env='prod'}", 1)), base);
    // Every value, by another of its kind.
    for (from, to) in [
        ("revision = \"2026-11-22\"", "revision = \"2026-11-23\""),
        ("default = \"review-required\"", "default = \"prohibited\""),
        ("recent = \"24h\"", "recent = \"23h\""),
        ("zone = \"Europe/Berlin\"", "zone = \"Europe/Paris\""),
        ("from = \"09:00\"", "from = \"09:01\""),
        ("\"2026-12-24\", ", ""),
        ("until = \"2027-01-03\"", "until = \"2027-01-04\""),
        ("min_tier = 3\nhours", "min_tier = 4\nhours"),
        ("persons = 2", "persons = 3"),
        ("groups = 2 ", "groups = 3 "),
        ("\"security\", \"platform\"]", "\"security\", \"ops\"]"),
        ("issuer = [\"new\"]", "issuer = [\"known\"]"),
        ("env = \"prod\"", "env = \"production\""),
        ("during = [", "not_during = ["),
        ("lacks = [\"tenant_tier\"]", "lacks = [\"tenant\"]"),
        ("reversible = false", "reversible = true"),
        ("approvals = { persons = 1, of = [\"pki\"] }", "approvals = { persons = 1, of = [\"security\"] }"),
        ("min_failures = 2", "min_failures = 3"),
        ("min_failures = 2", "max_failures = 2"),
        ("min_flaps = 2", "min_flaps = 1"),
        ("min_incidents = 1", "min_incidents = 2"),
        ("owners = [\"payments\"]", "owners = [\"payment\"]"),
        ("min_tier = 2", "max_tier = 2"),
        ("hours = \"off\"\nlane", "hours = \"business\"\nlane"),
        ("lane = \"autonomous\"", "lane = \"review-required\""),
        ("id = \"routine\"", "id = \"daily\""),
        ("\"reinstall\", \"acme_order\"]\nlane", "\"reinstall\"]\nlane"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is not in the sample");
        assert_ne!(digest(&changed), base, "{from} → {to}");
    }
}

/// A configuration with its policy beside it.
fn written(policy: &str, keyward: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
    std::fs::write(&file, format!("{}\n{keyward}", super::sample("minimal.toml"))).unwrap();
    (dir, file)
}

#[test]
fn a_configuration_names_its_policy_and_its_contract() {
    let text = std::fs::read_to_string(path("policy.toml")).unwrap();
    let (dir, file) = written(&text, "[policy]\nfile = \"policy.toml\"\ncontract = \"contract.toml\"\n");
    std::fs::copy(path("contract.toml"), dir.path().join("contract.toml")).unwrap();
    let load = || config::load(&file, Overrides::default());
    let settings = load().unwrap_or_else(|e| panic!("{e}"));
    let policy = &settings.estate.policy;
    assert_eq!(policy.rules().len(), 9);
    assert!(policy.setting().contract.is_some());
    assert_ne!(policy.version(), config::load_policy(&path("policy.toml")).unwrap().version(), "with the contract");
    let change = |to: String| std::fs::write(dir.path().join("policy.toml"), to).unwrap();
    change(text.replacen("min_failures = 2", "min_failures = 3", 1));
    assert_ne!(load().unwrap().digest, settings.digest, "a reload is news although keyward.toml is the same");
    change(format!("# only a comment\n{text}"));
    assert_eq!(load().unwrap().digest, settings.digest);
    change(text.replacen("min_failures = 2", "min_failurs = 2", 1));
    let error = load().unwrap_err();
    assert_eq!(codes(&error), ["KW0003"]);
    assert!(error.to_string().contains("policy.toml:"), "{error}");
    std::fs::remove_file(dir.path().join("policy.toml")).unwrap();
    assert_eq!(codes(&load().unwrap_err()), ["KW5020"]);
}

#[test]
fn problems_of_both_files_are_shown_at_once() {
    let (_dir, file) = written("version = 1\nx = 1\n", "[policy]\nfile = \"policy.toml\"\n[timing]\ny = 2\n");
    let report = config::load(&file, Overrides::default()).unwrap_err().to_string();
    assert!(report.contains("unknown key `x`") && report.contains("unknown key `y`"), "{report}");
}

#[test]
fn rules_stand_in_one_place() {
    let both = "[policy]\nfile = \"policy.toml\"\n[[policy.rule]]\nid = \"a\"\nlane = \"prohibited\"\n";
    let (_dir, file) = written("version = 1\ndefault = \"review-required\"\n", both);
    assert_eq!(codes(&config::load(&file, Overrides::default()).unwrap_err()), ["KW5021"]);
    let text = format!("{}\n[policy]\nfile = \"policy.toml\"\n", super::sample("minimal.toml"));
    assert_eq!(codes(&super::parse(&text).unwrap_err()), ["KW5020"], "a text has nothing beside it");
}

#[test]
fn a_promise_that_policy_does_not_keep_is_refused_with_a_witness() {
    let policy = config::load_policy(&path("policy.toml")).unwrap();
    let text = std::fs::read_to_string(path("contract.toml")).unwrap();
    let judged = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        config::parse_contract("contract.toml", &changed, &policy).unwrap_err()
    };
    let renew = "[actions.renew]\nlanes = [\"autonomous\", \"review-required\"]\n";
    let words = "while_waiting = \"keep\"                    # until it expires; the gate closes before that\nwhen_nobody = \"repair\"\n";
    let harder = judged(&format!("{renew}{words}"), "[actions.renew]\nlane = \"autonomous\"\n");
    assert_eq!(codes(&harder), ["KW5027"]);
    assert!(harder.to_string().contains("2 failures") && harder.to_string().contains("failing"), "{harder}");
    let easier = judged(renew, "[actions.renew]\nlane = \"review-required\"\n");
    assert_eq!(codes(&easier), ["KW5026"]);
    assert!(easier.to_string().contains("autonomous by routine"), "{easier}");
    let never = judged(renew, "[actions.renew]\nlanes = [\"autonomous\", \"review-required\", \"prohibited\"]\n");
    assert_eq!(codes(&never), ["KW5028"]);
    let silent = judged(&format!("{renew}{words}"), "");
    assert_eq!(codes(&silent), ["KW5029"]);
    let pretends = judged(renew, "[actions.renew]\nlane = \"autonomous\"\n");
    assert_eq!(codes(&pretends), ["KW5030", "KW5030"]);
    // The floor is part of the policy: nobody can promise that it does not hold.
    let floor = judged(
        "[actions.ca_change]\nlane = \"review-required\"\nwhile_waiting = \"keep\"\nwhen_nobody = \"expire\"\n",
        "[actions.ca_change]\nlane = \"autonomous\"\n",
    );
    assert_eq!(codes(&floor), ["KW5027", "KW5028"]);
}

#[test]
fn cases_that_could_not_fail_or_are_not_understood_are_refused() {
    let case = |more: &str| {
        let text = format!("version = 1\n[[case]]\nname = \"a\"\naction = \"renew\"\n{more}\n");
        config::parse_cases("cases.toml", &text).map_or_else(|e| codes(&e), |_| Vec::new())
    };
    assert_eq!(case("expect = { lane = \"autonomous\" }"), [""; 0]);
    for (more, expected) in [
        ("", "KW0004"),
        ("expect = {}", "KW5037"),
        ("expect = { lane = \"auto\" }", "KW0013"),
        ("expect = { tier = 1 }\nat = \"2026-12-24\"", "KW0019"),
        ("expect = { tier = 1 }\nunknown = [\"labels\"]", "KW0013"),
        ("expect = { tier = 1 }\nfailres = 1", "KW0003"),
    ] {
        assert_eq!(case(more), [expected], "{more}");
    }
    assert_eq!(codes(&config::parse_cases("c", "version = 1").unwrap_err()), ["KW0004"]);
}
