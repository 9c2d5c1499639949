//! The running daemon by its command line: frozen, restarted, thawed; and the log is whole.

use serde_json::Value;

use crate::harness::life::{Place, certificate};
use crate::process::{Daemon, write_config};

fn json(daemon: &Daemon, args: &[&str]) -> Value {
    let output = daemon.cli(args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {output:?}"))
}

fn serial(daemon: &Daemon) -> String {
    json(daemon, &["cert", "show", "portal", "-o", "json"])["installed_serial"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_command_line_it_is_frozen_over_a_restart_and_thawed_and_the_log_tells_it() {
    let place = Place::new().await;
    let path = "\n[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"1m\"\nwhen_frozen = \"close\"\n\n[freeze]\nlongest = \"2d\"\n";
    let own = certificate("portal", &["portal.example.com"], "labels = { env = \"prod\" }\n");
    let config = write_config(&place, &format!("{own}{path}"));
    let daemon = Daemon::start(config.clone());
    daemon.wait("the gate", |d| d.cli(&["gate", "check", "approve"]).status.code() == Some(0));
    let first = serial(&daemon);

    let planned =
        daemon.says(&["freeze", "--scope", "label:env=prod", "--reason", "a drill", "--until", "4h", "--plan"]);
    assert!(
        planned.contains("would be frozen until") && planned.contains("1 certificate, and the paths approve"),
        "{planned}"
    );
    assert_eq!(daemon.says(&["freeze", "list"]), "nothing is frozen\n");
    for (args, code, said) in [
        (&["--scope", "label:env=test", "--reason", "x", "--until", "4h"][..], 2, "KW4075"),
        (&["--scope", "path:aprove", "--reason", "x", "--until", "4h"], 2, "KW4075"),
        (&["--reason", "x", "--until", "3d"], 2, "KW4076"),
        (&["--reason", "x", "--until", "1999-01-01T00:00:00Z"], 2, "KW4076"),
        (&["--reason", " ", "--until", "4h"], 2, "KW4077"),
        (&["--until", "4h"], 2, "--reason"),
        (&["thaw", "01KDGZJ5N3W0G3C5Y7B2Q4R6T8", "--reason", "x"], 1, "KW4078"),
        (&["thaw", "01KDGZJ5N3W0G3C5Y7B2Q4R6T8"], 2, "--reason"),
    ] {
        let mut all = vec!["freeze"];
        all.extend(args);
        let ran = daemon.cli(&all);
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(said), "{args:?}: {err}");
    }

    let made =
        daemon.cli(&["freeze", "--scope", "label:env=prod", "--reason", "a drill", "--until", "4h", "-o", "name"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let id = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert_eq!(daemon.cli(&["gate", "check", "approve"]).status.code(), Some(5));
    assert_eq!(daemon.cli(&["cert", "renew", "portal"]).status.code(), Some(3), "recorded, and held");
    daemon.wait("what it holds", |d| {
        json(d, &["freeze", "list", "-o", "json"])[0]["holds"] == serde_json::json!(["portal"])
    });
    for (args, said) in [
        (&["status"][..], "label:env=prod until"),
        (&["gate", "status"], &*format!("approve is frozen by {id}")),
        (&["gate", "explain", "approve"], "KW4070"),
        (&["cert", "list"], "FROZEN: a freeze is in force"),
        (&["cert", "why", "portal"], "frozen: label:env=prod by freeze"),
        (&["freeze", "list"], "a drill"),
    ] {
        let all = daemon.says(args);
        assert!(all.contains(said), "{args:?}: {all}");
    }
    let explained = daemon.cli(&["gate", "explain", "approve", "-o", "json"]).stdout;
    let file = place.at("why.json");
    std::fs::write(&file, &explained).unwrap();
    assert_eq!(daemon.cli(&["gate", "replay", file.to_str().unwrap()]).status.code(), Some(0));

    assert_eq!(daemon.end(), 0);
    let daemon = Daemon::start(config);
    assert_eq!(json(&daemon, &["freeze", "list", "-o", "json"])[0]["id"], id.as_str(), "it outlasts a restart");
    assert_eq!(daemon.cli(&["gate", "check", "approve"]).status.code(), Some(5));
    assert_eq!((serial(&daemon), place.control.orders().len()), (first.clone(), 1), "nothing was ordered");
    let plan = daemon.says(&["freeze", "thaw", &id, "--reason", "the drill is over", "--plan"]);
    assert!(plan.contains("again what it holds: portal"), "{plan}");
    assert_eq!(daemon.cli(&["freeze", "thaw", &id, "--reason", "the drill is over"]).status.code(), Some(0));
    assert_eq!(daemon.cli(&["freeze", "thaw", &id, "--reason", "again"]).status.code(), Some(1));
    daemon.wait("the renewal", |d| serial(d) != first);
    daemon.wait("the gate", |d| d.cli(&["gate", "check", "approve"]).status.code() == Some(0));
    assert_eq!(place.control.orders().len(), 2);
    let told = daemon.says(&["audit", "query", "--text", "freeze"]);
    assert!(told.contains("KW4071") && told.contains("KW4072"), "{told}");
    let state = place.text("state");
    assert_eq!(daemon.end(), 0);
    let verified = crate::harness::ledger::keyward(&["audit", "verify", &state]);
    assert_eq!(verified.0, 0, "{}", verified.1);
}
