//! The rules for Caddy's JSON, in which handlers run in the order of the file.

use super::yaml::{Node, Value, parse};
use super::{
    ANY_SUCCESS, BEFORE, CACHED, Desk, GATE, LONGEST_WAIT_MS, NO_TIMEOUT, OVER_TCP, SECOND_GATE, TURNED, is_success,
    millis,
};

pub(super) fn lint(desk: &mut Desk<'_>, file: &str, text: &str) {
    let root = match parse(file, text) {
        Ok(root) => root,
        Err((at, why)) => return desk.unread(&at, &why),
    };
    let mut gates = 0_usize;
    root.walk(&mut |node| {
        if is_gate(node) {
            gates = gates.saturating_add(1);
            gate(desk, node);
        }
        if let Some(handlers) = node.key("handle") {
            handlers_in_order(desk, handlers);
        }
        if let Some(routes) = node.key("routes") {
            routes_in_order(desk, routes);
        }
        if let Some(errors) = node.path(&["errors", "routes"]) {
            on_errors(desk, errors);
        }
    });
    if gates == 0 {
        desk.unguarded(file, "add a reverse_proxy handler that asks the gate before what is guarded");
    }
}

fn handler(node: &Node) -> &str {
    node.key("handler").and_then(Node::text).unwrap_or_default()
}

fn is_gate(node: &Node) -> bool {
    let uri = node.path(&["rewrite", "uri"]).and_then(Node::text);
    handler(node) == "reverse_proxy" && uri.is_some_and(|uri| uri.contains(GATE))
}

fn holds_gate(node: &Node) -> bool {
    let mut found = false;
    node.walk(&mut |n| found |= is_gate(n));
    found
}

/// Whether a handler answers by itself.
fn answers(node: &Node) -> bool {
    matches!(handler(node), "static_response" | "reverse_proxy" | "file_server" | "php_fastcgi") && !is_gate(node)
}

fn handlers_in_order(desk: &mut Desk<'_>, handlers: &Node) {
    let all = handlers.list();
    let Some(place) = all.iter().position(|h| is_gate(h)) else { return };
    for before in all.iter().take(place).filter(|h| answers(h) && !is_refusal(h)) {
        let text = format!("`{}` answers before the gate is asked: handlers run in this order", handler(before));
        desk.open(BEFORE, &before.at, text, "put the handler that asks the gate first");
    }
    for cache in all.iter().filter(|h| handler(h).contains("cache")) {
        let text = "a cache beside the gate may answer without asking it";
        desk.open(CACHED, &cache.at, text, "remove it, or put it behind the gate");
    }
}

/// A route without a match takes everything; what comes after it is never reached.
fn routes_in_order(desk: &mut Desk<'_>, routes: &Node) {
    let all = routes.list();
    let Some(place) = all.iter().position(|r| holds_gate(r)) else { return };
    for before in all.iter().take(place).filter(|r| r.key("match").is_none()) {
        let first =
            before.key("handle").map(Node::list).unwrap_or_default().iter().find(|h| answers(h) && !is_refusal(h));
        if let Some(first) = first {
            let text = format!("`{}` answers everything before the route that asks the gate", handler(first));
            desk.open(BEFORE, &first.at, text, "put the guarded route first, or give this one a match");
        }
    }
}

fn status(node: &Node) -> Option<&str> {
    node.key("status_code").and_then(Node::text)
}

fn is_refusal(node: &Node) -> bool {
    match handler(node) {
        "static_response" => {
            let closes = node.key("abort").is_some_and(Node::is_true);
            closes || status(node).is_some_and(|s| s.starts_with(['3', '4', '5']))
        }
        "error" | "copy_response" => true,
        _ => false,
    }
}

fn refuses(routes: &Node) -> bool {
    routes.list().iter().any(|r| r.key("handle").map(Node::list).unwrap_or_default().iter().any(|h| is_refusal(h)))
}

fn on_errors(desk: &mut Desk<'_>, routes: &Node) {
    routes.walk(&mut |node| match handler(node) {
        "static_response" if status(node).is_none_or(is_success) && !is_refusal(node) => {
            let text = "an error is answered with success: a client takes a gate that does not answer for a yes";
            desk.open(TURNED, &node.at, text, "give it a status_code of 403");
        }
        "reverse_proxy" => {
            let text = "when the gate does not answer, another upstream is tried instead";
            desk.open(TURNED, &node.at, text, "answer errors with a text or a file, and hand nothing on");
        }
        _ => {}
    });
}

fn gate(desk: &mut Desk<'_>, gate: &Node) {
    let upstreams = gate.key("upstreams").map(Node::list).unwrap_or_default();
    if upstreams.is_empty() {
        desk.unread(&gate.at, "the gate's upstreams are not listed here");
    }
    let tls = gate.path(&["transport", "tls"]).is_some();
    for upstream in upstreams {
        let dial = upstream.key("dial").and_then(Node::text).unwrap_or_default();
        if !dial.starts_with("unix/") && !tls {
            let text = format!("the gate is asked at {dial}: whatever takes that port may answer for it");
            desk.warn(OVER_TCP, &upstream.at, text, "ask its Unix socket: unix//run/keyward/gate.sock");
        }
    }
    if let Some(second) = upstreams.get(1) {
        let text = "a second upstream is asked as well, and its yes counts";
        desk.warn(SECOND_GATE, &second.at, text, "name one socket: a gate that does not answer is closed");
    }
    for name in ["dial_timeout", "response_header_timeout"] {
        let set = gate.path(&["transport", name]);
        // A number is nanoseconds.
        let value = set.and_then(Node::text).and_then(|t| match t.parse::<u64>() {
            Ok(nanos) => Some(nanos / 1_000_000),
            Err(_) => millis(t, 1),
        });
        if value.is_none_or(|ms| ms == 0 || ms > LONGEST_WAIT_MS) {
            let text = format!("without a short {name} a silent gate holds requests");
            desk.warn(
                NO_TIMEOUT,
                set.map_or(&gate.at, |s| &s.at),
                text,
                format!("\"{name}\": \"2s\" in its transport"),
            );
        }
    }
    for response in gate.key("handle_response").map(Node::list).unwrap_or_default() {
        let codes = response.path(&["match", "status_code"]).map(Node::list).unwrap_or_default();
        let codes: Vec<&str> = codes.iter().filter_map(|c| c.text()).collect();
        let known = !codes.is_empty();
        if known && codes.iter().all(|c| *c == "200") {
            continue;
        }
        if response.key("routes").is_some_and(refuses) {
            continue;
        }
        if known && codes.iter().all(|c| *c == "2" || is_success(c)) {
            let text = "every 2xx opens, a 204 too; the gate says 200 only";
            desk.warn(ANY_SUCCESS, &response.at, text, "\"status_code\": [200]");
            continue;
        }
        let text = "an answer of the gate that is no 200 is handled here and not refused, so that the request goes on";
        desk.open(TURNED, &response.at, text, "match status_code 200 only, and leave everything else to Caddy");
    }
    if !matches!(gate.key("handle_response").map(|n| &n.value), Some(Value::List(_))) {
        let text = "without `handle_response` the gate's own answer goes to the client, and nothing is guarded by it";
        desk.warn(super::NO_DENY, &gate.at, text, "add handle_response with a match on status_code 200");
    }
}
