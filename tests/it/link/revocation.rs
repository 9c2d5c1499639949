//! Revocation lists: a fresh one of every CA, or nobody comes through.

use std::fs;
use std::path::Path;
use std::time::Duration;

use keyward::codec::pem;
use keyward::domain::link::Reason;
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use crate::harness::link::{ENGINE, Pair, Rig, echo, end, pair};
use crate::harness::pki::Ca;

/// A list of this CA, in PEM.
fn list(ca: &Ca, revoked: &[&SerialNumber], edit: impl FnOnce(&mut CertificateRevocationListParams)) -> String {
    let entry = |serial: &&SerialNumber| RevokedCertParams {
        serial_number: (*serial).clone(),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: Some(rcgen::RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let mut params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2039, 1, 1),
        crl_number: SerialNumber::from(7_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    edit(&mut params);
    params.signed_by(&Issuer::from_params(&ca.params, &ca.key)).unwrap().pem().unwrap()
}

fn numbered(ca: &Ca, number: u64) -> (Pair, SerialNumber) {
    let serial = SerialNumber::from(number);
    (pair(ca, &[ENGINE], |p| p.serial_number = Some(serial.clone())), serial)
}

async fn rig(text: impl FnOnce(&Ca) -> String) -> Rig {
    Rig::unready(|link, ca| {
        let file = Path::new(&link.roots[0]).with_file_name("peers.crl");
        fs::write(&file, text(ca)).unwrap();
        link.crls = vec![file.to_str().unwrap().to_owned()];
    })
    .await
}

async fn refused(rig: &Rig, peer: &Pair, reason: Reason) {
    let before = rig.refused(reason);
    assert!(rig.speak(Some(peer)).await.is_err(), "{reason:?}");
    rig.wait("it is counted", |s| s.refused[&reason] == before + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_peer_is_refused_and_cut() {
    let rig = rig(|ca| list(ca, &[], |_| {})).await;
    rig.wait("it is ready", |s| s.closed.is_none()).await;
    let (good, _) = numbered(&rig.ca, 0x80);
    let (bad, serial) = numbered(&rig.ca, 0x81);
    let mut kept = rig.speak(Some(&good)).await.unwrap();
    let mut cut = rig.speak(Some(&bad)).await.unwrap();
    fs::write(rig.at("peers.crl"), list(&rig.ca, &[&serial], |_| {})).unwrap();
    end(&mut cut).await;
    rig.wait("the list is in force", |s| s.closed.is_none()).await;
    refused(&rig, &bad, Reason::Revoked).await;
    echo(&mut kept, b"still here").await.unwrap();
    // Too old to say that somebody is good, and still good enough to say that somebody is not.
    let old = |p: &mut CertificateRevocationListParams| p.next_update = date_time_ymd(2026, 2, 1);
    fs::write(rig.at("peers.crl"), list(&rig.ca, &[&serial], old)).unwrap();
    end(&mut kept).await;
    rig.wait("the list is in force", |s| s.closed.is_none()).await;
    refused(&rig, &bad, Reason::Revoked).await;
    refused(&rig, &good, Reason::RevocationUnknown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_without_a_list_of_its_own_refuses_its_peers() {
    let namesake = Ca::root("mesh root", |_| {});
    let rig = rig(|ca| {
        let no_signer = Ca::root("other", |_| {});
        [list(&namesake, &[], |_| {}), list(&no_signer, &[], |_| {})].concat()
            + &list(ca, &[], |p| {
                p.this_update = date_time_ymd(2038, 1, 1);
            })
    })
    .await;
    rig.wait("it is ready", |s| s.closed.is_none()).await;
    refused(&rig, &rig.engine(), Reason::RevocationUnknown).await;
    // The root's list says nothing about what an intermediate issued.
    fs::write(rig.at("peers.crl"), list(&rig.ca, &[], |_| {})).unwrap();
    let below = rig.ca.below("below", |_| {});
    let mut deep = pair(&below, &[ENGINE], |_| {});
    deep.chain.push(below.der.clone());
    let began = std::time::Instant::now();
    while rig.speak(Some(&rig.engine())).await.is_err() {
        assert!(began.elapsed() < crate::harness::life::PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused(&rig, &deep, Reason::RevocationUnknown).await;
    fs::write(rig.at("peers.crl"), [list(&rig.ca, &[], |_| {}), list(&below, &[], |_| {})].concat()).unwrap();
    while rig.speak(Some(&deep)).await.is_err() {
        assert!(began.elapsed() < crate::harness::life::PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pem::certificates(&deep.chain).matches("BEGIN").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_may_not_sign_lists_has_none() {
    let rig = Rig::unready(|link, _| {
        let silent = Ca::root("silent root", |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
        let file = Path::new(&link.roots[0]).with_file_name("peers.crl");
        // rcgen refuses to sign with such a CA, so another of the same key does it.
        let may = Ca {
            params: {
                let mut p = silent.params.clone();
                p.key_usages.push(KeyUsagePurpose::CrlSign);
                p
            },
            key: silent.key,
            der: silent.der.clone(),
        };
        fs::write(&file, list(&may, &[], |_| {})).unwrap();
        fs::write(&link.roots[0], pem::certificates(&[&silent.der])).unwrap();
        let peer = pair(&may, &[ENGINE], |_| {});
        fs::write(file.with_file_name("peer.pem"), peer.chain_pem()).unwrap();
        fs::write(file.with_file_name("peer.key"), peer.key.serialize_pem()).unwrap();
        link.crls = vec![file.to_str().unwrap().to_owned()];
    })
    .await;
    rig.wait("it is ready", |s| s.closed.is_none()).await;
    let chain = pem::certificates_in(&fs::read(rig.at("peer.pem")).unwrap(), 4).unwrap();
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(rig.at("peer.key")).unwrap()).unwrap();
    refused(&rig, &Pair { chain, key }, Reason::RevocationUnknown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_cut_when_the_list_ends_and_no_new_one_came() {
    let rig = rig(|ca| list(ca, &[], |p| p.next_update = date_time_ymd(2030, 1, 1))).await;
    rig.wait("it is ready", |s| s.closed.is_none()).await;
    let mut tls = rig.speak(Some(&rig.engine())).await.unwrap();
    rig.clock.advance(Duration::from_secs(5 * 365 * 86_400));
    assert!(end(&mut tls).await < Duration::from_secs(1));
    refused(&rig, &rig.engine(), Reason::RevocationUnknown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_says_less_than_all_or_nothing_closes_the_link() {
    let partial = |p: &mut CertificateRevocationListParams| {
        p.issuing_distribution_point = Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://crl.example.com/1".into()] },
            scope: Some(rcgen::CrlScope::UserCertsOnly),
        });
    };
    for text in [list(&Ca::root("any", |_| {}), &[], partial), String::new(), "-----BEGIN X509 CRL-----\nAAAA\n".into()]
    {
        let rig = rig(|_| text.clone()).await;
        rig.wait("it says so", |s| s.problem.as_ref().is_some_and(|p| p.contains("peers.crl"))).await;
        refused(&rig, &rig.engine(), Reason::Unready).await;
    }
}
