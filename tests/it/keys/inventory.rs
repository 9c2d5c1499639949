//! Weak keys, and keys that several have.

use std::fs;

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use x509_parser::num_bigint::BigUint;

use super::harness::{Kit, codes, pem};

fn primes(most: u32) -> impl Iterator<Item = u32> {
    (2..=most).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0))
}

fn random(bits: u64, seed: u8) -> BigUint {
    let bytes: Vec<u8> = (0..bits / 8)
        .map(|n| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[seed, n as u8]).as_ref()[0])
        .collect();
    let mut number = BigUint::from_bytes_be(&bytes);
    number.set_bit(bits - 1, true);
    number.set_bit(bits - 2, true);
    number.set_bit(0, true);
    number
}

/// The next number that no small prime divides: all that the checks can tell of a prime.
fn no_small_factor(mut number: BigUint) -> BigUint {
    while primes(752).any(|p| (&number % p).bits() == 0) {
        number += 2_u32;
    }
    number
}

/// N = k·M + (65537^a mod M), as the chips made them.
fn roca() -> BigUint {
    let product: BigUint = primes(167).map(BigUint::from).product();
    let power = BigUint::from(65_537_u32).modpow(&BigUint::from(123_456_789_u32), &product);
    let mut modulus = random(2_048, 7) / &product * &product + power;
    while primes(752).any(|p| (&modulus % p).bits() == 0) {
        modulus += &product;
    }
    modulus
}

fn fermat() -> BigUint {
    let p = no_small_factor(random(1_024, 11));
    let q = no_small_factor(&p + 2_u32);
    p * q
}

/// An RSA public key without any private half.
struct Weak(Vec<u8>);

impl Weak {
    fn of(modulus: &BigUint) -> Self {
        let mut bytes = modulus.to_bytes_be();
        if bytes[0] & 0x80 != 0 {
            bytes.insert(0, 0);
        }
        let mut inner = vec![0x02, 0x82, (bytes.len() >> 8) as u8, bytes.len() as u8];
        inner.extend(&bytes);
        inner.extend([0x02, 0x03, 1, 0, 1]);
        let mut der = vec![0x30, 0x82, (inner.len() >> 8) as u8, inner.len() as u8];
        der.extend(inner);
        Self(der)
    }
}

impl PublicKeyData for Weak {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

fn public_pem(key: &impl PublicKeyData) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(key.subject_public_key_info());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

fn leaf(kit: &Kit, name: &str, key: &impl PublicKeyData) -> String {
    let mut params = crate::harness::pki::leaf_params(&[name]);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    pem(&kit.ca.sign(&params, key))
}

#[test]
fn roca_and_fermat_keys_are_found_in_certificates_and_among_tracked_keys() {
    let kit = Kit::prepare(
        "[[observe]]\nid = \"roca\"\nfile = \"@/roca.pem\"\n[[observe]]\nid = \"fermat\"\nfile = \"@/fermat.pem\"\n\
         [[key]]\nid = \"signing\"\nclass = \"private-signature\"\nfile = \"@/roca.pub\"\nholds = \"public\"\nevery = \"1s\"\n",
    );
    let (roca, fermat) = (Weak::of(&roca()), Weak::of(&fermat()));
    fs::write(kit.at("roca.pem"), leaf(&kit, "roca.example", &roca)).unwrap();
    fs::write(kit.at("fermat.pem"), leaf(&kit, "fermat.example", &fermat)).unwrap();
    fs::write(kit.at("roca.pub"), public_pem(&roca)).unwrap();
    let mut kit = kit;
    kit.run_daemon();
    for (id, word) in [("roca", "ROCA"), ("fermat", "Fermat")] {
        kit.wait(&format!("the weakness of {id}"), |kit| {
            let view = kit.json(&["cert", "show", id])?;
            let all = view["findings"].as_array()?.clone();
            all.iter().find(|f| f["code"] == "KW4895" && f["text"].as_str().unwrap().contains(word)).map(|_| ())
        });
    }
    let view = kit
        .wait("the tracked key", |kit| Some(kit.show("signing")).filter(|v| codes(v).contains(&"KW4896".to_owned())));
    assert!(codes(&view).contains(&"KW4895".to_owned()), "{view}");
    assert!(view.to_string().contains("certificate roca"), "who shares it is named: {view}");
    assert!(kit.run(&["key", "list"]).1.contains("KW4895"));
}

#[test]
fn one_key_in_two_certificates_and_in_an_ssh_line_is_one_key() {
    let kit = Kit::prepare(
        "[[observe]]\nid = \"one\"\nfile = \"@/one.pem\"\nowner = \"a\"\nlabels = { env = \"prod\" }\n\
         [[observe]]\nid = \"two\"\nfile = \"@/two.pem\"\nowner = \"b\"\nlabels = { env = \"test\" }\n\
         [[key]]\nid = \"ssh\"\nclass = \"private-signature\"\nfile = \"@/ssh.pub\"\nholds = \"public\"\nevery = \"1s\"\n\
         paths = [\"approve\"]\n\
         [[key]]\nid = \"secret\"\nclass = \"authorization\"\nfile = \"@/one.secret\"\nevery = \"1s\"\n\
         [[key]]\nid = \"copy\"\nclass = \"authorization\"\nfile = \"@/two.secret\"\nevery = \"1s\"\n",
    );
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    fs::write(kit.at("one.pem"), leaf(&kit, "one.example", &key)).unwrap();
    fs::write(kit.at("two.pem"), leaf(&kit, "two.example", &key)).unwrap();
    let raw = key.public_key_raw();
    let mut blob = Vec::new();
    for part in [&b"ssh-ed25519"[..], raw] {
        blob.extend((part.len() as u32).to_be_bytes());
        blob.extend(part);
    }
    use base64::Engine as _;
    let line = base64::engine::general_purpose::STANDARD.encode(blob);
    fs::write(kit.at("ssh.pub"), format!("ssh-ed25519 {line} ca@example\n")).unwrap();
    kit.write("one.secret", "shared\n");
    kit.write("two.secret", "shared");
    let mut kit = kit;
    kit.run_daemon();
    let text = kit.wait("the reuse", |kit| {
        let view = kit.json(&["cert", "show", "one"])?;
        let all = view["findings"].as_array()?.clone();
        let text = all.iter().find(|f| f["code"] == "KW4896")?["text"].as_str()?.to_owned();
        text.contains("certificate two").then_some(text).filter(|t| t.contains("key ssh"))
    });
    assert!(text.contains("environments prod and test") && text.contains("owners a and b"), "{text}");
    kit.wait("the shared secret", |kit| codes(&kit.show("copy")).contains(&"KW4896".to_owned()).then_some(()));
    kit.wait_for(&[]);
    // Reported as a tracked key, it closes wherever it is.
    let said = kit.ok(&["key", "compromised", "ssh", "--reason", "laptop stolen"]);
    assert!(said.contains("certificate one stands on it") && said.contains("certificate two"), "{said}");
    assert_eq!(kit.reasons(), ["KW4882"]);
    kit.wait("the other users are told", |kit| {
        let view = kit.json(&["cert", "show", "two"])?;
        view["findings"].as_array()?.iter().any(|f| f["code"] == "KW4897").then_some(())
    });
}
