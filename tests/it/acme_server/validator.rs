//! The validator against servers that are not simply right or wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use keyward::shell::acme_server::{Hosts, Validation};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::kit::{Lab, Raw, eventually, key};

fn sha256(text: &str) -> [u8; 32] {
    keyward::domain::key::Digest::of(text.as_bytes()).0
}

/// A server that sends the same bytes to everyone, or nothing if there are none, and then waits.
async fn says(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                drop(stream.read(&mut request).await);
                drop(stream.write_all(&bytes).await);
                // Stays open until the other side hangs up.
                drop(stream.read(&mut request).await);
            });
        }
    });
    address
}

/// A lab whose validator connects to these ports.
async fn lab(http: Option<u16>, tls: Option<u16>) -> Lab {
    Lab::with(|config| {
        if let Validation::On(validator) = &mut config.validation {
            validator.http_port = http.unwrap_or(validator.http_port);
            validator.tls_port = tls.unwrap_or(validator.tls_port);
            validator.deadline = Duration::from_millis(700);
        }
    })
    .await
}

/// An authorization for `name` with the URL, token and key authorization of its challenge of one kind.
async fn challenge(raw: &Raw, name: &str, kind: &str) -> (String, String, String, String) {
    let order = raw.order(&[name]).await;
    let authorization = order.body["authorizations"][0].as_str().unwrap().to_owned();
    let reply = raw.get(&authorization).await;
    let challenges = reply.body["challenges"].as_array().unwrap();
    let found = challenges.iter().find(|c| c["type"] == kind).unwrap();
    let token = found["token"].as_str().unwrap().to_owned();
    let jwk = raw.signer.jwk();
    let canonical = json!({ "crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"] }).to_string();
    let proof = format!("{token}.{}", B64.encode(sha256(&canonical)));
    (authorization, found["url"].as_str().unwrap().to_owned(), token, proof)
}

/// Starts the validation and waits for its end: the status, and the error if there is one.
async fn outcome(raw: &Raw, authorization: &str, challenge: &str) -> (String, Value) {
    raw.post(challenge, &json!({})).await;
    eventually("the validation", || async {
        let reply = raw.get(authorization).await;
        let status = reply.body["status"].as_str().unwrap().to_owned();
        (status != "pending").then(|| (status, reply.body["challenges"][0]["error"].clone()))
    })
    .await
}

#[tokio::test]
async fn http_01_follows_redirects_but_not_for_ever() {
    let last = Lab::start().await.responder;
    let target = last.http;
    let hop = |to: String| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes();
    for (to, ends) in [("target", "valid"), ("/again", "invalid"), ("https://a.example/", "invalid")] {
        let to = if to == "target" {
            format!("http://b.example:{}/.well-known/acme-challenge/fixed", target.port())
        } else {
            to.to_owned()
        };
        let lab = lab(Some(says(hop(to)).await.port()), None).await;
        let raw = lab.raw().await;
        let (authorization, url, _, proof) = challenge(&raw, "a.example", "http-01").await;
        last.answer("fixed", &format!("{proof}\r\n"));
        let (status, error) = outcome(&raw, &authorization, &url).await;
        assert_eq!(status, ends, "{error}");
    }
}

#[tokio::test]
async fn http_01_bounds_what_it_reads_and_how_long_it_waits() {
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'a'; 100_000]].concat();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    for (server, kind, seen) in [
        (says(endless).await, "incorrectResponse", "more than 4096 bytes"),
        (says(Vec::new()).await, "connection", "no response"),
        (says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort".to_vec()).await, "connection", "no response"),
        (says(b"garbage\r\n\r\n".to_vec()).await, "connection", "http://a.example"),
        (closed, "connection", "cannot be reached"),
    ] {
        let lab = lab(Some(server.port()), None).await;
        let raw = lab.raw().await;
        let (authorization, url, ..) = challenge(&raw, "a.example", "http-01").await;
        let began = Instant::now();
        let (status, error) = outcome(&raw, &authorization, &url).await;
        assert_eq!(status, "invalid");
        assert!(error["type"].as_str().unwrap().ends_with(kind), "{error}");
        assert!(error["detail"].as_str().unwrap().contains(seen), "{error}");
        assert!(error["detail"].as_str().unwrap().len() < 1_000, "what others say is cut");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_host_is_found_by_the_map_or_the_system() {
    let lab = Lab::with(|config| {
        if let Validation::On(validator) = &mut config.validation {
            validator.other_hosts = Hosts::System;
            validator.hosts = [("mapped.example".to_owned(), Ipv4Addr::LOCALHOST.into())].into();
        }
    })
    .await;
    let raw = lab.raw().await;
    for (name, ends) in [("mapped.example", "valid"), ("localhost", "valid"), ("no-such-name.invalid", "invalid")] {
        let (authorization, url, token, proof) = challenge(&raw, name, "http-01").await;
        lab.responder.answer(&token, &proof);
        let (status, error) = outcome(&raw, &authorization, &url).await;
        assert_eq!(status, ends, "{name}: {error}");
    }
}

/// What a TLS server shows.
struct Shown<'a> {
    names: &'a [&'a str],
    digest: Option<Vec<u8>>,
    critical: bool,
    alpn: &'a [u8],
    version: &'static rustls::SupportedProtocolVersion,
}

async fn tls_server(shown: Arc<std::sync::Mutex<Option<Arc<rustls::ServerConfig>>>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let config = shown.lock().unwrap().clone().unwrap();
            drop(tokio_rustls::TlsAcceptor::from(config).accept(stream).await);
        }
    });
    address
}

fn tls_config(shown: &Shown<'_>) -> Arc<rustls::ServerConfig> {
    let names: Vec<String> = shown.names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    if let Some(digest) = &shown.digest {
        let mut extension = rcgen::CustomExtension::new_acme_identifier(digest);
        extension.set_criticality(shown.critical);
        params.custom_extensions = vec![extension];
    }
    let key = key();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![certificate], signing);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[shown.version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    if !shown.alpn.is_empty() {
        config.alpn_protocols = vec![shown.alpn.to_vec()];
    }
    Arc::new(config)
}

#[tokio::test]
async fn tls_alpn_01_wants_protocol_name_and_digest_over_both_versions() {
    let shown = Arc::new(std::sync::Mutex::new(None));
    let lab = lab(None, Some(tls_server(shown.clone()).await.port())).await;
    let raw = lab.raw().await;
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let alpn: &[u8] = b"acme-tls/1";
    for (why, names, alpn, version, critical, proof_shown, ends, seen) in [
        ("right over 1.3", &["a.example"][..], alpn, tls13, true, Some(true), "valid", ""),
        ("right over 1.2", &["a.example"], alpn, tls12, true, Some(true), "valid", ""),
        ("no protocol", &["a.example"], b"", tls13, true, Some(true), "invalid", "did not agree"),
        ("another protocol", &["a.example"], b"http/1.1", tls13, true, Some(true), "invalid", "tls"),
        ("another name", &["b.example"], alpn, tls13, true, Some(true), "invalid", "expected a.example alone"),
        (
            "a name more",
            &["a.example", "b.example"],
            alpn,
            tls13,
            true,
            Some(true),
            "invalid",
            "expected a.example alone",
        ),
        ("another digest", &["a.example"], alpn, tls13, true, Some(false), "invalid", "another digest"),
        ("no digest", &["a.example"], alpn, tls12, true, None, "invalid", "no acmeIdentifier"),
        ("not critical", &["a.example"], alpn, tls13, false, Some(true), "invalid", "not critical"),
    ] {
        let (authorization, url, _, proof) = challenge(&raw, "a.example", "tls-alpn-01").await;
        let digest = proof_shown.map(|right| sha256(if right { &proof } else { "x" }).to_vec());
        *shown.lock().unwrap() = Some(tls_config(&Shown { names, digest, critical, alpn, version }));
        let (status, error) = outcome(&raw, &authorization, &url).await;
        assert_eq!(status, ends, "{why}: {error}");
        assert!(error.to_string().contains(seen), "{why}: {error}");
    }
}
