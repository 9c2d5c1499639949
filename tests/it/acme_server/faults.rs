//! Each fault does what it says.

use std::time::{Duration, Instant};

use keyward::domain::time::Timestamp;
use keyward::shell::acme_server::{Ari, Endpoint, Fault, Length, Scope};
use serde_json::json;

use super::kit::{Lab, Raw, csr, ders, eventually, identifiers, key};

async fn finalize(raw: &Raw, names: &[&str]) -> super::kit::Reply {
    let order = raw.ready(names).await;
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    raw.finalize(&order, &csr(&names, &key())).await
}

async fn chain(raw: &Raw, valid: &super::kit::Reply) -> String {
    raw.get(valid.body["certificate"].as_str().unwrap()).await.text
}

#[tokio::test]
async fn a_dropped_response_was_processed_and_a_dropped_request_was_not() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let (url, order) = (raw.url("newOrder"), identifiers(&["a.example"]));
    let fault = lab.control.inject(&[Endpoint::NewOrder], Scope::Next(1), Fault::DropResponse);
    raw.try_post(&url, &order).await.unwrap_err();
    assert_eq!((lab.control.orders().len(), lab.control.struck(fault)), (1, 1));
    lab.control.inject(&[Endpoint::NewOrder], Scope::Next(1), Fault::DropRequest);
    raw.try_post(&url, &order).await.unwrap_err();
    assert_eq!(lab.control.orders().len(), 1);
    assert_eq!(lab.control.requests(Endpoint::NewOrder), 2);
    assert_eq!(raw.post(&url, &order).await.status, 201, "two strikes, no more");

    let ready = raw.ready(&["b.example"]).await;
    lab.control.inject(&[Endpoint::Finalize], Scope::Next(1), Fault::DropResponse);
    let payload = json!({ "csr": base64_of(&csr(&["b.example".to_owned()], &key())) });
    raw.try_post(ready.body["finalize"].as_str().unwrap(), &payload).await.unwrap_err();
    assert_eq!(raw.get(ready.header("location")).await.body["status"], "valid", "found again by its URL");
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn a_status_comes_with_its_problem_and_retry_after() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let status = |code, problem: &str, retry: Option<&str>| Fault::Status {
        code,
        problem: problem.to_owned(),
        retry_after: retry.map(str::to_owned),
    };
    let fault = lab.control.inject(&[Endpoint::NewOrder], Scope::Always, status(503, "serverInternal", Some("17")));
    for _ in 0..3 {
        let reply = raw.order(&["a.example"]).await;
        assert_eq!((reply.problem(), reply.header("retry-after")), ((503, "serverInternal"), "17"));
    }
    assert!(lab.control.orders().is_empty());
    lab.control.lift(fault);
    assert_eq!(raw.order(&["a.example"]).await.status, 201);

    lab.control.inject(&[], Scope::Next(1), Fault::LimitReached(Duration::from_secs(3_600)));
    let reply = lab.http.head(raw.url("newNonce")).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers()["retry-after"].to_str().unwrap()), (429, "3600"));

    lab.control.inject(&[Endpoint::NewOrder], Scope::Next(1), Fault::TermsChanged);
    let reply = raw.order(&["a.example"]).await;
    assert_eq!(reply.problem(), (403, "userActionRequired"));
    let links: Vec<_> = reply.headers.get_all("link").iter().map(|l| l.to_str().unwrap()).collect();
    assert!(links.iter().any(|l| l.contains("rel=\"terms-of-service\"")), "{links:?}");
    assert!(reply.body["instance"].as_str().unwrap().starts_with("https://"));
}

#[tokio::test]
async fn retry_after_is_whatever_the_scenario_says() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let order = raw.order(&["a.example"]).await;
    for text in ["1000000000", "Fri, 31 Dec 2099 23:59:59 GMT", "-1", "soon"] {
        lab.control.inject(&[Endpoint::Order], Scope::Next(1), Fault::RetryAfter(text.to_owned()));
        assert_eq!(raw.get(order.header("location")).await.header("retry-after"), text);
    }
    assert!(!raw.get(order.header("location")).await.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn bodies_are_malformed_huge_or_slow() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let url = raw.order(&["a.example"]).await.header("location").to_owned();
    lab.control.inject(&[Endpoint::Order], Scope::Next(1), Fault::MalformedJson);
    let reply = raw.get(&url).await;
    assert!(reply.status == 200 && reply.text.starts_with('{') && reply.body.is_null(), "{reply:?}");

    for length in [Length::Announced, Length::Streamed] {
        let bytes = 3_000_001;
        lab.control.inject(&[Endpoint::Order], Scope::Next(1), Fault::HugeBody { bytes, length });
        let reply = raw.get(&url).await;
        assert_eq!(reply.text.len(), 3_000_001);
        assert!(reply.body.is_object(), "valid to its end");
        assert_eq!(reply.headers.contains_key("content-length"), length == Length::Announced);
    }

    let pause = Duration::from_millis(1);
    lab.control.inject(&[Endpoint::Order], Scope::Next(1), Fault::SlowBody(pause));
    let (began, reply) = (Instant::now(), raw.get(&url).await);
    assert_eq!(reply.body["status"], "pending", "slow but whole");
    assert!(began.elapsed() >= pause * u32::try_from(reply.text.len()).unwrap());

    lab.control.inject(&[Endpoint::Order], Scope::Next(1), Fault::Delay(Duration::from_millis(80)));
    let began = Instant::now();
    raw.get(&url).await;
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn good_nonces_are_refused_in_the_share_that_was_asked() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let kid = raw.kid.clone().unwrap();
    let fault = lab.control.inject(&[Endpoint::Account], Scope::Percent(50), Fault::BadNonce);
    let mut refused = 0;
    for _ in 0..200 {
        let reply = raw.get(&kid).await;
        if reply.status == 400 {
            assert_eq!(reply.problem(), (400, "badNonce"));
            refused += 1;
        }
    }
    assert_eq!(lab.control.struck(fault), refused);
    // 200 draws of one half: outside of 50..=150 once in 10^12 runs.
    assert!((50..=150).contains(&refused), "{refused}");
    // instant-acme gets through three refusals at most, so a fifth of them is survived by most requests.
    lab.control.heal();
    lab.control.inject(&[], Scope::Next(2), Fault::BadNonce);
    let account = lab.account().await;
    assert!(account.id().starts_with("https://"));
}

#[tokio::test]
async fn a_certificate_can_be_wrong_in_every_way() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let root = ders(lab.ca.root_pem()).remove(0);
    let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();

    let order = raw.ready(&["a.example"]).await;
    let own = key();
    lab.control.inject(&[Endpoint::Finalize], Scope::Next(1), Fault::WrongKey);
    let valid = raw.finalize(&order, &csr(&["a.example".to_owned()], &own)).await;
    let pem = chain(&raw, &valid).await;
    let leaf = &ders(&pem)[0];
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    assert_ne!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&own));

    lab.control.inject(&[Endpoint::Finalize], Scope::Next(1), Fault::WrongNames);
    finalize(&raw, &["a.example"]).await;
    assert_eq!(lab.control.certificates()[1].names.key().as_ref(), "wrong-name.example");

    lab.control.inject(&[Endpoint::Finalize], Scope::Next(1), Fault::ExpiredCert);
    finalize(&raw, &["a.example"]).await;
    let now = keyward::ports::Clock::now(&*lab.clock);
    assert!(lab.control.certificates()[2].validity.not_after < now);

    for (fault, known) in [(None, true), (Some(Fault::ForeignChain), false)] {
        if let Some(fault) = fault {
            lab.control.inject(&[Endpoint::Finalize], Scope::Next(1), fault);
        }
        let pem = chain(&raw, &finalize(&raw, &["a.example"]).await).await;
        let intermediate = &ders(&pem)[1];
        let (_, intermediate) = x509_parser::parse_x509_certificate(intermediate).unwrap();
        assert_eq!(intermediate.verify_signature(Some(root.public_key())).is_ok(), known);
    }
}

#[tokio::test]
async fn an_order_is_stuck_until_released_or_delayed_or_invalid() {
    let lab = Lab::trusting(|config| config.issue_delay = Duration::from_millis(30)).await;
    let raw = lab.raw().await;
    lab.control.inject(&[Endpoint::Finalize], Scope::Next(1), Fault::StuckProcessing);
    let stuck = finalize(&raw, &["a.example"]).await;
    let url = stuck.header("location").to_owned();
    let delayed = finalize(&raw, &["b.example"]).await;
    assert_eq!((&stuck.body["status"], &delayed.body["status"]), (&json!("processing"), &json!("processing")));
    assert_eq!(stuck.header("retry-after"), "1");
    let delayed = delayed.header("location").to_owned();
    eventually("the delayed issuance", || async { (raw.get(&delayed).await.body["status"] == "valid").then_some(()) })
        .await;
    assert_eq!(raw.get(&url).await.body["status"], "processing", "stuck all the while");
    assert_eq!(lab.control.release_stuck(), 1);
    assert_eq!(raw.get(&url).await.body["status"], "valid");

    for at in [Endpoint::NewOrder, Endpoint::Order, Endpoint::Finalize] {
        lab.control.inject(&[at], Scope::Next(1), Fault::OrderInvalid);
        let order = raw.ready(&["c.example"]).await;
        raw.get(order.header("location")).await;
        raw.finalize(&order, &csr(&["c.example".to_owned()], &key())).await;
        let seen = raw.get(order.header("location")).await;
        assert_eq!(seen.body["status"], "invalid", "{at:?}");
        assert!(seen.body["error"]["detail"].as_str().unwrap().contains("scenario"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_token_can_be_evil() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    for token in ["../../x".to_owned(), "$(id)".to_owned(), "a".repeat(1_000_000), "a\0b".to_owned()] {
        lab.control.inject(&[Endpoint::NewOrder], Scope::Next(1), Fault::EvilToken(token.clone()));
        let order = raw.order(&["a.example"]).await;
        let authorization = raw.get(order.body["authorizations"][0].as_str().unwrap()).await;
        for challenge in authorization.body["challenges"].as_array().unwrap() {
            assert_eq!(challenge["token"], json!(token));
        }
    }
}

#[tokio::test]
async fn replaces_is_refused_or_not_echoed() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    raw.issue(&["a.example"]).await;
    let mut order = identifiers(&["a.example"]);
    order["replaces"] = json!(lab.control.certificates()[0].cert_id.to_string());
    let url = raw.url("newOrder");
    lab.control.inject(&[Endpoint::NewOrder], Scope::Always, Fault::ReplacesRefused("alreadyReplaced".to_owned()));
    assert_eq!(raw.post(&url, &order).await.problem(), (409, "alreadyReplaced"));
    assert_eq!(raw.order(&["a.example"]).await.status, 201, "without replaces it goes");
    lab.control.heal();
    lab.control.inject(&[Endpoint::NewOrder], Scope::Next(1), Fault::NoReplacesEcho);
    let reply = raw.post(&url, &order).await;
    assert!(reply.status == 201 && reply.body.get("replaces").is_none(), "{reply:?}");
    assert!(lab.control.orders().last().unwrap().replaces.is_some());
}

#[tokio::test]
async fn renewal_information_says_what_the_scenario_says() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    for _ in 0..2 {
        raw.issue(&["a.example"]).await;
    }
    let ids: Vec<_> = lab.control.certificates().into_iter().map(|c| c.cert_id).collect();
    let look = async |i: usize| {
        let url = format!("{}/{}", raw.url("renewalInfo"), ids[i]);
        let reply = lab.http.get(url).send().await.unwrap();
        let (status, text) = (reply.status().as_u16(), reply.text().await.unwrap());
        (status, serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    let (start, end) = (Timestamp::from_unix(2_000_000_000), Timestamp::from_unix(1_999_999_999));
    let page = Some("https://ca.example/incident".to_owned());
    lab.control.set_ari(Ari::Window { start, end, explanation: page.clone() });
    let (_, inverted) = look(0).await;
    let window = &inverted["suggestedWindow"];
    assert_eq!((&window["start"], &window["end"]), (&json!(start.to_string()), &json!(end.to_string())));
    assert_eq!(inverted["explanationURL"], "https://ca.example/incident");
    assert!(lab.control.set_ari_of(&ids[0], Ari::RenewNow { explanation: page }));
    let (_, over) = look(0).await;
    let over = Timestamp::parse(over["suggestedWindow"]["end"].as_str().unwrap()).unwrap();
    assert!(over < keyward::ports::Clock::now(&*lab.clock));
    assert_eq!(look(1).await.1, inverted, "of one certificate only");
    lab.control.set_ari(Ari::Absent);
    assert_eq!(look(1).await.0, 404);
    assert!(lab.control.revoke(&ids[1]) && !lab.control.revoke(&ids[1]));
    lab.control.set_ari(Ari::Computed);
    let (_, revoked) = look(1).await;
    let end = Timestamp::parse(revoked["suggestedWindow"]["end"].as_str().unwrap()).unwrap();
    assert!(end < keyward::ports::Clock::now(&*lab.clock), "renew what is revoked");
}

#[tokio::test]
async fn a_paused_ca_answers_nobody_until_it_resumes() {
    let lab = Lab::trusting(|_| {}).await;
    lab.control.pause();
    for _ in 0..3 {
        assert!(lab.http.get(lab.ca.directory_url()).send().await.is_err());
    }
    lab.control.resume();
    assert_eq!(lab.http.get(lab.ca.directory_url()).send().await.unwrap().status(), 200);
}
