//! Kinds of request: what stays reachable while a path is closed, and who tells what the request is.

use keyward::domain::guard::{Care, Guard, Kind};
use keyward::domain::inventory::Estate;

use crate::harness::estate::pid;
use crate::harness::http::{Reply, Server, Still};
use crate::http::two_paths;

/// The paths of [`two_paths`]; both guard approving and leave reading and rejecting reachable.
pub fn guarded() -> Estate {
    let mut estate = two_paths();
    let kind = |name: &str, methods: &[&str], prefixes: &[&str], care| Kind {
        name: name.into(),
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        prefixes: prefixes.iter().map(|p| (*p).to_owned()).collect(),
        care,
    };
    let guard = Guard::new(vec![
        kind("approve", &["POST"], &["/approve"], Care::Guarded),
        kind("read", &["GET", "HEAD"], &[], Care::Reachable),
        kind("reject", &["POST"], &["/reject"], Care::Reachable),
    ]);
    for id in ["approve", "broken"] {
        let mut path = (*estate.paths[&pid(id)]).clone();
        path.guard = guard.clone();
        estate.paths.insert(pid(id), path.into());
    }
    estate
}

fn ask(server: &Server, method: &str, url: &str, headers: &str) -> Reply {
    let request = format!("{method} {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    server.unix(&server.gate, request.as_bytes())
}

#[test]
fn the_appended_target_and_the_method_tell_the_request() {
    let server = Still::new(guarded()).serve();
    for (method, target, status, kind) in [
        ("GET", "/", 200, "read"),
        ("HEAD", "/list", 200, "read"),
        ("GET", "/approve/4711?really=1", 200, "read"),
        ("POST", "/reject/4711", 200, "reject"),
        ("POST", "/approve/4711", 403, ""),
        ("POST", "/", 403, ""),
        ("DELETE", "/reject/4711", 403, ""),
        ("POST", "/reject/../approve/4711", 403, ""),
        ("POST", "//reject", 403, ""),
        ("POST", "/reject/%2e%2e/approve", 403, ""),
        ("BREW", "/", 403, ""),
    ] {
        let reply = ask(&server, method, &format!("/v1/gate/broken{target}"), "");
        assert_eq!((reply.status, reply.header("keyward-kind")), (status, kind), "{method} {target}");
        assert_eq!((reply.header("keyward-reasons"), reply.header("cache-control")), ("KW4002", "no-store"));
        assert_eq!(ask(&server, method, &format!("/v1/gate/approve{target}"), "").status, 200, "open for everything");
        assert_eq!(ask(&server, method, &format!("/v1/gate/unknown{target}"), "").status, 403, "{method} {target}");
    }
    let reply = ask(&server, "GET", "/v1/gate/broken/x", "");
    let json = reply.json();
    assert_eq!(
        (json["open"].as_bool(), json["kind"].as_str()),
        (Some(false), Some("read")),
        "it is closed all the same"
    );
}

#[test]
fn what_a_proxy_may_hand_on_to_strangers_holds_codes_only() {
    let server = Still::new(guarded()).serve();
    for (method, url) in [("POST", "/v1/gate/broken/approve"), ("GET", "/v1/gate/broken?told=forwarded")] {
        let reply = ask(&server, method, url, "");
        assert_eq!((reply.status, reply.header("keyward-reasons")), (403, "KW4002"));
        assert!(!reply.body.contains("peer"), "{}", reply.body);
    }
    assert!(ask(&server, "GET", "/v1/gate/broken", "").body.contains("peer"), "who asks directly is told");
}

#[test]
fn the_appended_query_belongs_to_the_client_and_says_nothing() {
    let server = Still::new(guarded()).serve();
    let forged = "X-Original-Method: GET\r\nX-Original-URI: /\r\n";
    let reply = ask(&server, "POST", "/v1/gate/broken/approve?told=original&nonce=mine", forged);
    assert_eq!((reply.status, reply.json().get("nonce").cloned()), (403, None));
}

#[test]
fn headers_tell_the_request_only_where_the_proxys_own_url_says_so() {
    let server = Still::new(guarded()).serve();
    let original = "X-Original-Method: POST\r\nX-Original-URI: /reject/1?x\r\n";
    let forwarded = "X-Forwarded-Method: POST\r\nX-Forwarded-Uri: /reject/1\r\n";
    let approving = "X-Original-Method: POST\r\nX-Original-URI: /approve/1\r\n";
    for (query, headers, status) in [
        ("?told=original", original, 200),
        ("?told=forwarded", forwarded, 200),
        ("?nonce=1&told=original", original, 200),
        // The other headers may be the client's.
        ("?told=original", &format!("{approving}{forwarded}"), 403),
        ("?told=original", forwarded, 403),
        ("?told=forwarded", original, 403),
        // Nobody vouches for them.
        ("", original, 403),
        ("?told=", original, 403),
        ("?told=both", original, 403),
        ("?told=original&told=forwarded", &format!("{original}{forwarded}"), 403),
        // Half a request, or two.
        ("?told=original", "X-Original-URI: /reject/1\r\n", 403),
        ("?told=original", "X-Original-Method: GET\r\n", 403),
        ("?told=original", "", 403),
        ("?told=original", &format!("{original}X-Original-URI: /approve\r\n"), 403),
        ("?told=original", &format!("{original}X-Original-Method: GET\r\n"), 403),
        ("?told=original", "X-Original-Method: POST\r\nX-Original-URI: /reject/é\r\n", 403),
        ("?told=original", "X-Original-Method: POST\r\nX-Original-URI: \r\n", 403),
    ] {
        let reply = ask(&server, "GET", &format!("/v1/gate/broken{query}"), headers);
        assert_eq!(reply.status, status, "{query} {headers}: {reply:?}");
    }
    assert_eq!(ask(&server, "POST", "/v1/gate/approve?told=original", original).status, 403, "asked with GET only");
}

#[test]
fn a_path_that_guards_everything_has_nothing_reachable() {
    let server = Still::new(two_paths()).serve();
    assert_eq!(ask(&server, "GET", "/v1/gate/broken/", "").status, 403);
    let read = "X-Original-Method: GET\r\nX-Original-URI: /\r\n";
    assert_eq!(ask(&server, "GET", "/v1/gate/broken?told=original", read).status, 403);
}

#[test]
fn what_was_let_through_a_closed_path_is_counted_as_such() {
    let server = Still::new(guarded()).serve();
    ask(&server, "GET", "/v1/gate/broken/", "");
    ask(&server, "POST", "/v1/gate/broken/", "");
    let metrics = server.get("/metrics").body;
    for line in ["decision=\"reachable\",path=\"broken\"} 1", "decision=\"closed\",path=\"broken\"} 1"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
