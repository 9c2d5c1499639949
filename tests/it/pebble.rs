//! The ACME client against Pebble, with real validation.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use keyward::adapters::acme::EabConfig;
use keyward::domain::execution::Fault;
use keyward::ports::{ChallengeKind, Issuer, IssuerErrorKind, OrderStatus};

use crate::harness::acme::{Acme, leaf_names, request};
use crate::harness::pebble::{EAB_HMAC, Knobs, Pebble};

#[tokio::test]
async fn one_name_by_http_many_and_a_wildcard_by_dns() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let pem = acme.issue(&pebble, &["one.example.com"], ChallengeKind::Http01).await;
    assert_eq!(leaf_names(&pem), ["one.example.com"]);
    assert!(pem.matches("BEGIN CERTIFICATE").count() >= 2, "the chain comes with its intermediate");

    let many: Vec<String> = (0..20).map(|i| format!("h{i:02}.example.org")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let pem = acme.issue(&pebble, &many, ChallengeKind::Dns01).await;
    assert_eq!(leaf_names(&pem), many);

    let names = ["*.wild.example.net", "wild.example.net"];
    let pem = acme.issue(&pebble, &names, ChallengeKind::Dns01).await;
    assert_eq!(leaf_names(&pem), names);
    assert_eq!(acme.meter.requests("new-account"), 1);
    assert_eq!(acme.meter.requests("directory"), 1);
}

#[tokio::test]
async fn half_of_all_nonces_refused_and_nobody_notices() {
    let knobs = Knobs { nonce_reject: 50, ..Knobs::default() };
    let (pebble, dir) = (Pebble::start(knobs), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    for i in 0..20 {
        let name = format!("n{i}.example.com");
        let pem = acme.issue(&pebble, &[&name], ChallengeKind::Http01).await;
        assert_eq!(leaf_names(&pem), [name]);
    }
    assert!(acme.meter.problems("badNonce") > 50, "the nonces were not refused");
}

#[tokio::test]
async fn the_directory_says_what_the_ca_is() {
    let knobs = Knobs { eab: true, ..Knobs::default() };
    let (pebble, dir) = (Pebble::start(knobs), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let meta = acme.issuers.meta(&acme.id).await.unwrap();
    assert!(meta.terms.is_some_and(|t| t.starts_with("data:text/plain")) && meta.eab_required);
    acme.issuers.meta(&acme.id).await.unwrap();
    assert_eq!(acme.meter.requests("directory"), 1);
    acme.clock.advance(Duration::from_secs(3_601));
    acme.issuers.meta(&acme.id).await.unwrap();
    assert_eq!(acme.meter.requests("directory"), 2);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no account was made for it");
}

#[tokio::test]
async fn an_external_binding_is_sent_and_its_absence_is_named() {
    let knobs = Knobs { eab: true, ..Knobs::default() };
    let (pebble, dir) = (Pebble::start(knobs), tempfile::tempdir().unwrap());
    let without = Acme::new(pebble.issuer("ca"), dir.path());
    let error = without.new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!((error.kind, error.fault), (IssuerErrorKind::Account, Fault::Ours));
    assert!(error.text.contains("eab"), "{error}");

    let mut config = pebble.issuer("ca");
    config.eab = Some(EabConfig::parse("kid-1", EAB_HMAC).unwrap());
    let with = Acme::new(config.clone(), dir.path());
    with.new_order(&["a.example.com"]).await.unwrap();
    let url = account_url(dir.path());

    // As after a lost answer to newAccount: the key is there, the account's URL is not.
    fs::remove_file(dir.path().join("ca.account.json")).unwrap();
    Acme::new(config.clone(), dir.path()).new_order(&["a.example.com"]).await.unwrap();
    assert_eq!(account_url(dir.path()), url);

    let other = tempfile::tempdir().unwrap();
    config.eab = Some(EabConfig::parse("kid-1", "AAAA").unwrap());
    let error = Acme::new(config, other.path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::Account, "{error}");
}

#[tokio::test]
async fn terms_that_nobody_agreed_to_stop_the_account_and_name_the_key_to_set() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let mut config = pebble.issuer("ca");
    config.terms_agreed = false;
    let error = Acme::new(config, dir.path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!((error.kind, error.fault), (IssuerErrorKind::Account, Fault::Ours));
    assert!(error.text.contains("terms_agreed = true"), "{error}");
}

#[tokio::test]
async fn an_account_is_restored_without_a_request_and_survives_a_lost_answer() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let first = Acme::new(pebble.issuer("ca"), dir.path());
    let order = first.new_order(&["a.example.com"]).await.unwrap();
    let (url, key) = (account_url(dir.path()), fs::read(dir.path().join("ca.key")).unwrap());

    let second = Acme::new(pebble.issuer("ca"), dir.path());
    assert_eq!(second.order(&order).await.unwrap().status, OrderStatus::Pending);
    assert_eq!((second.meter.requests("new-account"), second.meter.requests("account")), (0, 0));

    for damage in [None, Some(&b"{\"torn"[..])] {
        let file = dir.path().join("ca.account.json");
        damage.map_or_else(|| fs::remove_file(&file), |bytes| fs::write(&file, bytes)).unwrap();
        let third = Acme::new(pebble.issuer("ca"), dir.path());
        third.order(&order).await.unwrap();
        assert_eq!(account_url(dir.path()), url);
    }
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), key);
}

#[tokio::test]
async fn changed_contacts_are_told_once() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    Acme::new(pebble.issuer("ca"), dir.path()).new_order(&["a.example.com"]).await.unwrap();
    let mut config = pebble.issuer("ca");
    config.contacts = vec!["mailto:other@example.com".to_owned()];
    for updates in [1, 0] {
        let acme = Acme::new(config.clone(), dir.path());
        acme.new_order(&["a.example.com"]).await.unwrap();
        assert_eq!(acme.meter.requests("account"), updates);
        assert_eq!(acme.meter.requests("new-account"), 0);
    }
}

#[tokio::test]
async fn an_account_that_the_ca_forgot_is_made_again_by_the_same_key() {
    let (mut pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    acme.new_order(&["a.example.com"]).await.unwrap();
    let key = fs::read(dir.path().join("ca.key")).unwrap();
    pebble.restart();
    // The kept connection died with the old server: that one failure is the engine's to retry.
    let order = match acme.new_order(&["a.example.com"]).await {
        Err(error) if error.fault == Fault::Network => acme.new_order(&["a.example.com"]).await,
        other => other,
    };
    let order = order.unwrap();
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), key);
    assert_eq!(acme.order(&order).await.unwrap().status, OrderStatus::Pending);
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_found_again() {
    let knobs = Knobs { orders_per_page: 3, ..Knobs::default() };
    let (pebble, dir) = (Pebble::start(knobs), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let find = async |names: &[&str]| acme.issuers.find_order(&acme.id, &request(names)).await.unwrap();
    assert_eq!(find(&["lost.example.com"]).await, None);

    acme.issue(&pebble, &["lost.example.com"], ChallengeKind::Http01).await;
    let wanted = acme.new_order(&["lost.example.com"]).await.unwrap();
    for other in [&["other.example.com"][..], &["lost.example.com", "other.example.com"], &["*.lost.example.com"]] {
        for _ in 0..3 {
            acme.new_order(other).await.unwrap();
        }
    }
    assert_eq!(find(&["lost.example.com"]).await, Some(wanted.clone()), "the pending one, not the valid one");
    assert_eq!(find(&["never.example.com"]).await, None);
    // Pebble's orders expire after a day.
    acme.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(find(&["lost.example.com"]).await, None);
}

#[tokio::test]
async fn a_failed_validation_says_what_was_seen_and_leaks_no_key_authorization() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let url = acme.new_order(&["bad.example.com", "bad2.example.com"]).await.unwrap();
    let view = acme.order(&url).await.unwrap();
    let mut secrets = Vec::new();
    for authorization in &view.authorizations {
        let challenge = authorization.challenges.iter().find(|c| c.kind == ChallengeKind::Http01).unwrap();
        pebble.add_http01(&challenge.token, "something else");
        acme.issuers.challenge_ready(&acme.id, &challenge.url).await.unwrap();
        secrets.push(challenge.key_authorization.rsplit('.').next().unwrap().to_owned());
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let error = loop {
        let view = acme.order(&url).await.unwrap();
        if let Some(error) = view.error {
            assert_eq!(view.status, OrderStatus::Invalid);
            break error;
        }
        assert!(std::time::Instant::now() < deadline, "the order is still {:?}", view.status);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((error.kind, error.fault), (IssuerErrorKind::ValidationFailed, Fault::Subject), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("something else") && shown.contains("bad"), "{shown}");
    assert!(!error.subproblems.is_empty(), "{shown}");

    let evidence = acme.issuers.take_evidence(&acme.id, &url).exchanges;
    assert!(evidence.len() >= 5 && evidence.len() <= 64, "{}", evidence.len());
    for endpoint in ["new-order", "order", "authorization", "challenge"] {
        assert!(evidence.iter().any(|l| l.contains(&format!("\"endpoint\":\"{endpoint}\""))), "{endpoint} is missing");
    }
    let before = acme.issuers.take_evidence(&acme.id, "").exchanges;
    assert!(before.iter().any(|l| l.contains("new-account")));
    for line in evidence.iter().chain(&before) {
        assert!(line.len() <= 2_048);
        assert!(!secrets.iter().any(|s| line.contains(s) || shown.contains(s)), "{line}");
        for word in ["signature", "payload", "protected", "nonce\":"] {
            assert!(!line.contains(word), "{line}");
        }
    }
    assert!(acme.issuers.take_evidence(&acme.id, &url).exchanges.is_empty());
}

#[tokio::test]
async fn finalizing_and_answering_twice_does_no_harm() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let url = acme.new_order(&["twice.example.com"]).await.unwrap();
    let view = acme.order(&url).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr =
        rcgen::CertificateParams::new(vec!["twice.example.com".to_owned()]).unwrap().serialize_request(&key).unwrap();
    acme.issuers.finalize(&acme.id, &url, csr.der()).await.expect("too early is the poll's to tell");
    acme.finish(&pebble, &["twice.example.com"], ChallengeKind::Http01, &url).await;
    acme.issuers.finalize(&acme.id, &url, csr.der()).await.unwrap();
    for challenge in &view.authorizations[0].challenges {
        if challenge.kind == ChallengeKind::Http01 {
            acme.issuers.challenge_ready(&acme.id, &challenge.url).await.unwrap();
        }
    }
}

#[tokio::test]
async fn eight_at_once_share_one_account() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let names: Vec<String> = (0..8).map(|i| format!("p{i}.example.com")).collect();
    let all = futures_util::future::join_all(names.iter().map(|n| {
        let (acme, pebble) = (&acme, &pebble);
        async move { acme.issue(pebble, &[n], ChallengeKind::Http01).await }
    }));
    let chains = tokio::time::timeout(Duration::from_secs(60), all).await.expect("pebble is wedged");
    assert_eq!(chains.len(), 8);
    assert_eq!(acme.meter.requests("new-account"), 1);
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_not_spoken_to() {
    let (pebble, dir) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    // Another server's root; and the system's roots, which are loaded for an issuer that has none of its own.
    for roots in [Pebble::start(Knobs::default()).issuer("other").extra_roots, Vec::new()] {
        let mut config = pebble.issuer("ca");
        config.extra_roots = roots;
        let error = Acme::new(config, dir.path()).new_order(&["a.example.com"]).await.unwrap_err();
        assert_eq!((error.kind, error.fault), (IssuerErrorKind::Retry, Fault::Issuer), "{error}");
        assert!(error.text.contains("TLS"), "{error}");
    }
}

#[tokio::test]
async fn a_rollover_changes_the_key_and_keeps_the_account() {
    let (pebble, dir) = (Pebble::start(Knobs { nonce_reject: 30, ..Knobs::default() }), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), dir.path());
    let order = acme.new_order(&["roll.example.com"]).await.unwrap();
    let (url, key) = (account_url(dir.path()), fs::read(dir.path().join("ca.key")).unwrap());
    keyward::ports::Issuer::rollover(&acme.issuers, &acme.id).await.unwrap();
    assert_ne!(fs::read(dir.path().join("ca.key")).unwrap(), key);
    assert_eq!(account_url(dir.path()), url);
    assert!(!dir.path().join("ca.next-key").exists());
    acme.finish(&pebble, &["roll.example.com"], ChallengeKind::Http01, &order).await;

    let again = Acme::new(pebble.issuer("ca"), dir.path());
    assert_eq!(again.order(&order).await.unwrap().status, OrderStatus::Valid);
    assert_eq!(again.meter.requests("new-account"), 0);

    // The old key is worth nothing now.
    let old = tempfile::tempdir().unwrap();
    copy(dir.path(), old.path());
    fs::write(old.path().join("ca.key"), key).unwrap();
    fs::remove_file(old.path().join("ca.account.json")).unwrap();
    Acme::new(pebble.issuer("ca"), old.path()).new_order(&["x.example.com"]).await.unwrap();
    assert_ne!(account_url(old.path()), url);
}

#[tokio::test]
async fn a_rollover_survives_a_crash_at_every_point() {
    let (pebble, live) = (Pebble::start(Knobs::default()), tempfile::tempdir().unwrap());
    let acme = Acme::new(pebble.issuer("ca"), live.path());
    let order = acme.new_order(&["crash.example.com"]).await.unwrap();
    let url = account_url(live.path());
    let before = tempfile::tempdir().unwrap();
    copy(live.path(), before.path());

    // Before keyChange was sent: the next key is durable, the CA has the current one.
    let other = tempfile::tempdir().unwrap();
    Acme::new(pebble.issuer("ca"), other.path()).issuers.meta(&acme.id).await.unwrap();
    let stray = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let unsent = tempfile::tempdir().unwrap();
    copy(before.path(), unsent.path());
    write_key(&unsent.path().join("ca.next-key"), stray.as_bytes());
    let young = Acme::new(pebble.issuer("ca"), unsent.path());
    assert_eq!(young.order(&order).await.unwrap().status, OrderStatus::Pending);
    assert!(unsent.path().join("ca.next-key").exists(), "a request could still be on its way");
    let error = keyward::ports::Issuer::rollover(&young.issuers, &young.id).await.unwrap_err();
    assert!(error.retry_after.is_some() && error.text.contains("not settled"), "{error}");
    young.clock.advance(Duration::from_secs(301));
    assert_eq!(young.order(&order).await.unwrap().status, OrderStatus::Pending);
    assert!(!unsent.path().join("ca.next-key").exists());
    assert_eq!(fs::read(unsent.path().join("ca.key")).unwrap(), fs::read(before.path().join("ca.key")).unwrap());

    // The same, found long after the crash.
    write_key(&unsent.path().join("ca.next-key"), stray.as_bytes());
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    File::options().write(true).open(unsent.path().join("ca.next-key")).unwrap().set_modified(hour_ago).unwrap();
    let late = Acme::new(pebble.issuer("ca"), unsent.path());
    assert_eq!(late.order(&order).await.unwrap().status, OrderStatus::Pending);
    assert!(!unsent.path().join("ca.next-key").exists());

    keyward::ports::Issuer::rollover(&acme.issuers, &acme.id).await.unwrap();
    let new_key = fs::read(live.path().join("ca.key")).unwrap();

    // After the CA took the next key, before it was renamed.
    let taken = tempfile::tempdir().unwrap();
    copy(before.path(), taken.path());
    write_key(&taken.path().join("ca.next-key"), &new_key);
    // After the rename, before the record was written.
    let renamed = tempfile::tempdir().unwrap();
    copy(before.path(), renamed.path());
    write_key(&renamed.path().join("ca.key"), &new_key);
    for dir in [&taken, &renamed] {
        let acme = Acme::new(pebble.issuer("ca"), dir.path());
        assert_eq!(acme.order(&order).await.unwrap().status, OrderStatus::Pending);
        assert_eq!(
            (account_url(dir.path()), fs::read(dir.path().join("ca.key")).unwrap()),
            (url.clone(), new_key.clone())
        );
        assert!(!dir.path().join("ca.next-key").exists());
    }
}

fn account_url(dir: &Path) -> String {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("ca.account.json")).unwrap()).unwrap();
    record["url"].as_str().unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn write_key(path: &Path, pem: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, pem).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
