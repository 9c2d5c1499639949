//! A CA as small as a test needs it: it answers by a closure, and can drop, stall or break any answer. It believes every
//! signature.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keyward::adapters::acme::AcmeIssuerConfig;
use keyward::domain::id::IssuerId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::acme::Acme;

/// A request as the CA reads it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub head: String,
    /// The protected header, or null.
    pub protected: Value,
    /// The payload, or null for POST-as-GET.
    pub payload: Value,
}

impl Asked {
    /// The account URL that signed, or the x coordinate of the key that did.
    pub fn signer(&self) -> String {
        let kid = self.protected["kid"].as_str();
        kid.or(self.protected["jwk"]["x"].as_str()).unwrap_or_default().to_owned()
    }
}

/// What the CA does.
#[derive(Clone, Debug)]
pub enum Does {
    /// Answers with status, headers, body.
    Answers(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Closes the connection without a word.
    Drops,
    /// Sends the head and part of a body that it never finishes.
    Stalls(u16, Vec<(&'static str, String)>),
}

pub fn json_answer(status: u16, body: &Value) -> Does {
    Does::Answers(status, vec![], body.to_string().into_bytes())
}

pub fn problem(status: u16, kind: &str, detail: &str) -> Does {
    json_answer(status, &json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail }))
}

type Handler = dyn Fn(&Asked, &str) -> Option<Does> + Send + Sync;

/// The CA. `handler` gets the request and the base URL; for what it leaves open there are sane answers.
pub struct Fake {
    pub base: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub async fn start(handler: impl Fn(&Asked, &str) -> Option<Does> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, url) = (asked.clone(), base.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, handler.clone(), log.clone(), url.clone()));
            }
        });
        Self { base, asked, task }
    }

    pub fn config(&self) -> AcmeIssuerConfig {
        let mut config = AcmeIssuerConfig::new(IssuerId::parse("ca").unwrap(), format!("{}/dir", self.base));
        config.allow_http_directory_in_tests = true;
        config.requests_per_second = 1_000;
        // Shorter than any test's patience, longer than any answer that comes at all.
        config.timeouts.request = Duration::from_secs(2);
        config
    }

    pub fn acme(&self, accounts: &Path) -> Acme {
        Acme::new(self.config(), accounts)
    }

    pub fn directory(base: &str) -> Value {
        let at = |path: &str| format!("{base}{path}");
        json!({ "newNonce": at("/nonce"), "newAccount": at("/new-account"), "newOrder": at("/new-order"),
                "keyChange": at("/key-change"), "renewalInfo": at("/ari") })
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|a| a.path == path).count()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Asked>>>, base: String) {
    let Some(asked) = read(&mut stream).await else { return };
    log.lock().unwrap().push(asked.clone());
    let does = handler(&asked, &base).unwrap_or_else(|| usual(&asked, &base));
    let (status, headers, body, length) = match does {
        Does::Drops => return,
        Does::Answers(status, headers, body) => (status, headers, body.clone(), body.len()),
        Does::Stalls(status, headers) => (status, headers, b"{".to_vec(), 1_000),
    };
    let stalls = length != body.len();
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n");
    if !headers.iter().any(|(name, _)| *name == "Replay-Nonce") {
        let count = log.lock().unwrap().len();
        head.push_str(&format!("Replay-Nonce: nonce{count}\r\n"));
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.ok();
    if asked.method != "HEAD" {
        stream.write_all(&body).await.ok();
    }
    if stalls {
        // Until the client gives up.
        stream.read_u8().await.ok();
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length =
        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    while bytes.len() < end + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let jws: Value = serde_json::from_slice(&bytes[end..]).unwrap_or_default();
    let part = |name: &str| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(jws[name].as_str().unwrap_or_default()).unwrap();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Asked { method, path, protected: part("protected"), payload: part("payload"), head })
}

/// What a CA without quirks answers.
pub fn usual(asked: &Asked, base: &str) -> Does {
    let at = |path: &str| format!("{base}{path}");
    match asked.path.as_str() {
        "/dir" => json_answer(200, &Fake::directory(base)),
        "/nonce" => Does::Answers(200, vec![], vec![]),
        "/new-account" => Does::Answers(201, vec![("Location", at("/account/1"))], br#"{"status":"valid"}"#.to_vec()),
        "/new-order" => Does::Answers(201, vec![("Location", at("/order/1"))], b"{}".to_vec()),
        "/key-change" | "/account/1" => json_answer(200, &json!({ "status": "valid" })),
        "/order/1" => json_answer(200, &order(base, "pending", &["a.example.com"])),
        "/authz/0" => json_answer(200, &authorization(base, "a.example.com", "token")),
        _ => problem(404, "malformed", "no such thing"),
    }
}

pub fn order(base: &str, status: &str, names: &[&str]) -> Value {
    let identifiers: Vec<Value> = names.iter().map(|n| json!({ "type": "dns", "value": n })).collect();
    let authorizations: Vec<String> = (0..names.len()).map(|i| format!("{base}/authz/{i}")).collect();
    json!({ "status": status, "identifiers": identifiers, "authorizations": authorizations,
            "finalize": format!("{base}/finalize/1"), "certificate": format!("{base}/cert/1") })
}

pub fn authorization(base: &str, name: &str, token: &str) -> Value {
    json!({ "status": "pending", "identifier": { "type": "dns", "value": name }, "challenges": [
        { "type": "http-01", "status": "pending", "token": token, "url": format!("{base}/challenge/1") },
        { "type": "made-up-01", "status": "pending", "url": "nonsense" },
    ]})
}
