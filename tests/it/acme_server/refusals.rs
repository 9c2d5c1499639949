//! What a dishonest or broken client gets: the right problem type.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use instant_acme::{ChallengeType, NewOrder};
use keyward::domain::limits::{Limit, LimitKind};
use keyward::domain::name::Name;
use keyward::domain::time::{DAY, HOUR};
use keyward::shell::acme_server::{Ari, Reuse};
use serde_json::{Value, json};
use std::time::Duration;

use super::kit::{Lab, Raw, Signer, binding, csr, ders, dns, fast, identifiers, key};

#[tokio::test]
async fn a_bad_signature_nonce_url_or_header_is_refused() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let url = raw.url("newOrder");
    let payload = identifiers(&["a.example"]).to_string();

    let mut header = raw.header(&url).await;
    let spent = header["nonce"].clone();
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.status, 201);
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.problem(), (400, "badNonce"), "replayed");
    header["nonce"] = json!("bm90IGZyb20gaGVyZSEhIQ");
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.problem(), (400, "badNonce"), "invented");
    header.as_object_mut().unwrap().remove("nonce");
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.problem(), (400, "badNonce"), "missing");
    assert_ne!(spent, Value::Null);

    let mut header = raw.header(&url).await;
    header["url"] = json!(raw.url("keyChange"));
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.problem(), (403, "unauthorized"), "wrong url");

    let mut header = raw.header(&url).await;
    header["jwk"] = raw.signer.jwk();
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.problem(), (400, "malformed"), "jwk and kid");

    let mut header = raw.header(&url).await;
    header["alg"] = json!("HS256");
    let reply = raw.send(&url, &raw.signer.jws(&header, &payload)).await;
    assert_eq!(reply.problem(), (400, "badSignatureAlgorithm"));
    assert_eq!(reply.body["algorithms"], json!(["ES256", "ES384", "EdDSA", "RS256"]));

    let header = raw.header(&url).await;
    let stranger = Signer::p256();
    assert_eq!(raw.send(&url, &stranger.jws(&header, &payload)).await.problem(), (400, "malformed"), "another key");

    let mut tampered = raw.signer.jws(&raw.header(&url).await, &payload);
    tampered["payload"] = json!(B64.encode(identifiers(&["evil.example"]).to_string()));
    assert_eq!(raw.send(&url, &tampered).await.problem(), (400, "malformed"), "another payload");

    let mut header = raw.header(&url).await;
    header["kid"] = json!(format!("{}0", raw.kid.as_ref().unwrap()));
    assert_eq!(raw.send(&url, &raw.signer.jws(&header, &payload)).await.problem(), (400, "accountDoesNotExist"));

    let mut extended = raw.signer.jws(&raw.header(&url).await, &payload);
    extended["header"] = json!({});
    assert_eq!(raw.send(&url, &extended).await.problem(), (400, "malformed"), "an unprotected header");

    let plain = raw.http.post(&url).body(extended.to_string()).send().await.unwrap();
    assert_eq!(plain.status(), 415, "not jose+json");
    assert_eq!(raw.http.get(&url).send().await.unwrap().status(), 405);
    assert_eq!(raw.http.get(format!("{url}/x/y/z")).send().await.unwrap().status(), 404);
    let huge = json!({ "protected": "e30", "payload": "a".repeat(200_000), "signature": "" });
    assert_eq!(raw.send(&url, &huge).await.problem(), (413, "malformed"));
}

#[tokio::test]
async fn another_accounts_objects_are_out_of_reach() {
    let lab = Lab::trusting(|_| {}).await;
    let (owner, stranger) = (lab.raw().await, lab.raw().await);
    let (order, chain) = owner.issue(&["a.example"]).await;
    let open = owner.order(&["b.example"]).await;
    let valid = owner.get(order.header("location")).await;
    let challenge = owner.get(open.body["authorizations"][0].as_str().unwrap()).await;
    let orders = format!("{}/orders", owner.kid.as_ref().unwrap());
    for url in [
        order.header("location"),
        order.body["authorizations"][0].as_str().unwrap(),
        challenge.body["challenges"][0]["url"].as_str().unwrap(),
        valid.body["certificate"].as_str().unwrap(),
        owner.kid.as_ref().unwrap(),
        &orders,
    ] {
        assert_eq!(stranger.get(url).await.problem(), (403, "unauthorized"), "{url}");
    }
    let url = challenge.body["challenges"][0]["url"].as_str().unwrap();
    assert_eq!(stranger.post(url, &json!({})).await.problem(), (403, "unauthorized"));
    assert_eq!(stranger.finalize(&open, b"").await.problem(), (403, "unauthorized"));
    let revoke = json!({ "certificate": B64.encode(&ders(&chain)[0]) });
    assert_eq!(stranger.post(&stranger.url("revokeCert"), &revoke).await.problem(), (403, "unauthorized"));
    let replaces = json!({ "identifiers": [{ "type": "dns", "value": "a.example" }],
        "replaces": lab.control.certificates()[0].cert_id.to_string() });
    assert_eq!(stranger.post(&stranger.url("newOrder"), &replaces).await.problem(), (403, "unauthorized"));
}

#[tokio::test]
async fn a_request_that_differs_from_the_order_is_a_bad_csr() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let own = |names: &[&str]| csr(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), &key());
    let order = raw.order(&["a.example", "b.example"]).await;
    assert_eq!(raw.finalize(&order, &own(&["a.example", "b.example"])).await.problem(), (403, "orderNotReady"));

    let order = raw.ready(&["a.example", "b.example"]).await;
    let mut broken = own(&["a.example", "b.example"]);
    *broken.last_mut().unwrap() ^= 1;
    let mut email = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).unwrap();
    email.distinguished_name = rcgen::DistinguishedName::new();
    email.subject_alt_names.push(rcgen::SanType::Rfc822Name("a@b.example".try_into().unwrap()));
    let email = email.serialize_request(&key()).unwrap().der().to_vec();
    let mut cn = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).unwrap();
    cn.distinguished_name = rcgen::DistinguishedName::new();
    cn.distinguished_name.push(rcgen::DnType::CommonName, "c.example");
    let cn = cn.serialize_request(&key()).unwrap().der().to_vec();
    for (why, bad) in [
        ("a name less", own(&["a.example"])),
        ("a name more", own(&["a.example", "b.example", "c.example"])),
        ("other names", own(&["c.example", "d.example"])),
        ("none", own(&[])),
        ("a bad signature", broken),
        ("an e-mail address", email),
        ("a common name that was not ordered", cn),
        ("garbage", b"garbage".to_vec()),
    ] {
        assert_eq!(raw.finalize(&order, &bad).await.problem(), (400, "badCSR"), "{why}");
    }
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let weak = csr(&["a.example".to_owned(), "b.example".to_owned()], &p521);
    assert_eq!(raw.finalize(&order, &weak).await.problem(), (400, "badPublicKey"));

    // CA:TRUE and other wishes of the request are not heard.
    let mut greedy = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).unwrap();
    greedy.distinguished_name = rcgen::DistinguishedName::new();
    greedy.distinguished_name.push(rcgen::DnType::OrganizationName, "Somebody Else");
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let greedy = greedy.serialize_request(&key()).unwrap().der().to_vec();
    let valid = raw.finalize(&order, &greedy).await;
    assert_eq!(valid.body["status"], "valid", "{valid:?}");
    let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await.text;
    let leaf = &ders(&chain)[0];
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    assert!(!leaf.is_ca() && !leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert_eq!(leaf.subject().to_string(), "");
    assert_eq!(raw.finalize(&order, &greedy).await.problem(), (403, "orderNotReady"), "an order gives one certificate");
}

#[tokio::test]
async fn an_order_is_refused_with_the_reason_for_each_name() {
    let lab = Lab::trusting(|config| config.rejected = vec![Name::parse("forbidden.example").unwrap()]).await;
    let raw = lab.raw().await;
    let url = raw.url("newOrder");
    for (why, payload, problem) in [
        ("no name at all", json!({ "identifiers": [] }), "malformed"),
        ("no such type", json!({ "identifiers": [{ "type": "email", "value": "a@b" }] }), "unsupportedIdentifier"),
        ("not a name", identifiers(&["$(id).example"]), "malformed"),
        ("an address as a name", json!({ "identifiers": [{ "type": "dns", "value": "127.0.0.1" }] }), "malformed"),
        (
            "a lifetime",
            {
                let mut order = identifiers(&["a.example"]);
                order["notAfter"] = json!("2030-01-01T00:00:00Z");
                order
            },
            "malformed",
        ),
        (
            "no such profile",
            {
                let mut order = identifiers(&["a.example"]);
                order["profile"] = json!("eternal");
                order
            },
            "invalidProfile",
        ),
    ] {
        assert_eq!(raw.post(&url, &payload).await.problem().1, problem, "{why}");
    }
    let reply = raw.order(&["good.example", "a.forbidden.example", "forbidden.example", "notforbidden.example"]).await;
    assert_eq!(reply.problem(), (400, "rejectedIdentifier"));
    let parts = reply.body["subproblems"].as_array().unwrap();
    let about: Vec<_> = parts.iter().map(|p| p["identifier"]["value"].as_str().unwrap()).collect();
    assert_eq!(about, ["a.forbidden.example", "forbidden.example"]);
    assert!(lab.control.orders().is_empty());
}

/// Why the order goes invalid.
async fn refusal(order: &mut instant_acme::Order) -> instant_acme::Problem {
    match order.poll_ready(&fast()).await {
        Err(instant_acme::Error::Api(problem)) => problem,
        other => panic!("the order should be invalid: {other:?}"),
    }
}

#[tokio::test]
async fn an_unproved_name_makes_the_order_invalid_and_says_what_was_seen() {
    let lab = Lab::start().await;
    let account = lab.account().await;
    let cases = [
        (ChallengeType::Http01, "incorrectResponse", "404"),
        (ChallengeType::TlsAlpn01, "tls", ""),
        (ChallengeType::Dns01, "dns", "no TXT records"),
    ];
    for (kind, problem, seen) in cases {
        let mut order = account.new_order(&NewOrder::new(&dns(&["a.example"]))).await.unwrap();
        let mut authorizations = order.authorizations();
        let mut authorization = authorizations.next().await.unwrap().unwrap();
        authorization.challenge(kind.clone()).unwrap().set_ready().await.unwrap();
        let error = refusal(&mut order).await;
        assert!(error.r#type.as_ref().unwrap().ends_with(problem), "{error:?}");
        assert!(error.detail.as_ref().unwrap().contains(seen), "{error:?}");
        let about = error.subproblems[0].identifier.as_ref().unwrap();
        assert_eq!(about.authorized(false).to_string(), "a.example");
        assert!(order.finalize_csr(&csr(&["a.example".to_owned()], &key())).await.is_err());
    }
    // A wrong proof is as good as none.
    for kind in [ChallengeType::Http01, ChallengeType::TlsAlpn01, ChallengeType::Dns01] {
        let mut order = account.new_order(&NewOrder::new(&dns(&["b.example"]))).await.unwrap();
        let mut authorizations = order.authorizations();
        let mut authorization = authorizations.next().await.unwrap().unwrap();
        let mut challenge = authorization.challenge(kind.clone()).unwrap();
        lab.responder.answer(&challenge.token, "not it");
        lab.responder.present("b.example", &[7; 32]);
        lab.control.add_txt("_acme-challenge.b.example", "not it");
        challenge.set_ready().await.unwrap();
        let error = refusal(&mut order).await;
        assert!(error.r#type.as_ref().unwrap().ends_with("incorrectResponse"), "{error:?}");
    }
    assert_eq!(lab.control.validations().iter().filter(|v| v.failure.is_some()).count(), 6);
    assert!(lab.control.certificates().is_empty());
}

#[tokio::test]
async fn replaces_is_held_to_rfc_9773() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    raw.issue(&["a.example", "b.example"]).await;
    let id = lab.control.certificates()[0].cert_id.to_string();
    let ask = async |names: &[&str], id: &str| {
        let mut order = identifiers(names);
        order["replaces"] = json!(id);
        raw.post(&raw.url("newOrder"), &order).await
    };
    assert_eq!(ask(&["a.example"], "no-id").await.problem(), (400, "malformed"));
    let (aki, _) = id.split_once('.').unwrap();
    assert_eq!(ask(&["a.example"], &format!("{aki}.QQ")).await.problem(), (404, "malformed"), "unknown serial");
    assert_eq!(ask(&["c.example"], &id).await.problem(), (400, "malformed"), "no shared name");
    let first = ask(&["b.example", "c.example"], &id).await;
    assert_eq!((first.status, &first.body["replaces"]), (201, &json!(id)));
    assert_eq!(ask(&["a.example"], &id).await.problem(), (409, "alreadyReplaced"));
    // Once that order is dead, another one may replace the certificate.
    let authorization = first.body["authorizations"][0].as_str().unwrap();
    raw.post(authorization, &json!({ "status": "deactivated" })).await;
    assert_eq!(raw.get(first.header("location")).await.body["status"], "invalid");
    assert_eq!(ask(&["a.example"], &id).await.status, 201);
}

#[tokio::test]
async fn limits_are_counted_refused_and_spare_renewals_in_their_window() {
    let lab = Lab::trusting(|config| {
        config.limits = vec![
            Limit { kind: LimitKind::Orders, capacity: 3, refill: HOUR, reserve: 2 },
            Limit { kind: LimitKind::ExactSet, capacity: 1, refill: DAY, reserve: 0 },
        ];
        config.reuse_orders = Reuse::Never;
    })
    .await;
    let raw = lab.raw().await;
    raw.issue(&["a.example"]).await;
    let refused = raw.order(&["a.example"]).await;
    assert_eq!(refused.problem(), (429, "rateLimited"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((86_390..=86_400).contains(&wait), "{wait}");
    let id = lab.control.certificates()[0].cert_id.clone();
    let mut renewal = identifiers(&["a.example"]);
    renewal["replaces"] = json!(id.to_string());
    assert_eq!(raw.post(&raw.url("newOrder"), &renewal).await.problem(), (429, "rateLimited"), "before the window");
    let now = keyward::ports::Clock::now(&*lab.clock);
    let window = Ari::Window { start: now, end: now.plus(HOUR), explanation: None };
    assert!(lab.control.set_ari_of(&id, window));
    assert_eq!(raw.post(&raw.url("newOrder"), &renewal).await.status, 201, "in the window");
    assert_eq!(raw.order(&["b.example"]).await.status, 201);
    assert_eq!(raw.order(&["c.example"]).await.status, 201);
    assert_eq!(raw.order(&["d.example"]).await.problem(), (429, "rateLimited"));
    let kinds: Vec<_> = lab.control.violations().iter().map(|v| v.kind).collect();
    assert_eq!(kinds, [LimitKind::ExactSet, LimitKind::ExactSet, LimitKind::Orders]);
    lab.clock.forward(Duration::from_secs(3_600));
    assert_eq!(raw.order(&["d.example"]).await.status, 201, "a token came back");
}

#[tokio::test]
async fn an_order_and_its_authorizations_end() {
    let lab = Lab::trusting(|config| config.order_lifetime = HOUR).await;
    let raw = lab.raw().await;
    let order = raw.ready(&["a.example"]).await;
    lab.clock.forward(HOUR);
    assert_eq!(raw.get(order.header("location")).await.body["status"], "invalid");
    assert_eq!(raw.get(order.body["authorizations"][0].as_str().unwrap()).await.body["status"], "expired");
    assert_eq!(raw.finalize(&order, &csr(&["a.example".to_owned()], &key())).await.problem(), (403, "orderNotReady"));
}

#[tokio::test]
async fn revocation_needs_the_account_or_the_key_and_happens_once() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let order = raw.ready(&["a.example"]).await;
    let holder = Raw::new(&lab, Signer::p256()).await;
    let Signer::Ec(pair, ..) = &holder.signer else { panic!("a P-256 key") };
    let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from(pair.to_pkcs8v1().unwrap().as_ref().to_vec());
    let own = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let valid = raw.finalize(&order, &csr(&["a.example".to_owned()], &own)).await;
    let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await.text;
    let url = raw.url("revokeCert");
    let revoke = |reason: u8| json!({ "certificate": B64.encode(&ders(&chain)[0]), "reason": reason });
    assert_eq!(raw.post(&url, &revoke(7)).await.problem(), (400, "badRevocationReason"));
    let stranger = Raw::new(&lab, Signer::p256()).await;
    assert_eq!(stranger.post(&url, &revoke(1)).await.problem(), (403, "unauthorized"), "another key");
    let issuer = json!({ "certificate": B64.encode(&ders(&chain)[1]) });
    assert_eq!(raw.post(&url, &issuer).await.problem(), (404, "malformed"), "not a leaf of this CA");
    assert_eq!(holder.post(&url, &revoke(1)).await.status, 200, "the certificate's own key");
    assert_eq!(raw.post(&url, &revoke(1)).await.problem(), (400, "alreadyRevoked"));
}

#[tokio::test]
async fn a_binding_for_another_key_or_url_is_refused() {
    let mac = b"a mac key".to_vec();
    let lab = Lab::trusting(|config| config.external.keys = [("kid".to_owned(), mac.clone())].into()).await;
    let raw = Raw::new(&lab, Signer::p256()).await;
    let url = raw.url("newAccount");
    let other = Signer::p256().jwk();
    for (why, binding, problem) in [
        ("another key", binding("kid", &mac, &url, &other), (403, "unauthorized")),
        ("another url", binding("kid", &mac, &raw.url("newOrder"), &raw.signer.jwk()), (403, "unauthorized")),
        ("no jws", json!({}), (400, "malformed")),
    ] {
        let payload = json!({ "externalAccountBinding": binding });
        assert_eq!(raw.post(&url, &payload).await.problem(), problem, "{why}");
    }
    let good = json!({ "externalAccountBinding": binding("kid", &mac, &url, &raw.signer.jwk()) });
    assert_eq!(raw.post(&url, &good).await.status, 201);
    let unknown = Raw::new(&lab, Signer::p256()).await;
    let lookup = json!({ "onlyReturnExisting": true });
    assert_eq!(unknown.post(&url, &lookup).await.problem(), (400, "accountDoesNotExist"));
}
