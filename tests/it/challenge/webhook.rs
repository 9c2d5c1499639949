//! dns-01 by a signed request.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::adapters::challenge::dns::{Delegation, Propagation, Provider};
use keyward::adapters::challenge::webhook::WebhookConfig;
use keyward::adapters::challenge::{Secret, SolverKind};
use keyward::domain::execution::Fault;
use keyward::ports::{ChallengeKind, Solver as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::challenge::{id, start, task};

/// A request as it came: request line, headers in lower case, body.
#[derive(Clone)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Answers every request with `answer` and keeps what came.
async fn receiver(answer: Vec<u8>) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?key=canary", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let request = loop {
                let mut buffer = [0; 4_096];
                let length = stream.read(&mut buffer).await.unwrap();
                assert!(length > 0, "the request ended early");
                bytes.extend_from_slice(&buffer[..length]);
                if let Some(request) = parse(&String::from_utf8_lossy(&bytes)) {
                    break request;
                }
            };
            kept.lock().unwrap().push(request);
            stream.write_all(&answer).await.ok();
        }
    });
    (url, requests)
}

fn parse(text: &str) -> Option<Request> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (line, rest) = head.split_once("\r\n")?;
    let headers: BTreeMap<String, String> =
        rest.lines().map(|l| l.split_once(": ").unwrap()).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let whole = body.len() >= headers["content-length"].parse().unwrap();
    whole.then(|| Request { line: line.to_owned(), headers, body: body.to_owned() })
}

fn solver(url: &str, key: &[u8], timeout: Duration) -> SolverKind {
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode(key)).into_bytes());
    SolverKind::Dns01 {
        provider: Provider::Webhook(WebhookConfig { url: url.to_owned(), secret, timeout }),
        propagation: Propagation { check: false, ..Propagation::default() },
        delegation: Delegation::Ignore,
    }
}

/// HMAC-SHA256 by OpenSSL.
fn openssl_hmac(key: &[u8], message: &str) -> Vec<u8> {
    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{hex}"), "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is missing: run tests/run, which installs it");
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[tokio::test]
async fn a_request_carries_the_record_and_a_signature_that_openssl_confirms() {
    let (url, requests) = receiver(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec()).await;
    let key: Vec<u8> = (7..39).collect();
    let solvers = start(solver(&url, &key, Duration::from_secs(15))).await.unwrap();
    let task = task(ChallengeKind::Dns01, "a.example.com", "tok");
    solvers.present(&id("s"), &task).await.unwrap();
    solvers.cleanup(&id("s"), &task).await.unwrap();
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 2);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (request, action) in requests.iter().zip(["present", "cleanup"]) {
        assert_eq!(request.line, "POST /hook?key=canary HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/json");
        let (id, at) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
        assert!(now.abs_diff(at.parse().unwrap()) < 60);
        let tag = STANDARD.encode(openssl_hmac(&key, &format!("{id}.{at}.{}", request.body)));
        assert_eq!(request.headers["webhook-signature"], format!("v1,{tag}"));
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, task.key_authorization.as_bytes());
        let value = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest);
        let expected = serde_json::json!({"type": "dns-01", "action": action, "name": "a.example.com",
            "record": "_acme-challenge.a.example.com", "value": value});
        assert_eq!(body, expected);
    }
    assert_ne!(requests[0].headers["webhook-id"], requests[1].headers["webhook-id"]);
}

#[tokio::test]
async fn only_2xx_is_success_and_a_redirect_is_not_followed() {
    let (elsewhere, there) = receiver(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let moved =
        format!("HTTP/1.1 307 Moved\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let broken = "HTTP/1.1 500 Broken\r\nContent-Length: 12\r\nConnection: close\r\n\r\nzone\u{7} locked".to_owned();
    for (answer, expected) in
        [(moved, "307"), (broken, "500 Internal Server Error; expected 2xx; it said \"zone\\u{7} lock")]
    {
        let (url, requests) = receiver(answer.into_bytes()).await;
        let solvers = start(solver(&url, &[7; 32], Duration::from_secs(15))).await.unwrap();
        let error = solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap_err();
        assert_eq!(error.fault, Fault::Host);
        assert!(error.text.contains(expected), "{}", error.text);
        assert!(!error.text.contains("canary"), "an address may hold a secret: {}", error.text);
        assert_eq!(requests.lock().unwrap().len(), 1, "nothing is retried here");
    }
    assert!(there.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_silent_or_endless_receiver_costs_a_bounded_time_and_text() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let solvers = start(solver(&url, &[7; 32], Duration::from_secs(1))).await.unwrap();
    let began = Instant::now();
    let error = solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap_err();
    assert_eq!(error.fault, Fault::Network);
    assert!(began.elapsed() < Duration::from_secs(4) && error.text.contains("timed out"), "{}", error.text);

    let mut endless = b"HTTP/1.1 503 Busy\r\nContent-Length: 9000000\r\n\r\n".to_vec();
    endless.resize(1_000_000, b'x');
    let (url, _) = receiver(endless).await;
    let solvers = start(solver(&url, &[7; 32], Duration::from_secs(5))).await.unwrap();
    let error = solvers.present(&id("s"), &task(ChallengeKind::Dns01, "a.example.com", "t")).await.unwrap_err();
    assert!(error.text.contains("503") && error.text.len() < 600, "{}", error.text.len());
    drop(silent);
}

#[tokio::test]
async fn a_receiver_whose_certificate_nobody_vouches_for_gets_nothing() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let solvers = start(solver(&url, &[7; 32], Duration::from_secs(5))).await.unwrap();
    let (solver, task) = (id("s"), task(ChallengeKind::Dns01, "a.example.com", "t"));
    let (presented, handshake) = tokio::join!(solvers.present(&solver, &task), async {
        acceptor.accept(listener.accept().await.unwrap().0).await.map(|_| ())
    });
    let error = presented.unwrap_err();
    assert!(handshake.is_err());
    assert_eq!(error.fault, Fault::Network);
    assert!(error.text.contains("certificate"), "{}", error.text);
}
