//! What we issue is taken, and what must be refused is refused, by openssl, webpki, rustls and our own verifier.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use keyward::codec::ca;
use keyward::codec::{crl, pem, verify, x509};
use keyward::domain::authority::{Constraints, RevocationReason, Revoked};
use keyward::domain::certificate::{Purposes, Trust};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::name::NameSet;
use keyward::domain::time::{HOUR, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;

use crate::harness::ca_bytes::{
    CRL_URL, ISSUER_URL, Key, NOW, Pki, at, ca_certificate, leaf, list_of, names, serial, urls, validity,
};
use crate::harness::pki::openssl;

const SIGNING: [KeyAlgorithm; 3] = [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519];

/// A directory with `root.pem`, `issuing.pem`, `leaf.pem`, `crls.pem`.
fn written(pki: &Pki, leaf: &[u8], lists: &[Vec<u8>]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, der) in [("root.pem", pki.root.der()), ("issuing.pem", pki.issuing.der()), ("leaf.pem", leaf)] {
        fs::write(dir.path().join(name), pem::certificates(&[der])).unwrap();
    }
    let mut all = String::new();
    for (i, list) in lists.iter().enumerate() {
        fs::write(dir.path().join(format!("{i}.crl")), list).unwrap();
        all += &openssl(dir.path(), &["crl", "-inform", "DER", "-in", &format!("{i}.crl")]);
    }
    fs::write(dir.path().join("crls.pem"), all).unwrap();
    dir
}

/// What `openssl verify` says with every strictness that it has.
fn verified(dir: &Path, now: Timestamp, purpose: &str) -> Result<(), String> {
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-crl_check_all", "-check_ss_sig", "-policy_check", "-purpose", purpose])
        .args(["-attime", &now.unix().to_string(), "-CAfile", "root.pem", "-untrusted", "issuing.pem"])
        .args(["-CRLfile", "crls.pem", "-no-CApath", "-no-CAstore", "leaf.pem"])
        .current_dir(dir)
        .output()
        .expect("openssl is missing: run tests/run");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(text) }
}

/// What rustls says about a client with this leaf, every list enforced.
fn by_rustls(pki: &Pki, leaf: &[u8], lists: &[Vec<u8>], now: Timestamp) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.root.der())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists.iter().map(|list| list.clone().into()))
        .enforce_revocation_expiration()
        .build()
        .unwrap();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unix().try_into().unwrap()));
    let intermediates = [CertificateDer::from(pki.issuing.der())];
    verifier.verify_client_cert(&CertificateDer::from(leaf), &intermediates, time).map(|_| ())
}

fn revoked(serial: &[u8], reason: RevocationReason) -> Revoked {
    Revoked { serial: serial.to_vec(), at: at("2030-06-01T10:00:00Z"), reason }
}

#[test]
fn every_algorithm_is_taken_by_all_verifiers() {
    let keys = KeyAlgorithm::ALL.map(|(algorithm, _)| (algorithm, Key::new(algorithm)));
    for root in SIGNING {
        for issuing in SIGNING {
            let pki = Pki::with(root, issuing, |_| {});
            for (algorithm, key) in keys.iter().filter(|(a, _)| root == issuing || SIGNING.contains(a)) {
                let leaf = leaf(&key.spki);
                let to_sign = pki.to_sign(&leaf);
                assert_eq!(ca::lint(&to_sign, &pki.above(), &[] as &[&[u8]]), Ok(()));
                let der = pki.issuing_key.sign(&to_sign);
                let lists = pki.lists(&[], &[]);
                let dir = written(&pki, &der, &lists);
                for purpose in ["sslserver", "sslclient"] {
                    assert_eq!(verified(dir.path(), at(NOW), purpose), Ok(()), "{root} {issuing} {algorithm}");
                }
                assert_eq!(by_rustls(&pki, &der, &lists, at(NOW)), Ok(()), "{root} {issuing} {algorithm}");
                let mut roots = verify::Roots::default();
                roots.add(pki.root.der()).unwrap();
                let chain = verify::chain(&[&*der, pki.issuing.der()], &roots).unwrap();
                assert_eq!(chain.trust, Trust::Anchored);
                assert!(crl::facts(&lists[1], &chain).unwrap().revokes.is_empty());
            }
        }
    }
}

#[test]
fn a_leaf_is_what_was_decided_and_reads_so_in_openssl() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let rsa = Key::new(KeyAlgorithm::Rsa2048);
    let leaf = leaf(&rsa.spki);
    let dir = written(&pki, &pki.issue(&leaf), &[]);
    let text = openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text", "-certopt", "ext_parse"]);
    let hex: Vec<String> = leaf.serial.bytes().iter().map(|b| format!("{b:02x}")).collect();
    for expected in [
        "Version: 3 (0x2)",
        &hex.join(":"),
        "Issuer: O = Z\\C3\\BCrich & S\\C3\\B6hne, CN = Mesh issuing 1",
        "Not Before: Jun  1 00:00:00 2030 GMT",
        "Not After : Jun  2 00:00:00 2030 GMT",
        "Subject: \n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n",
        "X509v3 Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Subject Alternative Name: critical",
        "DNS:*.api.svc.example, DNS:web.svc.example, IP Address:10.1.2.3, IP Address:2001:DB8:0:0:0:0:0:7, URI:spiffe://mesh.example/ns/prod/sa/web",
        &format!("URI:{CRL_URL}"),
        &format!("CA Issuers - URI:{ISSUER_URL}"),
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    let issuer = openssl(dir.path(), &["x509", "-in", "issuing.pem", "-noout", "-text"]);
    for expected in [
        "CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
        "X509v3 Subject Alternative Name: \n                URI:spiffe://mesh.example\n",
    ] {
        assert!(issuer.contains(expected), "{expected:?} is not in {issuer}");
    }
    openssl(dir.path(), &["asn1parse", "-in", "leaf.pem"]);
    // The identifiers of the chain link up.
    let after = |text: &str, title: &str| {
        let (_, rest) = text.split_once(title).unwrap();
        rest.lines().nth(1).unwrap().trim().trim_start_matches("keyid:").to_owned()
    };
    assert_eq!(after(&text, "X509v3 Authority Key Identifier:"), after(&issuer, "X509v3 Subject Key Identifier:"));
}

#[test]
fn a_revoked_leaf_and_everything_below_a_revoked_ca_are_refused() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let own = leaf(&Key::new(KeyAlgorithm::P256).spki);
    let der = pki.issue(&own);
    let issuing = x509::facts(pki.issuing.der()).unwrap();
    let issuing: Vec<u8> =
        (0..20).map(|i| u8::from_str_radix(&issuing.serial[2 * i..2 * i + 2], 16).unwrap()).collect();
    let others = [serial(), serial(), serial()].map(|s| revoked(s.bytes(), RevocationReason::Superseded));
    for (root, issuing) in [
        (vec![], vec![revoked(own.serial.bytes(), RevocationReason::KeyCompromise)]),
        (vec![], [&others[..], &[revoked(own.serial.bytes(), RevocationReason::Unspecified)]].concat()),
        (vec![revoked(&issuing, RevocationReason::CaCompromise)], vec![]),
    ] {
        let lists = pki.lists(&root, &issuing);
        let dir = written(&pki, &der, &lists);
        let why = verified(dir.path(), at(NOW), "sslclient").unwrap_err();
        assert!(why.contains("certificate revoked"), "{why}");
        let why = by_rustls(&pki, &der, &lists, at(NOW)).unwrap_err().to_string();
        assert!(why.contains("Revoked"), "{why}");
    }
    // The others are not.
    let lists = pki.lists(&[], &others);
    assert_eq!(verified(written(&pki, &der, &lists).path(), at(NOW), "sslclient"), Ok(()));
    // A list that is over is none.
    let late = at("2030-06-01T23:00:00Z").plus(HOUR.saturating_mul(14));
    assert!(verified(written(&pki, &der, &lists).path(), late, "sslclient").is_err());
}

#[test]
fn a_list_reads_so_in_openssl() {
    let pki = Pki::new(KeyAlgorithm::P384);
    let entries: Vec<Revoked> = RevocationReason::ALL
        .iter()
        .enumerate()
        .map(|(i, (reason, ..))| revoked(&[0x70 - u8::try_from(i).unwrap(), 1], *reason))
        .chain([revoked(&[5], RevocationReason::Unspecified), revoked(&[0, 0xff], RevocationReason::Unspecified)])
        .collect();
    let [_, list] = pki.lists(&[], &entries);
    let dir = written(&pki, pki.root.der(), &[list]);
    let text =
        openssl(dir.path(), &["crl", "-inform", "DER", "-in", "0.crl", "-noout", "-text", "-CAfile", "issuing.pem"]);
    for expected in [
        "verify OK",
        "Version 2 (0x1)",
        "ecdsa-with-SHA384",
        "X509v3 CRL Number: \n                300\n",
        "X509v3 Authority Key Identifier:",
        "Last Update: Jun  1 11:00:00 2030 GMT",
        "Next Update: Jun  2 12:00:00 2030 GMT",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    assert!(!text.contains("Issuing Dist"), "{text}");
    let serials: Vec<&str> = text.lines().filter_map(|l| l.trim().strip_prefix("Serial Number: ")).collect();
    let expected = ["05", "FF", "6A01", "6B01", "6C01", "6D01", "6E01", "6F01", "7001"];
    assert_eq!(serials, expected);
    assert_eq!(text.matches("X509v3 CRL Reason Code:").count(), 6, "nothing is said where there is nothing to say");
    // Empty: no list of entries at all.
    let [_, empty] = pki.lists(&[], &[]);
    let dir = written(&pki, pki.root.der(), &[empty]);
    assert!(openssl(dir.path(), &["crl", "-inform", "DER", "-in", "0.crl", "-noout", "-text"]).contains("No Revoked"));
}

#[test]
fn a_list_without_sense_is_not_written() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let why = |revoked: &[Revoked]| ca::revocation_list(&list_of(revoked), &pki.issuing).unwrap_err().0;
    let one = revoked(&[9; 20], RevocationReason::Unspecified);
    assert!(why(&[one.clone(), one.clone()]).contains("twice"));
    for bad in [&[][..], &[0], &[0, 1], &[0xff, 0x80], &[1; 65]] {
        if bad == [0] {
            // Zero is an INTEGER in its shortest form, and old CAs used it.
            assert!(
                ca::revocation_list(&list_of(&[revoked(bad, RevocationReason::Unspecified)]), &pki.issuing).is_ok()
            );
        } else {
            assert!(why(&[revoked(bad, RevocationReason::Unspecified)]).contains("no certificate"), "{bad:?}");
        }
    }
    let mut over = list_of(&[one]);
    over.next_update = over.this_update;
    assert!(ca::revocation_list(&over, &pki.issuing).is_err());
}

#[test]
fn dates_are_right_on_29_february_in_2038_and_around_2050() {
    for (from, to, kinds) in [
        ("2028-02-29T00:00:00Z", "2028-02-29T23:59:59Z", ["Feb 29 00:00:00 2028", "Feb 29 23:59:59 2028"]),
        ("2038-01-19T03:14:07Z", "2038-01-19T03:14:09Z", ["Jan 19 03:14:07 2038", "Jan 19 03:14:09 2038"]),
        ("2049-12-31T23:59:59Z", "2050-01-01T00:00:00Z", ["Dec 31 23:59:59 2049", "Jan  1 00:00:00 2050"]),
        ("2050-01-01T00:00:00Z", "2052-02-29T00:00:00Z", ["Jan  1 00:00:00 2050", "Feb 29 00:00:00 2052"]),
    ] {
        let (root_key, key) = (Key::new(KeyAlgorithm::P256), Key::new(KeyAlgorithm::P256));
        let life = ("2026-01-01T00:00:00Z", "2099-12-31T23:59:59Z");
        let root = ca::ca_certificate(&ca_certificate("Root", &root_key, life, 1), None, &[], &[]).unwrap();
        let root = ca::Above::new(&root_key.sign(&root)).unwrap();
        let issuing = ca::ca_certificate(&ca_certificate("Issuing", &key, life, 0), Some(&root), &[], &[]).unwrap();
        let issuing = ca::Above::new(&root_key.sign(&issuing)).unwrap();
        let pki = Pki { root, root_key, issuing, issuing_key: key };
        let mut own = leaf(&Key::new(KeyAlgorithm::P256).spki);
        own.validity = validity(from, to);
        let to_sign = pki.to_sign(&own);
        assert_eq!(ca::lint(&to_sign, &pki.above(), &[] as &[&[u8]]), Ok(()), "{from}");
        let der = pki.issuing_key.sign(&to_sign);
        assert_eq!(x509::facts(&der).unwrap().validity, own.validity);
        let mut list = list_of(&[revoked(&[7], RevocationReason::Unspecified)]);
        (list.this_update, list.next_update) = (own.validity.not_before, own.validity.not_after);
        list.revoked[0].at = own.validity.not_before;
        let lists = [
            pki.root_key.sign(&ca::revocation_list(&list, &pki.root).unwrap()),
            pki.issuing_key.sign(&ca::revocation_list(&list, &pki.issuing).unwrap()),
        ];
        let dir = written(&pki, &der, &lists);
        let dates = openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-dates"]);
        let update = openssl(dir.path(), &["crl", "-in", "crls.pem", "-noout", "-lastupdate", "-nextupdate"]);
        for kind in kinds {
            assert!(dates.contains(kind) && update.contains(kind), "{kind} is not in {dates} {update}");
        }
        // openssl cannot tell the last second of a list from the one after it.
        assert_eq!(verified(dir.path(), own.validity.not_before, "sslserver"), Ok(()), "{from}");
        assert_eq!(by_rustls(&pki, &der, &lists, own.validity.not_before), Ok(()), "{from}");
        for outside in [own.validity.not_before.minus(HOUR), own.validity.not_after.plus(HOUR)] {
            assert!(
                verified(dir.path(), outside, "sslserver").is_err() && by_rustls(&pki, &der, &lists, outside).is_err()
            );
        }
    }
}

#[test]
fn name_constraints_hold_in_every_verifier() {
    let net: IpAddr = "10.1.0.0".parse().unwrap();
    let constraints = Constraints {
        permitted_dns: urls(&["svc.example"]),
        excluded_dns: urls(&["db.svc.example"]),
        permitted_ip: vec![(net, 16), ("2001:db8::".parse().unwrap(), 32)],
        excluded_ip: vec![("10.1.9.0".parse().unwrap(), 24)],
    };
    let pki = Pki::with(KeyAlgorithm::P256, KeyAlgorithm::P256, |ca| ca.constraints = constraints.clone());
    let key = Key::new(KeyAlgorithm::P256);
    for (name, good) in [
        ("web.svc.example", true),
        ("svc.example", true),
        ("web.example", false),
        ("db.svc.example", false),
        ("a.db.svc.example", false),
        ("10.1.2.3", true),
        ("10.2.2.3", false),
        ("10.1.9.1", false),
        ("2001:db8::1", true),
        ("2001:db9::1", false),
    ] {
        let mut own = leaf(&key.spki);
        own.names = names(&[name]);
        assert_eq!(own.names.iter().all(|n| constraints.allow(n)), good, "{name}");
        let to_sign = pki.to_sign(&own);
        assert_eq!(ca::lint(&to_sign, &pki.above(), &[] as &[&[u8]]).is_ok(), good, "{name}");
        let der = pki.issuing_key.sign(&to_sign);
        let lists = pki.lists(&[], &[]);
        assert_eq!(verified(written(&pki, &der, &lists).path(), at(NOW), "sslserver").is_ok(), good, "{name}");
        assert_eq!(by_rustls(&pki, &der, &lists, at(NOW)).is_ok(), good, "{name}");
    }
    // A SPIFFE ID alone is free of them: that is why it is held in code.
    let mut own = leaf(&key.spki);
    own.names = NameSet::default();
    let der = pki.issue(&own);
    assert_eq!(by_rustls(&pki, &der, &pki.lists(&[], &[]), at(NOW)), Ok(()));
}

#[test]
fn what_cannot_stand_in_a_certificate_is_not_written() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let good = leaf(&Key::new(KeyAlgorithm::P256).spki);
    let why = |edit: &dyn Fn(&mut keyward::domain::authority::Leaf)| {
        let mut own = good.clone();
        edit(&mut own);
        ca::leaf(&own, &pki.issuing, &[], &[]).unwrap_err().0
    };
    assert!(why(&|l| (l.names, l.spiffe) = (NameSet::default(), None)).contains("names"));
    assert!(why(&|l| l.purposes = Purposes { server: false, client: false }).contains("for nothing"));
    assert!(why(&|l| l.validity.not_after = l.validity.not_before).contains("only"));
    assert!(why(&|l| l.spki = Arc::from([0x30, 0].as_slice())).contains("public key"));
    for bad in ["ldap://x", "http://", "http://a b", "http:///x", "http://ä", "javascript:1", &"http://x".repeat(200)]
    {
        assert!(ca::leaf(&good, &pki.issuing, &urls(&[bad]), &[]).is_err(), "{bad}");
        assert!(ca::leaf(&good, &pki.issuing, &[], &urls(&[bad])).is_err(), "{bad}");
    }
    assert!(ca::leaf(&good, &pki.issuing, &urls(&[CRL_URL; 9]), &[]).is_err());
    let key = Key::new(KeyAlgorithm::P256);
    for bad in ["", " a", "a\n", &"x".repeat(65), "Mesh root 1"] {
        let ca = ca_certificate(bad, &key, crate::harness::ca_bytes::ISSUING_LIFE, 0);
        assert!(ca::ca_certificate(&ca, Some(&pki.root), &[], &[]).is_err(), "{bad:?}");
    }
    let ca = ca_certificate("RSA", &Key::new(KeyAlgorithm::Rsa2048), crate::harness::ca_bytes::ISSUING_LIFE, 0);
    assert!(ca::ca_certificate(&ca, Some(&pki.root), &[], &[]).unwrap_err().0.contains("rsa2048"));
    // A leaf issues nothing.
    assert!(ca::Above::new(&pki.issue(&good)).unwrap_err().0.contains("may not issue"));
}
