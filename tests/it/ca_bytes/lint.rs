//! The lint finds what relying parties would refuse, in bytes by our hand, by our hand and then changed, and by rcgen.

use keyward::codec::ca::{self, ToSign};
use keyward::domain::authority::Constraints;
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::name::NameSet;
use keyward::domain::spiffe::{SpiffeId, TrustDomain};
use keyward::domain::time::{DAY, HOUR};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::harness::ca_bytes::{CRL_URL, ISSUER_URL, ISSUING_LIFE, Key, Pki, ca_certificate, leaf, names, urls};

const NOBODY: &[&[u8]] = &[];

/// Every flaw in one text.
fn flaws(to_sign: &ToSign, above: &[&[u8]], others: &[&[u8]]) -> String {
    let flaws = ca::lint(to_sign, above, others).err().unwrap_or_default();
    flaws.iter().map(|flaw| format!("{flaw}\n")).collect()
}

fn assert_flaw(found: &str, expected: &str) {
    assert!(found.contains(expected), "{expected:?} is not in {found:?}");
}

/// The bytes with one part, which must be there once, changed to another of the same length.
fn patched(to_sign: &ToSign, from: &[u8], to: &[u8]) -> ToSign {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..to_sign.bytes.len()).filter(|at| to_sign.bytes[*at..].starts_with(from)).collect();
    let [place] = places[..] else { panic!("{from:02x?} stands at {places:?}") };
    let mut bytes = to_sign.bytes.clone();
    bytes[place..place + to.len()].copy_from_slice(to);
    ToSign { bytes, algorithm: to_sign.algorithm }
}

#[test]
fn a_change_in_the_bytes_is_a_flaw() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let own = leaf(&Key::new(KeyAlgorithm::P256).spki);
    let good = pki.to_sign(&own);
    assert_eq!(ca::lint(&good, &pki.above(), NOBODY), Ok(()));
    let serial = own.serial.bytes();
    let negative: Vec<u8> = core::iter::once(0xc0).chain(serial[1..].iter().copied()).collect();
    for (from, to, expected) in [
        (&b"\xa0\x03\x02\x01\x02"[..], &b"\xa0\x03\x02\x01\x01"[..], "4.1"),
        (serial, &negative, "not positive"),
        (b"\x06\x03\x55\x1d\x0f\x01\x01\xff", b"\x06\x03\x55\x1d\x0f\x01\x01\x00", "malformed or no extensions"),
        (b"\x06\x03\x55\x1d\x0f\x01\x01\xff", b"\x06\x03\x55\x1d\x0f\x01\x01\x01", "BOOLEAN"),
        (b"\x03\x02\x07\x80", b"\x03\x02\x02\x84", "the key usage of a leaf"),
        (b"\x03\x02\x07\x80", b"\x03\x02\x05\xa0", "the key usage of a leaf"),
        (b"\x03\x02\x07\x80", b"\x03\x02\x06\x80", "the key usage of a leaf"),
        (b"\x03\x02\x07\x80", b"\x03\x02\x07\x81", "padding"),
        (b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01", b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03", "serverAuth"),
        (b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01", b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02", "each once"),
        (b"web.svc.example", b"Web.svc.example", "no host name"),
        (b"web.svc.example", b"web_svc.example", "no host name"),
        (b"web.svc.example", b"192.168.100.200", "no host name"),
        (b"spiffe://mesh.example/", b"spiffe://mess.example/", "trust domain"),
        (b"spiffe://mesh.example/", b"https://mesh.example//", "no host name"),
        (b"/ns/prod/sa/web", b"/ns/prod/../web", "no host name"),
        (b"http://pki.example/mesh/1.crl", b"ldap://pki.example/mesh/1.crl", "HTTP URLs"),
        (b"http://pki.example/mesh/1.cer", b"http://pki example/mesh/1.cer", "HTTP URLs"),
        (b"\x2b\x06\x01\x05\x05\x07\x30\x02", b"\x2b\x06\x01\x05\x05\x07\x30\x01", "HTTP URLs"),
        (b"\x06\x03\x55\x1d\x1f", b"\x06\x03\x55\x1d\x2e", "not ours"),
        (b"\x06\x03\x55\x1d\x0e", b"\x06\x03\x55\x1d\x23", "malformed extension"),
        (b"Mesh issuing 1", b"Mesh issuing 2", "issuer's name"),
        (b"300601000000Z", b"300601000000+", "UTCTime"),
        (b"300601000000Z", b"300631000000Z", "4.1"),
        (b"300602000000Z", b"300531000000Z", "only"),
        (b"300602000000Z", b"370602000000Z", "above it"),
    ] {
        let found = flaws(&patched(&good, from, to), &pki.above(), &[]);
        assert_flaw(&found, expected);
    }
    // Key identifiers are of the keys.
    {
        let parsed = x509_parser::parse_x509_certificate(pki.issuing.der()).unwrap().1;
        let id = parsed.extensions().iter().find_map(|e| {
            if let x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) = e.parsed_extension() {
                Some(id.0.to_vec())
            } else {
                None
            }
        });
        let id = id.unwrap();
        let mut other = id.clone();
        other[7] ^= 1;
        assert_flaw(&flaws(&patched(&good, &id, &other), &pki.above(), &[]), "authority key identifier");
    }
    let tail = ToSign { bytes: [&good.bytes[..], &[5, 0]].concat(), algorithm: good.algorithm };
    assert_flaw(&flaws(&tail, &pki.above(), &[]), "bytes after its end");
    let torn = ToSign { bytes: good.bytes[..good.bytes.len() - 1].to_vec(), algorithm: good.algorithm };
    assert_flaw(&flaws(&torn, &pki.above(), &[]), "X.690");
    let other = ToSign { algorithm: KeyAlgorithm::P384, ..good.clone() };
    assert!(ca::lint(&other, &pki.above(), NOBODY).is_err(), "another algorithm than the issuer's");
    let list = ca::revocation_list(&crate::harness::ca_bytes::list_of(&[]), &pki.issuing).unwrap();
    assert!(ca::lint(&list, &pki.above(), NOBODY).is_err(), "a list is no certificate");
}

#[test]
fn nothing_outlives_what_is_above_it() {
    // webpki knows no dates of a root, so this is ours to see.
    let pki = Pki::with(KeyAlgorithm::P256, KeyAlgorithm::P256, |ca| {
        ca.validity.not_after = ca.validity.not_after.plus(DAY.saturating_mul(365 * 20));
    });
    let mut own = leaf(&Key::new(KeyAlgorithm::P256).spki);
    own.validity.not_after = pki.root.validity().not_after.plus(HOUR);
    assert_flaw(&flaws(&pki.to_sign(&own), &pki.above(), &[]), "\"CN=Mesh root 1,O=");
    own.validity = pki.root.validity();
    own.validity.not_before = pki.issuing.validity().not_before.minus(HOUR);
    assert_flaw(&flaws(&pki.to_sign(&own), &pki.above(), &[]), "\"CN=Mesh issuing 1,O=");
    own.validity = pki.issuing.validity().intersection(&pki.root.validity());
    assert_eq!(ca::lint(&pki.to_sign(&own), &pki.above(), NOBODY), Ok(()), "the very same ends are inside");
}

#[test]
fn a_chain_that_is_not_one_is_a_flaw() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let other = Pki::new(KeyAlgorithm::P256);
    let good = pki.to_sign(&leaf(&Key::new(KeyAlgorithm::P256).spki));
    for (above, expected) in [
        (vec![pki.issuing.der()], "was not signed by"),
        (vec![pki.root.der()], "issuer's name"),
        (vec![pki.root.der(), pki.issuing.der()], "was not signed by"),
        (vec![other.issuing.der(), other.root.der()], "authority key identifier"),
        (vec![pki.issuing.der(), other.root.der()], "was not signed by"),
        (vec![pki.issuing.der(), b"\x30\x00"], "above it is no"),
        (vec![pki.issuing.der(); 7], "more than 6"),
        (vec![], "issuer's name"),
    ] {
        assert_flaw(&flaws(&good, &above, &[]), expected);
    }
}

#[test]
fn a_ca_below_one_that_may_have_none_is_a_flaw() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let below = ca_certificate("Third", &Key::new(KeyAlgorithm::P256), ISSUING_LIFE, 0);
    let to_sign = ca::ca_certificate(&below, Some(&pki.issuing), &[], &[]).unwrap();
    assert_flaw(&flaws(&to_sign, &pki.above(), &[]), "path length");
    let to_sign = ca::ca_certificate(&below, Some(&pki.root), &urls(&[CRL_URL]), &urls(&[ISSUER_URL])).unwrap();
    assert_eq!(ca::lint(&to_sign, &[pki.root.der()], NOBODY), Ok(()));
    assert_flaw(
        &flaws(&patched(&to_sign, b"\x03\x02\x01\x06", b"\x03\x02\x02\x04"), &[pki.root.der()], &[]),
        "cRLSign",
    );
    assert_flaw(
        &flaws(&patched(&to_sign, b"\x03\x02\x01\x06", b"\x03\x02\x01\x86"), &[pki.root.der()], &[]),
        "keyCertSign",
    );
    let path = patched(&to_sign, b"spiffe://mesh.example", b"spiffe://mesh/example");
    assert_flaw(&flaws(&path, &[pki.root.der()], &[]), "without a path");
}

#[test]
fn a_leaf_outside_the_trust_domain_of_any_ca_above_it_is_a_flaw() {
    let pki =
        Pki::with(KeyAlgorithm::P256, KeyAlgorithm::P256, |ca| ca.trust_domain = TrustDomain::parse("other.example"));
    let mut own = leaf(&Key::new(KeyAlgorithm::P256).spki);
    own.spiffe = SpiffeId::parse("spiffe://other.example/ns/a");
    assert_flaw(&flaws(&pki.to_sign(&own), &pki.above(), &[]), "trust domain of a CA above it: mesh.example");
    own.spiffe = None;
    assert_eq!(ca::lint(&pki.to_sign(&own), &pki.above(), NOBODY), Ok(()));
}

#[test]
fn every_generation_has_a_name_and_a_key_of_its_own() {
    let (first, second) = (Pki::new(KeyAlgorithm::P256), Pki::new(KeyAlgorithm::P256));
    let key = Key::new(KeyAlgorithm::P256);
    let again = ca_certificate("Mesh issuing 1", &key, ISSUING_LIFE, 0);
    let again = ca::ca_certificate(&again, Some(&second.root), &[], &[]).unwrap();
    assert_eq!(ca::lint(&again, &[second.root.der()], NOBODY), Ok(()));
    assert_flaw(&flaws(&again, &[second.root.der()], &first.above()), "its name is that of \"CN=Mesh issuing 1");
    let same_key = ca_certificate("Mesh issuing 2", &first.issuing_key, ISSUING_LIFE, 0);
    let same_key = ca::ca_certificate(&same_key, Some(&second.root), &[], &[]).unwrap();
    assert_flaw(&flaws(&same_key, &[second.root.der()], &first.above()), "its key is that of");
    // A root is no exception.
    let root = ca_certificate("Mesh root 1", &key, ISSUING_LIFE, 1);
    let root = ca::ca_certificate(&root, None, &[], &[]).unwrap();
    assert_eq!(ca::lint(&root, NOBODY, NOBODY), Ok(()));
    assert_flaw(&flaws(&root, &[], &first.above()), "its name is that of");
    // Nor has a leaf the key of a CA, be it above it or another.
    let own = leaf(&second.issuing_key.spki);
    assert_flaw(&flaws(&second.to_sign(&own), &second.above(), &[]), "a CA above it");
    let own = leaf(&first.root_key.spki);
    assert_flaw(&flaws(&second.to_sign(&own), &second.above(), &first.above()), "of another generation");
}

#[test]
fn a_constraint_that_excludes_a_name_is_a_flaw_and_a_leaf_needs_one_name() {
    let pki = Pki::with(KeyAlgorithm::P256, KeyAlgorithm::P256, |ca| {
        ca.constraints = Constraints { excluded_dns: urls(&["api.svc.example"]), ..Constraints::default() };
    });
    let own = leaf(&Key::new(KeyAlgorithm::P256).spki);
    let found = flaws(&pki.to_sign(&own), &pki.above(), &[]);
    assert_flaw(&found, "name constraints forbid it");
    assert_flaw(&found, "as webpki verifies");
    let mut own = own;
    (own.names, own.spiffe) = (names(&["web.svc.example"]), None);
    let good = pki.to_sign(&own);
    // The only name is taken away from the SAN by hand.
    let at = good.bytes.windows(15).position(|w| w == b"web.svc.example").unwrap();
    assert_eq!(good.bytes[at - 4..at], [0x30, 17, 0x82, 15]);
    let mut empty = good.clone();
    empty.bytes[at - 2] = 0x81;
    assert_flaw(&flaws(&empty, &pki.above(), &[]), "email");
    own.names = NameSet::default();
    assert!(ca::leaf(&own, &pki.issuing, &[], &[]).is_err());
}

#[test]
fn a_weak_key_is_a_flaw() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let own = leaf(&Key::new(KeyAlgorithm::P256).spki);
    let good = pki.to_sign(&own);
    let point = &own.spki[own.spki.len() - 8..];
    let mut off = point.to_vec();
    off[7] ^= 1;
    // It stands in the key alone; the key identifier is a hash of it.
    assert_flaw(&flaws(&patched(&good, point, &off), &pki.above(), &[]), "no point of its curve");
}

/// A TBSCertificate as rcgen makes it below our issuing CA.
fn by_rcgen(pki: &Pki, edit: impl FnOnce(&mut CertificateParams)) -> ToSign {
    let issuer_key = KeyPair::try_from(pki.issuing_key.pkcs8.as_slice()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&pki.issuing.der().into(), issuer_key).unwrap();
    let mut params = CertificateParams::new(vec!["web.svc.example".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    edit(&mut params);
    let key = KeyPair::generate().unwrap();
    let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    ToSign { bytes: certificate.tbs_certificate.as_ref().to_vec(), algorithm: KeyAlgorithm::P256 }
}

#[test]
fn what_rcgen_makes_unless_told_otherwise_is_found() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let usual = flaws(&by_rcgen(&pki, |_| {}), &pki.above(), &[]);
    // The years 1975 to 4096, no key identifiers, no key usage, no purpose.
    for expected in
        ["4096-01-01", "authority key identifier", "subject key identifier", "the key usage of a leaf", "serverAuth"]
    {
        assert_flaw(&usual, expected);
    }
    let ca =
        flaws(&by_rcgen(&pki, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), &pki.above(), &[]);
    assert_flaw(&ca, "the key usage of a CA");
    let any = flaws(
        &by_rcgen(&pki, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        &pki.above(),
        &[],
    );
    assert_flaw(&any, "serverAuth, clientAuth or both, each once");
    let named = flaws(
        &by_rcgen(&pki, |params| params.distinguished_name.push(rcgen::DnType::CommonName, "web")),
        &pki.above(),
        &[],
    );
    assert!(!named.contains("subject alternative name must"), "with a subject it is not critical: {named}");
    let short = flaws(&by_rcgen(&pki, |params| params.serial_number = Some(1_u64.into())), &pki.above(), &[]);
    assert_flaw(&short, "shorter than 8 bytes");
    let flag = flaws(&by_rcgen(&pki, |params| params.is_ca = IsCa::NoCa), &pki.above(), &[]);
    assert_flaw(&flag, "basic constraints of a leaf");
    let domain = flaws(
        &by_rcgen(&pki, |params| {
            let uri = rcgen::SanType::URI("spiffe://mesh.example/a".try_into().unwrap());
            let other = rcgen::SanType::URI("spiffe://mesh.example/b".try_into().unwrap());
            params.subject_alt_names = vec![uri, other];
        }),
        &pki.above(),
        &[],
    );
    assert_flaw(&domain, "2 URIs");
}
