//! The command line: help, exit codes, files, and a simulated daemon behind its socket.

mod audit;
mod policy;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use keyward::domain::policy::{Act, Lane, Policy, Rule};

use crate::harness::http::{Server, Still};
use crate::http::{staging, two_paths};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn keyward(dir: &Path, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_keyward")).args(arguments).current_dir(dir).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn ask(server: &Server, arguments: &[&str]) -> Ran {
    let mut all = vec!["--socket", server.admin.to_str().unwrap()];
    all.extend(arguments);
    keyward(Path::new("/"), &all)
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// An error is a sentence and, on its own last line, what to do.
fn hinted(ran: &Ran) {
    let last = ran.err.trim_end().lines().last().unwrap_or_default();
    assert!(last.starts_with("hint: ") && last.len() > 12, "{}", ran.err);
    assert!(ran.err.contains("error: "), "{}", ran.err);
}

const COMMANDS: [&str; 84] = [
    "",
    "init",
    "check",
    "run",
    "demo",
    "cert",
    "cert list",
    "cert show",
    "cert why",
    "cert history",
    "cert renew",
    "cert scan",
    "gate",
    "gate status",
    "gate check",
    "gate hold",
    "gate probe",
    "gate lint",
    "gate graph",
    "freeze",
    "freeze list",
    "freeze thaw",
    "snippet",
    "workload",
    "workload status",
    "ca",
    "ca status",
    "ca init",
    "ca request",
    "ca sign-intermediate",
    "ca accept",
    "ca import",
    "ca export",
    "ca issue",
    "ca sign",
    "ca revoke",
    "ca crl",
    "ca bundle",
    "ca rotate",
    "ca rollback",
    "ca compromised",
    "ca emergency",
    "ca distrust",
    "ca cross-sign",
    "ca acknowledge",
    "key",
    "key list",
    "key show",
    "key rotate",
    "key rotated",
    "key suspend",
    "key resume",
    "key deactivate",
    "key compromised",
    "key destroy",
    "acme",
    "acme orders",
    "acme allow",
    "acme deny",
    "keyholder",
    "status",
    "backup",
    "restore",
    "doctor",
    "audit forget",
    "policy",
    "policy check",
    "policy test",
    "policy explain",
    "policy diff",
    "policy digest",
    "config",
    "config check",
    "config explain",
    "config reload",
    "clock accept",
    "issuer",
    "issuer rollover",
    "audit",
    "audit query",
    "audit show",
    "audit tail",
    "audit stats",
    "explain",
];

#[test]
fn the_help_of_every_command_is_as_published() {
    let home = home();
    let mut all = String::from("# The command line\n\nMade from `--help`; a test compares.\n");
    for command in COMMANDS {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        let ran = keyward(home.path(), &arguments);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{command}");
        assert!(ran.out.lines().all(|l| l.chars().count() <= 105), "{command} is too wide");
        all.push_str(
            &format!("\n## keyward {command}\n\n```text\n{}\n```\n", ran.out.trim_end())
                .replace("keyward \n", "keyward\n"),
        );
    }
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::fs::read_to_string(&published).unwrap_or_default() != all {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands.md");
        std::fs::write(&fresh, &all).unwrap();
        panic!("docs/commands.md is out of date: cp {} {}", fresh.display(), published.display());
    }
}

#[test]
fn what_is_not_understood_is_2_and_version_is_0() {
    let home = home();
    for bad in [
        &["frobnicate"][..],
        &["cert", "renew"],
        &["cert", "renew", "x", "--plan", "--wait"],
        &["cert", "renew", "x", "--timeout", "5s"],
        &["cert", "renew", "x", "--wait", "--timeout", "5 parsecs"],
        &["cert", "history", "x", "--limit", "201"],
        &["gate", "check"],
        &["-o", "yaml", "status"],
        &["explain"],
        &["init", "x"],
        &[],
    ] {
        let ran = keyward(home.path(), bad);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{bad:?}: {}", ran.err);
        assert!(!ran.err.is_empty());
    }
    let version = keyward(home.path(), &["--version"]);
    assert_eq!((version.code, version.out.trim()), (0, concat!("keyward ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn init_makes_one_private_file_says_how_to_undo_it_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = home();
    let told = ["init", "kw", "--domain", "app.example.org", "--email", "me@example.org"];
    let ran = keyward(home.path(), &told);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let file = home.path().join("kw/keyward.toml");
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.path().join("kw")), mode(&file)), (0o700, 0o600));
    let shown = file.display().to_string();
    for line in [
        format!("made   {shown}"),
        format!("undo   rm -r {}", home.path().join("kw").display()),
        format!("       keyward check --pre -c {shown}"),
        format!("       keyward run --staging -c {shown}"),
    ] {
        assert!(ran.out.lines().any(|l| l == line), "{line} is not in\n{}", ran.out);
    }
    let before = std::fs::read(&file).unwrap();
    let again = keyward(home.path(), &told);
    assert_eq!(again.code, 1);
    hinted(&again);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let into_own = keyward(home.path(), &["init", ".", "--domain", "app.example.org", "--email", "me@example.org"]);
    assert_eq!(into_own.code, 0);
    assert!(into_own.out.contains(&format!("undo   rm {}/keyward.toml", home.path().display())), "{}", into_own.out);
    for (domain, email) in [("not a name", "me@example.org"), ("a\"b.example.org", "x@y.org")] {
        let bad = keyward(home.path(), &["init", "bad", "--domain", domain, "--email", email]);
        assert_eq!(bad.code, 2, "{}", bad.err);
        hinted(&bad);
        assert!(!home.path().join("bad").exists());
    }
}

#[test]
fn what_init_writes_is_checked_explained_and_found_without_being_named() {
    let home = home();
    keyward(home.path(), &["init", ".", "--domain", "app.example.org", "--email", "me@example.org"]);
    let check = keyward(home.path(), &["config", "check"]);
    assert_eq!((check.code, check.err.as_str()), (0, ""));
    assert!(check.out.contains("1 credential,") && check.out.contains("production"), "{}", check.out);
    let dry = keyward(home.path(), &["--staging", "config", "check"]);
    assert!(dry.code == 0 && dry.out.contains("STAGING"), "{}", dry.out);
    let explained = keyward(home.path(), &["config", "explain", "portal"]);
    assert_eq!(explained.code, 0);
    for needle in ["app.example.org", "letsencrypt", "RFC 9773", "two thirds", "to renew it goes by itself"] {
        assert!(explained.out.contains(needle), "{needle} is not in\n{}", explained.out);
    }
    assert!(!explained.out.contains("approve\n"), "only what was asked for");
    let unknown = keyward(home.path(), &["config", "explain", "nothing"]);
    assert_eq!(unknown.code, 1);
    hinted(&unknown);
    // The machine may lack port 80: what counts is that nothing but 0, 1 and 3 comes out, and each line is whole.
    let host = keyward(home.path(), &["check", "--pre", "-o", "json"]);
    assert!([0, 1, 3].contains(&host.code), "{}", host.err);
    let json: serde_json::Value = serde_json::from_str(&host.out).unwrap();
    let checks = json["checks"].as_array().unwrap();
    let worst = checks.iter().map(|c| c["level"].as_str().unwrap()).fold(0, |worst, level| {
        worst.max(match level {
            "ok" => 0,
            "warning" => 1,
            "error" => 2,
            other => panic!("{other}"),
        })
    });
    assert_eq!(host.code, [0, 3, 1][worst]);
    assert!(checks.len() >= 8 && checks.iter().all(|c| (c["level"] == "ok") == (c["fix"] == "")), "{json}");
    assert!(!checks.iter().any(|c| c["group"] == "daemon"), "--pre asks for no daemon");
    let without = keyward(home.path(), &["check"]);
    assert!(
        without.out.contains("KW5012 no daemon answers at") && without.out.contains("fix: keyward run -c"),
        "{}",
        without.out
    );
    assert_ne!(without.code, 0);
}

#[test]
fn a_bad_configuration_is_64_with_the_place_marked() {
    let home = home();
    keyward(home.path(), &["init", ".", "--domain", "app.example.org", "--email", "me@example.org"]);
    let file = home.path().join("keyward.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("margin = ", "margn = ")).unwrap();
    for command in [&["check"][..], &["config", "check"], &["cert", "list"], &["status"], &["run"]] {
        let ran = keyward(home.path(), command);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{command:?}: {}", ran.err);
        assert!(
            ran.err.contains("keyward.toml:") && ran.err.contains("^^^^^") && ran.err.contains("margin"),
            "{}",
            ran.err
        );
        assert!(!ran.err.contains('\u{1b}'), "no colours without a terminal");
    }
    hinted(&keyward(home.path(), &["check"]));
    let none = keyward(home.path(), &["-c", "nowhere.toml", "config", "check"]);
    assert_eq!(none.code, 64);
    hinted(&none);
    std::fs::remove_file(&file).unwrap();
    let unnamed = keyward(home.path(), &["cert", "list"]);
    assert_eq!(unnamed.code, 64, "{}", unnamed.err);
    assert!(unnamed.err.contains("keyward init"));
    hinted(&unnamed);
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_it() {
    let home = home();
    keyward(home.path(), &["init", ".", "--domain", "app.example.org", "--email", "me@example.org"]);
    for (command, code) in [
        (&["cert", "list"][..], 1),
        (&["cert", "renew", "portal", "--wait"], 1),
        (&["status"], 1),
        (&["gate", "status"], 1),
        (&["gate", "check", "approve"], 5),
        (&["clock", "accept"], 1),
        (&["config", "reload"], 1),
    ] {
        let ran = keyward(home.path(), command);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{command:?}");
        assert!(
            ran.err.contains("error: no daemon answers at ")
                && ran.err.contains("start it with `keyward run -c keyward.toml`"),
            "{}",
            ran.err
        );
        hinted(&ran);
    }
    let dry = keyward(home.path(), &["--staging", "status"]);
    assert!(dry.err.contains("keyward run --staging -c"), "{}", dry.err);
    // A socket of a dead process is no daemon.
    let dead = home.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let ran = keyward(home.path(), &["--socket", dead.to_str().unwrap(), "status"]);
    assert_eq!((ran.code, ran.err.contains("no daemon answers")), (1, true));
}

#[test]
fn explain_knows_every_code_offline() {
    let home = home();
    for entry in keyward::shell::explain::all() {
        let ran = keyward(home.path(), &["explain", &entry.code.to_lowercase()]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.starts_with(entry.code) && ran.out.contains(entry.action), "{}", ran.out);
    }
    let unknown = keyward(home.path(), &["explain", "KW9999"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    hinted(&unknown);
    assert_eq!(keyward(home.path(), &["explain", "--all"]).out.trim(), keyward::shell::explain::markdown().trim());
}

#[test]
fn lists_are_for_people_for_programs_and_for_xargs() {
    let server = Still::new(two_paths()).serve();
    let table = ask(&server, &["cert", "list"]);
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(
        lines[0].starts_with("NAME") && lines[1].starts_with("peer") && lines[2].starts_with("portal"),
        "{}",
        table.out
    );
    assert!(!table.out.contains('\u{1b}'));
    let json: serde_json::Value = serde_json::from_str(&ask(&server, &["cert", "list", "-o", "json"]).out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(ask(&server, &["cert", "list", "-o", "name"]).out, "peer\nportal\n");
    assert_eq!(ask(&server, &["gate", "status", "-o", "name"]).out, "approve\nbroken\n");
    let status = ask(&server, &["status"]);
    assert_eq!(status.code, 3, "one is critical: {}", status.out);
    assert!(status.out.contains("1 open, 1 closed") && status.out.contains("1 critical"), "{}", status.out);
}

#[test]
fn one_certificate_is_shown_explained_and_remembered() {
    let server = Still::new(two_paths()).serve();
    let show = ask(&server, &["cert", "show", "portal"]);
    for needle in ["review.example.com", "www.example.com", "portal.sim:443: serves serial", "/sim/current/key.pem"] {
        assert!(show.out.contains(needle), "{needle} is not in\n{}", show.out);
    }
    let why = ask(&server, &["cert", "why", "portal"]);
    assert!(why.code == 0 && why.out.lines().count() >= 4, "{}", why.out);
    let history = ask(&server, &["cert", "history", "portal"]);
    assert!(history.out.contains("certificate.install") && history.out.contains("success"), "{}", history.out);
    for name in ["nobody", "../status", "a b", ""] {
        let ran = ask(&server, &["cert", "show", name]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{name:?}: {}", ran.out);
        hinted(&ran);
    }
}

#[test]
fn a_gate_check_is_0_or_5() {
    let still = Still::new(two_paths());
    let server = still.serve();
    for (path, code) in [("approve", 0), ("broken", 5), ("unknown", 5), ("../status", 5), ("", 5)] {
        let ran = ask(&server, &["gate", "check", path]);
        assert_eq!(ran.code, code, "{path}: {}{}", ran.out, ran.err);
    }
    let closed = ask(&server, &["gate", "check", "broken"]);
    assert!(closed.out.contains("KW4002") && closed.out.contains("reopens when"), "{}", closed.out);
    still.world.clock.pass(Duration::from_secs(60));
    assert_eq!(ask(&server, &["gate", "check", "approve"]).code, 5);
}

#[test]
fn a_gate_is_explained_judged_again_watched_and_foreseen() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let open = ask(&server, &["gate", "explain", "approve"]);
    assert!(
        open.code == 0 && open.out.contains("approve is open until") && open.out.contains("1 of 1"),
        "{}",
        open.out
    );
    let closed = ask(&server, &["gate", "explain", "broken"]);
    assert!(closed.code == 5 && closed.out.contains("KW4002") && closed.out.contains("opens when"), "{}", closed.out);
    let ahead = ask(&server, &["gate", "explain", "approve", "--at", "2036-01-01T00:00:00Z"]);
    assert!(ahead.code == 5 && ahead.out.contains("KW4004"), "{}", ahead.out);
    for bad in [
        ["gate", "explain", "approve", "--at", "tomorrow"],
        ["gate", "explain", "nobody", "--at", "2036-01-01T00:00:00Z"],
    ] {
        let ran = ask(&server, &bad);
        assert!(ran.code == 1 || ran.code == 2, "{}", ran.err);
        hinted(&ran);
    }

    // The file is judged again without a daemon; whoever changes it is found out.
    let file = tempfile::NamedTempFile::new().unwrap();
    let told = ask(&server, &["gate", "explain", "broken", "-o", "json"]).out;
    std::fs::write(&file, &told).unwrap();
    let name = file.path().to_str().unwrap();
    let same = ask(&server, &["gate", "replay", name]);
    assert!(same.code == 0 && same.out.contains("the same comes of it"), "{}{}", same.out, same.err);
    // Who said it is told by the guardian's key, and by no other.
    let keys = tempfile::NamedTempFile::new().unwrap();
    let key = keys.path().to_str().unwrap();
    std::fs::write(&keys, ask(&server, &["gate", "keys", "-o", "name"]).out).unwrap();
    let said = ask(&server, &["gate", "replay", name, "--key", key]);
    assert!(said.code == 0 && said.out.contains("said by "), "{}{}", said.out, said.err);
    std::fs::write(&file, told.replace("KW4002", "KW4003")).unwrap();
    let bent = ask(&server, &["gate", "replay", name, "--key", key]);
    assert!(bent.code == 1 && bent.out.contains("signature: its statement is about something else"), "{}", bent.out);
    std::fs::write(&file, told.replace("\"open\": false", "\"open\": true")).unwrap();
    let other = ask(&server, &["gate", "replay", name]);
    assert!(other.code == 1 && other.out.contains("state: the file says open"), "{}{}", other.out, other.err);
    std::fs::write(&file, "{}").unwrap();
    hinted(&ask(&server, &["gate", "replay", name]));

    let watch = ask(&server, &["gate", "watch", "approve", "--until", "open"]);
    assert!(watch.code == 0 && watch.out.contains("approve open until"), "{}", watch.out);
    let late = ask(&server, &["gate", "watch", "approve", "--until", "closed", "--for", "1s"]);
    assert_eq!(late.code, 5, "{}", late.out);

    let plan = ask(&server, &["gate", "reopen", "approve", "--plan"]);
    assert!(plan.code == 0 && plan.out.contains("no person is needed"), "{}", plan.out);
    let plan = ask(&server, &["gate", "compromised", "portal", "--plan"]);
    assert!(plan.code == 0 && plan.out.contains("for ever"), "{}", plan.out);
    assert_eq!(ask(&server, &["gate", "check", "approve"]).code, 0, "plans do nothing");
    let done = still.while_turning(|| ask(&server, &["gate", "compromised", "portal"]));
    assert_eq!(done.code, 0, "{}", done.err);
    let closed = ask(&server, &["gate", "check", "approve"]);
    assert!(closed.code == 5 && closed.out.contains("KW4017"), "{}", closed.out);
    // How it was is in the audit log.
    let then = ask(&server, &["gate", "explain", "approve", "--at", "2026-11-22T00:00:30Z"]);
    assert!(then.out.contains("approve was") || then.err.contains("says nothing"), "{}{}", then.out, then.err);
}

#[test]
fn a_plan_shows_everything_and_a_renewal_is_taken_up() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let plan = ask(&server, &["cert", "renew", "portal", "--plan"]);
    assert_eq!((plan.code, plan.err.trim()), (0, "nothing was done: this is only the plan"));
    for needle in [
        "proceed (tier 3",
        "https://le.sim/directory",
        "manual",
        "review.example.com",
        "new, p256",
        "web (dns-01, http-01)",
        "1 of 5 exact_set",
        "/sim/current/fullchain.pem",
        "/bin/true",
        "portal.sim:443",
    ] {
        assert!(plan.out.contains(needle), "{needle} is not in\n{}", plan.out);
    }
    let watched = ask(&server, &["cert", "renew", "peer"]);
    assert_eq!(watched.code, 1);
    hinted(&watched);
    // Nothing comes of the order, so waiting has to end by itself.
    still.world.ca.behave(&crate::harness::estate::iid("le"), |b| b.stuck = true);
    let begun = still.while_turning(|| ask(&server, &["cert", "renew", "portal"]));
    assert_eq!((begun.code, begun.out.as_str(), begun.err.trim()), (0, "", "portal: the renewal begins"));
    let waited = still.while_turning(|| ask(&server, &["cert", "renew", "portal", "--wait", "--timeout", "1s"]));
    assert_eq!(waited.code, 1);
    assert!(waited.err.contains("not over within 1 s; it goes on in the daemon"), "{}", waited.err);
    hinted(&waited);
}

#[test]
fn a_renewal_is_followed_until_it_is_served() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let waiting = std::thread::scope(|scope| {
        let followed = scope.spawn(|| ask(&server, &["cert", "renew", "portal", "--wait", "--timeout", "60s"]));
        let deadline = std::time::Instant::now() + Duration::from_secs(50);
        while !followed.is_finished() {
            still.go_on(Duration::from_secs(2));
            assert!(std::time::Instant::now() < deadline, "it never ended");
        }
        followed.join().unwrap()
    });
    assert_eq!(waiting.code, 0, "{}", waiting.err);
    assert!(waiting.err.contains("installed and served: serial "), "{}", waiting.err);
}

#[test]
fn policy_has_exit_codes_of_its_own() {
    for (lane, code) in [(Lane::Prohibited, 6), (Lane::ReviewRequired, 4)] {
        let mut estate = two_paths();
        estate.policy = Policy::new(vec![Rule::new("nobody-renews", [Act::Renew], lane)]);
        let still = Still::new(estate);
        let server = still.serve();
        for arguments in [&["cert", "renew", "portal", "--plan"][..], &["cert", "renew", "portal", "--wait"]] {
            let ran = still.while_turning(|| ask(&server, arguments));
            assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.out, ran.err);
            assert!(format!("{}{}", ran.out, ran.err).contains("nobody-renews") || code == 4, "{}", ran.err);
        }
    }
}

#[test]
fn in_staging_every_output_says_so() {
    let server = Still::new(staging(two_paths())).serve();
    for command in [
        &["cert", "list"][..],
        &["cert", "show", "portal"],
        &["cert", "why", "portal"],
        &["cert", "history", "portal"],
        &["cert", "renew", "portal", "--plan"],
        &["gate", "status"],
        &["gate", "check", "approve"],
        &["status"],
    ] {
        let ran = ask(&server, command);
        assert!(ran.out.starts_with("STAGING"), "{command:?}: {}", ran.out);
        let mut json = command.to_vec();
        json.extend(["-o", "json"]);
        let ran = ask(&server, &json);
        assert!(ran.err.starts_with("STAGING"), "{command:?}: {}", ran.err);
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap();
    }
}

#[test]
fn a_refused_reload_and_an_accepted_clock_are_told() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let reload = ask(&server, &["config", "reload"]);
    assert_eq!(reload.code, 1);
    assert!(reload.err.contains("keyward.toml:3:1: unknown key") && reload.err.contains("KW5008"), "{}", reload.err);
    hinted(&reload);
    let clock = still.while_turning(|| ask(&server, &["clock", "accept"]));
    assert!(clock.code == 0 && clock.err.contains("is accepted as the true time"), "{}", clock.err);
    assert_eq!(ask(&server, &["cert", "scan"]).code, 0);
}

#[test]
fn a_snippet_is_made_from_the_configuration_or_says_what_is_missing() {
    let home = home();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keyward.toml");
    let sample = sample.to_str().unwrap();
    let made = |more: &[&str]| keyward(home.path(), &[&["snippet", "-c", sample], more].concat());
    let ran = made(&["nginx", "--listen", "0.0.0.0:80", "--portal", "127.0.0.1:3000"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for line in ["listen 0.0.0.0:80;", "server 127.0.0.1:3000;", "server unix:/run/keyward/gate.sock max_fails=0;"] {
        assert!(ran.out.contains(line), "{}", ran.out);
    }
    let ran = made(&["envoy", "--path", "aprove"]);
    hinted(&ran);
    assert!(ran.code == 1 && ran.err.contains("there are: approve"), "{}", ran.err);
    assert_eq!(made(&["apache"]).code, 2);
    // What another language would read in its own way is not written at all; TCP comes with a warning.
    let text = std::fs::read_to_string(sample).unwrap();
    let file = home.path().join("keyward.toml");
    let own = file.to_str().unwrap();
    for (by, code, says) in [
        ("gate_socket = \"/run/key ward;/gate.sock\"", 1, "characters that proxies would read in different ways"),
        ("", 0, "whoever takes 127.0.0.1:9180 while Keyward is down can answer 200"),
    ] {
        let mut text = text.replace("gate_socket = \"/run/keyward/gate.sock\"", by);
        if by.is_empty() {
            text = text.replace("gate_socket_mode = ", "# ").replace("gate_socket_group = ", "# ");
        }
        std::fs::write(&file, text).unwrap();
        for proxy in ["nginx", "envoy", "envoy-http", "caddy", "haproxy"] {
            let ran = keyward(home.path(), &["snippet", proxy, "-c", own]);
            assert_eq!(ran.code, code, "{proxy}: {}", ran.err);
            let said = format!("{}{}", ran.out, ran.err).replace("\n# ", " ").replace('\n', " ");
            assert!(said.contains(says), "{proxy}: {said}");
        }
    }
    let ran = keyward(home.path(), &["config", "explain", "approve", "-c", sample]);
    assert!(ran.out.contains("reachable while it is closed: read (GET, HEAD at any URL); reject"), "{}", ran.out);
}
