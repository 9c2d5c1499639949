//! The scrape, read by a parser of its own and by Prometheus' own tool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use keyward::domain::gate::REASONS;
use keyward::domain::inventory::{Estate, Watch};
use keyward::domain::time::{DAY, HOUR};

use crate::harness::estate::{add, cid, estate, path, start};
use crate::harness::http::{Script, Server, Still, seen};
use crate::http::{endpoint, observed, staging, two_paths};

/// Series by name and sorted labels.
type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads the text format as its specification says, and refuses what it forbids.
fn parse(text: &str) -> Series {
    let mut series = Series::new();
    let (mut typed, mut finished, mut family) = (BTreeSet::new(), BTreeSet::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            if name != family {
                assert!(finished.insert(family.clone()) || family.is_empty(), "{family} twice");
                assert!(!finished.contains(name), "{name} is not in one piece");
                family = name.to_owned();
            }
            if kind == "TYPE" {
                assert!(typed.insert(name.to_owned()), "{name} has two types");
                assert!(["gauge", "counter", "histogram"].contains(&words.next().unwrap()));
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(&name);
        assert!(base == family || name == family, "{line} does not belong to {family}");
        assert!(series.insert((name, labels), value).is_none(), "{line} twice");
    }
    series
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let mut chars = line.chars().peekable();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let mut labels = BTreeMap::new();
    if chars.next_if_eq(&'{').is_some() {
        while chars.next_if_eq(&'}').is_none() {
            let mut label = String::new();
            while let Some(c) = chars.next_if(|c| *c != '=') {
                label.push(c);
            }
            assert_eq!((chars.next(), chars.next()), (Some('='), Some('"')), "{line}");
            let mut value = String::new();
            loop {
                match chars.next().unwrap_or_else(|| panic!("{line}")) {
                    '"' => break,
                    '\\' => value.push(match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => panic!("{other:?} in {line}"),
                    }),
                    c => value.push(c),
                }
            }
            assert!(labels.insert(label, value).is_none(), "{line}");
            chars.next_if_eq(&',');
        }
    }
    let rest: String = chars.collect();
    (name, labels, rest.trim().parse().unwrap_or_else(|_| panic!("{line}")))
}

fn scrape(server: &Server) -> String {
    let reply = server.get("/metrics");
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    reply.body
}

fn value(series: &Series, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    series.get(&(name.to_owned(), labels)).copied()
}

fn promtool(text: &str) {
    let child =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("promtool is missing: run tests/run, which installs the package prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_family_is_well_formed_and_says_what_is_there() {
    let server = Still::new(two_paths()).serve();
    server.get("/v1/gate/approve");
    let series = parse(&scrape(&server));
    let portal = [("credential", "portal")];
    let at = |name: &str| value(&series, name, &portal).unwrap_or_else(|| panic!("{name}"));
    assert!(at("keyward_credential_not_before_timestamp_seconds") >= start().unix() as f64);
    assert!(at("keyward_credential_renew_at_timestamp_seconds") < at("keyward_credential_not_after_timestamp_seconds"));
    assert!(at("keyward_credential_last_verified_timestamp_seconds") >= start().unix() as f64);
    assert_eq!((at("keyward_credential_present"), at("keyward_credential_deployed_mismatch")), (1.0, 0.0));
    let info = [
        ("credential", "portal"),
        ("kind", "managed"),
        ("tier", "3"),
        ("owner", "platform"),
        ("issuer", "le"),
        ("ca", "le"),
    ];
    assert_eq!(value(&series, "keyward_credential_info", &info), Some(1.0));
    assert_eq!(value(&series, "keyward_path_member", &[("credential", "portal"), ("path", "approve")]), Some(1.0));
    assert_eq!(value(&series, "keyward_ca_rate_limit_remaining", &[("ca", "le"), ("limit", "exact_set")]), Some(4.0));
    assert_eq!(value(&series, "keyward_audit_writable", &[]), Some(1.0));
    assert_eq!(value(&series, "keyward_environment", &[("environment", "production")]), Some(1.0));
    assert_eq!(value(&series, "keyward_environment", &[("environment", "staging")]), Some(0.0));
    let renewed = [("ca", "le"), ("trigger", "first"), ("result", "success")];
    assert_eq!(value(&series, "keyward_renewals_total", &renewed), Some(1.0));
    let decided = [("path", "approve"), ("decision", "open")];
    assert_eq!(value(&series, "keyward_gate_decisions_total", &decided), Some(1.0));
    assert!(value(&series, "keyward_cycle_duration_seconds_count", &[]) > Some(0.0));
}

#[test]
fn an_absent_file_is_present_0_and_an_empty_watch_too() {
    let mut estate = two_paths();
    let watch =
        Watch { pattern: "/none/*".into(), password_file: None, owner: Some("ops".into()), labels: Default::default() };
    estate.watches.insert(cid("inbox"), Arc::new(watch));
    let server = Still::new(estate).serve();
    let series = parse(&scrape(&server));
    for id in ["peer", "inbox"] {
        assert_eq!(value(&series, "keyward_credential_present", &[("credential", id)]), Some(0.0), "{id}");
        let not_after = value(&series, "keyward_credential_not_after_timestamp_seconds", &[("credential", id)]);
        assert_eq!(not_after, None, "no date is made up");
        assert!(series.keys().any(|(n, l)| n == "keyward_credential_info" && l["credential"] == id));
    }
}

#[test]
fn every_reason_of_every_path_is_there_and_only_those_that_hold_are_1() {
    let server = Still::new(two_paths()).serve();
    let series = parse(&scrape(&server));
    for path in ["approve", "broken"] {
        for reason in REASONS {
            let expected = if (path, reason) == ("broken", "KW4002") { 1.0 } else { 0.0 };
            let labels = [("path", path), ("reason", reason)];
            assert_eq!(value(&series, "keyward_gate_closed", &labels), Some(expected), "{path} {reason}");
        }
    }
}

#[test]
fn what_is_served_and_not_stored_is_a_mismatch() {
    for (serves, expected) in [("a", 0.0), ("b", 1.0)] {
        let mut script = Script::default();
        script.files.insert("/peers/a.pem".into(), seen("a", "CN=a", "CN=Peers", 80));
        script.hosts.insert("peer.sim".into(), seen(serves, "CN=a", "CN=Peers", 80));
        let mut estate = two_paths();
        let mut peer = observed("a", "/peers/a.pem");
        peer.endpoints = vec![endpoint("peer.sim")];
        add(&mut estate, peer);
        path(&mut estate, "peers", &["a"], HOUR);
        let server = Still::scripted(estate, script).serve();
        let series = parse(&scrape(&server));
        let of = |name| value(&series, name, &[("credential", "a")]);
        assert_eq!(of("keyward_credential_deployed_mismatch"), Some(expected));
        assert_eq!(of("keyward_credential_last_verified_timestamp_seconds").is_some(), serves == "a");
        let reason = [("path", "peers"), ("reason", "KW4007")];
        assert_eq!(value(&series, "keyward_gate_closed", &reason), Some(expected));
    }
}

#[test]
fn no_series_outlives_what_it_is_about_and_no_label_is_from_a_certificate() {
    let files = BTreeMap::from([("/peers/a.pem".to_owned(), seen("a", "CN=\"} 1 evil", "CN=Evil\nIssuer", 80))]);
    let mut estate = two_paths();
    add(&mut estate, observed("a", "/peers/a.pem"));
    let still = Still::scripted(estate, Script { files, ..Script::default() });
    let server = still.serve();
    let text = scrape(&server);
    let series = parse(&text);
    assert!(!text.to_lowercase().contains("evil") && !text.contains("0a\""), "{text}");
    let expected = start().plus(DAY * 80).unix() as f64;
    let labels = [("credential", "a")];
    assert_eq!(value(&series, "keyward_credential_not_after_timestamp_seconds", &labels), Some(expected));
    still.engine.command(keyward::engine::Command::Estate(Arc::new(two_paths()))).unwrap();
    still.go_on(std::time::Duration::from_secs(5));
    assert!(!parse(&scrape(&server)).keys().any(|(_, l)| l.get("credential").is_some_and(|c| c == "a")));
}

#[test]
fn unknown_paths_make_no_series() {
    let server = Still::new(two_paths()).serve();
    (0..50).for_each(|n| assert_eq!(server.get(&format!("/v1/gate/guess-{n}")).status, 403));
    let series = parse(&scrape(&server));
    let unknown = [("path", "unknown"), ("decision", "closed")];
    assert_eq!(value(&series, "keyward_gate_decisions_total", &unknown), Some(50.0));
    assert!(!series.keys().any(|(_, l)| l.values().any(|v| v.starts_with("guess"))));
}

#[test]
fn compat_is_there_only_when_wanted() {
    let still = Still::new(two_paths());
    assert!(!scrape(&still.serve()).contains("x509_cert_not_after"));
    let server = Server::new(keyward::shell::http::Web { compat_x509: true, ..still.web() });
    let series = parse(&scrape(&server));
    let labels = [("filename", "fullchain.pem"), ("filepath", "/sim/current/fullchain.pem"), ("credential", "portal")];
    assert!(value(&series, "x509_cert_not_after", &labels).is_some());
}

pub fn crowd(count: usize) -> (Estate, Script) {
    let mut estate = estate(&[("le", &[])]);
    let mut script = Script::default();
    for n in 0..count {
        let (id, file) = (format!("peer-{n}"), format!("/peers/{n}.pem"));
        add(&mut estate, observed(&id, &file));
        script.files.insert(file, seen(&id, "CN=peer", "CN=Peers", 80));
    }
    path(&mut estate, "approve", &["peer-0", "peer-1"], HOUR);
    (estate, script)
}

#[test]
fn ten_thousand_credentials_are_scraped_at_once() {
    let (estate, script) = crowd(10_000);
    let still = Still::scripted(estate, script);
    let server = still.serve();
    let before = std::time::Instant::now();
    let text = scrape(&server);
    println!("{} bytes in {:?}", text.len(), before.elapsed());
    let series = parse(&text);
    assert_eq!(series.keys().filter(|(n, _)| n == "keyward_credential_present").count(), 10_000);
    assert_eq!(series.iter().filter(|((n, _), v)| n == "keyward_credential_present" && **v == 1.0).count(), 10_000);
    assert!(text.len() < 16 * 1_024 * 1_024, "{}", text.len());
}

#[test]
fn prometheus_own_tool_finds_nothing_to_say() {
    for estate in [two_paths(), staging(two_paths()), estate(&[])] {
        let server = Still::new(estate).serve();
        server.get("/v1/gate/approve");
        promtool(&scrape(&server));
    }
}
