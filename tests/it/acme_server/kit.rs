//! A CA with real time, clients for it, and responders for its validator.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand};
use axum::extract::Path;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use keyward::domain::time::{Boottime, Timestamp};
use keyward::ports::{Clock, Doing, Entropy};
use keyward::shell::acme_server::{CaConfig, Control, Dns, ScriptedCa, Validation, Validator};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Real time, which a test may set forward.
#[derive(Debug, Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn forward(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_secs()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let real = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Timestamp::from_unix(i64::try_from(real).unwrap() + self.0.load(Ordering::Relaxed))
    }

    fn boottime(&self) -> Boottime {
        Boottime::from_boot(Duration::from_secs(u64::try_from(self.now().unix()).unwrap()))
    }

    fn boot_id(&self) -> Arc<str> {
        Arc::from("test")
    }

    fn sleep(&self, span: Duration) -> Doing<'_, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

#[derive(Debug)]
pub struct TestEntropy;

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        rand::fill(out).unwrap();
    }
}

/// A running CA with all that its clients need.
pub struct Lab {
    pub ca: ScriptedCa,
    pub control: Control,
    pub clock: Arc<TestClock>,
    pub http: reqwest::Client,
    pub responder: Responder,
}

impl Lab {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A CA whose validator looks at this lab's responder.
    pub async fn with(change: impl FnOnce(&mut CaConfig)) -> Self {
        let responder = Responder::start().await;
        let mut config = CaConfig {
            validation: Validation::On(Box::new(Validator {
                http_port: responder.http.port(),
                tls_port: responder.tls.port(),
                dns: Dns::Embedded,
                deadline: Duration::from_secs(5),
                ..Validator::default()
            })),
            ..CaConfig::default()
        };
        change(&mut config);
        let clock = Arc::new(TestClock::default());
        let ca = ScriptedCa::start(config, clock.clone(), Arc::new(TestEntropy)).await.unwrap();
        let http = client(ca.root_pem());
        Self { control: ca.control(), clock, http, responder, ca }
    }

    /// A CA that believes every challenge, for tests that are about something else.
    pub async fn trusting(change: impl FnOnce(&mut CaConfig)) -> Self {
        Self::with(|config| {
            config.validation = Validation::Off;
            change(config);
        })
        .await
    }

    pub fn builder(&self) -> instant_acme::AccountBuilder {
        Account::builder_with_http(Box::new(Transport(self.http.clone())))
    }

    pub async fn account(&self) -> Account {
        account(&self.http, &self.ca.directory_url()).await
    }

    /// From the order to the certificate, by one kind of challenge; returns the PEM chain.
    pub async fn issue(&self, account: &Account, order: &NewOrder<'_>, kind: ChallengeType) -> String {
        let mut order = account.new_order(order).await.unwrap();
        self.prove(&mut order, kind).await;
        assert_eq!(order.poll_ready(&fast()).await.unwrap(), OrderStatus::Ready, "{:?}", order.state().error);
        let names = names_of(&mut order).await;
        order.finalize_csr(&csr(&names, &key())).await.unwrap();
        order.poll_certificate(&fast()).await.unwrap()
    }

    /// Puts the responses in place and tells the CA.
    pub async fn prove(&self, order: &mut instant_acme::Order, kind: ChallengeType) {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.unwrap();
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization.challenge(kind.clone()).expect("the challenge is on offer");
            let (name, proof) = (challenge.identifier().to_string(), challenge.key_authorization());
            let name = name.trim_start_matches("*.").to_owned();
            if kind == ChallengeType::Http01 {
                self.responder.answer(&challenge.token, proof.as_str());
            } else if kind == ChallengeType::TlsAlpn01 {
                self.responder.present(&name, proof.digest().as_ref());
            } else {
                self.control.add_txt(&format!("_acme-challenge.{name}"), &proof.dns_value());
            }
            challenge.set_ready().await.unwrap();
        }
    }

    /// A client that signs by hand, with an account.
    pub async fn raw(&self) -> Raw {
        let mut raw = Raw::new(self, Signer::p256()).await;
        raw.register().await;
        raw
    }
}

pub async fn account(http: &reqwest::Client, directory: &str) -> Account {
    let contact = &["mailto:owner@example.com"][..];
    let new = NewAccount { contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(Transport(http.clone())));
    builder.create(&new, directory.to_owned(), None).await.unwrap().0
}

/// From the order to the certificate at a CA that validates nothing.
pub async fn issue_trusted(account: &Account, name: &str) {
    let mut order = account.new_order(&NewOrder::new(&dns(&[name]))).await.unwrap();
    let mut authorizations = order.authorizations();
    let mut authorization = authorizations.next().await.unwrap().unwrap();
    authorization.challenge(ChallengeType::Http01).unwrap().set_ready().await.unwrap();
    assert_eq!(order.poll_ready(&fast()).await.unwrap(), OrderStatus::Ready);
    order.finalize_csr(&csr(&[name.to_owned()], &key())).await.unwrap();
    order.poll_certificate(&fast()).await.unwrap();
}

pub fn fast() -> RetryPolicy {
    RetryPolicy::new().initial_delay(Duration::from_millis(5)).backoff(1.5).timeout(Duration::from_secs(10))
}

pub fn dns(names: &[&str]) -> Vec<Identifier> {
    names.iter().map(|n| Identifier::Dns((*n).to_owned())).collect()
}

pub fn key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().unwrap()
}

pub fn csr(names: &[String], key: &rcgen::KeyPair) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(names.to_vec()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

async fn names_of(order: &mut instant_acme::Order) -> Vec<String> {
    let (mut names, mut identifiers) = (Vec::new(), order.identifiers());
    while let Some(identifier) = identifiers.next().await {
        names.push(identifier.unwrap().to_string());
    }
    names
}

pub fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

pub fn client(root_pem: &str) -> reqwest::Client {
    client_of(root_pem).build().unwrap()
}

pub fn client_of(root_pem: &str) -> reqwest::ClientBuilder {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(ders(root_pem));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .tcp_nodelay(true)
        .timeout(Duration::from_secs(10))
}

struct Transport(reqwest::Client);

impl instant_acme::HttpClient for Transport {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let other = |e: reqwest::Error| instant_acme::Error::Other(Box::new(e));
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let url = parts.uri.to_string();
            let sent =
                client.request(parts.method, url).headers(parts.headers).body(body).send().await.map_err(other)?;
            let mut response = http::Response::builder().status(sent.status());
            response.headers_mut().unwrap().extend(sent.headers().clone());
            let body = sent.bytes().await.map_err(other)?;
            Ok(BytesResponse::from(response.body(Full::new(body)).unwrap()))
        })
    }
}

/// Answers http-01 and tls-alpn-01 for all names.
#[derive(Clone)]
pub struct Responder {
    pub http: SocketAddr,
    pub tls: SocketAddr,
    tokens: Arc<Mutex<BTreeMap<String, String>>>,
    certificates: Arc<Mutex<BTreeMap<String, Arc<CertifiedKey>>>>,
}

impl Responder {
    pub async fn start() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), 0, 0).await
    }

    pub async fn on(ip: std::net::IpAddr, http: u16, tls: u16) -> Self {
        let tokens = Arc::new(Mutex::new(BTreeMap::<String, String>::new()));
        let answers = tokens.clone();
        let app = axum::Router::new().route(
            "/.well-known/acme-challenge/{token}",
            axum::routing::get(move |Path(token): Path<String>| async move {
                answers.lock().unwrap().get(&token).cloned().ok_or(http::StatusCode::NOT_FOUND)
            }),
        );
        let listener = TcpListener::bind((ip, http)).await.unwrap();
        let http = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let certificates = Arc::new(Mutex::new(BTreeMap::new()));
        let listener = TcpListener::bind((ip, tls)).await.unwrap();
        let tls = listener.local_addr().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(BySni(certificates.clone())));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move { drop(acceptor.accept(stream).await) });
            }
        });
        Self { http, tls, tokens, certificates }
    }

    pub fn answer(&self, token: &str, text: &str) {
        self.tokens.lock().unwrap().insert(token.to_owned(), text.to_owned());
    }

    /// Shows a certificate for `name` that holds `digest`.
    pub fn present(&self, name: &str, digest: &[u8]) {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
        let key = key();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
        let sni = match name.parse::<Ipv4Addr>() {
            Ok(ip) => {
                let [a, b, c, d] = ip.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Err(_) => name.to_owned(),
        };
        self.certificates.lock().unwrap().insert(sni, Arc::new(CertifiedKey::new(vec![certificate], signing)));
    }
}

#[derive(Debug)]
struct BySni(Arc<Mutex<BTreeMap<String, Arc<CertifiedKey>>>>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().get(hello.server_name()?).cloned()
    }
}

/// An account key of any kind that the CA takes.
pub enum Signer {
    Ec(EcdsaKeyPair, &'static str, &'static str),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub fn p256() -> Self {
        Self::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", "ES256")
    }

    pub fn p384() -> Self {
        Self::ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", "ES384")
    }

    fn ec(kind: &'static EcdsaSigningAlgorithm, crv: &'static str, alg: &'static str) -> Self {
        Self::Ec(EcdsaKeyPair::generate(kind).unwrap(), crv, alg)
    }

    pub fn ed25519() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap())
    }

    pub fn alg(&self) -> &'static str {
        match self {
            Self::Ec(_, _, alg) => alg,
            Self::Ed(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    pub fn jwk(&self) -> Value {
        match self {
            Self::Ec(key, crv, _) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": crv, "x": B64.encode(x), "y": B64.encode(y) })
            }
            Self::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": B64.encode(key.public_key().as_ref()) }),
            Self::Rsa(key) => {
                let public = key.public_key();
                let n = public.modulus().big_endian_without_leading_zero();
                let e = public.exponent().big_endian_without_leading_zero();
                json!({ "kty": "RSA", "n": B64.encode(n), "e": B64.encode(e) })
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(key, ..) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut out).unwrap();
                out
            }
        }
    }

    /// A flattened JWS; an empty payload for POST-as-GET.
    pub fn jws(&self, header: &Value, payload: &str) -> Value {
        let (protected, payload) = (B64.encode(header.to_string()), B64.encode(payload));
        let signature = B64.encode(self.sign(format!("{protected}.{payload}").as_bytes()));
        json!({ "protected": protected, "payload": payload, "signature": signature })
    }
}

/// An external account binding.
pub fn binding(kid: &str, mac: &[u8], url: &str, jwk: &Value) -> Value {
    let protected = B64.encode(json!({ "alg": "HS256", "kid": kid, "url": url }).to_string());
    let payload = B64.encode(jwk.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, mac);
    let signature = B64.encode(hmac::sign(&key, format!("{protected}.{payload}").as_bytes()));
    json!({ "protected": protected, "payload": payload, "signature": signature })
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Reply {
    /// The problem type without its URN prefix, with the status.
    pub fn problem(&self) -> (u16, &str) {
        let kind = self.body["type"].as_str().unwrap_or_else(|| panic!("no problem: {self:?}"));
        assert_eq!(self.header("content-type"), "application/problem+json");
        (self.status, kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }
}

/// A client that signs by hand, so that it can sign wrongly.
pub struct Raw {
    pub http: reqwest::Client,
    pub directory: Value,
    pub signer: Signer,
    pub kid: Option<String>,
}

impl Raw {
    pub async fn new(lab: &Lab, signer: Signer) -> Self {
        Self::at(&lab.http, &lab.ca.directory_url(), signer).await
    }

    pub async fn at(http: &reqwest::Client, url: &str, signer: Signer) -> Self {
        let directory = http.get(url).send().await.unwrap().text().await.unwrap();
        Self { http: http.clone(), directory: serde_json::from_str(&directory).unwrap(), signer, kid: None }
    }

    pub fn url(&self, resource: &str) -> String {
        self.directory[resource].as_str().unwrap().to_owned()
    }

    pub async fn nonce(&self) -> String {
        let reply = self.http.head(self.url("newNonce")).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        reply.headers()["replay-nonce"].to_str().unwrap().to_owned()
    }

    pub async fn register(&mut self) -> Reply {
        let reply = self.post(&self.url("newAccount"), &json!({ "termsOfServiceAgreed": true })).await;
        assert!(reply.status < 300, "{reply:?}");
        self.kid = Some(reply.header("location").to_owned());
        reply
    }

    /// The protected header as it should be.
    pub async fn header(&self, url: &str) -> Value {
        let mut header = json!({ "alg": self.signer.alg(), "nonce": self.nonce().await, "url": url });
        match &self.kid {
            Some(kid) => header["kid"] = json!(kid),
            None => header["jwk"] = self.signer.jwk(),
        }
        header
    }

    pub async fn try_send(&self, url: &str, body: &Value) -> Result<Reply, reqwest::Error> {
        let request = self.http.post(url).header("content-type", "application/jose+json").body(body.to_string());
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }

    pub async fn send(&self, url: &str, body: &Value) -> Reply {
        let reply = self.try_send(url, body).await.unwrap();
        assert!(reply.headers.contains_key("replay-nonce"), "every answer to a POST brings a nonce: {reply:?}");
        let mut links = reply.headers.get_all("link").iter().map(|l| l.to_str().unwrap());
        assert!(links.any(|l| l.ends_with(";rel=\"index\"")), "{reply:?}");
        reply
    }

    pub async fn try_post(&self, url: &str, payload: &Value) -> Result<Reply, reqwest::Error> {
        self.try_send(url, &self.signer.jws(&self.header(url).await, &payload.to_string())).await
    }

    pub async fn post(&self, url: &str, payload: &Value) -> Reply {
        self.send(url, &self.signer.jws(&self.header(url).await, &payload.to_string())).await
    }

    pub async fn get(&self, url: &str) -> Reply {
        self.send(url, &self.signer.jws(&self.header(url).await, "")).await
    }

    pub async fn order(&self, names: &[&str]) -> Reply {
        self.post(&self.url("newOrder"), &identifiers(names)).await
    }

    /// An order for `names` that may be finalized, at a CA that validates nothing.
    pub async fn ready(&self, names: &[&str]) -> Reply {
        let order = self.order(names).await;
        assert_eq!(order.status, 201, "{order:?}");
        for authorization in order.body["authorizations"].as_array().unwrap() {
            let authorization = self.get(authorization.as_str().unwrap()).await;
            let challenge = authorization.body["challenges"][0]["url"].as_str().unwrap().to_owned();
            assert_eq!(self.post(&challenge, &json!({})).await.status, 200);
        }
        order
    }

    pub async fn finalize(&self, order: &Reply, csr: &[u8]) -> Reply {
        self.post(order.body["finalize"].as_str().unwrap(), &json!({ "csr": B64.encode(csr) })).await
    }

    /// All the way at a CA that validates nothing; returns the order and the PEM chain.
    pub async fn issue(&self, names: &[&str]) -> (Reply, String) {
        let order = self.ready(names).await;
        let owned: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let valid = self.finalize(&order, &csr(&owned, &key())).await;
        assert_eq!(valid.body["status"], "valid", "{valid:?}");
        let chain = self.get(valid.body["certificate"].as_str().unwrap()).await;
        assert_eq!(chain.header("content-type"), "application/pem-certificate-chain");
        (order, chain.text)
    }
}

pub fn identifiers(names: &[&str]) -> Value {
    let one = |name: &&str| {
        let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
        json!({ "type": kind, "value": name })
    };
    json!({ "identifiers": names.iter().map(one).collect::<Vec<_>>() })
}

/// Asks again until `look` finds something, at most ten seconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen within ten seconds");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
