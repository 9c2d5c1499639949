//! Whatever is decided stands in the certificate, and nothing else does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use keyward::codec::{ca, x509};
use keyward::domain::authority::{Leaf, RevocationReason, Revoked, SerialNumber};
use keyward::domain::certificate::Purposes;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::domain::name::{Name, NameSet};
use keyward::domain::spiffe::SpiffeId;
use keyward::domain::time::{Timestamp, Validity};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use x509_parser::prelude::FromDer as _;

use crate::harness::ca_bytes::{ISSUING_LIFE, Key, Pki, at, list_of};

static PKI: LazyLock<Pki> = LazyLock::new(|| Pki::new(KeyAlgorithm::P256));
/// The longer RSA keys take seconds to make, and differ in length alone.
const ALGORITHMS: [KeyAlgorithm; 4] =
    [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048];
static KEYS: LazyLock<[Key; 4]> = LazyLock::new(|| ALGORITHMS.map(Key::new));

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        "(\\*\\.)?[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{1,20}){1,4}"
            .prop_filter_map("a name", |text| Name::parse(&text).ok()),
        any::<IpAddr>().prop_map(Name::Ip),
    ]
}

fn spiffe() -> impl Strategy<Value = SpiffeId> {
    "(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}){1,6}"
        .prop_filter_map("an ID", |path| SpiffeId::parse(&format!("spiffe://mesh.example{path}")))
}

prop_compose! {
    fn leaves()(
        serial in any::<[u8; 20]>(),
        names in vec(name(), 0..12),
        id in option::of(spiffe()),
        from in at(ISSUING_LIFE.0).unix()..at(ISSUING_LIFE.1).unix() - 1,
        life in 1_i64..1_000_000_000,
        (server, client) in prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))],
        key in 0..ALGORITHMS.len(),
    ) -> Option<Leaf> {
        let until = Timestamp::from_unix(from + life).min(at(ISSUING_LIFE.1));
        (!names.is_empty() || id.is_some()).then(|| Leaf {
            serial: SerialNumber::new(serial),
            validity: Validity { not_before: Timestamp::from_unix(from), not_after: until },
            names: NameSet::new(names),
            spiffe: id,
            purposes: Purposes { server, client },
            spki: KEYS[key].spki.clone(),
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_leaf_has_the_facts_that_were_decided(leaf in leaves().prop_filter_map("a name", |leaf| leaf)) {
        let pki = &*PKI;
        let to_sign = pki.to_sign(&leaf);
        prop_assert_eq!(ca::lint(&to_sign, &pki.above(), &[] as &[&[u8]]), Ok(()));
        let der = pki.issuing_key.sign(&to_sign);
        let facts = x509::facts(&der).unwrap();
        prop_assert_eq!(&facts.names, &leaf.names);
        prop_assert_eq!(facts.validity, leaf.validity);
        prop_assert_eq!(facts.purposes, leaf.purposes);
        prop_assert_eq!(facts.spki, Digest::of(&leaf.spki));
        prop_assert_eq!(&*facts.serial, leaf.serial.to_string());
        prop_assert!(!facts.may_issue && facts.subject.is_empty() && facts.cert_id.is_some());
        let others: Vec<String> = leaf.spiffe.iter().map(|id| {
            format!("URI {:?}", id.as_str().chars().take(80).collect::<String>())
        }).collect();
        prop_assert_eq!(x509::other_names(&der).unwrap(), others);
    }

    #[test]
    fn a_byte_that_is_changed_anywhere_is_never_a_panic(leaf in leaves().prop_filter_map("a name", |leaf| leaf), place in any::<prop::sample::Index>(), by in 1_u8..) {
        let mut to_sign = PKI.to_sign(&leaf);
        let place = place.index(to_sign.bytes.len());
        to_sign.bytes[place] ^= by;
        // Most changes are flaws; those of names, dates, serial number and key may give another good certificate.
        drop(ca::lint(&to_sign, &PKI.above(), &[] as &[&[u8]]));
    }

    #[test]
    fn a_list_has_what_was_revoked(serials in btree_set(vec(any::<u8>(), 1..20), 0..40), reason in 0_usize..7) {
        let pki = &*PKI;
        let serials: BTreeSet<Vec<u8>> = serials.into_iter().map(|mut s| { s[0] = s[0] & 0x7f | 1; s }).collect();
        let entry = |serial: &Vec<u8>| Revoked {
            serial: serial.clone(),
            at: at("2030-06-01T10:00:00Z"),
            reason: RevocationReason::ALL[reason].0,
        };
        let entries: Vec<Revoked> = serials.iter().map(entry).collect();
        let der = pki.issuing_key.sign(&ca::revocation_list(&list_of(&entries), &pki.issuing).unwrap());
        let (rest, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&der).unwrap();
        prop_assert!(rest.is_empty());
        let found: Vec<Vec<u8>> = list.iter_revoked_certificates().map(|r| r.raw_serial().to_vec()).collect();
        prop_assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), serials);
        prop_assert!(found.is_sorted_by_key(|serial| (serial.len(), serial.clone())));
        let said = list.iter_revoked_certificates().all(|r| {
            r.reason_code().map_or(0, |(_, code)| code.0) == RevocationReason::ALL[reason].2
        });
        prop_assert!(said);
        // What peers load.
        prop_assert!(webpki::OwnedCertRevocationList::from_der(&der).is_ok());
    }
}
