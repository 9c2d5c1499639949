//! Revocation lists: good ones by rcgen and by openssl, and signed ones with every fault, which only our own hand makes.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use keyward::codec::crl::{Issue, LARGEST, LARGEST_FETCHED, RevocationList, facts};
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
pub(crate) struct Pki {
    pub(crate) root: Ca,
    pub(crate) mid: Ca,
    pub(crate) leaf: Der,
    pub(crate) chain: Chain,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::with(nothing, nothing)
    }

    pub(crate) fn with(
        mid: impl FnOnce(&mut rcgen::CertificateParams),
        leaf: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Self {
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

    pub(crate) fn leaf_print(&self) -> Digest {
        Digest::of(&self.leaf)
    }

    pub(crate) fn mid_print(&self) -> Digest {
        Digest::of(&self.mid.der)
    }
}

pub(crate) fn serial(der: &Der) -> Vec<u8> {
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

pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
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
pub(crate) const TIME: &[u8] = b"\x17\x0d300601000000Z";
pub(crate) const TRUE: &[u8] = &[1, 1, 0xff];

/// An extension with an id below 2.5.29.
pub(crate) fn extension(id: u8, critical: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[6, 3, 0x55, 0x1d, id], critical, &tlv(4, &[value])])
}

pub(crate) fn entry(serial: &[u8], more: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(2, &[serial]), TIME, more])
}

/// A list by hand, whatever its parts.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) version: &'static [u8],
    pub(crate) times: Vec<u8>,
    pub(crate) entries: Vec<u8>,
    pub(crate) extensions: Vec<u8>,
}

impl Draft {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn signed_by(&self, ca: &Ca) -> Vec<u8> {
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
        ("certificates that name its distribution point, \"http://a.example/1.crl\"", list(point(&name), vec![])),
        ("only about certificates of CAs", list(point(&[0x82, 1, 0xff]), vec![])),
        ("well-formed", list(point(&[0x81, 1, 0xff, 0x82, 1, 0xff]), vec![])),
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
        list(point(&[0x81, 1, 0xff]), vec![]),
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
    // Only about certificates that are no CA's, as the leaf is.
    let found = facts(&make("part.cnf"), &pki.chain).unwrap();
    assert_eq!((found.covers, found.revokes), ([pki.leaf_print()].into(), [pki.leaf_print()].into()));
    put("part.cnf", &fs::read_to_string(dir.path().join("part.cnf")).unwrap().replace("onlyuser", "onlyCA"));
    let why = pki.why(&make("part.cnf"));
    assert!(why.contains("partial"), "{why}");
}

/// The part of an issuing distribution point that names these URIs.
pub(crate) fn named(uris: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = uris.iter().flat_map(|uri| tlv(0x86, &[uri.as_bytes()])).collect();
    tlv(0xa0, &[&tlv(0xa0, &[&names])])
}

pub(crate) fn limited(parts: &[&[u8]]) -> Draft {
    let point = extension(28, TRUE, &tlv(0x30, parts));
    Draft { extensions: [extension(20, &[], &[2, 1, 7]), point].concat(), ..Draft::new() }
}

/// RFC 5280 section 6.3.3 step b, over every way to limit a list and to name where it lies.
#[test]
fn a_list_counts_only_for_certificates_that_name_its_point_and_are_of_its_kind() {
    let (own, other) = ("http://a.example/1.crl", "http://b.example/2.crl");
    let at = |uris: &[&str]| rcgen::CrlDistributionPoint { uris: uris.iter().map(ToString::to_string).collect() };
    let (users, cas) = (&[0x81, 1, 0xff][..], &[0x82, 1, 0xff][..]);
    for (leaf, expected) in [
        (vec![], false),
        (vec![at(&[own])], true),
        (vec![at(&[other])], false),
        (vec![at(&["ldap:///cn=a", own])], true),
        (vec![at(&[other]), at(&[own])], true),
        (vec![at(&["http://a.example/1.crl/"]), at(&["HTTP://a.example/1.crl"])], false),
    ] {
        let pki =
            Pki::with(|p| p.crl_distribution_points = vec![at(&[own])], |p| p.crl_distribution_points = leaf.clone());
        for (parts, about_leaf, about_mid) in [
            (vec![named(&[own])], expected, true),
            (vec![named(&["ldap:///cn=x", own])], expected, true),
            (vec![named(&[own]), users.to_vec()], expected, false),
            (vec![named(&[own]), cas.to_vec()], false, true),
            (vec![named(&[])], false, false),
            (vec![users.to_vec()], true, false),
            (vec![cas.to_vec()], false, true),
            (vec![], true, true),
        ] {
            let list = limited(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let list =
                Draft { entries: [entry(&serial(&pki.leaf), &[]), entry(&serial(&pki.mid.der), &[])].concat(), ..list };
            for (ca, print, about) in
                [(&pki.mid, pki.leaf_print(), about_leaf), (&pki.root, pki.mid_print(), about_mid)]
            {
                let found = facts(&list.signed_by(ca), &pki.chain);
                let shown = format!("{leaf:?} {parts:02x?}: {found:?}");
                match found {
                    Ok(found) if about => {
                        assert_eq!((found.covers, found.revokes), ([print].into(), [print].into()), "{shown}");
                    }
                    Ok(_) => panic!("{shown}"),
                    Err(why) => assert!(!about && why.0.contains("is partial"), "{shown}"),
                }
            }
        }
    }
    assert!(
        facts(&limited(&[&named(&[own]), &[0x84, 1, 0xff]]).signed_by(&Pki::new().mid), &Pki::new().chain).is_err()
    );
}

#[test]
fn the_number_of_a_list_never_goes_back_and_neither_does_its_time() {
    let pki = Pki::new();
    let make = |number: Option<&[u8]>, day: &str| {
        let times = [&b"\x17\x0d3006"[..], day.as_bytes(), b"000000Z", b"\x18\x0f20300701000000Z"].concat();
        let extensions = number.map_or(vec![], |n| extension(20, &[], &tlv(2, &[n])));
        Draft { times, extensions, ..Draft::new() }.signed_by(&pki.mid)
    };
    let follows =
        |new: &[u8], old: &[u8]| Issue::read(new).unwrap().may_follow(&Issue::read(old).unwrap()).map_err(|e| e.0);
    for (old, new, refusal) in [
        ((Some(&[7][..]), "01"), (Some(&[7][..]), "01"), None),
        ((Some(&[7]), "01"), (Some(&[8]), "01"), None),
        ((Some(&[7]), "01"), (Some(&[8]), "02"), None),
        ((Some(&[0, 0xff]), "01"), (Some(&[1, 0]), "02"), None),
        ((None, "01"), (Some(&[1]), "01"), None),
        ((None, "01"), (None, "02"), None),
        ((Some(&[8]), "01"), (Some(&[7]), "02"), Some("0x07, and 0x08 was seen")),
        ((Some(&[1, 0]), "01"), (Some(&[0, 0xff]), "02"), Some("0xff, and 0x0100 was seen")),
        ((Some(&[8]), "01"), (None, "02"), Some("none, and 0x08 was seen")),
        ((Some(&[8]), "02"), (Some(&[9]), "01"), Some("of 2030-06-01")),
        ((None, "02"), (None, "01"), Some("of 2030-06-01")),
    ] {
        let found = follows(&make(new.0, new.1), &make(old.0, old.1));
        match refusal {
            None => assert_eq!(found, Ok(()), "{old:?} {new:?}"),
            Some(text) => assert!(found.as_ref().is_err_and(|why| why.contains(text)), "{old:?} {new:?}: {found:?}"),
        }
    }
    // Another issuer counts by itself.
    assert_eq!(follows(by_rcgen(&pki.root, &[]).der(), &make(Some(&[9; 20]), "05")), Ok(()));
    for malformed in [&[0x80][..], &[], &[0x7f; 21]] {
        assert!(Issue::read(&make(Some(malformed), "01")).is_err(), "{malformed:02x?}");
    }
}

#[test]
fn a_list_is_read_once_and_asked_about_many_chains() {
    let pki = Pki::new();
    let entries: Vec<u8> =
        (0..100_000_u32).flat_map(|n| entry(&[&[0x11; 12][..], &n.to_be_bytes()].concat(), &[])).collect();
    let list = Draft { entries, ..Draft::new() }.signed_by(&pki.mid);
    let began = Instant::now();
    let read = RevocationList::of(&list, LARGEST_FETCHED, &[&pki.chain]).unwrap();
    let reading = began.elapsed();
    assert_eq!((read.entries(), read.digest()), (100_000, Digest::of(&list)));
    let began = Instant::now();
    for _ in 0..100 {
        assert!(read.about(&pki.chain).unwrap().revokes.is_empty());
    }
    println!("read in {reading:?}, asked a hundred times in {:?}", began.elapsed());
    assert!(began.elapsed() < reading, "each question costs far less than reading: {:?}", began.elapsed());
    let again = RevocationList::of(&list, LARGEST_FETCHED, &[&pki.chain]).unwrap();
    assert!(std::ptr::eq(&*read, &*again), "it is not read again");
    assert!(RevocationList::known(&Digest::of(&list)).is_some());
    // Whoever has no part in it is not answered from what was read for others.
    let stranger = Pki::new();
    assert!(RevocationList::of(&list, LARGEST_FETCHED, &[&stranger.chain]).is_err());
    assert!(RevocationList::of(&list, LARGEST_FETCHED, &[&stranger.chain, &pki.chain]).is_ok());
    assert!(RevocationList::of(&list, list.len() - 1, &[&pki.chain]).unwrap_err().0.contains("larger than"));
}

#[test]
fn a_list_beyond_sixteen_mebibytes_is_read_and_one_with_too_many_entries_is_not() {
    let pki = Pki::new();
    let long = |count: u32, more: &[u8]| {
        let one = |n: u32| entry(&[&[0x11; 12][..], &n.to_be_bytes()].concat(), more);
        let entries: Vec<u8> = (0..count).flat_map(one).collect();
        Draft { entries, ..Draft::new() }.signed_by(&pki.mid)
    };
    let reason = tlv(0x30, &[&extension(21, &[], &[10, 1, 1])]);
    let list = long(400_000, &reason);
    assert!((LARGEST + 1..LARGEST_FETCHED).contains(&list.len()), "{}", list.len());
    assert!(pki.why(&list).contains("larger than"), "in a file");
    assert_eq!(RevocationList::of(&list, LARGEST_FETCHED, &[&pki.chain]).unwrap().entries(), 400_000);
    let many = Draft { entries: entry(&[9], &[]).repeat(1_000_001), ..Draft::new() }.signed_by(&pki.mid);
    let refused = RevocationList::of(&many, many.len(), &[&pki.chain]);
    assert!(refused.is_err_and(|e| e.0.contains("more than 1000000 entries")));
}

#[test]
fn the_seeds_of_the_fuzzer_reach_what_they_are_for() {
    let seed =
        |name: &str| fs::read(format!("{}/fuzz/seeds/revocation_lists/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let roots = verify::Roots::from_bundle(&seed("root.der")).unwrap();
    let chain = verify::chain(&[seed("leaf.der"), seed("intermediate.der")], &roots).unwrap();
    assert_eq!(chain.list_points(), ["http://crl.example/1.crl".into()].into());
    for (name, expected) in [
        ("good.crl", Ok(1)),
        ("pem.crl", Ok(1)),
        ("shard.crl", Ok(1)),
        ("delta.crl", Err("delta")),
        ("torn.crl", Err("well-formed")),
    ] {
        match (facts(&seed(name), &chain), expected) {
            (Ok(found), Ok(revoked)) => assert_eq!(found.revokes.len(), revoked, "{name}"),
            (Err(why), Err(text)) => assert!(why.0.contains(text), "{name}: {why}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]

    /// Whatever stands on a list is found on it, and nothing else is.
    #[test]
    fn the_serials_of_a_list_are_found_and_no_others(
        listed in proptest::collection::vec(proptest::collection::vec(0_u8.., 1..21), 0..40),
        own in proptest::collection::vec(0_u8.., 1..20),
    ) {
        let mut own = own;
        own[0] = own[0] & 0x7f | 1;
        let positive = |serial: &Vec<u8>| if serial[0] & 0x80 == 0 { serial.clone() } else { [&[0], &serial[..]].concat() };
        let pki = Pki::with(nothing, |p| p.serial_number = Some(SerialNumber::from_slice(&own)));
        for with_own in [false, true] {
            let mut entries: Vec<u8> = listed.iter().flat_map(|s| entry(&positive(s), &[])).collect();
            if with_own {
                entries.splice(0..0, entry(&own, &[]));
            }
            let found = facts(&Draft { entries, ..Draft::new() }.signed_by(&pki.mid), &pki.chain).unwrap();
            let bare = |s: &Vec<u8>| s.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
            let expected = with_own || listed.iter().any(|s| bare(s) == own);
            proptest::prop_assert_eq!(found.revokes.contains(&pki.leaf_print()), expected);
        }
    }
}
