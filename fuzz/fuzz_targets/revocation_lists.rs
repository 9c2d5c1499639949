//! Revocation lists of anybody: nothing panics, what counts says the same each time it is asked, and a list may follow
//! itself.
#![no_main]

use std::sync::LazyLock;

use keyward::codec::crl::{self, Issue, RevocationList};
use keyward::codec::peer_crl;
use keyward::codec::verify::{self, Roots};
use keyward::domain::certificate::Chain;
use libfuzzer_sys::fuzz_target;

const ROOT: &[u8] = include_bytes!("../seeds/revocation_lists/root.der");
const INTERMEDIATE: &[u8] = include_bytes!("../seeds/revocation_lists/intermediate.der");
const LEAF: &[u8] = include_bytes!("../seeds/revocation_lists/leaf.der");
static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let roots = Roots::from_bundle(ROOT).expect("the root parses");
    verify::chain(&[LEAF, INTERMEDIATE], &roots).expect("the chain parses")
});

fuzz_target!(|bytes: &[u8]| {
    let issue = Issue::read(bytes);
    if let Ok(own) = &issue {
        assert_eq!(own.may_follow(own), Ok(()));
    }
    // Every entry is read here, whoever signed it.
    let entries = peer_crl::lists_from(bytes);
    assert!(entries.is_err() || !bytes.is_empty(), "nothing is no list");
    if let Ok(facts) = crl::facts(bytes, &CHAIN) {
        assert!(!facts.covers.is_empty() && facts.revokes.is_subset(&facts.covers));
        let list = RevocationList::of(bytes, crl::LARGEST_FETCHED, &[&CHAIN]).expect("it was read before");
        assert_eq!(list.about(&CHAIN), Ok(facts));
    }
});
