//! Our own listeners for http-01 and tls-alpn-01.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use keyward::adapters::challenge::{Binding, MOST_PRESENTED, SolverKind};
use keyward::domain::execution::Fault;
use keyward::ports::{ChallengeKind, ChallengeTask, Solver as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::harness::challenge::{free_port, id, raw, start, task, until};

fn http(bind: SocketAddr, binding: Binding) -> SolverKind {
    SolverKind::Http01Listener { bind: vec![bind], binding }
}

fn alpn(bind: SocketAddr) -> SolverKind {
    SolverKind::TlsAlpn01Listener { bind: vec![bind], binding: Binding::WhilePresented }
}

async fn get(address: SocketAddr, path: &str, host: &str) -> std::io::Result<String> {
    raw(address, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn a_token_is_answered_while_it_is_presented_and_nothing_else_is() {
    let at = free_port();
    let solvers = start(http(at, Binding::Always)).await.unwrap();
    let (a, b) =
        (task(ChallengeKind::Http01, "a.example.com", "tokA"), task(ChallengeKind::Http01, "192.0.2.1", "tokB"));
    solvers.present(&id("s"), &a).await.unwrap();
    solvers.present(&id("s"), &a).await.unwrap();
    solvers.present(&id("s"), &b).await.unwrap();
    for host in ["a.example.com", "elsewhere.example", "192.0.2.1:80"] {
        let answer = get(at, "/.well-known/acme-challenge/tokA", host).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("content-type: application/octet-stream\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{}", a.key_authorization)), "{answer}");
    }
    for path in [
        "/",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/tok",
        "/.well-known/acme-challenge/tokA2",
        "/.well-known/acme-challenge/tokA/",
        "/.well-known/acme-challenge/../acme-challenge/tokA",
        "/.well-known/acme-challenge/tok%41",
        "//.well-known/acme-challenge/tokA",
    ] {
        let answer = get(at, path, "a.example.com").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.contains("thumbprint"), "{path}: {answer}");
    }
    let post = b"POST /.well-known/acme-challenge/tokA HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert!(raw(at, post).await.unwrap().starts_with("HTTP/1.1 404"));
    let head = b"HEAD /.well-known/acme-challenge/tokA HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = raw(at, head).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");

    solvers.cleanup(&id("s"), &a).await.unwrap();
    solvers.cleanup(&id("s"), &a).await.unwrap();
    assert!(get(at, "/.well-known/acme-challenge/tokA", "a").await.unwrap().starts_with("HTTP/1.1 404"));
    assert!(get(at, "/.well-known/acme-challenge/tokB", "a").await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_port_is_held_from_the_first_response_to_the_last_and_free_otherwise() {
    let at = free_port();
    let solvers = start(http(at, Binding::WhilePresented)).await.unwrap();
    let (a, b) = (task(ChallengeKind::Http01, "a.example.com", "a"), task(ChallengeKind::Http01, "b.example.com", "b"));
    for _ in 0..3 {
        drop(TcpListener::bind(at).expect("free before the first response"));
        solvers.present(&id("s"), &a).await.unwrap();
        solvers.present(&id("s"), &b).await.unwrap();
        // A connection that is still open must not keep the port.
        let _idle = TcpStream::connect(at).await.unwrap();
        solvers.cleanup(&id("s"), &a).await.unwrap();
        assert!(get(at, "/.well-known/acme-challenge/b", "b").await.unwrap().contains("thumbprint"));
        assert!(TcpListener::bind(at).is_err(), "held while b is presented");
        solvers.cleanup(&id("s"), &b).await.unwrap();
        assert!(TcpStream::connect(at).await.is_err(), "nothing may listen after the last cleanup");
    }
}

#[tokio::test]
async fn a_port_that_another_server_holds_is_the_hosts_fault_and_works_once_it_is_free() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = held.local_addr().unwrap();
    let solvers = start(http(at, Binding::WhilePresented)).await.unwrap();
    let a = task(ChallengeKind::Http01, "a.example.com", "a");
    let error = solvers.present(&id("s"), &a).await.unwrap_err();
    assert_eq!(error.fault, Fault::Host);
    assert!(error.text.contains(&at.to_string()) && error.text.contains("webroot"), "{}", error.text);
    drop(held);
    solvers.present(&id("s"), &a).await.unwrap();
    assert!(get(at, "/.well-known/acme-challenge/a", "a").await.unwrap().contains("thumbprint"));
}

#[tokio::test]
async fn ipv4_and_ipv6_of_one_port_are_bound_side_by_side() {
    let port = free_port().port();
    let bind = vec![format!("0.0.0.0:{port}").parse().unwrap(), format!("[::]:{port}").parse().unwrap()];
    let solvers = start(SolverKind::Http01Listener { bind, binding: Binding::WhilePresented }).await.unwrap();
    solvers.present(&id("s"), &task(ChallengeKind::Http01, "a.example.com", "a")).await.unwrap();
    for at in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert!(get(at.parse().unwrap(), "/.well-known/acme-challenge/a", "a").await.unwrap().contains("thumbprint"));
    }
}

#[tokio::test]
async fn at_most_a_thousand_responses_are_presented_at_once() {
    let at = free_port();
    let solvers = start(http(at, Binding::WhilePresented)).await.unwrap();
    let nth = |i: usize| task(ChallengeKind::Http01, "a.example.com", &format!("t{i}"));
    for i in 0..MOST_PRESENTED {
        solvers.present(&id("s"), &nth(i)).await.unwrap();
    }
    let error = solvers.present(&id("s"), &nth(MOST_PRESENTED)).await.unwrap_err();
    assert!(error.text.contains("1000 challenges"), "{}", error.text);
    assert!(get(at, "/.well-known/acme-challenge/t999", "a").await.unwrap().contains("t999.thumbprint"));
}

#[tokio::test]
async fn idle_and_endless_clients_are_cut_off_after_ten_seconds_and_hold_no_one_up_for_longer() {
    let at = free_port();
    let solvers = start(http(at, Binding::Always)).await.unwrap();
    solvers.present(&id("s"), &task(ChallengeKind::Http01, "a.example.com", "a")).await.unwrap();
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!(!raw(at, huge.as_bytes()).await.unwrap_or_default().starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(at).await.unwrap());
    }
    let answer = get(at, "/.well-known/acme-challenge/a", "a").await.unwrap();
    assert!(answer.contains("thumbprint"), "{answer}");
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(8), "300 idle clients fitted into 256 places after {waited:?}");
    assert!(waited < Duration::from_secs(14), "{waited:?}");
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_secs(1), idle[0].read(&mut byte)).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "the first idle client must be cut off: {end:?}");
}

/// Takes any certificate: the test looks at it itself.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        // By the bare key: as a server certificate rustls refuses the critical acmeIdentifier.
        let (_, parsed) = X509Certificate::from_der(cert).unwrap();
        let key = rustls::pki_types::SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, dss, &algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a validator sees.
async fn seen(at: SocketAddr, sni: &str, protocols: &[&str]) -> std::io::Result<CertificateDer<'static>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(at).await?;
    let mut tls = connector.connect(ServerName::try_from(sni.to_owned()).unwrap(), stream).await?;
    let (_, connection) = tls.get_ref();
    assert_eq!(connection.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let certificates = connection.peer_certificates().unwrap();
    assert_eq!(certificates.len(), 1);
    let certificate = certificates[0].clone().into_owned();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(2), tls.read_to_end(&mut rest)).await;
    assert!(matches!(end, Ok(Ok(0))), "the server closes after the handshake: {end:?}");
    Ok(certificate)
}

fn assert_answers(certificate: &CertificateDer<'_>, task: &ChallengeTask, name: &GeneralName<'_>) {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, std::slice::from_ref(name));
    let acme: Vec<_> = parsed.extensions().iter().filter(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").collect();
    assert_eq!(acme.len(), 1);
    assert!(acme[0].critical, "RFC 8737 section 3: the extension is critical");
    // An OCTET STRING of 32 bytes.
    let expected = [&[4, 32], digest(&SHA256, task.key_authorization.as_bytes()).as_ref()].concat();
    assert_eq!(acme[0].value, expected);
}

#[tokio::test]
async fn a_validator_sees_one_name_and_the_critical_digest_for_names_and_addresses() {
    let at = free_port();
    let solvers = start(alpn(at)).await.unwrap();
    let dns = task(ChallengeKind::TlsAlpn01, "a.example.com", "dns");
    let v4 = task(ChallengeKind::TlsAlpn01, "192.0.2.1", "v4");
    let v6 = task(ChallengeKind::TlsAlpn01, "2001:db8::1", "v6");
    for task in [&dns, &v4, &v6] {
        solvers.present(&id("s"), task).await.unwrap();
    }
    let only = &["acme-tls/1"];
    assert_answers(&seen(at, "a.example.com", only).await.unwrap(), &dns, &GeneralName::DNSName("a.example.com"));
    assert_answers(&seen(at, "A.Example.COM", only).await.unwrap(), &dns, &GeneralName::DNSName("a.example.com"));
    let certificate = seen(at, "1.2.0.192.in-addr.arpa", only).await.unwrap();
    assert_answers(&certificate, &v4, &GeneralName::IPAddress(&[192, 0, 2, 1]));
    let reverse = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
    let bytes = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_answers(&seen(at, &reverse, only).await.unwrap(), &v6, &GeneralName::IPAddress(&bytes));
}

#[tokio::test]
async fn nobody_but_a_validator_of_a_presented_name_gets_a_handshake() {
    let at = free_port();
    let solvers = start(alpn(at)).await.unwrap();
    let a = task(ChallengeKind::TlsAlpn01, "a.example.com", "a");
    let b = task(ChallengeKind::TlsAlpn01, "b.example.com", "b");
    drop(TcpListener::bind(at).expect("free before the first response"));
    solvers.present(&id("s"), &a).await.unwrap();
    solvers.present(&id("s"), &b).await.unwrap();
    assert!(seen(at, "a.example.com", &["acme-tls/1"]).await.is_ok());
    for (sni, protocols) in [
        ("c.example.com", &["acme-tls/1"][..]),
        ("a.example.com", &["h2", "http/1.1"]),
        ("a.example.com", &[]),
        ("x.a.example.com", &["acme-tls/1"]),
        ("127.0.0.1", &["acme-tls/1"]),
    ] {
        assert!(seen(at, sni, protocols).await.is_err(), "{sni} {protocols:?}");
    }
    solvers.cleanup(&id("s"), &a).await.unwrap();
    assert!(seen(at, "a.example.com", &["acme-tls/1"]).await.is_err(), "cleaned up");
    solvers.cleanup(&id("s"), &b).await.unwrap();
    assert!(TcpStream::connect(at).await.is_err(), "nothing may listen after the last cleanup");
    until("the port", Duration::from_secs(2), || async { TcpListener::bind(at).ok() }).await;
}

#[tokio::test]
async fn of_two_orders_for_one_name_the_newest_is_shown_and_then_the_other() {
    let at = free_port();
    let solvers = start(alpn(at)).await.unwrap();
    let old = task(ChallengeKind::TlsAlpn01, "a.example.com", "z-old");
    let new = task(ChallengeKind::TlsAlpn01, "a.example.com", "a-new");
    let name = GeneralName::DNSName("a.example.com");
    solvers.present(&id("s"), &old).await.unwrap();
    solvers.present(&id("s"), &new).await.unwrap();
    assert_answers(&seen(at, "a.example.com", &["acme-tls/1"]).await.unwrap(), &new, &name);
    solvers.cleanup(&id("s"), &new).await.unwrap();
    assert_answers(&seen(at, "a.example.com", &["acme-tls/1"]).await.unwrap(), &old, &name);
}
