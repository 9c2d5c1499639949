//! What keys do to a path of a running daemon.

use std::fs;
use std::time::{Duration, Instant};

use super::harness::{Kit, codes, version};

const FILE: &str = "[[key]]\nid = \"api\"\nclass = \"symmetric-authentication\"\nowner = \"payments\"\n\
                    paths = [\"approve\"]\nfile = \"@/api.key\"\nevery = \"1s\"\n";

#[test]
fn an_overdue_key_is_told_and_its_path_closes_at_the_hard_limit_and_another_key_opens_it() {
    let kit = Kit::prepare(&format!("{FILE}cryptoperiod = \"4s\"\nhard_limit = \"12s\"\ngrace = \"2s\"\n"));
    kit.write("api.key", "first\n");
    let mut kit = kit;
    kit.run_daemon();
    kit.wait_for(&[]);
    let told = |v: &serde_json::Value| codes(v).iter().any(|c| c == "KW4891" || c == "KW4892");
    let view = kit.wait("overdue", |kit| Some(kit.show("api")).filter(|v| v["outlook"] == "overdue" && told(v)));
    assert_eq!(kit.reasons(), [""; 0], "overdue is borne: {view}");
    kit.wait_for(&["KW4881"]);
    let began = Instant::now();
    let (code, said) = kit.run(&["key", "list"]);
    assert!(began.elapsed() < Duration::from_secs(5));
    for word in ["api", "past its limit", "payments", "ago", "approve"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(code, 3);
    assert!(kit.log().contains("KW4893") && kit.log().contains("payments"), "its owner hears of it");
    kit.write("api.key", "second\n");
    kit.wait_for(&[]);
    let view = kit.show("api");
    assert_eq!(version(&view, "CURRENT")["number"], 2, "{view}");
    assert_eq!(version(&view, "PREVIOUS")["state"], "deactivated", "{view}");
    assert!(kit.ok(&["audit", "query", "--limit", "200"]).contains("KW4902"));
    // The old one again is as old as it was.
    kit.write("api.key", "first\n");
    kit.wait("the old key", |kit| kit.reasons().contains(&"KW4883".to_owned()).then_some(()));
    assert_eq!(version(&kit.show("api"), "CURRENT")["number"], 1);
    assert!(kit.log().contains("KW4904"));
}

#[test]
fn a_compromised_key_closes_at_once_and_for_ever_and_survives_a_restart() {
    let kit = Kit::prepare(FILE);
    kit.write("api.key", "first\n");
    let mut kit = kit;
    kit.run_daemon();
    kit.wait_for(&[]);
    let (code, said) = kit.run(&["key", "compromised", "api", "--reason", ""]);
    assert_eq!((code, said.contains("KW4923")), (1, true), "{said}");
    let said =
        kit.ok(&["key", "compromised", "api", "--reason", "found in a repository", "--since", "2026-01-01T00:00:00Z"]);
    assert!(said.contains("key api is compromised") && said.contains("used: path approve"), "{said}");
    assert_eq!(kit.reasons(), ["KW4882"], "at once");
    let refused = kit.run(&["key", "resume", "api", "--reason", "never mind"]);
    assert_eq!((refused.0, refused.1.contains("KW4922")), (1, true), "{}", refused.1);
    kit.kill();
    kit.revive();
    kit.wait_for(&["KW4882"]);
    kit.write("api.key", "second\n");
    kit.wait_for(&[]);
    kit.write("api.key", "first\n");
    kit.wait("blocked", |kit| kit.reasons().contains(&"KW4882".to_owned()).then_some(()));
    let (code, why) = kit.run(&["gate", "explain", "approve"]);
    assert_eq!((code, why.contains("KW4882")), (5, true), "{why}");
    // What was written down is judged again to the same, elsewhere.
    let written = kit.json(&["gate", "explain", "approve"]).unwrap().to_string();
    assert!(written.contains("\"keys\""), "{written}");
    fs::write(kit.at("explanation.json"), written).unwrap();
    let (code, said) = kit.run(&["gate", "replay", kit.at("explanation.json").to_str().unwrap()]);
    assert_eq!((code, said.contains("judged again, the same comes of it")), (0, true), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_borne_for_its_grace_and_then_closes() {
    let kit = Kit::prepare(&format!("{FILE}grace = \"4s\"\n"));
    kit.write("api.key", "first\n");
    let mut kit = kit;
    kit.run_daemon();
    kit.wait_for(&[]);
    fs::remove_file(kit.at("api.key")).unwrap();
    let view = kit.wait("a failed look", |kit| Some(kit.show("api")).filter(|v| !v["problem"].is_null()));
    assert_eq!(kit.reasons(), [""; 0], "{view}");
    assert!(view["problem"].as_str().unwrap().contains("cannot be opened"), "{view}");
    kit.wait_for(&["KW4880"]);
    // Nothing is guessed after a restart.
    kit.kill();
    kit.revive();
    kit.wait("unseen", |kit| (kit.reasons() == ["KW4880"]).then_some(()));
    kit.write("api.key", "first\n");
    kit.wait_for(&[]);
    assert_eq!(version(&kit.show("api"), "CURRENT")["number"], 1, "the same key");
}

#[test]
fn an_exec_probe_that_fails_or_hangs_closes_and_its_facts_are_believed() {
    let kit = Kit::prepare(
        "[[key]]\nid = \"token\"\nclass = \"authorization\"\npaths = [\"approve\"]\nexec = [\"@/probe\"]\n\
         holds = \"facts\"\nevery = \"1s\"\ngrace = \"2s\"\ntimeout = \"1s\"\n",
    );
    kit.script("probe", "#!/bin/sh\necho version=v1\necho created=2026-05-01T00:00:00Z\n");
    let mut kit = kit;
    kit.run_daemon();
    kit.wait_for(&[]);
    assert_eq!(kit.show("token")["created"], "2026-05-01T00:00:00Z");
    kit.script("probe", "#!/bin/sh\nsleep 600\n");
    kit.wait_for(&["KW4880"]);
    assert!(kit.show("token")["problem"].as_str().unwrap().contains("was killed after 1 s"));
    kit.script("probe", "#!/bin/sh\necho s3cret\nexit 7\n");
    kit.wait("the exit code", |kit| kit.show("token")["problem"].as_str()?.contains("status: 7").then_some(()));
    kit.script("probe", "#!/bin/sh\necho version=v2\n");
    kit.wait_for(&[]);
    assert_eq!(version(&kit.show("token"), "PREVIOUS")["state"], "destroyed");
}

#[test]
fn a_live_system_with_another_key_closes_after_its_grace() {
    let kit = Kit::prepare(&format!("{FILE}grace = \"3s\"\nlive = [\"/bin/cat\", \"@/live\"]\n"));
    kit.write("api.key", "first\n");
    kit.write("live", "first\n");
    let mut kit = kit;
    kit.run_daemon();
    kit.wait_for(&[]);
    kit.write("api.key", "second\n");
    kit.wait("a finding", |kit| codes(&kit.show("api")).contains(&"KW4899".to_owned()).then_some(()));
    kit.wait_for(&["KW4884"]);
    kit.write("live", "second\n");
    kit.wait_for(&[]);
}

#[test]
fn a_manual_key_is_as_old_as_is_said_and_is_suspended_and_rotated_by_hand() {
    let kit = Kit::start(
        "keys = [\"vendor\"]\n[[key]]\nid = \"vendor\"\nclass = \"private-authentication\"\n\
         created = \"2020-01-01\"\nmanual = true\n",
    );
    kit.wait_for(&["KW4881"]);
    kit.ok(&["key", "rotated", "vendor", "--reason", "new contract"]);
    kit.wait_for(&[]);
    assert_eq!(version(&kit.show("vendor"), "PREVIOUS")["state"], "destroyed");
    assert_eq!(version(&kit.show("vendor"), "PREVIOUS")["public_half"], "deactivated");
    let (code, said) = kit.run(&["key", "deactivate", "vendor", "--reason", "x"]);
    assert_eq!((code, said.contains("KW4922") && said.contains("destroyed at the end")), (1, true), "{said}");
    kit.ok(&["key", "suspend", "vendor", "--reason", "incident 42"]);
    assert_eq!(kit.reasons(), ["KW4883"]);
    kit.ok(&["key", "resume", "vendor", "--reason", "incident 42 is over"]);
    kit.wait_for(&[]);
    kit.ok(&["key", "destroy", "vendor", "--reason", "contract ended"]);
    assert_eq!(kit.reasons(), ["KW4883"]);
    let (code, said) = kit.run(&["key", "show", "nobody"]);
    assert_eq!((code, said.contains("KW4920")), (1, true), "{said}");
}
