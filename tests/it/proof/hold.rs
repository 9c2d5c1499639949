//! Holding a path closed, over the admin socket of a simulated guardian.

use std::time::{Duration, Instant};

use crate::harness::estate::pid;
use crate::harness::http::Still;
use crate::http::two_paths;

#[test]
fn a_hold_closes_at_once_even_where_the_loop_stands_still() {
    let still = Still::new(two_paths());
    let server = still.serve();
    assert_eq!(server.get("/v1/gate/approve").status, 200);
    let began = Instant::now();
    let reply = server.admin("POST", "/v1/holds", r#"{"path": "approve", "seconds": 60}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for the loop, which does not turn");
    let gate = server.get("/v1/gate/approve");
    assert_eq!((gate.status, gate.header("keyward-reasons")), (403, "KW4401"), "{gate:?}");
    let held = &gate.json()["reasons"][0];
    assert!(held["text"].as_str().unwrap().contains("uid:0") && held["reopens"].is_string(), "{held}");
    assert_eq!(server.get("/v1/gates").json().as_array().unwrap().iter().filter(|g| g["open"] == true).count(), 0);
    // It ends by itself, and another path never felt it.
    assert_eq!(server.get("/v1/gate/broken").header("keyward-reasons"), "KW4002");
    still.go_on(Duration::from_secs(59));
    assert_eq!(server.get("/v1/gate/approve").status, 403);
    still.go_on(Duration::from_secs(2));
    assert_eq!(server.get("/v1/gate/approve").status, 200);
}

#[test]
fn a_hold_is_recorded_with_who_asked_and_so_is_its_early_end() {
    let still = Still::new(two_paths());
    let server = still.serve();
    server.admin("POST", "/v1/holds", r#"{"path": "approve", "seconds": 300}"#);
    let reply = still.while_turning(|| server.admin("POST", "/v1/holds/release", r#"{"path": "approve"}"#));
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(server.get("/v1/gate/approve").status, 200);
    let entries = server.get("/v1/audit/entries?target=path%2Fapprove").body;
    for action in ["gate.hold", "gate.release"] {
        assert!(entries.contains(action), "{action} is not in {entries}");
    }
}

#[test]
fn a_hold_is_only_ever_made_longer_and_never_opens_anything() {
    let still = Still::new(two_paths());
    for (seconds, until) in [(100, 100), (10, 100), (200, 200)] {
        let end = still.engine.hold(&pid("approve"), Duration::from_secs(seconds), "uid:0").unwrap();
        assert_eq!(
            end.since({
                use keyward::ports::Clock as _;
                still.world.clock.now()
            })
            .as_secs(),
            until
        );
    }
    let server = still.serve();
    // What is closed anyway stays closed for its own reasons too.
    still.engine.hold(&pid("broken"), Duration::from_secs(5), "uid:0").unwrap();
    assert_eq!(server.get("/v1/gate/broken").header("keyward-reasons"), "KW4002,KW4401");
}

#[test]
fn what_cannot_be_held_is_said() {
    let still = Still::new(two_paths());
    let server = still.serve();
    for (body, status, said) in [
        (r#"{"path": "nonesuch", "seconds": 60}"#, 404, "no approval path"),
        (r#"{"path": "approve", "seconds": 0}"#, 400, "at a time"),
        (r#"{"path": "approve", "seconds": 301}"#, 400, "at a time"),
        (r#"{"path": "../x", "seconds": 5}"#, 400, "../x"),
        (r#"{"path": "approve", "seconds": 5, "open": true}"#, 400, "unknown field"),
        ("", 400, "not understood"),
    ] {
        let reply = server.admin("POST", "/v1/holds", body);
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.body.contains(said), "{body}: {}", reply.body);
    }
    let request = "POST /v1/holds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 35\r\nConnection: close\r\n\r\n\
                   {\"path\": \"approve\", \"seconds\": 60}  ";
    assert_eq!(server.tcp(request).status, 403, "nothing is changed over TCP");
    assert_eq!(server.get("/v1/gate/approve").status, 200);
}
