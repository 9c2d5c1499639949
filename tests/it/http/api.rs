//! Looking over HTTP, starting over the admin socket only.

use keyward::domain::policy::{Act, Lane, Policy, Rule};
use keyward::domain::time::MINUTE;
use keyward::engine::{Command, MOST_COMMANDS};

use crate::harness::estate::iid;
use crate::harness::http::{Reply, Still};
use crate::http::{staging, two_paths};

fn code(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), "application/problem+json", "{reply:?}");
    let json = reply.json();
    assert!(!json["detail"].as_str().unwrap().is_empty() && !json["hint"].as_str().unwrap().is_empty(), "{json}");
    assert_eq!(json["status"], reply.status);
    json["code"].as_str().unwrap().to_owned()
}

#[test]
fn status_credentials_and_gates_are_read_over_http_and_admin_socket_alike() {
    let server = Still::new(two_paths()).serve();
    for path in ["/v1/status", "/v1/credentials", "/v1/credentials/portal", "/v1/gates", "/v1/credentials/portal/why"] {
        let (tcp, unix) = (server.get(path), server.admin("GET", path, ""));
        assert_eq!((tcp.status, unix.status), (200, 200), "{path}");
        assert_eq!(tcp.json(), unix.json(), "{path}");
        assert_eq!(tcp.header("cache-control"), "no-store");
    }
    let status = server.get("/v1/status").json();
    assert_eq!((status["alive"].as_bool(), status["gates_open"].as_u64()), (Some(true), Some(1)));
    assert_eq!((status["credentials"]["critical"].as_u64(), status["credentials"]["ok"].as_u64()), (Some(1), Some(1)));
    assert_eq!(status["issuers"][0]["remaining"]["exact_set"], 4);
}

#[test]
fn a_credential_says_what_it_is_how_it_is_served_and_what_comes_next() {
    let server = Still::new(two_paths()).serve();
    let portal = server.get("/v1/credentials/portal").json();
    for (field, expected) in
        [("severity", "ok"), ("stored", "present"), ("served", "yes"), ("issuer", "le"), ("next", "renews")]
    {
        assert_eq!(portal[field], expected, "{portal}");
    }
    assert_eq!(portal["next_at"], portal["renew_at"]);
    assert_eq!(portal["tier"], 3, "two paths stand on it");
    assert_eq!(portal["endpoints"][0]["serves"], "yes");
    assert_eq!(portal["files"][0], "/sim/current/fullchain.pem");
    assert_eq!(portal["installed_serial"], portal["serial"]);
    let peer = server.get("/v1/credentials/peer").json();
    assert_eq!((peer["stored"].as_str(), peer["findings"][0]["code"].as_str()), (Some("missing"), Some("KW1001")));
}

#[test]
fn the_history_is_newest_first_and_bounded() {
    let server = Still::new(two_paths()).serve();
    let all = server.get("/v1/credentials/portal/history").json();
    let sequences: Vec<u64> =
        all.as_array().unwrap().iter().map(|e| e["sequence"].as_str().unwrap().parse().unwrap()).collect();
    assert!(sequences.len() >= 4 && sequences.windows(2).all(|w| w[0] > w[1]), "{sequences:?}");
    assert!(all.as_array().unwrap().iter().all(|e| e["entry"]["data"]["target"]["id"] == "portal"));
    let one = server.get("/v1/credentials/portal/history?limit=1").json();
    assert_eq!((one.as_array().unwrap().len(), &one[0]), (1, &all[0]));
    assert_eq!(server.get("/v1/credentials/portal/history?limit=0").json().as_array().unwrap().len(), 1);
    assert_eq!(server.get("/v1/credentials/portal/history?limit=x").status, 400);
}

#[test]
fn what_is_not_there_is_a_problem_with_a_code() {
    let server = Still::new(two_paths()).serve();
    for path in ["/v1/credentials/nobody", "/v1/credentials/%2e%2e%2fstatus", "/v1/credentials/NO/history"] {
        assert_eq!(code(&server.get(path)), "KW5001", "{path}");
    }
    for path in ["/v1", "/metrics/", "/admin", "/.git/config", "/v1/credentials/portal/renew/x"] {
        let reply = server.get(path);
        assert_eq!((reply.status, code(&reply)), (404, "KW5002".into()), "{path}");
    }
}

#[test]
fn nothing_is_changed_over_tcp() {
    let still = Still::new(two_paths());
    let server = still.serve();
    for path in ["/v1/credentials/portal/renew", "/v1/scan", "/v1/reload", "/v1/clock/accept", "/", "/metrics", "/x"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            );
            let reply = server.tcp(&request);
            assert_eq!((reply.status, code(&reply)), (403, "KW5003".into()), "{method} {path}");
        }
        assert!(server.get("/v1/credentials/portal/renew").status >= 400);
    }
    still.go_on(MINUTE);
    assert_eq!(still.world.ca.tally(&iid("le")).orders, 1);
}

#[test]
fn a_rebound_host_is_refused() {
    let server = Still::new(two_paths()).serve();
    for host in ["evil.example", "localhost.evil.example", "192.0.2.1", "", "localhost\r\nHost: evil.example"] {
        for path in ["/", "/metrics", "/healthz", "/v1/status", "/v1/credentials"] {
            let reply = server.tcp(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
            assert_eq!((reply.status, code(&reply)), (403, "KW5004".into()), "{host:?}");
        }
    }
    let reply = server.tcp("GET /v1/status HTTP/1.0\r\n\r\n");
    assert_eq!(code(&reply), "KW5004", "no host at all");
    let absolute = "GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(code(&server.tcp(absolute)), "KW5004");
    for host in ["localhost", "127.0.0.1:9180", "[::1]:9180"] {
        let reply = server.tcp(&format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(reply.status, 200, "{host}");
    }
}

#[test]
fn a_plan_does_nothing_and_the_renewal_does_exactly_the_plan_in_the_callers_name() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let plan = server.admin("POST", "/v1/credentials/portal/renew", "{\"plan\":true}");
    assert_eq!(plan.status, 200, "{plan:?}");
    let plan = plan.json();
    for (field, expected) in [("decision", "proceed"), ("issuer", "le"), ("trigger", "manual")] {
        assert_eq!(plan[field], expected, "{plan}");
    }
    assert_eq!((plan["goes"].as_bool(), plan["held"].is_null()), (Some(true), true));
    assert_eq!(plan["names"], serde_json::json!(["review.example.com", "www.example.com"]));
    assert_eq!((plan["reload"].as_str(), plan["endpoints"][0].as_str()), (Some("/bin/true"), Some("portal.sim:443")));
    assert!(plan["limits"].to_string().contains("1 of 5 exact_set for review.example.com,www.example.com"), "{plan}");
    assert!(plan["solvers"][0].as_str().unwrap().starts_with("web ("), "{plan}");
    still.go_on(MINUTE);
    assert_eq!(still.world.ca.tally(&iid("le")).orders, 1, "a plan is only a plan");
    let done = still.while_turning(|| server.admin("POST", "/v1/credentials/portal/renew", ""));
    let accepted = done.json();
    assert_eq!((done.status, accepted["text"].as_str()), (202, Some("the renewal begins")));
    assert_eq!(accepted["preview"], plan, "what is begun is what was shown");
    still.go_on(MINUTE);
    assert_eq!(still.world.ca.tally(&iid("le")).orders, 2);
    let history = server.get("/v1/credentials/portal/history").json();
    let request = history.as_array().unwrap().iter().find(|e| e["entry"]["data"]["code"] == "KW2011").unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(request["texts"]["actor"], format!("uid:{uid}"));
    assert!(!request["entry"].to_string().contains("uid:"), "{request}");
}

#[test]
fn what_is_only_watched_unknown_or_malformed_is_not_renewed() {
    let server = Still::new(two_paths()).serve();
    let renew = |id: &str, body: &str| server.admin("POST", &format!("/v1/credentials/{id}/renew"), body);
    let watched = renew("peer", "");
    assert_eq!((watched.status, code(&watched)), (409, "KW5007".into()));
    assert_eq!(code(&renew("nobody", "")), "KW5001");
    for body in ["{", "[]", "{\"plan\":1}", "{\"force\":true}", "\"x\""] {
        let reply = renew("portal", body);
        assert_eq!((reply.status, code(&reply)), (400, "KW5005".into()), "{body}");
    }
    let long = renew("portal", &format!("{{\"plan\":true{}}}", " ".repeat(70_000)));
    assert_eq!((long.status, code(&long)), (413, "KW5005".into()));
}

#[test]
fn policy_binds_a_person_too() {
    for (lane, status, decision) in [(Lane::Prohibited, 403, "refuse"), (Lane::ReviewRequired, 202, "await_approval")] {
        let mut estate = two_paths();
        let rule = Rule::new("nobody-renews", [Act::Renew], lane);
        estate.policy = Policy::new(vec![rule]);
        let still = Still::new(estate);
        let server = still.serve();
        let plan = server.admin("POST", "/v1/credentials/portal/renew", "{\"plan\":true}").json();
        assert_eq!((plan["decision"].as_str(), plan["goes"].as_bool()), (Some(decision), Some(false)));
        let reply = still.while_turning(|| server.admin("POST", "/v1/credentials/portal/renew", "{}"));
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 403 {
            assert_eq!(code(&reply), "KW5009");
        }
        still.go_on(MINUTE);
        assert_eq!(still.world.ca.tally(&iid("le")).orders, 1);
    }
}

#[test]
fn the_admin_socket_scans_accepts_the_clock_and_passes_on_why_a_reload_was_refused() {
    let still = Still::new(two_paths());
    let server = still.serve();
    assert_eq!(server.admin("POST", "/v1/scan", "").status, 202);
    assert_eq!(still.while_turning(|| server.admin("POST", "/v1/clock/accept", "{}")).status, 202);
    let reload = server.admin("POST", "/v1/reload", "");
    assert_eq!((reload.status, code(&reload)), (422, "KW5008".into()));
    assert!(reload.body.contains("keyward.toml:3:1: unknown key"));
    let wrong = server.admin("POST", "/v1/status", "");
    assert_eq!((wrong.status, code(&wrong)), (405, "KW5005".into()));
    still.go_on(MINUTE);
    still.world.clock.step(7_200);
    still.go_on(MINUTE);
    assert!(server.get("/v1/status").json()["clock_fault"].is_string());
    still.while_turning(|| server.admin("POST", "/v1/clock/accept", ""));
    still.go_on(MINUTE);
    assert!(server.get("/v1/status").json()["clock_fault"].is_null());
}

#[test]
fn commands_that_nobody_takes_up_are_refused_at_a_bound() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let ask = || Command::Renew { credential: crate::harness::estate::cid("portal"), by: "uid:0".into() };
    (0..MOST_COMMANDS).for_each(|_| still.engine.command(ask()).unwrap());
    assert_eq!(code(&server.admin("POST", "/v1/scan", "")), "KW5006");
}

#[test]
fn in_staging_every_answer_says_so() {
    let server = Still::new(staging(two_paths())).serve();
    for path in ["/", "/metrics", "/v1/status", "/v1/credentials/portal", "/nowhere", "/healthz"] {
        assert_eq!(server.get(path).header("keyward-environment"), "staging", "{path}");
    }
    let portal = server.get("/v1/credentials/portal").json();
    assert_eq!((portal["served"].as_str(), portal["environment"].as_str()), (Some("staging"), Some("staging")));
    let plan = server.admin("POST", "/v1/credentials/portal/renew", "{\"plan\":true}").json();
    assert_eq!(plan["reload"], "none in staging (else: /bin/true)");
    assert_eq!(plan["endpoints"], serde_json::json!([]));
}

#[test]
fn health_follows_the_loop_and_not_the_gates() {
    let still = Still::new(two_paths());
    let server = still.serve();
    assert_eq!(server.get("/healthz").status, 200);
    still.world.clock.pass(crate::http::LONG);
    assert_eq!(server.get("/healthz").status, 503);
    // With nothing to evaluate the loop may sleep for long, and is well.
    let idle = Still::new(crate::harness::estate::estate(&[("le", &[])]));
    let server = idle.serve();
    idle.world.clock.pass(crate::http::LONG);
    assert_eq!(server.get("/healthz").status, 200);
}
