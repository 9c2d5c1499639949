//! What the protocol promises, and what it refuses.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use serde_json::json;

use super::corp::{Corp, KEYS, MAC, der_of};
use crate::acme_server::kit::{Signer, binding, csr, identifiers, key};

#[tokio::test]
async fn an_account_with_its_key_orders_and_gets_what_openssl_takes() {
    let corp = Corp::made("terms = \"https://corp.example/terms\"\n");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    assert_eq!(raw.directory["meta"]["externalAccountRequired"], true);
    assert_eq!(raw.directory["meta"]["termsOfService"], "https://corp.example/terms");
    assert!(raw.directory["meta"]["profiles"]["short"].as_str().unwrap().contains('h'), "{:?}", raw.directory);
    assert!(raw.directory.get("newAuthz").is_none());
    let (valid, chain) = corp.issue(&raw, &responder, &["web.svc.example"]).await;
    assert_eq!(valid.body["profile"], "workload");
    let dir = corp.mesh.dir.path();
    std::fs::write(dir.join("chain.pem"), &chain).unwrap();
    std::fs::write(dir.join("bundle.pem"), corp.mesh.bytes(&["ca", "bundle", "mesh"])).unwrap();
    let verify = ["verify", "-x509_strict", "-CAfile", "bundle.pem", "-untrusted", "chain.pem", "chain.pem"];
    crate::harness::pki::openssl(dir, &verify);
    // What happened is in the log, each once.
    for action in ["acme.account", "acme.order", "acme.answer", "acme.validate", "acme.finalize", "acme.issue"] {
        assert_eq!(corp.entries(action), 1, "{action}");
    }
    // Its list of orders, its renewal information, its revocation; and nobody else's.
    let account = raw.get(raw.kid.as_deref().unwrap()).await;
    let list = raw.get(account.body["orders"].as_str().unwrap()).await;
    assert_eq!(list.body["orders"].as_array().unwrap().len(), 1);
    let other = corp.account("web").await;
    let place = valid.header("link").to_owned();
    assert!(place.contains("index"), "{place}");
    for url in [valid.body["certificate"].as_str().unwrap(), valid.body["authorizations"][0].as_str().unwrap()] {
        assert_eq!(other.get(url).await.problem(), (403, "unauthorized"), "{url}");
    }
    let revocation = json!({ "certificate": B64.encode(der_of(&chain)), "reason": 4 });
    let url = raw.url("revokeCert");
    assert_eq!(other.post(&url, &revocation).await.problem(), (403, "unauthorized"));
    assert_eq!(raw.post(&url, &revocation).await.status, 200);
    assert_eq!(raw.post(&url, &revocation).await.problem(), (400, "alreadyRevoked"));
    assert!(corp.mesh.list().contains("Superseded"), "{}", corp.mesh.list());
}

#[tokio::test]
async fn a_certificate_is_revoked_by_its_own_key_and_replaced_by_its_renewal() {
    let corp = Corp::made("");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    let own = key();
    let request = csr(&["a.svc.example".to_owned()], &own);
    raw.finalize(&order, &request).await;
    let valid = corp.until(&raw, &order, "valid").await;
    let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await.text;
    // Renewal information is for everybody, by the certificate's id.
    let facts = keyward::codec::x509::facts(&der_of(&chain)).unwrap();
    let id = facts.cert_id.unwrap();
    let info = corp.http.get(format!("{}/{id}", raw.url("renewalInfo"))).send().await.unwrap();
    assert_eq!(info.status(), 200);
    assert!(info.headers().contains_key("retry-after"));
    let unknown = corp.http.get(format!("{}/AAAA.BBBB", raw.url("renewalInfo"))).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    let replacing = |names: &[&str]| {
        let mut order = identifiers(names);
        order["replaces"] = json!(&*id.0);
        order
    };
    let url = raw.url("newOrder");
    let other = corp.account("web").await;
    assert_eq!(other.post(&url, &replacing(&["a.svc.example"])).await.problem(), (403, "unauthorized"));
    assert_eq!(raw.post(&url, &replacing(&["b.svc.example"])).await.problem(), (400, "malformed"));
    let renewal = raw.post(&url, &replacing(&["a.svc.example"])).await;
    assert_eq!((renewal.status, &renewal.body["replaces"]), (201, &json!(&*id.0)));
    assert_eq!(raw.post(&url, &replacing(&["a.svc.example"])).await.problem(), (409, "alreadyReplaced"));
    // Who proved its names may revoke it, but knows nothing of its key, and does not keep others from what they know.
    corp.ready(&other, &responder, &["a.svc.example"]).await;
    let revocation = json!({ "certificate": B64.encode(der_of(&chain)), "reason": 1 });
    assert_eq!(other.post(&raw.url("revokeCert"), &revocation).await.status, 200);
    assert_eq!(other.post(&raw.url("revokeCert"), &revocation).await.problem(), (400, "alreadyRevoked"));
    let again = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    raw.finalize(&again, &request).await;
    corp.until(&raw, &again, "valid").await;
    assert_eq!(corp.leaves(), (2, 1));
    // By the certificate's own key, without an account.
    let mut holder = corp.stranger().await;
    let document = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &own.serialize_der(),
    );
    holder.signer = Signer::Ec(document.unwrap(), "P-256", "ES256");
    assert_eq!(holder.post(&raw.url("revokeCert"), &revocation).await.status, 200);
    assert_eq!(holder.post(&raw.url("revokeCert"), &revocation).await.problem(), (400, "alreadyRevoked"));
    assert_eq!(corp.leaves(), (2, 2));
    // The key was given up: nobody gets anything for it again.
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    raw.finalize(&order, &request).await;
    let invalid = corp.until(&raw, &order, "invalid").await;
    assert!(invalid.body["error"]["type"].as_str().unwrap().ends_with("badPublicKey"), "{invalid:?}");
}

#[tokio::test]
async fn no_account_without_a_good_binding_and_a_key_for_one_makes_one() {
    let corp = Corp::made("terms = \"https://corp.example/terms\"\n");
    let raw = corp.stranger().await;
    let url = raw.url("newAccount");
    let agreed = |bound| json!({ "termsOfServiceAgreed": true, "externalAccountBinding": bound });
    let refused = raw.post(&url, &json!({ "termsOfServiceAgreed": true })).await;
    assert_eq!(refused.problem(), (403, "externalAccountRequired"));
    let jwk = raw.signer.jwk();
    for (what, bound) in [
        ("another key", binding("web", &[8; 32], &url, &jwk)),
        ("an unknown id", binding("nobody", &MAC, &url, &jwk)),
        ("another URL", binding("web", &MAC, &raw.url("newOrder"), &jwk)),
        ("another account's key", binding("web", &MAC, &url, &Signer::p256().jwk())),
    ] {
        assert_eq!(raw.post(&url, &agreed(bound)).await.problem(), (403, "unauthorized"), "{what}");
    }
    let bound = binding("web", &MAC, &url, &jwk);
    let refused = raw.post(&url, &json!({ "externalAccountBinding": bound })).await;
    assert_eq!(refused.problem(), (403, "userActionRequired"), "the terms");
    let existing = raw.post(&url, &json!({ "onlyReturnExisting": true })).await;
    assert_eq!(existing.problem(), (400, "accountDoesNotExist"));
    assert_eq!(corp.register(&raw, "web").await.status, 201);
    assert_eq!(corp.register(&raw, "web").await.status, 200, "the same account again");
    assert_eq!(raw.post(&url, &json!({ "onlyReturnExisting": true })).await.status, 200);
    // Good for one account.
    corp.account("once").await;
    let second = corp.stranger().await;
    assert_eq!(corp.register(&second, "once").await.problem(), (403, "unauthorized"));
}

#[tokio::test]
async fn what_policy_does_not_give_is_refused_with_a_reason_for_each_name() {
    let corp = Corp::made("");
    let (web, once) = (corp.account("web").await, corp.account("once").await);
    let refused = web.order(&["a.svc.example", "x.other.example", "deep.a.svc.example"]).await;
    assert_eq!(refused.problem(), (403, "rejectedIdentifier"));
    let parts = refused.body["subproblems"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{refused:?}");
    assert!(parts.iter().all(|p| p["detail"].as_str().unwrap().contains("external account key")), "{refused:?}");
    let refused = web.order(&["*.svc.example"]).await;
    assert!(refused.body["detail"].as_str().unwrap().contains("profile workload does not cover"), "{refused:?}");
    let profile = |names: &[&str], profile: &str| {
        let mut order = identifiers(names);
        order["profile"] = json!(profile);
        order
    };
    let url = web.url("newOrder");
    assert_eq!(web.post(&url, &profile(&["a.svc.example"], "long")).await.problem(), (400, "invalidProfile"));
    let refused = once.post(&url, &profile(&["a.svc.example"], "workload")).await;
    assert_eq!(refused.problem(), (403, "unauthorized"), "the key is for another profile");
    assert_eq!(once.post(&url, &profile(&["b.svc.example"], "short")).await.problem(), (403, "rejectedIdentifier"));
    assert_eq!(once.post(&url, &profile(&["a.svc.example"], "short")).await.status, 201);
    let mut dated = identifiers(&["a.svc.example"]);
    dated["notAfter"] = json!("2030-01-01T00:00:00Z");
    assert_eq!(web.post(&url, &dated).await.problem(), (400, "malformed"));
    // A wildcard is proved in the DNS alone.
    let wildcard = web.post(&url, &profile(&["*.svc.example"], "short")).await;
    let authorization = web.get(wildcard.body["authorizations"][0].as_str().unwrap()).await;
    let kinds: Vec<&str> =
        authorization.body["challenges"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!((kinds, &authorization.body["wildcard"]), (vec!["dns-01"], &json!(true)));
}

#[tokio::test]
async fn replays_strangers_and_confused_algorithms_get_nothing() {
    let corp = Corp::made("");
    let raw = corp.account("web").await;
    let url = raw.url("newOrder");
    let body = raw.signer.jws(&raw.header(&url).await, &identifiers(&["a.svc.example"]).to_string());
    assert_eq!(raw.send(&url, &body).await.status, 201);
    assert_eq!(raw.send(&url, &body).await.problem(), (400, "badNonce"), "a replay");
    let mut header = raw.header(&url).await;
    header["url"] = json!(raw.url("revokeCert"));
    let body = raw.signer.jws(&header, "{}");
    assert_eq!(raw.send(&url, &body).await.problem(), (403, "unauthorized"), "for another resource");
    for (alg, problem) in
        [("HS256", "badSignatureAlgorithm"), ("none", "badSignatureAlgorithm"), ("EdDSA", "malformed")]
    {
        let mut header = raw.header(&url).await;
        header["alg"] = json!(alg);
        let reply = raw.send(&url, &raw.signer.jws(&header, "{}")).await;
        assert_eq!(reply.problem(), (400, problem), "{alg}");
    }
    let stranger = Signer::p256();
    let body = stranger.jws(&raw.header(&url).await, &identifiers(&["a.svc.example"]).to_string());
    assert_eq!(raw.send(&url, &body).await.problem(), (400, "malformed"), "signed by another key");
    // A key change: signed by the new key, for this account, with the right old key; then the old key is nobody's.
    let change = raw.url("keyChange");
    let new = Signer::p256();
    let inner = |account: &str, old: &serde_json::Value, key: &Signer| {
        let header = json!({ "alg": "ES256", "jwk": key.jwk(), "url": change });
        key.jws(&header, &json!({ "account": account, "oldKey": old }).to_string())
    };
    let kid = raw.kid.clone().unwrap();
    let (old, other) = (raw.signer.jwk(), corp.account("web").await);
    for wrong in [inner(other.kid.as_deref().unwrap(), &old, &new), inner(&kid, &Signer::p256().jwk(), &new)] {
        assert_eq!(raw.post(&change, &wrong).await.problem(), (400, "malformed"));
    }
    let taken = inner(&kid, &old, &other.signer);
    assert_eq!(raw.post(&change, &taken).await.problem(), (409, "malformed"), "another account's key");
    assert_eq!(raw.post(&change, &inner(&kid, &old, &new)).await.status, 200);
    assert_eq!(raw.get(&kid).await.problem(), (400, "malformed"), "the old key");
    let changed = crate::acme_server::kit::Raw { signer: new, kid: Some(kid.clone()), ..raw };
    assert_eq!(changed.get(&kid).await.status, 200);
    // Deactivated, it is over.
    assert_eq!(changed.post(&kid, &json!({ "status": "deactivated" })).await.body["status"], "deactivated");
    assert_eq!(changed.order(&["a.svc.example"]).await.problem(), (401, "unauthorized"));
    for action in ["acme.key", "acme.deactivate"] {
        assert_eq!(corp.entries(action), 1, "{action}");
    }
}

#[tokio::test]
async fn limits_hold_and_say_when_to_come_again() {
    let corp = Corp::made("orders_per_hour = 2\nfailures_per_hour = 1\naccounts_per_hour = 3\nopen_orders = 10\n");
    let raw = corp.account("web").await;
    // Nobody answers on the port, so the validation fails.
    let order = raw.order(&["a.svc.example"]).await;
    let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
    let challenge = authorization.body["challenges"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(raw.post(&challenge, &json!({})).await.status, 200);
    let invalid = corp.until(&raw, &order, "invalid").await;
    let error = &invalid.body["error"];
    assert!(error["type"].as_str().unwrap().ends_with("connection"), "{error}");
    // An authorization that is given up does not take the failure back.
    let given_up =
        raw.post(order.body["authorizations"][0].as_str().unwrap(), &json!({ "status": "deactivated" })).await;
    assert_eq!(given_up.status, 200);
    let second = raw.order(&["b.svc.example"]).await;
    let authorization = raw.get(second.body["authorizations"][0].as_str().unwrap()).await;
    let challenge = authorization.body["challenges"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(raw.post(&challenge, &json!({})).await.problem(), (429, "rateLimited"), "failures");
    let third = raw.order(&["b.svc.example"]).await;
    assert_eq!(third.problem(), (429, "rateLimited"), "orders");
    let wait: u64 = third.header("retry-after").parse().unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    corp.account("web").await;
    corp.account("web").await;
    let fourth = corp.stranger().await;
    assert_eq!(corp.register(&fourth, "web").await.problem(), (429, "rateLimited"), "accounts");
    // Bodies have an end too.
    let huge = json!({ "contact": ["x".repeat(70_000)] });
    assert_eq!(raw.post(&raw.url("newOrder"), &huge).await.status, 413);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_an_order_loses_nothing() {
    let mut corp = Corp::made("");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let ready = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    let (done, chain) = corp.issue(&raw, &responder, &["web.svc.example"]).await;
    let failing = raw.order(&["b.svc.example"]).await;
    corp.mesh.restart();
    drop(corp.stranger().await);
    // The account, the proof, the certificate: all there.
    assert_eq!(raw.get(raw.kid.as_deref().unwrap()).await.body["status"], "valid");
    assert_eq!(corp.until(&raw, &ready, "ready").await.body["identifiers"][0]["value"], "a.svc.example");
    corp.finalize(&raw, &ready, &["a.svc.example"]).await;
    corp.until(&raw, &ready, "valid").await;
    assert_eq!(raw.get(done.body["certificate"].as_str().unwrap()).await.text, chain);
    let pending = raw.get(failing.header("location")).await;
    assert_eq!(pending.body["status"], "pending");
    corp.prove(&raw, &responder, &failing).await;
    corp.until(&raw, &failing, "ready").await;
    let revocation = json!({ "certificate": B64.encode(der_of(&chain)) });
    assert_eq!(raw.post(&raw.url("revokeCert"), &revocation).await.status, 200);
    // No number is given twice.
    let after = raw.order(&["a.svc.example"]).await;
    let number = |reply: &crate::acme_server::kit::Reply| {
        u64::from_str_radix(reply.header("location").rsplit('/').next().unwrap(), 16).unwrap()
    };
    assert!(number(&after) > number(&failing));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_certificate_is_made_leaves_an_order_that_gets_it() {
    let mut corp = Corp::made("");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    for millis in [0, 2, 5, 9, 14] {
        let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
        let body = json!({ "csr": B64.encode(csr(&["a.svc.example".to_owned()], &key())) });
        let url = order.body["finalize"].as_str().unwrap().to_owned();
        let signed = raw.signer.jws(&raw.header(&url).await, &body.to_string());
        let finalizing = raw.try_send(&url, &signed);
        let killing = async {
            tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
            corp.mesh.restart();
        };
        // Whether an answer came or not: the daemon was killed.
        drop(tokio::join!(finalizing, killing));
        drop(corp.stranger().await);
        let seen = raw.get(order.header("location")).await;
        if seen.body["status"] == "ready" {
            // It was killed before anything was promised.
            assert_eq!(raw.post(&url, &body).await.status, 200);
        }
        let valid = corp.until(&raw, &order, "valid").await;
        let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await;
        assert_eq!(chain.status, 200, "{chain:?}");
    }
    assert_eq!(corp.entries("acme.issue"), 5);
}

#[tokio::test]
async fn names_and_addresses_are_proved_by_tls_too() {
    let corp = Corp::made("profiles = [\"short\"]\n");
    let responder = corp.responder().await;
    let raw = corp.account("web").await;
    let address = corp.ip.to_string();
    let names = ["a.svc.example", &*address];
    let order = raw.order(&names).await;
    assert_eq!(order.status, 201, "{order:?}");
    corp.prove_by_tls(&raw, &responder, &order).await;
    corp.until(&raw, &order, "ready").await;
    corp.finalize(&raw, &order, &names).await;
    let valid = corp.until(&raw, &order, "valid").await;
    let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await.text;
    let facts = keyward::codec::x509::facts(&der_of(&chain)).unwrap();
    let names: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&address) && names.contains(&"a.svc.example".to_owned()), "{names:?}");
    // An address is proved by a connection, never in the DNS.
    let order = raw.order(&[&*address]).await;
    let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
    let kinds = authorization.body["challenges"].as_array().unwrap().iter().map(|c| c["type"].clone());
    assert_eq!(kinds.collect::<Vec<_>>(), ["http-01", "tls-alpn-01"]);
}

#[tokio::test]
async fn an_account_key_is_certified_for_nothing() {
    let corp = Corp::made("");
    let responder = corp.responder().await;
    let own = key();
    let document = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &own.serialize_der(),
    );
    let mut raw = corp.stranger().await;
    raw.signer = Signer::Ec(document.unwrap(), "P-256", "ES256");
    raw.kid = Some(corp.register(&raw, "web").await.header("location").to_owned());
    let order = corp.ready(&raw, &responder, &["a.svc.example"]).await;
    let refused = raw.finalize(&order, &csr(&["a.svc.example".to_owned()], &own)).await;
    assert_eq!(refused.problem(), (400, "badPublicKey"));
}

#[tokio::test]
async fn a_reload_withdraws_a_key_and_brings_another() {
    let corp = Corp::made("");
    let raw = corp.account("web").await;
    assert_eq!(raw.order(&["a.svc.example"]).await.status, 201);
    let file = corp.mesh.dir.path().join("keyward.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("id = \"web\"\nhmac_file", "id = \"next\"\nhmac_file")).unwrap();
    corp.mesh.reload();
    let refused = raw.order(&["a.svc.example"]).await;
    assert_eq!(refused.problem(), (403, "unauthorized"));
    assert!(refused.body["detail"].as_str().unwrap().contains("was withdrawn"), "{refused:?}");
    let stranger = corp.stranger().await;
    assert_eq!(corp.register(&stranger, "web").await.problem(), (403, "unauthorized"));
    corp.account("next").await;
    assert!(KEYS.contains("single_use"));
}
