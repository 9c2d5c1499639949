//! The client side: a plain program behind it, and a TLS server that has to prove who it is, nginx among them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use keyward::domain::link::{Address, Link, PeerId, Reason, Side};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::life::PATIENCE;
use crate::harness::link::{ENGINE, PORTAL, Rig, end, pair};
use crate::harness::pki::Ca;

/// nginx that wants certificates of the rig's CA, and says whose it got.
struct Peer {
    dir: tempfile::TempDir,
    port: u16,
}

impl Peer {
    /// `more` says which versions of TLS it speaks: nginx 1.22 knows 1.3, but only if it is told.
    fn start(ca: &Ca, more: &str) -> Self {
        let more =
            if more.contains("ssl_protocols") { more.to_owned() } else { format!("ssl_protocols TLSv1.3; {more}") };
        let dir = tempfile::tempdir().unwrap();
        let own = pair(ca, &[PORTAL], |_| {});
        fs::write(dir.path().join("own.pem"), own.chain_pem()).unwrap();
        fs::write(dir.path().join("own.key"), own.key.serialize_pem()).unwrap();
        fs::write(dir.path().join("ca.pem"), keyward::codec::pem::certificates(&[&ca.der])).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.path().display();
        let user = if fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
            "user root;"
        } else {
            ""
        };
        let conf = format!(
            "{user} worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log info;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {at}/own.pem; ssl_certificate_key {at}/own.key;\n\
             ssl_client_certificate {at}/ca.pem; ssl_verify_client on; {more}\n\
             return 200 \"$ssl_protocol $ssl_client_verify $ssl_server_name $ssl_client_fingerprint\"; }} }}"
        );
        fs::write(dir.path().join("nginx.conf"), conf).unwrap();
        let peer = Self { dir, port };
        let done = peer.nginx(&[]);
        assert!(done.status.success(), "nginx does not start: {done:?}; run tests/run, which installs it");
        peer
    }

    fn nginx(&self, more: &[&str]) -> std::process::Output {
        let at = self.dir.path().display();
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-p", &at.to_string(), "-e", &format!("{at}/error.log"), "-c", &format!("{at}/nginx.conf")]);
        command.args(more).output().expect("nginx is missing: run tests/run")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.nginx(&["-s", "stop"]);
        let began = Instant::now();
        while self.dir.path().join("nginx.pid").exists() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn towards(link: &mut Link, port: u16) {
    link.side = Side::Client;
    link.server_name = Some("portal.example.com".into());
    link.forward = Address::Tcp { host: "localhost".into(), port };
    link.peers = vec![PeerId::parse(PORTAL).unwrap()];
}

/// A client-side rig, and nginx behind it.
async fn rig(edit: impl FnOnce(&mut Link), more: &str) -> (Rig, Peer) {
    let mut peer = None;
    let rig = Rig::with(|link, ca| {
        let started = Peer::start(ca, more);
        towards(link, started.port);
        peer = Some(started);
        edit(link);
    })
    .await;
    (rig, peer.unwrap())
}

async fn get(rig: &Rig) -> String {
    let mut plain = TcpStream::connect(rig.address).await.unwrap();
    // It may be closed already.
    drop(plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await);
    let mut answer = String::new();
    drop(tokio::time::timeout(PATIENCE, plain.read_to_string(&mut answer)).await.expect("an answer or an end"));
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_gets_our_certificate_over_tls_1_3() {
    let (rig, _nginx) = rig(|_| {}, "").await;
    let answer = get(&rig).await;
    assert!(answer.contains("TLSv1.3 SUCCESS portal.example.com "), "{answer}");
    let sha1 = {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &rig.own.chain[0]);
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert!(answer.contains(&sha1), "{answer}");
    assert!(rig.refusals().is_empty() && rig.proxy.status().accepted == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_on_the_list_gets_nothing() {
    let (rig, _nginx) = rig(|link| link.peers = vec![PeerId::parse(ENGINE).unwrap()], "").await;
    assert_eq!(get(&rig).await, "");
    rig.wait("it is counted", |s| s.refused[&Reason::Name] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_ca_or_an_older_tls_gets_nothing() {
    let (rig, nginx) = rig(|_| {}, "ssl_protocols TLSv1.2;").await;
    assert_eq!(get(&rig).await, "");
    rig.wait("it is counted", |s| s.refused[&Reason::Handshake] == 1).await;
    let rogue = Ca::root("mesh root", |_| {});
    let own = pair(&rogue, &[PORTAL], |_| {});
    fs::write(nginx.dir.path().join("own.pem"), own.chain_pem()).unwrap();
    fs::write(nginx.dir.path().join("own.key"), own.key.serialize_pem()).unwrap();
    let conf = nginx.dir.path().join("nginx.conf");
    fs::write(&conf, fs::read_to_string(&conf).unwrap().replace("TLSv1.2", "TLSv1.3")).unwrap();
    assert!(nginx.nginx(&["-s", "reload"]).status.success());
    // The old workers answer until the new ones are there.
    let began = Instant::now();
    while rig.refused(Reason::Untrusted) == 0 {
        assert_eq!(get(&rig).await, "");
        assert!(began.elapsed() < PATIENCE, "{:?}", rig.refusals());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_no_proof_of_a_server() {
    let (rig, nginx) = rig(|_| {}, "").await;
    // A signal that comes before its workers are there may be lost.
    assert!(get(&rig).await.contains("SUCCESS"));
    let own = pair(&rig.ca, &[PORTAL], |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    fs::write(nginx.dir.path().join("own.pem"), own.chain_pem()).unwrap();
    fs::write(nginx.dir.path().join("own.key"), own.key.serialize_pem()).unwrap();
    assert!(nginx.nginx(&["-s", "reload"]).status.success());
    let began = Instant::now();
    while rig.refused(Reason::Purpose) == 0 {
        drop(get(&rig).await);
        assert!(began.elapsed() < PATIENCE, "{:?}", rig.refusals());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_cuts_the_client_side_too() {
    let (rig, _nginx) = rig(|_| {}, "keepalive_timeout 60s;").await;
    let mut plain = TcpStream::connect(rig.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 8];
    plain.read_exact(&mut some).await.unwrap();
    rig.lever.close();
    assert!(end(&mut plain).await < Duration::from_secs(1));
    assert_eq!(get(&rig).await, "");
    rig.wait("it is counted", |s| s.cut == 1 && s.refused[&Reason::Gate] == 1 && s.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_silent_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let rig = Rig::with(|link, _| {
        towards(link, port);
        link.handshake_timeout = Duration::from_secs(1);
    })
    .await;
    assert_eq!(get(&rig).await, "");
    rig.wait("it is counted", |s| s.refused[&Reason::Timeout] == 1).await;
    drop(silent);
    assert_eq!(get(&rig).await, "");
    rig.wait("it is counted", |s| s.refused[&Reason::Forward] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_links_make_one_way_between_two_plain_programs() {
    let server = Rig::with(|link, _| link.alpn = vec!["kw/1".into()]).await;
    let near = Rig::with(|link, _| {
        towards(link, server.address.port());
        link.alpn = vec!["kw/1".into()];
    })
    .await;
    let engine = server.engine();
    fs::write(near.at("own.pem"), engine.chain_pem()).unwrap();
    fs::write(near.at("own.key"), engine.key.serialize_pem()).unwrap();
    fs::write(near.at("roots.pem"), keyward::codec::pem::certificates(&[&server.ca.der])).unwrap();
    let fingerprint = keyward::domain::key::Digest::of(&engine.chain[0]);
    near.wait("it is used", |s| s.certificate.is_some_and(|(f, _)| f == fingerprint)).await;
    let mut plain = TcpStream::connect(near.address).await.unwrap();
    crate::harness::link::echo(&mut plain, b"through both").await.unwrap();
    server.lever.close();
    assert!(end(&mut plain).await < Duration::from_secs(1), "the end goes through");
}
