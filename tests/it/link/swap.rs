//! New certificates, new roots: what goes on, what is cut, and that nothing is resumed.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::codec::pem;
use keyward::domain::link::{Link, PeerId, Reason};
use rcgen::date_time_ymd;
use rustls::HandshakeKind;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::link::{ENGINE, PORTAL, Pair, Rig, Tls, client, connect, echo, end, pair};
use crate::harness::pki::Ca;

const SECOND: Duration = Duration::from_secs(1);

fn served(tls: &Tls) -> Vec<u8> {
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn install(rig: &Rig, own: &Pair) {
    fs::write(rig.at("own.pem"), own.chain_pem()).unwrap();
    fs::write(rig.at("own.key"), own.key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_used_for_new_connections_and_drops_no_old_one() {
    let rig = Rig::new().await;
    let engine = rig.engine();
    let mut old = rig.speak(Some(&engine)).await.unwrap();
    assert_eq!(served(&old), rig.own.chain[0].to_vec());
    let renewed = pair(&rig.ca, &[PORTAL], |_| {});
    // As most tools do it: first one file, then the other.
    fs::write(rig.at("own.pem"), renewed.chain_pem()).unwrap();
    rig.wait("the pair does not fit", |s| s.problem.as_ref().is_some_and(|p| p.contains("does not belong"))).await;
    assert_eq!(served(&rig.speak(Some(&engine)).await.unwrap()), rig.own.chain[0].to_vec(), "the old one goes on");
    fs::write(rig.at("own.key"), renewed.key.serialize_pem()).unwrap();
    let fingerprint = keyward::domain::key::Digest::of(&renewed.chain[0]);
    rig.wait("it is used", |s| s.certificate.is_some_and(|(f, _)| f == fingerprint) && s.problem.is_none()).await;
    assert_eq!(served(&rig.speak(Some(&engine)).await.unwrap()), renewed.chain[0].to_vec());
    echo(&mut old, b"still here").await.unwrap();
    let status = rig.proxy.status();
    assert!(status.cut == 0 && rig.refusals().is_empty(), "{status:?}");
    let trusted = rig.entries().iter().filter(|e| e.0 == "link.trust").count();
    assert_eq!(trusted, 1, "whom it trusts did not change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_whose_own_certificate_ended_lets_nobody_through() {
    let rig = Rig::new().await;
    let ending = pair(&rig.ca, &[PORTAL], |p| p.not_after = date_time_ymd(2026, 1, 1));
    install(&rig, &ending);
    rig.wait("it says so", |s| s.closed.as_ref().is_some_and(|r| r.reason == Reason::Unready)).await;
    assert!(rig.speak(Some(&rig.engine())).await.is_err());
    let wrong = pair(&rig.ca, &[PORTAL], |p| {
        p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    install(&rig, &wrong);
    rig.wait("it says so", |s| s.problem.as_ref().is_some_and(|p| p.contains("serverAuth"))).await;
    install(&rig, &rig.own);
    rig.wait("it is mended", |s| s.closed.is_none()).await;
    rig.speak(Some(&rig.engine())).await.unwrap();
}

/// A plain rustls server that remembers sessions, to show that the same client would resume.
async fn control(ca: &Ca) -> std::net::SocketAddr {
    let own = pair(ca, &[PORTAL], |_| {});
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(own.chain.clone(), own.key_der())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let mut byte = [0; 5];
                drop(tls.read_exact(&mut byte).await);
                drop(tokio::io::AsyncWriteExt::write_all(&mut tls, &byte).await);
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distrusted_peer_cannot_resume_and_is_cut() {
    let rig = Rig::new().await;
    let engine = rig.engine();
    let config = client(&rig.ca, Some(&engine), &rustls::version::TLS13);
    let kind = |tls: &Tls| tls.get_ref().1.handshake_kind().unwrap();
    let control = control(&rig.ca).await;
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut tls = connect(control, &config).await.unwrap();
        echo(&mut tls, b"hello").await.unwrap();
        assert_eq!(kind(&tls), expected, "this client resumes where it is let");
    }
    let config = client(&rig.ca, Some(&engine), &rustls::version::TLS13);
    let mut live = Vec::new();
    for _ in 0..3 {
        let mut tls = connect(rig.address, &config).await.unwrap();
        echo(&mut tls, b"hello").await.unwrap();
        assert_ne!(kind(&tls), HandshakeKind::Resumed);
        assert_eq!(tls.get_ref().1.tls13_tickets_received(), 0, "there is no ticket to come back with");
        live.push(tls);
    }
    // The CA of the peer is distrusted; another one takes its place.
    let other = Ca::root("other root", |_| {});
    fs::write(rig.at("roots.pem"), pem::certificates(&[&other.der])).unwrap();
    let swapped = Instant::now();
    for tls in &mut live {
        end(tls).await;
    }
    // Files are looked at every second.
    assert!(swapped.elapsed() < 3 * SECOND, "{:?}", swapped.elapsed());
    rig.wait("the new trust is in force", |s| s.closed.is_none() && s.cut == 3).await;
    let spoken = async { echo(&mut connect(rig.address, &config).await?, b"hello").await };
    assert!(spoken.await.is_err());
    rig.wait("it is counted", |s| s.refused[&Reason::Untrusted] == 1).await;
    let newcomer = pair(&other, &[ENGINE], |_| {});
    let mut tls = connect(rig.address, &client(&rig.ca, Some(&newcomer), &rustls::version::TLS13)).await.unwrap();
    echo(&mut tls, b"hello").await.unwrap();
    let told = rig.entries();
    assert_eq!(told.iter().filter(|e| **e == ("link.trust", "KW4320")).count(), 2, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_that_cannot_be_read_close_the_link() {
    let rig = Rig::new().await;
    let good = fs::read(rig.at("roots.pem")).unwrap();
    let torn = good[..good.len() / 2].to_vec();
    for (what, bytes) in
        [("empty", Some(Vec::new())), ("garbage", Some(vec![7; 99])), ("torn", Some(torn)), ("gone", None)]
    {
        rig.wait("it is well", |s| s.closed.is_none()).await;
        let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
        match bytes {
            Some(bytes) => fs::write(rig.at("roots.pem"), bytes).unwrap(),
            None => fs::remove_file(rig.at("roots.pem")).unwrap(),
        }
        end(&mut tls).await;
        rig.wait(what, |s| s.closed.as_ref().is_some_and(|r| r.reason == Reason::Unready)).await;
        assert!(rig.speak(Some(&rig.engine())).await.is_err(), "{what}");
        fs::write(rig.at("roots.pem"), &good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_to_trust_is_written_down_before_anybody_is_let_in_by_it() {
    let rig = Rig::new().await;
    let other = Ca::root("other root", |_| {});
    let newcomer = pair(&other, &[ENGINE], |_| {});
    rig.store.fail_next(u64::MAX);
    fs::write(rig.at("roots.pem"), pem::certificates(&[&rig.ca.der, &other.der])).unwrap();
    rig.wait("it says why", |s| s.problem.as_ref().is_some_and(|p| p.contains("audit log"))).await;
    assert!(rig.speak(Some(&newcomer)).await.is_err() && rig.speak(Some(&rig.engine())).await.is_err());
    rig.store.heal();
    rig.wait("it is written", |s| s.closed.is_none()).await;
    rig.speak(Some(&newcomer)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_list_of_peers_cuts_those_who_are_no_longer_on_it() {
    let rig = Rig::with(|link, _| link.peers.push(PeerId::parse("dns:batch.example.com").unwrap())).await;
    let mut engine = rig.speak(Some(&rig.engine())).await.unwrap();
    let batch = pair(&rig.ca, &["dns:batch.example.com"], |_| {});
    let mut batch = rig.speak(Some(&batch)).await.unwrap();
    rig.proxy.adopt(Arc::new(Link { peers: vec![PeerId::parse(ENGINE).unwrap()], ..rig.link.clone() }));
    let began = Instant::now();
    end(&mut batch).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    echo(&mut engine, b"still here").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lives_no_longer_than_the_certificate_of_its_peer() {
    let rig = Rig::new().await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    let soon = pair(&rig.ca, &[ENGINE], |p| p.not_after = date_time_ymd(2030, 1, 1));
    let mut ending = rig.speak(Some(&soon)).await.unwrap();
    // To 2031.
    rig.clock.advance(Duration::from_secs(5 * 365 * 86_400));
    assert!(end(&mut ending).await < SECOND);
    echo(&mut tls, b"until 2040").await.unwrap();
    assert!(rig.speak(Some(&soon)).await.is_err(), "what was judged good then is not good for ever");
    rig.wait("it is counted", |s| s.refused[&Reason::OutOfTime] == 1 && s.cut == 1).await;
}
