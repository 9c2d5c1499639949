//! Revocation lists: good ones by rcgen and by openssl, and signed ones with every fault, which only our own hand makes.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use keyward::codec::crl::{LARGEST, facts};
use keyward::codec::{ParseError, verify};
use keyward::domain::certificate::{Chain, Trust};
use keyward::domain::inventory::CrlFacts;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SerialNumber, SigningKey as _, date_time_ymd,
};
use x509_parser::prelude::FromDer as _;

use crate::harness::pki::{Ca, Der, nothing, openssl, roots};

/// A root, an intermediate, a leaf, and the chain of the three.
struct Pki {
    root: Ca,
    mid: Ca,
    leaf: Der,
    chain: Chain,
}

impl Pki {
    fn new() -> Self {
        Self::with(nothing, nothing)
    }

    fn with(mid: impl FnOnce(&mut rcgen::CertificateParams), leaf: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let root = Ca::root("Root", nothing);
        let mid = root.below("Mid", mid);
        let (leaf, _) = mid.leaf(&["a.example"], leaf);
        let chain = verify::chain(&[leaf.clone(), mid.der.clone()], &roots(&[&root.der])).unwrap();
        assert_eq!((chain.trust.clone(), chain.above.len()), (Trust::Anchored, 2));
        Self { root, mid, leaf, chain }
    }

    fn why(&self, bytes: &[u8]) -> String {
        facts(bytes, &self.chain).expect_err("refused").0
    }

    fn leaf_print(&self) -> Digest {
        Digest::of(&self.leaf)
    }

    fn mid_print(&self) -> Digest {
        Digest::of(&self.mid.der)
    }
}

fn serial(der: &Der) -> Vec<u8> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).unwrap();
    certificate.raw_serial().to_vec()
}

/// A list by rcgen.
fn by_rcgen(ca: &Ca, serials: &[Vec<u8>]) -> rcgen::CertificateRevocationList {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date_time_ymd(2030, 5, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: Some(date_time_ymd(2030, 4, 1)),
    });
    CertificateRevocationListParams {
        this_update: date_time_ymd(2030, 5, 1),
        next_update: date_time_ymd(2030, 7, 1),
        crl_number: SerialNumber::from(7),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
    .signed_by(&Issuer::from_params(&ca.params, &ca.key))
    .unwrap()
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len().to_be_bytes();
    let short: Vec<u8> = length.iter().copied().skip_while(|b| *b == 0).collect();
    let mut out = vec![tag];
    if value.len() > 0x7f {
        out.push(0x80 | u8::try_from(short.len()).unwrap());
        out.extend(short);
    } else {
        out.push(u8::try_from(value.len()).unwrap());
    }
    out.extend(value);
    out
}

const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const TIME: &[u8] = b"\x17\x0d300601000000Z";
const TRUE: &[u8] = &[1, 1, 0xff];

/// An extension with an id below 2.5.29.
fn extension(id: u8, critical: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[6, 3, 0x55, 0x1d, id], critical, &tlv(4, &[value])])
}

fn entry(serial: &[u8], more: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(2, &[serial]), TIME, more])
}

/// A list by hand, whatever its parts.
#[derive(Clone)]
struct Draft {
    version: &'static [u8],
    times: Vec<u8>,
    entries: Vec<u8>,
    extensions: Vec<u8>,
}

impl Draft {
    fn new() -> Self {
        let times = [TIME, b"\x18\x0f20300701000000Z"].concat();
        Self { version: &[2, 1, 1], times, entries: Vec::new(), extensions: extension(20, &[], &[2, 1, 7]) }
    }

    fn tbs(&self, ca: &Ca) -> Vec<u8> {
        let (_, own) = x509_parser::certificate::X509Certificate::from_der(&ca.der).unwrap();
        let entries = if self.entries.is_empty() { Vec::new() } else { tlv(0x30, &[&self.entries]) };
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa0, &[&tlv(0x30, &[&self.extensions])]),
        };
        let issuer = own.subject().as_raw();
        tlv(0x30, &[self.version, ECDSA_SHA256, issuer, &self.times, &entries, &extensions])
    }

    fn signed_by(&self, ca: &Ca) -> Vec<u8> {
        sign(&self.tbs(ca), ca)
    }
}

fn sign(tbs: &[u8], ca: &Ca) -> Vec<u8> {
    let signature = ca.key.sign(tbs).unwrap();
    tlv(0x30, &[tbs, ECDSA_SHA256, &tlv(3, &[&[0], &signature])])
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

#[test]
fn a_list_covers_what_its_signer_issued_and_revokes_what_stands_on_it() {
    let pki = Pki::new();
    let others = [vec![1], vec![0x7f; 20]];
    let list = by_rcgen(&pki.mid, &others);
    let expected = CrlFacts {
        this_update: at("2030-05-01T00:00:00Z"),
        next_update: Some(at("2030-07-01T00:00:00Z")),
        covers: BTreeSet::from([pki.leaf_print()]),
        revokes: BTreeSet::new(),
    };
    assert_eq!(facts(list.der(), &pki.chain).as_ref(), Ok(&expected));
    let pem = format!("made today\r\n{}and text below\n", list.pem().unwrap().replace('\n', "\r\n"));
    assert_eq!(facts(pem.as_bytes(), &pki.chain), Ok(expected.clone()));
    let list = by_rcgen(&pki.mid, &[others[0].clone(), serial(&pki.leaf), others[1].clone()]);
    let revoking = CrlFacts { revokes: BTreeSet::from([pki.leaf_print()]), ..expected.clone() };
    assert_eq!(facts(list.der(), &pki.chain), Ok(revoking));
    // The root's list is about the intermediate, even with the leaf's serial on it.
    let list = by_rcgen(&pki.root, &[serial(&pki.leaf)]);
    let about_mid = CrlFacts { covers: BTreeSet::from([pki.mid_print()]), ..expected.clone() };
    assert_eq!(facts(list.der(), &pki.chain).as_ref(), Ok(&about_mid));
    let list = by_rcgen(&pki.root, &[serial(&pki.mid.der)]);
    let revoking = CrlFacts { revokes: BTreeSet::from([pki.mid_print()]), ..about_mid };
    assert_eq!(facts(list.der(), &pki.chain), Ok(revoking));
}

#[test]
fn a_list_without_a_next_update_or_of_version_1_is_read_as_it_is() {
    let pki = Pki::new();
    let mut draft = Draft::new();
    draft.times = TIME.to_vec();
    let found = facts(&draft.signed_by(&pki.mid), &pki.chain).unwrap();
    assert_eq!((found.this_update, found.next_update), (at("2030-06-01T00:00:00Z"), None));
    draft = Draft::new();
    (draft.version, draft.extensions) = (&[], Vec::new());
    draft.entries = entry(&serial(&pki.leaf), &[]);
    let found = facts(&draft.signed_by(&pki.mid), &pki.chain).unwrap();
    assert_eq!(found.next_update, Some(at("2030-07-01T00:00:00Z")));
    assert!(found.revokes.contains(&pki.leaf_print()));
}

#[test]
fn small_and_long_serials_are_found_with_and_without_a_leading_zero() {
    for (own, listed) in
        [(&[0x80][..], &[0, 0x80][..]), (&[0x0f, 1], &[0x0f, 1]), (&[5], &[5]), (&[0xff; 19], &[0xff; 19])]
    {
        let pki = Pki::with(nothing, |p| p.serial_number = Some(SerialNumber::from_slice(own)));
        let draft = Draft { entries: entry(listed, &[]), ..Draft::new() };
        let found = facts(&draft.signed_by(&pki.mid), &pki.chain).unwrap();
        assert_eq!(found.revokes, BTreeSet::from([pki.leaf_print()]), "{own:02x?}");
    }
}

#[test]
fn only_the_key_that_issued_the_chain_may_sign_and_only_with_the_right_to() {
    let pki = Pki::new();
    let list = Draft::new();
    let why = pki.why(&list.signed_by(&Ca::root("Foreign", nothing)));
    assert!(why.contains("CN=Foreign") && why.contains("CN=Mid\" or \"CN=Root"), "{why}");
    let why = pki.why(&list.signed_by(&Ca::root("Mid", nothing)));
    assert!(why.contains("was not signed by the key of \"CN=Mid\""), "{why}");
    // Signed by the root, in the intermediate's name.
    let why = pki.why(&sign(&list.tbs(&pki.mid), &pki.root));
    assert!(why.contains("was not signed by the key"), "{why}");
    let weak = Pki::with(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign], nothing);
    let why = weak.why(&list.signed_by(&weak.mid));
    assert!(why.contains("lacks cRLSign"), "{why}");
    let free = Pki::with(|p| p.key_usages = Vec::new(), nothing);
    assert!(facts(&list.signed_by(&free.mid), &free.chain).is_ok(), "without key usage every use is allowed");
    // A root that stands alone was issued by nobody.
    let alone = verify::chain(core::slice::from_ref(&pki.root.der), &roots(&[&pki.root.der])).unwrap();
    assert!(facts(&list.signed_by(&pki.root), &alone).is_err_and(|e| e.0.contains("the chain has no issuer")));
}

#[test]
fn what_is_partial_or_not_understood_is_refused_with_its_reason() {
    let pki = Pki::new();
    let reason = extension(21, &[], &[10, 1, 1]);
    let name = tlv(0xa0, &[&tlv(0xa0, &[&tlv(0x86, &[b"http://a.example/1.crl"])])]);
    let point = |value: &[u8]| extension(28, TRUE, &tlv(0x30, &[value]));
    let other = entry(&[9], &[]);
    let list = |extensions: Vec<u8>, entries: Vec<u8>| Draft { extensions, entries, ..Draft::new() };
    let cases: [(&str, Draft); 16] = [
        ("delta", list(extension(27, TRUE, &[2, 1, 1]), vec![])),
        ("delta", list(extension(27, &[], &[2, 1, 1]), vec![])),
        ("partial or indirect", list(point(&name), vec![])),
        ("partial or indirect", list(point(&[0x81, 1, 0xff]), vec![])),
        ("partial or indirect", list(point(&[0x82, 1, 0xff]), vec![])),
        ("partial or indirect", list(point(&[0x83, 2, 1, 2]), vec![])),
        ("partial or indirect", list(point(&[0x84, 1, 0xff]), vec![])),
        ("partial or indirect", list(point(&[0x85, 1, 0xff]), vec![])),
        ("well-formed", list(extension(28, TRUE, &[0x30, 5]), vec![])),
        ("2.5.29.99", list(extension(99, TRUE, &[5, 0]), vec![])),
        ("twice", list([extension(20, &[], &[2, 1, 7]), extension(20, &[], &[2, 1, 7])].concat(), vec![])),
        (
            "indirect",
            list(vec![], [entry(&[9], &tlv(0x30, &[&extension(29, TRUE, &[0x30, 0])])), other.clone()].concat()),
        ),
        (
            "2.5.29.99",
            list(vec![], [other.clone(), entry(&[9], &tlv(0x30, &[&extension(99, TRUE, &[5, 0])]))].concat()),
        ),
        ("twice", list(vec![], entry(&[9], &tlv(0x30, &[&reason, &reason])))),
        ("well-formed", Draft { version: &[], ..Draft::new() }),
        ("well-formed", Draft { version: &[2, 1, 2], ..Draft::new() }),
    ];
    for (expected, draft) in cases {
        let why = pki.why(&draft.signed_by(&pki.mid));
        assert!(why.contains(expected), "{expected}: {why}");
    }
    let v1 = Draft { version: &[], extensions: vec![], entries: entry(&[9], &tlv(0x30, &[&reason])), ..Draft::new() };
    assert!(pki.why(&v1.signed_by(&pki.mid)).contains("well-formed"));
    for fine in [
        list(extension(99, &[], &[5, 0]), entry(&[9], &tlv(0x30, &[&reason, &extension(99, &[], &[5, 0])]))),
        list(point(&[0x81, 1, 0]), vec![]),
        list(vec![], vec![]),
    ] {
        assert!(facts(&fine.signed_by(&pki.mid), &pki.chain).is_ok());
    }
}

#[test]
fn a_signed_list_with_malformed_parts_is_refused_also_behind_a_match() {
    let pki = Pki::new();
    let good = entry(&serial(&pki.leaf), &[]);
    for bad in [
        tlv(0x30, &[]),
        tlv(0x30, &[&[2, 0], TIME]),
        tlv(0x30, &[&[2, 1, 9]]),
        tlv(0x30, &[&[2, 1, 9], b"\x17\x0b3006010000Z"]),
        tlv(0x30, &[&[2, 1, 9], TIME, &[5, 0]]),
        tlv(0x31, &[&[2, 1, 9], TIME]),
        vec![0x30],
        vec![0x30, 0x84, 0, 0, 0, 1],
    ] {
        for entries in [[good.clone(), bad.clone()].concat(), bad.clone()] {
            let why = pki.why(&Draft { entries, ..Draft::new() }.signed_by(&pki.mid));
            assert!(why.contains("well-formed"), "{bad:02x?}: {why}");
        }
    }
    for times in [&b"\x17\x0d301301000000Z"[..], b"\x17\x0d300601000000X", b"", b"\x18\x0d300601000000Z"] {
        let why = pki.why(&Draft { times: times.to_vec(), ..Draft::new() }.signed_by(&pki.mid));
        assert!(why.contains("well-formed"), "{times:02x?}: {why}");
    }
}

#[test]
fn what_is_no_list_is_refused_with_its_reason() {
    let pki = Pki::new();
    let list = by_rcgen(&pki.mid, &[]);
    let (der, pem) = (list.der().to_vec(), list.pem().unwrap());
    let mut tail = der.clone();
    tail.push(0);
    let huge = vec![b'x'; LARGEST + 1];
    for (bytes, reason) in [
        (&b""[..], "is empty"),
        (b"garbage", "holds no revocation list"),
        (keyward::codec::pem::certificates(&[&pki.leaf]).as_bytes(), "holds no revocation list"),
        (&pki.leaf, "well-formed"),
        (&tail, "well-formed"),
        (&pem.as_bytes()[..pem.len() / 2], "torn"),
        (pem.replace("MI", "M*").as_bytes(), "base64"),
        (format!("{pem}{pem}").as_bytes(), "more than one"),
        (&huge, "larger than"),
    ] {
        let why = pki.why(bytes);
        assert!(why.contains(reason), "{reason}: {why}");
    }
}

#[test]
fn every_flipped_bit_and_every_torn_end_is_refused() {
    let pki = Pki::new();
    let der = by_rcgen(&pki.mid, &[serial(&pki.leaf)]).der().to_vec();
    assert!(facts(&der, &pki.chain).is_ok());
    for at in 0..der.len() {
        assert!(facts(&der[..at], &pki.chain).is_err(), "torn at {at}");
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[at] ^= 1 << bit;
            let found = facts(&flipped, &pki.chain);
            assert!(found.is_err(), "bit {bit} of byte {at}: {found:?}");
        }
    }
}

/// What a CA with a fault might sign: nothing panics, and what stands on the list is never lost without a word.
#[test]
fn flipped_bits_under_a_good_signature_never_panic() {
    let pki = Pki::new();
    let reason = tlv(0x30, &[&extension(21, &[], &[10, 1, 1])]);
    let tbs = Draft { entries: [entry(&[9], &reason), entry(&[8], &[])].concat(), ..Draft::new() }.tbs(&pki.mid);
    let mut outcomes = BTreeSet::new();
    for at in 0..tbs.len() {
        for bit in 0..8 {
            let mut flipped = tbs.clone();
            flipped[at] ^= 1 << bit;
            match facts(&sign(&flipped, &pki.mid), &pki.chain) {
                Ok(found) => assert_eq!(found.covers, BTreeSet::from([pki.leaf_print()])),
                Err(ParseError(why)) => drop(outcomes.insert(why)),
            }
        }
    }
    assert!(outcomes.len() > 3, "{outcomes:?}");
}

#[test]
fn a_hundred_thousand_entries_are_read_quickly_and_the_last_is_found() {
    let pki = Pki::new();
    let reason = tlv(0x30, &[&extension(21, &[], &[10, 1, 1])]);
    let mut entries: Vec<u8> =
        (0..100_000_u32).flat_map(|n| entry(&[&[0x11; 12][..], &n.to_be_bytes()].concat(), &reason)).collect();
    entries.extend(entry(&serial(&pki.leaf), &reason));
    let list = Draft { entries, ..Draft::new() }.signed_by(&pki.mid);
    let began = Instant::now();
    let found = facts(&list, &pki.chain).unwrap();
    // Some tens of milliseconds when optimized; a debug build on a busy machine is far slower.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(found.revokes, BTreeSet::from([pki.leaf_print()]));
}

#[test]
fn lists_of_openssl_are_read_in_both_versions() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("ca.pem", &keyward::codec::pem::certificates(&[&pki.mid.der]));
    put("ca.key", &pki.mid.key.serialize_pem());
    let hex: String = serial(&pki.leaf).iter().map(|b| format!("{b:02X}")).collect();
    let hex = hex.trim_start_matches("00");
    put("index.txt", &format!("R\t390101000000Z\t260601000000Z,keyCompromise\t{hex}\tunknown\t/CN=a\n"));
    put("number", "07\n");
    let common = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_md = sha256\n";
    put("v1.cnf", common);
    put(
        "v2.cnf",
        &format!("{common}crlnumber = number\ncrl_extensions = more\n[more]\nauthorityKeyIdentifier = keyid\n"),
    );
    put(
        "part.cnf",
        &format!(
            "{common}crlnumber = number\ncrl_extensions = more\n[more]\nissuingDistributionPoint = critical,@idp\n[idp]\nonlyuser = TRUE\n"
        ),
    );
    let make = |config: &str| {
        let list = format!("{config}.crl");
        openssl(
            dir.path(),
            &[
                "ca", "-config", config, "-gencrl", "-keyfile", "ca.key", "-cert", "ca.pem", "-crldays", "30", "-out",
                &list,
            ],
        );
        fs::read(dir.path().join(list)).unwrap()
    };
    for config in ["v1.cnf", "v2.cnf"] {
        let found = facts(&make(config), &pki.chain).unwrap_or_else(|e| panic!("{config}: {e}"));
        assert_eq!(found.revokes, BTreeSet::from([pki.leaf_print()]), "{config}");
        let span = found.next_update.unwrap().unix() - found.this_update.unix();
        assert_eq!(span, 30 * 86_400, "{config}");
    }
    let why = pki.why(&make("part.cnf"));
    assert!(why.contains("partial"), "{why}");
}
