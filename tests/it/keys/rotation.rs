//! Rotating by a hook, with a kill at every boundary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::harness::{Kit, version};
use crate::harness::store::SmallDisk;

/// Does its step in a way that bears repetition, and kills the daemon before or after it if a file says so.
const HOOK: &str = "#!/bin/sh\n\
    step=$1\n\
    echo \"$step $KEYWARD_KEY_ROTATION $KEYWARD_KEY_ID $KEYWARD_KEY_STEP\" >> @/steps\n\
    [ -f @/fail-$step ] && { echo noise; exit 3; }\n\
    if [ -f @/die-before-$step ]; then rm @/die-before-$step; kill -9 $(cat @/pid); exit 1; fi\n\
    case $step in\n\
    create) [ -s \"$KEYWARD_KEY_PENDING\" ] || echo made-for-$KEYWARD_KEY_ROTATION > \"$KEYWARD_KEY_PENDING\";;\n\
    set) cp \"$KEYWARD_KEY_PENDING\" @/accepted;;\n\
    test) cmp -s \"$KEYWARD_KEY_PENDING\" @/accepted || exit 4;;\n\
    finish) [ -f @/lie ] || { cp \"$KEYWARD_KEY_PENDING\" @/api.key.new; chmod 600 @/api.key.new; mv @/api.key.new @/api.key; };;\n\
    retire) echo retired > @/retired;;\n\
    esac\n\
    if [ -f @/die-after-$step ]; then rm @/die-after-$step; kill -9 $(cat @/pid); fi\n\
    exit 0\n";

fn keys(overlap: &str, more: &str) -> String {
    format!(
        "[[key]]\nid = \"api\"\nclass = \"symmetric-authentication\"\npaths = [\"approve\"]\nfile = \"@/api.key\"\n\
         every = \"1s\"\n{more}[key.rotation]\nhook = [\"@/hook\"]\noverlap = \"{overlap}\"\n"
    )
}

fn kit(overlap: &str, more: &str) -> Kit {
    let mut kit = Kit::prepare(&keys(overlap, more));
    kit.script("hook", HOOK);
    kit.write("api.key", "the-first-one\n");
    kit.run_daemon();
    kit.wait_for(&[]);
    kit
}

/// Looked at once, and then only by the steps.
fn slow(overlap: &str) -> Kit {
    let mut kit = Kit::prepare(&keys(overlap, "").replace("every = \"1s\"", "every = \"1h\""));
    kit.script("hook", HOOK);
    kit.write("api.key", "the-first-one\n");
    kit.run_daemon();
    kit.wait_for(&[]);
    kit
}

fn steps(kit: &Kit) -> Vec<String> {
    let text = fs::read_to_string(kit.at("steps")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn rotated(kit: &Kit) -> Value {
    kit.wait("the rotation", |kit| {
        Some(kit.show("api")).filter(|v| v["rotation"].is_null() && version(v, "CURRENT")["number"] == 2)
    })
}

#[test]
fn a_rotation_goes_through_all_its_steps_and_both_keys_are_valid_for_the_overlap() {
    let kit = kit("4s", "");
    let plan = kit.ok(&["key", "rotate", "api", "--plan"]);
    for word in ["create", "set", "test", "finish", "retire", "both keys are valid for 4 s", "only the plan"] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    assert_eq!(steps(&kit), [""; 0], "a plan does nothing");
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    let (code, said) = kit.run(&["key", "rotate", "api", "--reason", "again"]);
    assert_eq!((code, said.contains("KW4924")), (1, true), "{said}");
    let view = kit.wait("the overlap", |kit| Some(kit.show("api")).filter(|v| v["rotation"]["step"] == "retire"));
    assert_eq!(version(&view, "PREVIOUS")["state"], "active", "dual-active: {view}");
    assert!(version(&view, "PREVIOUS")["until"].is_string());
    assert!(!kit.at("state/rotations/api").exists(), "what was handed on is wiped");
    let view = rotated(&kit);
    assert_eq!(version(&view, "PREVIOUS")["state"], "deactivated", "{view}");
    assert_eq!(steps(&kit), ["create", "set", "test", "finish", "retire"]);
    assert!(kit.at("retired").exists() && !kit.at("state/rotations/api").exists());
    assert_eq!(kit.reasons(), [""; 0], "the path stays open");
}

#[test]
fn a_kill_before_and_after_every_step_is_gone_on_with_and_nothing_is_lost() {
    for step in ["create", "set", "test", "finish", "retire"] {
        for when in ["before", "after"] {
            let mut kit = kit("1s", "");
            fs::write(kit.at(&format!("die-{when}-{step}")), "").unwrap();
            kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
            kit.revive();
            let view = rotated(&kit);
            let all = steps(&kit);
            let mut once = all.clone();
            once.dedup();
            assert_eq!(once, ["create", "set", "test", "finish", "retire"], "{when} {step}: {all:?}");
            assert_eq!(all.len(), 6, "only the step that was cut off is repeated: {all:?}");
            let text = fs::read_to_string(kit.at("steps")).unwrap();
            let mut ids: Vec<&str> = text.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
            ids.dedup();
            assert_eq!(ids.len(), 1, "one rotation: {text}");
            assert_eq!(fs::read_to_string(kit.at("api.key")).unwrap(), format!("made-for-{}\n", ids[0]));
            assert_eq!(version(&view, "PREVIOUS")["state"], "deactivated", "{view}");
            // Each step has one announcement and one outcome, and none is called lost.
            let log = kit.ok(&["audit", "query", "--limit", "200"]);
            let count = |code: &str| log.matches(code).count();
            assert_eq!((count("KW4906"), count("KW4907"), count("KW4908")), (5, 5, 0), "{when} {step}: {log}");
            let stats = kit.ok(&["audit", "stats"]);
            assert!(!kit.log().contains("nothing says what became of it"), "{stats}");
            kit.wait_for(&[]);
        }
    }
}

#[test]
fn a_kill_in_the_overlap_leaves_both_keys_valid_until_its_end() {
    let mut kit = kit("6s", "");
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    kit.wait("the overlap", |kit| (kit.show("api")["rotation"]["step"] == "retire").then_some(()));
    kit.kill();
    kit.revive();
    let view = kit.show("api");
    assert_eq!(view["rotation"]["step"], "retire", "{view}");
    rotated(&kit);
    assert_eq!(steps(&kit), ["create", "set", "test", "finish", "retire"]);
}

#[test]
fn a_hook_that_only_says_so_rotates_nothing_and_a_person_gives_it_up() {
    let kit = kit("1s", "");
    fs::write(kit.at("lie"), "").unwrap();
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    let view = kit.wait("a failure", |kit| {
        Some(kit.show("api")).filter(|v| v["rotation"]["step"] == "finish" && v["rotation"]["failures"] == 1)
    });
    assert_eq!(version(&view, "CURRENT")["number"], 1, "{view}");
    assert!(kit.log().contains("the old key is still in its place"), "{}", kit.log());
    kit.ok(&["key", "rotate", "api", "--abandon", "--reason", "the vendor is down"]);
    let view = kit.show("api");
    assert!(view["rotation"].is_null() && version(&view, "CURRENT")["state"] == "active", "{view}");
    assert!(!kit.at("state/rotations/api").exists());
    assert_eq!(kit.reasons(), [""; 0]);
}

#[test]
fn a_step_that_fails_is_tried_again_later_and_what_it_prints_is_not_kept() {
    let kit = kit("1s", "");
    fs::write(kit.at("fail-set"), "").unwrap();
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    let view = kit.wait("a failure", |kit| Some(kit.show("api")).filter(|v| v["rotation"]["failures"] == 1));
    assert_eq!(view["rotation"]["step"], "set");
    assert!(view["rotation"]["not_before"].is_string(), "{view}");
    assert!(kit.log().contains("exit status: 3") && !kit.log().contains("noise"), "{}", kit.log());
    assert_eq!(version(&view, "PENDING")["state"], "pre-activation");
}

#[test]
fn an_overdue_key_rotates_by_itself_and_a_freeze_holds_it() {
    let mut kit = Kit::prepare(
        &keys("1s", "cryptoperiod = \"5s\"\nhard_limit = \"1h\"\n")
            .replace("overlap = \"1s\"", "overlap = \"1s\"\nautomatic = true"),
    );
    kit.script("hook", HOOK);
    kit.write("api.key", "the-first-one\n");
    kit.run_daemon();
    kit.ok(&["freeze", "--scope", "path:approve", "--reason", "incident", "--until", "1h"]);
    kit.wait("overdue", |kit| (kit.show("api")["outlook"] == "overdue").then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(steps(&kit), [""; 0], "the freeze holds it");
    let list = kit.json(&["freeze", "list"]).unwrap();
    let id = list[0]["id"].as_str().unwrap().to_owned();
    kit.ok(&["freeze", "thaw", &id, "--reason", "over"]);
    kit.wait("the rotation", |kit| steps(kit).contains(&"finish".to_owned()).then_some(()));
}

#[test]
fn a_compromised_old_key_keeps_its_path_closed_until_it_is_retired_and_no_freeze_holds_that() {
    let kit = kit("1h", "");
    fs::write(kit.at("fail-retire"), "").unwrap();
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    kit.wait("the overlap", |kit| (kit.show("api")["rotation"]["step"] == "retire").then_some(()));
    assert_eq!(kit.reasons(), [""; 0]);
    // A scope that freezes the key and closes no path.
    kit.ok(&["freeze", "--scope", "path:approve", "--reason", "incident", "--until", "1h"]);
    kit.ok(&["key", "compromised", "api", "--previous", "--reason", "found in a repository"]);
    kit.wait("the retirement that fails", |kit| (kit.show("api")["rotation"]["failures"] == 1).then_some(()));
    assert!(kit.reasons().contains(&"KW4882".to_owned()), "the old key is accepted: {:?}", kit.reasons());
}

#[test]
fn an_old_key_past_its_limit_keeps_its_path_closed_until_it_is_retired() {
    let kit = kit("1h", "cryptoperiod = \"5s\"\nhard_limit = \"12s\"\n");
    kit.wait("overdue", |kit| (kit.show("api")["outlook"] == "overdue").then_some(()));
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    kit.wait("the overlap", |kit| (kit.show("api")["rotation"]["step"] == "retire").then_some(()));
    kit.wait_for(&["KW4881"]);
    let view = kit.show("api");
    assert!(["good", "overdue"].contains(&view["outlook"].as_str().unwrap()), "it is the old one's limit: {view}");
}

#[test]
fn a_retirement_looks_first_and_never_takes_away_the_key_in_use() {
    // Looks of their own come too late: only the step itself can see it.
    let kit = slow("6s");
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    kit.wait("the overlap", |kit| (kit.show("api")["rotation"]["step"] == "retire").then_some(()));
    kit.write("api.key", "the-first-one\n");
    let view = kit.wait("the stop", |kit| Some(kit.show("api")).filter(|v| v["rotation"].is_null()));
    assert_eq!((&version(&view, "CURRENT")["number"], steps(&kit).len()), (&Value::from(1), 4), "{view}");
    assert!(!kit.at("retired").exists() && kit.log().contains("KW4904"), "{}", kit.log());
    assert!(kit.log().contains("the old key is not retired"), "{}", kit.log());
    kit.wait_for(&[]);
}

#[test]
fn a_rotation_whose_hook_left_the_configuration_is_given_up_and_the_old_key_stays_accepted() {
    let kit = kit("1h", "");
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    kit.wait("the overlap", |kit| (kit.show("api")["rotation"]["step"] == "retire").then_some(()));
    let (code, said) = kit.run(&["key", "rotate", "api", "--abandon", "--reason", "no"]);
    assert_eq!((code, said.contains("KW4924")), (1, true), "{said}");
    let all = keys("1h", "");
    kit.configure(all.split("[key.rotation]").next().unwrap());
    kit.ok(&["config", "reload"]);
    kit.ok(&["key", "rotate", "api", "--abandon", "--reason", "another vendor"]);
    let stuck = |kit: &Kit| super::harness::codes(&kit.show("api")).contains(&"KW4889".to_owned());
    kit.wait("the finding", |kit| stuck(kit).then_some(()));
    kit.ok(&["key", "compromised", "api", "--previous", "--reason", "found in a repository"]);
    assert_eq!(kit.reasons(), ["KW4882"], "nobody has retired it");
    kit.ok(&["key", "destroy", "api", "--previous", "--reason", "the vendor takes it no more"]);
    kit.wait_for(&[]);
    kit.wait("the end of the finding", |kit| (!stuck(kit)).then_some(()));
}

#[test]
fn a_step_whose_outcome_cannot_be_written_is_not_done_every_second() {
    let disk = SmallDisk::new("28m");
    let mut kit = Kit::prepare(&keys("1h", ""));
    let (config, state) = (kit.at("keyward.toml"), disk.path().join("state"));
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(kit.at("state").to_str().unwrap(), state.to_str().unwrap())).unwrap();
    let fill = disk.path().join("fill");
    let full = format!("set) dd if=/dev/zero of={} bs=4096 2>/dev/null;;\n", fill.display());
    kit.script("hook", &HOOK.replace("case $step in\n", &format!("case $step in\n{full}")));
    kit.write("api.key", "the-first-one\n");
    kit.run_daemon();
    kit.wait_for(&[]);
    kit.ok(&["key", "rotate", "api", "--reason", "quarterly"]);
    let closed = |kit: &Kit| kit.reasons().contains(&"KW4011".to_owned());
    kit.wait("the full disk", |kit| closed(kit).then_some(()));
    // Six turns of the tracker, each of which would do it again.
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(steps(&kit), ["create", "set"]);
    fs::remove_file(&fill).unwrap();
    // It stays closed until the step is done again and recorded, and that is later.
    kit.wait("room", |kit| (!closed(kit)).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(steps(&kit), ["create", "set"], "it rests, also once there is room");
    kit.kill();
}
