//! Private CAs: what the daemon with its key holder issues, durably recorded and audited, and the bytes alone; what its ACME
//! directory finalizes is in `finalize.rs`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::codec::ca::{self, Above};
use keyward::codec::keys;
use keyward::codec::signing::SigningKey;
use keyward::domain::authority::{CaCertificate, Constraints, RevocationList, RevocationReason, Revoked, SerialNumber};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::time::{DAY, Timestamp, Validity};
use rcgen::{CertificateParams, KeyPair};

use crate::report::{children, figure, processor_time};
use crate::site::Site;

/// Requests in flight.
const AT_ONCE: [usize; 2] = [1, 64];
/// Different requests; each is signed many times.
const REQUESTS: usize = 64;

/// A daemon with the CA `mesh`, and nothing else in its directory.
pub struct Daemon(Child);

impl Daemon {
    /// Started, its CA made; `more` stands at the end of its configuration.
    pub fn made(dir: &Path, more: &str) -> Self {
        let state = dir.join("state");
        std::fs::create_dir_all(&state).expect("a directory");
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).expect("a mode");
        let admin = admin(dir);
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let text = format!(
            "state_dir = {state:?}\n[listen]\nhttp = \"{free}\"\nadmin_socket = {admin:?}\n[[ca]]\nid = \"mesh\"\n\
             [[ca.profile]]\nid = \"workload\"\nnames = [\"*.svc.example\"]\n{more}"
        );
        let file = dir.join("keyward.toml");
        std::fs::write(&file, text).expect("a file");
        let log = std::fs::File::create(dir.join("log")).expect("a file");
        let program = || Command::new(env!("CARGO_BIN_EXE_keyward"));
        let child = program().args(["run", "-c"]).arg(&file).stdout(Stdio::null()).stderr(log).spawn();
        let daemon = Self(child.expect("the daemon"));
        let began = Instant::now();
        while !program()
            .args(["ca", "init", "mesh", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
        {
            assert!(began.elapsed() < Duration::from_secs(60), "the CA is not made: see {}", dir.join("log").display());
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon
    }

    /// Processor time so far: its own, that of its key holder, and that of this process, which asks.
    pub fn times(&self) -> [f64; 3] {
        let own = self.0.id();
        let holders = children(own).into_iter().map(processor_time).sum();
        [processor_time(own), holders, processor_time(std::process::id())]
    }

    /// What each of `count` things took since [`Self::times`] gave `before`.
    pub fn costs(&self, before: [f64; 3], row: &str, count: usize) {
        let now = self.times();
        for (i, who) in ["the daemon", "the key holder", "the client"].into_iter().enumerate() {
            figure(&format!("{row}: processor time of {who}"), "ms", (now[i] - before[i]) * 1e3 / count as f64);
        }
    }
}

fn admin(dir: &Path) -> PathBuf {
    dir.join("admin.sock")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Certificates from signing requests over the admin socket: `seconds` with one and with 64 in flight.
pub fn private(site: &Site) {
    requests(site, &AT_ONCE);
    list();
    crate::finalize::finalize(site);
}

/// The same with so many in flight, and nothing else.
pub fn requests(site: &Site, at_once: &[usize]) {
    let dir = &site.dir;
    drop(std::fs::remove_dir_all(dir));
    let daemon = Daemon::made(dir, "");
    let admin = admin(dir);
    let bodies: Vec<String> = (0..REQUESTS).map(request).collect();
    for at_once in at_once.iter().copied() {
        let before = daemon.times();
        let spans = closed_loop(&admin, &bodies, at_once, Duration::from_secs(site.seconds));
        let row = format!("certificates from requests, {at_once} in flight");
        figure(&row, "/s", spans.len() as f64 / site.seconds as f64);
        for per_mille in [500, 990] {
            let at = (spans.len() * per_mille / 1_000).min(spans.len() - 1);
            figure(&format!("{row}: p{}", per_mille / 10), "ms", spans[at] * 1e3);
        }
        daemon.costs(before, &row, spans.len());
    }
}

fn request(i: usize) -> String {
    let params = CertificateParams::new(vec![format!("h{i}.svc.example")]).expect("a name");
    let csr =
        params.serialize_request(&KeyPair::generate().expect("a key")).and_then(|csr| csr.pem()).expect("a request");
    let body = serde_json::json!({ "profile": "workload", "csr": csr }).to_string();
    format!(
        "POST /v1/ca/mesh/sign HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Each of so many connections has one request on its way. The seconds that each took, in order.
fn closed_loop(admin: &Path, bodies: &[String], at_once: usize, span: Duration) -> Vec<f64> {
    let end = Instant::now() + span;
    let mut all: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once)
            .map(|i| {
                let body = bodies[i % bodies.len()].as_str();
                scope.spawn(move || {
                    let stream = UnixStream::connect(admin).expect("the admin socket");
                    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                    let mut writer = stream;
                    let mut spans = Vec::new();
                    while Instant::now() < end {
                        let began = Instant::now();
                        writer.write_all(body.as_bytes()).expect("asked");
                        answer(&mut reader);
                        spans.push(began.elapsed().as_secs_f64());
                    }
                    spans
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().expect("a thread")).collect()
    });
    all.sort_by(f64::total_cmp);
    all
}

fn answer(reader: &mut BufReader<UnixStream>) {
    let (mut length, mut line, mut first) = (0, String::new(), true);
    loop {
        line.clear();
        reader.read_line(&mut line).expect("an answer");
        if first {
            assert!(line.starts_with("HTTP/1.1 200"), "{line}");
            first = false;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
}

/// A revocation list of 100,000 entries, made and signed.
fn list() {
    let pkcs8 = keys::generate(KeyAlgorithm::P256).expect("a key");
    let key = SigningKey::read(&pkcs8).expect("a key");
    let now = Timestamp::from_unix(1_800_000_000);
    let root = CaCertificate {
        serial: SerialNumber::new([7; 20]),
        validity: Validity { not_before: now, not_after: now.plus(DAY * 365) },
        common_name: "Bench Root".to_owned(),
        organization: None,
        trust_domain: None,
        path_length: None,
        constraints: Constraints::default(),
        spki: Arc::from(key.spki()),
    };
    let to_sign = ca::ca_certificate(&root, None, &[], &[]).expect("a certificate");
    let der = ca::assemble(&to_sign, &key.sign(&to_sign.bytes).expect("a signature"));
    let above = Above::new(&der).expect("a CA");
    let serial = |i: u32| [&[0x40; 16][..], &i.to_be_bytes()].concat();
    let revoked = (0..100_000).map(|i| Revoked { serial: serial(i), at: now, reason: RevocationReason::Superseded });
    let list = RevocationList { number: 1, this_update: now, next_update: now.plus(DAY), revoked: revoked.collect() };
    let mut spans: Vec<f64> = (0..9)
        .map(|_| {
            let began = Instant::now();
            let made = ca::revocation_list(&list, &above).expect("a list");
            let signed = ca::assemble(&made, &key.sign(&made.bytes).expect("a signature"));
            assert!(signed.len() > 100_000 * 20);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    spans.sort_by(f64::total_cmp);
    figure("a list of 100,000 revoked certificates", "ms", spans[spans.len() / 2]);
}
