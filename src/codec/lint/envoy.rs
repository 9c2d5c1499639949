//! The rules for Envoy (`ext_authz`), over HTTP and over gRPC.

use super::yaml::{Node, parse};
use super::{
    ALLOWS_FAILURE, BEFORE, CACHED, Desk, EXEMPT, GATE, LONGEST_WAIT_MS, NO_TIMEOUT, OVER_TCP, PARTIAL, SECOND_GATE,
    SIDE_DOOR, TURNED, UNGUARDED, millis,
};

/// The message of the filter.
const FILTER: &str = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
/// The message that exempts a route.
const PER_ROUTE: &str = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute";
/// The message of what takes requests.
const MANAGER: &str = "HttpConnectionManager";

pub(super) fn lint(desk: &mut Desk<'_>, file: &str, text: &str) {
    let root = match parse(file, text) {
        Ok(root) => root,
        Err((at, why)) => return desk.unread(&at, &why),
    };
    let mut guards = 0_usize;
    root.walk(&mut |node| {
        if is(node, FILTER) {
            guards = guards.saturating_add(1);
            filter(desk, &root, node);
        } else if is(node, PER_ROUTE) && node.key("disabled").is_some_and(Node::is_true) {
            exempt(desk, node);
        }
        if is_a(node, MANAGER) {
            manager(desk, node);
        }
        for key in ["lds_config", "cds_config", "rds", "config_discovery", "ads_config"] {
            if let Some(elsewhere) = node.key(key) {
                desk.unread(&elsewhere.at, &format!("`{key}` takes configuration from elsewhere, which is not read"));
            }
        }
    });
    if guards == 0 {
        desk.unguarded(file, "add the filter envoy.filters.http.ext_authz before the router");
    }
}

fn type_of(node: &Node) -> &str {
    let own = node.key("@type").and_then(Node::text).unwrap_or_default();
    own.rsplit('/').next().unwrap_or(own)
}

fn is(node: &Node, message: &str) -> bool {
    type_of(node) == message
}

fn is_a(node: &Node, message: &str) -> bool {
    type_of(node).ends_with(message)
}

fn exempt(desk: &mut Desk<'_>, node: &Node) {
    let text = "this route is exempt from the gate";
    let mend =
        "guard it, or have what stays reachable on a listener of its own; where it is meant so: # keyward: meant";
    desk.open(EXEMPT, &node.at, text, mend);
}

/// The filters of a listener in their order.
fn manager(desk: &mut Desk<'_>, manager: &Node) {
    let filters = manager.key("http_filters").map(Node::list).unwrap_or_default();
    let typed = |f: &Node| f.key("typed_config").cloned();
    let place = filters.iter().position(|f| typed(f).is_some_and(|c| is(&c, FILTER)));
    let Some(place) = place else {
        let text = "this listener has no ext_authz filter: what it routes to is reached without the gate";
        desk.warn(SIDE_DOOR, &manager.at, text, "guard it too, or make sure that it leads nowhere that is guarded");
        return;
    };
    for (n, filter) in filters.iter().enumerate() {
        let config = typed(filter);
        let kind = config.as_ref().map_or("", |c| type_of(c)).to_owned();
        let before = n < place;
        if n == place && filter.key("disabled").is_some_and(Node::is_true) {
            let text = "the ext_authz filter is disabled for every route that does not enable it";
            desk.open(PARTIAL, &filter.at, text, "remove `disabled: true`");
        }
        if before && kind.contains(".cache.") {
            let text = "answers are taken from a cache before the gate is asked";
            desk.open(CACHED, &filter.at, text, "put ext_authz before the cache");
        }
        if before && (kind.contains(".lua.") || kind.contains(".wasm.") || kind.contains(".router.")) {
            let text = format!("{kind} stands before ext_authz and may answer first");
            desk.warn(BEFORE, &filter.at, text, "put ext_authz first");
        }
        if n == place && filter.key("is_optional").is_some_and(Node::is_true) {
            let text = "an optional filter is left out where it cannot be loaded";
            desk.open(PARTIAL, &filter.at, text, "remove `is_optional: true`");
        }
    }
}

fn filter(desk: &mut Desk<'_>, root: &Node, node: &Node) {
    if let Some(allow) = node.key("failure_mode_allow").filter(|v| !is_false(v)) {
        let text = "with `failure_mode_allow` a gate that does not answer opens";
        desk.open(ALLOWS_FAILURE, &allow.at, text, "write `failure_mode_allow: false`");
    }
    let denies = node.path(&["deny_at_disable", "default_value"]).is_some_and(Node::is_true);
    if let Some(enabled) = node.key("filter_enabled").filter(|e| !denies && !is_whole(e)) {
        let text = "the filter is on for a part of the requests only, and the others are let through";
        desk.open(
            PARTIAL,
            &enabled.at,
            text,
            "remove `filter_enabled`, or add `deny_at_disable: {default_value: true, runtime_key: …}`",
        );
    }
    if let Some(enabled) = node.key("filter_enabled").filter(|e| !denies && is_whole(e))
        && let Some(key) = enabled.key("runtime_key")
    {
        let text = "a runtime setting can switch the filter off, and then everything is let through";
        desk.warn(PARTIAL, &key.at, text, "add `deny_at_disable: {default_value: true, runtime_key: …}`");
    }
    if let Some(enabled) = node.key("filter_enabled_metadata") {
        let text = "requests without the metadata are let through";
        desk.open(PARTIAL, &enabled.at, text, "remove `filter_enabled_metadata`");
    }
    if let Some(code) = node.path(&["status_on_error", "code"]) {
        let word = code.text().unwrap_or_default();
        // The codes of envoy.type.v3.StatusCode, by number or by name.
        let good =
            ["Continue", "OK", "Created", "Accepted", "NonAuthoritativeInformation", "NoContent", "ResetContent"];
        let more = ["PartialContent", "MultiStatus", "AlreadyReported", "IMUsed"];
        if word.starts_with('2') || good.contains(&word) || more.contains(&word) {
            let text = format!("a gate that does not answer is shown to the client as {word}");
            desk.open(TURNED, &code.at, text, "write `status_on_error: {code: Forbidden}`");
        }
    }
    match (node.key("http_service"), node.key("grpc_service")) {
        (Some(http), _) => http_service(desk, root, http),
        (None, Some(grpc)) => grpc_service(desk, root, grpc),
        (None, None) => desk.unread(&node.at, "this ext_authz filter names no service"),
    }
}

fn is_false(value: &Node) -> bool {
    matches!(value.text(), Some("false" | "False" | "FALSE"))
}

/// 100 % without doubt.
fn is_whole(enabled: &Node) -> bool {
    let Some(value) = enabled.key("default_value") else { return false };
    let whole = match value.key("denominator").and_then(Node::text) {
        None | Some("HUNDRED") => 100,
        Some("TEN_THOUSAND") => 10_000,
        Some("MILLION") => 1_000_000,
        Some(_) => return false,
    };
    let numerator = value.key("numerator").and_then(Node::text).and_then(|n| n.parse::<u64>().ok());
    numerator.is_some_and(|n| n >= whole)
}

fn http_service(desk: &mut Desk<'_>, root: &Node, http: &Node) {
    let uri = http.key("server_uri");
    let prefix = http.key("path_prefix");
    let asks = |n: Option<&Node>| n.and_then(Node::text).is_some_and(|t| t.contains(GATE));
    if !asks(prefix) {
        let at = prefix.map_or(&http.at, |p| &p.at);
        let text = format!("this service is no gate of keyward: its path_prefix has no {GATE}PATH");
        desk.open(UNGUARDED, at, text, format!("write `path_prefix: {GATE}PATH`"));
    }
    timeout(desk, uri.unwrap_or(http), uri.and_then(|u| u.key("timeout")));
    cluster(desk, root, uri.unwrap_or(http), uri.and_then(|u| u.key("cluster")));
}

fn grpc_service(desk: &mut Desk<'_>, root: &Node, grpc: &Node) {
    timeout(desk, grpc, grpc.key("timeout"));
    if grpc.key("google_grpc").is_some() {
        desk.unread(&grpc.at, "`google_grpc` is not followed; use envoy_grpc with a cluster");
        return;
    }
    let name = grpc.path(&["envoy_grpc", "cluster_name"]);
    cluster(desk, root, grpc, name);
}

fn timeout(desk: &mut Desk<'_>, around: &Node, timeout: Option<&Node>) {
    let set = timeout.and_then(Node::text).and_then(|t| millis(t, 1_000));
    if set.is_none_or(|ms| ms == 0 || ms > LONGEST_WAIT_MS) {
        let at = timeout.map_or(&around.at, |t| &t.at);
        desk.warn(NO_TIMEOUT, at, "without a short timeout a silent gate holds requests", "write `timeout: 2s`");
    }
}

/// Where the gate is.
fn cluster(desk: &mut Desk<'_>, root: &Node, around: &Node, name: Option<&Node>) {
    let Some((at, name)) = name.and_then(|n| Some((&n.at, n.text()?))) else {
        return desk.unread(&around.at, "this names no cluster");
    };
    let all = root.path(&["static_resources", "clusters"]).map(Node::list).unwrap_or_default();
    let Some(cluster) = all.iter().find(|c| c.key("name").and_then(Node::text) == Some(name)) else {
        return desk.unread(at, &format!("the cluster {name:?} is not in this file"));
    };
    let secured = cluster.key("transport_socket").is_some();
    let mut endpoints = Vec::new();
    cluster.walk(&mut |node| {
        if let Some(address) = node.path(&["endpoint", "address"]) {
            endpoints.push(address);
        }
    });
    if endpoints.is_empty() {
        return desk.unread(&cluster.at, &format!("the cluster {name:?} has no endpoints in this file"));
    }
    for address in &endpoints {
        if address.key("socket_address").is_some() && !secured {
            let text = "the gate is asked over TCP: whatever takes that port may answer for it";
            desk.warn(OVER_TCP, &address.at, text, "ask its Unix socket: `pipe: {path: /run/keyward/gate.sock}`");
        }
    }
    if let Some(second) = endpoints.get(1) {
        let text = "a second endpoint is asked as well, and its yes counts";
        desk.warn(SECOND_GATE, &second.at, text, "name one socket: a gate that does not answer is closed");
    }
}
