//! The ACME directory of a private CA: orders that are ready, finalized over TLS, until each is `valid`.
//!
//! The client is the bench's own and does no more than it must, because it shares the machine with the daemon: a kept
//! connection, an account and a nonce for each request in flight.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::private::Daemon;
use crate::report::figure;
use crate::site::Site;

/// Finalize requests in flight.
const IN_FLIGHT: usize = 64;
/// Orders for each of them, if nothing else is said: some seconds at the rate that is wanted.
const ORDERS_EACH: usize = 150;
/// The HMAC key of every external account key here.
const MAC: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// A directory answers within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finalizes `count` orders that are ready, 64 in flight: the rate, and how long each took.
pub fn finalize(site: &Site) {
    let each = if site.count > 1 { site.count.div_ceil(IN_FLIGHT) } else { ORDERS_EACH };
    let proofs = Proofs::default();
    let (web, dns) = (proofs.clone().serve(), name_server());
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let dir = site.dir.join("directory");
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).expect("a directory");
    let tls = server_identity(&dir, listen);
    std::fs::write(dir.join("mac"), B64.encode(MAC)).expect("a file");
    let at = |file: &str| dir.join(file).display().to_string();
    let daemon = Daemon::made(
        &dir,
        &format!(
            "[[acme_directory]]\nid = \"corp\"\nlisten = \"{listen}\"\nurl = \"https://{listen}\"\nca = \"mesh\"\n\
             profiles = [\"workload\"]\nchallenges = [\"http-01\"]\nresolver = \"{dns}\"\nhttp_port = {}\n\
             allow = [\"127.0.0.0/8\"]\ncertificate_file = {:?}\nkey_file = {:?}\norders_per_hour = 1000000\n\
             failures_per_hour = 1000000\naccounts_per_hour = 1000000\nopen_orders = 10000\n\
             [[acme_directory.key]]\nid = \"bench\"\nhmac_file = {:?}\nnames = [\"*.svc.example\"]\n",
            web.port(),
            at("acme.pem"),
            at("acme.key"),
            at("mac"),
        ),
    );
    let began = Instant::now();
    let mut clients: Vec<(Client, Vec<Ready>)> = in_parallel((0..IN_FLIGHT).collect(), |i| {
        let mut client = Client::registered(listen, tls.clone());
        let orders = client.orders(i, each, &proofs);
        (client, orders)
    });
    let prepared = began.elapsed().as_secs_f64();
    figure("orders brought to ready", "/s", (IN_FLIGHT * each) as f64 / prepared);
    let (began, before) = (Instant::now(), daemon.times());
    let mut spans: Vec<f64> = in_parallel(clients.iter_mut().collect(), |(client, orders)| {
        orders.iter().map(|order| client.finalized(order)).collect::<Vec<f64>>()
    })
    .into_iter()
    .flatten()
    .collect();
    let row = format!("orders finalized, {IN_FLIGHT} in flight");
    figure(&row, "/s", spans.len() as f64 / began.elapsed().as_secs_f64());
    spans.sort_by(f64::total_cmp);
    for per_mille in [500, 990] {
        let at = (spans.len() * per_mille / 1_000).min(spans.len() - 1);
        figure(&format!("{row}: p{}", per_mille / 10), "ms", spans[at] * 1e3);
    }
    daemon.costs(before, &row, spans.len());
}

fn in_parallel<T: Send, R: Send>(all: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    })
}

/// The directory's own certificate from a CA of its own, and what a client needs to believe it.
fn server_identity(dir: &Path, at: SocketAddr) -> Arc<ClientConfig> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "bench root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a root").der().clone();
    let leaf = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec![at.ip().to_string()]).expect("a name");
    let own = own.signed_by(&leaf, &Issuer::from_params(&params, &key)).expect("a certificate");
    std::fs::write(dir.join("acme.pem"), own.pem()).expect("a file");
    std::fs::write(dir.join("acme.key"), leaf.serialize_pem()).expect("a file");
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(builder.expect("TLS").with_root_certificates(roots).with_no_client_auth())
}

/// An order that waits to be finalized, with the body for it.
struct Ready {
    order: String,
    finalize: String,
    body: String,
}

struct Reply {
    status: u16,
    location: String,
    body: Value,
}

/// An ACME client with one connection.
struct Client {
    at: SocketAddr,
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    key: EcdsaKeyPair,
    random: SystemRandom,
    kid: Option<String>,
    /// From the last answer.
    nonce: String,
}

impl Client {
    /// Connected, with an account.
    fn registered(at: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        let began = Instant::now();
        let tcp = loop {
            match TcpStream::connect(at) {
                Ok(tcp) => break tcp,
                Err(_) if began.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => panic!("the directory does not answer: {error}"),
            }
        };
        tcp.set_nodelay(true).expect("an option");
        tcp.set_read_timeout(Some(PATIENCE)).expect("an option");
        let connection = ClientConnection::new(tls, ServerName::from(at.ip())).expect("a connection");
        let mut client = Self {
            at,
            stream: BufReader::new(StreamOwned::new(connection, tcp)),
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            random: SystemRandom::new(),
            kid: None,
            nonce: String::new(),
        };
        client.ask(&format!("HEAD /nonce HTTP/1.1\r\nHost: {at}\r\n\r\n"), true);
        let url = client.url("/account/new");
        let protected = json!({ "alg": "HS256", "kid": "bench", "url": url }).to_string();
        let signed = format!("{}.{}", B64.encode(protected), B64.encode(client.jwk().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, MAC), signed.as_bytes());
        let (protected, payload) = signed.split_once('.').expect("two parts");
        let binding = json!({ "protected": protected, "payload": payload, "signature": B64.encode(tag) });
        let account = json!({ "termsOfServiceAgreed": true, "externalAccountBinding": binding });
        client.kid = Some(client.post(&url, &account.to_string(), 201).location);
        client
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.at)
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({ "crv": "P-256", "kty": "EC", "x": B64.encode(x), "y": B64.encode(y) })
    }

    /// So many orders that are ready: all of them are proved side by side.
    fn orders(&mut self, own: usize, count: usize, proofs: &Proofs) -> Vec<Ready> {
        // The members are in the order of RFC 7638 already.
        let thumbprint = B64.encode(digest(&SHA256, self.jwk().to_string().as_bytes()));
        let new = self.url("/order/new");
        let orders: Vec<Ready> = (0..count)
            .map(|i| {
                let name = format!("h{own}-{i}.svc.example");
                let wanted = json!({ "identifiers": [{ "type": "dns", "value": name }] });
                let order = self.post(&new, &wanted.to_string(), 201);
                let authorization = self.post(text(&order.body["authorizations"][0]), "", 200);
                let challenge = &authorization.body["challenges"][0];
                proofs.put(text(&challenge["token"]), &thumbprint);
                self.post(text(&challenge["url"]), "{}", 200);
                let mut params = CertificateParams::new(vec![name]).expect("a name");
                params.distinguished_name = DistinguishedName::new();
                let key = KeyPair::generate().expect("a key");
                let csr = params.serialize_request(&key).expect("a request");
                let body = json!({ "csr": B64.encode(csr.der()) }).to_string();
                Ready { order: order.location, finalize: text(&order.body["finalize"]).to_owned(), body }
            })
            .collect();
        for order in &orders {
            self.wait(&order.order, "pending", "ready");
        }
        orders
    }

    /// How many seconds it took from the request until the order was known to be valid.
    fn finalized(&mut self, order: &Ready) -> f64 {
        let began = Instant::now();
        let reply = self.post(&order.finalize, &order.body, 200);
        if reply.body["status"] != "valid" {
            self.wait(&order.order, "processing", "valid");
        }
        began.elapsed().as_secs_f64()
    }

    /// Asks for an order until it is no longer `from`, and so `to`.
    fn wait(&mut self, order: &str, from: &str, to: &str) {
        let began = Instant::now();
        loop {
            let seen = self.post(order, "", 200).body;
            if seen["status"] == to {
                return;
            }
            assert!(seen["status"] == from && began.elapsed() < PATIENCE, "{seen}; see the log beside the state");
            // Seldom enough that waiting costs the daemon little.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A signed request (RFC 8555 section 6.2); an empty payload is a POST-as-GET.
    fn post(&mut self, url: &str, payload: &str, status: u16) -> Reply {
        let mut header = json!({ "alg": "ES256", "nonce": self.nonce, "url": url });
        match &self.kid {
            Some(kid) => header["kid"] = json!(kid),
            None => header["jwk"] = self.jwk(),
        }
        let (protected, payload) = (B64.encode(header.to_string()), B64.encode(payload));
        let message = format!("{protected}.{payload}");
        let signature = self.key.sign(&self.random, message.as_bytes()).expect("a signature");
        let signature = B64.encode(signature);
        let body = format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#);
        let path = url.strip_prefix(&self.url("")).expect("a URL of the directory");
        let (host, length) = (self.at, body.len());
        let reply = self.ask(
            &format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/jose+json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ),
            false,
        );
        assert_eq!(reply.status, status, "{url}: {}", reply.body);
        reply
    }

    /// One exchange. The nonce of its answer is kept for the next one.
    fn ask(&mut self, request: &str, bodiless: bool) -> Reply {
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes()).expect("asked");
        stream.flush().expect("asked");
        let (mut line, mut length) = (String::new(), 0);
        self.stream.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let mut location = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a length"),
                "location" => value.clone_into(&mut location),
                "replay-nonce" => value.clone_into(&mut self.nonce),
                _ => {}
            }
        }
        let mut body = vec![0; if bodiless { 0 } else { length }];
        self.stream.read_exact(&mut body).expect("a body");
        Reply { status, location, body: serde_json::from_slice(&body).unwrap_or_default() }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// What http-01 finds: a thumbprint for each token.
#[derive(Clone, Default)]
struct Proofs(Arc<Mutex<BTreeMap<String, String>>>);

impl Proofs {
    fn put(&self, token: &str, thumbprint: &str) {
        self.0.lock().expect("a lock").insert(token.to_owned(), format!("{token}.{thumbprint}"));
    }

    fn serve(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // One after the other: each has sent all of it when it is accepted, or will at once.
                self.answer(stream).ok();
            }
        });
        at
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut reader = BufReader::new(stream);
        let (mut first, mut line) = (String::new(), String::new());
        reader.read_line(&mut first)?;
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let token = first.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let proof = self.0.lock().expect("a lock").get(token).cloned().unwrap_or_default();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", proof.len());
        reader.get_mut().write_all((head + &proof).as_bytes())
    }
}

/// A DNS server: every name is at 127.0.0.1 and has nothing else (RFC 1035 section 4).
fn name_server() -> SocketAddr {
    const HEADER: usize = 12;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let mut end = HEADER;
            while question[end] != 0 {
                end += 1 + usize::from(question[end]);
            }
            // The end of the name, its type and class.
            end += 5;
            let answers = u8::from(question[end - 4..end - 2] == [0, 1]);
            let mut answer = question[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
            answer.extend(&question[HEADER..end]);
            if answers == 1 {
                // The name of the question, A, IN, a minute, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(Ipv4Addr::LOCALHOST.octets());
            }
            socket.send_to(&answer, from).ok();
        }
    });
    at
}
