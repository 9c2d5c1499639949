//! A daemon with a private CA and an ACME directory over it, a DNS server for its validation, and clients.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use crate::acme_server::kit::{Raw, Reply, Responder, Signer, binding, client, csr, eventually, key};
use crate::ca::harness::Mesh;
use crate::harness::knot::{Key, Knot};
use crate::harness::life::{free_port, own_address};
use crate::harness::pki::{Ca, leaf_params, nothing};

/// The HMAC key behind every key id of these tests.
pub const MAC: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

/// What the directory's section has by default; a line that begins like one of these takes its place.
const USUAL: [&str; 4] = [
    "ca = \"mesh\"",
    "profiles = [\"workload\", \"short\"]",
    "challenges = [\"http-01\", \"tls-alpn-01\", \"dns-01\"]",
    "allow = [\"127.0.0.0/8\"]",
];

fn usual(own: &str) -> String {
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let has = |line: &str| own.lines().any(|l| key(l) == key(line));
    USUAL.iter().filter(|line| !has(line)).map(|line| format!("{line}\n")).collect()
}
/// The keys of external accounts, if a test has none of its own.
pub const KEYS: &str = "[[acme_directory.key]]\nid = \"web\"\nhmac_file = \"@/web.key\"\nnames = [\"*.svc.example\", \"=*.svc.example\", \"127.0.0.0/8\"]\nowner = \"web team\"\n\
    [[acme_directory.key]]\nid = \"once\"\nhmac_file = \"@/web.key\"\nnames = [\"a.svc.example\"]\nprofiles = [\"short\"]\nsingle_use = true\n";

pub struct Corp {
    pub mesh: Mesh,
    pub ip: IpAddr,
    pub url: String,
    pub http: reqwest::Client,
    /// Where validation looks.
    pub web: SocketAddr,
    pub tls: SocketAddr,
    pub knot: Knot,
    pub tsig: Key,
    /// The root of the directory's own certificate.
    pub root: String,
}

impl Corp {
    /// With a CA that was made.
    pub fn made(directory: &str) -> Self {
        Self::with(directory, KEYS, "")
    }

    /// `directory` are more lines of its section, `keys` the sections of its keys, `more` is more configuration.
    pub fn with(directory: &str, keys: &str, more: &str) -> Self {
        let ip = own_address();
        let [listen, web, tls, dns] = [(); 4].map(|()| free_port(ip));
        let tsig = Key::new("update", "hmac-sha256");
        let zone = format!(
            "web A {ip}\na A {ip}\nb A {ip}\n*.many A {ip}\nfar A 169.254.169.254\nhome A 127.0.0.1\nlink AAAA fe80::1\n"
        );
        let knot = Knot::start(dns, &[], std::slice::from_ref(&tsig), &[("svc.example", &zone)]);
        let url = format!("https://{listen}");
        let section = format!(
            "[[acme_directory]]\nid = \"corp\"\nlisten = \"{listen}\"\nurl = \"{url}\"\n\
             certificate_file = \"@/acme.pem\"\nkey_file = \"@/acme.key\"\n\
             http_port = {}\ntls_port = {}\nresolver = \"{dns}\"\n{}{directory}",
            web.port(),
            tls.port(),
            usual(directory)
        );
        let text = format!("{section}\n{keys}{more}");
        let ca = Ca::root("Directory Root", nothing);
        let leaf = rcgen::KeyPair::generate().unwrap();
        let certificate = ca.sign(&leaf_params(&[&ip.to_string(), "localhost"]), &leaf);
        let root = pem(&ca.der);
        let mesh = Mesh::prepared("", &text, |dir| {
            fs::write(dir.join("acme.pem"), pem(&certificate)).unwrap();
            fs::write(dir.join("acme.key"), leaf.serialize_pem()).unwrap();
            fs::write(dir.join("web.key"), B64.encode(MAC)).unwrap();
            fs::write(dir.join("root.pem"), &root).unwrap();
        });
        mesh.ok(&["ca", "init", "mesh"]);
        let http = client(&root);
        Self { mesh, ip, url, http, web, tls, knot, tsig, root }
    }

    pub fn directory(&self) -> String {
        format!("{}/directory", self.url)
    }

    pub fn path(&self, file: &str) -> String {
        self.mesh.dir.path().join(file).display().to_string()
    }

    pub async fn responder(&self) -> Responder {
        Responder::on(self.ip, self.web.port(), self.tls.port()).await
    }

    /// A client that signs by hand, without an account.
    pub async fn stranger(&self) -> Raw {
        eventually("the directory", || async { self.http.get(self.directory()).send().await.ok() }).await;
        Raw::at(&self.http, &self.directory(), Signer::p256()).await
    }

    /// A client with an account of this external account key.
    pub async fn account(&self, kid: &str) -> Raw {
        let mut raw = self.stranger().await;
        let reply = self.register(&raw, kid).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        raw.kid = Some(reply.header("location").to_owned());
        raw
    }

    pub async fn register(&self, raw: &Raw, kid: &str) -> Reply {
        let url = raw.url("newAccount");
        let bound = binding(kid, &MAC, &url, &raw.signer.jwk());
        raw.post(&url, &json!({ "termsOfServiceAgreed": true, "externalAccountBinding": bound })).await
    }

    /// Puts the responses of an order in place by tls-alpn-01, and tells the directory.
    pub async fn prove_by_tls(&self, raw: &Raw, responder: &Responder, order: &Reply) {
        let thumbprint = thumbprint(&raw.signer.jwk());
        for url in order.body["authorizations"].as_array().unwrap() {
            let authorization = raw.get(url.as_str().unwrap()).await;
            let challenges = authorization.body["challenges"].as_array().unwrap();
            let alpn = challenges.iter().find(|c| c["type"] == "tls-alpn-01").unwrap();
            let proof = format!("{}.{thumbprint}", alpn["token"].as_str().unwrap());
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, proof.as_bytes());
            responder.present(authorization.body["identifier"]["value"].as_str().unwrap(), digest.as_ref());
            assert_eq!(raw.post(alpn["url"].as_str().unwrap(), &json!({})).await.status, 200);
        }
    }

    /// Puts the http-01 responses of an order in place and tells the directory.
    pub async fn prove(&self, raw: &Raw, responder: &Responder, order: &Reply) {
        let thumbprint = thumbprint(&raw.signer.jwk());
        for url in order.body["authorizations"].as_array().unwrap() {
            let authorization = raw.get(url.as_str().unwrap()).await;
            let challenges = authorization.body["challenges"].as_array().unwrap();
            let http = challenges.iter().find(|c| c["type"] == "http-01").unwrap();
            let token = http["token"].as_str().unwrap();
            responder.answer(token, &format!("{token}.{thumbprint}"));
            let reply = raw.post(http["url"].as_str().unwrap(), &json!({})).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }

    /// An order for these names that is ready.
    pub async fn ready(&self, raw: &Raw, responder: &Responder, names: &[&str]) -> Reply {
        let order = raw.order(names).await;
        assert_eq!(order.status, 201, "{order:?}");
        self.prove(raw, responder, &order).await;
        self.until(raw, &order, "ready").await;
        order
    }

    /// Asks for an order until it is like this.
    pub async fn until(&self, raw: &Raw, order: &Reply, status: &str) -> Reply {
        let url = order.header("location").to_owned();
        eventually(status, || async {
            let seen = raw.get(&url).await;
            (seen.body["status"] == status).then_some(seen)
        })
        .await
    }

    pub async fn finalize(&self, raw: &Raw, order: &Reply, names: &[&str]) -> Reply {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        raw.finalize(order, &csr(&names, &key())).await
    }

    /// All the way; gives the valid order and the chain.
    pub async fn issue(&self, raw: &Raw, responder: &Responder, names: &[&str]) -> (Reply, String) {
        let order = self.ready(raw, responder, names).await;
        self.finalize(raw, &order, names).await;
        let valid = self.until(raw, &order, "valid").await;
        let chain = raw.get(valid.body["certificate"].as_str().unwrap()).await;
        assert_eq!(chain.header("content-type"), "application/pem-certificate-chain");
        (valid, chain.text)
    }

    /// Runs a client's program, which succeeds.
    pub fn tool(&self, program: &str, env: &[(&str, &str)], args: &[&str]) -> Output {
        let out = self.tried(program, env, args);
        let text = || format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{program} {args:?}: {}\n{}", text(), self.log());
        out
    }

    /// Runs a client's program; it ends within a minute and a half.
    pub fn tried(&self, program: &str, env: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg("90").arg(program).args(args).current_dir(self.mesh.dir.path()).stdin(Stdio::null());
        command.envs(env.iter().copied()).env("HOME", self.mesh.dir.path());
        let out = command.output().unwrap();
        assert_ne!(out.status.code(), Some(127), "{program} is missing: run tests/run, which installs it");
        out
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.mesh.dir.path().join("log")).unwrap_or_default()
    }

    /// Leaves of the CA, and how many of them are revoked.
    pub fn leaves(&self) -> (u64, u64) {
        let generation = &self.mesh.status()["cas"][0]["generations"][0];
        (generation["leaves"].as_u64().unwrap(), generation["revoked"].as_u64().unwrap())
    }

    /// The orders that wait.
    pub fn waiting(&self) -> Vec<Value> {
        let (_, text) = self.mesh.run(&["acme", "orders", "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// How often an action stands in the audit log.
    pub fn entries(&self, action: &str) -> usize {
        let lines = self.mesh.bytes(&["audit", "query", "--action", action, "-o", "jsonl"]);
        String::from_utf8(lines).unwrap().lines().count()
    }
}

pub fn thumbprint(jwk: &Value) -> String {
    // The members of a P-256 key are in order already.
    let canonical = format!("{{\"crv\":{},\"kty\":{},\"x\":{},\"y\":{}}}", jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]);
    B64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes()))
}

pub fn pem(der: &[u8]) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

pub fn der_of(chain: &str) -> Vec<u8> {
    crate::acme_server::kit::ders(chain)[0].to_vec()
}

/// For polls that wait for something slow.
pub const PATIENCE: Duration = Duration::from_secs(30);
