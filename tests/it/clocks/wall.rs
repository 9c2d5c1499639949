//! The wall clock under libfaketime: a certificate's end, a step back, a step of a year ahead.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use keyward::domain::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;

use crate::harness::clocks::{Scene, Wall, codes, wall};
use crate::harness::fault::Daemon;
use crate::harness::life::{free_port, own_address};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Closed for the clock, at once: whoever asks first is told, before the loop has looked.
fn closes_at_once(daemon: &Daemon) {
    let (open, codes) = daemon.gate().unwrap();
    assert!(!open && codes.iter().any(|c| c == "KW4009"), "{codes:?}");
}

fn status(daemon: &Daemon) -> Value {
    let (status, body) = daemon.get("/v1/status").unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn fault(daemon: &Daemon) -> Option<String> {
    status(daemon)["clock_fault"].as_str().map(str::to_owned)
}

/// Everything was looked at and evaluated anew, and the clock alone keeps the path closed.
fn waits_for_a_person(daemon: &Daemon) {
    let asked = || {
        let (_, body) = daemon.get("/v1/gate/approve").unwrap();
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let before = asked()["evaluated_at"].as_str().unwrap().to_owned();
    daemon.wait("a fresh verdict", |d| {
        assert!(d.cli(&["cert", "scan"]).status.success());
        let body = asked();
        assert_eq!(body["open"], false, "{body}");
        (body["evaluated_at"].as_str().unwrap() > before.as_str() && codes(&body) == ["KW4009"]).then_some(())
    });
}

/// The planner has considered every certificate and starts nothing.
fn all_held(daemon: &Daemon) {
    for name in ["one", "two", "three"] {
        daemon.wait("it is held", |d| {
            let said = String::from_utf8(d.cli(&["cert", "why", name]).stdout).unwrap();
            said.contains("nothing is started").then_some(())
        });
    }
}

fn recorded(daemon: &Daemon, action: &str) -> bool {
    let (_, body) = daemon.get("/v1/audit/entries?limit=1000").unwrap();
    body.contains(&format!("\"{action}\""))
}

#[test]
fn the_end_of_a_certificate_closes_the_gate_no_later_than_that_moment() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    // More than a year from now, in which nothing else that the daemon reads would be valid.
    let ahead = 400 * DAY;
    let clock = Wall::new(dir.path(), ahead);
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(at("root.pem"), root.pem()).unwrap();
    let http = free_port(own_address());
    let toml = format!(
        "state_dir = \"@/state\"\n[listen]\nhttp = \"{http}\"\nallow_remote = true\nadmin_socket = \"@/admin.sock\"\n\
         gate_socket = \"@/run/gate.sock\"\n\
         [[issuer]]\nid = \"ca\"\ndirectory = \"https://127.0.0.1:1/d\"\nroot_files = [\"@/root.pem\"]\nterms_agreed = true\n\
         [[observe]]\nid = \"peer\"\nfile = \"@/peer.pem\"\n\
         [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\nmargin = \"0s\"\n"
    );
    let config = dir.path().join("keyward.toml");
    fs::write(&config, toml.replace("@/", &format!("{}/", dir.path().display()))).unwrap();
    let end = wall().plus(Duration::from_secs(12)).unix() + ahead;
    let mut params = CertificateParams::new(vec!["peer.example.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(end).unwrap());
    fs::write(at("peer.pem"), params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap().pem()).unwrap();
    let daemon = Daemon::start(&config, http, &clock.under());
    daemon.opens();
    let (_, body) = daemon.get("/v1/gate/approve").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["until"], Timestamp::from_unix(end).to_string(), "{body}");
    // The moment by the clocks of this process.
    let real = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end - ahead).unwrap());
    let left =
        real.duration_since(SystemTime::now()).expect("the daemon takes longer to start than the certificate lives");
    let moment = Instant::now() + left;
    let asking = crate::harness::clocks::Asking::begin(&dir.path().join("run/gate.sock"));
    daemon.wait("the end", |d| d.gate().filter(|(open, _)| !open));
    let all = asking.end();
    let last = all.iter().filter(|a| a.open).map(|a| a.asked).max().unwrap();
    assert!(last < moment, "open {:?} after the end", last - moment);
    let closed: Vec<_> = all.iter().filter(|a| !a.open).collect();
    assert!(
        !closed.is_empty() && closed.iter().all(|a| codes(&a.body).iter().all(|c| matches!(*c, "KW4004" | "KW4005")))
    );
    // Not by being careful from the beginning: it was open until shortly before.
    assert!(moment - last < Duration::from_secs(2), "closed {:?} early", moment - last);
    assert_eq!(daemon.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_back_closes_over_a_restart_until_a_person_opens_and_orders_nothing() {
    let scene = Scene::new().await;
    let clock = Wall::new(scene.place.dir.path(), 0);
    let daemon = scene.open(&clock.under());
    let orders = scene.orders();
    assert_eq!(orders, 3);
    clock.jump(-HOUR);
    closes_at_once(&daemon);
    let why = daemon.wait("the loop notices", fault);
    assert!(why.contains("behind"), "{why}");
    daemon.wait("the latch is recorded", |d| recorded(d, "gate.latch").then_some(()));
    assert_eq!(daemon.terminate(), 0);

    // The mark is on the disk: a start before it is noticed.
    let daemon = scene.start(&clock.under());
    daemon.closes_for("KW4009");
    assert!(fault(&daemon).unwrap().contains("went backwards"), "{:?}", fault(&daemon));
    all_held(&daemon);
    closes_at_once(&daemon);
    assert_eq!(daemon.terminate(), 0);

    // Put right while nobody looked, and everything is as it should be; a person has not said so.
    clock.jump(0);
    let daemon = scene.start(&clock.under());
    daemon.closes_for("KW4009");
    assert_eq!(fault(&daemon), None);
    waits_for_a_person(&daemon);
    let reopened = daemon.cli(&["gate", "reopen", "approve"]);
    assert!(reopened.status.success(), "{}", String::from_utf8_lossy(&reopened.stderr));
    daemon.opens();
    assert_eq!(daemon.terminate(), 0);
    scene.open(&clock.under());
    assert_eq!(scene.orders(), orders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_a_year_ahead_closes_renews_nothing_and_is_told_to_people() {
    let scene = Scene::new().await;
    let clock = Wall::new(scene.place.dir.path(), 0);
    let daemon = scene.open(&clock.under());
    let (orders, requests) = (scene.orders(), scene.place.control.certificates().len());
    clock.jump(YEAR);
    closes_at_once(&daemon);
    let why = daemon.wait("the loop notices", fault);
    assert!(why.contains("365 d ahead of"), "{why}");
    // By the clock every certificate has ended long ago.
    all_held(&daemon);
    assert_eq!((scene.orders(), scene.place.control.certificates().len()), (orders, requests));
    daemon.closes_for("KW4004");
    assert_eq!(scene.lease(), None);

    // A person is told wherever he looks.
    let said = daemon.cli(&["status"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("365 d ahead of") && text.contains("KW1015"), "{text}");
    let told = status(&daemon);
    assert!(told["notices"].as_array().unwrap().iter().any(|n| n["code"] == "KW1015"), "{told}");
    assert_eq!(daemon.metric("keyward_clock_trusted"), Some(0.0));
    let (_, page) = daemon.get("/").unwrap();
    assert!(page.contains("The clock is not believed") && page.contains("KW4009"), "{page}");

    // Put right, it waits for a person all the same.
    clock.jump(0);
    daemon.wait("the clocks agree", |d| fault(d).is_none().then_some(()));
    waits_for_a_person(&daemon);
    let (_, page) = daemon.get("/").unwrap();
    assert!(page.contains("keyward gate reopen"), "{page}");
    let plan = String::from_utf8(daemon.cli(&["gate", "reopen", "approve", "--plan"]).stdout).unwrap();
    assert!(plan.contains("365 d ahead of"), "{plan}");
    assert!(daemon.cli(&["gate", "reopen", "approve", "--reason", "the clock was mended"]).status.success());
    daemon.opens();
    daemon.wait("a lease", |_| scene.lease());
    // Renewals go on: what a year in advance made of their times is forgotten.
    assert_eq!(scene.orders(), orders);
    assert!(daemon.cli(&["cert", "renew", "one"]).status.success());
    daemon.wait("the renewal", |_| (scene.orders() == orders + 1).then_some(()));
    assert_eq!(daemon.terminate(), 0);
}
