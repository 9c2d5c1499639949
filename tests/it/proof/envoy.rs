//! A real Envoy before a portal: what `keyward snippet` prints is proven over both of its ways to ask, and each way of failing
//! open is convicted in the right case.

use crate::harness::proxy::{Probed, Proxy, Scene};

const INTERRUPT: &[&str] = &["--allow-interrupt", "--timeout", "2s"];
/// What comes from somebody else than the gate and is no 200.
const WRONG: [&str; 7] = ["slow", "hangs up", "garbage", "answers 302", "answers 500", "answers 503", "answers 204"];

fn proven(probed: &Probed) {
    assert_eq!((probed.code, probed.report["result"].as_str()), (0, Some("proven")), "{}", probed.said);
    assert_eq!(probed.cases("noted"), ["stand-in 200"], "{}", probed.said);
    assert_eq!(probed.cases("held").len(), 11, "{}", probed.said);
    for case in WRONG {
        let line = probed.report["cases"].as_array().unwrap().iter().find(|c| c["case"] == case).unwrap();
        assert!(line["gate_asked"].as_u64().unwrap() > 0, "{case}: {line}");
    }
}

/// With the linter over the same file; it agrees.
fn with_lint(proxy: &Proxy) -> Vec<String> {
    let all = INTERRUPT.iter().copied().chain(["--lint", proxy.file.to_str().unwrap()]);
    all.map(str::to_owned).collect()
}

fn probe(scene: &Scene, proxy: &Proxy) -> Probed {
    let more = with_lint(proxy);
    scene.probe(&proxy.url, &more.iter().map(String::as_str).collect::<Vec<_>>())
}

fn convicted(probed: &Probed, cases: &[&str], lint: &str) {
    assert_eq!((probed.code, probed.report["result"].as_str()), (1, Some("failed-open")), "{}", probed.said);
    // A connection that the gate's stand-in closes just then is a failure too, which such a proxy lets through.
    let open = probed.cases("failed-open");
    assert!(cases.iter().all(|case| open.contains(case)), "{}", probed.said);
    let findings = probed.report["lint"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["code"] == lint), "{}", probed.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snippet_for_envoy_is_proven_over_grpc_and_over_http() {
    let scene = Scene::new().await;
    let daemon = scene.open();
    for kind in ["envoy", "envoy-http"] {
        let envoy = Proxy::envoy(&scene, kind, |text| text);
        let probed = probe(&scene, &envoy);
        proven(&probed);
        assert_eq!(probed.report["lint"], serde_json::json!([]), "{kind}: the linter agrees");
        assert!(daemon.gate().unwrap().0 && scene.gate.exists(), "{kind}: everything is as it was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_probe_counts_that_an_impostor_who_speaks_grpc_is_believed() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let envoy = Proxy::envoy(&scene, "envoy", |text| text);
    let mut strict = INTERRUPT.to_vec();
    strict.push("--strict");
    let probed = scene.probe(&envoy.url, &strict);
    assert_eq!((probed.code, probed.cases("failed-open")), (1, vec!["stand-in 200"]), "{}", probed.said);
    assert_eq!(probed.case("stand-in 200"), ("failed-open", "KW4415"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_allows_failure_is_convicted_of_every_gate_that_is_none() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let allow = |text: String| {
        assert!(text.contains("failure_mode_allow: false"), "{text}");
        text.replace("failure_mode_allow: false", "failure_mode_allow: true")
    };
    // Over HTTP only silence and 5xx are failures to it; another status is an answer, and a denial.
    let over_http = ["dead", "slow", "hangs up", "garbage", "answers 500", "answers 503"];
    let over_grpc: Vec<&str> = ["dead"].into_iter().chain(WRONG).collect();
    for (kind, cases) in [("envoy", &over_grpc[..]), ("envoy-http", &over_http)] {
        let envoy = Proxy::envoy(&scene, kind, allow);
        let probed = probe(&scene, &envoy);
        convicted(&probed, cases, "KW4433");
        assert_eq!(probed.case("closed").0, "held", "{kind}: as long as the gate answers, it is believed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_does_not_ask_is_convicted_although_the_gate_is_closed() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let disabled = "filter_enabled: { default_value: { numerator: 0, denominator: HUNDRED }, runtime_key: authz }";
    let with = |more: &str| {
        let more = format!("transport_api_version: V3\n              {more}");
        move |text: String| text.replace("transport_api_version: V3", &more)
    };
    let off = Proxy::envoy(&scene, "envoy", with(disabled));
    let probed = scene.probe(&off.url, &["--lint", off.file.to_str().unwrap()]);
    convicted(&probed, &["closed"], "KW4434");
    drop(off);
    let exempt = |text: String| {
        assert!(text.contains("route: { cluster: portal }"), "{text}");
        let own = "route: { cluster: portal }\n                typed_per_filter_config:\n                  \
                   envoy.filters.http.ext_authz:\n                    \
                   \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                    \
                   disabled: true";
        text.replace("route: { cluster: portal }", own)
    };
    let exempt = Proxy::envoy(&scene, "envoy-http", exempt);
    let probed = scene.probe(&exempt.url, &["--lint", exempt.file.to_str().unwrap()]);
    assert_eq!((probed.code, probed.cases("failed-open")), (1, vec!["closed"]), "{}", probed.said);
    assert!(!probed.report["lint"].as_array().unwrap().is_empty(), "{}", probed.said);
    drop(exempt);
    // Off, and denying: nothing is reached, so nothing is proven.
    let denying = Proxy::envoy(
        &scene,
        "envoy",
        with(&format!("{disabled}\n              deny_at_disable: {{ default_value: true, runtime_key: deny }}")),
    );
    let probed = scene.probe(&denying.url, &["--settle", "1s"]);
    assert_eq!((probed.code, probed.case("open").1), (3, "KW4418"), "{}", probed.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_asks_elsewhere_or_waits_for_ever_is_not_simply_proven() {
    let scene = Scene::new().await;
    let _daemon = scene.open();
    let over_tcp = |text: String| {
        let pipe = format!("pipe: {{ path: {} }}", scene.gate.display());
        assert!(text.contains(&pipe), "{text}");
        text.replace(
            &pipe,
            &format!("socket_address: {{ address: \"{}\", port_value: {} }}", scene.http.ip(), scene.http.port()),
        )
    };
    let envoy = Proxy::envoy(&scene, "envoy-http", over_tcp);
    let probed = probe(&scene, &envoy);
    assert_eq!(
        (probed.code, probed.case("dead").0, probed.case("answers 204").0),
        (3, "held", "unknown"),
        "{}",
        probed.said
    );
    drop(envoy);
    let patient = Proxy::envoy(&scene, "envoy", |text| text.replacen("timeout: 1s\n", "timeout: 60s\n", 1));
    let probed = probe(&scene, &patient);
    assert_eq!(probed.case("slow"), ("held", "KW4417"), "{}", probed.said);
}
