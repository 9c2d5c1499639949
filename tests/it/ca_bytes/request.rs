//! Signing requests by openssl, rcgen and ourselves: key and names are taken, everything else is not.

use std::fs;
use std::path::Path;

use keyward::codec::ca::{LONGEST_REQUEST, Request, request};
use keyward::codec::keys::KeyPair;
use keyward::codec::pem::KeyForm;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::name::NameSet;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::harness::ca_bytes::{Key, names};
use crate::harness::pki::openssl;

fn why(bytes: &[u8]) -> String {
    request(bytes).expect_err("refused").0
}

/// A request by openssl with this configuration of its extensions.
fn by_openssl(dir: &Path, key: &[&str], subject: &str, extensions: &str) -> Vec<u8> {
    let section = if extensions.is_empty() { "" } else { "req_extensions = ext\n" };
    let text = format!("[req]\ndistinguished_name = dn\n{section}[dn]\n[ext]\n{extensions}\n");
    fs::write(dir.join("req.cnf"), text).unwrap();
    let mut args =
        vec!["req", "-new", "-nodes", "-config", "req.cnf", "-subj", subject, "-keyout", "k.pem", "-out", "r.pem"];
    args.extend(key);
    openssl(dir, &args);
    fs::read(dir.join("r.pem")).unwrap()
}

fn by_rcgen(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["web.svc.example".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    edit(&mut params);
    params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

const EC: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn our_own_requests_and_those_of_openssl_are_read() {
    for (algorithm, _) in KeyAlgorithm::ALL {
        let key = Key::new(algorithm);
        let wanted = names(&["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"]);
        let der = KeyPair::read(KeyForm::Pkcs8, &key.pkcs8).unwrap().signing_request(&wanted).unwrap();
        let expected = Request { spki: key.spki.clone(), algorithm, names: wanted, spiffe: None, common_name: None };
        assert_eq!(request(&der), Ok(expected));
    }
    let dir = TempDir::new().unwrap();
    for (key, algorithm) in [
        (EC, KeyAlgorithm::P256),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], KeyAlgorithm::P384),
        (&["-newkey", "ed25519"], KeyAlgorithm::Ed25519),
        (&["-newkey", "rsa:2048"], KeyAlgorithm::Rsa2048),
        (
            &["-newkey", "rsa:3072", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"],
            KeyAlgorithm::Rsa3072,
        ),
    ] {
        let extensions = "subjectAltName = DNS:Web.SVC.example, URI:spiffe://mesh.example/ns/a\n\
             keyUsage = critical, digitalSignature\nextendedKeyUsage = codeSigning\nbasicConstraints = critical, CA:FALSE\n\
             subjectKeyIdentifier = hash\ntlsfeature = status_request";
        let text = by_openssl(dir.path(), key, "/O=Other/CN=web.svc.example", extensions);
        let found = request(&text).unwrap();
        assert_eq!((found.algorithm, found.names.clone()), (algorithm, names(&["web.svc.example"])));
        assert_eq!(found.spiffe.as_ref().map(ToString::to_string).as_deref(), Some("spiffe://mesh.example/ns/a"));
        assert_eq!(found.common_name, names(&["web.svc.example"]).iter().next().cloned());
        let der = openssl(dir.path(), &["req", "-in", "r.pem", "-outform", "DER", "-out", "r.der"]);
        assert!(der.is_empty(), "{der}");
        assert_eq!(request(&fs::read(dir.path().join("r.der")).unwrap()), Ok(found.clone()));
        openssl(dir.path(), &["pkey", "-in", "k.pem", "-pubout", "-outform", "DER", "-out", "p.der"]);
        assert_eq!(Digest::of(&fs::read(dir.path().join("p.der")).unwrap()), Digest::of(&found.spki));
    }
}

#[test]
fn a_name_in_the_subject_alone_is_told_apart() {
    let dir = TempDir::new().unwrap();
    let found = request(&by_openssl(dir.path(), EC, "/CN=host.example", "")).unwrap();
    assert_eq!(found.names, NameSet::default());
    assert_eq!(found.common_name, names(&["host.example"]).iter().next().cloned());
    for subject in ["/CN=Some body", "/O=host.example", "/CN=a.example/CN=b.example"] {
        let found = request(&by_openssl(dir.path(), EC, subject, "")).unwrap();
        assert_eq!(found.common_name, None, "{subject}");
    }
}

#[test]
fn other_labels_and_texts_around_are_read_and_torn_ones_are_not() {
    let dir = TempDir::new().unwrap();
    let text = String::from_utf8(by_openssl(dir.path(), EC, "/CN=a.example", "")).unwrap();
    assert!(request(text.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST").as_bytes()).is_ok());
    assert!(request(format!("Some text\n{}\nmore", text.replace('\n', "\r\n")).as_bytes()).is_ok());
    assert!(why(text.split("-----END").next().unwrap().as_bytes()).contains("torn"));
    assert!(why(text.repeat(2).as_bytes()).contains("more than one"));
    assert!(why(text.replace("MI", "!!").as_bytes()).contains("base64"));
    for none in ["", "hello", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"] {
        assert!(why(none.as_bytes()).contains("holds no signing request"), "{none:?}");
    }
    assert!(why(&vec![b'x'; 2 * LONGEST_REQUEST + 1]).contains("more than"));
    let mut long = vec![0x30, 0x83, 1, 0, 0];
    long.resize(5 + (1 << 16), 0);
    assert!(why(&long).contains("more than"));
}

#[test]
fn who_wants_to_be_a_ca_is_told_that_he_will_not() {
    let ca = by_rcgen(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let dir = TempDir::new().unwrap();
    assert!(why(&by_openssl(dir.path(), EC, "/CN=a.example", "basicConstraints = CA:TRUE")).contains("CA"));
    let signs = by_rcgen(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert!(why(&signs).contains("keyCertSign"));
    // rcgen leaves the flag out of requests; whoever writes it is refused.
    assert!(request(&ca).is_ok_and(|r| r.names == names(&["web.svc.example"])) || why(&ca).contains("CA"));
}

#[test]
fn names_of_other_kinds_are_refused_and_not_dropped() {
    for (name, expected) in [
        (SanType::Rfc822Name("a@example.com".try_into().unwrap()), "email"),
        (SanType::URI("https://a.example/".try_into().unwrap()), "no SPIFFE ID"),
        (SanType::URI("spiffe://Mesh.example/a".try_into().unwrap()), "no SPIFFE ID"),
        (SanType::URI("spiffe://mesh.example".try_into().unwrap()), "no SPIFFE ID"),
        (SanType::DnsName("a_b.example".try_into().unwrap()), "expected host names"),
        (SanType::DnsName("192.0.2.1".try_into().unwrap()), "expected host names"),
    ] {
        let found = why(&by_rcgen(|p| p.subject_alt_names.push(name)));
        assert!(found.contains(expected), "{found}");
    }
    let two = by_rcgen(|p| {
        for path in ["a", "b"] {
            let uri = format!("spiffe://mesh.example/{path}");
            p.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        }
    });
    assert!(why(&two).contains("more than one SPIFFE ID"));
    let many = by_rcgen(|p| {
        let name = |i: usize| SanType::DnsName(format!("n{i}.example").as_str().try_into().unwrap());
        p.subject_alt_names = (0..1_001).map(name).collect();
    });
    assert!(why(&many).contains("more than 1000 names"));
}

#[test]
fn unknown_wishes_are_read_over_unless_critical() {
    let extension = |critical| {
        by_rcgen(|p| {
            let mut own = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            own.set_criticality(critical);
            p.custom_extensions = vec![own];
        })
    };
    assert!(request(&extension(false)).is_ok());
    assert!(why(&extension(true)).contains("critical extension"));
    assert!(request(&by_rcgen(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])).is_ok());
    let twice = by_rcgen(|p| {
        let own = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        p.custom_extensions = vec![own.clone(), own];
    });
    assert!(why(&twice).contains("twice"));
}

#[test]
fn a_request_of_another_key_or_with_a_weak_one_is_refused() {
    let good = by_rcgen(|p| p.distinguished_name.push(DnType::CommonName, "a.example"));
    // Any byte of it changed: never taken.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(request(&bad).is_err(), "byte {at}");
    }
    assert!(request(&[&good[..], &[0]].concat()).is_err());
    let dir = TempDir::new().unwrap();
    for (key, expected) in [
        (&["-newkey", "rsa:1024"][..], "1024 bits"),
        (&["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"], "65537"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], "not supported"),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "not supported"),
        (&["-newkey", "rsa:2048", "-sha1"], "not accepted"),
        (&["-newkey", "ed448"], "not supported"),
    ] {
        let found = why(&by_openssl(dir.path(), key, "/CN=a.example", ""));
        assert!(found.contains(expected), "{found}");
    }
}
