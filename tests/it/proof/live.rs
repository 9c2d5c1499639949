//! Real proxies before a portal: the probe proves the good ones and convicts each bad one, in the right case.

use std::fs;

use crate::harness::proxy::{Probed, Proxy, Scene};

const INTERRUPT: &[&str] = &["--allow-interrupt", "--timeout", "1s"];

/// The portal, and the gate over connections that are kept.
const UPSTREAMS: &str = " upstream portal { server @PORTAL@; }\n upstream gate { server unix:@GATE@; keepalive 4; }\n";

/// By this only 200 opens.
const MAP: &str = " map $gate_status $to { 200 portal; default refused; }\n upstream portal { server @PORTAL@; }\n \
    upstream refused { server unix:/nonexistent/refused; }\n upstream gate { server unix:@GATE@; keepalive 4; }\n";

/// nginx's location that asks the gate, over connections that are kept.
const GATE: &str = "location = /_gate { internal; proxy_pass http://gate/v1/gate/approve; proxy_http_version 1.1;\n\
    proxy_set_header Connection \"\"; proxy_pass_request_body off; proxy_set_header Content-Length \"\";\n\
    proxy_connect_timeout 1s; proxy_read_timeout 500ms; }\n";

fn proven(probed: &Probed) {
    assert_eq!((probed.code, probed.report["result"].as_str()), (0, Some("proven")), "{}", probed.said);
    assert_eq!(probed.cases("noted"), ["stand-in 200"], "{}", probed.said);
    assert_eq!(probed.cases("held").len(), 11, "{}", probed.said);
}

/// Convicted of these cases and of no others.
fn convicted(probed: &Probed, cases: &[&str]) {
    assert_eq!((probed.code, probed.report["result"].as_str()), (1, Some("failed-open")), "{}", probed.said);
    assert_eq!(probed.cases("failed-open"), cases, "{}", probed.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_nginx_is_proven_through_every_case() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    let server = format!(
        "location /approve {{ auth_request /_gate; auth_request_set $gate_status $upstream_status; proxy_pass http://$to; }}\n{GATE}"
    );
    let nginx = Proxy::nginx(&scene, &server, MAP);
    let file = nginx.file.to_str().unwrap().to_owned();
    let mut more = INTERRUPT.to_vec();
    more.extend(["--lint", &file]);
    let probed = scene.probe(&nginx.url, &more);
    proven(&probed);
    assert_eq!(probed.report["lint"], serde_json::json!([]), "the linter agrees");
    assert!(scene.gate.exists() && daemon.gate().unwrap().0, "everything is as it was");
    // Only a strict probe counts what no proxy can see.
    let mut strict = INTERRUPT.to_vec();
    strict.push("--strict");
    convicted(&scene.probe(&nginx.url, &strict), &["stand-in 200"]);
    let entries = fs::read_to_string(scene.config.with_extension("log")).unwrap();
    assert!(!entries.contains("KW4405") && !entries.contains("KW4406"), "{entries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nginx_that_believes_204_is_convicted_of_that_alone() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let server = format!("location /approve {{ auth_request /_gate; proxy_pass http://portal; }}\n{GATE}");
    let nginx = Proxy::nginx(&scene, &server, UPSTREAMS);
    let probed = scene.probe(&nginx.url, INTERRUPT);
    convicted(&probed, &["answers 204"]);
    assert_eq!(probed.case("answers 204"), ("failed-open", "KW4414"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_nginx_that_fails_open_is_convicted() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let plain = "auth_request /_gate; proxy_pass http://portal;";
    let reached = crate::harness::proxy::REACHED;
    // What the linter says about it; the cases in which it fails.
    let bad: [(&str, String, &str, &[&str]); 5] = [
        (
            "return",
            format!("location /approve {{ auth_request /_gate; return 200 '{reached}'; }}\n{GATE}"),
            "KW4429",
            &["closed"],
        ),
        (
            "satisfy any",
            format!("location /approve {{ satisfy any; allow all; {plain} }}\n{GATE}"),
            "KW4430",
            &["closed"],
        ),
        (
            "error_page to the portal",
            format!(
                "location /approve {{ {plain} error_page 403 500 = @on; }} location @on {{ proxy_pass http://portal; }}\n{GATE}"
            ),
            "KW4428",
            &["closed"],
        ),
        (
            "a cached yes",
            format!(
                "location /approve {{ {plain} }}\n{}",
                GATE.replace(
                    "internal;",
                    "internal; proxy_cache kept; proxy_cache_valid 200 60s; proxy_ignore_headers Cache-Control;"
                )
            ),
            "KW4425",
            &["closed"],
        ),
        (
            "rewrite away",
            format!(
                "location /approve {{ rewrite ^ /in last; {plain} }} location /in {{ proxy_pass http://portal; }}\n{GATE}"
            ),
            "KW4429",
            &["closed"],
        ),
    ];
    let cache = " proxy_cache_path @DIR@/cache keys_zone=kept:1m;\n";
    for (name, server, code, cases) in bad {
        let nginx = Proxy::nginx(&scene, &server, &format!("{UPSTREAMS}{cache}"));
        let before = scene.portal.visits();
        let file = nginx.file.to_str().unwrap().to_owned();
        let probed = scene.probe(&nginx.url, &["--lint", &file]);
        convicted(&probed, cases);
        let lint = probed.report["lint"].as_array().unwrap();
        assert!(lint.iter().any(|f| f["code"] == code && f["level"] == "fails-open"), "{name}: {}", probed.said);
        assert!(name == "return" || scene.portal.visits() > before, "{name}: the portal was not even reached");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nginx_that_opens_only_without_a_gate_needs_the_interruption_to_be_convicted() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let server = format!(
        "location /approve {{ auth_request /_gate; auth_request_set $gate_status $upstream_status; proxy_pass http://portal; }}\n\
         location @fine {{ return 200; }}\n{}",
        GATE.replace("internal;", "internal; error_page 502 504 = @fine;")
    );
    let nginx = Proxy::nginx(&scene, &server, MAP);
    let tame = scene.probe(&nginx.url, &[]);
    assert_eq!((tame.code, tame.case("closed").0, tame.case("dead").0), (3, "held", "unknown"), "{}", tame.said);
    let probed = scene.probe(&nginx.url, INTERRUPT);
    assert_eq!(probed.code, 1, "{}", probed.said);
    let failed = probed.cases("failed-open");
    for case in ["dead", "slow", "hangs up"] {
        assert!(failed.contains(&case), "{case} in {failed:?}: {}", probed.said);
    }
    assert!(!failed.contains(&"closed") && !failed.contains(&"answers 302"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nginx_that_asks_over_tcp_is_not_proven() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let server = format!(
        "location /approve {{ auth_request /_gate; auth_request_set $gate_status $upstream_status; proxy_pass http://$to; }}\n{}",
        GATE.replace("http://gate/", "http://@HTTP@/")
    );
    let nginx = Proxy::nginx(&scene, &server, MAP);
    let probed = scene.probe(&nginx.url, INTERRUPT);
    // While the socket is aside nobody answers over TCP either; but a stand-in cannot be placed there.
    assert_eq!(
        (probed.code, probed.case("dead").0, probed.case("answers 204").0),
        (3, "held", "unknown"),
        "{}",
        probed.said
    );
}

const CADDY_GATE: &str = "reverse_proxy unix/@GATE@ {\n method GET\n rewrite /v1/gate/approve\n @good status 200\n handle_response @good {\n vars gate open\n }\n transport http {\n dial_timeout 1s\n response_header_timeout 500ms\n }\n}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_caddy_is_proven_and_its_short_form_believes_204() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let good = Proxy::caddy(&scene, &format!("route {{\n{CADDY_GATE}reverse_proxy @PORTAL@\n}}\n"));
    let file = good.file.to_str().unwrap().to_owned();
    let mut more = INTERRUPT.to_vec();
    more.extend(["--lint", &file]);
    let probed = scene.probe(&good.url, &more);
    proven(&probed);
    assert_eq!(probed.report["lint"], serde_json::json!([]), "the linter agrees");
    drop(good);
    let short = "forward_auth unix/@GATE@ {\n uri /v1/gate/approve\n transport http {\n dial_timeout 1s\n response_header_timeout 500ms\n }\n}\nreverse_proxy @PORTAL@\n";
    let short = Proxy::caddy(&scene, short);
    convicted(&scene.probe(&short.url, INTERRUPT), &["answers 204"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caddy_that_fails_open_is_convicted() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let order = Proxy::caddy(&scene, &format!("route {{\nreverse_proxy @PORTAL@\n{CADDY_GATE}}}\n"));
    convicted(&scene.probe(&order.url, &[]), &["closed"]);
    drop(order);
    let any = CADDY_GATE.replace("handle_response @good", "handle_response");
    let any = Proxy::caddy(&scene, &format!("route {{\n{any}reverse_proxy @PORTAL@\n}}\n"));
    convicted(&scene.probe(&any.url, &[]), &["closed"]);
    drop(any);
    let errors =
        format!("route {{\n{CADDY_GATE}reverse_proxy @PORTAL@\n}}\nhandle_errors {{\nreverse_proxy @PORTAL@\n}}\n");
    let errors = Proxy::caddy(&scene, &errors);
    let probed = scene.probe(&errors.url, INTERRUPT);
    assert_eq!(
        (probed.code, probed.case("closed").0, probed.case("dead").0),
        (1, "held", "failed-open"),
        "{}",
        probed.said
    );
}

/// Health checks that ask the gate.
fn by_checks(expect: &str, server: &str) -> String {
    format!(
        "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n timeout check 500ms\n\
         frontend f\n bind @LISTEN@\n default_backend portal\n\
         backend portal\n option httpchk\n http-check connect addr unix@@GATE@\n http-check send meth GET uri /v1/gate/approve\n{expect}\
         default-server inter 300ms fall 1 rise 1\n server one @PORTAL@ {server}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_that_checks_the_gate_is_proven_within_its_grace_and_convicted_without_a_check() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let expect = " http-check expect status 200\n";
    let mut granted = INTERRUPT.to_vec();
    granted.extend(["--grace", "3s"]);
    let good = Proxy::haproxy(&scene, &by_checks(expect, "check"));
    let probed = scene.probe(&good.url, &granted);
    proven(&probed);
    drop(good);
    let any = Proxy::haproxy(&scene, &by_checks("", "check"));
    let probed = scene.probe(&any.url, &granted);
    assert_eq!(probed.code, 1, "{}", probed.said);
    assert_eq!(probed.cases("failed-open"), ["answers 302", "answers 204"], "{}", probed.said);
    drop(any);
    let none = Proxy::haproxy(&scene, &by_checks(expect, ""));
    convicted(&scene.probe(&none.url, &["--grace", "3s"]), &["closed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_not_proven() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    let nobody = crate::harness::life::free_port(scene.ip);
    let probed = scene.probe(&format!("http://{nobody}/"), &["--settle", "1s", "--allow-interrupt"]);
    assert_eq!(
        (probed.code, probed.case("open").1, probed.case("closed").0),
        (3, "KW4418", "unknown"),
        "{}",
        probed.said
    );
    // A proxy that always refuses holds, and proves nothing.
    let server = format!("location /approve {{ return 403; }}\n{GATE}");
    let nginx = Proxy::nginx(&scene, &server, UPSTREAMS);
    let probed = scene.probe(&nginx.url, &["--settle", "1s", "--allow-interrupt"]);
    assert_eq!((probed.code, probed.report["result"].as_str()), (3, Some("unknown")), "{}", probed.said);
    for arguments in [
        &["--url", "portal"][..],
        &["--url", "http://x/", "--method", "G T"],
        &["--url", "http://x/", "--expect-open", ""],
    ] {
        let mut all = vec!["gate", "probe", "approve"];
        all.extend(arguments);
        let output = scene.command(&all).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(daemon.gate().unwrap().0);
    drop(daemon);
    let output = scene.command(&["gate", "probe", "approve", "--url", &nginx.url]).output().unwrap();
    assert!(matches!(output.status.code(), Some(1 | 3)), "without a daemon nothing is proven");
    assert_ne!(output.status.code(), Some(0));
}
