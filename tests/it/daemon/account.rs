//! The account at the CA: made once, found again, bound, given a new key, and told of new terms.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::domain::time::{DAY, HOUR};
use keyward::shell::acme_server::{Demand, Endpoint, ExternalBinding, Fault, Scope};

use crate::harness::estate::iid;
use crate::harness::life::{Place, certificate};

const NAME: &[&str] = &["portal.example.test"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_same_account_orders() {
    let place = Place::new().await;
    let toml = place.toml(&certificate("portal", NAME, ""));
    let life = place.start(&toml).await;
    let first = life.installed("portal").await;
    life.stop().await;
    place.advance(Duration::from_secs(2));
    let life = place.start(&toml).await;
    life.renew("portal");
    life.renewed("portal", &first).await;
    let orders = place.control.orders();
    assert_eq!(orders[0].account, orders[1].account);
    assert_eq!((place.control.account_keys().len(), place.control.requests(Endpoint::NewAccount)), (1, 1));
    let mode = |name: &str| fs::metadata(place.at("state").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("accounts"), mode("accounts/ca.key")), (0o700, 0o600));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_binding_is_made_where_the_ca_wants_one() {
    let hmac = b"0123456789abcdef0123456789abcdef".to_vec();
    let place = Place::with(|config, _| {
        config.external =
            ExternalBinding { demand: Demand::Required, keys: [("kid-1".to_owned(), hmac.clone())].into() };
    })
    .await;
    let without = place.toml(&certificate("portal", NAME, ""));
    let life = place.start(&without).await;
    life.entry("portal", "KW3006").await;
    life.wait("somebody is told", |l| l.told("KW3006").then_some(())).await;
    assert!(life.notices().iter().any(|n| n.text.contains("external account binding")));
    life.stop().await;
    fs::write(place.at("eab.key"), URL_SAFE_NO_PAD.encode(&hmac)).unwrap();
    let eab = "eab = { key_id = \"kid-1\", hmac_file = \"@/eab.key\" }";
    let life = place.start(&place.toml_with("", eab, &certificate("portal", NAME, ""))).await;
    life.renew("portal");
    life.installed("portal").await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_terms_are_seen_and_reported_once() {
    let place = Place::with(|config, _| config.terms = Some("https://ca.example/terms/1".to_owned())).await;
    let life = place.start(&place.toml(&certificate("portal", NAME, ""))).await;
    let mut last = life.installed("portal").await;
    assert_eq!(life.complaints().await, Vec::<String>::new(), "the first terms are those that were agreed to");
    // The directory is read for its terms soon after the start, and then once a day.
    place.advance(HOUR);
    life.scan();
    life.entry("terms/1", "KW2012").await;
    place.control.set_terms("https://ca.example/terms/2");
    place.advance(DAY + Duration::from_secs(1));
    life.scan();
    life.wait("somebody is told", |l| l.told("KW2012").then_some(())).await;
    place.advance(DAY + Duration::from_secs(1));
    life.scan();
    life.renew("portal");
    last = life.renewed("portal", &last).await;
    assert!(last.verified_at.is_some());
    let told: Vec<String> = life.notices().into_iter().filter(|n| n.code == "KW2012").map(|n| n.text).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("https://ca.example/terms/2"));
    assert_eq!(life.count("KW2012").await, 2, "the first terms, and the change");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_wants_new_terms_agreed_to_first_gets_a_person() {
    let place = Place::new().await;
    let life = place.start(&place.toml(&certificate("portal", NAME, ""))).await;
    let first = life.installed("portal").await;
    place.control.inject(&[Endpoint::NewOrder], Scope::Always, Fault::TermsChanged);
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    life.entry("portal", "KW3006").await;
    life.wait("somebody is told where", |l| {
        l.notices().iter().any(|n| n.code == "KW3006" && n.text.contains("/terms/changed")).then_some(())
    })
    .await;
    place.control.heal();
    life.renew("portal");
    life.renewed("portal", &first).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_account_key_is_used_from_then_on() {
    let place = Place::new().await;
    let toml = place.toml(&certificate("portal", NAME, ""));
    let life = place.start(&toml).await;
    let first = life.installed("portal").await;
    life.wired.ports.issuer.rollover(&iid("ca")).await.unwrap();
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    let second = life.renewed("portal", &first).await;
    let keys = place.control.account_keys();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0].account, keys[1].account);
    life.stop().await;
    place.advance(Duration::from_secs(2));
    let life = place.start(&toml).await;
    life.renew("portal");
    life.renewed("portal", &second).await;
    assert!(place.control.orders().iter().all(|o| o.account == keys[0].account));
    life.stop().await;
}

/// The CA has the next key, the crash came before it was written down: the file tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollover_that_was_cut_off_is_settled_after_a_restart() {
    for arrived in [true, false] {
        let place = Place::new().await;
        let toml = place.toml(&certificate("portal", NAME, ""));
        let life = place.start(&toml).await;
        let first = life.installed("portal").await;
        let key = fs::read(place.at("state/accounts/ca.key")).unwrap();
        let fault = if arrived { Fault::DropResponse } else { Fault::DropRequest };
        place.control.inject(&[Endpoint::KeyChange], Scope::Always, fault);
        // With the CA out of reach for all else, nothing can be settled before the crash.
        let down = Fault::Status { code: 503, problem: "serverInternal".into(), retry_after: None };
        place.control.inject(&[Endpoint::NewAccount], Scope::Always, down);
        life.wired.ports.issuer.rollover(&iid("ca")).await.unwrap_err();
        assert_eq!(fs::read(place.at("state/accounts/ca.key")).unwrap(), key);
        assert!(place.at("state/accounts/ca.next-key").exists());
        life.kill().await;
        place.control.heal();
        // What did not arrive within minutes never will.
        place.advance(Duration::from_secs(400));
        let life = place.start(&toml).await;
        life.renew("portal");
        life.renewed("portal", &first).await;
        assert!(!place.at("state/accounts/ca.next-key").exists());
        let same = fs::read(place.at("state/accounts/ca.key")).unwrap() == key;
        assert_eq!(same, !arrived, "the key that the CA has is the one in use");
        let orders = place.control.orders();
        assert_eq!(orders[0].account, orders[1].account);
        assert_eq!(place.control.account_keys().len(), if arrived { 2 } else { 1 });
        life.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_guardian_on_the_same_state_does_not_start() {
    let place = Place::new().await;
    let toml = place.toml(&certificate("portal", NAME, ""));
    let life = place.start(&toml).await;
    life.installed("portal").await;
    let settings = keyward::shell::config::parse("second", &toml, Default::default()).unwrap();
    let error = keyward::shell::wire::wire(&settings).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    life.stop().await;
}
