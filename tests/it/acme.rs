//! The ACME client against a CA that loses, delays and breaks answers.

mod fake;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::adapters::acme::AcmeIssuers;
use keyward::domain::certificate::CertId;
use keyward::domain::execution::Fault;
use keyward::domain::id::IssuerId;
use keyward::ports::{Issuer, IssuerErrorKind, OrderStatus};
use serde_json::json;

use crate::harness::acme::{Acme, TestClock, TestEntropy, TestMeter, request};
use fake::{Does, Fake, authorization, json_answer, order, problem};

fn tmp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn the_orders_url_counts_even_if_the_rest_of_the_answer_is_unusable() {
    for kind in ["garbage", "oversize", "stalls", "relative"] {
        let ca = Fake::start(move |asked, base| {
            let location = |url: String| vec![("Location", url)];
            (asked.path == "/new-order").then(|| match kind {
                "garbage" => Does::Answers(201, location(format!("{base}/order/1")), b"<html>\xff".to_vec()),
                "oversize" => Does::Answers(201, location(format!("{base}/order/1")), vec![b' '; 2 << 20]),
                "stalls" => Does::Stalls(201, location(format!("{base}/order/1"))),
                _ => Does::Answers(201, location("/order/1".to_owned()), vec![]),
            })
        })
        .await;
        let dir = tmp();
        let acme = ca.acme(dir.path());
        let url = acme.new_order(&["a.example.com"]).await.unwrap();
        assert_eq!(*url, format!("{}/order/1", ca.base), "{kind}");
        let evidence = acme.issuers.take_evidence(&acme.id, &url).exchanges;
        assert!(evidence.iter().any(|l| l.contains("new-order")), "{kind}: {evidence:?}");
    }
}

#[tokio::test]
async fn urls_that_lead_elsewhere_are_refused() {
    for location in
        ["https://127.0.0.1/x", "http://127.0.0.2:1/x", "http://localhost/x", "file:///x", "http://u@h.example/"]
    {
        let ca = Fake::start(move |asked, _| {
            (asked.path == "/new-order").then(|| Does::Answers(201, vec![("Location", location.to_owned())], vec![]))
        })
        .await;
        let error = ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
        assert_eq!((error.kind, error.fault), (IssuerErrorKind::Protocol, Fault::Issuer), "{location}: {error}");
    }
    let ca = Fake::start(|asked, _| (asked.path == "/new-order").then(|| Does::Answers(201, vec![], vec![]))).await;
    let error = ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let ca = Fake::start(|asked, base| {
        (asked.path == "/dir").then(|| Does::Answers(302, vec![("Location", format!("{base}/elsewhere"))], vec![]))
    })
    .await;
    let acme = ca.acme(tmp().path());
    let error = acme.issuers.meta(&acme.id).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::Protocol, "{error}");
    assert_eq!(ca.count("/elsewhere"), 0);
}

#[tokio::test]
async fn what_is_too_large_too_slow_or_no_json_is_an_error_in_time() {
    let slow = Does::Stalls(200, vec![]);
    let big = Does::Answers(200, vec![], vec![b' '; (1 << 20) + 1]);
    let html = Does::Answers(200, vec![], b"<html>".to_vec());
    for (does, kind, fault) in [
        (slow, IssuerErrorKind::Retry, Fault::Issuer),
        (big, IssuerErrorKind::Protocol, Fault::Issuer),
        (html, IssuerErrorKind::Protocol, Fault::Issuer),
        (Does::Drops, IssuerErrorKind::Retry, Fault::Network),
        (json_answer(200, &json!({ "newNonce": 7 })), IssuerErrorKind::Protocol, Fault::Issuer),
        (Does::Answers(500, vec![], b"oops".to_vec()), IssuerErrorKind::Retry, Fault::Issuer),
    ] {
        let told = does.clone();
        let ca = Fake::start(move |asked, _| (asked.path == "/dir").then(|| told.clone())).await;
        let acme = ca.acme(tmp().path());
        let started = Instant::now();
        let error = acme.issuers.meta(&acme.id).await.unwrap_err();
        assert_eq!((error.kind, error.fault), (kind, fault), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        let evidence = acme.issuers.take_evidence(&acme.id, "").exchanges;
        assert_eq!(evidence.len(), 1, "{evidence:?}");
    }
}

#[tokio::test]
async fn retry_after_comes_through_unclamped_and_refusals_of_replaces_are_told_apart() {
    let ca = Fake::start(|asked, _| {
        let replaces = asked.payload.get("replaces").is_some();
        (asked.path == "/new-order").then(|| {
            if replaces {
                return problem(409, "malformed", "the certificate was already replaced");
            }
            let body = json!({ "type": "urn:ietf:params:acme:error:rateLimited", "detail": "slow down" });
            Does::Answers(503, vec![("Retry-After", "1000000000".to_owned())], body.to_string().into_bytes())
        })
    })
    .await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    let error = acme.new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::RateLimited);
    assert_eq!(error.retry_after, Some(Duration::from_secs(1_000_000_000)));
    let mut wanted = request(&["a.example.com"]);
    wanted.replaces = Some(CertId(Arc::from("aki.serial")));
    let error = acme.issuers.new_order(&acme.id, &wanted).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::Replaces, "{error}");
}

#[tokio::test]
async fn a_nonce_that_is_always_refused_ends_in_an_error() {
    let ca = Fake::start(|asked, _| (asked.path == "/new-order").then(|| problem(400, "badNonce", "no"))).await;
    let error = ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!((error.kind, error.problem.as_deref()), (IssuerErrorKind::Retry, Some("badNonce")));
    assert_eq!(ca.count("/new-order"), 24);
}

#[tokio::test]
async fn nothing_but_a_nonce_is_sent_twice() {
    for does in [Does::Drops, problem(500, "serverInternal", "no"), problem(429, "rateLimited", "no")] {
        let ca = Fake::start(move |asked, _| (asked.path == "/new-order").then(|| does.clone())).await;
        ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
        assert_eq!(ca.count("/new-order"), 1);
    }
}

#[tokio::test]
async fn the_account_key_is_durable_before_the_ca_hears_of_it() {
    let dir = tmp();
    let (path, seen) = (dir.path().to_owned(), Arc::new(Mutex::new(Vec::new())));
    let (there, lose) = (seen.clone(), AtomicBool::new(true));
    let ca = Fake::start(move |asked, _| {
        if asked.path != "/new-account" {
            return None;
        }
        there.lock().unwrap().push((path.join("ca.key").exists(), asked.signer()));
        // The first answer is lost on the way.
        lose.swap(false, Ordering::SeqCst).then_some(Does::Drops)
    })
    .await;
    let acme = ca.acme(dir.path());
    let error = acme.new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!((error.kind, error.fault), (IssuerErrorKind::Retry, Fault::Network));
    acme.new_order(&["a.example.com"]).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].0 && seen[0] == seen[1], "the same key, there both times: {seen:?}");
}

#[tokio::test]
async fn a_deactivated_account_needs_a_person_and_is_not_made_again() {
    let ca = Fake::start(|asked, _| {
        (asked.path == "/new-order")
            .then(|| problem(403, "unauthorized", "Account is not valid, has status \"deactivated\""))
    })
    .await;
    let error = ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!((error.kind, error.fault), (IssuerErrorKind::Account, Fault::Ours));
    assert_eq!(ca.count("/new-account"), 1);
    let ca = Fake::start(|asked, base| {
        let body = br#"{"status":"revoked"}"#.to_vec();
        (asked.path == "/new-account")
            .then(|| Does::Answers(200, vec![("Location", format!("{base}/account/1"))], body))
    })
    .await;
    let error = ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert!(error.kind == IssuerErrorKind::Account && error.text.contains("revoked"), "{error}");
}

#[tokio::test]
async fn an_account_that_stays_unknown_is_made_again_once_only() {
    let ca =
        Fake::start(|asked, _| (asked.path == "/new-order").then(|| problem(400, "accountDoesNotExist", "who?"))).await;
    let error = ca.acme(tmp().path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::Account);
    assert_eq!((ca.count("/new-order"), ca.count("/new-account")), (2, 2));
    let asked = ca.asked.lock().unwrap();
    let keys: Vec<String> = asked.iter().filter(|a| a.path == "/new-account").map(fake::Asked::signer).collect();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn tokens_names_and_counts_that_are_not_as_ordered_break_the_protocol() {
    for token in ["$(id)", "../../x", "a\u{0}b", "", &"x".repeat(129), &"x".repeat(1 << 19)] {
        let token = token.to_owned();
        let ca = Fake::start(move |asked, base| {
            (asked.path == "/authz/0").then(|| json_answer(200, &authorization(base, "a.example.com", &token)))
        })
        .await;
        let error = ca.acme(tmp().path()).order(&format!("{}/order/1", ca.base)).await.unwrap_err();
        assert_eq!((error.kind, error.fault), (IssuerErrorKind::Protocol, Fault::Issuer), "{error}");
        assert!(error.text.len() < 1_600);
    }
    let ca = Fake::start(|asked, base| {
        (asked.path == "/authz/0").then(|| json_answer(200, &authorization(base, "victim.example.org", "token")))
    })
    .await;
    let error = ca.acme(tmp().path()).order(&format!("{}/order/1", ca.base)).await.unwrap_err();
    assert!(error.kind == IssuerErrorKind::Protocol && error.text.contains("victim.example.org"), "{error}");

    let ca = Fake::start(|asked, base| {
        let names = vec!["a.example.com"; 101];
        (asked.path == "/order/1").then(|| json_answer(200, &order(base, "pending", &names)))
    })
    .await;
    let error = ca.acme(tmp().path()).order(&format!("{}/order/1", ca.base)).await.unwrap_err();
    assert_eq!((error.kind, ca.count("/authz/0")), (IssuerErrorKind::Protocol, 0));
}

#[tokio::test]
async fn an_authorization_that_is_over_makes_its_pending_order_invalid() {
    for status in ["invalid", "expired", "deactivated", "revoked"] {
        let ca = Fake::start(move |asked, base| {
            let mut found = authorization(base, "a.example.com", "token");
            found["status"] = json!(status);
            (asked.path == "/authz/0").then(|| json_answer(200, &found))
        })
        .await;
        let view = ca.acme(tmp().path()).order(&format!("{}/order/1", ca.base)).await.unwrap();
        let error = view.error.expect("why");
        assert_eq!((view.status, error.kind), (OrderStatus::Invalid, IssuerErrorKind::OrderDead));
        assert!(error.text.to_lowercase().contains(status), "{error}");
    }
}

#[tokio::test]
async fn a_download_takes_a_pem_chain_and_nothing_else() {
    let pem = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_vec();
    let huge = [pem.clone(), vec![b'\n'; 256 * 1024]].concat();
    let with_key = [pem.clone(), b"-----BEGIN PRIVATE KEY-----\n".to_vec()].concat();
    for (body, good) in [(pem, true), (huge, false), (with_key, false), (vec![], false), (b"\xff\xfe".to_vec(), false)]
    {
        let ca = Fake::start(move |asked, base| match asked.path.as_str() {
            "/order/1" => Some(json_answer(200, &order(base, "valid", &["a.example.com"]))),
            "/cert/1" => Some(Does::Answers(200, vec![], body.clone())),
            _ => None,
        })
        .await;
        let dir = tmp();
        let acme = ca.acme(dir.path());
        let got = acme.issuers.download(&acme.id, &format!("{}/order/1", ca.base)).await;
        assert_eq!(got.as_ref().map_or_else(|e| e.kind != IssuerErrorKind::Protocol, |_| true), good, "{got:?}");
    }
}

#[tokio::test]
async fn renewal_information_needs_no_retry_after_and_its_status_is_looked_at_first() {
    let window = json!({ "suggestedWindow": { "start": "2026-11-22T06:10:00Z", "end": "2026-11-23T06:10:00.5Z" },
                         "explanationURL": "https://ca.example/why" });
    let told = window.clone();
    let ca = Fake::start(move |asked, _| match asked.path.as_str() {
        "/ari/aki.serial" => Some(json_answer(200, &told)),
        "/ari/aki.gone" => Some(problem(404, "malformed", "not found")),
        "/ari/aki.bad" => Some(json_answer(200, &json!({ "suggestedWindow": { "start": "soon", "end": "later" } }))),
        _ => None,
    })
    .await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    let ask = async |id: &str| acme.issuers.renewal_info(&acme.id, &CertId(Arc::from(id))).await;
    let info = ask("aki.serial").await.unwrap().unwrap();
    assert_eq!(
        (info.start.to_string(), info.end.to_string()),
        ("2026-11-22T06:10:00Z".into(), "2026-11-23T06:10:00Z".into())
    );
    assert_eq!((info.explanation.as_deref(), info.retry_after), (Some("https://ca.example/why"), None));
    assert!(ask("aki.gone").await.is_err());
    assert_eq!(ask("aki.bad").await.unwrap_err().kind, IssuerErrorKind::Protocol);
    assert_eq!(ask("../x").await.unwrap_err().kind, IssuerErrorKind::Refused);
    assert_eq!(ca.count("/new-account"), 0, "renewal information needs no account");

    let none = Fake::start(|asked, base| {
        let directory = json!({ "newNonce": format!("{base}/n"), "newAccount": format!("{base}/a"), "newOrder": format!("{base}/o") });
        (asked.path == "/dir").then(|| json_answer(200, &directory))
    })
    .await;
    let acme = none.acme(dir.path());
    assert_eq!(acme.issuers.renewal_info(&acme.id, &CertId(Arc::from("a.b"))).await, Ok(None));
}

#[tokio::test]
async fn an_old_directory_stays_in_use_while_the_ca_cannot_give_a_new_one() {
    let calls = AtomicUsize::new(0);
    let ca = Fake::start(move |asked, _| {
        let first = asked.path == "/dir" && calls.fetch_add(1, Ordering::SeqCst) == 0;
        (asked.path == "/dir" && !first).then(|| Does::Answers(503, vec![], vec![]))
    })
    .await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    acme.issuers.meta(&acme.id).await.unwrap();
    acme.clock.advance(Duration::from_secs(3_700));
    acme.issuers.meta(&acme.id).await.unwrap();
    acme.issuers.meta(&acme.id).await.unwrap();
    assert_eq!(ca.count("/dir"), 2, "asked again once, not at every use");
    acme.clock.advance(Duration::from_secs(86_400));
    let error = acme.issuers.meta(&acme.id).await.unwrap_err();
    assert_eq!(error.kind, IssuerErrorKind::Retry, "a day is enough");
}

/// Which keys the CA knows, by their x coordinate: RFC 8555 section 7.3.5 as a closure.
fn changing(
    key_change: impl Fn(&mut String, String) -> Does + Send + Sync + 'static,
) -> impl Fn(&fake::Asked, &str) -> Option<Does> {
    let known = Mutex::new(String::new());
    move |asked, base| {
        let mut known = known.lock().unwrap();
        let location = vec![("Location", format!("{base}/account/1"))];
        match asked.path.as_str() {
            "/new-account" if asked.payload["onlyReturnExisting"] == true && asked.signer() != *known => {
                Some(problem(400, "accountDoesNotExist", "unknown key"))
            }
            "/new-account" => {
                *known = asked.signer();
                Some(Does::Answers(200, location, br#"{"status":"valid"}"#.to_vec()))
            }
            "/key-change" => {
                use base64::Engine;
                let inner = asked.payload["protected"].as_str().unwrap();
                let inner = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(inner).unwrap();
                let inner: serde_json::Value = serde_json::from_slice(&inner).unwrap();
                assert!(inner.get("nonce").is_none() && inner["url"] == asked.protected["url"]);
                Some(key_change(&mut known, inner["jwk"]["x"].as_str().unwrap().to_owned()))
            }
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_key_change_whose_answer_was_lost_is_found_out_at_once() {
    let ca = Fake::start(changing(|known, next| {
        *known = next;
        Does::Drops
    }))
    .await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    acme.new_order(&["a.example.com"]).await.unwrap();
    let before = fs::read(dir.path().join("ca.key")).unwrap();
    keyward::ports::Issuer::rollover(&acme.issuers, &acme.id).await.unwrap();
    assert_ne!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    assert!(!dir.path().join("ca.next-key").exists());
}

#[tokio::test]
async fn a_key_change_that_was_refused_leaves_the_old_key_and_no_trace() {
    let ca = Fake::start(changing(|_, _| problem(409, "conflict", "key in use"))).await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    acme.new_order(&["a.example.com"]).await.unwrap();
    let before = fs::read(dir.path().join("ca.key")).unwrap();
    let error = keyward::ports::Issuer::rollover(&acme.issuers, &acme.id).await.unwrap_err();
    assert_eq!(error.problem.as_deref(), Some("conflict"));
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    assert!(!dir.path().join("ca.next-key").exists());
    acme.new_order(&["a.example.com"]).await.unwrap();
}

#[tokio::test]
async fn a_key_change_that_takes_effect_late_does_not_lock_the_account_out() {
    // The CA does not answer in time, says that it has the old key still, and changes it afterwards.
    let late = Arc::new(Mutex::new(None));
    let (seen, set) = (late.clone(), late.clone());
    let inner = changing(move |_, next| {
        *set.lock().unwrap() = Some(next);
        Does::Drops
    });
    let ca = Fake::start(move |asked, base| {
        let late = seen.lock().unwrap().clone();
        // From the second order on, only the next key is known.
        if asked.path == "/new-account" && late.as_deref() == Some("done") {
            return Some(Does::Answers(200, vec![("Location", format!("{base}/account/1"))], vec![]));
        }
        inner(asked, base)
    })
    .await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    acme.new_order(&["a.example.com"]).await.unwrap();
    let before = fs::read(dir.path().join("ca.key")).unwrap();
    let error = keyward::ports::Issuer::rollover(&acme.issuers, &acme.id).await.unwrap_err();
    assert_eq!(error.fault, Fault::Network);
    let next =
        fs::read(dir.path().join("ca.next-key")).expect("the next key is kept while a request may be on its way");
    acme.new_order(&["a.example.com"]).await.unwrap();
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    *late.lock().unwrap() = Some("done".to_owned());
    acme.clock.advance(Duration::from_secs(301));
    acme.new_order(&["a.example.com"]).await.unwrap();
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), next);
}

#[tokio::test]
async fn a_rollover_that_is_dropped_half_way_is_settled_at_the_next_use() {
    let ca = Fake::start(changing(|known, next| {
        *known = next;
        Does::Stalls(200, vec![])
    }))
    .await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    acme.new_order(&["a.example.com"]).await.unwrap();
    tokio::select! {
        done = keyward::ports::Issuer::rollover(&acme.issuers, &acme.id) => panic!("too early: {done:?}"),
        () = async {
            let deadline = Instant::now() + Duration::from_secs(10);
            while ca.count("/key-change") == 0 {
                assert!(Instant::now() < deadline, "keyChange was not sent");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    let next = fs::read(dir.path().join("ca.next-key")).unwrap();
    acme.new_order(&["a.example.com"]).await.unwrap();
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), next);
}

#[tokio::test]
async fn key_files_that_cannot_be_believed_stop_the_account_and_say_why() {
    use std::os::unix::fs::PermissionsExt;
    let ca = Fake::start(|_, _| None).await;
    let dir = tmp();
    ca.acme(dir.path()).new_order(&["a.example.com"]).await.unwrap();
    let key = dir.path().join("ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = ca.acme(dir.path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert!(error.fault == Fault::Host && error.text.contains("0644"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "torn").unwrap();
    let error = ca.acme(dir.path()).new_order(&["a.example.com"]).await.unwrap_err();
    assert_eq!((error.kind, error.fault), (IssuerErrorKind::Account, Fault::Host), "{error}");
    assert!(error.text.contains("ca.key") && !error.text.contains("torn"), "{error}");
    assert_eq!(ca.count("/new-account"), 1, "no second account was made");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_before_anything_is_sent() {
    let ca = Fake::start(|_, _| None).await;
    let dir = tmp();
    let make = |issuers| {
        AcmeIssuers::new(issuers, dir.path(), TestClock::new(), Arc::new(TestEntropy), Arc::new(TestMeter::default()))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(make(vec![ca.config(), ca.config()]).contains("twice"));
    let mut config = ca.config();
    config.allow_http_directory_in_tests = false;
    assert!(make(vec![config]).contains("https"));
    let mut config = ca.config();
    config.extra_roots = vec![b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()];
    assert!(make(vec![config]).contains("root"));
    let mut config = ca.config();
    config.proxy = Some("http://[".to_owned());
    assert!(make(vec![config]).contains("proxy"));

    let acme = ca.acme(dir.path());
    let unknown = IssuerId::parse("other").unwrap();
    assert!(acme.issuers.meta(&unknown).await.unwrap_err().text.contains("no issuer other"));
}

#[tokio::test]
async fn requests_say_who_we_are_and_carry_the_account() {
    let ca = Fake::start(|_, _| None).await;
    let dir = tmp();
    let acme = ca.acme(dir.path());
    acme.new_order(&["a.example.com"]).await.unwrap();
    let asked = ca.asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .all(|a| a.head.to_lowercase().contains(concat!("user-agent: keyward/", env!("CARGO_PKG_VERSION"))))
    );
    let order = asked.iter().find(|a| a.path == "/new-order").unwrap();
    assert!(order.head.contains("application/jose+json"));
    assert_eq!(order.signer(), format!("{}/account/1", ca.base));
    assert_eq!(order.payload["identifiers"][0], json!({ "type": "dns", "value": "a.example.com" }));
}

#[tokio::test]
async fn a_configured_proxy_gets_the_requests() {
    let proxy = Fake::start(|asked, base| {
        let directory = Fake::directory(base);
        (asked.path == "http://ca.example/dir").then(|| json_answer(200, &directory))
    })
    .await;
    let mut config = proxy.config();
    config.directory = "http://ca.example/dir".to_owned();
    config.proxy = Some(proxy.base.clone());
    let dir = tmp();
    let acme = Acme::new(config, dir.path());
    let error = acme.issuers.meta(&acme.id).await.unwrap_err();
    // The directory came through the proxy; its URLs point to the proxy's own address, which is not the CA's host.
    assert!(error.kind == IssuerErrorKind::Protocol && error.text.contains("not the directory's host"), "{error}");
    assert_eq!(proxy.count("http://ca.example/dir"), 1);
}
