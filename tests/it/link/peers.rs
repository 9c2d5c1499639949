//! Who comes through, and who does not, and why.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use keyward::domain::link::{PeerId, Reason};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::link::{ENGINE, PORTAL, Pair, Rig, client, connect, echo, end, pair};
use crate::harness::pki::{Ca, openssl};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_on_the_list_passes_bytes_both_ways() {
    let rig = Rig::new().await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    let big: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = tokio::io::split(&mut tls);
    let back = async {
        let mut back = vec![0; big.len()];
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut back).await.unwrap();
        back
    };
    let (sent, back) = tokio::join!(write.write_all(&big), back);
    sent.unwrap();
    assert!(back == big);
    let status = rig.proxy.status();
    assert_eq!((status.accepted, status.connections, status.received), (1, 1, 300_005));
    assert!(status.sent >= 300_005 && rig.refusals().is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_names_and_keys_name_peers_too() {
    let ca = Ca::root("unused", |_| {});
    let pinned = pair(&ca, &[], |_| {});
    let spki = keyward::codec::x509::facts(&pinned.chain[0]).unwrap().spki;
    let rig = Rig::with(|link, _| {
        link.peers = vec![PeerId::parse("dns:batch.example.com").unwrap(), PeerId::Spki(spki)];
    })
    .await;
    rig.speak(Some(&pair(&rig.ca, &["dns:batch.example.com"], |_| {}))).await.unwrap();
    let mut params = crate::harness::pki::leaf_params(&[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let same_key = Pair { chain: vec![rig.ca.sign(&params, &pinned.key)], key: pinned.key };
    rig.speak(Some(&same_key)).await.unwrap();
    for name in ["dns:other.example.com", "dns:*.example.com", ENGINE] {
        assert!(rig.speak(Some(&pair(&rig.ca, &[name], |_| {}))).await.is_err(), "{name}");
    }
    // A peer may know that it was refused before it is counted.
    rig.wait("three refusals", |s| s.refused[&Reason::Name] == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_peer_is_refused_with_its_reason() {
    let old_root = Ca::root("old root", |p| {
        (p.not_before, p.not_after) = (date_time_ymd(2015, 1, 1), date_time_ymd(2025, 6, 1));
    });
    let old = old_root.der.clone();
    let rig = Rig::with(|link, ca| {
        fs::write(&link.roots[0], keyward::codec::pem::certificates(&[&ca.der, &old])).unwrap();
    })
    .await;
    let ca = &rig.ca;
    let rogue = Ca::root("mesh root", |_| {});
    let weak = ca.below("not a ca", |p| p.is_ca = IsCa::ExplicitNoCa);
    let mut below_weak = pair(&weak, &[ENGINE], |_| {});
    below_weak.chain.push(weak.der.clone());
    let eku = |purposes: Vec<ExtendedKeyUsagePurpose>| pair(ca, &[ENGINE], |p| p.extended_key_usages = purposes);
    let cases: Vec<(&str, Reason, Option<Pair>)> = vec![
        ("no certificate", Reason::NoCertificate, None),
        ("another spiffe id", Reason::Name, Some(pair(ca, &["spiffe://example.com/engine2"], |_| {}))),
        ("two uris", Reason::Name, Some(pair(ca, &[ENGINE, "spiffe://example.com/other"], |_| {}))),
        ("a dns name", Reason::Name, Some(pair(ca, &[PORTAL], |_| {}))),
        ("nobody", Reason::Name, Some(pair(ca, &[], |_| {}))),
        ("another ca of the same name", Reason::Untrusted, Some(pair(&rogue, &[ENGINE], |_| {}))),
        ("an issuer that is no ca", Reason::Untrusted, Some(below_weak)),
        ("an expired root", Reason::OutOfTime, Some(pair(&old_root, &[ENGINE], |_| {}))),
        ("an expired leaf", Reason::OutOfTime, Some(pair(ca, &[ENGINE], |p| p.not_after = date_time_ymd(2026, 1, 1)))),
        (
            "a leaf of tomorrow",
            Reason::OutOfTime,
            Some(pair(ca, &[ENGINE], |p| p.not_before = date_time_ymd(2039, 1, 1))),
        ),
        ("a server's certificate", Reason::Purpose, Some(eku(vec![ExtendedKeyUsagePurpose::ServerAuth]))),
        ("no purpose", Reason::Purpose, Some(eku(vec![]))),
        ("any purpose", Reason::Purpose, Some(eku(vec![ExtendedKeyUsagePurpose::Any]))),
        (
            "a ca",
            Reason::Purpose,
            Some(pair(ca, &[ENGINE], |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            })),
        ),
        (
            "a key that may only encrypt",
            Reason::Purpose,
            Some(pair(ca, &[ENGINE], |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment])),
        ),
    ];
    for (what, reason, peer) in &cases {
        let before = rig.refused(*reason);
        assert!(rig.speak(peer.as_ref()).await.is_err(), "{what} comes through");
        rig.wait(what, |s| s.refused[reason] == before + 1).await;
    }
    assert_eq!(rig.refusals().values().sum::<u64>(), cases.len() as u64, "{:?}", rig.refusals());
    assert_eq!(rig.echo.ever.load(std::sync::atomic::Ordering::SeqCst), 0, "nobody reached the service");
    rig.speak(Some(&rig.engine())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_the_certificate_without_its_key_is_refused() {
    let rig = Rig::new().await;
    let victim = rig.engine();
    rig.speak(Some(&victim)).await.unwrap();
    // The chain is known as good by now.
    let thief = Pair { chain: victim.chain.clone(), key: rcgen::KeyPair::generate().unwrap() };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(thief.key_der()).unwrap();
    let certified = rustls::sign::CertifiedKey::new(thief.chain.clone(), key);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rig.ca.der.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let spoken = match connect(rig.address, &std::sync::Arc::new(config)).await {
        Ok(mut tls) => echo(&mut tls, b"x").await,
        Err(error) => Err(error),
    };
    assert!(spoken.is_err());
    rig.wait("it is counted", |s| s.refused[&Reason::Malformed] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_tls_and_other_protocols_are_refused() {
    let rig = Rig::new().await;
    let engine = rig.engine();
    assert!(connect(rig.address, &client(&rig.ca, Some(&engine), &rustls::version::TLS12)).await.is_err());
    rig.wait("it is counted", |s| s.refused[&Reason::Handshake] == 1).await;
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    end(&mut tcp).await;
    rig.wait("it is counted", |s| s.refused[&Reason::Handshake] == 2).await;
    assert_eq!(rig.echo.ever.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Runs `openssl s_client` as this peer, says `hello`, and gives its output.
fn s_client(rig: &Rig, peer: Option<&Pair>, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &rig.address.to_string(), "-servername", "portal.example.com"]);
    command.args(["-CAfile", "roots.pem", "-verify_return_error", "-ign_eof"]).args(more);
    if let Some(peer) = peer {
        fs::write(rig.at("peer.pem"), peer.chain_pem()).unwrap();
        fs::write(rig.at("peer.key"), peer.key.serialize_pem()).unwrap();
        command.args(["-cert", "peer.pem", "-key", "peer.key"]);
    }
    let mut child = command
        .current_dir(rig.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is missing: run tests/run");
    // It may be gone already.
    drop(child.stdin.as_mut().unwrap().write_all(b"hello from openssl\n"));
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_comes_through_with_tls_1_3_and_a_certificate_only() {
    let rig = Rig::with(|link, _| link.idle_timeout = std::time::Duration::from_secs(1)).await;
    assert!(openssl(rig.dir.path(), &["version"]).starts_with("OpenSSL 3"));
    let engine = rig.engine();
    let (rig, said) = tokio::task::spawn_blocking(move || {
        let said = s_client(&rig, Some(&engine), &["-tls1_3"]);
        assert!(said.contains("TLSv1.3") && said.contains("Verify return code: 0"), "{said}");
        assert_eq!(said.matches("hello from openssl").count(), 1, "{said}");
        for (peer, more) in [(Some(&engine), "-tls1_2"), (None, "-tls1_3")] {
            let said = s_client(&rig, peer, &[more]);
            assert!(!said.contains("hello from openssl"), "{said}");
        }
        let other = pair(&rig.ca, &["spiffe://example.com/other"], |_| {});
        let said = s_client(&rig, Some(&other), &["-tls1_3"]);
        (rig, said)
    })
    .await
    .unwrap();
    assert!(said.contains("alert") && !said.contains("hello from openssl"), "{said}");
    let refusals = rig.refusals();
    for reason in [Reason::Handshake, Reason::NoCertificate, Reason::Name] {
        assert_eq!(refusals.get(&reason), Some(&1), "{refusals:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_refused_peers_is_one_entry_and_then_a_number() {
    let rig = Rig::new().await;
    let stranger = pair(&rig.ca, &["spiffe://example.com/stranger"], |_| {});
    for _ in 0..20 {
        assert!(rig.speak(Some(&stranger)).await.is_err());
    }
    rig.wait("all are counted", |s| s.refused[&Reason::Name] == 20).await;
    let told = || rig.entries().into_iter().filter(|e| *e == ("link.refuse", "KW4309")).count();
    rig.wait("the first is told", |_| told() == 1).await;
    rig.clock.advance(keyward::domain::link::TELL_EVERY);
    rig.wait("the others are told", |_| told() == 2).await;
    let batches = rig.store.written();
    let entries: Vec<_> = batches.iter().flat_map(|b| &b.entries).filter(|e| e.code == "KW4309").collect();
    let counts: Vec<String> = entries.iter().map(|e| format!("{:?}", e.facts)).collect();
    assert!(counts[0].contains('1') && counts[1].contains("19"), "{counts:?}");
    assert!(entries[0].private.iter().any(|(_, text)| text.contains("example.com/stranger")), "{entries:?}");
}
