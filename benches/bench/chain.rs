//! `cargo bench -- chain`: a chain judged by us and by rustls-webpki, over the same bytes, in turn.
//!
//! Leaf and issuing CA are presented, the root is known; P-256, as private CAs have it. We remember that a CA's
//! certificate or list was signed well, and webpki does not; so each is measured over CAs that nobody saw before, too.

use std::time::Instant;

use keyward::codec::peer::Trust;
use keyward::codec::peer_crl::Crl;
use keyward::codec::verify::{self, Roots};
use keyward::domain::certificate;
use keyward::domain::link::{PeerId, Purpose};
use keyward::domain::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder,
};

use crate::report::figure;

/// Chains, each below a root of its own: of so few first looks the median is steady.
const CHAINS: usize = 256;
/// How often each is looked at again.
const ROUNDS: usize = 20;
/// Certificates on the issuing CA's list.
const REVOKED: u32 = 100;
const NAME: &str = "portal.example.com";
/// January of 2027: certificates and lists are valid then.
const NOW: u64 = 1_800_000_000;

pub fn chain() {
    let now = Timestamp::from_unix(NOW as i64);
    let judged = |case: &Case| assert!(case.trust.judge(&case.presented, now).is_ok());
    let served = |case: &Case| {
        let found = verify::chain(&case.presented, &case.roots).expect("it parses");
        assert!(found.trust == certificate::Trust::Anchored && found.above.len() == 2);
    };
    let without = |case: &Case| webpki(case, KeyUsage::client_auth());
    compare("a peer's chain", Lists::Absent, judged, without);
    compare("a peer's chain with revocation lists", Lists::There, judged, without);
    compare("a served chain", Lists::Absent, served, |case| webpki(case, KeyUsage::server_auth()));
}

/// Whether there are revocation lists of root and issuing CA.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    There,
    Absent,
}

/// What is presented, and what each of the two knows beforehand.
struct Case {
    presented: [CertificateDer<'static>; 2],
    trust: Trust,
    roots: Roots,
    anchor: TrustAnchor<'static>,
    lists: Vec<CertRevocationList<'static>>,
}

fn compare(row: &str, lists: Lists, ours: impl Fn(&Case), theirs: impl Fn(&Case)) {
    let cases: Vec<Case> = (0..CHAINS).map(|i| case(i, lists)).collect();
    for (when, rounds) in [(", CAs never seen before", 1), ("", ROUNDS)] {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for (i, case) in cases.iter().enumerate() {
                // Neither is always the one that finds the bytes in the cache.
                if (i + round).is_multiple_of(2) {
                    own.push(micros(&ours, case));
                    other.push(micros(&theirs, case));
                } else {
                    other.push(micros(&theirs, case));
                    own.push(micros(&ours, case));
                }
            }
        }
        let (own, other) = (median(own), median(other));
        figure(&format!("{row}{when}"), "µs", own);
        figure(&format!("{row}{when}: webpki"), "µs", other);
        figure(&format!("{row}{when}: over webpki"), "×", own / other);
    }
}

fn micros(work: impl Fn(&Case), case: &Case) -> f64 {
    let began = Instant::now();
    work(case);
    began.elapsed().as_secs_f64() * 1e6
}

fn median(mut spans: Vec<f64>) -> f64 {
    spans.sort_by(f64::total_cmp);
    spans[spans.len() / 2]
}

fn webpki(case: &Case, usage: KeyUsage) {
    let [leaf, issuing] = &case.presented;
    let lists: Vec<&CertRevocationList<'_>> = case.lists.iter().collect();
    let revocation = (!lists.is_empty()).then(|| {
        let options = RevocationOptionsBuilder::new(&lists).expect("lists");
        options.with_expiration_policy(ExpirationPolicy::Enforce).build()
    });
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW));
    let leaf = EndEntityCert::try_from(leaf).expect("it parses");
    let (anchors, above) = (std::slice::from_ref(&case.anchor), std::slice::from_ref(issuing));
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, anchors, above, now, usage, revocation, None).expect("a good chain");
}

/// A chain below a root of its own.
fn case(number: usize, wanted: Lists) -> Case {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("{name} {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = KeyIdMethod::Sha256;
        (params, KeyPair::generate().expect("a key"))
    };
    let (root_params, root_key) = ca("Bench Root");
    let root = root_params.self_signed(&root_key).expect("a root").der().clone();
    let root_signs = Issuer::from_params(&root_params, &root_key);
    let (issuing_params, issuing_key) = ca("Bench Issuing CA");
    let issuing = issuing_params.signed_by(&issuing_key, &root_signs).expect("a CA").der().clone();
    let issuing_signs = Issuer::from_params(&issuing_params, &issuing_key);
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    params.distinguished_name = named(NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &issuing_signs).expect("a leaf").der().clone();
    let lists: Vec<Vec<u8>> = match wanted {
        Lists::Absent => Vec::new(),
        Lists::There => vec![list(&root_signs, 0), list(&issuing_signs, REVOKED)],
    };
    let mut roots = Roots::default();
    roots.add(&root).expect("a root");
    let crls = lists.iter().map(|list| Crl::read(list).expect("a list")).collect();
    let peer = PeerId::parse(&format!("dns:{NAME}")).expect("a peer");
    let owned = |list: &Vec<u8>| CertRevocationList::Owned(OwnedCertRevocationList::from_der(list).expect("a list"));
    Case {
        presented: [leaf, issuing],
        trust: Trust::new(roots.clone(), crls, vec![peer], Purpose::ClientAuth),
        roots,
        anchor: webpki::anchor_from_trusted_cert(&root).expect("a root").to_owned(),
        lists: lists.iter().map(owned).collect(),
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn list(issuer: &Issuer<'_, &KeyPair>, entries: u32) -> Vec<u8> {
    let revoked = |i: u32| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[&[0x40; 16][..], &i.to_be_bytes()].concat()),
        revocation_time: date_time_ymd(2027, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2027, 1, 1),
        next_update: date_time_ymd(2027, 12, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: (0..entries).map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).expect("a list").der().to_vec()
}
