//! The whole guardian against Let's Encrypt's test server, with real validation; and many issuances at once against a CA
//! that refuses half of all nonces.

use std::fs;
use std::time::Duration;

use keyward::shell::acme_server::{Fault, Scope};

use crate::harness::acme::TestClock;
use crate::harness::deploy::belong_together;
use crate::harness::life::{Life, Place, certificate};
use crate::harness::pebble::{Knobs, Pebble};

const NO_COMPLAINTS: Vec<String> = Vec::new();

/// Issues `count` certificates by http-01 with our own listener and checks what is installed.
async fn issues(knobs: Knobs, count: usize) {
    let pebble = Pebble::start(Knobs { own_http: true, ..knobs });
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    fs::create_dir(dir.path().join("live")).unwrap();
    fs::write(dir.path().join("roots.pem"), pebble.roots()).unwrap();
    let certificates: String =
        (0..count).map(|n| certificate(&format!("c{n}"), &[&format!("c{n}.example.test")], "")).collect();
    let toml = format!(
        "state_dir = \"@/state\"\n[[issuer]]\nid = \"ca\"\ndirectory = \"{}\"\nroot_files = [\"@/roots.pem\"]\n\
         terms_agreed = true\nrequests_per_second = 1000\ncontacts = [\"mailto:tls@example.com\"]\n\
         [[solver]]\nid = \"web\"\ntype = \"http-01\"\nlisten = [\"{}\"]\n{certificates}",
        pebble.directory(),
        pebble.http(),
    );
    let life = Life::start(&toml.replace("@/", &format!("{at}/")), TestClock::new()).await;
    for n in 0..count {
        life.installed(&format!("c{n}")).await;
        let read = |name: &str| fs::read_to_string(dir.path().join(format!("live/c{n}/current/{name}"))).unwrap();
        assert!(belong_together(&read("fullchain.pem"), &read("key.pem")), "c{n}");
    }
    assert_eq!(life.complaints().await, NO_COMPLAINTS);
    assert_eq!(life.count("KW2001").await, count, "one order for each");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_issues_over_real_http_01() {
    issues(Knobs::default(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_issues_twenty_while_it_refuses_half_of_all_nonces() {
    issues(Knobs { nonce_reject: 50, ..Knobs::default() }, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pebble_issues_with_its_default_sleeps() {
    issues(Knobs { sleeps: true, ..Knobs::default() }, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_issuances_with_half_of_all_nonces_refused_no_failure_is_visible() {
    let place = Place::new().await;
    let fault = place.control.inject(&[], Scope::Percent(50), Fault::BadNonce);
    let all: String = (0..100).map(|n| certificate(&format!("c{n}"), &[&format!("c{n}.example.test")], "")).collect();
    let life = place.start(&place.toml(&all)).await;
    for n in 0..100 {
        life.installed(&format!("c{n}")).await;
    }
    assert!(place.control.struck(fault) > 300, "the nonces were refused");
    assert_eq!((place.control.orders().len(), place.control.certificates().len()), (100, 100));
    assert_eq!(place.control.account_keys().len(), 1);
    assert_eq!(life.complaints().await, NO_COMPLAINTS);
    assert!(life.view("c7").record.last_failure.is_none());
    assert!(life.engine.overview().issuers.values().all(|i| i.failures == 0));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_answers_ends_in_one_order() {
    // The loop is cut off at ever later moments of one issuance, and starts again each time.
    let place = Place::with(|c, _| c.issue_delay = Duration::from_millis(5)).await;
    let toml = place.toml(&certificate("portal", &["portal.example.test"], ""));
    let mut cuts = 0;
    loop {
        let life = place.start(&toml).await;
        tokio::time::timeout(Duration::from_millis(1 + cuts), std::future::pending::<()>()).await.ok();
        let done = life.view("portal").current().is_some() && life.view("portal").attempt.is_none();
        life.kill().await;
        cuts += 1;
        if done {
            break;
        }
        assert!(cuts < 100, "it never ends");
    }
    assert!(cuts > 1, "it was never cut off");
    assert_eq!((place.control.orders().len(), place.control.certificates().len()), (1, 1));
}
