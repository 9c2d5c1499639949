//! pkilint (PyPI) looks at what private CAs of every shape issue, through the rules and the engine that an operator's go
//! through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as B64;
use keyward::codec::ca::{self, ToSign};
use keyward::domain::authority::{Ca, Constraints, NamePattern, Profile, RevocationReason, Wish};
use keyward::domain::certificate::Purposes;
use keyward::domain::id::ProfileId;
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::name::{Name, NameSet};
use keyward::domain::rotation::{Party, Phase, Renewal, Shows};
use keyward::domain::spiffe::{PathPattern, SpiffeId, TrustDomain};
use keyward::domain::time::{DAY, HOUR};
use keyward::engine::authority::Denied;
use keyward::ports::ToBeSigned;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::harness::ca_bytes::{Key, Pki, leaf, list_of};
use crate::harness::rotation::{MemoryShelf, Parties, Realm, Signed, ca_id, mesh, party};

/// Wishes of one generation: with two generations of nine CAs more than a thousand certificates.
const WISHES: usize = 62;
const CAS: usize = 9;

const CA_KEYS: [KeyAlgorithm; 3] = [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519];
static LEAF_KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    [KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048].map(Key::new).into()
});

/// Everything is drawn from here, so that a finding comes again.
struct Chance(TestRunner);

impl Chance {
    fn new() -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        Self(TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng))
    }

    fn draw<T: std::fmt::Debug>(&mut self, from: impl Strategy<Value = T>) -> T {
        from.new_tree(&mut self.0).unwrap().current()
    }
}

/// Where all names lie.
const TREE: &str = "svc.example";

fn profiles() -> impl Strategy<Value = BTreeMap<ProfileId, Profile>> {
    let purposes = prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))];
    let one = (purposes, 1_u64..30 * 24).prop_map(|((server, client), hours)| {
        let names = [&format!("**.{TREE}"), "=*.wild.svc.example", "10.0.0.0/8", "2001:db8::/32"];
        let names = names.map(|pattern| NamePattern::parse(pattern).unwrap()).into();
        let ids = vec![PathPattern::parse("/**").unwrap()];
        let (purposes, lifetime) = (Purposes { server, client }, Duration::from_secs(hours * 3_600));
        Profile { id: ProfileId::parse("p").unwrap(), lifetime, purposes, names, ids }
    });
    vec(one, 1..4).prop_map(|all| {
        let named = all.into_iter().enumerate().map(|(i, profile)| {
            let id = ProfileId::parse(&format!("p{i}")).unwrap();
            (id.clone(), Profile { id, ..profile })
        });
        named.collect()
    })
}

fn constraints() -> impl Strategy<Value = Constraints> {
    let net = |text: &str| {
        let (net, bits) = text.split_once('/').unwrap();
        (net.parse::<IpAddr>().unwrap(), bits.parse::<u8>().unwrap())
    };
    let tree = || Just(vec![Arc::from(TREE)]);
    let none = || Just(Vec::new());
    let excluded = vec("[a-z]{1,12}".prop_map(|label| Arc::from(format!("{label}.db.svc.example"))), 0..3);
    let nets = vec![net("10.0.0.0/8"), net("2001:db8::/32")];
    let holes = vec![net("10.99.0.0/16"), net("2001:db8:ffff::/48")];
    (
        prop_oneof![none(), tree()],
        excluded,
        prop_oneof![Just(vec![]), Just(nets)],
        prop_oneof![Just(vec![]), Just(holes)],
    )
        .prop_map(|(permitted_dns, excluded_dns, permitted_ip, excluded_ip)| Constraints {
            permitted_dns,
            excluded_dns,
            permitted_ip,
            excluded_ip,
        })
}

fn locations(end: &'static str) -> impl Strategy<Value = Vec<Arc<str>>> {
    let one = "https?://pki\\.[a-z]{1,10}\\.example(:8443)?(/[a-z0-9._~-]{1,10}){1,3}";
    vec(one.prop_map(move |url| Arc::from(format!("{url}{end}"))), 0..3)
}

prop_compose! {
    /// As the configuration lets a CA be.
    fn cas(algorithm: KeyAlgorithm)(
        name in "[A-Za-zÄß水][A-Za-z0-9 &'+,\"<>;=#Äßé水-]{0,29}[A-Za-z0-9]",
        organization in proptest::option::of("[A-Za-zÄß][A-Za-z0-9 &.,Äßé-]{0,29}[A-Za-z0-9]"),
        years in 1_u32..40,
        issuing_days in 90_u32..300,
        crl_hours in 2_u32..30 * 24,
        // SPIFFE allows more; a URI in a certificate has a host name (RFC 5280 section 4.2.1.6).
        domain in proptest::option::of("[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{2,9}){1,3}"),
        constraints in constraints(),
        profiles in profiles(),
        crl_urls in locations(".crl"),
        issuer_urls in locations(".cer"),
    ) -> Ca {
        Ca {
            name: Arc::from(name),
            organization: organization.map(Arc::from),
            algorithm,
            // Beyond 2050 dates are written otherwise.
            root_lifetime: DAY * 365 * years,
            issuing_lifetime: DAY * issuing_days,
            trust_domain: domain.and_then(|domain| TrustDomain::parse(&domain)),
            constraints,
            crl_lifetime: HOUR * crl_hours,
            crl_urls,
            issuer_urls,
            profiles,
            ..mesh(DAY)
        }
    }
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        4 => "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{1,20}){0,3}\\.svc\\.example",
        1 => Just("*.wild.svc.example".to_owned()),
        1 => any::<[u8; 3]>().prop_map(|[a, b, c]| format!("10.{a}.{b}.{c}")),
        1 => any::<u64>().prop_map(|low| format!("2001:db8::{:x}:{:x}", low >> 48, low & 0xffff)),
    ]
    .prop_filter_map("a name", |text| Name::parse(&text).ok())
}

fn path() -> impl Strategy<Value = String> {
    "(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}){1,6}"
}

prop_compose! {
    fn wishes(ca: Arc<Ca>)(
        profile in 0..ca.profiles.len(),
        names in vec(name(), 0..6),
        id in proptest::option::of(path()),
        key in 0..LEAF_KEYS.len(),
        shorter in proptest::option::of(1_u32..10),
    ) -> Option<(ProfileId, Wish)> {
        let profile = ca.profiles.values().nth(profile).unwrap();
        let domain = ca.trust_domain.as_ref();
        let spiffe = id.zip(domain).and_then(|(path, domain)| SpiffeId::parse(&format!("{}{path}", domain.uri())));
        // Twice the same name is none that a request has.
        let names = NameSet::new(names.into_iter().filter(|name| ca.constraints.allow(name)).collect::<BTreeSet<_>>());
        let lifetime = shorter.map(|part| profile.lifetime / part);
        let spki = LEAF_KEYS[key].spki.clone();
        (!names.is_empty() || spiffe.is_some()).then(|| (profile.id.clone(), Wish { names, spiffe, spki, lifetime }))
    }
}

/// Has a CA issue and revoke, lets it be rotated with canaries and cross-signatures, and issue and revoke again. Gives all that
/// was signed.
async fn lived(ca: Ca, renewal: Renewal, chance: &mut Chance) -> Vec<Signed> {
    let edge = party("edge");
    let relying = Arc::new(Parties::default());
    relying.lock().insert(edge.clone(), Default::default());
    let realm = Realm::with(ca, relying.clone(), Arc::new(MemoryShelf::default()), |setting| {
        setting.renewal = renewal;
        setting.parties.insert(edge, Party { owner: "edge".into(), shows: Shows::Both });
    })
    .await;
    realm.holder.keep();
    realm.made().await;
    realm.acknowledge(&relying, "edge").await;
    issue(&realm, chance).await;
    realm.pass(HOUR);
    realm.authority.ask_rotation(&ca_id(), "", "a test").await.unwrap();
    realm.authority.round().await;
    if renewal == Renewal::Both {
        realm.authority.cross_sign(&ca_id(), 2, 1, "a test").await.unwrap();
    }
    realm.acknowledge(&relying, "edge").await;
    realm.authority.round().await;
    assert_eq!(realm.phase(2), Phase::Signing);
    issue(&realm, chance).await;
    // The old one goes: a root that stays lists it.
    realm.pass(realm.ca.profiles.values().map(|p| p.lifetime).max().unwrap() * 2 + HOUR);
    realm.authority.round().await;
    assert_eq!(realm.phase(1), Phase::Retired);
    realm.holder.kept()
}

async fn issue(realm: &Realm, chance: &mut Chance) {
    let mut given = Vec::new();
    while given.len() < WISHES {
        let Some((profile, wish)) = chance.draw(wishes(realm.ca.clone())) else { continue };
        let issued = realm.authority.issue(&ca_id(), &profile, &wish, "a test").await;
        given.push(issued.unwrap_or_else(|e: Denied| panic!("{wish:?}: {e}")).serial);
    }
    let some = chance.draw(btree_set(0..given.len(), 3..8));
    for (at, (reason, ..)) in some.into_iter().zip(RevocationReason::ALL) {
        // The keys are used again, and one that is compromised would be blocked.
        if reason != RevocationReason::KeyCompromise {
            realm.authority.revoke(&given[at], reason, "a test").await.unwrap();
        }
    }
}

/// The Python with pkilint.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("tools/pkilint/bin/python");
    assert!(python.exists(), "{} is missing; run tests/run, which installs it", python.display());
    python
}

/// What it finds: severity, code, text, and about which; and the counts of what it looked at.
fn looked(all: &[Signed]) -> (Vec<(String, String, usize)>, Value) {
    let mut child = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ca_bytes/look.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = String::new();
    for (kind, der) in all {
        let kind = if *kind == ToBeSigned::RevocationList { "list" } else { "certificate" };
        lines += &format!("{kind} {}\n", B64.encode(der));
    }
    // It reads all before it writes anything.
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "pkilint broke off");
    let mut found: Vec<Value> =
        String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts = found.pop().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = found.iter().map(|f| {
        let what = format!("{} {}", text(&f["code"]), text(&f["text"])).trim().to_owned();
        (text(&f["severity"]), what, f["line"].as_u64().unwrap().try_into().unwrap())
    });
    (findings.collect(), counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn pkilint_finds_nothing_in_a_thousand_certificates_of_random_profiles() {
    let mut chance = Chance::new();
    let mut all = Vec::new();
    for i in 0..CAS {
        let ca = chance.draw(cas(CA_KEYS[i % CA_KEYS.len()]));
        let renewal = if i % 4 == 3 { Renewal::Issuing } else { Renewal::Both };
        all.extend(lived(ca, renewal, &mut chance).await);
    }
    let count = |kind| all.iter().filter(|(k, _)| *k == kind).count();
    let (leaves, cas, lists) = (count(ToBeSigned::Leaf), count(ToBeSigned::Ca), count(ToBeSigned::RevocationList));
    assert!(leaves + cas >= 1_000 && cas >= CAS * 4 && lists >= 100, "{leaves} leaves, {cas} CAs, {lists} lists");
    let (findings, counts) = looked(&all);
    println!("{leaves} leaves, {cas} certificates of CAs, {lists} lists: {counts}");
    assert_eq!(counts["certificates"], leaves + cas);
    assert_eq!((&counts["pairs"], &counts["lists"]), (&counts["certificates"], &Value::from(lists)));
    let mut worth: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (severity, what, line) in findings.into_iter().filter(|(severity, ..)| severity != "INFO") {
        let kind = format!("{severity} {:?} {what}", all[line].0);
        // One of them is shown.
        worth.entry(kind).or_insert_with(|| (0, B64.encode(&all[line].1))).0 += 1;
    }
    assert!(worth.is_empty(), "{worth:#?}");
}

#[test]
fn pkilint_finds_what_is_wrong() {
    let pki = Pki::new(KeyAlgorithm::P256);
    let good = pki.to_sign(&leaf(&LEAF_KEYS[0].spki));
    // Each with a part changed to another of the same length, and signed so.
    let bent = |to_sign: &ToSign, from: &[u8], to: &[u8]| {
        let at = to_sign.bytes.windows(from.len()).position(|w| w == from).unwrap();
        let mut bytes = to_sign.bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        pki.issuing_key.sign(&ToSign { bytes, algorithm: to_sign.algorithm })
    };
    let list = ca::revocation_list(&list_of(&[]), &pki.issuing).unwrap();
    let mut forged = pki.issuing_key.sign(&good);
    *forged.last_mut().unwrap() ^= 1;
    let all = [
        (ToBeSigned::Ca, pki.root.der().to_vec()),
        (ToBeSigned::Ca, pki.issuing.der().to_vec()),
        (ToBeSigned::Leaf, bent(&good, b"web.svc.example", b"web svc.example")),
        // Version 2; no extension by the number of one.
        (ToBeSigned::Leaf, bent(&good, b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01")),
        (ToBeSigned::Leaf, bent(&good, b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x63")),
        (ToBeSigned::Leaf, forged),
        (ToBeSigned::RevocationList, bent(&list, b"\x06\x03\x55\x1d\x14", b"\x06\x03\x55\x1d\x63")),
    ];
    let (findings, _) = looked(&all);
    let errors = findings.iter().filter(|(severity, ..)| severity == "ERROR" || severity == "FATAL");
    let about: BTreeSet<usize> = errors.map(|(.., line)| *line).collect();
    assert_eq!(about, (2..all.len()).collect(), "{findings:#?}");
}
