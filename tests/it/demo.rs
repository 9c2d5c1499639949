//! The demo as a newcomer runs it: the real binary.

use std::process::{Command, Stdio};

fn demo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .arg("demo")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{story}\n{}", String::from_utf8_lossy(&output.stderr));
    story
}

fn line_of(story: &str, text: &str) -> usize {
    story.lines().position(|l| l.contains(text)).unwrap_or_else(|| panic!("no line with {text:?} in\n{story}"))
}

#[test]
fn it_issues_installs_serves_opens_the_gate_renews_by_ari_and_leaves_nothing() {
    let story = demo(&["--seconds", "16", "--lifetime", "20"]);
    let order = ["Z  issued", "Z  installed", "Z  served", "approve is OPEN", "Z  renewed", "(trigger: ari)"];
    let places: Vec<usize> = order.iter().map(|text| line_of(&story, text)).collect();
    assert!(places.is_sorted(), "{places:?}\n{story}");
    let dir = story.lines().find_map(|l| l.trim().strip_prefix("directory ")).unwrap().trim();
    assert!(!std::path::Path::new(dir).exists(), "{dir} was left behind");
}

#[test]
fn a_stepped_clock_closes_the_gate_and_renews_nothing() {
    let story = demo(&["--seconds", "12", "--lifetime", "600", "--break", "clock"]);
    let (broke, closed) = (line_of(&story, "BREAK"), line_of(&story, "KW4009"));
    assert!(broke < closed, "{story}");
    assert!(!story.contains("Z  renewed"), "{story}");
}

#[test]
fn without_the_ca_the_gate_closes_before_the_expiry() {
    let story = demo(&["--seconds", "20", "--lifetime", "18", "--break", "ca"]);
    assert!(line_of(&story, "BREAK") < line_of(&story, "KW3001"), "{story}");
    let (margin, expired) = (line_of(&story, "KW4005"), story.lines().position(|l| l.contains("KW4004")));
    assert!(expired.is_none_or(|e| margin < e), "the margin closes it, not the expiry\n{story}");
}

#[test]
fn a_failing_hook_rolls_back_and_orders_nothing_again() {
    let story = demo(&["--seconds", "20", "--lifetime", "24", "--break", "hook"]);
    let after = &story[story.find("BREAK").unwrap()..];
    assert!(after.contains("KW2204") && after.contains("back at serial"), "{story}");
    assert!(!after.contains("Z  renewed"), "{story}");
}

#[test]
fn a_directory_that_holds_something_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), b"x").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_keyward")).args(["demo", "--dir"]).arg(dir.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
    assert_eq!(std::fs::read(dir.path().join("precious")).unwrap(), b"x");
}
