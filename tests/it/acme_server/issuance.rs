//! What an honest client gets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use instant_acme::{
    CertificateIdentifier, ChallengeType, ExternalAccountKey, Identifier, NewAccount, NewOrder, OrderStatus,
    RevocationRequest,
};
use keyward::domain::certificate::CertId;
use keyward::domain::time::DAY;
use keyward::shell::acme_server::{Demand, Dns, ExternalBinding, Reuse, Transport, Validation};
use serde_json::json;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::kit::{Lab, Raw, Signer, csr, ders, dns, eventually, fast, identifiers, key};

/// What OpenSSL says of a chain, with the CA's root as the only anchor.
fn openssl_verify(chain: &str, root: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (chain_file, root_file) = (dir.path().join("chain.pem"), dir.path().join("root.pem"));
    std::fs::write(&chain_file, chain).unwrap();
    std::fs::write(&root_file, root).unwrap();
    let out = Command::new("openssl")
        .args(["verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", "-CAfile"])
        .arg(&root_file)
        .arg("-untrusted")
        .arg(&chain_file)
        .arg(&chain_file)
        .output()
        .expect("openssl is installed by tests/run");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn sans(chain: &str) -> Vec<String> {
    let leaf = ders(chain).remove(0);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    san.value.general_names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn http_01_issues_a_chain_that_openssl_accepts() {
    let lab = Lab::start().await;
    let account = lab.account().await;
    let names = dns(&["a.example.com", "b.example.com"]);
    let chain = lab.issue(&account, &NewOrder::new(&names), ChallengeType::Http01).await;
    let said = openssl_verify(&chain, lab.ca.root_pem());
    assert!(said.ends_with("OK\n"), "{said}");
    assert_eq!(ders(&chain).len(), 2, "the leaf and the intermediate");
    assert_eq!(sans(&chain).len(), 2);
    let issued = lab.control.certificates();
    assert_eq!(issued.len(), 1);
    let leaf = &ders(&chain)[0];
    assert_eq!(issued[0].cert_id.to_string(), CertificateIdentifier::try_from(leaf).unwrap().to_string());
    let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
    assert_eq!(issued[0].serial, leaf.raw_serial().iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert!(leaf.raw_serial().len() == 20 && leaf.raw_serial()[0] & 0x80 == 0, "a positive serial of 20 bytes");
    assert_eq!(lab.control.validations().len(), 2);
    lab.ca.stop().await;
}

#[tokio::test]
async fn tls_alpn_01_issues_for_names_and_addresses() {
    let lab = Lab::start().await;
    let account = lab.account().await;
    let names = [Identifier::Dns("tls.example.com".to_owned()), Identifier::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let chain = lab.issue(&account, &NewOrder::new(&names), ChallengeType::TlsAlpn01).await;
    assert!(openssl_verify(&chain, lab.ca.root_pem()).ends_with("OK\n"));
    let kinds: Vec<_> = lab.control.validations().into_iter().map(|v| v.kind.as_str()).collect();
    assert_eq!(kinds, ["tls-alpn-01", "tls-alpn-01"]);
}

#[tokio::test]
async fn http_01_issues_for_an_address() {
    let lab = Lab::start().await;
    let account = lab.account().await;
    let names = [Identifier::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let order = NewOrder::new(&names).profile("shortlived");
    let chain = lab.issue(&account, &order, ChallengeType::Http01).await;
    assert!(openssl_verify(&chain, lab.ca.root_pem()).ends_with("OK\n"));
    let lived = lab.control.certificates()[0].validity.lifetime();
    assert_eq!(lived, Duration::from_secs(161 * 3_600), "160 hours and one of backdating");
}

#[tokio::test]
async fn dns_01_issues_a_wildcard_and_follows_a_delegation() {
    let lab = Lab::start().await;
    lab.control.set_cname("_acme-challenge.example.org", "hop.delegated.example.");
    lab.control.set_cname("hop.delegated.example", "target.delegated.example");
    let account = lab.account().await;
    let names = dns(&["*.example.org", "example.net"]);
    let mut order = account.new_order(&NewOrder::new(&names)).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        let wildcard = authorization.wildcard;
        assert_eq!(authorization.challenges.len(), if wildcard { 1 } else { 3 }, "a wildcard is proved in DNS only");
        let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
        let place = if wildcard { "target.delegated.example" } else { "_acme-challenge.example.net" };
        lab.control.add_txt(place, "of an earlier order");
        lab.control.add_txt(place, &challenge.key_authorization().dns_value());
        challenge.set_ready().await.unwrap();
    }
    assert_eq!(order.poll_ready(&fast()).await.unwrap(), OrderStatus::Ready, "{:?}", order.state().error);
    let names = ["*.example.org".to_owned(), "example.net".to_owned()];
    order.finalize_csr(&csr(&names, &key())).await.unwrap();
    let chain = order.poll_certificate(&fast()).await.unwrap();
    assert!(openssl_verify(&chain, lab.ca.root_pem()).ends_with("OK\n"));
}

/// Answers every question with the CNAME of the name, or 40 TXT records with `value` as the last: too much for UDP.
async fn name_server(value: Arc<Mutex<String>>) -> SocketAddr {
    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::rdata::{CNAME, TXT};
    use hickory_proto::rr::{Name, RData, Record};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn answer(question: &[u8], value: &str, tcp: bool) -> Vec<u8> {
        let mut message = Message::from_vec(question).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        if name.to_string() == "_acme-challenge.asked.example." {
            let alias = RData::CNAME(CNAME("elsewhere.example.".parse::<Name>().unwrap()));
            message.add_answer(Record::from_rdata(name, 1, alias));
        } else if tcp {
            for i in 0..40 {
                let text = if i == 39 { value.to_owned() } else { format!("{i}-{}", "x".repeat(60)) };
                message.add_answer(Record::from_rdata(name.clone(), 1, RData::TXT(TXT::new(vec![text]))));
            }
        } else {
            message.metadata.truncation = true;
        }
        message.to_vec().unwrap()
    }

    let (udp, tcp) = eventually("a port that is free for UDP and TCP", || async {
        let udp = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tcp = tokio::net::TcpListener::bind(udp.local_addr().unwrap()).await.ok()?;
        Some((udp, tcp))
    })
    .await;
    let address = udp.local_addr().unwrap();
    let text = value.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let answer = answer(&buffer[..length], &text.lock().unwrap(), false);
            udp.send_to(&answer, from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, &value.lock().unwrap(), true);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn dns_01_asks_a_real_server_over_udp_then_tcp_and_through_a_cname() {
    let value = Arc::new(Mutex::new(String::new()));
    let server = name_server(value.clone()).await;
    let lab = Lab::with(|config| {
        if let Validation::On(validator) = &mut config.validation {
            validator.dns = Dns::Server(server);
        }
    })
    .await;
    let account = lab.account().await;
    for right in [true, false] {
        let mut order = account.new_order(&NewOrder::new(&dns(&["asked.example"]))).await.unwrap();
        let mut authorizations = order.authorizations();
        let mut authorization = authorizations.next().await.unwrap().unwrap();
        let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
        let proof = challenge.key_authorization().dns_value();
        *value.lock().unwrap() = if right { proof } else { "something else".to_owned() };
        challenge.set_ready().await.unwrap();
        match order.poll_ready(&fast()).await {
            Ok(OrderStatus::Ready) if right => {}
            Err(instant_acme::Error::Api(problem)) if !right => {
                assert!(problem.detail.unwrap().contains("at elsewhere.example are"));
            }
            other => panic!("{right}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_external_binding_is_taken_with_its_key_and_only_with_it() {
    let lab = Lab::trusting(|config| {
        let keys = [("kid-1".to_owned(), b"a mac key of 32 bytes, they say.".to_vec())].into();
        config.external = ExternalBinding { demand: Demand::Required, keys };
        config.terms = Some("https://terms.example/1".to_owned());
    })
    .await;
    let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let good = ExternalAccountKey::new("kid-1".to_owned(), b"a mac key of 32 bytes, they say.");
    drop(lab.builder().create(&new, lab.ca.directory_url(), Some(&good)).await.unwrap());
    let wrong = ExternalAccountKey::new("kid-1".to_owned(), b"another mac key, of somebody else");
    let other = ExternalAccountKey::new("kid-2".to_owned(), b"a mac key of 32 bytes, they say.");
    for (key, kind) in
        [(Some(&wrong), "unauthorized"), (Some(&other), "unauthorized"), (None, "externalAccountRequired")]
    {
        match lab.builder().create(&new, lab.ca.directory_url(), key).await.map(|_| ()) {
            Err(instant_acme::Error::Api(problem)) => assert!(problem.r#type.unwrap().ends_with(kind)),
            other => panic!("{kind}: {other:?}"),
        }
    }
    assert_eq!(lab.control.account_keys().len(), 1);
}

#[tokio::test]
async fn after_a_key_rollover_the_new_key_works_and_the_old_does_not() {
    let lab = Lab::trusting(|_| {}).await;
    let mut account = lab.account().await;
    let before = lab.builder().create_from_key(instant_key(), lab.ca.directory_url()).await.unwrap().0;
    let id = account.id().to_owned();
    drop(account.update_key().await.unwrap());
    account.new_order(&NewOrder::new(&dns(&["a.example"]))).await.unwrap();
    let keys = lab.control.account_keys();
    assert_eq!(keys.iter().filter(|k| k.account == id).count(), 2, "{keys:?}");
    assert_ne!(before.id(), id);

    let mut raw = lab.raw().await;
    let new = Signer::p384();
    let url = raw.url("keyChange");
    let payload = json!({ "account": raw.kid, "oldKey": raw.signer.jwk() });
    let inner = new.jws(&json!({ "alg": "ES384", "jwk": new.jwk(), "url": url }), &payload.to_string());
    assert_eq!(raw.post(&url, &inner).await.status, 200);
    assert_eq!(raw.order(&["b.example"]).await.problem(), (400, "malformed"), "the old key signs no more");
    raw.signer = new;
    assert_eq!(raw.order(&["b.example"]).await.status, 201);

    let taken = Raw::new(&lab, Signer::p256()).await;
    let mut taken = Raw { kid: None, ..taken };
    taken.register().await;
    let payload = json!({ "account": raw.kid, "oldKey": raw.signer.jwk() });
    let header = json!({ "alg": "ES256", "jwk": taken.signer.jwk(), "url": url });
    let reply = raw.post(&url, &taken.signer.jws(&header, &payload.to_string())).await;
    assert_eq!(reply.problem(), (409, "malformed"));
    assert_eq!(reply.header("location"), taken.kid.as_deref().unwrap());
}

fn instant_key() -> (instant_acme::Key, rustls::pki_types::PrivateKeyDer<'static>) {
    let (key, der) = instant_acme::Key::generate_pkcs8().unwrap();
    (key, der.into())
}

#[tokio::test]
async fn account_and_certificate_keys_of_every_kind_are_taken() {
    let lab = Lab::trusting(|_| {}).await;
    for signer in [Signer::p256(), Signer::p384(), Signer::ed25519(), Signer::rsa()] {
        let mut raw = Raw::new(&lab, signer).await;
        raw.register().await;
        raw.issue(&["a.example"]).await;
    }
    let raw = lab.raw().await;
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    for key in [rsa, p384, ed25519] {
        let order = raw.ready(&["a.example"]).await;
        let valid = raw.finalize(&order, &csr(&["a.example".to_owned()], &key)).await;
        assert_eq!(valid.body["status"], "valid", "{valid:?}");
        let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await.text;
        let said = openssl_verify(&chain, lab.ca.root_pem());
        assert!(said.ends_with("OK\n"), "{said}");
    }
}

#[tokio::test]
async fn renewal_information_follows_the_certificate_and_replaces_is_echoed() {
    let lab = Lab::trusting(|config| config.backdate = Duration::ZERO).await;
    let account = lab.account().await;
    let names = dns(&["a.example", "b.example"]);
    let chain = lab.issue(&account, &NewOrder::new(&names), ChallengeType::Http01).await;
    let id = CertificateIdentifier::try_from(&ders(&chain)[0]).unwrap().into_owned();
    let (info, wait) = account.renewal_info(&id).await.unwrap();
    let validity = lab.control.certificates()[0].validity;
    let middle = (info.suggested_window.start.unix_timestamp() + info.suggested_window.end.unix_timestamp()) / 2;
    assert!((middle - validity.at_permille(667).unix()).abs() <= 1, "two thirds of the lifetime");
    let width = info.suggested_window.end - info.suggested_window.start;
    assert_eq!(width.whole_seconds(), i64::try_from(validity.lifetime().as_secs() / 50).unwrap());
    assert!(wait > Duration::from_secs(6 * 3_600 - 5) && wait <= Duration::from_secs(6 * 3_600));

    let other = dns(&["b.example", "c.example"]);
    let mut order = account.new_order(&NewOrder::new(&other).replaces(id.clone())).await.unwrap();
    assert_eq!(order.state().replaces.as_ref().unwrap().to_string(), id.to_string());
    lab.prove(&mut order, ChallengeType::Http01).await;
    assert_eq!(lab.control.orders()[1].replaces.as_ref().unwrap().to_string(), id.to_string());
}

#[tokio::test]
async fn a_revoked_certificate_is_to_be_renewed_now() {
    let lab = Lab::trusting(|_| {}).await;
    let account = lab.account().await;
    let names = dns(&["a.example"]);
    let chain = lab.issue(&account, &NewOrder::new(&names), ChallengeType::Http01).await;
    let leaf = ders(&chain).remove(0);
    account.revoke(&RevocationRequest { certificate: &leaf, reason: None }).await.unwrap();
    let id = CertificateIdentifier::try_from(&leaf).unwrap();
    assert_eq!(lab.control.is_revoked(&CertId(id.to_string().into())), Some(true));
    let window = account.renewal_info(&id).await.unwrap().0.suggested_window;
    assert!(window.end.unix_timestamp() < keyward::ports::Clock::now(&*lab.clock).unix());
}

#[tokio::test]
async fn a_leaf_never_outlives_the_ca() {
    let lab = Lab::trusting(|config| config.root_lifetime = DAY * 100).await;
    let raw = lab.raw().await;
    let (_, chain) = raw.issue(&["a.example"]).await;
    let ders = ders(&chain);
    let (_, leaf) = X509Certificate::from_der(&ders[0]).unwrap();
    let (_, intermediate) = X509Certificate::from_der(&ders[1]).unwrap();
    assert_eq!(leaf.validity().not_after, intermediate.validity().not_after, "50 of the 90 days");
}

#[tokio::test]
async fn an_account_lists_its_orders_in_pages_and_an_order_can_be_found_again() {
    let lab = Lab::trusting(|_| {}).await;
    let raw = lab.raw().await;
    let mut made = Vec::new();
    for i in 0..105 {
        made.push(raw.order(&[&format!("n{i}.example")]).await.header("location").to_owned());
    }
    let mut url = raw.get(raw.kid.as_ref().unwrap()).await.body["orders"].as_str().unwrap().to_owned();
    let mut listed = Vec::new();
    loop {
        let page = raw.get(&url).await;
        listed.extend(page.body["orders"].as_array().unwrap().iter().map(|o| o.as_str().unwrap().to_owned()));
        let links = page.headers.get_all("link").iter().map(|l| l.to_str().unwrap());
        let Some(next) = links.into_iter().find_map(|l| l.strip_suffix(">;rel=\"next\"")) else { break };
        url = next.trim_start_matches('<').to_owned();
    }
    assert_eq!(listed, made);
}

#[tokio::test]
async fn orders_and_authorizations_are_reused_only_when_asked_for() {
    for (reuse, same) in [(Reuse::Never, false), (Reuse::SameAccount, true)] {
        let lab = Lab::trusting(|config| {
            config.reuse_orders = reuse;
            config.reuse_authorizations = reuse;
        })
        .await;
        let raw = lab.raw().await;
        let (first, second) = (raw.order(&["a.example"]).await, raw.order(&["a.example"]).await);
        assert_eq!(first.header("location") == second.header("location"), same);
        raw.issue(&["b.example"]).await;
        let again = raw.order(&["b.example"]).await;
        assert_eq!(again.body["status"], if same { "ready" } else { "pending" });
    }
}

#[tokio::test]
async fn an_account_can_be_found_changed_and_deactivated() {
    let lab = Lab::trusting(|_| {}).await;
    let mut raw = lab.raw().await;
    let (kid, payload) = (raw.kid.take().unwrap(), json!({ "onlyReturnExisting": true }));
    let found = raw.post(&raw.url("newAccount"), &payload).await;
    assert_eq!((found.status, found.header("location")), (200, &*kid));
    raw.kid = Some(kid.clone());
    let changed = raw.post(&kid, &json!({ "contact": ["mailto:a@example.com"] })).await;
    assert_eq!(changed.body["contact"], json!(["mailto:a@example.com"]));
    let bad = raw.post(&kid, &json!({ "contact": ["tel:+1"] })).await;
    assert_eq!(bad.problem(), (400, "unsupportedContact"));
    let bad = raw.post(&kid, &json!({ "contact": ["mailto:a@b.example?to=c"] })).await;
    assert_eq!(bad.problem(), (400, "invalidContact"));
    assert_eq!(raw.post(&kid, &json!({ "status": "deactivated" })).await.body["status"], "deactivated");
    assert_eq!(raw.order(&["a.example"]).await.problem(), (401, "unauthorized"));
}

#[tokio::test]
async fn the_directory_says_what_is_on_offer_and_http_mode_is_http() {
    let lab = Lab::trusting(|config| {
        config.transport = Transport::Http;
        config.terms = Some("https://terms.example/1".to_owned());
    })
    .await;
    assert!(lab.ca.directory_url().starts_with("http://127.0.0.1:"));
    let raw = lab.raw().await;
    let meta = &raw.directory["meta"];
    assert_eq!(meta["termsOfService"], "https://terms.example/1");
    assert_eq!(meta["externalAccountRequired"], false);
    let profiles: Vec<_> = meta["profiles"].as_object().unwrap().keys().collect();
    assert_eq!(profiles, ["classic", "shortlived"]);
    raw.issue(&["a.example"]).await;
    let get = lab.http.get(raw.url("newNonce")).send().await.unwrap();
    assert_eq!(get.status(), 204);
    let plain = lab.http.get(lab.ca.directory_url()).send().await.unwrap();
    assert!(!plain.headers().contains_key("replay-nonce"), "a cache would hand one nonce to many");
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_the_oldest_finished_order_makes_room() {
    let lab = Lab::trusting(|config| {
        config.bounds.orders = 3;
        config.bounds.certificates = 2;
    })
    .await;
    let raw = lab.raw().await;
    let pending = raw.order(&["pending.example"]).await;
    let (first, _) = raw.issue(&["first.example"]).await;
    for _ in 0..3 {
        raw.issue(&["later.example"]).await;
    }
    assert_eq!(raw.get(pending.header("location")).await.status, 200, "unfinished orders stay");
    assert_eq!(raw.get(first.header("location")).await.problem(), (404, "malformed"));
    let oldest = first.body["authorizations"][0].as_str().unwrap();
    assert_eq!(raw.get(oldest).await.problem(), (404, "malformed"), "its authorizations go with it");
    raw.order(&["p2.example"]).await;
    raw.order(&["p3.example"]).await;
    assert_eq!(raw.order(&["p4.example"]).await.problem(), (503, "serverInternal"));
    let id = &lab.control.certificates()[0].cert_id;
    assert_eq!(lab.control.is_revoked(id), None, "the oldest certificate made room");
}

#[tokio::test]
async fn a_stopped_ca_is_gone_and_a_new_one_knows_nothing_of_the_old() {
    let lab = Lab::trusting(|_| {}).await;
    let mut raw = lab.raw().await;
    let order = raw.order(&["a.example"]).await.header("location").to_owned();
    let directory = lab.ca.directory_url();
    let address: SocketAddr = directory.trim_start_matches("https://").trim_end_matches("/directory").parse().unwrap();
    lab.ca.stop().await;
    assert!(lab.http.get(&directory).send().await.is_err());
    let again = Lab::trusting(|config| config.listen = address).await;
    raw.http = again.http.clone();
    assert_eq!(raw.post(&order, &identifiers(&["x"])).await.problem(), (400, "accountDoesNotExist"));
}
