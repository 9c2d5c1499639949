//! Freezes over the API: who may, what is refused and how, and where they are seen. The loop stands still unless it is told
//! to turn.

use std::time::Duration;

use serde_json::{Value, json};

use super::three;
use crate::harness::http::Still;

fn body(scope: &str, reason: &str, until: &str) -> String {
    json!({"scope": scope, "reason": reason, "until": until}).to_string()
}

#[test]
fn hostile_and_mistaken_requests_are_refused_with_a_code_and_a_way_out() {
    let still = Still::new(three());
    let server = still.serve();
    let long = "x".repeat(501);
    for (body, status, code, said) in [
        (body("path:nobody", "x", "4h"), 404, "KW4075", "nothing that is configured is path:nobody"),
        (body("owner:nobody", "x", "4h"), 404, "KW4075", "owner:nobody"),
        (body("everything", "x", "4h"), 400, "KW4075", "none of all"),
        (body("path:../../etc", "x", "4h"), 400, "KW4075", "names no path"),
        (body("owner:\u{1b}[2J", "x", "4h"), 400, "KW4075", "control character"),
        (body("label:env", "x", "4h"), 400, "KW4075", "KEY=VALUE"),
        (body("all", "x", "0s"), 400, "KW4076", "already"),
        (body("all", "x", "2020-01-01T00:00:00Z"), 400, "KW4076", "already"),
        (body("all", "x", "15d"), 400, "KW4076", "at most 14 d"),
        (body("all", "x", "2999-12-31T23:59:59Z"), 400, "KW4076", "at most 14 d"),
        (body("all", "x", "99999999999999999999d"), 400, "KW4076", "neither a time nor a span"),
        (body("all", "x", "tomorrow"), 400, "KW4076", "neither a time nor a span"),
        (body("all", "", "4h"), 400, "KW4077", "a reason"),
        (body("all", "two\nlines", "4h"), 400, "KW4077", "one line"),
        (body("all", &long, "4h"), 400, "KW4077", "500"),
        ("{}".to_owned(), 400, "KW5005", "missing field"),
        ("[\"all\",\"x\",\"4h\"]".to_owned(), 400, "KW5005", "not understood"),
        (body("all", "x", "4h").replace('}', ",\"force\":true}"), 400, "KW5005", "unknown field"),
        (String::new(), 400, "KW5005", "not understood"),
    ] {
        let reply = server.admin("POST", "/v1/freezes", &body);
        let problem = reply.json();
        assert_eq!((reply.status, problem["code"].as_str()), (status, Some(code)), "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{body}: {problem}");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.len() > 10), "{problem}");
    }
    for (id, body, status, code) in [
        ("nonsense", "{\"reason\":\"x\"}", 404, "KW4078"),
        ("01KDGZJ5N3W0G3C5Y7B2Q4R6T8", "{\"reason\":\"x\"}", 404, "KW4078"),
        ("01KDGZJ5N3W0G3C5Y7B2Q4R6T8", "{\"reason\":\"\"}", 400, "KW4077"),
        ("01KDGZJ5N3W0G3C5Y7B2Q4R6T8", "{}", 400, "KW5005"),
    ] {
        let reply = server.admin("DELETE", &format!("/v1/freezes/{id}"), body);
        assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)), "{id} {body}: {reply:?}");
    }
    assert_eq!(server.get("/v1/freezes").json(), json!([]));
}

#[test]
fn whoever_may_look_sees_freezes_and_only_the_admin_socket_makes_and_thaws_them() {
    let still = Still::new(three());
    let server = still.serve();
    for (method, path) in [("POST", "/v1/freezes"), ("DELETE", "/v1/freezes/01KDGZJ5N3W0G3C5Y7B2Q4R6T8")] {
        let sent = body("all", "x", "4h");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{sent}",
            sent.len()
        );
        let reply = server.tcp(&request);
        assert_eq!(reply.status, 403, "{method}: {reply:?}");
    }
    let made =
        still.while_turning(|| server.admin("POST", "/v1/freezes", &body("path:approve", "incident <b>42</b>", "4h")));
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(
        (made["scope"].as_str(), made["recorded"].as_bool(), made["covers"].as_u64()),
        (Some("path:approve"), Some(true), Some(2))
    );
    assert!(made["by"].as_str().unwrap().starts_with("uid:"), "{made}");
    let id = made["id"].as_str().unwrap().to_owned();

    // Everywhere.
    let all = server.get("/v1/freezes").json();
    assert_eq!(all[0]["id"], id.as_str());
    assert_eq!(server.get("/v1/status").json()["freezes"][0]["id"], id.as_str());
    let gates = server.get("/v1/gates").json();
    let gate = |path: &str| gates.as_array().unwrap().iter().find(|g| g["path"] == path).unwrap().clone();
    assert_eq!((&gate("approve")["freezes"], gate("approve")["open"].as_bool()), (&json!([id]), Some(false)));
    assert_eq!((&gate("sign-in")["freezes"], gate("sign-in")["open"].as_bool()), (&Value::Null, Some(true)));
    assert_eq!(server.get("/v1/gate/approve").header("keyward-reasons"), "KW4070");
    let page = server.get("/").body;
    assert!(page.contains("Frozen: path:approve") && page.contains("&lt;b&gt;42") && !page.contains("<b>42"), "{page}");
    assert!(server.get("/audit").body.contains("1 freeze is in force"));
    let metrics = server.get("/metrics").body;
    for line in [
        "keyward_freeze_active{scope=\"path\"} 1",
        "keyward_freeze_active{scope=\"all\"} 0",
        "keyward_freeze_held 0",
        "keyward_gate_closed{path=\"approve\",reason=\"KW4070\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert_eq!(server.admin("GET", "/v1/status", "").header("keyward-freezes"), "1");

    // What a person asks for waits too, and is told so.
    let renew = still.while_turning(|| server.admin("POST", "/v1/credentials/portal/renew", "{}"));
    assert_eq!(renew.status, 202);
    assert!(renew.body.contains("frozen: path:approve by freeze"), "{}", renew.body);
    still.go_on(Duration::from_secs(30));
    assert_eq!(server.get("/v1/freezes").json()[0]["holds"], json!(["portal"]));
    let why = server.get("/v1/credentials/portal/why").body;
    assert!(why.contains("frozen: path:approve"), "{why}");
    assert!(server.get("/metrics").body.contains("keyward_freeze_held 1"));

    let thawed = still.while_turning(|| {
        server.admin("DELETE", &format!("/v1/freezes/{}", id.to_lowercase()), "{\"reason\":\"over\"}")
    });
    assert_eq!(thawed.status, 202, "{thawed:?}");
    assert_eq!(server.admin("DELETE", &format!("/v1/freezes/{id}"), "{\"reason\":\"over\"}").json()["code"], "KW4078");
    still.go_on(Duration::from_secs(90));
    assert_eq!(server.get("/v1/gate/approve").status, 200);
    assert!(!server.get("/").body.contains("Frozen:"));
    let log = server.get("/v1/audit/entries").body;
    for action in ["freeze.begin", "freeze.thaw"] {
        assert!(log.contains(action), "{action} is not in {log}");
    }
}

#[test]
fn a_plan_of_a_freeze_freezes_nothing_and_an_account_of_a_frozen_issuer_is_left_alone() {
    let still = Still::new(three());
    let server = still.serve();
    let plan = body("issuer:le", "x", "4h").replace('}', ",\"plan\":true}");
    let told = server.admin("POST", "/v1/freezes", &plan);
    assert_eq!((told.status, told.json()["covers"].as_u64()), (200, Some(2)), "{told:?}");
    assert_eq!(server.get("/v1/freezes").json(), json!([]));
    still.while_turning(|| server.admin("POST", "/v1/freezes", &body("issuer:le", "x", "4h")));
    let reply = server.admin("POST", "/v1/issuers/le/rollover", "");
    assert_eq!((reply.status, reply.json()["code"].as_str()), (409, Some("KW4080")), "{reply:?}");
    let reply = still.while_turning(|| server.admin("POST", "/v1/issuers/zero/rollover", ""));
    assert_eq!(reply.status, 202, "{reply:?}");
}
