//! Certificates of anybody: facts are bounded, and nothing but what the fixed root signed is ever trusted.
#![no_main]

use std::sync::LazyLock;

use keyward::codec::verify::{self, Roots};
use keyward::codec::x509::{self, Limits};
use keyward::domain::certificate::Trust;
use keyward::domain::name::Name;
use libfuzzer_sys::fuzz_target;

const ROOT: &[u8] = include_bytes!("../seeds/certificates/root.der");
const INTERMEDIATE: &[u8] = include_bytes!("../seeds/certificates/intermediate.der");
static ROOTS: LazyLock<Roots> = LazyLock::new(|| Roots::from_bundle(ROOT).expect("the root parses"));

fuzz_target!(|bytes: &[u8]| {
    let facts = x509::facts(bytes);
    let others = x509::other_names(bytes);
    let serving = x509::may_serve(bytes);
    assert!(facts.is_ok() || (others.is_err() && serving.is_err()), "what has no facts has nothing");
    if let Ok(facts) = &facts {
        assert!(facts.names.len() <= x509::MOST_NAMES && facts.serial.len() <= 2 * 64);
        assert!(facts.names.iter().all(|n| Name::parse(&n.to_string()).as_ref() == Ok(n)));
        assert!(!facts.subject.chars().chain(facts.issuer.chars()).any(char::is_control));
    }
    let Ok(ders) = x509::certificates_from(bytes, &Limits::CHAIN) else { return };
    let alone: Vec<&[u8]> = ders.iter().map(AsRef::as_ref).collect();
    let with_intermediate: Vec<&[u8]> = alone.iter().copied().chain([INTERMEDIATE]).collect();
    for chain in [alone, with_intermediate] {
        let Ok(found) = verify::chain(&chain, &ROOTS) else { continue };
        assert!(found.above.len() < 64);
        if found.trust == Trust::Anchored {
            let top = found.above.last().unwrap_or(&found.leaf);
            assert_eq!(top.fingerprint, x509::facts(ROOT).expect("the root parses").fingerprint);
        }
    }
    if let Ok(served) = verify::to_serve(&ders) {
        assert!(served.len() <= ders.len() && served.first() == ders.first());
    }
});
