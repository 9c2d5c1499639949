//! Bundles are the same wherever they are made, and never empty.

use keyward::codec::ca::{Bundle, MOST_ANCHORS};
use keyward::domain::key::{Digest, KeyAlgorithm};

use crate::harness::ca_bytes::{Key, Pki, leaf};

#[test]
fn a_bundle_does_not_depend_on_order_and_survives_its_text() {
    let roots: Vec<Vec<u8>> = (0..4).map(|_| Pki::new(KeyAlgorithm::P256).root.der().to_vec()).collect();
    let bundle = Bundle::new(&roots).unwrap();
    let turned: Vec<&Vec<u8>> = roots.iter().rev().chain(&roots).collect();
    assert_eq!(Bundle::new(&turned).unwrap(), bundle);
    assert_eq!(Bundle::new(&turned).unwrap().pem(), bundle.pem());
    assert_eq!(Bundle::parse(bundle.pem().as_bytes()).unwrap(), bundle);
    let mut prints: Vec<[u8; 32]> = roots.iter().map(|der| Digest::of(der).0).collect();
    prints.sort_unstable();
    assert_eq!(bundle.digest(), Digest::of(&prints.concat()));
    assert_ne!(Bundle::new(&roots[..3]).unwrap().digest(), bundle.digest());
}

#[test]
fn an_empty_bundle_is_refused_and_so_is_one_with_a_leaf_or_a_torn_one() {
    let pki = Pki::new(KeyAlgorithm::P256);
    assert!(Bundle::new::<&[u8]>(&[]).unwrap_err().0.contains("distrust"));
    assert!(Bundle::parse(b"").is_err() && Bundle::parse(b"# nothing\n").is_err());
    let leaf = pki.issue(&leaf(&Key::new(KeyAlgorithm::P256).spki));
    assert!(Bundle::new(&[pki.root.der(), &leaf]).unwrap_err().0.contains("may not issue"));
    let text = Bundle::new(&[pki.root.der()]).unwrap().pem();
    assert!(Bundle::parse(&text.as_bytes()[..text.len() - 10]).unwrap_err().0.contains("torn"));
    let many = vec![pki.root.der(); MOST_ANCHORS + 1];
    assert!(Bundle::new(&many).is_err());
}
