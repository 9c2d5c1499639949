//! Who gets what, and who gets nothing and is told why.

use super::{DB, House, WEB, Watch, program, workload};

const SVIDS: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

#[test]
fn a_published_client_gets_certificate_key_and_bundle() {
    let hash = crate::harness::pki::openssl(std::path::Path::new("/"), &["dgst", "-sha256", "-r", &program()]);
    let hash = format!("unix:sha256:{}", hash.split_whitespace().next().unwrap());
    let path = format!("unix:path:{}", program());
    let web =
        workload(WEB, &["unix:uid:0", "unix:gid:0", &path, &hash], "names = [\"web.svc.example\"]\nlifetime = \"1h\"");
    let house = House::new(
        &(web
            + &workload(DB, &["unix:uid:0"], "")
            + &workload("spiffe://mesh.example/ns/prod/sa/no", &["unix:uid:1"], "")),
    );
    let got = house.fetch(&["fetch"]);
    let svids = got["svids"].as_array().unwrap();
    let ids: Vec<&str> = svids.iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [WEB, DB], "{got}");
    assert!(svids.iter().all(|s| s["fits"] == true && s["chain"] == 2), "{got}");
    assert!(svids[0]["lives"].as_f64().unwrap() <= 3_700.0, "{got}");
    assert_eq!(got["bundles"]["mesh.example"], 1, "{got}");
    assert_eq!(house.ask(&["bundles"])["bundles"]["mesh.example"], 1);
    // The same certificates for the same caller, and one entry for each of them.
    assert_eq!(house.fetch(&["fetch"]), got);
    assert_eq!(house.log("workload.give").len(), 2);
    let status: serde_json::Value =
        serde_json::from_str(&house.mesh.ok(&["workload", "status", "-o", "json"])).unwrap();
    assert_eq!(
        status[0]["certificate"]["serial"].as_str().unwrap().trim_start_matches('0'),
        svids[0]["serial"],
        "{status}"
    );
    assert!(status[2]["certificate"].is_null() && status[2]["selectors"][0] == "unix:uid:1", "{status}");
    assert_eq!(house.mesh.status()["cas"][0]["generations"][0]["leaves"], 2);
}

#[test]
fn whoever_is_no_workload_gets_nothing_and_is_told_why() {
    let path = format!("unix:path:{}", program());
    let other = workload(DB, &["unix:uid:65534", "unix:path:/usr/bin/true"], "");
    let wrong = format!("unix:sha256:{}", "0".repeat(64));
    let hashed = workload(DB, &["unix:uid:65534", &wrong], "");
    let house = House::new(&(workload(WEB, &["unix:uid:0", &path], "") + &other + &hashed));
    house.fetch(&["fetch"]);
    for (what, method, more, code, text) in [
        ("another user", SVIDS, &["--uid", "65534"][..], "PERMISSION_DENIED", "KW4851"),
        ("bundles too", "/SpiffeWorkloadAPI/FetchX509Bundles", &["--uid", "65534"], "PERMISSION_DENIED", "uid 65534"),
        ("no metadata", SVIDS, &["--bare"], "INVALID_ARGUMENT", "workload.spiffe.io"),
        ("tokens", "/SpiffeWorkloadAPI/FetchJWTSVID", &[], "UNIMPLEMENTED", "KW4858"),
        ("tokens", "/SpiffeWorkloadAPI/ValidateJWTSVID", &[], "UNIMPLEMENTED", "not offered"),
        ("nothing", "/SpiffeWorkloadAPI/Else", &[], "UNIMPLEMENTED", "no method"),
        (
            "deltas",
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
            &["--bare"],
            "UNIMPLEMENTED",
            "DeltaSecrets",
        ),
        (
            "no secret for a stranger",
            "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
            &["--bare", "--uid", "65534"],
            "PERMISSION_DENIED",
            "KW4851",
        ),
    ] {
        let (got, said) = house.call(method, more);
        assert!(got == code && said.contains(text), "{what}: {got} {said}");
    }
    let told = house.mesh.wait("it is told", |_| Some(house.log("workload.refuse")).filter(|all| all.len() >= 2));
    assert!(told.iter().any(|e| e["code"] == "KW4851"), "{told:?}");
}

#[test]
fn a_connection_outlives_its_process_in_vain() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    house.fetch(&["fetch"]);
    let relay = house.mesh.dir.path().join("relay.sock");
    let orphan = house.watch(&["orphan", relay.to_str().unwrap()]);
    assert_eq!(orphan.line()["ready"], true);
    let mut command = std::process::Command::new(super::python());
    command.arg(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/workload/client.py"));
    command.args(["call", relay.to_str().unwrap(), SVIDS]);
    let answer = Watch::of(command).line();
    assert_eq!(answer["code"], "PERMISSION_DENIED", "{answer}");
    assert!(answer["text"].as_str().unwrap().contains("KW4854"), "{answer}");
}
