//! The demo as a newcomer runs it: the real binary.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

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

/// What stands before a word in a line.
fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap();
    before.split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{word:?} in {line:?}"))
}

/// Killed however the test ends.
struct Playing(Child);

impl Drop for Playing {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Plays until a line has this text, and then as long as it takes to end by Ctrl-C; at most a minute.
fn played_until(text: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["demo", "--seconds", "60"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut playing = Playing(command.spawn().unwrap());
    let mut story = String::new();
    for line in BufReader::new(playing.0.stdout.take().unwrap()).lines().map(Result::unwrap) {
        story += &format!("{line}\n");
        if line.contains(text) {
            Command::new("kill").args(["-INT", &playing.0.id().to_string()]).status().unwrap();
        }
    }
    assert!(playing.0.wait().unwrap().success(), "{story}");
    story
}

#[test]
fn a_rotation_of_the_intermediate_and_a_revocation_disturb_no_request_over_the_links() {
    let story = played_until("every program shows a leaf of generation 2");
    let order = [
        "CA        mesh/1 is made",
        "approve is OPEN",
        "traffic   flows over both links",
        "ROTATE ",
        "generation 2 is staged: a new intermediate below the same root",
        "link.audit-client, link.audit-server, link.policy-client, link.policy-server",
        "generation 2 is signing",
        "generation 1 is draining",
        "REVOKE ",
        "its live connection was cut",
        "its next connection is refused as revoked",
        "every program shows a leaf of generation 2",
    ];
    let places: Vec<usize> = order.iter().map(|text| line_of(&story, text)).collect();
    assert!(places.is_sorted(), "{places:?}\n{story}");
    let lines: Vec<&str> = story.lines().collect();
    assert!(number_before(lines[line_of(&story, "was cut")], " ms after the order") < 1_000, "{story}");
    // Sixteen requests a second, over half a minute: a machine that is slow loses some, never all.
    let counts: Vec<&&str> = lines.iter().filter(|line| line.contains("requests answered")).collect();
    assert!(counts.len() > 5, "{story}");
    for line in counts {
        assert!(line.contains(", 0 failed") && !line.contains("turned away"), "{line}\n{story}");
    }
    let end = lines[line_of(&story, "traffic   policy ")];
    let (policy, audit) = end.split_once("; audit ").unwrap();
    for each in [policy, audit] {
        assert!(number_before(each, " requests answered, 0 failed") > 50, "{story}");
    }
    // Nobody was locked out while it lasted.
    assert!(!story[story.find("approve is OPEN").unwrap()..].contains("CLOSED"), "{story}");
}

#[test]
fn a_stepped_clock_closes_the_gate_and_the_links_and_renews_nothing() {
    let story = demo(&["--seconds", "12", "--lifetime", "600", "--quiet", "--break", "clock"]);
    let (broke, closed) = (line_of(&story, "BREAK"), line_of(&story, "KW4009"));
    assert!(broke < closed, "{story}");
    assert!(!story.contains("Z  renewed"), "{story}");
    // A break is shown alone, and what a link turns away has not failed.
    assert!(!story.contains("ROTATE") && !story.contains("In a second terminal"), "{story}");
    let end = story.lines().nth(line_of(&story, "traffic   policy ")).unwrap();
    assert_eq!((end.matches(", 0 failed").count(), end.matches("turned away").count()), (2, 2), "{story}");
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
